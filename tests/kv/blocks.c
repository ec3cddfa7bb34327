/* Blocks and block tables of the KV cache. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "kv/kv.h"
#include "kv/pool.h"

/* Two layers that see everything and one with a window of 40 tokens. */
static const struct kv_layer layers[] = {
    {.group = 0, .heads = 2, .key_size = 64, .value_size = 64},
    {.group = 1, .heads = 1, .key_size = 32, .value_size = 64},
    {.group = 0, .heads = 4, .key_size = 64, .value_size = 64},
};
static const uint32_t windows[] = {0, 40};

static struct kv_pool *create(enum kv_type type, uint64_t bytes_max)
{
    struct kv_pool_options options = {
        .key_type = type,
        .value_type = type,
        .layers = layers,
        .layer_count = 3,
        .windows = windows,
        .group_count = 2,
        .bytes_max = bytes_max,
    };
    struct kv_pool *pool;
    assert_int_equal(kv_pool_create(&options, &pool, NULL), 0);
    return pool;
}

static void a_new_table_holds_no_memory(void **state)
{
    (void)state;
    struct kv_pool *pool = create(KV_F16, 0);
    struct kv_table table;
    kv_table_init(&table, pool);
    assert_int_equal(kv_pool_bytes(pool), 0);
    kv_table_finish(&table);
    kv_pool_destroy(pool);
}

static void blocks_come_with_tokens_and_go_when_cut(void **state)
{
    (void)state;
    struct kv_pool *pool = create(KV_F16, 0);
    struct kv_table table;
    kv_table_init(&table, pool);
    assert_int_equal(kv_table_reserve(&table, 1, NULL), 0);
    uint64_t one = kv_pool_bytes(pool);
    assert_int_equal(kv_table_reserve(&table, 32, NULL), 0);
    assert_int_equal(kv_pool_bytes(pool), one);
    assert_int_equal(kv_table_reserve(&table, 33, NULL), 0);
    assert_int_equal(kv_pool_bytes(pool), 2 * one);
    assert_int_equal(kv_pool_bytes(pool), kv_pool_bytes_for(pool, 33, 32));
    kv_table_truncate(&table, 32);
    assert_int_equal(kv_pool_bytes(pool), one);
    kv_table_truncate(&table, 0);
    assert_int_equal(kv_pool_bytes(pool), 0);
    kv_table_finish(&table);
    kv_pool_destroy(pool);
}

static void parts_of_layers_and_heads_do_not_overlap(void **state)
{
    (void)state;
    for (int type = 0; type < KV_TYPES; type++) {
        struct kv_pool *pool = create((enum kv_type)type, 0);
        struct kv_table table;
        kv_table_init(&table, pool);
        kv_table_reserve(&table, 1, NULL);
        for (uint32_t l = 0; l < 3; l++) {
            for (uint32_t h = 0; h < layers[l].heads; h++) {
                char *block = table.groups[layers[l].group].blocks[0];
                size_t bytes = kv_head_bytes((enum kv_type)type, (enum kv_type)type,
                                             layers[l].key_size, layers[l].value_size);
                char *part = block + kv_part_offset(pool, l, h);
                assert_int_equal((uintptr_t)part % 64, 0);
                for (size_t i = 0; i < bytes; i++)
                    assert_int_equal(part[i], 0);
                memset(part, 1, bytes);
            }
        }
        kv_table_finish(&table);
        kv_pool_destroy(pool);
    }
}

static void a_window_lets_go_of_what_nobody_sees(void **state)
{
    (void)state;
    struct kv_pool *pool = create(KV_Q8_0, 0);
    struct kv_table table;
    kv_table_init(&table, pool);
    kv_table_reserve(&table, 320, NULL);
    assert_non_null(table.groups[1].blocks[0]);
    kv_table_slide(&table, 71); /* sees 32 to 71 */
    assert_null(table.groups[1].blocks[0]);
    assert_non_null(table.groups[1].blocks[1]);
    assert_non_null(table.groups[0].blocks[0]);
    assert_true(kv_table_covers(&table, 71));
    assert_false(kv_table_covers(&table, 70));
    kv_table_truncate(&table, 100);
    assert_true(kv_table_covers(&table, 100));
    kv_table_truncate(&table, 0);
    assert_int_equal(kv_pool_bytes(pool), 0);
    kv_table_finish(&table);
    kv_pool_destroy(pool);
}

