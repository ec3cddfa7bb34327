/* LM Studio's API: chats that are kept. A response's name says which conversation of the store it
 * stands in and where; a request that names it goes on with that conversation, or, where that has
 * gone on already, with another one that has the same beginning. */

#include "server/lmstudio.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/catalogue.h"
#include "server/openai.h"

#define EVENT_MAX ((size_t)64 << 20)

/* ---- bodies ---- */

static const char *const reasoning_words[] = {"off", "on", "low", "medium", "high", NULL};
enum { REASONING_OFF, REASONING_ON, REASONING_LEVEL };

struct fields {
    struct text model, system, previous;
    const json_t *input;
    bool stream, keep;
    int64_t max_tokens, context, ttl;
    int reasoning;
    bool system_given, previous_given, max_tokens_given, reasoning_given, ttl_given;
};

#define AT(member) offsetof(struct fields, member)
const struct field lmstudio_chat_fields[] = {
    {"model", FIELD_TEXT, 0, 0, AT(model), 0, true, NULL, "The name of a model."},
    {"input", FIELD_ANY, 0, 0, AT(input), 0, true, NULL,
     "A text, or an array of {\"type\": \"text\" or \"message\", \"content\"}."},
    {"system_prompt", FIELD_TEXT, 0, 0, AT(system), AT(system_given), false, NULL,
     "In the place of the model's, or of the chat's so far."},
    {"stream", FIELD_BOOL, 0, 0, AT(stream), 0, false, NULL, "Events as they come."},
    {"max_output_tokens", FIELD_INT, 1, INT32_MAX, AT(max_tokens), AT(max_tokens_given), false,
     NULL, "Of the answer, reasoning included."},
    {"reasoning", FIELD_CHOICE, 0, 0, AT(reasoning), AT(reasoning_given), false, reasoning_words,
     "Whether the model is to reason, and how much."},
    {"context_length", FIELD_INT, 1, INT32_MAX, AT(context), 0, false, NULL,
     "Changes nothing: the context is the model's."},
    {"store", FIELD_BOOL, 0, 0, AT(keep), 0, false, NULL,
     "Whether the chat is kept and the response has a name; true."},
    {"previous_response_id", FIELD_TEXT, 0, 0, AT(previous), AT(previous_given), false, NULL,
     "The response that the input follows."},
    {"ttl", FIELD_INT, 0, INT32_MAX, AT(ttl), AT(ttl_given), false, NULL,
     "Seconds without use after which the model is unloaded."},
    {"integrations", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
};

enum part { PART_NONE, PART_PROMPT, PART_REASONING, PART_MESSAGE };

struct chat {
    struct daemon *daemon;
    struct http_exchange *exchange;
    struct generation *generation;
    struct model *model;
    json_t *object; /* the body */
    json_t *input;  /* the user's message */
    struct fields fields;
    char key[LMSTUDIO_KEY_SIZE]; /* "": it is not kept */
    uint64_t messages;           /* of the conversation, when it was answered */
    json_t *before; /* its messages, while it may turn out that others have gone on with it */
    bool begun, loading;
    enum part part; /* that the stream is in */
    bool loaded;    /* for this request */
    uint64_t load_ns, asked_ns;
    double tokens_per_second, first_token_seconds;
};

static void free_chat(struct chat *chat)
{
    json_decref(chat->object);
    json_decref(chat->input);
    json_decref(chat->before);
    mem_free(chat);
}

static void on_gone(void *context)
{
    free_chat(context);
}

static const char *name_of(const struct chat *chat)
{
    struct model_info info;
    model_info(chat->model, &info);
    return info.name;
}

/* ---- events ---- */

/* The object is taken; its type is put into it. */
static bool event(struct chat *chat, const char *type, json_t *data)
{
    struct buffer line;
    buffer_init(&line, EVENT_MAX);
    if (!chat->begun)
        http_stream_begin_events(chat->exchange);
    chat->begun = true;
    if (data)
        json_object_set_new(data, "type", json_string(type));
    bool go_on = true;
    if (dialect_line(data, &line))
        go_on = http_stream_event(chat->exchange, type, buffer_text(&line));
    buffer_finish(&line);
    return go_on;
}

static bool begin(struct chat *chat)
{
    return chat->begun ||
           event(chat, "chat.start", json_pack("{s:s}", "model_instance_id", name_of(chat)));
}

/* Ends the part that the stream is in and begins another. */
static bool enter(struct chat *chat, enum part part)
{
    static const char *const names[] = {NULL, "prompt_processing", "reasoning", "message"};
    char type[40];
    bool go_on = begin(chat);
    if (chat->part == part)
        return go_on;
    if (chat->part != PART_NONE) {
        snprintf(type, sizeof type, "%s.end", names[chat->part]);
        go_on = event(chat, type, json_object());
    }
    chat->part = part;
    if (part != PART_NONE) {
        snprintf(type, sizeof type, "%s.start", names[part]);
        go_on = event(chat, type, json_object());
    }
    return go_on;
}

static void begin_loading(struct chat *chat)
{
    begin(chat);
    if (!chat->loading)
        event(chat, "model_load.start", json_pack("{s:s}", "model_instance_id", name_of(chat)));
    chat->loading = true;
}

static void end_loading(struct chat *chat, uint64_t load_ns)
{
    chat->loaded = true;
    chat->load_ns = load_ns;
    if (!chat->fields.stream)
        return;
    begin_loading(chat);
    event(chat, "model_load.end",
          json_pack("{s:s, s:f}", "model_instance_id", name_of(chat), "load_time_seconds",
                    (double)load_ns / 1e9));
    chat->loading = false;
}

/* ---- what is answered ---- */

static void on_loading(void *context, double fraction)
{
    struct chat *chat = context;
    if (!chat->fields.stream)
        return;
    begin_loading(chat);
    event(chat, "model_load.progress",
          json_pack("{s:s, s:f}", "model_instance_id", name_of(chat), "progress", fraction));
}

static void on_loaded(void *context, uint64_t load_ns)
{
    end_loading(context, load_ns);
}

static void on_begin(void *context, uint32_t choice, const struct work_begin *work)
{
    struct chat *chat = context;
    (void)choice, (void)work;
    if (chat->fields.stream)
        enter(chat, PART_PROMPT);
}

static void on_reading(void *context, uint32_t choice, uint64_t done, uint64_t total)
{
    struct chat *chat = context;
    (void)choice;
    if (!chat->fields.stream || chat->part > PART_PROMPT || total == 0)
        return;
    enter(chat, PART_PROMPT);
    event(chat, "prompt_processing.progress",
          json_pack("{s:f}", "progress", done < total ? (double)done / (double)total : 1.0));
}

static bool delta(struct chat *chat, enum part part, const char *type, struct text text)
{
    if (text.size == 0)
        return true;
    enter(chat, part);
    return event(chat, type, json_pack("{s:o}", "content", openai_text(text)));
}

static void on_piece(void *context, const struct generation_piece *piece)
{
    struct chat *chat = context;
    if (!chat->fields.stream)
        return;
    bool reasons = delta(chat, PART_REASONING, "reasoning.delta", piece->reasoning);
    bool says = delta(chat, PART_MESSAGE, "message.delta", piece->text);
    generation_wrote(chat->generation, reasons && says);
}

static void on_choice_end(void *context, uint32_t choice, const struct work_end *end)
{
    struct chat *chat = context;
    (void)choice;
    if (end->answer_ns > 0)
        chat->tokens_per_second = (double)end->decode_tokens * 1e9 / (double)end->answer_ns;
    chat->first_token_seconds = (double)(end->queued_ns + end->first_token_ns) / 1e9;
}

static void put_output(json_t *output, const char *type, struct text text)
{
    if (text.size > 0)
        json_array_append_new(output,
                              json_pack("{s:s, s:o}", "type", type, "content", openai_text(text)));
}

/* `generation` is NULL where it did not come to one. */
static json_t *result_of(const struct chat *chat, const struct generation *generation, bool named)
{
    struct generation_totals totals = {0};
    char id[LMSTUDIO_ID_SIZE];
    json_t *output = json_array();
    if (generation) {
        generation_totals(generation, &totals);
        put_output(output, "reasoning", generation_reasoning(generation, 0));
        put_output(output, "message", generation_text(generation, 0));
    }
    json_t *stats = json_pack(
        "{s:I, s:I, s:I, s:f, s:f}", "input_tokens", (json_int_t)totals.prompt_tokens,
        "total_output_tokens", (json_int_t)totals.answer_tokens, "reasoning_output_tokens",
        (json_int_t)totals.reasoning_tokens, "tokens_per_second", chat->tokens_per_second,
        "time_to_first_token_seconds", chat->first_token_seconds);
    if (chat->loaded)
        json_object_set_new(stats, "model_load_time_seconds",
                            json_real((double)chat->load_ns / 1e9));
    json_t *result = json_pack("{s:s, s:o, s:o}", "model_instance_id", name_of(chat), "output",
                               output, "stats", stats);
    if (named && chat->key[0]) {
        lmstudio_id_of(chat->key, chat->messages + 1, id);
        json_object_set_new(result, "response_id", json_string(id));
    }
    return result;
}

/* Refused before anything was told; or told so, in the stream, and then what there is. */
static void fail(struct chat *chat, const struct generation *generation,
                 const struct refusal *error)
{
    struct text path = http_exchange_request(chat->exchange)->path;
    if (!chat->begun) {
        dialect_refuse(chat->exchange, error);
        return;
    }
    enter(chat, PART_NONE);
    event(chat, "error", dialect_error_of(path, error));
    event(chat, "chat.end", json_pack("{s:o}", "result", result_of(chat, generation, false)));
    http_stream_end(chat->exchange);
}

static void ask_anew(struct chat *chat, json_t *messages);

static void on_end(void *context, const struct generation *generation, const struct refusal *error)
{
    struct chat *chat = context;
    if (error && error->status == 409 && chat->before && chat->part == PART_NONE) {
        ask_anew(chat, json_incref(chat->before)); /* another request was first */
        return;
    }
    if (error) {
        fail(chat, generation, error);
    } else if (!chat->fields.stream) {
        dialect_respond_json(chat->exchange, 200, result_of(chat, generation, true));
    } else {
        enter(chat, PART_NONE);
        event(chat, "chat.end", json_pack("{s:o}", "result", result_of(chat, generation, true)));
        http_stream_end(chat->exchange);
    }
    free_chat(chat);
}

/* ---- asking ---- */

static void give_up(struct chat *chat, const struct refusal *refusal)
{
    fail(chat, NULL, refusal);
    free_chat(chat);
}

static int read_request(struct chat *chat, struct generation_request *request,
                        const json_t *messages, struct refusal *refusal)
{
    const struct fields *fields = &chat->fields;
    request->whole = !fields->stream;
    request->ttl_given = fields->ttl_given;
    request->ttl_ns = (uint64_t)fields->ttl * 1000000000u;
    request->ask.progress = fields->stream;
    request->ask.session = text_of(chat->key);
    request->ask.behind = json_array_size(chat->before);
    if (fields->max_tokens_given)
        request->ask.max_tokens = (uint32_t)fields->max_tokens;
    if (generation_read_fields(request, chat->object, refusal))
        return -1;
    return generation_read_messages(request, messages, refusal);
}

/* How many messages an ask has, the model's system prompt among them. */
static uint64_t count_of(struct text messages)
{
    json_t *list = json_loadb(messages.data, messages.size, 0, NULL);
    uint64_t count = json_array_size(list);
    json_decref(list);
    return count;
}

static char *variables_of(const struct chat *chat)
{
    int reasoning = chat->fields.reasoning;
    if (!chat->fields.reasoning_given)
        return NULL;
    json_t *variables = catalogue_reasoning_variables(
        reasoning != REASONING_OFF,
        reasoning >= REASONING_LEVEL ? reasoning_words[reasoning] : NULL);
    char *text = json_dumps(variables, JSON_COMPACT);
    json_decref(variables);
    return text;
}

/* `known`: messages that the conversation has already; the others come behind them. */
static void ask(struct chat *chat, enum work_messages how, const json_t *messages, uint64_t known)
{
    struct generation_listener listener = {.on_loading = on_loading,
                                           .on_loaded = on_loaded,
                                           .on_begin = on_begin,
                                           .on_reading = on_reading,
                                           .on_piece = on_piece,
                                           .on_choice_end = on_choice_end,
                                           .on_end = on_end,
                                           .on_gone = on_gone,
                                           .context = chat};
    struct generation_request request;
    struct refusal refusal = {0};
    generation_request_init(&request, chat->model);
    request.ask.how = how;
    char *variables = variables_of(chat);
    if (read_request(chat, &request, messages, &refusal)) {
        give_up(chat, &refusal);
    } else {
        chat->messages = known + count_of(request.ask.messages);
        if (variables)
            request.ask.variables = text_of(variables);
        struct generation *generation =
            generation_start(chat->daemon, chat->exchange, &request, &listener);
        if (generation)
            chat->generation = generation;
    }
    generation_request_finish(&request);
    free(variables);
}

static void refuse_and_free(struct chat *chat, int status, const char *param, const char *sentence)
{
    struct refusal refusal;
    refuse(&refusal, status, param, "%s", sentence);
    give_up(chat, &refusal);
}

/* A conversation of its own, from these messages on. */
static void ask_anew(struct chat *chat, json_t *messages)
{
    json_decref(chat->before);
    chat->before = NULL;
    chat->key[0] = '\0';
    if (!messages || json_array_append(messages, chat->input) != 0 ||
        (chat->fields.keep && !lmstudio_key_new(chat->key)))
        refuse_and_free(chat, 507, "", "no memory for the request");
    else
        ask(chat, WORK_MESSAGES_ALL, messages, 0);
    json_decref(messages);
}

static bool is_system(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "system") == 0;
}

