/* What the set gives back when memory is short (pressure.h says when). */
#ifndef SESSION_RELIEF_H
#define SESSION_RELIEF_H

#include "session/sessions.h"

/* Looks at the system at most once a second, by the clock of the set, and gives back in order:
 * working memory that nobody uses and what malloc keeps; conversations that do not run, the least
 * recently used first, spilled where there is a store; the pages of idle weights. */
void relief_step(struct hearth_sessions *sessions);
/* How long the set may wait that would else wait for `wait_ns`. */
uint64_t relief_wait(const struct hearth_sessions *sessions, uint64_t wait_ns);

#endif
