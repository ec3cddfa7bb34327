/* Guesses of how an answer goes on, computed behind its last token (n-gram speculation). The tokens
 * drawn are those of single steps.
 *
 * Only an answer that runs alone is guessed at. Beside others a row of guesses would make all of
 * them wait for what can save but one of them a step, and they already use what guesses use: the
 * arithmetic that idles while one row waits for the weights. A prompt that is read meanwhile does
 * not count: a step with it is long, and saving one is worth more than rows cost. */
#ifndef SESSION_GUESS_H
#define SESSION_GUESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hearth/hearth.h"

#define GUESSES_MAX 7

struct hearth_request;

struct guesses {
    struct hearth_draft *draft; /* NULL: none are made */
    struct hearth_draft_counts before;
    uint32_t ids[GUESSES_MAX];
    size_t first, count; /* of the history's ids, ids[0] would be this one */
};

/* The request begins to be computed: its prompt is in the history. Without memory there will be no
 * guesses. */
void guess_begin(struct hearth_request *request);
/* It ends: what was guessed goes into its result. */
void guess_end(struct hearth_request *request);
/* Makes guesses behind the last id of the history; `alone`: it is the only answer that runs. */
void guess_next(struct hearth_request *request, bool alone);
/* The history's last id was drawn. */
void guess_check(struct hearth_request *request);
/* Whether the history's last id is what was guessed. */
bool guess_was_right(const struct hearth_request *request);
/* A step took so long in which nothing else was computed. */
void guess_took(struct hearth_request *request, uint64_t ns);

#endif
