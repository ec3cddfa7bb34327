/* hearth: conversations. Any number of them live on one engine, each going on where it was.
 *
 * A conversation is a list of messages. To answer it, the whole list is rendered by the model's
 * chat template and compared with what was computed before: only what is different is computed.
 * The ids that an answer was drawn as are kept, also where a tokenizer would write the same text
 * otherwise. What was computed lies in the engine's prefix cache, so conversations with the same
 * beginning share it, and nothing about a conversation is scarce: when its blocks are gone, they
 * are computed again, and the result says so.
 *
 *     hearth_sessions_open → hearth_session_open → hearth_session_append → hearth_session_ask
 *     loop: hearth_sessions_step, which calls back with text as it comes and with the result
 *
 * Threads: a set of conversations with its engine belongs to one thread at a time, except
 * hearth_request_cancel. Callbacks run inside hearth_sessions_step and may call anything here but
 * hearth_sessions_step and hearth_sessions_close.
 * Messages are JSON as chat templates expect them: [{"role": "user", "content": "…"}, …]. */
#ifndef HEARTH_SESSION_H
#define HEARTH_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hearth/error.h"
#include "hearth/hearth.h"

#ifdef __cplusplus
extern "C" {
#endif

struct hearth_sessions;
struct hearth_session;
struct hearth_request;

#define HEARTH_IDLE_NEVER UINT64_MAX
#define HEARTH_IDLE_AT_ONCE UINT64_C(1)

/* ---- where conversations are kept ---- */

/* Conversations with a key outlive the process in a store: their messages in a database, what was
 * computed of them in a file each. Anonymous ones use it for files without a name, which end with
 * the process. One process at a time. */
struct hearth_store;

struct hearth_store_options {
    const char *directory; /* made for the user alone (0700) where there is none */
    /* Of the files of what was computed: the least recently used ones go first. 0: 8 GiB, or a
     * tenth of what is free where that is less. */
    uint64_t bytes_max;
};
/* HEARTH_E_STATE names the process that uses it. A damaged database is put aside, a sentence in
 * `err` says so, and the call succeeds with what could be read of it. */
HEARTH_API int hearth_store_open(const struct hearth_store_options *options,
                                 struct hearth_store **out, struct hearth_error *err);
/* Waits until what was given to it is on the disk. Close the conversations before. */
HEARTH_API void hearth_store_close(struct hearth_store *store);

#define HEARTH_STORE_NAME_SIZE 64

struct hearth_store_entry {
    const char *key;
    char model[HEARTH_IDENTITY_SIZE];
    char model_name[HEARTH_STORE_NAME_SIZE]; /* as its file has it; "" where it says none */
    uint64_t messages, tokens;
    uint64_t record_bytes, spill_bytes, spill_tokens; /* on the disk */
    int64_t used_unix;
};
/* All that are kept, the latest first; a visit that returns false ends it. Entries live as long as
 * the visit, which may use the store. */
HEARTH_API int hearth_store_list(struct hearth_store *store,
                                 bool (*visit)(void *context,
                                               const struct hearth_store_entry *entry),
                                 void *context, struct hearth_error *err);
/* The messages of a conversation as a JSON array; allocated, NUL-terminated. HEARTH_E_MISSING;
 * HEARTH_E_FORMAT where they are damaged. */
HEARTH_API int hearth_store_messages(struct hearth_store *store, const char *key, char **text,
                                     size_t *size, struct hearth_error *err);
/* Forgets a conversation. HEARTH_E_MISSING. */
HEARTH_API int hearth_store_remove(struct hearth_store *store, const char *key,
                                   struct hearth_error *err);

/* ---- a set of conversations ---- */

struct hearth_sessions_options { /* zeroed: the defaults */
    struct hearth_store *store;  /* NULL: nothing is written; must outlive the set */
    /* Nanoseconds that only go forward; NULL: the system's clock. */
    uint64_t (*now)(void *context);
    void *clock_context;
    /* The date that templates may write, as seconds since 1970. 0: when the conversation began; it
     * stays the same, because another date would make all of it be computed again. */
    int64_t unix_seconds;
    /* After so long without use what was computed of a conversation is spilled, where there is a
     * store, and its memory given back; so is the engine's when nothing was asked for so long. The
     * next message goes on within the time that reading the spill takes. 0: 5 minutes. */
    uint64_t idle_ns;
    uint32_t context_max; /* tokens of a conversation; 0: the model's own limit */
    uint32_t answers_max; /* computed at once; 0: 8 */
    /* While the machine, or this process's control group, is short of memory, give back working
     * memory, then conversations that do not run, as hearth_sessions_shed does, then the pages of
     * idle weights. Each step looks, at most once a second, and none is to wait much longer. */
    bool watch_pressure;
    const char *pressure_root; /* for tests: where the system's files are; NULL: "" */
};

/* The engine is used by nobody else until the conversations are closed. */
HEARTH_API int hearth_sessions_open(const struct hearth_model *model, struct hearth_engine *engine,
                                    const struct hearth_sessions_options *options,
                                    struct hearth_sessions **out, struct hearth_error *err);
/* Ends what runs (HEARTH_E_CANCELLED) and closes all conversations. */
HEARTH_API void hearth_sessions_close(struct hearth_sessions *sessions);

/* ---- a conversation ---- */

/* The conversation of a key (UTF-8, 1 to 256 bytes), the same one each time until it is removed,
 * also in a later process where there is a store; a new one without messages where there is none.
 * One that another model answered comes with its messages. NULL: an anonymous one, gone when
 * closed. HEARTH_E_FORMAT where what the store has of it is damaged: hearth_store_remove makes the
 * key free. */
HEARTH_API int hearth_session_open(struct hearth_sessions *sessions, const char *key,
                                   struct hearth_session **out, struct hearth_error *err);
/* The same where there is one, in memory or in the store; else HEARTH_E_MISSING. */
HEARTH_API int hearth_session_find(struct hearth_sessions *sessions, const char *key,
                                   struct hearth_session **out, struct hearth_error *err);
/* Lets go of it: each open has its close. */
HEARTH_API void hearth_session_close(struct hearth_session *session);
/* Forgets everything about it, in the store as well; it goes with its last close. HEARTH_E_STATE
 * while it answers. */
HEARTH_API int hearth_session_remove(struct hearth_session *session, struct hearth_error *err);

/* What is said and answered is given to the store at once: it outlives the process from when the
 * call returns, or before on_end is called. What the store does not take stays in memory, is told
 * by hearth_session_info and as `unsaved` of results, and is tried again with the next change. */

/* One message (a JSON object) at the end. HEARTH_E_FORMAT for what is none; HEARTH_E_STATE while
 * the conversation answers. */
HEARTH_API int hearth_session_append(struct hearth_session *session, const char *message,
                                     size_t size, struct hearth_error *err);
/* Other messages (a JSON array) in the place of all: an edited history, or that of a client which
 * sends it whole each time. */
HEARTH_API int hearth_session_set_messages(struct hearth_session *session, const char *messages,
                                           size_t size, struct hearth_error *err);
/* Leaves the first `count` messages. */
HEARTH_API int hearth_session_truncate(struct hearth_session *session, size_t count,
                                       struct hearth_error *err);
/* Another conversation with the first `count` messages of this one and what was computed of them.
 * `key` as for hearth_session_open; HEARTH_E_STATE where it is taken. */
HEARTH_API int hearth_session_fork(struct hearth_session *session, size_t count, const char *key,
                                   struct hearth_session **out, struct hearth_error *err);
HEARTH_API size_t hearth_session_count(const struct hearth_session *session); /* messages */
/* All messages as a JSON array; allocated, NUL-terminated. */
HEARTH_API int hearth_session_messages(const struct hearth_session *session, char **text,
                                       size_t *size, struct hearth_error *err);

/* Lets go of everything in memory about a conversation with a key that nobody else has open, so
 * that another process may go on with it: record and spill are in the store then, and the handle is
 * closed. HEARTH_E_STATE while it answers, is open elsewhere or has no store; then it stays open.
 */
HEARTH_API int hearth_session_release(struct hearth_session *session, struct hearth_error *err);

/* Gives it to the store again and says why that fails. 0 where it is not to be kept. */
HEARTH_API int hearth_session_save(struct hearth_session *session, struct hearth_error *err);

/* What is written of a conversation to the disk. */
enum hearth_keep {
    /* With a key: messages, and what was computed while it is not in memory. Anonymous: the latter
     * alone, in a file that has no name and ends with the process. */
    HEARTH_KEEP_DEFAULT = 0,
    HEARTH_KEEP_NEVER = 1, /* nothing; what the store has of it is removed */
};

/* What happens when a conversation has more tokens than its context may hold. */
enum hearth_overflow {
    /* An error with the numbers: of a prompt that does not fit, and of an answer that reaches the
     * limit, whose text so far is kept. */
    HEARTH_OVERFLOW_ERROR = 0,
    HEARTH_OVERFLOW_STOP = 1, /* the answer ends there: HEARTH_STOP_CONTEXT */
    /* The oldest turns but the system prompt are left out of what the model sees, so many that a
     * quarter of the context becomes free, also in the middle of an answer; they stay among the
     * messages. HEARTH_STOP_CONTEXT where the last turn alone reaches the limit. */
    HEARTH_OVERFLOW_DROP = 2,
};

/* What may be chosen for each conversation; kept with it. Zeroed: the defaults. */
struct hearth_session_settings {
    enum hearth_keep keep;
    bool plain; /* the messages' texts as they are, one behind the other, in place of the model's
                 * template; always so for a model without one */
    enum hearth_overflow overflow;
};
/* HEARTH_E_ARGUMENT for a setting that there is not; HEARTH_E_STATE while it answers. */
HEARTH_API int hearth_session_configure(struct hearth_session *session,
                                        const struct hearth_session_settings *settings,
                                        struct hearth_error *err);

struct hearth_session_info {
    const char *key;      /* NULL: anonymous; lives as long as the handle */
    size_t messages;      /* as hearth_session_count */
    size_t tokens;        /* that they became when they were last asked about */
    uint64_t kv_bytes;    /* of what is in memory of them, also if others share it */
    uint64_t spill_bytes; /* of the file that was last written or read for it */
    uint64_t used_ns;     /* since it was last used */
    bool busy;            /* has requests that did not end */
    bool unsaved;         /* the store did not take its last change */
    struct hearth_session_settings settings;
};
HEARTH_API void hearth_session_info(const struct hearth_session *session,
                                    struct hearth_session_info *out);

/* All that are in memory, by use, the latest first; a visit that returns false ends it and may
 * change nothing. */
HEARTH_API void hearth_sessions_list(const struct hearth_sessions *sessions,
                                     bool (*visit)(void *context,
                                                   const struct hearth_session_info *info),
                                     void *context);

/* ---- answers ---- */

enum hearth_stop {
    HEARTH_STOP_END,       /* the model ended it */
    HEARTH_STOP_LENGTH,    /* max_tokens */
    HEARTH_STOP_STRING,    /* a stop string */
    HEARTH_STOP_CONTEXT,   /* the context is full */
    HEARTH_STOP_CANCELLED, /* hearth_request_cancel; the history keeps the text so far */
    HEARTH_STOP_ERROR,     /* see the error; HEARTH_E_LIMIT with a text: it is in the history */
};

/* Why tokens of the prompt had to be computed that could have been known. */
enum hearth_miss {
    HEARTH_MISS_NOTHING,  /* everything but what was appended was known */
    HEARTH_MISS_NEW,      /* the conversation is new here */
    HEARTH_MISS_EDITED,   /* earlier messages are others than before */
    HEARTH_MISS_TEMPLATE, /* the template wrote earlier messages differently */
    HEARTH_MISS_EVICTED,  /* what was computed had given way */
    HEARTH_MISS_WINDOW,   /* the attention window does not reach back */
    HEARTH_MISS_MODEL,    /* it was computed by another model or with another KV type */
    HEARTH_MISS_DAMAGED,  /* what was kept on the disk was damaged */
    HEARTH_MISS_DROPPED,  /* turns were dropped, and what follows them moved */
};

struct hearth_result {
    enum hearth_stop stop;
    struct hearth_error error; /* for HEARTH_STOP_ERROR, _CANCELLED and _CONTEXT */
    const char *text;          /* the whole answer: UTF-8, NUL-terminated */
    size_t text_size;
    const char *stop_string; /* for HEARTH_STOP_STRING; valid until on_end returns */
    size_t prompt_tokens, answer_tokens;
    size_t dropped_messages; /* behind the system prompt, that the model did not see */
    size_t cached_tokens;    /* of the prompt's, those that did not have to be computed */
    enum hearth_miss miss;
    bool unsaved; /* the store did not take the answer */
    /* Of the prompt, then of the answer, then the one that ended it for HEARTH_STOP_END: valid
     * until on_end returns. */
    const uint32_t *ids;
    size_t id_count;
    uint64_t queued_ns;         /* waiting */
    uint64_t prompt_ns;         /* reading the prompt */
    uint64_t first_token_ns;    /* since reading began; 0: there was none */
    uint64_t answer_ns;         /* from the end of reading until the last token was computed */
    size_t decode_tokens;       /* that answer_ns was for: all drawn but the first */
    uint64_t drafted, accepted; /* guesses that were computed; that were right */
};

/* A token with its probability, of the logits before penalties and filters: log softmax. */
struct hearth_token {
    uint32_t id;
    float logprob;    /* 0 where it was not asked for */
    const char *text; /* its own bytes, often no whole character; control tokens spelled out */
    size_t size;
};
/* What was drawn, and the most probable tokens in its place, the best first. */
struct hearth_drawn {
    struct hearth_token token;
    const struct hearth_token *top;
    size_t top_count;
};

/* What is asked about, once it is rendered and compared with what is known. */
struct hearth_prompt {
    const char *text; /* rendered; NUL-terminated */
    size_t size;
    size_t tokens, cached_tokens;
    uint64_t queued_ns; /* that it waited */
};

#define HEARTH_TOP_TOKENS_MAX 20

struct hearth_ask {                         /* zeroed but for what is said: the defaults */
    const struct hearth_sampling *sampling; /* copied; NULL: the defaults */
    const char *const *stop;                /* copied */
    size_t stop_count;
    uint32_t max_tokens; /* 0: no limit but the context */
    /* A JSON object with more variables for the template (tools, enable_thinking, …); may be NULL.
     */
    const char *variables;
    bool no_speculation;  /* compute no guesses of what follows; the answer is the same */
    bool ignore_end;      /* what ends an answer is never drawn */
    bool logprobs;        /* on_token is told of probabilities */
    uint32_t top_tokens;  /* and of so many others, at most HEARTH_TOP_TOKENS_MAX */
    bool background;      /* gives way to all that is not */
    uint64_t deadline_ns; /* by the clock of the set: cancelled then; 0: none */
    /* Callbacks may be NULL. What they are given lives until they return. */
    void (*on_begin)(void *context, const struct hearth_prompt *prompt);
    /* Each token as it is drawn, the one that ends the answer too; before the text that it makes
     * visible, which may be that of earlier ones. */
    void (*on_token)(void *context, const struct hearth_drawn *drawn);
    void (*on_text)(void *context, const char *text, size_t size);
    /* How many tokens of the prompt are known or computed. */
    void (*on_progress)(void *context, size_t done, size_t total);
    /* Called once, at the end; the result and the request live until it returns. */
    void (*on_end)(void *context, const struct hearth_result *result);
    void *context;
};

/* Asks for an answer to the conversation's messages, which becomes its next message. One that
 * already answers takes its requests one after the other. Errors of the request itself (a template
 * that raises, a prompt that is too long) come as its result. `request` (may be NULL) is valid
 * until on_end returns. */
HEARTH_API int hearth_session_ask(struct hearth_session *session, const struct hearth_ask *ask,
                                  struct hearth_request **request, struct hearth_error *err);
/* From any thread. */
HEARTH_API void hearth_request_cancel(struct hearth_request *request);
/* One that is paused computes nothing and gives no text, and the others do not notice: for a reader
 * who does not keep up. Its place is another's meanwhile, and what was computed of it may be
 * spilled. Cancels and deadlines hold. The times in its result are without those of its pauses. */
HEARTH_API void hearth_request_pause(struct hearth_request *request, bool pause);

/* ---- embeddings ---- */

struct hearth_embed { /* zeroed but for what is said: the defaults */
    const char *text; /* copied; may hold any bytes */
    size_t size;
    bool background;
    uint64_t deadline_ns; /* as of hearth_ask */
    /* Called once: the vector of `dimensions` floats, of length 1, of a text of so many tokens; or
     * NULL and why. They live until it returns. */
    void (*on_end)(void *context, const float *vector, size_t dimensions, size_t tokens,
                   const struct hearth_error *error);
    void *context;
};
/* The vector of a text: the model's last hidden states, pooled as its file says
 * (hearth_model_pooling). Computed beside the answers, and the same bits whatever these are.
 * HEARTH_E_ARGUMENT for a text without tokens, HEARTH_E_UNSUPPORTED for a pooling that does not
 * work; HEARTH_E_LIMIT, in on_end, where the text is longer than the context. `request` as for
 * hearth_session_ask. */
HEARTH_API int hearth_sessions_embed(struct hearth_sessions *sessions,
                                     const struct hearth_embed *embed,
                                     struct hearth_request **request, struct hearth_error *err);

/* Does one piece of work: a chunk of prompts and a token for each running answer. *wait_ns becomes
 * how long there is nothing to do: 0 to go on at once, HEARTH_IDLE_NEVER until something is asked,
 * cancelled, or no longer paused.
 */
HEARTH_API void hearth_sessions_step(struct hearth_sessions *sessions, uint64_t *wait_ns);

/* Gives back at least `bytes` of KV cache, where conversations that do not run have so much: the
 * least recently used first, each spilled before where there is a store. Returns how many. */
HEARTH_API uint64_t hearth_sessions_shed(struct hearth_sessions *sessions, uint64_t bytes);

struct hearth_sessions_state {
    size_t sessions; /* in memory: opened, or not (yet) in the store alone */
    size_t waiting, running;
    size_t paused;     /* of those that wait, by hearth_request_pause */
    size_t held;       /* conversations whose context has not been disposed */
    unsigned pressure; /* how short memory is, where that is watched: 0 not, 1 some, 2 much */
    struct hearth_engine_memory memory;
};
HEARTH_API void hearth_sessions_state(const struct hearth_sessions *sessions,
                                      struct hearth_sessions_state *out);

#ifdef __cplusplus
}
#endif
#endif
