/* Real workers with a made-up model under the daemon's supervision: whatever kills them, the next
 * message of a conversation is answered, and a model whose file changes under it takes nobody else
 * with it. With an argument: so many deaths at random moments. */
#define _GNU_SOURCE
#include "workshop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/random.h"
#include "gguf/types.h"
#include "hearth/session.h"
#include "infer/tiny_model.h"

#define DEATHS 20
#define ANSWER_TOKENS 40
#define HELLO "[{\"role\":\"user\",\"content\":\"w1 w2 w3 w4\"}]"
/* Loading takes some 20 ms, with sanitizers and neighbours more; the rule is load time + 1 s. */
#define AGAIN_NS (5 * SECOND)

/* AddressSanitizer has a handler of its own, which exits. */
#if defined(__SANITIZE_ADDRESS__)
#define BUS_ERROR "ended by itself"
#define BUS_ERROR_CODE HEARTH_E_CRASHED
#else
#define BUS_ERROR "the model file changed"
#define BUS_ERROR_CODE HEARTH_E_CHANGED
#endif

static unsigned deaths = DEATHS;

/* ---- models and asks ---- */

static void write_model(struct workshop *f, const char *path)
{
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_F16, TYPE_Q4_0};
    static const struct tiny_model shape = {
        .architecture = "llama",
        .vocabulary = 96,
        .embedding = 64,
        .layers = 4,
        .heads = 4,
        .kv_heads = 2,
        .head_size = 32,
        .ff = 96,
        .types = types,
        .type_count = 3,
        .seed = 5,
        .chat_template = "{% for m in messages %}{{ m.role }}>{{ m.content }}w95{% endfor %}"
                         "{% if add_generation_prompt %}assistant>{% endif %}",
    };
    char made[TEST_PATH_MAX], bytes[65536];
    (void)f;
    tiny_model_write(&shape, made);
    int in = open(made, O_RDONLY | O_CLOEXEC), out = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    ssize_t got;
    assert_true(in >= 0 && out >= 0);
    while ((got = read(in, bytes, sizeof bytes)) > 0)
        assert_int_equal(write(out, bytes, (size_t)got), got);
    close(in);
    close(out);
    remove(made);
}

static struct local_options options_for(struct workshop *f)
{
    struct local_options options = workshop_options(f, HEARTH_PROGRAM);
    options.start = (struct work_start){
        .engine = {.threads = 1, .kv_type = HEARTH_KV_F16},
        .idle_ns = 300 * SECOND,
        .answers_max = 8,
        .time_zone = TEXT("UTC"),
    };
    return options;
}

static void start(struct workshop *f)
{
    char path[TEST_FOLDER_MAX + 16];
    snprintf(path, sizeof path, "%s/model", f->folder);
    write_model(f, path);
    struct local_options options = options_for(f);
    start_with(f, &options);
}

static struct work_ask ask_for(const char *session, uint32_t tokens)
{
    return (struct work_ask){
        .session = text_of(session),
        .how = session[0] ? WORK_MESSAGES_APPEND : WORK_MESSAGES_ALL,
        .messages = TEXT(HELLO),
        .sampling = {.top_p = 1, .typical_p = 1, .xtc_threshold = 1, .repeat_penalty = 1},
        .max_tokens = tokens,
        .ignore_end = true,
    };
}

static void ask_in(struct workshop *f, struct heard *heard, const char *session, uint32_t tokens)
{
    struct hearth_error err;
    const struct work_ask ask = ask_for(session, tokens);
    if (try_ask(f, heard, &ask, &err))
        fail_msg("%s", err.text);
}

static void assert_answered(struct workshop *f, struct heard *heard)
{
    run_until(f, has_ended, heard);
    if (heard->code != 0 || heard->text[0] == '\0')
        fail_msg("%d %s \"%s\"", heard->code, heard->cause, heard->text);
}

/* ---- tests ---- */

static bool tells_its_memory(void *context)
{
    return ((struct workshop *)context)->backend->use.private_bytes > 0;
}

