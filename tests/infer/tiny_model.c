#include "tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "kernel/half.h"

/* Where the blocks of a type keep their binary16 scales, how large the second is to the first, and
 * the standard deviation of random blocks whose first scale is 1 (measured). */
struct block_scales {
    uint32_t type;
    int first, second; /* -1: none */
    float ratio, deviation;
};

static const struct block_scales scales[] = {
    {TYPE_Q4_0, 0, -1, 0.0f, 4.6f},    {TYPE_Q4_1, 0, 2, -7.5f, 4.6f},
    {TYPE_Q5_0, 0, -1, 0.0f, 9.2f},    {TYPE_Q5_1, 0, 2, -15.5f, 9.2f},
    {TYPE_Q8_0, 0, -1, 0.0f, 74.0f},   {TYPE_Q2_K, 80, 82, 1.5f, 13.9f},
    {TYPE_Q3_K, 108, -1, 0.0f, 43.0f}, {TYPE_Q4_K, 0, 2, 7.5f, 258.0f},
    {TYPE_Q5_K, 0, 2, 15.5f, 526.0f},  {TYPE_Q6_K, 208, -1, 0.0f, 1366.0f},
    {TYPE_IQ4_NL, 0, -1, 0.0f, 67.0f}, {TYPE_IQ4_XS, 0, -1, 0.0f, 1246.0f},
};

struct maker {
    const struct tiny_model *model;
    struct gguf_writer writer;
    struct random random;
    size_t matrices;
    char (*names)[64]; /* the writer keeps pointers */
    size_t name_count;
};

static float noise(struct random *random, double deviation)
{
    return (float)((random_unit(random) * 2.0 - 1.0) * sqrt(3.0) * deviation);
}

static void put_half(uint8_t *at, float value)
{
    uint16_t half = float_to_half(value);
    at[0] = (uint8_t)half;
    at[1] = (uint8_t)(half >> 8);
}

static void put_u32(uint8_t *at, uint32_t bits, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(bits >> 8 * i);
}

/* One block of a type whose weights have about the given standard deviation. */
static void fill_block(struct random *random, uint32_t type, float deviation, uint8_t *block)
{
    if (type == TYPE_F32)
        put_u32(block, bits_of_float(noise(random, deviation)), 4);
    else if (type == TYPE_F16)
        put_half(block, noise(random, deviation));
    else if (type == TYPE_BF16)
        put_u32(block, float_to_bf16(noise(random, deviation)), 2);
    if (tensor_type_traits(type)->block_elements == 1)
        return;
    for (size_t i = 0; i < tensor_type_traits(type)->block_bytes; i++)
        block[i] = (uint8_t)(random_u64(random) >> 56);
    float spread = (float)(0.7 + 0.6 * random_unit(random));
    if (type == TYPE_MXFP4)
        block[0] = (uint8_t)(128 + lrint(log2(deviation / 5.8 * spread)));
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        if (scales[i].type != type)
            continue;
        float scale = deviation / scales[i].deviation * spread;
        put_half(block + scales[i].first, scale);
        if (scales[i].second >= 0)
            put_half(block + scales[i].second, scale * scales[i].ratio);
    }
}

static const char *keep_name(struct maker *maker, const char *name)
{
    char *kept = maker->names[maker->name_count++];
    snprintf(kept, sizeof maker->names[0], "%s", name);
    return kept;
}

static void add_matrix(struct maker *maker, const char *name, uint32_t rows, uint32_t columns)
{
    uint32_t type = maker->model->types[maker->matrices++ % maker->model->type_count];
    const struct tensor_type_traits *traits = tensor_type_traits(type);
    size_t blocks = (size_t)rows * columns / traits->block_elements;
    uint8_t *data = calloc(blocks, traits->block_bytes);
    if (!data)
        abort();
    for (size_t i = 0; i < blocks; i++)
        fill_block(&maker->random, type, 1.2f / sqrtf((float)columns),
                   data + i * traits->block_bytes);
    uint64_t ne[2] = {columns, rows};
    gguf_writer_tensor(&maker->writer, keep_name(maker, name), type, 2, ne, data);
    free(data);
}

static void add_norm(struct maker *maker, const char *name, uint32_t size)
{
    float *data = calloc(size, sizeof *data);
    if (!data)
        abort();
    for (uint32_t i = 0; i < size; i++)
        data[i] = 1.0f + noise(&maker->random, 0.2);
    uint64_t ne[1] = {size};
    gguf_writer_tensor(&maker->writer, keep_name(maker, name), TYPE_F32, 1, ne, data);
    free(data);
}

