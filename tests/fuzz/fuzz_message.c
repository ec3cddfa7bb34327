/* Any bytes as messages of another process, their payloads as any sequence of fields and as what
 * their type says: what is accepted is written as it was read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../worker/echo.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* The payload's own bytes choose what is read. */
static void read_fields(const struct message *message)
{
    struct message_reader reader = message_read(message);
    while (!reader.failed && reader.rest.size > 0) {
        struct text before = reader.rest, text;
        switch (before.data[0] & 3) {
        case 0:
            message_get_u32(&reader);
            break;
        case 1:
            message_get_f64(&reader);
            break;
        case 2:
            text = message_get_text(&reader);
            check(reader.failed || (text.data == before.data + 4 && text.size <= before.size - 4));
            break;
        default:
            check((size_t)message_get_count(&reader, 3) * 3 <= reader.rest.size);
        }
        check(reader.failed || reader.rest.size < before.size);
    }
}

static void read_by_type(const struct message *message)
{
    struct buffer out;
    buffer_init(&out, 1 << 20);
    if (echo_message(message, &out)) {
        check(out.size == MESSAGE_HEADER_SIZE + message->payload.size);
        check(message->payload.size == 0 ||
              memcmp(out.data + MESSAGE_HEADER_SIZE, message->payload.data,
                     message->payload.size) == 0);
    }
    buffer_finish(&out);
}

/* The right beginning of a header, which would take long to be guessed, unless the bytes say no. */
static void begin_rightly(char *at, size_t size)
{
    static const char right[] = {'h', 'w', 'm', 'g', MESSAGE_VERSION, 0};
    if (size >= sizeof right && at[0] != 'x')
        memcpy(at, right, sizeof right);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *bytes = malloc(size + 1), *at = bytes;
    if (size)
        memcpy(bytes, data, size);
    for (;;) {
        struct message message;
        struct hearth_error err = {0};
        begin_rightly(at, size);
        ptrdiff_t used = message_decode(at, size, 1000, &message, &err);
        check(used >= 0 || (err.code == used && err.text[0]));
        if (used <= 0)
            break;
        check((size_t)used == MESSAGE_HEADER_SIZE + message.payload.size && (size_t)used <= size);
        check(message.descriptor_count <= MESSAGE_DESCRIPTORS_MAX && message.payload.size <= 1000);
        read_fields(&message);
        read_by_type(&message);
        at += used;
        size -= (size_t)used;
    }
    free(bytes);
    return 0;
}
