/* 512 bits: vpdpbusd for bytes, vdpbf16ps for bfloat16; and tiles of AMX. */
#include <immintrin.h>

#include "kernel/limits.h"
#include "kernel/tiles_amx.h"

/* Two issue per cycle, results take 4 to 6: 12 chains keep both units busy. Named variables,
 * because arrays stay in memory. */
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { CHAINS = 12, TILE_PRODUCTS = 4 };

static uint64_t read_avx512(const void *bytes, size_t size)
{
    const char *p = bytes;
    __m512i sums[LIMITS_READ_STREAMS] = {_mm512_setzero_si512(), _mm512_setzero_si512(),
                                         _mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t stream = size / LIMITS_READ_STREAMS;
    for (size_t i = 0; i < stream; i += sizeof sums[0]) {
        for (size_t s = 0; s < LIMITS_READ_STREAMS; s++)
            sums[s] = _mm512_xor_si512(sums[s], _mm512_loadu_si512(p + s * stream + i));
    }
    sums[0] =
        _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3]));
    return (uint64_t)_mm512_reduce_add_epi64(sums[0]);
}

static uint64_t peak_int8(size_t steps)
{
    __m512i weights = _mm512_set1_epi32(7), x = _mm512_set1_epi32(3), all = x;
#define BEGIN(i) __m512i sum##i = _mm512_set1_epi32(i);
/* Not the intrinsic: gcc 12 copies each accumulator once around the loop, which halves the speed.
 */
#define STEP(i) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum##i) : "v"(weights), "v"(x));
#define END(i) all = _mm512_xor_si512(all, sum##i);
    EACH_CHAIN(BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef BEGIN
#undef STEP
#undef END
    return (uint64_t)_mm512_reduce_add_epi64(all);
}

#define FLOAT_BEGIN(i) __m512 sum##i = _mm512_set1_ps(i);
#define FLOAT_END(i) all = _mm512_add_ps(all, sum##i);

static uint64_t peak_f32(size_t steps)
{
    __m512 weight = _mm512_set1_ps(0.5f), x = _mm512_set1_ps(1.0f), all = x;
#define STEP(i) sum##i = _mm512_fmadd_ps(sum##i, weight, x);
    EACH_CHAIN(FLOAT_BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(FLOAT_END)
#undef STEP
    return (uint64_t)_mm512_reduce_add_ps(all);
}

__attribute__((target("avx512bf16"))) static uint64_t peak_bf16(size_t steps)
{
    /* Zeros: sums that grow would leave the range in which conversions are defined. */
    __m512bh weights = (__m512bh)_mm512_setzero_si512(), x = weights;
    __m512 all = _mm512_setzero_ps();
#define STEP(i) sum##i = _mm512_dpbf16_ps(sum##i, weights, x);
    EACH_CHAIN(FLOAT_BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(FLOAT_END)
#undef STEP
    return (uint64_t)_mm512_reduce_add_ps(all);
}

/* Four sums, each tile of operands in two products, as in products of matrices. */
__attribute__((target("amx-tile,amx-int8"))) static uint64_t peak_tiles(size_t steps)
{
    const struct tile_shapes shapes = {
        .palette = 1,
        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = {16, 16, 16, 16, 16, 16, 16, 16},
    };
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
    for (size_t n = 0; n < steps; n += TILE_PRODUCTS) {
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
    }
    _tile_release();
    return steps;
}

void limits_fill_amx(struct limit_kernels *limits)
{
    limits->peak[ARITHMETIC_TILES] = (struct peak_loop){peak_tiles, 16 * 16 * 64 * 2};
}

void limits_fill_avx512(struct limit_kernels *limits)
{
    limits->read = read_avx512;
    limits->peak[ARITHMETIC_INT8] = (struct peak_loop){peak_int8, CHAINS * 64 * 2};
    limits->peak[ARITHMETIC_F32] = (struct peak_loop){peak_f32, CHAINS * 16 * 2};
}

void limits_fill_avx512_bf16(struct limit_kernels *limits)
{
    limits->peak[ARITHMETIC_BF16] = (struct peak_loop){peak_bf16, CHAINS * 32 * 2};
}
