/* The log: lines that are whole and safe whatever is in them, and that never make anybody wait. */
#define _GNU_SOURCE
#include "server/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"

struct logged {
    struct log *log;
    int fds[2];
    char text[1 << 17];
};

static void begin(struct logged *logged, bool json, enum log_level least)
{
    assert_int_equal(pipe2(logged->fds, O_CLOEXEC), 0);
    logged->log = log_create(logged->fds[1], json, least);
    assert_non_null(logged->log);
}

static const char *end(struct logged *logged)
{
    size_t size = 0;
    ssize_t got;
    log_destroy(logged->log);
    close(logged->fds[1]);
    while ((got = read(logged->fds[0], logged->text + size, sizeof logged->text - 1 - size)) > 0)
        size += (size_t)got;
    close(logged->fds[0]);
    logged->text[size] = '\0';
    return logged->text;
}

static void lines_of_text(void **state)
{
    struct logged *logged = calloc(1, sizeof *logged);
    int year, parts = 0;
    (void)state;
    begin(logged, false, LOG_INFO);
    log_line(logged->log, LOG_DEBUG, 0, "not told", "a=%d", 1);
    log_line(logged->log, LOG_INFO, 7, "request", "status=%d ms=%.1f", 200, 1.5);
    log_line(logged->log, LOG_ERROR, 0, "worker ended", "%s", "");
    log_line(NULL, LOG_ERROR, 0, "nobody", "a=%d", 1);
    const char *text = end(logged);
    assert_int_equal(sscanf(text, "%d-%*d-%*dT%*d:%*d:%*d.%*dZ%n", &year, &parts), 1);
    assert_int_equal(parts, 24);
    assert_true(year >= 2024);
    assert_memory_equal(text + 24, " info    request request=7 status=200 ms=1.5\n", 45);
    assert_string_equal(strchr(text, '\n') + 1 + 24, " error   worker ended\n");
    free(logged);
}

static json_t *only_line(struct logged *logged)
{
    const char *text = end(logged);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(line);
    return line;
}

static void lines_of_json(void **state)
{
    struct logged *logged = calloc(1, sizeof *logged);
    char value[LOG_VALUE_SIZE];
    (void)state;
    begin(logged, true, LOG_DEBUG);
    log_line(logged->log, LOG_WARNING, 3, "model \"x\"",
             "status=%d ms=%.1f cause=\"no such file\" name=%s date=%s minus=-4 zero=0 "
             "leading=007 point=1. empty=\"\" word",
             200, 0.25, log_value(value, TEXT("a \"b\" c=d \\ e")), "2024-01-01");
    json_t *line = only_line(logged);
    assert_string_equal(json_string_value(json_object_get(line, "level")), "warning");
    assert_string_equal(json_string_value(json_object_get(line, "what")), "model \"x\"");
    assert_int_equal(json_integer_value(json_object_get(line, "request")), 3);
    assert_int_equal(json_integer_value(json_object_get(line, "status")), 200);
    assert_float_equal(json_real_value(json_object_get(line, "ms")), 0.2, 0.11);
    assert_string_equal(json_string_value(json_object_get(line, "cause")), "no such file");
    assert_string_equal(json_string_value(json_object_get(line, "name")), "a \"b\" c=d \\ e");
    assert_string_equal(json_string_value(json_object_get(line, "date")), "2024-01-01");
    assert_int_equal(json_integer_value(json_object_get(line, "minus")), -4);
    assert_true(json_is_integer(json_object_get(line, "zero")));
    assert_true(json_is_string(json_object_get(line, "leading")));
    assert_true(json_is_string(json_object_get(line, "point")));
    assert_string_equal(json_string_value(json_object_get(line, "empty")), "");
    assert_string_equal(json_string_value(json_object_get(line, "note")), "word");
    assert_null(json_object_get(line, "c"));
    json_decref(line);
    free(logged);
}

