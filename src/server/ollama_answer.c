/* Ollama's API: chats and completions, as lines of JSON of which the last one is done. */

#include "server/ollama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "server/catalogue.h"
#include "server/openai.h"

#define LINE_BYTES_MAX ((size_t)64 << 20)

/* ---- bodies ---- */

struct fields {
    struct text model, prompt, system;
    const json_t *messages, *options, *think;
    bool stream, raw, logprobs, truncate, truncate_given, shift;
    int64_t top_logprobs, num_predict, num_ctx;
    bool num_predict_given;
    const json_t *stop;
};

#define AT(member) offsetof(struct fields, member)
#define COMMON_FIELDS                                                                              \
    {"model", FIELD_TEXT, 0, 0, AT(model), 0, true, NULL, "The name of a model."},                 \
        {"stream", FIELD_BOOL, 0, 0, AT(stream), 0, false, NULL, "Lines as they come; true."},     \
        {"options", FIELD_OBJECT, 0, 0, AT(options), 0, false, NULL, "Sampling and limits."},      \
        {"think",                                                                                  \
         FIELD_ANY,                                                                                \
         0,                                                                                        \
         0,                                                                                        \
         AT(think),                                                                                \
         0,                                                                                        \
         false,                                                                                    \
         NULL,                                                                                     \
         "Whether the model is to reason: true, false, \"low\", \"medium\", \"high\", \"max\"."},  \
        {"keep_alive",                                                                             \
         FIELD_IGNORED,                                                                            \
         0,                                                                                        \
         0,                                                                                        \
         0,                                                                                        \
         0,                                                                                        \
         false,                                                                                    \
         NULL,                                                                                     \
         "How long the model stays loaded: seconds, or a text like \"10m\"; negative: for good."}, \
        {"format", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},                                  \
        {"truncate",                                                                               \
         FIELD_BOOL,                                                                               \
         0,                                                                                        \
         0,                                                                                        \
         AT(truncate),                                                                             \
         AT(truncate_given),                                                                       \
         false,                                                                                    \
         NULL,                                                                                     \
         "Leave out the oldest turns where the context is full; else that is an error."},          \
        {"shift",                                                                                  \
         FIELD_BOOL,                                                                               \
         0,                                                                                        \
         0,                                                                                        \
         AT(shift),                                                                                \
         0,                                                                                        \
         false,                                                                                    \
         NULL,                                                                                     \
         "Changes nothing: an answer that reaches the end of the context ends, unless truncate."}, \
        {"logprobs", FIELD_BOOL, 0, 0, AT(logprobs), 0, false, NULL, NULL},                        \
        {"top_logprobs", FIELD_INT, 0,   HEARTH_TOP_TOKENS_MAX, AT(top_logprobs), 0,               \
         false,          NULL,      NULL},                                                         \
    {                                                                                              \
        "_debug_render_only", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL                         \
    }

