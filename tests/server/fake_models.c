#define _GNU_SOURCE
#include "fake_models.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/os.h"
#include "server/http.h"

#define LOAD_STEPS 4
#define LOAD_STEP_MS 40
#define HELD_MAX 4096

enum nature { READY, COLD, SLOW, BROKEN };

struct model {
    struct models *models;
    const char *name;
    enum nature nature;
    struct backend *backend;
    struct event *timer; /* of its load */
    unsigned step;
    enum model_presence presence;
    bool probed;
    unsigned leases;
    uint64_t ttl_ns;
    struct model_settings settings;
    json_t *ready;
};

struct model_wait {
    struct models *models;
    struct model_wait *previous, *next;
    struct model *model;
    struct model_acquire acquire;
    void (*on_known)(void *context, const json_t *ready, const struct hearth_error *err);
    void *known_context;
    struct event *timer;
    bool waited; /* for a load */
    bool estimate;
};

struct model_lease {
    struct model *model;
};

struct held {
    char *key;
    struct model *model;
};

struct models {
    struct event_base *base;
    struct model list[4];
    struct model_wait *waits;
    struct held held[HELD_MAX];
    struct fake_models_counts counts;
};

/* ---- waiting ---- */

static void after_ms(struct event *timer, int ms)
{
    struct timeval time = {ms / 1000, (ms % 1000) * 1000};
    evtimer_add(timer, &time);
}

static void free_wait(struct model_wait *wait)
{
    if (wait->previous)
        wait->previous->next = wait->next;
    else
        wait->models->waits = wait->next;
    if (wait->next)
        wait->next->previous = wait->previous;
    wait->models->counts.waits--;
    event_free(wait->timer);
    free(wait);
}

static void give_lease(struct model_wait *wait)
{
    struct model *model = wait->model;
    struct model_acquire acquire = wait->acquire;
    struct model_lease *lease = calloc(1, sizeof *lease);
    bool waited = wait->waited;
    lease->model = model;
    model->leases++;
    model->models->counts.leases++;
    model->models->counts.acquired++;
    if (acquire.ttl_given)
        model->ttl_ns = acquire.ttl_ns;
    free_wait(wait);
    acquire.on_ready(acquire.context, lease, waited, NULL);
}

static void give_error(struct model_wait *wait)
{
    struct model_acquire acquire = wait->acquire;
    struct hearth_error err;
    error_set(&err, HEARTH_E_FORMAT, "%s: the file is damaged", wait->model->name);
    free_wait(wait);
    acquire.on_ready(acquire.context, NULL, false, &err);
}

static struct model_wait *waiting_for(struct model *model)
{
    struct model_wait *wait = model->models->waits;
    while (wait && (wait->model != model || wait->on_known))
        wait = wait->next;
    return wait;
}

static void on_load(evutil_socket_t fd, short what, void *context)
{
    struct model *model = context;
    struct model_wait *wait, *next;
    (void)fd, (void)what;
    model->step++;
    for (wait = model->models->waits; wait; wait = next) {
        next = wait->next;
        if (wait->model == model && !wait->on_known && wait->acquire.on_loading)
            wait->acquire.on_loading(wait->acquire.context, model->step / (double)LOAD_STEPS);
    }
    if (model->nature == BROKEN) {
        model->presence = MODEL_UNLOADED;
        while ((wait = waiting_for(model)) != NULL)
            give_error(wait);
    } else if (model->step == LOAD_STEPS && model->nature == COLD) {
        model->presence = MODEL_LOADED;
        while ((wait = waiting_for(model)) != NULL)
            give_lease(wait);
    } else {
        after_ms(model->timer, LOAD_STEP_MS);
    }
}

static void on_wait(evutil_socket_t fd, short what, void *context)
{
    struct model_wait *wait = context;
    (void)fd, (void)what;
    if (wait->on_known) {
        struct model_wait copy = *wait;
        copy.model->probed = copy.model->probed || !copy.estimate;
        free_wait(wait);
        json_t *estimate = json_pack("{s:s, s:b}", "model", copy.model->name, "fits", 1);
        copy.on_known(copy.known_context, copy.estimate ? estimate : copy.model->ready, NULL);
        json_decref(estimate);
    } else if (wait->model->presence == MODEL_LOADED) {
        give_lease(wait);
    }
}

static struct model_wait *new_wait(struct model *model)
{
    struct models *models = model->models;
    struct model_wait *wait = calloc(1, sizeof *wait);
    wait->models = models;
    wait->model = model;
    wait->timer = evtimer_new(models->base, on_wait, wait);
    wait->next = models->waits;
    if (models->waits)
        models->waits->previous = wait;
    models->waits = wait;
    models->counts.waits++;
    return wait;
}

