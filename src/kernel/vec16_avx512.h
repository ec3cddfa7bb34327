/* vec16_ref.h's operations with AVX-512 F, BW, DQ, VL and VNNI. */
#ifndef KERNEL_VEC16_AVX512_H
#define KERNEL_VEC16_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel/half.h"

#define V16_TILE 8
#define V16_WIDE 2

struct v16 {
    __m512 v;
};
struct v16i {
    __m512i v;
};

static inline struct v16 v16_set(float x)
{
    return (struct v16){_mm512_set1_ps(x)};
}

static inline struct v16 v16_load(const float *p)
{
    return (struct v16){_mm512_loadu_ps(p)};
}

static inline struct v16 v16_load_first(const float *p, size_t n)
{
    return (struct v16){_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p)};
}

static inline void v16_store(float *p, struct v16 a)
{
    _mm512_storeu_ps(p, a.v);
}

static inline void v16_store_first(float *p, struct v16 a, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), a.v);
}

static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    return (struct v16){_mm512_add_ps(a.v, b.v)};
}

static inline struct v16 v16_sub(struct v16 a, struct v16 b)
{
    return (struct v16){_mm512_sub_ps(a.v, b.v)};
}

static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    return (struct v16){_mm512_mul_ps(a.v, b.v)};
}

static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    return (struct v16){_mm512_div_ps(a.v, b.v)};
}

static inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
    return (struct v16){_mm512_fmadd_ps(a.v, b.v, c.v)};
}

static inline struct v16 v16_abs(struct v16 a)
{
    return (struct v16){_mm512_abs_ps(a.v)};
}

static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    return (struct v16){_mm512_max_ps(a.v, b.v)};
}

static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    return (struct v16){_mm512_min_ps(a.v, b.v)};
}

static inline struct v16 v16_round(struct v16 a)
{
    return (struct v16){_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

static inline struct v16 v16_exp2_int(struct v16 a)
{
    __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a.v), _mm512_set1_epi32(127));
    return (struct v16){_mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))};
}

static inline struct v16 v16_select_below(struct v16 x, struct v16 limit, struct v16 a,
                                          struct v16 b)
{
    __mmask16 below = _mm512_cmp_ps_mask(x.v, limit.v, _CMP_LT_OQ);
    return (struct v16){_mm512_mask_blend_ps(below, b.v, a.v)};
}

static inline struct v16 v16_select_range(struct v16 a, struct v16 b, int begin, int end)
{
    unsigned mask = (1u << end) - (1u << begin);
    return (struct v16){_mm512_mask_blend_ps((__mmask16)mask, b.v, a.v)};
}

static inline struct v16 v16_load_f16(const uint16_t *p)
{
    return (struct v16){_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p))};
}

static inline void v16_store_f16(uint16_t *p, struct v16 a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}

static inline void v16_store_s8(int8_t *p, struct v16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v)));
}

static inline struct v16 v16_swap(struct v16 a, int distance)
{
    switch (distance) {
    case 1:
        return (struct v16){_mm512_permute_ps(a.v, 0xb1)};
    case 2:
        return (struct v16){_mm512_permute_ps(a.v, 0x4e)};
    case 4:
        return (struct v16){_mm512_shuffle_f32x4(a.v, a.v, 0xb1)};
    default:
        return (struct v16){_mm512_shuffle_f32x4(a.v, a.v, 0x4e)};
    }
}

static inline struct v16i v16i_set(int32_t x)
{
    return (struct v16i){_mm512_set1_epi32(x)};
}

struct v16k {
    __m512i v;
};

static inline struct v16k v16k_load(const uint8_t *p)
{
    return (struct v16k){_mm512_loadu_si512(p)};
}

static inline struct v16i v16i_key_start(int32_t sum)
{
    return v16i_set(-128 * sum);
}

/* Not the intrinsic: gcc 12 copies each sum once around a loop, which halves the speed. */
static inline struct v16i v16i_dot_key(struct v16i acc, struct v16k key, int32_t query)
{
    __m512i four = _mm512_set1_epi32(query);
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc.v) : "v"(key.v), "v"(four));
    return acc;
}

static inline void v16k_load_u4(const uint8_t *p, struct v16k *low, struct v16k *high)
{
    const __m512i mask = _mm512_set1_epi8(15);
    __m512i both = _mm512_loadu_si512(p);
    low->v = _mm512_and_si512(both, mask);
    high->v = _mm512_and_si512(_mm512_srli_epi16(both, 4), mask);
}

static inline struct v16i v16i_dot_u4(struct v16i acc, struct v16k key, int32_t query)
{
    return v16i_dot_key(acc, key, query);
}

struct v16p {
    __m512i v;
};

static inline struct v16p v16p_load_s8(const int8_t *p)
{
    return (struct v16p){_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p))};
}

static inline void v16p_load_s4(const uint8_t *p, struct v16p *low, struct v16p *high)
{
    __m512i both = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
    low->v = _mm512_srai_epi16(_mm512_slli_epi16(both, 12), 12);
    high->v = _mm512_srai_epi16(both, 4);
}

static inline void v16_store_pairs(int32_t *pairs, struct v16 low, struct v16 high)
{
    __m512i packed = _mm512_packs_epi32(_mm512_cvtps_epi32(low.v), _mm512_cvtps_epi32(high.v));
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_storeu_si512(pairs, _mm512_permutexvar_epi64(order, packed));
}

static inline struct v16i v16i_dot_pair(struct v16i acc, struct v16p values, int32_t weights)
{
    __m512i pair = _mm512_set1_epi32(weights);
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc.v) : "v"(values.v), "v"(pair));
    return acc;
}

static inline struct v16 v16_from_int(struct v16i a)
{
    return (struct v16){_mm512_cvtepi32_ps(a.v)};
}

static inline float v16_sum(struct v16 a)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float v16_largest(struct v16 a)
{
    __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif
