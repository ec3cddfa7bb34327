/* Products with many columns on ARM. Eight rows of weights are expanded, 256 elements at a time,
 * into signed bytes that stay in the L1 cache while all columns pass by in tiles of four. Included
 * by matmul_neon.c and matmul_i8mm.c, which say how the bytes lie and are multiplied:
 *
 *   put_rows(chunk, quad, rows)   stores 16 elements of the rows 4 * quad to 4 * quad + 3 into a
 *                                 chunk of 8 rows
 *   dot_tile(q, a, chunks, columns, dot)
 *                                 dot[quad][column], lane = row: sums over one or two chunks */
#ifndef KERNEL_MATMUL_NEON_TMPL_H
#define KERNEL_MATMUL_NEON_TMPL_H

#include <assert.h>

#include "kernel/matvec_neon.h"
#include "kernel/neon_unpack.h"
#include "kernel/outliers.h"

enum {
    TILE_ROWS = 8,
    TILE_COLUMNS = 4,
    TILES =
        4, /* of rows, expanded one after the other: then a column is fetched once for 32 rows */
    STRIPE_ROWS = TILE_ROWS * TILES,
    COLUMNS_AT_ONCE = 256,
    X_BYTES = 256 * 1024, /* of activations: about half of a common L2 cache */
};

/* 256 elements of 8 rows: 8 blocks of 32, or one superblock. */
struct row_tile {
    _Alignas(64) int8_t q[16][128];   /* [element / 16], then as put_rows() likes it */
    float d[8][8], m[8][8];           /* [block][row]; [0] in superblocks */
    int16_t scale[16][8], min[16][8]; /* [sub-block][row] */
};

/* Four rows of one step: pointers to their blocks. */
struct four_rows {
    const unsigned char *block[4];
};

/* ---- expanding ---- */

INLINE void put_q(uint32_t type, int8_t *chunk, int quad, int8x16_t rows[4])
{
    UNROLL
    for (int r = 0; r < 4; r++) {
        if (type_offset(type) != 0)
            rows[r] = vsubq_s8(rows[r], vdupq_n_s8((int8_t)type_offset(type)));
    }
    put_rows(chunk, quad, rows);
}

INLINE void put_factors(uint32_t type, const unsigned char *const block[4], float *d, float *m)
{
    vst1q_f32(d, gather_d(type, block));
    if (type_has_minima(type))
        vst1q_f32(m, gather_m(type, block));
}

INLINE void expand_blocks(uint32_t type, size_t block_bytes, struct four_rows rows, int blocks,
                          int quad, struct row_tile *out)
{
    for (int b = 0; b < blocks; b++) {
        int8x16_t q[4][2];
        UNROLL
        for (int r = 0; r < 4; r++)
            unpack_block(type, rows.block[r], q[r]);
        UNROLL
        for (int i = 0; i < 2; i++) {
            int8x16_t four[4] = {q[0][i], q[1][i], q[2][i], q[3][i]};
            put_q(type, out->q[2 * b + i], quad, four);
        }
        put_factors(type, rows.block, out->d[b] + 4 * quad, out->m[b] + 4 * quad);
        UNROLL
        for (int r = 0; r < 4; r++)
            rows.block[r] += block_bytes;
    }
}

/* Eight numbers of each of four rows: out[i][r] = rows[r][i]. */
INLINE void put_transposed(int16_t (*out)[8], int16x8_t a, int16x8_t b, int16x8_t c, int16x8_t d)
{
    int32x4_t ab[2] = {vreinterpretq_s32_s16(vzip1q_s16(a, b)),
                       vreinterpretq_s32_s16(vzip2q_s16(a, b))};
    int32x4_t cd[2] = {vreinterpretq_s32_s16(vzip1q_s16(c, d)),
                       vreinterpretq_s32_s16(vzip2q_s16(c, d))};
    UNROLL
    for (int i = 0; i < 2; i++) {
        int16x8_t first = vreinterpretq_s16_s32(vzip1q_s32(ab[i], cd[i]));
        int16x8_t second = vreinterpretq_s16_s32(vzip2q_s32(ab[i], cd[i]));
        vst1_s16(out[4 * i], vget_low_s16(first));
        vst1_s16(out[4 * i + 1], vget_high_s16(first));
        vst1_s16(out[4 * i + 2], vget_low_s16(second));
        vst1_s16(out[4 * i + 3], vget_high_s16(second));
    }
}

