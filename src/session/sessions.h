/* What stands behind the opaque types of session.h. */
#ifndef SESSION_SESSIONS_H
#define SESSION_SESSIONS_H

#include <stdatomic.h>

#include "hearth/session.h"
#include "session/guess.h"
#include "session/history.h"

enum request_state {
    REQUEST_WAITING,   /* for its turn */
    REQUEST_READING,   /* its prompt is being computed */
    REQUEST_ANSWERING, /* tokens are being drawn */
};

struct hearth_request {
    struct hearth_session *session;
    struct hearth_request *next; /* in the list of the set, by arrival */
    enum request_state state;
    bool begun; /* its prompt is in the history */
    bool background, speculates;
    atomic_bool cancelled;
    struct hearth_sequence *sequence; /* its own, so that it can be cancelled from any thread */
    struct hearth_sampler *sampler;
    struct hearth_stream *stream;
    struct buffer text;
    json_t *variables;
    uint32_t max_tokens;
    uint64_t deadline_ns, asked_ns, begun_ns, read_ns;
    void (*on_text)(void *context, const char *text, size_t size);
    void (*on_progress)(void *context, size_t done, size_t total);
    void (*on_end)(void *context, const struct hearth_result *result);
    void *context;
    uint64_t round; /* the last step that it was taken up for */
    struct guesses guesses;
    size_t prompt_count;
    bool overflowed; /* its answer reached the context's limit, and is kept */
    struct hearth_result result;
};

struct hearth_session {
    struct hearth_sessions *sessions;
    struct hearth_session *next, *previous; /* by use, the latest first */
    struct hearth_session *same_bucket;
    char *key;       /* NULL: anonymous */
    unsigned opened; /* handles that are held */
    bool removed;
    bool held;       /* something of it may be in the prefix cache */
    size_t computed; /* of the history's ids, so many were computed at last */
    size_t requests; /* asked and not ended */
    uint64_t used_ns;
    int64_t unix_seconds; /* what its templates take for the present */
    struct hearth_session_settings settings;
    struct history history;
};

struct hearth_sessions {
    const struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sessions_options options;
    struct hearth_session *first, *last;
    size_t count;
    struct hearth_session **buckets; /* by key, [bucket_count]: a power of two */
    size_t bucket_count;
    struct hearth_request *requests; /* by arrival */
    size_t running;
    size_t together;                  /* ran in the last step */
    uint64_t step_ns;                 /* what a step takes in which only answers go on */
    uint64_t token_ns;                /* what a token of a prompt takes */
    uint64_t round;                   /* counts steps */
    struct hearth_draft *spare_draft; /* with what was learned; may be NULL */
    bool parked; /* there was no room for all that ran: nothing begins until one has ended */
};

uint64_t sessions_now(const struct hearth_sessions *sessions);
/* It was used: to the front of the list. */
void session_touch(struct hearth_session *session);
/* Lets a conversation that nobody holds go. */
void session_drop_if_done(struct hearth_session *session);

/* Gives back what was computed of it and is not the beginning of another conversation too. */
void session_forget(struct hearth_session *session);

/* Ends all requests as cancelled. */
void schedule_end_all(struct hearth_sessions *sessions);

#endif
