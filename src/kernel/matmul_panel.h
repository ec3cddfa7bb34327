/* The loops that the vector tiers share: over panels of rows, steps of 256 elements and tiles of
 * columns. A tier brings two kinds of functions per type:
 *
 *   expand  takes 16 rows of one step apart, into bytes and scales that lie as the products want
 *           them: lane = row. It is done once for all columns, into scratch that stays in the L1
 *           cache, and is the only thing that knows the layout of a type.
 *   sweep   multiplies one or two expanded panels with a tile of columns; a few of them serve all
 *           types.
 *
 * Plain C, compiled without flags; private to matmul_*.c. */
#ifndef KERNEL_MATMUL_PANEL_H
#define KERNEL_MATMUL_PANEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/activation.h"
#include "kernel/matmul.h"

enum {
    PANEL_ROWS = 16,
    PANELS_MAX = 4,                         /* expanded side by side: together they fill L1 */
    PANEL_STRIDE = PANEL_ROWS * PANELS_MAX, /* floats from one column of sums to the next */
    PANEL_COLUMNS_MAX = 256,                /* columns for which an expanded step is used */
    STEP_ELEMENTS = 256,
    STEP_BYTES_MAX = 288, /* >= STEP_ELEMENTS / 32 blocks of Q8_0 */
    TILE_COLUMNS_MAX = 4,
    WIDE_COLUMNS_MAX = 32, /* of a tile of `wide` sweeps */
    FLOAT_ROWS_MAX = 4,
};

/* 256 elements of 16 rows: 8 blocks of 32, or one superblock. Which of the fields are used, and how
 * scales lie in their 16-bit pairs, is between a type's expand and its sweep. */
struct panel {
    _Alignas(64) uint8_t q[64][64]; /* [element / 4][row][element % 4] */
    float d[8][16], m[8][16];       /* [block][row]; [0] in superblocks */
    int16_t scale[16][32];          /* [sub-block][row][2] */
    int16_t scale_pair[8][32];      /* [sub-block / 2][row][sub-block % 2] */
    int16_t min_pair[8][32];
    int8_t q_high[64]
                 [64]; /* where q holds the lower bytes of weights times scales: the upper ones */
};

/* What one call of sweep computes: sums[c][r] += products of w and x over one step. Groups without
 * their bit do not exist, in blocks of 32, or are zero, in superblocks. */
struct sweep {
    const struct panel *panels;
    const unsigned char *x; /* the first column's activation blocks of this step */
    size_t x_stride;        /* bytes from one column to the next */
    uint32_t groups;        /* a bit for each 32 elements that are multiplied; at least one */
    float *sums;            /* [column][PANEL_STRIDE] */
    float *const *rows;     /* for wide sweeps: in the place of sums, those of each column */
};

/* Sweeps of tiles of up to WIDE_COLUMNS_MAX columns, all panels one after the other. They read as
 * many columns as the tiles of a product's first columns have (or would have, were there 32), what
 * lies there need mean nothing, and leave sums alone but those of `columns`. */
struct wide_sweep {
    void (*begin)(size_t columns); /* of the whole product, on this thread */
    void (*sweep)(const struct sweep *task, size_t panels, size_t columns);
    void (*end)(void);
};

struct panel_type {
    size_t block_bytes;
    enum activation_form form;
    /* 16 rows, `row_bytes` apart, of `blocks` blocks each. Reads nothing outside of them. */
    void (*expand)(const unsigned char *rows, size_t row_bytes, int blocks, struct panel *out);
    size_t panels;       /* expanded together, at most PANELS_MAX */
    size_t tile_columns; /* at most TILE_COLUMNS_MAX */
    /* Index + 1 columns, with one panel and with all; the latter may be missing. */
    void (*sweep_one[TILE_COLUMNS_MAX])(const struct sweep *task);
    void (*sweep_all[TILE_COLUMNS_MAX])(const struct sweep *task);
    const struct wide_sweep *wide; /* in the place of both; NULL: none */
};

/* What AVX-512 does with a weight type (matmul_avx512.c), for the tier above it. */
void matmul_avx512(const struct matmul *task);
void matmul_expand_avx512(uint32_t type, const unsigned char *rows, size_t row_bytes, int blocks,
                          struct panel *out);

void matmul_panels(const struct matmul *task, const struct panel_type *type);

/* Rows of floats: lanes are elements. */
struct float_tile {
    const unsigned char *rows;
    size_t row_bytes;
    size_t k;
    const unsigned char *x;
    size_t x_stride;
    float *y; /* y[c * y_stride + r] */
    size_t y_stride;
};

struct float_type {
    size_t tile_rows, tile_columns;
    void (*one_row[TILE_COLUMNS_MAX])(const struct float_tile *tile); /* index + 1 columns */
    void (*rows[TILE_COLUMNS_MAX])(const struct float_tile *tile);    /* tile_rows rows */
};

void matmul_float_rows(const struct matmul *task, const struct float_type *type);

/* For the tiers' files: a loop whose counter must become constants (arrays of registers), and a
 * function whose arguments must. gcc warns, without a switch, where a sanitizer keeps it from
 * unrolling. */
#if defined(KERNEL_SANITIZED)
#define UNROLL
#elif defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline))

#endif
