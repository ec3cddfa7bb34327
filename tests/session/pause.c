/* Requests that are paused: they compute nothing and say nothing, nobody else notices, and in the
 * end they have said what they would have said. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_store.h"
#include "hearth/session.h"
#include "room.h"

#define REPEATS "abcdefghabcdefghabcdefghabcdefghabcdefgh"
#define COUNT_MAX 12

struct talk {
    struct hearth_session *session;
    struct hearth_request *request;
    size_t tokens, began;
    size_t pause_at; /* tokens; it pauses `victim` then */
    struct hearth_request **victim;
    bool ended;
    char text[1024];
    struct hearth_result result;
};

static void take_begin(void *context, const struct hearth_prompt *prompt)
{
    struct talk *talk = context;
    (void)prompt;
    talk->began++;
    if (talk->victim && talk->pause_at == 0)
        hearth_request_pause(*talk->victim, true);
}

static void take_token(void *context, const struct hearth_drawn *drawn)
{
    struct talk *talk = context;
    (void)drawn;
    talk->tokens++;
    if (talk->victim && talk->tokens == talk->pause_at)
        hearth_request_pause(*talk->victim, true);
}

static void take_text(void *context, const char *text, size_t size)
{
    struct talk *talk = context;
    size_t length = strlen(talk->text);
    assert_true(length + size < sizeof talk->text);
    memcpy(talk->text + length, text, size);
    talk->text[length + size] = '\0';
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct talk *talk = context;
    assert_false(talk->ended);
    talk->result = *result;
    talk->ended = true;
}

/* A sampled answer of 40 tokens that is guessed at; `number` makes it another one. */
static void begin_talk(struct room *room, struct talk *talk, size_t number)
{
    char text[128], turn_text[64];
    struct hearth_sampling sampling;
    hearth_sampling_default(&sampling);
    sampling.seed = number;
    sampling.temperature = 0.4f;
    const struct hearth_ask what = {
        .sampling = &sampling,
        .max_tokens = 40,
        .ignore_end = true,
        .on_begin = take_begin,
        .on_token = take_token,
        .on_text = take_text,
        .on_end = take_end,
        .context = talk,
    };
    text_of_turn(turn_text, number, 0);
    snprintf(text, sizeof text, "%s%s", turn_text, REPEATS);
    talk->session = open_session(room, NULL);
    say(talk->session, text);
    assert_int_equal(hearth_session_ask(talk->session, &what, &talk->request, NULL), 0);
}

static void step(struct room *room, uint64_t *wait_ns)
{
    hearth_sessions_step(room->sessions, wait_ns);
}

/* Steps until nothing runs. */
static void run_down(struct room *room)
{
    struct hearth_sessions_state now;
    uint64_t wait;
    do {
        step(room, &wait);
        hearth_sessions_state(room->sessions, &now);
    } while (now.running > 0 || now.waiting > now.paused);
}

static void end_talk(struct room *room, struct talk *talk, const struct talk *alone)
{
    run_down(room);
    assert_true(talk->ended);
    assert_int_equal(talk->began, 1);
    assert_string_equal(talk->text, alone->text);
    assert_int_equal(talk->tokens, alone->tokens);
    assert_int_equal(talk->result.stop, alone->result.stop);
    assert_int_equal(talk->result.answer_tokens, alone->result.answer_tokens);
    assert_int_equal(talk->result.decode_tokens, alone->result.decode_tokens);
}

static void answer_alone(size_t m, size_t number, struct talk *alone)
{
    struct room room = {0};
    open_room(&room, m, 0, 0);
    *alone = (struct talk){0};
    begin_talk(&room, alone, number);
    run_down(&room);
    hearth_session_close(alone->session);
    close_room(&room);
    assert_int_equal(alone->tokens, 40);
}

/* Nothing is computed or said, and there is nothing to wait for. */
static void assert_silent(struct room *room, const struct talk *talk)
{
    struct hearth_sessions_state before, after;
    uint64_t wait;
    size_t tokens = talk->tokens;
    step(room, &wait); /* takes note of the pause */
    hearth_sessions_state(room->sessions, &before);
    assert_int_equal(before.running, 0);
    assert_int_equal(before.paused, 1);
    for (int i = 0; i < 5; i++) {
        step(room, &wait);
        assert_true(wait > 100 * UINT64_C(1000000000));
        hearth_sessions_state(room->sessions, &after);
        assert_memory_equal(&before, &after, sizeof before);
    }
    assert_int_equal(talk->tokens, tokens);
}

