/* Sixteen-bit floats and the power-of-two scale of MXFP4, to and from float in plain C.
 * Exact where the value exists, round to nearest even where it does not; a NaN stays a NaN. */
#ifndef KERNEL_HALF_H
#define KERNEL_HALF_H

#include <stdint.h>
#include <string.h>

static inline float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

/* Two bytes of a file, little-endian. */
static inline uint16_t half_load(const uint8_t bytes[2])
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

/* binary16: exponent and mantissa are shifted to their places in binary32 and the bias (127 - 15)
 * is made up by a multiplication, which normalizes subnormal numbers on the way. */
static inline float half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    if (magnitude >= 0x0f800000) /* infinity or NaN */
        return float_of_bits(sign | 0x70000000 | magnitude);
    return float_of_bits(sign | bits_of_float(float_of_bits(magnitude) * 0x1p112f));
}

static inline uint16_t float_to_half(float value)
{
    uint32_t bits = bits_of_float(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;
    uint32_t half;
    if (magnitude > 0x7f800000) {
        half = 0x7e00 | (magnitude >> 13 & 0x3ff);
    } else if (magnitude >= 0x477ff000) { /* rounds to 65536 or above */
        half = 0x7c00;
    } else if (magnitude < 0x38800000) {
        /* Subnormal: adding 1/2 leaves the result in the last bits of the mantissa, rounded. */
        half = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000;
    } else {
        half = (magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13;
    }
    return (uint16_t)(sign | half);
}

static inline float bf16_to_float(uint16_t half)
{
    return float_of_bits((uint32_t)half << 16);
}

static inline uint16_t float_to_bf16(float value)
{
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Half of e8m0: 2^(e - 128). For e below 2 that is subnormal; 255, which the standard calls NaN, is
 * 2^127 here, as in ggml. */
static inline float e8m0_half_to_float(uint8_t e)
{
    return float_of_bits(e < 2 ? (uint32_t)0x00200000 << e : (uint32_t)(e - 1) << 23);
}

#endif
