/* Logits and states of small random models of every architecture, with every trait that it may
 * have, against what llama.cpp computed for the same files (scripts/golden.sh). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "timeline.h"

#define PROMPT 64 /* given at once; the others one by one */
#define TOKENS 80
#define VOCABULARY_MAX 64

static const char folder[] = HEARTH_GOLDEN_DIR "/logits/";

/* The distance that the two may be apart, relative to the length of a row of logits. Both store
 * keys and values in 16 bits and llama.cpp rounds queries and attention weights so as well. */
static const double tolerance = 1e-3;
/* Keys and values in 8 bits: what they lose, and no mistake in using them. */
static const double tolerance_q8_0 = 3e-2;

struct material {
    uint32_t ids[TOKENS];
    float logits[TOKENS * VOCABULARY_MAX];
    size_t vocabulary;
    struct hearth_model *model;
};

static FILE *open_golden(const char *name, const char *suffix)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s%s", folder, name, suffix);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    return file;
}

static void load(struct material *material, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s%s.gguf", folder, name);
    material->model = timeline_open_model(path);
    material->vocabulary = timeline_vocabulary(material->model);
    assert_true(material->vocabulary <= VOCABULARY_MAX);
    FILE *file = open_golden("tokens", ".txt");
    for (size_t i = 0; i < TOKENS; i++)
        assert_int_equal(fscanf(file, "%u", &material->ids[i]), 1);
    fclose(file);
    file = open_golden(name, ".f32");
    size_t count = TOKENS * material->vocabulary;
    assert_int_equal(fread(material->logits, sizeof(float), count + 1, file), count);
    fclose(file);
}

/* The logits behind all tokens, the prompt's computed together. */
static void compute(const struct material *material, const struct setting *setting, float *logits)
{
    struct hearth_engine *engine = timeline_open_engine(material->model, setting);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    size_t vocabulary = material->vocabulary;
    timeline_extend(sequence, material->ids, PROMPT);
    assert_int_equal(timeline_step_all(engine, sequence, logits, vocabulary), PROMPT);
    for (size_t i = PROMPT; i < TOKENS; i++) {
        timeline_extend(sequence, &material->ids[i], 1);
        assert_int_equal(timeline_step(engine, sequence, logits + i * vocabulary, vocabulary), 1);
    }
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
}

static double distance(const float *ours, const float *theirs, size_t count)
{
    double difference = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)ours[i] - theirs[i]) * ((double)ours[i] - theirs[i]);
        length += (double)theirs[i] * theirs[i];
    }
    return sqrt(difference / length);
}

/* The largest distance of all positions. A NaN is the largest there is. */
static double worst(const struct material *material, const float *logits, size_t first, size_t last,
                    size_t *where)
{
    double largest = 0;
    for (size_t i = first; i < last; i++) {
        double here = distance(logits + i * material->vocabulary,
                               material->logits + i * material->vocabulary, material->vocabulary);
        if (!(here <= largest)) {
            largest = here;
            *where = i;
        }
    }
    return largest;
}

static void check(const struct material *material, const struct setting *setting, const char *name,
                  double limit)
{
    static float logits[TOKENS * VOCABULARY_MAX];
    size_t at_prompt = 0, at_decode = 0;
    compute(material, setting, logits);
    double prompt = worst(material, logits, 0, PROMPT, &at_prompt);
    double decode = worst(material, logits, PROMPT, TOKENS, &at_decode);
    print_message("%-20s %-7s prompt %.1e at %zu, decode %.1e at %zu\n", name, setting->tier,
                  prompt, at_prompt, decode, at_decode);
    if (!(prompt < limit && decode < limit))
        fail_msg("%s is more than %g away", name, limit);
}

static void logits_are_those_of_llama_cpp(void **state)
{
    const char *name = *state;
    static struct material material;
    load(&material, name);
    for (size_t i = 0; timeline_tier(i); i++) {
        struct setting setting = {.tier = timeline_tier(i), .threads = 1};
        if (timeline_has_tier(material.model, setting.tier))
            check(&material, &setting, name, tolerance);
    }
    hearth_model_close(material.model);
}

static void q8_0_keys_and_values_stay_close(void **state)
{
    const char *name = *state;
    static struct material material;
    load(&material, name);
    for (size_t i = 0; timeline_tier(i); i++) {
        struct setting setting = {
            .tier = timeline_tier(i), .threads = 1, .kv_type = HEARTH_KV_Q8_0};
        if (timeline_has_tier(material.model, setting.tier))
            check(&material, &setting, name, tolerance_q8_0);
    }
    hearth_model_close(material.model);
}

