#include "server/store_desk.h"

#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"
#include "session/store.h"
#include "worker/channel.h"
#include "worker/protocol.h"

struct store_desk {
    struct hearth_store *store;
    struct channel *channel;
    struct event *readable, *writable;
    void (*on_broken)(void *context, const char *cause);
    void *context;
    bool broken;
    char **keys; /* sorted: whose conversations it may reach */
    size_t key_count, key_capacity;
    /* The file that was made last. The worker knows it by another descriptor, and the store takes
     * only its own back. Whoever keeps a file does so before he wants another one; one that is not
     * kept belongs to a conversation without a key, and lives as long as the worker holds it. */
    int made; /* -1: none */
    struct os_file_id made_id;
    struct buffer answer;
};

/* ---- rights ---- */

/* The place of a key, or where it would be. */
static size_t find_key(const struct store_desk *desk, struct text key, bool *found)
{
    size_t low = 0, high = desk->key_count;
    *found = false;
    while (low < high && !*found) {
        size_t middle = low + (high - low) / 2;
        int order = text_compare(key, text_of(desk->keys[middle]));
        *found = order == 0;
        if (order <= 0)
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}

static bool may_reach(const struct store_desk *desk, const char *key)
{
    bool found;
    find_key(desk, text_of(key), &found);
    return found;
}

static bool grow_keys(struct store_desk *desk)
{
    if (desk->key_count < desk->key_capacity)
        return true;
    size_t capacity = desk->key_capacity ? desk->key_capacity * 2 : 16;
    char **keys = mem_realloc_array(desk->keys, capacity, sizeof *keys);
    if (!keys)
        return false;
    desk->keys = keys;
    desk->key_capacity = capacity;
    return true;
}

int store_desk_allow(struct store_desk *desk, struct text key, struct hearth_error *err)
{
    bool found;
    if (!desk)
        return 0;
    char name[WORK_KEY_SIZE];
    if (!work_copy_key(key, name))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "the key of a conversation is text of 1 to %d bytes", WORK_KEY_SIZE - 1);
    size_t at = find_key(desk, key, &found);
    if (found)
        return 0;
    char *copy = mem_alloc(key.size + 1);
    if (!copy || !grow_keys(desk)) {
        mem_free(copy);
        return error_set(err, HEARTH_E_MEMORY, "no memory for the key of a conversation");
    }
    memcpy(copy, name, key.size + 1);
    memmove(desk->keys + at + 1, desk->keys + at, (desk->key_count - at) * sizeof *desk->keys);
    desk->keys[at] = copy;
    desk->key_count++;
    return 0;
}

void store_desk_forbid(struct store_desk *desk, struct text key)
{
    bool found = false;
    size_t at = desk ? find_key(desk, key, &found) : 0;
    if (!found)
        return;
    mem_free(desk->keys[at]);
    desk->key_count--;
    memmove(desk->keys + at, desk->keys + at + 1, (desk->key_count - at) * sizeof *desk->keys);
}

/* ---- the file that was made last ---- */

static void forget_made(struct store_desk *desk)
{
    if (desk->made >= 0)
        os_file_close(desk->made);
    desk->made = -1;
}

static bool is_made(const struct store_desk *desk, int fd)
{
    struct os_file_id id;
    return desk->made >= 0 && os_file_id(fd, &id) && id.device == desk->made_id.device &&
           id.inode == desk->made_id.inode;
}

/* ---- calls ----
 * Each writes its answer into desk->answer where it succeeds; *descriptor is sent with it, and
 * closed then. */

struct desk_call {
    struct store_desk *desk;
    const struct message *message;
    struct hearth_store *store;
    int given;      /* the descriptor that came with it; -1: none, or taken */
    int descriptor; /* -1: none */
    bool malformed;
    char key[WORK_KEY_SIZE];
};

static int malformed(struct desk_call *call)
{
    call->malformed = true;
    return HEARTH_E_FORMAT;
}

/* The sentence does not say whether there is such a conversation. */
static int check_right(const struct desk_call *call, struct hearth_error *err)
{
    if (may_reach(call->desk, call->key))
        return 0;
    return error_set(err, HEARTH_E_ARGUMENT, "a worker was not asked about this conversation");
}

static int take_key(struct desk_call *call, struct hearth_error *err)
{
    return work_get_key(call->message, call->key) ? check_right(call, err) : malformed(call);
}

static int put_answer(struct desk_call *call, int code, struct text text, struct hearth_error *err)
{
    const struct message *message = call->message;
    struct buffer *answer = &call->desk->answer;
    if (work_put_reply(answer, (enum work_type)message->type, message->request, code, text))
        return 0;
    return error_set(err, answer->failed ? HEARTH_E_MEMORY : HEARTH_E_LIMIT,
                     "a record of %zu bytes cannot be sent", text.size);
}

