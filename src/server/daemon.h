/* The daemon: what its parts share, and its life from start to end. */
#ifndef SERVER_DAEMON_H
#define SERVER_DAEMON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/events.h"
#include "server/fields.h"
#include "server/http.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/models.h"

struct event_base;
struct prompt;

struct daemon_options {
    struct models_options models; /* store, log, metrics and events are the daemon's to fill */
    const char *store;            /* directory; NULL: none */
    const char *address;          /* numeric; NULL: no TCP */
    uint16_t port;                /* 0: the system chooses */
    const char *ollama_address, *lmstudio_address; /* "127.0.0.1", or NULL: not */
    const char *socket;                            /* path; NULL: none */
    const int *listeners;                          /* inherited, from systemd */
    size_t listener_count;
    const char *key_file; /* NULL: no keys */
    const char *const *origins, *const *hosts;
    size_t origin_count, host_count;
    bool allow_paths;           /* clients by TCP may add models by their path, too */
    const char *upstreams_path; /* JSON, as `hearth upstream` writes it; NULL: none */
    int lifeline_fd;            /* ends with it; -1: none */
    uint64_t drain_ns;          /* that answers may take when the daemon ends */
    bool log_json;
    enum log_level log_level;
    int log_fd;
    void (*on_listening)(void *context, uint16_t port); /* everything is ready to be asked */
    void *context;
};

/* What handlers get as their context. */
struct daemon {
    const struct daemon_options *options;
    struct event_base *base;
    struct http_server *http;
    struct models *models;
    struct hearth_store *store; /* may be NULL */
    struct log *log;
    struct metrics *metrics;
    struct events *events;
    uint64_t started_ns;
    int64_t started_unix;
    uint16_t port;
    bool draining;
    struct prompt *prompts; /* that are being answered (hearth_api_prompt.c) */
};

/* Runs until a signal (SIGTERM and SIGINT drain; a second one ends at once), the end of the
 * lifeline or daemon_stop. */
int daemon_run(const struct daemon_options *options, struct hearth_error *err);
void daemon_stop(struct daemon *daemon);

/* ---- the dialects' routes ---- */
struct http_routes {
    const struct http_route *routes;
    size_t count;
};
struct http_routes openai_routes(void);
struct http_routes ollama_routes(void);
struct http_routes lmstudio_routes(void);
struct http_routes llama_routes(void); /* llama-server's */
struct http_routes hearth_routes(void);
struct http_routes operation_routes(void); /* of the daemon itself: its log, its end */

/* ---- what dialects share on the way out (dialect.c) ---- */
void dialect_respond_json(struct http_exchange *exchange, int status, json_t *json); /* taken */
/* JSON in one line, by whatever a client takes for the end of one: besides control characters,
 * which JSON escapes anyway, U+0085, U+2028 and U+2029 are escaped, at which Python's splitlines,
 * and so httpx's iter_lines, would cut. Takes the JSON; NULL fails. */
bool dialect_line(json_t *json, struct buffer *out);
/* One server-sent event with JSON, which is taken; as http_stream_event. */
bool dialect_event(struct http_exchange *exchange, const char *name, json_t *json);
/* A parameter of the query, percent-decoded; false where it is not there or no text. */
bool dialect_query(const struct http_request *request, const char *name, struct buffer *value);
/* An error as the clients of a path expect it: OpenAI's object, or Ollama's text. `param` may be
 * NULL. */
json_t *dialect_error(struct text path, int status, const char *param, const char *sentence);
/* The same of a refusal, with a `reason` where the shape has room: its code's name, as "memory". */
json_t *dialect_error_of(struct text path, const struct refusal *refusal);
void dialect_error_body(void *context, struct text path, int status, const char *sentence,
                        struct buffer *body);
void dialect_refuse(struct http_exchange *exchange, const struct refusal *refusal);

#endif
