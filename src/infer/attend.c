#include "infer/attend.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

/* Tokens of one piece of a long run, and the run length up to which each split is a piece. */
#define PIECE_TOKENS 4

#define SPLIT_BLOCKS (ATTENTION_SPLIT / KV_BLOCK_TOKENS)

/* How the attention of one run is cut. */
struct attend_run {
    const struct run *run;
    size_t first_row;
    size_t first_partial;
    size_t slots;  /* partial results of a row and head */
    size_t tiles;  /* of PIECE_TOKENS tokens */
    size_t pieces; /* in the current layer: kv heads * tiles * slots */
};

/* What one thread needs to describe a piece to the kernel. */
struct attend_scratch {
    const float **queries;
    uint32_t *first, *last;
    struct attention_partial *parts; /* of one split, when a piece goes through several */
    float *values;                   /* behind parts */
};

static size_t piece_rows(const struct attend *attend)
{
    return PIECE_TOKENS * attend->group_max;
}

static int init_scratch(struct attend *attend, struct attend_scratch *scratch)
{
    size_t rows = piece_rows(attend), size = attend->options->model->shape.value_size;
    scratch->queries = mem_alloc_array(rows, sizeof *scratch->queries);
    scratch->first = mem_alloc_array(rows, sizeof *scratch->first);
    scratch->last = mem_alloc_array(rows, sizeof *scratch->last);
    scratch->parts = mem_alloc_array(rows, sizeof *scratch->parts);
    scratch->values = mem_alloc_array(rows, size * sizeof *scratch->values);
    if (!scratch->queries || !scratch->first || !scratch->last || !scratch->parts ||
        !scratch->values)
        return HEARTH_E_MEMORY;
    for (size_t i = 0; i < rows; i++)
        scratch->parts[i].values = scratch->values + i * size;
    return 0;
}

int attend_init(struct attend *attend, const struct forward_options *options,
                struct hearth_error *err)
{
    const struct model_shape *shape = &options->model->shape;
    unsigned threads = pool_threads(options->pool);
    *attend = (struct attend){.options = options};
    for (uint32_t l = 0; l < shape->layer_count; l++) {
        const struct layer_shape *layer = &shape->layers[l];
        size_t group = layer->heads / layer->kv_heads;
        attend->heads_max = layer->heads > attend->heads_max ? layer->heads : attend->heads_max;
        attend->group_max = group > attend->group_max ? group : attend->group_max;
    }
    attend->scratch = mem_zalloc_array(threads, sizeof *attend->scratch);
    int status = attend->scratch ? 0 : HEARTH_E_MEMORY;
    for (unsigned t = 0; t < threads && !status; t++)
        status = init_scratch(attend, &attend->scratch[t]);
    return status ? error_set(err, status, "no memory for attention") : 0;
}

static size_t values_size(const struct attend *attend)
{
    return attend->partial_capacity * attend->options->model->shape.value_size * sizeof(float);
}

void attend_finish(struct attend *attend)
{
    if (!attend->options)
        return;
    for (unsigned t = 0; attend->scratch && t < pool_threads(attend->options->pool); t++) {
        struct attend_scratch *scratch = &attend->scratch[t];
        mem_free(scratch->queries);
        mem_free(scratch->first);
        mem_free(scratch->last);
        mem_free(scratch->parts);
        mem_free(scratch->values);
    }
    mem_free(attend->scratch);
    mem_free(attend->runs);
    mem_free(attend->partials);
    mem_pages_free(attend->values, values_size(attend));
    *attend = (struct attend){0};
}

static int grow_partials(struct attend *attend, size_t count)
{
    size_t value_size = attend->options->model->shape.value_size, size;
    if (count <= attend->partial_capacity)
        return 0;
    if (!checked_mul_size(count, value_size * sizeof(float), &size))
        return HEARTH_E_MEMORY;
    struct attention_partial *partials = mem_alloc_array(count, sizeof *partials);
    float *values = mem_pages_alloc(size);
    if (!partials || !values) {
        mem_free(partials);
        mem_pages_free(values, size);
        return HEARTH_E_MEMORY;
    }
    mem_free(attend->partials);
    mem_pages_free(attend->values, values_size(attend));
    for (size_t i = 0; i < count; i++)
        partials[i].values = values + i * value_size;
    attend->partials = partials;
    attend->values = values;
    attend->partial_capacity = count;
    return 0;
}

