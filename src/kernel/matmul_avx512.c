/* Products with AVX-512 (F, BW, DQ, VL, VNNI): one lane of a zmm register is one of 16 rows.
 *
 * vpdpbusd multiplies unsigned by signed bytes, four at a time into a 32-bit lane: weights are
 * expanded as unsigned (q + offset) and an accumulator starts with -offset * sum(a), which the
 * activations bring along. Four bytes of a column are one broadcast.
 *
 * A sum of products with a sub-block's integer scale takes one vpdpwssd where it fits 16 bits with
 * its sign: the low half of the 32-bit lane is multiplied by the scale, the high half by zero. That
 * is so where activations are small (activation.h), which a tile looks up; where they are not, the
 * scale takes a multiplication of 32 bits and an addition. Both are exact. */
#include <immintrin.h>
#include <string.h>

#include "kernel/matmul_panel.h"
#include "kernel/matvec.h"
#include "kernel/rows16_avx512.h"
#include "kernel/tiers.h"

#define QUANTIZE(name) name##_plain_avx512
#include "kernel/quantize_tmpl.h"

/* ---- operations for matmul_expand.h ---- */

#define VECTOR __m512i
#define GROUP_ROWS 16
#define BIAS_8BIT 128
#define SCALE_TWICE false
#define PAIRS_Q3_K false
#define PAIRS_Q5_K false
#define PAIRS_Q6_K false

INLINE __m512i v_set8(char x)
{
    return _mm512_set1_epi8(x);
}

INLINE __m512i v_set32(int x)
{
    return _mm512_set1_epi32(x);
}

/* The same 16 bytes in each quarter: a table for v_shuffle. */
INLINE __m512i v_repeat(const int8_t bytes[16])
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)bytes));
}

INLINE __m512i v_shuffle(__m512i table, __m512i index)
{
    return _mm512_shuffle_epi8(table, index);
}

INLINE __m512i v_and(__m512i a, __m512i b)
{
    return _mm512_and_si512(a, b);
}

INLINE __m512i v_or(__m512i a, __m512i b)
{
    return _mm512_or_si512(a, b);
}

INLINE __m512i v_add8(__m512i a, __m512i b)
{
    return _mm512_add_epi8(a, b);
}

INLINE __m512i v_sub32(__m512i a, __m512i b)
{
    return _mm512_sub_epi32(a, b);
}

INLINE __m512i v_srl(__m512i v, unsigned bits)
{
    return _mm512_srli_epi32(v, bits);
}

INLINE __m512i v_sll(__m512i v, unsigned bits)
{
    return _mm512_slli_epi32(v, bits);
}

INLINE __m512i v_sll_by(__m512i v, __m512i bits)
{
    return _mm512_sllv_epi32(v, bits);
}

INLINE __mmask16 v_equal(__m512i a, __m512i b)
{
    return _mm512_cmpeq_epi32_mask(a, b);
}

INLINE __m512i v_select(__mmask16 mask, __m512i yes, __m512i no)
{
    return _mm512_mask_mov_epi32(no, mask, yes);
}

INLINE void v_store(void *out, __m512i v)
{
    _mm512_store_si512(out, v);
}

/* The low binary16 of each lane as a float, times 1 or -1. */
INLINE void v_store_half(float *out, __m512i v, float sign)
{
    __m512 value = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
    _mm512_store_ps(out, sign < 0 ? _mm512_xor_ps(value, _mm512_set1_ps(-0.0f)) : value);
}

/* a | (b & mask) */
INLINE __m512i v_or_and(__m512i a, __m512i b, __m512i mask)
{
    return _mm512_ternarylogic_epi32(a, b, mask, 0xf8);
}

/* The low nibbles of one and the high nibbles of the other. */
INLINE __m512i v_join_nibbles(__m512i low, __m512i high)
{
    return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(15), 0xe4);
}

/* The upper byte of each 16 bits as a number with its sign. */
INLINE __m512i v_high_bytes(__m512i v)
{
    return _mm512_srai_epi16(v, 8);
}