static bool has_system(const json_t *history, struct text system)
{
    const json_t *first = json_array_get(history, 0);
    const json_t *content = json_object_get(first, "content");
    struct text text = {json_string_value(content), json_string_length(content)};
    return is_system(first) ? text_equal(text, system) : system.size == 0;
}

static void put_system(json_t *messages, struct text system)
{
    if (is_system(json_array_get(messages, 0)))
        json_array_remove(messages, 0);
    if (system.size > 0)
        json_array_insert_new(
            messages, 0,
            json_pack("{s:s, s:s%}", "role", "system", "content", system.data, system.size));
}

static void on_history(void *context, const json_t *reply, const struct refusal *error)
{
    struct chat *chat = context;
    const struct fields *fields = &chat->fields;
    json_t *history = json_object_get(reply, "messages");
    uint64_t count = json_array_size(history);
    if (chat->loading && !error)
        end_loading(chat, os_monotonic_ns() - chat->asked_ns);
    if (error && error->status != 404) {
        give_up(chat, error);
        return;
    }
    if (error || count < chat->messages || chat->messages == 0) {
        refuse_and_free(chat, 404, "previous_response_id", "no such response is kept");
        return;
    }
    bool same = !fields->system_given || has_system(history, fields->system);
    json_t *messages = json_array();
    for (size_t i = 0; i < chat->messages; i++)
        json_array_append(messages, json_array_get(history, i));
    if (fields->keep && same && count == chat->messages) {
        json_t *input = json_pack("[O]", chat->input);
        chat->before = messages;
        ask(chat, WORK_MESSAGES_APPEND, input, count);
        json_decref(input);
        return;
    }
    if (!same)
        put_system(messages, fields->system);
    ask_anew(chat, messages);
}

