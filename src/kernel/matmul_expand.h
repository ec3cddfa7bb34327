/* Taking the blocks of every quantized type apart: the expand functions of matmul_panel.h, written
 * once for all vector tiers. A tier includes this in its .c file after it has defined
 *
 *   VECTOR            an integer vector with GROUP_ROWS lanes of 32 bits: one lane, one row
 *   GROUP_ROWS        16 or 8; the 16 rows of a panel are expanded in groups of so many
 *   v_*               its operations: see the top of matmul_avx512.c
 *   BIAS_8BIT         what is added to weights of 8 bits: 128, or 0 where sweeps take them signed
 *   SCALE_TWICE       whether a scale stands in both halves of its lane, or in the lower one alone
 *   PAIRS_Q3_K, PAIRS_Q5_K, PAIRS_Q6_K   whether the type's sweeps use scale_pair
 *
 * All other weights are expanded as unsigned numbers; sweeps know their offsets. Loads touch the
 * bytes of the blocks and nothing else: behind a block readable memory may end. */
#ifndef KERNEL_MATMUL_EXPAND_H
#define KERNEL_MATMUL_EXPAND_H

#include "kernel/blocks.h"
#include "kernel/matmul_panel.h"

/* Where a group stands: `g` is its first row in the panel, `b` the block in the step. */
struct group {
    struct panel *out;
    size_t b, g;
};

INLINE void put_q(const struct group *group, int vector, VECTOR q)
{
    v_store(group->out->q[8 * group->b + (size_t)vector] + 4 * group->g, q);
}

INLINE void put_d(const struct group *group, VECTOR halves)
{
    v_store_half(group->out->d[group->b] + group->g, halves, 1.0f);
}

INLINE void put_m(const struct group *group, VECTOR halves, float sign)
{
    v_store_half(group->out->m[group->b] + group->g, halves, sign);
}

INLINE VECTOR low_nibbles(VECTOR v)
{
    return v_and(v, v_set8(15));
}

INLINE VECTOR high_nibbles(VECTOR v)
{
    return low_nibbles(v_srl(v, 4));
}

/* Bit `from` of each byte as bit `to`, and the other bits somewhere. */
INLINE VECTOR move(VECTOR v, int from, int to)
{
    return from >= to ? v_srl(v, (unsigned)(from - to)) : v_sll(v, (unsigned)(to - from));
}

/* a, with the bits of b that are in the mask. */
INLINE VECTOR or_and(VECTOR a, VECTOR b, int mask)
{
    return v_or_and(a, b, v_set8((char)mask));
}

/* ---- blocks of 32 ---- */

INLINE void expand_nibbles(const unsigned char *qs, size_t stride, const struct group *group)
{
    VECTOR packed[4];
    v_load_rows(qs, stride, packed);
    UNROLL
    for (int i = 0; i < 4; i++) {
        put_q(group, i, low_nibbles(packed[i]));
        put_q(group, i + 4, high_nibbles(packed[i]));
    }
}

/* With the fifth bits of all 32 elements in the row's lane of qh. */
INLINE void expand_five_bits(const unsigned char *qs, size_t stride, VECTOR qh,
                             const struct group *group)
{
    VECTOR packed[4];
    v_load_rows(qs, stride, packed);
    UNROLL
    for (int i = 0; i < 4; i++) {
        put_q(group, i, v_add_fifth_bits(low_nibbles(packed[i]), qh, i));
        put_q(group, i + 4, v_add_fifth_bits(high_nibbles(packed[i]), qh, i + 4));
    }
}

INLINE void expand_codes(const unsigned char *qs, size_t stride, const int8_t values[16], int bias,
                         const struct group *group)
{
    VECTOR book = v_add8(v_repeat(values), v_set8((char)bias)), packed[4];
    v_load_rows(qs, stride, packed);
    UNROLL
    for (int i = 0; i < 4; i++) {
        put_q(group, i, v_shuffle(book, low_nibbles(packed[i])));
        put_q(group, i + 4, v_shuffle(book, high_nibbles(packed[i])));
    }
}

INLINE void group_q4_0(const unsigned char *rows, size_t stride, const struct group *group)
{
    put_d(group, v_gather(rows, stride));
    expand_nibbles(rows + 2, stride, group);
}

INLINE void group_q4_1(const unsigned char *rows, size_t stride, const struct group *group)
{
    VECTOR header = v_gather(rows, stride);
    put_d(group, header);
    put_m(group, v_srl(header, 16), 1.0f);
    expand_nibbles(rows + 4, stride, group);
}

