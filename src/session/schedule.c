/* Requests and their turns: who runs, and what becomes of what a step has computed. */

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "session/embed.h"
#include "session/keep.h"
#include "session/overflow.h"
#include "session/plan.h"
#include "session/relief.h"
#include "session/sessions.h"
#include "session/share.h"
#include "session/tell.h"

/* Of two reasons for a miss the one that cost so many times less is not worth a word. */
#define MISS_SHARE 32

/* ---- what others do to a request ---- */

void hearth_request_cancel(struct hearth_request *request)
{
    atomic_store(&request->cancelled, true);
    hearth_sequence_cancel(request->sequence);
}

/* The step that comes gives its place to others; while it is paused no time passes for it. */
void hearth_request_pause(struct hearth_request *request, bool pause)
{
    if (request->paused == pause)
        return;
    uint64_t now = sessions_now(request->session->sessions), since = request->paused_ns;
    request->paused = pause;
    request->paused_ns = now;
    if (pause || !request->begun)
        return;
    request->begun_ns += now - since;
    if (request->result.prompt_ns > 0)
        request->read_ns += now - since;
}

/* ---- ending ---- */

static void unlink_request(struct hearth_request *request)
{
    struct hearth_request **at = &request->session->sessions->requests;
    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
}

/* Drops guesses that did not become the history's ids: the last of those may be another one than
 * was guessed, the rest stand behind the end. */
static void drop_guesses(struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    size_t last = history->count - 1;
    bool wrong = hearth_sequence_length(request->sequence) > last &&
                 hearth_sequence_ids(request->sequence)[last] != history->ids[last];
    hearth_sequence_truncate(request->sequence, wrong ? last : history->count, NULL);
}

/* How many of the history's ids are computed. */
static size_t computed_ids(const struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    const uint32_t *ids = hearth_sequence_ids(request->sequence);
    size_t n = 0;
    while (n < history->count && n < hearth_sequence_length(request->sequence) &&
           ids[n] == history->ids[n])
        n++;
    return n;
}

/* It no longer runs; what it computed stays in the prefix cache. */
static void put_down(struct hearth_request *request)
{
    struct hearth_session *session = request->session;
    session->sessions->running--;
    if (request->embedding)
        return;
    drop_guesses(request);
    hearth_sequence_remember(request->sequence);
    session->held = true;
    session->computed = computed_ids(request);
    keep_outdate(session, session->computed);
}

/* Its answer stays in the history. */
static void leave_behind(struct hearth_request *request)
{
    struct hearth_session *session = request->session;
    if (request->state != REQUEST_WAITING) {
        put_down(request);
        session->sessions->parked = false; /* what it gives back may be enough for another */
    }
    if (request->embedding || (request->result.stop == HEARTH_STOP_ERROR && !request->overflowed))
        return;
    bool said = session->history.count > request->prompt_count;
    if (said || request->result.stop != HEARTH_STOP_CANCELLED)
        history_end_answer(&session->history, request->prompt_count, buffer_text(&request->text),
                           NULL);
}

/* What it has become, and what is left of it. */
static void make_result(struct hearth_request *request)
{
    struct hearth_session *session = request->session;
    struct hearth_result *result = &request->result;
    if (request->begun) {
        result->ids = session->history.ids;
        result->id_count = session->history.count;
        result->prompt_tokens = request->prompt_count;
        result->dropped_messages = session->history.dropped;
        guess_end(request);
        leave_behind(request);
        result->unsaved = keep_put(session, NULL) != 0;
    }
    result->text = request->text.data ? request->text.data : "";
    result->text_size = request->text.size;
    if (result->stop == HEARTH_STOP_STRING)
        result->stop_string = hearth_stream_stop(request->stream);
}

