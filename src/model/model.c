#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

/* Binds tensors by name; the first error stays. */
struct binder {
    const struct gguf *gguf;
    struct hearth_error *err;
    int status;
    char name[64];
};

static const struct gguf_tensor *find(struct binder *binder, const char *name)
{
    const struct gguf_tensor *tensor = gguf_find_tensor(binder->gguf, name);
    if (!tensor)
        binder->status = error_set(binder->err, HEARTH_E_MISSING, "tensor %s is missing", name);
    return tensor;
}

static void wrong_shape(struct binder *binder, const struct gguf_tensor *tensor, uint64_t columns,
                        uint64_t rows)
{
    binder->status = error_set(binder->err, HEARTH_E_FORMAT,
                               "tensor %.*s is %llu x %llu, it must be %llu x %llu",
                               TEXT_ARGS(tensor->name), (unsigned long long)tensor->ne[0],
                               (unsigned long long)(tensor->ne[1] * tensor->ne[2] * tensor->ne[3]),
                               (unsigned long long)columns, (unsigned long long)rows);
}

static void bind_matrix(struct binder *binder, const char *name, uint32_t columns, uint32_t rows,
                        struct matrix *out)
{
    if (binder->status)
        return;
    const struct gguf_tensor *tensor = find(binder, name);
    if (!tensor)
        return;
    const struct tensor_type_traits *traits = tensor_type_traits(tensor->type);
    if (!traits || !traits->supported) {
#define TYPE_NAME(name, number, elements, bytes) " " #name
        binder->status = error_set(
            binder->err, HEARTH_E_UNSUPPORTED,
            "tensor %s has type %s, which is not supported; these are:" TENSOR_TYPES(TYPE_NAME),
            name, traits ? traits->name : "unknown");
#undef TYPE_NAME
        return;
    }
    if (tensor->ne[0] != columns || tensor->ne[1] != rows || tensor->ne[2] != 1 ||
        tensor->ne[3] != 1) {
        wrong_shape(binder, tensor, columns, rows);
        return;
    }
    *out = (struct matrix){.type = tensor->type,
                           .rows = rows,
                           .columns = columns,
                           .row_bytes = tensor->row_bytes,
                           .data = tensor->data};
}

static const float *bind_vector(struct binder *binder, const char *name, uint32_t count)
{
    if (binder->status)
        return NULL;
    const struct gguf_tensor *tensor = find(binder, name);
    if (!tensor)
        return NULL;
    if (tensor->type != TYPE_F32) {
        const struct tensor_type_traits *traits = tensor_type_traits(tensor->type);
        binder->status = error_set(binder->err, HEARTH_E_UNSUPPORTED,
                                   "tensor %s has type %s, only F32 is supported there", name,
                                   traits ? traits->name : "unknown");
        return NULL;
    }
    if ((uintptr_t)tensor->data % sizeof(float)) {
        binder->status = error_set(binder->err, HEARTH_E_UNSUPPORTED,
                                   "tensor %s does not begin at a multiple of 4 bytes", name);
        return NULL;
    }
    if (tensor->ne[0] != count || tensor->ne[1] != 1 || tensor->ne[2] != 1 || tensor->ne[3] != 1) {
        wrong_shape(binder, tensor, count, 1);
        return NULL;
    }
    return tensor->data;
}

static const char *layer_name(struct binder *binder, uint32_t layer, const char *part,
                              const char *kind)
{
    snprintf(binder->name, sizeof binder->name, "blk.%u.%s.%s", layer, part, kind);
    return binder->name;
}

static const float *bind_layer_vector(struct binder *binder, uint32_t layer, const char *part,
                                      uint32_t count)
{
    return bind_vector(binder, layer_name(binder, layer, part, "weight"), count);
}

/* A matrix of a layer, with its bias where the file has one. */
static void bind_layer_matrix(struct binder *binder, uint32_t layer, const char *part,
                              uint32_t columns, uint32_t rows, struct matrix *out)
{
    bind_matrix(binder, layer_name(binder, layer, part, "weight"), columns, rows, out);
    layer_name(binder, layer, part, "bias");
    if (!binder->status && gguf_find_tensor(binder->gguf, binder->name))
        out->bias = bind_vector(binder, binder->name, rows);
}

