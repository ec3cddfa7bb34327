/* 256 bits. Without VNNI vpmaddubsw is what multiplies bytes: that its sums must be widened before
 * they overflow is the kernels' business, the limit does not count it. */
#include <immintrin.h>

#include "kernel/limits.h"

/* Two issue per cycle, results take 4 or 5: 10 chains keep both units busy, and 12 leave registers.
 * Named variables, because arrays stay in memory. */
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { CHAINS = 12 };

static uint64_t read_avx2(const void *bytes, size_t size)
{
    const char *p = bytes;
    __m256i sums[LIMITS_READ_STREAMS] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                                         _mm256_setzero_si256(), _mm256_setzero_si256()};
    size_t stream = size / LIMITS_READ_STREAMS;
    for (size_t i = 0; i < stream; i += sizeof sums[0]) {
        for (size_t s = 0; s < LIMITS_READ_STREAMS; s++) {
            const void *at = p + s * stream + i;
            sums[s] = _mm256_xor_si256(sums[s], _mm256_loadu_si256(at));
        }
    }
    sums[0] =
        _mm256_xor_si256(_mm256_xor_si256(sums[0], sums[1]), _mm256_xor_si256(sums[2], sums[3]));
    return (uint64_t)_mm256_extract_epi64(sums[0], 0) + (uint64_t)_mm256_extract_epi64(sums[0], 3);
}

static uint64_t peak_int8(size_t steps)
{
    __m256i x = _mm256_set1_epi32(3), all = x;
#define BEGIN(i) __m256i sum##i = _mm256_set1_epi32(i);
/* Not the intrinsic: gcc 12 copies accumulators through memory around the loop. */
#define STEP(i) __asm__("vpmaddubsw %1, %0, %0" : "+x"(sum##i) : "x"(x));
#define END(i) all = _mm256_xor_si256(all, sum##i);
    EACH_CHAIN(BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef BEGIN
#undef STEP
#undef END
    return (uint64_t)_mm256_extract_epi64(all, 0);
}

static uint64_t peak_f32(size_t steps)
{
    __m256 weight = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(1.0f), all = x;
#define BEGIN(i) __m256 sum##i = _mm256_set1_ps(i);
#define STEP(i) sum##i = _mm256_fmadd_ps(sum##i, weight, x);
#define END(i) all = _mm256_add_ps(all, sum##i);
    EACH_CHAIN(BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef BEGIN
#undef STEP
#undef END
    return (uint64_t)_mm256_cvtss_f32(all);
}

static uint64_t peak_int8_vnni(size_t steps)
{
    __m256i x = _mm256_set1_epi32(3), all = x;
#define BEGIN(i) __m256i sum##i = _mm256_set1_epi32(i);
#define STEP(i) __asm__("%{vex%} vpdpbusd %1, %1, %0" : "+x"(sum##i) : "x"(x));
#define END(i) all = _mm256_xor_si256(all, sum##i);
    EACH_CHAIN(BEGIN)
    for (size_t n = 0; n < steps; n++) {
        EACH_CHAIN(STEP)
    }
    EACH_CHAIN(END)
#undef BEGIN
#undef STEP
#undef END
    return (uint64_t)_mm256_extract_epi64(all, 0);
}

void limits_fill_avx2(struct limit_kernels *limits)
{
    limits->read = read_avx2;
    limits->peak[ARITHMETIC_INT8] = (struct peak_loop){peak_int8, CHAINS * 32 * 2};
    limits->peak[ARITHMETIC_F32] = (struct peak_loop){peak_f32, CHAINS * 8 * 2};
}

void limits_fill_avxvnni(struct limit_kernels *limits)
{
    limits->peak[ARITHMETIC_INT8] = (struct peak_loop){peak_int8_vnni, CHAINS * 32 * 2};
}
