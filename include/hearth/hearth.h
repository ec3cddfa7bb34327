/* hearth: run language models in a bounded memory.
 *
 * A model is a GGUF file, opened once, immutable and shared. An engine computes with it; sequences
 * are token timelines that live in an engine and are computed together, step by step. Around them
 * stand the model's own tokenizer and chat template, a sampler and a stream that turns token ids
 * back into whole characters. Conversations, their storage and clean-up are in session.h.
 *
 *     hearth_model_open → hearth_render_chat → hearth_tokenize
 *     hearth_engine_open → hearth_sequence_open → hearth_sequence_extend
 *     loop: hearth_engine_step → hearth_sequence_logits → hearth_sampler_sample
 *           → hearth_stream_push → hearth_sequence_extend
 *
 * Errors: error.h. Ownership: what a call hands out as `struct x **out` is the caller's and goes
 * back by the matching close; texts and arrays marked "allocated" go back by hearth_free. An object
 * must be closed before the one it was opened from.
 * Threads: a model may be used by any number of threads at once. An engine with its sequences
 * belongs to one thread at a time, except hearth_sequence_cancel. Samplers and streams belong to
 * one thread at a time each.
 * Nothing here prints, exits, reads the environment (but HEARTH_CPU) or keeps global state. */
#ifndef HEARTH_HEARTH_H
#define HEARTH_HEARTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hearth/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define HEARTH_TOKEN_NONE UINT32_MAX

struct hearth_model;
struct hearth_engine;
struct hearth_sequence;
struct hearth_sampler;
struct hearth_stream;
struct hearth_draft;

HEARTH_API const char *hearth_version(void);
HEARTH_API void hearth_free(void *allocated); /* NULL is fine */

/* ---- model ---- */

struct hearth_model_options { /* zeroed: the defaults */
    /* Called while the model is opened, with 0 to 1, and again by hearth_engine_step, on its
     * thread, while it waits for weights that are still being read. A return of false cancels. May
     * be NULL; must not call into the engine. */
    bool (*progress)(void *context, double fraction);
    void *progress_context;
    bool no_mmap; /* read all weights into private memory before the call returns: for drives that
                   * may vanish, and files that others may change */
    bool mlock;   /* keep the weights in memory once they were read. HEARTH_E_LIMIT names the limit
                   * where the system does not allow it */
    /* In the place of the file's own, which hearth_model_metadata still gives; copied. NULL: the
     * file's. HEARTH_E_TEMPLATE where it is none. */
    const char *chat_template;
    bool vocabulary_only; /* only tokens and templates are wanted: weights are not read ahead. Opens
                           * files that have no weights, or none that can be computed with, too:
                           * an engine, or its estimate, says why not */
};

/* Maps the file read-only and checks it; weights are used in place. They are read in the
 * background, in the order in which a step uses them, and a step waits for each layer until it is
 * there; where they do not fit the memory they are read as they are used, again in each step. While
 * a model is mapped its file must not be cut short: the process would receive SIGBUS. The parts of
 * a split model are found beside the first. `options` may be NULL. HEARTH_E_UNSUPPORTED names an
 * architecture, tensor type or tokenizer that does not work, and those that do. */
HEARTH_API int hearth_model_open(const char *path, const struct hearth_model_options *options,
                                 struct hearth_model **out, struct hearth_error *err);
/* The same from open descriptors, the parts in order. They may be closed afterwards. */
HEARTH_API int hearth_model_open_fds(const int *fds, size_t count,
                                     const struct hearth_model_options *options,
                                     struct hearth_model **out, struct hearth_error *err);
HEARTH_API void hearth_model_close(struct hearth_model *model);
/* Lets the system take the memory of mapped weights, before that of others, when it needs some. A
 * step brings back what it uses. Nothing happens to weights that were copied or locked. */
HEARTH_API void hearth_model_rest(const struct hearth_model *model);

