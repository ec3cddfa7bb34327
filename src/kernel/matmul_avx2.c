/* Products with AVX2, FMA and F16C, or with AVX-VNNI besides (products_256.h): one lane of a ymm
 * register is one of 8 rows, two make a panel.
 *
 * vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits; as many of its results
 * are added as fit before vpmaddwd widens them, multiplying by the scale of a K type on the way:
 *
 *     4 bits   8 results   8 * 2 * 15 * 127 = 30480      32 elements
 *     5 bits   4 results   4 * 2 * 31 * 127 = 31496      16 elements (also MXFP4 + 16, Q2_K, Q3_K)
 *     6 bits   2 results   2 * 2 * 63 * 127 = 32004       8 elements
 *     8 bits   1 result    2 * 128 * 127    = 32512       4 elements, |w| times a with w's sign
 *
 * vpdpbusd adds all four products in 32 bits, weights being unsigned bytes w + offset, those of 8
 * bits too (w + 128). For K types sums must fit into 16 bits with their sign, because vpdpwssd
 * multiplies by the scale:
 *
 *     4 bits  16 * 15 * 127 = 30480      16 elements (also Q2_K, Q3_K)
 *     5 bits  16 * 16 * 127 = 32512      16 elements, the sum starting at -16 * sum(a)
 *     6 bits   8 * 32 * 127 = 32512       8 elements, starting at -32 * sum(a)
 *     8 bits                             32 elements, starting at -128 * sum(a), times 32 bits */
#include <immintrin.h>
#include <string.h>

#include "kernel/products_256.h"
#include "kernel/rows8_avx2.h"
#include "kernel/tiers.h"

#define QUANTIZE(name) TIER(name)
#include "kernel/quantize_tmpl.h"

/* ---- operations for matmul_expand.h ---- */

#define VECTOR __m256i
#define GROUP_ROWS 8
#define BIAS_8BIT (KERNEL_VNNI ? 128 : 0)
#define SCALE_TWICE (!KERNEL_VNNI)
#define PAIRS_Q3_K true
#define PAIRS_Q5_K KERNEL_VNNI
#define PAIRS_Q6_K (!KERNEL_VNNI)

INLINE __m256i v_set8(char x)
{
    return _mm256_set1_epi8(x);
}

INLINE __m256i v_set32(int x)
{
    return _mm256_set1_epi32(x);
}

INLINE __m256i v_repeat(const int8_t bytes[16])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)bytes));
}

INLINE __m256i v_shuffle(__m256i table, __m256i index)
{
    return _mm256_shuffle_epi8(table, index);
}

INLINE __m256i v_and(__m256i a, __m256i b)
{
    return _mm256_and_si256(a, b);
}

INLINE __m256i v_or(__m256i a, __m256i b)
{
    return _mm256_or_si256(a, b);
}

INLINE __m256i v_add8(__m256i a, __m256i b)
{
    return _mm256_add_epi8(a, b);
}

INLINE __m256i v_sub32(__m256i a, __m256i b)
{
    return _mm256_sub_epi32(a, b);
}

INLINE __m256i v_srl(__m256i v, unsigned bits)
{
    return _mm256_srli_epi32(v, (int)bits);
}

INLINE __m256i v_sll(__m256i v, unsigned bits)
{
    return _mm256_slli_epi32(v, (int)bits);
}

INLINE __m256i v_sll_by(__m256i v, __m256i bits)
{
    return _mm256_sllv_epi32(v, bits);
}

INLINE __m256i v_equal(__m256i a, __m256i b)
{
    return _mm256_cmpeq_epi32(a, b);
}

INLINE __m256i v_select(__m256i mask, __m256i yes, __m256i no)
{
    return _mm256_blendv_epi8(no, yes, mask);
}

INLINE void v_store(void *out, __m256i v)
{
    _mm256_store_si256(out, v);
}

