#include "server/local_process.h"

#include <stdio.h>
#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "worker/channel.h"

#define SECOND UINT64_C(1000000000)
#define PULSE_BUSY_NS SECOND
#define PULSE_IDLE_NS (5 * SECOND)
/* How often a pulse is felt while one may be missing: so often at least. */
#define PULSES_PER_HANG 4
/* One that computes is most likely in a long step: of a large model on a slow machine it may take
 * minutes. Then time counts so much less. */
#define WORKING_FACTOR 10
#define WORKING_PART 5000               /* of the time, that it computed at least */
#define LOADING_HANGS 2                 /* silence that a load may take, in hang_ns */
#define CLOSED_NS (2 * SECOND)          /* from the end of its socket to its own */
#define MESSAGES_AT_ONCE 64             /* then others have their turn */
#define MESSAGES_LEFT ((size_t)1 << 16) /* of one that has ended */

struct local_process {
    const struct local_process_options *options;
    struct os_child child;
    struct channel *channel;
    struct store_desk *desk;
    struct event *readable, *writable, *ended, *pulse;
    bool ready, busy;
    bool closed;   /* it has closed its socket */
    bool silenced; /* nothing it says is told */
    /* Why we ended it, LOCAL_EXITED: we did not. */
    enum local_end_kind kind;
    char cause[256];
    uint64_t ping, pulse_ns; /* the last ping, the time of the last pulse */
    bool ping_waits;
    /* Since it was last heard. Only time in which we could have heard it counts: not the time in
     * which this process, or the machine, stood still. */
    uint64_t silent_ns;
    uint64_t computed_ns; /* until the last pulse */
};

const char *local_end_name(enum local_end_kind kind)
{
    static const char *const names[] = {
        [LOCAL_EXITED] = "exited",   [LOCAL_CRASHED] = "crashed",
        [LOCAL_KILLED] = "killed",   [LOCAL_FILE_CHANGED] = "file_changed",
        [LOCAL_HUNG] = "hung",       [LOCAL_BROKEN] = "broken",
        [LOCAL_STOPPED] = "stopped",
    };
    return names[kind];
}

int local_process_number(const struct local_process *process)
{
    return process->child.pid;
}

struct store_desk *local_process_desk(struct local_process *process)
{
    return process->desk;
}

/* ---- what it is made of ---- */

#define HANG_NS_DEFAULT (30 * SECOND)

static char *copy_string(const char *string)
{
    size_t size = strlen(string) + 1;
    char *copy = mem_alloc(size);
    if (copy)
        memcpy(copy, string, size);
    return copy;
}

static int copy_fds(struct local_setup *setup, const struct local_options *options,
                    struct hearth_error *err)
{
    if (options->fd_count == 0 || options->fd_count > WORK_MODEL_FDS_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "a model has 1 to %d files, not %zu",
                         WORK_MODEL_FDS_MAX, options->fd_count);
    setup->fds = mem_alloc_array(options->fd_count, sizeof *setup->fds);
    if (!setup->fds)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    for (size_t i = 0; i < options->fd_count; i++) {
        int copy = os_duplicate(options->fds[i], err);
        if (copy < 0)
            return copy;
        setup->fds[setup->options.fd_count++] = copy;
    }
    return 0;
}

int local_setup_init(struct local_setup *setup, const struct local_options *options, bool probe,
                     struct hearth_error *err)
{
    struct work_start start = options->start;
    *setup = (struct local_setup){0};
    start.probe = probe;
    start.store = !probe && options->store;
    buffer_init(&setup->start, WORK_PAYLOAD_MAX + MESSAGE_HEADER_SIZE);
    int status = copy_fds(setup, options, err);
    setup->name = copy_string(options->name);
    setup->program = options->program ? copy_string(options->program) : NULL;
    if (!status && (!setup->name || (options->program && !setup->program) ||
                    !work_put_start(&setup->start, &start)))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    if (status) {
        local_setup_finish(setup);
        *setup = (struct local_setup){0};
        return status;
    }
    struct local_process_options *out = &setup->options;
    out->program = setup->program;
    out->name = setup->name;
    out->fds = setup->fds;
    out->start = buffer_text(&setup->start);
    out->mapped = !start.no_mmap;
    out->hang_ns = options->hang_ns ? options->hang_ns : HANG_NS_DEFAULT;
    out->store = start.store ? options->store : NULL;
    return 0;
}

