#include "session/keep.h"

#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "session/record.h"
#include "session/spill.h"

#define RECORD_BYTES_MAX ((size_t)1 << 32)

/* Reading a token back takes about so much less than computing it (3B, 61 KB of KV a token:
 * 0.05 ms against 4). */
#define RESTORE_GAIN 64

bool keep_is_stored(const struct hearth_session *session)
{
    return session->sessions->options.store && session->key && !session->removed &&
           session->settings.keep != HEARTH_KEEP_NEVER;
}

/* ---- records ---- */

static int pack(const struct hearth_session *session, struct buffer *out, struct hearth_error *err)
{
    const struct history *history = &session->history;
    const struct record record = {
        .unix_seconds = session->unix_seconds,
        .computed = session->computed < history->count ? session->computed : history->count,
        .settings = session->settings,
    };
    buffer_init(out, RECORD_BYTES_MAX);
    return record_pack(&record, history, session->sessions->identity, out, err);
}

static int unpack(struct hearth_session *session, struct text packed, struct hearth_error *err)
{
    const struct hearth_sessions *set = session->sessions;
    struct history history;
    struct record record;
    int status = history_init(&history, set->model, err);
    if (!status)
        status = record_unpack(packed, set->identity, &record, &history, err);
    if (status) {
        history_finish(&history);
        return status;
    }
    history_finish(&session->history);
    session->history = history;
    session->unix_seconds = record.unix_seconds;
    session->settings = record.settings;
    session->computed = record.computed;
    if (record.lost != HEARTH_MISS_NOTHING)
        session->lost = record.lost;
    return 0;
}

int keep_get(struct hearth_session *session, struct hearth_error *err)
{
    struct hearth_store *store = session->sessions->options.store;
    struct buffer record;
    if (!store)
        return HEARTH_E_MISSING;
    buffer_init(&record, RECORD_BYTES_MAX);
    int status = store->calls->get(store, session->key, &record, err);
    if (!status)
        status = unpack(session, buffer_text(&record), err);
    buffer_finish(&record);
    if (status && status != HEARTH_E_MISSING)
        error_prefix(err, status, "conversation \"%s\"", session->key);
    session->spill.stored = !status;  /* perhaps */
    session->spill.common = SIZE_MAX; /* not known before it is read */
    return status;
}

/* Of a conversation that sleeps, its record; else one that is made and is the caller's. */
static int record_of(const struct hearth_session *session, struct buffer *made, struct text *record,
                     struct hearth_error *err)
{
    buffer_init(made, RECORD_BYTES_MAX);
    int status = session->packed.data ? 0 : pack(session, made, err);
    *record = buffer_text(session->packed.data ? &session->packed : made);
    return status;
}

int keep_put(struct hearth_session *session, struct hearth_error *err)
{
    struct hearth_store *store = session->sessions->options.store;
    struct buffer made;
    struct text record;
    if (!keep_is_stored(session))
        return 0;
    int status = record_of(session, &made, &record, err);
    const struct store_summary summary = {
        .model = session->sessions->identity,
        .model_name = session->sessions->model_name,
        .messages = keep_message_count(session),
        .tokens = keep_token_count(session),
        .used_unix = os_unix_seconds(),
    };
    if (!status)
        status = store->calls->put(store, session->key, record, &summary, err);
    buffer_finish(&made);
    session->unsaved = status != 0;
    return status;
}

int keep_remove(struct hearth_session *session, struct hearth_error *err)
{
    struct hearth_store *store = session->sessions->options.store;
    if (!keep_is_stored(session))
        return 0;
    int status = store->calls->remove(store, session->key, err);
    if (status && status != HEARTH_E_MISSING)
        return status;
    session->unsaved = session->spill.stored = false;
    keep_finish(session);
    return 0;
}

/* ---- sleeping ---- */

size_t keep_message_count(const struct hearth_session *session)
{
    return session->packed.data ? session->message_count
                                : json_array_size(session->history.messages);
}

