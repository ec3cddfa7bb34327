#include "cli/console.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/os.h"
#include "base/utf8.h"
#include "cli/interrupt.h"

#define READ_BYTES 65536

void console_say(const char *format, ...)
{
    va_list args;
    fputs("hearth: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

enum exit_code console_fail(const struct hearth_error *err)
{
    console_say("%s", err->text[0] ? err->text : hearth_status_text(err->code));
    return err->code == HEARTH_E_CANCELLED ? interrupt_code() : EXIT_CODE_ERROR;
}

/* ---- standard output ---- */

static bool is_control(uint32_t code_point)
{
    if (code_point == '\n' || code_point == '\t')
        return false;
    return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
}

static void show_safely(struct text text)
{
    size_t from = 0, at = 0;
    while (at < text.size) {
        uint32_t code_point;
        size_t size = utf8_decode(text.data + at, text.size - at, &code_point);
        if (size && !is_control(code_point)) {
            at += size;
            continue;
        }
        fwrite(text.data + from, 1, at - from, stdout);
        fputs("\xef\xbf\xbd", stdout);
        at += size ? size : 1;
        from = at;
    }
    fwrite(text.data + from, 1, at - from, stdout);
}

void console_show(struct text text)
{
    if (text.size == 0)
        return;
    if (os_is_terminal(CONSOLE_STDOUT))
        show_safely(text);
    else
        fwrite(text.data, 1, text.size, stdout);
    /* Ctrl-C ended a write that nobody was reading: that is no fault of the output. */
    if (fflush(stdout) != 0 && errno == EINTR)
        clearerr(stdout);
}

static void show_message(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    const json_t *content = json_object_get(message, "content");
    console_show(text_of(role ? role : "?"));
    console_show(TEXT(": "));
    if (json_is_string(content)) {
        console_show((struct text){json_string_value(content), json_string_length(content)});
    } else { /* parts, calls of tools */
        char *text = json_dumps(message, JSON_COMPACT | JSON_PRESERVE_ORDER);
        console_show(text_of(text ? text : ""));
        free(text);
    }
    console_show(TEXT("\n"));
}

void console_show_messages(const json_t *messages)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        if (i > 0)
            console_show(TEXT("\n"));
        show_message(json_array_get(messages, i));
    }
}

enum exit_code console_finish(void)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_CODE_OK;
    console_say("standard output cannot be written%s%s", errno ? ": " : "",
                errno ? strerror(errno) : "");
    return EXIT_CODE_ERROR;
}

enum exit_code console_json(json_t *object)
{
    int status =
        object ? json_dumpf(object, stdout, JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(12)) : -1;
    json_decref(object);
    if (status && !ferror(stdout)) {
        console_say("no memory for the result");
        return EXIT_CODE_ERROR;
    }
    fputc('\n', stdout);
    return console_finish();
}

json_t *json_rounded(double value, int digits)
{
    double scale = pow(10.0, digits);
    return isfinite(value) ? json_real(round(value * scale) / scale) : json_null();
}

/* ---- input ---- */

int console_read_all(FILE *stream, const char *name, struct buffer *out, struct hearth_error *err)
{
    size_t size;
    do {
        char *place = buffer_reserve(out, READ_BYTES);
        if (!place)
            return error_set(err, HEARTH_E_LIMIT, "%s is too large for the memory", name);
        size = fread(place, 1, READ_BYTES, stream);
        out->size += size;
    } while (size > 0);
    if (ferror(stream))
        return error_set(err, HEARTH_E_IO, "%s cannot be read: %s", name, strerror(errno));
    return 0;
}

/* ---- words ---- */

void console_escape(struct text text, struct buffer *out)
{
    for (size_t at = 0; at < text.size;) {
        uint32_t code_point;
        size_t size = utf8_decode(text.data + at, text.size - at, &code_point);
        char byte = text.data[at];
        if (byte == '\n')
            buffer_append(out, "\\n", 2);
        else if (byte == '\t')
            buffer_append(out, "\\t", 2);
        else if (byte == '\\')
            buffer_append(out, "\\\\", 2);
        else if (size == 0 || (is_control(code_point) && size == 1))
            buffer_format(out, "\\x%02x", (unsigned)(unsigned char)byte);
        else if (is_control(code_point))
            buffer_format(out, "\\u%04x", (unsigned)code_point);
        else
            buffer_append(out, text.data + at, size);
        at += size ? size : 1;
    }
}

/* Wide letters take two columns, marks above others none. */
static size_t columns_of(uint32_t code_point)
{
    int columns = utf8proc_charwidth((utf8proc_int32_t)code_point);
    return columns > 0 ? (size_t)columns : 0;
}

static size_t all_columns(struct text valid)
{
    size_t columns = 0, size;
    uint32_t code_point;
    for (size_t at = 0; at < valid.size; at += size) {
        size = utf8_decode(valid.data + at, valid.size - at, &code_point);
        columns += columns_of(code_point);
    }
    return columns;
}

size_t console_fit(struct text text, size_t columns_max, struct buffer *out)
{
    struct buffer escaped;
    uint32_t code_point;
    size_t columns = 0, at = 0, size;
    buffer_init(&escaped, out->max);
    console_escape(text, &escaped);
    size_t whole = all_columns(buffer_text(&escaped)), room = columns_max;
    if (whole > columns_max)
        room--; /* for the ellipsis */
    for (; at < escaped.size; at += size) {
        size = utf8_decode(escaped.data + at, escaped.size - at, &code_point);
        if (columns + columns_of(code_point) > room)
            break;
        columns += columns_of(code_point);
    }
    buffer_append(out, escaped.data, at);
    if (whole > columns_max && buffer_append_text(out, TEXT("\xe2\x80\xa6")))
        columns++;
    buffer_finish(&escaped);
    return columns;
}

const char *size_text(uint64_t bytes, char out[SIZE_TEXT_MAX])
{
    double mib = (double)bytes / (1 << 20);
    if (bytes < 1 << 10)
        snprintf(out, SIZE_TEXT_MAX, "%u bytes", (unsigned)bytes);
    else if (bytes < 1 << 20)
        snprintf(out, SIZE_TEXT_MAX, "%.1f KiB", (double)bytes / (1 << 10));
    else if (mib < 1024)
        snprintf(out, SIZE_TEXT_MAX, "%.1f MiB", mib);
    else
        snprintf(out, SIZE_TEXT_MAX, "%.2f GiB", mib / 1024);
    return out;
}

const char *count_text(uint64_t count, char out[SIZE_TEXT_MAX + 8])
{
    char digits[SIZE_TEXT_MAX];
    int size = snprintf(digits, sizeof digits, "%" PRIu64, count), at = 0;
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

const char *duration_text(uint64_t ns, char out[SIZE_TEXT_MAX])
{
    double seconds = (double)ns / 1e9;
    unsigned long whole = (unsigned long)(seconds + 0.5);
    if (seconds < 1.0)
        snprintf(out, SIZE_TEXT_MAX, "%.0f ms", seconds * 1e3);
    else if (seconds < 60.0)
        snprintf(out, SIZE_TEXT_MAX, "%.*f s", seconds < 10.0 ? 2 : 1, seconds);
    else if (whole < 3600)
        snprintf(out, SIZE_TEXT_MAX, "%lu min %lu s", whole / 60, whole % 60);
    else
        snprintf(out, SIZE_TEXT_MAX, "%lu h %lu min", whole / 3600, whole / 60 % 60);
    return out;
}
