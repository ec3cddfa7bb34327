#include "server/http_parse.h"

#include <assert.h>
#include <string.h>

#include "base/utf8.h"

/* What is more in a chunked body than its bytes: sizes, extensions, line ends. */
#define CHUNK_OVERHEAD ((size_t)64 << 10)

static bool refuse(struct http_parser *parser, int status, const char *sentence)
{
    parser->refusal = (struct http_refusal){status, sentence, 0};
    parser->stage = HTTP_STAGE_REFUSED;
    return false;
}

static bool refuse_above(struct http_parser *parser, int status, const char *sentence, size_t limit)
{
    parser->refusal = (struct http_refusal){status, sentence, limit};
    parser->stage = HTTP_STAGE_REFUSED;
    return false;
}

/* ---- text ---- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool http_text_is(struct text text, const char *string)
{
    if (text.size != strlen(string))
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (lower(text.data[i]) != lower(string[i]))
            return false;
    }
    return true;
}

/* RFC 9110, 5.6.2 */
static bool is_token(struct text text)
{
    for (size_t i = 0; i < text.size; i++) {
        char c = lower(text.data[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
            (c == '\0' || !strchr("!#$%&'*+-.^_`|~", c)))
            return false;
    }
    return text.size > 0;
}

/* The text before the first `separator`, which leaves `rest` with what is behind it. */
static struct text cut(struct text *rest, char separator)
{
    const char *at = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
    struct text first = {rest->data, at ? (size_t)(at - rest->data) : rest->size};
    size_t used = first.size + (at ? 1 : 0);
    *rest = (struct text){rest->data + used, rest->size - used};
    return first;
}

static struct text trim(struct text text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t'))
        text.size--;
    return text;
}

/* One line of a head whose line ends were checked. */
static struct text next_line(struct text *rest)
{
    struct text line = cut(rest, '\n');
    assert(line.size > 0 && line.data[line.size - 1] == '\r');
    line.size--;
    return line;
}

bool http_request_header(const struct http_request *request, const char *name, struct text *value)
{
    struct text rest = request->headers;
    while (rest.size > 0) {
        struct text line = next_line(&rest);
        if (http_text_is(cut(&line, ':'), name)) {
            *value = trim(line);
            return true;
        }
    }
    return false;
}

/* ---- framing ---- */

static int on_head_complete(llhttp_t *framing)
{
    framing->upgrade = 0; /* what asks for another protocol is answered in this one */
    return HPE_PAUSED;
}

static int on_header_field(llhttp_t *framing, const char *data, size_t size)
{
    struct http_parser *parser = framing->data;
    (void)data;
    (void)size;
    if (parser->stage != HTTP_STAGE_BODY)
        return 0;
    refuse(parser, 400, "headers behind a chunked body are not accepted");
    return -1;
}

static int on_chunk(llhttp_t *framing)
{
    struct http_parser *parser = framing->data;
    if (framing->content_length <= parser->body.max - parser->body.size)
        return 0;
    refuse_above(parser, 413, "the body is larger than this path accepts", parser->body.max);
    return -1;
}

static int on_body(llhttp_t *framing, const char *data, size_t size)
{
    struct http_parser *parser = framing->data;
    if (buffer_append(&parser->body, data, size))
        return 0;
    refuse(parser, 503, "there is no memory for the body");
    return -1;
}

static int on_complete(llhttp_t *framing)
{
    (void)framing;
    return HPE_PAUSED;
}

static const llhttp_settings_t framing_settings = {
    .on_header_field = on_header_field,
    .on_headers_complete = on_head_complete,
    .on_chunk_header = on_chunk,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* llhttp reads the whole head too, and must come to its end as we did. */
static bool start_framing(struct http_parser *parser)
{
    const char *data = parser->head.data + parser->head_begin;
    size_t size = parser->head.size - parser->head_begin;
    llhttp_init(&parser->framing, HTTP_REQUEST, &framing_settings);
    parser->framing.data = parser;
    llhttp_errno_t result = llhttp_execute(&parser->framing, data, size);
    if (result != HPE_PAUSED || llhttp_get_error_pos(&parser->framing) != data + size ||
        ((parser->framing.flags & F_CHUNKED) != 0) != parser->chunked ||
        (!parser->chunked && parser->framing.content_length != parser->content_length))
        return refuse(parser, 400, "the request's head is malformed");
    parser->keep_alive = llhttp_should_keep_alive(&parser->framing) != 0;
    llhttp_resume(&parser->framing);
    return true;
}

/* ---- the head ---- */

static bool take_method(struct http_parser *parser, struct text word)
{
    static const char *const methods[HTTP_METHOD_COUNT] = {
        [HTTP_METHOD_GET] = "GET",        [HTTP_METHOD_HEAD] = "HEAD",
        [HTTP_METHOD_POST] = "POST",      [HTTP_METHOD_PUT] = "PUT",
        [HTTP_METHOD_PATCH] = "PATCH",    [HTTP_METHOD_DELETE] = "DELETE",
        [HTTP_METHOD_OPTIONS] = "OPTIONS"};
    if (!is_token(word))
        return refuse(parser, 400, "the request line does not begin with a method");
    for (unsigned i = 0; i < HTTP_METHOD_COUNT; i++) {
        if (text_equal(word, text_of(methods[i]))) {
            parser->request.method = (enum http_method)i;
            return true;
        }
    }
    return refuse(parser, 501, "this method is not implemented");
}

static bool take_version(struct http_parser *parser, struct text word)
{
    if (text_equal(word, TEXT("HTTP/1.1")))
        return true;
    parser->request.http_1_0 = text_equal(word, TEXT("HTTP/1.0"));
    if (parser->request.http_1_0)
        return true;
    const char *at = word.data;
    if (word.size != 8 || !text_starts_with(word, TEXT("HTTP/")) || at[5] < '0' || at[5] > '9' ||
        at[6] != '.' || at[7] < '0' || at[7] > '9')
        return refuse(parser, 400, "the request line does not end with an HTTP version");
    return refuse(parser, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
}

/* RFC 9112, 3.2: a path, the same behind http:// and the Host, or * for OPTIONS. */
static bool take_target(struct http_parser *parser, struct text word)
{
    struct http_request *request = &parser->request;
    for (size_t i = 0; i < word.size; i++) {
        unsigned char c = (unsigned char)word.data[i];
        if (c <= ' ' || c >= 0x7f || c == '#')
            return refuse(parser, 400, "the request's path has a byte that belongs in no path");
    }
    if (word.size > 7 && http_text_is((struct text){word.data, 7}, "http://")) {
        word = (struct text){word.data + 7, word.size - 7};
        struct text rest = word;
        request->host = cut(&rest, '/');
        word = (struct text){word.data + request->host.size, word.size - request->host.size};
    }
    bool asterisk = request->method == HTTP_METHOD_OPTIONS && text_equal(word, TEXT("*"));
    if (!asterisk && (word.size == 0 || word.data[0] != '/'))
        return refuse(parser, 400, "the request's path does not begin with a slash");
    request->query = word;
    request->path = cut(&request->query, '?');
    return true;
}

static bool take_request_line(struct http_parser *parser, struct text line)
{
    struct text target = line, method = cut(&target, ' ');
    struct text version = target;
    target = cut(&version, ' ');
    return take_version(parser, version) && take_method(parser, method) &&
           take_target(parser, target);
}

/* Headers whose meaning would be unclear if they were there twice. */
struct single_headers {
    struct text content_length, transfer_encoding, expect, content_encoding, host;
};

static bool take_header(struct http_parser *parser, struct single_headers *singles,
                        struct text line)
{
    struct http_request *request = &parser->request;
    const struct {
        const char *name;
        struct text *slot;
    } slots[] = {{"host", &singles->host},
                 {"content-length", &singles->content_length},
                 {"transfer-encoding", &singles->transfer_encoding},
                 {"expect", &singles->expect},
                 {"content-encoding", &singles->content_encoding},
                 {"content-type", &request->content_type},
                 {"origin", &request->origin},
                 {"authorization", &request->authorization}};
    if (line.data[0] == ' ' || line.data[0] == '\t')
        return refuse(parser, 400, "a header is continued on a second line");
    struct text value = line, name = cut(&value, ':');
    if (name.size == line.size || !is_token(name))
        return refuse(parser, 400, "a header's name is malformed or not followed by a colon");
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        if (!http_text_is(name, slots[i].name))
            continue;
        if (slots[i].slot->data)
            return refuse(parser, 400, "a header that may be there once is there twice");
        *slots[i].slot = trim(value);
    }
    return true;
}

static bool take_content_length(struct http_parser *parser, struct text digits)
{
    uint64_t length = 0;
    for (size_t i = 0; i < digits.size; i++) {
        if (digits.data[i] < '0' || digits.data[i] > '9')
            return refuse(parser, 400, "Content-Length is not a number");
        /* what is too large for 64 bits is only too large */
        length = length > UINT64_MAX / 100 ? UINT64_MAX / 10
                                           : length * 10 + (uint64_t)(digits.data[i] - '0');
    }
    if (digits.size == 0)
        return refuse(parser, 400, "Content-Length is empty");
    if (length >= UINT64_MAX / 100)
        return refuse_above(parser, 413, "the body is larger than this server accepts",
                            parser->limits->body_max);
    parser->content_length = length;
    parser->has_length = true;
    return true;
}

/* RFC 9112, 6.3, without what it leaves to the server's discretion. */
static bool take_framing(struct http_parser *parser, const struct single_headers *singles)
{
    struct text coding = singles->transfer_encoding;
    if (coding.data && singles->content_length.data)
        return refuse(parser, 400, "Content-Length and Transfer-Encoding exclude each other");
    if (coding.data && parser->request.http_1_0)
        return refuse(parser, 400, "HTTP/1.0 has no Transfer-Encoding");
    if (coding.data && !http_text_is(coding, "chunked"))
        return refuse(parser, 501, "the only transfer encoding known here is chunked");
    parser->chunked = coding.data != NULL;
    return !singles->content_length.data || take_content_length(parser, singles->content_length);
}

static bool take_meaning(struct http_parser *parser, const struct single_headers *singles)
{
    struct http_request *request = &parser->request;
    if (!singles->host.data && !request->http_1_0)
        return refuse(parser, 400, "the Host header is missing");
    if (request->host.data && singles->host.data &&
        (singles->host.size != request->host.size ||
         memcmp(singles->host.data, request->host.data, request->host.size) != 0))
        return refuse(parser, 400, "the Host header differs from the host in the request line");
    if (singles->host.data)
        request->host = singles->host;
    if (!take_framing(parser, singles))
        return false;
    if (singles->content_encoding.data && !http_text_is(singles->content_encoding, "identity"))
        return refuse(parser, 415, "bodies in a Content-Encoding are not accepted");
    if (singles->expect.data && !request->http_1_0) {
        parser->expects_continue = http_text_is(singles->expect, "100-continue");
        if (!parser->expects_continue)
            return refuse(parser, 417, "the only expectation known here is 100-continue");
    }
    return true;
}

static void take_head(struct http_parser *parser)
{
    struct single_headers singles = {0};
    struct text rest = {parser->head.data + parser->head_begin,
                        parser->head.size - parser->head_begin - 2};
    if (!take_request_line(parser, next_line(&rest)))
        return;
    parser->request.headers = rest;
    while (rest.size > 0) {
        if (!take_header(parser, &singles, next_line(&rest)))
            return;
    }
    if (take_meaning(parser, &singles) && start_framing(parser))
        parser->stage = HTTP_STAGE_HEAD_READ;
}

/* ---- reading ---- */

/* Counts a byte of the head; false where it is refused. */
static bool count_head_byte(struct http_parser *parser, char c)
{
    const struct http_limits *limits = parser->limits;
    if ((c == '\n') != (parser->last == '\r') ||
        (c != '\r' && c != '\n' && c != '\t' && (unsigned char)c < ' ') || c == 0x7f) {
        bool tls = parser->head.size == 0 && parser->line_count == 0 && c == 0x16;
        return refuse(
            parser, 400,
            tls ? "this is no HTTP request; for TLS it would be: use http://, not https://"
                : "the request's head has a control character or half a line end");
    }
    if (c == '\r' || c == '\n')
        return true;
    parser->line_size++;
    if (parser->line_count == 0 && parser->line_size > limits->request_line_max)
        return refuse_above(parser, 414, "the request line is longer than is accepted",
                            limits->request_line_max);
    if (parser->line_count > limits->header_count_max)
        return refuse_above(parser, 431, "the request has more headers than are accepted",
                            limits->header_count_max);
    if (parser->line_count > 0 &&
        parser->headers_size + parser->line_size + 2 > limits->headers_max)
        return refuse_above(parser, 431, "the request's headers are larger than is accepted",
                            limits->headers_max);
    return true;
}

/* A line of the head is complete. True where it was the last. */
static bool end_head_line(struct http_parser *parser)
{
    bool empty = parser->line_size == 0;
    if (parser->line_count == 0 && empty) {
        if (parser->head_begin > 0)
            refuse(parser, 400, "the request begins with empty lines");
        parser->head_begin = 2;
        return false;
    }
    if (parser->line_count > 0 && !empty)
        parser->headers_size += parser->line_size + 2;
    parser->line_count++;
    parser->line_size = 0;
    return empty;
}

static size_t feed_head(struct http_parser *parser, const char *data, size_t size)
{
    size_t at = 0;
    bool complete = false;
    while (at < size && !complete) {
        char c = data[at++];
        if (!count_head_byte(parser, c))
            return at;
        parser->last = c;
        if (c == '\n')
            complete = end_head_line(parser);
        if (parser->stage == HTTP_STAGE_REFUSED)
            return at;
    }
    if (!buffer_append(&parser->head, data, at))
        refuse(parser, 503, "there is no memory for the request");
    else if (complete)
        take_head(parser);
    return at;
}

static size_t feed_body(struct http_parser *parser, const char *data, size_t size)
{
    llhttp_errno_t result = llhttp_execute(&parser->framing, data, size);
    if (result == HPE_OK || result == HPE_PAUSED) {
        size_t used =
            result == HPE_OK ? size : (size_t)(llhttp_get_error_pos(&parser->framing) - data);
        parser->body_raw += used;
        if (parser->body_raw > parser->body_raw_max)
            refuse_above(parser, 413, "the body's chunks are larger than this path accepts",
                         parser->body.max);
        else if (result == HPE_PAUSED)
            parser->stage = HTTP_STAGE_DONE;
        return used;
    }
    if (parser->stage != HTTP_STAGE_REFUSED)
        refuse(parser, 400, "the body's chunks are malformed");
    return size;
}

size_t http_parser_feed(struct http_parser *parser, const char *data, size_t size)
{
    if (size == 0)
        return 0;
    if (parser->stage == HTTP_STAGE_HEAD)
        return feed_head(parser, data, size);
    if (parser->stage != HTTP_STAGE_BODY)
        return 0;
    size_t used = feed_body(parser, data, size);
    if (parser->stage == HTTP_STAGE_DONE)
        parser->request.body = buffer_text(&parser->body);
    return used;
}

void http_parser_expect(struct http_parser *parser, size_t body_max)
{
    assert(parser->stage == HTTP_STAGE_HEAD_READ);
    buffer_init(&parser->body, body_max);
    parser->body_raw_max =
        body_max > (SIZE_MAX - CHUNK_OVERHEAD) / 2 ? SIZE_MAX : 2 * body_max + CHUNK_OVERHEAD;
    if (parser->content_length > body_max)
        refuse_above(parser, 413, "the body is larger than this path accepts", body_max);
    else
        parser->stage =
            parser->chunked || parser->content_length > 0 ? HTTP_STAGE_BODY : HTTP_STAGE_DONE;
}

void http_parser_init(struct http_parser *parser, const struct http_limits *limits)
{
    *parser = (struct http_parser){.limits = limits};
    /* both parts are counted while they are read, and an empty line may stand at each end */
    buffer_init(&parser->head, limits->request_line_max + limits->headers_max + 6);
}

void http_parser_finish(struct http_parser *parser)
{
    buffer_finish(&parser->head);
    buffer_finish(&parser->body);
    buffer_finish(&parser->name);
}

void http_parser_next(struct http_parser *parser)
{
    const struct http_limits *limits = parser->limits;
    http_parser_finish(parser);
    http_parser_init(parser, limits);
}
