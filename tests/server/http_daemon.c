/* A daemon for tests of the HTTP layer. Arguments: tcp, unix=PATH or fd=N, then limits and access
 * (body_max=16 key=K origin=O host=H). Prints its port, or 0, and ends when its input does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/http.h"

#define NAMES_MAX 4

struct counts {
    unsigned gone, resumed, pauses, smuggled, answered;
    size_t produced; /* bytes of streams */
};

struct daemon {
    struct event_base *base;
    struct http_server *server;
    struct http_options options;
    struct http_access access;
    const char *hosts[NAMES_MAX], *origins[NAMES_MAX], *keys[NAMES_MAX];
    struct counts counts;
    char reports[4096]; /* a line for each request that is over, but those for the lines */
};

/* What is done for one request behind its handler's back. */
struct job {
    struct daemon *daemon;
    struct http_exchange *exchange;
    struct event *timer;
    size_t left, size;
};

static size_t parameter(struct http_exchange *exchange, const char *name, size_t otherwise)
{
    char query[128], wanted[32];
    struct text text = http_exchange_request(exchange)->query;
    snprintf(query, sizeof query, "&%.*s", TEXT_ARGS(text));
    snprintf(wanted, sizeof wanted, "&%s=", name);
    const char *at = strstr(query, wanted);
    return at ? strtoul(at + strlen(wanted), NULL, 10) : otherwise;
}

static void end_job(struct job *job)
{
    if (job->timer)
        event_free(job->timer);
    free(job);
}

static void on_gone(void *context)
{
    struct job *job = context;
    job->daemon->counts.gone++;
    end_job(job);
}

static void pump(void *context);

static void on_resume(void *context)
{
    struct job *job = context;
    job->daemon->counts.resumed++;
    pump(job);
}

static struct job *begin_job(void *context, struct http_exchange *exchange)
{
    struct job *job = calloc(1, sizeof *job);
    if (!job)
        abort();
    job->daemon = context;
    job->exchange = exchange;
    http_exchange_watch(exchange, (struct http_watch){on_gone, on_resume, job});
    return job;
}

static void start_timer(struct job *job, event_callback_fn callback, size_t ms)
{
    struct timeval after = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000) * 1000};
    job->timer = evtimer_new(job->daemon->base, callback, job);
    if (!job->timer) /* one allocation was made to fail; what is tested is not this program */
        job->timer = evtimer_new(job->daemon->base, callback, job);
    if (event_add(job->timer, &after) != 0)
        event_add(job->timer, &after);
}

/* ---- handlers ---- */

static void hello(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    daemon->counts.answered++;
    http_respond(exchange, 200, "text/plain", TEXT("hello\n"));
}

static void smuggled(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    daemon->counts.smuggled++;
    http_respond(exchange, 200, "text/plain", TEXT("smuggled\n"));
}

static void echo(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    daemon->counts.answered++;
    http_respond(exchange, 200, "application/octet-stream", http_exchange_request(exchange)->body);
}

static void name(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_respond(exchange, 200, "text/plain", http_exchange_request(exchange)->name);
}

static void fixed(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_respond(exchange, 200, "text/plain", TEXT("(the fixed path)"));
}

static void large(void *context, struct http_exchange *exchange)
{
    size_t size = parameter(exchange, "size", 100);
    struct buffer body;
    (void)context;
    buffer_init(&body, size);
    char *bytes = buffer_reserve(&body, size);
    memset(bytes, 'x', size);
    body.size = size;
    http_exchange_header(exchange, "X-Test", TEXT("yes"));
    if (http_exchange_header(exchange, "X-Split", TEXT("a\r\nX-Injected: b")))
        abort();
    http_respond_buffer(exchange, 200, "text/plain", &body);
}

/* Writes until it is told to pause; then on_resume calls again. */
static void pump(void *context)
{
    struct job *job = context;
    char bytes[4096];
    while (job->left > 0) {
        size_t size = job->left < job->size ? job->left : job->size;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (char)('a' + (job->left - i) % 26);
        job->left -= size;
        job->daemon->counts.produced += size;
        if (!http_stream_write(job->exchange, (struct text){bytes, size})) {
            job->daemon->counts.pauses++;
            return;
        }
    }
    http_stream_end(job->exchange);
    job->daemon->counts.answered++;
    end_job(job);
}

static void stream(void *context, struct http_exchange *exchange)
{
    struct job *job = begin_job(context, exchange);
    job->left = parameter(exchange, "bytes", 100);
    job->size = parameter(exchange, "size", 10);
    http_stream_begin(exchange, 200, "text/plain");
    pump(job);
}