static void a_pause_at_any_moment_changes_no_token(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct talk alone;
        answer_alone(m, 3, &alone);
        for (size_t at = 0; at < 40; at++) {
            struct room room = {0};
            struct talk talk = {.pause_at = at, .victim = &talk.request};
            /* small chunks: it is paused in the middle of its prompt, too */
            struct hearth_engine_options engine = {
                .threads = 1, .kv_type = HEARTH_KV_Q8_0, .chunk_tokens = 16};
            open_room_with(&room, m, &engine, 0);
            begin_talk(&room, &talk, 3);
            run_down(&room);
            assert_false(talk.ended);
            assert_int_equal(talk.tokens, at); /* guesses that were right are not told either */
            assert_silent(&room, &talk);
            hearth_request_pause(talk.request, false);
            end_talk(&room, &talk, &alone);
            hearth_session_close(talk.session);
            close_room(&room);
        }
    }
}

static void many_pauses_between_steps_change_no_token(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct talk alone, talk = {0};
        struct room room = {0};
        struct hearth_engine_options engine = {
            .threads = 1, .kv_type = HEARTH_KV_Q8_0, .chunk_tokens = 16};
        uint64_t wait;
        answer_alone(m, 4, &alone);
        open_room_with(&room, m, &engine, 0);
        begin_talk(&room, &talk, 4);
        for (int i = 0; !talk.ended; i++) {
            hearth_request_pause(talk.request, true);
            hearth_request_pause(talk.request, i % 2);
            hearth_request_pause(talk.request, i % 3 != 0);
            step(&room, &wait);
            if (!talk.ended) {
                hearth_request_pause(talk.request, false);
                step(&room, &wait);
            }
        }
        end_talk(&room, &talk, &alone);
        hearth_session_close(talk.session);
        close_room(&room);
    }
}

static void a_pause_takes_no_time(void **state)
{
    (void)state;
    struct talk alone, talk = {.pause_at = 7, .victim = &talk.request};
    struct room room = {0};
    answer_alone(0, 5, &alone);
    open_room(&room, 0, 0, 0);
    begin_talk(&room, &talk, 5);
    run_down(&room);
    room.now += MINUTE_NS;
    hearth_request_pause(talk.request, false);
    end_talk(&room, &talk, &alone);
    assert_true(talk.result.answer_ns < MINUTE_NS / 2);
    assert_true(talk.result.prompt_ns < MINUTE_NS / 2);
    hearth_session_close(talk.session);
    close_room(&room);
}

/* ---- the others ---- */

static void others_go_on_and_take_its_place(void **state)
{
    (void)state;
    struct room room = {0};
    static struct talk talks[COUNT_MAX], alone[COUNT_MAX];
    open_room(&room, 0, 0, 0); /* eight at once */
    for (size_t i = 0; i < COUNT_MAX; i++) {
        answer_alone(0, i, &alone[i]);
        talks[i] = (struct talk){.pause_at = i + 1};
        if (i < 10)
            talks[i].victim = &talks[i].request;
        begin_talk(&room, &talks[i], i);
    }
    run_down(&room); /* all but two are paused */
    for (size_t i = 0; i < COUNT_MAX; i++)
        assert_int_equal(talks[i].ended, i >= 10);
    for (size_t i = 0; i < 10; i++)
        hearth_request_pause(talks[i].request, false);
    for (size_t i = 0; i < COUNT_MAX; i++) {
        end_talk(&room, &talks[i], &alone[i]);
        hearth_session_close(talks[i].session);
    }
    close_room(&room);
}

static void one_that_another_pauses_in_the_same_step_says_nothing_more(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        for (size_t at = 1; at < 12; at += 5) {
            struct room room = {0};
            struct talk alone, first = {.pause_at = at}, second = {0};
            answer_alone(m, 2, &alone);
            open_room(&room, m, 0, 0);
            begin_talk(&room, &first, 1);
            begin_talk(&room, &second, 2);
            first.victim = &second.request;
            run_down(&room);
            assert_true(first.ended && !second.ended);
            assert_int_equal(second.tokens, at - 1); /* they came together */
            hearth_request_pause(second.request, false);
            end_talk(&room, &second, &alone);
            hearth_session_close(first.session);
            hearth_session_close(second.session);
            close_room(&room);
        }
    }
}

static void requests_of_one_conversation_keep_their_order(void **state)
{
    (void)state;
    struct room room = {0};
    struct reply first, second;
    uint64_t wait;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    say(session, "hello");
    ask(session, &first);
    ask(session, &second);
    hearth_request_pause(first.request, true);
    for (int i = 0; i < 10; i++) {
        step(&room, &wait);
        assert_true(wait > 0); /* the second one cannot begin, and nobody turns in circles */
    }
    assert_false(first.ended || second.ended);
    hearth_request_cancel(first.request); /* whoever waits is waited for */
    run(&room);
    assert_int_equal(first.result.stop, HEARTH_STOP_CANCELLED);
    assert_int_equal(second.result.stop, HEARTH_STOP_LENGTH);
    hearth_session_close(session);
    close_room(&room);
}

/* ---- how it ends ---- */

