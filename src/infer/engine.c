#include "infer/engine.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "infer/budget.h"

#define CHUNK_TOKENS_MAX 8192

/* So many tokens queued are an answer that is being drawn, or at least no long wait for one. */
#define ANSWER_TOKENS 8

/* ---- engine ---- */

static const struct {
    enum kv_type key, value;
} kv_types[] = {
    [HEARTH_KV_F16] = {KV_F16, KV_F16},
    [HEARTH_KV_Q8_0] = {KV_Q8_0, KV_Q8_0},
    [HEARTH_KV_Q4_0] = {KV_Q4_0, KV_Q4_0},
    [HEARTH_KV_Q8_0_Q4_0] = {KV_Q8_0, KV_Q4_0},
};

int engine_kv_pool(const struct model *model, enum hearth_kv_type type, uint64_t bytes_max,
                   struct kv_pool **out, struct hearth_error *err)
{
    if ((size_t)type >= sizeof kv_types / sizeof kv_types[0])
        return error_set(err, HEARTH_E_ARGUMENT, "%d is no KV cache type", (int)type);
    uint32_t count = model->shape.layer_count, windows[KV_GROUPS_MAX], groups = 0;
    struct kv_layer *layers = mem_zalloc_array(count, sizeof *layers);
    if (!layers)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the KV cache");
    for (uint32_t l = 0; l < count; l++) {
        uint32_t g = 0;
        while (g < groups && windows[g] != model->layers[l].window)
            g++;
        assert(g < KV_GROUPS_MAX);
        if (g == groups)
            windows[groups++] = model->layers[l].window;
        layers[l] = (struct kv_layer){.group = g,
                                      .heads = model->shape.layers[l].kv_heads,
                                      .key_size = model->shape.key_size,
                                      .value_size = model->shape.value_size};
    }
    struct kv_pool_options pool = {
        .key_type = kv_types[type].key,
        .value_type = kv_types[type].value,
        .layers = layers,
        .layer_count = count,
        .windows = windows,
        .group_count = groups,
        .bytes_max = bytes_max,
    };
    int status = kv_pool_create(&pool, out, err);
    mem_free(layers);
    return status;
}

static int check_options(const struct hearth_engine_options *options, struct hearth_error *err)
{
    if (options->chunk_tokens > CHUNK_TOKENS_MAX)
        return error_set(err, HEARTH_E_ARGUMENT,
                         "chunk_tokens is %u, at most %u are computed at once",
                         options->chunk_tokens, CHUNK_TOKENS_MAX);
    if (options->fit > HEARTH_FIT_SHRINK)
        return error_set(err, HEARTH_E_ARGUMENT, "fit is %d", (int)options->fit);
    return 0;
}

static struct estimate estimate_of(const struct hearth_engine *engine, unsigned threads)
{
    return (struct estimate){
        .model = engine->model,
        .kv = engine->kv,
        .weights_private = engine->weights_private,
        .threads = threads,
        .chunk_tokens = engine->chunk_tokens,
    };
}

static void keep_to(struct hearth_engine *engine, const struct budget *budget)
{
    uint32_t asked = engine->options.context;
    kv_pool_limit(engine->kv, budget->kv_bytes_max);
    engine->logit_rows_max = budget->logit_rows_max;
    engine->context_max = asked ? asked : engine->model->shape.context_length;
    if (budget->kv_bytes_max)
        engine->context_max = kv_pool_tokens_for(engine->kv, budget->kv_bytes_max,
                                                 engine->chunk_tokens, engine->context_max);
}

/* Makes the KV cache, which takes nothing yet, with the ceiling that the options leave it. */
static int open_cache(struct hearth_engine *engine, unsigned threads, struct hearth_error *err)
{
    int status = engine_kv_pool(engine->model, engine->options.kv_type, 0, &engine->kv, err);
    if (status)
        return status;
    const struct estimate estimate = estimate_of(engine, threads);
    struct budget budget;
    status = budget_make(&estimate, &engine->options, &budget, err);
    if (status)
        return status;
    keep_to(engine, &budget);
    engine->prefix = kv_prefix_create(engine->kv);
    return engine->prefix ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for the prefix cache");
}

