#include "infer/sampler.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "infer/sampler_keys.h"
#include "infer/sampler_math.h"
#include "sampler_reference.h"

static void assert_near(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("%.12g is not %.12g", found, expected);
}

/* ---- a vocabulary without a model ---- */

/* The rest of the ids are spelled "w". */
static const char *const words[] = {"a", "b", "c", "\n", "c\n", "d", "xabx", "e", "f", "ca"};
#define WORDS (sizeof words / sizeof words[0])

static bool word_piece(const void *context, uint32_t id, bool special, bool first,
                       struct buffer *out)
{
    (void)context, (void)special, (void)first;
    return buffer_append_text(out, text_of(id < WORDS ? words[id] : "w"));
}

/* One token for each byte; all that the breakers of these tests need. */
static int word_encode(const void *context, struct text text, uint32_t *ids, size_t max,
                       size_t *count, struct hearth_error *err)
{
    (void)context;
    *count = 0;
    for (size_t i = 0; i < text.size && *count < max; i++) {
        uint32_t id = 0;
        while (id < WORDS && (strlen(words[id]) != 1 || words[id][0] != text.data[i]))
            id++;
        if (id == WORDS)
            return error_set(err, HEARTH_E_ARGUMENT, "no word for that byte");
        ids[(*count)++] = id;
    }
    return 0;
}

static struct vocabulary words_of(uint32_t size)
{
    return (struct vocabulary){.size = size, .piece = word_piece, .encode = word_encode};
}

/* What the breakers "\n" and "ab" are in those words. */
static const char *const breakers[] = {"\n", "ab"};
static const struct reference_breaker token_breakers[] = {
    {{3}, 1}, {{4}, 1}, {{6}, 1}, {{0, 1}, 2}, {{9, 1}, 2},
};

/* Settings under which nothing but the draw happens. */
static struct hearth_sampling plain(void)
{
    struct hearth_sampling settings;
    hearth_sampling_default(&settings);
    settings.temperature = 1.0f;
    settings.top_k = 0;
    settings.top_p = 1.0f;
    settings.min_p = 0.0f;
    return settings;
}

static struct hearth_sampler *open_sampler(const struct hearth_sampling *settings, uint32_t size)
{
    struct vocabulary vocabulary = words_of(size);
    struct hearth_sampler *sampler;
    struct hearth_error err;
    if (sampler_open(&vocabulary, settings, &sampler, &err) != 0)
        fail_msg("%s", err.text);
    return sampler;
}

static void must_accept(struct hearth_sampler *sampler, uint32_t id)
{
    assert_int_equal(hearth_sampler_accept(sampler, id, NULL), 0);
}

static uint32_t must_sample(struct hearth_sampler *sampler, const float *logits)
{
    uint32_t id;
    struct hearth_error err;
    if (hearth_sampler_sample(sampler, logits, &id, &err) != 0)
        fail_msg("%s", err.text);
    return id;
}

/* ---- small examples, worked out by hand ---- */

#define EXAMPLE 5 /* tokens at most */

/* Token i has probability before[i], which is its logit's exp; after[i] is what the settings leave
 * of it. Tokens of probability 0 do not exist. */
struct example {
    float before[EXAMPLE];
    float after[EXAMPLE];
};

static void check_example(const struct hearth_sampling *settings, const uint32_t *text,
                          size_t text_size, struct example example)
{
    float logits[EXAMPLE];
    for (size_t i = 0; i < EXAMPLE; i++)
        logits[i] = logf(example.before[i]);
    struct hearth_sampler *sampler = open_sampler(settings, EXAMPLE);
    for (size_t i = 0; i < text_size; i++)
        must_accept(sampler, text[i]);
    struct sampler_choice choices[EXAMPLE];
    size_t count;
    assert_int_equal(sampler_distribution(sampler, logits, choices, EXAMPLE, &count, NULL), 0);
    double found[EXAMPLE] = {0};
    for (size_t i = 0; i < count; i++)
        found[choices[i].id] = choices[i].probability;
    for (size_t i = 0; i < EXAMPLE; i++)
        assert_near(found[i], (double)example.after[i], 1e-5);
    hearth_sampler_close(sampler);
}

/* Sets one member and checks 1:2:3:4 against what is left. */
#define CHECK_FOUR(member, value, ...)                                                             \
    do {                                                                                           \
        struct hearth_sampling settings = plain();                                                 \
        settings.member = (value);                                                                 \
        check_example(&settings, NULL, 0,                                                          \
                      (struct example){{0.1f, 0.2f, 0.3f, 0.4f}, {__VA_ARGS__}});                  \
    } while (0)

