/* What the products in vectors of 256 bits share. Their files, matmul_avx2.c and matvec_avx2.c, are
 * compiled twice: for AVX2, FMA and F16C, and with KERNEL_VNNI defined as 1 for AVX-VNNI besides.
 * Tests compile them once more, with KERNEL_VNNI_EVEX: the same instructions have another encoding
 * in AVX-512 with VL, and there are machines that have that one alone. Private to this room. */
#ifndef KERNEL_PRODUCTS_256_H
#define KERNEL_PRODUCTS_256_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernel/kernel.h"
#include "kernel/matmul_panel.h"
#include "kernel/matvec.h"
#include "kernel/outliers.h"

#ifndef KERNEL_VNNI
#define KERNEL_VNNI 0
#endif
#if defined(KERNEL_VNNI_EVEX)
#define TIER(name) name##_avxvnni_evex
#elif KERNEL_VNNI
#define TIER(name) name##_avxvnni
#else
#define TIER(name) name##_avx2
#endif

void TIER(matmul_fill)(struct kernels *kernels);
bool TIER(matvec)(const struct matmul *task);

/* Nothing, but compilers keep the order in which sums are added up: else they would compute all
 * products of a group before they add any, and spill them. */
INLINE __m256i settled(__m256i sum)
{
    __asm__("" : "+x"(sum));
    return sum;
}

/* In all lanes. */
INLINE __m256i broadcast_4(const void *four)
{
    int32_t value;
    memcpy(&value, four, sizeof(value));
    return _mm256_set1_epi32(value);
}

#if KERNEL_VNNI
#ifdef KERNEL_VNNI_EVEX
#define DPBUSD _mm256_dpbusd_epi32
#define DPWSSD _mm256_dpwssd_epi32
#else
#define DPBUSD _mm256_dpbusd_avx_epi32
#define DPWSSD _mm256_dpwssd_avx_epi32
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
