#include "worker/inbox.h"

#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "worker/channel.h"
#include "worker/protocol.h"

#define HELD_MAX WORK_QUEUE_MAX /* bytes that wait to be taken: then nothing more is read */
#define ROOM_WAIT_NS UINT64_C(10000000)

struct letters {
    struct letter *first, **last;
};

struct inbox {
    int fd; /* the channel's */
    struct channel *channel;
    struct inbox_listener listener;
    struct os_thread *thread;
    struct os_mutex *mutex; /* of what follows, but `count` */
    struct letters letters, pings;
    size_t held;
    bool closing;
    _Atomic uint32_t count; /* of all that ever came */
};

/* ---- the thread ---- */

static struct letter *copy_message(const struct message *message)
{
    struct letter *letter = mem_alloc(sizeof *letter + message->payload.size);
    if (!letter)
        return NULL;
    *letter = (struct letter){.message = *message, .arrived_ns = os_monotonic_ns()};
    char *payload = (char *)(letter + 1);
    if (message->payload.size)
        memcpy(payload, message->payload.data, message->payload.size);
    letter->message.payload.data = payload;
    return letter;
}

static void add(struct letters *letters, struct letter *letter)
{
    *letters->last = letter;
    letters->last = &letter->next;
}

static int keep(struct inbox *inbox, const struct message *message, struct hearth_error *err)
{
    struct letter *letter = copy_message(message);
    if (!letter)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    os_mutex_lock(inbox->mutex);
    add(message->type == WORK_PING ? &inbox->pings : &inbox->letters, letter);
    inbox->held += sizeof *letter + message->payload.size;
    os_mutex_unlock(inbox->mutex);
    atomic_fetch_add(&inbox->count, 1);
    os_wake(&inbox->count, 1);
    if (message->type == WORK_CANCEL)
        inbox->listener.on_cancel(inbox->listener.context, message->request);
    return 0;
}

/* Whether it may read on, once there is room. */
static bool wait_for_room(struct inbox *inbox)
{
    for (;;) {
        os_mutex_lock(inbox->mutex);
        bool full = inbox->held > HELD_MAX, closing = inbox->closing;
        os_mutex_unlock(inbox->mutex);
        if (!full || closing)
            return !closing;
        uint32_t count = atomic_load(&inbox->count);
        os_wait_for(&inbox->count, count, ROOM_WAIT_NS);
    }
}

static void read_all(void *context)
{
    struct inbox *inbox = context;
    struct hearth_error err = {0};
    int status = 0;
    while (status >= 0 && wait_for_room(inbox)) {
        struct message message;
        int descriptors[MESSAGE_DESCRIPTORS_MAX];
        status = channel_receive(inbox->channel, &message, descriptors, &err);
        if (status == 0)
            os_socket_wait(inbox->fd, false, UINT64_MAX);
        if (status <= 0)
            continue;
        for (uint32_t i = 0; i < message.descriptor_count; i++)
            os_file_close(descriptors[i]);
        status = keep(inbox, &message, &err);
    }
    os_mutex_lock(inbox->mutex);
    bool closing = inbox->closing;
    os_mutex_unlock(inbox->mutex);
    if (status < 0 && !closing)
        inbox->listener.on_end(inbox->listener.context, &err);
}

/* ---- for others ---- */

static void free_all(struct letters *letters)
{
    while (letters->first) {
        struct letter *first = letters->first;
        letters->first = first->next;
        letter_free(first);
    }
}

int inbox_open(struct channel *channel, int fd, const struct inbox_listener *listener,
               struct inbox **out, struct hearth_error *err)
{
    struct inbox *inbox = MEM_NEW(struct inbox);
    if (!inbox) {
        channel_close(channel);
        return error_set(err, HEARTH_E_MEMORY, "no memory for messages");
    }
    inbox->fd = fd;
    inbox->channel = channel;
    inbox->listener = *listener;
    inbox->letters.last = &inbox->letters.first;
    inbox->pings.last = &inbox->pings.first;
    atomic_init(&inbox->count, 0);
    inbox->mutex = os_mutex_create();
    if (inbox->mutex)
        inbox->thread = os_thread_start(read_all, inbox);
    if (!inbox->thread) {
        if (inbox->mutex)
            os_mutex_destroy(inbox->mutex);
        channel_close(channel);
        mem_free(inbox);
        return error_set(err, HEARTH_E_MEMORY, "no thread for messages");
    }
    *out = inbox;
    return 0;
}

void inbox_close(struct inbox *inbox)
{
    if (!inbox)
        return;
    os_mutex_lock(inbox->mutex);
    inbox->closing = true;
    os_mutex_unlock(inbox->mutex);
    os_socket_end_input(inbox->fd);
    os_thread_join(inbox->thread);
    os_mutex_destroy(inbox->mutex);
    channel_close(inbox->channel);
    free_all(&inbox->letters);
    free_all(&inbox->pings);
    mem_free(inbox);
}

static struct letter *take(struct inbox *inbox, struct letters *letters)
{
    os_mutex_lock(inbox->mutex);
    struct letter *first = letters->first;
    if (first) {
        letters->first = first->next;
        if (!letters->first)
            letters->last = &letters->first;
        inbox->held -= sizeof *first + first->message.payload.size;
    }
    os_mutex_unlock(inbox->mutex);
    return first;
}

struct letter *inbox_take(struct inbox *inbox)
{
    return take(inbox, &inbox->letters);
}

struct letter *inbox_take_ping(struct inbox *inbox)
{
    return take(inbox, &inbox->pings);
}

void letter_free(struct letter *letter)
{
    mem_free(letter);
}

void inbox_wait(struct inbox *inbox, uint64_t ns)
{
    uint32_t count = atomic_load(&inbox->count); /* before the lists: what comes behind it wakes */
    os_mutex_lock(inbox->mutex);
    bool any = inbox->letters.first || inbox->pings.first;
    os_mutex_unlock(inbox->mutex);
    if (!any && ns > 0)
        os_wait_for(&inbox->count, count, ns);
}
