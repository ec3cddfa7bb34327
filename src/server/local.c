/* The worker processes of one model, one after the other: what they are asked, and what becomes of
 * it when one of them ends. */
#include <math.h>
#include <string.h>

#include <event2/event.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"
#include "server/local_jobs.h"
#include "server/local_process.h"
#include "server/log.h"
#include "server/metrics.h"

#define SECOND UINT64_C(1000000000)
#define HEALTHY_NS (60 * SECOND) /* after so long, or an answer, the next restart is at once */
#define PAUSE_MAX_S 30
#define LOADS_MAX 5 /* in a row that ended before they were done: then it is given up */
#define TRIES_MAX 3 /* workers that may die while a request waits in them */
/* When a drain is at its end, what runs is cancelled, so long before, that conversations can be
 * kept. */
#define DRAIN_LAST_NS (2 * SECOND)
#define DRAIN_KILL_NS (SECOND / 2) /* from the signal that asks to the one that does not */

enum drain_stage {
    DRAIN_NOT,
    DRAIN_WAITS,   /* for what runs */
    DRAIN_CANCELS, /* what runs */
    DRAIN_ASKS,    /* the process to end */
    DRAIN_KILLS,
};

struct local {
    struct backend base; /* first */
    struct event_base *events;
    struct local_setup setup;
    struct backend_owner owner;
    struct log *log;
    struct metrics *metrics;

    struct local_process *process; /* NULL: none runs */
    bool loaded;                   /* that one has */
    bool was_loaded;               /* any one has */
    bool drain_sent;
    uint64_t started_ns, loaded_ns;
    uint64_t answers;                /* of the process, since it was loaded */
    unsigned failures, failed_loads; /* in a row */
    unsigned threads;                /* 0: as it was started */
    uint64_t memory_max;             /* 0: as it was started */
    bool memory_owed;                /* the process is to be told when it has loaded */

    struct local_jobs jobs;
    struct local_blame blame;
    struct buffer ready;
    struct hearth_error error; /* of the state */

    struct event *tell; /* calls back what happened inside a call */
    struct event *restart, *drain;
    bool state_changed, telling, destroyed;
    enum drain_stage drain_stage;
    uint64_t drain_last_ns;
};

static struct local *of(struct backend *backend)
{
    return (struct local *)backend;
}

static void set_timer(struct event *timer, uint64_t ns)
{
    struct timeval after = {.tv_sec = (time_t)(ns / SECOND),
                            .tv_usec = (suseconds_t)(ns % SECOND / 1000)};
    event_add(timer, &after);
}

static void note(struct local *local, enum log_level level, const char *what, const char *cause)
{
    char name[LOG_VALUE_SIZE], why[LOG_VALUE_SIZE];
    log_line(local->log, level, 0, what, "model=%s pid=%d%s%s",
             log_value(name, text_of(local->setup.name)), local->base.process,
             cause ? " cause=" : "", cause ? log_value(why, text_of(cause)) : "");
}

/* ---- states ---- */

static void set_state(struct local *local, enum backend_state state,
                      const struct hearth_error *error)
{
    local->base.state = state;
    local->error = error ? *error : (struct hearth_error){0};
    local->state_changed = true;
    event_active(local->tell, EV_TIMEOUT, 0);
}

static void tell_state(struct local *local)
{
    const struct backend_owner *owner = &local->owner;
    bool changed = local->state_changed;
    local->state_changed = false;
    if (changed && !local->destroyed && owner->on_state)
        owner->on_state(owner->context, local->base.state,
                        local->error.code ? &local->error : NULL);
}

static void free_when_done(struct local *local)
{
    if (!local->destroyed || local->telling || local->process || local->jobs.ended.first)
        return;
    struct event *events[] = {local->tell, local->restart, local->drain};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i])
            event_free(events[i]);
    }
    local_jobs_finish(&local->jobs);
    local_setup_finish(&local->setup);
    buffer_finish(&local->ready);
    mem_free(local);
}

