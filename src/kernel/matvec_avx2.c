/* Products with one to four columns, with AVX2, or with AVX-VNNI (products_256.h): a lane is one of
 * 8 rows, as in matmul_avx2.c, but what is loaded is multiplied at once.
 *
 * The cost is uops per byte of weights: what a core adds up must keep up with its share of memory.
 * Loads touch the bytes of the blocks and nothing else. */
#include <assert.h>

#include "kernel/blocks.h"
#include "kernel/products_256.h"
#include "kernel/rows8_avx2.h"

/* Eight rows of a product. */
struct strip {
    const unsigned char *rows;
    size_t row_bytes;
    size_t blocks; /* in a row */
    const unsigned char *x;
    size_t x_stride;
    float *y; /* of the first row and column */
    size_t y_stride;
    __m256i wanted; /* all bits set: the row is to be stored */
};

/* The activations that a block of weights meets, and what to fetch meanwhile. */
struct columns {
    const unsigned char *x;
    size_t stride;
    const unsigned char *next;
};

INLINE const struct activation_q8 *q8_column(const struct columns *x, int c)
{
    return (const void *)(x->x + (size_t)c * x->stride);
}

INLINE const struct activation_q8_256 *k_column(const struct columns *x, int c)
{
    return (const void *)(x->x + (size_t)c * x->stride);
}

/* Rows follow each other without gaps: while block after block of 8 rows is computed, the same
 * number of bytes is fetched into the L2 cache, in their order in memory, from the rows that come
 * next; a few lines at a time, because all at once they would hold up loads. */
enum { FETCH_AHEAD = 8192 };

INLINE void fetch_part(const unsigned char *next, size_t block_bytes, int part, int parts)
{
    size_t lines = (8 * block_bytes + 63) / 64;
    UNROLL
    for (size_t i = lines * (size_t)part / (size_t)parts;
         i < lines * (size_t)(part + 1) / (size_t)parts; i++)
        _mm_prefetch((const void *)(next + 64 * i), _MM_HINT_T1);
}

/* A superblock of each row into the L1 cache: hardware prefetchers do not follow 8 streams well. */
INLINE void fetch_rows(const unsigned char *p, size_t stride, size_t block_bytes)
{
    UNROLL
    for (size_t row = 0; row < 8; row++) {
        UNROLL
        for (size_t i = 0; i < block_bytes; i += 64)
            _mm_prefetch((const void *)(p + row * stride + i), _MM_HINT_T0);
    }
}

/* ---- bits and bytes ---- */

INLINE __m256i and_8(__m256i v, int mask)
{
    return _mm256_and_si256(v, _mm256_set1_epi8((char)mask));
}

/* The bits of `mask`, from bit `from` of each byte on, moved to bit `to`. */
INLINE __m256i bits_at(__m256i v, int mask, int from, int to)
{
    __m256i moved = from >= to ? _mm256_srli_epi32(v, from - to) : _mm256_slli_epi32(v, to - from);
    return and_8(moved, mask << to);
}

/* An index for vpshufb: two bytes of each lane, 0 to 3 or -1 for a zero, to its lower half; the
 * same plus `next` to the upper half, or zeros if it is -1. */
INLINE __m256i lane_bytes(int low, int high, int next)
{
    int32_t lanes[4];
    for (int i = 0; i < 4; i++) {
        uint32_t half = (low < 0 ? 0x80u : (uint32_t)(4 * i + low)) |
                        (high < 0 ? 0x80u : (uint32_t)(4 * i + high)) << 8;
        uint32_t step = (low < 0 ? 0u : (uint32_t)next) | (high < 0 ? 0u : (uint32_t)next) << 8;
        lanes[i] = (int32_t)(half | (next < 0 ? 0x8080u : half + step) << 16);
    }
    return _mm256_setr_epi32(lanes[0], lanes[1], lanes[2], lanes[3], lanes[0], lanes[1], lanes[2],
                             lanes[3]);
}

/* Byte b of each lane as a factor for add_run(): vpmaddwd wants it twice, vpdpwssd once. */
INLINE __m256i scale_of(__m256i bytes, int b)
{
    return _mm256_shuffle_epi8(bytes, lane_bytes(b, -1, KERNEL_VNNI ? -1 : 0));
}

INLINE __m256i signed_scale_of(__m256i bytes, int b)
{
    __m256i high = _mm256_shuffle_epi8(bytes, lane_bytes(-1, b, KERNEL_VNNI ? -1 : 0));
    return _mm256_srai_epi16(high, 8);
}

