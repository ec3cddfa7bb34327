/* Messages and names of models, as all dialects check them. */
#include <string.h>

#include "base/error.h"
#include "server/generation.h"

#define MESSAGES_MAX 100000

static bool text_is(const json_t *value, const char *string)
{
    return json_is_string(value) && strcmp(json_string_value(value), string) == 0;
}

/* ---- content ---- */

static int append_part(struct buffer *out, const json_t *part, size_t message, size_t at,
                       struct refusal *refusal)
{
    const json_t *type = json_object_get(part, "type"), *text = json_object_get(part, "text");
    char param[64];
    snprintf(param, sizeof param, "messages[%zu].content[%zu]", message, at);
    if (!json_is_object(part) || !json_is_string(type))
        return refuse(refusal, 400, param, "%s must be an object with a \"type\"", param);
    if (!text_is(type, "text"))
        return refuse(refusal, 400, param,
                      "%s: parts of type \"%.40s\" are not supported, only \"text\"", param,
                      json_string_value(type));
    if (!json_is_string(text))
        return refuse(refusal, 400, param, "%s: \"text\" must be a text", param);
    if (at > 0)
        buffer_append_char(out, '\n');
    buffer_append(out, json_string_value(text), json_string_length(text));
    return 0;
}

/* What stands in the place of `content`: a new reference, NULL with a refusal. */
static json_t *read_content(const json_t *message, size_t at, struct refusal *refusal)
{
    const json_t *content = json_object_get(message, "content");
    struct buffer joined;
    char param[64];
    snprintf(param, sizeof param, "messages[%zu].content", at);
    if (json_is_string(content))
        return json_incref((json_t *)(uintptr_t)content);
    if ((!content || json_is_null(content)) &&
        text_is(json_object_get(message, "role"), "assistant"))
        return json_string("");
    if (!json_is_array(content)) {
        refuse(refusal, 400, param, "%s must be a text or an array of parts", param);
        return NULL;
    }
    buffer_init(&joined, WORK_PAYLOAD_MAX);
    int status = 0;
    for (size_t i = 0; i < json_array_size(content) && !status; i++)
        status = append_part(&joined, json_array_get(content, i), at, i, refusal);
    json_t *text = NULL;
    if (!status && !joined.failed)
        text = json_stringn(joined.size ? joined.data : "", joined.size);
    if (!status && !text)
        refuse(refusal, 507, "", "no memory for %s", param);
    buffer_finish(&joined);
    return text;
}

/* ---- messages ---- */

static bool says_nothing(const json_t *value)
{
    return !value || json_is_null(value) || json_is_false(value) ||
           (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static int check_message(const json_t *message, size_t at, struct refusal *refusal)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant"};
    static const char *const unsupported[] = {"tool_calls", "function_call", "tool_call_id",
                                              "images", "audio"};
    const json_t *role = json_object_get(message, "role");
    char param[64];
    bool known = false;
    snprintf(param, sizeof param, "messages[%zu]", at);
    if (!json_is_object(message))
        return refuse(refusal, 400, param, "%s must be an object", param);
    snprintf(param, sizeof param, "messages[%zu].role", at);
    if (!json_is_string(role))
        return refuse(refusal, 400, param, "%s must be a text", param);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        known = known || text_is(role, roles[i]);
    if (!known)
        return refuse(refusal, 400, param,
                      "%s: \"%.40s\" is not supported; the roles are system, developer, user and "
                      "assistant",
                      param, json_string_value(role));
    for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        if (says_nothing(json_object_get(message, unsupported[i])))
            continue;
        snprintf(param, sizeof param, "messages[%zu].%s", at, unsupported[i]);
        return refuse(refusal, 400, param, "%s is not supported", param);
    }
    return 0;
}

/* The message as templates expect it. They know no developers. */
static json_t *read_message(const json_t *message, size_t at, struct refusal *refusal)
{
    json_t *content, *out;
    if (check_message(message, at, refusal) ||
        (content = read_content(message, at, refusal)) == NULL)
        return NULL;
    out = json_copy((json_t *)(uintptr_t)message); /* its values stay shared */
    bool failed = json_object_set_new(out, "content", content) != 0;
    if (text_is(json_object_get(message, "role"), "developer"))
        failed = json_object_set_new(out, "role", json_string("system")) != 0 || failed;
    json_object_del(out, "tool_calls"); /* that are empty: templates ask whether they are there */
    if (!failed)
        return out;
    json_decref(out);
    refuse(refusal, 507, "", "no memory for the messages");
    return NULL;
}

/* Before messages that do not begin with what the system says. Whether messages that are appended
 * begin a conversation is known where it is. */
static int put_system(json_t *list, struct generation_request *request)
{
    const json_t *first = json_array_get(list, 0);
    struct model_info info;
    model_info(request->model, &info);
    if (!info.settings->system || text_is(json_object_get(first, "role"), "system"))
        return 0;
    if (request->ask.how == WORK_MESSAGES_APPEND) {
        request->ask.system = text_of(info.settings->system);
        return 0;
    }
    return json_array_insert_new(
        list, 0, json_pack("{s:s, s:s}", "role", "system", "content", info.settings->system));
}

int generation_read_messages(struct generation_request *request, const json_t *messages,
                             struct refusal *refusal)
{
    size_t count = json_array_size(messages);
    json_t *list;
    bool none = count == 0 && request->ask.how != WORK_MESSAGES_APPEND;
    if (!json_is_array(messages) || none || count > MESSAGES_MAX)
        return refuse(refusal, 400, "messages", "messages must be an array of 1 to %d messages",
                      MESSAGES_MAX);
    list = json_array();
    for (size_t i = 0; i < count; i++) {
        json_t *message = read_message(json_array_get(messages, i), i, refusal);
        if (!message || json_array_append_new(list, message) != 0) {
            json_decref(list);
            return message ? refuse(refusal, 507, "", "no memory for the messages") : -1;
        }
    }
    int status = put_system(list, request);
    buffer_finish(&request->own.messages);
    generation_write_json(&request->own.messages, list);
    json_decref(list);
    if (status || request->own.messages.failed)
        return refuse(refusal, 507, "", "no memory for the messages");
    request->ask.messages = buffer_text(&request->own.messages);
    return 0;
}

struct model *generation_find_model(struct daemon *daemon, const json_t *object, const char *field,
                                    struct refusal *refusal)
{
    const json_t *value = json_object_get(object, field);
    struct text name = {json_string_value(value), json_string_length(value)};
    struct hearth_error err;
    if (value && !json_is_null(value) && !json_is_string(value)) {
        refuse(refusal, 400, field, "%s must be the name of a model", field);
        return NULL;
    }
    struct model *model = models_find(daemon->models, name, &err);
    if (!model) {
        refusal_of(refusal, &err);
        snprintf(refusal->param, sizeof refusal->param, "%s", field);
    }
    return model;
}
