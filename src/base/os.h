/* All that differs between systems. Only os_*.c include a system's own headers. */
#ifndef BASE_OS_H
#define BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* ---- memory ---- */
size_t os_page_size(void);
void *os_pages_alloc(size_t size); /* zeroed, committed on first write; NULL without memory */
void os_pages_prefer_large(void *memory,
                           size_t size); /* a hint: large pages, where there are any */
void os_pages_free(void *memory, size_t size);
void os_pages_discard(void *memory, size_t size);
/* Gives what malloc keeps of freed memory back to the system, where that can be done. */
void os_heap_trim(void);

/* ---- files ---- */
/* Opens a file for reading. Errors say what is wrong but not the file's name, here and below. */
int os_open_path(const char *path, int *fd, struct hearth_error *err);

struct os_mapping {
    const void *data; /* NULL for an empty file */
    size_t size;
};
/* Maps a whole regular file read-only. */
int os_map_fd(int fd, struct os_mapping *out, struct hearth_error *err);
int os_map_path(const char *path, struct os_mapping *out, struct hearth_error *err);
/* Told of the fraction that has been read; false cancels. */
struct os_reading {
    bool (*go_on)(void *context, double fraction);
    void *context;
};
/* Reads it into private memory instead, which nothing that happens to the file can change. */
int os_copy_fd(int fd, const struct os_reading *reading, struct os_mapping *out,
               struct hearth_error *err);
void os_unmap(struct os_mapping mapping);
/* Reads what is not in memory of a part of a mapping, and fills its page tables; false where the
 * system cannot or the file has become shorter. */
bool os_pages_populate(const void *data, size_t size);
/* Unmaps the pages of a mapped file and says that they may go before others; what is touched again
 * comes back. */
void os_pages_rest(const void *data, size_t size);
/* Keeps a mapping in memory from when it is first touched; the error names the limit. */
int os_pages_lock(const void *data, size_t size, struct hearth_error *err);

/* ---- files that are written ---- */
/* Files that are written from the beginning: a new one at a path where none is, or one in a
 * directory that has no name and is gone when it is closed, however the program ends. The
 * descriptor, or an error, which names the file. */
int os_file_create(const char *path, struct hearth_error *err);
int os_file_create_unnamed(const char *directory, struct hearth_error *err);
/* All of it. HEARTH_E_LIMIT where the disk, a quota or a limit of the process is full, here and
 * below. */
int os_file_write(int fd, const void *bytes, size_t size, struct hearth_error *err);
/* All of it, from an offset. HEARTH_E_FORMAT where the file ends before. */
int os_file_read_at(int fd, void *bytes, size_t size, uint64_t offset, struct hearth_error *err);
int os_file_size(int fd, uint64_t *size, struct hearth_error *err); /* of a regular file */
/* Takes room on the disk for so many bytes from the beginning, where the file system can, without
 * making the file longer. */
int os_file_reserve(int fd, uint64_t bytes, struct hearth_error *err);
/* Makes it so long, and gives back what was reserved beyond. */
int os_file_truncate(int fd, uint64_t bytes, struct hearth_error *err);
int os_file_sync(int fd, struct hearth_error *err);      /* until it is on the disk */
int os_file_duplicate(int fd, struct hearth_error *err); /* another descriptor, or an error */
void os_file_close(int fd);
struct os_file_id {
    uint64_t device, inode;
};
bool os_file_id(int fd, struct os_file_id *id); /* false where it is no open descriptor */
/* Appends a file with a secret, which must belong to this user or to root, and which nobody else
 * may read or write: HEARTH_E_ARGUMENT else, HEARTH_E_LIMIT where it does not fit. */
struct buffer;
int os_read_private_file(const char *path, struct buffer *out, struct hearth_error *err);
/* Puts a file that only this user can read in the place of what is there: whole, or not at all. */
int os_write_private_file(const char *path, const void *bytes, size_t size,
                          struct hearth_error *err);
/* Makes a directory and what is missing above it, for the user alone whatever the umask; true where
 * it exists then. */
bool os_make_private_directories(const char *path);

