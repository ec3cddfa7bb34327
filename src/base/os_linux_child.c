/* Child processes: started with nothing but what they are given, watched through a descriptor. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/ioprio.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/os.h"

#define FIRST_FD 3
#define NICE 5
#define CANNOT_START 127 /* as shells have it; nobody sees it, the report comes first */

/* What the child needs to know, gathered before it exists: behind a fork in a process with threads
 * it may not allocate. */
struct plan {
    const struct os_child_options *options;
    const char *program;
    pid_t parent;
    int report; /* a pipe's end: errno, if the program cannot be started; closed if it was */
    int life;   /* a pipe's end that closes with the child, where the system has no pidfd; or -1 */
};

/* ---- in the child: system calls and nothing else ---- */

/* Handlers do not outlive execve, but signals that are ignored stay so. */
static void forget_signals(void)
{
    struct sigaction action = {0};
    action.sa_handler = SIG_DFL;
    sigemptyset(&action.sa_mask);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    sigprocmask(SIG_SETMASK, &action.sa_mask, NULL);
}

static void close_from(unsigned first)
{
    struct rlimit limit;
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > 1 << 20)
        limit.rlim_cur = 1 << 20;
    for (unsigned fd = first; fd < limit.rlim_cur; fd++)
        close((int)fd);
}

/* Puts a descriptor, which lies above all places, into its place. */
static bool place(int fd, int at, bool inherited)
{
    return dup3(fd, at, inherited ? 0 : O_CLOEXEC) == at;
}

/* The descriptors may lie in each other's places: first all go above, then each to its own. */
static bool arrange_descriptors(struct plan *plan)
{
    const struct os_child_options *options = plan->options;
    const int count = (int)options->fd_count, report = FIRST_FD + count, life = report + 1;
    int moved[OS_CHILD_FDS_MAX], error = -1;
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool good = nothing >= 0;
    plan->report = fcntl(plan->report, F_DUPFD_CLOEXEC, life + 1);
    good = good && plan->report >= 0;
    for (int i = 0; good && i < count; i++) {
        moved[i] = fcntl(options->fds[i], F_DUPFD_CLOEXEC, life + 1);
        good = moved[i] >= 0;
    }
    if (good && plan->life >= 0)
        good = (plan->life = fcntl(plan->life, F_DUPFD_CLOEXEC, life + 1)) >= 0;
    if (good) {
        error = fcntl(options->error_fd >= 0 ? options->error_fd : STDERR_FILENO, F_DUPFD_CLOEXEC,
                      life + 1);
        nothing = fcntl(nothing, F_DUPFD_CLOEXEC, life + 1);
        good = nothing >= 0 && (error >= 0 || options->error_fd < 0);
    }
    good = good && place(nothing, STDIN_FILENO, true) && place(nothing, STDOUT_FILENO, true) &&
           place(error >= 0 ? error : nothing, STDERR_FILENO, true);
    for (int i = 0; good && i < count; i++)
        good = place(moved[i], FIRST_FD + i, true);
    if (good && plan->life >= 0)
        good = place(plan->life, life, true);
    if (!good || !place(plan->report, report, false))
        return false;
    plan->report = report;
    close_from((unsigned)life + (plan->life >= 0));
    return true;
}

/* Hints: where one is refused the child is as good as any process. */
static void be_humble(void)
{
    int priority = getpriority(PRIO_PROCESS, 0);
    setpriority(PRIO_PROCESS, 0, priority + NICE);
    /* not the idle class: behind a busy disk it would wait for ever for its weights */
    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
            IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IOPRIO_NR_LEVELS - 1));
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t written = write(fd, "1000", 4);
    (void)written;
    close(fd);
}

_Noreturn static void become(struct plan *plan)
{
    char *const environment[] = {NULL};
    bool good = prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
    if (getppid() != plan->parent) /* it died before the system was told to watch it */
        _exit(CANNOT_START);
    setsid(); /* Ctrl-C in the parent's terminal is the parent's affair */
    forget_signals();
    if (good && arrange_descriptors(plan)) {
        if (plan->options->humble)
            be_humble();
        execve(plan->program, (char *const *)(uintptr_t)plan->options->arguments, environment);
    }
    int cause = errno;
    ssize_t written = write(plan->report, &cause, sizeof cause);
    (void)written;
    _exit(CANNOT_START);
}

/* ---- in the parent ---- */

/* A process that ignores SIGCHLD, as it may have inherited it, never learns how children ended. */
static void keep_statuses(void)
{
    struct sigaction action;
    if (sigaction(SIGCHLD, NULL, &action) == 0 &&
        (action.sa_handler == SIG_IGN || (action.sa_flags & SA_NOCLDWAIT))) {
        action = (struct sigaction){0};
        action.sa_handler = SIG_DFL;
        sigemptyset(&action.sa_mask);
        sigaction(SIGCHLD, &action, NULL);
    }
}

