/* Taking quantized blocks apart with NEON, one row at a time, in the order of the elements: shared
 * by the products with one column (matvec_neon.c) and the panels for many (matmul_neon_tmpl.h).
 *
 * Every function is given the type as a constant, so that what it does for the others goes away.
 * Loads touch the bytes of the block and nothing else. */
#ifndef KERNEL_NEON_UNPACK_H
#define KERNEL_NEON_UNPACK_H

#include <arm_neon.h>
#include <stdbool.h>

#include "kernel/blocks.h"
#include "kernel/half.h"
#include "kernel/matmul_panel.h"

/* ---- what distinguishes the types ---- */

/* X(type, tag): blocks of 32 and superblocks of 256 elements. */
#define NEON_BLOCK_TYPES(X)                                                                        \
    X(Q4_0, q4_0)                                                                                  \
    X(Q4_1, q4_1)                                                                                  \
    X(Q5_0, q5_0)                                                                                  \
    X(Q5_1, q5_1)                                                                                  \
    X(Q8_0, q8_0)                                                                                  \
    X(IQ4_NL, iq4_nl)                                                                              \
    X(MXFP4, mxfp4)
#define NEON_SUPERBLOCK_TYPES(X)                                                                   \
    X(Q2_K, q2_k)                                                                                  \
    X(Q3_K, q3_k)                                                                                  \
    X(Q4_K, q4_k)                                                                                  \
    X(Q5_K, q5_k)                                                                                  \
    X(Q6_K, q6_k)                                                                                  \
    X(IQ4_XS, iq4_xs)

INLINE bool type_has_minima(uint32_t type)
{
    return type == TYPE_Q4_1 || type == TYPE_Q5_1 || type == TYPE_Q2_K || type == TYPE_Q4_K ||
           type == TYPE_Q5_K;
}

/* Elements with one scale. */
INLINE int type_sub_block(uint32_t type)
{
    return type == TYPE_Q2_K || type == TYPE_Q3_K || type == TYPE_Q6_K ? 16 : 32;
}

/* What unpacking leaves added to the elements. */
INLINE int type_offset(uint32_t type)
{
    switch (type) {
    case TYPE_Q3_K:
        return 4;
    case TYPE_Q4_0:
        return 8;
    case TYPE_Q5_0:
        return 16;
    case TYPE_Q6_K:
        return 32;
    default:
        return 0;
    }
}

/* ---- bits ---- */

INLINE uint8x16_t load_bytes(const unsigned char *p)
{
    return vld1q_u8(p);
}

INLINE int8x16_t low_nibbles(uint8x16_t v)
{
    return vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
}

INLINE int8x16_t high_nibbles(uint8x16_t v)
{
    return vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
}

/* Bytes whose bit `from` has become bit `to`, with others around it. */
INLINE uint8x16_t move_bits(uint8x16_t v, int from, int to)
{
    return from >= to ? v >> (uint8_t)(from - to) : v << (uint8_t)(to - from);
}

/* q with the `count` bits from `to` on replaced by the bits of v that begin at bit `from`. */
INLINE int8x16_t insert_bits(int8x16_t q, uint8x16_t v, int count, int from, int to)
{
    uint8x16_t mask = vdupq_n_u8((uint8_t)(((1 << count) - 1) << to));
    return vbslq_s8(mask, vreinterpretq_s8_u8(move_bits(v, from, to)), q);
}

/* Two bits of each byte. */
INLINE int8x16_t two_bits(uint8x16_t v, int from)
{
    return vreinterpretq_s8_u8(vandq_u8(move_bits(v, from, 0), vdupq_n_u8(3)));
}

