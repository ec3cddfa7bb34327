#include "kv/image.h"

#include <assert.h>
#include <string.h>

#include "kv/pool.h"

static const char image_magic[8] = {'H', 'E', 'A', 'R', 'T', 'H', 'K', 'V'};

struct image_head {
    char magic[8];
    uint32_t version, type, tokens, groups;
    struct {
        uint32_t window, first;
        uint64_t block_bytes;
    } group[KV_GROUPS_MAX]; /* as many as there are groups are written */
};

static size_t head_bytes(uint32_t groups)
{
    struct image_head *head = NULL;
    return offsetof(struct image_head, group) + groups * sizeof head->group[0];
}

static void describe(const struct kv_table *table, struct image_head *head)
{
    *head = (struct image_head){
        .version = KV_IMAGE_VERSION,
        .type = (uint32_t)kv_pool_key_type(table->pool) +
                256 * (uint32_t)kv_pool_value_type(table->pool),
        .tokens = table->tokens,
        .groups = kv_pool_groups(table->pool),
    };
    memcpy(head->magic, image_magic, sizeof image_magic);
    for (uint32_t g = 0; g < head->groups; g++) {
        head->group[g].window = kv_group_window(table->pool, g);
        head->group[g].first = table->groups[g].first;
        head->group[g].block_bytes = kv_group_payload_bytes(table->pool, g);
    }
}

uint64_t kv_image_bytes(const struct kv_table *table)
{
    uint64_t bytes = head_bytes(kv_pool_groups(table->pool));
    for (uint32_t g = 0; g < kv_pool_groups(table->pool); g++)
        bytes += (uint64_t)(table->groups[g].count - table->groups[g].first) *
                 kv_group_payload_bytes(table->pool, g);
    return bytes;
}

int kv_image_write(const struct kv_table *table, const struct kv_sink *sink,
                   struct hearth_error *err)
{
    struct image_head head;
    describe(table, &head);
    bool ok = sink->write(sink->context, &head, head_bytes(head.groups));
    for (uint32_t g = 0; g < head.groups && ok; g++) {
        const struct kv_group_table *group = &table->groups[g];
        for (uint32_t b = group->first; b < group->count && ok; b++)
            ok = sink->write(sink->context, (const char *)group->blocks[b] + KV_BLOCK_HEADER,
                             kv_group_payload_bytes(table->pool, g));
    }
    return ok ? 0 : error_set(err, HEARTH_E_IO, "the KV cache could not be written");
}

static int read_head(const struct kv_table *table, uint32_t tokens_max,
                     const struct kv_source *source, struct image_head *head,
                     struct hearth_error *err)
{
    struct image_head expected;
    describe(table, &expected);
    memset(head, 0, sizeof *head);
    if (!source->read(source->context, head, head_bytes(expected.groups)))
        return error_set(err, HEARTH_E_IO, "the saved KV cache could not be read");
    expected.tokens = head->tokens;
    for (uint32_t g = 0; g < expected.groups; g++)
        expected.group[g].first = head->group[g].first;
    if (memcmp(head, &expected, head_bytes(expected.groups)) != 0)
        return error_set(err, HEARTH_E_FORMAT, "this is no KV cache of this model and type");
    if (head->tokens > tokens_max)
        return error_set(err, HEARTH_E_LIMIT,
                         "the saved KV cache holds %u tokens, %u have room here", head->tokens,
                         tokens_max);
    for (uint32_t g = 0; g < head->groups; g++) {
        uint32_t visible = kv_first_visible(head->group[g].window, head->tokens);
        uint32_t blocks = kv_blocks_for(head->tokens), first = visible / KV_BLOCK_TOKENS;
        if (head->group[g].first > (first < blocks ? first : blocks))
            return error_set(err, HEARTH_E_FORMAT, "the saved KV cache lacks what it should hold");
    }
    return 0;
}

static int read_group(struct kv_table *table, uint32_t g, const struct image_head *head,
                      const struct kv_source *source, struct hearth_error *err)
{
    struct kv_group_table *group = &table->groups[g];
    uint32_t count = kv_blocks_for(head->tokens);
    int status = kv_table_widen(table, g, count, err);
    if (status)
        return status;
    group->first = group->count = head->group[g].first;
    for (uint32_t b = 0; b < group->first; b++)
        group->blocks[b] = NULL;
    for (uint32_t b = group->first; b < count; b++) {
        status = kv_block_acquire(table->pool, g, &group->blocks[b], err);
        if (status)
            return status;
        group->count = b + 1;
        if (!source->read(source->context, (char *)group->blocks[b] + KV_BLOCK_HEADER,
                          kv_group_payload_bytes(table->pool, g)))
            return error_set(err, HEARTH_E_IO, "the saved KV cache could not be read");
    }
    return 0;
}

int kv_image_read(struct kv_table *table, uint32_t tokens_max, const struct kv_source *source,
                  struct hearth_error *err)
{
    struct image_head head;
    assert(table->tokens == 0);
    int status = read_head(table, tokens_max, source, &head, err);
    for (uint32_t g = 0; g < kv_pool_groups(table->pool) && !status; g++)
        status = read_group(table, g, &head, source, err);
    if (status) {
        kv_table_truncate(table, 0);
        return status;
    }
    table->tokens = head.tokens;
    return 0;
}
