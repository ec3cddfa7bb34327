/* A machine made of files: a directory that stands for "/" where the system is asked for what it
 * has.
 */
#ifndef TESTS_SUPPORT_MACHINE_H
#define TESTS_SUPPORT_MACHINE_H

struct machine {
    char root[64];
};

/* For each test its own, in *state. */
int machine_init(void **state);
int machine_finish(void **state);
#define ON_MACHINE(test) cmocka_unit_test_setup_teardown(test, machine_init, machine_finish)

/* Writes a file, and the directories above it. */
void machine_put(const struct machine *machine, const char *path, const char *text);
/* This process is in `group` of a control group hierarchy of version 2, mounted at /sys/fs/cgroup.
 */
void machine_put_version2(const struct machine *machine, const char *group);
/* Version 1 as a container sees it: the group's path is the host's, the mount begins at it. This
 * process is in "/inner" below the mounts. */
void machine_put_version1(const struct machine *machine);

#endif
