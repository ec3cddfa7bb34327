/* What sequences share and keep: the prefix cache, forks, and sequences as bytes. */

#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "infer/engine.h"
#include "kv/image.h"

/* ---- the prefix cache ---- */

void hearth_sequence_remember(struct hearth_sequence *sequence)
{
    if (sequence->length > 0)
        kv_prefix_insert(sequence->engine->prefix, sequence->held, sequence->length,
                         &sequence->table);
}

static uint32_t id_count(size_t count)
{
    return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

uint64_t hearth_engine_forget(struct hearth_engine *engine, const uint32_t *ids, size_t kept,
                              size_t count)
{
    uint32_t most = id_count(count);
    return kv_prefix_forget(engine->prefix, ids, kept < most ? (uint32_t)kept : most, most);
}

size_t hearth_engine_known(const struct hearth_engine *engine, const uint32_t *ids, size_t count,
                           uint64_t *bytes)
{
    return kv_prefix_known(engine->prefix, ids, id_count(count), bytes);
}

/* New blocks for what a sequence has queued, one of them in the place of a shared one. */
static uint64_t wanted_bytes(const struct hearth_engine *engine,
                             const struct hearth_sequence *sequence)
{
    size_t pending = hearth_sequence_pending(sequence);
    uint64_t tokens = pending < engine->chunk_tokens ? pending : engine->chunk_tokens;
    if (tokens == 0)
        return 0;
    uint64_t in_last = sequence->length % KV_BLOCK_TOKENS;
    return kv_pool_bytes_for(engine->kv, in_last + tokens, engine->chunk_tokens);
}

uint64_t hearth_engine_kv_lacking(const struct hearth_engine *engine, uint64_t tokens)
{
    uint64_t room = kv_pool_room(engine->kv), wanted = kv_pool_bytes_for(engine->kv, tokens, 0);
    const struct hearth_sequence *sequence = engine->sequences;
    if (room == UINT64_MAX)
        return 0;
    for (size_t i = 0; i < engine->sequence_count; i++, sequence = sequence->next)
        wanted += wanted_bytes(engine, sequence);
    return wanted > room ? wanted - room : 0;
}

uint64_t hearth_engine_trim(struct hearth_engine *engine, uint64_t bytes)
{
    return kv_prefix_evict(engine->prefix, bytes);
}

void hearth_engine_rest(struct hearth_engine *engine)
{
    struct hearth_sequence *sequence = engine->sequences;
    for (size_t i = 0; i < engine->sequence_count; i++, sequence = sequence->next)
        sequence_drop_rows(sequence);
    forward_release(engine->forward);
    os_heap_trim();
}

/* How many tokens of `ids` the sequence holds and could go on from. */
static uint32_t held_beginning(const struct hearth_sequence *sequence, const uint32_t *ids,
                               uint32_t count)
{
    uint32_t n = 0;
    while (n < count && n < sequence->length && sequence->held[n] == ids[n])
        n++;
    return kv_table_covers(&sequence->table, n) ? n : 0;
}

/* Puts another table and its ids in the place of a sequence's. */
static void replace_table(struct hearth_sequence *sequence, struct kv_table *table,
                          const uint32_t *ids)
{
    kv_table_finish(&sequence->table);
    sequence->table = *table;
    sequence->length = table->tokens;
    memcpy(sequence->held, ids, sequence->length * sizeof *ids);
}

int hearth_sequence_reuse(struct hearth_sequence *sequence, const uint32_t *ids, size_t count,
                          size_t *reused, struct hearth_error *err)
{
    if (count > sequence->context_max)
        return error_set(err, HEARTH_E_LIMIT, "%zu tokens would pass the context of %u", count,
                         sequence->context_max);
    if (!sequence_widen(sequence, count))
        return error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", count);
    struct kv_table table;
    kv_table_init(&table, sequence->engine->kv);
    uint32_t own = held_beginning(sequence, ids, (uint32_t)count);
    uint32_t cached = kv_prefix_match(sequence->engine->prefix, ids, (uint32_t)count, &table);
    hearth_sequence_truncate(sequence, own, NULL);
    if (cached > own)
        replace_table(sequence, &table, ids);
    else
        kv_table_finish(&table);
    if (reused)
        *reused = sequence->length;
    return 0;
}

int hearth_sequence_fork(const struct hearth_sequence *sequence, size_t count,
                         struct hearth_sequence **out, struct hearth_error *err)
{
    struct hearth_sequence *fork;
    if (count > sequence->length)
        return error_set(err, HEARTH_E_ARGUMENT, "a sequence of %u tokens has no first %zu",
                         sequence->length, count);
    if (!kv_table_covers(&sequence->table, (uint32_t)count))
        return error_set(err, HEARTH_E_STATE,
                         "the attention window has moved on, token %zu cannot be gone back to",
                         count);
    int status = hearth_sequence_open(sequence->engine, sequence->context_max, &fork, err);
    if (status)
        return status;
    if (!sequence_widen(fork, count))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", count);
    if (!status)
        status = kv_table_share(&fork->table, &sequence->table, (uint32_t)count, err);
    if (status) {
        hearth_sequence_close(fork);
        return status;
    }
    memcpy(fork->held, sequence->held, count * sizeof *fork->held);
    fork->length = (uint32_t)count;
    *out = fork;
    return 0;
}

const uint32_t *hearth_sequence_ids(const struct hearth_sequence *sequence)
{
    return sequence->held;
}

/* ---- sequences as bytes: the KV image, then the ids ---- */

uint64_t hearth_sequence_save_bytes(const struct hearth_sequence *sequence)
{
    return kv_image_bytes(&sequence->table) + sequence->length * sizeof *sequence->held;
}

int hearth_sequence_save(const struct hearth_sequence *sequence,
                         bool (*write)(void *context, const void *data, size_t size), void *context,
                         struct hearth_error *err)
{
    const struct kv_sink sink = {write, context};
    int status = kv_image_write(&sequence->table, &sink, err);
    if (!status && sequence->length > 0 &&
        !write(context, sequence->held, sequence->length * sizeof *sequence->held))
        status = error_set(err, HEARTH_E_IO, "the ids of a sequence could not be written");
    return status;
}

static int read_ids(const struct hearth_sequence *sequence, const struct kv_source *source,
                    uint32_t *ids, uint32_t count, struct hearth_error *err)
{
    uint32_t vocabulary = sequence->engine->model->shape.vocabulary;
    if (count > 0 && !source->read(source->context, ids, count * sizeof *ids))
        return error_set(err, HEARTH_E_IO, "the ids of a saved sequence could not be read");
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] >= vocabulary)
            return error_set(err, HEARTH_E_FORMAT,
                             "a saved sequence has token %u, the vocabulary has %u", ids[i],
                             vocabulary);
    }
    return 0;
}

int hearth_sequence_load(struct hearth_sequence *sequence,
                         bool (*read)(void *context, void *data, size_t size), void *context,
                         struct hearth_error *err)
{
    const struct kv_source source = {read, context};
    struct kv_table table;
    uint32_t *ids = NULL;
    kv_table_init(&table, sequence->engine->kv);
    int status = kv_image_read(&table, sequence->context_max, &source, err);
    if (!status) {
        ids = mem_alloc_array(table.tokens + (size_t)1, sizeof *ids);
        if (!ids || !sequence_widen(sequence, table.tokens))
            status = error_set(err, HEARTH_E_MEMORY, "no memory for %u tokens", table.tokens);
    }
    if (!status)
        status = read_ids(sequence, &source, ids, table.tokens, err);
    if (!status) {
        hearth_sequence_truncate(sequence, sequence->length, NULL); /* nothing stays queued */
        replace_table(sequence, &table, ids);
    } else {
        kv_table_finish(&table);
    }
    mem_free(ids);
    return status;
}
