/* The requests that a worker has to answer, by their number and in their order. */
#ifndef SERVER_LOCAL_JOBS_H
#define SERVER_LOCAL_JOBS_H

#include "server/backend.h"
#include "server/local_blame.h"

enum job_kind {
    JOB_ASK,
    JOB_EMBED,
    JOB_CALL,
};
enum job_state {
    JOB_WAITING, /* for a worker */
    JOB_SENT,
    JOB_BEGUN, /* an ask that is computed */
    JOB_ENDED, /* by us; to be told */
    JOB_TOLD,
};

struct backend_job {
    struct backend_job *next, *previous;
    uint64_t number;
    enum job_kind kind;
    enum job_state state;
    bool abandoned; /* nothing is told; it stays until the worker has ended it */
    bool paused;
    bool repeats;   /* where a worker died before it began, another one may be asked the same */
    bool lets_go;   /* a call after which the worker has no more to do with the conversation */
    bool pardons;   /* a call after which the conversation's crashes are forgotten */
    unsigned tries; /* workers that it was sent to */
    struct backend_listener listener;
    struct local_suspect suspect;
    char *keys[2];             /* conversations that it is about; NULL: none */
    struct buffer message;     /* as it is sent; gone when it cannot be sent again */
    struct hearth_error error; /* of one that we ended */
};

struct local_job_list {
    struct backend_job *first, *last;
};

struct local_job_slot {
    struct backend_job *job; /* NULL: free */
    uint32_t next_free;
};

struct local_jobs {              /* zeroed: none */
    struct local_job_list live;  /* that did not end, in the order in which they came */
    struct local_job_list ended; /* by us, to be told */
    uint32_t count;              /* of the live ones */
    struct local_job_slot *slots;
    uint32_t slot_count, slot_used, first_free; /* first_free: its place + 1 */
    uint32_t serial;
};

/* NULL without memory. It is live, with a number of its own. */
struct backend_job *local_jobs_add(struct local_jobs *jobs, enum job_kind kind,
                                   const struct backend_listener *listener);
/* That of a number; NULL where there is none. */
struct backend_job *local_jobs_find(const struct local_jobs *jobs, uint64_t number);
/* It has ended: it is in no list any more. */
void local_jobs_take(struct local_jobs *jobs, struct backend_job *job);
/* We end it: it is to be told. An abandoned one is destroyed. */
void local_jobs_end(struct local_jobs *jobs, struct backend_job *job,
                    const struct hearth_error *error);
/* One to be told, in no list any more; NULL: none. */
struct backend_job *local_jobs_next_ended(struct local_jobs *jobs);
/* Whether another one than `but` is about a conversation. */
bool local_jobs_about(const struct local_jobs *jobs, const char *key,
                      const struct backend_job *but);
void local_job_destroy(struct backend_job *job); /* that is in no list */
void local_jobs_finish(struct local_jobs *jobs); /* there are none any more */

#endif
