/* Packed conversations: what goes in comes out, and nothing that comes from outside gets further
 * than its check. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "base/sum.h"
#include "room.h"
#include "session/record.h"

static const char ours[] = "0123456789abcdef0123456789abcdef";
static const char others[] = "0123456789abcdef0123456789abcdee";

static const char messages[] = "[{\"role\":\"user\",\"content\":\"h\xc3\xa9llo\"},"
                               "{\"role\":\"assistant\",\"content\":\"a\",\"x\":[1.5,null,{}]}]";

static void make_history(struct history *history)
{
    assert_int_equal(history_init(history, models[0], NULL), 0);
    history_set_plain(history, true);
    assert_int_equal(history_set(history, messages, sizeof messages - 1, NULL), 0);
    struct history_prompt prompt;
    assert_int_equal(history_begin_answer(history, NULL, 0, &prompt, NULL), 0);
    for (uint32_t id = 10; id < 20; id++)
        assert_int_equal(history_push(history, id, NULL), 0);
    assert_int_equal(
        history_end_answer(history, history->count - 10, (struct text){"abc", 3}, NULL), 0);
    history->edited = true;
    history->dropped = 1;
}

static const struct record packed = {
    .unix_seconds = -5,
    .computed = 13,
    .settings = {.keep = HEARTH_KEEP_NEVER, .overflow = HEARTH_OVERFLOW_DROP, .plain = true}};

static struct buffer pack(void)
{
    struct buffer bytes;
    struct history history;
    buffer_init(&bytes, 1 << 20);
    make_history(&history);
    assert_int_equal(record_pack(&packed, &history, ours, &bytes, NULL), 0);
    history_finish(&history);
    return bytes;
}

static int unpack(struct text bytes, const char *model, struct record *record,
                  struct history *history)
{
    /* in memory of its own size, so that a sanitizer sees what is read behind it */
    char *copy = malloc(bytes.size + !bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    assert_int_equal(history_init(history, models[0], NULL), 0);
    int status = record_unpack((struct text){copy, bytes.size}, model, record, history, NULL);
    free(copy);
    return status;
}

static void what_is_packed_comes_back(void **state)
{
    (void)state;
    struct buffer bytes = pack();
    struct history history, expected;
    struct record record;
    struct text json;
    size_t count;
    make_history(&expected);
    assert_int_equal(unpack(buffer_text(&bytes), ours, &record, &history), 0);
    assert_int_equal(record.settings.keep, packed.settings.keep);
    assert_true(record.settings.plain && history.plain);
    assert_int_equal(record.settings.overflow, packed.settings.overflow);
    assert_int_equal(record.unix_seconds, packed.unix_seconds);
    assert_int_equal(record.computed, packed.computed);
    assert_int_equal(record.lost, HEARTH_MISS_NOTHING);
    assert_true(json_equal(history.messages, expected.messages));
    assert_true(history.edited);
    assert_int_equal(history.dropped, 1);
    assert_int_equal(history.count, expected.count);
    assert_memory_equal(history.ids, expected.ids, expected.count * sizeof *expected.ids);
    assert_int_equal(history.mark_count, expected.mark_count);
    assert_memory_equal(history.marks, expected.marks,
                        expected.mark_count * sizeof *expected.marks);
    assert_int_equal(history.held.size, expected.held.size);
    assert_memory_equal(history.held.data, expected.held.data, expected.held.size);
    assert_int_equal(record_messages(buffer_text(&bytes), &json, &count, NULL), 0);
    assert_int_equal(count, 3);
    assert_true(json.size > sizeof messages && json.data[json.size - 1] == ']');
    history_finish(&history);
    history_finish(&expected);
    buffer_finish(&bytes);
}

static void another_model_takes_the_messages_alone(void **state)
{
    (void)state;
    struct buffer bytes = pack();
    struct history history;
    struct record record;
    assert_int_equal(unpack(buffer_text(&bytes), others, &record, &history), 0);
    assert_int_equal(record.lost, HEARTH_MISS_MODEL);
    assert_int_equal(json_array_size(history.messages), 3);
    assert_int_equal(history.count + history.mark_count + history.held.size, 0);
    assert_int_equal(record.unix_seconds, packed.unix_seconds);
    history_finish(&history);
    buffer_finish(&bytes);
}

/* Beginnings are tokenized differently where there is a template: not one id is taken. */
static void tokens_of_another_way_are_not_taken(void **state)
{
    (void)state;
    struct buffer bytes;
    struct history history;
    struct record record, templated = {.computed = 13};
    buffer_init(&bytes, 1 << 20);
    make_history(&history); /* without a template, as a model that has none would */
    assert_int_equal(record_pack(&templated, &history, ours, &bytes, NULL), 0);
    history_finish(&history);
    assert_int_equal(unpack(buffer_text(&bytes), ours, &record, &history), 0);
    assert_int_equal(record.lost, HEARTH_MISS_TEMPLATE);
    assert_int_equal(record.computed, 0);
    assert_int_equal(json_array_size(history.messages), 3);
    assert_int_equal(history.count + history.mark_count + history.held.size, 0);
    history_finish(&history);
    buffer_finish(&bytes);
}

