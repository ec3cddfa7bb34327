/* The files that can be loaded: those of some folders and those given by name. Only what a folder
 * lists is ever opened: names that are asked for are looked up, and never become a path.
 *
 * Folders are searched three levels deep (publisher/model/file.gguf), without hidden ones; symbolic
 * links count where they lead to regular files. Projectors (mmproj) and files that do not begin as
 * GGUF does are left out. */
#ifndef SERVER_LIBRARY_H
#define SERVER_LIBRARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"
#include "base/sum.h"
#include "hearth/error.h"

struct library;
struct log;

#define LIBRARY_PARTS_MAX 64

/* Tells a file from others and from what it was before. */
struct library_key {
    unsigned char sum[SUM_BYTES]; /* of device, inode, size and time of all parts */
};

struct library_model {
    const char *name; /* UTF-8 without control characters */
    struct library_key key;
    uint64_t bytes;
    struct os_file_id id;         /* of the first part */
    int64_t modified_unix;        /* of the latest part */
    uint32_t parts, missing_part; /* 0, or the part that is not there: it cannot be opened */
};

struct library_options {
    const char *const *folders, *const *files;
    size_t folder_count, file_count;
    struct log *log; /* may be NULL */
};

/* HEARTH_E_MISSING and others name the folder or file that cannot be used. */
int library_open(const struct library_options *options, struct library **out,
                 struct hearth_error *err);
void library_close(struct library *library);
/* One file more, by its absolute path; the list is another one then. `out` is its model, which may
 * have another name than the file where there is one of that name already. */
int library_add_file(struct library *library, const char *path, const struct library_model **out,
                     struct hearth_error *err);

/* Looks again where something changed. True where the list is another one: models that were seen
 * before are gone then. */
bool library_refresh(struct library *library);
size_t library_count(const struct library *library);
const struct library_model *library_at(const struct library *library, size_t index); /* by name */

/* Whether the files are as they were listed. */
bool library_is_current(const struct library *library, const struct library_model *model);
/* Opens all parts, in order; the descriptors are the caller's. `key` is of what was opened.
 * HEARTH_E_MISSING where it is no longer there. */
int library_open_files(const struct library *library, const struct library_model *model,
                       int fds[LIBRARY_PARTS_MAX], struct library_key *key,
                       struct hearth_error *err);

/* Names are compared without the case of ASCII letters. */
char library_fold(char c);

#endif