static int open_process(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0); /* not inherited, always */
}

/* No handler of ours may run in the child. */
static pid_t fork_quietly(struct plan *plan)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        become(plan);
    int cause = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = cause;
    return pid;
}

/* 0, or the errno of what went wrong in the child. */
static int read_report(int fd)
{
    int cause = 0;
    ssize_t got;
    do {
        got = read(fd, &cause, sizeof cause);
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof cause ? cause : 0;
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static void close_pair(const int pair[2])
{
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0)
            close(pair[i]);
    }
}

/* The pipes of a child: its report, and its life where the system has no pidfd. */
static int open_pipes(int report[2], int life[2], struct hearth_error *err)
{
    int self = open_process(getpid());
    if (self >= 0)
        close(self);
    if (pipe2(report, O_CLOEXEC) == 0 && (self >= 0 || pipe2(life, O_CLOEXEC) == 0))
        return 0;
    return error_set(err, HEARTH_E_LIMIT, "no process can be started: %s", strerror(errno));
}

/* The descriptor by which a child that runs is watched, or a negative errno. */
static int watch(pid_t pid, int life[2])
{
    int fd = life[0];
    if (fd < 0)
        fd = open_process(pid);
    life[0] = -1;
    return fd >= 0 ? fd : -errno;
}

int os_process_id(void)
{
    return getpid();
}

int os_child_start(const struct os_child_options *options, struct os_child *out,
                   struct hearth_error *err)
{
    int report[2] = {-1, -1}, life[2] = {-1, -1}, fd = -1;
    if (options->fd_count > OS_CHILD_FDS_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "a process is given at most %d descriptors",
                         OS_CHILD_FDS_MAX);
    keep_statuses();
    int status = open_pipes(report, life, err);
    if (status == 0) {
        struct plan plan = {options, options->program ? options->program : "/proc/self/exe",
                            getpid(), report[1], life[1]};
        pid_t pid = fork_quietly(&plan);
        int cause = pid < 0 ? errno : 0;
        close(report[1]);
        report[1] = -1;
        if (pid > 0) {
            cause = read_report(report[0]);
            fd = cause ? -1 : watch(pid, life);
        }
        if (pid > 0 && fd < 0) {
            cause = cause ? cause : -fd;
            kill(pid, SIGKILL);
            reap(pid);
        }
        if (fd >= 0)
            *out = (struct os_child){pid, fd};
        else
            status =
                error_set(err, HEARTH_E_IO, "%s cannot be started: %s",
                          options->program ? options->program : "this program", strerror(cause));
    }
    close_pair(report);
    close_pair(life);
    return status;
}

void os_child_kill(const struct os_child *child, bool at_once)
{
    /* until it was waited for its number is nobody else's */
    if (child->pid > 0)
        kill(child->pid, at_once ? SIGKILL : SIGTERM);
}

static bool is_own_doing(int signal_number)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        if (signals[i] == signal_number)
            return true;
    }
    return false;
}

bool os_child_ended(struct os_child *child, int *how, bool *by_itself)
{
    int status = 0;
    pid_t got;
    if (child->pid <= 0)
        return false;
    do {
        got = waitpid(child->pid, &status, WNOHANG);
    } while (got < 0 && errno == EINTR);
    if (got == 0)
        return false;
    /* where somebody else has waited for it nothing is known, and it counts as killed */
    if (got < 0)
        status = SIGKILL;
    *how = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    *by_itself = WIFSIGNALED(status) && is_own_doing(WTERMSIG(status));
    close(child->fd);
    *child = (struct os_child){0, -1};
    return true;
}

const char *os_signal_name(int number)
{
    static const char *const names[] = {
        [SIGHUP] = "SIGHUP",   [SIGINT] = "SIGINT",   [SIGQUIT] = "SIGQUIT", [SIGILL] = "SIGILL",
        [SIGTRAP] = "SIGTRAP", [SIGABRT] = "SIGABRT", [SIGBUS] = "SIGBUS",   [SIGFPE] = "SIGFPE",
        [SIGKILL] = "SIGKILL", [SIGUSR1] = "SIGUSR1", [SIGSEGV] = "SIGSEGV", [SIGUSR2] = "SIGUSR2",
        [SIGPIPE] = "SIGPIPE", [SIGALRM] = "SIGALRM", [SIGTERM] = "SIGTERM", [SIGXCPU] = "SIGXCPU",
        [SIGXFSZ] = "SIGXFSZ", [SIGSYS] = "SIGSYS",
    };
    size_t count = sizeof names / sizeof *names;
    const char *name = number > 0 && (size_t)number < count ? names[number] : NULL;
    return name ? name : "a signal";
}
