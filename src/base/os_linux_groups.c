/* The system's files about processes and control groups, and the walk through the groups. */

#define _GNU_SOURCE
#include "base/os_linux_groups.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/os.h"

/* ---- files of the system ---- */

/* Of a process that is about to be confined. Written before it has threads, read by all of them. */
static struct {
    enum { KEEPING_NOTHING, KEEPING, KEPT } state;
    size_t count;
    struct {
        char *path;
        int fd;
    } files[64];
    unsigned threads;
} kept;

/* A stream's position in a file that is kept: the descriptor's own is nobody's. */
struct position {
    int fd;
    off_t offset;
};

static ssize_t read_kept(void *cookie, char *bytes, size_t size)
{
    struct position *position = cookie;
    ssize_t got = pread(position->fd, bytes, size, position->offset);
    if (got > 0)
        position->offset += got;
    return got;
}

static int close_kept(void *cookie)
{
    mem_free(cookie);
    return 0;
}

/* The system makes such a file's text anew when it is read from the beginning. */
static FILE *open_kept(const char *path)
{
    const cookie_io_functions_t calls = {.read = read_kept, .close = close_kept};
    size_t at = 0;
    while (at < kept.count && strcmp(kept.files[at].path, path) != 0)
        at++;
    struct position *position = at < kept.count ? MEM_NEW(struct position) : NULL;
    if (!position)
        return NULL;
    position->fd = kept.files[at].fd;
    FILE *file = fopencookie(position, "r", calls);
    if (!file)
        mem_free(position);
    return file;
}

static char *copy_path(const char *path)
{
    size_t size = strlen(path) + 1;
    char *copy = mem_alloc(size);
    return copy ? memcpy(copy, path, size) : NULL;
}

/* Where there is no more room the file is as if it were not there. */
static void keep(const char *path)
{
    FILE *known = open_kept(path);
    if (known) {
        fclose(known);
        return;
    }
    int fd =
        kept.count < sizeof kept.files / sizeof *kept.files ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    char *copy = fd >= 0 ? copy_path(path) : NULL;
    if (copy) {
        kept.files[kept.count].path = copy;
        kept.files[kept.count++].fd = fd;
    } else if (fd >= 0) {
        close(fd);
    }
}

FILE *os_open_below(const char *root, const char *directory, const char *name)
{
    char path[PATH_MAX];
    int size = snprintf(path, sizeof path, "%s%s%s", root, directory, name);
    if (size <= 0 || (size_t)size >= sizeof path)
        return NULL;
    if (kept.state == KEEPING)
        keep(path);
    return kept.state == KEPT ? open_kept(path) : fopen(path, "re");
}

void os_keep_system_files(void)
{
    struct os_memory memory;
    struct os_pressure pressure;
    kept.threads = os_default_threads();
    kept.state = KEEPING;
    os_process_memory(&memory);
    os_pressure_at("", &pressure);
    os_available_memory();
    os_total_memory();
    kept.state = KEPT;
}

unsigned os_kept_threads(void)
{
    return kept.threads;
}

bool os_read_number(const char *root, const char *directory, const char *name,
                    unsigned long long *number)
{
    long long value;
    FILE *file = os_open_below(root, directory, name);
    if (!file)
        return false;
    bool found = fscanf(file, "%lld", &value) == 1 && value >= 0;
    fclose(file);
    if (found)
        *number = (unsigned long long)value;
    return found;
}

unsigned long long os_number_in_table(const char *root, const char *directory, const char *file,
                                      const char *name)
{
    char word[64];
    unsigned long long number, found = 0;
    FILE *table = os_open_below(root, directory, file);
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
    FILE *file = os_open_below(root, "/proc/self", "/cgroup");
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
    FILE *file = os_open_below(root, "/proc/self", "/mountinfo");
    while (file && !found && getline(&line, &capacity, file) > 0)
        found = match_mount(line, controller, hierarchy);
    free(line);
    if (file)
        fclose(file);
    return found;
}

void os_visit_groups(const char *root, const char *controller,
                     void (*visit)(void *context, const struct os_group *group), void *context)
{
    for (int version2 = 0; version2 < 2; version2++) {
        struct hierarchy hierarchy;
        char directory[2 * PATH_MAX];
        if (!find_hierarchy(root, version2, controller, &hierarchy))
            continue;
        const struct os_group group = {root, directory, version2};
        for (;;) {
            snprintf(directory, sizeof directory, "%s%s", hierarchy.mount, hierarchy.group);
            visit(context, &group);
            char *parent = strrchr(hierarchy.group, '/');
            if (!parent)
                break;
            *parent = '\0';
        }
    }
}
