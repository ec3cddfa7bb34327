/* What this processor and its operating system let a program use. */
#ifndef KERNEL_CPU_H
#define KERNEL_CPU_H

#include <stdbool.h>

struct cpu_features {
    bool avx2;        /* AVX2, FMA, F16C and the ymm state */
    bool avxvnni;     /* AVX-VNNI, vpdpbusd and vpdpwssd with ymm registers; avx2 as well */
    bool avx512;      /* AVX-512 F, BW, DQ, VL, VNNI and the zmm and mask state; avx2 as well */
    bool avx512_bf16; /* AVX-512 BF16; avx512 as well */
    bool amx;  /* AMX-TILE and AMX-INT8, and the tiles' state is ours to use; avx512 as well */
    bool neon; /* of 64-bit ARM, with dot products of bytes (FEAT_DotProd) */
    bool i8mm; /* and with products of 2 x 8 by 8 x 2 bytes (FEAT_I8MM); neon as well */
};

/* Reads CPUID and XCR0, or asks the system (also for the use of tiles, which it grants to all
 * threads of a process that begin later); all false on other processors than x86 and ARM. */
struct cpu_features cpu_detect(void);

#endif
