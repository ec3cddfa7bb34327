#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "base/utf8.h"

void buffer_init(struct buffer *buffer, size_t max)
{
    *buffer = (struct buffer){.max = max};
}

void buffer_finish(struct buffer *buffer)
{
    mem_free(buffer->data);
    buffer_init(buffer, buffer->max);
}

char *buffer_reserve(struct buffer *buffer, size_t size)
{
    size_t needed;
    if (buffer->failed || !checked_add_size(buffer->size, size, &needed) || needed > buffer->max) {
        buffer->failed = true;
        return NULL;
    }
    if (needed + 1 > buffer->capacity) {
        size_t grown = buffer->capacity + buffer->capacity / 2 + 64;
        size_t capacity = grown > needed + 1 ? grown : needed + 1;
        char *data = mem_realloc_array(buffer->data, capacity, 1);
        if (!data) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    buffer->data[needed] = '\0';
    return buffer->data + buffer->size;
}

bool buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    char *place = buffer_reserve(buffer, size);
    if (!place)
        return false;
    if (size)
        memcpy(place, data, size);
    buffer->size += size;
    return true;
}

bool buffer_append_text(struct buffer *buffer, struct text text)
{
    return buffer_append(buffer, text.data, text.size);
}

bool buffer_append_valid_utf8(struct buffer *buffer, struct text text)
{
    size_t at = 0, valid = 0; /* text before `valid` is appended already */
    while (at < text.size) {
        uint32_t code_point;
        size_t length = utf8_decode(text.data + at, text.size - at, &code_point);
        if (length == 0) {
            buffer_append(buffer, text.data + valid, at - valid);
            buffer_append(buffer, "\xef\xbf\xbd", 3);
            valid = at + 1;
            length = 1;
        }
        at += length;
    }
    return buffer_append(buffer, text.data + valid, text.size - valid);
}

bool buffer_append_char(struct buffer *buffer, char byte)
{
    return buffer_append(buffer, &byte, 1);
}

bool buffer_format(struct buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *place = length < 0 ? NULL : buffer_reserve(buffer, (size_t)length);
    if (!place) {
        buffer->failed = true;
        return false;
    }
    va_start(args, format);
    vsnprintf(place, (size_t)length + 1, format, args);
    va_end(args);
    buffer->size += (size_t)length;
    return true;
}

char *buffer_take(struct buffer *buffer, size_t *size)
{
    if (buffer->failed || !buffer_reserve(buffer, 0)) {
        buffer_finish(buffer);
        return NULL;
    }
    char *data = buffer->data;
    if (size)
        *size = buffer->size;
    buffer_init(buffer, buffer->max);
    return data;
}
