/* Products with FEAT_I8MM: smmla multiplies two rows of eight elements with two columns, twice the
 * work of sdot. Products with few columns are matmul_neon.c's: half of each smmla would be idle. */
#include "kernel/neon_unpack.h"
#include "kernel/tiers.h"

INLINE int8x16_t low_halves(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

INLINE int8x16_t high_halves(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

/* A chunk: [row / 2][element / 8][row % 2][element % 8]. */
INLINE void put_rows(int8_t *chunk, int quad, const int8x16_t rows[4])
{
    UNROLL
    for (int p = 0; p < 2; p++) {
        int8_t *out = chunk + 64 * quad + 32 * p;
        vst1q_s8(out, low_halves(rows[2 * p], rows[2 * p + 1]));
        vst1q_s8(out + 16, high_halves(rows[2 * p], rows[2 * p + 1]));
    }
}

/* sum[p][pair] holds the rows 2p and 2p + 1 times two columns, the columns side by side. Of an odd
 * number of columns the last one is taken twice. */
INLINE void dot_tile(const int8_t *q, const int8_t *const a[4], int chunks, int columns,
                     int32x4_t dot[2][4])
{
    int32x4_t sum[4][2];
    UNROLL
    for (int p = 0; p < 4; p++)
        sum[p][0] = sum[p][1] = vdupq_n_s32(0);
    UNROLL
    for (int i = 0; i < chunks; i++) {
        UNROLL
        for (int pair = 0; pair < (columns + 1) / 2; pair++) {
            int second = 2 * pair + 1 < columns ? 2 * pair + 1 : 2 * pair;
            int8x16_t x = vld1q_s8(a[2 * pair] + 16 * i), y = vld1q_s8(a[second] + 16 * i);
            UNROLL
            for (int p = 0; p < 4; p++) {
                const int8_t *w = q + 128 * i + 32 * p;
                sum[p][pair] = vmmlaq_s32(sum[p][pair], vld1q_s8(w), low_halves(x, y));
                sum[p][pair] = vmmlaq_s32(sum[p][pair], vld1q_s8(w + 16), high_halves(x, y));
            }
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < 2; h++)
            dot[h][c] = c % 2 == 0 ? vuzp1q_s32(sum[2 * h][c / 2], sum[2 * h + 1][c / 2])
                                   : vuzp2q_s32(sum[2 * h][c / 2], sum[2 * h + 1][c / 2]);
    }
}

#include "kernel/matmul_neon_tmpl.h"

void matmul_fill_i8mm(struct kernels *kernels)
{
    fill_products(kernels);
}
