/* The loop of a worker: messages between steps, steps between messages. */

#include "worker/serve.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "worker/asks.h"
#include "worker/calls.h"
#include "worker/embeds.h"
#include "worker/remote_store.h"
#include "worker/start.h"
#include "worker/visitors.h"

#define TELL_NS UINT64_C(100000000)     /* between two states that are told */
#define LOADING_NS UINT64_C(50000000)   /* between two fractions */
#define FLUSH_WAIT_NS UINT64_C(2000000) /* until sending is tried again */
#define LAST_WORDS_NS (5 * UINT64_C(1000000000))
/* Where so much waits for the daemon to read it, nothing more is computed. */
#define UNREAD_MAX ((size_t)4 << 20)

/* ---- what it takes and does ---- */

/* Tells it where something happened; *wait_ns becomes at most the time until it may be told. */
static void tell_state(struct worker *worker, uint64_t *wait_ns)
{
    uint64_t since = os_monotonic_ns() - worker->told_ns;
    if (!worker->stirred)
        return;
    if (since < TELL_NS) {
        *wait_ns = *wait_ns < TELL_NS - since ? *wait_ns : TELL_NS - since;
        return;
    }
    struct work_state state = worker_state(worker);
    worker->told_ns = os_monotonic_ns();
    worker->stirred = false;
    if (memcmp(&state, &worker->told, sizeof state) != 0)
        worker_tell_state(worker);
}

static void answer_pings(struct worker *worker)
{
    struct letter *letter;
    while ((letter = inbox_take_ping(worker->inbox)) != NULL) {
        struct work_state state = worker_state(worker);
        uint64_t number;
        if (!work_get_u64(&letter->message, &number))
            worker_die("a ping cannot be understood");
        worker_send(worker, work_put_state(&worker->message, WORK_PONG, number, &state));
        letter_free(letter);
    }
}

/* ---- loading ---- */

/* Called by the library while weights are read, also in steps. */
static bool on_loading(void *context, double fraction)
{
    struct worker *worker = context;
    struct hearth_error err;
    uint64_t now = os_monotonic_ns();
    answer_pings(worker);
    if (!worker->sessions && (now - worker->told_ns >= LOADING_NS || fraction >= 1)) {
        worker->told_ns = now;
        worker_send(worker, work_put_f64(&worker->message, WORK_LOADING, 0, fraction));
    }
    if (channel_flush(worker->out, &err) == HEARTH_E_MISSING)
        _Exit(0);
    return true;
}

/* ---- messages ---- */

static void on_cancel(void *context, uint64_t request)
{
    struct worker *worker = context;
    jobs_cancel(&worker->jobs, request);
}

/* The lifeline: without its daemon a worker ends, whatever it does. */
static void on_end(void *context, const struct hearth_error *why)
{
    (void)context;
    if (why->code == HEARTH_E_MISSING)
        _Exit(0);
    worker_die(why->text);
}

static void refuse_draining(struct worker *worker, const struct letter *letter)
{
    struct hearth_error err;
    error_set(&err, HEARTH_E_STATE, "the model is being unloaded");
    if (letter->message.type == WORK_ASK)
        asks_refuse(worker, letter->message.request, &err);
    else
        worker_reply_error(worker, letter->message.request, &err);
}

static void take_request(struct worker *worker, const struct letter *letter)
{
    if (worker->draining)
        refuse_draining(worker, letter);
    else if (letter->message.type == WORK_ASK)
        asks_start(worker, letter);
    else if (letter->message.type == WORK_CALL)
        calls_answer(worker, letter);
    else
        embeds_start(worker, letter);
}

/* False for what is malformed. */
static bool take_order(struct worker *worker, const struct message *message)
{
    unsigned most = hearth_engine_threads(worker->engine);
    uint32_t number;
    uint64_t bytes;
    switch (message->type) {
    case WORK_THREADS:
        if (!work_get_u32(message, &number))
            return false;
        hearth_engine_use_threads(worker->engine, number < 1 ? 1 : number < most ? number : most);
        return true;
    case WORK_SHED:
        if (!work_get_u64(message, &bytes))
            return false;
        hearth_sessions_shed(worker->sessions, bytes);
        return true;
    case WORK_MEMORY:
        if (!work_get_u64(message, &bytes))
            return false;
        hearth_engine_use_memory(worker->engine, bytes);
        return true;
    case WORK_PAUSE:
        if (!work_get_u32(message, &number))
            return false;
        jobs_pause(&worker->jobs, message->request, number != 0);
        return true;
    case WORK_CANCEL:
        jobs_cancel(&worker->jobs, message->request);
        return true;
    case WORK_DRAIN:
        worker->draining = true;
        return true;
    default:
        return false;
    }
}