/* Pays no heed to what it is told. */
static void flood(void *context, struct http_exchange *exchange)
{
    char bytes[1000] = "";
    begin_job(context, exchange);
    http_stream_begin(exchange, 200, "text/plain");
    for (int i = 0; i < 10000; i++)
        http_stream_write(exchange, (struct text){bytes, sizeof bytes});
}

static void on_slow(evutil_socket_t fd, short what, void *context)
{
    struct job *job = context;
    (void)fd, (void)what;
    job->daemon->counts.answered++;
    http_respond(job->exchange, 200, "text/plain", TEXT("at last\n"));
    end_job(job);
}

static void slow(void *context, struct http_exchange *exchange)
{
    start_timer(begin_job(context, exchange), on_slow, parameter(exchange, "ms", 100));
}

static void on_last_event(evutil_socket_t fd, short what, void *context)
{
    struct job *job = context;
    (void)fd, (void)what;
    http_stream_event(job->exchange, NULL, TEXT("one\ntwo\r\nthree\rfour"));
    http_stream_event(job->exchange, "last", TEXT(""));
    http_stream_end(job->exchange);
    end_job(job);
}

static void events(void *context, struct http_exchange *exchange)
{
    struct job *job = begin_job(context, exchange);
    http_stream_begin_events(exchange);
    http_stream_event(exchange, "first", TEXT("{}"));
    start_timer(job, on_last_event, parameter(exchange, "ms", 100));
}

static void aborted(void *context, struct http_exchange *exchange)
{
    (void)context;
    http_stream_begin(exchange, 200, "text/plain");
    http_stream_write(exchange, TEXT("half"));
    http_stream_abort(exchange);
}

static void on_drained(void *context)
{
    event_base_loopbreak(context);
}

static void drain(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    http_server_drain(daemon->server, on_drained, daemon->base);
    http_respond(exchange, 200, "text/plain", TEXT("draining\n"));
}

static void on_answered(void *context, const struct http_answered *answered)
{
    struct daemon *daemon = context;
    size_t size = strlen(daemon->reports);
    if (answered->route && strcmp(answered->route, "/reports") == 0)
        return;
    if (answered->duration_ns > UINT64_C(60000000000))
        abort();
    snprintf(daemon->reports + size, sizeof daemon->reports - size, "%llu %d %s %d%s %llu>%llu\n",
             (unsigned long long)answered->number, (int)answered->method,
             answered->route ? answered->route : "-", answered->status,
             answered->gone ? " gone" : "", (unsigned long long)answered->body_bytes,
             (unsigned long long)answered->answer_bytes);
}

static void reports(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    http_respond(exchange, 200, "text/plain", text_of(daemon->reports));
}

/* The n-th allocation from here fails, libevent's included. */
static void fail_allocation(void *context, struct http_exchange *exchange)
{
    (void)context;
    mem_fail_nth(parameter(exchange, "n", 0));
    http_respond(exchange, 204, NULL, TEXT(""));
}

static void stats(void *context, struct http_exchange *exchange)
{
    struct daemon *daemon = context;
    struct os_memory memory = {0};
    struct buffer body;
    os_process_memory(&memory);
    buffer_init(&body, 1024);
    buffer_format(&body,
                  "gone=%u resumed=%u pauses=%u smuggled=%u answered=%u produced=%zu "
                  "connections=%zu private=%llu\n",
                  daemon->counts.gone, daemon->counts.resumed, daemon->counts.pauses,
                  daemon->counts.smuggled, daemon->counts.answered, daemon->counts.produced,
                  http_server_connections(daemon->server),
                  (unsigned long long)memory.private_bytes);
    http_respond_buffer(exchange, 200, "text/plain", &body);
}

static const struct http_route routes[] = {
    {HTTP_METHOD_GET, "/hello", hello, false, false, 0},
    {HTTP_METHOD_GET, "/open", hello, true, false, 0},
    {HTTP_METHOD_GET, "/smuggled", smuggled, true, false, 0},
    {HTTP_METHOD_POST, "/echo", echo, false, false, 0},
    {HTTP_METHOD_PUT, "/echo", echo, false, true, 0},
    {HTTP_METHOD_POST, "/small", echo, false, true, 16},
    {HTTP_METHOD_GET, "/names/{name}", name, false, false, 0},
    {HTTP_METHOD_DELETE, "/names/{name}", name, false, false, 0},
    {HTTP_METHOD_GET, "/names/{name}/more", fixed, false, false, 0},
};

