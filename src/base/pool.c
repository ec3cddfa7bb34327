#include "base/pool.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/os.h"

#define THREADS_MAX 256

/* How often a worker looks for the next loop before it sleeps: about 30 µs. A forward pass leaves
 * gaps of a few µs between loops; waking from a futex costs more than 50. */
#define SPIN_NS 30000u
#define LOOKS_PER_CLOCK 64

/* One loop. A thread takes an item by lowering `left`; having one, it may read the fields of the
 * loop, because the loop cannot end before the item has been counted out of `unfinished`. A thread
 * that has none reads no more than `left`. So the caller waits for items that are being computed,
 * never for a thread: one that the system does not run holds up the loop by one item if it has one,
 * and else not at all. */
struct pool {
    unsigned threads;
    struct os_thread *handles[THREADS_MAX];
    struct worker {
        struct pool *pool;
        unsigned thread;
    } workers[THREADS_MAX];

    _Alignas(64) void (*run)(void *context, size_t item, unsigned thread);
    void *context;
    int32_t count;
    _Atomic int32_t left; /* items that no thread has taken; below 0 when threads came too late */
    _Alignas(64) _Atomic uint32_t unfinished;
    atomic_bool caller_sleeps;
    _Alignas(64) _Atomic uint32_t sleepers;
    _Atomic uint32_t calls; /* of sleepers; they sleep on it */
    /* The threads below this one take part, the others sleep on it, where no call for a loop is
     * lost on them. 0: the pool ends. */
    _Atomic uint32_t used;
    atomic_bool ending;
};

/* Returns how many it took. A thread that comes too late lowers `left` below 0, once. */
static int32_t take_items(struct pool *pool, unsigned thread)
{
    int32_t taken = 0, left;
    while ((left = atomic_fetch_sub_explicit(&pool->left, 1, memory_order_acquire)) > 0) {
        pool->run(pool->context, (size_t)(pool->count - left), thread);
        taken++;
    }
    return taken;
}

static bool has_items(const struct pool *pool)
{
    return atomic_load_explicit(&pool->left, memory_order_acquire) > 0;
}

static bool has_ended(const struct pool *pool)
{
    return atomic_load_explicit(&pool->unfinished, memory_order_acquire) == 0;
}

/* False when it took too long. */
static bool spin_until(bool (*holds)(const struct pool *pool), const struct pool *pool)
{
    uint64_t start = os_monotonic_ns();
    do {
        for (int look = 0; look < LOOKS_PER_CLOCK; look++) {
            if (holds(pool))
                return true;
            os_thread_pause();
        }
    } while (os_monotonic_ns() - start < SPIN_NS);
    return false;
}

/* A sleeper counts itself before it looks a last time; a caller looks for sleepers after it changed
 * what they look at. Both are sequentially consistent, so one of them sees the other. */
static void sleep_until_called(struct pool *pool)
{
    uint32_t calls = atomic_load(&pool->calls);
    atomic_fetch_add(&pool->sleepers, 1);
    if (atomic_load(&pool->left) <= 0 && !atomic_load(&pool->ending))
        os_wait(&pool->calls, calls);
    atomic_fetch_sub(&pool->sleepers, 1);
}

static void call_sleepers(struct pool *pool, uint32_t count)
{
    if (atomic_load(&pool->sleepers) == 0)
        return;
    atomic_fetch_add(&pool->calls, 1);
    os_wake(&pool->calls, count);
}

/* Sleeps if it takes no part. Whoever has seen the items of a loop sees what was set before it. */
static bool rests(struct worker *worker)
{
    struct pool *pool = worker->pool;
    uint32_t used = atomic_load_explicit(&pool->used, memory_order_acquire);
    if (worker->thread < used)
        return false;
    if (used > 0)
        os_wait(&pool->used, used);
    return true;
}

static void work(void *context)
{
    struct worker *worker = context;
    struct pool *pool = worker->pool;
    while (!atomic_load_explicit(&pool->ending, memory_order_acquire)) {
        if (rests(worker))
            continue;
        if (!spin_until(has_items, pool)) {
            sleep_until_called(pool);
            continue;
        }
        if (rests(worker))
            continue;
        uint32_t taken = (uint32_t)take_items(pool, worker->thread);
        if (taken > 0 && atomic_fetch_sub(&pool->unfinished, taken) == taken &&
            atomic_load(&pool->caller_sleeps))
            os_wake(&pool->unfinished, 1);
    }
}

static void wait_for_others(struct pool *pool)
{
    if (spin_until(has_ended, pool))
        return;
    atomic_store(&pool->caller_sleeps, true);
    for (;;) {
        uint32_t unfinished = atomic_load(&pool->unfinished);
        if (unfinished == 0)
            break;
        os_wait(&pool->unfinished, unfinished);
    }
    atomic_store(&pool->caller_sleeps, false);
}

struct pool *pool_create(unsigned threads)
{
    if (threads == 0)
        threads = 1;
    if (threads > THREADS_MAX)
        threads = THREADS_MAX;
    struct pool *pool = mem_pages_alloc(sizeof *pool);
    if (!pool)
        return NULL;
    pool->threads = 1;
    atomic_init(&pool->used, threads);
    for (unsigned i = 1; i < threads; i++) {
        pool->workers[i] = (struct worker){pool, i};
        pool->handles[i] = os_thread_start(work, &pool->workers[i]);
        if (!pool->handles[i]) {
            pool_destroy(pool);
            return NULL;
        }
        pool->threads++;
    }
    return pool;
}

/* Everybody who sleeps looks again. */
static void set_used(struct pool *pool, uint32_t used)
{
    atomic_store(&pool->used, used);
    os_wake(&pool->used, pool->threads);
    call_sleepers(pool, pool->threads);
}

void pool_use(struct pool *pool, unsigned threads)
{
    threads = threads < 1 ? 1 : threads < pool->threads ? threads : pool->threads;
    if (threads != pool_used(pool))
        set_used(pool, threads);
}

unsigned pool_used(const struct pool *pool)
{
    return atomic_load_explicit(&pool->used, memory_order_relaxed);
}

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->ending, true);
    set_used(pool, 0);
    for (unsigned i = 1; i < pool->threads; i++)
        os_thread_join(pool->handles[i]);
    mem_pages_free(pool, sizeof *pool);
}

unsigned pool_threads(const struct pool *pool)
{
    return pool->threads;
}

void pool_run(struct pool *pool, size_t count,
              void (*run)(void *context, size_t item, unsigned thread), void *context)
{
    if (pool_used(pool) == 1 || count <= 1) {
        for (size_t item = 0; item < count; item++)
            run(context, item, 0);
        return;
    }
    assert(count <= INT32_MAX);
    pool->run = run;
    pool->context = context;
    pool->count = (int32_t)count;
    atomic_store_explicit(&pool->unfinished, (uint32_t)count, memory_order_relaxed);
    atomic_store(&pool->left, pool->count);
    call_sleepers(pool, (uint32_t)count - 1);
    uint32_t taken = (uint32_t)take_items(pool, 0);
    if (atomic_fetch_sub_explicit(&pool->unfinished, taken, memory_order_acq_rel) != taken)
        wait_for_others(pool);
}
