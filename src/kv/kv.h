/* The KV cache: reference-counted blocks of 32 tokens, and block tables.
 *
 * Layers that see the same range of tokens form a group (global layers; window layers), and a block
 * holds 32 tokens of all layers of one group: for each layer and kv head one part as
 * kernel/attention.h lays it out. A table maps the tokens of one sequence to blocks, group by
 * group. Blocks are whole pages, committed by the system when they are first written and given
 * back when the last reference goes.
 *
 * Not thread-safe: a pool and its tables belong to one thread at a time. Writing into different
 * slots and parts of blocks from several threads is fine. */
#ifndef KV_KV_H
#define KV_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernel/attention.h"

#define KV_GROUPS_MAX 4

/* What one layer stores. */
struct kv_layer {
    uint32_t group;
    uint32_t heads, key_size, value_size;
};

struct kv_pool;

/* `layers` in model order; `windows[g]`: how many tokens back the layers of group g see, the
 * current one included; 0 for all. `bytes_max`: of all blocks, 0 for no limit. */
struct kv_pool_options {
    enum kv_type key_type, value_type;
    const struct kv_layer *layers;
    uint32_t layer_count;
    const uint32_t *windows;
    uint32_t group_count;
    uint64_t bytes_max;
};

/* HEARTH_E_UNSUPPORTED where a head size does not fit the KV type; HEARTH_E_MEMORY. */
int kv_pool_create(const struct kv_pool_options *options, struct kv_pool **out,
                   struct hearth_error *err);
void kv_pool_destroy(struct kv_pool *pool);         /* all tables must be finished */
uint64_t kv_pool_bytes(const struct kv_pool *pool); /* of all blocks that live */
uint64_t kv_pool_bytes_max(const struct kv_pool *pool);
uint64_t kv_pool_room(const struct kv_pool *pool);            /* bytes that its limit leaves */
void kv_pool_limit(struct kv_pool *pool, uint64_t bytes_max); /* what lives beyond it stays */
/* What `tokens` tokens of one table take at most while they are computed `chunk` at a time, in
 * whole blocks, windows considered. */
uint64_t kv_pool_bytes_for(const struct kv_pool *pool, uint64_t tokens, uint32_t chunk);
/* How many tokens of one table `bytes` have room for, at most `most`. */
uint32_t kv_pool_tokens_for(const struct kv_pool *pool, uint64_t bytes, uint32_t chunk,
                            uint32_t most);

/* The block table of one sequence. */
struct kv_table {
    struct kv_pool *pool;
    uint32_t tokens; /* reserved: each group has blocks for its visible part of them */
    struct kv_group_table {
        void **blocks;     /* [b]: tokens 32 b …; NULL where the window has passed */
        uint32_t first;    /* the first block that is held */
        uint32_t count;    /* one past the last */
        uint32_t capacity; /* of the array */
    } groups[KV_GROUPS_MAX];
};

void kv_table_init(struct kv_table *table, struct kv_pool *pool);
void kv_table_finish(struct kv_table *table);

/* Gives an empty table the first `tokens` tokens of another one of the same pool, sharing its
 * blocks: each copies a shared block before it writes into it. HEARTH_E_MEMORY. */
int kv_table_share(struct kv_table *to, const struct kv_table *from, uint32_t tokens,
                   struct hearth_error *err);
/* Blocks for tokens up to `tokens` in all. On failure (HEARTH_E_MEMORY, HEARTH_E_LIMIT with the
 * numbers) the table is as it was. */
int kv_table_reserve(struct kv_table *table, uint32_t tokens, struct hearth_error *err);
/* Drops the blocks behind the first `tokens` tokens. */
void kv_table_truncate(struct kv_table *table, uint32_t tokens);
/* Drops, in groups with a window, the blocks that no token from `next` on can see. */
void kv_table_slide(struct kv_table *table, uint32_t next);
/* Whether every group still holds what a token at position `next` sees. */
bool kv_table_covers(const struct kv_table *table, uint32_t next);

enum kv_type kv_pool_key_type(const struct kv_pool *pool);
enum kv_type kv_pool_value_type(const struct kv_pool *pool);
uint32_t kv_layer_group(const struct kv_pool *pool, uint32_t layer);
/* The part of (layer, head) in each of the blocks of its group is at blocks[b] + this offset. */
size_t kv_part_offset(const struct kv_pool *pool, uint32_t layer, uint32_t head);

#endif