INLINE void group_q5_0(const unsigned char *rows, size_t stride, const struct group *group)
{
    put_d(group, v_gather(rows, stride));
    expand_five_bits(rows + 6, stride, v_gather(rows + 2, stride), group);
}

INLINE void group_q5_1(const unsigned char *rows, size_t stride, const struct group *group)
{
    VECTOR header = v_gather(rows, stride);
    put_d(group, header);
    put_m(group, v_srl(header, 16), 1.0f);
    expand_five_bits(rows + 8, stride, v_gather(rows + 4, stride), group);
}

INLINE void group_q8_0(const unsigned char *rows, size_t stride, const struct group *group)
{
    put_d(group, v_gather(rows, stride));
    UNROLL
    for (int half = 0; half < 2; half++) {
        VECTOR q[4];
        v_load_rows(rows + 2 + 16 * half, stride, q);
        UNROLL
        for (int i = 0; i < 4; i++)
            put_q(group, 4 * half + i, v_add8(q[i], v_set8((char)BIAS_8BIT)));
    }
}

static const int8_t iq4_values[16] = IQ4_VALUES_INIT;
static const int8_t mxfp4_values[16] = MXFP4_VALUES_INIT;

INLINE void group_iq4_nl(const unsigned char *rows, size_t stride, const struct group *group)
{
    put_d(group, v_gather(rows, stride));
    expand_codes(rows + 2, stride, iq4_values, BIAS_8BIT, group);
}

INLINE void group_mxfp4(const unsigned char *rows, size_t stride, const struct group *group)
{
    /* See e8m0_half_to_float(): exponent e - 1, or a subnormal number for e below 2. */
    VECTOR e = v_and(v_gather(rows, stride), v_set32(255));
    VECTOR normal = v_sll(v_sub32(e, v_set32(1)), 23);
    VECTOR subnormal = v_sll_by(v_set32(0x00200000), e);
    v_store(group->out->d[group->b] + group->g,
            v_select(v_equal(v_srl(e, 1), v_set32(0)), subnormal, normal));
    expand_codes(rows + 1, stride, mxfp4_values, 16, group);
}

/* ---- superblocks ---- */

/* The scales of the sub-blocks 4i to 4i + 3, one in each byte. */
INLINE void put_scales(const struct group *group, int i, VECTOR scales)
{
    UNROLL
    for (int b = 0; b < 4; b++)
        v_store(group->out->scale[4 * i + b] + 2 * group->g,
                v_pick(scales, b, -1, SCALE_TWICE ? b : -1, -1));
}

INLINE void put_scales_signed(const struct group *group, int i, VECTOR scales)
{
    UNROLL
    for (int b = 0; b < 4; b++)
        v_store(group->out->scale[4 * i + b] + 2 * group->g,
                v_high_bytes(v_pick(scales, -1, b, -1, SCALE_TWICE ? b : -1)));
}

/* The same bytes as pairs of 16-bit numbers. */
INLINE void put_pairs(int16_t (*pairs)[32], const struct group *group, int i, VECTOR bytes)
{
    UNROLL
    for (int p = 0; p < 2; p++)
        v_store(pairs[2 * i + p] + 2 * group->g, v_pick(bytes, 2 * p, -1, 2 * p + 1, -1));
}

INLINE void put_pairs_signed(int16_t (*pairs)[32], const struct group *group, int i, VECTOR bytes)
{
    UNROLL
    for (int p = 0; p < 2; p++)
        v_store(pairs[2 * i + p] + 2 * group->g,
                v_high_bytes(v_pick(bytes, -1, 2 * p, -1, 2 * p + 1)));
}

/* The header of Q4_K and Q5_K, 16 bytes: d, dmin and scales[12], which q4_k_scale() explains. */
INLINE void expand_k_header(const unsigned char *rows, size_t stride, bool pairs,
                            const struct group *group)
{
    VECTOR h[4], scales[2], mins[2];
    v_load_rows(rows, stride, h);
    put_d(group, h[0]);
    put_m(group, v_srl(h[0], 16), -1.0f);
    scales[0] = v_and(h[1], v_set8(63));
    scales[1] = or_and(low_nibbles(h[3]), v_srl(h[1], 2), 0x30);
    mins[0] = v_and(h[2], v_set8(63));
    mins[1] = or_and(high_nibbles(h[3]), v_srl(h[2], 2), 0x30);
    UNROLL
    for (int i = 0; i < 2; i++) {
        put_scales(group, i, scales[i]);
        put_pairs(group->out->min_pair, group, i, mins[i]);
        if (pairs)
            put_pairs(group->out->scale_pair, group, i, scales[i]);
    }
}

