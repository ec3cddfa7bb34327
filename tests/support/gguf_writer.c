#include "support/gguf_writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define HEADER_BYTES 24

static void need(bool condition)
{
    if (!condition)
        abort();
}

static size_t scalar_bytes(enum gguf_value_type type)
{
    static const unsigned char bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    need((size_t)type < sizeof bytes && bytes[type] != 0);
    return bytes[type];
}

/* Room for one more thing: a table doubles when its count is a power of two. */
static void *grow(void *table, size_t count, size_t size)
{
    if ((count & (count - 1)) != 0)
        return table;
    void *grown = mem_realloc_array(table, count ? 2 * count : 1, size);
    need(grown != NULL);
    return grown;
}

/* Appends a number and notes where it stands; the place is counted from `base`. */
static void put_field(struct gguf_writer *writer, struct buffer *to, size_t base, const char *what,
                      uint64_t value, unsigned width)
{
    writer->fields = grow(writer->fields, writer->field_count, sizeof *writer->fields);
    writer->fields[writer->field_count++] =
        (struct gguf_writer_field){what, base + to->size, width};
    for (unsigned i = 0; i < width; i++)
        need(buffer_append_char(to, (char)(value >> (8 * i) & 0xff)));
}

static void put_key_field(struct gguf_writer *writer, const char *what, uint64_t value,
                          unsigned width)
{
    put_field(writer, &writer->keys, HEADER_BYTES, what, value, width);
}

static void put_key_bytes(struct gguf_writer *writer, const void *bytes, size_t size)
{
    need(buffer_append(&writer->keys, bytes, size));
}

static void begin_key(struct gguf_writer *writer, struct text name, uint32_t type)
{
    put_key_field(writer, "length of a key's name", name.size, 8);
    put_key_bytes(writer, name.data, name.size);
    put_key_field(writer, "type of a key", type, 4);
    writer->key_count++;
}

void gguf_writer_init(struct gguf_writer *writer)
{
    *writer = (struct gguf_writer){.magic = {'G', 'G', 'U', 'F'}, .version = 3, .alignment = 32};
    buffer_init(&writer->keys, SIZE_MAX / 2);
    buffer_init(&writer->data, SIZE_MAX / 2);
    buffer_init(&writer->out, SIZE_MAX / 2);
}

void gguf_writer_finish(struct gguf_writer *writer)
{
    mem_free(writer->tensors);
    mem_free(writer->fields);
    buffer_finish(&writer->keys);
    buffer_finish(&writer->data);
    buffer_finish(&writer->out);
}

void gguf_writer_scalar(struct gguf_writer *writer, const char *name, enum gguf_value_type type,
                        const void *value)
{
    begin_key(writer, text_of(name), type);
    put_key_bytes(writer, value, scalar_bytes(type));
}

void gguf_writer_u32(struct gguf_writer *writer, const char *name, uint32_t value)
{
    gguf_writer_scalar(writer, name, GGUF_U32, &value);
}

void gguf_writer_i32(struct gguf_writer *writer, const char *name, int32_t value)
{
    gguf_writer_scalar(writer, name, GGUF_I32, &value);
}

void gguf_writer_u64(struct gguf_writer *writer, const char *name, uint64_t value)
{
    gguf_writer_scalar(writer, name, GGUF_U64, &value);
}

void gguf_writer_f32(struct gguf_writer *writer, const char *name, float value)
{
    gguf_writer_scalar(writer, name, GGUF_F32, &value);
}

void gguf_writer_bool(struct gguf_writer *writer, const char *name, bool value)
{
    unsigned char byte = value;
    gguf_writer_scalar(writer, name, GGUF_BOOL, &byte);
}

void gguf_writer_string(struct gguf_writer *writer, const char *name, const char *value)
{
    gguf_writer_text(writer, name, text_of(value));
}

void gguf_writer_text(struct gguf_writer *writer, const char *name, struct text value)
{
    begin_key(writer, text_of(name), GGUF_STRING);
    put_key_field(writer, "length of a string", value.size, 8);
    put_key_bytes(writer, value.data, value.size);
}

static void begin_array(struct gguf_writer *writer, const char *name, uint32_t element,
                        size_t count)
{
    begin_key(writer, text_of(name), GGUF_ARRAY);
    put_key_field(writer, "element type of an array", element, 4);
    put_key_field(writer, "length of an array", count, 8);
}

void gguf_writer_array(struct gguf_writer *writer, const char *name, enum gguf_value_type element,
                       const void *values, size_t count)
{
    begin_array(writer, name, element, count);
    put_key_bytes(writer, values, count * scalar_bytes(element));
}

