#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/memory.h"
#include "material.h"

/* ---- a file with all there is, open ---- */

struct opened {
    struct gguf_writer writer;
    struct gguf *gguf;
};

static int open_material(void **state)
{
    struct opened *opened = MEM_NEW(struct opened);
    gguf_writer_init(&opened->writer);
    material_fill(&opened->writer);
    struct hearth_error err;
    if (material_open(gguf_writer_bytes(&opened->writer), &opened->gguf, &err))
        return -1;
    *state = opened;
    return 0;
}

static int close_material(void **state)
{
    struct opened *opened = *state;
    gguf_close(opened->gguf);
    gguf_writer_finish(&opened->writer);
    mem_free(opened);
    return 0;
}

static const struct gguf *view(void **state)
{
    return ((struct opened *)*state)->gguf;
}

/* ---- what a view shows ---- */

static void versions_2_and_3_are_read(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct gguf_writer writer;
        struct gguf *gguf;
        struct hearth_error err;
        gguf_writer_init(&writer);
        writer.version = version;
        material_fill(&writer);
        struct text bytes = gguf_writer_bytes(&writer);
        assert_int_equal(material_open(bytes, &gguf, &err), 0);
        assert_int_equal(gguf_version(gguf), version);
        assert_int_equal(gguf_key_count(gguf), 26);
        assert_int_equal(gguf_tensor_count(gguf), 4);
        assert_int_equal(gguf_part_count(gguf), 1);
        assert_int_equal(gguf_file_size(gguf), bytes.size);
        material_walk(gguf);
        gguf_close(gguf);
        gguf_writer_finish(&writer);
    }
}

