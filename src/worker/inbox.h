/* What the daemon says, read on a thread of its own: a step of the engine may take seconds, and a
 * request that nobody wants any more, or a daemon that is gone, must be seen inside of it. */
#ifndef WORKER_INBOX_H
#define WORKER_INBOX_H

#include "worker/message.h"

struct inbox;

/* Called on the thread of the inbox. */
struct inbox_listener {
    /* WORK_CANCEL came; it can be taken as well, in its order. */
    void (*on_cancel)(void *context, uint64_t request);
    /* Nothing more can come: the other side has closed (MISSING), or said what is no message. */
    void (*on_end)(void *context, const struct hearth_error *why);
    void *context;
};

struct channel;
/* Receives from a channel, which is its own from here on, also on failure; `fd` is the channel's.
 */
int inbox_open(struct channel *channel, int fd, const struct inbox_listener *listener,
               struct inbox **out, struct hearth_error *err);
/* Reads nothing more; its listener is not called any more. */
void inbox_close(struct inbox *inbox);

struct letter {
    struct letter *next;
    struct message message; /* its payload lies behind */
    uint64_t arrived_ns;
};

/* The next message, NULL where there is none; the caller's. Descriptors that came with it are
 * closed. Pings have a list of their own. */
struct letter *inbox_take(struct inbox *inbox);
struct letter *inbox_take_ping(struct inbox *inbox);
void letter_free(struct letter *letter);

/* Waits until something has come that was not taken, at most so long. */
void inbox_wait(struct inbox *inbox, uint64_t ns);

#endif
