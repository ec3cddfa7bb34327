#include "session/overflow.h"

#include <string.h>

#include "base/memory.h"
#include "session/keep.h"
#include "session/sessions.h"

static size_t context_of(const struct hearth_request *request)
{
    return request->context_max;
}

static bool drops(const struct hearth_request *request)
{
    return request->session->settings.overflow == HEARTH_OVERFLOW_DROP;
}

static size_t wanted_tokens(const struct hearth_request *request)
{
    return context_of(request) - context_of(request) / 4;
}

/* Beyond so many tokens a prompt leaves no room for an answer that is worth to begin with. */
static size_t prompt_max(const struct hearth_request *request)
{
    size_t context = context_of(request), room = context / 16;
    return context -
           (request->max_tokens && request->max_tokens < room ? request->max_tokens : room);
}

static int render(struct hearth_request *request, struct history_prompt *prompt,
                  struct hearth_error *err)
{
    return history_begin_answer(&request->session->history, request->variables,
                                request->session->unix_seconds, prompt, err);
}

/* The prompt once more, with other turns left out. What was held before counts: the ids between
 * were never computed. */
static int render_again(struct hearth_request *request, struct history_prompt *prompt,
                        struct hearth_error *err)
{
    struct history_prompt other = {0};
    int status = render(request, &other, err);
    if (status)
        return status;
    if (other.kept < prompt->kept)
        *prompt = (struct history_prompt){.kept = other.kept, .miss = HEARTH_MISS_DROPPED};
    return 0;
}

static int drop(struct hearth_request *request, size_t wanted, struct hearth_error *err)
{
    return history_drop(&request->session->history, request->variables,
                        request->session->unix_seconds, wanted, err);
}

int overflow_begin(struct hearth_request *request, struct history_prompt *prompt,
                   struct hearth_error *err)
{
    struct history *history = &request->session->history;
    size_t context = context_of(request);
    if (!drops(request))
        history->dropped = 0;
    bool shorter = history->edited && history->dropped > 0;
    int status = render(request, prompt, err);
    if (!status && shorter && history->count < context / 2) {
        history->dropped = 0; /* there may be room for all again */
        status = render_again(request, prompt, err);
    }
    if (!status && drops(request) && history->count > prompt_max(request)) {
        status = drop(request, wanted_tokens(request), err);
        if (status == HEARTH_E_LIMIT)
            status = 0; /* the last turn alone: it may still fit */
        else if (!status)
            status = render_again(request, prompt, err);
    }
    if (!status && history->count > context)
        status =
            error_set(err, HEARTH_E_LIMIT, "the conversation has %zu tokens, the context holds %zu",
                      history->count, context);
    return status;
}

static int push_all(struct history *history, const uint32_t *ids, size_t count,
                    struct hearth_error *err)
{
    int status = 0;
    for (size_t i = 0; i < count && !status; i++)
        status = history_push(history, ids[i], err);
    return status;
}

/* Puts a prompt of fewer turns before the answer's ids. */
static int replace_prompt(struct hearth_request *request, const uint32_t *answer, size_t count,
                          struct hearth_error *err)
{
    struct history *history = &request->session->history;
    struct history_prompt prompt = {0};
    int status = render(request, &prompt, err);
    if (status)
        return status;
    request->prompt_count = history->count;
    keep_outdate(request->session, prompt.kept);
    return push_all(history, answer, count, err);
}

int overflow_answer(struct hearth_request *request, struct hearth_error *err)
{
    const struct history *history = &request->session->history;
    size_t context = context_of(request), wanted = wanted_tokens(request);
    size_t count = history->count - request->prompt_count;
    int status = HEARTH_E_LIMIT;
    if (drops(request))
        status = drop(request, wanted > count ? wanted - count : 0, err);
    if (!status) {
        uint32_t *answer = mem_alloc_array(count, sizeof *answer);
        if (!answer)
            return error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", count);
        memcpy(answer, history->ids + request->prompt_count, count * sizeof *answer);
        status = replace_prompt(request, answer, count, err);
        mem_free(answer);
    }
    if (status == HEARTH_E_LIMIT || (!status && history->count > prompt_max(request)))
        return error_set(err, HEARTH_E_LIMIT,
                         "the answer has reached the limit: %zu tokens of the prompt and %zu of "
                         "the answer fill the context of %zu",
                         request->prompt_count, count, context);
    return status;
}
