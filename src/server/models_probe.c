/* What is known of files that are not loaded: asked of probes, two at once, and kept. */
#include <event2/event.h>

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/os.h"
#include "server/models_parts.h"

#define PROBES_MAX 2
#define READY_BYTES_MAX ((size_t)1 << 20)
#define FIGURE_MAX ((json_int_t)1 << 48) /* sums of a few do not overflow */

struct inquiry {
    struct model *model;
    struct inquiry *next;
    struct library_key key; /* of the files that were opened */
    struct load_shape shape;
    struct local_probe *probe; /* it runs; else it waits for its turn */
    bool quiet;                /* nobody waits for it */
};

bool load_shape_equal(const struct load_shape *a, const struct load_shape *b)
{
    return a->context == b->context && a->threads == b->threads && a->kv_type == b->kv_type &&
           a->no_mmap == b->no_mmap;
}

/* ---- what workers say ---- */

static bool read_figure(const json_t *object, const char *name, uint64_t *out)
{
    const json_t *value = json_object_get(object, name);
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || number > FIGURE_MAX)
        return false;
    *out = (uint64_t)number;
    return true;
}

int figures_read(const json_t *ready, struct figures *out, struct hearth_error *err)
{
    const json_t *estimate = json_object_get(ready, "estimate");
    struct figures figures = {0};
    uint64_t context;
    if (!read_figure(estimate, "context", &context) || context > UINT32_MAX ||
        !read_figure(estimate, "weights_bytes", &figures.weights) ||
        !read_figure(estimate, "kv_bytes", &figures.kv) ||
        !read_figure(estimate, "scratch_bytes", &figures.scratch) ||
        !read_figure(estimate, "fixed_bytes", &figures.fixed) ||
        !read_figure(ready, "kv_bytes_per_token", &figures.kv_per_token))
        return error_set(err, HEARTH_E_FORMAT, "what the worker says of its memory is no estimate");
    figures.context = (uint32_t)context;
    figures.total = figures.weights + figures.kv + figures.scratch + figures.fixed;
    *out = figures;
    return 0;
}

json_t *ready_parse(struct text text, struct hearth_error *err)
{
    json_error_t cause;
    if (text.size > READY_BYTES_MAX) {
        error_set(err, HEARTH_E_LIMIT, "what the worker says of the model has %zu bytes",
                  text.size);
        return NULL;
    }
    json_t *ready = json_loadb(text.data, text.size, 0, &cause);
    if (json_is_object(ready))
        return ready;
    json_decref(ready);
    error_set(err, HEARTH_E_FORMAT, "what the worker says of the model is no JSON object");
    return NULL;
}

/* ---- what is kept ---- */

const struct known *known_find(struct models *models, const struct library_key *key,
                               const struct load_shape *shape)
{
    for (size_t i = 0; i < models->known_count; i++) {
        struct known *known = &models->known[i];
        if (memcmp(&known->key, key, sizeof *key) == 0 &&
            (!shape || load_shape_equal(&known->shape, shape))) {
            known->used = ++models->uses;
            return known;
        }
    }
    return NULL;
}

static struct known *place_for(struct models *models, const struct library_key *key,
                               const struct load_shape *shape)
{
    struct known *least = &models->known[0];
    const struct known *same = known_find(models, key, shape);
    if (same)
        return &models->known[same - models->known];
    if (models->known_count < KNOWN_MAX)
        return &models->known[models->known_count++];
    for (size_t i = 1; i < KNOWN_MAX; i++) {
        if (models->known[i].used < least->used)
            least = &models->known[i];
    }
    return least;
}

int known_put(struct models *models, const struct library_key *key, const struct load_shape *shape,
              json_t *json, struct hearth_error *err)
{
    struct known known = {.key = *key, .shape = *shape, .ready = json, .used = ++models->uses};
    int status = figures_read(json, &known.figures, err);
    if (status)
        return status;
    struct known *place = place_for(models, key, shape);
    json_incref(json);
    json_decref(place->ready);
    *place = known;
    return 0;
}

/* ---- inquiries ---- */

static void unlink_inquiry(struct inquiry *inquiry)
{
    struct inquiry **at = &inquiry->model->models->inquiries;
    while (*at != inquiry)
        at = &(*at)->next;
    *at = inquiry->next;
}

