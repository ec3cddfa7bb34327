/* The store on a disk: records, spills, what is refused, what is found damaged. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "store/disk_store.h"
#include "store/store_material.h"

#define LIMIT ((uint64_t)1 << 30)

struct place {
    char path[64], spills[80];
    struct hearth_store *store;
    unsigned descriptors;
};

static int enter(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    place->descriptors = descriptors_open();
    test_folder_make(place->path);
    snprintf(place->spills, sizeof place->spills, "%s/spills", place->path);
    place->store = store_open(place->path, LIMIT);
    *state = place;
    return 0;
}

static int leave(void **state)
{
    struct place *place = *state;
    hearth_store_close(place->store);
    assert_int_equal(descriptors_open(), place->descriptors);
    test_folder_remove(place->path);
    free(place);
    return 0;
}

static void reopen(struct place *place, uint64_t bytes_max)
{
    hearth_store_close(place->store);
    place->store = store_open(place->path, bytes_max);
}

/* ---- records ---- */

static void records_are_put_and_got(void **state)
{
    struct place *place = *state;
    struct hearth_store *store = place->store;
    assert_int_equal(get_record(store, "a"), HEARTH_E_MISSING);
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    assert_int_equal(put_record(store, "b", 2, 4), 0);
    assert_int_equal(get_record(store, "a"), 1);
    assert_int_equal(put_record(store, "a", 3, 1000000), 0);
    assert_int_equal(get_record(store, "a"), 3);
    assert_int_equal(get_record(store, "b"), 2);
    reopen(place, LIMIT);
    store = place->store;
    assert_int_equal(get_record(store, "a"), 3);
    assert_int_equal(get_record(store, "b"), 2);
    assert_int_equal(hearth_store_remove(store, "a", NULL), 0);
    assert_int_equal(hearth_store_remove(store, "a", NULL), HEARTH_E_MISSING);
    assert_int_equal(get_record(store, "a"), HEARTH_E_MISSING);
    assert_int_equal(get_record(store, "b"), 2);
}

static void keys_are_any_text(void **state)
{
    struct place *place = *state;
    char longest[257], longer[258];
    memset(longest, 'k', 256);
    longest[256] = '\0';
    memset(longer, 'k', 257);
    longer[257] = '\0';
    static const char *const keys[] = {
        "../../etc/passwd", "' OR 1 --", "a b\n\t", "\xc3\xa4\xf0\x9f\x94\xa5", "%s%n", "A", "a"};
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_int_equal(put_record(place->store, keys[i], i, 50), 0);
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
        assert_int_equal(get_record(place->store, keys[i]), i);
    assert_int_equal(put_record(place->store, longest, 9, 50), 0);
    assert_int_equal(get_record(place->store, longest), 9);
    assert_int_equal(put_record(place->store, longer, 9, 50), HEARTH_E_ARGUMENT);
    assert_int_equal(put_record(place->store, "", 9, 50), HEARTH_E_ARGUMENT);
    assert_int_equal(get_record(place->store, longer), HEARTH_E_MISSING);
}

static void an_empty_record_is_one(void **state)
{
    struct place *place = *state;
    struct buffer record;
    struct store_summary summary = {.model = ""};
    struct hearth_store *store = place->store;
    assert_int_equal(store->calls->put(store, "a", (struct text){NULL, 0}, &summary, NULL), 0);
    buffer_init(&record, 100);
    assert_int_equal(store->calls->get(store, "a", &record, NULL), 0);
    assert_int_equal(record.size, 0);
    buffer_finish(&record);
}

static void a_record_that_is_larger_than_its_reader_allows_is_a_limit(void **state)
{
    struct place *place = *state;
    struct buffer record;
    assert_int_equal(put_record(place->store, "a", 1, 101), 0);
    buffer_init(&record, 100);
    assert_int_equal(place->store->calls->get(place->store, "a", &record, NULL), HEARTH_E_LIMIT);
    buffer_finish(&record);
}

/* ---- lists ---- */

struct seen {
    struct hearth_store *store;
    unsigned count, until, wrong;
    int64_t last;
};

