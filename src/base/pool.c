#include "base/pool.h"

#include <stdatomic.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/os.h"

#define THREADS_MAX 256

/* How often a worker looks for the next loop before it sleeps: about 30 µs. A forward pass leaves
 * gaps of a few µs between loops; waking from a futex costs more than 50. */
#define SPIN_NS 30000u
#define LOOKS_PER_CLOCK 64

/* One loop. `epoch` counts loops; a worker that sees it change takes items until none is left and
 * then counts itself out in `active`. The fields of the loop are written before epoch is raised and
 * stay until all workers are out. */
struct pool {
    unsigned threads;
    struct os_thread *handles[THREADS_MAX];
    struct worker {
        struct pool *pool;
        unsigned thread;
    } workers[THREADS_MAX];

    void (*run)(void *context, size_t item, unsigned thread);
    void *context;
    size_t count;

    _Alignas(64) _Atomic uint32_t epoch;
    _Alignas(64) atomic_size_t next;
    _Alignas(64) _Atomic uint32_t active;
    atomic_bool ending;
    _Atomic uint32_t sleepers;
};

static void take_items(struct pool *pool, unsigned thread)
{
    for (;;) {
        size_t item = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (item >= pool->count)
            return;
        pool->run(pool->context, item, thread);
    }
}

/* Spins, then sleeps, until *word differs from `seen`. */
static void wait_for_change(struct pool *pool, const _Atomic uint32_t *word, uint32_t seen)
{
    uint64_t start = os_monotonic_ns();
    while (atomic_load_explicit(word, memory_order_acquire) == seen) {
        for (int look = 0; look < LOOKS_PER_CLOCK; look++) {
            if (atomic_load_explicit(word, memory_order_acquire) != seen)
                return;
            os_thread_pause();
        }
        if (os_monotonic_ns() - start < SPIN_NS)
            continue;
        /* The waker looks at `sleepers` after it changed the word; both are sequentially
         * consistent, so either it sees us or we see the change. */
        atomic_fetch_add(&pool->sleepers, 1);
        while (atomic_load(word) == seen)
            os_wait(word, seen);
        atomic_fetch_sub(&pool->sleepers, 1);
    }
}

static void wake_sleepers(struct pool *pool, const _Atomic uint32_t *word)
{
    if (atomic_load(&pool->sleepers) != 0)
        os_wake_all(word);
}

static void work(void *context)
{
    struct worker *worker = context;
    struct pool *pool = worker->pool;
    uint32_t seen = 0;
    for (;;) {
        wait_for_change(pool, &pool->epoch, seen);
        seen++;
        if (atomic_load_explicit(&pool->ending, memory_order_acquire))
            return;
        take_items(pool, worker->thread);
        if (atomic_fetch_sub(&pool->active, 1) == 1)
            wake_sleepers(pool, &pool->active);
    }
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

void pool_destroy(struct pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->ending, true);
    atomic_fetch_add(&pool->epoch, 1);
    wake_sleepers(pool, &pool->epoch);
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
    if (pool->threads == 1 || count <= 1) {
        for (size_t item = 0; item < count; item++)
            run(context, item, 0);
        return;
    }
    pool->run = run;
    pool->context = context;
    pool->count = count;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->active, pool->threads - 1, memory_order_relaxed);
    atomic_fetch_add(&pool->epoch, 1);
    wake_sleepers(pool, &pool->epoch);
    take_items(pool, 0);
    for (;;) {
        uint32_t active = atomic_load_explicit(&pool->active, memory_order_acquire);
        if (active == 0)
            return;
        wait_for_change(pool, &pool->active, active);
    }
}
