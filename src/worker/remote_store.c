#include "worker/remote_store.h"

#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "worker/channel.h"
#include "worker/protocol.h"

struct remote_store {
    struct hearth_store base;
    int fd; /* the channel's */
    struct channel *channel;
    uint64_t timeout_ns;
    uint64_t number; /* of the last call */
    struct buffer message;
};

/* What a call gives: the reader stands at it. It lives until the next call. */
struct answer {
    struct message message;
    struct message_reader reader;
    int descriptor; /* -1: none; the caller's */
};

static struct remote_store *remote_of(struct hearth_store *store)
{
    return (struct remote_store *)store;
}

static int late(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_IO, "the store does not answer");
}

/* Waits for the socket; false where the time is over. */
static bool wait(const struct remote_store *store, bool output, uint64_t deadline)
{
    uint64_t now = os_monotonic_ns();
    return now < deadline && os_socket_wait(store->fd, output, deadline - now);
}

static int send(struct remote_store *store, uint64_t deadline, const int *descriptor,
                struct hearth_error *err)
{
    int status = channel_send(store->channel, buffer_text(&store->message), descriptor, err);
    while (!status && (status = channel_flush(store->channel, err)) == 1)
        status = wait(store, true, deadline) ? 0 : late(err);
    return status;
}

/* The answer to the last call; those to calls that were given up are passed over. */
static int receive(struct remote_store *store, uint64_t deadline, struct answer *answer,
                   struct hearth_error *err)
{
    int descriptors[MESSAGE_DESCRIPTORS_MAX];
    for (;;) {
        int status = channel_receive(store->channel, &answer->message, descriptors, err);
        if (status < 0)
            return status;
        if (status == 0) {
            if (!wait(store, false, deadline))
                return late(err);
            continue;
        }
        uint32_t count = answer->message.descriptor_count;
        bool ours = answer->message.request == store->number;
        for (uint32_t i = ours ? 1 : 0; i < count; i++)
            os_file_close(descriptors[i]);
        answer->descriptor = ours && count > 0 ? descriptors[0] : -1;
        if (ours)
            return 0;
    }
}

static int broken(struct answer *answer, struct hearth_error *err)
{
    if (answer->descriptor >= 0)
        os_file_close(answer->descriptor);
    return error_set(err, HEARTH_E_IO, "the store's answer cannot be understood");
}

/* Sends what was put into the message, if it was, and waits. */
static int call(struct remote_store *store, bool put, const int *descriptor, struct answer *answer,
                struct hearth_error *err)
{
    uint64_t deadline = os_monotonic_ns() + store->timeout_ns;
    struct message sent;
    struct text cause;
    int code;
    if (!put) {
        buffer_finish(&store->message);
        return error_set(err, HEARTH_E_LIMIT, "the conversation is too large for a message");
    }
    message_decode(store->message.data, store->message.size, WORK_PAYLOAD_MAX, &sent, NULL);
    int status = send(store, deadline, descriptor, err);
    if (!status)
        status = receive(store, deadline, answer, err);
    buffer_finish(&store->message);
    if (status)
        return status == HEARTH_E_MISSING ? error_set(err, HEARTH_E_IO, "the store is gone")
                                          : status;
    if (answer->message.type != sent.type ||
        !work_get_reply(&answer->message, &answer->reader, &code, &cause) ||
        (code != 0 && answer->descriptor >= 0))
        return broken(answer, err);
    return code ? error_set(err, code, "%.*s", TEXT_ARGS(cause)) : 0;
}

static uint64_t next_number(struct remote_store *store)
{
    buffer_init(&store->message, WORK_PAYLOAD_MAX + MESSAGE_HEADER_SIZE);
    return ++store->number;
}

/* A call that gives nothing. */
static int call_simply(struct remote_store *store, bool put, const int *descriptor,
                       struct hearth_error *err)
{
    struct answer answer = {.descriptor = -1};
    int status = call(store, put, descriptor, &answer, err);
    if (status)
        return status;
    message_get_text(&answer.reader);
    return message_was_whole(&answer.reader) && answer.descriptor < 0 ? 0 : broken(&answer, err);
}

