#include "cli/load.h"

#include <stdio.h>

#include "base/error.h"
#include "base/os.h"
#include "cli/console.h"

const char *const load_kv_types[] = {"f16", "q8_0", "q4_0", "q8_0:q4_0", NULL};
const char *const load_fits[] = {"refuse", "shrink", NULL};

static bool on_progress(void *context, double fraction)
{
    progress_update(context, fraction, NULL);
    if (fraction >= 1.0)
        progress_end(context);
    return true;
}

/* From its path, or where that is NULL from its descriptor. */
static int open_model(const struct load_source *source, const struct hearth_model_options *options,
                      struct hearth_model **out, struct hearth_error *err)
{
    return source->path ? hearth_model_open(source->path, options, out, err)
                        : hearth_model_open_fds(&source->fd, 1, options, out, err);
}

/* What would be refused is refused before all of it is read. */
static int check_engine(const struct load_source *source, const struct load_settings *settings,
                        struct hearth_error *err)
{
    const struct hearth_model_options options = {.vocabulary_only = true};
    struct loaded loaded = {.settings = settings};
    int status = open_model(source, &options, &loaded.model, err);
    if (!status)
        status = load_engine(&loaded, source->engine, err);
    load_finish(&loaded);
    return status;
}

int load_model(struct loaded *loaded, const struct load_source *source,
               const struct load_settings *settings, struct hearth_error *err)
{
    struct hearth_model_options options = {
        .progress = on_progress,
        .progress_context = &loaded->progress,
        .vocabulary_only = !settings,
        .no_mmap = settings && settings->no_mmap,
        .mlock = settings && settings->mlock,
    };
    int status = 0;
    loaded->settings = settings;
    progress_begin(&loaded->progress, "reading the model");
    if (options.no_mmap || options.mlock)
        status = check_engine(source, settings, err);
    if (!status)
        status = open_model(source, &options, &loaded->model, err);
    progress_end(&loaded->progress);
    loaded->load_ns += os_monotonic_ns() - loaded->progress.begin_ns;
    if (!status)
        hearth_model_info(loaded->model, &loaded->info);
    return status;
}

int load_engine(struct loaded *loaded, const struct hearth_engine_options *options,
                struct hearth_error *err)
{
    uint64_t begin = os_monotonic_ns();
    struct hearth_engine_options own = *options;
    struct hearth_error cause;
    own.memory_max = loaded->settings->memory;
    own.fit = (enum hearth_fit)loaded->settings->fit;
    int status = hearth_engine_open(loaded->model, &own, &loaded->engine, &cause);
    loaded->load_ns += os_monotonic_ns() - begin;
    if (status == HEARTH_E_LIMIT)
        return error_set(
            err, status, "%s (--memory sets it%s)", cause.text,
            own.fit == HEARTH_FIT_SHRINK ? "" : "; with --fit shrink the context is what fits");
    return status ? error_set(err, status, "%s", cause.text) : 0;
}

void load_finish(struct loaded *loaded)
{
    hearth_engine_close(loaded->engine);
    hearth_model_close(loaded->model);
    *loaded = (struct loaded){0};
}

static json_t *mib_json(uint64_t bytes)
{
    return json_rounded((double)bytes / (1 << 20), 2);
}

json_t *load_memory_json(const struct loaded *loaded)
{
    struct hearth_memory memory = {0};
    struct hearth_engine_memory engine;
    hearth_process_memory(&memory);
    hearth_engine_memory(loaded->engine, &engine);
    return json_pack("{s:o, s:o, s:o, s:o}", "private_mib", mib_json(memory.private_bytes),
                     "mapped_mib", mib_json(memory.mapped_bytes), "peak_mib",
                     mib_json(memory.peak_bytes), "kv_mib", mib_json(engine.kv_bytes));
}

void load_say_memory(const struct loaded *loaded)
{
    struct hearth_memory memory = {0};
    struct hearth_engine_memory engine;
    char private_size[SIZE_TEXT_MAX], mapped[SIZE_TEXT_MAX], peak[SIZE_TEXT_MAX];
    char kv[SIZE_TEXT_MAX];
    hearth_process_memory(&memory);
    hearth_engine_memory(loaded->engine, &engine);
    console_say("memory: %s private (the KV cache %s of it) and %s mapped from files; peak of both "
                "%s",
                size_text(memory.private_bytes, private_size), size_text(engine.kv_bytes, kv),
                size_text(memory.mapped_bytes, mapped), size_text(memory.peak_bytes, peak));
    console_say("%u threads, %s kernels", hearth_engine_threads(loaded->engine),
                hearth_engine_tier(loaded->engine));
}
