/* Metrics: the text format to the byte, and figures that add up. */
#include "server/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

#define TEXT_MAX ((size_t)1 << 20)

static char *written(const struct metrics *metrics)
{
    struct buffer out;
    buffer_init(&out, TEXT_MAX);
    metrics_write(metrics, &out);
    assert_false(out.failed);
    char *text = buffer_take(&out, NULL);
    assert_non_null(text);
    return text;
}

static void assert_line(const char *text, const char *line)
{
    char whole[512];
    snprintf(whole, sizeof whole, "\n%s\n", line);
    if (!strstr(text, whole))
        fail_msg("\"%s\" is not in:\n%s", line, text);
}

static void counters_and_gauges(void **state)
{
    static const char expected[] =
        "# HELP hearth_requests_total HTTP requests answered, by status.\n"
        "# TYPE hearth_requests_total counter\n"
        "hearth_requests_total{status=\"200\"} 2\n"
        "hearth_requests_total{status=\"404\"} 1\n"
        "# HELP hearth_prompt_tokens_total Tokens of prompts.\n"
        "# TYPE hearth_prompt_tokens_total counter\n"
        "hearth_prompt_tokens_total 12.5\n";
    struct metrics *metrics = metrics_create();
    (void)state;
    metrics_add(metrics, METRIC_PROMPT_TOKENS, NULL, 10);
    metrics_add(metrics, METRIC_PROMPT_TOKENS, NULL, 2.5);
    metrics_add(metrics, METRIC_REQUESTS, "200", 1);
    metrics_add(metrics, METRIC_REQUESTS, "404", 1);
    metrics_add(metrics, METRIC_REQUESTS, "200", 1);
    metrics_set(metrics, METRIC_MEMORY, "weights", 12345678901);
    metrics_set(metrics, METRIC_STREAMS, NULL, 3);
    metrics_add(metrics, METRIC_STREAMS, NULL, -1);
    char *text = written(metrics);
    assert_memory_equal(text, expected, sizeof expected - 1);
    assert_line(text, "hearth_memory_bytes{kind=\"weights\"} 12345678901");
    assert_line(text, "hearth_streams_open 2");
    assert_line(text, "hearth_workers 0");
    assert_line(text, "# TYPE hearth_memory_pressure gauge");
    assert_int_equal(text[strlen(text) - 1], '\n');
    mem_free(text);
    metrics_destroy(metrics);
}

static void histograms_are_cumulative(void **state)
{
    struct metrics *metrics = metrics_create();
    (void)state;
    metrics_observe(metrics, METRIC_FIRST_TOKEN, 0.01); /* a bound belongs to its bucket */
    metrics_observe(metrics, METRIC_FIRST_TOKEN, 0.0101);
    metrics_observe(metrics, METRIC_FIRST_TOKEN, 1000);
    metrics_observe(metrics, METRIC_FIRST_TOKEN, NAN);
    metrics_observe(metrics, METRIC_FIRST_TOKEN, -1);
    char *text = written(metrics);
    assert_line(text, "# TYPE hearth_first_token_seconds histogram\n"
                      "hearth_first_token_seconds_bucket{le=\"0.01\"} 1\n"
                      "hearth_first_token_seconds_bucket{le=\"0.025\"} 2");
    assert_line(text, "hearth_first_token_seconds_bucket{le=\"300\"} 2\n"
                      "hearth_first_token_seconds_bucket{le=\"+Inf\"} 3\n"
                      "hearth_first_token_seconds_sum 1000.0201\n"
                      "hearth_first_token_seconds_count 3");
    assert_line(text, "hearth_next_token_seconds_bucket{le=\"+Inf\"} 0\n"
                      "hearth_next_token_seconds_sum 0\n"
                      "hearth_next_token_seconds_count 0");
    mem_free(text);
    metrics_destroy(metrics);
}

static void labels_are_escaped(void **state)
{
    struct metrics *metrics = metrics_create();
    (void)state;
    metrics_add(metrics, METRIC_RESTARTS, "a\"b\\c\nd", 1);
    char *text = written(metrics);
    assert_line(text, "hearth_worker_restarts_total{cause=\"a\\\"b\\\\c\\nd\"} 1");
    mem_free(text);
    metrics_destroy(metrics);
}

static void labels_are_bounded(void **state)
{
    struct metrics *metrics = metrics_create();
    char label[32];
    size_t lines = 0;
    (void)state;
    for (int i = 0; i < 1000; i++) {
        snprintf(label, sizeof label, "%d", i);
        metrics_add(metrics, METRIC_REQUESTS, label, 1);
    }
    metrics_add(metrics, METRIC_REQUESTS, "5", 1);
    char *text = written(metrics);
    for (const char *at = text; (at = strstr(at, "hearth_requests_total{")); at++)
        lines++;
    assert_int_equal(lines, 64);
    assert_line(text, "hearth_requests_total{status=\"5\"} 2");
    assert_line(text, "hearth_requests_total{status=\"other\"} 937");
    mem_free(text);
    metrics_destroy(metrics);
}

static void numbers_are_read_back(void **state)
{
    static const double values[] = {0.1,    1.0 / 3, 1e300, 9007199254740993.0, 123456.789,
                                    1e-300, 5,       1e15,  INFINITY,           -INFINITY};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct metrics *metrics = metrics_create();
        metrics_set(metrics, METRIC_WORKERS, NULL, values[i]);
        char *text = written(metrics);
        const char *at = strstr(text, "\nhearth_workers ");
        assert_non_null(at);
        assert_true(strtod(at + strlen("\nhearth_workers "), NULL) == values[i]);
        assert_true(isfinite(values[i]) || strstr(at, "Inf\n"));
        mem_free(text);
        metrics_destroy(metrics);
    }
}

/* Each line is one of the format's: a comment, or name, labels and a number. */
static void every_line_is_of_the_format(void **state)
{
    struct metrics *metrics = metrics_create();
    (void)state;
    metrics_add(metrics, METRIC_CACHE, "new", 1);
    char *text = written(metrics);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        char *end;
        if (strncmp(line, "# HELP hearth_", 14) == 0 || strncmp(line, "# TYPE hearth_", 14) == 0)
            continue;
        assert_memory_equal(line, "hearth_", 7);
        const char *value = strrchr(line, ' ');
        assert_non_null(value);
        strtod(value + 1, &end);
        assert_true(end > value + 1 && *end == '\0');
    }
    mem_free(text);
    metrics_destroy(metrics);
}

static void without_memory_nothing_breaks(void **state)
{
    (void)state;
    metrics_add(NULL, METRIC_REQUESTS, "200", 1);
    metrics_set(NULL, METRIC_STREAMS, NULL, 1);
    metrics_observe(NULL, METRIC_LOAD_TIME, 1);
    char *text = written(NULL);
    assert_line(text, "hearth_streams_open 0");
    mem_free(text);
    struct metrics *metrics = metrics_create();
    for (unsigned long n = 1; n <= 3; n++) {
        mem_fail_nth(n);
        metrics_add(metrics, METRIC_REQUESTS, "200", 1);
        metrics_add(metrics, METRIC_REQUESTS, "404", 1);
        mem_fail_nth(0);
    }
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_and_gauges),
        cmocka_unit_test(histograms_are_cumulative),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(labels_are_bounded),
        cmocka_unit_test(numbers_are_read_back),
        cmocka_unit_test(every_line_is_of_the_format),
        cmocka_unit_test(without_memory_nothing_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
