/* Files that are written, and folders of them that belong to this user alone. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/os.h"
#include "base/os_linux_groups.h"

/* ---- faults, for tests ---- */

/* A test's: the threads of what it tests must see them too. */
static const struct os_file_faults *_Atomic current_faults;

void os_file_faults(const struct os_file_faults *faults)
{
    atomic_store(&current_faults, faults);
}

static enum os_file_fault fault_of(enum os_file_call call)
{
    const struct os_file_faults *faults =
        atomic_load_explicit(&current_faults, memory_order_acquire);
    return faults ? faults->decide(faults->context, call) : OS_FAULT_NONE;
}

/* Whether a call is made to fail, with errno as the system would set it. */
static bool made_to_fail(enum os_file_call call)
{
    switch (fault_of(call)) {
    case OS_FAULT_IO:
        errno = EIO;
        return true;
    case OS_FAULT_FULL:
        errno = ENOSPC;
        return true;
    case OS_FAULT_UNSUPPORTED:
        errno = EOPNOTSUPP;
        return true;
    default:
        return false;
    }
}

static ssize_t write_some(int fd, const char *bytes, size_t size)
{
    size_t half = (size + 1) / 2;
    switch (fault_of(OS_FILE_WRITE)) {
    case OS_FAULT_IO:
        errno = EIO;
        return -1;
    case OS_FAULT_FULL:
        if (write(fd, bytes, half) >= 0)
            errno = ENOSPC;
        return -1;
    case OS_FAULT_SHORT:
        return write(fd, bytes, half);
    case OS_FAULT_DAMAGE:
        if (write(fd, bytes, size - half) < 0 || lseek(fd, (off_t)half, SEEK_CUR) < 0)
            return -1;
        return (ssize_t)size;
    default:
        return write(fd, bytes, size);
    }
}

static ssize_t read_some(int fd, char *bytes, size_t size, off_t offset)
{
    enum os_file_fault fault = fault_of(OS_FILE_READ);
    if (fault == OS_FAULT_IO) {
        errno = EIO;
        return -1;
    }
    ssize_t got = pread(fd, bytes, fault == OS_FAULT_SHORT ? (size + 1) / 2 : size, offset);
    if (got > 0 && fault == OS_FAULT_DAMAGE)
        bytes[got / 2] ^= 0x10;
    return got;
}

/* ---- files ---- */

/* The cause in errno, as one of our codes. */
static int code_of_errno(void)
{
    switch (errno) {
    case ENOENT:
        return HEARTH_E_MISSING;
    case EEXIST:
        return HEARTH_E_STATE;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
        return HEARTH_E_LIMIT;
    case EOPNOTSUPP:
        return HEARTH_E_UNSUPPORTED;
    default:
        return HEARTH_E_IO;
    }
}

static int write_failed(struct hearth_error *err)
{
    return error_set(err, code_of_errno(), "cannot be written: %s", strerror(errno));
}

int os_file_create(const char *path, struct hearth_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    return fd >= 0 ? fd : error_set(err, HEARTH_E_IO, "%s: %s", path, strerror(errno));
}

int os_file_create_unnamed(const char *directory, struct hearth_error *err)
{
    char path[4096];
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR) &&
        snprintf(path, sizeof path, "%s/unnamed-XXXXXX", directory) < (int)sizeof path) {
        fd = mkostemp(path, O_CLOEXEC); /* where the file system cannot make files without names */
        if (fd >= 0)
            unlink(path);
    }
    return fd >= 0 ? fd
                   : error_set(err, HEARTH_E_IO, "no file can be made in %s: %s", directory,
                               strerror(errno));
}

int os_file_write(int fd, const void *bytes, size_t size, struct hearth_error *err)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t written = write_some(fd, at, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return write_failed(err);
        at += written;
        size -= (size_t)written;
    }
    return 0;
}

