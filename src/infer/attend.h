/* Attention of a batch: cutting it into pieces of work and putting their results together.
 *
 * A piece is some tokens of a run with all query heads that share one kv head. The context of a
 * token is always computed in splits of ATTENTION_SPLIT tokens at fixed positions, merged in order;
 * for short runs (decode) each split is a piece of its own so that few heads keep all threads busy,
 * for long ones a piece goes through its splits itself. Both ways give the same bits. */
#ifndef INFER_ATTEND_H
#define INFER_ATTEND_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "infer/forward.h"

struct attend {
    const struct forward_options *options;
    const struct batch *batch;
    uint32_t layer;
    const float *queries;        /* [rows][heads * key size] */
    size_t heads_max, group_max; /* over all layers: heads, heads of one kv head */
    struct attend_run *runs;     /* [runs of the batch] */
    size_t run_capacity;
    struct attention_partial *partials; /* by run, then [row][head][slot] */
    float *values;                      /* [partial][value size] */
    size_t partial_capacity, partial_count;
    struct attend_scratch *scratch; /* [threads] */
};

int attend_init(struct attend *attend, const struct forward_options *options,
                struct hearth_error *err);
void attend_finish(struct attend *attend);

/* Takes up a batch, which must live through its layers: makes room for its partial results. */
int attend_reserve(struct attend *attend, const struct batch *batch, struct hearth_error *err);

/* Computes all partial results of the batch in one layer from its rotated queries and the KV
 * blocks. */
void attend_layer(struct attend *attend, uint32_t layer, const float *queries);

/* Merges the partial results of one row of the batch: all heads' values, [heads][value size]. */
void attend_merge_row(const struct attend *attend, size_t row, float *values);

uint64_t attend_bytes(const struct attend *attend);

#endif