struct hearth_model_info {
    uint64_t parameters;     /* elements of all tensors */
    uint64_t file_bytes;     /* of all parts */
    uint32_t vocabulary;     /* tokens */
    uint32_t context_length; /* tokens the model was trained for */
    uint32_t embedding_length;
    uint32_t layers;
    uint32_t bos, eos; /* HEARTH_TOKEN_NONE where there is none */
    uint32_t window;   /* some layers see only so many tokens back; 0: all see everything */
    bool has_template;
};
HEARTH_API void hearth_model_info(const struct hearth_model *model, struct hearth_model_info *out);

/* Names a model by its content: hexadecimal, NUL-terminated. Files with the same keys, tensors and
 * (as far as samples tell) weights have the same one, wherever they lie. */
#define HEARTH_IDENTITY_SIZE 33
HEARTH_API int hearth_model_identity(const struct hearth_model *model,
                                     char identity[HEARTH_IDENTITY_SIZE], struct hearth_error *err);

/* How the states of a text's tokens become one vector. */
enum hearth_pooling {
    HEARTH_POOLING_MEAN = 1,
    HEARTH_POOLING_FIRST = 2, /* the first token's */
    HEARTH_POOLING_LAST = 3,
};
/* As the file says by `{architecture}.pooling_type`; the mean where it says nothing, or that there
 * is none. HEARTH_E_UNSUPPORTED names a way that does not work. */
HEARTH_API int hearth_model_pooling(const struct hearth_model *model, enum hearth_pooling *out,
                                    struct hearth_error *err);

/* The value of a metadata key as text: a string as it is, a number or bool as JSON writes it, an
 * array as its length in brackets. Allocated, NUL-terminated; `size` may be NULL.
 * HEARTH_E_MISSING where there is no such key. */
HEARTH_API int hearth_model_metadata(const struct hearth_model *model, const char *key, char **text,
                                     size_t *size, struct hearth_error *err);

/* What is in a file, as one JSON object, also for a model that cannot be run: `architecture`,
 * `parameters`, `bytes`, `types` (bytes by tensor type), `keys`, `tensors`, and, where the
 * architecture is supported, `memory` at a context of 2048 and at the model's own. Allocated. */
HEARTH_API int hearth_inspect(const char *path, char **json, struct hearth_error *err);
/* The same from open descriptors, the parts in order; and of a model that is open, without
 * `memory`. */
HEARTH_API int hearth_inspect_fds(const int *fds, size_t count, char **json,
                                  struct hearth_error *err);
HEARTH_API int hearth_model_inspect(const struct hearth_model *model, char **json,
                                    struct hearth_error *err);

/* ---- text and tokens ---- */

enum hearth_tokenize_flags {
    HEARTH_ADD_SPECIAL = 1,   /* BOS and EOS where the model's keys ask for them */
    HEARTH_PARSE_SPECIAL = 2, /* special tokens spelled out in the text become their ids */
};

/* `text` may hold any bytes. `ids` is allocated. */
HEARTH_API int hearth_tokenize(const struct hearth_model *model, const char *text, size_t size,
                               unsigned flags, uint32_t **ids, size_t *count,
                               struct hearth_error *err);
/* The text of `ids`, control tokens spelled out when `special`. Allocated, NUL-terminated. */
HEARTH_API int hearth_detokenize(const struct hearth_model *model, const uint32_t *ids,
                                 size_t count, bool special, char **text, size_t *size,
                                 struct hearth_error *err);
/* The bytes that a token stands for behind others, often no whole character; of a control token its
 * name. HEARTH_E_ARGUMENT for an id outside the vocabulary. Allocated, NUL-terminated. */
HEARTH_API int hearth_token_bytes(const struct hearth_model *model, uint32_t id, char **bytes,
                                  size_t *size, struct hearth_error *err);
/* Whether an id ends an answer (EOS, end of turn, …). */
HEARTH_API bool hearth_is_end(const struct hearth_model *model, uint32_t id);