static void cancels_and_deadlines_hold(void **state)
{
    (void)state;
    for (size_t at = 0; at < 4; at += 3) {
        struct room room = {0};
        struct talk talk = {.pause_at = at, .victim = &talk.request};
        uint64_t wait;
        open_room(&room, 0, 0, 0);
        begin_talk(&room, &talk, 1);
        run_down(&room);
        hearth_request_cancel(talk.request);
        step(&room, &wait);
        assert_true(talk.ended);
        assert_int_equal(talk.result.stop, HEARTH_STOP_CANCELLED);
        assert_int_equal(talk.result.answer_tokens, at);
        assert_int_equal(hearth_session_count(talk.session), at ? 2 : 1);
        struct reply next = turn(&room, talk.session, "goon");
        assert_int_equal(next.result.miss, at ? HEARTH_MISS_NOTHING : HEARTH_MISS_NEW);
        hearth_session_close(talk.session);
        close_room(&room);
    }
    struct room room = {0};
    struct reply late = {0};
    uint64_t wait;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    struct hearth_ask what = ask_for(&late);
    what.deadline_ns = MINUTE_NS;
    say(session, "hello");
    ask_with(session, &what);
    hearth_request_pause(late.request, true);
    step(&room, &wait);
    assert_in_range(wait, MINUTE_NS - 100000, MINUTE_NS);
    room.now += wait;
    step(&room, &wait);
    assert_int_equal(late.result.stop, HEARTH_STOP_CANCELLED);
    hearth_session_close(session);
    close_room(&room);
}

/* ---- memory ---- */

static void its_memory_may_go_and_comes_back(void **state)
{
    (void)state;
    for (int way = 0; way < 8; way++) {
        size_t m = way & 1;
        bool stored = way & 2, idle = way & 4;
        struct room room = {0};
        struct fake_store fake;
        struct talk alone, talk = {.pause_at = 20, .victim = &talk.request};
        struct hearth_sessions_state now;
        uint64_t wait;
        answer_alone(m, 6, &alone);
        fake_store_init(&fake);
        room.store = stored ? fake.store : NULL;
        open_room(&room, m, 0, 0);
        begin_talk(&room, &talk, 6);
        run_down(&room);
        if (idle) {
            room.now += 6 * MINUTE_NS;
            step(&room, &wait);
            assert_int_equal(wait, HEARTH_IDLE_NEVER);
        } else {
            hearth_sessions_shed(room.sessions, UINT64_MAX);
        }
        hearth_sessions_state(room.sessions, &now);
        assert_int_equal(now.memory.kv_bytes, 0);
        assert_int_equal(fake.spills, stored);
        hearth_request_pause(talk.request, false);
        end_talk(&room, &talk, &alone);
        hearth_session_close(talk.session);
        close_room(&room);
        fake_store_finish(&fake);
    }
}

static void where_the_cache_is_small_paused_ones_leave_it_to_others(void **state)
{
    (void)state;
    struct room room = {0};
    struct fake_store fake;
    static struct talk talks[6], alone[6];
    struct hearth_sessions_state now;
    fake_store_init(&fake);
    open_room(&room, 0, 0, 0);
    struct talk one = {0};
    begin_talk(&room, &one, 0);
    run_down(&room);
    hearth_sessions_state(room.sessions, &now);
    uint64_t of_one = now.memory.kv_bytes;
    hearth_session_close(one.session);
    close_room(&room);

    room = (struct room){.store = fake.store};
    open_room(&room, 0, 2 * of_one, 0);
    for (size_t i = 0; i < 6; i++) {
        answer_alone(0, i, &alone[i]);
        talks[i] = (struct talk){.pause_at = 10};
        if (i < 5)
            talks[i].victim = &talks[i].request;
        begin_talk(&room, &talks[i], i);
    }
    run_down(&room);
    assert_true(talks[5].ended && fake.spills > 0);
    for (size_t i = 0; i < 5; i++) {
        assert_false(talks[i].ended);
        hearth_request_pause(talks[i].request, false);
    }
    for (size_t i = 0; i < 6; i++) {
        end_talk(&room, &talks[i], &alone[i]);
        hearth_session_close(talks[i].session);
    }
    close_room(&room);
    fake_store_finish(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pause_at_any_moment_changes_no_token),
        cmocka_unit_test(many_pauses_between_steps_change_no_token),
        cmocka_unit_test(a_pause_takes_no_time),
        cmocka_unit_test(others_go_on_and_take_its_place),
        cmocka_unit_test(one_that_another_pauses_in_the_same_step_says_nothing_more),
        cmocka_unit_test(requests_of_one_conversation_keep_their_order),
        cmocka_unit_test(cancels_and_deadlines_hold),
        cmocka_unit_test(its_memory_may_go_and_comes_back),
        cmocka_unit_test(where_the_cache_is_small_paused_ones_leave_it_to_others),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