/* Bytes 2p and 2p + 1 of each lane as two numbers of 16 bits. */
INLINE __m256i pair_of(__m256i bytes, int p)
{
    return _mm256_shuffle_epi8(bytes, lane_bytes(2 * p, -1, 1));
}

INLINE __m256i signed_pair_of(__m256i bytes, int p)
{
    return _mm256_srai_epi16(_mm256_shuffle_epi8(bytes, lane_bytes(-1, 2 * p, 1)), 8);
}

/* ---- 16 elements of 8 rows times those of a column ---- */

/* How large the bytes of weights are. Up to 6 bits they are unsigned; BITS_HIGH are four bits where
 * high_nibbles() leaves them; BITS_8 are signed for vpmaddubsw, and unsigned, 128 larger, for
 * vpdpbusd. */
enum width { BITS_4, BITS_HIGH, BITS_5, BITS_6, BITS_8 };

INLINE __m256i low_nibbles(__m256i v)
{
    return and_8(v, 0x0f);
}

#if KERNEL_VNNI
INLINE __m256i high_nibbles(__m256i v)
{
    return and_8(v, 0xf0);
}

INLINE __m256i weights_8(__m256i v)
{
    return _mm256_xor_si256(v, _mm256_set1_epi8((char)0x80));
}

INLINE __m256i dot_some(__m256i sum, const __m256i *w, const int8_t *a, int count)
{
    UNROLL
    for (int i = 0; i < count; i++)
        sum = dot_bytes(sum, w[i], broadcast_4(a + 4 * i));
    return sum;
}

/* total + sum(w * a) */
INLINE __m256i add_plain(__m256i total, const __m256i w[4], const int8_t *a, enum width width)
{
    if (width != BITS_HIGH)
        return dot_some(total, w, a, 4);
    __m256i sum = dot_some(_mm256_setzero_si256(), w, a, 4);
    return _mm256_add_epi32(total, _mm256_srai_epi32(sum, 4));
}

/* total + scale * sum(w * a), w being 32 smaller for BITS_6. vpdpwssd takes the lower 16 bits of a
 * sum, so that it may have 16, 8 and 8 elements: 16 * 15, 8 * 31 and 8 * 32 times 127 fit. */
INLINE __m256i add_run(__m256i total, const __m256i w[4], const struct activation_q8_256 *x,
                       int element, enum width width, __m256i scale)
{
    const int8_t *a = x->q + element;
    const __m256i zero = _mm256_setzero_si256();
    if (width == BITS_8) {
        __m256i start = _mm256_slli_epi32(broadcast_4(&x->sum16_16[element / 16]), 3);
        return _mm256_add_epi32(total, _mm256_mullo_epi32(dot_some(start, w, a, 4), scale));
    }
    if (width == BITS_4)
        return dot_shorts(total, dot_some(zero, w, a, 4), scale);
    if (width == BITS_HIGH)
        return dot_shorts(total, _mm256_srai_epi32(dot_some(zero, w, a, 4), 4), scale);
    UNROLL
    for (int i = 0; i < 2; i++) {
        __m256i start = width == BITS_6 ? broadcast_4(&x->sum8_32[element / 8 + i]) : zero;
        total = dot_shorts(total, dot_some(start, w + 2 * i, a + 8 * i, 2), scale);
    }
    return total;
}
#else
INLINE __m256i high_nibbles(__m256i v)
{
    return and_8(_mm256_srli_epi32(v, 4), 0x0f);
}

INLINE __m256i weights_8(__m256i v)
{
    return v;
}

/* How many products fit into 16 bits: see matmul_avx2.c. */
INLINE __m256i add_scaled(__m256i total, const __m256i w[4], const int8_t *a, enum width width,
                          __m256i scale)
{
    __m256i dot[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i four = broadcast_4(a + 4 * i);
        dot[i] = width == BITS_8 ? maddubs_signed(w[i], four) : _mm256_maddubs_epi16(w[i], four);
    }
    if (width == BITS_8) {
        UNROLL
        for (int i = 0; i < 4; i++)
            total = dot_shorts(total, dot[i], scale);
        return total;
    }
    __m256i low = _mm256_add_epi16(dot[0], dot[1]), high = _mm256_add_epi16(dot[2], dot[3]);
    if (width == BITS_6)
        return dot_shorts(dot_shorts(total, low, scale), high, scale);
    return dot_shorts(total, _mm256_add_epi16(low, high), scale);
}

INLINE __m256i add_plain(__m256i total, const __m256i w[4], const int8_t *a, enum width width)
{
    return add_scaled(total, w, a, width, _mm256_set1_epi16(1));
}