static void bind_layer(struct binder *binder, struct model *model, uint32_t l)
{
    const struct model_shape *shape = &model->shape;
    const struct layer_shape *size = &shape->layers[l];
    struct layer *layer = &model->layers[l];
    uint32_t embedding = shape->embedding_length;
    layer->window = size->windowed ? shape->window : 0;
    layer->rope = size->windowed ? &model->window_rope : &model->rope;
    layer->attention_norm = bind_layer_vector(binder, l, "attn_norm", embedding);
    bind_layer_matrix(binder, l, "attn_q", embedding, size->heads * shape->key_size, &layer->query);
    bind_layer_matrix(binder, l, "attn_k", embedding, size->kv_heads * shape->key_size,
                      &layer->key);
    bind_layer_matrix(binder, l, "attn_v", embedding, size->kv_heads * shape->value_size,
                      &layer->value);
    bind_layer_matrix(binder, l, "attn_output", size->heads * shape->value_size, embedding,
                      &layer->attention_output);
    if (model->architecture->qk_norm) {
        layer->query_norm = bind_layer_vector(binder, l, "attn_q_norm", shape->key_size);
        layer->key_norm = bind_layer_vector(binder, l, "attn_k_norm", shape->key_size);
    }
    layer->ff_norm = bind_layer_vector(binder, l, "ffn_norm", embedding);
    bind_layer_matrix(binder, l, "ffn_gate", embedding, size->ff_length, &layer->gate);
    bind_layer_matrix(binder, l, "ffn_up", embedding, size->ff_length, &layer->up);
    bind_layer_matrix(binder, l, "ffn_down", size->ff_length, embedding, &layer->down);
    if (model->architecture->post_norms) {
        layer->attention_post_norm = bind_layer_vector(binder, l, "post_attention_norm", embedding);
        layer->ff_post_norm = bind_layer_vector(binder, l, "post_ffw_norm", embedding);
    }
}

static int bind_tensors(struct model *model, struct hearth_error *err)
{
    const struct model_shape *shape = &model->shape;
    struct binder binder = {.gguf = model->gguf, .err = err};
    bind_matrix(&binder, "token_embd.weight", shape->embedding_length, shape->vocabulary,
                &model->embedding);
    model->output = model->embedding;
    if (gguf_find_tensor(model->gguf, "output.weight"))
        bind_matrix(&binder, "output.weight", shape->embedding_length, shape->vocabulary,
                    &model->output);
    if (!binder.status && gguf_find_tensor(model->gguf, "output.bias"))
        model->output.bias = bind_vector(&binder, "output.bias", shape->vocabulary);
    model->output_norm = bind_vector(&binder, "output_norm.weight", shape->embedding_length);
    for (uint32_t l = 0; l < shape->layer_count && !binder.status; l++)
        bind_layer(&binder, model, l);
    return binder.status;
}

static int set_up_rope(struct model *model, struct hearth_error *err)
{
    const struct rope_settings *settings = &model->shape.rope;
    const float *divisors = NULL;
    if (gguf_find_tensor(model->gguf, "rope_freqs.weight")) {
        struct binder binder = {.gguf = model->gguf, .err = err};
        divisors = bind_vector(&binder, "rope_freqs.weight", settings->dimensions / 2);
        if (binder.status)
            return binder.status;
    }
    int status = rope_init(&model->rope, settings, false, divisors, err);
    return status ? status : rope_init(&model->window_rope, settings, true, divisors, err);
}

/* The file's own is not even looked at where another one is given: it may be one that is no good.
 */