INLINE void v_store_half(float *out, __m256i v, float sign)
{
    __m256i low = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    __m128i halves =
        _mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
    __m256 value = _mm256_cvtph_ps(halves);
    _mm256_store_ps(out, sign < 0 ? _mm256_xor_ps(value, _mm256_set1_ps(-0.0f)) : value);
}

/* a | (b & mask) */
INLINE __m256i v_or_and(__m256i a, __m256i b, __m256i mask)
{
    return _mm256_or_si256(a, _mm256_and_si256(b, mask));
}

/* The low nibbles of one and the high nibbles of the other. */
INLINE __m256i v_join_nibbles(__m256i low, __m256i high)
{
    __m256i mask = _mm256_set1_epi8(15);
    return _mm256_or_si256(_mm256_and_si256(low, mask), _mm256_andnot_si256(mask, high));
}

/* The upper byte of each 16 bits as a number with its sign. */
INLINE __m256i v_high_bytes(__m256i v)
{
    return _mm256_srai_epi16(v, 8);
}

/* Four bytes of each lane; -1: zero. */
INLINE __m256i v_pick(__m256i v, int a, int b, int c, int d)
{
#define PICK(byte, lane) (char)((byte) < 0 ? -1 : 4 * (lane) + (byte))
#define PICK_4(lane) PICK(a, lane), PICK(b, lane), PICK(c, lane), PICK(d, lane)
    const __m128i index = _mm_setr_epi8(PICK_4(0), PICK_4(1), PICK_4(2), PICK_4(3));
#undef PICK
#undef PICK_4
    return _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(index));
}

/* A scale of 32 bits in its lane: vpmaddwd wants it in both halves, vpmulld as it is. */
INLINE __m256i v_scale_wide(__m256i scale)
{
    __m256i low = _mm256_and_si256(scale, _mm256_set1_epi32(0xffff));
    return KERNEL_VNNI ? scale : _mm256_or_si256(low, _mm256_slli_epi32(scale, 16));
}

INLINE void v_load_rows(const unsigned char *rows, size_t stride, __m256i out[4])
{
    rows8_load_16(rows, stride, out);
}

INLINE void v_load_rows_32(const unsigned char *rows, size_t stride, __m256i out[8])
{
    rows8_load_16(rows, stride, out);
    rows8_load_16(rows + 16, stride, out + 4);
}

INLINE __m256i v_gather(const unsigned char *rows, size_t stride)
{
    return rows8_load_4(rows, stride);
}

INLINE __m256i v_add_fifth_bits(__m256i q, __m256i qh, int i)
{
    const __m128i lanes = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    __m256i byte =
        _mm256_add_epi8(_mm256_broadcastsi128_si256(lanes), _mm256_set1_epi8((char)(i / 2)));
    __m256i bits = _mm256_set1_epi32(i % 2 == 0 ? 0x08040201 : (int)0x80402010);
    __m256i masked = _mm256_and_si256(_mm256_shuffle_epi8(qh, byte), bits);
    __m256i set = _mm256_cmpeq_epi8(masked, bits);
    return _mm256_or_si256(q, _mm256_and_si256(set, _mm256_set1_epi8(16)));
}

#include "kernel/matmul_expand.h"

/* ---- sweeps ---- */

/* A tile has two halves of a panel times so many columns: more would not fit into registers. */
enum { HALVES = PANEL_ROWS / GROUP_ROWS, COLUMNS_MAX = 3 };

/* Which sum of the activations is to be added to a block's sum of products. */
enum offset { OFFSET_0, OFFSET_8, OFFSET_16, OFFSET_128 };

INLINE __m256i offset_sum(const struct activation_q8 *x, enum offset offset)
{
    return offset == OFFSET_8     ? _mm256_set1_epi32(x->sum_8)
           : offset == OFFSET_16  ? _mm256_set1_epi32(x->sum_16)
           : offset == OFFSET_128 ? _mm256_set1_epi32(x->sum_128)
                                  : _mm256_setzero_si256();
}

