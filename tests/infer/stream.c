#include "infer/stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/utf8.h"

/* ---- a vocabulary without a model: a list of pieces, the first of them a control token ---- */

#define CONTROL "<|end|>"

struct pieces {
    struct text at[600];
    uint32_t count;
};

/* As SentencePiece has it: a text does not begin with the space that its first word begins with. */
static bool list_piece(const void *context, uint32_t id, bool special, bool first,
                       struct buffer *out)
{
    const struct pieces *pieces = context;
    struct text piece = pieces->at[id];
    if (id == 0 && !special)
        return buffer_append(out, "", 0);
    if (first && piece.size > 0 && piece.data[0] == ' ')
        piece = (struct text){piece.data + 1, piece.size - 1};
    return buffer_append_text(out, piece);
}

static struct vocabulary vocabulary_of_pieces(const struct pieces *pieces)
{
    return (struct vocabulary){.context = pieces, .size = pieces->count, .piece = list_piece};
}

static void add_piece(struct pieces *pieces, const char *data, size_t size)
{
    assert_true(pieces->count < sizeof pieces->at / sizeof pieces->at[0]);
    if (pieces->count == 0)
        pieces->at[pieces->count++] = TEXT(CONTROL);
    pieces->at[pieces->count++] = (struct text){data, size};
}

/* ---- running a stream ---- */

struct result {
    char text[4096];
    size_t size;
    bool stopped;
};

static struct hearth_stream *open_stream(const struct pieces *pieces, const char *const *stop,
                                         size_t stop_count)
{
    struct vocabulary vocabulary = vocabulary_of_pieces(pieces);
    struct hearth_stream_options options = {.stop = stop, .stop_count = stop_count};
    struct hearth_stream *stream;
    assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), 0);
    return stream;
}

static void take(struct result *result, const char *text, size_t size)
{
    assert_non_null(text);
    assert_true(utf8_valid(text, size));
    assert_true(result->size + size <= sizeof result->text);
    memcpy(result->text + result->size, text, size);
    result->size += size;
}

static void push(struct hearth_stream *stream, uint32_t id, struct result *result)
{
    const char *text;
    size_t size;
    assert_int_equal(hearth_stream_push(stream, id, &text, &size, &result->stopped, NULL), 0);
    take(result, text, size);
}

static void flush(struct hearth_stream *stream, struct result *result)
{
    const char *text;
    size_t size;
    assert_int_equal(hearth_stream_flush(stream, &text, &size, NULL), 0);
    take(result, text, size);
}

/* All pieces but the control token, in order, and the flush. */
static struct result run(const struct pieces *pieces, const char *const *stop, size_t stop_count)
{
    struct result result = {.size = 0};
    struct hearth_stream *stream = open_stream(pieces, stop, stop_count);
    for (uint32_t id = 1; id < pieces->count; id++)
        push(stream, id, &result);
    assert_int_equal(hearth_stream_stop(stream) != NULL, result.stopped);
    flush(stream, &result);
    hearth_stream_close(stream);
    return result;
}

static void expect(struct result result, struct text text, bool stopped)
{
    assert_int_equal(result.size, text.size);
    assert_memory_equal(result.text, text.data, text.size);
    assert_int_equal(result.stopped, stopped);
}

/* Runs a text cut in two at every place, in three at every pair of places, and byte by byte. */
static void expect_however_cut(struct text whole, const char *const *stop, size_t stop_count,
                               struct text text, bool stopped)
{
    for (size_t first = 0; first <= whole.size; first++) {
        for (size_t second = first; second <= whole.size; second++) {
            struct pieces pieces = {.count = 0};
            add_piece(&pieces, whole.data, first);
            add_piece(&pieces, whole.data + first, second - first);
            add_piece(&pieces, whole.data + second, whole.size - second);
            expect(run(&pieces, stop, stop_count), text, stopped);
        }
    }
    struct pieces bytes = {.count = 0};
    for (size_t i = 0; i < whole.size; i++)
        add_piece(&bytes, whole.data + i, 1);
    expect(run(&bytes, stop, stop_count), text, stopped);
}

