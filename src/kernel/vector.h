/* Everything of a forward pass that is no matrix product: norms, rotations, activations,
 * attention. All arithmetic is f32 in a fixed order (sums over 16 lanes, element i into lane
 * i mod 16, then a fixed tree), written once over 16-lane vectors in vector_tmpl.h and compiled for
 * each instruction set, so that every tier gives the same bits.
 *
 * Pointers to floats need no alignment unless said; counts may be any. */
#ifndef KERNEL_VECTOR_H
#define KERNEL_VECTOR_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/attention.h"

struct vector_kernels {
    /* y = x / sqrt(mean(x^2) + eps) * weight, n floats; weight NULL: ones. y may be x.
     * Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019. */
    void (*rms_norm)(const float *x, const float *weight, float eps, size_t n, float *y);
    void (*add)(float *y, const float *x, size_t n); /* y += x */
    void (*scale)(float *y, float factor, size_t n);
    /* gate = silu(gate) * up; silu(x) = x / (1 + exp(-x)) */
    void (*silu_mul)(float *gate, const float *up, size_t n);
    /* gate = gelu(gate) * up, the tanh form of Hendrycks and Gimpel 2016 */
    void (*gelu_mul)(float *gate, const float *up, size_t n);
    /* y = cap * tanh(y / cap) */
    void (*soft_cap)(float *y, float cap, size_t n);
    /* Rotates `pairs` pairs of x by the angles whose cosines and sines are given: elements
     * (i, i + pairs) in NeoX order, (2 i, 2 i + 1) in normal order. */
    void (*rope_neox)(float *x, const float *cosine, const float *sine, size_t pairs);
    void (*rope_normal)(float *x, const float *cosine, const float *sine, size_t pairs);

    /* Stores one token's key (value) into slot 0 to 31 of its head's part of a block. */
    void (*store_key[KV_TYPES])(const float *key, size_t key_size, void *part, size_t slot);
    void (*store_value[KV_TYPES])(const float *value, size_t value_size, void *part, size_t slot);
    void (*attention)(const struct attention *task);
    /* Merges the partial result of a later range of tokens into that of all earlier ones. */
    void (*attention_merge)(struct attention_partial *total, const struct attention_partial *part,
                            size_t value_size);
    /* Makes the values of a partial the attention's result: divides them by the sum. */
    void (*attention_finish)(struct attention_partial *total, size_t value_size);

    /* Multiplies x, `size` elements, by a Hadamard matrix of the largest power of two that divides
     * size (at least 16), group by group, over its square root: a rotation that is its own inverse.
     * It spreads what stands out in few elements over all, so that few bits hold them better. */
    void (*hadamard)(float *x, size_t size);
};

void vector_fill_ref(struct vector_kernels *out);
void vector_fill_avx2(struct vector_kernels *out);   /* only where the CPU has AVX2, FMA, F16C */
void vector_fill_avx512(struct vector_kernels *out); /* only with AVX-512 F BW DQ VL VNNI */
void vector_fill_neon(struct vector_kernels *out);   /* only with the dot products of ARMv8.2 */

#endif
