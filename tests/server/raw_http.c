#define _GNU_SOURCE
#include "raw_http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000 /* far above what anything takes, sanitizers and neighbours included */

uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
    poll(NULL, 0, (int)ms);
}

/* ---- the daemon ---- */

static size_t read_line(int fd, char *line, size_t size)
{
    size_t at = 0;
    while (at + 1 < size && read(fd, line + at, 1) == 1 && line[at] != '\n')
        at++;
    line[at] = '\0';
    return at;
}

void serve_with(struct served *served, const char *first, ...)
{
    char *arguments[32] = {(char *)(uintptr_t)HTTP_DAEMON, (char *)(uintptr_t)first};
    int input[2], output[2];
    va_list list;
    va_start(list, first);
    for (int i = 2; i < 31 && (arguments[i] = va_arg(list, char *)) != NULL; i++)
        ;
    va_end(list);
    *served = (struct served){0};
    if (strncmp(first, "unix=", 5) == 0)
        snprintf(served->path, sizeof served->path, "%s", first + 5);
    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(output, O_CLOEXEC), 0);
    served->process = fork();
    if (served->process == 0) {
        dup2(input[0], STDIN_FILENO);
        dup2(output[1], STDOUT_FILENO);
        execv(HTTP_DAEMON, arguments);
        _exit(127);
    }
    assert_true(served->process > 0);
    close(input[0]);
    close(output[1]);
    served->lifeline = input[1];
    read_line(output[0], served->said, sizeof served->said);
    served->port = (uint16_t)strtoul(served->said, NULL, 10);
    close(output[0]);
    signal(SIGPIPE, SIG_IGN);
}

int serve_wait(struct served *served)
{
    int status;
    assert_int_equal(waitpid(served->process, &status, 0), served->process);
    if (served->lifeline >= 0)
        close(served->lifeline);
    served->lifeline = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

void serve_end(struct served *served)
{
    close(served->lifeline);
    served->lifeline = -1;
    assert_int_equal(serve_wait(served), 0);
}

/* ---- connections ---- */

int dial(const struct served *served)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(served->port)};
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool local = served->path[0] != '\0';
    int fd = socket(local ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (local)
        memcpy(un.sun_path, served->path, strnlen(served->path, sizeof un.sun_path - 1));
    if (served->receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &served->receive_buffer,
                   sizeof served->receive_buffer);
    const void *address = local ? (const void *)&un : (const void *)&in;
    int status = connect(fd, address, local ? sizeof un : sizeof in);
    assert_int_equal(status, 0);
    return fd;
}

void hang_up(int *fd)
{
    close(*fd);
    *fd = -1;
}

void hang_up_rudely(int *fd)
{
    struct linger linger = {1, 0};
    setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    hang_up(fd);
}

void say_bytes(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the other side has said all it has to say; the test hears it */
        at += sent;
        size -= (size_t)sent;
    }
}

void say(int fd, const char *text)
{
    say_bytes(fd, text, strlen(text));
}

/* At most `size` bytes; 0 at the end; -1 where the connection is reset. */
static ssize_t take(int fd, void *bytes, size_t size, unsigned ms)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, (int)ms) <= 0)
        return -2;
    ssize_t got = recv(fd, bytes, size, 0);
    return got < 0 ? -1 : got;
}

static char take_byte(int fd)
{
    char byte = 0;
    ssize_t got = take(fd, &byte, 1, PATIENCE_MS);
    if (got != 1)
        fail_msg("the answer ends early (%zd)", got);
    return byte;
}

static void take_exactly(int fd, char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t got = take(fd, bytes, size, PATIENCE_MS);
        if (got <= 0)
            fail_msg("the answer's body ends %zu bytes early (%zd)", size, got);
        bytes += got;
        size -= (size_t)got;
    }
}

static void take_head(int fd, struct answer *answer)
{
    size_t at = 0;
    do {
        assert_true(at + 1 < sizeof answer->head);
        answer->head[at++] = take_byte(fd);
        answer->head[at] = '\0';
    } while (at < 4 || memcmp(answer->head + at - 4, "\r\n\r\n", 4) != 0);
    assert_memory_equal(answer->head, "HTTP/1.1 ", 9);
    answer->status = (int)strtol(answer->head + 9, NULL, 10);
    answer->closed = strstr(answer->head, "\r\nConnection: close\r\n") != NULL;
}