INLINE __m256i add_run(__m256i total, const __m256i w[4], const struct activation_q8_256 *x,
                       int element, enum width width, __m256i scale)
{
    return add_scaled(total, w, x->q + element, width, scale);
}
#endif

/* ---- blocks of 32 ---- */

/* A block of 8 rows: w[i] has the elements 4i to 4i + 3. */
struct q8_weights {
    __m256i w[8];
    __m256 d, m;
};

/* Which sum of the activations makes up for weights that are larger as bytes. */
enum offset { OFFSET_0, OFFSET_8, OFFSET_16, OFFSET_128 };

struct q8_shape {
    enum width low, high; /* of the elements 0 to 15 and of the others */
    enum offset offset;
    bool minima;
};

INLINE __m256i offset_sum(const struct activation_q8 *x, enum offset offset)
{
    return offset == OFFSET_8     ? _mm256_set1_epi32(x->sum_8)
           : offset == OFFSET_16  ? _mm256_set1_epi32(x->sum_16)
           : offset == OFFSET_128 ? _mm256_set1_epi32(x->sum_128)
                                  : _mm256_setzero_si256();
}

INLINE void multiply_q8(const struct q8_weights *weights, const struct q8_shape shape,
                        const struct columns *x, int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8 *a = q8_column(x, c);
        __m256i total = offset_sum(a, shape.offset);
        total = add_plain(total, weights->w, a->q, shape.low);
        total = add_plain(total, weights->w + 4, a->q + 16, shape.high);
        __m256 t = _mm256_mul_ps(weights->d, _mm256_cvtepi32_ps(total));
        if (shape.minima)
            t = _mm256_fmadd_ps(weights->m, _mm256_set1_ps(a->sum), t);
        sums[c] = _mm256_fmadd_ps(_mm256_set1_ps(a->d), t, sums[c]);
    }
}

INLINE __m256 one_half(const unsigned char *p, size_t stride)
{
    return _mm256_cvtph_ps(rows8_load_2(p, stride));
}

INLINE void unpack_nibbles(const unsigned char *qs, size_t stride, struct q8_weights *out)
{
    __m256i packed[4];
    rows8_load_16(qs, stride, packed);
    UNROLL
    for (int i = 0; i < 4; i++) {
        out->w[i] = low_nibbles(packed[i]);
        out->w[i + 4] = high_nibbles(packed[i]);
    }
}

/* 16 where bit 4i + j of a lane is set, for byte j. */
INLINE __m256i fifth_bits(__m256i qh, int i)
{
    const __m256i lanes = _mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 0, 0,
                                           0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    const __m256i sixteens = _mm256_setr_epi8(0, 16, 16, 0, 16, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0,
                                              16, 16, 0, 16, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0);
    __m256i byte = _mm256_add_epi8(lanes, _mm256_set1_epi8((char)(i / 2)));
    __m256i four = i % 2 == 0 ? qh : _mm256_srli_epi32(qh, 4);
    four = _mm256_and_si256(_mm256_shuffle_epi8(four, byte), _mm256_set1_epi32(0x08040201));
    return _mm256_shuffle_epi8(sixteens, four);
}

INLINE void unpack_five_bits(const unsigned char *qh, const unsigned char *qs, size_t stride,
                             struct q8_weights *out)
{
    __m256i packed[4], high = rows8_load_4(qh, stride);
    rows8_load_16(qs, stride, packed);
    UNROLL
    for (int i = 0; i < 4; i++) {
        out->w[i] = _mm256_or_si256(low_nibbles(packed[i]), fifth_bits(high, i));
        out->w[i + 4] = _mm256_or_si256(bits_at(packed[i], 15, 4, 0), fifth_bits(high, i + 4));
    }
}

INLINE void unpack_codes(const unsigned char *qs, size_t stride, __m256i book,
                         struct q8_weights *out)
{
    __m256i packed[4];
    rows8_load_16(qs, stride, packed);
    UNROLL
    for (int i = 0; i < 4; i++) {
        out->w[i] = _mm256_shuffle_epi8(book, low_nibbles(packed[i]));
        out->w[i + 4] = _mm256_shuffle_epi8(book, bits_at(packed[i], 15, 4, 0));
    }
}

INLINE void unpack_q4_0(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    out->d = one_half(p, stride);
    unpack_nibbles(p + 2, stride, out);
}

INLINE void unpack_q4_1(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    rows8_halves(rows8_load_4(p, stride), &out->d, &out->m);
    unpack_nibbles(p + 4, stride, out);
}

