#include "cli/logits_file.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

#define MAGIC "_logits_"
#define MAGIC_SIZE 8u
#define HEADER_SIZE (MAGIC_SIZE + 12u)
#define CHUNK_TOKENS_MAX (1u << 24)

/* A saved logit has 16 bits for this many units below the highest one. */
#define LOGIT_SPAN 16.0f
#define LEVEL_MAX 65535.0f

static uint32_t get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static float get_f32(const unsigned char *at)
{
    uint32_t bits = get_u32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void put_f32(unsigned char *at, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_u32(at, bits);
}

static size_t row_size(uint32_t vocabulary)
{
    return 8 + 2 * ((size_t)vocabulary + vocabulary % 2);
}

/* ---- reading ---- */

static const unsigned char *bytes_at(const struct logits_file *file, size_t offset)
{
    return (const unsigned char *)file->mapping.data + offset;
}

/* Whether the file is as large as its header makes it. */
static bool size_matches(const struct logits_file *file)
{
    size_t tokens, rows, size;
    return checked_mul_size(file->chunks, file->chunk_tokens, &tokens) &&
           checked_mul_size(tokens, 4, &tokens) &&
           checked_mul_size(file->chunks, scored_rows(file->chunk_tokens), &rows) &&
           checked_mul_size(rows, row_size(file->vocabulary), &rows) &&
           checked_add_size(tokens, rows, &size) && checked_add_size(size, HEADER_SIZE, &size) &&
           size == file->mapping.size;
}

static int check_file(struct logits_file *file, uint32_t vocabulary, struct hearth_error *err)
{
    if (file->mapping.size < HEADER_SIZE || memcmp(bytes_at(file, 0), MAGIC, MAGIC_SIZE) != 0)
        return error_set(err, HEARTH_E_FORMAT, "this is no file of logits");
    file->chunk_tokens = get_u32(bytes_at(file, 8));
    file->vocabulary = get_u32(bytes_at(file, 12));
    file->chunks = get_u32(bytes_at(file, 16));
    if (file->vocabulary != vocabulary)
        return error_set(err, HEARTH_E_FORMAT,
                         "the file of logits is of a vocabulary of %u tokens, the model has %u",
                         file->vocabulary, vocabulary);
    if (file->chunk_tokens < 4 || file->chunk_tokens > CHUNK_TOKENS_MAX || file->chunks == 0)
        return error_set(err, HEARTH_E_FORMAT, "the file of logits has %u chunks of %u tokens",
                         file->chunks, file->chunk_tokens);
    if (!size_matches(file))
        return error_set(err, HEARTH_E_FORMAT,
                         "the file of logits is not as large as its header says: it is cut, or "
                         "something else");
    size_t count = (size_t)file->chunks * file->chunk_tokens;
    for (size_t i = 0; i < count; i++) {
        if (logits_file_token(file, i) >= vocabulary)
            return error_set(err, HEARTH_E_FORMAT,
                             "the file of logits has token %u, outside the vocabulary of %u",
                             logits_file_token(file, i), vocabulary);
    }
    return 0;
}

int logits_file_open(struct logits_file *file, const char *path, uint32_t vocabulary,
                     struct hearth_error *err)
{
    struct logits_file opened = {0};
    int status = os_map_path(path, &opened.mapping, err);
    if (!status)
        status = check_file(&opened, vocabulary, err);
    if (status) {
        logits_file_close(&opened);
        return error_prefix(err, status, "%s", path);
    }
    *file = opened;
    return 0;
}

void logits_file_close(struct logits_file *file)
{
    if (file->mapping.data)
        os_unmap(file->mapping);
    *file = (struct logits_file){0};
}

uint32_t logits_file_token(const struct logits_file *file, size_t index)
{
    return get_u32(bytes_at(file, HEADER_SIZE + 4 * index));
}

struct base_row logits_file_row(const struct logits_file *file, uint32_t chunk, uint32_t row)
{
    size_t tokens = (size_t)file->chunks * file->chunk_tokens;
    size_t index = (size_t)chunk * scored_rows(file->chunk_tokens) + row;
    const unsigned char *at =
        bytes_at(file, HEADER_SIZE + 4 * tokens + index * row_size(file->vocabulary));
    return (struct base_row){get_f32(at), get_f32(at + 4), at + 8};
}

/* ---- writing ---- */

static int write_error(const struct logits_writer *writer, struct hearth_error *err)
{
    return error_set(err, HEARTH_E_IO, "%s cannot be written: %s", writer->path, strerror(errno));
}

static bool write_tokens(FILE *out, const uint32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char bytes[4];
        put_u32(bytes, tokens[i]);
        if (fwrite(bytes, 1, sizeof bytes, out) != sizeof bytes)
            return false;
    }
    return true;
}

int logits_writer_open(struct logits_writer *writer, const char *path,
                       const struct logits_file *header, const uint32_t *tokens,
                       struct hearth_error *err)
{
    unsigned char head[HEADER_SIZE] = MAGIC;
    put_u32(head + 8, header->chunk_tokens);
    put_u32(head + 12, header->vocabulary);
    put_u32(head + 16, header->chunks);
    *writer = (struct logits_writer){.path = path, .row_size = row_size(header->vocabulary)};
    writer->row = mem_zalloc_array(writer->row_size, 1);
    if (!writer->row)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a row of logits");
    writer->file = fopen(path, "wb");
    size_t count = (size_t)header->chunks * header->chunk_tokens;
    if (!writer->file || fwrite(head, 1, sizeof head, writer->file) != sizeof head ||
        !write_tokens(writer->file, tokens, count)) {
        int status = write_error(writer, err);
        logits_writer_close(writer, NULL);
        return status;
    }
    return 0;
}

/* The arithmetic is float where the peer's is, so that both write the same bits. */
int logits_writer_add(struct logits_writer *writer, const struct row_score *row,
                      struct hearth_error *err)
{
    float lowest = row->logits[0];
    for (uint32_t i = 1; i < row->vocabulary; i++)
        lowest = row->logits[i] < lowest ? row->logits[i] : lowest;
    lowest = lowest > row->highest - LOGIT_SPAN ? lowest : row->highest - LOGIT_SPAN;
    float scale = (row->highest - lowest) / LEVEL_MAX;
    float levels_per_unit = scale > 0 ? 1.0f / scale : 0.0f;
    put_f32(writer->row, scale);
    put_f32(writer->row + 4, lowest - row->highest - (float)row->log_sum_exp);
    for (uint32_t i = 0; i < row->vocabulary; i++) {
        float above = row->logits[i] - lowest;
        float level = above > 0 ? levels_per_unit * above : 0.0f;
        unsigned rounded = (unsigned)lrintf(level < LEVEL_MAX ? level : LEVEL_MAX);
        writer->row[8 + 2 * (size_t)i] = (unsigned char)rounded;
        writer->row[9 + 2 * (size_t)i] = (unsigned char)(rounded >> 8);
    }
    if (fwrite(writer->row, 1, writer->row_size, writer->file) != writer->row_size)
        return write_error(writer, err);
    return 0;
}

int logits_writer_close(struct logits_writer *writer, struct hearth_error *err)
{
    int status = 0;
    if (writer->file && fclose(writer->file) != 0)
        status = write_error(writer, err);
    mem_free(writer->row);
    writer->file = NULL;
    writer->row = NULL;
    return status;
}