int local_setup_memory(struct local_setup *setup, uint64_t memory_max, struct hearth_error *err)
{
    struct message message;
    struct work_start start;
    struct buffer other;
    buffer_init(&other, setup->start.max);
    if (message_decode(setup->start.data, setup->start.size, WORK_PAYLOAD_MAX, &message, err) <=
            0 ||
        !work_get_start(&message, &start))
        return error_set(err, HEARTH_E_STATE, "the beginning of a worker cannot be read again");
    start.engine.memory_max = memory_max;
    if (!work_put_start(&other, &start)) {
        buffer_finish(&other);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    }
    buffer_finish(&setup->start);
    setup->start = other;
    setup->options.start = buffer_text(&setup->start);
    return 0;
}

void local_setup_finish(struct local_setup *setup)
{
    for (size_t i = 0; i < setup->options.fd_count; i++)
        os_file_close(setup->fds[i]);
    mem_free(setup->fds);
    mem_free(setup->program);
    mem_free(setup->name);
    buffer_finish(&setup->start);
}

/* ---- its end ---- */

static void silence(struct local_process *process, enum local_end_kind kind)
{
    process->silenced = true;
    process->kind = kind;
    event_del(process->readable);
    event_del(process->writable);
    event_del(process->pulse);
    os_child_kill(&process->child, true);
}

void local_process_break(struct local_process *process, const char *what)
{
    if (process->silenced)
        return;
    snprintf(process->cause, sizeof process->cause, "said what no worker says (%.200s)", what);
    silence(process, LOCAL_BROKEN);
}

void local_process_stop(struct local_process *process, bool at_once)
{
    if (process->silenced)
        return;
    if (at_once) {
        silence(process, LOCAL_STOPPED);
    } else {
        process->kind = LOCAL_STOPPED;
        os_child_kill(&process->child, false);
    }
}

static void on_desk_broken(void *context, const char *cause)
{
    local_process_break(context, cause);
}

/* What it died of where we did not end it; `how` as os_child_ended says it. */
static enum local_end_kind cause_of_death(const struct local_process *process, int how,
                                          bool by_itself)
{
    if (how >= 0)
        return LOCAL_EXITED;
    if (process->options->mapped && strcmp(os_signal_name(-how), "SIGBUS") == 0)
        return LOCAL_FILE_CHANGED;
    return by_itself ? LOCAL_CRASHED : LOCAL_KILLED;
}

static void describe_end(const struct local_process *process, int how, struct local_end *end)
{
    const char *name = process->options->name;
    struct hearth_error *err = &end->error;
    const char *signal_name = how < 0 ? os_signal_name(-how) : "";
    switch (end->kind) {
    case LOCAL_EXITED:
        error_set(err, HEARTH_E_CRASHED, "the worker of %s ended by itself, with code %d", name,
                  how);
        break;
    case LOCAL_CRASHED:
        error_set(err, HEARTH_E_CRASHED, "the worker of %s crashed (%s)", name, signal_name);
        break;
    case LOCAL_KILLED:
        if (strcmp(signal_name, "SIGKILL") == 0)
            error_set(err, HEARTH_E_CRASHED,
                      "the worker of %s was killed: most likely memory ran out", name);
        else
            error_set(err, HEARTH_E_CRASHED, "the worker of %s was ended from outside (%s)", name,
                      signal_name);
        break;
    case LOCAL_FILE_CHANGED:
        error_set(err, HEARTH_E_CHANGED,
                  "the model file changed: that of %s was cut short while it was in use, or its "
                  "drive is gone",
                  name);
        break;
    case LOCAL_HUNG:
        error_set(err, HEARTH_E_CRASHED, "the worker of %s %s, and was ended", name,
                  process->cause);
        break;
    case LOCAL_BROKEN:
        error_set(err, HEARTH_E_CRASHED, "the worker of %s %s, and was ended", name,
                  process->cause);
        break;
    case LOCAL_STOPPED:
        error_set(err, HEARTH_E_CANCELLED, "the worker of %s was stopped", name);
        break;
    }
}

