/* One connection: reads requests, one at a time, gives them to their handlers, and keeps the
 * deadlines. Connections are closed from the event loop's callbacks only, never from inside a call
 * of a handler, so that an exchange stays valid while its handler uses it. */
#include "server/http_connection.h"

#include <assert.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/http_access.h"

#define TAKEN_MIN ((size_t)16 << 10) /* a reader's least pace: this or all, per write_ms */

/* ---- deadlines ---- */

static void set_timer(struct http_connection *connection, uint32_t ms)
{
    struct timeval after = {.tv_sec = (long)(ms / 1000), .tv_usec = (long)(ms % 1000) * 1000};
    if (event_add(connection->timer, &after) != 0)
        http_connection_doom(connection); /* nothing waits without a deadline */
}

static void stop_timer(struct http_connection *connection)
{
    event_del(connection->timer);
    connection->write_timed = false;
}

static struct evbuffer *output_of(struct http_connection *connection)
{
    return bufferevent_get_output(connection->bev);
}

static void time_the_reader(struct http_connection *connection)
{
    size_t queued = evbuffer_get_length(output_of(connection));
    connection->write_timed = true;
    connection->taken_due = connection->taken + (queued < TAKEN_MIN ? queued : TAKEN_MIN);
    set_timer(connection, connection->server->options.limits.write_ms);
}

void http_connection_wrote(struct http_connection *connection)
{
    if (!connection->write_timed && evbuffer_get_length(output_of(connection)) > 0)
        time_the_reader(connection);
}

static void enter(struct http_connection *connection, enum http_state state)
{
    connection->state = state;
    connection->wait = ++connection->server->wait_count;
}

/* Says what became of a request, once. */
static void report(const struct http_connection *connection, bool gone)
{
    const struct http_exchange *exchange = &connection->exchange;
    const struct http_options *options = &connection->server->options;
    const struct http_request *request = &connection->parser.request;
    struct http_answered answered = {
        .number = request->number,
        .method = request->path.data ? request->method : HTTP_METHOD_COUNT,
        .route = exchange->route,
        .status = exchange->begun ? exchange->status : 499,
        .gone = gone,
        .duration_ns = os_monotonic_ns() - exchange->began_ns,
        .body_bytes = request->body.size,
        .answer_bytes = exchange->answer_bytes,
    };
    if (options->answered)
        options->answered(options->context, &answered);
}

/* ---- the end ---- */

static void forget_request(struct http_connection *connection)
{
    struct http_exchange *exchange = &connection->exchange;
    connection->server->bodies_size -= connection->body_counted;
    connection->body_counted = 0;
    if (connection->ping)
        event_free(connection->ping);
    connection->ping = NULL;
    buffer_finish(&exchange->headers);
    *exchange = (struct http_exchange){.connection = connection};
    buffer_init(&exchange->headers, connection->server->options.limits.headers_max);
}

void http_connection_close(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct http_watch watch = connection->exchange.watch;
    bool at_work = connection->state == HTTP_WORKING;
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        server->connections = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    if (at_work)
        report(connection, true);
    if (at_work && watch.gone)
        watch.gone(watch.context);
    forget_request(connection);
    http_parser_finish(&connection->parser);
    event_free(connection->timer);
    event_free(connection->wake);
    bufferevent_free(connection->bev);
    mem_free(connection);
    http_server_connection_closed(server);
}

void http_connection_doom(struct http_connection *connection)
{
    connection->doomed = true;
    event_active(connection->wake, EV_TIMEOUT, 0);
}

/* ---- requests ---- */

static void wait_for_request(struct http_connection *connection)
{
    const struct http_limits *limits = &connection->server->options.limits;
    bool first = connection->taken == 0;
    forget_request(connection);
    http_parser_next(&connection->parser);
    enter(connection, HTTP_WAITING);
    set_timer(connection, first ? limits->head_ms : limits->idle_ms);
}

static void dispatch(struct http_connection *connection, const struct http_match *match)
{
    stop_timer(connection);
    enter(connection, HTTP_WORKING);
    match->route->handle(match->context, &connection->exchange);
}

/* The checks of a complete head, in the order in which http.h promises them. */
static struct http_refusal check_head(struct http_connection *connection,
                                      const struct http_match *match)
{
    struct http_parser *parser = &connection->parser;
    struct http_request *request = &parser->request;
    const struct http_route *route = match->route;
    struct http_refusal refusal = http_access_host(connection->access, request);
    if (!refusal.status)
        refusal = http_access_origin(connection->access, request);
    if (refusal.status || request->method == HTTP_METHOD_OPTIONS)
        return refusal;
    if (!route || !route->without_key)
        refusal = http_access_key(connection->access, request);
    if (refusal.status)
        return refusal;
    if (connection->server->draining)
        return (struct http_refusal){503, "the server is being shut down", 0};
    if (!match->methods)
        return (struct http_refusal){404, "there is nothing at this path", 0};
    if (!route)
        return (struct http_refusal){405, "this path does not take this method", 0};
    if (match->name.data) {
        buffer_init(&parser->name, match->name.size);
        if (!http_route_name(match->name, &parser->name))
            return (struct http_refusal){400, "the name in the path is no text in UTF-8", 0};
        request->name = buffer_text(&parser->name);
    }
    if (!parser->chunked && !parser->has_length && route->body_required)
        return (struct http_refusal){411, "this path takes a body, and there is none", 0};
    if (parser->chunked || parser->content_length > 0)
        refusal = http_access_type(request);
    return refusal;
}

