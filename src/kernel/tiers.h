/* What each tier puts into the table of kernels. A fill function overwrites the entries that it has
 * something better for; kernel.c calls them in ascending order. Private to this room. */
#ifndef KERNEL_TIERS_H
#define KERNEL_TIERS_H

#include "kernel/kernel.h"

/* Quantizers and products (quantize.c, matmul_*.c). */
void quantize_fill_ref(struct kernels *kernels);
void quantize_fill_avx512(struct kernels *kernels);
void matmul_fill_ref(struct kernels *kernels);
void matmul_fill_avx2(struct kernels *kernels);
void matmul_fill_avxvnni(struct kernels *kernels);
void matmul_fill_avx512(struct kernels *kernels);
void matmul_fill_amx(struct kernels *kernels);
void matmul_fill_neon(struct kernels *kernels);
void matmul_fill_i8mm(struct kernels *kernels);

/* Dequantization (dequantize.c), the same in all tiers. */
void dequantize_fill(struct kernels *kernels);

#endif
