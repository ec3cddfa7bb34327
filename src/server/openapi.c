#include "server/openapi.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "server/generation.h"

static const struct http_route *route_of(const struct http_routes *routes,
                                         const struct api_operation *operation)
{
    for (size_t i = 0; i < routes->count; i++) {
        if (routes->routes[i].method == operation->method &&
            strcmp(routes->routes[i].path, operation->path) == 0)
            return &routes->routes[i];
    }
    return NULL;
}

/* ---- members in short ---- */

static struct text trimmed(const char *begin, const char *end)
{
    while (begin < end && *begin == ' ')
        begin++;
    while (end > begin && end[-1] == ' ')
        end--;
    return (struct text){begin, (size_t)(end - begin)};
}

/* The next "name?:type" of a list. */
static bool next_member(const char **list, struct text *name, struct text *type, bool *optional)
{
    if (!*list || !**list)
        return false;
    const char *end = strchr(*list, ','), *colon = strchr(*list, ':');
    if (!end)
        end = *list + strlen(*list);
    if (!colon || colon > end)
        colon = end;
    *name = trimmed(*list, colon);
    *type = colon < end ? trimmed(colon + 1, end) : TEXT("any");
    *optional = name->size > 0 && name->data[name->size - 1] == '?';
    name->size -= *optional;
    *list = *end ? end + 1 : end;
    return true;
}

static json_t *type_schema(struct text type, bool optional)
{
    if (text_equal(type, TEXT("any")))
        return json_object();
    json_t *name = json_stringn(type.data, type.size);
    return optional ? json_pack("{s:[o,s]}", "type", name, "null")
                    : json_pack("{s:o}", "type", name);
}

static json_t *members_schema(const char *list)
{
    bool array = list && strncmp(list, "[]", 2) == 0, optional;
    json_t *properties = json_object(), *required = json_array();
    struct text name, type;
    if (array)
        list += 2;
    while (next_member(&list, &name, &type, &optional)) {
        json_object_setn_new(properties, name.data, name.size, type_schema(type, optional));
        if (!optional)
            json_array_append_new(required, json_stringn(name.data, name.size));
    }
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return array ? json_pack("{s:s, s:o}", "type", "array", "items", schema) : schema;
}

/* ---- requests ---- */

/* Tables say that messages are an array or an object; what of, all dialects have in common. */
static void describe_messages(json_t *properties)
{
    json_t *messages = json_object_get(properties, "messages");
    json_t *message = json_object_get(properties, "message");
    if (messages)
        json_object_set_new(messages, "items",
                            json_pack("{s:s}", "$ref", "#/components/schemas/Message"));
    if (message)
        json_object_set_new(
            message, "properties",
            json_pack("{s:{s:s}, s:{}}", "role", "$ref", "#/components/schemas/Role", "content"));
}

static json_t *body_schema(const struct api_operation *operation)
{
    json_t *schema = fields_schema(operation->fields, operation->field_count);
    describe_messages(json_object_get(schema, "properties"));
    if (!(operation->flags & API_GENERATES))
        return schema;
    /* names that the dialect reads in its own way stay as it says them */
    json_t *common = fields_schema(generation_fields, generation_field_count);
    json_object_update_missing(json_object_get(schema, "properties"),
                               json_object_get(common, "properties"));
    json_decref(common);
    return schema;
}

static bool takes_body(const struct api_operation *operation)
{
    return operation->fields || (operation->flags & API_GENERATES);
}

static bool body_required(const struct api_operation *operation, const struct http_route *route)
{
    bool required = route && route->body_required;
    for (size_t i = 0; i < operation->field_count; i++)
        required = required || operation->fields[i].required;
    return required;
}

static json_t *parameters_of(const struct api_operation *operation)
{
    json_t *parameters = json_array();
    const char *brace = strchr(operation->path, '{'), *query = operation->query;
    struct text name, type;
    bool optional;
    if (brace) {
        name = (struct text){brace + 1, strcspn(brace + 1, "}")};
        json_array_append_new(parameters,
                              json_pack("{s:s%, s:s, s:b, s:{s:s, s:i, s:i}}", "name", name.data,
                                        name.size, "in", "path", "required", 1, "schema", "type",
                                        "string", "minLength", 1, "maxLength", 256));
    }
    while (next_member(&query, &name, &type, &optional))
        json_array_append_new(parameters, json_pack("{s:s%, s:s, s:b, s:o}", "name", name.data,
                                                    name.size, "in", "query", "required", 0,
                                                    "schema", type_schema(type, false)));
    return parameters;
}

