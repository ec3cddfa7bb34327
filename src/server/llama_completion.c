/* llama-server's /completion: a raw prompt, and its answer whole or as a stream of events. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/llama.h"

#define STOP_BYTES_MAX ((size_t)4096)

struct completion_fields {
    bool stream, return_tokens, return_progress;
    struct text model, prompt;
    int64_t n_predict, n_probs, n_cmpl;
    const json_t *stop;
};

#define AT(member) offsetof(struct completion_fields, member)

const struct field llama_completion_fields[LLAMA_COMPLETION_FIELDS] = {
    {.name = "prompt",
     .type = FIELD_TEXT,
     .at = AT(prompt),
     .required = true,
     .help = "The text that goes on; no template is applied."},
    {.name = "model", .type = FIELD_TEXT, .at = AT(model)},
    {.name = "stream",
     .type = FIELD_BOOL,
     .at = AT(stream),
     .help = "Answers server-sent events, each with what is new; the last has \"stop\": true."},
    {.name = "n_predict",
     .type = FIELD_INT,
     .min = -1,
     .max = INT32_MAX,
     .at = AT(n_predict),
     .help = "At most so many tokens; -1: no limit but the context."},
    {.name = "n_probs",
     .type = FIELD_INT,
     .min = 0,
     .max = HEARTH_TOP_TOKENS_MAX,
     .at = AT(n_probs),
     .help = "Each token with its probability and that of so many others."},
    {.name = "n_cmpl", .type = FIELD_INT, .min = 1, .max = 1, .at = AT(n_cmpl)},
    {.name = "stop",
     .type = FIELD_ANY,
     .at = AT(stop),
     .help = "A text, or an array of texts, that ends the answer and is left out."},
    {.name = "return_tokens",
     .type = FIELD_BOOL,
     .at = AT(return_tokens),
     .help = "Names the ids of tokens; a stream always does."},
    {.name = "return_progress",
     .type = FIELD_BOOL,
     .at = AT(return_progress),
     .help = "Events while the prompt is read."},
    {.name = "cache_prompt", .type = FIELD_IGNORED},
    {.name = "id_slot", .type = FIELD_IGNORED},
    {.name = "n_keep", .type = FIELD_IGNORED},
    {.name = "n_cache_reuse", .type = FIELD_IGNORED},
    {.name = "timings_per_token", .type = FIELD_IGNORED},
    {.name = "response_fields", .type = FIELD_IGNORED},
    {.name = "sse_ping_interval", .type = FIELD_IGNORED},
    {.name = "n_indent", .type = FIELD_REFUSED},
    {.name = "t_max_predict_ms", .type = FIELD_REFUSED},
    {.name = "post_sampling_probs", .type = FIELD_REFUSED},
    {.name = "image_data", .type = FIELD_REFUSED},
    {.name = "multimodal_data", .type = FIELD_REFUSED},
};

struct completion {
    struct http_exchange *exchange;
    struct generation *generation;
    struct completion_fields fields;
    json_t *body; /* that the fields point into */
    json_t *settings, *tokens, *chances;
    json_t *timings, *stop_word;
    char model[256];
    const char *stop_type;
    uint64_t prompt_tokens, cached_tokens, answer_tokens, began_ns;
    bool begun; /* the stream */
    bool truncated;
};

static void completion_destroy(struct completion *completion)
{
    json_decref(completion->body);
    json_decref(completion->settings);
    json_decref(completion->tokens);
    json_decref(completion->chances);
    json_decref(completion->timings);
    json_decref(completion->stop_word);
    mem_free(completion);
}

/* ---- events ---- */

static void send_event(struct completion *completion, json_t *event)
{
    if (!completion->begun)
        http_stream_begin_events(completion->exchange);
    completion->begun = true;
    generation_wrote(completion->generation, dialect_event(completion->exchange, NULL, event));
}

static json_t *part(struct completion *completion, struct text content, json_t *tokens)
{
    return json_pack("{s:i, s:s%, s:o, s:b, s:i, s:I, s:I}", "index", 0, "content",
                     content.data ? content.data : "", content.size, "tokens", tokens, "stop", 0,
                     "id_slot", 0, "tokens_predicted", (json_int_t)completion->answer_tokens,
                     "tokens_evaluated", (json_int_t)completion->prompt_tokens);
}

/* ---- tokens ---- */

/* {id, token, bytes, logprob}; a token that is no text by itself is written with U+FFFD. */
static json_t *chance_json(const struct work_token *token)
{
    struct buffer valid;
    json_t *bytes = json_array();
    buffer_init(&valid, 3 * token->bytes.size + 1);
    buffer_append_valid_utf8(&valid, token->bytes);
    for (size_t i = 0; i < token->bytes.size; i++)
        json_array_append_new(bytes, json_integer((unsigned char)token->bytes.data[i]));
    json_t *chance = json_pack("{s:I, s:s%, s:o, s:f}", "id", (json_int_t)token->id, "token",
                               valid.size ? valid.data : "", valid.size, "bytes", bytes, "logprob",
                               isfinite(token->logprob) ? token->logprob : -1e9);
    buffer_finish(&valid);
    return chance;
}

