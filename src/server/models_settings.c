/* The settings file: {"defaults": {…}, "models": {"NAME": {…}}}. What it says is meant: a key that
 * is not known, or a value out of its range, is an error that names it. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/os.h"
#include "server/fields.h"
#include "server/generation.h"
#include "server/models_parts.h"

#define FILE_BYTES_MAX ((uint64_t)4 << 20)
#define TEXT_BYTES_MAX (1 << 20)
#define CONTEXT_MAX (1 << 24)
#define THREADS_MAX 1024
#define ANSWERS_MAX 1024

struct named {
    char *name;
    struct model_settings *settings;
};

struct models_settings {
    struct model_settings *defaults;
    struct named *models;
    size_t count;
};

/* ---- copies ---- */

struct model_settings *model_settings_copy(const struct model_settings *settings)
{
    size_t template_size = settings->chat_template ? strlen(settings->chat_template) + 1 : 0;
    size_t system_size = settings->system ? strlen(settings->system) + 1 : 0;
    struct model_settings *copy = mem_alloc(sizeof *copy + template_size + system_size);
    if (!copy)
        return NULL;
    char *texts = (char *)(copy + 1);
    *copy = *settings;
    copy->sampling.dry_breakers = NULL;
    copy->sampling.dry_breaker_count = 0;
    copy->sampling.bias = NULL;
    copy->sampling.bias_count = 0;
    if (template_size) {
        memcpy(texts, settings->chat_template, template_size);
        copy->chat_template = texts;
    }
    if (system_size) {
        memcpy(texts + template_size, settings->system, system_size);
        copy->system = texts + template_size;
    }
    return copy;
}

void model_settings_free(struct model_settings *settings)
{
    mem_free(settings);
}

static bool texts_alike(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool model_settings_load_alike(const struct model_settings *a, const struct model_settings *b)
{
    return a->context == b->context && a->threads == b->threads &&
           a->answers_max == b->answers_max && a->kv_type == b->kv_type && a->fit == b->fit &&
           a->no_mmap == b->no_mmap && a->mlock == b->mlock && a->idle_ns == b->idle_ns &&
           texts_alike(a->chat_template, b->chat_template);
}

/* ---- reading ---- */

struct setting_values {
    bool mmap, mlock;
    int64_t context, threads, answers_max, max_tokens;
    int kv, fit;
    struct text chat_template, system;
    const json_t *ttl, *idle;
};

static const char *const kv_names[] = {
    [HEARTH_KV_F16] = "f16",
    [HEARTH_KV_Q8_0] = "q8_0",
    [HEARTH_KV_Q4_0] = "q4_0",
    [HEARTH_KV_Q8_0_Q4_0] = "q8_0:q4_0",
    NULL,
};
static const char *const fit_names[] = {
    [HEARTH_FIT_REFUSE] = "refuse",
    [HEARTH_FIT_SHRINK] = "shrink",
    NULL,
};

#define AT(member) offsetof(struct setting_values, member)
static const struct field setting_fields[] = {
    {"context", FIELD_INT, 0, CONTEXT_MAX, AT(context), 0, false, NULL, NULL},
    {"threads", FIELD_INT, 0, THREADS_MAX, AT(threads), 0, false, NULL, NULL},
    {"answers_max", FIELD_INT, 0, ANSWERS_MAX, AT(answers_max), 0, false, NULL, NULL},
    {"max_tokens", FIELD_INT, 0, UINT32_MAX, AT(max_tokens), 0, false, NULL, NULL},
    {"kv", FIELD_CHOICE, 0, 0, AT(kv), 0, false, kv_names, NULL},
    {"fit", FIELD_CHOICE, 0, 0, AT(fit), 0, false, fit_names, NULL},
    {"mmap", FIELD_BOOL, 0, 0, AT(mmap), 0, false, NULL, NULL},
    {"mlock", FIELD_BOOL, 0, 0, AT(mlock), 0, false, NULL, NULL},
    {"ttl", FIELD_ANY, 0, 0, AT(ttl), 0, false, NULL, NULL},
    {"idle", FIELD_ANY, 0, 0, AT(idle), 0, false, NULL, NULL},
    {"chat_template", FIELD_TEXT, 0, TEXT_BYTES_MAX, AT(chat_template), 0, false, NULL, NULL},
    {"system", FIELD_TEXT, 0, TEXT_BYTES_MAX, AT(system), 0, false, NULL, NULL},
};
#undef AT
#define SETTING_COUNT (sizeof setting_fields / sizeof *setting_fields)

static const struct field *find_field(const struct field *fields, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fields[i].name, name) == 0)
            return &fields[i];
    }
    return NULL;
}

/* Of the fields of requests those that one number says: lists, seeds and what ends an answer are
 * for requests alone. */
static bool is_sampling(const char *name)
{
    const struct field *field = find_field(generation_fields, generation_field_count, name);
    return field && strcmp(name, "seed") != 0 &&
           (field->type == FIELD_INT || field->type == FIELD_REAL);
}

