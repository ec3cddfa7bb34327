/* hearth's own paths: models. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/catalogue.h"
#include "server/hearth_api.h"

#define AT(member) offsetof(struct load_fields, member)

struct load_fields {
    bool no_mmap, mlock, stream;
    int64_t context, threads, answers;
    int kv, fit;
    const json_t *ttl, *idle;
};

/* As enum hearth_kv_type and enum hearth_fit count. */
static const char *const kv_types[] = {"f16", "q8_0", "q4_0", "q8_0:q4_0", NULL};
static const char *const fits[] = {"refuse", "shrink", NULL};

const struct field hearth_api_load_fields[HEARTH_API_LOAD_FIELDS] = {
    {.name = "context",
     .type = FIELD_INT,
     .min = 0,
     .max = 16777216,
     .at = AT(context),
     .help = "Tokens that one conversation can have; 0: the model's own limit."},
    {.name = "kv",
     .type = FIELD_CHOICE,
     .choices = kv_types,
     .at = AT(kv),
     .help = "How the KV cache is stored."},
    {.name = "threads",
     .type = FIELD_INT,
     .min = 0,
     .max = 1024,
     .at = AT(threads),
     .help = "0: as many as there are cores to use."},
    {.name = "no_mmap",
     .type = FIELD_BOOL,
     .at = AT(no_mmap),
     .help = "Reads the file into private memory, in place of using it where it is."},
    {.name = "mlock", .type = FIELD_BOOL, .at = AT(mlock), .help = "Keeps it in memory."},
    {.name = "fit",
     .type = FIELD_CHOICE,
     .choices = fits,
     .at = AT(fit),
     .help = "A context that does not fit the memory is refused, or made shorter."},
    {.name = "answers",
     .type = FIELD_INT,
     .min = 0,
     .max = 256,
     .at = AT(answers),
     .help = "Computed at once; 0: 8."},
    {.name = "ttl",
     .type = FIELD_ANY,
     .at = AT(ttl),
     .help = "Time to live after the last use: seconds, or as \"10m\"; negative: for ever."},
    {.name = "idle",
     .type = FIELD_ANY,
     .at = AT(idle),
     .help = "After so long conversations give back their memory: seconds, or as \"10m\"."},
    {.name = "stream",
     .type = FIELD_BOOL,
     .at = AT(stream),
     .help = "Answers events: loading {progress}, then loaded or error."},
};

struct unload_fields {
    bool force;
};
const struct field hearth_api_unload_fields[HEARTH_API_UNLOAD_FIELDS] = {
    {.name = "force",
     .type = FIELD_BOOL,
     .at = offsetof(struct unload_fields, force),
     .help = "Also while it is used: its answers end."},
};

/* ---- what is said of a model ---- */

json_t *hearth_api_use(const struct work_state *use)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "private_bytes",
        (json_int_t)use->private_bytes, "mapped_bytes", (json_int_t)use->mapped_bytes, "peak_bytes",
        (json_int_t)use->peak_bytes, "kv_bytes", (json_int_t)use->kv_bytes, "cached_bytes",
        (json_int_t)use->cached_bytes, "scratch_bytes", (json_int_t)use->scratch_bytes, "sessions",
        (json_int_t)use->sessions, "waiting", (json_int_t)use->waiting, "answers",
        (json_int_t)use->running, "pressure", (json_int_t)use->pressure, "prompt_tokens",
        (json_int_t)use->prompt_tokens, "cached_tokens", (json_int_t)use->cached_tokens,
        "answer_tokens", (json_int_t)use->answer_tokens);
}

static json_t *expiry_json(const struct model_info *info)
{
    uint64_t now = os_monotonic_ns();
    if (info->presence != MODEL_LOADED || info->leases > 0 || info->expires_ns == MODELS_TTL_NEVER)
        return json_null();
    return json_real(info->expires_ns > now ? (double)(info->expires_ns - now) / 1e9 : 0.0);
}

static json_t *duration_json(uint64_t ns)
{
    return ns == MODELS_TTL_NEVER ? json_integer(-1) : json_real((double)ns / 1e9);
}

