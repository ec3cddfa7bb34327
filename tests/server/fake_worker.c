/* A worker that computes nothing and does what it is told: what comes as the chat template says how
 * it loads, what comes as messages how it answers, well or badly. What must be remembered from one
 * process to the next stands in the model's file. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/os.h"
#include "session/store.h"
#include "worker/channel.h"
#include "worker/protocol.h"

#define HELD_MAX 4096

struct worker {
    struct channel *control, *store;
    struct buffer out;
    int model;
    uint64_t held[HELD_MAX]; /* asks that wait to be cancelled */
    unsigned held_count;
    uint64_t store_calls;
    uint32_t threads;
    uint64_t memory;
    bool draining;
};

/* ---- the ways to end ---- */

static void die(int signal_number)
{
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    _exit(99);
}

static void wait_for(int fd, short what, int ms)
{
    struct pollfd wanted = {.fd = fd, .events = what};
    poll(&wanted, 1, ms);
}

/* Sends what was written to `out`, all of it. */
static void send_out(struct worker *worker, const int *descriptors)
{
    struct hearth_error err;
    if (worker->out.failed ||
        channel_send(worker->control, buffer_text(&worker->out), descriptors, &err))
        _exit(97);
    int left;
    while ((left = channel_flush(worker->control, &err)) == 1)
        wait_for(WORKER_CONTROL_FD, POLLOUT, 1000);
    if (left < 0)
        _exit(96);
    worker->out.size = 0;
}

static void send_raw(struct worker *worker, const void *bytes, size_t size)
{
    (void)worker;
    if (write(WORKER_CONTROL_FD, bytes, size) < 0)
        _exit(95);
}

/* How often a worker with this model's file was started before. */
static unsigned count_start(struct worker *worker)
{
    unsigned char count = 0;
    if (pread(worker->model, &count, 1, 0) != 1)
        count = 0;
    unsigned char next = (unsigned char)(count + 1);
    if (pwrite(worker->model, &next, 1, 0) != 1)
        return 0;
    return count;
}

/* ---- loading ---- */

static bool is(struct text text, const char *what)
{
    return text_equal(text, text_of(what));
}

static void put_ready(struct worker *worker)
{
    char json[160];
    int size = snprintf(json, sizeof json, "{\"architecture\":\"fake\",\"pid\":%d}", (int)getpid());
    work_put_text(&worker->out, WORK_READY, 0, (struct text){json, (size_t)size});
    send_out(worker, NULL);
}

/* Reads what is mapped of a file that was cut short. */
static void touch_nothing(struct worker *worker)
{
    struct os_mapping mapping;
    signal(SIGBUS, SIG_DFL); /* sanitizers have handlers */
    if (os_map_fd(worker->model, &mapping, NULL) || ftruncate(worker->model, 0))
        _exit(94);
    volatile const char *page = mapping.data;
    _exit(page[mapping.size - 1]);
}

static void load(struct worker *worker, const struct work_start *start)
{
    struct text how = start->chat_template;
    unsigned before = count_start(worker);
    if (is(how, "crash") || (is(how, "crash again") && before > 0))
        die(SIGSEGV);
    if (is(how, "killed") || (is(how, "killed once") && before == 0))
        die(SIGKILL);
    if (is(how, "exit"))
        _exit(3);
    if (is(how, "silent"))
        for (;;)
            pause();
    if (is(how, "garbage"))
        send_raw(worker, "HTTP/1.1 200 OK\r\n\r\n", 19);
    if (is(how, "not a number")) {
        work_put_f64(&worker->out, WORK_LOADING, 0, 1e300);
        send_out(worker, NULL);
    }
    if (is(how, "fail") || (is(how, "fail again") && before > 0)) {
        work_put_reply(&worker->out, WORK_FAILED, 0, HEARTH_E_UNSUPPORTED,
                       TEXT("architecture \"fake\" is not known"));
        send_out(worker, NULL);
        _exit(1);
    }
    work_put_f64(&worker->out, WORK_LOADING, 0, 0.5);
    send_out(worker, NULL);
    if (is(how, "slowly"))
        usleep(300000);
    put_ready(worker);
    if (is(how, "idle crash"))
        die(SIGABRT);
    if (start->probe)
        _exit(0);
}

/* ---- answers ---- */

static void put_begin(struct worker *worker, uint64_t request)
{
    work_put_begin(&worker->out, request,
                   &(struct work_begin){.prompt_tokens = 10, .cached_tokens = 4});
    send_out(worker, NULL);
}

static void put_text(struct worker *worker, uint64_t request, struct text text, uint32_t tokens)
{
    const struct work_text part = {.text = text, .tokens = tokens};
    work_text_end(&worker->out, work_text_begin(&worker->out, request, &part));
    send_out(worker, NULL);
}

