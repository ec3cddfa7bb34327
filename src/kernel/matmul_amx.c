/* Products with AMX (Intel's tile unit: AMX-TILE, AMX-INT8) beside AVX-512: many columns at once.
 *
 * tdpbsud multiplies a tile of 16 columns by 64 activation bytes with a tile of 64 weight bytes of
 * 16 rows, and adds to 16 x 16 sums of 32 bits, in 16 cycles: eight times what vpdpbusd does. The
 * weights' tile is what expand makes anyway: [element / 4][row][element % 4].
 *
 * Superblocks have integer scales, and a tile's sums run over all 256 elements: so scales are
 * multiplied into the weights when they are expanded, and the products, of 16 bits, become two
 * tiles, upper and lower bytes, whose sums are added with 256 times the upper ones. Everything
 * stays exact: S is the reference's (matmul_ref.c). Blocks of 32 fill half of a tile; theirs are
 * float scales, so that each block's sums leave the tile unit.
 *
 * The sums of one panel are taken from the tile unit by way of memory, while it computes those of
 * the next. */
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#include "kernel/blocks.h"
#include "kernel/matmul_panel.h"
#include "kernel/matvec.h"
#include "kernel/tiers.h"
#include "kernel/tiles_amx.h"

/* From so many columns on it was faster than AVX-512 (Emerald Rapids, Q4_K). */
enum { COLUMNS_MIN = 80 };

/* ---- tiles ---- */

enum { TILE_ROWS = 16, TILE_ELEMENTS = 64, TILES_SUMS = 4 };

/* Sums 0 and 1 are of the first 16 columns, with activations 4; 2 and 3 of the next 16, with 5;
 * weights are 6 and 7. The intrinsics want constants. */
static void begin_tiles(size_t columns)
{
    size_t first = columns < TILE_ROWS ? columns : TILE_ROWS;
    size_t second = columns <= TILE_ROWS ? first : columns - TILE_ROWS;
    second = second < TILE_ROWS ? second : TILE_ROWS;
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        bool of_second = i == 2 || i == 3 || i == 5;
        shapes.row_bytes[i] = 64;
        shapes.rows[i] = (uint8_t)(i >= 6 ? TILE_ELEMENTS / 4 : of_second ? second : first);
    }
    /* not the intrinsic: gcc 12 takes it for reading eight bytes */
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}

static void end_tiles(void)
{
    _tile_release(); /* so that switching threads saves none */
}

/* What comes out of the tile unit: [tile][column][row]. */
struct tile_sums {
    _Alignas(64) int32_t s[TILES_SUMS][TILE_ROWS][16];
};

/* ---- superblocks ---- */

struct k_shape {
    int sub_block; /* elements with one scale */
    int offset;    /* that weights are expanded with */
    bool minima;
    int min_group; /* elements with one minimum */
};

/* An int16 scale in the low half of each lane, as the bytes that vpmaddubsw multiplies the even, or
 * the odd, elements of its lane with. */
INLINE __m512i even_scales(__m512i scale)
{
    __m512i byte = _mm512_and_si512(scale, _mm512_set1_epi32(255));
    return _mm512_or_si512(byte, _mm512_slli_epi32(byte, 16));
}

/* The weights of a panel times their scales. A product fits 16 bits: q + offset is at most 255 and
 * a scale at most 63, or 63 and 128. */
INLINE void fold_scales(struct panel *panel, const struct k_shape shape)
{
    const __m512i low = _mm512_set1_epi16(255);
    int per_scale = shape.sub_block / 4;
    for (int b = 0; b < STEP_ELEMENTS / shape.sub_block; b++) {
        __m512i scale = _mm512_load_si512(panel->scale[b]);
        __m512i even = even_scales(scale), odd = _mm512_slli_epi16(even, 8);
        /* the lower half in both halves */
        __m512i twice = _mm512_mask_mov_epi16(scale, 0xaaaaaaaa, _mm512_slli_epi32(scale, 16));
        __m512i offset = _mm512_mullo_epi16(twice, _mm512_set1_epi16((short)shape.offset));
        UNROLL
        for (int i = 0; i < per_scale; i++) {
            __m512i q = _mm512_load_si512(panel->q[b * per_scale + i]);
            __m512i x = _mm512_maddubs_epi16(q, even), y = _mm512_maddubs_epi16(q, odd);
            if (shape.offset != 0) {
                x = _mm512_sub_epi16(x, offset);
                y = _mm512_sub_epi16(y, offset);
            }
            /* x & 255 | y << 8 and x >> 8 | y & 0xff00 */
            __m512i lower = _mm512_ternarylogic_epi32(low, x, _mm512_slli_epi16(y, 8), 0xca);
            __m512i upper = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(x, 8), y, 0xca);
            _mm512_store_si512(panel->q[b * per_scale + i], lower);
            _mm512_store_si512(panel->q_high[b * per_scale + i], upper);
        }
    }
}