/* ---- a folder of this user's, and files in it by name, mode 0600 whatever the umask ---- */
/* Opens `path`, below the folder `above` (-1: the working directory), and makes it (0700) where
 * there is none. HEARTH_E_ARGUMENT where it belongs to another user or others may write there. */
int os_folder_open(int above, const char *path, int *folder, struct hearth_error *err);
/* A visit that returns false ends it. */
int os_folder_list(int folder, bool (*visit)(void *context, const char *name), void *context,
                   struct hearth_error *err);
int os_folder_sync(int folder, struct hearth_error *err); /* until its names are on the disk */
uint64_t os_folder_free(int folder); /* bytes that may still be written there */
/* HEARTH_E_MISSING, HEARTH_E_STATE where `to` exists. */
int os_folder_rename(int folder, const char *from, const char *to, struct hearth_error *err);
int os_folder_remove(int folder, const char *name, struct hearth_error *err); /* HEARTH_E_MISSING */
int os_folder_file_size(int folder, const char *name, uint64_t *size, struct hearth_error *err);
/* A file that is there, for reading. HEARTH_E_MISSING. */
int os_folder_open_file(int folder, const char *name, int *fd, struct hearth_error *err);
/* One that is not, for reading and writing. HEARTH_E_STATE where it exists. */
int os_folder_create_file(int folder, const char *name, int *fd, struct hearth_error *err);
/* One without a name. HEARTH_E_UNSUPPORTED where the file system has none. */
int os_folder_create_unnamed(int folder, int *fd, struct hearth_error *err);
/* Gives it its name. HEARTH_E_STATE where that exists. */
int os_folder_link(int folder, int fd, const char *name, struct hearth_error *err);
/* A file that one process holds at a time, until it closes the descriptor or ends; its number is
 * written into it. HEARTH_E_STATE names the process that holds it. */
int os_folder_lock(int folder, const char *name, int *fd, struct hearth_error *err);

/* For tests: what happens to the calls above. They are asked one by one, of any thread. */
enum os_file_call {
    OS_FILE_OPEN,
    OS_FILE_CREATE,
    OS_FILE_CREATE_UNNAMED,
    OS_FILE_READ,
    OS_FILE_WRITE,
    OS_FILE_RESERVE,
    OS_FILE_TRUNCATE,
    OS_FILE_SYNC,
    OS_FILE_SIZE,
    OS_FOLDER_LIST,
    OS_FOLDER_SYNC,
    OS_FILE_LINK,
    OS_FILE_RENAME,
    OS_FILE_REMOVE,
    OS_FILE_CALLS,
};
enum os_file_fault {
    OS_FAULT_NONE,
    OS_FAULT_IO,          /* the device fails */
    OS_FAULT_FULL,        /* the disk is full, after half of what is written */
    OS_FAULT_UNSUPPORTED, /* the file system cannot */
    OS_FAULT_SHORT,       /* reads and writes do half and say so */
    /* Half of what is written is lost and nobody is told; a byte that is read is another one. */
    OS_FAULT_DAMAGE,
};
struct os_file_faults {
    enum os_file_fault (*decide)(void *context, enum os_file_call call);
    void *context;
};
void os_file_faults(const struct os_file_faults *faults); /* NULL: none; it must live until then */

/* ---- folders of anybody's, only read ---- */

struct os_entry {
    enum os_entry_kind { OS_ENTRY_OTHER, OS_ENTRY_FILE, OS_ENTRY_FOLDER } kind;
    struct os_file_id id;
    uint64_t size;
    int64_t modified_ns; /* since 1970 */
};
/* Opens a folder to be read: a path, or a name below the folder `above` (not -1), which must then
 * be no symbolic link. HEARTH_E_MISSING. */
int os_folder_open_to_read(int above, const char *path, int *folder, struct hearth_error *err);
/* What stands behind a name of it: a symbolic link to a regular file is that file, any other link
 * is OTHER. False where there is none. */
