/* A model that a command works with, and the engine around it. */
#ifndef CLI_LOAD_H
#define CLI_LOAD_H

#include <jansson.h>
#include <stdint.h>

#include "hearth/hearth.h"

struct loaded {
    struct hearth_model *model;
    struct hearth_engine *engine; /* NULL until load_engine */
    struct hearth_model_info info;
    uint64_t load_ns; /* for the model and the engine */
};

/* Zeroed `loaded` first. With a progress bar where it takes long. */
int load_model(struct loaded *loaded, const char *path, struct hearth_error *err);
/* The same from an open descriptor, which stays the caller's. */
int load_model_fd(struct loaded *loaded, int fd, struct hearth_error *err);
int load_engine(struct loaded *loaded, const struct hearth_engine_options *options,
                struct hearth_error *err);
void load_finish(struct loaded *loaded); /* what there is of it */

/* What this process takes in MiB: private_mib, mapped_mib, peak_mib, kv_mib. */
json_t *load_memory_json(const struct loaded *loaded);
/* The same as a line of talk. */
void load_say_memory(const struct loaded *loaded);

extern const char *const load_kv_types[]; /* names by enum hearth_kv_type, for option tables */

#endif