/* Four bytes of each lane; -1: zero. */
INLINE __m512i v_pick(__m512i v, int a, int b, int c, int d)
{
#define PICK(byte, lane) (char)((byte) < 0 ? -1 : 4 * (lane) + (byte))
#define PICK_4(lane) PICK(a, lane), PICK(b, lane), PICK(c, lane), PICK(d, lane)
    const __m128i index = _mm_setr_epi8(PICK_4(0), PICK_4(1), PICK_4(2), PICK_4(3));
#undef PICK
#undef PICK_4
    return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(index));
}

/* A scale for vpmulld. */
INLINE __m512i v_scale_wide(__m512i scale)
{
    return scale;
}

INLINE void v_load_rows(const unsigned char *rows, size_t stride, __m512i out[4])
{
    rows16_load_16(rows, stride, out);
}

INLINE void v_load_rows_32(const unsigned char *rows, size_t stride, __m512i out[8])
{
    rows16_load_32(rows, stride, out);
}

/* Four bytes of each row. */
INLINE __m512i v_gather(const unsigned char *rows, size_t stride)
{
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i at = _mm512_mullo_epi32(lanes, _mm512_set1_epi32((int)stride));
    return _mm512_i32gather_epi32(at, (const void *)rows, 1);
}

/* Adds 16 to those of the bytes 4i to 4i + 3 whose bit in the lane of qh is set. */
INLINE __m512i v_add_fifth_bits(__m512i q, __m512i qh, int i)
{
    const __m128i lanes = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    __m512i byte = _mm512_add_epi8(_mm512_broadcast_i32x4(lanes), _mm512_set1_epi8((char)(i / 2)));
    __m512i bits = _mm512_set1_epi32(i % 2 == 0 ? 0x08040201 : (int)0x80402010);
    __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(qh, byte), bits);
    return _mm512_mask_add_epi8(q, set, q, _mm512_set1_epi8(16));
}

#include "kernel/matmul_expand.h"

/* ---- sweeps ---- */

/* The instructions that the loops below are made of, in the order in which they are written. Left
 * to intrinsics, compilers load a vector of weights again for each column and copy accumulators
 * before they add to them: a fifth of the speed. */
#define KEEP(v) __asm__("" : "+v"(v))

/* Zero or one value in all lanes, in a register of its own: copies of one register would be
 * instructions on the ports that multiply, where zeroing and loading are free. */
INLINE __m512i fresh_zero(void)
{
    __m512i zero;
    __asm__ volatile("vpxord %0, %0, %0" : "=v"(zero));
    return zero;
}

INLINE __m512i fresh_32(const int32_t *value)
{
    __m512i all;
    __asm__ volatile("vpbroadcastd %1, %0" : "=v"(all) : "m"(*value));
    return all;
}

INLINE void add_bytes(__m512i *sum, __m512i w, __m512i a)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(w), "v"(a));
}

INLINE void add_words(__m512i *sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

INLINE __m512i broadcast_bytes(const void *four)
{
    int32_t value;
    memcpy(&value, four, sizeof(value));
    return _mm512_set1_epi32(value);
}

/* `steps` vectors of weight bytes, from vector `at` on, times the same bytes of each column,
 * a[c][0] on. */
INLINE void dot_steps(const struct panel *weights, int at, const int8_t *const a[TILE_COLUMNS_MAX],
                      int steps, int panels, int columns, __m512i dot[PANELS_MAX][TILE_COLUMNS_MAX])
{
    UNROLL
    for (int i = 0; i < steps; i++) {
        __m512i w[PANELS_MAX];
        UNROLL
        for (int p = 0; p < panels; p++) {
            w[p] = _mm512_load_si512(weights[p].q[at + i]);
            KEEP(w[p]);
        }
        UNROLL
        for (int c = 0; c < columns; c++) {
            __m512i four = broadcast_bytes(a[c] + 4 * i);
            UNROLL
            for (int p = 0; p < panels; p++)
                add_bytes(&dot[p][c], w[p], four);
        }
    }
}

/* Which sum of the activations an accumulator of a block starts with. */
enum start { START_0, START_8, START_16, START_128 };

INLINE __m512i start_q8(const struct activation_q8 *x, enum start start)
{
    switch (start) {
    case START_8:
        return fresh_32(&x->sum_8);
    case START_16:
        return fresh_32(&x->sum_16);
    case START_128:
        return fresh_32(&x->sum_128);
    case START_0:
        break;
    }
    return fresh_zero();
}

/* Block b of the panels times the block at x[c] of each column, which then moves on. */
INLINE void sweep_block(const struct panel *weights, int b,
                        const struct activation_q8 *x[TILE_COLUMNS_MAX], int panels, int columns,
                        enum start start, bool minima, __m512 sums[PANELS_MAX][TILE_COLUMNS_MAX])
{
    __m512i dot[PANELS_MAX][TILE_COLUMNS_MAX];
    const int8_t *a[TILE_COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        a[c] = x[c]->q;
        UNROLL
        for (int p = 0; p < panels; p++)
            dot[p][c] = start_q8(x[c], start);
    }
    dot_steps(weights, 8 * b, a, 8, panels, columns, dot);
    UNROLL
    for (int p = 0; p < panels; p++) {
        __m512 d = _mm512_load_ps(weights[p].d[b]);
        UNROLL
        for (int c = 0; c < columns; c++) {
            __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot[p][c]));
            if (minima)
                t = _mm512_fmadd_ps(_mm512_load_ps(weights[p].m[b]), _mm512_set1_ps(x[c]->sum), t);
            sums[p][c] = _mm512_fmadd_ps(_mm512_set1_ps(x[c]->d), t, sums[p][c]);
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++)
        x[c]++;
}

