/* hearth's own paths: what the daemon is and takes, what happens in it, tokens, the OpenAPI
 * document, and the table of all of them. */
#include "server/hearth_api.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"

/* ---- what handlers begin with ---- */

json_t *hearth_api_body(struct http_exchange *exchange, const struct field *fields, size_t count,
                        void *out)
{
    struct refusal refusal = {0};
    struct text text = http_exchange_request(exchange)->body;
    json_t *body = text.size > 0 ? fields_parse(text, &refusal) : json_object();
    if (body && fields_read(body, fields, count, out, &refusal) == 0)
        return body;
    if (!refusal.status)
        refuse(&refusal, 503, "", "there is no memory for the request");
    json_decref(body);
    dialect_refuse(exchange, &refusal);
    return NULL;
}

void hearth_api_fail(struct http_exchange *exchange, const struct hearth_error *error)
{
    struct refusal refusal;
    refusal_of(&refusal, error);
    dialect_refuse(exchange, &refusal);
}

void hearth_api_no_memory(struct http_exchange *exchange)
{
    http_respond_error(exchange, 503, "there is no memory for the request");
}

/* ---- calls of a worker ---- */

void hearth_api_free(struct hearth_api_call *call)
{
    json_decref(call->body);
    mem_free(call);
}

void hearth_api_go_on(struct hearth_api_call *call, const json_t *reply)
{
    call->busy = true;
    call->again = false;
    call->then(call, reply);
    call->busy = false;
    if (!call->again || call->gone)
        hearth_api_free(call);
}

static void on_call_reply(void *context, const json_t *reply, const struct refusal *error)
{
    struct hearth_api_call *call = context;
    if (!error) {
        hearth_api_go_on(call, reply);
        return;
    }
    dialect_refuse(call->exchange, error);
    hearth_api_free(call);
}

static void on_call_gone(void *context)
{
    struct hearth_api_call *call = context;
    call->gone = true;
    if (!call->busy)
        hearth_api_free(call);
}

void hearth_api_start(struct hearth_api_call *call, const char *name, json_t *arguments)
{
    call->again = true;
    const struct generation_call asked = {.model = call->model,
                                          .name = name,
                                          .arguments = arguments,
                                          .session = text_of(call->key),
                                          .on_reply = on_call_reply,
                                          .on_gone = on_call_gone,
                                          .context = call};
    generation_call_start(call->daemon, call->exchange, &asked);
}

/* ---- the daemon ---- */

struct totals {
    uint64_t models, loaded, loading, running, waiting, sessions;
    json_t *processes;
};

static bool add_model(void *context, struct model *model)
{
    struct totals *totals = context;
    struct model_info info;
    model_info(model, &info);
    totals->models++;
    totals->loaded += info.presence == MODEL_LOADED;
    totals->loading += info.presence == MODEL_LOADING;
    totals->running += info.use.running;
    totals->waiting += info.use.waiting;
    totals->sessions += info.use.sessions;
    if (totals->processes && info.process)
        json_array_append_new(totals->processes,
                              json_pack("{s:s, s:i, s:o}", "model", info.name, "pid", info.process,
                                        "use", hearth_api_use(&info.use)));
    return true;
}

static json_t *memory_json(const struct daemon *daemon)
{
    struct models_memory memory;
    models_memory(daemon->models, &memory);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "limit_bytes", (json_int_t)memory.limit,
                     "weights_bytes", (json_int_t)memory.weights, "private_bytes",
                     (json_int_t)(memory.private_workers + memory.private_daemon),
                     "private_workers_bytes", (json_int_t)memory.private_workers,
                     "private_daemon_bytes", (json_int_t)memory.private_daemon, "mapped_bytes",
                     (json_int_t)memory.mapped);
}

