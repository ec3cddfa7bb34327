/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_MAX 4 /* bytes in the longest encoding */

/* Decodes the code point at `data`; returns its length in bytes, 0 where no valid one stands there
 * (also when it is cut off by `size`). */
size_t utf8_decode(const char *data, size_t size, uint32_t *code_point);

/* Encodes a code point into `out`, UTF8_MAX bytes; returns the length, 0 for one that does not
 * exist. */
size_t utf8_encode(uint32_t code_point, char *out);

/* Whether the bytes are a proper, incomplete beginning of some valid code point. */
bool utf8_is_prefix(const char *data, size_t size);

/* How many bytes at the end of `data` are an incomplete code point: 0 to 3. Streamed text holds
 * them back. */
size_t utf8_incomplete_tail(const char *data, size_t size);

/* Whether the whole is valid. */
bool utf8_valid(const char *data, size_t size);

#endif
