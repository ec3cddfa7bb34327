/* The table of kernels: filled by the reference in plain C, then overwritten by each instruction
 * set that the machine has and that beats it.
 *
 * A table is immutable once selected; kernels keep no state and may run on any thread at once. */
#ifndef KERNEL_KERNEL_H
#define KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/limits.h"
#include "kernel/matmul.h"
#include "kernel/vector.h"

#define KERNEL_TYPES_MAX 40 /* above every number in TENSOR_TYPES */

struct kernels {
    const char *tier; /* "ref", "avx2", "avxvnni", "avx512", "amx", "neon", "i8mm" */

    /* One row of k floats into an activation form (ACTIVATION_F32 copies). */
    void (*quantize[ACTIVATION_FORMS])(const float *x, size_t k, void *row);
    /* The marks of k elements in runs of so many, see activation_split(). */
    void (*mark_outliers)(const float *x, size_t k, size_t run, uint8_t *marks);
    /* By weight type; NULL for numbers that are no type. */
    void (*matmul[KERNEL_TYPES_MAX])(const struct matmul *task);
    /* k elements of a weight row as floats, bit-exact to the format's definition. */
    void (*dequantize[KERNEL_TYPES_MAX])(const void *row, size_t k, float *out);

    struct vector_kernels vector;
    struct limit_kernels limits; /* the peaks that products are measured against */
};

/* The best tier of this machine; `wanted` (a tier's name, from HEARTH_CPU; NULL or "" for the best)
 * forces one. HEARTH_E_ARGUMENT names the tiers, HEARTH_E_UNSUPPORTED where the machine lacks it.
 */
int kernels_select(const char *wanted, struct kernels *out, struct hearth_error *err);

/* The tiers that this machine can run, the reference first; for tests. NULL past the end. */
const char *kernels_tier_at(size_t index);

#endif