INLINE void sweep_q8(const struct sweep *task, int panels, int columns, enum start start,
                     bool minima)
{
    const struct activation_q8 *x[TILE_COLUMNS_MAX];
    __m512 sums[PANELS_MAX][TILE_COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        UNROLL
        for (int p = 0; p < panels; p++)
            sums[p][c] = _mm512_load_ps(task->sums + c * PANEL_STRIDE + 16 * p);
    }
    int b = 0;
    for (uint32_t rest = task->groups; rest != 0; rest = rest >> b << b) {
        int first = __builtin_ctz(rest), end = first + __builtin_ctz(~(rest >> first));
        UNROLL
        for (int c = 0; c < columns; c++)
            x[c] += first - b;
        for (b = first; b < end; b++)
            sweep_block(task->panels, b, x, panels, columns, start, minima, sums);
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int p = 0; p < panels; p++)
            _mm512_store_ps(task->sums + c * PANEL_STRIDE + 16 * p, sums[p][c]);
    }
}

/* How a superblock type is summed. */
enum k_start {
    START_NONE,    /* weights are expanded as they are */
    START_SUM16_4, /* with an offset of 4, in groups of 16 */
    START_SUM16_32,
    START_SUM32_128,
};

enum k_scale {
    SCALE_16, /* of sums that fit 16 bits where activations are small */
    SCALE_32, /* of any sums */
};

struct k_shape {
    int sub_block; /* elements with one scale */
    int group;     /* of them, elements whose sum is multiplied by it at a time */
    enum k_start start;
    enum k_scale scale;
    int min_group; /* elements with one minimum; 0: none */
};

INLINE __m512i start_group(const struct activation_q8_256 *x, enum k_start start, int group)
{
    switch (start) {
    case START_SUM16_32:
        return fresh_32(&x->sum16_32[group]);
    case START_SUM32_128:
        return fresh_32(&x->sum32_128[group]);
    case START_SUM16_4:
        return _mm512_srai_epi32(fresh_32(&x->sum16_32[group]), 3);
    case START_NONE:
        break;
    }
    return fresh_zero();
}

struct k_tile {
    const struct panel *panels;
    const struct activation_q8_256 *x[TILE_COLUMNS_MAX];
    float *sums;
};

INLINE void sum_group(const struct k_tile *tile, int g, int panels, int columns,
                      const struct k_shape shape, __m512i total[PANELS_MAX][TILE_COLUMNS_MAX])
{
    __m512i dot[PANELS_MAX][TILE_COLUMNS_MAX];
    const int8_t *a[TILE_COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        a[c] = tile->x[c]->q + g * shape.group;
        UNROLL
        for (int p = 0; p < panels; p++)
            dot[p][c] = start_group(tile->x[c], shape.start, g);
    }
    dot_steps(tile->panels, g * shape.group / 4, a, shape.group / 4, panels, columns, dot);
    UNROLL
    for (int p = 0; p < panels; p++) {
        __m512i scale = _mm512_load_si512(tile->panels[p].scale[g * shape.group / shape.sub_block]);
        if (shape.scale == SCALE_32)
            scale = _mm512_srai_epi32(_mm512_slli_epi32(scale, 16), 16);
        UNROLL
        for (int c = 0; c < columns; c++) {
            if (shape.scale == SCALE_32)
                total[p][c] = _mm512_add_epi32(total[p][c], _mm512_mullo_epi32(dot[p][c], scale));
            else
                add_words(&total[p][c], dot[p][c], scale);
        }
    }
}

