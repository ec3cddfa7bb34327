/* Folders that others may write to: what is in them is looked at before it is opened. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"

static int failed(struct hearth_error *err)
{
    int code = errno == ENOENT || errno == ENOTDIR  ? HEARTH_E_MISSING
               : errno == EMFILE || errno == ENFILE ? HEARTH_E_LIMIT
                                                    : HEARTH_E_IO;
    return error_set(err, code, "%s", strerror(errno));
}

int os_folder_open_to_read(int above, const char *path, int *folder, struct hearth_error *err)
{
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (above >= 0 ? O_NOFOLLOW : 0);
    int fd = openat(above >= 0 ? above : AT_FDCWD, path, flags);
    if (fd < 0)
        return failed(err);
    *folder = fd;
    return 0;
}

static void fill_entry(const struct stat *status, struct os_entry *out)
{
    *out = (struct os_entry){
        .kind = S_ISREG(status->st_mode)   ? OS_ENTRY_FILE
                : S_ISDIR(status->st_mode) ? OS_ENTRY_FOLDER
                                           : OS_ENTRY_OTHER,
        .id = {status->st_dev, status->st_ino},
        .size = (uint64_t)status->st_size,
        .modified_ns =
            (int64_t)status->st_mtim.tv_sec * 1000000000 + (int64_t)status->st_mtim.tv_nsec,
    };
}

bool os_folder_entry(int folder, const char *name, struct os_entry *out)
{
    struct stat status, target;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (S_ISLNK(status.st_mode) && fstatat(folder, name, &target, 0) == 0 &&
        S_ISREG(target.st_mode))
        status = target;
    fill_entry(&status, out);
    return true;
}

bool os_file_entry(int fd, struct os_entry *out)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return false;
    fill_entry(&status, out);
    return true;
}

int os_folder_open_entry(int folder, const char *name, int *fd, struct hearth_error *err)
{
    struct os_entry before, after;
    if (!os_folder_entry(folder, name, &before))
        return failed(err);
    if (before.kind != OS_ENTRY_FILE)
        return error_set(err, HEARTH_E_IO, "not a regular file");
    int opened = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (opened < 0)
        return failed(err);
    if (!os_file_entry(opened, &after) || after.kind != OS_ENTRY_FILE) {
        close(opened);
        return error_set(err, HEARTH_E_IO, "not a regular file");
    }
    *fd = opened;
    return 0;
}
