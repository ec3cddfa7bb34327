/* What the parts of a worker share. All of it belongs to the main thread, but for the inbox and
 * what jobs.h says. */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <jansson.h>

#include "worker/channel.h"
#include "worker/inbox.h"
#include "worker/jobs.h"
#include "worker/protocol.h"

struct visitors;

struct worker {
    int fd; /* of the channel that sends */
    struct channel *out;
    struct inbox *inbox;
    struct buffer message; /* to be sent next */
    struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    struct hearth_store *store; /* NULL: nothing is kept */
    struct visitors *visitors;
    struct jobs jobs;
    bool has_template;
    bool draining;
    /* What is told of it. */
    struct work_state sums; /* of what was done, the rest is 0 */
    struct work_state told;
    uint64_t told_ns;
    bool stirred; /* something happened since */
};

/* Says why on standard error and ends the process: what follows could not be right. */
_Noreturn void worker_die(const char *cause);

/* Sends what was put into the worker's message. `put` is what putting returned: a message that does
 * not fit is the end. Where the daemon is gone the process ends. */
void worker_send(struct worker *worker, bool put);
/* WORK_REPLY; LIMIT in the place of what is too large for a message. */
void worker_reply(struct worker *worker, uint64_t number, int code, struct text text);
/* The same with JSON, which it takes over; NULL: without memory. */
void worker_reply_json(struct worker *worker, uint64_t number, json_t *json);
void worker_reply_error(struct worker *worker, uint64_t number, const struct hearth_error *error);

/* What it takes and does now; as WORK_STATE. */
struct work_state worker_state(const struct worker *worker);
void worker_tell_state(struct worker *worker);

/* A string of its own, NUL-terminated; to be given back by mem_free. HEARTH_E_ARGUMENT names `what`
 * where there is a NUL in it. */
int worker_copy_string(struct text text, const char *what, char **out, struct hearth_error *err);
/* Whether a prompt ends inside a reasoning block that its template opened. */
bool worker_opens_reasoning(struct text prompt);
/* A JSON value of the daemon's; NULL, FORMAT where it is none. */
json_t *worker_parse(struct text json, const char *what, struct hearth_error *err);
/* All messages of a conversation, an array. */
json_t *worker_messages(const struct hearth_session *session, struct hearth_error *err);
int worker_set_messages(struct hearth_session *session, const json_t *messages,
                        struct hearth_error *err);

#endif
