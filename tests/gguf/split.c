#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "material.h"

#define PARTS 3

/* Three parts with one tensor each; the first has the model's keys. A test may change what a part
 * says of itself before the bytes are made. */
struct parts {
    struct gguf_writer writers[PARTS];
    struct text bytes[PARTS];
    char prefix[TEST_PATH_MAX];
    uint16_t number[PARTS], count[PARTS]; /* as each part says */
    uint32_t tensors;
    const char *names[PARTS];
};

static int parts_init(void **state)
{
    struct parts *parts = MEM_NEW(struct parts);
    static const char *const names[PARTS] = {"one", "two", "three"};
    for (uint16_t i = 0; i < PARTS; i++) {
        gguf_writer_init(&parts->writers[i]);
        parts->number[i] = i;
        parts->count[i] = PARTS;
        parts->names[i] = names[i];
    }
    parts->tensors = PARTS;
    test_temp_file(parts->prefix);
    *state = parts;
    return 0;
}

static void part_path(const struct parts *parts, size_t index, char path[TEST_PATH_MAX + 32])
{
    snprintf(path, TEST_PATH_MAX + 32, "%s-%05zu-of-%05d.gguf", parts->prefix, index + 1, PARTS);
}

static int parts_finish(void **state)
{
    struct parts *parts = *state;
    char path[TEST_PATH_MAX + 32];
    for (size_t i = 0; i < PARTS; i++) {
        part_path(parts, i, path);
        remove(path);
        gguf_writer_finish(&parts->writers[i]);
    }
    remove(parts->prefix);
    mem_free(parts);
    return 0;
}

static void parts_make(struct parts *parts)
{
    uint64_t ne[] = {4};
    for (size_t i = 0; i < PARTS; i++) {
        struct gguf_writer *writer = &parts->writers[i];
        float values[4] = {(float)i, 1, 2, 3};
        if (i == 0)
            gguf_writer_string(writer, "general.architecture", "none");
        gguf_writer_scalar(writer, "split.no", GGUF_U16, &parts->number[i]);
        gguf_writer_scalar(writer, "split.count", GGUF_U16, &parts->count[i]);
        gguf_writer_i32(writer, "split.tensors.count", (int32_t)parts->tensors);
        gguf_writer_tensor(writer, parts->names[i], TYPE_F32, 1, ne, values);
        parts->bytes[i] = gguf_writer_bytes(writer);
    }
}

static void parts_write(struct parts *parts)
{
    char path[TEST_PATH_MAX + 32];
    parts_make(parts);
    for (size_t i = 0; i < PARTS; i++) {
        part_path(parts, i, path);
        test_write_file(path, parts->bytes[i]);
    }
}

/* Three tensors, each with the number of its part as its first value. */
static void check_view(const struct gguf *gguf, const struct parts *parts)
{
    assert_int_equal(gguf_part_count(gguf), PARTS);
    assert_int_equal(gguf_tensor_count(gguf), PARTS);
    assert_int_equal(gguf_key_count(gguf), 4);
    assert_int_equal(gguf_file_size(gguf),
                     parts->bytes[0].size + parts->bytes[1].size + parts->bytes[2].size);
    for (size_t i = 0; i < PARTS; i++) {
        const struct gguf_tensor *tensor = gguf_find_tensor(gguf, parts->names[i]);
        float value;
        assert_ptr_equal(tensor, gguf_tensor_at(gguf, i));
        assert_int_equal(tensor->part, i);
        memcpy(&value, tensor->data, sizeof value);
        assert_true(value == (float)i);
        assert_true(text_equal(gguf_part_bytes(gguf, i), parts->bytes[i]));
    }
    material_walk(gguf);
}

static void any_part_named_opens_all_of_them(void **state)
{
    struct parts *parts = *state;
    char path[TEST_PATH_MAX + 32];
    parts_write(parts);
    for (size_t i = 0; i < PARTS; i++) {
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        part_path(parts, i, path);
        assert_int_equal(gguf_open(path, &gguf, &err), 0);
        check_view(gguf, parts);
        gguf_close(gguf);
    }
}

static void parts_in_memory_are_opened_in_their_order(void **state)
{
    struct parts *parts = *state;
    struct gguf *gguf = NULL;
    parts_make(parts);
    assert_int_equal(gguf_open_memory(parts->bytes, PARTS, &gguf, NULL), 0);
    check_view(gguf, parts);
    gguf_close(gguf);
}

