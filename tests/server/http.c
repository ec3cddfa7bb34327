/* The HTTP layer by raw bytes over real sockets: what it answers, what it refuses, its limits at
 * their boundaries, requests in pieces and one behind the other, and requests that mean two things.
 */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "raw_http.h"

#define LOCAL "tcp=127.0.0.1"
#define HOST "Host: localhost\r\n"

struct exchange {
    const char *request;
    int status;
    bool closed; /* the connection ends behind the answer */
};

/* Each on a connection of its own, and, where it stays open, with a second request behind it. */
static void check_exchanges(const struct served *served, const struct exchange *exchanges,
                            size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct exchange *e = &exchanges[i];
        struct answer answer;
        int fd = dial(served);
        say(fd, e->request);
        hear(fd, strncmp(e->request, "HEAD ", 5) == 0, &answer);
        if (answer.status != e->status || answer.closed != e->closed)
            fail_msg("%d%s, expected %d%s, for:\n%s\n%s", answer.status,
                     answer.closed ? " and the end" : "", e->status,
                     e->closed ? " and the end" : "", e->request, answer.body);
        if (answer.status >= 400 && strncmp(e->request, "HEAD ", 5) != 0) {
            assert_non_null(strstr(answer.head, "\r\nContent-Type: application/json\r\n"));
            assert_memory_equal(answer.body, "{\"error\":{\"message\":\"", 21);
        }
        assert_non_null(strstr(answer.head, "\r\nDate: "));
        answer_free(&answer);
        if (e->closed)
            assert_true(ends_within(fd, 5000));
        else
            expect_status(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
        hang_up(&fd);
    }
}

