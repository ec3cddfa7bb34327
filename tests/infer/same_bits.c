/* The same tokens give the same logits, bit for bit, whatever else is done: however a prompt is cut
 * into chunks, whoever is computed in the same step, on however many threads, in whichever tier,
 * and after going back or giving up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/random.h"
#include "timeline.h"
#include "tiny_model.h"

#define LENGTH 300 /* tokens: past a split of attention (256), in the middle of a block (32) */
#define STREAMS 4
#define SUBJECTS 2
#define TIERS_MAX 8
#define KV_TYPES_COUNT 4

/* Of the other streams: in a first block, at its edge, past several. */
static const size_t stream_length[STREAMS] = {LENGTH, 5, 64, 137};

struct subject {
    const char *name;
    struct hearth_model *model;
    size_t vocabulary;
    uint32_t ids[STREAMS][LENGTH];
};

/* A model in one tier with one KV type, and the logits of each stream computed alone. */
struct ground {
    const struct subject *subject;
    const char *tier;
    enum hearth_kv_type kv_type;
    float *logits[STREAMS];
};

static const char *const kv_names[KV_TYPES_COUNT] = {
    [HEARTH_KV_F16] = "F16",
    [HEARTH_KV_Q8_0] = "Q8_0",
    [HEARTH_KV_Q4_0] = "Q4_0",
    [HEARTH_KV_Q8_0_Q4_0] = "Q8_0:Q4_0",
};

static struct {
    struct subject subjects[SUBJECTS];
    struct ground grounds[SUBJECTS * TIERS_MAX * KV_TYPES_COUNT];
    size_t ground_count;
} all;

static void make_subject(struct subject *subject, const struct tiny_model *shape)
{
    char path[TEST_PATH_MAX];
    tiny_model_write(shape, path);
    subject->name = shape->architecture;
    subject->model = timeline_open_model(path);
    subject->vocabulary = shape->vocabulary;
    remove(path);
    struct random random = random_from_seed(shape->seed + 1);
    for (size_t s = 0; s < STREAMS; s++) {
        for (size_t i = 0; i < LENGTH; i++)
            subject->ids[s][i] = (uint32_t)(random_u64(&random) % shape->vocabulary);
    }
}

static void lay_ground(const struct subject *subject, const char *tier, enum hearth_kv_type kv_type)
{
    struct ground *ground = &all.grounds[all.ground_count++];
    *ground = (struct ground){.subject = subject, .tier = tier, .kv_type = kv_type};
    struct setting setting = {.tier = tier, .kv_type = kv_type, .threads = 1, .chunk_tokens = 512};
    for (size_t s = 0; s < STREAMS; s++)
        ground->logits[s] =
            timeline_logits(subject->model, &setting, subject->ids[s], stream_length[s]);
}

static int set_up(void **state)
{
    (void)state;
    static const uint32_t every_type[] = {
        TYPE_F32,  TYPE_Q6_K, TYPE_Q4_K, TYPE_Q4_0, TYPE_Q4_1, TYPE_Q5_0,   TYPE_Q5_1,   TYPE_Q8_0,
        TYPE_Q2_K, TYPE_Q3_K, TYPE_Q5_K, TYPE_F16,  TYPE_BF16, TYPE_IQ4_NL, TYPE_IQ4_XS, TYPE_MXFP4,
    };
    static const uint32_t some_types[] = {TYPE_Q8_0, TYPE_F32, TYPE_Q4_1};
    /* the first type is that of the embedding, which is only looked up; it multiplies in the other
     */
    make_subject(&all.subjects[0], &(struct tiny_model){"llama", 96, 256, 2, 4, 2, 64, 256, 0,
                                                        every_type, 16, 1, NULL});
    make_subject(&all.subjects[1], &(struct tiny_model){"gemma3", 96, 64, 4, 3, 1, 32, 96, 40,
                                                        some_types, 3, 2, NULL});
    for (size_t i = 0; i < SUBJECTS; i++) {
        for (size_t t = 0; timeline_tier(t); t++) {
            if (!timeline_has_tier(all.subjects[i].model, timeline_tier(t)))
                continue;
            for (int type = 0; type < KV_TYPES_COUNT; type++)
                lay_ground(&all.subjects[i], timeline_tier(t), (enum hearth_kv_type)type);
        }
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t g = 0; g < all.ground_count; g++) {
        for (size_t s = 0; s < STREAMS; s++)
            free(all.grounds[g].logits[s]);
    }
    for (size_t i = 0; i < SUBJECTS; i++)
        hearth_model_close(all.subjects[i].model);
    return 0;
}

