#include "base/utf8.h"

/* Table 3-7 of the Unicode standard: the length that a lead byte announces and the range of the
 * second byte; all later bytes are 80..BF. */
struct lead {
    unsigned char length, second_min, second_max;
};

static struct lead lead_of(unsigned char byte)
{
    if (byte < 0x80)
        return (struct lead){1, 0, 0};
    if (byte >= 0xc2 && byte <= 0xdf)
        return (struct lead){2, 0x80, 0xbf};
    if (byte == 0xe0)
        return (struct lead){3, 0xa0, 0xbf};
    if (byte == 0xed)
        return (struct lead){3, 0x80, 0x9f};
    if (byte >= 0xe1 && byte <= 0xef)
        return (struct lead){3, 0x80, 0xbf};
    if (byte == 0xf0)
        return (struct lead){4, 0x90, 0xbf};
    if (byte >= 0xf1 && byte <= 0xf3)
        return (struct lead){4, 0x80, 0xbf};
    if (byte == 0xf4)
        return (struct lead){4, 0x80, 0x8f};
    return (struct lead){0, 0, 0};
}

/* How many of the first bytes fit a code point that begins here: at most lead.length. */
static size_t fitting(const unsigned char *data, size_t size, struct lead lead)
{
    size_t limit = lead.length < size ? lead.length : size;
    for (size_t i = 1; i < limit; i++) {
        unsigned char min = i == 1 ? lead.second_min : 0x80;
        unsigned char max = i == 1 ? lead.second_max : 0xbf;
        if (data[i] < min || data[i] > max)
            return i;
    }
    return limit;
}

size_t utf8_decode(const char *data, size_t size, uint32_t *code_point)
{
    const unsigned char *bytes = (const unsigned char *)data;
    if (size == 0)
        return 0;
    struct lead lead = lead_of(bytes[0]);
    if (lead.length == 0 || fitting(bytes, size, lead) != lead.length)
        return 0;
    if (lead.length == 1) {
        *code_point = bytes[0];
        return 1;
    }
    uint32_t value = bytes[0] & (0x7fu >> lead.length);
    for (size_t i = 1; i < lead.length; i++)
        value = value << 6 | (bytes[i] & 0x3fu);
    *code_point = value;
    return lead.length;
}

size_t utf8_encode(uint32_t code_point, char *out)
{
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        out[0] = (char)(0xc0 | code_point >> 6);
        out[1] = (char)(0x80 | (code_point & 0x3f));
        return 2;
    }
    if (code_point < 0x10000) {
        if (code_point >= 0xd800 && code_point <= 0xdfff)
            return 0;
        out[0] = (char)(0xe0 | code_point >> 12);
        out[1] = (char)(0x80 | (code_point >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code_point & 0x3f));
        return 3;
    }
    if (code_point > 0x10ffff)
        return 0;
    out[0] = (char)(0xf0 | code_point >> 18);
    out[1] = (char)(0x80 | (code_point >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code_point >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code_point & 0x3f));
    return 4;
}

bool utf8_is_prefix(const char *data, size_t size)
{
    if (size == 0)
        return false;
    struct lead lead = lead_of((unsigned char)data[0]);
    return size < lead.length && fitting((const unsigned char *)data, size, lead) == size;
}

size_t utf8_incomplete_tail(const char *data, size_t size)
{
    for (size_t length = 1; length < UTF8_MAX && length <= size; length++) {
        if (utf8_is_prefix(data + size - length, length))
            return length;
    }
    return 0;
}

bool utf8_valid(const char *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint32_t code_point;
        size_t length = utf8_decode(data + at, size - at, &code_point);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}