/* ---- jobs that end ---- */

static void check_drained(struct local *local);

/* After each change of their number. */
static void count_jobs(struct local *local)
{
    local->base.jobs = local->jobs.count;
    if (local->process)
        local_process_busy(local->process, local->jobs.count > 0);
    check_drained(local);
}

static void end_job(struct local *local, struct backend_job *job, const struct hearth_error *error)
{
    local_jobs_end(&local->jobs, job, error);
    event_active(local->tell, EV_TIMEOUT, 0);
}

static void end_all_jobs(struct local *local, const struct hearth_error *error)
{
    while (local->jobs.live.first)
        end_job(local, local->jobs.live.first, error);
    count_jobs(local);
}

static void tell_end(const struct backend_job *job)
{
    const struct backend_listener *listener = &job->listener;
    struct text cause = text_of(job->error.text);
    if (job->kind != JOB_ASK) {
        if (listener->on_reply)
            listener->on_reply(listener->context, job->error.code, cause, NULL);
        return;
    }
    const struct work_end end = {
        .stop = job->error.code == HEARTH_E_CANCELLED ? HEARTH_STOP_CANCELLED : HEARTH_STOP_ERROR,
        .code = job->error.code,
        .cause = cause,
    };
    if (listener->on_end)
        listener->on_end(listener->context, &end);
}

/* What happened inside calls, and to several jobs at once. */
static void on_tell(evutil_socket_t fd, short what, void *context)
{
    struct local *local = context;
    struct backend_job *job;
    (void)fd, (void)what;
    local->telling = true;
    tell_state(local);
    while ((job = local_jobs_next_ended(&local->jobs))) {
        tell_end(job);
        local_job_destroy(job);
    }
    local->telling = false;
    free_when_done(local);
}

/* ---- what the worker is told ---- */

static void send_number(struct local *local, enum work_type type, uint64_t request, uint64_t value)
{
    struct buffer message;
    bool put;
    buffer_init(&message, WORK_PAYLOAD_MAX);
    if (type == WORK_CANCEL || type == WORK_DRAIN)
        put = work_put_empty(&message, type, request, 0);
    else if (type == WORK_SHED || type == WORK_MEMORY)
        put = work_put_u64(&message, type, request, value);
    else
        put = work_put_u32(&message, type, request, (uint32_t)value);
    /* one that cannot take so little answers no ping either */
    if (put)
        local_process_send(local->process, buffer_text(&message), NULL);
    buffer_finish(&message);
}

static int send_job(struct local *local, struct backend_job *job, struct hearth_error *err)
{
    int status = 0;
    for (size_t i = 0; i < 2 && !status; i++) {
        if (job->keys[i])
            status =
                store_desk_allow(local_process_desk(local->process), text_of(job->keys[i]), err);
    }
    if (!status)
        status = local_process_send(local->process, buffer_text(&job->message), err);
    if (status)
        return status;
    job->state = JOB_SENT;
    job->tries++;
    if (!job->repeats)
        buffer_finish(&job->message);
    if (job->paused)
        send_number(local, WORK_PAUSE, job->number, 1);
    return 0;
}

static void send_waiting_jobs(struct local *local)
{
    struct backend_job *next;
    struct hearth_error err;
    for (struct backend_job *job = local->jobs.live.first; job; job = next) {
        next = job->next;
        if (job->state == JOB_WAITING && send_job(local, job, &err))
            end_job(local, job, &err);
    }
    count_jobs(local);
}

/* ---- drain ---- */

static void check_drained(struct local *local)
{
    if (local->drain_stage == DRAIN_NOT || local->jobs.count > 0 || local->destroyed)
        return;
    if (!local->process && local->base.state != BACKEND_ENDED)
        set_state(local, BACKEND_ENDED, NULL);
    else if (local->process && !local->loaded)
        local_process_stop(local->process, true);
    else if (local->process && !local->drain_sent) {
        local->drain_sent = true;
        send_number(local, WORK_DRAIN, 0, 0);
    }
}

