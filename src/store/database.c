#include "store/database.h"

#include <assert.h>
#include <sqlite3.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "store/database_schema.h"

/* Waits so long for another program that looks into the database. */
#define BUSY_MS 2000

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    FIND,
    GET,
    PUT,
    PUT_RECORD,
    TOUCH_SPILL,
    REMOVE,
    REMOVE_RECORD,
    PUT_SPILL,
    GET_SPILL,
    REMOVE_SPILL,
    OLDEST_SPILL,
    EACH_SPILL,
    LIST,
    LAST_ORDER,
    SHRINK,
    STATEMENTS,
};

static const char *const statement_sql[STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [FIND] = "SELECT id FROM conversation WHERE key = ?1",
    [GET] = "SELECT bytes, record_sum FROM conversation JOIN record USING (id) WHERE key = ?1",
    [PUT] = "INSERT INTO conversation (key, model, messages, tokens, used_unix, used_order,"
            " record_bytes, record_sum, model_name) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            " ON CONFLICT (key) DO UPDATE SET model = ?2, messages = ?3, tokens = ?4,"
            " used_unix = ?5, used_order = ?6, record_bytes = ?7, record_sum = ?8,"
            " model_name = ?9 RETURNING id",
    [PUT_RECORD] = "INSERT INTO record (id, bytes) VALUES (?1, ?2)"
                   " ON CONFLICT (id) DO UPDATE SET bytes = ?2",
    [TOUCH_SPILL] = "UPDATE spill SET used_order = ?2 WHERE id = ?1",
    [REMOVE] = "DELETE FROM conversation WHERE id = ?1",
    [REMOVE_RECORD] = "DELETE FROM record WHERE id = ?1",
    [PUT_SPILL] = "INSERT INTO spill (id, file, bytes, tokens, identity, sum, row_sum, used_order)"
                  " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                  " ON CONFLICT (id) DO UPDATE SET file = ?2, bytes = ?3, tokens = ?4,"
                  " identity = ?5, sum = ?6, row_sum = ?7, used_order = ?8",
    [GET_SPILL] = "SELECT id, file, spill.bytes, spill.tokens, identity, sum, row_sum"
                  " FROM conversation JOIN spill USING (id) WHERE key = ?1",
    [REMOVE_SPILL] = "DELETE FROM spill WHERE id = ?1",
    [OLDEST_SPILL] = "SELECT id, file, bytes FROM spill ORDER BY used_order LIMIT 1",
    [EACH_SPILL] = "SELECT id, file, bytes FROM spill",
    [LIST] = "SELECT key, model, messages, conversation.tokens, record_bytes, used_unix,"
             " conversation.used_order, spill.bytes, spill.tokens, model_name"
             " FROM conversation LEFT JOIN spill USING (id)"
             " WHERE (used_unix, conversation.used_order) < (?1, ?2)"
             " ORDER BY used_unix DESC, conversation.used_order DESC LIMIT ?3",
    [LAST_ORDER] = "SELECT max(ifnull((SELECT max(used_order) FROM conversation), 0),"
                   " ifnull((SELECT max(used_order) FROM spill), 0))",
    /* gives the disk back what was removed, 16 MiB at a time */
    [SHRINK] = "PRAGMA incremental_vacuum(4096)",
};

struct database {
    sqlite3 *handle;
    sqlite3_stmt *statements[STATEMENTS];
    struct sum *sum;
    int64_t order; /* of the last use */
    bool damaged;
};

/* ---- SQLite's errors, statements and values ---- */

int database_error(sqlite3 *handle, int code, struct hearth_error *err)
{
    const char *cause = handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
    int ours = HEARTH_E_IO;
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
        ours = HEARTH_E_FORMAT;
        break;
    case SQLITE_NOMEM:
        ours = HEARTH_E_MEMORY;
        break;
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
        ours = HEARTH_E_LIMIT;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        ours = HEARTH_E_STATE;
        break;
    default:
        break;
    }
    return error_set(err, ours, "the database of conversations: %s", cause);
}

static int failed(struct database *database, int code, struct hearth_error *err)
{
    int status = database_error(database->handle, code, err);
    database->damaged = database->damaged || status == HEARTH_E_FORMAT;
    return status;
}