static void the_limit_holds_and_failure_changes_nothing(void **state)
{
    (void)state;
    struct kv_pool *unlimited = create(KV_F16, 0);
    uint64_t two = kv_pool_bytes_for(unlimited, 64, 32);
    kv_pool_destroy(unlimited);

    struct kv_pool *pool = create(KV_F16, two);
    struct kv_table table;
    struct hearth_error err;
    kv_table_init(&table, pool);
    assert_int_equal(kv_table_reserve(&table, 40, NULL), 0);
    assert_int_equal(kv_table_reserve(&table, 65, &err), HEARTH_E_LIMIT);
    assert_non_null(strstr(err.text, "limit"));
    assert_int_equal(table.tokens, 40);
    assert_int_equal(kv_pool_bytes(pool), two);
    kv_table_finish(&table);
    kv_pool_destroy(pool);
}

static void what_tokens_will_take_is_known_before(void **state)
{
    (void)state;
    for (uint32_t chunk = 1; chunk < 200; chunk += 13) {
        struct kv_pool *pool = create(KV_Q8_0, 0);
        struct kv_table table;
        uint64_t most = 0;
        kv_table_init(&table, pool);
        for (uint32_t tokens = 0; tokens + chunk <= 1000; tokens += chunk) {
            kv_table_slide(&table, tokens);
            assert_int_equal(kv_table_reserve(&table, tokens + chunk, NULL), 0);
            uint64_t said = kv_pool_bytes_for(pool, tokens + chunk, chunk);
            assert_true(kv_pool_bytes(pool) <= said);
            most = said;
        }
        /* a block and a half more than is needed, in the group with a window */
        assert_true(most <= kv_pool_bytes(pool) + 2 * kv_group_block_bytes(pool, 1));
        kv_table_finish(&table);
        kv_pool_destroy(pool);
    }
}

static void as_many_tokens_fit_as_their_bytes_say(void **state)
{
    (void)state;
    struct kv_pool *pool = create(KV_F16, 0);
    for (uint32_t tokens = 0; tokens <= 1024; tokens += 32) {
        uint64_t bytes = kv_pool_bytes_for(pool, tokens, 64);
        assert_int_equal(kv_pool_tokens_for(pool, bytes, 64, 4096), tokens);
        assert_int_equal(kv_pool_tokens_for(pool, bytes + 1, 64, 4096), tokens);
        if (tokens > 0)
            assert_int_equal(kv_pool_tokens_for(pool, bytes - 1, 64, 4096), tokens - 32);
    }
    assert_int_equal(kv_pool_tokens_for(pool, UINT64_MAX, 64, 4001), 4001);
    assert_int_equal(kv_pool_tokens_for(pool, 0, 64, 4001), 0);
    kv_pool_destroy(pool);
}

static void without_memory_a_table_stays_as_it_was(void **state)
{
    (void)state;
    struct kv_pool *pool = create(KV_F16, 0);
    struct kv_table table;
    kv_table_init(&table, pool);
    for (unsigned long n = 1;; n++) {
        mem_fail_nth(n);
        int status = kv_table_reserve(&table, 200, NULL);
        mem_fail_nth(0);
        if (status == 0)
            break;
        assert_int_equal(status, HEARTH_E_MEMORY);
        assert_int_equal(kv_pool_bytes(pool), 0);
    }
    kv_table_finish(&table);
    kv_pool_destroy(pool);
}

static void quantized_types_refuse_heads_that_are_no_multiple_of_32(void **state)
{
    (void)state;
    struct kv_layer odd = {.heads = 1, .key_size = 80, .value_size = 96};
    struct kv_pool_options options = {
        .layers = &odd, .layer_count = 1, .windows = windows, .group_count = 1};
    struct kv_pool *pool;
    struct hearth_error err;
    for (int keys = 0; keys < KV_TYPES; keys++) {
        options.key_type = (enum kv_type)keys;
        options.value_type = KV_Q4_0;
        if (keys == KV_F16) {
            assert_int_equal(kv_pool_create(&options, &pool, &err), 0);
            kv_pool_destroy(pool);
            continue;
        }
        assert_int_equal(kv_pool_create(&options, &pool, &err), HEARTH_E_UNSUPPORTED);
        assert_non_null(strstr(err.text, "80"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_table_holds_no_memory),
        cmocka_unit_test(blocks_come_with_tokens_and_go_when_cut),
        cmocka_unit_test(parts_of_layers_and_heads_do_not_overlap),
        cmocka_unit_test(a_window_lets_go_of_what_nobody_sees),
        cmocka_unit_test(the_limit_holds_and_failure_changes_nothing),
        cmocka_unit_test(what_tokens_will_take_is_known_before),
        cmocka_unit_test(as_many_tokens_fit_as_their_bytes_say),
        cmocka_unit_test(without_memory_a_table_stays_as_it_was),
        cmocka_unit_test(quantized_types_refuse_heads_that_are_no_multiple_of_32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
