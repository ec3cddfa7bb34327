/* Sixteen rows of a matrix from memory into vectors whose lanes are the rows, with AVX-512 F and
 * BW. Private to the products of this room. */
#ifndef KERNEL_ROWS16_AVX512_H
#define KERNEL_ROWS16_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "kernel/matmul_panel.h"

INLINE __m512i rows16_quarters(const unsigned char *p, size_t stride)
{
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 4 * stride)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 8 * stride)), 2);
    return _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 12 * stride)), 3);
}

INLINE __m512i rows16_halves(const unsigned char *p, size_t stride)
{
    __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const void *)p));
    return _mm512_inserti64x4(v, _mm256_loadu_si256((const void *)(p + 4 * stride)), 1);
}

/* In each quarter, four vectors' dwords transposed. */
INLINE void rows16_transpose(const __m512i in[4], __m512i out[4])
{
    __m512i a = _mm512_unpacklo_epi32(in[0], in[1]), b = _mm512_unpackhi_epi32(in[0], in[1]);
    __m512i c = _mm512_unpacklo_epi32(in[2], in[3]), d = _mm512_unpackhi_epi32(in[2], in[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

/* 16 bytes of each row: out[i] has the bytes 4i to 4i + 3. */
INLINE void rows16_load_16(const unsigned char *p, size_t stride, __m512i out[4])
{
    __m512i rows[4];
    UNROLL
    for (size_t j = 0; j < 4; j++)
        rows[j] = rows16_quarters(p + j * stride, stride);
    rows16_transpose(rows, out);
}

/* 32 bytes of each row, in 32 shuffles and insertions where two times 16 bytes take 40. */
INLINE void rows16_load_32(const unsigned char *p, size_t stride, __m512i out[8])
{
    __m512i rows[4], a[4], b[4];
    UNROLL
    for (size_t j = 0; j < 4; j++)
        rows[j] = rows16_halves(p + j * stride, stride);
    rows16_transpose(rows, a);
    UNROLL
    for (size_t j = 0; j < 4; j++)
        rows[j] = rows16_halves(p + (8 + j) * stride, stride);
    rows16_transpose(rows, b);
    UNROLL
    for (int i = 0; i < 4; i++) {
        out[i] = _mm512_shuffle_i32x4(a[i], b[i], 0x88);
        out[i + 4] = _mm512_shuffle_i32x4(a[i], b[i], 0xdd);
    }
}

#endif
