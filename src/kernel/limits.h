/* What a machine can do at best: the yardstick for products and whole models.
 *
 * A tier's peak loops issue the instruction that its products are made of, from registers, with as
 * many independent chains as hide its latency. Reading walks memory that no cache holds. Both run
 * on the threads of a pool, as the engine's own loops do. The speed of a machine drifts: a limit
 * says something about results measured right before and after it. */
#ifndef KERNEL_LIMITS_H
#define KERNEL_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"

struct kernels;

/* With which arithmetic the products of a weight type could be computed fastest. */
enum arithmetic {
    ARITHMETIC_INT8, /* int8 products, int32 sums */
    ARITHMETIC_F32,
    ARITHMETIC_BF16, /* bfloat16 products, float sums */
    ARITHMETIC_TILES, /* int8 products in a tile unit, beside the vector units; no weight type's */
    ARITHMETICS,
};

struct peak_loop {
    uint64_t (*run)(size_t steps); /* NULL: the tier has no such instruction */
    size_t operations;             /* of one step; a multiplication and an addition are two */
};

/* Reading goes along so many streams side by side, as products with one column read rows: no less
 * than one stream gives, and up to a fifth more from mapped files. */
#define LIMITS_READ_STREAMS 4

struct limit_kernels {
    uint64_t (*read)(const void *bytes, size_t size); /* size: a multiple of 1024 */
    struct peak_loop peak[ARITHMETICS];
};

/* BF16 where the machine multiplies bfloat16, else F32, for floats; INT8 for all others. */
enum arithmetic limits_arithmetic(const struct kernels *kernels, uint32_t weight_type);

/* Operations per second of a peak loop that exists, measured for about `seconds`. */
double limits_measure_peak(const struct kernels *kernels, struct pool *pool, enum arithmetic kind,
                           double seconds);

#define LIMITS_READ_BYTES ((size_t)512 << 20) /* above the largest last-level caches */

/* Bytes per second of reading `bytes` (LIMITS_READ_BYTES of them, or more) once. */
double limits_measure_read(const struct kernels *kernels, struct pool *pool, const void *bytes,
                           size_t size);

/* What each tier puts into the table. */
void limits_fill_ref(struct limit_kernels *limits);
void limits_fill_avx2(struct limit_kernels *limits);
void limits_fill_avxvnni(struct limit_kernels *limits);
void limits_fill_avx512(struct limit_kernels *limits);
void limits_fill_avx512_bf16(struct limit_kernels *limits);
void limits_fill_amx(struct limit_kernels *limits);
void limits_fill_neon(struct limit_kernels *limits);
void limits_fill_i8mm(struct limit_kernels *limits);

#endif
