/* Who waits for a model, who has a lease of it, and the stages that it goes through:
 *
 *   ABSENT ─acquire─▶ WANTED ─figures, memory─▶ LOADING ─▶ LOADED ─ttl, evicted, asked─▶ ENDING
 *      ▲                 │ refused                 │ failed    │ failed, by force          │
 *      └─────────────────┴─────────────────────────┴───────────┴───────────────────────────┘
 *
 * A lease is counted before anything is called back, and only what has none is ever ended. */
#include <event2/event.h>

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/os.h"
#include "server/models_parts.h"

#define DRAIN_NS UINT64_C(10000000000) /* for what rests in a worker to be written */
#define DRAIN_GRACE_NS UINT64_C(1000000000)
#define TELL_LOADING_NS UINT64_C(100000000)
#define TRIES_MAX 3 /* loads of a file that changes meanwhile */
#define SECONDS_MAX UINT64_C(1000000000)

static void load_begin(struct model *model);
static void load_step(struct model *model);

/* ---- waits ---- */

void waits_push(struct waits *waits, struct model_wait *wait)
{
    wait->in = waits;
    wait->previous = waits->last;
    wait->next = NULL;
    *(waits->last ? &waits->last->next : &waits->first) = wait;
    waits->last = wait;
}

void waits_remove(struct model_wait *wait)
{
    struct waits *waits = wait->in;
    *(wait->previous ? &wait->previous->next : &waits->first) = wait->next;
    *(wait->next ? &wait->next->previous : &waits->last) = wait->previous;
    wait->in = NULL;
}

struct model_wait *wait_create(struct model *model, enum wait_kind kind)
{
    struct model_wait *wait = MEM_NEW(struct model_wait);
    struct model_lease *lease = wait && kind == WAIT_LEASE ? MEM_NEW(struct model_lease) : NULL;
    if (!wait || (kind == WAIT_LEASE && !lease)) {
        mem_free(wait);
        return NULL;
    }
    if (lease)
        lease->model = model;
    *wait = (struct model_wait){.model = model, .kind = kind, .lease = lease};
    waits_push(&model->waits, wait);
    return wait;
}

/* Without its lease, where that was granted. */
static void wait_free(struct model_wait *wait)
{
    waits_remove(wait);
    json_decref(wait->json);
    if (wait->lease && !wait->lease->granted)
        mem_free(wait->lease);
    mem_free(wait);
}

void waits_finish(struct waits *waits)
{
    while (waits->first)
        wait_free(waits->first);
}

void wait_settle(struct model_wait *wait, const struct hearth_error *error)
{
    struct models *models = wait->model->models;
    if (error)
        wait->error = *error;
    waits_remove(wait);
    waits_push(&models->settled, wait);
    event_active(models->settle, EV_TIMEOUT, 0);
}

static struct model_wait *next_of_kind(struct model_wait *wait, enum wait_kind kind)
{
    while (wait && wait->kind != kind)
        wait = wait->next;
    return wait;
}

static bool is_waited_for(const struct model *model)
{
    return next_of_kind(model->waits.first, WAIT_LEASE) != NULL;
}

static void settle_leases(struct model *model, const struct hearth_error *error)
{
    struct model_wait *wait = next_of_kind(model->waits.first, WAIT_LEASE);
    while (wait) {
        struct model_wait *next = next_of_kind(wait->next, WAIT_LEASE);
        wait_settle(wait, error);
        wait = next;
    }
}

static void deliver(struct model_wait *wait)
{
    struct model_wait told = *wait;
    if (told.kind != WAIT_LEASE) {
        json_incref(told.json);
        wait_free(wait);
        told.on_known(told.context, told.error.code ? NULL : told.json,
                      told.error.code ? &told.error : NULL);
        json_decref(told.json);
        return;
    }
    wait_free(wait);
    if (!told.error.code && told.lease->lost) {
        error_set(&told.error, HEARTH_E_STATE, "%s was unloaded", told.model->name);
        model_release(told.lease);
    }
    if (told.error.code)
        told.acquire.on_ready(told.acquire.context, NULL, told.loaded, &told.error);
    else
        told.acquire.on_ready(told.acquire.context, told.lease, told.loaded, NULL);
}

static void load_if_waited_for(struct model *model)
{
    if (model->stage == STAGE_ABSENT && !model->dead && !model->models->draining &&
        is_waited_for(model))
        load_begin(model);
}