static int remote_get(struct hearth_store *base, const char *key, struct buffer *record,
                      struct hearth_error *err)
{
    struct remote_store *store = remote_of(base);
    struct answer answer = {.descriptor = -1};
    uint64_t number = next_number(store);
    int status = call(store, work_put_text(&store->message, WORK_STORE_GET, number, text_of(key)),
                      NULL, &answer, err);
    if (status)
        return status;
    struct text got = message_get_text(&answer.reader);
    if (!message_was_whole(&answer.reader) || answer.descriptor >= 0)
        return broken(&answer, err);
    return buffer_append_text(record, got)
               ? 0
               : error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
}

static int remote_put(struct hearth_store *base, const char *key, struct text record,
                      const struct store_summary *summary, struct hearth_error *err)
{
    struct remote_store *store = remote_of(base);
    uint64_t number = next_number(store);
    return call_simply(
        store, work_put_store_record(&store->message, number, text_of(key), record, summary), NULL,
        err);
}

static int remote_remove(struct hearth_store *base, const char *key, struct hearth_error *err)
{
    struct remote_store *store = remote_of(base);
    uint64_t number = next_number(store);
    return call_simply(
        store, work_put_text(&store->message, WORK_STORE_REMOVE, number, text_of(key)), NULL, err);
}

/* The file of an answer; `spill` NULL where it is a new one. */
static int take_file(struct answer *answer, int *fd, struct store_spill *spill,
                     struct hearth_error *err)
{
    if (!work_get_store_file(&answer->message, &answer->reader, spill) || answer->descriptor < 0)
        return broken(answer, err);
    *fd = answer->descriptor;
    return 0;
}

static int remote_spill_create(struct hearth_store *base, uint64_t bytes, int *fd,
                               struct hearth_error *err)
{
    struct remote_store *store = remote_of(base);
    struct answer answer = {.descriptor = -1};
    uint64_t number = next_number(store);
    int status = call(store, work_put_u64(&store->message, WORK_STORE_SPILL_CREATE, number, bytes),
                      NULL, &answer, err);
    return status ? status : take_file(&answer, fd, NULL, err);
}

static int remote_spill_keep(struct hearth_store *base, const char *key, int fd,
                             const struct store_spill *spill, struct hearth_error *err)
{
    struct remote_store *store = remote_of(base);
    uint64_t number = next_number(store);
    int status = call_simply(
        store, work_put_store_spill(&store->message, number, text_of(key), spill), &fd, err);
    os_file_close(fd);
    return status;
}

static int remote_spill_open(struct hearth_store *base, const char *key, int *fd,
                             struct store_spill *spill, struct hearth_error *err)
{
    struct remote_store *store = remote_of(base);
    struct answer answer = {.descriptor = -1};
    uint64_t number = next_number(store);
    int status =
        call(store, work_put_text(&store->message, WORK_STORE_SPILL_OPEN, number, text_of(key)),
             NULL, &answer, err);
    return status ? status : take_file(&answer, fd, spill, err);
}

static void remote_spill_drop(struct hearth_store *base, const char *key)
{
    struct remote_store *store = remote_of(base);
    uint64_t number = next_number(store);
    call_simply(store, work_put_text(&store->message, WORK_STORE_SPILL_DROP, number, text_of(key)),
                NULL, NULL);
}

static const struct store_calls remote_calls = {
    .get = remote_get,
    .put = remote_put,
    .remove = remote_remove,
    .spill_create = remote_spill_create,
    .spill_keep = remote_spill_keep,
    .spill_open = remote_spill_open,
    .spill_drop = remote_spill_drop,
};

int remote_store_open(int fd, uint64_t timeout_ns, struct hearth_store **out,
                      struct hearth_error *err)
{
    struct remote_store *store = MEM_NEW(struct remote_store);
    struct channel *channel;
    int status =
        channel_open(fd, (struct channel_limits){WORK_PAYLOAD_MAX, WORK_QUEUE_MAX}, &channel, err);
    if (!status && !store) {
        channel_close(channel);
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a store");
    }
    if (status) {
        mem_free(store);
        return status;
    }
    *store = (struct remote_store){
        .base.calls = &remote_calls, .fd = fd, .channel = channel, .timeout_ns = timeout_ns};
    *out = &store->base;
    return 0;
}

void remote_store_close(struct hearth_store *base)
{
    struct remote_store *store = remote_of(base);
    if (!store)
        return;
    channel_close(store->channel);
    buffer_finish(&store->message);
    mem_free(store);
}