const struct field ollama_chat_fields[] = {
    COMMON_FIELDS,
    {"messages", FIELD_ARRAY, 0, 0, AT(messages), 0, false, NULL,
     "The chat so far; without any the model is loaded."},
    {"tools", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
};

const struct field ollama_generate_fields[] = {
    COMMON_FIELDS,
    {"prompt", FIELD_TEXT, 0, 0, AT(prompt), 0, false, NULL, "Without one the model is loaded."},
    {"system", FIELD_TEXT, 0, 0, AT(system), 0, false, NULL, "In the place of the model's."},
    {"raw", FIELD_BOOL, 0, 0, AT(raw), 0, false, NULL, "The prompt as it is, without template."},
    {"suffix", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
    {"template", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
    {"context", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
    {"images", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
};

/* Besides those that all dialects have. A conversation's memory is taken when it is needed, so how
 * large a context is asked for changes nothing: what does not fit the model's is an error. */
static const struct field option_fields[] = {
    {"num_predict", FIELD_INT, -2, INT32_MAX, AT(num_predict), AT(num_predict_given), false, NULL,
     "Tokens of the answer at most; 0, -1 and -2: as many as fit."},
    {"num_ctx", FIELD_INT, 0, INT32_MAX, AT(num_ctx), 0, false, NULL,
     "Changes nothing: the context is the model's."},
    {"stop", FIELD_ANY, 0, 0, AT(stop), 0, false, NULL, "A text or several that end the answer."},
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* ---- what is asked, in the inner request's words ---- */

struct answer {
    struct daemon *daemon;
    struct http_exchange *exchange;
    struct generation *generation;
    struct model *model;
    json_t *object;    /* the body */
    json_t *variables; /* of the template, for `think`; NULL: none */
    struct fields fields;
    bool chat, begun, ttl_given;
    uint64_t ttl_ns, dropped;
    const char *done_reason;
    json_t *logprobs; /* of tokens that were not told */
    bool last_shown;  /* the last of them is part of the text */
    json_t *timings;
};

static void free_answer(struct answer *answer)
{
    json_decref(answer->object);
    json_decref(answer->variables);
    json_decref(answer->logprobs);
    json_decref(answer->timings);
    mem_free(answer);
}

static bool is_empty(const json_t *value)
{
    return !value || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0);
}

/* OpenAI's message for one of Ollama's: roles may be in any case there, content may be left out,
 * and reasoning has another name. What it must be is checked with OpenAI's. */
static json_t *message_of(json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    json_t *thinking = json_object_get(message, "thinking");
    char lower[16] = "";
    json_t *out = json_is_object(message) ? json_copy(message) : json_incref(message);
    if (out == message)
        return out;
    for (size_t i = 0; role && role[i] && i + 1 < sizeof lower; i++)
        lower[i] = role[i] >= 'A' && role[i] <= 'Z' ? (char)(role[i] - 'A' + 'a') : role[i];
    if (role && strlen(role) < sizeof lower)
        json_object_set_new(out, "role", json_string(lower));
    if (is_empty(json_object_get(message, "content")))
        json_object_set_new(out, "content", json_string(""));
    if (json_string_length(thinking) > 0)
        json_object_set(out, "reasoning_content", thinking);
    json_object_del(out, "thinking");
    return out;
}

static json_t *chat_messages(const struct answer *answer)
{
    json_t *messages = json_array();
    size_t count = json_array_size(answer->fields.messages);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(messages, message_of(json_array_get(answer->fields.messages, i)));
    if (json_array_size(messages) == count)
        return messages;
    json_decref(messages);
    return NULL;
}

static json_t *prompt_messages(const struct answer *answer)
{
    const struct fields *fields = &answer->fields;
    json_t *user = json_pack("{s:s, s:s%}", "role", "user", "content", fields->prompt.data,
                             fields->prompt.size);
    if (fields->system.size == 0 || fields->raw)
        return json_pack("[o]", user);
    return json_pack("[{s:s, s:s%}, o]", "role", "system", "content", fields->system.data,
                     fields->system.size, user);
}

/* `think`, as the template's variables: NULL without one. */
static int read_think(const struct answer *answer, json_t **variables, struct refusal *refusal)
{
    static const char *const levels[] = {"low", "medium", "high", "max"};
    const json_t *think = answer->fields.think;
    const char *text = json_string_value(think), *level = NULL;
    *variables = NULL;
    if (!think)
        return 0;
    for (size_t i = 0; text && i < COUNT(levels); i++) {
        if (strcmp(text, levels[i]) == 0)
            level = i == 3 ? "high" : levels[i];
    }
    if (!json_is_boolean(think) && !level)
        return refuse(refusal, 400, "think",
                      "think must be true, false, \"low\", \"medium\", \"high\" or \"max\"");
    *variables = catalogue_reasoning_variables(level || json_is_true(think), level);
    return *variables ? 0 : refuse(refusal, 507, "", "no memory for the request");
}

static int read_options(struct answer *answer, struct generation_request *request,
                        struct refusal *refusal)
{
    struct fields *fields = &answer->fields;
    struct work_ask *ask = &request->ask;
    uint32_t count, kept = 0;
    if (!fields->options)
        return 0;
    if (fields_read(fields->options, option_fields, COUNT(option_fields), fields, refusal) ||
        generation_read_fields(request, fields->options, refusal))
        return -1;
    if (fields->num_predict_given)
        ask->max_tokens = fields->num_predict > 0 ? (uint32_t)fields->num_predict : 0;
    if (!fields->stop)
        return 0;
    if (!fields_texts(fields->stop, ask->stops, WORK_STOPS_MAX, &count))
        return refuse(refusal, 400, "stop", "stop must be a text or at most %d texts",
                      WORK_STOPS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (ask->stops[i].size > 0) /* an empty text stops nothing */
            ask->stops[kept++] = ask->stops[i];
    }
    ask->stop_count = kept;
    return 0;
}

static int read_messages(struct answer *answer, struct generation_request *request,
                         struct refusal *refusal)
{
    json_t *messages = answer->chat ? chat_messages(answer) : prompt_messages(answer);
    int status = 0;
    if (messages && answer->fields.raw) { /* nothing before it: no system prompt of the model's */
        generation_write_json(&request->own.messages, messages);
        request->ask.messages = buffer_text(&request->own.messages);
    } else if (messages) {
        status = generation_read_messages(request, messages, refusal);
    }
    json_decref(messages);
    if (!messages || request->own.messages.failed)
        return refuse(refusal, 507, "", "no memory for the request");
    return status;
}

static int read_request(struct answer *answer, struct generation_request *request,
                        struct refusal *refusal)
{
    const struct fields *fields = &answer->fields;
    struct work_ask *ask = &request->ask;
    request->whole = !fields->stream;
    request->ttl_given = answer->ttl_given;
    request->ttl_ns = answer->ttl_ns;
    request->tokens = ask->logprobs = fields->logprobs;
    ask->top_tokens = fields->logprobs ? (uint32_t)fields->top_logprobs : 0;
    if (fields->raw) {
        request->keep_reasoning = true;
        ask->settings.plain = ask->settings_given = true;
    } else if (fields->truncate_given && fields->truncate) {
        ask->settings.overflow = HEARTH_OVERFLOW_DROP;
        ask->settings_given = true;
    }
    if (read_options(answer, request, refusal))
        return -1;
    return read_messages(answer, request, refusal);
}

/* ---- what is answered ---- */

static json_t *line_of(const struct answer *answer, bool done)
{
    char now[OLLAMA_TIME_SIZE];
    ollama_time_now(now);
    return json_pack("{s:O, s:s, s:b}", "model", json_object_get(answer->object, "model"),
                     "created_at", now, "done", done);
}

static void put_text(const struct answer *answer, json_t *line, struct text text,
                     struct text reasoning)
{
    json_t *said = answer->chat ? json_pack("{s:s}", "role", "assistant") : json_incref(line);
    json_object_set_new(said, answer->chat ? "content" : "response", openai_text(text));
    if (reasoning.size > 0)
        json_object_set_new(said, "thinking", openai_text(reasoning));
    if (answer->chat)
        json_object_set(line, "message", said);
    json_decref(said);
}

/* As OpenAI's, but that top_logprobs is there only where it was asked for. */
static json_t *logprob_of(const struct generation_token *token)
{
    json_t *out = openai_logprob(token);
    if (token->top_count == 0)
        json_object_del(out, "top_logprobs");
    return out;
}

static bool ends_with(struct text text, struct text end)
{
    return text.size >= end.size && end.size > 0 &&
           memcmp(text.data + text.size - end.size, end.data, end.size) == 0;
}

/* While the bytes of the last token are not in the text it waits: the text may come later, or it is
 * the token that ends the answer, which is no part of it. */
static void keep_tokens(struct answer *answer, const struct generation_piece *piece)
{
    if (piece->token_count == 0)
        return;
    for (uint32_t i = 0; i < piece->token_count; i++)
        json_array_append_new(answer->logprobs, logprob_of(&piece->tokens[i]));
    struct text last = piece->tokens[piece->token_count - 1].token.bytes;
    answer->last_shown = ends_with(generation_text(answer->generation, 0), last) ||
                         ends_with(generation_reasoning(answer->generation, 0), last);
}

/* The first tokens of those that wait. */
static void put_logprobs(struct answer *answer, json_t *line, size_t count)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < count; i++) {
        json_array_append(tokens, json_array_get(answer->logprobs, 0));
        json_array_remove(answer->logprobs, 0);
    }
    if (count > 0)
        json_object_set(line, "logprobs", tokens);
    json_decref(tokens);
}

static void begin_stream(struct answer *answer)
{
    if (!answer->begun)
        http_stream_begin(answer->exchange, 200, "application/x-ndjson");
    answer->begun = true;
}

static bool write_line(struct answer *answer, json_t *line)
{
    struct buffer bytes;
    buffer_init(&bytes, LINE_BYTES_MAX);
    begin_stream(answer);
    if (!dialect_line(line, &bytes) || !buffer_append_char(&bytes, '\n')) {
        buffer_finish(&bytes);
        buffer_append_text(&bytes, TEXT("{\"error\":\"no memory for the answer\"}\n"));
    }
    bool go_on = http_stream_write(answer->exchange, buffer_text(&bytes));
    buffer_finish(&bytes);
    return go_on;
}

/* Node's fetch waits five minutes for headers, and long prompts can take more. What is wrong with a
 * request is known by now. */
static void on_begin(void *context, uint32_t choice, const struct work_begin *begin)
{
    struct answer *answer = context;
    (void)choice, (void)begin;
    if (answer->fields.stream)
        begin_stream(answer);
}

static void on_piece(void *context, const struct generation_piece *piece)
{
    struct answer *answer = context;
    keep_tokens(answer, piece);
    if (!answer->fields.stream)
        return;
    size_t count = json_array_size(answer->logprobs);
    if (count > 0 && !answer->last_shown)
        count--;
    if (piece->text.size == 0 && piece->reasoning.size == 0 && count == 0)
        return;
    json_t *line = line_of(answer, false);
    put_text(answer, line, piece->text, piece->reasoning);
    put_logprobs(answer, line, count);
    generation_wrote(answer->generation, write_line(answer, line));
}

static void put_number(json_t *line, const char *name, uint64_t value)
{
    json_object_set_new(line, name, json_integer((json_int_t)value));
}

static json_t *last_line(struct answer *answer, const struct generation *generation)
{
    struct generation_totals totals;
    const struct text nothing = {NULL, 0};
    bool whole = !answer->fields.stream;
    json_t *line = line_of(answer, true);
    generation_totals(generation, &totals);
    put_text(answer, line, whole ? generation_text(generation, 0) : nothing,
             whole ? generation_reasoning(generation, 0) : nothing);
    json_object_set_new(line, "done_reason", json_string(answer->done_reason));
    put_logprobs(answer, line, json_array_size(answer->logprobs));
    put_number(line, "total_duration", totals.total_ns);
    put_number(line, "load_duration", totals.load_ns);
    put_number(line, "prompt_eval_count", totals.prompt_tokens);
    put_number(line, "prompt_eval_duration", totals.prompt_ns);
    put_number(line, "eval_count", totals.answer_tokens);
    put_number(line, "eval_duration", totals.answer_ns);
    if (answer->dropped > 0)
        put_number(line, "truncated_messages", answer->dropped);
    if (answer->timings)
        json_object_set(line, "timings", answer->timings);
    return line;
}

static void on_choice_end(void *context, uint32_t choice, const struct work_end *end)
{
    struct answer *answer = context;
    (void)choice;
    size_t count = json_array_size(answer->logprobs);
    if (end->stop == HEARTH_STOP_END && count > 0 && !answer->last_shown)
        json_array_remove(answer->logprobs, count - 1);
    answer->done_reason = generation_stop_name((enum hearth_stop)end->stop);
    answer->dropped = end->dropped_messages;
    json_decref(answer->timings);
    answer->timings = generation_timings(end);
}

static void on_end(void *context, const struct generation *generation, const struct refusal *error)
{
    struct answer *answer = context;
    if (error && !answer->begun) {
        dialect_refuse(answer->exchange, error);
    } else if (error) {
        write_line(answer, json_pack("{s:s}", "error", error->error.text));
        http_stream_end(answer->exchange);
    } else if (answer->fields.stream) {
        write_line(answer, last_line(answer, generation));
        http_stream_end(answer->exchange);
    } else {
        dialect_respond_json(answer->exchange, 200, last_line(answer, generation));
    }
    free_answer(answer);
}

static void on_gone(void *context)
{
    free_answer(context);
}

/* ---- chat and generate ---- */

static void start(struct answer *answer)
{
    static const struct generation_listener calls = {.on_begin = on_begin,
                                                     .on_piece = on_piece,
                                                     .on_choice_end = on_choice_end,
                                                     .on_end = on_end,
                                                     .on_gone = on_gone};
    struct generation_listener listener = calls;
    struct generation_request request;
    struct refusal refusal = {0};
    char *text = answer->variables ? json_dumps(answer->variables, JSON_COMPACT) : NULL;
    listener.context = answer;
    generation_request_init(&request, answer->model);
    if (read_request(answer, &request, &refusal)) {
        dialect_refuse(answer->exchange, &refusal);
        free_answer(answer);
    } else {
        if (text)
            request.ask.variables = text_of(text);
        struct generation *generation =
            generation_start(answer->daemon, answer->exchange, &request, &listener);
        if (generation)
            answer->generation = generation;
    }
    generation_request_finish(&request);
    free(text);
}

/* Reasoning was asked for: whether the model's template knows of it. */
static void on_known(void *context, const struct hearth_error *error)
{
    struct answer *answer = context;
    struct model_info info;
    struct refusal refusal = {0};
    model_info(answer->model, &info);
    if (error)
        refusal_of(&refusal, error);
    else if (!info.upstream && catalogue_reasoning(info.ready) == CATALOGUE_REASONING_NONE)
        refuse(&refusal, 400, "think", "\"%s\" does not support thinking", info.name);
    if (!refusal.status) {
        start(answer);
        return;
    }
    dialect_refuse(answer->exchange, &refusal);
    free_answer(answer);
}

static void load_only(struct answer *answer)
{
    json_t *body = line_of(answer, true);
    if (body)
        put_text(answer, body, (struct text){NULL, 0}, (struct text){NULL, 0});
    struct ollama_load load = {answer->model, answer->ttl_given, answer->ttl_ns, body};
    ollama_load(answer->exchange, &load);
    free_answer(answer);
}

static int read_body(struct answer *answer, struct refusal *refusal)
{
    const struct field *fields = answer->chat ? ollama_chat_fields : ollama_generate_fields;
    size_t count = answer->chat ? COUNT(ollama_chat_fields) : COUNT(ollama_generate_fields);
    answer->fields.stream = true;
    if (ollama_read_keep_alive(answer->object, &answer->ttl_given, &answer->ttl_ns, refusal) ||
        fields_read(answer->object, fields, count, &answer->fields, refusal))
        return -1;
    if (read_think(answer, &answer->variables, refusal))
        return -1;
    if (answer->fields.raw && answer->fields.system.size > 0)
        return refuse(refusal, 400, "system", "system is not for a raw prompt");
    return 0;
}

static void answer(struct daemon *daemon, struct http_exchange *exchange, bool chat)
{
    struct model *model = NULL;
    struct refusal refusal = {0};
    json_t *object = ollama_parse(daemon, exchange, &model);
    struct answer *answer = object ? MEM_NEW(struct answer) : NULL;
    if (!answer) {
        if (object)
            http_respond_error(exchange, 500, "no memory for the request");
        json_decref(object);
        return;
    }
    *answer = (struct answer){.daemon = daemon,
                              .exchange = exchange,
                              .model = model,
                              .object = object,
                              .chat = chat,
                              .logprobs = json_array(),
                              .done_reason = "stop"};
    if (read_body(answer, &refusal)) {
        dialect_refuse(exchange, &refusal);
        free_answer(answer);
    } else if (chat ? is_empty(answer->fields.messages) : answer->fields.prompt.size == 0) {
        load_only(answer);
    } else if (json_is_true(answer->fields.think) || json_is_string(answer->fields.think)) {
        struct catalogue_wait wait = {model, on_known, on_gone, answer};
        catalogue_wait(daemon, exchange, &wait);
    } else {
        start(answer);
    }
}

void ollama_chat(void *context, struct http_exchange *exchange)
{
    answer(context, exchange, true);
}

void ollama_generate(void *context, struct http_exchange *exchange)
{
    answer(context, exchange, false);
}
