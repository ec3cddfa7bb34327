/* A worker's store: what it was asked about it may read and write, anything else is refused, and
 * whatever it says the daemon loses nothing by it. The test is the worker. */
#define _GNU_SOURCE
#include "server/store_desk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/os.h"
#include "session/store.h"
#include "store/disk_store.h"
#include "support/folder.h"
#include "support/process.h"
#include "worker/channel.h"
#include "worker/protocol.h"

#define PATIENCE_NS UINT64_C(20000000000)

struct fixture {
    struct event_base *base;
    struct hearth_store *store;
    struct store_desk *desk;
    struct channel *worker;
    struct buffer out;
    char folder[TEST_FOLDER_MAX];
    unsigned descriptors; /* open before the test */
    uint64_t calls;
    unsigned broken;
    char cause[256];
};

static void on_broken(void *context, const char *cause)
{
    struct fixture *f = context;
    f->broken++;
    snprintf(f->cause, sizeof f->cause, "%s", cause);
}

static void open_desk(struct fixture *f)
{
    const struct channel_limits limits = {WORK_PAYLOAD_MAX, WORK_QUEUE_MAX};
    int pair[2];
    f->broken = 0;
    if (os_socket_pair(pair, NULL) || channel_open(pair[1], limits, &f->worker, NULL) ||
        store_desk_open(f->base, pair[0], f->store, on_broken, f, &f->desk, NULL))
        fail();
}

static void close_desk(struct fixture *f)
{
    store_desk_close(f->desk);
    channel_close(f->worker);
}

static int begin(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct hearth_error err;
    if (!f)
        return -1;
    f->descriptors = open_descriptors();
    test_folder_make_in_memory(f->folder);
    const struct hearth_store_options options = {.directory = f->folder};
    f->base = event_base_new();
    if (hearth_store_open(&options, &f->store, &err))
        return -1;
    buffer_init(&f->out, WORK_PAYLOAD_MAX);
    open_desk(f);
    *state = f;
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;
    close_desk(f);
    buffer_finish(&f->out);
    hearth_store_close(f->store);
    event_base_free(f->base);
    test_folder_remove(f->folder);
    bool closed = open_descriptors() == f->descriptors;
    if (!closed)
        print_error("a descriptor stayed open\n");
    free(f);
    return closed ? 0 : -1;
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, begin, end)

/* ---- the worker's side ---- */

struct answer {
    struct message message;
    struct message_reader reader;
    struct text cause;
    int code;
    int fd; /* -1: none */
};

static void run_loop(struct fixture *f)
{
    struct timeval soon = {.tv_usec = 2000};
    event_base_loopexit(f->base, &soon);
    event_base_loop(f->base, EVLOOP_ONCE);
}

static void send_out(struct fixture *f, int fd)
{
    struct hearth_error err;
    if (channel_send(f->worker, buffer_text(&f->out), &fd, &err))
        fail_msg("%s", err.text);
    f->out.size = 0;
}

/* The next answer; false where the worker was found out in its place. */
static bool receive(struct fixture *f, struct answer *answer)
{
    int came[MESSAGE_DESCRIPTORS_MAX], status = 0;
    uint64_t limit = os_monotonic_ns() + PATIENCE_NS;
    while (status == 0 && !f->broken && os_monotonic_ns() < limit) {
        run_loop(f);
        channel_flush(f->worker, NULL);
        status = channel_receive(f->worker, &answer->message, came, NULL);
    }
    if (f->broken && status == 0)
        return false;
    assert_int_equal(status, 1);
    answer->fd = answer->message.descriptor_count > 0 ? came[0] : -1;
    assert_true(answer->message.descriptor_count <= 1);
    assert_true(work_get_reply(&answer->message, &answer->reader, &answer->code, &answer->cause));
    return true;
}

static void exchange(struct fixture *f, int fd, enum work_type type, struct answer *answer)
{
    send_out(f, fd);
    assert_true(receive(f, answer));
    assert_int_equal(answer->message.type, type);
    assert_int_equal(answer->message.request, f->calls);
}

