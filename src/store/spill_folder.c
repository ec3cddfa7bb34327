#include "store/spill_folder.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define TEMPORARY "new-"
#define TRIES 8 /* for a name that is not taken: one is enough but for a miracle */

int spill_folder_init(struct spill_folder *folder, int above, const char *name,
                      struct hearth_error *err)
{
    *folder = (struct spill_folder){.fd = -1};
    int status = os_folder_open(above, name, &folder->fd, err);
    return status ? error_prefix(err, status, "%s", name) : 0;
}

void spill_folder_finish(struct spill_folder *folder)
{
    for (size_t i = 0; i < folder->given_count; i++) {
        if (folder->given[i].has_temporary)
            os_folder_remove(folder->fd, folder->given[i].temporary, NULL);
    }
    mem_free(folder->given);
    if (folder->fd >= 0)
        os_file_close(folder->fd);
    *folder = (struct spill_folder){.fd = -1};
}

/* ---- names ---- */

static int draw_name(char name[SPILL_FILE_SIZE], struct hearth_error *err)
{
    unsigned char bytes[SUM_BYTES];
    if (!os_random_bytes(bytes, sizeof bytes))
        return error_set(err, HEARTH_E_IO, "the system gives no random numbers");
    sum_to_text(bytes, name);
    return 0;
}

static bool is_temporary(const char *name)
{
    size_t size = strlen(TEMPORARY);
    return strncmp(name, TEMPORARY, size) == 0 && database_is_spill_name(name + size);
}

/* ---- what is found when it is opened ---- */

struct found {
    char name[SPILL_FILE_SIZE];
    bool wanted;
};

struct sweep {
    const struct spill_folder *folder;
    struct found *files; /* those that look like spills; sorted when all were seen */
    size_t count, capacity;
    int64_t *lost; /* rows without their file */
    size_t lost_count, lost_capacity;
    uint64_t bytes;
    bool no_memory;
};

/* Room for one more element of a growing array; NULL on failure. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    size_t larger = *capacity ? *capacity * 2 : 64;
    void *grown = mem_realloc_array(array, larger, size);
    if (grown)
        *capacity = larger;
    return grown;
}

static bool see_file(void *context, const char *name)
{
    struct sweep *sweep = context;
    if (is_temporary(name))
        os_folder_remove(sweep->folder->fd, name, NULL);
    if (!database_is_spill_name(name))
        return true;
    void *grown = grow(sweep->files, sweep->count, &sweep->capacity, sizeof *sweep->files);
    if (!grown) {
        sweep->no_memory = true;
        return false;
    }
    sweep->files = grown;
    sweep->files[sweep->count] = (struct found){.wanted = false};
    memcpy(sweep->files[sweep->count].name, name, SPILL_FILE_SIZE);
    sweep->count++;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static bool see_row(void *context, const struct spill_row *row)
{
    struct sweep *sweep = context;
    struct found key = {.wanted = false};
    uint64_t size;
    memcpy(key.name, row->file, sizeof key.name);
    struct found *found = sweep->count == 0 ? NULL
                                            : bsearch(&key, sweep->files, sweep->count,
                                                      sizeof *sweep->files, compare_names);
    if (found && os_folder_file_size(sweep->folder->fd, row->file, &size, NULL) == 0 &&
        size == row->spill.bytes) {
        found->wanted = true;
        sweep->bytes += size;
        return true;
    }
    void *grown = grow(sweep->lost, sweep->lost_count, &sweep->lost_capacity, sizeof *sweep->lost);
    if (!grown) {
        sweep->no_memory = true;
        return false;
    }
    sweep->lost = grown;
    sweep->lost[sweep->lost_count++] = row->id;
    return true;
}

static int sweep_all(struct sweep *sweep, struct database *database, struct hearth_error *err)
{
    int status = os_folder_list(sweep->folder->fd, see_file, sweep, err);
    if (!status && sweep->count > 0)
        qsort(sweep->files, sweep->count, sizeof *sweep->files, compare_names);
    if (!status && !sweep->no_memory)
        status = database_each_spill(database, see_row, sweep, err);
    if (!status && sweep->no_memory)
        status = error_set(err, HEARTH_E_MEMORY, "no memory for the names of kept files");
    for (size_t i = 0; i < sweep->lost_count && !status; i++)
        status = database_remove_spill(database, sweep->lost[i], err);
    if (status == HEARTH_E_LIMIT)
        status = 0; /* on a full disk rows stay, and their loss is found when they are wanted */
    for (size_t i = 0; i < sweep->count && !status; i++) {
        if (!sweep->files[i].wanted)
            spill_folder_remove(sweep->folder, sweep->files[i].name);
    }
    return status;
}

int spill_folder_sweep(struct spill_folder *folder, struct database *database, uint64_t *bytes,
                       struct hearth_error *err)
{
    struct sweep sweep = {.folder = folder};
    int status = sweep_all(&sweep, database, err);
    if (!status)
        *bytes = sweep.bytes;
    mem_free(sweep.files);
    mem_free(sweep.lost);
    return status;
}

/* ---- files that are being written ---- */

