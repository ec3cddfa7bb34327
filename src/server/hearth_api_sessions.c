/* hearth's own paths: conversations that have a key. One that no worker has in memory is read from
 * the store and removed there; to change it, the model is loaded that goes on with it. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/hearth_api.h"

#define AT(member) offsetof(struct session_fields, member)

struct session_fields {
    struct text model, text, to;
    bool keep_given, plain_given, overflow_given, text_given, count_given;
    bool plain;
    int keep, overflow;
    int64_t index, count;
    const json_t *messages, *message;
};

/* As enum hearth_keep and enum hearth_overflow count. */
static const char *const keeps[] = {"default", "never", NULL};
static const char *const overflows[] = {"error", "stop", "drop", NULL};

const struct field hearth_api_session_fields[HEARTH_API_SESSION_FIELDS] = {
    [HEARTH_API_FIELD_MODEL] = {.name = "model",
                                .type = FIELD_TEXT,
                                .at = AT(model),
                                .help = "The one that goes on with it; else the one that has it."},
    [HEARTH_API_FIELD_KEEP] = {.name = "keep",
                               .type = FIELD_CHOICE,
                               .choices = keeps,
                               .at = AT(keep),
                               .given_at = AT(keep_given),
                               .help = "Whether it is written to the disk."},
    [HEARTH_API_FIELD_PLAIN] = {.name = "plain",
                                .type = FIELD_BOOL,
                                .at = AT(plain),
                                .given_at = AT(plain_given),
                                .help = "Its texts as they are, without the model's template."},
    [HEARTH_API_FIELD_OVERFLOW] = {.name = "overflow",
                                   .type = FIELD_CHOICE,
                                   .choices = overflows,
                                   .at = AT(overflow),
                                   .given_at = AT(overflow_given),
                                   .help = "What happens when its context is full: an error, the "
                                           "answer's end, or the oldest turns are left out."},
    [HEARTH_API_FIELD_MESSAGES] = {.name = "messages",
                                   .type = FIELD_ARRAY,
                                   .at = AT(messages),
                                   .help = "All messages."},
    [HEARTH_API_FIELD_MESSAGE] = {.name = "message",
                                  .type = FIELD_OBJECT,
                                  .at = AT(message),
                                  .help = "One message."},
    [HEARTH_API_FIELD_TEXT] = {.name = "text",
                               .type = FIELD_TEXT,
                               .at = AT(text),
                               .given_at = AT(text_given),
                               .help = "In its place a text: said by the user, or, to edit, by who "
                                       "said that message."},
    [HEARTH_API_FIELD_INDEX] = {.name = "index",
                                .type = FIELD_INT,
                                .max = 1e9,
                                .at = AT(index),
                                .help = "Of the message that is edited, from 0."},
    [HEARTH_API_FIELD_COUNT] = {.name = "count",
                                .type = FIELD_INT,
                                .max = 1e9,
                                .at = AT(count),
                                .given_at = AT(count_given),
                                .help = "How many messages are kept; forks keep all without it."},
    [HEARTH_API_FIELD_TO] = {.name = "to",
                             .type = FIELD_TEXT,
                             .max = HEARTH_API_KEY_SIZE - 1,
                             .at = AT(to),
                             .required = true,
                             .help = "The key of the fork."},
};

/* ---- keys and models ---- */

static bool take_key(struct text text, char key[HEARTH_API_KEY_SIZE])
{
    if (text.size == 0 || text.size >= HEARTH_API_KEY_SIZE || memchr(text.data, '\0', text.size))
        return false;
    memcpy(key, text.data, text.size);
    key[text.size] = '\0';
    return true;
}

bool hearth_api_key(struct http_exchange *exchange, char key[HEARTH_API_KEY_SIZE])
{
    if (take_key(http_exchange_request(exchange)->name, key))
        return true;
    http_respond_error(exchange, 400, "the key of a conversation has 1 to 256 bytes");
    return false;
}

struct sought {
    struct daemon *daemon;
    const char *key;
    struct hearth_store_entry entry;
    struct model *model;
    bool found;
};

