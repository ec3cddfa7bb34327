#include "kernel/cpu.h"

#include <stdint.h>

#include "base/os.h"

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <cpuid.h>

/* Bits of CPUID (Intel SDM, volume 2, CPUID) and of XCR0 (volume 1, section 13.3). */
enum {
    LEAF1_ECX_FMA = 1 << 12,
    LEAF1_ECX_OSXSAVE = 1 << 27,
    LEAF1_ECX_AVX = 1 << 28,
    LEAF1_ECX_F16C = 1 << 29,
    LEAF7_EBX_AVX2 = 1 << 5,
    LEAF7_EBX_AVX512F = 1 << 16,
    LEAF7_EBX_AVX512DQ = 1 << 17,
    LEAF7_EBX_AVX512BW = 1 << 30,
    LEAF7_ECX_AVX512VNNI = 1 << 11,
    LEAF7_EDX_AMX_TILE = 1 << 24,
    LEAF7_EDX_AMX_INT8 = 1 << 25,
    LEAF7_1_EAX_AVXVNNI = 1 << 4,
    LEAF7_1_EAX_AVX512BF16 = 1 << 5,
    XCR0_AVX = 0x06,    /* xmm, ymm */
    XCR0_AVX512 = 0xe6, /* and mask registers, upper halves of zmm0-15, zmm16-31 */
    XCR0_TILES = 3 << 17,
};
#define LEAF7_EBX_AVX512VL (UINT32_C(1) << 31)

static uint32_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has_all(uint32_t value, uint32_t bits)
{
    return (value & bits) == bits;
}

struct cpu_features cpu_detect(void)
{
    struct cpu_features features = {0};
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) ||
        !has_all(ecx, LEAF1_ECX_OSXSAVE | LEAF1_ECX_AVX | LEAF1_ECX_FMA | LEAF1_ECX_F16C))
        return features;
    uint32_t xcr0 = read_xcr0();
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return features;
    features.avx2 = has_all(xcr0, XCR0_AVX) && has_all(ebx, LEAF7_EBX_AVX2);
    features.avx512 = features.avx2 && has_all(xcr0, XCR0_AVX512) &&
                      has_all(ebx, LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW |
                                       LEAF7_EBX_AVX512VL) &&
                      has_all(ecx, LEAF7_ECX_AVX512VNNI);
    features.amx = features.avx512 && has_all(xcr0, XCR0_TILES) &&
                   has_all(edx, LEAF7_EDX_AMX_TILE | LEAF7_EDX_AMX_INT8) && os_use_tiles();
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) {
        features.avxvnni = features.avx2 && has_all(eax, LEAF7_1_EAX_AVXVNNI);
        features.avx512_bf16 = features.avx512 && has_all(eax, LEAF7_1_EAX_AVX512BF16);
    }
    return features;
}

#else

struct cpu_features cpu_detect(void)
{
    struct os_arm_features arm = os_arm_features();
    return (struct cpu_features){.neon = arm.dotprod, .i8mm = arm.dotprod && arm.i8mm};
}

#endif
