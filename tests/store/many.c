/* Many conversations are listed and found as fast as few.
 *   test_store_many [RECORDS] */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/os.h"
#include "store/disk_store.h"
#include "store/store_material.h"

static bool count_entry(void *context, const struct hearth_store_entry *entry)
{
    (void)entry;
    ++*(unsigned *)context;
    return true;
}

static double seconds_since(uint64_t *begin)
{
    uint64_t end = os_monotonic_ns();
    double seconds = (double)(end - *begin) / 1e9;
    *begin = end;
    return seconds;
}

/* Seconds to find a record among all, on average. */
static double find(struct hearth_store *store, unsigned records)
{
    char key[16];
    uint64_t begin = os_monotonic_ns();
    for (unsigned i = 0; i < 1000; i++) {
        unsigned k = i * 7919 % records;
        snprintf(key, sizeof key, "%u", k);
        assert_int_equal(get_record(store, key), k);
    }
    return seconds_since(&begin) / 1000;
}

static void put(struct hearth_store *store, unsigned from, unsigned to)
{
    char key[16];
    for (unsigned i = from; i < to; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(store, key, i, 300), 0);
    }
}

static void many_are_found_and_listed_fast(void **state)
{
    unsigned records = *(const unsigned *)*state, listed = 0;
    char path[64];
    test_folder_make_in_memory(path);
    struct hearth_store *store = store_open(path, 0);
    put(store, 0, 1000);
    double few = find(store, 1000);
    uint64_t begin = os_monotonic_ns();
    put(store, 1000, records);
    double putting = seconds_since(&begin) / (records - 1000);
    double finding = find(store, records);
    seconds_since(&begin);
    hearth_store_close(store);
    double closing = seconds_since(&begin);
    store = store_open(path, 0);
    double opening = seconds_since(&begin);
    assert_int_equal(hearth_store_list(store, count_entry, &listed, NULL), 0);
    double listing = seconds_since(&begin);
    assert_int_equal(listed, records);
    print_message("%u records: put in %.1f us, found in %.1f us (of 1000: %.1f), listed in %.3f s, "
                  "closed in %.3f s, opened in %.3f s\n",
                  records, putting * 1e6, finding * 1e6, few * 1e6, listing, closing, opening);
    /* far from what a walk through all of them would take */
    assert_true(finding < 20 * few + 1e-4);
    assert_true(listing < 2 + 40e-6 * records);
    assert_true(opening < 2 + 40e-6 * records);
    hearth_store_close(store);
    test_folder_remove(path);
}

int main(int argc, char **argv)
{
    unsigned records = argc > 1 ? (unsigned)atoi(argv[1]) : 100000;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(many_are_found_and_listed_fast, &records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
