/* Parallel loops. */

#define _GNU_SOURCE
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/pool.h"

#define ITEMS_MAX 1000

struct loop {
    atomic_int done[ITEMS_MAX];
    atomic_uint highest_thread;
};

static void mark(void *context, size_t item, unsigned thread)
{
    struct loop *loop = context;
    atomic_fetch_add(&loop->done[item], 1);
    unsigned highest = atomic_load(&loop->highest_thread);
    while (thread > highest &&
           !atomic_compare_exchange_weak(&loop->highest_thread, &highest, thread))
        ;
}

static void run_loops(unsigned threads, size_t items, int times)
{
    struct pool *pool = pool_create(threads);
    assert_non_null(pool);
    struct loop *loop = calloc(1, sizeof *loop);
    for (int i = 0; i < times; i++)
        pool_run(pool, items, mark, loop);
    for (size_t i = 0; i < ITEMS_MAX; i++)
        assert_int_equal(atomic_load(&loop->done[i]), i < items ? times : 0);
    assert_true(atomic_load(&loop->highest_thread) < pool_threads(pool));
    free(loop);
    pool_destroy(pool);
}

static void every_item_runs_once_in_each_loop(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 5; threads++) {
        run_loops(threads, 0, 3);
        run_loops(threads, 1, 3);
        run_loops(threads, 7, 2000);
        run_loops(threads, ITEMS_MAX, 20);
    }
}

static void workers_that_fell_asleep_take_part_again(void **state)
{
    (void)state;
    struct pool *pool = pool_create(3);
    struct loop *loop = calloc(1, sizeof *loop);
    for (int i = 0; i < 20; i++) {
        uint64_t start = os_monotonic_ns();
        while (os_monotonic_ns() - start < 1000000)
            ; /* longer than workers spin */
        pool_run(pool, 100, mark, loop);
    }
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(atomic_load(&loop->done[i]), 20);
    free(loop);
    pool_destroy(pool);
}

static void note_thread(void *context, size_t item, unsigned thread)
{
    (void)item;
    *(unsigned *)context = thread;
}

static void a_loop_of_one_item_runs_on_the_caller(void **state)
{
    (void)state;
    struct pool *pool = pool_create(4);
    for (int i = 0; i < 1000; i++) {
        unsigned thread = UINT_MAX;
        pool_run(pool, 1, note_thread, &thread);
        assert_int_equal(thread, 0);
    }
    pool_destroy(pool);
}

static void burn(void *context, size_t item, unsigned thread)
{
    (void)item;
    (void)thread;
    volatile unsigned sum = 0;
    for (unsigned i = 0; i < *(unsigned *)context; i++)
        sum = sum + i;
}

static uint64_t time_of_loops(struct pool *pool)
{
    unsigned turns = 2000;
    uint64_t start = os_monotonic_ns();
    for (int i = 0; i < 50; i++)
        pool_run(pool, 8, burn, &turns);
    return os_monotonic_ns() - start;
}

/* A loop that waits for each thread to be run by the system takes dozens of times as long. */
static void far_more_threads_than_cores_do_not_stall_a_loop(void **state)
{
    (void)state;
    struct pool *one = pool_create(1), *many = pool_create(64);
    bool close = false;
    for (int i = 0; i < 20 && !close; i++)
        close = time_of_loops(many) < 10 * time_of_loops(one);
    assert_true(close);
    pool_destroy(one);
    pool_destroy(many);
}

static void a_pool_that_never_ran_ends(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++)
        pool_destroy(pool_create(4));
    pool_destroy(NULL);
}

/* ---- fewer threads ---- */

static unsigned highest_of(struct pool *pool, struct loop *loop)
{
    atomic_store(&loop->highest_thread, 0);
    for (int i = 0; i < 3000; i++)
        pool_run(pool, 64, mark, loop);
    return atomic_load(&loop->highest_thread);
}

static void only_the_threads_in_use_take_part(void **state)
{
    (void)state;
    static const unsigned wanted[] = {1, 2, 4, 0, 3, 99, 2, 1};
    struct pool *pool = pool_create(4);
    struct loop *loop = calloc(1, sizeof *loop);
    int loops = 0;
    assert_int_equal(pool_used(pool), 4);
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
            unsigned used = wanted[i] < 1 ? 1 : wanted[i] > 4 ? 4 : wanted[i];
            pool_use(pool, wanted[i]);
            assert_int_equal(pool_used(pool), used);
            assert_int_equal(pool_threads(pool), 4);
            assert_true(highest_of(pool, loop) < used);
            loops += 3000;
        }
    }
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(atomic_load(&loop->done[i]), loops);
    pool_use(pool, 4);
    unsigned highest = 0;
    for (int tries = 0; tries < 50 && highest == 0; tries++)
        highest = highest_of(pool, loop);
    assert_true(highest > 0); /* they have come back */
    free(loop);
    pool_destroy(pool);
}

static void a_pool_ends_whoever_rests(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        struct pool *pool = pool_create(4);
        pool_use(pool, 1 + i % 4);
        if (i % 3 == 0) {
            struct loop *loop = calloc(1, sizeof *loop);
            pool_run(pool, 64, mark, loop);
            free(loop);
        }
        if (i % 2)
            pool_use(pool, 1 + i % 3);
        pool_destroy(pool);
    }
}

static void work_for_a_while(void *context, size_t item, unsigned thread)
{
    atomic_uint *sum = context;
    (void)thread;
    for (unsigned i = 0; i < 20000; i++)
        atomic_fetch_add_explicit(sum, (unsigned)item, memory_order_relaxed);
}

/* The time of all threads while one works is the time of one. */
static void threads_that_rest_take_no_time(void **state)
{
    (void)state;
    struct pool *pool = pool_create(8);
    atomic_uint sum = 0;
    pool_run(pool, 64, work_for_a_while, &sum);
    pool_use(pool, 1);
    uint64_t before = os_monotonic_ns();
    while (os_monotonic_ns() - before < 5000000)
        os_thread_pause(); /* they fall asleep */
    struct timespec begin[2], end[2];
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin[0]);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin[1]);
    for (int i = 0; i < 20; i++)
        pool_run(pool, 64, work_for_a_while, &sum);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end[1]);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end[0]);
    double took[2];
    for (int i = 0; i < 2; i++)
        took[i] = (double)(end[i].tv_sec - begin[i].tv_sec) +
                  (double)(end[i].tv_nsec - begin[i].tv_nsec) / 1e9;
    assert_true(took[1] > 0.01 && took[0] < took[1] + 0.005);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once_in_each_loop),
        cmocka_unit_test(workers_that_fell_asleep_take_part_again),
        cmocka_unit_test(a_loop_of_one_item_runs_on_the_caller),
        cmocka_unit_test(far_more_threads_than_cores_do_not_stall_a_loop),
        cmocka_unit_test(a_pool_that_never_ran_ends),
        cmocka_unit_test(only_the_threads_in_use_take_part),
        cmocka_unit_test(a_pool_ends_whoever_rests),
        cmocka_unit_test(threads_that_rest_take_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