/* Renders the model's chat template. `variables` is a JSON object with what templates expect:
 * messages, tools, documents, add_generation_prompt, …; bos_token and eos_token are added. The
 * result is tokenized with HEARTH_PARSE_SPECIAL and, because templates write BOS themselves,
 * without HEARTH_ADD_SPECIAL. `unix_seconds` is the moment a template may print.
 * HEARTH_E_MISSING where the model has no template, HEARTH_E_TEMPLATE where it raises. Allocated.
 */
HEARTH_API int hearth_render_chat(const struct hearth_model *model, const char *variables,
                                  size_t size, int64_t unix_seconds, char **text, size_t *text_size,
                                  struct hearth_error *err);

/* A stream turns the ids of one answer into text that can be shown at once: whole code points
 * only, and nothing that may turn out to be the beginning of a stop string. The text is valid
 * UTF-8 (bytes that are none become U+FFFD) and does not depend on how it is cut into tokens. */
struct hearth_stream_options { /* zeroed: the defaults */
    const char *const *stop;   /* stop strings: UTF-8, NUL-terminated; copied */
    size_t stop_count;         /* at most 64, of at most 1024 bytes each */
    bool special;              /* show control tokens */
    bool continues; /* the text goes on from a prompt: keep the space that SentencePiece writes
                     * before a first word */
};
/* `options` may be NULL. HEARTH_E_LIMIT for stop strings that are too many or too long,
 * HEARTH_E_ARGUMENT for one that is empty or no UTF-8. */
HEARTH_API int hearth_stream_open(const struct hearth_model *model,
                                  const struct hearth_stream_options *options,
                                  struct hearth_stream **out, struct hearth_error *err);
HEARTH_API void hearth_stream_close(struct hearth_stream *stream);
/* Adds a token; `text` (never NULL, `size` bytes, the stream's until the next call) is what may be
 * shown now. *stopped becomes true when a stop string is complete: it is not part of the text, and
 * further pushes give nothing. Of several stop strings the first to be complete counts. */
HEARTH_API int hearth_stream_push(struct hearth_stream *stream, uint32_t id, const char **text,
                                  size_t *size, bool *stopped, struct hearth_error *err);
/* The stop string that is complete; NULL where there is none. Lives as long as the stream. */
HEARTH_API const char *hearth_stream_stop(const struct hearth_stream *stream);
/* What was held back, at the end of the answer. A push after it fails with HEARTH_E_STATE. (A stop
 * string that U+FFFD completes only here is left out too.) */
HEARTH_API int hearth_stream_flush(struct hearth_stream *stream, const char **text, size_t *size,
                                   struct hearth_error *err);

/* ---- engine ---- */

/* How keys and values are stored. Quantized ones need heads of a multiple of 32 elements; they are
 * rotated before they are rounded, and so lose less. */
enum hearth_kv_type {
    HEARTH_KV_F16 = 0,
    HEARTH_KV_Q8_0 = 1,
    HEARTH_KV_Q4_0 = 2,
    HEARTH_KV_Q8_0_Q4_0 = 3, /* keys Q8_0, values Q4_0 */
};

/* What to do with a context that does not fit the memory. */
enum hearth_fit {
    HEARTH_FIT_REFUSE = 0, /* HEARTH_E_LIMIT, with the figures */
    HEARTH_FIT_SHRINK = 1, /* a shorter one: hearth_sequence_context says how long */
};

#define HEARTH_MEMORY_UNLIMITED UINT64_MAX

struct hearth_engine_options { /* zeroed: the defaults */
    unsigned threads;          /* 0: as many as the process may use cores */
    uint32_t chunk_tokens;     /* tokens computed in one step at most; 0: 256 */
    enum hearth_kv_type kv_type;
    uint64_t kv_bytes_max; /* KV cache of all sequences; 0: no limit but memory_max */
    /* The weights and the private memory of this process together. What the rest leaves of it is
     * the KV cache's. 0: half of what the machine, or its control group, has. */
    uint64_t memory_max;
    uint32_t context; /* tokens that one sequence must find room for; 0: 2048, or the model's own
                       * limit where that is less */
    enum hearth_fit fit;
};

