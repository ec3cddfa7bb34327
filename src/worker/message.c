#include "worker/message.h"

#include <assert.h>
#include <string.h>

static void put(struct buffer *out, uint64_t value, unsigned size)
{
    char bytes[8];
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (char)(value >> 8 * i & 0xff);
    buffer_append(out, bytes, size);
}

static uint64_t get(const char *bytes, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)(unsigned char)bytes[i] << 8 * i;
    return value;
}

/* ---- writing ---- */

size_t message_begin(struct buffer *out, uint16_t type, uint64_t request, uint32_t descriptor_count)
{
    size_t begin = out->size;
    assert(descriptor_count <= MESSAGE_DESCRIPTORS_MAX);
    put(out, MESSAGE_MAGIC, 4);
    put(out, MESSAGE_VERSION, 2);
    put(out, type, 2);
    put(out, 0, 4);
    put(out, descriptor_count, 4);
    put(out, request, 8);
    return begin;
}

void message_put_u32(struct buffer *out, uint32_t value)
{
    put(out, value, 4);
}

void message_put_u64(struct buffer *out, uint64_t value)
{
    put(out, value, 8);
}

void message_put_f64(struct buffer *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put(out, bits, 8);
}

void message_put_text(struct buffer *out, struct text text)
{
    if (text.size > UINT32_MAX) {
        out->failed = true;
        return;
    }
    put(out, text.size, 4);
    buffer_append_text(out, text);
}

bool message_end(struct buffer *out, size_t begin, size_t payload_max)
{
    size_t size = out->size - begin - MESSAGE_HEADER_SIZE;
    if (out->failed || size > payload_max || size > UINT32_MAX) {
        out->size = begin;
        return false;
    }
    for (unsigned i = 0; i < 4; i++)
        out->data[begin + 8 + i] = (char)(size >> 8 * i & 0xff);
    return true;
}

/* ---- reading ---- */

ptrdiff_t message_decode(const void *bytes, size_t size, size_t payload_max, struct message *out,
                         struct hearth_error *err)
{
    const char *at = bytes;
    if (size >= 4 && get(at, 4) != MESSAGE_MAGIC)
        return error_set(err, HEARTH_E_FORMAT, "these bytes are no message");
    if (size >= 6 && get(at + 4, 2) != MESSAGE_VERSION)
        return error_set(err, HEARTH_E_UNSUPPORTED, "messages of version %u, where %u is spoken",
                         (unsigned)get(at + 4, 2), MESSAGE_VERSION);
    if (size < MESSAGE_HEADER_SIZE)
        return 0;
    size_t payload = (size_t)get(at + 8, 4);
    uint32_t descriptors = (uint32_t)get(at + 12, 4);
    if (payload > payload_max)
        return error_set(err, HEARTH_E_LIMIT, "a message of %zu bytes, where %zu is the limit",
                         payload, payload_max);
    if (descriptors > MESSAGE_DESCRIPTORS_MAX)
        return error_set(err, HEARTH_E_LIMIT,
                         "a message with %u descriptors, where %u is the limit", descriptors,
                         MESSAGE_DESCRIPTORS_MAX);
    if (size - MESSAGE_HEADER_SIZE < payload)
        return 0;
    *out = (struct message){.type = (uint16_t)get(at + 6, 2),
                            .request = get(at + 16, 8),
                            .payload = {at + MESSAGE_HEADER_SIZE, payload},
                            .descriptor_count = descriptors};
    return (ptrdiff_t)(MESSAGE_HEADER_SIZE + payload);
}

struct message_reader message_read(const struct message *message)
{
    return (struct message_reader){message->payload, false};
}

/* The next bytes, or NULL where there are fewer. */
static const char *take(struct message_reader *reader, size_t size)
{
    if (reader->failed || size > reader->rest.size) {
        reader->failed = true;
        return NULL;
    }
    const char *bytes = reader->rest.data;
    reader->rest = (struct text){bytes + size, reader->rest.size - size};
    return bytes;
}

uint32_t message_get_u32(struct message_reader *reader)
{
    const char *bytes = take(reader, 4);
    return bytes ? (uint32_t)get(bytes, 4) : 0;
}

uint64_t message_get_u64(struct message_reader *reader)
{
    const char *bytes = take(reader, 8);
    return bytes ? get(bytes, 8) : 0;
}

double message_get_f64(struct message_reader *reader)
{
    uint64_t bits = message_get_u64(reader);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct text message_get_text(struct message_reader *reader)
{
    size_t size = message_get_u32(reader);
    const char *bytes = take(reader, size);
    return bytes ? (struct text){bytes, size} : (struct text){NULL, 0};
}

uint32_t message_get_count(struct message_reader *reader, size_t item_size)
{
    uint32_t count = message_get_u32(reader);
    assert(item_size > 0);
    if (count > reader->rest.size / item_size) {
        reader->failed = true;
        return 0;
    }
    return count;
}

bool message_was_whole(const struct message_reader *reader)
{
    return !reader->failed && reader->rest.size == 0;
}
