/* Products with one to four columns, with AVX-512: a lane is one of 16 rows, as in matmul_avx512.c,
 * but what is loaded is multiplied at once. (In rows of floats a lane is an element, as ever.)
 *
 * The cost is uops per byte of weights: two 512-bit ones a cycle must keep up with memory. */
#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "kernel/activation.h"
#include "kernel/blocks.h"
#include "kernel/half.h"
#include "kernel/matvec.h"
#include "kernel/outliers.h"
#include "kernel/rows16_avx512.h"

/* 16 rows of a product, and those behind them that a call goes on with; or some of floats. */
struct strip {
    const unsigned char *rows;
    size_t row_bytes;
    size_t blocks; /* in a row; of floats: elements */
    const unsigned char *x;
    size_t x_stride;
    float *y; /* of the first row and column */
    size_t y_stride;
    __mmask16 wanted; /* rows to store */
    size_t count;     /* of strips */
};

INLINE void store_sums(const struct strip *strip, const __m512 sums[MATVEC_COLUMNS_MAX],
                       int columns)
{
    UNROLL
    for (int c = 0; c < columns; c++)
        _mm512_mask_storeu_ps(strip->y + (size_t)c * strip->y_stride, strip->wanted, sums[c]);
}

INLINE __m512i broadcast_4(const void *four)
{
    int32_t value;
    memcpy(&value, four, sizeof(value));
    return _mm512_set1_epi32(value);
}

INLINE __m512i and_8(__m512i v, int mask)
{
    return _mm512_and_si512(v, _mm512_set1_epi8((char)mask));
}

/* a | (b & mask), bytes. */
INLINE __m512i or_and_8(__m512i a, __m512i b, int mask)
{
    return _mm512_ternarylogic_epi32(a, b, _mm512_set1_epi8((char)mask), 0xf8);
}

INLINE void next_strip(struct strip *strip)
{
    strip->rows += 16 * strip->row_bytes;
    strip->y += 16;
    strip->count--;
}

/* Where a strip stands. */
struct place {
    const unsigned char *p; /* the block of the first row */
    size_t stride;          /* to the next row */
    const unsigned char *next;
    const unsigned char *x; /* the block of the first column */
    size_t x_stride;
};

/* Memory brings rows best as one linear stream, and hardware prefetchers do not follow 16 short
 * ones well. So while 16 rows are computed, block after block, as many bytes of the rows behind
 * them are fetched into the L2 cache, in their order; 8 KiB more, because the first blocks of all
 * rows are needed at once. */
#define FETCH_AHEAD 8192

INLINE struct place start_place(const struct strip *strip, int columns,
                                __m512 sums[MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int c = 0; c < columns; c++)
        sums[c] = _mm512_setzero_ps();
    return (struct place){strip->rows, strip->row_bytes,
                          strip->rows + 16 * strip->row_bytes + FETCH_AHEAD, strip->x,
                          strip->x_stride};
}

INLINE void fetch_memory(const struct place *place, size_t block_bytes, int part, int parts)
{
    size_t lines = (16 * block_bytes + 63) / 64;
    size_t begin = lines * (size_t)part / (size_t)parts;
    size_t end = lines * (size_t)(part + 1) / (size_t)parts;
    UNROLL
    for (size_t i = begin; i < end; i++)
        _mm_prefetch((const void *)(place->next + 64 * i), _MM_HINT_T1);
}

/* A quarter of both: of the bytes from memory, and of the rows' next superblocks from L2 to L1. */
INLINE void fetch_quarter(const struct place *place, size_t block_bytes, int quarter)
{
    fetch_memory(place, block_bytes, quarter, 4);
    const unsigned char *p = place->p + block_bytes + 4 * (size_t)quarter * place->stride;
    UNROLL
    for (size_t row = 0; row < 4; row++) {
        UNROLL
        for (size_t i = 0; i < block_bytes; i += 64)
            _mm_prefetch((const void *)(p + row * place->stride + i), _MM_HINT_T0);
    }
}

/* The first two or four bytes of 16 rows, one behind the other. The empty statement keeps compilers
 * from collecting them in a vector register first, with a shuffle for each. */
INLINE void copy_2(const unsigned char *p, size_t stride, uint16_t out[16])
{
    UNROLL
    for (size_t row = 0; row < 16; row++) {
        out[row] = half_load(p + row * stride);
        __asm__ volatile("" : "+m"(out[row]));
    }
}

INLINE void copy_4(const unsigned char *p, size_t stride, uint32_t out[16])
{
    UNROLL
    for (size_t row = 0; row < 16; row++) {
        memcpy(&out[row], p + row * stride, sizeof(out[row]));
        __asm__ volatile("" : "+m"(out[row]));
    }
}

INLINE void copy_1(const unsigned char *p, size_t stride, uint8_t out[16])
{
    UNROLL
    for (size_t row = 0; row < 16; row++) {
        out[row] = p[row * stride];
        __asm__ volatile("" : "+m"(out[row]));
    }
}

INLINE __m512 load_halves(const uint16_t halves[16])
{
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)halves));
}

/* Pairs of binary16, row after row, as two vectors of floats. */
INLINE void split_halves(const uint32_t pairs[16], __m512 *first, __m512 *second)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    __m512 a = _mm512_cvtph_ps(_mm256_load_si256((const void *)pairs));
    __m512 b = _mm512_cvtph_ps(_mm256_load_si256((const void *)(pairs + 8)));
    *first = _mm512_permutex2var_ps(a, even, b);
    *second = _mm512_permutex2var_ps(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

static const int8_t iq4_values[16] = IQ4_VALUES_INIT;
static const int8_t mxfp4_values[16] = MXFP4_VALUES_INIT;

/* A table for look_up(), as unsigned numbers. */
INLINE __m512i code_book(const int8_t values[16], int offset)
{
    __m512i book = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)values));
    return _mm512_add_epi8(book, _mm512_set1_epi8((char)offset));
}

