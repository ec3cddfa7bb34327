/* Each call of the system fails in turn, those of the store and those of SQLite, and each
 * allocation: a put that failed has changed nothing, one that did not is kept, spills are old, new
 * or known to be damaged, and no descriptor or file is left behind. */

#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/memory.h"
#include "base/os.h"
#include "store/disk_store.h"
#include "store/store_material.h"

#define LIMIT ((uint64_t)50000)
#define KEYS 4

/* ---- what is to fail ---- */

struct plan {
    enum os_file_fault fault;
    _Atomic unsigned long calls; /* also from the store's thread */
    unsigned long at;            /* the call that fails, from 1 on; 0: none */
};

static enum os_file_fault decide(void *context, enum os_file_call call)
{
    struct plan *plan = context;
    (void)call;
    return ++plan->calls == plan->at ? plan->fault : OS_FAULT_NONE;
}

/* SQLite gives its tests, and these, its system calls to be replaced: there is no other argument
 * than this one. */
static struct {
    struct plan plan;
    sqlite3_syscall_ptr write, pwrite, read, pread, ftruncate;
} sqlite_calls;

static bool sqlite_call_fails(void)
{
    if (++sqlite_calls.plan.calls != sqlite_calls.plan.at)
        return false;
    errno = sqlite_calls.plan.fault == OS_FAULT_FULL ? ENOSPC : EIO;
    return true;
}

static ssize_t faulty_write(int fd, const void *bytes, size_t size)
{
    typedef ssize_t (*call)(int fd, const void *bytes, size_t size);
    if (!sqlite_call_fails())
        return ((call)sqlite_calls.write)(fd, bytes, size);
    int cause = errno; /* half of it is there */
    (void)!((call)sqlite_calls.write)(fd, bytes, size / 2);
    errno = cause;
    return -1;
}

static ssize_t faulty_pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    typedef ssize_t (*call)(int fd, const void *bytes, size_t size, off_t at);
    if (!sqlite_call_fails())
        return ((call)sqlite_calls.pwrite)(fd, bytes, size, at);
    int cause = errno;
    (void)!((call)sqlite_calls.pwrite)(fd, bytes, size / 2, at);
    errno = cause;
    return -1;
}

static ssize_t faulty_read(int fd, void *bytes, size_t size)
{
    typedef ssize_t (*call)(int fd, void *bytes, size_t size);
    return sqlite_call_fails() ? -1 : ((call)sqlite_calls.read)(fd, bytes, size);
}

static ssize_t faulty_pread(int fd, void *bytes, size_t size, off_t at)
{
    typedef ssize_t (*call)(int fd, void *bytes, size_t size, off_t at);
    return sqlite_call_fails() ? -1 : ((call)sqlite_calls.pread)(fd, bytes, size, at);
}

static int faulty_ftruncate(int fd, off_t size)
{
    typedef int (*call)(int fd, off_t size);
    return sqlite_call_fails() ? -1 : ((call)sqlite_calls.ftruncate)(fd, size);
}

static sqlite3_syscall_ptr replace_call(const char *name, sqlite3_syscall_ptr call)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    sqlite3_syscall_ptr old = vfs->xGetSystemCall(vfs, name);
    if (old)
        vfs->xSetSystemCall(vfs, name, call);
    return old;
}

static void replace_sqlite_calls(void)
{
    sqlite_calls.write = replace_call("write", (sqlite3_syscall_ptr)faulty_write);
    sqlite_calls.read = replace_call("read", (sqlite3_syscall_ptr)faulty_read);
    sqlite_calls.ftruncate = replace_call("ftruncate", (sqlite3_syscall_ptr)faulty_ftruncate);
    sqlite_calls.pwrite = replace_call("pwrite64", (sqlite3_syscall_ptr)faulty_pwrite);
    sqlite_calls.pread = replace_call("pread64", (sqlite3_syscall_ptr)faulty_pread);
    if (!sqlite_calls.pwrite) {
        sqlite_calls.pwrite = replace_call("pwrite", (sqlite3_syscall_ptr)faulty_pwrite);
        sqlite_calls.pread = replace_call("pread", (sqlite3_syscall_ptr)faulty_pread);
    }
}