static int grow_runs(struct attend *attend, size_t count)
{
    if (count <= attend->run_capacity)
        return 0;
    struct attend_run *runs = mem_realloc_array(attend->runs, count, sizeof *runs);
    if (!runs)
        return HEARTH_E_MEMORY;
    attend->runs = runs;
    attend->run_capacity = count;
    return 0;
}

int attend_reserve(struct attend *attend, const struct batch *batch, struct hearth_error *err)
{
    int status = grow_runs(attend, batch->run_count);
    if (status)
        return error_set(err, status, "no memory for attention");
    size_t rows = 0, partials = 0;
    for (size_t i = 0; i < batch->run_count; i++) {
        const struct run *run = &batch->runs[i];
        size_t splits = (run->position + run->count + ATTENTION_SPLIT - 1) / ATTENTION_SPLIT;
        attend->runs[i] = (struct attend_run){
            .run = run,
            .first_row = rows,
            .first_partial = partials,
            .slots = run->count <= PIECE_TOKENS ? splits : 1,
            .tiles = (run->count + PIECE_TOKENS - 1) / PIECE_TOKENS,
        };
        rows += run->count;
        partials += run->count * attend->heads_max * attend->runs[i].slots;
    }
    attend->batch = batch;
    status = grow_partials(attend, partials);
    return status ? error_set(err, status, "no memory for attention") : 0;
}

/* ---- pieces ---- */

struct piece {
    const struct attend_run *run;
    uint32_t kv_head, token_begin, token_end; /* tokens within the run */
    size_t slot;
};

static struct piece piece_of(const struct attend *attend, size_t item)
{
    const struct attend_run *run = attend->runs;
    for (; item >= run->pieces; run++)
        item -= run->pieces;
    size_t tile = item / run->slots % run->tiles;
    size_t end = (tile + 1) * PIECE_TOKENS;
    return (struct piece){
        .run = run,
        .kv_head = (uint32_t)(item / run->slots / run->tiles),
        .token_begin = (uint32_t)(tile * PIECE_TOKENS),
        .token_end = end < run->run->count ? (uint32_t)end : run->run->count,
        .slot = item % run->slots,
    };
}

static struct attention_partial *partial_of(const struct attend *attend,
                                            const struct attend_run *run, size_t token, size_t head,
                                            size_t slot)
{
    size_t index = (token * attend->heads_max + head) * run->slots + slot;
    return &attend->partials[run->first_partial + index];
}

/* Fills the kernel's task but for the split; returns the first token that any row sees. */
static uint32_t describe_rows(const struct attend *attend, const struct piece *piece,
                              const struct attend_scratch *scratch, struct attention *task)
{
    const struct model_shape *shape = &attend->options->model->shape;
    const struct layer_shape *size = &shape->layers[attend->layer];
    uint32_t window = attend->options->model->layers[attend->layer].window;
    uint32_t group = size->heads / size->kv_heads;
    uint32_t earliest = UINT32_MAX;
    size_t row = 0;
    for (uint32_t token = piece->token_begin; token < piece->token_end; token++) {
        uint32_t position = piece->run->run->position + token;
        uint32_t first = window && position >= window ? position + 1 - window : 0;
        earliest = first < earliest ? first : earliest;
        const float *heads = attend->queries + ((piece->run->first_row + token) * size->heads +
                                                piece->kv_head * group) *
                                                   shape->key_size;
        for (uint32_t g = 0; g < group; g++, row++) {
            scratch->queries[row] = heads + g * shape->key_size;
            scratch->first[row] = first;
            scratch->last[row] = position;
        }
    }
    *task = (struct attention){
        .kv_type = kv_pool_type(attend->options->kv),
        .key_size = shape->key_size,
        .value_size = shape->value_size,
        .queries = scratch->queries,
        .first = scratch->first,
        .last = scratch->last,
        .rows = row,
        .scale = shape->attention_scale,
    };
    return earliest;
}

