/* Products with one to four columns, with AVX-512: a lane is one of 16 rows, as in matmul_avx512.c,
 * but what is loaded is multiplied at once.
 *
 * The cost is uops per byte of weights: two 512-bit ones a cycle must keep up with memory. */
#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "kernel/activation.h"
#include "kernel/blocks.h"
#include "kernel/matvec.h"
#include "kernel/rows16_avx512.h"

/* 16 rows of a product. */
struct strip {
    const unsigned char *rows;
    size_t row_bytes;
    size_t blocks; /* in a row */
    const unsigned char *x;
    size_t x_stride;
    float *y; /* of the first row and column */
    size_t y_stride;
    __mmask16 wanted; /* rows to store */
};

/* Memory brings rows best as one linear stream: while 16 rows are computed, their number of bytes
 * is fetched into the L2 cache from the rows that follow, a few lines at a time. Each row's next
 * block is then fetched into L1, because the 16 streams are more than a hardware prefetcher
 * follows. */
#define FETCH_AHEAD 8192

INLINE const unsigned char *fetch_start(const struct strip *strip)
{
    return strip->rows + 16 * strip->row_bytes + FETCH_AHEAD;
}

INLINE void fetch_part(const unsigned char *next, size_t bytes, int part, int parts)
{
    size_t lines = (bytes + 63) / 64;
    UNROLL
    for (size_t i = lines * (size_t)part / (size_t)parts;
         i < lines * (size_t)(part + 1) / (size_t)parts; i++)
        _mm_prefetch((const void *)(next + 64 * i), _MM_HINT_T1);
}

INLINE void fetch_rows(const unsigned char *p, size_t stride, size_t bytes)
{
    UNROLL
    for (size_t row = 0; row < 16; row++) {
        UNROLL
        for (size_t i = 0; i < bytes; i += 64)
            _mm_prefetch((const void *)(p + row * stride + i), _MM_HINT_T0);
    }
}

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

/* Where a strip stands. */
struct place {
    const unsigned char *p; /* the block of the first row */
    size_t stride;          /* to the next row */
    const unsigned char *next;
    const unsigned char *x; /* the block of the first column */
    size_t x_stride;
};

INLINE struct place start_place(const struct strip *strip, int columns,
                                __m512 sums[MATVEC_COLUMNS_MAX])
{
    UNROLL
    for (int c = 0; c < columns; c++)
        sums[c] = _mm512_setzero_ps();
    return (struct place){strip->rows, strip->row_bytes, fetch_start(strip), strip->x,
                          strip->x_stride};
}

/* The first two or four bytes of 16 rows, one behind the other. The empty statements keep compilers
 * from building vectors out of them. */
INLINE void copy_2(const unsigned char *p, size_t stride, void *out)
{
    UNROLL
    for (size_t row = 0; row < 16; row++) {
        uint16_t value;
        memcpy(&value, p + row * stride, sizeof(value));
        __asm__("" : "+r"(value));
        memcpy((unsigned char *)out + row * sizeof(value), &value, sizeof(value));
    }
}

INLINE void copy_4(const unsigned char *p, size_t stride, void *out)
{
    UNROLL
    for (size_t row = 0; row < 16; row++) {
        uint32_t value;
        memcpy(&value, p + row * stride, sizeof(value));
        __asm__("" : "+r"(value));
        memcpy((unsigned char *)out + row * sizeof(value), &value, sizeof(value));
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
        __m512i minima = _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < 4; i++)
            minima = _mm512_dpwssd_epi32(minima, pairs[i], broadcast_4(a->sum32 + 2 * i));
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(totals[c]));
        t = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(minima), t);
        sums[c] = _mm512_fmadd_ps(_mm512_set1_ps(a->d), t, sums[c]);
    }
}

/* totals += scale * sum of 16 products from element `at` of the superblock on; weights are unsigned
 * and 2^shift times too large. */
INLINE void add_16(__m512i totals[MATVEC_COLUMNS_MAX], const __m512i w[4],
                   const struct place *place, int at, int columns, __m512i scale, unsigned shift)
{
    UNROLL
    for (int c = 0; c < columns; c++) {
        const int8_t *a = column_256(place, c)->q + at;
        __m512i dot = _mm512_setzero_si512();
        UNROLL
        for (int i = 0; i < 4; i++)
            dot = _mm512_dpbusd_epi32(dot, w[i], broadcast_4(a + 4 * i));
        if (shift > 0)
            dot = _mm512_srai_epi32(dot, shift);
        totals[c] = _mm512_dpwssd_epi32(totals[c], dot, scale);
    }
}

