#include <arm_neon.h>

#include "kernel/limits.h"

/* Up to four issue per cycle, results take 3 or 4: 16 chains. Named variables, because arrays stay
 * in memory. */
#define EACH_CHAIN(X)                                                                              \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
enum { CHAINS = 16 };

static uint64_t read_neon(const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    uint8x16_t a = vdupq_n_u8(0), b = a, c = a, d = a;
    for (size_t i = 0; i < size; i += 64) {
        a = veorq_u8(a, vld1q_u8(p + i));
        b = veorq_u8(b, vld1q_u8(p + i + 16));
        c = veorq_u8(c, vld1q_u8(p + i + 32));
        d = veorq_u8(d, vld1q_u8(p + i + 48));
    }
    uint8x16_t all = veorq_u8(veorq_u8(a, b), veorq_u8(c, d));
    return vgetq_lane_u64(vreinterpretq_u64_u8(all), 0);
}

static uint64_t peak_int8(size_t steps)
{
    int8x16_t x = vdupq_n_s8(3);
    int32x4_t all = vdupq_n_s32(0);
#define BEGIN(i) int32x4_t sum##i = vdupq_n_s32(i);
/* The empty statement keeps the compiler from adding up what never changes. */
#define STEP(i)                                                                                    \
    sum##i = vdotq_s32(sum##i, x, x);                                                              \
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

static uint64_t peak_f32(size_t steps)
{
    float32x4_t weight = vdupq_n_f32(0.5f), x = vdupq_n_f32(1.0f), all = x;
#define BEGIN(i) float32x4_t sum##i = vdupq_n_f32(i);
#define STEP(i)                                                                                    \
    sum##i = vfmaq_f32(sum##i, weight, x);                                                         \
    __asm__("" : "+w"(sum##i));
#define END(i) all = vaddq_f32(all, sum##i);
    EACH_CHAIN(BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef BEGIN
#undef STEP
#undef END
    return (uint64_t)vgetq_lane_f32(all, 0);
}

void limits_fill_neon(struct limit_kernels *limits)
{
    limits->read = read_neon;
    limits->peak[ARITHMETIC_INT8] = (struct peak_loop){peak_int8, CHAINS * 16 * 2};
    limits->peak[ARITHMETIC_F32] = (struct peak_loop){peak_f32, CHAINS * 4 * 2};
}
