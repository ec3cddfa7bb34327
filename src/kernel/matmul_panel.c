#include "kernel/matmul_panel.h"

#include <assert.h>
#include <string.h>

#include "kernel/blocks.h"

#if defined(__GNUC__)
#define PREFETCH_L2(address) __builtin_prefetch(address, 0, 2)
#else
#define PREFETCH_L2(address) ((void)(address))
#endif

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What stays the same while the rows of a task are walked. */
struct panel_walk {
    const struct panel_type *type;
    size_t row_bytes, x_stride, x_block_bytes;
    size_t blocks, step_blocks; /* in a row, in a step */
    const unsigned char *weights;
};

/* A panel of rows as it is being computed. */
struct panel_rows {
    size_t begin, count; /* count at most PANEL_STRIDE */
    size_t fetch_rows;   /* rows after this panel whose bytes are to be in the cache next */
};

/* The bytes of the next panel come from memory while this one is computed: each step asks for its
 * share. Rows follow each other without gaps, so this is one linear stream, where the steps
 * themselves read 16 streams, which is more than hardware prefetchers follow. */
static void fetch_ahead(const struct panel_walk *walk, const struct panel_rows *rows, size_t block)
{
    const unsigned char *next = walk->weights + (rows->begin + rows->count) * walk->row_bytes;
    size_t bytes = rows->fetch_rows * walk->row_bytes;
    size_t done = smaller(block + walk->step_blocks, walk->blocks);
    for (size_t at = bytes * block / walk->blocks; at < bytes * done / walk->blocks; at += 64)
        PREFETCH_L2(next + at);
}

/* Expands `count` (at most 16) rows. Fewer than 16 go through a copy, filled up with zeros, so that
 * kernels know whole panels only. */
static void expand_rows(const struct panel_walk *walk, size_t row, size_t count, size_t block,
                        struct panel *out)
{
    size_t blocks = smaller(walk->step_blocks, walk->blocks - block);
    const unsigned char *rows =
        walk->weights + row * walk->row_bytes + block * walk->type->block_bytes;
    if (count >= PANEL_ROWS) {
        walk->type->expand(rows, walk->row_bytes, (int)blocks, out);
        return;
    }
    unsigned char copy[PANEL_ROWS][STEP_BYTES_MAX] = {{0}};
    for (size_t r = 0; r < count; r++)
        memcpy(copy[r], rows + r * walk->row_bytes, blocks * walk->type->block_bytes);
    walk->type->expand(copy[0], STEP_BYTES_MAX, (int)blocks, out);
}

/* All columns against the panels that were expanded. */
static void sweep_columns(const struct panel_type *type, struct sweep sweep, size_t panels,
                          size_t columns)
{
    const struct panel *first = sweep.panels;
    float *sums = sweep.sums;
    for (size_t n; columns > 0; columns -= n) {
        n = smaller(columns, type->tile_columns);
        if (panels == PANELS && n == type->tile_columns && type->sweep_two != NULL) {
            sweep.panels = first;
            sweep.sums = sums;
            type->sweep_two(&sweep);
        } else {
            for (size_t p = 0; p < panels; p++) {
                sweep.panels = first + p;
                sweep.sums = sums + p * PANEL_ROWS;
                type->sweep_one[n - 1](&sweep);
            }
        }
        sweep.x += n * sweep.x_stride;
        sums += n * PANEL_STRIDE;
    }
}

