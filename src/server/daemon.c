/* The life of the daemon: its parts are made in the order in which they need each other, then it
 * listens, and at the end it lets answers end before it takes the parts down. One thread. */

#include "server/daemon.h"

#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/upstream.h"

#define KEYS_MAX 64
#define KEY_BYTES_MAX 512
#define SECOND_NS UINT64_C(1000000000)
#define WORKERS_END_NS (5 * SECOND_NS) /* in which workers write down what they keep */
#define STOP_EVENTS 2

struct life {
    struct daemon daemon;
    struct event *signals[STOP_EVENTS], *lifeline, *deadline;
    struct buffer key_file;
    const char *keys[KEYS_MAX];
    struct http_access access; /* of TCP and of inherited sockets */
    struct http_access local;  /* of the user's own socket: who may open it needs no key */
    bool models_ended;
};

/* ---- the end ---- */

static void leave(void *context)
{
    struct life *life = context;
    event_base_loopbreak(life->daemon.base);
}

static void end_models(void *context)
{
    struct life *life = context;
    if (life->models_ended)
        return;
    life->models_ended = true;
    models_drain(life->daemon.models, WORKERS_END_NS, leave, life);
}

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    struct life *life = context;
    (void)fd;
    (void)what;
    log_line(life->daemon.log, LOG_WARNING, 0, "drain", "late=true");
    end_models(life);
}

static void start_deadline(struct life *life)
{
    uint64_t ns = life->daemon.options->drain_ns;
    struct timeval after = {(time_t)(ns / SECOND_NS), (suseconds_t)(ns % SECOND_NS / 1000)};
    life->deadline = evtimer_new(life->daemon.base, on_deadline, life);
    if (!life->deadline || event_add(life->deadline, &after) != 0)
        end_models(life);
}

void daemon_stop(struct daemon *daemon)
{
    struct life *life = (struct life *)daemon; /* its first member */
    if (daemon->draining)
        return;
    daemon->draining = true;
    log_line(daemon->log, LOG_INFO, 0, "drain", "connections=%zu",
             http_server_connections(daemon->http));
    events_tell(daemon->events, "daemon.stopping", json_object());
    start_deadline(life);
    http_server_drain(daemon->http, end_models, life);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    struct life *life = context;
    (void)what;
    (void)number;
    if (life->daemon.draining)
        leave(life);
    else
        daemon_stop(&life->daemon);
}

static void on_lifeline(evutil_socket_t fd, short what, void *context)
{
    struct life *life = context;
    char bytes[64];
    (void)what;
    if (os_read((int)fd, bytes, sizeof bytes) > 0)
        return;
    event_del(life->lifeline);
    daemon_stop(&life->daemon);
}

/* ---- the beginning ---- */

static int no_memory(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MEMORY, "no memory for the daemon");
}

static int watch_ends(struct life *life, struct hearth_error *err)
{
    struct event_base *base = life->daemon.base;
    int lifeline = life->daemon.options->lifeline_fd;
    life->signals[0] = evsignal_new(base, os_signal_terminate(), on_signal, life);
    life->signals[1] = evsignal_new(base, os_signal_interrupt(), on_signal, life);
    for (size_t i = 0; i < STOP_EVENTS; i++) {
        if (!life->signals[i] || event_add(life->signals[i], NULL) != 0)
            return no_memory(err);
    }
    if (lifeline < 0)
        return 0;
    struct os_file_id id;
    if (!os_file_id(lifeline, &id))
        return error_set(err, HEARTH_E_ARGUMENT, "descriptor %d, the lifeline, is not open",
                         lifeline);
    life->lifeline = event_new(base, lifeline, EV_READ | EV_PERSIST, on_lifeline, life);
    if (!life->lifeline || event_add(life->lifeline, NULL) != 0)
        return error_set(err, HEARTH_E_ARGUMENT, "descriptor %d cannot be a lifeline", lifeline);
    return 0;
}