static void add_layer(struct maker *maker, uint32_t layer)
{
    const struct tiny_model *model = maker->model;
    uint32_t query = model->heads * model->head_size, key = model->kv_heads * model->head_size;
    const struct {
        const char *name;
        uint32_t rows, columns; /* rows 0: a norm */
    } parts[] = {
        {"attn_norm", 0, model->embedding},
        {"attn_q", query, model->embedding},
        {"attn_k", key, model->embedding},
        {"attn_v", key, model->embedding},
        {"attn_output", model->embedding, query},
        {"ffn_norm", 0, model->embedding},
        {"ffn_gate", model->ff, model->embedding},
        {"ffn_up", model->ff, model->embedding},
        {"ffn_down", model->embedding, model->ff},
        /* from here on gemma3's */
        {"attn_q_norm", 0, model->head_size},
        {"attn_k_norm", 0, model->head_size},
        {"post_attention_norm", 0, model->embedding},
        {"post_ffw_norm", 0, model->embedding},
    };
    size_t count = model->window ? 13 : 9;
    for (size_t i = 0; i < count; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s.weight", layer, parts[i].name);
        if (parts[i].rows)
            add_matrix(maker, name, parts[i].rows, parts[i].columns);
        else
            add_norm(maker, name, parts[i].columns);
    }
}

static void add_number(struct maker *maker, const char *name, uint32_t value)
{
    char key[128];
    snprintf(key, sizeof key, "%s.%s", maker->model->architecture, name);
    gguf_writer_u32(&maker->writer, key, value);
}

static void add_keys(struct maker *maker)
{
    const struct tiny_model *model = maker->model;
    char key[128];
    gguf_writer_string(&maker->writer, "general.architecture", model->architecture);
    add_number(maker, "context_length", 4096);
    add_number(maker, "embedding_length", model->embedding);
    add_number(maker, "block_count", model->layers);
    add_number(maker, "feed_forward_length", model->ff);
    add_number(maker, "attention.head_count", model->heads);
    add_number(maker, "attention.head_count_kv", model->kv_heads);
    add_number(maker, "attention.key_length", model->head_size);
    add_number(maker, "attention.value_length", model->head_size);
    if (model->window) {
        add_number(maker, "attention.sliding_window", model->window);
        add_number(maker, "attention.sliding_window_pattern", 2);
    }
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", model->architecture);
    gguf_writer_f32(&maker->writer, key, 1e-5f);
}

static void add_template(struct maker *maker)
{
    uint32_t count = maker->model->vocabulary;
    int32_t *types = calloc(count, sizeof *types);
    if (!types)
        abort();
    for (uint32_t i = 0; i < count; i++)
        types[i] = i + 2 < count ? 1 : 3; /* normal, control */
    gguf_writer_array(&maker->writer, "tokenizer.ggml.token_type", GGUF_I32, types, count);
    gguf_writer_string(&maker->writer, "tokenizer.chat_template", maker->model->chat_template);
    free(types);
}

/* Printable characters and two control tokens, as byte-level BPE. */
static void add_tokenizer(struct maker *maker)
{
    static const char *const merges[] = {"A B"};
    uint32_t count = maker->model->vocabulary;
    char(*texts)[16] = calloc(count, sizeof *texts);
    const char **tokens = calloc(count, sizeof *tokens);
    if (!texts || !tokens)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], i < 93 ? "%c" : "w%u", i < 93 ? '!' + i : i);
        tokens[i] = texts[i];
    }
    tokens[0] = "AB";
    gguf_writer_string(&maker->writer, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(&maker->writer, "tokenizer.ggml.pre", "gpt-2");
    gguf_writer_strings(&maker->writer, "tokenizer.ggml.tokens", tokens, count);
    gguf_writer_strings(&maker->writer, "tokenizer.ggml.merges", merges, 1);
    gguf_writer_u32(&maker->writer, "tokenizer.ggml.bos_token_id", count - 2);
    gguf_writer_u32(&maker->writer, "tokenizer.ggml.eos_token_id", count - 1);
    if (maker->model->chat_template)
        add_template(maker);
    free(tokens);
    free(texts);
}

static void write_model(const struct tiny_model *model, const uint32_t *pooling,
                        char path[TEST_PATH_MAX])
{
    struct maker maker = {.model = model, .random = random_from_seed(model->seed)};
    maker.names = calloc(3 + 13 * (size_t)model->layers, sizeof *maker.names);
    if (!maker.names)
        abort();
    gguf_writer_init(&maker.writer);
    add_keys(&maker);
    if (pooling)
        add_number(&maker, "pooling_type", *pooling);
    add_tokenizer(&maker);
    add_matrix(&maker, "token_embd.weight", model->vocabulary, model->embedding);
    add_matrix(&maker, "output.weight", model->vocabulary, model->embedding);
    add_norm(&maker, "output_norm.weight", model->embedding);
    for (uint32_t layer = 0; layer < model->layers; layer++)
        add_layer(&maker, layer);
    test_temp_file(path);
    test_write_file(path, gguf_writer_bytes(&maker.writer));
    gguf_writer_finish(&maker.writer);
    free(maker.names);
}

void tiny_model_write(const struct tiny_model *model, char path[TEST_PATH_MAX])
{
    write_model(model, NULL, path);
}

void tiny_model_write_pooled(const struct tiny_model *model, uint32_t pooling,
                             char path[TEST_PATH_MAX])
{
    write_model(model, &pooling, path);
}