/* ---- comparing ---- */

static void same_bits(const char *what, const float *got, const float *expected, size_t first,
                      size_t rows, size_t vocabulary)
{
    if (memcmp(got, expected, rows * vocabulary * sizeof *got) == 0)
        return;
    size_t i = 0;
    while (memcmp(&got[i], &expected[i], sizeof *got) == 0)
        i++;
    fail_msg("%s: at position %zu the logit of token %zu is %a, not %a", what,
             first + i / vocabulary, i % vocabulary, (double)got[i], (double)expected[i]);
}

static void describe(char text[128], const struct ground *ground, const struct setting *setting)
{
    snprintf(text, 128, "%s, %s, KV %s, %u threads, chunks of %u", ground->subject->name,
             setting->tier, kv_names[setting->kv_type], setting->threads, setting->chunk_tokens);
}

/* Whether a row that the engine holds is that of a stream at a position. */
static void same_row(const char *what, const struct ground *ground, size_t stream, size_t position,
                     const float *row)
{
    size_t vocabulary = ground->subject->vocabulary;
    same_bits(what, row, ground->logits[stream] + position * vocabulary, position, 1, vocabulary);
}

/* The reference has to show that it does as the others do, not everything that they show. */
static bool is_slow(const struct ground *ground)
{
    return strcmp(ground->tier, "ref") == 0;
}

/* ---- chunks and threads ---- */

static void check_setting(const struct ground *ground, unsigned threads, uint32_t chunk)
{
    struct setting setting = {ground->tier, ground->kv_type, threads, chunk};
    const struct subject *subject = ground->subject;
    char what[128];
    describe(what, ground, &setting);
    float *logits = timeline_logits(subject->model, &setting, subject->ids[0], LENGTH);
    same_bits(what, logits, ground->logits[0], 0, LENGTH, subject->vocabulary);
    free(logits);
}

static void chunks_and_threads_do_not_change_a_bit(void **state)
{
    (void)state;
    static const struct {
        unsigned threads;
        uint32_t chunk;
    } ways[] = {{1, 1}, {2, 7}, {3, 32}, {4, 512}, {5, 7}, {2, 512}, {3, 1}, {5, 32}, {1, 7}};
    for (size_t g = 0; g < all.ground_count; g++) {
        size_t count = is_slow(&all.grounds[g]) ? 4 : sizeof ways / sizeof ways[0];
        for (size_t w = 0; w < count; w++)
            check_setting(&all.grounds[g], ways[w].threads, ways[w].chunk);
    }
}

/* ---- company ---- */

/* Queues the next tokens of a stream; how many differs from stream to stream and time to time. */
static void extend_some(struct hearth_sequence *sequence, const struct subject *subject,
                        size_t stream, size_t round)
{
    static const size_t amounts[] = {1, 1, 40, 3, 1, 17, 1, 90, 1};
    size_t held = hearth_sequence_length(sequence) + hearth_sequence_pending(sequence);
    size_t amount = amounts[(round + 2 * stream) % 9], left = stream_length[stream] - held;
    if (hearth_sequence_pending(sequence) == 0 && left > 0)
        timeline_extend(sequence, subject->ids[stream] + held, amount < left ? amount : left);
}

static void check_rows(const char *what, const struct ground *ground, size_t stream,
                       const struct hearth_sequence *sequence)
{
    size_t rows = hearth_sequence_logit_rows(sequence);
    size_t first = hearth_sequence_length(sequence) - rows;
    for (size_t row = 0; row < rows; row++)
        same_row(what, ground, stream, first + row, hearth_sequence_logits(sequence, row));
}

