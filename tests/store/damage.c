/* Damaged databases: what is got is right or said to be missing or damaged, the file is never
 * deleted, and what can be read of it goes on. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/random.h"
#include "store/disk_store.h"
#include "store/store_material.h"

#define LIMIT ((uint64_t)1 << 30)
#define RECORDS 60
#define ROUNDS 150

static void fill(const char *path, unsigned number)
{
    char key[16];
    struct hearth_store *store = store_open_unthreaded(path, LIMIT);
    for (unsigned i = 0; i < RECORDS; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(store, key, number, 50 + 400 * (i % 20)), 0);
        if (i % 10 == 0)
            assert_int_equal(put_spill(store, key, number, 1000), 0);
    }
    hearth_store_close(store);
}

/* Opens a store with what may be damage; the sentence is in *err. */
static struct hearth_store *open_damaged(const char *path, struct hearth_error *err)
{
    struct hearth_store_options options = {.directory = path, .bytes_max = LIMIT};
    struct hearth_store *store = NULL;
    *err = (struct hearth_error){0};
    if (hearth_store_open(&options, &store, err) != 0)
        fail_msg("%s", err->text);
    return store;
}

/* How many records are got; those that are not must be missing or known to be damaged. */
static unsigned check_records(struct hearth_store *store, unsigned number)
{
    char key[16];
    unsigned found = 0;
    for (unsigned i = 0; i < RECORDS; i++) {
        snprintf(key, sizeof key, "%u", i);
        int got = get_record(store, key);
        assert_true(got == (int)number || got == HEARTH_E_MISSING || got == HEARTH_E_FORMAT);
        found += got == (int)number;
        int spill = open_spill(store, key);
        assert_true(spill == (int)number || spill == HEARTH_E_MISSING || spill == HEARTH_E_FORMAT);
    }
    return found;
}

static bool count_entry(void *context, const struct hearth_store_entry *entry)
{
    (void)entry;
    ++*(unsigned *)context;
    return true;
}

static void flipped_bytes_never_give_a_wrong_record(void **state)
{
    (void)state;
    char path[64];
    unsigned found = 0, whole = 0, aside = 0;
    struct random random = random_from_seed(1);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct hearth_error err;
        test_folder_make_in_memory(path);
        fill(path, round);
        int64_t size = file_size(path, "conversations.db");
        for (unsigned i = 0; i <= round % 4; i++)
            file_flip(path, "conversations.db", (int64_t)(random_u64(&random) % (uint64_t)size));
        struct hearth_store *store = open_damaged(path, &err);
        unsigned now = check_records(store, round), listed = 0;
        found += now;
        whole += now == RECORDS;
        if (err.code)
            assert_true(file_size(path, "damaged-1.db") > 0);
        aside += err.code != 0;
        /* what is met on the way is looked for when it is opened again: then all can be written */
        hearth_store_list(store, count_entry, &listed, NULL);
        put_record(store, "more", 7, 5000);
        hearth_store_close(store);
        store = open_damaged(path, &err);
        unsigned then = check_records(store, round);
        if (then < now)
            fail_msg("round %u: %u records, later %u", round, now, then);
        for (unsigned i = 0; i < RECORDS; i++) {
            char key[16];
            snprintf(key, sizeof key, "%u", i);
            assert_int_equal(put_record(store, key, round, 500), 0);
        }
        assert_int_equal(check_records(store, round), RECORDS);
        hearth_store_close(store);
        test_folder_remove(path);
    }
    print_message(
        "%u of %u records survived, all of them %u times of %u; %u times the database was "
        "put aside\n",
        found, ROUNDS * RECORDS, whole, ROUNDS, aside);
    assert_true(found > ROUNDS * RECORDS * 8 / 10);
}

static void a_cut_database_gives_what_is_left(void **state)
{
    (void)state;
    char path[64];
    test_folder_make_in_memory(path);
    fill(path, 1);
    int64_t size = file_size(path, "conversations.db");
    test_folder_remove(path);
    for (int64_t cut = 0; cut < size; cut += size / 40) {
        struct hearth_error err;
        test_folder_make_in_memory(path);
        fill(path, 1);
        file_cut(path, "conversations.db", cut);
        struct hearth_store *store = open_damaged(path, &err);
        check_records(store, 1);
        assert_int_equal(put_record(store, "more", 7, 5000), 0);
        assert_int_equal(get_record(store, "more"), 7);
        hearth_store_close(store);
        test_folder_remove(path);
    }
}

static void a_foreign_file_is_put_aside(void **state)
{
    (void)state;
    char path[64], db[100];
    struct hearth_error err;
    test_folder_make_in_memory(path);
    file_write(path, "conversations.db",
               "these are my notes, about 100 bytes of them, which are no "
               "database at all, in a place where one should be\n");
    struct hearth_store *store = open_damaged(path, &err);
    assert_int_equal(err.code, HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "damaged-1.db"));
    assert_non_null(strstr(err.text, path));
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    hearth_store_close(store);
    assert_int_equal(file_size(path, "damaged-1.db"), 106);

    sqlite3 *other = NULL;
    snprintf(db, sizeof db, "%s/conversations.db", path);
    assert_int_equal(unlink(db), 0);
    assert_int_equal(sqlite3_open(db, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    store = open_damaged(path, &err);
    assert_int_equal(err.code, HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "damaged-2.db"));
    hearth_store_close(store);
    store = open_damaged(path, &err);
    assert_int_equal(err.code, 0);
    hearth_store_close(store);
    test_folder_remove(path);
}

