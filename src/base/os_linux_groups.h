/* What the os_linux_*.c share: the system's files, looked up below a root that tests replace, and
 * the control groups (versions 1 and 2, nested) that this process is in. */
#ifndef BASE_OS_LINUX_GROUPS_H
#define BASE_OS_LINUX_GROUPS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libc's fstat is a call that takes paths too, which a confined process may not use. */
static inline int os_fstat(int fd, struct stat *status)
{
    return (int)syscall(SYS_fstat, fd, status);
}

/* The file at root + directory + name, NULL if there is none. */
FILE *os_open_below(const char *root, const char *directory, const char *name);
/* Opens what is asked of the running system (memory, pressure), so that it can be asked on when no
 * file can be opened any more: os_open_below then gives those that were there, and no others. To be
 * called once, before the first thread is started. */
void os_keep_system_files(void);
/* The default threads that were counted then; 0 before. */
unsigned os_kept_threads(void);
/* The number that a file begins with. "max", as control groups say it, is no number. */
bool os_read_number(const char *root, const char *directory, const char *name,
                    unsigned long long *number);
/* The number in the line "name number" of a file; 0 where there is none. */
unsigned long long os_number_in_table(const char *root, const char *directory, const char *file,
                                      const char *name);

struct os_group {
    const char *root, *directory;
    bool version2;
};
/* Visits the groups of this process that a controller may have a say in, and all above them: each
 * binds. */
void os_visit_groups(const char *root, const char *controller,
                     void (*visit)(void *context, const struct os_group *group), void *context);
/* What a memory group may take, and has taken but for pages of files, which go when memory is
 * needed. `limit` UINT64_MAX: none. False where it does not count. */
bool os_group_memory(const struct os_group *group, uint64_t *limit, uint64_t *used);

#endif