/* The weights of 16 bytes: the low nibbles, then the high ones. */
INLINE void look_up(__m512i book, const __m512i packed[4], __m512i w[8])
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        w[i] = _mm512_shuffle_epi8(book, and_8(packed[i], 15));
        w[i + 4] = _mm512_shuffle_epi8(book, and_8(_mm512_srli_epi32(packed[i], 4), 15));
    }
}

/* ---- superblocks ---- */

INLINE const struct activation_q8_256 *column_256(const struct place *place, int c)
{
    return (const void *)(place->x + (size_t)c * place->x_stride);
}

/* Byte `byte` of each lane as the lower 16 bits of it, the upper ones 0. */
INLINE __m512i scale_of(__m512i scales, int byte)
{
    const __m128i index =
        _mm_setr_epi8(0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1, -1);
    if (byte == 3)
        return _mm512_srli_epi32(scales, 24);
    __m512i at = _mm512_broadcast_i32x4(_mm_add_epi8(index, _mm_set1_epi32(byte)));
    return _mm512_shuffle_epi8(scales, at);
}

/* The same with the byte's sign. */
INLINE __m512i signed_scale_of(__m512i scales, int byte)
{
    const __m128i index =
        _mm_setr_epi8(-1, 0, -1, -1, -1, 4, -1, -1, -1, 8, -1, -1, -1, 12, -1, -1);
    __m128i at = _mm_add_epi8(index, _mm_set1_epi32(byte << 8));
    return _mm512_srai_epi16(_mm512_shuffle_epi8(scales, _mm512_broadcast_i32x4(at)), 8);
}

/* Bytes 2p and 2p + 1 of each lane as two numbers of 16 bits. */
INLINE __m512i pair_of(__m512i bytes, int p)
{
    const __m128i index = _mm_setr_epi8(0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13, -1);
    __m512i at = _mm512_broadcast_i32x4(_mm_add_epi8(index, _mm_set1_epi32(0x00020002 * p)));
    return _mm512_shuffle_epi8(bytes, at);
}

INLINE __m512i signed_pair_of(__m512i bytes, int p)
{
    const __m128i index = _mm_setr_epi8(-1, 0, -1, 1, -1, 4, -1, 5, -1, 8, -1, 9, -1, 12, -1, 13);
    __m128i at = _mm_add_epi8(index, _mm_set1_epi32((int)(0x02000200u * (unsigned)p)));
    return _mm512_srai_epi16(_mm512_shuffle_epi8(bytes, _mm512_broadcast_i32x4(at)), 8);
}

/* Sum over sub-blocks of pairs times the sums of a column's activations, 2 to a pair. */
INLINE __m512i dot_sums(const __m512i *pairs, const int16_t *sums, int count)
{
    __m512i dot = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < count; i++)
        dot = _mm512_dpwssd_epi32(dot, pairs[i], broadcast_4(sums + 2 * i));
    return dot;
}

/* sums += d_a * (d * total), or d_a * (d * total - dmin * minima) */
INLINE void add_superblock(__m512 *sum, const struct activation_q8_256 *a, __m512 d, __m512i total)
{
    __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(total));
    *sum = _mm512_fmadd_ps(_mm512_set1_ps(a->d), t, *sum);
}

INLINE void add_superblock_minima(__m512 *sum, const struct activation_q8_256 *a, __m512 d,
                                  __m512i total, __m512 dmin, __m512i minima)
{
    __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(total));
    t = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(minima), t);
    *sum = _mm512_fmadd_ps(_mm512_set1_ps(a->d), t, *sum);
}

/* Two binary16 in each lane as floats. */
INLINE void two_halves(__m512i halves, __m512 *low, __m512 *high)
{
    *low = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(halves));
    *high = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(halves, 16)));
}

/* The header of Q4_K and Q5_K; q4_k_scale() explains it. Four scales or minima to a vector. */
struct k_header {
    __m512i halves, scales[2], mins[2];
};

INLINE void load_k_header(const struct place *place, struct k_header *out)
{
    __m512i h[4];
    rows16_load_16(place->p, place->stride, h);
    out->halves = h[0];
    out->scales[0] = and_8(h[1], 63);
    out->mins[0] = and_8(h[2], 63);
    out->scales[1] = or_and_8(and_8(h[3], 15), _mm512_srli_epi32(h[1], 2), 0x30);
    out->mins[1] =
        or_and_8(and_8(_mm512_srli_epi32(h[3], 4), 15), _mm512_srli_epi32(h[2], 2), 0x30);
}

INLINE void finish_k_header(const struct k_header *header, const struct place *place, int columns,
                            const __m512i totals[MATVEC_COLUMNS_MAX],
                            __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512 d, dmin;
    two_halves(header->halves, &d, &dmin);
    __m512i pairs[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        pairs[i] = pair_of(header->mins[i / 2], i % 2);
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8_256 *a = column_256(place, c);
        add_superblock_minima(&sums[c], a, d, totals[c], dmin, dot_sums(pairs, a->sum32, 4));
    }
}

/* totals += scale * sum of 16 products, from element `at` of the superblock on. Weights are
 * unsigned, 2^shift times too large, and then, where `offset` says so, 16 too large. A sum must fit
 * 16 bits with its sign: weights up to 16. */
enum offset { OFFSET_0, OFFSET_16 };

