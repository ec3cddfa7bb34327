/* A conversation in the sandbox says what it says outside, on several threads. This program is its
 * own child, which is given a pipe for its answer, and the model. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "gguf/types.h"
#include "hearth/session.h"
#include "infer/tiny_model.h"

#define ANSWER 3
#define MODEL 4
#define THREADS 3
#define ANSWER_BYTES 4096

/* ---- the child ---- */

static int give_up(const char *what, const struct hearth_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    return 1;
}

static void take_end(void *context, const struct hearth_result *result)
{
    bool *good = context;
    *good = result->stop == HEARTH_STOP_LENGTH || result->stop == HEARTH_STOP_END;
    if (!*good)
        fprintf(stderr, "the end: %s\n", result->error.text);
    *good = *good && write(ANSWER, result->text, result->text_size) == (ssize_t)result->text_size;
}

static int converse(struct hearth_sessions *sessions)
{
    static const char message[] = "{\"role\": \"user\", \"content\": \"Name three colours.\"}";
    struct hearth_error err;
    struct hearth_session *session;
    struct hearth_sessions_state state;
    bool good = false;
    const struct hearth_sampling sampling = {
        .temperature = 0, .top_p = 1, .typical_p = 1, .repeat_penalty = 1};
    const struct hearth_ask ask = {
        .sampling = &sampling, .max_tokens = 40, .on_end = take_end, .context = &good};
    if (hearth_session_open(sessions, NULL, &session, &err) ||
        hearth_session_append(session, message, sizeof message - 1, &err) ||
        hearth_session_ask(session, &ask, NULL, &err))
        return give_up("asking", &err);
    do {
        uint64_t wait;
        hearth_sessions_step(sessions, &wait);
        hearth_sessions_state(sessions, &state);
    } while (state.waiting + state.running > 0);
    hearth_session_close(session);
    return good ? 0 : 1;
}

static int load_and_converse(void)
{
    struct hearth_error err;
    struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    const int fd = MODEL;
    const struct hearth_engine_options options = {.threads = THREADS};
    const struct hearth_sessions_options sessions_options = {.watch_pressure = true};
    if (hearth_model_open_fds(&fd, 1, NULL, &model, &err))
        return give_up("the model", &err);
    if (hearth_engine_open(model, &options, &engine, &err))
        return give_up("the engine", &err);
    if (hearth_engine_threads(engine) != THREADS)
        return 2;
    if (hearth_sessions_open(model, engine, &sessions_options, &sessions, &err))
        return give_up("conversations", &err);
    int status = converse(sessions);
    hearth_sessions_close(sessions);
    hearth_engine_close(engine);
    hearth_model_close(model);
    return status;
}

static int child_main(const char *where)
{
    struct hearth_error err;
    struct os_confinement confinement = {.descriptors_max = 64};
    setenv("TZ", "XXX-5", 1);
    if (strcmp(where, "inside") == 0 && os_confine(&confinement, &err) != 0)
        return give_up("the sandbox", &err);
    if (strcmp(where, "inside") == 0 && confinement.missing[0] == '\0' &&
        open("/etc/passwd", O_RDONLY) >= 0)
        return 3;
    return load_and_converse();
}

/* ---- the parent ---- */

static void answer_of(const char *where, const char *path, char text[ANSWER_BYTES])
{
    int pipes[2], how;
    size_t size = 0;
    ssize_t got;
    bool by_itself;
    struct os_child child;
    struct hearth_error err;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    int fds[2] = {pipes[1], open(path, O_RDONLY | O_CLOEXEC)};
    assert_true(fds[1] >= 0);
    const char *const arguments[] = {"child", where, NULL};
    const struct os_child_options options = {
        .arguments = arguments, .fds = fds, .fd_count = 2, .error_fd = -1};
    if (os_child_start(&options, &child, &err) != 0)
        fail_msg("%s", err.text);
    close(fds[0]);
    close(fds[1]);
    while ((got = read(pipes[0], text + size, ANSWER_BYTES - 1 - size)) > 0)
        size += (size_t)got;
    text[size] = '\0';
    close(pipes[0]);
    struct pollfd end = {.fd = child.fd, .events = POLLIN};
    assert_int_equal(poll(&end, 1, 60000), 1);
    while (!os_child_ended(&child, &how, &by_itself))
        continue;
    assert_int_equal(how, 0);
}

static void compare(const char *path)
{
    char inside[ANSWER_BYTES], outside[ANSWER_BYTES];
    answer_of("outside", path, outside);
    answer_of("inside", path, inside);
    assert_true(strlen(outside) > 10);
    assert_string_equal(inside, outside);
}

static void a_small_model_answers_inside_as_outside(void **state)
{
    (void)state;
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_Q4_K};
    static const struct tiny_model shape = {
        .architecture = "gemma3",
        .vocabulary = 96,
        .embedding = 256,
        .layers = 4,
        .heads = 8,
        .kv_heads = 2,
        .head_size = 32,
        .ff = 256,
        .window = 40,
        .types = types,
        .type_count = 2,
        .seed = 3,
        .chat_template = "w94{% for m in messages %}{{ m.role }}>{{ m.content }}w95{% endfor %}"
                         "{{ strftime_now('%H:%M') }}assistant>",
    };
    char path[TEST_PATH_MAX];
    tiny_model_write(&shape, path);
    compare(path);
    remove(path);
}

static void a_real_model_answers_inside_as_outside(void **state)
{
    (void)state;
    char path[4096];
    const char *folder = getenv("HEARTH_MODELS");
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : "");
    if (!folder || access(path, R_OK) != 0) {
        print_message("skipped: no SmolLM2 (make test fetches it)\n");
        skip();
    }
    compare(path);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[0], "child") == 0)
        return child_main(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_model_answers_inside_as_outside),
        cmocka_unit_test(a_real_model_answers_inside_as_outside),
    };
    return cmocka_run_group_tests_name("computing in the sandbox", tests, NULL, NULL);
}
