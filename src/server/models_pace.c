/* What is looked at while workers run: how the cores are divided, and how short memory is. */
#include <event2/event.h>

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/os.h"
#include "base/pressure.h"
#include "server/models_parts.h"

/* Cores that a worker leaves are given to the others so much later: who asks three questions in a
 * row must not make them change each time. */
static const struct timeval widen_after = {0, 500000};
static const struct timeval second = {1, 0};

#define SHED_PART 4 /* of what rests, a second, while memory is somewhat short */
#define SHED_LEAST ((uint64_t)16 << 20)
#define UNLOAD_AFTER_NS UINT64_C(3000000000) /* of being very short, and between two of them */

struct pressure_watch {
    struct pressure pressure;
    enum pressure_level told;
    uint64_t unloaded_ns; /* the last time, or when it became very short */
};

static bool runs(const struct model *model)
{
    return !model->upstream && model->stage == STAGE_LOADED && model->backend;
}

/* ---- cores ---- */

static unsigned count_busy(const struct models *models)
{
    unsigned busy = 0;
    for (const struct model *model = models->first; model; model = model->next)
        busy += runs(model) && model->backend->use.running > 0;
    return busy;
}

static void tell_threads(struct model *model, unsigned each)
{
    unsigned own =
        model_settings(model)->threads ? model_settings(model)->threads : model->models->cores;
    unsigned threads = own < each ? own : each;
    if (model->threads == threads || !model->backend->calls->threads)
        return;
    model->threads = threads;
    model->backend->calls->threads(model->backend, threads);
}

/* Those that do not compute are told as well: when one of them begins it has no more than its part
 * of what was divided, until it is divided again. */
static void divide_by(struct models *models, unsigned busy)
{
    unsigned each = models->cores / (busy > 1 ? busy : 1);
    models->busy = busy;
    for (struct model *model = models->first; model; model = model->next) {
        if (runs(model))
            tell_threads(model, each > 0 ? each : 1);
    }
}

void models_divide_cores(struct models *models)
{
    unsigned busy = count_busy(models);
    if (busy >= models->busy) {
        evtimer_del(models->widen);
        divide_by(models, busy);
    } else if (!evtimer_pending(models->widen, NULL)) {
        evtimer_add(models->widen, &widen_after);
    }
}

static void on_widen(evutil_socket_t fd, short what, void *context)
{
    struct models *models = context;
    (void)fd, (void)what;
    divide_by(models, count_busy(models));
}

/* ---- pressure ---- */

/* The least recently used worker that nobody uses. */
static struct model *idlest(const struct models *models)
{
    struct model *least = NULL;
    for (struct model *model = models->first; model; model = model->next) {
        if (runs(model) && model->lease_count == 0 && (!least || model->used < least->used))
            least = model;
    }
    return least;
}

static uint64_t shed(struct model *model, uint64_t bytes)
{
    if (bytes == 0 || !model->backend->calls->shed)
        return 0;
    model->backend->calls->shed(model->backend, bytes);
    return bytes;
}

/* Little by little, of those that nobody uses; or all that can go, of everybody. */
static uint64_t shed_some(struct models *models, bool all)
{
    uint64_t asked = 0;
    for (struct model *model = models->first; model; model = model->next) {
        if (!runs(model) || (!all && model->lease_count > 0))
            continue;
        const struct work_state *use = &model->backend->use;
        uint64_t part = use->kv_bytes / SHED_PART;
        part = part > SHED_LEAST ? part : SHED_LEAST;
        if (all)
            asked += shed(model, model->lease_count > 0 ? use->cached_bytes : use->kv_bytes);
        else
            asked += shed(model, part < use->kv_bytes ? part : use->kv_bytes);
    }
    return asked;
}

static void tell_pressure(struct models *models, enum pressure_level level,
                          const struct os_pressure *reading, uint64_t asked)
{
    static const char *const levels[] = {"none", "some", "much"};
    struct pressure_watch *watch = models->pressure;
    if (level == watch->told)
        return;
    watch->told = level;
    metrics_set(models->options.metrics, METRIC_PRESSURE, NULL, (double)level);
    log_line(models->options.log, level > PRESSURE_NONE ? LOG_WARNING : LOG_INFO, 0, "memory",
             "pressure=%s available=%.3f", levels[level], reading->available);
    events_tell(models->options.events, "memory.pressure",
                json_pack("{s:s, s:f, s:f, s:f, s:I}", "level", levels[level], "available",
                          reading->available, "some", reading->some, "full", reading->full,
                          "shed_bytes", (json_int_t)asked));
}

static void look_at_pressure(struct models *models, uint64_t now_ns)
{
    struct pressure_watch *watch = models->pressure;
    struct os_pressure reading;
    const char *root = models->options.pressure_root;
    if (!os_pressure_at(root ? root : "", &reading))
        return;
    enum pressure_level level = pressure_update(&watch->pressure, &reading, now_ns);
    uint64_t asked = level == PRESSURE_NONE ? 0 : shed_some(models, level == PRESSURE_MUCH);
    if (level < PRESSURE_MUCH || watch->told < PRESSURE_MUCH)
        watch->unloaded_ns = now_ns;
    tell_pressure(models, level, &reading, asked);
    if (level < PRESSURE_MUCH || now_ns - watch->unloaded_ns < UNLOAD_AFTER_NS)
        return;
    struct model *model = idlest(models);
    watch->unloaded_ns = now_ns;
    if (model)
        model_end(model, "pressure");
}

static bool any_resident(const struct models *models)
{
    for (const struct model *model = models->first; model; model = model->next) {
        if (model_is_resident(model))
            return true;
    }
    return false;
}

static void on_watch(evutil_socket_t fd, short what, void *context)
{
    struct models *models = context;
    (void)fd, (void)what;
    if (!any_resident(models))
        return;
    look_at_pressure(models, os_monotonic_ns());
    models_balance(models);
    evtimer_add(models->watch, &second);
}

void models_pace_watch(struct models *models)
{
    unsigned workers = 0;
    for (const struct model *model = models->first; model; model = model->next)
        workers += !model->upstream && model->backend != NULL;
    metrics_set(models->options.metrics, METRIC_WORKERS, NULL, workers);
    if (any_resident(models) && !evtimer_pending(models->watch, NULL))
        evtimer_add(models->watch, &second);
}

int models_pace_create(struct models *models, struct hearth_error *err)
{
    models->watch = evtimer_new(models->base, on_watch, models);
    models->widen = evtimer_new(models->base, on_widen, models);
    models->pressure = MEM_NEW(struct pressure_watch);
    return models->watch && models->widen && models->pressure
               ? 0
               : error_set(err, HEARTH_E_MEMORY, "no memory for models");
}

void models_pace_destroy(struct models *models)
{
    if (models->watch)
        event_free(models->watch);
    if (models->widen)
        event_free(models->widen);
    mem_free(models->pressure);
}
