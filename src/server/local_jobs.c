#include "server/local_jobs.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

/* More than may be sent, so that what is too large is told from a lack of memory. */
#define MESSAGE_BYTES_MAX (4 * WORK_PAYLOAD_MAX)

/* ---- lists ---- */

static void append(struct local_job_list *list, struct backend_job *job)
{
    job->next = NULL;
    job->previous = list->last;
    if (list->last)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

static void unlink_job(struct local_job_list *list, struct backend_job *job)
{
    if (job->previous)
        job->previous->next = job->next;
    else
        list->first = job->next;
    if (job->next)
        job->next->previous = job->previous;
    else
        list->last = job->previous;
    job->next = job->previous = NULL;
}

/* ---- numbers ----
 * The low half is a place in a table plus one, the high half tells those of one place apart. */

static uint32_t place_of(uint64_t number)
{
    return (uint32_t)number - 1;
}

static bool take_slot(struct local_jobs *jobs, uint32_t *place)
{
    if (jobs->first_free > 0) {
        *place = jobs->first_free - 1;
        jobs->first_free = jobs->slots[*place].next_free;
        return true;
    }
    if (jobs->slot_used == jobs->slot_count) {
        uint32_t count = jobs->slot_count ? jobs->slot_count * 2 : 16;
        struct local_job_slot *slots = mem_realloc_array(jobs->slots, count, sizeof *slots);
        if (!slots)
            return false;
        jobs->slots = slots;
        jobs->slot_count = count;
    }
    *place = jobs->slot_used++;
    return true;
}

struct backend_job *local_jobs_add(struct local_jobs *jobs, enum job_kind kind,
                                   const struct backend_listener *listener)
{
    uint32_t place;
    struct backend_job *job = MEM_NEW(struct backend_job);
    if (!job || !take_slot(jobs, &place)) {
        mem_free(job);
        return NULL;
    }
    job->number = (uint64_t)++jobs->serial << 32 | (place + 1);
    job->kind = kind;
    job->listener = *listener;
    buffer_init(&job->message, MESSAGE_BYTES_MAX);
    jobs->slots[place].job = job;
    append(&jobs->live, job);
    jobs->count++;
    return job;
}

struct backend_job *local_jobs_find(const struct local_jobs *jobs, uint64_t number)
{
    uint32_t place = place_of(number);
    struct backend_job *job = place < jobs->slot_used ? jobs->slots[place].job : NULL;
    return job && job->number == number ? job : NULL;
}

void local_jobs_take(struct local_jobs *jobs, struct backend_job *job)
{
    if (job->state == JOB_ENDED) {
        unlink_job(&jobs->ended, job);
        return;
    }
    uint32_t place = place_of(job->number);
    unlink_job(&jobs->live, job);
    jobs->count--;
    jobs->slots[place] = (struct local_job_slot){NULL, jobs->first_free};
    jobs->first_free = place + 1;
}

/* ---- ends ---- */

void local_jobs_end(struct local_jobs *jobs, struct backend_job *job,
                    const struct hearth_error *error)
{
    local_jobs_take(jobs, job);
    if (job->abandoned) {
        local_job_destroy(job);
        return;
    }
    job->state = JOB_ENDED;
    job->error = *error;
    append(&jobs->ended, job);
}

struct backend_job *local_jobs_next_ended(struct local_jobs *jobs)
{
    struct backend_job *job = jobs->ended.first;
    if (job) {
        unlink_job(&jobs->ended, job);
        job->state = JOB_TOLD;
    }
    return job;
}

bool local_jobs_about(const struct local_jobs *jobs, const char *key, const struct backend_job *but)
{
    for (const struct backend_job *job = jobs->live.first; job; job = job->next) {
        for (size_t i = 0; i < 2 && job != but; i++) {
            if (job->keys[i] && strcmp(job->keys[i], key) == 0)
                return true;
        }
    }
    return false;
}

void local_job_destroy(struct backend_job *job)
{
    buffer_finish(&job->message);
    mem_free(job->keys[0]);
    mem_free(job->keys[1]);
    mem_free(job);
}

void local_jobs_finish(struct local_jobs *jobs)
{
    assert(!jobs->live.first && !jobs->ended.first);
    mem_free(jobs->slots);
}
