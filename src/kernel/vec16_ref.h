/* 16 float lanes in plain C: the meaning of each operation. The other vec16_*.h must give the same
 * bits: all operations are IEEE 754 single steps, fused where the name says so. */
#ifndef KERNEL_VEC16_REF_H
#define KERNEL_VEC16_REF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "kernel/half.h"

struct v16 {
    float f[16];
};
struct v16i {
    int32_t i[16];
};

#define V16_TILE 1 /* rows that attention takes together: 1, 4 or 8 */
#define V16_WIDE 2 /* vectors of keys or values that it takes together: 1 or 2 */

#define V16_EACH for (int l = 0; l < 16; l++)

static inline struct v16 v16_set(float x)
{
    struct v16 r;
    V16_EACH r.f[l] = x;
    return r;
}

static inline struct v16 v16_load(const float *p)
{
    struct v16 r;
    memcpy(&r, p, sizeof r);
    return r;
}

/* The first n lanes, the others 0; reads nothing behind them. */
static inline struct v16 v16_load_first(const float *p, size_t n)
{
    struct v16 r = v16_set(0.0f);
    for (size_t l = 0; l < n; l++)
        r.f[l] = p[l];
    return r;
}

static inline void v16_store(float *p, struct v16 a)
{
    memcpy(p, &a, sizeof a);
}

static inline void v16_store_first(float *p, struct v16 a, size_t n)
{
    for (size_t l = 0; l < n; l++)
        p[l] = a.f[l];
}

static inline struct v16 v16_add(struct v16 a, struct v16 b)
{
    V16_EACH a.f[l] += b.f[l];
    return a;
}

static inline struct v16 v16_sub(struct v16 a, struct v16 b)
{
    V16_EACH a.f[l] -= b.f[l];
    return a;
}

static inline struct v16 v16_mul(struct v16 a, struct v16 b)
{
    V16_EACH a.f[l] *= b.f[l];
    return a;
}

static inline struct v16 v16_div(struct v16 a, struct v16 b)
{
    V16_EACH a.f[l] /= b.f[l];
    return a;
}

/* a * b + c with one rounding */
static inline struct v16 v16_fma(struct v16 a, struct v16 b, struct v16 c)
{
    V16_EACH c.f[l] = fmaf(a.f[l], b.f[l], c.f[l]);
    return c;
}

static inline struct v16 v16_abs(struct v16 a)
{
    V16_EACH a.f[l] = fabsf(a.f[l]);
    return a;
}

/* a > b ? a : b, so the second operand where one is NaN; likewise the minimum */
static inline struct v16 v16_max(struct v16 a, struct v16 b)
{
    V16_EACH b.f[l] = a.f[l] > b.f[l] ? a.f[l] : b.f[l];
    return b;
}

static inline struct v16 v16_min(struct v16 a, struct v16 b)
{
    V16_EACH b.f[l] = a.f[l] < b.f[l] ? a.f[l] : b.f[l];
    return b;
}

static inline struct v16 v16_round(struct v16 a) /* to the nearest integer, ties to even */
{
    V16_EACH a.f[l] = rintf(a.f[l]);
    return a;
}

/* 2 to the power of a, an integer in [-126, 127]; anything for other values. */
static inline struct v16 v16_exp2_int(struct v16 a)
{
    V16_EACH
    {
        int32_t exponent = a.f[l] >= -127.0f && a.f[l] <= 128.0f ? (int32_t)a.f[l] : -127;
        uint32_t bits = (uint32_t)(exponent + 127) << 23;
        memcpy(&a.f[l], &bits, sizeof bits);
    }
    return a;
}

/* a where it is below `limit`, else b; b where a is NaN */
static inline struct v16 v16_select_below(struct v16 x, struct v16 limit, struct v16 a,
                                          struct v16 b)
{
    V16_EACH b.f[l] = x.f[l] < limit.f[l] ? a.f[l] : b.f[l];
    return b;
}

/* The lanes from `begin` to `end` - 1 of a, b in the others. */
static inline struct v16 v16_select_range(struct v16 a, struct v16 b, int begin, int end)
{
    for (int l = begin; l < end; l++)
        b.f[l] = a.f[l];
    return b;
}

static inline struct v16 v16_load_f16(const uint16_t *p)
{
    struct v16 r;
    V16_EACH r.f[l] = half_to_float(p[l]);
    return r;
}

/* To f16, nearest, ties to even; below the range of f16 only. */
static inline void v16_store_f16(uint16_t *p, struct v16 a)
{
    V16_EACH p[l] = float_to_half(a.f[l]);
}

