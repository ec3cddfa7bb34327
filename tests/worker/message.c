/* Messages and channels: fields come back, torn and hostile bytes are refused or waited for, and
 * descriptors travel and do not leak. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/os.h"
#include "support/process.h"
#include "worker/channel.h"

#define PAYLOAD_MAX 100000

static const struct channel_limits limits = {PAYLOAD_MAX, 300000};

/* A message with one field of each kind. */
static void write_sample(struct buffer *out, uint64_t request, uint32_t descriptors)
{
    size_t begin = message_begin(out, 7, request, descriptors);
    message_put_u32(out, UINT32_MAX);
    message_put_u64(out, UINT64_C(0x0123456789abcdef));
    message_put_f64(out, -0.1);
    message_put_text(out, TEXT("h\0llo"));
    message_put_text(out, TEXT(""));
    message_put_u32(out, 2);
    message_put_u32(out, 10);
    message_put_u32(out, 20);
    assert_true(message_end(out, begin, PAYLOAD_MAX));
}

/* Reads it; whether all of it was there. */
static bool read_sample(const struct message *message)
{
    struct message_reader reader = message_read(message);
    bool same = message_get_u32(&reader) == UINT32_MAX;
    same &= message_get_u64(&reader) == UINT64_C(0x0123456789abcdef);
    same &= message_get_f64(&reader) == -0.1;
    same &= text_equal(message_get_text(&reader), TEXT("h\0llo"));
    same &= message_get_text(&reader).size == 0;
    uint32_t count = message_get_count(&reader, 4), sum = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += message_get_u32(&reader);
    same &= sum == 30;
    if (message_was_whole(&reader))
        assert_true(same);
    return message_was_whole(&reader);
}

static void what_is_written_is_read(void **state)
{
    struct buffer bytes;
    struct message message;
    (void)state;
    buffer_init(&bytes, 1000);
    write_sample(&bytes, 1, 0);
    size_t one = bytes.size;
    write_sample(&bytes, UINT64_MAX, 4);
    assert_int_equal(message_decode(bytes.data, bytes.size, PAYLOAD_MAX, &message, NULL), one);
    assert_int_equal(message.request, 1);
    assert_int_equal(message.descriptor_count, 0);
    assert_true(read_sample(&message));
    assert_int_equal(message_decode(bytes.data + one, one, PAYLOAD_MAX, &message, NULL), one);
    assert_true(message.request == UINT64_MAX);
    assert_int_equal(message.type, 7);
    assert_int_equal(message.descriptor_count, 4);
    assert_true(read_sample(&message));
    buffer_finish(&bytes);
}

static void a_torn_message_is_waited_for_and_a_short_one_fails(void **state)
{
    struct buffer bytes;
    struct message message;
    (void)state;
    buffer_init(&bytes, 1000);
    write_sample(&bytes, 5, 0);
    for (size_t size = 0; size < bytes.size; size++) {
        char *piece = malloc(size ? size : 1); /* so that a sanitizer sees its end */
        memcpy(piece, bytes.data, size);
        assert_int_equal(message_decode(piece, size, PAYLOAD_MAX, &message, NULL), 0);
        free(piece);
    }
    assert_true(message_decode(bytes.data, bytes.size, PAYLOAD_MAX, &message, NULL) > 0);
    size_t whole = message.payload.size;
    for (size_t size = 0; size <= whole; size++) {
        message.payload.size = size;
        assert_int_equal(read_sample(&message), size == whole);
    }
    message.payload.size = whole - 1;
    struct message_reader reader = message_read(&message);
    reader.failed = true;
    assert_int_equal(message_get_u64(&reader), 0);
    assert_null(message_get_text(&reader).data);
    buffer_finish(&bytes);
}

