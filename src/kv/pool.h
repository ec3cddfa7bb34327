/* What the files of this room know of pools and blocks and others do not. */
#ifndef KV_POOL_H
#define KV_POOL_H

#include "kv/kv.h"

/* A block's reference count lives in front of its parts, on a cache line of its own. */
#define KV_BLOCK_HEADER 64

uint32_t kv_pool_groups(const struct kv_pool *pool);
uint32_t kv_group_window(const struct kv_pool *pool, uint32_t group);
/* Of a block of the group, its header included: whole pages. */
size_t kv_group_block_bytes(const struct kv_pool *pool, uint32_t group);
size_t kv_group_payload_bytes(const struct kv_pool *pool, uint32_t group); /* of its parts */

/* A block with one reference, the caller's; zeroed. */
int kv_block_acquire(struct kv_pool *pool, uint32_t group, void **out, struct hearth_error *err);
void kv_block_retain(void *block);                                        /* NULL is fine */
void kv_block_release(struct kv_pool *pool, uint32_t group, void *block); /* NULL is fine */
bool kv_block_shared(const void *block); /* by more than one holder */

/* Room for `count` blocks in a group of a table. */
int kv_table_widen(struct kv_table *table, uint32_t group, uint32_t count,
                   struct hearth_error *err);

/* The first token that one at position `next` sees through a window. */
static inline uint32_t kv_first_visible(uint32_t window, uint32_t next)
{
    return window == 0 || next < window ? 0 : next + 1 - window;
}

/* Blocks that `tokens` tokens lie in. */
static inline uint32_t kv_blocks_for(uint32_t tokens)
{
    return tokens / KV_BLOCK_TOKENS + (tokens % KV_BLOCK_TOKENS != 0);
}

#endif