/* One step. True where there is a row; else *status is 0 at the end, or an error. */
static bool step(struct database *database, enum statement which, int *status,
                 struct hearth_error *err)
{
    int code = sqlite3_step(database->statements[which]);
    *status = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : failed(database, code, err);
    return code == SQLITE_ROW;
}

static void reset(struct database *database, enum statement which)
{
    sqlite3_reset(database->statements[which]);
    sqlite3_clear_bindings(database->statements[which]);
}

/* A statement without rows, or whose rows nobody wants. */
static int run(struct database *database, enum statement which, struct hearth_error *err)
{
    int status;
    while (step(database, which, &status, err))
        ;
    reset(database, which);
    return status;
}

/* Values live until the statement is reset. Too little memory shows when it is stepped: a value
 * that could not be bound is NULL, which no column takes and no key equals. */
static void bind_text(struct database *database, enum statement which, int at, const char *text)
{
    sqlite3_bind_text(database->statements[which], at, text, -1, SQLITE_STATIC);
}

static void bind_bytes(struct database *database, enum statement which, int at, const void *bytes,
                       size_t size)
{
    sqlite3_bind_blob64(database->statements[which], at, size ? bytes : "", size, SQLITE_STATIC);
}

static void bind_number(struct database *database, enum statement which, int at, uint64_t number)
{
    int64_t value = number < INT64_MAX ? (int64_t)number : INT64_MAX;
    sqlite3_bind_int64(database->statements[which], at, value);
}

static void bind_signed(struct database *database, enum statement which, int at, int64_t number)
{
    sqlite3_bind_int64(database->statements[which], at, number);
}

static uint64_t column_number(sqlite3_stmt *statement, int at)
{
    int64_t value = sqlite3_column_int64(statement, at);
    return value > 0 ? (uint64_t)value : 0;
}

/* A short text of a column; "" for one that does not fit, or holds NUL bytes. */
static void column_text(sqlite3_stmt *statement, int at, char *out, size_t capacity)
{
    const unsigned char *text = sqlite3_column_text(statement, at);
    size_t size = (size_t)sqlite3_column_bytes(statement, at);
    out[0] = '\0';
    if (text && size < capacity && !memchr(text, '\0', size))
        memcpy(out, text, size + 1);
}

static bool column_sum(sqlite3_stmt *statement, int at, unsigned char out[SUM_BYTES])
{
    const void *bytes = sqlite3_column_blob(statement, at);
    if (!bytes || sqlite3_column_bytes(statement, at) != SUM_BYTES)
        return false;
    memcpy(out, bytes, SUM_BYTES);
    return true;
}

/* Ends what BEGIN began; what failed is as if it had not been. */
static int finish(struct database *database, int status, struct hearth_error *err)
{
    if (status == 0)
        status = run(database, COMMIT, err);
    if (!sqlite3_get_autocommit(database->handle))
        run(database, ROLLBACK, NULL);
    return status;
}

/* ---- checksums ---- */

static void record_sum(struct database *database, const char *key, struct text record,
                       unsigned char out[SUM_BYTES])
{
    sum_restart(database->sum);
    sum_add(database->sum, key, strlen(key) + 1);
    sum_add(database->sum, record.data, record.size);
    sum_get(database->sum, out);
}

static void row_sum(struct database *database, const char *key, const struct spill_row *row,
                    unsigned char out[SUM_BYTES])
{
    const uint64_t numbers[] = {row->spill.bytes, row->spill.tokens};
    sum_restart(database->sum);
    sum_add(database->sum, key, strlen(key) + 1);
    sum_add(database->sum, row->file, strlen(row->file) + 1);
    sum_add(database->sum, row->spill.identity, strlen(row->spill.identity) + 1);
    sum_add(database->sum, numbers, sizeof numbers);
    sum_add(database->sum, row->spill.sum, SUM_BYTES);
    sum_get(database->sum, out);
}

/* ---- opening ---- */

static int prepare_all(struct database *database, struct hearth_error *err)
{
    for (int i = 0; i < STATEMENTS; i++) {
        int code = sqlite3_prepare_v3(database->handle, statement_sql[i], -1,
                                      SQLITE_PREPARE_PERSISTENT, &database->statements[i], NULL);
        if (code != SQLITE_OK)
            return failed(database, code, err);
    }
    return 0;
}