/* Sum over the groups of min * sum(a). */
INLINE void sum_minima(const struct k_tile *tile, int panels, int columns, int group,
                       __m512i out[PANELS_MAX][TILE_COLUMNS_MAX])
{
    UNROLL
    for (int i = 0; i < STEP_ELEMENTS / group / 2; i++) {
        UNROLL
        for (int p = 0; p < panels; p++) {
            __m512i pair = _mm512_load_si512(tile->panels[p].min_pair[i]);
            UNROLL
            for (int c = 0; c < columns; c++) {
                const int16_t *sums = group == 32 ? tile->x[c]->sum32 : tile->x[c]->sum16;
                if (i == 0)
                    out[p][c] = fresh_zero();
                add_words(&out[p][c], pair, broadcast_bytes(sums + 2 * i));
            }
        }
    }
}

INLINE void finish_superblock(const struct k_tile *tile, int panels, int columns, int min_group,
                              __m512i total[PANELS_MAX][TILE_COLUMNS_MAX])
{
    __m512i minima[PANELS_MAX][TILE_COLUMNS_MAX];
    if (min_group > 0)
        sum_minima(tile, panels, columns, min_group, minima);
    UNROLL
    for (int p = 0; p < panels; p++) {
        __m512 d = _mm512_load_ps(tile->panels[p].d[0]);
        UNROLL
        for (int c = 0; c < columns; c++) {
            float *sums = tile->sums + c * PANEL_STRIDE + 16 * p;
            __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(total[p][c]));
            if (min_group > 0)
                t = _mm512_fmadd_ps(_mm512_load_ps(tile->panels[p].m[0]),
                                    _mm512_cvtepi32_ps(minima[p][c]), t);
            __m512 d_a = _mm512_set1_ps(tile->x[c]->d);
            _mm512_store_ps(sums, _mm512_fmadd_ps(d_a, t, _mm512_load_ps(sums)));
        }
    }
}

INLINE void sweep_superblock(const struct k_tile *tile, uint32_t groups, int panels, int columns,
                             const struct k_shape shape)
{
    __m512i total[PANELS_MAX][TILE_COLUMNS_MAX];
    UNROLL
    for (int p = 0; p < panels; p++) {
        UNROLL
        for (int c = 0; c < columns; c++)
            total[p][c] = fresh_zero();
    }
    int per_mark = ACTIVATION_GROUP / shape.group;
    for (uint32_t rest = groups; rest != 0; rest &= rest - 1) {
        int first = __builtin_ctz(rest) * per_mark;
        UNROLL
        for (int g = 0; g < per_mark; g++)
            sum_group(tile, first + g, panels, columns, shape, total);
    }
    finish_superblock(tile, panels, columns, shape.min_group, total);
}

INLINE void sweep_q8_256(const struct sweep *task, int panels, int columns, struct k_shape shape)
{
    struct k_tile tile = {.panels = task->panels, .sums = task->sums};
    int32_t small = 1;
    UNROLL
    for (int c = 0; c < columns; c++) {
        tile.x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        small &= tile.x[c]->small;
    }
    if (shape.scale == SCALE_16 && small) {
        sweep_superblock(&tile, task->groups, panels, columns, shape);
    } else {
        shape.scale = SCALE_32;
        sweep_superblock(&tile, task->groups, panels, columns, shape);
    }
}

/* ---- one function per tile and kind of type ---- */

#define SWEEP_TILE(name, panels, columns, body, ...)                                               \
    static void name##_##panels##x##columns(const struct sweep *task)                              \
    {                                                                                              \
        body(task, panels, columns, __VA_ARGS__);                                                  \
    }
