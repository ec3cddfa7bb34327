#include "worker/calls.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"

#define TEXT_BYTES_MAX WORK_PAYLOAD_MAX

/* What an operation gives: NULL with a cause, which is MEMORY where it says nothing. */
typedef json_t *operation(struct worker *worker, const json_t *arguments, struct hearth_error *err);

/* ---- arguments ---- */

static int get_text(const json_t *arguments, const char *name, struct text *out,
                    struct hearth_error *err)
{
    const json_t *value = json_object_get(arguments, name);
    if (!json_is_string(value))
        return error_set(err, HEARTH_E_ARGUMENT, "%s is no text", name);
    *out = (struct text){json_string_value(value), json_string_length(value)};
    return 0;
}

/* False where it is not there. */
static bool get_bool(const json_t *arguments, const char *name)
{
    return json_is_true(json_object_get(arguments, name));
}

static int get_count(const json_t *arguments, const char *name, size_t *out,
                     struct hearth_error *err)
{
    const json_t *value = json_object_get(arguments, name);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return error_set(err, HEARTH_E_ARGUMENT, "%s is no count", name);
    *out = (size_t)json_integer_value(value);
    return 0;
}

static int get_key(const json_t *arguments, const char *name, char key[WORK_KEY_SIZE],
                   struct hearth_error *err)
{
    struct text text = {NULL, 0};
    int status = get_text(arguments, name, &text, err);
    if (!status && !work_copy_key(text, key))
        status = error_set(err, HEARTH_E_ARGUMENT, "%s is UTF-8 of 1 to %d bytes", name,
                           WORK_KEY_SIZE - 1);
    return status;
}

/* ---- text and tokens ---- */

/* What a token is: its text, or its bytes where they are no whole characters. */
static json_t *piece_json(const struct worker *worker, uint32_t id)
{
    char *bytes;
    size_t size;
    if (hearth_token_bytes(worker->model, id, &bytes, &size, NULL))
        return NULL;
    json_t *piece = NULL;
    if (utf8_valid(bytes, size)) {
        piece = json_stringn(bytes, size);
    } else {
        piece = json_array();
        for (size_t i = 0; i < size; i++)
            json_array_append_new(piece, json_integer((unsigned char)bytes[i]));
    }
    hearth_free(bytes);
    return json_pack("{s:I, s:o}", "id", (json_int_t)id, "piece", piece);
}

static json_t *ids_json(const struct worker *worker, const uint32_t *ids, size_t count, bool pieces)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, pieces ? piece_json(worker, ids[i])
                                            : json_integer((json_int_t)ids[i]));
    return array;
}

static json_t *op_tokenize(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct text text = {NULL, 0};
    uint32_t *ids;
    size_t count;
    unsigned flags = (get_bool(arguments, "add_special") ? HEARTH_ADD_SPECIAL : 0u) |
                     (get_bool(arguments, "parse_special") ? HEARTH_PARSE_SPECIAL : 0u);
    if (get_text(arguments, "text", &text, err) ||
        hearth_tokenize(worker->model, text.data, text.size, flags, &ids, &count, err))
        return NULL;
    json_t *tokens = ids_json(worker, ids, count, get_bool(arguments, "pieces"));
    hearth_free(ids);
    return json_pack("{s:o}", "tokens", tokens);
}

static int get_ids(const struct worker *worker, const json_t *arguments, uint32_t **out,
                   size_t *count, struct hearth_error *err)
{
    const json_t *tokens = json_object_get(arguments, "tokens"), *token;
    struct hearth_model_info info;
    size_t i;
    hearth_model_info(worker->model, &info);
    if (!json_is_array(tokens))
        return error_set(err, HEARTH_E_ARGUMENT, "tokens is no array");
    uint32_t *ids = mem_alloc_array(json_array_size(tokens) + 1, sizeof *ids);
    if (!ids)
        return error_set(err, HEARTH_E_MEMORY, "no memory for tokens");
    json_array_foreach(tokens, i, token)
    {
        json_int_t id = json_is_integer(token) ? json_integer_value(token) : -1;
        if (id < 0 || id >= (json_int_t)info.vocabulary) {
            mem_free(ids);
            return error_set(err, HEARTH_E_ARGUMENT, "tokens[%zu] is no token: they go to %u", i,
                             info.vocabulary - 1);
        }
        ids[i] = (uint32_t)id;
    }
    *out = ids;
    *count = json_array_size(tokens);
    return 0;
}

