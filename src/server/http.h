/* HTTP/1.1 for the daemon: listeners, requests, answers and streams on one event loop.
 *
 * All of it belongs to one thread, that of the event base, and holds no state outside a server. A
 * program that uses it ignores SIGPIPE (os_ignore_broken_pipes).
 *
 * What is refused, in order: a request that is malformed or above a limit, a foreign Host, a
 * foreign Origin, a missing key, an unknown path or method, a body that is not what the path takes.
 * All of that happens before a body is read; each refusal is one sentence in a JSON body. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

struct event_base;
struct http_server;
struct http_exchange; /* one request and its answer */

/* ---- requests ---- */

enum http_method {
    HTTP_METHOD_GET, /* its handlers answer HEAD too; what they write as a body is left out */
    HTTP_METHOD_HEAD,
    HTTP_METHOD_POST,
    HTTP_METHOD_PUT,
    HTTP_METHOD_PATCH,
    HTTP_METHOD_DELETE,
    HTTP_METHOD_OPTIONS, /* answered here */
    HTTP_METHOD_COUNT
};

/* Valid until the answer is complete or the client gone. What a request does not have has data
 * NULL. */
struct http_request {
    uint64_t number; /* 1, 2, … of the server; answered as X-Request-Id, and in lines of the log */
    enum http_method method;
    bool http_1_0;
    struct text path, query; /* as sent */
    struct text name;        /* what stands for the {name} of the route, percent-decoded, UTF-8 */
    struct text body;
    struct text host, origin, authorization, content_type;
    struct text headers; /* all lines, each with its CR LF */
};

/* The value of the first header of that name, whatever its case, without spaces around it. */
bool http_request_header(const struct http_request *request, const char *name, struct text *value);
/* Whether a text is the same as an ASCII string but for the case of letters. */
bool http_text_is(struct text text, const char *string);

/* ---- routes ---- */

typedef void http_handler(void *context, struct http_exchange *exchange);

struct http_route {
    enum http_method method; /* no HEAD, no OPTIONS */
    const char *path;        /* may have one segment {name}; a path without it is tried first */
    http_handler *handle;    /* called when the whole request is there */
    bool without_key;        /* answered to anybody who may speak to us at all */
    bool body_required;
    size_t body_max; /* 0: the server's */
};

/* ---- who may ask ---- */

/* Belongs to the caller and outlives the server. */
struct http_access {
    bool any_host; /* else Host must be a loopback name or address, or one of `hosts` */
    const char *const *hosts;
    size_t host_count;
    const char *const *origins; /* besides the server's own pages: "http://localhost:3000" */
    size_t origin_count;
    const char *const *keys; /* none: nobody needs one */
    size_t key_count;
    bool names_paths; /* who asks may name files by their path */
};

/* ---- the server ---- */

struct http_limits {
    size_t request_line_max; /* bytes without the end of the line */
    size_t headers_max;      /* bytes of all header lines with their ends */
    size_t header_count_max;
    size_t body_max;        /* bytes of one body, its chunks joined */
    size_t bodies_max;      /* of all bodies that are held */
    size_t pipelined_max;   /* bytes that wait behind a request at work; above, it is cancelled */
    size_t connections_max; /* above, the one that waits longest for its client is closed */
    size_t stream_pause;    /* bytes a slow reader leaves queued when the producer is told so */
    size_t stream_resume;   /* and when it is told to go on */
    size_t stream_max;      /* and when the client is dropped */
    uint32_t head_ms;       /* from a request's first byte to the end of its headers */
    uint32_t body_ms;       /* from there to the end of its body */
    uint32_t idle_ms;       /* between two requests */
    uint32_t write_ms;      /* in which a client takes 16 KiB, or all that is queued */
    uint32_t linger_ms;     /* for a client to read the last answer before the connection ends */
    uint32_t ping_ms;       /* of silence in an event stream, then a comment is sent */
};