INLINE void group_q4_k(const unsigned char *rows, size_t stride, const struct group *group)
{
    expand_k_header(rows, stride, false, group);
    for (int pair = 0; pair < 4; pair++) {
        VECTOR packed[8];
        v_load_rows_32(rows + 16 + 32 * pair, stride, packed);
        UNROLL
        for (int i = 0; i < 8; i++) {
            put_q(group, 16 * pair + i, low_nibbles(packed[i]));
            put_q(group, 16 * pair + i + 8, high_nibbles(packed[i]));
        }
    }
}

INLINE void group_q5_k(const unsigned char *rows, size_t stride, const struct group *group)
{
    expand_k_header(rows, stride, PAIRS_Q5_K, group);
    for (int half = 0; half < 2; half++) {
        VECTOR high[4];
        v_load_rows(rows + 16 + 16 * half, stride, high);
        for (int pair = 0; pair < 4; pair++) {
            VECTOR packed[4];
            v_load_rows(rows + 48 + 32 * pair + 16 * half, stride, packed);
            int at = 16 * pair + 4 * half;
            UNROLL
            for (int i = 0; i < 4; i++) {
                put_q(group, at + i, or_and(low_nibbles(packed[i]), v_sll(high[i], 4), 0x10));
                put_q(group, at + i + 8, or_and(high_nibbles(packed[i]), v_sll(high[i], 3), 0x10));
                high[i] = v_srl(high[i], 2);
            }
        }
    }
}

INLINE void group_q6_k(const unsigned char *rows, size_t stride, const struct group *group)
{
    VECTOR scales[4];
    put_d(group, v_srl(v_gather(rows + BLOCK_BYTES_Q6_K - 4, stride), 16));
    v_load_rows(rows + 192, stride, scales);
    UNROLL
    for (int i = 0; i < 4; i++) {
        put_scales_signed(group, i, scales[i]);
        if (PAIRS_Q6_K)
            put_pairs_signed(group->out->scale_pair, group, i, scales[i]);
    }
    for (int half = 0; half < 2; half++) {
        VECTOR high[8], near[8], far[8];
        v_load_rows_32(rows + 128 + 32 * half, stride, high);
        v_load_rows_32(rows + 64 * half, stride, near);
        v_load_rows_32(rows + 64 * half + 32, stride, far);
        UNROLL
        for (int i = 0; i < 8; i++) {
            int at = 32 * half + i;
            VECTOR even = v_and(high[i], v_set8(0x33));
            VECTOR odd = v_and(v_srl(high[i], 2), v_set8(0x33));
            put_q(group, at, v_join_nibbles(near[i], v_sll(even, 4)));
            put_q(group, at + 8, v_join_nibbles(far[i], v_sll(odd, 4)));
            put_q(group, at + 16, v_join_nibbles(v_srl(near[i], 4), even));
            put_q(group, at + 24, v_join_nibbles(v_srl(far[i], 4), odd));
        }
    }
}

INLINE void group_q2_k(const unsigned char *rows, size_t stride, const struct group *group)
{
    VECTOR header = v_gather(rows + BLOCK_BYTES_Q2_K - 4, stride), scales[4];
    put_d(group, header);
    put_m(group, v_srl(header, 16), -1.0f);
    v_load_rows(rows, stride, scales);
    UNROLL
    for (int i = 0; i < 4; i++) {
        put_scales(group, i, low_nibbles(scales[i]));
        put_pairs(group->out->min_pair, group, i, high_nibbles(scales[i]));
    }
    for (int part = 0; part < 4; part++) {
        VECTOR packed[4];
        v_load_rows(rows + 16 + 16 * part, stride, packed);
        int at = 32 * (part / 2) + 4 * (part % 2);
        UNROLL
        for (int i = 0; i < 4; i++) {
            UNROLL
            for (int j = 0; j < 4; j++)
                put_q(group, at + i + 8 * j, v_and(v_srl(packed[i], 2 * (unsigned)j), v_set8(3)));
        }
    }
}

