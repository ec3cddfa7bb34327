/* Answers: whole ones, and streams with back pressure. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/memory.h"
#include "server/http_access.h"
#include "server/http_connection.h"

#define ERROR_BODY_MAX ((size_t)4 << 10)

static struct evbuffer *output_of(const struct http_exchange *exchange)
{
    return bufferevent_get_output(exchange->connection->bev);
}

const struct http_request *http_exchange_request(const struct http_exchange *exchange)
{
    return &exchange->connection->parser.request;
}

const struct http_access *http_exchange_access(const struct http_exchange *exchange)
{
    return exchange->connection->access;
}

void http_exchange_watch(struct http_exchange *exchange, struct http_watch watch)
{
    exchange->watch = watch;
}

bool http_exchange_header(struct http_exchange *exchange, const char *name, struct text value)
{
    assert(!exchange->begun);
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return false;
    }
    buffer_append_text(&exchange->headers, text_of(name));
    buffer_append_text(&exchange->headers, TEXT(": "));
    buffer_append_text(&exchange->headers, value);
    return buffer_append_text(&exchange->headers, TEXT("\r\n"));
}

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {{200, "OK"},
                   {201, "Created"},
                   {202, "Accepted"},
                   {204, "No Content"},
                   {304, "Not Modified"},
                   {400, "Bad Request"},
                   {401, "Unauthorized"},
                   {403, "Forbidden"},
                   {404, "Not Found"},
                   {405, "Method Not Allowed"},
                   {408, "Request Timeout"},
                   {409, "Conflict"},
                   {411, "Length Required"},
                   {413, "Content Too Large"},
                   {414, "URI Too Long"},
                   {415, "Unsupported Media Type"},
                   {417, "Expectation Failed"},
                   {422, "Unprocessable Content"},
                   {429, "Too Many Requests"},
                   {431, "Request Header Fields Too Large"},
                   {500, "Internal Server Error"},
                   {501, "Not Implemented"},
                   {502, "Bad Gateway"},
                   {503, "Service Unavailable"},
                   {504, "Gateway Timeout"},
                   {505, "HTTP Version Not Supported"}};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "Status";
}

/* ---- the head ---- */

/* The next request begins where this one ends, if that was read and the client wants to go on. */
static bool may_go_on(const struct http_connection *connection)
{
    const struct http_parser *parser = &connection->parser;
    bool whole =
        parser->stage == HTTP_STAGE_DONE ||
        (parser->stage == HTTP_STAGE_HEAD_READ && !parser->chunked && parser->content_length == 0);
    return whole && parser->keep_alive && !connection->server->draining;
}

static void add_connection_headers(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    struct text origin = connection->parser.request.origin;
    if (connection->close_after)
        buffer_append_text(&exchange->headers, TEXT("Connection: close\r\n"));
    else if (connection->parser.request.http_1_0)
        buffer_append_text(&exchange->headers, TEXT("Connection: keep-alive\r\n"));
    if (http_access_names_origin(connection->access, origin)) {
        http_exchange_header(exchange, "Access-Control-Allow-Origin", origin);
        buffer_append_text(&exchange->headers, TEXT("Vary: Origin\r\n"));
    }
}

/* Status line and headers. `length` is "" or a header line that says how the body is framed. */
static void send_head(struct http_exchange *exchange, int status, const char *content_type,
                      const char *framing)
{
    struct http_connection *connection = exchange->connection;
    if (!may_go_on(connection))
        connection->close_after = true;
    add_connection_headers(exchange);
    exchange->begun = true;
    exchange->status = status;
    int sent = evbuffer_add_printf(
        output_of(exchange), "HTTP/1.1 %d %s\r\nDate: %s\r\nX-Request-Id: %llu\r\n%s%s%s%s", status,
        reason(status), http_server_date(connection->server),
        (unsigned long long)http_exchange_request(exchange)->number,
        content_type ? "Content-Type: " : "", content_type ? content_type : "",
        content_type ? "\r\n" : "", framing);
    struct text headers = buffer_text(&exchange->headers);
    if (sent < 0 || exchange->headers.failed ||
        (headers.size && evbuffer_add(output_of(exchange), headers.data, headers.size) != 0) ||
        evbuffer_add(output_of(exchange), "\r\n", 2) != 0)
        http_connection_doom(connection);
}

/* ---- whole answers ---- */

static void free_bytes(const void *data, size_t size, void *context)
{
    (void)size, (void)context;
    mem_free((void *)(uintptr_t)data);
}

static bool send_nothing_more(const struct http_exchange *exchange, int status)
{
    return status == 204 || status == 304 ||
           exchange->connection->parser.request.method == HTTP_METHOD_HEAD;
}

static void send_whole_head(struct http_exchange *exchange, int status, const char *content_type,
                            size_t size)
{
    char length[48] = "";
    if (status != 204 && status != 304)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", size);
    send_head(exchange, status, content_type, length);
}