static json_t *listeners_json(const struct daemon *daemon)
{
    const struct daemon_options *options = daemon->options;
    const char *address = options->address;
    json_t *listeners = json_array();
    if (options->socket)
        json_array_append_new(listeners, json_sprintf("unix:%s", options->socket));
    if (address && strchr(address, ':'))
        json_array_append_new(listeners,
                              json_sprintf("http://[%s]:%u", address, (unsigned)daemon->port));
    else if (address)
        json_array_append_new(listeners,
                              json_sprintf("http://%s:%u", address, (unsigned)daemon->port));
    for (size_t i = 0; i < options->listener_count; i++) {
        char name[OS_SOCKET_NAME_BYTES];
        if (os_socket_name(options->listeners[i], name))
            json_array_append_new(listeners, json_string(name));
    }
    if (options->ollama_address)
        json_array_append_new(listeners, json_sprintf("http://%s:11434", options->ollama_address));
    if (options->lmstudio_address)
        json_array_append_new(listeners, json_sprintf("http://%s:1234", options->lmstudio_address));
    return listeners;
}

static void status(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct totals totals = {0};
    models_visit(daemon->models, add_model, &totals);
    uint64_t up = (os_monotonic_ns() - daemon->started_ns) / 1000000000u;
    json_t *json = json_pack(
        "{s:s, s:i, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:o}",
        "version", HEARTH_VERSION, "pid", os_process_id(), "uptime_s", (json_int_t)up,
        "started_unix", (json_int_t)daemon->started_unix, "listeners", listeners_json(daemon),
        "models", (json_int_t)totals.models, "models_loaded", (json_int_t)totals.loaded,
        "models_loading", (json_int_t)totals.loading, "running", (json_int_t)totals.running,
        "waiting", (json_int_t)totals.waiting, "sessions", (json_int_t)totals.sessions, "requests",
        (json_int_t)http_exchange_request(exchange)->number, "connections",
        (json_int_t)http_server_connections(daemon->http), "draining", daemon->draining, "store",
        daemon->store != NULL, "memory", memory_json(daemon));
    dialect_respond_json(exchange, 200, json);
}

static void memory(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct totals totals = {.processes = json_array()};
    struct os_memory own = {0};
    models_visit(daemon->models, add_model, &totals);
    os_process_memory(&own);
    json_t *json = memory_json(daemon);
    json_object_set_new(json, "daemon",
                        json_pack("{s:i, s:I, s:I, s:I}", "pid", os_process_id(), "private_bytes",
                                  (json_int_t)own.private_bytes, "mapped_bytes",
                                  (json_int_t)own.mapped_bytes, "peak_bytes",
                                  (json_int_t)own.peak_bytes));
    json_object_set_new(json, "workers", totals.processes);
    dialect_respond_json(exchange, 200, json);
}

/* ---- GET /hearth/v1/events ---- */

struct follower {
    struct http_exchange *exchange;
    struct events_listener *listener;
    uint64_t lost; /* while the client did not read */
    bool paused;
};

static void end_follower(struct follower *follower)
{
    if (follower->listener)
        events_leave(follower->listener);
    mem_free(follower);
}

/* What a client misses because it does not read is counted, and told when it does. */
static void on_event(void *context, const char *type, struct text json)
{
    struct follower *follower = context;
    if (follower->paused)
        follower->lost++;
    else
        follower->paused = !http_stream_event(follower->exchange, type, json);
    if (strcmp(type, "daemon.stopping") == 0) {
        http_stream_end(follower->exchange);
        end_follower(follower);
    }
}

static void on_events_resume(void *context)
{
    struct follower *follower = context;
    json_int_t lost = (json_int_t)follower->lost;
    follower->paused = false;
    follower->lost = 0;
    if (lost > 0)
        follower->paused =
            !dialect_event(follower->exchange, "events.lost",
                           json_pack("{s:s, s:I, s:I}", "type", "events.lost", "time",
                                     (json_int_t)os_unix_seconds(), "count", lost));
}

static void on_events_gone(void *context)
{
    end_follower(context);
}

