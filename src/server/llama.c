/* llama-server's own paths: its health, properties and slots, tokens, templates and completions of
 * raw prompts, as its documentation and its source have them. There are no slots here: as many are
 * shown as answers are computed at once. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "server/llama.h"
#include "server/openapi.h"

#define ANSWERS_DEFAULT 8

/* ---- health ---- */

struct look {
    size_t models, loading;
};

static bool look_at(void *context, struct model *model)
{
    struct look *look = context;
    struct model_info info;
    model_info(model, &info);
    look->models++;
    look->loading += info.presence == MODEL_LOADING;
    return look->models < 2;
}

static void health(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct look look = {0, 0};
    models_visit(daemon->models, look_at, &look);
    if (look.models == 1 && look.loading == 1)
        dialect_respond_json(exchange, 503,
                             json_pack("{s:s, s:{s:i, s:s, s:s}}", "status", "loading model",
                                       "error", "code", 503, "message", "Loading model", "type",
                                       "unavailable_error"));
    else
        dialect_respond_json(exchange, 200, json_pack("{s:s}", "status", "ok"));
}

/* ---- metrics ---- */

struct sums {
    uint64_t waiting, running, kv, cached, scratch;
};

static bool sum_model(void *context, struct model *model)
{
    struct sums *sums = context;
    struct model_info info;
    model_info(model, &info);
    sums->waiting += info.use.waiting;
    sums->running += info.use.running;
    sums->kv += info.use.kv_bytes;
    sums->cached += info.use.cached_bytes;
    sums->scratch += info.use.scratch_bytes;
    return true;
}

/* Those that nobody keeps: what they say is asked for when they are read. */
static void set_gauges(struct daemon *daemon)
{
    struct sums sums = {0};
    struct models_memory memory;
    struct metrics *metrics = daemon->metrics;
    models_visit(daemon->models, sum_model, &sums);
    models_memory(daemon->models, &memory);
    metrics_set(metrics, METRIC_WAITING, NULL, (double)sums.waiting);
    metrics_set(metrics, METRIC_RUNNING, NULL, (double)sums.running);
    metrics_set(metrics, METRIC_CONNECTIONS, NULL, (double)http_server_connections(daemon->http));
    metrics_set(metrics, METRIC_MEMORY, "limit", (double)memory.limit);
    metrics_set(metrics, METRIC_MEMORY, "weights", (double)memory.weights);
    metrics_set(metrics, METRIC_MEMORY, "private_workers", (double)memory.private_workers);
    metrics_set(metrics, METRIC_MEMORY, "private_daemon", (double)memory.private_daemon);
    metrics_set(metrics, METRIC_MEMORY, "mapped", (double)memory.mapped);
    metrics_set(metrics, METRIC_MEMORY, "kv", (double)sums.kv);
    metrics_set(metrics, METRIC_MEMORY, "kv_cached", (double)sums.cached);
    metrics_set(metrics, METRIC_MEMORY, "scratch", (double)sums.scratch);
}

