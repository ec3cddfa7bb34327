/* A template that writes answers otherwise once they are no longer the last message: what the next
 * prompt is certain to begin with is computed while nothing is asked. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf/types.h"
#include "infer/tiny_model.h"
#include "room.h"

#define ANSWER 150

static int set_up(void **state)
{
    (void)state;
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_Q4_1, TYPE_F16};
    static const char template[] =
        "w94{% for m in messages %}{{ m.role }}>"
        "{{ m.content[10:] if m.role == 'assistant' else m.content }}w95{% endfor %}assistant>";
    static const struct tiny_model shapes[2] = {
        {"llama", VOCABULARY, 64, 2, 4, 2, 32, 96, 0, types, 3, 5, template},
        {"gemma3", VOCABULARY, 64, 4, 3, 1, 32, 96, 40, types, 3, 6, template},
    };
    for (size_t m = 0; m < 2; m++) {
        char path[TEST_PATH_MAX];
        tiny_model_write(&shapes[m], path);
        assert_int_equal(hearth_model_open(path, NULL, &models[m], NULL), 0);
        remove(path);
    }
    return 0;
}

/* A turn with a long answer. */
static struct reply long_turn(struct room *room, struct hearth_session *session, const char *text)
{
    static const struct hearth_logit_bias no_end = {VOCABULARY - 1, -1000.0f};
    struct reply reply = {0};
    struct hearth_ask what = ask_for(&reply);
    struct hearth_sampling sampling = *what.sampling;
    sampling.bias = &no_end;
    sampling.bias_count = 1;
    what.sampling = &sampling;
    what.max_tokens = ANSWER;
    say(session, text);
    ask_with(session, &what);
    run(room);
    assert_int_equal(reply.result.stop, HEARTH_STOP_LENGTH);
    return reply;
}

/* Steps until there is nothing to do for a while; returns how many it took. */
static size_t be_idle(struct room *room)
{
    uint64_t wait = 0;
    size_t steps = 0;
    for (; wait == 0; steps++)
        hearth_sessions_step(room->sessions, &wait);
    return steps;
}

static void an_idle_moment_is_used_for_the_next_prompt(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct reply replies[2];
        for (int idle = 0; idle < 2; idle++) {
            struct room room = {0};
            open_room(&room, m, 0, 0);
            struct hearth_session *session = open_session(&room, NULL);
            struct reply first = long_turn(&room, session, "question");
            if (idle) {
                assert_true(be_idle(&room) > 2); /* in small steps */
                assert_int_equal(be_idle(&room), 1);
            }
            replies[idle] = turn(&room, session, "next");
            size_t own = replies[idle].result.prompt_tokens - replies[idle].result.cached_tokens;
            if (!idle) {
                assert_int_equal(replies[idle].result.miss,
                                 m == 0 ? HEARTH_MISS_TEMPLATE : HEARTH_MISS_WINDOW);
                assert_true(own > ANSWER - 10);
            } else {
                assert_int_equal(replies[idle].result.miss, HEARTH_MISS_NOTHING);
                assert_in_range(own, 4, 30);
                assert_true(replies[idle].result.cached_tokens > first.result.prompt_tokens);
            }
            hearth_session_close(session);
            /* nothing is left of it when it is not used */
            struct hearth_sessions_state now;
            room.now += 6 * MINUTE_NS;
            be_idle(&room);
            hearth_sessions_state(room.sessions, &now);
            assert_int_equal(now.memory.kv_bytes, 0);
            close_room(&room);
        }
        assert_string_equal(replies[0].text, replies[1].text);
    }
}

static void a_request_comes_first_and_it_goes_on_later(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        uint64_t wait;
        open_room(&room, m, 0, 0);
        struct hearth_session *session = open_session(&room, NULL);
        struct hearth_session *other = open_session(&room, NULL);
        long_turn(&room, session, "question");
        hearth_sessions_step(room.sessions, &wait);
        assert_int_equal(wait, 0);
        struct reply reply;
        say(other, "hello");
        ask(other, &reply);
        hearth_sessions_step(room.sessions, &wait); /* its prompt is read at once */
        assert_true(reply.streamed[0] != '\0' || reply.ended);
        run(&room);
        assert_true(be_idle(&room) > 1);
        reply = turn(&room, session, "next");
        assert_int_equal(reply.result.miss, HEARTH_MISS_NOTHING);
        /* another message than that of a user, and a conversation that goes */
        long_turn(&room, session, "question");
        assert_int_equal(hearth_session_truncate(session, 2, NULL), 0);
        be_idle(&room);
        long_turn(&room, session, "again");
        hearth_sessions_step(room.sessions, &wait);
        hearth_session_close(session);
        be_idle(&room);
        long_turn(&room, other, "question");
        hearth_sessions_step(room.sessions, &wait);
        hearth_session_close(other);
        close_room(&room);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_idle_moment_is_used_for_the_next_prompt),
        cmocka_unit_test(a_request_comes_first_and_it_goes_on_later),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down_models);
}