static void put_end(struct worker *worker, uint64_t request, int code)
{
    const struct work_end end = {
        .stop = code ? HEARTH_STOP_CANCELLED : HEARTH_STOP_END, .code = code, .answer_tokens = 3};
    work_put_end(&worker->out, request, &end);
    send_out(worker, NULL);
}

static void say(struct worker *worker, uint64_t request, unsigned count)
{
    put_begin(worker, request);
    work_put_reading(&worker->out, request, 10, 10);
    send_out(worker, NULL);
    for (unsigned i = 0; i < count; i++)
        put_text(worker, request, TEXT("w\xc3\xb6rd "), i + 1);
    put_end(worker, request, 0);
}

static void hold(struct worker *worker, uint64_t request)
{
    if (worker->held_count == HELD_MAX)
        _exit(93);
    worker->held[worker->held_count++] = request;
}

static void put_tokens(struct worker *worker, uint64_t request, uint32_t announced)
{
    const struct work_token token = {7, -0.5, TEXT("\xc3")};
    const struct work_text text = {.text = TEXT("?"), .tokens = 1, .count = announced};
    size_t begin = work_text_begin(&worker->out, request, &text);
    for (int i = 0; i < 3; i++) /* as many bytes as two without others could have */
        work_text_put_token(&worker->out, &token, &token, 1);
    work_text_end(&worker->out, begin);
    send_out(worker, NULL);
}

/* What no worker may do. */
static void misbehave(struct worker *worker, uint64_t request, struct text how)
{
    static const char big[MESSAGE_HEADER_SIZE] = "hwmg\x01\x00\x62\x00\xff\xff\xff\x7f";
    if (is(how, "unknown number"))
        put_text(worker, request + 1, TEXT("x"), 1);
    if (is(how, "text first"))
        put_text(worker, request, TEXT("x"), 1);
    put_begin(worker, request);
    if (is(how, "begin twice"))
        put_begin(worker, request);
    if (is(how, "end twice")) {
        put_end(worker, request, 0);
        put_end(worker, request, 0);
    }
    if (is(how, "bad text"))
        put_text(worker, request, TEXT("\xff"), 1);
    if (is(how, "bad tokens"))
        put_tokens(worker, request, 2);
    if (is(how, "garbage"))
        send_raw(worker, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24);
    if (is(how, "huge"))
        send_raw(worker, big, sizeof big);
    if (is(how, "ready again"))
        put_ready(worker);
    if (is(how, "pong"))
        work_put_state(&worker->out, WORK_PONG, 12345, &(struct work_state){0});
    if (is(how, "reply"))
        work_put_reply(&worker->out, WORK_REPLY, request, 0, TEXT("{}"));
    if (is(how, "unknown type"))
        work_put_empty(&worker->out, (enum work_type)77, 0, 0);
    if (is(how, "descriptor"))
        work_put_empty(&worker->out, WORK_STATE, 0, 1);
    if (is(how, "store") && write(WORKER_STORE_FD, "????????", 8) < 0)
        _exit(92);
    if (worker->out.size > 0)
        send_out(worker, &worker->model);
    for (;;)
        pause();
}

static void answer_ask(struct worker *worker, uint64_t request, struct text how)
{
    if (text_starts_with(how, TEXT("say ")))
        say(worker, request, (unsigned)atoi(how.data + 4));
    else if (is(how, "crash before"))
        die(SIGSEGV);
    else if (is(how, "hold"))
        hold(worker, request);
    else if (text_starts_with(how, TEXT("bad: ")))
        misbehave(worker, request, (struct text){how.data + 5, how.size - 5});
    else
        put_begin(worker, request);
    if (is(how, "crash"))
        die(SIGSEGV);
    if (is(how, "crash once") && count_start(worker) == 1)
        die(SIGSEGV);
    if (is(how, "crash once"))
        put_end(worker, request, 0);
    if (is(how, "killed"))
        die(SIGKILL);
    if (is(how, "ended"))
        die(SIGTERM);
    if (is(how, "cut"))
        touch_nothing(worker);
    if (is(how, "exit"))
        _exit(0);
    if (is(how, "hang"))
        for (;;)
            pause();
    if (is(how, "spin"))
        for (;;)
            continue;
    if (is(how, "close")) {
        shutdown(WORKER_CONTROL_FD, SHUT_RDWR);
        for (;;)
            pause();
    }
    if (is(how, "tokens")) {
        put_tokens(worker, request, 3);
        put_end(worker, request, 0);
    }
    if (is(how, "wait"))
        hold(worker, request);
}

/* ---- calls ---- */

