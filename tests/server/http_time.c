/* The HTTP layer against time, numbers and want: deadlines, clients that read slowly or leave,
 * crowds, and too little memory or too few descriptors. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "raw_http.h"
#include "support/process.h"

#define LOCAL "tcp=127.0.0.1"
#define HOST "Host: localhost\r\n"
#define PATIENCE_MS 10000

#define MEASURES_MEMORY (!SANITIZED)

static char socket_path[64], socket_where[80];

static int make_socket_path(void **state)
{
    (void)state;
    snprintf(socket_path, sizeof socket_path, "/tmp/hearth-http-%ld", (long)getpid());
    snprintf(socket_where, sizeof socket_where, "unix=%s", socket_path);
    return 0;
}

static int remove_lock(void **state)
{
    char lock[80];
    (void)state;
    snprintf(lock, sizeof lock, "%s.lock", socket_path);
    unlink(lock);
    return 0;
}

/* A connection in whose buffers the system holds little. */
static int dial_narrow(const struct served *served)
{
    struct served narrow = *served;
    narrow.receive_buffer = 32768; /* with much less TCP waits for probes, 200 ms each */
    return dial(&narrow);
}

/* Waits until a number stays as it is. */
static unsigned long stat_settles(const struct served *served, const char *name)
{
    unsigned long before = 0, value = stat_of(served, name);
    while (value != before) {
        sleep_ms(100);
        before = value;
        value = stat_of(served, name);
    }
    return value;
}

/* ---- leaving ---- */

/* How a client leaves: it closes, resets, or closes its sending side. */
static void leave(int *fd, int way)
{
    if (way == 0)
        hang_up(fd);
    else if (way == 1)
        hang_up_rudely(fd);
    else
        shutdown(*fd, SHUT_WR);
}

static void check_leaving(const char *where)
{
    static const char *const requests[] = {
        "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n",
        "GET /events?ms=60000 HTTP/1.1\r\n" HOST "\r\n",
        "GET /stream?bytes=100000000&size=1000 HTTP/1.1\r\n" HOST "\r\n",
        "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n",
        "POST /echo HTTP/1.1\r\n" HOST
        "Content-Length: 0\r\n\r\nGET /slow?ms=60000 HTTP/1.0\r\n\r\n",
    };
    struct served served;
    unsigned long gone = 0;
    serve_with(&served, where, NULL);
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        for (int way = 0; way < 3; way++) {
            int fd = dial(&served);
            say(fd, requests[i]);
            sleep_ms(20);
            assert_int_equal(stat_of(&served, "gone"), gone);
            leave(&fd, way);
            assert_true(stat_becomes(&served, "gone", ++gone, 1000));
            if (way == 2) {
                assert_true(ends_within(fd, PATIENCE_MS));
                hang_up(&fd);
            }
        }
    }
    assert_true(stat_becomes(&served, "connections", 1, PATIENCE_MS));
    serve_end(&served);
}

static void a_client_that_leaves_is_noticed(void **state)
{
    (void)state;
    check_leaving(LOCAL);
    check_leaving(socket_where);
}

/* One that says all it has to say and then closes its side may still hear a quick answer. */
static void half_closed_clients_hear_what_was_ready(void **state)
{
    struct served served;
    struct answer answer;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    say(fd, "GET /large?size=500000 HTTP/1.1\r\n" HOST "\r\n");
    shutdown(fd, SHUT_WR);
    hear(fd, false, &answer);
    assert_int_equal(answer.body_size, 500000);
    answer_free(&answer);
    assert_true(ends_within(fd, PATIENCE_MS));
    hang_up(&fd);
    serve_end(&served);
}

static void the_end_drops_what_is_at_work(void **state)
{
    struct served served;
    int fds[6];
    (void)state;
    serve_with(&served, LOCAL, NULL);
    static const char *const requests[] = {"",
                                           "GET /hel",
                                           "POST /echo HTTP/1.1\r\n" HOST
                                           "Content-Length: 9\r\n\r\nab",
                                           "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n",
                                           "GET /events?ms=60000 HTTP/1.1\r\n" HOST "\r\n",
                                           "GET /large?size=9000000 HTTP/1.1\r\n" HOST "\r\n"};
    for (size_t i = 0; i < 6; i++) {
        fds[i] = dial_narrow(&served);
        say(fds[i], requests[i]);
    }
    assert_int_equal(stat_of(&served, "connections"), 7);
    serve_end(&served);
    for (size_t i = 0; i < 6; i++) {
        assert_true(ends_within(fds[i], PATIENCE_MS));
        hang_up(&fds[i]);
    }
}

