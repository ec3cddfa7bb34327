/* Rows of floats on ARM: lanes are elements, 16 partial sums per product in four vectors, as
 * matmul_ref.c prescribes. */
#include <string.h>

#include "kernel/matvec_neon.h"
#include "kernel/neon_unpack.h"

/* Two rows and three columns: 24 of the 32 registers are sums, which is more than hides the latency
 * of two multiplications per cycle. */
enum { ROWS = 2, COLUMNS = 3 };

struct tile {
    const unsigned char *rows[ROWS];
    const float *x[COLUMNS];
    size_t k;
};

INLINE size_t float_bytes(uint32_t type)
{
    return type == TYPE_F32 ? 4 : 2;
}

/* Four weights, exactly. */
INLINE float32x4_t load_four(uint32_t type, const unsigned char *weights)
{
    uint16x4_t halves = vreinterpret_u16_u8(vld1_u8(weights));
    if (type == TYPE_F16)
        return vcvt_f32_f16(vreinterpret_f16_u16(halves));
    if (type == TYPE_BF16)
        return vreinterpretq_f32_u32(vshll_n_u16(halves, 16));
    return vreinterpretq_f32_u8(vld1q_u8(weights));
}

/* 16 elements, at rows[r], into the partial sums. */
INLINE void step(uint32_t type, const unsigned char *const rows[ROWS], const struct tile *tile,
                 size_t i, int columns, float32x4_t sums[ROWS][COLUMNS][4])
{
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        float32x4_t w[ROWS];
        UNROLL
        for (int r = 0; r < ROWS; r++)
            w[r] = load_four(type, rows[r] + 4 * j * float_bytes(type));
        UNROLL
        for (int c = 0; c < columns; c++) {
            float32x4_t x = vld1q_f32(tile->x[c] + i + 4 * j);
            UNROLL
            for (int r = 0; r < ROWS; r++)
                sums[r][c][j] = vfmaq_f32(sums[r][c][j], w[r], x);
        }
    }
}

/* Lanes i and i + 8, then + 4, + 2, + 1. */
INLINE float sum_lanes(const float32x4_t sums[4])
{
    float32x4_t four = vaddq_f32(vaddq_f32(sums[0], sums[2]), vaddq_f32(sums[1], sums[3]));
    return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}

INLINE void multiply_tile(uint32_t type, const struct tile *tile, int columns, float *out)
{
    size_t size = float_bytes(type), i = 0;
    float32x4_t sums[ROWS][COLUMNS][4];
    const unsigned char *rows[ROWS];
    UNROLL
    for (int r = 0; r < ROWS; r++) {
        UNROLL
        for (int n = 0; n < columns * 4; n++)
            sums[r][n / 4][n % 4] = vdupq_n_f32(0.0f);
    }
    for (; i + 16 <= tile->k; i += 16) {
        UNROLL
        for (int r = 0; r < ROWS; r++)
            rows[r] = tile->rows[r] + i * size;
        step(type, rows, tile, i, columns, sums);
    }
    if (i < tile->k) { /* the rest, filled up with zeros */
        unsigned char rest[ROWS][64] = {{0}};
        for (int r = 0; r < ROWS; r++) {
            memcpy(rest[r], tile->rows[r] + i * size, (tile->k - i) * size);
            rows[r] = rest[r];
        }
        step(type, rows, tile, i, columns, sums);
    }
    UNROLL
    for (int n = 0; n < ROWS * columns; n++)
        out[n] = sum_lanes(sums[n % ROWS][n / ROWS]);
}

#define DEFINE_TILE(type, tag, columns)                                                            \
    static void tile_##tag##_##columns(const struct tile *tile, float *out)                        \
    {                                                                                              \
        multiply_tile(TYPE_##type, tile, columns, out);                                            \
    }
#define DEFINE_TILES(type, tag)                                                                    \
    DEFINE_TILE(type, tag, 1)                                                                      \
    DEFINE_TILE(type, tag, 2)                                                                      \
    DEFINE_TILE(type, tag, 3)
DEFINE_TILES(F32, f32)
DEFINE_TILES(F16, f16)
DEFINE_TILES(BF16, bf16)

/* out[column][row]; index + 1 columns */
typedef void tile_function(const struct tile *tile, float *out);

static tile_function *const *tiles_of(uint32_t type)
{
    static tile_function *const f32[] = {tile_f32_1, tile_f32_2, tile_f32_3};
    static tile_function *const f16[] = {tile_f16_1, tile_f16_2, tile_f16_3};
    static tile_function *const bf16[] = {tile_bf16_1, tile_bf16_2, tile_bf16_3};
    return type == TYPE_F32 ? f32 : type == TYPE_F16 ? f16 : bf16;
}

/* Columns that stay in the L2 cache while all rows pass by. */
static size_t columns_at_once(size_t x_stride)
{
    size_t columns = 256 * 1024 / x_stride / COLUMNS * COLUMNS;
    return columns < 8 * COLUMNS ? 8 * COLUMNS : columns;
}

static void multiply_columns(const struct matmul *task, size_t begin, size_t end)
{
    size_t x_stride = activation_row_bytes(ACTIVATION_F32, task->k), columns;
    for (size_t row = task->row_begin; row < task->row_end; row += ROWS) {
        struct tile tile = {.k = task->k};
        size_t count = task->row_end - row < ROWS ? 1 : ROWS;
        for (size_t r = 0; r < ROWS; r++)
            tile.rows[r] = (const unsigned char *)task->weights +
                           (row + (r < count ? r : 0)) * task->row_bytes;
        for (size_t c = begin; c < end; c += columns) {
            float out[COLUMNS][ROWS];
            columns = end - c < COLUMNS ? end - c : COLUMNS;
            for (size_t i = 0; i < columns; i++)
                tile.x[i] = (const void *)((const unsigned char *)task->x + (c + i) * x_stride);
            tiles_of(task->type)[columns - 1](&tile, out[0]);
            for (size_t i = 0; i < columns; i++)
                memcpy(task->y + (c + i) * task->y_stride + row, out[i], count * sizeof(float));
        }
    }
}

void matmul_floats_neon(const struct matmul *task)
{
    size_t most = columns_at_once(activation_row_bytes(ACTIVATION_F32, task->k)), end;
    for (size_t c = 0; c < task->columns; c = end) {
        end = task->columns - c < most ? task->columns : c + most;
        multiply_columns(task, c, end);
    }
}