static bool seek_entry(void *context, const struct hearth_store_entry *entry)
{
    struct sought *sought = context;
    if (strcmp(entry->key, sought->key) != 0)
        return true;
    sought->entry = *entry;
    sought->entry.key = sought->key;
    sought->found = true;
    return false;
}

/* The one whose file the store's identity is of; else one that calls itself the same. */
static bool seek_model(void *context, struct model *model)
{
    struct sought *sought = context;
    struct model_info info;
    model_info(model, &info);
    const char *identity = json_string_value(json_object_get(info.ready, "identity"));
    const char *name = json_string_value(json_object_get(info.ready, "name"));
    if (identity && strcmp(identity, sought->entry.model) == 0) {
        sought->model = model;
        return false;
    }
    if (name && sought->entry.model_name[0] && strcmp(name, sought->entry.model_name) == 0)
        sought->model = model;
    return true;
}

/* What the store has of a key, and which model it is of, where one is known; false: nothing. */
static bool look_up(struct daemon *daemon, const char *key, struct sought *sought)
{
    *sought = (struct sought){.daemon = daemon, .key = key};
    if (daemon->store)
        hearth_store_list(daemon->store, seek_entry, sought, NULL);
    if (sought->found)
        models_visit(daemon->models, seek_model, sought);
    return sought->found;
}

struct model *hearth_api_model_of(struct daemon *daemon, const char *key, const json_t *body,
                                  struct refusal *refusal)
{
    struct sought sought;
    const json_t *name = json_object_get(body, "model");
    if (name && !json_is_null(name))
        return generation_find_model(daemon, body, "model", refusal);
    struct model *model = models_session_holder(daemon->models, text_of(key));
    if (!model && look_up(daemon, key, &sought))
        model = sought.model;
    if (!model)
        model = generation_find_model(daemon, body, "model", refusal);
    return model;
}

static int refuse_unknown(struct refusal *refusal)
{
    return refuse(refusal, 404, "", "there is no conversation with this key");
}

static void answer_unknown(struct http_exchange *exchange)
{
    struct refusal refusal;
    refuse_unknown(&refusal);
    dialect_refuse(exchange, &refusal);
}

/* ---- lists ---- */

static json_t *entry_json(struct daemon *daemon, const struct hearth_store_entry *entry)
{
    struct model *holder = models_session_holder(daemon->models, text_of(entry->key));
    struct model_info info = {.name = NULL};
    if (holder)
        model_info(holder, &info);
    return json_pack("{s:s, s:b, s:s?, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "key", entry->key,
                     "loaded", holder != NULL, "model", info.name, "identity", entry->model,
                     "model_name", entry->model_name, "messages", (json_int_t)entry->messages,
                     "tokens", (json_int_t)entry->tokens, "record_bytes",
                     (json_int_t)entry->record_bytes, "spill_bytes", (json_int_t)entry->spill_bytes,
                     "spill_tokens", (json_int_t)entry->spill_tokens, "used_unix",
                     (json_int_t)entry->used_unix);
}

struct listing {
    struct daemon *daemon;
    json_t *sessions;
};

static bool append_entry(void *context, const struct hearth_store_entry *entry)
{
    struct listing *listing = context;
    json_t *json = entry_json(listing->daemon, entry);
    return json && json_array_append_new(listing->sessions, json) == 0;
}

static json_t *find_listed(json_t *sessions, const char *key)
{
    size_t index;
    json_t *session;
    json_array_foreach(sessions, index, session)
    {
        const char *listed = json_string_value(json_object_get(session, "key"));
        if (listed && strcmp(listed, key) == 0)
            return session;
    }
    return NULL;
}

/* What a worker has in memory, into the list; those without a key belong to nobody who could ask
 * for them. */