static void a_file_that_is_alone_may_have_the_name_of_a_part(void **state)
{
    struct parts *parts = *state;
    char path[TEST_PATH_MAX + 32];
    struct gguf_writer writer;
    struct gguf *gguf = NULL;
    gguf_writer_init(&writer);
    gguf_writer_u32(&writer, "split.count", 1);
    material_fill(&writer);
    part_path(parts, 1, path);
    test_write_file(path, gguf_writer_bytes(&writer));
    assert_int_equal(gguf_open(path, &gguf, NULL), 0);
    assert_int_equal(gguf_part_count(gguf), 1);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

/* Opens the part by its path; the error must name the file of part `blamed` and hold `text`. */
static void refuse_path(const struct parts *parts, size_t opened, size_t blamed, int code,
                        const char *text)
{
    char path[TEST_PATH_MAX + 32];
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    part_path(parts, opened, path);
    int status = gguf_open(path, &gguf, &err);
    part_path(parts, blamed, path);
    if (status != code || !strstr(err.text, text) || !strstr(err.text, path))
        print_error("status %d, \"%s\"\n", status, err.text);
    assert_int_equal(status, code);
    assert_non_null(strstr(err.text, text));
    assert_memory_equal(err.text, path, strlen(path));
    assert_null(gguf);
}

static void a_missing_part_is_named(void **state)
{
    struct parts *parts = *state;
    char path[TEST_PATH_MAX + 32];
    parts_write(parts);
    part_path(parts, 2, path);
    remove(path);
    refuse_path(parts, 0, 2, HEARTH_E_MISSING, ": ");
    part_path(parts, 0, path);
    remove(path);
    refuse_path(parts, 1, 0, HEARTH_E_MISSING, ": ");
}

static void a_damaged_part_is_named(void **state)
{
    struct parts *parts = *state;
    char path[TEST_PATH_MAX + 32];
    parts_write(parts);
    part_path(parts, 1, path);
    test_write_file(path, (struct text){parts->bytes[1].data, parts->bytes[1].size - 1});
    refuse_path(parts, 0, 1, HEARTH_E_FORMAT, "the tensor 'two'");
    test_write_file(path, (struct text){parts->bytes[1].data, 30});
    refuse_path(parts, 0, 1, HEARTH_E_FORMAT, "the file");
}

static void a_part_without_a_name_to_go_by_is_refused(void **state)
{
    struct parts *parts = *state;
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    parts_make(parts);
    test_write_file(parts->prefix, parts->bytes[0]);
    assert_int_equal(gguf_open(parts->prefix, &gguf, &err), HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "this is part 1 of 3, but its name does not end in "
                                     "-00001-of-00003.gguf"));
    assert_null(gguf);
}

static void names_that_are_almost_those_of_parts_are_refused(void **state)
{
    struct parts *parts = *state;
    static const char *const ends[] = {"-0000x-of-00003.gguf", "-00001-of-x0003.gguf",
                                       "-00001-of-00003.GGUF", "-00001of-00003.gguf",
                                       "_00001-of-00003.gguf", "-1-of-3.gguf"};
    parts_make(parts);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char path[TEST_PATH_MAX + 32];
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        snprintf(path, sizeof path, "%s%s", parts->prefix, ends[i]);
        test_write_file(path, parts->bytes[0]);
        int status = gguf_open(path, &gguf, &err);
        remove(path);
        assert_int_equal(status, HEARTH_E_FORMAT);
        assert_non_null(strstr(err.text, "its name does not end in -00001-of-00003.gguf"));
        assert_null(gguf);
    }
}

/* The working directory is the build's; no other path is so short. */
static void a_name_too_short_for_a_part_is_refused(void **state)
{
    struct parts *parts = *state;
    static const char *const names[] = {"1.gguf", "-of-00003.gguf", "00003.gguf"};
    parts_make(parts);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        char *name = mem_alloc(strlen(names[i]) + 1);
        memcpy(name, names[i], strlen(names[i]) + 1);
        test_write_file(name, parts->bytes[0]);
        int status = gguf_open(name, &gguf, &err);
        remove(name);
        mem_free(name);
        assert_int_equal(status, HEARTH_E_FORMAT);
        assert_non_null(strstr(err.text, "its name does not end in -00001-of-00003.gguf"));
        assert_null(gguf);
    }
}

