/* Which cores and how much memory a process may use, on machines made of files. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "support/machine.h"

#define GIB ((uint64_t)1 << 30)

static unsigned threads_of(const struct machine *machine, unsigned first, unsigned last)
{
    bool cpus[64] = {0};
    for (unsigned cpu = first; cpu <= last; cpu++)
        cpus[cpu] = true;
    return os_default_threads_at(machine->root, cpus, 64);
}

/* A machine of `cpus` processors where pairs share a core, or not. */
static void put_processors(const struct machine *machine, unsigned cpus, bool pairs)
{
    char path[128], text[32];
    snprintf(text, sizeof text, "0-%u\n", cpus - 1);
    machine_put(machine, "/sys/devices/system/cpu/online", text);
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list",
                 cpu);
        if (pairs)
            snprintf(text, sizeof text, "%u,%u\n", cpu % (cpus / 2), cpu % (cpus / 2) + cpus / 2);
        else
            snprintf(text, sizeof text, "%u\n", cpu);
        machine_put(machine, path, text);
    }
}

static void a_small_machine_is_used_whole(void **state)
{
    struct machine *machine = *state;
    put_processors(machine, 2, false);
    assert_int_equal(threads_of(machine, 0, 1), 2);
    assert_int_equal(threads_of(machine, 1, 1), 1);
    put_processors(machine, 4, false);
    assert_int_equal(threads_of(machine, 0, 3), 4);
}

static void a_larger_machine_keeps_a_processor_for_its_user(void **state)
{
    struct machine *machine = *state;
    put_processors(machine, 8, false);
    assert_int_equal(threads_of(machine, 0, 7), 7);
    assert_int_equal(threads_of(machine, 2, 7), 6); /* the mask leaves two already */
}

static void threads_that_share_a_core_count_once(void **state)
{
    struct machine *machine = *state;
    put_processors(machine, 16, true);
    assert_int_equal(threads_of(machine, 0, 15), 8);
    assert_int_equal(threads_of(machine, 0, 9), 8);  /* 0 to 7, and siblings of 0 and 1 */
    assert_int_equal(threads_of(machine, 8, 11), 4); /* second threads, their first not allowed */
}

static void slow_cores_are_left_out(void **state)
{
    struct machine *machine = *state;
    put_processors(machine, 12, false);
    machine_put(machine, "/sys/devices/cpu_core/cpus", "0-3\n");
    assert_int_equal(threads_of(machine, 0, 11), 4);
    assert_int_equal(threads_of(machine, 3, 11), 1);
    assert_int_equal(threads_of(machine, 4, 11), 8); /* nothing but slow ones is allowed */
}

static void cores_of_much_less_capacity_are_left_out(void **state)
{
    struct machine *machine = *state;
    static const char *const capacity[] = {"150", "150", "150", "150", "620", "620", "620", "1024"};
    put_processors(machine, 8, false);
    for (unsigned cpu = 0; cpu < 8; cpu++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/cpu_capacity", cpu);
        machine_put(machine, path, capacity[cpu]);
    }
    assert_int_equal(threads_of(machine, 0, 7), 4);
    assert_int_equal(threads_of(machine, 0, 3), 4);
}

/* ---- control groups ---- */

static void the_lowest_quota_of_nested_groups_binds(void **state)
{
    struct machine *machine = *state;
    machine_put_version2(machine, "/user.slice/app.scope");
    assert_true(os_quota_at(machine->root) == UINT64_MAX);
    machine_put(machine, "/sys/fs/cgroup/user.slice/app.scope/cpu.max", "max 100000\n");
    assert_true(os_quota_at(machine->root) == UINT64_MAX);
    machine_put(machine, "/sys/fs/cgroup/user.slice/cpu.max", "150000 100000\n");
    assert_int_equal(os_quota_at(machine->root), 1500);
    machine_put(machine, "/sys/fs/cgroup/user.slice/app.scope/cpu.max", "400000 100000\n");
    assert_int_equal(os_quota_at(machine->root), 1500);
    machine_put(machine, "/sys/fs/cgroup/user.slice/app.scope/cpu.max", "20000 50000\n");
    assert_int_equal(os_quota_at(machine->root), 400);
}

static void a_quota_is_rounded_down_to_whole_threads(void **state)
{
    struct machine *machine = *state;
    static const struct {
        const char *quota;
        unsigned threads;
    } cases[] = {{"10000 100000", 1},  {"140000 100000", 1}, {"190000 100000", 1},
                 {"230000 100000", 2}, {"900000 100000", 4}, {"0 100000", 1}};
    put_processors(machine, 4, false);
    machine_put_version2(machine, "/app");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        machine_put(machine, "/sys/fs/cgroup/app/cpu.max", cases[i].quota);
        assert_int_equal(threads_of(machine, 0, 3), cases[i].threads);
    }
}

