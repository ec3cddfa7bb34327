#include "kv/kv.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "kv/pool.h"

/* In front of a block's parts. */
struct block {
    uint32_t references;
};

struct group {
    uint32_t window;
    size_t payload_bytes; /* of a block: its parts */
    size_t block_bytes;   /* with its header, whole pages */
};

struct kv_pool {
    enum kv_type key_type, value_type;
    struct group groups[KV_GROUPS_MAX];
    uint32_t group_count, layer_count;
    struct layer_place {
        uint32_t group;
        size_t offset, head_bytes; /* of the layer's first head in a block; of each head */
    } * layers;
    uint64_t bytes, bytes_max;
};

static int place_layers(struct kv_pool *pool, const struct kv_pool_options *options,
                        struct hearth_error *err)
{
    for (uint32_t g = 0; g < options->group_count; g++)
        pool->groups[g] = (struct group){.window = options->windows[g]};
    for (uint32_t l = 0; l < options->layer_count; l++) {
        const struct kv_layer *layer = &options->layers[l];
        if (!kv_type_fits(options->key_type, layer->key_size) ||
            !kv_type_fits(options->value_type, layer->value_size))
            return error_set(err, HEARTH_E_UNSUPPORTED,
                             "a quantized KV cache needs heads of a multiple of 32 elements, "
                             "layer %u has %u and %u",
                             l, layer->key_size, layer->value_size);
        struct group *group = &pool->groups[layer->group];
        size_t head_bytes = kv_head_bytes(options->key_type, options->value_type, layer->key_size,
                                          layer->value_size);
        pool->layers[l] =
            (struct layer_place){layer->group, KV_BLOCK_HEADER + group->payload_bytes, head_bytes};
        group->payload_bytes += head_bytes * layer->heads;
    }
    size_t page = os_page_size();
    for (uint32_t g = 0; g < options->group_count; g++) {
        size_t bytes = KV_BLOCK_HEADER + pool->groups[g].payload_bytes;
        pool->groups[g].block_bytes = (bytes + page - 1) / page * page;
    }
    return 0;
}

int kv_pool_create(const struct kv_pool_options *options, struct kv_pool **out,
                   struct hearth_error *err)
{
    assert(options->group_count <= KV_GROUPS_MAX);
    struct kv_pool *pool = MEM_NEW(struct kv_pool);
    if (!pool)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the KV cache");
    pool->key_type = options->key_type;
    pool->value_type = options->value_type;
    pool->group_count = options->group_count;
    pool->layer_count = options->layer_count;
    pool->bytes_max = options->bytes_max;
    pool->layers = mem_zalloc_array(options->layer_count, sizeof *pool->layers);
    int status = pool->layers ? place_layers(pool, options, err)
                              : error_set(err, HEARTH_E_MEMORY, "no memory for the KV cache");
    if (status) {
        kv_pool_destroy(pool);
        return status;
    }
    *out = pool;
    return 0;
}

void kv_pool_destroy(struct kv_pool *pool)
{
    if (!pool)
        return;
    assert(pool->bytes == 0);
    mem_free(pool->layers);
    mem_free(pool);
}

uint64_t kv_pool_bytes(const struct kv_pool *pool)
{
    return pool->bytes;
}

uint64_t kv_pool_bytes_max(const struct kv_pool *pool)
{
    return pool->bytes_max;
}

void kv_pool_limit(struct kv_pool *pool, uint64_t bytes_max)
{
    pool->bytes_max = bytes_max;
}

uint64_t kv_pool_bytes_for(const struct kv_pool *pool, uint64_t tokens, uint32_t chunk)
{
    uint64_t bytes = 0, all = tokens / KV_BLOCK_TOKENS + (tokens % KV_BLOCK_TOKENS != 0);
    for (uint32_t g = 0; g < pool->group_count; g++) {
        const struct group *group = &pool->groups[g];
        /* what the first token of a chunk sees, and the chunk: it may begin and end inside blocks
         */
        uint64_t span = (uint64_t)group->window + chunk + 2 * (KV_BLOCK_TOKENS - 1);
        uint64_t most = group->window ? span / KV_BLOCK_TOKENS : all;
        bytes += (all < most ? all : most) * group->block_bytes;
    }
    return bytes;
}

