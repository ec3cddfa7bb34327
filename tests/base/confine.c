/* The sandbox, from inside. This program is its own child: an argument names what it does then. A
 * child answers with words on descriptor 3: what it could do that it should not, or could not. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/os_linux_confine.h"
#include "support/folder.h"

/* What each child is given. */
enum { REPORT = 3, FOLDER, FILE_READ, FILE_WRITE, PAIR, LOOSE_SOCKET, GIVEN_END };

#define FOLDER_FILE "here"

static void say(const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (write(REPORT, text, (size_t)size) != size)
        _exit(90);
}

/* ---- what must fail: each does it and cleans up, as the outside must go on ---- */

static bool done(long status)
{
    return status >= 0;
}

static bool opened(long fd)
{
    if (fd >= 0)
        close((int)fd);
    return fd >= 0;
}

static bool opens_for_reading(void)
{
    return opened(open("/etc/passwd", O_RDONLY));
}

static bool opens_below_a_folder(void)
{
    return opened(openat(FOLDER, FOLDER_FILE, O_RDONLY));
}

static bool opens_its_own_state(void)
{
    return opened(open("/proc/self/status", O_RDONLY));
}

static bool opens_for_writing(void)
{
    return opened(openat(FOLDER, FOLDER_FILE, O_WRONLY));
}

static bool opens_by_openat2(void)
{
    const uint64_t how[3] = {O_RDONLY};
    return opened(syscall(SYS_openat2, FOLDER, FOLDER_FILE, how, sizeof how));
}

static bool creates(void)
{
    return opened(openat(FOLDER, "made", O_WRONLY | O_CREAT, 0600)) &&
           unlinkat(FOLDER, "made", 0) == 0;
}

static bool creates_without_a_name(void)
{
    return opened(openat(FOLDER, ".", O_WRONLY | O_TMPFILE, 0600));
}

static bool makes_a_folder(void)
{
    return done(mkdirat(FOLDER, "made", 0700)) && unlinkat(FOLDER, "made", AT_REMOVEDIR) == 0;
}

static bool links(void)
{
    return done(symlinkat("/etc", FOLDER, "made")) && unlinkat(FOLDER, "made", 0) == 0;
}

static bool renames(void)
{
    return done(renameat(FOLDER, FOLDER_FILE, FOLDER, FOLDER_FILE));
}

static bool removes(void)
{
    return unlinkat(FOLDER, "nothing", 0) == 0 || errno == ENOENT;
}

static bool lists(void)
{
    char entries[1024];
    return done(syscall(SYS_getdents64, FOLDER, entries, sizeof entries));
}

static bool looks_at_a_file(void)
{
    struct stat status;
    return done(stat("/etc/passwd", &status));
}

static bool looks_at_a_file_in_a_folder(void)
{
    struct stat status;
    return done(fstatat(FOLDER, FOLDER_FILE, &status, AT_EMPTY_PATH));
}

static bool asks_for_access(void)
{
    return done(access("/etc/passwd", R_OK));
}

static bool reads_a_link(void)
{
    char path[256];
    return done(readlink("/proc/self/exe", path, sizeof path));
}

static bool changes_a_mode(void)
{
    return done(fchmod(FILE_WRITE, 0600));
}

static bool goes_elsewhere(void)
{
    return done(fchdir(FOLDER));
}

static bool makes_a_tcp_socket(void)
{
    return opened(socket(AF_INET, SOCK_STREAM, 0));
}

static bool makes_a_unix_socket(void)
{
    return opened(socket(AF_UNIX, SOCK_STREAM, 0));
}

static bool makes_a_pair(void)
{
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && opened(pair[0]) && opened(pair[1]);
}

static bool binds(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return done(bind(LOOSE_SOCKET, (struct sockaddr *)&address, sizeof address));
}

static bool listens(void)
{
    return done(listen(LOOSE_SOCKET, 1));
}

static bool connects(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9)};
    const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool can = connect(LOOSE_SOCKET, (struct sockaddr *)&address, sizeof address) == 0 ||
               errno == ECONNREFUSED || errno == EINPROGRESS;
    return can && connect(LOOSE_SOCKET, &nowhere, sizeof nowhere) == 0;
}

