#include "kernel/kernel.h"

#include <string.h>

#include "kernel/cpu.h"
#include "kernel/tiers.h"

#if defined(KERNEL_X86)
#define TIER_NAMES "ref, avx2, avxvnni, avx512 and amx"
#elif defined(KERNEL_ARM)
#define TIER_NAMES "ref, neon and i8mm"
#else
#define TIER_NAMES "ref alone"
#endif

struct tier {
    const char *name;
    bool (*available)(const struct cpu_features *cpu);
    void (*fill)(struct kernels *kernels);
};

static bool always(const struct cpu_features *cpu)
{
    (void)cpu;
    return true;
}

static void fill_ref(struct kernels *kernels)
{
    quantize_fill_ref(kernels);
    matmul_fill_ref(kernels);
    dequantize_fill(kernels);
    vector_fill_ref(&kernels->vector);
    limits_fill_ref(&kernels->limits);
}

#ifdef KERNEL_X86
static bool has_avx2(const struct cpu_features *cpu)
{
    return cpu->avx2;
}

static void fill_avx2(struct kernels *kernels)
{
    matmul_fill_avx2(kernels);
    vector_fill_avx2(&kernels->vector);
    limits_fill_avx2(&kernels->limits);
}

static bool has_avxvnni(const struct cpu_features *cpu)
{
    return cpu->avxvnni;
}

static void fill_avxvnni(struct kernels *kernels)
{
    matmul_fill_avxvnni(kernels);
    limits_fill_avxvnni(&kernels->limits);
}

static bool has_avx512(const struct cpu_features *cpu)
{
    return cpu->avx512;
}

static void fill_avx512(struct kernels *kernels)
{
    matmul_fill_avx512(kernels);
    vector_fill_avx512(&kernels->vector);
    limits_fill_avx512(&kernels->limits);
    if (cpu_detect().avx512_bf16)
        limits_fill_avx512_bf16(&kernels->limits);
}

static bool has_amx(const struct cpu_features *cpu)
{
    return cpu->amx;
}

static void fill_amx(struct kernels *kernels)
{
    matmul_fill_amx(kernels);
    limits_fill_amx(&kernels->limits);
}
#endif

#ifdef KERNEL_ARM
static bool has_neon(const struct cpu_features *cpu)
{
    return cpu->neon;
}

static void fill_neon(struct kernels *kernels)
{
    matmul_fill_neon(kernels);
    vector_fill_neon(&kernels->vector);
    limits_fill_neon(&kernels->limits);
}

static bool has_i8mm(const struct cpu_features *cpu)
{
    return cpu->i8mm;
}

static void fill_i8mm(struct kernels *kernels)
{
    matmul_fill_i8mm(kernels);
    limits_fill_i8mm(&kernels->limits);
}
#endif

/* Ascending: a tier overwrites what it has in the table of those before it. */
static const struct tier tiers[] = {
    {"ref", always, fill_ref},
#ifdef KERNEL_X86
    {"avx2", has_avx2, fill_avx2},       {"avxvnni", has_avxvnni, fill_avxvnni},
    {"avx512", has_avx512, fill_avx512}, {"amx", has_amx, fill_amx},
#endif
#ifdef KERNEL_ARM
    {"neon", has_neon, fill_neon},       {"i8mm", has_i8mm, fill_i8mm},
#endif
};
enum { TIERS = sizeof(tiers) / sizeof(tiers[0]) };

static const struct tier *find_tier(const char *wanted, const struct cpu_features *cpu)
{
    const struct tier *found = NULL;
    for (int i = 0; i < TIERS; i++) {
        if (wanted != NULL ? strcmp(wanted, tiers[i].name) == 0 : tiers[i].available(cpu))
            found = &tiers[i];
    }
    return found;
}

int kernels_select(const char *wanted, struct kernels *out, struct hearth_error *err)
{
    struct cpu_features cpu = cpu_detect();
    if (wanted != NULL && wanted[0] == '\0')
        wanted = NULL;
    const struct tier *tier = find_tier(wanted, &cpu);
    if (tier == NULL)
        return error_set(err, HEARTH_E_ARGUMENT,
                         "no kernels are called \"%.32s\"; there are " TIER_NAMES, wanted);
    if (!tier->available(&cpu))
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "this processor (or its operating system) has no %s", tier->name);

    struct kernels kernels = {.tier = tier->name};
    for (const struct tier *t = tiers; t <= tier; t++) {
        if (t->available(&cpu)) /* AVX-512 comes without AVX-VNNI, too */
            t->fill(&kernels);
    }
    *out = kernels;
    return 0;
}

const char *kernels_tier_at(size_t index)
{
    struct cpu_features cpu = cpu_detect();
    for (int i = 0; i < TIERS; i++) {
        if (tiers[i].available(&cpu) && index-- == 0)
            return tiers[i].name;
    }
    return NULL;
}
