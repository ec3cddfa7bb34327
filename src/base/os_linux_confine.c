/* The sandbox of a worker: resource limits, then Landlock, then a filter of system calls. A library
 * of its own, because only the worker needs libseccomp.
 *
 * What is not in the lists below answers ENOSYS, as a kernel does that has no such call: libc then
 * takes an older way or reports an error, whatever versions libc and kernel have. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "base/os_linux_confine.h"
#include "base/os_linux_groups.h"

/* Sanitizers read /proc, start processes and install handlers at any time: under them a worker is
 * not shut in, only limited. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- Landlock ---- */

/* struct landlock_ruleset_attr as of ABI 6; older headers have less of it. */
struct ruleset {
    uint64_t files, network, scopes;
};

/* The rights that each ABI adds. All that are handled are refused, as no rule grants any. */
static const struct {
    long abi;
    struct ruleset rights;
    size_t size; /* of the struct from this ABI on */
} landlock_abis[] = {
    {1, {.files = (UINT64_C(1) << 13) - 1}, 8}, /* execute, write, read, list, remove, make */
    {2, {.files = UINT64_C(1) << 13}, 8},       /* link or rename elsewhere */
    {3, {.files = UINT64_C(1) << 14}, 8},       /* truncate */
    {4, {.network = 3}, 16},                    /* bind and connect TCP */
    {5, {.files = UINT64_C(1) << 15}, 16},      /* ioctl of devices */
    {6, {.scopes = 3}, 24},                     /* abstract Unix sockets, signals */
};

bool os_forbid_files(void)
{
    struct ruleset ruleset = {0};
    size_t size = 0;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* the version */);
    for (size_t i = 0; i < sizeof landlock_abis / sizeof *landlock_abis; i++) {
        if (abi < landlock_abis[i].abi)
            break;
        ruleset.files |= landlock_abis[i].rights.files;
        ruleset.network |= landlock_abis[i].rights.network;
        ruleset.scopes |= landlock_abis[i].rights.scopes;
        size = landlock_abis[i].size;
    }
    int fd = size ? (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0) : -1;
    bool done = fd >= 0 && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
    if (fd >= 0)
        close(fd);
    return done;
}

/* ---- system calls ---- */

/* Whatever their arguments: they use descriptors that are there, this process's memory, its own
 * threads and clocks. */
static const int allowed[] = {
    /* descriptors */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
    SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close),
    SCMP_SYS(fstat), SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(fsync), SCMP_SYS(fdatasync),
    SCMP_SYS(fadvise64), SCMP_SYS(dup), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(shutdown),
    SCMP_SYS(poll), SCMP_SYS(ppoll),
    /* memory */
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(mlock),
    SCMP_SYS(mlock2), SCMP_SYS(munlock),
    /* threads */
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
    SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(membarrier), SCMP_SYS(exit), SCMP_SYS(exit_group),
    /* signals */
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    /* time, and what the machine is */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom), SCMP_SYS(getcpu),
    SCMP_SYS(sysinfo), SCMP_SYS(getrusage)};

/* A call is allowed where `mask` of an argument is `value`. */
struct bound {
    int call;
    unsigned argument;
    uint64_t mask, value;
};

