/* What the commands hear from a daemon, and from what only seems to be one. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "cli/client.h"
#include "support/folder.h"

#define FINE "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
#define STREAM                                                                                     \
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"                        \
    "Transfer-Encoding: chunked\r\n\r\n"

/* Listens at a socket; each connection takes the next answer, which goes out byte by byte. In it
 *   \1  the rest is said before anything is read
 *   \2  nothing more comes until the other side has closed */
struct fake {
    char folder[TEST_FOLDER_MAX], path[STATE_PATH_BYTES];
    struct os_socket_file *file;
    int listener;
    const char *const *answers;
    struct os_thread *thread;
    struct buffer heard; /* of the last connection */
    struct client_settings settings;
    struct client *client;
};

static void hear_question(struct fake *fake, int fd)
{
    char bytes[4096];
    const char *body, *length;
    buffer_finish(&fake->heard);
    buffer_init(&fake->heard, (size_t)64 << 20);
    for (;;) {
        ssize_t got = read(fd, bytes, sizeof bytes);
        if (got <= 0)
            return;
        buffer_append(&fake->heard, bytes, (size_t)got);
        body = strstr(fake->heard.data, "\r\n\r\n");
        length = strstr(fake->heard.data, "Content-Length: ");
        if (!body)
            continue;
        size_t wanted = length ? strtoul(length + 16, NULL, 10) : 0;
        if (fake->heard.size - (size_t)(body + 4 - fake->heard.data) >= wanted)
            return;
    }
}

static void say(int fd, const char *answer)
{
    for (; *answer; answer++) {
        char byte;
        if (*answer == '\2')
            while (recv(fd, &byte, 1, 0) > 0) {
            }
        else if (*answer != '\1' && send(fd, answer, 1, MSG_NOSIGNAL) != 1)
            return;
    }
}

static void answer_all(void *context)
{
    struct fake *fake = context;
    for (const char *const *answer = fake->answers; *answer; answer++) {
        os_socket_wait(fake->listener, false, UINT64_MAX);
        int fd = accept(fake->listener, NULL, NULL);
        if (**answer != '\1')
            hear_question(fake, fd);
        say(fd, *answer);
        close(fd);
    }
}

/* The first answer is for client_open. */
static void begin(struct fake *fake, const char *const *answers)
{
    *fake = (struct fake){.answers = answers};
    test_folder_make(fake->folder);
    snprintf(fake->path, sizeof fake->path, "%s/socket", fake->folder);
    fake->settings.socket = fake->path;
    buffer_init(&fake->heard, (size_t)64 << 20);
    fake->listener = os_listen_unix(fake->path, &fake->file, NULL);
    assert_true(fake->listener >= 0);
    fake->thread = os_thread_start(answer_all, fake);
    assert_non_null(fake->thread);
    assert_int_equal(client_open(&fake->settings, &fake->client, NULL), 0);
}

static void end(struct fake *fake)
{
    client_close(fake->client);
    os_thread_join(fake->thread);
    close(fake->listener);
    os_socket_file_remove(fake->file);
    buffer_finish(&fake->heard);
    test_folder_remove(fake->folder);
}

static void answers_are_read(void **state)
{
    static const char *const answers[] = {
        FINE,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x=y\r\n\": 1\r\n1\r\n}\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n[1, 2]", NULL};
    struct fake fake;
    json_t *reply = NULL, *body = json_pack("{s:s}", "text", "\xc3\xa4");
    (void)state;
    begin(&fake, answers);
    assert_int_equal(client_call(fake.client, "PUT", "/a%20b", body, &reply, NULL), 0);
    assert_int_equal(json_integer_value(json_object_get(reply, "a")), 1);
    json_decref(reply);
    assert_ptr_equal(strstr(fake.heard.data, "PUT /a%20b HTTP/1.1\r\nHost: localhost\r\n"),
                     fake.heard.data);
    assert_non_null(strstr(fake.heard.data, "Content-Type: application/json\r\n"));
    assert_non_null(strstr(fake.heard.data, "\r\n\r\n{\"text\":\"\xc3\xa4\"}"));
    assert_int_equal(client_call(fake.client, "GET", "/", NULL, &reply, NULL), 0);
    assert_true(json_is_null(reply));
    assert_null(strstr(fake.heard.data, "Content-"));
    assert_int_equal(client_call(fake.client, "GET", "/", NULL, &reply, NULL), 0);
    assert_int_equal(json_array_size(reply), 2); /* until the connection ends */
    json_decref(reply);
    json_decref(body);
    end(&fake);
}

