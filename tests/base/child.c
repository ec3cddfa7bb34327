/* Child processes. This program is its own child: an argument names what it does then. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"

extern char **environ;

/* ---- what the children do ---- */

static int say(int fd, const char *text)
{
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : 90;
}

/* Lists its open descriptors up to 1,000 into descriptor 3. */
static int child_lists_descriptors(void)
{
    char text[4096] = "";
    for (int fd = 0; fd < 1000; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%d ", fd);
    }
    return say(3, text);
}

/* Reads from standard input, and says what each of its descriptors is by writing into it. */
static int child_writes_numbers(void)
{
    char byte;
    if (read(0, &byte, 1) != 0 || write(1, "x", 1) != 1)
        return 91;
    for (int fd = 3; fd < 8; fd++) {
        char text[2] = {(char)('0' + fd), '\0'};
        if (say(fd, text) != 0)
            return 92;
    }
    return say(2, "error");
}

static long kill_score(void)
{
    long score = -1;
    FILE *file = fopen("/proc/self/oom_score_adj", "r");
    if (!file || fscanf(file, "%ld", &score) != 1)
        score = -1;
    if (file)
        fclose(file);
    return score;
}

static int child_tells_its_state(void)
{
    char text[512];
    sigset_t mask;
    struct sigaction action;
    int blocked = 0, ignored = 0, variables = 0;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int number = 1; number < NSIG; number++) {
        blocked += sigismember(&mask, number) == 1;
        ignored += sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
    }
    for (char **entry = environ; *entry; entry++)
        variables++;
    snprintf(text, sizeof text, "%d blocked, %d ignored, %d variables, nice %d, score %ld, %s",
             blocked, ignored, variables, getpriority(PRIO_PROCESS, 0), kill_score(),
             getsid(0) == getpid() ? "leads" : "follows");
    return say(3, text);
}

/* Starts a child that sleeps, says its number and is killed. */
static int child_has_a_child(void)
{
    const char *const arguments[] = {"child", "sleep", NULL};
    const struct os_child_options options = {.arguments = arguments, .error_fd = -1};
    struct os_child child;
    char text[32];
    if (os_child_start(&options, &child, NULL) != 0)
        return 93;
    snprintf(text, sizeof text, "%d", child.pid);
    if (say(3, text) != 0)
        return 94;
    raise(SIGKILL);
    return 95;
}

static int child_main(const char *what)
{
    if (strcmp(what, "exit") == 0)
        return 7;
    if (strcmp(what, "sleep") == 0)
        return pause();
    if (strcmp(what, "wait") == 0)
        return say(3, "x") == 0 ? pause() : 96;
    if (strcmp(what, "descriptors") == 0)
        return child_lists_descriptors();
    if (strcmp(what, "numbers") == 0)
        return child_writes_numbers();
    if (strcmp(what, "state") == 0)
        return child_tells_its_state();
    if (strcmp(what, "parent") == 0)
        return child_has_a_child();
    if (strncmp(what, "raise ", 6) == 0) {
        signal(atoi(what + 6), SIG_DFL); /* sanitizers would make an exit of it */
        raise(atoi(what + 6));
    }
    return 99;
}

/* ---- starting them ---- */

struct start {
    const int *fds;
    size_t fd_count;
    int error_fd;
    bool humble;
};

static struct os_child start_with(const char *what, struct start start)
{
    struct hearth_error err;
    struct os_child child;
    const char *const arguments[] = {"child", what, NULL};
    const struct os_child_options options = {
        .arguments = arguments,
        .fds = start.fds,
        .fd_count = start.fd_count,
        .error_fd = start.error_fd ? start.error_fd : -1,
        .humble = start.humble,
    };
    if (os_child_start(&options, &child, &err) != 0)
        fail_msg("%s", err.text);
    return child;
}

static bool readable_within(int fd, int ms)
{
    struct pollfd input = {.fd = fd, .events = POLLIN};
    return poll(&input, 1, ms) == 1;
}

static void close_both(const int pipes[2])
{
    close(pipes[0]);
    close(pipes[1]);
}

