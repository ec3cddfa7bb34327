/* The folder of spills: files that are written without a name and get one, unguessable and with
 * nothing of the key in it, when they are on the disk. Where the file system knows no files without
 * names they have a temporary one, which is swept away when the folder is opened again. */
#ifndef STORE_SPILL_FOLDER_H
#define STORE_SPILL_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/os.h"
#include "store/database.h"

/* A file that was made, is written by somebody else, and has not been given back. Its descriptor
 * may be closed without a word: whether it still is this file is seen by its identity. */
struct spill_given {
    int fd;
    struct os_file_id id;
    uint64_t bytes; /* as many were asked for */
    bool has_temporary;
    char temporary[SPILL_FILE_SIZE + 4];
};

struct spill_folder {
    int fd;
    struct spill_given *given;
    size_t given_count, given_capacity;
};

/* Opens or makes the folder below another. */
int spill_folder_init(struct spill_folder *folder, int above, const char *name,
                      struct hearth_error *err);
/* Temporary names go, the files with them when they are closed. */
void spill_folder_finish(struct spill_folder *folder);

/* Removes files that no spill of the database is in, and from the database those whose file is gone
 * or has another size. *bytes becomes what is left. Files that are none of ours stay. */
int spill_folder_sweep(struct spill_folder *folder, struct database *database, uint64_t *bytes,
                       struct hearth_error *err);

/* A file for `bytes`, for which room is taken on the disk. */
int spill_folder_create(struct spill_folder *folder, uint64_t bytes, int *fd,
                        struct hearth_error *err);
/* Bytes of the files that were made and are still open. */
uint64_t spill_folder_given_bytes(struct spill_folder *folder);
/* Takes one back, to be kept; a file that was not made here has HEARTH_E_ARGUMENT. */
int spill_folder_take(struct spill_folder *folder, int fd, struct spill_given *out,
                      struct hearth_error *err);

/* Brings a file that was taken back to the disk and gives it a name, which is written to `name`.
 * On failure it has none. May be called from another thread than the rest. */
int spill_folder_keep(const struct spill_folder *folder, const struct spill_given *taken,
                      char name[SPILL_FILE_SIZE], struct hearth_error *err);
/* Closes a file that was taken back, and removes its temporary name if it still has that. */
void spill_folder_discard(const struct spill_folder *folder, const struct spill_given *taken);

int spill_folder_open(const struct spill_folder *folder, const struct spill_row *row, int *fd,
                      struct hearth_error *err); /* HEARTH_E_FORMAT: it has another size */
void spill_folder_remove(const struct spill_folder *folder, const char *name);

#endif
