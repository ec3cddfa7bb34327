/* The blocks of a table as a stream of bytes, for memory of another kind: a file on disk.
 *
 * Layout, in the byte order of the machine (an image never leaves it):
 *
 *     char     magic[8]               "HEARTHKV"
 *     uint32_t version                1
 *     uint32_t type                   enum kv_type of keys, + 256 * that of values
 *     uint32_t tokens, groups
 *     for each group: uint32_t window, first (block that is held), uint64_t block_bytes
 *     for each group: blocks first to last, block_bytes each
 *
 * An image may have been damaged or forged: what is read is checked against the pool, and whatever
 * the blocks hold are numbers to attention, no addresses or sizes. */
#ifndef KV_IMAGE_H
#define KV_IMAGE_H

#include "kv/kv.h"

#define KV_IMAGE_VERSION 1

struct kv_sink {
    bool (*write)(void *context, const void *data, size_t size);
    void *context;
};

struct kv_source {
    bool (*read)(void *context, void *data, size_t size); /* all of `size`, or false */
    void *context;
};

uint64_t kv_image_bytes(const struct kv_table *table);
/* HEARTH_E_IO when the sink fails. */
int kv_image_write(const struct kv_table *table, const struct kv_sink *sink,
                   struct hearth_error *err);
/* Into an empty table, which stays so on failure. HEARTH_E_IO when the source fails,
 * HEARTH_E_FORMAT for what is no image, or none of this pool's; HEARTH_E_LIMIT for more than
 * `tokens_max` tokens or where the pool is full; HEARTH_E_MEMORY. */
int kv_image_read(struct kv_table *table, uint32_t tokens_max, const struct kv_source *source,
                  struct hearth_error *err);

#endif