/* ---- slow readers ---- */

static void check_slow_reader(const char *where)
{
    const size_t size = 8000000;
    struct served served;
    struct answer answer;
    serve_with(&served, where, NULL);
    int fd = dial(&served);
    say(fd, "GET /stream?bytes=8000000&size=1000 HTTP/1.1\r\n" HOST "\r\n");
    /* what we queue, what the system queues for sending, and for receiving */
    assert_in_range(stat_settles(&served, "produced"), 1, 1000000);
    assert_int_equal(stat_of(&served, "resumed") + 1, stat_of(&served, "pauses"));
    hear(fd, false, &answer);
    assert_int_equal(answer.body_size, size);
    for (size_t i = 0; i < size; i++) {
        if (answer.body[i] != (char)('a' + (size - i) % 26))
            fail_msg("byte %zu is wrong", i);
    }
    answer_free(&answer);
    assert_true(stat_of(&served, "resumed") > 10);
    assert_int_equal(stat_of(&served, "resumed"), stat_of(&served, "pauses"));
    assert_int_equal(stat_of(&served, "answered"), 1);
    hang_up(&fd);
    serve_end(&served);
}

static void a_slow_reader_pauses_its_producer(void **state)
{
    (void)state;
    check_slow_reader(LOCAL);
    check_slow_reader(socket_where);
}

static void a_producer_that_does_not_pause_loses_its_client(void **state)
{
    struct served served;
    char bytes[8];
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial_narrow(&served);
    say(fd, "GET /flood HTTP/1.1\r\n" HOST "\r\n");
    assert_true(stat_becomes(&served, "gone", 1, PATIENCE_MS));
    assert_true(ends_within(fd, PATIENCE_MS));
    assert_int_equal(hear_for(fd, 10, bytes, sizeof bytes), 0);
    hang_up(&fd);
    serve_end(&served);
}

static void who_reads_too_little_is_dropped(void **state)
{
    struct served served;
    char bytes[40001];
    (void)state;
    serve_with(&served, LOCAL, "write_ms=300", NULL);
    static const char request[] = "GET /stream?bytes=3000000&size=1000 HTTP/1.1\r\n" HOST "\r\n";
    int never = dial_narrow(&served), barely = dial_narrow(&served);
    int enough = dial_narrow(&served);
    say(never, request);
    say(barely, request);
    say(enough, request);
    uint64_t begin = now_ms();
    while (now_ms() < begin + 1500) {
        hear_for(barely, 20, bytes, 100);
        hear_for(enough, 20, bytes, sizeof bytes);
        sleep_ms(20);
    }
    assert_int_equal(stat_of(&served, "gone"), 2);
    assert_int_equal(stat_of(&served, "connections"), 2); /* this one and the third */
    hang_up(&never);
    hang_up(&barely);
    hang_up(&enough);
    serve_end(&served);
}

/* ---- deadlines ---- */

/* Says the start, then one byte after another; the time until the answer, whose status is checked.
 */
