#include "kv/prefix.h"

#include <string.h>

#include "base/memory.h"
#include "kv/pool.h"

/* A list of all nodes by use: a node always stands behind (is older than) its parent, because
 * touching a path touches its parents last. The oldest node therefore never has children that are
 * younger, and walking from the oldest meets leaves before what they hang from. */
struct node {
    struct node *parent;
    struct node **children; /* sorted by their ids, as words are in a dictionary */
    uint32_t child_count, child_capacity;
    struct node *newer, *older;
    uint32_t count; /* tokens */
    uint32_t ids[KV_BLOCK_TOKENS];
    /* Of each group the block, or NULL where its window had passed, and how many of the tokens it
     * holds: all, or in groups with a window maybe only the beginning, where it was put in then. */
    void *blocks[KV_GROUPS_MAX];
    uint32_t valid[KV_GROUPS_MAX];
};

struct kv_prefix {
    struct kv_pool *pool;
    struct node root;             /* of no tokens */
    struct node *newest, *oldest; /* the root is in no list */
};

struct kv_prefix *kv_prefix_create(struct kv_pool *pool)
{
    struct kv_prefix *prefix = MEM_NEW(struct kv_prefix);
    if (prefix)
        prefix->pool = pool;
    return prefix;
}

/* ---- the list ---- */

static void list_remove(struct kv_prefix *prefix, struct node *node)
{
    *(node->newer ? &node->newer->older : &prefix->newest) = node->older;
    *(node->older ? &node->older->newer : &prefix->oldest) = node->newer;
    node->newer = node->older = NULL;
}

static void list_add(struct kv_prefix *prefix, struct node *node)
{
    node->older = prefix->newest;
    *(prefix->newest ? &prefix->newest->newer : &prefix->oldest) = node;
    prefix->newest = node;
}

/* A node and all above it were used. */
static void touch(struct kv_prefix *prefix, struct node *node)
{
    for (; node != &prefix->root; node = node->parent) {
        list_remove(prefix, node);
        list_add(prefix, node);
    }
}

/* ---- nodes ---- */

static uint32_t common_ids(const uint32_t *a, uint32_t a_count, const uint32_t *b, uint32_t b_count)
{
    uint32_t most = a_count < b_count ? a_count : b_count, n = 0;
    while (n < most && a[n] == b[n])
        n++;
    return n;
}

/* The place among the children where ids belong: behind all that are smaller. */
static uint32_t place_of(const struct node *node, const uint32_t *ids, uint32_t count)
{
    uint32_t low = 0, high = node->child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct node *child = node->children[middle];
        uint32_t n = common_ids(child->ids, child->count, ids, count);
        bool smaller = n == child->count ? n < count : n < count && child->ids[n] < ids[n];
        if (smaller)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The child that shares the most tokens with ids; it stands beside their place. */
static struct node *nearest_child(const struct node *node, const uint32_t *ids, uint32_t count,
                                  uint32_t *common)
{
    struct node *nearest = NULL;
    uint32_t place = place_of(node, ids, count);
    *common = 0;
    for (uint32_t i = place > 0 ? place - 1 : 0; i <= place && i < node->child_count; i++) {
        struct node *child = node->children[i];
        uint32_t n = common_ids(child->ids, child->count, ids, count);
        if (n > *common) {
            *common = n;
            nearest = child;
        }
    }
    return nearest;
}

static bool link_child(struct node *parent, struct node *child)
{
    if (parent->child_count == parent->child_capacity) {
        uint32_t capacity = parent->child_capacity + parent->child_capacity / 2 + 2;
        struct node **children =
            mem_realloc_array(parent->children, capacity, sizeof(struct node *));
        if (!children)
            return false;
        parent->children = children;
        parent->child_capacity = capacity;
    }
    uint32_t place = place_of(parent, child->ids, child->count);
    memmove(parent->children + place + 1, parent->children + place,
            (parent->child_count - place) * sizeof(struct node *));
    parent->children[place] = child;
    parent->child_count++;
    child->parent = parent;
    return true;
}

static void unlink_child(struct node *child)
{
    struct node *parent = child->parent;
    uint32_t place = place_of(parent, child->ids, child->count);
    parent->child_count--;
    memmove(parent->children + place, parent->children + place + 1,
            (parent->child_count - place) * sizeof(struct node *));
}

static void release_blocks(struct kv_prefix *prefix, struct node *node)
{
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        kv_block_release(prefix->pool, g, node->blocks[g]);
        node->blocks[g] = NULL;
    }
}

