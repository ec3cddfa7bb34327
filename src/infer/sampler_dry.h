/* The DRY penalty ("don't repeat yourself"): a token that would extend a repetition of something
 * that stands earlier in the text is penalized, the longer the repetition the more.
 *
 * For a repetition of n tokens, n >= allowed: multiplier * base^(n - allowed) is taken off the
 * logit. Sequence breakers (a newline, a colon, …) end what counts as repeated. What it computes
 * is what llama.cpp computes. */
#ifndef INFER_SAMPLER_DRY_H
#define INFER_SAMPLER_DRY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "infer/sampler_history.h"
#include "infer/vocabulary.h"

#define DRY_BREAKERS_MAX 64
#define DRY_BREAKER_BYTES_MAX 40 /* llama.cpp cuts a longer one off; here it is refused */
#define DRY_TAIL_MAX 20          /* tokens of a breaker behind its first that are looked at */

/* A breaker may be spelled by several tokens: the first one, whose end is its beginning, and the
 * tokens of the rest. */
struct dry_breaker {
    uint32_t head;
    uint32_t tail_count;
    uint32_t tail[DRY_TAIL_MAX];
};

struct dry {
    double multiplier, base;
    size_t allowed, last_n;
    struct dry_breaker *breakers; /* by ascending head */
    size_t breaker_count;
    uint32_t *lengths; /* scratch: `capacity` of them */
    size_t capacity;
};

/* Finds the tokens that spell the breakers. HEARTH_E_ARGUMENT (an empty breaker), HEARTH_E_LIMIT
 * (too many, too long), HEARTH_E_MEMORY, or what the vocabulary's encode returns. The other members
 * are the caller's to set; `dry` is zeroed before. */
int dry_set_breakers(struct dry *dry, const struct vocabulary *vocabulary,
                     const char *const *breakers, size_t count, struct hearth_error *err);
void dry_finish(struct dry *dry);

/* Makes sure that dry_apply has room for what the history holds; false without memory. */
bool dry_reserve(struct dry *dry, const struct history *history);
/* Takes the penalties off. The history keeps at least last_n tokens. */
void dry_apply(const struct dry *dry, struct history *history, float *logits);

#endif