static uint64_t time_of_refusal(const struct served *served, const char *start, const char *byte)
{
    struct answer answer;
    char seen = 0;
    int fd = dial(served);
    uint64_t begin = now_ms();
    say(fd, start);
    while (recv(fd, &seen, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && now_ms() < begin + PATIENCE_MS) {
        say(fd, byte);
        sleep_ms(10);
    }
    uint64_t ms = now_ms() - begin;
    hear(fd, false, &answer);
    assert_int_equal(answer.status, 408);
    assert_true(answer.closed);
    answer_free(&answer);
    hang_up(&fd);
    return ms;
}

static void a_request_must_arrive_in_time(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, "head_ms=400", "body_ms=200", NULL);
    uint64_t ms[] = {
        time_of_refusal(&served, "GET /hello HTTP/1.1\r\n" HOST "X: ", "a"),
        time_of_refusal(&served, "G", "E"),
        time_of_refusal(&served, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n",
                        "a"),
        time_of_refusal(&served,
                        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1000\r\n",
                        "a"),
        time_of_refusal(&served,
                        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", "0")};
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++) {
        uint64_t due = i < 2 ? 400 : 200;
        if (ms[i] + 5 < due || ms[i] > due + 1000)
            fail_msg("request %zu was refused after %llu ms", i, (unsigned long long)ms[i]);
    }
    serve_end(&served);
}

static void an_idle_connection_ends_without_a_word(void **state)
{
    struct served served;
    char bytes[8];
    (void)state;
    serve_with(&served, LOCAL, "head_ms=300", "idle_ms=600", NULL);
    int fresh = dial(&served), used = dial(&served);
    uint64_t begin = now_ms();
    expect_status(used, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
    assert_int_equal(hear_for(fresh, PATIENCE_MS, bytes, sizeof bytes), 0);
    assert_true(now_ms() - begin >= 295);
    /* the next request has the time of any request, from its first byte */
    sleep_ms(100);
    say(used, "GET /hello");
    sleep_ms(200);
    expect_status(used, " HTTP/1.1\r\n" HOST "\r\n", 200);
    begin = now_ms();
    assert_int_equal(hear_for(used, PATIENCE_MS, bytes, sizeof bytes), 0);
    assert_true(now_ms() - begin >= 595);
    hang_up(&fresh);
    hang_up(&used);
    serve_end(&served);
}

static void the_last_answer_is_heard_before_the_end(void **state)
{
    struct served served;
    struct answer answer;
    const size_t size = (size_t)100 << 20;
    char *body = calloc(1, size);
    (void)state;
    serve_with(&served, LOCAL, "linger_ms=5000", NULL);
    int fd = dial(&served);
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 104857600\r\n\r\n");
    say_bytes(fd, body, size);
    hear(fd, false, &answer);
    assert_int_equal(answer.status, 413);
    assert_non_null(strstr(answer.body, "the limit is 33554432"));
    answer_free(&answer);
    hang_up(&fd);
    serve_end(&served);
    /* and a client that neither reads nor closes does not stay */
    serve_with(&served, LOCAL, "linger_ms=200", NULL);
    fd = dial(&served);
    say(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 104857600\r\n\r\n");
    assert_true(stat_becomes(&served, "connections", 1, PATIENCE_MS));
    hang_up(&fd);
    serve_end(&served);
    free(body);
}

static void a_client_that_asks_first_is_told_to_go_on(void **state)
{
    static const char head[] =
        "POST /small HTTP/1.1\r\n" HOST "Expect: 100-Continue\r\nContent-Length: 3\r\n\r\n";
    struct served served;
    char bytes[200];
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    for (int i = 0; i < 2; i++) {
        say(fd, head);
        assert_int_equal(hear_for(fd, 200, bytes, 26), 25);
        assert_string_equal(bytes, "HTTP/1.1 100 Continue\r\n\r\n");
        expect_status(fd, "abc", 200);
    }
    /* one that did not wait is not told */
    say(fd, head);
    sleep_ms(50);
    hear_for(fd, 100, bytes, 26);
    expect_status(fd, "abc", 200);
    hang_up(&fd);
    fd = dial(&served);
    expect_status(
        fd, "POST /small HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 17\r\n\r\n",
        413);
    hang_up(&fd);
    fd = dial(&served);
    expect_status(
        fd, "POST /small HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", 200);
    hang_up(&fd);
    fd = dial(&served);
    expect_status(
        fd, "POST /small HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        200);
    hang_up(&fd);
    serve_end(&served);
}

/* ---- streams ---- */

static void events_arrive_as_they_should(void **state)
{
    struct served served;
    struct answer answer;
    (void)state;
    serve_with(&served, LOCAL, "ping_ms=200", NULL);
    int fd = dial(&served);
    say(fd, "GET /events?ms=750 HTTP/1.1\r\n" HOST "\r\n");
    hear(fd, false, &answer);
    assert_non_null(strstr(answer.head, "\r\nContent-Type: text/event-stream\r\n"));
    assert_non_null(strstr(answer.head, "\r\nCache-Control: no-cache\r\n"));
    static const char first[] = "event: first\ndata: {}\n\n";
    static const char last[] = "data: one\ndata: two\ndata: three\ndata: four\n\n"
                               "event: last\ndata: \n\n";
    assert_memory_equal(answer.body, first, sizeof first - 1);
    size_t pings = answer.body_size - (sizeof first - 1) - (sizeof last - 1);
    assert_string_equal(answer.body + answer.body_size - (sizeof last - 1), last);
    /* each silence of 200 ms has one, and there are not many more */
    assert_int_equal(pings % 3, 0);
    assert_in_range(pings / 3, 3, 8);
    for (size_t i = 0; i < pings; i += 3)
        assert_memory_equal(answer.body + sizeof first - 1 + i, ":\n\n", 3);
    assert_int_equal(answer.chunks, pings / 3 + 3); /* a chunk each */
    answer_free(&answer);
    expect_status(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
    hang_up(&fd);
    serve_end(&served);
}

static void old_clients_get_streams_without_chunks(void **state)
{
    struct served served;
    struct answer answer;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    say(fd, "GET /stream?bytes=100000&size=1000 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    hear(fd, false, &answer);
    assert_true(answer.closed);
    assert_null(strstr(answer.head, "Transfer-Encoding"));
    assert_int_equal(answer.body_size, 100000);
    answer_free(&answer);
    hang_up(&fd);
    serve_end(&served);
}

static void an_aborted_stream_is_seen_to_be_cut(void **state)
{
    struct served served;
    char bytes[1000];
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    say(fd, "GET /aborted HTTP/1.1\r\n" HOST "\r\n");
    size_t size = hear_for(fd, PATIENCE_MS, bytes, sizeof bytes);
    assert_true(size > 9);
    assert_string_equal(bytes + size - 9, "4\r\nhalf\r\n");
    hang_up(&fd);
    serve_end(&served);
}

/* ---- crowds ---- */

static void those_who_dribble_make_room(void **state)
{
    struct served served;
    int fds[8];
    (void)state;
    serve_with(&served, LOCAL, "connections_max=8", NULL);
    for (int i = 0; i < 8; i++) {
        fds[i] = dial(&served);
        say(fds[i], i == 0   ? "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\na"
                    : i == 1 ? "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n"
                    : i == 2 ? "GET /hello HTTP/1.1\r\n" HOST "\r\n"
                             : "GET /hel");
        sleep_ms(5);
    }
    say(fds[4], "l"); /* a byte more does not make it younger */
    /* the ones in heads go first, the oldest ahead; each visitor below makes one go */
    for (int i = 2; i < 8; i++) {
        int visitor = dial(&served);
        expect_status(visitor, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
        assert_true(ends_within(fds[i], PATIENCE_MS));
        for (int k = i + 1; k < 8; k++) {
            char byte;
            assert_int_equal(recv(fds[k], &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
        }
        hang_up(&fds[i]);
        fds[i] = visitor;
        say(visitor, "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n");
        sleep_ms(5);
    }
    /* then the upload, and then there is no room */
    int visitor = dial(&served);
    expect_status(visitor, "GET /slow?ms=1 HTTP/1.1\r\n" HOST "\r\n", 200);
    assert_true(ends_within(fds[0], PATIENCE_MS));
    hang_up(&fds[0]);
    say(visitor, "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n");
    sleep_ms(20);
    int late = dial(&served);
    expect_status(late, "", 503);
    assert_true(ends_within(late, PATIENCE_MS));
    hang_up(&late);
    for (int i = 1; i < 8; i++)
        hang_up(&fds[i]);
    hang_up(&visitor);
    assert_true(stat_becomes(&served, "gone", 8, PATIENCE_MS));
    serve_end(&served);
}

/* Ten thousand come, say a little, and stay as long as they may. */
static void a_crowd_does_not_keep_others_out(void **state)
{
    enum { CROWD = 10000, KEPT = 1000 };
    struct served served;
    static int fds[KEPT];
    (void)state;
    serve_with(&served, LOCAL, NULL);
    unsigned long before = stat_of(&served, "private"), most = 0;
    uint64_t slowest = 0;
    for (int i = 0; i < CROWD; i++) {
        if (i >= KEPT)
            hang_up(&fds[i % KEPT]);
        fds[i % KEPT] = dial(&served);
        say(fds[i % KEPT], "GET /hello HTTP/1.1\r\n" HOST "X-A-Header: and a long value of it");
        if (i % 200 == 199) {
            uint64_t begin = now_ms();
            unsigned long connections = stat_of(&served, "connections");
            uint64_t took = now_ms() - begin;
            slowest = took > slowest ? took : slowest;
            most = connections > most ? connections : most;
        }
    }
    assert_in_range(most, 500, 512);
    assert_true(slowest < 1000);
    unsigned long after = stat_of(&served, "private");
    if (MEASURES_MEMORY && after > before + (4 << 20))
        fail_msg("512 connections take %lu KiB", (after - before) >> 10);
    for (int i = 0; i < KEPT; i++)
        hang_up(&fds[i]);
    assert_true(stat_becomes(&served, "connections", 1, PATIENCE_MS));
    serve_end(&served);
}

static unsigned long memory_of_streams(const char *request)
{
    enum { STREAMS = 200 };
    struct served served;
    int fds[STREAMS];
    serve_with(&served, LOCAL, NULL);
    unsigned long before = stat_of(&served, "private");
    for (int i = 0; i < STREAMS; i++) {
        fds[i] = dial_narrow(&served);
        say(fds[i], request);
    }
    assert_true(stat_becomes(&served, "connections", STREAMS + 1, PATIENCE_MS));
    stat_settles(&served, "produced");
    unsigned long after = stat_of(&served, "private");
    for (int i = 0; i < STREAMS; i++)
        hang_up(&fds[i]);
    assert_true(stat_becomes(&served, "gone", STREAMS, PATIENCE_MS));
    serve_end(&served);
    return after > before ? after - before : 0;
}

static void open_streams_take_little_memory(void **state)
{
    (void)state;
    unsigned long open = memory_of_streams("GET /events?ms=60000 HTTP/1.1\r\n" HOST "\r\n");
    unsigned long stalled =
        memory_of_streams("GET /stream?bytes=10000000&size=300 HTTP/1.1\r\n" HOST "\r\n");
    print_message("200 open streams: %lu KiB, all of them stalled: %lu KiB\n", open >> 10,
                  stalled >> 10);
    if (MEASURES_MEMORY) {
        assert_true(open < 2 << 20);
        assert_true(stalled < 8 << 20);
    }
}

static void many_requests_leave_nothing_behind(void **state)
{
    struct served served;
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int fd = dial(&served);
    unsigned long before = 0;
    for (int i = 0; i < 6000; i++) {
        expect_status(fd,
                      i % 3 == 0   ? "GET /hello HTTP/1.1\r\n" HOST "\r\n"
                      : i % 3 == 1 ? "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
                                   : "GET /stream?bytes=50000&size=1000 HTTP/1.1\r\n" HOST "\r\n",
                      200);
        if (i == 1000)
            before = stat_of(&served, "private");
    }
    if (MEASURES_MEMORY)
        assert_true(stat_of(&served, "private") < before + (128 << 10));
    hang_up(&fd);
    serve_end(&served);
}

/* ---- the end ---- */

static void a_drain_lets_work_end(void **state)
{
    struct served served;
    struct answer answer;
    char bytes[8];
    (void)state;
    serve_with(&served, LOCAL, NULL);
    int idle = dial(&served), working = dial(&served), begun = dial(&served), last = dial(&served);
    say(working, "GET /slow?ms=500 HTTP/1.1\r\n" HOST "\r\nGET /hello HTTP/1.1\r\n" HOST "\r\n");
    say(begun, "GET /hello HTTP/1.1\r\n" HOST);
    assert_int_equal(stat_of(&served, "connections"), 5);
    expect_status(last, "POST /drain HTTP/1.1\r\n" HOST "\r\n", 200);
    assert_true(ends_within(last, PATIENCE_MS));
    hang_up(&last);
    assert_int_equal(hear_for(idle, PATIENCE_MS, bytes, sizeof bytes), 0);
    expect_status(begun, "\r\n", 503);
    hear(working, false, &answer);
    assert_string_equal(answer.body, "at last\n");
    assert_true(answer.closed);
    answer_free(&answer);
    assert_true(ends_within(working, PATIENCE_MS));
    hang_up(&idle);
    hang_up(&working);
    hang_up(&begun);
    assert_int_equal(serve_wait(&served), 0);
}

/* ---- want ---- */

static unsigned long processor_ms(int process)
{
    char path[40], text[512] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", process);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
           &system);
    return (user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK);
}

static void without_descriptors_it_waits_in_peace(void **state)
{
    enum { COUNT = 40 };
    struct served served;
    int fds[COUNT];
    struct rlimit limit = {24, 24};
    (void)state;
    serve_with(&served, LOCAL, NULL);
    assert_int_equal(prlimit(served.process, RLIMIT_NOFILE, &limit, NULL), 0);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = dial(&served);
        say(fds[i], "GET /slow?ms=60000 HTTP/1.1\r\n" HOST "\r\n");
    }
    sleep_ms(200);
    unsigned long before = processor_ms(served.process);
    sleep_ms(500);
    assert_true(processor_ms(served.process) - before < 100);
    for (int i = 0; i < COUNT - 3; i++)
        hang_up(&fds[i]);
    assert_true(stat_becomes(&served, "connections", 4, PATIENCE_MS));
    for (int i = COUNT - 3; i < COUNT; i++)
        hang_up(&fds[i]);
    serve_end(&served);
}

/* Each allocation of a few requests fails once. The client may see an error, an end, or nothing
 * until a deadline; the next one sees nothing of it. */
static void no_allocation_is_taken_for_granted(void **state)
{
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        "GET /stream?bytes=3000&size=1000 HTTP/1.1\r\n" HOST "\r\n",
        "GET /events?ms=1 HTTP/1.1\r\n" HOST "\r\n",
        "GET /names/a%20b HTTP/1.1\r\n" HOST "Origin: http://a.example\r\n\r\n",
        "OPTIONS /echo HTTP/1.1\r\n" HOST "Origin: http://a.example\r\n"
        "Access-Control-Request-Method: POST\r\n\r\n",
        "GET /nothing HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n"};
    struct served served;
    char bytes[8192], fail[80];
    (void)state;
    serve_with(&served, LOCAL, "origin=http://a.example", "write_ms=1000", NULL);
    for (size_t r = 0; r < sizeof requests / sizeof *requests; r++) {
        for (int n = 1; n <= 40; n++) {
            int control = dial(&served), fd;
            snprintf(fail, sizeof fail, "POST /fail?n=%d HTTP/1.1\r\n" HOST "\r\n", n);
            say(control, fail);
            hear_for(control, 1, bytes, sizeof bytes);
            fd = dial(&served);
            say(fd, requests[r]);
            hear_for(fd, 3, bytes, sizeof bytes);
            hang_up(&control);
            hang_up(&fd);
        }
    }
    int fd = dial(&served);
    for (int i = 0; i < 50; i++)
        expect_status(fd, "POST /fail?n=0 HTTP/1.1\r\n" HOST "\r\n", 204);
    expect_status(fd, "GET /hello HTTP/1.1\r\n" HOST "\r\n", 200);
    hang_up(&fd);
    assert_true(stat_becomes(&served, "connections", 1, PATIENCE_MS));
    serve_end(&served);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_that_leaves_is_noticed),
        cmocka_unit_test(half_closed_clients_hear_what_was_ready),
        cmocka_unit_test(the_end_drops_what_is_at_work),
        cmocka_unit_test(a_slow_reader_pauses_its_producer),
        cmocka_unit_test(a_producer_that_does_not_pause_loses_its_client),
        cmocka_unit_test(who_reads_too_little_is_dropped),
        cmocka_unit_test(a_request_must_arrive_in_time),
        cmocka_unit_test(an_idle_connection_ends_without_a_word),
        cmocka_unit_test(the_last_answer_is_heard_before_the_end),
        cmocka_unit_test(a_client_that_asks_first_is_told_to_go_on),
        cmocka_unit_test(events_arrive_as_they_should),
        cmocka_unit_test(old_clients_get_streams_without_chunks),
        cmocka_unit_test(an_aborted_stream_is_seen_to_be_cut),
        cmocka_unit_test(those_who_dribble_make_room),
        cmocka_unit_test(a_crowd_does_not_keep_others_out),
        cmocka_unit_test(open_streams_take_little_memory),
        cmocka_unit_test(many_requests_leave_nothing_behind),
        cmocka_unit_test(a_drain_lets_work_end),
        cmocka_unit_test(without_descriptors_it_waits_in_peace),
        cmocka_unit_test(no_allocation_is_taken_for_granted),
    };
    return cmocka_run_group_tests(tests, make_socket_path, remove_lock);
}