/* ---- what it says ---- */

static void take_state(struct local_process *process, struct work_state *state)
{
    struct os_memory memory;
    /* what the system says of it counts more than what it says of itself */
    if (os_process_memory_of(process->child.pid, &memory)) {
        state->private_bytes = memory.private_bytes;
        state->mapped_bytes = memory.mapped_bytes;
        state->peak_bytes = memory.peak_bytes;
    }
    process->options->on_use(process->options->context, state);
}

static void on_state_message(struct local_process *process, const struct message *message)
{
    struct work_state state;
    uint64_t ping;
    bool pong = message->type == WORK_PONG;
    if (!work_get_state(message, &ping, &state) || message->request != 0 ||
        (pong && (!process->ping_waits || ping != process->ping))) {
        local_process_break(process, "a malformed state");
        return;
    }
    if (pong) {
        process->ping_waits = false;
        process->silent_ns = 0;
    }
    take_state(process, &state);
}

static void take_message(struct local_process *process, const struct message *message)
{
    if (!process->ready)
        process->silent_ns = 0;
    if (message->descriptor_count > 0)
        local_process_break(process, "a message with descriptors");
    else if (message->type == WORK_PONG || message->type == WORK_STATE)
        on_state_message(process, message);
    else
        process->options->on_message(process->options->context, message);
}

/* It ends, or it is made to. */
static void on_closed(struct local_process *process)
{
    process->closed = true;
    event_del(process->readable);
    event_del(process->writable);
    struct timeval soon = {.tv_sec = CLOSED_NS / SECOND};
    event_add(process->pulse, &soon);
}

/* False when there is nothing left that could be told. */
static bool read_message(struct local_process *process)
{
    struct message message;
    struct hearth_error err;
    int came[MESSAGE_DESCRIPTORS_MAX];
    if (process->silenced || process->closed)
        return false;
    int status = channel_receive(process->channel, &message, came, &err);
    if (status == HEARTH_E_MISSING)
        on_closed(process);
    else if (status < 0)
        local_process_break(process, err.text);
    if (status != 1)
        return false;
    for (uint32_t i = 0; i < message.descriptor_count; i++)
        os_file_close(came[i]);
    take_message(process, &message);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct local_process *process = context;
    unsigned count = 0;
    (void)fd, (void)what;
    while (count < MESSAGES_AT_ONCE && read_message(process))
        count++;
    if (count == MESSAGES_AT_ONCE)
        event_active(process->readable, EV_READ, 0);
}

/* ---- what it is told ---- */

static void flush(struct local_process *process)
{
    struct hearth_error err;
    int status = process->silenced || process->closed ? 0 : channel_flush(process->channel, &err);
    if (status > 0)
        event_add(process->writable, NULL);
    else if (status < 0)
        event_del(process->writable); /* what it said before it closed is still to be read */
}

static void on_writable(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    flush(context);
}

int local_process_send(struct local_process *process, struct text message, struct hearth_error *err)
{
    struct hearth_error cause;
    if (process->silenced || process->closed)
        return 0;
    int status = channel_send(process->channel, message, NULL, &cause);
    if (status == HEARTH_E_LIMIT || status == HEARTH_E_MEMORY)
        return error_set(err, status, "the worker of %s cannot be asked: %s",
                         process->options->name, cause.text);
    flush(process);
    return 0;
}

/* ---- its pulse ---- */

static uint64_t pulse_interval(const struct local_process *process)
{
    uint64_t often = process->options->hang_ns / PULSES_PER_HANG;
    uint64_t interval = process->busy || process->ping_waits ? PULSE_BUSY_NS : PULSE_IDLE_NS;
    return interval < often ? interval : often;
}

