/* Models that are made up, and what they are measured against. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "gguf/types.h"
#include "hearth/hearth.h"
#include "timeline.h"

static struct hearth_engine *open_engine(const struct hearth_model *model, enum hearth_kv_type kv)
{
    struct hearth_engine_options options = {.threads = 2, .kv_type = kv};
    struct hearth_engine *engine;
    assert_int_equal(hearth_engine_open(model, &options, &engine, NULL), 0);
    return engine;
}

static void expect_finite_logits(const struct hearth_model *model, const char *what)
{
    static const uint32_t ids[] = {65, 300, 7, 511, 0, 256};
    struct hearth_engine *engine = open_engine(model, HEARTH_KV_F16);
    struct hearth_sequence *sequence;
    struct hearth_model_info info;
    hearth_model_info(model, &info);
    assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 6, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    const float *logits = hearth_sequence_logits(sequence, 0);
    float least = INFINITY, most = -INFINITY;
    for (uint32_t i = 0; i < info.vocabulary; i++) {
        if (!isfinite(logits[i]))
            fail_msg("%s: logit %u is no number", what, i);
        least = fminf(least, logits[i]);
        most = fmaxf(most, logits[i]);
    }
    assert_true(most - least > 0.1f && most - least < 1000.0f);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static void each_type_makes_a_model_with_sane_logits(void **state)
{
    static const char *const names[] = {"Q4_K_M", "Q5_K_M",
#define TYPE_NAME(name, number, elements, bytes) #name,
                                        TENSOR_TYPES(TYPE_NAME)
#undef TYPE_NAME
    };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char what[32];
        snprintf(what, sizeof what, "tiny:%s", names[i]);
        struct hearth_model *model = timeline_make_up(what);
        expect_finite_logits(model, what);
        hearth_model_close(model);
    }
}

/* "tiny": 2 layers, embedding 256, 4 heads and 2 kv heads of 64, feed-forward 512, vocabulary 512,
 * the output tied to the embedding. */
enum {
    QUERY = 256 * 256,
    KEY = 128 * 256,
    FF = 512 * 256,
    LAYER = 2 * QUERY + 2 * KEY + 3 * FF,
    OUTPUT = 512 * 256,
};

static void work_is_what_the_shapes_say(void **state)
{
    (void)state;
    struct hearth_work work;
    struct hearth_model *model = timeline_make_up("tiny:Q8_0");
    struct hearth_engine *engine = open_engine(model, HEARTH_KV_F16);
    hearth_engine_work(engine, 100, &work);
    assert_int_equal(work.weight_bytes, (2 * LAYER + OUTPUT) / 32 * 34);
    assert_int_equal(work.kv_bytes, 100 * 2 * 2 * 2 * 64 * 2);
    assert_int_equal(work.token.int8, LAYER + 2 * KEY);
    assert_int_equal(work.logits.int8, LAYER - 2 * KEY + OUTPUT);
    assert_int_equal(work.token.f32 + work.token.bf16 + work.logits.f32 + work.logits.bf16, 0);
    hearth_engine_close(engine);
    engine = open_engine(model, HEARTH_KV_Q8_0);
    hearth_engine_work(engine, 100, &work);
    assert_int_equal(work.kv_bytes, 100 * 2 * 2 * 2 * 64 / 32 * 34);
    hearth_engine_close(engine);
    hearth_model_close(model);
    model = timeline_make_up("tiny:F16");
    engine = open_engine(model, HEARTH_KV_F16);
    hearth_engine_work(engine, 0, &work);
    assert_int_equal(work.kv_bytes, 0);
    assert_int_equal(work.weight_bytes, (2 * LAYER + OUTPUT) * 2);
    assert_int_equal(work.token.f32, LAYER + 2 * KEY);
    assert_int_equal(work.token.int8, 0);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void limits_are_measured_when_asked_for(void **state)
{
    (void)state;
    struct hearth_memory before, after;
    struct hearth_limits limits;
    struct hearth_model *model = timeline_make_up("tiny:Q8_0");
    struct hearth_engine *engine = open_engine(model, HEARTH_KV_F16);
    assert_int_equal(hearth_engine_limits(engine, HEARTH_LIMIT_ARITHMETIC, &limits, NULL), 0);
    assert_true(limits.read_bytes_per_s == 0);
    assert_true(limits.int8_per_s > 1e6 && limits.int8_per_s < 1e16);
    assert_true(limits.f32_per_s > 1e6 && limits.f32_per_s < 1e16);
    assert_int_equal(hearth_process_memory(&before), 0);
    assert_int_equal(hearth_engine_limits(engine, HEARTH_LIMIT_READ, &limits, NULL), 0);
    assert_true(limits.read_bytes_per_s > 1e6 && limits.read_bytes_per_s < 1e13);
    assert_true(limits.int8_per_s == 0);
    assert_int_equal(hearth_process_memory(&after), 0);
    assert_true(after.private_bytes < before.private_bytes + (32u << 20)); /* given back */
    assert_true(after.peak_bytes >= (512u << 20));
    if (hearth_process_peak_reset() == 0) {
        assert_int_equal(hearth_process_memory(&after), 0);
        assert_true(after.peak_bytes < before.peak_bytes + (32u << 20));
    }
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static bool stop_at_once(void *context, double fraction)
{
    int *calls = context;
    assert_true(fraction > 0 && fraction <= 1);
    ++*calls;
    return false;
}

static void writing_can_be_stopped_and_names_what_there_is(void **state)
{
    (void)state;
    int calls = 0;
    struct hearth_model_options options = {.progress = stop_at_once, .progress_context = &calls};
    struct hearth_error err;
    int fd = os_file_create_unnamed("/tmp", NULL);
    assert_true(fd >= 0);
    assert_int_equal(hearth_synthesize("llama-8b:F32", fd, &options, &err), HEARTH_E_CANCELLED);
    assert_int_equal(calls, 1);
    assert_int_equal(hearth_synthesize("llama-9b:F32", fd, NULL, &err), HEARTH_E_ARGUMENT);
    assert_non_null(strstr(err.text, "llama-8b"));
    assert_non_null(strstr(err.text, "MXFP4"));
    os_file_close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_type_makes_a_model_with_sane_logits),
        cmocka_unit_test(work_is_what_the_shapes_say),
        cmocka_unit_test(limits_are_measured_when_asked_for),
        cmocka_unit_test(writing_can_be_stopped_and_names_what_there_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