/* Behind those that run or that somebody waits for; a quiet one behind all. */
static void queue_inquiry(struct inquiry *inquiry)
{
    struct inquiry **at = &inquiry->model->models->inquiries;
    while (*at && (inquiry->quiet || (*at)->probe || !(*at)->quiet))
        at = &(*at)->next;
    inquiry->next = *at;
    *at = inquiry;
}

static void settle_waits(struct inquiry *inquiry, const struct known *known,
                         const struct hearth_error *error)
{
    struct model_wait *wait = inquiry->model->waits.first, *next;
    for (; wait; wait = next) {
        next = wait->next;
        if (wait->inquiry != inquiry)
            continue;
        wait->inquiry = NULL;
        if (!error && wait->kind == WAIT_ESTIMATE)
            wait->json = model_estimate_json(inquiry->model, known, wait->fit);
        else if (!error)
            wait->json = json_incref(known->ready);
        wait_settle(wait, error);
    }
}

/* Tells all who wait for it, and is gone. */
static void end_inquiry(struct inquiry *inquiry, const struct hearth_error *error)
{
    struct model *model = inquiry->model;
    struct models *models = model->models;
    const struct known *known = error ? NULL : known_find(models, &inquiry->key, &inquiry->shape);
    assert(error || known);
    unlink_inquiry(inquiry);
    models->inquiries_running -= inquiry->probe != NULL;
    if (error && model->file)
        model->hopeless = model->file->key;
    settle_waits(inquiry, known, error);
    if (model->inquiry == inquiry) {
        model->inquiry = NULL;
        model_load_known(model, known, error);
    }
    mem_free(inquiry);
    event_active(models->probe_next, EV_TIMEOUT, 0);
}

static void on_probed(void *context, int code, struct text ready_or_cause)
{
    struct inquiry *inquiry = context;
    struct model *model = inquiry->model;
    struct hearth_error err = {0};
    json_t *ready = NULL;
    if (code)
        error_set(&err, code, "%s: %.*s", model->name, (int)ready_or_cause.size,
                  ready_or_cause.data ? ready_or_cause.data : "");
    else
        ready = ready_parse(ready_or_cause, &err);
    if (ready && known_put(model->models, &inquiry->key, &inquiry->shape, ready, &err) == 0)
        err.code = 0;
    json_decref(ready);
    end_inquiry(inquiry, err.code ? &err : NULL);
}

static int start_probe(struct inquiry *inquiry, struct hearth_error *err)
{
    struct model *model = inquiry->model;
    struct models *models = model->models;
    int fds[LIBRARY_PARTS_MAX];
    if (!model->file)
        return error_set(err, HEARTH_E_MISSING, "the file of %s is no longer there", model->name);
    uint32_t parts = model->file->parts;
    int status = library_open_files(models->library, model->file, fds, &inquiry->key, err);
    if (status)
        return error_prefix(err, status, "%s", model->name);
    const struct local_options options = {
        .name = model->name,
        .fds = fds,
        .fd_count = parts,
        .start = {.probe = true,
                  .no_mmap = inquiry->shape.no_mmap,
                  .engine = {.context = inquiry->shape.context,
                             .threads = inquiry->shape.threads,
                             .kv_type = inquiry->shape.kv_type}},
        .hang_ns = models->options.hang_ns,
        .log = models->options.log,
        .metrics = models->options.metrics,
    };
    status =
        models->options.probe(models->base, &options, on_probed, inquiry, &inquiry->probe, err);
    for (uint32_t i = 0; i < parts; i++)
        os_file_close(fds[i]);
    if (!status)
        models->inquiries_running++;
    return status;
}

void models_on_probe_next(evutil_socket_t fd, short what, void *context)
{
    struct models *models = context;
    (void)fd, (void)what;
    while (models->inquiries_running < PROBES_MAX) {
        struct inquiry *inquiry = models->inquiries;
        struct hearth_error err;
        while (inquiry && inquiry->probe)
            inquiry = inquiry->next;
        if (!inquiry)
            return;
        if (start_probe(inquiry, &err) != 0)
            end_inquiry(inquiry, &err);
    }
}

static struct inquiry *find_inquiry(const struct model *model, const struct load_shape *shape)
{
    struct inquiry *inquiry = model->models->inquiries;
    while (inquiry && !(inquiry->model == model && load_shape_equal(&inquiry->shape, shape)))
        inquiry = inquiry->next;
    return inquiry;
}

