/* hearth_inspect and the words for metadata. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "infer/engine.h"
#include "infer/metadata.h"

#define TEXT_BYTES_MAX (1u << 20) /* of one string that is shown */
#define ARRAY_SHOWN_MAX 16        /* elements of an array that is shown whole */

/* ---- values ---- */

static int64_t signed_value(const struct gguf_key *key)
{
    switch (key->type) {
    case GGUF_I8:
        return (int8_t)key->data[0];
    case GGUF_I16: {
        int16_t value;
        memcpy(&value, key->data, sizeof value);
        return value;
    }
    case GGUF_I32: {
        int32_t value;
        memcpy(&value, key->data, sizeof value);
        return value;
    }
    default: {
        int64_t value;
        memcpy(&value, key->data, sizeof value);
        return value;
    }
    }
}

static uint64_t unsigned_value(const struct gguf_key *key)
{
    uint64_t value = 0;
    memcpy(&value, key->data, (size_t)key->size); /* little-endian, as is the machine */
    return value;
}

/* The shortest decimal number that is this float: 1e-05, not 9.99999975e-06. */
static double shortest_decimal(float value)
{
    char text[32];
    for (int digits = 6; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            return strtod(text, NULL);
    }
    return (double)value;
}

static double real_value(const struct gguf_key *key)
{
    if (key->type == GGUF_F64) {
        double value;
        memcpy(&value, key->data, sizeof value);
        return value;
    }
    float value;
    memcpy(&value, key->data, sizeof value);
    return shortest_decimal(value);
}

static struct text string_value(const struct gguf_key *key)
{
    size_t size = key->size < TEXT_BYTES_MAX ? (size_t)key->size : TEXT_BYTES_MAX;
    return (struct text){(const char *)key->data, size};
}

bool metadata_text(const struct gguf_key *key, struct buffer *out)
{
    switch (key->type) {
    case GGUF_STRING:
        return buffer_append_text(out, string_value(key));
    case GGUF_ARRAY:
        return buffer_format(out, "[%llu]", (unsigned long long)key->count);
    case GGUF_BOOL:
        return buffer_format(out, "%s", key->data[0] ? "true" : "false");
    case GGUF_F32:
    case GGUF_F64:
        return buffer_format(out, "%.12g", real_value(key));
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        return buffer_format(out, "%lld", (long long)signed_value(key));
    default:
        return buffer_format(out, "%llu", (unsigned long long)unsigned_value(key));
    }
}

json_t *metadata_string(struct text text)
{
    struct buffer clean;
    buffer_init(&clean, 4 * (size_t)TEXT_BYTES_MAX);
    json_t *string = buffer_append_valid_utf8(&clean, text)
                         ? json_stringn(clean.data ? clean.data : "", clean.size)
                         : NULL;
    buffer_finish(&clean);
    return string;
}

static json_t *number_json(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static const char *value_type_name(enum gguf_value_type type)
{
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    return names[type];
}

static json_t *element_json(const struct gguf_key *array, uint64_t index)
{
    switch (array->element) {
    case GGUF_BOOL:
        return json_boolean(gguf_array_bool(array, index));
    case GGUF_F32:
        return number_json(shortest_decimal(gguf_array_f32(array, index)));
    case GGUF_U32:
        return json_integer(gguf_array_u32(array, index));
    default:
        return json_integer((int32_t)gguf_array_u32(array, index));
    }
}

static json_t *array_json(const struct gguf_key *key)
{
    bool simple = key->element == GGUF_BOOL || key->element == GGUF_F32 ||
                  key->element == GGUF_U32 || key->element == GGUF_I32 ||
                  key->element == GGUF_STRING;
    if (!simple || key->count > ARRAY_SHOWN_MAX)
        return json_pack("{s:s, s:I}", "array", value_type_name(key->element), "count",
                         (json_int_t)key->count);
    json_t *array = json_array();
    uint64_t cursor = 0;
    struct text text;
    for (uint64_t i = 0; i < key->count; i++) {
        if (key->element != GGUF_STRING)
            json_array_append_new(array, element_json(key, i));
        else if (gguf_array_next_text(key, &cursor, &text))
            json_array_append_new(array, metadata_string(text));
    }
    return array;
}

json_t *metadata_json(const struct gguf_key *key)
{
    switch (key->type) {
    case GGUF_STRING:
        return metadata_string(string_value(key));
    case GGUF_ARRAY:
        return array_json(key);
    case GGUF_BOOL:
        return json_boolean(key->data[0] != 0);
    case GGUF_F32:
    case GGUF_F64:
        return number_json(real_value(key));
    case GGUF_U64:
        if (unsigned_value(key) > INT64_MAX)
            return number_json((double)unsigned_value(key));
        return json_integer((json_int_t)unsigned_value(key));
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
        return json_integer((json_int_t)unsigned_value(key));
    default:
        return json_integer((json_int_t)signed_value(key));
    }
}

/* ---- the whole file ---- */

static void add_keys(json_t *root, const struct gguf *gguf)
{
    json_t *keys = json_object();
    for (size_t i = 0; i < gguf_key_count(gguf); i++) {
        const struct gguf_key *key = gguf_key_at(gguf, i);
        json_t *name = metadata_string(key->name);
        json_object_set_new(keys, name ? json_string_value(name) : "", metadata_json(key));
        json_decref(name);
    }
    json_object_set_new(root, "keys", keys);
}

static void add_tensors(json_t *root, const struct gguf *gguf)
{
    json_t *tensors = json_array(), *types = json_object();
    uint64_t parameters = 0;
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(gguf, i);
        const struct tensor_type_traits *traits = tensor_type_traits(tensor->type);
        const char *type = traits ? traits->name : "unknown";
        json_t *shape = json_array();
        for (uint32_t d = 0; d < tensor->n_dims; d++)
            json_array_append_new(shape, json_integer((json_int_t)tensor->ne[d]));
        json_array_append_new(
            tensors, json_pack("{s:o?, s:s, s:o, s:I}", "name", metadata_string(tensor->name),
                               "type", type, "shape", shape, "bytes", (json_int_t)tensor->size));
        json_int_t bytes = json_integer_value(json_object_get(types, type));
        json_object_set_new(types, type, json_integer(bytes + (json_int_t)tensor->size));
        parameters += gguf_tensor_elements(tensor);
    }
    json_object_set_new(root, "parameters", json_integer((json_int_t)parameters));
    json_object_set_new(root, "types", types);
    json_object_set_new(root, "tensors", tensors);
}

