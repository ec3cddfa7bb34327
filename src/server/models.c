/* The list of models and their names. */
#include "server/models.h"

#include <event2/event.h>

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/os.h"
#include "base/sum.h"
#include "server/models_parts.h"

#define NAME_ASKED_MAX 512 /* bytes; no name is as long */
#define NAMES_SAID 5

/* ---- the table ---- */

static size_t bucket_of(struct text name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < name.size; i++)
        hash = (hash ^ (unsigned char)library_fold(name.data[i])) * UINT64_C(0x100000001b3);
    return (hash ^ hash >> 32) % MODEL_BUCKETS;
}

static bool is_named(const struct model *model, struct text name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (library_fold(model->name[i]) != library_fold(name.data[i]) || !model->name[i])
            return false;
    }
    return model->name[name.size] == '\0';
}

static struct model *lookup(const struct models *models, struct text name)
{
    struct model *model = models->buckets[bucket_of(name)];
    while (model && !is_named(model, name))
        model = model->next_in_bucket;
    return model;
}

static void free_model(struct model *model)
{
    if (model->timer)
        event_free(model->timer);
    mem_free(model->name);
    mem_free(model);
}

/* Behind those whose names come before; they come sorted, so mostly behind the last. */
static void link_model(struct models *models, struct model *model)
{
    struct model **at = &models->first,
                 **bucket = &models->buckets[bucket_of(text_of(model->name))];
    if (models->last && strcmp(models->last->name, model->name) < 0)
        at = &models->last->next;
    while (*at && strcmp((*at)->name, model->name) < 0)
        at = &(*at)->next;
    model->next = *at;
    *at = model;
    if (!model->next)
        models->last = model;
    model->next_in_bucket = *bucket;
    *bucket = model;
    models->count++;
}

static struct model *add_model(struct models *models, const char *name)
{
    struct model *model = MEM_NEW(struct model);
    size_t size = strlen(name) + 1;
    if (!model)
        return NULL;
    model->models = models;
    model->name = mem_alloc(size);
    model->timer = evtimer_new(models->base, models_on_timer, model);
    if (!model->name || !model->timer) {
        free_model(model);
        return NULL;
    }
    memcpy(model->name, name, size);
    model->own = models_settings_of(models->settings, name);
    link_model(models, model);
    return model;
}

/* ---- the files behind it ---- */

static void set_file(struct model *model, const struct library_model *file)
{
    unsigned char more[SUM_BYTES];
    model->file = file;
    model->bytes = file->bytes;
    model->modified_unix = file->modified_unix;
    sum_to_text(file->key.sum, model->digest);
    sum_of(model->digest, 2 * SUM_BYTES, more);
    sum_to_text(more, model->digest + 2 * SUM_BYTES);
}

/* After the library's list has become another one. Models that it has no more keep their place:
 * somebody may hold on to them. */
static void take_list(struct models *models)
{
    for (struct model *model = models->first; model; model = model->next)
        model->file = NULL;
    for (size_t i = 0; i < library_count(models->library); i++) {
        const struct library_model *file = library_at(models->library, i);
        struct model *model = lookup(models, text_of(file->name));
        if (!model)
            model = add_model(models, file->name);
        if (!model || model->upstream)
            log_line(models->options.log, LOG_WARNING, 0, "models", "left_out=\"%s\"", file->name);
        else
            set_file(model, file);
    }
}

static bool refresh(struct models *models)
{
    bool changed = library_refresh(models->library);
    if (changed)
        take_list(models);
    return changed;
}

void models_look_at(struct model *model)
{
    if (!model->file || !library_is_current(model->models->library, model->file))
        refresh(model->models);
}

int models_add_file(struct models *models, const char *path, struct model **out,
                    struct hearth_error *err)
{
    const struct library_model *file;
    int status = library_add_file(models->library, path, &file, err);
    take_list(models);
    if (status)
        return status;
    *out = lookup(models, text_of(file->name));
    return *out ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for a model");
}

/* ---- looking up ---- */

bool model_is_resident(const struct model *model)
{
    return !model->upstream && (model->stage != STAGE_ABSENT || model->dead);
}

static bool is_visible(const struct model *model)
{
    return model->upstream || (model->file && !model->file->missing_part) ||
           model->stage == STAGE_LOADED || model->stage == STAGE_LOADING;
}