static void refusals_are_told(void **state)
{
    static const char *const answers[] = {
        FINE,
        "HTTP/1.1 404 Not Found\r\nContent-Length: 21\r\n\r\n{\"error\":\"none such\"}",
        "HTTP/1.1 409 C\r\nContent-Length: 32\r\n\r\n{\"error\":{\"message\":\"is taken\"}}",
        "HTTP/1.1 507 Full\r\nContent-Length: 4\r\n\r\nfull",
        "HTTP/1.1 400 B\r\nContent-Length: 0\r\n\r\n",
        NULL};
    static const struct {
        int code;
        const char *text;
    } told[] = {{HEARTH_E_MISSING, "none such"},
                {HEARTH_E_STATE, "is taken"},
                {HEARTH_E_LIMIT, "the daemon refused"},
                {HEARTH_E_ARGUMENT, "the daemon refused"}};
    struct fake fake;
    (void)state;
    begin(&fake, answers);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        struct hearth_error err = {0};
        json_t *reply = NULL;
        assert_int_equal(client_call(fake.client, "GET", "/", NULL, &reply, &err), told[i].code);
        assert_string_equal(err.text, told[i].text);
        assert_null(reply);
    }
    end(&fake);
}

/* A body that nobody reads does not keep the refusal from being heard. */
static void an_early_refusal_is_heard(void **state)
{
    static const char *const answers[] = {
        FINE, "\1HTTP/1.1 413 Large\r\nContent-Length: 21\r\n\r\n{\"error\":\"too large\"}", NULL};
    struct fake fake;
    struct hearth_error err = {0};
    size_t size = (size_t)4 << 20;
    char *text = malloc(size + 1);
    (void)state;
    memset(text, 'x', size);
    text[size] = '\0';
    json_t *body = json_pack("{s:s}", "text", text);
    begin(&fake, answers);
    assert_int_equal(client_call(fake.client, "POST", "/", body, NULL, &err), HEARTH_E_ARGUMENT);
    assert_string_equal(err.text, "too large");
    json_decref(body);
    free(text);
    end(&fake);
}

struct told {
    char text[256];
    unsigned count, wanted;
};

static bool on_event(void *context, const char *name, const json_t *data)
{
    struct told *told = context;
    char *json = json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t size = strlen(told->text);
    snprintf(told->text + size, sizeof told->text - size, "%s=%s;", name, json);
    free(json);
    return ++told->count != told->wanted;
}

static void events_are_told(void **state)
{
    static const char *const answers[] = {
        FINE,
        STREAM "12\r\n: hello\n\ndata: 1\n\n\r\n"
               "24\r\nevent: more\r\ndata:{\"a\":\r\ndata:2}\r\n\r\n\r\n"
               "12\r\ndata: [DONE]\n\ndata\r\n"
               "9\r\n: \"end\"\n\n\r\n"
               "0\r\n\r\n",
        STREAM "9\r\ndata: 1\n\n\r\n\2",
        "HTTP/1.1 400 B\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n"
        "{\"error\":\"not so\"}",
        NULL};
    struct fake fake;
    struct hearth_error err = {0};
    struct told told = {{0}, 0, 0}, first = {{0}, 0, 1};
    (void)state;
    begin(&fake, answers);
    assert_int_equal(client_stream(fake.client, "GET", "/", NULL, on_event, &told, NULL), 0);
    assert_string_equal(told.text, "=1;more={\"a\":2};=\"end\";");
    /* who has heard enough does not wait for the rest */
    assert_int_equal(client_stream(fake.client, "GET", "/", NULL, on_event, &first, NULL),
                     HEARTH_E_CANCELLED);
    assert_int_equal(first.count, 1);
    assert_int_equal(client_stream(fake.client, "GET", "/", NULL, on_event, &told, &err),
                     HEARTH_E_ARGUMENT);
    assert_string_equal(err.text, "not so");
    end(&fake);
}

