/* Dequantization against what the Python package gguf makes of the same blocks
 * (scripts/kernel_golden.py). A path on the command line names another golden file. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/memory.h"
#include "gguf/types.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

static const char *golden_path = HEARTH_GOLDEN_DIR "/kernel/dequantize.bin";

static bool same_float(float a, float b)
{
    return bits_of_float(a) == bits_of_float(b) || (isnan(a) && isnan(b));
}

/* Reads and checks one record; false at the end of the file. */
static bool check_record(FILE *file, const struct kernels *kernels)
{
    uint32_t header[3];
    if (fread(header, sizeof(header), 1, file) != 1)
        return false;
    uint32_t type = header[0], elements = header[1], bytes = header[2];
    const struct tensor_type_traits *traits = tensor_type_traits(type);
    assert_non_null(traits);
    assert_true(type < KERNEL_TYPES_MAX && kernels->dequantize[type] != NULL);
    assert_int_equal(bytes, elements / traits->block_elements * traits->block_bytes);

    unsigned char *row = mem_alloc(bytes);
    float *expected = mem_alloc_array(elements, sizeof(float));
    float *out = mem_alloc_array(elements, sizeof(float));
    assert_true(row != NULL && expected != NULL && out != NULL);
    assert_int_equal(fread(row, 1, bytes, file), bytes);
    assert_int_equal(fread(expected, sizeof(float), elements, file), elements);
    kernels->dequantize[type](row, elements, out);
    for (uint32_t i = 0; i < elements; i++) {
        if (!same_float(out[i], expected[i]))
            fail_msg("%s, element %u: %a instead of %a", traits->name, i, (double)out[i],
                     (double)expected[i]);
    }
    mem_free(row);
    mem_free(expected);
    mem_free(out);
    return true;
}

static void every_type_is_bit_exact_in_every_tier(void **state)
{
    (void)state;
    const char *tier;
    for (size_t i = 0; (tier = kernels_tier_at(i)) != NULL; i++) {
        struct kernels kernels;
        assert_int_equal(kernels_select(tier, &kernels, NULL), 0);
        FILE *file = fopen(golden_path, "rb");
        assert_non_null(file);
        int records = 0;
        while (check_record(file, &kernels))
            records++;
        fclose(file);
        assert_int_equal(records, 16);
    }
}

static void every_binary16_survives_the_way_through_float(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        float value = half_to_float((uint16_t)half);
        uint32_t magnitude = half & 0x7fff;
        if (magnitude > 0x7c00)
            assert_true(isnan(value) && isnan(half_to_float(float_to_half(value))));
        else
            assert_int_equal(float_to_half(value), half);
        if (magnitude < 0x7c00) {
            int exponent = (int)(magnitude >> 10);
            double exact = exponent == 0
                               ? ldexp((double)magnitude, -24)
                               : ldexp(1024.0 + (double)(magnitude & 1023), exponent - 25);
            assert_true((double)value == (half & 0x8000 ? -exact : exact));
        }
    }
}

/* Between two neighbours of binary16 the nearer one is taken, in the middle the even one. */
static void binary16_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x7bff; half++) {
        float low = half_to_float((uint16_t)half), high = half_to_float((uint16_t)(half + 1));
        float middle = low + (high - low) / 2;
        assert_int_equal(float_to_half(middle), half + (half & 1));
        assert_int_equal(float_to_half(nextafterf(middle, 0)), half);
        assert_int_equal(float_to_half(-nextafterf(middle, INFINITY)), 0x8000 | (half + 1));
    }
    assert_int_equal(float_to_half(65519.996f), 0x7bff);
    assert_int_equal(float_to_half(65520.0f), 0x7c00);
    assert_int_equal(float_to_half(-INFINITY), 0xfc00);
}

static void bfloat16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(float_to_bf16(1.0f), 0x3f80);
    assert_int_equal(float_to_bf16(float_of_bits(0x3f808000)), 0x3f80);
    assert_int_equal(float_to_bf16(float_of_bits(0x3f818000)), 0x3f82);
    assert_int_equal(float_to_bf16(float_of_bits(0x3f808001)), 0x3f81);
    assert_int_equal(float_to_bf16(INFINITY), 0x7f80);
    assert_true(isnan(bf16_to_float(float_to_bf16(float_of_bits(0x7f800001)))));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        golden_path = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_is_bit_exact_in_every_tier),
        cmocka_unit_test(every_binary16_survives_the_way_through_float),
        cmocka_unit_test(binary16_rounds_to_nearest_even),
        cmocka_unit_test(bfloat16_rounds_to_nearest_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