static void cancel_all(struct local *local)
{
    static const struct hearth_error cancelled = {HEARTH_E_CANCELLED,
                                                  "the model is being unloaded"};
    struct backend_job *next;
    for (struct backend_job *job = local->jobs.live.first; job; job = next) {
        next = job->next;
        if (job->state == JOB_WAITING)
            end_job(local, job, &cancelled);
        else if (!job->abandoned)
            send_number(local, WORK_CANCEL, job->number, 0);
    }
    count_jobs(local);
}

static void on_drain(evutil_socket_t fd, short what, void *context)
{
    struct local *local = context;
    (void)fd, (void)what;
    local->drain_stage++;
    if (local->drain_stage == DRAIN_CANCELS) {
        cancel_all(local);
        set_timer(local->drain, local->drain_last_ns);
    } else if (local->process && local->drain_stage == DRAIN_ASKS) {
        local_process_stop(local->process, false);
        set_timer(local->drain, DRAIN_KILL_NS);
    } else if (local->process) {
        local_process_stop(local->process, true);
    }
}

/* ---- a worker ends ---- */

static void fail(struct local *local, const struct hearth_error *error)
{
    note(local, LOG_ERROR, "model failed", error->text);
    if (local->drain_stage == DRAIN_NOT)
        set_state(local, BACKEND_FAILED, error);
    end_all_jobs(local, error);
}

static bool may_try_again(const struct backend_job *job)
{
    return job->state == JOB_WAITING ||
           (job->state == JOB_SENT && !job->abandoned && job->repeats && job->tries < TRIES_MAX);
}

/* Those that had begun end; the others wait for the next one. */
static void settle_jobs(struct local *local, const struct local_end *end)
{
    struct backend_job *next;
    for (struct backend_job *job = local->jobs.live.first; job; job = next) {
        struct hearth_error error = end->error;
        next = job->next;
        if (may_try_again(job)) {
            job->state = JOB_WAITING;
            continue;
        }
        if (end->kind == LOCAL_CRASHED && job->kind != JOB_CALL)
            local_blame_crash(&local->blame, job->suspect);
        if (job->kind == JOB_CALL)
            error_set(&error, end->error.code, "%s; it is not known whether it has done this",
                      end->error.text);
        end_job(local, job, &error);
    }
    count_jobs(local);
}

static void restart_later(struct local *local, const struct hearth_error *cause)
{
    unsigned failures = local->failures++;
    uint64_t seconds = failures == 0  ? 0
                       : failures > 5 ? PAUSE_MAX_S
                                      : UINT64_C(1) << (failures - 1);
    set_state(local, BACKEND_RESTARTING, cause);
    set_timer(local->restart, seconds * SECOND);
}

/* Whether another one is started. */
static bool is_worth_another(struct local *local, const struct local_end *end)
{
    uint64_t now = os_monotonic_ns();
    if (local->loaded) {
        if (local->answers > 0 || now - local->loaded_ns >= HEALTHY_NS)
            local->failures = 0;
        return end->kind != LOCAL_FILE_CHANGED;
    }
    /* a first load that fails by itself would do so again; a process that was killed, or one that
     * worked before, might not */
    if (end->kind == LOCAL_FILE_CHANGED || (!local->was_loaded && end->kind != LOCAL_KILLED))
        return false;
    return ++local->failed_loads < LOADS_MAX;
}