/* Bit i of four bytes becomes the fifth bit of element i. */
INLINE void insert_fifth_bits(const unsigned char *qh, int8x16_t q[2])
{
    static const uint8_t bytes[2][16] = {{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1},
                                         {2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3}};
    const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(UINT64_C(0x8040201008040201)));
    uint32_t four;
    memcpy(&four, qh, sizeof(four));
    UNROLL
    for (int i = 0; i < 2; i++) {
        uint8x16_t byte = vqtbl1q_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), vld1q_u8(bytes[i]));
        q[i] = insert_bits(q[i], vtstq_u8(byte, bits), 1, 4, 4);
    }
}

/* ---- scales of blocks ---- */

/* The binary16 numbers `at` bytes into four blocks, exactly. */
INLINE float32x4_t gather_halves(const unsigned char *const blocks[4], size_t at)
{
    uint16_t halves[4];
    UNROLL
    for (int r = 0; r < 4; r++)
        halves[r] = half_load(blocks[r] + at);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(halves)));
}

INLINE float32x4_t gather_d(uint32_t type, const unsigned char *const blocks[4])
{
    switch (type) {
    case TYPE_MXFP4: {
        float d[4];
        UNROLL
        for (int r = 0; r < 4; r++)
            d[r] = e8m0_half_to_float(blocks[r][0]);
        return vld1q_f32(d);
    }
    case TYPE_Q2_K:
        return gather_halves(blocks, BLOCK_BYTES_Q2_K - 4);
    case TYPE_Q3_K:
        return gather_halves(blocks, BLOCK_BYTES_Q3_K - 2);
    case TYPE_Q6_K:
        return gather_halves(blocks, BLOCK_BYTES_Q6_K - 2);
    default:
        return gather_halves(blocks, 0);
    }
}

/* m as matmul_ref.c uses it: K types subtract dmin. */
INLINE float32x4_t gather_m(uint32_t type, const unsigned char *const blocks[4])
{
    if (type == TYPE_Q2_K)
        return vnegq_f32(gather_halves(blocks, BLOCK_BYTES_Q2_K - 2));
    float32x4_t m = gather_halves(blocks, 2);
    return type == TYPE_Q4_K || type == TYPE_Q5_K ? vnegq_f32(m) : m;
}

/* ---- blocks of 32 ---- */

INLINE void unpack_codes(const unsigned char *qs, int8x16_t book, int8x16_t q[2])
{
    uint8x16_t packed = load_bytes(qs);
    q[0] = vqtbl1q_s8(book, vreinterpretq_u8_s8(low_nibbles(packed)));
    q[1] = vqtbl1q_s8(book, vreinterpretq_u8_s8(high_nibbles(packed)));
}

INLINE int8x16_t iq4_book(void)
{
    static const int8_t values[16] = IQ4_VALUES_INIT;
    return vld1q_s8(values);
}

INLINE int8x16_t mxfp4_book(void)
{
    static const int8_t values[16] = MXFP4_VALUES_INIT;
    return vld1q_s8(values);
}

INLINE void unpack_block(uint32_t type, const unsigned char *block, int8x16_t q[2])
{
    if (type == TYPE_Q8_0) {
        q[0] = vld1q_s8((const int8_t *)block + 2);
        q[1] = vld1q_s8((const int8_t *)block + 18);
        return;
    }
    if (type == TYPE_IQ4_NL || type == TYPE_MXFP4) {
        bool mxfp4 = type == TYPE_MXFP4;
        unpack_codes(block + (mxfp4 ? 1 : 2), mxfp4 ? mxfp4_book() : iq4_book(), q);
        return;
    }
    bool five = type == TYPE_Q5_0 || type == TYPE_Q5_1;
    size_t header = type_has_minima(type) ? 4 : 2;
    uint8x16_t packed = load_bytes(block + header + (five ? 4 : 0));
    q[0] = low_nibbles(packed);
    q[1] = high_nibbles(packed);
    if (five)
        insert_fifth_bits(block + header, q);
}

/* ---- superblocks ---- */

/* The integer scales and minima of the sub-blocks. */
struct k_scales {
    int16x8_t scale[2], min[2];
};

