#include "worker/channel.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"

#define READ_SIZE ((size_t)16 << 10)
#define HELD_MAX 16 /* descriptors that came and whose messages are not complete */

/* A message that waits to be sent. Its descriptors go with its first byte. */
struct outgoing {
    struct outgoing *next;
    size_t size, sent;
    unsigned descriptor_count;
    int descriptors[MESSAGE_DESCRIPTORS_MAX];
    char bytes[];
};

struct channel {
    int fd;
    struct channel_limits limits;
    struct outgoing *first, **last;
    size_t queued;
    struct buffer input;
    size_t used; /* bytes of the input that the last message took */
    int held[HELD_MAX];
    unsigned held_count;
};

int channel_open(int fd, struct channel_limits limits, struct channel **out,
                 struct hearth_error *err)
{
    struct channel *channel = MEM_NEW(struct channel);
    if (!channel) {
        os_file_close(fd);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a channel");
    }
    channel->fd = fd;
    channel->limits = limits;
    channel->last = &channel->first;
    buffer_init(&channel->input, limits.payload_max + MESSAGE_HEADER_SIZE + READ_SIZE);
    *out = channel;
    return 0;
}

static void close_all(const int *descriptors, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        os_file_close(descriptors[i]);
}

/* ---- sending ---- */

static void drop_first(struct channel *channel)
{
    struct outgoing *first = channel->first;
    channel->first = first->next;
    if (!channel->first)
        channel->last = &channel->first;
    channel->queued -= first->size - first->sent;
    close_all(first->descriptors, first->descriptor_count);
    mem_free(first);
}

void channel_close(struct channel *channel)
{
    if (!channel)
        return;
    while (channel->first)
        drop_first(channel);
    close_all(channel->held, channel->held_count);
    buffer_finish(&channel->input);
    os_file_close(channel->fd);
    mem_free(channel);
}

int channel_flush(struct channel *channel, struct hearth_error *err)
{
    while (channel->first) {
        struct outgoing *first = channel->first;
        ptrdiff_t sent =
            os_socket_send_with(channel->fd, first->bytes + first->sent, first->size - first->sent,
                                first->descriptors, first->descriptor_count, err);
        if (sent < 0)
            return (int)sent;
        if (sent == 0)
            return 1;
        close_all(first->descriptors, first->descriptor_count);
        first->descriptor_count = 0;
        first->sent += (size_t)sent;
        channel->queued -= (size_t)sent;
        if (first->sent == first->size)
            drop_first(channel);
    }
    return 0;
}

int channel_send(struct channel *channel, struct text message, const int *descriptors,
                 struct hearth_error *err)
{
    struct message header;
    ptrdiff_t size =
        message_decode(message.data, message.size, channel->limits.payload_max, &header, err);
    if (size < 0)
        return (int)size;
    assert((size_t)size == message.size);
    if (message.size > channel->limits.queue_max - channel->queued)
        return error_set(err, HEARTH_E_LIMIT, "%zu bytes wait for the other side to read them",
                         channel->queued);
    struct outgoing *outgoing = mem_alloc(sizeof *outgoing + message.size);
    if (!outgoing)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    *outgoing = (struct outgoing){.size = message.size};
    memcpy(outgoing->bytes, message.data, message.size);
    for (unsigned i = 0; i < header.descriptor_count; i++) {
        int copy = os_duplicate(descriptors[i], err);
        if (copy < 0) {
            close_all(outgoing->descriptors, outgoing->descriptor_count);
            mem_free(outgoing);
            return copy;
        }
        outgoing->descriptors[outgoing->descriptor_count++] = copy;
    }
    *channel->last = outgoing;
    channel->last = &outgoing->next;
    channel->queued += message.size;
    int status = channel_flush(channel, err);
    return status < 0 ? status : 0;
}

size_t channel_queued(const struct channel *channel)
{
    return channel->queued;
}

/* ---- receiving ---- */

/* Reads what there is: 1, 0 where there is nothing, or an error. */
static int read_more(struct channel *channel, struct hearth_error *err)
{
    int came[HELD_MAX];
    unsigned count = 0;
    char *place = buffer_reserve(&channel->input, READ_SIZE);
    if (!place)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    ptrdiff_t got =
        os_socket_receive_with(channel->fd, place, READ_SIZE, came, HELD_MAX, &count, err);
    if (count > HELD_MAX - channel->held_count) {
        close_all(came, count);
        return error_set(err, HEARTH_E_LIMIT, "more descriptors than messages can have");
    }
    memcpy(channel->held + channel->held_count, came, count * sizeof *came);
    channel->held_count += count;
    if (got <= 0)
        return (int)got;
    channel->input.size += (size_t)got;
    return 1;
}

/* Forgets the last message. */
static void consume(struct channel *channel)
{
    struct buffer *input = &channel->input;
    if (channel->used == 0)
        return;
    memmove(input->data, input->data + channel->used, input->size - channel->used);
    input->size -= channel->used;
    channel->used = 0;
}

int channel_receive(struct channel *channel, struct message *message,
                    int descriptors[MESSAGE_DESCRIPTORS_MAX], struct hearth_error *err)
{
    consume(channel);
    for (;;) {
        struct message next;
        ptrdiff_t size = message_decode(channel->input.data, channel->input.size,
                                        channel->limits.payload_max, &next, err);
        if (size < 0)
            return (int)size;
        if (size > 0) {
            /* they came with its first byte or not at all */
            if (next.descriptor_count > channel->held_count)
                return error_set(err, HEARTH_E_FORMAT, "a message without its descriptors");
            unsigned left = channel->held_count - next.descriptor_count;
            memcpy(descriptors, channel->held, next.descriptor_count * sizeof *descriptors);
            memmove(channel->held, channel->held + next.descriptor_count,
                    left * sizeof *descriptors);
            channel->held_count = left;
            channel->used = (size_t)size;
            *message = next;
            return 1;
        }
        int status = read_more(channel, err);
        if (status <= 0)
            return status;
    }
}