static void answers(void **state)
{
    struct workshop *f = *state;
    struct heard first, second, tokens;
    start(f);
    ask_in(f, &first, "", ANSWER_TOKENS);
    call(f, &tokens, "tokenize", "{\"text\":\"w1 w2\"}");
    assert_answered(f, &first);
    run_until(f, has_ended, &tokens);
    assert_int_equal(tokens.code, 0);
    assert_non_null(strstr(tokens.reply, "tokens"));
    f->backend->calls->threads(f->backend, 1);
    f->backend->calls->memory(f->backend, UINT64_C(1) << 30);
    ask_in(f, &second, "", ANSWER_TOKENS);
    assert_answered(f, &second);
    assert_string_equal(second.text, first.text);
    assert_true(second.cached_tokens > 0);
    assert_int_equal(f->backend->restarts, 0);
    run_until(f, tells_its_memory, f);
    f->backend->calls->shed(f->backend, UINT64_C(1) << 30);
    ask_in(f, &second, "", ANSWER_TOKENS);
    assert_answered(f, &second);
    assert_string_equal(second.text, first.text);
}

/* What was computed is in the store when it has ended. */
static void drained_to_the_store(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    workshop_store(f);
    for (int life = 0; life < 2; life++) {
        if (life == 0)
            start(f);
        else {
            struct local_options options = options_for(f);
            start_with(f, &options);
        }
        ask_in(f, &heard, "kept", ANSWER_TOKENS);
        assert_answered(f, &heard);
        if (life == 1)
            assert_true(heard.cached_tokens > ANSWER_TOKENS);
        f->state = BACKEND_READY;
        f->backend->calls->drain(f->backend, 20 * SECOND);
        run_until(f, is_over, f);
        assert_int_equal(f->state, BACKEND_ENDED);
        destroy(f);
    }
}

/* Each time: two answers begin, the worker is killed within the window, the conversation goes on.
 */
static void kill_often(struct workshop *f, unsigned count, uint64_t window_ns)
{
    struct random random = random_from_seed(7);
    uint64_t longest = 0;
    for (unsigned i = 0; i < count; i++) {
        struct heard running, other, next;
        char key[16];
        snprintf(key, sizeof key, "k%u", i % 5);
        ask_in(f, &running, key, ANSWER_TOKENS);
        ask_in(f, &other, "", ANSWER_TOKENS);
        run_for(f, never, NULL, (uint64_t)(random_unit(&random) * (double)window_ns));
        uint64_t killed = os_monotonic_ns();
        if (f->backend->process > 0)
            kill(f->backend->process, SIGKILL);
        run_until(f, has_ended, &running);
        run_until(f, has_ended, &other);
        assert_true(running.code == 0 || running.code == HEARTH_E_CRASHED);
        ask_in(f, &next, key, 5);
        assert_answered(f, &next);
        uint64_t took = os_monotonic_ns() - killed;
        longest = took > longest ? took : longest;
    }
    print_message("%u deaths, %u restarts, answered again within %.2f s\n", count,
                  f->backend->restarts, (double)longest / 1e9);
    assert_true(f->backend->restarts > 0);
    assert_true(longest < AGAIN_NS);
}

static void killed_at_any_moment(void **state)
{
    struct workshop *f = *state;
    struct heard history;
    workshop_store(f);
    start(f);
    run_until(f, is_ready, f);
    kill_often(f, deaths, 40 * (SECOND / 1000));
    call(f, &history, "history", "{\"key\":\"k0\"}");
    run_until(f, has_ended, &history);
    assert_int_equal(history.code, 0);
}

static void killed_with_a_real_model(void **state)
{
    struct workshop *f = *state;
    const char *folder = getenv("HEARTH_MODELS");
    char path[512];
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : ".");
    int model = open(path, O_RDONLY | O_CLOEXEC);
    if (model < 0) {
        print_message("HEARTH_MODELS names no folder with SmolLM2-135M-Instruct.Q4_1.gguf\n");
        return;
    }
    workshop_store(f);
    struct local_options options = options_for(f);
    options.fds = &model;
    start_with(f, &options);
    close(model);
    run_until(f, is_ready, f);
    kill_often(f, deaths / 4, SECOND);
}

static void stopped(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    start(f);
    destroy(f);
    run_until(f, is_alone, NULL);
    struct local_options options = options_for(f);
    options.hang_ns = SECOND / 2;
    start_with(f, &options);
    run_until(f, is_ready, f);
    ask_in(f, &heard, "", 500);
    run_until(f, has_begun, &heard);
    kill(f->backend->process, SIGSTOP);
    run_until(f, has_ended, &heard);
    assert_cause(&heard, HEARTH_E_CRASHED, "did not answer");
    ask_in(f, &heard, "", ANSWER_TOKENS);
    assert_answered(f, &heard);
}