INLINE void load_halves(const void *p, __m256i out[HALVES])
{
    UNROLL
    for (int h = 0; h < HALVES; h++)
        out[h] = _mm256_load_si256((const __m256i *)p + h);
}

#if KERNEL_VNNI
/* `steps` vectors of weight bytes, q[0] on, times the bytes a[c][0] on of each column. */
INLINE void dot_steps(const uint8_t (*q)[64], const int8_t *const a[COLUMNS_MAX], int steps,
                      int columns, __m256i dot[HALVES][COLUMNS_MAX])
{
    UNROLL
    for (int i = 0; i < steps; i++) {
        __m256i w[HALVES];
        load_halves(q[i], w);
        UNROLL
        for (int c = 0; c < columns; c++) {
            __m256i four = broadcast_4(a[c] + 4 * i);
            UNROLL
            for (int h = 0; h < HALVES; h++)
                dot[h][c] = dot_bytes(dot[h][c], w[h], four);
        }
    }
}

/* A block of 32; `group` is of no interest here. */
INLINE void add_block(const uint8_t (*q)[64], const int8_t *const a[COLUMNS_MAX], int group,
                      int columns, __m256i total[HALVES][COLUMNS_MAX])
{
    (void)group;
    dot_steps(q, a, 8, columns, total);
}
#else
/* The same in 16 bits; with `is_signed` weights, one step. */
INLINE void dot_steps(const uint8_t (*q)[64], const int8_t *const a[COLUMNS_MAX], int steps,
                      bool is_signed, int columns, __m256i dot[HALVES][COLUMNS_MAX])
{
    UNROLL
    for (int i = 0; i < steps; i++) {
        __m256i w[HALVES];
        load_halves(q[i], w);
        UNROLL
        for (int c = 0; c < columns; c++) {
            __m256i four = broadcast_4(a[c] + 4 * i);
            UNROLL
            for (int h = 0; h < HALVES; h++) {
                __m256i product =
                    is_signed ? maddubs_signed(w[h], four) : _mm256_maddubs_epi16(w[h], four);
                dot[h][c] = settled(i == 0 ? product : _mm256_add_epi16(dot[h][c], product));
            }
        }
    }
}

/* A block of 32. `group`: elements that are summed in 16 bits; 4 means that weights are signed. */
INLINE void add_block(const uint8_t (*q)[64], const int8_t *const a[COLUMNS_MAX], int group,
                      int columns, __m256i total[HALVES][COLUMNS_MAX])
{
    UNROLL
    for (int g = 0; g < 32; g += group) {
        __m256i dot[HALVES][COLUMNS_MAX];
        const int8_t *part[COLUMNS_MAX];
        UNROLL
        for (int c = 0; c < columns; c++)
            part[c] = a[c] + g;
        dot_steps(q + g / 4, part, group / 4, group == 4, columns, dot);
        UNROLL
        for (int c = 0; c < columns; c++) {
            UNROLL
            for (int h = 0; h < HALVES; h++)
                total[h][c] = settled(dot_shorts(total[h][c], dot[h][c], _mm256_set1_epi16(1)));
        }
    }
}
#endif

INLINE void sweep_q8(const struct sweep *task, int columns, int group, enum offset offset,
                     bool minima)
{
    const struct panel *panel = task->panels;
    const struct activation_q8 *x[COLUMNS_MAX];
    __m256 sums[HALVES][COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        UNROLL
        for (int h = 0; h < HALVES; h++)
            sums[h][c] = _mm256_load_ps(task->sums + c * PANEL_STRIDE + 8 * h);
    }
    for (uint32_t rest = task->groups; rest != 0; rest &= rest - 1) {
        int b = __builtin_ctz(rest);
        __m256i total[HALVES][COLUMNS_MAX];
        const int8_t *a[COLUMNS_MAX];
        UNROLL
        for (int c = 0; c < columns; c++) {
            a[c] = x[c][b].q;
            UNROLL
            for (int h = 0; h < HALVES; h++)
                total[h][c] = offset_sum(x[c] + b, offset);
        }
        add_block(panel->q + 8 * b, a, group, columns, total);
        UNROLL
        for (int c = 0; c < columns; c++) {
            UNROLL
            for (int h = 0; h < HALVES; h++) {
                __m256 t = _mm256_mul_ps(_mm256_load_ps(panel->d[b] + 8 * h),
                                         _mm256_cvtepi32_ps(total[h][c]));
                if (minima)
                    t = _mm256_fmadd_ps(_mm256_load_ps(panel->m[b] + 8 * h),
                                        _mm256_set1_ps(x[c][b].sum), t);
                sums[h][c] = _mm256_fmadd_ps(_mm256_set1_ps(x[c][b].d), t, sums[h][c]);
            }
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < HALVES; h++)
            _mm256_store_ps(task->sums + c * PANEL_STRIDE + 8 * h, sums[h][c]);
    }
}

