#include "infer/forward.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "infer/attend.h"
#include "infer/workspace.h"

/* Rows of a matrix that one item of a parallel product computes: whole panels of every tier. */
#define PRODUCT_ROWS 64

struct forward {
    struct forward_options options;
    struct workspace workspace;
    struct attend attend;
    const struct batch *batch;
    const struct layer *layer; /* that is being computed */
    uint32_t layer_index;
};

/* ---- matrix products ---- */

struct product {
    const struct matrix *matrix;
    const void *x; /* activations in the form that the matrix multiplies with */
    float *y;      /* [columns][matrix->rows] */
    size_t items, rows_per_item;
};

struct products {
    const struct forward *forward;
    struct product list[3];
    size_t count, columns;
};

static void add_product(struct products *products, const struct matrix *matrix, float *y)
{
    const struct forward *forward = products->forward;
    size_t threads = pool_threads(forward->options.pool);
    /* a few items a thread even out what the threads do; one item is at least a panel */
    size_t rows = matrix->rows / (threads * 8) / PRODUCT_ROWS * PRODUCT_ROWS;
    rows = rows > PRODUCT_ROWS ? rows : PRODUCT_ROWS;
    products->list[products->count++] = (struct product){
        .matrix = matrix,
        .x = forward->workspace.activations[activation_form_of(matrix->type)],
        .y = y,
        .items = (matrix->rows + rows - 1) / rows,
        .rows_per_item = rows,
    };
}

static void compute_product_item(void *context, size_t item, unsigned thread)
{
    (void)thread;
    const struct products *products = context;
    const struct kernels *kernels = products->forward->options.kernels;
    const struct product *product = products->list;
    for (; item >= product->items; product++)
        item -= product->items;
    const struct matrix *matrix = product->matrix;
    size_t begin = item * product->rows_per_item;
    size_t end = begin + product->rows_per_item;
    struct matmul task = {
        .type = matrix->type,
        .weights = matrix->data,
        .row_bytes = matrix->row_bytes,
        .k = matrix->columns,
        .row_begin = begin,
        .row_end = end < matrix->rows ? end : matrix->rows,
        .x = product->x,
        .columns = products->columns,
        .y = product->y,
        .y_stride = matrix->rows,
    };
    kernels->matmul[matrix->type](&task);
    for (size_t c = 0; matrix->bias && c < products->columns; c++)
        kernels->vector.add(task.y + c * task.y_stride + begin, matrix->bias + begin,
                            task.row_end - begin);
}

static void run_products(struct products *products)
{
    size_t items = 0;
    for (size_t i = 0; i < products->count; i++)
        items += products->list[i].items;
    pool_run(products->forward->options.pool, items, compute_product_item, products);
}

static void multiply(const struct forward *forward, const struct matrix *matrix, size_t columns,
                     float *y)
{
    struct products products = {.forward = forward, .columns = columns};
    add_product(&products, matrix, y);
    run_products(&products);
}

static unsigned form_bit(const struct matrix *matrix)
{
    return 1u << activation_form_of(matrix->type);
}

/* Brings one row of n floats into the forms of a set of bits. */
static void quantize_row(const struct forward *forward, const float *x, size_t n, size_t row,
                         unsigned forms)
{
    for (unsigned form = 0; form < ACTIVATION_FORMS; form++) {
        if (!(forms & 1u << form))
            continue;
        size_t bytes = activation_row_bytes((enum activation_form)form, n);
        char *rows = forward->workspace.activations[form];
        forward->options.kernels->quantize[form](x, n, rows + row * bytes);
    }
}

/* ---- steps of a layer, each over the rows of the batch ---- */

static const struct run *find_run(const struct batch *batch, size_t row, uint32_t *within)
{
    const struct run *run = batch->runs;
    for (; row >= run->count; run++)
        row -= run->count;
    *within = (uint32_t)row;
    return run;
}

static void embed_row(void *context, size_t row, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    const struct model *model = forward->options.model;
    const struct kernels *kernels = forward->options.kernels;
    const struct matrix *embedding = &model->embedding;
    const struct workspace *work = &forward->workspace;
    uint32_t within;
    const struct run *run = find_run(forward->batch, row, &within);
    float *x = workspace_row(work->x, row, embedding->columns);
    const char *weights = (const char *)embedding->data + run->ids[within] * embedding->row_bytes;
    kernels->dequantize[embedding->type](weights, embedding->columns, x);
    if (model->shape.embedding_scale != 1.0f)
        kernels->vector.scale(x, model->shape.embedding_scale, embedding->columns);
    unsigned kinds = model->shape.window ? ROPE_KINDS : 1;
    for (unsigned kind = 0; kind < kinds; kind++) {
        const struct rope *rope = kind == 0 ? &model->rope : &model->window_rope;
        float *angles = workspace_angles(work, rope, kind, row);
        rope_angles(rope, run->position + within, angles, angles + rope->pairs);
    }
}

