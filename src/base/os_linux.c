#define _GNU_SOURCE
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/os_linux_groups.h"

#define READ_BYTES ((size_t)8 << 20) /* of one read: large enough for any drive's full speed */

/* ---- memory ---- */

size_t os_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

void *os_pages_alloc(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* Where the system gives huge pages to everybody a row that is written would commit 2 MiB. */
    madvise(memory, size, MADV_NOHUGEPAGE);
    return memory;
}

void os_pages_prefer_large(void *memory, size_t size)
{
    madvise(memory, size, MADV_HUGEPAGE);
}

void os_pages_free(void *memory, size_t size)
{
    munmap(memory, size);
}

void os_pages_discard(void *memory, size_t size)
{
    uintptr_t page = os_page_size();
    uintptr_t begin = ((uintptr_t)memory + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)memory + size) & ~(page - 1);
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* ---- files ---- */

/* The size of what a descriptor is open on, which must be a regular file. */
static int file_size(int fd, size_t *size, struct hearth_error *err)
{
    struct stat status;
    if (os_fstat(fd, &status) != 0)
        return error_set(err, HEARTH_E_IO, "%s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, HEARTH_E_IO, "not a regular file");
    *size = (size_t)status.st_size;
    return 0;
}

/* Huge pages, where the file system has them: a file that is read into the page cache by way of the
 * mapping then comes in reads of 2 MiB whatever the device's read-ahead is, and takes one entry of
 * the page tables each. A file of 1.8 GB that was cached so is mapped in 1 ms, not in 60. */
static void advise_huge_pages(void *data, size_t size)
{
#ifdef MADV_HUGEPAGE
    madvise(data, size, MADV_HUGEPAGE);
#endif
}

int os_map_fd(int fd, struct os_mapping *out, struct hearth_error *err)
{
    size_t size;
    int status = file_size(fd, &size, err);
    if (status)
        return status;
    if (size == 0) {
        *out = (struct os_mapping){NULL, 0};
        return 0;
    }
    void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED)
        return error_set(err, HEARTH_E_IO, "cannot be mapped: %s", strerror(errno));
    advise_huge_pages(data, size);
    *out = (struct os_mapping){data, size};
    return 0;
}

/* Reads a whole file into `data`. */
static int read_all(int fd, const struct os_reading *reading, char *data, size_t size,
                    struct hearth_error *err)
{
    size_t done = 0;
    while (done < size) {
        if (!reading->go_on(reading->context, (double)done / (double)size))
            return error_set(err, HEARTH_E_CANCELLED, "cancelled");
        size_t piece = size - done < READ_BYTES ? size - done : READ_BYTES;
        ssize_t got = pread(fd, data + done, piece, (off_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, HEARTH_E_IO, "%s", strerror(errno));
        if (got == 0)
            return error_set(err, HEARTH_E_IO, "was cut short while it was read");
        done += (size_t)got;
    }
    return 0;
}

int os_copy_fd(int fd, const struct os_reading *reading, struct os_mapping *out,
               struct hearth_error *err)
{
    size_t size;
    int status = file_size(fd, &size, err);
    if (status)
        return status;
    if (size == 0) {
        *out = (struct os_mapping){NULL, 0};
        return 0;
    }
    void *data = mem_pages_alloc(size);
    if (!data)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a copy of %zu bytes", size);
    advise_huge_pages(data, size);
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    status = read_all(fd, reading, data, size, err);
    if (status) {
        mem_pages_free(data, size);
        return status;
    }
    mprotect(data, size, PROT_READ);
    *out = (struct os_mapping){data, size};
    return 0;
}

int os_open_path(const char *path, int *fd, struct hearth_error *err)
{
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (opened < 0)
        return error_set(err, errno == ENOENT ? HEARTH_E_MISSING : HEARTH_E_IO, "%s",
                         strerror(errno));
    *fd = opened;
    return 0;
}

int os_map_path(const char *path, struct os_mapping *out, struct hearth_error *err)
{
    int fd = -1;
    int status = os_open_path(path, &fd, err);
    if (status)
        return status;
    status = os_map_fd(fd, out, err);
    close(fd);
    return status;
}

void os_unmap(struct os_mapping mapping)
{
    if (mapping.data)
        munmap((void *)(uintptr_t)mapping.data, mapping.size);
}

/* From the page that `data` lies in to the one that its end lies in. */
static struct os_mapping whole_pages(const void *data, size_t size)
{
    uintptr_t page = os_page_size();
    uintptr_t begin = (uintptr_t)data & ~(page - 1);
    uintptr_t end = ((uintptr_t)data + size + page - 1) & ~(page - 1);
    return (struct os_mapping){(const void *)begin, end - begin};
}

bool os_pages_populate(const void *data, size_t size)
{
    struct os_mapping pages = whole_pages(data, size);
    while (madvise((void *)(uintptr_t)pages.data, pages.size, MADV_POPULATE_READ) != 0) {
        if (errno != EINTR && errno != EAGAIN)
            return false;
    }
    return true;
}

void os_pages_rest(const void *data, size_t size)
{
    struct os_mapping pages = whole_pages(data, size);
    void *begin = (void *)(uintptr_t)pages.data;
    if (size == 0)
        return;
#ifdef MADV_COLD
    madvise(begin, pages.size, MADV_COLD);
#endif
    madvise(begin, pages.size, MADV_DONTNEED); /* of a file: unmaps, and loses nothing */
}

int os_pages_lock(const void *data, size_t size, struct hearth_error *err)
{
    struct rlimit limit;
    if (size == 0 || mlock2(data, size, MLOCK_ONFAULT) == 0)
        return 0;
    int cause = errno;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < size)
        return error_set(err, HEARTH_E_LIMIT,
                         "%zu bytes cannot be locked in memory: this process may lock %llu "
                         "(RLIMIT_MEMLOCK; 'ulimit -l' shows it in KiB)",
                         size, (unsigned long long)limit.rlim_cur);
    return error_set(err, HEARTH_E_LIMIT, "%zu bytes cannot be locked in memory: %s", size,
                     strerror(cause));
}

