/* Fields of bodies: what is read, what is refused and by which name, and that the schema says the
 * same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "server/fields.h"
#include "server/models.h"

struct values {
    const char *first; /* no offset of a field is 0 */
    bool flag;
    int64_t whole;
    bool whole_given;
    double real;
    struct text text;
    int choice;
    const json_t *list, *object, *any;
    int64_t seed;
};

static const char *const choices[] = {"float", "base64", NULL};
static const char *const formats[] = {"text", NULL};

#define AT(member) offsetof(struct values, member)
static const struct field table[] = {
    {"flag", FIELD_BOOL, 0, 0, AT(flag), 0, false, NULL, "A flag."},
    {"whole", FIELD_INT, -1, 20, AT(whole), AT(whole_given), false, NULL, "A number."},
    {"real", FIELD_REAL, 0, 2.5, AT(real), 0, false, NULL, NULL},
    {"text", FIELD_TEXT, 0, 4, AT(text), 0, false, NULL, NULL},
    {"choice", FIELD_CHOICE, 0, 0, AT(choice), 0, false, choices, NULL},
    {"list", FIELD_ARRAY, 0, 2, AT(list), 0, false, NULL, NULL},
    {"object", FIELD_OBJECT, 0, 0, AT(object), 0, false, NULL, NULL},
    {"any", FIELD_ANY, 0, 0, AT(any), 0, true, NULL, NULL},
    {"seed", FIELD_INT, -0x1p63, 0x1p63, AT(seed), 0, false, NULL, NULL},
    {"tools", FIELD_REFUSED, 0, 0, 0, 0, false, NULL, NULL},
    {"format", FIELD_REFUSED, 0, 0, 0, 0, false, formats, NULL},
    {"user", FIELD_IGNORED, 0, 0, 0, 0, false, NULL, NULL},
};
#define TABLE_COUNT (sizeof table / sizeof *table)

static int read_from(const char *body, struct values *values, struct refusal *refusal)
{
    json_t *object = fields_parse(text_of(body), refusal);
    assert_non_null(object);
    int status = fields_read(object, table, TABLE_COUNT, values, refusal);
    json_decref(object);
    return status;
}

static void accepted(void **state)
{
    static const char *const bodies[] = {
        "{\"any\":1}",
        "{\"any\":1,\"whole\":-1}",
        "{\"any\":1,\"whole\":20}",
        "{\"any\":1,\"whole\":20.0}",
        "{\"any\":1,\"real\":0}",
        "{\"any\":1,\"real\":2.5}",
        "{\"any\":1,\"text\":\"abcd\"}",
        "{\"any\":1,\"list\":[1,2],\"object\":{}}",
        "{\"any\":1,\"seed\":9223372036854775807}",
        "{\"any\":1,\"seed\":-9223372036854775808}",
        "{\"any\":1,\"tools\":[],\"format\":\"text\"}",
        "{\"any\":1,\"tools\":{},\"format\":\"\"}",
        "{\"any\":1,\"tools\":0,\"format\":false}",
        "{\"any\":1,\"tools\":null,\"flag\":null,\"whole\":null,\"list\":null}",
        "{\"any\":1,\"user\":{\"whatever\":[]},\"unknown\":1e300}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct values values = {0};
        struct refusal refusal = {0};
        if (read_from(bodies[i], &values, &refusal))
            fail_msg("%s: %s", bodies[i], refusal.error.text);
    }
}

static void values_are_read(void **state)
{
    struct values values = {.whole = 7, .real = 7};
    struct refusal refusal = {0};
    (void)state;
    json_t *object = fields_parse(TEXT("{\"flag\":true,\"whole\":3.0,\"text\":\"a\\u00e9\","
                                       "\"choice\":\"base64\",\"list\":[1],\"any\":\"x\"}"),
                                  &refusal);
    assert_non_null(object);
    assert_int_equal(fields_read(object, table, TABLE_COUNT, &values, &refusal), 0);
    assert_true(values.flag && values.whole_given);
    assert_int_equal(values.whole, 3);
    assert_true(values.real == 7); /* what is absent stays */
    assert_int_equal(values.text.size, 3);
    assert_memory_equal(values.text.data, "a\xc3\xa9", 3);
    assert_int_equal(values.choice, 1);
    assert_int_equal(json_array_size(values.list), 1);
    assert_string_equal(json_string_value(values.any), "x");
    assert_null(values.object);
    json_decref(object);
}