static void ask_for_history(struct chat *chat)
{
    struct model_info info;
    struct generation_call call = {.model = chat->model,
                                   .name = "history",
                                   .arguments = json_pack("{s:s}", "key", chat->key),
                                   .session = text_of(chat->key),
                                   .on_reply = on_history,
                                   .on_gone = on_gone,
                                   .context = chat};
    model_info(chat->model, &info);
    chat->asked_ns = os_monotonic_ns();
    if (chat->fields.stream && info.presence != MODEL_LOADED)
        begin_loading(chat);
    generation_call_start(chat->daemon, chat->exchange, &call);
}

static void proceed(struct chat *chat)
{
    if (chat->fields.previous_given) {
        ask_for_history(chat);
        return;
    }
    json_t *messages = json_array();
    if (chat->fields.system.size > 0)
        put_system(messages, chat->fields.system);
    ask_anew(chat, messages);
}

/* ---- what is asked ---- */

/* The texts of an array, each on lines of its own, as one message. */
static int read_items(const json_t *items, struct buffer *out, struct refusal *refusal)
{
    for (size_t i = 0; i < json_array_size(items); i++) {
        const json_t *item = json_array_get(items, i), *content = json_object_get(item, "content");
        const char *type = json_string_value(json_object_get(item, "type"));
        char param[40];
        snprintf(param, sizeof param, "input[%zu]", i);
        if (!type || (strcmp(type, "text") != 0 && strcmp(type, "message") != 0))
            return refuse(refusal, 400, param,
                          "%s: inputs of type \"%.40s\" are not supported, only \"text\" and "
                          "\"message\"",
                          param, type ? type : "");
        if (!json_is_string(content))
            return refuse(refusal, 400, param, "%s: \"content\" must be a text", param);
        if (i > 0)
            buffer_append_char(out, '\n');
        buffer_append(out, json_string_value(content), json_string_length(content));
    }
    return 0;
}

