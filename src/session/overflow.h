/* What a conversation does when it has more tokens than its context may hold: enum hearth_overflow.
 *
 * Where turns are dropped, so many go that a quarter of the context is free, and they stay away:
 * what is left is then the beginning of the next prompts too, and is not computed again for each.
 */
#ifndef SESSION_OVERFLOW_H
#define SESSION_OVERFLOW_H

#include "session/history.h"

struct hearth_request;

/* Makes the history's ids a prompt that fits. HEARTH_E_LIMIT with the numbers where it cannot. */
int overflow_begin(struct hearth_request *request, struct history_prompt *prompt,
                   struct hearth_error *err);
/* The ids of prompt and answer have reached the limit: 0 when they are others now, with room for
 * more; HEARTH_E_LIMIT with the numbers when the answer has to end. */
int overflow_answer(struct hearth_request *request, struct hearth_error *err);

#endif