static void check_drained(struct models *models)
{
    for (const struct model *model = models->first; model; model = model->next) {
        if (model_is_resident(model))
            return;
    }
    if (models->draining && !models->drained) {
        models->drained = true;
        event_active(models->settle, EV_TIMEOUT, 0);
    }
}

void models_on_settle(evutil_socket_t fd, short what, void *context)
{
    struct models *models = context;
    (void)fd, (void)what;
    while (models->settled.first)
        deliver(models->settled.first);
    if (models->drained && models->on_drained) {
        void (*on_drained)(void *) = models->on_drained;
        models->on_drained = NULL;
        on_drained(models->drained_context); /* the last: it may destroy them */
    }
}

void models_on_reap(evutil_socket_t fd, short what, void *context)
{
    struct models *models = context;
    (void)fd, (void)what;
    for (struct model *model = models->first; model; model = model->next) {
        struct backend *dead = model->dead;
        model->dead = NULL;
        if (dead)
            dead->calls->destroy(dead);
    }
    /* who waited for the memory comes before who waited for the model itself */
    models_admit_waiting(models);
    for (struct model *model = models->first; model; model = model->next)
        load_if_waited_for(model);
    check_drained(models);
}

/* ---- time ---- */

static void set_timer(struct model *model, uint64_t ns)
{
    uint64_t seconds = ns / 1000000000 < SECONDS_MAX ? ns / 1000000000 : SECONDS_MAX;
    struct timeval after = {(time_t)seconds, (suseconds_t)(ns % 1000000000 / 1000)};
    evtimer_add(model->timer, &after);
}

/* Nobody uses it from now on: its time to live begins. */
static void begin_to_expire(struct model *model)
{
    uint64_t ttl = model->ttl_given ? model->ttl_ns : model_settings(model)->ttl_ns;
    uint64_t now = os_monotonic_ns();
    model->expires_ns = ttl < MODELS_TTL_NEVER - now ? now + ttl : MODELS_TTL_NEVER;
    if (model->expires_ns != MODELS_TTL_NEVER)
        set_timer(model, ttl);
}

/* ---- ends ---- */

/* The worker is no more, or will not be when the loop goes on. */
static void worker_gone(struct model *model)
{
    struct models *models = model->models;
    if (model->backend) {
        assert(!model->dead); /* none is started before the last one is destroyed */
        model->dead = model->backend;
        model->backend = NULL;
        event_active(models->reap, EV_TIMEOUT, 0);
    }
    for (struct model_lease *lease = model->leases; lease; lease = lease->next)
        lease->lost = true;
    model->lease_count = 0;
    model->stage = STAGE_ABSENT;
    model->admitted = model->blind = false;
    model->inquiry = NULL;
    model->kv_floor = model->share = 0;
    model->restarts = 0;
    model->ttl_given = false;
    evtimer_del(model->timer);
    json_decref(model->ready);
    model->ready = NULL;
    model_settings_free(model->override);
    model->override = model->next_override;
    model->next_override = NULL;
    model_holders_clear(models->holders, model);
    models_pace_watch(models);
    models_divide_cores(models);
    models_balance_soon(models);
}

/* Others may have waited for its memory, and some for itself. */
static void after_gone(struct model *model)
{
    struct models *models = model->models;
    if (!model->dead) { /* else when that is gone */
        models_admit_waiting(models);
        load_if_waited_for(model);
    }
    check_drained(models);
}

static void unloaded(struct model *model, const char *why)
{
    struct models *models = model->models;
    log_line(models->options.log, LOG_INFO, 0, "unloaded", "model=\"%s\" why=%s", model->name, why);
    models_tell(models, "model.unloaded", model, json_pack("{s:s}", "why", why));
    worker_gone(model);
    after_gone(model);
}

static void load_fail(struct model *model, const struct hearth_error *error)
{
    struct models *models = model->models;
    log_line(models->options.log, LOG_WARNING, 0, "load failed", "model=\"%s\" cause=\"%s\"",
             model->name, error->text);
    metrics_add(models->options.metrics, METRIC_LOADS, "failed", 1);
    models_tell(models, "model.failed", model, json_pack("{s:s}", "error", error->text));
    settle_leases(model, error);
    worker_gone(model);
    after_gone(model);
}