/* SQLite's memory. */
static struct {
    sqlite3_mem_methods methods;
    unsigned long calls, at;
} sqlite_memory;

static void *faulty_malloc(int size)
{
    return ++sqlite_memory.calls == sqlite_memory.at ? NULL : sqlite_memory.methods.xMalloc(size);
}

static void *faulty_realloc(void *old, int size)
{
    return ++sqlite_memory.calls == sqlite_memory.at ? NULL
                                                     : sqlite_memory.methods.xRealloc(old, size);
}

/* ---- what is done meanwhile, and what must be there afterwards ---- */

struct expected {
    int record;           /* 0: none */
    int spills[8], count; /* any of them, or none, or one that is damaged */
};

struct history {
    char path[64], spills[80];
    struct expected keys[KEYS];
    unsigned failed;
};

static void do_put(struct history *history, struct hearth_store *store, unsigned k, int number)
{
    char key[8];
    snprintf(key, sizeof key, "key%u", k);
    if (put_record(store, key, (unsigned)number, 300 + 5000 * k) == 0)
        history->keys[k].record = number;
    else
        history->failed++;
}

static void do_keep(struct history *history, struct hearth_store *store, unsigned k, int number)
{
    char key[8];
    struct expected *expected = &history->keys[k];
    snprintf(key, sizeof key, "key%u", k);
    if (put_spill(store, key, (unsigned)number, 9000) == 0)
        expected->spills[expected->count++] = number;
    else
        history->failed++;
}

static void check_spill(const struct expected *expected, int got, bool damage)
{
    bool known = got == HEARTH_E_MISSING || (damage && got == HEARTH_E_FORMAT);
    for (int i = 0; i < expected->count; i++)
        known = known || got == expected->spills[i];
    assert_true(known);
}

static void do_remove(struct history *history, struct hearth_store *store, unsigned k)
{
    char key[8];
    snprintf(key, sizeof key, "key%u", k);
    int status = hearth_store_remove(store, key, NULL);
    if (status == 0)
        history->keys[k] = (struct expected){0};
    else if (status != HEARTH_E_MISSING || history->keys[k].record)
        history->failed++;
}

static void work(struct history *history, struct hearth_store *store, bool unthreaded)
{
    for (int round = 1; round <= 2; round++) {
        for (unsigned k = 0; k < KEYS; k++) {
            do_put(history, store, k, round * 10);
            do_keep(history, store, k, round * 10);
            if (unthreaded && k % 2)
                disk_store_step(store);
        }
        do_remove(history, store, 1);
        do_keep(history, store, 0, round * 10 + 1);
        do_put(history, store, 1, round * 10 + 2);
        if (history->keys[1].record == 0)
            assert_int_equal(open_spill(store, "key1"), HEARTH_E_MISSING);
        open_spill(store, "key2");
        get_record(store, "key3");
        store->calls->spill_drop(store, "key3");
        disk_store_settle(store);
    }
}

/* After the faults: all is as was said. */
static void check(struct history *history, bool damage)
{
    char key[8];
    unsigned spills = 0;
    struct hearth_store *store = store_open(history->path, LIMIT);
    for (unsigned k = 0; k < KEYS; k++) {
        const struct expected *expected = &history->keys[k];
        snprintf(key, sizeof key, "key%u", k);
        assert_int_equal(get_record(store, key),
                         expected->record ? expected->record : HEARTH_E_MISSING);
        int got = open_spill(store, key);
        check_spill(expected, got, damage);
        spills += got != HEARTH_E_MISSING;
    }
    assert_int_equal(folder_count(history->spills), spills);
    hearth_store_close(store);
}

static void begin(struct history *history)
{
    *history = (struct history){0};
    test_folder_make_in_memory(history->path);
    snprintf(history->spills, sizeof history->spills, "%s/spills", history->path);
}

