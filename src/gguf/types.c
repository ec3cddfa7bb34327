#include "gguf/types.h"

#include <stddef.h>

/* Types that files carry and hearth does not compute with: X as in TENSOR_TYPES. */
#define OTHER_TENSOR_TYPES(X)                                                                      \
    X(Q8_1, 9, 32, 36)                                                                             \
    X(Q8_K, 15, 256, 292)                                                                          \
    X(IQ2_XXS, 16, 256, 66)                                                                        \
    X(IQ2_XS, 17, 256, 74)                                                                         \
    X(IQ3_XXS, 18, 256, 98)                                                                        \
    X(IQ1_S, 19, 256, 50)                                                                          \
    X(IQ3_S, 21, 256, 110)                                                                         \
    X(IQ2_S, 22, 256, 82)                                                                          \
    X(I8, 24, 1, 1)                                                                                \
    X(I16, 25, 1, 2)                                                                               \
    X(I32, 26, 1, 4)                                                                               \
    X(I64, 27, 1, 8)                                                                               \
    X(F64, 28, 1, 8)                                                                               \
    X(IQ1_M, 29, 256, 56)                                                                          \
    X(TQ1_0, 34, 256, 54)                                                                          \
    X(TQ2_0, 35, 256, 66)                                                                          \
    X(NVFP4, 40, 64, 36)                                                                           \
    X(Q1_0, 41, 128, 18)                                                                           \
    X(Q2_0, 42, 64, 18)

/* Numbers that types once had; ggml took them out of the format. */
#define REMOVED_TENSOR_TYPES(X)                                                                    \
    X(Q4_2, 4)                                                                                     \
    X(Q4_3, 5)                                                                                     \
    X(Q4_0_4_4, 31)                                                                                \
    X(Q4_0_4_8, 32)                                                                                \
    X(Q4_0_8_8, 33)                                                                                \
    X(IQ4_NL_4_4, 36)                                                                              \
    X(IQ4_NL_4_8, 37)                                                                              \
    X(IQ4_NL_8_8, 38)

#define SUPPORTED_ROW(name, number, elements, bytes) [number] = {#name, elements, bytes, true},
#define OTHER_ROW(name, number, elements, bytes) [number] = {#name, elements, bytes, false},

/* By number; the gaps have no name. */
static const struct tensor_type_traits types[] = {TENSOR_TYPES(SUPPORTED_ROW)
                                                      OTHER_TENSOR_TYPES(OTHER_ROW)};

#define TYPE_COUNT (sizeof types / sizeof types[0])

const struct tensor_type_traits *tensor_type_traits(uint32_t type)
{
    return type < TYPE_COUNT && types[type].name ? &types[type] : NULL;
}

const char *tensor_type_removed(uint32_t type)
{
    switch (type) {
#define REMOVED_CASE(name, number)                                                                 \
    case number:                                                                                   \
        return #name;
        REMOVED_TENSOR_TYPES(REMOVED_CASE)
#undef REMOVED_CASE
    default:
        return NULL;
    }
}

bool tensor_row_bytes(uint32_t type, uint64_t elements, uint64_t *bytes)
{
    const struct tensor_type_traits *traits = tensor_type_traits(type);
    if (!traits || elements % traits->block_elements != 0)
        return false;
    uint64_t product;
    if (!checked_mul_u64(elements / traits->block_elements, traits->block_bytes, &product))
        return false;
    *bytes = product;
    return true;
}
