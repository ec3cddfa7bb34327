/* Products with AVX-512 (F, BW, DQ, VL, VNNI): one lane of a zmm register is one of 16 rows.
 *
 * vpdpbusd multiplies unsigned by signed bytes, four at a time into a 32-bit lane: weights are
 * expanded as unsigned (q + offset) and an accumulator starts with -offset * sum(a), which the
 * activations bring along. Four bytes of a column are one broadcast.
 *
 * A sum of products with a sub-block's integer scale takes one vpdpwssd where it fits 16 bits with
 * its sign: the low half of the 32-bit lane is multiplied by the scale, the high half by zero.
 * 32 * 8 * 127, 16 * 16 * 127 and 8 * 32 * 127 all are 32512, so Q4_K (as q - 8), Q5_K (q - 16) and
 * Q6_K (q - 32) are summed over 32, 16 and 8 elements. What the offsets of Q4_K and Q5_K have taken
 * away too much, scale * offset * sum(a), is given back at the start of a superblock. */
#include <immintrin.h>
#include <string.h>

#include "kernel/matmul_panel.h"
#include "kernel/matvec.h"
#include "kernel/tiers.h"

#define QUANTIZE(name) name##_avx512
#include "kernel/quantize_tmpl.h"

/* ---- operations for matmul_expand.h ---- */

#define VECTOR __m512i
#define GROUP_ROWS 16
#define BIAS_8BIT 128
#define PAIRS_FOR_OFFSET false

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

INLINE __m512i v_sra(__m512i v, unsigned bits)
{
    return _mm512_srai_epi32(v, bits);
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

/* A scale as the low half of its lane, for vpdpwssd. */
INLINE __m512i v_scale(__m512i scale)
{
    return _mm512_and_si512(scale, _mm512_set1_epi32(0xffff));
}

/* A scale for vpmulld. */
INLINE __m512i v_scale_wide(__m512i scale)
{
    return scale;
}

/* 16 bytes of each row become four vectors, vector i holding the bytes 4i to 4i + 3: a 4 x 4
 * transposition of dwords in each quarter, where the quarters of a loaded vector are the rows j,
 * j + 4, j + 8, j + 12. */
INLINE void v_load_rows(const unsigned char *rows, size_t stride, __m512i out[4])
{
    __m512i row[4];
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        const unsigned char *p = rows + j * stride;
        row[j] = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
        row[j] = _mm512_inserti32x4(row[j], _mm_loadu_si128((const void *)(p + 4 * stride)), 1);
        row[j] = _mm512_inserti32x4(row[j], _mm_loadu_si128((const void *)(p + 8 * stride)), 2);
        row[j] = _mm512_inserti32x4(row[j], _mm_loadu_si128((const void *)(p + 12 * stride)), 3);
    }
    __m512i a = _mm512_unpacklo_epi32(row[0], row[1]), b = _mm512_unpackhi_epi32(row[0], row[1]);
    __m512i c = _mm512_unpacklo_epi32(row[2], row[3]), d = _mm512_unpackhi_epi32(row[2], row[3]);
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
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

INLINE __m512i broadcast_bytes(const void *four)
{
    int32_t value;
    memcpy(&value, four, sizeof(value));
    return _mm512_set1_epi32(value);
}

/* `steps` vectors of weight bytes, from vector `at` on, times the same bytes of each column,
 * a[c][0] on. */
INLINE void dot_steps(const struct panel *weights, int at, const int8_t *const a[TILE_COLUMNS_MAX],
                      int steps, int panels, int columns, __m512i dot[PANELS][TILE_COLUMNS_MAX])
{
    UNROLL
    for (int i = 0; i < steps; i++) {
        __m512i w[PANELS];
        UNROLL
        for (int p = 0; p < panels; p++)
            w[p] = _mm512_load_si512(weights[p].q[at + i]);
        UNROLL
        for (int c = 0; c < columns; c++) {
            __m512i four = broadcast_bytes(a[c] + 4 * i);
            UNROLL
            for (int p = 0; p < panels; p++)
                dot[p][c] = _mm512_dpbusd_epi32(dot[p][c], w[p], four);
        }
    }
}

/* Which sum of the activations an accumulator of a block starts with. */
enum start { START_0, START_8, START_16, START_128 };

INLINE __m512i start_q8(const struct activation_q8 *x, enum start start)
{
    switch (start) {
    case START_8:
        return _mm512_set1_epi32(x->sum_8);
    case START_16:
        return _mm512_set1_epi32(x->sum_16);
    case START_128:
        return _mm512_set1_epi32(x->sum_128);
    case START_0:
        break;
    }
    return _mm512_setzero_si512();
}

INLINE void sweep_q8(const struct sweep *task, int panels, int columns, enum start start,
                     bool minima)
{
    const struct activation_q8 *x[TILE_COLUMNS_MAX];
    __m512 sums[PANELS][TILE_COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        UNROLL
        for (int p = 0; p < panels; p++)
            sums[p][c] = _mm512_load_ps(task->sums + c * PANEL_STRIDE + 16 * p);
    }
    for (int b = 0; b < task->blocks; b++) {
        __m512i dot[PANELS][TILE_COLUMNS_MAX];
        UNROLL
        for (int c = 0; c < columns; c++) {
            UNROLL
            for (int p = 0; p < panels; p++)
                dot[p][c] = start_q8(x[c], start);
        }
        const int8_t *a[TILE_COLUMNS_MAX];
        UNROLL
        for (int c = 0; c < columns; c++)
            a[c] = x[c]->q;
        dot_steps(task->panels, 8 * b, a, 8, panels, columns, dot);
        UNROLL
        for (int p = 0; p < panels; p++) {
            __m512 d = _mm512_load_ps(task->panels[p].d[b]);
            UNROLL
            for (int c = 0; c < columns; c++) {
                __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot[p][c]));
                if (minima)
                    t = _mm512_fmadd_ps(_mm512_load_ps(task->panels[p].m[b]),
                                        _mm512_set1_ps(x[c]->sum), t);
                sums[p][c] = _mm512_fmadd_ps(_mm512_set1_ps(x[c]->d), t, sums[p][c]);
            }
        }
        UNROLL
        for (int c = 0; c < columns; c++)
            x[c]++;
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int p = 0; p < panels; p++)
            _mm512_store_ps(task->sums + c * PANEL_STRIDE + 16 * p, sums[p][c]);
    }
}

