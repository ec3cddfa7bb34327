/* vec16_ref.h's operations with AVX2, FMA and F16C: two vectors of 8. */
#ifndef KERNEL_VEC16_AVX2_H
#define KERNEL_VEC16_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel/half.h"

#define V16_TILE 4
#define V16_WIDE 1

struct v16 {
    __m256 lo, hi;
};
struct v16i {
    __m256i lo, hi;
};

#define V16_PAIR(op, a, b) ((struct v16){op((a).lo, (b).lo), op((a).hi, (b).hi)})

/* All bits set in the lanes l of 8 with begin <= l + base < end. */
static inline __m256 v16_range_mask(int base, int begin, int end)
{
    __m256i lane =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(base));
    __m256i not_before = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(begin - 1));
    __m256i before_end = _mm256_cmpgt_epi32(_mm256_set1_epi32(end), lane);
    return _mm256_castsi256_ps(_mm256_and_si256(not_before, before_end));
}

static inline struct v16 v16_set(float x)
{
    return (struct v16){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline struct v16 v16_load(const float *p)
{
    return (struct v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static inline struct v16 v16_load_first(const float *p, size_t n)
{
    int end = (int)n;
    return (struct v16){_mm256_maskload_ps(p, _mm256_castps_si256(v16_range_mask(0, 0, end))),
                        _mm256_maskload_ps(p + 8, _mm256_castps_si256(v16_range_mask(8, 0, end)))};
}

static inline void v16_store(float *p, struct v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

static inline void v16_store_first(float *p, struct v16 a, size_t n)
{
    int end = (int)n;
    _mm256_maskstore_ps(p, _mm256_castps_si256(v16_range_mask(0, 0, end)), a.lo);
    _mm256_maskstore_ps(p + 8, _mm256_castps_si256(v16_range_mask(8, 0, end)), a.hi);
}

static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    return V16_PAIR(_mm256_add_ps, a, b);
}

static inline struct v16 v16_sub(struct v16 a, struct v16 b)
{
    return V16_PAIR(_mm256_sub_ps, a, b);
}

static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    return V16_PAIR(_mm256_mul_ps, a, b);
}

static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    return V16_PAIR(_mm256_div_ps, a, b);
}

static inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
    return (struct v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}

static inline struct v16 v16_abs(struct v16 a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (struct v16){_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}

static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    return V16_PAIR(_mm256_max_ps, a, b);
}

static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    return V16_PAIR(_mm256_min_ps, a, b);
}

static inline struct v16 v16_round(struct v16 a)
{
    return (struct v16){_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                        _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

static inline __m256 v16_exp2_int_half(__m256 a)
{
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

static inline struct v16 v16_exp2_int(struct v16 a)
{
    return (struct v16){v16_exp2_int_half(a.lo), v16_exp2_int_half(a.hi)};
}

static inline struct v16 v16_select_below(struct v16 x, struct v16 limit, struct v16 a,
                                          struct v16 b)
{
    return (struct v16){_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, limit.lo, _CMP_LT_OQ)),
                        _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, limit.hi, _CMP_LT_OQ))};
}

static inline struct v16 v16_select_range(struct v16 a, struct v16 b, int begin, int end)
{
    return (struct v16){_mm256_blendv_ps(b.lo, a.lo, v16_range_mask(0, begin, end)),
                        _mm256_blendv_ps(b.hi, a.hi, v16_range_mask(8, begin, end))};
}

static inline struct v16 v16_load_f16(const uint16_t *p)
{
    return (struct v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                        _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}

static inline void v16_store_f16(uint16_t *p, struct v16 a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}

static inline void v16_store_s8(int8_t *p, struct v16 a)
{
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    __m128i low = _mm256_castsi256_si128(words), high = _mm256_extracti128_si256(words, 1);
    _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(low, high));
}