static void end(struct hearth_request *request, enum hearth_stop stop)
{
    struct hearth_session *session = request->session;
    uint64_t now = sessions_now(session->sessions);
    request->result.stop = stop;
    request->result.queued_ns = (request->begun ? request->begun_ns : now) - request->asked_ns;
    make_result(request);
    unlink_request(request);
    share_end(request);
    if (request->begun && stop != HEARTH_STOP_ERROR && !request->embedding)
        ahead_want(request);
    session->requests--;
    session_touch(session);
    session->opened++; /* on_end may close it */
    if (request->embedding)
        embed_end(request);
    else if (request->on_end)
        request->on_end(request->context, &request->result);
    request_free(request);
    hearth_session_close(session);
}

void schedule_fail(struct hearth_request *request, const struct hearth_error *cause)
{
    request->result.error = *cause;
    end(request, HEARTH_STOP_ERROR);
}

void schedule_end_all(struct hearth_sessions *sessions)
{
    while (sessions->requests) {
        error_set(&sessions->requests->result.error, HEARTH_E_CANCELLED, "the program ends");
        end(sessions->requests, HEARTH_STOP_CANCELLED);
    }
}

/* ---- beginning ---- */

/* Of a prompt's tokens so many have been computed before: of the first of the ids before, `kept`
 * are the same. What is no longer known of may still be there. */
static size_t known_tokens(const struct hearth_session *session,
                           const struct history_prompt *prompt)
{
    if (session->computed == 0)
        return session->lost ? session->history.count - 1 : 0;
    return prompt->kept < session->computed ? prompt->kept : session->computed;
}

/* Why not all of a prompt that could be known was: `reused` of its tokens are still there. */
static enum hearth_miss miss_of(const struct hearth_session *session,
                                const struct history_prompt *prompt, size_t reused)
{
    const struct history *history = &session->history;
    size_t known = known_tokens(session, prompt);
    if (reused + 1 >= history->count)
        return session->computed ? prompt->miss : HEARTH_MISS_NOTHING;
    if (session->computed == 0 && !session->lost)
        return HEARTH_MISS_NEW;
    size_t changed = session->computed > known ? session->computed - known : 0;
    if (reused >= known || changed / MISS_SHARE > known - reused)
        return prompt->miss; /* what has given way is next to nothing beside what changed */
    if (session->lost)
        return session->lost;
    size_t there = hearth_engine_known(session->sessions->engine, history->ids, known, NULL);
    return there >= known ? HEARTH_MISS_WINDOW : HEARTH_MISS_EVICTED;
}

/* Puts the prompt into the history. */
static int begin(struct hearth_request *request, struct history_prompt *prompt,
                 struct hearth_error *err)
{
    const struct history *history = &request->session->history;
    int status = overflow_begin(request, prompt, err);
    if (!status && history->count == 0)
        status =
            error_set(err, HEARTH_E_ARGUMENT, "the prompt is empty: there is nothing to answer");
    for (size_t i = 0; i < history->count && !status; i++)
        status = hearth_sampler_accept(request->sampler, history->ids[i], err);
    keep_outdate(request->session, prompt->kept);
    return status;
}

/* A conversation answers one request after the other. */
bool session_is_busy(const struct hearth_session *session)
{
    for (const struct hearth_request *r = session->sessions->requests; r; r = r->next) {
        if (r->session == session && r->begun)
            return true;
    }
    return false;
}

bool request_is_held_up(const struct hearth_request *request)
{
    bool earlier = true;
    if (request->paused || request->begun)
        return request->paused;
    for (const struct hearth_request *r = request->session->sessions->requests; r; r = r->next) {
        earlier = earlier && r != request;
        if (r->session == request->session && (r->begun || (earlier && r->paused)))
            return true;
    }
    return false;
}

bool schedule_is_idle(const struct hearth_sessions *sessions)
{
    for (const struct hearth_request *r = sessions->requests; r; r = r->next) {
        if (!request_is_held_up(r))
            return false;
    }
    return true;
}