void model_end(struct model *model, const char *why)
{
    assert(model->stage == STAGE_LOADED && !model->upstream);
    model->stage = STAGE_ENDING;
    model->why = why;
    set_timer(model, DRAIN_NS + DRAIN_GRACE_NS);
    model->backend->calls->drain(model->backend, DRAIN_NS);
    models_divide_cores(model->models);
}

void models_on_timer(evutil_socket_t fd, short what, void *context)
{
    struct model *model = context;
    uint64_t now = os_monotonic_ns();
    (void)fd, (void)what;
    if (model->stage == STAGE_ENDING) {
        unloaded(model, model->why); /* it took too long */
    } else if (model->stage == STAGE_LOADED && model->lease_count == 0 && !model->upstream) {
        if (now < model->expires_ns)
            set_timer(model, model->expires_ns - now + 1000);
        else
            model_end(model, "ttl");
    }
}

/* ---- leases ---- */

/* It counts from here on; its owner hears of it from the loop. */
static void grant(struct model_wait *wait, bool loaded)
{
    struct model *model = wait->model;
    struct model_lease *lease = wait->lease;
    lease->granted = true;
    lease->next = model->leases;
    if (lease->next)
        lease->next->previous = lease;
    model->leases = lease;
    model->used = ++model->models->uses;
    evtimer_del(model->timer);
    if (wait->acquire.ttl_given) {
        model->ttl_given = true;
        model->ttl_ns = wait->acquire.ttl_ns;
    }
    wait->loaded = loaded;
    wait_settle(wait, NULL);
    if (model->lease_count++ == 0 && !model->upstream)
        models_balance(model->models);
}

void model_release(struct model_lease *lease)
{
    struct model *model = lease->model;
    bool lost = lease->lost;
    *(lease->previous ? &lease->previous->next : &model->leases) = lease->next;
    if (lease->next)
        lease->next->previous = lease->previous;
    mem_free(lease);
    if (lost)
        return;
    assert(model->lease_count > 0);
    model->lease_count--;
    model->used = ++model->models->uses;
    if (model->lease_count > 0 || model->upstream || model->stage != STAGE_LOADED)
        return;
    begin_to_expire(model);
    models_balance_soon(model->models);
}

struct backend *model_lease_backend(struct model_lease *lease)
{
    return lease->lost ? NULL : lease->model->backend;
}

struct model *model_lease_model(struct model_lease *lease)
{
    return lease->model;
}

/* ---- the worker's words ---- */

/* What it says of itself is kept, as a probe's words are. */
static int take_ready(struct model *model, struct hearth_error *err)
{
    const struct load_shape shape = model_shape(model, model_settings(model));
    struct figures figures;
    json_t *ready = ready_parse(model->backend->ready, err);
    int status = ready ? figures_read(ready, &figures, err) : HEARTH_E_FORMAT;
    if (!status)
        status = known_put(model->models, &model->key, &shape, ready, err);
    if (status) {
        json_decref(ready);
        return error_prefix(err, status, "%s", model->name);
    }
    model->ready = ready;
    if (model->blind)
        model_admitted_takes(model, &figures);
    return 0;
}

static void on_loaded(struct model *model)
{
    struct models *models = model->models;
    struct hearth_error err;
    if (take_ready(model, &err) != 0) {
        load_fail(model, &err);
        return;
    }
    model->stage = STAGE_LOADED;
    model->loading = 1;
    double seconds = (double)model->backend->load_ns / 1e9;
    log_line(models->options.log, LOG_INFO, 0, "loaded", "model=\"%s\" seconds=%.3f", model->name,
             seconds);
    metrics_add(models->options.metrics, METRIC_LOADS, "loaded", 1);
    metrics_observe(models->options.metrics, METRIC_LOAD_TIME, seconds);
    models_tell(models, "model.loaded", model, json_pack("{s:f}", "seconds", seconds));
    struct model_wait *wait = next_of_kind(model->waits.first, WAIT_LEASE);
    while (wait) {
        struct model_wait *next = next_of_kind(wait->next, WAIT_LEASE);
        grant(wait, true);
        wait = next;
    }
    if (model->lease_count == 0) {
        model->used = ++models->uses;
        begin_to_expire(model);
    }
    models_divide_cores(models);
    models_admit_waiting(models);
}

