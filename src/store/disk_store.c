#include "store/disk_store.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "store/database.h"
#include "store/database_place.h"
#include "store/spill_folder.h"

#define BYTES_MAX_DEFAULT ((uint64_t)8 << 30)
/* Files that wait for the disk, with their descriptors; one more waits itself. */
#define PENDING_MAX 64
/* Spills leave so much of the disk to records: they can be computed again. */
#define FREE_BYTES_MIN ((uint64_t)64 << 20)

/* A file on its way to be a spill. */
struct pending {
    struct pending *next;
    struct spill_given file;
    struct store_spill spill;
    bool dropped; /* nobody wants it any more */
    char key[DATABASE_KEY_MAX + 1];
};

struct disk_store {
    struct hearth_store base;
    int folder, lock;
    struct os_mutex *mutex; /* guards what follows; no file is synced under it */
    struct database *database;
    struct spill_folder spills;
    uint64_t bytes_max, bytes_kept;
    struct pending *first, **last; /* the first is being worked on */

    bool suspect; /* all of the database is checked when it is opened again */
    bool unthreaded, ending;
    struct os_thread *thread; /* from the first spill on */
    _Atomic uint32_t given;   /* counts what was given to the thread, which sleeps on it */
    _Atomic uint32_t done;    /* counts what it has done */
};

static struct disk_store *of(struct hearth_store *store)
{
    return (struct disk_store *)store;
}

/* Begins and ends what needs the mutex. */
static struct disk_store *enter(struct hearth_store *base)
{
    struct disk_store *store = of(base);
    os_mutex_lock(store->mutex);
    return store;
}

static void leave(struct disk_store *store)
{
    if (!store->suspect && database_is_damaged(store->database)) {
        store->suspect = true;
        database_place_suspect(store->folder);
    }
    os_mutex_unlock(store->mutex);
}

/* ---- room ---- */

static uint64_t pending_bytes(const struct disk_store *store)
{
    uint64_t bytes = 0;
    for (const struct pending *at = store->first; at; at = at->next)
        bytes += at->file.bytes;
    return bytes;
}

static unsigned pending_count(const struct disk_store *store)
{
    unsigned count = 0;
    for (const struct pending *at = store->first; at; at = at->next)
        count++;
    return count;
}

static uint64_t bytes_in_use(struct disk_store *store)
{
    return store->bytes_kept + pending_bytes(store) + spill_folder_given_bytes(&store->spills);
}

static void count_out(struct disk_store *store, const struct spill_row *row)
{
    store->bytes_kept -=
        row->spill.bytes < store->bytes_kept ? row->spill.bytes : store->bytes_kept;
}

/* Removes a spill. The file goes first: where the disk is full, its room is needed to write to the
 * database that it is gone. */
static int forget_spill(struct disk_store *store, const struct spill_row *row,
                        struct hearth_error *err)
{
    if (row->file[0])
        spill_folder_remove(&store->spills, row->file);
    int status = database_remove_spill(store->database, row->id, err);
    if (!status)
        count_out(store, row);
    return status;
}

/* Removes the spill that was used longest ago. HEARTH_E_MISSING: there is none. */
static int evict(struct disk_store *store, struct hearth_error *err)
{
    struct spill_row row;
    int status = database_oldest_spill(store->database, &row, err);
    return status ? status : forget_spill(store, &row, err);
}

static int no_room(struct disk_store *store, uint64_t bytes, uint64_t limit,
                   struct hearth_error *err)
{
    if (limit == store->bytes_max)
        return error_set(err, HEARTH_E_LIMIT,
                         "%" PRIu64 " bytes of a conversation have no room on the disk: the limit "
                         "is %" PRIu64 ", of which %" PRIu64 " are being written",
                         bytes, limit, bytes_in_use(store) - store->bytes_kept);
    return error_set(err, HEARTH_E_LIMIT,
                     "%" PRIu64 " bytes of a conversation have no room on the disk: %" PRIu64
                     " are free, of which spills leave %" PRIu64,
                     bytes, limit, FREE_BYTES_MIN);
}

/* Removes spills until `bytes` more have room, within the limit and on the disk. */
static int make_room(struct disk_store *store, uint64_t bytes, struct hearth_error *err)
{
    for (;;) {
        uint64_t used = bytes_in_use(store), free_bytes = os_folder_free(store->spills.fd);
        bool fits = used <= store->bytes_max && bytes <= store->bytes_max - used;
        bool on_disk = free_bytes >= FREE_BYTES_MIN && bytes <= free_bytes - FREE_BYTES_MIN;
        if (fits && on_disk)
            return 0;
        struct hearth_error cause;
        int status = evict(store, &cause);
        if (status == HEARTH_E_MISSING)
            return no_room(store, bytes, fits ? free_bytes : store->bytes_max, err);
        if (status)
            return error_set(err, status, "%s", cause.text);
    }
}

/* ---- keeping ---- */

/* The newest that waits for a key, if it is still wanted. */
static struct pending *find_pending(struct disk_store *store, const char *key)
{
    struct pending *found = NULL;
    for (struct pending *at = store->first; at; at = at->next) {
        if (!at->dropped && strcmp(at->key, key) == 0)
            found = at;
    }
    return found;
}

/* Those from `at` on. */
static void drop_pending(struct pending *at, const char *key)
{
    for (; at; at = at->next)
        at->dropped = at->dropped || strcmp(at->key, key) == 0;
}

/* The file has its name: makes it the spill. *obsolete becomes the name of the file that is
 * nobody's then. */
static void record_spill(struct disk_store *store, const struct pending *pending,
                         struct spill_row *row, char obsolete[SPILL_FILE_SIZE])
{
    struct spill_row old = {0};
    row->spill = pending->spill;
    if (pending->dropped ||
        database_put_spill(store->database, pending->key, row, &old, NULL) != 0) {
        memcpy(obsolete, row->file, SPILL_FILE_SIZE);
        return;
    }
    store->bytes_kept += row->spill.bytes;
    count_out(store, &old);
    memcpy(obsolete, old.file, SPILL_FILE_SIZE);
}

/* Brings the first file to its end. The mutex is held, but not while the disk is waited for. What
 * fails leaves the spill that was there before: nobody is told, it is as if the disk were slow. */
static void work_on_first(struct disk_store *store)
{
    struct pending *pending = store->first;
    struct spill_row row = {0};
    char obsolete[SPILL_FILE_SIZE] = "";
    bool dropped = pending->dropped;
    os_mutex_unlock(store->mutex);
    int status = dropped ? HEARTH_E_CANCELLED
                         : spill_folder_keep(&store->spills, &pending->file, row.file, NULL);
    os_mutex_lock(store->mutex);
    if (!status)
        record_spill(store, pending, &row, obsolete);
    pending->dropped = true; /* it is found in the database from here on, or nowhere */
    pending->file.bytes = 0;
    os_mutex_unlock(store->mutex);
    if (obsolete[0])
        spill_folder_remove(&store->spills, obsolete);
    spill_folder_discard(&store->spills, &pending->file);
    os_mutex_lock(store->mutex);
    store->first = pending->next;
    if (!store->first)
        store->last = &store->first;
    mem_free(pending);
    atomic_fetch_add(&store->done, 1);
    os_wake(&store->done, UINT32_MAX);
}

static void keep_spills(void *context)
{
    struct disk_store *store = context;
    os_mutex_lock(store->mutex);
    for (;;) {
        while (store->first)
            work_on_first(store);
        if (store->ending)
            break;
        uint32_t seen = atomic_load(&store->given);
        os_mutex_unlock(store->mutex);
        os_wait(&store->given, seen);
        os_mutex_lock(store->mutex);
    }
    os_mutex_unlock(store->mutex);
}

/* Waits until at most so many are on their way; the mutex is held before and after. */
static void wait_until(struct disk_store *store, unsigned count)
{
    while (pending_count(store) > count) {
        if (!store->thread) {
            work_on_first(store);
            continue;
        }
        uint32_t seen = atomic_load(&store->done);
        os_mutex_unlock(store->mutex);
        os_wait(&store->done, seen);
        os_mutex_lock(store->mutex);
    }
}