static json_t *op_detokenize(struct worker *worker, const json_t *arguments,
                             struct hearth_error *err)
{
    uint32_t *ids = NULL;
    size_t count = 0, size;
    char *text;
    struct buffer valid;
    if (get_ids(worker, arguments, &ids, &count, err))
        return NULL;
    int status = hearth_detokenize(worker->model, ids, count, get_bool(arguments, "special"), &text,
                                   &size, err);
    mem_free(ids);
    if (status)
        return NULL;
    buffer_init(&valid, 4 * TEXT_BYTES_MAX);
    json_t *result = NULL;
    if (buffer_append_valid_utf8(&valid, (struct text){text, size}))
        result = json_pack("{s:s%}", "text", valid.data ? valid.data : "", valid.size);
    hearth_free(text);
    buffer_finish(&valid);
    return result;
}

/* ---- prompts ---- */

/* The texts as they are, of a model without a template. */
static int render_plain(const json_t *messages, struct buffer *out, struct hearth_error *err)
{
    size_t i;
    const json_t *message;
    json_array_foreach(messages, i, message)
    {
        struct text text = {NULL, 0};
        if (get_text(message, "content", &text, err))
            return error_set(err, HEARTH_E_UNSUPPORTED,
                             "a model without a chat template takes messages of plain text");
        buffer_append_text(out, text);
    }
    return out->failed ? error_set(err, HEARTH_E_LIMIT, "the messages are too long") : 0;
}

static int render_template(const struct worker *worker, json_t *messages, const json_t *variables,
                           struct buffer *out, struct hearth_error *err)
{
    json_t *all = json_is_object(variables) ? json_copy((json_t *)variables) : json_object();
    if (!json_object_get(all, "add_generation_prompt"))
        json_object_set_new(all, "add_generation_prompt", json_true());
    json_object_set(all, "messages", messages);
    char *json = json_dumps(all, JSON_COMPACT | JSON_PRESERVE_ORDER), *text;
    size_t size;
    json_decref(all);
    if (!json)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    int status =
        hearth_render_chat(worker->model, json, strlen(json), os_unix_seconds(), &text, &size, err);
    free(json);
    if (status)
        return status;
    buffer_append(out, text, size);
    hearth_free(text);
    return out->failed ? error_set(err, HEARTH_E_LIMIT, "the messages are too long") : 0;
}

static int render(const struct worker *worker, const json_t *arguments, struct buffer *out,
                  struct hearth_error *err)
{
    json_t *messages = json_object_get(arguments, "messages");
    if (!json_is_array(messages))
        return error_set(err, HEARTH_E_ARGUMENT, "messages is no array");
    return worker->has_template ? render_template(worker, messages,
                                                  json_object_get(arguments, "variables"), out, err)
                                : render_plain(messages, out, err);
}

static json_t *op_render(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct buffer prompt, valid;
    json_t *result = NULL;
    buffer_init(&prompt, TEXT_BYTES_MAX);
    buffer_init(&valid, 4 * TEXT_BYTES_MAX);
    if (!render(worker, arguments, &prompt, err) &&
        buffer_append_valid_utf8(&valid, buffer_text(&prompt)))
        result = json_pack("{s:s%, s:b}", "prompt", valid.data ? valid.data : "", valid.size,
                           "opens_reasoning", worker_opens_reasoning(buffer_text(&prompt)));
    buffer_finish(&prompt);
    buffer_finish(&valid);
    return result;
}

/* As many as a conversation with these messages, or a prompt of this text, would have. */
static json_t *op_count(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct buffer prompt;
    struct text text = {NULL, 0};
    uint32_t *ids;
    size_t count;
    unsigned flags = HEARTH_PARSE_SPECIAL;
    buffer_init(&prompt, TEXT_BYTES_MAX);
    bool chat = json_object_get(arguments, "messages") != NULL;
    int status =
        chat ? render(worker, arguments, &prompt, err) : get_text(arguments, "text", &text, err);
    if (chat)
        text = buffer_text(&prompt);
    if (!chat || !worker->has_template)
        flags |= HEARTH_ADD_SPECIAL;
    if (!status)
        status = hearth_tokenize(worker->model, text.data ? text.data : "", text.size, flags, &ids,
                                 &count, err);
    buffer_finish(&prompt);
    if (status)
        return NULL;
    hearth_free(ids);
    return json_pack("{s:I}", "tokens", (json_int_t)count);
}

/* ---- conversations ---- */

static json_t *info_json(const struct hearth_session_info *info)
{
    return json_pack("{s:s?, s:I, s:I, s:I, s:I, s:f, s:b, s:b}", "key", info->key, "messages",
                     (json_int_t)info->messages, "tokens", (json_int_t)info->tokens, "kv_bytes",
                     (json_int_t)info->kv_bytes, "spill_bytes", (json_int_t)info->spill_bytes,
                     "idle_s", (double)info->used_ns / 1e9, "busy", info->busy, "unsaved",
                     info->unsaved);
}