static void a_part_with_the_name_of_another_is_refused(void **state)
{
    struct parts *parts = *state;
    parts_write(parts);
    char path[TEST_PATH_MAX + 32];
    part_path(parts, 1, path);
    test_write_file(path, parts->bytes[2]);
    refuse_path(parts, 0, 1, HEARTH_E_FORMAT, "by its keys this is part 3 of 3, but part 2 of 3");
    refuse_path(parts, 1, 1, HEARTH_E_FORMAT, "by its name this is part 2 of 3, but by its keys");
}

static void a_first_part_that_is_another_is_refused(void **state)
{
    struct parts *parts = *state;
    parts_write(parts);
    char path[TEST_PATH_MAX + 32];
    part_path(parts, 0, path);
    test_write_file(path, parts->bytes[1]);
    refuse_path(parts, 2, 0, HEARTH_E_FORMAT, "by its keys this is part 2 of 3, but part 1 of 3");
}

/* Parts in memory that must be refused. */
static void refuse_memory(const struct text *bytes, size_t count, const char *text)
{
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    int status = gguf_open_memory(bytes, count, &gguf, &err);
    if (!strstr(err.text, text))
        print_error("status %d, \"%s\"\n", status, err.text);
    assert_int_equal(status, HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, text));
    assert_null(gguf);
}

static void another_number_of_parts_than_the_file_says_is_refused(void **state)
{
    struct parts *parts = *state;
    parts_make(parts);
    refuse_memory(parts->bytes, 2,
                  "part 1 of 2: by its keys this is part 1 of 3, but part 1 of 2 is needed");
    refuse_memory(parts->bytes, 1, "this is part 1 of 3, but part 1 of 1 is needed");
    refuse_memory(parts->bytes + 1, 2, "this is part 2 of 3");
}

static void parts_in_a_wrong_order_are_refused(void **state)
{
    struct parts *parts = *state;
    parts_make(parts);
    struct text wrong[] = {parts->bytes[0], parts->bytes[2], parts->bytes[1]};
    refuse_memory(wrong, 3, "part 2 of 3: by its keys this is part 3 of 3");
}

static void parts_of_different_models_are_refused(void **state)
{
    struct parts *parts = *state;
    parts->count[2] = 4;
    parts_make(parts);
    refuse_memory(parts->bytes, 3, "part 3 of 3: by its keys this is part 3 of 4");
}

static void a_tensor_that_two_parts_have_is_refused(void **state)
{
    struct parts *parts = *state;
    parts->names[2] = "one";
    parts_make(parts);
    refuse_memory(parts->bytes, 3, "part 3 of 3: the tensor 'one' appears twice");
}

static void tensors_that_are_missing_are_noticed(void **state)
{
    struct parts *parts = *state;
    parts->tensors = 4;
    parts_make(parts);
    refuse_memory(parts->bytes, 3, "'split.tensors.count' is 4, but the 3 parts have 3 tensors");
}

/* Two parts with two tensors each; in the part numbered `overlap` from 1, if any, they overlap. */
static void two_parts_make(struct gguf_writer writers[2], struct text bytes[2], int overlap)
{
    static const char *const names[2][2] = {{"a", "b"}, {"c", "d"}};
    uint64_t ne[] = {16};
    for (int i = 0; i < 2; i++) {
        gguf_writer_init(&writers[i]);
        gguf_writer_i32(&writers[i], "split.no", i);
        gguf_writer_i32(&writers[i], "split.count", 2);
        gguf_writer_i32(&writers[i], "split.tensors.count", 4);
        gguf_writer_tensor(&writers[i], names[i][0], TYPE_F32, 1, ne, NULL);
        gguf_writer_tensor(&writers[i], names[i][1], TYPE_F32, 1, ne, NULL);
        if (overlap == i + 1)
            writers[i].tensors[1].offset = 32;
        bytes[i] = gguf_writer_bytes(&writers[i]);
    }
}

/* The metadata have the same size, so that the tensors lie at the same offsets of two files: only
 * those of one part can overlap. */
static void overlap_is_sought_within_a_part(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "part 1 of 2: the tensors 'a' and 'b' overlap",
                                        "part 2 of 2: the tensors 'c' and 'd' overlap"};
    for (int overlap = 0; overlap < 3; overlap++) {
        struct gguf_writer writers[2];
        struct text bytes[2];
        two_parts_make(writers, bytes, overlap);
        if (overlap) {
            refuse_memory(bytes, 2, texts[overlap]);
        } else {
            struct gguf *gguf = NULL;
            assert_int_equal(gguf_open_memory(bytes, 2, &gguf, NULL), 0);
            material_walk(gguf);
            gguf_close(gguf);
        }
        gguf_writer_finish(&writers[0]);
        gguf_writer_finish(&writers[1]);
    }
}