bool os_folder_entry(int folder, const char *name, struct os_entry *out);
bool os_file_entry(int fd, struct os_entry *out); /* the same of a descriptor */
/* Opens what is a FILE, and nothing else: no pipe and no device notices. */
int os_folder_open_entry(int folder, const char *name, int *fd, struct hearth_error *err);

/* ---- time ---- */
uint64_t os_monotonic_ns(void);
int64_t os_unix_seconds(void);
/* Broken-down local time of a moment, for templates that print a date. */
struct tm;
bool os_local_time(int64_t unix_seconds, struct tm *out);

/* ---- randomness ---- */
bool os_random_bytes(void *bytes, size_t size); /* that nobody can guess */

/* ---- threads ---- */
struct os_thread;
struct os_thread *os_thread_start(void (*run)(void *context), void *context); /* NULL on failure */
void os_thread_join(struct os_thread *thread);
struct os_mutex;
struct os_mutex *os_mutex_create(void); /* NULL on failure */
void os_mutex_destroy(struct os_mutex *mutex);
void os_mutex_lock(struct os_mutex *mutex);
void os_mutex_unlock(struct os_mutex *mutex);
void os_thread_pause(void); /* a hint inside a spin loop */
/* Sleeps while *word == expected, until woken (or spuriously). */
void os_wait(const _Atomic uint32_t *word, uint32_t expected);
/* The same for at most so long. */
void os_wait_for(const _Atomic uint32_t *word, uint32_t expected, uint64_t ns);
void os_wake(const _Atomic uint32_t *word, uint32_t count); /* at most so many that wait */

/* ---- what this process may use ---- */
/* Threads that compute best and leave the user a machine to work with. One for each core of the
 * affinity mask: the second thread of a core adds nothing to products that fill its units. Slow
 * cores beside fast ones are left out, a loop would wait for them. Where no processor would be left
 * over, of more than four one is. A quota of control groups is rounded down: a thread that the
 * system pauses in the middle of an item holds up all others (with 1.5 cores, two threads decoded
 * at 0.8 of the speed of one). At least 1. */
unsigned os_default_threads(void);
/* Bytes that can be taken without swapping, pages of files counted as free. */
uint64_t os_available_memory(void);
/* Bytes that the machine has, or of which this process's control groups may take no more. */
uint64_t os_total_memory(void);

/* Whether memory is short, where this process may take it: the machine and its control groups, the
 * worst of each. */
struct os_pressure {
    double some, full; /* percent of the last ten seconds in which some tasks, or all, waited for
                        * memory; negative where the system does not say */
    double available;  /* the part of the memory that can be taken, pages of files counted as free;
                        * 1 where that is not known */
};
/* From files below `root`, "" but for tests. False where nothing is known. */
bool os_pressure_at(const char *root, struct os_pressure *out);

/* For tests: the same, with the system's files looked up below another root directory. */
unsigned os_default_threads_at(const char *root, const bool *cpus, unsigned count);
uint64_t os_quota_at(const char *root); /* thousandths of a core; UINT64_MAX: none */
uint64_t os_available_memory_at(const char *root);
uint64_t os_total_memory_at(const char *root); /* UINT64_MAX: not known */

/* ---- the environment of this process ---- */
bool os_set_environment(const char *name, const char *value); /* before there are threads */

/* ---- libraries that are opened while the program runs ---- */
struct os_library;
typedef void (*os_function)(void); /* to be cast to what it is */
/* By its file's name, in the system's folders; NULL where there is none. It stays until the process
 * ends. */
struct os_library *os_library_open(const char *name);
os_function os_library_find(struct os_library *library, const char *name); /* NULL: it has none */

/* ---- processor ---- */
/* What only the system can say: a program may not read ARM's identification registers. All false on
 * other processors. */
struct os_arm_features {
    bool dotprod, i8mm;
};
struct os_arm_features os_arm_features(void);

/* Whether this process may use the tiles of AMX: large state that x86 systems grant when asked. */
bool os_use_tiles(void);