/* How a superblock type is summed. */
struct k_shape {
    int sub_block; /* elements with one scale: 32 or 16 */
    int group;     /* elements whose sum is multiplied by it at a time */
    int offset;    /* 8, 16, 32: groups start at -offset * sum(a); 128: the same, 32-bit scales */
    int give_back; /* times scale * sum(a), as a shift: 3 or 4; -2: minus four times; 0: none */
    bool minima;
};

INLINE __m512i start_group(const struct activation_q8_256 *x, int offset, int group)
{
    switch (offset) {
    case 8:
        return _mm512_set1_epi32(x->sum32_8[group]);
    case 16:
        return _mm512_set1_epi32(x->sum16_16[group]);
    case 32:
        return _mm512_set1_epi32(x->sum8_32[group]);
    case 128:
        return _mm512_slli_epi32(_mm512_set1_epi32(x->sum32_8[group]), 4);
    default:
        return _mm512_setzero_si512();
    }
}

/* Sum over the sub-blocks of pairs[b] * sum_b(a). */
INLINE __m512i dot_sums(const int16_t pairs[8][32], const struct activation_q8_256 *x,
                        int sub_block)
{
    const int16_t *sums = sub_block == 32 ? x->sum32 : x->sum16;
    __m512i dot = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < STEP_ELEMENTS / sub_block / 2; i++)
        dot = _mm512_dpwssd_epi32(dot, _mm512_load_si512(pairs[i]), broadcast_bytes(sums + 2 * i));
    return dot;
}

INLINE __m512i start_superblock(const struct panel *panel, const struct activation_q8_256 *x,
                                const struct k_shape shape)
{
    if (shape.give_back == 0)
        return _mm512_setzero_si512();
    __m512i dot = dot_sums(panel->scale_pair, x, shape.sub_block);
    if (shape.give_back > 0)
        return _mm512_slli_epi32(dot, (unsigned)shape.give_back);
    return _mm512_sub_epi32(_mm512_setzero_si512(),
                            _mm512_slli_epi32(dot, (unsigned)-shape.give_back));
}

INLINE void finish_superblock(const struct panel *panel, const struct activation_q8_256 *x,
                              const struct k_shape shape, __m512i total, float *sums)
{
    __m512 t = _mm512_mul_ps(_mm512_load_ps(panel->d[0]), _mm512_cvtepi32_ps(total));
    if (shape.minima) {
        __m512 minima = _mm512_cvtepi32_ps(dot_sums(panel->min_pair, x, shape.sub_block));
        t = _mm512_fmadd_ps(_mm512_load_ps(panel->m[0]), minima, t);
    }
    _mm512_store_ps(sums, _mm512_fmadd_ps(_mm512_set1_ps(x->d), t, _mm512_load_ps(sums)));
}