INLINE void expand_superblock(uint32_t type, struct four_rows rows, int quad, struct row_tile *out)
{
    struct k_scales scales[4];
    UNROLL
    for (int r = 0; r < 4; r++)
        unpack_scales(type, rows.block[r], &scales[r]);
    UNROLL
    for (int i = 0; i < STEP_ELEMENTS / type_sub_block(type) / 8; i++) {
        int16_t(*scale)[8] = (int16_t(*)[8])(out->scale[8 * i] + 4 * quad);
        int16_t(*min)[8] = (int16_t(*)[8])(out->min[8 * i] + 4 * quad);
        put_transposed(scale, scales[0].scale[i], scales[1].scale[i], scales[2].scale[i],
                       scales[3].scale[i]);
        if (type_has_minima(type))
            put_transposed(min, scales[0].min[i], scales[1].min[i], scales[2].min[i],
                           scales[3].min[i]);
    }
    UNROLL
    for (int part = 0; part < 4; part++) {
        int8x16_t q[4][4];
        UNROLL
        for (int r = 0; r < 4; r++)
            unpack_part(type, rows.block[r], part, q[r]);
        UNROLL
        for (int i = 0; i < 4; i++) {
            int8x16_t four[4] = {q[0][i], q[1][i], q[2][i], q[3][i]};
            put_q(type, out->q[4 * part + i], quad, four);
        }
    }
    put_factors(type, rows.block, out->d[0] + 4 * quad, out->m[0] + 4 * quad);
}

/* ---- sweeping ---- */

/* sums[column][row] += products over one step of a tile of rows. */
struct column_sweep {
    const struct row_tile *rows;
    const unsigned char *x; /* the first column's activation blocks of this step */
    size_t x_stride;
    uint32_t groups; /* a bit for each 32 elements that are multiplied; all others are zero */
    float *sums;     /* STRIPE_ROWS floats from one column to the next */
};

INLINE void sweep_q8(const struct column_sweep *task, int columns, bool minima)
{
    const struct activation_q8 *x[TILE_COLUMNS];
    float32x4_t sums[2][TILE_COLUMNS];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        UNROLL
        for (int h = 0; h < 2; h++)
            sums[h][c] = vld1q_f32(task->sums + c * STRIPE_ROWS + 4 * h);
    }
    for (uint32_t rest = task->groups; rest != 0; rest &= rest - 1) {
        int b = __builtin_ctz(rest);
        int32x4_t dot[2][TILE_COLUMNS];
        const int8_t *a[TILE_COLUMNS];
        UNROLL
        for (int c = 0; c < columns; c++)
            a[c] = x[c][b].q;
        dot_tile(task->rows->q[2 * b], a, 2, columns, dot);
        UNROLL
        for (int h = 0; h < 2; h++) {
            float32x4_t d = vld1q_f32(task->rows->d[b] + 4 * h);
            UNROLL
            for (int c = 0; c < columns; c++) {
                float32x4_t t = vmulq_f32(d, vcvtq_f32_s32(dot[h][c]));
                if (minima)
                    t = vfmaq_f32(t, vld1q_f32(task->rows->m[b] + 4 * h), vdupq_n_f32(x[c][b].sum));
                sums[h][c] = vfmaq_f32(sums[h][c], vdupq_n_f32(x[c][b].d), t);
            }
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < 2; h++)
            vst1q_f32(task->sums + c * STRIPE_ROWS + 4 * h, sums[h][c]);
    }
}

/* sums + numbers * the sum of the activations of sub-block 8 * i + lane */
INLINE int32x4_t add_sum(int32x4_t sums, const int16_t *numbers, int16x8_t x, int lane)
{
    int16x4_t four = vld1_s16(numbers);
    switch (lane) {
    case 0:
        return vmlal_laneq_s16(sums, four, x, 0);
    case 1:
        return vmlal_laneq_s16(sums, four, x, 1);
    case 2:
        return vmlal_laneq_s16(sums, four, x, 2);
    case 3:
        return vmlal_laneq_s16(sums, four, x, 3);
    case 4:
        return vmlal_laneq_s16(sums, four, x, 4);
    case 5:
        return vmlal_laneq_s16(sums, four, x, 5);
    case 6:
        return vmlal_laneq_s16(sums, four, x, 6);
    default:
        return vmlal_laneq_s16(sums, four, x, 7);
    }
}

