/* What an engine takes, and what it may take: from the shapes of a model, before anything is
 * allocated. */
#ifndef INFER_BUDGET_H
#define INFER_BUDGET_H

#include "hearth/hearth.h"
#include "kv/kv.h"
#include "model/model.h"

#define CHUNK_TOKENS_DEFAULT 256

/* Rows of logits that there is always room for: eight answers, or one with seven guesses. */
#define LOGIT_ROWS_MIN 8

struct estimate {
    const struct model *model;
    const struct kv_pool *kv;
    bool weights_private; /* the file was copied, not mapped */
    unsigned threads;
    uint32_t chunk_tokens;
};

/* For one sequence of `context` tokens. */
void estimate_make(const struct estimate *of, uint32_t context, struct hearth_estimate *out);

/* What is left for the KV cache, and how much scratch there may be. */
struct budget {
    uint64_t kv_bytes_max; /* 0: no limit but memory */
    size_t logit_rows_max;
};
/* HEARTH_E_LIMIT with all figures where not even the context of the options fits; with
 * HEARTH_FIT_SHRINK, where not even a block does. */
int budget_make(const struct estimate *of, const struct hearth_engine_options *options,
                struct budget *out, struct hearth_error *err);
/* The same for an engine that is open, of whose process `taken` bytes are its KV cache and scratch.
 * Leaves at least a block. */
void budget_remake(const struct estimate *of, const struct hearth_engine_options *options,
                   uint64_t taken, struct budget *out);

#endif
