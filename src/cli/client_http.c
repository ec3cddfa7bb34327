#include "cli/client_http.h"

#include <stdint.h>
#include <stdio.h>

#include <llhttp.h>

#include "base/buffer.h"
#include "base/os.h"

#define CONNECT_NS UINT64_C(5000000000)
#define LOOK_NS 100000000 /* between two looks for Ctrl-C */
#define PIECE_BYTES ((size_t)16 << 10)
#define HEADER_MAX ((size_t)1 << 10) /* the rest of a header's name or value is of no interest */

struct exchange {
    const struct client_question *question;
    struct client_answer *answer;
    llhttp_t parser;
    struct buffer name, value; /* of the header that is being read */
    int fd;
    bool whole, left;
};

/* ---- the answer, as llhttp tells it ---- */

static int on_name(llhttp_t *parser, const char *bytes, size_t size)
{
    struct exchange *exchange = parser->data;
    buffer_append(&exchange->name, bytes, size);
    return 0;
}

static int on_value(llhttp_t *parser, const char *bytes, size_t size)
{
    struct exchange *exchange = parser->data;
    buffer_append(&exchange->value, bytes, size);
    return 0;
}

static bool is_content_type(struct text name)
{
    static const char wanted[] = "content-type";
    if (name.size != sizeof wanted - 1)
        return false;
    for (size_t i = 0; i < name.size; i++) {
        if ((name.data[i] | 0x20) != (wanted[i] | 0x20))
            return false;
    }
    return true;
}

static int on_header(llhttp_t *parser)
{
    struct exchange *exchange = parser->data;
    struct client_answer *answer = exchange->answer;
    if (exchange->value.size > 0 && is_content_type(buffer_text(&exchange->name)))
        snprintf(answer->type, sizeof answer->type, "%s", exchange->value.data);
    buffer_finish(&exchange->name);
    buffer_finish(&exchange->value);
    buffer_init(&exchange->name, HEADER_MAX);
    buffer_init(&exchange->value, HEADER_MAX);
    return 0;
}

static int on_head(llhttp_t *parser)
{
    struct exchange *exchange = parser->data;
    exchange->answer->status = parser->status_code;
    return 0;
}

static int on_body(llhttp_t *parser, const char *bytes, size_t size)
{
    struct exchange *exchange = parser->data;
    const struct client_question *question = exchange->question;
    exchange->left =
        !question->on_bytes(question->context, exchange->answer, (struct text){bytes, size});
    return exchange->left ? HPE_PAUSED : 0;
}

static int on_whole(llhttp_t *parser)
{
    struct exchange *exchange = parser->data;
    exchange->whole = parser->status_code >= 200; /* else only a note that the answer will come */
    return exchange->whole ? HPE_PAUSED : 0;
}

static const llhttp_settings_t settings = {
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_header_value_complete = on_header,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_whole,
};

/* ---- the connection ---- */

/* Asked before each wait. */
static int look(struct exchange *exchange, struct hearth_error *err)
{
    bool (*interrupted)(void) = exchange->question->interrupted;
    if (interrupted && interrupted())
        exchange->left = true;
    return exchange->left ? error_set(err, HEARTH_E_CANCELLED, "interrupted") : 0;
}

/* Where the other side does not want it all, what it says about that is read next. */
static int send_all(struct exchange *exchange, struct text text, struct hearth_error *err)
{
    while (text.size > 0) {
        if (look(exchange, err))
            return HEARTH_E_CANCELLED;
        ptrdiff_t sent = os_socket_send_with(exchange->fd, text.data, text.size, NULL, 0, err);
        if (sent == HEARTH_E_MISSING)
            return 0;
        if (sent < 0)
            return (int)sent;
        if (sent == 0)
            os_socket_wait(exchange->fd, true, LOOK_NS);
        text = (struct text){text.data + sent, text.size - (size_t)sent};
    }
    return 0;
}

static int send_question(struct exchange *exchange, struct hearth_error *err)
{
    const struct client_question *question = exchange->question;
    struct buffer head;
    buffer_init(&head, 1 << 16);
    buffer_format(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n",
                  question->method, question->path);
    if (question->body.data)
        buffer_format(&head, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                      question->body.size);
    buffer_format(&head, "\r\n");
    int status = head.failed ? error_set(err, HEARTH_E_MEMORY, "no memory for a request")
                             : send_all(exchange, buffer_text(&head), err);
    buffer_finish(&head);
    return status ? status : send_all(exchange, question->body, err);
}

static int read_piece(struct exchange *exchange, struct text bytes, struct hearth_error *err)
{
    llhttp_errno_t result = llhttp_execute(&exchange->parser, bytes.data, bytes.size);
    if (exchange->left)
        return error_set(err, HEARTH_E_CANCELLED, "interrupted");
    if (result == HPE_OK || exchange->whole)
        return 0;
    return error_set(err, HEARTH_E_FORMAT, "it does not speak HTTP: %s",
                     llhttp_get_error_reason(&exchange->parser));
}

static int read_answer(struct exchange *exchange, struct hearth_error *err)
{
    char bytes[PIECE_BYTES];
    unsigned none;
    while (!exchange->whole) {
        int status = look(exchange, err);
        if (status)
            return status;
        ptrdiff_t got =
            os_socket_receive_with(exchange->fd, bytes, sizeof bytes, NULL, 0, &none, err);
        if (got == HEARTH_E_MISSING) {
            llhttp_finish(&exchange->parser); /* an answer without a length ends here */
            return exchange->whole ? 0
                                   : error_set(err, HEARTH_E_IO,
                                               "it closed the connection before its answer ended");
        }
        if (got < 0)
            return (int)got;
        if (got == 0)
            os_socket_wait(exchange->fd, false, LOOK_NS);
        else if ((status = read_piece(exchange, (struct text){bytes, (size_t)got}, err)) != 0)
            return status;
    }
    return 0;
}

int client_ask(const struct client_question *question, struct client_answer *answer,
               struct hearth_error *err)
{
    struct exchange exchange = {.question = question, .answer = answer};
    *answer = (struct client_answer){0};
    exchange.fd = os_connect_unix(question->socket, CONNECT_NS, err);
    if (exchange.fd < 0)
        return exchange.fd;
    buffer_init(&exchange.name, HEADER_MAX);
    buffer_init(&exchange.value, HEADER_MAX);
    llhttp_init(&exchange.parser, HTTP_RESPONSE, &settings);
    exchange.parser.data = &exchange;
    int status = send_question(&exchange, err);
    if (!status)
        status = read_answer(&exchange, err);
    buffer_finish(&exchange.name);
    buffer_finish(&exchange.value);
    os_file_close(exchange.fd);
    return status;
}
