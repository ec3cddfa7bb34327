#include "session/sessions.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"
#include "session/keep.h"
#include "session/record.h"

#define KEY_BYTES_MAX 256
#define IDLE_NS_DEFAULT (300u * UINT64_C(1000000000))
#define ANSWERS_DEFAULT 8

static uint64_t system_clock(void *context)
{
    (void)context;
    return os_monotonic_ns();
}

uint64_t sessions_now(const struct hearth_sessions *sessions)
{
    return sessions->options.now(sessions->options.clock_context);
}

uint32_t sessions_context(const struct hearth_sessions *sessions)
{
    uint32_t own = sessions->options.context_max;
    return own ? own : hearth_engine_context(sessions->engine);
}

/* What people call the model, cut where it is long; nothing where its file does not say. */
static void name_model(struct hearth_sessions *sessions)
{
    char *text;
    size_t size;
    struct buffer name;
    if (hearth_model_metadata(sessions->model, "general.name", &text, &size, NULL))
        return;
    buffer_init(&name, 4 * size + 1);
    buffer_append_valid_utf8(&name, (struct text){text, strlen(text)});
    hearth_free(text);
    size = name.size < sizeof sessions->model_name ? name.size : sizeof sessions->model_name - 1;
    while (size > 0 && size < name.size && ((unsigned char)name.data[size] & 0xc0) == 0x80)
        size--;
    if (size > 0)
        memcpy(sessions->model_name, name.data, size);
    buffer_finish(&name);
}

/* Names of model and engine, where something is written. */
static int identify(struct hearth_sessions *sessions, struct hearth_error *err)
{
    struct spiller *spiller = &sessions->spiller;
    memset(sessions->identity, '0', sizeof sessions->identity - 1);
    spiller->engine = sessions->engine;
    spiller->store = sessions->options.store;
    if (!spiller->store)
        return 0;
    name_model(sessions);
    int status = hearth_model_identity(sessions->model, sessions->identity, err);
    return status ? status : hearth_engine_identity(sessions->engine, spiller->identity, err);
}

int hearth_sessions_open(const struct hearth_model *model, struct hearth_engine *engine,
                         const struct hearth_sessions_options *options,
                         struct hearth_sessions **out, struct hearth_error *err)
{
    struct hearth_sessions *sessions = MEM_NEW(struct hearth_sessions);
    if (!sessions)
        return error_set(err, HEARTH_E_MEMORY, "no memory for conversations");
    sessions->model = model;
    sessions->engine = engine;
    if (options)
        sessions->options = *options;
    struct hearth_sessions_options *o = &sessions->options;
    o->now = o->now ? o->now : system_clock;
    o->idle_ns = o->idle_ns ? o->idle_ns : IDLE_NS_DEFAULT;
    o->answers_max = o->answers_max ? o->answers_max : ANSWERS_DEFAULT;
    struct hearth_model_info info;
    hearth_model_info(model, &info);
    sessions->windowed = info.window > 0;
    sessions->vocabulary = info.vocabulary;
    int status = identify(sessions, err);
    if (status) {
        mem_free(sessions);
        return status;
    }
    sessions->worked_ns = sessions_now(sessions);
    *out = sessions;
    return 0;
}

/* ---- keys ---- */

