/* hearth bench: the speed of a model, beside what the machine can do at that moment. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/random.h"
#include "cli/bench.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

#define COUNT_MAX 16777216 /* tokens, in any place */
#define BATCH_MAX 1024
#define WARM_TOKENS 64u

struct bench_settings {
    const char *model, *synthetic, *out;
    struct count_list prompts, depths, batches;
    uint32_t generated, threads, rounds;
    struct load_settings load;
    int kv_type;
    int64_t seed;
    bool json, no_limits;
};

/* Numbers of which only the median is wanted. */
struct series {
    double *values;
    size_t count, capacity;
};

struct bench {
    const struct bench_settings *settings;
    struct loaded loaded;
    struct hearth_sequence **sequences; /* of the result being measured; the rest is NULL */
    size_t sequence_count;
    uint32_t *ids;
    struct random random;
    struct bench_result *results;
    size_t result_count;
    struct hearth_limits limits; /* that were measured last */
    struct series read, int8, f32, bf16, int8_tiles;
    struct hearth_memory memory;
    struct progress progress;
    size_t runs_done, runs;
};

/* ---- numbers ---- */

static int series_add(struct series *series, double value, struct hearth_error *err)
{
    if (series->count == series->capacity) {
        size_t capacity = series->capacity * 2 + 16;
        double *values = mem_realloc_array(series->values, capacity, sizeof *values);
        if (!values)
            return error_set(err, HEARTH_E_MEMORY, "no memory for the results");
        series->values = values;
        series->capacity = capacity;
    }
    series->values[series->count++] = value;
    return 0;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the series; 0 for an empty one. */
static double series_median(struct series *series)
{
    size_t middle = series->count / 2;
    if (series->count == 0)
        return 0;
    qsort(series->values, series->count, sizeof *series->values, compare_doubles);
    return series->count % 2 ? series->values[middle]
                             : (series->values[middle - 1] + series->values[middle]) / 2;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- memory and limits ---- */

static void note_memory(struct bench *bench)
{
    struct hearth_memory seen, *most = &bench->memory;
    if (hearth_process_memory(&seen))
        return;
    most->private_bytes = larger(most->private_bytes, seen.private_bytes);
    most->mapped_bytes = larger(most->mapped_bytes, seen.mapped_bytes);
    most->peak_bytes = larger(most->peak_bytes, seen.peak_bytes);
}

/* The memory that measuring a limit takes is no part of the model's peak. */
static int measure_limits(struct bench *bench, unsigned what, struct hearth_error *err)
{
    struct hearth_limits *limits = &bench->limits;
    note_memory(bench);
    if (bench->settings->no_limits)
        return 0;
    int status = hearth_engine_limits(bench->loaded.engine, what, limits, err);
    hearth_process_peak_reset();
    if (!status && what & HEARTH_LIMIT_READ)
        status = series_add(&bench->read, limits->read_bytes_per_s, err);
    if (!status && what & HEARTH_LIMIT_ARITHMETIC) {
        status = series_add(&bench->int8, limits->int8_per_s, err);
        if (!status)
            status = series_add(&bench->f32, limits->f32_per_s, err);
        if (!status)
            status = series_add(&bench->bf16, limits->bf16_per_s, err);
        if (!status)
            status = series_add(&bench->int8_tiles, limits->int8_tiles_per_s, err);
    }
    return status;
}

/* Seconds that products take at the machine's peak; a multiplication and an addition are two. */
static double ideal_seconds(const struct hearth_limits *limits, struct hearth_products products)
{
    double seconds = 0;
    if (products.int8)
        seconds += 2 * (double)products.int8 / limits->int8_per_s;
    if (products.f32)
        seconds += 2 * (double)products.f32 / limits->f32_per_s;
    if (products.bf16)
        seconds += 2 * (double)products.bf16 / limits->bf16_per_s;
    return seconds;
}

/* Tokens per second that the limits measured last would allow; no number where there are none. */
static double limit_speed(const struct bench *bench, const struct bench_result *result)
{
    struct hearth_work work;
    if (bench->settings->no_limits)
        return NAN;
    if (result->tokens) {
        hearth_engine_work(bench->loaded.engine, 0, &work);
        return result->tokens / (result->tokens * ideal_seconds(&bench->limits, work.token) +
                                 ideal_seconds(&bench->limits, work.logits));
    }
    hearth_engine_work(bench->loaded.engine, result->depth + bench->settings->generated / 2, &work);
    double bytes = (double)work.weight_bytes + (double)result->batch * (double)work.kv_bytes;
    return result->batch * bench->limits.read_bytes_per_s / bytes;
}

/* ---- computing ---- */

static void close_sequences(struct bench *bench)
{
    for (size_t i = 0; i < bench->sequence_count; i++)
        hearth_sequence_close(bench->sequences[i]);
    mem_free(bench->sequences);
    bench->sequences = NULL;
    bench->sequence_count = 0;
}

static int open_sequences(struct bench *bench, uint32_t count, uint32_t context,
                          struct hearth_error *err)
{
    int status = 0;
    bench->sequences = mem_zalloc_array(count, sizeof(struct hearth_sequence *));
    if (!bench->sequences)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %u sequences", count);
    while (!status && bench->sequence_count < count) {
        status = hearth_sequence_open(bench->loaded.engine, context,
                                      &bench->sequences[bench->sequence_count], err);
        bench->sequence_count += !status;
    }
    if (status)
        close_sequences(bench);
    return status;
}

/* Queues random tokens in each sequence. */
static int extend(struct bench *bench, uint32_t count, struct hearth_error *err)
{
    int status = 0;
    for (size_t s = 0; s < bench->sequence_count && !status && count > 0; s++) {
        for (uint32_t i = 0; i < count; i++)
            bench->ids[i] = (uint32_t)(random_u64(&bench->random) % bench->loaded.info.vocabulary);
        status =
            hearth_sequence_extend(bench->sequences[s], bench->ids, count, HEARTH_LOGITS_LAST, err);
    }
    return status;
}

/* Computes all that is queued. */
static int compute(struct bench *bench, struct hearth_error *err)
{
    for (;;) {
        size_t pending = 0;
        for (size_t s = 0; s < bench->sequence_count; s++)
            pending += hearth_sequence_pending(bench->sequences[s]);
        if (pending == 0)
            return 0;
        int status = hearth_engine_step(bench->loaded.engine, NULL, err);
        for (size_t s = 0; s < bench->sequence_count && !status; s++)
            status = hearth_sequence_status(bench->sequences[s], err);
        if (status)
            return status;
    }
}

/* Sequences that hold `depth` tokens and have room for `more`. */
static int fill(struct bench *bench, const struct bench_result *result, uint32_t more,
                struct hearth_error *err)
{
    uint32_t count = result->tokens ? 1 : result->batch;
    int status = open_sequences(bench, count, result->depth + more, err);
    if (!status)
        status = extend(bench, result->depth, err);
    return status ? status : compute(bench, err);
}

/* Goes back to `depth` tokens, by computing them again where a window has passed them. */
static int refill(struct bench *bench, const struct bench_result *result, uint32_t more,
                  struct hearth_error *err)
{
    int status = 0;
    for (size_t s = 0; s < bench->sequence_count && !status; s++)
        status = hearth_sequence_truncate(bench->sequences[s], result->depth, err);
    if (status != HEARTH_E_STATE)
        return status;
    close_sequences(bench);
    return fill(bench, result, more, err);
}

/* ---- one result ---- */

static int run_once(struct bench *bench, const struct bench_result *result, double *tokens_per_s,
                    struct hearth_error *err)
{
    uint32_t steps = result->tokens ? 1 : bench->settings->generated;
    uint32_t tokens = result->tokens ? result->tokens : 1;
    uint64_t start = os_monotonic_ns();
    int status = 0;
    for (uint32_t i = 0; i < steps && !status; i++) {
        status = extend(bench, tokens, err);
        if (!status)
            status = compute(bench, err);
    }
    uint64_t count = (uint64_t)steps * tokens * bench->sequence_count;
    *tokens_per_s = per_second(count, os_monotonic_ns() - start);
    progress_update(&bench->progress, (double)++bench->runs_done / (double)bench->runs, NULL);
    return status;
}

struct rounds {
    struct series speeds, limits, ratios;
};

/* limit, result, limit, result, …, limit: each result stands between two limits. */
static int run_rounds(struct bench *bench, const struct bench_result *result, struct rounds *rounds,
                      struct hearth_error *err)
{
    unsigned what = result->tokens ? HEARTH_LIMIT_ARITHMETIC : HEARTH_LIMIT_READ;
    uint32_t more = result->tokens ? result->tokens : bench->settings->generated;
    int status = fill(bench, result, more, err);
    if (!status)
        status = measure_limits(bench, what, err);
    for (uint32_t i = 0; i < bench->settings->rounds && !status; i++) {
        double before = limit_speed(bench, result), speed = 0;
        if (i > 0)
            status = refill(bench, result, more, err);
        if (!status)
            status = run_once(bench, result, &speed, err);
        if (!status)
            status = measure_limits(bench, what, err);
        if (status)
            break;
        double limit = 2 / (1 / before + 1 / limit_speed(bench, result));
        status = series_add(&rounds->speeds, speed, err);
        if (!status)
            status = series_add(&rounds->limits, limit, err);
        if (!status)
            status = series_add(&rounds->ratios, speed / limit, err);
    }
    close_sequences(bench);
    return status;
}

static int measure_result(struct bench *bench, struct bench_result *result,
                          struct hearth_error *err)
{
    struct rounds rounds = {0};
    int status = run_rounds(bench, result, &rounds, err);
    if (!status) {
        result->tokens_per_s = series_median(&rounds.speeds);
        result->limit_tokens_per_s = series_median(&rounds.limits);
        result->limit_fraction = series_median(&rounds.ratios);
    }
    mem_free(rounds.speeds.values);
    mem_free(rounds.limits.values);
    mem_free(rounds.ratios.values);
    return status;
}

/* ---- a model that is made up ---- */

struct writing {
    struct progress progress;
    bool stoppable; /* a file with a name is taken away again when Ctrl-C comes */
};

static bool on_written(void *context, double fraction)
{
    struct writing *writing = context;
    progress_update(&writing->progress, fraction, NULL);
    return !writing->stoppable || !interrupt_came();
}

static int write_model(const char *what, int fd, bool stoppable, struct hearth_error *err)
{
    struct writing writing = {.stoppable = stoppable};
    struct hearth_model_options options = {.progress = on_written, .progress_context = &writing};
    progress_begin(&writing.progress, "writing the model");
    int status = hearth_synthesize(what, fd, &options, err);
    /* or the system would write it to the disk during the measurement */
    if (!status)
        status = os_file_sync(fd, err);
    progress_end(&writing.progress);
    return status;
}

/* $XDG_CACHE_HOME/hearth or ~/.cache/hearth */
static int cache_directory(struct buffer *path, struct hearth_error *err)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && cache[0] == '/')
        buffer_format(path, "%s/hearth", cache);
    else if (home)
        buffer_format(path, "%s/.cache/hearth", home);
    if (path->size == 0 || path->failed || !os_make_private_directories(path->data))
        return error_set(err, HEARTH_E_IO,
                         "there is no cache directory; --out says where to write");
    return 0;
}

