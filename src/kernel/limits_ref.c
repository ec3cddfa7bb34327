/* The peaks of plain C: what the compiler makes of it for the oldest machine of its kind. */
#include <string.h>

#include "kernel/limits.h"

enum { INT8_LANES = 1024, FLOAT_LANES = 32 };

static uint64_t read_ref(const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    size_t stream = size / LIMITS_READ_STREAMS;
    uint64_t sums[LIMITS_READ_STREAMS][2] = {{0}};
    for (size_t i = 0; i < stream; i += 16) {
        for (size_t s = 0; s < LIMITS_READ_STREAMS; s++) {
            uint64_t words[2];
            memcpy(words, p + s * stream + i, sizeof words);
            sums[s][0] ^= words[0];
            sums[s][1] ^= words[1];
        }
    }
    uint64_t sum = 0;
    for (int s = 0; s < LIMITS_READ_STREAMS; s++)
        sum += sums[s][0] + sums[s][1];
    return sum;
}

static uint64_t peak_int8(size_t steps)
{
    int8_t weights[INT8_LANES], x[INT8_LANES];
    for (int i = 0; i < INT8_LANES; i++) {
        weights[i] = (int8_t)i;
        x[i] = (int8_t)(i % 3);
    }
    uint32_t sum = 0;
    for (size_t n = 0; n < steps; n++) {
        for (int i = 0; i < INT8_LANES; i++)
            sum += (uint32_t)(weights[i] * x[i]);
        /* or the products would be computed but once */
        __asm__ volatile("" : : "r"(weights), "r"(x) : "memory");
    }
    return sum;
}

static uint64_t peak_f32(size_t steps)
{
    float sums[FLOAT_LANES];
    for (int i = 0; i < FLOAT_LANES; i++)
        sums[i] = (float)i;
    for (size_t n = 0; n < steps; n++) {
        for (int i = 0; i < FLOAT_LANES; i++)
            sums[i] = sums[i] * 0.5f + 1.0f;
    }
    float sum = 0;
    for (int i = 0; i < FLOAT_LANES; i++)
        sum += sums[i];
    return (uint64_t)sum;
}

void limits_fill_ref(struct limit_kernels *limits)
{
    *limits = (struct limit_kernels){
        .read = read_ref,
        .peak = {[ARITHMETIC_INT8] = {peak_int8, 2 * INT8_LANES},
                 [ARITHMETIC_F32] = {peak_f32, 2 * FLOAT_LANES}},
    };
}