INLINE void add_16(__m512i totals[MATVEC_COLUMNS_MAX], const __m512i w[4],
                   const struct place *place, int at, int columns, __m512i scale, unsigned shift,
                   enum offset offset)
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8_256 *a = column_256(place, c);
        __m512i dot =
            offset == OFFSET_16 ? _mm512_set1_epi32(a->sum16_16[at / 16]) : _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < 4; i++)
            dot = _mm512_dpbusd_epi32(dot, w[i], broadcast_4(a->q + at + 4 * i));
        if (shift > 0)
            dot = _mm512_srai_epi32(dot, shift);
        totals[c] = _mm512_dpwssd_epi32(totals[c], dot, scale);
    }
}

INLINE void multiply_q4_k(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    struct k_header header;
    __m512i totals[MATVEC_COLUMNS_MAX];
    load_k_header(place, &header);
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm512_setzero_si512();
    UNROLL
    for (int pair = 0; pair < 4; pair++) {
        __m512i packed[8];
        fetch_quarter(place, BLOCK_BYTES_Q4_K, pair);
        rows16_load_32(place->p + 16 + 32 * pair, place->stride, packed);
        __m512i low_scale = scale_of(header.scales[pair / 2], pair % 2 * 2);
        __m512i high_scale = scale_of(header.scales[pair / 2], pair % 2 * 2 + 1);
        UNROLL
        for (int half = 0; half < 2; half++) {
            __m512i low[4], high[4];
            UNROLL
            for (int i = 0; i < 4; i++) {
                low[i] = and_8(packed[4 * half + i], 0x0f);
                high[i] = and_8(packed[4 * half + i], 0xf0);
            }
            int at = 64 * pair + 16 * half;
            add_16(totals, low, place, at, columns, low_scale, 0, OFFSET_0);
            add_16(totals, high, place, at + 32, columns, high_scale, 4, OFFSET_0);
        }
    }
    finish_k_header(&header, place, columns, totals, sums);
}

/* Bit `from` of each byte as bit `to`, with the other bits moved somewhere. */
INLINE __m512i move_bit(__m512i v, int from, int to)
{
    if (from == to)
        return v;
    return from > to ? _mm512_srli_epi32(v, (unsigned)(from - to))
                     : _mm512_slli_epi32(v, (unsigned)(to - from));
}

INLINE void multiply_q5_k(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    struct k_header header;
    __m512i totals[MATVEC_COLUMNS_MAX], fifth[8], pairs[4];
    load_k_header(place, &header);
    rows16_load_32(place->p + 16, place->stride, fifth);
    UNROLL
    for (int i = 0; i < 4; i++)
        pairs[i] = pair_of(header.scales[i / 2], i % 2);
    UNROLL
    for (int c = 0; c < columns; c++) /* gives back what OFFSET_16 takes */
        totals[c] = _mm512_slli_epi32(dot_sums(pairs, column_256(place, c)->sum32, 4), 4);
    UNROLL
    for (int pair = 0; pair < 4; pair++) {
        __m512i packed[8];
        fetch_quarter(place, BLOCK_BYTES_Q5_K, pair);
        rows16_load_32(place->p + 48 + 32 * pair, place->stride, packed);
        __m512i low_scale = scale_of(header.scales[pair / 2], pair % 2 * 2);
        __m512i high_scale = scale_of(header.scales[pair / 2], pair % 2 * 2 + 1);
        UNROLL
        for (int half = 0; half < 2; half++) {
            __m512i low[4], high[4];
            UNROLL
            for (int i = 0; i < 4; i++) {
                __m512i q = packed[4 * half + i], bits = fifth[4 * half + i];
                low[i] = or_and_8(and_8(q, 15), move_bit(bits, 2 * pair, 4), 16);
                high[i] = or_and_8(and_8(_mm512_srli_epi32(q, 4), 15),
                                   move_bit(bits, 2 * pair + 1, 4), 16);
            }
            int at = 64 * pair + 16 * half;
            add_16(totals, low, place, at, columns, low_scale, 0, OFFSET_16);
            add_16(totals, high, place, at + 32, columns, high_scale, 0, OFFSET_16);
        }
    }
    finish_k_header(&header, place, columns, totals, sums);
}

INLINE void multiply_q2_k(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i totals[MATVEC_COLUMNS_MAX], scales[4], pairs[8];
    _Alignas(64) uint32_t both[16];
    __m512 d, dmin;
    copy_4(place->p + BLOCK_BYTES_Q2_K - 4, place->stride, both);
    rows16_load_16(place->p, place->stride, scales);
    UNROLL
    for (int i = 0; i < 8; i++)
        pairs[i] = pair_of(and_8(_mm512_srli_epi32(scales[i / 2], 4), 15), i % 2);
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm512_setzero_si512();
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512i packed[8];
        rows16_load_32(place->p + 16 + 32 * half, place->stride, packed);
        UNROLL
        for (int part = 0; part < 2; part++) {
            fetch_quarter(place, BLOCK_BYTES_Q2_K, 2 * half + part);
            UNROLL
            for (int j = 0; j < 4;
                 j++) { /* the bits 2j and 2j + 1; odd ones as 4 times themselves */
                __m512i w[4];
                UNROLL
                for (int i = 0; i < 4; i++) {
                    __m512i q = packed[4 * part + i];
                    w[i] = and_8(j < 2 ? q : _mm512_srli_epi32(q, 4), j % 2 == 0 ? 0x03 : 0x0c);
                }
                int sub_block = 8 * half + 2 * j + part;
                __m512i scale = scale_of(and_8(scales[sub_block / 4], 15), sub_block % 4);
                add_16(totals, w, place, 16 * sub_block, columns, scale, j % 2 == 0 ? 0 : 2,
                       OFFSET_0);
            }
        }
    }
    split_halves(both, &d, &dmin);
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8_256 *a = column_256(place, c);
        add_superblock_minima(&sums[c], a, d, totals[c], dmin, dot_sums(pairs, a->sum16, 8));
    }
}

/* Scales and d are the last 14 bytes of a block; the 16 that are loaded begin two earlier.
 * q3_k_scale() explains them. */