static void merge_sessions(struct hearth_api_call *call, const json_t *reply)
{
    json_t *sessions = json_object_get(call->body, "sessions"), *live;
    struct model_info info;
    size_t index;
    model_info(call->model, &info);
    json_array_foreach(json_object_get(reply, "sessions"), index, live)
    {
        const char *key = json_string_value(json_object_get(live, "key"));
        json_t *listed = key ? find_listed(sessions, key) : NULL;
        if (key && !listed) {
            listed = json_object();
            json_array_append_new(sessions, listed);
        }
        json_object_update(listed, live);
        json_object_set_new(listed, "loaded", json_true());
        json_object_set_new(listed, "model", json_string(info.name));
    }
}

struct next_loaded {
    int64_t skip; /* models that were asked already */
    struct model *model;
};

static bool seek_loaded(void *context, struct model *model)
{
    struct next_loaded *next = context;
    struct model_info info;
    if (next->skip-- > 0)
        return true;
    model_info(model, &info);
    if (info.presence == MODEL_LOADED && !info.upstream && info.use.sessions > 0)
        next->model = model;
    return !next->model;
}

/* One loaded model after the other; then the answer. */
static void list_next(struct hearth_api_call *call, const json_t *reply)
{
    if (reply)
        merge_sessions(call, reply);
    struct next_loaded next = {call->index, NULL};
    models_visit(call->daemon->models, seek_loaded, &next);
    call->index -= next.skip; /* which has counted below 0 what was passed now */
    call->model = next.model;
    if (next.model)
        hearth_api_start(call, "sessions", json_object());
    else
        dialect_respond_json(call->exchange, 200, json_incref(call->body));
}

static void list_workers(struct daemon *daemon, struct http_exchange *exchange, json_t *list)
{
    struct hearth_api_call *call = MEM_NEW(struct hearth_api_call);
    if (!call) {
        json_decref(list);
        hearth_api_no_memory(exchange);
        return;
    }
    *call = (struct hearth_api_call){
        .daemon = daemon, .exchange = exchange, .body = list, .then = list_next};
    hearth_api_go_on(call, NULL);
}

/* Of the store alone, so that who looks often keeps no model loaded, unless the workers' memory is
 * asked for, or is all there is. */
void hearth_api_sessions(void *context, struct http_exchange *exchange)
{
    struct listing listing = {context, json_array()};
    struct hearth_error error;
    struct buffer wanted;
    if (listing.daemon->store &&
        hearth_store_list(listing.daemon->store, append_entry, &listing, &error) != 0) {
        json_decref(listing.sessions);
        hearth_api_fail(exchange, &error);
        return;
    }
    json_t *list = json_pack("{s:o}", "sessions", listing.sessions);
    buffer_init(&wanted, 16);
    bool asked = dialect_query(http_exchange_request(exchange), "memory", &wanted) &&
                 text_equal(buffer_text(&wanted), TEXT("true"));
    buffer_finish(&wanted);
    if (asked || !listing.daemon->store)
        list_workers(context, exchange, list);
    else
        dialect_respond_json(exchange, 200, list);
}

/* ---- operations of a worker ---- */

/* The worker's object of a conversation, with whose it is. */
static void tell_session(struct hearth_api_call *call, const json_t *reply)
{
    struct model_info info;
    json_t *json = json_is_object(reply) ? json_deep_copy(reply) : json_object();
    model_info(call->model, &info);
    json_object_set_new(json, "model", json_string(info.name));
    json_object_set_new(json, "loaded", json_true());
    if (!json_object_get(json, "key"))
        json_object_set_new(json, "key", json_string(call->key));
    dialect_respond_json(call->exchange, 200, json);
}

static bool is_there(struct daemon *daemon, const char *key)
{
    struct sought sought;
    return models_session_holder(daemon->models, text_of(key)) || look_up(daemon, key, &sought);
}

/* A call about the key in the path, for the model that goes on with it; the first `count` fields
 * are read into `out`. What there is not is told without loading a model for it, unless the
 * operation makes it. NULL: answered. */