static void normalize_row(const struct forward *forward, const float *weight, size_t row,
                          unsigned thread, unsigned forms)
{
    const struct model_shape *shape = &forward->options.model->shape;
    const struct workspace *work = &forward->workspace;
    size_t n = shape->embedding_length;
    float *normed = workspace_scratch(work, thread);
    forward->options.kernels->vector.rms_norm(workspace_row(work->x, row, n), weight,
                                              shape->norm_eps, n, normed);
    quantize_row(forward, normed, n, row, forms);
}

static void prepare_attention_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    const struct layer *layer = forward->layer;
    normalize_row(forward, layer->attention_norm, row, thread,
                  form_bit(&layer->query) | form_bit(&layer->key) | form_bit(&layer->value));
}

static void rotate_heads(const struct forward *forward, float *heads, uint32_t count,
                         const float *norm, size_t row)
{
    const struct vector_kernels *vector = &forward->options.kernels->vector;
    const struct model *model = forward->options.model;
    const struct rope *rope = forward->layer->rope;
    size_t size = model->shape.key_size;
    const float *angles =
        workspace_angles(&forward->workspace, rope, rope == &model->rope ? 0 : 1, row);
    for (uint32_t h = 0; h < count; h++) {
        float *head = heads + h * size;
        if (norm)
            vector->rms_norm(head, norm, model->shape.norm_eps, size, head);
        if (model->architecture->rope_order == ROPE_NEOX)
            vector->rope_neox(head, angles, angles + rope->pairs, rope->pairs);
        else
            vector->rope_normal(head, angles, angles + rope->pairs, rope->pairs);
    }
}

/* Rotates a row's queries and keys and stores its keys and values in their block. */
static void store_row(void *context, size_t row, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    const struct workspace *work = &forward->workspace;
    const struct model_shape *shape = &forward->options.model->shape;
    const struct layer *layer = forward->layer;
    const struct layer_shape *size = &shape->layers[forward->layer_index];
    uint32_t within;
    const struct run *run = find_run(forward->batch, row, &within);
    float *keys = workspace_row(work->key, row, layer->key.rows);
    const float *values = workspace_row(work->value, row, layer->value.rows);
    rotate_heads(forward, workspace_row(work->query, row, layer->query.rows), size->heads,
                 layer->query_norm, row);
    rotate_heads(forward, keys, size->kv_heads, layer->key_norm, row);

    uint32_t position = run->position + within;
    uint32_t group = kv_layer_group(forward->options.kv, forward->layer_index);
    enum kv_type type = kv_pool_type(forward->options.kv);
    char *block = run->table->groups[group].blocks[position / KV_BLOCK_TOKENS];
    for (uint32_t h = 0; h < size->kv_heads; h++) {
        char *part = block + kv_part_offset(forward->options.kv, forward->layer_index, h);
        const struct vector_kernels *vector = &forward->options.kernels->vector;
        vector->store_key[type](keys + h * shape->key_size, shape->key_size, part,
                                position % KV_BLOCK_TOKENS);
        vector->store_value[type](values + h * shape->value_size, shape->value_size,
                                  part + kv_key_bytes(type, shape->key_size),
                                  position % KV_BLOCK_TOKENS);
    }
}

static void finish_attention_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    const struct matrix *output = &forward->layer->attention_output;
    float *values = workspace_scratch(&forward->workspace, thread);
    attend_merge_row(&forward->attend, row, values);
    quantize_row(forward, values, output->columns, row, form_bit(output));
}

/* x += y, through the norm that some architectures put behind a block */
static void add_residual(const struct forward *forward, const float *post_norm, size_t row)
{
    const struct vector_kernels *vector = &forward->options.kernels->vector;
    const struct model_shape *shape = &forward->options.model->shape;
    const struct workspace *work = &forward->workspace;
    size_t n = shape->embedding_length;
    float *y = workspace_row(work->y, row, n);
    if (post_norm)
        vector->rms_norm(y, post_norm, shape->norm_eps, n, y);
    vector->add(workspace_row(work->x, row, n), y, n);
}

static void prepare_ff_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    const struct layer *layer = forward->layer;
    add_residual(forward, layer->attention_post_norm, row);
    normalize_row(forward, layer->ff_norm, row, thread,
                  form_bit(&layer->gate) | form_bit(&layer->up));
}

static void activate_row(void *context, size_t row, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    const struct vector_kernels *vector = &forward->options.kernels->vector;
    const struct workspace *work = &forward->workspace;
    const struct matrix *down = &forward->layer->down;
    float *gate = workspace_row(work->gate, row, down->columns);
    const float *up = workspace_row(work->up, row, down->columns);
    if (forward->options.model->architecture->activation == ACTIVATION_GELU)
        vector->gelu_mul(gate, up, down->columns);
    else
        vector->silu_mul(gate, up, down->columns);
    quantize_row(forward, gate, down->columns, row, form_bit(down));
}

static void finish_layer_row(void *context, size_t row, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    add_residual(forward, forward->layer->ff_post_norm, row);
}

/* ---- the pass ---- */

