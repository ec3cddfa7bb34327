/* What daemon and worker say to each other. A worker owns one engine and its conversations; it has
 * two sockets: this one, on which both sides speak whenever they like, and one on which it asks for
 * its store and waits for the answer (store calls below).
 *
 * Texts of what was read point into the message and live as long as it does. All numbers are
 * checked by who reads them: neither side trusts the other. JSON travels as text where only one
 * side looks into it. */
#ifndef WORKER_PROTOCOL_H
#define WORKER_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sum.h"
#include "hearth/session.h"
#include "worker/message.h"

/* Descriptors that a worker is born with, besides standard error. */
#define WORKER_CONTROL_FD 3
#define WORKER_STORE_FD 4 /* a probe has none */

#define WORK_PAYLOAD_MAX ((size_t)64 << 20)
#define WORK_QUEUE_MAX ((size_t)128 << 20)
#define WORK_STOPS_MAX 64
#define WORK_BIAS_MAX 1024
#define WORK_BREAKERS_MAX 64
#define WORK_KEY_SIZE 257     /* of a conversation's key: UTF-8, 1 to 256 bytes, and a NUL */
#define WORK_MODEL_FDS_MAX 64 /* parts of a split model */

/* ---- types of messages ---- */

enum work_type {
    /* daemon to worker, about the worker itself (request 0) */
    WORK_MODEL = 1, /* up to four parts of the model, as descriptors; several, before WORK_START */
    WORK_START,     /* struct work_start: load; WORK_LOADING…, then WORK_READY or WORK_FAILED */
    WORK_THREADS,   /* u32: compute with so many from now on */
    WORK_SHED,      /* u64: give back so many bytes of KV cache */
    WORK_PING,      /* u64, which comes back with WORK_PONG */
    WORK_DRAIN,     /* take nothing more, end when what runs has ended */
    WORK_MEMORY,    /* u64: memory_max of struct hearth_engine_options from now on */

    /* daemon to worker, a request with a number of its own, which ends with its WORK_END or
     * WORK_REPLY, exactly one of them */
    WORK_ASK = 32, /* struct work_ask: WORK_BEGIN, WORK_READING…, WORK_TEXT…, WORK_END */
    WORK_CANCEL,   /* the request of that number; it still ends */
    WORK_PAUSE,    /* u32: 1 pauses it, 0 resumes */
    WORK_EMBED,    /* struct work_embed: WORK_REPLY with struct work_vectors */
    WORK_CALL,     /* struct work_call: WORK_REPLY with JSON */

    /* worker to daemon */
    WORK_LOADING = 64, /* f64: 0 to 1 */
    WORK_READY,        /* text: JSON, see below */
    WORK_FAILED,       /* u32 -code, text: could not be loaded; the worker ends */
    WORK_PONG,         /* u64, struct work_state */
    WORK_STATE,        /* struct work_state: unasked, when it changed, at most ten times a second */
    WORK_BEGIN = 96,   /* struct work_begin */
    WORK_READING,      /* u64 done, u64 total tokens of the prompt, known ones among them */
    WORK_TEXT,         /* struct work_text */
    WORK_END,          /* struct work_end */
    WORK_REPLY,        /* u32 -code, then the cause as text, or for 0 what was asked for */

    /* On the store's socket: a call, and its answer of the same type and number, exactly one, in
     * the order of the calls: work_put_reply with a cause, or with code 0 and the record (GET) or
     * nothing; of CREATE and OPEN work_put_store_file where they succeed. */
    WORK_STORE_GET = 128,    /* text key: the record */
    WORK_STORE_PUT,          /* work_put_store_record */
    WORK_STORE_REMOVE,       /* text key */
    WORK_STORE_SPILL_CREATE, /* u64 bytes: a descriptor */
    WORK_STORE_SPILL_KEEP,   /* work_put_store_spill, with a descriptor */
    WORK_STORE_SPILL_OPEN,   /* text key: struct store_spill, a descriptor */
    WORK_STORE_SPILL_DROP,   /* text key */
};

/* ---- loading ---- */

struct work_start {
    bool probe;                      /* say what the model is (WORK_READY) and end */
    bool no_mmap, mlock;             /* as struct hearth_model_options */
    struct text chat_template, tier; /* empty: the file's own; HEARTH_CPU */
    struct hearth_engine_options engine;
    uint64_t idle_ns; /* as struct hearth_sessions_options */
    uint32_t answers_max;
    struct text time_zone; /* TZ of the daemon; empty: the system's */
    bool store;            /* conversations are kept: there is a second socket */
};

/* WORK_READY's JSON, an object:
 *   architecture, name (general.name), size_label, file_type, parameters, parameter_size
 *   ("3.2B"), quantization ("Q4_K_M"), file_bytes, vocabulary, context_train, embedding_length,
 *   layers, window (0: none), bos_token, eos_token (texts, or null), chat_template (or null),
 *   identity, pooling ("mean", "last", "cls", "none"),
 *   estimate: {context, weights_bytes, kv_bytes, scratch_bytes, fixed_bytes, private_bytes,
 *   total_bytes} for the context of the options,
 *   kv_bytes_per_token, metadata: {key: value, arrays left out}
 * and, of a worker that is no probe: context (tokens that one conversation can have), kv_type,
 * threads, tier, load_ns. */

