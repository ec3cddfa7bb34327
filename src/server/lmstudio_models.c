/* LM Studio's API: the models, loading and unloading them. */

#include "server/lmstudio.h"

#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/catalogue.h"

/* ---- what is said of a model ---- */

static json_t *text_or_null(const char *text)
{
    return text ? json_string(text) : json_null();
}

static json_t *quantization_of(const struct model_info *info)
{
    uint64_t parameters = catalogue_number(info->ready, "parameters");
    json_t *bits = json_null();
    if (parameters > 0) {
        /* to two places, as the names of formats have it */
        uint64_t hundredths = (uint64_t)((double)info->bytes * 800 / (double)parameters + 0.5);
        bits = json_real((double)hundredths / 100);
    }
    return json_pack("{s:o, s:o}", "name",
                     text_or_null(catalogue_text(info->ready, "quantization")), "bits_per_weight",
                     bits);
}

static const char *publisher_of(const json_t *ready)
{
    const json_t *metadata = json_object_get(ready, "metadata");
    const char *organization = catalogue_text(metadata, "general.organization");
    const char *author = catalogue_text(metadata, "general.author");
    return organization ? organization : author ? author : "";
}

static json_t *config_of(const struct model_info *info)
{
    json_t *config =
        json_pack("{s:I, s:b}", "context_length", (json_int_t)info->context, "flash_attention", 1);
    if (info->settings && info->settings->answers_max > 0)
        json_object_set_new(config, "parallel", json_integer(info->settings->answers_max));
    return config;
}

static json_t *capabilities_of(const struct model_info *info)
{
    json_t *out = json_pack("{s:b, s:b}", "vision", 0, "trained_for_tool_use", 0);
    json_t *reasoning = NULL;
    switch (catalogue_reasoning(info->ready)) {
    case CATALOGUE_REASONING_ALWAYS:
        reasoning = json_pack("{s:[s], s:s}", "allowed_options", "on", "default", "on");
        break;
    case CATALOGUE_REASONING_SWITCHED:
        reasoning = json_pack("{s:[s,s], s:s}", "allowed_options", "off", "on", "default", "on");
        break;
    case CATALOGUE_REASONING_LEVELS:
        reasoning = json_pack("{s:[s,s,s], s:s}", "allowed_options", "low", "medium", "high",
                              "default", "medium");
        break;
    default:
        break;
    }
    if (reasoning)
        json_object_set_new(out, "reasoning", reasoning);
    return out;
}

static json_t *model_of(const struct model_info *info)
{
    const char *name = catalogue_text(info->ready, "name");
    json_t *instances = json_array();
    if (info->presence == MODEL_LOADED)
        json_array_append_new(instances,
                              json_pack("{s:s, s:o}", "id", info->name, "config", config_of(info)));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:o, s:o, s:I, s:o, s:o, s:n}", "type",
                     "llm", "publisher", publisher_of(info->ready), "key", info->name,
                     "display_name", name && name[0] ? name : info->name, "architecture",
                     text_or_null(catalogue_text(info->ready, "architecture")), "quantization",
                     quantization_of(info), "size_bytes", (json_int_t)info->bytes, "params_string",
                     text_or_null(catalogue_text(info->ready, "parameter_size")),
                     "loaded_instances", instances, "max_context_length",
                     (json_int_t)catalogue_number(info->ready, "context_train"), "format",
                     info->upstream ? json_null() : json_string("gguf"), "capabilities",
                     capabilities_of(info), "description");
}

static json_t *v0_model_of(const struct model_info *info)
{
    const char *architecture = catalogue_text(info->ready, "architecture");
    const char *quantization = catalogue_text(info->ready, "quantization");
    bool loaded = info->presence == MODEL_LOADED;
    json_t *out =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "id", info->name, "object",
                  "model", "type", "llm", "publisher", publisher_of(info->ready), "arch",
                  architecture ? architecture : "", "compatibility_type", "gguf", "quantization",
                  quantization ? quantization : "", "state", loaded ? "loaded" : "not-loaded",
                  "max_context_length", (json_int_t)catalogue_number(info->ready, "context_train"));
    if (loaded)
        json_object_set_new(out, "loaded_context_length", json_integer(info->context));
    return out;
}