INLINE __m512 load_q3_k_header(const struct place *place, __m512i scales[4])
{
    __m512i h[4], packed[3];
    rows16_load_16(place->p + BLOCK_BYTES_Q3_K - 16, place->stride, h);
    UNROLL
    for (int i = 0; i < 3; i++)
        packed[i] = _mm512_or_si512(_mm512_srli_epi32(h[i], 16), _mm512_slli_epi32(h[i + 1], 16));
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i low = i < 2 ? packed[i] : _mm512_srli_epi32(packed[i - 2], 4);
        scales[i] = or_and_8(and_8(low, 15), move_bit(packed[2], 2 * i, 4), 0x30);
        scales[i] = _mm512_sub_epi8(scales[i], _mm512_set1_epi8(32));
    }
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(h[3], 16)));
}

INLINE void multiply_q3_k(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i totals[MATVEC_COLUMNS_MAX], scales[4], pairs[8], third[8];
    __m512 d = load_q3_k_header(place, scales);
    rows16_load_32(place->p, place->stride, third);
    UNROLL
    for (int i = 0; i < 8; i++)
        pairs[i] = signed_pair_of(scales[i / 2], i % 2);
    UNROLL
    for (int c = 0; c < columns; c++) { /* weights are multiplied as q + 4 */
        __m512i dot = dot_sums(pairs, column_256(place, c)->sum16, 8);
        totals[c] = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(dot, 2));
    }
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512i packed[8];
        rows16_load_32(place->p + 32 + 32 * half, place->stride, packed);
        UNROLL
        for (int part = 0; part < 2; part++) {
            fetch_quarter(place, BLOCK_BYTES_Q3_K, 2 * half + part);
            UNROLL
            for (int j = 0; j < 4; j++) { /* as in Q2_K */
                __m512i w[4];
                int shift = j % 2 == 0 ? 0 : 2;
                UNROLL
                for (int i = 0; i < 4; i++) {
                    __m512i q = packed[4 * part + i];
                    __m512i bits = move_bit(third[4 * part + i], 4 * half + j, 2 + shift);
                    w[i] = or_and_8(and_8(j < 2 ? q : _mm512_srli_epi32(q, 4), 3 << shift), bits,
                                    4 << shift);
                }
                int sub_block = 8 * half + 2 * j + part;
                __m512i scale = signed_scale_of(scales[sub_block / 4], sub_block % 4);
                add_16(totals, w, place, 16 * sub_block, columns, scale, (unsigned)shift, OFFSET_0);
            }
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++)
        add_superblock(&sums[c], column_256(place, c), d, totals[c]);
}

/* The scale of sub-block b, of 32 bits; h[0] has d and scales_h, h[1] scales_l. */
INLINE __m512i iq4_xs_scale_of(const __m512i h[2], int b)
{
    __m512i low =
        _mm512_and_si512(_mm512_srli_epi32(h[1], (unsigned)(4 * b)), _mm512_set1_epi32(15));
    __m512i high = _mm512_srli_epi32(h[0], (unsigned)(12 + 2 * b));
    __m512i scale = _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi32(0x30), 0xf8);
    return _mm512_sub_epi32(scale, _mm512_set1_epi32(32));
}

INLINE void multiply_iq4_xs(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i totals[MATVEC_COLUMNS_MAX], h[4], book = code_book(iq4_values, 128);
    rows16_load_16(place->p, place->stride, h);
    __m512 d = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(h[0]));
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm512_setzero_si512();
    UNROLL
    for (int pair = 0; pair < 4; pair++) {
        __m512i packed[8];
        fetch_quarter(place, BLOCK_BYTES_IQ4_XS, pair);
        rows16_load_32(place->p + 8 + 32 * pair, place->stride, packed);
        UNROLL
        for (int b = 2 * pair; b < 2 * pair + 2; b++) {
            __m512i w[8], scale = iq4_xs_scale_of(h, b);
            look_up(book, packed + b % 2 * 4, w);
            UNROLL
            for (int c = 0; c < columns; c++) {
                const struct activation_q8_256 *a = column_256(place, c);
                __m512i dot = _mm512_set1_epi32(a->sum32_128[b]);
                UNROLL
                for (int i = 0; i < 8; i++)
                    dot = _mm512_dpbusd_epi32(dot, w[i], broadcast_4(a->q + 32 * b + 4 * i));
                totals[c] = _mm512_add_epi32(totals[c], _mm512_mullo_epi32(dot, scale));
            }
        }
    }
    UNROLL
    for (int c = 0; c < columns; c++)
        add_superblock(&sums[c], column_256(place, c), d, totals[c]);
}

/* totals += scale * sum of 8 products of weights that are 32 too large. */
INLINE void add_8(__m512i totals[MATVEC_COLUMNS_MAX], __m512i w0, __m512i w1,
                  const struct place *place, int at, int columns, __m512i scale)
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8_256 *a = column_256(place, c);
        __m512i dot = _mm512_set1_epi32(a->sum8_32[at / 8]);
        dot = _mm512_dpbusd_epi32(dot, w0, broadcast_4(a->q + at));
        dot = _mm512_dpbusd_epi32(dot, w1, broadcast_4(a->q + at + 4));
        totals[c] = _mm512_dpwssd_epi32(totals[c], dot, scale);
    }
}