static bool all_cancelled(const struct batch *batch)
{
    for (size_t i = 0; i < batch->run_count; i++) {
        if (!atomic_load_explicit(batch->runs[i].cancelled, memory_order_relaxed))
            return false;
    }
    return true;
}

static void over_rows(struct forward *forward,
                      void (*step)(void *context, size_t row, unsigned thread))
{
    pool_run(forward->options.pool, forward->batch->rows, step, forward);
}

static void run_attention(struct forward *forward)
{
    const struct layer *layer = forward->layer;
    const struct workspace *work = &forward->workspace;
    size_t rows = forward->batch->rows;
    over_rows(forward, prepare_attention_row);
    struct products products = {.forward = forward, .columns = rows};
    add_product(&products, &layer->query, work->query);
    add_product(&products, &layer->key, work->key);
    add_product(&products, &layer->value, work->value);
    run_products(&products);
    over_rows(forward, store_row);
    attend_layer(&forward->attend, forward->layer_index, work->query);
    over_rows(forward, finish_attention_row);
    multiply(forward, &layer->attention_output, rows, work->y);
}

static void run_feed_forward(struct forward *forward)
{
    const struct layer *layer = forward->layer;
    const struct workspace *work = &forward->workspace;
    size_t rows = forward->batch->rows;
    over_rows(forward, prepare_ff_row);
    struct products products = {.forward = forward, .columns = rows};
    add_product(&products, &layer->gate, work->gate);
    add_product(&products, &layer->up, work->up);
    run_products(&products);
    over_rows(forward, activate_row);
    multiply(forward, &layer->down, rows, work->y);
    over_rows(forward, finish_layer_row);
}

/* The batch row of each wanted row of logits. */
static size_t gather_logit_rows(const struct batch *batch, size_t *rows)
{
    size_t count = 0, first = 0;
    for (size_t i = 0; i < batch->run_count; i++) {
        const struct run *run = &batch->runs[i];
        for (uint32_t j = 0; j < run->count; j++) {
            if (run->wants_logits[j])
                rows[count++] = first + j;
        }
        first += run->count;
    }
    return count;
}

static void run_output(struct forward *forward)
{
    const struct model *model = forward->options.model;
    struct workspace *work = &forward->workspace;
    size_t n = model->shape.embedding_length;
    size_t count = work->logit_row_count;
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        float *normed = workspace_scratch(work, 0);
        const float *x = workspace_row(work->x, work->logit_rows[i], n);
        forward->options.kernels->vector.rms_norm(x, model->output_norm, model->shape.norm_eps, n,
                                                  normed);
        quantize_row(forward, normed, n, i, form_bit(&model->output));
    }
    multiply(forward, &model->output, count, work->logits);
    if (model->shape.logit_cap > 0.0f)
        forward->options.kernels->vector.soft_cap(work->logits, model->shape.logit_cap,
                                                  count * model->shape.vocabulary);
}

int forward_run(struct forward *forward, const struct batch *batch, struct hearth_error *err)
{
    const struct model *model = forward->options.model;
    assert(batch->rows > 0 && batch->rows <= forward->options.rows_max);
    struct workspace *work = &forward->workspace;
    work->logit_row_count = gather_logit_rows(batch, work->logit_rows);
    int status = workspace_reserve_logits(work, work->logit_row_count, err);
    if (!status)
        status = attend_reserve(&forward->attend, batch, err);
    if (status)
        return status;
    forward->batch = batch;
    over_rows(forward, embed_row);
    for (uint32_t l = 0; l < model->shape.layer_count; l++) {
        forward->layer = &model->layers[l];
        forward->layer_index = l;
        if (all_cancelled(batch))
            return error_set(err, HEARTH_E_CANCELLED, "cancelled");
        run_attention(forward);
        if (all_cancelled(batch))
            return error_set(err, HEARTH_E_CANCELLED, "cancelled");
        run_feed_forward(forward);
    }
    run_output(forward);
    return 0;
}

int forward_create(const struct forward_options *options, struct forward **out,
                   struct hearth_error *err)
{
    struct forward *forward = MEM_NEW(struct forward);
    if (!forward)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the forward pass");
    forward->options = *options;
    unsigned threads = pool_threads(options->pool);
    int status =
        workspace_init(&forward->workspace, options->model, options->rows_max, threads, err);
    if (!status)
        status = attend_init(&forward->attend, &forward->options, err);
    if (status) {
        forward_destroy(forward);
        return status;
    }
    *out = forward;
    return 0;
}

void forward_destroy(struct forward *forward)
{
    if (!forward)
        return;
    attend_finish(&forward->attend);
    workspace_finish(&forward->workspace);
    mem_free(forward);
}

const float *forward_logits(const struct forward *forward, size_t row)
{
    return forward->workspace.logits + row * forward->options.model->shape.vocabulary;
}

uint64_t forward_bytes(const struct forward *forward)
{
    return workspace_bytes(&forward->workspace) + attend_bytes(&forward->attend);
}