/* ---- states ---- */

/* The states behind all tokens, in two chunks. */
static float *compute_states(const struct material *material, const char *tier, size_t size)
{
    struct setting setting = {.tier = tier, .threads = 1};
    struct hearth_engine *engine = timeline_open_engine(material->model, &setting);
    struct hearth_sequence *sequence = timeline_open_sequence(engine);
    float *states = malloc(TOKENS * size * sizeof *states);
    assert_non_null(states);
    for (size_t first = 0, count = PROMPT; first < TOKENS; first += count, count = TOKENS - first) {
        assert_int_equal(
            hearth_sequence_extend(sequence, material->ids + first, count, HEARTH_STATES_ALL, NULL),
            0);
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
        assert_int_equal(hearth_sequence_state_rows(sequence), count);
        assert_int_equal(hearth_sequence_logit_rows(sequence), 0);
        for (size_t i = 0; i < count; i++)
            memcpy(states + (first + i) * size, hearth_sequence_state(sequence, i),
                   size * sizeof *states);
    }
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    return states;
}

/* The sum of the states of some tokens, with length 1. */
static void pool(const float *states, size_t first, size_t last, size_t size, float *vector)
{
    double squares = 0.0;
    for (size_t i = 0; i < size; i++) {
        double sum = 0.0;
        for (size_t t = first; t <= last; t++)
            sum += states[t * size + i];
        vector[i] = (float)sum;
        squares += sum * sum;
    }
    for (size_t i = 0; i < size; i++)
        vector[i] = (float)(vector[i] / sqrt(squares));
}

/* Three vectors: the mean, the first token's, the last's. */
static float *load_vectors(const char *name, size_t size)
{
    char path[1024];
    float *vectors = malloc(3 * size * sizeof *vectors);
    assert_non_null(vectors);
    snprintf(path, sizeof path, "%s/embeddings/%s.f32", HEARTH_GOLDEN_DIR, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("cannot open %s", path);
    assert_int_equal(fread(vectors, sizeof *vectors, 3 * size + 1, file), 3 * size);
    fclose(file);
    return vectors;
}

static void states_are_those_of_llama_cpp(void **state)
{
    const char *name = *state;
    static struct material material;
    static const size_t pooled[3][2] = {{0, TOKENS - 1}, {0, 0}, {TOKENS - 1, TOKENS - 1}};
    struct hearth_model_info info;
    load(&material, name);
    hearth_model_info(material.model, &info);
    size_t size = info.embedding_length;
    float *theirs = load_vectors(name, size), *ours = malloc(size * sizeof *ours);
    assert_non_null(ours);
    for (size_t i = 0; timeline_tier(i); i++) {
        if (!timeline_has_tier(material.model, timeline_tier(i)))
            continue;
        float *states = compute_states(&material, timeline_tier(i), size);
        for (size_t p = 0; p < 3; p++) {
            pool(states, pooled[p][0], pooled[p][1], size, ours);
            double apart = distance(ours, theirs + p * size, size);
            if (!(apart < tolerance))
                fail_msg("%s, pooled by way %zu, is %g away", name, p, apart);
        }
        free(states);
    }
    free(ours);
    free(theirs);
    hearth_model_close(material.model);
}

#define CASE(name)                                                                                 \
    {"logits are those of llama.cpp: " name, logits_are_those_of_llama_cpp, NULL, NULL, name},     \
    {                                                                                              \
        "states are those of llama.cpp: " name, states_are_those_of_llama_cpp, NULL, NULL, name    \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE("llama"),
        CASE("llama-untied-mqa"),
        CASE("llama-biases"),
        CASE("llama-rope-freqs"),
        CASE("llama-linear"),
        CASE("llama-yarn"),
        CASE("mistral"),
        CASE("qwen2"),
        CASE("qwen2-output-bias"),
        CASE("qwen3"),
        CASE("qwen3-yarn"),
        CASE("gemma3"),
        CASE("gemma3-pattern"),
        CASE("gemma3-partial-rope"),
        {"Q8_0 keys and values stay close: llama-yarn", q8_0_keys_and_values_stay_close, NULL, NULL,
         "llama-yarn"},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
