#define _GNU_SOURCE
#include "support/machine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"

int machine_init(void **state)
{
    struct machine *machine = calloc(1, sizeof *machine);
    strcpy(machine->root, "/tmp/hearth-machine-XXXXXX");
    *state = machine;
    return mkdtemp(machine->root) ? 0 : -1;
}

int machine_finish(void **state)
{
    struct machine *machine = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", machine->root);
    int status = system(command);
    free(machine);
    return status;
}

void machine_put(const struct machine *machine, const char *path, const char *text)
{
    char whole[512], directory[512];
    snprintf(whole, sizeof whole, "%s%s", machine->root, path);
    snprintf(directory, sizeof directory, "%s", whole);
    *strrchr(directory, '/') = '\0';
    assert_true(os_make_private_directories(directory));
    FILE *file = fopen(whole, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

void machine_put_version2(const struct machine *machine, const char *group)
{
    char text[512];
    snprintf(text, sizeof text, "0::%s\n", group);
    machine_put(machine, "/proc/self/cgroup", text);
    machine_put(machine, "/proc/self/mountinfo",
                "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                "30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

void machine_put_version1(const struct machine *machine)
{
    machine_put(machine, "/proc/self/cgroup",
                "7:memory:/docker/abc/inner\n4:cpu,cpuacct:/docker/abc/inner\n3:cpuset:/\n");
    machine_put(
        machine, "/proc/self/mountinfo",
        "41 40 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "42 40 0:30 / /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
        "43 40 0:31 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
}