/* The next to begin, or to go on after it was parked: interactive before background, then by
 * arrival. */
static struct hearth_request *next_waiting(const struct hearth_sessions *sessions)
{
    struct hearth_request *next = NULL;
    for (struct hearth_request *r = sessions->requests; r; r = r->next) {
        if (r->state != REQUEST_WAITING || request_is_held_up(r))
            continue;
        if (!next || (next->background && !r->background))
            next = r;
    }
    return next;
}

/* Gives the sequence what is there of the prompt, in memory or in a spill. */
static int reuse(struct hearth_request *request, size_t known, size_t *reused,
                 struct hearth_error *err)
{
    struct hearth_session *session = request->session;
    const struct history *history = &session->history;
    size_t most = history->count - 1;
    int status = hearth_sequence_reuse(request->sequence, history->ids, most, reused, err);
    if (status)
        return status;
    session->sessions->starting = session;
    bool more = keep_restore(session, known < most ? known : most, *reused);
    session->sessions->starting = NULL;
    return more ? hearth_sequence_reuse(request->sequence, history->ids, most, reused, err) : 0;
}

/* Its prompt was compared with what is known: `reused` of its tokens. */
static void note_begin(struct hearth_request *request, const struct history_prompt *prompt,
                       size_t reused)
{
    struct hearth_session *session = request->session;
    request->begun = true;
    request->prompt_count = session->history.count;
    request->result.cached_tokens = reused;
    request->result.miss =
        ahead_covers(session, reused) ? HEARTH_MISS_NOTHING : miss_of(session, prompt, reused);
    ahead_forget(session);
    session->lost = HEARTH_MISS_NOTHING;
    guess_begin(request);
    share_find_stem(request);
}

/* Its text begins to be computed, or does so again after it was parked: nothing of it is kept. */
static void start_embedding(struct hearth_request *request)
{
    struct hearth_sessions *set = request->session->sessions;
    struct hearth_error err;
    if (embed_check(request, &err)) {
        schedule_fail(request, &err);
        return;
    }
    ahead_stop(set);
    if (!request->begun)
        request->begun_ns = sessions_now(set);
    request->begun = true;
    request->state = REQUEST_READING;
    set->running++;
}

/* Begins, or goes on after it was parked, with what is known. */
static void start(struct hearth_request *request)
{
    struct hearth_session *session = request->session;
    struct history_prompt prompt = {0};
    struct hearth_error err = {0};
    size_t reused = 0, known = SIZE_MAX;
    bool begins = !request->begun;
    int status = 0;
    session_touch(session);
    if (begins) {
        request->begun_ns = sessions_now(session->sessions);
        status = begin(request, &prompt, &err);
        known = status ? 0 : known_tokens(session, &prompt);
    }
    ahead_stop(session->sessions);
    if (!status) {
        share_begin(request);
        status = reuse(request, known, &reused, &err);
    }
    if (status) {
        schedule_fail(request, &err);
        return;
    }
    if (begins)
        note_begin(request, &prompt, reused);
    share_wait(request);
    request->state = REQUEST_READING;
    session->sessions->running++;
    if (begins)
        tell_begin(request);
}

/* ---- tokens ---- */

static int show(struct hearth_request *request, const char *text, size_t size,
                struct hearth_error *err)
{
    if (!buffer_append(&request->text, text, size))
        return error_set(err, HEARTH_E_LIMIT, "the answer is too long for the memory");
    if (size > 0 && request->on_text)
        request->on_text(request->context, text, size);
    return 0;
}

static void finish(struct hearth_request *request, enum hearth_stop stop)
{
    const char *text;
    size_t size;
    struct hearth_error err;
    bool held_back = stop != HEARTH_STOP_STRING && !request->embedding;
    if (held_back && !hearth_stream_flush(request->stream, &text, &size, NULL) &&
        show(request, text, size, &err)) {
        schedule_fail(request, &err);
        return;
    }
    if (stop == HEARTH_STOP_CANCELLED)
        error_set(&request->result.error, HEARTH_E_CANCELLED, "cancelled");
    end(request, stop);
}

