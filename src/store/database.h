/* What is known of conversations, in an SQLite database: their records, and which file holds the
 * spill of which.
 *
 * One connection, used by one thread at a time. Nothing that is read is trusted: a record, and the
 * row of a spill, has a checksum that covers its key too, so that no damage gives one conversation
 * what belongs to another.
 *
 * A write is in the system's hands when a call returns, and so survives the process; it is on the
 * disk at the next checkpoint (WAL, synchronous NORMAL): after a crash of the machine the last
 * writes may be missing, whole and in order. */
#ifndef STORE_DATABASE_H
#define STORE_DATABASE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "hearth/session.h"
#include "session/store.h"

#define DATABASE_KEY_MAX 256
#define DATABASE_RECORD_MAX ((size_t)512 << 20)
#define SPILL_FILE_SIZE 33 /* a name: 32 hexadecimal digits and NUL */

struct database;

/* Opens or makes it; one that is there is checked: all of it where it is small or
 * `thoroughly` says so, else what is needed to find records and spills. HEARTH_E_FORMAT: it is
 * damaged, or another program's; HEARTH_E_UNSUPPORTED: a later version of this program made it;
 * HEARTH_E_STATE: another program holds it. */
int database_open(const char *path, bool thoroughly, struct database **out,
                  struct hearth_error *err);
void database_close(struct database *database); /* NULL is fine */
/* Whether damage was met since it was opened. */
bool database_is_damaged(const struct database *database);

/* As store_calls of session/store.h have them. HEARTH_E_LIMIT where the disk is full. */
int database_get(struct database *database, const char *key, struct buffer *record,
                 struct hearth_error *err);
int database_put(struct database *database, const char *key, struct text record,
                 const struct store_summary *summary, struct hearth_error *err);

struct spill_row {
    int64_t id;                 /* of the conversation, in the database */
    char file[SPILL_FILE_SIZE]; /* "": there is no spill */
    struct store_spill spill;
};

/* Whether it is 32 hexadecimal digits. */
bool database_is_spill_name(const char *name);

/* Record and spill; the file that is nobody's afterwards is in *spill. */
int database_remove(struct database *database, const char *key, struct spill_row *spill,
                    struct hearth_error *err);

/* Puts a spill in the place of the one in *old. HEARTH_E_MISSING: no such conversation. */
int database_put_spill(struct database *database, const char *key, const struct spill_row *row,
                       struct spill_row *old, struct hearth_error *err);
/* HEARTH_E_MISSING, or HEARTH_E_FORMAT where its row is damaged; *row then has nothing but the
 * file's name and size, as far as they can be believed. */
int database_get_spill(struct database *database, const char *key, struct spill_row *row,
                       struct hearth_error *err);
int database_remove_spill(struct database *database, int64_t id, struct hearth_error *err);
/* That of the conversation that was put longest ago. HEARTH_E_MISSING: there is none. */
int database_oldest_spill(struct database *database, struct spill_row *row,
                          struct hearth_error *err);
/* Each one's file and size. A visit may not call the database; one that returns false ends it. */
int database_each_spill(struct database *database,
                        bool (*visit)(void *context, const struct spill_row *row), void *context,
                        struct hearth_error *err);
/* Whether there is such a conversation: 0 or HEARTH_E_MISSING. */
int database_find(struct database *database, const char *key, struct hearth_error *err);

/* A part of the list of all conversations, the latest first. */
#define DATABASE_PAGE 64
struct database_page {
    int64_t after_unix, after_order; /* begin with INT64_MAX; each call sets them for the next */
    size_t count;                    /* 0: the list has ended */
    struct hearth_store_entry entries[DATABASE_PAGE];
    char keys[DATABASE_PAGE][DATABASE_KEY_MAX + 1];
};
int database_list(struct database *database, struct database_page *page, struct hearth_error *err);

/* Puts each record of a damaged database that can be found in it and is whole; *count becomes how
 * many. The damaged file stays as it is. */
int database_salvage(struct database *database, const char *damaged_path, uint64_t *count,
                     struct hearth_error *err);

#endif