static void remove_leaf(struct kv_prefix *prefix, struct node *node)
{
    unlink_child(node);
    list_remove(prefix, node);
    release_blocks(prefix, node);
    mem_free(node->children);
    mem_free(node);
}

void kv_prefix_destroy(struct kv_prefix *prefix)
{
    if (!prefix)
        return;
    while (prefix->oldest)
        remove_leaf(prefix, prefix->oldest);
    mem_free(prefix->root.children);
    mem_free(prefix);
}

/* ---- putting in ---- */

/* Takes those of the table's blocks that hold more of the node's tokens than its own do. */
static void take_blocks(struct kv_prefix *prefix, struct node *node, const struct kv_table *table,
                        uint32_t index, uint32_t count)
{
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        void *block = table->groups[g].blocks[index];
        if (!block || node->valid[g] >= count)
            continue;
        kv_block_retain(block);
        kv_block_release(prefix->pool, g, node->blocks[g]);
        node->blocks[g] = block;
        node->valid[g] = count;
    }
}

static struct node *add_child(struct kv_prefix *prefix, struct node *parent, const uint32_t *ids,
                              uint32_t count)
{
    struct node *node = MEM_NEW(struct node);
    if (!node)
        return NULL;
    node->count = count;
    memcpy(node->ids, ids, count * sizeof *ids);
    if (!link_child(parent, node)) {
        mem_free(node);
        return NULL;
    }
    list_add(prefix, node);
    return node;
}

/* A leaf comes to stand for more tokens. What its blocks hold stays valid. */
static bool extend_leaf(struct node *leaf, const uint32_t *ids, uint32_t count)
{
    unlink_child(leaf);
    memcpy(leaf->ids, ids, count * sizeof *ids);
    leaf->count = count;
    return link_child(leaf->parent, leaf); /* there is room: it had a place */
}

/* The child for a block of ids: one that holds them already, or one made for them. */
static struct node *child_for(struct kv_prefix *prefix, struct node *parent, const uint32_t *ids,
                              uint32_t count)
{
    uint32_t common;
    struct node *child = nearest_child(parent, ids, count, &common);
    if (child && common == count)
        return child;
    if (child && common == child->count && extend_leaf(child, ids, count))
        return child;
    return add_child(prefix, parent, ids, count);
}

void kv_prefix_insert(struct kv_prefix *prefix, const uint32_t *ids, uint32_t tokens,
                      const struct kv_table *table)
{
    struct node *node = &prefix->root;
    for (uint32_t at = 0; at < tokens; at += KV_BLOCK_TOKENS) {
        uint32_t count = tokens - at < KV_BLOCK_TOKENS ? tokens - at : KV_BLOCK_TOKENS;
        struct node *child = child_for(prefix, node, ids + at, count);
        if (!child)
            break;
        take_blocks(prefix, child, table, at / KV_BLOCK_TOKENS, count);
        node = child;
    }
    touch(prefix, node);
}

/* ---- finding ---- */

/* How many of the first `tokens` tokens, the last of them in `node`, all its blocks hold. */
static uint32_t held_tokens(const struct kv_prefix *prefix, const struct node *node,
                            uint32_t tokens)
{
    uint32_t before = (tokens - 1) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
    uint32_t held = tokens - before;
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++)
        held = node->valid[g] < held ? node->valid[g] : held;
    return before + held;
}

/* Whether the nodes above hold what else a token behind `tokens` tokens sees. */
static bool covers(const struct kv_prefix *prefix, const struct node *node, uint32_t tokens)
{
    uint32_t last = (tokens - 1) / KV_BLOCK_TOKENS;
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        uint32_t first = kv_first_visible(kv_group_window(prefix->pool, g), tokens);
        const struct node *at = node->parent;
        for (uint32_t b = last; b > first / KV_BLOCK_TOKENS; b--, at = at->parent) {
            if (at->valid[g] < KV_BLOCK_TOKENS)
                return false;
        }
    }
    return true;
}

static int share_path(const struct kv_prefix *prefix, const struct node *node, uint32_t tokens,
                      struct kv_table *table)
{
    uint32_t count = kv_blocks_for(tokens);
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        if (kv_table_widen(table, g, count, NULL))
            return HEARTH_E_MEMORY;
    }
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        struct kv_group_table *group = &table->groups[g];
        const struct node *at = node;
        bool held = true; /* until a gap: nothing before it can be seen */
        group->first = group->count = count;
        for (uint32_t b = count; b-- > 0; at = at->parent) {
            held = held && (b + 1 == count || at->valid[g] == KV_BLOCK_TOKENS);
            group->blocks[b] = held ? at->blocks[g] : NULL;
            kv_block_retain(group->blocks[b]);
            if (held)
                group->first = b;
        }
    }
    table->tokens = tokens;
    return 0;
}

