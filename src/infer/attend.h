/* Attention of a batch in one layer: cuts the work into pieces for the threads.
 *
 * A piece is one kv head with some consecutive tokens of one run: all query heads of the group are
 * rows of one call of the kernel. Where that gives too few pieces, as in decoding, the context is
 * cut as well: a piece then computes one split of ATTENTION_SPLIT tokens, and the one that finishes
 * last merges them in order. Both ways give the same bits. */
#ifndef INFER_ATTEND_H
#define INFER_ATTEND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "infer/forward.h"

struct attend {
    const struct forward_options *options;
    const struct batch *batch;
    uint32_t layer;
    float *queries;                            /* [rows][heads * key size] */
    size_t heads_max, kv_heads_max, group_max; /* over all layers; a group: heads of one kv head */
    size_t tile_tokens;                        /* of one piece */
    struct attend_run *runs;                   /* [runs of the batch] */
    size_t run_capacity;
    struct attention_partial *partials; /* where the context is cut: [token][head][slot] of a run */
    float *values;                      /* [partial][value size] */
    size_t partial_capacity;
    atomic_uint *finished; /* of a tile and kv head: how many slots; 0 between layers */
    size_t finished_capacity;
    float *wide; /* [rows][heads * value size]: results, where they do not fit into the queries */
    size_t wide_rows;
    struct attend_scratch *scratch; /* [threads] */
};

int attend_init(struct attend *attend, const struct forward_options *options,
                struct hearth_error *err);
void attend_finish(struct attend *attend);

/* Takes up a batch, which must live through its layers: makes room for its partial results. */
int attend_reserve(struct attend *attend, const struct batch *batch, struct hearth_error *err);

/* Attention of all rows of the batch in one layer, from their rotated queries and the KV blocks.
 * The results overwrite `queries`. */
void attend_layer(struct attend *attend, uint32_t layer, float *queries);

/* One row's result after attend_layer: all heads' values, [heads][value size]. */
void attend_row(const struct attend *attend, size_t row, float *values);

uint64_t attend_bytes(const struct attend *attend);
/* What attention takes at most, for chunks of `rows_max` rows within `context` tokens. */
uint64_t attend_bytes_for(const struct model *model, size_t rows_max, unsigned threads,
                          uint32_t context);
/* Gives back what the next batch makes room for anew. */
void attend_release(struct attend *attend);

#endif
