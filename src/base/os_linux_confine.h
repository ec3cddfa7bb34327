/* The two walls of os_confine, each by itself: for tests, which cannot see the first behind the
 * second. */
#ifndef BASE_OS_LINUX_CONFINE_H
#define BASE_OS_LINUX_CONFINE_H

#include <stdbool.h>

#include "base/error.h"

/* Landlock: nothing that has a path or an address can be used. The process must have given up new
 * rights. False where the kernel has no Landlock. */
bool os_forbid_files(void);
/* seccomp: no system calls but those of the lists. */
int os_filter_calls(struct hearth_error *err);

#endif
