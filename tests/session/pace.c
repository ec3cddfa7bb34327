/* Who is computed when, by a clock that goes on with what is computed: a step takes STEP_NS and
 * ROW_NS for each of its tokens. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "infer/engine.h"
#include "room.h"

#define STEP_NS UINT64_C(80000000)
#define ROW_NS UINT64_C(5000000)
#define ONE_NS (STEP_NS + ROW_NS) /* a step of one answer */

struct world {
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    uint64_t now;
    size_t computed;
};

/* Tokens that appeared since it was read last were computed in one step. */
static uint64_t read_clock(void *context)
{
    struct world *world = context;
    const struct hearth_sequence *first = world->engine->sequences, *s = first;
    size_t computed = 0;
    for (size_t i = 0; i < world->engine->sequence_count; i++, s = s->next)
        computed += s->length;
    if (computed > world->computed)
        world->now += STEP_NS + (computed - world->computed) * ROW_NS;
    world->computed = computed;
    return ++world->now;
}

static void open_world(struct world *world, uint32_t answers_max)
{
    struct hearth_engine_options engine = {.threads = 1, .kv_type = HEARTH_KV_Q8_0};
    struct hearth_sessions_options options = {
        .now = read_clock, .clock_context = world, .unix_seconds = 1, .answers_max = answers_max};
    *world = (struct world){0};
    assert_int_equal(hearth_engine_open(models[0], &engine, &world->engine, NULL), 0);
    assert_int_equal(
        hearth_sessions_open(models[0], world->engine, &options, &world->sessions, NULL), 0);
}

static void close_world(struct world *world)
{
    hearth_sessions_close(world->sessions);
    hearth_engine_close(world->engine);
}

struct answer {
    struct world *world;
    struct hearth_request *request;
    uint64_t first_ns, last_ns, longest_ns; /* when text came, and the longest wait for more */
    size_t tokens;
    bool ended;
    enum hearth_stop stop;
    char text[512];
};

static void take_text(void *context, const char *text, size_t size)
{
    struct answer *answer = context;
    uint64_t now = answer->world->now;
    (void)text;
    (void)size;
    if (answer->tokens++ == 0)
        answer->first_ns = now;
    else if (now - answer->last_ns > answer->longest_ns)
        answer->longest_ns = now - answer->last_ns;
    answer->last_ns = now;
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct answer *answer = context;
    answer->ended = true;
    answer->stop = result->stop;
    snprintf(answer->text, sizeof answer->text, "%s", result->text);
}

/* Asks a new conversation about about so many tokens of text, for an answer of so many. */
static void ask_about(struct world *world, struct answer *answer, size_t tokens,
                      uint32_t max_tokens, bool background)
{
    static char message[8192];
    static const struct hearth_logit_bias no_end = {VOCABULARY - 1, -1000.0f};
    struct hearth_sampling sampling;
    struct hearth_session *session;
    hearth_sampling_default(&sampling);
    sampling.temperature = 0.0f;
    sampling.bias = &no_end;
    sampling.bias_count = 1;
    size_t size = (size_t)snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"");
    for (size_t i = 0; i < tokens; i++)
        message[size++] = (char)('a' + (i * (tokens + max_tokens) + i / 7) % 26);
    size += (size_t)snprintf(message + size, sizeof message - size, "\"}");
    *answer = (struct answer){.world = world};
    struct hearth_ask ask = {.sampling = &sampling,
                             .max_tokens = max_tokens,
                             .no_speculation = true,
                             .background = background,
                             .on_text = take_text,
                             .on_end = take_end,
                             .context = answer};
    assert_int_equal(hearth_session_open(world->sessions, NULL, &session, NULL), 0);
    assert_int_equal(hearth_session_append(session, message, size, NULL), 0);
    assert_int_equal(hearth_session_ask(session, &ask, &answer->request, NULL), 0);
    hearth_session_close(session);
}

static void step(struct world *world)
{
    uint64_t wait;
    hearth_sessions_step(world->sessions, &wait);
}

static void until_first(struct world *world, const struct answer *answer)
{
    while (answer->tokens == 0)
        step(world);
}

static void until_end(struct world *world, const struct answer *answer)
{
    while (!answer->ended)
        step(world);
}

static void answers_keep_half_of_their_pace_while_a_prompt_is_read(void **state)
{
    (void)state;
    struct world world;
    struct answer answer, other;
    open_world(&world, 0);
    ask_about(&world, &answer, 100, 400, false);
    until_first(&world, &answer);
    for (int i = 0; i < 20; i++)
        step(&world);
    answer.longest_ns = 0;
    uint64_t begin = world.now;
    ask_about(&world, &other, 2000, 4, false);
    until_first(&world, &other);
    assert_false(answer.ended);
    assert_true(answer.longest_ns > ONE_NS);
    assert_in_range(answer.longest_ns, ONE_NS, 2 * ONE_NS + ONE_NS / 10);
    /* and the prompt gets the other half */
    assert_in_range(other.first_ns - begin, 2000 * ROW_NS, 2 * (2000 * ROW_NS) * 11 / 10);
    close_world(&world);
}