/* What is multiplied at once: two times 16 columns with one panel, or one time 16 with two panels.
 */
struct portion {
    size_t panel[2], column[2]; /* the first column */
    size_t columns[2];          /* 0: there is no second half */
};

static struct portion portion_at(size_t index, size_t panels, size_t columns)
{
    if (columns > TILE_ROWS)
        return (struct portion){{index, index}, {0, TILE_ROWS}, {TILE_ROWS, columns - TILE_ROWS}};
    size_t second = 2 * index + 1;
    return (struct portion){{2 * index, second}, {0, 0}, {columns, second < panels ? columns : 0}};
}

/* Not the intrinsic: compilers load and broadcast first, and instructions are what there is least
 * of here. */
INLINE void add_pairs(__m512i *sum, __m512i a, const int16_t *pair)
{
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(a), "m"(*(const int32_t *)pair));
}

/* The float sums of a panel and of the columns `begin` to `end` of those from `first` on, whose
 * lower and upper bytes came out of tiles. */
INLINE void finish_columns(const struct sweep *task, size_t p, size_t first, size_t begin,
                           size_t end, const int32_t (*s)[TILE_ROWS][16],
                           const struct k_shape shape)
{
    const struct panel *panel = task->panels + p;
    __m512 d = _mm512_load_ps(panel->d[0]), m = _mm512_load_ps(panel->m[0]);
    __m512i min[8];
    int pairs = shape.minima ? STEP_ELEMENTS / shape.min_group / 2 : 0;
    UNROLL
    for (int i = 0; i < pairs; i++)
        min[i] = _mm512_load_si512(panel->min_pair[i]);
    const unsigned char *at = task->x + (first + begin) * task->x_stride;
    float *const *rows = task->rows + first;
    for (size_t c = begin; c < end; c++, at += task->x_stride) {
        const struct activation_q8_256 *x = (const void *)at;
        float *sums = rows[c] + PANEL_ROWS * p;
        __m512i all = _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(s[1][c]), 8),
                                       _mm512_load_si512(s[0][c]));
        __m512 t = _mm512_mul_ps(d, _mm512_cvtepi32_ps(all));
        if (shape.minima) {
            const int16_t *x_sums = shape.min_group == 32 ? x->sum32 : x->sum16;
            __m512i minima = _mm512_setzero_si512();
            UNROLL
            for (int i = 0; i < pairs; i++)
                add_pairs(&minima, min[i], x_sums + 2 * i);
            t = _mm512_fmadd_ps(m, _mm512_cvtepi32_ps(minima), t);
        }
        t = _mm512_fmadd_ps(_mm512_set1_ps(x->d), t, _mm512_load_ps(sums));
        _mm512_store_ps(sums, t);
    }
}

enum { K_STEPS = STEP_ELEMENTS / TILE_ELEMENTS };

/* One of K_STEPS parts of a portion's columns. */
INLINE void finish_part(const struct sweep *task, const struct portion *portion, size_t part,
                        const struct tile_sums *tiles, const struct k_shape shape)
{
    UNROLL
    for (int i = 0; i < 2; i++) {
        size_t n = portion->columns[i];
        finish_columns(task, portion->panel[i], portion->column[i], n * part / K_STEPS,
                       n * (part + 1) / K_STEPS, tiles->s + 2 * i, shape);
    }
}

/* The sums of portion i are in tiles[i % 2] from its end until the middle of portion i + 2. */
struct portions {
    const struct sweep *task;
    size_t panels, columns, count;
    struct tile_sums tiles[2];
};

/* Part `part` of portion `index`, if there is such a portion. */
INLINE void finish_portion(const struct portions *all, size_t index, size_t part,
                           const struct k_shape shape)
{
    if (index >= all->count) /* also where it would be before the first */
        return;
    struct portion portion = portion_at(index, all->panels, all->columns);
    finish_part(all->task, &portion, part, &all->tiles[index % 2], shape);
}

/* What is finished while part `part` of portion `index` is multiplied: so much later that the sums
 * have come from the tile unit to the cache, where else the vector units would wait, and the tile
 * unit for them. */
INLINE void finish_meanwhile(const struct portions *all, size_t index, size_t part,
                             const struct k_shape shape)
{
    const size_t half = K_STEPS / 2;
    if (part < half)
        finish_portion(all, index - 2, part + half, shape);
    else
        finish_portion(all, index - 1, part - half, shape);
}