uint32_t kv_pool_tokens_for(const struct kv_pool *pool, uint64_t bytes, uint32_t chunk,
                            uint32_t most)
{
    uint32_t fits = 0, blocks = most / KV_BLOCK_TOKENS;
    if (kv_pool_bytes_for(pool, most, chunk) <= bytes)
        return most;
    while (fits < blocks) { /* fits: blocks that do; blocks: that perhaps do, at most */
        uint32_t middle = fits + (blocks - fits + 1) / 2;
        if (kv_pool_bytes_for(pool, (uint64_t)middle * KV_BLOCK_TOKENS, chunk) <= bytes)
            fits = middle;
        else
            blocks = middle - 1;
    }
    return fits * KV_BLOCK_TOKENS;
}

uint32_t kv_pool_groups(const struct kv_pool *pool)
{
    return pool->group_count;
}

uint32_t kv_group_window(const struct kv_pool *pool, uint32_t group)
{
    return pool->groups[group].window;
}

size_t kv_group_block_bytes(const struct kv_pool *pool, uint32_t group)
{
    return pool->groups[group].block_bytes;
}

size_t kv_group_payload_bytes(const struct kv_pool *pool, uint32_t group)
{
    return pool->groups[group].payload_bytes;
}

enum kv_type kv_pool_key_type(const struct kv_pool *pool)
{
    return pool->key_type;
}

enum kv_type kv_pool_value_type(const struct kv_pool *pool)
{
    return pool->value_type;
}

uint32_t kv_layer_group(const struct kv_pool *pool, uint32_t layer)
{
    return pool->layers[layer].group;
}

size_t kv_part_offset(const struct kv_pool *pool, uint32_t layer, uint32_t head)
{
    return pool->layers[layer].offset + head * pool->layers[layer].head_bytes;
}

uint64_t kv_pool_room(const struct kv_pool *pool)
{
    if (pool->bytes_max == 0)
        return UINT64_MAX;
    return pool->bytes < pool->bytes_max ? pool->bytes_max - pool->bytes : 0;
}

/* ---- blocks ---- */

int kv_block_acquire(struct kv_pool *pool, uint32_t group, void **out, struct hearth_error *err)
{
    size_t size = pool->groups[group].block_bytes;
    if (pool->bytes_max && pool->bytes + size > pool->bytes_max)
        return error_set(err, HEARTH_E_LIMIT,
                         "the KV cache would grow beyond its limit of %.1f MiB",
                         (double)pool->bytes_max / 0x1p20);
    struct block *block = mem_pages_alloc(size);
    if (!block)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %.1f MiB more of KV cache",
                         (double)size / 0x1p20);
    block->references = 1;
    pool->bytes += size;
    *out = block;
    return 0;
}

void kv_block_retain(void *memory)
{
    struct block *block = memory;
    if (block)
        block->references++;
}

bool kv_block_shared(const void *memory)
{
    const struct block *block = memory;
    return block->references > 1;
}

void kv_block_release(struct kv_pool *pool, uint32_t group, void *memory)
{
    struct block *block = memory;
    if (!block || --block->references)
        return;
    pool->bytes -= pool->groups[group].block_bytes;
    mem_pages_free(block, pool->groups[group].block_bytes);
}

/* ---- tables ---- */

void kv_table_init(struct kv_table *table, struct kv_pool *pool)
{
    *table = (struct kv_table){.pool = pool};
}

void kv_table_finish(struct kv_table *table)
{
    kv_table_truncate(table, 0);
    for (uint32_t g = 0; g < table->pool->group_count; g++)
        mem_free(table->groups[g].blocks);
    kv_table_init(table, table->pool);
}

int kv_table_widen(struct kv_table *table, uint32_t g, uint32_t count, struct hearth_error *err)
{
    struct kv_group_table *group = &table->groups[g];
    if (count <= group->capacity)
        return 0;
    uint32_t capacity = group->capacity + group->capacity / 2 + 16;
    capacity = capacity > count ? capacity : count;
    void **blocks = mem_realloc_array(group->blocks, capacity, sizeof *blocks);
    if (!blocks)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a table of KV blocks");
    group->blocks = blocks;
    group->capacity = capacity;
    return 0;
}

