/* Products whose activations come as two columns, the second one of outliers (matmul.h). Private to
 * this room. */
#ifndef KERNEL_OUTLIERS_H
#define KERNEL_OUTLIERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel/matmul.h"

/* The marks of one column. */
struct outlier_marks {
    const uint8_t *marks; /* NULL: none */
    size_t count;
};

struct outlier_marks outliers_of(const struct matmul *task, size_t column);

/* Whether a column has any. */
bool outliers_any(struct outlier_marks column);

/* The groups of step `step` (256 elements) that are outliers, a bit each. */
static inline unsigned outliers_in_step(struct outlier_marks column, bool super, size_t step)
{
    if (super)
        return column.marks[step];
    unsigned second = 2 * step + 1 < column.count ? column.marks[2 * step + 1] : 0;
    return column.marks[2 * step] | second << 4;
}

/* A product of at most `columns_max` columns by a kernel that knows of no outliers: true where it
 * could be computed so. The rows of outliers are multiplied in full. One column and its outliers go
 * together; several go one after the other, some rows at a time, which are in cache then. */
bool outliers_by_columns(const struct matmul *task, size_t columns_max,
                         bool (*multiply)(const struct matmul *task));

#endif
