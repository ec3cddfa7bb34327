/* vec16_ref.h's operations with NEON and its dot products: four vectors of 4. */
#ifndef KERNEL_VEC16_NEON_H
#define KERNEL_VEC16_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernel/half.h"

#define V16_TILE 4
#define V16_WIDE 1

struct v16 {
    float32x4_t a, b, c, d; /* lanes 0 to 3, 4 to 7, 8 to 11, 12 to 15 */
};
struct v16i {
    int32x4_t a, b, c, d;
};

#define V16_QUARTERS(op, x, y)                                                                     \
    ((struct v16){op((x).a, (y).a), op((x).b, (y).b), op((x).c, (y).c), op((x).d, (y).d)})

static inline struct v16 v16_set(float x)
{
    float32x4_t v = vdupq_n_f32(x);
    return (struct v16){v, v, v, v};
}

static inline struct v16 v16_load(const float *p)
{
    return (struct v16){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}

static inline void v16_store(float *p, struct v16 x)
{
    vst1q_f32(p, x.a);
    vst1q_f32(p + 4, x.b);
    vst1q_f32(p + 8, x.c);
    vst1q_f32(p + 12, x.d);
}

/* There are no masked loads: a part of a vector goes through a copy. */
static inline struct v16 v16_load_first(const float *p, size_t n)
{
    if (n == 16)
        return v16_load(p);
    float lanes[16] = {0};
    memcpy(lanes, p, n * sizeof *p);
    return v16_load(lanes);
}

static inline void v16_store_first(float *p, struct v16 x, size_t n)
{
    if (n == 16) {
        v16_store(p, x);
        return;
    }
    float lanes[16];
    v16_store(lanes, x);
    memcpy(p, lanes, n * sizeof *p);
}

static inline struct v16 v16_add(struct v16 x, struct v16 y)
{
    return V16_QUARTERS(vaddq_f32, x, y);
}

static inline struct v16 v16_sub(struct v16 x, struct v16 y)
{
    return V16_QUARTERS(vsubq_f32, x, y);
}

static inline struct v16 v16_mul(struct v16 x, struct v16 y)
{
    return V16_QUARTERS(vmulq_f32, x, y);
}

static inline struct v16 v16_div(struct v16 x, struct v16 y)
{
    return V16_QUARTERS(vdivq_f32, x, y);
}

static inline struct v16 v16_fma(struct v16 x, struct v16 y, struct v16 z)
{
    return (struct v16){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b),
                        vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}

static inline struct v16 v16_abs(struct v16 x)
{
    return (struct v16){vabsq_f32(x.a), vabsq_f32(x.b), vabsq_f32(x.c), vabsq_f32(x.d)};
}

/* fmax and fmin would give a NaN where either operand is one. */
static inline float32x4_t v16_max_quarter(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcgtq_f32(x, y), x, y);
}

static inline float32x4_t v16_min_quarter(float32x4_t x, float32x4_t y)
{
    return vbslq_f32(vcltq_f32(x, y), x, y);
}

static inline struct v16 v16_max(struct v16 x, struct v16 y)
{
    return V16_QUARTERS(v16_max_quarter, x, y);
}

static inline struct v16 v16_min(struct v16 x, struct v16 y)
{
    return V16_QUARTERS(v16_min_quarter, x, y);
}

static inline struct v16 v16_round(struct v16 x)
{
    return (struct v16){vrndnq_f32(x.a), vrndnq_f32(x.b), vrndnq_f32(x.c), vrndnq_f32(x.d)};
}

static inline float32x4_t v16_exp2_int_quarter(float32x4_t x)
{
    int32x4_t exponent = vaddq_s32(vcvtq_s32_f32(x), vdupq_n_s32(127));
    return vreinterpretq_f32_s32(vshlq_n_s32(exponent, 23));
}

static inline struct v16 v16_exp2_int(struct v16 x)
{
    return (struct v16){v16_exp2_int_quarter(x.a), v16_exp2_int_quarter(x.b),
                        v16_exp2_int_quarter(x.c), v16_exp2_int_quarter(x.d)};
}

static inline struct v16 v16_select_below(struct v16 x, struct v16 limit, struct v16 yes,
                                          struct v16 no)
{
    return (struct v16){vbslq_f32(vcltq_f32(x.a, limit.a), yes.a, no.a),
                        vbslq_f32(vcltq_f32(x.b, limit.b), yes.b, no.b),
                        vbslq_f32(vcltq_f32(x.c, limit.c), yes.c, no.c),
                        vbslq_f32(vcltq_f32(x.d, limit.d), yes.d, no.d)};
}