static void version_1_is_read_too(void **state)
{
    struct machine *machine = *state;
    machine_put_version1(machine);
    machine_put(machine, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_quota_us", "-1\n");
    machine_put(machine, "/sys/fs/cgroup/cpu,cpuacct/inner/cpu.cfs_period_us", "100000\n");
    assert_true(os_quota_at(machine->root) == UINT64_MAX);
    machine_put(machine, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
    machine_put(machine, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(os_quota_at(machine->root), 2500);
}

static void memory_is_the_least_of_machine_and_groups(void **state)
{
    struct machine *machine = *state;
    assert_true(os_available_memory_at(machine->root) == UINT64_MAX);
    machine_put(machine, "/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n");
    assert_true(os_available_memory_at(machine->root) == 8 * GIB);
    machine_put_version2(machine, "/app");
    machine_put(machine, "/sys/fs/cgroup/app/memory.max", "max\n");
    machine_put(machine, "/sys/fs/cgroup/app/memory.current", "4294967296\n");
    assert_true(os_available_memory_at(machine->root) == 8 * GIB);
    machine_put(machine, "/sys/fs/cgroup/app/memory.max", "5368709120\n");
    assert_true(os_available_memory_at(machine->root) == GIB);
    machine_put(machine, "/sys/fs/cgroup/app/memory.stat",
                "anon 1\ninactive_file 1073741824\nactive_file 1073741824\n");
    assert_true(os_available_memory_at(machine->root) == 3 * GIB);
    machine_put_version1(machine);
    machine_put(machine, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    machine_put(machine, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "3221225472\n");
    assert_true(os_available_memory_at(machine->root) == 0);
    machine_put(machine, "/sys/fs/cgroup/memory/memory.stat",
                "active_file 7\ntotal_inactive_file 2147483648\n");
    assert_true(os_available_memory_at(machine->root) == GIB);
}

static void the_whole_is_what_the_machine_has_or_a_group_allows(void **state)
{
    struct machine *machine = *state;
    assert_true(os_total_memory_at(machine->root) == UINT64_MAX);
    machine_put(machine, "/proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n");
    assert_true(os_total_memory_at(machine->root) == 16 * GIB);
    machine_put_version2(machine, "/user.slice/app");
    machine_put(machine, "/sys/fs/cgroup/user.slice/app/memory.max", "max\n");
    assert_true(os_total_memory_at(machine->root) == 16 * GIB);
    machine_put(machine, "/sys/fs/cgroup/user.slice/memory.max", "5368709120\n");
    assert_true(os_total_memory_at(machine->root) == 5 * GIB);
    machine_put_version1(machine);
    machine_put(machine, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_true(os_total_memory_at(machine->root) == 16 * GIB);
    machine_put(machine, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    assert_true(os_total_memory_at(machine->root) == 2 * GIB);
}

static void odd_files_are_survived(void **state)
{
    struct machine *machine = *state;
    machine_put(machine, "/proc/self/cgroup", "\n:\n::\n0:\n4:cpu\n4:cpu:\n0::/../../x\n0::a\n");
    machine_put(
        machine, "/proc/self/mountinfo",
        "\n - \n - cgroup2\n1 2 3 - cgroup2 a b\n - cgroup x cpu\n1 2 3 4 5 - cgroup x cpu\n"
        "1 2 3 / /m - cgroup2 c rw\n");
    machine_put(machine, "/sys/devices/system/cpu/online", "0-99999999,4-1,x");
    machine_put(machine, "/m/cpu.max", "99999999999999999999 0\n");
    machine_put(machine, "/m/memory.max", "-5\n");
    assert_int_equal(threads_of(machine, 0, 3), 4);
    assert_true(os_quota_at(machine->root) == UINT64_MAX);
    assert_true(os_available_memory_at(machine->root) == UINT64_MAX);
}

static void this_machine_has_cores_and_memory(void **state)
{
    (void)state;
    assert_in_range(os_default_threads(), 1, 1024);
    assert_true(os_available_memory() > 0);
    assert_true(os_total_memory() >= os_available_memory());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_MACHINE(a_small_machine_is_used_whole),
        ON_MACHINE(a_larger_machine_keeps_a_processor_for_its_user),
        ON_MACHINE(threads_that_share_a_core_count_once),
        ON_MACHINE(slow_cores_are_left_out),
        ON_MACHINE(cores_of_much_less_capacity_are_left_out),
        ON_MACHINE(the_lowest_quota_of_nested_groups_binds),
        ON_MACHINE(a_quota_is_rounded_down_to_whole_threads),
        ON_MACHINE(version_1_is_read_too),
        ON_MACHINE(memory_is_the_least_of_machine_and_groups),
        ON_MACHINE(the_whole_is_what_the_machine_has_or_a_group_allows),
        ON_MACHINE(odd_files_are_survived),
        cmocka_unit_test(this_machine_has_cores_and_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
