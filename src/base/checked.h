/* Arithmetic on sizes that come from outside: each call says whether the true result fits. */
#ifndef BASE_CHECKED_H
#define BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool checked_add_u64(uint64_t a, uint64_t b, uint64_t *sum)
{
    *sum = a + b;
    return *sum >= a;
}

static inline bool checked_mul_u64(uint64_t a, uint64_t b, uint64_t *product)
{
    *product = a * b;
    return a == 0 || *product / a == b;
}

static inline bool checked_mul_size(size_t a, size_t b, size_t *product)
{
    *product = a * b;
    return a == 0 || *product / a == b;
}

static inline bool checked_add_size(size_t a, size_t b, size_t *sum)
{
    *sum = a + b;
    return *sum >= a;
}

/* `value` rounded up to a multiple of `step`, a power of two. */
static inline bool checked_align_u64(uint64_t value, uint64_t step, uint64_t *aligned)
{
    uint64_t sum;
    if (!checked_add_u64(value, step - 1, &sum))
        return false;
    *aligned = sum & ~(step - 1);
    return true;
}

#endif
