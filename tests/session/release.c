/* Conversations that are let go of, so that another process may go on with them: here another set
 * on an engine of its own, with the same store. */

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

#define TURNS 6

static void assert_released(struct room *room, struct hearth_session *session)
{
    struct hearth_sessions_state now;
    struct hearth_error err;
    if (hearth_session_release(session, &err))
        fail_msg("%s", err.text);
    hearth_sessions_state(room->sessions, &now);
    assert_int_equal(now.sessions, 0);
    assert_int_equal(now.held, 0);
    assert_int_equal(now.memory.kv_bytes, 0);
}

static void two_sets_take_turns_with_a_conversation(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room rooms[2] = {{0}};
        struct fake_store fake;
        char alone[TURNS][512], text[64];
        size_t known = 0;
        answers_alone(m, 1, TURNS, alone);
        fake_store_init(&fake);
        for (size_t r = 0; r < 2; r++) {
            rooms[r].store = fake.store;
            open_room(&rooms[r], m, 0, 0);
        }
        for (size_t t = 0; t < TURNS; t++) {
            struct room *room = &rooms[t % 2];
            struct hearth_session *session = open_session(room, "k");
            assert_int_equal(hearth_session_count(session), 2 * t);
            text_of_turn(text, 1, t);
            struct reply reply = turn(room, session, text);
            assert_string_equal(reply.text, alone[t]);
            assert_int_equal(reply.result.cached_tokens, known ? known - 1 : 0);
            assert_int_equal(reply.result.miss, known ? HEARTH_MISS_NOTHING : HEARTH_MISS_NEW);
            known = reply.result.prompt_tokens + reply.result.answer_tokens;
            known += reply.result.stop == HEARTH_STOP_END;
            if (t == 2) { /* as it sleeps */
                uint64_t wait;
                room->now += 6 * MINUTE_NS;
                hearth_sessions_step(room->sessions, &wait);
            }
            assert_released(room, session);
        }
        close_room(&rooms[0]);
        close_room(&rooms[1]);
        fake_store_finish(&fake);
    }
}

static void what_cannot_be_released_stays_open(void **state)
{
    (void)state;
    struct room room = {0}, bare = {0};
    struct fake_store fake;
    struct reply reply;
    struct hearth_session_settings never = {.keep = HEARTH_KEEP_NEVER};
    fake_store_init(&fake);
    room.store = fake.store;
    open_room(&room, 0, 0, 0);
    open_room(&bare, 0, 0, 0);

    struct hearth_session *session = open_session(&bare, "k");
    assert_int_equal(hearth_session_release(session, NULL), HEARTH_E_STATE); /* no store */
    hearth_session_close(session);
    session = open_session(&room, NULL);
    assert_int_equal(hearth_session_release(session, NULL), HEARTH_E_STATE); /* no key */
    hearth_session_close(session);

    session = open_session(&room, "k");
    say(session, "hello");
    ask(session, &reply);
    assert_int_equal(hearth_session_release(session, NULL), HEARTH_E_STATE);
    hearth_request_pause(reply.request, true);
    assert_int_equal(hearth_session_release(session, NULL), HEARTH_E_STATE);
    hearth_request_pause(reply.request, false);
    run(&room);
    struct hearth_session *again = open_session(&room, "k");
    assert_ptr_equal(again, session);
    assert_int_equal(hearth_session_release(session, NULL), HEARTH_E_STATE);
    hearth_session_close(again);
    assert_int_equal(hearth_session_configure(session, &never, NULL), 0);
    assert_int_equal(hearth_session_release(session, NULL), HEARTH_E_STATE);
    never.keep = HEARTH_KEEP_DEFAULT;
    assert_int_equal(hearth_session_configure(session, &never, NULL), 0);

    fake.refuse_put = true;
    say(session, "unsaved");
    assert_true(hearth_session_release(session, NULL) < 0);
    assert_int_equal(hearth_session_count(session), 3); /* it is still there */
    fake.refuse_put = false;
    assert_released(&room, session);
    session = open_session(&room, "k");
    assert_int_equal(hearth_session_count(session), 3);
    assert_int_equal(hearth_session_release(session, NULL), 0); /* nothing was computed */
    close_room(&room);
    close_room(&bare);
    fake_store_finish(&fake);
}

static void where_nothing_can_be_spilled_it_is_computed_again(void **state)
{
    (void)state;
    struct room rooms[2] = {{0}};
    struct fake_store fake;
    char alone[2][512], text[64];
    answers_alone(0, 2, 2, alone);
    fake_store_init(&fake);
    fake.refuse_spill = true;
    for (size_t t = 0; t < 2; t++) {
        rooms[t].store = fake.store;
        open_room(&rooms[t], 0, 0, 0);
        struct hearth_session *session = open_session(&rooms[t], "k");
        text_of_turn(text, 2, t);
        struct reply reply = turn(&rooms[t], session, text);
        assert_string_equal(reply.text, alone[t]);
        assert_int_equal(reply.result.cached_tokens, 0);
        assert_released(&rooms[t], session);
    }
    close_room(&rooms[0]);
    close_room(&rooms[1]);
    fake_store_finish(&fake);
}

static void others_keep_what_they_share_with_it(void **state)
{
    (void)state;
    struct room room = {0};
    struct fake_store fake;
    char text[64];
    fake_store_init(&fake);
    room.store = fake.store;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, "k"), *fork;
    turn(&room, session, "hello");
    assert_int_equal(hearth_session_fork(session, 2, "fork", &fork, NULL), 0);
    assert_int_equal(hearth_session_release(session, NULL), 0);
    text_of_turn(text, 1, 0);
    struct reply reply = turn(&room, fork, text);
    assert_int_equal(reply.result.miss, HEARTH_MISS_NOTHING);
    assert_true(reply.result.cached_tokens > 10);
    hearth_session_close(fork);
    close_room(&room);
    fake_store_finish(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_sets_take_turns_with_a_conversation),
        cmocka_unit_test(what_cannot_be_released_stays_open),
        cmocka_unit_test(where_nothing_can_be_spilled_it_is_computed_again),
        cmocka_unit_test(others_keep_what_they_share_with_it),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
