#define _GNU_SOURCE
#include "store/store_material.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/os.h"
#include "base/random.h"
#include "store/disk_store.h"

/* ---- folders and files ---- */

static void path_of(const char *folder, const char *name, char path[512])
{
    assert_true(snprintf(path, 512, "%s/%s", folder, name) < 512);
}

unsigned folder_count(const char *path)
{
    unsigned count = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder))
        count++;
    closedir(folder);
    return count - 2;
}

int file_mode(const char *folder, const char *name)
{
    char path[512];
    struct stat status;
    path_of(folder, name, path);
    return stat(path, &status) == 0 ? (int)(status.st_mode & 07777) : -1;
}

int64_t file_size(const char *folder, const char *name)
{
    char path[512];
    struct stat status;
    path_of(folder, name, path);
    return stat(path, &status) == 0 ? status.st_size : -1;
}

void file_flip(const char *folder, const char *name, int64_t at)
{
    char path[512], byte;
    path_of(folder, name, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x20;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

void file_cut(const char *folder, const char *name, int64_t size)
{
    char path[512];
    path_of(folder, name, path);
    assert_int_equal(truncate(path, size), 0);
}

void file_write(const char *folder, const char *name, const char *text)
{
    char path[512];
    path_of(folder, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

void file_only(const char *folder, char name[256])
{
    assert_int_equal(folder_count(folder), 1);
    DIR *stream = opendir(folder);
    struct dirent *entry;
    while ((entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] != '.')
            snprintf(name, 256, "%s", entry->d_name);
    }
    closedir(stream);
}

unsigned descriptors_open(void)
{
    return folder_count("/proc/self/fd") - 1; /* without the one that counts */
}

/* ---- stores ---- */

static struct hearth_store *open_with(int (*open_store)(const struct hearth_store_options *options,
                                                        struct hearth_store **out,
                                                        struct hearth_error *err),
                                      const char *directory, uint64_t bytes_max)
{
    struct hearth_store_options options = {.directory = directory, .bytes_max = bytes_max};
    struct hearth_store *store = NULL;
    struct hearth_error err = {0};
    if (open_store(&options, &store, &err) != 0)
        fail_msg("%s", err.text);
    return store;
}

struct hearth_store *store_open(const char *directory, uint64_t bytes_max)
{
    return open_with(hearth_store_open, directory, bytes_max);
}

struct hearth_store *store_open_unthreaded(const char *directory, uint64_t bytes_max)
{
    return open_with(disk_store_open_unthreaded, directory, bytes_max);
}

/* ---- conversations ---- */

/* Bytes that follow from key, number and kind; the number and the size come first. */
static unsigned char *make_bytes(const char *key, uint32_t number, size_t size, const char *kind)
{
    uint64_t seed = number;
    for (const char *at = key; *at; at++)
        seed = seed * 1099511628211u + (unsigned char)*at;
    struct random random = random_from_seed(seed + (unsigned char)*kind);
    unsigned char *bytes = malloc(size + 8);
    assert_non_null(bytes);
    assert_true(size >= sizeof number);
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = random_u64(&random);
        memcpy(bytes + i, &word, 8);
    }
    memcpy(bytes, &number, sizeof number);
    return bytes;
}

static int number_of(const char *key, const void *bytes, size_t size, const char *kind)
{
    uint32_t number;
    assert_true(size >= sizeof number);
    memcpy(&number, bytes, sizeof number);
    unsigned char *expected = make_bytes(key, number, size, kind);
    assert_memory_equal(bytes, expected, size);
    free(expected);
    return (int)number;
}

int put_record(struct hearth_store *store, const char *key, unsigned number, size_t size)
{
    unsigned char *bytes = make_bytes(key, number, size, "record");
    struct store_summary summary = {.model = "0123456789abcdef0123456789abcdef",
                                    .model_name = "A model",
                                    .messages = number,
                                    .tokens = number * 10,
                                    .used_unix = number};
    struct text record = {(const char *)bytes, size};
    int status = store->calls->put(store, key, record, &summary, NULL);
    free(bytes);
    return status;
}

int get_record(struct hearth_store *store, const char *key)
{
    struct buffer record;
    buffer_init(&record, 1 << 26);
    int status = store->calls->get(store, key, &record, NULL);
    if (status)
        assert_int_equal(record.size, 0);
    else
        status = number_of(key, record.data, record.size, "record");
    buffer_finish(&record);
    return status;
}

int put_spill(struct hearth_store *store, const char *key, unsigned number, size_t size)
{
    int fd = -1;
    int status = store->calls->spill_create(store, size, &fd, NULL);
    if (status)
        return status;
    unsigned char *bytes = make_bytes(key, number, size, "spill");
    struct store_spill spill = {.tokens = number, .bytes = size};
    memcpy(spill.identity, "fedcba9876543210fedcba9876543210", HEARTH_IDENTITY_SIZE);
    sum_of(bytes, size, spill.sum);
    status = os_file_write(fd, bytes, size, NULL);
    free(bytes);
    if (status) {
        os_file_close(fd);
        return status;
    }
    return store->calls->spill_keep(store, key, fd, &spill, NULL);
}

int open_spill(struct hearth_store *store, const char *key)
{
    int fd = -1;
    struct store_spill spill;
    unsigned char sum[SUM_BYTES];
    int status = store->calls->spill_open(store, key, &fd, &spill, NULL);
    if (status)
        return status;
    unsigned char *bytes = malloc(spill.bytes + 1);
    assert_non_null(bytes);
    status = os_file_read_at(fd, bytes, spill.bytes, 0, NULL);
    os_file_close(fd);
    sum_of(bytes, spill.bytes, sum);
    if (!status && memcmp(sum, spill.sum, SUM_BYTES) != 0)
        status = HEARTH_E_FORMAT;
    if (!status) {
        status = number_of(key, bytes, spill.bytes, "spill");
        assert_int_equal(spill.tokens, status);
        assert_string_equal(spill.identity, "fedcba9876543210fedcba9876543210");
    }
    free(bytes);
    return status;
}
