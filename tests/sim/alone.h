/* The truth of the simulation: what a prompt is answered when nothing else runs and nothing is
 * kept. */
#ifndef TESTS_SIM_ALONE_H
#define TESTS_SIM_ALONE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "hearth/session.h"

struct alone {
    const struct hearth_model *model;
    struct hearth_engine *engine;
};

void alone_open(struct alone *alone, const struct hearth_model *model);
void alone_close(struct alone *alone);

/* Bytes of KV cache that a sequence takes at most while so many tokens are computed. */
uint64_t alone_kv_bytes(struct alone *alone, uint32_t tokens);

/* Answers `ids` until the model ends, or `max_tokens` (0: no limit) or the context are reached;
 * writes the text and returns why it ended. Aborts where the engine fails. */
enum hearth_stop alone_answer(struct alone *alone, const uint32_t *ids, size_t count,
                              const struct hearth_sampling *sampling, uint32_t max_tokens,
                              uint32_t context_max, struct buffer *text);

/* The mean of the states of a text's tokens with length 1, as long as the model's embedding. */
void alone_embed(struct alone *alone, const char *text, size_t size, float *vector);

#endif