INLINE void multiply_q4_k(const struct place *place, int columns, __m512 sums[MATVEC_COLUMNS_MAX])
{
    struct k_header header;
    __m512i totals[MATVEC_COLUMNS_MAX];
    fetch_rows(place->p + BLOCK_BYTES_Q4_K, place->stride, BLOCK_BYTES_Q4_K);
    load_k_header(place, &header);
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm512_setzero_si512();
    UNROLL
    for (int pair = 0; pair < 4; pair++) {
        __m512i packed[8];
        fetch_part(place->next, 16 * BLOCK_BYTES_Q4_K, pair, 4);
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
            add_16(totals, low, place, at, columns, low_scale, 0);
            add_16(totals, high, place, at + 32, columns, high_scale, 4);
        }
    }
    finish_k_header(&header, place, columns, totals, sums);
}

/* The one half that a superblock has, of 16 rows. */
INLINE __m512 load_halves(const unsigned char *p, size_t stride)
{
    _Alignas(32) uint16_t halves[16];
    copy_2(p, stride, halves);
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)halves));
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
    fetch_rows(place->p + BLOCK_BYTES_Q6_K, place->stride, BLOCK_BYTES_Q6_K);
    __m512 d = load_halves(place->p + BLOCK_BYTES_Q6_K - 2, place->stride);
    rows16_load_16(place->p + 192, place->stride, scales);
    UNROLL
    for (int c = 0; c < columns; c++)
        totals[c] = _mm512_setzero_si512();
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512i near[8], far[8], high[8];
        fetch_part(place->next, 16 * BLOCK_BYTES_Q6_K, 2 * half, 4);
        rows16_load_32(place->p + 64 * half, place->stride, near);
        rows16_load_32(place->p + 64 * half + 32, place->stride, far);
        fetch_part(place->next, 16 * BLOCK_BYTES_Q6_K, 2 * half + 1, 4);
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
    UNROLL
    for (int c = 0; c < columns; c++)
        sums[c] = _mm512_fmadd_ps(_mm512_set1_ps(column_256(place, c)->d),
                                  _mm512_mul_ps(d, _mm512_cvtepi32_ps(totals[c])), sums[c]);
}

#define K_STRIP(tag, block_bytes, columns)                                                         \
    static void tag##_##columns(const struct strip *strip)                                         \
    {                                                                                              \
        __m512 sums[MATVEC_COLUMNS_MAX];                                                           \
        struct place place = start_place(strip, columns, sums);                                    \
        for (size_t n = strip->blocks; n > 0; n--) {                                               \
            multiply_##tag(&place, columns, sums);                                                 \
            place.p += block_bytes;                                                                \
            place.next += (size_t)16 * block_bytes;                                                \
            place.x += sizeof(struct activation_q8_256);                                           \
        }                                                                                          \
        store_sums(strip, sums, columns);                                                          \
    }
#define FOR_COLUMNS(STRIP, ...)                                                                    \
    STRIP(__VA_ARGS__, 1)                                                                          \
    STRIP(__VA_ARGS__, 2)                                                                          \
    STRIP(__VA_ARGS__, 3)                                                                          \
    STRIP(__VA_ARGS__, 4)
FOR_COLUMNS(K_STRIP, q4_k, BLOCK_BYTES_Q4_K)
FOR_COLUMNS(K_STRIP, q6_k, BLOCK_BYTES_Q6_K)

/* ---- blocks of 32 ---- */

INLINE const struct activation_q8 *column_32(const struct place *place, int c)
{
    return (const void *)(place->x + (size_t)c * place->x_stride);
}

INLINE void multiply_q8_0(const struct place *place, const void *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i w[8];
    rows16_load_32(place->p + 2, place->stride, w);
    __m512 d = _mm512_cvtph_ps(_mm256_load_si256(header));
    UNROLL
    for (int i = 0; i < 8; i++)
        w[i] = _mm512_xor_si512(w[i], _mm512_set1_epi8(-128));
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8 *a = column_32(place, c);
        __m512i dot = _mm512_set1_epi32(a->sum_128);
        UNROLL
        for (int i = 0; i < 8; i++)
            dot = _mm512_dpbusd_epi32(dot, w[i], broadcast_4(a->q + 4 * i));
        sums[c] = _mm512_fmadd_ps(_mm512_set1_ps(a->d), _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot)),
                                  sums[c]);
    }
}

/* 32 products with nibbles, from `start` on. */
INLINE __m512i dot_nibbles(const __m512i low[4], const __m512i high[4],
                           const struct activation_q8 *a, __m512i start)
{
    __m512i dot = start, dot_16 = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) {
        dot = _mm512_dpbusd_epi32(dot, low[i], broadcast_4(a->q + 4 * i));
        dot_16 = _mm512_dpbusd_epi32(dot_16, high[i], broadcast_4(a->q + 16 + 4 * i));
    }
    return _mm512_add_epi32(dot, _mm512_srai_epi32(dot_16, 4));
}

