/* The arithmetic of matrix products, as plain as it can be said. Every vector kernel is tested for
 * equality with this file.
 *
 * Quantized weights. Inside a block everything is exact: 32-bit integer sums S and T. A block of
 * weights with scale d (and offset m) meets a block of activations with scale d_a and integers a:
 *
 *     S   = sum over sub-blocks of scale_b * sum(q * a)     q as the format means it, with its sign
 *     T   = sum over sub-blocks of min_b * sum(a)
 *     t   = d * S                        one rounding, or, for types with minima,
 *     t   = fma(m, T, d * S)
 *     acc = fma(d_a, t, acc)             block after block, acc starting at 0
 *
 * and where a column has outliers, y = acc + acc', the latter over the column of outliers.
 *
 * Types with blocks of 32 are one sub-block with scale_b = min_b = 1; the K types have 8 or 16 with
 * integer scales, and m = -dmin. |S| is at most 256 * 31 * 63 * 127 (Q5_K), 16 * 128 * 16 * 32 *
 * 127 (Q6_K) or 256 * 127 * 32 * 127 (IQ4_XS): below 2^28. S and T become floats by rounding to
 * nearest.
 *
 * That nothing is rounded inside a block is what lets each instruction set sum in its own order.
 *
 * F32, F16, BF16 weights. 16 partial sums, element k into sum k mod 16 by fma, ascending; the row
 * counts as filled up with zeros to a multiple of 16. Then sums i and i + 8 are added, i and i + 4,
 * i and i + 2, i and i + 1. */
#include <assert.h>
#include <math.h>
#include <stdbool.h>

#include "kernel/activation.h"
#include "kernel/blocks.h"
#include "kernel/half.h"
#include "kernel/outliers.h"
#include "kernel/tiers.h"

/* One block of weights, taken apart. */
struct weight_block {
    float d, m;
    int q[SUPERBLOCK_SIZE];
    int scale[16], min[16]; /* per sub-block */
};

struct weight_format {
    int elements, sub_block;
    size_t bytes;
    bool minima;
    void (*unpack)(const void *block, struct weight_block *out);
};

static float load_f16(const uint8_t bytes[2])
{
    return half_to_float(half_load(bytes));
}

/* ---- blocks of 32 ---- */

static void unpack_nibbles(const uint8_t qs[16], int offset, struct weight_block *out)
{
    out->scale[0] = out->min[0] = 1;
    for (int i = 0; i < 16; i++) {
        out->q[i] = (qs[i] & 15) + offset;
        out->q[i + 16] = (qs[i] >> 4) + offset;
    }
}

static void add_fifth_bits(const uint8_t qh[4], struct weight_block *out)
{
    for (int i = 0; i < 32; i++)
        out->q[i] += (qh[i / 8] >> i % 8 & 1) * 16;
}

static void unpack_q4_0(const void *data, struct weight_block *out)
{
    const struct block_q4_0 *block = data;
    out->d = load_f16(block->d);
    unpack_nibbles(block->qs, -8, out);
}

static void unpack_q4_1(const void *data, struct weight_block *out)
{
    const struct block_q4_1 *block = data;
    out->d = load_f16(block->d);
    out->m = load_f16(block->m);
    unpack_nibbles(block->qs, 0, out);
}

static void unpack_q5_0(const void *data, struct weight_block *out)
{
    const struct block_q5_0 *block = data;
    out->d = load_f16(block->d);
    unpack_nibbles(block->qs, -16, out);
    add_fifth_bits(block->qh, out);
}

static void unpack_q5_1(const void *data, struct weight_block *out)
{
    const struct block_q5_1 *block = data;
    out->d = load_f16(block->d);
    out->m = load_f16(block->m);
    unpack_nibbles(block->qs, 0, out);
    add_fifth_bits(block->qh, out);
}

static void unpack_q8_0(const void *data, struct weight_block *out)
{
    const struct block_q8_0 *block = data;
    out->d = load_f16(block->d);
    out->scale[0] = 1;
    for (int i = 0; i < 32; i++)
        out->q[i] = block->qs[i];
}

static void unpack_codes(const uint8_t qs[16], const int8_t values[16], int q[32])
{
    for (int i = 0; i < 16; i++) {
        q[i] = values[qs[i] & 15];
        q[i + 16] = values[qs[i] >> 4];
    }
}

static void unpack_iq4_nl(const void *data, struct weight_block *out)
{
    static const int8_t values[16] = IQ4_VALUES_INIT;
    const struct block_iq4_nl *block = data;
    out->d = load_f16(block->d);
    out->scale[0] = 1;
    unpack_codes(block->qs, values, out->q);
}

static void unpack_mxfp4(const void *data, struct weight_block *out)
{
    static const int8_t values[16] = MXFP4_VALUES_INIT;
    const struct block_mxfp4 *block = data;
    out->d = e8m0_half_to_float(block->e);
    out->scale[0] = 1;
    unpack_codes(block->qs, values, out->q);
}

