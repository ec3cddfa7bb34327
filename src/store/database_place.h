/* The database in the folder of a store: opened, and put aside and made anew where it is damaged.
 *
 *     conversations.db, -wal       the database
 *     damaged-1.db, -wal, …        those that were damaged; nobody deletes them
 *     rebuilt.db, -wal             what is read of a damaged one, before it takes its place
 *     suspect                      empty: damage was met, all is checked at the next opening */
#ifndef STORE_DATABASE_PLACE_H
#define STORE_DATABASE_PLACE_H

#include "base/error.h"
#include "store/database.h"

/* `directory` is the folder's path, for SQLite. Where the database was damaged, *note says in a
 * sentence what has become of it. */
int database_place_open(int folder, const char *directory, struct database **out,
                        struct hearth_error *note, struct hearth_error *err);
/* Damage was met: at the next opening all of it is checked. */
void database_place_suspect(int folder);

#endif