static int read_template(struct model *model, const char *given, struct hearth_error *err)
{
    struct text source = {given, given ? strlen(given) : 0};
    if (given) {
        int status = chat_template_parse(source, &model->chat_template, err);
        return status ? error_prefix(err, status, "the chat template that was given") : 0;
    }
    if (!gguf_find(model->gguf, "tokenizer.chat_template"))
        return 0;
    int status = gguf_get_text(model->gguf, "tokenizer.chat_template", &source, err);
    if (!status)
        status = chat_template_parse(source, &model->chat_template, err);
    return status ? error_prefix(err, status, "chat template") : 0;
}

static int find_architecture(struct model *model, struct hearth_error *err)
{
    struct text name;
    int status = gguf_get_text(model->gguf, "general.architecture", &name, err);
    if (status)
        return status;
    model->architecture = architecture_find(name);
    if (model->architecture)
        return 0;
    struct buffer names;
    buffer_init(&names, 4096);
    architecture_names(&names);
    status = error_set(err, HEARTH_E_UNSUPPORTED,
                       "architecture \"%.*s\" is not supported; these are: %s", TEXT_ARGS(name),
                       names.data ? names.data : "");
    buffer_finish(&names);
    return status;
}

static int open_weights(struct model *model, const struct model_options *options,
                        struct hearth_error *err)
{
    int status = find_architecture(model, err);
    if (status)
        return status;
    status = model_shape_read(model->gguf, model->architecture, &model->shape, err);
    if (status)
        return status;
    model->layers = mem_zalloc_array(model->shape.layer_count, sizeof *model->layers);
    if (!model->layers)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %u layers", model->shape.layer_count);
    status = bind_tensors(model, err);
    if (status)
        return status;
    /* beside the tokenizer, which is most of the work that is left */
    if (options->load)
        model->loader = loader_start(model->gguf, model->shape.layer_count, &options->progress);
    return set_up_rope(model, err);
}

static void close_weights(struct model *model)
{
    loader_stop(model->loader);
    model->loader = NULL;
    rope_finish(&model->rope);
    rope_finish(&model->window_rope);
    mem_free(model->layers);
    model->layers = NULL;
    model_shape_finish(&model->shape);
    model->shape = (struct model_shape){0};
}

static int open_parts(struct model *model, const struct model_options *options,
                      struct hearth_error *err)
{
    struct hearth_error *why = &model->unusable;
    int status = open_weights(model, options, why);
    if (status && (!options->vocabulary_only || status == HEARTH_E_MEMORY))
        return error_set(err, status, "%s", why->text);
    if (status)
        close_weights(model);
    status = tokenizer_open(model->gguf, &model->tokenizer, err);
    if (status) /* where neither works, what the file is comes before how it spells */
        return why->code ? error_set(err, why->code, "%s", why->text) : status;
    return read_template(model, options->chat_template, err);
}

int model_open(struct gguf *gguf, const struct model_options *options, struct model **out,
               struct hearth_error *err)
{
    struct model *model = MEM_NEW(struct model);
    if (!model) {
        gguf_close(gguf);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a model");
    }
    model->gguf = gguf;
    int status = open_parts(model, options, err);
    if (status) {
        model_close(model);
        return status;
    }
    *out = model;
    return 0;
}

void model_close(struct model *model)
{
    if (!model)
        return;
    close_weights(model);
    chat_template_free(model->chat_template);
    tokenizer_close(model->tokenizer);
    gguf_close(model->gguf);
    mem_free(model);
}

int model_check(const struct model *model, struct hearth_error *err)
{
    const struct hearth_error *why = &model->unusable;
    return why->code ? error_set(err, why->code, "%s", why->text) : 0;
}

size_t model_bytes(const struct model *model)
{
    const size_t index =
        2 * sizeof(void *); /* of an entry in a table sorted by names, and of a list */
    size_t bytes = sizeof *model;
    bytes += gguf_key_count(model->gguf) * (sizeof(struct gguf_key) + index);
    bytes += gguf_tensor_count(model->gguf) * (sizeof(struct gguf_tensor) + index);
    bytes += model->shape.layer_count * (sizeof *model->layers + sizeof *model->shape.layers);
    bytes += tokenizer_bytes(model->tokenizer);
    if (model->chat_template)
        bytes += chat_template_bytes(model->chat_template);
    return bytes;
}