static const char *const keep_names[] = {"default", "never"};
static const char *const overflow_names[] = {"error", "stop", "drop"};

static json_t *session_json(const struct hearth_session *session)
{
    struct hearth_session_info info;
    hearth_session_info(session, &info);
    json_t *json = info_json(&info);
    json_object_set_new(json, "settings",
                        json_pack("{s:s, s:b, s:s}", "keep", keep_names[info.settings.keep],
                                  "plain", info.settings.plain, "overflow",
                                  overflow_names[info.settings.overflow]));
    return json;
}

static bool add_info(void *context, const struct hearth_session_info *info)
{
    return json_array_append_new(context, info_json(info)) == 0;
}

static json_t *op_sessions(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    json_t *sessions = json_array();
    (void)arguments;
    (void)err;
    hearth_sessions_list(worker->sessions, add_info, sessions);
    return json_pack("{s:o}", "sessions", sessions);
}

/* The conversation that `key` names. */
static int find(struct worker *worker, const json_t *arguments, struct hearth_session **out,
                struct hearth_error *err)
{
    char key[WORK_KEY_SIZE];
    int status = get_key(arguments, "key", key, err);
    return status ? status : hearth_session_find(worker->sessions, key, out, err);
}

/* The same, or a new one, which is gone again where nothing becomes of it (close_made). */
static int find_or_make(struct worker *worker, const json_t *arguments, struct hearth_session **out,
                        bool *made, struct hearth_error *err)
{
    char key[WORK_KEY_SIZE];
    int status = get_key(arguments, "key", key, err);
    if (status)
        return status;
    status = hearth_session_find(worker->sessions, key, out, err);
    *made = status == HEARTH_E_MISSING;
    return *made ? hearth_session_open(worker->sessions, key, out, err) : status;
}

/* What an operation gives that changed a conversation, and closes it. */
static json_t *changed(struct hearth_session *session, bool made, int status)
{
    json_t *json = status ? NULL : session_json(session);
    if (status && made)
        hearth_session_remove(session, NULL);
    hearth_session_close(session);
    return json;
}

static json_t *op_session(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct hearth_session *session;
    return find(worker, arguments, &session, err) ? NULL : changed(session, false, 0);
}

static json_t *op_history(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct hearth_session *session;
    if (find(worker, arguments, &session, err))
        return NULL;
    json_t *messages = worker_messages(session, err);
    hearth_session_close(session);
    return messages ? json_pack("{s:o}", "messages", messages) : NULL;
}

static json_t *op_set(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    const json_t *messages = json_object_get(arguments, "messages");
    struct hearth_session *session;
    bool made;
    if (!json_is_array(messages)) {
        error_set(err, HEARTH_E_ARGUMENT, "messages is no array");
        return NULL;
    }
    if (find_or_make(worker, arguments, &session, &made, err))
        return NULL;
    return changed(session, made, worker_set_messages(session, messages, err));
}

static json_t *op_append(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    const json_t *message = json_object_get(arguments, "message");
    struct hearth_session *session;
    bool made;
    if (!json_is_object(message)) {
        error_set(err, HEARTH_E_ARGUMENT, "message is no object");
        return NULL;
    }
    if (find_or_make(worker, arguments, &session, &made, err))
        return NULL;
    char *text = json_dumps(message, JSON_COMPACT | JSON_PRESERVE_ORDER);
    int status = text ? hearth_session_append(session, text, strlen(text), err)
                      : error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    free(text);
    return changed(session, made, status);
}

static json_t *op_truncate(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct hearth_session *session;
    size_t count = 0;
    if (get_count(arguments, "count", &count, err) || find(worker, arguments, &session, err))
        return NULL;
    return changed(session, false, hearth_session_truncate(session, count, err));
}

static json_t *op_fork(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct hearth_session *session, *fork;
    char to[WORK_KEY_SIZE];
    size_t count = 0;
    if (get_count(arguments, "count", &count, err) || get_key(arguments, "to", to, err) ||
        find(worker, arguments, &session, err))
        return NULL;
    int status = hearth_session_fork(session, count, to, &fork, err);
    hearth_session_close(session);
    return status ? NULL : changed(fork, false, 0);
}

static json_t *op_remove(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct hearth_session *session;
    if (find(worker, arguments, &session, err))
        return NULL;
    int status = hearth_session_remove(session, err);
    hearth_session_close(session);
    return status ? NULL : json_object();
}