/* Draws the next id of the history from a row of logits. */
static int sample(struct hearth_request *request, size_t row, uint32_t *id,
                  struct hearth_error *err)
{
    struct hearth_result *result = &request->result;
    const float *logits = hearth_sequence_logits(request->sequence, row);
    int status = hearth_sampler_sample(request->sampler, logits, id, err);
    if (!status)
        status = history_push(&request->session->history, *id, err);
    if (status)
        return status;
    guess_check(request);
    if (request->session->history.count == request->prompt_count + 1)
        result->first_token_ns = sessions_now(request->session->sessions) - request->begun_ns;
    else
        result->decode_tokens++;
    return 0;
}

/* Prompt and answer fill the context. */
static void overflow(struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    struct hearth_error err = {0};
    size_t *cached = &request->result.cached_tokens;
    int status = overflow_answer(request, &err);
    *cached = *cached < request->prompt_count ? *cached : request->prompt_count;
    if (status == HEARTH_E_LIMIT) {
        request->overflowed = true;
        request->result.error = err;
        finish(request, request->session->settings.overflow == HEARTH_OVERFLOW_ERROR
                            ? HEARTH_STOP_ERROR
                            : HEARTH_STOP_CONTEXT);
        return;
    }
    if (!status)
        status =
            hearth_sequence_reuse(request->sequence, history->ids, history->count - 1, NULL, &err);
    if (status) {
        schedule_fail(request, &err);
        return;
    }
    request->guesses.count = 0;
    request->state = REQUEST_READING;
}

/* Draws the next token of an answer; true when the next row may be drawn from. */
static bool draw(struct hearth_request *request, size_t row)
{
    const struct history *history = &request->session->history;
    const struct hearth_sessions *set = request->session->sessions;
    struct hearth_error err = {0};
    const char *text;
    size_t size;
    bool stopped = false;
    uint32_t id;
    int status = sample(request, row, &id, &err);
    bool ends = !status && hearth_is_end(set->model, id);
    if (!status)
        status = tell_token(request, id, row, &err);
    if (!status && !ends) {
        request->result.answer_tokens++;
        status = hearth_stream_push(request->stream, id, &text, &size, &stopped, &err);
        if (!status)
            status = show(request, text, size, &err);
    }
    if (status) {
        schedule_fail(request, &err);
        return false;
    }
    bool full = history->count > request->context_max; /* the last need not be computed */
    bool enough = request->max_tokens && request->result.answer_tokens >= request->max_tokens;
    if (ends || stopped || enough)
        finish(request, ends ? HEARTH_STOP_END : stopped ? HEARTH_STOP_STRING : HEARTH_STOP_LENGTH);
    else if (full)
        overflow(request);
    else
        return true;
    return false;
}

/* Draws from the rows of a step, as long as what is drawn is what the next row was computed for. */
static void draw_rows(struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    size_t computed = hearth_sequence_length(request->sequence);
    size_t first = computed - hearth_sequence_logit_rows(request->sequence);
    bool right = true;
    while (right && history->count <= computed) {
        if (!draw(request, history->count - 1 - first))
            return;
        /* text was shown, and whoever saw it may want no more of it */
        right = guess_was_right(request) && !atomic_load(&request->cancelled) && !request->paused;
    }
    if (!right)
        hearth_sequence_truncate(request->sequence, history->count - 1, NULL);
}

/* ---- a step ---- */

/* Requests whose time is over, or that nobody wants any more. */
static void end_unwanted(struct hearth_sessions *sessions)
{
    struct hearth_request *next;
    uint64_t now = sessions_now(sessions);
    for (struct hearth_request *r = sessions->requests; r; r = next) {
        next = r->next;
        bool late = r->deadline_ns && now >= r->deadline_ns;
        if (late || atomic_load(&r->cancelled)) {
            finish(r, HEARTH_STOP_CANCELLED);
            next = sessions->requests; /* callbacks may have changed the list */
        }
    }
}