void http_respond_buffer(struct http_exchange *exchange, int status, const char *content_type,
                         struct buffer *body)
{
    struct http_connection *connection = exchange->connection;
    size_t size = body->size;
    char *data = buffer_take(body, NULL);
    assert(connection->state != HTTP_FLUSHING && !exchange->begun);
    send_whole_head(exchange, status, content_type, size);
    if (!data)
        http_connection_doom(connection);
    else if (size == 0 || send_nothing_more(exchange, status))
        mem_free(data);
    else if (evbuffer_add_reference(output_of(exchange), data, size, free_bytes, NULL) == 0) {
        exchange->answer_bytes = size;
    } else {
        mem_free(data);
        http_connection_doom(connection);
    }
    http_connection_answered(connection);
}

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  struct text body)
{
    struct http_connection *connection = exchange->connection;
    assert(connection->state != HTTP_FLUSHING && !exchange->begun);
    send_whole_head(exchange, status, content_type, body.size);
    if (body.size > 0 && !send_nothing_more(exchange, status)) {
        exchange->answer_bytes = body.size;
        if (evbuffer_add(output_of(exchange), body.data, body.size) != 0)
            http_connection_doom(connection);
    }
    http_connection_answered(connection);
}

static const char *error_type(int status)
{
    return status == 401   ? "authentication_error"
           : status == 403 ? "permission_error"
           : status == 404 ? "not_found_error"
           : status >= 500 ? "server_error"
                           : "invalid_request_error";
}

/* As OpenAI's clients expect it; error_set has made the sentence valid UTF-8. */
static void openai_error_body(int status, const char *sentence, struct buffer *body)
{
    json_t *object = json_pack("{s:{s:s, s:s, s:n, s:i}}", "error", "message", sentence, "type",
                               error_type(status), "param", "code", status);
    char *bytes = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (bytes)
        buffer_append_text(body, text_of(bytes));
    else
        body->failed = true;
    free(bytes);
    json_decref(object);
}

void http_respond_error(struct http_exchange *exchange, int status, const char *sentence)
{
    const struct http_options *options = &exchange->connection->server->options;
    struct hearth_error cause;
    struct buffer body;
    error_set(&cause, HEARTH_E_ARGUMENT, "%s", sentence);
    buffer_init(&body, ERROR_BODY_MAX);
    if (options->error_body)
        options->error_body(options->context, http_exchange_request(exchange)->path, status,
                            cause.text, &body);
    else
        openai_error_body(status, cause.text, &body);
    http_respond_buffer(exchange, status, "application/json", &body);
}

void http_refuse(struct http_connection *connection, struct http_refusal refusal)
{
    struct http_exchange *exchange = &connection->exchange;
    char sentence[256];
    if (refusal.limit)
        snprintf(sentence, sizeof sentence, "%s: the limit is %zu", refusal.sentence,
                 refusal.limit);
    else
        snprintf(sentence, sizeof sentence, "%s", refusal.sentence);
    if (refusal.status == 401)
        http_exchange_header(exchange, "WWW-Authenticate", TEXT("Bearer"));
    if (refusal.status == 405) {
        buffer_append_text(&exchange->headers, TEXT("Allow: "));
        http_route_methods(exchange->methods, &exchange->headers);
        buffer_append_text(&exchange->headers, TEXT("\r\n"));
    }
    http_respond_error(exchange, refusal.status, sentence);
}

void http_respond_options(struct http_exchange *exchange, unsigned methods)
{
    struct http_connection *connection = exchange->connection;
    const struct http_request *request = http_exchange_request(exchange);
    struct buffer *headers = &exchange->headers;
    struct text wanted;
    buffer_append_text(headers, TEXT("Allow: "));
    http_route_methods(methods, headers);
    buffer_append_text(headers, TEXT("\r\n"));
    if (http_access_names_origin(connection->access, request->origin) &&
        http_request_header(request, "access-control-request-method", &wanted)) {
        buffer_append_text(headers, TEXT("Access-Control-Allow-Methods: "));
        http_route_methods(methods, headers);
        buffer_append_text(headers, TEXT("\r\nAccess-Control-Max-Age: 600\r\n"));
        if (http_request_header(request, "access-control-request-headers", &wanted))
            http_exchange_header(exchange, "Access-Control-Allow-Headers", wanted);
        if (http_request_header(request, "access-control-request-private-network", &wanted))
            http_exchange_header(exchange, "Access-Control-Allow-Private-Network", TEXT("true"));
    }
    http_respond(exchange, 204, NULL, (struct text){NULL, 0});
}

/* ---- streams ---- */