static void on_process_end(void *context, const struct local_end *end)
{
    struct local *local = context;
    local_process_destroy(local->process);
    local->process = NULL;
    bool asked = end->kind == LOCAL_STOPPED ||
                 (end->kind == LOCAL_EXITED && local->drain_stage != DRAIN_NOT);
    if (!local->destroyed)
        note(local, asked ? LOG_INFO : LOG_WARNING, "worker ended", asked ? NULL : end->error.text);
    local->base.process = 0;
    local->base.use = (struct work_state){0};
    if (local->destroyed) {
        free_when_done(local);
    } else if (local->drain_stage != DRAIN_NOT) {
        event_del(local->drain);
        set_state(local, BACKEND_ENDED, NULL);
        end_all_jobs(local, &end->error);
    } else if (local->base.state != BACKEND_FAILED) {
        bool another = is_worth_another(local, end);
        settle_jobs(local, end);
        if (another) {
            metrics_add(local->metrics, METRIC_RESTARTS, local_end_name(end->kind), 1);
            restart_later(local, &end->error);
        } else {
            fail(local, &end->error);
        }
    }
}

static int start_process(struct local *local, struct hearth_error *err)
{
    local->loaded = local->drain_sent = local->memory_owed = false;
    local->started_ns = os_monotonic_ns();
    int status = local_process_start(local->events, &local->setup.options, &local->process, err);
    if (status)
        return status;
    local->base.process = local_process_number(local->process);
    local_process_busy(local->process, local->jobs.count > 0);
    note(local, LOG_INFO, "worker started", NULL);
    return 0;
}

static void on_restart(evutil_socket_t fd, short what, void *context)
{
    struct local *local = context;
    struct hearth_error err;
    (void)fd, (void)what;
    local->base.restarts++;
    if (start_process(local, &err) == 0)
        return;
    note(local, LOG_WARNING, "worker not started", err.text);
    if (++local->failed_loads < LOADS_MAX)
        restart_later(local, &err);
    else
        fail(local, &err);
}

/* ---- what a worker says of itself ---- */

static bool on_ready(struct local *local, const struct message *message)
{
    struct text ready;
    if (local->loaded || message->request != 0 || !work_get_text(message, &ready))
        return false;
    local->ready.size = 0;
    if (!buffer_append_text(&local->ready, ready))
        return false;
    local->base.ready = buffer_text(&local->ready);
    local->loaded = local->was_loaded = true;
    local->loaded_ns = os_monotonic_ns();
    local->base.load_ns = local->loaded_ns - local->started_ns;
    local->answers = 0;
    local->failed_loads = 0;
    local_process_ready(local->process);
    note(local, LOG_INFO, "worker ready", NULL);
    if (local->threads > 0)
        send_number(local, WORK_THREADS, 0, local->threads);
    if (local->memory_owed)
        send_number(local, WORK_MEMORY, 0, local->memory_max);
    local->memory_owed = false;
    set_state(local, BACKEND_READY, NULL);
    send_waiting_jobs(local);
    tell_state(local);
    return true;
}

static bool on_failed(struct local *local, const struct message *message)
{
    struct message_reader reader;
    struct text cause;
    int code;
    struct hearth_error error;
    if (local->loaded || message->request != 0 ||
        !work_get_reply(message, &reader, &code, &cause) || code == 0)
        return false;
    error_set(&error, code, "%.*s", (int)(cause.size < 400 ? cause.size : 400),
              cause.data ? cause.data : "");
    local_process_stop(local->process, true);
    fail(local, &error);
    return true;
}

static bool on_loading(struct local *local, const struct message *message)
{
    double fraction;
    if (message->request != 0 || !work_get_f64(message, &fraction) ||
        !(fraction >= 0 && fraction <= 1))
        return false;
    /* weights may still be read when it answers already */
    if (!local->loaded && local->owner.on_loading)
        local->owner.on_loading(local->owner.context, fraction);
    return true;
}

static void on_use(void *context, const struct work_state *use)
{
    struct local *local = context;
    local->base.use = *use;
    if (local->owner.on_use)
        local->owner.on_use(local->owner.context);
}

/* ---- what it says of requests ---- */

static bool is_valid(struct text text)
{
    return text.size == 0 || utf8_valid(text.data, text.size);
}

