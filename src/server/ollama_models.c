/* Ollama's API: which models there are, which are loaded, what they are. */

#include "server/ollama.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/catalogue.h"

static const char *text_or_empty(const char *text)
{
    return text ? text : "";
}

static json_t *details_of(const struct model_info *info)
{
    const char *family = catalogue_text(info->ready, "architecture");
    json_t *families = json_array();
    if (family)
        json_array_append_new(families, json_string(family));
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:s, s:s}", "parent_model", "", "format",
        info->upstream ? "" : "gguf", "family", text_or_empty(family), "families", families,
        "parameter_size", text_or_empty(catalogue_text(info->ready, "parameter_size")),
        "quantization_level", text_or_empty(catalogue_text(info->ready, "quantization")));
}

static json_t *capabilities_of(const struct model_info *info)
{
    json_t *out = json_pack("[s]", "completion");
    if (!info->upstream)
        json_array_append_new(out, json_string("embedding"));
    if (catalogue_reasoning(info->ready) != CATALOGUE_REASONING_NONE)
        json_array_append_new(out, json_string("thinking"));
    return out;
}

/* ---- all there are ---- */

struct listing {
    struct daemon *daemon;
    struct http_exchange *exchange;
};

static bool add_tag(void *context, struct model *model)
{
    struct model_info info;
    char modified[OLLAMA_TIME_SIZE];
    model_info(model, &info);
    ollama_time(info.modified_unix, 0, modified);
    json_t *entry = json_pack("{s:s, s:s, s:s, s:I, s:s, s:o, s:o}", "name", info.name, "model",
                              info.name, "modified_at", modified, "size", (json_int_t)info.bytes,
                              "digest", text_or_empty(info.digest), "details", details_of(&info),
                              "capabilities", capabilities_of(&info));
    json_array_append_new(context, entry); /* NULL: its name is no UTF-8, nobody can say it */
    return true;
}

static void on_all_known(void *context, const struct hearth_error *error)
{
    struct listing *listing = context;
    json_t *models = json_array();
    (void)error;
    if (models)
        models_visit(listing->daemon->models, add_tag, models);
    dialect_respond_json(listing->exchange, 200, json_pack("{s:o}", "models", models));
    mem_free(listing);
}

static void on_listing_gone(void *context)
{
    mem_free(context);
}

void ollama_tags(void *context, struct http_exchange *exchange)
{
    struct listing *listing = MEM_NEW(struct listing);
    if (!listing) {
        http_respond_error(exchange, 500, "no memory for the request");
        return;
    }
    *listing = (struct listing){context, exchange};
    struct catalogue_wait wait = {NULL, on_all_known, on_listing_gone, listing};
    catalogue_wait(context, exchange, &wait);
}

/* ---- those that are loaded ---- */

/* When a model is unloaded if nobody asks; for one that stays, as late as Ollama says. */
static void expiry_of(const struct model_info *info, char out[OLLAMA_TIME_SIZE])
{
    uint64_t now = os_monotonic_ns();
    uint64_t expires = info->expires_ns, left = INT64_MAX;
    if (info->leases > 0)
        expires = info->settings->ttl_ns == MODELS_TTL_NEVER ? MODELS_TTL_NEVER
                                                             : now + info->settings->ttl_ns;
    if (expires != MODELS_TTL_NEVER)
        left = expires > now ? expires - now : 0;
    ollama_time(os_unix_seconds() + (int64_t)(left / 1000000000u), (uint32_t)(left % 1000000000u),
                out);
}

struct loaded {
    uint64_t expires;
    json_t *entry;
};
struct loaded_list {
    struct loaded *models;
    size_t count, room;
};

static bool add_loaded(void *context, struct model *model)
{
    struct loaded_list *list = context;
    struct model_info info;
    char expires[OLLAMA_TIME_SIZE];
    model_info(model, &info);
    if (info.presence != MODEL_LOADED || info.upstream)
        return true;
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 8;
        struct loaded *models = mem_realloc_array(list->models, room, sizeof *models);
        if (!models)
            return false;
        list->models = models;
        list->room = room;
    }
    expiry_of(&info, expires);
    uint64_t bytes = info.use.private_bytes + info.use.mapped_bytes;
    json_t *entry =
        json_pack("{s:s, s:s, s:I, s:s, s:o, s:s, s:i, s:I}", "name", info.name, "model", info.name,
                  "size", (json_int_t)(bytes > info.bytes ? bytes : info.bytes), "digest",
                  text_or_empty(info.digest), "details", details_of(&info), "expires_at", expires,
                  "size_vram", 0, "context_length", (json_int_t)info.context);
    list->models[list->count++] =
        (struct loaded){info.leases > 0 ? UINT64_MAX : info.expires_ns, entry};
    return true;
}

/* What stays longest comes first. */
static int by_expiry(const void *a, const void *b)
{
    uint64_t first = ((const struct loaded *)a)->expires;
    uint64_t second = ((const struct loaded *)b)->expires;
    return first < second ? 1 : first > second ? -1 : 0;
}

void ollama_ps(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct loaded_list list = {0};
    json_t *models = json_array();
    models_visit(daemon->models, add_loaded, &list);
    if (list.count > 1)
        qsort(list.models, list.count, sizeof *list.models, by_expiry);
    for (size_t i = 0; i < list.count; i++)
        json_array_append_new(models, list.models[i].entry);
    mem_free(list.models);
    dialect_respond_json(exchange, 200, json_pack("{s:o}", "models", models));
}

