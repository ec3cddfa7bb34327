#include "model/architecture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

static const struct architecture architectures[] = {
    {.name = "llama", .rope_order = ROPE_NORMAL, .activation = ACTIVATION_SILU},
    {.name = "qwen2", .rope_order = ROPE_NEOX, .activation = ACTIVATION_SILU},
    {.name = "qwen3", .rope_order = ROPE_NEOX, .activation = ACTIVATION_SILU, .qk_norm = true},
    {.name = "gemma3",
     .rope_order = ROPE_NEOX,
     .activation = ACTIVATION_GELU,
     .qk_norm = true,
     .post_norms = true,
     .scale_embedding = true,
     .scale_query_27b = true,
     .windows = true,
     .window_period = 6,
     .window_rope_base = 10000.0f},
};

#define ARCHITECTURES (sizeof architectures / sizeof architectures[0])

const struct architecture *architecture_find(struct text name)
{
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        if (text_equal(text_of(architectures[i].name), name))
            return &architectures[i];
    }
    return NULL;
}

void architecture_names(struct buffer *out)
{
    for (size_t i = 0; i < ARCHITECTURES; i++)
        buffer_format(out, "%s%s", i ? ", " : "", architectures[i].name);
}

/* ---- keys ---- */

/* A reader of keys that begin with the architecture's name; the first error stays. */
struct key_reader {
    const struct gguf *gguf;
    const char *architecture;
    struct hearth_error *err;
    int status;
    char key[128];
};

/* The keys read here are the longest known ones; a name from outside is never put together. */
static const char *full_key(struct key_reader *reader, const char *name)
{
    snprintf(reader->key, sizeof reader->key, "%s.%s", reader->architecture, name);
    return reader->key;
}

static bool has(struct key_reader *reader, const char *name)
{
    return gguf_find(reader->gguf, full_key(reader, name)) != NULL;
}

static uint32_t read_u32(struct key_reader *reader, const char *name, uint32_t min, uint32_t max)
{
    uint32_t value = min;
    if (!reader->status)
        reader->status =
            gguf_get_u32(reader->gguf, full_key(reader, name), min, max, &value, reader->err);
    return value;
}

static float read_f32(struct key_reader *reader, const char *name, float min, float max)
{
    float value = min;
    if (!reader->status)
        reader->status =
            gguf_get_f32(reader->gguf, full_key(reader, name), min, max, &value, reader->err);
    return value;
}

static uint32_t read_u32_or(struct key_reader *reader, const char *name, uint32_t min, uint32_t max,
                            uint32_t fallback)
{
    return has(reader, name) ? read_u32(reader, name, min, max) : fallback;
}

static float read_f32_or(struct key_reader *reader, const char *name, float min, float max,
                         float fallback)
{
    return has(reader, name) ? read_f32(reader, name, min, max) : fallback;
}

/* A number for each layer: one for all, or an array of one for each. */
static uint32_t read_layer_u32(struct key_reader *reader, const char *name, uint32_t layer,
                               uint32_t layer_count, uint32_t max)
{
    if (reader->status)
        return 1;
    const struct gguf_key *key = gguf_find(reader->gguf, full_key(reader, name));
    if (!key || key->type != GGUF_ARRAY)
        return read_u32(reader, name, 1, max);
    if ((key->element != GGUF_U32 && key->element != GGUF_I32) || key->count != layer_count) {
        reader->status =
            error_set(reader->err, HEARTH_E_FORMAT,
                      "key %s must be a number or an array of %u numbers, one for each layer",
                      reader->key, layer_count);
        return 1;
    }
    uint32_t value = gguf_array_u32(key, layer);
    if (value < 1 || value > max)
        reader->status = error_set(reader->err, HEARTH_E_FORMAT,
                                   "key %s has %u for layer %u, it must be between 1 and %u",
                                   reader->key, value, layer, max);
    return value;
}

/* ---- parts of the shape ---- */

