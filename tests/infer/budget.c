/* What an engine says that it takes, against what the system says; limits, and what they leave. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "hearth/hearth.h"
#include "support/process.h"
#include "timeline.h"

#define MIB ((uint64_t)1 << 20)

/* ---- models ---- */

/* "tiny" of timeline_make_up: 2 layers, 2 kv heads of 64; with F16, 32 tokens take
 * 2 * 2 * 32 * 256 bytes. */
static bool real_path(const char *name, char path[512])
{
    const char *folder = getenv("HEARTH_MODELS");
    snprintf(path, 512, "%s/%s", folder ? folder : "", name);
    return access(path, R_OK) == 0;
}

static struct hearth_model *open_path(const char *path, const struct hearth_model_options *options)
{
    struct hearth_model *model;
    struct hearth_error err;
    if (hearth_model_open(path, options, &model, &err))
        fail_msg("%s", err.text);
    return model;
}

/* ---- an engine in a process of its own, seen from outside ---- */

struct child {
    pid_t pid;
    int told, end; /* pipes: one that it writes a byte into, one that it waits for the end of */
};

/* Ends the child without a word; the parent then reads no byte. */
static void expect(bool holds)
{
    if (!holds)
        _exit(1);
}

static void compute(struct hearth_engine *engine, struct hearth_sequence *sequence, uint32_t count,
                    enum hearth_logits logits)
{
    uint32_t *ids = malloc(count * sizeof *ids);
    expect(ids != NULL);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = 10 + i * 7 % 400;
    expect(hearth_sequence_extend(sequence, ids, count, logits, NULL) == 0);
    free(ids);
    while (hearth_sequence_pending(sequence) > 0)
        expect(hearth_engine_step(engine, NULL, NULL) == 0 &&
               hearth_sequence_status(sequence, NULL) == 0);
}

/* What a conversation does: reads a long prompt, then a short one that is cut for the threads, and
 * draws from what it guessed, with which the context is full. */
static void fill_context(const char *path, const struct hearth_model_options *model_options,
                         const struct hearth_engine_options *options)
{
    struct hearth_model *model = open_path(path, model_options);
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    struct hearth_sampler *sampler;
    uint32_t id;
    expect(hearth_engine_open(model, options, &engine, NULL) == 0);
    expect(hearth_sequence_open(engine, 0, &sequence, NULL) == 0);
    struct hearth_sampling sampling;
    hearth_sampling_default(&sampling);
    sampling.repeat_penalty = 1.1f; /* needs a copy of the logits */
    expect(hearth_sampler_open(model, &sampling, &sampler, NULL) == 0);
    compute(engine, sequence, options->context - 168, HEARTH_LOGITS_LAST);
    compute(engine, sequence, 160, HEARTH_LOGITS_LAST);
    compute(engine, sequence, 8, HEARTH_LOGITS_ALL);
    expect(hearth_sequence_logit_rows(sequence) == 8);
    expect(hearth_sampler_sample(sampler, hearth_sequence_logits(sequence, 7), &id, NULL) == 0);
}

static uint64_t anonymous_bytes(pid_t pid)
{
    char path[64], line[256];
    unsigned long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (kib == 0 && fgets(line, sizeof line, file))
        sscanf(line, "RssAnon: %llu kB", &kib);
    fclose(file);
    return (uint64_t)kib * 1024;
}

static uint64_t measure(const char *path, const struct hearth_model_options *model_options,
                        const struct hearth_engine_options *options)
{
    int told[2], end[2];
    char byte = 0;
    assert_int_equal(pipe(told) | pipe(end), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(end[1]);
        fill_context(path, model_options, options);
        expect(write(told[1], "", 1) == 1);
        expect(read(end[0], &byte, 1) == 0); /* until the parent has seen enough */
        _exit(0);
    }
    close(told[1]);
    close(end[0]);
    bool came = read(told[0], &byte, 1) == 1;
    uint64_t bytes = came ? anonymous_bytes(pid) : 0;
    close(told[0]);
    close(end[1]);
    waitpid(pid, NULL, 0);
    assert_true(came);
    return bytes;
}

static void expect_estimate(const char *path, bool no_mmap, struct hearth_engine_options options)
{
    struct hearth_model_options model_options = {.no_mmap = no_mmap};
    struct hearth_estimate estimate;
    struct hearth_model *model = open_path(path, &model_options);
    assert_int_equal(hearth_engine_estimate(model, &options, &estimate, NULL), 0);
    hearth_model_close(model);
    assert_int_equal(estimate.context, options.context);
    uint64_t real = measure(path, &model_options, &options);
    print_message("%s, %u tokens, KV type %d: said %.1f MB, is %.1f MB, %.3f\n",
                  strrchr(path, '/') + 1, options.context, (int)options.kv_type,
                  (double)estimate.private_bytes / 1e6, (double)real / 1e6,
                  (double)estimate.private_bytes / (double)real);
    assert_true(estimate.private_bytes >= real);
    assert_true((double)estimate.private_bytes <= 1.2 * (double)real);
    assert_true(estimate.total_bytes ==
                estimate.private_bytes + (no_mmap ? 0 : estimate.weights_bytes));
}

