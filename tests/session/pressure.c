/* From what the system says of memory to how short it is, with a clock of the test's own. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/pressure.h"

#define SECOND UINT64_C(1000000000)

static const struct os_pressure calm = {.some = 0, .full = 0, .available = 0.5};
static const struct os_pressure unknown_stalls = {.some = -1, .full = -1, .available = 0.5};

static enum pressure_level level(struct os_pressure reading)
{
    struct pressure pressure = {0};
    return pressure_update(&pressure, &reading, 5 * SECOND);
}

static void each_reading_has_its_level(void **state)
{
    (void)state;
    assert_int_equal(level(calm), PRESSURE_NONE);
    assert_int_equal(level(unknown_stalls), PRESSURE_NONE);
    assert_int_equal(level((struct os_pressure){9.9, 9.9, 0.081}), PRESSURE_NONE);
    assert_int_equal(level((struct os_pressure){0, 0, 0.079}), PRESSURE_SOME);
    assert_int_equal(level((struct os_pressure){10, 0, 0.5}), PRESSURE_SOME);
    assert_int_equal(level((struct os_pressure){-1, -1, 0.05}), PRESSURE_SOME);
    assert_int_equal(level((struct os_pressure){0, 0, 0.039}), PRESSURE_MUCH);
    assert_int_equal(level((struct os_pressure){40, 0, 0.5}), PRESSURE_MUCH);
    assert_int_equal(level((struct os_pressure){10, 10, 0.5}), PRESSURE_MUCH);
    assert_int_equal(level((struct os_pressure){-1, -1, 0}), PRESSURE_MUCH);
}

static void it_rises_at_once_and_falls_step_by_step(void **state)
{
    (void)state;
    struct pressure pressure = {0};
    const struct os_pressure bad = {0, 0, 0.01};
    assert_int_equal(pressure_update(&pressure, &calm, 0), PRESSURE_NONE);
    assert_int_equal(pressure_update(&pressure, &bad, SECOND), PRESSURE_MUCH);
    uint64_t now = 2 * SECOND;
    for (; now < 12 * SECOND; now += SECOND)
        assert_int_equal(pressure_update(&pressure, &calm, now), PRESSURE_MUCH);
    assert_int_equal(pressure_update(&pressure, &calm, now), PRESSURE_SOME);
    for (now += SECOND; now < 23 * SECOND; now += SECOND)
        assert_int_equal(pressure_update(&pressure, &calm, now), PRESSURE_SOME);
    assert_int_equal(pressure_update(&pressure, &calm, now), PRESSURE_NONE);
    assert_int_equal(pressure_update(&pressure, &bad, now), PRESSURE_MUCH);
}

static void a_little_better_is_not_better(void **state)
{
    (void)state;
    struct pressure pressure = {0};
    const struct os_pressure some = {0, 0, 0.07}, better = {0, 0, 0.09}, good = {0, 0, 0.13};
    assert_int_equal(pressure_update(&pressure, &some, 0), PRESSURE_SOME);
    for (uint64_t now = SECOND; now < 60 * SECOND; now += SECOND)
        assert_int_equal(pressure_update(&pressure, &better, now), PRESSURE_SOME);
    /* what is good for nine seconds and then not begins anew */
    uint64_t now = 60 * SECOND;
    for (; now < 69 * SECOND; now += SECOND)
        assert_int_equal(pressure_update(&pressure, &good, now), PRESSURE_SOME);
    assert_int_equal(pressure_update(&pressure, &better, now), PRESSURE_SOME);
    for (now += SECOND; now < 80 * SECOND; now += SECOND)
        assert_int_equal(pressure_update(&pressure, &good, now), PRESSURE_SOME);
    assert_int_equal(pressure_update(&pressure, &good, now), PRESSURE_NONE);
}

static void stalls_fall_slowly_and_are_believed_slowly(void **state)
{
    (void)state;
    struct pressure pressure = {0};
    struct os_pressure reading = {50, 20, 0.5};
    assert_int_equal(pressure_update(&pressure, &reading, 0), PRESSURE_MUCH);
    reading = (struct os_pressure){30, 7, 0.5};
    for (uint64_t now = SECOND; now < 60 * SECOND; now += SECOND)
        assert_int_equal(pressure_update(&pressure, &reading, now), PRESSURE_MUCH);
    reading = (struct os_pressure){20, 5, 0.5};
    pressure_update(&pressure, &reading, 60 * SECOND);
    assert_int_equal(pressure_update(&pressure, &reading, 70 * SECOND), PRESSURE_SOME);
    assert_int_equal(pressure_update(&pressure, &reading, 1000 * SECOND), PRESSURE_SOME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_reading_has_its_level),
        cmocka_unit_test(it_rises_at_once_and_falls_step_by_step),
        cmocka_unit_test(a_little_better_is_not_better),
        cmocka_unit_test(stalls_fall_slowly_and_are_believed_slowly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
