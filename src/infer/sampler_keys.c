#include "infer/sampler_keys.h"

#include <assert.h>

/* The largest of a whole block; meaningless where a NaN is among them. By halves, because that is
 * the form of a floating-point maximum that compilers turn into vectors: half the time of the plain
 * loop. */
static float block_maximum(const float *logits)
{
    float high[KEY_BLOCK / 2];
    for (size_t i = 0; i < KEY_BLOCK / 2; i++)
        high[i] = logits[i] > logits[i + KEY_BLOCK / 2] ? logits[i] : logits[i + KEY_BLOCK / 2];
    for (size_t width = KEY_BLOCK / 4; width > 0; width /= 2) {
        for (size_t i = 0; i < width; i++)
            high[i] = high[i] > high[i + width] ? high[i] : high[i + width];
    }
    return high[0];
}

static float tail_maximum(const float *logits, size_t count)
{
    float high = logits[0];
    for (size_t i = 1; i < count; i++)
        high = logits[i] > high ? logits[i] : high;
    return high;
}

void key_scan_run(struct key_scan *scan)
{
    size_t nans = 0;
    scan->max = INT32_MIN;
    for (size_t start = 0; start < scan->count; start += KEY_BLOCK) {
        const float *logits = scan->logits + start;
        size_t left = scan->count - start;
        uint32_t unordered = 0;
        for (size_t i = 0; i < (left < KEY_BLOCK ? left : KEY_BLOCK); i++)
            unordered += logits[i] != logits[i];
        nans += unordered;
        bool whole = left >= KEY_BLOCK;
        int32_t max = key_order(whole ? block_maximum(logits) : tail_maximum(logits, left));
        scan->block_max[start / KEY_BLOCK] = max;
        scan->max = max > scan->max ? max : scan->max;
    }
    scan->nan = nans > 0;
}

uint32_t key_scan_best(const struct key_scan *scan)
{
    size_t block = 0;
    while (scan->block_max[block] != scan->max)
        block++;
    size_t id = block * KEY_BLOCK;
    while (key_order(scan->logits[id]) != scan->max)
        id++;
    return (uint32_t)id;
}

uint64_t keys_max(const uint64_t *keys, size_t count)
{
    assert(count > 0);
    uint64_t max = keys[0];
    for (size_t i = 1; i < count; i++)
        max = keys[i] > max ? keys[i] : max;
    return max;
}

/* A lower bound that exactly the k largest keys reach: bytes are fixed from the top one down, each
 * by counting. Eight passes at most, whatever the keys are. */
static uint64_t select_bound(const uint64_t *keys, size_t count, size_t k)
{
    uint64_t prefix = 0, mask = 0;
    size_t wanted = k;
    for (int shift = 56; shift >= 0; shift -= 8) {
        size_t counts[256] = {0};
        for (size_t i = 0; i < count; i++) {
            if ((keys[i] & mask) == prefix)
                counts[keys[i] >> shift & 0xff]++;
        }
        unsigned byte = 255;
        while (counts[byte] < wanted)
            wanted -= counts[byte--];
        prefix |= (uint64_t)byte << shift;
        mask |= (uint64_t)0xff << shift;
        if (counts[byte] == wanted)
            break;
    }
    return prefix;
}

void keys_select(uint64_t *keys, size_t count, size_t k)
{
    assert(k <= count);
    if (k == 0 || k == count)
        return;
    uint64_t bound = select_bound(keys, count, k);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (keys[i] >= bound) {
            uint64_t key = keys[i];
            keys[i] = keys[kept];
            keys[kept++] = key;
        }
    }
    assert(kept == k);
}

/* Lets the key at `at` sink in a heap whose smallest key is on top. */
static void sink(uint64_t *keys, size_t count, size_t at)
{
    uint64_t key = keys[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && keys[child + 1] < keys[child])
            child++;
        if (keys[child] >= key)
            break;
        keys[at] = keys[child];
        at = child;
    }
    keys[at] = key;
}