/* Computes one split of a task into `partials`. */
static void compute_split(const struct attend *attend, const struct piece *piece,
                          struct attention *task, size_t split, struct attention_partial *partials)
{
    const struct kv_pool *kv = attend->options->kv;
    const struct kv_group_table *table =
        &piece->run->run->table->groups[kv_layer_group(kv, attend->layer)];
    size_t offset = kv_part_offset(kv, attend->layer, piece->kv_head);
    const void *blocks[SPLIT_BLOCKS] = {0};
    for (size_t b = 0; b < SPLIT_BLOCKS; b++) {
        size_t index = split * SPLIT_BLOCKS + b;
        if (index < table->count && table->blocks[index])
            blocks[b] = (const char *)table->blocks[index] + offset;
    }
    task->blocks = blocks;
    task->begin = (uint32_t)(split * ATTENTION_SPLIT);
    task->end = task->begin + ATTENTION_SPLIT;
    task->partials = partials;
    attend->options->kernels->vector.attention(task);
    task->blocks = NULL;
}

/* Computes one split into the scratch and merges it into the piece's slot. */
static void attend_split(const struct attend *attend, const struct piece *piece,
                         const struct attend_scratch *scratch, struct attention *task, size_t split)
{
    const struct layer_shape *size = &attend->options->model->shape.layers[attend->layer];
    uint32_t group = size->heads / size->kv_heads;
    compute_split(attend, piece, task, split, scratch->parts);
    for (size_t row = 0; row < task->rows; row++) {
        struct attention_partial *total =
            partial_of(attend, piece->run, piece->token_begin + row / group,
                       piece->kv_head * group + row % group, piece->slot);
        attend->options->kernels->vector.attention_merge(total, &scratch->parts[row],
                                                         task->value_size);
    }
}

static void attend_piece(void *context, size_t item, unsigned thread)
{
    const struct attend *attend = context;
    const struct attend_scratch *scratch = &attend->scratch[thread];
    const struct piece piece = piece_of(attend, item);
    const struct layer_shape *size = &attend->options->model->shape.layers[attend->layer];
    uint32_t group = size->heads / size->kv_heads;
    struct attention task;
    uint32_t earliest = describe_rows(attend, &piece, scratch, &task);
    for (size_t row = 0; row < task.rows; row++)
        attention_partial_clear(partial_of(attend, piece.run, piece.token_begin + row / group,
                                           piece.kv_head * group + row % group, piece.slot),
                                task.value_size);
    size_t first = earliest / ATTENTION_SPLIT;
    size_t last = (piece.run->run->position + piece.token_end - 1) / ATTENTION_SPLIT;
    if (piece.run->slots > 1) {
        if (piece.slot >= first && piece.slot <= last)
            attend_split(attend, &piece, scratch, &task, piece.slot);
        return;
    }
    for (size_t split = first; split <= last; split++)
        attend_split(attend, &piece, scratch, &task, split);
}

void attend_layer(struct attend *attend, uint32_t layer, const float *queries)
{
    size_t pieces = 0;
    attend->layer = layer;
    attend->queries = queries;
    for (size_t i = 0; i < attend->batch->run_count; i++) {
        struct attend_run *run = &attend->runs[i];
        run->pieces =
            attend->options->model->shape.layers[layer].kv_heads * run->tiles * run->slots;
        pieces += run->pieces;
    }
    pool_run(attend->options->pool, pieces, attend_piece, attend);
}

void attend_merge_row(const struct attend *attend, size_t row, float *values)
{
    const struct vector_kernels *vector = &attend->options->kernels->vector;
    const struct model_shape *shape = &attend->options->model->shape;
    const struct attend_run *run = attend->runs;
    for (; row >= run->first_row + run->run->count; run++)
        ;
    for (uint32_t head = 0; head < shape->layers[attend->layer].heads; head++) {
        struct attention_partial total = {.values = values + head * shape->value_size};
        attention_partial_clear(&total, shape->value_size);
        for (size_t slot = 0; slot < run->slots; slot++)
            vector->attention_merge(&total,
                                    partial_of(attend, run, row - run->first_row, head, slot),
                                    shape->value_size);
        if (total.sum != 0.0f)
            vector->scale(total.values, 1.0f / total.sum, shape->value_size);
    }
}

uint64_t attend_bytes(const struct attend *attend)
{
    return attend->partial_capacity * sizeof *attend->partials + values_size(attend);
}
