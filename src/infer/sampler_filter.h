/* The filters between logits and the draw: each narrows a set of candidates.
 *
 * A set is never empty and its logits are finite. Its order, which the draw follows, is by id as
 * collected, descending once something sorted it (top-k, top-p, min-p where min_keep acts), and by
 * typicality after filter_typical. Probabilities are a softmax over the candidates
 * that are left at that moment, without temperature, as llama.cpp has them. Sums are doubles in the
 * order of the keys, so that every machine gets the same ones. */
#ifndef INFER_SAMPLER_FILTER_H
#define INFER_SAMPLER_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct candidates {
    uint64_t *keys;  /* sampler_keys.h */
    uint64_t *spare; /* as many; filter_typical and key selection need it */
    double *weights; /* as many; set by candidates_weigh */
    size_t count;
    bool sorted; /* keys descend */
};

/* Sets weights[i] = exp((logit i - largest logit) / temperature) and returns their sum, which is
 * at least 1. The temperature is positive. */
double candidates_weigh(struct candidates *set, double temperature);
/* Draws an index by weight; `unit` is uniform in [0, 1). A weight of 0 is never drawn. */
size_t candidates_draw(const struct candidates *set, double total, double unit);
/* The id of the largest logit, the smallest such id. */
uint32_t candidates_best(const struct candidates *set);

/* Keeps the most probable candidates until their sum reaches `p`. */
void filter_top_p(struct candidates *set, double p, size_t min_keep);
/* Keeps the candidates that have at least `p` (above 0) times the probability of the best. */
void filter_min_p(struct candidates *set, double p, size_t min_keep);
/* Keeps those whose surprise is nearest to the entropy, until the sum of their probabilities
 * passes `p` (Meister et al., "Locally Typical Sampling", 2022). Leaves them unsorted. */
void filter_typical(struct candidates *set, double p, size_t min_keep);
/* Of the candidates with a probability of at least `threshold`, drops all but the least probable,
 * unless fewer than min_keep were left. */
void filter_xtc(struct candidates *set, double threshold, size_t min_keep);
/* Keeps candidates whose surprise, in bits at that temperature, is at most `mu`, and the best. */
void filter_surprise(struct candidates *set, double mu, double temperature);

/* The lowest logit that top-n-sigma keeps: max - n * (standard deviation of all logits that are
 * not -inf). `max` is the largest and finite. */
double sigma_floor(const float *logits, size_t count, double max, double n);

#endif