/* A file that nobody sees and that is gone with this process, even when it is killed. */
static int load_unnamed(struct bench *bench, const struct hearth_engine_options *options,
                        struct hearth_error *err)
{
    struct buffer path;
    buffer_init(&path, 4096);
    int status = cache_directory(&path, err);
    int fd = status ? status : os_file_create_unnamed(path.data, err);
    buffer_finish(&path);
    if (fd < 0)
        return fd;
    status = write_model(bench->settings->synthetic, fd, false, err);
    const struct load_source source = {.fd = fd, .engine = options};
    if (!status)
        status = load_model(&bench->loaded, &source, &bench->settings->load, err);
    os_file_close(fd);
    return status;
}

static int load_written(struct bench *bench, const struct hearth_engine_options *options,
                        struct hearth_error *err)
{
    const char *path = bench->settings->out;
    int fd = os_file_create(path, err);
    if (fd < 0)
        return fd;
    interrupt_remember();
    int status = write_model(bench->settings->synthetic, fd, true, err);
    os_file_close(fd);
    if (status)
        remove(path);
    interrupt_leave();
    const struct load_source source = {.path = path, .engine = options};
    return status ? status : load_model(&bench->loaded, &source, &bench->settings->load, err);
}

/* ---- all of it ---- */

static int plan(struct bench *bench, struct hearth_error *err)
{
    const struct bench_settings *settings = bench->settings;
    size_t decodes = settings->generated ? settings->depths.count * settings->batches.count : 0;
    uint32_t longest = WARM_TOKENS;
    bench->results =
        mem_zalloc_array(settings->prompts.count + decodes + 1, sizeof *bench->results);
    if (!bench->results)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the results");
    for (size_t i = 0; i < settings->prompts.count; i++) {
        uint32_t tokens = settings->prompts.items[i];
        longest = tokens > longest ? tokens : longest;
        if (tokens > 0)
            bench->results[bench->result_count++].tokens = tokens;
    }
    for (size_t i = 0; i < decodes; i++) {
        uint32_t depth = settings->depths.items[i / settings->batches.count];
        longest = depth > longest ? depth : longest;
        bench->results[bench->result_count++] = (struct bench_result){
            .depth = depth, .batch = settings->batches.items[i % settings->batches.count]};
    }
    bench->ids = mem_alloc_array(longest, sizeof *bench->ids);
    if (!bench->ids)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %u tokens", longest);
    bench->runs = bench->result_count * settings->rounds;
    return 0;
}

