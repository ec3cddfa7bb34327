/* Drafts by themselves: what they guess, what they cost at most, what they take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "hearth/hearth.h"
#include "support/process.h"

#define ROW_COST 0.125f

static struct hearth_draft *open_draft(uint32_t guesses_max, float row_cost)
{
    struct hearth_draft_options options = {.guesses_max = guesses_max, .row_cost = row_cost};
    struct hearth_draft *draft;
    assert_int_equal(hearth_draft_open(&options, &draft, NULL), 0);
    return draft;
}

/* What a text costs with a draft, in steps of one row, less what single steps cost. */
struct account {
    double loss, worst; /* worst: above the lowest so far, less the share of the rounds since */
    double lowest;
    size_t rounds;
};

/* A round in which the text goes on with `right` of the guesses and then with another token. */
static void enter(struct account *account, size_t guesses, size_t right)
{
    account->loss += (double)guesses * (double)ROW_COST - (double)right - 0.01;
    account->rounds++;
    if (account->loss < account->lowest)
        account->lowest = account->loss;
    if (account->loss - account->lowest > account->worst)
        account->worst = account->loss - account->lowest;
}

/* Goes on with `text`, as generation would: rounds of guesses, of which those count that are right.
 */
static void follow(struct hearth_draft *draft, const uint32_t *text, size_t count,
                   struct account *account)
{
    uint32_t guesses[31];
    for (size_t at = 0; at < count;) {
        size_t proposed = hearth_draft_propose(draft, count - at - 1, guesses), right = 0;
        assert_true(proposed <= 7);
        while (right < proposed && guesses[right] == text[at + right])
            right++;
        for (size_t i = 0; i <= right; i++)
            hearth_draft_accept(draft, text[at + i]);
        at += right + 1;
        enter(account, proposed, right);
    }
}

static void fill(uint32_t *text, size_t count, uint32_t vocabulary, struct random *random)
{
    for (size_t i = 0; i < count; i++)
        text[i] = (uint32_t)(random_u64(random) % vocabulary);
}

/* ---- guesses ---- */

static void a_text_seen_before_is_guessed(void **state)
{
    (void)state;
    struct random random = random_from_seed(1);
    struct hearth_draft *draft = open_draft(0, ROW_COST);
    struct hearth_draft_counts counts;
    struct account account = {0};
    uint32_t text[400];
    fill(text, 400, 5000, &random);
    for (int twice = 0; twice < 2; twice++) {
        for (size_t i = 0; i < 400; i++)
            hearth_draft_accept(draft, text[i]);
    }
    follow(draft, text, 400, &account);
    hearth_draft_counts(draft, &counts);
    assert_true(account.rounds <= 400 / 8 + 6); /* seven right guesses and one token a round */
    assert_true(counts.accepted >= 400 - account.rounds - 1 && counts.drafted < 400 + 8);
    hearth_draft_close(draft);
}

