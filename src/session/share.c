#include "session/share.h"

#include "session/sessions.h"

#define SHARED_MIN 64 /* fewer tokens are computed as fast as they are waited for */

static struct hearth_request *first_of(const struct hearth_request *request)
{
    return request->session->sessions->requests;
}

/* How many tokens a prompt could take from another request. */
static size_t shared_with(const struct hearth_request *request, const struct hearth_request *other)
{
    const struct history *history = &request->session->history;
    if (other == request || other->state == REQUEST_WAITING || other->embedding)
        return 0;
    size_t common = history_common_ids(history, &other->session->history);
    return common < history->count ? common : history->count - 1;
}

void share_begin(struct hearth_request *request)
{
    for (struct hearth_request *r = first_of(request); r; r = r->next) {
        if (shared_with(request, r) >= SHARED_MIN)
            hearth_sequence_remember(r->sequence);
    }
}

void share_find_stem(struct hearth_request *request)
{
    struct hearth_session *session = request->session;
    size_t known = hearth_sequence_length(request->sequence);
    if (session->history.count - known >= SHARED_MIN)
        session->stem = history_stem(
            &session->history, &(struct prompt_setting){request->variables, session->unix_seconds});
}

void share_wait(struct hearth_request *request)
{
    size_t known = hearth_sequence_length(request->sequence);
    request->leader = NULL;
    request->shared = 0;
    for (struct hearth_request *r = first_of(request); r != request; r = r->next) {
        if (r->state != REQUEST_READING || r->leader || (r->background && !request->background))
            continue;
        size_t shared = shared_with(request, r);
        if (shared >= known + SHARED_MIN && shared > request->shared &&
            hearth_sequence_length(r->sequence) < shared) {
            request->leader = r;
            request->shared = shared;
        }
    }
}

/* Takes what another one has put into the prefix cache. */
static void take(struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    size_t reused;
    request->leader = NULL;
    if (!hearth_sequence_reuse(request->sequence, history->ids, history->count - 1, &reused,
                               NULL) &&
        request->result.prompt_ns == 0)
        request->result.cached_tokens = reused;
}

bool share_is_waiting(struct hearth_request *request)
{
    struct hearth_request *leader = request->leader;
    if (!leader)
        return false;
    if (leader->state == REQUEST_READING &&
        hearth_sequence_length(leader->sequence) < request->shared)
        return true;
    if (!request->session->sessions->windowed)
        hearth_sequence_remember(leader->sequence);
    take(request);
    return false;
}

/* Where others want to go on. */
static size_t next_stop(const struct hearth_request *request, size_t from)
{
    size_t stop = request->session->stem > from ? request->session->stem : SIZE_MAX;
    for (const struct hearth_request *r = first_of(request); r; r = r->next) {
        if (r->leader == request && r->shared > from && r->shared < stop)
            stop = r->shared;
    }
    return stop;
}

size_t share_limit(const struct hearth_request *request, size_t from, size_t count)
{
    if (!request->session->sessions->windowed)
        return count;
    size_t stop = next_stop(request, hearth_sequence_length(request->sequence));
    size_t room = stop > from ? stop - from : 0;
    return room < count ? room : count;
}

void share_remember(struct hearth_request *request)
{
    size_t length = hearth_sequence_length(request->sequence);
    if (length > 0 && request->session->sessions->windowed &&
        next_stop(request, length - 1) == length)
        hearth_sequence_remember(request->sequence);
}

void share_end(struct hearth_request *request)
{
    request->leader = NULL;
    for (struct hearth_request *r = first_of(request); r; r = r->next) {
        if (r->leader != request)
            continue;
        take(r);
        share_wait(r); /* of those that waited another one goes ahead */
    }
}
