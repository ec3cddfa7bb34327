/* What a user may rely on of hearth.h beyond numbers: limits, errors, cancelling, memory. */

#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "hearth/hearth.h"
#include "support/process.h"

static struct hearth_model *open_golden(const char *name)
{
    char path[512];
    struct hearth_model *model;
    struct hearth_error err;
    snprintf(path, sizeof path, "%s/logits/%s.gguf", HEARTH_GOLDEN_DIR, name);
    if (hearth_model_open(path, NULL, &model, &err))
        fail_msg("%s", err.text);
    return model;
}

/* The real model, or NULL where it is not there. */
static struct hearth_model *open_smollm2(void)
{
    const char *folder = getenv("HEARTH_MODELS");
    char path[512];
    struct hearth_model *model;
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : "");
    return hearth_model_open(path, NULL, &model, NULL) ? NULL : model;
}

static struct hearth_engine *open_engine(const struct hearth_model *model,
                                         struct hearth_engine_options options)
{
    struct hearth_engine *engine;
    struct hearth_error err;
    if (hearth_engine_open(model, &options, &engine, &err))
        fail_msg("%s", err.text);
    return engine;
}

static struct hearth_sequence *open_sequence(struct hearth_engine *engine, uint32_t context_max)
{
    struct hearth_sequence *sequence;
    assert_int_equal(hearth_sequence_open(engine, context_max, &sequence, NULL), 0);
    return sequence;
}

static void give(struct hearth_sequence *sequence, const uint32_t *ids, size_t count)
{
    assert_int_equal(hearth_sequence_extend(sequence, ids, count, HEARTH_LOGITS_LAST, NULL), 0);
}

/* Sanitizers slow everything down, so what they are asked for is only that it stops. */
#define CANCEL_SECONDS_MAX (SANITIZED ? 5.0 : 0.1)

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- models ---- */

static bool count_reports(void *context, double fraction)
{
    int *reports = context;
    assert_true(fraction >= 0.0 && fraction <= 1.0);
    return ++*reports > 0;
}

static bool refuse(void *context, double fraction)
{
    (void)context;
    (void)fraction;
    return false;
}

static void opening_reports_progress_and_can_be_cancelled(void **state)
{
    (void)state;
    char path[512];
    int reports = 0;
    struct hearth_model *model;
    struct hearth_model_options options = {.progress = count_reports, .progress_context = &reports};
    snprintf(path, sizeof path, "%s/logits/llama.gguf", HEARTH_GOLDEN_DIR);
    assert_int_equal(hearth_model_open(path, &options, &model, NULL), 0);
    assert_true(reports >= 2);
    hearth_model_close(model);
    options.progress = refuse;
    assert_int_equal(hearth_model_open(path, &options, &model, NULL), HEARTH_E_CANCELLED);
}

static void a_file_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct hearth_model *model;
    struct hearth_error err;
    assert_int_equal(hearth_model_open("/nowhere/a.gguf", NULL, &model, &err), HEARTH_E_MISSING);
    assert_non_null(strstr(err.text, "/nowhere/a.gguf"));
}

static void metadata_is_given_as_text(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("qwen3");
    struct hearth_model_info info;
    struct hearth_error err;
    char *text;
    hearth_model_info(model, &info);
    assert_true(info.layers > 0 && info.vocabulary > 0 && info.parameters > 0);
    assert_int_equal(hearth_model_metadata(model, "general.architecture", &text, NULL, NULL), 0);
    assert_string_equal(text, "qwen3");
    hearth_free(text);
    assert_int_equal(hearth_model_metadata(model, "tokenizer.ggml.tokens", &text, NULL, NULL), 0);
    assert_int_equal(text[0], '[');
    hearth_free(text);
    assert_int_equal(hearth_model_metadata(model, "no.such.key", &text, NULL, &err),
                     HEARTH_E_MISSING);
    assert_non_null(strstr(err.text, "no.such.key"));
    hearth_model_close(model);
}

