#include "infer/attend.h"

#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

/* Rows of a piece: several tiles of the kernel, so that a block comes from the last cache once for
 * all of them, and few enough that their queries and sums stay in the nearer ones. */
#define PIECE_ROWS 48

/* The context is cut where there are fewer pieces a thread than this, and the partial results take
 * no more than so many bytes. */
#define PIECES_PER_THREAD 16
#define PARTIALS_BYTES_MAX ((size_t)8 << 20)

/* How the attention of one run is cut. */
struct attend_run {
    const struct run *run;
    size_t first_row, first_partial, first_finished;
    size_t tiles;      /* of attend->tile_tokens tokens */
    size_t slots;      /* partial results of a token and head; 0: not cut */
    size_t first_slot; /* in the current layer: the first that any token sees */
    size_t pieces;     /* in the current layer */
};

/* What one thread needs to describe a piece to the kernel. */
struct attend_scratch {
    const float **queries;
    uint32_t *first, *last;
    struct attention_partial *totals;
    float *values; /* behind totals, where the context is not cut */
    void *kernel;
    size_t kernel_bytes;
};

static size_t piece_rows(const struct attend *attend)
{
    return attend->tile_tokens * attend->group_max;
}

static int init_scratch(const struct attend *attend, struct attend_scratch *scratch)
{
    const struct model_shape *shape = &attend->options->model->shape;
    size_t rows = piece_rows(attend);
    size_t at_once = rows < ATTENTION_ROWS_MAX ? rows : ATTENTION_ROWS_MAX;
    scratch->kernel_bytes =
        at_once * ATTENTION_SCRATCH_PER_ROW((size_t)shape->key_size, (size_t)shape->value_size);
    scratch->queries = mem_alloc_array(rows, sizeof *scratch->queries);
    scratch->first = mem_alloc_array(rows, sizeof *scratch->first);
    scratch->last = mem_alloc_array(rows, sizeof *scratch->last);
    scratch->totals = mem_alloc_array(rows, sizeof *scratch->totals);
    scratch->values = mem_alloc_array(rows, shape->value_size * sizeof *scratch->values);
    scratch->kernel = mem_pages_alloc(scratch->kernel_bytes);
    bool whole = scratch->queries && scratch->first && scratch->last && scratch->totals &&
                 scratch->values && scratch->kernel;
    return whole ? 0 : HEARTH_E_MEMORY;
}

static void set_shape(struct attend *attend, const struct model_shape *shape)
{
    for (uint32_t l = 0; l < shape->layer_count; l++) {
        const struct layer_shape *layer = &shape->layers[l];
        size_t group = layer->heads / layer->kv_heads;
        attend->heads_max = layer->heads > attend->heads_max ? layer->heads : attend->heads_max;
        attend->kv_heads_max =
            layer->kv_heads > attend->kv_heads_max ? layer->kv_heads : attend->kv_heads_max;
        attend->group_max = group > attend->group_max ? group : attend->group_max;
    }
    attend->tile_tokens = attend->group_max < PIECE_ROWS ? PIECE_ROWS / attend->group_max : 1;
}

int attend_init(struct attend *attend, const struct forward_options *options,
                struct hearth_error *err)
{
    unsigned threads = pool_threads(options->pool);
    *attend = (struct attend){.options = options};
    set_shape(attend, &options->model->shape);
    attend->scratch = mem_zalloc_array(threads, sizeof *attend->scratch);
    int status = attend->scratch ? 0 : HEARTH_E_MEMORY;
    for (unsigned t = 0; t < threads && !status; t++)
        status = init_scratch(attend, &attend->scratch[t]);
    return status ? error_set(err, status, "no memory for attention") : 0;
}

static size_t values_bytes(const struct attend *attend)
{
    return attend->partial_capacity * attend->options->model->shape.value_size * sizeof(float);
}

static size_t wide_bytes(const struct attend *attend)
{
    return attend->wide_rows * attend->heads_max * attend->options->model->shape.value_size *
           sizeof(float);
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
        mem_free(scratch->totals);
        mem_free(scratch->values);
        mem_pages_free(scratch->kernel, scratch->kernel_bytes);
    }
    mem_free(attend->scratch);
    mem_free(attend->runs);
    mem_free(attend->partials);
    mem_free(attend->finished);
    mem_pages_free(attend->values, values_bytes(attend));
    mem_pages_free(attend->wide, wide_bytes(attend));
    *attend = (struct attend){0};
}

/* ---- a batch ---- */

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
    mem_pages_free(attend->values, values_bytes(attend));
    for (size_t i = 0; i < count; i++)
        partials[i].values = values + i * value_size;
    attend->partials = partials;
    attend->values = values;
    attend->partial_capacity = count;
    return 0;
}