void os_heap_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* ---- time ---- */

uint64_t os_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int64_t os_unix_seconds(void)
{
    return (int64_t)time(NULL);
}

bool os_local_time(int64_t unix_seconds, struct tm *out)
{
    time_t moment = (time_t)unix_seconds;
    return localtime_r(&moment, out) != NULL;
}

bool os_set_environment(const char *name, const char *value)
{
    return setenv(name, value, 1) == 0;
}

/* ---- threads ---- */

struct os_thread {
    pthread_t handle;
    void (*run)(void *context);
    void *context;
};

static void *thread_main(void *argument)
{
    struct os_thread *thread = argument;
    thread->run(thread->context);
    return NULL;
}

struct os_thread *os_thread_start(void (*run)(void *context), void *context)
{
    struct os_thread *thread = MEM_NEW(struct os_thread);
    if (!thread)
        return NULL;
    thread->run = run;
    thread->context = context;
    /* Signals are the main thread's: a worker must never be the one that Ctrl-C interrupts. Those
     * that a thread causes itself it must receive, or the process ends without a word. */
    sigset_t all, old;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = pthread_create(&thread->handle, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (status != 0) {
        mem_free(thread);
        return NULL;
    }
    return thread;
}

void os_thread_join(struct os_thread *thread)
{
    pthread_join(thread->handle, NULL);
    mem_free(thread);
}

void os_thread_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void os_wait(const _Atomic uint32_t *word, uint32_t expected)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

void os_wait_for(const _Atomic uint32_t *word, uint32_t expected, uint64_t ns)
{
    struct timespec timeout = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &timeout, NULL, 0);
}

void os_wake(const _Atomic uint32_t *word, uint32_t count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count < INT_MAX ? count : INT_MAX, NULL, NULL, 0);
}

struct os_mutex {
    pthread_mutex_t handle;
};

struct os_mutex *os_mutex_create(void)
{
    struct os_mutex *mutex = MEM_NEW(struct os_mutex);
    if (mutex && pthread_mutex_init(&mutex->handle, NULL) != 0) {
        mem_free(mutex);
        return NULL;
    }
    return mutex;
}

void os_mutex_destroy(struct os_mutex *mutex)
{
    if (!mutex)
        return;
    pthread_mutex_destroy(&mutex->handle);
    mem_free(mutex);
}

void os_mutex_lock(struct os_mutex *mutex)
{
    pthread_mutex_lock(&mutex->handle);
}

void os_mutex_unlock(struct os_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->handle);
}

/* ---- memory of this process ---- */

static bool read_memory(const char *process, struct os_memory *out)
{
    FILE *file = os_open_below("", process, "/status");
    if (!file)
        return false;
    struct os_memory memory = {0};
    char line[256];
    while (fgets(line, sizeof line, file)) {
        unsigned long long kib;
        if (sscanf(line, "RssAnon: %llu kB", &kib) == 1 ||
            sscanf(line, "RssShmem: %llu kB", &kib) == 1 ||
            sscanf(line, "VmSwap: %llu kB", &kib) == 1)
            memory.private_bytes += kib * 1024;
        else if (sscanf(line, "RssFile: %llu kB", &kib) == 1)
            memory.mapped_bytes = kib * 1024;
        else if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
            memory.peak_bytes = kib * 1024;
    }
    fclose(file);
    *out = memory;
    return true;
}

