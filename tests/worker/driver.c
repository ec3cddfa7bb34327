#define _GNU_SOURCE
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "../session/fake_store.h"
#include "base/os.h"

#define WAIT_MS 60000 /* then a test fails: for what should come at once */

static const struct channel_limits limits = {WORK_PAYLOAD_MAX, WORK_QUEUE_MAX};

struct work_start driver_start(void)
{
    return (struct work_start){
        .engine = {.threads = 2, .kv_type = HEARTH_KV_F16},
        .idle_ns = UINT64_C(300) * 1000000000,
        .answers_max = 8,
        .time_zone = TEXT("UTC"),
    };
}

/* ---- its life ---- */

static void become_worker(int control, int store)
{
    int high[2] = {fcntl(control, F_DUPFD, 10), store < 0 ? -1 : fcntl(store, F_DUPFD, 10)};
    char *const arguments[] = {"hearth", "worker", NULL};
    dup2(high[0], WORKER_CONTROL_FD);
    if (store >= 0)
        dup2(high[1], WORKER_STORE_FD);
    for (int fd = store < 0 ? 4 : 5; fd < 256; fd++)
        close(fd);
    execv(HEARTH_PROGRAM, arguments);
    _exit(127);
}

static void start_process(struct driver *driver, bool store)
{
    int control[2], other[2] = {-1, -1};
    assert_int_equal(os_socket_pair(control, NULL), 0);
    if (store)
        assert_int_equal(os_socket_pair(other, NULL), 0);
    driver->pid = fork();
    assert_true(driver->pid >= 0);
    if (driver->pid == 0)
        become_worker(control[1], other[1]);
    close(control[1]);
    driver->fd = control[0];
    assert_int_equal(channel_open(control[0], limits, &driver->channel, NULL), 0);
    if (!store)
        return;
    close(other[1]);
    driver->store_fd = other[0];
    assert_int_equal(channel_open(other[0], limits, &driver->store_channel, NULL), 0);
}

void driver_open_bare(struct driver *driver)
{
    *driver = (struct driver){0};
    os_ignore_broken_pipes();
    start_process(driver, false);
}

void driver_open(struct driver *driver, const char *path, const struct work_start *start,
                 struct fake_store *store)
{
    struct work_start what = *start;
    *driver = (struct driver){.store = store};
    buffer_init(&driver->message, WORK_PAYLOAD_MAX + 100);
    os_ignore_broken_pipes();
    start_process(driver, store != NULL);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(work_put_empty(&driver->message, WORK_MODEL, 0, 1));
    assert_int_equal(channel_send(driver->channel, buffer_text(&driver->message), &fd, NULL), 0);
    close(fd);
    driver->message.size = 0;
    what.store = store != NULL;
    driver_send(driver, work_put_start(&driver->message, &what));
}

void driver_open_ready(struct driver *driver, const char *path, const struct work_start *start,
                       struct fake_store *store)
{
    struct text ready;
    driver_open(driver, path, start, store);
    assert_true(driver_receive(driver));
    if (driver->got.type == WORK_FAILED)
        print_error("%.*s\n", (int)driver->got.payload.size, driver->got.payload.data);
    assert_int_equal(driver->got.type, WORK_READY);
    assert_true(work_get_text(&driver->got, &ready));
    driver->ready = strndup(ready.data, ready.size);
}