static void check_company(const struct ground *ground, unsigned threads, uint32_t chunk)
{
    struct setting setting = {ground->tier, ground->kv_type, threads, chunk};
    struct hearth_engine *engine = timeline_open_engine(ground->subject->model, &setting);
    struct hearth_sequence *sequences[STREAMS];
    char what[128];
    size_t computed = 0, wanted = 0;
    describe(what, ground, &setting);
    for (size_t s = 0; s < STREAMS; s++) {
        sequences[s] = timeline_open_sequence(engine);
        wanted += stream_length[s];
    }
    for (size_t round = 0; computed < wanted; round++) {
        size_t tokens = 0;
        for (size_t s = 0; s < STREAMS; s++)
            extend_some(sequences[s], ground->subject, s, round);
        assert_int_equal(hearth_engine_step(engine, &tokens, NULL), 0);
        assert_true(tokens > 0);
        computed += tokens;
        for (size_t s = 0; s < STREAMS; s++) {
            assert_int_equal(hearth_sequence_status(sequences[s], NULL), 0);
            check_rows(what, ground, s, sequences[s]);
        }
    }
    for (size_t s = 0; s < STREAMS; s++) {
        assert_int_equal(hearth_sequence_length(sequences[s]), stream_length[s]);
        hearth_sequence_close(sequences[s]);
    }
    hearth_engine_close(engine);
}

static void company_does_not_change_a_bit(void **state)
{
    (void)state;
    for (size_t g = 0; g < all.ground_count; g++) {
        check_company(&all.grounds[g], 2, 32);
        if (is_slow(&all.grounds[g]))
            continue;
        check_company(&all.grounds[g], 3, 512);
        check_company(&all.grounds[g], 1, 5);
    }
}

/* ---- going back ---- */

/* Computes the first stream's tokens from `first` on and compares them. */
static void continue_from(const char *what, const struct ground *ground,
                          struct hearth_engine *engine, struct hearth_sequence *sequence,
                          size_t first)
{
    size_t vocabulary = ground->subject->vocabulary;
    float *logits = malloc(LENGTH * vocabulary * sizeof *logits);
    assert_non_null(logits);
    timeline_extend(sequence, ground->subject->ids[0] + first, LENGTH - first);
    assert_int_equal(timeline_step_all(engine, sequence, logits, vocabulary), LENGTH - first);
    same_bits(what, logits, ground->logits[0] + first * vocabulary, first, LENGTH - first,
              vocabulary);
    free(logits);
}

