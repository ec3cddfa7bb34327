/* A command line means what its table says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

struct settings {
    bool flag, other;
    int32_t count;
    uint32_t size;
    int64_t seed;
    float heat;
    uint64_t bytes;
    const char *text, *first, *second;
    struct text_list list;
    int choice;
    struct count_list counts;
    uint64_t time;
    const char *name;
    int action;
    struct text_list names;
};

#define AT(field) offsetof(struct settings, field)
#define NAMED(spelling, letter, kind, field)                                                       \
    .name = spelling, .short_name = letter, .type = kind, .offset = AT(field), .topic = "A",       \
    .argument = kind == OPTION_FLAG ? NULL : "X", .help = "Help."

static const char *const colours[] = {"red", "green", NULL};

static const struct option options[] = {
    {NAMED("flag", 'f', OPTION_FLAG, flag)},
    {NAMED("other", 'o', OPTION_FLAG, other)},
    {NAMED("count", 'c', OPTION_INT, count), .min = -2, .max = 2147483647},
    {NAMED("size", 's', OPTION_UINT, size), .min = 1, .max = 4294967295.0},
    {NAMED("seed", '\0', OPTION_SEED, seed), .min = 0, .max = 9007199254740991.0},
    {NAMED("heat", '\0', OPTION_REAL, heat), .min = 0, .max = -1},
    {NAMED("text", 't', OPTION_TEXT, text)},
    {NAMED("list", 'l', OPTION_TEXTS, list)},
    {NAMED("colour", '\0', OPTION_CHOICE, choice), .choices = colours},
    {NAMED("numbers", 'n', OPTION_COUNTS, counts), .min = 1, .max = 9},
    {NAMED("time", '\0', OPTION_DURATION, time)},
    {NAMED("name", '\0', OPTION_SESSION, name)},
    {NAMED("bytes", 'b', OPTION_SIZE, bytes), .min = 1, .max = 1e18},
};

static const struct operand operands[] = {
    {"FIRST", OPERAND_TEXT, true, AT(first), "what is first", NULL},
    {"SECOND", OPERAND_TEXT, false, AT(second), "what is second", NULL},
};

static const char *const actions[] = {"list", "show", "remove", NULL};

static const struct operand action_operands[] = {
    {"ACTION", OPERAND_CHOICE, false, AT(action), "list, show or remove", actions},
    {"NAME", OPERAND_SESSIONS, false, AT(names), "whom it is done to", NULL},
};

static void defaults(void *settings)
{
    ((struct settings *)settings)->count = 7;
    ((struct settings *)settings)->counts = (struct count_list){{4, 5}, 2};
}

static const struct command command = {
    .name = "test",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .operands = operands,
    .operand_count = 2,
    .settings_size = sizeof(struct settings),
    .defaults = defaults,
};

static const struct command action_command = {
    .name = "act",
    .operands = action_operands,
    .operand_count = 2,
    .settings_size = sizeof(struct settings),
};

static struct hearth_error cause;
static bool help;

/* Words up to a NULL; the status in *status. The caller destroys the settings. */
static struct settings *parse_by(const struct command *table, int *status, va_list args)
{
    char *words[16];
    int count = 0;
    while ((words[count] = va_arg(args, char *)) != NULL)
        count++;
    struct settings *settings = settings_create(table);
    assert_non_null(settings);
    help = false;
    cause.text[0] = '\0';
    *status = options_parse(table, count, words, settings, &help, &cause);
    return settings;
}

static struct settings *parse(int *status, ...)
{
    va_list args;
    va_start(args, status);
    struct settings *settings = parse_by(&command, status, args);
    va_end(args);
    return settings;
}

static struct settings *parse_action(int *status, ...)
{
    va_list args;
    va_start(args, status);
    struct settings *settings = parse_by(&action_command, status, args);
    va_end(args);
    return settings;
}

static void options_are_read_in_every_spelling(void **state)
{
    (void)state;
    int status;
    struct settings *s =
        parse(&status, "a", "-fo", "-c-2", "--size=5", "b", "--heat", "0.5", "-t", "-x", "--seed",
              "9007199254740991", "--colour=green", "-n3,1,9", NULL);
    assert_int_equal(status, 0);
    assert_true(s->flag && s->other);
    assert_int_equal(s->count, -2);
    assert_int_equal(s->size, 5);
    assert_true(s->seed == 9007199254740991);
    assert_true(s->heat == 0.5f);
    assert_string_equal(s->text, "-x");
    assert_string_equal(s->first, "a");
    assert_string_equal(s->second, "b");
    assert_int_equal(s->choice, 1);
    assert_int_equal(s->counts.count, 3);
    assert_int_equal(s->counts.items[0], 3);
    assert_int_equal(s->counts.items[2], 9);
    settings_destroy(&command, s);
}

