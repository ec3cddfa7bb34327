/* hearth_synthesize: a GGUF file as large as a real one. */

#include "infer/synthetic.h"

#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/os.h"
#include "gguf/types.h"
#include "hearth/hearth.h"

#define ALIGNMENT 32u
#define CHUNK_BYTES ((size_t)1 << 20)
#define HEADER_BYTES_MAX ((size_t)1 << 28)
#define FIXED_TENSORS 3u
#define LAYER_TENSORS_MAX 16u
#define CONTEXT_LENGTH 32768u
#define BYTE_TOKENS 256u

/* ---- the tensors ---- */

struct tensor {
    char name[40];
    uint32_t type;
    uint64_t columns, rows; /* rows 0: a vector */
    float value;            /* of a vector: of each element; 0: random */
    uint64_t bytes, offset;
};

struct writer {
    const struct synthetic_shape *shape;
    struct synthetic_types types;
    struct tensor *tensors;
    size_t count;
    uint64_t data_bytes;
    struct buffer header;
    uint32_t key_count;
    int fd;
    uint64_t written, total;
    unsigned char *chunk;
    const struct hearth_model_options *options;
};

/* What llama.cpp takes where a row is no whole number of superblocks. */
static uint32_t fitting_type(uint32_t type, uint64_t columns)
{
    if (columns % tensor_type_traits(type)->block_elements == 0)
        return type;
    if (columns % 32 != 0)
        return TYPE_F16;
    switch (type) {
    case TYPE_Q4_K:
        return TYPE_Q5_0;
    case TYPE_Q5_K:
        return TYPE_Q5_1;
    case TYPE_Q6_K:
        return TYPE_Q8_0;
    default:
        return TYPE_IQ4_NL;
    }
}