/* Who gives way: the youngest of those that run, in the background if there is one. */
static struct hearth_request *last_running(const struct hearth_sessions *sessions)
{
    struct hearth_request *last = NULL;
    for (struct hearth_request *r = sessions->requests; r; r = r->next) {
        if (r->state != REQUEST_WAITING && (!last || r->background || !last->background))
            last = r;
    }
    return last;
}

/* It waits, and goes on later. */
static void park(struct hearth_request *request)
{
    put_down(request);
    request->guesses.count = 0;
    hearth_sequence_truncate(request->sequence, 0, NULL);
    request->state = REQUEST_WAITING;
    share_end(request);
}

/* Those that were paused give up their place. What a step computed that was not looked at is
 * dropped: the last token has to be computed once more for its logits, and a sequence with a window
 * can only go on from where it was remembered. */
static void park_paused(struct hearth_sessions *sessions)
{
    for (struct hearth_request *r = sessions->requests; r; r = r->next) {
        if (!r->paused || r->state == REQUEST_WAITING)
            continue;
        size_t last = r->session->history.count - 1;
        if (hearth_sequence_length(r->sequence) > last)
            hearth_sequence_truncate(r->sequence, last, NULL);
        park(r);
        sessions->parked = false;
    }
}

/* The KV cache is full: one waits until there is room. */
static bool make_room(struct hearth_sessions *sessions)
{
    if (sessions->running < 2)
        return false;
    struct hearth_request *last = last_running(sessions);
    park(last);
    keep_park(last->session);
    sessions->parked = true;
    return true;
}

/* The step computed nothing for it: it ends, or is tried once more where room can be made. */
static void take_failure(struct hearth_request *request, int status, const struct hearth_error *err)
{
    struct hearth_sessions *set = request->session->sessions;
    if (status == HEARTH_E_CANCELLED) {
        finish(request, HEARTH_STOP_CANCELLED);
        return;
    }
    if (status == HEARTH_E_LIMIT || status == HEARTH_E_MEMORY) {
        bool guessed = request->guesses.count > 0;
        request->guesses.count = 0;
        request->state = REQUEST_READING; /* and once more, without guesses */
        if (guessed || make_room(set) || set->together > 1)
            return; /* what the others held in that step is free in the next */
    }
    schedule_fail(request, err);
}

/* What a step left of an answer: the next token, or nothing yet. */
static void take_answer(struct hearth_request *request)
{
    if (request->state == REQUEST_READING)
        share_remember(request);
    if (request->on_progress && request->result.prompt_ns == 0)
        request->on_progress(request->context, hearth_sequence_length(request->sequence),
                             request->prompt_count);
    if (hearth_sequence_logit_rows(request->sequence) == 0)
        return;
    uint64_t now = sessions_now(request->session->sessions);
    if (request->result.prompt_ns == 0) {
        request->read_ns = now;
        request->result.prompt_ns = now - request->begun_ns;
    }
    request->result.answer_ns = now - request->read_ns;
    request->state = REQUEST_ANSWERING;
    draw_rows(request);
}

static void take_up(struct hearth_request *request)
{
    struct hearth_error err = {0};
    int status = hearth_sequence_status(request->sequence, &err);
    if (status)
        take_failure(request, status, &err);
    else if (!request->embedding)
        take_answer(request);
    else if (embed_take(request))
        end(request, HEARTH_STOP_END);
}

/* Callbacks may ask, cancel and close, so the list is looked through from its beginning until a
 * request is found that this step has not been taken up for. */