static void sizes_have_units(void **state)
{
    static const struct {
        char text[16];
        uint64_t bytes;
    } good[] = {
        {"1", 1},
        {"512", 512},
        {"20K", 20000},
        {"20Ki", 20480},
        {"300M", 300000000},
        {"2.6G", 2600000000},
        {"2.6GB", 2600000000},
        {"1.5Gi", 1610612736},
        {"1.5GiB", 1610612736},
        {".5Mi", 524288},
        {"3.M", 3000000},
        {"0.001K", 1},
        {"2T", 2000000000000},
        {"1Ti", 1099511627776},
        {"12B", 12},
        {"1000000000G", 1000000000000000000},
    };
    static const char *const bad[] = {
        "",     "0",   "M",   ".",    ".M",       "-1",
        "+1",   "1 G", " 1G", "1e3",  "0x1",      "inf",
        "nan",  "1g",  "1GG", "1Gi2", "1iB",      "1.2.3M",
        "1,5G", "1P",  "0.1", "1BB",  "1000001T", "99999999999999999999999999999999"};
    (void)state;
    int status;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct settings *s = parse(&status, "a", "--bytes", good[i].text, NULL);
        assert_int_equal(status, 0);
        if (s->bytes != good[i].bytes)
            fail_msg("%s became %llu", good[i].text, (unsigned long long)s->bytes);
        settings_destroy(&command, s);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct settings *s = parse(&status, "a", "-b", bad[i], NULL);
        if (status != HEARTH_E_ARGUMENT || s->bytes != 0)
            fail_msg("'%s' is taken for a size", bad[i]);
        assert_non_null(strstr(cause.text, "--bytes takes a size, as 500M or 2.6G"));
        settings_destroy(&command, s);
    }
}

static void what_is_not_given_has_its_default(void **state)
{
    (void)state;
    int status;
    struct settings *s = parse(&status, "a", NULL);
    assert_int_equal(status, 0);
    assert_int_equal(s->count, 7);
    assert_null(s->second);
    assert_null(s->text);
    struct buffer text;
    buffer_init(&text, 100);
    option_default(&options[2], s, &text);
    assert_string_equal(text.data, "7");
    option_default(&options[9], s, &text);
    assert_string_equal(text.data, "74,5");
    buffer_finish(&text);
    settings_destroy(&command, s);
}

static void expect_time(const char *word, uint64_t ns, const char *shown)
{
    int status;
    struct settings *s = parse(&status, "a", "--time", word, NULL);
    assert_int_equal(status, 0);
    assert_true(s->time == ns);
    struct buffer text;
    buffer_init(&text, 100);
    option_default(&options[10], s, &text);
    assert_string_equal(text.data, shown);
    buffer_finish(&text);
    settings_destroy(&command, s);
}

static void times_have_units(void **state)
{
    (void)state;
    expect_time("5m", UINT64_C(300000000000), "5m");
    expect_time("300s", UINT64_C(300000000000), "5m");
    expect_time("90s", UINT64_C(90000000000), "90s");
    expect_time("250ms", UINT64_C(250000000), "250ms");
    expect_time("1.5h", UINT64_C(5400000000000), "90m");
    expect_time("0.5s", UINT64_C(500000000), "500ms");
    expect_time("0", 0, "0");
    expect_time("0s", 0, "0");
    expect_time("never", UINT64_MAX, "never");
}

static void an_operand_may_be_a_choice_and_others_may_repeat(void **state)
{
    (void)state;
    int status;
    struct settings *s = parse_action(&status, NULL);
    assert_int_equal(status, 0);
    assert_int_equal(s->action, 0);
    assert_int_equal(s->names.count, 0);
    settings_destroy(&action_command, s);
    s = parse_action(&status, "remove", "a", "--", "list", "-h", NULL);
    assert_int_equal(status, 0);
    assert_int_equal(s->action, 2);
    assert_int_equal(s->names.count, 3);
    assert_string_equal(s->names.items[0], "a");
    assert_string_equal(s->names.items[1], "list");
    assert_string_equal(s->names.items[2], "-h");
    settings_destroy(&action_command, s);
    s = parse_action(&status, "remoev", "a", NULL);
    assert_int_equal(status, HEARTH_E_ARGUMENT);
    assert_string_equal(cause.text, "'remoev' is no ACTION; did you mean remove?");
    settings_destroy(&action_command, s);
    s = parse_action(&status, "something else", NULL);
    assert_string_equal(cause.text, "'something else' is no ACTION: list, show or remove");
    settings_destroy(&action_command, s);
}

