/* UTF-8, growing buffers and error texts. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"

static void every_code_point_survives_encoding_and_decoding(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x110100; code_point++) {
        char bytes[UTF8_MAX];
        uint32_t back = 0;
        size_t length = utf8_encode(code_point, bytes);
        bool exists = code_point <= 0x10ffff && !(code_point >= 0xd800 && code_point <= 0xdfff);
        assert_int_equal(length != 0, exists);
        if (!exists)
            continue;
        assert_int_equal(utf8_decode(bytes, length, &back), length);
        assert_int_equal(back, code_point);
        assert_int_equal(utf8_decode(bytes, length - 1, &back), 0);
        assert_int_equal(utf8_incomplete_tail(bytes, length), 0);
        for (size_t cut = 1; cut < length; cut++)
            assert_int_equal(utf8_incomplete_tail(bytes, cut), cut);
    }
}

static void malformed_bytes_are_no_code_points(void **state)
{
    (void)state;
    static const char *const malformed[] = {
        "\x80",         "\xbf",         "\xc0\xaf",     "\xc1\xbf",         "\xe0\x80\xaf",
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80",     "\xff",         "\xe2\x28\xa1", "\xc3\x28",
    };
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        uint32_t code_point;
        assert_int_equal(utf8_decode(malformed[i], strlen(malformed[i]), &code_point), 0);
        assert_false(utf8_valid(malformed[i], strlen(malformed[i])));
    }
    assert_false(utf8_is_prefix("\xed\xa0", 2));
    assert_true(utf8_is_prefix("\xf0\x9f\x98", 3));
}

static void a_buffer_replaces_what_is_no_utf8(void **state)
{
    (void)state;
    struct buffer buffer;
    buffer_init(&buffer, 100);
    assert_true(buffer_append_valid_utf8(&buffer, TEXT("a\xff\xc3\xa9\xe2\x82")));
    assert_string_equal(buffer.data, "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd");
    buffer_finish(&buffer);
}

static void a_buffer_never_passes_its_maximum_and_stays_failed(void **state)
{
    (void)state;
    struct buffer buffer;
    size_t size;
    buffer_init(&buffer, 10);
    assert_true(buffer_append(&buffer, "0123456789", 10));
    assert_false(buffer_append_char(&buffer, 'x'));
    assert_false(buffer_append(&buffer, "", 0));
    assert_null(buffer_take(&buffer, &size));
    buffer_init(&buffer, 10);
    assert_false(buffer_format(&buffer, "%s", "01234567890"));
    buffer_finish(&buffer);
}

static void a_buffer_hands_over_terminated_bytes(void **state)
{
    (void)state;
    struct buffer buffer;
    size_t size;
    buffer_init(&buffer, 1000);
    for (int i = 0; i < 100; i++)
        assert_true(buffer_format(&buffer, "%d,", i));
    char *text = buffer_take(&buffer, &size);
    assert_int_equal(size, 290);
    assert_int_equal(strlen(text), size);
    mem_free(text);
}

static void error_texts_are_printable_and_cut_at_a_code_point(void **state)
{
    (void)state;
    struct hearth_error err;
    assert_int_equal(error_set(&err, HEARTH_E_FORMAT, "key %s", "a\nb\x1b[31m\xff"),
                     HEARTH_E_FORMAT);
    assert_string_equal(err.text, "key a?b?[31m?");
    char many[3 * HEARTH_ERROR_TEXT_MAX + 1] = {0};
    for (size_t i = 0; i + 3 < sizeof many; i += 3)
        memcpy(many + i, "\xe2\x82\xac", 3);
    error_set(&err, HEARTH_E_IO, "%s", many);
    assert_true(utf8_valid(err.text, strlen(err.text)));
    assert_true(strlen(err.text) > HEARTH_ERROR_TEXT_MAX - 5);
    assert_int_equal(error_set(NULL, HEARTH_E_IO, "nobody listens"), HEARTH_E_IO);
}

static void a_prefix_names_where_the_error_was(void **state)
{
    (void)state;
    struct hearth_error err;
    error_set(&err, HEARTH_E_MISSING, "no such key");
    assert_int_equal(error_prefix(&err, HEARTH_E_IO, "%s", "model.gguf"), HEARTH_E_MISSING);
    assert_string_equal(err.text, "model.gguf: no such key");
}

static void every_status_has_its_words(void **state)
{
    (void)state;
#define CHECK(name, value, meaning) assert_string_equal(hearth_status_text(value), meaning);
    HEARTH_ERRORS(CHECK)
#undef CHECK
    assert_string_equal(hearth_status_text(-1000), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives_encoding_and_decoding),
        cmocka_unit_test(malformed_bytes_are_no_code_points),
        cmocka_unit_test(a_buffer_replaces_what_is_no_utf8),
        cmocka_unit_test(a_buffer_never_passes_its_maximum_and_stays_failed),
        cmocka_unit_test(a_buffer_hands_over_terminated_bytes),
        cmocka_unit_test(error_texts_are_printable_and_cut_at_a_code_point),
        cmocka_unit_test(a_prefix_names_where_the_error_was),
        cmocka_unit_test(every_status_has_its_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
