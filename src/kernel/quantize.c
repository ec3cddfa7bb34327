/* Activations as integers. A group of 32 or 256 floats shares a scale:
 *
 *     d = max|x| / 127,    q = x * (127 / max|x|) rounded to the nearest integer, ties to even
 *
 * The maximum is exact, each operation is rounded once: every tier gives the same bits. A group
 * whose maximum is so small that 127 / max overflows (below 2^-121) counts as zero. A group with an
 * infinity or a NaN has d = NaN and q = 0, so that everything computed from it is NaN and the
 * request that it belongs to can be ended with an error. */
#include <assert.h>

#define QUANTIZE(name) name##_plain
#include "kernel/quantize_tmpl.h"

enum activation_form activation_form_of(uint32_t weight_type)
{
    switch (weight_type) {
    case TYPE_F32:
    case TYPE_F16:
    case TYPE_BF16:
        return ACTIVATION_F32;
    case TYPE_Q2_K:
    case TYPE_Q3_K:
    case TYPE_Q4_K:
    case TYPE_Q5_K:
    case TYPE_Q6_K:
    case TYPE_IQ4_XS:
        return ACTIVATION_Q8_256;
    default:
        return ACTIVATION_Q8;
    }
}

size_t activation_offset(enum activation_form form, size_t k)
{
    switch (form) {
    case ACTIVATION_F32:
        return k * sizeof(float);
    case ACTIVATION_Q8:
        return k / BLOCK_SIZE * sizeof(struct activation_q8);
    case ACTIVATION_Q8_256:
        return k / SUPERBLOCK_SIZE * sizeof(struct activation_q8_256);
    case ACTIVATION_FORMS:
        break;
    }
    assert(false);
    return 0;
}

size_t activation_row_bytes(enum activation_form form, size_t k)
{
    size_t lines = (activation_offset(form, k) + 63) / 64;
    /* An odd number, so that the same elements of many rows do not all want the same few sets of a
     * cache. Rows of floats are written in parts, and filled up part by part. */
    return (form == ACTIVATION_F32 ? lines : lines | 1) * 64;
}

static void subtract_group(float d, const int8_t *q, size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] -= d * (float)q[i];
}

size_t activation_run(enum activation_form form)
{
    return form == ACTIVATION_Q8_256 ? 256 : 128;
}

size_t activation_marks(enum activation_form form, size_t k)
{
    size_t run = activation_run(form);
    return form == ACTIVATION_F32 ? 0 : (k + run - 1) / run;
}

/* The outlying groups of up to a whole block into its column, which leaves in x what that lost. */
static void take_outliers(const struct kernels *kernels, enum activation_form form, float *x,
                          size_t n, uint8_t mark, void *outliers)
{
    float part[SUPERBLOCK_SIZE] = {0};
    for (size_t g = 0; g < n / ACTIVATION_GROUP; g++) {
        size_t at = g * ACTIVATION_GROUP;
        if (mark >> g & 1)
            memcpy(part + at, x + at, ACTIVATION_GROUP * sizeof(float));
    }
    kernels->quantize[form](part, n, outliers);
    activation_subtract(form, outliers, n, x);
}

/* The outlying groups of one run into their column, everything else into the other. */
static void split_run(const struct kernels *kernels, enum activation_form form, float *x, size_t n,
                      uint8_t mark, void *outliers, void *rest)
{
    float copy[SUPERBLOCK_SIZE];
    size_t block = form == ACTIVATION_Q8 ? BLOCK_SIZE : SUPERBLOCK_SIZE;
    memcpy(copy, x, n * sizeof(float));
    for (size_t i = 0; i < n; i += block) {
        uint8_t part = (uint8_t)(form == ACTIVATION_Q8 ? mark >> i / block & 1 : mark);
        if (part != 0)
            take_outliers(kernels, form, x + i, block, part,
                          (char *)outliers + activation_offset(form, i));
    }
    kernels->quantize[form](x, n, rest);
    memcpy(x, copy, n * sizeof(float));
}

void activation_split(const struct kernels *kernels, enum activation_form form, float *x, size_t k,
                      const struct activation_columns *out)
{
    size_t run = activation_run(form);
    assert(form != ACTIVATION_F32);
    kernels->mark_outliers(x, k, run, out->marks);
    memset(out->outliers, 0, activation_offset(form, k));
    for (size_t i = 0; i < k; i += run) {
        size_t n = k - i < run ? k - i : run, at = activation_offset(form, i);
        char *outliers = (char *)out->outliers + at, *rest = (char *)out->rest + at;
        if (out->marks[i / run] != 0)
            split_run(kernels, form, x + i, n, out->marks[i / run], outliers, rest);
        else
            kernels->quantize[form](x + i, n, rest);
    }
}

void activation_subtract(enum activation_form form, const void *row, size_t k, float *x)
{
    if (form == ACTIVATION_Q8) {
        const struct activation_q8 *block = row;
        for (size_t i = 0; i < k; i += BLOCK_SIZE, block++)
            subtract_group(block->d, block->q, BLOCK_SIZE, x + i);
    } else {
        const struct activation_q8_256 *block = row;
        assert(form == ACTIVATION_Q8_256);
        for (size_t i = 0; i < k; i += SUPERBLOCK_SIZE, block++)
            subtract_group(block->d, block->q, SUPERBLOCK_SIZE, x + i);
    }
}

void quantize_fill_ref(struct kernels *kernels)
{
    quantize_fill_plain(kernels);
}