/* The nearest integers, ties to even, of numbers within the range of int8. */
static inline void v16_store_s8(int8_t *p, struct v16 a)
{
    V16_EACH p[l] = (int8_t)rintf(a.f[l]);
}

/* Lane l with lane l ^ distance; 1, 2, 4 or 8. */
static inline struct v16 v16_swap(struct v16 a, int distance)
{
    struct v16 r;
    V16_EACH r.f[l] = a.f[l ^ distance];
    return r;
}

static inline struct v16i v16i_set(int32_t x)
{
    struct v16i r;
    V16_EACH r.i[l] = x;
    return r;
}

/* The keys of 16 tokens, 4 bytes each: int8 values + 128. */
struct v16k {
    uint8_t k[64];
};

static inline struct v16k v16k_load(const uint8_t *p)
{
    struct v16k r;
    memcpy(&r, p, sizeof r);
    return r;
}

/* A dot product with keys begins here, `sum` being the sum of the query's elements that it will
 * see, and goes on by v16i_dot_key: together they give sum (key - 128) * query, exactly. */
static inline struct v16i v16i_key_start(int32_t sum)
{
    return v16i_set(-128 * sum);
}

/* `query`: four int8, as they lie in memory */
static inline struct v16i v16i_dot_key(struct v16i acc, struct v16k key, int32_t query)
{
    int8_t q[4];
    memcpy(q, &query, sizeof q);
    V16_EACH
    {
        for (int j = 0; j < 4; j++)
            acc.i[l] += key.k[4 * l + j] * q[j];
    }
    return acc;
}

/* The low and the high four bits of each byte. */
static inline void v16k_load_u4(const uint8_t *p, struct v16k *low, struct v16k *high)
{
    for (int i = 0; i < 64; i++) {
        low->k[i] = p[i] & 15;
        high->k[i] = p[i] >> 4;
    }
}

/* The dot product of keys that v16k_load_u4 gave, without any bias. */
static inline struct v16i v16i_dot_u4(struct v16i acc, struct v16k key, int32_t query)
{
    return v16i_dot_key(acc, key, query);
}

/* The values of 16 elements for two tokens: pairs of int16. */
struct v16p {
    int16_t p[32];
};

static inline struct v16p v16p_load_s8(const int8_t *p)
{
    struct v16p r;
    for (int i = 0; i < 32; i++)
        r.p[i] = p[i];
    return r;
}

/* 32 bytes, each two int4: the low ones, then the high ones. */
static inline void v16p_load_s4(const uint8_t *p, struct v16p *low, struct v16p *high)
{
    for (int i = 0; i < 32; i++) {
        low->p[i] = (int16_t)((p[i] & 15) - (p[i] & 8) * 2);
        high->p[i] = (int16_t)((p[i] >> 4) - (p[i] >> 4 & 8) * 2);
    }
}

/* Sixteen pairs of weights: the integers nearest to 32 floats (ties to even) that lie in the range
 * of int16; anything for others. */
static inline void v16_store_pairs(int32_t *pairs, struct v16 low, struct v16 high)
{
    int16_t integers[32];
    for (int i = 0; i < 32; i++) {
        float x = rintf(i < 16 ? low.f[i] : high.f[i - 16]);
        integers[i] = (int16_t)(x >= -32768.0f && x <= 32767.0f ? x : -32768.0f);
    }
    memcpy(pairs, integers, sizeof integers);
}

/* acc + value of the first token * weight of the first + the same of the second */
static inline struct v16i v16i_dot_pair(struct v16i acc, struct v16p values, int32_t weights)
{
    int16_t w[2];
    memcpy(w, &weights, sizeof w);
    V16_EACH acc.i[l] += values.p[2 * l] * w[0] + values.p[2 * l + 1] * w[1];
    return acc;
}

static inline struct v16 v16_from_int(struct v16i a)
{
    struct v16 r;
    V16_EACH r.f[l] = (float)a.i[l];
    return r;
}

/* Folds 16 lanes to one by halves: lane i with i + 8, then 4, 2, 1. */
static inline float v16_sum(struct v16 a)
{
    for (int half = 8; half; half /= 2) {
        for (int l = 0; l < half; l++)
            a.f[l] += a.f[l + half];
    }
    return a.f[0];
}

static inline float v16_largest(struct v16 a)
{
    for (int half = 8; half; half /= 2) {
        for (int l = 0; l < half; l++)
            a.f[l] = a.f[l] > a.f[l + half] ? a.f[l] : a.f[l + half];
    }
    return a.f[0];
}

#endif