/* Brings the weights into memory and threads and caches up to speed. */
static int warm_up(struct bench *bench, struct hearth_error *err)
{
    struct bench_result prompt = {.tokens = WARM_TOKENS};
    int status = fill(bench, &prompt, WARM_TOKENS, err);
    if (!status)
        status = extend(bench, WARM_TOKENS, err);
    if (!status)
        status = compute(bench, err);
    close_sequences(bench);
    if (!status)
        status = measure_limits(bench, HEARTH_LIMIT_READ | HEARTH_LIMIT_ARITHMETIC, err);
    return status;
}

static int measure(struct bench *bench, struct hearth_error *err)
{
    int status = warm_up(bench, err);
    progress_begin(&bench->progress, "measuring");
    for (size_t i = 0; i < bench->result_count && !status; i++)
        status = measure_result(bench, &bench->results[i], err);
    progress_end(&bench->progress);
    note_memory(bench);
    return status;
}

static int prepare(struct bench *bench, struct hearth_error *err)
{
    const struct bench_settings *settings = bench->settings;
    struct hearth_engine_options options = {
        .threads = settings->threads,
        .kv_type = (enum hearth_kv_type)settings->kv_type,
    };
    const struct load_source source = {.path = settings->model, .engine = &options};
    bench->random = random_from_seed((uint64_t)settings->seed);
    int status = plan(bench, err);
    if (!status)
        status = !settings->synthetic ? load_model(&bench->loaded, &source, &settings->load, err)
                 : settings->out      ? load_written(bench, &options, err)
                                      : load_unnamed(bench, &options, err);
    return status ? status : load_engine(&bench->loaded, &options, err);
}

