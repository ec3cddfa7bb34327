/* Messages over a connected pair of stream sockets, with descriptors. Nothing blocks: whoever has a
 * loop flushes when the socket is writable and receives when it is readable. */
#ifndef WORKER_CHANNEL_H
#define WORKER_CHANNEL_H

#include "worker/message.h"

struct channel;

struct channel_limits {
    size_t payload_max; /* of one message, either way */
    size_t queue_max;   /* bytes that wait to be sent */
};

/* Takes the descriptor over, also on failure. */
int channel_open(int fd, struct channel_limits limits, struct channel **out,
                 struct hearth_error *err);
void channel_close(struct channel *channel); /* and all descriptors that nobody took */

/* Queues one whole message (message_end was true) and sends what can be sent. The descriptors are
 * duplicated: they stay the caller's. LIMIT where the other side does not read. */
int channel_send(struct channel *channel, struct text message, const int *descriptors,
                 struct hearth_error *err);
/* 0: all is sent; 1: call again when the socket is writable; else an error. */
int channel_flush(struct channel *channel, struct hearth_error *err);

size_t channel_queued(const struct channel *channel); /* bytes that wait to be sent */

/* 1: a message, whose payload is valid until the next call and whose descriptors are the caller's;
 * 0: none yet; MISSING: the other side has closed; else an error, after which the channel is of no
 * more use. */
int channel_receive(struct channel *channel, struct message *message,
                    int descriptors[MESSAGE_DESCRIPTORS_MAX], struct hearth_error *err);

#endif