/* See q4_k_scale() and q4_k_min(): four 6-bit numbers at a time, as the bytes of a word. */
INLINE void unpack_q4_k_scales(const unsigned char *bytes, struct k_scales *out)
{
    uint32_t word[3];
    memcpy(word, bytes, sizeof(word));
    uint32_t scale = (word[2] & 0x0f0f0f0f) | (word[0] >> 2 & 0x30303030);
    uint32_t min = (word[2] >> 4 & 0x0f0f0f0f) | (word[1] >> 2 & 0x30303030);
    uint64_t scales = (word[0] & 0x3f3f3f3f) | (uint64_t)scale << 32;
    uint64_t mins = (word[1] & 0x3f3f3f3f) | (uint64_t)min << 32;
    out->scale[0] = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(scales)));
    out->min[0] = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(mins)));
}

/* See q3_k_scale(). */
INLINE int8x16_t q3_k_scales(const unsigned char *bytes)
{
    static const int8_t shifts[16] = {0, 0, 0, 0, -2, -2, -2, -2, -4, -4, -4, -4, -6, -6, -6, -6};
    uint32_t upper;
    memcpy(&upper, bytes + 8, sizeof(upper));
    uint8x8_t low = vld1_u8(bytes);
    uint8x16_t nibbles = vcombine_u8(vand_u8(low, vdup_n_u8(15)), vshr_n_u8(low, 4));
    uint8x16_t two = vshlq_u8(vreinterpretq_u8_u32(vdupq_n_u32(upper)), vld1q_s8(shifts));
    int8x16_t scales = insert_bits(vreinterpretq_s8_u8(nibbles), two, 2, 0, 4);
    return vsubq_s8(scales, vdupq_n_s8(32));
}

/* See iq4_xs_scale(). */
INLINE int16x8_t iq4_xs_scales(const unsigned char *block)
{
    static const int32_t low_shifts[8] = {0, -4, -8, -12, -16, -20, -24, -28};
    static const int32_t high_shifts[8] = {0, -2, -4, -6, -8, -10, -12, -14};
    uint32_t low;
    memcpy(&low, block + 4, sizeof(low));
    uint32x4_t lows = vdupq_n_u32(low), highs = vdupq_n_u32(half_load(block + 2));
    uint16x4_t scales[2];
    UNROLL
    for (int i = 0; i < 2; i++) {
        uint32x4_t nibble = vshlq_u32(lows, vld1q_s32(low_shifts + 4 * i));
        uint32x4_t upper = vshlq_u32(highs, vld1q_s32(high_shifts + 4 * i));
        nibble = vandq_u32(nibble, vdupq_n_u32(15));
        upper = vshlq_n_u32(vandq_u32(upper, vdupq_n_u32(3)), 4);
        scales[i] = vmovn_u32(vorrq_u32(nibble, upper));
    }
    return vsubq_s16(vreinterpretq_s16_u16(vcombine_u16(scales[0], scales[1])), vdupq_n_s16(32));
}

INLINE void widen(int8x16_t bytes, int16x8_t out[2])
{
    out[0] = vmovl_s8(vget_low_s8(bytes));
    out[1] = vmovl_high_s8(bytes);
}

INLINE void unpack_scales(uint32_t type, const unsigned char *block, struct k_scales *out)
{
    switch (type) {
    case TYPE_Q2_K:
        widen(low_nibbles(load_bytes(block)), out->scale);
        widen(high_nibbles(load_bytes(block)), out->min);
        break;
    case TYPE_Q3_K:
        widen(q3_k_scales(block + 96), out->scale);
        break;
    case TYPE_Q4_K:
    case TYPE_Q5_K:
        unpack_q4_k_scales(block + 4, out);
        break;
    case TYPE_Q6_K:
        widen(vreinterpretq_s8_u8(load_bytes(block + 192)), out->scale);
        break;
    case TYPE_IQ4_XS:
        out->scale[0] = iq4_xs_scales(block);
        break;
    }
}