static bool is_still_open(const struct spill_given *given)
{
    struct os_file_id id;
    return os_file_id(given->fd, &id) && id.device == given->id.device &&
           id.inode == given->id.inode;
}

/* Forgets those that were closed. */
static void prune(struct spill_folder *folder)
{
    size_t kept = 0;
    for (size_t i = 0; i < folder->given_count; i++) {
        struct spill_given *given = &folder->given[i];
        if (is_still_open(given))
            folder->given[kept++] = *given;
        else if (given->has_temporary)
            os_folder_remove(folder->fd, given->temporary, NULL);
    }
    folder->given_count = kept;
}

uint64_t spill_folder_given_bytes(struct spill_folder *folder)
{
    uint64_t bytes = 0;
    prune(folder);
    for (size_t i = 0; i < folder->given_count; i++)
        bytes += folder->given[i].bytes;
    return bytes;
}

static int make_temporary(const struct spill_folder *folder, struct spill_given *given,
                          struct hearth_error *err)
{
    char name[SPILL_FILE_SIZE];
    int status = HEARTH_E_STATE;
    for (int i = 0; i < TRIES && status == HEARTH_E_STATE; i++) {
        status = draw_name(name, err);
        snprintf(given->temporary, sizeof given->temporary, TEMPORARY "%s", name);
        if (!status)
            status = os_folder_create_file(folder->fd, given->temporary, &given->fd, err);
    }
    given->has_temporary = status == 0;
    return status;
}

int spill_folder_create(struct spill_folder *folder, uint64_t bytes, int *fd,
                        struct hearth_error *err)
{
    struct spill_given given = {.fd = -1, .bytes = bytes};
    prune(folder);
    void *grown =
        grow(folder->given, folder->given_count, &folder->given_capacity, sizeof *folder->given);
    if (!grown)
        return error_set(err, HEARTH_E_MEMORY, "no memory for another file");
    folder->given = grown;
    int status = os_folder_create_unnamed(folder->fd, &given.fd, err);
    if (status == HEARTH_E_UNSUPPORTED)
        status = make_temporary(folder, &given, err);
    if (status)
        return status;
    status = os_file_reserve(given.fd, bytes, err);
    if (!status && !os_file_id(given.fd, &given.id))
        status = error_set(err, HEARTH_E_IO, "the file that was made is not there");
    if (status) {
        spill_folder_discard(folder, &given);
        return status;
    }
    folder->given[folder->given_count++] = given;
    *fd = given.fd;
    return 0;
}

int spill_folder_take(struct spill_folder *folder, int fd, struct spill_given *out,
                      struct hearth_error *err)
{
    prune(folder);
    for (size_t i = 0; i < folder->given_count; i++) {
        if (folder->given[i].fd != fd)
            continue;
        *out = folder->given[i];
        folder->given[i] = folder->given[--folder->given_count];
        return 0;
    }
    return error_set(err, HEARTH_E_ARGUMENT, "this file was not made by the store");
}

static int give_name(const struct spill_folder *folder, const struct spill_given *taken,
                     const char *name, struct hearth_error *err)
{
    return taken->has_temporary ? os_folder_rename(folder->fd, taken->temporary, name, err)
                                : os_folder_link(folder->fd, taken->fd, name, err);
}

int spill_folder_keep(const struct spill_folder *folder, const struct spill_given *taken,
                      char name[SPILL_FILE_SIZE], struct hearth_error *err)
{
    char drawn[SPILL_FILE_SIZE] = "";
    int status = os_file_sync(taken->fd, err);
    if (status)
        return status;
    status = HEARTH_E_STATE;
    for (int i = 0; i < TRIES && status == HEARTH_E_STATE; i++) {
        status = draw_name(drawn, err);
        if (!status)
            status = give_name(folder, taken, drawn, err);
    }
    if (status)
        return status;
    status = os_folder_sync(folder->fd, err);
    if (status)
        spill_folder_remove(folder, drawn);
    else
        memcpy(name, drawn, sizeof drawn);
    return status;
}

void spill_folder_discard(const struct spill_folder *folder, const struct spill_given *taken)
{
    os_file_close(taken->fd);
    if (taken->has_temporary)
        os_folder_remove(folder->fd, taken->temporary, NULL); /* there is none if it was renamed */
}

/* ---- files that are kept ---- */

int spill_folder_open(const struct spill_folder *folder, const struct spill_row *row, int *fd,
                      struct hearth_error *err)
{
    int opened = -1;
    uint64_t size = 0;
    int status = os_folder_open_file(folder->fd, row->file, &opened, err);
    if (status)
        return status;
    status = os_file_size(opened, &size, err);
    if (!status && size != row->spill.bytes)
        status = error_set(err, HEARTH_E_FORMAT, "%s has %llu bytes in place of %llu", row->file,
                           (unsigned long long)size, (unsigned long long)row->spill.bytes);
    if (status)
        os_file_close(opened);
    else
        *fd = opened;
    return status;
}

void spill_folder_remove(const struct spill_folder *folder, const char *name)
{
    os_folder_remove(folder->fd, name, NULL); /* what cannot be removed is tried again at opening */
}
