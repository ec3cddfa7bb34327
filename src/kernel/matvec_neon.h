/* Products with few columns on ARM: see matvec_neon.c. Private to matmul_neon.c and matmul_i8mm.c.
 */
#ifndef KERNEL_MATVEC_NEON_H
#define KERNEL_MATVEC_NEON_H

#include <stdbool.h>

#include "kernel/matmul.h"

/* Above that many columns, expanded panels are the shorter way. */
enum { MATVEC_COLUMNS_MAX = 3 };

/* By type: all but F32, F16, BF16; without outliers. True. */
bool matvec_neon(const struct matmul *task);

/* F32, F16 and BF16 weights, any number of columns. */
void matmul_floats_neon(const struct matmul *task);

#endif
