/* Shared beginnings, forks and saved sequences: whatever a sequence was made from, its logits are
 * those of one computed alone, bit for bit. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "gguf/types.h"
#include "timeline.h"
#include "tiny_model.h"

#define LENGTH 150
#define VOCABULARY 96

/* One model that sees everything and one with a window of 40 tokens. */
static struct hearth_model *models[2];

static uint32_t texts[3][LENGTH]; /* the second leaves the first at token 70, the third at 0 */

static struct hearth_engine *open_engine_of(size_t m, enum hearth_kv_type kv_type,
                                            uint64_t bytes_max)
{
    struct hearth_engine_options options = {
        .threads = 2, .kv_type = kv_type, .chunk_tokens = 64, .kv_bytes_max = bytes_max};
    struct hearth_engine *engine;
    assert_int_equal(hearth_engine_open(models[m], &options, &engine, NULL), 0);
    return engine;
}

static struct hearth_engine *open_engine(size_t m)
{
    return open_engine_of(m, HEARTH_KV_Q8_0, 0);
}

/* The logits behind each of a text's tokens, computed alone. */
static float *logits_of(size_t m, size_t text)
{
    float *logits = malloc(LENGTH * VOCABULARY * sizeof *logits);
    struct hearth_engine *engine = open_engine(m);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    timeline_extend(sequence, texts[text], LENGTH);
    timeline_step_all(engine, sequence, logits, VOCABULARY);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    return logits;
}

static float *alone[2][3];

/* Computes a text up to `count` tokens; returns how many of them were not computed again. */
static size_t compute(struct hearth_engine *engine, struct hearth_sequence *sequence, size_t m,
                      size_t text, size_t count)
{
    size_t reused;
    assert_int_equal(hearth_sequence_reuse(sequence, texts[text], count - 1, &reused, NULL), 0);
    assert_int_equal(hearth_sequence_length(sequence), reused);
    assert_int_equal(hearth_sequence_extend(sequence, texts[text] + reused, count - reused,
                                            HEARTH_LOGITS_LAST, NULL),
                     0);
    while (hearth_sequence_pending(sequence) > 0)
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_status(sequence, NULL), 0);
    assert_int_equal(hearth_sequence_logit_rows(sequence), 1);
    assert_memory_equal(hearth_sequence_logits(sequence, 0),
                        alone[m][text] + (count - 1) * VOCABULARY, VOCABULARY * sizeof(float));
    assert_memory_equal(hearth_sequence_ids(sequence), texts[text], count * sizeof(uint32_t));
    return reused;
}

static void a_second_sequence_computes_what_is_different(void **state)
{
    (void)state;
    struct hearth_engine *engine = open_engine(0);
    struct hearth_sequence *first = timeline_open_sequence(engine);
    struct hearth_sequence *second = timeline_open_sequence(engine);
    assert_int_equal(compute(engine, first, 0, 0, 120), 0);
    hearth_sequence_remember(first);
    assert_int_equal(compute(engine, second, 0, 1, LENGTH), 70);
    assert_int_equal(compute(engine, first, 0, 0, LENGTH), 120);
    assert_int_equal(compute(engine, second, 0, 0, 100), 99); /* back to what the other had */
    hearth_sequence_close(first);
    hearth_sequence_close(second);
    hearth_engine_close(engine);
}

static void what_closed_sequences_computed_is_still_known(void **state)
{
    (void)state;
    struct hearth_engine *engine = open_engine(0);
    struct hearth_engine_memory memory;
    for (int i = 0; i < 3; i++) {
        struct hearth_sequence *sequence = timeline_open_sequence(engine);
        assert_int_equal(compute(engine, sequence, 0, 0, LENGTH), i == 0 ? 0 : LENGTH - 1);
        hearth_sequence_remember(sequence);
        hearth_sequence_close(sequence);
    }
    hearth_engine_memory(engine, &memory);
    assert_int_equal(memory.cached_bytes, memory.kv_bytes);
    assert_true(memory.kv_bytes > 0);
    assert_int_equal(hearth_engine_trim(engine, UINT64_MAX), memory.cached_bytes);
    hearth_engine_memory(engine, &memory);
    assert_int_equal(memory.kv_bytes, 0);
    hearth_engine_close(engine);
}

