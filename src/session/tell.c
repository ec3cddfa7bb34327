#include "session/tell.h"

#include "base/memory.h"
#include "session/sessions.h"

#define TOLD_MAX (1 + HEARTH_TOP_TOKENS_MAX)

void tell_begin(struct hearth_request *request)
{
    const struct buffer *held = &request->session->history.held;
    const struct hearth_prompt prompt = {
        .text = held->data ? held->data : "",
        .size = held->size,
        .tokens = request->prompt_count,
        .cached_tokens = request->result.cached_tokens,
        .queued_ns = request->begun_ns - request->asked_ns,
    };
    if (request->on_begin)
        request->on_begin(request->context, &prompt);
}

static int name_token(const struct hearth_request *request, const struct hearth_chance *chance,
                      char **bytes, struct hearth_token *token, struct hearth_error *err)
{
    const struct hearth_sessions *set = request->session->sessions;
    token->id = chance->id;
    token->logprob = chance->logprob;
    int status = hearth_token_bytes(set->model, chance->id, bytes, &token->size, err);
    token->text = status ? NULL : *bytes;
    return status;
}

int tell_token(struct hearth_request *request, uint32_t id, size_t row, struct hearth_error *err)
{
    struct hearth_chance chances[TOLD_MAX] = {{.id = id}};
    struct hearth_token tokens[TOLD_MAX];
    char *bytes[TOLD_MAX];
    size_t count = 1, named = 0;
    int status = 0;
    if (!request->on_token)
        return 0;
    if (request->logprobs)
        count = hearth_logprobs(hearth_sequence_logits(request->sequence, row),
                                request->session->sessions->vocabulary, chances,
                                1 + request->top_tokens);
    while (named < count && !status) {
        status = name_token(request, &chances[named], &bytes[named], &tokens[named], err);
        named += !status;
    }
    if (!status) {
        const struct hearth_drawn drawn = {
            .token = tokens[0], .top = tokens + 1, .top_count = count - 1};
        request->on_token(request->context, &drawn);
    }
    while (named > 0)
        hearth_free(bytes[--named]);
    return status;
}