INLINE void multiply_q6_k(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i totals[MATVEC_COLUMNS_MAX], scales[4];
    _Alignas(32) uint16_t halves[16];
    copy_2(place->p + BLOCK_BYTES_Q6_K - 2, place->stride, halves);
    rows16_load_16(place->p + 192, place->stride, scales);
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm512_setzero_si512();
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512i near[8], far[8], high[8];
        fetch_quarter(place, BLOCK_BYTES_Q6_K, 2 * half);
        rows16_load_32(place->p + 64 * half, place->stride, near);
        rows16_load_32(place->p + 64 * half + 32, place->stride, far);
        fetch_quarter(place, BLOCK_BYTES_Q6_K, 2 * half + 1);
        rows16_load_32(place->p + 128 + 32 * half, place->stride, high);
        UNROLL
        for (int i = 0; i < 8; i += 2) {
            __m512i w[4][2];
            UNROLL
            for (int j = 0; j < 2; j++) {
                __m512i n = near[i + j], f = far[i + j], h = high[i + j];
                w[0][j] = or_and_8(and_8(n, 15), _mm512_slli_epi32(h, 4), 0x30);
                w[1][j] = or_and_8(and_8(f, 15), _mm512_slli_epi32(h, 2), 0x30);
                w[2][j] = or_and_8(and_8(_mm512_srli_epi32(n, 4), 15), h, 0x30);
                w[3][j] =
                    or_and_8(and_8(_mm512_srli_epi32(f, 4), 15), _mm512_srli_epi32(h, 2), 0x30);
            }
            UNROLL
            for (int quarter = 0; quarter < 4; quarter++) {
                int sub_block = 8 * half + 2 * quarter + i / 4;
                __m512i scale = signed_scale_of(scales[sub_block / 4], sub_block % 4);
                add_8(totals, w[quarter][0], w[quarter][1], place,
                      128 * half + 32 * quarter + 4 * i, columns, scale);
            }
        }
    }
    __m512 d = load_halves(halves);
    UNROLL
    for (int c = 0; c < columns; c++)
        add_superblock(&sums[c], column_256(place, c), d, totals[c]);
}

#define K_STRIP(tag, block_bytes, columns)                                                         \
    static void tag##_##columns(const struct strip *strip)                                         \
    {                                                                                              \
        for (struct strip at = *strip; at.count > 0; next_strip(&at)) {                            \
            __m512 sums[MATVEC_COLUMNS_MAX];                                                       \
            struct place place = start_place(&at, columns, sums);                                  \
            for (size_t n = strip->blocks; n > 0; n--) {                                           \
                multiply_##tag(&place, columns, sums);                                             \
                place.p += block_bytes;                                                            \
                place.next += (size_t)16 * (block_bytes);                                          \
                place.x += sizeof(struct activation_q8_256);                                       \
            }                                                                                      \
            store_sums(&at, sums, columns);                                                        \
        }                                                                                          \
    }
#define FOR_COLUMNS(STRIP, ...)                                                                    \
    STRIP(__VA_ARGS__, 1)                                                                          \
    STRIP(__VA_ARGS__, 2)                                                                          \
    STRIP(__VA_ARGS__, 3)                                                                          \
    STRIP(__VA_ARGS__, 4)
FOR_COLUMNS(K_STRIP, q4_k, BLOCK_BYTES_Q4_K)
FOR_COLUMNS(K_STRIP, q5_k, BLOCK_BYTES_Q5_K)
FOR_COLUMNS(K_STRIP, q6_k, BLOCK_BYTES_Q6_K)
FOR_COLUMNS(K_STRIP, q2_k, BLOCK_BYTES_Q2_K)
FOR_COLUMNS(K_STRIP, q3_k, BLOCK_BYTES_Q3_K)
FOR_COLUMNS(K_STRIP, iq4_xs, BLOCK_BYTES_IQ4_XS)

/* ---- blocks of 32 ---- */

INLINE const struct activation_q8 *column_32(const struct place *place, int c)
{
    return (const void *)(place->x + (size_t)c * place->x_stride);
}

/* What stands before the weights of a block, of 16 rows; a type uses some of it. */
struct header {
    _Alignas(64) uint32_t both[16]; /* d and m */
    uint32_t fifth[16];
    uint16_t d[16];
    uint8_t e[16];
};

/* How the products of a block begin: with -offset * sum(a). */
INLINE __m512i start_32(const struct activation_q8 *a, int offset)
{
    switch (offset) {
    case 8:
        return _mm512_set1_epi32(a->sum_8);
    case 16:
        return _mm512_set1_epi32(a->sum_16);
    case 128:
        return _mm512_set1_epi32(a->sum_128);
    default:
        return _mm512_setzero_si512();
    }
}

/* Sum of 32 products. Of weights from nibbles (`high_shift` 4) the second half is 16 times too
 * large: one shift of the sum saves those of the weights. */
INLINE __m512i dot_32(const __m512i w[8], const struct activation_q8 *a, int offset,
                      unsigned high_shift)
{
    __m512i dot = start_32(a, offset), high = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) {
        dot = _mm512_dpbusd_epi32(dot, w[i], broadcast_4(a->q + 4 * i));
        high = _mm512_dpbusd_epi32(high, w[i + 4], broadcast_4(a->q + 16 + 4 * i));
    }
    return _mm512_add_epi32(dot, high_shift > 0 ? _mm512_srai_epi32(high, high_shift) : high);
}

/* sums += d_a * (d * dot) */
INLINE void add_32(const __m512i w[8], const struct place *place, int columns, int offset,
                   unsigned high_shift, __m512 d, __m512 sums[MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8 *a = column_32(place, c);
        __m512 dot = _mm512_cvtepi32_ps(dot_32(w, a, offset, high_shift));
        sums[c] = _mm512_fmadd_ps(_mm512_set1_ps(a->d), _mm512_mul_ps(d, dot), sums[c]);
    }
}

/* sums += d_a * (d * dot + m * sum(a)) */
INLINE void add_32_minimum(const __m512i w[8], const struct place *place, int columns,
                           unsigned high_shift, __m512 d, __m512 m, __m512 sums[MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8 *a = column_32(place, c);
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot_32(w, a, 0, high_shift)));
        t = _mm512_fmadd_ps(m, _mm512_set1_ps(a->sum), t);
        sums[c] = _mm512_fmadd_ps(_mm512_set1_ps(a->d), t, sums[c]);
    }
}

