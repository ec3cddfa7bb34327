/* The blocks of quantized weights as they lie in a file: ggml's layouts under ggml's field names.
 *
 * Every struct is made of bytes, so that it has no padding and may be read at any address (blocks
 * of 18, 34 or 210 bytes follow each other). A 16-bit field (d, m, dmin: binary16) is two bytes,
 * little-endian; half.h reads it. Where one byte holds two elements, the low nibble comes first
 * and the high nibble lies half a block (or sub-block) further on. */
#ifndef KERNEL_BLOCKS_H
#define KERNEL_BLOCKS_H

#include <assert.h>
#include <stdint.h>

#include "gguf/types.h"

#define BLOCK_SIZE 32       /* elements in a block of the simple types */
#define SUPERBLOCK_SIZE 256 /* elements in a block of the K types and IQ4_XS */

/* w = d * (q - 8) */
struct block_q4_0 {
    uint8_t d[2];
    uint8_t qs[16];
};

/* w = d * q + m */
struct block_q4_1 {
    uint8_t d[2], m[2];
    uint8_t qs[16];
};

/* w = d * (q - 16); bit i of qh is the fifth bit of element i */
struct block_q5_0 {
    uint8_t d[2];
    uint8_t qh[4];
    uint8_t qs[16];
};

/* w = d * q + m */
struct block_q5_1 {
    uint8_t d[2], m[2];
    uint8_t qh[4];
    uint8_t qs[16];
};

/* w = d * q, q signed */
struct block_q8_0 {
    uint8_t d[2];
    int8_t qs[32];
};

/* w = d * IQ4_VALUES[q] */
struct block_iq4_nl {
    uint8_t d[2];
    uint8_t qs[16];
};

/* w = 2^(e - 128) * MXFP4_VALUES[q]: the table holds twice the e2m1 values */
struct block_mxfp4 {
    uint8_t e;
    uint8_t qs[16];
};

/* 16 sub-blocks of 16: w = d * sc * q - dmin * m, sc and m the low and high nibble of scales[b].
 * Byte l of half h holds the elements 128h + l, + 32, + 64, + 96, two bits each. */
struct block_q2_k {
    uint8_t scales[16];
    uint8_t qs[64];
    uint8_t d[2], dmin[2];
};

/* 16 sub-blocks of 16: w = d * (sc - 32) * (q - 4), q of three bits: two in qs (as in Q2_K), the
 * third in hmask, where bit i of byte l belongs to element 32i + l. The 6-bit scales: see
 * q3_k_scale(). */
struct block_q3_k {
    uint8_t hmask[32];
    uint8_t qs[64];
    uint8_t scales[12];
    uint8_t d[2];
};

/* 8 sub-blocks of 32: w = d * sc * q - dmin * m. 32 bytes of qs hold the sub-blocks 2i (low
 * nibbles) and 2i + 1. The 6-bit scales and minima: see q4_k_scale() and q4_k_min(). */
struct block_q4_k {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t qs[128];
};

/* As Q4_K; bit b of qh[l] is the fifth bit of element l of sub-block b. */
struct block_q5_k {
    uint8_t d[2], dmin[2];
    uint8_t scales[12];
    uint8_t qh[32];
    uint8_t qs[128];
};

/* 16 sub-blocks of 16: w = d * sc * (q - 32). Half h has 64 bytes of ql and 32 of qh; byte l of qh
 * holds the upper two bits of the elements 128h + l, + 32, + 64, + 96; their lower four bits are
 * the low nibbles of ql[l] and ql[l + 32], then the high nibbles of the same. */
struct block_q6_k {
    uint8_t ql[128];
    uint8_t qh[64];
    int8_t scales[16];
    uint8_t d[2];
};

/* 8 sub-blocks of 32: w = d * (sc - 32) * IQ4_VALUES[q]. The 6-bit scales: see iq4_xs_scale(). */
struct block_iq4_xs {
    uint8_t d[2];
    uint8_t scales_h[2];
    uint8_t scales_l[4];
    uint8_t qs[128];
};

/* The struct of each quantized type, X(type, struct). */
#define BLOCK_STRUCTS(X)                                                                           \
    X(Q4_0, block_q4_0)                                                                            \
    X(Q4_1, block_q4_1)                                                                            \
    X(Q5_0, block_q5_0)                                                                            \
    X(Q5_1, block_q5_1)                                                                            \
    X(Q8_0, block_q8_0)                                                                            \
    X(Q2_K, block_q2_k)                                                                            \
    X(Q3_K, block_q3_k)                                                                            \
    X(Q4_K, block_q4_k)                                                                            \
    X(Q5_K, block_q5_k)                                                                            \
    X(Q6_K, block_q6_k)                                                                            \
    X(IQ4_NL, block_iq4_nl)                                                                        \
    X(IQ4_XS, block_iq4_xs)                                                                        \
    X(MXFP4, block_mxfp4)

/* BLOCK_BYTES_Q4_K and so on: what types.h says about the file. */
enum block_bytes {
#define BLOCK_BYTES_ENUM(name, number, elements, bytes) BLOCK_BYTES_##name = (bytes),
    TENSOR_TYPES(BLOCK_BYTES_ENUM)
#undef BLOCK_BYTES_ENUM
};

#define BLOCK_SIZE_ASSERT(type, tag)                                                               \
    static_assert(sizeof(struct tag) == BLOCK_BYTES_##type && _Alignof(struct tag) == 1, #tag);
BLOCK_STRUCTS(BLOCK_SIZE_ASSERT)
#undef BLOCK_SIZE_ASSERT

/* The code books of IQ4_NL and IQ4_XS, and of MXFP4: format facts. */
#define IQ4_VALUES_INIT                                                                            \
    {                                                                                              \
        -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113                   \
    }
#define MXFP4_VALUES_INIT                                                                          \
    {                                                                                              \
        0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12                                    \
    }

/* Q4_K and Q5_K: sub-blocks 0 to 3 have six bits in the bytes 0 to 3 (scale) and 4 to 7 (minimum);
 * of the sub-blocks 4 to 7 the lower four bits are the nibbles of the bytes 8 to 11 and the upper
 * two those that the first eight bytes have left. */
static inline int q4_k_scale(const uint8_t scales[12], int b)
{
    return b < 4 ? scales[b] & 63 : (scales[b + 4] & 15) | (scales[b - 4] >> 6) << 4;
}

static inline int q4_k_min(const uint8_t scales[12], int b)
{
    return b < 4 ? scales[b + 4] & 63 : scales[b + 4] >> 4 | (scales[b] >> 6) << 4;
}

/* Q3_K: the lower four bits are the nibbles of the bytes 0 to 7, low ones first; the upper two
 * stand in the bytes 8 to 11, sub-blocks b, b + 4, b + 8, b + 12 in one byte. */
static inline int q3_k_scale(const uint8_t scales[12], int b)
{
    int low = scales[b % 8] >> (b < 8 ? 0 : 4) & 15;
    int high = scales[8 + b % 4] >> 2 * (b / 4) & 3;
    return (low | high << 4) - 32;
}

static inline int iq4_xs_scale(const struct block_iq4_xs *block, int b)
{
    int low = block->scales_l[b / 2] >> 4 * (b % 2) & 15;
    int high = block->scales_h[b / 4] >> 2 * (b % 4) & 3;
    return (low | high << 4) - 32;
}

#endif
