/* A model that a command works with, and the engine around it. */
#ifndef CLI_LOAD_H
#define CLI_LOAD_H

#include <jansson.h>
#include <stdint.h>

#include "cli/command.h"
#include "cli/progress.h"
#include "hearth/hearth.h"

/* How the weights get into memory, and how much of it there is: part of the settings of each
 * command that computes. */
struct load_settings {
    bool no_mmap, mlock;
    uint64_t memory; /* 0: the engine's default */
    int fit;         /* the index of its choice: an enum hearth_fit */
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
        {"memory",                                                                                 \
         '\0',                                                                                     \
         OPTION_SIZE,                                                                              \
         "SIZE",                                                                                   \
         1,                                                                                        \
         1e18,                                                                                     \
         NULL,                                                                                     \
         (at) + offsetof(struct load_settings, memory),                                            \
         "Engine",                                                                                 \
         "half of what the machine, or its control group, has",                                    \
         "What weights and private memory may take together, as 500M or 2.6G (K, M, G: powers of " \
         "1000; Ki, Mi, Gi: of 1024). What the rest leaves is the KV cache's."},                   \
        {"fit",                                                                                    \
         '\0',                                                                                     \
         OPTION_CHOICE,                                                                            \
         "WAY",                                                                                    \
         0,                                                                                        \
         0,                                                                                        \
         load_fits,                                                                                \
         (at) + offsetof(struct load_settings, fit),                                               \
         "Engine",                                                                                 \
         NULL,                                                                                     \
         "A context that does not fit into that memory is refused, or made shorter (shrink)."},    \
    {                                                                                              \
        "mlock", '\0', OPTION_FLAG, NULL, 0, 0, NULL,                                              \
            (at) + offsetof(struct load_settings, mlock), "Engine", NULL,                          \
            "Keep the model in memory once it was read. Fails where the system does not allow "    \
            "that much "                                                                           \
            "(ulimit -l)."                                                                         \
    }

struct loaded {
    const struct load_settings *settings; /* NULL: only text and tokens are wanted */
    struct hearth_model *model;
    struct hearth_engine *engine; /* NULL until load_engine */
    struct hearth_model_info info;
    uint64_t load_ns; /* for the model and the engine */
    struct progress
        progress; /* of reading the weights, also while the first tokens wait for them */
};

struct load_source {
    const char *path;
    int fd; /* where `path` is NULL; stays the caller's */
    /* What load_engine will be given; NULL where no engine is wanted. */
    const struct hearth_engine_options *engine;
};

/* Zeroed `loaded` first; it must stay where it is until load_finish, and `settings` too. With a
 * progress bar where it takes long. Where `settings` is NULL only text and tokens are wanted, and
 * no weights are read. */
int load_model(struct loaded *loaded, const struct load_source *source,
               const struct load_settings *settings, struct hearth_error *err);
/* memory_max and fit are those of the settings. */
int load_engine(struct loaded *loaded, const struct hearth_engine_options *options,
                struct hearth_error *err);
void load_finish(struct loaded *loaded); /* what there is of it */

/* What this process takes in MiB: private_mib, mapped_mib, peak_mib, kv_mib. */
json_t *load_memory_json(const struct loaded *loaded);
/* The same as a line of talk. */
void load_say_memory(const struct loaded *loaded);

extern const char *const load_kv_types[]; /* names by enum hearth_kv_type, for option tables */
extern const char *const load_fits[];     /* by enum hearth_fit */

#endif