/* Two bits of 64 elements as Q2_K and Q3_K pack them. */
INLINE void unpack_two_bits(const unsigned char *qs, int part, int8x16_t q[4])
{
    uint8x16_t near = load_bytes(qs + part / 2 * 32), far = load_bytes(qs + part / 2 * 32 + 16);
    int bit = part % 2 * 4;
    q[0] = two_bits(near, bit);
    q[1] = two_bits(far, bit);
    q[2] = two_bits(near, bit + 2);
    q[3] = two_bits(far, bit + 2);
}

/* Inserts a bit that lies like the bits of Q3_K's hmask and Q5_K's qh: of 32 bytes, bit b belongs
 * to the b-th 32 elements. */
INLINE void insert_high_bits(const unsigned char *bits, int part, int to, int8x16_t q[4])
{
    uint8x16_t near = load_bytes(bits), far = load_bytes(bits + 16);
    q[0] = insert_bits(q[0], near, 1, 2 * part, to);
    q[1] = insert_bits(q[1], far, 1, 2 * part, to);
    q[2] = insert_bits(q[2], near, 1, 2 * part + 1, to);
    q[3] = insert_bits(q[3], far, 1, 2 * part + 1, to);
}

INLINE void unpack_nibbles(const unsigned char *qs, int8x16_t q[4])
{
    uint8x16_t near = load_bytes(qs), far = load_bytes(qs + 16);
    q[0] = low_nibbles(near);
    q[1] = low_nibbles(far);
    q[2] = high_nibbles(near);
    q[3] = high_nibbles(far);
}

INLINE void unpack_q6_k(const unsigned char *block, int part, int8x16_t q[4])
{
    const unsigned char *ql = block + part / 2 * 64, *qh = block + 128 + part / 2 * 32;
    UNROLL
    for (int i = 0; i < 4; i++) {
        uint8x16_t low = load_bytes(ql + 16 * i), high = load_bytes(qh + i % 2 * 16);
        q[i] = insert_bits(part % 2 == 0 ? low_nibbles(low) : high_nibbles(low), high, 2,
                           part % 2 * 4 + i / 2 * 2, 4);
    }
}

/* The elements 64 * part to 64 * part + 63. */
INLINE void unpack_part(uint32_t type, const unsigned char *block, int part, int8x16_t q[4])
{
    switch (type) {
    case TYPE_Q2_K:
        unpack_two_bits(block + 16, part, q);
        break;
    case TYPE_Q3_K:
        unpack_two_bits(block + 32, part, q);
        insert_high_bits(block, part, 2, q);
        break;
    case TYPE_Q4_K:
        unpack_nibbles(block + 16 + 32 * part, q);
        break;
    case TYPE_Q5_K:
        unpack_nibbles(block + 48 + 32 * part, q);
        insert_high_bits(block + 16, part, 4, q);
        break;
    case TYPE_Q6_K:
        unpack_q6_k(block, part, q);
        break;
    case TYPE_IQ4_XS:
        unpack_codes(block + 8 + 32 * part, iq4_book(), q);
        unpack_codes(block + 24 + 32 * part, iq4_book(), q + 2);
        break;
    }
}

/* ---- lanes: an index must be a literal for the compiler ---- */

/* acc + dot * scale[lane] */
INLINE int32x4_t scaled_add(int32x4_t acc, int32x4_t dot, int32x4_t scale, int lane)
{
    switch (lane) {
    case 0:
        return vmlaq_laneq_s32(acc, dot, scale, 0);
    case 1:
        return vmlaq_laneq_s32(acc, dot, scale, 1);
    case 2:
        return vmlaq_laneq_s32(acc, dot, scale, 2);
    default:
        return vmlaq_laneq_s32(acc, dot, scale, 3);
    }
}

#endif
