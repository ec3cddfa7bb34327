#define _GNU_SOURCE
#include "fake_daemon.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/os.h"
#include "fake_models.h"
#include "session/record.h"
#include "session/store.h"

static void stats(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    const struct fake_models_counts *counts = fake_models_counts(daemon->models);
    const struct fake_backend_counts *backend = &counts->backend;
    struct os_memory memory = {0};
    struct buffer body;
    os_process_memory(&memory);
    buffer_init(&body, 1024);
    buffer_format(&body,
                  "leases=%u waits=%u acquired=%u forgotten=%u jobs=%u asks=%u embeds=%u calls=%u "
                  "ended=%u abandoned=%u paused=%u resumed=%u said=%u connections=%zu "
                  "private=%llu\n",
                  counts->leases, counts->waits, counts->acquired, counts->forgotten, backend->jobs,
                  backend->asks, backend->embeds, backend->calls, backend->ended,
                  backend->abandoned, backend->paused, backend->resumed, backend->said,
                  http_server_connections(daemon->http), (unsigned long long)memory.private_bytes);
    http_respond_buffer(exchange, 200, "text/plain", &body);
}

static void name_of_query(struct http_exchange *exchange, char name[64])
{
    struct text query = http_exchange_request(exchange)->query;
    snprintf(name, 64, "%.*s", TEXT_ARGS(query));
}

static void last_ask(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    char name[64];
    name_of_query(exchange, name);
    json_t *ask = json_deep_copy(fake_models_last_ask(daemon->models, name));
    dialect_respond_json(exchange, 200, ask ? ask : json_object());
}

static void break_model(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    char name[64];
    name_of_query(exchange, name);
    fake_models_break(daemon->models, name, "the worker died");
    http_respond(exchange, 204, NULL, TEXT(""));
}

static void fail_allocation(void *context, struct http_exchange *exchange)
{
    char query[64];
    (void)context;
    name_of_query(exchange, query);
    mem_fail_nth(strncmp(query, "n=", 2) == 0 ? strtoul(query + 2, NULL, 10) : 0);
    http_respond(exchange, 204, NULL, TEXT(""));
}

/* A conversation of two messages, as a model called "fake" would have left it in the store. */
static void keep_conversation(void *context, struct http_exchange *exchange)
{
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"hello\"}, "
                                   "{\"role\": \"assistant\", \"content\": \"good day\"}]";
    struct daemon *daemon = context;
    struct history history = {.messages = json_loads(messages, 0, NULL)};
    const struct record record = {.unix_seconds = 1700000000};
    const char identity[HEARTH_IDENTITY_SIZE] = "0123456789abcdef";
    const struct store_summary summary = {identity, "fake", 2, 7, 1700000000};
    struct buffer packed;
    char key[64];
    name_of_query(exchange, key);
    buffer_init(&packed, 4096);
    if (!daemon->store || record_pack(&record, &history, summary.model, &packed, NULL) != 0 ||
        daemon->store->calls->put(daemon->store, key, buffer_text(&packed), &summary, NULL) != 0)
        abort();
    buffer_finish(&packed);
    json_decref(history.messages);
    http_respond(exchange, 204, NULL, TEXT(""));
}

static void tell_event(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    char type[64];
    name_of_query(exchange, type);
    events_tell(daemon->events, type, json_pack("{s:s}", "model", "fake"));
    http_respond(exchange, 204, NULL, TEXT(""));
}

static const struct http_route own_routes[] = {
    {HTTP_METHOD_GET, "/stats", stats, true, false, 0},
    {HTTP_METHOD_GET, "/last-ask", last_ask, true, false, 0},
    {HTTP_METHOD_POST, "/break", break_model, true, false, 0},
    {HTTP_METHOD_POST, "/fail", fail_allocation, true, false, 0},
    {HTTP_METHOD_POST, "/keep", keep_conversation, true, false, 0},
    {HTTP_METHOD_POST, "/tell", tell_event, true, false, 0},
};

