/* Bytes to one request, without a socket: limits counted while reading, one strict reading of the
 * head, llhttp for the framing of the body. */
#ifndef SERVER_HTTP_PARSE_H
#define SERVER_HTTP_PARSE_H

#include <llhttp.h>

#include "server/http.h"

struct http_refusal {
    int status;
    const char *sentence;
    size_t limit; /* named in the sentence where it is not 0 */
};

enum http_stage {
    HTTP_STAGE_HEAD,
    HTTP_STAGE_HEAD_READ, /* http_parser_expect is to be called */
    HTTP_STAGE_BODY,
    HTTP_STAGE_DONE,
    HTTP_STAGE_REFUSED
};

struct http_parser {
    const struct http_limits *limits;
    enum http_stage stage;
    struct http_refusal refusal;
    struct http_request request;
    bool keep_alive, chunked, has_length, expects_continue;
    uint64_t content_length;

    llhttp_t framing;
    struct buffer head;  /* request line and headers; the request points into it */
    size_t head_begin;   /* behind an empty line before the request line */
    size_t line_size;    /* of the line that is being read, without its end */
    size_t headers_size; /* of the header lines that are complete */
    size_t line_count;   /* complete lines, the request line included */
    char last;           /* byte of the head */
    struct buffer body, name;
    size_t body_raw, body_raw_max; /* bytes as sent, chunk headers included */
};

void http_parser_init(struct http_parser *parser, const struct http_limits *limits);
void http_parser_finish(struct http_parser *parser);
/* Forgets the request; the next one follows. */
void http_parser_next(struct http_parser *parser);

/* Reads; returns how many bytes were used, which stops short behind a head and behind a request.
 * The stage says what is there. */
size_t http_parser_feed(struct http_parser *parser, const char *data, size_t size);
/* After the head: the largest body that is wanted. The stage is then BODY, DONE or REFUSED. */
void http_parser_expect(struct http_parser *parser, size_t body_max);

#endif