/* Opens a store while something may fail, works with it and closes it. */
static void live(struct history *history, bool unthreaded)
{
    struct hearth_store_options options = {.directory = history->path, .bytes_max = LIMIT};
    struct hearth_store *store = NULL;
    struct hearth_error err = {0};
    int status = unthreaded ? disk_store_open_unthreaded(&options, &store, &err)
                            : hearth_store_open(&options, &store, &err);
    if (status) {
        assert_null(store);
        assert_int_equal(err.code, status);
        assert_non_null(strstr(err.text, history->path));
        history->failed++;
        return;
    }
    work(history, store, unthreaded);
    hearth_store_close(store);
}

/* The same on a file system without files that have no name. */
static enum os_file_fault decide_without_unnamed(void *context, enum os_file_call call)
{
    if (call == OS_FILE_CREATE_UNNAMED)
        return OS_FAULT_UNSUPPORTED;
    return decide(context, call);
}

static void fail_each_file_call(enum os_file_fault fault, bool unnamed)
{
    unsigned descriptors = descriptors_open();
    unsigned long failed = 0;
    for (unsigned long at = 1;; at++) {
        struct history history;
        struct plan plan = {.fault = fault, .at = at};
        struct os_file_faults faults = {unnamed ? decide : decide_without_unnamed, &plan};
        begin(&history);
        os_file_faults(&faults);
        live(&history, true);
        os_file_faults(NULL);
        check(&history, fault == OS_FAULT_DAMAGE);
        assert_int_equal(descriptors_open(), descriptors);
        test_folder_remove(history.path);
        failed += history.failed > 0;
        if (plan.calls < at) {
            assert_int_equal(history.failed, 0);
            print_message("%lu calls, %lu of them seen to fail\n", at - 1, failed);
            break;
        }
    }
}

static void any_file_call_may_fail(void **state)
{
    (void)state;
    fail_each_file_call(OS_FAULT_IO, true);
}

static void the_disk_may_be_full_at_any_file_call(void **state)
{
    (void)state;
    fail_each_file_call(OS_FAULT_FULL, true);
}

static void short_reads_and_writes_are_gone_on_with(void **state)
{
    (void)state;
    fail_each_file_call(OS_FAULT_SHORT, true);
}

static void damage_is_found_by_the_sum(void **state)
{
    (void)state;
    fail_each_file_call(OS_FAULT_DAMAGE, true);
}

static void any_call_may_fail_where_files_have_names(void **state)
{
    (void)state;
    fail_each_file_call(OS_FAULT_NONE, false);
    fail_each_file_call(OS_FAULT_IO, false);
}

static void the_thread_may_meet_a_failure(void **state)
{
    (void)state;
    unsigned descriptors = descriptors_open();
    unsigned long failed = 0;
    for (unsigned long at = 1; at < 120; at++) {
        struct history history;
        struct plan plan = {.fault = at % 2 ? OS_FAULT_IO : OS_FAULT_FULL, .at = at};
        struct os_file_faults faults = {decide, &plan};
        begin(&history);
        struct hearth_store *store = store_open(history.path, LIMIT);
        os_file_faults(&faults);
        work(&history, store, false);
        hearth_store_close(store);
        os_file_faults(NULL);
        check(&history, false);
        assert_int_equal(descriptors_open(), descriptors);
        test_folder_remove(history.path);
        failed += history.failed > 0;
    }
    print_message("%lu of them seen to fail\n", failed);
}

static void any_call_of_sqlite_may_fail(void **state)
{
    (void)state;
    static const enum os_file_fault causes[] = {OS_FAULT_IO, OS_FAULT_FULL};
    unsigned descriptors = descriptors_open();
    for (unsigned i = 0; i < 2; i++) {
        unsigned long failed = 0, at = 0;
        do {
            struct history history;
            begin(&history);
            sqlite_calls.plan = (struct plan){.fault = causes[i], .at = ++at};
            live(&history, true);
            bool reached = sqlite_calls.plan.calls >= at;
            sqlite_calls.plan.at = 0;
            check(&history, false);
            assert_int_equal(descriptors_open(), descriptors);
            test_folder_remove(history.path);
            failed += history.failed > 0;
            if (!reached)
                break;
        } while (true);
        print_message("%lu calls, %lu of them seen to fail\n", at - 1, failed);
    }
}