static void on_failed(struct model *model, const struct hearth_error *error)
{
    static const struct hearth_error unknown = {HEARTH_E_IO, "the worker ended"};
    struct hearth_error named = error && error->code ? *error : unknown;
    error_prefix(&named, named.code, "%s", model->name);
    if (model->stage == STAGE_LOADING) {
        if (named.code == HEARTH_E_LIMIT) /* a load has none but that of memory */
            named.code = HEARTH_E_MEMORY;
        load_fail(model, &named);
    } else if (model->stage == STAGE_ENDING) {
        unloaded(model, model->why);
    } else if (model->stage == STAGE_LOADED) {
        models_tell(model->models, "model.failed", model, json_pack("{s:s}", "error", named.text));
        unloaded(model, "failed");
    }
}

static void on_restarting(struct model *model, const struct hearth_error *error)
{
    struct models *models = model->models;
    model_holders_clear(models->holders, model);
    if (model->stage == STAGE_ENDING) {
        unloaded(model, model->why);
        return;
    }
    model->restarts++;
    models_tell(models, "worker.restarted", model,
                json_pack("{s:i, s:s}", "restarts", (int)model->restarts, "error",
                          error ? error->text : ""));
    models_divide_cores(models);
}

static void on_state(void *context, enum backend_state state, const struct hearth_error *error)
{
    struct model *model = context;
    switch (state) {
    case BACKEND_READY:
        if (model->stage == STAGE_LOADING)
            on_loaded(model);
        break;
    case BACKEND_RESTARTING:
        on_restarting(model, error);
        break;
    case BACKEND_FAILED:
    case BACKEND_ENDED:
        on_failed(model, error);
        break;
    default:
        break;
    }
}

/* Whoever is told may let go of its wait, or of others: the list is looked through from its
 * beginning again for the next one that was not told. */
static void tell_waits(struct model *model, double fraction)
{
    struct model_wait *wait = model->waits.first;
    while (wait) {
        if (wait->kind != WAIT_LEASE || !wait->acquire.on_loading || wait->told == fraction) {
            wait = wait->next;
            continue;
        }
        wait->told = fraction;
        wait->acquire.on_loading(wait->acquire.context, fraction);
        wait = model->waits.first;
    }
}

static void on_loading(void *context, double fraction)
{
    struct model *model = context;
    uint64_t now = os_monotonic_ns();
    if (model->stage != STAGE_LOADING || !(fraction >= model->loading))
        return;
    model->loading = fraction < 1 ? fraction : 1;
    if (now - model->loading_told_ns >= TELL_LOADING_NS) {
        model->loading_told_ns = now;
        models_tell(model->models, "model.loading", model,
                    json_pack("{s:f}", "fraction", model->loading));
    }
    tell_waits(model, model->loading);
}

static void on_use(void *context)
{
    struct model *model = context;
    if (model->stage != STAGE_LOADED)
        return;
    models_divide_cores(model->models);
    models_balance_soon(model->models);
}

/* ---- loads ---- */

static int start_with(struct model *model, const int *fds, uint64_t share, struct hearth_error *err)
{
    struct models *models = model->models;
    const struct model_settings *settings = model_settings(model);
    const struct load_shape shape = model_shape(model, settings);
    const char *chat_template = settings->chat_template;
    const struct local_options options = {
        .name = model->name,
        .fds = fds,
        .fd_count = model->file->parts,
        .start =
            {
                .no_mmap = settings->no_mmap,
                .mlock = settings->mlock,
                .chat_template = chat_template ? text_of(chat_template) : TEXT(""),
                .engine = {.threads = shape.threads,
                           .kv_type = shape.kv_type,
                           .memory_max = share,
                           .context = settings->context,
                           .fit = settings->fit},
                .idle_ns = settings->idle_ns ? settings->idle_ns : HEARTH_IDLE_AT_ONCE,
                .answers_max = settings->answers_max,
                .store = models->options.store != NULL,
            },
        .hang_ns = models->options.hang_ns,
        .store = models->options.store,
        .log = models->options.log,
        .metrics = models->options.metrics,
        .owner = {.on_state = on_state,
                  .on_loading = on_loading,
                  .on_use = on_use,
                  .context = model},
    };
    int status = models->options.start(models->base, &options, &model->backend, err);
    if (!status)
        model->threads = shape.threads;
    return status;
}

/* The file is another one than the one that was asked about: once more from the beginning. */
static void load_again(struct model *model)
{
    struct hearth_error err;
    model->admitted = model->blind = false;
    if (++model->tries < TRIES_MAX) {
        load_step(model);
        return;
    }
    error_set(&err, HEARTH_E_STATE, "%s: the file keeps changing", model->name);
    load_fail(model, &err);
}