static const struct exchange single_requests[] = {
    {"GET /hello HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"HEAD /hello HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"GET /hello?a=b HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"GET http://localhost/hello HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"GET /hello HTTP/1.1\r\nhOST:localhost:80 \r\nX:\t\r\nX: \xc3\xa9\r\n\r\n", 200, false},
    {"GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200, true},
    {"GET /hello HTTP/1.1\r\n" HOST "Connection: keep-alive, Close\r\n\r\n", 200, true},
    {"GET /hello HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200, false},
    {"GET /hello HTTP/1.0\r\n\r\n", 200, true},
    {"GET /hello HTTP/1.0\r\n" HOST "Connection: keep-alive\r\n\r\n", 200, false},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 200, false},
    {"POST /echo HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"POST /echo HTTP/1.1\r\n" HOST
     "Transfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n01;x=\"y\"\r\nc\r\n0\r\n\r\n",
     200, false},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: identity\r\nContent-Length: 0\r\n\r\n", 200,
     false},
    {"PUT /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 200, false},
    {"DELETE /names/a HTTP/1.1\r\n" HOST "\r\n", 200, false},
    {"OPTIONS /echo HTTP/1.1\r\n" HOST "\r\n", 204, false},
    {"OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 204, false},
    {"OPTIONS /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 204, true},
    {"GET /hello HTTP/1.1\r\n\r\n", 400, true},
    {"GET hello HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"GET /h\xc3\xa9llo HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"GET /hello#x HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"GET * HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"GET http://localhost HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"GET http://other/hello HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"GET /hello\r\n\r\n", 400, true},
    {"GET /hello HTTP/1.1x\r\n" HOST "\r\n", 400, true},
    {"GET /hello http/1.1\r\n" HOST "\r\n", 400, true},
    {"\r\n\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n", 400, true},
    {"\x16\x03\x01\x02", 400, true},
    {"GET /names/%zz HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"GET /names/%c3 HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"GET /names/a%00b HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"GET /names/a%4 HTTP/1.1\r\n" HOST "\r\n", 400, false},
    {"GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, false},
    {"GET /nothing HTTP/1.1\r\n" HOST "\r\n", 404, false},
    {"GET /names/ HTTP/1.1\r\n" HOST "\r\n", 404, false},
    {"GET /names/a/b HTTP/1.1\r\n" HOST "\r\n", 404, false},
    {"GET /hello/ HTTP/1.1\r\n" HOST "\r\n", 404, false},
    {"POST /nothing HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 404, true},
    {"POST /hello HTTP/1.1\r\n" HOST "\r\n", 405, false},
    {"GET /echo HTTP/1.1\r\n" HOST "\r\n", 405, false},
    {"HEAD /echo HTTP/1.1\r\n" HOST "\r\n", 405, false},
    {"PUT /echo HTTP/1.1\r\n" HOST "\r\n", 411, false},
    {"POST /small HTTP/1.1\r\n" HOST "Content-Length: 17\r\n\r\n", 413, true},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Length: 18446744073709551616\r\n\r\n", 413, true},
    {"POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 415,
     true},
    {"POST /echo HTTP/1.1\r\n" HOST "Origin: http://localhost\r\nContent-Length: 3\r\n"
     "Content-Type: text/plain\r\n\r\nabc",
     415, true},
    {"POST /echo HTTP/1.1\r\n" HOST "Expect: 200-ok\r\nContent-Length: 3\r\n\r\n", 417, true},
    {"BREW /hello HTTP/1.1\r\n" HOST "\r\n", 501, true},
    {"TRACE /hello HTTP/1.1\r\n" HOST "\r\n", 501, true},
    {"CONNECT localhost:1 HTTP/1.1\r\n" HOST "\r\n", 501, true},
    {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501, true},
    {"GET /hello HTTP/2.0\r\n" HOST "\r\n", 505, true},
    {"GET /hello HTTP/1.2\r\n" HOST "\r\n", 505, true},
    {"GET /hello HTTP/0.9\r\n" HOST "\r\n", 505, true},
    {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, true},
};

static void every_status_has_its_request(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    check_exchanges(&served, single_requests, sizeof single_requests / sizeof *single_requests);
    serve_end(&served);
}

/* What the log is told: numbers as the client sees them, routes and never paths, one report for
 * each request however it ends. */
static void each_request_is_reported_once(void **state)
{
    static const char expected[] = "1 0 /hello 200 0>6\n"
                                   "2 2 /echo 200 3>3\n"
                                   "3 0 /names/{name} 200 0>6\n"
                                   "4 1 /hello 200 0>0\n"
                                   "5 0 - 404 0>";
    struct served served;
    struct answer answer;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    expect_status(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
    expect_status(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", 200);
    expect_status(fd, "GET /names/secret HTTP/1.1\r\n" HOST "\r\n", 200);
    say(fd, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n");
    hear(fd, true, &answer);
    assert_non_null(strstr(answer.head, "\r\nX-Request-Id: 4\r\n"));
    answer_free(&answer);
    expect_status(fd, "GET /secret HTTP/1.1\r\n" HOST "\r\n", 404);
    expect_status(fd, "GET /stream?bytes=1000 HTTP/1.1\r\n" HOST "\r\n", 200);
    expect_status(fd, "GET secret HTTP/1.1\r\n" HOST "\r\n", 400);
    hang_up(&fd);
    fd = dial(&served);
    say(fd, "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n");
    sleep_ms(50);
    hang_up(&fd);
    assert_true(stat_becomes(&served, "gone", 1, 5000));
    fd = dial(&served);
    say(fd, "GET /reports HTTP/1.1\r\n" HOST "\r\n");
    hear(fd, false, &answer);
    assert_memory_equal(answer.body, expected, sizeof expected - 1);
    assert_non_null(strstr(answer.body, "\n6 0 /stream 200 0>1000\n7 7 - 400 0>"));
    assert_non_null(strstr(answer.body, "\n8 0 /slow 499 gone 0>0\n"));
    assert_null(strstr(answer.body, "secret"));
    answer_free(&answer);
    hang_up(&fd);
    serve_end(&served);
}

static void an_answer_says_what_it_is(void **state)
{
    struct served served;
    struct answer answer;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    say(fd, "GET /large?size=5 HTTP/1.1\r\n" HOST "\r\n");
    hear(fd, false, &answer);
    assert_string_equal(answer.body, "xxxxx");
    assert_memory_equal(answer.head, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(answer.head, "\r\nX-Test: yes\r\n"));
    assert_null(strstr(answer.head, "X-Injected"));
    assert_null(strstr(answer.head, "X-Split"));
    const char *date = strstr(answer.head, "\r\nDate: ");
    assert_memory_equal(date + 8 + 25, " GMT\r\n", 6);
    answer_free(&answer);
    say(fd, "HEAD /large?size=5 HTTP/1.1\r\n" HOST "\r\n");
    hear(fd, true, &answer);
    assert_non_null(strstr(answer.head, "\r\nContent-Length: 5\r\n"));
    answer_free(&answer);
    say(fd, "DELETE /hello HTTP/1.1\r\n" HOST "\r\n");
    hear(fd, false, &answer);
    assert_non_null(strstr(answer.head, "\r\nAllow: GET, HEAD, OPTIONS\r\n"));
    assert_string_equal(answer.body,
                        "{\"error\":{\"message\":\"this path does not take this method\",\"type\":"
                        "\"invalid_request_error\",\"param\":null,\"code\":405}}");
    answer_free(&answer);
    hang_up(&fd);
    serve_end(&served);
}

static void a_name_in_the_path_is_decoded(void **state)
{
    static const char *const names[][2] = {{"/names/a", "a"},
                                           {"/names/a%2Fb%20%c3%A9", "a/b \xc3\xa9"},
                                           {"/names/fixed", "(the fixed path)"},
                                           {"/names/fixe%64", "fixed"},
                                           {"/names/x/more", "(the fixed path)"},
                                           {"/names/more?more", "more"}};
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct answer answer;
        char request[200];
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" HOST "\r\n", names[i][0]);
        say(fd, request);
        hear(fd, false, &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body, names[i][1]);
        answer_free(&answer);
    }
    hang_up(&fd);
    serve_end(&served);
}

/* ---- limits ---- */

/* One request whose varying part is `count` bytes 'a', between two texts. */
static int status_of_filled(const struct served *served, const char *before, size_t count,
                            const char *after, const char *sentence)
{
    struct answer answer;
    char *filling = malloc(count + 1);
    int fd = dial(served);
    memset(filling, 'a', count);
    say(fd, before);
    say_bytes(fd, filling, count);
    say(fd, after);
    hear(fd, false, &answer);
    if (answer.status >= 400 && !strstr(answer.body, sentence))
        fail_msg("'%s' is not in: %s", sentence, answer.body);
    int status = answer.status;
    answer_free(&answer);
    hang_up(&fd);
    free(filling);
    return status;
}

static void limits_count_to_the_byte(void **state)
{
    struct served served;
    char request[2000];
    (void)state;
    serve_with(&served, LOCAL, "request_line_max=100", "headers_max=300", "header_count_max=5",
               NULL);
    /* "GET /names/" and " HTTP/1.1" are 20 bytes */
    for (size_t i = 70; i < 90; i++)
        assert_int_equal(
            status_of_filled(&served, "GET /names/", i, " HTTP/1.1\r\n" HOST "\r\n",
                             "request line is longer than is accepted: the limit is 100"),
            i <= 80 ? 200 : 414);
    /* Host with its line end is 17 bytes, "X: " with its 5 */
    for (size_t i = 270; i < 290; i++)
        assert_int_equal(status_of_filled(&served, "GET /hello HTTP/1.1\r\n" HOST "X: ", i,
                                          "\r\n\r\n", "the limit is 300"),
                         i <= 278 ? 200 : 431);
    for (int i = 1; i < 10; i++) {
        size_t at = (size_t)snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\n" HOST);
        for (int k = 1; k < i; k++)
            at += (size_t)snprintf(request + at, sizeof request - at, "X: \r\n");
        assert_int_equal(status_of_filled(&served, request, 0, "\r\n", "the limit is 5"),
                         i <= 5 ? 200 : 431);
    }
    serve_end(&served);
}

static void bodies_are_limited_to_the_byte(void **state)
{
    struct served served;
    char request[200];
    (void)state;
    serve_with(&served, LOCAL, "body_max=1000", NULL);
    for (size_t i = 998; i < 1003; i++) {
        snprintf(request, sizeof request,
                 "POST /echo HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", i);
        assert_int_equal(status_of_filled(&served, request, i, "", "the limit is 1000"),
                         i <= 1000 ? 200 : 413);
        snprintf(request, sizeof request,
                 "POST /echo HTTP/1.1\r\n" HOST
                 "Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n%zx\r\n",
                 i - 1);
        assert_int_equal(
            status_of_filled(&served, request, i - 1, "\r\n0\r\n\r\n", "the limit is 1000"),
            i <= 1000 ? 200 : 413);
    }
    for (size_t i = 15; i < 18; i++) {
        snprintf(request, sizeof request,
                 "POST /small HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n", i);
        assert_int_equal(status_of_filled(&served, request, i, "", "the limit is 16"),
                         i <= 16 ? 200 : 413);
    }
    serve_end(&served);
}

/* Without an end each of these would be read for ever. */
static void what_has_no_end_is_refused_at_its_limit(void **state)
{
    static const struct {
        const char *start, *more;
        int status;
    } endless[] = {
        {"GET /", "aaaaaaaaaaaaaaaa", 414},
        {"", "aaaaaaaaaaaaaaaa", 414},
        {"GET /hello HTTP/1.1\r\n", "X: aaaaaaaaaaaa\r\n", 431},
        {"GET /hello HTTP/1.1\r\nX", "aaaaaaaaaaaaaaaa", 431},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", 413},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;a=",
         "aaaaaaaaaaaaaaaa", 413},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "0000000000000000",
         413},
        {"POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
         "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n", 413},
    };
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, "body_max=10000", NULL);
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        struct answer answer;
        int fd = dial(&served);
        say(fd, endless[i].start);
        for (size_t sent = 0; sent < 200000; sent += strlen(endless[i].more))
            say(fd, endless[i].more);
        hear(fd, false, &answer);
        assert_int_equal(answer.status, endless[i].status);
        assert_true(answer.closed);
        answer_free(&answer);
        assert_true(ends_within(fd, 5000));
        hang_up(&fd);
    }
    serve_end(&served);
}

static void all_bodies_together_have_a_limit(void **state)
{
    static const char start[] = "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n";
    struct served served;
    char bytes[1000];
    int fds[3];
    (void)state;
    memset(bytes, 'a', sizeof bytes);
    serve_with(&served, LOCAL, "bodies_max=2500", NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            fds[i] = dial(&served);
            say(fds[i], start);
            say_bytes(fds[i], bytes, 900);
            stat_of(&served, "answered"); /* it is read by now */
        }
        struct answer answer;
        hear(fds[2], false, &answer);
        assert_int_equal(answer.status, 503);
        answer_free(&answer);
        for (int i = 0; i < 2; i++) {
            say_bytes(fds[i], bytes, 100);
            hear(fds[i], false, &answer);
            assert_int_equal(answer.status, 200);
            assert_int_equal(answer.body_size, 1000);
            answer_free(&answer);
        }
        for (int i = 0; i < 3; i++)
            hang_up(&fds[i]);
    }
    serve_end(&served);
}

/* ---- pieces ---- */

static const char *const whole_requests[] = {
    "GET /names/abc HTTP/1.1\r\n" HOST "X-Y: z\r\n\r\n",
    "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nhello\r\n\r\nyo",
    "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" HOST
    "\r\n5\r\nhello\r\nB;a=b;c=\"d\"\r\nhello world\r\n0\r\n\r\n",
    "\r\nHEAD /hello HTTP/1.1\r\n" HOST "\r\n",
    "GET /names/%zz HTTP/1.1\r\n" HOST "\r\n",
    "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello",
    "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
};

static void hear_the_same(int fd, bool head_only, const struct answer *expected)
{
    struct answer answer;
    hear(fd, head_only, &answer);
    assert_int_equal(answer.status, expected->status);
    assert_int_equal(answer.closed, expected->closed);
    assert_int_equal(answer.body_size, expected->body_size);
    assert_memory_equal(answer.body, expected->body, expected->body_size);
    answer_free(&answer);
}

static void requests_may_be_split_at_every_byte(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    for (size_t r = 0; r < sizeof whole_requests / sizeof *whole_requests; r++) {
        const char *request = whole_requests[r];
        size_t size = strlen(request);
        bool head_only = strstr(request, "HEAD ") != NULL;
        struct answer expected;
        int fd = dial(&served);
        say(fd, request);
        hear(fd, head_only, &expected);
        hang_up(&fd);
        for (size_t i = 1; i < size; i++) {
            fd = dial(&served);
            say_bytes(fd, request, i);
            stat_of(&served, "gone"); /* the first piece is read by now */
            say_bytes(fd, request + i, size - i);
            hear_the_same(fd, head_only, &expected);
            hang_up(&fd);
        }
        fd = dial(&served);
        for (size_t i = 0; i < size; i++) {
            say_bytes(fd, request + i, 1);
            stat_of(&served, "gone");
        }
        hear_the_same(fd, head_only, &expected);
        hang_up(&fd);
        answer_free(&expected);
    }
    serve_end(&served);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    say(fd, "GET /slow?ms=50 HTTP/1.1\r\n" HOST "\r\n"
            "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
            "GET /stream?bytes=30 HTTP/1.1\r\n" HOST "\r\n"
            "HEAD /events?ms=60000 HTTP/1.1\r\n" HOST "\r\n"
            "GET /nothing HTTP/1.1\r\n" HOST "\r\n"
            "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
            "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"
            "GET /smuggled HTTP/1.1\r\n" HOST "\r\n");
    static const struct {
        int status;
        const char *body;
    } expected[] = {{200, "at last\n"}, {200, "abc"}, {200, "edcbazyxwvutsrqponmlkjihgfedcb"},
                    {200, ""},          {404, NULL},  {200, "de"},
                    {200, "hello\n"}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        struct answer answer;
        hear(fd, i == 3, &answer);
        assert_int_equal(answer.status, expected[i].status);
        if (expected[i].body)
            assert_string_equal(answer.body, expected[i].body);
        answer_free(&answer);
    }
    assert_true(ends_within(fd, 5000));
    assert_int_equal(stat_of(&served, "smuggled"), 0);
    /* the producer of the events that were asked for by HEAD was stopped */
    assert_int_equal(stat_of(&served, "gone"), 1);
    hang_up(&fd);
    serve_end(&served);
}

static void too_much_behind_a_request_cancels_it(void **state)
{
    struct served served;
    char bytes[10000];
    (void)state;
    memset(bytes, 'a', sizeof bytes);
    serve_with(&served, LOCAL, "pipelined_max=9000", NULL);
    int fd = dial(&served);
    say(fd, "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n");
    say_bytes(fd, bytes, 9000);
    assert_int_equal(stat_of(&served, "gone"), 0);
    say_bytes(fd, bytes, 1);
    assert_true(stat_becomes(&served, "gone", 1, 5000));
    assert_true(ends_within(fd, 5000));
    hang_up(&fd);
    serve_end(&served);
}

/* ---- one request, not two ---- */

/* In each of these somebody could see the second request where we see a body, or the other way. It
 * is never run, whatever becomes of the first. */
#define HIDDEN "GET /smuggled HTTP/1.1\r\n" HOST "\r\n"
#define POST "POST /echo HTTP/1.1\r\n" HOST
static const char *const double_requests[] = {
    POST "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Content-Length: 0\r\nContent-Length: 47\r\n\r\n" HIDDEN,
    POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde" HIDDEN,
    POST "Content-Length: 5, 5\r\n\r\nabcde" HIDDEN,
    POST "Content-Length: +0\r\n\r\n" HIDDEN,
    POST "Content-Length: -0\r\n\r\n" HIDDEN,
    POST "Content-Length: 0x0\r\n\r\n" HIDDEN,
    POST "Content-Length: 0 0\r\n\r\n" HIDDEN,
    POST "Content-Length: \r\n\r\n" HIDDEN,
    POST "Content-Length : 0\r\n\r\n" HIDDEN,
    POST "Content-Length\t: 0\r\n\r\n" HIDDEN,
    POST "Content-Length: 0;a\r\n\r\n" HIDDEN,
    POST "Content-Length\r\n: 0\r\n\r\n" HIDDEN,
    POST "X: y\r\n Content-Length: 0\r\n\r\n" HIDDEN,
    POST "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: \r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding:\x0b"
         "chunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer_Encoding: chunked\r\nContent-Length: 0\r\nTransfer-Encoding: cow\r\n\r\n" HIDDEN,
    POST "X: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "X: y\nContent-Length: 47\r\n\r\n" HIDDEN,
    POST "X: y\r\r\nContent-Length: 47\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n" HIDDEN,
    "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\n" HIDDEN,
    "POST  /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo  HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1 \r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST\t/echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    " POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\n " HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\n" HOST HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\n: x\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\nX\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\nX(: y\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\nX\xc3\xa9: y\r\n" HOST "Content-Length: 0\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\nX: \x7f\r\n\r\n" HIDDEN,
    "POST /echo HTTP/1.0\r\n" HOST "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    "0\r\n\r\n" HIDDEN,
    "GET /hello\r\n\r\n" HIDDEN,
    "GET /hello HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n" HIDDEN,
    "GET /hello HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n 0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n0;\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n0; a\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n0;a=b\nc\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n2\r\nab0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n2\nab\r\n0\r\n\r\n" HIDDEN,
    POST "Transfer-Encoding: chunked\r\n\r\n2\r\nab\n0\r\n\r\n" HIDDEN,
    POST "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n" HIDDEN,
    POST "Origin: a\r\nOrigin: b\r\nContent-Length: 0\r\n\r\n" HIDDEN,
};

static void no_request_is_hidden_in_another(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, "linger_ms=200", NULL);
    for (size_t i = 0; i < sizeof double_requests / sizeof *double_requests; i++) {
        struct answer answer;
        int fd = dial(&served);
        say(fd, double_requests[i]);
        hear(fd, false, &answer);
        if ((answer.status != 400 && answer.status != 501) || !answer.closed)
            fail_msg("%d %s for:\n%s", answer.status, answer.body, double_requests[i]);
        answer_free(&answer);
        char rest[200];
        if (hear_for(fd, 5000, rest, sizeof rest) != 0)
            fail_msg("'%s' behind the answer to:\n%s", rest, double_requests[i]);
        hang_up(&fd);
    }
    /* a NUL cannot stand in these strings */
    static const char with_nul[] = POST "X: \0\r\nContent-Length: 0\r\n\r\n" HIDDEN;
    int fd = dial(&served);
    say_bytes(fd, with_nul, sizeof with_nul - 1);
    expect_status(fd, "", 400);
    hang_up(&fd);
    assert_int_equal(stat_of(&served, "smuggled"), 0);
    assert_int_equal(stat_of(&served, "answered"), 0);
    serve_end(&served);
}

/* ---- who may ask ---- */

static const struct {
    const char *host;
    int status;
} hosts[] = {{"localhost", 200},
             {"LocalHost:7878", 200},
             {"127.0.0.1", 200},
             {"127.0.0.1:1", 200},
             {"127.255.255.254", 200},
             {"[::1]", 200},
             {"[::1]:65535", 200},
             {"friend.example", 200},
             {"FRIEND.example:80", 200},
             {"", 403},
             {":80", 403},
             {"localhost.", 403},
             {"localhost.evil.example", 403},
             {"evil.example", 403},
             {"localhost:80:80", 403},
             {"localhost:", 403},
             {"localhost:123456", 403},
             {"localhost@evil.example", 403},
             {"127.0.0.1.evil.example", 403},
             {"127.0.0.256", 403},
             {"127.0.0", 403},
             {"127.0.0.1.", 403},
             {"127.0.0.0001", 403},
             {"127..0.1", 403},
             {"127.1", 403},
             {"128.0.0.1", 403},
             {"0.0.0.0", 403},
             {"[::]", 403},
             {"::1", 403},
             {"2130706433", 403},
             {"localhost, evil.example", 403}};

static void foreign_hosts_are_refused(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, "host=friend.example", NULL);
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        char request[200];
        int fd = dial(&served);
        snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i].host);
        expect_status(fd, request, hosts[i].status);
        hang_up(&fd);
    }
    serve_end(&served);
}

/* Refused before its body is there. */
static void foreign_origins_are_refused(void **state)
{
    static const struct {
        const char *origin;
        int status;
        bool named;
    } origins[] = {{"http://app.example", 200, true},
                   {"tauri://localhost", 200, true},
                   {"http://localhost", 200, false}, /* the server's own page */
                   {"https://localhost", 403, false},
                   {"http://localhost:3000", 403, false},
                   {"http://app.example.evil", 403, false},
                   {"http://app.exampl", 403, false},
                   {"HTTP://app.example", 403, false},
                   {"null", 403, false},
                   {"", 403, false},
                   {"*", 403, false}};
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, "origin=http://app.example", "origin=tauri://localhost", NULL);
    for (size_t i = 0; i < sizeof origins / sizeof *origins; i++) {
        struct answer answer;
        char request[400];
        int fd = dial(&served);
        snprintf(request, sizeof request,
                 "POST /echo HTTP/1.1\r\n" HOST "Origin: %s\r\nContent-Length: 2\r\n"
                 "Content-Type: Application/JSON ; charset=utf-8\r\n\r\n%s",
                 origins[i].origin, origins[i].status == 200 ? "{}" : "");
        say(fd, request);
        hear(fd, false, &answer);
        assert_int_equal(answer.status, origins[i].status);
        char allowed[100];
        snprintf(allowed, sizeof allowed, "\r\nAccess-Control-Allow-Origin: %s\r\nVary: Origin\r\n",
                 origins[i].origin);
        assert_int_equal(strstr(answer.head, allowed) != NULL, origins[i].named);
        assert_int_equal(strstr(answer.head, "Access-Control") != NULL, origins[i].named);
        answer_free(&answer);
        hang_up(&fd);
    }
    serve_end(&served);
}

