/* One worker process from its start to its end: what it is given, its pulse, what it says, and why
 * it ended. Who wants another one then starts another one.
 *
 * What it is told comes from the loop, never from inside a call. */
#ifndef SERVER_LOCAL_PROCESS_H
#define SERVER_LOCAL_PROCESS_H

#include "server/local.h"
#include "server/store_desk.h"

struct local_process;

enum local_end_kind {
    LOCAL_EXITED,       /* without a word */
    LOCAL_CRASHED,      /* a signal that a program brings upon itself */
    LOCAL_KILLED,       /* a signal from outside */
    LOCAL_FILE_CHANGED, /* what is mapped could not be read */
    LOCAL_HUNG,         /* it did not answer, and was ended */
    LOCAL_BROKEN,       /* it said what no worker may say, and was ended */
    LOCAL_STOPPED,      /* local_process_stop */
};
const char *local_end_name(enum local_end_kind kind); /* one word */

struct local_end {
    enum local_end_kind kind;
    struct hearth_error error; /* a sentence for those who waited for it */
};

struct local_process_options {
    const char *program; /* NULL: this one */
    const char *name;    /* of the model */
    const int *fds;
    size_t fd_count;
    struct text start;          /* WORK_START, as a whole message */
    bool mapped;                /* its weights are the file's own pages */
    uint64_t hang_ns;           /* not 0 */
    struct hearth_store *store; /* NULL: it has no second socket */
    /* All that the process itself does not take: WORK_PONG, WORK_STATE. */
    void (*on_message)(void *context, const struct message *message);
    void (*on_use)(void *context, const struct work_state *state);
    /* Once, when it is gone and all it had said is told. Destroys it (local_process_destroy), here
     * or later; nothing is told any more. */
    void (*on_end)(void *context, const struct local_end *end);
    void *context;
};

/* Copies of what a worker is made of, for as many processes as are needed; the calls back are the
 * caller's to fill in. */
struct local_setup {
    struct local_process_options options;
    char *program, *name;
    int *fds;
    struct buffer start;
};
int local_setup_init(struct local_setup *setup, const struct local_options *options, bool probe,
                     struct hearth_error *err);
/* Those that are started from then on may take so much (struct hearth_engine_options). */
int local_setup_memory(struct local_setup *setup, uint64_t memory_max, struct hearth_error *err);
void local_setup_finish(struct local_setup *setup);

/* The options must live as long as the process. */
int local_process_start(struct event_base *base, const struct local_process_options *options,
                        struct local_process **out, struct hearth_error *err);
/* One that has ended. */
void local_process_destroy(struct local_process *process);

int local_process_number(const struct local_process *process);        /* 0: it has ended */
struct store_desk *local_process_desk(struct local_process *process); /* NULL: it has none */

/* LIMIT or MEMORY: not sent. Where the process is about to end, it is as if it were sent. */
int local_process_send(struct local_process *process, struct text message,
                       struct hearth_error *err);
/* It has loaded: from here on it has to answer pings. */
void local_process_ready(struct local_process *process);
/* It has something to do: its pulse is felt each second, else each five. */
void local_process_busy(struct local_process *process, bool busy);
/* Ends it; nothing it says is told any more, but its end. */
void local_process_break(struct local_process *process, const char *what);
/* Asks it to end, or ends it as above. */
void local_process_stop(struct local_process *process, bool at_once);

#endif