static enum exit_code report(struct bench *bench)
{
    const struct bench_settings *settings = bench->settings;
    struct bench_report report = {
        .path = settings->synthetic ? settings->synthetic : settings->model,
        .loaded = &bench->loaded,
        .kv_type = load_kv_types[settings->kv_type],
        .rounds = settings->rounds,
        .generated = settings->generated,
        .results = bench->results,
        .result_count = bench->result_count,
        .limits = {.read_bytes_per_s = series_median(&bench->read),
                   .int8_per_s = series_median(&bench->int8),
                   .f32_per_s = series_median(&bench->f32),
                   .bf16_per_s = series_median(&bench->bf16),
                   .int8_tiles_per_s = series_median(&bench->int8_tiles)},
        .memory = bench->memory,
    };
    return settings->json ? bench_print_json(&report) : bench_print_table(&report);
}

static enum exit_code run_bench(const struct program *program, const void *given)
{
    struct bench bench = {.settings = given};
    struct hearth_error err = {0};
    (void)program;
    if (!bench.settings->model == !bench.settings->synthetic) {
        console_say("hearth bench needs either a MODEL or --synthetic SHAPE:TYPE");
        return EXIT_CODE_USAGE;
    }
    if (bench.settings->out && !bench.settings->synthetic) {
        console_say("--out keeps the model that --synthetic makes up");
        return EXIT_CODE_USAGE;
    }
    int status = prepare(&bench, &err);
    if (!status)
        status = measure(&bench, &err);
    enum exit_code code = status ? console_fail(&err) : report(&bench);
    close_sequences(&bench);
    load_finish(&bench.loaded);
    mem_free(bench.read.values);
    mem_free(bench.int8.values);
    mem_free(bench.f32.values);
    mem_free(bench.bf16.values);
    mem_free(bench.int8_tiles.values);
    mem_free(bench.results);
    mem_free(bench.ids);
    return code;
}

/* ---- the table ---- */

#define AT(field) offsetof(struct bench_settings, field)

static void defaults(void *given)
{
    struct bench_settings *settings = given;
    settings->prompts = (struct count_list){{512}, 1};
    settings->depths = (struct count_list){{0}, 1};
    settings->batches = (struct count_list){{1}, 1};
    settings->generated = 64;
    settings->rounds = 3;
}