/* ---- superblocks of 256 ---- */

/* Two bits of element i, as Q2_K, Q3_K and (in qh) Q6_K pack them. */
static int two_bits(const uint8_t *bytes, int i)
{
    return bytes[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
}

static void unpack_q2_k(const void *data, struct weight_block *out)
{
    const struct block_q2_k *block = data;
    out->d = load_f16(block->d);
    out->m = -load_f16(block->dmin);
    for (int b = 0; b < 16; b++) {
        out->scale[b] = block->scales[b] & 15;
        out->min[b] = block->scales[b] >> 4;
    }
    for (int i = 0; i < SUPERBLOCK_SIZE; i++)
        out->q[i] = two_bits(block->qs, i);
}

static void unpack_q3_k(const void *data, struct weight_block *out)
{
    const struct block_q3_k *block = data;
    out->d = load_f16(block->d);
    for (int b = 0; b < 16; b++)
        out->scale[b] = q3_k_scale(block->scales, b);
    for (int i = 0; i < SUPERBLOCK_SIZE; i++)
        out->q[i] = two_bits(block->qs, i) + 4 * (block->hmask[i % 32] >> i / 32 & 1) - 4;
}

static void unpack_q4_k(const void *data, struct weight_block *out)
{
    const struct block_q4_k *block = data;
    out->d = load_f16(block->d);
    out->m = -load_f16(block->dmin);
    for (int b = 0; b < 8; b++) {
        out->scale[b] = q4_k_scale(block->scales, b);
        out->min[b] = q4_k_min(block->scales, b);
    }
    for (int i = 0; i < SUPERBLOCK_SIZE; i++)
        out->q[i] = block->qs[i / 64 * 32 + i % 32] >> i / 32 % 2 * 4 & 15;
}

static void unpack_q5_k(const void *data, struct weight_block *out)
{
    const struct block_q5_k *block = data;
    out->d = load_f16(block->d);
    out->m = -load_f16(block->dmin);
    for (int b = 0; b < 8; b++) {
        out->scale[b] = q4_k_scale(block->scales, b);
        out->min[b] = q4_k_min(block->scales, b);
    }
    for (int i = 0; i < SUPERBLOCK_SIZE; i++) {
        int low = block->qs[i / 64 * 32 + i % 32] >> i / 32 % 2 * 4 & 15;
        out->q[i] = low + 16 * (block->qh[i % 32] >> i / 32 & 1);
    }
}

static void unpack_q6_k(const void *data, struct weight_block *out)
{
    const struct block_q6_k *block = data;
    out->d = load_f16(block->d);
    for (int b = 0; b < 16; b++)
        out->scale[b] = block->scales[b];
    for (int i = 0; i < SUPERBLOCK_SIZE; i++) {
        int low = block->ql[i / 128 * 64 + i % 64] >> i / 64 % 2 * 4 & 15;
        out->q[i] = low + 16 * two_bits(block->qh, i) - 32;
    }
}

static void unpack_iq4_xs(const void *data, struct weight_block *out)
{
    static const int8_t values[16] = IQ4_VALUES_INIT;
    const struct block_iq4_xs *block = data;
    out->d = load_f16(block->d);
    for (int b = 0; b < 8; b++) {
        out->scale[b] = iq4_xs_scale(block, b);
        unpack_codes(block->qs + 16 * b, values, out->q + 32 * b);
    }
}

/* ---- products ---- */

static float block_value(const struct weight_format *format, const struct weight_block *w,
                         const int8_t *a)
{
    int32_t s = 0, t = 0;
    for (int i = 0, b = 0; i < format->elements; i += format->sub_block, b++) {
        int32_t dot = 0, sum = 0;
        for (int j = i; j < i + format->sub_block; j++) {
            dot += w->q[j] * a[j];
            sum += a[j];
        }
        s += w->scale[b] * dot;
        t += format->minima ? w->min[b] * sum : 0;
    }
    float value = w->d * (float)s;
    return format->minima ? fmaf(w->m, (float)t, value) : value;
}

/* A row of weights times `columns` columns of activations, x_stride bytes apart. */
static void multiply_row(const struct weight_format *format, const unsigned char *row,
                         size_t blocks, const unsigned char *x, size_t x_stride, size_t columns,
                         float *sums)
{
    bool super = format->elements == SUPERBLOCK_SIZE;
    for (size_t c = 0; c < columns; c++)
        sums[c] = 0.0f;
    for (size_t n = 0; n < blocks; n++) {
        struct weight_block w;
        format->unpack(row + n * format->bytes, &w);
        for (size_t c = 0; c < columns; c++) {
            const struct activation_q8 *a =
                (const struct activation_q8 *)(const void *)(x + c * x_stride) + n;
            const struct activation_q8_256 *a_256 =
                (const struct activation_q8_256 *)(const void *)(x + c * x_stride) + n;
            float t = block_value(format, &w, super ? a_256->q : a->q);
            sums[c] = fmaf(super ? a_256->d : a->d, t, sums[c]);
        }
    }
}

static void multiply_blocks(const struct matmul *task, const struct weight_format *format)
{
    enum { COLUMNS = 64 };
    size_t stride = activation_row_bytes(activation_form_of(task->type), task->k);
    size_t blocks = task->k / (size_t)format->elements, count;
    assert(task->k % (size_t)format->elements == 0);

    for (size_t c = 0; c < task->columns; c += count) {
        const unsigned char *x = (const unsigned char *)task->x + c * stride;
        count = task->columns - c < COLUMNS ? task->columns - c : COLUMNS;
        for (size_t r = task->row_begin; r < task->row_end; r++) {
            const unsigned char *row = (const unsigned char *)task->weights + r * task->row_bytes;
            float sums[COLUMNS], outliers[COLUMNS];
            multiply_row(format, row, blocks, x, stride, count, sums);
            if (task->marks != NULL)
                multiply_row(format, row, blocks, x + task->columns * stride, stride, count,
                             outliers);
            for (size_t i = 0; i < count; i++) {
                bool any = outliers_any(outliers_of(task, c + i));
                task->y[(c + i) * task->y_stride + r] = any ? sums[i] + outliers[i] : sums[i];
            }
        }
    }
}

/* X(type, tag, elements, elements of a sub-block, has minima) */
#define QUANTIZED_TYPES(X)                                                                         \
    X(Q4_0, q4_0, 32, 32, false)                                                                   \
    X(Q4_1, q4_1, 32, 32, true)                                                                    \
    X(Q5_0, q5_0, 32, 32, false)                                                                   \
    X(Q5_1, q5_1, 32, 32, true)                                                                    \
    X(Q8_0, q8_0, 32, 32, false)                                                                   \
    X(IQ4_NL, iq4_nl, 32, 32, false)                                                               \
    X(MXFP4, mxfp4, 32, 32, false)                                                                 \
    X(Q2_K, q2_k, 256, 16, true)                                                                   \
    X(Q3_K, q3_k, 256, 16, false)                                                                  \
    X(Q4_K, q4_k, 256, 32, true)                                                                   \
    X(Q5_K, q5_k, 256, 32, true)                                                                   \
    X(Q6_K, q6_k, 256, 16, false)                                                                  \
    X(IQ4_XS, iq4_xs, 256, 32, false)

#define DEFINE_MULTIPLY(type, tag, elements, sub_block, minima)                                    \
    static void multiply_##tag(const struct matmul *task)                                          \
    {                                                                                              \
        static const struct weight_format format = {elements, sub_block, BLOCK_BYTES_##type,       \
                                                    minima, unpack_##tag};                         \
        multiply_blocks(task, &format);                                                            \
    }
QUANTIZED_TYPES(DEFINE_MULTIPLY)
#undef DEFINE_MULTIPLY

static float weight_f32(const unsigned char *row, size_t i)
{
    float value;
    memcpy(&value, row + 4 * i, sizeof(value));
    return value;
}

static float weight_f16(const unsigned char *row, size_t i)
{
    return load_f16(row + 2 * i);
}

static float weight_bf16(const unsigned char *row, size_t i)
{
    return bf16_to_float(half_load(row + 2 * i));
}

static void multiply_floats(const struct matmul *task,
                            float (*weight)(const unsigned char *row, size_t i))
{
    size_t stride = activation_row_bytes(ACTIVATION_F32, task->k);
    for (size_t r = task->row_begin; r < task->row_end; r++) {
        const unsigned char *row = (const unsigned char *)task->weights + r * task->row_bytes;
        for (size_t c = 0; c < task->columns; c++) {
            const float *x = (const float *)((const unsigned char *)task->x + c * stride);
            float sums[16] = {0};
            for (size_t i = 0; i < (task->k + 15) / 16 * 16; i++) {
                float w = i < task->k ? weight(row, i) : 0.0f;
                sums[i % 16] = fmaf(w, x[i], sums[i % 16]);
            }
            for (int half = 8; half > 0; half /= 2)
                for (int i = 0; i < half; i++)
                    sums[i] += sums[i + half];
            task->y[c * task->y_stride + r] = sums[0];
        }
    }
}

static void multiply_f32(const struct matmul *task)
{
    multiply_floats(task, weight_f32);
}

static void multiply_f16(const struct matmul *task)
{
    multiply_floats(task, weight_f16);
}

static void multiply_bf16(const struct matmul *task)
{
    multiply_floats(task, weight_bf16);
}

void matmul_fill_ref(struct kernels *kernels)
{
    kernels->matmul[TYPE_F32] = multiply_f32;
    kernels->matmul[TYPE_F16] = multiply_f16;
    kernels->matmul[TYPE_BF16] = multiply_bf16;
#define FILL(type, tag, elements, sub_block, minima) kernels->matmul[TYPE_##type] = multiply_##tag;
    QUANTIZED_TYPES(FILL)
#undef FILL
}
