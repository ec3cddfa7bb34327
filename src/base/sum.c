#include "base/sum.h"

#include <stdint.h>
#include <string.h>
#include <xxhash.h>

/* The state wants an alignment of its own, which XXH3_createState sees to. */
struct sum *sum_create(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (state)
        XXH3_128bits_reset(state);
    return (struct sum *)(void *)state;
}

static XXH3_state_t *state_of(const struct sum *sum)
{
    return (XXH3_state_t *)(void *)(uintptr_t)sum;
}

void sum_destroy(struct sum *sum)
{
    XXH3_freeState(state_of(sum));
}

void sum_restart(struct sum *sum)
{
    XXH3_128bits_reset(state_of(sum));
}

void sum_add(struct sum *sum, const void *data, size_t size)
{
    if (size > 0)
        XXH3_128bits_update(state_of(sum), data, size);
}

static void write_canonical(XXH128_hash_t hash, unsigned char out[SUM_BYTES])
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, hash);
    memcpy(out, canonical.digest, SUM_BYTES);
}

void sum_get(const struct sum *sum, unsigned char out[SUM_BYTES])
{
    write_canonical(XXH3_128bits_digest(state_of(sum)), out);
}

void sum_of(const void *data, size_t size, unsigned char out[SUM_BYTES])
{
    write_canonical(XXH3_128bits(data, size), out);
}

void sum_to_text(const unsigned char sum[SUM_BYTES], char text[2 * SUM_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SUM_BYTES; i++) {
        text[2 * i] = digits[sum[i] >> 4];
        text[2 * i + 1] = digits[sum[i] & 15];
    }
    text[2 * SUM_BYTES] = '\0';
}
