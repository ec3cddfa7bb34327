/* Any bytes as requests, one behind the other: each is refused in words, waits for more, or is a
 * request with nothing in it that could mean two things; and how the bytes were cut does not
 * matter. The first byte chooses the cuts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "server/http_parse.h"
#include "server/http_route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct http_limits limits = {
    .request_line_max = 200, .headers_max = 400, .header_count_max = 10, .body_max = 500};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void check_text(struct text text)
{
    for (size_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        check(c == '\t' || (c >= ' ' && c != 0x7f));
    }
}

static void check_request(const struct http_parser *parser)
{
    const struct http_request *request = &parser->request;
    struct text value, rest = request->headers;
    struct buffer name;
    check(request->path.size > 0 && request->path.size <= limits.request_line_max);
    check_text(request->path);
    check_text(request->query);
    check_text(request->host);
    check_text(request->origin);
    check_text(request->authorization);
    check_text(request->content_type);
    check(request->http_1_0 || request->host.data);
    check(!(parser->chunked && parser->has_length));
    if (http_request_header(request, "transfer-encoding", &value))
        check(parser->chunked && http_text_is(value, "chunked"));
    if (http_request_header(request, "content-length", &value))
        check(parser->has_length && parser->content_length == strtoull(value.data, NULL, 10));
    while (rest.size > 0) {
        const char *end = memchr(rest.data, '\n', rest.size);
        check(end && end > rest.data && end[-1] == '\r');
        check_text((struct text){rest.data, (size_t)(end - rest.data) - 1});
        rest = (struct text){end + 1, rest.size - (size_t)(end + 1 - rest.data)};
    }
    buffer_init(&name, request->path.size);
    http_route_name(request->path, &name);
    buffer_finish(&name);
}

/* What there is to say of the requests in some bytes, as bytes. */
static size_t read_all(const char *data, size_t size, size_t piece, char *said, size_t said_max)
{
    struct http_parser parser;
    size_t at = 0, length = 0;
    http_parser_init(&parser, &limits);
    while (at < size && parser.stage != HTTP_STAGE_REFUSED && length + 600 < said_max) {
        size_t given = size - at < piece ? size - at : piece;
        size_t used = http_parser_feed(&parser, data + at, given);
        check(used <= given);
        at += used;
        if (parser.stage == HTTP_STAGE_HEAD_READ) {
            check_request(&parser);
            said[length++] = (char)parser.request.method;
            http_parser_expect(&parser, limits.body_max);
        } else {
            check(used > 0);
        }
        if (parser.stage == HTTP_STAGE_DONE) {
            struct text body = parser.request.body;
            check(body.size <= limits.body_max);
            check(parser.chunked || body.size == parser.content_length);
            if (body.size)
                memcpy(said + length, body.data, body.size);
            length += body.size;
            said[length++] = '\n';
            http_parser_next(&parser);
        }
    }
    if (parser.stage == HTTP_STAGE_REFUSED) {
        check(parser.refusal.status >= 400 && parser.refusal.sentence[0]);
        said[length++] = (char)(parser.refusal.status - 400);
    }
    said[length++] = (char)parser.stage;
    http_parser_finish(&parser);
    return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char whole[1 << 16], pieces[1 << 16];
    if (size < 1)
        return 0;
    const char *bytes = (const char *)data + 1;
    size_t a = read_all(bytes, size - 1, SIZE_MAX, whole, sizeof whole);
    size_t b = read_all(bytes, size - 1, 1 + data[0] % 40u, pieces, sizeof pieces);
    check(a == b && memcmp(whole, pieces, a) == 0);
    return 0;
}
