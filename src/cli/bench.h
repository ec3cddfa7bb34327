/* What hearth bench measures, and how it is shown. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/command.h"
#include "cli/load.h"

#define BENCH_ROUNDS_MAX 1000u

/* Repetitions of one speed, and the limit of each: the speed that a run would have which does
 * nothing but read its weights and keys, or multiply by its weights, as fast as the machine could
 * right before and after it. */
struct bench_result {
    uint32_t tokens;                                         /* of a prompt; 0: decode */
    uint32_t depth, batch;                                   /* of decode */
    double tokens_per_s, limit_tokens_per_s, limit_fraction; /* medians */
};

struct bench_report {
    const char *path;
    const struct loaded *loaded;
    const char *kv_type;
    uint32_t rounds, generated;
    struct bench_result *results; /* prompts first */
    size_t result_count;
    struct hearth_limits limits; /* medians */
    struct hearth_memory memory; /* the most that was seen */
};

enum exit_code bench_print_json(const struct bench_report *report);
enum exit_code bench_print_table(const struct bench_report *report);

#endif
