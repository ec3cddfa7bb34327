/* Requests to other servers, on the daemon's loop: libcurl moves the bytes, and all calls back come
 * from the loop, outside of libcurl, so that whoever is called may do anything. */
#ifndef SERVER_FETCH_H
#define SERVER_FETCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"

struct event_base;
struct fetcher;
struct fetch; /* valid until on_end was called, or fetch_cancel */

int fetcher_create(struct event_base *base, struct fetcher **out, struct hearth_error *err);
/* Cancels what runs; also from inside a call back. NULL is fine. */
void fetcher_destroy(struct fetcher *fetcher);

/* HEARTH_E_ARGUMENT unless it is http:// or https://, a host and perhaps a port and a path: no
 * user, query or fragment. */
int fetch_check_url(const char *url, struct hearth_error *err);

/* The beginning of an answer, with its first bytes. */
struct fetch_answer {
    int status;             /* of HTTP; 0: there was no answer */
    bool is_stream;         /* text/event-stream */
    uint32_t retry_after_s; /* 0: not said */
};

enum fetch_outcome {
    FETCH_WHOLE,
    FETCH_NOT_CONNECTED, /* the server never saw the request */
    FETCH_TIMED_OUT,
    FETCH_BROKEN, /* the connection ended before the answer did */
};

struct fetch_options {
    const char *url;
    const char *key;  /* sent as a bearer token; NULL: none */
    struct text body; /* JSON, copied; without data: GET instead of POST */
    /* Until the connection stands; then until the first byte of the body; then between two pieces
     * of it, while it is not paused. */
    uint64_t connect_ns, first_byte_ns, idle_ns;
    void (*on_bytes)(void *context, const struct fetch_answer *answer, struct text bytes);
    /* Once; `cause` says in words why it is not whole. */
    void (*on_end)(void *context, enum fetch_outcome outcome, const struct fetch_answer *answer,
                   const char *cause);
    void *context;
};

/* HEARTH_E_IO where there is no libcurl. */
int fetch_start(struct fetcher *fetcher, const struct fetch_options *options, struct fetch **out,
                struct hearth_error *err);
/* Holds back what comes: at most 64 KiB here, the rest in the system and on the other side. */
void fetch_pause(struct fetch *fetch, bool pause);
/* Closes the connection at once; nothing is called back. */
void fetch_cancel(struct fetch *fetch);

#endif
