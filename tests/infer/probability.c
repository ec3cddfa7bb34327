/* hearth_logprobs against long doubles, and what infinite logits mean. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/random.h"
#include "hearth/hearth.h"

#define COUNT 1000

static long double reference(const float *logits, uint32_t count, uint32_t id)
{
    long double sum = 0.0L;
    for (uint32_t i = 0; i < count; i++)
        sum += expl((long double)logits[i] - (long double)logits[id]);
    return -logl(sum);
}

static void fill(float *logits, uint32_t count, uint64_t seed, double spread)
{
    struct random random = random_from_seed(seed);
    for (uint32_t i = 0; i < count; i++)
        logits[i] = (float)((random_unit(&random) - 0.5) * spread);
}

static void probabilities_are_those_of_the_definition(void **state)
{
    (void)state;
    static const double spreads[] = {0.0, 1e-6, 1.0, 30.0, 300.0, 1500.0};
    float logits[COUNT];
    for (uint32_t count = 1; count <= COUNT; count = 2 * count + 1) {
        for (size_t s = 0; s < sizeof spreads / sizeof spreads[0]; s++) {
            fill(logits, count, count + s, spreads[s]);
            for (uint32_t id = 0; id < count; id += 1 + count / 7) {
                struct hearth_chance chance = {.id = id};
                assert_int_equal(hearth_logprobs(logits, count, &chance, 1), 1);
                double expected = (double)reference(logits, count, id);
                assert_true(fabs((double)chance.logprob - expected) <=
                            1e-7 * fabs(expected) + 1e-14);
                assert_int_equal(chance.id, id);
            }
        }
    }
}

static void the_best_come_first_and_equal_ones_by_id(void **state)
{
    (void)state;
    float logits[COUNT];
    struct hearth_chance chances[1 + 20];
    fill(logits, COUNT, 1, 4.0);
    for (uint32_t i = 0; i < COUNT; i++)
        logits[i] = roundf(logits[i]); /* many are equal; of zeros some are negative */
    for (size_t count = 2; count <= 21; count++) {
        chances[0].id = 17;
        assert_int_equal(hearth_logprobs(logits, COUNT, chances, count), count);
        for (size_t i = 1; i < count; i++) {
            uint32_t id = chances[i].id;
            size_t before = 0;
            for (uint32_t o = 0; o < COUNT; o++)
                before += logits[o] > logits[id] || (logits[o] == logits[id] && o < id);
            assert_int_equal(before, i - 1);
        }
    }
    for (uint32_t i = 0; i < 20; i++)
        logits[i] = (float)i; /* the best is always the next */
    chances[0].id = 0;
    assert_int_equal(hearth_logprobs(logits, 5, chances, 21), 6); /* there are no more */
    for (uint32_t i = 1; i < 6; i++)
        assert_int_equal(chances[i].id, 5 - i);
}

static void infinite_logits_share_everything(void **state)
{
    (void)state;
    const float logits[] = {1.0f, INFINITY, -INFINITY, INFINITY, 3.0f};
    struct hearth_chance chances[6] = {{.id = 0}};
    assert_int_equal(hearth_logprobs(logits, 5, chances, 6), 6);
    assert_true(chances[0].logprob == -INFINITY);
    assert_int_equal(chances[1].id, 1);
    assert_int_equal(chances[2].id, 3);
    assert_true(fabsf(chances[1].logprob + logf(2.0f)) < 1e-6f);
    assert_true(chances[3].id == 4 && chances[3].logprob == -INFINITY);
    const float impossible[] = {1.0f, -INFINITY};
    chances[0].id = 1;
    assert_int_equal(hearth_logprobs(impossible, 2, chances, 2), 2);
    assert_true(chances[0].logprob == -INFINITY && chances[1].logprob == 0.0f);
    const float none[] = {-INFINITY, -INFINITY};
    assert_int_equal(hearth_logprobs(none, 2, chances, 2), 2);
    assert_true(chances[0].logprob == -INFINITY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_those_of_the_definition),
        cmocka_unit_test(the_best_come_first_and_equal_ones_by_id),
        cmocka_unit_test(infinite_logits_share_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
