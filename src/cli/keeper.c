#include "cli/keeper.h"

#include <stdio.h>

#include "base/memory.h"

struct keeper {
    struct hearth_store *store; /* one of the two */
    struct client *daemon;
};

int keeper_open(const struct state_settings *state, const struct client_settings *client,
                struct keeper **out, struct hearth_error *err)
{
    struct keeper *keeper = mem_zalloc_array(1, sizeof *keeper);
    if (!keeper)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the list of conversations");
    bool asked = !state->store && client_open(client, &keeper->daemon, NULL) == 0 &&
                 client_keeps_conversations(keeper->daemon);
    if (!asked) {
        client_close(keeper->daemon);
        keeper->daemon = NULL;
    }
    int status = asked ? 0 : state_open_store(state, &keeper->store, err);
    if (status)
        keeper_close(keeper);
    else
        *out = keeper;
    return status;
}

void keeper_close(struct keeper *keeper)
{
    hearth_store_close(keeper->store);
    client_close(keeper->daemon);
    mem_free(keeper);
}

/* ---- the daemon ---- */

static const char *string(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

static uint64_t number(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}

static struct hearth_store_entry entry_of(const json_t *session)
{
    struct hearth_store_entry entry = {
        .key = string(session, "key"),
        .messages = number(session, "messages"),
        .tokens = number(session, "tokens"),
        .record_bytes = number(session, "record_bytes"),
        .spill_bytes = number(session, "spill_bytes"),
        .spill_tokens = number(session, "spill_tokens"),
        .used_unix = json_integer_value(json_object_get(session, "used_unix")),
    };
    snprintf(entry.model, sizeof entry.model, "%s", string(session, "identity"));
    snprintf(entry.model_name, sizeof entry.model_name, "%s", string(session, "model_name"));
    return entry;
}

static int list_of_daemon(struct client *daemon,
                          bool (*visit)(void *context, const struct hearth_store_entry *entry),
                          void *context, struct hearth_error *err)
{
    json_t *reply = NULL;
    int status = client_call(daemon, "GET", "/hearth/v1/sessions", NULL, &reply, err);
    const json_t *sessions = json_object_get(reply, "sessions");
    for (size_t i = 0; i < json_array_size(sessions); i++) {
        const struct hearth_store_entry entry = entry_of(json_array_get(sessions, i));
        if (!visit(context, &entry))
            break;
    }
    json_decref(reply);
    return status;
}

static int call_about(struct client *daemon, const char *method, const char *key, const char *what,
                      json_t **reply, struct hearth_error *err)
{
    struct buffer path;
    buffer_init(&path, 4096);
    buffer_append_text(&path, TEXT("/hearth/v1/sessions/"));
    client_append_segment(&path, key);
    buffer_append_text(&path, text_of(what));
    int status = path.failed ? error_set(err, HEARTH_E_LIMIT, "the name is too long")
                             : client_call(daemon, method, path.data, NULL, reply, err);
    buffer_finish(&path);
    return status;
}

/* ---- either ---- */

int keeper_list(struct keeper *keeper,
                bool (*visit)(void *context, const struct hearth_store_entry *entry), void *context,
                struct hearth_error *err)
{
    return keeper->store ? hearth_store_list(keeper->store, visit, context, err)
                         : list_of_daemon(keeper->daemon, visit, context, err);
}

static json_t *messages_of_store(struct hearth_store *store, const char *key,
                                 struct hearth_error *err)
{
    char *text;
    size_t size;
    if (hearth_store_messages(store, key, &text, &size, err))
        return NULL;
    json_t *messages = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    hearth_free(text);
    if (!messages)
        error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    return messages;
}

json_t *keeper_messages(struct keeper *keeper, const char *key, struct hearth_error *err)
{
    json_t *reply = NULL;
    if (keeper->store)
        return messages_of_store(keeper->store, key, err);
    if (call_about(keeper->daemon, "GET", key, "/history", &reply, err))
        return NULL;
    json_t *messages = json_incref(json_object_get(reply, "messages"));
    json_decref(reply);
    if (!messages)
        error_set(err, HEARTH_E_FORMAT, "the daemon's answer has no messages");
    return messages;
}

int keeper_remove(struct keeper *keeper, const char *key, struct hearth_error *err)
{
    return keeper->store ? hearth_store_remove(keeper->store, key, err)
                         : call_about(keeper->daemon, "DELETE", key, "", NULL, err);
}