static void inspect_describes_a_model_as_json(void **state)
{
    (void)state;
    char path[512], *text;
    snprintf(path, sizeof path, "%s/logits/gemma3.gguf", HEARTH_GOLDEN_DIR);
    assert_int_equal(hearth_inspect(path, &text, NULL), 0);
    json_t *root = json_loads(text, 0, NULL);
    assert_true(json_is_object(root));
    assert_string_equal(json_string_value(json_object_get(root, "architecture")), "gemma3");
    assert_true(json_array_size(json_object_get(root, "tensors")) > 0);
    assert_true(json_object_size(json_object_get(root, "keys")) > 0);
    assert_true(json_array_size(json_object_get(root, "memory")) > 0);
    assert_true(json_integer_value(json_object_get(root, "parameters")) > 0);
    json_decref(root);
    hearth_free(text);
}

static void a_model_without_a_template_says_so(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("llama");
    struct hearth_model_info info;
    struct hearth_error err;
    char *text;
    const char *variables = "{\"messages\":[]}";
    hearth_model_info(model, &info);
    if (!info.has_template)
        assert_int_equal(
            hearth_render_chat(model, variables, strlen(variables), 0, &text, NULL, &err),
            HEARTH_E_MISSING);
    hearth_model_close(model);
}

/* ---- sequences ---- */