int model_inquire(struct model *model, const struct load_shape *shape, struct inquiry **out,
                  struct hearth_error *err)
{
    struct inquiry *inquiry = find_inquiry(model, shape);
    if (inquiry && inquiry->quiet) {
        unlink_inquiry(inquiry); /* before the others: somebody waits for it now */
        inquiry->quiet = false;
        queue_inquiry(inquiry);
    }
    if (!inquiry) {
        inquiry = MEM_NEW(struct inquiry);
        if (!inquiry)
            return error_set(err, HEARTH_E_MEMORY, "no memory to ask what %s is", model->name);
        *inquiry = (struct inquiry){.model = model, .shape = *shape};
        queue_inquiry(inquiry);
        event_active(model->models->probe_next, EV_TIMEOUT, 0);
    }
    *out = inquiry;
    return 0;
}

void model_inquire_quietly(struct model *model)
{
    struct models *models = model->models;
    const struct load_shape shape = model_shape(model, model->own);
    if (!model->file || model->file->missing_part || models->draining ||
        memcmp(&model->hopeless, &model->file->key, sizeof model->hopeless) == 0 ||
        known_find(models, &model->file->key, NULL))
        return;
    size_t expected = models->known_count;
    for (const struct inquiry *inquiry = models->inquiries; inquiry; inquiry = inquiry->next) {
        expected++;
        if (inquiry->model == model)
            return;
    }
    if (expected >= KNOWN_MAX)
        return;
    struct inquiry *inquiry = MEM_NEW(struct inquiry);
    if (!inquiry)
        return;
    *inquiry = (struct inquiry){.model = model, .shape = shape, .quiet = true};
    queue_inquiry(inquiry);
    event_active(models->probe_next, EV_TIMEOUT, 0);
}

void inquiries_finish(struct models *models)
{
    while (models->inquiries) {
        struct inquiry *inquiry = models->inquiries;
        if (inquiry->probe)
            models->options.probe_cancel(inquiry->probe);
        models->inquiries = inquiry->next;
        mem_free(inquiry);
    }
    for (size_t i = 0; i < models->known_count; i++)
        json_decref(models->known[i].ready);
    models->known_count = 0;
    models->inquiries_running = 0;
}

/* ---- asking ---- */

static int ask(struct model_wait *wait, const struct model_settings *settings,
               struct hearth_error *err)
{
    struct model *model = wait->model;
    const struct known *known;
    wait->shape = model_shape(model, settings);
    if (!model->file)
        return error_set(err, HEARTH_E_MISSING, "the file of %s is no longer there", model->name);
    known = library_is_current(model->models->library, model->file)
                ? known_find(model->models, &model->file->key, &wait->shape)
                : NULL;
    if (!known)
        return model_inquire(model, &wait->shape, &wait->inquiry, err);
    wait->json = wait->kind == WAIT_ESTIMATE ? model_estimate_json(model, known, wait->fit)
                                             : json_incref(known->ready);
    wait_settle(wait, NULL);
    return 0;
}

int model_probe(struct model *model,
                void (*on_known)(void *context, const json_t *ready,
                                 const struct hearth_error *err),
                void *context, struct model_wait **out, struct hearth_error *err)
{
    struct model_wait *wait = wait_create(model, WAIT_KNOWN);
    int status = 0;
    if (!wait)
        return error_set(err, HEARTH_E_MEMORY, "no memory to ask what %s is", model->name);
    wait->on_known = on_known;
    wait->context = context;
    if (model->stage == STAGE_LOADED && (model->ready || model->upstream)) {
        wait->json = model->ready ? json_incref(model->ready) : json_object();
        wait_settle(wait, NULL);
    } else {
        status = ask(wait, model->own, err);
    }
    if (status)
        models_forget(wait);
    else
        *out = wait;
    return status;
}

int model_estimate(struct model *model, const struct model_settings *settings,
                   void (*on_known)(void *context, const json_t *estimate,
                                    const struct hearth_error *err),
                   void *context, struct model_wait **out, struct hearth_error *err)
{
    struct model_wait *wait;
    if (model->upstream)
        return error_set(err, HEARTH_E_UNSUPPORTED, "%s is answered by another server",
                         model->name);
    settings = settings ? settings : model_settings(model);
    wait = wait_create(model, WAIT_ESTIMATE);
    if (!wait)
        return error_set(err, HEARTH_E_MEMORY, "no memory to ask what %s takes", model->name);
    wait->on_known = on_known;
    wait->context = context;
    wait->fit = settings->fit;
    int status = ask(wait, settings, err);
    if (status)
        models_forget(wait);
    else
        *out = wait;
    return status;
}