static void start_worker(struct model *model, uint64_t share)
{
    struct hearth_error err;
    struct library_key key;
    int fds[LIBRARY_PARTS_MAX];
    if (!model->file) {
        load_again(model);
        return;
    }
    uint32_t parts = model->file->parts;
    int status = library_open_files(model->models->library, model->file, fds, &key, &err);
    uint32_t opened = status ? 0 : parts;
    bool same = !status && memcmp(&key, &model->key, sizeof key) == 0;
    if (same)
        status = start_with(model, fds, share, &err);
    for (uint32_t i = 0; i < opened; i++)
        os_file_close(fds[i]);
    if (status) {
        error_prefix(&err, status, "%s", model->name);
        load_fail(model, &err);
    } else if (!same) {
        load_again(model);
    } else {
        model->stage = STAGE_LOADING;
        model->share = share;
        models_pace_watch(model->models);
        models_balance(model->models); /* the others have less from here on */
    }
}

void models_admit_waiting(struct models *models)
{
    for (struct model *model = models->first; model; model = model->next) {
        uint64_t share;
        if (model->stage != STAGE_WANTED || model->inquiry)
            continue;
        if (!model->admitted)
            load_step(model);
        else if (model_may_start(model, &share))
            start_worker(model, share);
    }
}

static bool any_blind(const struct models *models)
{
    const struct model *model = models->first;
    while (model && !model->blind)
        model = model->next;
    return model != NULL;
}

void model_load_known(struct model *model, const struct known *known,
                      const struct hearth_error *error)
{
    struct hearth_error err;
    uint64_t share;
    if (model->stage != STAGE_WANTED || model->admitted)
        return;
    if (!error && any_blind(model->models))
        return; /* until it is known what is left */
    if (!error) {
        model->figures = known->figures;
        model->key = known->key;
    }
    if (!error && model_admit(model, &err) != 0)
        error = &err;
    if (error)
        load_fail(model, error);
    else if (model_may_start(model, &share))
        start_worker(model, share);
}

/* What a probe would say is said by the worker when it has loaded, or by its error. */
static void start_blindly(struct model *model)
{
    uint64_t share;
    model->key = model->file->key;
    if (model_may_start(model, &share))
        start_worker(model, share);
}

static void load_step(struct model *model)
{
    struct models *models = model->models;
    const struct load_shape shape = model_shape(model, model_settings(model));
    struct hearth_error err;
    models_look_at(model);
    if (!model->file || model->file->missing_part) {
        error_set(&err, HEARTH_E_MISSING, "%s: the file is no longer there", model->name);
        load_fail(model, &err);
        return;
    }
    const struct known *known = known_find(models, &model->file->key, &shape);
    if (known)
        model_load_known(model, known, NULL);
    else if (model_admit_blindly(model))
        start_blindly(model);
    else if (model_inquire(model, &shape, &model->inquiry, &err) != 0)
        load_fail(model, &err);
}

static void load_begin(struct model *model)
{
    model->stage = STAGE_WANTED;
    model->admitted = false;
    model->tries = 0;
    model->loading = 0;
    model->loading_told_ns = os_monotonic_ns();
    models_tell(model->models, "model.loading", model, json_pack("{s:f}", "fraction", 0.0));
    load_step(model);
}

/* ---- acquiring ---- */

static int set_override(struct model_settings **override, const struct model_settings *settings,
                        struct hearth_error *err)
{
    struct model_settings *copy = model_settings_copy(settings);
    if (!copy)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a model's settings");
    model_settings_free(*override);
    *override = copy;
    return 0;
}

/* Whether what is loaded, or will be, is what is asked for; what nobody uses may have to go for it.
 */
static int agree(struct model *model, const struct model_settings *settings,
                 struct hearth_error *err)
{
    bool idle = model->stage == STAGE_LOADED && model->lease_count == 0;
    if (idle)
        models_look_at(model);
    if (idle && model->file && memcmp(&model->file->key, &model->key, sizeof model->key) != 0) {
        model_end(model, "changed");
        idle = false;
    }
    if (!settings)
        return 0;
    bool ending = model->stage == STAGE_ENDING;
    struct model_settings **override = ending ? &model->next_override : &model->override;
    bool open = model->stage == STAGE_ABSENT || (ending && !is_waited_for(model));
    if (open || model_settings_load_alike(*override ? *override : model->own, settings))
        return set_override(override, settings, err);
    if (!idle)
        return error_set(err, HEARTH_E_STATE, "%s is %s with other settings", model->name,
                         model->stage == STAGE_LOADED ? "in use" : "being loaded");
    int status = set_override(&model->next_override, settings, err);
    if (!status)
        model_end(model, "asked");
    return status;
}

