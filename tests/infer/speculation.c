/* Speculation changes nothing but the time: the tokens drawn with guesses are those drawn without,
 * greedily and by chance, whatever is guessed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "timeline.h"
#include "tiny_model.h"

#define PROMPT_MAX 600
#define TOKENS 300
#define GUESSES 7

/* Where the guesses come from. */
enum source {
    NOTHING, /* single steps */
    DRAFT,   /* hearth_draft */
    TRUTH,   /* the tokens that single steps gave, spoilt at random */
};

struct generation {
    const struct hearth_model *model;
    struct setting setting;
    struct hearth_sampling sampling;
    enum source source;
    const uint32_t *prompt;
    size_t prompt_count, count; /* to be drawn */
    const uint32_t *truth;      /* for TRUTH: [count] */
    /* what came of it */
    uint32_t ids[TOKENS];
    size_t steps;
    struct hearth_draft_counts counts;
};

struct state {
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    struct hearth_sampler *sampler;
    struct hearth_draft *draft;
    struct random random;
};

static size_t guess(const struct generation *generation, struct state *state, size_t at,
                    uint32_t *guesses)
{
    size_t room = generation->count - at - 1, count = 0;
    room = room < GUESSES ? room : GUESSES;
    if (generation->source == DRAFT)
        return hearth_draft_propose(state->draft, room, guesses);
    if (generation->source == NOTHING)
        return 0;
    for (; count < room; count++) {
        bool spoil = random_u64(&state->random) % 8 == 0;
        uint32_t id = generation->truth[at + count + 1];
        guesses[count] = spoil ? (uint32_t)(random_u64(&state->random) % 90) : id;
    }
    return count;
}

static uint32_t draw(struct state *state, size_t row)
{
    uint32_t id;
    const float *logits = hearth_sequence_logits(state->sequence, row);
    assert_int_equal(hearth_sampler_sample(state->sampler, logits, &id, NULL), 0);
    hearth_draft_accept(state->draft, id);
    return id;
}

static void step(struct generation *generation, struct state *state)
{
    assert_int_equal(hearth_engine_step(state->engine, NULL, NULL), 0);
    assert_int_equal(hearth_sequence_status(state->sequence, NULL), 0);
    generation->steps++;
}

/* One round, from ids[at], which is drawn but not computed; returns how many were drawn. */
static size_t play_round(struct generation *generation, struct state *state, size_t at)
{
    uint32_t batch[1 + GUESSES] = {generation->ids[at]};
    size_t count = 1 + guess(generation, state, at, batch + 1), drawn = 0;
    bool right = true;
    assert_int_equal(hearth_sequence_extend(state->sequence, batch, count, HEARTH_LOGITS_ALL, NULL),
                     0);
    while (right && drawn < count) {
        step(generation, state); /* several, where a chunk holds fewer tokens */
        size_t rows = hearth_sequence_logit_rows(state->sequence);
        assert_true(rows > 0);
        for (size_t row = 0; row < rows && right; row++) {
            uint32_t id = draw(state, row);
            generation->ids[at + ++drawn] = id;
            right = drawn < count && batch[drawn] == id;
        }
    }
    assert_int_equal(
        hearth_sequence_truncate(state->sequence, generation->prompt_count + at + drawn, NULL), 0);
    assert_int_equal(hearth_sequence_length(state->sequence),
                     generation->prompt_count + at + drawn);
    return drawn;
}

static void open_state(const struct generation *generation, struct state *state)
{
    struct hearth_draft_options options = {.row_cost = 0.05f};
    state->random = random_from_seed(generation->sampling.seed);
    state->engine = timeline_open_engine(generation->model, &generation->setting);
    state->sequence = timeline_open_sequence(state->engine);
    assert_int_equal(
        hearth_sampler_open(generation->model, &generation->sampling, &state->sampler, NULL), 0);
    assert_int_equal(hearth_draft_open(&options, &state->draft, NULL), 0);
    for (size_t i = 0; i < generation->prompt_count; i++) {
        assert_int_equal(hearth_sampler_accept(state->sampler, generation->prompt[i], NULL), 0);
        hearth_draft_accept(state->draft, generation->prompt[i]);
    }
    assert_int_equal(hearth_sequence_extend(state->sequence, generation->prompt,
                                            generation->prompt_count, HEARTH_LOGITS_LAST, NULL),
                     0);
}

