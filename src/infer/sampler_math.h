/* exp and log for sampling: the same bits on every machine, which a C library's do not promise.
 *
 * Only +, -, *, / on doubles, which IEEE 754 defines exactly, in a fixed order; the build keeps the
 * compiler from fusing them (-ffp-contract=off). Relative error below 4e-16, held by a test. */
#ifndef INFER_SAMPLER_MATH_H
#define INFER_SAMPLER_MATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "doubles must be computed as doubles");

/* ln 2 in two parts; the first has enough zeros at its end for k * HI to be exact. */
#define SAMPLER_LN2_HI 0x1.62e42feep-1
#define SAMPLER_LN2_LO 0x1.a39ef35793c76p-33

/* exp(x) for x <= 0. Below -708 the result is 0 and not a subnormal number, which some machines
 * are set up to flush. */
static inline double sampler_exp(double x)
{
    /* Adding 1.5 * 2^52 rounds to an integer, which then stands in the low bits. */
    const double shifter = 0x1.8p52;
    double bounded = x < -708.0 ? -708.0 : x;
    double shifted = bounded * 0x1.71547652b82fep0 + shifter;
    double k = shifted - shifter;
    double r = (bounded - k * SAMPLER_LN2_HI) - k * SAMPLER_LN2_LO;

    /* Taylor's series: |r| <= ln(2) / 2, so that the first term left out is below 5e-18. In pairs,
     * because one long chain of additions would wait for itself. */
    double r2 = r * r, r4 = r2 * r2;
    double low = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6));
    double middle = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040));
    double high = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
    double top = 1.0 / 479001600 + r * (1.0 / 6227020800);
    double sum = low + r4 * (middle + r4 * (high + r4 * top));

    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + ((uint64_t)1023 << 52);
    double power;
    memcpy(&power, &bits, sizeof power);
    return x < -708.0 ? 0.0 : sum * power;
}

/* log(x) for a positive, normal, finite x. */
static inline double sampler_log(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffffu) | (uint64_t)1023 << 52;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) { /* the square root of 2, so that |s| stays below 0.172 */
        m *= 0.5;
        exponent++;
    }
    /* log m = 2 artanh(s) with s = (m - 1) / (m + 1) */
    double s = (m - 1.0) / (m + 1.0);
    double square = s * s;
    double sum = 0.0;
    for (int n = 23; n >= 3; n -= 2)
        sum = sum * square + 1.0 / n;
    double series = 2.0 * s + 2.0 * s * (square * sum);
    double k = exponent;
    return k * SAMPLER_LN2_HI + (series + k * SAMPLER_LN2_LO);
}

/* A logit from a double: rounded, and kept finite where only the rounding would pass FLT_MAX. */
static inline float sampler_logit(double value)
{
    if (value > (double)FLT_MAX)
        return value < (double)INFINITY ? FLT_MAX : INFINITY;
    if (value < (double)-FLT_MAX)
        return value > (double)-INFINITY ? -FLT_MAX : -INFINITY;
    return (float)value;
}

#endif