#define WHOLE UINT64_MAX
#define THREAD_FLAGS                                                                               \
    (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD |            \
     CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

static const struct bound allowed_where[] = {
    {SCMP_SYS(mmap), 2, PROT_EXEC, 0},
    {SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
    /* pthread_create's: musl adds CLONE_DETACHED, which means nothing */
    {SCMP_SYS(clone), 0, ~(uint64_t)CLONE_DETACHED, THREAD_FLAGS},
    /* fcntl has neither locks nor owners of signals, and prctl a thread's and a mapping's name */
    {SCMP_SYS(fcntl), 1, WHOLE, F_DUPFD},
    {SCMP_SYS(fcntl), 1, WHOLE, F_DUPFD_CLOEXEC},
    {SCMP_SYS(fcntl), 1, WHOLE, F_GETFD},
    {SCMP_SYS(fcntl), 1, WHOLE, F_SETFD},
    {SCMP_SYS(fcntl), 1, WHOLE, F_GETFL},
    {SCMP_SYS(fcntl), 1, WHOLE, F_SETFL},
    {SCMP_SYS(prctl), 0, WHOLE, PR_SET_NAME},
    {SCMP_SYS(prctl), 0, WHOLE, PR_SET_VMA},
    {SCMP_SYS(sched_getaffinity), 0, WHOLE, 0},
    {SCMP_SYS(arch_prctl), 0, WHOLE, 0x1023}, /* ARCH_REQ_XCOMP_PERM: os_use_tiles() */
};

/* Where libc or a library may want a file that it can do without, it gets a usual error. */
static const int refused[] = {SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(newfstatat),
                              SCMP_SYS(access), SCMP_SYS(readlink)};

static struct scmp_arg_cmp masked(unsigned argument, uint64_t mask, uint64_t value)
{
    return (struct scmp_arg_cmp){argument, SCMP_CMP_MASKED_EQ, mask, value};
}

static int add_rules(scmp_filter_ctx filter)
{
    int status = 0;
    for (size_t i = 0; status == 0 && i < sizeof allowed / sizeof *allowed; i++)
        status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    for (size_t i = 0; status == 0 && i < sizeof allowed_where / sizeof *allowed_where; i++) {
        const struct bound *bound = &allowed_where[i];
        status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, bound->call, 1,
                                  masked(bound->argument, bound->mask, bound->value));
    }
    if (status == 0) /* abort() and raise() */
        status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                  masked(0, WHOLE, (uint64_t)getpid()));
    if (status == 0) /* getrlimit() */
        status = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2,
                                  masked(0, WHOLE, 0), masked(2, WHOLE, 0));
    for (size_t i = 0; status == 0 && i < sizeof refused / sizeof *refused; i++)
        status = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), refused[i], 0);
    return status;
}

/* Of this thread and all that it starts, for good. */
int os_filter_calls(struct hearth_error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int status = filter ? 0 : -ENOMEM;
    if (status == 0)
        status = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* Before Linux 5.16 a filter slows all loads behind stores down, unless told not to. */
    if (status == 0 && seccomp_api_get() >= 4)
        status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    if (status == 0)
        status = add_rules(filter);
    if (status == 0)
        status = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    return status == 0
               ? 0
               : error_set(err, HEARTH_E_UNSUPPORTED,
                           "this system cannot filter a process's calls: %s", strerror(-status));
}

/* ---- all of it ---- */

static bool limit(int resource, uint64_t most)
{
    struct rlimit before, limit = {most, most};
    if (getrlimit((__rlimit_resource_t)resource, &before) == 0 && before.rlim_max < most)
        limit.rlim_cur = limit.rlim_max = before.rlim_max;
    return setrlimit((__rlimit_resource_t)resource, &limit) == 0;
}

int os_confine(struct os_confinement *confinement, struct hearth_error *err)
{
    uint64_t space = confinement->address_space_max;
    confinement->missing = "";
    os_keep_system_files();
    tzset(); /* reads the time zone's file */
    if (!limit(RLIMIT_CORE, 0) || !limit(RLIMIT_NOFILE, confinement->descriptors_max) ||
        (space != 0 && !SANITIZED && !limit(RLIMIT_AS, space)))
        return error_set(err, HEARTH_E_UNSUPPORTED, "no limits can be set: %s", strerror(errno));
    if (SANITIZED) {
        confinement->missing = "the sandbox, which sanitizers do not fit into";
        return 0;
    }
    /* nobody of the same user may trace it or read its memory */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return error_set(err, HEARTH_E_UNSUPPORTED, "no rights can be given up: %s",
                         strerror(errno));
    if (!os_forbid_files())
        confinement->missing = "Landlock";
    return os_filter_calls(err);
}
