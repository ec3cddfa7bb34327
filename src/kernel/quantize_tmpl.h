/* Quantizing activations, in plain C that compilers turn into vector code: included by each tier's
 * .c file with QUANTIZE(name) giving its functions a name of their own. quantize.c says what is
 * computed. */
#include <math.h>
#include <string.h>

#include "kernel/activation.h"
#include "kernel/blocks.h"
#include "kernel/half.h"
#include "kernel/tiers.h"

/* The scale of a group, and what to multiply its elements with. */
static float QUANTIZE(group_scale)(const float *x, int n, float *inverse)
{
    uint32_t max = 0; /* of the bits without sign: NaNs are above infinity, infinity above all */
    for (int i = 0; i < n; i++) {
        uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffff;
        max = magnitude > max ? magnitude : max;
    }
    *inverse = 0.0f;
    if (max >= 0x7f800000)
        return NAN;
    if (max < 0x03000000)
        return 0.0f;
    *inverse = 127.0f / float_of_bits(max);
    return float_of_bits(max) / 127.0f;
}

/* Adding 1.5 * 2^23 leaves the integer, rounded, in the last bits of the mantissa. */
static void QUANTIZE(quantize_group)(const float *x, float inverse, int n, int8_t *q)
{
    if (inverse == 0.0f) { /* x may be no number */
        memset(q, 0, (size_t)n);
        return;
    }
    for (int i = 0; i < n; i++)
        q[i] = (int8_t)(bits_of_float(x[i] * inverse + 0x1.8p23f) & 0xff);
}

static void QUANTIZE(quantize_f32)(const float *x, size_t k, void *row)
{
    memcpy(row, x, k * sizeof(float));
    memset((float *)row + k, 0, activation_row_bytes(ACTIVATION_F32, k) - k * sizeof(float));
}

static void QUANTIZE(quantize_q8)(const float *x, size_t k, void *row)
{
    struct activation_q8 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, x += BLOCK_SIZE) {
        float inverse;
        int sum = 0;
        block->d = QUANTIZE(group_scale)(x, BLOCK_SIZE, &inverse);
        QUANTIZE(quantize_group)(x, inverse, BLOCK_SIZE, block->q);
        for (int i = 0; i < BLOCK_SIZE; i++)
            sum += block->q[i];
        block->sum = (float)sum;
        block->sum_8 = -8 * sum;
        block->sum_16 = -16 * sum;
        block->sum_128 = -128 * sum;
    }
}

/* The sums of a block of 256. */
static void QUANTIZE(sum_q8_256)(struct activation_q8_256 *block)
{
    int32_t largest = 0;
    for (int i = 0; i < 16; i++) {
        int32_t sums[2] = {0}, magnitude = 0;
        for (int j = 0; j < 16; j++) {
            int32_t q = block->q[16 * i + j];
            sums[j / 8] += q;
            magnitude += q < 0 ? -q : q;
        }
        largest = magnitude > largest ? magnitude : largest;
        block->sum8_32[2 * i] = -32 * sums[0];
        block->sum8_32[2 * i + 1] = -32 * sums[1];
        block->sum16[i] = (int16_t)(sums[0] + sums[1]);
        block->sum16_16[i] = -16 * block->sum16[i];
        block->sum16_32[i] = -32 * block->sum16[i];
    }
    for (int i = 0; i < 8; i++) {
        int32_t sum32 = block->sum16[2 * i] + block->sum16[2 * i + 1];
        block->sum32[i] = (int16_t)sum32;
        block->sum32_128[i] = -128 * sum32;
    }
    block->small = largest <= ACTIVATION_SMALL;
}

static void QUANTIZE(quantize_q8_256)(const float *x, size_t k, void *row)
{
    struct activation_q8_256 *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++, x += SUPERBLOCK_SIZE) {
        float inverse;
        block->d = QUANTIZE(group_scale)(x, SUPERBLOCK_SIZE, &inverse);
        QUANTIZE(quantize_group)(x, inverse, SUPERBLOCK_SIZE, block->q);
        QUANTIZE(sum_q8_256)(block);
    }
}

static uint32_t QUANTIZE(largest_bits)(const float *x)
{
    uint32_t max = 0;
    for (int i = 0; i < ACTIVATION_GROUP; i++) {
        uint32_t magnitude = bits_of_float(x[i]) & 0x7fffffff;
        max = magnitude > max ? magnitude : max;
    }
    return max;
}

/* The lower one of two, where the middle lies between. */
static uint32_t QUANTIZE(median)(const uint32_t *values, size_t n)
{
    uint32_t sorted[SUPERBLOCK_SIZE / ACTIVATION_GROUP];
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > values[i]; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = values[i];
    }
    return sorted[(n - 1) / 2];
}

/* The bits of positive floats are in the order of the floats. In most runs the smallest group shows
 * that there are no outliers. */
static uint8_t QUANTIZE(mark_run)(const float *x, size_t groups, float ratio)
{
    uint32_t largest[SUPERBLOCK_SIZE / ACTIVATION_GROUP];
    uint32_t most = 0, least = UINT32_MAX;
    for (size_t g = 0; g < groups; g++) {
        largest[g] = QUANTIZE(largest_bits)(x + g * ACTIVATION_GROUP);
        most = largest[g] > most ? largest[g] : most;
        least = largest[g] < least ? largest[g] : least;
    }
    if (most >= 0x7f800000 || float_of_bits(most) <= float_of_bits(least) * ratio)
        return 0;
    float limit = float_of_bits(QUANTIZE(median)(largest, groups)) * ratio;
    uint8_t mark = 0;
    for (size_t g = 0; g < groups; g++)
        mark |= (uint8_t)((float_of_bits(largest[g]) > limit) << g);
    return mark;
}

static void QUANTIZE(mark_outliers)(const float *x, size_t k, size_t run, uint8_t *marks)
{
    float ratio = run == SUPERBLOCK_SIZE ? OUTLIER_RATIO_256 : OUTLIER_RATIO;
    for (size_t n; k > 0; k -= n, x += n) {
        n = k < run ? k : run;
        *marks++ = QUANTIZE(mark_run)(x, n / ACTIVATION_GROUP, ratio);
    }
}

static void QUANTIZE(quantize_fill)(struct kernels *kernels)
{
    kernels->mark_outliers = QUANTIZE(mark_outliers);
    kernels->quantize[ACTIVATION_F32] = QUANTIZE(quantize_f32);
    kernels->quantize[ACTIVATION_Q8] = QUANTIZE(quantize_q8);
    kernels->quantize[ACTIVATION_Q8_256] = QUANTIZE(quantize_q8_256);
}