/* One key a line; empty ones and those after '#' do not count. */
static int read_keys(struct life *life, struct hearth_error *err)
{
    const char *path = life->daemon.options->key_file;
    size_t count = 0;
    if (!path)
        return 0;
    int status = os_read_private_file(path, &life->key_file, err);
    if (status)
        return error_prefix(err, status, "%s", path);
    for (char *at = life->key_file.data; at && *at;) {
        size_t size = strcspn(at, "\r\n");
        char *next = at + size + (at[size] != '\0');
        at[size] = '\0';
        if (size > KEY_BYTES_MAX || (size > 0 && at[0] != '#' && count == KEYS_MAX))
            return error_set(err, HEARTH_E_LIMIT,
                             "%s has more than %d keys, or one of more than %d bytes", path,
                             KEYS_MAX, KEY_BYTES_MAX);
        if (size > 0 && at[0] != '#')
            life->keys[count++] = at;
        at = next;
    }
    if (count == 0)
        return error_set(err, HEARTH_E_FORMAT, "%s has no key in it", path);
    life->access.keys = life->keys;
    life->access.key_count = count;
    return 0;
}

static void set_access(struct life *life)
{
    const struct daemon_options *options = life->daemon.options;
    life->access = (struct http_access){
        .hosts = options->hosts,
        .host_count = options->host_count,
        .origins = options->origins,
        .origin_count = options->origin_count,
    };
    life->local = life->access;
    life->local.any_host = true;
    life->local.names_paths = true; /* it is for the user alone, who can open files anyway */
    life->access.names_paths = options->allow_paths;
}

static const char *method_name(enum http_method method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    return method < HTTP_METHOD_COUNT ? names[method] : "-";
}

static void on_answered(void *context, const struct http_answered *answered)
{
    struct daemon *daemon = context;
    char status[16];
    snprintf(status, sizeof status, "%d", answered->status);
    metrics_add(daemon->metrics, METRIC_REQUESTS, status, 1);
    log_line(daemon->log, answered->status >= 500 ? LOG_WARNING : LOG_INFO, answered->number,
             "request", "method=%s route=%s status=%d ms=%.1f sent=%llu%s",
             method_name(answered->method), answered->route ? answered->route : "-",
             answered->status, (double)answered->duration_ns / 1e6,
             (unsigned long long)answered->answer_bytes, answered->gone ? " left=true" : "");
}

static int create_http(struct life *life, struct hearth_error *err)
{
    struct daemon *daemon = &life->daemon;
    struct http_options options = http_options_default();
    struct http_routes tables[] = {openai_routes(), ollama_routes(), lmstudio_routes(),
                                   llama_routes(),  hearth_routes(), operation_routes()};
    options.error_body = dialect_error_body;
    options.answered = on_answered;
    options.context = daemon;
    int status = http_server_create(daemon->base, &options, &daemon->http, err);
    for (size_t i = 0; !status && i < sizeof tables / sizeof tables[0]; i++)
        status = http_server_routes(daemon->http, tables[i].routes, tables[i].count, daemon, err);
    return status;
}

/* The store belongs to one process. Damage that was found in it is said, and does not stop us. */
static int open_store(struct life *life, struct hearth_error *err)
{
    struct hearth_error said = {0};
    struct hearth_store_options options = {.directory = life->daemon.options->store};
    if (!options.directory)
        return 0;
    int status = hearth_store_open(&options, &life->daemon.store, &said);
    if (status)
        return error_set(err, status, "%s", said.text);
    if (said.text[0])
        log_line(life->daemon.log, LOG_WARNING, 0, "store", "damage=\"%s\"", said.text);
    return 0;
}

static int create_models(struct life *life, struct hearth_error *err)
{
    struct daemon *daemon = &life->daemon;
    struct models_options options = daemon->options->models;
    options.store = daemon->store;
    options.log = daemon->log;
    options.metrics = daemon->metrics;
    options.events = daemon->events;
    int status = models_create(daemon->base, &options, &daemon->models, err);
    if (!status && daemon->options->upstreams_path)
        status = upstreams_load(daemon->base, daemon->options->upstreams_path, daemon->models,
                                daemon->log, err);
    return status;
}