static size_t bucket_of(const struct hearth_sessions *sessions, const char *key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (; *key; key++)
        hash = (hash ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
    return (size_t)(hash ^ hash >> 32) & (sessions->bucket_count - 1);
}

static struct hearth_session *find(const struct hearth_sessions *sessions, const char *key)
{
    if (sessions->bucket_count == 0)
        return NULL;
    struct hearth_session *session = sessions->buckets[bucket_of(sessions, key)];
    while (session && strcmp(session->key, key) != 0)
        session = session->same_bucket;
    return session;
}

static void add_key(struct hearth_session *session)
{
    struct hearth_session **bucket =
        &session->sessions->buckets[bucket_of(session->sessions, session->key)];
    session->same_bucket = *bucket;
    *bucket = session;
}

/* The key is free for another conversation. */
static void remove_key(struct hearth_session *session)
{
    struct hearth_session **at =
        &session->sessions->buckets[bucket_of(session->sessions, session->key)];
    while (*at != session)
        at = &(*at)->same_bucket;
    *at = session->same_bucket;
    session->removed = true;
}

/* Buckets for one more conversation; false without memory. */
static bool reserve_bucket(struct hearth_sessions *sessions)
{
    if (sessions->count < sessions->bucket_count)
        return true;
    size_t before = sessions->bucket_count, count = before ? 2 * before : 64;
    struct hearth_session **old = sessions->buckets;
    struct hearth_session **buckets = mem_zalloc_array(count, sizeof(struct hearth_session *));
    if (!buckets)
        return false;
    sessions->buckets = buckets;
    sessions->bucket_count = count;
    for (size_t i = 0; i < before; i++) {
        for (struct hearth_session *s = old[i], *next; s; s = next) {
            next = s->same_bucket;
            add_key(s);
        }
    }
    mem_free(old);
    return true;
}

/* ---- the lists of conversations ---- */

static struct session_list *list_of(struct hearth_session *session)
{
    struct hearth_sessions *set = session->sessions;
    return session->asleep ? &set->asleep : &set->awake;
}

static void list_add(struct session_list *list, struct hearth_session *session)
{
    session->previous = NULL;
    session->next = list->first;
    *(list->first ? &list->first->previous : &list->last) = session;
    list->first = session;
}

static void list_remove(struct session_list *list, struct hearth_session *session)
{
    *(session->previous ? &session->previous->next : &list->first) = session->next;
    *(session->next ? &session->next->previous : &list->last) = session->previous;
}

void session_touch(struct hearth_session *session)
{
    struct session_list *list = list_of(session);
    session->used_ns = sessions_now(session->sessions);
    list_remove(list, session);
    list_add(list, session);
}

uint64_t session_forget(struct hearth_session *session, size_t kept)
{
    const struct history *history = &session->history;
    ahead_forget(session);
    for (const struct hearth_session *s = session->sessions->awake.first; s; s = s->next) {
        size_t common = s->held && s != session ? history_common_ids(&s->history, history) : 0;
        kept = common > kept ? common : kept;
    }
    session->held = false;
    return hearth_engine_forget(session->sessions->engine, history->ids, kept, history->count);
}

void session_set_awake(struct hearth_session *session, bool awake)
{
    if (session->asleep != awake)
        return;
    list_remove(list_of(session), session);
    session->asleep = !awake;
    list_add(list_of(session), session);
}

void session_drop(struct hearth_session *session)
{
    struct hearth_sessions *set = session->sessions;
    list_remove(list_of(session), session);
    set->count--;
    if (session->key && !session->removed)
        remove_key(session);
    if (session->held) /* others may begin with the same system prompt */
        session_forget(session, session->stem);
    ahead_forget(session);
    keep_finish(session);
    history_finish(&session->history);
    buffer_finish(&session->packed);
    mem_free(session->key);
    mem_free(session);
}

void session_drop_if_done(struct hearth_session *session)
{
    if (session->opened > 0 || session->requests > 0)
        return;
    if (!session->key || session->removed)
        session_drop(session);
    else if (!session->held)
        keep_rest(session); /* nothing would be lost by that */
}

void hearth_sessions_close(struct hearth_sessions *sessions)
{
    if (!sessions)
        return;
    schedule_end_all(sessions);
    keep_all(sessions);
    while (sessions->awake.first)
        session_drop(sessions->awake.first);
    while (sessions->asleep.first)
        session_drop(sessions->asleep.first);
    hearth_draft_close(sessions->spare_draft);
    mem_free(sessions->ends);
    mem_free(sessions->buckets);
    mem_free(sessions);
}

/* ---- a conversation ---- */

static int check_key(const char *key, struct hearth_error *err)
{
    size_t size = strlen(key);
    if (size == 0 || size > KEY_BYTES_MAX || !utf8_valid(key, size))
        return error_set(err, HEARTH_E_ARGUMENT, "a conversation's key is UTF-8 of 1 to %d bytes",
                         KEY_BYTES_MAX);
    return 0;
}

int session_add(struct hearth_sessions *sessions, const char *key, struct hearth_session **out,
                struct hearth_error *err)
{
    struct hearth_session *session = MEM_NEW(struct hearth_session);
    if (!session)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
    int status = history_init(&session->history, sessions->model, err);
    if (!status && key) {
        session->key = mem_alloc(strlen(key) + 1);
        if (!session->key || !reserve_bucket(sessions))
            status = error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
    }
    if (status) {
        history_finish(&session->history);
        mem_free(session->key);
        mem_free(session);
        return status;
    }
    session->sessions = sessions;
    session->spill.fd = -1;
    if (key) {
        memcpy(session->key, key, strlen(key) + 1);
        add_key(session);
    }
    session->opened = 1;
    session->used_ns = sessions_now(sessions);
    session->unix_seconds =
        sessions->options.unix_seconds ? sessions->options.unix_seconds : os_unix_seconds();
    list_add(&sessions->awake, session);
    sessions->count++;
    *out = session;
    return 0;
}

/* A conversation that is not in memory: what the store has under the key, or a new one. */
static int open_session(struct hearth_sessions *sessions, const char *key,
                        struct hearth_session **out, struct hearth_error *err)
{
    struct hearth_session *session;
    int status = session_add(sessions, key, &session, err);
    if (status)
        return status;
    status = key ? keep_get(session, err) : HEARTH_E_MISSING;
    if (status && status != HEARTH_E_MISSING) {
        session_drop(session);
        return status;
    }
    *out = session;
    return 0;
}

int hearth_session_open(struct hearth_sessions *sessions, const char *key,
                        struct hearth_session **out, struct hearth_error *err)
{
    int status = key ? check_key(key, err) : 0;
    if (status)
        return status;
    struct hearth_session *known = key ? find(sessions, key) : NULL;
    if (!known)
        return open_session(sessions, key, out, err);
    known->opened++;
    session_touch(known);
    *out = known;
    return 0;
}

int hearth_session_find(struct hearth_sessions *sessions, const char *key,
                        struct hearth_session **out, struct hearth_error *err)
{
    struct hearth_session *session;
    int status = check_key(key, err);
    if (status)
        return status;
    if (find(sessions, key))
        return hearth_session_open(sessions, key, out, err);
    status = session_add(sessions, key, &session, err);
    if (status)
        return status;
    status = keep_get(session, err);
    if (status) {
        session_drop(session);
        return status == HEARTH_E_MISSING
                   ? error_set(err, status, "there is no conversation \"%s\"", key)
                   : status;
    }
    *out = session;
    return 0;
}

void hearth_session_close(struct hearth_session *session)
{
    if (!session)
        return;
    assert(session->opened > 0);
    session->opened--;
    session_drop_if_done(session);
}

/* A conversation whose messages may be changed: awake, and not being answered. */
static int prepare_change(struct hearth_session *session, struct hearth_error *err)
{
    if (session->requests > 0)
        return error_set(err, HEARTH_E_STATE, "the conversation is being answered");
    int status = keep_wake(session, err);
    if (!status)
        session_touch(session);
    return status;
}

int hearth_session_remove(struct hearth_session *session, struct hearth_error *err)
{
    int status = prepare_change(session, err);
    if (!status && session->key && !session->removed)
        status = keep_remove(session, err);
    if (!status && session->key && !session->removed)
        remove_key(session);
    return status;
}

/* It was changed, or was to be. */
static int changed(struct hearth_session *session, int status)
{
    if (!status)
        keep_put(session, NULL);
    return status;
}

int hearth_session_append(struct hearth_session *session, const char *message, size_t size,
                          struct hearth_error *err)
{
    int status = prepare_change(session, err);
    return status ? status
                  : changed(session, history_append(&session->history, message, size, err));
}

int hearth_session_set_messages(struct hearth_session *session, const char *messages, size_t size,
                                struct hearth_error *err)
{
    int status = prepare_change(session, err);
    return status ? status : changed(session, history_set(&session->history, messages, size, err));
}

int hearth_session_truncate(struct hearth_session *session, size_t count, struct hearth_error *err)
{
    int status = prepare_change(session, err);
    if (status)
        return status;
    history_truncate(&session->history, count);
    return changed(session, 0);
}

/* HEARTH_E_STATE where there is a conversation of this key, in memory or in the store. */
static int check_free(struct hearth_sessions *sessions, const char *key, struct hearth_error *err)
{
    struct hearth_store *store = sessions->options.store;
    int status = check_key(key, err);
    if (status)
        return status;
    bool taken = find(sessions, key) != NULL;
    if (!taken && store) {
        struct buffer record;
        buffer_init(&record, SIZE_MAX);
        taken = store->calls->get(store, key, &record, NULL) != HEARTH_E_MISSING;
        buffer_finish(&record);
    }
    return taken ? error_set(err, HEARTH_E_STATE, "there is a conversation \"%s\"", key) : 0;
}

int hearth_session_fork(struct hearth_session *session, size_t count, const char *key,
                        struct hearth_session **out, struct hearth_error *err)
{
    struct hearth_session *fork;
    int status = prepare_change(session, err);
    if (!status && key)
        status = check_free(session->sessions, key, err);
    if (!status)
        status = session_add(session->sessions, key, &fork, err);
    if (status)
        return status;
    status = history_copy(&fork->history, &session->history, err);
    if (status) {
        session_drop(fork);
        return status;
    }
    history_truncate(&fork->history, count);
    fork->computed = session->computed;
    fork->settings = session->settings;
    fork->unix_seconds = session->unix_seconds;
    if (!session->held)
        keep_restore(session, session->computed, 0); /* both share what was computed */
    fork->held = session->held;
    fork->stem = session->stem;
    keep_put(fork, NULL);
    *out = fork;
    return 0;
}

int hearth_session_configure(struct hearth_session *session,
                             const struct hearth_session_settings *settings,
                             struct hearth_error *err)
{
    if (settings->overflow != HEARTH_OVERFLOW_ERROR && settings->overflow != HEARTH_OVERFLOW_STOP &&
        settings->overflow != HEARTH_OVERFLOW_DROP)
        return error_set(err, HEARTH_E_ARGUMENT, "there is no way %d to treat what does not fit",
                         (int)settings->overflow);
    if (settings->keep != HEARTH_KEEP_DEFAULT && settings->keep != HEARTH_KEEP_NEVER)
        return error_set(err, HEARTH_E_ARGUMENT, "%d is no way to keep a conversation",
                         (int)settings->keep);
    int status = prepare_change(session, err);
    if (!status && settings->keep == HEARTH_KEEP_NEVER)
        status = keep_remove(session, err);
    if (status)
        return status;
    if (settings->keep == HEARTH_KEEP_NEVER)
        keep_finish(session);
    session->settings = *settings;
    history_set_plain(&session->history, settings->plain);
    return changed(session, 0);
}

int hearth_session_release(struct hearth_session *session, struct hearth_error *err)
{
    if (!keep_is_stored(session))
        return error_set(err, HEARTH_E_STATE, "the conversation is kept in no store");
    if (session->requests > 0)
        return error_set(err, HEARTH_E_STATE, "the conversation \"%s\" is being answered",
                         session->key);
    if (session->opened > 1)
        return error_set(err, HEARTH_E_STATE, "the conversation \"%s\" is open elsewhere",
                         session->key);
    int status = session->unsaved ? keep_put(session, err) : 0;
    if (status)
        return status;
    if (session->held)
        keep_spill(session);
    session->opened = 0;
    session_drop(session);
    return 0;
}

int hearth_session_save(struct hearth_session *session, struct hearth_error *err)
{
    return keep_put(session, err);
}

size_t hearth_session_count(const struct hearth_session *session)
{
    return keep_message_count(session);
}

void hearth_session_info(const struct hearth_session *session, struct hearth_session_info *out)
{
    const struct hearth_sessions *set = session->sessions;
    const struct history *history = &session->history;
    *out = (struct hearth_session_info){
        .key = session->key,
        .messages = keep_message_count(session),
        .tokens = keep_token_count(session),
        .spill_bytes = session->spill.file.bytes,
        .used_ns = sessions_now(set) - session->used_ns,
        .busy = session->requests > 0,
        .unsaved = session->unsaved,
        .settings = session->settings,
    };
    if (session->held)
        hearth_engine_known(set->engine, history->ids, history->count, &out->kv_bytes);
    for (const struct hearth_request *r = set->requests; r; r = r->next) {
        if (r->session == session && r->state != REQUEST_WAITING)
            out->kv_bytes = hearth_sequence_save_bytes(r->sequence);
    }
}

static bool list_infos(const struct session_list *list,
                       bool (*visit)(void *context, const struct hearth_session_info *info),
                       void *context)
{
    struct hearth_session_info info;
    bool go_on = true;
    for (const struct hearth_session *s = list->first; s && go_on; s = s->next) {
        hearth_session_info(s, &info);
        go_on = visit(context, &info);
    }
    return go_on;
}

void hearth_sessions_list(const struct hearth_sessions *sessions,
                          bool (*visit)(void *context, const struct hearth_session_info *info),
                          void *context)
{
    if (list_infos(&sessions->awake, visit, context))
        list_infos(&sessions->asleep, visit, context);
}

/* All messages as JSON, from the record where it sleeps. `json` is to be freed. */
static int messages_text(const struct hearth_session *session, char **json, struct text *text,
                         struct hearth_error *err)
{
    size_t count;
    *json = NULL;
    if (session->packed.data)
        return record_messages(buffer_text(&session->packed), text, &count, err);
    *json = json_dumps(session->history.messages, JSON_COMPACT | JSON_PRESERVE_ORDER);
    *text = (struct text){*json, *json ? strlen(*json) : 0};
    return *json ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
}

int hearth_session_messages(const struct hearth_session *session, char **text, size_t *size,
                            struct hearth_error *err)
{
    char *json;
    struct text messages;
    int status = messages_text(session, &json, &messages, err);
    char *copy = status ? NULL : mem_alloc(messages.size + 1);
    if (copy) {
        memcpy(copy, messages.data, messages.size);
        copy[messages.size] = '\0';
        *text = copy;
        if (size)
            *size = messages.size;
    } else if (!status) {
        status = error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    }
    free(json);
    return status;
}

void hearth_sessions_state(const struct hearth_sessions *sessions,
                           struct hearth_sessions_state *out)
{
    *out = (struct hearth_sessions_state){.sessions = sessions->count,
                                          .running = sessions->running,
                                          .pressure = (unsigned)sessions->pressure.level};
    for (const struct hearth_request *r = sessions->requests; r; r = r->next) {
        out->sessions -= r->embedding != NULL;
        out->waiting += r->state == REQUEST_WAITING;
        out->paused += r->state == REQUEST_WAITING && r->paused;
    }
    for (const struct hearth_session *s = sessions->awake.first; s; s = s->next)
        out->held += s->held;
    hearth_engine_memory(sessions->engine, &out->memory);
}