static void make_room(struct answer *answer, size_t size)
{
    if (answer->body_size + size + 1 <= answer->body_room)
        return;
    answer->body_room = 2 * (answer->body_size + size + 1);
    answer->body = realloc(answer->body, answer->body_room);
    assert_non_null(answer->body);
}

static void take_chunks(int fd, struct answer *answer)
{
    for (;;) {
        char line[32];
        size_t at = 0;
        do {
            assert_true(at + 1 < sizeof line);
            line[at++] = take_byte(fd);
        } while (at < 2 || memcmp(line + at - 2, "\r\n", 2) != 0);
        line[at] = '\0';
        size_t size = strtoul(line, NULL, 16);
        char end[2];
        if (size == 0) {
            take_exactly(fd, end, 2);
            assert_memory_equal(end, "\r\n", 2);
            return;
        }
        make_room(answer, size);
        take_exactly(fd, answer->body + answer->body_size, size);
        answer->body_size += size;
        take_exactly(fd, end, 2);
        assert_memory_equal(end, "\r\n", 2);
        answer->chunks++;
    }
}

static void take_until_end(int fd, struct answer *answer)
{
    for (;;) {
        make_room(answer, 65536);
        ssize_t got = take(fd, answer->body + answer->body_size, 65536, PATIENCE_MS);
        assert_true(got >= 0);
        if (got == 0)
            return;
        answer->body_size += (size_t)got;
    }
}

void hear(int fd, bool head_only, struct answer *answer)
{
    *answer = (struct answer){0};
    take_head(fd, answer);
    const char *length = strstr(answer->head, "\r\nContent-Length: ");
    bool chunked = strstr(answer->head, "\r\nTransfer-Encoding: chunked\r\n") != NULL;
    assert_false(length && chunked);
    make_room(answer, 0);
    if (head_only || answer->status == 204 || answer->status < 200) {
        ;
    } else if (chunked) {
        take_chunks(fd, answer);
    } else if (length) {
        size_t size = strtoul(length + 18, NULL, 10);
        make_room(answer, size);
        take_exactly(fd, answer->body, size);
        answer->body_size = size;
    } else {
        take_until_end(fd, answer);
    }
    answer->body[answer->body_size] = '\0';
}

void answer_free(struct answer *answer)
{
    free(answer->body);
    answer->body = NULL;
}

void expect_status(int fd, const char *request, int status)
{
    struct answer answer;
    say(fd, request);
    hear(fd, strncmp(request, "HEAD ", 5) == 0, &answer);
    if (answer.status != status)
        fail_msg("%d where %d is expected, for:\n%s\nthe answer: %s", answer.status, status,
                 request, answer.body);
    answer_free(&answer);
}

bool ends_within(int fd, unsigned ms)
{
    uint64_t end = now_ms() + ms;
    char bytes[4096];
    ssize_t got = 1;
    while (got > 0 && now_ms() < end)
        got = take(fd, bytes, sizeof bytes, (unsigned)(end - now_ms()));
    return got == 0 || got == -1;
}

size_t hear_for(int fd, unsigned ms, char *bytes, size_t size)
{
    uint64_t end = now_ms() + ms;
    size_t at = 0;
    ssize_t got = 1;
    while (got > 0 && now_ms() < end && at + 1 < size) {
        got = take(fd, bytes + at, size - 1 - at, (unsigned)(end - now_ms()));
        at += got > 0 ? (size_t)got : 0;
    }
    bytes[at] = '\0';
    return at;
}

/* ---- numbers ---- */

unsigned long stat_of(const struct served *served, const char *name)
{
    struct answer answer;
    char wanted[32];
    int fd = dial(served);
    say(fd, "GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, false, &answer);
    hang_up(&fd);
    snprintf(wanted, sizeof wanted, "%s=", name);
    const char *at = strstr(answer.body, wanted);
    assert_non_null(at);
    unsigned long value = strtoul(at + strlen(wanted), NULL, 10);
    answer_free(&answer);
    return value;
}

bool stat_becomes(const struct served *served, const char *name, unsigned long value, unsigned ms)
{
    uint64_t end = now_ms() + ms;
    while (stat_of(served, name) != value) {
        if (now_ms() > end)
            return false;
        sleep_ms(5);
    }
    return true;
}
