/* The results of hearth bench, as JSON and as tables. */

#include <math.h>
#include <stdio.h>

#include "cli/bench.h"
#include "cli/console.h"

/* ---- JSON ---- */

static json_t *mib(uint64_t bytes)
{
    return json_rounded((double)bytes / (1 << 20), 2);
}

/* In units of 10^power; null for what the machine cannot do. */
static json_t *limit_json(double value, double unit)
{
    return value > 0 ? json_rounded(value / unit, 3) : json_null();
}

static void add_speeds(json_t *object, const struct bench_result *result)
{
    json_object_set_new(object, "tokens_per_s", json_rounded(result->tokens_per_s, 3));
    json_object_set_new(object, "limit_tokens_per_s", json_rounded(result->limit_tokens_per_s, 3));
    json_object_set_new(object, "limit_fraction", json_rounded(result->limit_fraction, 4));
}

static json_t *results_json(const struct bench_report *report, bool prompts)
{
    json_t *array = json_array();
    for (size_t i = 0; i < report->result_count; i++) {
        const struct bench_result *result = &report->results[i];
        if ((result->tokens > 0) != prompts)
            continue;
        json_t *object = prompts ? json_pack("{s:I}", "tokens", (json_int_t)result->tokens)
                                 : json_pack("{s:I, s:I}", "depth", (json_int_t)result->depth,
                                             "batch", (json_int_t)result->batch);
        add_speeds(object, result);
        json_array_append_new(array, object);
    }
    return array;
}

enum exit_code bench_print_json(const struct bench_report *report)
{
    const struct loaded *loaded = report->loaded;
    json_t *memory =
        json_pack("{s:o, s:o, s:o}", "private_mib", mib(report->memory.private_bytes), "mapped_mib",
                  mib(report->memory.mapped_bytes), "peak_mib", mib(report->memory.peak_bytes));
    json_t *limits = json_pack("{s:o, s:o, s:o, s:o, s:o}", "read_gb_per_s",
                               limit_json(report->limits.read_bytes_per_s, 1e9), "int8_tops",
                               limit_json(report->limits.int8_per_s, 1e12), "f32_tflops",
                               limit_json(report->limits.f32_per_s, 1e12), "bf16_tflops",
                               limit_json(report->limits.bf16_per_s, 1e12), "int8_tile_tops",
                               limit_json(report->limits.int8_tiles_per_s, 1e12));
    return console_json(
        json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "parameters",
                  (json_int_t)loaded->info.parameters, "bytes", (json_int_t)loaded->info.file_bytes,
                  "tier", hearth_engine_tier(loaded->engine), "kv", report->kv_type, "threads",
                  (json_int_t)hearth_engine_threads(loaded->engine), "rounds",
                  (json_int_t)report->rounds, "generated", (json_int_t)report->generated, "load_ms",
                  json_rounded(ms_of(loaded->load_ns), 3), "prefill", results_json(report, true),
                  "decode", results_json(report, false), "memory", memory, "limits", limits));
}

/* ---- tables ---- */

static void print_result(const struct bench_report *report, const struct bench_result *result)
{
    char what[80];
    if (result->tokens)
        snprintf(what, sizeof what, "prompt of %u", result->tokens);
    else if (result->batch == 1)
        snprintf(what, sizeof what, "%u tokens behind %u", report->generated, result->depth);
    else
        snprintf(what, sizeof what, "%u tokens behind %u, %u together", report->generated,
                 result->depth, result->batch);
    printf("%-36s %10.1f", what, result->tokens_per_s);
    if (isfinite(result->limit_fraction))
        printf(" %10.1f %7.1f %%", result->limit_tokens_per_s, 100 * result->limit_fraction);
    printf("\n");
}

enum exit_code bench_print_table(const struct bench_report *report)
{
    const struct loaded *loaded = report->loaded;
    const struct hearth_limits *limits = &report->limits;
    char size[SIZE_TEXT_MAX], time[SIZE_TEXT_MAX], mapped[SIZE_TEXT_MAX], peak[SIZE_TEXT_MAX];
    printf("%s: %.2f billion parameters, %s, opened in %s\n", report->path,
           (double)loaded->info.parameters * 1e-9, size_text(loaded->info.file_bytes, size),
           duration_text(loaded->load_ns, time));
    printf("%u threads, %s kernels, KV cache %s, medians of %u\n\n",
           hearth_engine_threads(loaded->engine), hearth_engine_tier(loaded->engine),
           report->kv_type, report->rounds);
    bool limited = limits->read_bytes_per_s > 0;
    printf("%-36s %10s%s\n", "", "tokens/s", limited ? "      limit   reached" : "");
    for (size_t i = 0; i < report->result_count; i++)
        print_result(report, &report->results[i]);
    if (limited)
        printf("\nlimits: memory is read at %.1f GB/s; int8 %.2f TOPS, f32 %.2f TFLOPS",
               limits->read_bytes_per_s * 1e-9, limits->int8_per_s * 1e-12,
               limits->f32_per_s * 1e-12);
    if (limits->bf16_per_s > 0)
        printf(", bf16 %.2f TFLOPS", limits->bf16_per_s * 1e-12);
    if (limits->int8_tiles_per_s > 0)
        printf("; its tiles alone %.1f TOPS", limits->int8_tiles_per_s * 1e-12);
    printf("\nmemory: %s private, %s mapped, peak of both %s\n",
           size_text(report->memory.private_bytes, size),
           size_text(report->memory.mapped_bytes, mapped),
           size_text(report->memory.peak_bytes, peak));
    return console_finish();
}