/* What an engine takes, never less than it really does. */
struct hearth_estimate {
    uint32_t context;       /* tokens of one sequence that it is for */
    uint64_t weights_bytes; /* the file: mapped, or with no_mmap private */
    uint64_t kv_bytes;      /* of so many tokens, in whole blocks, windows considered */
    uint64_t scratch_bytes; /* activations of a chunk, eight rows of logits */
    uint64_t fixed_bytes;   /* tokenizer, template, threads, a sampler, the program itself */
    uint64_t private_bytes, total_bytes; /* the sums: of what is private, of all */
};
/* Says it before anything is allocated, for a context as `options` (may be NULL) have it. The
 * model may be open for its vocabulary only. */
HEARTH_API int hearth_engine_estimate(const struct hearth_model *model,
                                      const struct hearth_engine_options *options,
                                      struct hearth_estimate *out, struct hearth_error *err);

/* Allocates no KV cache: that grows as sequences do, up to what memory_max leaves. HEARTH_E_LIMIT
 * with the figures where that is too little. HEARTH_CPU forces a kernel tier. */
HEARTH_API int hearth_engine_open(const struct hearth_model *model,
                                  const struct hearth_engine_options *options,
                                  struct hearth_engine **out, struct hearth_error *err);
HEARTH_API void hearth_engine_close(struct hearth_engine *engine);

/* Bytes that this engine takes now. */
struct hearth_engine_memory {
    uint64_t kv_bytes;      /* committed KV blocks */
    uint64_t cached_bytes;  /* those of them that only the prefix cache holds */
    uint64_t scratch_bytes; /* activations, logits */
};
HEARTH_API void hearth_engine_memory(const struct hearth_engine *engine,
                                     struct hearth_engine_memory *out);
/* How many tokens one sequence can hold: those of the options, else the model's own limit, or what
 * memory_max has room for. */
HEARTH_API uint32_t hearth_engine_context(const struct hearth_engine *engine);
HEARTH_API const char *hearth_engine_tier(const struct hearth_engine *engine); /* "avx512", … */
HEARTH_API unsigned hearth_engine_threads(const struct hearth_engine *engine); /* at the opening */
/* Computes with fewer threads than it was opened with, from the next step on: for programs whose
 * engines share the cores. 1 to those of the opening; what is beyond becomes that. Results do not
 * depend on it, and threads that are not used take no time. */
HEARTH_API void hearth_engine_use_threads(struct hearth_engine *engine, unsigned threads);
/* Another memory_max (hearth_engine_options) from the next step on: for programs whose engines
 * share a limit. The context becomes what fits. What the KV cache has beyond its new ceiling stays
 * until it is freed, trimmed or evicted for something else; where nothing can be, sequences that
 * grow end with HEARTH_E_LIMIT. */
HEARTH_API void hearth_engine_use_memory(struct hearth_engine *engine, uint64_t memory_max);

/* Names what hearth_sequence_save writes: engines with the same one can load it. It is made of the
 * model's identity, the KV type, the format's version and the kind of machine. */
HEARTH_API int hearth_engine_identity(const struct hearth_engine *engine,
                                      char identity[HEARTH_IDENTITY_SIZE],
                                      struct hearth_error *err);

/* A timeline of tokens. `context_max`: how many it may hold, a hard limit; 0 for
 * hearth_engine_context. Takes no memory for them before they are computed. HEARTH_E_LIMIT, or a
 * shorter one, as hearth_engine_options.fit says, where one of that length alone would not fit. */
HEARTH_API int hearth_sequence_open(struct hearth_engine *engine, uint32_t context_max,
                                    struct hearth_sequence **out, struct hearth_error *err);
HEARTH_API void hearth_sequence_close(struct hearth_sequence *sequence);

