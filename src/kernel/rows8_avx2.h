/* Eight rows of a matrix from memory into vectors whose lanes are the rows, with AVX2 and F16C.
 * Private to the products of this room. */
#ifndef KERNEL_ROWS8_AVX2_H
#define KERNEL_ROWS8_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel/matmul_panel.h"

/* 16 bytes of each row: out[i] has the bytes 4i to 4i + 3. The rows j and j + 4 are the halves of a
 * vector, and in each half four vectors' dwords are transposed. */
INLINE void rows8_load_16(const unsigned char *rows, size_t stride, __m256i out[4])
{
    __m256i row[4];
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        const unsigned char *p = rows + j * stride;
        row[j] = _mm256_castsi128_si256(_mm_loadu_si128((const void *)p));
        row[j] =
            _mm256_inserti128_si256(row[j], _mm_loadu_si128((const void *)(p + 4 * stride)), 1);
    }
    __m256i a = _mm256_unpacklo_epi32(row[0], row[1]), b = _mm256_unpackhi_epi32(row[0], row[1]);
    __m256i c = _mm256_unpacklo_epi32(row[2], row[3]), d = _mm256_unpackhi_epi32(row[2], row[3]);
    out[0] = _mm256_unpacklo_epi64(a, c);
    out[1] = _mm256_unpackhi_epi64(a, c);
    out[2] = _mm256_unpacklo_epi64(b, d);
    out[3] = _mm256_unpackhi_epi64(b, d);
}

/* Four bytes of each row. Eight loads: vpgatherdd is slow on much that has AVX2 and no AVX-512. */
INLINE __m256i rows8_load_4(const unsigned char *rows, size_t stride)
{
    int32_t lanes[8];
    UNROLL
    for (size_t r = 0; r < 8; r++)
        memcpy(&lanes[r], rows + r * stride, sizeof(lanes[r]));
    return _mm256_setr_epi32(lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5], lanes[6],
                             lanes[7]);
}

/* Two bytes of each row. */
INLINE __m128i rows8_load_2(const unsigned char *rows, size_t stride)
{
    int16_t lanes[8];
    UNROLL
    for (size_t r = 0; r < 8; r++)
        memcpy(&lanes[r], rows + r * stride, sizeof(lanes[r]));
    return _mm_setr_epi16(lanes[0], lanes[1], lanes[2], lanes[3], lanes[4], lanes[5], lanes[6],
                          lanes[7]);
}

/* Two binary16 in each lane as floats. */
INLINE void rows8_halves(__m256i lanes, __m256 *low, __m256 *high)
{
    const __m256i apart = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15, 0,
                                           1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    __m256i halves = _mm256_shuffle_epi8(lanes, apart);
    __m128i first = _mm256_castsi256_si128(halves), second = _mm256_extracti128_si256(halves, 1);
    *low = _mm256_cvtph_ps(_mm_unpacklo_epi64(first, second));
    *high = _mm256_cvtph_ps(_mm_unpackhi_epi64(first, second));
}

#endif
