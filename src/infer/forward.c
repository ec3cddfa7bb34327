#include "infer/forward.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "infer/attend.h"
#include "infer/workspace.h"

/* Rows of a matrix that one item of a parallel product computes: whole panels of every tier. */
#define PRODUCT_ROWS 64

/* Between two looks at cancelled sequences, while weights are waited for. */
#define WAIT_NS 20000000u

struct forward {
    struct forward_options options;
    struct workspace workspace;
    struct attend attend;
    const struct batch *batch; /* of the rows that are computed, */
    const struct batch *all;   /* and of all that somebody still waits for */
    struct batch live;         /* of the runs that were not cancelled, see leave_out_cancelled() */
    struct run *live_runs;     /* [live_capacity] */
    size_t live_capacity;
    struct batch narrow;       /* of the rows that are wanted, see narrow_batch() */
    size_t logit_rows;         /* how many rows of the batch want logits, */
    size_t state_rows;         /* and how many their state */
    uint32_t *outputs;         /* [rows_max]: the batch's rows that want logits, then the others */
    const struct layer *layer; /* that is being computed */
    uint32_t layer_index;
};

/* ---- matrix products ---- */

struct operands {
    const struct matrix *matrix;
    const void *x; /* [columns]: activations in the form that the matrix multiplies with */
    size_t columns;
    const uint8_t *marks; /* NULL, or those of x, with as many columns of outliers behind it */
};

struct product {
    struct operands operands;
    float *y; /* [columns][matrix->rows] */
    size_t items, rows_per_item;
};

struct products {
    const struct forward *forward;
    struct product list[3];
    size_t count;
};

/* The marks of the batch's rows, NULL where there are none. */
static const uint8_t *marks_if_any(const struct forward *forward, const struct matrix *matrix,
                                   const uint8_t *marks)
{
    size_t per_row = activation_marks(activation_form_of(matrix->type), matrix->columns);
    for (size_t i = 0; i < per_row * forward->batch->rows; i++) {
        if (marks[i] != 0)
            return marks;
    }
    return NULL;
}

/* A matrix and the activations of the batch. */
static struct operands with_activations(const struct forward *forward, const struct matrix *matrix)
{
    enum activation_form form = activation_form_of(matrix->type);
    const uint8_t *marks = marks_if_any(forward, matrix, forward->workspace.marks[form]);
    return (struct operands){matrix, forward->workspace.activations[form], forward->batch->rows,
                             marks};
}

static struct operands with_gated(const struct forward *forward)
{
    const struct matrix *down = &forward->layer->down;
    const struct workspace *work = &forward->workspace;
    return (struct operands){down, work->gated, forward->batch->rows,
                             marks_if_any(forward, down, work->gated_marks)};
}

/* A few items a thread even out what the threads do; one item is at least `unit` rows. */
static size_t rows_per_item(const struct forward *forward, size_t rows, size_t unit)
{
    size_t share = rows / (pool_used(forward->options.pool) * 8) / unit * unit;
    return share > unit ? share : unit;
}

static size_t items_of(size_t rows, size_t per_item)
{
    return (rows + per_item - 1) / per_item;
}

static size_t end_of(size_t begin, size_t per_item, size_t rows)
{
    return rows - begin < per_item ? rows : begin + per_item;
}

/* Computes rows begin to end - 1 of a product. y is [columns][y_stride], its first element that of
 * row `begin`. */
static void multiply_rows(const struct forward *forward, const struct operands *operands,
                          size_t begin, size_t end, float *y, size_t y_stride)
{
    const struct matrix *matrix = operands->matrix;
    const struct matmul task = {
        .type = matrix->type,
        .weights = (const char *)matrix->data + begin * matrix->row_bytes,
        .row_bytes = matrix->row_bytes,
        .k = matrix->columns,
        .row_begin = 0,
        .row_end = end - begin,
        .x = operands->x,
        .columns = operands->columns,
        .marks = operands->marks,
        .y = y,
        .y_stride = y_stride,
    };
    forward->options.kernels->matmul[matrix->type](&task);
    for (size_t c = 0; matrix->bias && c < operands->columns; c++)
        forward->options.kernels->vector.add(y + c * y_stride, matrix->bias + begin, end - begin);
}