static bool sends_to_an_address(void)
{
    return done(sendto(PAIR, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0));
}

static bool reaps(pid_t pid)
{
    return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static bool forks(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    return reaps(pid);
}

static bool clones_a_process(void)
{
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0)
        _exit(0);
    return reaps(pid);
}

static bool clones_by_clone3(void)
{
    uint64_t arguments[8] = {0, 0, 0, 0, SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0)
        _exit(0);
    return reaps(pid);
}

/* Fails in another way where the call can be made. */
static bool executes(void)
{
    execve("/nowhere", (char *[]){NULL}, (char *[]){NULL});
    return errno == ENOENT;
}

static bool executes_a_descriptor(void)
{
    syscall(SYS_execveat, FILE_READ, "nothing", (char *[]){NULL}, (char *[]){NULL}, 0);
    return errno == ENOTDIR;
}

static bool signals_its_parent(void)
{
    return done(kill(getppid(), 0));
}

static bool signals_a_thread_of_its_parent(void)
{
    return done(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static bool knows_its_parent(void)
{
    return syscall(SYS_getppid) > 0;
}

static bool opens_its_parent(void)
{
    return opened(syscall(SYS_pidfd_open, getppid(), 0));
}

static bool reads_limits_of_its_parent(void)
{
    struct rlimit limit;
    return done(prlimit(getppid(), RLIMIT_CORE, NULL, &limit));
}

static bool reads_its_parents_memory(void)
{
    char byte;
    static const char other;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)&other, 1};
    return done(process_vm_readv(getpid(), &here, 1, &there, 1, 0));
}

