/* Logits of small random models of every architecture, with every trait that it may have, against
 * what llama.cpp computed for the same files (scripts/golden.sh). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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

#define CASE(name)                                                                                 \
    {                                                                                              \
        "logits are those of llama.cpp: " name, logits_are_those_of_llama_cpp, NULL, NULL, name    \
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