static void windows_begin_again_where_something_was_remembered(void **state)
{
    (void)state;
    struct hearth_engine *engine = open_engine(1);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    compute(engine, sequence, 1, 0, 60);
    hearth_sequence_remember(sequence);
    compute(engine, sequence, 1, 0, LENGTH);
    hearth_sequence_remember(sequence);
    hearth_sequence_close(sequence);
    sequence = timeline_open_sequence(engine);
    assert_int_equal(compute(engine, sequence, 1, 1, LENGTH), 60);
    assert_int_equal(compute(engine, sequence, 1, 0, LENGTH), LENGTH - 1);
    assert_int_equal(compute(engine, sequence, 1, 2, LENGTH), 0);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static void a_fork_goes_its_own_way(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct hearth_engine *engine = open_engine(m);
        struct hearth_sequence *sequence = timeline_open_sequence(engine), *fork;
        compute(engine, sequence, m, 0, 70);
        assert_int_equal(hearth_sequence_fork(sequence, 70, &fork, NULL), 0);
        assert_int_equal(compute(engine, fork, m, 1, LENGTH), 70);
        assert_int_equal(compute(engine, sequence, m, 0, LENGTH), 70);
        assert_int_equal(hearth_sequence_fork(sequence, LENGTH + 1, &fork, NULL),
                         HEARTH_E_ARGUMENT);
        hearth_sequence_close(fork);
        hearth_sequence_close(sequence);
        hearth_engine_close(engine);
    }
}

static void a_full_cache_gives_way_to_what_runs(void **state)
{
    (void)state;
    struct hearth_engine *roomy = open_engine(0), *engine;
    struct hearth_sequence *sequence = timeline_open_sequence(roomy);
    struct hearth_engine_memory memory;
    compute(roomy, sequence, 0, 0, LENGTH);
    hearth_engine_memory(roomy, &memory);
    hearth_sequence_close(sequence);
    hearth_engine_close(roomy);

    engine = open_engine_of(0, HEARTH_KV_Q8_0, memory.kv_bytes * 3 / 2);
    for (int round = 0; round < 4; round++) {
        sequence = timeline_open_sequence(engine);
        compute(engine, sequence, 0, round % 2 ? 2 : 0, LENGTH);
        hearth_sequence_remember(sequence);
        hearth_sequence_close(sequence);
    }
    hearth_engine_close(engine);
}

/* ---- sequences as bytes ---- */

struct bytes {
    unsigned char *data;
    size_t size, at, limit;
};

static bool write_bytes(void *context, const void *data, size_t size)
{
    struct bytes *bytes = context;
    if (size > bytes->limit - bytes->size)
        return false;
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    return true;
}

static bool read_bytes(void *context, void *data, size_t size)
{
    struct bytes *bytes = context;
    if (size > bytes->size - bytes->at)
        return false;
    memcpy(data, bytes->data + bytes->at, size);
    bytes->at += size;
    return true;
}

static struct bytes save(const struct hearth_sequence *sequence)
{
    size_t size = hearth_sequence_save_bytes(sequence);
    struct bytes bytes = {.data = malloc(size), .limit = size};
    assert_int_equal(hearth_sequence_save(sequence, write_bytes, &bytes, NULL), 0);
    assert_int_equal(bytes.size, size);
    return bytes;
}

static int load(struct hearth_sequence *sequence, struct bytes bytes, struct hearth_error *err)
{
    bytes.at = 0;
    return hearth_sequence_load(sequence, read_bytes, &bytes, err);
}

static void a_saved_sequence_goes_on_as_if_it_had_stayed(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct hearth_engine *engine = open_engine(m), *other = open_engine(m);
        struct hearth_sequence *sequence = timeline_open_sequence(engine);
        struct hearth_sequence *restored = timeline_open_sequence(other);
        compute(engine, sequence, m, 0, 100);
        struct bytes bytes = save(sequence);
        compute(other, restored, m, 2, 30);
        assert_int_equal(load(restored, bytes, NULL), 0);
        assert_int_equal(compute(other, restored, m, 0, LENGTH), 100);
        free(bytes.data);
        hearth_sequence_close(sequence);
        hearth_sequence_close(restored);
        hearth_engine_close(engine);
        hearth_engine_close(other);
    }
}

