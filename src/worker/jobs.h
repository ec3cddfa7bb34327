/* Requests of the daemon that did not end, by their numbers. They can be cancelled from another
 * thread: that is what the mutex is for. */
#ifndef WORKER_JOBS_H
#define WORKER_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "hearth/session.h"

#define JOB_REQUESTS_MAX 8

/* The beginning of each kind's own struct. */
struct job {
    struct job *next;
    uint64_t number;
    struct hearth_request *requests[JOB_REQUESTS_MAX]; /* what is computed of it; NULL: nothing */
    bool cancelled, paused;
};

struct jobs {
    struct os_mutex *mutex;
    struct job *first;
    size_t count;
};

int jobs_init(struct jobs *jobs, struct hearth_error *err);
void jobs_finish(struct jobs *jobs);

/* False where the number is taken. */
bool jobs_add(struct jobs *jobs, struct job *job);
void jobs_remove(struct jobs *jobs, struct job *job);
/* What is computed, from when it is asked until its on_end is called (NULL). */
void jobs_set_request(struct jobs *jobs, struct job *job, unsigned place,
                      struct hearth_request *request);
/* From any thread; a number that there is not is fine: it has ended. */
void jobs_cancel(struct jobs *jobs, uint64_t number);
void jobs_pause(struct jobs *jobs, uint64_t number, bool pause);

#endif