static void a_sequence_refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("llama");
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){0});
    struct hearth_sequence *sequence = open_sequence(engine, 4);
    struct hearth_model_info info;
    struct hearth_error err;
    uint32_t ids[] = {1, 2, 3, 4, 5};
    hearth_model_info(model, &info);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 5, HEARTH_LOGITS_LAST, &err),
                     HEARTH_E_LIMIT);
    assert_non_null(strstr(err.text, "4"));
    assert_int_equal(hearth_sequence_pending(sequence), 0);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 4, HEARTH_LOGITS_LAST, &err), 0);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 1, HEARTH_LOGITS_LAST, &err),
                     HEARTH_E_LIMIT);
    assert_int_equal(hearth_sequence_truncate(sequence, 0, NULL), 0);
    ids[0] = info.vocabulary;
    assert_int_equal(hearth_sequence_extend(sequence, ids, 1, HEARTH_LOGITS_LAST, &err),
                     HEARTH_E_ARGUMENT);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void logits_come_for_the_tokens_that_ask(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("llama");
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){0});
    struct hearth_sequence *sequence = open_sequence(engine, 0);
    const uint32_t ids[] = {1, 2, 3, 4, 5};
    size_t tokens;
    assert_int_equal(hearth_sequence_extend(sequence, ids, 5, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, &tokens, NULL), 0);
    assert_int_equal(tokens, 5);
    assert_int_equal(hearth_sequence_logit_rows(sequence), 1);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 5, HEARTH_LOGITS_ALL, NULL), 0);
    assert_int_equal(hearth_sequence_logit_rows(sequence), 0);
    assert_int_equal(hearth_engine_step(engine, &tokens, NULL), 0);
    assert_int_equal(hearth_sequence_logit_rows(sequence), 5);
    assert_int_equal(hearth_sequence_length(sequence), 10);
    assert_int_equal(hearth_engine_step(engine, &tokens, NULL), 0);
    assert_int_equal(tokens, 0);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void the_beginning_of_a_prompt_needs_no_logits(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("gemma3");
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){0});
    const uint32_t ids[] = {1, 2, 3, 4, 5};
    struct hearth_model_info info;
    struct hearth_sequence *whole = open_sequence(engine, 0), *parts = open_sequence(engine, 0);
    hearth_model_info(model, &info);
    give(whole, ids, 5);
    assert_int_equal(hearth_sequence_extend(parts, ids, 3, HEARTH_LOGITS_NONE, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_logit_rows(parts), 0);
    assert_int_equal(hearth_sequence_length(parts), 3);
    float *expected = malloc(info.vocabulary * sizeof *expected);
    assert_non_null(expected);
    memcpy(expected, hearth_sequence_logits(whole, 0), info.vocabulary * sizeof *expected);
    assert_int_equal(hearth_sequence_extend(parts, ids + 3, 1, HEARTH_LOGITS_NONE, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_length(parts), 4);
    give(parts, ids + 4, 1);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_logit_rows(parts), 1);
    assert_memory_equal(hearth_sequence_logits(parts, 0), expected,
                        info.vocabulary * sizeof *expected);
    free(expected);
    hearth_sequence_close(whole);
    hearth_sequence_close(parts);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void a_kv_limit_fails_one_sequence_and_not_the_others(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("llama");
    struct hearth_engine *probe = open_engine(model, (struct hearth_engine_options){0});
    struct hearth_sequence *first = open_sequence(probe, 0);
    uint32_t ids[64];
    struct hearth_engine_memory memory;
    struct hearth_error err;
    for (uint32_t i = 0; i < 64; i++)
        ids[i] = i % 40;
    hearth_engine_memory(probe, &memory);
    assert_int_equal(memory.kv_bytes, 0);
    give(first, ids, 32);
    hearth_engine_step(probe, NULL, NULL);
    hearth_engine_memory(probe, &memory);
    hearth_sequence_close(first);
    hearth_engine_close(probe);

    struct hearth_engine *engine =
        open_engine(model, (struct hearth_engine_options){.kv_bytes_max = memory.kv_bytes * 2});
    first = open_sequence(engine, 0);
    struct hearth_sequence *second = open_sequence(engine, 0);
    give(first, ids, 32);
    give(second, ids, 64);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_status(first, NULL), 0);
    assert_int_equal(hearth_sequence_length(first), 32);
    assert_int_equal(hearth_sequence_status(second, &err), HEARTH_E_LIMIT);
    assert_non_null(strstr(err.text, "KV cache"));
    assert_int_equal(hearth_sequence_length(second), 0);
    hearth_sequence_close(first);
    assert_int_equal(hearth_sequence_extend(second, ids, 64, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_length(second), 64);
    hearth_sequence_close(second);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void without_memory_opening_fails_and_leaks_nothing(void **state)
{
    (void)state;
    struct hearth_model *model = open_golden("gemma3");
    for (unsigned long n = 1;; n++) {
        struct hearth_engine_options options = {.threads = 1};
        struct hearth_engine *engine;
        mem_fail_nth(n);
        int status = hearth_engine_open(model, &options, &engine, NULL);
        mem_fail_nth(0);
        if (status == 0) {
            hearth_engine_close(engine);
            break;
        }
        assert_int_equal(status, HEARTH_E_MEMORY);
    }
    hearth_model_close(model);
}

/* ---- with the real model ---- */

struct canceller {
    struct hearth_sequence *sequence;
    double delay, when;
};

static void *cancel_later(void *context)
{
    struct canceller *canceller = context;
    struct timespec delay = {0, (long)(canceller->delay * 1e9)};
    nanosleep(&delay, NULL);
    canceller->when = seconds();
    hearth_sequence_cancel(canceller->sequence);
    return NULL;
}

static void cancelling_stops_a_prefill_within_100_ms_and_keeps_what_was_held(void **state)
{
    (void)state;
    struct hearth_model *model = open_smollm2();
    if (!model)
        skip();
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){0});
    struct hearth_sequence *sequence = open_sequence(engine, 0);
    uint32_t ids[4000];
    for (uint32_t i = 0; i < 4000; i++)
        ids[i] = 1000 + i % 3000;
    give(sequence, ids, 10);
    hearth_engine_step(engine, NULL, NULL);

    struct canceller canceller = {.sequence = sequence, .delay = 0.05};
    pthread_t thread;
    give(sequence, ids, 4000);
    pthread_create(&thread, NULL, cancel_later, &canceller);
    while (hearth_sequence_pending(sequence))
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    double stopped = seconds();
    pthread_join(thread, NULL);
    assert_int_equal(hearth_sequence_status(sequence, NULL), HEARTH_E_CANCELLED);
    assert_true(stopped - canceller.when < CANCEL_SECONDS_MAX);
    assert_true(hearth_sequence_length(sequence) >= 10);
    assert_true(hearth_sequence_length(sequence) < 4010);
    assert_int_equal(hearth_sequence_truncate(sequence, 10, NULL), 0);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 1, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_length(sequence), 11);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