static void temperature_sharpens_and_flattens(void **state)
{
    (void)state;
    CHECK_FOUR(temperature, 1.0f, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(temperature, 0.5f, 1 / 30.f, 4 / 30.f, 9 / 30.f, 16 / 30.f); /* squares */
    CHECK_FOUR(temperature, 0.0f, 0, 0, 0, 1);
    CHECK_FOUR(temperature, -1.0f, 0, 0, 0, 1);
    CHECK_FOUR(temperature, 1e-30f, 0, 0, 0, 1);
    CHECK_FOUR(temperature, FLT_MAX, 0.25f, 0.25f, 0.25f, 0.25f);
}

static void top_k_keeps_the_k_best(void **state)
{
    (void)state;
    CHECK_FOUR(top_k, 1, 0, 0, 0, 1);
    CHECK_FOUR(top_k, 3, 0, 2 / 9.f, 3 / 9.f, 4 / 9.f);
    CHECK_FOUR(top_k, 4, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(top_k, 0, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(top_k, -7, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(top_k, INT32_MAX, 0.1f, 0.2f, 0.3f, 0.4f);
}

static void top_p_keeps_the_best_until_their_sum_reaches_p(void **state)
{
    (void)state;
    CHECK_FOUR(top_p, 0.0f, 0, 0, 0, 1);
    CHECK_FOUR(top_p, 0.39f, 0, 0, 0, 1);
    CHECK_FOUR(top_p, 0.41f, 0, 0, 3 / 7.f, 4 / 7.f);
    CHECK_FOUR(top_p, 0.69f, 0, 0, 3 / 7.f, 4 / 7.f);
    CHECK_FOUR(top_p, 0.8f, 0, 2 / 9.f, 3 / 9.f, 4 / 9.f);
    CHECK_FOUR(top_p, 0.91f, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(top_p, 1.0f, 0.1f, 0.2f, 0.3f, 0.4f);
}

static void min_p_keeps_a_share_of_the_best(void **state)
{
    (void)state;
    CHECK_FOUR(min_p, 0.0f, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(min_p, 0.24f, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(min_p, 0.26f, 0, 2 / 9.f, 3 / 9.f, 4 / 9.f);
    CHECK_FOUR(min_p, 0.49f, 0, 2 / 9.f, 3 / 9.f, 4 / 9.f);
    CHECK_FOUR(min_p, 0.51f, 0, 0, 3 / 7.f, 4 / 7.f);
    CHECK_FOUR(min_p, 0.76f, 0, 0, 0, 1);
    CHECK_FOUR(min_p, 1.0f, 0, 0, 0, 1);
}

static void top_n_sigma_keeps_what_is_near_the_best_logit(void **state)
{
    (void)state;
    /* Logits -2.303 -1.609 -1.204 -0.916, mean -1.508, deviation 0.5175: at 1 the floor is -1.434,
     * at 2 -1.951, at 3 -2.469. */
    CHECK_FOUR(top_n_sigma, 1.0f, 0, 0, 3 / 7.f, 4 / 7.f);
    CHECK_FOUR(top_n_sigma, 2.0f, 0, 2 / 9.f, 3 / 9.f, 4 / 9.f);
    CHECK_FOUR(top_n_sigma, 3.0f, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(top_n_sigma, 0.0f, 0.1f, 0.2f, 0.3f, 0.4f);
    CHECK_FOUR(top_n_sigma, FLT_MAX, 0.1f, 0.2f, 0.3f, 0.4f);
}

static void typical_keeps_what_is_as_surprising_as_the_average(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.typical_p = 0.5f;
    /* Entropy 0.168; surprises 0.030 and 4.605. */
    check_example(&settings, NULL, 0, (struct example){{0.97f, 0.01f, 0.01f, 0.01f}, {1, 0, 0, 0}});
    /* Entropy 1.332; surprises 0.916 (0.416 away) and 1.609 (0.277 away). */
    check_example(&settings, NULL, 0,
                  (struct example){{0.4f, 0.2f, 0.2f, 0.2f}, {0, 1 / 3.f, 1 / 3.f, 1 / 3.f}});
    settings.typical_p = 0.61f; /* 0.6 is not enough, so the first comes back */
    check_example(&settings, NULL, 0,
                  (struct example){{0.4f, 0.2f, 0.2f, 0.2f}, {0.4f, 0.2f, 0.2f, 0.2f}});
}

static void xtc_drops_all_likely_tokens_but_the_least_likely(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.xtc_probability = 1.0f;
    static const struct {
        float threshold;
        float after[4];
    } cases[] = {
        {0.09f, {0, 0, 0, 1}},
        {0.19f, {0, 0, 2 / 3.f, 1 / 3.f}},
        {0.29f, {0, 3 / 6.f, 2 / 6.f, 1 / 6.f}},
        {0.39f, {0.4f, 0.3f, 0.2f, 0.1f}},
        {0.51f, {0.4f, 0.3f, 0.2f, 0.1f}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct example example = {{0.4f, 0.3f, 0.2f, 0.1f}, {0}};
        memcpy(example.after, cases[i].after, sizeof cases[i].after);
        settings.xtc_threshold = cases[i].threshold;
        check_example(&settings, NULL, 0, example);
    }
}

static void xtc_acts_as_often_as_its_probability_says(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.xtc_probability = 0.3f;
    settings.temperature = 0.0f;
    struct hearth_sampler *sampler = open_sampler(&settings, 2);
    const float logits[] = {0.5f, 0.0f};
    int second = 0;
    for (int i = 0; i < 10000; i++)
        second += must_sample(sampler, logits) == 1;
    assert_in_range(second, 2850, 3150); /* deviation 46 */
    hearth_sampler_close(sampler);
}

static void penalties_lower_what_was_said(void **state)
{
    (void)state;
    static const uint32_t text[] = {0, 1, 2, 0, 0};
    const struct example fifths = {{0.2f, 0.2f, 0.2f, 0.2f, 0.2f}, {0}};
    struct hearth_sampling settings = plain();
    settings.repeat_penalty = 50.0f; /* log 0.2 is negative: multiplied, which leaves nothing */
    struct example example = fifths;
    memcpy(example.after, (float[]){0, 0.25f, 0.25f, 0.25f, 0.25f}, sizeof example.after);
    check_example(&settings, text, 1, example);
    memcpy(example.after, (float[]){0, 0, 0, 0.5f, 0.5f}, sizeof example.after);
    check_example(&settings, text, 5, example);

    settings = plain();
    settings.frequency_penalty = logf(2.0f); /* each time halves it */
    settings.presence_penalty = logf(3.0f);  /* and being there at all leaves a third */
    /* 1/8/3, 1/2/3, 1/2/3, 1, 1: in 24ths 1, 4, 4, 24, 24 */
    memcpy(example.after, (float[]){1 / 57.f, 4 / 57.f, 4 / 57.f, 24 / 57.f, 24 / 57.f},
           sizeof example.after);
    check_example(&settings, text, 5, example);
    settings.penalty_last_n = 2; /* 0 twice: 1/4/3, in 12ths 1, 12, 12, 12, 12 */
    memcpy(example.after, (float[]){1 / 49.f, 12 / 49.f, 12 / 49.f, 12 / 49.f, 12 / 49.f},
           sizeof example.after);
    check_example(&settings, text, 5, example);
    settings.penalty_last_n = 0;
    memcpy(example.after, fifths.before, sizeof example.after);
    check_example(&settings, text, 5, example);
}

static void dry_lowers_what_would_repeat(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.dry_multiplier = 1.0f;
    settings.dry_base = 1.1f;
    settings.dry_breakers = (const char *const[]){"\n"}; /* token 3 */
    settings.dry_breaker_count = 1;
    struct example none = {{0.2f, 0.2f, 0.2f, 0.2f, 0.2f}, {0.2f, 0.2f, 0.2f, 0.2f, 0.2f}};
    check_example(&settings, (uint32_t[]){0, 1}, 2, none);
    check_example(&settings, (uint32_t[]){0, 1, 3, 2, 0, 1, 3}, 7, none);

    /* "0 1" stands twice, so that 2 would make it three: e^-1 of it is left. */
    float left = expf(-1.0f), rest = 1.0f / (4.0f + left);
    struct example two = none;
    memcpy(two.after, (float[]){rest, rest, left * rest, rest, rest}, sizeof two.after);
    check_example(&settings, (uint32_t[]){0, 1, 2, 0, 1}, 5, two);
    check_example(&settings, (uint32_t[]){3, 0, 1, 2, 0, 1}, 6, two);

    /* "2 0 1" stands twice before 4: one longer than allowed, so e^-1.1. */
    left = expf(-1.1f), rest = 1.0f / (4.0f + left);
    struct example four = none;
    memcpy(four.after, (float[]){rest, rest, rest, rest, left * rest}, sizeof four.after);
    check_example(&settings, (uint32_t[]){2, 0, 1, 4, 2, 0, 1}, 7, none); /* 4 ends in a newline */
    settings.dry_breaker_count = 0;
    check_example(&settings, (uint32_t[]){2, 0, 1, 4, 2, 0, 1}, 7, four);
    settings.dry_allowed_length = 4;
    check_example(&settings, (uint32_t[]){2, 0, 1, 4, 2, 0, 1}, 7, none);
    settings.dry_allowed_length = 2;
    settings.dry_penalty_last_n = 6; /* the first 2 is out of sight: e^-1 again */
    left = expf(-1.0f), rest = 1.0f / (4.0f + left);
    memcpy(four.after, (float[]){rest, rest, rest, rest, left * rest}, sizeof four.after);
    check_example(&settings, (uint32_t[]){2, 0, 1, 4, 2, 0, 1}, 7, four);
}

static void a_bias_adds_to_a_logit_and_can_forbid_a_token(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    const struct hearth_logit_bias bias[] = {
        {0, logf(2.0f)}, {3, -INFINITY}, {0, logf(2.0f)}, {2, logf(1.0f / 3)}};
    settings.bias = bias;
    settings.bias_count = 4;
    check_example(&settings, NULL, 0,
                  (struct example){{0.1f, 0.2f, 0.3f, 0.4f}, {4 / 7.f, 2 / 7.f, 1 / 7.f, 0}});
}

static void min_keep_bounds_the_filters(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.min_keep = 3;
    struct example three = {{0.4f, 0.3f, 0.2f, 0.1f}, {4 / 9.f, 3 / 9.f, 2 / 9.f, 0}};
    settings.top_p = 0.1f;
    check_example(&settings, NULL, 0, three);
    settings.top_p = 1.0f;
    settings.min_p = 1.0f;
    check_example(&settings, NULL, 0, three);
    settings.min_p = 0.0f;
    settings.xtc_probability = 1.0f; /* would leave two */
    settings.xtc_threshold = 0.19f;
    check_example(&settings, NULL, 0,
                  (struct example){{0.4f, 0.3f, 0.2f, 0.1f}, {0.4f, 0.3f, 0.2f, 0.1f}});
    settings.xtc_probability = 0.0f;
    settings.typical_p = 0.1f; /* entropy 1.280; distances 0.363, 0.076, 0.330, 1.023 */
    check_example(&settings, NULL, 0, three);
}

/* ---- against the reference ---- */

static float random_float(struct random *random, float low, float high)
{
    return low + (high - low) * (float)random_unit(random);
}

static uint32_t random_below(struct random *random, uint32_t bound)
{
    return (uint32_t)(random_u64(random) % bound);
}

static bool one_in(struct random *random, uint32_t n)
{
    return random_below(random, n) == 0;
}

static struct hearth_sampling random_settings(struct random *random)
{
    struct hearth_sampling s = plain();
    s.seed = random_u64(random);
    s.temperature = one_in(random, 8) ? 0.0f : random_float(random, 0.1f, 2.0f);
    s.min_keep = one_in(random, 2) ? 0 : random_below(random, 8);
    if (one_in(random, 2))
        s.top_k = 1 + (int32_t)random_below(random, one_in(random, 2) ? 10 : 800);
    if (one_in(random, 2))
        s.top_p = random_float(random, 0.0f, 1.0f);
    if (one_in(random, 2))
        s.min_p = random_float(random, 0.0f, 0.3f);
    if (one_in(random, 3))
        s.typical_p = random_float(random, 0.0f, 1.0f);
    if (one_in(random, 3))
        s.top_n_sigma = random_float(random, 0.1f, 4.0f);
    if (one_in(random, 3)) {
        s.xtc_probability = random_float(random, 0.0f, 1.0f);
        s.xtc_threshold = random_float(random, 0.0f, 0.5f);
    }
    if (one_in(random, 2)) {
        s.repeat_penalty = random_float(random, 0.8f, 2.0f);
        s.frequency_penalty = random_float(random, -1.0f, 1.0f);
        s.presence_penalty = random_float(random, -1.0f, 1.0f);
        s.penalty_last_n = (int32_t)random_below(random, 80) - 1;
    }
    if (one_in(random, 2)) {
        s.dry_multiplier = random_float(random, 0.1f, 2.0f);
        s.dry_base = random_float(random, 1.0f, 2.0f);
        s.dry_allowed_length = (int32_t)random_below(random, 4);
        s.dry_penalty_last_n = (int32_t)random_below(random, 80) - 1;
        s.dry_breakers = breakers;
        s.dry_breaker_count = one_in(random, 3) ? 0 : 2;
    }
    s.mirostat = one_in(random, 6) ? 2 : 0;
    s.mirostat_tau = random_float(random, 0.5f, 6.0f);
    return s;
}

/* Mostly spread out, at times with many equal ones and some that are impossible. */
static void random_logits(struct random *random, float *logits, uint32_t count)
{
    bool steps = one_in(random, 3);
    float width = random_float(random, 0.1f, 12.0f);
    for (uint32_t i = 0; i < count; i++) {
        logits[i] = random_float(random, -width, width);
        if (steps)
            logits[i] = floorf(logits[i]);
        if (i > 0 && one_in(random, 20))
            logits[i] = -INFINITY;
    }
}

static int by_id(const void *a, const void *b)
{
    const struct sampler_choice *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_reference_id(const void *a, const void *b)
{
    const struct reference_choice *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void check_same(struct hearth_sampler *sampler, struct reference *reference,
                       const float *logits, struct sampler_choice *choices)
{
    size_t count;
    assert_int_equal(
        sampler_distribution(sampler, logits, choices, reference->vocabulary, &count, NULL), 0);
    uint32_t expected = reference_sample(reference, logits);
    assert_int_equal(count, reference->choice_count);
    qsort(choices, count, sizeof *choices, by_id);
    qsort(reference->choices, count, sizeof *reference->choices, by_reference_id);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(choices[i].id, reference->choices[i].id);
        assert_near(choices[i].probability, reference->choices[i].probability, 1e-9);
    }
    assert_int_equal(must_sample(sampler, logits), expected);
}

static void compare_with_reference(struct random *random, uint32_t vocabulary,
                                   uint32_t accepted_ids, int samples)
{
    struct hearth_sampling settings = random_settings(random);
    struct hearth_logit_bias bias[3];
    for (size_t i = 0; i < 3; i++)
        bias[i] = (struct hearth_logit_bias){random_below(random, vocabulary),
                                             random_float(random, -3.0f, 3.0f)};
    settings.bias = bias;
    settings.bias_count = vocabulary < 3 ? 0 : random_below(random, 4);
    struct hearth_sampler *sampler = open_sampler(&settings, vocabulary);
    struct reference reference;
    reference_init(&reference, &settings, vocabulary);
    reference.breakers = token_breakers;
    reference.breaker_count =
        settings.dry_breaker_count > 0 ? sizeof token_breakers / sizeof token_breakers[0] : 0;
    float *logits = malloc(vocabulary * sizeof *logits);
    struct sampler_choice *choices = malloc(vocabulary * sizeof *choices);
    assert_true(logits && choices);
    for (uint32_t i = random_below(random, 300); i > 0; i--) {
        uint32_t id = random_below(random, accepted_ids);
        must_accept(sampler, id);
        reference_accept(&reference, id);
    }
    for (int i = 0; i < samples; i++) {
        random_logits(random, logits, vocabulary);
        check_same(sampler, &reference, logits, choices);
    }
    free(logits);
    free(choices);
    reference_finish(&reference);
    hearth_sampler_close(sampler);
}

static void any_settings_give_what_the_plain_reference_gives(void **state)
{
    (void)state;
    struct random random = random_from_seed(1);
    for (int i = 0; i < 1200; i++) {
        uint32_t vocabulary = 1 + random_below(&random, i % 4 == 0 ? 1500 : 80);
        compare_with_reference(&random, vocabulary, vocabulary, 4);
    }
}

static void texts_that_repeat_give_what_the_plain_reference_gives(void **state)
{
    (void)state;
    struct random random = random_from_seed(2);
    for (int i = 0; i < 1200; i++)
        compare_with_reference(&random, 10 + random_below(&random, 10),
                               2 + random_below(&random, 9), 6);
}

/* ---- seeds ---- */

static void draws_are_as_frequent_as_their_probabilities(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.seed = 42;
    struct hearth_sampler *sampler = open_sampler(&settings, 5);
    const double shares[] = {0.5, 0.25, 0.2, 0.04, 0.01};
    float logits[5];
    int counts[5] = {0};
    for (size_t i = 0; i < 5; i++)
        logits[i] = logf((float)shares[i]) + 3.0f;
    for (int i = 0; i < 100000; i++)
        counts[must_sample(sampler, logits)]++;
    for (size_t i = 0; i < 5; i++) {
        double deviation = sqrt(100000 * shares[i] * (1 - shares[i]));
        assert_near((double)counts[i], 100000 * shares[i], 4 * deviation);
    }
    hearth_sampler_close(sampler);
}

/* Fills `ids` from logits that depend on nothing but exact arithmetic. */
static void sample_fixed(const struct hearth_sampling *settings, uint32_t *ids, size_t count)
{
    enum { VOCABULARY = 3000 };
    static float logits[VOCABULARY];
    struct random random = random_from_seed(7);
    struct hearth_sampler *sampler = open_sampler(settings, VOCABULARY);
    for (size_t i = 0; i < count; i++) {
        for (size_t id = 0; id < VOCABULARY; id++)
            logits[id] = (float)(random_unit(&random) * 16.0 - 8.0);
        ids[i] = must_sample(sampler, logits);
    }
    hearth_sampler_close(sampler);
}

static void the_same_seed_gives_the_same_ids_and_another_seed_others(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    uint32_t ids[3][64];
    settings.seed = 1;
    sample_fixed(&settings, ids[0], 64);
    sample_fixed(&settings, ids[1], 64);
    settings.seed = 2;
    sample_fixed(&settings, ids[2], 64);
    assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    assert_memory_not_equal(ids[0], ids[2], sizeof ids[0]);
}

static uint64_t digest(const struct hearth_sampling *settings)
{
    uint32_t ids[64];
    sample_fixed(settings, ids, 64);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < 64; i++)
        hash = (hash ^ ids[i]) * 0x100000001b3u;
    return hash;
}

static void seeds_give_the_same_ids_on_every_machine(void **state)
{
    (void)state;
    struct hearth_sampling settings;
    hearth_sampling_default(&settings);
    settings.seed = 3;
    assert_int_equal(digest(&settings), UINT64_C(0x1ed8c628e2f09689));
    settings.top_k = 0;
    settings.typical_p = 0.8f;
    settings.top_n_sigma = 2.0f;
    settings.xtc_probability = 0.5f;
    settings.xtc_threshold = 0.01f;
    settings.dry_multiplier = 1.0f;
    settings.repeat_penalty = 1.3f;
    assert_int_equal(digest(&settings), UINT64_C(0xcb3fc08bfcfb5734));
    settings.mirostat = 2;
    assert_int_equal(digest(&settings), UINT64_C(0x482ceed93438013e));
}

static void mirostat_finds_the_surprise_it_is_asked_for(void **state)
{
    (void)state;
    enum { VOCABULARY = 2000, DRAWS = 4000 };
    float *logits = malloc(VOCABULARY * sizeof *logits);
    assert_non_null(logits);
    for (size_t i = 0; i < VOCABULARY; i++)
        logits[i] = -logf((float)(i + 1)); /* Zipf's law */
    struct hearth_sampling settings = plain();
    settings.mirostat = 2;
    settings.mirostat_tau = 3.0f;
    struct hearth_sampler *sampler = open_sampler(&settings, VOCABULARY);
    struct sampler_choice *choices = malloc(VOCABULARY * sizeof *choices);
    assert_non_null(choices);
    double bits = 0;
    for (int i = 0; i < DRAWS; i++) {
        size_t count;
        assert_int_equal(sampler_distribution(sampler, logits, choices, VOCABULARY, &count, NULL),
                         0);
        uint32_t id = must_sample(sampler, logits);
        for (size_t c = 0; c < count; c++)
            bits -= choices[c].id == id ? log2(choices[c].probability) : 0.0;
    }
    assert_near(bits / DRAWS, 3.0, 0.1);
    free(choices);
    free(logits);
    hearth_sampler_close(sampler);
}

/* ---- hostile and odd logits ---- */

static void nan_is_named_and_changes_nothing(void **state)
{
    (void)state;
    static float logits[1000];
    struct hearth_sampling settings = plain();
    settings.repeat_penalty = 1.5f;
    settings.dry_multiplier = 1.0f;
    const struct hearth_logit_bias bias = {.id = 777, .bias = -INFINITY};
    settings.bias = &bias;
    settings.bias_count = 1;
    struct hearth_sampler *sampler = open_sampler(&settings, 1000);
    struct hearth_sampler *undisturbed = open_sampler(&settings, 1000);
    must_accept(sampler, 777);
    must_accept(undisturbed, 777);
    static const float bad[] = {NAN, -NAN};
    for (size_t i = 0; i < 2; i++) {
        struct hearth_error err;
        uint32_t id = 12345;
        logits[777] = bad[i];
        assert_int_equal(hearth_sampler_sample(sampler, logits, &id, &err), HEARTH_E_NUMERIC);
        assert_non_null(strstr(err.text, "777"));
        assert_int_equal(id, 12345);
    }
    logits[777] = 0.0f;
    for (int i = 0; i < 20; i++)
        assert_int_equal(must_sample(sampler, logits), must_sample(undisturbed, logits));
    hearth_sampler_close(sampler);
    hearth_sampler_close(undisturbed);
}

static void logits_that_are_all_impossible_are_an_error(void **state)
{
    (void)state;
    float logits[300];
    for (size_t i = 0; i < 300; i++)
        logits[i] = -INFINITY;
    for (int mode = 0; mode < 3; mode++) {
        struct hearth_sampling settings = plain();
        settings.temperature = mode == 0 ? 0.0f : 1.0f;
        settings.mirostat = mode == 2 ? 2 : 0;
        struct hearth_sampler *sampler = open_sampler(&settings, 300);
        uint32_t id;
        assert_int_equal(hearth_sampler_sample(sampler, logits, &id, NULL), HEARTH_E_NUMERIC);
        logits[299] = -FLT_MAX;
        assert_int_equal(must_sample(sampler, logits), 299);
        logits[299] = -INFINITY;
        hearth_sampler_close(sampler);
    }
}

static void infinite_logits_win_and_share(void **state)
{
    (void)state;
    struct random random = random_from_seed(5);
    for (int i = 0; i < 200; i++) {
        struct hearth_sampling settings = random_settings(&random);
        settings.xtc_probability = 0.0f;
        settings.min_keep = 2;
        float logits[400];
        random_logits(&random, logits, 400);
        logits[50] = INFINITY;
        logits[333] = INFINITY;
        struct hearth_sampler *sampler = open_sampler(&settings, 400);
        must_accept(sampler, 50);
        uint32_t id = must_sample(sampler, logits);
        if (settings.temperature <= 0.0f)
            assert_int_equal(id, 50);
        else
            assert_true(id == 50 || id == 333);
        hearth_sampler_close(sampler);
    }
}

static void huge_logits_and_settings_stay_numbers(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    settings.repeat_penalty = FLT_MAX;
    settings.frequency_penalty = -FLT_MAX;
    settings.presence_penalty = FLT_MAX;
    settings.dry_multiplier = FLT_MAX;
    settings.dry_base = FLT_MAX;
    settings.dry_allowed_length = 0;
    settings.top_n_sigma = FLT_MAX;
    settings.typical_p = 0.999f;
    settings.temperature = FLT_MIN;
    const struct hearth_logit_bias bias[] = {{0, FLT_MAX}, {1, -FLT_MAX}};
    settings.bias = bias;
    settings.bias_count = 2;
    struct hearth_sampler *sampler = open_sampler(&settings, 6);
    const float logits[] = {FLT_MAX, -FLT_MAX, FLT_MIN, -FLT_MIN, 0.0f, -0.0f};
    for (int i = 0; i < 100; i++)
        assert_in_range(must_sample(sampler, logits), 0, 5);
    hearth_sampler_close(sampler);
}

static void greedy_takes_the_first_of_equals_anywhere_in_a_large_vocabulary(void **state)
{
    (void)state;
    enum { VOCABULARY = 262144 };
    float *logits = malloc(VOCABULARY * sizeof *logits);
    assert_non_null(logits);
    struct hearth_sampling settings;
    hearth_sampling_default(&settings);
    settings.temperature = 0.0f;
    struct hearth_sampler *sampler = open_sampler(&settings, VOCABULARY);
    for (size_t i = 0; i < VOCABULARY; i++)
        logits[i] = i % 2 == 0 ? -0.0f : 0.0f;
    assert_int_equal(must_sample(sampler, logits), 0);
    logits[0] = logits[1] = -1.0f;
    assert_int_equal(must_sample(sampler, logits), 2);
    static const uint32_t places[] = {255, 256, 100000, VOCABULARY - 1};
    for (size_t i = 4; i-- > 0;) {
        logits[places[i]] = 1.0f;
        assert_int_equal(must_sample(sampler, logits), places[i]);
    }
    free(logits);
    hearth_sampler_close(sampler);
}

/* ---- settings ---- */

static void defaults_are_those_of_llama_cpp(void **state)
{
    (void)state;
    struct hearth_sampling s;
    memset(&s, 0xff, sizeof s);
    hearth_sampling_default(&s);
    assert_true(s.temperature == 0.8f);
    assert_int_equal(s.top_k, 40);
    assert_true(s.top_p == 0.95f);
    assert_true(s.min_p == 0.05f);
    assert_true(s.typical_p == 1.0f);
    assert_true(s.top_n_sigma < 0 && s.xtc_probability == 0.0f && s.dry_multiplier == 0.0f);
    assert_true(s.xtc_threshold == 0.1f);
    assert_true(s.dry_base == 1.75f);
    assert_int_equal(s.dry_allowed_length, 2);
    assert_int_equal(s.dry_penalty_last_n, 64);
    assert_int_equal(s.penalty_last_n, 64);
    assert_true(s.repeat_penalty == 1.0f && s.frequency_penalty == 0.0f);
    assert_true(s.presence_penalty == 0.0f && s.mirostat == 0 && s.min_keep == 0);
    assert_true(s.mirostat_tau == 5.0f);
    assert_true(s.mirostat_eta == 0.1f);
    assert_true(s.dry_breakers == NULL && s.bias == NULL && s.bias_count == 0 && s.seed == 0);
}

static void must_refuse(const struct hearth_sampling *settings, int code, const char *name)
{
    struct vocabulary vocabulary = words_of(100);
    struct hearth_sampler *sampler = NULL;
    struct hearth_error err;
    assert_int_equal(sampler_open(&vocabulary, settings, &sampler, &err), code);
    assert_null(sampler);
    assert_non_null(strstr(err.text, name));
}

#define REFUSES(member, value)                                                                     \
    do {                                                                                           \
        struct hearth_sampling settings = plain();                                                 \
        settings.member = (value);                                                                 \
        must_refuse(&settings, HEARTH_E_ARGUMENT, #member);                                        \
    } while (0)
#define REFUSES_ODD(member)                                                                        \
    do {                                                                                           \
        REFUSES(member, NAN);                                                                      \
        REFUSES(member, INFINITY);                                                                 \
        REFUSES(member, -INFINITY);                                                                \
    } while (0)
#define REFUSES_OUTSIDE(member, low, high)                                                         \
    do {                                                                                           \
        REFUSES_ODD(member);                                                                       \
        REFUSES(member, nextafterf(low, -1.0f));                                                   \
        REFUSES(member, nextafterf(high, 2.0f));                                                   \
    } while (0)

static void settings_out_of_range_are_named(void **state)
{
    (void)state;
    REFUSES_ODD(temperature);
    REFUSES_OUTSIDE(top_p, 0.0f, 1.0f);
    REFUSES_OUTSIDE(min_p, 0.0f, 1.0f);
    REFUSES_OUTSIDE(typical_p, 0.0f, 1.0f);
    REFUSES_ODD(top_n_sigma);
    REFUSES_OUTSIDE(xtc_probability, 0.0f, 1.0f);
    REFUSES_OUTSIDE(xtc_threshold, 0.0f, 1.0f);
    REFUSES_ODD(dry_multiplier);
    REFUSES(dry_multiplier, -1.0f);
    REFUSES_ODD(dry_base);
    REFUSES(dry_base, -1.0f);
    REFUSES(dry_allowed_length, -1);
    REFUSES(dry_penalty_last_n, -2);
    REFUSES(penalty_last_n, -2);
    REFUSES_ODD(repeat_penalty);
    REFUSES(repeat_penalty, 0.0f);
    REFUSES(repeat_penalty, -1.0f);
    REFUSES_ODD(frequency_penalty);
    REFUSES_ODD(presence_penalty);
    REFUSES(mirostat, -1);
    REFUSES(mirostat, 1);
    REFUSES(mirostat, 3);
    REFUSES_ODD(mirostat_tau);
    REFUSES(mirostat_tau, -1.0f);
    REFUSES_ODD(mirostat_eta);
    REFUSES(mirostat_eta, -1.0f);
}

static void bad_lists_are_named(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    static struct hearth_logit_bias bias[101];
    settings.bias = bias;
    settings.bias_count = 101;
    must_refuse(&settings, HEARTH_E_LIMIT, "bias");
    settings.bias_count = 1;
    bias[0].id = 100;
    must_refuse(&settings, HEARTH_E_ARGUMENT, "bias");
    bias[0].id = 99;
    bias[0].bias = NAN;
    must_refuse(&settings, HEARTH_E_ARGUMENT, "bias");
    bias[0].bias = INFINITY;
    must_refuse(&settings, HEARTH_E_ARGUMENT, "bias");

    settings = plain();
    settings.dry_multiplier = 1.0f;
    const char *list[65];
    for (size_t i = 0; i < 65; i++)
        list[i] = "a";
    settings.dry_breakers = list;
    settings.dry_breaker_count = 65;
    must_refuse(&settings, HEARTH_E_LIMIT, "dry_breakers");
    settings.dry_breaker_count = 2;
    list[1] = "";
    must_refuse(&settings, HEARTH_E_ARGUMENT, "dry_breakers");
    list[1] = "12345678901234567890123456789012345678901";
    must_refuse(&settings, HEARTH_E_LIMIT, "dry_breakers");
}

static void a_token_outside_the_vocabulary_is_refused(void **state)
{
    (void)state;
    struct hearth_sampling settings = plain();
    struct hearth_sampler *sampler = open_sampler(&settings, 10);
    assert_int_equal(hearth_sampler_accept(sampler, 10, NULL), HEARTH_E_ARGUMENT);
    assert_int_equal(hearth_sampler_accept(sampler, UINT32_MAX, NULL), HEARTH_E_ARGUMENT);
    must_accept(sampler, 9);
    hearth_sampler_close(sampler);
    hearth_sampler_close(NULL);
}

/* ---- memory ---- */

static struct hearth_sampling everything(void)
{
    static const struct hearth_logit_bias bias = {.id = 1, .bias = 1.0f};
    struct hearth_sampling s;
    hearth_sampling_default(&s);
    s.typical_p = 0.9f;
    s.dry_multiplier = 1.0f;
    s.dry_penalty_last_n = -1;
    s.dry_breakers = breakers;
    s.dry_breaker_count = 2;
    s.repeat_penalty = 1.2f;
    s.penalty_last_n = -1;
    s.bias = &bias;
    s.bias_count = 1;
    return s;
}

static void opening_survives_any_allocation_that_fails(void **state)
{
    (void)state;
    struct hearth_sampling settings = everything();
    struct vocabulary vocabulary = words_of(500);
    unsigned long failed = 0;
    for (;; failed++) {
        struct hearth_sampler *sampler = NULL;
        mem_fail_nth(failed + 1);
        int status = sampler_open(&vocabulary, &settings, &sampler, NULL);
        mem_fail_nth(0);
        if (status == 0) {
            hearth_sampler_close(sampler);
            break;
        }
        assert_int_equal(status, HEARTH_E_MEMORY);
        assert_null(sampler);
    }
    assert_in_range(failed, 10, 100);
}

static void sampling_goes_on_after_an_allocation_that_failed(void **state)
{
    (void)state;
    struct hearth_sampling settings = everything();
    struct hearth_sampler *tortured = open_sampler(&settings, 500);
    struct hearth_sampler *calm = open_sampler(&settings, 500);
    struct random random = random_from_seed(9);
    float logits[500];
    int failures = 0;
    for (int i = 0; i < 3000; i++) {
        random_logits(&random, logits, 500);
        uint32_t id = UINT32_MAX, expected = must_sample(calm, logits);
        mem_fail_nth(1);
        int status = hearth_sampler_sample(tortured, logits, &id, NULL);
        mem_fail_nth(0);
        if (status != 0) {
            assert_int_equal(status, HEARTH_E_MEMORY);
            assert_int_equal(id, UINT32_MAX);
            id = must_sample(tortured, logits);
            failures++;
        }
        assert_int_equal(id, expected);
    }
    assert_in_range(failures, 5, 20); /* a text that grows without end allocates now and then */
    hearth_sampler_close(tortured);
    hearth_sampler_close(calm);
}

static void samples_allocate_nothing_where_the_window_is_bounded(void **state)
{
    (void)state;
    struct hearth_sampling settings = everything();
    settings.penalty_last_n = 64;
    settings.dry_penalty_last_n = 100;
    struct hearth_sampler *sampler = open_sampler(&settings, 5);
    const float logits[] = {1.0f, 0.0f, 0.5f, 0.25f, -1.0f};
    for (int i = 0; i < 1000; i++) {
        mem_fail_nth(1);
        must_sample(sampler, logits);
    }
    mem_fail_nth(0);
    hearth_sampler_close(sampler);
}

/* ---- parts ---- */

static int descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

static void keys_select_and_sort_as_qsort_does(void **state)
{
    (void)state;
    struct random random = random_from_seed(3);
    uint64_t keys[500], sorted[500];
    for (int i = 0; i < 2000; i++) {
        size_t count = 1 + random_below(&random, 500),
               k = random_below(&random, (uint32_t)count + 1);
        bool close = one_in(&random, 2);
        for (size_t j = 0; j < count; j++)
            keys[j] =
                close ? UINT64_C(0x8000000000000000) + j * 3 : random_u64(&random) / 512 * 512 + j;
        memcpy(sorted, keys, count * sizeof *keys);
        qsort(sorted, count, sizeof *sorted, descending);
        assert_int_equal(keys_max(keys, count), sorted[0]);
        keys_select(keys, count, k);
        keys_sort(keys, k);
        assert_memory_equal(keys, sorted, k * sizeof *keys);
        keys_sort(keys, count);
        assert_memory_equal(keys, sorted, count * sizeof *keys);
    }
}

static void a_key_gives_back_its_logit_and_id(void **state)
{
    (void)state;
    static const float logits[] = {INFINITY, FLT_MAX, 1.5f,  1.0f,     FLT_MIN,  1e-45f,
                                   0.0f,     -1e-45f, -1.0f, -FLT_MAX, -INFINITY};
    uint64_t before = UINT64_MAX;
    for (size_t i = 0; i < sizeof logits / sizeof logits[0]; i++) {
        uint64_t key = key_of(logits[i], 77), next = key_of(logits[i], 78);
        assert_true(key_logit(key) == logits[i] && key_id(key) == 77);
        assert_true(key < before && next < key);
        before = next;
    }
    assert_true(key_of(-0.0f, 5) == key_of(0.0f, 5));
}

static void exp_and_log_are_accurate(void **state)
{
    (void)state;
    struct random random = random_from_seed(4);
    for (int i = 0; i < 200000; i++) {
        double x = -random_unit(&random) * (i % 2 ? 700.0 : 2.0);
        assert_true(fabsl(sampler_exp(x) / expl((long double)x) - 1) < 4e-16L);
        double y = ldexp(1 + random_unit(&random), (int)random_below(&random, 2000) - 1000);
        assert_true(fabsl(sampler_log(y) / logl((long double)y) - 1) < 4e-16L);
        double z = 1 + (random_unit(&random) - 0.5) * 0.01;
        assert_true(fabsl(sampler_log(z) / logl((long double)z) - 1) < 4e-16L);
    }
    assert_true(sampler_exp(0.0) == 1.0 && sampler_log(1.0) == 0.0);
    assert_true(sampler_exp(-709.0) == 0.0 && sampler_exp(-INFINITY) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(temperature_sharpens_and_flattens),
        cmocka_unit_test(top_k_keeps_the_k_best),
        cmocka_unit_test(top_p_keeps_the_best_until_their_sum_reaches_p),
        cmocka_unit_test(min_p_keeps_a_share_of_the_best),
        cmocka_unit_test(top_n_sigma_keeps_what_is_near_the_best_logit),
        cmocka_unit_test(typical_keeps_what_is_as_surprising_as_the_average),
        cmocka_unit_test(xtc_drops_all_likely_tokens_but_the_least_likely),
        cmocka_unit_test(xtc_acts_as_often_as_its_probability_says),
        cmocka_unit_test(penalties_lower_what_was_said),
        cmocka_unit_test(dry_lowers_what_would_repeat),
        cmocka_unit_test(a_bias_adds_to_a_logit_and_can_forbid_a_token),
        cmocka_unit_test(min_keep_bounds_the_filters),
        cmocka_unit_test(any_settings_give_what_the_plain_reference_gives),
        cmocka_unit_test(texts_that_repeat_give_what_the_plain_reference_gives),
        cmocka_unit_test(draws_are_as_frequent_as_their_probabilities),
        cmocka_unit_test(the_same_seed_gives_the_same_ids_and_another_seed_others),
        cmocka_unit_test(seeds_give_the_same_ids_on_every_machine),
        cmocka_unit_test(mirostat_finds_the_surprise_it_is_asked_for),
        cmocka_unit_test(nan_is_named_and_changes_nothing),
        cmocka_unit_test(logits_that_are_all_impossible_are_an_error),
        cmocka_unit_test(infinite_logits_win_and_share),
        cmocka_unit_test(huge_logits_and_settings_stay_numbers),
        cmocka_unit_test(greedy_takes_the_first_of_equals_anywhere_in_a_large_vocabulary),
        cmocka_unit_test(defaults_are_those_of_llama_cpp),
        cmocka_unit_test(settings_out_of_range_are_named),
        cmocka_unit_test(bad_lists_are_named),
        cmocka_unit_test(a_token_outside_the_vocabulary_is_refused),
        cmocka_unit_test(opening_survives_any_allocation_that_fails),
        cmocka_unit_test(sampling_goes_on_after_an_allocation_that_failed),
        cmocka_unit_test(samples_allocate_nothing_where_the_window_is_bounded),
        cmocka_unit_test(keys_select_and_sort_as_qsort_does),
        cmocka_unit_test(a_key_gives_back_its_logit_and_id),
        cmocka_unit_test(exp_and_log_are_accurate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
