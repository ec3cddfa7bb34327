/* Quantizing activations with AVX-512 (F, BW, DQ, VL, VNNI); quantize.c says what is computed.
 * Written out because compilers sum and narrow element by element, which took six times as long. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "kernel/activation.h"
#include "kernel/blocks.h"
#include "kernel/half.h"
#include "kernel/matmul_panel.h"
#include "kernel/tiers.h"

enum { VECTORS_256 = SUPERBLOCK_SIZE / 16 };

INLINE __m512i magnitude_bits(const float *x)
{
    return _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
}

/* The scale of a group with this largest magnitude, and what to multiply its elements with: 0 for a
 * group that becomes zeros. Of magnitudes the order of the bits is that of the floats. */
INLINE float group_scale(uint32_t largest, float *inverse)
{
    *inverse = 0.0f;
    if (largest >= 0x7f800000)
        return NAN;
    if (largest < 0x03000000)
        return 0.0f;
    *inverse = 127.0f / float_of_bits(largest);
    return float_of_bits(largest) / 127.0f;
}

/* 16 elements, rounded to nearest even; zeros where `inverse` is 0, also of what is no number. */
INLINE __m512i rounded(const float *x, float inverse)
{
    __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse));
    return _mm512_maskz_cvtps_epi32(inverse != 0.0f ? 0xffff : 0, scaled);
}

static void quantize_q8(const float *x, size_t k, void *row)
{
    struct activation_q8 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, x += BLOCK_SIZE) {
        float inverse;
        __m512i largest = _mm512_max_epu32(magnitude_bits(x), magnitude_bits(x + 16));
        block->d = group_scale(_mm512_reduce_max_epu32(largest), &inverse);
        __m512i low = rounded(x, inverse), high = rounded(x + 16, inverse);
        _mm_storeu_si128((void *)block->q, _mm512_cvtepi32_epi8(low));
        _mm_storeu_si128((void *)(block->q + 16), _mm512_cvtepi32_epi8(high));
        int sum = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
        block->sum = (float)sum;
        block->sum_8 = -8 * sum;
        block->sum_16 = -16 * sum;
        block->sum_128 = -128 * sum;
    }
}

/* The sums of neighbouring lanes of a, then of b. */
INLINE __m512i add_neighbours(__m512i a, __m512i b)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b),
                            _mm512_permutex2var_epi32(a, odd, b));
}

/* -2^bits times v. */
INLINE void store_offsets(int32_t *out, __m512i v, unsigned bits)
{
    _mm512_storeu_si512(out, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(v, bits)));
}

/* Of 16 elements each: the largest sum of magnitudes. */
INLINE int largest_magnitude(const __m512i q[4])
{
    __m512i largest = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i eights = _mm512_sad_epu8(_mm512_abs_epi8(q[i]), _mm512_setzero_si512());
        __m512i others = _mm512_shuffle_epi32(eights, _MM_PERM_BADC);
        largest = _mm512_max_epi32(largest, _mm512_add_epi32(eights, others));
    }
    return _mm512_reduce_max_epi32(largest);
}

static void sum_block(struct activation_q8_256 *block)
{
    __m512i q[4], fours[4], eights[2];
    UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = _mm512_loadu_si512(block->q + 64 * i);
        fours[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q[i]);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        eights[i] = add_neighbours(fours[2 * i], fours[2 * i + 1]);
        store_offsets(block->sum8_32 + 16 * i, eights[i], 5);
    }
    __m512i sixteens = add_neighbours(eights[0], eights[1]);
    _mm256_storeu_si256((void *)block->sum16, _mm512_cvtepi32_epi16(sixteens));
    store_offsets(block->sum16_16, sixteens, 4);
    store_offsets(block->sum16_32, sixteens, 5);
    __m512i all = add_neighbours(sixteens, sixteens);
    __m256i thirtytwos = _mm512_castsi512_si256(all);
    _mm_storeu_si128((void *)block->sum32, _mm256_cvtepi32_epi16(thirtytwos));
    _mm256_storeu_si256((void *)block->sum32_128,
                        _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(thirtytwos, 7)));
    block->small = largest_magnitude(q) <= ACTIVATION_SMALL;
}

static void quantize_q8_256(const float *x, size_t k, void *row)
{
    struct activation_q8_256 *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++, x += SUPERBLOCK_SIZE) {
        float inverse;
        __m512i largest[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
        UNROLL
        for (int i = 0; i < VECTORS_256; i++)
            largest[i % 2] = _mm512_max_epu32(largest[i % 2], magnitude_bits(x + 16 * i));
        block->d = group_scale(_mm512_reduce_max_epu32(_mm512_max_epu32(largest[0], largest[1])),
                               &inverse);
        UNROLL
        for (int i = 0; i < VECTORS_256; i++)
            _mm_storeu_si128((void *)(block->q + 16 * i),
                             _mm512_cvtepi32_epi8(rounded(x + 16 * i, inverse)));
        sum_block(block);
    }
}

void quantize_fill_avx512(struct kernels *kernels)
{
    kernels->quantize[ACTIVATION_Q8] = quantize_q8;
    kernels->quantize[ACTIVATION_Q8_256] = quantize_q8_256;
}
