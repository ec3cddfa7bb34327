#include "kernel/outliers.h"

#include <assert.h>

enum {
    COLUMNS_MAX = 4,
    ROWS_TOGETHER = 1024, /* of one column and its outliers */
    ROWS_IN_TURN = 64,
    ROWS_LEFT = 16, /* fewer would not fill a strip of rows: they go with those before */
};

struct outlier_marks outliers_of(const struct matmul *task, size_t column)
{
    size_t count = activation_marks(activation_form_of(task->type), task->k);
    if (task->marks == NULL)
        return (struct outlier_marks){NULL, 0};
    return (struct outlier_marks){task->marks + column * count, count};
}

bool outliers_any(struct outlier_marks column)
{
    unsigned all = 0;
    for (size_t i = 0; i < column.count; i++)
        all |= column.marks[i];
    return all != 0;
}

static void add_floats(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

/* All columns of some rows, which `part` stands for. */
static bool multiply_part(struct matmul part, float *sums,
                          bool (*multiply)(const struct matmul *task))
{
    struct matmul plain = part;
    size_t x_bytes = activation_row_bytes(activation_form_of(part.type), part.k);
    plain.marks = NULL;
    plain.y = sums;
    plain.y_stride = part.row_end;
    if (part.columns == 1) {
        plain.columns = 2;
        if (!multiply(&plain))
            return false;
        for (size_t r = 0; r < part.row_end; r++)
            part.y[r] = sums[r] + sums[part.row_end + r];
        return true;
    }
    plain.x = (const char *)part.x + part.columns * x_bytes;
    if (!multiply(&plain))
        return false;
    plain.x = part.x;
    plain.y = part.y;
    plain.y_stride = part.y_stride;
    if (!multiply(&plain))
        return false;
    for (size_t c = 0; c < part.columns; c++) {
        if (outliers_any(outliers_of(&part, c)))
            add_floats(part.y + c * part.y_stride, sums + c * part.row_end, part.row_end);
    }
    return true;
}

bool outliers_by_columns(const struct matmul *task, size_t columns_max,
                         bool (*multiply)(const struct matmul *task))
{
    float sums[2 * (ROWS_TOGETHER + ROWS_LEFT)];
    static_assert(COLUMNS_MAX * (ROWS_IN_TURN + ROWS_LEFT) <= sizeof sums / sizeof sums[0],
                  "both kinds of parts");
    assert(columns_max <= COLUMNS_MAX);
    if (task->columns > columns_max)
        return false;
    bool any = false;
    for (size_t c = 0; c < task->columns; c++)
        any = any || outliers_any(outliers_of(task, c));
    struct matmul part = *task;
    if (!any) {
        part.marks = NULL;
        return multiply(&part);
    }
    size_t most = task->columns == 1 ? ROWS_TOGETHER : ROWS_IN_TURN, rows;
    for (size_t row = task->row_begin; row < task->row_end; row += rows) {
        size_t left = task->row_end - row;
        rows = left < most + ROWS_LEFT ? left : most;
        part.weights = (const char *)task->weights + row * task->row_bytes;
        part.row_begin = 0;
        part.row_end = rows;
        part.y = task->y + row;
        if (!multiply_part(part, sums, multiply))
            return false;
    }
    return true;
}