/* What became of a request, for a log. Nothing of it is the client's own words. */
struct http_answered {
    uint64_t number;
    enum http_method method; /* HTTP_METHOD_COUNT: one that there is not, or none could be read */
    const char *route;       /* the path as its table has it; NULL: it led to none */
    int status;              /* 499: the client left before there was an answer */
    bool gone;               /* the client left before the answer was complete */
    uint64_t duration_ns;    /* from the request's first byte */
    uint64_t body_bytes, answer_bytes;
};

struct http_options {
    struct http_limits limits;
    /* Called once for each request that is answered, or whose client left before; NULL: nobody
     * wants to know. It calls nothing of this layer. */
    void (*answered)(void *context, const struct http_answered *answered);
    /* Writes the body of a refusal as the clients of a path expect it; NULL: as OpenAI's do. */
    void (*error_body)(void *context, struct text path, int status, const char *sentence,
                       struct buffer *body);
    void *context;
};

struct http_options http_options_default(void);

int http_server_create(struct event_base *base, const struct http_options *options,
                       struct http_server **out, struct hearth_error *err);
/* Drops every connection; clients at work are told they are gone. Not from inside a callback. */
void http_server_destroy(struct http_server *server);

/* Adds a table of routes, which outlives the server. */
int http_server_routes(struct http_server *server, const struct http_route *routes, size_t count,
                       void *context, struct hearth_error *err);

/* `address` is numeric. Other than loopback needs keys. Port 0 lets the system choose. */
int http_server_listen_tcp(struct http_server *server, const char *address, uint16_t port,
                           const struct http_access *access, uint16_t *bound_port,
                           struct hearth_error *err);
/* A socket for the user alone. While it is there no other process can listen at the same path; one
 * that a process left behind is replaced. */
int http_server_listen_unix(struct http_server *server, const char *path,
                            const struct http_access *access, struct hearth_error *err);
/* A listening socket that was inherited; closed with the server. */
int http_server_listen_fd(struct http_server *server, int fd, const struct http_access *access,
                          struct hearth_error *err);

/* Stops listening, lets requests at work end, and calls back from the loop when the last connection
 * is closed. */
void http_server_drain(struct http_server *server, void (*drained)(void *context), void *context);

size_t http_server_connections(const struct http_server *server);

/* ---- answering ----
 * A handler answers by exactly one of http_respond…, or http_stream_begin… and then
 * http_stream_end, now or later. With that the exchange is over and its pointer is invalid. Until
 * then it stays valid whatever happens to the connection: that a client left is said by `gone`,
 * from the loop and never from inside a call, and then the exchange is over, too. A client that
 * closes its sending side only counts as gone: that is how a connection ends. */

struct http_watch {
    void (*gone)(void *context);   /* NULL where nothing is to be stopped */
    void (*resume)(void *context); /* a stream that was told to pause may go on */
    void *context;
};

const struct http_request *http_exchange_request(const struct http_exchange *exchange);
const struct http_access *http_exchange_access(const struct http_exchange *exchange);
void http_exchange_watch(struct http_exchange *exchange, struct http_watch watch);
/* A header of the answer, before it begins. False where the value has control characters. */
bool http_exchange_header(struct http_exchange *exchange, const char *name, struct text value);

void http_respond(struct http_exchange *exchange, int status, const char *content_type,
                  struct text body);
/* The same without a copy: the buffer's bytes are taken. */
void http_respond_buffer(struct http_exchange *exchange, int status, const char *content_type,
                         struct buffer *body);
void http_respond_error(struct http_exchange *exchange, int status, const char *sentence);

/* Whatever a write returns the stream goes on: false asks the producer to pause until `resume`. */
void http_stream_begin(struct http_exchange *exchange, int status, const char *content_type);
bool http_stream_write(struct http_exchange *exchange, struct text bytes);
/* Server-sent events, with comments in long silences. `event` may be NULL. */
void http_stream_begin_events(struct http_exchange *exchange);
bool http_stream_event(struct http_exchange *exchange, const char *event, struct text data);
void http_stream_end(struct http_exchange *exchange);
/* Ends so that the client sees that something is missing. */
void http_stream_abort(struct http_exchange *exchange);

#endif