/* Which layers have a window: the file's array, or each but the last of every period. */
static bool layer_is_windowed(struct key_reader *reader, const struct architecture *architecture,
                              uint32_t layer, uint32_t layer_count)
{
    const char *name = "attention.sliding_window_pattern";
    const struct gguf_key *key = gguf_find(reader->gguf, full_key(reader, name));
    if (key && key->type == GGUF_ARRAY) {
        if (key->element == GGUF_BOOL && key->count == layer_count)
            return gguf_array_bool(key, layer);
        reader->status =
            error_set(reader->err, HEARTH_E_FORMAT, "key %s must be an array of %u booleans",
                      reader->key, layer_count);
        return false;
    }
    uint32_t period = read_u32_or(reader, name, 0, MODEL_LAYERS_MAX, architecture->window_period);
    return period != 0 && layer % period < period - 1;
}

static void read_layers(struct key_reader *reader, const struct architecture *architecture,
                        struct model_shape *shape)
{
    bool kv_heads_given = has(reader, "attention.head_count_kv");
    for (uint32_t l = 0; l < shape->layer_count && !reader->status; l++) {
        struct layer_shape *layer = &shape->layers[l];
        layer->heads =
            read_layer_u32(reader, "attention.head_count", l, shape->layer_count, MODEL_HEADS_MAX);
        layer->kv_heads = kv_heads_given ? read_layer_u32(reader, "attention.head_count_kv", l,
                                                          shape->layer_count, MODEL_HEADS_MAX)
                                         : layer->heads;
        layer->ff_length =
            read_layer_u32(reader, "feed_forward_length", l, shape->layer_count, 1u << 24);
        layer->windowed =
            shape->window != 0 && layer_is_windowed(reader, architecture, l, shape->layer_count);
        if (!reader->status && layer->heads % layer->kv_heads)
            reader->status = error_set(reader->err, HEARTH_E_FORMAT,
                                       "layer %u has %u heads, no multiple of its %u kv heads", l,
                                       layer->heads, layer->kv_heads);
    }
}

static void read_rope_scaling(struct key_reader *reader, struct rope_settings *rope)
{
    struct text type = TEXT("linear");
    if (has(reader, "rope.scaling.type") && !reader->status)
        reader->status =
            gguf_get_text(reader->gguf, full_key(reader, "rope.scaling.type"), &type, reader->err);
    if (reader->status)
        return;
    float factor = read_f32_or(reader, "rope.scaling.factor", 0.0f, 1e6f,
                               read_f32_or(reader, "rope.scale_linear", 0.0f, 1e6f, 0.0f));
    rope->factor = factor == 0.0f ? 1.0f : factor;
    if (text_equal(type, TEXT("linear")))
        rope->scaling = ROPE_SCALING_LINEAR;
    else if (text_equal(type, TEXT("yarn")))
        rope->scaling = ROPE_SCALING_YARN;
    else if (text_equal(type, TEXT("none")))
        rope->scaling = ROPE_SCALING_NONE;
    else
        reader->status =
            error_set(reader->err, HEARTH_E_UNSUPPORTED,
                      "rope scaling of type \"%.*s\" is not supported; none, linear and yarn are",
                      TEXT_ARGS(type));
}

static void read_rope(struct key_reader *reader, const struct architecture *architecture,
                      struct model_shape *shape)
{
    struct rope_settings *rope = &shape->rope;
    rope->dimensions =
        read_u32_or(reader, "rope.dimension_count", 2, shape->key_size, shape->key_size);
    if (!reader->status && rope->dimensions % 2)
        reader->status = error_set(reader->err, HEARTH_E_FORMAT, "key %s is %u, it must be even",
                                   full_key(reader, "rope.dimension_count"), rope->dimensions);
    rope->base = read_f32_or(reader, "rope.freq_base", 1.0f, 1e12f, 10000.0f);
    rope->window_base =
        read_f32_or(reader, "rope.freq_base_swa", 1.0f, 1e12f,
                    architecture->windows ? architecture->window_rope_base : rope->base);
    read_rope_scaling(reader, rope);
    rope->attention_factor = read_f32_or(reader, "rope.scaling.attn_factor", 1e-6f, 1e6f, 1.0f);
    rope->yarn_beta_fast = read_f32_or(reader, "rope.scaling.yarn_beta_fast", 1e-6f, 1e6f, 32.0f);
    rope->yarn_beta_slow = read_f32_or(reader, "rope.scaling.yarn_beta_slow", 1e-6f, 1e6f, 1.0f);
    rope->original_context = read_u32_or(reader, "rope.scaling.original_context_length", 1,
                                         1u << 30, shape->context_length);
}