static void repeated_options_are_collected_and_a_dash_is_a_word(void **state)
{
    (void)state;
    int status;
    struct settings *s = parse(&status, "-", "-l", "x", "--list=", "-ly", "--", "--flag", NULL);
    assert_int_equal(status, 0);
    assert_int_equal(s->list.count, 3);
    assert_string_equal(s->list.items[0], "x");
    assert_string_equal(s->list.items[1], "");
    assert_string_equal(s->list.items[2], "y");
    assert_string_equal(s->first, "-");
    assert_string_equal(s->second, "--flag");
    assert_false(s->flag);
    settings_destroy(&command, s);
}

static void help_needs_nothing_else(void **state)
{
    (void)state;
    int status;
    struct settings *s = parse(&status, "-h", "--nonsense", NULL);
    assert_int_equal(status, 0);
    assert_true(help);
    settings_destroy(&command, s);
}

static void expect_refused(const char *word, const char *sentence)
{
    int status;
    struct settings *s = parse(&status, "a", word, NULL);
    assert_int_equal(status, HEARTH_E_ARGUMENT);
    assert_string_equal(cause.text, sentence);
    settings_destroy(&command, s);
}

static void each_mistake_has_its_sentence(void **state)
{
    (void)state;
    expect_refused("--count=2147483648",
                   "--count takes a whole number from -2 to 2147483647, not '2147483648'");
    expect_refused("--count=-3", "--count takes a whole number from -2 to 2147483647, not '-3'");
    expect_refused("-c1.5", "--count takes a whole number from -2 to 2147483647, not '1.5'");
    expect_refused("--size=0", "--size takes a whole number from 1 to 4294967295, not '0'");
    expect_refused("--seed=-1", "--seed takes a whole number from 0 to 9007199254740991, not '-1'");
    expect_refused("--heat=-1", "--heat takes a number of at least 0, not '-1'");
    expect_refused("--heat=1e999", "--heat takes a number of at least 0, not '1e999'");
    expect_refused("--colour=blue", "--colour takes one of red, green, not 'blue'");
    expect_refused(
        "--numbers=3,10",
        "--numbers takes whole numbers from 1 to 9, with commas between them, not '3,10'");
    expect_refused("--numbers=3,",
                   "--numbers takes whole numbers from 1 to 9, with commas between them, not '3,'");
    static const char *const times[] = {"5",     "5x",  "",    "m",   "-5m",          "1e3s",
                                        "0x5m",  "5 m", "nan", "inf", "99999999999h", "1.2.3s",
                                        "Never", "5mm"};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        char word[64], sentence[200];
        snprintf(word, sizeof word, "--time=%s", times[i]);
        snprintf(sentence, sizeof sentence,
                 "--time takes a time such as 500ms, 90s, 5m or 1.5h, or 0, or never, not '%s'",
                 times[i]);
        expect_refused(word, sentence);
    }
    expect_refused("--flag=1", "--flag takes no value");
    expect_refused("--text", "--text needs a value: --text X");
    expect_refused("--sise=1", "there is no option --sise; did you mean --size?");
    expect_refused("--col=red", "there is no option --col; did you mean --colour?");
    expect_refused("--completely-other", "there is no option --completely-other");
    expect_refused("-fq", "there is no option -q");
}

static void long_and_strange_words_are_refused(void **state)
{
    (void)state;
    static char word[100000];
    int status;
    memset(word, 'x', sizeof word - 1);
    word[0] = word[1] = '-';
    struct settings *s = parse(&status, "a", word, NULL);
    assert_int_equal(status, HEARTH_E_ARGUMENT);
    settings_destroy(&command, s);
    s = parse(&status, "a", "b", "c", NULL);
    assert_int_equal(status, HEARTH_E_ARGUMENT);
    settings_destroy(&command, s);
    s = parse(&status, NULL);
    assert_int_equal(status, HEARTH_E_ARGUMENT);
    assert_string_equal(cause.text, "hearth test needs FIRST: what is first");
    settings_destroy(&command, s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_read_in_every_spelling),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(times_have_units),
        cmocka_unit_test(an_operand_may_be_a_choice_and_others_may_repeat),
        cmocka_unit_test(repeated_options_are_collected_and_a_dash_is_a_word),
        cmocka_unit_test(help_needs_nothing_else),
        cmocka_unit_test(each_mistake_has_its_sentence),
        cmocka_unit_test(long_and_strange_words_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
