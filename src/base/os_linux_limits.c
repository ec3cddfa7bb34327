/* What the machine has and what this process may use of it: cores and memory, as the affinity mask
 * and the control groups (versions 1 and 2, nested) allow. */

#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

#define CPUS_MAX 1024

/* ---- files of the system ---- */

/* The file at root + directory + name, NULL if there is none. */
static FILE *open_below(const char *root, const char *directory, const char *name)
{
    char path[PATH_MAX];
    int size = snprintf(path, sizeof path, "%s%s%s", root, directory, name);
    return size > 0 && (size_t)size < sizeof path ? fopen(path, "re") : NULL;
}

/* The number that a file begins with. "max", as control groups say it, is no number. */
static bool read_number(const char *root, const char *directory, const char *name,
                        unsigned long long *number)
{
    long long value;
    FILE *file = open_below(root, directory, name);
    if (!file)
        return false;
    bool found = fscanf(file, "%lld", &value) == 1 && value >= 0;
    fclose(file);
    if (found)
        *number = (unsigned long long)value;
    return found;
}

/* The number in the line "name number" of a file; 0 where there is none. */
static unsigned long long number_in_table(const char *root, const char *directory, const char *file,
                                          const char *name)
{
    char word[64];
    unsigned long long number, found = 0;
    FILE *table = open_below(root, directory, file);
    if (!table)
        return 0;
    while (found == 0 && fscanf(table, "%63s %llu%*[^\n]", word, &number) == 2) {
        if (strcmp(word, name) == 0)
            found = number;
    }
    fclose(table);
    return found;
}

/* ---- control groups ---- */

/* A hierarchy of control groups: the mounted directory, and this process's group below it. */
struct hierarchy {
    bool version2;
    char mount[PATH_MAX], group[PATH_MAX];
};

static bool copy_text(char out[PATH_MAX], const char *text)
{
    size_t size = strlen(text);
    if (size >= PATH_MAX)
        return false;
    memcpy(out, text, size + 1);
    return true;
}