size_t keep_token_count(const struct hearth_session *session)
{
    return session->packed.data ? session->token_count : session->history.count;
}

int keep_wake(struct hearth_session *session, struct hearth_error *err)
{
    if (session->packed.data) {
        int status = unpack(session, buffer_text(&session->packed), err);
        if (status)
            return status;
        buffer_finish(&session->packed);
    }
    session_set_awake(session, true);
    return 0;
}

/* The history becomes bytes; false where there is no memory for them. */
static bool fall_asleep(struct hearth_session *session)
{
    struct buffer packed;
    if (pack(session, &packed, NULL)) {
        buffer_finish(&packed);
        return false;
    }
    char *exact = mem_realloc_array(packed.data, packed.size + 1, 1);
    packed.data = exact ? exact : packed.data;
    packed.capacity = exact ? packed.size + 1 : packed.capacity;
    session->message_count = keep_message_count(session);
    session->token_count = keep_token_count(session);
    session->packed = packed;
    history_finish(&session->history);
    session_set_awake(session, false);
    return true;
}

bool keep_rest(struct hearth_session *session)
{
    if (session->held)
        keep_spill(session);
    if (session->unsaved)
        keep_put(session, NULL);
    if (session->opened == 0 && keep_is_stored(session) && !session->unsaved) {
        session_drop(session);
        return true;
    }
    return session->packed.data || fall_asleep(session);
}

/* ---- spills ---- */

static bool may_spill(const struct hearth_session *session)
{
    return session->sessions->options.store && session->settings.keep != HEARTH_KEEP_NEVER;
}

void keep_finish(struct hearth_session *session)
{
    struct session_spill *spill = &session->spill;
    if (spill->fd >= 0)
        os_file_close(spill->fd);
    *spill = (struct session_spill){.fd = -1, .stored = spill->stored};
}

void keep_outdate(struct hearth_session *session, size_t common)
{
    session->spill.fresh = false;
    if (common < session->spill.common)
        session->spill.common = common;
}

/* Writes it and gives it to the store, or keeps the file where it has no key there. One that holds
 * more of the history than the cache does stays. */
static void write_spill(struct hearth_session *session)
{
    const struct hearth_sessions *set = session->sessions;
    const struct history *history = &session->history;
    struct hearth_store *store = set->options.store;
    struct session_spill *spill = &session->spill;
    struct store_spill file;
    bool any = spill->fd >= 0 || spill->stored, stored = keep_is_stored(session);
    int fd;
    if (stored && session->unsaved && keep_put(session, NULL))
        return;
    if (spill_write(&set->spiller, history->ids, history->count, any ? spill->common + 1 : 1, &fd,
                    &file))
        return;
    if (stored && store->calls->spill_keep(store, session->key, fd, &file, NULL))
        return;
    keep_finish(session);
    spill->file = file;
    spill->fd = stored ? -1 : fd;
    spill->stored = stored;
    spill->common = (size_t)file.tokens;
    spill->fresh = true;
}

uint64_t keep_spill(struct hearth_session *session)
{
    if (may_spill(session) && !session->spill.fresh)
        write_spill(session);
    return session_forget(session, 0);
}

void keep_park(struct hearth_session *session)
{
    session->spill.fresh = false;
    if (may_spill(session))
        write_spill(session);
    if (session->spill.fresh)
        session_forget(session, 0);
}

/* A descriptor of its spill; `own`: it stays the conversation's. */
static int open_spill(struct hearth_session *session, int *fd, bool *own)
{
    struct hearth_store *store = session->sessions->options.store;
    struct session_spill *spill = &session->spill;
    *own = spill->fd >= 0;
    *fd = spill->fd;
    if (*own)
        return 0;
    if (!spill->stored || !keep_is_stored(session))
        return HEARTH_E_MISSING;
    int status = store->calls->spill_open(store, session->key, fd, &spill->file, NULL);
    if (status == HEARTH_E_MISSING)
        spill->stored = spill->fresh = false;
    return status;
}