void hearth_engine_use_memory(struct hearth_engine *engine, uint64_t memory_max)
{
    const struct estimate estimate = estimate_of(engine, pool_threads(engine->pool));
    uint64_t taken = kv_pool_bytes(engine->kv) + forward_bytes(engine->forward);
    struct budget budget;
    engine->options.memory_max = memory_max;
    budget_remake(&estimate, &engine->options, taken, &budget);
    keep_to(engine, &budget);
}

static int open_engine(struct hearth_engine *engine, struct hearth_error *err)
{
    const struct hearth_engine_options *options = &engine->options;
    unsigned threads = options->threads ? options->threads : os_default_threads();
    int status = check_options(options, err);
    if (status)
        return status;
    status = kernels_select(getenv("HEARTH_CPU"), &engine->kernels, err);
    if (status)
        return status;
    status = open_cache(engine, threads, err);
    if (status)
        return status;
    engine->pool = pool_create(threads);
    if (!engine->pool)
        return error_set(err, HEARTH_E_MEMORY, "cannot start %u threads", threads);
    struct forward_options forward = {
        .model = engine->model,
        .kernels = &engine->kernels,
        .pool = engine->pool,
        .kv = engine->kv,
        .rows_max = engine->chunk_tokens,
    };
    return forward_create(&forward, &engine->forward, err);
}

int hearth_engine_open(const struct hearth_model *model,
                       const struct hearth_engine_options *options, struct hearth_engine **out,
                       struct hearth_error *err)
{
    int status = model_check(model->model, err);
    if (status)
        return status;
    struct hearth_engine *engine = MEM_NEW(struct hearth_engine);
    if (!engine)
        return error_set(err, HEARTH_E_MEMORY, "no memory for an engine");
    if (options)
        engine->options = *options;
    engine->model = model->model;
    engine->weights_private = model->copied;
    engine->chunk_tokens =
        engine->options.chunk_tokens ? engine->options.chunk_tokens : CHUNK_TOKENS_DEFAULT;
    status = open_engine(engine, err);
    if (status) {
        hearth_engine_close(engine);
        return status;
    }
    *out = engine;
    return 0;
}

void hearth_engine_close(struct hearth_engine *engine)
{
    if (!engine)
        return;
    assert(!engine->sequences);
    forward_destroy(engine->forward);
    pool_destroy(engine->pool);
    kv_prefix_destroy(engine->prefix);
    kv_pool_destroy(engine->kv);
    mem_free(engine->runs);
    mem_free(engine->run_sequences);
    mem_free(engine);
}

void hearth_engine_memory(const struct hearth_engine *engine, struct hearth_engine_memory *out)
{
    out->kv_bytes = kv_pool_bytes(engine->kv);
    out->cached_bytes = kv_prefix_bytes(engine->prefix);
    out->scratch_bytes = forward_bytes(engine->forward);
}

const char *hearth_engine_tier(const struct hearth_engine *engine)
{
    return engine->kernels.tier;
}

unsigned hearth_engine_threads(const struct hearth_engine *engine)
{
    return pool_threads(engine->pool);
}

void hearth_engine_use_threads(struct hearth_engine *engine, unsigned threads)
{
    pool_use(engine->pool, threads);
}

uint32_t hearth_engine_context(const struct hearth_engine *engine)
{
    return engine->context_max;
}

/* ---- sequences ---- */

/* The context of a sequence that is asked for: all of it must find room in the KV cache. */
static int fit_context(const struct hearth_engine *engine, uint32_t asked, uint32_t *context,
                       struct hearth_error *err)
{
    uint64_t most = kv_pool_bytes_max(engine->kv);
    *context = asked ? asked : engine->context_max;
    uint64_t needed = kv_pool_bytes_for(engine->kv, *context, engine->chunk_tokens);
    if (most == 0 || needed <= most)
        return 0;
    uint32_t fits = kv_pool_tokens_for(engine->kv, most, engine->chunk_tokens, *context);
    if (engine->options.fit == HEARTH_FIT_REFUSE || fits == 0)
        return error_set(err, HEARTH_E_LIMIT,
                         "a context of %u tokens takes %.1f MB of KV cache, there is room for %.1f "
                         "MB: %u tokens",
                         *context, (double)needed / 1e6, (double)most / 1e6, fits);
    *context = fits;
    return 0;
}