#define EXPECT_CUT(whole, text, stopped, ...)                                                      \
    do {                                                                                           \
        const char *const stop[] = {__VA_ARGS__};                                                  \
        expect_however_cut(TEXT(whole), stop, sizeof stop / sizeof stop[0], TEXT(text), stopped);  \
    } while (0)

/* ---- whole code points ---- */

static void text_split_at_any_byte_arrives_whole(void **state)
{
    (void)state;
    struct text text = TEXT("aé€😀\0ภาษา 한국어 \U0010ffff z");
    expect_however_cut(text, NULL, 0, text, false);
}

static void an_incomplete_code_point_is_held_back_and_nothing_else(void **state)
{
    (void)state;
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, "ab\xf0", 3);
    add_piece(&pieces, "\x9f\x98", 2);
    add_piece(&pieces, "\x80", 1);
    struct hearth_stream *stream = open_stream(&pieces, NULL, 0);
    struct result result = {.size = 0};
    push(stream, 1, &result);
    assert_int_equal(result.size, 2);
    push(stream, 2, &result);
    assert_int_equal(result.size, 2);
    push(stream, 3, &result);
    expect(result, TEXT("ab😀"), false);
    flush(stream, &result);
    expect(result, TEXT("ab😀"), false);
    hearth_stream_close(stream);
}