static void events(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct follower *follower = MEM_NEW(struct follower);
    if (!follower) {
        hearth_api_no_memory(exchange);
        return;
    }
    follower->exchange = exchange;
    follower->listener = events_listen(daemon->events, on_event, follower);
    if (!follower->listener) {
        end_follower(follower);
        hearth_api_no_memory(exchange);
        return;
    }
    http_exchange_watch(exchange, (struct http_watch){on_events_gone, on_events_resume, follower});
    http_stream_begin_events(exchange);
    dialect_event(
        exchange, "events.begin",
        json_pack("{s:s, s:I}", "type", "events.begin", "time", (json_int_t)os_unix_seconds()));
}

/* ---- POST /hearth/v1/tokens ---- */

struct tokens_fields {
    struct text model, text;
    bool text_given;
    const json_t *messages, *variables;
};
static const struct field tokens_fields[] = {
    {.name = "model", .type = FIELD_TEXT, .at = offsetof(struct tokens_fields, model)},
    {.name = "messages",
     .type = FIELD_ARRAY,
     .at = offsetof(struct tokens_fields, messages),
     .help = "They are counted as the model's template writes them."},
    {.name = "text",
     .type = FIELD_TEXT,
     .at = offsetof(struct tokens_fields, text),
     .given_at = offsetof(struct tokens_fields, text_given),
     .help = "In their place a text, counted as it is."},
    {.name = "variables",
     .type = FIELD_OBJECT,
     .at = offsetof(struct tokens_fields, variables),
     .help = "More variables for the template."},
};

static void tell_tokens(struct hearth_api_call *call, const json_t *reply)
{
    dialect_respond_json(call->exchange, 200,
                         json_pack("{s:O?}", "tokens", json_object_get(reply, "tokens")));
}

static json_t *count_arguments(const struct tokens_fields *fields, struct model *model,
                               struct refusal *refusal)
{
    struct generation_request request;
    json_t *arguments = NULL;
    if (!fields->messages == !fields->text_given) {
        refuse(refusal, 400, "messages", "either messages or text must be given");
        return NULL;
    }
    if (fields->text_given)
        return json_pack("{s:s%}", "text", fields->text.data, fields->text.size);
    generation_request_init(&request, model);
    if (generation_read_messages(&request, fields->messages, refusal) == 0) {
        struct text messages = request.ask.messages;
        arguments =
            json_pack("{s:o}", "messages", json_loadb(messages.data, messages.size, 0, NULL));
        if (arguments && fields->variables)
            json_object_set_new(arguments, "variables", json_deep_copy(fields->variables));
    }
    generation_request_finish(&request);
    return arguments;
}

static void tokens(void *context, struct http_exchange *exchange)
{
    struct tokens_fields fields = {.messages = NULL};
    struct refusal refusal = {0};
    json_t *arguments = NULL;
    json_t *body =
        hearth_api_body(exchange, tokens_fields, HEARTH_API_COUNT(tokens_fields), &fields);
    if (!body)
        return;
    struct model *model = generation_find_model(context, body, "model", &refusal);
    if (model)
        arguments = count_arguments(&fields, model, &refusal);
    struct hearth_api_call *call = arguments ? MEM_NEW(struct hearth_api_call) : NULL;
    json_decref(body);
    if (call) {
        *call = (struct hearth_api_call){
            .daemon = context, .exchange = exchange, .model = model, .then = tell_tokens};
        hearth_api_start(call, "count", arguments);
    } else if (refusal.status) {
        dialect_refuse(exchange, &refusal);
    } else {
        json_decref(arguments);
        hearth_api_no_memory(exchange);
    }
}

/* ---- the document ---- */

static void openapi(void *context, struct http_exchange *exchange)
{
    struct api_dialect dialects[API_DIALECTS_MAX];
    (void)context;
    dialect_respond_json(exchange, 200, openapi_document(dialects, openapi_dialects(dialects)));
}

/* ---- the tables ---- */

#define V1 "/hearth/v1/"
#define MODEL V1 "models/{name}"
#define SESSION V1 "sessions/{name}"

