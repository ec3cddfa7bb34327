/* What the forward pass may rely on of struct vector_kernels: every tier gives the bits of the
 * reference, the reference is close to the mathematics, and nothing outside the given rows is
 * touched. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "kernel/kernel.h"

#define GUARD 16 /* floats around each row that must stay as they are */
#define ROW_MAX 600

static const size_t sizes[] = {1, 2, 15, 16, 17, 31, 32, 33, 64, 100, 576, 599};

static float random_float(struct random *random)
{
    return (float)(random_unit(random) * 8.0 - 4.0);
}

static void fill(struct random *random, float *row, size_t n)
{
    for (size_t i = 0; i < n; i++)
        row[i] = random_float(random);
}

static void assert_close(double actual, double expected, double tolerance)
{
    if (!(fabs(actual - expected) <= tolerance))
        fail_msg("%.9g is further than %g from %.9g", actual, tolerance, expected);
}

static struct kernels tier_named(const char *tier)
{
    struct kernels kernels;
    assert_int_equal(kernels_select(tier, &kernels, NULL), 0);
    return kernels;
}

/* A row with guards; two tables compute on copies of it and must agree in every byte. */
struct row {
    float f[GUARD + ROW_MAX + GUARD];
};

static struct row random_row(struct random *random)
{
    struct row row;
    fill(random, row.f, sizeof row.f / sizeof row.f[0]);
    return row;
}

static float *body(struct row *row)
{
    return row->f + GUARD;
}

/* ---- rows ---- */

static void compare_rows(const struct vector_kernels *a, const struct vector_kernels *b, size_t n,
                         struct random *random)
{
    struct row x = random_row(random), w = random_row(random);
    struct row y[2];
#define SAME(call_a, call_b)                                                                       \
    do {                                                                                           \
        y[0] = y[1] = x;                                                                           \
        call_a;                                                                                    \
        call_b;                                                                                    \
        assert_memory_equal(&y[0], &y[1], sizeof y[0]);                                            \
        assert_memory_equal(y[0].f, x.f, GUARD * sizeof(float));                                   \
        assert_memory_equal(body(&y[0]) + n, body(&x) + n, (ROW_MAX - n + GUARD) * sizeof(float)); \
    } while (0)
    SAME(a->rms_norm(body(&x), body(&w), 1e-5f, n, body(&y[0])),
         b->rms_norm(body(&x), body(&w), 1e-5f, n, body(&y[1])));
    SAME(a->rms_norm(body(&y[0]), NULL, 1e-6f, n, body(&y[0])),
         b->rms_norm(body(&y[1]), NULL, 1e-6f, n, body(&y[1])));
    SAME(a->add(body(&y[0]), body(&w), n), b->add(body(&y[1]), body(&w), n));
    SAME(a->scale(body(&y[0]), 0.3f, n), b->scale(body(&y[1]), 0.3f, n));
    SAME(a->silu_mul(body(&y[0]), body(&w), n), b->silu_mul(body(&y[1]), body(&w), n));
    SAME(a->gelu_mul(body(&y[0]), body(&w), n), b->gelu_mul(body(&y[1]), body(&w), n));
    SAME(a->soft_cap(body(&y[0]), 2.5f, n), b->soft_cap(body(&y[1]), 2.5f, n));
    size_t pairs = n / 2;
    n = 2 * pairs;
    SAME(a->rope_neox(body(&y[0]), body(&w), body(&w) + pairs, pairs),
         b->rope_neox(body(&y[1]), body(&w), body(&w) + pairs, pairs));
    SAME(a->rope_normal(body(&y[0]), body(&w), body(&w) + pairs, pairs),
         b->rope_normal(body(&y[1]), body(&w), body(&w) + pairs, pairs));
#undef SAME
}

static void every_tier_computes_rows_to_the_same_bits(void **state)
{
    (void)state;
    struct kernels reference = tier_named("ref");
    struct random random = random_from_seed(1);
    for (size_t t = 1; kernels_tier_at(t); t++) {
        struct kernels tier = tier_named(kernels_tier_at(t));
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            compare_rows(&reference.vector, &tier.vector, sizes[i], &random);
    }
}

static void extreme_inputs_give_the_same_bits_and_no_traps(void **state)
{
    (void)state;
    static const float extremes[] = {0.0f,      -0.0f, 1e-40f, -1e-40f, 1e-20f,   3e38f,
                                     -3e38f,    88.5f, -88.5f, 1000.0f, -1000.0f, INFINITY,
                                     -INFINITY, 1.0f,  -1.0f,  0.5f};
    struct kernels reference = tier_named("ref");
    for (size_t t = 1; kernels_tier_at(t); t++) {
        struct kernels tier = tier_named(kernels_tier_at(t));
        float a[16], b[16], up[16];
        for (int i = 0; i < 16; i++)
            up[i] = 1.0f;
        memcpy(a, extremes, sizeof a);
        memcpy(b, extremes, sizeof b);
        reference.vector.silu_mul(a, up, 16);
        tier.vector.silu_mul(b, up, 16);
        for (int i = 0; i < 16; i++)
            assert_true(isnan(a[i]) ? isnan(b[i]) : memcmp(&a[i], &b[i], sizeof a[i]) == 0);
    }
}