static void a_page_sends_json_or_nothing(void **state)
{
    static const char *const types[] = {"text/plain", "application/x-www-form-urlencoded",
                                        "application/jsonp", "", "text/plain; application/json"};
    struct served served;
    char request[400];
    (void)state;
    serve_with(&served, LOCAL, "origin=http://app.example", NULL);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        int fd = dial(&served);
        snprintf(request, sizeof request,
                 "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nContent-Type: %s\r\n\r\n{}",
                 types[i]);
        expect_status(fd, request, 200);
        snprintf(request, sizeof request,
                 "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 2\r\nContent-Type: %s\r\n"
                 "Origin: http://app.example\r\n\r\n{}",
                 types[i]);
        expect_status(fd, request, 415);
        hang_up(&fd);
    }
    int fd = dial(&served);
    expect_status(fd, "GET /hello HTTP/1.1\r\n" HOST "Origin: http://app.example\r\n\r\n", 200);
    expect_status(fd,
                  "POST /echo HTTP/1.1\r\n" HOST "Origin: http://app.example\r\n"
                  "Content-Length: 2\r\n\r\n{}",
                  415);
    hang_up(&fd);
    serve_end(&served);
}

static void a_named_origin_is_told_what_it_may(void **state)
{
    struct served served;
    struct answer answer;
    (void)state;
    serve_with(&served, LOCAL, "origin=http://app.example", "key=secret", NULL);
    int fd = dial(&served);
    say(fd,
        "OPTIONS /echo HTTP/1.1\r\n" HOST "Origin: http://app.example\r\n"
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Private-Network: true\r\n"
        "Access-Control-Request-Headers: authorization,content-type\r\n\r\n");
    hear(fd, false, &answer);
    assert_int_equal(answer.status, 204);
    static const char *const lines[] = {
        "\r\nAllow: POST, PUT, OPTIONS\r\n",
        "\r\nAccess-Control-Allow-Methods: POST, PUT, OPTIONS\r\n",
        "\r\nAccess-Control-Allow-Headers: authorization,content-type\r\n",
        "\r\nAccess-Control-Allow-Origin: http://app.example\r\n",
        "\r\nAccess-Control-Allow-Private-Network: true\r\n",
        "\r\nAccess-Control-Max-Age: 600\r\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        assert_non_null(strstr(answer.head, lines[i]));
    assert_null(strstr(answer.head, "Content-Length"));
    answer_free(&answer);
    expect_status(fd,
                  "OPTIONS /echo HTTP/1.1\r\n" HOST "Origin: http://evil.example\r\n"
                  "Access-Control-Request-Method: POST\r\n\r\n",
                  403);
    /* a page can read why it was refused */
    say(fd, "GET /hello HTTP/1.1\r\n" HOST "Origin: http://app.example\r\n\r\n");
    hear(fd, false, &answer);
    assert_int_equal(answer.status, 401);
    assert_non_null(strstr(answer.head, "\r\nAccess-Control-Allow-Origin: http://app.example\r\n"));
    answer_free(&answer);
    hang_up(&fd);
    serve_end(&served);
}

static void keys_are_asked_for(void **state)
{
    static const struct {
        const char *line;
        int status;
    } keys[] = {{"Authorization: Bearer secret", 200},
                {"authorization: bearer other-key", 200},
                {"", 401},
                {"Authorization: Bearer ", 401},
                {"Authorization: Bearer", 401},
                {"Authorization: Bearer secre", 401},
                {"Authorization: Bearer secrets", 401},
                {"Authorization: Bearer secretsecret", 401},
                {"Authorization: Bearer Secret", 401},
                {"Authorization: Bearer  secret", 401},
                {"Authorization: Basic secret", 401},
                {"Authorization: secret", 401},
                {"X-Api-Key: secret", 401}};
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, "key=secret", "key=other-key", NULL);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct answer answer;
        char request[200];
        int fd = dial(&served);
        snprintf(request, sizeof request, "GET /hello HTTP/1.1\r\n" HOST "%s%s\r\n", keys[i].line,
                 keys[i].line[0] ? "\r\n" : "");
        say(fd, request);
        hear(fd, false, &answer);
        assert_int_equal(answer.status, keys[i].status);
        assert_int_equal(strstr(answer.head, "\r\nWWW-Authenticate: Bearer\r\n") != NULL,
                         answer.status == 401);
        assert_null(strstr(answer.body, "secret"));
        answer_free(&answer);
        /* what needs no key, and what is hidden without one */
        expect_status(fd, "GET /open HTTP/1.1\r\n" HOST "\r\n", 200);
        expect_status(fd, "GET /nothing HTTP/1.1\r\n" HOST "\r\n", 401);
        expect_status(fd, "POST /open HTTP/1.1\r\n" HOST "\r\n", 401);
        hang_up(&fd);
    }
    serve_end(&served);
}

