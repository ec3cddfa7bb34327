#include "worker/jobs.h"

#include "base/os.h"

int jobs_init(struct jobs *jobs, struct hearth_error *err)
{
    *jobs = (struct jobs){.mutex = os_mutex_create()};
    return jobs->mutex ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for requests");
}

void jobs_finish(struct jobs *jobs)
{
    if (jobs->mutex)
        os_mutex_destroy(jobs->mutex);
    jobs->mutex = NULL;
}

static struct job *find(const struct jobs *jobs, uint64_t number)
{
    struct job *job = jobs->first;
    while (job && job->number != number)
        job = job->next;
    return job;
}

bool jobs_add(struct jobs *jobs, struct job *job)
{
    os_mutex_lock(jobs->mutex);
    bool fresh = !find(jobs, job->number);
    if (fresh) {
        job->next = jobs->first;
        jobs->first = job;
        jobs->count++;
    }
    os_mutex_unlock(jobs->mutex);
    return fresh;
}

void jobs_remove(struct jobs *jobs, struct job *job)
{
    os_mutex_lock(jobs->mutex);
    struct job **at = &jobs->first;
    while (*at != job)
        at = &(*at)->next;
    *at = job->next;
    jobs->count--;
    os_mutex_unlock(jobs->mutex);
}

void jobs_set_request(struct jobs *jobs, struct job *job, unsigned place,
                      struct hearth_request *request)
{
    os_mutex_lock(jobs->mutex);
    job->requests[place] = request;
    if (request && job->cancelled)
        hearth_request_cancel(request);
    os_mutex_unlock(jobs->mutex);
    if (request && job->paused)
        hearth_request_pause(request, true);
}

void jobs_cancel(struct jobs *jobs, uint64_t number)
{
    os_mutex_lock(jobs->mutex);
    struct job *job = find(jobs, number);
    for (unsigned i = 0; job && i < JOB_REQUESTS_MAX; i++) {
        if (job->requests[i])
            hearth_request_cancel(job->requests[i]);
    }
    if (job)
        job->cancelled = true;
    os_mutex_unlock(jobs->mutex);
}

void jobs_pause(struct jobs *jobs, uint64_t number, bool pause)
{
    struct job *job = find(jobs, number); /* only this thread changes the list */
    if (!job)
        return;
    job->paused = pause;
    for (unsigned i = 0; i < JOB_REQUESTS_MAX; i++) {
        if (job->requests[i])
            hearth_request_pause(job->requests[i], pause);
    }
}