/* How it ended, within ten seconds. */
static int end_of(struct os_child *child, bool *by_itself)
{
    int how = 1000;
    assert_true(readable_within(child->fd, 10000));
    while (!os_child_ended(child, &how, by_itself)) /* a pipe closes a little before the end */
        continue;
    assert_int_equal(child->fd, -1);
    return how;
}

static int exit_of(struct os_child *child)
{
    bool by_itself;
    return end_of(child, &by_itself);
}

/* What a child writes into its descriptor 3 until it ends. */
static void said_by(const char *what, bool humble, char *text, size_t size)
{
    int pipes[2];
    size_t done = 0;
    ssize_t got;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    struct os_child child =
        start_with(what, (struct start){.fds = &pipes[1], .fd_count = 1, .humble = humble});
    close(pipes[1]);
    while ((got = read(pipes[0], text + done, size - 1 - done)) > 0)
        done += (size_t)got;
    text[done] = '\0';
    close(pipes[0]);
    int how = exit_of(&child);
    assert_true(how == 0 || how == -SIGKILL);
}

/* ---- tests ---- */

static void the_end_is_told_once_and_leaves_nothing(void **state)
{
    (void)state;
    bool by_itself = true;
    int how;
    struct os_child child = start_with("exit", (struct start){0});
    int pid = child.pid;
    assert_int_equal(end_of(&child, &by_itself), 7);
    assert_false(by_itself);
    assert_int_equal(kill(pid, 0), -1); /* no zombie */
    assert_int_equal(errno, ESRCH);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);

    child = start_with("sleep", (struct start){0});
    assert_false(os_child_ended(&child, &how, &by_itself));
    assert_false(readable_within(child.fd, 20));
    os_child_kill(&child, false);
    assert_int_equal(end_of(&child, &by_itself), -SIGTERM);
    assert_false(by_itself);
    os_child_kill(&child, true); /* harmless */
    child = start_with("sleep", (struct start){0});
    os_child_kill(&child, true);
    assert_int_equal(exit_of(&child), -SIGKILL);
}

static void signals_of_its_own_making_are_known(void **state)
{
    (void)state;
    static const struct {
        int number;
        bool by_itself;
    } signals[] = {{SIGSEGV, true}, {SIGBUS, true},   {SIGABRT, true},  {SIGSYS, true},
                   {SIGFPE, true},  {SIGILL, true},   {SIGTRAP, true},  {SIGKILL, false},
                   {SIGHUP, false}, {SIGUSR1, false}, {SIGPIPE, false}, {SIGXCPU, false}};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        char what[16];
        bool by_itself;
        snprintf(what, sizeof what, "raise %d", signals[i].number);
        struct os_child child = start_with(what, (struct start){0});
        int how = end_of(&child, &by_itself);
        assert_int_equal(how, -signals[i].number);
        assert_int_equal(by_itself, signals[i].by_itself);
    }
}

static void only_what_is_given_is_inherited(void **state)
{
    (void)state;
    char text[4096];
    int open_for_all[3];
    for (int i = 0; i < 3; i++) {
        open_for_all[i] = open("/dev/null", O_RDONLY); /* without O_CLOEXEC */
        assert_true(open_for_all[i] >= 0);
    }
    assert_int_equal(dup2(open_for_all[0], 700), 700);
    said_by("descriptors", false, text, sizeof text);
    assert_string_equal(text, "0 1 2 3 ");
    close(700);
    for (int i = 0; i < 3; i++)
        close(open_for_all[i]);
}