static void add_tensor(struct writer *writer, struct tensor tensor)
{
    uint64_t row = 0;
    tensor_row_bytes(tensor.type, tensor.columns, &row);
    tensor.bytes = row * (tensor.rows ? tensor.rows : 1);
    tensor.offset = writer->data_bytes;
    writer->data_bytes += (tensor.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    writer->tensors[writer->count++] = tensor;
}

static struct tensor named(const char *name, int layer)
{
    struct tensor tensor = {0};
    if (layer < 0)
        snprintf(tensor.name, sizeof tensor.name, "%s", name);
    else
        snprintf(tensor.name, sizeof tensor.name, "blk.%d.%s", layer, name);
    return tensor;
}

static void add_matrix(struct writer *writer, const char *name, int layer, uint32_t type,
                       uint32_t rows, uint32_t columns)
{
    struct tensor tensor = named(name, layer);
    tensor.type = fitting_type(type, columns);
    tensor.rows = rows;
    tensor.columns = columns;
    add_tensor(writer, tensor);
}

static void add_vector(struct writer *writer, const char *name, int layer, uint32_t length,
                       float value)
{
    struct tensor tensor = named(name, layer);
    tensor.type = TYPE_F32;
    tensor.columns = length;
    tensor.value = value;
    add_tensor(writer, tensor);
}

/* The layers to which a preset ending in _M gives more bits: the outer eighths, and every third. */
static bool has_more_bits(uint32_t layer, uint32_t layers)
{
    return layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
}

static void add_layer(struct writer *writer, uint32_t index)
{
    const struct synthetic_shape *shape = writer->shape;
    const struct synthetic_types *types = &writer->types;
    int l = (int)index;
    uint32_t n = shape->embedding, better = types->most;
    uint32_t query = shape->heads * shape->head_size, key = shape->kv_heads * shape->head_size;
    if (has_more_bits(index, shape->layers))
        better = types->better;
    add_vector(writer, "attn_norm.weight", l, n, 1.0f);
    add_matrix(writer, "attn_q.weight", l, types->most, query, n);
    add_matrix(writer, "attn_k.weight", l, types->most, key, n);
    add_matrix(writer, "attn_v.weight", l, better, key, n);
    add_matrix(writer, "attn_output.weight", l, types->most, n, query);
    if (shape->biases) {
        add_vector(writer, "attn_q.bias", l, query, 0.0f);
        add_vector(writer, "attn_k.bias", l, key, 0.0f);
        add_vector(writer, "attn_v.bias", l, key, 0.0f);
    }
    if (shape->head_norms) {
        add_vector(writer, "attn_q_norm.weight", l, shape->head_size, 1.0f);
        add_vector(writer, "attn_k_norm.weight", l, shape->head_size, 1.0f);
    }
    add_vector(writer, "ffn_norm.weight", l, n, 1.0f);
    add_matrix(writer, "ffn_gate.weight", l, types->most, shape->ff_length, n);
    add_matrix(writer, "ffn_up.weight", l, types->most, shape->ff_length, n);
    add_matrix(writer, "ffn_down.weight", l, better, n, shape->ff_length);
    if (shape->post_norms) {
        add_vector(writer, "post_attention_norm.weight", l, n, 1.0f);
        add_vector(writer, "post_ffw_norm.weight", l, n, 1.0f);
    }
}

static int plan_tensors(struct writer *writer, struct hearth_error *err)
{
    const struct synthetic_shape *shape = writer->shape;
    size_t capacity = FIXED_TENSORS + (size_t)shape->layers * LAYER_TENSORS_MAX;
    writer->tensors = mem_alloc_array(capacity, sizeof *writer->tensors);
    writer->chunk = mem_alloc(CHUNK_BYTES);
    if (!writer->tensors || !writer->chunk)
        return error_set(err, HEARTH_E_MEMORY, "no memory to make up a model");
    uint32_t n = shape->embedding;
    add_matrix(writer, "token_embd.weight", -1, writer->types.output, shape->vocabulary, n);
    for (uint32_t l = 0; l < shape->layers; l++)
        add_layer(writer, l);
    add_vector(writer, "output_norm.weight", -1, n, 1.0f);
    if (!shape->tied)
        add_matrix(writer, "output.weight", -1, writer->types.output, shape->vocabulary, n);
    return 0;
}

/* ---- keys: GGUF's numbers and strings ---- */

enum { VALUE_U32 = 4, VALUE_I32 = 5, VALUE_F32 = 6, VALUE_STRING = 8, VALUE_ARRAY = 9 };

static void put_u32(struct buffer *out, uint32_t value)
{
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    buffer_append(out, bytes, sizeof bytes);
}

static void put_u64(struct buffer *out, uint64_t value)
{
    put_u32(out, (uint32_t)value);
    put_u32(out, (uint32_t)(value >> 32));
}

static void put_string(struct buffer *out, const char *text)
{
    put_u64(out, strlen(text));
    buffer_append_text(out, text_of(text));
}

static void begin_key(struct writer *writer, const char *name, uint32_t type)
{
    writer->key_count++;
    put_string(&writer->header, name);
    put_u32(&writer->header, type);
}

static void key_string(struct writer *writer, const char *name, const char *value)
{
    begin_key(writer, name, VALUE_STRING);
    put_string(&writer->header, value);
}

static void key_u32(struct writer *writer, const char *name, uint32_t value)
{
    begin_key(writer, name, VALUE_U32);
    put_u32(&writer->header, value);
}

/* A key of the architecture: "llama." and so on before its name. */
static void shape_u32(struct writer *writer, const char *name, uint32_t value)
{
    char key[80];
    snprintf(key, sizeof key, "%s.%s", writer->shape->architecture, name);
    key_u32(writer, key, value);
}

static void shape_f32(struct writer *writer, const char *name, float value)
{
    char key[80];
    uint32_t bits;
    snprintf(key, sizeof key, "%s.%s", writer->shape->architecture, name);
    begin_key(writer, key, VALUE_F32);
    memcpy(&bits, &value, sizeof bits);
    put_u32(&writer->header, bits);
}

static void put_shape_keys(struct writer *writer)
{
    const struct synthetic_shape *shape = writer->shape;
    shape_u32(writer, "context_length", CONTEXT_LENGTH);
    shape_u32(writer, "embedding_length", shape->embedding);
    shape_u32(writer, "block_count", shape->layers);
    shape_u32(writer, "feed_forward_length", shape->ff_length);
    shape_u32(writer, "attention.head_count", shape->heads);
    shape_u32(writer, "attention.head_count_kv", shape->kv_heads);
    shape_u32(writer, "attention.key_length", shape->head_size);
    shape_u32(writer, "attention.value_length", shape->head_size);
    shape_u32(writer, "rope.dimension_count", shape->head_size);
    shape_f32(writer, "rope.freq_base", shape->rope_base);
    shape_f32(writer, "attention.layer_norm_rms_epsilon", 1e-5f);
    if (shape->window)
        shape_u32(writer, "attention.sliding_window", shape->window);
}

/* The characters by which byte-level BPE names the bytes: those that print stand for themselves,
 * the others are numbered from 256 on. */
static void put_byte_token(struct buffer *out, unsigned byte, unsigned *unprinted)
{
    bool prints = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    unsigned code_point = prints ? byte : 256 + (*unprinted)++;
    char text[3] = {(char)code_point, 0, 0};
    if (code_point >= 0x80) {
        text[0] = (char)(0xc0 | code_point >> 6);
        text[1] = (char)(0x80 | (code_point & 0x3f));
    }
    put_string(out, text);
}

static void begin_array(struct writer *writer, const char *name, uint32_t element, uint64_t count)
{
    begin_key(writer, name, VALUE_ARRAY);
    put_u32(&writer->header, element);
    put_u64(&writer->header, count);
}

/* A vocabulary of the real size: all bytes, then made-up words, and an end. */
static void put_vocabulary(struct writer *writer)
{
    uint32_t count = writer->shape->vocabulary, end = count - 1;
    unsigned unprinted = 0;
    key_string(writer, "tokenizer.ggml.model", "gpt2");
    key_string(writer, "tokenizer.ggml.pre", "default");
    begin_array(writer, "tokenizer.ggml.tokens", VALUE_STRING, count);
    for (uint32_t i = 0; i < count; i++) {
        char word[16];
        snprintf(word, sizeof word, "w%u", i);
        if (i < BYTE_TOKENS)
            put_byte_token(&writer->header, i, &unprinted);
        else
            put_string(&writer->header, i == end ? "<|end|>" : word);
    }
    begin_array(writer, "tokenizer.ggml.token_type", VALUE_I32, count);
    for (uint32_t i = 0; i < count; i++)
        put_u32(&writer->header, i == end ? 3 : 1); /* control, normal */
    begin_array(writer, "tokenizer.ggml.merges", VALUE_STRING, 1);
    put_string(&writer->header, "a b");
    key_u32(writer, "tokenizer.ggml.bos_token_id", end);
    key_u32(writer, "tokenizer.ggml.eos_token_id", end);
}

static void put_tensor_infos(struct writer *writer)
{
    struct buffer *out = &writer->header;
    for (size_t i = 0; i < writer->count; i++) {
        const struct tensor *tensor = &writer->tensors[i];
        put_string(out, tensor->name);
        put_u32(out, tensor->rows ? 2 : 1);
        put_u64(out, tensor->columns);
        if (tensor->rows)
            put_u64(out, tensor->rows);
        put_u32(out, tensor->type);
        put_u64(out, tensor->offset);
    }
}

static int put_header(struct writer *writer, const char *what, struct hearth_error *err)
{
    struct buffer *out = &writer->header;
    buffer_append(out, "GGUF", 4);
    put_u32(out, 3);
    put_u64(out, writer->count);
    size_t key_count_at = out->size;
    put_u64(out, 0);
    key_string(writer, "general.architecture", writer->shape->architecture);
    key_string(writer, "general.name", what);
    put_shape_keys(writer);
    put_vocabulary(writer);
    put_tensor_infos(writer);
    while (!out->failed && out->size % ALIGNMENT != 0)
        buffer_append_char(out, '\0');
    if (out->failed)
        return error_set(err, HEARTH_E_MEMORY, "no memory to make up a model");
    out->data[key_count_at] = (char)writer->key_count;
    return 0;
}

/* ---- writing ---- */

static int write_bytes(struct writer *writer, const void *bytes, size_t size,
                       struct hearth_error *err)
{
    const struct hearth_model_options *options = writer->options;
    int status = os_file_write(writer->fd, bytes, size, err);
    if (status)
        return status;
    writer->written += size;
    double fraction = (double)writer->written / (double)writer->total;
    if (options && options->progress && !options->progress(options->progress_context, fraction))
        return error_set(err, HEARTH_E_CANCELLED, "cancelled");
    return 0;
}

static void fill_vector(struct random *random, const struct tensor *tensor, unsigned char *out)
{
    if (tensor->value == 0.0f)
        synthetic_fill(random, TYPE_F32, out, (size_t)tensor->bytes);
    for (size_t i = 0; tensor->value != 0.0f && i < tensor->columns; i++)
        memcpy(out + i * sizeof(float), &tensor->value, sizeof(float));
}

static int write_tensor(struct writer *writer, const struct tensor *tensor, struct random *random,
                        struct hearth_error *err)
{
    static const unsigned char padding[ALIGNMENT] = {0};
    size_t block = tensor_type_traits(tensor->type)->block_bytes;
    size_t most = CHUNK_BYTES / block * block;
    int status = 0;
    for (uint64_t done = 0; done < tensor->bytes && !status;) {
        size_t size = tensor->bytes - done < most ? (size_t)(tensor->bytes - done) : most;
        if (tensor->rows)
            synthetic_fill(random, tensor->type, writer->chunk, size);
        else
            fill_vector(random, tensor, writer->chunk);
        status = write_bytes(writer, writer->chunk, size, err);
        done += size;
    }
    size_t over = (size_t)(tensor->bytes % ALIGNMENT);
    return status || over == 0 ? status : write_bytes(writer, padding, ALIGNMENT - over, err);
}

static int write_file(struct writer *writer, const char *what, struct hearth_error *err)
{
    struct random random = random_from_seed(1);
    int status = plan_tensors(writer, err);
    if (!status)
        status = put_header(writer, what, err);
    if (status)
        return status;
    writer->total = writer->header.size + writer->data_bytes;
    status = write_bytes(writer, writer->header.data, writer->header.size, err);
    for (size_t i = 0; i < writer->count && !status; i++)
        status = write_tensor(writer, &writer->tensors[i], &random, err);
    return status;
}

int hearth_synthesize(const char *what, int fd, const struct hearth_model_options *options,
                      struct hearth_error *err)
{
    struct writer writer = {.fd = fd, .options = options};
    int status = synthetic_parse(what, &writer.shape, &writer.types, err);
    if (status)
        return status;
    buffer_init(&writer.header, HEADER_BYTES_MAX);
    status = write_file(&writer, what, err);
    buffer_finish(&writer.header);
    mem_free(writer.tensors);
    mem_free(writer.chunk);
    return status;
}