static void invalid_bytes_become_replacement_characters(void **state)
{
    (void)state;
    const struct {
        struct text given, shown;
    } cases[] = {
        {TEXT("\xff"), TEXT("\ufffd")},
        {TEXT("a\x80z"), TEXT("a\ufffdz")},
        {TEXT("\xc3"), TEXT("\ufffd")},
        {TEXT("\xe2\x82"), TEXT("\ufffd")},
        {TEXT("\xf0\x9f\x98"), TEXT("\ufffd")},
        {TEXT("\xf0\x9f\x98z"), TEXT("\ufffdz")},
        {TEXT("\xe2\x82\xc3\xa9"), TEXT("\ufffdé")},
        {TEXT("\xe2\xe2\x82\xac"), TEXT("\ufffd€")},
        {TEXT("\xf0\x9f\xf0\x9f\x98\x80"), TEXT("\ufffd😀")},
        {TEXT("\xed\xa0\x80"), TEXT("\ufffd\ufffd\ufffd")},           /* a surrogate */
        {TEXT("\xc0\xaf"), TEXT("\ufffd\ufffd")},                     /* overlong */
        {TEXT("\xf4\x90\x80\x80"), TEXT("\ufffd\ufffd\ufffd\ufffd")}, /* above U+10FFFF */
        {TEXT("\xf8\x88\x80\x80\x80"), TEXT("\ufffd\ufffd\ufffd\ufffd\ufffd")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_however_cut(cases[i].given, NULL, 0, cases[i].shown, false);
}

static void any_bytes_give_the_same_valid_text_however_they_are_cut(void **state)
{
    (void)state;
    struct random random = random_from_seed(1);
    static const char interesting[] = "a\x80\xbf\xc3\xa9\xe2\x82\xac\xed\xf0\x9f\x98\xf4\xff";
    static const char *const stop[] = {"a\ufffda", "é€", "aaa"};
    for (int i = 0; i < 3000; i++) {
        char bytes[40];
        size_t size = random_u64(&random) % (sizeof bytes + 1);
        for (size_t j = 0; j < size; j++)
            bytes[j] = interesting[random_u64(&random) % (sizeof interesting - 1)];
        struct pieces whole = {.count = 0}, cut = {.count = 0};
        add_piece(&whole, bytes, size);
        for (size_t at = 0, next; at < size; at = next) {
            next = at + random_u64(&random) % 6;
            next = next > size ? size : next;
            add_piece(&cut, bytes + at, next - at);
        }
        struct result expected = run(&whole, stop, 3);
        if (cut.count > 0)
            expect(run(&cut, stop, 3), (struct text){expected.text, expected.size},
                   expected.stopped);
    }
}

/* ---- stop strings ---- */

static void a_stop_string_cut_anywhere_ends_the_text_before_it(void **state)
{
    (void)state;
    EXPECT_CUT("Hello User: how", "Hello ", true, "User:");
    EXPECT_CUT("Hello User how", "Hello User how", false, "User:");
    EXPECT_CUT("User:", "", true, "User:");
    EXPECT_CUT("say é😀 now", "say ", true, "é😀");
    EXPECT_CUT("one\n\ntwo", "one", true, "\n\n");
    EXPECT_CUT("no stop, but it ends like one: Use", "no stop, but it ends like one: Use", false,
               "User:");
}

static void a_stop_string_that_begins_inside_a_false_start_is_found(void **state)
{
    (void)state;
    EXPECT_CUT("aaab!", "a", true, "aab");
    EXPECT_CUT("abababac", "abab", true, "abac");
    EXPECT_CUT("\n\n\nUser", "\n", true, "\n\nUser");
    EXPECT_CUT("aabaabaaab", "aabaa", true, "baaab");
}

static void the_first_stop_string_to_be_complete_counts(void **state)
{
    (void)state;
    EXPECT_CUT("x end stop", "x ", true, "stop", "end");
    EXPECT_CUT("abcd", "a", true, "abcd", "bc");
    EXPECT_CUT("xabc", "x", true, "c", "abc", "bc"); /* at one byte: the longest */
    EXPECT_CUT("abcx", "abcx", false, "abcd", "bcd");
    EXPECT_CUT("aaaa", "", true, "a", "aa");
}

static void a_stream_names_the_stop_string(void **state)
{
    (void)state;
    static const char *const stop[] = {"c", "abc", "xab!", "bc", "abcd"};
    struct pieces pieces = {.count = 0};
    struct result result = {.size = 0};
    add_piece(&pieces, "xa", 2);
    add_piece(&pieces, "bcd", 3);
    struct hearth_stream *stream = open_stream(&pieces, stop, 5);
    push(stream, 1, &result);
    assert_null(hearth_stream_stop(stream));
    push(stream, 2, &result);
    assert_string_equal(hearth_stream_stop(stream), "abc");
    hearth_stream_close(stream);
}

static void replacement_characters_can_be_part_of_a_stop_string(void **state)
{
    (void)state;
    EXPECT_CUT("a\xff!b", "a", true, "\ufffd!");
    EXPECT_CUT("ab\xe2\x82", "a", false, "b\ufffd"); /* complete only at the flush */
}

static void no_more_is_held_back_than_can_become_a_stop_string(void **state)
{
    (void)state;
    struct pieces pieces = {.count = 0};
    static const char *const given[] = {"ab<", "/e", "x</en", "d", "y"};
    static const size_t shown[] = {2, 2, 6, 6, 12};
    static const char *const stop[] = {"</end>", "zzz"};
    for (size_t i = 0; i < 5; i++)
        add_piece(&pieces, given[i], strlen(given[i]));
    struct hearth_stream *stream = open_stream(&pieces, stop, 2);
    struct result result = {.size = 0};
    for (uint32_t i = 0; i < 5; i++) {
        push(stream, i + 1, &result);
        assert_int_equal(result.size, shown[i]);
    }
    expect(result, TEXT("ab</ex</endy"), false);
    hearth_stream_close(stream);
}

static void nothing_follows_a_stop_string(void **state)
{
    (void)state;
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, "one STOP two", 12);
    static const char *const stop[] = {"STOP"};
    struct hearth_stream *stream = open_stream(&pieces, stop, 1);
    struct result result = {.size = 0};
    for (int i = 0; i < 3; i++) {
        push(stream, 1, &result);
        expect(result, TEXT("one "), true);
    }
    flush(stream, &result);
    expect(result, TEXT("one "), true);
    hearth_stream_close(stream);
}

static void stop_strings_have_limits_and_must_be_text(void **state)
{
    (void)state;
    static char longest[STREAM_STOP_BYTES_MAX + 2];
    memset(longest, 'a', STREAM_STOP_BYTES_MAX);
    const char *stop[STREAM_STOPS_MAX + 1];
    for (size_t i = 0; i < sizeof stop / sizeof stop[0]; i++)
        stop[i] = longest;
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, "x", 1);
    struct hearth_stream *stream = open_stream(&pieces, stop, STREAM_STOPS_MAX);
    hearth_stream_close(stream);
    hearth_stream_close(NULL);

    struct vocabulary vocabulary = vocabulary_of_pieces(&pieces);
    struct hearth_stream_options options = {.stop = stop, .stop_count = STREAM_STOPS_MAX + 1};
    assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), HEARTH_E_LIMIT);
    options.stop_count = 3;
    stop[2] = "";
    assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), HEARTH_E_ARGUMENT);
    stop[2] = "\xff";
    assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), HEARTH_E_ARGUMENT);
    stop[2] = "fine";
    longest[STREAM_STOP_BYTES_MAX] = 'a';
    assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), HEARTH_E_LIMIT);
}

