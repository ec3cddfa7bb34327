/* Conversations of clients that send their whole history each time. What was said and answered
 * before is found again by its messages, so that any client goes on where it was, with the tokens
 * as they were drawn.
 *
 * A list of messages goes to the conversation that says its longest beginning, beyond what the
 * system said: on it where the conversation ends there, or where only its last turn is another one
 * (an answer that is asked for again, a question that was edited); to a fork of it where more is.
 * One that is being answered is left alone: equal prompts at the same time have conversations of
 * their own. */
#ifndef WORKER_VISITORS_H
#define WORKER_VISITORS_H

#include <jansson.h>

#include "base/text.h"
#include "hearth/session.h"

#define VISITORS_MAX 64 /* that do not answer: then the least recently used one goes */

struct visitors;
struct visitor;

/* `plain_only`: the model has no template. */
int visitors_open(struct hearth_sessions *sessions, bool plain_only, struct visitors **out,
                  struct hearth_error *err);
void visitors_close(struct visitors *visitors);

/* A conversation with these messages (an array of objects), to be asked; given back when it has
 * answered. */
int visitors_take(struct visitors *visitors, const struct hearth_session_settings *settings,
                  const json_t *messages, struct visitor **out, struct hearth_error *err);
struct hearth_session *visitor_session(const struct visitor *visitor);
/* `answer`: what it said at last, where that became a message. */
void visitors_give(struct visitors *visitors, struct visitor *visitor, struct text answer);

#endif
