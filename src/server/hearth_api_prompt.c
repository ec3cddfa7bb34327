/* hearth's own paths: something is said in a conversation, and answered, whole or as events:
 *   loading    {progress}              only while a load is waited for
 *   begin      {session, model, prompt_tokens, cached_tokens, queued_ms}
 *   reading    {done, total}           of the prompt's tokens; with `progress`
 *   text       {text}
 *   reasoning  {text}
 *   end        {session, model, stop, stop_string, usage, timings, unsaved, dropped_messages}
 *   error      {error: {message, …}}   in the place of what would follow */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "server/hearth_api.h"

#define AT(member) offsetof(struct prompt_fields, member)
#define TIMEOUT_S_MAX 86400.0

struct prompt_fields {
    struct text model, text;
    bool text_given, stream, progress, background, plain;
    const json_t *message, *messages, *stop, *variables, *ttl;
    int64_t max_tokens;
    double timeout_s;
    int keep, overflow;
};

static const char *const keeps[] = {"default", "never", NULL};
static const char *const overflows[] = {"error", "stop", "drop", NULL};

const struct field hearth_api_prompt_fields[HEARTH_API_PROMPT_FIELDS] = {
    {.name = "model",
     .type = FIELD_TEXT,
     .at = AT(model),
     .help = "The one that answers; else the one that has the conversation."},
    {.name = "text",
     .type = FIELD_TEXT,
     .at = AT(text),
     .given_at = AT(text_given),
     .help = "What the user says. Without text, message and messages the last answer is continued "
             "or given to what was said already."},
    {.name = "message", .type = FIELD_OBJECT, .at = AT(message), .help = "In its place a message."},
    {.name = "messages",
     .type = FIELD_ARRAY,
     .at = AT(messages),
     .help = "In its place several, that are new."},
    {.name = "stream",
     .type = FIELD_BOOL,
     .at = AT(stream),
     .help = "Answers events: begin, reading, text, reasoning, end or error."},
    {.name = "progress", .type = FIELD_BOOL, .at = AT(progress), .help = "Events named reading."},
    {.name = "max_tokens",
     .type = FIELD_INT,
     .min = 0,
     .max = INT32_MAX,
     .at = AT(max_tokens),
     .help = "0: no limit but the context."},
    {.name = "stop",
     .type = FIELD_ANY,
     .at = AT(stop),
     .help = "A text, or an array of texts, that ends the answer and is left out."},
    {.name = "variables",
     .type = FIELD_OBJECT,
     .at = AT(variables),
     .help = "More variables for the template."},
    {.name = "ttl",
     .type = FIELD_ANY,
     .at = AT(ttl),
     .help = "The model's time to live after this: seconds, or as \"10m\"; negative: for ever."},
    {.name = "timeout_s",
     .type = FIELD_REAL,
     .min = 0,
     .max = TIMEOUT_S_MAX,
     .at = AT(timeout_s),
     .help = "After so long the answer ends; 0: never."},
    {.name = "background",
     .type = FIELD_BOOL,
     .at = AT(background),
     .help = "Gives way to all that is not."},
    {.name = "keep",
     .type = FIELD_CHOICE,
     .choices = keeps,
     .at = AT(keep),
     .help = "Whether a conversation that begins is written to the disk."},
    {.name = "plain",
     .type = FIELD_BOOL,
     .at = AT(plain),
     .help = "One that begins has its texts as they are, without the model's template."},
    {.name = "overflow",
     .type = FIELD_CHOICE,
     .choices = overflows,
     .at = AT(overflow),
     .help = "What happens when the context of one that begins is full."},
    {.name = "tools", .type = FIELD_REFUSED},
};

struct prompt {
    struct daemon *daemon;
    struct prompt *next, **link; /* among the daemon's */
    struct http_exchange *exchange;
    struct generation *generation;
    char key[HEARTH_API_KEY_SIZE], model[256];
    json_t *end; /* what is known of the end */
    bool stream, begun;
};

static void enlist(struct prompt *prompt)
{
    prompt->link = &prompt->daemon->prompts;
    prompt->next = *prompt->link;
    if (prompt->next)
        prompt->next->link = &prompt->next;
    *prompt->link = prompt;
}

static void prompt_free(struct prompt *prompt)
{
    if (prompt->link)
        *prompt->link = prompt->next;
    if (prompt->link && prompt->next)
        prompt->next->link = prompt->link;
    json_decref(prompt->end);
    mem_free(prompt);
}

static void send_event(struct prompt *prompt, const char *name, json_t *data)
{
    if (!prompt->stream) {
        json_decref(data);
        return;
    }
    if (!prompt->begun)
        http_stream_begin_events(prompt->exchange);
    prompt->begun = true;
    generation_wrote(prompt->generation, dialect_event(prompt->exchange, name, data));
}