static struct text without_end(struct text name, struct text end)
{
    if (name.size > end.size) {
        size_t at = name.size - end.size, n = 0;
        while (n < end.size && library_fold(name.data[at + n]) == end.data[n])
            n++;
        if (n == end.size)
            name.size = at;
    }
    return name;
}

static struct model *find_in_list(const struct models *models, struct text name)
{
    struct text plain = without_end(name, TEXT(":latest"));
    struct model *model = lookup(models, name);
    if (!model)
        model = lookup(models, plain);
    return model ? model : lookup(models, without_end(plain, TEXT(".gguf")));
}

static int say_missing(const struct models *models, struct text name, struct hearth_error *err)
{
    char names[320] = "";
    size_t at = 0, count = 0;
    for (const struct model *model = models->first; model; model = model->next) {
        if (is_visible(model) && ++count <= NAMES_SAID && at < sizeof names)
            at += (size_t)snprintf(names + at, sizeof names - at, "%s%.60s", count > 1 ? ", " : "",
                                   model->name);
    }
    if (count == 0)
        return error_set(err, HEARTH_E_MISSING, "there is no model at all");
    if (count > NAMES_SAID && at < sizeof names)
        snprintf(names + at, sizeof names - at, " and %zu more", count - NAMES_SAID);
    return error_set(err, HEARTH_E_MISSING, "there is no model \"%.*s\"; there %s %s",
                     name.size < 100 ? (int)name.size : 100, name.data ? name.data : "",
                     count > 1 ? "are" : "is", names);
}

/* The only one that there is, or that is loaded. */
static struct model *find_only(struct models *models, struct hearth_error *err)
{
    struct model *only = NULL, *loaded = NULL;
    size_t count = 0, loaded_count = 0;
    refresh(models);
    for (struct model *model = models->first; model; model = model->next) {
        if (!is_visible(model))
            continue;
        only = model;
        count++;
        if (!model->upstream && model->stage != STAGE_ABSENT) {
            loaded = model;
            loaded_count++;
        }
    }
    if (count == 1)
        return only;
    if (loaded_count == 1)
        return loaded;
    error_set(err, HEARTH_E_MISSING,
              count == 0 ? "there is no model at all" : "no model is named, and there are several");
    return NULL;
}

struct model *models_find(struct models *models, struct text name, struct hearth_error *err)
{
    if (name.size == 0)
        return find_only(models, err);
    struct model *model = name.size <= NAME_ASKED_MAX ? find_in_list(models, name) : NULL;
    if (model && !model->upstream && model->stage == STAGE_ABSENT)
        models_look_at(model);
    else if (!model && refresh(models) && name.size <= NAME_ASKED_MAX)
        model = find_in_list(models, name);
    if (model && is_visible(model))
        return model;
    if (model && model->file)
        error_set(err, HEARTH_E_MISSING, "of %s, part %u of %u is missing", model->name,
                  (unsigned)model->file->missing_part, (unsigned)model->file->parts);
    else
        say_missing(models, name, err);
    return NULL;
}

void models_visit(struct models *models, bool (*visit)(void *context, struct model *model),
                  void *context)
{
    refresh(models);
    for (struct model *model = models->first; model; model = model->next) {
        if (!is_visible(model))
            continue;
        model_inquire_quietly(model);
        if (!visit(context, model))
            return;
    }
}

/* ---- what is known of one ---- */

const struct model_settings *model_settings(const struct model *model)
{
    return model->override ? model->override : model->own;
}

struct load_shape model_shape(const struct model *model, const struct model_settings *settings)
{
    return (struct load_shape){
        .context = settings->context,
        .threads = settings->threads ? settings->threads : model->models->cores,
        .kv_type = settings->kv_type,
        .no_mmap = settings->no_mmap,
    };
}

static enum model_presence presence_of(const struct model *model)
{
    switch (model->stage) {
    case STAGE_WANTED:
    case STAGE_LOADING:
        return MODEL_LOADING;
    case STAGE_LOADED:
        return MODEL_LOADED;
    default:
        return MODEL_UNLOADED;
    }
}

