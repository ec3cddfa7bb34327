/* The server: where it listens, whom it lets in, and how it ends. */
#include <stdio.h>

#include <event2/listener.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/http_connection.h"

#define ACCEPT_PAUSE_MS 100           /* after a failed accept: descriptors may be free again */
#define UNSENT_MAX ((size_t)16 << 10) /* bytes that the system queues for a slow reader */

struct http_listener {
    struct http_listener *next;
    struct http_server *server;
    const struct http_access *access;
    struct evconnlistener *accepting;
    struct event *retry;
    int fd;
    struct os_socket_file *file; /* of a Unix socket that we made */
};

struct http_options http_options_default(void)
{
    return (struct http_options){.limits = {
                                     .request_line_max = 8 << 10,
                                     .headers_max = 32 << 10,
                                     .header_count_max = 100,
                                     .body_max = 32 << 20,
                                     .bodies_max = 128 << 20,
                                     .pipelined_max = 16 << 10,
                                     .connections_max = 512,
                                     .stream_pause = 16 << 10,
                                     .stream_resume = 4 << 10,
                                     .stream_max = 256 << 10,
                                     .head_ms = 10000,
                                     .body_ms = 60000,
                                     .idle_ms = 60000,
                                     .write_ms = 30000,
                                     .linger_ms = 1000,
                                     .ping_ms = 10000,
                                 }};
}

/* ---- letting in ---- */

static void turn_away(int fd)
{
    static const char body[] = "{\"error\":{\"message\":\"all connections are at work; try later\","
                               "\"type\":\"server_error\",\"param\":null,\"code\":503}}";
    char answer[320];
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
                        sizeof body - 1, body);
    os_socket_send(fd, answer, (size_t)size);
    os_file_close(fd);
}

static void on_accept(struct evconnlistener *accepting, evutil_socket_t fd,
                      struct sockaddr *address, int size, void *context)
{
    struct http_listener *listener = context;
    struct http_server *server = listener->server;
    (void)accepting, (void)address, (void)size;
    if (server->connection_count >= server->options.limits.connections_max) {
        struct http_connection *waiting = http_connection_longest_waiting(server);
        if (!waiting) {
            turn_away(fd);
            return;
        }
        http_connection_close(waiting);
    }
    os_socket_prepare(fd, UNSENT_MAX);
    http_connection_open(server, fd, listener->access);
}

/* Most likely no descriptor is left. The listener would be ready again at once, for ever. */
static void on_accept_error(struct evconnlistener *accepting, void *context)
{
    struct http_listener *listener = context;
    struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};
    struct http_connection *waiting = http_connection_longest_waiting(listener->server);
    evconnlistener_disable(accepting);
    if (waiting)
        http_connection_close(waiting);
    event_add(listener->retry, &pause);
}

static void on_retry(evutil_socket_t fd, short what, void *context)
{
    struct http_listener *listener = context;
    (void)fd, (void)what;
    evconnlistener_enable(listener->accepting);
}

static void close_listener(struct http_listener *listener)
{
    if (listener->retry)
        event_free(listener->retry);
    if (listener->accepting)
        evconnlistener_free(listener->accepting);
    os_file_close(listener->fd);
    os_socket_file_remove(listener->file);
    mem_free(listener);
}

static void close_listeners(struct http_server *server)
{
    while (server->listeners) {
        struct http_listener *listener = server->listeners;
        server->listeners = listener->next;
        close_listener(listener);
    }
}

