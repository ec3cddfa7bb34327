#include "infer/stream.h"

#include <assert.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define REPLACEMENT_BYTES 3

_Static_assert(STREAM_STOP_BYTES_MAX <= UINT16_MAX, "lengths of stop strings are kept in 16 bits");

/* A stop string with the automaton of Knuth, Morris and Pratt: fallback[n] is the length of the
 * longest proper end of the first n bytes that is also their beginning. */
struct stop_string {
    char *bytes; /* [size], and a NUL */
    uint16_t *fallback;
    size_t size;
    size_t matched; /* the longest beginning of it that the text ends with */
};

struct hearth_stream {
    struct vocabulary vocabulary;
    bool special;
    bool first;   /* no token was pushed, and the text begins with the first one */
    bool stopped; /* a stop string is complete: */
    const char *stop;
    bool flushed;
    struct stop_string *stops;
    size_t stop_count;
    struct buffer piece;    /* bytes of the token that is being pushed */
    char partial[UTF8_MAX]; /* an incomplete code point, held back */
    size_t partial_size;
    char *text; /* `shown` bytes that the last call handed out, then what is held back */
    size_t size, capacity, shown;
};

/* ---- opening ---- */

static int check_stop(const char *stop, size_t number, struct hearth_error *err)
{
    if (!stop || !stop[0])
        return error_set(err, HEARTH_E_ARGUMENT, "stop string %zu is empty", number);
    size_t size = strlen(stop);
    if (size > STREAM_STOP_BYTES_MAX)
        return error_set(err, HEARTH_E_LIMIT,
                         "stop string %zu has %zu bytes; at most %d are allowed", number, size,
                         STREAM_STOP_BYTES_MAX);
    if (!utf8_valid(stop, size))
        return error_set(err, HEARTH_E_ARGUMENT, "stop string %zu is not valid UTF-8", number);
    return 0;
}

static int check_options(const struct hearth_stream_options *options, struct hearth_error *err)
{
    if (options->stop_count > STREAM_STOPS_MAX)
        return error_set(err, HEARTH_E_LIMIT, "%zu stop strings; at most %d are allowed",
                         options->stop_count, STREAM_STOPS_MAX);
    int status = 0;
    for (size_t i = 0; i < options->stop_count && status == 0; i++)
        status = check_stop(options->stop[i], i + 1, err);
    return status;
}

/* The state after one more byte; `matched` is below size. */
static size_t advance(const struct stop_string *stop, size_t matched, char byte)
{
    while (matched > 0 && stop->bytes[matched] != byte)
        matched = stop->fallback[matched];
    return stop->bytes[matched] == byte ? matched + 1 : 0;
}

static bool stop_init(struct stop_string *stop, const char *string)
{
    size_t size = strlen(string);
    stop->bytes = mem_alloc(size + 1);
    stop->fallback = mem_zalloc_array(size + 1, sizeof *stop->fallback);
    if (!stop->bytes || !stop->fallback)
        return false;
    memcpy(stop->bytes, string, size + 1);
    stop->size = size;
    for (size_t n = 1; n < size; n++)
        stop->fallback[n + 1] = (uint16_t)advance(stop, stop->fallback[n], string[n]);
    return true;
}

static bool copy_stops(struct hearth_stream *stream, const struct hearth_stream_options *options)
{
    if (options->stop_count == 0)
        return true;
    stream->stops = mem_zalloc_array(options->stop_count, sizeof *stream->stops);
    if (!stream->stops)
        return false;
    stream->stop_count = options->stop_count;
    for (size_t i = 0; i < stream->stop_count; i++) {
        if (!stop_init(&stream->stops[i], options->stop[i]))
            return false;
    }
    return true;
}

int stream_open(const struct vocabulary *vocabulary, const struct hearth_stream_options *options,
                struct hearth_stream **out, struct hearth_error *err)
{
    static const struct hearth_stream_options defaults;
    if (!options)
        options = &defaults;
    int status = check_options(options, err);
    if (status < 0)
        return status;
    struct hearth_stream *stream = MEM_NEW(struct hearth_stream);
    if (!stream)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a stream");
    stream->vocabulary = *vocabulary;
    stream->special = options->special;
    stream->first = !options->continues;
    buffer_init(&stream->piece, SIZE_MAX / 8);
    if (!copy_stops(stream, options)) {
        hearth_stream_close(stream);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a stream");
    }
    *out = stream;
    return 0;
}

void hearth_stream_close(struct hearth_stream *stream)
{
    if (!stream)
        return;
    for (size_t i = 0; i < stream->stop_count; i++) {
        mem_free(stream->stops[i].bytes);
        mem_free(stream->stops[i].fallback);
    }
    mem_free(stream->stops);
    buffer_finish(&stream->piece);
    mem_free(stream->text);
    mem_free(stream);
}

/* ---- text ---- */

/* Room for `bytes` more of whatever kind: each may become a replacement character. The text that
 * was handed out stays where it is on failure. */
