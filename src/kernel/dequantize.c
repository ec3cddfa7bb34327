/* Rows of weights as floats, in the order of operations that defines each format: a product of
 * scales is rounded to f32 before it is multiplied with the integer. */
#include <string.h>

#include "kernel/blocks.h"
#include "kernel/half.h"
#include "kernel/tiers.h"

static void dequantize_f32(const void *row, size_t k, float *out)
{
    memcpy(out, row, k * sizeof(float));
}

static void dequantize_f16(const void *row, size_t k, float *out)
{
    const uint8_t *bytes = row;
    for (size_t i = 0; i < k; i++)
        out[i] = half_to_float(half_load(bytes + 2 * i));
}

static void dequantize_bf16(const void *row, size_t k, float *out)
{
    const uint8_t *bytes = row;
    for (size_t i = 0; i < k; i++)
        out[i] = bf16_to_float(half_load(bytes + 2 * i));
}

static void dequantize_q4_0(const void *row, size_t k, float *out)
{
    const struct block_q4_0 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((block->qs[i] & 15) - 8);
            out[i + 16] = d * (float)((block->qs[i] >> 4) - 8);
        }
    }
}

static void dequantize_q4_1(const void *row, size_t k, float *out)
{
    const struct block_q4_1 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        float m = half_to_float(half_load(block->m));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(block->qs[i] & 15) + m;
            out[i + 16] = d * (float)(block->qs[i] >> 4) + m;
        }
    }
}

/* Bit i of the four bytes, as the fifth bit of a weight. */
static int fifth_bit(const uint8_t qh[4], int i)
{
    return (qh[i / 8] >> i % 8 & 1) << 4;
}

static void dequantize_q5_0(const void *row, size_t k, float *out)
{
    const struct block_q5_0 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(((block->qs[i] & 15) | fifth_bit(block->qh, i)) - 16);
            out[i + 16] = d * (float)((block->qs[i] >> 4 | fifth_bit(block->qh, i + 16)) - 16);
        }
    }
}

static void dequantize_q5_1(const void *row, size_t k, float *out)
{
    const struct block_q5_1 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        float m = half_to_float(half_load(block->m));
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((block->qs[i] & 15) | fifth_bit(block->qh, i)) + m;
            out[i + 16] = d * (float)(block->qs[i] >> 4 | fifth_bit(block->qh, i + 16)) + m;
        }
    }
}

static void dequantize_q8_0(const void *row, size_t k, float *out)
{
    const struct block_q8_0 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        for (int i = 0; i < BLOCK_SIZE; i++)
            out[i] = d * (float)block->qs[i];
    }
}

static void dequantize_codes(const uint8_t qs[16], const int8_t values[16], float d, float *out)
{
    for (int i = 0; i < 16; i++) {
        out[i] = d * (float)values[qs[i] & 15];
        out[i + 16] = d * (float)values[qs[i] >> 4];
    }
}

static void dequantize_iq4_nl(const void *row, size_t k, float *out)
{
    static const int8_t values[16] = IQ4_VALUES_INIT;
    const struct block_iq4_nl *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE)
        dequantize_codes(block->qs, values, half_to_float(half_load(block->d)), out);
}

static void dequantize_mxfp4(const void *row, size_t k, float *out)
{
    static const int8_t values[16] = MXFP4_VALUES_INIT;
    const struct block_mxfp4 *block = row;
    for (size_t n = k / BLOCK_SIZE; n > 0; n--, block++, out += BLOCK_SIZE)
        dequantize_codes(block->qs, values, e8m0_half_to_float(block->e), out);
}

static void dequantize_iq4_xs(const void *row, size_t k, float *out)
{
    static const int8_t values[16] = IQ4_VALUES_INIT;
    const struct block_iq4_xs *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++) {
        float d = half_to_float(half_load(block->d));
        for (int b = 0; b < 8; b++, out += 32)
            dequantize_codes(block->qs + 16 * b, values, d * (float)iq4_xs_scale(block, b), out);
    }
}