static int create(struct life *life, struct hearth_error *err)
{
    struct daemon *daemon = &life->daemon;
    daemon->base = event_base_new();
    daemon->log =
        log_create(daemon->options->log_fd, daemon->options->log_json, daemon->options->log_level);
    daemon->metrics = metrics_create();
    daemon->events = events_create();
    if (!daemon->base || !daemon->log || !daemon->metrics || !daemon->events)
        return no_memory(err);
    daemon->started_ns = os_monotonic_ns();
    daemon->started_unix = os_unix_seconds();
    set_access(life);
    int status = read_keys(life, err);
    if (!status)
        status = create_http(life, err);
    return status ? status : watch_ends(life, err);
}

static int listen_tcp(struct life *life, const char *address, uint16_t port, uint16_t *bound,
                      struct hearth_error *err)
{
    if (!address)
        return 0;
    return http_server_listen_tcp(life->daemon.http, address, port, &life->access, bound, err);
}

/* The socket first: who holds it is the only one, and another daemon ends here, before it touches a
 * store or a port. */
static int listen_socket(struct life *life, struct hearth_error *err)
{
    const struct daemon_options *options = life->daemon.options;
    if (!options->socket)
        return 0;
    return http_server_listen_unix(life->daemon.http, options->socket, &life->local, err);
}

static int listen_ports(struct life *life, struct hearth_error *err)
{
    const struct daemon_options *options = life->daemon.options;
    struct daemon *daemon = &life->daemon;
    int status = 0;
    for (size_t i = 0; !status && i < options->listener_count; i++) {
        int fd = options->listeners[i];
        status = http_server_listen_fd(daemon->http, fd,
                                       os_socket_port(fd) ? &life->access : &life->local, err);
    }
    if (!status)
        status = listen_tcp(life, options->address, options->port, &daemon->port, err);
    if (!status)
        status = listen_tcp(life, options->ollama_address, 11434, NULL, err);
    if (!status)
        status = listen_tcp(life, options->lmstudio_address, 1234, NULL, err);
    return status;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

static void on_late(evutil_socket_t fd, short what, void *context)
{
    bool *late = context;
    (void)fd, (void)what;
    *late = true;
}

/* Processes that were killed are waited for, until nothing but this limit is left in the loop. */
static void await_killed(struct event_base *base)
{
    const struct timeval limit = {2, 0};
    bool late = false;
    struct event *timer = evtimer_new(base, on_late, &late);
    if (timer && event_add(timer, &limit) == 0) {
        while (!late && event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED) > 1 &&
               event_base_loop(base, EVLOOP_ONCE) == 0)
            continue;
    }
    free_event(timer);
}

static void destroy(struct life *life)
{
    struct daemon *daemon = &life->daemon;
    if (daemon->http)
        http_server_destroy(daemon->http); /* its clients are told, and let go of models */
    if (daemon->models)
        models_destroy(daemon->models);
    events_destroy(daemon->events);
    for (size_t i = 0; i < STOP_EVENTS; i++)
        free_event(life->signals[i]);
    free_event(life->lifeline);
    free_event(life->deadline);
    if (daemon->base)
        await_killed(daemon->base);
    if (daemon->store)
        hearth_store_close(daemon->store);
    metrics_destroy(daemon->metrics);
    log_destroy(daemon->log);
    buffer_finish(&life->key_file);
    if (daemon->base)
        event_base_free(daemon->base);
}

int daemon_run(const struct daemon_options *options, struct hearth_error *err)
{
    struct life life = {.daemon.options = options};
    buffer_init(&life.key_file, (size_t)1 << 16);
    os_ignore_broken_pipes();
    int status = create(&life, err);
    if (!status)
        status = listen_socket(&life, err);
    if (!status)
        status = open_store(&life, err);
    if (!status)
        status = create_models(&life, err);
    if (!status)
        status = listen_ports(&life, err);
    if (!status) {
        log_line(life.daemon.log, LOG_INFO, 0, "listening", "port=%u", life.daemon.port);
        if (options->on_listening)
            options->on_listening(options->context, life.daemon.port);
        event_base_dispatch(life.daemon.base);
        log_line(life.daemon.log, LOG_INFO, 0, "ended", "pid=%d", os_process_id());
    }
    destroy(&life);
    return status;
}
