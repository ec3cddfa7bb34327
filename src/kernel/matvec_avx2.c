/* Products with few columns, with AVX2, FMA and F16C. */
#define KERNEL_VNNI 0
#define TIER(name) name##_avx2
#include "kernel/matvec_256.h"