static void await_pulse(struct local_process *process)
{
    uint64_t ns = pulse_interval(process);
    struct timeval after = {.tv_sec = (time_t)(ns / SECOND),
                            .tv_usec = (suseconds_t)(ns % SECOND / 1000)};
    event_add(process->pulse, &after);
}

/* False where it has so much to read that not even a ping has room. */
static bool send_ping(struct local_process *process)
{
    struct buffer message;
    buffer_init(&message, WORK_PAYLOAD_MAX);
    bool sent = work_put_u64(&message, WORK_PING, 0, process->ping + 1) &&
                local_process_send(process, buffer_text(&message), NULL) == 0;
    buffer_finish(&message);
    if (sent) {
        process->ping++;
        process->ping_waits = true;
        process->silent_ns = 0;
    }
    return sent;
}

static void end_hung(struct local_process *process)
{
    unsigned long long seconds = process->silent_ns / SECOND;
    if (process->ready)
        snprintf(process->cause, sizeof process->cause, "did not answer for %llu s", seconds);
    else
        snprintf(process->cause, sizeof process->cause, "said nothing for %llu s while it loaded",
                 seconds);
    silence(process, LOCAL_HUNG);
}

/* How much of the time since the last pulse counts as silence. */
static uint64_t silence_of(struct local_process *process, uint64_t elapsed)
{
    uint64_t most = 2 * pulse_interval(process), computed = process->computed_ns;
    uint64_t counted = elapsed < most ? elapsed : most;
    if (!os_process_time_of(process->child.pid, &process->computed_ns))
        return counted;
    bool works = process->computed_ns - computed > elapsed / WORKING_PART;
    return works ? counted / WORKING_FACTOR : counted;
}

static void on_pulse(evutil_socket_t fd, short what, void *context)
{
    struct local_process *process = context;
    uint64_t now = os_monotonic_ns(), elapsed = now - process->pulse_ns;
    uint64_t limit = process->options->hang_ns, silent = silence_of(process, elapsed);
    (void)fd, (void)what;
    if (process->closed) {
        snprintf(process->cause, sizeof process->cause, "closed its socket");
        silence(process, LOCAL_BROKEN);
        return;
    }
    process->pulse_ns = now;
    if (!process->ready || process->ping_waits || !send_ping(process))
        process->silent_ns += silent;
    if (process->silent_ns >= (process->ready ? limit : limit * LOADING_HANGS))
        end_hung(process);
    else
        await_pulse(process);
}

void local_process_ready(struct local_process *process)
{
    process->ready = true;
    process->silent_ns = 0;
    process->pulse_ns = os_monotonic_ns();
    await_pulse(process);
}

void local_process_busy(struct local_process *process, bool busy)
{
    if (busy == process->busy)
        return;
    process->busy = busy;
    if (busy && process->ready && !process->silenced && !process->closed) {
        process->pulse_ns = os_monotonic_ns();
        await_pulse(process);
    }
}

/* ---- start and end ---- */

static void close_all(struct local_process *process)
{
    struct event *events[] = {process->readable, process->writable, process->ended, process->pulse};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i])
            event_free(events[i]);
    }
    process->readable = process->writable = process->ended = process->pulse = NULL;
    store_desk_close(process->desk);
    process->desk = NULL;
    channel_close(process->channel);
    process->channel = NULL;
}

void local_process_destroy(struct local_process *process)
{
    if (!process)
        return;
    close_all(process);
    mem_free(process);
}

static void on_ended(evutil_socket_t fd, short what, void *context)
{
    struct local_process *process = context;
    int how = 0;
    bool by_itself = false;
    (void)fd, (void)what;
    if (!os_child_ended(&process->child, &how, &by_itself)) {
        event_add(process->ended, NULL);
        return;
    }
    struct local_end end = {.kind = process->kind};
    if (end.kind == LOCAL_EXITED)
        end.kind = cause_of_death(process, how, by_itself);
    for (size_t i = 0; i < MESSAGES_LEFT && read_message(process); i++)
        continue;
    describe_end(process, how, &end);
    close_all(process);
    process->silenced = true;
    process->options->on_end(process->options->context, &end);
}