static void what_cannot_be_written_or_read_changes_nothing(void **state)
{
    (void)state;
    struct hearth_engine *engine = open_engine(1);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    struct hearth_error err;
    compute(engine, sequence, 1, 0, 100);
    struct bytes bytes = save(sequence);
    for (size_t cut = 0; cut < bytes.size; cut += cut < 200 ? 1 : 997) {
        struct bytes less = {.data = bytes.data, .size = cut, .limit = cut};
        assert_int_equal(load(sequence, less, &err), HEARTH_E_IO);
        unsigned char *copy = malloc(bytes.size);
        struct bytes full = {.data = copy, .limit = cut};
        assert_int_equal(hearth_sequence_save(sequence, write_bytes, &full, &err), HEARTH_E_IO);
        free(copy);
    }
    assert_int_equal(compute(engine, sequence, 1, 0, 101), 100);
    free(bytes.data);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static void the_sequence_of_another_model_or_type_is_refused(void **state)
{
    (void)state;
    struct hearth_engine *engine = open_engine(0);
    struct hearth_engine *others[2] = {open_engine_of(0, HEARTH_KV_F16, 0), open_engine(1)};
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    struct hearth_error err;
    compute(engine, sequence, 0, 0, 50);
    struct bytes bytes = save(sequence);
    for (int i = 0; i < 2; i++) {
        struct hearth_sequence *other = timeline_open_sequence(others[i]);
        assert_int_equal(load(other, bytes, &err), HEARTH_E_FORMAT);
        hearth_sequence_close(other);
        hearth_engine_close(others[i]);
    }
    free(bytes.data);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static void forged_bytes_give_errors_or_numbers_and_nothing_worse(void **state)
{
    (void)state;
    struct hearth_engine *engine = open_engine(1);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    struct random random = random_from_seed(3);
    compute(engine, sequence, 1, 0, 60);
    struct bytes bytes = save(sequence);
    size_t loaded = 0;
    for (int round = 0; round < 400; round++) {
        struct hearth_sequence *victim = timeline_open_sequence(engine);
        struct bytes forged = {.data = malloc(bytes.size), .size = bytes.size};
        memcpy(forged.data, bytes.data, bytes.size);
        for (int i = 0; i < 1 + round % 50; i++) {
            size_t range = round % 2 ? 64 : bytes.size;
            forged.data[random_u64(&random) % range] = (unsigned char)random_u64(&random);
        }
        if (load(victim, forged, NULL) == 0) {
            uint32_t id = 1;
            loaded++;
            assert_int_equal(hearth_sequence_extend(victim, &id, 1, HEARTH_LOGITS_LAST, NULL), 0);
            assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
        }
        free(forged.data);
        hearth_sequence_close(victim);
    }
    assert_in_range(loaded, 100, 399);
    free(bytes.data);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static int set_up(void **state)
{
    (void)state;
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_Q4_1, TYPE_F16};
    static const struct tiny_model shapes[2] = {
        {"llama", VOCABULARY, 64, 2, 4, 2, 32, 96, 0, types, 3, 5, NULL},
        {"gemma3", VOCABULARY, 64, 4, 3, 1, 32, 96, 40, types, 3, 6, NULL},
    };
    struct random random = random_from_seed(9);
    for (size_t i = 0; i < LENGTH; i++) {
        texts[0][i] = (uint32_t)(random_u64(&random) % VOCABULARY);
        texts[1][i] = i < 70 ? texts[0][i] : (texts[0][i] + 1) % VOCABULARY;
        texts[2][i] = (texts[0][i] + 2) % VOCABULARY;
    }
    for (size_t m = 0; m < 2; m++) {
        char path[TEST_PATH_MAX];
        tiny_model_write(&shapes[m], path);
        models[m] = timeline_open_model(path);
        remove(path);
        for (size_t text = 0; text < 3; text++)
            alone[m][text] = logits_of(m, text);
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        for (size_t text = 0; text < 3; text++)
            free(alone[m][text]);
        hearth_model_close(models[m]);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_sequence_computes_what_is_different),
        cmocka_unit_test(what_closed_sequences_computed_is_still_known),
        cmocka_unit_test(windows_begin_again_where_something_was_remembered),
        cmocka_unit_test(a_fork_goes_its_own_way),
        cmocka_unit_test(a_full_cache_gives_way_to_what_runs),
        cmocka_unit_test(a_saved_sequence_goes_on_as_if_it_had_stayed),
        cmocka_unit_test(what_cannot_be_written_or_read_changes_nothing),
        cmocka_unit_test(the_sequence_of_another_model_or_type_is_refused),
        cmocka_unit_test(forged_bytes_give_errors_or_numbers_and_nothing_worse),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
