/* The prefix cache, against a plain list of what was put in. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "kv/pool.h"
#include "kv/prefix.h"

#define TOKENS_MAX 200

static const struct kv_layer layers[] = {
    {.group = 0, .heads = 1, .key_size = 32, .value_size = 32},
    {.group = 1, .heads = 1, .key_size = 32, .value_size = 32},
};

struct cache {
    struct kv_pool *pool;
    struct kv_prefix *prefix;
};

static struct cache open_cache(uint32_t window)
{
    const uint32_t windows[] = {0, window};
    struct kv_pool_options options = {
        .layers = layers,
        .layer_count = window ? 2 : 1,
        .windows = windows,
        .group_count = window ? 2 : 1,
    };
    struct cache cache;
    assert_int_equal(kv_pool_create(&options, &cache.pool, NULL), 0);
    cache.prefix = kv_prefix_create(cache.pool);
    assert_non_null(cache.prefix);
    return cache;
}

static void close_cache(struct cache *cache)
{
    kv_prefix_destroy(cache->prefix);
    assert_int_equal(kv_pool_bytes(cache->pool), 0);
    kv_pool_destroy(cache->pool);
}

/* What the slot of a token would hold in the first part of a group's block: here a number that says
 * which tokens came before. */
static uint32_t *slot_of(const struct kv_table *table, uint32_t group, uint32_t token)
{
    char *block = table->groups[group].blocks[token / KV_BLOCK_TOKENS];
    uint32_t layer = group; /* the one of this group */
    return (uint32_t *)(void *)(block + kv_part_offset(table->pool, layer, 0)) +
           token % KV_BLOCK_TOKENS;
}

static uint32_t mark_of(const uint32_t *ids, uint32_t token)
{
    uint32_t mark = 17;
    for (uint32_t i = 0; i <= token; i++)
        mark = mark * 31 + ids[i] + 1;
    return mark;
}

/* "Computes" the tokens that a table lacks, as a pass does. */
static void compute(struct kv_table *table, const uint32_t *ids, uint32_t from, uint32_t tokens)
{
    for (uint32_t t = from; t < tokens; t++) {
        assert_int_equal(kv_table_reserve(table, t + 1, NULL), 0);
        for (uint32_t g = 0; g < kv_pool_groups(table->pool); g++)
            *slot_of(table, g, t) = mark_of(ids, t);
        kv_table_slide(table, t + 1);
    }
}

/* Everything that the next token sees is what was computed for these ids. */
static void expect_marks(const struct kv_table *table, const uint32_t *ids, uint32_t tokens)
{
    assert_int_equal(table->tokens, tokens);
    assert_true(kv_table_covers(table, tokens));
    for (uint32_t g = 0; g < kv_pool_groups(table->pool); g++) {
        uint32_t first = kv_first_visible(kv_group_window(table->pool, g), tokens);
        for (uint32_t t = first; t < tokens; t++)
            assert_int_equal(*slot_of(table, g, t), mark_of(ids, t));
    }
}

static void put(struct cache *cache, const uint32_t *ids, uint32_t tokens)
{
    struct kv_table table;
    kv_table_init(&table, cache->pool);
    uint32_t from = kv_prefix_match(cache->prefix, ids, tokens, &table);
    compute(&table, ids, from, tokens);
    kv_prefix_insert(cache->prefix, ids, tokens, &table);
    kv_table_finish(&table);
}

static uint32_t matched(struct cache *cache, const uint32_t *ids, uint32_t tokens)
{
    struct kv_table table;
    kv_table_init(&table, cache->pool);
    uint32_t found = kv_prefix_match(cache->prefix, ids, tokens, &table);
    if (found)
        expect_marks(&table, ids, found);
    kv_table_finish(&table);
    return found;
}

static void count_up(uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        ids[i] = i;
}