/* Where the part begins that can be made again: behind the sum of the messages. */
static size_t second_part(const struct buffer *bytes)
{
    struct text json;
    size_t count;
    assert_int_equal(record_messages(buffer_text(bytes), &json, &count, NULL), 0);
    return (size_t)(json.data - bytes->data) + json.size + SUM_BYTES;
}

/* Damage is seen wherever it is, and costs no more than it must. */
static void check_damaged(struct text bytes, size_t at, size_t parted)
{
    struct history history;
    struct record record;
    int status = unpack(bytes, ours, &record, &history);
    if (at >= parted) {
        assert_int_equal(status, 0);
        assert_int_equal(record.lost, HEARTH_MISS_DAMAGED);
        assert_int_equal(json_array_size(history.messages), 3);
        assert_int_equal(history.count, 0);
    } else {
        assert_true(status == HEARTH_E_FORMAT || status == HEARTH_E_UNSUPPORTED);
    }
    history_finish(&history);
}

static void cut_and_flipped_records_are_seen(void **state)
{
    (void)state;
    struct buffer bytes = pack();
    size_t parted = second_part(&bytes);
    for (size_t cut = 0; cut < bytes.size; cut++)
        check_damaged((struct text){bytes.data, cut}, cut, parted);
    for (size_t at = 0; at < bytes.size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes.data[at] = (char)(bytes.data[at] ^ 1 << bit);
            check_damaged(buffer_text(&bytes), at, parted);
            bytes.data[at] = (char)(bytes.data[at] ^ 1 << bit);
        }
    }
    assert_true(buffer_append(&bytes, "x", 1));
    check_damaged(buffer_text(&bytes), bytes.size - 1, parted);
    buffer_finish(&bytes);
}

/* Numbers of all kinds, with sums that fit: what is taken lies in its ranges. */
static void forged_records_harm_nobody(void **state)
{
    (void)state;
    static const unsigned char values[] = {0, 1, 2, 0x7f, 0x80, 0xff, '[', ']', '"', '{'};
    struct buffer bytes = pack();
    struct random random = random_from_seed(5);
    char *forged = malloc(bytes.size);
    size_t parted = second_part(&bytes), taken = 0;
    for (int i = 0; i < 20000; i++) {
        struct history history;
        struct record record;
        memcpy(forged, bytes.data, bytes.size);
        for (uint64_t n = 1 + random_u64(&random) % 4; n > 0; n--) {
            /* the numbers at the beginning of a part half of the time */
            size_t begin = random_u64(&random) % 2 ? parted : 0;
            size_t range = random_u64(&random) % 2 ? 24 : bytes.size - begin;
            forged[begin + random_u64(&random) % range] =
                (char)values[random_u64(&random) % sizeof values];
        }
        sum_of(forged, parted - SUM_BYTES, (unsigned char *)forged + parted - SUM_BYTES);
        sum_of(forged + parted, bytes.size - parted - SUM_BYTES,
               (unsigned char *)forged + bytes.size - SUM_BYTES);
        if (!unpack((struct text){forged, bytes.size}, ours, &record, &history)) {
            taken += record.lost == HEARTH_MISS_NOTHING;
            assert_true(record.computed <= history.count);
            for (size_t k = 0; k < history.count; k++)
                assert_true(history.ids[k] < VOCABULARY);
            for (size_t k = 0; k < history.mark_count; k++) {
                assert_true(history.marks[k].ids <= history.count);
                assert_true(history.marks[k].text <= history.held.size);
            }
        }
        history_finish(&history);
    }
    assert_true(taken > 1000);
    free(forged);
    buffer_finish(&bytes);
}

static void a_later_version_is_left_alone(void **state)
{
    (void)state;
    struct buffer bytes = pack();
    struct history history;
    struct record record;
    bytes.data[8] = 2;
    assert_int_equal(unpack(buffer_text(&bytes), ours, &record, &history), HEARTH_E_UNSUPPORTED);
    history_finish(&history);
    buffer_finish(&bytes);
}

static void without_memory_nothing_is_lost(void **state)
{
    (void)state;
    struct buffer bytes = pack();
    int status = HEARTH_E_MEMORY;
    for (unsigned long n = 1; status; n++) {
        struct history history;
        struct record record;
        assert_int_equal(history_init(&history, models[0], NULL), 0);
        mem_fail_nth(n);
        status = record_unpack(buffer_text(&bytes), ours, &record, &history, NULL);
        mem_fail_nth(0);
        assert_true(status == HEARTH_E_MEMORY || (status == 0 && n > 3));
        assert_true(status || record.lost == HEARTH_MISS_NOTHING);
        history_finish(&history);
    }
    buffer_finish(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_packed_comes_back),
        cmocka_unit_test(another_model_takes_the_messages_alone),
        cmocka_unit_test(tokens_of_another_way_are_not_taken),
        cmocka_unit_test(cut_and_flipped_records_are_seen),
        cmocka_unit_test(forged_records_harm_nobody),
        cmocka_unit_test(a_later_version_is_left_alone),
        cmocka_unit_test(without_memory_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
