/* What the dialects share on the way out: JSON, and errors in the words of each. */

#include <stdlib.h>
#include <string.h>

#include "server/daemon.h"
#include "server/http_route.h"

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

/* The bytes of such a character at the beginning of a text, and what stands for it. */
static size_t line_end(struct text text, const char **escape)
{
    static const struct {
        const char bytes[4], escape[8];
    } ends[] = {{"\xc2\x85", "\\u0085"}, {"\xe2\x80\xa8", "\\u2028"}, {"\xe2\x80\xa9", "\\u2029"}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (text_starts_with(text, text_of(ends[i].bytes))) {
            *escape = ends[i].escape;
            return strlen(ends[i].bytes);
        }
    }
    return 0;
}

static int append_line(const char *bytes, size_t size, void *context)
{
    size_t done = 0;
    for (size_t i = 0; i < size; i++) {
        const char *escape;
        if (bytes[i] != '\xc2' && bytes[i] != '\xe2')
            continue;
        size_t end = line_end((struct text){bytes + i, size - i}, &escape);
        if (end == 0)
            continue;
        buffer_append(context, bytes + done, i - done);
        buffer_append(context, escape, strlen(escape));
        done = i + end;
        i = done - 1;
    }
    return buffer_append(context, bytes + done, size - done) ? 0 : -1;
}

bool dialect_line(json_t *json, struct buffer *out)
{
    /* jansson hands over the characters of a text whole */
    bool written = json && json_dump_callback(json, append_line, out, JSON_COMPACT) == 0;
    json_decref(json);
    return written && !out->failed;
}

bool dialect_event(struct http_exchange *exchange, const char *name, json_t *json)
{
    struct buffer line;
    buffer_init(&line, JSON_MAX);
    bool go_on =
        !dialect_line(json, &line) || http_stream_event(exchange, name, buffer_text(&line));
    buffer_finish(&line);
    return go_on;
}

bool dialect_query(const struct http_request *request, const char *name, struct buffer *value)
{
    struct text rest = request->query;
    size_t size = strlen(name);
    while (rest.size > 0) {
        const char *end = memchr(rest.data, '&', rest.size);
        size_t length = end ? (size_t)(end - rest.data) : rest.size;
        if (length >= size && memcmp(rest.data, name, size) == 0 &&
            (length == size || rest.data[size] == '=')) {
            size_t skip = length == size ? size : size + 1;
            return http_route_name((struct text){rest.data + skip, length - skip}, value);
        }
        length += end != NULL;
        rest = (struct text){rest.data + length, rest.size - length};
    }
    return false;
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

/* The names that LM Studio's own API has. */
static const char *lmstudio_type_of(int status, const char *param)
{
    bool model = param && (strcmp(param, "model") == 0 || strcmp(param, "instance_id") == 0);
    return status == 404 && model ? "model_not_found"
           : status == 501        ? "not_implemented"
           : status >= 500        ? "internal_error"
                                  : "invalid_request";
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
    bool v1 = text_starts_with(path, TEXT("/api/v1/"));
    return json_pack("{s:{s:s, s:s, s:o, s:i}}", "error", "message", sentence, "type",
                     v1 ? lmstudio_type_of(status, param) : type_of(status), "param", name, "code",
                     status);
}

/* What a program can tell errors apart by: the name of the code, in small letters. */
static const char *reason_of(int code)
{
    static const struct {
        int code;
        const char *name;
    } names[] = {
        {HEARTH_E_ARGUMENT, "argument"},
        {HEARTH_E_MEMORY, "memory"},
        {HEARTH_E_IO, "io"},
        {HEARTH_E_FORMAT, "format"},
        {HEARTH_E_UNSUPPORTED, "unsupported"},
        {HEARTH_E_LIMIT, "limit"},
        {HEARTH_E_MISSING, "missing"},
        {HEARTH_E_CANCELLED, "cancelled"},
        {HEARTH_E_NUMERIC, "numeric"},
        {HEARTH_E_TEMPLATE, "template"},
        {HEARTH_E_STATE, "state"},
        {HEARTH_E_CRASHED, "crashed"},
        {HEARTH_E_CHANGED, "changed"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (names[i].code == code)
            return names[i].name;
    }
    return NULL;
}

json_t *dialect_error_of(struct text path, const struct refusal *refusal)
{
    json_t *json = dialect_error(path, refusal->status, refusal->param, refusal->error.text);
    const char *reason = reason_of(refusal->error.code);
    json_t *error = json_object_get(json, "error");
    if (reason && json_is_object(error))
        json_object_set_new(error, "reason", json_string(reason));
    return json;
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
    dialect_respond_json(exchange, refusal->status, dialect_error_of(path, refusal));
}