int database_open(const char *path, bool thoroughly, struct database **out,
                  struct hearth_error *err)
{
    int status;
    struct database *database = MEM_NEW(struct database);
    if (!database || !(database->sum = sum_create())) {
        mem_free(database);
        return error_set(err, HEARTH_E_MEMORY, "no memory for the database of conversations");
    }
    status = database_connect(path, BUSY_MS, &database->handle, err);
    if (!status)
        status = database_check_schema(database->handle, thoroughly, err);
    if (!status)
        status = prepare_all(database, err);
    if (!status && step(database, LAST_ORDER, &status, err)) {
        database->order = sqlite3_column_int64(database->statements[LAST_ORDER], 0);
        reset(database, LAST_ORDER);
    }
    if (status) {
        database_close(database);
        return status;
    }
    *out = database;
    return 0;
}

void database_close(struct database *database)
{
    if (!database)
        return;
    for (int i = 0; i < STATEMENTS; i++)
        sqlite3_finalize(database->statements[i]);
    sqlite3_close(database->handle);
    sum_destroy(database->sum);
    mem_free(database);
}

bool database_is_damaged(const struct database *database)
{
    return database->damaged;
}

/* ---- records ---- */

static int no_such(const char *key, struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MISSING, "no conversation \"%.256s\" is kept", key);
}

/* The row of a conversation. */
static int find(struct database *database, const char *key, int64_t *id, struct hearth_error *err)
{
    int status;
    bind_text(database, FIND, 1, key);
    bool found = step(database, FIND, &status, err);
    if (found)
        *id = sqlite3_column_int64(database->statements[FIND], 0);
    reset(database, FIND);
    return found || status ? status : no_such(key, err);
}

int database_find(struct database *database, const char *key, struct hearth_error *err)
{
    int64_t id;
    return find(database, key, &id, err);
}

/* Appends the record of the row that GET stands on, if it is whole. */
static int take_record(struct database *database, const char *key, struct buffer *record,
                       struct hearth_error *err)
{
    unsigned char expected[SUM_BYTES], sum[SUM_BYTES];
    sqlite3_stmt *row = database->statements[GET];
    const char *bytes = sqlite3_column_blob(row, 0);
    struct text blob = {bytes, (size_t)sqlite3_column_bytes(row, 0)};
    if (!bytes && sqlite3_errcode(database->handle) == SQLITE_NOMEM)
        return failed(database, SQLITE_NOMEM, err);
    record_sum(database, key, blob, sum);
    if (!column_sum(row, 1, expected) || memcmp(sum, expected, SUM_BYTES) != 0) {
        database->damaged = true;
        return error_set(err, HEARTH_E_FORMAT, "what is kept of conversation \"%.256s\" is damaged",
                         key);
    }
    if (blob.size > record->max - record->size)
        return error_set(err, HEARTH_E_LIMIT,
                         "conversation \"%.256s\" has %zu bytes, more than the %zu there may be",
                         key, blob.size, record->max);
    if (!buffer_append_text(record, blob))
        return error_set(err, HEARTH_E_MEMORY, "no memory for %zu bytes", blob.size);
    return 0;
}

int database_get(struct database *database, const char *key, struct buffer *record,
                 struct hearth_error *err)
{
    int status;
    bind_text(database, GET, 1, key);
    bool found = step(database, GET, &status, err);
    if (found)
        status = take_record(database, key, record, err);
    reset(database, GET);
    return found || status ? status : no_such(key, err);
}

/* The conversation's row; *id becomes its number. */
static int put_row(struct database *database, const char *key, struct text record,
                   const struct store_summary *summary, int64_t *id, struct hearth_error *err)
{
    int status;
    unsigned char sum[SUM_BYTES];
    record_sum(database, key, record, sum);
    bind_text(database, PUT, 1, key);
    bind_text(database, PUT, 2, summary->model);
    bind_number(database, PUT, 3, summary->messages);
    bind_number(database, PUT, 4, summary->tokens);
    bind_signed(database, PUT, 5, summary->used_unix);
    bind_signed(database, PUT, 6, database->order + 1);
    bind_number(database, PUT, 7, record.size);
    bind_bytes(database, PUT, 8, sum, sizeof sum);
    bind_text(database, PUT, 9, summary->model_name ? summary->model_name : "");
    if (step(database, PUT, &status, err)) {
        *id = sqlite3_column_int64(database->statements[PUT], 0);
        step(database, PUT, &status, err);
    }
    reset(database, PUT);
    return status;
}