/* The step's arrays have room for a run of every sequence. */
static int reserve_runs(struct hearth_engine *engine, struct hearth_error *err)
{
    size_t capacity = engine->run_capacity + engine->run_capacity / 2 + 8;
    if (engine->sequence_count < engine->run_capacity)
        return 0;
    struct run *runs = mem_realloc_array(engine->runs, capacity, sizeof *runs);
    if (runs)
        engine->runs = runs;
    struct hearth_sequence **sequences =
        mem_realloc_array(engine->run_sequences, capacity, sizeof(struct hearth_sequence *));
    if (sequences)
        engine->run_sequences = sequences;
    if (!runs || !sequences)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a sequence");
    engine->run_capacity = capacity;
    return 0;
}

int hearth_sequence_open(struct hearth_engine *engine, uint32_t context_max,
                         struct hearth_sequence **out, struct hearth_error *err)
{
    int status = fit_context(engine, context_max, &context_max, err);
    if (!status)
        status = reserve_runs(engine, err);
    if (status)
        return status;
    struct hearth_sequence *sequence = MEM_NEW(struct hearth_sequence);
    if (!sequence)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a sequence");
    sequence->engine = engine;
    sequence->context_max = context_max;
    atomic_init(&sequence->cancelled, false);
    kv_table_init(&sequence->table, engine->kv);
    if (engine->sequences) {
        sequence->next = engine->sequences;
        sequence->previous = engine->sequences->previous;
        sequence->previous->next = sequence;
        sequence->next->previous = sequence;
    } else {
        sequence->next = sequence->previous = sequence;
        engine->sequences = sequence;
    }
    engine->sequence_count++;
    *out = sequence;
    return 0;
}

void hearth_sequence_close(struct hearth_sequence *sequence)
{
    if (!sequence)
        return;
    struct hearth_engine *engine = sequence->engine;
    if (engine->sequences == sequence)
        engine->sequences = sequence->next == sequence ? NULL : sequence->next;
    sequence->previous->next = sequence->next;
    sequence->next->previous = sequence->previous;
    engine->sequence_count--;
    kv_table_finish(&sequence->table);
    mem_free(sequence->ids);
    mem_free(sequence->wants);
    mem_free(sequence->held);
    mem_free(sequence);
}

bool sequence_widen(struct hearth_sequence *sequence, size_t count)
{
    if (count <= sequence->held_capacity)
        return true;
    size_t capacity = count + count / 2 + 64;
    uint32_t *held = mem_realloc_array(sequence->held, capacity, sizeof *held);
    if (!held)
        return false;
    sequence->held = held;
    sequence->held_capacity = capacity;
    return true;
}

static void drop_queue(struct hearth_sequence *sequence)
{
    sequence->queued = sequence->taken = 0;
}

static int reserve_queue(struct hearth_sequence *sequence, size_t count)
{
    if (sequence->taken == sequence->queued)
        drop_queue(sequence);
    size_t needed = sequence->queued + count;
    if (needed <= sequence->queue_capacity)
        return 0;
    uint32_t *ids = mem_realloc_array(sequence->ids, needed, sizeof *ids);
    if (ids)
        sequence->ids = ids;
    unsigned char *wants = mem_realloc_array(sequence->wants, needed, sizeof *wants);
    if (wants)
        sequence->wants = wants;
    if (!ids || !wants)
        return HEARTH_E_MEMORY;
    sequence->queue_capacity = needed;
    return 0;
}

static enum want want_of(enum hearth_logits logits, bool last)
{
    switch (logits) {
    case HEARTH_LOGITS_ALL:
        return WANT_LOGITS;
    case HEARTH_LOGITS_LAST:
        return last ? WANT_LOGITS : WANT_NOTHING;
    case HEARTH_STATES_ALL:
        return WANT_STATE;
    case HEARTH_STATES_LAST:
        return last ? WANT_STATE : WANT_NOTHING;
    case HEARTH_LOGITS_NONE:
        break;
    }
    return WANT_NOTHING;
}

void sequence_drop_rows(struct hearth_sequence *sequence)
{
    sequence->logit_rows = sequence->state_rows = 0;
}