/* Pipes whose writing ends lie exactly where the child's are to be, in another order. */
static void descriptors_may_lie_in_each_others_places(void **state)
{
    (void)state;
    int readers[6], writers[5], error[2];
    int pipes[2];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        readers[i] = fcntl(pipes[0], F_DUPFD_CLOEXEC, 50);
        int writer = fcntl(pipes[1], F_DUPFD_CLOEXEC, 60);
        close(pipes[0]);
        close(pipes[1]);
        if (i == 5)
            error[1] = writer;
        else
            writers[i] = writer;
    }
    int saved[7]; /* what this program has at 3 to 9 */
    for (int i = 0; i < 7; i++)
        saved[i] = fcntl(3 + i, F_DUPFD_CLOEXEC, 80);
    /* the child's 3 lies at 4, its 4 at 5, …, its 7 at 3; its error at 8 */
    int fds[5] = {4, 5, 6, 7, 3};
    for (int i = 0; i < 5; i++)
        assert_true(dup3(writers[i], fds[i], O_CLOEXEC) >= 0);
    assert_true(dup3(error[1], 8, O_CLOEXEC) >= 0);
    struct os_child child =
        start_with("numbers", (struct start){.fds = fds, .fd_count = 5, .error_fd = 8});
    for (int i = 3; i < 10; i++) {
        close(i);
        if (saved[i - 3] >= 0) {
            dup3(saved[i - 3], i, O_CLOEXEC);
            close(saved[i - 3]);
        }
    }
    for (int i = 0; i < 5; i++)
        close(writers[i]);
    close(error[1]);
    for (int i = 0; i < 6; i++) {
        char text[16] = "";
        assert_true(read(readers[i], text, sizeof text - 1) > 0);
        char wanted[2] = {(char)('3' + i), '\0'};
        assert_string_equal(text, i == 5 ? "error" : wanted);
        assert_int_equal(read(readers[i], text, sizeof text), 0);
        close(readers[i]);
    }
    assert_int_equal(exit_of(&child), 0);
}

/* Descriptors 0 to 2 may be closed, as a service manager may leave them. */
static void standard_descriptors_may_be_missing(void **state)
{
    (void)state;
    int saved[3], pipes[2];
    char text[64] = "";
    for (int i = 0; i < 3; i++)
        saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 40);
    for (int i = 0; i < 3; i++)
        close(i);
    bool piped = pipe2(pipes, O_CLOEXEC) == 0; /* these are 0 and 1 */
    const char *const arguments[] = {"child", "descriptors", NULL};
    const struct os_child_options options = {
        .arguments = arguments, .fds = &pipes[1], .fd_count = 1, .error_fd = -1};
    struct os_child child;
    int status = os_child_start(&options, &child, NULL);
    close(pipes[1]);
    ssize_t got = read(pipes[0], text, sizeof text - 1);
    close(pipes[0]);
    for (int i = 0; i < 3; i++) {
        dup2(saved[i], i);
        close(saved[i]);
    }
    assert_true(piped);
    assert_int_equal(status, 0);
    assert_true(got > 0);
    assert_string_equal(text, "0 1 2 3 ");
    assert_int_equal(exit_of(&child), 0);
}

static void nothing_of_the_parents_state_goes_over(void **state)
{
    (void)state;
    char text[512];
    sigset_t mask, before;
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, &before);
    os_ignore_broken_pipes();
    void (*hangup)(int) = signal(SIGHUP, SIG_IGN);
    const int priority = getpriority(PRIO_PROCESS, 0);
    for (int humble = 0; humble < 2; humble++) {
        char wanted[512];
        int lower = priority + 5 < 19 ? priority + 5 : 19;
        snprintf(wanted, sizeof wanted,
                 "0 blocked, 0 ignored, 0 variables, nice %d, score %ld, leads",
                 humble ? lower : priority, humble ? 1000 : kill_score());
        said_by("state", humble, text, sizeof text);
        assert_string_equal(text, wanted);
    }
    sigprocmask(SIG_SETMASK, NULL, &mask);
    assert_true(sigismember(&mask, SIGUSR1)); /* ours is as it was */
    assert_int_equal(sigismember(&mask, SIGINT), 0);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGHUP, hangup);
    signal(SIGPIPE, SIG_DFL);
}

static void ends_are_known_where_their_signal_was_ignored(void **state)
{
    (void)state;
    signal(SIGCHLD, SIG_IGN);
    struct os_child child = start_with("exit", (struct start){0});
    assert_int_equal(exit_of(&child), 7);
    signal(SIGCHLD, SIG_DFL);
}

