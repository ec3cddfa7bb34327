/* The daemon's side of a worker, for tests: a real process, spoken to message by message, with a
 * store behind its second socket. Whatever goes wrong fails the test. */
#ifndef TESTS_WORKER_DRIVER_H
#define TESTS_WORKER_DRIVER_H

#include "worker/channel.h"
#include "worker/protocol.h"

struct fake_store;

struct driver {
    int pid;
    int fd; /* the channel's */
    struct channel *channel;
    struct channel *store_channel; /* NULL: none */
    int store_fd;
    struct fake_store *store;
    struct buffer message; /* to be sent */
    /* The last that came, but for what is passed over (states, pings, fractions of loading), which
     * are counted. */
    struct message got;
    unsigned states, pongs, loadings;
    struct work_state state; /* of the last state or pong */
    char *ready;             /* the JSON */
    unsigned store_calls;
};

/* What a worker is started with where a test says nothing else. */
struct work_start driver_start(void);
/* Starts one and sends nothing. */
void driver_open_bare(struct driver *driver);
/* Starts one and sends model (a path) and start; with `store` conversations are kept there. */
void driver_open(struct driver *driver, const char *path, const struct work_start *start,
                 struct fake_store *store);
/* The same, and waits until it is ready. */
void driver_open_ready(struct driver *driver, const char *path, const struct work_start *start,
                       struct fake_store *store);
/* Ends its input, waits for its end, and gives the exit code, or the negative signal. */
int driver_close(struct driver *driver);
/* Waits for the end without ending its input. */
int driver_wait(struct driver *driver);
/* Sends what was put into `message`. */
void driver_send(struct driver *driver, bool put);
void driver_send_raw(struct driver *driver, struct text bytes);
/* The next message; false where the other side has closed. */
bool driver_receive(struct driver *driver);
/* The same for at most so long: 0 for none, 1, or -1 for the end. */
int driver_try_receive(struct driver *driver, uint64_t ns);

/* An answer, collected. */
struct driver_answer {
    struct work_begin begin;
    bool begun, ended;
    char text[8192];
    size_t size;
    unsigned texts, readings, tokens_named;
    uint32_t tokens; /* of the last text */
    struct work_end end;
    char cause[600], session[300], stop_string[100];
    uint64_t done, total;
};

/* A greedy ask of one text of a user, for so many tokens. */
struct work_ask driver_ask(const char *messages, uint32_t max_tokens);
void driver_send_ask(struct driver *driver, uint64_t number, const struct work_ask *ask);
/* Takes the message that came into the answer; false where it is another request's. */
bool driver_take(struct driver *driver, uint64_t number, struct driver_answer *answer);
/* Receives until it has ended; messages of other requests fail. */
void driver_collect(struct driver *driver, uint64_t number, struct driver_answer *answer);
/* Asks and collects. */
void driver_answer(struct driver *driver, const struct work_ask *ask, struct driver_answer *out);

/* A call, and its reply: the code, with the JSON or the cause in `text` (8192 bytes). */
int driver_call(struct driver *driver, const char *name, const char *arguments, char *text);

#endif
