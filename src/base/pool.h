/* A persistent pool of threads for parallel loops. The calling thread takes part.
 *
 * Between two loops the workers spin for a few tens of microseconds, so that the many short loops
 * of a forward pass find them awake, and then sleep. One loop runs at a time; a pool belongs to one
 * calling thread at a time. */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>

struct pool;

/* `threads` in all, the caller included; 1 starts none. NULL without memory or threads. */
struct pool *pool_create(unsigned threads);
void pool_destroy(struct pool *pool);
unsigned pool_threads(const struct pool *pool);

/* Lets so many threads take part from the next loop on, at least 1 and at most all; the others
 * sleep and take no time. A new pool uses all. By the calling thread. */
void pool_use(struct pool *pool, unsigned threads);
unsigned pool_used(const struct pool *pool);

/* Calls run(context, item, thread) for each item below `count`, in any order, on any thread
 * (0 <= thread < pool_threads); returns when all are done. */
void pool_run(struct pool *pool, size_t count,
              void (*run)(void *context, size_t item, unsigned thread), void *context);

#endif
