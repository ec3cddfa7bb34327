#include "infer/budget.h"

#include "base/os.h"
#include "infer/engine.h"
#include "infer/forward.h"

/* Measured, and rounded up. A program before it opens a model: libraries' data, standard streams,
 * stack, heap. */
#define PROGRAM_BYTES (1u << 20)
/* What is touched of a thread's stack and kept for it by malloc. */
#define THREAD_BYTES (128u << 10)
/* An answer's sampler, stream and history. */
#define ANSWER_BYTES (768u << 10)

/* Logits of many rows at once are computed in steps of about this size, */
#define LOGITS_BYTES_MAX (64u << 20)
/* and of at most this part of what a budget leaves. */
#define LOGITS_SHARE 32

#define CONTEXT_BEGINS 2048 /* tokens: a context of unknown length must find room for these */

static uint64_t fixed_bytes(const struct estimate *of)
{
    return PROGRAM_BYTES + model_bytes(of->model) + (uint64_t)of->threads * THREAD_BYTES +
           ANSWER_BYTES + of->model->shape.vocabulary * sizeof(float);
}

void estimate_make(const struct estimate *of, uint32_t context, struct hearth_estimate *out)
{
    struct hearth_estimate made = {
        .context = context,
        .weights_bytes = gguf_file_size(of->model->gguf),
        .kv_bytes = kv_pool_bytes_for(of->kv, context, of->chunk_tokens),
        .scratch_bytes =
            forward_bytes_for(of->model, of->chunk_tokens, of->threads, LOGIT_ROWS_MIN, context),
        .fixed_bytes = fixed_bytes(of),
    };
    made.private_bytes = made.kv_bytes + made.scratch_bytes + made.fixed_bytes;
    made.total_bytes = made.private_bytes + made.weights_bytes;
    if (of->weights_private)
        made.private_bytes = made.total_bytes;
    *out = made;
}

static uint32_t context_of(const struct model *model, const struct hearth_engine_options *options)
{
    uint32_t own = model->shape.context_length;
    if (options->context)
        return options->context;
    return own < CONTEXT_BEGINS ? own : CONTEXT_BEGINS;
}

/* The program may have more of its own than the estimate knows of. `taken` is what it has for KV
 * cache and scratch. */
static void count_process(const struct estimate *of, uint64_t taken,
                          struct hearth_estimate *estimate)
{
    struct os_memory memory;
    if (!os_process_memory(&memory))
        return;
    if (of->weights_private)
        taken += estimate->weights_bytes;
    uint64_t own = memory.private_bytes > taken ? memory.private_bytes - taken : 0;
    if (own <= estimate->fixed_bytes)
        return;
    estimate->private_bytes += own - estimate->fixed_bytes;
    estimate->total_bytes += own - estimate->fixed_bytes;
    estimate->fixed_bytes = own;
}

static double megabytes(uint64_t bytes)
{
    return (double)bytes / 1e6;
}

static int refuse(const struct hearth_estimate *estimate,
                  const struct hearth_engine_options *options, uint64_t memory,
                  struct hearth_error *err)
{
    return error_set(err, HEARTH_E_LIMIT,
                     "the model takes %.1f MB (weights %.1f, KV cache of %u tokens %.1f, scratch "
                     "%.1f, the rest %.1f), more than the limit of %.1f MB%s",
                     megabytes(estimate->total_bytes), megabytes(estimate->weights_bytes),
                     estimate->context, megabytes(estimate->kv_bytes),
                     megabytes(estimate->scratch_bytes), megabytes(estimate->fixed_bytes),
                     megabytes(memory),
                     options->memory_max ? "" : ", half of what this machine has");
}

static size_t logit_rows(uint64_t bytes, const struct model *model)
{
    uint64_t rows = bytes / ((uint64_t)model->shape.vocabulary * sizeof(float));
    return rows > LOGIT_ROWS_MIN ? (size_t)rows : LOGIT_ROWS_MIN;
}

/* What all else leaves of `memory` for the KV cache. */
static uint64_t left_of(uint64_t memory, const struct hearth_estimate *estimate)
{
    uint64_t others = estimate->total_bytes - estimate->kv_bytes;
    return others < memory ? memory - others : 0;
}

/* Divides what is left, of which the KV cache must have `needed`. */
static void divide(const struct estimate *of, const struct hearth_engine_options *options,
                   uint64_t left, uint64_t needed, struct budget *out)
{
    /* more logits at once than always, from what is not needed */
    size_t rows = logit_rows(LOGITS_BYTES_MAX, of->model);
    size_t room = logit_rows((left - needed) / LOGITS_SHARE, of->model);
    rows = rows < room ? rows : room;
    left -= (rows - LOGIT_ROWS_MIN) * (uint64_t)of->model->shape.vocabulary * sizeof(float);
    if (options->kv_bytes_max && options->kv_bytes_max < left)
        left = options->kv_bytes_max;
    *out = (struct budget){left, rows};
}

static uint64_t memory_of(const struct hearth_engine_options *options)
{
    return options->memory_max ? options->memory_max : os_total_memory() / 2;
}

int budget_make(const struct estimate *of, const struct hearth_engine_options *options,
                struct budget *out, struct hearth_error *err)
{
    struct hearth_estimate estimate;
    uint64_t memory = memory_of(options);
    if (memory == HEARTH_MEMORY_UNLIMITED) {
        *out = (struct budget){options->kv_bytes_max, logit_rows(LOGITS_BYTES_MAX, of->model)};
        return 0;
    }
    estimate_make(of, context_of(of->model, options), &estimate);
    count_process(of, 0, &estimate);
    uint64_t left = left_of(memory, &estimate), needed = estimate.kv_bytes;
    if (options->fit == HEARTH_FIT_SHRINK)
        needed = kv_pool_bytes_for(of->kv, 1, of->chunk_tokens);
    if (left < needed)
        return refuse(&estimate, options, memory, err);
    divide(of, options, left, needed, out);
    return 0;
}

void budget_remake(const struct estimate *of, const struct hearth_engine_options *options,
                   uint64_t taken, struct budget *out)
{
    struct hearth_estimate estimate;
    uint64_t memory = memory_of(options), least = kv_pool_bytes_for(of->kv, 1, of->chunk_tokens);
    if (memory == HEARTH_MEMORY_UNLIMITED) {
        *out = (struct budget){options->kv_bytes_max, logit_rows(LOGITS_BYTES_MAX, of->model)};
        return;
    }
    estimate_make(of, context_of(of->model, options), &estimate);
    count_process(of, taken, &estimate);
    uint64_t left = left_of(memory, &estimate);
    divide(of, options, left > least ? left : least, least, out);
}

int hearth_engine_estimate(const struct hearth_model *model,
                           const struct hearth_engine_options *options, struct hearth_estimate *out,
                           struct hearth_error *err)
{
    static const struct hearth_engine_options defaults = {0};
    struct kv_pool *kv;
    options = options ? options : &defaults;
    int status = model_check(model->model, err);
    if (status)
        return status;
    status = engine_kv_pool(model->model, options->kv_type, 0, &kv, err);
    if (status)
        return status;
    const struct estimate of = {
        .model = model->model,
        .kv = kv,
        .weights_private = model->copied,
        .threads = options->threads ? options->threads : os_default_threads(),
        .chunk_tokens = options->chunk_tokens ? options->chunk_tokens : CHUNK_TOKENS_DEFAULT,
    };
    estimate_make(&of, context_of(model->model, options), out);
    kv_pool_destroy(kv);
    return 0;
}
