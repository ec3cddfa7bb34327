/* How well a model predicts a text, measured as llama-perplexity measures it, so that figures of
 * both can be compared: perplexity, and the Kullback-Leibler divergence from a base model whose
 * logits were saved. */
#ifndef CLI_SCORING_H
#define CLI_SCORING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* What a row of logits says, once for all that is asked of it. */
struct row_score {
    const float *logits;
    uint32_t vocabulary;
    uint32_t best;      /* the smallest id with the highest logit */
    float highest;      /* its logit */
    double log_sum_exp; /* of logit - highest */
};

/* HEARTH_E_NUMERIC where a logit is no number or too large. */
int row_score(const float *logits, uint32_t vocabulary, struct row_score *out,
              struct hearth_error *err);

/* -ln p(id) */
double row_surprise(const struct row_score *row, uint32_t id);

/* A mean and its standard error. */
struct estimate {
    double mean, error;
};

struct sums { /* of values, for an estimate */
    double sum, squares;
    size_t count;
};
void sums_add(struct sums *sums, double value);
struct estimate sums_estimate(const struct sums *sums);
/* e to the mean, with the error that follows from the mean's. */
struct estimate perplexity_estimate(const struct sums *surprises);

/* A row of the base model in the file of logits (logits_file.h): log p(id) is
 * scale * levels[id] + lowest. */
struct base_row {
    float scale, lowest;
    const unsigned char *levels; /* uint16_t, little-endian, unaligned; `vocabulary` of them */
};

struct divergence {
    struct sums model, base; /* surprises */
    struct sums kl;
    double probability_squares; /* of the differences of the true token's probability */
    size_t same_best;
    float *values; /* of each row, as many as kl.count; the owner's, large enough */
};

/* Compares a row with the base's. HEARTH_E_FORMAT where the base's figures are no numbers. */
int divergence_add(struct divergence *divergence, const struct row_score *row,
                   const struct base_row *base, uint32_t id, struct hearth_error *err);

/* The value below which `fraction` of `count` sorted values lie, interpolated; count > 0. */
double quantile(const float *sorted, size_t count, double fraction);
void sort_values(float *values, size_t count);

#endif