/* ---- where it listens ---- */

static void other_machines_need_keys(void **state)
{
    static const char *const addresses[] = {"tcp=0.0.0.0", "tcp=192.0.2.1", "tcp=::"};
    struct served served;
    (void)state;
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        serve_with(&served, addresses[i], NULL);
        assert_non_null(strstr(served.said, "listening there needs keys"));
        assert_int_equal(serve_wait(&served), 1);
    }
    serve_with(&served, "tcp=localhost", NULL);
    assert_int_equal(serve_wait(&served), 1);
    serve_with(&served, "tcp=0.0.0.0", "key=k", NULL);
    assert_true(served.port > 0);
    serve_end(&served);
}

static void a_unix_socket_is_the_users_alone(void **state)
{
    char directory[] = "/tmp/hearth-http-XXXXXX", path[60], where[80], lock[80];
    struct served served, second;
    struct stat status;
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/s", directory);
    snprintf(where, sizeof where, "unix=%s", path);
    snprintf(lock, sizeof lock, "%s.lock", path);
    umask(0);
    serve_with(&served, where, NULL);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(stat(lock, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    int fd = dial(&served);
    expect_status(fd, "GET /hello HTTP/1.1\r\nHost: anything at all\r\n\r\n", 200);
    /* a second one says who is there, and does no harm */
    char expected[200];
    snprintf(expected, sizeof expected, "error: process %d listens at %s", served.process, path);
    serve_with(&second, where, NULL);
    assert_string_equal(second.said, expected);
    assert_int_equal(serve_wait(&second), 1);
    expect_status(fd, "GET /hello HTTP/1.1\r\nHost:\r\n\r\n", 200);
    hang_up(&fd);
    serve_end(&served);
    assert_int_equal(access(path, F_OK), -1);
    unlink(lock);
    rmdir(directory);
}

static void a_dead_socket_is_replaced_and_nothing_else(void **state)
{
    char directory[] = "/tmp/hearth-http-XXXXXX", where[128], lock[128];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct served served;
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
    snprintf(where, sizeof where, "unix=%s", address.sun_path);
    snprintf(lock, sizeof lock, "%s.lock", address.sun_path);
    int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(other, 1), 0);
    serve_with(&served, where, NULL);
    assert_non_null(strstr(served.said, "another program listens at"));
    assert_int_equal(serve_wait(&served), 1);
    close(other);
    serve_with(&served, where, NULL);
    assert_string_equal(served.said, "0");
    int fd = dial(&served);
    expect_status(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
    hang_up(&fd);
    serve_end(&served);
    FILE *file = fopen(address.sun_path, "w");
    assert_non_null(file);
    fclose(file);
    serve_with(&served, where, NULL);
    assert_non_null(strstr(served.said, "exists and is no socket"));
    assert_int_equal(serve_wait(&served), 1);
    assert_int_equal(access(address.sun_path, F_OK), 0);
    unlink(address.sun_path);
    unlink(lock);
    rmdir(directory);
}

static void the_path_of_a_socket_has_a_length(void **state)
{
    struct served served;
    char where[200] = "unix=/tmp/";
    (void)state;
    memset(where + 10, 'a', 108 - 5);
    serve_with(&served, where, NULL);
    assert_string_equal(served.said, "error: a socket's path has 1 to 107 bytes, this one has 108");
    assert_int_equal(serve_wait(&served), 1);
    where[5 + 107] = '\0';
    serve_with(&served, where, NULL);
    assert_string_equal(served.said, "0");
    serve_end(&served);
    strcat(where, ".lock");
    assert_int_equal(unlink(where + 5), 0);
}

static void an_inherited_socket_is_taken(void **state)
{
    char directory[] = "/tmp/hearth-http-XXXXXX", where[20];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct served served;
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(address.sun_path, sizeof address.sun_path, "%s/s", directory);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(where, sizeof where, "fd=%d", fd);
    serve_with(&served, where, NULL);
    assert_non_null(strstr(served.said, "is no listening stream socket"));
    assert_int_equal(serve_wait(&served), 1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 5), 0);
    serve_with(&served, where, NULL);
    assert_string_equal(served.said, "0");
    close(fd);
    snprintf(served.path, sizeof served.path, "%s", address.sun_path);
    int client = dial(&served);
    expect_status(client, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
    hang_up(&client);
    serve_end(&served);
    unlink(address.sun_path);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_request),
        cmocka_unit_test(each_request_is_reported_once),
        cmocka_unit_test(an_answer_says_what_it_is),
        cmocka_unit_test(a_name_in_the_path_is_decoded),
        cmocka_unit_test(limits_count_to_the_byte),
        cmocka_unit_test(bodies_are_limited_to_the_byte),
        cmocka_unit_test(what_has_no_end_is_refused_at_its_limit),
        cmocka_unit_test(all_bodies_together_have_a_limit),
        cmocka_unit_test(requests_may_be_split_at_every_byte),
        cmocka_unit_test(pipelined_requests_are_answered_in_order),
        cmocka_unit_test(too_much_behind_a_request_cancels_it),
        cmocka_unit_test(no_request_is_hidden_in_another),
        cmocka_unit_test(foreign_hosts_are_refused),
        cmocka_unit_test(foreign_origins_are_refused),
        cmocka_unit_test(a_page_sends_json_or_nothing),
        cmocka_unit_test(a_named_origin_is_told_what_it_may),
        cmocka_unit_test(keys_are_asked_for),
        cmocka_unit_test(other_machines_need_keys),
        cmocka_unit_test(a_unix_socket_is_the_users_alone),
        cmocka_unit_test(a_dead_socket_is_replaced_and_nothing_else),
        cmocka_unit_test(the_path_of_a_socket_has_a_length),
        cmocka_unit_test(an_inherited_socket_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
