#include <arm_neon.h>

#include "kernel/limits.h"

/* As in limits_neon.c. */
#define EACH_CHAIN(X)                                                                              \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
enum { CHAINS = 16 };

static uint64_t peak_int8(size_t steps)
{
    int8x16_t x = vdupq_n_s8(3);
    int32x4_t all = vdupq_n_s32(0);
#define BEGIN(i) int32x4_t sum##i = vdupq_n_s32(i);
#define STEP(i)                                                                                    \
    sum##i = vmmlaq_s32(sum##i, x, x);                                                             \
    __asm__("" : "+w"(sum##i));
#define END(i) all = veorq_s32(all, sum##i);
    EACH_CHAIN(BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef BEGIN
#undef STEP
#undef END
    return (uint64_t)vgetq_lane_s32(all, 0);
}

void limits_fill_i8mm(struct limit_kernels *limits)
{
    limits->peak[ARITHMETIC_INT8] = (struct peak_loop){peak_int8, CHAINS * 32 * 2};
}