static int check_keys(const json_t *object, struct hearth_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (!find_field(setting_fields, SETTING_COUNT, key) && !is_sampling(key))
            return error_set(err, HEARTH_E_ARGUMENT, "\"%s\" is no setting", key);
        if (json_is_null(value))
            return error_set(err, HEARTH_E_ARGUMENT, "\"%s\" is null", key);
    }
    return 0;
}

static int read_duration(const json_t *value, const char *name, uint64_t *ns,
                         struct hearth_error *err)
{
    if (!value)
        return 0;
    if (json_is_string(value) && strcmp(json_string_value(value), "never") == 0)
        *ns = MODELS_TTL_NEVER;
    else if (!fields_duration(value, ns))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "%s must be a duration: \"10m\", seconds, or \"never\"", name);
    return 0;
}

static int read_sampling(const json_t *object, struct hearth_sampling *sampling,
                         struct hearth_error *err)
{
    struct generation_request request = {.ask = {.sampling = *sampling}};
    struct refusal refusal = {0};
    if (generation_read_fields(&request, object, &refusal) != 0) {
        if (err)
            *err = refusal.error;
        return HEARTH_E_ARGUMENT;
    }
    *sampling = request.ask.sampling;
    return 0;
}

/* A file's bytes, NUL-terminated. */
static int read_file(int fd, uint64_t size_max, char **out, size_t *out_size,
                     struct hearth_error *err)
{
    uint64_t size;
    int status = os_file_size(fd, &size, err);
    if (status)
        return status;
    if (size > size_max)
        return error_set(err, HEARTH_E_LIMIT, "has %llu bytes, more than %llu",
                         (unsigned long long)size, (unsigned long long)size_max);
    char *bytes = mem_alloc((size_t)size + 1);
    if (!bytes)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the settings");
    status = os_file_read_at(fd, bytes, (size_t)size, 0, err);
    if (!status && memchr(bytes, '\0', (size_t)size))
        status = error_set(err, HEARTH_E_FORMAT, "is no text");
    if (status) {
        mem_free(bytes);
        return status;
    }
    bytes[size] = '\0';
    *out = bytes;
    *out_size = (size_t)size;
    return 0;
}

/* "@name": a file beside the settings file. */
static int read_template(const char *path, const char *name, char **out, struct hearth_error *err)
{
    char folder[4096] = ".";
    const char *slash = strrchr(path, '/');
    int above, fd;
    size_t size;
    if (slash && snprintf(folder, sizeof folder, "%.*s", (int)(slash - path + 1), path) >=
                     (int)sizeof folder)
        return error_set(err, HEARTH_E_LIMIT, "its path is too long");
    if (strchr(name, '/'))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "chat_template: \"@%s\" must be a file beside the settings", name);
    int status = os_folder_open_to_read(-1, folder, &above, err);
    if (status)
        return status;
    status = os_folder_open_entry(above, name, &fd, err);
    os_file_close(above);
    if (!status) {
        status = read_file(fd, TEXT_BYTES_MAX, out, &size, err);
        os_file_close(fd);
    }
    return status ? error_prefix(err, status, "chat_template: \"@%s\"", name) : 0;
}

static void put_values(struct setting_values *values, const struct model_settings *settings)
{
    *values = (struct setting_values){
        .mmap = !settings->no_mmap,
        .mlock = settings->mlock,
        .context = settings->context,
        .threads = settings->threads,
        .answers_max = settings->answers_max,
        .max_tokens = settings->max_tokens,
        .kv = (int)settings->kv_type,
        .fit = (int)settings->fit,
    };
}

static void take_values(const struct setting_values *values, struct model_settings *settings)
{
    settings->no_mmap = !values->mmap;
    settings->mlock = values->mlock;
    settings->context = (uint32_t)values->context;
    settings->threads = (uint32_t)values->threads;
    settings->answers_max = (uint32_t)values->answers_max;
    settings->max_tokens = (uint32_t)values->max_tokens;
    settings->kv_type = (enum hearth_kv_type)values->kv;
    settings->fit = (enum hearth_fit)values->fit;
    if (values->chat_template.data)
        settings->chat_template = values->chat_template.size ? values->chat_template.data : NULL;
    if (values->system.data)
        settings->system = values->system.size ? values->system.data : NULL;
}