static void the_estimate_is_never_below_and_hardly_above(void **state)
{
    (void)state;
    char path[512];
    bool any = false;
    if (SANITIZED)
        skip();
    if (real_path("SmolLM2-135M-Instruct.Q4_1.gguf", path)) {
        expect_estimate(path, false, (struct hearth_engine_options){.threads = 2, .context = 2048});
        expect_estimate(path, false,
                        (struct hearth_engine_options){
                            .threads = 2, .context = 1024, .kv_type = HEARTH_KV_Q8_0});
        expect_estimate(path, true, (struct hearth_engine_options){.threads = 2, .context = 512});
        any = true;
    }
    if (real_path("gemma-3-270m-q4_k_m.gguf", path)) {
        expect_estimate(path, false, (struct hearth_engine_options){.threads = 2, .context = 2048});
        expect_estimate(
            path, false,
            (struct hearth_engine_options){
                .context = 1536, .threads = 1, .chunk_tokens = 64, .kv_type = HEARTH_KV_Q8_0});
        any = true;
    }
    if (getenv("HEARTH_LARGE_MODEL")) {
        expect_estimate(getenv("HEARTH_LARGE_MODEL"), false,
                        (struct hearth_engine_options){.threads = 2, .context = 512});
        any = true;
    }
    if (!any)
        skip();
}

/* ---- limits ---- */

/* What the tiny model takes beside the KV cache, as the engine counts it now; a token of it takes
 * 1024 bytes, in blocks of 32 with a page for their header. */
enum { BLOCK = 9 * 4096 };

