/* Bodies of chats and completions: their fields, and what they become of the inner request. */
#include <string.h>

#include "base/memory.h"
#include "server/catalogue.h"
#include "server/openai.h"

#define CHOICES_MAX 64
#define PROMPTS_MAX 64
#define STOP_BYTES_MAX 1024 /* as hearth_stream_options.stop */

struct values {
    const json_t *messages, *prompt; /* first, so that no flag has the offset 0 */
    bool stream, logprobs_wanted, return_progress, top_logprobs_given, logprobs_given;
    bool background, max_tokens_given, max_completion_tokens_given;
    int64_t max_tokens, max_completion_tokens, n, best_of, top_logprobs, logprobs;
    struct text model, session;
    int reasoning_format, reasoning_effort;
    bool reasoning_effort_given;
    const json_t *stream_options, *stop, *template_variables, *tool_choice, *function_call;
    const json_t *response_format, *modalities, *ttl;
};

static const char *const reasoning_formats[] = {"auto", "none", "deepseek", "deepseek-legacy",
                                                NULL};
static const char *const efforts[] = {"none", "minimal", "low", "medium", "high", "xhigh", NULL};

#define AT(member) offsetof(struct values, member)
#define FIELD(name, type, min, max, member, help)                                                  \
    {                                                                                              \
        name, type, min, max, AT(member), 0, false, NULL, help                                     \
    }
