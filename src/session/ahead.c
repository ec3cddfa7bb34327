#include "session/ahead.h"

#include <assert.h>

#include "base/memory.h"
#include "session/sessions.h"

#define AHEAD_MIN 32      /* fewer tokens are soon computed when they are needed */
#define STEP_NS 50000000u /* a request that comes meanwhile waits so long at most */
#define STEP_ROWS_MAX 64
#define STEP_ROWS_MIN 8

void ahead_want(struct hearth_request *request)
{
    struct session_ahead *ahead = &request->session->ahead;
    assert(!ahead->ids); /* they were forgotten when the request began */
    json_decref(ahead->variables);
    ahead->variables = json_incref(request->variables);
    ahead->wanted = true;
}

void ahead_stop(struct hearth_sessions *sessions)
{
    if (!sessions->ahead_sequence)
        return;
    hearth_sequence_remember(sessions->ahead_sequence);
    hearth_sequence_close(sessions->ahead_sequence);
    sessions->ahead_sequence = NULL;
}

void ahead_forget(struct hearth_session *session)
{
    struct session_ahead *ahead = &session->ahead;
    struct hearth_sessions *set = session->sessions;
    if (set->ahead == session) {
        ahead_stop(set);
        set->ahead = NULL;
    }
    if (ahead->ids) {
        struct history own = {.ids = ahead->ids, .count = ahead->count};
        size_t kept = history_common_ids(&own, &session->history);
        for (const struct hearth_session *s = set->awake.first; s; s = s->next) {
            size_t common = s->held ? history_common_ids(&own, &s->history) : 0;
            kept = common > kept ? common : kept;
        }
        hearth_engine_forget(set->engine, ahead->ids, kept, ahead->count);
    }
    mem_free(ahead->ids);
    json_decref(ahead->variables);
    *ahead = (struct session_ahead){0};
}

bool ahead_covers(const struct hearth_session *session, size_t reused)
{
    const struct session_ahead *ahead = &session->ahead;
    const struct history own = {.ids = ahead->ids, .count = ahead->count};
    return ahead->ids && reused >= ahead->count &&
           history_common_ids(&own, &session->history) == ahead->count;
}

/* Looks at what is known of an answer; true where there is something to compute. */
static bool look(struct hearth_session *session)
{
    struct session_ahead *ahead = &session->ahead;
    const struct prompt_setting setting = {ahead->variables, session->unix_seconds};
    ahead->wanted = false;
    if (session->held && !history_ahead(&session->history, &setting, &ahead->ids, &ahead->count)) {
        size_t known =
            hearth_engine_known(session->sessions->engine, ahead->ids, ahead->count, NULL);
        if (ahead->count >= known + AHEAD_MIN &&
            ahead->count <= sessions_context(session->sessions))
            return true;
    }
    mem_free(ahead->ids);
    json_decref(ahead->variables);
    *ahead = (struct session_ahead){0};
    return false;
}

static struct hearth_session *find(const struct hearth_sessions *sessions)
{
    for (struct hearth_session *s = sessions->awake.first; s; s = s->next) {
        if (s->ahead.wanted && look(s))
            return s;
    }
    return NULL;
}

/* A sequence that goes on from what is known. */
static int begin(struct hearth_sessions *sessions)
{
    const struct session_ahead *ahead = &sessions->ahead->ahead;
    int status = hearth_sequence_open(sessions->engine, sessions_context(sessions),
                                      &sessions->ahead_sequence, NULL);
    if (!status)
        status =
            hearth_sequence_reuse(sessions->ahead_sequence, ahead->ids, ahead->count, NULL, NULL);
    return status;
}

static int compute(struct hearth_sessions *sessions)
{
    const struct session_ahead *ahead = &sessions->ahead->ahead;
    struct hearth_sequence *sequence = sessions->ahead_sequence;
    uint64_t rows = sessions->pace.row_ns ? STEP_NS / sessions->pace.row_ns : STEP_ROWS_MAX;
    size_t from = hearth_sequence_length(sequence), left = ahead->count - from;
    rows = rows < STEP_ROWS_MIN ? STEP_ROWS_MIN : rows > STEP_ROWS_MAX ? STEP_ROWS_MAX : rows;
    int status = hearth_sequence_extend(sequence, ahead->ids + from, left < rows ? left : rows,
                                        HEARTH_LOGITS_NONE, NULL);
    while (!status && hearth_sequence_pending(sequence) > 0) {
        hearth_engine_step(sessions->engine, NULL, NULL);
        status = hearth_sequence_status(sequence, NULL);
    }
    return status;
}

bool ahead_step(struct hearth_sessions *sessions)
{
    if (!sessions->ahead)
        sessions->ahead = find(sessions);
    if (!sessions->ahead)
        return false;
    int status = sessions->ahead_sequence ? 0 : begin(sessions);
    if (!status && hearth_sequence_length(sessions->ahead_sequence) < sessions->ahead->ahead.count)
        status = compute(sessions);
    if (status ||
        hearth_sequence_length(sessions->ahead_sequence) == sessions->ahead->ahead.count) {
        ahead_stop(sessions); /* done, or there is no room */
        sessions->ahead = NULL;
    }
    return true;
}
