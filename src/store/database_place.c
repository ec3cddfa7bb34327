#include "store/database_place.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/os.h"

#define DATABASE_NAME "conversations.db"
#define REBUILT_NAME "rebuilt.db"
#define SUSPECT_NAME "suspect" /* a file: damage was met, all of it is checked at opening */
#define DAMAGED_MAX 1000
#define NAME_BYTES_MAX 64
#define PATH_BYTES_MAX 4096

static int look_for(int folder, const char *name, bool *there, struct hearth_error *err)
{
    uint64_t size;
    struct hearth_error cause;
    int status = os_folder_file_size(folder, name, &size, &cause);
    if (status && status != HEARTH_E_MISSING)
        return error_set(err, status, "%s", cause.text);
    *there = status == 0;
    return 0;
}

/* The path of a file in the store's directory, for SQLite. One that begins like a URI would be
 * taken for one. */
static int make_path(const char *directory, const char *name, char path[PATH_BYTES_MAX],
                     struct hearth_error *err)
{
    int size =
        snprintf(path, PATH_BYTES_MAX, "%s%s/%s", directory[0] == '/' ? "" : "./", directory, name);
    return size < PATH_BYTES_MAX ? 0 : error_set(err, HEARTH_E_ARGUMENT, "the path is too long");
}

/* Opens or makes a database. Its file is made here, so that it, and what SQLite puts beside it, is
 * the user's alone. */
static int open_file(int folder, const char *name, const char *path, struct database **out,
                     struct hearth_error *err)
{
    int fd = -1;
    bool suspect = false;
    int status = look_for(folder, SUSPECT_NAME, &suspect, err);
    if (status)
        return status;
    status = os_folder_create_file(folder, name, &fd, err);
    if (!status)
        os_file_close(fd);
    else if (status != HEARTH_E_STATE) /* it is there */
        return status;
    return database_open(path, suspect, out, err);
}

/* Names for a damaged database and its WAL that nothing has. */
static int choose_names(int folder, char name[NAME_BYTES_MAX], char wal[NAME_BYTES_MAX],
                        struct hearth_error *err)
{
    for (int number = 1; number <= DAMAGED_MAX; number++) {
        bool name_taken = false, wal_taken = false;
        snprintf(name, NAME_BYTES_MAX, "damaged-%d.db", number);
        snprintf(wal, NAME_BYTES_MAX, "damaged-%d.db-wal", number);
        int status = look_for(folder, name, &name_taken, err);
        if (!status)
            status = look_for(folder, wal, &wal_taken, err);
        if (status || (!name_taken && !wal_taken))
            return status;
    }
    return error_set(err, HEARTH_E_LIMIT, "there are %d damaged databases already", DAMAGED_MAX);
}

/* Gives a damaged database and its WAL another name, and theirs to the one that was rebuilt. The
 * process may have ended in the midst of this before. */
static int install_rebuilt(int folder, char name[NAME_BYTES_MAX], struct hearth_error *err)
{
    char wal[NAME_BYTES_MAX];
    bool damaged = false, damaged_wal = false;
    int status = look_for(folder, DATABASE_NAME, &damaged, err);
    if (!status)
        status = look_for(folder, DATABASE_NAME "-wal", &damaged_wal, err);
    if (!status)
        status = choose_names(folder, name, wal, err);
    if (!status && damaged)
        status = os_folder_rename(folder, DATABASE_NAME, name, err);
    if (!status && damaged_wal)
        status = os_folder_rename(folder, DATABASE_NAME "-wal", wal, err);
    if (!status)
        status = os_folder_rename(folder, REBUILT_NAME, DATABASE_NAME, err);
    return status;
}

/* Makes a database of what can be read of the damaged one, which is whole and closed before that is
 * renamed: whatever ends the process, this is begun anew or has been done. */
static int rebuild(int folder, const char *directory, const char *damaged, uint64_t *found,
                   struct hearth_error *err)
{
    char path[PATH_BYTES_MAX];
    struct database *database = NULL;
    bool unwritten = false;
    os_folder_remove(folder, REBUILT_NAME, NULL);
    os_folder_remove(folder, REBUILT_NAME "-wal", NULL);
    int status = make_path(directory, REBUILT_NAME, path, err);
    if (!status)
        status = open_file(folder, REBUILT_NAME, path, &database, err);
    if (!status)
        status = database_salvage(database, damaged, found, err);
    database_close(database);
    if (!status)
        status = look_for(folder, REBUILT_NAME "-wal", &unwritten, err);
    if (!status && unwritten)
        status = error_set(err, HEARTH_E_LIMIT, "a copy of its conversations could not be written");
    return status ? status : os_folder_sync(folder, err);
}

static int replace(int folder, const char *directory, const char *path, struct database **out,
                   struct hearth_error *note, struct hearth_error *err)
{
    char name[NAME_BYTES_MAX];
    uint64_t found = 0;
    struct hearth_error cause = *note;
    int status = rebuild(folder, directory, path, &found, err);
    if (!status)
        status = install_rebuilt(folder, name, err);
    if (!status)
        status = open_file(folder, DATABASE_NAME, path, out, err);
    if (!status)
        error_set(note, HEARTH_E_FORMAT,
                  "%s: %s; it lies in %s, and %" PRIu64 " conversations could be read from it",
                  directory, cause.text, name, found);
    return status;
}

int database_place_open(int folder, const char *directory, struct database **out,
                        struct hearth_error *note, struct hearth_error *err)
{
    char path[PATH_BYTES_MAX], name[NAME_BYTES_MAX];
    bool present = false, rebuilt = false;
    struct hearth_error cause;
    int status = make_path(directory, DATABASE_NAME, path, err);
    if (!status)
        status = look_for(folder, DATABASE_NAME, &present, err);
    if (!status)
        status = look_for(folder, REBUILT_NAME, &rebuilt, err);
    if (!status && !present && rebuilt)
        status = install_rebuilt(folder, name, err);
    if (status)
        return status;
    status = open_file(folder, DATABASE_NAME, path, out, &cause);
    if (status == HEARTH_E_FORMAT) {
        *note = cause;
        status = replace(folder, directory, path, out, note, err);
    } else if (status) {
        error_set(err, status, "%s", cause.text);
    }
    if (!status)
        os_folder_remove(folder, SUSPECT_NAME, NULL);
    return status;
}

void database_place_suspect(int folder)
{
    int fd;
    if (os_folder_create_file(folder, SUSPECT_NAME, &fd, NULL) == 0)
        os_file_close(fd);
}