static void metrics(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct buffer body;
    buffer_init(&body, (size_t)1 << 20);
    set_gauges(daemon);
    metrics_write(daemon->metrics, &body);
    if (body.failed)
        http_respond_error(exchange, 500, "no memory for the answer");
    else
        http_respond_buffer(exchange, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
    buffer_finish(&body);
}

/* ---- properties and slots ---- */

/* The model that the query names, or the one that needs no name; NULL where there is none such.
 * False where a name was given that is not known: that is answered. */
static bool model_of_query(struct daemon *daemon, struct http_exchange *exchange,
                           struct model **model)
{
    struct refusal refusal;
    struct buffer name;
    buffer_init(&name, 1024);
    bool given = dialect_query(http_exchange_request(exchange), "model", &name);
    *model = models_find(daemon->models, buffer_text(&name), &refusal.error);
    bool known = *model || (!given && !name.failed);
    buffer_finish(&name);
    if (!known) {
        refuse(&refusal, 404, "model", "the model that the query names is not known");
        dialect_refuse(exchange, &refusal);
    }
    return known;
}

json_t *llama_sampling(const struct hearth_sampling *s)
{
    return json_pack(
        "{s:I, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:i, s:f, s:f, s:f, s:i,"
        " s:f, s:f, s:i}",
        "seed", (json_int_t)s->seed, "temperature", (double)s->temperature, "top_k", (int)s->top_k,
        "top_p", (double)s->top_p, "min_p", (double)s->min_p, "typical_p", (double)s->typical_p,
        "top_n_sigma", (double)s->top_n_sigma, "xtc_probability", (double)s->xtc_probability,
        "xtc_threshold", (double)s->xtc_threshold, "dry_multiplier", (double)s->dry_multiplier,
        "dry_base", (double)s->dry_base, "dry_allowed_length", (int)s->dry_allowed_length,
        "dry_penalty_last_n", (int)s->dry_penalty_last_n, "repeat_last_n", (int)s->penalty_last_n,
        "repeat_penalty", (double)s->repeat_penalty, "frequency_penalty",
        (double)s->frequency_penalty, "presence_penalty", (double)s->presence_penalty, "mirostat",
        (int)s->mirostat, "mirostat_tau", (double)s->mirostat_tau, "mirostat_eta",
        (double)s->mirostat_eta, "min_keep", (int)s->min_keep);
}

/* What a request that names no sampling has. */
static json_t *default_params(struct model *model)
{
    struct generation_request request;
    generation_request_init(&request, model);
    json_t *params = llama_sampling(&request.ask.sampling);
    int limit = request.ask.max_tokens ? (int)request.ask.max_tokens : -1;
    generation_request_finish(&request);
    json_object_set_new(params, "n_predict", json_integer(limit));
    json_object_set_new(params, "max_tokens", json_integer(limit));
    json_object_set_new(params, "stop", json_array());
    json_object_set_new(params, "stream", json_true());
    json_object_set_new(params, "ignore_eos", json_false());
    json_object_set_new(params, "n_probs", json_integer(0));
    return params;
}

static uint32_t slots_of(const struct model_info *info)
{
    return info->settings && info->settings->answers_max ? info->settings->answers_max
                                                         : ANSWERS_DEFAULT;
}

static uint32_t context_of(const struct model_info *info)
{
    const json_t *train = json_object_get(info->ready, "context_train");
    if (info->context)
        return info->context;
    if (info->settings && info->settings->context)
        return info->settings->context;
    return json_is_integer(train) && json_integer_value(train) > 0 &&
                   json_integer_value(train) < UINT32_MAX
               ? (uint32_t)json_integer_value(train)
               : 0;
}

static json_t *slot_json(const struct model_info *info, uint32_t id)
{
    return json_pack("{s:i, s:i, s:b, s:b, s:s}", "id", (int)id, "n_ctx", (int)context_of(info),
                     "speculative", 1, "is_processing", id < info->use.running, "model",
                     info->name);
}

static void copy_known(json_t *props, const json_t *ready, const char *const *names)
{
    for (; *names; names++) {
        json_t *value = json_object_get(ready, *names);
        json_object_set_new(props, *names, value ? json_deep_copy(value) : json_string(""));
    }
}

static void props(void *context, struct http_exchange *exchange)
{
    static const char *const known[] = {"chat_template", "bos_token", "eos_token", NULL};
    struct daemon *daemon = context;
    struct model *model;
    struct model_info info = {.name = ""};
    if (!model_of_query(daemon, exchange, &model))
        return;
    if (model)
        model_info(model, &info);
    json_t *settings =
        json_pack("{s:i, s:i, s:b, s:b, s:o}", "id", 0, "n_ctx", (int)context_of(&info),
                  "speculative", 1, "is_processing", info.use.running > 0, "params",
                  model ? default_params(model) : json_object());
    json_t *props = json_pack(
        "{s:o, s:i, s:s, s:s, s:{s:b, s:b}, s:{}, s:s, s:b}", "default_generation_settings",
        settings, "total_slots", (int)slots_of(&info), "model_alias", info.name, "model_path",
        info.name, "modalities", "vision", 0, "audio", 0, "chat_template_caps", "build_info",
        "hearth " HEARTH_VERSION, "is_sleeping", info.presence != MODEL_LOADED);
    copy_known(props, info.ready, known);
    dialect_respond_json(exchange, 200, props);
}

static bool add_slots(void *context, struct model *model)
{
    struct model_info info;
    model_info(model, &info);
    for (uint32_t i = 0; info.presence == MODEL_LOADED && !info.upstream && i < slots_of(&info);
         i++)
        json_array_append_new(context, slot_json(&info, i));
    return true;
}

static void slots(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct model *model;
    struct buffer full;
    size_t free_slots = 0, index;
    json_t *slots = json_array(), *slot;
    if (!model_of_query(daemon, exchange, &model)) {
        json_decref(slots);
        return;
    }
    if (model)
        add_slots(slots, model);
    else
        models_visit(daemon->models, add_slots, slots);
    json_array_foreach(slots, index, slot)
    {
        free_slots += json_is_false(json_object_get(slot, "is_processing"));
    }
    buffer_init(&full, 16);
    bool wanted = dialect_query(http_exchange_request(exchange), "fail_on_no_slot", &full);
    if (wanted && free_slots == 0) {
        json_decref(slots);
        http_respond_error(exchange, 503, "no slot available");
    } else {
        dialect_respond_json(exchange, 200, slots);
    }
    buffer_finish(&full);
}

/* ---- tokens and templates: one call of the worker each ---- */

struct llama_call {
    struct http_exchange *exchange;
    json_t *(*shape)(const json_t *reply); /* the answer's body; a new reference */
};

static void on_call_reply(void *context, const json_t *reply, const struct refusal *error)
{
    struct llama_call *call = context;
    if (error)
        dialect_refuse(call->exchange, error);
    else
        dialect_respond_json(call->exchange, 200, call->shape(reply));
    mem_free(call);
}

static void on_call_gone(void *context)
{
    mem_free(context);
}

/* Takes the arguments. */
static void start_call(struct daemon *daemon, struct http_exchange *exchange, struct model *model,
                       const char *name, json_t *arguments, json_t *(*shape)(const json_t *reply))
{
    struct llama_call *call = MEM_NEW(struct llama_call);
    if (!call || !arguments) {
        mem_free(call);
        json_decref(arguments);
        http_respond_error(exchange, 503, "there is no memory for the request");
        return;
    }
    *call = (struct llama_call){exchange, shape};
    const struct generation_call asked = {.model = model,
                                          .name = name,
                                          .arguments = arguments,
                                          .on_reply = on_call_reply,
                                          .on_gone = on_call_gone,
                                          .context = call};
    generation_call_start(daemon, exchange, &asked);
}

struct tokenize_fields {
    struct text model, content;
    bool add_special, parse_special, with_pieces;
};
static const struct field tokenize_fields[] = {
    {.name = "content",
     .type = FIELD_TEXT,
     .at = offsetof(struct tokenize_fields, content),
     .required = true,
     .help = "The text."},
    {.name = "add_special",
     .type = FIELD_BOOL,
     .at = offsetof(struct tokenize_fields, add_special),
     .help = "Puts the token before it that the model expects at the beginning."},
    {.name = "parse_special",
     .type = FIELD_BOOL,
     .at = offsetof(struct tokenize_fields, parse_special),
     .help = "Reads the names of control tokens as these tokens; true."},
    {.name = "with_pieces",
     .type = FIELD_BOOL,
     .at = offsetof(struct tokenize_fields, with_pieces),
     .help = "Answers objects {id, piece}; a piece that is no text is an array of its bytes."},
    {.name = "model", .type = FIELD_TEXT, .at = offsetof(struct tokenize_fields, model)},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The body, read into `out`, and the model it names; NULL where it is answered already. The body is
 * the caller's. */
static json_t *begin(struct daemon *daemon, struct http_exchange *exchange,
                     const struct field *fields, size_t count, void *out, struct model **model)
{
    struct refusal refusal = {0};
    json_t *body = fields_parse(http_exchange_request(exchange)->body, &refusal);
    *model = NULL;
    if (body && fields_read(body, fields, count, out, &refusal) == 0)
        *model = generation_find_model(daemon, body, "model", &refusal);
    if (*model)
        return body;
    dialect_refuse(exchange, &refusal);
    json_decref(body);
    return NULL;
}

static json_t *tokens_of(const json_t *reply)
{
    return json_pack("{s:O?}", "tokens", json_object_get(reply, "tokens"));
}

static void tokenize(void *context, struct http_exchange *exchange)
{
    struct tokenize_fields fields = {.parse_special = true};
    struct model *model;
    json_t *body =
        begin(context, exchange, tokenize_fields, COUNT(tokenize_fields), &fields, &model);
    if (!body)
        return;
    json_t *arguments = json_pack(
        "{s:s%, s:b, s:b, s:b}", "text", fields.content.data, fields.content.size, "add_special",
        fields.add_special, "parse_special", fields.parse_special, "pieces", fields.with_pieces);
    start_call(context, exchange, model, "tokenize", arguments, tokens_of);
    json_decref(body);
}

struct detokenize_fields {
    struct text model;
    const json_t *tokens;
};
static const struct field detokenize_fields[] = {
    {.name = "tokens",
     .type = FIELD_ARRAY,
     .at = offsetof(struct detokenize_fields, tokens),
     .required = true,
     .help = "Ids of tokens."},
    {.name = "model", .type = FIELD_TEXT, .at = offsetof(struct detokenize_fields, model)},
};

static json_t *content_of(const json_t *reply)
{
    return json_pack("{s:O?}", "content", json_object_get(reply, "text"));
}

static bool are_ids(const json_t *tokens)
{
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        const json_t *id = json_array_get(tokens, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > UINT32_MAX)
            return false;
    }
    return true;
}

static void detokenize(void *context, struct http_exchange *exchange)
{
    struct detokenize_fields fields = {.tokens = NULL};
    struct model *model;
    json_t *body =
        begin(context, exchange, detokenize_fields, COUNT(detokenize_fields), &fields, &model);
    if (!body)
        return;
    if (are_ids(fields.tokens)) {
        json_t *tokens = json_object_get(body, "tokens");
        start_call(context, exchange, model, "detokenize",
                   json_pack("{s:O, s:b}", "tokens", tokens, "special", 1), content_of);
    } else {
        struct refusal refusal = {0};
        refuse(&refusal, 400, "tokens", "tokens has an item that is no id of a token");
        dialect_refuse(exchange, &refusal);
    }
    json_decref(body);
}

struct template_fields {
    struct text model;
    const json_t *messages, *variables;
};
static const struct field template_fields[] = {
    {.name = "messages",
     .type = FIELD_ARRAY,
     .at = offsetof(struct template_fields, messages),
     .required = true,
     .help = "As of /v1/chat/completions."},
    {.name = "chat_template_kwargs",
     .type = FIELD_OBJECT,
     .at = offsetof(struct template_fields, variables),
     .help = "More variables for the template."},
    {.name = "tools", .type = FIELD_REFUSED},
    {.name = "model", .type = FIELD_TEXT, .at = offsetof(struct template_fields, model)},
};

static json_t *prompt_of(const json_t *reply)
{
    return json_pack("{s:O?}", "prompt", json_object_get(reply, "prompt"));
}

static void apply_template(void *context, struct http_exchange *exchange)
{
    struct template_fields fields = {.messages = NULL};
    struct generation_request request;
    struct refusal refusal = {0};
    struct model *model;
    json_t *body =
        begin(context, exchange, template_fields, COUNT(template_fields), &fields, &model);
    if (!body)
        return;
    generation_request_init(&request, model);
    if (generation_read_messages(&request, fields.messages, &refusal) == 0) {
        struct text messages = request.ask.messages;
        json_t *arguments =
            json_pack("{s:o}", "messages", json_loadb(messages.data, messages.size, 0, NULL));
        if (arguments && fields.variables)
            json_object_set_new(arguments, "variables", json_deep_copy(fields.variables));
        start_call(context, exchange, model, "render", arguments, prompt_of);
    } else {
        dialect_refuse(exchange, &refusal);
    }
    generation_request_finish(&request);
    json_decref(body);
}

/* ---- the tables ---- */

static const struct http_route routes[] = {
    {HTTP_METHOD_GET, "/health", health, true, false, 0},
    {HTTP_METHOD_GET, "/v1/health", health, true, false, 0},
    {HTTP_METHOD_GET, "/metrics", metrics, false, false, 0},
    {HTTP_METHOD_GET, "/props", props, false, false, 0},
    {HTTP_METHOD_GET, "/slots", slots, false, false, 0},
    {HTTP_METHOD_POST, "/tokenize", tokenize, false, true, 0},
    {HTTP_METHOD_POST, "/detokenize", detokenize, false, true, 0},
    {HTTP_METHOD_POST, "/apply-template", apply_template, false, true, 0},
    {HTTP_METHOD_POST, "/completion", llama_completion, false, true, 0},
    {HTTP_METHOD_POST, "/completions", llama_completion, false, true, 0},
};

struct http_routes llama_routes(void)
{
    return (struct http_routes){routes, COUNT(routes)};
}

#define COMPLETION                                                                                 \
    .summary = "An answer to a raw prompt", .fields = llama_completion_fields,                     \
    .field_count = LLAMA_COMPLETION_FIELDS, .flags = API_GENERATES | API_EVENTS,                   \
    .answer = "content:string, tokens:array, stop:boolean, model:string, tokens_predicted:integer" \
              ", tokens_evaluated:integer, tokens_cached:integer, stop_type:string, "              \
              "stopping_word:string, timings:object, prompt:string, truncated:boolean"

static const struct api_operation operations[] = {
    {HTTP_METHOD_GET, "/health", .summary = "Whether it can be asked", .answer = "status:string"},
    {HTTP_METHOD_GET, "/v1/health", .summary = "Whether it can be asked",
     .answer = "status:string"},
    {HTTP_METHOD_GET, "/metrics", .summary = "Metrics in Prometheus' text format",
     .type = "text/plain"},
    {HTTP_METHOD_GET, "/props", .summary = "Properties of a model", .flags = API_MISSING,
     .answer = "default_generation_settings:object, total_slots:integer, modalities:object",
     .query = "model:string"},
    {HTTP_METHOD_GET, "/slots", .summary = "What is computed at the moment", .flags = API_MISSING,
     .answer = "[] id:integer, n_ctx:integer, is_processing:boolean",
     .query = "model:string, fail_on_no_slot:string"},
    {HTTP_METHOD_POST, "/tokenize", .summary = "Tokens of a text", .fields = tokenize_fields,
     .field_count = COUNT(tokenize_fields), .flags = API_MODEL, .answer = "tokens:array"},
    {HTTP_METHOD_POST, "/detokenize", .summary = "Text of tokens", .fields = detokenize_fields,
     .field_count = COUNT(detokenize_fields), .flags = API_MODEL, .answer = "content:string"},
    {HTTP_METHOD_POST, "/apply-template", .summary = "Messages as the model reads them",
     .fields = template_fields, .field_count = COUNT(template_fields), .flags = API_MODEL,
     .answer = "prompt:string"},
    {HTTP_METHOD_POST, "/completion", COMPLETION},
    {HTTP_METHOD_POST, "/completions", COMPLETION},
};

struct api_operations llama_operations(void)
{
    return (struct api_operations){operations, COUNT(operations)};
}
