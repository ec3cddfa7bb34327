/* A disk that is full: spills give way, records are put as long as anything else can go, and
 * nothing that was there is lost. On a small file system in memory, which a process may make for
 * itself where the system lets users have namespaces; skipped elsewhere. */

#define _GNU_SOURCE
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/disk_store.h"
#include "store/store_material.h"

#define MIB ((size_t)1 << 20)
#define SKIPPED 77

static unsigned put_until_full(struct hearth_store *store, unsigned from)
{
    char key[16];
    for (unsigned i = from;; i++) {
        snprintf(key, sizeof key, "%u", i);
        int status = put_record(store, key, i, MIB);
        if (status) {
            assert_int_equal(status, HEARTH_E_LIMIT);
            return i;
        }
    }
}

static void check_all(struct hearth_store *store, unsigned count)
{
    char key[16];
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(get_record(store, key), i);
    }
}

static void fill_disk(const char *path)
{
    char *other = calloc(1, 10 * MIB);
    memset(other, 'x', 10 * MIB - 1);
    file_write(path, "other", other);
    free(other);
    struct hearth_store *store = store_open(path, (uint64_t)1 << 30);
    char key[16], name[80];
    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(store, key, i, 1000), 0);
        assert_int_equal(put_spill(store, key, i, 5 * MIB), 0);
    }
    disk_store_settle(store);
    /* of 90 MiB, 64 are left to records */
    uint64_t bytes = disk_store_bytes(store);
    assert_true(bytes >= 20 * MIB && bytes <= 26 * MIB);
    assert_int_equal(put_spill(store, "0", 0, 40 * MIB), HEARTH_E_LIMIT);
    assert_int_equal(disk_store_bytes(store), 0); /* all had gone when that was known */
    assert_int_equal(put_spill(store, "0", 0, 20 * MIB), 0);
    unsigned count = put_until_full(store, 10);
    assert_true(count > 10 + 70 / 2); /* a record is in the WAL and in the database */
    assert_int_equal(disk_store_bytes(store), 0);
    check_all(store, count);
    assert_int_equal(put_spill(store, "0", 0, 1000), HEARTH_E_LIMIT);
    hearth_store_close(store);

    store = store_open(path, (uint64_t)1 << 30);
    check_all(store, count);
    /* removing needs a little room, and gives back what it frees */
    snprintf(name, sizeof name, "%s/other", path);
    assert_int_equal(unlink(name), 0);
    for (unsigned i = count; i-- > count - 30;) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(hearth_store_remove(store, key, NULL), 0);
    }
    assert_int_equal(put_record(store, "0", 0, 30 * MIB), 0);
    check_all(store, count - 30);
    hearth_store_close(store);
    store = store_open(path, (uint64_t)1 << 30);
    check_all(store, count - 30);
    hearth_store_close(store);
}

static void a_full_disk_loses_nothing(void **state)
{
    (void)state;
    char path[64];
    int status;
    test_folder_make(path);
    fflush(stdout);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        unsigned user = geteuid();
        if (unshare(user ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) != 0)
            _exit(SKIPPED);
        if (user) {
            char map[64];
            snprintf(map, sizeof map, "%u %u 1\n", user, user);
            file_write("/proc/self", "uid_map", map);
        }
        if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", path, "tmpfs", 0, "size=100m,mode=0700") != 0)
            _exit(SKIPPED);
        fill_disk(path);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    test_folder_remove(path);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