static void take_letters(struct worker *worker)
{
    struct letter *letter;
    while ((letter = inbox_take(worker->inbox)) != NULL) {
        enum work_type type = (enum work_type)letter->message.type;
        worker->stirred = true;
        if (type == WORK_ASK || type == WORK_EMBED || type == WORK_CALL)
            take_request(worker, letter);
        else if (!take_order(worker, &letter->message))
            worker_die("the daemon's message cannot be understood");
        letter_free(letter);
        answer_pings(worker);
    }
}

/* ---- the loop ---- */

/* Sends what waits. Whether more can be produced. */
static bool flush(struct worker *worker, uint64_t *wait_ns)
{
    struct hearth_error err;
    int status = channel_flush(worker->out, &err);
    if (status == HEARTH_E_MISSING)
        _Exit(0);
    if (status < 0)
        worker_die(err.text);
    if (status == 1 && *wait_ns > FLUSH_WAIT_NS)
        *wait_ns = FLUSH_WAIT_NS;
    return channel_queued(worker->out) < UNREAD_MAX;
}

static void serve(struct worker *worker)
{
    for (;;) {
        uint64_t wait_ns = HEARTH_IDLE_NEVER;
        answer_pings(worker);
        take_letters(worker);
        if (worker->draining && worker->jobs.count == 0)
            return;
        if (flush(worker, &wait_ns)) {
            uint64_t rest_ns;
            hearth_sessions_step(worker->sessions, &rest_ns);
            worker->stirred = worker->stirred || rest_ns == 0;
            worker->sums.steps += rest_ns == 0;
            wait_ns = rest_ns < wait_ns ? rest_ns : wait_ns;
        }
        tell_state(worker, &wait_ns);
        flush(worker, &wait_ns);
        if (wait_ns > 0)
            inbox_wait(worker->inbox, wait_ns);
    }
}

/* ---- from begin to end ---- */

/* What was said arrives, where the daemon reads. */
static void say_all(struct worker *worker)
{
    uint64_t deadline = os_monotonic_ns() + LAST_WORDS_NS;
    struct hearth_error err;
    while (channel_flush(worker->out, &err) == 1 && os_monotonic_ns() < deadline)
        os_socket_wait(worker->fd, true, deadline - os_monotonic_ns());
}

static void close_worker(struct worker *worker)
{
    visitors_close(worker->visitors);
    hearth_sessions_close(worker->sessions);
    hearth_engine_close(worker->engine);
    hearth_model_close(worker->model);
    remote_store_close(worker->store);
    say_all(worker);
    inbox_close(worker->inbox);
    jobs_finish(&worker->jobs);
    channel_close(worker->out);
    buffer_finish(&worker->message);
}

static int open_output(struct worker *worker, struct hearth_error *err)
{
    buffer_init(&worker->message, WORK_PAYLOAD_MAX + MESSAGE_HEADER_SIZE);
    int fd = os_duplicate(WORKER_CONTROL_FD, err);
    if (fd < 0)
        return fd;
    worker->fd = fd;
    return channel_open(fd, (struct channel_limits){WORK_PAYLOAD_MAX, WORK_QUEUE_MAX}, &worker->out,
                        err);
}

/* Takes the channel over. */
static int work(struct worker *worker, struct channel *in, struct start *start,
                struct hearth_error *err)
{
    const struct inbox_listener listener = {on_cancel, on_end, worker};
    int status = jobs_init(&worker->jobs, err);
    if (status) {
        channel_close(in);
        return status;
    }
    status = inbox_open(in, WORKER_CONTROL_FD, &listener, &worker->inbox, err);
    if (!status && start_is_probe(start))
        return start_probe(start, worker, err);
    if (!status)
        status = start_load(start, worker, on_loading, err);
    if (!status)
        serve(worker);
    return status;
}

int worker_run(void)
{
    struct worker worker = {.fd = -1};
    struct start *start = NULL;
    struct channel *in;
    struct hearth_error err = {0};
    os_ignore_broken_pipes();
    int status = channel_open(WORKER_CONTROL_FD,
                              (struct channel_limits){WORK_PAYLOAD_MAX, WORK_QUEUE_MAX}, &in, &err);
    if (!status)
        status = open_output(&worker, &err);
    if (status)
        worker_die(err.text);
    status = start_receive(in, WORKER_CONTROL_FD, &start, &err);
    if (status == HEARTH_E_MISSING)
        _Exit(0);
    if (!status)
        status = start_confine(start, &err);
    if (status)
        channel_close(in);
    else
        status = work(&worker, in, start, &err);
    if (status)
        worker_send(&worker,
                    work_put_reply(&worker.message, WORK_FAILED, 0, status, text_of(err.text)));
    close_worker(&worker);
    start_free(start);
    return status ? 1 : 0;
}
