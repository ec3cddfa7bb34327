/* What stands behind the opaque types of hearth.h. */
#ifndef INFER_ENGINE_H
#define INFER_ENGINE_H

#include <stdatomic.h>

#include "base/pool.h"
#include "hearth/hearth.h"
#include "infer/forward.h"
#include "kernel/kernel.h"
#include "kv/kv.h"
#include "kv/prefix.h"
#include "model/model.h"

struct hearth_model {
    struct model *model;
    bool copied; /* its file was read into private memory */
};

/* Sequences form a ring list in which the engine takes turns. */
struct hearth_engine {
    const struct model *model;
    struct kernels kernels;
    struct pool *pool;
    struct kv_pool *kv;
    struct kv_prefix *prefix;
    struct forward *forward;
    uint32_t chunk_tokens, context_max;   /* of a sequence: the model's own limit, or what fits */
    size_t logit_rows_max;                /* of a step */
    struct hearth_engine_options options; /* zeroed where it was opened without */
    bool weights_private;
    struct hearth_sequence *sequences; /* the next to be served first; NULL when there is none */
    size_t sequence_count;
    struct run *runs; /* [run_capacity], of the running step */
    struct hearth_sequence **run_sequences;
    size_t run_capacity;
};

struct hearth_sequence {
    struct hearth_engine *engine;
    struct hearth_sequence *next, *previous;
    struct kv_table table;
    uint32_t length, context_max;
    uint32_t *held; /* [length]: the ids of the tokens in the table */
    size_t held_capacity;
    /* queued tokens; those before `taken` are computed already */
    uint32_t *ids;
    unsigned char *wants; /* enum want */
    size_t queued, taken, queue_capacity;
    size_t first_logit_row, logit_rows; /* of the last step */
    size_t first_state_row, state_rows;
    atomic_bool cancelled;
    bool left_out;               /* of the pass of the last step, because it was cancelled */
    struct hearth_error failure; /* code 0: none */
};

/* What the last step computed for it is not to be had any more. */
void sequence_drop_rows(struct hearth_sequence *sequence);

/* Room for `count` ids in `held`; false without memory. */
bool sequence_widen(struct hearth_sequence *sequence, size_t count);

/* The KV cache of a model: layers that see the same range of tokens share a group of blocks.
 * HEARTH_E_ARGUMENT for a type that does not exist. */
int engine_kv_pool(const struct model *model, enum hearth_kv_type type, uint64_t bytes_max,
                   struct kv_pool **out, struct hearth_error *err);

#endif