static void a_file_without_keys_and_tensors_is_read(void **state)
{
    (void)state;
    struct gguf_writer writer;
    struct gguf *gguf;
    struct hearth_error err;
    gguf_writer_init(&writer);
    assert_int_equal(material_open(gguf_writer_bytes(&writer), &gguf, &err), 0);
    assert_int_equal(gguf_key_count(gguf), 0);
    assert_int_equal(gguf_tensor_count(gguf), 0);
    assert_null(gguf_find(gguf, "any"));
    assert_null(gguf_find_tensor(gguf, "any"));
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

static void keys_keep_the_order_of_the_file(void **state)
{
    const struct gguf *gguf = view(state);
    assert_true(text_equal(gguf_key_at(gguf, 0)->name, TEXT("a.u8")));
    assert_true(text_equal(gguf_key_at(gguf, 11)->name, TEXT("a.f64")));
    assert_true(text_equal(gguf_key_at(gguf, 25)->name, TEXT("b.no_strings")));
    assert_null(gguf_find(gguf, "a"));
    assert_null(gguf_find(gguf, ""));
    assert_null(gguf_find(gguf, "a.u88"));
}

static void tensors_have_their_shape_and_data(void **state)
{
    const struct gguf *gguf = view(state);
    const struct gguf_tensor *vector = gguf_find_tensor(gguf, "vector");
    const struct gguf_tensor *matrix = gguf_find_tensor(gguf, "matrix");
    const struct gguf_tensor *cube = gguf_find_tensor(gguf, "cube");
    assert_ptr_equal(vector, gguf_tensor_at(gguf, 0));
    assert_int_equal(vector->type, TYPE_F32);
    assert_int_equal(vector->n_dims, 1);
    assert_int_equal(vector->ne[0], 5);
    assert_int_equal(vector->ne[1], 1);
    assert_int_equal(vector->size, 20);
    static const float values[] = {1, 2, 3, 4, 5};
    assert_memory_equal(vector->data, values, sizeof values);
    assert_int_equal(matrix->row_bytes, 36);
    assert_int_equal(matrix->size, 108);
    assert_int_equal(cube->n_dims, 3);
    assert_int_equal(cube->ne[2], 4);
    assert_int_equal(cube->ne[3], 1);
    assert_int_equal(cube->size, 48);
    assert_int_equal(matrix->file_offset % 32, 0);
    assert_null(gguf_find_tensor(gguf, "none"));
}

static void data_begins_where_general_alignment_says(void **state)
{
    (void)state;
    static const uint32_t alignments[] = {8, 16, 64, 4096};
    for (size_t i = 0; i < 4; i++) {
        struct gguf_writer writer;
        struct gguf *gguf;
        struct hearth_error err;
        gguf_writer_init(&writer);
        writer.alignment = alignments[i];
        gguf_writer_u32(&writer, "general.alignment", alignments[i]);
        material_fill(&writer);
        assert_int_equal(material_open(gguf_writer_bytes(&writer), &gguf, &err), 0);
        assert_int_equal(gguf_tensor_at(gguf, 0)->file_offset % alignments[i], 0);
        static const float values[] = {1, 2, 3, 4, 5};
        assert_memory_equal(gguf_tensor_at(gguf, 0)->data, values, sizeof values);
        gguf_close(gguf);
        gguf_writer_finish(&writer);
    }
}

static void types_that_hearth_cannot_compute_are_still_listed(void **state)
{
    (void)state;
    struct gguf_writer writer;
    struct gguf *gguf;
    struct hearth_error err;
    uint64_t ne[] = {512, 2};
    gguf_writer_init(&writer);
    gguf_writer_tensor(&writer, "small", 21, 2, ne, NULL);
    assert_int_equal(material_open(gguf_writer_bytes(&writer), &gguf, &err), 0);
    assert_int_equal(gguf_tensor_at(gguf, 0)->size, 440);
    assert_false(tensor_type_traits(gguf_tensor_at(gguf, 0)->type)->supported);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

/* ---- integers ---- */

static void any_integer_type_serves_where_the_value_fits(void **state)
{
    const struct gguf *gguf = view(state);
    uint64_t wide = 0;
    uint32_t narrow = 0;
    assert_int_equal(gguf_get_u64(gguf, "a.u8", 0, 255, &wide, NULL), 0);
    assert_int_equal(wide, 200);
    assert_int_equal(gguf_get_u32(gguf, "a.u16", 60000, 60000, &narrow, NULL), 0);
    assert_int_equal(narrow, 60000);
    assert_int_equal(gguf_get_u32(gguf, "a.u32", 0, UINT32_MAX, &narrow, NULL), 0);
    assert_true(narrow == 4000000000u);
    assert_int_equal(gguf_get_u64(gguf, "a.u64", 0, UINT64_MAX, &wide, NULL), 0);
    assert_true(wide == UINT64_MAX);
}

static void positive_values_of_signed_types_are_integers_too(void **state)
{
    (void)state;
    struct gguf_writer writer;
    struct gguf *gguf;
    int8_t i8 = 127;
    int16_t i16 = 32767;
    int64_t i64 = INT64_MAX;
    uint64_t value;
    gguf_writer_init(&writer);
    gguf_writer_scalar(&writer, "i8", GGUF_I8, &i8);
    gguf_writer_scalar(&writer, "i16", GGUF_I16, &i16);
    gguf_writer_i32(&writer, "i32", 7);
    gguf_writer_scalar(&writer, "i64", GGUF_I64, &i64);
    assert_int_equal(material_open(gguf_writer_bytes(&writer), &gguf, NULL), 0);
    assert_int_equal(gguf_get_u64(gguf, "i8", 0, UINT64_MAX, &value, NULL), 0);
    assert_int_equal(value, 127);
    assert_int_equal(gguf_get_u64(gguf, "i16", 0, UINT64_MAX, &value, NULL), 0);
    assert_int_equal(value, 32767);
    assert_int_equal(gguf_get_u64(gguf, "i32", 7, 7, &value, NULL), 0);
    assert_int_equal(value, 7);
    assert_int_equal(gguf_get_u64(gguf, "i64", 0, UINT64_MAX, &value, NULL), 0);
    assert_true(value == INT64_MAX);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

struct refusal {
    const char *key;
    uint64_t min, max;
    int code;
    const char *text;
};

static void an_integer_outside_its_range_names_value_and_bounds(void **state)
{
    static const struct refusal cases[] = {
        {"a.u8", 0, 199, HEARTH_E_FORMAT, "'a.u8' is 200, but must lie between 0 and 199"},
        {"a.u8", 201, 300, HEARTH_E_FORMAT, "'a.u8' is 200, but must lie between 201 and 300"},
        {"a.i8", 0, 300, HEARTH_E_FORMAT, "'a.i8' is -100, but"},
        {"a.i16", 0, UINT32_MAX, HEARTH_E_FORMAT, "'a.i16' is -30000, but"},
        {"a.i32", 0, UINT32_MAX, HEARTH_E_FORMAT, "'a.i32' is -2147483648, but"},
        {"a.i64", 0, UINT32_MAX, HEARTH_E_FORMAT, "'a.i64' is -9223372036854775808, but"},
        {"a.u64", 0, UINT32_MAX, HEARTH_E_FORMAT, "'a.u64' is 18446744073709551615, but"},
        {"a.f32", 0, 1, HEARTH_E_FORMAT, "'a.f32' must be an integer, but is of type f32"},
        {"a.bool", 0, 1, HEARTH_E_FORMAT, "'a.bool' must be an integer, but is of type bool"},
        {"a.string", 0, 1, HEARTH_E_FORMAT, "'a.string' must be an integer, but is of type string"},
        {"b.u32", 0, 1, HEARTH_E_FORMAT, "'b.u32' must be an integer, but is of type array of u32"},
        {"absent", 0, 1, HEARTH_E_MISSING, "'absent' is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hearth_error err = {0};
        uint32_t narrow = 77;
        uint64_t wide = 77;
        const struct refusal *c = &cases[i];
        assert_int_equal(
            gguf_get_u32(view(state), c->key, (uint32_t)c->min, (uint32_t)c->max, &narrow, &err),
            c->code);
        assert_non_null(strstr(err.text, c->text));
        assert_int_equal(gguf_get_u64(view(state), c->key, c->min, c->max, &wide, NULL), c->code);
        assert_int_equal(narrow, 77);
        assert_int_equal(wide, 77);
    }
}

/* ---- floats, booleans, texts ---- */

static void floats_are_read_from_both_widths(void **state)
{
    const struct gguf *gguf = view(state);
    struct hearth_error err;
    float value = 77;
    assert_int_equal(gguf_get_f32(gguf, "a.f32", 0, 2, &value, NULL), 0);
    assert_true(value == 1.5f);
    assert_int_equal(gguf_get_f32(gguf, "a.f64", 0, 2, &value, NULL), 0);
    assert_true(value == 0.1f);
    assert_int_equal(gguf_get_f32(gguf, "a.f32", 2, 3, &value, &err), HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "'a.f32' is 1.5, but must lie between 2 and 3"));
    assert_int_equal(gguf_get_f32(gguf, "a.u32", 2, 3, &value, &err), HEARTH_E_FORMAT);
    assert_non_null(
        strstr(err.text, "'a.u32' must be a floating-point number, but is of type u32"));
    assert_int_equal(gguf_get_f32(gguf, "absent", 2, 3, &value, &err), HEARTH_E_MISSING);
    assert_true(value == 0.1f);
}

static void a_float_that_is_not_finite_is_refused(void **state)
{
    (void)state;
    struct gguf_writer writer;
    struct gguf *gguf;
    double nan64 = (double)NAN, large = 1e300;
    gguf_writer_init(&writer);
    gguf_writer_f32(&writer, "nan", NAN);
    gguf_writer_f32(&writer, "infinite", INFINITY);
    gguf_writer_f32(&writer, "negative", -INFINITY);
    gguf_writer_scalar(&writer, "nan64", GGUF_F64, &nan64);
    gguf_writer_scalar(&writer, "large", GGUF_F64, &large);
    gguf_writer_f32(&writer, "max", FLT_MAX);
    assert_int_equal(material_open(gguf_writer_bytes(&writer), &gguf, NULL), 0);
    static const char *const keys[] = {"nan", "infinite", "negative", "nan64", "large"};
    for (size_t i = 0; i < 5; i++) {
        float value = 77;
        struct hearth_error err = {0};
        assert_int_equal(gguf_get_f32(gguf, keys[i], -INFINITY, INFINITY, &value, &err),
                         HEARTH_E_FORMAT);
        assert_non_null(strstr(err.text, keys[i]));
        assert_true(value == 77);
    }
    float value = 0;
    assert_int_equal(gguf_get_f32(gguf, "max", -INFINITY, INFINITY, &value, NULL), 0);
    assert_true(value == FLT_MAX);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

static void booleans_and_texts_are_read(void **state)
{
    const struct gguf *gguf = view(state);
    struct hearth_error err;
    bool flag = false;
    struct text text = {NULL, 0};
    assert_int_equal(gguf_get_bool(gguf, "a.bool", &flag, NULL), 0);
    assert_true(flag);
    assert_int_equal(gguf_get_text(gguf, "a.string", &text, NULL), 0);
    assert_true(text_equal(text, TEXT("hello")));
    assert_int_equal(gguf_get_bool(gguf, "a.u8", &flag, &err), HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "'a.u8' must be a bool, but is of type u8"));
    assert_int_equal(gguf_get_text(gguf, "b.string", &text, &err), HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "must be a string, but is of type array of string"));
    assert_int_equal(gguf_get_bool(gguf, "absent", &flag, &err), HEARTH_E_MISSING);
    assert_int_equal(gguf_get_text(gguf, "absent", &text, &err), HEARTH_E_MISSING);
}

/* ---- arrays ---- */

static void arrays_give_their_elements(void **state)
{
    const struct gguf *gguf = view(state);
    const struct gguf_key *array = NULL;
    assert_int_equal(gguf_get_array(gguf, "b.u32", GGUF_U32, &array, NULL), 0);
    assert_int_equal(array->count, 3);
    assert_int_equal(gguf_array_u32(array, 0), 7);
    assert_true(gguf_array_u32(array, 1) == 4000000000u);
    assert_int_equal(gguf_get_array(gguf, "b.i32", GGUF_I32, &array, NULL), 0);
    assert_true(gguf_array_u32(array, 0) == UINT32_MAX);
    assert_int_equal(gguf_get_array(gguf, "b.f32", GGUF_F32, &array, NULL), 0);
    assert_true(gguf_array_f32(array, 1) == -2.0f);
    assert_int_equal(gguf_get_array(gguf, "b.bool", GGUF_BOOL, &array, NULL), 0);
    assert_true(gguf_array_bool(array, 0));
    assert_false(gguf_array_bool(array, 1));
    assert_int_equal(gguf_get_array(gguf, "b.u8", GGUF_U8, &array, NULL), 0);
    assert_int_equal(array->size, 3);
    assert_int_equal(gguf_get_array(gguf, "b.f64", GGUF_F64, &array, NULL), 0);
    assert_int_equal(array->size, 16);
    assert_int_equal(gguf_get_array(gguf, "b.none", GGUF_U32, &array, NULL), 0);
    assert_int_equal(array->count, 0);
}

static void strings_in_arrays_may_hold_any_bytes(void **state)
{
    static const struct text expected[] = {
        {"one", 3}, {"", 0}, {"a\0b", 3}, {"\xff\xfe", 2}, {"last", 4}};
    const struct gguf_key *array = NULL;
    assert_int_equal(gguf_get_array(view(state), "b.string", GGUF_STRING, &array, NULL), 0);
    assert_int_equal(array->count, 5);
    uint64_t cursor = 0;
    struct text value;
    for (size_t i = 0; i < 5; i++) {
        assert_true(gguf_array_next_text(array, &cursor, &value));
        assert_true(text_equal(value, expected[i]));
    }
    assert_false(gguf_array_next_text(array, &cursor, &value));
    assert_int_equal(gguf_get_array(view(state), "b.no_strings", GGUF_STRING, &array, NULL), 0);
    cursor = 0;
    assert_false(gguf_array_next_text(array, &cursor, &value));
}

static void an_array_of_another_type_is_refused(void **state)
{
    const struct gguf_key *array = NULL;
    struct hearth_error err;
    const struct gguf *gguf = view(state);
    assert_int_equal(gguf_get_array(gguf, "b.u32", GGUF_I32, &array, &err), HEARTH_E_FORMAT);
    assert_non_null(
        strstr(err.text, "'b.u32' must be an array of i32, but is of type array of u32"));
    assert_int_equal(gguf_get_array(gguf, "a.u32", GGUF_U32, &array, &err), HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "'a.u32' must be an array of u32, but is of type u32"));
    assert_int_equal(gguf_get_array(gguf, "absent", GGUF_U32, &array, &err), HEARTH_E_MISSING);
    assert_null(array);
}

static void values_at_odd_addresses_are_read(void **state)
{
    struct opened *opened = *state;
    struct text bytes = gguf_part_bytes(opened->gguf, 0);
    for (size_t shift = 1; shift < 8; shift++) {
        char *moved = mem_alloc(bytes.size + shift);
        memcpy(moved + shift, bytes.data, bytes.size);
        struct gguf *gguf;
        const struct gguf_key *array;
        uint64_t wide;
        float value;
        assert_int_equal(material_open((struct text){moved + shift, bytes.size}, &gguf, NULL), 0);
        material_walk(gguf);
        assert_int_equal(gguf_get_u64(gguf, "a.u64", 0, UINT64_MAX, &wide, NULL), 0);
        assert_int_equal(gguf_get_f32(gguf, "a.f64", 0, 1, &value, NULL), 0);
        assert_int_equal(gguf_get_array(gguf, "b.u32", GGUF_U32, &array, NULL), 0);
        assert_int_equal(gguf_array_u32(array, 2), 9);
        gguf_close(gguf);
        mem_free(moved);
    }
}

/* ---- size and time ---- */

/* Names that differ at their ends, which is the slow case for comparing. */
static void many_keys_and_tensors_open_in_linear_time(void **state)
{
    (void)state;
    enum { COUNT = 100000 };
    struct gguf_writer writer;
    struct gguf *gguf;
    static char names[COUNT][40];
    uint64_t ne[] = {1};
    gguf_writer_init(&writer);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "a.rather.long.common.prefix.%06u", i * 7919u % COUNT);
        gguf_writer_u32(&writer, names[i], i);
        gguf_writer_tensor(&writer, names[i], TYPE_F32, 1, ne, NULL);
    }
    struct text bytes = gguf_writer_bytes(&writer);
    clock_t begin = clock();
    assert_int_equal(material_open(bytes, &gguf, NULL), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        uint32_t value;
        assert_int_equal(gguf_get_u32(gguf, names[i], i, i, &value, NULL), 0);
        assert_ptr_equal(gguf_find_tensor(gguf, names[i]), gguf_tensor_at(gguf, i));
    }
    /* It takes about 0.1 s; comparing each with each would take a minute. */
    assert_true(clock() - begin < 10 * CLOCKS_PER_SEC);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