static void check_going_back(const struct ground *ground)
{
    /* within the last block, to the split's edges, to none, to blocks' edges, to the first token
     */
    static const size_t places[] = {299, 257, 0, 256, 255, 290, 96, 33, 1};
    const size_t count = is_slow(ground) ? 3 : sizeof places / sizeof places[0];
    struct setting setting = {ground->tier, ground->kv_type, 2, 64};
    struct hearth_engine *engine = timeline_open_engine(ground->subject->model, &setting);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    char what[128];
    describe(what, ground, &setting);
    continue_from(what, ground, engine, sequence, 0);
    for (size_t p = 0; p < count; p++) {
        int status = hearth_sequence_truncate(sequence, places[p], NULL);
        if (status) { /* a window has moved on: nothing may be gone */
            assert_int_equal(status, HEARTH_E_STATE);
            assert_string_equal(ground->subject->name, "gemma3");
            assert_true(places[p] > 0 && places[p] < LENGTH - 1);
            assert_int_equal(hearth_sequence_length(sequence), LENGTH);
            continue;
        }
        assert_int_equal(hearth_sequence_length(sequence), places[p]);
        /* another answer from there on, that leaves other keys and values behind */
        timeline_extend(sequence, ground->subject->ids[3], 7);
        float others[7 * 96];
        assert_int_equal(timeline_step_all(engine, sequence, others, ground->subject->vocabulary),
                         7);
        assert_int_equal(hearth_sequence_truncate(sequence, places[p], NULL), 0);
        continue_from(what, ground, engine, sequence, places[p]);
    }
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static void going_back_and_continuing_gives_the_same_bits(void **state)
{
    (void)state;
    for (size_t g = 0; g < all.ground_count; g++)
        check_going_back(&all.grounds[g]);
}

/* ---- giving up ---- */

/* Cancels from another thread, some microseconds after it was told to. */
struct canceller {
    struct hearth_sequence *sequence;
    uint64_t delay_ns;
    atomic_bool begin;
};

static void cancel_later(void *context)
{
    struct canceller *canceller = context;
    while (!atomic_load(&canceller->begin))
        os_thread_pause();
    uint64_t moment = os_monotonic_ns() + canceller->delay_ns;
    while (os_monotonic_ns() < moment)
        os_thread_pause();
    hearth_sequence_cancel(canceller->sequence);
}

/* One step with the first stream's next 64 tokens and the second's next one, in the midst of which
 * the first may be cancelled. Whether it was. */
static bool cancelled_step(const char *what, const struct ground *ground,
                           struct hearth_engine *engine, struct hearth_sequence *const *sequences,
                           uint64_t delay_ns)
{
    struct canceller canceller = {.sequence = sequences[0], .delay_ns = delay_ns};
    size_t held = hearth_sequence_length(sequences[0]);
    timeline_extend(sequences[0], ground->subject->ids[0] + held, 64);
    timeline_extend(sequences[1], ground->subject->ids[3] + hearth_sequence_length(sequences[1]),
                    1);
    struct os_thread *thread = os_thread_start(cancel_later, &canceller);
    assert_non_null(thread);
    atomic_store(&canceller.begin, true);
    int step_status = hearth_engine_step(engine, NULL, NULL);
    int status = hearth_sequence_status(sequences[0], NULL);
    assert_true(step_status == 0);
    assert_int_equal(hearth_sequence_status(sequences[1], NULL), 0);
    check_rows(what, ground, 3, sequences[1]);
    assert_int_equal(hearth_sequence_logit_rows(sequences[1]), 1);
    if (status) {
        assert_int_equal(status, HEARTH_E_CANCELLED);
        assert_int_equal(hearth_sequence_length(sequences[0]), held);
        assert_int_equal(hearth_sequence_pending(sequences[0]), 0);
        assert_int_equal(hearth_sequence_logit_rows(sequences[0]), 0);
    } else {
        assert_int_equal(hearth_sequence_length(sequences[0]), held + 64);
        check_rows(what, ground, 0, sequences[0]);
    }
    os_thread_join(thread);
    return status != 0;
}

static void check_cancelling(const struct ground *ground, size_t *cancelled, size_t *in_time)
{
    struct setting setting = {ground->tier, ground->kv_type, 2, 128};
    struct hearth_engine *engine = timeline_open_engine(ground->subject->model, &setting);
    struct hearth_sequence *sequences[2] = {timeline_open_sequence(engine),
                                            timeline_open_sequence(engine)};
    char what[128];
    describe(what, ground, &setting);
    for (uint64_t delay = 0; delay < 20; delay++) {
        size_t start = 50 + 5 * delay;
        float unused[300 * 96];
        assert_int_equal(hearth_sequence_truncate(sequences[0], 0, NULL), 0);
        timeline_extend(sequences[0], ground->subject->ids[0], start);
        timeline_step_all(engine, sequences[0], unused, ground->subject->vocabulary);
        bool was = cancelled_step(what, ground, engine, sequences, delay * delay * 30000);
        *cancelled += was;
        *in_time += !was;
        /* and the conversation goes on as if nothing had been */
        size_t held = hearth_sequence_length(sequences[0]);
        continue_from(what, ground, engine, sequences[0], held);
    }
    hearth_sequence_close(sequences[0]);
    hearth_sequence_close(sequences[1]);
    hearth_engine_close(engine);
}

static void a_cancelled_step_leaves_no_trace(void **state)
{
    (void)state;
    size_t cancelled = 0, in_time = 0;
    for (size_t g = 0; g < all.ground_count; g++) {
        if (!is_slow(&all.grounds[g]) || all.ground_count <= 4)
            check_cancelling(&all.grounds[g], &cancelled, &in_time);
    }
    print_message("%zu steps cancelled, %zu done in time\n", cancelled, in_time);
    assert_true(cancelled > 0);
}

static void a_sequence_cancelled_before_the_step_computes_nothing(void **state)
{
    (void)state;
    const struct ground *ground = &all.grounds[0];
    struct setting setting = {ground->tier, ground->kv_type, 1, 64};
    struct hearth_engine *engine = timeline_open_engine(ground->subject->model, &setting);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    timeline_extend(sequence, ground->subject->ids[0], 10);
    hearth_sequence_cancel(sequence);
    size_t tokens = 1;
    assert_int_equal(hearth_engine_step(engine, &tokens, NULL), 0);
    assert_int_equal(tokens, 0);
    struct hearth_error err = {0};
    assert_int_equal(hearth_sequence_status(sequence, &err), HEARTH_E_CANCELLED);
    assert_int_equal(err.code, HEARTH_E_CANCELLED);
    assert_int_equal(hearth_sequence_length(sequence), 0);
    assert_int_equal(hearth_sequence_pending(sequence), 0);
    continue_from("after a cancelled step", ground, engine, sequence, 0);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

/* ---- tiers ---- */

static void all_tiers_give_the_same_bits(void **state)
{
    (void)state;
    size_t compared = 0;
    for (size_t a = 0; a < all.ground_count; a++) {
        for (size_t b = 0; b < a; b++) {
            const struct ground *ground = &all.grounds[a], *other = &all.grounds[b];
            if (ground->subject != other->subject || ground->kv_type != other->kv_type)
                continue;
            char what[128];
            snprintf(what, sizeof what, "%s, KV %d, %s against %s", ground->subject->name,
                     (int)ground->kv_type, ground->tier, other->tier);
            same_bits(what, ground->logits[0], other->logits[0], 0, LENGTH,
                      ground->subject->vocabulary);
            compared++;
        }
    }
    if (compared == 0)
        skip();
}

/* ---- a real model ---- */

static void check_real_model(const struct hearth_model *model, const char *tier,
                             enum hearth_kv_type kv_type)
{
    static const struct {
        unsigned threads;
        uint32_t chunk;
    } ways[] = {{2, 1}, {2, 7}, {5, 32}};
    const size_t count = 37, vocabulary = timeline_vocabulary(model);
    uint32_t ids[37];
    struct random random = random_from_seed(1);
    for (size_t i = 0; i < count; i++)
        ids[i] = (uint32_t)(random_u64(&random) % vocabulary);
    struct setting setting = {tier, kv_type, 1, 512};
    float *alone = timeline_logits(model, &setting, ids, count);
    for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
        setting.threads = ways[w].threads;
        setting.chunk_tokens = ways[w].chunk;
        float *logits = timeline_logits(model, &setting, ids, count);
        same_bits(tier, logits, alone, 0, count, vocabulary);
        free(logits);
    }
    free(alone);
}

static void a_real_model_is_as_steady(void **state)
{
    (void)state;
    const char *folder = getenv("HEARTH_MODELS");
    char path[1024];
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : ".");
    FILE *file = fopen(path, "rb");
    if (!file) {
        print_message("HEARTH_MODELS names no folder with SmolLM2-135M-Instruct.Q4_1.gguf\n");
        skip();
    }
    fclose(file);
    struct hearth_model *model = timeline_open_model(path);
    for (size_t t = 1; timeline_tier(t); t++) { /* the reference would take minutes */
        if (!timeline_has_tier(model, timeline_tier(t)))
            continue;
        for (int type = 0; type < KV_TYPES_COUNT; type++)
            check_real_model(model, timeline_tier(t), (enum hearth_kv_type)type);
    }
    hearth_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_and_threads_do_not_change_a_bit),
        cmocka_unit_test(company_does_not_change_a_bit),
        cmocka_unit_test(going_back_and_continuing_gives_the_same_bits),
        cmocka_unit_test(a_cancelled_step_leaves_no_trace),
        cmocka_unit_test(a_sequence_cancelled_before_the_step_computes_nothing),
        cmocka_unit_test(all_tiers_give_the_same_bits),
        cmocka_unit_test(a_real_model_is_as_steady),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