enum hearth_logits {
    HEARTH_LOGITS_LAST = 0, /* of the last token given */
    HEARTH_LOGITS_ALL = 1,  /* of every token given */
    HEARTH_LOGITS_NONE = 2, /* of none: more tokens of a prompt will follow */
    /* The last hidden states in their place: see hearth_sequence_state. */
    HEARTH_STATES_LAST = 3,
    HEARTH_STATES_ALL = 4,
};

/* Queues tokens behind those that the sequence holds. HEARTH_E_LIMIT with the numbers where they
 * would pass its context, HEARTH_E_ARGUMENT for an id outside the vocabulary. */
HEARTH_API int hearth_sequence_extend(struct hearth_sequence *sequence, const uint32_t *ids,
                                      size_t count, enum hearth_logits logits,
                                      struct hearth_error *err);
/* Drops what is queued, and what is held beyond the first `count` tokens. HEARTH_E_STATE where the
 * model keeps only a window that no longer reaches back so far; then nothing is dropped. What the
 * last step computed can always be dropped again. */
HEARTH_API int hearth_sequence_truncate(struct hearth_sequence *sequence, size_t count,
                                        struct hearth_error *err);
HEARTH_API uint32_t hearth_sequence_context(const struct hearth_sequence *sequence); /* its limit */
HEARTH_API size_t hearth_sequence_length(const struct hearth_sequence *sequence);    /* computed */
HEARTH_API size_t hearth_sequence_pending(const struct hearth_sequence *sequence);   /* queued */

/* ---- what sequences share ---- */

/* An engine remembers what its sequences computed: a tree of token ids with the KV blocks behind
 * them, shared and copied when written. What no sequence uses is evicted, least recently used
 * first, when kv_bytes_max or memory ends, or when asked. */

/* Puts what the sequence holds into the prefix cache. For models with attention windows this is
 * also a place where a later sequence can begin. Remembers less, without an error, where memory
 * ends. */
HEARTH_API void hearth_sequence_remember(struct hearth_sequence *sequence);
/* Makes the sequence hold the longest beginning of `ids` that it holds already or that the prefix
 * cache has, and drops the rest and what is queued. `reused` (may be NULL) becomes its length.
 * (Logits come with tokens that are computed: give all but the last token of a prompt.) */
HEARTH_API int hearth_sequence_reuse(struct hearth_sequence *sequence, const uint32_t *ids,
                                     size_t count, size_t *reused, struct hearth_error *err);
/* Another sequence with the first `count` tokens of this one, sharing their blocks.
 * HEARTH_E_STATE where the model keeps only a window that no longer reaches back so far. */
HEARTH_API int hearth_sequence_fork(const struct hearth_sequence *sequence, size_t count,
                                    struct hearth_sequence **out, struct hearth_error *err);
/* Drops from the prefix cache what it holds of these ids behind the first `kept`, and of no other
 * text; returns how many bytes became free by that. */
HEARTH_API uint64_t hearth_engine_forget(struct hearth_engine *engine, const uint32_t *ids,
                                         size_t kept, size_t count);
/* Of these ids the prefix cache remembers so many, also where it cannot go on from all of them
 * because an attention window does not reach back. `bytes` (may be NULL) becomes what it holds of
 * them, shared or not. */
HEARTH_API size_t hearth_engine_known(const struct hearth_engine *engine, const uint32_t *ids,
                                      size_t count, uint64_t *bytes);
/* Evicts at least `bytes` of what only the prefix cache holds, or all; returns how many. */
HEARTH_API uint64_t hearth_engine_trim(struct hearth_engine *engine, uint64_t bytes);
/* Gives the working memory of steps back until the next one; logits that were computed go with it.
 */
HEARTH_API void hearth_engine_rest(struct hearth_engine *engine);
/* How many bytes the KV cache lacks, under kv_bytes_max, for the next step at most and for loading
 * a sequence of `tokens` tokens beside it. 0: there is room. */
HEARTH_API uint64_t hearth_engine_kv_lacking(const struct hearth_engine *engine, uint64_t tokens);