/* 16 bytes of each row, their low nibbles being the first 16 weights; the others come 16 times too
 * large. */
INLINE void load_nibbles(const unsigned char *p, size_t stride, __m512i w[8])
{
    rows16_load_16(p, stride, w);
    UNROLL
    for (int i = 0; i < 4; i++) {
        w[i + 4] = and_8(w[i], 0xf0);
        w[i] = and_8(w[i], 0x0f);
    }
}

/* Adds 16 to those of the weights 4i to 4i + 3 whose bit in the lane is set. */
INLINE __m512i add_fifth_bits(__m512i w, __m512i fifth, int i)
{
    const __m128i lanes = _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    __m512i byte = _mm512_broadcast_i32x4(_mm_add_epi8(lanes, _mm_set1_epi8((char)(i / 2))));
    __m512i bits = _mm512_set1_epi32(i % 2 == 0 ? 0x08040201 : (int)0x80402010);
    __mmask64 set = _mm512_test_epi8_mask(_mm512_shuffle_epi8(fifth, byte), bits);
    return _mm512_mask_add_epi8(w, set, w, _mm512_set1_epi8(16));
}

INLINE void load_five_bits(const unsigned char *p, size_t stride, const uint32_t fifth[16],
                           __m512i w[8])
{
    __m512i bits = _mm512_load_si512(fifth);
    rows16_load_16(p, stride, w);
    UNROLL
    for (int i = 0; i < 4; i++) {
        w[i + 4] = add_fifth_bits(and_8(_mm512_srli_epi32(w[i], 4), 15), bits, i + 4);
        w[i] = add_fifth_bits(and_8(w[i], 15), bits, i);
    }
}

INLINE void load_codes(const unsigned char *p, size_t stride, __m512i book, __m512i w[8])
{
    __m512i packed[4];
    rows16_load_16(p, stride, packed);
    look_up(book, packed, w);
}

INLINE void copy_q4_0(const unsigned char *p, size_t stride, struct header *out)
{
    copy_2(p, stride, out->d);
}

INLINE void multiply_q4_0(const struct place *place, const struct header *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    load_nibbles(place->p + 2, place->stride, w);
    add_32(w, place, columns, 8, 4, load_halves(header->d), sums);
}

INLINE void copy_q4_1(const unsigned char *p, size_t stride, struct header *out)
{
    copy_4(p, stride, out->both);
}

INLINE void multiply_q4_1(const struct place *place, const struct header *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    __m512 d, m;
    load_nibbles(place->p + 4, place->stride, w);
    split_halves(header->both, &d, &m);
    add_32_minimum(w, place, columns, 4, d, m, sums);
}

INLINE void copy_q5_0(const unsigned char *p, size_t stride, struct header *out)
{
    copy_2(p, stride, out->d);
    copy_4(p + 2, stride, out->fifth);
}

INLINE void multiply_q5_0(const struct place *place, const struct header *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    load_five_bits(place->p + 6, place->stride, header->fifth, w);
    add_32(w, place, columns, 16, 0, load_halves(header->d), sums);
}

INLINE void copy_q5_1(const unsigned char *p, size_t stride, struct header *out)
{
    copy_4(p, stride, out->both);
    copy_4(p + 4, stride, out->fifth);
}

INLINE void multiply_q5_1(const struct place *place, const struct header *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    __m512 d, m;
    load_five_bits(place->p + 8, place->stride, header->fifth, w);
    split_halves(header->both, &d, &m);
    add_32_minimum(w, place, columns, 0, d, m, sums);
}

INLINE void copy_q8_0(const unsigned char *p, size_t stride, struct header *out)
{
    copy_2(p, stride, out->d);
}

INLINE void multiply_q8_0(const struct place *place, const struct header *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    rows16_load_32(place->p + 2, place->stride, w);
    UNROLL
    for (int i = 0; i < 8; i++)
        w[i] = _mm512_xor_si512(w[i], _mm512_set1_epi8(-128));
    add_32(w, place, columns, 128, 0, load_halves(header->d), sums);
}

INLINE void copy_iq4_nl(const unsigned char *p, size_t stride, struct header *out)
{
    copy_2(p, stride, out->d);
}

INLINE void multiply_iq4_nl(const struct place *place, const struct header *header, int columns,
                            __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    load_codes(place->p + 2, place->stride, code_book(iq4_values, 128), w);
    add_32(w, place, columns, 128, 0, load_halves(header->d), sums);
}

INLINE void copy_mxfp4(const unsigned char *p, size_t stride, struct header *out)
{
    copy_1(p, stride, out->e);
}

INLINE void multiply_mxfp4(const struct place *place, const struct header *header, int columns,
                           __m512 sums[MATVEC_COLUMNS_MAX])
{
    /* See e8m0_half_to_float(): exponent e - 1, or a subnormal number for e below 2. */
    __m512i e = _mm512_cvtepu8_epi32(_mm_load_si128((const void *)header->e));
    __m512i d = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23), w[8];
    d = _mm512_mask_sllv_epi32(d, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)),
                               _mm512_set1_epi32(0x00200000), e);
    load_codes(place->p + 1, place->stride, code_book(mxfp4_values, 16), w);
    add_32(w, place, columns, 16, 0, _mm512_castsi512_ps(d), sums);
}

/* Headers are copied into a ring of 16 blocks, eight blocks before they are read: scalar moves take
 * no vector operation's place, but bytes that several stores wrote can be loaded as one vector only
 * when they have reached the cache. They also bring the rows' next bytes into L1. The ring goes on
 * from strip to strip. */
