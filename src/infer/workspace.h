/* The working memory of a forward pass: rows of activations, from whole pages that the system
 * commits when a pass first uses so many rows. */
#ifndef INFER_WORKSPACE_H
#define INFER_WORKSPACE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/kernel.h"
#include "model/model.h"

#define ROPE_KINDS 2 /* of global and of window layers */

struct workspace {
    float *x, *y;                        /* [rows][embedding] */
    float *query, *key, *value;          /* [rows][heads * size] */
    float *gate, *up;                    /* [rows][feed-forward length] */
    void *activations[ACTIVATION_FORMS]; /* [rows], for the widest matrix */
    float *angles;                       /* [ROPE_KINDS][rows][2 * pairs], cosines before sines */
    float *scratch;                      /* [threads][width] */
    float *logits;                       /* [logit rows][vocabulary] */
    size_t *logit_rows;                  /* [rows]: the batch rows whose logits are computed */
    size_t logit_row_count;
    size_t rows_max, pairs_max, scratch_width, vocabulary;
    size_t logits_capacity; /* rows */
    struct workspace_area {
        void *memory;
        size_t size;
    } areas[16];
    size_t area_count;
};

int workspace_init(struct workspace *workspace, const struct model *model, size_t rows_max,
                   unsigned threads, struct hearth_error *err);
void workspace_finish(struct workspace *workspace);
int workspace_reserve_logits(struct workspace *workspace, size_t rows, struct hearth_error *err);
uint64_t workspace_bytes(const struct workspace *workspace);

static inline float *workspace_row(float *rows, size_t row, size_t width)
{
    return rows + row * width;
}

/* Cosines, then sines, of one rope kind and row. */
static inline float *workspace_angles(const struct workspace *workspace, const struct rope *rope,
                                      unsigned kind, size_t row)
{
    return workspace->angles +
           (kind * workspace->rows_max * workspace->pairs_max + row * rope->pairs) * 2;
}

/* A thread's own row, wide enough for any row of the model. */
static inline float *workspace_scratch(const struct workspace *workspace, unsigned thread)
{
    return workspace->scratch + thread * workspace->scratch_width;
}

#endif
