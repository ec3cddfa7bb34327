#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "material.h"

/* A copy of exactly this size, so that a sanitizer sees one byte too many. */
static struct text exact_copy(struct text bytes)
{
    char *copy = mem_alloc(bytes.size);
    assert_non_null(copy);
    if (bytes.size)
        memcpy(copy, bytes.data, bytes.size);
    return (struct text){copy, bytes.size};
}

/* Opens damaged bytes: either an error in words, or a view that is sound. */
static int open_damaged(struct text bytes)
{
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    int status = material_open(bytes, &gguf, &err);
    if (status) {
        assert_null(gguf);
        assert_int_equal(err.code, status);
        assert_true(strlen(err.text) > 10);
        return status;
    }
    material_walk(gguf);
    gguf_close(gguf);
    return 0;
}

/* The error of a file that was cut off says so, and blames nothing else. */
static void refuse_cut_off(struct text bytes)
{
    static const char *const phrases[] = {"no room for a header", "file ends", "have room for",
                                          " left", "beyond the end of the file"};
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    bool said = false;
    assert_int_equal(material_open(bytes, &gguf, &err), HEARTH_E_FORMAT);
    assert_null(gguf);
    for (size_t i = 0; i < sizeof phrases / sizeof phrases[0]; i++)
        said = said || strstr(err.text, phrases[i]);
    if (!said)
        fail_msg("%zu bytes: \"%s\"", bytes.size, err.text);
}

static void a_file_cut_off_at_any_byte_is_refused(void **state)
{
    (void)state;
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    material_fill(&writer);
    struct text bytes = gguf_writer_bytes(&writer);
    assert_int_equal(open_damaged(bytes), 0);
    for (size_t size = 0; size < bytes.size; size++) {
        struct text cut = exact_copy((struct text){bytes.data, size});
        refuse_cut_off(cut);
        mem_free((char *)(uintptr_t)cut.data);
    }
    gguf_writer_finish(&writer);
}

static void a_value_that_is_cut_off_names_its_key(void **state)
{
    (void)state;
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    gguf_writer_u64(&writer, "short", 1);
    struct text bytes = gguf_writer_bytes(&writer);
    bytes.size = 24 + 8 + 5 + 4 + 7;
    material_refused(bytes, HEARTH_E_FORMAT, "the file ends inside the value of the key 'short'");
    gguf_writer_finish(&writer);
}

static const uint64_t boundaries[] = {
    0,
    1,
    UINT64_C(0x7fffffff),
    UINT64_C(0x80000000),
    UINT64_C(0xffffffff),
    UINT64_C(0x100000000),
    UINT64_C(0x7fffffffffffffff),
    UINT64_C(0x8000000000000000),
    UINT64_C(0x8000000000000001),
    UINT64_C(0xffffffffffffffe0),
    UINT64_C(0xffffffffffffffff),
};

/* Overwrites one number of the file with each boundary value. A huge one can never be right; with a
 * small one the file may happen to be another sound file. */
static void overwrite_field(struct text bytes, struct gguf_writer_field field)
{
    unsigned char *at = (unsigned char *)(uintptr_t)bytes.data + field.at;
    unsigned char old[8];
    memcpy(old, at, field.width);
    for (size_t i = 0; i < sizeof boundaries / sizeof boundaries[0]; i++) {
        uint64_t value = boundaries[i];
        if (field.width == 4 && value > UINT32_MAX)
            continue;
        memcpy(at, &value, field.width);
        int status = open_damaged(bytes);
        if (value >= UINT64_C(0x7fffffff) && status == 0)
            fail_msg("%s at %zu: %llu was accepted", field.what, field.at,
                     (unsigned long long)value);
    }
    memcpy(at, old, field.width);
}

static void boundary_values_in_every_number_are_refused(void **state)
{
    (void)state;
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    material_fill(&writer);
    struct text bytes = exact_copy(gguf_writer_bytes(&writer));
    assert_true(writer.field_count > 100);
    for (size_t i = 0; i < writer.field_count; i++)
        overwrite_field(bytes, writer.fields[i]);
    assert_int_equal(open_damaged(bytes), 0);
    mem_free((char *)(uintptr_t)bytes.data);
    gguf_writer_finish(&writer);
}

