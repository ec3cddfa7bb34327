/* The forward pass: rows of tokens through all layers, for any number of sequences at once.
 *
 * A batch is a list of runs; a run is some consecutive tokens of one sequence, whose KV blocks are
 * reserved already. Keys and values are written into them; logits are computed for the rows that
 * ask for them. A row's results depend on its sequence alone, bit for bit: not on the other runs,
 * on the number of rows or on threads. */
#ifndef INFER_FORWARD_H
#define INFER_FORWARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/pool.h"
#include "kernel/kernel.h"
#include "kv/kv.h"
#include "model/model.h"

/* What is wanted of a row behind the last layer. */
enum want {
    WANT_NOTHING,
    WANT_LOGITS,
    WANT_STATE, /* the normed hidden state */
};

struct run {
    const uint32_t *ids;        /* [count] */
    uint32_t count;             /* tokens */
    uint32_t position;          /* of the first */
    const unsigned char *wants; /* [count]: enum want */
    struct kv_table *table;
    const atomic_bool *cancelled;
    bool *left_out; /* becomes true when it was, and its rows were not computed to the end */
};

struct batch {
    const struct run *runs;
    size_t run_count;
    size_t rows; /* sum of counts; at most the rows_max of the pass */
};

struct forward_options {
    const struct model *model;
    const struct kernels *kernels; /* these three must outlive the pass */
    struct pool *pool;
    const struct kv_pool *kv;
    uint32_t rows_max;
};

struct forward;

int forward_create(const struct forward_options *options, struct forward **out,
                   struct hearth_error *err);
void forward_destroy(struct forward *forward);

/* HEARTH_E_MEMORY; HEARTH_E_CANCELLED when all runs were cancelled, seen between two operations.
 * While some are wanted, the rows of those that were cancelled are left out from the next layer on.
 * The KV blocks of a cancelled run hold unfinished rows. */
int forward_run(struct forward *forward, const struct batch *batch, struct hearth_error *err);

/* The logits of the last pass, the vocabulary's floats a row: the wanted rows of the first run,
 * then of the second, …, but of those that were left out. Valid until the next pass. */
const float *forward_logits(const struct forward *forward, size_t row);
/* The states of the last pass in the same order, each as long as the model's embedding. */
const float *forward_state(const struct forward *forward, size_t row);

/* Bytes of the working memory that has been touched, at most. */
uint64_t forward_bytes(const struct forward *forward);
/* What passes of up to `rows_max` rows, `logit_rows` of them with logits, take at most within
 * `context` tokens. */
uint64_t forward_bytes_for(const struct model *model, uint32_t rows_max, unsigned threads,
                           size_t logit_rows, uint32_t context);
/* Gives the working memory back, with the last logits. */
void forward_release(struct forward *forward);

#endif
