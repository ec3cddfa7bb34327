#include "kernel/matmul_panel.h"

#include <assert.h>
#include <string.h>

#include "kernel/blocks.h"
#include "kernel/outliers.h"

#if defined(__GNUC__)
#define PREFETCH_L2(address) __builtin_prefetch(address, 0, 2)
#else
#define PREFETCH_L2(address) ((void)(address))
#endif

/* Rows are walked in bands: a step's activations meet several panels before those of the next step
 * are looked at. Where all activations are more than stays in the L2 cache they would otherwise
 * come from behind it again for each panel, as fast as they are multiplied with. The price is a
 * band's sums, 64 KiB a panel. */
enum {
    BAND_STEPS_MAX = 4,
    BAND_STEPS_OUTLIERS = 2, /* their sums take as much again */
    BAND_X_BYTES = 512 * 1024,
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What stays the same while the rows of a task are walked. */
struct panel_walk {
    const struct panel_type *type;
    const unsigned char *weights, *x;
    size_t row_bytes, x_stride, x_block_bytes;
    size_t blocks, step_blocks; /* in a row, in a step */
    size_t row_end, columns;
    size_t band_rows;
    const uint8_t *marks; /* of the first column; NULL: none */
    size_t marks_per_column;
    size_t outliers_at;        /* bytes from x to the outliers of the first column */
    struct gathered *gathered; /* for wide sweeps */
};

/* One step of some rows. */
struct panel_step {
    size_t band;       /* the first row of the band that is walked */
    size_t row, count; /* count at most PANEL_STRIDE */
    size_t block;
};

static size_t step_blocks_of(const struct panel_walk *walk, size_t block)
{
    return smaller(walk->step_blocks, walk->blocks - block);
}

/* The rows of a step that begins at `row`. */
static size_t rows_from(const struct panel_walk *walk, size_t row)
{
    return smaller(walk->type->panels * PANEL_ROWS, walk->row_end - row);
}

/* Down the rows of a band, then along its blocks, then to the next band. */
static bool next_step(const struct panel_walk *walk, struct panel_step *step)
{
    size_t band_end = step->band + smaller(walk->band_rows, walk->row_end - step->band);
    step->row += step->count;
    if (step->row == band_end) {
        step->row = step->band;
        step->block += walk->step_blocks;
    }
    if (step->block >= walk->blocks) {
        step->row = step->band = band_end;
        step->block = 0;
    }
    if (step->row == walk->row_end)
        return false;
    step->count = rows_from(walk, step->row);
    return true;
}

/* What the next step reads comes from memory while this one is computed: with every tile a few rows
 * of the weights are asked for, and the tile's own columns of the activations. A step reads up to
 * 64 streams of weights and 256 of activations, which is more than hardware prefetchers follow. */
struct fetch {
    const unsigned char *row;
    size_t row_bytes, bytes; /* from row to row, of each row */
    size_t rows, rows_per_tile;
    size_t x_ahead; /* from a column's activations to those of the next step; 0: the same */
    size_t x_bytes;
};

/* Of superblocks the sums behind q that sweeps use are few. */
static size_t fetched_x_bytes(const struct panel_walk *walk, size_t blocks)
{
    if (walk->type->form != ACTIVATION_Q8_256)
        return blocks * walk->x_block_bytes;
    size_t q = offsetof(struct activation_q8_256, q), end = q + SUPERBLOCK_SIZE;
    return walk->type->wide != NULL ? end : offsetof(struct activation_q8_256, sum16_16);
}

static struct fetch fetch_for(const struct panel_walk *walk, const struct panel_step *step)
{
    struct panel_step next = *step;
    if (!next_step(walk, &next))
        return (struct fetch){0};
    size_t tile_columns = walk->type->wide ? WIDE_COLUMNS_MAX : walk->type->tile_columns;
    size_t tiles = (walk->columns + tile_columns - 1) / tile_columns;
    size_t block_bytes = walk->type->block_bytes, blocks = step_blocks_of(walk, next.block);
    bool further = next.block > step->block;
    return (struct fetch){
        .row = walk->weights + next.row * walk->row_bytes + next.block * block_bytes,
        .row_bytes = walk->row_bytes,
        .bytes = blocks * block_bytes,
        .rows = next.count,
        .rows_per_tile = (next.count + tiles - 1) / tiles,
        .x_ahead = further ? walk->step_blocks * walk->x_block_bytes : 0,
        .x_bytes = fetched_x_bytes(walk, blocks),
    };
}

static void fetch_bytes(const unsigned char *bytes, size_t count)
{
    for (size_t at = 0; at < count; at += 64)
        PREFETCH_L2(bytes + at);
    PREFETCH_L2(bytes + count - 1);
}

/* With a tile of `columns` columns from x on. */
static void fetch_some(struct fetch *fetch, const unsigned char *x, size_t x_stride, size_t columns)
{
    size_t rows = smaller(fetch->rows, fetch->rows_per_tile);
    for (size_t r = 0; r < rows; r++, fetch->row += fetch->row_bytes)
        fetch_bytes(fetch->row, fetch->bytes);
    fetch->rows -= rows;
    for (size_t c = 0; fetch->x_ahead > 0 && c < columns; c++)
        fetch_bytes(x + c * x_stride + fetch->x_ahead, fetch->x_bytes);
}

/* Expands `count` (at most 16) rows. Fewer than 16 go through a copy, filled up with zeros, so that
 * kernels know whole panels only. */
static void expand_rows(const struct panel_walk *walk, size_t row, size_t count, size_t block,
                        struct panel *out)
{
    size_t blocks = step_blocks_of(walk, block);
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

/* A tile of columns against the panels that were expanded. */
static void sweep_tile(const struct panel_type *type, struct sweep sweep, size_t panels,
                       size_t columns)
{
    if (panels == type->panels && type->sweep_all[columns - 1] != NULL) {
        type->sweep_all[columns - 1](&sweep);
        return;
    }
    for (size_t p = 0; p < panels; p++, sweep.panels++, sweep.sums += PANEL_ROWS)
        type->sweep_one[columns - 1](&sweep);
}

/* How many of `left` columns the next tile takes: where the last one would be narrow, two are made
 * of equal width. */
static size_t tile_width(size_t left, size_t widest)
{
    return left > widest && left < 2 * widest ? (left + 1) / 2 : smaller(left, widest);
}

/* Adds the outliers of a step, in tiles of neighbouring columns that have some. Whether theirs are
 * in the same groups does not matter: all others are zero. */
static void sweep_outliers(const struct panel_walk *walk, const struct panel_step *step,
                           struct sweep sweep, size_t panels, bool any[])
{
    const struct panel_type *type = walk->type;
    struct outlier_marks marks = {walk->marks, walk->marks_per_column};
    bool super = type->form == ACTIVATION_Q8_256;
    size_t number = step->block / walk->step_blocks, count = 0, widest = type->tile_columns;
    const unsigned char *x = sweep.x;
    float *sums = sweep.sums;
    sweep.groups = 0;
    for (size_t c = 0; c <= walk->columns; c++, marks.marks += marks.count) {
        unsigned groups = c < walk->columns ? outliers_in_step(marks, super, number) : 0;
        if (count > 0 && (groups == 0 || count == widest)) {
            sweep.x = x + (c - count) * walk->x_stride;
            sweep.sums = sums + (c - count) * PANEL_STRIDE;
            sweep_tile(type, sweep, panels, count);
            sweep.groups = 0;
            count = 0;
        }
        if (groups != 0) {
            if (!any[c])
                memset(sums + c * PANEL_STRIDE, 0, PANEL_STRIDE * sizeof(float));
            sweep.groups |= groups;
            any[c] = true;
            count++;
        }
    }
}

/* ---- wide sweeps ---- */

enum { STEP_X_BYTES_MAX = 640 }; /* >= one activation_q8_256, or 8 activation_q8 */
static_assert(sizeof(struct activation_q8_256) <= STEP_X_BYTES_MAX, "a step of a column");
static_assert(STEP_ELEMENTS / BLOCK_SIZE * sizeof(struct activation_q8) <= STEP_X_BYTES_MAX,
              "a step of a column");

/* Columns that do not lie side by side, or are fewer than a wide sweep reads: side by side. */
struct gathered {
    _Alignas(64) unsigned char x[WIDE_COLUMNS_MAX][STEP_X_BYTES_MAX];
    float *rows[WIDE_COLUMNS_MAX]; /* of sums */
    size_t count;
};

static void gather(struct gathered *gathered, const unsigned char *x, size_t bytes, float *sums)
{
    gathered->rows[gathered->count] = sums;
    memcpy(gathered->x[gathered->count++], x, bytes);
}

static void sweep_gathered(const struct panel_walk *walk, struct gathered *gathered,
                           struct sweep sweep, size_t panels)
{
    sweep.x = gathered->x[0];
    sweep.x_stride = STEP_X_BYTES_MAX;
    sweep.rows = gathered->rows;
    walk->type->wide->sweep(&sweep, panels, gathered->count);
    gathered->count = 0;
}

/* How many columns each wide sweep of the walk reads. */
static size_t wide_columns(const struct panel_walk *walk)
{
    return smaller(walk->columns, WIDE_COLUMNS_MAX);
}

static size_t step_x_bytes(const struct panel_walk *walk, size_t block)
{
    return step_blocks_of(walk, block) * walk->x_block_bytes;
}

static void sweep_wide_outliers(const struct panel_walk *walk, const struct panel_step *step,
                                struct sweep sweep, size_t panels, bool any[])
{
    struct outlier_marks marks = {walk->marks, walk->marks_per_column};
    bool super = walk->type->form == ACTIVATION_Q8_256;
    size_t number = step->block / walk->step_blocks, bytes = step_x_bytes(walk, step->block);
    struct gathered *gathered = walk->gathered;
    sweep.groups = 0;
    for (size_t c = 0; c < walk->columns; c++, marks.marks += marks.count) {
        unsigned groups = outliers_in_step(marks, super, number);
        if (groups == 0)
            continue;
        float *sums = sweep.sums + c * PANEL_STRIDE;
        if (!any[c])
            memset(sums, 0, PANEL_STRIDE * sizeof(float));
        any[c] = true;
        sweep.groups |= groups;
        gather(gathered, sweep.x + c * walk->x_stride, bytes, sums);
        if (gathered->count == wide_columns(walk)) {
            sweep_gathered(walk, gathered, sweep, panels);
            sweep.groups = 0;
        }
    }
    if (gathered->count > 0)
        sweep_gathered(walk, gathered, sweep, panels);
}

static void sweep_wide(const struct panel_walk *walk, const struct panel_step *step,
                       struct sweep sweep, size_t panels, struct fetch *fetch)
{
    size_t widest = wide_columns(walk), bytes = step_x_bytes(walk, step->block);
    float *rows[PANEL_COLUMNS_MAX];
    for (size_t c = 0; c < walk->columns; c++)
        rows[c] = sweep.sums + c * PANEL_STRIDE;
    for (size_t c = 0; c < walk->columns; c += widest) {
        size_t n = smaller(walk->columns - c, widest);
        const unsigned char *x = sweep.x + c * walk->x_stride;
        fetch_some(fetch, x, walk->x_stride, n);
        if (n < widest) {
            for (size_t i = 0; i < n; i++)
                gather(walk->gathered, x + i * walk->x_stride, bytes, rows[c + i]);
            sweep_gathered(walk, walk->gathered, sweep, panels);
            continue;
        }
        struct sweep tile = sweep;
        tile.x = x;
        tile.rows = rows + c;
        walk->type->wide->sweep(&tile, panels, n);
    }
}

/* ---- steps ---- */

/* The sums of the rows of a step. */
struct panel_sums {
    float *sums, *outliers; /* [column][PANEL_STRIDE] */
    bool *any;              /* [column]: whether its outliers have sums already */
};

static uint32_t groups_of(const struct panel_walk *walk, size_t block)
{
    size_t blocks = step_blocks_of(walk, block);
    return walk->type->form == ACTIVATION_Q8_256 ? 0xff : (1u << blocks) - 1;
}

static void compute_step(const struct panel_walk *walk, const struct panel_step *step,
                         struct panel *panels, const struct panel_sums *sums)
{
    size_t panel_count = (step->count + PANEL_ROWS - 1) / PANEL_ROWS;
    for (size_t p = 0; p < panel_count; p++)
        expand_rows(walk, step->row + p * PANEL_ROWS, step->count - p * PANEL_ROWS, step->block,
                    &panels[p]);
    struct fetch fetch = fetch_for(walk, step);
    struct sweep sweep = {
        .panels = panels,
        .x = walk->x + step->block * walk->x_block_bytes,
        .x_stride = walk->x_stride,
        .groups = groups_of(walk, step->block),
        .sums = sums->sums,
    };
    if (walk->marks != NULL) {
        struct sweep outliers = sweep;
        outliers.x += walk->outliers_at;
        outliers.sums = sums->outliers;
        (walk->type->wide != NULL ? sweep_wide_outliers : sweep_outliers)(walk, step, outliers,
                                                                          panel_count, sums->any);
    }
    if (walk->type->wide != NULL) {
        sweep_wide(walk, step, sweep, panel_count, &fetch);
        return;
    }
    for (size_t left = walk->columns, n; left > 0; left -= n) {
        n = tile_width(left, walk->type->tile_columns);
        fetch_some(&fetch, sweep.x, walk->x_stride, n);
        sweep_tile(walk->type, sweep, panel_count, n);
        sweep.x += n * walk->x_stride;
        sweep.sums += n * PANEL_STRIDE;
    }
}

static void clear_sums(const struct panel_walk *walk, const struct panel_sums *sums)
{
    memset(sums->sums, 0, walk->columns * PANEL_STRIDE * sizeof(float));
    memset(sums->any, 0, walk->columns * sizeof(bool));
}

static void store_sums(const struct panel_walk *walk, const struct panel_step *step,
                       const struct panel_sums *sums, float *y, size_t y_stride)
{
    for (size_t c = 0; c < walk->columns; c++) {
        const float *from = sums->sums + c * PANEL_STRIDE;
        float *to = y + c * y_stride;
        if (!sums->any[c]) {
            memcpy(to, from, step->count * sizeof(float));
            continue;
        }
        const float *outliers = sums->outliers + c * PANEL_STRIDE;
        for (size_t r = 0; r < step->count; r++)
            to[r] = from[r] + outliers[r];
    }
}

/* All rows times up to PANEL_COLUMNS_MAX columns. */
static void walk_rows(const struct panel_walk *walk, size_t row_begin, float *y, size_t y_stride)
{
    _Alignas(64) float sums[BAND_STEPS_MAX][PANEL_COLUMNS_MAX * PANEL_STRIDE];
    bool any[BAND_STEPS_MAX][PANEL_COLUMNS_MAX];
    struct panel panels[PANELS_MAX];
    struct panel_step step = {row_begin, row_begin, rows_from(walk, row_begin), 0};
    do {
        size_t part = (step.row - step.band) / (walk->type->panels * PANEL_ROWS);
        float *outliers = walk->marks != NULL ? sums[BAND_STEPS_OUTLIERS + part] : NULL;
        struct panel_sums part_sums = {sums[part], outliers, any[part]};
        if (step.block == 0)
            clear_sums(walk, &part_sums);
        compute_step(walk, &step, panels, &part_sums);
        if (step.block + walk->step_blocks >= walk->blocks)
            store_sums(walk, &step, &part_sums, y + step.row, y_stride);
    } while (next_step(walk, &step));
}

static void multiply_columns(struct panel_walk *walk, size_t row_begin, float *y, size_t y_stride)
{
    if (walk->type->wide == NULL) {
        walk_rows(walk, row_begin, y, y_stride);
        return;
    }
    struct gathered gathered;
    memset(&gathered, 0, sizeof gathered); /* sweeps read it whole */
    walk->gathered = &gathered;
    walk->type->wide->begin(walk->columns);
    walk_rows(walk, row_begin, y, y_stride);
    walk->type->wide->end();
}

static size_t band_rows_of(const struct panel_walk *walk)
{
    size_t most = walk->marks != NULL ? BAND_STEPS_OUTLIERS : BAND_STEPS_MAX;
    size_t steps = walk->columns * walk->x_stride > BAND_X_BYTES ? most : 1;
    return steps * walk->type->panels * PANEL_ROWS;
}

void matmul_panels(const struct matmul *task, const struct panel_type *type)
{
    bool super = type->form == ACTIVATION_Q8_256;
    size_t block_elements = super ? SUPERBLOCK_SIZE : BLOCK_SIZE;
    assert(task->k > 0 && task->k % block_elements == 0);
    struct panel_walk walk = {
        .type = type,
        .weights = task->weights,
        .row_bytes = task->row_bytes,
        .x_stride = activation_row_bytes(type->form, task->k),
        .x_block_bytes = super ? sizeof(struct activation_q8_256) : sizeof(struct activation_q8),
        .blocks = task->k / block_elements,
        .step_blocks = STEP_ELEMENTS / block_elements,
        .row_end = task->row_end,
        .marks_per_column = activation_marks(type->form, task->k),
        .outliers_at = task->columns * activation_row_bytes(type->form, task->k),
    };
    for (size_t c = 0; c < task->columns; c += walk.columns) {
        walk.x = (const unsigned char *)task->x + c * walk.x_stride;
        walk.marks = task->marks != NULL ? task->marks + c * walk.marks_per_column : NULL;
        walk.columns = smaller(PANEL_COLUMNS_MAX, task->columns - c);
        walk.band_rows = band_rows_of(&walk);
        multiply_columns(&walk, task->row_begin, task->y + c * task->y_stride, task->y_stride);
    }
}

enum {
    FLOAT_X_BYTES = 768 * 1024, /* of activations: what may stay in an L2 cache */
    FLOAT_COLUMNS_MIN = 32,
    FLOAT_COLUMNS_MAX = 256,
};

/* Columns whose activations stay in the L2 cache while all rows pass by: then memory brings the
 * weights once for so many columns, and the activations once. A multiple of every tile. */
static size_t columns_at_once(size_t x_stride)
{
    size_t columns = FLOAT_X_BYTES / x_stride / TILE_COLUMNS_MAX * TILE_COLUMNS_MAX;
    columns = columns < FLOAT_COLUMNS_MIN ? FLOAT_COLUMNS_MIN : columns;
    return smaller(columns, FLOAT_COLUMNS_MAX);
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