static json_t *op_reset(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    struct hearth_session *session;
    if (find(worker, arguments, &session, err))
        return NULL;
    json_t *messages = worker_messages(session, err);
    const char *role = json_string_value(json_object_get(json_array_get(messages, 0), "role"));
    bool system = role && strcmp(role, "system") == 0;
    int status = messages ? hearth_session_truncate(session, system, err) : err->code;
    json_decref(messages);
    return changed(session, false, status);
}

/* Whether one is in memory. */
struct sought {
    const char *key;
    bool there;
};

static bool is_sought(void *context, const struct hearth_session_info *info)
{
    struct sought *sought = context;
    sought->there = info->key && strcmp(info->key, sought->key) == 0;
    return !sought->there;
}

static json_t *op_release(struct worker *worker, const json_t *arguments, struct hearth_error *err)
{
    char key[WORK_KEY_SIZE];
    struct sought sought = {.key = key};
    struct hearth_session *session;
    if (get_key(arguments, "key", key, err))
        return NULL;
    hearth_sessions_list(worker->sessions, is_sought, &sought);
    if (!sought.there)
        return json_object();
    int status = hearth_session_open(worker->sessions, key, &session, err);
    if (status)
        return NULL;
    status = hearth_session_release(session, err);
    if (status)
        hearth_session_close(session);
    return status ? NULL : json_object();
}

/* The place of a word in a list, or -1. Where nothing is said `own` stays. */
static int get_choice(const json_t *arguments, const char *name, const char *const *names,
                      int count, int own)
{
    const json_t *value = json_object_get(arguments, name);
    const char *word = json_string_value(value);
    if (!value)
        return own;
    for (int i = 0; i < count; i++) {
        if (word && strcmp(word, names[i]) == 0)
            return i;
    }
    return -1;
}

/* What is not said stays as it is. */
static json_t *op_configure(struct worker *worker, const json_t *arguments,
                            struct hearth_error *err)
{
    struct hearth_session *session;
    struct hearth_session_info info;
    bool made;
    if (find_or_make(worker, arguments, &session, &made, err))
        return NULL;
    hearth_session_info(session, &info);
    struct hearth_session_settings settings = info.settings;
    int keep = get_choice(arguments, "keep", keep_names, 2, (int)settings.keep);
    int overflow = get_choice(arguments, "overflow", overflow_names, 3, (int)settings.overflow);
    int status = 0;
    if (json_is_boolean(json_object_get(arguments, "plain")))
        settings.plain = get_bool(arguments, "plain");
    if (keep < 0)
        status = error_set(err, HEARTH_E_ARGUMENT, "keep is \"default\" or \"never\"");
    else if (overflow < 0)
        status = error_set(err, HEARTH_E_ARGUMENT, "overflow is \"error\", \"stop\" or \"drop\"");
    settings.keep = (enum hearth_keep)keep;
    settings.overflow = (enum hearth_overflow)overflow;
    if (!status)
        status = hearth_session_configure(session, &settings, err);
    return changed(session, made, status);
}

/* ---- which ---- */

static const struct {
    const char *name;
    operation *run;
} operations[] = {
    {"tokenize", op_tokenize},   {"detokenize", op_detokenize},
    {"render", op_render},       {"count", op_count},
    {"sessions", op_sessions},   {"session", op_session},
    {"history", op_history},     {"set", op_set},
    {"append", op_append},       {"truncate", op_truncate},
    {"fork", op_fork},           {"remove", op_remove},
    {"reset", op_reset},         {"release", op_release},
    {"configure", op_configure},
};

static operation *find_operation(struct text name)
{
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (text_equal(name, text_of(operations[i].name)))
            return operations[i].run;
    }
    return NULL;
}

static json_t *run(struct worker *worker, const struct work_call *call, struct hearth_error *err)
{
    operation *what = find_operation(call->name);
    if (!what) {
        error_set(err, HEARTH_E_ARGUMENT, "there is no operation '%.*s'", TEXT_ARGS(call->name));
        return NULL;
    }
    json_t *arguments = worker_parse(call->arguments, "arguments", err);
    json_t *result = NULL;
    if (arguments && !json_is_object(arguments))
        error_set(err, HEARTH_E_FORMAT, "the arguments are no object");
    else if (arguments)
        result = what(worker, arguments, err);
    json_decref(arguments);
    return result;
}

void calls_answer(struct worker *worker, const struct letter *letter)
{
    struct hearth_error err = {0};
    struct work_call call;
    json_t *result = NULL;
    if (work_get_call(&letter->message, &call))
        result = run(worker, &call, &err);
    else
        error_set(&err, HEARTH_E_FORMAT, "the request cannot be understood");
    if (!result && err.code)
        worker_reply_error(worker, letter->message.request, &err);
    else
        worker_reply_json(worker, letter->message.request, result);
}