static bool on_begin(struct backend_job *job, const struct message *message)
{
    const struct backend_listener *listener = &job->listener;
    struct work_begin begin;
    if (job->kind != JOB_ASK || job->state != JOB_SENT || !work_get_begin(message, &begin))
        return false;
    job->state = JOB_BEGUN;
    job->repeats = false;
    buffer_finish(&job->message);
    if (!job->abandoned && listener->on_begin)
        listener->on_begin(listener->context, &begin);
    return true;
}

static bool on_reading(struct backend_job *job, const struct message *message)
{
    const struct backend_listener *listener = &job->listener;
    uint64_t done, total;
    if (job->state != JOB_BEGUN || !work_get_reading(message, &done, &total))
        return false;
    if (!job->abandoned && listener->on_reading)
        listener->on_reading(listener->context, done, total);
    return true;
}

/* Listeners take the tokens one by one, and need not doubt them. */
static bool are_tokens(struct message_reader reader, uint32_t count)
{
    struct work_token token, top[HEARTH_TOP_TOKENS_MAX];
    uint32_t top_count;
    for (uint32_t i = 0; i < count; i++) {
        if (!work_text_token(&reader, &token, top, &top_count))
            return false;
    }
    return message_was_whole(&reader);
}

static bool on_text(struct backend_job *job, const struct message *message)
{
    const struct backend_listener *listener = &job->listener;
    struct message_reader tokens;
    struct work_text text;
    if (job->state != JOB_BEGUN || !work_get_text_begin(message, &tokens, &text) ||
        !is_valid(text.text) || !are_tokens(tokens, text.count))
        return false;
    if (!job->abandoned && listener->on_text)
        listener->on_text(listener->context, &text, (struct text){NULL, 0}, &tokens);
    return true;
}

static bool on_end(struct local *local, struct backend_job *job, const struct message *message)
{
    struct backend_listener listener = job->listener;
    struct work_end end;
    if (job->kind != JOB_ASK || (job->state != JOB_SENT && job->state != JOB_BEGUN) ||
        !work_get_end(message, &end) || !is_valid(end.session) || !is_valid(end.cause) ||
        !is_valid(end.stop_string))
        return false;
    bool abandoned = job->abandoned;
    if (end.code != HEARTH_E_CANCELLED)
        local_blame_clear(&local->blame, job->suspect);
    local_jobs_take(&local->jobs, job);
    job->state = JOB_TOLD;
    local->answers++;
    count_jobs(local);
    if (!abandoned && listener.on_end)
        listener.on_end(listener.context, &end);
    local_job_destroy(job);
    return true;
}

/* What a reply means for those that were blamed, and for the rights of the worker. */
static void on_done(struct local *local, const struct backend_job *job, int code)
{
    struct store_desk *desk = local_process_desk(local->process);
    if (code != 0 && code != HEARTH_E_MISSING)
        return;
    if (job->kind == JOB_EMBED || job->pardons)
        local_blame_clear(&local->blame, job->suspect);
    if (job->lets_go && job->keys[0] && !local_jobs_about(&local->jobs, job->keys[0], job))
        store_desk_forbid(desk, text_of(job->keys[0]));
}

static bool on_reply(struct local *local, struct backend_job *job, const struct message *message)
{
    struct backend_listener listener = job->listener;
    struct message_reader reader;
    struct text cause;
    int code;
    if (job->kind == JOB_ASK || job->state != JOB_SENT ||
        !work_get_reply(message, &reader, &code, &cause) || !is_valid(cause))
        return false;
    bool abandoned = job->abandoned;
    on_done(local, job, code);
    local_jobs_take(&local->jobs, job);
    job->state = JOB_TOLD;
    local->answers++;
    count_jobs(local);
    if (!abandoned && listener.on_reply)
        listener.on_reply(listener.context, code, cause, code == 0 ? &reader : NULL);
    local_job_destroy(job);
    return true;
}

static bool on_job_message(struct local *local, const struct message *message)
{
    struct backend_job *job = local_jobs_find(&local->jobs, message->request);
    if (!job)
        return false;
    switch (message->type) {
    case WORK_BEGIN:
        return on_begin(job, message);
    case WORK_READING:
        return on_reading(job, message);
    case WORK_TEXT:
        return on_text(job, message);
    case WORK_END:
        return on_end(local, job, message);
    default:
        return on_reply(local, job, message);
    }
}