static struct hearth_api_call *begin(struct daemon *daemon, struct http_exchange *exchange,
                                     size_t count, bool makes, struct session_fields *out)
{
    struct refusal refusal = {0};
    struct hearth_api_call *call = MEM_NEW(struct hearth_api_call);
    if (!call) {
        hearth_api_no_memory(exchange);
        return NULL;
    }
    call->daemon = daemon;
    call->exchange = exchange;
    call->then = tell_session;
    if (hearth_api_key(exchange, call->key) &&
        (call->body = hearth_api_body(exchange, hearth_api_session_fields, count, out)) != NULL) {
        if (makes || is_there(daemon, call->key))
            call->model = hearth_api_model_of(daemon, call->key, call->body, &refusal);
        else
            refuse_unknown(&refusal);
        if (call->model)
            return call;
        dialect_refuse(exchange, &refusal);
    }
    hearth_api_free(call);
    return NULL;
}

static void give_up(struct hearth_api_call *call, const struct refusal *refusal)
{
    dialect_refuse(call->exchange, refusal);
    hearth_api_free(call);
}

/* Messages, checked, as an array of the caller's; NULL: a refusal. */
static json_t *checked(struct hearth_api_call *call, const json_t *messages,
                       struct refusal *refusal)
{
    struct generation_request request;
    json_t *array = NULL;
    generation_request_init(&request, call->model);
    request.ask.how = WORK_MESSAGES_APPEND; /* nothing is put before them */
    if (messages && json_is_array(messages) && json_array_size(messages) == 0)
        array = json_array();
    else if (generation_read_messages(&request, messages, refusal) == 0)
        array = json_loadb(request.ask.messages.data, request.ask.messages.size, 0, NULL);
    generation_request_finish(&request);
    return array;
}

void hearth_api_open(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.plain = false};
    struct hearth_api_call *call =
        begin(context, exchange, HEARTH_API_FIELD_MESSAGES, true, &fields);
    if (!call)
        return;
    json_t *arguments = json_pack("{s:s}", "key", call->key);
    if (fields.keep_given)
        json_object_set_new(arguments, "keep", json_string(keeps[fields.keep]));
    if (fields.plain_given)
        json_object_set_new(arguments, "plain", json_boolean(fields.plain));
    if (fields.overflow_given)
        json_object_set_new(arguments, "overflow", json_string(overflows[fields.overflow]));
    hearth_api_start(call, "configure", arguments);
}

void hearth_api_set(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.plain = false};
    struct refusal refusal = {0};
    struct hearth_api_call *call =
        begin(context, exchange, HEARTH_API_FIELD_MESSAGE, true, &fields);
    if (!call)
        return;
    if (!fields.messages)
        refuse(&refusal, 400, "messages", "messages is missing");
    json_t *messages = fields.messages ? checked(call, fields.messages, &refusal) : NULL;
    if (messages)
        hearth_api_start(call, "set",
                         json_pack("{s:s, s:o}", "key", call->key, "messages", messages));
    else
        give_up(call, &refusal);
}

/* The one message that is given, checked; a text is said by `role`. */
static json_t *one_message(struct hearth_api_call *call, const struct session_fields *fields,
                           const char *role, struct refusal *refusal)
{
    json_t *array, *message = NULL;
    if (!fields->message == !fields->text_given) {
        refuse(refusal, 400, "message", "either message or text must be given");
        return NULL;
    }
    array = fields->message ? json_pack("[O]", fields->message)
                            : json_pack("[{s:s, s:s%}]", "role", role, "content", fields->text.data,
                                        fields->text.size);
    json_t *valid = checked(call, array, refusal);
    if (valid)
        message = json_incref(json_array_get(valid, 0));
    json_decref(valid);
    json_decref(array);
    return message;
}

void hearth_api_append(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.plain = false};
    struct refusal refusal = {0};
    struct hearth_api_call *call = begin(context, exchange, HEARTH_API_FIELD_INDEX, true, &fields);
    json_t *message = call ? one_message(call, &fields, "user", &refusal) : NULL;
    if (message)
        hearth_api_start(call, "append",
                         json_pack("{s:s, s:o}", "key", call->key, "message", message));
    else if (call)
        give_up(call, &refusal);
}