int hearth_sequence_extend(struct hearth_sequence *sequence, const uint32_t *ids, size_t count,
                           enum hearth_logits logits, struct hearth_error *err)
{
    uint32_t vocabulary = sequence->engine->model->shape.vocabulary;
    size_t held = sequence->length + (sequence->queued - sequence->taken);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] >= vocabulary)
            return error_set(err, HEARTH_E_ARGUMENT, "token %u is outside the vocabulary of %u",
                             ids[i], vocabulary);
    }
    if (count > sequence->context_max - held)
        return error_set(err, HEARTH_E_LIMIT,
                         "%zu more tokens after %zu would pass the context of %u", count, held,
                         sequence->context_max);
    if (reserve_queue(sequence, count))
        return error_set(err, HEARTH_E_MEMORY, "no memory to queue %zu tokens", count);
    for (size_t i = 0; i < count; i++) {
        sequence->ids[sequence->queued] = ids[i];
        sequence->wants[sequence->queued] = (unsigned char)want_of(logits, i + 1 == count);
        sequence->queued++;
    }
    sequence_drop_rows(sequence);
    sequence->failure.code = 0;
    atomic_store(&sequence->cancelled, false);
    return 0;
}

int hearth_sequence_truncate(struct hearth_sequence *sequence, size_t count,
                             struct hearth_error *err)
{
    if (count < sequence->length) {
        if (!kv_table_covers(&sequence->table, (uint32_t)count))
            return error_set(err, HEARTH_E_STATE,
                             "the attention window has moved on, token %zu cannot be gone back to",
                             count);
        sequence->length = (uint32_t)count;
        kv_table_truncate(&sequence->table, sequence->length);
    }
    drop_queue(sequence);
    sequence_drop_rows(sequence);
    return 0;
}

size_t hearth_sequence_length(const struct hearth_sequence *sequence)
{
    return sequence->length;
}

uint32_t hearth_sequence_context(const struct hearth_sequence *sequence)
{
    return sequence->context_max;
}

size_t hearth_sequence_pending(const struct hearth_sequence *sequence)
{
    return sequence->queued - sequence->taken;
}

void hearth_sequence_cancel(struct hearth_sequence *sequence)
{
    atomic_store(&sequence->cancelled, true);
}

int hearth_sequence_status(const struct hearth_sequence *sequence, struct hearth_error *err)
{
    if (err && sequence->failure.code)
        *err = sequence->failure;
    return sequence->failure.code;
}

size_t hearth_sequence_logit_rows(const struct hearth_sequence *sequence)
{
    return sequence->logit_rows;
}

const float *hearth_sequence_logits(const struct hearth_sequence *sequence, size_t row)
{
    assert(row < sequence->logit_rows);
    return forward_logits(sequence->engine->forward, sequence->first_logit_row + row);
}

size_t hearth_sequence_state_rows(const struct hearth_sequence *sequence)
{
    return sequence->state_rows;
}

const float *hearth_sequence_state(const struct hearth_sequence *sequence, size_t row)
{
    assert(row < sequence->state_rows);
    return forward_state(sequence->engine->forward, sequence->first_state_row + row);
}

/* ---- a step ---- */

/* Puts a sequence back to what it held before, without anything queued. */
static void fail_sequence(struct hearth_sequence *sequence, int code, const char *cause)
{
    error_set(&sequence->failure, code, "%s", cause);
    kv_table_truncate(&sequence->table, sequence->length);
    drop_queue(sequence);
    sequence_drop_rows(sequence);
}

/* Takes up to `room` queued tokens of a sequence, with at most `logits` rows of logits. */
static void plan_run(struct hearth_sequence *sequence, size_t room, size_t *logits, struct run *run)
{
    size_t pending = sequence->queued - sequence->taken;
    size_t count = 0, limit = pending < room ? pending : room;
    const unsigned char *wants = sequence->wants + sequence->taken;
    for (; count < limit && (wants[count] != WANT_LOGITS || *logits > 0); count++) {
        *logits -= wants[count] == WANT_LOGITS;
        sequence->logit_rows += wants[count] == WANT_LOGITS;
        sequence->state_rows += wants[count] == WANT_STATE;
    }
    *run = (struct run){
        .ids = sequence->ids + sequence->taken,
        .count = (uint32_t)count,
        .position = sequence->length,
        .wants = wants,
        .table = &sequence->table,
        .cancelled = &sequence->cancelled,
        .left_out = &sequence->left_out,
    };
}

/* Room for a run's tokens; where the KV cache has none left, what only the prefix cache holds gives
 * way. */
