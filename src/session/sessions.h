/* What stands behind the opaque types of session.h. */
#ifndef SESSION_SESSIONS_H
#define SESSION_SESSIONS_H

#include <stdatomic.h>

#include "base/pressure.h"
#include "hearth/session.h"
#include "session/ahead.h"
#include "session/guess.h"
#include "session/history.h"
#include "session/plan.h"
#include "session/spill.h"

enum request_state {
    REQUEST_WAITING,   /* for its turn */
    REQUEST_READING,   /* its prompt is being computed */
    REQUEST_ANSWERING, /* tokens are being drawn */
};

struct embedding;

struct hearth_request {
    struct hearth_session *session; /* of an embedding one of its own, which nobody else sees */
    struct embedding *embedding;    /* NULL: it is for an answer */
    struct hearth_request *next;    /* in the list of the set, by arrival */
    enum request_state state;
    bool begun; /* its prompt is in the history */
    bool background, speculates;
    bool paused; /* since paused_ns */
    atomic_bool cancelled;
    struct hearth_sequence *sequence; /* its own, so that it can be cancelled from any thread */
    struct hearth_sampler *sampler;
    struct hearth_stream *stream;
    struct buffer text;
    json_t *variables;
    uint32_t max_tokens, context_max; /* what the conversation may hold while it answers */
    uint64_t deadline_ns, asked_ns, begun_ns, read_ns, paused_ns;
    bool logprobs;
    uint32_t top_tokens;
    void (*on_begin)(void *context, const struct hearth_prompt *prompt);
    void (*on_token)(void *context, const struct hearth_drawn *drawn);
    void (*on_text)(void *context, const char *text, size_t size);
    void (*on_progress)(void *context, size_t done, size_t total);
    void (*on_end)(void *context, const struct hearth_result *result);
    void *context;
    uint64_t round; /* the last step that it was taken up for */
    struct guesses guesses;
    size_t prompt_count;
    /* Its prompt begins as that of another one does which is being read: it waits until that one
     * has computed so many tokens. NULL: it waits for nobody. */
    struct hearth_request *leader;
    size_t shared;
    bool overflowed; /* its answer reached the context's limit, and is kept */
    struct hearth_result result;
};

struct hearth_session {
    struct hearth_sessions *sessions;
    struct hearth_session *next, *previous; /* in its list */
    struct hearth_session *same_bucket;
    char *key;       /* NULL: anonymous */
    unsigned opened; /* handles that are held */
    bool removed, asleep;
    bool held;       /* something of it may be in the prefix cache */
    bool unsaved;    /* the store does not have it as it is */
    size_t computed; /* of the history's ids, so many were computed at last */
    size_t stem;     /* and so many are the system prompt's; 0: unknown */
    size_t requests; /* asked and not ended: a lease, it stays awake while there are some */
    uint64_t used_ns;
    int64_t unix_seconds;  /* what its templates take for the present */
    enum hearth_miss lost; /* why what was computed is not known any more; until it is said */
    struct hearth_session_settings settings;
    struct session_ahead ahead;
    struct history history;
    struct buffer packed; /* asleep: the history's record, and what is in it; else empty */
    size_t message_count, token_count;
    struct session_spill {
        struct store_spill file; /* the last that was written or read */
        int fd;                  /* its own file without a name, or -1 */
        bool stored;             /* the store may have one under its key */
        bool fresh;              /* it holds all that is computed */
        size_t common;           /* so many ids at its beginning are still those of the history */
    } spill;
};

/* By use, the latest first. */
struct session_list {
    struct hearth_session *first, *last;
};

struct hearth_sessions {
    const struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sessions_options options;
    struct session_list awake, asleep;
    struct hearth_session *starting;     /* what of it is known is being looked for */
    char identity[HEARTH_IDENTITY_SIZE]; /* of the model; zeros where nothing is stored */
    char model_name[HEARTH_STORE_NAME_SIZE];
    struct spiller spiller;
    uint64_t worked_ns; /* when the engine was last used */
    bool rested;        /* and has given its working memory back since */
    struct pressure pressure;
    bool looked;        /* at the system's memory, */
    uint64_t looked_ns; /* at last then */
    size_t count;
    struct hearth_session **buckets; /* by key, [bucket_count]: a power of two */
    size_t bucket_count;
    struct hearth_request *requests;        /* by arrival */
    struct hearth_session *ahead;           /* whose next prompt is being computed, or NULL */
    struct hearth_sequence *ahead_sequence; /* of it; NULL while requests run */
    bool windowed;                          /* the model has attention windows */
    size_t running;
    size_t together; /* ran in the last step */
    struct pace pace;
    uint64_t round;                   /* counts steps */
    struct hearth_draft *spare_draft; /* with what was learned; may be NULL */
    uint32_t vocabulary;
    uint32_t *ends; /* the ids that end an answer, once somebody has asked for none; or NULL */
    size_t end_count;
    bool parked; /* there was no room for all that ran: nothing begins until one has ended */
};

uint64_t sessions_now(const struct hearth_sessions *sessions);
uint32_t sessions_context(const struct hearth_sessions *sessions); /* tokens of a conversation */
/* It was used: to the front of the list. */
void session_touch(struct hearth_session *session);
/* Another one in memory, with `key` or NULL, opened once. */
int session_add(struct hearth_sessions *sessions, const char *key, struct hearth_session **out,
                struct hearth_error *err);
/* Into the list of those that are awake, or asleep. */
void session_set_awake(struct hearth_session *session, bool awake);
/* Takes it out of memory, whatever the store has of it. */
void session_drop(struct hearth_session *session);
/* Lets a conversation that nobody holds go. */
void session_drop_if_done(struct hearth_session *session);
/* Whether it answers, or waits for room to go on with an answer. */
bool session_is_busy(const struct hearth_session *session);

/* Gives back what was computed of it behind the first `kept` tokens and is not the beginning of
 * another conversation too; returns the bytes that became free. */
uint64_t session_forget(struct hearth_session *session, size_t kept);

/* Behind all others of its set; its conversation stays awake for it. */
void request_queue(struct hearth_request *request);
void request_free(struct hearth_request *request);
/* Whether it is paused, or waits for another one of its conversation. */
bool request_is_held_up(const struct hearth_request *request);

/* Whether nothing is to be computed for any request: there are none, or all are paused. */
bool schedule_is_idle(const struct hearth_sessions *sessions);
void schedule_fail(struct hearth_request *request, const struct hearth_error *cause);
/* Ends all requests as cancelled. */
void schedule_end_all(struct hearth_sessions *sessions);

#endif