static bool see(void *context, const struct hearth_store_entry *entry)
{
    struct seen *seen = context;
    seen->wrong += entry->used_unix > seen->last || entry->tokens != 10 * entry->messages ||
                   strcmp(entry->model, "0123456789abcdef0123456789abcdef") != 0 ||
                   strcmp(entry->model_name, "A model") != 0;
    seen->last = entry->used_unix;
    return ++seen->count != seen->until;
}

static void lists_begin_with_the_latest(void **state)
{
    struct place *place = *state;
    char key[16];
    for (unsigned i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(place->store, key, (i * 37) % 300, 20), 0);
    }
    struct seen seen = {.last = INT64_MAX};
    assert_int_equal(hearth_store_list(place->store, see, &seen, NULL), 0);
    assert_int_equal(seen.count, 300);
    assert_int_equal(seen.wrong, 0);
    seen = (struct seen){.last = INT64_MAX, .until = 70};
    assert_int_equal(hearth_store_list(place->store, see, &seen, NULL), 0);
    assert_int_equal(seen.count, 70);
}

static bool remove_seen(void *context, const struct hearth_store_entry *entry)
{
    struct seen *seen = context;
    seen->count++;
    return hearth_store_remove(seen->store, entry->key, NULL) == 0;
}

static void a_visit_may_use_the_store(void **state)
{
    struct place *place = *state;
    char key[16];
    for (unsigned i = 0; i < 200; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(place->store, key, 7, 20), 0); /* all at the same time */
    }
    struct seen seen = {.store = place->store};
    assert_int_equal(hearth_store_list(place->store, remove_seen, &seen, NULL), 0);
    assert_int_equal(seen.count, 200);
    seen.count = 0;
    assert_int_equal(hearth_store_list(place->store, remove_seen, &seen, NULL), 0);
    assert_int_equal(seen.count, 0);
}

static bool see_spill(void *context, const struct hearth_store_entry *entry)
{
    *(struct hearth_store_entry *)context = *entry;
    return true;
}

static void lists_say_what_lies_on_the_disk(void **state)
{
    struct place *place = *state;
    struct hearth_store_entry entry = {0};
    assert_int_equal(put_record(place->store, "a", 3, 1234), 0);
    assert_int_equal(put_spill(place->store, "a", 5, 5678), 0);
    disk_store_settle(place->store);
    assert_int_equal(hearth_store_list(place->store, see_spill, &entry, NULL), 0);
    assert_int_equal(entry.record_bytes, 1234);
    assert_int_equal(entry.spill_bytes, 5678);
    assert_int_equal(entry.spill_tokens, 5);
    assert_int_equal(entry.messages, 3);
}

/* ---- spills ---- */

static void spills_are_kept_and_replaced(void **state)
{
    struct place *place = *state;
    struct hearth_store *store = place->store;
    assert_int_equal(put_spill(store, "a", 1, 1000), HEARTH_E_MISSING);
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    assert_int_equal(open_spill(store, "a"), HEARTH_E_MISSING);
    for (unsigned i = 1; i < 20; i++) {
        assert_int_equal(put_spill(store, "a", i, 1000 * i), 0);
        assert_int_equal(open_spill(store, "a"), i); /* on its way, or there */
    }
    disk_store_settle(store);
    assert_int_equal(open_spill(store, "a"), 19);
    assert_int_equal(folder_count(place->spills), 1);
    assert_int_equal(disk_store_bytes(store), 19000);
    reopen(place, LIMIT);
    store = place->store;
    assert_int_equal(open_spill(store, "a"), 19);
    assert_int_equal(disk_store_bytes(store), 19000);
    store->calls->spill_drop(store, "a");
    assert_int_equal(open_spill(store, "a"), HEARTH_E_MISSING);
    assert_int_equal(get_record(store, "a"), 1);
    assert_int_equal(folder_count(place->spills), 0);
    assert_int_equal(disk_store_bytes(store), 0);
}