/* One panel of rows times up to PANEL_COLUMNS_MAX columns. */
static void multiply_rows(const struct panel_walk *walk, const struct panel_rows *rows,
                          const unsigned char *x, size_t columns, float *y, size_t y_stride)
{
    _Alignas(64) float sums[PANEL_COLUMNS_MAX * PANEL_STRIDE];
    struct panel panels[PANELS];
    size_t panel_count = (rows->count + PANEL_ROWS - 1) / PANEL_ROWS;
    memset(sums, 0, columns * PANEL_STRIDE * sizeof(float));

    for (size_t block = 0; block < walk->blocks; block += walk->step_blocks) {
        fetch_ahead(walk, rows, block);
        for (size_t p = 0; p < panel_count; p++)
            expand_rows(walk, rows->begin + p * PANEL_ROWS, rows->count - p * PANEL_ROWS, block,
                        &panels[p]);
        struct sweep sweep = {
            .panels = panels,
            .x = x + block * walk->x_block_bytes,
            .x_stride = walk->x_stride,
            .blocks = (int)smaller(walk->step_blocks, walk->blocks - block),
            .sums = sums,
        };
        sweep_columns(walk->type, sweep, panel_count, columns);
    }
    for (size_t c = 0; c < columns; c++)
        memcpy(y + c * y_stride + rows->begin, sums + c * PANEL_STRIDE,
               rows->count * sizeof(float));
}

/* Columns whose activations stay in the L2 cache while all rows pass by: then memory brings the
 * weights once for so many columns, and the activations once. A multiple of every tile. */
static size_t columns_at_once(size_t x_stride)
{
    size_t columns = PANEL_X_BYTES / x_stride / TILE_COLUMNS_MAX * TILE_COLUMNS_MAX;
    columns = columns < PANEL_COLUMNS_MIN ? PANEL_COLUMNS_MIN : columns;
    return smaller(columns, PANEL_COLUMNS_MAX);
}

void matmul_panels(const struct matmul *task, const struct panel_type *type)
{
    bool super = type->form == ACTIVATION_Q8_256;
    size_t block_elements = super ? SUPERBLOCK_SIZE : BLOCK_SIZE;
    assert(task->k > 0 && task->k % block_elements == 0);
    struct panel_walk walk = {
        .type = type,
        .row_bytes = task->row_bytes,
        .x_stride = activation_row_bytes(type->form, task->k),
        .x_block_bytes = super ? sizeof(struct activation_q8_256) : sizeof(struct activation_q8),
        .blocks = task->k / block_elements,
        .step_blocks = STEP_ELEMENTS / block_elements,
        .weights = task->weights,
    };
    /* With few columns a second panel would only stand between the first and its use. */
    size_t panel_rows = task->columns < type->tile_columns ? PANEL_ROWS : PANEL_STRIDE;
    size_t columns;
    for (size_t c = 0; c < task->columns; c += columns) {
        columns = smaller(columns_at_once(walk.x_stride), task->columns - c);
        for (size_t row = task->row_begin; row < task->row_end; row += panel_rows) {
            struct panel_rows rows = {row, smaller(panel_rows, task->row_end - row), 0};
            rows.fetch_rows = smaller(panel_rows, task->row_end - row - rows.count);
            multiply_rows(&walk, &rows, (const unsigned char *)task->x + c * walk.x_stride, columns,
                          task->y + c * task->y_stride, task->y_stride);
        }
    }
}

/* All rows times some columns. */
static void multiply_float_columns(const struct matmul *task, const struct float_type *type,
                                   struct float_tile tile, size_t begin, size_t end)
{
    size_t rows, columns;
    for (size_t row = task->row_begin; row < task->row_end; row += rows) {
        bool whole = task->row_end - row >= type->tile_rows;
        rows = whole ? type->tile_rows : 1;
        tile.rows = (const unsigned char *)task->weights + row * task->row_bytes;
        for (size_t c = begin; c < end; c += columns) {
            columns = smaller(type->tile_columns, end - c);
            tile.x = (const unsigned char *)task->x + c * tile.x_stride;
            tile.y = task->y + c * task->y_stride + row;
            (whole ? type->rows : type->one_row)[columns - 1](&tile);
        }
    }
}

void matmul_float_rows(const struct matmul *task, const struct float_type *type)
{
    struct float_tile tile = {
        .row_bytes = task->row_bytes,
        .k = task->k,
        .x_stride = activation_row_bytes(ACTIVATION_F32, task->k),
        .y_stride = task->y_stride,
    };
    size_t columns;
    for (size_t c = 0; c < task->columns; c += columns) {
        columns = smaller(columns_at_once(tile.x_stride), task->columns - c);
        multiply_float_columns(task, type, tile, c, c + columns);
    }
}