static inline struct v16 v16_swap(struct v16 a, int distance)
{
    switch (distance) {
    case 1:
        return (struct v16){_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
    case 2:
        return (struct v16){_mm256_permute_ps(a.lo, 0x4e), _mm256_permute_ps(a.hi, 0x4e)};
    case 4:
        return (struct v16){_mm256_permute2f128_ps(a.lo, a.lo, 1),
                            _mm256_permute2f128_ps(a.hi, a.hi, 1)};
    default:
        return (struct v16){a.hi, a.lo};
    }
}

static inline struct v16i v16i_set(int32_t x)
{
    return (struct v16i){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

/* Loaded keys are int8 again, so the dot product needs no correction. */
struct v16k {
    __m256i lo, hi;
};

static inline struct v16k v16k_load(const uint8_t *p)
{
    const __m256i bias = _mm256_set1_epi8((char)0x80);
    return (struct v16k){_mm256_xor_si256(_mm256_loadu_si256((const __m256i *)p), bias),
                         _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(p + 32)), bias)};
}

static inline struct v16i v16i_key_start(int32_t sum)
{
    (void)sum;
    return v16i_set(0);
}

/* |key| * (query with the key's sign): two products are at most 2 * 128 * 127 = 32512, so the
 * saturating vpmaddubsw is exact. */
static inline __m256i v16i_dot_key_half(__m256i acc, __m256i key, __m256i query)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(key), _mm256_sign_epi8(query, key));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline struct v16i v16i_dot_key(struct v16i acc, struct v16k key, int32_t query)
{
    __m256i q = _mm256_set1_epi32(query);
    return (struct v16i){v16i_dot_key_half(acc.lo, key.lo, q),
                         v16i_dot_key_half(acc.hi, key.hi, q)};
}

static inline void v16k_load_u4(const uint8_t *p, struct v16k *low, struct v16k *high)
{
    const __m256i mask = _mm256_set1_epi8(15);
    __m256i first = _mm256_loadu_si256((const __m256i *)p);
    __m256i second = _mm256_loadu_si256((const __m256i *)(p + 32));
    *low = (struct v16k){_mm256_and_si256(first, mask), _mm256_and_si256(second, mask)};
    *high = (struct v16k){_mm256_and_si256(_mm256_srli_epi16(first, 4), mask),
                          _mm256_and_si256(_mm256_srli_epi16(second, 4), mask)};
}

static inline struct v16i v16i_dot_u4(struct v16i acc, struct v16k key, int32_t query)
{
    const __m256i q = _mm256_set1_epi32(query), ones = _mm256_set1_epi16(1);
    __m256i first = _mm256_madd_epi16(_mm256_maddubs_epi16(key.lo, q), ones);
    __m256i second = _mm256_madd_epi16(_mm256_maddubs_epi16(key.hi, q), ones);
    return (struct v16i){_mm256_add_epi32(acc.lo, first), _mm256_add_epi32(acc.hi, second)};
}

struct v16p {
    __m256i lo, hi;
};

static inline struct v16p v16p_load_s8(const int8_t *p)
{
    return (struct v16p){_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)),
                         _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(p + 16)))};
}

static inline void v16p_load_s4(const uint8_t *p, struct v16p *low, struct v16p *high)
{
    struct v16p both = v16p_load_s8((const int8_t *)p);
    *low = (struct v16p){_mm256_srai_epi16(_mm256_slli_epi16(both.lo, 12), 12),
                         _mm256_srai_epi16(_mm256_slli_epi16(both.hi, 12), 12)};
    *high = (struct v16p){_mm256_srai_epi16(both.lo, 4), _mm256_srai_epi16(both.hi, 4)};
}

static inline void v16_store_pairs(int32_t *pairs, struct v16 low, struct v16 high)
{
    /* the order 0xd8 undoes the packing by halves */
    __m256i first = _mm256_packs_epi32(_mm256_cvtps_epi32(low.lo), _mm256_cvtps_epi32(low.hi));
    __m256i second = _mm256_packs_epi32(_mm256_cvtps_epi32(high.lo), _mm256_cvtps_epi32(high.hi));
    _mm256_storeu_si256((__m256i *)pairs, _mm256_permute4x64_epi64(first, 0xd8));
    _mm256_storeu_si256((__m256i *)(pairs + 8), _mm256_permute4x64_epi64(second, 0xd8));
}

static inline struct v16i v16i_dot_pair(struct v16i acc, struct v16p values, int32_t weights)
{
    __m256i w = _mm256_set1_epi32(weights);
    return (struct v16i){_mm256_add_epi32(acc.lo, _mm256_madd_epi16(values.lo, w)),
                         _mm256_add_epi32(acc.hi, _mm256_madd_epi16(values.hi, w))};
}

static inline struct v16 v16_from_int(struct v16i a)
{
    return (struct v16){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}

static inline float v16_sum(struct v16 a)
{
    __m256 eight = _mm256_add_ps(a.lo, a.hi);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float v16_largest(struct v16 a)
{
    __m256 eight = _mm256_max_ps(a.lo, a.hi);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif
