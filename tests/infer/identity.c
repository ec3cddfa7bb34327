/* What names models and engines: the same for the same content, another for any other. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf/types.h"
#include "hearth/hearth.h"
#include "tiny_model.h"

static const uint32_t types[] = {TYPE_Q8_0};

static struct tiny_model shape_of(uint64_t seed)
{
    return (struct tiny_model){.architecture = "llama",
                               .vocabulary = 96,
                               .embedding = 64,
                               .layers = 2,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_size = 32,
                               .ff = 96,
                               .types = types,
                               .type_count = 1,
                               .seed = seed};
}

static struct hearth_model *open_tiny(const struct tiny_model *shape,
                                      const struct hearth_model_options *options)
{
    char path[TEST_PATH_MAX];
    struct hearth_model *model;
    struct hearth_error err;
    tiny_model_write(shape, path);
    if (hearth_model_open(path, options, &model, &err))
        fail_msg("%s", err.text);
    remove(path);
    return model;
}

static void identify(const struct tiny_model *shape, const struct hearth_model_options *options,
                     char identity[HEARTH_IDENTITY_SIZE])
{
    struct hearth_model *model = open_tiny(shape, options);
    assert_int_equal(hearth_model_identity(model, identity, NULL), 0);
    assert_int_equal(strlen(identity), HEARTH_IDENTITY_SIZE - 1);
    assert_int_equal(strspn(identity, "0123456789abcdef"), HEARTH_IDENTITY_SIZE - 1);
    hearth_model_close(model);
}

static void a_model_is_named_by_its_content(void **state)
{
    (void)state;
    static const struct hearth_model_options copied = {.no_mmap = true};
    struct tiny_model one = shape_of(7), weights = shape_of(8), keys = shape_of(7);
    keys.chat_template = "{{ messages }}";
    char a[HEARTH_IDENTITY_SIZE], b[HEARTH_IDENTITY_SIZE];
    identify(&one, NULL, a);
    identify(&one, &copied, b); /* at another path, and in other memory */
    assert_string_equal(a, b);
    identify(&weights, NULL, b);
    assert_string_not_equal(a, b);
    identify(&keys, NULL, b);
    assert_string_not_equal(a, b);
}

static void an_engine_is_named_by_model_and_kv_type(void **state)
{
    (void)state;
    enum { KINDS = 5 };
    char names[KINDS][HEARTH_IDENTITY_SIZE], again[HEARTH_IDENTITY_SIZE];
    for (int i = 0; i < KINDS; i++) {
        struct tiny_model shape = shape_of(i < 4 ? 7 : 8);
        struct hearth_engine_options options = {.threads = 1,
                                                .kv_type = (enum hearth_kv_type)(i % 4)};
        struct hearth_model *model = open_tiny(&shape, NULL);
        for (int twice = 0; twice < 2; twice++) {
            struct hearth_engine *engine;
            assert_int_equal(hearth_engine_open(model, &options, &engine, NULL), 0);
            assert_int_equal(hearth_engine_identity(engine, twice ? again : names[i], NULL), 0);
            hearth_engine_close(engine);
            options.threads = 2;
        }
        assert_string_equal(names[i], again);
        hearth_model_close(model);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(names[i], names[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_is_named_by_its_content),
        cmocka_unit_test(an_engine_is_named_by_model_and_kv_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