/* Writes what a sequence holds, ids and KV blocks, in an order of its own: hearth_sequence_load of
 * an engine with the same model and KV type, of this version on this kind of machine, takes it
 * back. Returning false ends it with HEARTH_E_IO. */
HEARTH_API int hearth_sequence_save(const struct hearth_sequence *sequence,
                                    bool (*write)(void *context, const void *data, size_t size),
                                    void *context, struct hearth_error *err);
HEARTH_API uint64_t hearth_sequence_save_bytes(const struct hearth_sequence *sequence);
/* Puts what was saved in the place of what the sequence holds. `read` gives exactly `size` bytes,
 * or returns false. What is read is checked: damaged or forged data give HEARTH_E_FORMAT or numbers
 * that mean nothing, never more. On failure the sequence is as it was. */
HEARTH_API int hearth_sequence_load(struct hearth_sequence *sequence,
                                    bool (*read)(void *context, void *data, size_t size),
                                    void *context, struct hearth_error *err);
/* The ids of the tokens that it holds: hearth_sequence_length of them, valid until it changes. */
HEARTH_API const uint32_t *hearth_sequence_ids(const struct hearth_sequence *sequence);

/* Makes the running step give up on this sequence within one layer, whatever else it computes, and
 * drops what is queued; what was computed before the step stays. From any thread. The step reports
 * HEARTH_E_CANCELLED for it; the next extend clears the mark. */
HEARTH_API void hearth_sequence_cancel(struct hearth_sequence *sequence);

/* Computes one chunk of what is queued, of all sequences together. 0 when there was something to
 * do or nothing was queued; a sequence that failed (cancelled, no number, no memory) says so by
 * hearth_sequence_status and does not disturb the others. `tokens` (may be NULL) becomes the count
 * of tokens computed. */
HEARTH_API int hearth_engine_step(struct hearth_engine *engine, size_t *tokens,
                                  struct hearth_error *err);
/* 0, or why the last step computed nothing for this sequence. */
HEARTH_API int hearth_sequence_status(const struct hearth_sequence *sequence,
                                      struct hearth_error *err);

/* The logits that the last step computed for this sequence: `rows` of them, in the order of the
 * tokens; row r has the model's vocabulary as floats. They live until the next step or extend. */
HEARTH_API size_t hearth_sequence_logit_rows(const struct hearth_sequence *sequence);
HEARTH_API const float *hearth_sequence_logits(const struct hearth_sequence *sequence, size_t row);
/* The hidden states behind the last norm, what logits are made of, in the same way; row r has the
 * model's embedding_length floats. */
HEARTH_API size_t hearth_sequence_state_rows(const struct hearth_sequence *sequence);
HEARTH_API const float *hearth_sequence_state(const struct hearth_sequence *sequence, size_t row);

/* ---- sampling ---- */

struct hearth_logit_bias {
    uint32_t id;
    float bias; /* added to the logit; -INFINITY forbids the token */
};

/* Settings as llama.cpp documents them, with its defaults from hearth_sampling_default; applied in
 * this order: bias, penalties, DRY, top-n-sigma, top-k, typical, top-p, min-p, XTC, temperature,
 * then the draw. Mirostat takes the place of top-n-sigma to XTC. */
struct hearth_sampling {
    uint64_t seed;
    float temperature;     /* <= 0: the most probable token that is left, the smallest such id */
    int32_t top_k;         /* <= 0: off */
    float top_p;           /* 1: off */
    float min_p;           /* 0: off */
    float typical_p;       /* 1: off */
    float top_n_sigma;     /* <= 0: off */
    float xtc_probability; /* 0: off */
    float xtc_threshold;   /* > 0.5: off */
    float dry_multiplier;  /* 0: off */
    float dry_base;        /* below 1: off */
    int32_t dry_allowed_length;
    int32_t dry_penalty_last_n; /* -1: the whole context, 0: off */
    /* Copied; at most 64, of at most 40 bytes each. NULL: newline, colon, quote, asterisk. */
    const char *const *dry_breakers;
    size_t dry_breaker_count;
    int32_t penalty_last_n;  /* -1: the whole context, 0: off */
    float repeat_penalty;    /* 1: off */
    float frequency_penalty; /* 0: off */
    float presence_penalty;  /* 0: off */
    int32_t mirostat;        /* 0: off, 2: version 2 */
    float mirostat_tau, mirostat_eta;
    uint32_t min_keep; /* candidates that typical, top-p, min-p and XTC leave at least */
    const struct hearth_logit_bias *bias; /* copied; several for one token add up */
    size_t bias_count;
};
HEARTH_API void hearth_sampling_default(struct hearth_sampling *out);

