/* The program's own store: what is known in a database, what was computed in a file each.
 *
 *     directory/lock               held by the one process that uses it
 *     directory/conversations.db   and its -wal (store/database.h)
 *     directory/spills/            (store/spill_folder.h)
 *
 * A file becomes a spill on a thread of the store: it is written to the disk, gets its name, the
 * folder is written to the disk, then comes the row in the database, and the file that was there
 * before is removed. So at any moment there is the old or the new one, or a file that no row
 * knows, which is removed when the store is opened again. */
#ifndef STORE_DISK_STORE_H
#define STORE_DISK_STORE_H

#include "hearth/session.h"

/* For tests that want one order of events: there is no thread, and what was given to be kept waits
 * for disk_store_step. */
int disk_store_open_unthreaded(const struct hearth_store_options *options,
                               struct hearth_store **out, struct hearth_error *err);
/* Brings what was given first to its end; false where nothing waits. */
bool disk_store_step(struct hearth_store *store);

/* Waits until nothing does. */
void disk_store_settle(struct hearth_store *store);

/* Bytes of spills: kept, on their way, and of files that are being written. */
uint64_t disk_store_bytes(struct hearth_store *store);

#endif