INLINE void unpack_q5_0(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    out->d = one_half(p, stride);
    unpack_five_bits(p + 2, p + 6, stride, out);
}

INLINE void unpack_q5_1(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    rows8_halves(rows8_load_4(p, stride), &out->d, &out->m);
    unpack_five_bits(p + 4, p + 8, stride, out);
}

INLINE void unpack_q8_0(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    out->d = one_half(p, stride);
    rows8_load_16(p + 2, stride, out->w);
    rows8_load_16(p + 18, stride, out->w + 4);
    UNROLL
    for (int i = 0; i < 8; i++)
        out->w[i] = weights_8(out->w[i]);
}

INLINE __m256i load_book(const int8_t values[16])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)values));
}

static const int8_t iq4_values[16] = IQ4_VALUES_INIT;
static const int8_t mxfp4_values[16] = MXFP4_VALUES_INIT;

INLINE void unpack_iq4_nl(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    out->d = one_half(p, stride);
    unpack_codes(p + 2, stride, weights_8(load_book(iq4_values)), out);
}

INLINE void unpack_mxfp4(const unsigned char *p, size_t stride, struct q8_weights *out)
{
    /* See e8m0_half_to_float(): exponent e - 1, or a subnormal number for e below 2. */
    __m256i e = _mm256_cvtepu16_epi32(rows8_load_2(p, stride));
    e = _mm256_and_si256(e, _mm256_set1_epi32(255));
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    __m256i is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));
    out->d = _mm256_castsi256_ps(_mm256_blendv_epi8(subnormal, normal, is_normal));
    unpack_codes(p + 1, stride, _mm256_add_epi8(load_book(mxfp4_values), _mm256_set1_epi8(16)),
                 out);
}

/* ---- superblocks ---- */

/* totals += scale * sum(w * a) over the 16 elements from `element` on. */
INLINE void add_runs(__m256i totals[MATVEC_COLUMNS_MAX], const __m256i w[4],
                     const struct columns *x, int columns, int element, enum width width,
                     __m256i scale)
{
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = add_run(totals[c], w, k_column(x, c), element, width, scale);
}

/* Sum over the sub-blocks of bytes[b / 4] (byte b % 4) * sum_b(a). */
INLINE __m256i dot_sums(const __m256i pairs[8], const int16_t *sums, int count)
{
    __m256i dot = _mm256_setzero_si256();
    UNROLL
    for (int i = 0; i < count; i++)
        dot = dot_shorts(dot, pairs[i], broadcast_4(sums + 2 * i));
    return dot;
}

INLINE void finish_k(__m256 d, const __m256i totals[MATVEC_COLUMNS_MAX], const struct columns *x,
                     int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        __m256 t = _mm256_mul_ps(d, _mm256_cvtepi32_ps(totals[c]));
        sums[c] = _mm256_fmadd_ps(_mm256_set1_ps(k_column(x, c)->d), t, sums[c]);
    }
}

/* With minima, their 16 or 8 in `count` pairs: m is -dmin. */
INLINE void finish_k_minima(__m256i halves, const __m256i totals[MATVEC_COLUMNS_MAX],
                            const __m256i pairs[8], int count, const struct columns *x, int columns,
                            __m256 sums[MATVEC_COLUMNS_MAX])
{
    __m256 d, dmin;
    rows8_halves(halves, &d, &dmin);
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8_256 *a = k_column(x, c);
        __m256i minima = dot_sums(pairs, count == 4 ? a->sum32 : a->sum16, count);
        __m256 t = _mm256_mul_ps(d, _mm256_cvtepi32_ps(totals[c]));
        t = _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(minima), t);
        sums[c] = _mm256_fmadd_ps(_mm256_set1_ps(a->d), t, sums[c]);
    }
}

/* totals -= 2^shift * sum over the 16 sub-blocks of scale * sum(a): the weights were so much too
 * large as bytes. */
INLINE void subtract_offset(__m256i totals[MATVEC_COLUMNS_MAX], const __m256i scales[4], int shift,
                            const struct columns *x, int columns)
{
    __m256i pairs[8];
    UNROLL
    for (int i = 0; i < 8; i++)
        pairs[i] = signed_pair_of(scales[i / 2], i % 2);
    UNROLL
    for (int c = 0; c < columns; c++) {
        __m256i dot = dot_sums(pairs, k_column(x, c)->sum16, 8);
        totals[c] = _mm256_sub_epi32(totals[c], _mm256_slli_epi32(dot, shift));
    }
}

INLINE void clear(__m256i totals[MATVEC_COLUMNS_MAX], int columns)
{
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm256_setzero_si256();
}