int model_acquire(struct model *model, const struct model_acquire *acquire, struct model_wait **out,
                  struct hearth_error *err)
{
    struct model_wait *wait;
    int status = 0;
    if (model->models->draining)
        return error_set(err, HEARTH_E_STATE, "the server is about to end");
    if (!model->upstream)
        status = agree(model, acquire->settings, err);
    if (status)
        return status;
    wait = wait_create(model, WAIT_LEASE);
    if (!wait)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    wait->acquire = *acquire;
    wait->told = -1;
    if (model->stage == STAGE_LOADED)
        grant(wait, false);
    else if (model->stage == STAGE_ABSENT)
        load_begin(model);
    *out = wait;
    return 0;
}

void models_forget(struct model_wait *wait)
{
    struct model *model = wait->model;
    struct model_lease *lease = wait->lease && wait->lease->granted ? wait->lease : NULL;
    bool was_lease = wait->kind == WAIT_LEASE;
    wait_free(wait);
    if (lease)
        model_release(lease);
    if (was_lease && model->stage == STAGE_WANTED && !is_waited_for(model)) {
        worker_gone(model); /* nothing was started yet */
        after_gone(model);
    }
}

int model_unload(struct model *model, bool force, struct hearth_error *err)
{
    struct hearth_error cause;
    if (model->upstream)
        return error_set(err, HEARTH_E_STATE, "%s is answered by another server", model->name);
    if (model->stage == STAGE_ABSENT || model->stage == STAGE_ENDING)
        return error_set(err, HEARTH_E_MISSING, "%s is not loaded", model->name);
    if (!force && model->stage != STAGE_LOADED)
        return error_set(err, HEARTH_E_STATE, "%s is being loaded", model->name);
    if (!force && model->lease_count > 0)
        return error_set(err, HEARTH_E_STATE, "%s is in use by %u request%s", model->name,
                         (unsigned)model->lease_count, model->lease_count > 1 ? "s" : "");
    if (model->stage != STAGE_LOADED) {
        error_set(&cause, HEARTH_E_CANCELLED, "%s: the load was cancelled", model->name);
        load_fail(model, &cause);
    } else if (model->lease_count > 0) {
        unloaded(model, "asked");
    } else {
        model_end(model, "asked");
    }
    return 0;
}

/* ---- the end ---- */

static void drain_model(struct model *model, uint64_t timeout_ns)
{
    struct hearth_error err;
    uint64_t grace_ns =
        timeout_ns < UINT64_MAX - DRAIN_GRACE_NS ? timeout_ns + DRAIN_GRACE_NS : UINT64_MAX;
    error_set(&err, HEARTH_E_STATE, "the server is about to end");
    if (model->stage == STAGE_WANTED || model->stage == STAGE_LOADING) {
        load_fail(model, &err);
        return;
    }
    settle_leases(model, &err);
    if (model->upstream || (model->stage != STAGE_LOADED && model->stage != STAGE_ENDING))
        return;
    model->why = model->stage == STAGE_ENDING ? model->why : "ending";
    model->stage = STAGE_ENDING;
    set_timer(model, grace_ns);
    model->backend->calls->drain(model->backend, timeout_ns);
}

void models_drain(struct models *models, uint64_t timeout_ns, void (*drained)(void *context),
                  void *context)
{
    models->draining = true;
    models->on_drained = drained;
    models->drained_context = context;
    for (struct model *model = models->first; model; model = model->next)
        drain_model(model, timeout_ns);
    check_drained(models);
}

void model_load_finish(struct model *model)
{
    struct backend *backend = model->backend, *dead = model->dead;
    model->stage = STAGE_ENDING; /* who is told may release leases: no time to live begins */
    model->backend = model->dead = NULL;
    if (backend)
        backend->calls->destroy(backend);
    if (dead)
        dead->calls->destroy(dead);
    waits_finish(&model->waits);
    while (model->leases) {
        struct model_lease *lease = model->leases;
        model->leases = lease->next;
        mem_free(lease);
    }
    json_decref(model->ready);
    model_settings_free(model->override);
    model_settings_free(model->next_override);
}
