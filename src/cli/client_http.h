/* One HTTP/1.1 request over a Unix socket, on a connection of its own. It blocks. */
#ifndef CLI_CLIENT_HTTP_H
#define CLI_CLIENT_HTTP_H

#include <stdbool.h>

#include "base/error.h"
#include "base/text.h"

struct client_answer {
    int status;
    char type[64]; /* Content-Type, cut; "" where there is none */
};

struct client_question {
    const char *socket, *method, *path;
    struct text body;          /* JSON; without data there is none */
    bool (*interrupted)(void); /* asked ten times a second; may be NULL */
    /* What has come of the answer's body; false ends the connection. */
    bool (*on_bytes)(void *context, const struct client_answer *answer, struct text bytes);
    void *context;
};

/* 0 where the whole answer was read, whatever its status. HEARTH_E_MISSING: nobody listens;
 * HEARTH_E_CANCELLED: it was interrupted, or on_bytes said so. */
int client_ask(const struct client_question *question, struct client_answer *answer,
               struct hearth_error *err);

#endif