static int grow_group(struct kv_table *table, uint32_t g, uint32_t count, struct hearth_error *err)
{
    struct kv_group_table *group = &table->groups[g];
    int status = kv_table_widen(table, g, count, err);
    if (status)
        return status;
    while (group->count < count) {
        status = kv_block_acquire(table->pool, g, &group->blocks[group->count], err);
        if (status)
            return status;
        group->count++;
    }
    return 0;
}

static void cut_group(struct kv_table *table, uint32_t g, uint32_t count)
{
    struct kv_group_table *group = &table->groups[g];
    while (group->count > count) {
        group->count--;
        kv_block_release(table->pool, g, group->blocks[group->count]);
    }
    if (group->first > group->count)
        group->first = group->count;
}

/* Copy on write: the block that the next token goes into becomes the table's own. */
static int own_last_block(struct kv_table *table, uint32_t g, struct hearth_error *err)
{
    struct kv_group_table *group = &table->groups[g];
    if (table->tokens % KV_BLOCK_TOKENS == 0)
        return 0;
    void **last = &group->blocks[table->tokens / KV_BLOCK_TOKENS], *copy = NULL;
    if (!kv_block_shared(*last))
        return 0;
    int status = kv_block_acquire(table->pool, g, &copy, err);
    if (status)
        return status;
    memcpy((char *)copy + KV_BLOCK_HEADER, (char *)*last + KV_BLOCK_HEADER,
           table->pool->groups[g].payload_bytes);
    kv_block_release(table->pool, g, *last);
    *last = copy;
    return 0;
}

int kv_table_reserve(struct kv_table *table, uint32_t tokens, struct hearth_error *err)
{
    if (tokens <= table->tokens)
        return 0;
    for (uint32_t g = 0; g < table->pool->group_count; g++) {
        int status = own_last_block(table, g, err);
        if (!status)
            status = grow_group(table, g, kv_blocks_for(tokens), err);
        if (status) {
            kv_table_truncate(table, table->tokens);
            return status;
        }
    }
    table->tokens = tokens;
    return 0;
}

void kv_table_truncate(struct kv_table *table, uint32_t tokens)
{
    for (uint32_t g = 0; g < table->pool->group_count; g++)
        cut_group(table, g, kv_blocks_for(tokens));
    if (tokens < table->tokens)
        table->tokens = tokens;
}

void kv_table_slide(struct kv_table *table, uint32_t next)
{
    for (uint32_t g = 0; g < table->pool->group_count; g++) {
        struct kv_group_table *group = &table->groups[g];
        uint32_t first = kv_first_visible(table->pool->groups[g].window, next) / KV_BLOCK_TOKENS;
        for (; group->first < first && group->first < group->count; group->first++) {
            kv_block_release(table->pool, g, group->blocks[group->first]);
            group->blocks[group->first] = NULL;
        }
    }
}

bool kv_table_covers(const struct kv_table *table, uint32_t next)
{
    for (uint32_t g = 0; g < table->pool->group_count; g++) {
        uint32_t visible = kv_first_visible(table->pool->groups[g].window, next);
        /* the first token of all, for one, sees none that would have to be held */
        if (visible < next && table->groups[g].first * KV_BLOCK_TOKENS > visible)
            return false;
    }
    return true;
}

int kv_table_share(struct kv_table *to, const struct kv_table *from, uint32_t tokens,
                   struct hearth_error *err)
{
    assert(to->tokens == 0 && tokens <= from->tokens && to->pool == from->pool);
    uint32_t count = kv_blocks_for(tokens);
    for (uint32_t g = 0; g < to->pool->group_count; g++) {
        int status = kv_table_widen(to, g, count, err);
        if (status)
            return status;
    }
    for (uint32_t g = 0; g < to->pool->group_count; g++) {
        struct kv_group_table *group = &to->groups[g];
        group->first = from->groups[g].first < count ? from->groups[g].first : count;
        group->count = count;
        for (uint32_t b = 0; b < count; b++) {
            group->blocks[b] = from->groups[g].blocks[b];
            kv_block_retain(group->blocks[b]);
        }
    }
    to->tokens = tokens;
    return 0;
}