static void on_message(void *context, const struct message *message)
{
    static const char *const names[] = {"a malformed or unexpected message about itself",
                                        "a malformed or unexpected message about a request"};
    struct local *local = context;
    bool about_job = message->type >= WORK_BEGIN && message->type <= WORK_REPLY, good = false;
    if (about_job)
        good = on_job_message(local, message);
    else if (message->type == WORK_LOADING)
        good = on_loading(local, message);
    else if (message->type == WORK_READY)
        good = on_ready(local, message);
    else if (message->type == WORK_FAILED)
        good = on_failed(local, message);
    if (!good)
        local_process_break(local->process, names[about_job]);
}

/* ---- asking ---- */

/* Whether there is anybody to ask, now or later. */
static int check_state(const struct local *local, struct hearth_error *err)
{
    if (local->base.state == BACKEND_FAILED)
        return error_set(err, local->error.code, "%s", local->error.text);
    if (local->base.state == BACKEND_ENDED || local->drain_stage != DRAIN_NOT)
        return error_set(err, HEARTH_E_STATE, "%s is being unloaded", local->setup.name);
    return 0;
}

static int check_blame(const struct local *local, struct local_suspect suspect, bool session,
                       struct hearth_error *err)
{
    if (!local_blame_refuses(&local->blame, suspect))
        return 0;
    return error_set(err, HEARTH_E_STATE,
                     session ? "the worker of %s crashed twice while it answered this "
                               "conversation, which is set aside until it is reset or removed"
                             : "the worker of %s crashed twice while it answered this very "
                               "request, which is refused",
                     local->setup.name);
}

static int add_key(struct backend_job *job, unsigned at, struct text key, struct hearth_error *err)
{
    char name[WORK_KEY_SIZE];
    if (!work_copy_key(key, name))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "the key of a conversation is text of 1 to %d bytes", WORK_KEY_SIZE - 1);
    job->keys[at] = mem_alloc(key.size + 1);
    if (!job->keys[at])
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    memcpy(job->keys[at], name, key.size + 1);
    return 0;
}

static struct backend_job *add_job(struct local *local, enum job_kind kind,
                                   const struct backend_listener *listener,
                                   struct hearth_error *err)
{
    struct backend_job *job = local_jobs_add(&local->jobs, kind, listener);
    if (!job)
        error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    else
        job->repeats = true;
    return job;
}

/* Its message is written, or was too large. */
static int submit(struct local *local, struct backend_job *job, bool written,
                  struct backend_job **out, struct hearth_error *err)
{
    int status = 0;
    if (!written && job->message.failed)
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    else if (!written)
        status = error_set(err, HEARTH_E_LIMIT,
                           "a request is too large: %zu bytes can be sent to a worker",
                           WORK_PAYLOAD_MAX);
    else if (local->loaded && local->process)
        status = send_job(local, job, err);
    if (status) {
        local_jobs_take(&local->jobs, job);
        local_job_destroy(job);
        return status;
    }
    count_jobs(local);
    *out = job;
    return 0;
}

static int drop_job(struct local *local, struct backend_job *job, int status)
{
    local_jobs_take(&local->jobs, job);
    local_job_destroy(job);
    return status;
}

static int local_ask(struct backend *backend, const struct work_ask *ask,
                     const struct backend_listener *listener, struct backend_job **out,
                     struct hearth_error *err)
{
    struct local *local = of(backend);
    bool session = ask->session.size > 0;
    struct local_suspect suspect = local_suspect_of(session ? ask->session : ask->messages);
    int status = check_state(local, err);
    if (!status)
        status = check_blame(local, suspect, session, err);
    struct backend_job *job = status ? NULL : add_job(local, JOB_ASK, listener, err);
    if (!job)
        return status ? status : HEARTH_E_MEMORY;
    job->suspect = suspect;
    if (session)
        status = add_key(job, 0, ask->session, err);
    if (status)
        return drop_job(local, job, status);
    return submit(local, job, work_put_ask(&job->message, job->number, ask), out, err);
}