static void refused(void **state)
{
    static const struct {
        const char *body, *param, *sentence;
    } cases[] = {
        {"{}", "any", "any is missing"},
        {"{\"any\":null}", "any", "any is missing"},
        {"{\"any\":1,\"flag\":1}", "flag", "flag is 1; it must be true or false"},
        {"{\"any\":1,\"whole\":21}", "whole",
         "whole is 21; it must be a whole number from -1 to 20"},
        {"{\"any\":1,\"whole\":-2}", "whole",
         "whole is -2; it must be a whole number from -1 to 20"},
        {"{\"any\":1,\"whole\":1.5}", "whole",
         "whole is 1.5; it must be a whole number from -1 to 20"},
        {"{\"any\":1,\"whole\":\"1\"}", "whole",
         "whole is a text; it must be a whole number from -1 to 20"},
        {"{\"any\":1,\"seed\":1e19}", "seed", NULL},
        {"{\"any\":1,\"seed\":9223372036854775808.0}", "seed", NULL},
        {"{\"any\":1,\"real\":2.51}", "real", "real is 2.51; it must be a number from 0 to 2.5"},
        {"{\"any\":1,\"real\":-1e-300}", "real", NULL},
        {"{\"any\":1,\"real\":[]}", "real", "real is an array; it must be a number from 0 to 2.5"},
        {"{\"any\":1,\"text\":\"abcde\"}", "text",
         "text is of 5 bytes; it must be a text of at most 4 bytes"},
        {"{\"any\":1,\"text\":{}}", "text",
         "text is an object; it must be a text of at most 4 bytes"},
        {"{\"any\":1,\"choice\":\"int8\"}", "choice",
         "choice is \"int8\"; it must be one of \"float\", \"base64\""},
        {"{\"any\":1,\"choice\":false}", "choice", NULL},
        {"{\"any\":1,\"list\":[1,2,3]}", "list",
         "list is of 3 items; it must be an array of at most 2 items"},
        {"{\"any\":1,\"list\":true}", "list",
         "list is true; it must be an array of at most 2 items"},
        {"{\"any\":1,\"object\":[]}", "object", "object is an array; it must be an object"},
        {"{\"any\":1,\"tools\":[{}]}", "tools", "tools is not supported"},
        {"{\"any\":1,\"tools\":true}", "tools", "tools is not supported"},
        {"{\"any\":1,\"format\":\"json\"}", "format", "format is not supported"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct values values = {0};
        struct refusal refusal = {0};
        assert_int_equal(read_from(cases[i].body, &values, &refusal), -1);
        assert_int_equal(refusal.status, 400);
        assert_string_equal(refusal.param, cases[i].param);
        if (cases[i].sentence)
            assert_string_equal(refusal.error.text, cases[i].sentence);
    }
}

static void bodies_that_are_none(void **state)
{
    static const char *const bodies[] = {"",
                                         " ",
                                         "x",
                                         "[]",
                                         "\"a\"",
                                         "1",
                                         "null",
                                         "{\"a\":1} x",
                                         "{\"a\":1",
                                         "{a:1}",
                                         "{\"a\":NaN}",
                                         "{\"a\":1e999}",
                                         "{\"a\":9223372036854775808}",
                                         "{\"a\":\"\xff\"}",
                                         "{\"a\":\"\xed\xa0\x80\"}",
                                         "{\"a\":\"\\ud800\"}"};
    char *deep = malloc(1000000);
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        struct refusal refusal = {0};
        assert_null(fields_parse(text_of(bodies[i]), &refusal));
        assert_int_equal(refusal.status, 400);
        assert_true(refusal.error.text[0] != '\0');
    }
    assert_non_null(deep);
    memset(deep, '[', 1000000);
    memcpy(deep, "{\"a\":", 5);
    struct refusal refusal = {0};
    assert_null(fields_parse((struct text){deep, 1000000}, &refusal));
    assert_int_equal(refusal.status, 400);
    free(deep);
}

static void durations(void **state)
{
    static const struct {
        const char *json;
        bool valid;
        uint64_t ns;
    } cases[] = {
        {"\"10m\"", true, UINT64_C(600000000000)},
        {"\"1h30m\"", true, UINT64_C(5400000000000)},
        {"\"250ms\"", true, 250000000},
        {"\"1.5s\"", true, 1500000000},
        {"\"2us\"", true, 2000},
        {"\"2\xc2\xb5s\"", true, 2000},
        {"\"0\"", true, 0},
        {"\"30\"", true, UINT64_C(30000000000)},
        {"\"-1\"", true, MODELS_TTL_NEVER},
        {"\"-1m\"", true, MODELS_TTL_NEVER},
        {"-1", true, MODELS_TTL_NEVER},
        {"-0.5", true, MODELS_TTL_NEVER},
        {"0", true, 0},
        {"0.5", true, 500000000},
        {"3600", true, UINT64_C(3600000000000)},
        {"1e300", true, MODELS_TTL_NEVER},
        {"\"99999999999999h\"", true, MODELS_TTL_NEVER},
        {"\"\"", false, 0},
        {"\"m\"", false, 0},
        {"\"10x\"", false, 0},
        {"\"10m5\"", false, 0},
        {"\"--1\"", false, 0},
        {"\"1e3\"", false, 0},
        {"\"inf\"", false, 0},
        {"\"1 m\"", false, 0},
        {"\".\"", false, 0},
        {"true", false, 0},
        {"[]", false, 0},
        {"null", false, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t ns = 77;
        json_t *value = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);
        assert_non_null(value);
        if (fields_duration(value, &ns) != cases[i].valid ||
            ns != (cases[i].valid ? cases[i].ns : 77))
            fail_msg("%s: %llu", cases[i].json, (unsigned long long)ns);
        json_decref(value);
    }
}

static void lists_of_texts(void **state)
{
    struct text out[2];
    uint32_t count = 9;
    json_t *one = json_string("a"), *two = json_pack("[s,s]", "b", "c");
    json_t *three = json_pack("[s,s,s]", "b", "c", "d"), *mixed = json_pack("[s,i]", "b", 1);
    (void)state;
    assert_true(fields_texts(one, out, 2, &count));
    assert_int_equal(count, 1);
    assert_true(fields_texts(two, out, 2, &count));
    assert_int_equal(count, 2);
    assert_memory_equal(out[1].data, "c", 1);
    assert_false(fields_texts(three, out, 2, &count));
    assert_false(fields_texts(mixed, out, 2, &count));
    json_decref(one);
    json_decref(two);
    json_decref(three);
    json_decref(mixed);
}

static void schema_says_the_same(void **state)
{
    json_t *schema = fields_schema(table, TABLE_COUNT);
    char *said = json_dumps(schema, JSON_COMPACT | JSON_SORT_KEYS);
    (void)state;
    assert_non_null(strstr(said, "\"required\":[\"any\"]"));
    assert_non_null(strstr(said, "\"flag\":{\"description\":\"A flag.\",\"type\":[\"boolean\","
                                 "\"null\"]}"));
    assert_non_null(strstr(said, "\"whole\":{\"description\":\"A number.\",\"maximum\":20,"
                                 "\"minimum\":-1,\"type\":[\"integer\",\"null\"]}"));
    assert_non_null(strstr(said, "\"real\":{\"maximum\":2.5,\"minimum\":0,"));
    assert_non_null(strstr(said, "\"seed\":{\"type\":[\"integer\",\"null\"]}"));
    assert_non_null(strstr(said, "\"choice\":{\"enum\":[\"float\",\"base64\",null]}"));
    assert_non_null(strstr(said, "\"format\":{\"enum\":[null,false,0,\"\",[],{},\"text\"]}"));
    assert_non_null(strstr(said, "\"user\":{}"));
    free(said);
    json_decref(schema);
}

static void statuses_of_errors(void **state)
{
    static const int statuses[][2] = {
        {HEARTH_E_ARGUMENT, 400}, {HEARTH_E_FORMAT, 400},  {HEARTH_E_UNSUPPORTED, 400},
        {HEARTH_E_TEMPLATE, 400}, {HEARTH_E_LIMIT, 400},   {HEARTH_E_CRASHED, 500},
        {HEARTH_E_CHANGED, 500},  {HEARTH_E_MISSING, 404}, {HEARTH_E_STATE, 409},
        {HEARTH_E_MEMORY, 507},   {HEARTH_E_IO, 500},      {HEARTH_E_CANCELLED, 499},
        {HEARTH_E_NUMERIC, 500}};
    (void)state;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct hearth_error error = {statuses[i][0], "because"};
        struct refusal refusal = {.param = "x"};
        assert_int_equal(refusal_of(&refusal, &error), -1);
        assert_int_equal(refusal.status, statuses[i][1]);
        assert_string_equal(refusal.param, "");
        assert_string_equal(refusal.error.text, "because");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted),
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(refused),
        cmocka_unit_test(bodies_that_are_none),
        cmocka_unit_test(durations),
        cmocka_unit_test(lists_of_texts),
        cmocka_unit_test(schema_says_the_same),
        cmocka_unit_test(statuses_of_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