static json_t *settings_json(const struct model_settings *settings)
{
    if (!settings)
        return json_object();
    return json_pack("{s:I, s:I, s:I, s:s, s:s, s:b, s:b, s:o, s:o}", "context",
                     (json_int_t)settings->context, "threads", (json_int_t)settings->threads,
                     "answers", (json_int_t)settings->answers_max, "kv",
                     kv_types[settings->kv_type], "fit", fits[settings->fit], "no_mmap",
                     settings->no_mmap, "mlock", settings->mlock, "ttl",
                     duration_json(settings->ttl_ns), "idle", duration_json(settings->idle_ns));
}

static json_t *model_json(const struct model_info *info)
{
    static const char *const states[] = {"unloaded", "loading", "loaded"};
    json_t *json = json_pack("{s:s, s:s, s:b, s:I, s:I, s:s?, s:f, s:I, s:o, s:I, s:i, s:I, s:o}",
                             "name", info->name, "state", states[info->presence], "upstream",
                             info->upstream, "bytes", (json_int_t)info->bytes, "modified_unix",
                             (json_int_t)info->modified_unix, "digest", info->digest, "progress",
                             info->presence == MODEL_LOADED ? 1.0 : info->loading, "context",
                             (json_int_t)info->context, "expires_in_s", expiry_json(info), "users",
                             (json_int_t)info->leases, "pid", info->process, "restarts",
                             (json_int_t)info->restarts, "settings", settings_json(info->settings));
    json_object_set_new(json, "file",
                        json_pack("{s:I, s:I}", "device", (json_int_t)info->file.device, "inode",
                                  (json_int_t)info->file.inode));
    json_object_update_new(json, hearth_api_use(&info->use));
    return json;
}

static bool append_model(void *context, struct model *model)
{
    struct model_info info;
    model_info(model, &info);
    json_array_append_new(context, model_json(&info));
    return true;
}

void hearth_api_models(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    json_t *models = json_array();
    models_visit(daemon->models, append_model, models);
    dialect_respond_json(exchange, 200, json_pack("{s:o}", "models", models));
}

/* The model that the path names; NULL: that is answered. */
static struct model *named(struct daemon *daemon, struct http_exchange *exchange)
{
    struct hearth_error error;
    struct refusal refusal;
    struct model *model =
        models_find(daemon->models, http_exchange_request(exchange)->name, &error);
    if (!model) {
        refusal_of(&refusal, &error);
        snprintf(refusal.param, sizeof refusal.param, "model");
        dialect_refuse(exchange, &refusal);
    }
    return model;
}

/* ---- POST models ---- */

struct add_fields {
    struct text path;
};
const struct field hearth_api_add_fields[HEARTH_API_ADD_FIELDS] = {
    {.name = "path",
     .type = FIELD_TEXT,
     .max = 4096,
     .at = offsetof(struct add_fields, path),
     .required = true,
     .help = "The absolute path of a GGUF file, or of the first part of one."},
};

void hearth_api_add(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct add_fields fields = {{NULL, 0}};
    struct hearth_error error;
    struct model *model;
    struct model_info info;
    char path[4097];
    if (!http_exchange_access(exchange)->names_paths) {
        http_respond_error(exchange, 403,
                           "files can be named by their path over the daemon's own "
                           "socket alone");
        return;
    }
    json_t *body = hearth_api_body(exchange, hearth_api_add_fields, HEARTH_API_ADD_FIELDS, &fields);
    if (!body)
        return;
    /* a name with NUL in it ends there, and is not found or another one that the client may name */
    snprintf(path, sizeof path, "%.*s", (int)fields.path.size, fields.path.data);
    if (models_add_file(daemon->models, path, &model, &error) != 0) {
        hearth_api_fail(exchange, &error);
    } else {
        model_info(model, &info);
        dialect_respond_json(exchange, 200, model_json(&info));
    }
    json_decref(body);
}

/* ---- GET models/{name} ---- */

struct inspection {
    struct http_exchange *exchange;
    struct model *model;
};