/* One of three in a step: the others do not notice, whenever it is, and whether it was the only one
 * whose logits were wanted. */
static void a_cancelled_sequence_is_left_out_and_changes_no_bit(void **state)
{
    (void)state;
    enum { ROWS = 300 };
    static const char *const names[] = {"llama", "gemma3-pattern"};
    for (size_t m = 0; m < 2; m++) {
        struct hearth_model *model = open_golden(names[m]);
        struct hearth_engine *engine = open_engine(
            model, (struct hearth_engine_options){.threads = 2, .chunk_tokens = 4 * ROWS});
        struct hearth_sequence *sequences[3];
        struct hearth_model_info info;
        uint32_t ids[ROWS];
        size_t left_out = 0, finished = 0;
        hearth_model_info(model, &info);
        size_t bytes = info.vocabulary * sizeof(float);
        float *alone = malloc(3 * bytes);
        assert_non_null(alone);
        for (int round = 0; round < 150; round++) {
            struct canceller canceller = {.delay = 2e-5 * (round % 75)};
            size_t victim = (size_t)round % 3;
            bool last = round > 0 && round % 2;
            pthread_t thread;
            for (size_t s = 0; s < 3; s++) {
                sequences[s] = open_sequence(engine, 0);
                for (uint32_t i = 0; i < ROWS; i++)
                    ids[i] = (uint32_t)(i * 7 + s * 5) % info.vocabulary;
                enum hearth_logits logits =
                    last && s != victim ? HEARTH_LOGITS_NONE : HEARTH_LOGITS_LAST;
                assert_int_equal(hearth_sequence_extend(sequences[s], ids, ROWS, logits, NULL), 0);
                if (round > 0)
                    continue;
                assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
                memcpy(alone + s * info.vocabulary, hearth_sequence_logits(sequences[s], 0), bytes);
            }
            canceller.sequence = sequences[victim];
            pthread_create(&thread, NULL, cancel_later, &canceller);
            if (round > 0)
                assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
            pthread_join(thread, NULL);
            for (size_t s = 0; s < 3 && round > 0; s++) {
                int status = hearth_sequence_status(sequences[s], NULL);
                assert_true(status == 0 || s == victim);
                left_out += status != 0;
                finished += s == victim && status == 0;
                bool given = status == 0 && !(last && s != victim);
                assert_int_equal(hearth_sequence_logit_rows(sequences[s]), given);
                assert_int_equal(hearth_sequence_length(sequences[s]), status ? 0 : ROWS);
                if (given)
                    assert_memory_equal(hearth_sequence_logits(sequences[s], 0),
                                        alone + s * info.vocabulary, bytes);
            }
            for (size_t s = 0; s < 3; s++)
                hearth_sequence_close(sequences[s]);
        }
        print_message("%s: %zu cancelled, %zu too late\n", names[m], left_out, finished);
        assert_true(left_out > 20);
        free(alone);
        hearth_engine_close(engine);
        hearth_model_close(model);
    }
}

/* A step with two prompts ends in little more than half of its time when one of them is cancelled
 * at its beginning. */