/* `size` bytes at `at` of a header replaced by a number. */
static ptrdiff_t decode_changed(size_t at, unsigned size, uint64_t value, struct hearth_error *err)
{
    char bytes[MESSAGE_HEADER_SIZE];
    struct buffer right;
    struct message message;
    buffer_init(&right, 100);
    assert_true(message_end(&right, message_begin(&right, 1, 2, 0), PAYLOAD_MAX));
    memcpy(bytes, right.data, sizeof bytes);
    buffer_finish(&right);
    for (unsigned i = 0; i < size; i++)
        bytes[at + i] = (char)(value >> 8 * i & 0xff);
    return message_decode(bytes, sizeof bytes, PAYLOAD_MAX, &message, err);
}

static void hostile_headers_are_refused(void **state)
{
    struct hearth_error err;
    (void)state;
    assert_int_equal(decode_changed(0, 4, MESSAGE_MAGIC, &err), MESSAGE_HEADER_SIZE);
    assert_int_equal(decode_changed(0, 4, MESSAGE_MAGIC + 1, &err), HEARTH_E_FORMAT);
    assert_int_equal(decode_changed(4, 2, 0, &err), HEARTH_E_UNSUPPORTED);
    assert_int_equal(decode_changed(4, 2, 2, &err), HEARTH_E_UNSUPPORTED);
    assert_string_equal(err.text, "messages of version 2, where 1 is spoken");
    assert_int_equal(decode_changed(8, 4, 1, &err), 0);
    assert_int_equal(decode_changed(8, 4, PAYLOAD_MAX, &err), 0);
    static const uint64_t sizes[] = {PAYLOAD_MAX + 1, INT32_MAX, UINT64_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_int_equal(decode_changed(8, 4, sizes[i], &err), HEARTH_E_LIMIT);
    assert_int_equal(decode_changed(12, 4, 4, &err), MESSAGE_HEADER_SIZE);
    assert_int_equal(decode_changed(12, 4, 5, &err), HEARTH_E_LIMIT);
    assert_int_equal(decode_changed(12, 4, UINT32_MAX, &err), HEARTH_E_LIMIT);
}

static void counts_are_at_most_what_can_be_there(void **state)
{
    static const uint32_t counts[] = {0, 1, 2, 3, INT32_MAX, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct buffer bytes;
        struct message message;
        buffer_init(&bytes, 100);
        size_t begin = message_begin(&bytes, 1, 1, 0);
        message_put_u32(&bytes, counts[i]);
        message_put_u64(&bytes, 0);
        message_put_u64(&bytes, 0);
        assert_true(message_end(&bytes, begin, PAYLOAD_MAX));
        assert_true(message_decode(bytes.data, bytes.size, PAYLOAD_MAX, &message, NULL) > 0);
        struct message_reader reader = message_read(&message);
        assert_int_equal(message_get_count(&reader, 8), counts[i] <= 2 ? counts[i] : 0);
        assert_int_equal(reader.failed, counts[i] > 2);
        reader = message_read(&message); /* the same number as the length of a text */
        assert_int_equal(message_get_text(&reader).size, counts[i] <= 16 ? counts[i] : 0);
        assert_int_equal(reader.failed, counts[i] > 16);
        buffer_finish(&bytes);
    }
}

static void a_message_above_its_limit_is_not_written(void **state)
{
    struct buffer bytes;
    char text[101] = "";
    (void)state;
    buffer_init(&bytes, 10000);
    write_sample(&bytes, 1, 0);
    size_t before = bytes.size, begin = message_begin(&bytes, 1, 1, 0);
    message_put_text(&bytes, (struct text){text, 97});
    assert_false(message_end(&bytes, begin, 100));
    assert_int_equal(bytes.size, before);
    begin = message_begin(&bytes, 1, 1, 0);
    message_put_text(&bytes, (struct text){text, 96});
    assert_true(message_end(&bytes, begin, 100));
    buffer_finish(&bytes);
}

/* ---- channels ---- */

struct pair {
    struct channel *a, *b;
    unsigned descriptors; /* that were open before */
};

static void open_pair(struct pair *pair)
{
    int fds[2];
    pair->descriptors = open_descriptors();
    assert_int_equal(os_socket_pair(fds, NULL), 0);
    assert_int_equal(channel_open(fds[0], limits, &pair->a, NULL), 0);
    assert_int_equal(channel_open(fds[1], limits, &pair->b, NULL), 0);
}

static void close_pair(struct pair *pair)
{
    channel_close(pair->a);
    channel_close(pair->b);
    assert_int_equal(open_descriptors(), pair->descriptors);
}

static void descriptors_travel_with_their_message(void **state)
{
    struct pair pair;
    struct buffer bytes;
    struct message message;
    int ends[2], came[MESSAGE_DESCRIPTORS_MAX];
    char text[6] = "";
    (void)state;
    open_pair(&pair);
    buffer_init(&bytes, 1000);
    assert_int_equal(channel_receive(pair.b, &message, came, NULL), 0);
    for (uint64_t i = 0; i < 20; i++) {
        bytes.size = 0;
        write_sample(&bytes, i, i % 2 ? 2 : 0);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(channel_send(pair.a, buffer_text(&bytes), ends, NULL), 0);
        close(ends[0]);
        close(ends[1]);
    }
    for (uint64_t i = 0; i < 20; i++) {
        assert_int_equal(channel_receive(pair.b, &message, came, NULL), 1);
        assert_int_equal(message.request, i);
        assert_true(read_sample(&message));
        assert_int_equal(message.descriptor_count, i % 2 ? 2 : 0);
        if (i % 2 == 0)
            continue;
        assert_int_equal(write(came[1], "hello", 5), 5);
        assert_int_equal(read(came[0], text, 5), 5);
        assert_string_equal(text, "hello");
        close(came[0]);
        close(came[1]);
    }
    assert_int_equal(channel_receive(pair.b, &message, came, NULL), 0);
    /* what nobody takes is closed with the channel */
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    bytes.size = 0;
    write_sample(&bytes, 1, 2);
    assert_int_equal(channel_send(pair.a, buffer_text(&bytes), ends, NULL), 0);
    close(ends[0]);
    close(ends[1]);
    buffer_finish(&bytes);
    close_pair(&pair);
}

static void who_does_not_read_stops_the_sender(void **state)
{
    struct pair pair;
    struct buffer bytes;
    struct message message;
    struct hearth_error err;
    int came[MESSAGE_DESCRIPTORS_MAX], status = 0;
    static char text[90000];
    uint64_t sent = 0, received = 0;
    (void)state;
    open_pair(&pair);
    buffer_init(&bytes, PAYLOAD_MAX + 100);
    while (sent < 100) {
        bytes.size = 0;
        size_t begin = message_begin(&bytes, 1, sent, 0);
        message_put_text(&bytes, (struct text){text, sizeof text});
        assert_true(message_end(&bytes, begin, PAYLOAD_MAX));
        status = channel_send(pair.a, buffer_text(&bytes), NULL, &err);
        if (status)
            break;
        sent++;
    }
    assert_int_equal(status, HEARTH_E_LIMIT);
    assert_int_equal(channel_flush(pair.a, &err), 1);
    while (received < sent) {
        status = channel_receive(pair.b, &message, came, &err);
        assert_true(status >= 0);
        if (status == 0)
            assert_true(channel_flush(pair.a, &err) >= 0);
        else
            assert_int_equal(message.request, received++);
    }
    assert_int_equal(channel_flush(pair.a, &err), 0);
    buffer_finish(&bytes);
    close_pair(&pair);
}

static void torn_and_hostile_bytes_in_a_channel(void **state)
{
    struct buffer bytes;
    struct message message;
    struct hearth_error err;
    struct channel *channel;
    int fds[2], came[MESSAGE_DESCRIPTORS_MAX], some[16];
    unsigned before = open_descriptors();
    (void)state;
    buffer_init(&bytes, 1000);
    write_sample(&bytes, 3, 0);
    assert_int_equal(os_socket_pair(fds, NULL), 0);
    assert_int_equal(channel_open(fds[1], limits, &channel, NULL), 0);
    for (size_t i = 0; i < bytes.size; i++) {
        assert_int_equal(channel_receive(channel, &message, came, &err), 0);
        assert_int_equal(write(fds[0], bytes.data + i, 1), 1);
    }
    assert_int_equal(channel_receive(channel, &message, came, &err), 1);
    assert_true(read_sample(&message));
    /* a message that says it has a descriptor, and has none */
    bytes.size = 0;
    write_sample(&bytes, 3, 1);
    assert_int_equal(write(fds[0], bytes.data, bytes.size), bytes.size);
    assert_int_equal(channel_receive(channel, &message, came, &err), HEARTH_E_FORMAT);
    channel_close(channel);
    close(fds[0]);
    /* descriptors without end, and no message */
    assert_int_equal(os_socket_pair(fds, NULL), 0);
    assert_int_equal(channel_open(fds[1], limits, &channel, NULL), 0);
    for (unsigned i = 0; i < 16; i++)
        some[i] = fds[0];
    for (int i = 0; i < 3; i++)
        assert_int_equal(os_socket_send_with(fds[0], bytes.data + i, 1, some, 7, &err), 1);
    assert_int_equal(channel_receive(channel, &message, came, &err), HEARTH_E_LIMIT);
    channel_close(channel);
    close(fds[0]);
    /* the other side closes in the middle of a message */
    assert_int_equal(os_socket_pair(fds, NULL), 0);
    assert_int_equal(channel_open(fds[1], limits, &channel, NULL), 0);
    assert_int_equal(write(fds[0], bytes.data, bytes.size - 1), bytes.size - 1);
    close(fds[0]);
    assert_int_equal(channel_receive(channel, &message, came, &err), HEARTH_E_MISSING);
    bytes.size = 0;
    write_sample(&bytes, 3, 0);
    assert_int_equal(channel_send(channel, buffer_text(&bytes), NULL, &err), HEARTH_E_MISSING);
    channel_close(channel);
    buffer_finish(&bytes);
    assert_int_equal(open_descriptors(), before);
}

static void each_allocation_may_fail(void **state)
{
    (void)state;
    for (unsigned long n = 1; n < 12; n++) {
        struct channel *a = NULL, *b = NULL;
        struct message message;
        struct buffer bytes;
        int fds[2], came[MESSAGE_DESCRIPTORS_MAX], own[1];
        unsigned before = open_descriptors();
        assert_int_equal(os_socket_pair(fds, NULL), 0);
        own[0] = dup(fds[0]);
        buffer_init(&bytes, 1000);
        write_sample(&bytes, 1, 1);
        mem_fail_nth(n);
        int opened = channel_open(fds[0], limits, &a, NULL);
        int also = channel_open(fds[1], limits, &b, NULL);
        int status = opened ? opened : channel_send(a, buffer_text(&bytes), own, NULL);
        assert_true(status == 0 || status == HEARTH_E_MEMORY || status == HEARTH_E_MISSING);
        if (!also && channel_receive(b, &message, came, NULL) == 1)
            close(came[0]);
        mem_fail_nth(0);
        channel_close(a);
        channel_close(b);
        close(own[0]);
        buffer_finish(&bytes);
        assert_int_equal(open_descriptors(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(a_torn_message_is_waited_for_and_a_short_one_fails),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(counts_are_at_most_what_can_be_there),
        cmocka_unit_test(a_message_above_its_limit_is_not_written),
        cmocka_unit_test(descriptors_travel_with_their_message),
        cmocka_unit_test(who_does_not_read_stops_the_sender),
        cmocka_unit_test(torn_and_hostile_bytes_in_a_channel),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