int os_file_read_at(int fd, void *bytes, size_t size, uint64_t offset, struct hearth_error *err)
{
    char *at = bytes;
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return error_set(err, HEARTH_E_FORMAT, "ends before offset %llu",
                         (unsigned long long)offset);
    while (size > 0) {
        ssize_t got = read_some(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(err, HEARTH_E_IO, "cannot be read: %s", strerror(errno));
        if (got == 0)
            return error_set(err, HEARTH_E_FORMAT, "ends before offset %llu",
                             (unsigned long long)(offset + size));
        at += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

int os_file_size(int fd, uint64_t *size, struct hearth_error *err)
{
    struct stat status;
    if (made_to_fail(OS_FILE_SIZE) || os_fstat(fd, &status) != 0)
        return error_set(err, code_of_errno(), "%s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, HEARTH_E_IO, "not a regular file");
    *size = (uint64_t)status.st_size;
    return 0;
}

int os_file_reserve(int fd, uint64_t bytes, struct hearth_error *err)
{
    if (bytes == 0)
        return 0;
    if (bytes > INT64_MAX)
        return error_set(err, HEARTH_E_LIMIT, "no file is that large");
    while (made_to_fail(OS_FILE_RESERVE) ||
           fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOSYS)
            return 0;
        if (errno != EINTR)
            return error_set(err, code_of_errno(), "%llu bytes cannot be reserved: %s",
                             (unsigned long long)bytes, strerror(errno));
    }
    return 0;
}

int os_file_truncate(int fd, uint64_t bytes, struct hearth_error *err)
{
    if (bytes > INT64_MAX)
        return error_set(err, HEARTH_E_LIMIT, "no file is that large");
    while (made_to_fail(OS_FILE_TRUNCATE) || ftruncate(fd, (off_t)bytes) != 0) {
        if (errno != EINTR)
            return write_failed(err);
    }
    return 0;
}

int os_file_sync(int fd, struct hearth_error *err)
{
    return !made_to_fail(OS_FILE_SYNC) && fdatasync(fd) == 0 ? 0 : write_failed(err);
}

int os_file_duplicate(int fd, struct hearth_error *err)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return other >= 0 ? other : error_set(err, code_of_errno(), "%s", strerror(errno));
}

bool os_file_id(int fd, struct os_file_id *id)
{
    struct stat status;
    if (os_fstat(fd, &status) != 0)
        return false;
    *id = (struct os_file_id){status.st_dev, status.st_ino};
    return true;
}

void os_file_close(int fd)
{
    close(fd);
}

/* ---- files with a secret ---- */

static int check_secret(int fd, struct hearth_error *err)
{
    struct stat status;
    if (os_fstat(fd, &status) != 0)
        return error_set(err, HEARTH_E_IO, "%s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(err, HEARTH_E_ARGUMENT, "not a regular file");
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return error_set(err, HEARTH_E_ARGUMENT, "the file belongs to another user (%lu)",
                         (unsigned long)status.st_uid);
    /* where there are access control lists the group's bits are the most that they allow */
    if (status.st_mode & (S_IRWXG | S_IRWXO))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "others may use the file (its mode is %03o, it must be 600)",
                         (unsigned)status.st_mode & 0777);
    return 0;
}

static int append_file(int fd, struct buffer *out, struct hearth_error *err)
{
    const size_t before = out->size;
    char bytes[4096];
    ssize_t got;
    while ((got = read(fd, bytes, sizeof bytes)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || !buffer_append(out, bytes, (size_t)got)) {
            out->size = before;
            return got < 0 ? error_set(err, HEARTH_E_IO, "cannot be read: %s", strerror(errno))
                           : error_set(err, HEARTH_E_LIMIT, "the file is larger than %zu bytes",
                                       out->max);
        }
    }
    explicit_bzero(bytes, sizeof bytes);
    return 0;
}

int os_read_private_file(const char *path, struct buffer *out, struct hearth_error *err)
{
    int fd, status = os_open_path(path, &fd, err);
    if (status)
        return status;
    status = check_secret(fd, err);
    if (status == 0)
        status = append_file(fd, out, err);
    close(fd);
    return status;
}

int os_write_private_file(const char *path, const void *bytes, size_t size,
                          struct hearth_error *err)
{
    char other[PATH_MAX];
    if (snprintf(other, sizeof other, "%s.XXXXXX", path) >= (int)sizeof other)
        return error_set(err, HEARTH_E_ARGUMENT, "the path is too long");
    int fd = mkostemp(other, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return error_set(err, code_of_errno(), "cannot be written: %s", strerror(errno));
    int status = os_file_write(fd, bytes, size, err);
    if (status == 0)
        status = os_file_sync(fd, err);
    close(fd);
    if (status == 0 && rename(other, path) != 0)
        status = error_set(err, code_of_errno(), "cannot be written: %s", strerror(errno));
    if (status)
        unlink(other);
    return status;
}

bool os_make_private_directories(const char *path)
{
    char part[4096];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof part)
        return false;
    memcpy(part, path, size + 1);
    for (size_t i = 1; i <= size; i++) {
        if (part[i] != '/' && part[i] != '\0')
            continue;
        char end = part[i];
        part[i] = '\0';
        if (mkdir(part, 0700) == 0 ? chmod(part, 0700) != 0 : errno != EEXIST)
            return false;
        part[i] = end;
    }
    return true;
}

/* ---- folders ---- */

/* Whether a folder is this user's and nobody else may put files into it. */
static int check_private(int folder, struct hearth_error *err)
{
    struct stat status;
    if (os_fstat(folder, &status) != 0)
        return error_set(err, HEARTH_E_IO, "%s", strerror(errno));
    if (status.st_uid != geteuid())
        return error_set(err, HEARTH_E_ARGUMENT, "the folder belongs to another user (%lu)",
                         (unsigned long)status.st_uid);
    if (status.st_mode & (S_IWGRP | S_IWOTH))
        return error_set(err, HEARTH_E_ARGUMENT,
                         "other users may write to the folder (its mode is %03o, 700 would do)",
                         (unsigned)status.st_mode & 0777);
    return 0;
}

int os_folder_open(int above, const char *path, int *folder, struct hearth_error *err)
{
    int at = above < 0 ? AT_FDCWD : above, flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    bool failed = made_to_fail(OS_FILE_OPEN);
    int fd = failed ? -1 : openat(at, path, flags);
    if (fd < 0 && !failed && errno == ENOENT) {
        bool made = above < 0
                        ? os_make_private_directories(path)
                        : mkdirat(above, path, 0700) == 0 && fchmodat(above, path, 0700, 0) == 0;
        fd = made ? openat(at, path, flags) : -1;
    }
    if (fd < 0)
        return error_set(err, HEARTH_E_IO, "no folder can be opened or made there: %s",
                         strerror(errno));
    int status = check_private(fd, err);
    if (status) {
        close(fd);
        return status;
    }
    *folder = fd;
    return 0;
}

int os_folder_list(int folder, bool (*visit)(void *context, const char *name), void *context,
                   struct hearth_error *err)
{
    /* a description of its own, because the position in the folder belongs to it */
    int own = made_to_fail(OS_FOLDER_LIST) ? -1 : openat(folder, ".", O_RDONLY | O_CLOEXEC);
    DIR *stream = own < 0 ? NULL : fdopendir(own);
    if (!stream) {
        error_set(err, HEARTH_E_IO, "the folder cannot be read: %s", strerror(errno));
        if (own >= 0)
            close(own);
        return HEARTH_E_IO;
    }
    struct dirent *entry;
    bool more = true;
    errno = 0;
    while (more && (entry = readdir(stream)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            more = visit(context, entry->d_name);
        errno = 0;
    }
    int status = more && errno != 0
                     ? error_set(err, HEARTH_E_IO, "the folder cannot be read: %s", strerror(errno))
                     : 0;
    closedir(stream);
    return status;
}

int os_folder_sync(int folder, struct hearth_error *err)
{
    /* some file systems have nothing to sync in a folder */
    if (!made_to_fail(OS_FOLDER_SYNC) && (fsync(folder) == 0 || errno == EINVAL))
        return 0;
    return write_failed(err);
}

uint64_t os_folder_free(int folder)
{
    struct statvfs status;
    return fstatvfs(folder, &status) == 0 ? (uint64_t)status.f_bavail * status.f_frsize
                                          : UINT64_MAX;
}

static int name_failed(struct hearth_error *err, const char *name)
{
    return error_set(err, code_of_errno(), "%s: %s", name, strerror(errno));
}

int os_folder_rename(int folder, const char *from, const char *to, struct hearth_error *err)
{
    if (made_to_fail(OS_FILE_RENAME))
        return name_failed(err, from);
    if (renameat2(folder, from, folder, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return name_failed(err, from);
    /* a file system without that flag; the folder is ours, so nobody comes in between */
    if (faccessat(folder, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = EEXIST;
        return name_failed(err, to);
    }
    return renameat(folder, from, folder, to) == 0 ? 0 : name_failed(err, from);
}

int os_folder_remove(int folder, const char *name, struct hearth_error *err)
{
    return !made_to_fail(OS_FILE_REMOVE) && unlinkat(folder, name, 0) == 0 ? 0
                                                                           : name_failed(err, name);
}

int os_folder_file_size(int folder, const char *name, uint64_t *size, struct hearth_error *err)
{
    struct stat status;
    if (made_to_fail(OS_FILE_SIZE) || fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return name_failed(err, name);
    if (!S_ISREG(status.st_mode))
        return error_set(err, HEARTH_E_IO, "%s: not a regular file", name);
    *size = (uint64_t)status.st_size;
    return 0;
}

int os_folder_open_file(int folder, const char *name, int *fd, struct hearth_error *err)
{
    struct stat status;
    int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int opened = made_to_fail(OS_FILE_OPEN) ? -1 : openat(folder, name, flags);
    if (opened < 0)
        return name_failed(err, name);
    if (os_fstat(opened, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(opened);
        return error_set(err, HEARTH_E_IO, "%s: not a regular file", name);
    }
    *fd = opened;
    return 0;
}

int os_folder_create_file(int folder, const char *name, int *fd, struct hearth_error *err)
{
    int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    int made = made_to_fail(OS_FILE_CREATE) ? -1 : openat(folder, name, flags, 0600);
    if (made < 0)
        return name_failed(err, name);
    if (fchmod(made, 0600) != 0) {
        int status = name_failed(err, name);
        unlinkat(folder, name, 0);
        close(made);
        return status;
    }
    *fd = made;
    return 0;
}

int os_folder_create_unnamed(int folder, int *fd, struct hearth_error *err)
{
    int flags = O_TMPFILE | O_RDWR | O_CLOEXEC;
    int made = made_to_fail(OS_FILE_CREATE_UNNAMED) ? -1 : openat(folder, ".", flags, 0600);
    if (made >= 0 && fchmod(made, 0600) == 0) {
        *fd = made;
        return 0;
    }
    /* EISDIR: a kernel or a file system that does not know the flag */
    int code = errno == EISDIR ? HEARTH_E_UNSUPPORTED : code_of_errno();
    error_set(err, code, "no file can be made: %s", strerror(errno));
    if (made >= 0)
        close(made);
    return code;
}

int os_folder_link(int folder, int fd, const char *name, struct hearth_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (made_to_fail(OS_FILE_LINK) || linkat(AT_FDCWD, path, folder, name, AT_SYMLINK_FOLLOW) != 0)
        return name_failed(err, name);
    return 0;
}

/* Who wrote its number into a lock file, for a sentence: "process 12 (hearth)". */
static void name_holder(int fd, char *text, size_t size)
{
    char number[32] = "", name[64] = "", path[64];
    ssize_t got = pread(fd, number, sizeof number - 1, 0);
    long pid = got > 0 ? strtol(number, NULL, 10) : 0;
    if (pid <= 0) {
        snprintf(text, size, "another process");
        return;
    }
    snprintf(path, sizeof path, "/proc/%ld/comm", pid);
    FILE *file = fopen(path, "re");
    if (file && !fgets(name, sizeof name, file))
        name[0] = '\0';
    if (file)
        fclose(file);
    name[strcspn(name, "\n")] = '\0';
    snprintf(text, size, pid == (long)getpid() ? "this process" : "process %ld%s%s%s", pid,
             name[0] ? " (" : "", name, name[0] ? ")" : "");
}

int os_folder_lock(int folder, const char *name, int *fd, struct hearth_error *err)
{
    char text[128];
    int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    int held = made_to_fail(OS_FILE_OPEN) ? -1 : openat(folder, name, flags, 0600);
    if (held < 0)
        return name_failed(err, name);
    while (flock(held, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR)
            continue;
        bool taken = errno == EWOULDBLOCK;
        int status = name_failed(err, name);
        if (taken) {
            name_holder(held, text, sizeof text);
            status = error_set(err, HEARTH_E_STATE, "is used by %s", text);
        }
        close(held);
        return status;
    }
    /* the number is for people: a lock without it is still one */
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (fchmod(held, 0600) != 0 || ftruncate(held, 0) != 0 ||
        pwrite(held, text, (size_t)size, 0) != size)
        (void)!ftruncate(held, 0);
    *fd = held;
    return 0;
}

/* ---- randomness ---- */

bool os_random_bytes(void *bytes, size_t size)
{
    char *at = bytes;
    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0 && errno != EINTR)
            return false;
        at += got > 0 ? got : 0;
        size -= got > 0 ? (size_t)got : 0;
    }
    return true;
}