static bool reserve_text(struct hearth_stream *stream, size_t bytes)
{
    size_t needed = stream->size + REPLACEMENT_BYTES * (stream->partial_size + bytes);
    if (needed <= stream->capacity)
        return true;
    size_t grown = stream->capacity * 2;
    size_t capacity = needed > grown ? needed : grown;
    char *text = mem_realloc_array(stream->text, capacity, 1);
    if (!text)
        return false;
    stream->text = text;
    stream->capacity = capacity;
    return true;
}

static void drop_shown(struct hearth_stream *stream)
{
    stream->size -= stream->shown;
    if (stream->size > 0)
        memmove(stream->text, stream->text + stream->shown, stream->size);
    stream->shown = 0;
}

/* Adds valid text. False once a stop string is complete; the text then ends before it. */
static bool add_text(struct hearth_stream *stream, const char *bytes, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        stream->text[stream->size++] = bytes[at];
        size_t complete = 0;
        for (size_t i = 0; i < stream->stop_count; i++) {
            struct stop_string *stop = &stream->stops[i];
            stop->matched = advance(stop, stop->matched, bytes[at]);
            if (stop->matched < stop->size)
                continue;
            if (stop->size > complete)
                stream->stop = stop->bytes;
            complete = stop->size > complete ? stop->size : complete;
        }
        if (complete > 0) {
            stream->size -= complete;
            stream->stopped = true;
            return false;
        }
    }
    return true;
}

/* How many bytes at `data`, where no valid code point stands, one U+FFFD replaces. */
static size_t invalid_length(const char *data, size_t size)
{
    for (size_t length = UTF8_MAX - 1; length > 1; length--) {
        if (length <= size && utf8_is_prefix(data, length))
            return length;
    }
    return 1;
}

/* Adds one code point, or U+FFFD; returns the bytes it took, 0 where more are needed to tell. */
static size_t add_one(struct hearth_stream *stream, const char *data, size_t size, bool end)
{
    uint32_t code_point;
    size_t length = utf8_decode(data, size, &code_point);
    if (length > 0) {
        add_text(stream, data, length);
        return length;
    }
    if (!end && utf8_is_prefix(data, size))
        return 0;
    add_text(stream, REPLACEMENT, REPLACEMENT_BYTES);
    return invalid_length(data, size);
}

/* Adds bytes behind the incomplete code point, and holds back the one that they end with. */
static void add_bytes(struct hearth_stream *stream, const char *data, size_t size, bool end)
{
    while (stream->partial_size > 0 && !stream->stopped) {
        bool last = end && size == 0;
        size_t used = add_one(stream, stream->partial, stream->partial_size, last);
        if (used == 0 && size == 0)
            return;
        if (used == 0) {
            stream->partial[stream->partial_size++] = *data++;
            size--;
        }
        stream->partial_size -= used;
        memmove(stream->partial, stream->partial + used, stream->partial_size);
    }
    while (size > 0 && !stream->stopped) {
        size_t used = add_one(stream, data, size, end);
        if (used == 0)
            break;
        data += used;
        size -= used;
    }
    if (size > 0 && !stream->stopped) {
        assert(size < UTF8_MAX);
        memcpy(stream->partial, data, size);
        stream->partial_size = size;
    }
}

/* Hands out all but the end of the text that may become a stop string. */
static void show(struct hearth_stream *stream, bool end, const char **text, size_t *size)
{
    size_t held = 0;
    for (size_t i = 0; i < stream->stop_count && !end && !stream->stopped; i++)
        held = stream->stops[i].matched > held ? stream->stops[i].matched : held;
    stream->shown = stream->size - held;
    *text = stream->text ? stream->text : "";
    *size = stream->shown;
}

static int no_memory(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MEMORY, "no memory for streamed text");
}

int hearth_stream_push(struct hearth_stream *stream, uint32_t id, const char **text, size_t *size,
                       bool *stopped, struct hearth_error *err)
{
    if (stream->flushed)
        return error_set(err, HEARTH_E_STATE, "the stream was flushed: its text is complete");
    if (id >= stream->vocabulary.size)
        return error_set(err, HEARTH_E_ARGUMENT, "token %u; the vocabulary has %u", (unsigned)id,
                         (unsigned)stream->vocabulary.size);
    stream->piece.size = 0;
    if (!stream->stopped &&
        !stream->vocabulary.piece(stream->vocabulary.context, id, stream->special, stream->first,
                                  &stream->piece)) {
        buffer_finish(&stream->piece); /* a failed buffer stays failed; the next push may work */
        return no_memory(err);
    }
    if (!reserve_text(stream, stream->piece.size))
        return no_memory(err);
    stream->first = false;
    drop_shown(stream);
    if (stream->piece.size > 0)
        add_bytes(stream, stream->piece.data, stream->piece.size, false);
    show(stream, false, text, size);
    *stopped = stream->stopped;
    return 0;
}

const char *hearth_stream_stop(const struct hearth_stream *stream)
{
    return stream->stop;
}

int hearth_stream_flush(struct hearth_stream *stream, const char **text, size_t *size,
                        struct hearth_error *err)
{
    if (!reserve_text(stream, 0))
        return no_memory(err);
    drop_shown(stream);
    if (!stream->stopped)
        add_bytes(stream, NULL, 0, true);
    stream->flushed = true;
    show(stream, true, text, size);
    return 0;
}