/* All bits set in the lanes l of 4 with begin <= l + base < end. */
static inline uint32x4_t v16_range_mask(int base, int begin, int end)
{
    static const int32_t lanes[4] = {0, 1, 2, 3};
    int32x4_t lane = vaddq_s32(vld1q_s32(lanes), vdupq_n_s32(base));
    return vandq_u32(vcgeq_s32(lane, vdupq_n_s32(begin)), vcltq_s32(lane, vdupq_n_s32(end)));
}

static inline struct v16 v16_select_range(struct v16 x, struct v16 y, int begin, int end)
{
    return (struct v16){vbslq_f32(v16_range_mask(0, begin, end), x.a, y.a),
                        vbslq_f32(v16_range_mask(4, begin, end), x.b, y.b),
                        vbslq_f32(v16_range_mask(8, begin, end), x.c, y.c),
                        vbslq_f32(v16_range_mask(12, begin, end), x.d, y.d)};
}

static inline struct v16 v16_load_f16(const uint16_t *p)
{
    float16x8_t low = vreinterpretq_f16_u16(vld1q_u16(p));
    float16x8_t high = vreinterpretq_f16_u16(vld1q_u16(p + 8));
    return (struct v16){vcvt_f32_f16(vget_low_f16(low)), vcvt_high_f32_f16(low),
                        vcvt_f32_f16(vget_low_f16(high)), vcvt_high_f32_f16(high)};
}

static inline void v16_store_f16(uint16_t *p, struct v16 x)
{
    float16x8_t low = vcombine_f16(vcvt_f16_f32(x.a), vcvt_f16_f32(x.b));
    float16x8_t high = vcombine_f16(vcvt_f16_f32(x.c), vcvt_f16_f32(x.d));
    vst1q_u16(p, vreinterpretq_u16_f16(low));
    vst1q_u16(p + 8, vreinterpretq_u16_f16(high));
}

static inline void v16_store_s8(int8_t *p, struct v16 x)
{
    int16x8_t low = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(x.a)), vqmovn_s32(vcvtnq_s32_f32(x.b)));
    int16x8_t high = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(x.c)), vqmovn_s32(vcvtnq_s32_f32(x.d)));
    vst1q_s8(p, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}

static inline struct v16 v16_swap(struct v16 x, int distance)
{
    switch (distance) {
    case 1:
        return (struct v16){vrev64q_f32(x.a), vrev64q_f32(x.b), vrev64q_f32(x.c), vrev64q_f32(x.d)};
    case 2:
        return (struct v16){vextq_f32(x.a, x.a, 2), vextq_f32(x.b, x.b, 2), vextq_f32(x.c, x.c, 2),
                            vextq_f32(x.d, x.d, 2)};
    case 4:
        return (struct v16){x.b, x.a, x.d, x.c};
    default:
        return (struct v16){x.c, x.d, x.a, x.b};
    }
}

static inline struct v16i v16i_set(int32_t x)
{
    int32x4_t v = vdupq_n_s32(x);
    return (struct v16i){v, v, v, v};
}

/* Loaded keys are int8 again, so the dot product needs no correction. */
struct v16k {
    int8x16_t a, b, c, d;
};

static inline int8x16_t v16k_load_quarter(const uint8_t *p)
{
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vdupq_n_u8(0x80)));
}

static inline struct v16k v16k_load(const uint8_t *p)
{
    return (struct v16k){v16k_load_quarter(p), v16k_load_quarter(p + 16), v16k_load_quarter(p + 32),
                         v16k_load_quarter(p + 48)};
}

static inline struct v16i v16i_key_start(int32_t sum)
{
    (void)sum;
    return v16i_set(0);
}

static inline struct v16i v16i_dot_key(struct v16i acc, struct v16k key, int32_t query)
{
    int8x16_t q = vreinterpretq_s8_s32(vdupq_n_s32(query));
    return (struct v16i){vdotq_s32(acc.a, key.a, q), vdotq_s32(acc.b, key.b, q),
                         vdotq_s32(acc.c, key.c, q), vdotq_s32(acc.d, key.d, q)};
}

static inline void v16k_load_u4_quarter(const uint8_t *p, int8x16_t *low, int8x16_t *high)
{
    uint8x16_t both = vld1q_u8(p);
    *low = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    *high = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
}

