/* What the next prompt is certain to begin with, computed while nothing is asked.
 *
 * Templates may write a turn otherwise once it is no longer the last: without its reasoning, with
 * its tools elsewhere. Then what was computed of it is of no use for the next prompt. As soon as
 * nothing else is to be done the messages are rendered before two different words of a user, and
 * what both have in common is computed, in small steps, into the prefix cache. A request stops it;
 * it goes on later from where it was. */
#ifndef SESSION_AHEAD_H
#define SESSION_AHEAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hearth_request;
struct hearth_session;
struct hearth_sessions;

/* Of a conversation. */
struct session_ahead {
    bool wanted;       /* it has an answer that was not looked at */
    json_t *variables; /* of its last request */
    uint32_t *ids;     /* what is computed, or to be; NULL: nothing */
    size_t count;
};

/* A request has ended with an answer. */
void ahead_want(struct hearth_request *request);
/* Does a small step of it, where there is one to do. */
bool ahead_step(struct hearth_sessions *sessions);
/* Something else is to be computed; what there is is remembered. */
void ahead_stop(struct hearth_sessions *sessions);
/* Whether what was computed ahead is all that could be known of a prompt that is in the history. */
bool ahead_covers(const struct hearth_session *session, size_t reused);
/* The conversation has another prompt, or goes. What is not the beginning of one is given back. */
void ahead_forget(struct hearth_session *session);

#endif
