/* Products with few columns: decoding, batches of conversations, speculation.
 *
 * matmul_panel.h's way (take 16 rows apart into scratch, then multiply) pays when many columns share
 * the scratch. With few the bytes of the file go through registers once. */
#ifndef KERNEL_MATVEC_H
#define KERNEL_MATVEC_H

#include <stdbool.h>

#include "kernel/matmul.h"

enum { MATVEC_COLUMNS_MAX = 4 };

/* Computes the product if it is one for these kernels; false: nothing was done. */
bool matvec_avx2(const struct matmul *task);
bool matvec_avxvnni(const struct matmul *task);
bool matvec_avx512(const struct matmul *task);

#endif
