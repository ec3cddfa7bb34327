/* Ollama's API: what its parts share, and its paths. Shapes are those of the clients (npm and PyPI
 * `ollama`) where they differ from the documents. */

#include "server/ollama.h"

#include <stdio.h>
#include <time.h>

#include "base/memory.h"
#include "server/openapi.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* Clients ask for the version before they use what it brought: this one has all that is answered
 * here (logprobs came last). */
#define OLLAMA_VERSION "0.12.11"

/* ---- what is shared ---- */

void ollama_time(int64_t unix_seconds, uint32_t ns, char out[OLLAMA_TIME_SIZE])
{
    time_t moment = (time_t)unix_seconds;
    char date[32] = "1970-01-01T00:00:00";
    struct tm *utc = gmtime(&moment); /* the daemon has one thread */
    if (utc)
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", utc);
    snprintf(out, OLLAMA_TIME_SIZE, "%s.%09uZ", date, (unsigned)ns);
}

void ollama_time_now(char out[OLLAMA_TIME_SIZE])
{
    struct timespec now = {0};
    timespec_get(&now, TIME_UTC);
    ollama_time((int64_t)now.tv_sec, (uint32_t)now.tv_nsec, out);
}

int ollama_read_keep_alive(const json_t *object, bool *given, uint64_t *ttl_ns,
                           struct refusal *refusal)
{
    const json_t *value = json_object_get(object, "keep_alive");
    if (!value || json_is_null(value))
        return 0;
    if (!fields_duration(value, ttl_ns))
        return refuse(refusal, 400, "keep_alive",
                      "keep_alive must be a number of seconds or a text like \"10m\"");
    *given = true;
    return 0;
}

json_t *ollama_parse(struct daemon *daemon, struct http_exchange *exchange, struct model **model)
{
    struct refusal refusal = {0};
    json_t *object = fields_parse(http_exchange_request(exchange)->body, &refusal);
    if (object && !json_object_get(object, "model"))
        json_object_set(object, "model", json_object_get(object, "name"));
    if (object && !json_object_get(object, "model"))
        refuse(&refusal, 400, "model", "model is required");
    else if (object)
        *model = generation_find_model(daemon, object, "model", &refusal);
    if (!refusal.status)
        return object;
    dialect_refuse(exchange, &refusal);
    json_decref(object);
    return NULL;
}

/* ---- loading and unloading, which an empty request asks for ---- */

struct loading {
    struct http_exchange *exchange;
    struct model_wait *wait;
    const char *reason; /* "load", or "unload" for one that still answers */
    json_t *body;
};

static void free_loading(struct loading *loading)
{
    json_decref(loading->body);
    mem_free(loading);
}

static void respond_loaded(struct loading *loading)
{
    json_object_set_new(loading->body, "done_reason", json_string(loading->reason));
    dialect_respond_json(loading->exchange, 200, json_incref(loading->body));
    free_loading(loading);
}

static void refuse_loading(struct loading *loading, const struct hearth_error *error)
{
    struct refusal refusal;
    refusal_of(&refusal, error);
    dialect_refuse(loading->exchange, &refusal);
    free_loading(loading);
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *error)
{
    struct loading *loading = context;
    (void)loaded;
    if (error) {
        refuse_loading(loading, error);
        return;
    }
    model_release(lease);
    respond_loaded(loading);
}

static void on_load_gone(void *context)
{
    struct loading *loading = context;
    models_forget(loading->wait);
    free_loading(loading);
}

/* Whether that is all: one that answers stays until it has, its time to live being over then. */
static bool unload(struct loading *loading, struct model *model)
{
    struct hearth_error error;
    int status = model_unload(model, false, &error);
    loading->reason = "unload";
    if (status == HEARTH_E_STATE)
        return false;
    if (status != 0 && status != HEARTH_E_MISSING)
        refuse_loading(loading, &error);
    else
        respond_loaded(loading);
    return true;
}

void ollama_load(struct http_exchange *exchange, const struct ollama_load *load)
{
    struct hearth_error error;
    struct loading *loading = MEM_NEW(struct loading);
    struct model_acquire acquire = {.ttl_given = load->ttl_given,
                                    .ttl_ns = load->ttl_ns,
                                    .on_ready = on_ready,
                                    .context = loading};
    if (!loading || !load->body) {
        json_decref(load->body);
        mem_free(loading);
        http_respond_error(exchange, 500, "no memory for the request");
        return;
    }
    *loading = (struct loading){.exchange = exchange, .reason = "load", .body = load->body};
    if (load->ttl_given && load->ttl_ns == 0 && unload(loading, load->model))
        return;
    http_exchange_watch(exchange, (struct http_watch){on_load_gone, NULL, loading});
    if (model_acquire(load->model, &acquire, &loading->wait, &error) != 0)
        refuse_loading(loading, &error);
}

/* ---- routes ---- */

static void handle_root(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_respond(exchange, 200, "text/plain; charset=utf-8", TEXT("Ollama is running"));
}

static void handle_version(void *context, struct http_exchange *exchange)
{
    (void)context;
    dialect_respond_json(exchange, 200, json_pack("{s:s}", "version", OLLAMA_VERSION));
}