static void activations_are_close_to_the_mathematics(void **state)
{
    (void)state;
    struct kernels kernels = tier_named("ref");
    for (double x = -30.0; x < 30.0; x += 0.01) {
        float silu = (float)x, gelu = (float)x, cap = (float)x, one = 1.0f;
        kernels.vector.silu_mul(&silu, &one, 1);
        kernels.vector.gelu_mul(&gelu, &one, 1);
        kernels.vector.soft_cap(&cap, 7.0f, 1);
        double f = (double)(float)x;
        double inner = sqrt(2.0 / 3.14159265358979323846) * (f + 0.044715 * f * f * f);
        assert_close((double)silu, f / (1.0 + exp(-f)), 1e-6 * (1.0 + fabs(f)));
        assert_close((double)gelu, 0.5 * f * (1.0 + tanh(inner)), 1e-6 * (1.0 + fabs(f)));
        assert_close((double)cap, 7.0 * tanh(f / 7.0), 4e-6);
    }
}

static void rms_norm_divides_by_the_root_of_the_mean_square(void **state)
{
    (void)state;
    struct kernels kernels = tier_named("ref");
    struct random random = random_from_seed(2);
    struct row x = random_row(&random), w = random_row(&random), y;
    double squares = 0.0;
    for (size_t i = 0; i < ROW_MAX; i++)
        squares += (double)body(&x)[i] * (double)body(&x)[i];
    kernels.vector.rms_norm(body(&x), body(&w), 1e-5f, ROW_MAX, body(&y));
    for (size_t i = 0; i < ROW_MAX; i++) {
        double expected =
            (double)body(&x)[i] / sqrt(squares / ROW_MAX + 1e-5) * (double)body(&w)[i];
        assert_close((double)body(&y)[i], expected, 1e-5);
    }
}

/* ---- attention ---- */

#define TOKENS 700
#define HEAD_MAX 256
#define BLOCKS ((TOKENS + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS)

/* One kv head's history of random keys and values, as floats and in blocks. */
struct history {
    size_t size;
    enum kv_type type;
    float (*keys)[HEAD_MAX], (*values)[HEAD_MAX];
    void *blocks[BLOCKS];
};

static void build_history(const struct vector_kernels *vector, enum kv_type type, size_t size,
                          struct history *history)
{
    struct random random = random_from_seed(size);
    size_t bytes = kv_head_bytes(type, size, size);
    history->size = size;
    history->type = type;
    history->keys = calloc(TOKENS, sizeof *history->keys);
    history->values = calloc(TOKENS, sizeof *history->values);
    for (size_t b = 0; b < BLOCKS; b++)
        history->blocks[b] = aligned_alloc(64, bytes);
    for (size_t b = 0; b < BLOCKS; b++)
        memset(history->blocks[b], 0, bytes);
    for (size_t t = 0; t < TOKENS; t++) {
        char *part = history->blocks[t / KV_BLOCK_TOKENS];
        fill(&random, history->keys[t], size);
        fill(&random, history->values[t], size);
        vector->store_key[type](history->keys[t], size, part, t % KV_BLOCK_TOKENS);
        vector->store_value[type](history->values[t], size, part + kv_key_bytes(type, size),
                                  t % KV_BLOCK_TOKENS);
    }
}

static void free_history(struct history *history)
{
    free(history->keys);
    free(history->values);
    for (size_t b = 0; b < BLOCKS; b++)
        free(history->blocks[b]);
}

/* Attention of rows to tokens first..last through splits and merges, as the engine does it. */
static void attend(const struct vector_kernels *vector, const struct history *history,
                   const float *const *queries, const uint32_t *first, const uint32_t *last,
                   size_t rows, float cap, float *out)
{
    float values[8][HEAD_MAX];
    struct attention_partial totals[8], parts[8];
    for (size_t r = 0; r < rows; r++) {
        totals[r].values = out + r * history->size;
        parts[r].values = values[r];
        attention_partial_clear(&totals[r], history->size);
    }
    for (uint32_t begin = 0; begin < TOKENS; begin += ATTENTION_SPLIT) {
        struct attention task = {
            .kv_type = history->type,
            .key_size = history->size,
            .value_size = history->size,
            .blocks = (const void *const *)history->blocks + begin / KV_BLOCK_TOKENS,
            .queries = queries,
            .first = first,
            .last = last,
            .rows = rows,
            .scale = 1.0f / sqrtf((float)history->size) / 4.0f,
            .soft_cap = cap,
            .begin = begin,
            .end = begin + ATTENTION_SPLIT,
            .partials = parts,
        };
        vector->attention(&task);
        for (size_t r = 0; r < rows; r++)
            vector->attention_merge(&totals[r], &parts[r], history->size);
    }
    for (size_t r = 0; r < rows; r++)
        vector->scale(totals[r].values, 1.0f / totals[r].sum, history->size);
}

