/* Who may take how much of the limit.
 *
 * The limit counts the weights and the private memory of all processes. What is left beside the
 * daemon's own is the pool. Each worker has a base (weights, scratch, what is fixed) and a floor:
 * the KV cache of the context that it was loaded for. Bases and floors together never exceed the
 * pool: that is what decides whether a model can be loaded. What they leave, the surplus, is shared
 * out anew as it is used: what conversations hold is left to them, as long as nobody lacks it, and
 * what is free goes in equal parts to those that are leased, before they are asked anything. So the
 * ceilings that workers are told never add up to more than the limit, and one at work alone has all
 * that is free. */
#include <event2/event.h>

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/os.h"
#include "server/models_parts.h"

/* What a process has beyond what its engine's estimate knows of: queues, buffers, JSON. */
#define WORKER_BYTES ((uint64_t)6 << 20)
#define DAEMON_BYTES ((uint64_t)12 << 20) /* at least set aside for this process */
#define CONTEXT_LEAST 512                 /* tokens: nothing is shrunk below */
/* Ceilings are told again when they differ by so much, or by this part of the surplus. */
#define SHARE_STEP_BYTES ((uint64_t)2 << 20)
#define SHARE_STEP_PART 32
#define SHED_AGAIN_NS UINT64_C(1000000000)
#define SHARES_MAX 256 /* workers that are told of shares; others keep what they have */

