#include "server/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define SERIES_MAX 64
#define BOUNDS_MAX 16

enum metric_type { COUNTER, GAUGE, HISTOGRAM };

struct series {
    char *label; /* NULL: none */
    double value;
};

struct histogram {
    uint64_t buckets[BOUNDS_MAX + 1]; /* of what is above the bound before and not above its own */
    double sum;
};

struct metrics {
    struct {
        struct series *series;
        size_t count;
        struct histogram histogram;
    } values[METRIC_COUNT];
};

static const struct {
    const char *name, *label, *help;
    enum metric_type type;
} described[METRIC_COUNT] = {
#define METRIC_DESCRIBED(identifier, type, name, label, help)                                      \
    [METRIC_##identifier] = {"hearth_" name, label, help, type},
    METRICS(METRIC_DESCRIBED)
#undef METRIC_DESCRIBED
};

/* Upper bounds of the buckets, in seconds. A first token comes after some milliseconds where all of
 * the prompt is known and after minutes where a long one is read; the tokens that follow come at
 * the pace of memory: 1 ms for a tiny model, a second for a large one. */
static const double first_token_bounds[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,
                                            2.5,  5,     10,   30,  60,   120, 300};
static const double next_token_bounds[] = {0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05,
                                           0.075, 0.1,    0.15,  0.25, 0.5,  1,    2.5};
static const double load_bounds[] = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};

static size_t bounds_of(enum metric metric, const double **bounds)
{
    switch (metric) {
    case METRIC_FIRST_TOKEN:
        *bounds = first_token_bounds;
        return sizeof first_token_bounds / sizeof *first_token_bounds;
    case METRIC_NEXT_TOKEN:
        *bounds = next_token_bounds;
        return sizeof next_token_bounds / sizeof *next_token_bounds;
    default:
        assert(metric == METRIC_LOAD_TIME);
        *bounds = load_bounds;
        return sizeof load_bounds / sizeof *load_bounds;
    }
}

struct metrics *metrics_create(void)
{
    return MEM_NEW(struct metrics);
}

void metrics_destroy(struct metrics *metrics)
{
    if (!metrics)
        return;
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        for (size_t k = 0; k < metrics->values[i].count; k++)
            mem_free(metrics->values[i].series[k].label);
        mem_free(metrics->values[i].series);
    }
    mem_free(metrics);
}

/* ---- counting ---- */

static struct series *find_series(struct metrics *metrics, enum metric metric, const char *label)
{
    for (size_t i = 0; i < metrics->values[metric].count; i++) {
        struct series *series = &metrics->values[metric].series[i];
        if (!label || strcmp(series->label, label) == 0)
            return series;
    }
    return NULL;
}

/* The series of a label; without memory for another one, NULL: a figure is no reason to fail. */
static struct series *series_of(struct metrics *metrics, enum metric metric, const char *label)
{
    assert(described[metric].type != HISTOGRAM);
    assert(!label == !*described[metric].label);
    if (label && metrics->values[metric].count >= SERIES_MAX - 1 &&
        !find_series(metrics, metric, label))
        label = "other";
    struct series *series = find_series(metrics, metric, label);
    if (series)
        return series;
    size_t count = metrics->values[metric].count, size = label ? strlen(label) + 1 : 0;
    struct series *grown =
        mem_realloc_array(metrics->values[metric].series, count + 1, sizeof *grown);
    if (!grown)
        return NULL;
    metrics->values[metric].series = grown;
    char *copy = label ? mem_alloc(size) : NULL;
    if (label && !copy)
        return NULL;
    if (label)
        memcpy(copy, label, size);
    grown[count] = (struct series){copy, 0};
    metrics->values[metric].count++;
    return &grown[count];
}

void metrics_add(struct metrics *metrics, enum metric metric, const char *label, double value)
{
    struct series *series = metrics ? series_of(metrics, metric, label) : NULL;
    assert(described[metric].type != COUNTER || value >= 0);
    if (series)
        series->value += value;
}

void metrics_set(struct metrics *metrics, enum metric metric, const char *label, double value)
{
    struct series *series = metrics ? series_of(metrics, metric, label) : NULL;
    assert(described[metric].type == GAUGE);
    if (series)
        series->value = value;
}

void metrics_observe(struct metrics *metrics, enum metric metric, double seconds)
{
    const double *bounds;
    assert(described[metric].type == HISTOGRAM);
    size_t count = bounds_of(metric, &bounds), bucket = 0;
    if (!metrics || !(seconds >= 0))
        return;
    while (bucket < count && seconds > bounds[bucket])
        bucket++;
    metrics->values[metric].histogram.buckets[bucket]++;
    metrics->values[metric].histogram.sum += seconds;
}

/* ---- writing ---- */

/* The shortest digits that are read back as the same number. */
static void write_value(struct buffer *out, double value)
{
    char digits[40];
    if (isnan(value) || isinf(value)) {
        buffer_append_text(out, isnan(value) ? TEXT("NaN")
                                : value > 0  ? TEXT("+Inf")
                                             : TEXT("-Inf"));
        return;
    }
    if (value == floor(value) && fabs(value) < 9007199254740992.0) {
        buffer_format(out, "%.0f", value);
        return;
    }
    for (int precision = 6; precision <= 17; precision++) {
        snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    buffer_append_text(out, text_of(digits));
}

static void write_label(struct buffer *out, const char *name, const char *value)
{
    buffer_format(out, "{%s=\"", name);
    for (const char *c = value; *c; c++) {
        if (*c == '\n')
            buffer_append_text(out, TEXT("\\n"));
        else if (*c == '"' || *c == '\\')
            buffer_format(out, "\\%c", *c);
        else
            buffer_append_char(out, *c);
    }
    buffer_append_text(out, TEXT("\"}"));
}

static void write_series(const struct metrics *metrics, enum metric metric, struct buffer *out)
{
    size_t count = metrics ? metrics->values[metric].count : 0;
    /* one without a label is there from the beginning, so that its rate is known from then on */
    if (count == 0 && !*described[metric].label)
        buffer_format(out, "%s 0\n", described[metric].name);
    for (size_t i = 0; i < count; i++) {
        const struct series *series = &metrics->values[metric].series[i];
        buffer_append_text(out, text_of(described[metric].name));
        if (series->label)
            write_label(out, described[metric].label, series->label);
        buffer_append_char(out, ' ');
        write_value(out, series->value);
        buffer_append_char(out, '\n');
    }
}

static void write_histogram(const struct metrics *metrics, enum metric metric, struct buffer *out)
{
    static const struct histogram none;
    const struct histogram *histogram = metrics ? &metrics->values[metric].histogram : &none;
    const char *name = described[metric].name;
    const double *bounds;
    size_t count = bounds_of(metric, &bounds);
    uint64_t below = 0;
    for (size_t i = 0; i <= count; i++) {
        below += histogram->buckets[i];
        buffer_format(out, "%s_bucket{le=\"", name);
        write_value(out, i < count ? bounds[i] : INFINITY);
        buffer_format(out, "\"} %llu\n", (unsigned long long)below);
    }
    buffer_format(out, "%s_sum ", name);
    write_value(out, histogram->sum);
    buffer_format(out, "\n%s_count %llu\n", name, (unsigned long long)below);
}

void metrics_write(const struct metrics *metrics, struct buffer *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    for (enum metric m = 0; m < METRIC_COUNT; m++) {
        buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", described[m].name, described[m].help,
                      described[m].name, types[described[m].type]);
        if (described[m].type == HISTOGRAM)
            write_histogram(metrics, m, out);
        else
            write_series(metrics, m, out);
    }
}