/* What an engine with the default options takes for a context, with each KV type. */
static json_t *memory_at(const struct hearth_model *model, uint32_t context)
{
    static const struct {
        enum hearth_kv_type type;
        const char *name;
    } types[] = {{HEARTH_KV_F16, "kv_f16_bytes"},
                 {HEARTH_KV_Q8_0, "kv_q8_0_bytes"},
                 {HEARTH_KV_Q4_0, "kv_q4_0_bytes"}};
    json_t *memory = json_pack("{s:I}", "context", (json_int_t)context);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct hearth_engine_options options = {.kv_type = types[i].type, .context = context};
        struct hearth_estimate estimate;
        if (hearth_engine_estimate(model, &options, &estimate, NULL))
            continue;
        json_object_set_new(memory, types[i].name, json_integer((json_int_t)estimate.kv_bytes));
        json_object_set_new(memory, "scratch_bytes",
                            json_integer((json_int_t)estimate.scratch_bytes));
        json_object_set_new(memory, "fixed_bytes", json_integer((json_int_t)estimate.fixed_bytes));
        json_object_set_new(memory, "weights_bytes",
                            json_integer((json_int_t)estimate.weights_bytes));
    }
    return memory;
}

/* Says what running takes, or why the model cannot be run. Takes over `gguf`. `path` may be NULL.
 */
static void add_memory(json_t *root, struct gguf *gguf, const char *path)
{
    struct hearth_model model = {0};
    struct hearth_error why;
    struct model_options options = {.load = false};
    int status = model_open(gguf, &options, &model.model, &why);
    if (status) {
        if (path)
            error_prefix(&why, status, "%s", path);
        json_object_set_new(root, "problem", metadata_string(text_of(why.text)));
        return;
    }
    json_t *memory = json_array();
    uint32_t own = model.model->shape.context_length;
    if (own > 2048)
        json_array_append_new(memory, memory_at(&model, 2048));
    json_array_append_new(memory, memory_at(&model, own));
    json_object_set_new(root, "memory", memory);
    model_close(model.model);
}

/* What the file itself says; NULL without memory. */
static json_t *describe(const struct gguf *gguf)
{
    struct text architecture = TEXT("");
    gguf_get_text(gguf, "general.architecture", &architecture, NULL);
    json_t *root =
        json_pack("{s:o?, s:I, s:I, s:I}", "architecture", metadata_string(architecture), "version",
                  (json_int_t)gguf_version(gguf), "parts", (json_int_t)gguf_part_count(gguf),
                  "bytes", (json_int_t)gguf_file_size(gguf));
    if (root) {
        add_tensors(root, gguf);
        add_keys(root, gguf);
    }
    return root;
}

/* Takes over `root`. */
static int write_json(json_t *root, char **json, struct hearth_error *err)
{
    char *text =
        root ? json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12))
             : NULL;
    json_decref(root);
    if (!text)
        return error_set(err, HEARTH_E_MEMORY, "no memory to describe a model");
    *json = text;
    return 0;
}

/* Takes over `gguf`. */
static int inspect(struct gguf *gguf, const char *path, char **json, struct hearth_error *err)
{
    json_t *root = describe(gguf);
    if (root)
        add_memory(root, gguf, path);
    else
        gguf_close(gguf);
    return write_json(root, json, err);
}

int hearth_inspect(const char *path, char **json, struct hearth_error *err)
{
    struct gguf *gguf;
    int status = gguf_open(path, &gguf, err);
    return status ? status : inspect(gguf, path, json, err);
}

int hearth_inspect_fds(const int *fds, size_t count, char **json, struct hearth_error *err)
{
    struct gguf *gguf;
    int status = gguf_open_fds(fds, count, &gguf, err);
    return status ? status : inspect(gguf, NULL, json, err);
}

int hearth_model_inspect(const struct hearth_model *model, char **json, struct hearth_error *err)
{
    return write_json(describe(model->model->gguf), json, err);
}