struct http_routes ollama_routes(void)
{
    static const struct http_route routes[] = {
        {HTTP_METHOD_GET, "/", handle_root, true, false, 0},
        {HTTP_METHOD_GET, "/api/version", handle_version, false, false, 0},
        {HTTP_METHOD_GET, "/api/tags", ollama_tags, false, false, 0},
        {HTTP_METHOD_GET, "/api/ps", ollama_ps, false, false, 0},
        {HTTP_METHOD_POST, "/api/show", ollama_show, false, true, 0},
        {HTTP_METHOD_POST, "/api/chat", ollama_chat, false, true, 0},
        {HTTP_METHOD_POST, "/api/generate", ollama_generate, false, true, 0},
        {HTTP_METHOD_POST, "/api/embed", ollama_embed, false, true, 0},
        {HTTP_METHOD_POST, "/api/embeddings", ollama_embeddings, false, true, 0},
        {HTTP_METHOD_POST, "/api/pull", ollama_pull, false, true, 0},
        {HTTP_METHOD_POST, "/api/push", ollama_without_changes, false, false, 0},
        {HTTP_METHOD_POST, "/api/create", ollama_without_changes, false, false, 0},
        {HTTP_METHOD_POST, "/api/copy", ollama_without_changes, false, false, 0},
        {HTTP_METHOD_DELETE, "/api/delete", ollama_without_changes, false, false, 0},
    };
    return (struct http_routes){routes, COUNT(routes)};
}

/* ---- what the OpenAPI document says of them ---- */

#define TIMES                                                                                      \
    "done_reason?:string, total_duration?:integer, load_duration?:integer, "                       \
    "prompt_eval_count?:integer, prompt_eval_duration?:integer, eval_count?:integer, "             \
    "eval_duration?:integer, logprobs?:array, timings?:object, truncated_messages?:integer"

struct api_operations ollama_operations(void)
{
    static const struct field name_fields[] = {
        {"model", FIELD_TEXT, 0, 0, 0, 0, true, NULL, "The name of a model."},
        {"verbose", FIELD_IGNORED, 0, 0, 0, 0, false, NULL, "Changes nothing."},
    };
    static const unsigned answers = API_MODEL | API_LINES;
    static const struct api_operation operations[] = {
        {.method = HTTP_METHOD_GET,
         .path = "/",
         .summary = "Whether somebody is there.",
         .type = "text/plain"},
        {.method = HTTP_METHOD_GET,
         .path = "/api/version",
         .summary = "The version of Ollama whose API this is.",
         .answer = "version:string"},
        {.method = HTTP_METHOD_GET,
         .path = "/api/tags",
         .summary = "The models.",
         .answer = "models:array"},
        {.method = HTTP_METHOD_GET,
         .path = "/api/ps",
         .summary = "Those that are loaded.",
         .answer = "models:array"},
        {HTTP_METHOD_POST, "/api/show", "What a model is.", name_fields, COUNT(name_fields),
         API_MODEL,
         "modelfile:string, parameters:string, template:string, modified_at:string, "
         "details:object, model_info:object, capabilities:array, system?:string",
         NULL, NULL},
        {HTTP_METHOD_POST, "/api/chat", "An answer to a chat, as lines unless stream is false.",
         ollama_chat_fields, COUNT(ollama_chat_fields), answers,
         "model:string, created_at:string, message:object, done:boolean, " TIMES, NULL, NULL},
        {HTTP_METHOD_POST, "/api/generate",
         "How a prompt goes on, as lines unless stream is false.", ollama_generate_fields,
         COUNT(ollama_generate_fields), answers,
         "model:string, created_at:string, response:string, thinking?:string, done:boolean, " TIMES,
         NULL, NULL},
        {HTTP_METHOD_POST, "/api/embed", "Vectors of texts.", ollama_embed_fields,
         COUNT(ollama_embed_fields), API_MODEL,
         "model:string, embeddings:array, total_duration?:integer, load_duration?:integer, "
         "prompt_eval_count?:integer, done_reason?:string",
         NULL, NULL},
        {HTTP_METHOD_POST, "/api/embeddings", "The vector of a text.", ollama_embeddings_fields,
         COUNT(ollama_embeddings_fields), API_MODEL, "embedding:array, done_reason?:string", NULL,
         NULL},
        {HTTP_METHOD_POST, "/api/pull", "Whether a model is there: none is downloaded.",
         name_fields, 1, API_MODEL, "status:string", NULL, NULL},
        {.method = HTTP_METHOD_POST,
         .path = "/api/push",
         .summary = "Not here: 404.",
         .flags = API_MISSING},
        {.method = HTTP_METHOD_POST,
         .path = "/api/create",
         .summary = "Not here: 404.",
         .flags = API_MISSING},
        {.method = HTTP_METHOD_POST,
         .path = "/api/copy",
         .summary = "Not here: 404.",
         .flags = API_MISSING},
        {.method = HTTP_METHOD_DELETE,
         .path = "/api/delete",
         .summary = "Not here: 404.",
         .flags = API_MISSING},
    };
    return (struct api_operations){operations, COUNT(operations)};
}