static void on_known(void *context, const struct hearth_error *error)
{
    struct inspection *inspection = context;
    struct model_info info;
    if (error) {
        hearth_api_fail(inspection->exchange, error);
    } else {
        model_info(inspection->model, &info);
        json_t *json = model_json(&info);
        json_object_set_new(json, "about", info.ready ? json_deep_copy(info.ready) : json_object());
        dialect_respond_json(inspection->exchange, 200, json);
    }
    mem_free(inspection);
}

static void on_inspection_gone(void *context)
{
    mem_free(context);
}

void hearth_api_model(void *context, struct http_exchange *exchange)
{
    struct model *model = named(context, exchange);
    struct inspection *inspection = model ? MEM_NEW(struct inspection) : NULL;
    if (!model)
        return;
    if (!inspection) {
        hearth_api_no_memory(exchange);
        return;
    }
    *inspection = (struct inspection){exchange, model};
    const struct catalogue_wait wait = {model, on_known, on_inspection_gone, inspection};
    catalogue_wait(context, exchange, &wait);
}

/* ---- settings of a load ---- */

static bool read_duration(const json_t *value, const char *name, uint64_t *ns,
                          struct refusal *refusal)
{
    return fields_duration(value, ns) ||
           refuse(refusal, 400, name,
                  "%s must be a duration: seconds, or a text as \"10m\"; negative: for ever",
                  name) == 0;
}

/* The model's settings with what the body says of them; NULL: it is refused, and answered. */
static json_t *read_settings(struct http_exchange *exchange, struct model *model,
                             struct load_fields *fields, struct model_settings *settings)
{
    struct refusal refusal = {0};
    struct model_info info;
    model_info(model, &info);
    *settings = info.settings ? *info.settings : (struct model_settings){0};
    *fields = (struct load_fields){.no_mmap = settings->no_mmap,
                                   .mlock = settings->mlock,
                                   .context = settings->context,
                                   .threads = settings->threads,
                                   .answers = settings->answers_max,
                                   .kv = (int)settings->kv_type,
                                   .fit = (int)settings->fit};
    json_t *body =
        hearth_api_body(exchange, hearth_api_load_fields, HEARTH_API_LOAD_FIELDS, fields);
    if (!body)
        return NULL;
    settings->no_mmap = fields->no_mmap;
    settings->mlock = fields->mlock;
    settings->context = (uint32_t)fields->context;
    settings->threads = (uint32_t)fields->threads;
    settings->answers_max = (uint32_t)fields->answers;
    settings->kv_type = (enum hearth_kv_type)fields->kv;
    settings->fit = (enum hearth_fit)fields->fit;
    if ((!fields->ttl || read_duration(fields->ttl, "ttl", &settings->ttl_ns, &refusal)) &&
        (!fields->idle || read_duration(fields->idle, "idle", &settings->idle_ns, &refusal)))
        return body;
    json_decref(body);
    dialect_refuse(exchange, &refusal);
    return NULL;
}

/* ---- POST models/{name}/estimate and /load ---- */

struct loading {
    struct http_exchange *exchange;
    struct model *model;
    struct model_wait *wait;
    uint64_t started_ns;
    bool stream, begun;
};

static void on_loading_gone(void *context)
{
    struct loading *loading = context;
    if (loading->wait)
        models_forget(loading->wait);
    mem_free(loading);
}

/* Watches the exchange; NULL: answered. */
static struct loading *begin(struct http_exchange *exchange, struct model *model)
{
    struct loading *loading = MEM_NEW(struct loading);
    if (!loading) {
        hearth_api_no_memory(exchange);
        return NULL;
    }
    *loading =
        (struct loading){.exchange = exchange, .model = model, .started_ns = os_monotonic_ns()};
    http_exchange_watch(exchange, (struct http_watch){on_loading_gone, NULL, loading});
    return loading;
}

static void on_estimate(void *context, const json_t *estimate, const struct hearth_error *err)
{
    struct loading *loading = context;
    if (err)
        hearth_api_fail(loading->exchange, err);
    else
        dialect_respond_json(loading->exchange, 200, json_deep_copy(estimate));
    mem_free(loading);
}