static void damaged_bytes_never_give_an_unsound_view(void **state)
{
    (void)state;
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    material_fill(&writer);
    struct text whole = gguf_writer_bytes(&writer);
    struct random random = random_from_seed(1);
    for (int round = 0; round < 20000; round++) {
        struct text bytes = exact_copy(whole);
        unsigned char *at = (unsigned char *)(uintptr_t)bytes.data;
        for (uint64_t i = random_u64(&random) % 4 + 1; i > 0; i--)
            at[random_u64(&random) % bytes.size] = (unsigned char)random_u64(&random);
        open_damaged(bytes);
        mem_free(at);
    }
    gguf_writer_finish(&writer);
}

/* ---- the header ---- */

static void a_file_that_is_no_gguf_is_named_as_such(void **state)
{
    (void)state;
    material_refused(TEXT(""), HEARTH_E_FORMAT, "not a GGUF file: it has 0 bytes");
    material_refused(TEXT("GGU"), HEARTH_E_FORMAT, "not a GGUF file");
    material_refused(TEXT("PK\3\4 a zip archive of some length"), HEARTH_E_FORMAT,
                     "begins with the bytes 50 4b 03 04");
    static const char header[24] = "GGUF\3";
    for (size_t size = 4; size < sizeof header; size++) {
        struct text cut = exact_copy((struct text){header, size});
        material_refused(cut, HEARTH_E_FORMAT, "the file ends inside its GGUF header");
        mem_free((char *)(uintptr_t)cut.data);
    }
}

static void other_versions_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        const char *text;
    } cases[] = {
        {0, "version 0 is not supported"},      {1, "version 1 is not supported"},
        {4, "version 4 is not supported"},      {UINT32_MAX, "version 4294967295 is not supported"},
        {0x03000000, "a big-endian GGUF file"}, {0x02000000, "a big-endian GGUF file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer writer;
        gguf_writer_init(&writer);
        writer.version = cases[i].version;
        material_fill(&writer);
        material_refused(gguf_writer_bytes(&writer), HEARTH_E_UNSUPPORTED, cases[i].text);
        gguf_writer_finish(&writer);
    }
}

static void counts_beyond_the_file_are_refused_before_memory_is_taken(void **state)
{
    (void)state;
    for (int tensors = 0; tensors < 2; tensors++) {
        struct gguf_writer writer;
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        gguf_writer_init(&writer);
        material_fill(&writer);
        *(tensors ? &writer.tensor_count : &writer.key_count) = 100000;
        struct text bytes = gguf_writer_bytes(&writer);
        /* The view itself comes first; keys and their index when the tensors are to blame. */
        mem_fail_nth(tensors ? 4 : 2);
        assert_int_equal(material_open(bytes, &gguf, &err), HEARTH_E_FORMAT);
        mem_fail_nth(0);
        assert_non_null(strstr(err.text, tensors ? "claims 100000 tensors" : "claims 100000 keys"));
        gguf_writer_finish(&writer);
    }
}

static void more_keys_or_tensors_than_the_budget_are_refused(void **state)
{
    (void)state;
    static char zeros[24 << 20];
    for (int tensors = 0; tensors < 2; tensors++) {
        struct gguf_writer writer;
        gguf_writer_init(&writer);
        *(tensors ? &writer.tensor_count : &writer.key_count) = 700000;
        assert_true(buffer_append(&writer.data, zeros, sizeof zeros));
        material_refused(gguf_writer_bytes(&writer), HEARTH_E_LIMIT,
                         tensors ? "700000 tensors; at most" : "700000 keys; at most");
        gguf_writer_finish(&writer);
    }
}

/* ---- keys ---- */

/* A file with one right key and one raw one behind it. */
static void refuse_key(struct text name, uint32_t type, struct text value, int code,
                       const char *text)
{
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    gguf_writer_u32(&writer, "first", 1);
    gguf_writer_raw(&writer, name, type, value.data, value.size);
    material_refused(gguf_writer_bytes(&writer), code, text);
    gguf_writer_finish(&writer);
}