/* ---- answers ---- */

static void add_content(json_t *content, const char *type, json_t *schema)
{
    json_object_set_new(content, type, json_pack("{s:o}", "schema", schema));
}

/* Of a stream nothing is said but that it is one: a schema would be of each of its items. */
static void add_stream(json_t *content, const char *type)
{
    json_object_set_new(content, type, json_object());
}

static json_t *success_of(const struct api_operation *operation)
{
    json_t *content = json_object();
    const char *type = operation->type ? operation->type : "application/json";
    if (strcmp(type, "application/json") == 0)
        add_content(content, type, members_schema(operation->answer));
    else if (strcmp(type, "text/event-stream") == 0)
        add_stream(content, type);
    else if (*type)
        add_content(content, type, json_pack("{s:s}", "type", "string"));
    if (operation->flags & API_EVENTS)
        add_stream(content, "text/event-stream");
    if (operation->flags & API_LINES)
        add_stream(content, "application/x-ndjson");
    return json_pack("{s:s, s:o}", "description", "As it was asked.", "content", content);
}

/* What every path may answer, because the HTTP layer does; then what some operations do. */
static const struct {
    int status;
    unsigned flags; /* one of them; 0: all */
    const char *description;
} refusals[] = {
    {400, 0, "The request is malformed, or a field is not what it must be."},
    {401, 0, "A key is needed, and this is none."},
    {403, 0, "The Host or the Origin is a foreign one."},
    {404, API_MISSING | API_MODEL | API_GENERATES, "What was named is not there."},
    {408, 0, "The request did not arrive in time."},
    {409, API_CONFLICT | API_MODEL | API_GENERATES, "Not in this state; the sentence says why."},
    {411, 0, "A body is needed, and there is none."},
    {413, 0, "The body is larger than is accepted."},
    {414, 0, "The path is longer than is accepted."},
    {415, 0, "The body is of a type or a coding that is not taken."},
    {417, 0, "An expectation that is not known."},
    {431, 0, "The headers are larger than is accepted."},
    {499, API_MODEL | API_GENERATES, "What was asked for was cancelled."},
    {500, API_MODEL | API_GENERATES, "The model's process failed."},
    {502, API_MODEL | API_GENERATES, "The other server that serves this model failed."},
    {503, 0, "Not at the moment: the daemon is being shut down, or too much waits."},
    {504, API_MODEL | API_GENERATES, "The other server that serves this model is too slow."},
    {505, 0, "Another version of HTTP."},
    {507, API_MODEL | API_GENERATES, "There is not enough memory."},
};

/* The dialect whose paths these are says errors in its own shape. */
static const char *error_schema(const char *path)
{
    json_t *error = dialect_error(text_of(path), 400, NULL, "");
    bool plain = json_is_string(json_object_get(error, "error"));
    json_decref(error);
    return plain ? "#/components/schemas/ErrorText" : "#/components/schemas/Error";
}

static json_t *responses_of(const struct api_operation *operation)
{
    json_t *responses = json_object();
    bool empty = operation->type && !*operation->type;
    const char *success = operation->flags & API_ACCEPTED ? "202" : "200";
    json_object_set_new(responses, empty ? "204" : success,
                        empty ? json_pack("{s:s}", "description", "It is done.")
                              : success_of(operation));
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        char status[8];
        if (refusals[i].flags && !(refusals[i].flags & operation->flags))
            continue;
        snprintf(status, sizeof status, "%d", refusals[i].status);
        json_object_set_new(responses, status,
                            json_pack("{s:s, s:{s:{s:{s:s}}}}", "description",
                                      refusals[i].description, "content", "application/json",
                                      "schema", "$ref", error_schema(operation->path)));
    }
    return responses;
}

/* ---- operations ---- */

static const char *method_name(enum http_method method)
{
    static const char *const names[HTTP_METHOD_COUNT] = {[HTTP_METHOD_GET] = "get",
                                                         [HTTP_METHOD_POST] = "post",
                                                         [HTTP_METHOD_PUT] = "put",
                                                         [HTTP_METHOD_PATCH] = "patch",
                                                         [HTTP_METHOD_DELETE] = "delete"};
    return names[method];
}