/* The scales of Q3_K (q3_k_scale() explains them) and d behind them are the last 14 of 110 bytes;
 * the 16 bytes that are loaded begin two earlier. */
INLINE void expand_q3_k_header(const unsigned char *rows, size_t stride, const struct group *group)
{
    VECTOR h[4], packed[3];
    v_load_rows(rows + BLOCK_BYTES_Q3_K - 16, stride, h);
    put_d(group, v_srl(h[3], 16));
    UNROLL
    for (int i = 0; i < 3; i++)
        packed[i] = v_or(v_srl(h[i], 16), v_sll(h[i + 1], 16));
    UNROLL
    for (int i = 0; i < 4; i++) {
        VECTOR low = i < 2 ? low_nibbles(packed[i]) : high_nibbles(packed[i - 2]);
        VECTOR scale = v_add8(or_and(low, move(packed[2], 2 * i, 4), 0x30), v_set8(-32));
        put_scales_signed(group, i, scale);
        if (PAIRS_Q3_K)
            put_pairs_signed(group->out->scale_pair, group, i, scale);
    }
}

INLINE void group_q3_k(const unsigned char *rows, size_t stride, const struct group *group)
{
    expand_q3_k_header(rows, stride, group);
    for (int chunk = 0; chunk < 2; chunk++) {
        VECTOR high[4];
        v_load_rows(rows + 16 * chunk, stride, high);
        for (int half = 0; half < 2; half++) {
            VECTOR packed[4];
            v_load_rows(rows + 32 + 32 * half + 16 * chunk, stride, packed);
            int at = 32 * half + 4 * chunk;
            UNROLL
            for (int i = 0; i < 4; i++) {
                UNROLL
                for (int j = 0; j < 4; j++)
                    put_q(group, at + i + 8 * j,
                          or_and(v_and(v_srl(packed[i], 2 * (unsigned)j), v_set8(3)),
                                 move(high[i], j, 2), 4));
                high[i] = v_srl(high[i], 4);
            }
        }
    }
}

INLINE void group_iq4_xs(const unsigned char *rows, size_t stride, const struct group *group)
{
    VECTOR header = v_gather(rows, stride), low = v_gather(rows + 4, stride);
    VECTOR high = v_srl(header, 16);
    put_d(group, header);
    UNROLL
    for (int b = 0; b < 8; b++) {
        VECTOR nibble = v_and(v_srl(low, (unsigned)(4 * b)), v_set32(15));
        VECTOR upper = v_and(v_srl(high, (unsigned)(2 * b)), v_set32(3));
        VECTOR scale = v_sub32(v_or(nibble, v_sll(upper, 4)), v_set32(32));
        v_store(group->out->scale[b] + 2 * group->g, v_scale_wide(scale));
    }
    for (size_t b = 0; b < 8; b++) {
        const struct group part = {group->out, b, group->g};
        expand_codes(rows + 8 + 16 * b, stride, iq4_values, BIAS_8BIT, &part);
    }
}

#define DEFINE_EXPAND(type, tag)                                                                   \
    static void expand_##tag(const unsigned char *rows, size_t stride, int blocks,                 \
                             struct panel *out)                                                    \
    {                                                                                              \
        for (size_t b = 0; b < (size_t)blocks; b++, rows += BLOCK_BYTES_##type) {                  \
            UNROLL                                                                                 \
            for (size_t g = 0; g < PANEL_ROWS; g += GROUP_ROWS) {                                  \
                const struct group group = {out, b, g};                                            \
                group_##tag(rows + g * stride, stride, &group);                                    \
            }                                                                                      \
        }                                                                                          \
    }
DEFINE_EXPAND(Q4_0, q4_0)
DEFINE_EXPAND(Q4_1, q4_1)
DEFINE_EXPAND(Q5_0, q5_0)
DEFINE_EXPAND(Q5_1, q5_1)
DEFINE_EXPAND(Q8_0, q8_0)
DEFINE_EXPAND(IQ4_NL, iq4_nl)
DEFINE_EXPAND(MXFP4, mxfp4)
DEFINE_EXPAND(Q2_K, q2_k)
DEFINE_EXPAND(Q3_K, q3_k)
DEFINE_EXPAND(Q4_K, q4_k)
DEFINE_EXPAND(Q5_K, q5_k)
DEFINE_EXPAND(Q6_K, q6_k)
DEFINE_EXPAND(IQ4_XS, iq4_xs)
#undef DEFINE_EXPAND

#endif
