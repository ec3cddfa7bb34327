#include "material.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void fill_scalars(struct gguf_writer *writer)
{
    uint8_t u8 = 200;
    int8_t i8 = -100;
    uint16_t u16 = 60000;
    int16_t i16 = -30000;
    int64_t i64 = INT64_MIN;
    double f64 = 0.1;
    gguf_writer_scalar(writer, "a.u8", GGUF_U8, &u8);
    gguf_writer_scalar(writer, "a.i8", GGUF_I8, &i8);
    gguf_writer_scalar(writer, "a.u16", GGUF_U16, &u16);
    gguf_writer_scalar(writer, "a.i16", GGUF_I16, &i16);
    gguf_writer_u32(writer, "a.u32", 4000000000u);
    gguf_writer_i32(writer, "a.i32", INT32_MIN);
    gguf_writer_f32(writer, "a.f32", 1.5f);
    gguf_writer_bool(writer, "a.bool", true);
    gguf_writer_string(writer, "a.string", "hello");
    gguf_writer_u64(writer, "a.u64", UINT64_MAX);
    gguf_writer_scalar(writer, "a.i64", GGUF_I64, &i64);
    gguf_writer_scalar(writer, "a.f64", GGUF_F64, &f64);
}

static void fill_arrays(struct gguf_writer *writer)
{
    static const uint8_t bytes[] = {1, 2, 3};
    static const uint16_t shorts[] = {1, 65535};
    static const uint32_t words[] = {7, 4000000000u, 9};
    static const int32_t ints[] = {-1, INT32_MAX};
    static const uint64_t longs[] = {1, UINT64_MAX};
    static const float floats[] = {0.5f, -2.0f};
    static const double doubles[] = {0.25, 1e300};
    static const unsigned char bools[] = {1, 0, 1};
    static const struct text texts[] = {
        {"one", 3}, {"", 0}, {"a\0b", 3}, {"\xff\xfe", 2}, {"last", 4}};
    gguf_writer_array(writer, "b.u8", GGUF_U8, bytes, 3);
    gguf_writer_array(writer, "b.i8", GGUF_I8, bytes, 3);
    gguf_writer_array(writer, "b.u16", GGUF_U16, shorts, 2);
    gguf_writer_array(writer, "b.i16", GGUF_I16, shorts, 2);
    gguf_writer_array(writer, "b.u32", GGUF_U32, words, 3);
    gguf_writer_array(writer, "b.i32", GGUF_I32, ints, 2);
    gguf_writer_array(writer, "b.f32", GGUF_F32, floats, 2);
    gguf_writer_array(writer, "b.bool", GGUF_BOOL, bools, 3);
    gguf_writer_texts(writer, "b.string", texts, 5);
    gguf_writer_array(writer, "b.u64", GGUF_U64, longs, 2);
    gguf_writer_array(writer, "b.i64", GGUF_I64, longs, 2);
    gguf_writer_array(writer, "b.f64", GGUF_F64, doubles, 2);
    gguf_writer_array(writer, "b.none", GGUF_U32, NULL, 0);
    gguf_writer_texts(writer, "b.no_strings", NULL, 0);
}

void material_fill(struct gguf_writer *writer)
{
    static const float vector[] = {1, 2, 3, 4, 5};
    static const uint64_t five[] = {5}, matrix[] = {64, 3}, cube[] = {2, 3, 4},
                          four[] = {1, 1, 1, 7};
    fill_scalars(writer);
    fill_arrays(writer);
    gguf_writer_tensor(writer, "vector", TYPE_F32, 1, five, vector);
    gguf_writer_tensor(writer, "matrix", TYPE_Q4_0, 2, matrix, NULL);
    gguf_writer_tensor(writer, "cube", TYPE_BF16, 3, cube, NULL);
    gguf_writer_tensor(writer, "four", TYPE_F16, 4, four, NULL);
}

/* Reads each byte, so that a sanitizer or a page fault notices a wrong one. */
static unsigned read_all(const void *data, uint64_t size)
{
    const unsigned char *bytes = data;
    unsigned sum = 0;
    for (uint64_t i = 0; i < size; i++)
        sum += bytes[i];
    return sum;
}

static void walk_key(const struct gguf *gguf, const struct gguf_key *key)
{
    volatile unsigned sink = read_all(key->name.data, key->name.size);
    sink = read_all(key->data, key->size);
    (void)sink;
    assert_true(key->name.size > 0);
    if (!memchr(key->name.data, 0, key->name.size) && key->name.size < 200) {
        char name[200];
        memcpy(name, key->name.data, key->name.size);
        name[key->name.size] = '\0';
        assert_ptr_equal(gguf_find(gguf, name), key);
    }
    if (key->type != GGUF_ARRAY) {
        assert_int_equal(key->count, 1);
        assert_int_equal(key->element, key->type);
        return;
    }
    if (key->element != GGUF_STRING)
        return;
    uint64_t cursor = 0, count = 0;
    struct text value;
    while (gguf_array_next_text(key, &cursor, &value)) {
        sink = read_all(value.data, value.size);
        count++;
    }
    assert_int_equal(count, key->count);
}

static void walk_tensor(const struct gguf *gguf, const struct gguf_tensor *tensor)
{
    volatile unsigned sink = read_all(tensor->name.data, tensor->name.size);
    sink = read_all(tensor->data, tensor->size);
    (void)sink;
    assert_true(tensor->n_dims >= 1 && tensor->n_dims <= GGUF_DIMS_MAX);
    uint64_t rows = 1;
    for (int i = 0; i < GGUF_DIMS_MAX; i++) {
        assert_true(tensor->ne[i] > 0);
        rows *= i ? tensor->ne[i] : 1;
    }
    assert_non_null(tensor_type_traits(tensor->type));
    assert_int_equal(tensor->size, rows * tensor->row_bytes);
    struct text bytes = gguf_part_bytes(gguf, tensor->part);
    assert_ptr_equal(tensor->data, bytes.data + tensor->file_offset);
    assert_true(tensor->file_offset + tensor->size <= bytes.size);
}

void material_walk(const struct gguf *gguf)
{
    for (size_t i = 0; i < gguf_key_count(gguf); i++)
        walk_key(gguf, gguf_key_at(gguf, i));
    for (size_t i = 0; i < gguf_tensor_count(gguf); i++)
        walk_tensor(gguf, gguf_tensor_at(gguf, i));
}

int material_open(struct text bytes, struct gguf **out, struct hearth_error *err)
{
    return gguf_open_memory(&bytes, 1, out, err);
}

void material_refused(struct text bytes, int code, const char *part)
{
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    int status = material_open(bytes, &gguf, &err);
    if (status != code || !strstr(err.text, part))
        print_error("status %d, \"%s\" instead of %d, \"%s\"\n", status, err.text, code, part);
    assert_int_equal(status, code);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.text, part));
    assert_null(gguf);
    assert_int_equal(material_open(bytes, &gguf, NULL), code);
}