/* How a superblock type is summed. */
struct k_shape {
    int sub_block; /* elements with one scale: 32 or 16 */
    int bits;      /* of its weights; 8: signed for AVX2, + 128 for AVX-VNNI */
    int offset;    /* of the weights, as a shift: 2 (Q3_K), 5 (Q6_K); 0: none */
    bool minima;
};

#if KERNEL_VNNI
INLINE int group_of(const struct k_shape shape)
{
    return shape.bits == 8 ? 32 : shape.bits == 6 ? 8 : 16;
}

/* What a group's sum starts with. */
INLINE __m256i start_group(const struct activation_q8_256 *x, int bits, int group)
{
    if (bits == 8)
        return _mm256_slli_epi32(_mm256_set1_epi32(-x->sum32[group]), 7);
    if (bits == 6)
        return broadcast_4(&x->sum8_32[group]);
    if (bits == 5)
        return broadcast_4(&x->sum16_16[group]);
    return _mm256_setzero_si256();
}

INLINE void add_group(const struct panel *panel, const struct activation_q8_256 *const x[],
                      int group, const struct k_shape shape, int columns,
                      __m256i total[HALVES][COLUMNS_MAX])
{
    __m256i dot[HALVES][COLUMNS_MAX], scale[HALVES];
    const int8_t *a[COLUMNS_MAX];
    int elements = group_of(shape), at = group * elements;
    UNROLL
    for (int c = 0; c < columns; c++) {
        a[c] = x[c]->q + at;
        UNROLL
        for (int h = 0; h < HALVES; h++)
            dot[h][c] = start_group(x[c], shape.bits, group);
    }
    dot_steps(panel->q + at / 4, a, elements / 4, columns, dot);
    load_halves(panel->scale[at / shape.sub_block], scale);
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < HALVES; h++)
            total[h][c] =
                shape.bits == 8
                    ? _mm256_add_epi32(total[h][c], _mm256_mullo_epi32(dot[h][c], scale[h]))
                    : dot_shorts(total[h][c], dot[h][c], scale[h]);
    }
}
#else
INLINE int group_of(const struct k_shape shape)
{
    int most = shape.bits == 8 ? 4 : shape.bits == 6 ? 8 : shape.bits == 5 ? 16 : 32;
    return most < shape.sub_block ? most : shape.sub_block;
}

INLINE void add_group(const struct panel *panel, const struct activation_q8_256 *const x[],
                      int group, const struct k_shape shape, int columns,
                      __m256i total[HALVES][COLUMNS_MAX])
{
    __m256i dot[HALVES][COLUMNS_MAX], scale[HALVES];
    const int8_t *a[COLUMNS_MAX];
    int elements = group_of(shape), at = group * elements;
    UNROLL
    for (int c = 0; c < columns; c++)
        a[c] = x[c]->q + at;
    dot_steps(panel->q + at / 4, a, elements / 4, shape.bits == 8, columns, dot);
    load_halves(panel->scale[at / shape.sub_block], scale);
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < HALVES; h++)
            total[h][c] = settled(dot_shorts(total[h][c], dot[h][c], scale[h]));
    }
}
#endif