INLINE void sweep_q8_256(const struct sweep *task, int panels, int columns,
                         const struct k_shape shape)
{
    const struct activation_q8_256 *x[TILE_COLUMNS_MAX];
    __m512i total[PANELS][TILE_COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        UNROLL
        for (int p = 0; p < panels; p++)
            total[p][c] = start_superblock(&task->panels[p], x[c], shape);
    }
    for (int g = 0; g < STEP_ELEMENTS / shape.group; g++) {
        __m512i dot[PANELS][TILE_COLUMNS_MAX];
        UNROLL
        for (int c = 0; c < columns; c++) {
            UNROLL
            for (int p = 0; p < panels; p++)
                dot[p][c] = start_group(x[c], shape.offset, g);
        }
        const int8_t *a[TILE_COLUMNS_MAX];
        UNROLL
        for (int c = 0; c < columns; c++)
            a[c] = x[c]->q + g * shape.group;
        dot_steps(task->panels, g * shape.group / 4, a, shape.group / 4, panels, columns, dot);
        UNROLL
        for (int p = 0; p < panels; p++) {
            __m512i scale =
                _mm512_load_si512(task->panels[p].scale[g * shape.group / shape.sub_block]);
            UNROLL
            for (int c = 0; c < columns; c++) {
                if (shape.offset == 128)
                    total[p][c] =
                        _mm512_add_epi32(total[p][c], _mm512_mullo_epi32(dot[p][c], scale));
                else
                    total[p][c] = _mm512_dpwssd_epi32(total[p][c], dot[p][c], scale);
            }
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int p = 0; p < panels; p++)
            finish_superblock(&task->panels[p], x[c], shape, total[p][c],
                              task->sums + c * PANEL_STRIDE + 16 * p);
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
    SWEEP_TILE(name, 1, 4, body, __VA_ARGS__)                                                      \
    SWEEP_TILE(name, 2, 4, body, __VA_ARGS__)

SWEEPS(sweep_plain, sweep_q8, START_0, true)
SWEEPS(sweep_minus_8, sweep_q8, START_8, false)
SWEEPS(sweep_minus_16, sweep_q8, START_16, false)
SWEEPS(sweep_minus_128, sweep_q8, START_128, false)
SWEEPS(sweep_q2_k, sweep_q8_256, (struct k_shape){16, 16, 0, 0, true})
SWEEPS(sweep_q3_k, sweep_q8_256, (struct k_shape){16, 16, 0, -2, false})
SWEEPS(sweep_q4_k, sweep_q8_256, (struct k_shape){32, 32, 8, 3, true})
SWEEPS(sweep_q5_k, sweep_q8_256, (struct k_shape){32, 16, 16, 4, true})
SWEEPS(sweep_q6_k, sweep_q8_256, (struct k_shape){16, 8, 32, 0, false})
SWEEPS(sweep_iq4_xs, sweep_q8_256, (struct k_shape){32, 32, 128, 0, false})

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
        static const struct panel_type type = {                                                    \
            BLOCK_BYTES_##type_name,                                                               \
            form,                                                                                  \
            expand_##tag,                                                                          \
            4,                                                                                     \
            {sweep##_1x1, sweep##_1x2, sweep##_1x3, sweep##_1x4},                                  \
            sweep##_2x4};                                                                          \
        if (!matvec_avx512(task))                                                                  \
            matmul_panels(task, &type);                                                            \
    }
PANEL_TYPES(DEFINE_MATMUL)
#undef DEFINE_MATMUL

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
        matmul_float_rows(task, &type);                                                            \
    }
DEFINE_FLOAT_MATMUL(f32, KIND_F32)
DEFINE_FLOAT_MATMUL(f16, KIND_F16)
DEFINE_FLOAT_MATMUL(bf16, KIND_BF16)

void matmul_fill_avx512(struct kernels *kernels)
{
    quantize_fill_avx512(kernels);
#define FILL(type, tag, form, sweep) kernels->matmul[TYPE_##type] = matmul_##tag##_avx512;
    PANEL_TYPES(FILL)
#undef FILL
    kernels->matmul[TYPE_F32] = matmul_f32_avx512;
    kernels->matmul[TYPE_F16] = matmul_f16_avx512;
    kernels->matmul[TYPE_BF16] = matmul_bf16_avx512;
}
