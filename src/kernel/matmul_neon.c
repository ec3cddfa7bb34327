/* Products with NEON's dot products: a lane of sdot's accumulator is a row, its second operand four
 * elements of a column. A tile of 8 rows and 4 columns takes 8 sdot for 2 loads of weights, and one
 * load of a column serves four such steps. */
#include "kernel/neon_unpack.h"
#include "kernel/tiers.h"

#define QUANTIZE(name) name##_neon
#include "kernel/quantize_tmpl.h"

/* A chunk: [element / 4][row][element % 4]. */
INLINE void put_rows(int8_t *chunk, int quad, const int8x16_t rows[4])
{
    int32x4_t a = vreinterpretq_s32_s8(rows[0]), b = vreinterpretq_s32_s8(rows[1]);
    int32x4_t c = vreinterpretq_s32_s8(rows[2]), d = vreinterpretq_s32_s8(rows[3]);
    int64x2_t ab[2] = {vreinterpretq_s64_s32(vzip1q_s32(a, b)),
                       vreinterpretq_s64_s32(vzip2q_s32(a, b))};
    int64x2_t cd[2] = {vreinterpretq_s64_s32(vzip1q_s32(c, d)),
                       vreinterpretq_s64_s32(vzip2q_s32(c, d))};
    UNROLL
    for (int i = 0; i < 2; i++) {
        vst1q_s8(chunk + 64 * i + 16 * quad, vreinterpretq_s8_s64(vzip1q_s64(ab[i], cd[i])));
        vst1q_s8(chunk + 64 * i + 32 + 16 * quad, vreinterpretq_s8_s64(vzip2q_s64(ab[i], cd[i])));
    }
}

INLINE void dot_tile(const int8_t *q, const int8_t *const a[4], int chunks, int columns,
                     int32x4_t dot[2][4])
{
    UNROLL
    for (int c = 0; c < columns; c++)
        dot[0][c] = dot[1][c] = vdupq_n_s32(0);
    UNROLL
    for (int i = 0; i < chunks; i++) {
        int8x16_t x[4];
        UNROLL
        for (int c = 0; c < columns; c++)
            x[c] = vld1q_s8(a[c] + 16 * i);
/* a lane must be a literal */
#define STEP(lane)                                                                                 \
    do {                                                                                           \
        int8x16_t low = vld1q_s8(q + 128 * i + 32 * lane);                                         \
        int8x16_t high = vld1q_s8(q + 128 * i + 32 * lane + 16);                                   \
        UNROLL                                                                                     \
        for (int c = 0; c < columns; c++) {                                                        \
            dot[0][c] = vdotq_laneq_s32(dot[0][c], low, x[c], lane);                               \
            dot[1][c] = vdotq_laneq_s32(dot[1][c], high, x[c], lane);                              \
        }                                                                                          \
    } while (0)
        STEP(0);
        STEP(1);
        STEP(2);
        STEP(3);
#undef STEP
    }
}

#include "kernel/matmul_neon_tmpl.h"

void matmul_fill_neon(struct kernels *kernels)
{
    quantize_fill_neon(kernels);
    fill_products(kernels);
    kernels->matmul[TYPE_F32] = matmul_floats_neon;
    kernels->matmul[TYPE_F16] = matmul_floats_neon;
    kernels->matmul[TYPE_BF16] = matmul_floats_neon;
}