/* Whether a word stands in a list with commas. */
static bool in_list(const char *list, const char *word)
{
    size_t size = strlen(word);
    for (const char *at = list; at; at = strchr(at, ','), at = at ? at + 1 : NULL) {
        if (strncmp(at, word, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return false;
}

/* This process's group: of version 2, or of version 1 and a controller. */
static bool find_group(const char *root, bool version2, const char *controller,
                       char group[PATH_MAX])
{
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    FILE *file = open_below(root, "/proc/self", "/cgroup");
    while (file && !found && getline(&line, &capacity, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (!path)
            continue;
        *path = '\0';
        bool is_version2 = list[1] == '\0';
        if (is_version2 == version2 && (version2 || in_list(list + 1, controller)))
            found = copy_text(group, path + 1);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}

/* Where a line of mountinfo mounts the hierarchy; its group is cut by what lies above the mount. */
static bool match_mount(char *line, const char *controller, struct hierarchy *hierarchy)
{
    char *save, *words[5];
    char *tail = strstr(line, " - ");
    if (!tail)
        return false;
    char *type = strtok_r(tail + 3, " \n", &save);
    strtok_r(NULL, " \n", &save);
    char *options = strtok_r(NULL, " \n", &save);
    if (!type || strcmp(type, hierarchy->version2 ? "cgroup2" : "cgroup") != 0 || !options ||
        (!hierarchy->version2 && !in_list(options, controller)))
        return false;
    *tail = '\0';
    for (int i = 0; i < 5; i++) {
        words[i] = strtok_r(i == 0 ? line : NULL, " ", &save);
        if (!words[i])
            return false;
    }
    const char *above = strcmp(words[3], "/") == 0 ? "" : words[3];
    size_t size = strlen(above);
    if (strncmp(hierarchy->group, above, size) == 0)
        memmove(hierarchy->group, hierarchy->group + size, strlen(hierarchy->group + size) + 1);
    else
        hierarchy->group[0] = '\0'; /* not below this mount: the mount is all that can be seen */
    return copy_text(hierarchy->mount, words[4]);
}

static bool find_hierarchy(const char *root, bool version2, const char *controller,
                           struct hierarchy *hierarchy)
{
    char *line = NULL;
    size_t capacity = 0;
    bool found = false;
    hierarchy->version2 = version2;
    if (!find_group(root, version2, controller, hierarchy->group))
        return false;
    FILE *file = open_below(root, "/proc/self", "/mountinfo");
    while (file && !found && getline(&line, &capacity, file) > 0)
        found = match_mount(line, controller, hierarchy);
    free(line);
    if (file)
        fclose(file);
    return found;
}

/* The least that `limit` gives for this process's groups and all above them: each binds. */
static uint64_t least_of_groups(const char *root, const char *controller,
                                uint64_t (*limit)(const char *root, const char *directory,
                                                  bool version2))
{
    uint64_t least = UINT64_MAX;
    for (int version2 = 0; version2 < 2; version2++) {
        struct hierarchy hierarchy;
        char directory[2 * PATH_MAX];
        if (!find_hierarchy(root, version2, controller, &hierarchy))
            continue;
        for (;;) {
            snprintf(directory, sizeof directory, "%s%s", hierarchy.mount, hierarchy.group);
            uint64_t own = limit(root, directory, version2);
            least = own < least ? own : least;
            char *parent = strrchr(hierarchy.group, '/');
            if (!parent)
                break;
            *parent = '\0';
        }
    }
    return least;
}

static uint64_t quota_of_group(const char *root, const char *directory, bool version2)
{
    unsigned long long quota = 0, period = 0;
    if (version2) {
        FILE *file = open_below(root, directory, "/cpu.max");
        if (!file)
            return UINT64_MAX;
        if (fscanf(file, "%llu %llu", &quota, &period) != 2)
            period = 0; /* "max" */
        fclose(file);
    } else if (!read_number(root, directory, "/cpu.cfs_quota_us", &quota) ||
               !read_number(root, directory, "/cpu.cfs_period_us", &period)) {
        period = 0;
    }
    return period && quota < UINT32_MAX ? quota * 1000 / period : UINT64_MAX;
}

uint64_t os_quota_at(const char *root)
{
    return least_of_groups(root, "cpu", quota_of_group);
}

/* What a group may still take. Pages of files count as free: they go when memory is needed. */
static uint64_t memory_of_group(const char *root, const char *directory, bool version2)
{
    unsigned long long limit, used;
    if (!read_number(root, directory, version2 ? "/memory.max" : "/memory.limit_in_bytes",
                     &limit) ||
        !read_number(root, directory, version2 ? "/memory.current" : "/memory.usage_in_bytes",
                     &used))
        return UINT64_MAX;
    unsigned long long files = number_in_table(root, directory, "/memory.stat",
                                               version2 ? "active_file" : "total_active_file") +
                               number_in_table(root, directory, "/memory.stat",
                                               version2 ? "inactive_file" : "total_inactive_file");
    used -= files < used ? files : used;
    return used < limit ? limit - used : 0;
}

uint64_t os_available_memory_at(const char *root)
{
    uint64_t groups = least_of_groups(root, "memory", memory_of_group);
    unsigned long long kib = number_in_table(root, "/proc", "/meminfo", "MemAvailable:");
    uint64_t machine = kib ? (uint64_t)kib * 1024 : UINT64_MAX;
    return groups < machine ? groups : machine;
}

static uint64_t limit_of_group(const char *root, const char *directory, bool version2)
{
    unsigned long long limit;
    return read_number(root, directory, version2 ? "/memory.max" : "/memory.limit_in_bytes", &limit)
               ? limit
               : UINT64_MAX;
}

uint64_t os_total_memory_at(const char *root)
{
    uint64_t groups = least_of_groups(root, "memory", limit_of_group);
    unsigned long long kib = number_in_table(root, "/proc", "/meminfo", "MemTotal:");
    uint64_t machine = kib ? (uint64_t)kib * 1024 : UINT64_MAX;
    return groups < machine ? groups : machine;
}

uint64_t os_total_memory(void)
{
    return os_total_memory_at("");
}

uint64_t os_available_memory(void)
{
    return os_available_memory_at("");
}

/* ---- cores ---- */

/* Marks the processors of a list like "0-3,8". */
static bool read_list(const char *root, const char *directory, const char *name,
                      bool marked[CPUS_MAX])
{
    unsigned first, last;
    FILE *file = open_below(root, directory, name);
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
        if (usable[cpu] && read_number(root, directory, "/cpu_capacity", &capacity[cpu]))
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
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++)
            cpus[cpu] = cpu < CPU_SETSIZE && CPU_ISSET(cpu, &set);
    }
    return os_default_threads_at("", cpus, CPUS_MAX);
}