static void the_longest_stop_string_is_found_in_its_own_false_starts(void **state)
{
    (void)state;
    static char stop_text[STREAM_STOP_BYTES_MAX + 1], text[2 * STREAM_STOP_BYTES_MAX];
    memset(stop_text, 'a', STREAM_STOP_BYTES_MAX - 1);
    stop_text[STREAM_STOP_BYTES_MAX - 1] = 'b';
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = 'b';
    const char *stop[] = {stop_text};
    struct pieces pieces = {.count = 0};
    for (size_t at = 0; at < sizeof text; at += 8)
        add_piece(&pieces, text + at, 8);
    struct result result = run(&pieces, stop, 1);
    assert_true(result.stopped);
    assert_int_equal(result.size, STREAM_STOP_BYTES_MAX);
}

/* ---- tokens ---- */

static void control_tokens_are_shown_only_when_asked_for(void **state)
{
    (void)state;
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, "x", 1);
    struct vocabulary vocabulary = vocabulary_of_pieces(&pieces);
    for (int special = 0; special < 2; special++) {
        struct hearth_stream_options options = {.special = special == 1};
        struct hearth_stream *stream;
        struct result result = {.size = 0};
        assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), 0);
        push(stream, 1, &result);
        push(stream, 0, &result);
        push(stream, 1, &result);
        expect(result, special ? TEXT("x" CONTROL "x") : TEXT("xx"), false);
        hearth_stream_close(stream);
    }
}

static void the_first_words_space_goes_unless_the_text_continues(void **state)
{
    (void)state;
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, " word", 5);
    struct vocabulary vocabulary = vocabulary_of_pieces(&pieces);
    for (int continues = 0; continues < 2; continues++) {
        struct hearth_stream_options options = {.continues = continues == 1};
        struct hearth_stream *stream;
        struct result result = {.size = 0};
        assert_int_equal(stream_open(&vocabulary, &options, &stream, NULL), 0);
        push(stream, 1, &result);
        push(stream, 1, &result);
        expect(result, continues ? TEXT(" word word") : TEXT("word word"), false);
        hearth_stream_close(stream);
    }
}

static void a_stream_refuses_unknown_tokens_and_pushes_after_its_end(void **state)
{
    (void)state;
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, "x", 1);
    struct vocabulary vocabulary = vocabulary_of_pieces(&pieces);
    struct hearth_stream *stream;
    struct result result = {.size = 0};
    const char *text = "untouched";
    size_t size = 99;
    bool stopped = true;
    assert_int_equal(stream_open(&vocabulary, NULL, &stream, NULL), 0);
    assert_int_equal(hearth_stream_push(stream, 2, &text, &size, &stopped, NULL),
                     HEARTH_E_ARGUMENT);
    push(stream, 1, &result);
    flush(stream, &result);
    flush(stream, &result);
    expect(result, TEXT("x"), false);
    assert_int_equal(hearth_stream_push(stream, 1, &text, &size, &stopped, NULL), HEARTH_E_STATE);
    assert_string_equal(text, "untouched");
    assert_true(size == 99 && stopped);
    hearth_stream_close(stream);
}