static const char *v0_stop_of(const struct work_end *end)
{
    switch ((enum hearth_stop)end->stop) {
    case HEARTH_STOP_LENGTH:
        return "maxPredictedTokensReached";
    case HEARTH_STOP_STRING:
        return "stopStringFound";
    case HEARTH_STOP_CONTEXT:
        return "contextLengthReached";
    case HEARTH_STOP_CANCELLED:
        return "userStopped";
    case HEARTH_STOP_ERROR:
        return "failed";
    default:
        return "eosFound";
    }
}

void lmstudio_v0_put_stats(json_t *body, const struct model *model, const struct work_end *end)
{
    struct model_info info;
    model_info(model, &info);
    const char *architecture = catalogue_text(info.ready, "architecture");
    const char *quantization = catalogue_text(info.ready, "quantization");
    const char *tier = catalogue_text(info.ready, "tier");
    double seconds = (double)end->answer_ns / 1e9;
    json_object_set_new(body, "stats",
                        json_pack("{s:f, s:f, s:f, s:s}", "tokens_per_second",
                                  seconds > 0 ? (double)end->decode_tokens / seconds : 0.0,
                                  "time_to_first_token",
                                  (double)(end->queued_ns + end->first_token_ns) / 1e9,
                                  "generation_time", seconds, "stop_reason", v0_stop_of(end)));
    json_object_set_new(body, "model_info",
                        json_pack("{s:s, s:s, s:s, s:I}", "arch", architecture ? architecture : "",
                                  "quant", quantization ? quantization : "", "format",
                                  info.upstream ? "" : "gguf", "context_length",
                                  (json_int_t)info.context));
    json_object_set_new(body, "runtime",
                        json_pack("{s:s+, s:s, s:[s]}", "name", "hearth-", tier ? tier : "cpu",
                                  "version", HEARTH_VERSION, "supported_formats", "gguf"));
}

/* ---- lists, and one of them ---- */

struct listing {
    struct daemon *daemon;
    struct http_exchange *exchange;
    struct model *only; /* NULL: all */
    json_t *(*entry)(const struct model_info *info);
    json_t *entries;
};

static bool add_entry(void *context, struct model *model)
{
    struct listing *listing = context;
    struct model_info info;
    model_info(model, &info);
    /* NULL where the name is no UTF-8, which nobody can say */
    json_array_append_new(listing->entries, listing->entry(&info));
    return true;
}

static void on_known(void *context, const struct hearth_error *error)
{
    struct listing *listing = context;
    struct model_info info;
    (void)error; /* what cannot be read is there all the same */
    if (listing->only) {
        model_info(listing->only, &info);
        dialect_respond_json(listing->exchange, 200, listing->entry(&info));
    } else {
        listing->entries = json_array();
        models_visit(listing->daemon->models, add_entry, listing);
        dialect_respond_json(
            listing->exchange, 200,
            listing->entry == model_of
                ? json_pack("{s:o}", "models", listing->entries)
                : json_pack("{s:s, s:o}", "object", "list", "data", listing->entries));
    }
    mem_free(listing);
}

static void on_gone(void *context)
{
    mem_free(context);
}

static void list(struct daemon *daemon, struct http_exchange *exchange, struct model *only,
                 json_t *(*entry)(const struct model_info *info))
{
    struct listing *listing = MEM_NEW(struct listing);
    if (!listing) {
        http_respond_error(exchange, 507, "no memory for the request");
        return;
    }
    *listing = (struct listing){daemon, exchange, only, entry, NULL};
    struct catalogue_wait wait = {only, on_known, on_gone, listing};
    catalogue_wait(daemon, exchange, &wait);
}

void lmstudio_models(void *context, struct http_exchange *exchange)
{
    list(context, exchange, NULL, model_of);
}

void lmstudio_v0_models(void *context, struct http_exchange *exchange)
{
    list(context, exchange, NULL, v0_model_of);
}

void lmstudio_v0_model(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct hearth_error error;
    struct refusal refusal;
    struct model *model =
        models_find(daemon->models, http_exchange_request(exchange)->name, &error);
    if (model) {
        list(daemon, exchange, model, v0_model_of);
        return;
    }
    refusal_of(&refusal, &error);
    dialect_refuse(exchange, &refusal);
}

/* ---- loading ---- */

struct load_fields {
    struct text model;
    int64_t context, ttl;
    bool context_given, ttl_given, echo;
};