static void add_product(struct products *products, struct operands operands, float *y)
{
    size_t rows = operands.matrix->rows;
    size_t per_item = rows_per_item(products->forward, rows, PRODUCT_ROWS);
    products->list[products->count++] =
        (struct product){operands, y, items_of(rows, per_item), per_item};
}

static void compute_product_item(void *context, size_t item, unsigned thread)
{
    (void)thread;
    const struct products *products = context;
    const struct product *product = products->list;
    for (; item >= product->items; product++)
        item -= product->items;
    size_t rows = product->operands.matrix->rows;
    size_t begin = item * product->rows_per_item;
    size_t end = end_of(begin, product->rows_per_item, rows);
    multiply_rows(products->forward, &product->operands, begin, end, product->y + begin, rows);
}

static void run_products(struct products *products)
{
    size_t items = 0;
    for (size_t i = 0; i < products->count; i++)
        items += products->list[i].items;
    pool_run(products->forward->options.pool, items, compute_product_item, products);
}

static void multiply(const struct forward *forward, struct operands operands, float *y)
{
    struct products products = {.forward = forward};
    add_product(&products, operands, y);
    run_products(&products);
}

static unsigned form_bit(const struct matrix *matrix)
{
    return 1u << activation_form_of(matrix->type);
}

/* One of the batch's rows, n of its elements from `begin` on, into a form: into `rows` of `width`
 * elements, the outliers of all rows behind them, and into `marks`. */
struct activation_place {
    enum activation_form form;
    char *rows;
    uint8_t *marks;
    size_t width, row, begin;
};

static void quantize_part(const struct forward *forward, float *x, size_t n,
                          const struct activation_place *place)
{
    const struct kernels *kernels = forward->options.kernels;
    enum activation_form form = place->form;
    size_t bytes = activation_row_bytes(form, place->width);
    char *at = place->rows + place->row * bytes + activation_offset(form, place->begin);
    size_t marks = place->row * activation_marks(form, place->width);
    if (form == ACTIVATION_F32) {
        kernels->quantize[form](x, n, at);
        return;
    }
    const struct activation_columns columns = {
        .rest = at,
        .outliers = at + forward->batch->rows * bytes,
        .marks = place->marks + marks + place->begin / activation_run(form),
    };
    activation_split(kernels, form, x, n, &columns);
}

