#include "session/sessions.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"

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
    o->context_max = o->context_max ? o->context_max : hearth_engine_context(engine);
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
    size_t count = sessions->bucket_count ? 2 * sessions->bucket_count : 64;
    struct hearth_session **buckets = mem_zalloc_array(count, sizeof(struct hearth_session *));
    if (!buckets)
        return false;
    mem_free(sessions->buckets);
    sessions->buckets = buckets;
    sessions->bucket_count = count;
    for (struct hearth_session *s = sessions->first; s; s = s->next) {
        if (s->key && !s->removed)
            add_key(s);
    }
    return true;
}

/* ---- the list of conversations ---- */

static void list_add(struct hearth_session *session)
{
    struct hearth_sessions *set = session->sessions;
    session->previous = NULL;
    session->next = set->first;
    *(set->first ? &set->first->previous : &set->last) = session;
    set->first = session;
    set->count++;
}

static void list_remove(struct hearth_session *session)
{
    struct hearth_sessions *set = session->sessions;
    *(session->previous ? &session->previous->next : &set->first) = session->next;
    *(session->next ? &session->next->previous : &set->last) = session->previous;
    set->count--;
}

void session_touch(struct hearth_session *session)
{
    session->used_ns = sessions_now(session->sessions);
    list_remove(session);
    list_add(session);
}

static size_t common_ids(const struct history *a, const struct history *b)
{
    size_t n = 0;
    while (n < a->count && n < b->count && a->ids[n] == b->ids[n])
        n++;
    return n;
}

void session_forget(struct hearth_session *session)
{
    const struct history *history = &session->history;
    size_t kept = 0;
    for (const struct hearth_session *s = session->sessions->first; s; s = s->next) {
        size_t common = s->held && s != session ? common_ids(&s->history, history) : 0;
        kept = common > kept ? common : kept;
    }
    hearth_engine_forget(session->sessions->engine, history->ids, kept, history->count);
    session->held = false;
}

static void drop(struct hearth_session *session)
{
    list_remove(session);
    if (session->key && !session->removed)
        remove_key(session);
    session_forget(session);
    history_finish(&session->history);
    mem_free(session->key);
    mem_free(session);
}

void session_drop_if_done(struct hearth_session *session)
{
    bool wanted = session->key && !session->removed;
    if (session->opened == 0 && session->requests == 0 && !wanted)
        drop(session);
}

void hearth_sessions_close(struct hearth_sessions *sessions)
{
    if (!sessions)
        return;
    schedule_end_all(sessions);
    while (sessions->first)
        drop(sessions->first);
    hearth_draft_close(sessions->spare_draft);
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

static int add_session(struct hearth_sessions *sessions, const char *key,
                       struct hearth_session **out, struct hearth_error *err)
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
    if (key) {
        memcpy(session->key, key, strlen(key) + 1);
        add_key(session);
    }
    session->opened = 1;
    session->used_ns = sessions_now(sessions);
    session->unix_seconds =
        sessions->options.unix_seconds ? sessions->options.unix_seconds : os_unix_seconds();
    list_add(session);
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
        return add_session(sessions, key, out, err);
    known->opened++;
    *out = known;
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

static int check_quiet(const struct hearth_session *session, struct hearth_error *err)
{
    if (session->requests > 0)
        return error_set(err, HEARTH_E_STATE, "the conversation is being answered");
    return 0;
}

int hearth_session_remove(struct hearth_session *session, struct hearth_error *err)
{
    int status = check_quiet(session, err);
    if (!status && session->key && !session->removed)
        remove_key(session);
    return status;
}

int hearth_session_append(struct hearth_session *session, const char *message, size_t size,
                          struct hearth_error *err)
{
    int status = check_quiet(session, err);
    return status ? status : history_append(&session->history, message, size, err);
}

int hearth_session_set_messages(struct hearth_session *session, const char *messages, size_t size,
                                struct hearth_error *err)
{
    int status = check_quiet(session, err);
    return status ? status : history_set(&session->history, messages, size, err);
}

int hearth_session_truncate(struct hearth_session *session, size_t count, struct hearth_error *err)
{
    int status = check_quiet(session, err);
    if (!status)
        history_truncate(&session->history, count);
    return status;
}

int hearth_session_fork(struct hearth_session *session, size_t count, const char *key,
                        struct hearth_session **out, struct hearth_error *err)
{
    struct hearth_session *fork;
    int status = check_quiet(session, err);
    if (!status && key)
        status = check_key(key, err);
    if (!status && key && find(session->sessions, key))
        status = error_set(err, HEARTH_E_STATE, "there is a conversation \"%s\"", key);
    if (!status)
        status = add_session(session->sessions, key, &fork, err);
    if (status)
        return status;
    status = history_copy(&fork->history, &session->history, err);
    if (status) {
        drop(fork);
        return status;
    }
    history_truncate(&fork->history, count);
    fork->computed = session->computed;
    fork->held = session->held;
    fork->settings = session->settings;
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
    int status = check_quiet(session, err);
    if (status)
        return status;
    session->settings = *settings;
    history_set_plain(&session->history, settings->plain);
    return 0;
}

size_t hearth_session_count(const struct hearth_session *session)
{
    return json_array_size(session->history.messages);
}

int hearth_session_messages(const struct hearth_session *session, char **text, size_t *size,
                            struct hearth_error *err)
{
    char *json = json_dumps(session->history.messages, JSON_COMPACT | JSON_PRESERVE_ORDER);
    size_t length = json ? strlen(json) : 0;
    char *copy = json ? mem_alloc(length + 1) : NULL;
    if (copy) {
        memcpy(copy, json, length + 1);
        *text = copy;
        if (size)
            *size = length;
    }
    free(json);
    return copy ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
}

void hearth_sessions_state(const struct hearth_sessions *sessions,
                           struct hearth_sessions_state *out)
{
    *out =
        (struct hearth_sessions_state){.sessions = sessions->count, .running = sessions->running};
    for (const struct hearth_request *r = sessions->requests; r; r = r->next)
        out->waiting += r->state == REQUEST_WAITING;
    for (const struct hearth_session *s = sessions->first; s; s = s->next)
        out->held += s->held;
    hearth_engine_memory(sessions->engine, &out->memory);
}
