/* The parts of hearth.h for measuring: what the machine can do, and what a model asks of it. */

#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "infer/engine.h"

#define PEAK_SECONDS 0.03

/* ---- limits ---- */

enum { TOUCH_BYTES = 1 << 20 };

/* Pages that were never written are all the same page of zeros, which a cache holds. */
static void touch_item(void *context, size_t item, unsigned thread)
{
    (void)thread;
    memset((unsigned char *)context + item * TOUCH_BYTES, 1, TOUCH_BYTES);
}

static int measure_read(struct hearth_engine *engine, double *out, struct hearth_error *err)
{
    unsigned char *bytes = mem_pages_alloc(LIMITS_READ_BYTES);
    if (!bytes)
        return error_set(err, HEARTH_E_MEMORY, "no memory to measure how fast it is read");
    os_pages_prefer_large(bytes, LIMITS_READ_BYTES); /* no faster to read, but sooner there */
    pool_run(engine->pool, LIMITS_READ_BYTES / TOUCH_BYTES, touch_item, bytes);
    *out = limits_measure_read(&engine->kernels, engine->pool, bytes, LIMITS_READ_BYTES);
    mem_pages_free(bytes, LIMITS_READ_BYTES);
    return 0;
}

static double measure_peak(struct hearth_engine *engine, enum arithmetic kind)
{
    if (!engine->kernels.limits.peak[kind].run)
        return 0;
    return limits_measure_peak(&engine->kernels, engine->pool, kind, PEAK_SECONDS);
}

int hearth_engine_limits(struct hearth_engine *engine, unsigned what, struct hearth_limits *out,
                         struct hearth_error *err)
{
    struct hearth_limits limits = {0};
    if (what & HEARTH_LIMIT_READ) {
        int status = measure_read(engine, &limits.read_bytes_per_s, err);
        if (status)
            return status;
    }
    if (what & HEARTH_LIMIT_ARITHMETIC) {
        limits.int8_per_s = measure_peak(engine, ARITHMETIC_INT8);
        limits.f32_per_s = measure_peak(engine, ARITHMETIC_F32);
        limits.bf16_per_s = measure_peak(engine, ARITHMETIC_BF16);
        limits.int8_tiles_per_s = measure_peak(engine, ARITHMETIC_TILES);
    }
    *out = limits;
    return 0;
}

/* ---- work ---- */

static void add_matrix(const struct hearth_engine *engine, const struct matrix *matrix,
                       struct hearth_work *work, struct hearth_products *products)
{
    uint64_t count = (uint64_t)matrix->rows * matrix->columns;
    work->weight_bytes += (uint64_t)matrix->rows * matrix->row_bytes;
    switch (limits_arithmetic(&engine->kernels, matrix->type)) {
    case ARITHMETIC_BF16:
        products->bf16 += count;
        break;
    case ARITHMETIC_F32:
        products->f32 += count;
        break;
    default:
        products->int8 += count;
        break;
    }
}

static void add_layer(const struct hearth_engine *engine, uint32_t index, uint32_t depth,
                      struct hearth_work *work)
{
    const struct model_shape *shape = &engine->model->shape;
    const struct layer *layer = &engine->model->layers[index];
    const struct matrix *matrices[] = {
        &layer->query, &layer->key, &layer->value, &layer->attention_output,
        &layer->gate,  &layer->up,  &layer->down};
    /* Of the last layer only keys and values are needed of tokens without logits. */
    bool last = index + 1 == shape->layer_count;
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        bool kept = matrices[i] == &layer->key || matrices[i] == &layer->value;
        add_matrix(engine, matrices[i], work, last && !kept ? &work->logits : &work->token);
    }
    uint64_t seen = layer->window && layer->window <= depth ? layer->window - 1 : depth;
    size_t head = kv_head_bytes(kv_pool_key_type(engine->kv), kv_pool_value_type(engine->kv),
                                shape->key_size, shape->value_size);
    work->kv_bytes += seen * shape->layers[index].kv_heads * (head / KV_BLOCK_TOKENS);
}

void hearth_engine_work(const struct hearth_engine *engine, uint32_t depth, struct hearth_work *out)
{
    *out = (struct hearth_work){0};
    for (uint32_t l = 0; l < engine->model->shape.layer_count; l++)
        add_layer(engine, l, depth, out);
    add_matrix(engine, &engine->model->output, out, &out->logits);
}
