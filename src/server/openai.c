/* OpenAI's API: its paths, and the models. Shapes are those that the clients of npm and PyPI read.
 */
#include "server/openai.h"

#include "server/openapi.h"

static json_t *describe(const struct model *model)
{
    static const char *const states[] = {
        [MODEL_UNLOADED] = "unloaded", [MODEL_LOADING] = "loading", [MODEL_LOADED] = "loaded"};
    struct model_info info;
    model_info(model, &info);
    json_t *object =
        json_pack("{s:o, s:s, s:I, s:s, s:s}", "id", openai_text(text_of(info.name)), "object",
                  "model", "created", (json_int_t)info.modified_unix, "owned_by",
                  info.upstream ? "upstream" : "hearth", "state", states[info.presence]);
    if (object && info.context > 0)
        json_object_set_new(object, "context_length", json_integer((json_int_t)info.context));
    return object;
}

static bool add_model(void *context, struct model *model)
{
    json_array_append_new(context, describe(model));
    return true;
}

static void list_models(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    json_t *list = json_array();
    models_visit(daemon->models, add_model, list);
    dialect_respond_json(exchange, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

static void show_model(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct hearth_error err;
    struct refusal refusal;
    struct model *model = models_find(daemon->models, http_exchange_request(exchange)->name, &err);
    if (model) {
        dialect_respond_json(exchange, 200, describe(model));
        return;
    }
    refusal_of(&refusal, &err);
    snprintf(refusal.param, sizeof refusal.param, "model");
    dialect_refuse(exchange, &refusal);
}

static const struct http_route routes[] = {
    {HTTP_METHOD_POST, "/v1/chat/completions", openai_chat, false, true, 0},
    {HTTP_METHOD_POST, "/chat/completions", openai_chat, false, true, 0},
    {HTTP_METHOD_POST, "/v1/completions", openai_completions, false, true, 0},
    {HTTP_METHOD_POST, "/v1/embeddings", openai_embeddings, false, true, 0},
    {HTTP_METHOD_GET, "/v1/models", list_models, false, false, 0},
    {HTTP_METHOD_GET, "/models", list_models, false, false, 0},
    {HTTP_METHOD_GET, "/v1/models/{name}", show_model, false, false, 0},
};

struct http_routes openai_routes(void)
{
    return (struct http_routes){routes, sizeof routes / sizeof *routes};
}

/* ---- for the document ---- */

#define MODEL_MEMBERS                                                                              \
    "id:string, object:string, created:integer, owned_by:string, state:string, "                   \
    "context_length?:integer"

struct api_operations openai_operations(void)
{
    static const struct api_operation operations[] = {
        {HTTP_METHOD_POST, "/v1/chat/completions", "Answers a conversation.", openai_chat_fields,
         OPENAI_CHAT_FIELDS, API_GENERATES | API_MODEL | API_EVENTS,
         "id:string, object:string, created:integer, model:string, system_fingerprint:string, "
         "choices:array, usage:object, timings:object, session?:string",
         NULL, NULL},
        {HTTP_METHOD_POST, "/chat/completions", "The same as /v1/chat/completions.",
         openai_chat_fields, OPENAI_CHAT_FIELDS, API_GENERATES | API_MODEL | API_EVENTS,
         "id:string, object:string, created:integer, model:string, choices:array, usage:object",
         NULL, NULL},
        {HTTP_METHOD_POST, "/v1/completions", "Goes on with texts.", openai_completion_fields,
         OPENAI_COMPLETION_FIELDS, API_GENERATES | API_MODEL | API_EVENTS,
         "id:string, object:string, created:integer, model:string, choices:array, usage:object",
         NULL, NULL},
        {HTTP_METHOD_POST, "/v1/embeddings", "Vectors of texts.", openai_embedding_fields,
         OPENAI_EMBEDDING_FIELDS, API_MODEL,
         "object:string, data:array, model:string, usage:object", NULL, NULL},
        {HTTP_METHOD_GET, "/v1/models", "The models that can be asked.", NULL, 0, 0,
         "object:string, data:array", NULL, NULL},
        {HTTP_METHOD_GET, "/models", "The same as /v1/models.", NULL, 0, 0,
         "object:string, data:array", NULL, NULL},
        {HTTP_METHOD_GET, "/v1/models/{name}", "One model.", NULL, 0, API_MISSING, MODEL_MEMBERS,
         NULL, NULL},
    };
    return (struct api_operations){operations, sizeof operations / sizeof *operations};
}