int database_put(struct database *database, const char *key, struct text record,
                 const struct store_summary *summary, struct hearth_error *err)
{
    int64_t id = 0;
    assert(record.size <= DATABASE_RECORD_MAX && strlen(key) <= DATABASE_KEY_MAX);
    int status = run(database, BEGIN, err);
    if (!status)
        status = put_row(database, key, record, summary, &id, err);
    if (!status) {
        bind_signed(database, PUT_RECORD, 1, id);
        bind_bytes(database, PUT_RECORD, 2, record.data, record.size);
        status = run(database, PUT_RECORD, err);
    }
    if (!status) {
        bind_signed(database, TOUCH_SPILL, 1, id);
        bind_signed(database, TOUCH_SPILL, 2, database->order + 1);
        status = run(database, TOUCH_SPILL, err);
    }
    status = finish(database, status, err);
    if (!status)
        database->order++;
    return status;
}

static int run_for(struct database *database, enum statement which, int64_t id,
                   struct hearth_error *err)
{
    bind_signed(database, which, 1, id);
    return run(database, which, err);
}

/* The spill that a conversation had; none where its row is damaged, nothing can be kept of that. */
static int get_old_spill(struct database *database, const char *key, struct spill_row *row,
                         struct hearth_error *err)
{
    struct hearth_error cause;
    int status = database_get_spill(database, key, row, &cause);
    if (status == 0 || status == HEARTH_E_MISSING || status == HEARTH_E_FORMAT)
        return 0;
    return error_set(err, status, "%s", cause.text);
}

int database_remove(struct database *database, const char *key, struct spill_row *spill,
                    struct hearth_error *err)
{
    int64_t id = 0;
    struct spill_row row = {0};
    int status = run(database, BEGIN, err);
    if (!status)
        status = find(database, key, &id, err);
    if (!status)
        status = get_old_spill(database, key, &row, err);
    if (!status)
        status = run_for(database, REMOVE_RECORD, id, err);
    if (!status)
        status = run_for(database, REMOVE_SPILL, id, err);
    if (!status)
        status = run_for(database, REMOVE, id, err);
    status = finish(database, status, err);
    if (!status) {
        *spill = row;
        run(database, SHRINK, NULL);
    }
    return status;
}

/* ---- spills ---- */

int database_put_spill(struct database *database, const char *key, const struct spill_row *row,
                       struct spill_row *old, struct hearth_error *err)
{
    int64_t id = 0;
    unsigned char sum[SUM_BYTES];
    struct spill_row before = {0};
    int status = run(database, BEGIN, err);
    if (!status)
        status = find(database, key, &id, err);
    if (!status)
        status = get_old_spill(database, key, &before, err);
    if (!status) {
        row_sum(database, key, row, sum);
        bind_signed(database, PUT_SPILL, 1, id);
        bind_text(database, PUT_SPILL, 2, row->file);
        bind_number(database, PUT_SPILL, 3, row->spill.bytes);
        bind_number(database, PUT_SPILL, 4, row->spill.tokens);
        bind_text(database, PUT_SPILL, 5, row->spill.identity);
        bind_bytes(database, PUT_SPILL, 6, row->spill.sum, SUM_BYTES);
        bind_bytes(database, PUT_SPILL, 7, sum, SUM_BYTES);
        bind_signed(database, PUT_SPILL, 8, database->order + 1);
        status = run(database, PUT_SPILL, err);
    }
    status = finish(database, status, err);
    if (!status) {
        database->order++;
        *old = before;
    }
    return status;
}

bool database_is_spill_name(const char *name)
{
    return strlen(name) == SPILL_FILE_SIZE - 1 &&
           strspn(name, "0123456789abcdef") == SPILL_FILE_SIZE - 1;
}

/* The columns id, file and bytes of the row that a statement stands on; a name that is none of ours
 * becomes "". */
