#include "server/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/os.h"

/* Lines of at most 4 KiB reach a pipe whole or not at all. */
#define LINE_MAX_BYTES ((size_t)4096)
#define PAIRS_MAX_BYTES ((size_t)1024)

struct log {
    int fd;
    bool json;
    enum log_level least;
    uint64_t lost; /* lines since the last one that was written */
    uint64_t size; /* of all lines so far; the last bytes of them are in the tail, as in a ring */
    char tail[LOG_TAIL_BYTES];
};

struct log *log_create(int fd, bool json, enum log_level least)
{
    struct log *log = mem_zalloc_array(1, sizeof *log);
    if (!log)
        return NULL;
    log->fd = fd;
    log->json = json;
    log->least = least;
    return log;
}

void log_destroy(struct log *log)
{
    mem_free(log);
}

/* ---- values ---- */

/* The escapes of JSON, which text lines use in quotes as well. */
static void append_escaped(struct buffer *out, struct text text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        if (c == '"' || c == '\\')
            buffer_append_char(out, '\\');
        if (c < ' ' || c == 0x7f)
            buffer_format(out, "\\u%04x", c);
        else
            buffer_append_char(out, (char)c);
    }
}

static bool is_plain(struct text value)
{
    for (size_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c <= ' ' || c == '"' || c == '\\' || c == 0x7f)
            return false;
    }
    return value.size > 0;
}

const char *log_value(char out[LOG_VALUE_SIZE], struct text value)
{
    struct buffer valid, escaped;
    if (value.size > LOG_VALUE_SIZE)
        value.size = LOG_VALUE_SIZE; /* what this cuts of a character becomes U+FFFD, or goes */
    buffer_init(&valid, 3 * LOG_VALUE_SIZE);
    buffer_init(&escaped, 18 * LOG_VALUE_SIZE);
    buffer_append_valid_utf8(&valid, value);
    bool plain = is_plain(buffer_text(&valid));
    size_t room = LOG_VALUE_SIZE - (plain ? 1 : 3), at = 0;
    /* character by character, so that neither one of them nor an escape is cut */
    while (at < valid.size) {
        size_t next = at + 1, before = escaped.size;
        while (next < valid.size && ((unsigned char)valid.data[next] & 0xc0) == 0x80)
            next++;
        append_escaped(&escaped, (struct text){valid.data + at, next - at});
        if (escaped.failed || escaped.size > room) {
            escaped.size = before;
            break;
        }
        at = next;
    }
    snprintf(out, LOG_VALUE_SIZE, plain ? "%.*s" : "\"%.*s\"", (int)escaped.size,
             escaped.size ? escaped.data : "");
    buffer_finish(&valid);
    buffer_finish(&escaped);
    return out;
}

/* ---- pairs ---- */

struct pair {
    struct text name, value; /* the value with its escapes */
    bool quoted;
};

/* Takes the next pair of the text; false at its end. A word without "=" is a value without name. */
static bool next_pair(struct text *rest, struct pair *pair)
{
    if (rest->size == 0)
        return false;
    const char *at = rest->data, *end = at + rest->size;
    while (at < end && *at == ' ')
        at++;
    if (at == end)
        return false;
    const char *begin = at;
    while (at < end && *at != '=' && *at != ' ')
        at++;
    bool named = at < end && *at == '=';
    pair->name = named ? (struct text){begin, (size_t)(at - begin)} : TEXT("note");
    if (named)
        begin = ++at;
    pair->quoted = at < end && *at == '"' && named;
    if (pair->quoted) {
        begin = ++at;
        while (at < end && *at != '"')
            at += *at == '\\' && at + 1 < end ? 2 : 1;
    } else {
        while (at < end && *at != ' ')
            at++;
    }
    pair->value = (struct text){begin, (size_t)(at - begin)};
    if (pair->quoted && at < end)
        at++;
    *rest = (struct text){at, (size_t)(end - at)};
    return true;
}

static size_t digits(struct text text, size_t at)
{
    size_t count = 0;
    while (at + count < text.size && text.data[at + count] >= '0' && text.data[at + count] <= '9')
        count++;
    return count;
}

/* Whether JSON has it as a number: -12, 0.5. */
static bool is_number(struct text text)
{
    size_t at = text.size > 0 && text.data[0] == '-' ? 1 : 0;
    size_t whole = digits(text, at);
    if (whole == 0 || whole > 15 || (whole > 1 && text.data[at] == '0'))
        return false;
    at += whole;
    if (at < text.size && text.data[at] == '.') {
        size_t fraction = digits(text, at + 1);
        return fraction > 0 && at + 1 + fraction == text.size;
    }
    return at == text.size;
}