INLINE void multiply_portion(struct portions *all, size_t index, bool wide,
                             const struct k_shape shape)
{
    const struct sweep *task = all->task;
    struct portion portion = portion_at(index, all->panels, all->columns);
    const unsigned char *x = task->x + offsetof(struct activation_q8_256, q);
    const unsigned char *x_second = x + TILE_ROWS * task->x_stride;
    const struct panel *first = task->panels + portion.panel[0];
    const struct panel *second = task->panels + portion.panel[1];
    int32_t(*out)[TILE_ROWS][16] = all->tiles[index % 2].s;
    bool two = portion.columns[1] > 0;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t part = 0; part < K_STEPS; part++) {
        size_t k = 64 * part;
        _tile_loadd(4, x + k, task->x_stride);
        _tile_loadd(6, first->q[k / 4], 64);
        _tile_loadd(7, first->q_high[k / 4], 64);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        if (wide) {
            _tile_loadd(5, x_second + k, task->x_stride);
            _tile_dpbsud(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        } else if (two) {
            _tile_loadd(6, second->q[k / 4], 64);
            _tile_loadd(7, second->q_high[k / 4], 64);
            _tile_dpbsud(2, 4, 6);
            _tile_dpbssd(3, 4, 7);
        }
        finish_meanwhile(all, index, part, shape);
    }
    _tile_stored(0, out[0], 64);
    _tile_stored(1, out[1], 64);
    if (two) {
        _tile_stored(2, out[2], 64);
        _tile_stored(3, out[3], 64);
    }
}

INLINE void sweep_superblocks(const struct sweep *task, size_t panels, size_t columns,
                              const struct k_shape shape)
{
    bool wide = columns > TILE_ROWS;
    struct portions all;
    all.task = task;
    all.panels = panels;
    all.columns = columns;
    all.count = wide ? panels : (panels + 1) / 2;
    for (size_t i = 0; i < all.count; i++)
        multiply_portion(&all, i, wide, shape);
    for (size_t part = 0; part < K_STEPS + K_STEPS / 2; part++)
        finish_meanwhile(&all, all.count + part / K_STEPS, part % K_STEPS, shape);
}

/* ---- one product per type ---- */

static const struct k_shape shape_q2_k = {16, 0, true, 16}, shape_q3_k = {16, 4, false, 0},
                            shape_q4_k = {32, 0, true, 32}, shape_q5_k = {32, 0, true, 32},
                            shape_q6_k = {16, 32, false, 0}, shape_iq4_xs = {32, 128, false, 0};

/* X(type, tag) */
#define TYPES(X)                                                                                   \
    X(Q2_K, q2_k)                                                                                  \
    X(Q3_K, q3_k)                                                                                  \
    X(Q4_K, q4_k)                                                                                  \
    X(Q5_K, q5_k)                                                                                  \
    X(Q6_K, q6_k)                                                                                  \
    X(IQ4_XS, iq4_xs)

#define DEFINE_MATMUL(type_name, tag)                                                              \
    static void expand_##tag(const unsigned char *rows, size_t stride, int blocks,                 \
                             struct panel *out)                                                    \
    {                                                                                              \
        matmul_expand_avx512(TYPE_##type_name, rows, stride, blocks, out);                         \
        fold_scales(out, shape_##tag);                                                             \
    }                                                                                              \
    static void sweep_##tag(const struct sweep *task, size_t panels, size_t columns)               \
    {                                                                                              \
        sweep_superblocks(task, panels, columns, shape_##tag);                                     \
    }                                                                                              \
    static void matmul_##tag##_amx(const struct matmul *task)                                      \
    {                                                                                              \
        static const struct wide_sweep wide = {begin_tiles, sweep_##tag, end_tiles};               \
        static const struct panel_type type = {.block_bytes = BLOCK_BYTES_##type_name,             \
                                               .form = ACTIVATION_Q8_256,                          \
                                               .expand = expand_##tag,                             \
                                               .panels = PANELS_MAX,                               \
                                               .wide = &wide};                                     \
        if (task->columns < COLUMNS_MIN)                                                           \
            matmul_avx512(task);                                                                   \
        else                                                                                       \
            matmul_panels(task, &type);                                                            \
    }
TYPES(DEFINE_MATMUL)
#undef DEFINE_MATMUL

void matmul_fill_amx(struct kernels *kernels)
{
#define FILL(type, tag) kernels->matmul[TYPE_##type] = matmul_##tag##_amx;
    TYPES(FILL)
#undef FILL
}