bool os_process_memory(struct os_memory *out)
{
    return read_memory("/proc/self", out);
}

bool os_process_memory_of(int pid, struct os_memory *out)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d", pid);
    return read_memory(path, out);
}

bool os_process_time_of(int pid, uint64_t *ns)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return false;
    *ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
    return true;
}

bool os_process_peak_reset(void)
{
    FILE *file = fopen("/proc/self/clear_refs", "we");
    if (!file)
        return false;
    bool written = fputs("5", file) >= 0; /* proc(5): the peak resident set size */
    return fclose(file) == 0 && written;
}

/* ---- processor ---- */

struct os_arm_features os_arm_features(void)
{
#if defined(__aarch64__)
    return (struct os_arm_features){
        .dotprod = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0,
        .i8mm = (getauxval(AT_HWCAP2) & HWCAP2_I8MM) != 0,
    };
#else
    return (struct os_arm_features){0};
#endif
}

bool os_use_tiles(void)
{
#if defined(__x86_64__)
    /* ARCH_REQ_XCOMP_PERM for XFEATURE_XTILEDATA: the kernel's Documentation/arch/x86/xstate.rst */
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return false;
#endif
}

/* ---- terminal and signals ---- */

bool os_is_terminal(int fd)
{
    return isatty(fd) == 1;
}

unsigned os_terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

void os_claim_standard_files(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
            return; /* there is no /dev/null */
    }
}

/* A signal handler has no argument of its own: this is the one place where globals are needed. */
static void (*volatile interrupt_handler)(void);
static void (*volatile terminate_handler)(int number);

static void handle_interrupt(int signal_number)
{
    (void)signal_number;
    void (*handler)(void) = interrupt_handler;
    if (handler)
        handler();
}

int os_signal_terminate(void)
{
    return SIGTERM;
}

int os_signal_interrupt(void)
{
    return SIGINT;
}

void os_on_interrupt(void (*on_interrupt)(void))
{
    interrupt_handler = on_interrupt;
    struct sigaction action = {0};
    action.sa_handler = on_interrupt ? handle_interrupt : SIG_DFL;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

static void handle_terminate(int signal_number)
{
    void (*handler)(int) = terminate_handler;
    if (handler)
        handler(signal_number);
}

void os_on_terminate(void (*on_terminate)(int number))
{
    static const int signals[] = {SIGTERM, SIGHUP};
    terminate_handler = on_terminate;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
        struct sigaction action = {0}, before;
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN)
            continue;
        action.sa_handler = on_terminate ? handle_terminate : SIG_DFL;
        sigemptyset(&action.sa_mask);
        sigaction(signals[i], &action, NULL);
    }
}

bool os_input_waits(int fd)
{
    struct pollfd input = {.fd = fd, .events = POLLIN};
    return poll(&input, 1, 0) > 0;
}

int os_wait_input(int fd, uint64_t ns, bool (*interrupted)(void))
{
    const struct timespec time = {
        .tv_sec = (time_t)(ns / 1000000000u),
        .tv_nsec = (long)(ns % 1000000000u),
    };
    struct pollfd input = {.fd = fd, .events = POLLIN};
    sigset_t held, before;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    int ready = -1;
    bool stop = interrupted();
    while (!stop && ready < 0) {
        ready = ppoll(&input, 1, ns == UINT64_MAX ? NULL : &time, &before);
        stop = interrupted() || (ready < 0 && errno != EINTR);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return stop ? -1 : ready > 0;
}

ptrdiff_t os_read(int fd, void *bytes, size_t size)
{
    return read(fd, bytes, size);
}

/* Like that of interrupts. */
static void (*volatile bus_error_handler)(void);

static void handle_bus_error(int signal_number)
{
    (void)signal_number;
    void (*handler)(void) = bus_error_handler;
    if (handler)
        handler();
    signal(SIGBUS, SIG_DFL); /* the access is tried again when this returns */
}

void os_on_bus_error(void (*on_bus_error)(void))
{
    bus_error_handler = on_bus_error;
    struct sigaction action = {0};
    action.sa_handler = on_bus_error ? handle_bus_error : SIG_DFL;
    /* not SA_RESETHAND: another thread may come to the same pages while the handler runs */
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

void os_write_error(const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t written = write(STDERR_FILENO, text, size);
        if (written <= 0)
            return;
        text += written;
        size -= (size_t)written;
    }
}