static void take_file(sqlite3_stmt *statement, struct spill_row *row)
{
    *row = (struct spill_row){.id = sqlite3_column_int64(statement, 0)};
    column_text(statement, 1, row->file, sizeof row->file);
    if (!database_is_spill_name(row->file))
        row->file[0] = '\0';
    row->spill.bytes = column_number(statement, 2);
}

int database_get_spill(struct database *database, const char *key, struct spill_row *row,
                       struct hearth_error *err)
{
    int status;
    struct spill_row got;
    unsigned char expected[SUM_BYTES], sum[SUM_BYTES];
    sqlite3_stmt *statement = database->statements[GET_SPILL];
    bind_text(database, GET_SPILL, 1, key);
    bool found = step(database, GET_SPILL, &status, err), whole = false;
    if (found) {
        take_file(statement, &got);
        got.spill.tokens = column_number(statement, 3);
        column_text(statement, 4, got.spill.identity, sizeof got.spill.identity);
        whole = column_sum(statement, 5, got.spill.sum) && column_sum(statement, 6, expected);
        row_sum(database, key, &got, sum);
        whole = whole && memcmp(sum, expected, SUM_BYTES) == 0;
        *row = got;
    }
    reset(database, GET_SPILL);
    database->damaged = database->damaged || (found && !whole);
    if (found && !whole)
        return error_set(err, HEARTH_E_FORMAT,
                         "what is known of the file of conversation \"%.256s\" is damaged", key);
    if (!found && !status)
        return error_set(err, HEARTH_E_MISSING,
                         "nothing computed of conversation \"%.256s\" is "
                         "kept",
                         key);
    return status;
}

int database_remove_spill(struct database *database, int64_t id, struct hearth_error *err)
{
    return run_for(database, REMOVE_SPILL, id, err);
}

int database_oldest_spill(struct database *database, struct spill_row *row,
                          struct hearth_error *err)
{
    int status;
    bool found = step(database, OLDEST_SPILL, &status, err);
    if (found)
        take_file(database->statements[OLDEST_SPILL], row);
    reset(database, OLDEST_SPILL);
    return found || status ? status : error_set(err, HEARTH_E_MISSING, "nothing computed is kept");
}

int database_each_spill(struct database *database,
                        bool (*visit)(void *context, const struct spill_row *row), void *context,
                        struct hearth_error *err)
{
    int status;
    bool more = true;
    struct spill_row row;
    while (more && step(database, EACH_SPILL, &status, err)) {
        take_file(database->statements[EACH_SPILL], &row);
        more = visit(context, &row);
    }
    reset(database, EACH_SPILL);
    return more ? status : 0;
}

/* ---- lists ---- */

/* Adds the row that LIST stands on, but for a key that can be none. */
static void take_entry(sqlite3_stmt *row, struct database_page *page)
{
    struct hearth_store_entry *entry = &page->entries[page->count];
    char *key = page->keys[page->count];
    *entry = (struct hearth_store_entry){
        .key = key,
        .messages = column_number(row, 2),
        .tokens = column_number(row, 3),
        .record_bytes = column_number(row, 4),
        .used_unix = sqlite3_column_int64(row, 5),
        .spill_bytes = column_number(row, 7),
        .spill_tokens = column_number(row, 8),
    };
    page->after_unix = entry->used_unix;
    page->after_order = sqlite3_column_int64(row, 6);
    column_text(row, 0, key, sizeof page->keys[0]);
    column_text(row, 1, entry->model, sizeof entry->model);
    column_text(row, 9, entry->model_name, sizeof entry->model_name);
    if (!utf8_valid(entry->model_name, strlen(entry->model_name)))
        entry->model_name[0] = '\0';
    if (key[0] && utf8_valid(key, strlen(key)))
        page->count++;
}

int database_list(struct database *database, struct database_page *page, struct hearth_error *err)
{
    int status, rows;
    page->count = 0;
    do {
        bind_signed(database, LIST, 1, page->after_unix);
        bind_signed(database, LIST, 2, page->after_order);
        bind_signed(database, LIST, 3, DATABASE_PAGE);
        for (rows = 0; step(database, LIST, &status, err); rows++)
            take_entry(database->statements[LIST], page);
        reset(database, LIST);
    } while (status == 0 && page->count == 0 && rows > 0); /* a page of nothing but damage */
    return status;
}

/* ---- what can be read of a damaged one ---- */

