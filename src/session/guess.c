#include "session/guess.h"

#include "session/sessions.h"

/* A set keeps one draft when its request ends, and with it what rows cost on this machine. */
void guess_begin(struct hearth_request *request)
{
    struct hearth_sessions *set = request->session->sessions;
    struct guesses *guesses = &request->guesses;
    const struct history *history = &request->session->history;
    if (!request->speculates)
        return;
    guesses->draft = set->spare_draft;
    set->spare_draft = NULL;
    if (!guesses->draft && hearth_draft_open(NULL, &guesses->draft, NULL))
        return;
    hearth_draft_restart(guesses->draft);
    hearth_draft_counts(guesses->draft, &guesses->before);
    for (size_t i = 0; i < history->count; i++)
        hearth_draft_accept(guesses->draft, history->ids[i]);
}

void guess_end(struct hearth_request *request)
{
    struct hearth_sessions *set = request->session->sessions;
    struct guesses *guesses = &request->guesses;
    struct hearth_draft_counts after;
    if (!guesses->draft)
        return;
    hearth_draft_counts(guesses->draft, &after);
    request->result.drafted = after.drafted - guesses->before.drafted;
    request->result.accepted = after.accepted - guesses->before.accepted;
    if (set->spare_draft)
        hearth_draft_close(guesses->draft);
    else
        set->spare_draft = guesses->draft;
    guesses->draft = NULL;
}

/* How many tokens can follow the history's last id and be of use. */
static size_t room_for(const struct hearth_request *request)
{
    size_t room = request->context_max - request->session->history.count;
    if (request->max_tokens) { /* the last token need not be computed */
        size_t left = request->max_tokens - request->result.answer_tokens - 1;
        room = room < left ? room : left;
    }
    return room < GUESSES_MAX ? room : GUESSES_MAX;
}

void guess_next(struct hearth_request *request, bool alone)
{
    struct guesses *guesses = &request->guesses;
    guesses->first = request->session->history.count;
    guesses->count = 0;
    if (guesses->draft)
        guesses->count =
            hearth_draft_propose(guesses->draft, alone ? room_for(request) : 0, guesses->ids);
}

void guess_check(struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    if (request->guesses.draft)
        hearth_draft_accept(request->guesses.draft, history->ids[history->count - 1]);
}

bool guess_was_right(const struct hearth_request *request)
{
    const struct history *history = &request->session->history;
    const struct guesses *guesses = &request->guesses;
    size_t at = history->count - 1 - guesses->first;
    return at < guesses->count && guesses->ids[at] == history->ids[history->count - 1];
}

void guess_took(struct hearth_request *request, uint64_t ns)
{
    if (request->guesses.draft)
        hearth_draft_took(request->guesses.draft, hearth_sequence_logit_rows(request->sequence),
                          ns);
}
