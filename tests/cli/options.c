/* A command line means what its table says. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/options.h"

struct settings {
    bool flag, other;
    int32_t count;
    uint32_t size;
    int64_t seed;
    float heat;
    const char *text, *first, *second;
    struct text_list list;
    int choice;
    struct count_list counts;
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
};

static const struct operand operands[] = {
    {"FIRST", OPERAND_TEXT, true, AT(first), "what is first"},
    {"SECOND", OPERAND_TEXT, false, AT(second), "what is second"},
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

static struct hearth_error cause;
static bool help;

/* Words up to a NULL; the status in *status. The caller destroys the settings. */
static struct settings *parse(int *status, ...)
{
    char *words[16];
    int count = 0;
    va_list args;
    va_start(args, status);
    while ((words[count] = va_arg(args, char *)) != NULL)
        count++;
    va_end(args);
    struct settings *settings = settings_create(&command);
    assert_non_null(settings);
    help = false;
    cause.text[0] = '\0';
    *status = options_parse(&command, count, words, settings, &help, &cause);
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
        cmocka_unit_test(what_is_not_given_has_its_default),
        cmocka_unit_test(repeated_options_are_collected_and_a_dash_is_a_word),
        cmocka_unit_test(help_needs_nothing_else),
        cmocka_unit_test(each_mistake_has_its_sentence),
        cmocka_unit_test(long_and_strange_words_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