static double gigabytes(uint64_t bytes)
{
    return (double)bytes / 1e9;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static uint64_t daemon_bytes(void)
{
    struct os_memory memory;
    uint64_t own = os_process_memory(&memory) ? memory.private_bytes : 0;
    return own > DAEMON_BYTES ? own : DAEMON_BYTES;
}

static uint64_t limit_of(const struct models *models)
{
    return models->options.memory_max;
}

static uint64_t pool_of(const struct models *models)
{
    return minus(limit_of(models), daemon_bytes());
}

/* ---- what each takes ---- */

/* All but the KV cache. */
static uint64_t base_of(const struct figures *figures)
{
    return figures->total - figures->kv + WORKER_BYTES;
}

/* What conversations hold of the KV cache: it cannot be taken from them. */
static uint64_t held_of(const struct model *model)
{
    return model->backend ? minus(model->backend->use.kv_bytes, model->backend->use.cached_bytes)
                          : 0;
}

static bool counts(const struct model *model)
{
    return !model->upstream && (model->stage == STAGE_LOADING || model->stage == STAGE_LOADED ||
                                (model->stage == STAGE_WANTED && model->admitted));
}

/* What is set aside for it. */
static uint64_t reserve_of(const struct model *model)
{
    uint64_t held = held_of(model);
    return base_of(&model->figures) + (held > model->kv_floor ? held : model->kv_floor);
}

/* What a worker takes until it has ended. */
static uint64_t taken_by(const struct model *model, const struct backend *backend)
{
    uint64_t weights = model_settings(model)->no_mmap ? 0 : model->figures.weights;
    return weights + backend->use.private_bytes;
}

/* By those that will be gone soon. */
static uint64_t taken_by_ending(const struct models *models)
{
    uint64_t sum = 0;
    for (const struct model *model = models->first; model; model = model->next) {
        if (model->dead)
            sum += taken_by(model, model->dead);
        if (!model->upstream && model->stage == STAGE_ENDING)
            sum += taken_by(model, model->backend);
    }
    return sum;
}

static uint64_t reserved(const struct models *models, const struct model *but)
{
    uint64_t sum = 0;
    for (const struct model *model = models->first; model; model = model->next) {
        if (model != but && counts(model))
            sum += reserve_of(model);
    }
    return sum;
}

/* ---- whether it fits ---- */

static bool is_evictable(const struct model *model)
{
    return counts(model) && model->stage == STAGE_LOADED && model->lease_count == 0;
}

/* The least recently used one that was not picked yet: uses are counted, and no two are alike. */
static struct model *next_to_evict(const struct models *models, const struct model *for_whom,
                                   uint64_t behind)
{
    struct model *least = NULL;
    for (struct model *model = models->first; model; model = model->next) {
        if (model != for_whom && is_evictable(model) && model->used > behind &&
            (!least || model->used < least->used))
            least = model;
    }
    return least;
}

/* How a load would go. */
struct plan {
    uint64_t pool, others; /* what others keep, whatever is evicted */
    uint64_t base, floor;
    uint64_t evict_up_to; /* all evictable ones that were used so early go; 0: none */
    bool fits;
};

static void make_plan(const struct models *models, const struct model *model,
                      const struct figures *figures, enum hearth_fit fit, struct plan *plan)
{
    uint64_t used = reserved(models, model);
    uint64_t least = (uint64_t)CONTEXT_LEAST * figures->kv_per_token;
    *plan = (struct plan){.pool = pool_of(models), .base = base_of(figures), .floor = figures->kv};
    while (used + plan->base + plan->floor > plan->pool) {
        const struct model *victim = next_to_evict(models, model, plan->evict_up_to);
        if (!victim)
            break;
        plan->evict_up_to = victim->used;
        used -= reserve_of(victim);
    }
    plan->others = used;
    plan->fits = used + plan->base + plan->floor <= plan->pool;
    if (plan->fits || fit != HEARTH_FIT_SHRINK)
        return;
    least = least < plan->floor ? least : plan->floor;
    if (used + plan->base + least <= plan->pool) {
        plan->floor = plan->pool - used - plan->base;
        plan->fits = true;
    }
}

/* The names of those that keep their memory, a few of them. */
static void name_keepers(const struct models *models, const struct model *but, char *text,
                         size_t size)
{
    size_t at = 0, count = 0;
    text[0] = '\0';
    for (const struct model *model = models->first; model; model = model->next) {
        if (model == but || !counts(model) || is_evictable(model))
            continue;
        if (++count <= 3 && at < size)
            at += (size_t)snprintf(text + at, size - at, "%s%.40s", count > 1 ? ", " : "",
                                   model->name);
    }
    if (count > 3 && at < size)
        snprintf(text + at, size - at, " and %zu more", count - 3);
}

static int refuse_load(const struct model *model, const struct figures *figures,
                       const struct plan *plan, struct hearth_error *err)
{
    char keepers[192];
    const struct models *models = model->models;
    double needs = gigabytes(plan->base + plan->floor);
    if (plan->others == 0)
        return error_set(err, HEARTH_E_MEMORY,
                         "%s needs %.2f GB (%.2f of weights, %.2f for a context of %u tokens, %.2f "
                         "besides), more than the limit of %.2f GB leaves: %.2f",
                         model->name, needs, gigabytes(figures->weights), gigabytes(figures->kv),
                         (unsigned)figures->context, gigabytes(plan->base - figures->weights),
                         gigabytes(limit_of(models)), gigabytes(plan->pool));
    name_keepers(models, model, keepers, sizeof keepers);
    return error_set(err, HEARTH_E_MEMORY,
                     "%s needs %.2f GB (%.2f of weights, %.2f for a context of %u tokens, %.2f "
                     "besides); of the limit of %.2f GB there are %.2f left, because %s %s at work",
                     model->name, needs, gigabytes(figures->weights), gigabytes(figures->kv),
                     (unsigned)figures->context, gigabytes(plan->base - figures->weights),
                     gigabytes(limit_of(models)), gigabytes(minus(plan->pool, plan->others)),
                     keepers, strchr(keepers, ',') || strstr(keepers, " and ") ? "are" : "is");
}

int model_admit(struct model *model, struct hearth_error *err)
{
    struct models *models = model->models;
    struct plan plan;
    assert(model->stage == STAGE_WANTED && !model->admitted);
    make_plan(models, model, &model->figures, model_settings(model)->fit, &plan);
    if (!plan.fits)
        return refuse_load(model, &model->figures, &plan, err);
    uint64_t evicted = 0;
    for (struct model *victim; evicted < plan.evict_up_to; evicted = victim->used) {
        victim = next_to_evict(models, model, evicted);
        if (!victim || victim->used > plan.evict_up_to)
            break;
        metrics_add(models->options.metrics, METRIC_EVICTIONS, NULL, 1);
        model_end(victim, "evicted");
    }
    model->kv_floor = plan.floor;
    model->admitted = true;
    return 0;
}

bool model_admit_blindly(struct model *model)
{
    const struct models *models = model->models;
    uint64_t pool = pool_of(models);
    struct figures figures = {.weights = model->bytes, .total = model->bytes};
    for (const struct model *other = models->first; other; other = other->next) {
        if (other != model && !other->upstream && other->stage != STAGE_ABSENT)
            return false;
    }
    if (base_of(&figures) >= pool)
        return false;
    model->figures = figures;
    model->kv_floor = pool - base_of(&figures);
    model->blind = model->admitted = true;
    return true;
}

void model_admitted_takes(struct model *model, const struct figures *figures)
{
    uint64_t most = minus(pool_of(model->models), base_of(figures));
    model->figures = *figures;
    model->kv_floor = figures->kv < most ? figures->kv : most; /* it may have shrunk */
    model->blind = false;
}

/* ---- shares ---- */

struct share {
    struct model *model;
    uint64_t used;    /* of the surplus */
    uint64_t granted; /* of it */
    bool busy;
};

static uint64_t surplus_of(const struct models *models)
{
    uint64_t sum = 0;
    for (const struct model *model = models->first; model; model = model->next) {
        if (counts(model))
            sum += base_of(&model->figures) + model->kv_floor;
    }
    return minus(pool_of(models), sum + taken_by_ending(models));
}

static size_t collect(const struct models *models, const struct model *starting,
                      struct share shares[SHARES_MAX])
{
    size_t count = 0;
    for (struct model *model = models->first; model && count < SHARES_MAX; model = model->next) {
        if (!counts(model) || (model->stage == STAGE_WANTED && model != starting))
            continue;
        const struct work_state *use = model->backend ? &model->backend->use : NULL;
        shares[count++] = (struct share){
            .model = model,
            .used = use ? minus(use->kv_bytes, model->kv_floor) : 0,
            .busy = !use || model->lease_count > 0,
        };
    }
    return count;
}

/* Where all together use more than there is, those that use most are cut to what they have in
 * common; what is not used is for those at work, or for all where nobody is. */
static void divide_surplus(struct share *shares, size_t count, uint64_t surplus)
{
    uint64_t left = surplus;
    size_t open = count, busy = 0;
    for (size_t i = 0; i < count; i++) {
        shares[i].granted = UINT64_MAX;
        busy += shares[i].busy;
    }
    for (bool again = true; again && open > 0;) {
        again = false;
        uint64_t level = left / open;
        for (size_t i = 0; i < count; i++) {
            if (shares[i].granted != UINT64_MAX || shares[i].used > level)
                continue;
            shares[i].granted = shares[i].used;
            left -= shares[i].used;
            open--;
            again = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (shares[i].granted == UINT64_MAX)
            shares[i].granted = left / open;
    }
    if (open > 0)
        return; /* nothing is free */
    for (size_t i = 0; i < count; i++) {
        if (busy == 0 || shares[i].busy)
            shares[i].granted += left / (busy ? busy : count);
    }
}

static void tell_share(const struct share *share, uint64_t surplus, uint64_t now_ns)
{
    struct model *model = share->model;
    uint64_t floor = model->kv_floor + share->granted;
    uint64_t told = base_of(&model->figures) + floor;
    uint64_t step =
        surplus / SHARE_STEP_PART > SHARE_STEP_BYTES ? surplus / SHARE_STEP_PART : SHARE_STEP_BYTES;
    const struct backend_calls *calls = model->backend->calls;
    if (told < model->share || told - model->share >= step) {
        model->share = told;
        if (calls->memory)
            calls->memory(model->backend, told);
    }
    uint64_t kv = model->backend->use.kv_bytes;
    if (kv > floor + step && calls->shed && now_ns - model->shed_ns >= SHED_AGAIN_NS) {
        model->shed_ns = now_ns;
        calls->shed(model->backend, kv - floor);
    }
}

void models_balance(struct models *models)
{
    struct share shares[SHARES_MAX];
    uint64_t surplus = surplus_of(models), now_ns = os_monotonic_ns();
    size_t count = collect(models, NULL, shares);
    divide_surplus(shares, count, surplus);
    /* first who gets less, then who gets more */
    for (int more = 0; more < 2; more++) {
        for (size_t i = 0; i < count; i++) {
            const struct model *model = shares[i].model;
            uint64_t told = base_of(&model->figures) + model->kv_floor + shares[i].granted;
            if ((told >= model->share) == (more == 1))
                tell_share(&shares[i], surplus, now_ns);
        }
    }
}

void models_on_balance(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    models_balance(context);
}

void models_balance_soon(struct models *models)
{
    static const struct timeval soon = {0, 100000};
    if (!evtimer_pending(models->balance, NULL))
        evtimer_add(models->balance, &soon);
}

bool model_may_start(struct model *model, uint64_t *share)
{
    struct models *models = model->models;
    struct share shares[SHARES_MAX];
    uint64_t ending = taken_by_ending(models);
    if (model->dead)
        return false;
    if (ending > 0 && reserved(models, NULL) + ending > pool_of(models))
        return false;
    size_t count = collect(models, model, shares);
    divide_surplus(shares, count, surplus_of(models));
    *share = base_of(&model->figures) + model->kv_floor;
    for (size_t i = 0; i < count; i++) {
        if (shares[i].model == model)
            *share += shares[i].granted;
    }
    return true;
}

/* ---- for others ---- */

void models_memory(const struct models *models, struct models_memory *out)
{
    struct os_memory own = {0};
    os_process_memory(&own);
    *out = (struct models_memory){
        .limit = limit_of(models),
        .private_daemon = own.private_bytes,
    };
    for (const struct model *model = models->first; model; model = model->next) {
        if (model->upstream || !model->backend)
            continue;
        const struct work_state *use = &model->backend->use;
        out->private_workers += use->private_bytes;
        out->mapped += use->mapped_bytes;
        if (!model_settings(model)->no_mmap)
            out->weights += model->figures.weights;
    }
}

json_t *model_estimate_json(struct model *model, const struct known *known, enum hearth_fit fit)
{
    static const char *const kv_types[] = {
        [HEARTH_KV_F16] = "f16",
        [HEARTH_KV_Q8_0] = "q8_0",
        [HEARTH_KV_Q4_0] = "q4_0",
        [HEARTH_KV_Q8_0_Q4_0] = "q8_0:q4_0",
    };
    const struct models *models = model->models;
    const struct figures *figures = &known->figures;
    struct hearth_error err;
    struct plan plan;
    make_plan(models, model, figures, fit, &plan);
    uint64_t weights = known->shape.no_mmap ? 0 : figures->weights;
    json_t *json = json_pack(
        "{s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:[]}", "context",
        (json_int_t)figures->context, "kv_type", kv_types[known->shape.kv_type], "weights_bytes",
        (json_int_t)figures->weights, "kv_bytes", (json_int_t)figures->kv, "scratch_bytes",
        (json_int_t)figures->scratch, "fixed_bytes", (json_int_t)figures->fixed, "private_bytes",
        (json_int_t)(figures->total - weights), "total_bytes", (json_int_t)figures->total,
        "limit_bytes", (json_int_t)limit_of(models), "used_bytes",
        (json_int_t)(daemon_bytes() + reserved(models, model)), "fits", plan.fits, "evict");
    json_t *evict = json_object_get(json, "evict");
    uint64_t behind = 0;
    for (const struct model *victim; plan.fits && behind < plan.evict_up_to;
         behind = victim->used) {
        victim = next_to_evict(models, model, behind);
        if (!victim)
            break;
        json_array_append_new(evict, json_string(victim->name));
    }
    if (!plan.fits) {
        refuse_load(model, figures, &plan, &err);
        json_object_set_new(json, "reason", json_string(err.text));
    } else if (plan.floor < figures->kv && figures->kv_per_token > 0) {
        json_object_set_new(json, "context",
                            json_integer((json_int_t)(plan.floor / figures->kv_per_token)));
    }
    return json;
}