uint32_t kv_prefix_match(struct kv_prefix *prefix, const uint32_t *ids, uint32_t count,
                         struct kv_table *table)
{
    struct node *node = &prefix->root;
    uint32_t tokens = 0, common = KV_BLOCK_TOKENS;
    while (tokens < count && common == KV_BLOCK_TOKENS) {
        struct node *child = nearest_child(node, ids + tokens, count - tokens, &common);
        if (!child)
            break;
        tokens += common;
        node = child;
    }
    while (tokens > 0) {
        uint32_t before = (tokens - 1) / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
        tokens = held_tokens(prefix, node, tokens);
        if (tokens > before && covers(prefix, node, tokens))
            break;
        tokens = before;
        node = node->parent;
    }
    if (tokens == 0 || share_path(prefix, node, tokens, table))
        return 0;
    touch(prefix, node);
    return tokens;
}

/* Whether it holds the blocks of those groups that see everything, for so many of its tokens. */
static bool holds_global(const struct kv_prefix *prefix, const struct node *node, uint32_t tokens)
{
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        if (kv_group_window(prefix->pool, g) == 0 && node->valid[g] < tokens)
            return false;
    }
    return true;
}

uint32_t kv_prefix_known(const struct kv_prefix *prefix, const uint32_t *ids, uint32_t count,
                         uint64_t *bytes)
{
    const struct node *node = &prefix->root;
    uint32_t tokens = 0, common = KV_BLOCK_TOKENS;
    uint64_t held = 0;
    while (tokens < count && common == KV_BLOCK_TOKENS) {
        node = nearest_child(node, ids + tokens, count - tokens, &common);
        if (!node || !holds_global(prefix, node, common))
            break;
        for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++)
            held += node->blocks[g] ? kv_group_block_bytes(prefix->pool, g) : 0;
        tokens += common;
    }
    if (bytes)
        *bytes = held;
    return tokens;
}

/* ---- giving back ---- */

static uint64_t unshared_bytes(const struct kv_prefix *prefix, const struct node *node)
{
    uint64_t bytes = 0;
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        if (node->blocks[g] && !kv_block_shared(node->blocks[g]))
            bytes += kv_group_block_bytes(prefix->pool, g);
    }
    return bytes;
}

uint64_t kv_prefix_bytes(const struct kv_prefix *prefix)
{
    uint64_t bytes = 0;
    for (const struct node *node = prefix->newest; node; node = node->older)
        bytes += unshared_bytes(prefix, node);
    return bytes;
}

uint64_t kv_prefix_forget(struct kv_prefix *prefix, const uint32_t *ids, uint32_t kept,
                          uint32_t count)
{
    struct node *node = &prefix->root;
    uint64_t freed = 0;
    uint32_t common, before = 0; /* tokens before the end of `node` */
    for (uint32_t at = 0; at < count; at += common) {
        struct node *child = nearest_child(node, ids + at, count - at, &common);
        if (!child || common < child->count)
            break;
        node = child;
        before += common;
    }
    while (node != &prefix->root && node->child_count == 0 && before - node->count >= kept) {
        struct node *parent = node->parent;
        freed += unshared_bytes(prefix, node);
        before -= node->count;
        remove_leaf(prefix, node);
        node = parent;
    }
    return freed;
}

/* What a node holds for windows alone: a sequence can still start further up or down. */
static uint64_t drop_snapshot(struct kv_prefix *prefix, struct node *node)
{
    uint64_t freed = 0;
    for (uint32_t g = 0; g < kv_pool_groups(prefix->pool); g++) {
        bool windowed = kv_group_window(prefix->pool, g) != 0;
        if (!windowed || !node->blocks[g] || kv_block_shared(node->blocks[g]))
            continue;
        kv_block_release(prefix->pool, g, node->blocks[g]);
        node->blocks[g] = NULL;
        node->valid[g] = 0;
        freed += kv_group_block_bytes(prefix->pool, g);
    }
    return freed;
}

uint64_t kv_prefix_evict(struct kv_prefix *prefix, uint64_t bytes)
{
    uint64_t freed = 0;
    for (struct node *node = prefix->oldest, *next; node && freed < bytes; node = next) {
        next = node->newer;
        uint64_t own = unshared_bytes(prefix, node);
        if (own == 0)
            continue;
        if (node->child_count > 0) { /* tables hold what is below it */
            freed += drop_snapshot(prefix, node);
            continue;
        }
        freed += own;
        remove_leaf(prefix, node);
    }
    return freed;
}