static void a_text_that_repeats_itself_is_guessed_beyond_its_end(void **state)
{
    (void)state;
    struct hearth_draft *draft = open_draft(4, ROW_COST);
    uint32_t guesses[4];
    for (uint32_t i = 0; i < 40; i++)
        hearth_draft_accept(draft, i % 2);
    assert_int_equal(hearth_draft_propose(draft, 4, guesses), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(guesses[i], i % 2);
    for (uint32_t i = 0; i < 4; i++)
        hearth_draft_accept(draft, guesses[i]);
    assert_int_equal(hearth_draft_propose(draft, 2, guesses), 2);
    assert_int_equal(hearth_draft_propose(draft, 0, guesses), 0);
    hearth_draft_close(draft);
}

static uint32_t guess_behind(const uint32_t *text, size_t count)
{
    struct hearth_draft *draft = open_draft(1, ROW_COST);
    uint32_t guess;
    for (size_t i = 0; i < count; i++)
        hearth_draft_accept(draft, text[i]);
    assert_int_equal(hearth_draft_propose(draft, 1, &guess), 1);
    hearth_draft_close(draft);
    return guess;
}

static void the_longest_and_of_those_the_newest_run_counts(void **state)
{
    (void)state;
    static const uint32_t longest[] = {1, 2, 3, 4, 5, 6, 9, 2, 3, 4, 5, 7, 8, 3, 1, 2, 3, 4, 5};
    static const uint32_t newest[] = {1, 2, 3, 7, 1, 2, 3, 8, 5, 2, 4, 3, 9, 1, 2, 3};
    assert_int_equal(guess_behind(longest, sizeof longest / sizeof longest[0]), 6);
    assert_int_equal(guess_behind(newest, sizeof newest / sizeof newest[0]), 8);
}

static void a_restart_forgets_the_text(void **state)
{
    (void)state;
    struct hearth_draft *draft = open_draft(0, ROW_COST);
    uint32_t guesses[7];
    for (uint32_t i = 0; i < 40; i++)
        hearth_draft_accept(draft, i % 4);
    assert_true(hearth_draft_propose(draft, 7, guesses) > 0);
    hearth_draft_restart(draft);
    assert_int_equal(hearth_draft_propose(draft, 7, guesses), 0);
    for (uint32_t i = 0; i < 4; i++)
        hearth_draft_accept(draft, i);
    assert_int_equal(hearth_draft_propose(draft, 7, guesses), 0);
    hearth_draft_close(draft);
}

/* ---- what it costs ---- */

/* Few kinds of tokens, so that runs are found all the time and say nothing. */
static void a_text_without_repetition_loses_next_to_nothing(void **state)
{
    (void)state;
    static uint32_t text[20000];
    for (uint32_t vocabulary = 4; vocabulary <= 4096; vocabulary *= 4) {
        struct random random = random_from_seed(vocabulary);
        struct hearth_draft *draft = open_draft(0, ROW_COST);
        struct account account = {0};
        fill(text, 20000, vocabulary, &random);
        follow(draft, text, 20000, &account);
        assert_true(account.loss <= 0.5);
        assert_true(account.loss + 0.01 * (double)account.rounds <= 0.01 * 20000);
        hearth_draft_close(draft);
    }
}

/* The text goes on as guessed until much is trusted, and then never: again and again. */
static void a_text_that_deceives_loses_a_bounded_part(void **state)
{
    (void)state;
    struct random random = random_from_seed(7);
    struct hearth_draft *draft = open_draft(0, ROW_COST);
    struct account account = {0};
    uint32_t guesses[7];
    for (uint32_t i = 0; i < 100; i++)
        hearth_draft_accept(draft, i % 10);
    for (int turn = 0; turn < 200; turn++) {
        size_t honest = random_u64(&random) % 20, deceiving = random_u64(&random) % 200;
        for (size_t round = 0; round < honest + deceiving; round++) {
            size_t proposed = hearth_draft_propose(draft, 7, guesses);
            size_t right = round < honest ? proposed : 0;
            for (size_t i = 0; i < right; i++)
                hearth_draft_accept(draft, guesses[i]);
            uint32_t other = proposed > right ? (guesses[right] + 1) % 10 : (uint32_t)round % 10;
            hearth_draft_accept(draft, other);
            enter(&account, proposed, right);
        }
    }
    assert_true(account.worst <= 1.5 + 1e-9);
    hearth_draft_close(draft);
}

/* Where a further row costs more than a step, next to nothing is guessed once that is known. */
static void a_cost_that_is_measured_is_heeded(void **state)
{
    (void)state;
    struct hearth_draft *draft = open_draft(0, 0.0f);
    uint32_t guesses[7];
    size_t wasted = 0;
    for (uint32_t i = 0; i < 100; i++)
        hearth_draft_accept(draft, i % 10);
    for (uint32_t round = 0; round < 400; round++) {
        size_t proposed = hearth_draft_propose(draft, 7, guesses);
        hearth_draft_took(draft, proposed + 1, 1000000 + 1500000 * proposed);
        for (size_t i = 0; i < proposed; i++)
            hearth_draft_accept(draft, guesses[i]);
        hearth_draft_accept(draft, 100 + round);
        for (uint32_t i = 0; i < 9; i++) /* back into what is known */
            hearth_draft_accept(draft, i);
        wasted += round >= 100 ? proposed : 0;
    }
    assert_true(wasted <= 20);
    hearth_draft_close(draft);
}

/* ---- limits ---- */

static void options_are_checked(void **state)
{
    (void)state;
    struct hearth_draft_options options = {.guesses_max = 32};
    struct hearth_draft *draft = NULL;
    assert_int_equal(hearth_draft_open(&options, &draft, NULL), HEARTH_E_ARGUMENT);
    options = (struct hearth_draft_options){.row_cost = 1.5f};
    assert_int_equal(hearth_draft_open(&options, &draft, NULL), HEARTH_E_ARGUMENT);
    options.row_cost = -0.1f;
    assert_int_equal(hearth_draft_open(&options, &draft, NULL), HEARTH_E_ARGUMENT);
    for (unsigned long n = 1; n <= 3; n++) {
        mem_fail_nth(n);
        assert_int_equal(hearth_draft_open(NULL, &draft, NULL), HEARTH_E_MEMORY);
        mem_fail_nth(0);
    }
    assert_null(draft);
    hearth_draft_close(NULL);
}

static void a_long_text_takes_bounded_memory(void **state)
{
    (void)state;
    struct hearth_memory before, after;
    struct random random = random_from_seed(3);
    struct hearth_draft *draft = open_draft(0, ROW_COST);
    uint32_t guesses[7];
    hearth_process_memory(&before);
    for (uint32_t i = 0; i < 1000000; i++)
        hearth_draft_accept(draft, (uint32_t)(random_u64(&random) % 50000));
    hearth_process_memory(&after);
    assert_true(SANITIZED || after.private_bytes < before.private_bytes + (3u << 20));
    for (uint32_t i = 0; i < 60000; i++)
        hearth_draft_accept(draft, i);
    for (uint32_t i = 0; i < 10; i++)
        hearth_draft_accept(draft, i);
    assert_true(hearth_draft_propose(draft, 7, guesses) > 0); /* of 60,010 tokens ago */
    assert_int_equal(guesses[0], 10);
    hearth_draft_close(draft);
}

static void without_memory_it_remembers_less(void **state)
{
    (void)state;
    struct hearth_draft *draft = open_draft(0, ROW_COST);
    uint32_t guesses[7];
    for (unsigned long n = 1; n <= 4; n++) {
        for (uint32_t i = 0; i < 1500; i++) {
            mem_fail_nth(n % 2 + 1);
            hearth_draft_accept(draft, i % 600);
            mem_fail_nth(0);
        }
    }
    assert_true(hearth_draft_propose(draft, 7, guesses) > 0);
    assert_int_equal(guesses[0], 300);
    hearth_draft_close(draft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_seen_before_is_guessed),
        cmocka_unit_test(a_text_that_repeats_itself_is_guessed_beyond_its_end),
        cmocka_unit_test(the_longest_and_of_those_the_newest_run_counts),
        cmocka_unit_test(a_restart_forgets_the_text),
        cmocka_unit_test(a_text_without_repetition_loses_next_to_nothing),
        cmocka_unit_test(a_text_that_deceives_loses_a_bounded_part),
        cmocka_unit_test(a_cost_that_is_measured_is_heeded),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(a_long_text_takes_bounded_memory),
        cmocka_unit_test(without_memory_it_remembers_less),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