static int read_input(struct chat *chat, struct refusal *refusal)
{
    const json_t *input = chat->fields.input;
    struct buffer text;
    int status = 0;
    buffer_init(&text, WORK_PAYLOAD_MAX);
    if (json_is_string(input))
        buffer_append(&text, json_string_value(input), json_string_length(input));
    else if (json_array_size(input) > 0)
        status = read_items(input, &text, refusal);
    else
        status = refuse(refusal, 400, "input", "input must be a text or an array of inputs");
    if (status == 0 && !text.failed)
        chat->input = json_pack("{s:s, s:s%}", "role", "user", "content",
                                text.size ? text.data : "", text.size);
    if (status == 0 && !chat->input)
        status = refuse(refusal, 507, "", "no memory for the input");
    buffer_finish(&text);
    return status;
}

static int read_body(struct chat *chat, struct refusal *refusal)
{
    struct fields *fields = &chat->fields;
    struct model_info info;
    model_info(chat->model, &info);
    fields->keep = true;
    if (fields_read(chat->object, lmstudio_chat_fields,
                    sizeof lmstudio_chat_fields / sizeof *lmstudio_chat_fields, fields, refusal) ||
        read_input(chat, refusal))
        return -1;
    if (fields->previous_given && !lmstudio_id_read(fields->previous, chat->key, &chat->messages))
        return refuse(refusal, 400, "previous_response_id",
                      "previous_response_id is no name of a response: those are \"resp_\" and 48 "
                      "hexadecimal digits");
    if (info.upstream && fields->previous_given)
        return refuse(refusal, 400, "previous_response_id",
                      "chats with models of other servers are not kept");
    fields->keep = fields->keep && !info.upstream;
    return 0;
}