void model_info(const struct model *model, struct model_info *out)
{
    const struct known *known =
        model->ready || !model->file ? NULL : known_find(model->models, &model->file->key, NULL);
    const struct backend *backend = model->backend;
    *out = (struct model_info){
        .name = model->name,
        .upstream = model->upstream,
        .bytes = model->bytes,
        .modified_unix = model->modified_unix,
        .file = model->file ? model->file->id : (struct os_file_id){0},
        .digest = model->digest,
        .presence = presence_of(model),
        .loading = model->loading,
        .ready = model->ready ? model->ready
                 : known      ? known->ready
                              : NULL,
        .expires_ns = model->upstream ? MODELS_TTL_NEVER : model->expires_ns,
        .leases = model->lease_count,
        .settings = model_settings(model),
    };
    if (!backend)
        return;
    out->context = (uint32_t)json_integer_value(json_object_get(model->ready, "context"));
    out->use = backend->use;
    out->process = backend->process;
    out->restarts = backend->restarts;
}

void models_tell(struct models *models, const char *type, const struct model *model, json_t *more)
{
    json_t *data = json_pack("{s:s}", "model", model->name);
    if (data && more)
        json_object_update_missing(data, more);
    json_decref(more);
    events_tell(models->options.events, type, data);
}

/* ---- upstreams ---- */

int models_add_upstream(struct models *models, const char *name, struct backend *backend,
                        struct hearth_error *err)
{
    struct model *model;
    size_t size = strlen(name);
    if (size == 0 || size >= NAME_ASKED_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "a model's name has %zu bytes", size);
    if (lookup(models, text_of(name)))
        return error_set(err, HEARTH_E_STATE, "there is a model called %s already", name);
    model = add_model(models, name);
    if (!model)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a model");
    model->upstream = true;
    model->backend = backend;
    model->stage = STAGE_LOADED;
    model->ready = backend->ready.size ? ready_parse(backend->ready, NULL) : NULL;
    return 0;
}

/* ---- all of it ---- */

static int create_events(struct models *models, struct hearth_error *err)
{
    models->settle = evtimer_new(models->base, models_on_settle, models);
    models->reap = evtimer_new(models->base, models_on_reap, models);
    models->probe_next = evtimer_new(models->base, models_on_probe_next, models);
    models->balance = evtimer_new(models->base, models_on_balance, models);
    models->holders = model_holders_create();
    if (!models->settle || !models->reap || !models->probe_next || !models->balance ||
        !models->holders)
        return error_set(err, HEARTH_E_MEMORY, "no memory for models");
    return models_pace_create(models, err);
}

static void fill_options(struct models *models, const struct models_options *options)
{
    struct models_options *own = &models->options;
    *own = *options;
    own->memory_max = own->memory_max ? own->memory_max : os_total_memory() / 2;
    models->cores = os_default_threads();
    own->start = own->start ? own->start : local_start;
    own->probe = own->probe ? own->probe : local_probe_start;
    own->probe_cancel = own->probe_cancel ? own->probe_cancel : local_probe_cancel;
    own->folders = own->files = NULL; /* the library has them */
    own->settings_path = NULL;
}

int models_create(struct event_base *base, const struct models_options *options,
                  struct models **out, struct hearth_error *err)
{
    const struct library_options library = {
        .folders = options->folders,
        .files = options->files,
        .folder_count = options->folder_count,
        .file_count = options->file_count,
        .log = options->log,
    };
    struct models *models = MEM_NEW(struct models);
    if (!models)
        return error_set(err, HEARTH_E_MEMORY, "no memory for models");
    models->base = base;
    fill_options(models, options);
    int status = create_events(models, err);
    if (!status)
        status = models_settings_read(options->settings_path, &options->defaults, &models->settings,
                                      err);
    if (!status)
        status = library_open(&library, &models->library, err);
    if (status) {
        models_destroy(models);
        return status;
    }
    take_list(models);
    *out = models;
    return 0;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

void models_destroy(struct models *models)
{
    if (!models)
        return;
    inquiries_finish(models);
    waits_finish(&models->settled);
    for (struct model *model = models->first; model; model = model->next)
        model_load_finish(model);
    while (models->first) {
        struct model *model = models->first;
        models->first = model->next;
        free_model(model);
    }
    models_pace_destroy(models);
    free_event(models->settle);
    free_event(models->reap);
    free_event(models->probe_next);
    free_event(models->balance);
    model_holders_destroy(models->holders);
    library_close(models->library);
    models_settings_free(models->settings);
    mem_free(models);
}
