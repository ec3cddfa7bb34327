/* The allocation layer, sizes that come from outside, and random numbers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/memory.h"
#include "base/os.h"
#include "base/random.h"

static void sums_and_products_that_do_not_fit_are_seen(void **state)
{
    (void)state;
    uint64_t r;
    assert_true(checked_add_u64(UINT64_MAX, 0, &r));
    assert_false(checked_add_u64(UINT64_MAX, 1, &r));
    assert_true(checked_mul_u64(UINT64_MAX, 1, &r));
    assert_true(checked_mul_u64(0, UINT64_MAX, &r));
    assert_false(checked_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &r));
    assert_true(checked_mul_u64((UINT64_C(1) << 32) - 1, (UINT64_C(1) << 32) + 1, &r));
    assert_int_equal(r, UINT64_MAX);
    assert_true(checked_align_u64(33, 32, &r));
    assert_int_equal(r, 64);
    assert_false(checked_align_u64(UINT64_MAX - 3, 32, &r));
}

static void an_array_whose_size_overflows_is_not_allocated(void **state)
{
    (void)state;
    assert_null(mem_alloc_array(SIZE_MAX / 2, 3));
    assert_null(mem_zalloc_array(SIZE_MAX / 2, 3));
    assert_null(mem_realloc_array(NULL, SIZE_MAX / 2, 3));
}

static void a_test_can_make_one_allocation_fail(void **state)
{
    (void)state;
    mem_fail_nth(2);
    void *first = mem_alloc(1), *second = mem_alloc(1), *third = mem_alloc(1);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    mem_free(first);
    mem_free(third);
}

static void pages_are_zero_and_come_back_when_discarded(void **state)
{
    (void)state;
    const size_t size = 8 << 20;
    struct os_memory before, full, after;
    assert_true(os_process_memory(&before));
    unsigned char *pages = mem_pages_alloc(size);
    assert_non_null(pages);
    assert_int_equal(pages[size - 1], 0);
    memset(pages, 1, size);
    assert_true(os_process_memory(&full));
    mem_pages_discard(pages, size);
    assert_true(os_process_memory(&after));
    assert_int_equal(pages[0], 0);
    assert_true(full.private_bytes > before.private_bytes + size / 2);
    assert_true(after.private_bytes < full.private_bytes - size / 2);
    mem_pages_free(pages, size);
}

static void a_seed_gives_the_same_numbers_everywhere(void **state)
{
    (void)state;
    struct random random = random_from_seed(42);
    assert_true(random_u64(&random) == UINT64_C(0x15780b2e0c2ec716));
    assert_true(random_u64(&random) == UINT64_C(0x6104d9866d113a7e));
    for (int i = 0; i < 1000; i++) {
        double x = random_unit(&random);
        assert_true(x >= 0.0 && x < 1.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_products_that_do_not_fit_are_seen),
        cmocka_unit_test(an_array_whose_size_overflows_is_not_allocated),
        cmocka_unit_test(a_test_can_make_one_allocation_fail),
        cmocka_unit_test(pages_are_zero_and_come_back_when_discarded),
        cmocka_unit_test(a_seed_gives_the_same_numbers_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