static void a_removed_conversation_has_no_spill(void **state)
{
    struct place *place = *state;
    struct hearth_store *store = place->store;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(put_record(store, "a", i, 100), 0);
        assert_int_equal(put_spill(store, "a", i, 50000), 0);
        if (i % 2)
            disk_store_settle(store);
        assert_int_equal(hearth_store_remove(store, "a", NULL), 0);
        assert_int_equal(open_spill(store, "a"), HEARTH_E_MISSING);
    }
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    disk_store_settle(store);
    assert_int_equal(open_spill(store, "a"), HEARTH_E_MISSING);
    assert_int_equal(folder_count(place->spills), 0);
    assert_int_equal(disk_store_bytes(store), 0);
}

static void what_is_on_its_way_is_kept_when_the_store_is_closed(void **state)
{
    struct place *place = *state;
    char key[16];
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(place->store, key, i, 100), 0);
        assert_int_equal(put_spill(place->store, key, i, 100000), 0);
    }
    reopen(place, LIMIT);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(open_spill(place->store, key), i);
    }
}

static void files_that_are_not_kept_leave_nothing(void **state)
{
    struct place *place = *state;
    int fd = -1;
    struct hearth_store *store = place->store;
    assert_int_equal(store->calls->spill_create(store, 5000, &fd, NULL), 0);
    assert_int_equal(folder_count(place->spills), 0);
    assert_int_equal(disk_store_bytes(store), 5000);
    assert_int_equal(os_file_write(fd, "x", 1, NULL), 0);
    os_file_close(fd);
    assert_int_equal(disk_store_bytes(store), 0);
}

static void a_file_that_is_not_what_was_said_is_not_kept(void **state)
{
    struct place *place = *state;
    int fd = -1;
    struct hearth_store *store = place->store;
    struct store_spill spill = {.bytes = 10};
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    assert_int_equal(store->calls->spill_create(store, 10, &fd, NULL), 0);
    assert_int_equal(os_file_write(fd, "x", 1, NULL), 0);
    assert_int_equal(store->calls->spill_keep(store, "a", fd, &spill, NULL), HEARTH_E_IO);
    assert_int_equal(store->calls->spill_create(store, 5, &fd, NULL), 0);
    assert_int_equal(os_file_write(fd, "0123456789", 10, NULL), 0);
    assert_int_equal(store->calls->spill_keep(store, "a", fd, &spill, NULL), HEARTH_E_LIMIT);
    fd = os_file_create_unnamed(place->path, NULL);
    assert_int_equal(os_file_write(fd, "0123456789", 10, NULL), 0);
    assert_int_equal(store->calls->spill_keep(store, "a", fd, &spill, NULL), HEARTH_E_ARGUMENT);
    assert_int_equal(open_spill(store, "a"), HEARTH_E_MISSING);
    assert_int_equal(disk_store_bytes(store), 0);
}

/* ---- the folder ---- */

static void folder_and_files_are_the_users_alone(void **state)
{
    struct place *place = *state;
    char inner[80], deep[100], name[256], spills[120];
    static const mode_t masks[] = {0, 022, 077, 0277, 0777};
    for (unsigned i = 0; i < sizeof masks / sizeof masks[0]; i++) {
        snprintf(inner, sizeof inner, "%s/x%u", place->path, i);
        snprintf(deep, sizeof deep, "%s/y", inner);
        snprintf(spills, sizeof spills, "%s/spills", deep);
        mode_t before = umask(masks[i]);
        struct hearth_store *store = store_open(deep, LIMIT);
        assert_int_equal(put_record(store, "a", 1, 100), 0);
        assert_int_equal(put_spill(store, "a", 1, 100), 0);
        disk_store_settle(store);
        umask(before);
        assert_int_equal(file_mode(place->path, inner + strlen(place->path) + 1), 0700);
        assert_int_equal(file_mode(inner, "y"), 0700);
        assert_int_equal(file_mode(deep, "spills"), 0700);
        assert_int_equal(file_mode(deep, "lock"), 0600);
        assert_int_equal(file_mode(deep, "conversations.db"), 0600);
        assert_int_equal(file_mode(deep, "conversations.db-wal"), 0600);
        file_only(spills, name);
        assert_int_equal(file_mode(spills, name), 0600);
        assert_int_equal(folder_count(deep), 4);
        hearth_store_close(store);
        assert_int_equal(folder_count(deep), 3);
    }
}

