/* The working memory of a forward pass: rows of activations, from whole pages that the system
 * commits when a pass first uses so many rows. */
#ifndef INFER_WORKSPACE_H
#define INFER_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "infer/forward.h"
#include "kernel/kernel.h"
#include "model/model.h"

#define ROPE_KINDS 2 /* of global and of window layers */

/* Rows of two matrices whose products with a whole chunk fit into a thread's tile: a group of the
 * widest activation form. */
#define TILE_ROWS 256

#define WORKSPACE_AREAS 20

struct workspace {
    float *x, *y;               /* [rows][embedding] */
    float *query, *key, *value; /* [rows][heads * size] */
    /* [2 * rows], of floats [rows]: what matrices multiply with, where any does, and outliers */
    void *activations[ACTIVATION_FORMS];
    uint8_t *marks[ACTIVATION_FORMS]; /* [rows]: of those outliers */
    void *gated;                      /* as `activations`, for the feed-forward's last matrix */
    uint8_t *gated_marks;             /* [rows] */
    float *tiles;                     /* [threads][tile_floats]: products on their way */
    float *angles;                    /* [ROPE_KINDS][rows][2 * pairs], cosines before sines */
    float *scratch;                   /* [threads][width] */
    float *logits;                    /* [logit rows][vocabulary] */
    struct run *runs;                 /* [rows] of a narrowed batch */
    size_t rows_max, pairs_max, scratch_width, tile_floats, vocabulary;
    size_t logits_capacity; /* rows */
    struct workspace_area {
        void *memory;
        size_t size;
    } areas[WORKSPACE_AREAS];
    size_t area_count;
};

int workspace_init(struct workspace *workspace, const struct model *model, size_t rows_max,
                   unsigned threads, struct hearth_error *err);
void workspace_finish(struct workspace *workspace);
int workspace_reserve_logits(struct workspace *workspace, size_t rows, struct hearth_error *err);
/* Gives all memory back that the next pass would only write anew; the logits are gone. */
void workspace_release(struct workspace *workspace);
/* What a workspace takes when passes have used all of its rows and `logit_rows` rows of logits. */
uint64_t workspace_bytes_for(const struct model *model, size_t rows_max, unsigned threads,
                             size_t logit_rows);
uint64_t workspace_bytes(const struct workspace *workspace);

static inline float *workspace_row(float *rows, size_t row, size_t width)
{
    return rows + row * width;
}

/* Cosines, then sines, of one rope kind and row. */
static inline float *workspace_angles(const struct workspace *workspace, unsigned kind, size_t row)
{
    return workspace->angles + (kind * workspace->rows_max + row) * workspace->pairs_max * 2;
}

static inline float *workspace_tile(const struct workspace *workspace, unsigned thread)
{
    return workspace->tiles + thread * workspace->tile_floats;
}

/* A thread's own row, wide enough for any row of the model. */
static inline float *workspace_scratch(const struct workspace *workspace, unsigned thread)
{
    return workspace->scratch + thread * workspace->scratch_width;
}

#endif