/* The header of Q4_K and Q5_K; q4_k_scale() explains it. Four scales or minima to a vector. */
struct k_header {
    __m256i halves, scales[2], pairs[8];
};

INLINE void load_k_header(const unsigned char *p, size_t stride, struct k_header *out)
{
    __m256i h[4], mins[2];
    rows8_load_16(p, stride, h);
    out->halves = h[0];
    out->scales[0] = and_8(h[1], 63);
    out->scales[1] = _mm256_or_si256(low_nibbles(h[3]), bits_at(h[1], 3, 6, 4));
    mins[0] = and_8(h[2], 63);
    mins[1] = _mm256_or_si256(bits_at(h[3], 15, 4, 0), bits_at(h[2], 3, 6, 4));
    UNROLL
    for (int i = 0; i < 4; i++)
        out->pairs[i] = pair_of(mins[i / 2], i % 2);
}

INLINE void multiply_q4_k(const unsigned char *p, size_t stride, const struct columns *x,
                          int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    struct k_header header;
    __m256i totals[MATVEC_COLUMNS_MAX];
    load_k_header(p, stride, &header);
    clear(totals, columns);
    UNROLL
    for (int chunk = 0; chunk < 8; chunk++) { /* 16 bytes, two to a pair of sub-blocks */
        __m256i packed[4], low[4], high[4];
        int pair = chunk / 2, element = 64 * pair + 16 * (chunk % 2);
        fetch_part(x->next, BLOCK_BYTES_Q4_K, chunk, 8);
        rows8_load_16(p + 16 + 16 * chunk, stride, packed);
        UNROLL
        for (int i = 0; i < 4; i++) {
            low[i] = low_nibbles(packed[i]);
            high[i] = high_nibbles(packed[i]);
        }
        __m256i scales = header.scales[pair / 2];
        add_runs(totals, low, x, columns, element, BITS_4, scale_of(scales, 2 * (pair % 2)));
        add_runs(totals, high, x, columns, element + 32, KERNEL_VNNI ? BITS_HIGH : BITS_4,
                 scale_of(scales, 2 * (pair % 2) + 1));
    }
    finish_k_minima(header.halves, totals, header.pairs, 4, x, columns, sums);
}

INLINE void multiply_q5_k(const unsigned char *p, size_t stride, const struct columns *x,
                          int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    struct k_header header;
    __m256i totals[MATVEC_COLUMNS_MAX];
    load_k_header(p, stride, &header);
    clear(totals, columns);
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m256i fifth[4];
        rows8_load_16(p + 16 + 16 * half, stride, fifth);
        UNROLL
        for (int pair = 0; pair < 4; pair++) {
            __m256i packed[4], low[4], high[4];
            int element = 64 * pair + 16 * half;
            fetch_part(x->next, BLOCK_BYTES_Q5_K, 4 * half + pair, 8);
            rows8_load_16(p + 48 + 32 * pair + 16 * half, stride, packed);
            UNROLL
            for (int i = 0; i < 4; i++) {
                low[i] = _mm256_or_si256(low_nibbles(packed[i]), bits_at(fifth[i], 1, 2 * pair, 4));
                high[i] = _mm256_or_si256(bits_at(packed[i], 15, 4, 0),
                                          bits_at(fifth[i], 1, 2 * pair + 1, 4));
            }
            __m256i scales = header.scales[pair / 2];
            add_runs(totals, low, x, columns, element, BITS_5, scale_of(scales, 2 * (pair % 2)));
            add_runs(totals, high, x, columns, element + 32, BITS_5,
                     scale_of(scales, 2 * (pair % 2) + 1));
        }
    }
    finish_k_minima(header.halves, totals, header.pairs, 4, x, columns, sums);
}