static void a_child_does_not_outlive_its_parent(void **state)
{
    (void)state;
    char text[64];
    said_by("parent", false, text, sizeof text);
    int grandchild = atoi(text);
    assert_true(grandchild > 1);
    /* it is the init process that clears away, when it likes: what counts is that it runs no more
     */
    for (int tries = 0; tries < 1000; tries++) {
        char path[64], name[64], running = 'Z';
        snprintf(path, sizeof path, "/proc/%d/stat", grandchild);
        FILE *file = fopen(path, "r");
        if (file && fscanf(file, "%*d %63s %c", name, &running) != 2)
            running = 'Z';
        if (file)
            fclose(file);
        if (running == 'Z' || running == 'X')
            return;
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    fail_msg("process %d is still there", grandchild);
}

static void what_cannot_be_started_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    struct hearth_error err;
    const char *const arguments[] = {"child", "exit", NULL};
    struct os_child child = {77, 78};
    struct os_child_options options = {
        .program = "/nowhere/nothing", .arguments = arguments, .error_fd = -1};
    int before = dup(0);
    close(before);
    assert_int_equal(os_child_start(&options, &child, &err), HEARTH_E_IO);
    assert_string_equal(err.text, "/nowhere/nothing cannot be started: No such file or directory");
    options.program = "/etc/passwd";
    assert_int_equal(os_child_start(&options, &child, &err), HEARTH_E_IO);
    assert_string_equal(err.text, "/etc/passwd cannot be started: Permission denied");
    options.program = NULL;
    options.fds = (const int[]){999};
    options.fd_count = 1;
    assert_int_equal(os_child_start(&options, &child, &err), HEARTH_E_IO);
    assert_string_equal(err.text, "this program cannot be started: Bad file descriptor");
    options.fd_count = OS_CHILD_FDS_MAX + 1;
    assert_int_equal(os_child_start(&options, &child, &err), HEARTH_E_ARGUMENT);
    assert_int_equal(child.pid, 77);
    assert_int_equal(child.fd, 78);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie */
    int after = dup(0);
    close(after);
    assert_int_equal(before, after); /* no descriptor */
}

static void many_may_live_at_once(void **state)
{
    (void)state;
    struct os_child children[16];
    for (int i = 0; i < 16; i++)
        children[i] = start_with(i % 2 ? "sleep" : "exit", (struct start){.humble = true});
    for (int i = 0; i < 16; i += 2)
        assert_int_equal(exit_of(&children[i]), 7);
    for (int i = 1; i < 16; i += 2)
        assert_false(readable_within(children[i].fd, 0)); /* nobody else holds it open, or ended */
    for (int i = 1; i < 16; i += 2) {
        os_child_kill(&children[i], true);
        assert_int_equal(exit_of(&children[i]), -SIGKILL);
    }
}

static void the_memory_of_another_process_is_known(void **state)
{
    (void)state;
    struct os_memory own, other;
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    struct os_child child = start_with("wait", (struct start){.fds = &pipes[1], .fd_count = 1});
    assert_true(readable_within(pipes[0], 10000)); /* then its libraries are there */
    close_both(pipes);
    assert_true(os_process_memory_of(getpid(), &own));
    assert_true(os_process_memory_of(child.pid, &other));
    assert_true(other.private_bytes > 0 && other.mapped_bytes > 0);
    assert_true(other.peak_bytes >= other.mapped_bytes);
    size_t size = (size_t)8 << 20;
    void *memory = os_pages_alloc(size);
    memset(memory, 1, size);
    struct os_memory more;
    assert_true(os_process_memory_of(getpid(), &more));
    assert_true(more.private_bytes >= own.private_bytes + size / 2);
    os_pages_free(memory, size);
    int pid = child.pid;
    os_child_kill(&child, true);
    exit_of(&child);
    assert_false(os_process_memory_of(pid, &other));
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[0], "child") == 0)
        return child_main(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_end_is_told_once_and_leaves_nothing),
        cmocka_unit_test(signals_of_its_own_making_are_known),
        cmocka_unit_test(only_what_is_given_is_inherited),
        cmocka_unit_test(descriptors_may_lie_in_each_others_places),
        cmocka_unit_test(standard_descriptors_may_be_missing),
        cmocka_unit_test(nothing_of_the_parents_state_goes_over),
        cmocka_unit_test(ends_are_known_where_their_signal_was_ignored),
        cmocka_unit_test(a_child_does_not_outlive_its_parent),
        cmocka_unit_test(what_cannot_be_started_is_an_error_and_leaves_nothing),
        cmocka_unit_test(many_may_live_at_once),
        cmocka_unit_test(the_memory_of_another_process_is_known),
    };
    return cmocka_run_group_tests_name("child processes", tests, NULL, NULL);
}
