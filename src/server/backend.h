/* Who computes answers: a worker process on this machine (local.c), or another server that speaks
 * OpenAI's API (upstream.c). The daemon's other parts see this interface alone.
 *
 * All calls come from the thread of the event base, and so do the calls back, which never come from
 * inside a call. */
#ifndef SERVER_BACKEND_H
#define SERVER_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "worker/protocol.h"

struct backend;
struct backend_job; /* a request that did not end; valid until on_end or on_reply was called */

/* NULL where nobody wants to know. on_end is called once for each ask, on_reply once for each embed
 * and call, and nothing behind it. Texts live until the call returns. */
struct backend_listener {
    void (*on_begin)(void *context, const struct work_begin *begin);
    void (*on_reading)(void *context, uint64_t done, uint64_t total);
    /* Tokens, where they are named, are taken from `tokens` by work_text_token. `reasoning` is what
     * an upstream has split off already; a worker leaves that to us. */
    void (*on_text)(void *context, const struct work_text *text, struct text reasoning,
                    struct message_reader *tokens);
    void (*on_end)(void *context, const struct work_end *end);
    /* code 0 with a reader at what was asked for (vectors, or JSON as one text); else the cause. */
    void (*on_reply)(void *context, int code, struct text cause, struct message_reader *reply);
    void *context;
};

enum backend_state {
    BACKEND_LOADING,
    BACKEND_READY,
    BACKEND_RESTARTING, /* it ended and will be started again; requests wait */
    BACKEND_FAILED,     /* could not be loaded; see the error; it is of no more use */
    BACKEND_ENDED,      /* it was stopped, or drained to its end */
};

/* What its owner is told. */
struct backend_owner {
    void (*on_state)(void *context, enum backend_state state, const struct hearth_error *error);
    void (*on_loading)(void *context, double fraction);
    void (*on_use)(void *context); /* its figures (work_state) changed */
    void *context;
};

struct backend_calls {
    /* Errors that are known at once; all others come as the end of the job. While it is loading or
     * restarting requests wait in it. */
    int (*ask)(struct backend *backend, const struct work_ask *ask,
               const struct backend_listener *listener, struct backend_job **job,
               struct hearth_error *err);
    int (*embed)(struct backend *backend, const struct work_embed *embed,
                 const struct backend_listener *listener, struct backend_job **job,
                 struct hearth_error *err);
    int (*call)(struct backend *backend, const struct work_call *call,
                const struct backend_listener *listener, struct backend_job **job,
                struct hearth_error *err);
    /* Its end is not told: nothing is called back for it any more. */
    void (*abandon)(struct backend *backend, struct backend_job *job);
    /* Its end comes soon, with what there was of it and HEARTH_STOP_CANCELLED. False where nothing
     * has begun, or the backend cannot do that: then it is abandoned. May be NULL. */
    bool (*cancel)(struct backend *backend, struct backend_job *job);
    void (*pause)(struct backend *backend, struct backend_job *job, bool pause);

    void (*threads)(struct backend *backend, unsigned threads); /* compute with so many */
    void (*shed)(struct backend *backend, uint64_t bytes);
    /* Its weights and private memory may be so much; also for what is started anew. May be NULL, as
     * threads and shed, where there is no process. */
    void (*memory)(struct backend *backend, uint64_t memory_max);
    /* Takes nothing more; BACKEND_ENDED when what runs has ended, at the latest after so long. */
    void (*drain)(struct backend *backend, uint64_t timeout_ns);
    /* Ends it now; jobs end with HEARTH_E_CANCELLED. Nothing is called back for its owner. */
    void (*destroy)(struct backend *backend);
};

/* The beginning of each implementation's own struct. */
struct backend {
    const struct backend_calls *calls;
    enum backend_state state;
    struct text ready;     /* JSON of WORK_READY, or what is known of an upstream; empty before */
    struct work_state use; /* zeroes where nothing is known */
    int process;           /* its number; 0: none */
    uint32_t restarts;
    uint32_t jobs; /* that did not end */
    uint64_t load_ns;
};

#endif