static int send_start(struct local_process *process, struct hearth_error *err)
{
    const struct local_process_options *options = process->options;
    struct buffer message;
    int status = 0;
    buffer_init(&message, WORK_PAYLOAD_MAX);
    for (size_t at = 0; at < options->fd_count && !status; at += MESSAGE_DESCRIPTORS_MAX) {
        size_t left = options->fd_count - at;
        uint32_t count = left < MESSAGE_DESCRIPTORS_MAX ? (uint32_t)left : MESSAGE_DESCRIPTORS_MAX;
        message.size = 0;
        if (work_put_empty(&message, WORK_MODEL, 0, count))
            status = channel_send(process->channel, buffer_text(&message), options->fds + at, err);
        else
            status = error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    }
    buffer_finish(&message);
    if (!status)
        status = channel_send(process->channel, options->start, NULL, err);
    return status;
}

/* Our ends of the sockets, and the child with the others. */
static int open_child(struct event_base *base, struct local_process *process, int *control,
                      struct hearth_error *err)
{
    static const char *const arguments[] = {"hearth", "worker", NULL};
    const struct local_process_options *options = process->options;
    const struct channel_limits limits = {WORK_PAYLOAD_MAX, WORK_QUEUE_MAX};
    int first[2], second[2] = {-1, -1}, theirs[2];
    int status = os_socket_pair(first, err);
    if (status)
        return status;
    *control = first[0];
    theirs[0] = first[1];
    status = channel_open(first[0], limits, &process->channel, err);
    if (!status && options->store)
        status = os_socket_pair(second, err);
    theirs[1] = second[1];
    if (!status && options->store)
        status = store_desk_open(base, second[0], options->store, on_desk_broken, process,
                                 &process->desk, err);
    struct os_child_options child = {.program = options->program,
                                     .arguments = arguments,
                                     .fds = theirs,
                                     .fd_count = options->store ? 2 : 1,
                                     .error_fd = -1,
                                     .humble = true};
    if (!status)
        status = os_child_start(&child, &process->child, err);
    os_file_close(theirs[0]);
    if (theirs[1] >= 0)
        os_file_close(theirs[1]);
    return status;
}

static int make_events(struct event_base *base, struct local_process *process, int control,
                       struct hearth_error *err)
{
    process->readable = event_new(base, control, EV_READ | EV_PERSIST, on_readable, process);
    process->writable = event_new(base, control, EV_WRITE, on_writable, process);
    process->ended = event_new(base, process->child.fd, EV_READ, on_ended, process);
    process->pulse = evtimer_new(base, on_pulse, process);
    if (!process->readable || !process->writable || !process->ended || !process->pulse ||
        event_add(process->ended, NULL) || event_add(process->readable, NULL))
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    return 0;
}

static bool never(void)
{
    return false;
}

/* One that was started and must go before anybody knew of it: waited for here, because nobody else
 * will; it has only just begun. */
static void end_at_once(struct local_process *process)
{
    int how;
    bool by_itself;
    if (process->child.pid <= 0)
        return;
    os_child_kill(&process->child, true);
    while (!os_child_ended(&process->child, &how, &by_itself))
        os_wait_input(process->child.fd, SECOND, never);
}

int local_process_start(struct event_base *base, const struct local_process_options *options,
                        struct local_process **out, struct hearth_error *err)
{
    struct local_process *process = MEM_NEW(struct local_process);
    int control = -1;
    if (!process)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    *process =
        (struct local_process){.options = options, .child = {0, -1}, .pulse_ns = os_monotonic_ns()};
    int status = open_child(base, process, &control, err);
    if (!status)
        status = make_events(base, process, control, err);
    if (!status)
        status = send_start(process, err);
    if (status) {
        end_at_once(process);
        local_process_destroy(process);
        return status;
    }
    flush(process);
    await_pulse(process);
    *out = process;
    return 0;
}