int model_acquire(struct model *model, const struct model_acquire *acquire, struct model_wait **out,
                  struct hearth_error *err)
{
    struct model_wait *wait = new_wait(model);
    (void)err;
    wait->acquire = *acquire;
    if (model->presence == MODEL_UNLOADED) {
        model->presence = MODEL_LOADING;
        model->step = 0;
        after_ms(model->timer, LOAD_STEP_MS);
    }
    wait->waited = model->presence == MODEL_LOADING;
    if (!wait->waited)
        after_ms(wait->timer, 0);
    *out = wait;
    return 0;
}

int model_probe(struct model *model,
                void (*on_known)(void *context, const json_t *ready,
                                 const struct hearth_error *err),
                void *context, struct model_wait **out, struct hearth_error *err)
{
    struct model_wait *wait = new_wait(model);
    (void)err;
    wait->on_known = on_known;
    wait->known_context = context;
    after_ms(wait->timer, 0);
    *out = wait;
    return 0;
}

void models_forget(struct model_wait *wait)
{
    wait->models->counts.forgotten++;
    free_wait(wait);
}

struct backend *model_lease_backend(struct model_lease *lease)
{
    return lease->model->backend;
}

struct model *model_lease_model(struct model_lease *lease)
{
    return lease->model;
}

void model_release(struct model_lease *lease)
{
    lease->model->leases--;
    lease->model->models->counts.leases--;
    free(lease);
}

/* ---- the list ---- */

static void create_model(struct models *models, struct model *model, const char *name,
                         enum nature nature)
{
    *model = (struct model){.models = models, .name = name, .nature = nature};
    model->backend = fake_backend_create(models->base, &models->counts.backend);
    model->timer = evtimer_new(models->base, on_load, model);
    model->presence = nature == READY ? MODEL_LOADED : MODEL_UNLOADED;
    model->ttl_ns = UINT64_C(3600000000000);
    model->settings.sampling = (struct hearth_sampling){
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .typical_p = 1.0f,
        .top_n_sigma = -1.0f,
        .xtc_threshold = 0.1f,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = 64,
        .penalty_last_n = 64,
        .repeat_penalty = 1.0f,
        .mirostat_tau = 5.0f,
        .mirostat_eta = 0.1f,
    };
    model->ready = json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, "
        "s:{s:i, s:i, s:i, s:i, s:i, s:i, s:i}, s:i, s:{s:s}, s:i, s:s, s:i, s:s, s:i}",
        "architecture", "llama", "name", name, "size_label", "135M", "parameters", 134515008,
        "parameter_size", "134.5M", "quantization", "Q4_1", "file_bytes", 91000000, "vocabulary",
        49152, "context_train", 2048, "embedding_length", 4, "layers", 30, "window", 0, "bos_token",
        "<s>", "eos_token", "</s>", "chat_template",
        nature == COLD ? "{% if enable_thinking %}<think>{% endif %}" : "{{ messages }}",
        "identity", "0123456789abcdef", "pooling", "mean", "estimate", "context", 2048,
        "weights_bytes", 91000000, "kv_bytes", 47185920, "scratch_bytes", 1000000, "fixed_bytes",
        10000000, "private_bytes", 58185920, "total_bytes", 149185920, "kv_bytes_per_token", 23040,
        "metadata", "general.name", name, "context", 2048, "kv_type", "f16", "threads", 2, "tier",
        "avx2", "load_ns", 1000000);
    if (!model->ready)
        abort();
}

int models_create(struct event_base *base, const struct models_options *options,
                  struct models **out, struct hearth_error *err)
{
    struct models *models = calloc(1, sizeof *models);
    (void)options, (void)err;
    models->base = base;
    create_model(models, &models->list[0], "fake", READY);
    create_model(models, &models->list[1], "cold", COLD);
    create_model(models, &models->list[2], "slow", SLOW);
    create_model(models, &models->list[3], "broken", BROKEN);
    *out = models;
    return 0;
}

void models_destroy(struct models *models)
{
    while (models->waits)
        free_wait(models->waits);
    for (size_t i = 0; i < 4; i++) {
        models->list[i].backend->calls->destroy(models->list[i].backend);
        event_free(models->list[i].timer);
        json_decref(models->list[i].ready);
    }
    for (size_t i = 0; i < HELD_MAX; i++)
        free(models->held[i].key);
    free(models);
}

