/* What the dialects share on the way out: JSON, and errors in the words of each. */

#include <stdlib.h>
#include <string.h>

#include "server/daemon.h"

#define JSON_MAX ((size_t)64 << 20)

static int append(const char *bytes, size_t size, void *context)
{
    return buffer_append(context, bytes, size) ? 0 : -1;
}

static bool write_json(const json_t *json, struct buffer *out)
{
    return json && json_dump_callback(json, append, out, JSON_COMPACT) == 0 && !out->failed;
}

void dialect_respond_json(struct http_exchange *exchange, int status, json_t *json)
{
    struct buffer body;
    buffer_init(&body, JSON_MAX);
    if (write_json(json, &body))
        http_respond_buffer(exchange, status, "application/json", &body);
    else
        http_respond_error(exchange, 500, "no memory for the answer");
    buffer_finish(&body);
    json_decref(json);
}

/* ---- errors ---- */

static bool is_path_of(struct text path, const char *const *starts)
{
    for (; *starts; starts++) {
        if (text_starts_with(path, text_of(*starts)))
            return true;
    }
    return false;
}

/* The names that OpenAI's clients know. */
static const char *type_of(int status)
{
    return status == 401 || status == 403 ? "authentication_error"
           : status == 404                ? "not_found_error"
           : status == 429                ? "rate_limit_error"
           : status >= 500                ? "server_error"
                                          : "invalid_request_error";
}

json_t *dialect_error(struct text path, int status, const char *param, const char *sentence)
{
    static const char *const lmstudio[] = {"/api/v0/", "/api/v1/", NULL};
    static const char *const ollama[] = {"/api/", NULL};
    json_t *name = param && param[0] ? json_string(param) : json_null();
    if (is_path_of(path, ollama) && !is_path_of(path, lmstudio)) {
        json_decref(name);
        return json_pack("{s:s}", "error", sentence);
    }
    return json_pack("{s:{s:s, s:s, s:o, s:i}}", "error", "message", sentence, "type",
                     type_of(status), "param", name, "code", status);
}

void dialect_error_body(void *context, struct text path, int status, const char *sentence,
                        struct buffer *body)
{
    (void)context;
    json_t *error = dialect_error(path, status, NULL, sentence);
    if (!write_json(error, body))
        body->failed = true;
    json_decref(error);
}

void dialect_refuse(struct http_exchange *exchange, const struct refusal *refusal)
{
    struct text path = http_exchange_request(exchange)->path;
    dialect_respond_json(exchange, refusal->status,
                         dialect_error(path, refusal->status, refusal->param, refusal->error.text));
}