/* ---- memory ---- */

static void opening_survives_any_allocation_that_fails(void **state)
{
    (void)state;
    static const char *const stop[] = {"one", "two", "three"};
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, "x", 1);
    struct vocabulary vocabulary = vocabulary_of_pieces(&pieces);
    struct hearth_stream_options options = {.stop = stop, .stop_count = 3};
    unsigned long failed = 0;
    for (;; failed++) {
        struct hearth_stream *stream = NULL;
        mem_fail_nth(failed + 1);
        int status = stream_open(&vocabulary, &options, &stream, NULL);
        mem_fail_nth(0);
        if (status == 0) {
            hearth_stream_close(stream);
            break;
        }
        assert_int_equal(status, HEARTH_E_MEMORY);
        assert_null(stream);
    }
    assert_in_range(failed, 8, 8); /* the stream, the list, two for each stop string */
}

static void a_push_that_found_no_memory_can_be_repeated(void **state)
{
    (void)state;
    static const char *const stop[] = {"STOP"};
    static char large[3000];
    memset(large, 'x', sizeof large);
    struct pieces pieces = {.count = 0};
    add_piece(&pieces, " S\xf0\x9f", 4);
    add_piece(&pieces, "\x98\x80ST", 4);
    add_piece(&pieces, large, sizeof large);
    add_piece(&pieces, "STO", 3);
    add_piece(&pieces, "P", 1);
    struct result expected = run(&pieces, stop, 1), result = {.size = 0};
    struct hearth_stream *stream = open_stream(&pieces, stop, 1);
    int failures = 0;
    for (uint32_t id = 1; id < pieces.count; id++) {
        for (unsigned long nth = 1; nth <= 3; nth++) {
            const char *text;
            size_t size;
            mem_fail_nth(nth);
            int status = hearth_stream_push(stream, id, &text, &size, &result.stopped, NULL);
            mem_fail_nth(0);
            if (status == 0) {
                take(&result, text, size);
                break;
            }
            assert_int_equal(status, HEARTH_E_MEMORY);
            failures++;
        }
    }
    expect(result, (struct text){expected.text, expected.size}, true);
    assert_in_range(failures, 2, 10);
    hearth_stream_close(stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_split_at_any_byte_arrives_whole),
        cmocka_unit_test(an_incomplete_code_point_is_held_back_and_nothing_else),
        cmocka_unit_test(invalid_bytes_become_replacement_characters),
        cmocka_unit_test(any_bytes_give_the_same_valid_text_however_they_are_cut),
        cmocka_unit_test(a_stop_string_cut_anywhere_ends_the_text_before_it),
        cmocka_unit_test(a_stop_string_that_begins_inside_a_false_start_is_found),
        cmocka_unit_test(the_first_stop_string_to_be_complete_counts),
        cmocka_unit_test(a_stream_names_the_stop_string),
        cmocka_unit_test(replacement_characters_can_be_part_of_a_stop_string),
        cmocka_unit_test(no_more_is_held_back_than_can_become_a_stop_string),
        cmocka_unit_test(nothing_follows_a_stop_string),
        cmocka_unit_test(stop_strings_have_limits_and_must_be_text),
        cmocka_unit_test(the_longest_stop_string_is_found_in_its_own_false_starts),
        cmocka_unit_test(control_tokens_are_shown_only_when_asked_for),
        cmocka_unit_test(the_first_words_space_goes_unless_the_text_continues),
        cmocka_unit_test(a_stream_refuses_unknown_tokens_and_pushes_after_its_end),
        cmocka_unit_test(opening_survives_any_allocation_that_fails),
        cmocka_unit_test(a_push_that_found_no_memory_can_be_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