int models_add_upstream(struct models *models, const char *name, struct backend *backend,
                        struct hearth_error *err)
{
    (void)models, (void)backend;
    return error_set(err, HEARTH_E_STATE, "%s: the name is taken", name);
}

/* The model that has the file's name. */
int models_add_file(struct models *models, const char *path, struct model **out,
                    struct hearth_error *err)
{
    const char *slash = strrchr(path, '/');
    *out = models_find(models, text_of(slash ? slash + 1 : path), err);
    return *out ? 0 : err->code;
}

struct model *models_find(struct models *models, struct text name, struct hearth_error *err)
{
    if (name.size == 0)
        return &models->list[0];
    if (name.size > 7 && memcmp(name.data + name.size - 7, ":latest", 7) == 0)
        name.size -= 7;
    for (size_t i = 0; i < 4; i++) {
        if (http_text_is(name, models->list[i].name))
            return &models->list[i];
    }
    error_set(err, HEARTH_E_MISSING, "there is no model \"%.*s\"", TEXT_ARGS(name));
    return NULL;
}

void models_visit(struct models *models, bool (*visit)(void *context, struct model *model),
                  void *context)
{
    for (size_t i = 0; i < 4 && visit(context, &models->list[i]); i++)
        ;
}

void model_info(const struct model *model, struct model_info *out)
{
    *out = (struct model_info){
        .name = model->name,
        .bytes = 91000000,
        .modified_unix = 1700000000,
        .digest = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        .presence = model->presence,
        .loading = model->step / (double)LOAD_STEPS,
        .ready = model->presence == MODEL_LOADED || model->probed ? model->ready : NULL,
        .context = model->presence == MODEL_LOADED ? 2048 : 0,
        .expires_ns = model->ttl_ns == MODELS_TTL_NEVER ? MODELS_TTL_NEVER
                                                        : os_monotonic_ns() + model->ttl_ns,
        .leases = model->leases,
        .process = 4711,
        .use = {.sessions = model->presence == MODEL_LOADED},
        .settings = &model->settings,
    };
}

/* ---- conversations, unloading, memory ---- */

static struct held *held_as(struct models *models, struct text key)
{
    for (size_t i = 0; i < HELD_MAX; i++) {
        if (models->held[i].key && text_equal(text_of(models->held[i].key), key))
            return &models->held[i];
    }
    return NULL;
}

struct model *models_session_holder(struct models *models, struct text key)
{
    struct held *held = held_as(models, key);
    return held ? held->model : NULL;
}

void models_session_held(struct models *models, struct text key, struct model *by)
{
    struct held *held = held_as(models, key);
    for (size_t i = 0; !held && i < HELD_MAX; i++) {
        if (!models->held[i].key)
            held = &models->held[i];
    }
    assert(held);
    free(held->key);
    held->key = by ? strndup(key.data, key.size) : NULL;
    held->model = by;
}

int model_unload(struct model *model, bool force, struct hearth_error *err)
{
    if (model->presence != MODEL_LOADED)
        return error_set(err, HEARTH_E_MISSING, "%s is not loaded", model->name);
    if (model->leases > 0 && !force)
        return error_set(err, HEARTH_E_STATE, "%s is at work", model->name);
    fake_backend_break(model->backend, "the model was unloaded");
    model->presence = MODEL_UNLOADED;
    if (model->nature == READY)
        model->nature = COLD;
    return 0;
}

void models_memory(const struct models *models, struct models_memory *out)
{
    (void)models;
    *out = (struct models_memory){.limit = 1000000000,
                                  .weights = 91000000,
                                  .private_workers = 60000000,
                                  .private_daemon = 5000000};
}

int model_estimate(struct model *model, const struct model_settings *settings,
                   void (*on_known)(void *context, const json_t *estimate,
                                    const struct hearth_error *err),
                   void *context, struct model_wait **out, struct hearth_error *err)
{
    (void)settings;
    int status = model_probe(model, on_known, context, out, err);
    (*out)->estimate = true;
    return status;
}

void models_drain(struct models *models, uint64_t timeout_ns, void (*drained)(void *context),
                  void *context)
{
    (void)models, (void)timeout_ns;
    drained(context);
}

/* ---- for tests ---- */

struct fake_models_counts *fake_models_counts(struct models *models)
{
    return &models->counts;
}

void fake_models_break(struct models *models, const char *name, const char *cause)
{
    struct model *model = models_find(models, text_of(name), NULL);
    if (model)
        fake_backend_break(model->backend, cause);
}

const json_t *fake_models_last_ask(struct models *models, const char *name)
{
    struct model *model = models_find(models, text_of(name), NULL);
    return model ? fake_backend_last_ask(model->backend) : NULL;
}