/* HEARTH_E_ARGUMENT names a setting that is out of its range, HEARTH_E_LIMIT a list that is too
 * long. `sampling` may be NULL: the defaults. */
HEARTH_API int hearth_sampler_open(const struct hearth_model *model,
                                   const struct hearth_sampling *sampling,
                                   struct hearth_sampler **out, struct hearth_error *err);
HEARTH_API void hearth_sampler_close(struct hearth_sampler *sampler);
/* Tells the sampler of a token that stands in the text: the prompt's, in their order, for penalties
 * and DRY. */
HEARTH_API int hearth_sampler_accept(struct hearth_sampler *sampler, uint32_t id,
                                     struct hearth_error *err);
/* Draws from `logits` (the vocabulary's floats; unchanged) and accepts the token drawn. The same
 * seed and the same logits give the same ids on every machine. HEARTH_E_NUMERIC where a logit is
 * NaN (the cause names it) or all are -INFINITY; the sampler is unchanged then. Where logits are
 * +INFINITY one of them is drawn. */
HEARTH_API int hearth_sampler_sample(struct hearth_sampler *sampler, const float *logits,
                                     uint32_t *id, struct hearth_error *err);

/* A token and the logarithm of its probability. */
struct hearth_chance {
    uint32_t id;
    float logprob;
};
/* The log softmax of a row of `vocabulary` logits, none of them NaN: of chances[0].id, which is
 * given, its logprob, and behind it, into `count - 1` more (at most 64), the most probable tokens,
 * the best first, the smaller id first where they are equal. Returns how many are filled. The same
 * logits give the same bits on every machine. */
HEARTH_API size_t hearth_logprobs(const float *logits, uint32_t vocabulary,
                                  struct hearth_chance *chances, size_t count);

/* ---- speculation ---- */

/* A draft guesses how a text goes on from what stands in it already (n-gram speculation, prompt
 * lookup). A step that computes some guesses behind the last token costs little more than one
 * token does, and each that turns out right saves a step. What is drawn does not change: logits do
 * not depend on what is computed together, so drawing row by row, until a token is not the one
 * guessed, gives the tokens and the sampler's state that single steps would give.
 *
 *     hearth_draft_accept for each token of the prompt; then in each round, the last token drawn
 *     not yet computed:
 *     hearth_draft_propose → hearth_sequence_extend(last token and guesses, HEARTH_LOGITS_ALL)
 *     → hearth_engine_step → for each row: hearth_sampler_sample, hearth_draft_accept, until the
 *     drawn token is not the row's guess → hearth_sequence_truncate behind the right guesses
 *
 * It proposes what is worth its cost by what it has seen of this text, and nothing where guesses
 * fail: the loss against single steps is bounded to 1 % and half a step. A draft belongs to one
 * thread at a time and takes at most 3 MiB. */
struct hearth_draft_options { /* zeroed: the defaults */
    uint32_t guesses_max;     /* at once; 0: 7 */
    float row_cost; /* what a further row costs, in steps of one row, at most 1; 0: learned from
                     * hearth_draft_took */
};
/* `options` may be NULL. */
HEARTH_API int hearth_draft_open(const struct hearth_draft_options *options,
                                 struct hearth_draft **out, struct hearth_error *err);
