#define _POSIX_C_SOURCE 200112L /* setenv */
#include "timeline.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"

static const char *const tiers[] = {"ref", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm"};

const char *timeline_tier(size_t index)
{
    return index < sizeof tiers / sizeof tiers[0] ? tiers[index] : NULL;
}

static void check(int status, const struct hearth_error *err)
{
    if (status)
        fail_msg("%s: %s", hearth_status_text(status), err->text);
}

bool timeline_has_tier(const struct hearth_model *model, const char *tier)
{
    struct hearth_engine *engine = NULL;
    assert_int_equal(setenv("HEARTH_CPU", tier, 1), 0);
    int status = hearth_engine_open(model, NULL, &engine, NULL);
    hearth_engine_close(engine);
    assert_true(status == 0 || status == HEARTH_E_UNSUPPORTED || status == HEARTH_E_ARGUMENT);
    return status == 0;
}

const char *timeline_best_tier(const struct hearth_model *model)
{
    const char *best = NULL;
    for (size_t i = 0; timeline_tier(i); i++) {
        if (timeline_has_tier(model, timeline_tier(i)))
            best = timeline_tier(i);
    }
    return best;
}

struct hearth_model *timeline_open_model(const char *path)
{
    struct hearth_model *model = NULL;
    struct hearth_error err = {0};
    check(hearth_model_open(path, NULL, &model, &err), &err);
    return model;
}

struct hearth_model *timeline_make_up(const char *what)
{
    struct hearth_error err;
    struct hearth_model *model = NULL;
    int fd = os_file_create_unnamed("/tmp", &err);
    if (fd < 0 || hearth_synthesize(what, fd, NULL, &err) ||
        hearth_model_open_fds(&fd, 1, NULL, &model, &err))
        fail_msg("%s: %s", what, err.text);
    os_file_close(fd);
    return model;
}

struct hearth_engine *timeline_open_engine(const struct hearth_model *model,
                                           const struct setting *setting)
{
    struct hearth_engine_options options = {
        .threads = setting->threads,
        .chunk_tokens = setting->chunk_tokens,
        .kv_type = setting->kv_type,
    };
    struct hearth_engine *engine = NULL;
    struct hearth_error err = {0};
    assert_int_equal(setenv("HEARTH_CPU", setting->tier, 1), 0);
    check(hearth_engine_open(model, &options, &engine, &err), &err);
    assert_string_equal(hearth_engine_tier(engine), setting->tier);
    assert_int_equal(hearth_engine_threads(engine), setting->threads);
    return engine;
}

struct hearth_sequence *timeline_open_sequence(struct hearth_engine *engine)
{
    struct hearth_sequence *sequence = NULL;
    struct hearth_error err = {0};
    check(hearth_sequence_open(engine, 0, &sequence, &err), &err);
    return sequence;
}

void timeline_extend(struct hearth_sequence *sequence, const uint32_t *ids, size_t count)
{
    struct hearth_error err = {0};
    check(hearth_sequence_extend(sequence, ids, count, HEARTH_LOGITS_ALL, &err), &err);
}

size_t timeline_step(struct hearth_engine *engine, const struct hearth_sequence *sequence,
                     float *logits, size_t vocabulary)
{
    struct hearth_error err = {0};
    check(hearth_engine_step(engine, NULL, &err), &err);
    check(hearth_sequence_status(sequence, &err), &err);
    size_t rows = hearth_sequence_logit_rows(sequence);
    for (size_t row = 0; row < rows; row++)
        memcpy(logits + row * vocabulary, hearth_sequence_logits(sequence, row),
               vocabulary * sizeof *logits);
    return rows;
}

size_t timeline_step_all(struct hearth_engine *engine, const struct hearth_sequence *sequence,
                         float *logits, size_t vocabulary)
{
    size_t rows = 0;
    for (size_t before; (before = hearth_sequence_pending(sequence)) > 0;) {
        rows += timeline_step(engine, sequence, logits + rows * vocabulary, vocabulary);
        assert_true(hearth_sequence_pending(sequence) < before);
    }
    return rows;
}

size_t timeline_vocabulary(const struct hearth_model *model)
{
    struct hearth_model_info info;
    hearth_model_info(model, &info);
    return info.vocabulary;
}

float *timeline_logits(const struct hearth_model *model, const struct setting *setting,
                       const uint32_t *ids, size_t count)
{
    size_t vocabulary = timeline_vocabulary(model);
    float *logits = malloc(count * vocabulary * sizeof *logits);
    assert_non_null(logits);
    struct hearth_engine *engine = timeline_open_engine(model, setting);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    timeline_extend(sequence, ids, count);
    assert_int_equal(timeline_step_all(engine, sequence, logits, vocabulary), count);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    return logits;
}