static void attend_exactly(const struct history *history, const float *query, uint32_t first,
                           uint32_t last, float cap, double *out)
{
    double weights[TOKENS], max = -INFINITY, sum = 0.0;
    for (uint32_t t = first; t <= last; t++) {
        double score = 0.0;
        for (size_t i = 0; i < history->size; i++)
            score += (double)query[i] * (double)history->keys[t][i];
        score *= 1.0 / sqrt((double)history->size) / 4.0;
        if (cap > 0.0f)
            score = (double)cap * tanh(score / (double)cap);
        weights[t] = score;
        max = score > max ? score : max;
    }
    memset(out, 0, history->size * sizeof *out);
    for (uint32_t t = first; t <= last; t++) {
        double weight = exp(weights[t] - max);
        sum += weight;
        for (size_t i = 0; i < history->size; i++)
            out[i] += weight * (double)history->values[t][i];
    }
    for (size_t i = 0; i < history->size; i++)
        out[i] /= sum;
}

/* Rows of one call: the last tokens of a prompt, a window, a single token, the very first. */
static const uint32_t row_first[] = {0, 0, 0, 431, 69, 255, 0, 256};
static const uint32_t row_last[] = {699, 0, 31, 686, 69, 256, 255, 600};
#define ROWS 8

static void check_attention(enum kv_type type, size_t size, float cap, double tolerance)
{
    struct kernels reference = tier_named("ref");
    struct history history;
    struct random random = random_from_seed(7);
    float queries[ROWS][HEAD_MAX], ours[ROWS * HEAD_MAX], other[ROWS * HEAD_MAX];
    const float *pointers[ROWS];
    double exact[HEAD_MAX];
    build_history(&reference.vector, type, size, &history);
    for (size_t r = 0; r < ROWS; r++) {
        fill(&random, queries[r], size);
        pointers[r] = queries[r];
    }
    attend(&reference.vector, &history, pointers, row_first, row_last, ROWS, cap, ours);
    for (size_t r = 0; r < ROWS; r++) {
        attend_exactly(&history, queries[r], row_first[r], row_last[r], cap, exact);
        for (size_t i = 0; i < size; i++)
            assert_close((double)ours[r * size + i], exact[i], tolerance);
        /* alone, a row gets the same bits as in company */
        attend(&reference.vector, &history, &pointers[r], &row_first[r], &row_last[r], 1, cap,
               other);
        assert_memory_equal(other, ours + r * size, size * sizeof(float));
    }
    for (size_t t = 1; kernels_tier_at(t); t++) {
        struct kernels tier = tier_named(kernels_tier_at(t));
        attend(&tier.vector, &history, pointers, row_first, row_last, ROWS, cap, other);
        assert_memory_equal(other, ours, ROWS * size * sizeof(float));
    }
    free_history(&history);
}

static void attention_to_f16_is_a_softmax_over_what_a_row_sees(void **state)
{
    (void)state;
    check_attention(KV_F16, 64, 0.0f, 2e-2);
    check_attention(KV_F16, 256, 0.0f, 2e-2);
    check_attention(KV_F16, 80, 5.0f, 2e-2);
    check_attention(KV_F16, 18, 0.0f, 2e-2);
}

static void attention_to_q8_0_is_close_to_it(void **state)
{
    (void)state;
    check_attention(KV_Q8_0, 64, 0.0f, 0.15);
    check_attention(KV_Q8_0, 256, 3.0f, 0.15);
    check_attention(KV_Q8_0, 96, 0.0f, 0.15);
}

static void tiers_store_the_same_blocks(void **state)
{
    (void)state;
    struct kernels reference = tier_named("ref");
    for (size_t t = 1; kernels_tier_at(t); t++) {
        struct kernels tier = tier_named(kernels_tier_at(t));
        for (int type = 0; type < KV_TYPES; type++) {
            struct history a, b;
            build_history(&reference.vector, (enum kv_type)type, 96, &a);
            build_history(&tier.vector, (enum kv_type)type, 96, &b);
            for (size_t i = 0; i < BLOCKS; i++)
                assert_memory_equal(a.blocks[i], b.blocks[i],
                                    kv_head_bytes((enum kv_type)type, 96, 96));
            free_history(&a);
            free_history(&b);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tier_computes_rows_to_the_same_bits),
        cmocka_unit_test(extreme_inputs_give_the_same_bits_and_no_traps),
        cmocka_unit_test(activations_are_close_to_the_mathematics),
        cmocka_unit_test(rms_norm_divides_by_the_root_of_the_mean_square),
        cmocka_unit_test(attention_to_f16_is_a_softmax_over_what_a_row_sees),
        cmocka_unit_test(attention_to_q8_0_is_close_to_it),
        cmocka_unit_test(tiers_store_the_same_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
