/* A model that a command works with, and the engine around it. */
#ifndef CLI_LOAD_H
#define CLI_LOAD_H

#include <jansson.h>
#include <stdint.h>

#include "cli/command.h"
#include "cli/progress.h"
#include "hearth/hearth.h"

/* How the weights get into memory: part of the settings of each command that computes. */
struct load_settings {
    bool no_mmap, mlock;
};

/* The options that fill it, for a command's table; `at` is the offset of its struct. */
#define LOAD_OPTIONS(at)                                                                           \
    {"no-mmap",                                                                                    \
     '\0',                                                                                         \
     OPTION_FLAG,                                                                                  \
     NULL,                                                                                         \
     0,                                                                                            \
     0,                                                                                            \
     NULL,                                                                                         \
     (at) + offsetof(struct load_settings, no_mmap),                                               \
     "Engine",                                                                                     \
     NULL,                                                                                         \
     "Read the whole model into private memory first, instead of using the file in place: for a "  \
     "drive that may be unplugged."},                                                              \
    {                                                                                              \
        "mlock", '\0', OPTION_FLAG, NULL, 0, 0, NULL,                                              \
            (at) + offsetof(struct load_settings, mlock), "Engine", NULL,                          \
            "Keep the model in memory once it was read. Fails where the system does not allow "    \
            "that much "                                                                           \
            "(ulimit -l)."                                                                         \
    }

struct loaded {
    struct hearth_model *model;
    struct hearth_engine *engine; /* NULL until load_engine */
    struct hearth_model_info info;
    uint64_t load_ns; /* for the model and the engine */
    struct progress
        progress; /* of reading the weights, also while the first tokens wait for them */
};

/* Zeroed `loaded` first; it must stay where it is until load_finish. With a progress bar where it
 * takes long. Where `settings` is NULL only text and tokens are wanted, and no weights are read. */
int load_model(struct loaded *loaded, const char *path, const struct load_settings *settings,
               struct hearth_error *err);
/* The same from an open descriptor, which stays the caller's. */
int load_model_fd(struct loaded *loaded, int fd, const struct load_settings *settings,
                  struct hearth_error *err);
int load_engine(struct loaded *loaded, const struct hearth_engine_options *options,
                struct hearth_error *err);
void load_finish(struct loaded *loaded); /* what there is of it */

/* What this process takes in MiB: private_mib, mapped_mib, peak_mib, kv_mib. */
json_t *load_memory_json(const struct loaded *loaded);
/* The same as a line of talk. */
void load_say_memory(const struct loaded *loaded);

extern const char *const load_kv_types[]; /* names by enum hearth_kv_type, for option tables */

#endif