/* post_v1_chat_completions */
static void operation_id(const struct api_operation *operation, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "%s", method_name(operation->method));
    for (const char *c = operation->path; *c && at + 2 < size; c++) {
        if (isalnum((unsigned char)*c))
            out[at++] = *c;
        else if (out[at - 1] != '_')
            out[at++] = '_';
    }
    while (at > 0 && out[at - 1] == '_')
        at--;
    out[at] = '\0';
}

static json_t *operation_object(const struct api_dialect *dialect,
                                const struct api_operation *operation)
{
    const struct http_route *route = route_of(&dialect->routes, operation);
    char id[128];
    operation_id(operation, id, sizeof id);
    json_t *object =
        json_pack("{s:s, s:s, s:[s], s:o}", "operationId", id, "summary", operation->summary,
                  "tags", dialect->tag, "responses", responses_of(operation));
    json_t *parameters = parameters_of(operation);
    if (json_array_size(parameters) > 0)
        json_object_set(object, "parameters", parameters);
    json_decref(parameters);
    if (takes_body(operation))
        json_object_set_new(object, "requestBody",
                            json_pack("{s:b, s:{s:{s:o}}}", "required",
                                      body_required(operation, route), "content",
                                      "application/json", "schema", body_schema(operation)));
    if (route && route->without_key)
        json_object_set_new(object, "security", json_array());
    return object;
}

static json_t *components(void)
{
    return json_pack(
        "{s:{s:{s:s, s:s}}, s:{s:{s:s, s:[s], s:{s:{s:s, s:[s], s:{s:{s:s}, s:{s:s}, s:{s:s}}}}},"
        " s:{s:s, s:[s], s:{s:{s:s}}}, s:{s:s, s:[s], s:{s:{s:s}, s:{s:[s,s,s]}}},"
        " s:{s:s, s:[s,s,s,s]}}}",
        "securitySchemes", "key", "type", "http", "scheme", "bearer", "schemas", "Error", "type",
        "object", "required", "error", "properties", "error", "type", "object", "required",
        "message", "properties", "message", "type", "string", "type", "type", "string", "reason",
        "type", "string", "ErrorText", "type", "object", "required", "error", "properties", "error",
        "type", "string", "Message", "type", "object", "required", "role", "properties", "role",
        "$ref", "#/components/schemas/Role", "content", "type", "string", "array", "null", "Role",
        "type", "string", "enum", "system", "developer", "user", "assistant");
}

json_t *openapi_document(const struct api_dialect *dialects, size_t count)
{
    json_t *tags = json_array(), *paths = json_object();
    for (size_t d = 0; d < count; d++) {
        const struct api_operations *operations = &dialects[d].operations;
        json_array_append_new(tags, json_pack("{s:s, s:s}", "name", dialects[d].tag, "description",
                                              dialects[d].about));
        for (size_t i = 0; i < operations->count; i++) {
            const struct api_operation *operation = &operations->operations[i];
            json_t *item = json_object_get(paths, operation->path);
            if (!item) {
                item = json_object();
                json_object_set_new(paths, operation->path, item);
            }
            json_object_set_new(item, method_name(operation->method),
                                operation_object(&dialects[d], operation));
        }
    }
    return json_pack("{s:s, s:{s:s, s:s, s:s}, s:[{s:s}], s:[{s:[]}, {}], s:o, s:o, s:o}",
                     "openapi", "3.1.0", "info", "title", "hearth", "version", HEARTH_VERSION,
                     "description",
                     "A local runtime for language models. Fields that are not named here are "
                     "accepted and ignored.",
                     "servers", "url", "/", "security", "key", "tags", tags, "paths", paths,
                     "components", components());
}

size_t openapi_dialects(struct api_dialect out[API_DIALECTS_MAX])
{
    const struct api_dialect dialects[] = {
        {"hearth", "hearth's own API.", hearth_routes(), hearth_operations()},
        {"operation", "The daemon's log and its end.", operation_routes(), operation_operations()},
        {"openai", "OpenAI's API.", openai_routes(), openai_operations()},
        {"llama-server", "The API of llama.cpp's server.", llama_routes(), llama_operations()},
        {"ollama", "Ollama's API.", ollama_routes(), ollama_operations()},
        {"lmstudio", "LM Studio's API.", lmstudio_routes(), lmstudio_operations()},
    };
    memcpy(out, dialects, sizeof dialects);
    return sizeof dialects / sizeof *dialects;
}