static void refused(const char *directory, int code, const char *part)
{
    struct hearth_store_options options = {.directory = directory};
    struct hearth_store *store = NULL;
    struct hearth_error err = {0};
    assert_int_equal(hearth_store_open(&options, &store, &err), code);
    assert_null(store);
    if (!strstr(err.text, part) || !strstr(err.text, directory))
        fail_msg("'%s' does not say '%s'", err.text, part);
}

static void folders_of_others_are_refused(void **state)
{
    struct place *place = *state;
    char inner[80];
    snprintf(inner, sizeof inner, "%s/open", place->path);
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_int_equal(chmod(inner, 0770), 0);
    refused(inner, HEARTH_E_ARGUMENT, "other users may write");
    assert_int_equal(chmod(inner, 0702), 0);
    refused(inner, HEARTH_E_ARGUMENT, "other users may write");
    assert_int_equal(folder_count(inner), 0);
    assert_int_equal(chmod(inner, 0755), 0);
    hearth_store_close(store_open(inner, LIMIT));
    if (geteuid() == 0) {
        assert_int_equal(chown(inner, 12345, 0), 0);
        refused(inner, HEARTH_E_ARGUMENT, "another user");
    }
    file_write(place->path, "file", "");
    snprintf(inner, sizeof inner, "%s/file", place->path);
    refused(inner, HEARTH_E_IO, "folder");
}

static void one_process_at_a_time(void **state)
{
    struct place *place = *state;
    refused(place->path, HEARTH_E_STATE, "is used by this process");
    assert_int_equal(put_record(place->store, "a", 1, 100), 0);
}

static void a_folder_may_be_named_like_an_address(void **state)
{
    struct place *place = *state;
    char here[512];
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(place->path), 0);
    struct hearth_store *store = store_open("file:odd?mode=memory", LIMIT);
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    hearth_store_close(store);
    assert_true(file_size("file:odd?mode=memory", "conversations.db") > 0);
    assert_int_equal(chdir(here), 0);
}

/* ---- the limit ---- */

static void the_least_recently_used_spills_give_way(void **state)
{
    struct place *place = *state;
    char key[16];
    reopen(place, 10000);
    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(put_record(place->store, key, i, 100), 0);
        assert_int_equal(put_spill(place->store, key, i, 1000), 0);
    }
    disk_store_settle(place->store);
    assert_int_equal(disk_store_bytes(place->store), 10000);
    assert_int_equal(put_record(place->store, "0", 99, 100), 0); /* used again */
    assert_int_equal(put_record(place->store, "new", 1, 100), 0);
    assert_int_equal(put_spill(place->store, "new", 1, 2500), 0);
    disk_store_settle(place->store);
    assert_int_equal(disk_store_bytes(place->store), 9500);
    for (unsigned i = 0; i < 10; i++) {
        snprintf(key, sizeof key, "%u", i);
        assert_int_equal(open_spill(place->store, key),
                         i >= 1 && i <= 3 ? HEARTH_E_MISSING : (int)i);
        assert_int_equal(get_record(place->store, key), i == 0 ? 99 : i);
    }
    assert_int_equal(put_spill(place->store, "new", 1, 10001), HEARTH_E_LIMIT);
    assert_int_equal(put_spill(place->store, "new", 2, 10000), 0);
    disk_store_settle(place->store);
    assert_int_equal(folder_count(place->spills), 1);
    assert_int_equal(open_spill(place->store, "new"), 2);
    reopen(place, 9999);
    assert_int_equal(folder_count(place->spills), 0);
    assert_int_equal(open_spill(place->store, "new"), HEARTH_E_MISSING);
    assert_int_equal(disk_store_bytes(place->store), 0);
    assert_int_equal(get_record(place->store, "new"), 1);
}