static const struct http_route routes[] = {
    {HTTP_METHOD_GET, "/openapi.json", openapi, false, false, 0},
    {HTTP_METHOD_GET, V1 "openapi.json", openapi, false, false, 0},
    {HTTP_METHOD_GET, V1 "status", status, false, false, 0},
    {HTTP_METHOD_GET, V1 "memory", memory, false, false, 0},
    {HTTP_METHOD_GET, V1 "events", events, false, false, 0},
    {HTTP_METHOD_POST, V1 "tokens", tokens, false, true, 0},
    {HTTP_METHOD_GET, V1 "models", hearth_api_models, false, false, 0},
    {HTTP_METHOD_POST, V1 "models", hearth_api_add, false, true, 0},
    {HTTP_METHOD_GET, MODEL, hearth_api_model, false, false, 0},
    {HTTP_METHOD_POST, MODEL "/estimate", hearth_api_estimate, false, false, 0},
    {HTTP_METHOD_POST, MODEL "/load", hearth_api_load, false, false, 0},
    {HTTP_METHOD_POST, MODEL "/unload", hearth_api_unload, false, false, 0},
    {HTTP_METHOD_GET, V1 "sessions", hearth_api_sessions, false, false, 0},
    {HTTP_METHOD_GET, SESSION, hearth_api_session, false, false, 0},
    {HTTP_METHOD_DELETE, SESSION, hearth_api_remove, false, false, 0},
    {HTTP_METHOD_GET, SESSION "/history", hearth_api_history, false, false, 0},
    {HTTP_METHOD_PUT, SESSION "/messages", hearth_api_set, false, true, 0},
    {HTTP_METHOD_POST, SESSION "/open", hearth_api_open, false, false, 0},
    {HTTP_METHOD_POST, SESSION "/append", hearth_api_append, false, true, 0},
    {HTTP_METHOD_POST, SESSION "/edit", hearth_api_edit, false, true, 0},
    {HTTP_METHOD_POST, SESSION "/truncate", hearth_api_truncate, false, true, 0},
    {HTTP_METHOD_POST, SESSION "/fork", hearth_api_fork, false, true, 0},
    {HTTP_METHOD_POST, SESSION "/reset", hearth_api_reset, false, false, 0},
    {HTTP_METHOD_POST, SESSION "/release", hearth_api_release, false, false, 0},
    {HTTP_METHOD_POST, SESSION "/prompt", hearth_api_prompt, false, false, 0},
    {HTTP_METHOD_POST, SESSION "/cancel", hearth_api_cancel, false, false, 0},
};

struct http_routes hearth_routes(void)
{
    return (struct http_routes){routes, HEARTH_API_COUNT(routes)};
}