void gguf_writer_texts(struct gguf_writer *writer, const char *name, const struct text *values,
                       size_t count)
{
    begin_array(writer, name, GGUF_STRING, count);
    for (size_t i = 0; i < count; i++) {
        put_key_field(writer, "length of a string in an array", values[i].size, 8);
        put_key_bytes(writer, values[i].data, values[i].size);
    }
}

void gguf_writer_strings(struct gguf_writer *writer, const char *name, const char *const *values,
                         size_t count)
{
    struct text *texts = mem_alloc_array(count, sizeof *texts);
    need(texts != NULL);
    for (size_t i = 0; i < count; i++)
        texts[i] = text_of(values[i]);
    gguf_writer_texts(writer, name, texts, count);
    mem_free(texts);
}

void gguf_writer_raw(struct gguf_writer *writer, struct text name, uint32_t type, const void *value,
                     size_t size)
{
    begin_key(writer, name, type);
    put_key_bytes(writer, value, size);
}

static void pad(struct buffer *buffer, uint32_t alignment)
{
    while (buffer->size % alignment != 0)
        need(buffer_append_char(buffer, 0));
}

struct gguf_writer_tensor *gguf_writer_tensor(struct gguf_writer *writer, const char *name,
                                              uint32_t type, uint32_t n_dims, const uint64_t *ne,
                                              const void *data)
{
    need(n_dims >= 1 && n_dims <= GGUF_DIMS_MAX);
    writer->tensors = grow(writer->tensors, writer->tensors_held, sizeof *writer->tensors);
    struct gguf_writer_tensor *tensor = &writer->tensors[writer->tensors_held++];
    writer->tensor_count++;
    pad(&writer->data, writer->alignment);
    *tensor = (struct gguf_writer_tensor){
        .name = text_of(name), .type = type, .n_dims = n_dims, .offset = writer->data.size};
    need(tensor_row_bytes(type, ne[0], &tensor->size));
    for (uint32_t i = 0; i < n_dims; i++) {
        tensor->ne[i] = ne[i];
        tensor->size *= i ? ne[i] : 1;
    }
    char *place = buffer_reserve(&writer->data, (size_t)tensor->size);
    need(place != NULL);
    if (data)
        memcpy(place, data, (size_t)tensor->size);
    else
        memset(place, 0, (size_t)tensor->size);
    writer->data.size += (size_t)tensor->size;
    return tensor;
}

static void put_tensor(struct gguf_writer *writer, const struct gguf_writer_tensor *tensor)
{
    struct buffer *out = &writer->out;
    put_field(writer, out, 0, "length of a tensor's name", tensor->name.size, 8);
    need(buffer_append_text(out, tensor->name));
    put_field(writer, out, 0, "number of dimensions", tensor->n_dims, 4);
    for (uint32_t i = 0; i < tensor->n_dims && i < 8; i++)
        put_field(writer, out, 0, "dimension", tensor->ne[i], 8);
    put_field(writer, out, 0, "type of a tensor", tensor->type, 4);
    put_field(writer, out, 0, "offset of a tensor", tensor->offset, 8);
}

struct text gguf_writer_bytes(struct gguf_writer *writer)
{
    struct buffer *out = &writer->out;
    need(out->size == 0);
    need(buffer_append(out, writer->magic, sizeof writer->magic));
    put_field(writer, out, 0, "version", writer->version, 4);
    put_field(writer, out, 0, "number of tensors", writer->tensor_count, 8);
    put_field(writer, out, 0, "number of keys", writer->key_count, 8);
    need(buffer_append_text(out, buffer_text(&writer->keys)));
    for (size_t i = 0; i < writer->tensors_held; i++)
        put_tensor(writer, &writer->tensors[i]);
    pad(out, writer->alignment);
    need(buffer_append_text(out, buffer_text(&writer->data)));
    return buffer_text(out);
}

void test_temp_file(char path[TEST_PATH_MAX])
{
    const char *directory = getenv("TMPDIR");
    for (unsigned i = 0; i < 100000; i++) {
        int size = snprintf(path, TEST_PATH_MAX, "%s/hearth-test-%u",
                            directory && *directory ? directory : "/tmp", i);
        need(size > 0 && size < TEST_PATH_MAX - 64);
        FILE *file = fopen(path, "wbx");
        if (file) {
            fclose(file);
            return;
        }
    }
    abort();
}

void test_write_file(const char *path, struct text bytes)
{
    FILE *file = fopen(path, "wb");
    need(file != NULL);
    need(bytes.size == 0 || fwrite(bytes.data, 1, bytes.size, file) == bytes.size);
    need(fclose(file) == 0);
}