static void send_continue(struct http_connection *connection)
{
    static const char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
    /* a client that did not wait needs none */
    if (evbuffer_get_length(bufferevent_get_input(connection->bev)) == 0)
        evbuffer_add(output_of(connection), line, sizeof line - 1);
}

static struct http_match find_route(const struct http_connection *connection)
{
    const struct http_server *server = connection->server;
    const struct http_request *request = &connection->parser.request;
    return http_route_find(server->tables, server->table_count, request->method, request->path);
}

static void begin_request(struct http_connection *connection)
{
    struct http_parser *parser = &connection->parser;
    const struct http_limits *limits = &connection->server->options.limits;
    struct http_match match = find_route(connection);
    struct http_refusal refusal = check_head(connection, &match);
    connection->exchange.route = match.route ? match.route->path : NULL;
    if (refusal.status) {
        connection->exchange.methods = match.methods;
        http_refuse(connection, refusal);
        return;
    }
    if (parser->request.method == HTTP_METHOD_OPTIONS) {
        http_respond_options(&connection->exchange, match.methods);
        return;
    }
    http_parser_expect(parser, match.route->body_max ? match.route->body_max : limits->body_max);
    if (parser->stage == HTTP_STAGE_REFUSED) {
        http_refuse(connection, parser->refusal);
    } else if (parser->stage == HTTP_STAGE_DONE) {
        dispatch(connection, &match);
    } else {
        set_timer(connection, limits->body_ms);
        if (parser->expects_continue)
            send_continue(connection);
    }
}

/* Keeps the sum of all bodies; false where it is too large. */
static bool count_body(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    server->bodies_size += connection->parser.body.size - connection->body_counted;
    connection->body_counted = connection->parser.body.size;
    return server->bodies_size <= server->options.limits.bodies_max;
}

/* Acts on what the parser has found. */
static void step(struct http_connection *connection)
{
    switch (connection->parser.stage) {
    case HTTP_STAGE_HEAD_READ:
        begin_request(connection);
        break;
    case HTTP_STAGE_BODY:
        if (!count_body(connection))
            http_refuse(
                connection,
                (struct http_refusal){503, "too many large requests are being read; try later", 0});
        break;
    case HTTP_STAGE_DONE: {
        struct http_match match = find_route(connection);
        count_body(connection);
        dispatch(connection, &match);
        break;
    }
    case HTTP_STAGE_REFUSED:
        http_refuse(connection, connection->parser.refusal);
        break;
    case HTTP_STAGE_HEAD:
        break;
    }
}

static void read_requests(struct http_connection *connection)
{
    struct evbuffer *input = bufferevent_get_input(connection->bev);
    while (!connection->doomed &&
           (connection->state == HTTP_WAITING || connection->state == HTTP_READING)) {
        size_t size = evbuffer_get_contiguous_space(input);
        if (size == 0)
            return;
        if (connection->state == HTTP_WAITING) {
            enter(connection, HTTP_READING);
            connection->exchange.began_ns = os_monotonic_ns();
            connection->parser.request.number = ++connection->server->request_count;
            set_timer(connection, connection->server->options.limits.head_ms);
        }
        const char *data = (const char *)evbuffer_pullup(input, (ev_ssize_t)size);
        evbuffer_drain(input, http_parser_feed(&connection->parser, data, size));
        step(connection);
    }
}

/* ---- events ---- */

/* The answer is with the system: the next request, or the end. */
static void flushed(struct http_connection *connection)
{
    stop_timer(connection);
    if (!connection->close_after && !connection->server->draining) {
        wait_for_request(connection);
        read_requests(connection);
        return;
    }
    if (connection->finished_input) {
        http_connection_close(connection);
        return;
    }
    /* Closing with unread bytes would send a reset, which may overtake the answer. */
    forget_request(connection);
    http_parser_next(&connection->parser);
    enter(connection, HTTP_LINGERING);
    os_socket_end_output(bufferevent_getfd(connection->bev));
    evbuffer_drain(bufferevent_get_input(connection->bev), SIZE_MAX);
    set_timer(connection, connection->server->options.limits.linger_ms);
}