static void bad_keys_are_refused_by_name(void **state)
{
    (void)state;
    static char long_name[65536];
    memset(long_name, 'k', sizeof long_name);
    struct text four = TEXT("\1\0\0\0");
    refuse_key(TEXT(""), GGUF_U32, four, HEARTH_E_FORMAT, "name of key 2 has 0 bytes");
    refuse_key((struct text){long_name, sizeof long_name}, GGUF_U32, four, HEARTH_E_FORMAT,
               "name of key 2 has 65536 bytes");
    refuse_key(TEXT("first"), GGUF_U32, four, HEARTH_E_FORMAT, "the key 'first' appears twice");
    refuse_key(TEXT("odd"), 13, four, HEARTH_E_FORMAT, "the key 'odd' has the unknown type 13");
    refuse_key(TEXT("odd"), UINT32_MAX, four, HEARTH_E_FORMAT, "unknown type 4294967295");
    refuse_key(TEXT("flag"), GGUF_BOOL, TEXT("\2"), HEARTH_E_FORMAT,
               "the key 'flag' has a boolean value of 2");
    refuse_key(TEXT("control\n\x1b[31m"), 99, four, HEARTH_E_FORMAT, "'control??[31m'");
}

static void a_key_name_of_the_greatest_length_is_read(void **state)
{
    (void)state;
    static char name[65535];
    struct gguf_writer writer;
    memset(name, 'k', sizeof name);
    gguf_writer_init(&writer);
    gguf_writer_raw(&writer, (struct text){name, sizeof name}, GGUF_U8, "\1", 1);
    assert_int_equal(open_damaged(gguf_writer_bytes(&writer)), 0);
    gguf_writer_finish(&writer);
}

static void bad_arrays_are_refused_by_name(void **state)
{
    (void)state;
    struct text nested = TEXT("\x9\0\0\0\1\0\0\0\0\0\0\0\x4\0\0\0\0\0\0\0\0\0\0\0");
    refuse_key(TEXT("nested"), GGUF_ARRAY, nested, HEARTH_E_UNSUPPORTED,
               "the key 'nested' is an array of arrays");
    struct text unknown = TEXT("\xd\0\0\0\1\0\0\0\0\0\0\0\x4\0\0\0");
    refuse_key(TEXT("odd"), GGUF_ARRAY, unknown, HEARTH_E_FORMAT,
               "the key 'odd' is an array of the unknown type 13");
    struct text flags = TEXT("\x7\0\0\0\3\0\0\0\0\0\0\0\1\0\xff");
    refuse_key(TEXT("flags"), GGUF_ARRAY, flags, HEARTH_E_FORMAT,
               "the key 'flags' has a boolean value of 255");
    struct text many = TEXT("\x4\0\0\0\0\0\0\0\0\0\0\x40\1\0\0\0");
    refuse_key(TEXT("many"), GGUF_ARRAY, many, HEARTH_E_FORMAT,
               "the key 'many' claims 4611686018427387904 values");
    struct text texts = TEXT("\x8\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0");
    refuse_key(TEXT("texts"), GGUF_ARRAY, texts, HEARTH_E_FORMAT,
               "the key 'texts' claims 4611686018427387904 strings");
    struct text strings = TEXT("\x8\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    refuse_key(TEXT("strings"), GGUF_ARRAY, strings, HEARTH_E_FORMAT,
               "a string in the key 'strings' claims 18446744073709551615 bytes");
}

static void a_bad_alignment_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint32_t alignment;
        const char *text;
    } cases[] = {
        {0, "'general.alignment' is 0, but must lie between 8"},
        {4, "'general.alignment' is 4, but must lie between 8"},
        {12, "'general.alignment' is 12, no power of two"},
        {0x80000000, "'general.alignment' is 2147483648, but"},
        {UINT32_MAX, "'general.alignment' is 4294967295, but"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer writer;
        gguf_writer_init(&writer);
        gguf_writer_u32(&writer, "general.alignment", cases[i].alignment);
        material_fill(&writer);
        material_refused(gguf_writer_bytes(&writer), HEARTH_E_FORMAT, cases[i].text);
        gguf_writer_finish(&writer);
    }
    refuse_key(TEXT("general.alignment"), GGUF_F32, TEXT("\0\0\0\0"), HEARTH_E_FORMAT,
               "'general.alignment' must be an integer, but is of type f32");
}

