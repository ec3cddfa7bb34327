/* The bodies of struct vector_kernels over 16-lane vectors. Included once by each vector_*.c, after
 * its vec16_*.h, with VECTOR_FILL naming the function that fills the table. */

#include <assert.h>
#include <float.h>
#include <stdbool.h>

#include "kernel/vector.h"

/* ---- elementary functions ---- */

/* exp(x) by 2^n * exp(r), |r| <= ln 2 / 2, with a Taylor polynomial of degree 7 (relative error
 * below 2e-7). Below -87 it gives 0, above 88 exp(88); NaN stays NaN. */
static inline struct v16 v16_exp(struct v16 x)
{
    const struct v16 low = v16_set(-87.0f);
    struct v16 clamped = v16_max(low, v16_min(v16_set(88.0f), x));
    struct v16 n = v16_round(v16_mul(clamped, v16_set(0x1.715476p+0f)));
    /* ln 2 in two parts; the first has so few bits that n times it is exact */
    struct v16 r = v16_fma(n, v16_set(-0x1.62e4p-1f), clamped);
    r = v16_fma(n, v16_set(-0x1.7f7d1cp-20f), r);
    struct v16 p = v16_set(1.0f / 5040.0f);
    p = v16_fma(p, r, v16_set(1.0f / 720.0f));
    p = v16_fma(p, r, v16_set(1.0f / 120.0f));
    p = v16_fma(p, r, v16_set(1.0f / 24.0f));
    p = v16_fma(p, r, v16_set(1.0f / 6.0f));
    p = v16_fma(p, r, v16_set(0.5f));
    p = v16_fma(p, r, v16_set(1.0f));
    p = v16_fma(p, r, v16_set(1.0f));
    return v16_select_below(x, low, v16_set(0.0f), v16_mul(p, v16_exp2_int(n)));
}

/* x / (1 + exp(-slope * x)): silu for slope 1 */
static inline struct v16 v16_swish(struct v16 x, struct v16 negative_slope_x)
{
    const struct v16 one = v16_set(1.0f);
    return v16_div(x, v16_add(one, v16_exp(negative_slope_x)));
}

