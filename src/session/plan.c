#include "session/plan.h"

#include "session/embed.h"
#include "session/sessions.h"
#include "session/share.h"

#define PROMPT_ROWS_MAX 256 /* in a step: more would cost memory, and not be faster */
#define PROMPT_ROWS_MIN 8   /* beside answers, whatever the clock says */
#define ROWS_TO_LEARN 64    /* fewer say little of what a row costs */
#define MIXED_STEPS_MAX 64  /* then a step without prompts measures again */

/* ---- pace ---- */

static uint64_t *step_of(struct pace *pace, size_t answering)
{
    return &pace->step_ns[answering < PACE_ANSWERS ? answering : PACE_ANSWERS];
}

/* How many rows of prompts may stand beside so many answers; 0: a step without them has to be
 * measured first. */
static size_t rows_beside(struct pace *pace, size_t answering)
{
    uint64_t step = *step_of(pace, answering);
    if (step == 0 || pace->mixed >= MIXED_STEPS_MAX)
        return 0;
    uint64_t rows = pace->row_ns ? step / pace->row_ns : PROMPT_ROWS_MIN;
    return rows < PROMPT_ROWS_MIN   ? PROMPT_ROWS_MIN
           : rows > PROMPT_ROWS_MAX ? PROMPT_ROWS_MAX
                                    : (size_t)rows;
}

/* Smoothed over the last few. */
static void learn(uint64_t *average, uint64_t ns)
{
    *average = *average ? (3 * *average + ns) / 4 : ns;
}

static void learn_pace(struct pace *pace, const struct plan *plan, uint64_t ns)
{
    uint64_t *step = step_of(pace, plan->answering);
    if (plan->prompt_rows == 0) {
        pace->mixed = 0;
        if (plan->guesses == 0)
            learn(step, ns);
    } else if (plan->answering > 0) {
        pace->mixed++;
        if (plan->guesses == 0 && ns > *step)
            learn(&pace->row_ns, (ns - *step) / plan->prompt_rows);
    } else if (plan->prompt_rows >= ROWS_TO_LEARN || pace->row_ns == 0) {
        learn(&pace->row_ns, ns / plan->prompt_rows);
    }
}

void plan_took(struct hearth_sessions *sessions, const struct plan *plan, uint64_t ns)
{
    learn_pace(&sessions->pace, plan, ns);
    if (plan->answering != 1 || plan->prompt_rows > 0)
        return;
    for (struct hearth_request *r = sessions->requests; r; r = r->next) {
        if (r->state == REQUEST_ANSWERING)
            guess_took(r, ns);
    }
}

/* ---- what is queued ---- */

/* Tokens that the sequence holds or has queued. Behind those of the history there may be guesses.
 */
static size_t given(const struct hearth_request *request)
{
    return hearth_sequence_length(request->sequence) + hearth_sequence_pending(request->sequence);
}

static int extend(struct hearth_request *request, const uint32_t *ids, size_t count,
                  enum hearth_logits logits, struct hearth_error *err)
{
    int status = hearth_sequence_extend(request->sequence, ids, count, logits, err);
    /* extending cleared the mark of a cancel that came before */
    if (atomic_load(&request->cancelled))
        hearth_sequence_cancel(request->sequence);
    return status;
}

/* Queues the next ids of a prompt, so that `rows` more are, as far as there are; *queued becomes
 * how many. False: the request failed, and is gone. */
static bool give_prompt(struct hearth_request *request, size_t rows, size_t *queued)
{
    const struct history *history = &request->session->history;
    size_t from = given(request), left = history->count - from;
    size_t count = share_limit(request, from, left < rows ? left : rows);
    struct hearth_error err;
    enum hearth_logits logits = count == left ? HEARTH_LOGITS_LAST : HEARTH_LOGITS_NONE;
    if (request->embedding)
        logits = embed_states(request->embedding, count == left);
    *queued = count;
    if (count > 0 && extend(request, history->ids + from, count, logits, &err)) {
        schedule_fail(request, &err);
        return false;
    }
    return true;
}

/* Queues the last token of an answer, and guesses of what follows. */
static bool give_answer(struct hearth_request *request, bool alone)
{
    const struct history *history = &request->session->history;
    const struct guesses *guesses = &request->guesses;
    struct hearth_error err;
    guess_next(request, alone);
    if (extend(request, history->ids + history->count - 1, 1, HEARTH_LOGITS_ALL, &err) ||
        (guesses->count > 0 &&
         extend(request, guesses->ids, guesses->count, HEARTH_LOGITS_ALL, &err))) {
        schedule_fail(request, &err);
        return false;
    }
    return true;
}

/* ---- the plan ---- */

/* Who takes part in a step. Prompts in the background wait until no other is read. */
struct parts {
    size_t answering, pressing; /* answers; those that prompts must not hold up */
    size_t reading, queued;     /* prompts; tokens of them that the last step left */
    bool background;            /* the prompts are */
};

static bool reads(const struct hearth_request *request, bool background)
{
    return request->state == REQUEST_READING && !request->leader &&
           request->background == background;
}

static struct parts count_parts(const struct hearth_sessions *sessions)
{
    struct parts parts = {.background = true};
    for (struct hearth_request *r = sessions->requests; r; r = r->next) {
        if (r->state == REQUEST_READING && !share_is_waiting(r))
            parts.background = parts.background && r->background;
    }
    for (const struct hearth_request *r = sessions->requests; r; r = r->next) {
        bool answers = r->state == REQUEST_ANSWERING;
        parts.answering += answers;
        parts.pressing += answers && (parts.background || !r->background);
        if (!reads(r, parts.background))
            continue;
        parts.reading++;
        parts.queued += hearth_sequence_pending(r->sequence);
    }
    return parts;
}

static size_t give_answers(struct hearth_sessions *sessions, bool alone)
{
    size_t guesses = 0;
    for (struct hearth_request *r = sessions->requests; r;) {
        if (r->state != REQUEST_ANSWERING || given(r) >= r->session->history.count) {
            r = r->next;
        } else if (give_answer(r, alone)) {
            guesses += r->guesses.count;
            r = r->next;
        } else { /* callbacks may have changed the list */
            r = sessions->requests;
        }
    }
    return guesses;
}

/* Gives each prompt up to `share` of `rows`; returns what is left of them. */
static size_t give_prompts(struct hearth_sessions *sessions, bool background, size_t share,
                           size_t rows)
{
    struct hearth_request *r = sessions->requests;
    while (r && rows > 0) {
        size_t queued;
        if (!reads(r, background)) {
            r = r->next;
        } else if (give_prompt(r, share < rows ? share : rows, &queued)) {
            rows -= queued;
            r = r->next;
        } else { /* callbacks may have changed the list; others may get a second share */
            r = sessions->requests;
        }
    }
    return rows;
}

struct plan plan_step(struct hearth_sessions *sessions)
{
    struct parts parts = count_parts(sessions);
    struct plan plan = {.answering = parts.answering};
    size_t rows = parts.reading == 0    ? 0
                  : parts.pressing == 0 ? PROMPT_ROWS_MAX
                                        : rows_beside(&sessions->pace, parts.answering);
    bool measures = parts.reading > 0 && rows == 0;
    plan.guesses = give_answers(sessions, parts.answering == 1 && !measures);
    size_t left = rows > parts.queued ? rows - parts.queued : 0;
    plan.prompt_rows = parts.queued + left;
    if (left > 0)
        left = give_prompts(sessions, parts.background, (left + parts.reading - 1) / parts.reading,
                            left);
    plan.prompt_rows -= give_prompts(sessions, parts.background, left, left);
    return plan;
}