/* Accepts from a descriptor. Takes both over, also on failure. */
static int add_listener(struct http_server *server, int fd, struct os_socket_file *file,
                        const struct http_access *access, struct hearth_error *err)
{
    struct http_listener *listener = MEM_NEW(struct http_listener);
    if (!listener) {
        os_file_close(fd);
        os_socket_file_remove(file);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a listening socket");
    }
    *listener = (struct http_listener){.server = server, .access = access, .fd = fd, .file = file};
    listener->retry = evtimer_new(server->base, on_retry, listener);
    if (listener->retry)
        listener->accepting =
            evconnlistener_new(server->base, on_accept, listener, LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (!listener->accepting) {
        close_listener(listener);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a listening socket");
    }
    evconnlistener_set_error_cb(listener->accepting, on_accept_error);
    listener->next = server->listeners;
    server->listeners = listener;
    return 0;
}

int http_server_listen_tcp(struct http_server *server, const char *address, uint16_t port,
                           const struct http_access *access, uint16_t *bound_port,
                           struct hearth_error *err)
{
    if (!os_address_is_loopback(address) && access->key_count == 0)
        return error_set(err, HEARTH_E_ARGUMENT,
                         "%s can be reached from other machines: listening there needs keys",
                         address);
    int fd = os_listen_tcp(address, port, err);
    if (fd < 0)
        return fd;
    uint16_t bound = os_socket_port(fd);
    int status = add_listener(server, fd, NULL, access, err);
    if (status == 0 && bound_port)
        *bound_port = bound;
    return status;
}

int http_server_listen_unix(struct http_server *server, const char *path,
                            const struct http_access *access, struct hearth_error *err)
{
    struct os_socket_file *file;
    int fd = os_listen_unix(path, &file, err);
    return fd < 0 ? fd : add_listener(server, fd, file, access, err);
}

int http_server_listen_fd(struct http_server *server, int fd, const struct http_access *access,
                          struct hearth_error *err)
{
    struct os_socket_file *file = NULL;
    int status = os_adopt_listener(fd, err);
    if (!status && !os_socket_is_local(fd) && access->key_count == 0)
        status = error_set(err, HEARTH_E_ARGUMENT,
                           "descriptor %d can be reached from other machines: listening there "
                           "needs keys",
                           fd);
    if (!status)
        status = os_adopt_socket_file(fd, &file, err);
    return status ? status : add_listener(server, fd, file, access, err);
}

/* ---- the server ---- */

static void on_drained(evutil_socket_t fd, short what, void *context)
{
    struct http_server *server = context;
    (void)fd, (void)what;
    server->on_drained(server->drained_context);
}

int http_server_create(struct event_base *base, const struct http_options *options,
                       struct http_server **out, struct hearth_error *err)
{
    struct http_server *server = MEM_NEW(struct http_server);
    if (server)
        server->drained = evtimer_new(base, on_drained, server);
    if (!server || !server->drained) {
        mem_free(server);
        return error_set(err, HEARTH_E_MEMORY, "no memory for the server");
    }
    server->base = base;
    server->options = *options;
    server->date_seconds = -1;
    *out = server;
    return 0;
}

void http_server_destroy(struct http_server *server)
{
    if (!server)
        return;
    close_listeners(server);
    server->draining = true;
    server->on_drained = NULL;
    while (server->connections)
        http_connection_close(server->connections);
    event_free(server->drained);
    mem_free(server->tables);
    mem_free(server);
}

int http_server_routes(struct http_server *server, const struct http_route *routes, size_t count,
                       void *context, struct hearth_error *err)
{
    struct http_route_table *tables =
        mem_realloc_array(server->tables, server->table_count + 1, sizeof *tables);
    if (!tables)
        return error_set(err, HEARTH_E_MEMORY, "no memory for routes");
    tables[server->table_count++] = (struct http_route_table){routes, count, context};
    server->tables = tables;
    return 0;
}

size_t http_server_connections(const struct http_server *server)
{
    return server->connection_count;
}

void http_server_connection_closed(struct http_server *server)
{
    if (--server->connection_count == 0 && server->on_drained)
        event_active(server->drained, EV_TIMEOUT, 0);
}

void http_server_drain(struct http_server *server, void (*drained)(void *context), void *context)
{
    struct http_connection *next;
    close_listeners(server);
    server->draining = true;
    for (struct http_connection *c = server->connections; c; c = next) {
        next = c->next;
        if (c->state == HTTP_WAITING)
            http_connection_close(c);
    }
    server->on_drained = drained;
    server->drained_context = context;
    if (server->connection_count == 0)
        event_active(server->drained, EV_TIMEOUT, 0);
}

const char *http_server_date(struct http_server *server)
{
    struct timeval now;
    event_base_gettimeofday_cached(server->base, &now);
    if (now.tv_sec != server->date_seconds) {
        server->date_seconds = now.tv_sec;
        evutil_date_rfc1123(server->date, sizeof server->date, NULL);
    }
    return server->date;
}