static void the_rows_of_a_cancelled_sequence_are_not_computed_to_the_end(void **state)
{
    (void)state;
    enum { ROWS = 200 };
    struct hearth_model *model = open_smollm2();
    if (!model)
        skip();
    struct hearth_engine *engine =
        open_engine(model, (struct hearth_engine_options){.chunk_tokens = 2 * ROWS});
    uint32_t ids[ROWS];
    double took[2][2];
    for (uint32_t i = 0; i < ROWS; i++)
        ids[i] = 1000 + i;
    for (int round = 0; round < 4; round++) {
        struct hearth_sequence *wanted = open_sequence(engine, 0),
                               *other = open_sequence(engine, 0);
        struct canceller canceller = {.sequence = other, .delay = 0.02};
        pthread_t thread;
        give(wanted, ids, ROWS);
        give(other, ids, ROWS);
        double begin = seconds();
        if (round % 2)
            pthread_create(&thread, NULL, cancel_later, &canceller);
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
        took[round % 2][round / 2] = seconds() - begin;
        if (round % 2)
            pthread_join(thread, NULL);
        assert_int_equal(hearth_sequence_length(wanted), ROWS);
        assert_int_equal(hearth_sequence_length(other), round % 2 ? 0 : ROWS);
        hearth_sequence_close(wanted);
        hearth_sequence_close(other);
    }
    double best[2];
    for (int i = 0; i < 2; i++)
        best[i] = took[i][0] < took[i][1] ? took[i][0] : took[i][1];
    print_message("both %.3f s, one cancelled %.3f s\n", best[0], best[1]);
    assert_true(best[1] < 0.8 * best[0]);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void loading_copies_no_weights(void **state)
{
    (void)state;
    struct hearth_memory before, after;
    hearth_process_memory(&before);
    struct hearth_model *model = open_smollm2();
    if (!model)
        skip();
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){0});
    hearth_process_memory(&after);
    assert_true(after.private_bytes - before.private_bytes < 30u << 20);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

static void fewer_threads_give_the_same_logits(void **state)
{
    (void)state;
    static const unsigned threads[] = {4, 1, 2, 3, 99, 0, 4};
    struct hearth_model *model = open_golden("llama");
    struct hearth_model_info info;
    uint32_t ids[40];
    float *expected[2] = {NULL, NULL};
    hearth_model_info(model, &info);
    size_t bytes = info.vocabulary * sizeof(float);
    for (uint32_t i = 0; i < 40; i++)
        ids[i] = (i * 7 + 3) % info.vocabulary;
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){.threads = 4});
    for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++) {
        struct hearth_sequence *sequence = open_sequence(engine, 0);
        for (size_t part = 0; part < 2; part++) {
            hearth_engine_use_threads(engine, threads[(t + part) % 7]);
            give(sequence, ids + 39 * part, part ? 1 : 39);
            assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
            const float *logits = hearth_sequence_logits(sequence, 0);
            if (!expected[part]) {
                expected[part] = malloc(bytes);
                assert_non_null(expected[part]);
                memcpy(expected[part], logits, bytes);
            }
            assert_memory_equal(logits, expected[part], bytes);
        }
        assert_int_equal(hearth_engine_threads(engine), 4);
        hearth_sequence_close(sequence);
    }
    free(expected[0]);
    free(expected[1]);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_reports_progress_and_can_be_cancelled),
        cmocka_unit_test(a_file_that_is_not_there_is_named),
        cmocka_unit_test(metadata_is_given_as_text),
        cmocka_unit_test(inspect_describes_a_model_as_json),
        cmocka_unit_test(a_model_without_a_template_says_so),
        cmocka_unit_test(a_sequence_refuses_what_does_not_fit),
        cmocka_unit_test(logits_come_for_the_tokens_that_ask),
        cmocka_unit_test(the_beginning_of_a_prompt_needs_no_logits),
        cmocka_unit_test(a_kv_limit_fails_one_sequence_and_not_the_others),
        cmocka_unit_test(without_memory_opening_fails_and_leaks_nothing),
        cmocka_unit_test(a_cancelled_sequence_is_left_out_and_changes_no_bit),
        cmocka_unit_test(the_rows_of_a_cancelled_sequence_are_not_computed_to_the_end),
        cmocka_unit_test(loading_copies_no_weights),
        cmocka_unit_test(fewer_threads_give_the_same_logits),
        cmocka_unit_test(cancelling_stops_a_prefill_within_100_ms_and_keeps_what_was_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