/* ---- this process's memory, in bytes ---- */
struct os_memory {
    uint64_t private_bytes; /* RssAnon + RssShmem + swap */
    uint64_t mapped_bytes;  /* RssFile */
    uint64_t peak_bytes;    /* the highest resident size so far, mapped included */
};
bool os_process_memory(struct os_memory *out);
bool os_process_memory_of(int pid, struct os_memory *out);
bool os_process_time_of(int pid, uint64_t *ns); /* that its threads have computed so far */
bool os_process_peak_reset(void);               /* peak_bytes begins anew */

/* ---- sockets ---- */
/* Listening sockets that do not block and that no child inherits: the descriptor, or an error. The
 * address is numeric, of either family. */
int os_listen_tcp(const char *address, uint16_t port, struct hearth_error *err);
bool os_address_is_loopback(const char *address);
/* A socket file that only the user can open, with a lock beside it (PATH.lock) that says who
 * listens: a file that a dead process left behind is replaced, one that is in use is an error with
 * the process's number. */
struct os_socket_file;
int os_listen_unix(const char *path, struct os_socket_file **file, struct hearth_error *err);
void os_socket_file_remove(struct os_socket_file *file); /* NULL is fine */
/* A connection to one, that does not block and that no child inherits; waits for at most so long
 * where too many others wait. HEARTH_E_MISSING where nobody listens. */
int os_connect_unix(const char *path, uint64_t ns, struct hearth_error *err);
/* Makes a listening stream socket that was inherited one like these. */
int os_adopt_listener(int fd, struct hearth_error *err);
/* The lock beside an inherited socket's file, which stays when it is removed; NULL where it has
 * none. HEARTH_E_STATE where another process holds it. */
int os_adopt_socket_file(int fd, struct os_socket_file **file, struct hearth_error *err);
bool os_socket_is_local(int fd); /* only this machine reaches it */
#define OS_SOCKET_NAME_BYTES 128
/* Where it listens: "unix:PATH" or "http://ADDRESS:PORT"; false where that cannot be said. */
bool os_socket_name(int fd, char out[OS_SOCKET_NAME_BYTES]);
uint16_t os_socket_port(int fd); /* 0 where it is no TCP socket */
/* For a connection: no delay of small writes, at most about so many bytes queued in the system. */
void os_socket_prepare(int fd, size_t unsent_max);
void os_socket_end_output(int fd); /* the other side sees an end of input */
void os_socket_end_input(int fd);  /* so do we, behind what has come */
/* Sends what can be sent at once. */
void os_socket_send(int fd, const void *bytes, size_t size);
/* A connected pair of stream sockets that do not block and that no child inherits. */
int os_socket_pair(int out[2], struct hearth_error *err);
/* Bytes sent, with copies of the descriptors; 0 where nothing can be sent; else an error. */
ptrdiff_t os_socket_send_with(int fd, const void *bytes, size_t size, const int *descriptors,
                              unsigned count, struct hearth_error *err);
/* Bytes received, and the descriptors that came with them, at most `max` (16); 0 where there is
 * nothing; MISSING where the other side has closed; else an error. More descriptors are an error,
 * and none of them stays open. */
ptrdiff_t os_socket_receive_with(int fd, void *bytes, size_t size, int *descriptors, unsigned max,
                                 unsigned *count, struct hearth_error *err);
int os_duplicate(int fd, struct hearth_error *err); /* not inherited either */
/* Waits until something can be received, or with `output` sent, or the other side has closed, for
 * at most so long (UINT64_MAX: for ever); whether it is so. */
bool os_socket_wait(int fd, bool output, uint64_t ns);
/* Listening sockets that a service manager has opened for this process (sd_listen_fds(3)), made as
 * above: `process` and `count` are the texts of LISTEN_PID and LISTEN_FDS, or NULL. Their number,
 * 0 where they are meant for nobody or for another process; or an error. */
int os_inherited_listeners(const char *process, const char *count, int *fds, unsigned max,
                           struct hearth_error *err);
/* Writing to a closed connection is an error from then on, and no signal. */
void os_ignore_broken_pipes(void);

/* ---- child processes ---- */

int os_process_id(void);

#define OS_CHILD_FDS_MAX 64