/* Asks the store for a record; the code of its answer. */
static int get_record(struct worker *worker, struct text key)
{
    struct message message;
    struct message_reader reader;
    struct text cause;
    int came[MESSAGE_DESCRIPTORS_MAX], code;
    work_put_text(&worker->out, WORK_STORE_GET, ++worker->store_calls, key);
    if (channel_send(worker->store, buffer_text(&worker->out), NULL, NULL))
        _exit(91);
    worker->out.size = 0;
    while (channel_receive(worker->store, &message, came, NULL) == 0)
        wait_for(WORKER_STORE_FD, POLLIN, 1000);
    if (message.type != WORK_STORE_GET || message.request != worker->store_calls ||
        !work_get_reply(&message, &reader, &code, &cause))
        _exit(90);
    return code;
}

static void answer_call(struct worker *worker, uint64_t request, const struct work_call *call)
{
    int code = 0;
    char text[64];
    struct text reply = call->arguments;
    if (is(call->name, "crash"))
        die(SIGSEGV);
    if (text_starts_with(call->name, TEXT("get ")))
        code = get_record(worker, (struct text){call->name.data + 4, call->name.size - 4});
    if (is(call->name, "threads")) {
        snprintf(text, sizeof text, "%u", worker->threads);
        reply = text_of(text);
    }
    if (is(call->name, "memory")) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)worker->memory);
        reply = text_of(text);
    }
    work_put_reply(&worker->out, WORK_REPLY, request, code, code ? TEXT("refused") : reply);
    send_out(worker, NULL);
}

static void answer_embed(struct worker *worker, uint64_t request)
{
    static const float values[] = {0.6f, 0.8f, 1, 0};
    work_put_vectors(&worker->out, request, &(struct work_vectors){2, 2, 5}, values);
    send_out(worker, NULL);
}

/* ---- the loop ---- */

static void cancel(struct worker *worker, uint64_t request)
{
    for (unsigned i = 0; i < worker->held_count; i++) {
        if (worker->held[i] != request)
            continue;
        worker->held[i] = worker->held[--worker->held_count];
        put_end(worker, request, HEARTH_E_CANCELLED);
        return;
    }
}

static void on_message(struct worker *worker, const struct message *message)
{
    struct work_ask ask;
    struct work_call call;
    uint64_t ping;
    switch (message->type) {
    case WORK_PING:
        if (!work_get_u64(message, &ping))
            _exit(89);
        work_put_state(&worker->out, WORK_PONG, ping,
                       &(struct work_state){.running = worker->held_count, .private_bytes = 1});
        send_out(worker, NULL);
        break;
    case WORK_ASK:
        if (!work_get_ask(message, &ask))
            _exit(88);
        answer_ask(worker, message->request, ask.messages);
        work_ask_finish(&ask);
        break;
    case WORK_CALL:
        if (!work_get_call(message, &call))
            _exit(87);
        answer_call(worker, message->request, &call);
        break;
    case WORK_EMBED:
        answer_embed(worker, message->request);
        break;
    case WORK_CANCEL:
        cancel(worker, message->request);
        break;
    case WORK_THREADS:
        if (!work_get_u32(message, &worker->threads))
            _exit(83);
        break;
    case WORK_MEMORY:
        if (!work_get_u64(message, &worker->memory))
            _exit(82);
        break;
    case WORK_DRAIN:
        worker->draining = true;
        break;
    default:
        break;
    }
}

/* The next message, waited for; ends when the daemon is gone. */
static struct message receive(struct worker *worker, int came[MESSAGE_DESCRIPTORS_MAX])
{
    struct message message;
    int status;
    while ((status = channel_receive(worker->control, &message, came, NULL)) == 0)
        wait_for(WORKER_CONTROL_FD, POLLIN, -1);
    if (status < 0)
        _exit(0);
    return message;
}

static void start(struct worker *worker)
{
    const struct channel_limits limits = {WORK_PAYLOAD_MAX, WORK_QUEUE_MAX};
    struct work_start start;
    int came[MESSAGE_DESCRIPTORS_MAX];
    worker->model = -1;
    if (channel_open(WORKER_CONTROL_FD, limits, &worker->control, NULL))
        _exit(86);
    for (;;) {
        struct message message = receive(worker, came);
        if (message.type == WORK_MODEL && message.descriptor_count > 0 && worker->model < 0)
            worker->model = came[0];
        if (message.type != WORK_START)
            continue;
        if (!work_get_start(&message, &start))
            _exit(85);
        worker->memory = start.engine.memory_max;
        if (start.store && channel_open(WORKER_STORE_FD, limits, &worker->store, NULL))
            _exit(84);
        load(worker, &start);
        return;
    }
}

int main(void)
{
    static struct worker worker;
    int came[MESSAGE_DESCRIPTORS_MAX];
    buffer_init(&worker.out, WORK_PAYLOAD_MAX);
    start(&worker);
    while (!worker.draining || worker.held_count > 0) {
        struct message message = receive(&worker, came);
        on_message(&worker, &message);
    }
    return 0;
}
