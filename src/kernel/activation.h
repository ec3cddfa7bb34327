/* How quantized activations lie in memory: private to the products and quantizers of this room.
 *
 * Besides the integers a block holds their sums, and the sums times those offsets that vector
 * kernels start an accumulator with: they multiply weights as unsigned bytes q + offset, and
 * sum(q * a) = -offset * sum(a) + sum((q + offset) * a). */
#ifndef KERNEL_ACTIVATION_H
#define KERNEL_ACTIVATION_H

#include <stdint.h>

/* 32 elements, for weights with blocks of 32. */
struct activation_q8 {
    float d;                        /* element i is d * q[i] */
    float sum;                      /* of q, exact */
    int32_t sum_8, sum_16, sum_128; /* -8, -16, -128 times the sum */
    int8_t q[32];
};

/* 256 elements, for weights in superblocks. Where rows are aligned to cache lines so is q; the sums
 * that most kernels use lie close to it. */
struct activation_q8_256 {
    float d;
    int32_t small;    /* nonzero: of any 16 elements, sum(|q|) is at most ACTIVATION_SMALL */
    int16_t sum32[8]; /* of 32 elements each */
    int32_t unused[2];
    int16_t sum16[16]; /* of 16 elements each */
    int8_t q[256];
    int32_t sum32_128[8]; /* -128 times the sum of 32 elements */
    int32_t sum16_32[16]; /* -32 times the sum of 16 elements */
    int32_t sum16_16[16]; /* -16 times the sum of 16 elements */
    int32_t sum8_32[32];  /* -32 times the sum of 8 elements */
    int32_t unused_end[8];
};

/* 16 * 1023 * 2 and 32 * 1023 fit 16 bits with their sign: so do, where activations are small, the
 * sums of 32 products with Q4_K's weights (up to 15) and of 16 with Q5_K's (31) or Q6_K's (32).
 * Groups in which this is not so are rare: the mean of |q| would have to be 64, while in a normal
 * distribution it is 35 where the largest of 256 is 127. */
#define ACTIVATION_SMALL 1023

/* A group of 32 is an outlier where its largest element is more than so many times as large as the
 * median of its run's groups has. Of normally distributed elements none is. Superblocks gain more:
 * an outlier takes bits from all their groups. */
#define OUTLIER_RATIO 6.0f
#define OUTLIER_RATIO_256 4.0f

#endif
