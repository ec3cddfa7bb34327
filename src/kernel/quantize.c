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

size_t activation_row_bytes(enum activation_form form, size_t k)
{
    size_t bytes = 0;
    switch (form) {
    case ACTIVATION_F32:
        bytes = k * sizeof(float);
        break;
    case ACTIVATION_Q8:
        bytes = k / BLOCK_SIZE * sizeof(struct activation_q8);
        break;
    case ACTIVATION_Q8_256:
        bytes = k / SUPERBLOCK_SIZE * sizeof(struct activation_q8_256);
        break;
    case ACTIVATION_FORMS:
        assert(false);
    }
    return (bytes + 63) / 64 * 64;
}

void quantize_fill_ref(struct kernels *kernels)
{
    quantize_fill_plain(kernels);
}
