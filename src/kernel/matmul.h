/* Matrix products with weights as they lie in the file.
 *
 * y[c][r] = sum over k of W[r][k] * x[c][k], W with rows of any type of gguf/types.h, x given as
 * float rows and brought into the form that the weight's type multiplies with.
 *
 * One arithmetic per type: the reference (matmul_ref.c) says in which order floats are multiplied
 * and added; every tier follows it to the bit, for every number of columns and every cut into row
 * ranges, so that a result never depends on chunk, batch or threads. Integer sums are exact.
 *
 * Activation forms:
 *   ACTIVATION_F32     the floats themselves: F32, F16, BF16 weights
 *   ACTIVATION_Q8      int8 with one f32 scale per 32: the types with blocks of 32
 *   ACTIVATION_Q8_256  int8 with one f32 scale per 256: the K types and IQ4_XS
 * with scale = max|x| / 127, q = x * (127 / max|x|) rounded to nearest even, and the sums of q.
 *
 * Outliers. Most of what rounding loses, it loses in few groups of 32: those with an element so
 * large that the others, or in a superblock all other groups, keep few bits. Activations are
 * therefore two columns: one holds the outlying groups and zeros, the other everything else and
 * what rounding lost of the outliers. Their products are added. A mark per run of groups says
 * which of them are outliers, so that the zeros cost nothing where columns are many.
 */
#ifndef KERNEL_MATMUL_H
#define KERNEL_MATMUL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kernels;

enum activation_form {
    ACTIVATION_F32,
    ACTIVATION_Q8,
    ACTIVATION_Q8_256,
    ACTIVATION_FORMS,
};

/* The form that a weight type multiplies with. */
enum activation_form activation_form_of(uint32_t weight_type);

/* Bytes that one row of k activations takes in a form; a multiple of 64. */
size_t activation_row_bytes(enum activation_form form, size_t k);

/* Where element k of a row lies, in bytes; k is a multiple of the form's group. */
size_t activation_offset(enum activation_form form, size_t k);

enum { ACTIVATION_GROUP = 32 };

/* A mark is a byte: bit g is set where group g of its run is an outlier. A run is 128 elements of
 * ACTIVATION_Q8, and 256 of ACTIVATION_Q8_256; the last one of a row may be shorter. */
size_t activation_run(enum activation_form form);

/* How many marks k elements of a form have; 0 for floats, which have no outliers. */
size_t activation_marks(enum activation_form form, size_t k);

/* Where the k elements of a row go, which begin where a run does. */
struct activation_columns {
    void *rest, *outliers; /* in a quantized form */
    uint8_t *marks;
};

/* Both columns and the marks of k elements. x is used meanwhile, and then as it was. */
void activation_split(const struct kernels *kernels, enum activation_form form, float *x, size_t k,
                      const struct activation_columns *out);

/* x becomes what rounding it lost: x minus the k elements that `row`, of a quantized form, holds of
 * it. */
void activation_subtract(enum activation_form form, const void *row, size_t k, float *x);

struct matmul {
    uint32_t type;             /* of the weights */
    const void *weights;       /* the first row of the matrix */
    size_t row_bytes;          /* from one row to the next */
    size_t k;                  /* elements in a row: a multiple of the type's block */
    size_t row_begin, row_end; /* the rows to compute */
    const void *x;             /* `columns` activation rows, each activation_row_bytes apart */
    size_t columns;
    /* NULL, or [columns][activation_marks()]: then `columns` rows of outliers lie behind those of
     * x, and the products with them are added, but to columns without a mark, which stay as they
     * are. Rows of outliers are zero where marks are; where weights have scales that are no finite
     * numbers, results are none, but which kind of them is not defined. */
    const uint8_t *marks;
    float *y; /* y[c * y_stride + r] */
    size_t y_stride;
};

#endif