static void change(const char *path, const char *sql)
{
    char db[100];
    sqlite3 *handle = NULL;
    snprintf(db, sizeof db, "%s/conversations.db", path);
    assert_int_equal(sqlite3_open(db, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void a_later_version_is_refused_and_left_alone(void **state)
{
    (void)state;
    char path[64];
    struct hearth_store *store = NULL;
    struct hearth_error err = {0};
    test_folder_make_in_memory(path);
    struct hearth_store_options options = {.directory = path};
    fill(path, 1);
    change(path, "PRAGMA user_version = 2; ALTER TABLE conversation ADD COLUMN title TEXT");
    assert_int_equal(hearth_store_open(&options, &store, &err), HEARTH_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "later version"));
    assert_int_equal(folder_count(path), 3); /* database, lock, spills */
    test_folder_remove(path);
}

static void tables_that_run_code_are_foreign(void **state)
{
    (void)state;
    static const char *const additions[] = {
        "CREATE TRIGGER t AFTER INSERT ON record BEGIN DELETE FROM conversation; END",
        "CREATE VIEW v AS SELECT * FROM conversation",
        "CREATE INDEX i ON record (length(bytes))",
        "DROP INDEX spill_used",
    };
    for (unsigned i = 0; i < sizeof additions / sizeof additions[0]; i++) {
        char path[64];
        struct hearth_error err;
        test_folder_make_in_memory(path);
        fill(path, 1);
        change(path, additions[i]);
        struct hearth_store *store = open_damaged(path, &err);
        assert_int_equal(err.code, HEARTH_E_FORMAT);
        assert_non_null(strstr(err.text, "60 conversations could be read"));
        assert_int_equal(check_records(store, 1), RECORDS);
        hearth_store_close(store);
        test_folder_remove(path);
    }
}

/* Rows that SQLite finds nothing wrong with. */
static void forged_rows_are_not_believed(void **state)
{
    (void)state;
    static const char *const forgeries[] = {
        "UPDATE record SET bytes = (SELECT bytes FROM record WHERE id = 2) WHERE id = 1",
        ("UPDATE conversation SET record_sum = (SELECT record_sum FROM conversation WHERE id = 2),"
         " record_bytes = 450 WHERE id = 1;"
         "UPDATE record SET bytes = (SELECT bytes FROM record WHERE id = 2) WHERE id = 1"),
        "UPDATE conversation SET record_sum = x'00' WHERE id = 1",
        "UPDATE record SET bytes = x'' WHERE id = 1",
        "UPDATE spill SET tokens = 5 WHERE id = 1",
        "UPDATE spill SET sum = x'00' WHERE id = 1",
        "UPDATE spill SET identity = 'x' WHERE id = 1",
        "UPDATE spill SET file = '../conversations.db' WHERE id = 1",
        "UPDATE spill SET file = '', bytes = -1 WHERE id = 1",
        "UPDATE spill SET file = (SELECT file FROM spill WHERE id = 21) || 'x' WHERE id = 1",
        "UPDATE spill SET bytes = 9223372036854775807 WHERE id = 1",
    };
    for (unsigned i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        char path[64];
        struct hearth_error err;
        test_folder_make_in_memory(path);
        fill(path, 1);
        change(path, forgeries[i]);
        struct hearth_store *store = open_damaged(path, &err);
        if (i < 4)
            assert_int_equal(get_record(store, "0"), HEARTH_E_FORMAT);
        else
            assert_true(open_spill(store, "0") < 0);
        assert_true(open_spill(store, "0") < 0 || i < 4);
        assert_int_equal(check_records(store, 1), i < 4 ? RECORDS - 1 : RECORDS);
        assert_true(file_size(path, "conversations.db") > 0);
        assert_int_equal(put_record(store, "0", 1, 500), 0);
        assert_int_equal(put_spill(store, "0", 1, 500), 0);
        disk_store_settle(store);
        assert_int_equal(open_spill(store, "0"), 1);
        assert_int_equal(check_records(store, 1), RECORDS);
        hearth_store_close(store);
        test_folder_remove(path);
    }
}

/* The process ended between two steps of putting a damaged database aside. */
static void a_rebuilt_database_gets_its_place_in_the_end(void **state)
{
    (void)state;
    char path[64], from[100], to[100];
    struct hearth_error err;
    test_folder_make_in_memory(path);
    fill(path, 3);
    snprintf(from, sizeof from, "%s/conversations.db", path);
    snprintf(to, sizeof to, "%s/rebuilt.db", path);
    assert_int_equal(rename(from, to), 0);
    file_write(path, "conversations.db-wal", "of the damaged one");
    struct hearth_store *store = open_damaged(path, &err);
    assert_int_equal(check_records(store, 3), RECORDS);
    hearth_store_close(store);
    assert_int_equal(file_size(path, "damaged-1.db-wal"), 18);
    assert_int_equal(file_size(path, "rebuilt.db"), -1);
    test_folder_remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bytes_never_give_a_wrong_record),
        cmocka_unit_test(a_cut_database_gives_what_is_left),
        cmocka_unit_test(a_foreign_file_is_put_aside),
        cmocka_unit_test(a_later_version_is_refused_and_left_alone),
        cmocka_unit_test(tables_that_run_code_are_foreign),
        cmocka_unit_test(forged_rows_are_not_believed),
        cmocka_unit_test(a_rebuilt_database_gets_its_place_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
