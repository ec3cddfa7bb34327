/* Whether memory is short: what the kernel says of waiting for it (pressure stall information), and
 * what is left, of the machine and of this process's control groups. */

#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "base/os_linux_groups.h"

/* Two lines, "some avg10=0.00 avg60=…" and "full avg10=…". */
static void add_stalls(struct os_pressure *pressure, const char *root, const char *directory,
                       const char *name)
{
    char word[16];
    double percent;
    FILE *file = os_open_below(root, directory, name);
    if (!file)
        return;
    while (fscanf(file, "%15s avg10=%lf%*[^\n]", word, &percent) == 2) {
        double *known = strcmp(word, "some") == 0   ? &pressure->some
                        : strcmp(word, "full") == 0 ? &pressure->full
                                                    : NULL;
        if (known && percent > *known && percent <= 100)
            *known = percent;
    }
    fclose(file);
}

/* The tightest place counts. */
static void add_place(struct os_pressure *pressure, uint64_t available, uint64_t total)
{
    double fraction = available < total ? (double)available / (double)total : total > 0;
    if (fraction < pressure->available)
        pressure->available = fraction;
}

static void add_group(void *context, const struct os_group *group)
{
    struct os_pressure *pressure = context;
    uint64_t limit, used;
    unsigned long long high;
    if (group->version2)
        add_stalls(pressure, group->root, group->directory, "/memory.pressure");
    if (!os_group_memory(group, &limit, &used))
        return;
    /* from there on the kernel slows the group down */
    if (group->version2 && os_read_number(group->root, group->directory, "/memory.high", &high) &&
        high < limit)
        limit = high;
    if (limit != UINT64_MAX)
        add_place(pressure, used < limit ? limit - used : 0, limit);
}

bool os_pressure_at(const char *root, struct os_pressure *out)
{
    struct os_pressure pressure = {.some = -1, .full = -1, .available = 2};
    add_stalls(&pressure, root, "/proc/pressure", "/memory");
    unsigned long long total = os_number_in_table(root, "/proc", "/meminfo", "MemTotal:");
    unsigned long long available = os_number_in_table(root, "/proc", "/meminfo", "MemAvailable:");
    if (total)
        add_place(&pressure, available, total);
    os_visit_groups(root, "memory", add_group, &pressure);
    bool known = pressure.some >= 0 || pressure.full >= 0 || pressure.available <= 1;
    if (pressure.available > 1)
        pressure.available = 1;
    if (known)
        *out = pressure;
    return known;
}