/* ---- files ---- */

static void a_path_is_opened_and_its_errors_begin_with_it(void **state)
{
    struct opened *opened = *state;
    char path[TEST_PATH_MAX], missing[TEST_PATH_MAX + 8];
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    struct text bytes = gguf_part_bytes(opened->gguf, 0);
    test_temp_file(path);
    assert_int_equal(gguf_open(path, &gguf, &err), HEARTH_E_FORMAT);
    assert_memory_equal(err.text, path, strlen(path));
    assert_non_null(strstr(err.text, ": not a GGUF file: it has 0 bytes"));
    test_write_file(path, bytes);
    assert_int_equal(gguf_open(path, &gguf, &err), 0);
    assert_true(text_equal(gguf_part_bytes(gguf, 0), bytes));
    material_walk(gguf);
    gguf_close(gguf);
    gguf = NULL;
    test_write_file(path, (struct text){bytes.data, bytes.size - 1});
    assert_int_equal(gguf_open(path, &gguf, &err), HEARTH_E_FORMAT);
    assert_memory_equal(err.text, path, strlen(path));
    assert_non_null(strstr(err.text, "the tensor 'four'"));
    remove(path);
    snprintf(missing, sizeof missing, "%s-none", path);
    assert_int_equal(gguf_open(missing, &gguf, &err), HEARTH_E_MISSING);
    assert_memory_equal(err.text, missing, strlen(missing));
    assert_int_equal(gguf_open("/", &gguf, &err), HEARTH_E_IO);
    assert_null(gguf);
}

