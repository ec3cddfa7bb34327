/* A growing byte buffer with a maximum. Once an append fails the buffer stays failed and further
 * appends do nothing, so that a writer may check once, at the end. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

struct buffer {
    char *data; /* always NUL-terminated once anything was appended */
    size_t size, capacity, max;
    bool failed; /* out of memory, or max would be passed */
};

/* An empty buffer that holds at most `max` bytes. */
void buffer_init(struct buffer *buffer, size_t max);
void buffer_finish(struct buffer *buffer); /* frees; the buffer is empty again */

bool buffer_append(struct buffer *buffer, const void *data, size_t size);
bool buffer_append_text(struct buffer *buffer, struct text text);
/* The text with each byte that is no part of valid UTF-8 replaced by U+FFFD. */
bool buffer_append_valid_utf8(struct buffer *buffer, struct text text);
bool buffer_append_char(struct buffer *buffer, char byte);
bool buffer_format(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
/* Room for `size` more bytes at data + size, which the caller then adds to `size`; NULL on failure.
 */
char *buffer_reserve(struct buffer *buffer, size_t size);

/* Hands the bytes over to the caller, who frees them with mem_free; never NULL unless failed. */
char *buffer_take(struct buffer *buffer, size_t *size);

static inline struct text buffer_text(const struct buffer *buffer)
{
    return (struct text){buffer->data, buffer->size};
}

#endif