struct ahead {
    const unsigned char *p;
    size_t block;      /* in its row */
    size_t done, todo; /* of all blocks */
};

#define COPY_AHEAD(tag, block_bytes)                                                               \
    do {                                                                                           \
        copy_##tag(ahead.p, strip->row_bytes, &headers[ahead.done++ % 16]);                        \
        ahead.p += (block_bytes);                                                                  \
        if (++ahead.block == strip->blocks) {                                                      \
            ahead.block = 0;                                                                       \
            ahead.p += 16 * strip->row_bytes - strip->blocks * (block_bytes);                      \
        }                                                                                          \
    } while (0)

#define BLOCK_STRIP(tag, block_bytes, columns)                                                     \
    static void tag##_##columns(const struct strip *strip)                                         \
    {                                                                                              \
        struct header headers[16];                                                                 \
        struct ahead ahead = {strip->rows, 0, 0, strip->blocks * strip->count};                    \
        while (ahead.done < 8 && ahead.done < ahead.todo)                                          \
            COPY_AHEAD(tag, block_bytes);                                                          \
        struct strip at = *strip;                                                                  \
        for (size_t block = 0; at.count > 0; next_strip(&at)) {                                    \
            __m512 sums[MATVEC_COLUMNS_MAX];                                                       \
            struct place place = start_place(&at, columns, sums);                                  \
            for (size_t n = strip->blocks; n > 0; n--, block++) {                                  \
                if (ahead.done < ahead.todo)                                                       \
                    COPY_AHEAD(tag, block_bytes);                                                  \
                fetch_memory(&place, block_bytes, 0, 1);                                           \
                multiply_##tag(&place, &headers[block % 16], columns, sums);                       \
                place.p += block_bytes;                                                            \
                place.next += (size_t)16 * (block_bytes);                                          \
                place.x += sizeof(struct activation_q8);                                           \
            }                                                                                      \
            store_sums(&at, sums, columns);                                                        \
        }                                                                                          \
    }
FOR_COLUMNS(BLOCK_STRIP, q4_0, BLOCK_BYTES_Q4_0)
FOR_COLUMNS(BLOCK_STRIP, q4_1, BLOCK_BYTES_Q4_1)
FOR_COLUMNS(BLOCK_STRIP, q5_0, BLOCK_BYTES_Q5_0)
FOR_COLUMNS(BLOCK_STRIP, q5_1, BLOCK_BYTES_Q5_1)
FOR_COLUMNS(BLOCK_STRIP, q8_0, BLOCK_BYTES_Q8_0)
FOR_COLUMNS(BLOCK_STRIP, iq4_nl, BLOCK_BYTES_IQ4_NL)
FOR_COLUMNS(BLOCK_STRIP, mxfp4, BLOCK_BYTES_MXFP4)

/* ---- rows of floats ---- */

/* Lanes are elements, as in the reference: lane i sums those whose number is i modulo 16. */
enum { FLOAT_ROWS = 4, FLOAT_STEP = 32 };

enum float_kind { KIND_F32, KIND_F16, KIND_BF16 };

INLINE size_t float_bytes(enum float_kind kind)
{
    return kind == KIND_F32 ? 4 : 2;
}

