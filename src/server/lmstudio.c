/* LM Studio's API: its paths and names. */

#include "server/lmstudio.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "server/openai.h"
#include "server/openapi.h"

#define COUNT(table) (sizeof(table) / sizeof *(table))

json_t *lmstudio_parse(struct daemon *daemon, struct http_exchange *exchange, const char *field,
                       struct model **model)
{
    struct refusal refusal = {0};
    json_t *object = fields_parse(http_exchange_request(exchange)->body, &refusal);
    if (object && json_string_length(json_object_get(object, field)) == 0)
        refuse(&refusal, 400, field, "\"%s\" is required, the name of a model", field);
    else if (object)
        *model = generation_find_model(daemon, object, field, &refusal);
    if (!refusal.status)
        return object;
    dialect_refuse(exchange, &refusal);
    json_decref(object);
    return NULL;
}

/* ---- names of responses ---- */

#define KEY_PREFIX "lmstudio-"
#define KEY_DIGITS 32
#define COUNT_DIGITS 16
#define ID_PREFIX "resp_"

bool lmstudio_key_new(char key[LMSTUDIO_KEY_SIZE])
{
    uint64_t random[2];
    if (!os_random_bytes(random, sizeof random))
        return false;
    snprintf(key, LMSTUDIO_KEY_SIZE, KEY_PREFIX "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    return true;
}

void lmstudio_id_of(const char *key, uint64_t messages, char id[LMSTUDIO_ID_SIZE])
{
    snprintf(id, LMSTUDIO_ID_SIZE, ID_PREFIX "%s%016" PRIx64, key + strlen(KEY_PREFIX), messages);
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool lmstudio_id_read(struct text id, char key[LMSTUDIO_KEY_SIZE], uint64_t *messages)
{
    size_t start = strlen(ID_PREFIX);
    uint64_t count = 0;
    if (id.size != start + KEY_DIGITS + COUNT_DIGITS || !text_starts_with(id, TEXT(ID_PREFIX)))
        return false;
    for (size_t i = start; i < id.size; i++) {
        if (digit_of(id.data[i]) < 0)
            return false;
        count = count << 4 | (uint64_t)digit_of(id.data[i]); /* the last 16 remain */
    }
    snprintf(key, LMSTUDIO_KEY_SIZE, KEY_PREFIX "%.*s", KEY_DIGITS, id.data + start);
    *messages = count;
    return true;
}

/* ---- paths ---- */

static void handle_download(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_respond_error(exchange, 404,
                       "models are not downloaded: put the GGUF file into a folder of models");
}

static void handle_download_status(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_respond_error(exchange, 404, "there is no such download: models are not downloaded");
}

struct http_routes lmstudio_routes(void)
{
    static const struct http_route routes[] = {
        {HTTP_METHOD_GET, "/api/v1/models", lmstudio_models, false, false, 0},
        {HTTP_METHOD_POST, "/api/v1/models/load", lmstudio_load, false, true, 0},
        {HTTP_METHOD_POST, "/api/v1/models/unload", lmstudio_unload, false, true, 0},
        {HTTP_METHOD_POST, "/api/v1/models/download", handle_download, false, false, 0},
        {HTTP_METHOD_GET, "/api/v1/models/download/status/{name}", handle_download_status, false,
         false, 0},
        {HTTP_METHOD_POST, "/api/v1/chat", lmstudio_chat, false, true, 0},
        {HTTP_METHOD_GET, "/api/v0/models", lmstudio_v0_models, false, false, 0},
        {HTTP_METHOD_GET, "/api/v0/models/{name}", lmstudio_v0_model, false, false, 0},
        {HTTP_METHOD_POST, "/api/v0/chat/completions", openai_chat, false, true, 0},
        {HTTP_METHOD_POST, "/api/v0/completions", openai_completions, false, true, 0},
        {HTTP_METHOD_POST, "/api/v0/embeddings", openai_embeddings, false, true, 0},
    };
    return (struct http_routes){routes, COUNT(routes)};
}

#define COMPLETION_MEMBERS                                                                         \
    "id:string, object:string, created:integer, model:string, choices:array, usage:object, "       \
    "stats:object, model_info:object, runtime:object"

struct api_operations lmstudio_operations(void)
{
    static const struct field unload_fields[] = {
        {"instance_id", FIELD_TEXT, 0, 0, 0, 0, true, NULL, "The name of a model."},
    };
    static const struct api_operation operations[] = {
        {HTTP_METHOD_POST, "/api/v0/chat/completions", "OpenAI's chats, with figures.",
         openai_chat_fields, COUNT(openai_chat_fields), API_GENERATES | API_MODEL | API_EVENTS,
         COMPLETION_MEMBERS, NULL, NULL},
        {HTTP_METHOD_POST, "/api/v0/completions", "OpenAI's completions, with figures.",
         openai_completion_fields, COUNT(openai_completion_fields),
         API_GENERATES | API_MODEL | API_EVENTS, COMPLETION_MEMBERS, NULL, NULL},
        {HTTP_METHOD_POST, "/api/v0/embeddings", "OpenAI's embeddings.", openai_embedding_fields,
         COUNT(openai_embedding_fields), API_MODEL,
         "object:string, data:array, model:string, usage:object", NULL, NULL},
        {.method = HTTP_METHOD_GET,
         .path = "/api/v1/models",
         .summary = "The models, and which of them are loaded.",
         .answer = "models:array"},
        {HTTP_METHOD_POST, "/api/v1/models/load", "Loads a model.", lmstudio_load_fields,
         COUNT(lmstudio_load_fields), API_MODEL,
         "type:string, instance_id:string, load_time_seconds:number, status:string, "
         "load_config?:object",
         NULL, NULL},
        {HTTP_METHOD_POST, "/api/v1/models/unload", "Unloads a model.", unload_fields, 1,
         API_MISSING | API_CONFLICT, "instance_id:string", NULL, NULL},
        {.method = HTTP_METHOD_POST,
         .path = "/api/v1/models/download",
         .summary = "Not here: 404.",
         .flags = API_MISSING},
        {.method = HTTP_METHOD_GET,
         .path = "/api/v1/models/download/status/{name}",
         .summary = "There are no downloads: 404.",
         .flags = API_MISSING},
        {HTTP_METHOD_POST, "/api/v1/chat", "An answer in a chat that is kept.",
         lmstudio_chat_fields, COUNT(lmstudio_chat_fields), API_GENERATES | API_MODEL | API_EVENTS,
         "model_instance_id:string, output:array, stats:object, response_id?:string", NULL, NULL},
        {.method = HTTP_METHOD_GET,
         .path = "/api/v0/models",
         .summary = "The models, as LM Studio's older API has them.",
         .answer = "object:string, data:array"},
        {.method = HTTP_METHOD_GET,
         .path = "/api/v0/models/{name}",
         .summary = "One of them.",
         .flags = API_MISSING,
         .answer = "id:string, object:string, type:string, publisher:string, arch:string, "
                   "compatibility_type:string, quantization:string, state:string, "
                   "max_context_length:integer, loaded_context_length?:integer"},
    };
    return (struct api_operations){operations, COUNT(operations)};
}