static void drop_spill(struct hearth_session *session)
{
    struct hearth_store *store = session->sessions->options.store;
    if (session->spill.stored && keep_is_stored(session))
        store->calls->spill_drop(store, session->key);
    session->spill.stored = false;
    keep_finish(session);
}

/* Reads it where that pays. */
static int read_spill(struct hearth_session *session, int fd, size_t known, size_t held)
{
    struct hearth_sessions *set = session->sessions;
    uint64_t tokens = session->spill.file.tokens, gain = known < tokens ? known : tokens;
    if (gain <= held || (gain - held) * RESTORE_GAIN < tokens)
        return HEARTH_E_STATE;
    keep_make_room(set, tokens);
    return spill_read(&set->spiller, fd, &session->spill.file);
}

bool keep_restore(struct hearth_session *session, size_t known, size_t held)
{
    bool own;
    int fd;
    if (held >= known || !may_spill(session))
        return false;
    int status = open_spill(session, &fd, &own);
    if (!status) {
        status = read_spill(session, fd, known, held);
        if (!own)
            os_file_close(fd);
    }
    if (status == HEARTH_E_FORMAT || status == HEARTH_E_UNSUPPORTED) {
        session->lost = status == HEARTH_E_FORMAT ? HEARTH_MISS_DAMAGED : HEARTH_MISS_MODEL;
        drop_spill(session);
    }
    if (status)
        return false;
    uint64_t tokens = session->spill.file.tokens;
    session->spill.common = known < tokens ? known : (size_t)tokens;
    session->held = true;
    return true;
}

/* ---- room ---- */

/* Whether no answer of it was begun, but for one that is paused. */
static bool only_waits(const struct hearth_session *session)
{
    for (const struct hearth_request *r = session->sessions->requests; r; r = r->next) {
        if (r->session == session && r->begun)
            return r->paused && r->state == REQUEST_WAITING;
    }
    return true;
}

/* Spills conversations, the least recently used first; `waiting`: also those that wait. */
static uint64_t shed(struct hearth_sessions *sessions, uint64_t bytes, bool waiting)
{
    uint64_t freed = 0;
    for (struct hearth_session *s = sessions->awake.last; s && freed < bytes; s = s->previous) {
        bool free = s->requests == 0 || (waiting && s != sessions->starting && only_waits(s));
        if (s->held && free)
            freed += keep_spill(s);
    }
    return freed;
}

uint64_t hearth_sessions_shed(struct hearth_sessions *sessions, uint64_t bytes)
{
    uint64_t freed = shed(sessions, bytes, false);
    if (freed < bytes)
        freed += shed(sessions, bytes - freed, true);
    if (freed < bytes)
        freed += hearth_engine_trim(sessions->engine, bytes - freed);
    return freed;
}

void keep_make_room(struct hearth_sessions *sessions, uint64_t tokens)
{
    uint64_t lacking = hearth_engine_kv_lacking(sessions->engine, tokens);
    if (lacking > 0 && sessions->options.store)
        hearth_sessions_shed(sessions, lacking);
}

bool keep_has_room(struct hearth_session *session)
{
    struct hearth_sessions *set = session->sessions;
    const struct history *history = &session->history;
    size_t tokens = session_is_busy(session) ? history->count : session->computed, held = 0;
    if (!may_spill(session))
        return true;
    if (session->held)
        held = hearth_engine_known(set->engine, history->ids, history->count, NULL);
    tokens -= held < tokens ? held : tokens;
    set->starting = session;
    keep_make_room(set, tokens);
    set->starting = NULL;
    return hearth_engine_kv_lacking(set->engine, tokens) == 0;
}

static void keep_list(struct session_list list)
{
    for (struct hearth_session *s = list.last; s; s = s->previous) {
        if (!keep_is_stored(s))
            continue;
        if (s->unsaved)
            keep_put(s, NULL);
        if (s->held)
            keep_spill(s);
    }
}

void keep_all(struct hearth_sessions *sessions)
{
    keep_list(sessions->awake);
    keep_list(sessions->asleep);
}
