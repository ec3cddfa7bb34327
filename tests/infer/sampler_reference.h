/* A sampler as slow and plain as can be: full sorts, recounted windows, repetitions by comparing,
 * the C library's exp and log. What the real one does is compared with it. */
#ifndef TESTS_INFER_SAMPLER_REFERENCE_H
#define TESTS_INFER_SAMPLER_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/random.h"
#include "hearth/hearth.h"

struct reference_choice {
    uint32_t id;
    double logit, probability;
};

/* A DRY breaker as tokens, the first `count` of ids. */
struct reference_breaker {
    uint32_t ids[4];
    size_t count;
};

struct reference {
    struct hearth_sampling settings;
    size_t vocabulary;
    const struct reference_breaker *breakers;
    size_t breaker_count;
    struct random random;
    double mu;
    uint32_t *history; /* all tokens */
    size_t history_count;
    struct reference_choice *choices; /* of the last sample, in the order of the draw */
    size_t choice_count;
};

void reference_init(struct reference *reference, const struct hearth_sampling *settings,
                    size_t vocabulary);
void reference_finish(struct reference *reference);
void reference_accept(struct reference *reference, uint32_t id);
/* Fills choices and returns the id drawn. */
uint32_t reference_sample(struct reference *reference, const float *logits);

#endif
