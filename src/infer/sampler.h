/* The sampler behind hearth_sampler_*: from logits to one token. Settings, their defaults and
 * ranges, and the order of the chain stand in two tables in sampler.c; the public calls that need
 * no model are there too. */
#ifndef INFER_SAMPLER_H
#define INFER_SAMPLER_H

#include "hearth/hearth.h"
#include "infer/vocabulary.h"

/* `sampling` is copied with all it points to; NULL means the defaults. The vocabulary is only used
 * during the call. HEARTH_E_ARGUMENT names the setting that is out of its range, HEARTH_E_LIMIT the
 * list that is too long; HEARTH_E_MEMORY. */
int sampler_open(const struct vocabulary *vocabulary, const struct hearth_sampling *sampling,
                 struct hearth_sampler **out, struct hearth_error *err);

struct sampler_choice {
    uint32_t id;
    double probability;
};

/* What hearth_sampler_sample would draw from: the candidates that the chain leaves, in the order in
 * which the draw walks them, with probabilities that sum to 1. At most `capacity` are written;
 * *count becomes how many there are. The sampler does not change. Errors as there. */
int sampler_distribution(struct hearth_sampler *sampler, const float *logits,
                         struct sampler_choice *choices, size_t capacity, size_t *count,
                         struct hearth_error *err);

#endif