/* ---- what is called back ---- */

static void on_loading(void *context, double fraction)
{
    send_event(context, "loading", json_pack("{s:f}", "progress", fraction));
}

static void on_begin(void *context, uint32_t choice, const struct work_begin *begin)
{
    struct prompt *prompt = context;
    (void)choice;
    send_event(prompt, "begin",
               json_pack("{s:s, s:s, s:I, s:I, s:f}", "session", prompt->key, "model",
                         prompt->model, "prompt_tokens", (json_int_t)begin->prompt_tokens,
                         "cached_tokens", (json_int_t)begin->cached_tokens, "queued_ms",
                         (double)begin->queued_ns / 1e6));
}

static void on_reading(void *context, uint32_t choice, uint64_t done, uint64_t total)
{
    (void)choice;
    send_event(context, "reading",
               json_pack("{s:I, s:I}", "done", (json_int_t)done, "total", (json_int_t)total));
}

static void on_piece(void *context, const struct generation_piece *piece)
{
    if (piece->reasoning.size > 0)
        send_event(context, "reasoning",
                   json_pack("{s:s%}", "text", piece->reasoning.data, piece->reasoning.size));
    if (piece->text.size > 0)
        send_event(context, "text",
                   json_pack("{s:s%}", "text", piece->text.data, piece->text.size));
}

static const char *stop_name(enum hearth_stop stop)
{
    static const char *const names[] = {"end", "length", "string", "context", "cancelled", "error"};
    return stop <= HEARTH_STOP_ERROR ? names[stop] : "error";
}

static void on_choice_end(void *context, uint32_t choice, const struct work_end *end)
{
    struct prompt *prompt = context;
    (void)choice;
    json_decref(prompt->end);
    prompt->end = json_pack("{s:s, s:s, s:s, s:s%, s:o, s:b, s:I}", "session", prompt->key, "model",
                            prompt->model, "stop", stop_name((enum hearth_stop)end->stop),
                            "stop_string", end->stop_string.data ? end->stop_string.data : "",
                            end->stop_string.size, "timings", generation_timings(end), "unsaved",
                            end->unsaved, "dropped_messages", (json_int_t)end->dropped_messages);
}

static json_t *end_json(struct prompt *prompt, const struct generation *generation)
{
    struct generation_totals totals;
    json_t *end = prompt->end ? json_incref(prompt->end) : json_object();
    generation_totals(generation, &totals);
    json_object_set_new(end, "usage", generation_usage(&totals));
    if (!prompt->stream) {
        struct text text = generation_text(generation, 0);
        struct text reasoning = generation_reasoning(generation, 0);
        json_object_set_new(end, "text", json_stringn(text.size ? text.data : "", text.size));
        json_object_set_new(end, "reasoning",
                            json_stringn(reasoning.size ? reasoning.data : "", reasoning.size));
    }
    return end;
}

static void on_end(void *context, const struct generation *generation, const struct refusal *error)
{
    struct prompt *prompt = context;
    struct http_exchange *exchange = prompt->exchange;
    struct text path = http_exchange_request(exchange)->path;
    if (error && !prompt->begun) {
        dialect_refuse(exchange, error);
    } else if (!prompt->stream) {
        dialect_respond_json(exchange, 200, end_json(prompt, generation));
    } else {
        if (!prompt->begun)
            http_stream_begin_events(exchange);
        dialect_event(exchange, error ? "error" : "end",
                      error ? dialect_error_of(path, error) : end_json(prompt, generation));
        http_stream_end(exchange);
    }
    prompt_free(prompt);
}

static void on_gone(void *context)
{
    prompt_free(context);
}

/* ---- the request ---- */

/* The messages that are new, into the request. */
static int read_messages(struct generation_request *request, const struct prompt_fields *fields,
                         struct refusal *refusal)
{
    int given =
        (fields->text_given ? 1 : 0) + (fields->message != NULL) + (fields->messages != NULL);
    json_t *array = NULL;
    if (given > 1)
        return refuse(refusal, 400, "messages",
                      "only one of text, message and messages can be given");
    if (given == 0 || (fields->messages && json_array_size(fields->messages) == 0)) {
        request->ask.messages = TEXT("[]");
        return 0;
    }
    if (fields->messages)
        return generation_read_messages(request, fields->messages, refusal);
    array = fields->message ? json_pack("[O]", fields->message)
                            : json_pack("[{s:s, s:s%}]", "role", "user", "content",
                                        fields->text.data, fields->text.size);
    int status = generation_read_messages(request, array, refusal);
    json_decref(array);
    return status;
}