static void read_scales(struct key_reader *reader, const struct architecture *architecture,
                        struct model_shape *shape)
{
    shape->norm_eps = read_f32(reader, "attention.layer_norm_rms_epsilon", 0.0f, 1.0f);
    shape->logit_cap = read_f32_or(reader, "final_logit_softcapping", 0.0f, 1e6f, 0.0f);
    shape->embedding_scale =
        architecture->scale_embedding ? sqrtf((float)shape->embedding_length) : 1.0f;
    float divisor = (float)shape->key_size;
    /* the 62-layer Gemma 3 is the one whose query_pre_attn_scalar is no head size */
    if (architecture->scale_query_27b && shape->layer_count == 62)
        divisor = (float)(shape->embedding_length / shape->layers[0].heads);
    shape->attention_scale = 1.0f / sqrtf(divisor);
    float given = read_f32_or(reader, "attention.scale", 0.0f, 1e6f, 0.0f);
    if (given != 0.0f && !architecture->scale_query_27b)
        shape->attention_scale = given;
}

static uint32_t vocabulary_size(struct key_reader *reader)
{
    const struct gguf_key *tokens = NULL;
    if (reader->status)
        return 0;
    reader->status =
        gguf_get_array(reader->gguf, "tokenizer.ggml.tokens", GGUF_STRING, &tokens, reader->err);
    if (!reader->status && (tokens->count == 0 || tokens->count > 1u << 24))
        reader->status =
            error_set(reader->err, HEARTH_E_FORMAT, "tokenizer.ggml.tokens has %llu tokens",
                      (unsigned long long)tokens->count);
    return reader->status ? 0 : (uint32_t)tokens->count;
}

static void refuse_experts(struct key_reader *reader)
{
    uint32_t experts = read_u32_or(reader, "expert_count", 0, UINT32_MAX, 0);
    if (!reader->status && experts)
        reader->status = error_set(reader->err, HEARTH_E_UNSUPPORTED,
                                   "a mixture of %u experts is not supported", experts);
}

int model_shape_read(const struct gguf *gguf, const struct architecture *architecture,
                     struct model_shape *out, struct hearth_error *err)
{
    struct key_reader reader = {.gguf = gguf, .architecture = architecture->name, .err = err};
    struct model_shape shape = {0};
    refuse_experts(&reader);
    shape.context_length = read_u32(&reader, "context_length", 1, 1u << 30);
    shape.embedding_length = read_u32(&reader, "embedding_length", 1, 1u << 20);
    shape.layer_count = read_u32(&reader, "block_count", 1, MODEL_LAYERS_MAX);
    shape.vocabulary = vocabulary_size(&reader);
    if (architecture->windows)
        shape.window = read_u32_or(&reader, "attention.sliding_window", 0, 1u << 30, 0);
    if (reader.status)
        return reader.status;
    shape.layers = mem_zalloc_array(shape.layer_count, sizeof *shape.layers);
    if (!shape.layers)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %u layers", shape.layer_count);
    read_layers(&reader, architecture, &shape);
    uint32_t head = reader.status ? 1 : shape.embedding_length / shape.layers[0].heads;
    shape.key_size = read_u32_or(&reader, "attention.key_length", 2, 512, head);
    shape.value_size = read_u32_or(&reader, "attention.value_length", 1, 512, head);
    if (!reader.status && (shape.key_size < 2 || shape.key_size > 512 || shape.value_size > 512))
        reader.status = error_set(err, HEARTH_E_FORMAT, "heads of %u elements are not supported",
                                  shape.key_size);
    read_rope(&reader, architecture, &shape);
    read_scales(&reader, architecture, &shape);
    if (reader.status) {
        model_shape_finish(&shape);
        return reader.status;
    }
    *out = shape;
    return 0;
}

void model_shape_finish(struct model_shape *shape)
{
    mem_free(shape->layers);
    shape->layers = NULL;
}