/* `base` with what an object says in its place; allocated. */
static int read_settings(const json_t *object, const char *path, const struct model_settings *base,
                         struct model_settings **out, struct hearth_error *err)
{
    struct model_settings settings = *base;
    struct setting_values values;
    struct refusal refusal = {0};
    char *read = NULL;
    put_values(&values, base);
    if (!json_is_object(object))
        return error_set(err, HEARTH_E_ARGUMENT, "is no object");
    int status = check_keys(object, err);
    if (!status && fields_read(object, setting_fields, SETTING_COUNT, &values, &refusal) != 0)
        status = error_set(err, HEARTH_E_ARGUMENT, "%s", refusal.error.text);
    if (!status)
        status = read_sampling(object, &settings.sampling, err);
    if (!status)
        status = read_duration(values.ttl, "ttl", &settings.ttl_ns, err);
    if (!status)
        status = read_duration(values.idle, "idle", &settings.idle_ns, err);
    if (status)
        return status;
    take_values(&values, &settings);
    if (values.chat_template.size > 0 && values.chat_template.data[0] == '@') {
        status = read_template(path, values.chat_template.data + 1, &read, err);
        settings.chat_template = read;
    }
    struct model_settings *copy = status ? NULL : model_settings_copy(&settings);
    mem_free(read);
    if (!copy)
        return status ? status : error_set(err, HEARTH_E_MEMORY, "no memory for the settings");
    *out = copy;
    return 0;
}

/* ---- the file ---- */

static bool names_alike(const char *a, const char *b)
{
    while (*a && library_fold(*a) == library_fold(*b)) {
        a++;
        b++;
    }
    return library_fold(*a) == library_fold(*b);
}

static int read_models(const json_t *models, const char *path, struct models_settings *settings,
                       struct hearth_error *err)
{
    const char *name;
    json_t *object;
    if (models && !json_is_object(models))
        return error_set(err, HEARTH_E_ARGUMENT, "\"models\" is no object");
    settings->models = mem_zalloc_array(json_object_size(models), sizeof *settings->models);
    if (!settings->models)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the settings");
    json_object_foreach((json_t *)(uintptr_t)models, name, object)
    {
        struct named *named = &settings->models[settings->count];
        size_t size = strlen(name) + 1;
        int status = read_settings(object, path, settings->defaults, &named->settings, err);
        if (status)
            return error_prefix(err, status, "models: \"%s\"", name);
        named->name = mem_alloc(size);
        settings->count++;
        if (!named->name)
            return error_set(err, HEARTH_E_MEMORY, "no memory for the settings");
        memcpy(named->name, name, size);
    }
    return 0;
}

static int read_all(const json_t *file, const char *path, const struct model_settings *defaults,
                    struct models_settings *settings, struct hearth_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)file, key, value)
    {
        if (strcmp(key, "defaults") != 0 && strcmp(key, "models") != 0)
            return error_set(err, HEARTH_E_ARGUMENT,
                             "\"%s\" is not known; there are \"defaults\" and \"models\"", key);
    }
    const json_t *given = json_object_get(file, "defaults");
    if (given) {
        struct model_settings *read;
        int status = read_settings(given, path, defaults, &read, err);
        if (status)
            return error_prefix(err, status, "defaults");
        model_settings_free(settings->defaults);
        settings->defaults = read;
    }
    return read_models(json_object_get(file, "models"), path, settings, err);
}

static int parse_file(const char *path, const struct model_settings *defaults,
                      struct models_settings *settings, struct hearth_error *err)
{
    json_error_t cause;
    char *bytes;
    size_t size;
    int fd;
    int status = os_open_path(path, &fd, err);
    if (status)
        return status;
    status = read_file(fd, FILE_BYTES_MAX, &bytes, &size, err);
    os_file_close(fd);
    if (status)
        return status;
    json_t *file = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &cause);
    mem_free(bytes);
    if (!file)
        return error_set(err, HEARTH_E_FORMAT, "is not valid JSON (line %d, column %d): %s",
                         cause.line, cause.column, cause.text);
    if (json_is_object(file))
        status = read_all(file, path, defaults, settings, err);
    else
        status = error_set(err, HEARTH_E_FORMAT, "is no JSON object");
    json_decref(file);
    return status;
}

int models_settings_read(const char *path, const struct model_settings *defaults,
                         struct models_settings **out, struct hearth_error *err)
{
    struct models_settings *settings = MEM_NEW(struct models_settings);
    if (settings)
        settings->defaults = model_settings_copy(defaults);
    if (!settings || !settings->defaults) {
        models_settings_free(settings);
        return error_set(err, HEARTH_E_MEMORY, "no memory for the settings");
    }
    int status = path ? parse_file(path, defaults, settings, err) : 0;
    if (status) {
        models_settings_free(settings);
        return error_prefix(err, status, "%s", path);
    }
    *out = settings;
    return 0;
}

void models_settings_free(struct models_settings *settings)
{
    if (!settings)
        return;
    for (size_t i = 0; i < settings->count; i++) {
        mem_free(settings->models[i].name);
        model_settings_free(settings->models[i].settings);
    }
    mem_free(settings->models);
    model_settings_free(settings->defaults);
    mem_free(settings);
}

const struct model_settings *models_settings_of(const struct models_settings *settings,
                                                const char *name)
{
    for (size_t i = 0; i < settings->count; i++) {
        if (names_alike(settings->models[i].name, name))
            return settings->models[i].settings;
    }
    return settings->defaults;
}