static void a_long_path_leaves_room_for_the_cause(void **state)
{
    (void)state;
    char path[1001];
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    memset(path, 'x', sizeof path - 1);
    path[0] = '/';
    path[sizeof path - 1] = '\0';
    assert_true(gguf_open(path, &gguf, &err) < 0);
    assert_memory_equal(err.text, "...xxx", 6);
    assert_non_null(strstr(err.text, "xxx: "));
    assert_null(gguf);
}

/* Standard C has no descriptors; standard input is one. */
static void a_descriptor_is_opened_and_may_be_closed(void **state)
{
    struct opened *opened = *state;
    char path[TEST_PATH_MAX];
    int descriptors[] = {0, 0};
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    test_temp_file(path);
    test_write_file(path, gguf_part_bytes(opened->gguf, 0));
    assert_non_null(freopen(path, "rb", stdin));
    assert_int_equal(gguf_open_fds(descriptors, 1, &gguf, &err), 0);
    assert_int_equal(fclose(stdin), 0);
    remove(path);
    material_walk(gguf);
    gguf_close(gguf);
    gguf = NULL;
    assert_int_equal(gguf_open_fds(descriptors, 1, &gguf, &err), HEARTH_E_IO);
    assert_int_equal(gguf_open_fds(descriptors, 2, &gguf, &err), HEARTH_E_IO);
    assert_memory_equal(err.text, "part 1 of 2: ", 13);
    assert_int_equal(gguf_open_fds(descriptors, 0, &gguf, &err), HEARTH_E_ARGUMENT);
    assert_null(gguf);
}