static bool on_text(void *context, struct text bytes)
{
    struct told *told = context;
    size_t size = strlen(told->text);
    snprintf(told->text + size, sizeof told->text - size, "%.*s", (int)bytes.size, bytes.data);
    return true;
}

static void texts_are_told(void **state)
{
    static const char *const answers[] = {
        FINE, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\na\nb\nc\n",
        "HTTP/1.1 404 No\r\nContent-Length: 16\r\n\r\n{\"error\":\"none\"}", NULL};
    struct fake fake;
    struct told told = {{0}, 0, 0};
    (void)state;
    begin(&fake, answers);
    assert_int_equal(client_text(fake.client, "/", on_text, &told, NULL), 0);
    assert_string_equal(told.text, "a\nb\nc\n");
    assert_int_equal(client_text(fake.client, "/", on_text, &told, NULL), HEARTH_E_MISSING);
    assert_string_equal(told.text, "a\nb\nc\n");
    end(&fake);
}

static void what_is_no_answer_is_an_error(void **state)
{
    static const char *const answers[] = {FINE,
                                          "",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
                                          "SSH-2.0-OpenSSH_9.2\r\n\2",
                                          "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",
                                          STREAM "9\r\ndata: 1\n\n\r\n",
                                          NULL};
    static const struct {
        int code;
        const char *text;
    } told[] = {
        {HEARTH_E_IO, "the daemon did not answer: it closed the connection before"},
        {HEARTH_E_IO, "the daemon did not answer: it closed the connection before"},
        {HEARTH_E_FORMAT, "the daemon did not answer: it does not speak HTTP"},
        {HEARTH_E_FORMAT, "the daemon's answer is not JSON"},
        {HEARTH_E_IO, "the daemon did not answer: it closed the connection before"},
    };
    struct fake fake;
    struct told events = {{0}, 0, 0};
    (void)state;
    begin(&fake, answers);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
        struct hearth_error err = {0};
        assert_int_equal(client_stream(fake.client, "GET", "/", NULL, on_event, &events, &err),
                         told[i].code);
        assert_ptr_equal(strstr(err.text, told[i].text), err.text);
    }
    assert_int_equal(events.count, 1);
    end(&fake);
}

static unsigned looks;

static bool interrupt_at_third_look(void)
{
    return ++looks >= 3;
}

static void a_wait_is_interrupted(void **state)
{
    static const char *const answers[] = {FINE, "\2", NULL};
    struct fake fake;
    struct hearth_error err = {0};
    (void)state;
    begin(&fake, answers);
    client_on_interrupt(fake.client, interrupt_at_third_look);
    uint64_t start = os_monotonic_ns();
    assert_int_equal(client_call(fake.client, "GET", "/", NULL, NULL, &err), HEARTH_E_CANCELLED);
    assert_string_equal(err.text, "interrupted");
    assert_true(os_monotonic_ns() - start < UINT64_C(2000000000));
    end(&fake);
}

static void nobody_is_told_from_somebody(void **state)
{
    static const char *const answers[] = {FINE, NULL};
    struct fake fake;
    struct client *client = NULL;
    struct hearth_error err = {0};
    char path[STATE_PATH_BYTES];
    struct client_settings settings = {path};
    (void)state;
    begin(&fake, answers);
    snprintf(path, sizeof path, "%s/none", fake.folder);
    assert_int_equal(client_open(&settings, &client, &err), HEARTH_E_MISSING);
    assert_non_null(strstr(err.text, "no daemon is running"));
    memset(path, 'p', 200);
    path[200] = '\0';
    assert_int_equal(client_open(&settings, &client, &err), HEARTH_E_ARGUMENT);
    close(fake.listener); /* what is left is a dead socket */
    assert_int_equal(client_stop(fake.client, 1, &err), HEARTH_E_MISSING);
    assert_null(client);
    fake.listener = dup(0);
    end(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(refusals_are_told),
        cmocka_unit_test(an_early_refusal_is_heard),
        cmocka_unit_test(events_are_told),
        cmocka_unit_test(texts_are_told),
        cmocka_unit_test(what_is_no_answer_is_an_error),
        cmocka_unit_test(a_wait_is_interrupted),
        cmocka_unit_test(nobody_is_told_from_somebody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