/* Sum over the sub-blocks of pairs[b] * sum_b(a), for 8 rows. */
INLINE __m256i dot_sums(const int16_t pairs[8][32], const struct activation_q8_256 *x,
                        int sub_block, int h)
{
    const int16_t *sums = sub_block == 32 ? x->sum32 : x->sum16;
    __m256i dot = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < STEP_ELEMENTS / sub_block / 2; i++)
        dot = dot_shorts(dot, _mm256_load_si256((const void *)(pairs[i] + 16 * h)),
                         broadcast_4(sums + 2 * i));
    return dot;
}

/* scale * sum(a) over all sub-blocks makes up for weights that are larger as bytes; a group of five
 * bits that started at -16 * sum(a) gets it back. */
INLINE __m256i correct_total(const struct panel *panel, const struct activation_q8_256 *x,
                             const struct k_shape shape, int h, __m256i total)
{
    bool give_back = KERNEL_VNNI && shape.bits == 5;
    bool offset = shape.offset > 0 && !(KERNEL_VNNI && shape.bits == 6); /* it started so */
    if (!give_back && !offset)
        return total;
    __m256i dot = dot_sums(panel->scale_pair, x, shape.sub_block, h);
    if (give_back)
        return _mm256_add_epi32(total, _mm256_slli_epi32(dot, 4));
    return _mm256_sub_epi32(total, _mm256_slli_epi32(dot, shape.offset));
}

INLINE void finish_superblock(const struct panel *panel, const struct activation_q8_256 *x,
                              const struct k_shape shape, int h, __m256i total, float *sums)
{
    total = correct_total(panel, x, shape, h, total);
    __m256 t = _mm256_mul_ps(_mm256_load_ps(panel->d[0] + 8 * h), _mm256_cvtepi32_ps(total));
    if (shape.minima) {
        __m256 minima = _mm256_cvtepi32_ps(dot_sums(panel->min_pair, x, shape.sub_block, h));
        t = _mm256_fmadd_ps(_mm256_load_ps(panel->m[0] + 8 * h), minima, t);
    }
    _mm256_store_ps(sums, _mm256_fmadd_ps(_mm256_set1_ps(x->d), t, _mm256_load_ps(sums)));
}

INLINE void sweep_q8_256(const struct sweep *task, int columns, const struct k_shape shape)
{
    const struct panel *panel = task->panels;
    const struct activation_q8_256 *x[COLUMNS_MAX];
    __m256i total[HALVES][COLUMNS_MAX];
    UNROLL
    for (int c = 0; c < columns; c++) {
        x[c] = (const void *)(task->x + (size_t)c * task->x_stride);
        UNROLL
        for (int h = 0; h < HALVES; h++)
            total[h][c] = _mm256_setzero_si256();
    }
    int per_mark = ACTIVATION_GROUP / group_of(shape);
    for (uint32_t rest = task->groups; rest != 0; rest &= rest - 1) {
        int first = __builtin_ctz(rest) * per_mark;
        for (int g = 0; g < per_mark; g++)
            add_group(panel, x, first + g, shape, columns, total);
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int h = 0; h < HALVES; h++)
            finish_superblock(panel, x[c], shape, h, total[h][c],
                              task->sums + c * PANEL_STRIDE + 8 * h);
    }
}

/* ---- one function per tile and kind of type ---- */

#define SWEEPS(name, body, ...)                                                                    \
    static void name##_1(const struct sweep *task)                                                 \
    {                                                                                              \
        body(task, 1, __VA_ARGS__);                                                                \
    }                                                                                              \
    static void name##_2(const struct sweep *task)                                                 \
    {                                                                                              \
        body(task, 2, __VA_ARGS__);                                                                \
    }                                                                                              \
    static void name##_3(const struct sweep *task)                                                 \
    {                                                                                              \
        body(task, 3, __VA_ARGS__);                                                                \
    }