static bool set_option(struct daemon *daemon, struct http_options *options,
                       struct http_access *access, char *argument)
{
    char *value = strchr(argument, '=');
    if (!value)
        return false;
    *value++ = '\0';
    if (strcmp(argument, "stream_pause") == 0)
        options->limits.stream_pause = strtoul(value, NULL, 10);
    else if (strcmp(argument, "stream_resume") == 0)
        options->limits.stream_resume = strtoul(value, NULL, 10);
    else if (strcmp(argument, "ping_ms") == 0)
        options->limits.ping_ms = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(argument, "store") == 0)
        return hearth_store_open(&(struct hearth_store_options){.directory = value}, &daemon->store,
                                 NULL) == 0;
    else if (strcmp(argument, "key") == 0)
        ((const char **)(uintptr_t)access->keys)[access->key_count++] = value;
    else if (strcmp(argument, "paths") == 0)
        access->names_paths = true;
    else
        return false;
    return true;
}

static int listen_at(struct http_server *server, const char *where, struct http_access *access,
                     uint16_t *port, struct hearth_error *err)
{
    if (strncmp(where, "tcp=", 4) == 0)
        return http_server_listen_tcp(server, where + 4, 0, access, port, err);
    access->any_host = true;
    return http_server_listen_unix(server, where + 5, access, err);
}

static void on_input_end(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    event_base_loopbreak(context);
}

static void serve(struct daemon *daemon)
{
    struct event *input =
        event_new(daemon->base, STDIN_FILENO, EV_READ, on_input_end, daemon->base);
    printf("%u\n", daemon->port);
    fflush(stdout);
    event_add(input, NULL);
    event_base_dispatch(daemon->base);
    event_free(input);
}

static int set_up(struct daemon *daemon, const char *where, const struct http_routes *routes,
                  size_t count, struct http_access *access, struct hearth_error *err)
{
    int status = http_server_routes(daemon->http, own_routes,
                                    sizeof own_routes / sizeof *own_routes, daemon, err);
    for (size_t i = 0; i < count && !status; i++)
        status = http_server_routes(daemon->http, routes[i].routes, routes[i].count, daemon, err);
    return status ? status : listen_at(daemon->http, where, access, &daemon->port, err);
}

/* In the place of the real one, whose end is not to be tested here. */
void daemon_stop(struct daemon *daemon)
{
    events_tell(daemon->events, "daemon.stopping", json_object());
}

int fake_daemon_run(int argc, char **argv, const struct http_routes *routes, size_t count)
{
    struct daemon_options daemon_options = {0};
    struct daemon daemon = {.options = &daemon_options, .base = event_base_new()};
    struct http_options options = http_options_default();
    const char *keys[4];
    struct http_access access = {.keys = keys};
    struct hearth_error err;
    options.error_body = dialect_error_body;
    for (int i = 2; i < argc; i++) {
        if (!set_option(&daemon, &options, &access, argv[i]))
            return 2;
    }
    if (argc < 2 || !daemon.base)
        return 2;
    os_ignore_broken_pipes();
    daemon.started_ns = os_monotonic_ns();
    daemon.started_unix = 1700000000;
    daemon.metrics = metrics_create();
    daemon.events = events_create();
    int status = models_create(daemon.base, NULL, &daemon.models, &err);
    if (!status)
        status = http_server_create(daemon.base, &options, &daemon.http, &err);
    if (!status)
        status = set_up(&daemon, argv[1], routes, count, &access, &err);
    if (status)
        printf("error: %s\n", err.text);
    else
        serve(&daemon);
    http_server_destroy(daemon.http);
    models_destroy(daemon.models);
    metrics_destroy(daemon.metrics);
    events_destroy(daemon.events);
    if (daemon.store)
        hearth_store_close(daemon.store);
    event_base_free(daemon.base);
    libevent_global_shutdown();
    return status ? 1 : 0;
}