/* A quoted value may be cut, or hold a backslash that begins no escape of ours. */
static void append_quoted_value(struct buffer *out, struct text value)
{
    for (size_t i = 0; i < value.size; i++) {
        char next = i + 1 < value.size ? value.data[i + 1] : '\0';
        if (value.data[i] != '\\') {
            append_escaped(out, (struct text){value.data + i, 1});
        } else if (next == '"' || next == '\\') {
            buffer_append_char(out, '\\');
            buffer_append_char(out, next);
            i++;
        } else if (next == 'u' && value.size - i >= 6 && value.data[i + 2] == '0' &&
                   value.data[i + 3] == '0') {
            buffer_append(out, value.data + i, 6);
            i += 5;
        } else {
            buffer_append_text(out, TEXT("\\\\"));
        }
    }
}

static void append_json_pairs(struct buffer *out, struct text pairs)
{
    struct pair pair;
    while (next_pair(&pairs, &pair)) {
        buffer_append_text(out, TEXT(",\""));
        append_escaped(out, pair.name);
        buffer_append_text(out, TEXT("\":"));
        if (!pair.quoted && is_number(pair.value)) {
            buffer_append_text(out, pair.value);
            continue;
        }
        buffer_append_char(out, '"');
        if (pair.quoted)
            append_quoted_value(out, pair.value);
        else
            append_escaped(out, pair.value);
        buffer_append_char(out, '"');
    }
}

/* ---- lines ---- */

static void write_time(char out[40])
{
    struct timespec moment = {0};
    timespec_get(&moment, TIME_UTC);
    const struct tm *utc = gmtime(&moment.tv_sec);
    char seconds[24] = "1970-01-01T00:00:00";
    if (utc)
        strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", utc);
    snprintf(out, 40, "%s.%03ldZ", seconds, moment.tv_nsec / 1000000);
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};
    return names[level];
}

static void keep_line(struct log *log, struct text line)
{
    for (size_t i = 0; i < line.size; i++)
        log->tail[log->size++ % LOG_TAIL_BYTES] = line.data[i];
}

uint64_t log_tail(const struct log *log, uint64_t from, struct buffer *out)
{
    if (!log)
        return 0;
    uint64_t first = log->size > LOG_TAIL_BYTES ? log->size - LOG_TAIL_BYTES : 0;
    bool cut = from < first && first > 0; /* then it begins in the middle of a line */
    for (uint64_t at = from < first ? first : from; at < log->size; at++) {
        char byte = log->tail[at % LOG_TAIL_BYTES];
        if (!cut)
            buffer_append_char(out, byte);
        cut = cut && byte != '\n';
    }
    return log->size;
}

static bool write_line(struct log *log, enum log_level level, uint64_t request, const char *what,
                       struct text pairs)
{
    char moment[40], number[40] = "";
    struct buffer line;
    buffer_init(&line, LINE_MAX_BYTES);
    write_time(moment);
    if (request)
        snprintf(number, sizeof number, log->json ? ",\"request\":%llu" : " request=%llu",
                 (unsigned long long)request);
    if (log->json) {
        buffer_format(&line, "{\"time\":\"%s\",\"level\":\"%s\"%s,\"what\":\"", moment,
                      level_name(level), number);
        append_escaped(&line, text_of(what));
        buffer_append_char(&line, '"');
        append_json_pairs(&line, pairs);
        buffer_append_text(&line, TEXT("}\n"));
    } else {
        buffer_format(&line, "%s %-7s %s%s%s%.*s\n", moment, level_name(level), what, number,
                      pairs.size ? " " : "", (int)pairs.size, pairs.size ? pairs.data : "");
    }
    bool written = !line.failed && os_write_now(log->fd, line.data, line.size);
    if (!line.failed)
        keep_line(log, buffer_text(&line));
    buffer_finish(&line);
    return written;
}

/* One line of valid text, whatever the values are. */
static void clean(char *pairs, struct buffer *out)
{
    for (char *c = pairs; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    }
    buffer_append_valid_utf8(out, text_of(pairs));
}

void log_line(struct log *log, enum log_level level, uint64_t request, const char *what,
              const char *format, ...)
{
    char pairs[PAIRS_MAX_BYTES];
    struct buffer valid;
    va_list args;
    if (!log || level < log->least)
        return;
    va_start(args, format);
    if (vsnprintf(pairs, sizeof pairs, format, args) < 0)
        pairs[0] = '\0';
    va_end(args);
    buffer_init(&valid, 3 * sizeof pairs);
    clean(pairs, &valid);
    if (log->lost) {
        char lost[40];
        snprintf(lost, sizeof lost, "lines=%llu", (unsigned long long)log->lost);
        if (write_line(log, LOG_WARNING, 0, "lines of the log were lost", text_of(lost)))
            log->lost = 0;
    }
    if (!write_line(log, level, request, what, buffer_text(&valid)))
        log->lost++;
    buffer_finish(&valid);
}