void http_connection_answered(struct http_connection *connection)
{
    enter(connection, HTTP_FLUSHING);
    report(connection, false);
    bufferevent_setwatermark(connection->bev, EV_WRITE, 0, 0);
    if (connection->ping)
        event_del(connection->ping);
    http_connection_wrote(connection);
    if (evbuffer_get_length(output_of(connection)) == 0)
        event_active(connection->wake, EV_TIMEOUT, 0);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct http_connection *connection = context;
    (void)fd, (void)what;
    if (connection->doomed) {
        http_connection_close(connection);
    } else if (connection->state == HTTP_WORKING && connection->exchange.head_only) {
        struct http_watch watch = connection->exchange.watch;
        http_connection_answered(connection);
        if (watch.gone)
            watch.gone(watch.context);
    } else if (connection->state == HTTP_FLUSHING &&
               evbuffer_get_length(output_of(connection)) == 0) {
        flushed(connection);
    }
}

static void on_readable(struct bufferevent *bev, void *context)
{
    struct http_connection *connection = context;
    struct evbuffer *input = bufferevent_get_input(bev);
    if (connection->doomed)
        return;
    if (connection->state == HTTP_LINGERING) {
        evbuffer_drain(input, SIZE_MAX);
        return;
    }
    read_requests(connection);
    if (connection->close_after && connection->state == HTTP_FLUSHING)
        evbuffer_drain(input, SIZE_MAX);
    else if (evbuffer_get_length(input) > connection->server->options.limits.pipelined_max)
        http_connection_close(connection);
}

static void on_written(struct bufferevent *bev, void *context)
{
    struct http_connection *connection = context;
    struct http_exchange *exchange = &connection->exchange;
    size_t queued = evbuffer_get_length(bufferevent_get_output(bev));
    if (connection->doomed)
        return;
    if (queued == 0 && connection->write_timed)
        stop_timer(connection);
    if (connection->state == HTTP_FLUSHING && queued == 0) {
        flushed(connection);
    } else if (connection->state == HTTP_WORKING && exchange->paused) {
        exchange->paused = false;
        if (exchange->watch.resume)
            exchange->watch.resume(exchange->watch.context);
    }
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
    struct http_connection *connection = context;
    (void)bev;
    if ((what & BEV_EVENT_EOF) && connection->state == HTTP_FLUSHING && !connection->doomed) {
        connection->finished_input = true;
        connection->close_after = true;
    } else if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) {
        http_connection_close(connection);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    static const struct http_refusal late = {408, "the request did not arrive in time", 0};
    struct http_connection *connection = context;
    (void)fd, (void)what;
    if (connection->doomed)
        return;
    if (connection->state == HTTP_READING)
        http_refuse(connection, late);
    else if (connection->write_timed && connection->taken >= connection->taken_due)
        time_the_reader(connection);
    else
        http_connection_close(connection);
}

static void on_output_change(struct evbuffer *output, const struct evbuffer_cb_info *info,
                             void *context)
{
    struct http_connection *connection = context;
    (void)output;
    connection->taken += info->n_deleted;
}

/* ---- the beginning ---- */

static bool make_events(struct http_connection *connection, int fd)
{
    struct event_base *base = connection->server->base;
    connection->timer = evtimer_new(base, on_timer, connection);
    connection->wake = evtimer_new(base, on_wake, connection);
    connection->bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
    return connection->timer && connection->wake && connection->bev &&
           evbuffer_add_cb(output_of(connection), on_output_change, connection);
}

void http_connection_open(struct http_server *server, int fd, const struct http_access *access)
{
    struct http_connection *connection = MEM_NEW(struct http_connection);
    if (!connection) {
        os_file_close(fd);
        return;
    }
    connection->server = server;
    connection->access = access;
    http_parser_init(&connection->parser, &server->options.limits);
    if (!make_events(connection, fd)) {
        if (connection->timer)
            event_free(connection->timer);
        if (connection->wake)
            event_free(connection->wake);
        if (connection->bev)
            bufferevent_free(connection->bev);
        else
            os_file_close(fd);
        mem_free(connection);
        return;
    }
    connection->next = server->connections;
    if (connection->next)
        connection->next->previous = connection;
    server->connections = connection;
    server->connection_count++;
    bufferevent_setcb(connection->bev, on_readable, on_written, on_event, connection);
    wait_for_request(connection);
    if (bufferevent_enable(connection->bev, EV_READ | EV_WRITE) != 0)
        http_connection_doom(connection);
}

struct http_connection *http_connection_longest_waiting(const struct http_server *server)
{
    struct http_connection *longest = NULL, *uploading = NULL;
    for (struct http_connection *c = server->connections; c; c = c->next) {
        if (c->state == HTTP_WORKING || c->state == HTTP_FLUSHING)
            continue;
        struct http_connection **best =
            c->state == HTTP_READING && c->parser.stage == HTTP_STAGE_BODY ? &uploading : &longest;
        if (!*best || c->wait < (*best)->wait)
            *best = c;
    }
    return longest ? longest : uploading;
}
