/* What a model is, as WORK_READY says it. */
#ifndef WORKER_DESCRIBE_H
#define WORKER_DESCRIBE_H

#include <jansson.h>

#include "hearth/hearth.h"

struct description {
    const struct hearth_engine_options *options; /* that the estimate is for */
    const char *chat_template;                   /* in the place of the file's own, or NULL */
    const struct hearth_engine *engine;          /* NULL: of a probe */
    uint64_t load_ns;
};

/* NULL with the cause. */
json_t *describe_model(const struct hearth_model *model, const struct description *description,
                       struct hearth_error *err);
/* Of a file that holds a model which cannot be run: what can be said, and why (`unsupported`). */
json_t *describe_unsupported(const int *fds, size_t count, const char *why,
                             struct hearth_error *err);

#endif