struct os_child_options {
    const char *program; /* NULL: the program that runs; then its file need not be there any more */
    const char *const *arguments; /* from argv[0], NULL-terminated */
    /* They become 3, 4, …; standard input and output are /dev/null, standard error is `error_fd`
     * (-1: ours), and nothing else is inherited. The environment is empty; the child leads a
     * session of its own, so that Ctrl-C does not reach it. At most OS_CHILD_FDS_MAX. */
    const int *fds;
    size_t fd_count;
    int error_fd;
    /* Lower priority than the desktop (5 nicer, last in line for disks), and first in line where
     * the system must kill for memory (oom_score_adj 1000). */
    bool humble;
};
struct os_child {
    int pid;
    int fd; /* readable when it has ended; a loop may wait for it */
};
/* A child that the system kills when this process ends, however it ends. From the thread that lives
 * as long as the process: the system watches the thread. */
int os_child_start(const struct os_child_options *options, struct os_child *out,
                   struct hearth_error *err);
void os_child_kill(const struct os_child *child, bool at_once); /* SIGKILL, else SIGTERM */
/* True when it has ended, and then it is gone; `how` becomes its exit code, or the negative number
 * of the signal. `by_itself`: the signal is one that a program brings upon itself (SIGSEGV, SIGBUS,
 * SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP). */
bool os_child_ended(struct os_child *child, int *how, bool *by_itself);
/* "SIGSEGV"; a static string, "a signal" for one that has no name. */
const char *os_signal_name(int number);

/* ---- a process that must not be able to do anything ---- */

/* From here on this thread and all that it starts can compute, allocate, start threads, read and
 * write descriptors they have or are sent, and nothing else: no file, socket or program can be
 * opened, no process seen or signalled but by itself. What is asked above of this process's memory,
 * of pressure and of what it may use goes on, from files that are kept open. To be called before
 * the first thread is started. What the system does not have (an old kernel without Landlock) is
 * left out and named in `missing`; HEARTH_E_UNSUPPORTED where not even system calls can be
 * filtered. `address_space_max` 0: no limit. */
struct os_confinement {
    uint64_t address_space_max;
    unsigned descriptors_max;
    const char *missing; /* "", or what the system has not */
};
int os_confine(struct os_confinement *confinement, struct hearth_error *err);

/* ---- terminal and signals ---- */
bool os_is_terminal(int fd);
unsigned os_terminal_width(void); /* columns of standard error; 80 where unknown */
/* Opens standard input, output and error where the process was started without: what it opens later
 * must not become them. Such an input is at its end, and such an output cannot be written. */
void os_claim_standard_files(void);
/* Installs a handler for Ctrl-C (SIGINT) that only calls `on_interrupt`, which must be
 * async-signal-safe. NULL puts the default back. */
void os_on_interrupt(void (*on_interrupt)(void));
/* The same for what asks a program to end, with the signal's number: SIGTERM, and SIGHUP when its
 * terminal goes. One that the program was started to ignore stays ignored. */
void os_on_terminate(void (*on_terminate)(int number));
/* The numbers of the signals that ask a process to end: of a program, and of Ctrl-C. */
int os_signal_terminate(void);
int os_signal_interrupt(void);
bool os_input_waits(int fd); /* whether a read would return at once */
/* Waits until a read would return at once: 1. 0 after so long (UINT64_MAX: for ever), -1 when
 * `interrupted` says so: it is asked while these signals are held back, so that none can come
 * between the question and the wait. */
int os_wait_input(int fd, uint64_t ns, bool (*interrupted)(void));
/* Bytes read; 0 at the end of the input, negative on failure. */
ptrdiff_t os_read(int fd, void *bytes, size_t size);
/* Installs a handler for an access to a mapped file that cannot be served (SIGBUS): the file was
 * cut short, or its drive is gone. It must be async-signal-safe; where it returns the process is
 * killed. */
void os_on_bus_error(void (*on_bus_error)(void));
/* Writes at most 4 KiB where all of it can be written at once; false where that would wait, or
 * fails. */
bool os_write_now(int fd, const void *bytes, size_t size);
/* Writes to standard error, async-signal-safe. */
void os_write_error(const char *text);

#endif