static int put_file(struct desk_call *call, const struct store_spill *spill,
                    struct hearth_error *err)
{
    const struct message *message = call->message;
    if (work_put_store_file(&call->desk->answer, (enum work_type)message->type, message->request,
                            spill))
        return 0;
    return error_set(err, HEARTH_E_MEMORY, "no memory for an answer");
}

static int call_get(struct desk_call *call, struct hearth_error *err)
{
    struct buffer record;
    int status = take_key(call, err);
    if (status)
        return status;
    buffer_init(&record, WORK_PAYLOAD_MAX);
    status = call->store->calls->get(call->store, call->key, &record, err);
    if (!status)
        status = put_answer(call, 0, buffer_text(&record), err);
    buffer_finish(&record);
    return status;
}

static int call_put(struct desk_call *call, struct hearth_error *err)
{
    struct text key, record;
    struct store_summary summary;
    char model[HEARTH_IDENTITY_SIZE], name[HEARTH_STORE_NAME_SIZE];
    if (!work_get_store_record(call->message, &key, &record, &summary, model, name) ||
        !work_copy_key(key, call->key) || !utf8_valid(model, strlen(model)) ||
        !utf8_valid(name, strlen(name)))
        return malformed(call);
    /* a time to come would hold its place in lists for ever */
    int64_t now = os_unix_seconds();
    if (summary.used_unix < 0 || summary.used_unix > now)
        summary.used_unix = now;
    int status = check_right(call, err);
    if (!status)
        status = call->store->calls->put(call->store, call->key, record, &summary, err);
    return status ? status : put_answer(call, 0, TEXT(""), err);
}

static int call_remove(struct desk_call *call, struct hearth_error *err)
{
    int status = take_key(call, err);
    if (!status)
        status = call->store->calls->remove(call->store, call->key, err);
    return status ? status : put_answer(call, 0, TEXT(""), err);
}

static int call_spill_create(struct desk_call *call, struct hearth_error *err)
{
    struct store_desk *desk = call->desk;
    uint64_t bytes;
    int fd = -1;
    if (!work_get_u64(call->message, &bytes))
        return malformed(call);
    forget_made(desk);
    int status = call->store->calls->spill_create(call->store, bytes, &fd, err);
    if (status)
        return status;
    desk->made = fd;
    if (!os_file_id(fd, &desk->made_id))
        status = error_set(err, HEARTH_E_IO, "the file that was made is not there");
    if (!status)
        call->descriptor = os_file_duplicate(fd, err);
    if (!status && call->descriptor < 0)
        status = call->descriptor;
    if (!status)
        status = put_file(call, NULL, err);
    if (status)
        forget_made(desk);
    return status;
}

static int call_spill_keep(struct desk_call *call, struct hearth_error *err)
{
    struct store_desk *desk = call->desk;
    struct text key;
    struct store_spill spill;
    if (!work_get_store_spill(call->message, &key, &spill) || !work_copy_key(key, call->key) ||
        !utf8_valid(spill.identity, strlen(spill.identity)))
        return malformed(call);
    int status = check_right(call, err);
    if (!status && !is_made(desk, call->given))
        status = error_set(err, HEARTH_E_ARGUMENT,
                           "only the file that was made last can be kept of a conversation");
    if (status)
        return status;
    int made = desk->made;
    desk->made = -1;
    status = call->store->calls->spill_keep(call->store, call->key, made, &spill, err);
    return status ? status : put_answer(call, 0, TEXT(""), err);
}

static int call_spill_open(struct desk_call *call, struct hearth_error *err)
{
    struct store_spill spill;
    int status = take_key(call, err);
    if (!status)
        status =
            call->store->calls->spill_open(call->store, call->key, &call->descriptor, &spill, err);
    return status ? status : put_file(call, &spill, err);
}

static int call_spill_drop(struct desk_call *call, struct hearth_error *err)
{
    int status = take_key(call, err);
    if (status)
        return status;
    call->store->calls->spill_drop(call->store, call->key);
    return put_answer(call, 0, TEXT(""), err);
}

static int do_call(struct desk_call *call, struct hearth_error *err)
{
    static int (*const calls[])(struct desk_call *, struct hearth_error *) = {
        call_get,        call_put,        call_remove,     call_spill_create,
        call_spill_keep, call_spill_open, call_spill_drop,
    };
    unsigned which = (unsigned)call->message->type - WORK_STORE_GET;
    bool keeps = call->message->type == WORK_STORE_SPILL_KEEP;
    if (which >= sizeof calls / sizeof *calls ||
        call->message->descriptor_count != (keeps ? 1u : 0u))
        return malformed(call);
    return calls[which](call, err);
}