static int local_embed(struct backend *backend, const struct work_embed *embed,
                       const struct backend_listener *listener, struct backend_job **out,
                       struct hearth_error *err)
{
    struct local *local = of(backend);
    struct local_suspect suspect = local_suspect_of(embed->inputs);
    int status = check_state(local, err);
    if (!status)
        status = check_blame(local, suspect, false, err);
    struct backend_job *job = status ? NULL : add_job(local, JOB_EMBED, listener, err);
    if (!job)
        return status ? status : HEARTH_E_MEMORY;
    job->suspect = suspect;
    return submit(local, job, work_put_embed(&job->message, job->number, embed), out, err);
}

/* What calls are that are more than questions. */
struct operation {
    const char *name;
    bool once;    /* to do it twice is something else */
    bool pardons; /* whose crashes are forgotten then */
    bool lets_go;
};

static struct operation find_operation(struct text name)
{
    static const struct operation operations[] = {
        {"append", .once = true},
        {"fork", .once = true},
        {"remove", .once = true, .pardons = true, .lets_go = true},
        {"reset", .pardons = true},
        {"release", .lets_go = true},
    };
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (text_equal(name, text_of(operations[i].name)))
            return operations[i];
    }
    return (struct operation){.name = ""};
}

/* The conversations that a call names; what is no object is the worker's to refuse. */
static int add_call_keys(struct backend_job *job, struct text arguments, struct hearth_error *err)
{
    static const char *const names[2] = {"key", "to"};
    int status = 0;
    json_t *object =
        json_loadb(arguments.data ? arguments.data : "", arguments.size, JSON_ALLOW_NUL, NULL);
    for (unsigned i = 0; i < 2 && !status; i++) {
        const json_t *key = json_object_get(object, names[i]);
        if (json_is_string(key))
            status = add_key(job, i, (struct text){json_string_value(key), json_string_length(key)},
                             err);
    }
    json_decref(object);
    return status;
}

static int local_call(struct backend *backend, const struct work_call *call,
                      const struct backend_listener *listener, struct backend_job **out,
                      struct hearth_error *err)
{
    struct local *local = of(backend);
    const struct operation operation = find_operation(call->name);
    int status = check_state(local, err);
    struct backend_job *job = status ? NULL : add_job(local, JOB_CALL, listener, err);
    if (!job)
        return status ? status : HEARTH_E_MEMORY;
    status = add_call_keys(job, call->arguments, err);
    if (status)
        return drop_job(local, job, status);
    job->repeats = !operation.once;
    job->lets_go = operation.lets_go;
    job->pardons = operation.pardons && job->keys[0];
    if (job->pardons)
        job->suspect = local_suspect_of(text_of(job->keys[0]));
    return submit(local, job, work_put_call(&job->message, job->number, call), out, err);
}

/* ---- the other calls ---- */

static void local_abandon(struct backend *backend, struct backend_job *job)
{
    struct local *local = of(backend);
    if (job->state == JOB_TOLD) /* from inside its own end */
        return;
    if (job->state == JOB_WAITING || job->state == JOB_ENDED) {
        local_jobs_take(&local->jobs, job);
        local_job_destroy(job);
        count_jobs(local);
        return;
    }
    job->abandoned = true;
    buffer_finish(&job->message);
    send_number(local, WORK_CANCEL, job->number, 0);
}

static bool local_cancel(struct backend *backend, struct backend_job *job)
{
    struct local *local = of(backend);
    if (job->abandoned || (job->state != JOB_SENT && job->state != JOB_BEGUN))
        return false;
    send_number(local, WORK_CANCEL, job->number, 0);
    return true;
}