/* ---- one of them ---- */

struct showing {
    struct http_exchange *exchange;
    struct model *model;
};

/* Lines of "name   value", of what is other than in no settings at all. */
static void put_parameters(const struct model_settings *settings, struct buffer *out)
{
    const struct hearth_sampling *sampling = &settings->sampling;
    const struct {
        const char *name;
        double value;
    } all[] = {
        {"temperature", (double)sampling->temperature},
        {"top_k", sampling->top_k},
        {"top_p", (double)sampling->top_p},
        {"min_p", (double)sampling->min_p},
        {"repeat_penalty", (double)sampling->repeat_penalty},
        {"repeat_last_n", sampling->penalty_last_n},
        {"frequency_penalty", (double)sampling->frequency_penalty},
        {"presence_penalty", (double)sampling->presence_penalty},
        {"num_ctx", settings->context},
        {"num_predict", settings->max_tokens},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        bool unset = all[i].value == 0 && strncmp(all[i].name, "num_", 4) == 0;
        if (!unset)
            buffer_format(out, "%s%-30s %.7g", out->size ? "\n" : "", all[i].name, all[i].value);
    }
}

/* As a Modelfile has them: the file's name stands for its path. */
static void put_modelfile(const struct model_info *info, const char *template, struct buffer *out)
{
    buffer_format(out, "FROM %s\n", info->name);
    if (template)
        buffer_format(out, "TEMPLATE \"\"\"%s\"\"\"\n", template);
    if (info->settings && info->settings->system)
        buffer_format(out, "SYSTEM \"\"\"%s\"\"\"\n", info->settings->system);
}

static json_t *model_info_of(const json_t *ready)
{
    json_t *out = json_copy(json_object_get(ready, "metadata"));
    if (!json_is_object(out)) {
        json_decref(out);
        out = json_object();
    }
    json_object_del(out, "general.name");
    json_object_del(out, "tokenizer.chat_template");
    if (ready && !json_object_get(out, "general.parameter_count"))
        json_object_set_new(out, "general.parameter_count",
                            json_integer((json_int_t)catalogue_number(ready, "parameters")));
    return out;
}

static json_t *show_of(const struct model_info *info)
{
    const struct model_settings *settings = info->settings;
    const char *template = settings && settings->chat_template
                               ? settings->chat_template
                               : catalogue_text(info->ready, "chat_template");
    char modified[OLLAMA_TIME_SIZE];
    struct buffer parameters, modelfile;
    buffer_init(&parameters, 1 << 12);
    buffer_init(&modelfile, (size_t)1 << 22);
    if (settings)
        put_parameters(settings, &parameters);
    put_modelfile(info, template, &modelfile);
    ollama_time(info->modified_unix, 0, modified);
    json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "modelfile",
                            text_or_empty(modelfile.failed ? NULL : modelfile.data), "parameters",
                            text_or_empty(parameters.data), "template", text_or_empty(template),
                            "modified_at", modified, "details", details_of(info), "model_info",
                            model_info_of(info->ready), "capabilities", capabilities_of(info));
    if (settings && settings->system)
        json_object_set_new(out, "system", json_string(settings->system));
    buffer_finish(&parameters);
    buffer_finish(&modelfile);
    return out;
}

static void on_shown(void *context, const struct hearth_error *error)
{
    struct showing *showing = context;
    struct model_info info;
    struct refusal refusal;
    if (error) {
        refusal_of(&refusal, error);
        dialect_refuse(showing->exchange, &refusal);
    } else {
        model_info(showing->model, &info);
        dialect_respond_json(showing->exchange, 200, show_of(&info));
    }
    mem_free(showing);
}

static void on_showing_gone(void *context)
{
    mem_free(context);
}

void ollama_show(void *context, struct http_exchange *exchange)
{
    struct model *model = NULL;
    json_t *object = ollama_parse(context, exchange, &model);
    struct showing *showing = object ? MEM_NEW(struct showing) : NULL;
    json_decref(object);
    if (!object)
        return;
    if (!showing) {
        http_respond_error(exchange, 500, "no memory for the request");
        return;
    }
    *showing = (struct showing){exchange, model};
    struct catalogue_wait wait = {model, on_shown, on_showing_gone, showing};
    catalogue_wait(context, exchange, &wait);
}

/* ---- what would change the files ---- */

/* Programs pull a model before they use it: where it is there already that is a success. */
void ollama_pull(void *context, struct http_exchange *exchange)
{
    struct model *model = NULL;
    struct daemon *daemon = context;
    struct refusal refusal = {0};
    json_t *object = fields_parse(http_exchange_request(exchange)->body, &refusal);
    const char *field = json_object_get(object, "model") ? "model" : "name";
    if (object && json_string_length(json_object_get(object, field)) == 0)
        refuse(&refusal, 400, "model", "model is required");
    else if (object)
        model = generation_find_model(daemon, object, field, &refusal);
    json_decref(object);
    if (model)
        dialect_respond_json(exchange, 200, json_pack("{s:s}", "status", "success"));
    else if (refusal.status == 404)
        http_respond_error(exchange, 404,
                           "models are not downloaded: put the GGUF file into a folder of models");
    else
        dialect_refuse(exchange, &refusal);
}

void ollama_without_changes(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_respond_error(exchange, 404,
                       "models are not changed from here: they are the GGUF files in the folders");
}