static void what_was_put_in_is_found_to_the_token(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t ids[TOKENS_MAX], other[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    assert_int_equal(matched(&cache, ids, 100), 0);
    put(&cache, ids, 100);
    for (uint32_t n = 1; n <= 150; n++)
        assert_int_equal(matched(&cache, ids, n), n < 100 ? n : 100);
    for (uint32_t n = 0; n < 100; n++) {
        memcpy(other, ids, sizeof ids);
        other[n] = 999;
        assert_int_equal(matched(&cache, other, 150), n);
    }
    close_cache(&cache);
}

static void equal_beginnings_are_held_once(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t ids[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    put(&cache, ids, 64);
    uint64_t two = kv_pool_bytes(cache.pool);
    for (uint32_t i = 0; i < 10; i++) {
        ids[64] = 1000 + i;
        put(&cache, ids, 65);
    }
    assert_int_equal(kv_pool_bytes(cache.pool), two + 10 * two / 2);
    close_cache(&cache);
}

static void a_grown_beginning_takes_the_place_of_the_shorter(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t ids[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    for (uint32_t n = 1; n <= 40; n++)
        put(&cache, ids, n);
    assert_int_equal(kv_pool_bytes(cache.pool), kv_pool_bytes_for(cache.pool, 40, 32));
    assert_int_equal(matched(&cache, ids, 200), 40);
    close_cache(&cache);
}

static void going_on_from_shared_blocks_leaves_them_as_they_are(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t ids[TOKENS_MAX], other[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    memcpy(other, ids, sizeof ids);
    for (uint32_t i = 50; i < TOKENS_MAX; i++)
        other[i] = 5000 + i;
    put(&cache, ids, 90);
    put(&cache, other, 90); /* shares 50 tokens: one block whole, one in part */
    assert_int_equal(matched(&cache, ids, 200), 90);
    assert_int_equal(matched(&cache, other, 200), 90);
    close_cache(&cache);
}

static void a_fork_writes_into_copies(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    struct kv_table first, second;
    uint32_t ids[TOKENS_MAX], other[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    memcpy(other, ids, sizeof ids);
    other[40] = 77;
    kv_table_init(&first, cache.pool);
    kv_table_init(&second, cache.pool);
    compute(&first, ids, 0, 60);
    assert_int_equal(kv_table_share(&second, &first, 40, NULL), 0);
    compute(&second, other, 40, 70);
    compute(&first, ids, 60, 80);
    expect_marks(&first, ids, 80);
    expect_marks(&second, other, 70);
    kv_table_finish(&first);
    expect_marks(&second, other, 70);
    kv_table_finish(&second);
    close_cache(&cache);
}

static void windows_are_gone_back_to_where_a_snapshot_is(void **state)
{
    (void)state;
    struct cache cache = open_cache(40);
    uint32_t ids[TOKENS_MAX], other[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    put(&cache, ids, 20);
    put(&cache, ids, 190);
    assert_int_equal(matched(&cache, ids, 200), 190);
    memcpy(other, ids, sizeof ids);
    other[100] = 999; /* the window at 100 is not held any more, that at 20 is */
    assert_int_equal(matched(&cache, other, 200), 20);
    close_cache(&cache);
}

static void evicting_gives_back_the_least_recently_used(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t a[TOKENS_MAX], b[TOKENS_MAX];
    count_up(a, TOKENS_MAX);
    memcpy(b, a, sizeof a);
    b[0] = 4242;
    put(&cache, a, 96);
    put(&cache, b, 96);
    uint64_t block = kv_pool_bytes(cache.pool) / 6;
    assert_int_equal(kv_prefix_bytes(cache.prefix), 6 * block);
    assert_int_equal(matched(&cache, a, 200), 96); /* a is the younger one after this */
    assert_int_equal(kv_prefix_evict(cache.prefix, 1), block);
    assert_int_equal(matched(&cache, b, 200), 64);
    assert_int_equal(matched(&cache, a, 200), 96);
    assert_int_equal(kv_prefix_evict(cache.prefix, UINT64_MAX), 5 * block);
    assert_int_equal(kv_pool_bytes(cache.pool), 0);
    close_cache(&cache);
}

static void a_text_is_forgotten_and_what_it_shares_stays(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t a[TOKENS_MAX], b[TOKENS_MAX];
    count_up(a, TOKENS_MAX);
    memcpy(b, a, sizeof a);
    b[70] = 4242;
    put(&cache, a, 100);
    put(&cache, b, 120);
    kv_prefix_forget(cache.prefix, a, 80, 100); /* in the third block: the fourth goes */
    assert_int_equal(matched(&cache, a, 200), 96);
    kv_prefix_forget(cache.prefix, a, 96, 100);
    assert_int_equal(matched(&cache, a, 200), 96);
    kv_prefix_forget(cache.prefix, a, 64, 100);
    assert_int_equal(matched(&cache, b, 200), 120);
    assert_int_equal(matched(&cache, a, 200), 70); /* in part of b's block */
    kv_prefix_forget(cache.prefix, b, 120, 120);
    assert_int_equal(matched(&cache, b, 200), 120);
    kv_prefix_forget(cache.prefix, b, 0, 120);
    assert_int_equal(kv_pool_bytes(cache.pool), 0);
    close_cache(&cache);
}

static void what_tables_hold_is_not_evicted(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    struct kv_table table;
    uint32_t ids[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    kv_table_init(&table, cache.pool);
    compute(&table, ids, 0, 64);
    kv_prefix_insert(cache.prefix, ids, 64, &table);
    assert_int_equal(kv_prefix_bytes(cache.prefix), 0);
    assert_int_equal(kv_prefix_evict(cache.prefix, UINT64_MAX), 0);
    expect_marks(&table, ids, 64);
    kv_table_finish(&table);
    assert_int_equal(matched(&cache, ids, 64), 64);
    close_cache(&cache);
}

/* ---- against a list ---- */

struct held {
    uint32_t ids[TOKENS_MAX], count;
};

static uint32_t longest_common(const struct held *list, size_t count, const struct held *wanted)
{
    uint32_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t n = 0;
        while (n < list[i].count && n < wanted->count && list[i].ids[n] == wanted->ids[n])
            n++;
        longest = n > longest ? n : longest;
    }
    return longest;
}

static void draw_ids(struct random *random, struct held *out)
{
    out->count = 1 + (uint32_t)(random_u64(random) % (TOKENS_MAX - 1));
    for (uint32_t i = 0; i < out->count; i++) /* seldom a turn: long common beginnings */
        out->ids[i] = random_u64(random) % 24 == 0 ? (uint32_t)(random_u64(random) % 3) : 0;
}

static void random_texts_are_found_as_a_list_finds_them(void **state)
{
    (void)state;
    static struct held list[300];
    struct random random;
    struct cache cache = open_cache(0);
    random = random_from_seed(7);
    for (size_t i = 0; i < 300; i++) {
        struct held wanted;
        draw_ids(&random, &wanted);
        assert_int_equal(matched(&cache, wanted.ids, wanted.count),
                         longest_common(list, i, &wanted));
        draw_ids(&random, &list[i]);
        put(&cache, list[i].ids, list[i].count);
    }
    close_cache(&cache);
}

static void windows_and_evictions_never_give_wrong_blocks(void **state)
{
    (void)state;
    struct random random;
    struct cache cache = open_cache(40);
    random = random_from_seed(11);
    for (size_t i = 0; i < 600; i++) {
        struct held wanted;
        draw_ids(&random, &wanted);
        matched(&cache, wanted.ids, wanted.count);
        draw_ids(&random, &wanted);
        put(&cache, wanted.ids, wanted.count);
        if (i % 7 == 0)
            kv_prefix_evict(cache.prefix, random_u64(&random) % 40000);
    }
    close_cache(&cache);
}

static void without_memory_it_remembers_less_and_nothing_wrong(void **state)
{
    (void)state;
    struct cache cache = open_cache(0);
    uint32_t ids[TOKENS_MAX];
    count_up(ids, TOKENS_MAX);
    for (unsigned long nth = 1; nth < 12; nth++) {
        struct kv_table table;
        kv_table_init(&table, cache.pool);
        compute(&table, ids, 0, 160);
        mem_fail_nth(nth);
        kv_prefix_insert(cache.prefix, ids, 160, &table);
        mem_fail_nth(0);
        kv_table_finish(&table);
        mem_fail_nth(nth % 3 + 1);
        kv_table_init(&table, cache.pool);
        uint32_t found = kv_prefix_match(cache.prefix, ids, 160, &table);
        mem_fail_nth(0);
        if (found)
            expect_marks(&table, ids, found);
        kv_table_finish(&table);
        kv_prefix_evict(cache.prefix, UINT64_MAX);
        assert_int_equal(kv_pool_bytes(cache.pool), 0);
    }
    close_cache(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_in_is_found_to_the_token),
        cmocka_unit_test(equal_beginnings_are_held_once),
        cmocka_unit_test(a_grown_beginning_takes_the_place_of_the_shorter),
        cmocka_unit_test(going_on_from_shared_blocks_leaves_them_as_they_are),
        cmocka_unit_test(a_fork_writes_into_copies),
        cmocka_unit_test(windows_are_gone_back_to_where_a_snapshot_is),
        cmocka_unit_test(evicting_gives_back_the_least_recently_used),
        cmocka_unit_test(a_text_is_forgotten_and_what_it_shares_stays),
        cmocka_unit_test(what_tables_hold_is_not_evicted),
        cmocka_unit_test(random_texts_are_found_as_a_list_finds_them),
        cmocka_unit_test(windows_and_evictions_never_give_wrong_blocks),
        cmocka_unit_test(without_memory_it_remembers_less_and_nothing_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
