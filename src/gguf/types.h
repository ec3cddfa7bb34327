/* The types of GGUF tensors: their numbers in the file, names and block geometry.
 * Source: the GGUF specification (ggml's docs/gguf.md) and ggml's type table. */
#ifndef GGUF_TYPES_H
#define GGUF_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/checked.h"

/* X(name, number in the file, elements per block, bytes per block): the types hearth computes with
 */
#define TENSOR_TYPES(X)                                                                            \
    X(F32, 0, 1, 4)                                                                                \
    X(F16, 1, 1, 2)                                                                                \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_1, 3, 32, 20)                                                                             \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_1, 7, 32, 24)                                                                             \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(Q2_K, 10, 256, 84)                                                                           \
    X(Q3_K, 11, 256, 110)                                                                          \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)                                                                          \
    X(IQ4_NL, 20, 32, 18)                                                                          \
    X(IQ4_XS, 23, 256, 136)                                                                        \
    X(BF16, 30, 1, 2)                                                                              \
    X(MXFP4, 39, 32, 17)

enum tensor_type {
#define TENSOR_TYPE_ENUM(name, number, elements, bytes) TYPE_##name = (number),
    TENSOR_TYPES(TENSOR_TYPE_ENUM)
#undef TENSOR_TYPE_ENUM
};

struct tensor_type_traits {
    const char *name;
    uint32_t block_elements, block_bytes;
    bool supported; /* false: known by name and size only */
};

/* NULL for a number that no type has. */
const struct tensor_type_traits *tensor_type_traits(uint32_t type);

/* The name of a type that the format no longer has, by its number; NULL for all others. */
const char *tensor_type_removed(uint32_t type);

/* Bytes of `elements` in a row; false where they are no whole blocks or the size overflows. */
bool tensor_row_bytes(uint32_t type, uint64_t elements, uint64_t *bytes);

#endif
