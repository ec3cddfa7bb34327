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

static void a_hadamard_matrix_is_a_rotation_and_its_own_inverse(void **state)
{
    (void)state;
    static const size_t rotated[] = {16, 32, 64, 80, 96, 128, 160, 256, 512};
    struct kernels reference = tier_named("ref");
    struct random random = random_from_seed(3);
    for (size_t i = 0; i < sizeof rotated / sizeof rotated[0]; i++) {
        size_t n = rotated[i], width = n & (~n + 1);
        struct row x = random_row(&random), y[2] = {x, x};
        reference.vector.hadamard(body(&y[0]), n);
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (size_t k = j / width * width; k < j / width * width + width; k++) {
                int parity = 0;
                for (size_t bits = j & k & (width - 1); bits; bits &= bits - 1)
                    parity ^= 1;
                sum += parity ? -(double)body(&x)[k] : (double)body(&x)[k];
            }
            assert_close((double)body(&y[0])[j], sum / sqrt((double)width), 1e-5);
        }
        for (size_t t = 1; kernels_tier_at(t); t++) {
            struct kernels tier = tier_named(kernels_tier_at(t));
            y[1] = x;
            tier.vector.hadamard(body(&y[1]), n);
            assert_memory_equal(&y[0], &y[1], sizeof y[0]);
        }
        reference.vector.hadamard(body(&y[0]), n);
        for (size_t j = 0; j < n; j++)
            assert_close((double)body(&y[0])[j], (double)body(&x)[j], 1e-5);
        assert_memory_equal(y[0].f, x.f, GUARD * sizeof(float));
        assert_memory_equal(body(&y[0]) + n, body(&x) + n, (ROW_MAX - n + GUARD) * sizeof(float));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tier_computes_rows_to_the_same_bits),
        cmocka_unit_test(extreme_inputs_give_the_same_bits_and_no_traps),
        cmocka_unit_test(activations_are_close_to_the_mathematics),
        cmocka_unit_test(rms_norm_divides_by_the_root_of_the_mean_square),
        cmocka_unit_test(a_hadamard_matrix_is_a_rotation_and_its_own_inverse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
