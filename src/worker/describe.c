#include "worker/describe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"

/* general.file_type: what most of the matrices are, by the numbers that writers of GGUF files use.
 */
static const char *file_type_name(json_int_t type)
{
    static const char *const names[] = {
        [0] = "F32",      [1] = "F16",      [2] = "Q4_0",    [3] = "Q4_1",    [7] = "Q8_0",
        [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",   [11] = "Q3_K_S", [12] = "Q3_K_M",
        [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",
        [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
        [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL", [26] = "IQ3_S",  [27] = "IQ3_M",
        [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS", [31] = "IQ1_M",  [32] = "BF16",
        [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4",
    };
    bool known = type >= 0 && type < (json_int_t)(sizeof names / sizeof *names);
    return known ? names[type] : NULL;
}

/* The type that most bytes are of, in capitals: for files that do not say what they are. */
static json_t *commonest_type(const json_t *types)
{
    const char *name, *commonest = NULL;
    json_int_t most = -1;
    json_t *bytes;
    char word[32];
    size_t i = 0;
    json_object_foreach((json_t *)types, name, bytes)
    {
        if (json_integer_value(bytes) > most) {
            most = json_integer_value(bytes);
            commonest = name;
        }
    }
    for (; commonest && commonest[i] && i < sizeof word - 1; i++) {
        bool small = commonest[i] >= 'a' && commonest[i] <= 'z';
        word[i] = (char)(small ? commonest[i] - 'a' + 'A' : commonest[i]);
    }
    word[i] = '\0';
    return commonest ? json_string(word) : json_null();
}

/* As people call it: "3.2B", "134.52M". */
static json_t *parameter_size(double parameters)
{
    char text[32];
    double unit = parameters >= 1e9 ? 1e9 : parameters >= 1e6 ? 1e6 : parameters >= 1e3 ? 1e3 : 1;
    const char *name = parameters >= 1e9   ? "B"
                       : parameters >= 1e6 ? "M"
                       : parameters >= 1e3 ? "K"
                                           : "";
    double number = parameters / unit;
    bool whole = number == floor(number);
    int digits = whole || unit < 1e6 ? 0 : unit < 1e9 ? 2 : 1;
    snprintf(text, sizeof text, "%.*f%s", digits, number, name);
    return json_string(text);
}

static json_t *string_or_null(const json_t *value)
{
    return json_is_string(value) ? json_incref((json_t *)value) : json_null();
}

/* Keys with one value each. */
static json_t *plain_keys(const json_t *keys)
{
    json_t *plain = json_object(), *value;
    const char *name;
    json_object_foreach((json_t *)keys, name, value)
    {
        if (!json_is_array(value) && !json_is_object(value))
            json_object_set(plain, name, value);
    }
    return plain;
}

static json_t *key_of(const json_t *keys, const char *architecture, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, "%.64s.%s", architecture, name);
    return json_object_get(keys, key);
}

static const char *pooling_name(const json_t *keys, const char *architecture)
{
    static const char *const names[] = {"none", "mean", "cls", "last"};
    const json_t *type = key_of(keys, architecture, "pooling_type");
    json_int_t number = json_is_integer(type) ? json_integer_value(type) : 1;
    return number >= 0 && number < 4 ? names[number] : "none";
}

/* What the file says, supported or not; takes over `file`, what hearth_inspect gives. */
static json_t *begin(char *file, struct hearth_error *err)
{
    json_t *root = json_loads(file, 0, NULL);
    hearth_free(file);
    const json_t *keys = json_object_get(root, "keys");
    const char *architecture = json_string_value(json_object_get(root, "architecture"));
    const json_t *type = json_object_get(keys, "general.file_type");
    const char *quantization =
        json_is_integer(type) ? file_type_name(json_integer_value(type)) : NULL;
    json_int_t parameters = json_integer_value(json_object_get(root, "parameters"));
    if (!root || !architecture) {
        json_decref(root);
        error_set(err, HEARTH_E_MEMORY, "no memory to describe a model");
        return NULL;
    }
    json_t *out = json_pack(
        "{s:s, s:o, s:o, s:o, s:I, s:o, s:o, s:O, s:s, s:o, s:o}", "architecture", architecture,
        "name", string_or_null(json_object_get(keys, "general.name")), "size_label",
        string_or_null(json_object_get(keys, "general.size_label")), "file_type",
        json_is_integer(type) ? json_incref((json_t *)type) : json_null(), "parameters", parameters,
        "parameter_size", parameter_size((double)parameters), "quantization",
        quantization ? json_string(quantization) : commonest_type(json_object_get(root, "types")),
        "file_bytes", json_object_get(root, "bytes"), "pooling", pooling_name(keys, architecture),
        "chat_template", string_or_null(json_object_get(keys, "tokenizer.chat_template")),
        "metadata", plain_keys(keys));
    json_decref(root);
    if (!out)
        error_set(err, HEARTH_E_MEMORY, "no memory to describe a model");
    return out;
}

static json_t *token_text(const struct hearth_model *model, uint32_t id)
{
    char *text;
    size_t size;
    struct buffer valid;
    if (id == HEARTH_TOKEN_NONE || hearth_detokenize(model, &id, 1, true, &text, &size, NULL))
        return json_null();
    buffer_init(&valid, SIZE_MAX);
    buffer_append_valid_utf8(&valid, (struct text){text, size});
    hearth_free(text);
    json_t *string = json_stringn(valid.data ? valid.data : "", valid.size);
    buffer_finish(&valid);
    return string;
}

static int add_estimate(json_t *out, const struct hearth_model *model,
                        const struct hearth_engine_options *options, struct hearth_error *err)
{
    struct hearth_estimate estimate;
    int status = hearth_engine_estimate(model, options, &estimate, err);
    if (status)
        return status;
    json_object_set_new(
        out, "estimate",
        json_pack(
            "{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "context", (json_int_t)estimate.context,
            "weights_bytes", (json_int_t)estimate.weights_bytes, "kv_bytes",
            (json_int_t)estimate.kv_bytes, "scratch_bytes", (json_int_t)estimate.scratch_bytes,
            "fixed_bytes", (json_int_t)estimate.fixed_bytes, "private_bytes",
            (json_int_t)estimate.private_bytes, "total_bytes", (json_int_t)estimate.total_bytes));
    json_object_set_new(out, "kv_bytes_per_token",
                        json_integer((json_int_t)(estimate.kv_bytes / estimate.context)));
    return 0;
}

static int add_model(json_t *out, const struct hearth_model *model, struct hearth_error *err)
{
    struct hearth_model_info info;
    char identity[HEARTH_IDENTITY_SIZE];
    int status = hearth_model_identity(model, identity, err);
    if (status)
        return status;
    hearth_model_info(model, &info);
    json_object_set_new(out, "vocabulary", json_integer(info.vocabulary));
    json_object_set_new(out, "context_train", json_integer(info.context_length));
    json_object_set_new(out, "embedding_length", json_integer(info.embedding_length));
    json_object_set_new(out, "layers", json_integer(info.layers));
    json_object_set_new(out, "window", json_integer(info.window));
    json_object_set_new(out, "bos_token", token_text(model, info.bos));
    json_object_set_new(out, "eos_token", token_text(model, info.eos));
    json_object_set_new(out, "identity", json_string(identity));
    return 0;
}

static const char *kv_type_name(enum hearth_kv_type type)
{
    static const char *const names[] = {"f16", "q8_0", "q4_0", "q8_0:q4_0"};
    return names[type];
}

static void add_engine(json_t *out, const struct description *description)
{
    const struct hearth_engine *engine = description->engine;
    json_object_set_new(out, "context", json_integer(hearth_engine_context(engine)));
    json_object_set_new(out, "kv_type", json_string(kv_type_name(description->options->kv_type)));
    json_object_set_new(out, "threads", json_integer(hearth_engine_threads(engine)));
    json_object_set_new(out, "tier", json_string(hearth_engine_tier(engine)));
    json_object_set_new(out, "load_ns", json_integer((json_int_t)description->load_ns));
}

json_t *describe_model(const struct hearth_model *model, const struct description *description,
                       struct hearth_error *err)
{
    char *file;
    if (hearth_model_inspect(model, &file, err))
        return NULL;
    json_t *out = begin(file, err);
    if (!out)
        return NULL;
    if (description->chat_template)
        json_object_set_new(out, "chat_template", json_string(description->chat_template));
    if (add_model(out, model, err) || add_estimate(out, model, description->options, err)) {
        json_decref(out);
        return NULL;
    }
    if (description->engine)
        add_engine(out, description);
    return out;
}

json_t *describe_unsupported(const int *fds, size_t count, const char *why,
                             struct hearth_error *err)
{
    char *file;
    if (hearth_inspect_fds(fds, count, &file, err))
        return NULL;
    json_t *out = begin(file, err);
    if (out)
        json_object_set_new(out, "unsupported", json_string(why));
    return out;
}