static void close_state(struct state *state)
{
    hearth_draft_close(state->draft);
    hearth_sampler_close(state->sampler);
    hearth_sequence_close(state->sequence);
    hearth_engine_close(state->engine);
}

static void generate(struct generation *generation)
{
    struct state state;
    open_state(generation, &state);
    generation->steps = 0;
    while (hearth_sequence_pending(state.sequence) > 0)
        step(generation, &state);
    generation->ids[0] = draw(&state, 0);
    generation->steps = 0;
    for (size_t at = 0; at + 1 < generation->count;)
        at += play_round(generation, &state, at);
    hearth_draft_counts(state.draft, &generation->counts);
    close_state(&state);
}

/* Generates alone, then with guesses from the sources up to `last`; returns the steps that the
 * draft's guesses saved. */
static size_t compare(struct generation *alone, enum source last)
{
    size_t saved = 0;
    alone->source = NOTHING;
    generate(alone);
    for (enum source source = DRAFT; source <= last; source++) {
        struct generation with = *alone;
        with.source = source;
        with.truth = alone->ids;
        memset(with.ids, 0, sizeof with.ids);
        generate(&with);
        assert_memory_equal(with.ids, alone->ids, alone->count * sizeof *alone->ids);
        if (source == DRAFT)
            saved = alone->steps - with.steps;
        else if (with.setting.chunk_tokens > GUESSES)
            assert_true(with.steps < alone->steps * 2 / 3);
    }
    return saved;
}

/* ---- tiny models ---- */

static struct hearth_model *make_model(const struct tiny_model *shape)
{
    char path[TEST_PATH_MAX];
    tiny_model_write(shape, path);
    struct hearth_model *model = timeline_open_model(path);
    remove(path);
    return model;
}

static void compare_tiny(const struct tiny_model *shape)
{
    struct hearth_model *model = make_model(shape);
    struct random random = random_from_seed(shape->seed);
    uint32_t prompt[100];
    size_t saved = 0;
    for (size_t i = 0; i < 100; i++)
        prompt[i] = i < 50 ? (uint32_t)(random_u64(&random) % shape->vocabulary) : prompt[i - 50];
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct generation generation = {
            .model = model,
            .setting = {.tier = "ref", .threads = 1, .chunk_tokens = seed == 5 ? 3 : 256},
            .prompt = prompt,
            .prompt_count = seed % 2 ? 100 : 7,
            .count = TOKENS,
        };
        hearth_sampling_default(&generation.sampling);
        generation.sampling.seed = seed;
        generation.sampling.temperature = seed < 2 ? 0.0f : 0.3f * (float)seed;
        generation.sampling.repeat_penalty = seed == 3 ? 1.2f : 1.0f;
        generation.sampling.dry_multiplier = seed == 4 ? 0.5f : 0.0f;
        generation.setting.kv_type = seed % 2 ? HEARTH_KV_Q8_0 : HEARTH_KV_F16;
        saved += compare(&generation, TRUTH);
    }
    assert_true(saved > 0);
    hearth_model_close(model);
}

static void tokens_are_the_same_with_guesses(void **state)
{
    (void)state;
    static const uint32_t types[] = {TYPE_Q4_K, TYPE_Q8_0, TYPE_Q4_1};
    compare_tiny(&(struct tiny_model){"llama", 96, 256, 2, 4, 2, 64, 256, 0, types, 3, 1, NULL});
}

/* A window of 40 tokens passes many blocks, and guesses are dropped on both sides of their edges.
 */
