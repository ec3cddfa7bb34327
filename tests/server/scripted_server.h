/* A server that says what it is told to, on the loop of who asks it: each POST takes the next
 * answer of a list. An answer is raw bytes; in it
 *   \1  20 ms pass
 *   \2  the connection is closed
 *   \3  nothing more ever comes
 *   \4  a megabyte of events follows, "x" each
 * GET answers with a list of models, or as it is told. */
#ifndef TESTS_SCRIPTED_SERVER_H
#define TESTS_SCRIPTED_SERVER_H

#include <stdint.h>

struct event_base;

#define SCRIPTED_LAST_MAX 65536

struct scripted_server {
    const char *const *answers; /* ended by NULL: then connections are closed at once */
    const char *models;         /* NULL: 404 */
    unsigned posts, gets, connections, closed_by_peer;
    char last[SCRIPTED_LAST_MAX]; /* the last POST, head and body */
    uint16_t port;
    struct scripted *scripted;
};

void scripted_server_start(struct scripted_server *server, struct event_base *base);
void scripted_server_stop(struct scripted_server *server);

#endif
