#include "session/spill.h"

#include <string.h>

#include "base/os.h"

struct stream {
    int fd;
    uint64_t at;
    struct sum *sum;
    int status; /* of the file */
};

/* ---- writing ---- */

static bool write_part(void *context, const void *data, size_t size)
{
    struct stream *stream = context;
    sum_add(stream->sum, data, size);
    stream->at += size;
    stream->status = os_file_write(stream->fd, data, size, NULL);
    return stream->status == 0;
}

static int write_all(const struct hearth_sequence *sequence, int fd, struct store_spill *spill)
{
    struct stream stream = {.fd = fd, .sum = sum_create()};
    if (!stream.sum)
        return HEARTH_E_MEMORY;
    int status = hearth_sequence_save(sequence, write_part, &stream, NULL);
    if (!status) {
        spill->tokens = hearth_sequence_length(sequence);
        spill->bytes = stream.at;
        sum_get(stream.sum, spill->sum);
    }
    sum_destroy(stream.sum);
    return status;
}

static int write_file(const struct hearth_sequence *sequence, struct hearth_store *store, int *fd,
                      struct store_spill *spill)
{
    int file;
    int status =
        store->calls->spill_create(store, hearth_sequence_save_bytes(sequence), &file, NULL);
    if (status)
        return status;
    status = write_all(sequence, file, spill);
    if (status)
        os_file_close(file);
    else
        *fd = file;
    return status;
}

int spill_write(const struct spiller *spiller, const uint32_t *ids, size_t count, size_t least,
                int *fd, struct store_spill *spill)
{
    struct hearth_sequence *sequence;
    struct store_spill written = {0};
    size_t held = 0;
    int status = hearth_sequence_open(spiller->engine, 0, &sequence, NULL);
    if (status)
        return status;
    memcpy(written.identity, spiller->identity, sizeof written.identity);
    status = hearth_sequence_reuse(sequence, ids, count, &held, NULL);
    if (!status && held < least)
        status = HEARTH_E_MISSING;
    if (!status)
        status = write_file(sequence, spiller->store, fd, &written);
    hearth_sequence_close(sequence);
    if (!status)
        *spill = written;
    return status;
}

/* ---- reading ---- */

static bool read_part(void *context, void *data, size_t size)
{
    struct stream *stream = context;
    stream->status = os_file_read_at(stream->fd, data, size, stream->at, NULL);
    if (stream->status)
        return false;
    sum_add(stream->sum, data, size);
    stream->at += size;
    return true;
}

/* HEARTH_E_FORMAT for all that the file is to blame for. */
static int read_all(struct hearth_sequence *sequence, int fd, const struct store_spill *spill)
{
    struct stream stream = {.fd = fd, .sum = sum_create()};
    unsigned char sum[SUM_BYTES];
    if (!stream.sum)
        return HEARTH_E_MEMORY;
    int status = hearth_sequence_load(sequence, read_part, &stream, NULL);
    sum_get(stream.sum, sum);
    sum_destroy(stream.sum);
    if (stream.status)
        return HEARTH_E_FORMAT;
    if (!status && (stream.at != spill->bytes || memcmp(sum, spill->sum, SUM_BYTES) != 0 ||
                    hearth_sequence_length(sequence) != spill->tokens))
        status = HEARTH_E_FORMAT;
    return status;
}

int spill_read(const struct spiller *spiller, int fd, const struct store_spill *spill)
{
    struct hearth_sequence *sequence;
    uint64_t size;
    if (memcmp(spiller->identity, spill->identity, sizeof spill->identity) != 0)
        return HEARTH_E_UNSUPPORTED;
    if (os_file_size(fd, &size, NULL) || size != spill->bytes)
        return HEARTH_E_FORMAT;
    int status = hearth_sequence_open(spiller->engine, 0, &sequence, NULL);
    if (status)
        return status;
    status = read_all(sequence, fd, spill);
    if (status == HEARTH_E_LIMIT && hearth_engine_kv_lacking(spiller->engine, spill->tokens) == 0)
        status = HEARTH_E_FORMAT;
    if (!status)
        hearth_sequence_remember(sequence);
    hearth_sequence_close(sequence);
    return status;
}