static int with_key(struct fixture *f, enum work_type type, struct text key, struct answer *answer)
{
    work_put_text(&f->out, type, ++f->calls, key);
    exchange(f, -1, type, answer);
    return answer->code;
}

static int put(struct fixture *f, const char *key, const char *record)
{
    struct answer answer;
    const struct store_summary summary = {.model = "0123456789abcdef0123456789abcdef",
                                          .model_name = "m",
                                          .messages = 2,
                                          .used_unix = INT64_MAX};
    assert_true(
        work_put_store_record(&f->out, ++f->calls, text_of(key), text_of(record), &summary));
    exchange(f, -1, WORK_STORE_PUT, &answer);
    return answer.code;
}

static int create(struct fixture *f, uint64_t bytes, int *fd)
{
    struct answer answer;
    work_put_u64(&f->out, WORK_STORE_SPILL_CREATE, ++f->calls, bytes);
    exchange(f, -1, WORK_STORE_SPILL_CREATE, &answer);
    if (answer.code == 0)
        assert_true(work_get_store_file(&answer.message, &answer.reader, NULL));
    *fd = answer.fd;
    return answer.code;
}

static int keep(struct fixture *f, const char *key, int fd, uint64_t bytes)
{
    struct answer answer;
    struct store_spill spill = {.identity = "engine", .tokens = 3, .bytes = bytes};
    assert_true(work_put_store_spill(&f->out, ++f->calls, text_of(key), &spill));
    exchange(f, fd, WORK_STORE_SPILL_KEEP, &answer);
    return answer.code;
}

static void allow(struct fixture *f, const char *key)
{
    struct hearth_error err;
    assert_int_equal(store_desk_allow(f->desk, text_of(key), &err), 0);
}

/* ---- records ---- */

static void serves_what_was_asked_about(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    allow(f, "a");
    allow(f, "a");
    allow(f, "b");
    assert_int_equal(with_key(f, WORK_STORE_GET, TEXT("a"), &answer), HEARTH_E_MISSING);
    assert_int_equal(put(f, "a", "one"), 0);
    assert_int_equal(put(f, "a", "two"), 0);
    assert_int_equal(with_key(f, WORK_STORE_GET, TEXT("a"), &answer), 0);
    assert_true(text_equal(message_get_text(&answer.reader), TEXT("two")));
    assert_int_equal(with_key(f, WORK_STORE_REMOVE, TEXT("a"), &answer), 0);
    assert_int_equal(with_key(f, WORK_STORE_REMOVE, TEXT("a"), &answer), HEARTH_E_MISSING);
    assert_int_equal(with_key(f, WORK_STORE_SPILL_OPEN, TEXT("b"), &answer), HEARTH_E_MISSING);
    assert_int_equal(with_key(f, WORK_STORE_SPILL_DROP, TEXT("b"), &answer), 0);
    assert_int_equal(f->broken, 0);
}

static bool see_entry(void *context, const struct hearth_store_entry *entry)
{
    unsigned *count = context;
    ++*count;
    assert_true(entry->used_unix <= os_unix_seconds());
    return true;
}

/* There is one of that key and one that is not, and the answers are the same. */
static void refuses_the_rest(void **state)
{
    static const enum work_type types[] = {WORK_STORE_GET, WORK_STORE_REMOVE, WORK_STORE_SPILL_OPEN,
                                           WORK_STORE_SPILL_DROP};
    struct fixture *f = *state;
    struct answer answer;
    unsigned count = 0;
    int fd;
    allow(f, "mine");
    allow(f, "other");
    allow(f, "mind");
    assert_int_equal(put(f, "other", "secret"), 0);
    store_desk_forbid(f->desk, TEXT("other"));
    store_desk_forbid(f->desk, TEXT("other"));
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char cause[128];
        assert_int_equal(with_key(f, types[i], TEXT("other"), &answer), HEARTH_E_ARGUMENT);
        snprintf(cause, sizeof cause, "%.*s", TEXT_ARGS(answer.cause));
        assert_int_equal(with_key(f, types[i], TEXT("nobody"), &answer), HEARTH_E_ARGUMENT);
        assert_true(text_equal(answer.cause, text_of(cause)));
    }
    assert_int_equal(put(f, "other", "mine"), HEARTH_E_ARGUMENT);
    assert_int_equal(create(f, 10, &fd), 0);
    assert_int_equal(keep(f, "other", fd, 0), HEARTH_E_ARGUMENT);
    os_file_close(fd);
    assert_int_equal(hearth_store_list(f->store, see_entry, &count, NULL), 0);
    assert_int_equal(count, 1);
    allow(f, "other");
    assert_int_equal(with_key(f, WORK_STORE_GET, TEXT("other"), &answer), 0);
    assert_true(text_equal(message_get_text(&answer.reader), TEXT("secret")));
    assert_int_equal(put(f, "mine", "x"), 0);
}

