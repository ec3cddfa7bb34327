/* Stores in folders of their own, and conversations whose bytes follow from key and number. */
#ifndef STORE_MATERIAL_H
#define STORE_MATERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/store.h"
#include "support/folder.h"

unsigned folder_count(const char *path); /* names in it */
/* What open(2) and friends see; -1 where there is none. */
int file_mode(const char *folder, const char *name);
int64_t file_size(const char *folder, const char *name);
/* Changes a byte, or the length. */
void file_flip(const char *folder, const char *name, int64_t at);
void file_cut(const char *folder, const char *name, int64_t size);
void file_write(const char *folder, const char *name, const char *text);
/* The only file of a folder. */
void file_only(const char *folder, char name[256]);

unsigned descriptors_open(void);

struct hearth_store *store_open(const char *directory, uint64_t bytes_max);
struct hearth_store *store_open_unthreaded(const char *directory, uint64_t bytes_max);

/* Puts the record number `number` of a key, `size` bytes. */
int put_record(struct hearth_store *store, const char *key, unsigned number, size_t size);
/* The number of the record that is kept; fails the test where its bytes do not follow from it.
 * Negative: an error. */
int get_record(struct hearth_store *store, const char *key);
/* Writes and keeps a spill. */
int put_spill(struct hearth_store *store, const char *key, unsigned number, size_t size);
/* As get_record; HEARTH_E_FORMAT where its sum is wrong. */
int open_spill(struct hearth_store *store, const char *key);

#endif
