#include "alone.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int status, const struct hearth_error *err)
{
    if (!status)
        return;
    fprintf(stderr, "the engine alone failed: %s\n", err->text);
    abort();
}

void alone_open(struct alone *alone, const struct hearth_model *model)
{
    struct hearth_engine_options options = {.threads = 1, .kv_type = HEARTH_KV_Q8_0};
    struct hearth_error err;
    alone->model = model;
    check(hearth_engine_open(model, &options, &alone->engine, &err), &err);
}

void alone_close(struct alone *alone)
{
    hearth_engine_close(alone->engine);
}

static void compute(struct alone *alone, struct hearth_sequence *sequence, const uint32_t *ids,
                    size_t count)
{
    struct hearth_error err;
    check(hearth_sequence_extend(sequence, ids, count, HEARTH_LOGITS_LAST, &err), &err);
    while (hearth_sequence_pending(sequence) > 0) {
        check(hearth_engine_step(alone->engine, NULL, &err), &err);
        check(hearth_sequence_status(sequence, &err), &err);
    }
}

uint64_t alone_kv_bytes(struct alone *alone, uint32_t tokens)
{
    struct hearth_sequence *sequence;
    struct hearth_error err;
    uint64_t most = 0;
    uint32_t *ids = calloc(tokens, sizeof *ids);
    if (!ids)
        abort();
    check(hearth_sequence_open(alone->engine, tokens, &sequence, &err), &err);
    check(hearth_sequence_extend(sequence, ids, tokens, HEARTH_LOGITS_LAST, &err), &err);
    while (hearth_sequence_pending(sequence) > 0) {
        struct hearth_engine_memory memory;
        check(hearth_engine_step(alone->engine, NULL, &err), &err);
        hearth_engine_memory(alone->engine, &memory);
        most = memory.kv_bytes > most ? memory.kv_bytes : most;
    }
    hearth_sequence_close(sequence);
    free(ids);
    return most;
}

enum hearth_stop alone_answer(struct alone *alone, const uint32_t *ids, size_t count,
                              const struct hearth_sampling *sampling, uint32_t max_tokens,
                              uint32_t context_max, struct buffer *text)
{
    struct hearth_sequence *sequence;
    struct hearth_sampler *sampler;
    struct hearth_stream *stream;
    struct hearth_error err;
    enum hearth_stop stop = HEARTH_STOP_ERROR;
    const char *piece;
    size_t size, held = count;
    check(hearth_sequence_open(alone->engine, context_max, &sequence, &err), &err);
    check(hearth_sampler_open(alone->model, sampling, &sampler, &err), &err);
    check(hearth_stream_open(alone->model, NULL, &stream, &err), &err);
    for (size_t i = 0; i < count; i++)
        check(hearth_sampler_accept(sampler, ids[i], &err), &err);
    compute(alone, sequence, ids, count);
    for (uint32_t answered = 0; stop == HEARTH_STOP_ERROR;) {
        uint32_t id;
        bool stopped;
        check(hearth_sampler_sample(sampler, hearth_sequence_logits(sequence, 0), &id, &err), &err);
        held++;
        if (hearth_is_end(alone->model, id)) {
            stop = HEARTH_STOP_END;
            break;
        }
        check(hearth_stream_push(stream, id, &piece, &size, &stopped, &err), &err);
        buffer_append(text, piece, size);
        if (++answered == max_tokens)
            stop = HEARTH_STOP_LENGTH;
        else if (held > context_max) /* the last one need not be computed */
            stop = HEARTH_STOP_CONTEXT;
        else
            compute(alone, sequence, &id, 1);
    }
    check(hearth_stream_flush(stream, &piece, &size, &err), &err);
    buffer_append(text, piece, size);
    hearth_stream_close(stream);
    hearth_sampler_close(sampler);
    hearth_sequence_close(sequence);
    return stop;
}

void alone_embed(struct alone *alone, const char *text, size_t size, float *vector)
{
    struct hearth_sequence *sequence;
    struct hearth_model_info info;
    struct hearth_error err;
    uint32_t *ids;
    size_t count;
    double squares = 0.0;
    hearth_model_info(alone->model, &info);
    double *sum = calloc(info.embedding_length, sizeof *sum);
    if (!sum)
        abort();
    check(hearth_tokenize(alone->model, text, size, HEARTH_ADD_SPECIAL, &ids, &count, &err), &err);
    check(hearth_sequence_open(alone->engine, 0, &sequence, &err), &err);
    for (size_t i = 0; i < count; i++) {
        check(hearth_sequence_extend(sequence, ids + i, 1, HEARTH_STATES_ALL, &err), &err);
        check(hearth_engine_step(alone->engine, NULL, &err), &err);
        for (uint32_t d = 0; d < info.embedding_length; d++)
            sum[d] += (double)hearth_sequence_state(sequence, 0)[d];
    }
    for (uint32_t d = 0; d < info.embedding_length; d++)
        squares += sum[d] * sum[d];
    for (uint32_t d = 0; d < info.embedding_length; d++)
        vector[d] = (float)(sum[d] / sqrt(squares));
    hearth_free(ids);
    free(sum);
    hearth_sequence_close(sequence);
}