#define GET HTTP_METHOD_GET
#define POST HTTP_METHOD_POST
#define SESSION_JSON "key:string, loaded:boolean, messages:integer, tokens:integer"
#define MODEL_JSON "name:string, state:string, upstream:boolean, bytes:integer"
#define MEMORY_JSON "limit_bytes:integer, weights_bytes:integer, private_bytes:integer"
/* Fields `first` to before `last` of a conversation's operation. */
#define FIELDS(first, last)                                                                        \
    .fields = &hearth_api_session_fields[HEARTH_API_FIELD_##first],                                \
    .field_count = HEARTH_API_FIELD_##last - HEARTH_API_FIELD_##first

static const struct api_operation operations[] = {
    {GET, "/openapi.json", .summary = "This document",
     .answer = "openapi:string, info:object, paths:object"},
    {GET, V1 "openapi.json", .summary = "This document",
     .answer = "openapi:string, info:object, paths:object"},
    {GET, V1 "status", .summary = "What the daemon is and does",
     .answer = "version:string, pid:integer, uptime_s:integer, listeners:array, models:integer, "
               "models_loaded:integer, running:integer, waiting:integer, memory:object"},
    {GET, V1 "memory", .summary = "What all processes take",
     .answer = MEMORY_JSON ", daemon:object, workers:array"},
    {GET, V1 "events", .summary = "What happens, as it happens", .type = "text/event-stream"},
    {POST, V1 "tokens", .summary = "How many tokens messages or a text are",
     .fields = tokens_fields, .field_count = HEARTH_API_COUNT(tokens_fields), .flags = API_MODEL,
     .answer = "tokens:integer"},
    {GET, V1 "models", .summary = "All models, loaded or not", .answer = "models:array"},
    {POST, V1 "models", .summary = "Make a model file known by its path; over the socket alone",
     .fields = hearth_api_add_fields, .field_count = HEARTH_API_ADD_FIELDS, .flags = API_MODEL,
     .answer = MODEL_JSON},
    {GET, MODEL, .summary = "A model, and what its file says", .flags = API_MODEL,
     .answer = MODEL_JSON ", about:object"},
    {POST, MODEL "/estimate", .summary = "What loading a model would take",
     .fields = hearth_api_load_fields, .field_count = HEARTH_API_ESTIMATE_FIELDS,
     .flags = API_MODEL, .answer = "fits:boolean, total_bytes:integer"},
    {POST, MODEL "/load", .summary = "Load a model, with progress where it is streamed",
     .fields = hearth_api_load_fields, .field_count = HEARTH_API_LOAD_FIELDS,
     .flags = API_MODEL | API_EVENTS, .answer = MODEL_JSON ", load_time_s:number"},
    {POST, MODEL "/unload", .summary = "Give back what a model takes",
     .fields = hearth_api_unload_fields, .field_count = HEARTH_API_UNLOAD_FIELDS,
     .flags = API_MISSING | API_CONFLICT, .answer = MODEL_JSON},
    {GET, V1 "sessions", .summary = "All conversations with a key, the latest first",
     .answer = "sessions:array", .query = "memory:boolean"},
    {GET, SESSION, .summary = "A conversation", .flags = API_MODEL, .answer = SESSION_JSON},
    {HTTP_METHOD_DELETE, SESSION, .summary = "Forget a conversation", .flags = API_MODEL,
     .answer = "key:string, removed:boolean"},
    {GET, SESSION "/history", .summary = "The messages of a conversation", .flags = API_MODEL,
     .answer = "key:string, messages:array"},
    {HTTP_METHOD_PUT, SESSION "/messages", .summary = "Other messages in the place of all",
     FIELDS(MODEL, MESSAGE), .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/open", .summary = "Bring a conversation into memory, or begin one",
     FIELDS(MODEL, MESSAGES), .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/append", .summary = "One message more, without an answer",
     FIELDS(MODEL, INDEX), .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/edit", .summary = "Another message in the place of one; what followed it goes",
     FIELDS(MODEL, COUNT), .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/truncate", .summary = "Keep the first messages only", FIELDS(MODEL, TO),
     .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/fork", .summary = "Another conversation with the first messages of this one",
     .fields = hearth_api_session_fields, .field_count = HEARTH_API_SESSION_FIELDS,
     .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/reset", .summary = "Forget all messages but the system's", FIELDS(MODEL, KEEP),
     .flags = API_MODEL, .answer = SESSION_JSON},
    {POST, SESSION "/release", .summary = "Let it go from memory; it is kept on the disk",
     .flags = API_MODEL, .answer = "key:string, released:boolean"},
    {POST, SESSION "/prompt", .summary = "Say something, and get an answer",
     .fields = hearth_api_prompt_fields, .field_count = HEARTH_API_PROMPT_FIELDS,
     .flags = API_GENERATES | API_EVENTS,
     .answer = "session:string, model:string, text:string, reasoning:string, stop:string, "
               "usage:object, timings:object"},
    {POST, SESSION "/cancel", .summary = "End what is being answered, with what there is of it",
     .answer = "key:string, cancelled:boolean"},
};

struct api_operations hearth_operations(void)
{
    return (struct api_operations){operations, HEARTH_API_COUNT(operations)};
}
