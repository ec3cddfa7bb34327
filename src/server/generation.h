/* What all dialects share of asking a model: the inner request, its way through loading, computing
 * and streaming, and its end. A dialect turns a body into one, and what is called back into its own
 * words.
 *
 * Text comes in pieces of a token each, or of all tokens of 16 ms where they come faster; reasoning
 * is split from it. When the client leaves, the work stops; when it does not read, its answer alone
 * pauses. All of that happens here, so that a dialect only writes. */
#ifndef SERVER_GENERATION_H
#define SERVER_GENERATION_H

#include "server/daemon.h"
#include "server/fields.h"
#include "server/models.h"

/* ---- the inner request ---- */

struct generation_request {
    struct model *model;
    struct work_ask ask; /* its texts live until generation_start returns */
    bool ttl_given;
    uint64_t ttl_ns;
    uint32_t choices; /* n: answers to one prompt, with seeds that follow each other; 1 */
    /* Several prompts, each with so many choices: arrays of messages in the place of ask.messages.
     * Choice i answers prompt i / choices. NULL: one prompt, ask.messages. */
    const struct text *prompts;
    uint32_t prompt_count;
    bool keep_reasoning; /* leave it in the text */
    bool tokens;         /* pieces name their tokens: for logprobs */
    bool whole;          /* nothing is streamed: pieces come when they are complete, once */
    struct {             /* what lists and texts above point to, where the request made it */
        struct buffer messages;
        struct hearth_logit_bias *bias;
        const char **breakers; /* their characters behind them */
    } own;
};

/* The request with the model's defaults (sampling, system prompt, max_tokens). Its lists are its
 * own. */
void generation_request_init(struct generation_request *request, struct model *model);
void generation_request_finish(struct generation_request *request);

/* The fields that all dialects have under the same names (temperature, top_k, top_p, min_p,
 * typical_p, top_n_sigma, xtc_…, dry_…, repeat_penalty, repeat_last_n, frequency_penalty,
 * presence_penalty, mirostat…, seed, logit_bias, min_keep, ignore_eos, …), read into the request.
 */
extern const struct hearth_sampling generation_sampling_default; /* as hearth_sampling_default */
extern const struct field generation_fields[];
extern const size_t generation_field_count;
int generation_read_fields(struct generation_request *request, const json_t *object,
                           struct refusal *refusal);
/* `messages` of OpenAI's shape, checked: roles; content as a text, null, or parts, of which texts
 * are joined and everything else is refused by name. Puts the model's system prompt before them
 * where they have none, but not into an APPEND. The result is the request's. */
int generation_read_messages(struct generation_request *request, const json_t *messages,
                             struct refusal *refusal);
/* A name as `field` has it, as generation_request.model. */
struct model *generation_find_model(struct daemon *daemon, const json_t *object, const char *field,
                                    struct refusal *refusal);

/* ---- its way ---- */

struct generation;

struct generation_token {
    struct work_token token;
    const struct work_token *top;
    uint32_t top_count;
};
struct generation_piece {
    uint32_t choice;
    struct text text, reasoning; /* whole characters, either may be empty */
    const struct generation_token *tokens;
    uint32_t token_count;
};

/* In this order; on_end once. NULL where a dialect does not care. */
struct generation_listener {
    void (*on_loading)(void *context, double fraction); /* only where a load is waited for */
    void (*on_loaded)(void *context, uint64_t load_ns);
    void (*on_begin)(void *context, uint32_t choice, const struct work_begin *begin);
    void (*on_reading)(void *context, uint32_t choice, uint64_t done, uint64_t total);
    void (*on_piece)(void *context, const struct generation_piece *piece);
    void (*on_choice_end)(void *context, uint32_t choice, const struct work_end *end);
    /* All choices ended; or nothing was answered: then there is an error, with the sentence and the
     * status that an answer without a body has. */
    void (*on_end)(void *context, const struct generation *generation, const struct refusal *error);
    /* The client is gone: free the context; nothing comes behind it. */
    void (*on_gone)(void *context);
    void *context;
};

/* Takes charge of the exchange's watch. Whatever fails comes as on_end, from the loop. It is valid
 * until on_end returns or on_gone is called. NULL without memory: the exchange was answered and
 * on_gone called. */
struct generation *generation_start(struct daemon *daemon, struct http_exchange *exchange,
                                    const struct generation_request *request,
                                    const struct generation_listener *listener);
/* What a dialect's writes returned: false pauses the answer until the client has read. */
void generation_wrote(struct generation *generation, bool go_on);

/* For on_end: sums over the choices. */
/* Ends it with what there is of it: the choices as HEARTH_STOP_CANCELLED, which is then no error;
 * where nothing has begun, with a refusal. on_end comes later. */
void generation_cancel(struct generation *generation);

struct generation_totals {
    uint64_t prompt_tokens, cached_tokens, answer_tokens, reasoning_tokens;
    uint64_t load_ns, queued_ns, prompt_ns, answer_ns, total_ns;
    uint64_t decode_tokens, drafted, accepted;
};
void generation_totals(const struct generation *generation, struct generation_totals *out);

/* The text and reasoning of a choice so far. */
struct text generation_text(const struct generation *generation, uint32_t choice);
struct text generation_reasoning(const struct generation *generation, uint32_t choice);

/* ---- words that dialects share ---- */

const char *generation_stop_name(enum hearth_stop stop); /* "stop" or "length", OpenAI's words */
const char *generation_miss_name(enum hearth_miss miss); /* "nothing", "new", "edited", … */
/* llama-server's `timings`, with cache_n, and hearth's own: queued_ms, cache_miss. */
json_t *generation_timings(const struct work_end *end);
/* {prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details: {cached_tokens}, …} */
json_t *generation_usage(const struct generation_totals *totals);
/* "chatcmpl-…": random, of 24 letters and digits. */
void generation_id(const char *prefix, char id[64]);
/* Appends JSON without spaces; the buffer fails without memory. */
void generation_write_json(struct buffer *out, const json_t *json);

/* ---- other requests ---- */

/* Acquires the model and makes one work_call of it; called back once with JSON, or an error. What
 * is asked for stops when the client leaves; `on_gone` as above, also where there was no memory and
 * the exchange was answered. */
struct generation_call {
    struct model *model;
    const char *name;    /* static */
    json_t *arguments;   /* taken */
    struct text session; /* whose key it is about, empty: none; as generation_request.ask.session */
    void (*on_reply)(void *context, const json_t *reply, const struct refusal *error);
    void (*on_gone)(void *context);
    void *context;
};
void generation_call_start(struct daemon *daemon, struct http_exchange *exchange,
                           const struct generation_call *call);

struct generation_embed {
    struct model *model;
    json_t *inputs; /* texts; taken */
    bool ttl_given;
    uint64_t ttl_ns;
    void (*on_vectors)(void *context, const struct work_vectors *vectors,
                       struct message_reader *rows, uint64_t load_ns, uint64_t total_ns,
                       const struct refusal *error);
    void (*on_gone)(void *context);
    void *context;
};
void generation_embed_start(struct daemon *daemon, struct http_exchange *exchange,
                            const struct generation_embed *embed);

#endif