void hearth_api_estimate(void *context, struct http_exchange *exchange)
{
    struct model *model = named(context, exchange);
    struct model_settings settings;
    struct load_fields fields;
    struct hearth_error error;
    json_t *body = model ? read_settings(exchange, model, &fields, &settings) : NULL;
    struct loading *loading = body ? begin(exchange, model) : NULL;
    if (loading &&
        model_estimate(model, &settings, on_estimate, loading, &loading->wait, &error) != 0) {
        hearth_api_fail(exchange, &error);
        mem_free(loading);
    }
    json_decref(body);
}

static void send_progress(struct loading *loading, double fraction)
{
    if (!loading->begun)
        http_stream_begin_events(loading->exchange);
    loading->begun = true;
    dialect_event(loading->exchange, "loading", json_pack("{s:f}", "progress", fraction));
}

static void on_loading(void *context, double fraction)
{
    struct loading *loading = context;
    if (loading->stream)
        send_progress(loading, fraction);
}

static json_t *loaded_json(const struct loading *loading, bool waited)
{
    struct model_info info;
    model_info(loading->model, &info);
    json_t *json = model_json(&info);
    double seconds = (double)(os_monotonic_ns() - loading->started_ns) / 1e9;
    json_object_set_new(json, "load_time_s", json_real(waited ? seconds : 0.0));
    return json;
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err)
{
    struct loading *loading = context;
    struct http_exchange *exchange = loading->exchange;
    struct refusal refusal;
    if (lease)
        model_release(lease);
    if (err && !loading->begun) {
        hearth_api_fail(exchange, err);
    } else if (err) {
        refusal_of(&refusal, err);
        dialect_event(exchange, "error",
                      dialect_error_of(http_exchange_request(exchange)->path, &refusal));
        http_stream_end(exchange);
    } else if (loading->stream) {
        if (!loading->begun)
            http_stream_begin_events(exchange);
        dialect_event(exchange, "loaded", loaded_json(loading, loaded));
        http_stream_end(exchange);
    } else {
        dialect_respond_json(exchange, 200, loaded_json(loading, loaded));
    }
    mem_free(loading);
}

/* Settings of the load itself; a time to live alone is no reason to load anew. */
static bool changes(const struct model_settings *settings, struct model *model)
{
    struct model_info info;
    model_info(model, &info);
    const struct model_settings *now = info.settings;
    return !now || settings->context != now->context || settings->threads != now->threads ||
           settings->answers_max != now->answers_max || settings->kv_type != now->kv_type ||
           settings->fit != now->fit || settings->no_mmap != now->no_mmap ||
           settings->mlock != now->mlock || settings->idle_ns != now->idle_ns;
}

void hearth_api_load(void *context, struct http_exchange *exchange)
{
    struct model *model = named(context, exchange);
    struct model_settings settings;
    struct load_fields fields;
    struct hearth_error error;
    json_t *body = model ? read_settings(exchange, model, &fields, &settings) : NULL;
    struct loading *loading = body ? begin(exchange, model) : NULL;
    if (loading) {
        loading->stream = fields.stream;
        const struct model_acquire acquire = {
            .settings = changes(&settings, model) ? &settings : NULL,
            .ttl_given = fields.ttl != NULL,
            .ttl_ns = settings.ttl_ns,
            .on_loading = on_loading,
            .on_ready = on_ready,
            .context = loading,
        };
        if (model_acquire(model, &acquire, &loading->wait, &error) != 0) {
            hearth_api_fail(exchange, &error);
            mem_free(loading);
        }
    }
    json_decref(body);
}

/* ---- POST models/{name}/unload ---- */

void hearth_api_unload(void *context, struct http_exchange *exchange)
{
    struct model *model = named(context, exchange);
    struct unload_fields fields = {false};
    struct hearth_error error;
    struct model_info info;
    json_t *body = model ? hearth_api_body(exchange, hearth_api_unload_fields,
                                           HEARTH_API_UNLOAD_FIELDS, &fields)
                         : NULL;
    if (!body)
        return;
    if (model_unload(model, fields.force, &error) != 0) {
        hearth_api_fail(exchange, &error);
    } else {
        model_info(model, &info);
        dialect_respond_json(exchange, 200, model_json(&info));
    }
    json_decref(body);
}
