/* A connection and the request it is at. Shared by the files of the HTTP layer only. */
#ifndef SERVER_HTTP_CONNECTION_H
#define SERVER_HTTP_CONNECTION_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "server/http_parse.h"
#include "server/http_route.h"

struct http_listener;

struct http_server {
    struct event_base *base;
    struct http_options options;
    struct http_listener *listeners;
    struct http_route_table *tables;
    size_t table_count;
    struct http_connection *connections; /* in no order */
    size_t connection_count;
    size_t bodies_size;  /* bytes of all bodies that are held */
    uint64_t wait_count; /* gives each wait for a client its place in the order of waits */
    uint64_t request_count;
    bool draining;
    struct event *drained; /* active once the last connection is closed */
    void (*on_drained)(void *context);
    void *drained_context;
    int64_t date_seconds; /* of `date` */
    char date[32];
};

enum http_state {
    HTTP_WAITING,  /* for the first byte of a request */
    HTTP_READING,  /* its head or its body */
    HTTP_WORKING,  /* a handler owes the answer or the rest of it */
    HTTP_FLUSHING, /* the answer is complete, and on its way to the client */
    HTTP_LINGERING /* our side is closed, the client's not yet */
};

struct http_exchange {
    struct http_connection *connection;
    struct http_watch watch;
    struct buffer headers; /* that the handler adds */
    unsigned methods;      /* that the path has, for 405 */
    const char *route;     /* its path in the table, once it was found */
    int status;            /* that was sent */
    uint64_t began_ns;     /* its first byte */
    uint64_t answer_bytes; /* of the body, without its framing */
    bool begun;            /* the status line is sent */
    bool chunked;
    bool head_only; /* nothing behind the headers is sent, and the producer is told to stop */
    bool paused;    /* the producer was told to pause */
    bool quiet;     /* nothing was written since the last look at the silence */
};

struct http_connection {
    struct http_server *server;
    const struct http_access *access;
    struct http_connection *previous, *next;
    struct bufferevent *bev;
    struct event *timer; /* the one deadline of the state */
    struct event *wake;  /* what has to be done from the loop, not from inside a call */
    struct event *ping;  /* only while events are streamed */
    enum http_state state;
    uint64_t wait; /* the order of waits */
    struct http_parser parser;
    struct http_exchange exchange;
    size_t body_counted; /* of this body in bodies_size */
    uint64_t taken;      /* bytes that the client took, ever */
    uint64_t taken_due;  /* what `taken` must reach until the timer fires */
    bool close_after;    /* no further request */
    bool finished_input; /* the client ended its sending side */
    bool write_timed;    /* the timer watches the client's reading */
    bool doomed;         /* to be closed from the loop */
};

/* Takes over the descriptor, also on failure. */
void http_connection_open(struct http_server *server, int fd, const struct http_access *access);
/* Ends it at once; a client at work is told that it is gone. */
void http_connection_close(struct http_connection *connection);
/* The one that waits for its client the longest, or NULL where all are at work. */
struct http_connection *http_connection_longest_waiting(const struct http_server *server);

/* Ends it from the loop. */
void http_connection_doom(struct http_connection *connection);
/* Bytes were added to the output: the client must read from now on. */
void http_connection_wrote(struct http_connection *connection);
/* The answer is complete: the state becomes FLUSHING. */
void http_connection_answered(struct http_connection *connection);

/* A whole answer that the HTTP layer itself gives; `sentence` as http_respond_error. */
void http_refuse(struct http_connection *connection, struct http_refusal refusal);
/* 204 to OPTIONS; a browser's question whether it may send a request is answered as well. */
void http_respond_options(struct http_exchange *exchange, unsigned methods);

/* A connection was closed. */
void http_server_connection_closed(struct http_server *server);
/* The Date header's value. */
const char *http_server_date(struct http_server *server);

#endif