static int reserve_run(struct hearth_engine *engine, struct hearth_sequence *sequence,
                       uint32_t tokens, struct hearth_error *err)
{
    if (!sequence_widen(sequence, tokens))
        return error_set(err, HEARTH_E_MEMORY, "no memory for %u tokens", tokens);
    uint64_t wanted = kv_pool_bytes_for(engine->kv, tokens - sequence->length + KV_BLOCK_TOKENS,
                                        engine->chunk_tokens);
    for (;;) {
        int status = kv_table_reserve(&sequence->table, tokens, err);
        if (status != HEARTH_E_LIMIT && status != HEARTH_E_MEMORY)
            return status;
        if (kv_prefix_evict(engine->prefix, wanted) == 0)
            return status;
    }
}

/* One sequence's part of the step: reserves its blocks, or marks it as failed. */
static void add_run(struct hearth_engine *engine, struct hearth_sequence *sequence,
                    struct batch *batch, size_t *logits)
{
    struct hearth_error cause = {0};
    struct run *run = &engine->runs[batch->run_count];
    sequence->failure.code = 0;
    sequence->left_out = false;
    if (atomic_load(&sequence->cancelled)) {
        fail_sequence(sequence, HEARTH_E_CANCELLED, "cancelled");
        return;
    }
    plan_run(sequence, engine->chunk_tokens - batch->rows, logits, run);
    if (run->count == 0)
        return;
    /* Not when a run ends: until then what it computed may be dropped again. */
    kv_table_slide(&sequence->table, run->position);
    int status = reserve_run(engine, sequence, run->position + run->count, &cause);
    if (status) {
        fail_sequence(sequence, status, cause.text);
        return;
    }
    engine->run_sequences[batch->run_count++] = sequence;
    batch->rows += run->count;
}

/* Running answers (a token queued, and guesses behind it) come first, then prompts in turn. */
static void plan_step(struct hearth_engine *engine, struct batch *batch)
{
    size_t logits = engine->logit_rows_max;
    *batch = (struct batch){.runs = engine->runs};
    struct hearth_sequence *sequence = engine->sequences;
    for (size_t i = 0; i < engine->sequence_count; i++, sequence = sequence->next)
        sequence_drop_rows(sequence);
    for (int prompts = 0; prompts < 2; prompts++) {
        sequence = engine->sequences;
        for (size_t i = 0; i < engine->sequence_count; i++, sequence = sequence->next) {
            size_t pending = sequence->queued - sequence->taken;
            if (pending && (pending > ANSWER_TOKENS) == prompts &&
                batch->rows < engine->chunk_tokens)
                add_run(engine, sequence, batch, &logits);
        }
    }
    if (engine->sequences)
        engine->sequences = engine->sequences->next;
}

static void finish_run(struct hearth_sequence *sequence, const struct run *run)
{
    if (sequence->left_out || atomic_load(&sequence->cancelled)) {
        fail_sequence(sequence, HEARTH_E_CANCELLED, "cancelled");
        return;
    }
    memcpy(sequence->held + sequence->length, run->ids, run->count * sizeof *run->ids);
    sequence->length += run->count;
    sequence->taken += run->count;
}

/* What a pass computed is theirs; each knows where its rows are. */
static void finish_runs(struct hearth_engine *engine, const struct batch *batch)
{
    size_t logits = 0, states = 0;
    for (size_t i = 0; i < batch->run_count; i++) {
        struct hearth_sequence *sequence = engine->run_sequences[i];
        sequence->first_logit_row = logits;
        sequence->first_state_row = states;
        logits += sequence->left_out ? 0 : sequence->logit_rows;
        states += sequence->left_out ? 0 : sequence->state_rows;
        finish_run(sequence, &engine->runs[i]);
    }
}

int hearth_engine_step(struct hearth_engine *engine, size_t *tokens, struct hearth_error *err)
{
    struct batch batch;
    plan_step(engine, &batch);
    if (tokens)
        *tokens = 0;
    if (batch.rows == 0)
        return 0;
    struct hearth_error cause = {0};
    int status = forward_run(engine->forward, &batch, &cause);
    if (!status)
        finish_runs(engine, &batch);
    for (size_t i = 0; i < batch.run_count && status; i++)
        fail_sequence(engine->run_sequences[i], status, cause.text);
    if (status && status != HEARTH_E_CANCELLED)
        return error_set(err, status, "%s", cause.text);
    if (tokens)
        *tokens = batch.rows;
    return 0;
}