static inline struct v16 v16_silu(struct v16 x)
{
    return v16_swish(x, v16_sub(v16_set(0.0f), x));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline struct v16 v16_gelu(struct v16 x)
{
    struct v16 square = v16_mul(x, x);
    struct v16 slope =
        v16_fma(square, v16_set(-2.0f * 0.79788456f * 0.044715f), v16_set(-2.0f * 0.79788456f));
    return v16_swish(x, v16_mul(slope, x));
}

static inline struct v16 v16_tanh(struct v16 x)
{
    const struct v16 one = v16_set(1.0f);
    struct v16 e = v16_exp(v16_add(x, x));
    return v16_sub(one, v16_div(v16_set(2.0f), v16_add(e, one)));
}

/* ---- over rows of floats ---- */

/* A loop over n floats in steps of 16, with a last step of fewer; `EXPRESSION` gives the stored y
 * from the loaded y and x. */
#define ROW_LOOP(y, x, n, EXPRESSION)                                                              \
    do {                                                                                           \
        size_t at = 0;                                                                             \
        for (; at + 16 <= (n); at += 16) {                                                         \
            struct v16 a = v16_load((y) + at), b = v16_load((x) + at);                             \
            (void)b;                                                                               \
            v16_store((y) + at, EXPRESSION);                                                       \
        }                                                                                          \
        if (at < (n)) {                                                                            \
            struct v16 a = v16_load_first((y) + at, (n)-at);                                       \
            struct v16 b = v16_load_first((x) + at, (n)-at);                                       \
            (void)b;                                                                               \
            v16_store_first((y) + at, EXPRESSION, (n)-at);                                         \
        }                                                                                          \
    } while (0)

static float sum_of_squares(const float *x, size_t n)
{
    struct v16 sum = v16_set(0.0f);
    size_t at = 0;
    for (; at + 16 <= n; at += 16) {
        struct v16 a = v16_load(x + at);
        sum = v16_fma(a, a, sum);
    }
    if (at < n) {
        struct v16 a = v16_load_first(x + at, n - at);
        sum = v16_fma(a, a, sum);
    }
    return v16_sum(sum);
}

static void rms_norm(const float *x, const float *weight, float eps, size_t n, float *y)
{
    const struct v16 scale = v16_set(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    const struct v16 one = v16_set(1.0f);
    size_t at = 0;
    for (; at + 16 <= n; at += 16) {
        struct v16 w = weight ? v16_load(weight + at) : one;
        v16_store(y + at, v16_mul(v16_mul(v16_load(x + at), scale), w));
    }
    if (at < n) {
        struct v16 w = weight ? v16_load_first(weight + at, n - at) : one;
        struct v16 a = v16_load_first(x + at, n - at);
        v16_store_first(y + at, v16_mul(v16_mul(a, scale), w), n - at);
    }
}

static void add_row(float *y, const float *x, size_t n)
{
    ROW_LOOP(y, x, n, v16_add(a, b));
}

static void scale_row(float *y, float factor, size_t n)
{
    const struct v16 f = v16_set(factor);
    ROW_LOOP(y, y, n, v16_mul(a, f));
}

static void silu_mul(float *gate, const float *up, size_t n)
{
    ROW_LOOP(gate, up, n, v16_mul(v16_silu(a), b));
}

static void gelu_mul(float *gate, const float *up, size_t n)
{
    ROW_LOOP(gate, up, n, v16_mul(v16_gelu(a), b));
}

static void soft_cap(float *y, float cap, size_t n)
{
    const struct v16 c = v16_set(cap), inverse = v16_set(1.0f / cap);
    ROW_LOOP(y, y, n, v16_mul(c, v16_tanh(v16_mul(a, inverse))));
}

static void rope_neox(float *x, const float *cosine, const float *sine, size_t pairs)
{
    for (size_t at = 0; at < pairs; at += 16) {
        size_t n = pairs - at < 16 ? pairs - at : 16;
        struct v16 a = v16_load_first(x + at, n), b = v16_load_first(x + pairs + at, n);
        struct v16 c = v16_load_first(cosine + at, n), s = v16_load_first(sine + at, n);
        v16_store_first(x + at, v16_sub(v16_mul(a, c), v16_mul(b, s)), n);
        v16_store_first(x + pairs + at, v16_add(v16_mul(a, s), v16_mul(b, c)), n);
    }
}

static void rope_normal(float *x, const float *cosine, const float *sine, size_t pairs)
{
    for (size_t i = 0; i < pairs; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

/* ---- rotating ---- */

/* Within each vector, then between vectors: sums and differences of elements 1, 2, 4, … apart. */
static void hadamard(float *x, size_t size)
{
    _Alignas(64) float signs[4][16];
    size_t width = size & (~size + 1);
    assert(width >= 16);
    for (int i = 0; i < 4; i++) {
        for (int l = 0; l < 16; l++)
            signs[i][l] = l >> i & 1 ? -1.0f : 1.0f;
    }
    const struct v16 scale = v16_set(1.0f / sqrtf((float)width));
    for (size_t at = 0; at < size; at += 16) {
        struct v16 a = v16_mul(v16_load(x + at), scale);
        a = v16_fma(a, v16_load(signs[0]), v16_swap(a, 1));
        a = v16_fma(a, v16_load(signs[1]), v16_swap(a, 2));
        a = v16_fma(a, v16_load(signs[2]), v16_swap(a, 4));
        v16_store(x + at, v16_fma(a, v16_load(signs[3]), v16_swap(a, 8)));
    }
    for (size_t apart = 16; apart < width; apart *= 2) {
        for (size_t at = 0; at < size; at += (at + 16) % apart ? 16 : apart + 16) {
            struct v16 a = v16_load(x + at), b = v16_load(x + at + apart);
            v16_store(x + at, v16_add(a, b));
            v16_store(x + at + apart, v16_sub(a, b));
        }
    }
}

/* ---- storing keys and values ---- */

/* Up to 16 elements as f16. Beyond its range they become the largest number of their sign, so that
 * a stored row can never turn the softmax of rows that do not see it into NaN by 0 * infinity; so
 * does NaN. */
static void halves_of(const float *x, size_t n, uint16_t halves[16])
{
    struct v16 a = v16_load_first(x, n < 16 ? n : 16);
    a = v16_max(v16_min(a, v16_set(65504.0f)), v16_set(-65504.0f));
    v16_store_f16(halves, a);
}

static uint16_t half_saturated(float x)
{
    uint16_t halves[16];
    halves_of(&x, 1, halves);
    return halves[0];
}

static void store_key_f16(const float *key, size_t key_size, void *part, size_t slot)
{
    uint16_t *keys = (uint16_t *)part + slot, halves[16];
    for (size_t at = 0; at < key_size; at += 16) {
        size_t n = key_size - at < 16 ? key_size - at : 16;
        halves_of(key + at, n, halves);
        for (size_t i = 0; i < n; i++)
            keys[(at + i) * KV_BLOCK_TOKENS] = halves[i];
    }
}

static void store_value_f16(const float *value, size_t value_size, void *part, size_t slot)
{
    uint16_t *values = (uint16_t *)part + slot * value_size, halves[16];
    for (size_t at = 0; at < value_size; at += 16) {
        size_t n = value_size - at < 16 ? value_size - at : 16;
        halves_of(value + at, n, halves);
        memcpy(values + at, halves, n * sizeof *halves);
    }
}

/* 32 floats times `inverse`, rounded to integers between two limits. NaN becomes one of these. */
static void round_group(const float *x, float inverse, float lowest, float highest, int8_t *q)
{
    const struct v16 least = v16_set(lowest), most = v16_set(highest), factor = v16_set(inverse);
    v16_store_s8(q, v16_max(v16_min(v16_mul(v16_load(x), factor), most), least));
    v16_store_s8(q + 16, v16_max(v16_min(v16_mul(v16_load(x + 16), factor), most), least));
}

/* Q8_0's rounding: 32 floats to int8 in [-127, 127]; returns the scale, max|x| / 127. */
static float quantize_group(const float *x, int8_t *q)
{
    float largest = v16_largest(v16_max(v16_abs(v16_load(x)), v16_abs(v16_load(x + 16))));
    float inverse = largest > 0.0f && largest <= FLT_MAX ? 127.0f / largest : 0.0f;
    round_group(x, inverse, -127.0f, 127.0f, q);
    return largest / 127.0f;
}

/* Q4_0's rounding: 32 floats to int4 in [-8, 7], the one of the largest magnitude being -8. */
static float quantize_group_4(const float *x, int8_t *q)
{
    const struct v16 a = v16_load(x), b = v16_load(x + 16), zero = v16_set(0.0f);
    float highest = v16_largest(v16_max(a, b));
    float lowest = -v16_largest(v16_max(v16_sub(zero, a), v16_sub(zero, b)));
    float extreme = highest > -lowest ? highest : lowest;
    float inverse = extreme != 0.0f && fabsf(extreme) <= FLT_MAX ? -8.0f / extreme : 0.0f;
    round_group(x, inverse, -8.0f, 7.0f, q);
    return extreme / -8.0f;
}

static uint16_t *scale_of(void *part, size_t bytes, size_t group, size_t slot)
{
    return (uint16_t *)((char *)part + bytes) + group * KV_BLOCK_TOKENS + slot;
}

static void store_key_q8_0(const float *key, size_t key_size, void *part, size_t slot)
{
    uint32_t *keys = (uint32_t *)part + slot;
    for (size_t group = 0; group < key_size / 32; group++) {
        int8_t q[32];
        uint32_t four[8];
        *scale_of(part, key_size * KV_BLOCK_TOKENS, group, slot) =
            half_saturated(quantize_group(key + 32 * group, q));
        memcpy(four, q, sizeof four);
        for (size_t i = 0; i < 8; i++)
            keys[(group * 8 + i) * KV_BLOCK_TOKENS] = four[i] ^ 0x80808080u;
    }
}

static void store_key_q4_0(const float *key, size_t key_size, void *part, size_t slot)
{
    uint32_t *keys = (uint32_t *)part + slot;
    for (size_t group = 0; group < key_size / 32; group++) {
        int8_t q[32];
        uint32_t four[8];
        *scale_of(part, key_size * KV_BLOCK_TOKENS / 2, group, slot) =
            half_saturated(quantize_group_4(key + 32 * group, q));
        for (size_t i = 0; i < 32; i++)
            q[i] = (int8_t)(q[i] + 8);
        memcpy(four, q, sizeof four);
        for (size_t i = 0; i < 4; i++)
            keys[(group * 4 + i) * KV_BLOCK_TOKENS] = four[2 * i] | four[2 * i + 1] << 4;
    }
}

static void store_value_q8_0(const float *value, size_t value_size, void *part, size_t slot)
{
    int8_t *values = (int8_t *)part + slot / 2 * 2 * value_size + slot % 2;
    for (size_t group = 0; group < value_size / 32; group++) {
        int8_t q[32];
        *scale_of(part, value_size * KV_BLOCK_TOKENS, group, slot) =
            half_saturated(quantize_group(value + 32 * group, q));
        for (size_t i = 0; i < 32; i++)
            values[(32 * group + i) * 2] = q[i];
    }
}

static void store_value_q4_0(const float *value, size_t value_size, void *part, size_t slot)
{
    uint8_t *values = (uint8_t *)part + slot / 2 * value_size + slot % 2;
    for (size_t group = 0; group < value_size / 32; group++) {
        int8_t q[32];
        *scale_of(part, value_size * KV_BLOCK_TOKENS / 2, group, slot) =
            half_saturated(quantize_group_4(value + 32 * group, q));
        for (size_t i = 0; i < 16; i++)
            values[(16 * group + i) * 2] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
    }
}

#include "kernel/attention_tmpl.h"

void VECTOR_FILL(struct vector_kernels *out)
{
    *out = (struct vector_kernels){
        .rms_norm = rms_norm,
        .add = add_row,
        .scale = scale_row,
        .silu_mul = silu_mul,
        .gelu_mul = gelu_mul,
        .soft_cap = soft_cap,
        .rope_neox = rope_neox,
        .rope_normal = rope_normal,
        .store_key = {store_key_f16, store_key_q8_0, store_key_q4_0},
        .store_value = {store_value_f16, store_value_q8_0, store_value_q4_0},
        .attention = attention,
        .attention_merge = attention_merge,
        .attention_finish = attention_finish,
        .hadamard = hadamard,
    };
}