static struct backend *other_worker(struct workshop *f, int *model)
{
    char path[TEST_FOLDER_MAX + 16];
    struct backend *backend;
    struct hearth_error err;
    snprintf(path, sizeof path, "%s/other", f->folder);
    write_model(f, path);
    *model = open(path, O_RDONLY | O_CLOEXEC);
    struct local_options options = options_for(f);
    options.fds = model;
    options.owner = (struct backend_owner){0};
    assert_int_equal(local_start(f->base, &options, &backend, &err), 0);
    return backend;
}

static void model_cut_short(void **state)
{
    struct workshop *f = *state;
    struct heard heard, others;
    struct hearth_error err;
    const struct backend_listener listener = listen_to(&others);
    struct work_ask ask = ask_for("", 200);
    int model;
    start(f);
    struct backend *other = other_worker(f, &model), *first = f->backend;
    run_until(f, is_ready, f);
    ask_in(f, &heard, "", ANSWER_TOKENS);
    assert_answered(f, &heard);
    others = (struct heard){0};
    assert_int_equal(other->calls->ask(other, &ask, &listener, &others.job, &err), 0);
    run_until(f, has_begun, &others);
    assert_int_equal(ftruncate(f->model, 4096), 0);
    ask_in(f, &heard, "", ANSWER_TOKENS);
    run_until(f, has_ended, &heard);
    assert_cause(&heard, BUS_ERROR_CODE, BUS_ERROR);
    run_until(f, is_over, f);
    assert_int_equal(first->state, BACKEND_FAILED);
    assert_answered(f, &others);
    assert_int_equal(other->restarts, 0);
    other->calls->destroy(other);
    close(model);
}

static void no_model_at_all(void **state)
{
    struct workshop *f = *state;
    assert_true(pwrite(f->model, "GGUF but not really", 19, 0) == 19);
    struct local_options options = options_for(f);
    start_with(f, &options);
    run_until(f, is_over, f);
    assert_int_equal(f->state, BACKEND_FAILED);
    assert_true(strlen(f->error) > 0);
    assert_null(strstr(f->error, "crashed"));
}

/* ---- a daemon that dies ---- */

static int be_daemon(const char *path)
{
    struct event_base *base = event_base_new();
    struct backend *backend;
    int model = open(path, O_RDONLY | O_CLOEXEC);
    const struct local_options options = {
        .program = HEARTH_PROGRAM, .name = "fake", .fds = &model, .fd_count = 1};
    if (!base || local_start(base, &options, &backend, NULL))
        return 1;
    printf("%d\n", backend->process);
    fflush(stdout);
    event_base_dispatch(base);
    return 0;
}

static void no_orphan(void **state)
{
    static const unsigned ages[] = {0, 10000, 200000};
    struct workshop *f = *state;
    for (size_t i = 0; i < sizeof ages / sizeof *ages; i++) {
        char path[TEST_FOLDER_MAX + 16], line[32] = "";
        int ends[2];
        snprintf(path, sizeof path, "%s/model", f->folder);
        write_model(f, path);
        assert_int_equal(pipe(ends), 0);
        pid_t daemon = fork();
        if (daemon == 0) {
            dup2(ends[1], STDOUT_FILENO);
            execl("/proc/self/exe", "test", "daemon", path, (char *)NULL);
            _exit(1);
        }
        close(ends[1]);
        assert_true(read(ends[0], line, sizeof line - 1) > 0);
        close(ends[0]);
        int worker = atoi(line);
        assert_true(worker > 1);
        usleep(ages[i]);
        kill(daemon, SIGKILL);
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        assert_true(run_for(f, is_gone, &worker, 2 * SECOND));
    }
}

int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        WITH(answers),
        WITH(drained_to_the_store),
        WITH(killed_at_any_moment),
        WITH(killed_with_a_real_model),
        WITH(stopped),
        WITH(model_cut_short),
        WITH(no_model_at_all),
        WITH(no_orphan),
    };
    if (count == 3 && strcmp(arguments[1], "daemon") == 0)
        return be_daemon(arguments[2]);
    if (count == 2)
        deaths = (unsigned)atoi(arguments[1]);
    os_ignore_broken_pipes();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
