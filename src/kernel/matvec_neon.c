/* Products with one or two columns, straight from the file's layout: a vector holds consecutive
 * elements of one row, which need no shuffles. Inside a block sums are exact integers, so it does
 * not matter that each lane sums a quarter of them; four rows go side by side, and where a block
 * ends their sums become one vector, lane = row, for the float steps that matmul_ref.c prescribes.
 *
 * Per 64 elements of a row Q4_K takes 2 loads, 4 instructions to unpack, 4 dot products, 2
 * multiplications by scales and 2 zeros: 14 for 36 bytes from memory. */
#include "kernel/matvec_neon.h"

#include <assert.h>

#include "kernel/neon_unpack.h"

enum { ROWS = 4, COLUMNS = 2 };

/* Four rows times one or two columns. */
struct tile {
    const unsigned char *rows[ROWS]; /* behind the last row of the task: that row again */
    const unsigned char *x[COLUMNS];
    size_t blocks;
};

/* The blocks that the loop has reached. */
struct four_blocks {
    const unsigned char *at[ROWS];
};

INLINE struct four_blocks first_blocks(const struct tile *tile)
{
    return (struct four_blocks){{tile->rows[0], tile->rows[1], tile->rows[2], tile->rows[3]}};
}

INLINE void next_blocks(struct four_blocks *blocks, size_t bytes)
{
    UNROLL
    for (int r = 0; r < ROWS; r++)
        blocks->at[r] += bytes;
}