static void dequantize_q2_k(const void *row, size_t k, float *out)
{
    const struct block_q2_k *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++, out += SUPERBLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        float dmin = half_to_float(half_load(block->dmin));
        for (int i = 0; i < SUPERBLOCK_SIZE; i++) {
            float scale = d * (float)(block->scales[i / 16] & 15);
            float min = dmin * (float)(block->scales[i / 16] >> 4);
            int q = block->qs[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
            out[i] = scale * (float)q - min;
        }
    }
}

static void dequantize_q3_k(const void *row, size_t k, float *out)
{
    const struct block_q3_k *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++, out += SUPERBLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        for (int i = 0; i < SUPERBLOCK_SIZE; i++) {
            float scale = d * (float)q3_k_scale(block->scales, i / 16);
            int low = block->qs[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
            int high = block->hmask[i % 32] >> i / 32 & 1;
            out[i] = scale * (float)(low + 4 * high - 4);
        }
    }
}

static void dequantize_q4_k(const void *row, size_t k, float *out)
{
    const struct block_q4_k *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++) {
        float d = half_to_float(half_load(block->d));
        float dmin = half_to_float(half_load(block->dmin));
        for (int b = 0; b < 8; b++, out += 32) {
            float scale = d * (float)q4_k_scale(block->scales, b);
            float min = dmin * (float)q4_k_min(block->scales, b);
            for (int i = 0; i < 32; i++) {
                int q = block->qs[b / 2 * 32 + i] >> b % 2 * 4 & 15;
                out[i] = scale * (float)q - min;
            }
        }
    }
}

static void dequantize_q5_k(const void *row, size_t k, float *out)
{
    const struct block_q5_k *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++) {
        float d = half_to_float(half_load(block->d));
        float dmin = half_to_float(half_load(block->dmin));
        for (int b = 0; b < 8; b++, out += 32) {
            float scale = d * (float)q4_k_scale(block->scales, b);
            float min = dmin * (float)q4_k_min(block->scales, b);
            for (int i = 0; i < 32; i++) {
                int low = block->qs[b / 2 * 32 + i] >> b % 2 * 4 & 15;
                int high = block->qh[i] >> b & 1;
                out[i] = scale * (float)(low | high << 4) - min;
            }
        }
    }
}

static void dequantize_q6_k(const void *row, size_t k, float *out)
{
    const struct block_q6_k *block = row;
    for (size_t n = k / SUPERBLOCK_SIZE; n > 0; n--, block++, out += SUPERBLOCK_SIZE) {
        float d = half_to_float(half_load(block->d));
        for (int i = 0; i < SUPERBLOCK_SIZE; i++) {
            float scale = d * (float)block->scales[i / 16];
            int low = block->ql[i / 128 * 64 + i % 64] >> i / 64 % 2 * 4 & 15;
            int high = block->qh[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
            out[i] = scale * (float)((low | high << 4) - 32);
        }
    }
}

void dequantize_fill(struct kernels *kernels)
{
    kernels->dequantize[TYPE_F32] = dequantize_f32;
    kernels->dequantize[TYPE_F16] = dequantize_f16;
    kernels->dequantize[TYPE_BF16] = dequantize_bf16;
    kernels->dequantize[TYPE_Q4_0] = dequantize_q4_0;
    kernels->dequantize[TYPE_Q4_1] = dequantize_q4_1;
    kernels->dequantize[TYPE_Q5_0] = dequantize_q5_0;
    kernels->dequantize[TYPE_Q5_1] = dequantize_q5_1;
    kernels->dequantize[TYPE_Q8_0] = dequantize_q8_0;
    kernels->dequantize[TYPE_Q2_K] = dequantize_q2_k;
    kernels->dequantize[TYPE_Q3_K] = dequantize_q3_k;
    kernels->dequantize[TYPE_Q4_K] = dequantize_q4_k;
    kernels->dequantize[TYPE_Q5_K] = dequantize_q5_k;
    kernels->dequantize[TYPE_Q6_K] = dequantize_q6_k;
    kernels->dequantize[TYPE_IQ4_NL] = dequantize_iq4_nl;
    kernels->dequantize[TYPE_IQ4_XS] = dequantize_iq4_xs;
    kernels->dequantize[TYPE_MXFP4] = dequantize_mxfp4;
}