static void take_up_all(struct hearth_sessions *sessions)
{
    sessions->round++;
    for (struct hearth_request *r = sessions->requests; r;) {
        if (r->state == REQUEST_WAITING || r->paused || r->round == sessions->round) {
            r = r->next;
            continue;
        }
        r->round = sessions->round;
        take_up(r);
        r = sessions->requests;
    }
}

/* The engine gives its working memory back when it was not used for so long. */
static uint64_t rest_engine(struct hearth_sessions *sessions, uint64_t now)
{
    uint64_t since = now - sessions->worked_ns;
    if (sessions->rested || !schedule_is_idle(sessions))
        return HEARTH_IDLE_NEVER;
    if (since < sessions->options.idle_ns)
        return sessions->options.idle_ns - since;
    hearth_sessions_shed(sessions, UINT64_MAX); /* of those that are paused too */
    hearth_engine_rest(sessions->engine);
    hearth_draft_close(sessions->spare_draft);
    sessions->spare_draft = NULL;
    sessions->rested = true;
    return HEARTH_IDLE_NEVER;
}

/* One conversation that was not used for so long gives back what it has; returns how long there is
 * none. One at a time: a request may come meanwhile. */
static uint64_t rest_idle(struct hearth_sessions *sessions)
{
    uint64_t now = sessions_now(sessions), idle = sessions->options.idle_ns;
    if (idle == HEARTH_IDLE_NEVER)
        return HEARTH_IDLE_NEVER;
    struct hearth_session *s = sessions->awake.last;
    while (s && s->requests > 0)
        s = s->previous;
    if (!s)
        return rest_engine(sessions, now);
    if (now - s->used_ns < idle)
        return idle - (now - s->used_ns);
    if (!keep_rest(s))
        session_touch(s); /* no memory to pack it: later, perhaps */
    return 0;
}

static void admit(struct hearth_sessions *sessions)
{
    for (;;) {
        park_paused(sessions); /* also who was paused when it began */
        struct hearth_request *request = sessions->parked ? NULL : next_waiting(sessions);
        if (!request)
            return;
        if (sessions->running >= sessions->options.answers_max) {
            struct hearth_request *last = last_running(sessions);
            if (request->background || !last->background)
                return;
            park(last);
        }
        sessions->parked = sessions->running > 0 && !keep_has_room(request->session);
        if (sessions->parked)
            return;
        if (request->embedding)
            start_embedding(request);
        else
            start(request);
    }
}

/* How long nothing is to be done when a step has found nothing. */
static uint64_t idle_wait(struct hearth_sessions *sessions)
{
    uint64_t wait = relief_wait(sessions, rest_idle(sessions)), now = sessions_now(sessions);
    if (!schedule_is_idle(sessions))
        return 0;
    for (const struct hearth_request *r = sessions->requests; r; r = r->next) {
        uint64_t left = r->deadline_ns > now ? r->deadline_ns - now : 0;
        if (r->deadline_ns && left < wait)
            wait = left;
    }
    return wait;
}

void hearth_sessions_step(struct hearth_sessions *sessions, uint64_t *wait_ns)
{
    end_unwanted(sessions);
    relief_step(sessions);
    admit(sessions);
    struct plan plan = plan_step(sessions);
    bool nothing = plan.answering == 0 && plan.prompt_rows == 0;
    if (nothing && !(schedule_is_idle(sessions) && ahead_step(sessions))) {
        *wait_ns = idle_wait(sessions);
        return;
    }
    *wait_ns = 0;
    if (!nothing) {
        sessions->together = sessions->running;
        keep_make_room(sessions, 0);
        uint64_t begin = sessions_now(sessions);
        hearth_engine_step(sessions->engine, NULL, NULL); /* each sequence says how it went */
        plan_took(sessions, &plan, sessions_now(sessions) - begin);
    }
    sessions->worked_ns = sessions_now(sessions);
    sessions->rested = false;
    if (nothing)
        return;
    take_up_all(sessions);
    rest_idle(sessions);
}