#define SWEEPS(name, body, ...)                                                                    \
    SWEEP_TILE(name, 1, 1, body, __VA_ARGS__)                                                      \
    SWEEP_TILE(name, 1, 2, body, __VA_ARGS__)                                                      \
    SWEEP_TILE(name, 1, 3, body, __VA_ARGS__)                                                      \
    SWEEP_TILE(name, 4, 1, body, __VA_ARGS__)                                                      \
    SWEEP_TILE(name, 4, 2, body, __VA_ARGS__)                                                      \
    SWEEP_TILE(name, 4, 3, body, __VA_ARGS__)

SWEEPS(sweep_plain, sweep_q8, START_0, true)
SWEEPS(sweep_minus_8, sweep_q8, START_8, false)
SWEEPS(sweep_minus_16, sweep_q8, START_16, false)
SWEEPS(sweep_minus_128, sweep_q8, START_128, false)
SWEEPS(sweep_q2_k, sweep_q8_256, (struct k_shape){16, 16, START_NONE, SCALE_16, 16})
SWEEPS(sweep_q3_k, sweep_q8_256, (struct k_shape){16, 16, START_SUM16_4, SCALE_16, 0})
SWEEPS(sweep_q4_k, sweep_q8_256, (struct k_shape){32, 32, START_NONE, SCALE_16, 32})
SWEEPS(sweep_q5_k, sweep_q8_256, (struct k_shape){32, 16, START_NONE, SCALE_16, 32})
SWEEPS(sweep_q6_k, sweep_q8_256, (struct k_shape){16, 16, START_SUM16_32, SCALE_16, 0})
SWEEPS(sweep_iq4_xs, sweep_q8_256, (struct k_shape){32, 32, START_SUM32_128, SCALE_32, 0})

/* X(type, tag, form, sweep) */
#define PANEL_TYPES(X)                                                                             \
    X(Q4_0, q4_0, ACTIVATION_Q8, sweep_minus_8)                                                    \
    X(Q4_1, q4_1, ACTIVATION_Q8, sweep_plain)                                                      \
    X(Q5_0, q5_0, ACTIVATION_Q8, sweep_minus_16)                                                   \
    X(Q5_1, q5_1, ACTIVATION_Q8, sweep_plain)                                                      \
    X(Q8_0, q8_0, ACTIVATION_Q8, sweep_minus_128)                                                  \
    X(IQ4_NL, iq4_nl, ACTIVATION_Q8, sweep_minus_128)                                              \
    X(MXFP4, mxfp4, ACTIVATION_Q8, sweep_minus_16)                                                 \
    X(Q2_K, q2_k, ACTIVATION_Q8_256, sweep_q2_k)                                                   \
    X(Q3_K, q3_k, ACTIVATION_Q8_256, sweep_q3_k)                                                   \
    X(Q4_K, q4_k, ACTIVATION_Q8_256, sweep_q4_k)                                                   \
    X(Q5_K, q5_k, ACTIVATION_Q8_256, sweep_q5_k)                                                   \
    X(Q6_K, q6_k, ACTIVATION_Q8_256, sweep_q6_k)                                                   \
    X(IQ4_XS, iq4_xs, ACTIVATION_Q8_256, sweep_iq4_xs)