/* Whatever bytes a value has, they stay in the value. */
static void values_cannot_leave_their_place(void **state)
{
    static const char *const evil[] = {"x\" status=200 y=\"",
                                       "a\nb",
                                       "\\",
                                       "\\\"",
                                       "\\\\\" z=1",
                                       "\xff\xfe\xc3",
                                       "",
                                       "=",
                                       "a=b",
                                       "\x1b[31m\x7f",
                                       "\\u00",
                                       "\"\"\"\"",
                                       " ",
                                       "\\n"};
    (void)state;
    for (int json = 0; json < 2; json++) {
        for (size_t i = 0; i < sizeof evil / sizeof *evil; i++) {
            struct logged *logged = calloc(1, sizeof *logged);
            char value[LOG_VALUE_SIZE];
            begin(logged, json, LOG_DEBUG);
            log_line(logged->log, LOG_INFO, 0, "w", "name=%s", log_value(value, text_of(evil[i])));
            if (json) {
                json_t *line = only_line(logged);
                assert_int_equal(json_object_size(line), 4);
                const char *got = json_string_value(json_object_get(line, "name"));
                assert_non_null(got);
                if ((unsigned char)evil[i][0] < 0x80)
                    assert_string_equal(got, evil[i]);
                else
                    assert_string_equal(got, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
                json_decref(line);
            } else {
                const char *text = end(logged);
                assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
                assert_null(strchr(text, '\x1b'));
            }
            free(logged);
        }
    }
}

/* Without log_value a line is still a line. */
static void careless_formats_stay_lines(void **state)
{
    static const char *const evil[] = {"a\nb",         "x=\"\\",   "\"\\u0",
                                       "n=\"\\q\" \"", "\xc3\x28", "==="};
    char longest[5000];
    (void)state;
    memset(longest, '"', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i <= sizeof evil / sizeof *evil; i++) {
        const char *what = i < sizeof evil / sizeof *evil ? evil[i] : longest;
        struct logged *logged = calloc(1, sizeof *logged);
        begin(logged, true, LOG_DEBUG);
        log_line(logged->log, LOG_INFO, 0, "w", "name=%s", what);
        json_decref(only_line(logged));
        free(logged);
    }
}

static void long_values_are_cut_at_characters(void **state)
{
    char evil[1000], value[LOG_VALUE_SIZE];
    (void)state;
    for (size_t start = 0; start < 4; start++) {
        for (size_t i = 0; i + 1 < sizeof evil; i++)
            evil[i] = i < start ? 'a' : "\xe2\x82\xac"[(i - start) % 3];
        log_value(value, (struct text){evil, sizeof evil - 1});
        assert_in_range(strlen(value), LOG_VALUE_SIZE - 8, LOG_VALUE_SIZE - 1);
        json_t *text = json_stringn(value, strlen(value));
        assert_non_null(text); /* valid UTF-8 */
        json_decref(text);
        memset(evil, start % 2 ? '\x01' : '"', sizeof evil);
        log_value(value, (struct text){evil, sizeof evil});
        assert_int_equal(value[strlen(value) - 1], '"');
        text = json_loads(value, JSON_DECODE_ANY, NULL);
        assert_non_null(text); /* no escape is cut */
        json_decref(text);
    }
}

/* Nobody reads: no call waits, and what was lost is counted once somebody does. */
static void a_reader_who_sleeps_costs_lines(void **state)
{
    struct logged *logged = calloc(1, sizeof *logged);
    unsigned long long lost = 0, written = 0;
    (void)state;
    begin(logged, false, LOG_INFO);
    for (int i = 0; i < 20000; i++)
        log_line(logged->log, LOG_INFO, 0, "fact", "number=%d", i);
    ssize_t got = read(logged->fds[0], logged->text, sizeof logged->text - 1);
    assert_true(got > 0);
    for (ssize_t i = 0; i < got; i++)
        written += logged->text[i] == '\n';
    assert_int_equal(logged->text[got - 1], '\n');
    log_line(logged->log, LOG_INFO, 0, "fact", "number=%d", 20000);
    const char *text = strstr(end(logged), "lines of the log were lost lines=");
    assert_non_null(text);
    assert_int_equal(sscanf(text, "lines of the log were lost lines=%llu", &lost), 1);
    assert_int_equal(lost + written, 20000);
    assert_non_null(strstr(text, "number=20000\n"));
    free(logged);
}

static void a_reader_who_left_costs_lines(void **state)
{
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    struct log *log = log_create(pair[0], false, LOG_INFO);
    close(pair[1]);
    log_line(log, LOG_INFO, 0, "fact", "number=%d", 1); /* and no signal */
    log_destroy(log);
    close(pair[0]);
}

static void without_memory_lines_are_lost(void **state)
{
    struct logged *logged = calloc(1, sizeof *logged);
    (void)state;
    begin(logged, true, LOG_INFO);
    for (unsigned long n = 1; n < 8; n++) {
        char value[LOG_VALUE_SIZE];
        mem_fail_nth(n);
        log_line(logged->log, LOG_INFO, 0, "fact", "a=%s", log_value(value, TEXT("b c")));
        mem_fail_nth(0);
    }
    const char *text = end(logged);
    while (*text) {
        const char *line_end = strchr(text, '\n');
        assert_non_null(line_end);
        json_t *line = json_loadb(text, (size_t)(line_end - text), 0, NULL);
        assert_non_null(line);
        json_decref(line);
        text = line_end + 1;
    }
    free(logged);
}

/* The tail, whole lines; `from` moves on. */
static char *tail_of(const struct log *log, uint64_t *from)
{
    struct buffer lines;
    buffer_init(&lines, LOG_TAIL_BYTES);
    *from = log_tail(log, *from, &lines);
    char *text = strdup(lines.data ? lines.data : "");
    buffer_finish(&lines);
    return text;
}

static void the_last_lines_are_kept(void **state)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    struct log *log = log_create(null, false, LOG_INFO);
    uint64_t from = 0;
    (void)state;
    log_line(log, LOG_INFO, 0, "first", "number=%d", 1);
    log_line(log, LOG_DEBUG, 0, "not wanted", "number=%d", 2);
    char *text = tail_of(log, &from);
    assert_non_null(strstr(text, "first number=1\n"));
    assert_null(strstr(text, "not wanted"));
    free(text);
    log_line(log, LOG_INFO, 0, "second", "number=%d", 3);
    text = tail_of(log, &from);
    assert_null(strstr(text, "first"));
    assert_non_null(strstr(text, "second number=3\n"));
    free(text);
    /* more than is kept: the tail begins with a whole line, and its end is there */
    for (int i = 0; i < 10000; i++)
        log_line(log, LOG_INFO, 0, "many", "number=%d", i);
    text = tail_of(log, &from);
    assert_memory_equal(text, "20", 2); /* the year of a time */
    assert_true(strlen(text) > LOG_TAIL_BYTES - 200 && strlen(text) <= LOG_TAIL_BYTES);
    assert_non_null(strstr(text, "number=9999\n"));
    free(text);
    text = tail_of(log, &from);
    assert_string_equal(text, "");
    free(text);
    log_destroy(log);
    close(null);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_text),
        cmocka_unit_test(lines_of_json),
        cmocka_unit_test(values_cannot_leave_their_place),
        cmocka_unit_test(careless_formats_stay_lines),
        cmocka_unit_test(long_values_are_cut_at_characters),
        cmocka_unit_test(a_reader_who_sleeps_costs_lines),
        cmocka_unit_test(a_reader_who_left_costs_lines),
        cmocka_unit_test(without_memory_lines_are_lost),
        cmocka_unit_test(the_last_lines_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