static void local_pause(struct backend *backend, struct backend_job *job, bool pause)
{
    struct local *local = of(backend);
    if (job->paused == pause)
        return;
    job->paused = pause;
    if (job->state == JOB_SENT || job->state == JOB_BEGUN)
        send_number(local, WORK_PAUSE, job->number, pause);
}

static void local_threads(struct backend *backend, unsigned threads)
{
    struct local *local = of(backend);
    bool other = threads != local->threads;
    local->threads = threads;
    if (other && local->process && local->loaded)
        send_number(local, WORK_THREADS, 0, threads);
}

static void local_shed(struct backend *backend, uint64_t bytes)
{
    struct local *local = of(backend);
    if (local->process && local->loaded)
        send_number(local, WORK_SHED, 0, bytes);
}

/* A process that is loading has the old limit, and is told when it has loaded. */
static void local_memory(struct backend *backend, uint64_t memory_max)
{
    struct local *local = of(backend);
    if (memory_max == local->memory_max || local_setup_memory(&local->setup, memory_max, NULL))
        return;
    local->memory_max = memory_max;
    if (local->process && local->loaded)
        send_number(local, WORK_MEMORY, 0, memory_max);
    else
        local->memory_owed = local->process != NULL;
}

static void local_drain(struct backend *backend, uint64_t timeout_ns)
{
    struct local *local = of(backend);
    uint64_t last = timeout_ns / 4 < DRAIN_LAST_NS ? timeout_ns / 4 : DRAIN_LAST_NS;
    if (local->drain_stage != DRAIN_NOT)
        return;
    local->drain_stage = DRAIN_WAITS;
    local->drain_last_ns = last;
    event_del(local->restart);
    set_timer(local->drain, timeout_ns - last);
    if (!local->process) {
        struct hearth_error error;
        error_set(&error, HEARTH_E_CANCELLED, "%s is being unloaded", local->setup.name);
        event_del(local->drain);
        set_state(local, BACKEND_ENDED, NULL);
        end_all_jobs(local, &error);
    }
    check_drained(local);
}

static void local_destroy(struct backend *backend)
{
    struct local *local = of(backend);
    struct hearth_error error;
    local->destroyed = true;
    local->base.state = BACKEND_ENDED;
    event_del(local->restart);
    event_del(local->drain);
    if (local->process)
        local_process_stop(local->process, true);
    error_set(&error, HEARTH_E_CANCELLED, "%s was unloaded", local->setup.name);
    end_all_jobs(local, &error);
    free_when_done(local);
}

static const struct backend_calls local_calls = {
    .ask = local_ask,
    .embed = local_embed,
    .call = local_call,
    .abandon = local_abandon,
    .cancel = local_cancel,
    .pause = local_pause,
    .threads = local_threads,
    .shed = local_shed,
    .memory = local_memory,
    .drain = local_drain,
    .destroy = local_destroy,
};

int local_start(struct event_base *base, const struct local_options *options, struct backend **out,
                struct hearth_error *err)
{
    struct local *local = MEM_NEW(struct local);
    if (!local)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    *local = (struct local){
        .base = {.calls = &local_calls, .state = BACKEND_LOADING},
        .events = base,
        .owner = options->owner,
        .log = options->log,
        .metrics = options->metrics,
        .tell = event_new(base, -1, 0, on_tell, local),
        .restart = evtimer_new(base, on_restart, local),
        .drain = evtimer_new(base, on_drain, local),
    };
    buffer_init(&local->ready, WORK_PAYLOAD_MAX);
    int status = local_setup_init(&local->setup, options, false, err);
    local->setup.options.on_message = on_message;
    local->setup.options.on_use = on_use;
    local->setup.options.on_end = on_process_end;
    local->setup.options.context = local;
    if (!status && (!local->tell || !local->restart || !local->drain))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    if (!status)
        status = start_process(local, err);
    if (status) {
        local->destroyed = true;
        free_when_done(local);
        return status;
    }
    *out = &local->base;
    return 0;
}
