/* Making requests. */

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "session/embed.h"
#include "session/keep.h"
#include "session/sessions.h"

#define ANSWER_BYTES_MAX ((size_t)1 << 30)

void request_free(struct hearth_request *request)
{
    hearth_sequence_close(request->sequence);
    hearth_sampler_close(request->sampler);
    hearth_stream_close(request->stream);
    json_decref(request->variables);
    buffer_finish(&request->text);
    embed_free(request->embedding);
    mem_free(request);
}

static int parse_variables(struct hearth_request *request, const char *text,
                           struct hearth_error *err)
{
    json_error_t cause;
    if (!text)
        return 0;
    request->variables = json_loads(text, JSON_REJECT_DUPLICATES, &cause);
    if (!json_is_object(request->variables))
        return error_set(err, HEARTH_E_FORMAT, "the template's variables are no JSON object");
    return 0;
}

/* The ids that end an answer, found once. */
static int find_ends(struct hearth_sessions *set, struct hearth_error *err)
{
    size_t count = 0;
    if (set->ends)
        return 0;
    for (uint32_t id = 0; id < set->vocabulary; id++)
        count += hearth_is_end(set->model, id);
    set->ends = mem_alloc_array(count + 1, sizeof *set->ends);
    if (!set->ends)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    for (uint32_t id = 0; id < set->vocabulary; id++) {
        if (hearth_is_end(set->model, id))
            set->ends[set->end_count++] = id;
    }
    return 0;
}

/* A sampler that never draws what ends an answer: it is forbidden before anything else looks at the
 * logits. Biases for the same ids are left out, so that there are never more than tokens. */
static int open_endless(struct hearth_request *request, const struct hearth_sampling *asked,
                        struct hearth_error *err)
{
    struct hearth_sessions *set = request->session->sessions;
    struct hearth_sampling sampling;
    hearth_sampling_default(&sampling);
    if (asked)
        sampling = *asked;
    int status = find_ends(set, err);
    if (status)
        return status;
    struct hearth_logit_bias *bias =
        sampling.bias_count < SIZE_MAX - set->end_count
            ? mem_alloc_array(sampling.bias_count + set->end_count + 1, sizeof *bias)
            : NULL;
    if (!bias)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    size_t count = 0;
    for (size_t i = 0; i < sampling.bias_count; i++) {
        if (!hearth_is_end(set->model, sampling.bias[i].id))
            bias[count++] = sampling.bias[i];
    }
    for (size_t i = 0; i < set->end_count; i++)
        bias[count++] = (struct hearth_logit_bias){set->ends[i], -INFINITY};
    sampling.bias = bias;
    sampling.bias_count = count;
    status = hearth_sampler_open(set->model, &sampling, &request->sampler, err);
    mem_free(bias);
    return status;
}

static int prepare(struct hearth_request *request, const struct hearth_ask *ask,
                   struct hearth_error *err)
{
    const struct hearth_sessions *set = request->session->sessions;
    struct hearth_stream_options stream = {
        .stop = ask->stop,
        .stop_count = ask->stop_count,
        .continues = request->session->history.plain,
    };
    int status = keep_wake(request->session, err);
    request->context_max = sessions_context(set);
    if (!status)
        status = parse_variables(request, ask->variables, err);
    if (!status)
        status = ask->ignore_end
                     ? open_endless(request, ask->sampling, err)
                     : hearth_sampler_open(set->model, ask->sampling, &request->sampler, err);
    if (!status)
        status = hearth_stream_open(set->model, &stream, &request->stream, err);
    if (!status)
        status = hearth_sequence_open(set->engine, request->context_max, &request->sequence, err);
    return status;
}

void request_queue(struct hearth_request *request)
{
    struct hearth_request **last = &request->session->sessions->requests;
    while (*last)
        last = &(*last)->next;
    *last = request;
    request->session->requests++; /* a lease: from here on it is not given back */
}

int hearth_session_ask(struct hearth_session *session, const struct hearth_ask *ask,
                       struct hearth_request **out, struct hearth_error *err)
{
    if (ask->top_tokens > HEARTH_TOP_TOKENS_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "top_tokens is %u, at most %d are told of",
                         ask->top_tokens, HEARTH_TOP_TOKENS_MAX);
    struct hearth_request *request = MEM_NEW(struct hearth_request);
    if (!request)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    request->session = session;
    request->background = ask->background;
    request->speculates = !ask->no_speculation;
    request->max_tokens = ask->max_tokens;
    request->deadline_ns = ask->deadline_ns;
    request->asked_ns = sessions_now(session->sessions);
    request->logprobs = ask->logprobs;
    request->top_tokens = ask->top_tokens;
    request->on_begin = ask->on_begin;
    request->on_token = ask->on_token;
    request->on_text = ask->on_text;
    request->on_progress = ask->on_progress;
    request->on_end = ask->on_end;
    request->context = ask->context;
    atomic_init(&request->cancelled, false);
    buffer_init(&request->text, ANSWER_BYTES_MAX);
    int status = prepare(request, ask, err);
    if (status) {
        request_free(request);
        return status;
    }
    request_queue(request);
    if (out)
        *out = request;
    return 0;
}