/* Sub-block 8 * half + chunk + 2j has 16 elements from 128 * half + 16 * chunk + 32j on. */
INLINE void multiply_q6_k(const unsigned char *p, size_t stride, const struct columns *x,
                          int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    __m256i totals[MATVEC_COLUMNS_MAX], scales[4];
    __m256 d = one_half(p + 208, stride);
    rows8_load_16(p + 192, stride, scales);
    clear(totals, columns);
    UNROLL
    for (int part = 0; part < 4; part++) {
        int half = part / 2, chunk = part % 2;
        __m256i high[4], near[4], far[4], w[4];
        fetch_part(x->next, BLOCK_BYTES_Q6_K, part, 4);
        rows8_load_16(p + 128 + 16 * part, stride, high);
        rows8_load_16(p + 64 * half + 16 * chunk, stride, near);
        rows8_load_16(p + 64 * half + 32 + 16 * chunk, stride, far);
        UNROLL
        for (int j = 0; j < 4; j++) {
            const __m256i *low = j % 2 == 0 ? near : far;
            UNROLL
            for (int i = 0; i < 4; i++)
                w[i] = _mm256_or_si256(bits_at(low[i], 15, j < 2 ? 0 : 4, 0),
                                       bits_at(high[i], 3, 2 * j, 4));
            add_runs(totals, w, x, columns, 128 * half + 16 * chunk + 32 * j, BITS_6,
                     signed_scale_of(scales[2 * half + j / 2], chunk + 2 * (j % 2)));
        }
    }
    if (!KERNEL_VNNI) /* else add_run() made up for it */
        subtract_offset(totals, scales, 5, x, columns);
    finish_k(d, totals, x, columns, sums);
}

INLINE void multiply_q2_k(const unsigned char *p, size_t stride, const struct columns *x,
                          int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    __m256i totals[MATVEC_COLUMNS_MAX], both[4], pairs[8];
    rows8_load_16(p, stride, both);
    UNROLL
    for (int i = 0; i < 8; i++)
        pairs[i] = pair_of(bits_at(both[i / 2], 15, 4, 0), i % 2);
    clear(totals, columns);
    UNROLL
    for (int part = 0; part < 4; part++) { /* see multiply_q6_k() */
        int half = part / 2, chunk = part % 2;
        __m256i packed[4], w[4];
        fetch_part(x->next, BLOCK_BYTES_Q2_K, part, 4);
        rows8_load_16(p + 16 + 16 * part, stride, packed);
        UNROLL
        for (int j = 0; j < 4; j++) {
            UNROLL
            for (int i = 0; i < 4; i++)
                w[i] = bits_at(packed[i], 3, 2 * j, 0);
            __m256i scales = low_nibbles(both[2 * half + j / 2]);
            add_runs(totals, w, x, columns, 128 * half + 16 * chunk + 32 * j, BITS_4,
                     scale_of(scales, chunk + 2 * (j % 2)));
        }
    }
    finish_k_minima(rows8_load_4(p + 80, stride), totals, pairs, 8, x, columns, sums);
}

/* The scales (q3_k_scale() explains them) and d behind them are the last 14 of 110 bytes; the 16
 * bytes that are loaded begin two earlier. */
INLINE __m256 load_q3_k_header(const unsigned char *p, size_t stride, __m256i scales[4])
{
    __m256i h[4], packed[3];
    rows8_load_16(p + 94, stride, h);
    UNROLL
    for (int i = 0; i < 3; i++)
        packed[i] = _mm256_or_si256(_mm256_srli_epi32(h[i], 16), _mm256_slli_epi32(h[i + 1], 16));
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i low = bits_at(packed[i % 2], 15, i < 2 ? 0 : 4, 0);
        scales[i] = _mm256_add_epi8(_mm256_or_si256(low, bits_at(packed[2], 3, 2 * i, 4)),
                                    _mm256_set1_epi8(-32));
    }
    __m256 unused, d;
    rows8_halves(h[3], &unused, &d);
    return d;
}

INLINE void multiply_q3_k(const unsigned char *p, size_t stride, const struct columns *x,
                          int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    __m256i totals[MATVEC_COLUMNS_MAX], scales[4];
    __m256 d = load_q3_k_header(p, stride, scales);
    clear(totals, columns);
    UNROLL
    for (int chunk = 0; chunk < 2; chunk++) {
        __m256i high[4];
        rows8_load_16(p + 16 * chunk, stride, high);
        UNROLL
        for (int half = 0; half < 2; half++) { /* see multiply_q6_k() */
            __m256i packed[4], w[4];
            fetch_part(x->next, BLOCK_BYTES_Q3_K, 2 * chunk + half, 4);
            rows8_load_16(p + 32 + 32 * half + 16 * chunk, stride, packed);
            UNROLL
            for (int j = 0; j < 4; j++) {
                UNROLL
                for (int i = 0; i < 4; i++)
                    w[i] = _mm256_or_si256(bits_at(packed[i], 3, 2 * j, 0),
                                           bits_at(high[i], 1, 4 * half + j, 2));
                add_runs(totals, w, x, columns, 128 * half + 16 * chunk + 32 * j, BITS_4,
                         signed_scale_of(scales[2 * half + j / 2], chunk + 2 * (j % 2)));
            }
        }
    }
    subtract_offset(totals, scales, 2, x, columns);
    finish_k(d, totals, x, columns, sums);
}