static const struct http_route more_routes[] = {
    {HTTP_METHOD_GET, "/names/fixed", fixed, false, false, 0},
    {HTTP_METHOD_GET, "/large", large, false, false, 0},
    {HTTP_METHOD_GET, "/stream", stream, false, false, 0},
    {HTTP_METHOD_GET, "/flood", flood, false, false, 0},
    {HTTP_METHOD_GET, "/slow", slow, false, false, 0},
    {HTTP_METHOD_GET, "/events", events, false, false, 0},
    {HTTP_METHOD_GET, "/aborted", aborted, false, false, 0},
    {HTTP_METHOD_GET, "/stats", stats, true, false, 0},
    {HTTP_METHOD_GET, "/reports", reports, true, false, 0},
    {HTTP_METHOD_POST, "/fail", fail_allocation, false, false, 0},
    {HTTP_METHOD_POST, "/drain", drain, false, false, 0},
};

/* ---- the program ---- */

static bool set_limit(struct http_limits *limits, const char *key, size_t value)
{
    const struct {
        const char *name;
        size_t *size;
    } sizes[] = {{"request_line_max", &limits->request_line_max},
                 {"headers_max", &limits->headers_max},
                 {"header_count_max", &limits->header_count_max},
                 {"body_max", &limits->body_max},
                 {"bodies_max", &limits->bodies_max},
                 {"pipelined_max", &limits->pipelined_max},
                 {"connections_max", &limits->connections_max}};
    const struct {
        const char *name;
        uint32_t *ms;
    } times[] = {{"head_ms", &limits->head_ms},     {"body_ms", &limits->body_ms},
                 {"idle_ms", &limits->idle_ms},     {"write_ms", &limits->write_ms},
                 {"linger_ms", &limits->linger_ms}, {"ping_ms", &limits->ping_ms}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(key, sizes[i].name) == 0) {
            *sizes[i].size = value;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        if (strcmp(key, times[i].name) == 0) {
            *times[i].ms = (uint32_t)value;
            return true;
        }
    }
    return false;
}

static bool set_option(struct daemon *daemon, const char *key, const char *value)
{
    struct http_access *access = &daemon->access;
    if (strcmp(key, "host") == 0)
        daemon->hosts[access->host_count++] = value;
    else if (strcmp(key, "origin") == 0)
        daemon->origins[access->origin_count++] = value;
    else if (strcmp(key, "key") == 0)
        daemon->keys[access->key_count++] = value;
    else
        return set_limit(&daemon->options.limits, key, strtoul(value, NULL, 10));
    return true;
}

static int listen_at(struct daemon *daemon, const char *where, uint16_t *port,
                     struct hearth_error *err)
{
    if (strncmp(where, "tcp=", 4) == 0)
        return http_server_listen_tcp(daemon->server, where + 4, 0, &daemon->access, port, err);
    if (strncmp(where, "fd=", 3) == 0)
        return http_server_listen_fd(daemon->server, (int)strtol(where + 3, NULL, 10),
                                     &daemon->access, err);
    daemon->access.any_host = true;
    return http_server_listen_unix(daemon->server, where + 5, &daemon->access, err);
}

static void on_input_end(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    event_base_loopbreak(context);
}

static int serve(struct daemon *daemon, const char *where)
{
    struct hearth_error err;
    uint16_t port = 0;
    struct event *input =
        event_new(daemon->base, STDIN_FILENO, EV_READ, on_input_end, daemon->base);
    int status = http_server_create(daemon->base, &daemon->options, &daemon->server, &err);
    if (!status)
        status = http_server_routes(daemon->server, routes, sizeof routes / sizeof *routes, daemon,
                                    &err);
    if (!status)
        status = http_server_routes(daemon->server, more_routes,
                                    sizeof more_routes / sizeof *more_routes, daemon, &err);
    if (!status)
        status = listen_at(daemon, where, &port, &err);
    if (status) {
        printf("error: %s\n", err.text);
    } else {
        printf("%u\n", port);
        fflush(stdout);
        event_add(input, NULL);
        event_base_dispatch(daemon->base);
    }
    event_free(input);
    http_server_destroy(daemon->server);
    return status ? 1 : 0;
}

static void *reallocate(void *old, size_t size)
{
    return mem_realloc_array(old, size, 1);
}

int main(int argc, char **argv)
{
    event_set_mem_functions(mem_alloc, reallocate, mem_free);
    struct daemon daemon = {.base = event_base_new(), .options = http_options_default()};
    daemon.options.answered = on_answered;
    daemon.options.context = &daemon;
    daemon.access.hosts = daemon.hosts;
    daemon.access.origins = daemon.origins;
    daemon.access.keys = daemon.keys;
    os_ignore_broken_pipes();
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (!value)
            return 2;
        *value = '\0';
        if (!set_option(&daemon, argv[i], value + 1))
            return 2;
    }
    int status = argc > 1 ? serve(&daemon, argv[1]) : 2;
    event_base_free(daemon.base);
    libevent_global_shutdown();
    return status;
}