/* A store whose database wants to be rebuilt, with all records whole. */
static void begin_damaged(struct history *history)
{
    char path[100];
    sqlite3 *handle = NULL;
    begin(history);
    struct hearth_store *store = store_open_unthreaded(history->path, LIMIT);
    for (unsigned k = 0; k < KEYS; k++)
        do_put(history, store, k, 5);
    hearth_store_close(store);
    snprintf(path, sizeof path, "%s/conversations.db", history->path);
    assert_int_equal(sqlite3_open(path, &handle), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, "DROP INDEX spill_used", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void open_and_close(struct history *history)
{
    struct hearth_store_options options = {.directory = history->path, .bytes_max = LIMIT};
    struct hearth_store *store = NULL;
    struct hearth_error err = {0};
    if (hearth_store_open(&options, &store, &err) == 0)
        hearth_store_close(store);
    else
        history->failed++;
}

static void a_database_is_rebuilt_whatever_failed_before(void **state)
{
    (void)state;
    unsigned descriptors = descriptors_open();
    for (int sqlite = 0; sqlite < 2; sqlite++) {
        unsigned long failed = 0, at = 0;
        for (bool reached = true; reached;) {
            struct history history;
            struct plan plan = {.fault = OS_FAULT_IO, .at = ++at};
            struct os_file_faults faults = {decide, &plan};
            begin_damaged(&history);
            if (sqlite)
                sqlite_calls.plan = plan;
            else
                os_file_faults(&faults);
            open_and_close(&history);
            os_file_faults(NULL);
            reached = (sqlite ? sqlite_calls.plan.calls : plan.calls) >= at;
            sqlite_calls.plan.at = 0;
            check(&history, false);
            assert_true(file_size(history.path, "damaged-1.db") > 0);
            assert_int_equal(file_size(history.path, "rebuilt.db"), -1);
            assert_int_equal(descriptors_open(), descriptors);
            test_folder_remove(history.path);
            failed += history.failed > 0;
        }
        print_message("%lu calls, %lu of them seen to fail\n", at - 1, failed);
        assert_true(failed > 0);
    }
}

static void any_allocation_may_fail(void **state)
{
    (void)state;
    unsigned descriptors = descriptors_open();
    for (unsigned long at = 1; at < 60; at++) {
        struct history history;
        begin(&history);
        mem_fail_nth(at);
        live(&history, true);
        mem_fail_nth(0);
        check(&history, false);
        assert_int_equal(descriptors_open(), descriptors);
        test_folder_remove(history.path);
    }
}

static void any_allocation_of_sqlite_may_fail(void **state)
{
    (void)state;
    unsigned descriptors = descriptors_open();
    unsigned long failed = 0, at = 1;
    for (bool reached = true; reached; at += 1 + at / 50) {
        struct history history;
        begin(&history);
        sqlite_memory.calls = 0;
        sqlite_memory.at = at;
        live(&history, true);
        reached = sqlite_memory.calls >= at;
        sqlite_memory.at = 0;
        check(&history, false);
        assert_int_equal(descriptors_open(), descriptors);
        test_folder_remove(history.path);
        failed += history.failed > 0;
    }
    print_message("%lu allocations, %lu of those tried were seen to fail\n", at, failed);
}

int main(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &sqlite_memory.methods);
    sqlite3_mem_methods methods = sqlite_memory.methods;
    methods.xMalloc = faulty_malloc;
    methods.xRealloc = faulty_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
    replace_sqlite_calls();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_file_call_may_fail),
        cmocka_unit_test(the_disk_may_be_full_at_any_file_call),
        cmocka_unit_test(short_reads_and_writes_are_gone_on_with),
        cmocka_unit_test(damage_is_found_by_the_sum),
        cmocka_unit_test(any_call_may_fail_where_files_have_names),
        cmocka_unit_test(the_thread_may_meet_a_failure),
        cmocka_unit_test(any_call_of_sqlite_may_fail),
        cmocka_unit_test(a_database_is_rebuilt_whatever_failed_before),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(any_allocation_of_sqlite_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