static void heap_sort(uint64_t *keys, size_t count)
{
    for (size_t at = count / 2; at-- > 0;)
        sink(keys, count, at);
    for (size_t left = count; left > 1; left--) {
        uint64_t smallest = keys[0];
        keys[0] = keys[left - 1];
        keys[left - 1] = smallest;
        sink(keys, left - 1, 0);
    }
}

/* American flag sort (McIlroy, Bostic, McIlroy, "Engineering radix sort", 1993) by the byte at
 * `shift` and those below: in place, linear, a recursion of 8 levels at most. */
static void flag_sort(uint64_t *keys, size_t count, int shift)
{
    if (count < 128 || shift < 0) {
        heap_sort(keys, count);
        return;
    }
    size_t next[256] = {0}, ends[256];
    for (size_t i = 0; i < count; i++)
        next[keys[i] >> shift & 0xff]++;
    size_t start = 0;
    for (size_t byte = 256; byte-- > 0;) {
        size_t size = next[byte];
        next[byte] = start;
        start += size;
        ends[byte] = start;
    }
    for (size_t byte = 0; byte < 256; byte++) {
        while (next[byte] < ends[byte]) {
            uint64_t key = keys[next[byte]];
            size_t home = key >> shift & 0xff;
            keys[next[byte]] = keys[next[home]];
            keys[next[home]++] = key;
        }
    }
    for (size_t byte = 0; byte < 256; byte++) {
        size_t from = byte == 255 ? 0 : ends[byte + 1];
        if (ends[byte] - from > 1)
            flag_sort(keys + from, ends[byte] - from, shift - 8);
    }
}

void keys_sort(uint64_t *keys, size_t count)
{
    flag_sort(keys, count, 56);
}

size_t key_top_capacity(size_t count, size_t k)
{
    return k < count / 2 ? 2 * k : count;
}

/* A floor that at least k logits reach: k different blocks have a maximum that high. It leaves only
 * about k blocks to look into, instead of the whole vocabulary. */
static int32_t top_floor(const struct key_scan *scan, size_t k, uint64_t *blocks)
{
    size_t count = key_block_count(scan->count);
    if (k > count)
        return INT32_MIN;
    for (size_t i = 0; i < count; i++)
        blocks[i] = key_of_order(scan->block_max[i], (uint32_t)i);
    keys_select(blocks, count, k);
    int32_t floor = INT32_MAX;
    for (size_t i = 0; i < k; i++) {
        int32_t max = scan->block_max[key_id(blocks[i])];
        floor = max < floor ? max : floor;
    }
    return floor;
}

size_t key_scan_top(const struct key_scan *scan, int32_t floor, size_t k, uint64_t *keys,
                    uint64_t *blocks)
{
    assert(k > 0 && floor > KEY_ORDER_MINUS_INFINITY);
    int32_t bound = top_floor(scan, k, blocks);
    if (bound < floor)
        bound = floor;
    size_t capacity = key_top_capacity(scan->count, k);
    size_t count = 0;
    for (size_t block = 0; block * KEY_BLOCK < scan->count; block++) {
        if (scan->block_max[block] < bound)
            continue;
        size_t left = scan->count - block * KEY_BLOCK;
        size_t end = block * KEY_BLOCK + (left < KEY_BLOCK ? left : KEY_BLOCK);
        for (size_t id = block * KEY_BLOCK; id < end; id++) {
            int32_t order = key_order(scan->logits[id]);
            if (order < bound)
                continue;
            if (count == capacity) { /* only where capacity is 2 k, so that half becomes free */
                keys_select(keys, count, k);
                count = k;
            }
            keys[count++] = key_of_order(order, (uint32_t)id);
        }
    }
    if (count > k) {
        keys_select(keys, count, k);
        count = k;
    }
    keys_sort(keys, count);
    return count;
}

size_t key_scan_all(const struct key_scan *scan, int32_t floor, uint64_t *keys)
{
    assert(floor > KEY_ORDER_MINUS_INFINITY);
    size_t count = 0;
    for (size_t id = 0; id < scan->count; id++) {
        int32_t order = key_order(scan->logits[id]);
        keys[count] = key_of_order(order, (uint32_t)id);
        count += order >= floor;
    }
    return count;
}
