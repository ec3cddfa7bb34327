#include "infer/workspace.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

/* The widest row of each kind over all layers. */
struct widths {
    size_t query, key, value, attention;
    size_t gated_bytes;
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static struct widths widths_of(const struct model *model)
{
    const struct model_shape *shape = &model->shape;
    struct widths widths = {0};
    for (uint32_t l = 0; l < shape->layer_count; l++) {
        const struct layer *layer = &model->layers[l];
        widths.query = larger(widths.query, layer->query.rows);
        widths.key = larger(widths.key, layer->key.rows);
        widths.value = larger(widths.value, layer->value.rows);
        enum activation_form form = activation_form_of(layer->down.type);
        widths.gated_bytes =
            larger(widths.gated_bytes, activation_row_bytes(form, layer->down.columns));
        widths.attention = larger(widths.attention, layer->attention_output.columns);
    }
    return widths;
}

/* `rows` rows of `bytes` each; NULL once anything failed. */
static void *area(struct workspace *workspace, size_t rows, size_t bytes)
{
    size_t size;
    assert(workspace->area_count < sizeof workspace->areas / sizeof workspace->areas[0]);
    if (!checked_mul_size(rows, bytes, &size))
        return NULL;
    void *memory = mem_pages_alloc(size);
    if (memory)
        workspace->areas[workspace->area_count++] = (struct workspace_area){memory, size};
    return memory;
}

int workspace_init(struct workspace *workspace, const struct model *model, size_t rows_max,
                   unsigned threads, struct hearth_error *err)
{
    struct widths widths = widths_of(model);
    size_t embedding = model->shape.embedding_length;
    size_t widest = larger(embedding, widths.attention);
    *workspace = (struct workspace){
        .rows_max = rows_max,
        .pairs_max = model->rope.pairs,
        .scratch_width = (widest + 15) / 16 * 16,
        .tile_floats = 2 * TILE_ROWS * rows_max,
        .vocabulary = model->shape.vocabulary,
    };
    struct workspace *w = workspace;
    const size_t f = sizeof(float);
    w->x = area(w, rows_max, embedding * f);
    w->y = area(w, rows_max, embedding * f);
    w->query = area(w, rows_max, widths.query * f);
    w->key = area(w, rows_max, widths.key * f);
    w->value = area(w, rows_max, widths.value * f);
    w->tiles = area(w, threads, w->tile_floats * f);
    w->angles = area(w, ROPE_KINDS * rows_max, 2 * w->pairs_max * f);
    w->scratch = area(w, threads, w->scratch_width * f);
    w->gated = area(w, rows_max, widths.gated_bytes);
    w->runs = area(w, rows_max, sizeof *w->runs);
    bool whole = w->x && w->y && w->query && w->key && w->value && w->tiles && w->gated &&
                 w->angles && w->scratch && w->runs;
    for (unsigned form = 0; form < ACTIVATION_FORMS; form++) {
        size_t bytes = activation_row_bytes((enum activation_form)form, widest);
        w->activations[form] = area(w, 2 * rows_max, bytes);
        whole = whole && w->activations[form];
    }
    if (!whole) {
        workspace_finish(workspace);
        return error_set(err, HEARTH_E_MEMORY, "no memory to compute %zu tokens at once", rows_max);
    }
    return 0;
}

static size_t logits_size(const struct workspace *workspace)
{
    return workspace->logits_capacity * workspace->vocabulary * sizeof(float);
}

void workspace_finish(struct workspace *workspace)
{
    mem_pages_free(workspace->logits, logits_size(workspace));
    for (size_t i = 0; i < workspace->area_count; i++)
        mem_pages_free(workspace->areas[i].memory, workspace->areas[i].size);
    *workspace = (struct workspace){0};
}

int workspace_reserve_logits(struct workspace *workspace, size_t rows, struct hearth_error *err)
{
    size_t row_bytes = workspace->vocabulary * sizeof(float), size;
    if (rows <= workspace->logits_capacity)
        return 0;
    float *logits = checked_mul_size(rows, row_bytes, &size) ? mem_pages_alloc(size) : NULL;
    if (!logits)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %zu rows of logits", rows);
    mem_pages_free(workspace->logits, logits_size(workspace));
    workspace->logits = logits;
    workspace->logits_capacity = rows;
    return 0;
}

uint64_t workspace_bytes(const struct workspace *workspace)
{
    uint64_t bytes = logits_size(workspace);
    for (size_t i = 0; i < workspace->area_count; i++)
        bytes += workspace->areas[i].size;
    return bytes;
}
