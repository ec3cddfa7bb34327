/* What is thought and what is said, wherever the answer is cut into pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/reasoning.h"

#define SPACES_16 "                "
#define SPACES_64 SPACES_16 SPACES_16 SPACES_16 SPACES_16

static const struct {
    bool opens;
    const char *answer, *thought, *said;
} cases[] = {
    {false, "hello", "", "hello"},
    {false, "", "", ""},
    {false, " \n hello ", "", " \n hello "},
    {false, "<think>a</think>b", "a", "b"},
    {false, "\n<think>\n a b \n</think>\n\n b \n", "a b", "b \n"},
    {false, "<think></think>b", "", "b"},
    {false, "<think>\n\n</think>\n\nb", "", "b"},
    {false, "<think>a", "a", ""},
    {false, "<think>a \n", "a", ""},
    {false, "<think>a </thin", "a </thin", ""},
    {false, "<think", "", "<think"},
    {false, "<thinking>a</think>", "", "<thinking>a</think>"},
    {false, "<<think>a</think>", "", "<<think>a</think>"},
    {false, "b<think>a</think>", "", "b<think>a</think>"},
    {false, "<think>a < b <</think> c", "a < b <", "c"},
    {false, "<think>a</thi</think>b", "a</thi", "b"},
    {false, "<think>a</think>b<think>c</think>", "a", "b<think>c</think>"},
    {false, "<think>a\n\n\nb</think>c", "a\n\n\nb", "c"},
    {false, "<think>\xc3\xa9\n</think>\xe2\x82\xac", "\xc3\xa9", "\xe2\x82\xac"},
    {false, "<think>a" SPACES_64 "b</think>c", "a" SPACES_64 "b", "c"},
    {false, SPACES_64 "<think>a</think>c", "", SPACES_64 "<think>a</think>c"},
    {false, "<think>a" SPACES_16 SPACES_16 SPACES_16 "      </think>c", "a", "c"},
    {true, "a</think>b", "a", "b"},
    {true, "\na\n</think>\nb", "a", "b"},
    {true, "</think>b", "", "b"},
    {true, "a", "a", ""},
    {true, "", "", ""},
};

static void check(size_t i, size_t first, size_t second)
{
    struct reasoning reasoning;
    struct buffer said, thought;
    struct text whole = text_of(cases[i].answer);
    const size_t cuts[] = {0, first, second, whole.size};
    buffer_init(&said, 4096);
    buffer_init(&thought, 4096);
    reasoning_begin(&reasoning, cases[i].opens);
    for (size_t part = 0; part < 3; part++)
        reasoning_push(&reasoning,
                       (struct text){whole.data + cuts[part], cuts[part + 1] - cuts[part]}, &said,
                       &thought);
    reasoning_end(&reasoning, &said, &thought);
    if (!text_equal(buffer_text(&said), text_of(cases[i].said)) ||
        !text_equal(buffer_text(&thought), text_of(cases[i].thought)))
        fail_msg("\"%s\" cut at %zu and %zu: thought \"%.*s\", said \"%.*s\"", cases[i].answer,
                 first, second, TEXT_ARGS(buffer_text(&thought)), TEXT_ARGS(buffer_text(&said)));
    buffer_finish(&said);
    buffer_finish(&thought);
}

static void every_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = strlen(cases[i].answer);
        for (size_t first = 0; first <= size; first++)
            for (size_t second = first; second <= size; second++)
                check(i, first, second);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