/* 16 weights; those that the mask leaves out are 0 and not read. */
INLINE __m512 load_floats(const unsigned char *p, __mmask16 mask, enum float_kind kind)
{
    if (kind == KIND_F32)
        return _mm512_maskz_loadu_ps(mask, p);
    __m256i halves = _mm256_maskz_loadu_epi16(mask, p);
    if (kind == KIND_F16)
        return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* 16 elements of all rows and columns. */
INLINE void add_floats(const struct strip *strip, size_t i, __mmask16 mask, int rows, int columns,
                       enum float_kind kind, __m512 sums[FLOAT_ROWS][MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int r = 0; r < rows; r++) {
        const unsigned char *row = strip->rows + (size_t)r * strip->row_bytes;
        __m512 w = load_floats(row + i * float_bytes(kind), mask, kind);
        UNROLL
        for (int c = 0; c < columns; c++) {
            const unsigned char *x = strip->x + (size_t)c * strip->x_stride + 4 * i;
            sums[r][c] = _mm512_fmadd_ps(w, _mm512_load_ps((const void *)x), sums[r][c]);
        }
    }
}

/* Lanes i and i + 8, then + 4, + 2, + 1. */
INLINE float sum_lanes(__m512 v)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* strip->blocks counts elements. */
INLINE void multiply_floats(const struct strip *strip, int rows, int columns, enum float_kind kind)
{
    __m512 sums[FLOAT_ROWS][MATVEC_COLUMNS_MAX];
    size_t i = 0, k = strip->blocks, step_bytes = FLOAT_STEP * float_bytes(kind) * (size_t)rows;
    const unsigned char *next = strip->rows + (size_t)rows * strip->row_bytes + FETCH_AHEAD;
    UNROLL
    for (int r = 0; r < rows; r++) {
        UNROLL
        for (int c = 0; c < columns; c++)
            sums[r][c] = _mm512_setzero_ps();
    }
    for (; i + FLOAT_STEP <= k; i += FLOAT_STEP) {
        UNROLL
        for (size_t line = 0; line < step_bytes; line += 64)
            _mm_prefetch((const void *)(next + line), _MM_HINT_T1);
        next += step_bytes;
        add_floats(strip, i, 0xffff, rows, columns, kind, sums);
        add_floats(strip, i + 16, 0xffff, rows, columns, kind, sums);
    }
    for (; i < k; i += 16)
        add_floats(strip, i, (__mmask16)(k - i >= 16 ? 0xffffu : (1u << (k - i)) - 1), rows,
                   columns, kind, sums);
    UNROLL
    for (int c = 0; c < columns; c++) {
        UNROLL
        for (int r = 0; r < rows; r++)
            strip->y[(size_t)c * strip->y_stride + (size_t)r] = sum_lanes(sums[r][c]);
    }
}

#define FLOAT_STRIP(tag, kind, columns)                                                            \
    static void tag##_##columns(const struct strip *strip)                                         \
    {                                                                                              \
        multiply_floats(strip, FLOAT_ROWS, columns, kind);                                         \
    }                                                                                              \
    static void tag##_row_##columns(const struct strip *strip)                                     \
    {                                                                                              \
        multiply_floats(strip, 1, columns, kind);                                                  \
    }
FOR_COLUMNS(FLOAT_STRIP, f32, KIND_F32)
FOR_COLUMNS(FLOAT_STRIP, f16, KIND_F16)
FOR_COLUMNS(FLOAT_STRIP, bf16, KIND_BF16)

struct float_strips {
    void (*rows[MATVEC_COLUMNS_MAX])(const struct strip *strip);
    void (*one_row[MATVEC_COLUMNS_MAX])(const struct strip *strip);
};

static const struct float_strips *find_float_strips(uint32_t type)
{
#define DEFINE_STRIPS(tag)                                                                         \
    static const struct float_strips tag = {{tag##_1, tag##_2, tag##_3, tag##_4},                  \
                                            {tag##_row_1, tag##_row_2, tag##_row_3, tag##_row_4}};
    DEFINE_STRIPS(f32)
    DEFINE_STRIPS(f16)
    DEFINE_STRIPS(bf16)
#undef DEFINE_STRIPS
    return type == TYPE_F32 ? &f32 : type == TYPE_F16 ? &f16 : type == TYPE_BF16 ? &bf16 : NULL;
}

static void multiply_float_rows(const struct matmul *task, const struct float_strips *strips)
{
    struct strip strip = {
        .row_bytes = task->row_bytes,
        .blocks = task->k,
        .x = task->x,
        .x_stride = activation_row_bytes(ACTIVATION_F32, task->k),
        .y_stride = task->y_stride,
    };
    size_t rows;
    for (size_t row = task->row_begin; row < task->row_end; row += rows) {
        bool whole = task->row_end - row >= FLOAT_ROWS;
        rows = whole ? FLOAT_ROWS : 1;
        strip.rows = (const unsigned char *)task->weights + row * task->row_bytes;
        strip.y = task->y + row;
        (whole ? strips->rows : strips->one_row)[task->columns - 1](&strip);
    }
}

/* ---- tasks ---- */

struct matvec_type {
    size_t block_bytes, block_elements;
    enum activation_form form;
    void (*strip[MATVEC_COLUMNS_MAX])(const struct strip *strip);
};

#define MATVEC_TYPES(X)                                                                            \
    X(Q4_0, q4_0, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(Q4_1, q4_1, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(Q5_0, q5_0, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(Q5_1, q5_1, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(Q8_0, q8_0, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(IQ4_NL, iq4_nl, BLOCK_SIZE, ACTIVATION_Q8)                                                   \
    X(MXFP4, mxfp4, BLOCK_SIZE, ACTIVATION_Q8)                                                     \
    X(Q2_K, q2_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)                                              \
    X(Q3_K, q3_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)                                              \
    X(Q4_K, q4_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)                                              \
    X(Q5_K, q5_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)                                              \
    X(Q6_K, q6_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)                                              \
    X(IQ4_XS, iq4_xs, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)

static const struct matvec_type *find_type(uint32_t type)
{
#define DEFINE_TYPE(name, tag, elements, form)                                                     \
    static const struct matvec_type tag = {                                                        \
        BLOCK_BYTES_##name, elements, form, {tag##_1, tag##_2, tag##_3, tag##_4}};
    MATVEC_TYPES(DEFINE_TYPE)
#undef DEFINE_TYPE
    switch (type) {
#define FIND(name, tag, elements, form)                                                            \
    case TYPE_##name:                                                                              \
        return &tag;
        MATVEC_TYPES(FIND)
#undef FIND
    default:
        return NULL;
    }
}

/* Rows that do not fill a strip are computed with those before them, which stay unstored: a strip
 * reads 16 rows. */
bool matvec_avx512(const struct matmul *task)
{
    const struct matvec_type *type = find_type(task->type);
    const struct float_strips *floats = find_float_strips(task->type);
    if (task->columns < 1 || task->columns > MATVEC_COLUMNS_MAX)
        return false;
    if (task->marks != NULL)
        return outliers_by_columns(task, MATVEC_COLUMNS_MAX, matvec_avx512);
    if (floats != NULL) {
        multiply_float_rows(task, floats);
        return true;
    }
    if (type == NULL || task->row_end < 16)
        return false;
    assert(task->k > 0 && task->k % type->block_elements == 0);
    struct strip strip = {
        .row_bytes = task->row_bytes,
        .blocks = task->k / type->block_elements,
        .x = task->x,
        .x_stride = activation_row_bytes(type->form, task->k),
        .y_stride = task->y_stride,
    };
    size_t rows = task->row_end - task->row_begin, rest = rows % 16;
    strip.rows = (const unsigned char *)task->weights + task->row_begin * task->row_bytes;
    strip.y = task->y + task->row_begin;
    strip.wanted = 0xffff;
    strip.count = rows / 16;
    if (strip.count > 0)
        type->strip[task->columns - 1](&strip);
    if (rest > 0) {
        size_t first = task->row_end - 16;
        strip.rows = (const unsigned char *)task->weights + first * task->row_bytes;
        strip.y = task->y + first;
        strip.wanted = (__mmask16)(0xffffu << (16 - rest));
        strip.count = 1;
        type->strip[task->columns - 1](&strip);
    }
    return true;
}