/* The scales of the sub-blocks 0, 2, 4, 6 in one vector and those of 1, 3, 5, 7 in the other. */
INLINE __m256 load_iq4_xs_header(const unsigned char *p, size_t stride, __m256i scales[2])
{
    const __m256i twice = _mm256_setr_epi8(2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15,
                                           2, 2, 3, 3, 6, 6, 7, 7, 10, 10, 11, 11, 14, 14, 15, 15);
    __m256i header = rows8_load_4(p, stride), low = rows8_load_4(p + 4, stride);
    __m256i high = _mm256_shuffle_epi8(header, twice);
    UNROLL
    for (int odd = 0; odd < 2; odd++) {
        __m256i first =
            _mm256_and_si256(_mm256_slli_epi32(high, 4 - 2 * odd), _mm256_set1_epi32(0x00300030));
        __m256i second = _mm256_and_si256(odd == 0 ? high : _mm256_srli_epi32(high, 2),
                                          _mm256_set1_epi32(0x30003000));
        __m256i nibbles = bits_at(low, 15, 4 * odd, 0);
        scales[odd] = _mm256_add_epi8(_mm256_or_si256(nibbles, _mm256_or_si256(first, second)),
                                      _mm256_set1_epi8(-32));
    }
    __m256 d, unused;
    rows8_halves(header, &d, &unused);
    return d;
}

/* vpmulld wants a scale of 32 bits. */
INLINE __m256i iq4_xs_scale_of(__m256i scales, int b)
{
    if (KERNEL_VNNI)
        return _mm256_srai_epi32(_mm256_slli_epi32(scales, 24 - 8 * b), 24);
    return signed_scale_of(scales, b);
}

INLINE void multiply_iq4_xs(const unsigned char *p, size_t stride, const struct columns *x,
                            int columns, __m256 sums[MATVEC_COLUMNS_MAX])
{
    __m256i totals[MATVEC_COLUMNS_MAX], scales[2];
    __m256 d = load_iq4_xs_header(p, stride, scales);
    __m256i book = weights_8(load_book(iq4_values));
    clear(totals, columns);
    UNROLL
    for (int b = 0; b < 8; b++) {
        struct q8_weights block;
        fetch_part(x->next, BLOCK_BYTES_IQ4_XS, b, 8);
        unpack_codes(p + 8 + 16 * b, stride, book, &block);
        __m256i scale = iq4_xs_scale_of(scales[b % 2], b / 2);
        add_runs(totals, block.w, x, columns, 32 * b, BITS_8, scale);
        add_runs(totals, block.w + 4, x, columns, 32 * b + 16, BITS_8, scale);
    }
    finish_k(d, totals, x, columns, sums);
}

/* ---- one function per type and number of columns ---- */

INLINE void store_sums(const struct strip *strip, const __m256 sums[MATVEC_COLUMNS_MAX],
                       int columns)
{
    UNROLL
    for (int c = 0; c < columns; c++)
        _mm256_maskstore_ps(strip->y + (size_t)c * strip->y_stride, strip->wanted, sums[c]);
}