static void more_tensors_than_the_budget_in_all_parts_are_refused(void **state)
{
    (void)state;
    static const char zeros[8 << 20];
    struct gguf_writer writers[2];
    struct text bytes[2];
    struct gguf *gguf = NULL;
    struct hearth_error err = {0};
    for (int i = 0; i < 2; i++) {
        gguf_writer_init(&writers[i]);
        gguf_writer_i32(&writers[i], "split.no", i);
        gguf_writer_i32(&writers[i], "split.count", 2);
        gguf_writer_i32(&writers[i], "split.tensors.count", 400000);
        writers[i].tensor_count = 200000;
        assert_true(buffer_append(&writers[i].data, zeros, sizeof zeros));
        bytes[i] = gguf_writer_bytes(&writers[i]);
    }
    assert_int_equal(gguf_open_memory(bytes, 2, &gguf, &err), HEARTH_E_LIMIT);
    assert_non_null(strstr(err.text, "the parts have 400000 tensors; at most"));
    assert_null(gguf);
    gguf_writer_finish(&writers[0]);
    gguf_writer_finish(&writers[1]);
}

static void absurd_split_keys_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int32_t number, count;
        const char *text;
    } cases[] = {
        {"split.no", 3, 3, "'split.no' is 3, but must lie between 0 and 2"},
        {"split.no", -1, 3, "'split.no' is -1, but must lie between 0 and 2"},
        {"split.no", 0, 1025, "'split.count' is 1025, but must lie between 0 and 1024"},
        {"split.no", 0, -5, "'split.count' is -5, but"},
        {"other", 0, 3, "'split.no' is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_writer writer;
        gguf_writer_init(&writer);
        gguf_writer_i32(&writer, cases[i].key, cases[i].number);
        gguf_writer_i32(&writer, "split.count", cases[i].count);
        struct text bytes = gguf_writer_bytes(&writer);
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        assert_true(gguf_open_memory(&bytes, 1, &gguf, &err) < 0);
        assert_non_null(strstr(err.text, cases[i].text));
        assert_null(gguf);
        gguf_writer_finish(&writer);
    }
}

static void every_allocation_that_fails_for_a_split_file_is_reported(void **state)
{
    struct parts *parts = *state;
    char path[TEST_PATH_MAX + 32];
    unsigned long n = 1;
    parts_write(parts);
    part_path(parts, 1, path);
    for (;; n++) {
        struct gguf *gguf = NULL;
        struct hearth_error err = {0};
        mem_fail_nth(n);
        int status = gguf_open(path, &gguf, &err);
        mem_fail_nth(0);
        if (status == 0) {
            check_view(gguf, parts);
            gguf_close(gguf);
            break;
        }
        assert_int_equal(status, HEARTH_E_MEMORY);
        assert_non_null(strstr(err.text, "out of memory"));
        assert_null(gguf);
    }
    assert_true(n > 12);
}

#define WITH_PARTS(test) cmocka_unit_test_setup_teardown(test, parts_init, parts_finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_PARTS(any_part_named_opens_all_of_them),
        WITH_PARTS(parts_in_memory_are_opened_in_their_order),
        WITH_PARTS(a_file_that_is_alone_may_have_the_name_of_a_part),
        WITH_PARTS(a_missing_part_is_named),
        WITH_PARTS(a_damaged_part_is_named),
        WITH_PARTS(a_part_without_a_name_to_go_by_is_refused),
        WITH_PARTS(names_that_are_almost_those_of_parts_are_refused),
        WITH_PARTS(a_name_too_short_for_a_part_is_refused),
        WITH_PARTS(a_part_with_the_name_of_another_is_refused),
        WITH_PARTS(a_first_part_that_is_another_is_refused),
        WITH_PARTS(another_number_of_parts_than_the_file_says_is_refused),
        WITH_PARTS(parts_in_a_wrong_order_are_refused),
        WITH_PARTS(parts_of_different_models_are_refused),
        WITH_PARTS(a_tensor_that_two_parts_have_is_refused),
        WITH_PARTS(tensors_that_are_missing_are_noticed),
        cmocka_unit_test(overlap_is_sought_within_a_part),
        cmocka_unit_test(more_tensors_than_the_budget_in_all_parts_are_refused),
        cmocka_unit_test(absurd_split_keys_are_refused),
        WITH_PARTS(every_allocation_that_fails_for_a_split_file_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
