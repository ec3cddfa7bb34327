/* Connections to databases of conversations, and the tables in them. */
#ifndef STORE_DATABASE_SCHEMA_H
#define STORE_DATABASE_SCHEMA_H

#include <sqlite3.h>
#include <stdbool.h>

#include "base/error.h"

/* What SQLite said, in our words and codes; `handle` may be NULL. */
int database_error(sqlite3 *handle, int code, struct hearth_error *err);

/* *out may be set on failure as well, and wants sqlite3_close. */
int database_connect(const char *path, int busy_ms, sqlite3 **out, struct hearth_error *err);

/* Nothing that stands in the file may run code or take memory that is not its own, and no other
 * connection may come in between. */
void database_distrust(sqlite3 *handle);

/* Makes the tables where there are none, else sees to it that they are ours and whole. */
int database_check_schema(sqlite3 *handle, bool thoroughly, struct hearth_error *err);

#endif