static void closing_nothing_is_fine(void **state)
{
    (void)state;
    gguf_close(NULL);
}

#define WITH_MATERIAL(test) cmocka_unit_test_setup_teardown(test, open_material, close_material)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_2_and_3_are_read),
        cmocka_unit_test(a_file_without_keys_and_tensors_is_read),
        WITH_MATERIAL(keys_keep_the_order_of_the_file),
        WITH_MATERIAL(tensors_have_their_shape_and_data),
        cmocka_unit_test(data_begins_where_general_alignment_says),
        cmocka_unit_test(types_that_hearth_cannot_compute_are_still_listed),
        WITH_MATERIAL(any_integer_type_serves_where_the_value_fits),
        cmocka_unit_test(positive_values_of_signed_types_are_integers_too),
        WITH_MATERIAL(an_integer_outside_its_range_names_value_and_bounds),
        WITH_MATERIAL(floats_are_read_from_both_widths),
        cmocka_unit_test(a_float_that_is_not_finite_is_refused),
        WITH_MATERIAL(booleans_and_texts_are_read),
        WITH_MATERIAL(arrays_give_their_elements),
        WITH_MATERIAL(strings_in_arrays_may_hold_any_bytes),
        WITH_MATERIAL(an_array_of_another_type_is_refused),
        WITH_MATERIAL(values_at_odd_addresses_are_read),
        cmocka_unit_test(many_keys_and_tensors_open_in_linear_time),
        WITH_MATERIAL(a_path_is_opened_and_its_errors_begin_with_it),
        cmocka_unit_test(a_long_path_leaves_room_for_the_cause),
        WITH_MATERIAL(a_descriptor_is_opened_and_may_be_closed),
        cmocka_unit_test(closing_nothing_is_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