/* ---- the socket ---- */

static void break_off(struct store_desk *desk, const char *cause)
{
    event_del(desk->readable);
    event_del(desk->writable);
    desk->broken = true;
    desk->on_broken(desk->context, cause);
}

/* Nothing is read while an answer waits: the worker has one call at a time. */
static void send_waiting(struct store_desk *desk)
{
    struct hearth_error err;
    int status = channel_flush(desk->channel, &err);
    if (status < 0) {
        event_del(desk->readable); /* it has closed: it ends */
        event_del(desk->writable);
    } else if (status > 0) {
        event_del(desk->readable);
        event_add(desk->writable, NULL);
    } else {
        event_add(desk->readable, NULL);
        event_active(desk->readable, EV_READ, 0); /* more may have been received already */
    }
}

static void send_answer(struct store_desk *desk, int descriptor)
{
    struct hearth_error err;
    int status = channel_send(desk->channel, buffer_text(&desk->answer), &descriptor, &err);
    if (status && status != HEARTH_E_MISSING && status != HEARTH_E_IO) {
        break_off(desk, err.text);
        return;
    }
    send_waiting(desk);
}

static void answer(struct store_desk *desk, const struct message *message, int given)
{
    struct desk_call call = {
        .desk = desk, .message = message, .store = desk->store, .given = given, .descriptor = -1};
    struct hearth_error err = {0};
    buffer_init(&desk->answer, WORK_PAYLOAD_MAX + MESSAGE_HEADER_SIZE);
    int status = do_call(&call, &err);
    if (given >= 0)
        os_file_close(given);
    if (status && !call.malformed) {
        desk->answer.size = 0;
        desk->answer.failed = false;
        if (put_answer(&call, status, text_of(err.text), NULL))
            call.malformed = true; /* no memory for a sentence: it would wait for ever */
    }
    if (call.malformed)
        break_off(desk, "it asked the store for what there is not");
    else
        send_answer(desk, call.descriptor);
    if (call.descriptor >= 0)
        os_file_close(call.descriptor);
    buffer_finish(&desk->answer);
}

/* One call, then others have their turn: it may have waited for the disk. */
static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct store_desk *desk = context;
    struct message message;
    struct hearth_error err;
    int came[MESSAGE_DESCRIPTORS_MAX];
    (void)fd, (void)what;
    if (desk->broken)
        return;
    int status = channel_receive(desk->channel, &message, came, &err);
    if (status == HEARTH_E_MISSING)
        event_del(desk->readable);
    else if (status < 0)
        break_off(desk, err.text);
    if (status != 1)
        return;
    for (uint32_t i = 1; i < message.descriptor_count; i++)
        os_file_close(came[i]);
    answer(desk, &message, message.descriptor_count > 0 ? came[0] : -1);
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    send_waiting(context);
}

int store_desk_open(struct event_base *base, int fd, struct hearth_store *store,
                    void (*on_broken)(void *context, const char *cause), void *context,
                    struct store_desk **out, struct hearth_error *err)
{
    struct store_desk *desk = MEM_NEW(struct store_desk);
    if (!desk) {
        os_file_close(fd);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker's store");
    }
    *desk =
        (struct store_desk){.store = store, .on_broken = on_broken, .context = context, .made = -1};
    int status = channel_open(fd, (struct channel_limits){WORK_PAYLOAD_MAX, WORK_QUEUE_MAX},
                              &desk->channel, err);
    if (!status) {
        desk->readable = event_new(base, fd, EV_READ | EV_PERSIST, on_readable, desk);
        desk->writable = event_new(base, fd, EV_WRITE, on_writable, desk);
        if (!desk->readable || !desk->writable || event_add(desk->readable, NULL))
            status = error_set(err, HEARTH_E_MEMORY, "no memory for a worker's store");
    }
    if (status)
        store_desk_close(desk);
    else
        *out = desk;
    return status;
}

void store_desk_close(struct store_desk *desk)
{
    if (!desk)
        return;
    if (desk->readable)
        event_free(desk->readable);
    if (desk->writable)
        event_free(desk->writable);
    channel_close(desk->channel);
    forget_made(desk);
    for (size_t i = 0; i < desk->key_count; i++)
        mem_free(desk->keys[i]);
    mem_free(desk->keys);
    mem_free(desk);
}
