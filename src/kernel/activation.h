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

/* 256 elements, for weights in superblocks. */
struct activation_q8_256 {
    float d;
    int16_t sum16[16];    /* of 16 elements each */
    int16_t sum32[8];     /* of 32 elements each */
    int32_t sum32_8[8];   /* -8 times the sum of 32 elements */
    int32_t sum16_16[16]; /* -16 times the sum of 16 elements */
    int32_t sum8_32[32];  /* -32 times the sum of 8 elements */
    int8_t q[256];
};

#endif