/* Brings one row of n floats into the forms of a set of bits. */
static void quantize_row(const struct forward *forward, float *x, size_t n, size_t row,
                         unsigned forms)
{
    for (unsigned f = 0; f < ACTIVATION_FORMS; f++) {
        const struct activation_place place = {
            .form = (enum activation_form)f,
            .rows = forward->workspace.activations[f],
            .marks = forward->workspace.marks[f],
            .width = n,
            .row = row,
        };
        if (forms & 1u << f)
            quantize_part(forward, x, n, &place);
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

static void embed(const struct forward *forward, size_t row)
{
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
        float *angles = workspace_angles(work, kind, row);
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

static void normalize_for(const struct forward *forward, const struct layer *layer, size_t row,
                          unsigned thread)
{
    normalize_row(forward, layer->attention_norm, row, thread,
                  form_bit(&layer->query) | form_bit(&layer->key) | form_bit(&layer->value));
}

static void begin_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    embed(forward, row);
    normalize_for(forward, forward->options.model->layers, row, thread);
}

static void rotate_heads(const struct forward *forward, float *heads, uint32_t count,
                         const float *norm, size_t row)
{
    const struct vector_kernels *vector = &forward->options.kernels->vector;
    const struct model *model = forward->options.model;
    const struct rope *rope = forward->layer->rope;
    size_t size = model->shape.key_size;
    const float *angles = workspace_angles(&forward->workspace, rope == &model->rope ? 0 : 1, row);
    for (uint32_t h = 0; h < count; h++) {
        float *head = heads + h * size;
        if (norm)
            vector->rms_norm(head, norm, model->shape.norm_eps, size, head);
        if (model->architecture->rope_order == ROPE_NEOX)
            vector->rope_neox(head, angles, angles + rope->pairs, rope->pairs);
        else
            vector->rope_normal(head, angles, angles + rope->pairs, rope->pairs);
        if (kv_type_rotates(kv_pool_key_type(forward->options.kv)))
            vector->hadamard(head, size);
    }
}

static void rotate_query_row(void *context, size_t row, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    const struct layer *layer = forward->layer;
    float *query = workspace_row(forward->workspace.query, row, layer->query.rows);
    rotate_heads(forward, query, forward->options.model->shape.layers[forward->layer_index].heads,
                 layer->query_norm, row);
}

/* Rotates a row's keys and stores its keys and values in their block. */
static void store_row(void *context, size_t row, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    const struct workspace *work = &forward->workspace;
    const struct model_shape *shape = &forward->options.model->shape;
    const struct layer *layer = forward->layer;
    uint32_t heads = shape->layers[forward->layer_index].kv_heads, within;
    const struct run *run = find_run(forward->batch, row, &within);
    float *keys = workspace_row(work->key, row, layer->key.rows);
    float *values = workspace_row(work->value, row, layer->value.rows);
    rotate_heads(forward, keys, heads, layer->key_norm, row);

    uint32_t position = run->position + within;
    uint32_t group = kv_layer_group(forward->options.kv, forward->layer_index);
    enum kv_type key_type = kv_pool_key_type(forward->options.kv);
    enum kv_type value_type = kv_pool_value_type(forward->options.kv);
    char *block = run->table->groups[group].blocks[position / KV_BLOCK_TOKENS];
    for (uint32_t h = 0; h < heads; h++) {
        char *part = block + kv_part_offset(forward->options.kv, forward->layer_index, h);
        const struct vector_kernels *vector = &forward->options.kernels->vector;
        float *value = values + h * shape->value_size;
        if (kv_type_rotates(value_type))
            vector->hadamard(value, shape->value_size);
        vector->store_key[key_type](keys + h * shape->key_size, shape->key_size, part,
                                    position % KV_BLOCK_TOKENS);
        vector->store_value[value_type](value, shape->value_size,
                                        part + kv_key_bytes(key_type, shape->key_size),
                                        position % KV_BLOCK_TOKENS);
    }
}

static void rotate_and_store_row(void *context, size_t row, unsigned thread)
{
    rotate_query_row(context, row, thread);
    store_row(context, row, thread);
}

static void normalize_query_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    const struct layer *layer = forward->layer;
    normalize_row(forward, layer->attention_norm, row, thread, form_bit(&layer->query));
}

static void finish_attention_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    const struct matrix *output = &forward->layer->attention_output;
    float *values = workspace_scratch(&forward->workspace, thread);
    attend_row(&forward->attend, row, values);
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

/* Rows of gate and up in one item: whole runs of the form that `down` multiplies with. */
static size_t gated_rows_per_item(const struct forward *forward)
{
    const struct matrix *down = &forward->layer->down;
    enum activation_form form = activation_form_of(down->type);
    size_t unit = form == ACTIVATION_F32 ? PRODUCT_ROWS : activation_run(form);
    return rows_per_item(forward, down->columns, unit);
}

/* gate becomes activation(gate) * up, and that the elements from `begin` on of row `row` of what
 * `down` multiplies with. */
static void activate(const struct forward *forward, float *gate, const float *up, size_t n,
                     size_t begin, size_t row)
{
    const struct kernels *kernels = forward->options.kernels;
    const struct matrix *down = &forward->layer->down;
    const struct activation_place place = {
        .form = activation_form_of(down->type),
        .rows = forward->workspace.gated,
        .marks = forward->workspace.gated_marks,
        .width = down->columns,
        .row = row,
        .begin = begin,
    };
    if (forward->options.model->architecture->activation == ACTIVATION_GELU)
        kernels->vector.gelu_mul(gate, up, n);
    else
        kernels->vector.silu_mul(gate, up, n);
    quantize_part(forward, gate, n, &place);
}

/* Some rows of gate and up through the activation into the form that `down` multiplies with: what
 * lies between stays in the thread's tile, in cache. */
static void compute_gated_item(void *context, size_t item, unsigned thread)
{
    const struct forward *forward = context;
    const struct operands gate = with_activations(forward, &forward->layer->gate);
    const struct operands up = with_activations(forward, &forward->layer->up);
    size_t per_item = gated_rows_per_item(forward), rows = gate.matrix->rows;
    size_t end = end_of(item * per_item, per_item, rows);
    for (size_t begin = item * per_item, n; begin < end; begin += n) {
        n = end_of(begin, TILE_ROWS, end) - begin;
        float *gates = workspace_tile(&forward->workspace, thread), *ups = gates + gate.columns * n;
        multiply_rows(forward, &gate, begin, begin + n, gates, n);
        multiply_rows(forward, &up, begin, begin + n, ups, n);
        for (size_t c = 0; c < gate.columns; c++)
            activate(forward, gates + c * n, ups + c * n, n, begin, c);
    }
}

static void finish_layer_row(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    add_residual(forward, forward->layer->ff_post_norm, row);
    if (forward->layer_index + 1 < forward->options.model->shape.layer_count)
        normalize_for(forward, forward->layer + 1, row, thread);
}

/* ---- the pass ---- */

static bool is_cancelled(const struct run *run)
{
    return atomic_load_explicit(run->cancelled, memory_order_relaxed);
}

static size_t count_cancelled(const struct batch *batch)
{
    size_t count = 0;
    for (size_t i = 0; i < batch->run_count; i++)
        count += is_cancelled(&batch->runs[i]);
    return count;
}

static bool all_cancelled(const struct batch *batch)
{
    return count_cancelled(batch) == batch->run_count;
}

/* Until a stage of the weights has been read; between two looks whether anybody still wants it. */
static int wait_for_weights(const struct forward *forward, uint32_t stage, struct hearth_error *err)
{
    const struct loader *loader = forward->options.model->loader;
    bool waited = false, wanted = true;
    while (wanted && !loader_wait(loader, stage, WAIT_NS)) {
        wanted = !all_cancelled(forward->all) && loader_report(loader);
        waited = true;
    }
    if (wanted && waited)
        wanted = loader_report(loader); /* the last stage brings it to 1 */
    return wanted ? 0 : error_set(err, HEARTH_E_CANCELLED, "cancelled");
}

static void over_rows(struct forward *forward,
                      void (*step)(void *context, size_t row, unsigned thread))
{
    pool_run(forward->options.pool, forward->batch->rows, step, forward);
}

static size_t count_rows(const struct batch *batch, enum want want)
{
    size_t count = 0;
    for (size_t i = 0; i < batch->run_count; i++) {
        for (uint32_t j = 0; j < batch->runs[i].count; j++)
            count += batch->runs[i].wants[j] == want;
    }
    return count;
}

static void count_wanted(struct forward *forward)
{
    forward->logit_rows = count_rows(forward->batch, WANT_LOGITS);
    forward->state_rows = count_rows(forward->batch, WANT_STATE);
}

/* ---- runs that are cancelled while others are computed ---- */

static bool reserve_live(struct forward *forward, size_t count)
{
    if (count <= forward->live_capacity)
        return true;
    struct run *runs = mem_alloc_array(count, sizeof *runs);
    if (!runs)
        return false;
    mem_free(forward->live_runs);
    forward->live_runs = runs;
    forward->live_capacity = count;
    return true;
}

/* Moves what a run has between two layers up, to the rows from `to` on. */
static void move_run(struct forward *forward, const struct run *run, size_t to, size_t from)
{
    struct workspace *work = &forward->workspace;
    const struct model_shape *shape = &forward->options.model->shape;
    size_t n = shape->embedding_length, angles = run->count * work->pairs_max * 2 * sizeof(float);
    unsigned kinds = shape->window ? ROPE_KINDS : 1;
    if (to == from)
        return;
    memmove(workspace_row(work->x, to, n), workspace_row(work->x, from, n),
            run->count * n * sizeof(float));
    for (unsigned kind = 0; kind < kinds; kind++)
        memmove(workspace_angles(work, kind, to), workspace_angles(work, kind, from), angles);
}

static void normalize_again(void *context, size_t row, unsigned thread)
{
    const struct forward *forward = context;
    normalize_for(forward, forward->layer, row, thread);
}

/* Before a layer. What the one before made ready for it lies by the number of rows, so it is made
 * ready again for those that stay, from the same numbers. Without memory all are computed on. */
static int leave_out_cancelled(struct forward *forward, struct hearth_error *err)
{
    const struct batch *whole = forward->batch;
    size_t row = 0;
    if (count_cancelled(whole) == 0)
        return 0;
    if (whole != &forward->live && !reserve_live(forward, whole->run_count))
        return 0;
    struct batch live = {.runs = forward->live_runs};
    for (size_t i = 0; i < whole->run_count; i++) {
        const struct run run = whole->runs[i];
        if (is_cancelled(&run)) {
            *run.left_out = true;
        } else {
            move_run(forward, &run, live.rows, row);
            forward->live_runs[live.run_count++] = run;
            live.rows += run.count;
        }
        row += run.count;
    }
    forward->live = live;
    forward->batch = forward->all = &forward->live;
    count_wanted(forward);
    if (live.rows == 0)
        return error_set(err, HEARTH_E_CANCELLED, "cancelled");
    over_rows(forward, normalize_again);
    return attend_reserve(&forward->attend, forward->batch, err);
}

/* Leaves the wanted rows of a run in the batch: as runs of their own, x and the angles moved up.
 * Their ids are not needed any more. */
static void narrow_run(struct forward *forward, const struct run *run, size_t first_row)
{
    struct workspace *work = &forward->workspace;
    struct batch *narrow = &forward->narrow;
    size_t n = forward->options.model->shape.embedding_length;
    unsigned kind = forward->layer->rope == &forward->options.model->rope ? 0 : 1;
    size_t angles = 2 * forward->layer->rope->pairs * sizeof(float);
    struct run *part = NULL;
    for (uint32_t i = 0; i < run->count; i++) {
        if (run->wants[i] == WANT_NOTHING) {
            part = NULL;
            continue;
        }
        if (!part) {
            part = &work->runs[narrow->run_count++];
            *part = *run;
            part->position = run->position + i;
            part->wants = run->wants + i;
            part->count = 0;
        }
        size_t to = narrow->rows++, from = first_row + i;
        memmove(workspace_row(work->x, to, n), workspace_row(work->x, from, n), n * sizeof(float));
        memmove(workspace_angles(work, kind, to), workspace_angles(work, kind, from), angles);
        part->count++;
    }
}

/* Behind the keys and values of the last layer only those rows count that are wanted: the rest of
 * the pass is computed for them alone. */
static int narrow_batch(struct forward *forward, struct hearth_error *err)
{
    const struct batch *whole = forward->batch;
    forward->narrow = (struct batch){.runs = forward->workspace.runs};
    size_t first = 0;
    for (size_t i = 0; i < whole->run_count; i++) {
        narrow_run(forward, &whole->runs[i], first);
        first += whole->runs[i].count;
    }
    forward->batch = &forward->narrow;
    return attend_reserve(&forward->attend, forward->batch, err);
}

static void run_query_key_value(struct forward *forward)
{
    const struct layer *layer = forward->layer;
    const struct workspace *work = &forward->workspace;
    struct products products = {.forward = forward};
    add_product(&products, with_activations(forward, &layer->query), work->query);
    add_product(&products, with_activations(forward, &layer->key), work->key);
    add_product(&products, with_activations(forward, &layer->value), work->value);
    run_products(&products);
    over_rows(forward, rotate_and_store_row);
}

/* In the last layer, where some rows are not wanted. */
static int run_query_key_value_narrow(struct forward *forward, struct hearth_error *err)
{
    const struct layer *layer = forward->layer;
    const struct workspace *work = &forward->workspace;
    struct products products = {.forward = forward};
    add_product(&products, with_activations(forward, &layer->key), work->key);
    add_product(&products, with_activations(forward, &layer->value), work->value);
    run_products(&products);
    over_rows(forward, store_row);
    int status = narrow_batch(forward, err);
    if (status || forward->batch->rows == 0)
        return status;
    over_rows(forward, normalize_query_row);
    multiply(forward, with_activations(forward, &layer->query), work->query);
    over_rows(forward, rotate_query_row);
    return 0;
}

static void run_attention(struct forward *forward)
{
    const struct workspace *work = &forward->workspace;
    attend_layer(&forward->attend, forward->layer_index, work->query);
    over_rows(forward, finish_attention_row);
    multiply(forward, with_activations(forward, &forward->layer->attention_output), work->y);
}

static void run_feed_forward(struct forward *forward)
{
    const struct layer *layer = forward->layer;
    over_rows(forward, prepare_ff_row);
    pool_run(forward->options.pool, items_of(layer->down.columns, gated_rows_per_item(forward)),
             compute_gated_item, forward);
    multiply(forward, with_gated(forward), forward->workspace.y);
    over_rows(forward, finish_layer_row);
}

static int run_layer(struct forward *forward, struct hearth_error *err)
{
    bool last = forward->layer_index + 1 == forward->options.model->shape.layer_count;
    int status = 0;
    if (last && forward->logit_rows + forward->state_rows < forward->batch->rows)
        status = run_query_key_value_narrow(forward, err);
    else
        run_query_key_value(forward);
    if (status || forward->batch->rows == 0)
        return status;
    run_attention(forward);
    if (all_cancelled(forward->all))
        return error_set(err, HEARTH_E_CANCELLED, "cancelled");
    run_feed_forward(forward);
    return 0;
}

/* ---- logits ---- */

/* How many columns of activations a row of logits takes. Rounding to int8 just before the logits
 * costs more than anywhere else, so quantized matrices multiply with a second column, the rounding
 * errors of the first: decoding is bound by the bytes of the matrix, not by its products. */
static size_t columns_per_logits(const struct forward *forward)
{
    bool floats = activation_form_of(forward->options.model->output.type) == ACTIVATION_F32;
    return floats ? 1 : 2;
}

static void prepare_logits_row(void *context, size_t index, unsigned thread)
{
    const struct forward *forward = context;
    size_t row = forward->outputs[index];
    const struct model *model = forward->options.model;
    const struct workspace *work = &forward->workspace;
    const struct kernels *kernels = forward->options.kernels;
    enum activation_form form = activation_form_of(model->output.type);
    size_t n = model->shape.embedding_length, columns = columns_per_logits(forward);
    size_t bytes = activation_row_bytes(form, n);
    char *rounded = (char *)work->activations[form] + columns * index * bytes;
    float *normed = workspace_scratch(work, thread);
    kernels->vector.rms_norm(workspace_row(work->x, row, n), model->output_norm,
                             model->shape.norm_eps, n, normed);
    kernels->quantize[form](normed, n, rounded);
    if (columns == 1)
        return;
    activation_subtract(form, rounded, n, normed);
    kernels->quantize[form](normed, n, rounded + bytes);
}

static size_t logits_per_item(const struct forward *forward)
{
    size_t rows = rows_per_item(forward, forward->options.model->output.rows, PRODUCT_ROWS);
    size_t columns = columns_per_logits(forward) * forward->logit_rows;
    size_t fits = forward->workspace.tile_floats / columns / PRODUCT_ROWS * PRODUCT_ROWS;
    return rows < fits ? rows : fits;
}

static void compute_logits_item(void *context, size_t item, unsigned thread)
{
    const struct forward *forward = context;
    const struct model *model = forward->options.model;
    const struct vector_kernels *vector = &forward->options.kernels->vector;
    size_t per_item = logits_per_item(forward), columns = columns_per_logits(forward);
    size_t begin = item * per_item, n = end_of(begin, per_item, model->output.rows) - begin;
    float *tile = workspace_tile(&forward->workspace, thread);
    struct matrix output = model->output;
    output.bias = NULL;
    const struct operands operands = {
        .matrix = &output,
        .x = forward->workspace.activations[activation_form_of(output.type)],
        .columns = columns * forward->logit_rows,
    };
    multiply_rows(forward, &operands, begin, begin + n, tile, n);
    for (size_t row = 0; row < forward->logit_rows; row++, tile += columns * n) {
        float *logits = workspace_row(forward->workspace.logits, row, model->shape.vocabulary);
        if (columns == 2)
            vector->add(tile, tile + n, n);
        if (model->output.bias)
            vector->add(tile, model->output.bias + begin, n);
        if (model->shape.logit_cap > 0.0f)
            vector->soft_cap(tile, model->shape.logit_cap, n);
        memcpy(logits + begin, tile, n * sizeof(float));
    }
}

/* ---- what a pass gives ---- */

/* In place. */
static void finish_state(void *context, size_t index, unsigned thread)
{
    (void)thread;
    const struct forward *forward = context;
    const struct model *model = forward->options.model;
    size_t n = model->shape.embedding_length;
    float *x =
        workspace_row(forward->workspace.x, forward->outputs[forward->logit_rows + index], n);
    forward->options.kernels->vector.rms_norm(x, model->output_norm, model->shape.norm_eps, n, x);
}

/* The rows of the batch that are wanted. */
static void list_outputs(struct forward *forward)
{
    const struct batch *batch = forward->batch;
    uint32_t *logits = forward->outputs, *states = logits + forward->logit_rows, row = 0;
    for (size_t i = 0; i < batch->run_count; i++) {
        for (uint32_t j = 0; j < batch->runs[i].count; j++, row++) {
            if (batch->runs[i].wants[j] == WANT_LOGITS)
                *logits++ = row;
            else if (batch->runs[i].wants[j] == WANT_STATE)
                *states++ = row;
        }
    }
}

static void run_output(struct forward *forward)
{
    list_outputs(forward);
    pool_run(forward->options.pool, forward->state_rows, finish_state, forward);
    if (forward->logit_rows == 0)
        return;
    pool_run(forward->options.pool, forward->logit_rows, prepare_logits_row, forward);
    pool_run(forward->options.pool,
             items_of(forward->options.model->output.rows, logits_per_item(forward)),
             compute_logits_item, forward);
}

int forward_run(struct forward *forward, const struct batch *batch, struct hearth_error *err)
{
    const struct model *model = forward->options.model;
    assert(batch->rows > 0 && batch->rows <= forward->options.rows_max);
    forward->batch = forward->all = batch;
    count_wanted(forward);
    int status = workspace_reserve_logits(&forward->workspace, forward->logit_rows, err);
    if (!status)
        status = attend_reserve(&forward->attend, batch, err);
    for (uint32_t l = 0; l < model->shape.layer_count && !status; l++) {
        forward->layer = &model->layers[l];
        forward->layer_index = l;
        if (all_cancelled(forward->all))
            return error_set(err, HEARTH_E_CANCELLED, "cancelled");
        status = wait_for_weights(forward, l, err);
        if (!status && l == 0)
            over_rows(forward, begin_row);
        else if (!status)
            status = leave_out_cancelled(forward, err);
        if (!status)
            status = run_layer(forward, err);
    }
    if (!status)
        status = wait_for_weights(forward, model->shape.layer_count, err);
    if (!status)
        run_output(forward);
    return status;
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
    if (!status) {
        forward->outputs = mem_alloc_array(options->rows_max, sizeof *forward->outputs);
        if (!forward->outputs)
            status = error_set(err, HEARTH_E_MEMORY, "no memory for the forward pass");
    }
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
    mem_free(forward->outputs);
    mem_free(forward->live_runs);
    mem_free(forward);
}

const float *forward_logits(const struct forward *forward, size_t row)
{
    return forward->workspace.logits + row * forward->options.model->shape.vocabulary;
}

const float *forward_state(const struct forward *forward, size_t row)
{
    return workspace_row(forward->workspace.x, forward->outputs[forward->logit_rows + row],
                         forward->options.model->shape.embedding_length);
}

uint64_t forward_bytes(const struct forward *forward)
{
    return workspace_bytes(&forward->workspace) + attend_bytes(&forward->attend);
}

uint64_t forward_bytes_for(const struct model *model, uint32_t rows_max, unsigned threads,
                           size_t logit_rows, uint32_t context)
{
    return workspace_bytes_for(model, rows_max, threads, logit_rows) +
           attend_bytes_for(model, rows_max, threads, context);
}

void forward_release(struct forward *forward)
{
    workspace_release(&forward->workspace);
    attend_release(&forward->attend);
}
