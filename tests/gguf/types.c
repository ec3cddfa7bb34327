#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf/types.h"

struct expected {
    uint32_t number;
    const char *name;
    uint32_t elements, bytes;
    bool supported;
};

/* What the Python package gguf lists: GGMLQuantizationType and GGML_QUANT_SIZES of version 0.19. */
static const struct expected all[] = {
    {0, "F32", 1, 4, true},          {1, "F16", 1, 2, true},
    {2, "Q4_0", 32, 18, true},       {3, "Q4_1", 32, 20, true},
    {6, "Q5_0", 32, 22, true},       {7, "Q5_1", 32, 24, true},
    {8, "Q8_0", 32, 34, true},       {9, "Q8_1", 32, 36, false},
    {10, "Q2_K", 256, 84, true},     {11, "Q3_K", 256, 110, true},
    {12, "Q4_K", 256, 144, true},    {13, "Q5_K", 256, 176, true},
    {14, "Q6_K", 256, 210, true},    {15, "Q8_K", 256, 292, false},
    {16, "IQ2_XXS", 256, 66, false}, {17, "IQ2_XS", 256, 74, false},
    {18, "IQ3_XXS", 256, 98, false}, {19, "IQ1_S", 256, 50, false},
    {20, "IQ4_NL", 32, 18, true},    {21, "IQ3_S", 256, 110, false},
    {22, "IQ2_S", 256, 82, false},   {23, "IQ4_XS", 256, 136, true},
    {24, "I8", 1, 1, false},         {25, "I16", 1, 2, false},
    {26, "I32", 1, 4, false},        {27, "I64", 1, 8, false},
    {28, "F64", 1, 8, false},        {29, "IQ1_M", 256, 56, false},
    {30, "BF16", 1, 2, true},        {34, "TQ1_0", 256, 54, false},
    {35, "TQ2_0", 256, 66, false},   {39, "MXFP4", 32, 17, true},
    {40, "NVFP4", 64, 36, false},    {41, "Q1_0", 128, 18, false},
    {42, "Q2_0", 64, 18, false},
};

static void every_type_has_its_name_and_geometry(void **state)
{
    (void)state;
    size_t next = 0;
    for (uint32_t number = 0; number < 1000; number++) {
        const struct tensor_type_traits *traits = tensor_type_traits(number);
        if (next == sizeof all / sizeof all[0] || all[next].number != number) {
            assert_null(traits);
            continue;
        }
        assert_non_null(traits);
        assert_string_equal(traits->name, all[next].name);
        assert_int_equal(traits->block_elements, all[next].elements);
        assert_int_equal(traits->block_bytes, all[next].bytes);
        assert_int_equal(traits->supported, all[next].supported);
        next++;
    }
    assert_int_equal(next, sizeof all / sizeof all[0]);
    assert_null(tensor_type_traits(UINT32_MAX));
}

static void removed_types_are_named(void **state)
{
    (void)state;
    assert_string_equal(tensor_type_removed(4), "Q4_2");
    assert_string_equal(tensor_type_removed(31), "Q4_0_4_4");
    assert_string_equal(tensor_type_removed(38), "IQ4_NL_8_8");
    for (uint32_t number = 0; number < 1000; number++)
        assert_false(tensor_type_removed(number) && tensor_type_traits(number));
    assert_null(tensor_type_removed(43));
}

static void a_row_is_whole_blocks(void **state)
{
    (void)state;
    uint64_t bytes = 77;
    assert_true(tensor_row_bytes(TYPE_F32, 3, &bytes));
    assert_int_equal(bytes, 12);
    assert_true(tensor_row_bytes(TYPE_Q4_K, 512, &bytes));
    assert_int_equal(bytes, 288);
    assert_true(tensor_row_bytes(TYPE_Q4_K, 0, &bytes));
    assert_int_equal(bytes, 0);
    bytes = 77;
    assert_false(tensor_row_bytes(TYPE_Q4_K, 128, &bytes));
    assert_false(tensor_row_bytes(TYPE_Q8_0, 33, &bytes));
    assert_false(tensor_row_bytes(5, 32, &bytes));
    assert_false(tensor_row_bytes(1000, 32, &bytes));
    assert_int_equal(bytes, 77);
}

static void a_row_too_large_for_64_bits_is_refused(void **state)
{
    (void)state;
    uint64_t bytes = 77;
    assert_false(tensor_row_bytes(TYPE_F32, UINT64_MAX, &bytes));
    assert_false(tensor_row_bytes(TYPE_F32, UINT64_MAX / 4 + 1, &bytes));
    assert_int_equal(bytes, 77);
    assert_true(tensor_row_bytes(TYPE_F32, UINT64_MAX / 4, &bytes));
    assert_true(bytes == UINT64_MAX - 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_has_its_name_and_geometry),
        cmocka_unit_test(removed_types_are_named),
        cmocka_unit_test(a_row_is_whole_blocks),
        cmocka_unit_test(a_row_too_large_for_64_bits_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
