#include "store/database_schema.h"

#include <stddef.h>
#include <stdint.h>

#define SCHEMA_VERSION 1
#define CHECKED_PAGES_MAX 8192    /* 32 MiB are checked in 15 ms */
#define APPLICATION_ID 0x48727468 /* "Hrth": tells the file from other programs' */

/* The pages of blobs lie apart, so that what is needed to find them is small and can be checked at
 * each start. Conversations are found by key, listed by last use; spills are found by conversation
 * and removed by file or by last use. `used_order` counts uses, because clocks stand still and
 * jump. The definitions are compared as text with those in a file: any others are foreign. */
static const char *const definitions[] = {
    "CREATE TABLE conversation (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE,"
    " model TEXT NOT NULL, model_name TEXT NOT NULL, messages INTEGER NOT NULL, tokens INTEGER NOT "
    "NULL,"
    " used_unix INTEGER NOT NULL, used_order INTEGER NOT NULL, record_bytes INTEGER NOT NULL,"
    " record_sum BLOB NOT NULL) STRICT",
    "CREATE INDEX conversation_used ON conversation (used_unix, used_order)",
    "CREATE TABLE record (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT",
    "CREATE TABLE spill (id INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE,"
    " bytes INTEGER NOT NULL, tokens INTEGER NOT NULL, identity TEXT NOT NULL, sum BLOB NOT NULL,"
    " row_sum BLOB NOT NULL, used_order INTEGER NOT NULL) STRICT",
    "CREATE INDEX spill_used ON spill (used_order)",
};
#define DEFINITIONS (sizeof definitions / sizeof definitions[0])

void database_distrust(sqlite3 *handle)
{
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_exec(handle,
                 "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF;"
                 "PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY",
                 NULL, NULL, NULL);
}

/* One process holds the database (the store's lock says so already), so that WAL needs no shared
 * memory. A commit is in the system's hands and survives the process; only checkpoints wait for the
 * disk (synchronous NORMAL), which keeps the order of commits over a crash of the machine: that is
 * all that records are promised. What is removed is overwritten. */
static const char settings[] = "PRAGMA secure_delete = ON;"
                               "PRAGMA journal_mode = WAL;"
                               "PRAGMA synchronous = NORMAL;"
                               "PRAGMA journal_size_limit = 16777216;";

/* The number in the first row of a query, whose parameter, if it has one, is `text`. */
static int query_number(sqlite3 *handle, const char *sql, const char *text, int64_t *out,
                        struct hearth_error *err)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(handle, sql, -1, &statement, NULL);
    if (code == SQLITE_OK && text)
        code = sqlite3_bind_text(statement, 1, text, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    int status = 0;
    if (code == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    else
        status = database_error(handle, code, err);
    sqlite3_finalize(statement);
    return status;
}

int database_connect(const char *path, int busy_ms, sqlite3 **out, struct hearth_error *err)
{
    int64_t pages = 0;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int code = sqlite3_open_v2(path, out, flags, NULL);
    if (code != SQLITE_OK)
        return database_error(*out, code, err);
    sqlite3_busy_timeout(*out, busy_ms);
    database_distrust(*out);
    int status = query_number(*out, "PRAGMA page_count", NULL, &pages, err);
    if (status)
        return status;
    if (pages == 0) /* it would write to others: on a full disk they could not be opened */
        code = sqlite3_exec(*out, "PRAGMA auto_vacuum = INCREMENTAL", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(*out, settings, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : database_error(*out, code, err);
}

static int create(sqlite3 *handle, struct hearth_error *err)
{
    int code = sqlite3_exec(handle, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (size_t i = 0; i < DEFINITIONS && code == SQLITE_OK; i++)
        code = sqlite3_exec(handle, definitions[i], NULL, NULL, NULL);
    char sql[128];
    sqlite3_snprintf(sizeof sql, sql,
                     "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", APPLICATION_ID,
                     SCHEMA_VERSION);
    if (code == SQLITE_OK)
        code = sqlite3_exec(handle, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : database_error(handle, code, err);
}

static int foreign(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_FORMAT,
                     "the database of conversations: its tables are not this program's");
}

static int check_definitions(sqlite3 *handle, int64_t present, struct hearth_error *err)
{
    static const char find[] = "SELECT count(*) FROM sqlite_schema WHERE sql = ?1";
    int64_t same = 0;
    int status = present == DEFINITIONS ? 0 : foreign(err);
    for (size_t i = 0; i < DEFINITIONS && !status; i++) {
        status = query_number(handle, find, definitions[i], &same, err);
        if (!status && same != 1)
            status = foreign(err);
    }
    return status;
}

/* SQLite's own check; what it finds first becomes the cause. */
static int check_pages(sqlite3 *handle, const char *sql, struct hearth_error *err)
{
    sqlite3_stmt *statement = NULL;
    int status = 0, code = sqlite3_prepare_v2(handle, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        const char *said = (const char *)sqlite3_column_text(statement, 0);
        if (!said || sqlite3_stricmp(said, "ok") != 0)
            status = error_set(err, HEARTH_E_FORMAT, "the database of conversations: %.300s",
                               said ? said : "no memory to check it");
    } else {
        status = database_error(handle, code, err);
    }
    sqlite3_finalize(statement);
    return status;
}

int database_check_schema(sqlite3 *handle, bool thoroughly, struct hearth_error *err)
{
    int64_t present = 0, version = 0, application = 0, pages = 0;
    int status = query_number(handle, "SELECT count(*) FROM sqlite_schema WHERE sql IS NOT NULL",
                              NULL, &present, err);
    if (!status)
        status = query_number(handle, "PRAGMA user_version", NULL, &version, err);
    if (!status)
        status = query_number(handle, "PRAGMA application_id", NULL, &application, err);
    if (status)
        return status;
    if (present == 0 && version == 0 && application == 0)
        return create(handle, err);
    if (application != APPLICATION_ID)
        return foreign(err);
    if (version > SCHEMA_VERSION)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "the database of conversations: a later version of hearth made it");
    status = check_definitions(handle, present, err);
    if (!status)
        status = query_number(handle, "PRAGMA page_count", NULL, &pages, err);
    if (!status && (thoroughly || pages <= CHECKED_PAGES_MAX))
        return check_pages(handle, "PRAGMA integrity_check(1)", err);
    if (!status)
        status = check_pages(handle, "PRAGMA integrity_check(conversation)", err);
    if (!status)
        status = check_pages(handle, "PRAGMA integrity_check(spill)", err);
    return status;
}