SWEEPS(sweep_4_bits, sweep_q8, 32, OFFSET_0, true)
SWEEPS(sweep_5_bits, sweep_q8, 16, OFFSET_0, true)
SWEEPS(sweep_4_bits_minus_8, sweep_q8, 32, OFFSET_8, false)
SWEEPS(sweep_5_bits_minus_16, sweep_q8, 16, OFFSET_16, false)
SWEEPS(sweep_8_bits, sweep_q8, 4, KERNEL_VNNI ? OFFSET_128 : OFFSET_0, false)
SWEEPS(sweep_q2_k, sweep_q8_256, (struct k_shape){16, 4, 0, true})
SWEEPS(sweep_q3_k, sweep_q8_256, (struct k_shape){16, 4, 2, false})
SWEEPS(sweep_q4_k, sweep_q8_256, (struct k_shape){32, 4, 0, true})
SWEEPS(sweep_q5_k, sweep_q8_256, (struct k_shape){32, 5, 0, true})
SWEEPS(sweep_q6_k, sweep_q8_256, (struct k_shape){16, 6, 5, false})
SWEEPS(sweep_iq4_xs, sweep_q8_256, (struct k_shape){32, 8, 0, false})

/* X(type, tag, form, sweep) */
#define PANEL_TYPES(X)                                                                             \
    X(Q4_0, q4_0, ACTIVATION_Q8, sweep_4_bits_minus_8)                                             \
    X(Q4_1, q4_1, ACTIVATION_Q8, sweep_4_bits)                                                     \
    X(Q5_0, q5_0, ACTIVATION_Q8, sweep_5_bits_minus_16)                                            \
    X(Q5_1, q5_1, ACTIVATION_Q8, sweep_5_bits)                                                     \
    X(Q8_0, q8_0, ACTIVATION_Q8, sweep_8_bits)                                                     \
    X(IQ4_NL, iq4_nl, ACTIVATION_Q8, sweep_8_bits)                                                 \
    X(MXFP4, mxfp4, ACTIVATION_Q8, sweep_5_bits_minus_16)                                          \
    X(Q2_K, q2_k, ACTIVATION_Q8_256, sweep_q2_k)                                                   \
    X(Q3_K, q3_k, ACTIVATION_Q8_256, sweep_q3_k)                                                   \
    X(Q4_K, q4_k, ACTIVATION_Q8_256, sweep_q4_k)                                                   \
    X(Q5_K, q5_k, ACTIVATION_Q8_256, sweep_q5_k)                                                   \
    X(Q6_K, q6_k, ACTIVATION_Q8_256, sweep_q6_k)                                                   \
    X(IQ4_XS, iq4_xs, ACTIVATION_Q8_256, sweep_iq4_xs)

