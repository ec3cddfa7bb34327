#include "fake_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

static struct fake_store *fake_of(struct hearth_store *store)
{
    return (struct fake_store *)(void *)store;
}

struct fake_entry *fake_store_find(struct fake_store *fake, const char *key)
{
    for (size_t i = 0; i < FAKE_ENTRIES; i++) {
        if (strcmp(fake->entries[i].key, key) == 0)
            return &fake->entries[i];
    }
    return NULL;
}

static void clear(struct fake_entry *entry)
{
    if (entry->fd >= 0)
        os_file_close(entry->fd);
    buffer_finish(&entry->record);
    *entry = (struct fake_entry){.fd = -1};
    buffer_init(&entry->record, SIZE_MAX);
}

static int get(struct hearth_store *store, const char *key, struct buffer *record,
               struct hearth_error *err)
{
    const struct fake_entry *entry = fake_store_find(fake_of(store), key);
    if (!entry)
        return error_set(err, HEARTH_E_MISSING, "no such key");
    return buffer_append_text(record, buffer_text(&entry->record)) ? 0 : HEARTH_E_MEMORY;
}

static int put(struct hearth_store *store, const char *key, struct text record,
               const struct store_summary *summary, struct hearth_error *err)
{
    struct fake_store *fake = fake_of(store);
    struct fake_entry *entry = fake_store_find(fake, key);
    (void)summary;
    if (fake->refuse_put)
        return error_set(err, HEARTH_E_LIMIT, "the disk is full");
    fake->puts++;
    if (fake->forget_records)
        return 0;
    if (!entry)
        entry = fake_store_find(fake, "");
    if (!entry)
        return error_set(err, HEARTH_E_LIMIT, "too many for this test");
    snprintf(entry->key, sizeof entry->key, "%s", key);
    buffer_finish(&entry->record);
    buffer_init(&entry->record, SIZE_MAX);
    return buffer_append_text(&entry->record, record) ? 0 : HEARTH_E_MEMORY;
}

static int forget(struct hearth_store *store, const char *key, struct hearth_error *err)
{
    struct fake_entry *entry = fake_store_find(fake_of(store), key);
    if (!entry)
        return error_set(err, HEARTH_E_MISSING, "no such key");
    clear(entry);
    return 0;
}

static int spill_create(struct hearth_store *store, uint64_t bytes, int *fd,
                        struct hearth_error *err)
{
    (void)bytes;
    if (fake_of(store)->refuse_spill)
        return error_set(err, HEARTH_E_LIMIT, "the disk is full");
    const char *directory = getenv("TMPDIR");
    int file = os_file_create_unnamed(directory ? directory : "/tmp", err);
    if (file < 0)
        return file;
    *fd = file;
    fake_of(store)->spills++;
    return 0;
}

static int spill_keep(struct hearth_store *store, const char *key, int fd,
                      const struct store_spill *spill, struct hearth_error *err)
{
    struct fake_entry *entry = fake_store_find(fake_of(store), key);
    if (!entry || fake_of(store)->lose_spill) {
        os_file_close(fd);
        return entry ? 0 : error_set(err, HEARTH_E_MISSING, "no such record");
    }
    if (entry->fd >= 0)
        os_file_close(entry->fd);
    entry->fd = fd;
    entry->spill = *spill;
    return 0;
}

/* A copy, because the caller closes what it gets. */
static int spill_open(struct hearth_store *store, const char *key, int *fd,
                      struct store_spill *spill, struct hearth_error *err)
{
    const struct fake_entry *entry = fake_store_find(fake_of(store), key);
    if (!entry || entry->fd < 0)
        return error_set(err, HEARTH_E_MISSING, "no spill");
    uint64_t size;
    const char *directory = getenv("TMPDIR");
    int status = os_file_size(entry->fd, &size, err);
    if (status)
        return status;
    unsigned char *bytes = malloc((size_t)size + 1);
    int file = os_file_create_unnamed(directory ? directory : "/tmp", err);
    if (!bytes || file < 0 || os_file_read_at(entry->fd, bytes, (size_t)size, 0, err) ||
        os_file_write(file, bytes, (size_t)size, err))
        abort();
    free(bytes);
    *fd = file;
    *spill = entry->spill;
    fake_of(store)->opened++;
    return 0;
}

static void spill_drop(struct hearth_store *store, const char *key)
{
    struct fake_entry *entry = fake_store_find(fake_of(store), key);
    fake_of(store)->dropped++;
    if (!entry || entry->fd < 0)
        return;
    os_file_close(entry->fd);
    entry->fd = -1;
}

static const struct store_calls calls = {get,        put,        forget,    spill_create,
                                         spill_keep, spill_open, spill_drop};

void fake_store_init(struct fake_store *fake)
{
    *fake = (struct fake_store){.base = {.calls = &calls}};
    fake->store = &fake->base;
    for (size_t i = 0; i < FAKE_ENTRIES; i++)
        fake->entries[i].fd = -1;
}

void fake_store_finish(struct fake_store *fake)
{
    for (size_t i = 0; i < FAKE_ENTRIES; i++)
        clear(&fake->entries[i]);
}

unsigned char *fake_store_bytes(const struct fake_entry *entry)
{
    unsigned char *bytes = malloc((size_t)entry->spill.bytes);
    if (!bytes || os_file_read_at(entry->fd, bytes, (size_t)entry->spill.bytes, 0, NULL))
        abort();
    return bytes;
}

void fake_store_replace(struct fake_entry *entry, const void *bytes, size_t size, bool sum)
{
    const char *directory = getenv("TMPDIR");
    if (entry->fd >= 0)
        os_file_close(entry->fd);
    entry->fd = os_file_create_unnamed(directory ? directory : "/tmp", NULL);
    if (entry->fd < 0 || os_file_write(entry->fd, bytes, size, NULL))
        abort();
    if (sum) {
        entry->spill.bytes = size;
        sum_of(bytes, size, entry->spill.sum);
    }
}