INLINE void add_minima(const struct column_sweep *task, const struct activation_q8_256 *x,
                       int sub_block, int h, float32x4_t *t)
{
    const int16_t *sums = sub_block == 32 ? x->sum32 : x->sum16;
    int32x4_t dot = vdupq_n_s32(0);
    UNROLL
    for (int i = 0; i < STEP_ELEMENTS / sub_block / 8; i++) {
        int16x8_t eight = vld1q_s16(sums + 8 * i);
        UNROLL
        for (int lane = 0; lane < 8; lane++)
            dot = add_sum(dot, task->rows->min[8 * i + lane] + 4 * h, eight, lane);
    }
    *t = vfmaq_f32(*t, vld1q_f32(task->rows->m[0] + 4 * h), vcvtq_f32_s32(dot));
}

INLINE void sweep_q8_256(const struct column_sweep *task, int columns, int sub_block, bool minima)
{
    const struct activation_q8_256 *x[TILE_COLUMNS];
    int32x4_t total[2][TILE_COLUMNS];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        total[0][c] = total[1][c] = vdupq_n_s32(0);
    }
    const uint32_t ends = sub_block == 16 ? 3 : 1; /* a group has one sub-block, or two */
    uint32_t rest = 0;
    for (uint32_t left = task->groups; left != 0; left &= left - 1)
        rest |= ends << (uint32_t)__builtin_ctz(left) * (32 / (uint32_t)sub_block);
    for (; rest != 0; rest &= rest - 1) {
        int b = __builtin_ctz(rest);
        int32x4_t dot[2][TILE_COLUMNS];
        const int8_t *a[TILE_COLUMNS];
        UNROLL
        for (int c = 0; c < columns; c++)
            a[c] = x[c]->q + b * sub_block;
        dot_tile(task->rows->q[b * sub_block / 16], a, sub_block / 16, columns, dot);
        UNROLL
        for (int h = 0; h < 2; h++) {
            int32x4_t scale = vmovl_s16(vld1_s16(task->rows->scale[b] + 4 * h));
            UNROLL
            for (int c = 0; c < columns; c++)
                total[h][c] = vmlaq_s32(total[h][c], dot[h][c], scale);
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < 2; h++) {
            float *sums = task->sums + c * STRIPE_ROWS + 4 * h;
            float32x4_t t =
                vmulq_f32(vld1q_f32(task->rows->d[0] + 4 * h), vcvtq_f32_s32(total[h][c]));
            if (minima)
                add_minima(task, x[c], sub_block, h, &t);
            vst1q_f32(sums, vfmaq_f32(vld1q_f32(sums), vdupq_n_f32(x[c]->d), t));
        }
    }
}

#define DEFINE_SWEEP(name, columns, body, ...)                                                     \
    static void name##_##columns(const struct column_sweep *task)                                  \
    {                                                                                              \
        body(task, columns, __VA_ARGS__);                                                          \
    }
#define DEFINE_SWEEPS(name, ...)                                                                   \
    DEFINE_SWEEP(name, 1, __VA_ARGS__)                                                             \
    DEFINE_SWEEP(name, 2, __VA_ARGS__)                                                             \
    DEFINE_SWEEP(name, 3, __VA_ARGS__)                                                             \
    DEFINE_SWEEP(name, 4, __VA_ARGS__)
DEFINE_SWEEPS(sweep_blocks, sweep_q8, false)
DEFINE_SWEEPS(sweep_blocks_minima, sweep_q8, true)
DEFINE_SWEEPS(sweep_by_32, sweep_q8_256, 32, false)
DEFINE_SWEEPS(sweep_by_32_minima, sweep_q8_256, 32, true)
DEFINE_SWEEPS(sweep_by_16, sweep_q8_256, 16, false)
DEFINE_SWEEPS(sweep_by_16_minima, sweep_q8_256, 16, true)

/* ---- one table entry per type ---- */

struct tile_type {
    size_t block_bytes;
    void (*expand)(struct four_rows rows, int blocks, int quad, struct row_tile *out);
    void (*sweep[TILE_COLUMNS])(const struct column_sweep *task); /* index + 1 columns */
};