#define DEFINE_MATMUL(type_name, tag, form, sweep)                                                 \
    static void matmul_##tag(const struct matmul *task)                                            \
    {                                                                                              \
        static const struct panel_type type = {                                                    \
            BLOCK_BYTES_##type_name,           form,   expand_##tag, 2, COLUMNS_MAX,               \
            {sweep##_1, sweep##_2, sweep##_3}, {NULL}, NULL};                                      \
        if (!TIER(matvec)(task))                                                                   \
            matmul_panels(task, &type);                                                            \
    }
PANEL_TYPES(DEFINE_MATMUL)
#undef DEFINE_MATMUL

/* ---- rows of floats ---- */

enum float_kind { KIND_F32, KIND_F16, KIND_BF16 };

enum { TILE_ROWS = 2, TILE_COLUMNS = 2 };

/* Eight weights. */
INLINE __m256 load_eight(const unsigned char *weights, enum float_kind kind)
{
    if (kind == KIND_F32)
        return _mm256_loadu_ps((const float *)(const void *)weights);
    __m128i half = _mm_loadu_si128((const void *)weights);
    if (kind == KIND_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* Lanes i and i + 8, then + 4, + 2, + 1. */
INLINE float sum_lanes(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* 16 elements of each row, at rows[r], into the partial sums. */
INLINE void float_step(const unsigned char *const rows[TILE_ROWS], const struct float_tile *tile,
                       size_t i, int row_count, int columns, enum float_kind kind,
                       __m256 sums[TILE_ROWS][TILE_COLUMNS][2])
{
    size_t size = kind == KIND_F32 ? 4 : 2;
    UNROLL
    for (size_t h = 0; h < 2; h++) {
        UNROLL
        for (int c = 0; c < columns; c++) {
            const unsigned char *x = tile->x + (size_t)c * tile->x_stride + 4 * (i + 8 * h);
            __m256 eight = _mm256_load_ps((const float *)(const void *)x);
            UNROLL
            for (int r = 0; r < row_count; r++)
                sums[r][c][h] =
                    _mm256_fmadd_ps(load_eight(rows[r] + 8 * h * size, kind), eight, sums[r][c][h]);
        }
    }
}

INLINE void multiply_float_tile(const struct float_tile *tile, int row_count, int columns,
                                enum float_kind kind)
{
    size_t size = kind == KIND_F32 ? 4 : 2, i = 0;
    const unsigned char *rows[TILE_ROWS];
    __m256 sums[TILE_ROWS][TILE_COLUMNS][2];
    UNROLL
    for (int r = 0; r < row_count; r++) {
        UNROLL
        for (int c = 0; c < columns; c++)
            sums[r][c][0] = sums[r][c][1] = _mm256_setzero_ps();
    }
    for (; i + 16 <= tile->k; i += 16) {
        UNROLL
        for (int r = 0; r < row_count; r++)
            rows[r] = tile->rows + (size_t)r * tile->row_bytes + i * size;
        float_step(rows, tile, i, row_count, columns, kind, sums);
    }
    if (i < tile->k) { /* the rest, filled up with zeros */
        unsigned char rest[TILE_ROWS][64] = {{0}};
        for (int r = 0; r < row_count; r++) {
            memcpy(rest[r], tile->rows + (size_t)r * tile->row_bytes + i * size,
                   (tile->k - i) * size);
            rows[r] = rest[r];
        }
        float_step(rows, tile, i, row_count, columns, kind, sums);
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int r = 0; r < row_count; r++)
            tile->y[(size_t)c * tile->y_stride + (size_t)r] =
                sum_lanes(sums[r][c][0], sums[r][c][1]);
    }
}

#define FLOAT_TILE(tag, kind, rows, columns)                                                       \
    static void tag##_##rows##x##columns(const struct float_tile *tile)                            \
    {                                                                                              \
        multiply_float_tile(tile, rows, columns, kind);                                            \
    }
#define DEFINE_FLOAT_MATMUL(tag, kind)                                                             \
    FLOAT_TILE(tag, kind, 1, 1)                                                                    \
    FLOAT_TILE(tag, kind, 1, 2)                                                                    \
    FLOAT_TILE(tag, kind, 2, 1)                                                                    \
    FLOAT_TILE(tag, kind, 2, 2)                                                                    \
    static void matmul_##tag(const struct matmul *task)                                            \
    {                                                                                              \
        static const struct float_type type = {                                                    \
            TILE_ROWS, TILE_COLUMNS, {tag##_1x1, tag##_1x2}, {tag##_2x1, tag##_2x2}};              \
        matmul_float_rows(task, &type);                                                            \
    }
DEFINE_FLOAT_MATMUL(f32, KIND_F32)
DEFINE_FLOAT_MATMUL(f16, KIND_F16)
DEFINE_FLOAT_MATMUL(bf16, KIND_BF16)

void TIER(matmul_fill)(struct kernels *kernels)
{
    TIER(quantize_fill)(kernels);
#define FILL(type, tag, form, sweep) kernels->matmul[TYPE_##type] = matmul_##tag;
    PANEL_TYPES(FILL)
#undef FILL
    kernels->matmul[TYPE_F32] = matmul_f32;
    kernels->matmul[TYPE_F16] = matmul_f16;
    kernels->matmul[TYPE_BF16] = matmul_bf16;
}