static json_t *token_json(const struct generation_token *token)
{
    json_t *chance = chance_json(&token->token), *top = json_array();
    for (uint32_t i = 0; i < token->top_count; i++)
        json_array_append_new(top, chance_json(&token->top[i]));
    json_object_set_new(chance, "top_logprobs", top);
    return chance;
}

/* ---- what is called back ---- */

static void on_begin(void *context, uint32_t choice, const struct work_begin *begin)
{
    struct completion *completion = context;
    (void)choice;
    completion->prompt_tokens = begin->prompt_tokens;
    completion->cached_tokens = begin->cached_tokens;
    completion->began_ns = os_monotonic_ns();
}

static void on_reading(void *context, uint32_t choice, uint64_t done, uint64_t total)
{
    struct completion *completion = context;
    (void)choice;
    if (!completion->fields.stream || !completion->fields.return_progress)
        return;
    json_t *event = part(completion, TEXT(""), json_array());
    json_object_set_new(
        event, "prompt_progress",
        json_pack("{s:I, s:I, s:I, s:I}", "total", (json_int_t)total, "cache",
                  (json_int_t)completion->cached_tokens, "processed", (json_int_t)done, "time_ms",
                  (json_int_t)((os_monotonic_ns() - completion->began_ns) / 1000000)));
    send_event(completion, event);
}

static void on_piece(void *context, const struct generation_piece *piece)
{
    struct completion *completion = context;
    json_t *ids = json_array(), *chances = json_array();
    for (uint32_t i = 0; i < piece->token_count; i++) {
        json_array_append_new(ids, json_integer(piece->tokens[i].token.id));
        if (completion->fields.n_probs > 0)
            json_array_append_new(chances, token_json(&piece->tokens[i]));
    }
    completion->answer_tokens += piece->token_count;
    if (completion->fields.stream) {
        json_t *event = part(completion, piece->text, json_incref(ids));
        if (completion->fields.n_probs > 0)
            json_object_set(event, "completion_probabilities", chances);
        send_event(completion, event);
    } else {
        if (completion->fields.return_tokens)
            json_array_extend(completion->tokens, ids);
        json_array_extend(completion->chances, chances);
    }
    json_decref(ids);
    json_decref(chances);
}

static void on_choice_end(void *context, uint32_t choice, const struct work_end *end)
{
    struct completion *completion = context;
    (void)choice;
    completion->prompt_tokens = end->prompt_tokens;
    completion->cached_tokens = end->cached_tokens;
    completion->answer_tokens = end->answer_tokens;
    completion->truncated = end->stop == HEARTH_STOP_CONTEXT;
    completion->stop_type = end->stop == HEARTH_STOP_END      ? "eos"
                            : end->stop == HEARTH_STOP_STRING ? "word"
                                                              : "limit";
    size_t size = end->stop_string.size < STOP_BYTES_MAX ? end->stop_string.size : STOP_BYTES_MAX;
    completion->stop_word = json_stringn(size ? end->stop_string.data : "", size);
    completion->timings = generation_timings(end);
}

static json_t *last_json(struct completion *completion, struct text content)
{
    const struct completion_fields *fields = &completion->fields;
    json_t *last =
        part(completion, fields->stream ? TEXT("") : content, json_incref(completion->tokens));
    bool new_line = content.size > 0 && memchr(content.data, '\n', content.size);
    json_object_set_new(last, "stop", json_true());
    json_object_update_new(
        last, json_pack("{s:s, s:O, s:s%, s:b, s:b, s:s, s:O?, s:I, s:O?}", "model",
                        completion->model, "generation_settings", completion->settings, "prompt",
                        fields->prompt.data, fields->prompt.size, "has_new_line", new_line,
                        "truncated", completion->truncated, "stop_type", completion->stop_type,
                        "stopping_word", completion->stop_word, "tokens_cached",
                        (json_int_t)completion->cached_tokens, "timings", completion->timings));
    if (!fields->stream && fields->n_probs > 0)
        json_object_set(last, "completion_probabilities", completion->chances);
    return last;
}

static void on_end(void *context, const struct generation *generation, const struct refusal *error)
{
    struct completion *completion = context;
    struct http_exchange *exchange = completion->exchange;
    if (error && !completion->begun) {
        dialect_refuse(exchange, error);
    } else if (error) {
        struct text path = http_exchange_request(exchange)->path;
        dialect_event(exchange, NULL, dialect_error_of(path, error));
        http_stream_end(exchange);
    } else if (completion->fields.stream) {
        if (!completion->begun)
            http_stream_begin_events(exchange);
        dialect_event(exchange, NULL, last_json(completion, generation_text(generation, 0)));
        http_stream_end(exchange);
    } else {
        dialect_respond_json(exchange, 200, last_json(completion, generation_text(generation, 0)));
    }
    completion_destroy(completion);
}

