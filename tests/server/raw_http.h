/* Raw bytes over real sockets to the test daemon, and what comes back. Everything has a time limit
 * and fails the test when it passes. */
#ifndef TESTS_RAW_HTTP_H
#define TESTS_RAW_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ANSWER_MAX ((size_t)1 << 20)

struct served {
    int process, lifeline;
    uint16_t port;
    int receive_buffer; /* of connections, in bytes; 0: the system's */
    char path[128];     /* of a Unix socket */
    char said[256];     /* its first line */
};

/* Starts a daemon; the arguments end with NULL. */
void serve_with(struct served *served, const char *first, ...);
/* Ends its input, and fails the test if it does not exit with 0 (leaks and errors included). */
void serve_end(struct served *served);
/* Waits for its exit and returns the status. */
int serve_wait(struct served *served);

int dial(const struct served *served);
void hang_up(int *fd);
/* Closes with a reset. */
void hang_up_rudely(int *fd);
void say(int fd, const char *text);
void say_bytes(int fd, const void *bytes, size_t size);

struct answer {
    int status;
    bool closed; /* the answer said that the connection ends */
    char head[8192];
    char *body; /* chunks joined */
    size_t body_size, body_room;
    unsigned chunks;
};

/* Reads one answer; `head_only` for HEAD. */
void hear(int fd, bool head_only, struct answer *answer);
void answer_free(struct answer *answer);
/* Asks, hears one answer, and checks its status. */
void expect_status(int fd, const char *request, int status);
/* Whether the other side ended the connection within the time, after any number of bytes. */
bool ends_within(int fd, unsigned ms);
/* Reads what comes within the time, at most `size` - 1 bytes, NUL-terminated; the bytes read. */
size_t hear_for(int fd, unsigned ms, char *bytes, size_t size);

/* A number of /stats, asked on a connection of its own. */
unsigned long stat_of(const struct served *served, const char *name);
/* Waits until it is so; false after the time. */
bool stat_becomes(const struct served *served, const char *name, unsigned long value, unsigned ms);

uint64_t now_ms(void);
void sleep_ms(unsigned ms);

#endif