#define SALVAGE_COLUMNS "key, model, messages, tokens, used_unix, bytes, record_sum, model_name"

/* Puts the record of a row, if it is whole and none of its key is there. */
static int salvage_row(struct database *database, sqlite3_stmt *row, uint64_t *count,
                       struct hearth_error *err)
{
    char key[DATABASE_KEY_MAX + 1], model[HEARTH_IDENTITY_SIZE], name[HEARTH_STORE_NAME_SIZE];
    unsigned char expected[SUM_BYTES], sum[SUM_BYTES];
    column_text(row, 1, key, sizeof key);
    column_text(row, 2, model, sizeof model);
    column_text(row, 8, name, sizeof name);
    const struct store_summary summary = {
        .model = model,
        .model_name = name,
        .messages = column_number(row, 3),
        .tokens = column_number(row, 4),
        .used_unix = sqlite3_column_int64(row, 5),
    };
    const char *bytes = sqlite3_column_blob(row, 6);
    struct text record = {bytes, (size_t)sqlite3_column_bytes(row, 6)};
    if (!bytes && sqlite3_errcode(sqlite3_db_handle(row)) == SQLITE_NOMEM)
        return failed(database, SQLITE_NOMEM, err);
    record_sum(database, key, record, sum);
    if (!column_sum(row, 7, expected) || memcmp(sum, expected, SUM_BYTES) != 0 ||
        record.size > DATABASE_RECORD_MAX || database_find(database, key, NULL) == 0)
        return 0;
    int status = database_put(database, key, record, &summary, err);
    *count += status == 0;
    return status;
}

/* Whether more can be hoped for behind what SQLite said. Where the disk fails, or memory is short,
 * nothing is known about the rows: that is for another time. */
static bool is_damage(int code)
{
    return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB;
}

/* Goes through the rows in one direction. Where a page cannot be read, rows further and further
 * away are tried; going in both directions finds what lies on either side of such a page. */
static int salvage_rows(struct database *database, sqlite3 *damaged, bool upwards, uint64_t *count,
                        struct hearth_error *err)
{
    static const char *const sql[] = {
        "SELECT id, " SALVAGE_COLUMNS " FROM conversation JOIN record USING (id)"
        " WHERE conversation.id < ?1 ORDER BY conversation.id DESC",
        "SELECT id, " SALVAGE_COLUMNS " FROM conversation JOIN record USING (id)"
        " WHERE conversation.id > ?1 ORDER BY conversation.id",
    };
    sqlite3_stmt *rows = NULL;
    int code = sqlite3_prepare_v2(damaged, sql[upwards], -1, &rows, NULL), status = 0;
    int64_t id = upwards ? 0 : INT64_MAX, stride = 1;
    bool more = rows != NULL;
    while (more && !status) {
        sqlite3_bind_int64(rows, 1, id);
        while (!status && (code = sqlite3_step(rows)) == SQLITE_ROW) {
            status = salvage_row(database, rows, count, err);
            id = sqlite3_column_int64(rows, 0);
            stride = 1;
        }
        sqlite3_reset(rows);
        more = is_damage(code) && stride <= INT64_MAX / 4 &&
               (upwards ? id <= INT64_MAX - stride : id >= stride);
        id += more ? (upwards ? stride : -stride) : 0;
        stride *= 2;
    }
    if (!status && code != SQLITE_DONE && !is_damage(code) && code != SQLITE_ERROR)
        status = database_error(damaged, code, err);
    sqlite3_finalize(rows);
    return status;
}

int database_salvage(struct database *database, const char *damaged_path, uint64_t *count,
                     struct hearth_error *err)
{
    sqlite3 *damaged = NULL;
    uint64_t found = 0;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int code = sqlite3_open_v2(damaged_path, &damaged, flags, NULL), status = 0;
    if (code != SQLITE_OK && !is_damage(code))
        status = database_error(damaged, code, err);
    if (code == SQLITE_OK) {
        sqlite3_db_config(damaged, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        database_distrust(damaged);
        status = salvage_rows(database, damaged, true, &found, err);
        if (!status)
            status = salvage_rows(database, damaged, false, &found, err);
    }
    sqlite3_close(damaged);
    if (!status)
        *count = found;
    return status;
}
