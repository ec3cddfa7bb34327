/* Memory whose end is the end of readable memory: reading one byte further ends the process. */
#ifndef SUPPORT_GUARDED_H
#define SUPPORT_GUARDED_H

#include <stdbool.h>
#include <stddef.h>

struct guarded {
    unsigned char *data; /* `size` bytes, not aligned */
    void *mapping;
    size_t size, mapped;
};

bool guarded_alloc(struct guarded *out, size_t size); /* zeroed */
void guarded_free(struct guarded *guarded);

#endif