/* Lane r: the sum of the lanes of rows[r]. */
INLINE int32x4_t sum_rows(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

INLINE int32x4_t dot_32(const int8x16_t q[2], int8x16_t low, int8x16_t high)
{
    return vdotq_s32(vdotq_s32(vdupq_n_s32(0), q[0], low), q[1], high);
}

/* ---- blocks of 32 ---- */

INLINE void tile_q8(uint32_t type, size_t block_bytes, const struct tile *tile, int columns,
                    float32x4_t total[COLUMNS])
{
    const int offset = type_offset(type);
    struct four_blocks blocks = first_blocks(tile);
    for (size_t n = 0; n < tile->blocks; n++) {
        const struct activation_q8 *x[COLUMNS];
        int8x16_t a[COLUMNS][2];
        int32x4_t dot[COLUMNS][ROWS];
        UNROLL
        for (int c = 0; c < columns; c++) {
            x[c] = (const struct activation_q8 *)(const void *)tile->x[c] + n;
            a[c][0] = vld1q_s8(x[c]->q);
            a[c][1] = vld1q_s8(x[c]->q + 16);
        }
        UNROLL
        for (int r = 0; r < ROWS; r++) {
            int8x16_t q[2];
            unpack_block(type, blocks.at[r], q);
            UNROLL
            for (int c = 0; c < columns; c++)
                dot[c][r] = dot_32(q, a[c][0], a[c][1]);
        }
        float32x4_t d = gather_d(type, blocks.at);
        float32x4_t m = type_has_minima(type) ? gather_m(type, blocks.at) : d;
        UNROLL
        for (int c = 0; c < columns; c++) {
            int32x4_t s = sum_rows(dot[c][0], dot[c][1], dot[c][2], dot[c][3]);
            if (offset != 0)
                s = vaddq_s32(s, vdupq_n_s32(offset == 8 ? x[c]->sum_8 : x[c]->sum_16));
            float32x4_t t = vmulq_f32(d, vcvtq_f32_s32(s));
            if (type_has_minima(type))
                t = vfmaq_f32(t, m, vdupq_n_f32(x[c]->sum));
            total[c] = vfmaq_f32(total[c], vdupq_n_f32(x[c]->d), t);
        }
        next_blocks(&blocks, block_bytes);
    }
}

/* ---- superblocks ---- */

/* What a row of one superblock comes to: lanes that add up to S and T. */
struct row_sums {
    struct k_scales scales;
    int32x4_t s[COLUMNS], t[COLUMNS];
};

/* Lanes that add up to the sum over the sub-blocks of numbers[b] * sum_b(a). */
INLINE int32x4_t dot_sums(const int16x8_t numbers[2], const struct activation_q8_256 *x,
                          int sub_block)
{
    const int16_t *sums = sub_block == 32 ? x->sum32 : x->sum16;
    int16x8_t sum = vld1q_s16(sums);
    int32x4_t dot = vmull_s16(vget_low_s16(numbers[0]), vget_low_s16(sum));
    dot = vmlal_high_s16(dot, numbers[0], sum);
    if (sub_block == 16) {
        sum = vld1q_s16(sums + 8);
        dot = vmlal_s16(dot, vget_low_s16(numbers[1]), vget_low_s16(sum));
        dot = vmlal_high_s16(dot, numbers[1], sum);
    }
    return dot;
}

/* The first values of the sums: what the offset of the elements makes of them. */
INLINE int32x4_t begin_sum(uint32_t type, const struct k_scales *scales,
                           const struct activation_q8_256 *x)
{
    if (type_offset(type) == 0)
        return vdupq_n_s32(0);
    return vmulq_n_s32(dot_sums(scales->scale, x, type_sub_block(type)), -type_offset(type));
}

INLINE void begin_row(uint32_t type, const unsigned char *block,
                      const struct activation_q8_256 *const x[COLUMNS], int columns,
                      struct row_sums *row)
{
    unpack_scales(type, block, &row->scales);
    UNROLL
    for (int c = 0; c < columns; c++) {
        row->s[c] = begin_sum(type, &row->scales, x[c]);
        row->t[c] = type_has_minima(type) ? dot_sums(row->scales.min, x[c], type_sub_block(type))
                                          : row->s[c];
    }
}

/* 64 elements of a row, and the same of a column. `scale`: those of its sub-blocks, from `lane` on.
 */
INLINE int32x4_t add_part(int sub_block, int32x4_t s, const int8x16_t q[4], const int8x16_t a[4],
                          int32x4_t scale, int lane)
{
    if (sub_block == 32) {
        s = scaled_add(s, dot_32(q, a[0], a[1]), scale, lane);
        return scaled_add(s, dot_32(q + 2, a[2], a[3]), scale, lane + 1);
    }
    UNROLL
    for (int i = 0; i < 4; i++)
        s = scaled_add(s, vdotq_s32(vdupq_n_s32(0), q[i], a[i]), scale, lane + i);
    return s;
}

INLINE void add_row_part(uint32_t type, const unsigned char *block, int part,
                         int8x16_t a[COLUMNS][4], int columns, struct row_sums *row)
{
    int sub_block = type_sub_block(type), first = 64 / sub_block * part;
    int16x8_t eight = row->scales.scale[first / 8];
    int32x4_t scale = first % 8 < 4 ? vmovl_s16(vget_low_s16(eight)) : vmovl_high_s16(eight);
    int8x16_t q[4];
    unpack_part(type, block, part, q);
    UNROLL
    for (int c = 0; c < columns; c++)
        row->s[c] = add_part(sub_block, row->s[c], q, a[c], scale, first % 4);
}

INLINE void tile_q8_256(uint32_t type, size_t block_bytes, const struct tile *tile, int columns,
                        float32x4_t total[COLUMNS])
{
    struct four_blocks blocks = first_blocks(tile);
    for (size_t n = 0; n < tile->blocks; n++) {
        const struct activation_q8_256 *x[COLUMNS];
        struct row_sums row[ROWS];
        UNROLL
        for (int c = 0; c < columns; c++)
            x[c] = (const struct activation_q8_256 *)(const void *)tile->x[c] + n;
        UNROLL
        for (int r = 0; r < ROWS; r++)
            begin_row(type, blocks.at[r], x, columns, &row[r]);
        UNROLL
        for (int part = 0; part < 4; part++) {
            int8x16_t a[COLUMNS][4];
            UNROLL
            for (int i = 0; i < 4 * columns; i++)
                a[i / 4][i % 4] = vld1q_s8(x[i / 4]->q + 64 * part + i % 4 * 16);
            UNROLL
            for (int r = 0; r < ROWS; r++)
                add_row_part(type, blocks.at[r], part, a, columns, &row[r]);
        }
        float32x4_t d = gather_d(type, blocks.at);
        float32x4_t m = type_has_minima(type) ? gather_m(type, blocks.at) : d;
        UNROLL
        for (int c = 0; c < columns; c++) {
            int32x4_t dot = sum_rows(row[0].s[c], row[1].s[c], row[2].s[c], row[3].s[c]);
            float32x4_t value = vmulq_f32(d, vcvtq_f32_s32(dot));
            if (type_has_minima(type)) {
                dot = sum_rows(row[0].t[c], row[1].t[c], row[2].t[c], row[3].t[c]);
                value = vfmaq_f32(value, m, vcvtq_f32_s32(dot));
            }
            total[c] = vfmaq_f32(total[c], vdupq_n_f32(x[c]->d), value);
        }
        next_blocks(&blocks, block_bytes);
    }
}

/* ---- tasks ---- */

struct matvec_type {
    size_t block_bytes, block_elements;
    void (*tile[COLUMNS])(const struct tile *tile,
                          float *sums); /* index + 1 columns; sums[column][4] */
};

static void multiply(const struct matmul *task, const struct matvec_type *type)
{
    size_t x_stride = activation_row_bytes(activation_form_of(task->type), task->k);
    assert(task->k % type->block_elements == 0);
    for (size_t row = task->row_begin; row < task->row_end; row += ROWS) {
        size_t count = task->row_end - row < ROWS ? task->row_end - row : ROWS, columns;
        for (size_t c = 0; c < task->columns; c += columns) {
            struct tile tile = {.blocks = task->k / type->block_elements};
            float sums[COLUMNS][ROWS];
            columns = task->columns - c < COLUMNS ? 1 : COLUMNS;
            for (size_t r = 0; r < ROWS; r++)
                tile.rows[r] = (const unsigned char *)task->weights +
                               (row + (r < count ? r : count - 1)) * task->row_bytes;
            for (size_t i = 0; i < columns; i++)
                tile.x[i] = (const unsigned char *)task->x + (c + i) * x_stride;
            type->tile[columns - 1](&tile, sums[0]);
            for (size_t i = 0; i < columns; i++)
                memcpy(task->y + (c + i) * task->y_stride + row, sums[i], count * sizeof(float));
        }
    }
}

#define DEFINE_TILE(type, tag, body, columns)                                                      \
    static void tile_##tag##_##columns(const struct tile *tile, float *sums)                       \
    {                                                                                              \
        float32x4_t total[COLUMNS] = {vdupq_n_f32(0.0f), vdupq_n_f32(0.0f)};                       \
        body(TYPE_##type, BLOCK_BYTES_##type, tile, columns, total);                               \
        for (int c = 0; c < columns; c++)                                                          \
            vst1q_f32(sums + ROWS * c, total[c]);                                                  \
    }
#define DEFINE_BLOCK_TILES(type, tag)                                                              \
    DEFINE_TILE(type, tag, tile_q8, 1)                                                             \
    DEFINE_TILE(type, tag, tile_q8, 2)
#define DEFINE_SUPERBLOCK_TILES(type, tag)                                                         \
    DEFINE_TILE(type, tag, tile_q8_256, 1)                                                         \
    DEFINE_TILE(type, tag, tile_q8_256, 2)
NEON_BLOCK_TYPES(DEFINE_BLOCK_TILES)
NEON_SUPERBLOCK_TYPES(DEFINE_SUPERBLOCK_TILES)

bool matvec_neon(const struct matmul *task)
{
#define BLOCK_ENTRY(type, tag)                                                                     \
    [TYPE_##type] = {BLOCK_BYTES_##type, BLOCK_SIZE, {tile_##tag##_1, tile_##tag##_2}},
#define SUPERBLOCK_ENTRY(type, tag)                                                                \
    [TYPE_##type] = {BLOCK_BYTES_##type, SUPERBLOCK_SIZE, {tile_##tag##_1, tile_##tag##_2}},
    static const struct matvec_type types[] = {NEON_BLOCK_TYPES(BLOCK_ENTRY)
                                                   NEON_SUPERBLOCK_TYPES(SUPERBLOCK_ENTRY)};
    multiply(task, &types[task->type]);
    return true;
}