static int wait_exit(struct driver *driver)
{
    int status;
    for (int i = 0; i < WAIT_MS; i++) {
        int ended = waitpid(driver->pid, &status, WNOHANG);
        if (ended == driver->pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        usleep(1000);
    }
    kill(driver->pid, SIGKILL);
    fail_msg("the worker did not end");
    return 0;
}

static void forget(struct driver *driver)
{
    channel_close(driver->channel);
    channel_close(driver->store_channel);
    buffer_finish(&driver->message);
    free(driver->ready);
    *driver = (struct driver){0};
}

int driver_wait(struct driver *driver)
{
    while (driver_receive(driver)) {
    }
    int code = wait_exit(driver);
    forget(driver);
    return code;
}

int driver_close(struct driver *driver)
{
    struct driver copy = {.pid = driver->pid};
    forget(driver);
    return wait_exit(&copy);
}

/* ---- messages ---- */

void driver_send_raw(struct driver *driver, struct text bytes)
{
    size_t sent = 0;
    while (sent < bytes.size) {
        ptrdiff_t count =
            os_socket_send_with(driver->fd, bytes.data + sent, bytes.size - sent, NULL, 0, NULL);
        if (count < 0)
            return;
        sent += (size_t)count;
        if (count == 0)
            os_socket_wait(driver->fd, true, UINT64_C(1000000000));
    }
}

void driver_send(struct driver *driver, bool put)
{
    assert_true(put);
    int status = channel_send(driver->channel, buffer_text(&driver->message), NULL, NULL);
    assert_true(status == 0 || status == HEARTH_E_MISSING);
    driver->message.size = 0;
}

static void reply_store(struct driver *driver, uint16_t type, uint64_t number, int code,
                        struct text text)
{
    struct buffer out;
    buffer_init(&out, WORK_PAYLOAD_MAX + 100);
    assert_true(work_put_reply(&out, (enum work_type)type, number, code, text));
    channel_send(driver->store_channel, buffer_text(&out), NULL, NULL);
    buffer_finish(&out);
}

static void reply_file(struct driver *driver, uint16_t type, uint64_t number, int fd,
                       const struct store_spill *spill)
{
    struct buffer out;
    buffer_init(&out, 10000);
    assert_true(work_put_store_file(&out, (enum work_type)type, number, spill));
    channel_send(driver->store_channel, buffer_text(&out), &fd, NULL);
    buffer_finish(&out);
    close(fd);
}

static void serve_get(struct driver *driver, const struct message *message, const char *key)
{
    struct hearth_error err = {0};
    struct buffer record;
    buffer_init(&record, SIZE_MAX);
    int status = driver->store->store->calls->get(driver->store->store, key, &record, &err);
    reply_store(driver, message->type, message->request, status,
                status ? text_of(err.text) : buffer_text(&record));
    buffer_finish(&record);
}

static void serve_files(struct driver *driver, const struct message *message, const char *key)
{
    struct hearth_store *store = driver->store->store;
    struct hearth_error err = {0};
    struct store_spill spill;
    uint64_t bytes;
    int fd = -1, status;
    bool open = message->type == WORK_STORE_SPILL_OPEN;
    if (open)
        status = store->calls->spill_open(store, key, &fd, &spill, &err);
    else
        status = work_get_u64(message, &bytes) ? store->calls->spill_create(store, bytes, &fd, &err)
                                               : HEARTH_E_FORMAT;
    if (status)
        reply_store(driver, message->type, message->request, status, text_of(err.text));
    else
        reply_file(driver, message->type, message->request, fd, open ? &spill : NULL);
}

static void serve_rest(struct driver *driver, const struct message *message, const char *key,
                       int *descriptors)
{
    struct hearth_store *store = driver->store->store;
    struct hearth_error err = {0};
    struct store_summary summary;
    struct store_spill spill;
    struct text key_text, record;
    char model[HEARTH_IDENTITY_SIZE], name[HEARTH_STORE_NAME_SIZE], own[WORK_KEY_SIZE];
    int status = 0;
    if (message->type == WORK_STORE_PUT) {
        assert_true(work_get_store_record(message, &key_text, &record, &summary, model, name));
        assert_true(work_copy_key(key_text, own));
        status = store->calls->put(store, own, record, &summary, &err);
    } else if (message->type == WORK_STORE_SPILL_KEEP) {
        assert_true(work_get_store_spill(message, &key_text, &spill));
        assert_true(work_copy_key(key_text, own));
        status = store->calls->spill_keep(store, own, descriptors[0], &spill, &err);
    } else if (message->type == WORK_STORE_REMOVE) {
        status = store->calls->remove(store, key, &err);
    } else {
        assert_int_equal(message->type, WORK_STORE_SPILL_DROP);
        store->calls->spill_drop(store, key);
    }
    reply_store(driver, message->type, message->request, status, text_of(err.text));
}

/* Answers what the worker asks of its store. */
static void serve_store(struct driver *driver)
{
    struct message message;
    int descriptors[MESSAGE_DESCRIPTORS_MAX];
    char key[WORK_KEY_SIZE] = "";
    if (!driver->store_channel)
        return;
    while (channel_receive(driver->store_channel, &message, descriptors, NULL) == 1) {
        driver->store_calls++;
        work_get_key(&message, key);
        if (message.type == WORK_STORE_GET)
            serve_get(driver, &message, key);
        else if (message.type == WORK_STORE_SPILL_OPEN || message.type == WORK_STORE_SPILL_CREATE)
            serve_files(driver, &message, key);
        else
            serve_rest(driver, &message, key, descriptors);
    }
}

/* Whether the message that came is passed over. */
static bool pass_over(struct driver *driver)
{
    uint64_t ping;
    double fraction;
    switch (driver->got.type) {
    case WORK_STATE:
    case WORK_PONG:
        assert_true(work_get_state(&driver->got, &ping, &driver->state));
        *(driver->got.type == WORK_PONG ? &driver->pongs : &driver->states) += 1;
        return true;
    case WORK_LOADING:
        assert_true(work_get_f64(&driver->got, &fraction));
        assert_true(fraction >= 0 && fraction <= 1);
        driver->loadings++;
        return true;
    default:
        return false;
    }
}

int driver_try_receive(struct driver *driver, uint64_t ns)
{
    uint64_t deadline = os_monotonic_ns() + ns;
    int descriptors[MESSAGE_DESCRIPTORS_MAX];
    for (;;) {
        struct pollfd fds[2] = {
            {.fd = driver->fd, .events = POLLIN},
            {.fd = driver->store_channel ? driver->store_fd : -1, .events = POLLIN}};
        serve_store(driver);
        channel_flush(driver->channel, NULL);
        int status = channel_receive(driver->channel, &driver->got, descriptors, NULL);
        if (status < 0)
            return -1;
        if (status == 1) {
            assert_int_equal(driver->got.descriptor_count, 0);
            if (!pass_over(driver))
                return 1;
            continue;
        }
        uint64_t now = os_monotonic_ns();
        if (now >= deadline)
            return 0;
        poll(fds, 2, (int)((deadline - now) / 1000000) + 1);
    }
}

bool driver_receive(struct driver *driver)
{
    int status = driver_try_receive(driver, (uint64_t)WAIT_MS * 1000000);
    assert_int_not_equal(status, 0);
    return status > 0;
}

/* ---- answers ---- */

struct work_ask driver_ask(const char *messages, uint32_t max_tokens)
{
    return (struct work_ask){
        .messages = text_of(messages),
        .sampling = {.top_p = 1,
                     .typical_p = 1,
                     .xtc_threshold = 1,
                     .dry_base = 1.75f,
                     .dry_allowed_length = 2,
                     .repeat_penalty = 1,
                     .mirostat_tau = 5,
                     .mirostat_eta = 0.1f},
        .max_tokens = max_tokens,
    };
}

void driver_send_ask(struct driver *driver, uint64_t number, const struct work_ask *ask)
{
    driver_send(driver, work_put_ask(&driver->message, number, ask));
}

static void copy_text(struct text text, char *out, size_t size)
{
    assert_true(text.size < size);
    memcpy(out, text.data, text.size);
    out[text.size] = '\0';
}

static void take_text(struct driver *driver, struct driver_answer *answer)
{
    struct message_reader reader;
    struct work_text text;
    struct work_token token, top[HEARTH_TOP_TOKENS_MAX];
    uint32_t count;
    assert_true(work_get_text_begin(&driver->got, &reader, &text));
    assert_true(answer->begun && answer->size + text.text.size < sizeof answer->text);
    memcpy(answer->text + answer->size, text.text.data, text.text.size);
    answer->size += text.text.size;
    answer->text[answer->size] = '\0';
    for (uint32_t i = 0; i < text.count; i++)
        assert_true(work_text_token(&reader, &token, top, &count));
    assert_true(message_was_whole(&reader));
    assert_true(text.tokens >= answer->tokens);
    answer->tokens_named += text.count;
    answer->tokens = text.tokens;
    answer->texts++;
}

bool driver_take(struct driver *driver, uint64_t number, struct driver_answer *answer)
{
    if (driver->got.request != number)
        return false;
    assert_false(answer->ended);
    switch (driver->got.type) {
    case WORK_BEGIN:
        assert_false(answer->begun);
        assert_true(work_get_begin(&driver->got, &answer->begin));
        answer->begun = true;
        break;
    case WORK_READING:
        assert_true(work_get_reading(&driver->got, &answer->done, &answer->total));
        answer->readings++;
        break;
    case WORK_TEXT:
        take_text(driver, answer);
        break;
    default:
        assert_int_equal(driver->got.type, WORK_END);
        assert_true(work_get_end(&driver->got, &answer->end));
        copy_text(answer->end.cause, answer->cause, sizeof answer->cause);
        copy_text(answer->end.session, answer->session, sizeof answer->session);
        copy_text(answer->end.stop_string, answer->stop_string, sizeof answer->stop_string);
        answer->ended = true;
    }
    return true;
}

void driver_collect(struct driver *driver, uint64_t number, struct driver_answer *answer)
{
    *answer = (struct driver_answer){0};
    while (!answer->ended) {
        assert_true(driver_receive(driver));
        assert_true(driver_take(driver, number, answer));
    }
}

void driver_answer(struct driver *driver, const struct work_ask *ask, struct driver_answer *out)
{
    static uint64_t number = 1000;
    driver_send_ask(driver, ++number, ask);
    driver_collect(driver, number, out);
}

int driver_call(struct driver *driver, const char *name, const char *arguments, char *text)
{
    static uint64_t number = 1000000;
    struct message_reader reader;
    struct text got;
    int code;
    const struct work_call call = {text_of(name), text_of(arguments)};
    driver_send(driver, work_put_call(&driver->message, ++number, &call));
    assert_true(driver_receive(driver));
    assert_int_equal(driver->got.type, WORK_REPLY);
    assert_int_equal(driver->got.request, number);
    assert_true(work_get_reply(&driver->got, &reader, &code, &got));
    if (code == 0) {
        got = message_get_text(&reader);
        assert_true(message_was_whole(&reader));
    }
    copy_text(got, text, 8192);
    return code;
}