/* The history is there: it goes back with the other message at its end. */
static void edit_history(struct hearth_api_call *call, const json_t *reply)
{
    const json_t *history = json_object_get(reply, "messages");
    size_t count = json_array_size(history), index = (size_t)call->index;
    struct session_fields fields = {.plain = false};
    struct refusal refusal = {0};
    json_t *messages = json_array(), *message = NULL;
    fields_read(call->body, hearth_api_session_fields, HEARTH_API_FIELD_COUNT, &fields, &refusal);
    for (size_t i = 0; i < index && i < count; i++)
        json_array_append(messages, json_array_get(history, i));
    if (index >= count) {
        refuse(&refusal, 400, "index", "index is %zu; the conversation has %zu messages", index,
               count);
    } else {
        const char *role =
            json_string_value(json_object_get(json_array_get(history, index), "role"));
        message = one_message(call, &fields, role ? role : "user", &refusal);
    }
    if (!message || json_array_append_new(messages, message) != 0) {
        json_decref(messages);
        if (!refusal.status)
            refuse(&refusal, 503, "", "there is no memory for the request");
        dialect_refuse(call->exchange, &refusal);
        return;
    }
    call->then = tell_session;
    hearth_api_start(call, "set", json_pack("{s:s, s:o}", "key", call->key, "messages", messages));
}

void hearth_api_edit(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.index = -1};
    struct refusal refusal = {0};
    struct hearth_api_call *call = begin(context, exchange, HEARTH_API_FIELD_COUNT, false, &fields);
    if (!call)
        return;
    if (fields.index < 0 || !fields.message == !fields.text_given) {
        refuse(&refusal, 400, fields.index < 0 ? "index" : "message",
               fields.index < 0 ? "index is missing" : "either message or text must be given");
        give_up(call, &refusal);
        return;
    }
    call->index = fields.index;
    call->then = edit_history;
    hearth_api_start(call, "history", json_pack("{s:s}", "key", call->key));
}

void hearth_api_truncate(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.plain = false};
    struct refusal refusal = {0};
    struct hearth_api_call *call = begin(context, exchange, HEARTH_API_FIELD_TO, false, &fields);
    if (!call)
        return;
    if (fields.count_given) {
        hearth_api_start(
            call, "truncate",
            json_pack("{s:s, s:I}", "key", call->key, "count", (json_int_t)fields.count));
        return;
    }
    refuse(&refusal, 400, "count", "count is missing");
    give_up(call, &refusal);
}

static void tell_fork(struct hearth_api_call *call, const json_t *reply)
{
    memcpy(call->key, call->to, sizeof call->key);
    models_session_held(call->daemon->models, text_of(call->key), call->model);
    tell_session(call, reply);
}

static void fork_now(struct hearth_api_call *call, json_int_t count)
{
    call->then = tell_fork;
    hearth_api_start(
        call, "fork",
        json_pack("{s:s, s:I, s:s}", "key", call->key, "count", count, "to", call->to));
}

static void fork_all(struct hearth_api_call *call, const json_t *reply)
{
    fork_now(call, json_integer_value(json_object_get(reply, "messages")));
}

void hearth_api_fork(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.count = -1};
    struct refusal refusal = {0};
    struct hearth_api_call *call =
        begin(context, exchange, HEARTH_API_SESSION_FIELDS, false, &fields);
    if (!call)
        return;
    if (!take_key(fields.to, call->to)) {
        refuse(&refusal, 400, "to", "to must be a key of 1 to 256 bytes");
        give_up(call, &refusal);
    } else if (is_there(call->daemon, call->to)) {
        refuse(&refusal, 409, "to", "there is a conversation with that key already");
        give_up(call, &refusal);
    } else if (fields.count_given) {
        fork_now(call, fields.count);
    } else {
        call->then = fork_all;
        hearth_api_start(call, "session", json_pack("{s:s}", "key", call->key));
    }
}

