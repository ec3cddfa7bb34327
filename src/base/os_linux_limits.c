/* What the machine has and what this process may use of it: cores and memory, as the affinity mask
 * and the control groups allow. */

#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "base/os_linux_groups.h"

#define CPUS_MAX 1024

/* ---- control groups ---- */

static void lower(uint64_t *least, uint64_t value)
{
    *least = value < *least ? value : *least;
}

static void lower_quota(void *least, const struct os_group *group)
{
    unsigned long long quota = 0, period = 0;
    if (group->version2) {
        FILE *file = os_open_below(group->root, group->directory, "/cpu.max");
        if (!file)
            return;
        if (fscanf(file, "%llu %llu", &quota, &period) != 2)
            period = 0; /* "max" */
        fclose(file);
    } else if (!os_read_number(group->root, group->directory, "/cpu.cfs_quota_us", &quota) ||
               !os_read_number(group->root, group->directory, "/cpu.cfs_period_us", &period)) {
        period = 0;
    }
    if (period && quota < UINT32_MAX)
        lower(least, quota * 1000 / period);
}

uint64_t os_quota_at(const char *root)
{
    uint64_t least = UINT64_MAX;
    os_visit_groups(root, "cpu", lower_quota, &least);
    return least;
}

bool os_group_memory(const struct os_group *group, uint64_t *limit, uint64_t *used)
{
    const char *root = group->root, *directory = group->directory;
    const bool version2 = group->version2;
    unsigned long long most, taken;
    if (!os_read_number(root, directory, version2 ? "/memory.current" : "/memory.usage_in_bytes",
                        &taken))
        return false;
    if (!os_read_number(root, directory, version2 ? "/memory.max" : "/memory.limit_in_bytes",
                        &most))
        most = UINT64_MAX;
    unsigned long long files =
        os_number_in_table(root, directory, "/memory.stat",
                           version2 ? "active_file" : "total_active_file") +
        os_number_in_table(root, directory, "/memory.stat",
                           version2 ? "inactive_file" : "total_inactive_file");
    *limit = most;
    *used = taken - (files < taken ? files : taken);
    return true;
}

static void lower_available(void *least, const struct os_group *group)
{
    uint64_t limit, used;
    if (os_group_memory(group, &limit, &used) && limit != UINT64_MAX)
        lower(least, used < limit ? limit - used : 0);
}

static void lower_total(void *least, const struct os_group *group)
{
    unsigned long long limit;
    if (os_read_number(group->root, group->directory,
                       group->version2 ? "/memory.max" : "/memory.limit_in_bytes", &limit))
        lower(least, limit);
}

/* The least that the machine and the groups say. */
static uint64_t least_memory(const char *root, const char *name,
                             void (*lower_group)(void *least, const struct os_group *group))
{
    unsigned long long kib = os_number_in_table(root, "/proc", "/meminfo", name);
    uint64_t least = kib ? (uint64_t)kib * 1024 : UINT64_MAX;
    os_visit_groups(root, "memory", lower_group, &least);
    return least;
}

uint64_t os_available_memory_at(const char *root)
{
    return least_memory(root, "MemAvailable:", lower_available);
}

uint64_t os_available_memory(void)
{
    return os_available_memory_at("");
}

uint64_t os_total_memory_at(const char *root)
{
    return least_memory(root, "MemTotal:", lower_total);
}

uint64_t os_total_memory(void)
{
    return os_total_memory_at("");
}

/* ---- cores ---- */

/* Marks the processors of a list like "0-3,8". */
static bool read_list(const char *root, const char *directory, const char *name,
                      bool marked[CPUS_MAX])
{
    unsigned first, last;
    FILE *file = os_open_below(root, directory, name);
    if (!file)
        return false;
    memset(marked, 0, CPUS_MAX * sizeof *marked);
    while (fscanf(file, "%u", &first) == 1) {
        last = first;
        if (fscanf(file, "-%u", &last) == 1 && last < first)
            break;
        for (unsigned cpu = first; cpu <= last && cpu < CPUS_MAX; cpu++)
            marked[cpu] = true;
        if (fgetc(file) != ',')
            break;
    }
    fclose(file);
    return true;
}

/* Whether a processor is the first that may be used of those that share its core. */
static bool leads_core(const char *root, const bool *usable, unsigned cpu)
{
    char directory[64];
    bool siblings[CPUS_MAX];
    snprintf(directory, sizeof directory, "/sys/devices/system/cpu/cpu%u/topology", cpu);
    if (!read_list(root, directory, "/thread_siblings_list", siblings))
        return true;
    for (unsigned other = 0; other < cpu; other++) {
        if (siblings[other] && usable[other])
            return false;
    }
    return true;
}

/* Leaves only the fast processors where there are slow ones beside them: Intel's list of P cores,
 * or those with at least half of the highest capacity. */
static void drop_slow(const char *root, bool usable[CPUS_MAX])
{
    bool fast[CPUS_MAX] = {0};
    bool listed = read_list(root, "/sys/devices/cpu_core", "/cpus", fast), any = false;
    unsigned long long capacity[CPUS_MAX] = {0}, highest = 0;
    for (unsigned cpu = 0; !listed && cpu < CPUS_MAX; cpu++) {
        char directory[64];
        snprintf(directory, sizeof directory, "/sys/devices/system/cpu/cpu%u", cpu);
        if (usable[cpu] && os_read_number(root, directory, "/cpu_capacity", &capacity[cpu]))
            highest = capacity[cpu] > highest ? capacity[cpu] : highest;
    }
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++) {
        fast[cpu] = usable[cpu] && (listed ? fast[cpu] : capacity[cpu] * 2 >= highest);
        any = any || fast[cpu];
    }
    if (any)
        memcpy(usable, fast, sizeof fast);
}

static unsigned count_marked(const bool marked[CPUS_MAX])
{
    unsigned count = 0;
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
        count += marked[cpu];
    return count;
}

unsigned os_default_threads_at(const char *root, const bool *cpus, unsigned count)
{
    bool usable[CPUS_MAX] = {0}, online[CPUS_MAX];
    memcpy(usable, cpus, (count < CPUS_MAX ? count : CPUS_MAX) * sizeof *cpus);
    if (!read_list(root, "/sys/devices/system/cpu", "/online", online))
        memcpy(online, usable, sizeof online);
    drop_slow(root, usable);
    unsigned cores = 0;
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
        cores += usable[cpu] && leads_core(root, usable, cpu);
    if (cores > 4 && cores >= count_marked(online))
        cores--;
    uint64_t quota = os_quota_at(root);
    if (quota < (uint64_t)cores * 1000)
        cores = (unsigned)(quota / 1000);
    return cores ? cores : 1;
}

unsigned os_default_threads(void)
{
    cpu_set_t set;
    bool cpus[CPUS_MAX] = {true};
    if (os_kept_threads() > 0)
        return os_kept_threads();
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
            cpus[cpu] = cpu < CPU_SETSIZE && CPU_ISSET(cpu, &set);
    }
    return os_default_threads_at("", cpus, CPUS_MAX);
}