#define AT(member) offsetof(struct load_fields, member)
const struct field lmstudio_load_fields[] = {
    {"model", FIELD_TEXT, 0, 0, AT(model), 0, true, NULL, "The name of a model."},
    {"context_length", FIELD_INT, 1, INT32_MAX, AT(context), AT(context_given), false, NULL,
     "Tokens of a conversation at most; the model's own limit where it is not said."},
    {"ttl", FIELD_INT, 0, INT32_MAX, AT(ttl), AT(ttl_given), false, NULL,
     "Seconds without use after which it is unloaded; it stays where that is not said."},
    {"echo_load_config", FIELD_BOOL, 0, 0, AT(echo), 0, false, NULL,
     "Whether the answer says how it was loaded."},
};

struct loading {
    struct http_exchange *exchange;
    struct model *model;
    struct model_wait *wait;
    uint64_t began_ns;
    bool echo;
};

static void on_loaded(void *context, struct model_lease *lease, bool loaded,
                      const struct hearth_error *error)
{
    struct loading *loading = context;
    struct model_info info;
    struct refusal refusal;
    if (error) {
        refusal_of(&refusal, error);
        dialect_refuse(loading->exchange, &refusal);
        mem_free(loading);
        return;
    }
    model_info(loading->model, &info);
    double seconds = loaded ? (double)(os_monotonic_ns() - loading->began_ns) / 1e9 : 0.0;
    json_t *answer = json_pack("{s:s, s:s, s:f, s:s}", "type", "llm", "instance_id", info.name,
                               "load_time_seconds", seconds, "status", "loaded");
    if (loading->echo)
        json_object_set_new(answer, "load_config", config_of(&info));
    model_release(lease);
    dialect_respond_json(loading->exchange, 200, answer);
    mem_free(loading);
}

static void on_loading_gone(void *context)
{
    struct loading *loading = context;
    models_forget(loading->wait);
    mem_free(loading);
}

/* One that is loaded by hand stays until it is unloaded by hand, or the budget needs its memory. */
static void load(struct http_exchange *exchange, struct model *model,
                 const struct load_fields *fields)
{
    struct model_info info;
    struct model_settings settings;
    struct hearth_error error;
    struct refusal refusal;
    struct loading *loading = MEM_NEW(struct loading);
    if (!loading) {
        http_respond_error(exchange, 507, "no memory for the request");
        return;
    }
    *loading = (struct loading){exchange, model, NULL, os_monotonic_ns(), fields->echo};
    model_info(model, &info);
    struct model_acquire acquire = {
        .ttl_given = true,
        .ttl_ns = fields->ttl_given ? (uint64_t)fields->ttl * 1000000000u : MODELS_TTL_NEVER,
        .on_ready = on_loaded,
        .context = loading};
    if (fields->context_given && info.settings) {
        settings = *info.settings;
        settings.context = (uint32_t)fields->context;
        acquire.settings = &settings;
    }
    http_exchange_watch(exchange, (struct http_watch){on_loading_gone, NULL, loading});
    if (model_acquire(model, &acquire, &loading->wait, &error) != 0) {
        refusal_of(&refusal, &error);
        dialect_refuse(exchange, &refusal);
        mem_free(loading);
    }
}

void lmstudio_load(void *context, struct http_exchange *exchange)
{
    struct model *model = NULL;
    struct refusal refusal = {0};
    struct load_fields fields = {0};
    json_t *object = lmstudio_parse(context, exchange, "model", &model);
    if (!object)
        return;
    if (fields_read(object, lmstudio_load_fields,
                    sizeof lmstudio_load_fields / sizeof *lmstudio_load_fields, &fields, &refusal))
        dialect_refuse(exchange, &refusal);
    else
        load(exchange, model, &fields);
    json_decref(object);
}

void lmstudio_unload(void *context, struct http_exchange *exchange)
{
    struct model *model = NULL;
    struct model_info info;
    struct hearth_error error;
    struct refusal refusal = {0};
    json_t *object = lmstudio_parse(context, exchange, "instance_id", &model);
    if (!object)
        return;
    json_decref(object);
    model_info(model, &info);
    if (model_unload(model, false, &error) == 0) {
        dialect_respond_json(exchange, 200, json_pack("{s:s}", "instance_id", info.name));
        return;
    }
    refusal_of(&refusal, &error);
    strcpy(refusal.param, "instance_id");
    dialect_refuse(exchange, &refusal);
}