static bool is_traced(void)
{
    return done(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static bool raises_a_limit(void)
{
    struct rlimit limit = {0, 0};
    return done(setrlimit(RLIMIT_CORE, &limit));
}

static bool maps_code(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED && munmap(memory, 4096) == 0;
}

static bool makes_code_of_memory(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool made = memory != MAP_FAILED && mprotect(memory, 4096, PROT_READ | PROT_EXEC) == 0;
    munmap(memory, 4096);
    return made;
}

static bool makes_a_file_in_memory(void)
{
    return opened(memfd_create("x", 0));
}

static bool waits_for_events_of_files(void)
{
    return opened(syscall(SYS_inotify_init1, 0));
}

static bool becomes_dumpable(void)
{
    return done(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static bool outlives_its_parent(void)
{
    return done(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
}

static bool has_a_personality(void)
{
    return done(syscall(SYS_personality, 0xffffffff));
}

static bool owns_signals(void)
{
    return done(fcntl(PAIR, F_SETOWN, getpid()));
}

static bool locks_files(void)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    return done(fcntl(FILE_READ, F_SETLK, &lock));
}

static bool asks_a_device(void)
{
    int bytes;
    return done(ioctl(PAIR, FIONREAD, &bytes));
}

static bool moves_to_another_processor(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 &&
           sched_setaffinity(0, sizeof set, &set) == 0;
}

static bool takes_another_priority(void)
{
    return done(setpriority(PRIO_PROCESS, 0, 19));
}

#define PROBE(name)                                                                                \
    {                                                                                              \
#name, name, false                                                                         \
    }
#define FILE_PROBE(name)                                                                           \
    {                                                                                              \
#name, name, true                                                                          \
    }

static const struct {
    const char *name;
    bool (*run)(void);
    bool of_files; /* what Landlock alone refuses too */
} probes[] = {
    FILE_PROBE(opens_for_reading),
    FILE_PROBE(opens_below_a_folder),
    FILE_PROBE(opens_its_own_state),
    FILE_PROBE(opens_for_writing),
    FILE_PROBE(opens_by_openat2),
    FILE_PROBE(creates),
    FILE_PROBE(creates_without_a_name),
    FILE_PROBE(makes_a_folder),
    FILE_PROBE(links),
    PROBE(renames),
    PROBE(removes),
    PROBE(lists),
    PROBE(looks_at_a_file),
    PROBE(looks_at_a_file_in_a_folder),
    PROBE(asks_for_access),
    PROBE(reads_a_link),
    PROBE(changes_a_mode),
    PROBE(goes_elsewhere),
    PROBE(makes_a_tcp_socket),
    PROBE(makes_a_unix_socket),
    PROBE(makes_a_pair),
    PROBE(connects),
    PROBE(binds),
    PROBE(listens),
    PROBE(sends_to_an_address),
    PROBE(forks),
    PROBE(clones_a_process),
    PROBE(clones_by_clone3),
    PROBE(executes),
    PROBE(executes_a_descriptor),
    PROBE(signals_its_parent),
    PROBE(signals_a_thread_of_its_parent),
    PROBE(knows_its_parent),
    PROBE(opens_its_parent),
    PROBE(reads_limits_of_its_parent),
    PROBE(reads_its_parents_memory),
    PROBE(raises_a_limit),
    PROBE(maps_code),
    PROBE(makes_code_of_memory),
    PROBE(makes_a_file_in_memory),
    PROBE(waits_for_events_of_files),
    PROBE(becomes_dumpable),
    PROBE(outlives_its_parent),
    PROBE(has_a_personality),
    PROBE(owns_signals),
    PROBE(locks_files),
    PROBE(asks_a_device),
    PROBE(moves_to_another_processor),
    PROBE(takes_another_priority),
    PROBE(is_traced), /* the last: outside it is true from then on */
};
#define PROBE_COUNT (sizeof probes / sizeof *probes)

static void run_probes(bool of_files_alone, bool wanted)
{
    for (size_t i = 0; i < PROBE_COUNT; i++) {
        if ((probes[i].of_files || !of_files_alone) && probes[i].run() != wanted)
            say("%s ", probes[i].name);
    }
}

/* ---- what answers at all: every number of a system call, with arguments that do nothing ---- */

static const long answered[] = {
    SYS_read,        SYS_write,           SYS_readv,         SYS_writev,
    SYS_pread64,     SYS_pwrite64,        SYS_preadv,        SYS_pwritev,
    SYS_lseek,       SYS_close,           SYS_fstat,         SYS_ftruncate,
    SYS_fallocate,   SYS_fsync,           SYS_fdatasync,     SYS_fadvise64,
    SYS_dup,         SYS_recvmsg,         SYS_sendmsg,       SYS_shutdown,
    SYS_ppoll,       SYS_munmap,          SYS_mremap,        SYS_madvise,
    SYS_brk,         SYS_mlock,           SYS_mlock2,        SYS_munlock,
    SYS_futex,       SYS_set_robust_list, SYS_rseq,          SYS_sched_yield,
    SYS_gettid,      SYS_getpid,          SYS_membarrier,    SYS_exit,
    SYS_exit_group,  SYS_rt_sigaction,    SYS_rt_sigreturn,  SYS_rt_sigprocmask,
    SYS_sigaltstack, SYS_restart_syscall, SYS_clock_gettime, SYS_clock_getres,
    SYS_nanosleep,   SYS_clock_nanosleep, SYS_gettimeofday,  SYS_getrandom,
    SYS_getcpu,      SYS_sysinfo,         SYS_getrusage,
#ifdef SYS_poll
    SYS_poll,
#endif
#ifdef SYS_time
    SYS_time,
#endif
};

/* uprobe and uretprobe, which filters do not see: they end whoever was not sent there by a probe of
 * the kernel's. */
static bool is_of_probes(long number)
{
#ifdef __x86_64__
    return number == 335 || number == 336;
#else
    (void)number;
    return false;
#endif
}

static void count_calls(void)
{
    for (long number = 0; number < 700; number++) {
        bool expected = is_of_probes(number);
        for (size_t i = 0; i < sizeof answered / sizeof *answered; i++)
            expected = expected || answered[i] == number;
        if (expected)
            continue;
        long status = syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);
        if (status >= 0 || (errno != ENOSYS && errno != EACCES))
            say("%ld ", number);
    }
}

/* ---- what must work ---- */

static void check(bool good, const char *what)
{
    if (!good)
        say("%s ", what);
}

static _Atomic uint32_t threads_done;

static void be_a_thread(void *context)
{
    struct os_mutex *mutex = context;
    void *memory = mem_alloc(1 << 20);
    os_mutex_lock(mutex);
    if (memory)
        memset(memory, 1, 1 << 20);
    os_mutex_unlock(mutex);
    mem_free(memory);
    atomic_fetch_add(&threads_done, memory != NULL);
    os_wake(&threads_done, 8);
}

static void threads_work(void)
{
    struct os_thread *threads[8];
    struct os_mutex *mutex = os_mutex_create();
    for (int i = 0; i < 8; i++)
        check((threads[i] = os_thread_start(be_a_thread, mutex)) != NULL, "thread");
    uint32_t seen;
    while ((seen = atomic_load(&threads_done)) < 8)
        os_wait_for(&threads_done, seen, 1000000);
    for (int i = 0; i < 8; i++)
        os_thread_join(threads[i]);
    os_mutex_destroy(mutex);
}

static void memory_works(void)
{
    size_t size = (size_t)32 << 20;
    char *memory = os_pages_alloc(size);
    check(memory != NULL, "pages");
    os_pages_prefer_large(memory, size);
    memset(memory, 1, size);
    os_pages_discard(memory, size);
    check(memory[5] == 0, "discard");
    os_pages_free(memory, size);
    void *grown = mem_realloc_array(mem_alloc(200000), 1, 3000000);
    check(grown != NULL, "grow");
    mem_free(grown);
    os_heap_trim();
}

static void files_work(void)
{
    struct os_mapping mapping;
    uint64_t size;
    char text[6] = "";
    struct os_file_id id;
    check(os_map_fd(FILE_READ, &mapping, NULL) == 0 && mapping.size == 5 &&
              memcmp(mapping.data, "words", 5) == 0,
          "map");
    check(os_pages_populate(mapping.data, mapping.size), "populate");
    os_pages_rest(mapping.data, mapping.size);
    os_pages_lock(mapping.data, mapping.size, NULL);
    os_unmap(mapping);
    check(os_file_reserve(FILE_WRITE, 1 << 20, NULL) == 0, "reserve");
    check(os_file_write(FILE_WRITE, "words", 5, NULL) == 0, "write");
    check(os_file_truncate(FILE_WRITE, 4, NULL) == 0, "truncate");
    check(os_file_sync(FILE_WRITE, NULL) == 0, "sync");
    check(os_file_size(FILE_WRITE, &size, NULL) == 0 && size == 4, "size");
    check(os_file_read_at(FILE_WRITE, text, 3, 1, NULL) == 0 && strcmp(text, "ord") == 0, "read");
    check(os_file_id(FILE_WRITE, &id), "id");
    int other = os_file_duplicate(FILE_WRITE, NULL);
    check(other >= 0, "duplicate");
    os_file_close(other);
}

static bool never(void)
{
    return false;
}

/* The parent sends a file, and takes one. */
static void sockets_work(void)
{
    char text[16] = "", byte;
    int fd = -1;
    unsigned count = 0;
    check(os_wait_input(PAIR, UINT64_MAX, never) == 1, "wait");
    check(os_socket_receive_with(PAIR, &byte, 1, &fd, 1, &count, NULL) == 1 && count == 1,
          "receive");
    check(read(fd, text, 5) == 5 && strcmp(text, "words") == 0, "received");
    check(os_socket_send_with(PAIR, "x", 1, &fd, 1, NULL) == 1, "send");
    close(fd);
}

static void the_system_answers(const struct os_memory *before, unsigned threads)
{
    struct os_memory memory;
    struct os_pressure pressure;
    struct tm day;
    uint64_t number = 0;
    size_t size = (size_t)16 << 20;
    char *more = os_pages_alloc(size);
    memset(more, 1, size);
    check(os_process_memory(&memory), "memory");
    check(memory.private_bytes > before->private_bytes + size / 2, "grown"); /* read anew */
    check(memory.private_bytes < before->private_bytes + ((size_t)256 << 20), "plausible");
    os_pages_free(more, size);
    check(os_pressure_at("", &pressure) && pressure.available > 0, "pressure");
    check(os_default_threads() == threads, "threads");
    check(os_available_memory() < UINT64_MAX && os_available_memory() > size, "available");
    check(os_total_memory() < UINT64_MAX && os_total_memory() > os_available_memory(), "total");
    check(os_local_time(0, &day) && day.tm_hour == 5, "zone");
    check(os_random_bytes(&number, sizeof number) && number != 0, "random");
    check(os_monotonic_ns() > 0 && os_unix_seconds() > 0, "time");
    check(os_page_size() == (size_t)sysconf(_SC_PAGESIZE), "page");
}

static void limits_hold(void)
{
    int last = -1, fd;
    check(os_pages_alloc((size_t)16 << 30) == NULL, "unlimited memory");
    while ((fd = dup(REPORT)) >= 0)
        last = fd;
    check(last > 0 && last < 40, "unlimited descriptors");
}

static void confine(void)
{
    struct hearth_error err;
    struct os_confinement confinement = {.address_space_max = (uint64_t)12 << 30,
                                         .descriptors_max = 40};
    if (os_confine(&confinement, &err) != 0)
        say("not confined: %s ", err.text);
    else if (strcmp(confinement.missing, "") != 0 && strcmp(confinement.missing, "Landlock") != 0)
        say("missing: %s ", confinement.missing);
}

static void do_what_must_work(void)
{
    struct os_memory before = {0};
    setenv("TZ", "XXX-5", 1);
    unsigned threads = os_default_threads();
    os_process_memory(&before);
    confine();
    threads_work();
    memory_works();
    files_work();
    sockets_work();
    the_system_answers(&before, threads);
    limits_hold();
}

static int child_main(const char *what)
{
    if (strcmp(what, "sanitized") == 0) {
        struct os_confinement confinement = {.descriptors_max = 40};
        os_confine(&confinement, NULL);
        say("%s", strstr(confinement.missing, "sanitizers") ? "yes" : "no");
    } else if (strcmp(what, "outside") == 0) {
        run_probes(false, true);
    } else if (strcmp(what, "inside") == 0) {
        confine();
        run_probes(false, false);
    } else if (strcmp(what, "landlock") == 0) {
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (!os_forbid_files())
            return 1;
        run_probes(true, false);
    } else if (strcmp(what, "calls") == 0) {
        confine();
        count_calls();
    } else if (strcmp(what, "works") == 0) {
        do_what_must_work();
    } else if (strcmp(what, "aborts") == 0) {
        confine();
        abort();
    } else {
        confine();
        *(volatile char *)(uintptr_t)what[1] = 1;
    }
    return 0;
}

/* ---- the parent ---- */

struct place {
    char folder[TEST_FOLDER_MAX];
    int fds[GIVEN_END - REPORT];
    int pair, report;
};

static int open_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    char path[TEST_FOLDER_MAX + 16];
    int pair[2], report[2];
    test_folder_make(place->folder);
    snprintf(path, sizeof path, "%s/" FOLDER_FILE, place->folder);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (write(file, "words", 5) != 5 || pipe2(report, O_CLOEXEC) != 0 ||
        os_socket_pair(pair, NULL) != 0)
        return 1;
    close(file);
    place->report = report[0];
    place->pair = pair[0];
    place->fds[REPORT - 3] = report[1];
    place->fds[FOLDER - 3] = open(place->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    place->fds[FILE_READ - 3] = open(path, O_RDONLY | O_CLOEXEC);
    place->fds[FILE_WRITE - 3] = os_file_create_unnamed(place->folder, NULL);
    place->fds[PAIR - 3] = pair[1];
    place->fds[LOOSE_SOCKET - 3] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    *state = place;
    return 0;
}

static int close_place(void **state)
{
    struct place *place = *state;
    close(place->report);
    close(place->pair);
    for (int i = 0; i < GIVEN_END - REPORT; i++) {
        if (place->fds[i] >= 0)
            close(place->fds[i]);
    }
    test_folder_remove(place->folder);
    free(place);
    return 0;
}

/* What the child of some name said, and how it ended. */
static int said_by(struct place *place, const char *what, char *text, size_t size)
{
    const char *const arguments[] = {"child", what, NULL};
    const struct os_child_options options = {
        .arguments = arguments, .fds = place->fds, .fd_count = GIVEN_END - REPORT, .error_fd = -1};
    struct os_child child;
    struct hearth_error err;
    size_t filled = 0;
    ssize_t got;
    bool by_itself;
    int how;
    if (os_child_start(&options, &child, &err) != 0)
        fail_msg("%s", err.text);
    close(place->fds[REPORT - 3]);
    place->fds[REPORT - 3] = -1;
    if (strcmp(what, "works") == 0)
        assert_int_equal(
            os_socket_send_with(place->pair, "x", 1, &place->fds[FILE_READ - 3], 1, NULL), 1);
    while ((got = read(place->report, text + filled, size - 1 - filled)) > 0)
        filled += (size_t)got;
    text[filled] = '\0';
    struct pollfd end = {.fd = child.fd, .events = POLLIN};
    assert_int_equal(poll(&end, 1, 10000), 1);
    while (!os_child_ended(&child, &how, &by_itself))
        continue;
    return how;
}

static bool sanitized;

/* A container may forbid some; all would mean that the tests below prove nothing. */
static void the_probes_work_outside(void **state)
{
    char text[4096];
    size_t failed = 0;
    assert_int_equal(said_by(*state, "outside", text, sizeof text), 0);
    for (const char *at = text; *at; at++)
        failed += *at == ' ';
    if (failed > 0)
        print_message("not possible outside either: %s\n", text);
    assert_true(failed <= PROBE_COUNT / 4);
}

static void landlock_alone_shuts_files(void **state)
{
    char text[4096];
    int how = said_by(*state, "landlock", text, sizeof text);
    if (how == 1) {
        print_message("this kernel has no Landlock\n");
        skip();
    }
    assert_int_equal(how, 0);
    assert_string_equal(text, "");
}

static void nothing_can_be_done_inside(void **state)
{
    char text[4096];
    if (sanitized)
        skip();
    assert_int_equal(said_by(*state, "inside", text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void no_other_call_is_answered(void **state)
{
    char text[4096];
    if (sanitized)
        skip();
    assert_int_equal(said_by(*state, "calls", text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void what_a_worker_needs_works_inside(void **state)
{
    char text[4096];
    if (sanitized)
        skip();
    assert_int_equal(said_by(*state, "works", text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void its_ends_can_be_told_apart(void **state)
{
    char text[4096];
    if (sanitized)
        skip();
    assert_int_equal(said_by(*state, "aborts", text, sizeof text), -SIGABRT);
    assert_string_equal(text, "");
}

static void an_access_to_nothing_ends_it(void **state)
{
    char text[4096];
    if (sanitized)
        skip();
    assert_int_equal(said_by(*state, "?", text, sizeof text), -SIGSEGV);
    assert_string_equal(text, "");
}

static void it_says_where_sanitizers_keep_it_open(void **state)
{
    char text[16];
    assert_int_equal(said_by(*state, "sanitized", text, sizeof text), 0);
    sanitized = strcmp(text, "yes") == 0;
}

#define AT_PLACE(test) cmocka_unit_test_setup_teardown(test, open_place, close_place)

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[0], "child") == 0)
        _exit(child_main(argv[1])); /* no search for leaks: some are being traced */
    const struct CMUnitTest tests[] = {
        AT_PLACE(it_says_where_sanitizers_keep_it_open),
        AT_PLACE(the_probes_work_outside),
        AT_PLACE(landlock_alone_shuts_files),
        AT_PLACE(nothing_can_be_done_inside),
        AT_PLACE(no_other_call_is_answered),
        AT_PLACE(what_a_worker_needs_works_inside),
        AT_PLACE(its_ends_can_be_told_apart),
        AT_PLACE(an_access_to_nothing_ends_it),
    };
    return cmocka_run_group_tests_name("the sandbox", tests, NULL, NULL);
}