static int grow_finished(struct attend *attend, size_t count)
{
    if (count <= attend->finished_capacity)
        return 0;
    atomic_uint *finished = mem_alloc_array(count, sizeof *finished);
    if (!finished)
        return HEARTH_E_MEMORY;
    for (size_t i = 0; i < count; i++)
        atomic_init(&finished[i], 0);
    mem_free(attend->finished);
    attend->finished = finished;
    attend->finished_capacity = count;
    return 0;
}

static int grow_wide(struct attend *attend, size_t rows)
{
    const struct model_shape *shape = &attend->options->model->shape;
    size_t size;
    if (shape->value_size <= shape->key_size || rows <= attend->wide_rows)
        return 0;
    if (!checked_mul_size(rows, attend->heads_max * shape->value_size * sizeof(float), &size))
        return HEARTH_E_MEMORY;
    float *wide = mem_pages_alloc(size);
    if (!wide)
        return HEARTH_E_MEMORY;
    mem_pages_free(attend->wide, wide_bytes(attend));
    attend->wide = wide;
    attend->wide_rows = rows;
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

/* Partial results of a run, if its context is cut. */
static size_t partials_of(const struct attend *attend, const struct run *run)
{
    size_t splits = (run->position + run->count + ATTENTION_SPLIT - 1) / ATTENTION_SPLIT;
    return run->count * attend->heads_max * splits;
}

static bool worth_cutting(const struct attend *attend, const struct batch *batch)
{
    size_t tiles = 0, partials = 0, value_size = attend->options->model->shape.value_size;
    size_t partials_max = PARTIALS_BYTES_MAX / (value_size * sizeof(float));
    for (size_t i = 0; i < batch->run_count; i++) {
        const struct run *run = &batch->runs[i];
        tiles += (run->count + attend->tile_tokens - 1) / attend->tile_tokens;
        partials += partials_of(attend, run);
        if (partials > partials_max)
            return false;
    }
    return tiles * attend->kv_heads_max < pool_used(attend->options->pool) * PIECES_PER_THREAD;
}

int attend_reserve(struct attend *attend, const struct batch *batch, struct hearth_error *err)
{
    int status = grow_runs(attend, batch->run_count);
    if (status)
        return error_set(err, status, "no memory for attention");
    bool cut = worth_cutting(attend, batch);
    size_t rows = 0, partials = 0, finished = 0;
    for (size_t i = 0; i < batch->run_count; i++) {
        const struct run *run = &batch->runs[i];
        size_t splits = (run->position + run->count + ATTENTION_SPLIT - 1) / ATTENTION_SPLIT;
        struct attend_run *own = &attend->runs[i];
        *own = (struct attend_run){
            .run = run,
            .first_row = rows,
            .first_partial = partials,
            .first_finished = finished,
            .slots = cut && splits > 1 ? splits : 0,
            .tiles = (run->count + attend->tile_tokens - 1) / attend->tile_tokens,
        };
        rows += run->count;
        if (own->slots) {
            partials += partials_of(attend, run);
            finished += own->tiles * attend->kv_heads_max;
        }
    }
    attend->batch = batch;
    status = grow_partials(attend, partials);
    status = status ? status : grow_finished(attend, finished);
    status = status ? status : grow_wide(attend, rows);
    return status ? error_set(err, status, "no memory for attention") : 0;
}

/* ---- pieces ---- */

struct piece {
    const struct attend_run *run;
    uint32_t kv_head, group;
    uint32_t token_begin, token_end; /* within the run */
    size_t tile, slot;
    size_t rows; /* (token_end - token_begin) * group */
};

static struct piece piece_of(const struct attend *attend, size_t item)
{
    const struct layer_shape *layer = &attend->options->model->shape.layers[attend->layer];
    const struct attend_run *run = attend->runs;
    for (; item >= run->pieces; run++)
        item -= run->pieces;
    size_t slots = run->slots ? run->slots - run->first_slot : 1;
    size_t tile = item / slots % run->tiles, end = (tile + 1) * attend->tile_tokens;
    struct piece piece = {
        .run = run,
        .kv_head = (uint32_t)(item / slots / run->tiles),
        .group = layer->heads / layer->kv_heads,
        .token_begin = (uint32_t)(tile * attend->tile_tokens),
        .token_end = end < run->run->count ? (uint32_t)end : run->run->count,
        .tile = tile,
        .slot = run->first_slot + item % slots,
    };
    piece.rows = (size_t)(piece.token_end - piece.token_begin) * piece.group;
    return piece;
}

/* The partial result of a piece's row in a slot. */
static struct attention_partial *partial_of(const struct attend *attend, const struct piece *piece,
                                            size_t row, size_t slot)
{
    size_t token = piece->token_begin + row / piece->group;
    size_t head = piece->kv_head * piece->group + row % piece->group;
    size_t index = (token * attend->heads_max + head) * piece->run->slots + slot;
    return &attend->partials[piece->run->first_partial + index];
}

/* Where the result of a head goes, or its query is: [row of the batch][head]. */
static float *result_of(const struct attend *attend, size_t row, size_t head)
{
    const struct model_shape *shape = &attend->options->model->shape;
    size_t index = row * shape->layers[attend->layer].heads + head;
    return attend->wide ? attend->wide + index * shape->value_size
                        : attend->queries + index * shape->key_size;
}

static uint32_t first_seen(const struct attend *attend, uint32_t position)
{
    uint32_t window = attend->options->model->layers[attend->layer].window;
    return window && position >= window ? position + 1 - window : 0;
}

static void describe_rows(const struct attend *attend, const struct piece *piece,
                          const struct attend_scratch *scratch)
{
    const struct model_shape *shape = &attend->options->model->shape;
    size_t heads = shape->layers[attend->layer].heads, row = 0;
    for (uint32_t token = piece->token_begin; token < piece->token_end; token++) {
        uint32_t position = piece->run->run->position + token;
        const float *query = attend->queries + ((piece->run->first_row + token) * heads +
                                                (size_t)piece->kv_head * piece->group) *
                                                   shape->key_size;
        for (uint32_t g = 0; g < piece->group; g++, row++) {
            scratch->queries[row] = query + g * shape->key_size;
            scratch->first[row] = first_seen(attend, position);
            scratch->last[row] = position;
            scratch->totals[row].values = piece->run->slots
                                              ? partial_of(attend, piece, row, piece->slot)->values
                                              : scratch->values + row * shape->value_size;
            attention_partial_clear(&scratch->totals[row], shape->value_size);
        }
    }
}

/* Brings the tokens begin..end-1 into the totals of a piece's rows. */
static void attend_range(const struct attend *attend, const struct piece *piece,
                         const struct attend_scratch *scratch, size_t begin, size_t end)
{
    const struct model_shape *shape = &attend->options->model->shape;
    const struct kv_pool *kv = attend->options->kv;
    const struct kv_group_table *table =
        &piece->run->run->table->groups[kv_layer_group(kv, attend->layer)];
    for (size_t row = 0; row < piece->rows; row += ATTENTION_ROWS_MAX) {
        size_t rows = piece->rows - row;
        const struct attention task = {
            .key_type = kv_pool_key_type(kv),
            .value_type = kv_pool_value_type(kv),
            .key_size = shape->key_size,
            .value_size = shape->value_size,
            .blocks = (const void *const *)table->blocks,
            .offset = kv_part_offset(kv, attend->layer, piece->kv_head),
            .queries = scratch->queries + row,
            .first = scratch->first + row,
            .last = scratch->last + row,
            .rows = rows < ATTENTION_ROWS_MAX ? rows : ATTENTION_ROWS_MAX,
            .scale = shape->attention_scale,
            .begin = (uint32_t)begin,
            .end = (uint32_t)end,
            .partials = scratch->totals + row,
            .scratch = scratch->kernel,
        };
        attend->options->kernels->vector.attention(&task);
    }
}

static void finish_row(const struct attend *attend, const struct piece *piece, size_t row,
                       struct attention_partial *total)
{
    const struct vector_kernels *vector = &attend->options->kernels->vector;
    size_t size = attend->options->model->shape.value_size;
    size_t token = piece->run->first_row + piece->token_begin + row / piece->group;
    float *result = result_of(attend, token, piece->kv_head * piece->group + row % piece->group);
    vector->attention_finish(total, size);
    if (kv_type_rotates(kv_pool_value_type(attend->options->kv)))
        vector->hadamard(total->values, size);
    memcpy(result, total->values, size * sizeof *result);
}

/* Merges all slots of a piece's rows, if this piece is the last of them to be computed. */
static void finish_slots(const struct attend *attend, const struct piece *piece,
                         const struct attend_scratch *scratch)
{
    const struct attend_run *run = piece->run;
    size_t size = attend->options->model->shape.value_size;
    for (size_t row = 0; row < piece->rows; row++) {
        struct attention_partial *partial = partial_of(attend, piece, row, piece->slot);
        partial->max = scratch->totals[row].max;
        partial->sum = scratch->totals[row].sum;
    }
    atomic_uint *finished =
        &attend->finished[run->first_finished + piece->kv_head * run->tiles + piece->tile];
    if (atomic_fetch_add_explicit(finished, 1, memory_order_acq_rel) + 1 !=
        run->slots - run->first_slot)
        return;
    atomic_store_explicit(finished, 0, memory_order_relaxed);
    for (size_t row = 0; row < piece->rows; row++) {
        struct attention_partial total = {.values = scratch->values};
        attention_partial_clear(&total, size);
        for (size_t slot = run->first_slot; slot < run->slots; slot++)
            attend->options->kernels->vector.attention_merge(
                &total, partial_of(attend, piece, row, slot), size);
        finish_row(attend, piece, row, &total);
    }
}

static void attend_piece(void *context, size_t item, unsigned thread)
{
    const struct attend *attend = context;
    const struct attend_scratch *scratch = &attend->scratch[thread];
    const struct piece piece = piece_of(attend, item);
    describe_rows(attend, &piece, scratch);
    if (piece.run->slots) {
        size_t begin = piece.slot * ATTENTION_SPLIT;
        attend_range(attend, &piece, scratch, begin, begin + ATTENTION_SPLIT);
        finish_slots(attend, &piece, scratch);
        return;
    }
    size_t first = scratch->first[0] / ATTENTION_SPLIT * ATTENTION_SPLIT;
    size_t end = (size_t)piece.run->run->position + piece.token_end;
    attend_range(attend, &piece, scratch, first, end);
    for (size_t row = 0; row < piece.rows; row++)
        finish_row(attend, &piece, row, &scratch->totals[row]);
}

void attend_layer(struct attend *attend, uint32_t layer, float *queries)
{
    size_t pieces = 0;
    attend->layer = layer;
    attend->queries = queries;
    for (size_t i = 0; i < attend->batch->run_count; i++) {
        struct attend_run *run = &attend->runs[i];
        run->first_slot = run->slots ? first_seen(attend, run->run->position) / ATTENTION_SPLIT : 0;
        run->pieces = attend->options->model->shape.layers[layer].kv_heads * run->tiles *
                      (run->slots ? run->slots - run->first_slot : 1);
        pieces += run->pieces;
    }
    pool_run(attend->options->pool, pieces, attend_piece, attend);
}

void attend_row(const struct attend *attend, size_t row, float *values)
{
    const struct model_shape *shape = &attend->options->model->shape;
    for (uint32_t head = 0; head < shape->layers[attend->layer].heads; head++)
        memcpy(values + head * shape->value_size, result_of(attend, row, head),
               shape->value_size * sizeof *values);
}

uint64_t attend_bytes(const struct attend *attend)
{
    return attend->partial_capacity * sizeof *attend->partials + values_bytes(attend) +
           wide_bytes(attend);
}

uint64_t attend_bytes_for(const struct model *model, size_t rows_max, unsigned threads,
                          uint32_t context)
{
    const struct model_shape *shape = &model->shape;
    struct attend attend = {0};
    set_shape(&attend, shape);
    uint64_t value = shape->value_size * sizeof(float);
    /* the most rows that are still worth cutting, and what they leave, see worth_cutting() */
    size_t tiles = ((size_t)threads * PIECES_PER_THREAD - 1) / attend.kv_heads_max;
    size_t rows = tiles * attend.tile_tokens < rows_max ? tiles * attend.tile_tokens : rows_max;
    uint64_t partials = (uint64_t)rows * attend.heads_max * (context / ATTENTION_SPLIT + 1);
    uint64_t most = PARTIALS_BYTES_MAX / value;
    partials = partials < most ? partials : most;
    uint64_t bytes = partials * (value + sizeof(struct attention_partial));
    if (shape->value_size > shape->key_size)
        bytes += rows_max * attend.heads_max * value;
    size_t piece = piece_rows(&attend);
    uint64_t thread = piece * (value + sizeof(float *) + 2 * sizeof(uint32_t) +
                               sizeof(struct attention_partial)) +
                      ATTENTION_ROWS_MAX * ATTENTION_SCRATCH_PER_ROW((size_t)shape->key_size,
                                                                     (size_t)shape->value_size);
    return bytes + threads * thread;
}

void attend_release(struct attend *attend)
{
    mem_free(attend->partials);
    mem_pages_free(attend->values, values_bytes(attend));
    mem_pages_free(attend->wide, wide_bytes(attend));
    attend->partials = NULL;
    attend->values = attend->wide = NULL;
    attend->partial_capacity = attend->wide_rows = 0;
}