static void tokens_are_the_same_with_guesses_and_a_window(void **state)
{
    (void)state;
    static const uint32_t types[] = {TYPE_Q4_0, TYPE_Q8_0, TYPE_Q4_1};
    compare_tiny(&(struct tiny_model){"gemma3", 96, 64, 4, 3, 1, 32, 96, 40, types, 3, 2, NULL});
}

static void guesses_that_are_cancelled_leave_no_trace(void **state)
{
    (void)state;
    static const uint32_t types[] = {TYPE_Q8_0};
    const struct tiny_model shape = {"gemma3", 96, 64, 4, 3, 1, 32, 96, 40, types, 1, 3, NULL};
    struct hearth_model *model = make_model(&shape);
    struct setting setting = {.tier = "ref", .threads = 1, .chunk_tokens = 256};
    uint32_t ids[200];
    float *truth = malloc(200 * 96 * sizeof *truth), row[96 * 8];
    for (uint32_t i = 0; i < 200; i++)
        ids[i] = i * i % 96;
    float *logits = timeline_logits(model, &setting, ids, 200);
    memcpy(truth, logits, 200 * 96 * sizeof *truth);
    struct hearth_engine *engine = timeline_open_engine(model, &setting);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    for (size_t at = 0; at < 192; at++) {
        uint32_t wrong[8] = {ids[at], 1, 2, 3, 4, 5, 6, 7};
        timeline_extend(sequence, wrong, 8);
        hearth_sequence_cancel(sequence);
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
        assert_int_equal(hearth_sequence_status(sequence, NULL), HEARTH_E_CANCELLED);
        assert_int_equal(hearth_sequence_length(sequence), at);
        timeline_extend(sequence, wrong, 8);
        assert_int_equal(timeline_step(engine, sequence, row, 96), 8);
        assert_memory_equal(row, truth + at * 96, 96 * sizeof *row);
        assert_int_equal(hearth_sequence_truncate(sequence, at + 1, NULL), 0);
    }
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
    free(logits);
    free(truth);
}

/* ---- real models ---- */

static void compare_real(const char *file)
{
    static const char text[] =
        "The keeper climbed the stairs of the lighthouse every evening, lit the lamp, and wrote "
        "the hour, the wind and the height of the waves into a book with a blue cover. ";
    const char *folder = getenv("HEARTH_MODELS");
    char path[512];
    struct hearth_model *model;
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", file);
    if (hearth_model_open(path, NULL, &model, NULL))
        skip();
    uint32_t *ids, prompt[PROMPT_MAX];
    size_t count, total = 0;
    assert_int_equal(hearth_tokenize(model, text, sizeof text - 1, 0, &ids, &count, NULL), 0);
    while (total + count <= PROMPT_MAX) { /* past the window of gemma 3, which is 512 */
        memcpy(prompt + total, ids, count * sizeof *ids);
        total += count;
    }
    hearth_free(ids);
    for (int sampled = 0; sampled < 2; sampled++) {
        struct generation generation = {
            .model = model,
            .setting = {.tier = timeline_best_tier(model), .threads = 2, .chunk_tokens = 256},
            .prompt = prompt,
            .prompt_count = total - 5,
            .count = 48,
        };
        hearth_sampling_default(&generation.sampling);
        generation.sampling.temperature = sampled ? 1.0f : 0.0f;
        size_t saved = compare(&generation, DRAFT);
        assert_true(sampled || saved > 24);
    }
    hearth_model_close(model);
}

static void smollm2_says_the_same(void **state)
{
    (void)state;
    compare_real("SmolLM2-135M-Instruct.Q4_1.gguf");
}

static void gemma3_says_the_same(void **state)
{
    (void)state;
    compare_real("gemma-3-270m-q4_k_m.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_the_same_with_guesses),
        cmocka_unit_test(tokens_are_the_same_with_guesses_and_a_window),
        cmocka_unit_test(guesses_that_are_cancelled_leave_no_trace),
        cmocka_unit_test(smollm2_says_the_same),
        cmocka_unit_test(gemma3_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