static void on_gone(void *context)
{
    completion_destroy(context);
}

/* ---- the request ---- */

static int read_stops(struct generation_request *request, const json_t *stop,
                      struct refusal *refusal)
{
    if (stop && !fields_texts(stop, request->ask.stops, WORK_STOPS_MAX, &request->ask.stop_count))
        return refuse(refusal, 400, "stop", "stop must be a text, or an array of at most %d texts",
                      WORK_STOPS_MAX);
    return 0;
}

/* `messages` holds what the request points into. */
static int read_request(struct completion *completion, struct generation_request *request,
                        struct buffer *messages, struct refusal *refusal)
{
    struct completion_fields *fields = &completion->fields;
    struct work_ask *ask = &request->ask;
    if (generation_read_fields(request, completion->body, refusal) ||
        read_stops(request, fields->stop, refusal))
        return -1;
    if (fields->n_predict == 0)
        return refuse(refusal, 400, "n_predict", "n_predict is 0; at least one token is computed");
    json_t *message = json_pack("[{s:s, s:s%}]", "role", "user", "content", fields->prompt.data,
                                fields->prompt.size);
    bool written = dialect_line(message, messages);
    if (!written)
        return refuse(refusal, 507, "", "no memory for the prompt");
    ask->messages = buffer_text(messages);
    ask->settings.plain = true;
    ask->settings_given = true;
    if (fields->n_predict > 0)
        ask->max_tokens = (uint32_t)fields->n_predict;
    ask->logprobs = fields->n_probs > 0;
    ask->top_tokens = (uint32_t)fields->n_probs;
    ask->progress = fields->stream && fields->return_progress;
    ask->token_ids = fields->stream || fields->return_tokens || fields->n_probs > 0;
    request->tokens = ask->token_ids;
    request->keep_reasoning = true;
    request->whole = !fields->stream;
    return 0;
}

static void remember(struct completion *completion, const struct generation_request *request)
{
    struct model_info info;
    model_info(request->model, &info);
    snprintf(completion->model, sizeof completion->model, "%s", info.name);
    completion->settings = llama_sampling(&request->ask.sampling);
    completion->tokens = json_array();
    completion->chances = json_array();
    json_int_t limit = request->ask.max_tokens ? (json_int_t)request->ask.max_tokens : -1;
    json_object_set_new(completion->settings, "n_predict", json_integer(limit));
    json_object_set_new(completion->settings, "max_tokens", json_integer(limit));
    json_object_set_new(completion->settings, "stream", json_boolean(completion->fields.stream));
    json_object_set_new(completion->settings, "ignore_eos", json_boolean(request->ask.ignore_end));
    json_object_set_new(completion->settings, "n_probs", json_integer(completion->fields.n_probs));
}

static void start(struct completion *completion, struct daemon *daemon,
                  const struct generation_request *request)
{
    const struct generation_listener listener = {.on_begin = on_begin,
                                                 .on_reading = on_reading,
                                                 .on_piece = on_piece,
                                                 .on_choice_end = on_choice_end,
                                                 .on_end = on_end,
                                                 .on_gone = on_gone,
                                                 .context = completion};
    remember(completion, request);
    struct generation *generation =
        generation_start(daemon, completion->exchange, request, &listener);
    if (generation)
        completion->generation = generation;
}

void llama_completion(void *context, struct http_exchange *exchange)
{
    struct refusal refusal = {0};
    struct generation_request request;
    struct buffer messages;
    struct model *model = NULL;
    struct completion *completion = MEM_NEW(struct completion);
    if (!completion) {
        http_respond_error(exchange, 503, "there is no memory for the request");
        return;
    }
    completion->exchange = exchange;
    completion->stop_type = "limit";
    completion->fields.n_predict = -1;
    completion->body = fields_parse(http_exchange_request(exchange)->body, &refusal);
    if (completion->body &&
        fields_read(completion->body, llama_completion_fields, LLAMA_COMPLETION_FIELDS,
                    &completion->fields, &refusal) == 0)
        model = generation_find_model(context, completion->body, "model", &refusal);
    if (!model) {
        dialect_refuse(exchange, &refusal);
        completion_destroy(completion);
        return;
    }
    buffer_init(&messages, WORK_PAYLOAD_MAX);
    generation_request_init(&request, model);
    if (read_request(completion, &request, &messages, &refusal) == 0) {
        start(completion, context, &request);
    } else {
        dialect_refuse(exchange, &refusal);
        completion_destroy(completion);
    }
    generation_request_finish(&request);
    buffer_finish(&messages);
}