/* What a worker takes and does. */
struct work_state {
    uint64_t private_bytes, mapped_bytes, peak_bytes; /* of its process */
    uint64_t kv_bytes, cached_bytes, scratch_bytes;
    uint32_t sessions, waiting, running, paused;
    uint32_t pressure;
    uint64_t steps;         /* of the engine, since the start */
    uint64_t prompt_tokens; /* computed, since the start */
    uint64_t cached_tokens; /* of prompts, known */
    uint64_t answer_tokens;
};

/* ---- an answer ---- */

enum work_messages {
    WORK_MESSAGES_ALL,    /* these are all; without a session whoever said their beginning before
                           * goes on, so that any client has its prefix known */
    WORK_MESSAGES_APPEND, /* they come behind those of the session */
};

struct work_ask {
    struct text session; /* its key; empty: none */
    enum work_messages how;
    /* Of WORK_MESSAGES_APPEND: how many the conversation has, else HEARTH_E_STATE, because others
     * have gone on with it; 0: any number. */
    uint64_t behind;
    struct text messages;                    /* a JSON array of objects */
    struct text system;                      /* what it is told where APPEND begins it, or empty */
    struct text variables;                   /* a JSON object for the template, or empty */
    struct hearth_session_settings settings; /* of a session: for the first time it is asked */
    bool settings_given;
    struct hearth_sampling sampling; /* its lists are the reader's, see work_ask_finish */
    struct text stops[WORK_STOPS_MAX];
    uint32_t stop_count;
    uint32_t max_tokens, top_tokens;
    bool logprobs, ignore_end, background, no_speculation, progress;
    bool token_ids;      /* WORK_TEXT and WORK_END name ids */
    uint64_t timeout_ns; /* from when it arrives; 0: none */
};

struct work_begin {
    uint64_t prompt_tokens, cached_tokens;
    uint64_t queued_ns;
    /* The rendered prompt ends inside a reasoning block: what comes first is reasoning. */
    bool opens_reasoning;
};

struct work_token {
    uint32_t id;
    double logprob;
    struct text bytes;
};

/* New text of an answer, and the tokens drawn since the last one; the token that ends an answer is
 * none of its tokens. What was drawn behind the last visible text comes with an empty one. */
struct work_text {
    struct text text; /* whole characters; may be empty */
    uint32_t tokens;  /* of the answer so far */
    /* For logprobs and ids, `count` tokens follow, which work_text_token takes one by one. */
    uint32_t count;
};

struct work_end {
    struct text session; /* that the answer belongs to; empty: none */
    uint32_t stop;       /* enum hearth_stop */
    int32_t code;        /* negative with the cause, for errors and for a context that is full */
    struct text cause;
    struct text stop_string; /* that ended it; empty: none */
    uint64_t prompt_tokens, cached_tokens, answer_tokens, dropped_messages;
    uint32_t miss; /* enum hearth_miss */
    bool unsaved;
    uint64_t queued_ns, prompt_ns, first_token_ns, answer_ns;
    uint64_t decode_tokens, drafted, accepted;
};

/* ---- other requests ---- */

struct work_embed {
    struct text inputs; /* a JSON array of texts */
    bool background;
};
struct work_vectors { /* followed by count × dimensions little-endian f32, work_vectors_row */
    uint32_t count, dimensions;
    uint64_t tokens; /* of all inputs */
};

/* One operation with JSON in and out: its name, its arguments, and what comes back.
 *
 * tokenize {text, add_special, parse_special, pieces}: {tokens: [id…]}, with pieces [{id, piece}…]
 * detokenize {tokens, special}: {text}
 * render {messages, variables}: {prompt, opens_reasoning}
 * count {messages, variables} or {text}: {tokens}
 * sessions {}: {sessions: [{key, messages, tokens, kv_bytes, spill_bytes, idle_s, busy, unsaved}…]}
 * session {key}: one of these, with {settings: {keep, plain, overflow}}
 * history {key}: {messages: […]}
 * set {key, messages}, append {key, message}, truncate {key, count}, fork {key, count, to},
 * configure {key, keep, plain, overflow}, reset {key} (leaves what the system said at the
 * beginning): what session gives, of fork that of the new one
 * remove {key}: {}
 * release {key}: {}; it goes out of memory and to the store, fine where it is not in memory
 *
 * A piece that is no UTF-8 is an array of its bytes. `keep` is "default" or "never", `overflow`
 * "error", "stop" or "drop". Errors are HEARTH_E_… with the cause. */
struct work_call {
    struct text name;
    struct text arguments; /* a JSON object */
};

