/* Candidates as sortable keys.
 *
 * A candidate is one 64-bit number: the logit's bits in an order that integers have (high half) and
 * the inverted id (low half). A larger key is a larger logit, and among equal logits the smaller
 * id: a total order, so that any way of sorting or selecting gives one result. All times below are
 * linear or n log n whatever the logits are, and nothing allocates. */
#ifndef INFER_SAMPLER_KEYS_H
#define INFER_SAMPLER_KEYS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The logit's place among all floats, as a signed integer. Both zeros are the same. */
static inline int32_t key_order(float logit)
{
    float positive_zero = logit + 0.0f;
    int32_t bits;
    memcpy(&bits, &positive_zero, sizeof bits);
    return bits < 0 ? bits ^ INT32_MAX : bits;
}

#define KEY_ORDER_INFINITY INT32_C(0x7f800000)          /* key_order(INFINITY) */
#define KEY_ORDER_MINUS_INFINITY (-INT32_C(0x7f800001)) /* key_order(-INFINITY) */

static inline uint64_t key_of_order(int32_t order, uint32_t id)
{
    return (uint64_t)((uint32_t)order ^ 0x80000000u) << 32 | (uint32_t)~id;
}

static inline uint64_t key_of(float logit, uint32_t id)
{
    return key_of_order(key_order(logit), id);
}

static inline uint32_t key_id(uint64_t key)
{
    return ~(uint32_t)key;
}

static inline float key_logit(uint64_t key)
{
    uint32_t high = (uint32_t)(key >> 32);
    uint32_t bits = high & 0x80000000u ? high ^ 0x80000000u : ~high;
    float logit;
    memcpy(&logit, &bits, sizeof logit);
    return logit;
}

#define KEY_BLOCK 256 /* logits that share one maximum in struct key_scan */

static inline size_t key_block_count(size_t logits)
{
    return (logits + KEY_BLOCK - 1) / KEY_BLOCK;
}

/* What one pass over the logits finds. */
struct key_scan {
    const float *logits;
    size_t count;
    int32_t *block_max; /* key_block_count(count) orders; the caller's memory */
    int32_t max;        /* order of the largest logit */
    bool nan;           /* some logit is NaN; the maxima are meaningless then */
};

/* Fills block_max, max and nan from logits and count (at least 1). */
void key_scan_run(struct key_scan *scan);
/* The smallest id that has the largest logit. */
uint32_t key_scan_best(const struct key_scan *scan);

/* Writes the `k` largest keys, sorted, among the logits whose order is at least `floor`; returns
 * how many there are (fewer than k where fewer reach the floor). `keys` has room for
 * key_top_capacity(count, k). The floor must be above KEY_ORDER_MINUS_INFINITY. `blocks` is scratch
 * of key_block_count(count). */
size_t key_scan_top(const struct key_scan *scan, int32_t floor, size_t k, uint64_t *keys,
                    uint64_t *blocks);
size_t key_top_capacity(size_t count, size_t k);
/* Writes all keys whose order is at least `floor`, by ascending id; `keys` has room for count. */
size_t key_scan_all(const struct key_scan *scan, int32_t floor, uint64_t *keys);

/* Moves the `k` largest of `count` distinct keys (k <= count) to the front, in no order. */
void keys_select(uint64_t *keys, size_t count, size_t k);
/* Sorts, the largest first. */
void keys_sort(uint64_t *keys, size_t count);
uint64_t keys_max(const uint64_t *keys, size_t count); /* count at least 1 */

#endif