/* Whether the model's template has what `reasoning` asks for. */
static void on_known(void *context, const struct hearth_error *error)
{
    struct chat *chat = context;
    struct model_info info;
    struct refusal refusal = {0};
    int asked = chat->fields.reasoning;
    model_info(chat->model, &info);
    enum catalogue_reasoning has = catalogue_reasoning(info.ready);
    bool fits = asked == REASONING_OFF
                    ? has != CATALOGUE_REASONING_ALWAYS && has != CATALOGUE_REASONING_LEVELS
                : asked == REASONING_ON ? has != CATALOGUE_REASONING_NONE
                                        : has == CATALOGUE_REASONING_LEVELS;
    if (error)
        refusal_of(&refusal, error);
    else if (!fits && !info.upstream)
        refuse(&refusal, 400, "reasoning", "reasoning \"%s\" is not what %s can be asked for",
               reasoning_words[asked], info.name);
    if (refusal.status)
        give_up(chat, &refusal);
    else
        proceed(chat);
}

void lmstudio_chat(void *context, struct http_exchange *exchange)
{
    struct model *model = NULL;
    struct refusal refusal = {0};
    json_t *object = lmstudio_parse(context, exchange, "model", &model);
    struct chat *chat = object ? MEM_NEW(struct chat) : NULL;
    if (!chat) {
        if (object)
            http_respond_error(exchange, 507, "no memory for the request");
        json_decref(object);
        return;
    }
    *chat =
        (struct chat){.daemon = context, .exchange = exchange, .model = model, .object = object};
    if (read_body(chat, &refusal)) {
        give_up(chat, &refusal);
    } else if (chat->fields.reasoning_given) {
        struct catalogue_wait wait = {model, on_known, on_gone, chat};
        catalogue_wait(context, exchange, &wait);
    } else {
        proceed(chat);
    }
}
