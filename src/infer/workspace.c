#include "infer/workspace.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "base/os.h"

/* The widest row of each kind over all layers, and the forms that matrices multiply with. */
struct widths {
    size_t query, key, value, attention;
    size_t gated_bytes, gated_marks; /* bytes: with the outliers */
    unsigned forms;                  /* bits */
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static unsigned form_bit(const struct matrix *matrix)
{
    return 1u << activation_form_of(matrix->type);
}

/* Columns of a form for one of activations: a second one for outliers, or for what rounding lost
 * before the logits. */
static size_t columns_of(enum activation_form form)
{
    return form == ACTIVATION_F32 ? 1 : 2;
}

static struct widths widths_of(const struct model *model)
{
    const struct model_shape *shape = &model->shape;
    struct widths widths = {.forms = form_bit(&model->output)};
    for (uint32_t l = 0; l < shape->layer_count; l++) {
        const struct layer *layer = &model->layers[l];
        widths.query = larger(widths.query, layer->query.rows);
        widths.key = larger(widths.key, layer->key.rows);
        widths.value = larger(widths.value, layer->value.rows);
        enum activation_form form = activation_form_of(layer->down.type);
        size_t bytes = columns_of(form) * activation_row_bytes(form, layer->down.columns);
        widths.gated_bytes = larger(widths.gated_bytes, bytes);
        widths.gated_marks =
            larger(widths.gated_marks, activation_marks(form, layer->down.columns));
        widths.attention = larger(widths.attention, layer->attention_output.columns);
        widths.forms |= form_bit(&layer->query) | form_bit(&layer->key) | form_bit(&layer->value) |
                        form_bit(&layer->attention_output) | form_bit(&layer->gate) |
                        form_bit(&layer->up);
    }
    return widths;
}

/* ---- areas ---- */

enum area {
    AREA_X,
    AREA_Y,
    AREA_QUERY,
    AREA_KEY,
    AREA_VALUE,
    AREA_TILES,
    AREA_ANGLES,
    AREA_SCRATCH,
    AREA_GATED,
    AREA_GATED_MARKS,
    AREA_RUNS,
    AREA_MARKS, /* one for each form */
    AREA_ACTIVATIONS = AREA_MARKS + ACTIVATION_FORMS,
    AREAS = AREA_ACTIVATIONS + ACTIVATION_FORMS,
};

static_assert((size_t)AREAS <= WORKSPACE_AREAS, "a workspace has room for all areas");

/* So many rows of so many bytes; no rows: nobody needs it. */
struct area_plan {
    size_t rows, bytes;
};

/* The sizes of a workspace without its memory, and what areas it has. */
static void plan_areas(struct workspace *workspace, const struct model *model, size_t rows_max,
                       unsigned threads, struct area_plan plan[AREAS])
{
    const struct widths widths = widths_of(model);
    const size_t f = sizeof(float), embedding = model->shape.embedding_length;
    const size_t kinds = model->shape.window ? ROPE_KINDS : 1;
    const size_t widest = larger(embedding, widths.attention);
    *workspace = (struct workspace){
        .rows_max = rows_max,
        .pairs_max = model->rope.pairs,
        .scratch_width = (widest + 15) / 16 * 16,
        .tile_floats = 2 * TILE_ROWS * rows_max,
        .vocabulary = model->shape.vocabulary,
    };
    plan[AREA_X] = (struct area_plan){rows_max, embedding * f};
    plan[AREA_Y] = (struct area_plan){rows_max, embedding * f};
    plan[AREA_QUERY] = (struct area_plan){rows_max, widths.query * f};
    plan[AREA_KEY] = (struct area_plan){rows_max, widths.key * f};
    plan[AREA_VALUE] = (struct area_plan){rows_max, widths.value * f};
    plan[AREA_TILES] = (struct area_plan){threads, workspace->tile_floats * f};
    plan[AREA_ANGLES] = (struct area_plan){kinds * rows_max, 2 * workspace->pairs_max * f};
    plan[AREA_SCRATCH] = (struct area_plan){threads, workspace->scratch_width * f};
    plan[AREA_GATED] = (struct area_plan){rows_max, widths.gated_bytes};
    plan[AREA_GATED_MARKS] =
        (struct area_plan){widths.gated_marks > 0 ? rows_max : 0, widths.gated_marks};
    plan[AREA_RUNS] = (struct area_plan){rows_max, sizeof(struct run)};
    for (unsigned form = 0; form < ACTIVATION_FORMS; form++) {
        size_t bytes = activation_row_bytes((enum activation_form)form, widest);
        size_t marks = activation_marks((enum activation_form)form, widest);
        size_t rows = widths.forms & 1u << form ? rows_max : 0;
        plan[AREA_MARKS + form] = (struct area_plan){marks > 0 ? rows : 0, marks};
        rows *= columns_of((enum activation_form)form);
        plan[AREA_ACTIVATIONS + form] = (struct area_plan){rows, bytes};
    }
}

uint64_t workspace_bytes_for(const struct model *model, size_t rows_max, unsigned threads,
                             size_t logit_rows)
{
    struct workspace workspace;
    struct area_plan plan[AREAS];
    uint64_t bytes = (uint64_t)logit_rows * model->shape.vocabulary * sizeof(float);
    plan_areas(&workspace, model, rows_max, threads, plan);
    for (unsigned a = 0; a < AREAS; a++) {
        bytes += (uint64_t)plan[a].rows * plan[a].bytes;
        bytes += plan[a].rows > 0 ? os_page_size() : 0;
    }
    return bytes;
}

static bool allocate_areas(struct workspace *workspace, const struct area_plan plan[AREAS],
                           void *memory[AREAS])
{
    for (unsigned a = 0; a < AREAS; a++) {
        size_t size;
        memory[a] = NULL;
        if (plan[a].rows == 0)
            continue;
        if (!checked_mul_size(plan[a].rows, plan[a].bytes, &size) ||
            !(memory[a] = mem_pages_alloc(size)))
            return false;
        workspace->areas[workspace->area_count++] = (struct workspace_area){memory[a], size};
    }
    return true;
}

int workspace_init(struct workspace *workspace, const struct model *model, size_t rows_max,
                   unsigned threads, struct hearth_error *err)
{
    struct area_plan plan[AREAS];
    void *memory[AREAS];
    plan_areas(workspace, model, rows_max, threads, plan);
    if (!allocate_areas(workspace, plan, memory)) {
        workspace_finish(workspace);
        return error_set(err, HEARTH_E_MEMORY, "no memory to compute %zu tokens at once", rows_max);
    }
    struct workspace *w = workspace;
    w->x = memory[AREA_X];
    w->y = memory[AREA_Y];
    w->query = memory[AREA_QUERY];
    w->key = memory[AREA_KEY];
    w->value = memory[AREA_VALUE];
    w->tiles = memory[AREA_TILES];
    w->angles = memory[AREA_ANGLES];
    w->scratch = memory[AREA_SCRATCH];
    w->gated = memory[AREA_GATED];
    w->gated_marks = memory[AREA_GATED_MARKS];
    w->runs = memory[AREA_RUNS];
    for (unsigned form = 0; form < ACTIVATION_FORMS; form++) {
        w->activations[form] = memory[AREA_ACTIVATIONS + form];
        w->marks[form] = memory[AREA_MARKS + form];
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

void workspace_release(struct workspace *workspace)
{
    mem_pages_free(workspace->logits, logits_size(workspace));
    workspace->logits = NULL;
    workspace->logits_capacity = 0;
    for (size_t i = 0; i < workspace->area_count; i++)
        mem_pages_discard(workspace->areas[i].memory, workspace->areas[i].size);
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