HEARTH_API void hearth_draft_close(struct hearth_draft *draft);
/* Forgets the text, but not how often guesses were right and what they cost. */
HEARTH_API void hearth_draft_restart(struct hearth_draft *draft);
/* Tells of the next token of the text. (Without memory, older ones are forgotten.) */
HEARTH_API void hearth_draft_accept(struct hearth_draft *draft, uint32_t id);
/* Guesses the next tokens, at most `max`; their count, often 0. The tokens accepted until the next
 * call say how many were right. */
HEARTH_API size_t hearth_draft_propose(struct hearth_draft *draft, size_t max, uint32_t *ids);
/* How long a step took that computed `rows` tokens of this text and nothing else. */
HEARTH_API void hearth_draft_took(struct hearth_draft *draft, size_t rows, uint64_t ns);

struct hearth_draft_counts {
    uint64_t drafted;  /* tokens proposed */
    uint64_t accepted; /* that were right */
};
HEARTH_API void hearth_draft_counts(const struct hearth_draft *draft,
                                    struct hearth_draft_counts *out);

/* ---- measuring ---- */

enum hearth_limit { /* bits */
                    HEARTH_LIMIT_READ = 1,
                    HEARTH_LIMIT_ARITHMETIC = 2,
};

/* What the machine can do at best with the threads and the kernels of an engine: nothing that
 * computes with the same arithmetic is faster. 0: not measured, or the machine cannot do it.
 * Operations count a multiplication and an addition as two. */
struct hearth_limits {
    double read_bytes_per_s; /* of memory that no cache holds */
    double int8_per_s;       /* int8 products summed up in int32, by vector units */
    double f32_per_s;        /* fused multiply-add of floats */
    double bf16_per_s;       /* bfloat16 products summed up in floats */
    /* int8 products in tiles (AMX): more than the limit of whole products, most of whose other work
     * the vector units do; no result is compared with it. */
    double int8_tiles_per_s;
};
/* Measures the limits that `what` (bits of enum hearth_limit) names, each in about 50 ms. The speed
 * of a machine drifts, so compare with what was measured right before or after. Reading takes
 * 512 MiB of private memory meanwhile. */
HEARTH_API int hearth_engine_limits(struct hearth_engine *engine, unsigned what,
                                    struct hearth_limits *out, struct hearth_error *err);

/* Multiplications by weights, by the arithmetic that can do them fastest. */
struct hearth_products {
    uint64_t int8, f32, bf16;
};
/* The least that computing takes. A step of several tokens reads the weights once. */
struct hearth_work {
    uint64_t weight_bytes;         /* read by a step that computes logits */
    uint64_t kv_bytes;             /* read for one token behind `depth` others */
    struct hearth_products token;  /* for each token */
    struct hearth_products logits; /* for each row of logits, in addition */
};
HEARTH_API void hearth_engine_work(const struct hearth_engine *engine, uint32_t depth,
                                   struct hearth_work *out);

/* Writes a GGUF file with random weights in the shapes and types of a real model, to be measured:
 * `what` is SHAPE:TYPE, for instance "llama-3b:Q4_K_M" or "llama-1b:Q8_0". `fd` is open for
 * writing. HEARTH_E_ARGUMENT names the shapes and types that there are. `options` may be NULL. */
HEARTH_API int hearth_synthesize(const char *what, int fd,
                                 const struct hearth_model_options *options,
                                 struct hearth_error *err);

/* ---- memory of this process ---- */

struct hearth_memory {
    uint64_t private_bytes; /* anonymous and shared memory and swap: what only this process needs */
    uint64_t
        mapped_bytes;    /* of files, the model's weights among them: the system may take it back */
    uint64_t peak_bytes; /* the highest resident size so far, both together */
};
HEARTH_API int hearth_process_memory(struct hearth_memory *out);
/* Begins the peak anew with what is resident. HEARTH_E_UNSUPPORTED where the system cannot. */
HEARTH_API int hearth_process_peak_reset(void);

#ifdef __cplusplus
}
#endif
#endif
