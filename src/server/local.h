/* A worker process: started, watched, restarted, and what it may ask of the store answered.
 *
 * One that dies, does not answer its pings or says what no worker may say ends the jobs that had
 * begun with an error; those that had not wait for the next one. It is started again, at once the
 * first time and after each time of health, else after growing pauses; one that fails to load is
 * not, nor one whose model file changed under it. A conversation that was running when a worker
 * died by a signal of its own making, twice in a row, is refused from then on with a sentence that
 * says so, until it is reset or removed or the model is loaded anew; so is the very same request
 * without a conversation.
 *
 * What is destroyed goes when its process has ended: the loop must run until then. */
#ifndef SERVER_LOCAL_H
#define SERVER_LOCAL_H

#include "server/backend.h"

struct event_base;
struct log;
struct metrics;

struct local_options {
    const char *program; /* of the worker; NULL: this one */
    const char *name;    /* of the model, for sentences and the log */
    const int *fds;      /* the model's parts; duplicated */
    size_t fd_count;
    struct work_start start; /* texts are copied */
    uint64_t hang_ns; /* without an answer to a ping it counts as hung, ten times later where it
                       * computes all the while; 0: 30 s */
    struct hearth_store *store; /* NULL: none */
    struct log *log;            /* may be NULL, as metrics */
    struct metrics *metrics;
    struct backend_owner owner;
};

int local_start(struct event_base *base, const struct local_options *options, struct backend **out,
                struct hearth_error *err);

/* A probe: a worker that says what a model is and ends. Called back once, from the loop, with
 * WORK_READY's JSON or a cause, within 20 s; it is gone then. One that is cancelled calls nobody.
 */
struct local_probe;
int local_probe_start(struct event_base *base, const struct local_options *options,
                      void (*on_probed)(void *context, int code, struct text ready_or_cause),
                      void *context, struct local_probe **out, struct hearth_error *err);
void local_probe_cancel(struct local_probe *probe);

#endif