#define DEFINE_MATMUL(type_name, tag, form, sweep)                                                 \
    static void matmul_##tag##_avx512(const struct matmul *task)                                   \
    {                                                                                              \
        static const struct panel_type type = {BLOCK_BYTES_##type_name,                            \
                                               form,                                               \
                                               expand_##tag,                                       \
                                               4,                                                  \
                                               3,                                                  \
                                               {sweep##_1x1, sweep##_1x2, sweep##_1x3},            \
                                               {sweep##_4x1, sweep##_4x2, sweep##_4x3},            \
                                               NULL};                                              \
        if (!matvec_avx512(task))                                                                  \
            matmul_panels(task, &type);                                                            \
    }
PANEL_TYPES(DEFINE_MATMUL)
#undef DEFINE_MATMUL

void matmul_avx512(const struct matmul *task)
{
    switch (task->type) {
#define MULTIPLY(type_name, tag, form, sweep)                                                      \
    case TYPE_##type_name:                                                                         \
        matmul_##tag##_avx512(task);                                                               \
        break;
        PANEL_TYPES(MULTIPLY)
#undef MULTIPLY
    default:
        break;
    }
}

void matmul_expand_avx512(uint32_t type, const unsigned char *rows, size_t row_bytes, int blocks,
                          struct panel *out)
{
    switch (type) {
#define EXPAND(type_name, tag, form, sweep)                                                        \
    case TYPE_##type_name:                                                                         \
        expand_##tag(rows, row_bytes, blocks, out);                                                \
        break;
        PANEL_TYPES(EXPAND)
#undef EXPAND
    default:
        break;
    }
}

/* ---- rows of floats ---- */

enum float_kind { KIND_F32, KIND_F16, KIND_BF16 };

/* Up to 16 weights from element i on; those past `k` are 0 and not read. */
INLINE __m512 load_weights(const unsigned char *row, size_t i, size_t k, enum float_kind kind)
{
    __mmask16 mask = (__mmask16)(k - i >= 16 ? 0xffffu : (1u << (k - i)) - 1);
    if (kind == KIND_F32)
        return _mm512_maskz_loadu_ps(mask, row + 4 * i);
    __m256i half = _mm256_maskz_loadu_epi16(mask, row + 2 * i);
    if (kind == KIND_F16)
        return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Lanes i and i + 8, then + 4, + 2, + 1. */
INLINE float sum_lanes(__m512 v)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE void float_tile_avx512(const struct float_tile *tile, int rows, int columns,
                              enum float_kind kind)
{
    __m512 sums[FLOAT_ROWS_MAX][TILE_COLUMNS_MAX];
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < columns; c++)
            sums[r][c] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < tile->k; i += 16) {
        __m512 w[FLOAT_ROWS_MAX];
        UNROLL
        for (int r = 0; r < rows; r++)
            w[r] = load_weights(tile->rows + (size_t)r * tile->row_bytes, i, tile->k, kind);
        UNROLL
        for (int c = 0; c < columns; c++) {
            __m512 x = _mm512_load_ps(tile->x + (size_t)c * tile->x_stride + 4 * i);
            UNROLL
            for (int r = 0; r < rows; r++)
                sums[r][c] = _mm512_fmadd_ps(w[r], x, sums[r][c]);
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int r = 0; r < rows; r++)
            tile->y[(size_t)c * tile->y_stride + (size_t)r] = sum_lanes(sums[r][c]);
    }
}

#define FLOAT_TILE(tag, kind, rows, columns)                                                       \
    static void tag##_##rows##x##columns(const struct float_tile *tile)                            \
    {                                                                                              \
        float_tile_avx512(tile, rows, columns, kind);                                              \
    }
#define DEFINE_FLOAT_MATMUL(tag, kind)                                                             \
    FLOAT_TILE(tag, kind, 1, 1)                                                                    \
    FLOAT_TILE(tag, kind, 1, 2)                                                                    \
    FLOAT_TILE(tag, kind, 1, 3)                                                                    \
    FLOAT_TILE(tag, kind, 1, 4)                                                                    \
    FLOAT_TILE(tag, kind, 4, 1)                                                                    \
    FLOAT_TILE(tag, kind, 4, 2)                                                                    \
    FLOAT_TILE(tag, kind, 4, 3)                                                                    \
    FLOAT_TILE(tag, kind, 4, 4)                                                                    \
    static void matmul_##tag##_avx512(const struct matmul *task)                                   \
    {                                                                                              \
        static const struct float_type type = {4,                                                  \
                                               4,                                                  \
                                               {tag##_1x1, tag##_1x2, tag##_1x3, tag##_1x4},       \
                                               {tag##_4x1, tag##_4x2, tag##_4x3, tag##_4x4}};      \
        if (!matvec_avx512(task))                                                                  \
            matmul_float_rows(task, &type);                                                        \
    }
DEFINE_FLOAT_MATMUL(f32, KIND_F32)
DEFINE_FLOAT_MATMUL(f16, KIND_F16)
DEFINE_FLOAT_MATMUL(bf16, KIND_BF16)

void matmul_fill_avx512(struct kernels *kernels)
{
    quantize_fill_plain_avx512(kernels);
    quantize_fill_avx512(kernels);
#define FILL(type, tag, form, sweep) kernels->matmul[TYPE_##type] = matmul_##tag##_avx512;
    PANEL_TYPES(FILL)
#undef FILL
    kernels->matmul[TYPE_F32] = matmul_f32_avx512;
    kernels->matmul[TYPE_F16] = matmul_f16_avx512;
    kernels->matmul[TYPE_BF16] = matmul_bf16_avx512;
}