static uint64_t beside_cache(const struct hearth_model *model)
{
    struct hearth_memory memory;
    struct hearth_estimate estimate;
    struct hearth_engine_options options = {.threads = 1};
    assert_int_equal(hearth_engine_estimate(model, &options, &estimate, NULL), 0);
    assert_int_equal(hearth_process_memory(&memory), 0);
    assert_int_equal(estimate.kv_bytes, 64 * BLOCK);
    uint64_t own =
        memory.private_bytes > estimate.fixed_bytes ? memory.private_bytes : estimate.fixed_bytes;
    return estimate.weights_bytes + estimate.scratch_bytes + own;
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

static void what_does_not_fit_is_refused_with_the_figures(void **state)
{
    (void)state;
    struct hearth_model *model = timeline_make_up("tiny:F16");
    struct hearth_engine *engine = NULL;
    struct hearth_error err;
    struct hearth_engine_options options = {.threads = 1, .memory_max = 4 * MIB};
    assert_int_equal(hearth_engine_open(model, &options, &engine, &err), HEARTH_E_LIMIT);
    assert_null(engine);
    assert_non_null(strstr(err.text, "KV cache of 2048 tokens 2.4"));
    assert_non_null(strstr(err.text, "weights"));
    assert_non_null(strstr(err.text, "the limit of 4.2 MB"));
    /* all but the KV cache of a context that is asked for */
    options.memory_max = beside_cache(model) + 4 * MIB;
    options.context = 32768;
    assert_int_equal(hearth_engine_open(model, &options, &engine, &err), HEARTH_E_LIMIT);
    assert_non_null(strstr(err.text, "KV cache of 32768 tokens"));
    options.memory_max = HEARTH_MEMORY_UNLIMITED;
    hearth_engine_close(open_engine(model, options));
    options.memory_max = 0; /* half of the machine has room for it */
    hearth_engine_close(open_engine(model, options));
    options.fit = (enum hearth_fit)7;
    assert_int_equal(hearth_engine_open(model, &options, &engine, &err), HEARTH_E_ARGUMENT);
    hearth_model_close(model);
}

static void a_context_is_shrunk_to_what_fits_where_that_is_wanted(void **state)
{
    (void)state;
    struct hearth_model *model = timeline_make_up("tiny:F16");
    struct hearth_sequence *sequence;
    uint64_t others = beside_cache(model) + MIB; /* the test itself takes a little more by now */
    struct hearth_engine_options options = {
        .threads = 1, .memory_max = others + 40 * BLOCK, .fit = HEARTH_FIT_SHRINK};
    struct hearth_engine *engine = open_engine(model, options);
    uint32_t fits = hearth_engine_context(engine);
    assert_true(fits >= 40 * 32 && fits < 70 * 32);
    assert_int_equal(hearth_sequence_open(engine, 30000, &sequence, NULL), 0);
    assert_int_equal(hearth_sequence_context(sequence), fits);
    hearth_sequence_close(sequence);
    assert_int_equal(hearth_sequence_open(engine, 100, &sequence, NULL), 0);
    assert_int_equal(hearth_sequence_context(sequence), 100); /* a hard limit */
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    /* not even a block */
    options.memory_max = 4 * MIB;
    assert_int_equal(hearth_engine_open(model, &options, &engine, NULL), HEARTH_E_LIMIT);
    hearth_model_close(model);
}

static void a_sequence_is_refused_or_shrunk_as_the_engine_says(void **state)
{
    (void)state;
    struct hearth_model *model = timeline_make_up("tiny:F16");
    struct hearth_engine_options options = {.threads = 1, .kv_bytes_max = 10 * BLOCK + 4096};
    struct hearth_sequence *sequence;
    struct hearth_error err;
    struct hearth_engine *engine = open_engine(model, options);
    assert_int_equal(hearth_engine_context(engine), 320);
    assert_int_equal(hearth_sequence_open(engine, 321, &sequence, &err), HEARTH_E_LIMIT);
    assert_non_null(strstr(err.text, "a context of 321 tokens"));
    assert_non_null(strstr(err.text, ": 320 tokens"));
    assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
    compute(engine, sequence, 320, HEARTH_LOGITS_LAST);
    uint32_t id = 1;
    assert_int_equal(hearth_sequence_extend(sequence, &id, 1, HEARTH_LOGITS_LAST, &err),
                     HEARTH_E_LIMIT);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    options.fit = HEARTH_FIT_SHRINK;
    engine = open_engine(model, options);
    assert_int_equal(hearth_sequence_open(engine, 321, &sequence, NULL), 0);
    assert_int_equal(hearth_sequence_context(sequence), 320);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

/* ---- limits that change ---- */

static void a_limit_that_changes_holds_from_then_on(void **state)
{
    (void)state;
    struct hearth_model *model = timeline_make_up("tiny:F16");
    uint64_t others = beside_cache(model) + MIB;
    struct hearth_engine_options options = {.threads = 1, .memory_max = others + 200 * BLOCK};
    struct hearth_engine *engine = open_engine(model, options);
    uint32_t context = hearth_engine_context(engine);
    struct hearth_sequence *sequence, *other;
    assert_true(context >= 200 * 32);
    assert_int_equal(hearth_sequence_open(engine, 100 * 32, &sequence, NULL), 0);
    compute(engine, sequence, 80 * 32, HEARTH_LOGITS_LAST);
    /* what the engine itself takes by now is not counted twice; what a sanitizer takes is counted
     */
    hearth_engine_use_memory(engine, others + 200 * BLOCK);
    assert_true(SANITIZED || hearth_engine_context(engine) + 64 * 32 >= context);
    hearth_engine_use_memory(engine, others + 100 * BLOCK);
    assert_true(hearth_engine_context(engine) < context);
    assert_int_equal(hearth_sequence_open(engine, context, &other, NULL), HEARTH_E_LIMIT);
    /* below what there is: it stays, and nothing is added */
    hearth_engine_use_memory(engine, 1);
    assert_int_equal(hearth_sequence_length(sequence), 80 * 32);
    assert_int_equal(hearth_engine_context(engine), 32);
    uint32_t id = 1;
    assert_int_equal(hearth_sequence_extend(sequence, &id, 1, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_status(sequence, NULL), HEARTH_E_LIMIT);
    hearth_sequence_close(sequence);
    hearth_engine_use_memory(engine, HEARTH_MEMORY_UNLIMITED);
    assert_int_equal(hearth_sequence_open(engine, context, &other, NULL), 0);
    compute(engine, other, 160 * 32, HEARTH_LOGITS_LAST);
    hearth_sequence_close(other);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

/* ---- what is really committed ---- */

static uint64_t own_bytes(void)
{
    struct hearth_memory memory;
    assert_int_equal(hearth_process_memory(&memory), 0);
    return memory.private_bytes;
}

static void a_context_takes_memory_as_it_is_written_and_gives_it_back(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    struct hearth_model *model = timeline_make_up("tiny:F16");
    struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){.threads = 1});
    struct hearth_sequence *sequence;
    uint64_t before = own_bytes();
    assert_int_equal(hearth_sequence_open(engine, 1000000, &sequence, NULL), 0);
    assert_true(own_bytes() < before + MIB / 4);
    compute(engine, sequence, 256, HEARTH_LOGITS_LAST); /* working memory, too */
    uint64_t small = own_bytes();
    compute(engine, sequence, 8192 - 256, HEARTH_LOGITS_LAST);
    uint64_t large = own_bytes(), grown = (8192 - 256) / 32 * BLOCK;
    assert_true(large >= small + grown && large < small + grown + grown / 4);
    assert_int_equal(hearth_sequence_truncate(sequence, 256, NULL), 0);
    assert_true(own_bytes() < small + grown / 4);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
}

/* Weights may go when memory is short, and come back. */
static void weights_that_rest_come_back(void **state)
{
    (void)state;
    char path[512];
    struct hearth_memory before, resting, after;
    if (SANITIZED || !real_path("SmolLM2-135M-Instruct.Q4_1.gguf", path))
        skip();
    for (int no_mmap = 0; no_mmap < 2; no_mmap++) {
        struct hearth_model_options options = {.no_mmap = no_mmap};
        struct hearth_model *model = open_path(path, &options);
        struct hearth_engine *engine = open_engine(model, (struct hearth_engine_options){0});
        struct hearth_sequence *sequence;
        float first[2], again[2];
        assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
        compute(engine, sequence, 20, HEARTH_LOGITS_LAST);
        memcpy(first, hearth_sequence_logits(sequence, 0), sizeof first);
        assert_int_equal(hearth_process_memory(&before), 0);
        hearth_model_rest(model);
        assert_int_equal(hearth_process_memory(&resting), 0);
        assert_int_equal(hearth_sequence_truncate(sequence, 0, NULL), 0);
        compute(engine, sequence, 20, HEARTH_LOGITS_LAST);
        memcpy(again, hearth_sequence_logits(sequence, 0), sizeof again);
        assert_memory_equal(first, again, sizeof first);
        assert_int_equal(hearth_process_memory(&after), 0);
        if (no_mmap) {
            assert_true(resting.private_bytes + MIB >= before.private_bytes);
        } else {
            assert_true(before.mapped_bytes > 90 * MIB);
            assert_true(resting.mapped_bytes < 20 * MIB);
            assert_true(after.mapped_bytes > 80 * MIB);
        }
        hearth_sequence_close(sequence);
        hearth_engine_close(engine);
        hearth_model_close(model);
    }
}

/* Many conversations that outgrow the limit together: some fail, the process never takes more. */
static void crowd(const char *path, uint64_t private_max)
{
    struct hearth_model *model = open_path(path, NULL);
    struct hearth_model_info info;
    struct hearth_memory memory;
    struct hearth_engine *engine;
    struct hearth_sequence *sequences[24];
    bool limited = false;
    hearth_model_info(model, &info);
    struct hearth_engine_options options = {.memory_max = info.file_bytes + private_max};
    expect(hearth_engine_open(model, &options, &engine, NULL) == 0);
    for (uint32_t s = 0; s < 24; s++) {
        uint32_t ids[192];
        for (uint32_t i = 0; i < 192; i++)
            ids[i] = 1000 + 31 * s + i % 7;
        expect(hearth_sequence_open(engine, 0, &sequences[s], NULL) == 0);
        /* all logits of some: their rows are limited, too */
        enum hearth_logits logits = s % 8 == 0 ? HEARTH_LOGITS_ALL : HEARTH_LOGITS_LAST;
        expect(hearth_sequence_extend(sequences[s], ids, 192, logits, NULL) == 0);
        while (hearth_sequence_pending(sequences[s]) > 0)
            expect(hearth_engine_step(engine, NULL, NULL) == 0);
        limited = limited || hearth_sequence_status(sequences[s], NULL) == HEARTH_E_LIMIT;
        expect(hearth_process_memory(&memory) == 0);
        expect(memory.private_bytes <= private_max);
    }
    expect(limited && memory.private_bytes > private_max / 2);
}

static void the_process_never_takes_more_than_its_limit(void **state)
{
    (void)state;
    char path[512];
    int status;
    if (SANITIZED || !real_path("SmolLM2-135M-Instruct.Q4_1.gguf", path))
        skip();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        crowd(path, 80 * MIB);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_estimate_is_never_below_and_hardly_above),
        cmocka_unit_test(what_does_not_fit_is_refused_with_the_figures),
        cmocka_unit_test(a_context_is_shrunk_to_what_fits_where_that_is_wanted),
        cmocka_unit_test(a_sequence_is_refused_or_shrunk_as_the_engine_says),
        cmocka_unit_test(a_limit_that_changes_holds_from_then_on),
        cmocka_unit_test(a_context_takes_memory_as_it_is_written_and_gives_it_back),
        cmocka_unit_test(weights_that_rest_come_back),
        cmocka_unit_test(the_process_never_takes_more_than_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