/* Pairs of binary16, row after row, as two vectors of floats. */
INLINE void split_halves(const void *header, __m512 *d, __m512 *m)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const unsigned char *halves = header;
    __m512 a = _mm512_cvtph_ps(_mm256_load_si256((const void *)halves));
    __m512 b = _mm512_cvtph_ps(_mm256_load_si256((const void *)(halves + 32)));
    *d = _mm512_permutex2var_ps(a, even, b);
    *m = _mm512_permutex2var_ps(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}

INLINE void multiply_q4_1(const struct place *place, const void *header, int columns,
                          __m512 sums[MATVEC_COLUMNS_MAX])
{
    __m512i low[4], high[4];
    __m512 d, m;
    rows16_load_16(place->p + 4, place->stride, low);
    split_halves(header, &d, &m);
    UNROLL
    for (int i = 0; i < 4; i++) {
        high[i] = and_8(low[i], 0xf0);
        low[i] = and_8(low[i], 0x0f);
    }
    UNROLL
    for (int c = 0; c < columns; c++) {
        const struct activation_q8 *a = column_32(place, c);
        __m512i dot = dot_nibbles(low, high, a, _mm512_setzero_si512());
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(dot));
        t = _mm512_fmadd_ps(m, _mm512_set1_ps(a->sum), t);
        sums[c] = _mm512_fmadd_ps(_mm512_set1_ps(a->d), t, sums[c]);
    }
}

/* The headers of blocks are copied by scalar moves, which take no vector's place, into a ring of 16
 * blocks [block][row], eight blocks before they are read: so long does it take until the bytes of
 * several stores can be loaded as one vector. */
#define BLOCK_STRIP(tag, block_bytes, header_bytes, columns)                                       \
    static void tag##_##columns(const struct strip *strip)                                         \
    {                                                                                              \
        _Alignas(64) unsigned char headers[16][16 * (header_bytes)];                               \
        __m512 sums[MATVEC_COLUMNS_MAX];                                                           \
        struct place place = start_place(strip, columns, sums);                                    \
        for (size_t n = 0; n < 8 && n < strip->blocks; n++)                                        \
            copy_##header_bytes(place.p + n * (block_bytes), place.stride, headers[n]);            \
        for (size_t n = 0; n < strip->blocks; n++) {                                               \
            if (n + 8 < strip->blocks)                                                             \
                copy_##header_bytes(place.p + (size_t)8 * (block_bytes), place.stride,             \
                                    headers[(n + 8) % 16]);                                        \
            fetch_part(place.next, (size_t)16 * (block_bytes), 0, 1);                              \
            multiply_##tag(&place, headers[n % 16], columns, sums);                                \
            place.p += block_bytes;                                                                \
            place.next += (size_t)16 * (block_bytes);                                              \
            place.x += sizeof(struct activation_q8);                                               \
        }                                                                                          \
        store_sums(strip, sums, columns);                                                          \
    }
FOR_COLUMNS(BLOCK_STRIP, q8_0, BLOCK_BYTES_Q8_0, 2)
FOR_COLUMNS(BLOCK_STRIP, q4_1, BLOCK_BYTES_Q4_1, 4)

/* ---- tasks ---- */

struct matvec_type {
    size_t block_bytes, block_elements;
    enum activation_form form;
    void (*strip[MATVEC_COLUMNS_MAX])(const struct strip *strip);
};

#define MATVEC_TYPES(X)                                                                            \
    X(Q8_0, q8_0, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(Q4_1, q4_1, BLOCK_SIZE, ACTIVATION_Q8)                                                       \
    X(Q4_K, q4_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)                                              \
    X(Q6_K, q6_k, SUPERBLOCK_SIZE, ACTIVATION_Q8_256)

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
    if (type == NULL || task->columns > MATVEC_COLUMNS_MAX || task->row_end < 16)
        return false;
    assert(task->k > 0 && task->k % type->block_elements == 0);
    struct strip strip = {
        .row_bytes = task->row_bytes,
        .blocks = task->k / type->block_elements,
        .x = task->x,
        .x_stride = activation_row_bytes(type->form, task->k),
        .y_stride = task->y_stride,
    };
    for (size_t row = task->row_begin; row < task->row_end; row += 16) {
        size_t first = row + 16 <= task->row_end ? row : task->row_end - 16;
        strip.rows = (const unsigned char *)task->weights + first * task->row_bytes;
        strip.y = task->y + first;
        strip.wanted = (__mmask16)(0xffffu << (row - first));
        type->strip[task->columns - 1](&strip);
    }
    return true;
}
