/* The ways in which the weights get into memory: all give the same logits. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "hearth/hearth.h"
#include "support/gguf_writer.h"

static const char *golden(void)
{
    return HEARTH_GOLDEN_DIR "/logits/llama.gguf";
}

/* The logits behind a few tokens; the model is closed. Allocated. */
static float *logits_of(struct hearth_model *model, size_t *size)
{
    const uint32_t ids[] = {1, 2, 3, 4, 5};
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    struct hearth_model_info info;
    hearth_model_info(model, &info);
    assert_int_equal(hearth_engine_open(model, NULL, &engine, NULL), 0);
    assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
    assert_int_equal(hearth_sequence_extend(sequence, ids, 5, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    *size = info.vocabulary * sizeof(float);
    float *logits = malloc(*size);
    memcpy(logits, hearth_sequence_logits(sequence, 0), *size);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
    return logits;
}

static struct hearth_model *open_as(const char *path, struct hearth_model_options options)
{
    struct hearth_model *model;
    struct hearth_error err;
    if (hearth_model_open(path, &options, &model, &err))
        fail_msg("%s", err.text);
    return model;
}

static void a_copy_and_an_unread_file_give_the_same_logits(void **state)
{
    (void)state;
    size_t size;
    float *mapped = logits_of(open_as(golden(), (struct hearth_model_options){0}), &size);
    float *copied =
        logits_of(open_as(golden(), (struct hearth_model_options){.no_mmap = true}), &size);
    float *unread =
        logits_of(open_as(golden(), (struct hearth_model_options){.vocabulary_only = true}), &size);
    assert_memory_equal(mapped, copied, size);
    assert_memory_equal(mapped, unread, size);
    free(mapped);
    free(copied);
    free(unread);
}

/* Copies the golden model to where it may be cut. */
static void copy_golden(char path[TEST_PATH_MAX])
{
    static char bytes[1 << 22];
    FILE *file = fopen(golden(), "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    assert_true(size > 0 && size < sizeof bytes);
    fclose(file);
    test_temp_file(path);
    test_write_file(path, (struct text){bytes, size});
}

static void a_copy_does_without_its_file(void **state)
{
    (void)state;
    char path[TEST_PATH_MAX];
    size_t size;
    copy_golden(path);
    struct hearth_model *model = open_as(path, (struct hearth_model_options){.no_mmap = true});
    assert_int_equal(truncate(path, 0), 0);
    float *logits = logits_of(model, &size);
    float *expected = logits_of(open_as(golden(), (struct hearth_model_options){0}), &size);
    assert_memory_equal(logits, expected, size);
    free(logits);
    free(expected);
    remove(path);
}

struct refusal {
    int calls, allowed;
};

static bool refuse_later(void *context, double fraction)
{
    struct refusal *refusal = context;
    assert_true(fraction >= 0.0 && fraction <= 1.0);
    return ++refusal->calls <= refusal->allowed;
}

static void copying_can_be_cancelled(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 3; allowed++) {
        struct refusal refusal = {.allowed = allowed};
        struct hearth_model_options options = {
            .no_mmap = true, .progress = refuse_later, .progress_context = &refusal};
        struct hearth_model *model = NULL;
        assert_int_equal(hearth_model_open(golden(), &options, &model, NULL), HEARTH_E_CANCELLED);
        assert_null(model);
        assert_int_equal(refusal.calls, allowed + 1);
    }
}

/* The golden model, its architecture called by another name of five letters. */
static void write_unknown_architecture(char path[TEST_PATH_MAX])
{
    static const char name[] = "general.architecture";
    char unknown[5] = "alpac";
    copy_golden(path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    char head[4096];
    size_t size = fread(head, 1, sizeof head, file);
    const char *at = memmem(head, size, name, strlen(name));
    assert_non_null(at);
    long place = at - head + (long)strlen(name) + 4 + 8; /* behind the type and the length */
    assert_int_equal(fseek(file, place, SEEK_SET), 0);
    assert_int_equal(fwrite(unknown, 1, sizeof unknown, file), sizeof unknown);
    assert_int_equal(fclose(file), 0);
}

static void what_does_not_work_is_refused_before_it_is_read(void **state)
{
    (void)state;
    char path[TEST_PATH_MAX];
    struct hearth_model *model = NULL;
    struct hearth_error err;
    write_unknown_architecture(path);
    for (int lock = 0; lock < 2; lock++) {
        struct refusal refusal = {.allowed = 1000};
        struct hearth_model_options options = {.no_mmap = !lock,
                                               .mlock = lock,
                                               .progress = refuse_later,
                                               .progress_context = &refusal};
        assert_int_equal(hearth_model_open(path, &options, &model, &err), HEARTH_E_UNSUPPORTED);
        assert_null(model);
        assert_non_null(strstr(err.text, "alpac"));
        assert_int_equal(refusal.calls, 1); /* at the beginning */
    }
    remove(path);
}

static void a_vocabulary_does_without_weights(void **state)
{
    (void)state;
    char path[TEST_PATH_MAX];
    const struct hearth_model_options options = {.vocabulary_only = true};
    struct hearth_model *whole = open_as(golden(), options);
    struct hearth_model_info info, expected;
    uint32_t *ids, *expected_ids;
    size_t count, expected_count;
    write_unknown_architecture(path);
    struct hearth_model *model = open_as(path, options);
    hearth_model_info(model, &info);
    hearth_model_info(whole, &expected);
    assert_int_equal(info.vocabulary, expected.vocabulary);
    assert_int_equal(info.layers, 0);
    assert_int_equal(hearth_tokenize(model, "abc def", 7, HEARTH_ADD_SPECIAL, &ids, &count, NULL),
                     0);
    assert_int_equal(hearth_tokenize(whole, "abc def", 7, HEARTH_ADD_SPECIAL, &expected_ids,
                                     &expected_count, NULL),
                     0);
    assert_int_equal(count, expected_count);
    assert_memory_equal(ids, expected_ids, count * sizeof *ids);
    hearth_free(ids);
    hearth_free(expected_ids);

    struct hearth_engine *engine = NULL;
    struct hearth_estimate estimate;
    enum hearth_pooling pooling;
    struct hearth_error errors[3];
    assert_int_equal(hearth_engine_open(model, NULL, &engine, &errors[0]), HEARTH_E_UNSUPPORTED);
    assert_int_equal(hearth_engine_estimate(model, NULL, &estimate, &errors[1]),
                     HEARTH_E_UNSUPPORTED);
    assert_int_equal(hearth_model_pooling(model, &pooling, &errors[2]), HEARTH_E_UNSUPPORTED);
    assert_null(engine);
    for (size_t i = 0; i < 3; i++)
        assert_non_null(strstr(errors[i].text, "architecture \"alpac\" is not supported"));
    hearth_model_close(model);
    hearth_model_close(whole);
    remove(path);
}

/* A capability lifts the limit; then locking must work. */
static void locking_works_or_names_the_limit(void **state)
{
    (void)state;
    struct rlimit old, none = {0, 0};
    struct hearth_model_options options = {.mlock = true};
    struct hearth_model *model = NULL;
    struct hearth_error err;
    size_t size;
    assert_int_equal(getrlimit(RLIMIT_MEMLOCK, &old), 0);
    none.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    int status = hearth_model_open(golden(), &options, &model, &err);
    setrlimit(RLIMIT_MEMLOCK, &old);
    if (status == 0) {
        free(logits_of(model, &size));
        return;
    }
    assert_int_equal(status, HEARTH_E_LIMIT);
    assert_null(model);
    assert_non_null(strstr(err.text, "RLIMIT_MEMLOCK"));
    assert_non_null(strstr(err.text, "llama.gguf"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_copy_and_an_unread_file_give_the_same_logits),
        cmocka_unit_test(a_copy_does_without_its_file),
        cmocka_unit_test(copying_can_be_cancelled),
        cmocka_unit_test(what_does_not_work_is_refused_before_it_is_read),
        cmocka_unit_test(a_vocabulary_does_without_weights),
        cmocka_unit_test(locking_works_or_names_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