static inline void v16k_load_u4(const uint8_t *p, struct v16k *low, struct v16k *high)
{
    v16k_load_u4_quarter(p, &low->a, &high->a);
    v16k_load_u4_quarter(p + 16, &low->b, &high->b);
    v16k_load_u4_quarter(p + 32, &low->c, &high->c);
    v16k_load_u4_quarter(p + 48, &low->d, &high->d);
}

static inline struct v16i v16i_dot_u4(struct v16i acc, struct v16k key, int32_t query)
{
    return v16i_dot_key(acc, key, query);
}

/* The first tokens of the pairs, and the second ones. */
struct v16p {
    int16x8_t first_low, first_high, second_low, second_high;
};

static inline struct v16p v16p_widen(int8x16_t first, int8x16_t second)
{
    return (struct v16p){vmovl_s8(vget_low_s8(first)), vmovl_high_s8(first),
                         vmovl_s8(vget_low_s8(second)), vmovl_high_s8(second)};
}

static inline struct v16p v16p_load_s8(const int8_t *p)
{
    int8x16x2_t tokens = vld2q_s8(p);
    return v16p_widen(tokens.val[0], tokens.val[1]);
}

static inline int8x16_t v16p_low_s4(int8x16_t both)
{
    return vshrq_n_s8(vshlq_n_s8(both, 4), 4);
}

static inline void v16p_load_s4(const uint8_t *p, struct v16p *low, struct v16p *high)
{
    int8x16x2_t tokens = vld2q_s8((const int8_t *)p);
    *low = v16p_widen(v16p_low_s4(tokens.val[0]), v16p_low_s4(tokens.val[1]));
    *high = v16p_widen(vshrq_n_s8(tokens.val[0], 4), vshrq_n_s8(tokens.val[1], 4));
}

static inline int16x8_t v16_to_s16(float32x4_t low, float32x4_t high)
{
    return vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(low)), vqmovn_s32(vcvtnq_s32_f32(high)));
}

static inline void v16_store_pairs(int32_t *pairs, struct v16 low, struct v16 high)
{
    vst1q_s32(pairs, vreinterpretq_s32_s16(v16_to_s16(low.a, low.b)));
    vst1q_s32(pairs + 4, vreinterpretq_s32_s16(v16_to_s16(low.c, low.d)));
    vst1q_s32(pairs + 8, vreinterpretq_s32_s16(v16_to_s16(high.a, high.b)));
    vst1q_s32(pairs + 12, vreinterpretq_s32_s16(v16_to_s16(high.c, high.d)));
}

static inline struct v16i v16i_dot_pair(struct v16i acc, struct v16p values, int32_t weights)
{
    int16x4_t w = vreinterpret_s16_s32(vdup_n_s32(weights));
    acc.a = vmlal_lane_s16(acc.a, vget_low_s16(values.first_low), w, 0);
    acc.b = vmlal_high_lane_s16(acc.b, values.first_low, w, 0);
    acc.c = vmlal_lane_s16(acc.c, vget_low_s16(values.first_high), w, 0);
    acc.d = vmlal_high_lane_s16(acc.d, values.first_high, w, 0);
    acc.a = vmlal_lane_s16(acc.a, vget_low_s16(values.second_low), w, 1);
    acc.b = vmlal_high_lane_s16(acc.b, values.second_low, w, 1);
    acc.c = vmlal_lane_s16(acc.c, vget_low_s16(values.second_high), w, 1);
    acc.d = vmlal_high_lane_s16(acc.d, values.second_high, w, 1);
    return acc;
}

static inline struct v16 v16_from_int(struct v16i x)
{
    return (struct v16){vcvtq_f32_s32(x.a), vcvtq_f32_s32(x.b), vcvtq_f32_s32(x.c),
                        vcvtq_f32_s32(x.d)};
}

static inline float v16_sum(struct v16 x)
{
    float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    return vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)));
}

static inline float v16_largest(struct v16 x)
{
    float32x4_t four = v16_max_quarter(v16_max_quarter(x.a, x.c), v16_max_quarter(x.b, x.d));
    float32x2_t low = vget_low_f32(four), high = vget_high_f32(four);
    float32x2_t two = vbsl_f32(vcgt_f32(low, high), low, high);
    float first = vget_lane_f32(two, 0), second = vget_lane_f32(two, 1);
    return first > second ? first : second;
}

#endif