void http_stream_begin(struct http_exchange *exchange, int status, const char *content_type)
{
    struct http_connection *connection = exchange->connection;
    const struct http_request *request = http_exchange_request(exchange);
    assert(connection->state == HTTP_WORKING && !exchange->begun);
    exchange->chunked = !request->http_1_0;
    exchange->head_only = request->method == HTTP_METHOD_HEAD;
    if (!exchange->chunked)
        connection->close_after = true;
    send_head(exchange, status, content_type,
              exchange->chunked ? "Transfer-Encoding: chunked\r\n" : "");
    bufferevent_setwatermark(connection->bev, EV_WRITE,
                             connection->server->options.limits.stream_resume, 0);
    if (exchange->head_only)
        event_active(connection->wake, EV_TIMEOUT, 0);
    http_connection_wrote(connection);
}

/* One chunk of three parts, so that a frame around the bytes needs no copy of them. */
static bool send_chunk(struct http_exchange *exchange, struct text before, struct text bytes,
                       struct text after)
{
    struct http_connection *connection = exchange->connection;
    const struct http_limits *limits = &connection->server->options.limits;
    struct evbuffer *output = output_of(exchange);
    size_t size = before.size + bytes.size + after.size;
    assert(connection->state == HTTP_WORKING && exchange->begun);
    if (size == 0 || exchange->head_only || connection->doomed)
        return !exchange->paused;
    exchange->quiet = false;
    if (evbuffer_get_length(output) + size > limits->stream_max ||
        (exchange->chunked && evbuffer_add_printf(output, "%zx\r\n", size) < 0) ||
        (before.size && evbuffer_add(output, before.data, before.size) != 0) ||
        (bytes.size && evbuffer_add(output, bytes.data, bytes.size) != 0) ||
        (after.size && evbuffer_add(output, after.data, after.size) != 0) ||
        (exchange->chunked && evbuffer_add(output, "\r\n", 2) != 0)) {
        http_connection_doom(connection);
        return false;
    }
    exchange->answer_bytes += size;
    http_connection_wrote(connection);
    if (evbuffer_get_length(output) > limits->stream_pause)
        exchange->paused = true;
    return !exchange->paused;
}

bool http_stream_write(struct http_exchange *exchange, struct text bytes)
{
    return send_chunk(exchange, (struct text){NULL, 0}, bytes, (struct text){NULL, 0});
}

void http_stream_end(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    assert(connection->state == HTTP_WORKING && exchange->begun);
    if (exchange->chunked && !exchange->head_only &&
        evbuffer_add(output_of(exchange), "0\r\n\r\n", 5) != 0)
        http_connection_doom(connection);
    http_connection_answered(connection);
}

void http_stream_abort(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    assert(connection->state == HTTP_WORKING && exchange->begun);
    connection->close_after = true;
    http_connection_answered(connection);
}

/* ---- server-sent events ---- */

static void on_ping(evutil_socket_t fd, short what, void *context)
{
    struct http_exchange *exchange = context;
    (void)fd, (void)what;
    if (exchange->quiet && evbuffer_get_length(output_of(exchange)) == 0)
        http_stream_write(exchange, TEXT(":\n\n"));
    exchange->quiet = true;
}

void http_stream_begin_events(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;
    /* looking twice as often as comments are due, no silence is longer than that */
    uint32_t ms = connection->server->options.limits.ping_ms / 2;
    struct timeval interval = {.tv_sec = (long)(ms / 1000), .tv_usec = (long)(ms % 1000) * 1000};
    http_exchange_header(exchange, "Cache-Control", TEXT("no-cache"));
    http_stream_begin(exchange, 200, "text/event-stream");
    connection->ping = event_new(connection->server->base, -1, EV_PERSIST, on_ping, exchange);
    if (!connection->ping || event_add(connection->ping, &interval) != 0)
        http_connection_doom(connection);
}

/* Either character ends a line of the format. */
static bool has_line_end(struct text data)
{
    return data.size && (memchr(data.data, '\n', data.size) || memchr(data.data, '\r', data.size));
}

bool http_stream_event(struct http_exchange *exchange, const char *event, struct text data)
{
    struct buffer lines;
    char name[80] = "data: ";
    if (event)
        snprintf(name, sizeof name, "event: %.60s\ndata: ", event);
    if (!has_line_end(data))
        return send_chunk(exchange, text_of(name), data, TEXT("\n\n"));
    buffer_init(&lines, exchange->connection->server->options.limits.stream_max);
    for (size_t i = 0; i < data.size; i++) {
        bool pair = data.data[i] == '\r' && i + 1 < data.size && data.data[i + 1] == '\n';
        if (pair)
            continue;
        if (data.data[i] == '\n' || data.data[i] == '\r')
            buffer_append_text(&lines, TEXT("\ndata: "));
        else
            buffer_append_char(&lines, data.data[i]);
    }
    if (lines.failed)
        http_connection_doom(exchange->connection);
    bool go_on = send_chunk(exchange, text_of(name), buffer_text(&lines), TEXT("\n\n"));
    buffer_finish(&lines);
    return go_on;
}
