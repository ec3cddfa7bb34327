#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

const char *hearth_status_text(int code)
{
    switch (code) {
    case HEARTH_OK:
        return "success";
#define CASE(name, value, meaning)                                                                 \
    case value:                                                                                    \
        return meaning;
        HEARTH_ERRORS(CASE)
#undef CASE
    default:
        return "unknown error";
    }
}

/* Makes the text printable in place; a code point cut off at the end is dropped. */
static void clean_text(char *text, size_t capacity)
{
    size_t size = strlen(text);
    size_t at = 0;
    while (at < size) {
        uint32_t code_point;
        size_t length = utf8_decode(text + at, size - at, &code_point);
        if (length == 0) {
            if (size + 1 == capacity && utf8_is_prefix(text + at, size - at)) {
                text[at] = '\0';
                return;
            }
            text[at] = '?';
            length = 1;
        } else if (code_point < 0x20 || code_point == 0x7f) {
            text[at] = '?';
        }
        at += length;
    }
}

int error_set(struct hearth_error *err, int code, const char *format, ...)
{
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    err->code = code;
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    clean_text(err->text, sizeof err->text);
    return code;
}

int error_prefix(struct hearth_error *err, int code, const char *format, ...)
{
    if (!err)
        return code;
    struct hearth_error old = *err;
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t at = used < 0 ? 0 : (size_t)used;
    if (at + 2 < sizeof err->text) {
        size_t room = sizeof err->text - at - 3;
        snprintf(err->text + at, sizeof err->text - at, ": %.*s", (int)room, old.text);
    }
    clean_text(err->text, sizeof err->text);
    return err->code;
}