/* ---- the calls ---- */

static int store_get(struct hearth_store *base, const char *key, struct buffer *record,
                     struct hearth_error *err)
{
    struct disk_store *store = enter(base);
    int status = database_get(store->database, key, record, err);
    leave(store);
    return status;
}

/* A record needs room more than spills do: they give way on a full disk. True to try again. */
static bool give_way(struct disk_store *store, int status)
{
    return status == HEARTH_E_LIMIT && evict(store, NULL) == 0;
}

static int store_put(struct hearth_store *base, const char *key, struct text record,
                     const struct store_summary *summary, struct hearth_error *err)
{
    struct disk_store *store = of(base);
    size_t size = strlen(key);
    if (size == 0 || size > DATABASE_KEY_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "a key has 1 to %d bytes, not %zu",
                         DATABASE_KEY_MAX, size);
    if (record.size > DATABASE_RECORD_MAX)
        return error_set(err, HEARTH_E_LIMIT,
                         "conversation \"%s\" has %zu bytes, more than %zu cannot be kept", key,
                         record.size, DATABASE_RECORD_MAX);
    int status;
    enter(base);
    do {
        status = database_put(store->database, key, record, summary, err);
    } while (give_way(store, status));
    leave(store);
    return status;
}

static int store_remove(struct hearth_store *base, const char *key, struct hearth_error *err)
{
    struct disk_store *store = enter(base);
    struct spill_row row = {0};
    int status;
    do {
        status = database_remove(store->database, key, &row, err);
    } while (give_way(store, status));
    if (!status) {
        drop_pending(store->first, key);
        count_out(store, &row);
        if (row.file[0])
            spill_folder_remove(&store->spills, row.file);
    }
    leave(store);
    return status;
}

static int store_spill_create(struct hearth_store *base, uint64_t bytes, int *fd,
                              struct hearth_error *err)
{
    struct disk_store *store = enter(base);
    wait_until(store, PENDING_MAX);
    int status = make_room(store, bytes, NULL);
    if (status == HEARTH_E_LIMIT && store->first) {
        wait_until(store, 0); /* what is on its way may give way when it has arrived */
        status = HEARTH_E_STATE;
    }
    if (status)
        status = make_room(store, bytes, err);
    if (!status)
        status = spill_folder_create(&store->spills, bytes, fd, err);
    leave(store);
    return status;
}

/* Whether a file is what is said of it, and may be kept for the key. */
static int check_file(struct disk_store *store, const char *key, const struct spill_given *file,
                      const struct store_spill *spill, struct hearth_error *err)
{
    uint64_t size = 0;
    int status = strlen(key) <= DATABASE_KEY_MAX
                     ? database_find(store->database, key, err)
                     : error_set(err, HEARTH_E_MISSING, "no conversation has so long a key");
    if (!status && spill->bytes > file->bytes)
        status = error_set(err, HEARTH_E_LIMIT,
                           "the file has %" PRIu64 " bytes, room was asked for %" PRIu64,
                           spill->bytes, file->bytes);
    if (!status)
        status = os_file_size(file->fd, &size, err);
    if (!status && size != spill->bytes)
        status = error_set(err, HEARTH_E_IO, "the file has %" PRIu64 " bytes, not %" PRIu64, size,
                           spill->bytes);
    if (!status)
        status = os_file_truncate(file->fd, size, err); /* gives back what was reserved beyond */
    return status;
}

/* Makes an element of the queue of a file, which has it then. On failure it is closed. */
static int begin_keeping(struct disk_store *store, const char *key, int fd,
                         const struct store_spill *spill, struct pending **out,
                         struct hearth_error *err)
{
    struct pending *pending = MEM_NEW(struct pending);
    struct spill_given file = {.fd = fd};
    int status = spill_folder_take(&store->spills, fd, &file, err);
    if (!status)
        status = check_file(store, key, &file, spill, err);
    if (!status && !pending)
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a file to be kept");
    if (status) {
        spill_folder_discard(&store->spills, &file);
        mem_free(pending);
        return status;
    }
    file.bytes = spill->bytes;
    pending->file = file;
    pending->spill = *spill;
    memcpy(pending->key, key, strlen(key) + 1);
    *out = pending;
    return 0;
}

