/* What the tests of the engine share: opening a model with an engine, and the logits behind every
 * token of a sequence. All of it through hearth.h; what fails here fails the test. */
#ifndef TESTS_INFER_TIMELINE_H
#define TESTS_INFER_TIMELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hearth/hearth.h"

/* A model and an engine of it, in a tier. */
struct setting {
    const char *tier; /* of HEARTH_CPU */
    enum hearth_kv_type kv_type;
    unsigned threads;
    uint32_t chunk_tokens;
};

/* The tiers by name; NULL past the end. Not every machine has all. */
const char *timeline_tier(size_t index);
bool timeline_has_tier(const struct hearth_model *model, const char *tier);
/* The last of the machine's own tiers: the fastest. */
const char *timeline_best_tier(const struct hearth_model *model);

struct hearth_model *timeline_open_model(const char *path);
/* Random weights, as hearth_synthesize makes them. */
struct hearth_model *timeline_make_up(const char *what);
struct hearth_engine *timeline_open_engine(const struct hearth_model *model,
                                           const struct setting *setting);
struct hearth_sequence *timeline_open_sequence(struct hearth_engine *engine);

/* Queues tokens; their logits shall all be kept. */
void timeline_extend(struct hearth_sequence *sequence, const uint32_t *ids, size_t count);

/* Steps once; the logits that the step gave `sequence` go to `logits`, and their number back. */
size_t timeline_step(struct hearth_engine *engine, const struct hearth_sequence *sequence,
                     float *logits, size_t vocabulary);
/* Steps until nothing of the sequence is queued. */
size_t timeline_step_all(struct hearth_engine *engine, const struct hearth_sequence *sequence,
                         float *logits, size_t vocabulary);

/* The logits behind each of `count` tokens of a sequence of its own, allocated with malloc. */
float *timeline_logits(const struct hearth_model *model, const struct setting *setting,
                       const uint32_t *ids, size_t count);

size_t timeline_vocabulary(const struct hearth_model *model);

#endif