static void files_that_are_being_written_count(void **state)
{
    struct place *place = *state;
    int fd[3];
    struct hearth_store *store;
    reopen(place, 10000);
    store = place->store;
    assert_int_equal(put_record(store, "a", 1, 100), 0);
    assert_int_equal(put_spill(store, "a", 1, 6000), 0);
    assert_int_equal(store->calls->spill_create(store, 4000, &fd[0], NULL), 0);
    assert_int_equal(store->calls->spill_create(store, 4000, &fd[1], NULL), 0);
    assert_int_equal(open_spill(store, "a"), HEARTH_E_MISSING);
    assert_int_equal(store->calls->spill_create(store, 4000, &fd[2], NULL), HEARTH_E_LIMIT);
    os_file_close(fd[0]);
    assert_int_equal(store->calls->spill_create(store, 4000, &fd[2], NULL), 0);
    os_file_close(fd[1]);
    os_file_close(fd[2]);
}

/* ---- what was found damaged ---- */

static void orphans_are_removed(void **state)
{
    struct place *place = *state;
    assert_int_equal(put_record(place->store, "a", 1, 100), 0);
    assert_int_equal(put_spill(place->store, "a", 1, 1000), 0);
    hearth_store_close(place->store);
    file_write(place->spills, "0123456789abcdef0123456789abcdef", "orphan");
    file_write(place->spills, "new-0123456789abcdef0123456789abcdef", "left over");
    file_write(place->spills, "notes.txt", "not ours");
    place->store = store_open(place->path, LIMIT);
    assert_int_equal(folder_count(place->spills), 2);
    assert_true(file_size(place->spills, "notes.txt") > 0);
    assert_int_equal(open_spill(place->store, "a"), 1);
}

static void spills_without_their_file_are_forgotten(void **state)
{
    struct place *place = *state;
    char name[256], path[400];
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(put_record(place->store, "a", 1, 100), 0);
        assert_int_equal(put_spill(place->store, "a", i, 1000), 0);
        disk_store_settle(place->store);
        if (i == 1)
            hearth_store_close(place->store);
        file_only(place->spills, name);
        if (i == 2) {
            file_cut(place->spills, name, 999);
        } else {
            snprintf(path, sizeof path, "%s/%s", place->spills, name);
            assert_int_equal(unlink(path), 0);
        }
        if (i == 1)
            place->store = store_open(place->path, LIMIT);
        assert_int_equal(open_spill(place->store, "a"),
                         i == 2 ? HEARTH_E_FORMAT : HEARTH_E_MISSING);
        assert_int_equal(open_spill(place->store, "a"), HEARTH_E_MISSING);
        assert_int_equal(disk_store_bytes(place->store), 0);
        assert_int_equal(folder_count(place->spills), 0);
    }
}

static void damaged_spills_are_found_by_their_sum(void **state)
{
    struct place *place = *state;
    char name[256];
    assert_int_equal(put_record(place->store, "a", 1, 100), 0);
    assert_int_equal(put_spill(place->store, "a", 1, 1000), 0);
    disk_store_settle(place->store);
    file_only(place->spills, name);
    for (int64_t at = 0; at < 1000; at += 7) {
        file_flip(place->spills, name, at);
        assert_int_equal(open_spill(place->store, "a"), HEARTH_E_FORMAT);
        file_flip(place->spills, name, at);
    }
    assert_int_equal(open_spill(place->store, "a"), 1);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, enter, leave)
    const struct CMUnitTest tests[] = {
        CASE(records_are_put_and_got),
        CASE(keys_are_any_text),
        CASE(an_empty_record_is_one),
        CASE(a_record_that_is_larger_than_its_reader_allows_is_a_limit),
        CASE(lists_begin_with_the_latest),
        CASE(a_visit_may_use_the_store),
        CASE(lists_say_what_lies_on_the_disk),
        CASE(spills_are_kept_and_replaced),
        CASE(a_removed_conversation_has_no_spill),
        CASE(what_is_on_its_way_is_kept_when_the_store_is_closed),
        CASE(files_that_are_not_kept_leave_nothing),
        CASE(a_file_that_is_not_what_was_said_is_not_kept),
        CASE(folder_and_files_are_the_users_alone),
        CASE(folders_of_others_are_refused),
        CASE(one_process_at_a_time),
        CASE(a_folder_may_be_named_like_an_address),
        CASE(the_least_recently_used_spills_give_way),
        CASE(files_that_are_being_written_count),
        CASE(orphans_are_removed),
        CASE(spills_without_their_file_are_forgotten),
        CASE(damaged_spills_are_found_by_their_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