static int store_spill_keep(struct hearth_store *base, const char *key, int fd,
                            const struct store_spill *spill, struct hearth_error *err)
{
    struct disk_store *store = enter(base);
    struct pending *pending = NULL;
    int status = begin_keeping(store, key, fd, spill, &pending, err);
    if (!status) {
        /* one that is being worked on may end, else frequent ones would keep all from the disk */
        if (store->first)
            drop_pending(store->first->next, key);
        *store->last = pending;
        store->last = &pending->next;
        if (!store->thread && !store->unthreaded)
            store->thread = os_thread_start(keep_spills, store);
        if (store->thread) {
            atomic_fetch_add(&store->given, 1);
            os_wake(&store->given, 1);
        } else if (!store->unthreaded) {
            wait_until(store, 0);
        }
    }
    leave(store);
    return status;
}

/* The spill in the database; one that is damaged is removed. */
static int open_kept(struct disk_store *store, const char *key, int *fd, struct store_spill *spill,
                     struct hearth_error *err)
{
    struct spill_row row = {0};
    int status = database_get_spill(store->database, key, &row, err);
    if (!status)
        status = spill_folder_open(&store->spills, &row, fd, err);
    if (!status) {
        *spill = row.spill;
        return 0;
    }
    if ((status == HEARTH_E_FORMAT || status == HEARTH_E_MISSING) && row.id != 0)
        forget_spill(store, &row, NULL);
    return status;
}

static int store_spill_open(struct hearth_store *base, const char *key, int *fd,
                            struct store_spill *spill, struct hearth_error *err)
{
    struct disk_store *store = enter(base);
    int status;
    const struct pending *pending = find_pending(store, key);
    if (pending) {
        int other = os_file_duplicate(pending->file.fd, err);
        status = other < 0 ? other : 0;
        if (!status) {
            *fd = other;
            *spill = pending->spill;
        }
    } else {
        status = open_kept(store, key, fd, spill, err);
    }
    leave(store);
    return status;
}

static void store_spill_drop(struct hearth_store *base, const char *key)
{
    struct disk_store *store = enter(base);
    struct spill_row row = {0};
    drop_pending(store->first, key);
    int status = database_get_spill(store->database, key, &row, NULL);
    if ((status == 0 || status == HEARTH_E_FORMAT) && row.id != 0)
        forget_spill(store, &row, NULL);
    leave(store);
}

static const struct store_calls disk_calls = {
    .get = store_get,
    .put = store_put,
    .remove = store_remove,
    .spill_create = store_spill_create,
    .spill_keep = store_spill_keep,
    .spill_open = store_spill_open,
    .spill_drop = store_spill_drop,
};

/* ---- opening and closing ---- */

static int open_folder(struct disk_store *store, const char *directory, struct hearth_error *err)
{
    int status = os_folder_open(-1, directory, &store->folder, err);
    if (!status)
        status = os_folder_lock(store->folder, "lock", &store->lock, err);
    if (!status)
        status = spill_folder_init(&store->spills, store->folder, "spills", err);
    return status;
}

/* What was asked for, or a part of what is free and of what is kept already. */
static uint64_t choose_limit(const struct disk_store *store, uint64_t wanted)
{
    uint64_t tenth = os_folder_free(store->spills.fd) / 10 + store->bytes_kept / 10;
    if (wanted > 0)
        return wanted;
    return tenth < BYTES_MAX_DEFAULT ? tenth : BYTES_MAX_DEFAULT;
}