#define DEFINE_EXPAND_BLOCKS(type, tag)                                                            \
    static void expand_##tag(struct four_rows rows, int blocks, int quad, struct row_tile *out)    \
    {                                                                                              \
        expand_blocks(TYPE_##type, BLOCK_BYTES_##type, rows, blocks, quad, out);                   \
    }
#define DEFINE_EXPAND_SUPERBLOCK(type, tag)                                                        \
    static void expand_##tag(struct four_rows rows, int blocks, int quad, struct row_tile *out)    \
    {                                                                                              \
        (void)blocks;                                                                              \
        expand_superblock(TYPE_##type, rows, quad, out);                                           \
    }
NEON_BLOCK_TYPES(DEFINE_EXPAND_BLOCKS)
NEON_SUPERBLOCK_TYPES(DEFINE_EXPAND_SUPERBLOCK)

static const struct tile_type *tile_type_of(uint32_t type)
{
#define ENTRY(type, tag, sweep)                                                                    \
    [TYPE_##type] = {                                                                              \
        BLOCK_BYTES_##type,                                                                        \
        expand_##tag,                                                                              \
        {sweep##_1, sweep##_2, sweep##_3, sweep##_4}                                               \
    }
    static const struct tile_type types[] = {
        ENTRY(Q4_0, q4_0, sweep_blocks),       ENTRY(Q4_1, q4_1, sweep_blocks_minima),
        ENTRY(Q5_0, q5_0, sweep_blocks),       ENTRY(Q5_1, q5_1, sweep_blocks_minima),
        ENTRY(Q8_0, q8_0, sweep_blocks),       ENTRY(IQ4_NL, iq4_nl, sweep_blocks),
        ENTRY(MXFP4, mxfp4, sweep_blocks),     ENTRY(Q2_K, q2_k, sweep_by_16_minima),
        ENTRY(Q3_K, q3_k, sweep_by_16),        ENTRY(Q4_K, q4_k, sweep_by_32_minima),
        ENTRY(Q5_K, q5_k, sweep_by_32_minima), ENTRY(Q6_K, q6_k, sweep_by_16),
        ENTRY(IQ4_XS, iq4_xs, sweep_by_32),
    };
#undef ENTRY
    return &types[type];
}

/* ---- tasks ---- */

/* What stays the same while the rows of a task are walked. */
struct tile_walk {
    const struct tile_type *type;
    size_t row_bytes, x_stride, x_block_bytes;
    size_t blocks, step_blocks; /* in a row, in a step */
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The columns of outliers beside those that are multiplied. */
struct outliers {
    struct outlier_marks first; /* of the first column */
    size_t columns, x_ahead;    /* bytes from a column to its outliers */
    bool super;
    bool any[COLUMNS_AT_ONCE]; /* whether a column has some */
    _Alignas(64) float sums[COLUMNS_AT_ONCE * STRIPE_ROWS];
};

/* One step of `count` rows, at most 32; rows that are missing in the last tile repeat the last. */
static void expand_stripe(const struct tile_walk *walk, const unsigned char *rows, size_t count,
                          size_t blocks, struct row_tile tiles[TILES])
{
    for (size_t row = 0; row < (count + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS; row += 4) {
        struct four_rows four;
        for (size_t r = 0; r < 4; r++)
            four.block[r] = rows + smaller(row + r, count - 1) * walk->row_bytes;
        walk->type->expand(four, (int)blocks, (int)(row / 4 % 2), &tiles[row / TILE_ROWS]);
    }
}

static void sweep_columns(const struct tile_type *type, struct column_sweep sweep, size_t tiles,
                          size_t columns)
{
    const struct row_tile *first = sweep.rows;
    float *sums = sweep.sums;
    for (size_t n; columns > 0; columns -= n) {
        n = smaller(columns, TILE_COLUMNS);
        for (size_t t = 0; t < tiles; t++) {
            sweep.rows = first + t;
            sweep.sums = sums + t * TILE_ROWS;
            type->sweep[n - 1](&sweep);
        }
        sweep.x += n * sweep.x_stride;
        sums += n * STRIPE_ROWS;
    }
}

/* The outliers of a step, in tiles of neighbouring columns that have some; see sweep_columns(). */
static void sweep_outliers(const struct tile_type *type, struct column_sweep sweep, size_t tiles,
                           struct outliers *outliers, size_t step)
{
    struct outlier_marks marks = outliers->first;
    const unsigned char *x = sweep.x;
    size_t count = 0;
    sweep.groups = 0;
    for (size_t c = 0; c <= outliers->columns; c++, marks.marks += marks.count) {
        unsigned groups =
            c < outliers->columns ? outliers_in_step(marks, outliers->super, step) : 0;
        if (count > 0 && (groups == 0 || count == TILE_COLUMNS)) {
            sweep.x = x + (c - count) * sweep.x_stride;
            sweep.sums = outliers->sums + (c - count) * STRIPE_ROWS;
            sweep_columns(type, sweep, tiles, count);
            sweep.groups = 0;
            count = 0;
        }
        if (groups != 0) {
            sweep.groups |= groups;
            outliers->any[c] = true;
            count++;
        }
    }
}

/* At most 32 rows times at most 256 columns. */
static void multiply_stripe(const struct tile_walk *walk, const unsigned char *rows, size_t count,
                            const unsigned char *x, struct outliers *outliers, float *y,
                            size_t y_stride)
{
    _Alignas(64) float sums[COLUMNS_AT_ONCE * STRIPE_ROWS];
    struct row_tile tiles[TILES];
    size_t columns = outliers->columns;
    memset(sums, 0, columns * STRIPE_ROWS * sizeof(float));
    memset(outliers->sums, 0, outliers->first.marks ? sizeof(sums) : 0);
    memset(outliers->any, 0, sizeof(outliers->any));
    for (size_t block = 0; block < walk->blocks; block += walk->step_blocks) {
        size_t blocks = smaller(walk->step_blocks, walk->blocks - block);
        expand_stripe(walk, rows + block * walk->type->block_bytes, count, blocks, tiles);
        struct column_sweep sweep = {
            .rows = tiles,
            .x = x + block * walk->x_block_bytes,
            .x_stride = walk->x_stride,
            .groups = outliers->super ? 0xff : (1u << blocks) - 1,
            .sums = sums,
        };
        size_t used = (count + TILE_ROWS - 1) / TILE_ROWS;
        sweep_columns(walk->type, sweep, used, columns);
        sweep.x += outliers->x_ahead;
        if (outliers->first.marks != NULL)
            sweep_outliers(walk->type, sweep, used, outliers, block / walk->step_blocks);
    }
    for (size_t c = 0; c < columns; c++) {
        float *to = y + c * y_stride;
        memcpy(to, sums + c * STRIPE_ROWS, count * sizeof(float));
        for (size_t r = 0; outliers->any[c] && r < count; r++)
            to[r] += outliers->sums[c * STRIPE_ROWS + r];
    }
}

static void multiply(const struct matmul *task)
{
    if (task->columns <= MATVEC_COLUMNS_MAX) {
        if (task->marks != NULL)
            (void)outliers_by_columns(task, MATVEC_COLUMNS_MAX, matvec_neon);
        else
            (void)matvec_neon(task);
        return;
    }
    bool super = activation_form_of(task->type) == ACTIVATION_Q8_256;
    size_t block_elements = super ? SUPERBLOCK_SIZE : BLOCK_SIZE;
    assert(task->k > 0 && task->k % block_elements == 0);
    struct tile_walk walk = {
        .type = tile_type_of(task->type),
        .row_bytes = task->row_bytes,
        .x_stride = activation_row_bytes(activation_form_of(task->type), task->k),
        .x_block_bytes = super ? sizeof(struct activation_q8_256) : sizeof(struct activation_q8),
        .blocks = task->k / block_elements,
        .step_blocks = STEP_ELEMENTS / block_elements,
    };
    struct outliers outliers;
    outliers.super = super;
    outliers.x_ahead = task->columns * walk.x_stride;
    size_t most = X_BYTES / walk.x_stride / TILE_COLUMNS * TILE_COLUMNS, columns;
    most = most < 32 ? 32 : smaller(most, COLUMNS_AT_ONCE);
    for (size_t c = 0; c < task->columns; c += columns) {
        columns = smaller(most, task->columns - c);
        outliers.columns = columns;
        outliers.first = outliers_of(task, c);
        for (size_t row = task->row_begin; row < task->row_end; row += STRIPE_ROWS)
            multiply_stripe(&walk, (const unsigned char *)task->weights + row * task->row_bytes,
                            smaller(STRIPE_ROWS, task->row_end - row),
                            (const unsigned char *)task->x + c * walk.x_stride, &outliers,
                            task->y + c * task->y_stride + row, task->y_stride);
    }
}

static void fill_products(struct kernels *kernels)
{
#define FILL(type, tag) kernels->matmul[TYPE_##type] = multiply;
    NEON_BLOCK_TYPES(FILL)
    NEON_SUPERBLOCK_TYPES(FILL)
#undef FILL
}

#endif