static void knows_many_keys(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    char key[32];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key %u", i * 7919 % 1000);
        allow(f, key);
    }
    for (unsigned i = 0; i < 1000; i += 2) {
        snprintf(key, sizeof key, "key %u", i);
        store_desk_forbid(f->desk, text_of(key));
    }
    for (unsigned i = 0; i < 1000; i += 37) {
        snprintf(key, sizeof key, "key %u", i);
        assert_int_equal(with_key(f, WORK_STORE_GET, text_of(key), &answer),
                         i % 2 ? HEARTH_E_MISSING : HEARTH_E_ARGUMENT);
    }
}

static void keys_are_keys(void **state)
{
    struct fixture *f = *state;
    struct hearth_error err;
    char large[258];
    memset(large, 'k', sizeof large);
    const struct text keys[] = {
        TEXT(""), {large, 257}, TEXT("a\0b"), TEXT("\xff"), TEXT("\xed\xa0\x80")};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(store_desk_allow(f->desk, keys[i], &err), HEARTH_E_ARGUMENT);
    assert_int_equal(store_desk_allow(f->desk, (struct text){large, 256}, &err), 0);
    store_desk_forbid(f->desk, TEXT("never allowed"));
}

/* ---- files ---- */

static void write_file(int fd, const char *bytes)
{
    assert_int_equal(write(fd, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
}

static void keeps_a_file(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    struct store_spill spill;
    char bytes[8] = "";
    int fd;
    allow(f, "a");
    assert_int_equal(put(f, "a", "record"), 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(create(f, 100, &fd), 0);
        write_file(fd, round ? "second" : "first");
        assert_int_equal(keep(f, "a", fd, round ? 6 : 5), 0);
        os_file_close(fd);
        if (round)
            disk_store_settle(f->store);
        assert_int_equal(with_key(f, WORK_STORE_SPILL_OPEN, TEXT("a"), &answer), 0);
        assert_true(work_get_store_file(&answer.message, &answer.reader, &spill));
        assert_int_equal(spill.tokens, 3);
        assert_int_equal(pread(answer.fd, bytes, sizeof bytes - 1, 0), round ? 6 : 5);
        assert_string_equal(bytes, round ? "second" : "first");
        /* the file of the store is not the worker's to change */
        if (round)
            assert_true(pwrite(answer.fd, "x", 1, 0) < 0);
        os_file_close(answer.fd);
    }
    assert_int_equal(with_key(f, WORK_STORE_SPILL_DROP, TEXT("a"), &answer), 0);
    assert_int_equal(with_key(f, WORK_STORE_SPILL_OPEN, TEXT("a"), &answer), HEARTH_E_MISSING);
}

static void keeps_only_what_it_made(void **state)
{
    struct fixture *f = *state;
    struct answer answer;
    char path[TEST_FOLDER_MAX + 8];
    int first, second, ends[2];
    allow(f, "a");
    assert_int_equal(put(f, "a", "record"), 0);
    snprintf(path, sizeof path, "%s/mine", f->folder);
    int own = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(own >= 0 && pipe2(ends, O_CLOEXEC) == 0);
    assert_int_equal(keep(f, "a", own, 0), HEARTH_E_ARGUMENT);
    assert_int_equal(create(f, 100, &first), 0);
    assert_int_equal(keep(f, "a", own, 0), HEARTH_E_ARGUMENT);
    assert_int_equal(keep(f, "a", ends[0], 0), HEARTH_E_ARGUMENT);
    assert_int_equal(create(f, 100, &second), 0);
    assert_int_equal(keep(f, "a", first, 0), HEARTH_E_ARGUMENT);
    write_file(second, "bytes");
    assert_int_equal(keep(f, "a", second, 4), HEARTH_E_IO);       /* it is longer */
    assert_int_equal(keep(f, "a", second, 5), HEARTH_E_ARGUMENT); /* one try */
    os_file_close(first);
    os_file_close(second);
    assert_int_equal(create(f, 3, &first), 0);
    write_file(first, "bytes");
    assert_int_equal(keep(f, "a", first, 5), HEARTH_E_LIMIT); /* more than was asked for */
    os_file_close(first);
    assert_true(create(f, UINT64_MAX, &first) < 0);
    assert_int_equal(create(f, 0, &first), 0);
    assert_int_equal(keep(f, "a", first, UINT64_MAX), HEARTH_E_LIMIT);
    os_file_close(first);
    close(own);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(with_key(f, WORK_STORE_SPILL_OPEN, TEXT("a"), &answer), HEARTH_E_MISSING);
    assert_int_equal(f->broken, 0);
}

/* Those of conversations without a key are never given back. */
static void holds_one_file_at_most(void **state)
{
    struct fixture *f = *state;
    unsigned before = open_descriptors();
    for (int i = 0; i < 50; i++) {
        int fd;
        assert_int_equal(create(f, 4096, &fd), 0);
        os_file_close(fd);
    }
    assert_true(open_descriptors() <= before + 1);
    assert_true(disk_store_bytes(f->store) <= 4096);
}

/* ---- workers that may not be believed ---- */

static void put_message(struct fixture *f, uint16_t type, struct text payload, uint32_t descriptors)
{
    size_t at = message_begin(&f->out, type, 1, descriptors);
    buffer_append_text(&f->out, payload);
    assert_true(message_end(&f->out, at, WORK_PAYLOAD_MAX));
}

static void assert_broken(struct fixture *f)
{
    struct answer answer;
    assert_false(receive(f, &answer));
    assert_int_equal(f->broken, 1);
    assert_true(strlen(f->cause) > 0);
    /* and nothing more is answered */
    work_put_text(&f->out, WORK_STORE_GET, 1, TEXT("a"));
    channel_send(f->worker, buffer_text(&f->out), NULL, NULL);
    f->out.size = 0;
    run_loop(f);
    assert_int_equal(f->broken, 1);
}

#define BREAKS(name, ...)                                                                          \
    static void name(void **state)                                                                 \
    {                                                                                              \
        struct fixture *f = *state;                                                                \
        allow(f, "a");                                                                             \
        __VA_ARGS__                                                                                \
        assert_broken(f);                                                                          \
    }

BREAKS(unknown_type, put_message(f, WORK_STORE_SPILL_DROP + 1, TEXT(""), 0); send_out(f, -1);)
BREAKS(type_of_the_other_socket, work_put_u64(&f->out, WORK_PONG, 0, 1); send_out(f, -1);)
BREAKS(key_with_nul, work_put_text(&f->out, WORK_STORE_GET, 1, TEXT("a\0")); send_out(f, -1);)
BREAKS(key_that_is_empty, work_put_text(&f->out, WORK_STORE_GET, 1, TEXT("")); send_out(f, -1);)
BREAKS(key_cut, put_message(f, WORK_STORE_GET, TEXT("\5\0\0\0abc"), 0); send_out(f, -1);)
BREAKS(something_behind, put_message(f, WORK_STORE_GET, TEXT("\1\0\0\0ab"), 0); send_out(f, -1);)
BREAKS(record_cut, put_message(f, WORK_STORE_PUT, TEXT("\1\0\0\0a"), 0); send_out(f, -1);)
BREAKS(spill_cut, put_message(f, WORK_STORE_SPILL_KEEP, TEXT("\1\0\0\0a"), 1); send_out(f, 0);)
BREAKS(bytes_cut, put_message(f, WORK_STORE_SPILL_CREATE, TEXT("1234567"), 0); send_out(f, -1);)
BREAKS(descriptor_too_many, put_message(f, WORK_STORE_GET, TEXT("\1\0\0\0a"), 1); send_out(f, 0);)
BREAKS(descriptor_missing, {
    const struct store_spill spill = {.identity = "e"};
    work_put_store_spill(&f->out, 1, TEXT("a"), &spill);
    f->out.data[12] = 0; /* the count in the header */
    send_out(f, -1);
})

static void garbage(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    store_desk_close(f->desk);
    assert_int_equal(os_socket_pair(pair, NULL), 0);
    assert_int_equal(store_desk_open(f->base, pair[0], f->store, on_broken, f, &f->desk, NULL), 0);
    os_socket_send(pair[1], "GET / HTTP/1.1\r\n", 16);
    for (int i = 0; i < 10; i++)
        run_loop(f);
    assert_int_equal(f->broken, 1);
    os_file_close(pair[1]);
}

/* One that asks and does not read costs no more than the answers that the sockets hold. */
static void asks_and_does_not_read(void **state)
{
    enum { COUNT = 200, SIZE = 1 << 18 };
    struct fixture *f = *state;
    struct answer answer;
    char *record = malloc(SIZE + 1);
    assert_non_null(record);
    memset(record, 'r', SIZE);
    record[SIZE] = '\0';
    allow(f, "a");
    assert_int_equal(put(f, "a", record), 0);
    for (int i = 0; i < COUNT; i++) {
        work_put_text(&f->out, WORK_STORE_GET, ++f->calls, TEXT("a"));
        send_out(f, -1);
    }
    struct os_memory before, after;
    assert_true(os_process_memory(&before));
    for (int i = 0; i < 20; i++)
        run_loop(f);
    assert_true(os_process_memory(&after));
    assert_true(after.private_bytes < before.private_bytes + 8 * SIZE);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_true(receive(f, &answer));
        assert_int_equal(answer.message.request, f->calls - COUNT + 1 + i);
        assert_int_equal(message_get_text(&answer.reader).size, SIZE);
    }
    free(record);
}

/* Each allocation fails once: an answer, a refusal, or the end of the worker. */
static void survives_without_memory(void **state)
{
    struct fixture *f = *state;
    unsigned answered = 0, refused = 0, ended = 0;
    allow(f, "a");
    assert_int_equal(put(f, "a", "record"), 0);
    for (unsigned long n = 1; n < 30; n++) {
        struct answer answer;
        work_put_text(&f->out, WORK_STORE_GET, ++f->calls, TEXT("a"));
        send_out(f, -1);
        mem_fail_nth(n);
        for (int i = 0; i < 3; i++)
            run_loop(f);
        mem_fail_nth(0);
        if (receive(f, &answer)) {
            answered += answer.code == 0;
            refused += answer.code != 0;
            continue;
        }
        ended++;
        close_desk(f);
        open_desk(f);
        allow(f, "a");
    }
    assert_true(answered > 10 && ended > 0 && refused > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(serves_what_was_asked_about),
        WITH(refuses_the_rest),
        WITH(knows_many_keys),
        WITH(keys_are_keys),
        WITH(keeps_a_file),
        WITH(keeps_only_what_it_made),
        WITH(holds_one_file_at_most),
        WITH(unknown_type),
        WITH(type_of_the_other_socket),
        WITH(key_with_nul),
        WITH(key_that_is_empty),
        WITH(key_cut),
        WITH(something_behind),
        WITH(record_cut),
        WITH(spill_cut),
        WITH(bytes_cut),
        WITH(descriptor_too_many),
        WITH(descriptor_missing),
        WITH(garbage),
        WITH(asks_and_does_not_read),
        WITH(survives_without_memory),
    };
    os_ignore_broken_pipes();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