static int open_all(struct disk_store *store, const struct hearth_store_options *options,
                    struct hearth_error *note, struct hearth_error *err)
{
    store->mutex = os_mutex_create();
    if (!store->mutex)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a store");
    int status = open_folder(store, options->directory, err);
    if (!status)
        status =
            database_place_open(store->folder, options->directory, &store->database, note, err);
    if (!status)
        status = spill_folder_sweep(&store->spills, store->database, &store->bytes_kept, err);
    if (!status)
        status = os_folder_sync(store->folder, err);
    if (status)
        return status;
    store->bytes_max = choose_limit(store, options->bytes_max);
    while (store->bytes_kept > store->bytes_max && evict(store, NULL) == 0)
        ;
    return 0;
}

static int open_store(const struct hearth_store_options *options, bool unthreaded,
                      struct hearth_store **out, struct hearth_error *err)
{
    struct hearth_error cause, note = {0};
    struct disk_store *store = MEM_NEW(struct disk_store);
    if (!store)
        return error_set(err, HEARTH_E_MEMORY, "%s: no memory for a store", options->directory);
    store->base.calls = &disk_calls;
    store->folder = store->lock = store->spills.fd = -1;
    store->last = &store->first;
    store->unthreaded = unthreaded;
    int status = open_all(store, options, &note, &cause);
    if (status) {
        hearth_store_close(&store->base);
        return error_set(err, status, "%s: %s", options->directory, cause.text);
    }
    if (note.code)
        error_set(err, note.code, "%s", note.text);
    *out = &store->base;
    return 0;
}

int hearth_store_open(const struct hearth_store_options *options, struct hearth_store **out,
                      struct hearth_error *err)
{
    return open_store(options, false, out, err);
}

int disk_store_open_unthreaded(const struct hearth_store_options *options,
                               struct hearth_store **out, struct hearth_error *err)
{
    return open_store(options, true, out, err);
}

static void end_thread(struct disk_store *store)
{
    os_mutex_lock(store->mutex);
    wait_until(store, 0);
    store->ending = true;
    atomic_fetch_add(&store->given, 1);
    os_wake(&store->given, 1);
    os_mutex_unlock(store->mutex);
    if (store->thread)
        os_thread_join(store->thread);
}

void hearth_store_close(struct hearth_store *base)
{
    struct disk_store *store = of(base);
    if (!store)
        return;
    if (store->mutex)
        end_thread(store);
    spill_folder_finish(&store->spills);
    database_close(store->database);
    if (store->folder >= 0)
        os_file_close(store->folder);
    if (store->lock >= 0)
        os_file_close(store->lock);
    os_mutex_destroy(store->mutex);
    mem_free(store);
}

/* ---- lists ---- */

/* A page at a time: the mutex is not held during visits, which may do with the store what they
 * want. */
int hearth_store_list(struct hearth_store *base,
                      bool (*visit)(void *context, const struct hearth_store_entry *entry),
                      void *context, struct hearth_error *err)
{
    struct disk_store *store = of(base);
    bool more = true;
    int status = 0;
    struct database_page *page = MEM_NEW(struct database_page);
    if (!page)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a list");
    page->after_unix = page->after_order = INT64_MAX;
    do {
        enter(base);
        status = database_list(store->database, page, err);
        leave(store);
        for (size_t i = 0; i < page->count && more && !status; i++)
            more = visit(context, &page->entries[i]);
    } while (!status && more && page->count > 0);
    mem_free(page);
    return status;
}

int hearth_store_remove(struct hearth_store *store, const char *key, struct hearth_error *err)
{
    return store->calls->remove(store, key, err);
}

/* ---- for tests ---- */

bool disk_store_step(struct hearth_store *base)
{
    struct disk_store *store = enter(base);
    bool any = store->first != NULL;
    assert(store->unthreaded);
    if (any)
        work_on_first(store);
    leave(store);
    return any;
}

void disk_store_settle(struct hearth_store *base)
{
    struct disk_store *store = enter(base);
    wait_until(store, 0);
    leave(store);
}

uint64_t disk_store_bytes(struct hearth_store *base)
{
    struct disk_store *store = enter(base);
    uint64_t bytes = bytes_in_use(store);
    leave(store);
    return bytes;
}