/* `key` and `variables` are what the request points into. */
static int read_request(struct generation_request *request, const struct prompt_fields *fields,
                        const json_t *body, const char *key, struct buffer *variables,
                        struct refusal *refusal)
{
    struct work_ask *ask = &request->ask;
    ask->session = text_of(key);
    ask->how = WORK_MESSAGES_APPEND;
    if (generation_read_fields(request, body, refusal) || read_messages(request, fields, refusal))
        return -1;
    if (fields->stop && !fields_texts(fields->stop, ask->stops, WORK_STOPS_MAX, &ask->stop_count))
        return refuse(refusal, 400, "stop", "stop must be a text, or an array of at most %d texts",
                      WORK_STOPS_MAX);
    if (fields->ttl && !fields_duration(fields->ttl, &request->ttl_ns))
        return refuse(refusal, 400, "ttl", "ttl must be a duration: seconds, or a text as \"10m\"");
    if (fields->variables && !dialect_line(json_deep_copy(fields->variables), variables))
        return refuse(refusal, 503, "", "there is no memory for the request");
    request->ttl_given = fields->ttl != NULL;
    request->whole = !fields->stream;
    ask->variables = buffer_text(variables);
    ask->settings =
        (struct hearth_session_settings){.keep = (enum hearth_keep)fields->keep,
                                         .plain = fields->plain,
                                         .overflow = (enum hearth_overflow)fields->overflow};
    ask->settings_given = true;
    ask->max_tokens = fields->max_tokens > 0 ? (uint32_t)fields->max_tokens : ask->max_tokens;
    ask->progress = fields->stream && fields->progress;
    ask->background = fields->background;
    ask->timeout_ns = (uint64_t)(fields->timeout_s * 1e9);
    return 0;
}

static void start(struct daemon *daemon, struct prompt *prompt,
                  const struct generation_request *request, bool progress)
{
    const struct generation_listener listener = {.on_loading = on_loading,
                                                 .on_begin = on_begin,
                                                 .on_reading = progress ? on_reading : NULL,
                                                 .on_piece = on_piece,
                                                 .on_choice_end = on_choice_end,
                                                 .on_end = on_end,
                                                 .on_gone = on_gone,
                                                 .context = prompt};
    struct model_info info;
    model_info(request->model, &info);
    snprintf(prompt->model, sizeof prompt->model, "%s", info.name);
    struct generation *generation = generation_start(daemon, prompt->exchange, request, &listener);
    if (!generation)
        return;
    prompt->generation = generation;
    enlist(prompt);
}

/* Takes the prompt. */
static void ask(struct daemon *daemon, struct prompt *prompt, struct model *model,
                const json_t *body, const struct prompt_fields *fields)
{
    struct generation_request request;
    struct refusal refusal = {0};
    struct buffer variables;
    buffer_init(&variables, WORK_PAYLOAD_MAX);
    generation_request_init(&request, model);
    if (read_request(&request, fields, body, prompt->key, &variables, &refusal) == 0) {
        start(daemon, prompt, &request, fields->progress);
    } else {
        dialect_refuse(prompt->exchange, &refusal);
        prompt_free(prompt);
    }
    generation_request_finish(&request);
    buffer_finish(&variables);
}

void hearth_api_prompt(void *context, struct http_exchange *exchange)
{
    struct prompt_fields fields = {.text_given = false};
    struct refusal refusal = {0};
    struct prompt *prompt = MEM_NEW(struct prompt);
    json_t *body = NULL;
    if (!prompt) {
        hearth_api_no_memory(exchange);
        return;
    }
    prompt->daemon = context;
    prompt->exchange = exchange;
    if (hearth_api_key(exchange, prompt->key))
        body =
            hearth_api_body(exchange, hearth_api_prompt_fields, HEARTH_API_PROMPT_FIELDS, &fields);
    struct model *model = body ? hearth_api_model_of(context, prompt->key, body, &refusal) : NULL;
    if (model) {
        prompt->stream = fields.stream;
        ask(context, prompt, model, body, &fields);
    } else {
        if (body)
            dialect_refuse(exchange, &refusal);
        prompt_free(prompt);
    }
    json_decref(body);
}

/* ---- POST sessions/{name}/cancel ---- */

/* What is being answered in a conversation ends with what there is of it; whoever asked gets the
 * end, with "cancelled" as its stop. */
void hearth_api_cancel(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    char key[HEARTH_API_KEY_SIZE];
    bool any = false;
    if (!hearth_api_key(exchange, key))
        return;
    for (struct prompt *prompt = daemon->prompts; prompt; prompt = prompt->next) {
        if (strcmp(prompt->key, key) != 0)
            continue;
        any = true;
        generation_cancel(prompt->generation);
    }
    dialect_respond_json(exchange, 200, json_pack("{s:s, s:b}", "key", key, "cancelled", any));
}