/* ---- writing and reading ----
 * put appends a whole message to `out` and says whether it fits; get is false where it is
 * malformed.
 */

bool work_put_empty(struct buffer *out, enum work_type type, uint64_t request,
                    uint32_t descriptors);
bool work_put_u32(struct buffer *out, enum work_type type, uint64_t request, uint32_t value);
bool work_put_u64(struct buffer *out, enum work_type type, uint64_t request, uint64_t value);
bool work_put_f64(struct buffer *out, enum work_type type, uint64_t request, double value);
bool work_put_text(struct buffer *out, enum work_type type, uint64_t request, struct text value);
bool work_get_u32(const struct message *message, uint32_t *value);
bool work_get_u64(const struct message *message, uint64_t *value);
bool work_get_f64(const struct message *message, double *value);
bool work_get_text(const struct message *message, struct text *value);

bool work_put_start(struct buffer *out, const struct work_start *start);
bool work_get_start(const struct message *message, struct work_start *start);
bool work_put_state(struct buffer *out, enum work_type type, uint64_t ping,
                    const struct work_state *state);
bool work_get_state(const struct message *message, uint64_t *ping, struct work_state *state);

bool work_put_ask(struct buffer *out, uint64_t request, const struct work_ask *ask);
bool work_get_ask(const struct message *message, struct work_ask *ask);
void work_ask_finish(struct work_ask *ask); /* frees what work_get_ask allocated */

bool work_put_begin(struct buffer *out, uint64_t request, const struct work_begin *begin);
bool work_get_begin(const struct message *message, struct work_begin *begin);
bool work_put_reading(struct buffer *out, uint64_t request, uint64_t done, uint64_t total);
bool work_get_reading(const struct message *message, uint64_t *done, uint64_t *total);

/* Each token: its own work_token, then the count of its top ones and these. `top` of
 * work_text_token takes at most HEARTH_TOP_TOKENS_MAX. */
size_t work_text_begin(struct buffer *out, uint64_t request, const struct work_text *text);
void work_text_put_token(struct buffer *out, const struct work_token *token,
                         const struct work_token *top, uint32_t top_count);
bool work_text_end(struct buffer *out, size_t begin);
bool work_get_text_begin(const struct message *message, struct message_reader *reader,
                         struct work_text *text);
bool work_text_token(struct message_reader *reader, struct work_token *token,
                     struct work_token top[HEARTH_TOP_TOKENS_MAX], uint32_t *top_count);

bool work_put_end(struct buffer *out, uint64_t request, const struct work_end *end);
bool work_get_end(const struct message *message, struct work_end *end);

bool work_put_embed(struct buffer *out, uint64_t request, const struct work_embed *embed);
bool work_get_embed(const struct message *message, struct work_embed *embed);
bool work_put_vectors(struct buffer *out, uint64_t request, const struct work_vectors *vectors,
                      const float *values);
bool work_get_vectors(struct message_reader *reader, struct work_vectors *vectors);
bool work_vectors_row(struct message_reader *reader, uint32_t dimensions, float *row);

bool work_put_call(struct buffer *out, uint64_t request, const struct work_call *call);
bool work_get_call(const struct message *message, struct work_call *call);

/* `code` 0: `text` is what was asked for. Else it is the cause. work_get_reply takes the cause; for
 * code 0 it leaves the reader before what was asked for: one text, vectors or a file. */
bool work_put_reply(struct buffer *out, enum work_type type, uint64_t request, int code,
                    struct text text);
bool work_get_reply(const struct message *message, struct message_reader *reader, int *code,
                    struct text *cause);

/* A key as a string of its own; false where it is none. */
bool work_copy_key(struct text key, char out[WORK_KEY_SIZE]);
/* The key of a message that has nothing else. */
bool work_get_key(const struct message *message, char key[WORK_KEY_SIZE]);

struct store_summary;
struct store_spill;
/* The names in the summary that was read lie in `model` and `model_name`. */
bool work_put_store_record(struct buffer *out, uint64_t number, struct text key, struct text record,
                           const struct store_summary *summary);
bool work_get_store_record(const struct message *message, struct text *key, struct text *record,
                           struct store_summary *summary, char model[HEARTH_IDENTITY_SIZE],
                           char model_name[HEARTH_STORE_NAME_SIZE]);
/* WORK_STORE_SPILL_KEEP: its file is the one descriptor of the message. */
bool work_put_store_spill(struct buffer *out, uint64_t number, struct text key,
                          const struct store_spill *spill);
bool work_get_store_spill(const struct message *message, struct text *key,
                          struct store_spill *spill);
/* What a successful call gives that has a file, the one descriptor of its answer; `spill` NULL for
 * WORK_STORE_SPILL_CREATE. To be read behind work_get_reply. */
bool work_put_store_file(struct buffer *out, enum work_type type, uint64_t number,
                         const struct store_spill *spill);
bool work_get_store_file(const struct message *message, struct message_reader *reader,
                         struct store_spill *spill);

#endif