#define GIVEN(name, type, min, max, member, help)                                                  \
    {                                                                                              \
        name, type, min, max, AT(member), AT(member##_given), false, NULL, help                    \
    }
#define REFUSED(name)                                                                              \
    {                                                                                              \
        name, FIELD_REFUSED, 0, 0, 0, 0, false, NULL, "Not supported."                             \
    }
#define IGNORED(name)                                                                              \
    {                                                                                              \
        name, FIELD_IGNORED, 0, 0, 0, 0, false, NULL, "Accepted, of no meaning."                   \
    }

#define COMMON_FIELDS                                                                              \
    {                                                                                              \
        "model",                                                                                   \
        FIELD_TEXT,                                                                                \
        0,                                                                                         \
        256,                                                                                       \
        AT(model),                                                                                 \
        0,                                                                                         \
        false,                                                                                     \
        NULL,                                                                                      \
        "Its name; none: the only one there is, or the only one that is loaded."},                 \
        FIELD("stream", FIELD_BOOL, 0, 0, stream, "Server-sent events as the answer comes."),      \
        FIELD("stream_options", FIELD_OBJECT, 0, 0, stream_options,                                \
              "{\"include_usage\": true}: a last chunk with the usage."),                          \
        GIVEN("max_tokens", FIELD_INT, -1, INT32_MAX, max_tokens,                                  \
              "Tokens of the answer at most; -1: as many as the context has room for."),           \
        FIELD("n", FIELD_INT, 1, CHOICES_MAX, n,                                                   \
              "Answers to each prompt, with seeds that follow each other."),                       \
        FIELD("stop", FIELD_ANY, 0, 0, stop,                                                       \
              "A text, or an array of up to 64 texts, of 1 to 1024 bytes each, that end the "      \
              "answer and are no part of it."),                                                    \
        {"ttl", FIELD_ANY, 0, 0, AT(ttl), 0, false, NULL, OPENAI_TTL_HELP},                        \
        FIELD("return_progress", FIELD_BOOL, 0, 0, return_progress,                                \
              "Chunks with prompt_progress while the prompt is read."),                            \
        FIELD("background", FIELD_BOOL, 0, 0, background, "Gives way to all that is not."),        \
        REFUSED("audio"), IGNORED("cache_prompt"), IGNORED("user"), IGNORED("metadata"),           \
        IGNORED("store"), IGNORED("service_tier"), IGNORED("timings_per_token")

const struct field openai_chat_fields[] = {
    {"messages", FIELD_ARRAY, 0, 100000, AT(messages), 0, true, NULL,
     "Objects with `role` (system, developer, user or assistant) and `content`: a text, or parts "
     "of type \"text\"."},
    COMMON_FIELDS,
    GIVEN("max_completion_tokens", FIELD_INT, -1, INT32_MAX, max_completion_tokens,
          "The same as max_tokens, before it."),
    FIELD("logprobs", FIELD_BOOL, 0, 0, logprobs_wanted, "Tokens with their log probabilities."),
    GIVEN("top_logprobs", FIELD_INT, 0, HEARTH_TOP_TOKENS_MAX, top_logprobs,
          "And so many of the most probable tokens in the place of each."),
    FIELD("session", FIELD_TEXT, 0, WORK_KEY_SIZE - 1, session,
          "The key of a conversation that is kept: messages has what is new alone."),
    FIELD("chat_template_kwargs", FIELD_OBJECT, 0, 0, template_variables,
          "More variables for the model's template, as {\"enable_thinking\": false}."),
    {"reasoning_format", FIELD_CHOICE, 0, 0, AT(reasoning_format), 0, false, reasoning_formats,
     "\"none\" leaves reasoning in the content."},
    {"reasoning_effort", FIELD_CHOICE, 0, 0, AT(reasoning_effort), AT(reasoning_effort_given),
     false, efforts, "For templates that know it, or can switch reasoning off."},
    FIELD("tool_choice", FIELD_ANY, 0, 0, tool_choice, "\"none\" or \"auto\"."),
    FIELD("function_call", FIELD_ANY, 0, 0, function_call, "\"none\" or \"auto\"."),
    FIELD("response_format", FIELD_OBJECT, 0, 0, response_format, "{\"type\": \"text\"}."),
    FIELD("modalities", FIELD_ARRAY, 0, 0, modalities, "[\"text\"]."),
    REFUSED("tools"),
    REFUSED("functions"),
    REFUSED("web_search_options"),
    REFUSED("continue_final_message"),
    IGNORED("parallel_tool_calls"),
    IGNORED("prediction"),
    IGNORED("safety_identifier"),
    IGNORED("prompt_cache_key"),
    IGNORED("verbosity"),
};

const struct field openai_completion_fields[] = {
    {"prompt", FIELD_ANY, 0, 0, AT(prompt), 0, true, NULL,
     "A text, or an array of up to 64 texts."},
    COMMON_FIELDS,
    GIVEN("logprobs", FIELD_INT, 0, HEARTH_TOP_TOKENS_MAX, logprobs,
          "Tokens with their log probabilities, and so many others in the place of each."),
    FIELD("best_of", FIELD_INT, 1, CHOICES_MAX, best_of, "As n."),
    REFUSED("suffix"),
    REFUSED("echo"),
};

/* ---- what both have ---- */

int openai_read_ttl(const json_t *object, bool *given, uint64_t *ttl_ns, struct refusal *refusal)
{
    const json_t *value = json_object_get(object, "ttl");
    if (!value || json_is_null(value))
        return 0;
    if (!fields_duration(value, ttl_ns))
        return refuse(refusal, 400, "ttl",
                      "ttl must be a number of seconds or a text like \"10m\"");
    *given = true;
    return 0;
}

static int read_stop(struct work_ask *ask, const json_t *stop, struct refusal *refusal)
{
    bool valid = fields_texts(stop, ask->stops, WORK_STOPS_MAX, &ask->stop_count);
    for (uint32_t i = 0; valid && i < ask->stop_count; i++)
        valid = ask->stops[i].size > 0 && ask->stops[i].size <= STOP_BYTES_MAX;
    return valid ? 0
                 : refuse(refusal, 400, "stop",
                          "stop must be a text, or an array of at most %d texts, of 1 to %d bytes "
                          "each",
                          WORK_STOPS_MAX, STOP_BYTES_MAX);
}

static int read_max_tokens(struct work_ask *ask, const struct values *values,
                           struct refusal *refusal)
{
    bool newer = values->max_completion_tokens_given;
    const char *name = newer ? "max_completion_tokens" : "max_tokens";
    int64_t max = newer ? values->max_completion_tokens : values->max_tokens;
    if (!newer && !values->max_tokens_given)
        return 0;
    if (max == 0)
        return refuse(refusal, 400, name, "%s is 0; it must be -1 or at least 1", name);
    ask->max_tokens = max < 0 ? 0 : (uint32_t)max;
    return 0;
}

static int read_stream_options(struct openai_answer_options *options, const struct values *values,
                               struct refusal *refusal)
{
    const json_t *include = json_object_get(values->stream_options, "include_usage");
    if (include && !json_is_null(include) && !json_is_boolean(include))
        return refuse(refusal, 400, "stream_options.include_usage",
                      "stream_options.include_usage must be true or false");
    options->stream = values->stream;
    options->include_usage = values->stream && json_is_true(include);
    options->progress = values->stream && values->return_progress;
    return 0;
}

static int read_common(struct generation_request *request, struct openai_answer_options *options,
                       const json_t *object, const struct values *values, struct refusal *refusal)
{
    if (generation_read_fields(request, object, refusal) ||
        openai_read_ttl(object, &request->ttl_given, &request->ttl_ns, refusal) ||
        read_max_tokens(&request->ask, values, refusal) ||
        read_stream_options(options, values, refusal))
        return -1;
    request->choices = (uint32_t)values->n;
    request->ask.background = values->background;
    return values->stop ? read_stop(&request->ask, values->stop, refusal) : 0;
}

/* ---- chats ---- */

static bool text_is(const json_t *value, const char *string)
{
    return json_is_string(value) && strcmp(json_string_value(value), string) == 0;
}

/* "auto" with no tools there are means "none". */
static int check_choice(const json_t *value, const char *name, struct refusal *refusal)
{
    if (!value || text_is(value, "none") || text_is(value, "auto"))
        return 0;
    return refuse(refusal, 400, name, "%s is not supported but for \"none\" and \"auto\"", name);
}

static int check_support(const struct values *values, struct refusal *refusal)
{
    const json_t *format = json_object_get(values->response_format, "type");
    if (values->response_format && !text_is(format, "text"))
        return refuse(refusal, 400, "response_format",
                      "response_format of type \"%.40s\" is not supported, only \"text\"",
                      json_is_string(format) ? json_string_value(format) : "");
    for (size_t i = 0; i < json_array_size(values->modalities); i++) {
        if (!text_is(json_array_get(values->modalities, i), "text"))
            return refuse(refusal, 400, "modalities",
                          "modalities other than \"text\" are not supported");
    }
    return check_choice(values->tool_choice, "tool_choice", refusal) ||
                   check_choice(values->function_call, "function_call", refusal)
               ? -1
               : 0;
}

static int read_logprobs(struct generation_request *request, struct openai_answer_options *options,
                         const struct values *values, struct refusal *refusal)
{
    if (values->top_logprobs > 0 && !values->logprobs_wanted)
        return refuse(refusal, 400, "top_logprobs", "top_logprobs needs logprobs to be true");
    options->logprobs = values->logprobs_wanted;
    request->ask.top_tokens = (uint32_t)values->top_logprobs;
    return 0;
}

static int read_session(struct generation_request *request, const struct values *values,
                        struct refusal *refusal)
{
    char key[WORK_KEY_SIZE];
    if (!values->session.data)
        return 0;
    if (!work_copy_key(values->session, key))
        return refuse(refusal, 400, "session", "session must be a text of 1 to 256 bytes");
    if (request->choices > 1)
        return refuse(refusal, 400, "n", "n must be 1 with a session");
    request->ask.session = values->session;
    request->ask.how = WORK_MESSAGES_APPEND;
    request->ask.settings_given = false;
    return 0;
}

/* `text` keeps what is written until the request was started. */
static int read_variables(struct generation_request *request, const struct values *values,
                          struct buffer *text, struct refusal *refusal)
{
    static const char *const levels[] = {NULL, "low", "low", "medium", "high", "high"};
    json_t *variables = json_object();
    if (values->reasoning_effort_given) {
        json_t *effort = catalogue_reasoning_variables(values->reasoning_effort != 0,
                                                       levels[values->reasoning_effort]);
        json_object_update(variables, effort);
        json_decref(effort);
    }
    if (values->template_variables)
        json_object_update(variables, (json_t *)(uintptr_t)values->template_variables);
    if (json_object_size(variables) > 0)
        generation_write_json(text, variables);
    json_decref(variables);
    if (text->failed)
        return refuse(refusal, 507, "", "no memory for the request");
    request->ask.variables = buffer_text(text);
    return 0;
}

/* What a body is read into. */
struct reading {
    json_t *object;
    struct generation_request request;
    struct openai_answer_options options;
    struct buffer variables;
    struct buffer prompts[PROMPTS_MAX];
    struct text prompt_texts[PROMPTS_MAX];
    struct values values;
};

static int read_chat(struct reading *reading, struct refusal *refusal)
{
    struct generation_request *request = &reading->request;
    struct values *values = &reading->values;
    reading->options.chat = true;
    if (fields_read(reading->object, openai_chat_fields, OPENAI_CHAT_FIELDS, values, refusal))
        return -1;
    request->keep_reasoning = values->reasoning_format == 1;
    return read_common(request, &reading->options, reading->object, values, refusal) ||
                   check_support(values, refusal) ||
                   read_logprobs(request, &reading->options, values, refusal) ||
                   read_session(request, values, refusal) ||
                   generation_read_messages(request, values->messages, refusal) ||
                   read_variables(request, values, &reading->variables, refusal)
               ? -1
               : 0;
}

/* ---- completions ---- */

static int read_prompt(struct buffer *out, struct text prompt, struct refusal *refusal)
{
    json_t *messages = json_pack("[{s:s, s:s%}]", "role", "user", "content",
                                 prompt.data ? prompt.data : "", prompt.size);
    generation_write_json(out, messages);
    json_decref(messages);
    return out->failed ? refuse(refusal, 507, "", "no memory for the prompt") : 0;
}

static int read_prompts(struct reading *reading, struct refusal *refusal)
{
    struct generation_request *request = &reading->request;
    struct text texts[PROMPTS_MAX];
    uint32_t count = 0;
    const json_t *prompt = reading->values.prompt;
    if (json_is_array(prompt) &&
        (json_is_number(json_array_get(prompt, 0)) || json_is_array(json_array_get(prompt, 0))))
        return refuse(refusal, 400, "prompt", "a prompt of token ids is not supported");
    if (!fields_texts(prompt, texts, PROMPTS_MAX, &count) || count == 0)
        return refuse(refusal, 400, "prompt", "prompt must be a text or an array of 1 to %d texts",
                      PROMPTS_MAX);
    if (count * request->choices > CHOICES_MAX)
        return refuse(refusal, 400, "n", "%u prompts with %u answers each are more than %d",
                      (unsigned)count, (unsigned)request->choices, CHOICES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (read_prompt(&reading->prompts[i], texts[i], refusal))
            return -1;
        reading->prompt_texts[i] = buffer_text(&reading->prompts[i]);
    }
    request->prompts = reading->prompt_texts;
    request->prompt_count = count;
    return 0;
}

static int read_completion(struct reading *reading, struct refusal *refusal)
{
    struct generation_request *request = &reading->request;
    struct values *values = &reading->values;
    values->best_of = 0;
    if (fields_read(reading->object, openai_completion_fields, OPENAI_COMPLETION_FIELDS, values,
                    refusal) ||
        read_common(request, &reading->options, reading->object, values, refusal))
        return -1;
    if (values->best_of > 0 && values->best_of != values->n)
        return refuse(refusal, 400, "best_of", "best_of is not supported but for what n is");
    reading->options.logprobs = values->logprobs_given;
    request->ask.top_tokens = (uint32_t)values->logprobs;
    request->ask.settings.plain = true;
    request->keep_reasoning = true;
    return read_prompts(reading, refusal);
}

/* ---- the handlers ---- */

static void handle(struct daemon *daemon, struct http_exchange *exchange,
                   int (*read)(struct reading *reading, struct refusal *refusal))
{
    struct reading *reading = MEM_NEW(struct reading);
    struct refusal refusal = {0};
    struct model *model = NULL;
    if (!reading) {
        http_respond_error(exchange, 507, "no memory for the request");
        return;
    }
    buffer_init(&reading->variables, WORK_PAYLOAD_MAX);
    for (size_t i = 0; i < PROMPTS_MAX; i++)
        buffer_init(&reading->prompts[i], WORK_PAYLOAD_MAX);
    reading->values.n = 1;
    reading->object = fields_parse(http_exchange_request(exchange)->body, &refusal);
    if (reading->object)
        model = generation_find_model(daemon, reading->object, "model", &refusal);
    if (model) {
        generation_request_init(&reading->request, model);
        if (read(reading, &refusal))
            dialect_refuse(exchange, &refusal);
        else
            openai_answer_start(daemon, exchange, &reading->request, &reading->options);
        generation_request_finish(&reading->request);
    } else {
        dialect_refuse(exchange, &refusal);
    }
    for (size_t i = 0; i < PROMPTS_MAX; i++)
        buffer_finish(&reading->prompts[i]);
    buffer_finish(&reading->variables);
    json_decref(reading->object);
    mem_free(reading);
}

void openai_chat(void *context, struct http_exchange *exchange)
{
    handle(context, exchange, read_chat);
}

void openai_completions(void *context, struct http_exchange *exchange)
{
    handle(context, exchange, read_completion);
}
