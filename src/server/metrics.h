/* Counters, gauges and histograms in Prometheus' text format (version 0.0.4). Names begin with
 * "hearth_"; a series has at most one label. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include "base/buffer.h"

struct metrics;

/* X(identifier, type, name, label, help); label "" where there is none */
#define METRICS(X)                                                                                 \
    X(REQUESTS, COUNTER, "requests_total", "status", "HTTP requests answered, by status.")         \
    X(PROMPT_TOKENS, COUNTER, "prompt_tokens_total", "", "Tokens of prompts.")                     \
    X(CACHED_TOKENS, COUNTER, "prompt_tokens_cached_total", "", "Those that were known already.")  \
    X(ANSWER_TOKENS, COUNTER, "answer_tokens_total", "", "Tokens of answers.")                     \
    X(CACHE, COUNTER, "prompts_total", "miss", "Prompts, by why not more of them was known.")      \
    X(FIRST_TOKEN, HISTOGRAM, "first_token_seconds", "", "From a request to its first token.")     \
    X(NEXT_TOKEN, HISTOGRAM, "next_token_seconds", "", "Between two tokens of an answer.")         \
    X(LOADS, COUNTER, "model_loads_total", "result", "Models loaded.")                             \
    X(LOAD_TIME, HISTOGRAM, "model_load_seconds", "", "Time that a load took.")                    \
    X(EVICTIONS, COUNTER, "model_evictions_total", "", "Models that went for others.")             \
    X(RESTARTS, COUNTER, "worker_restarts_total", "cause", "Workers that were started again.")     \
    X(STREAMS, GAUGE, "streams_open", "", "Answers being streamed.")                               \
    X(WAITING, GAUGE, "requests_waiting", "", "Requests that do not compute yet.")                 \
    X(RUNNING, GAUGE, "requests_running", "", "Requests that compute.")                            \
    X(WORKERS, GAUGE, "workers", "", "Worker processes.")                                          \
    X(CONNECTIONS, GAUGE, "connections", "", "Open connections.")                                  \
    X(MEMORY, GAUGE, "memory_bytes", "kind", "Memory of all processes, by kind.")                  \
    X(PRESSURE, GAUGE, "memory_pressure", "", "0: none, 1: some, 2: much.")

enum metric {
#define METRIC_ENUM(identifier, type, name, label, help) METRIC_##identifier,
    METRICS(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

struct metrics *metrics_create(void); /* NULL without memory; every call takes NULL */
void metrics_destroy(struct metrics *metrics);
/* `label` is the value of the series' label, UTF-8; NULL where it has none. Of more than 64
 * different ones the last is "other". Values that are added to counters are not negative. */
void metrics_add(struct metrics *metrics, enum metric metric, const char *label, double value);
void metrics_set(struct metrics *metrics, enum metric metric, const char *label, double value);
/* Into a histogram; what is no time is left out. */
void metrics_observe(struct metrics *metrics, enum metric metric, double seconds);
void metrics_write(const struct metrics *metrics, struct buffer *out);

#endif
