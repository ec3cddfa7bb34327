/* What is known of models before they are loaded, for dialects that tell it. */
#ifndef SERVER_CATALOGUE_H
#define SERVER_CATALOGUE_H

#include "server/daemon.h"

/* Waits until it is known what a model's file holds, or, without a model, those of all there are;
 * what cannot be read stays unknown then. Exactly one of the two is called: `then` with NULL or,
 * for one model alone, why nothing can be known of it; at once where nothing has to be waited for.
 * `gone` when the client left. The exchange's watch is free again when `then` is called. */
struct catalogue_wait {
    struct model *model;
    void (*then)(void *context, const struct hearth_error *error);
    void (*gone)(void *context);
    void *context;
};
void catalogue_wait(struct daemon *daemon, struct http_exchange *exchange,
                    const struct catalogue_wait *wait);

/* Texts and numbers of WORK_READY's object, which may be NULL: NULL and 0 where they are not. */
const char *catalogue_text(const json_t *ready, const char *name);
uint64_t catalogue_number(const json_t *ready, const char *name);

/* How a model's template treats reasoning, by the words in it. */
enum catalogue_reasoning {
    CATALOGUE_REASONING_NONE,
    CATALOGUE_REASONING_ALWAYS,   /* it speaks of it, and knows no switch */
    CATALOGUE_REASONING_SWITCHED, /* enable_thinking or thinking */
    CATALOGUE_REASONING_LEVELS,   /* reasoning_effort */
};
enum catalogue_reasoning catalogue_reasoning(const json_t *ready);
/* The template's variables that ask for reasoning or against it, under the names that templates
 * have for them; `level` is "low", "medium" or "high", or NULL. */
json_t *catalogue_reasoning_variables(bool on, const char *level);

#endif