static const struct option bench_options[] = {
    {"prompt", 'p', OPTION_COUNTS, "N,N,...", 0, COUNT_MAX, NULL, AT(prompts), "Measurement", NULL,
     "Measure prompts of so many tokens; 0 for none."},
    {"generate", 'n', OPTION_UINT, "N", 0, COUNT_MAX, NULL, AT(generated), "Measurement", NULL,
     "Measure decoding over N tokens; 0 for not at all."},
    {"depth", 'd', OPTION_COUNTS, "N,N,...", 0, COUNT_MAX, NULL, AT(depths), "Measurement", NULL,
     "Decode behind so many tokens of context."},
    {"batch", 'b', OPTION_COUNTS, "N,N,...", 1, BATCH_MAX, NULL, AT(batches), "Measurement", NULL,
     "Decode so many sequences together; the speed is that of all."},
    {"rounds", 'r', OPTION_UINT, "N", 1, BENCH_ROUNDS_MAX, NULL, AT(rounds), "Measurement", NULL,
     "Measure everything N times and show the medians."},
    {"no-limits", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(no_limits), "Measurement", NULL,
     "Do not measure the machine's limits, which takes 512 MiB meanwhile: for who looks at this "
     "process's memory from outside."},
    {"seed", '\0', OPTION_SEED, "N", 0, 9007199254740991.0, NULL, AT(seed), "Measurement", NULL,
     "Draw the tokens from this seed."},
    {"synthetic", '\0', OPTION_TEXT, "SHAPE:TYPE", 0, 0, NULL, AT(synthetic), "Model", NULL,
     "Instead of MODEL, measure random weights in the shapes of a real model, for instance "
     "llama-3b:Q4_K_M or llama-1b:Q8_0; a name that does not exist is answered with those that do. "
     "The file is as large as the real one, and deleted at the end."},
    {"out", 'o', OPTION_FILE, "FILE", 0, 0, NULL, AT(out), "Model", NULL,
     "Write the model of --synthetic to FILE, where there is none yet, and keep it."},
    {"threads", 't', OPTION_UINT, "N", 1, 1024, NULL, AT(threads), "Engine",
     "as many as there are cores to use", "Compute with N threads."},
    {"kv", '\0', OPTION_CHOICE, "TYPE", 0, 0, load_kv_types, AT(kv_type), "Engine", NULL,
     "How the KV cache is stored."},
    LOAD_OPTIONS(AT(load)),
    {"json", '\0', OPTION_FLAG, NULL, 0, 0, NULL, AT(json), "Output", NULL,
     "Print one JSON object: load_ms; prefill with tokens and tokens_per_s; decode with depth, "
     "batch and tokens_per_s; memory with private_mib, mapped_mib and peak_mib; limits with "
     "read_gb_per_s, int8_tops, f32_tflops, bf16_tflops and, of AMX alone, int8_tile_tops. "
     "limit_tokens_per_s beside a speed is "
     "what the limits allow, and limit_fraction how much of that it reaches; null for what is not "
     "known."},
};

static const struct operand bench_operands[] = {
    {"MODEL", OPERAND_MODEL, false, AT(model), "a GGUF file; of a split model the first part",
     NULL},
};

static const struct example bench_examples[] = {
    {"hearth bench MODEL.gguf", "Speed, memory and the machine's limits."},
    {"hearth bench MODEL.gguf -p 16,64,512 -d 0,2000 -b 1,4",
     "Short and long prompts; decoding with and without context, alone and four together."},
    {"hearth bench --synthetic llama-3b:Q4_K_M", "A machine, without fetching a model."},
};

const struct command command_bench = {
    .name = "bench",
    .summary = "Measure speed and memory beside the machine's limits",
    .description =
        "Computes random tokens and shows how many a second: of prompts, which are computed many "
        "tokens at once, and in decoding, one token after the other.\n\n"
        "Between the measurements it measures what the machine can do at that moment: how fast "
        "memory is read, which limits decoding, because every token needs all weights and all "
        "keys and values of its context; and how fast products are computed, which limits "
        "prompts. Every speed is shown with the fraction of its limit that it reaches. Memory is "
        "the most that was seen: private to this process, and mapped from the model's file.",
    .options = bench_options,
    .option_count = sizeof bench_options / sizeof bench_options[0],
    .operands = bench_operands,
    .operand_count = 1,
    .examples = bench_examples,
    .example_count = sizeof bench_examples / sizeof bench_examples[0],
    .settings_size = sizeof(struct bench_settings),
    .defaults = defaults,
    .run = run_bench,
};