/* ---- tensors ---- */

/* Two right tensors, the second of which a case may spoil. */
struct tensor_case {
    const char *text;
    int code;
    struct gguf_writer_tensor as; /* zero: as it was, except for `n_dims` with has_dims */
    bool has_dims, has_ne, has_type, has_offset;
};

static void refuse_tensor(const struct tensor_case *c)
{
    struct gguf_writer writer;
    uint64_t ne[] = {32, 4};
    gguf_writer_init(&writer);
    gguf_writer_tensor(&writer, "first", TYPE_F32, 2, ne, NULL);
    struct gguf_writer_tensor *tensor =
        gguf_writer_tensor(&writer, "second", TYPE_F32, 2, ne, NULL);
    if (c->as.name.data)
        tensor->name = c->as.name;
    if (c->has_dims)
        tensor->n_dims = c->as.n_dims;
    if (c->has_ne)
        memcpy(tensor->ne, c->as.ne, sizeof tensor->ne);
    if (c->has_type)
        tensor->type = c->as.type;
    if (c->has_offset)
        tensor->offset = c->as.offset;
    material_refused(gguf_writer_bytes(&writer), c->code, c->text);
    gguf_writer_finish(&writer);
}

static void bad_tensors_are_refused_by_name(void **state)
{
    (void)state;
    const struct tensor_case cases[] = {
        {"name of tensor 2 has 65 bytes", HEARTH_E_FORMAT,
         .as.name = TEXT("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefX")},
        {"name of tensor 2 has 0 bytes", HEARTH_E_FORMAT, .as.name = TEXT("")},
        {"the tensor 'first' appears twice", HEARTH_E_FORMAT, .as.name = TEXT("first")},
        {"'second' has 0 dimensions", HEARTH_E_FORMAT, .has_dims = true},
        {"'second' has 5 dimensions", HEARTH_E_FORMAT, .has_dims = true, .as.n_dims = 5},
        {"'second' has 4294967295 dimensions", HEARTH_E_FORMAT, .has_dims = true,
         .as.n_dims = UINT32_MAX},
        {"'second' has a dimension of 0 elements", HEARTH_E_FORMAT, .has_ne = true,
         .as.ne = {0, 4}},
        {"'second' has a dimension of 0 elements", HEARTH_E_FORMAT, .has_ne = true,
         .as.ne = {4, 0}},
        {"'second' is too large", HEARTH_E_FORMAT, .has_ne = true,
         .as.ne = {UINT64_C(1) << 32, UINT64_C(1) << 32}},
        {"'second' is too large", HEARTH_E_FORMAT, .has_ne = true, .as.ne = {UINT64_C(1) << 63, 2}},
        {"'second' is too large", HEARTH_E_FORMAT, .has_ne = true, .as.ne = {UINT64_MAX, 1}},
        {"'second' has 4611686018427387904 bytes", HEARTH_E_FORMAT, .has_ne = true,
         .as.ne = {UINT64_C(1) << 30, UINT64_C(1) << 30}},
        {"'second' has rows of 32 elements, but Q4_K comes in blocks of 256", HEARTH_E_FORMAT,
         .has_type = true, .as.type = TYPE_Q4_K},
        {"'second' has the unknown type 77", HEARTH_E_UNSUPPORTED, .has_type = true, .as.type = 77},
        {"'second' has the type Q4_0_4_4, which is no longer", HEARTH_E_UNSUPPORTED,
         .has_type = true, .as.type = 31},
        {"'second' lies at offset 516, which is not a multiple of the file's alignment 32",
         HEARTH_E_FORMAT, .has_offset = true, .as.offset = 516},
        {"'second' has 512 bytes at offset 544 of the data, beyond the end", HEARTH_E_FORMAT,
         .has_offset = true, .as.offset = 544},
        {"'second' has 512 bytes at offset 18446744073709551584", HEARTH_E_FORMAT,
         .has_offset = true, .as.offset = UINT64_MAX - 31},
        {"the tensors 'first' and 'second' overlap", HEARTH_E_FORMAT, .has_offset = true,
         .as.offset = 480},
        {" overlap", HEARTH_E_FORMAT, .has_offset = true, .as.offset = 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refuse_tensor(&cases[i]);
}

static void tensors_that_overlap_are_found_in_any_order(void **state)
{
    (void)state;
    struct gguf_writer writer;
    uint64_t ne[] = {24};
    gguf_writer_init(&writer);
    gguf_writer_tensor(&writer, "c", TYPE_F32, 1, ne, NULL)->offset = 64;
    gguf_writer_tensor(&writer, "b", TYPE_F32, 1, ne, NULL)->offset = 160;
    gguf_writer_tensor(&writer, "a", TYPE_F32, 1, ne, NULL)->offset = 0;
    material_refused(gguf_writer_bytes(&writer), HEARTH_E_FORMAT,
                     "the tensors 'a' and 'c' overlap");
    gguf_writer_finish(&writer);
}

static void tensors_that_touch_or_leave_gaps_are_read(void **state)
{
    (void)state;
    struct gguf_writer writer;
    struct gguf *gguf;
    uint64_t ne[] = {8};
    gguf_writer_init(&writer);
    gguf_writer_tensor(&writer, "a", TYPE_F32, 1, ne, NULL)->offset = 96;
    gguf_writer_tensor(&writer, "b", TYPE_F32, 1, ne, NULL)->offset = 0;
    gguf_writer_tensor(&writer, "c", TYPE_F32, 1, ne, NULL)->offset = 32;
    gguf_writer_tensor(&writer, "d", TYPE_F32, 1, ne, NULL)->n_dims = 1;
    writer.tensors[3].offset = 128;
    assert_true(buffer_append(&writer.data, (char[32]){0}, 32));
    assert_int_equal(material_open(gguf_writer_bytes(&writer), &gguf, NULL), 0);
    material_walk(gguf);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

/* ---- memory ---- */

static void every_allocation_that_fails_is_reported(void **state)
{
    (void)state;
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    material_fill(&writer);
    struct text bytes = gguf_writer_bytes(&writer);
    unsigned long n = 1;
    for (;; n++) {
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        mem_fail_nth(n);
        int status = material_open(bytes, &gguf, &err);
        mem_fail_nth(0);
        if (status == 0) {
            gguf_close(gguf);
            break;
        }
        assert_int_equal(status, HEARTH_E_MEMORY);
        assert_non_null(strstr(err.text, "out of memory"));
        assert_null(gguf);
    }
    assert_true(n > 5);
    gguf_writer_finish(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_cut_off_at_any_byte_is_refused),
        cmocka_unit_test(a_value_that_is_cut_off_names_its_key),
        cmocka_unit_test(boundary_values_in_every_number_are_refused),
        cmocka_unit_test(damaged_bytes_never_give_an_unsound_view),
        cmocka_unit_test(a_file_that_is_no_gguf_is_named_as_such),
        cmocka_unit_test(other_versions_are_refused_by_name),
        cmocka_unit_test(counts_beyond_the_file_are_refused_before_memory_is_taken),
        cmocka_unit_test(more_keys_or_tensors_than_the_budget_are_refused),
        cmocka_unit_test(bad_keys_are_refused_by_name),
        cmocka_unit_test(a_key_name_of_the_greatest_length_is_read),
        cmocka_unit_test(bad_arrays_are_refused_by_name),
        cmocka_unit_test(a_bad_alignment_is_refused),
        cmocka_unit_test(bad_tensors_are_refused_by_name),
        cmocka_unit_test(tensors_that_overlap_are_found_in_any_order),
        cmocka_unit_test(tensors_that_touch_or_leave_gaps_are_read),
        cmocka_unit_test(every_allocation_that_fails_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
