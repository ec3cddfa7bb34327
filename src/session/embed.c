#include "session/embed.h"

#include <math.h>

#include "base/memory.h"
#include "session/sessions.h"

struct embedding {
    enum hearth_pooling pooling;
    size_t dimensions, tokens; /* tokens: of the whole text */
    size_t pooled;             /* so many tokens are in the sum, in their order */
    double *sum;               /* [dimensions]; of some, or the one state that counts */
    float *vector;             /* [dimensions] */
    void (*on_end)(void *context, const float *vector, size_t dimensions, size_t tokens,
                   const struct hearth_error *error);
};

void embed_free(struct embedding *embedding)
{
    if (!embedding)
        return;
    mem_free(embedding->sum);
    mem_free(embedding->vector);
    mem_free(embedding);
}

/* ---- asking ---- */

static int make_embedding(struct hearth_request *request, const struct hearth_embed *embed,
                          struct hearth_error *err)
{
    const struct hearth_sessions *set = request->session->sessions;
    struct hearth_model_info info;
    enum hearth_pooling pooling;
    int status = hearth_model_pooling(set->model, &pooling, err);
    if (status)
        return status;
    hearth_model_info(set->model, &info);
    struct embedding *embedding = MEM_NEW(struct embedding);
    request->embedding = embedding;
    if (embedding) {
        embedding->pooling = pooling;
        embedding->dimensions = info.embedding_length;
        embedding->on_end = embed->on_end;
        embedding->sum = mem_zalloc_array(info.embedding_length, sizeof *embedding->sum);
        embedding->vector = mem_zalloc_array(info.embedding_length, sizeof *embedding->vector);
    }
    if (!embedding || !embedding->sum || !embedding->vector)
        return error_set(err, HEARTH_E_MEMORY, "no memory for an embedding");
    return 0;
}

/* The text's ids, in the place where a prompt's are. Of attention that looks back alone the first
 * state needs the first token only. */
static int put_ids(struct hearth_request *request, const struct hearth_embed *embed,
                   struct hearth_error *err)
{
    struct history *history = &request->session->history;
    struct embedding *embedding = request->embedding;
    uint32_t *ids;
    size_t count;
    int status = hearth_tokenize(history->model, embed->text, embed->size, HEARTH_ADD_SPECIAL, &ids,
                                 &count, err);
    if (status)
        return status;
    embedding->tokens = count;
    size_t needed = embedding->pooling == HEARTH_POOLING_FIRST && count > 1 ? 1 : count;
    for (size_t i = 0; i < needed && !status; i++)
        status = history_push(history, ids[i], err);
    hearth_free(ids);
    if (!status && count == 0)
        status = error_set(err, HEARTH_E_ARGUMENT, "the text to embed has no tokens");
    request->prompt_count = needed;
    return status;
}

static int prepare(struct hearth_request *request, const struct hearth_embed *embed,
                   struct hearth_error *err)
{
    const struct hearth_sessions *set = request->session->sessions;
    int status = make_embedding(request, embed, err);
    request->context_max = sessions_context(set);
    if (!status)
        status = put_ids(request, embed, err);
    if (!status)
        status = hearth_sequence_open(set->engine, request->context_max, &request->sequence, err);
    return status;
}

int hearth_sessions_embed(struct hearth_sessions *sessions, const struct hearth_embed *embed,
                          struct hearth_request **out, struct hearth_error *err)
{
    if (embed->size == 0)
        return error_set(err, HEARTH_E_ARGUMENT, "the text to embed is empty");
    struct hearth_request *request = MEM_NEW(struct hearth_request);
    if (!request)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    int status = session_add(sessions, NULL, &request->session, err);
    if (status) {
        request_free(request);
        return status;
    }
    request->session->settings.keep = HEARTH_KEEP_NEVER;
    request->background = embed->background;
    request->deadline_ns = embed->deadline_ns;
    request->asked_ns = sessions_now(sessions);
    request->context = embed->context;
    atomic_init(&request->cancelled, false);
    status = prepare(request, embed, err);
    if (status) {
        session_drop(request->session);
        request_free(request);
        return status;
    }
    request_queue(request);
    request->session->opened = 0; /* it goes with its request */
    if (out)
        *out = request;
    return 0;
}

/* ---- computing ---- */

int embed_check(const struct hearth_request *request, struct hearth_error *err)
{
    if (request->embedding->tokens > request->context_max)
        return error_set(err, HEARTH_E_LIMIT,
                         "the text to embed has %zu tokens, the context holds %u",
                         request->embedding->tokens, request->context_max);
    return 0;
}

enum hearth_logits embed_states(const struct embedding *embedding, bool last)
{
    if (embedding->pooling != HEARTH_POOLING_LAST)
        return HEARTH_STATES_ALL;
    return last ? HEARTH_STATES_LAST : HEARTH_LOGITS_NONE;
}

static void add_state(struct embedding *embedding, const float *state)
{
    for (size_t i = 0; i < embedding->dimensions; i++)
        embedding->sum[i] += (double)state[i];
}

/* States are added in the order of their tokens, so that the sum does not depend on how the text
 * was cut. What was computed again after a pause is in it already. */
bool embed_take(struct hearth_request *request)
{
    struct embedding *embedding = request->embedding;
    size_t end = hearth_sequence_length(request->sequence);
    size_t rows = hearth_sequence_state_rows(request->sequence), first = end - rows;
    for (size_t row = 0; row < rows; row++) {
        if (embedding->pooling != HEARTH_POOLING_LAST && first + row < embedding->pooled)
            continue;
        add_state(embedding, hearth_sequence_state(request->sequence, row));
        embedding->pooled = first + row + 1;
    }
    return embedding->pooled == request->prompt_count;
}

/* A mean has the direction of its sum. */
static int normalize(struct embedding *embedding, struct hearth_error *err)
{
    double squares = 0.0;
    for (size_t i = 0; i < embedding->dimensions; i++)
        squares += embedding->sum[i] * embedding->sum[i];
    if (!(squares > 0.0) || !isfinite(squares))
        return error_set(err, HEARTH_E_NUMERIC, "the text's states have no direction");
    double length = sqrt(squares);
    for (size_t i = 0; i < embedding->dimensions; i++)
        embedding->vector[i] = (float)(embedding->sum[i] / length);
    return 0;
}

void embed_end(struct hearth_request *request)
{
    struct embedding *embedding = request->embedding;
    struct hearth_error *error = &request->result.error;
    bool whole = request->result.stop == HEARTH_STOP_END && !normalize(embedding, error);
    if (!embedding->on_end)
        return;
    embedding->on_end(request->context, whole ? embedding->vector : NULL,
                      whole ? embedding->dimensions : 0, embedding->tokens, whole ? NULL : error);
}