void hearth_api_reset(void *context, struct http_exchange *exchange)
{
    struct session_fields fields = {.plain = false};
    struct hearth_api_call *call = begin(context, exchange, HEARTH_API_FIELD_KEEP, false, &fields);
    if (call)
        hearth_api_start(call, "reset", json_pack("{s:s}", "key", call->key));
}

/* ---- what needs no worker where none has it ---- */

static void tell_gone(struct hearth_api_call *call, const char *what)
{
    models_session_held(call->daemon->models, text_of(call->key), NULL);
    dialect_respond_json(call->exchange, 200, json_pack("{s:s, s:b}", "key", call->key, what, 1));
}

static void tell_removed(struct hearth_api_call *call, const json_t *reply)
{
    (void)reply;
    tell_gone(call, "removed");
}

static void tell_released(struct hearth_api_call *call, const json_t *reply)
{
    (void)reply;
    tell_gone(call, "released");
}

static void tell_history(struct hearth_api_call *call, const json_t *reply)
{
    dialect_respond_json(
        call->exchange, 200,
        json_pack("{s:s, s:O?}", "key", call->key, "messages", json_object_get(reply, "messages")));
}

/* Asks the worker that has the conversation; false where none has it. */
static bool ask_holder(struct daemon *daemon, struct http_exchange *exchange, const char *key,
                       const char *name,
                       void (*then)(struct hearth_api_call *call, const json_t *reply))
{
    struct model *holder = models_session_holder(daemon->models, text_of(key));
    struct hearth_api_call *call = holder ? MEM_NEW(struct hearth_api_call) : NULL;
    if (!holder)
        return false;
    if (!call) {
        hearth_api_no_memory(exchange);
        return true;
    }
    *call = (struct hearth_api_call){
        .daemon = daemon, .exchange = exchange, .model = holder, .then = then};
    take_key(text_of(key), call->key);
    hearth_api_start(call, name, json_pack("{s:s}", "key", key));
    return true;
}

void hearth_api_session(void *context, struct http_exchange *exchange)
{
    struct sought sought;
    char key[HEARTH_API_KEY_SIZE];
    if (!hearth_api_key(exchange, key) ||
        ask_holder(context, exchange, key, "session", tell_session))
        return;
    if (look_up(context, key, &sought))
        dialect_respond_json(exchange, 200, entry_json(context, &sought.entry));
    else
        answer_unknown(exchange);
}

void hearth_api_history(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct hearth_error error;
    char key[HEARTH_API_KEY_SIZE], *text;
    size_t size;
    if (!hearth_api_key(exchange, key) ||
        ask_holder(daemon, exchange, key, "history", tell_history))
        return;
    if (!daemon->store) {
        answer_unknown(exchange);
    } else if (hearth_store_messages(daemon->store, key, &text, &size, &error) != 0) {
        hearth_api_fail(exchange, &error);
    } else {
        json_t *messages = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
        dialect_respond_json(exchange, 200,
                             json_pack("{s:s, s:o}", "key", key, "messages", messages));
        mem_free(text); /* which is what hearth_free does */
    }
}

void hearth_api_remove(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct hearth_error error;
    char key[HEARTH_API_KEY_SIZE];
    if (!hearth_api_key(exchange, key) || ask_holder(daemon, exchange, key, "remove", tell_removed))
        return;
    if (!daemon->store)
        answer_unknown(exchange);
    else if (hearth_store_remove(daemon->store, key, &error) != 0)
        hearth_api_fail(exchange, &error);
    else
        dialect_respond_json(exchange, 200, json_pack("{s:s, s:b}", "key", key, "removed", 1));
}

void hearth_api_release(void *context, struct http_exchange *exchange)
{
    struct sought sought;
    char key[HEARTH_API_KEY_SIZE];
    if (!hearth_api_key(exchange, key) ||
        ask_holder(context, exchange, key, "release", tell_released))
        return;
    if (look_up(context, key, &sought)) /* it is where it is to be */
        dialect_respond_json(exchange, 200, json_pack("{s:s, s:b}", "key", key, "released", 1));
    else
        answer_unknown(exchange);
}