#define STRIP(type, tag, activation, count)                                                        \
    static void tag##_##count(const struct strip *strip)                                           \
    {                                                                                              \
        __m256 sums[MATVEC_COLUMNS_MAX];                                                           \
        UNROLL                                                                                     \
        for (int c = 0; c < count; c++)                                                            \
            sums[c] = _mm256_setzero_ps();                                                         \
        const unsigned char *p = strip->rows;                                                      \
        struct columns x = {strip->x, strip->x_stride, p + 8 * strip->row_bytes + FETCH_AHEAD};    \
        for (size_t n = strip->blocks; n > 0; n--) {                                               \
            if (BLOCK_BYTES_##type > 64)                                                           \
                fetch_rows(p + BLOCK_BYTES_##type, strip->row_bytes, BLOCK_BYTES_##type);          \
            multiply_##tag(p, strip->row_bytes, &x, count, sums);                                  \
            p += BLOCK_BYTES_##type;                                                               \
            x.x += sizeof(activation);                                                             \
            x.next += 8 * BLOCK_BYTES_##type;                                                      \
        }                                                                                          \
        store_sums(strip, sums, count);                                                            \
    }
#define STRIPS(type, tag, activation)                                                              \
    STRIP(type, tag, activation, 1)                                                                \
    STRIP(type, tag, activation, 2)                                                                \
    STRIP(type, tag, activation, 3)                                                                \
    STRIP(type, tag, activation, 4)

/* X(type, tag, width of the elements 0 to 15, of the others, offset, has minima) */
#define HIGH_NIBBLES (KERNEL_VNNI ? BITS_HIGH : BITS_4)
#define OFFSET_8BIT (KERNEL_VNNI ? OFFSET_128 : OFFSET_0)
#define Q8_TYPES(X)                                                                                \
    X(Q4_0, q4_0, BITS_4, HIGH_NIBBLES, OFFSET_8, false)                                           \
    X(Q4_1, q4_1, BITS_4, HIGH_NIBBLES, OFFSET_0, true)                                            \
    X(Q5_0, q5_0, BITS_5, BITS_5, OFFSET_16, false)                                                \
    X(Q5_1, q5_1, BITS_5, BITS_5, OFFSET_0, true)                                                  \
    X(Q8_0, q8_0, BITS_8, BITS_8, OFFSET_8BIT, false)                                              \
    X(IQ4_NL, iq4_nl, BITS_8, BITS_8, OFFSET_8BIT, false)                                          \
    X(MXFP4, mxfp4, BITS_5, BITS_5, OFFSET_16, false)
#define K_TYPES(X)                                                                                 \
    X(Q2_K, q2_k)                                                                                  \
    X(Q3_K, q3_k)                                                                                  \
    X(Q4_K, q4_k)                                                                                  \
    X(Q5_K, q5_k)                                                                                  \
    X(Q6_K, q6_k)                                                                                  \
    X(IQ4_XS, iq4_xs)

#define Q8_STRIPS(type, tag, low, high, offset, minima)                                            \
    INLINE void multiply_##tag(const unsigned char *p, size_t stride, const struct columns *x,     \
                               int columns, __m256 sums[MATVEC_COLUMNS_MAX])                       \
    {                                                                                              \
        struct q8_weights weights;                                                                 \
        fetch_part(x->next, BLOCK_BYTES_##type, 0, 1);                                             \
        unpack_##tag(p, stride, &weights);                                                         \
        multiply_q8(&weights, (struct q8_shape){low, high, offset, minima}, x, columns, sums);     \
    }                                                                                              \
    STRIPS(type, tag, struct activation_q8)
#define K_STRIPS(type, tag) STRIPS(type, tag, struct activation_q8_256)
Q8_TYPES(Q8_STRIPS)
K_TYPES(K_STRIPS)

/* ---- tasks ---- */

struct strip_type {
    size_t block_bytes;
    void (*strip[MATVEC_COLUMNS_MAX])(const struct strip *strip);
};

static const struct strip_type *find_type(uint32_t type)
{
#define K_ROW(name, tag) [TYPE_##name] = {BLOCK_BYTES_##name, {tag##_1, tag##_2, tag##_3, tag##_4}},
#define Q8_ROW(name, tag, low, high, offset, minima) K_ROW(name, tag)
    static const struct strip_type types[] = {Q8_TYPES(Q8_ROW) K_TYPES(K_ROW)};
#undef Q8_ROW
#undef K_ROW
    bool known = type < sizeof(types) / sizeof(types[0]) && types[type].block_bytes > 0;
    return known ? &types[type] : NULL;
}

/* A strip reads 8 rows: those that do not fill one are computed together with rows before them,
 * which stay unstored. */
bool TIER(matvec)(const struct matmul *task)
{
    const struct strip_type *type = find_type(task->type);
    if (type == NULL || task->columns > MATVEC_COLUMNS_MAX || task->row_end < 8)
        return false;
    if (task->marks != NULL)
        return outliers_by_columns(task, MATVEC_COLUMNS_MAX, TIER(matvec));
    enum activation_form form = activation_form_of(task->type);
    size_t elements = form == ACTIVATION_Q8_256 ? SUPERBLOCK_SIZE : BLOCK_SIZE;
    assert(task->k > 0 && task->k % elements == 0);
    struct strip strip = {
        .row_bytes = task->row_bytes,
        .blocks = task->k / elements,
        .x = task->x,
        .x_stride = activation_row_bytes(form, task->k),
        .y_stride = task->y_stride,
    };
    for (size_t row = task->row_begin; row < task->row_end; row += 8) {
        size_t first = row + 8 <= task->row_end ? row : task->row_end - 8;
        strip.rows = (const unsigned char *)task->weights + first * task->row_bytes;
        strip.y = task->y + first;
        strip.wanted = _mm256_cmpgt_epi32(_mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8),
                                          _mm256_set1_epi32((int)(row - first)));
        type->strip[task->columns - 1](&strip);
    }
    return true;
}
