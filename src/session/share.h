/* Beginnings of prompts that several conversations have in common: computed once.
 *
 * Of prompts that are read at the same time one goes ahead and the others wait until it is past
 * what they share. What a conversation's system prompt became stays in the prefix cache when the
 * conversation goes. Where a model has attention windows one can go on only from where another one
 * was when it was remembered, so the reading stops for that at the end of the system prompt, and
 * where what somebody waits for ends. */
#ifndef SESSION_SHARE_H
#define SESSION_SHARE_H

#include <stdbool.h>
#include <stddef.h>

struct hearth_request;

/* Before it takes what is known: puts into the prefix cache what those that run have of it. */
void share_begin(struct hearth_request *request);
/* Looks for the end of its system prompt, where there is something to compute. */
void share_find_stem(struct hearth_request *request);
/* It is to be read, behind what was known: finds one that it should wait for. */
void share_wait(struct hearth_request *request);
/* Whether it waits still; when it does no longer, it has taken what it waited for. */
bool share_is_waiting(struct hearth_request *request);
/* How many of the next `count` tokens behind `from` may be computed in the next step. */
size_t share_limit(const struct hearth_request *request, size_t from, size_t count);
/* More of its prompt was computed. */
void share_remember(struct hearth_request *request);
/* It has ended, or waits for room, and what it had is remembered: nobody waits for it any more. */
void share_end(struct hearth_request *request);

#endif