static void answers_in_the_background_hold_no_prompt_up(void **state)
{
    (void)state;
    struct world world;
    struct answer answer, other;
    open_world(&world, 0);
    ask_about(&world, &answer, 100, 400, true);
    until_first(&world, &answer);
    uint64_t begin = world.now;
    ask_about(&world, &other, 2000, 4, false);
    until_first(&world, &other);
    assert_false(answer.ended);
    assert_in_range(other.first_ns - begin, 2000 * ROW_NS, 2000 * ROW_NS + 12 * ONE_NS);
    close_world(&world);
}

static void prompts_that_come_together_are_read_together(void **state)
{
    (void)state;
    struct world world;
    struct answer answers[8];
    open_world(&world, 0);
    uint64_t begin = world.now;
    for (size_t i = 0; i < 8; i++)
        ask_about(&world, &answers[i], 200 + i, 24, false);
    for (size_t i = 0; i < 8; i++)
        until_end(&world, &answers[i]);
    uint64_t prompts = 8 * 225 * ROW_NS, steps = 8 + 24 + 4;
    assert_in_range(world.now - begin, prompts, prompts + steps * (STEP_NS + 8 * ROW_NS));
    close_world(&world);
}

static void a_short_prompt_does_not_wait_for_a_long_one(void **state)
{
    (void)state;
    struct world world;
    struct answer lengthy, brief;
    open_world(&world, 0);
    ask_about(&world, &lengthy, 3000, 4, false);
    step(&world);
    uint64_t begin = world.now;
    ask_about(&world, &brief, 20, 4, false);
    until_first(&world, &brief);
    assert_in_range(brief.first_ns - begin, ONE_NS, STEP_NS + 257 * ROW_NS);
    until_end(&world, &lengthy);
    close_world(&world);
}

static void who_talks_takes_the_place_of_what_runs_in_the_background(void **state)
{
    (void)state;
    struct world world;
    struct answer alone, background[3], talk;
    open_world(&world, 2);
    ask_about(&world, &alone, 30, 40, true);
    until_end(&world, &alone);
    close_world(&world);
    open_world(&world, 2);
    for (size_t i = 0; i < 3; i++)
        ask_about(&world, &background[i], 30, 40, true);
    for (int i = 0; i < 10; i++)
        step(&world);
    uint64_t begin = world.now;
    ask_about(&world, &talk, 50, 10, false);
    until_end(&world, &talk);
    assert_in_range(talk.first_ns - begin, ONE_NS, STEP_NS + 100 * ROW_NS);
    assert_false(background[0].ended || background[1].ended || background[2].ended);
    for (size_t i = 0; i < 3; i++) {
        until_end(&world, &background[i]);
        assert_string_equal(background[i].text, alone.text);
    }
    close_world(&world);
}

static void what_is_late_ends_wherever_it_is(void **state)
{
    (void)state;
    struct world world;
    struct answer answers[3];
    open_world(&world, 2);
    for (size_t i = 0; i < 3; i++)
        ask_about(&world, &answers[i], i == 1 ? 3000 : 30, 400, false);
    struct hearth_session *session;
    struct hearth_ask late = {.deadline_ns = world.now + 5 * ONE_NS, .on_end = take_end};
    struct answer waiting = {.world = &world};
    late.context = &waiting;
    assert_int_equal(hearth_session_open(world.sessions, NULL, &session, NULL), 0);
    assert_int_equal(
        hearth_session_append(session, "{\"role\":\"user\",\"content\":\"x\"}", 29, NULL), 0);
    assert_int_equal(hearth_session_ask(session, &late, NULL, NULL), 0);
    until_end(&world, &waiting);
    assert_int_equal(waiting.stop, HEARTH_STOP_CANCELLED);
    assert_in_range(world.now, 5 * ONE_NS, 5 * ONE_NS + STEP_NS + 257 * ROW_NS);
    hearth_session_close(session);
    /* one that is read, one that answers and one that waits, cancelled */
    for (size_t i = 0; i < 3; i++) {
        assert_false(answers[i].ended);
        hearth_request_cancel(answers[i].request);
    }
    step(&world);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(answers[i].stop, HEARTH_STOP_CANCELLED);
    close_world(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_keep_half_of_their_pace_while_a_prompt_is_read),
        cmocka_unit_test(answers_in_the_background_hold_no_prompt_up),
        cmocka_unit_test(prompts_that_come_together_are_read_together),
        cmocka_unit_test(a_short_prompt_does_not_wait_for_a_long_one),
        cmocka_unit_test(who_talks_takes_the_place_of_what_runs_in_the_background),
        cmocka_unit_test(what_is_late_ends_wherever_it_is),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
