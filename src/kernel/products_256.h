/* What the products in vectors of 256 bits share (matmul_256.h, matvec_256.h), with and without
 * AVX-VNNI: KERNEL_VNNI is 1 or 0. Private to this room. */
#ifndef KERNEL_PRODUCTS_256_H
#define KERNEL_PRODUCTS_256_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernel/matmul_panel.h"

/* In all lanes. */
INLINE __m256i broadcast_4(const void *four)
{
    int32_t value;
    memcpy(&value, four, sizeof(value));
    return _mm256_set1_epi32(value);
}

#if KERNEL_VNNI
/* The same instructions have an encoding of their own in AVX-VNNI, and another one in AVX-512 with
 * VL, which a test uses where a machine has that alone. */
#ifdef __AVXVNNI__
#define DPBUSD _mm256_dpbusd_avx_epi32
#define DPWSSD _mm256_dpwssd_avx_epi32
#else
#define DPBUSD _mm256_dpbusd_epi32
#define DPWSSD _mm256_dpwssd_epi32
#endif

/* sum + w * a, four unsigned times four signed bytes to a lane. */
INLINE __m256i dot_bytes(__m256i sum, __m256i w, __m256i a)
{
    return DPBUSD(sum, w, a);
}

/* sum + a * b, two numbers of 16 bits to a lane. */
INLINE __m256i dot_shorts(__m256i sum, __m256i a, __m256i b)
{
    return DPWSSD(sum, a, b);
}
#else
INLINE __m256i dot_shorts(__m256i sum, __m256i a, __m256i b)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

/* |w| times a with the sign of w, pairs added in 16 bits: at most 2 * 128 * 127 = 32512. */
INLINE __m256i maddubs_signed(__m256i w, __m256i a)
{
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
}
#endif

#endif
