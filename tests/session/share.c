/* What several conversations begin with is computed once. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "room.h"

#define COUNT 6
#define SYSTEM_TOKENS 120

/* A conversation whose system prompt has about SYSTEM_TOKENS tokens. */
static struct hearth_session *open_with_system(struct room *room, char letter)
{
    char messages[SYSTEM_TOKENS + 100];
    struct hearth_session *session = open_session(room, NULL);
    size_t size =
        (size_t)snprintf(messages, sizeof messages, "[{\"role\":\"system\",\"content\":\"");
    for (size_t i = 0; i < SYSTEM_TOKENS; i++)
        messages[size++] = (char)(i % 7 == 3 ? letter : 'a' + (int)(i * i % 23));
    size += (size_t)snprintf(messages + size, sizeof messages - size, "\"}]");
    assert_int_equal(hearth_session_set_messages(session, messages, size, NULL), 0);
    return session;
}

/* What each of the conversations answers when it is alone. */
static void answer_alone(size_t m, size_t number, char text[512])
{
    struct room room = {0};
    char question[64];
    open_room(&room, m, 0, 0);
    struct hearth_session *session = open_with_system(&room, 's');
    text_of_turn(question, number, 0);
    struct reply reply = turn(&room, session, question);
    snprintf(text, 512, "%s", reply.text);
    hearth_session_close(session);
    close_room(&room);
}

static void those_that_come_together_wait_for_one_of_them(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct hearth_session *sessions[COUNT];
        static struct reply replies[COUNT];
        char text[64], alone[512];
        size_t known = 0;
        open_room(&room, m, 0, 0);
        for (size_t i = 0; i < COUNT; i++) {
            sessions[i] = open_with_system(&room, 's');
            text_of_turn(text, i, 0);
            say(sessions[i], text);
            ask(sessions[i], &replies[i]);
        }
        run(&room);
        for (size_t i = 0; i < COUNT; i++) {
            known += replies[i].result.cached_tokens >= SYSTEM_TOKENS;
            answer_alone(m, i, alone);
            assert_string_equal(replies[i].text, alone);
            hearth_session_close(sessions[i]);
        }
        assert_int_equal(known, COUNT - 1);
        close_room(&room);
    }
}

static void one_that_comes_while_another_answers_shares_its_beginning(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct reply first, second;
        uint64_t wait;
        open_room(&room, m, 0, 0);
        struct hearth_session *one = open_with_system(&room, 's');
        struct hearth_session *other = open_with_system(&room, 's');
        say(one, "first");
        ask(one, &first);
        while (first.streamed[0] == '\0')
            hearth_sessions_step(room.sessions, &wait);
        say(other, "second");
        ask(other, &second);
        run(&room);
        assert_true(second.result.cached_tokens >= SYSTEM_TOKENS);
        hearth_session_close(one);
        hearth_session_close(other);
        close_room(&room);
    }
}

static void who_waits_goes_on_when_the_one_ahead_is_cancelled(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct hearth_session *sessions[COUNT];
        static struct reply replies[COUNT];
        char text[64], alone[512];
        size_t known = 0;
        struct hearth_engine_options engine = {
            .threads = 1, .kv_type = HEARTH_KV_Q8_0, .chunk_tokens = 32};
        uint64_t wait;
        open_room_with(&room, m, &engine, 0);
        for (size_t i = 0; i < COUNT; i++) {
            sessions[i] = open_with_system(&room, 's');
            text_of_turn(text, i, 0);
            say(sessions[i], text);
            ask(sessions[i], &replies[i]);
        }
        hearth_sessions_step(room.sessions, &wait);
        hearth_request_cancel(replies[0].request);
        hearth_sessions_step(room.sessions, &wait);
        hearth_request_cancel(replies[1].request);
        run(&room);
        for (size_t i = 0; i < COUNT; i++) {
            assert_int_equal(replies[i].result.stop == HEARTH_STOP_CANCELLED, i < 2);
            if (i >= 2) {
                known += replies[i].result.cached_tokens >= SYSTEM_TOKENS;
                answer_alone(m, i, alone);
                assert_string_equal(replies[i].text, alone);
            }
            hearth_session_close(sessions[i]);
        }
        assert_int_equal(known, COUNT - 3);
        close_room(&room);
    }
}

static void a_system_prompt_stays_when_its_conversation_goes(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct hearth_sessions_state now;
        struct reply reply;
        uint64_t wait;
        open_room(&room, m, 0, 0);
        for (int i = 0; i < 3; i++) {
            struct hearth_session *session = open_with_system(&room, 's');
            reply = turn(&room, session, i == 0 ? "what" : i == 1 ? "how" : "why");
            assert_true(i == 0 || reply.result.cached_tokens >= SYSTEM_TOKENS);
            hearth_session_close(session);
        }
        /* another one shares nothing, and all is given back when nothing was asked for long */
        struct hearth_session *session = open_with_system(&room, 'z');
        reply = turn(&room, session, "what");
        assert_true(reply.result.cached_tokens < 20);
        hearth_session_close(session);
        room.now += 6 * MINUTE_NS;
        hearth_sessions_step(room.sessions, &wait);
        hearth_sessions_state(room.sessions, &now);
        assert_int_equal(now.memory.kv_bytes, 0);
        close_room(&room);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_that_come_together_wait_for_one_of_them),
        cmocka_unit_test(one_that_comes_while_another_answers_shares_its_beginning),
        cmocka_unit_test(who_waits_goes_on_when_the_one_ahead_is_cancelled),
        cmocka_unit_test(a_system_prompt_stays_when_its_conversation_goes),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
