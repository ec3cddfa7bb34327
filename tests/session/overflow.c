/* What conversations do when they have more tokens than their context may hold. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "room.h"

#define TURNS 40
#define CONTEXT 400
#define SYSTEM "[{\"role\":\"system\",\"content\":\"youareaterseassistant\"}]"

static void choose(struct hearth_session *session, enum hearth_overflow overflow)
{
    struct hearth_session_settings settings = {.overflow = overflow};
    assert_int_equal(hearth_session_configure(session, &settings, NULL), 0);
}

static void a_way_that_there_is_not_is_refused(void **state)
{
    (void)state;
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    struct hearth_session_settings settings = {.overflow = (enum hearth_overflow)3};
    assert_int_equal(hearth_session_configure(session, &settings, NULL), HEARTH_E_ARGUMENT);
    hearth_session_close(session);
    close_room(&room);
}

static void by_default_a_full_context_is_an_error_that_keeps_the_text(void **state)
{
    (void)state;
    struct room room = {0};
    open_room(&room, 0, 0, 30);
    struct hearth_session *session = open_session(&room, NULL);
    struct reply reply = turn(&room, session, "short");
    assert_int_equal(reply.result.stop, HEARTH_STOP_ERROR);
    assert_int_equal(reply.result.error.code, HEARTH_E_LIMIT);
    assert_non_null(strstr(reply.result.error.text, "context of 30"));
    assert_true(reply.result.answer_tokens > 3 && strlen(reply.text) > 3);
    assert_int_equal(reply.result.prompt_tokens + reply.result.answer_tokens, 31);
    assert_int_equal(hearth_session_count(session), 2);
    reply = turn(&room, session, "more");
    assert_int_equal(reply.result.error.code, HEARTH_E_LIMIT);
    assert_non_null(strstr(reply.result.error.text, "the context holds 30"));
    assert_int_equal(reply.result.answer_tokens, 0);
    assert_int_equal(hearth_session_count(session), 3);
    hearth_session_close(session);
    close_room(&room);
}

static void an_answer_stops_at_the_limit_where_that_is_chosen(void **state)
{
    (void)state;
    struct room room = {0};
    open_room(&room, 0, 0, 30);
    struct hearth_session *session = open_session(&room, NULL);
    choose(session, HEARTH_OVERFLOW_STOP);
    struct reply reply = turn(&room, session, "short");
    assert_int_equal(reply.result.stop, HEARTH_STOP_CONTEXT);
    assert_int_equal(reply.result.prompt_tokens + reply.result.answer_tokens, 31);
    assert_int_equal(hearth_session_count(session), 2);
    reply = turn(&room, session, "more"); /* there is nothing to stop: it cannot begin */
    assert_int_equal(reply.result.stop, HEARTH_STOP_ERROR);
    assert_non_null(strstr(reply.result.error.text, "the context holds 30"));
    hearth_session_close(session);
    close_room(&room);
}

/* What a conversation of these messages without `dropped` ones answers that was never longer. */
static void answer_without(size_t m, struct hearth_session *session, size_t dropped, char text[512])
{
    struct room room = {0};
    struct hearth_session *other, *fork;
    char *all;
    size_t size;
    /* the messages before the answer: the last one is that */
    assert_int_equal(
        hearth_session_fork(session, hearth_session_count(session) - 1, NULL, &fork, NULL), 0);
    assert_int_equal(hearth_session_messages(fork, &all, &size, NULL), 0);
    hearth_session_close(fork);
    /* each message is an object without others in it */
    char *kept = strchr(all, '}') + 1, *from = kept;
    for (size_t i = 0; i < dropped; i++)
        from = strchr(from, '}') + 1;
    memmove(kept, from, strlen(from) + 1);
    open_room(&room, m, 0, 0);
    other = open_session(&room, NULL);
    assert_int_equal(hearth_session_set_messages(other, all, strlen(all), NULL), 0);
    struct reply reply;
    ask(other, &reply);
    run(&room);
    snprintf(text, 512, "%s", reply.text);
    hearth_free(all);
    hearth_session_close(other);
    close_room(&room);
}

static void the_oldest_turns_are_dropped_and_stay_away(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        char text[64], expected[512];
        open_room(&room, m, 0, CONTEXT);
        struct hearth_session *session = open_session(&room, NULL);
        choose(session, HEARTH_OVERFLOW_DROP);
        assert_int_equal(hearth_session_set_messages(session, SYSTEM, strlen(SYSTEM), NULL), 0);
        size_t dropped = 0, moves = 0, known = 0;
        for (size_t t = 0; t < TURNS; t++) {
            text_of_turn(text, 3, t);
            struct reply reply = turn(&room, session, text);
            assert_true(reply.result.stop <= HEARTH_STOP_LENGTH);
            assert_int_equal(hearth_session_count(session), 1 + 2 * (t + 1));
            assert_int_equal(reply.result.dropped_messages % 2, 0);
            if (reply.result.dropped_messages != dropped) {
                assert_true(reply.result.dropped_messages > dropped);
                /* letters that two questions begin with lie behind the snapshot */
                assert_true(reply.result.miss == HEARTH_MISS_DROPPED ||
                            (m == 1 && reply.result.miss == HEARTH_MISS_WINDOW));
                assert_true(reply.result.prompt_tokens <= CONTEXT * 3 / 4);
                assert_true(reply.result.cached_tokens >= 20); /* the system prompt */
                answer_without(m, session, reply.result.dropped_messages, expected);
                assert_string_equal(reply.text, expected);
                moves++;
            } else {
                assert_int_equal(reply.result.cached_tokens, known ? known - 1 : 0);
            }
            dropped = reply.result.dropped_messages;
            known = reply.result.prompt_tokens + reply.result.answer_tokens +
                    (reply.result.stop == HEARTH_STOP_END);
        }
        assert_true(dropped > TURNS);
        assert_in_range(moves, 3, TURNS / 2);
        hearth_session_close(session);
        close_room(&room);
    }
}

static void what_was_dropped_comes_back_where_the_history_becomes_short(void **state)
{
    (void)state;
    struct room room = {0};
    char text[64];
    open_room(&room, 0, 0, CONTEXT);
    struct hearth_session *session = open_session(&room, NULL), *fork;
    choose(session, HEARTH_OVERFLOW_DROP);
    struct reply reply = {0};
    for (size_t t = 0; reply.result.dropped_messages == 0; t++) {
        text_of_turn(text, 4, t);
        reply = turn(&room, session, text);
    }
    size_t count = hearth_session_count(session), dropped = reply.result.dropped_messages;
    /* a fork drops the same; the same question again costs nothing */
    assert_int_equal(hearth_session_fork(session, count - 1, NULL, &fork, NULL), 0);
    struct reply again;
    ask(fork, &again);
    run(&room);
    assert_string_equal(again.text, reply.text);
    assert_int_equal(again.result.dropped_messages, dropped);
    assert_int_equal(again.result.cached_tokens, again.result.prompt_tokens - 1);
    /* cut behind what was dropped */
    assert_int_equal(hearth_session_truncate(fork, dropped + 2, NULL), 0);
    reply = turn(&room, fork, "next");
    assert_int_equal(reply.result.dropped_messages, 0);
    /* and before its end */
    assert_int_equal(hearth_session_truncate(session, dropped - 1, NULL), 0);
    ask(session, &reply);
    run(&room);
    assert_int_equal(reply.result.dropped_messages, 0);
    hearth_session_close(fork);
    /* another choice: then it is all or nothing */
    choose(session, HEARTH_OVERFLOW_ERROR);
    do {
        reply = turn(&room, session, text);
        assert_int_equal(reply.result.dropped_messages, 0);
    } while (reply.result.stop != HEARTH_STOP_ERROR);
    hearth_session_close(session);
    close_room(&room);
}

/* ---- in the middle of an answer ---- */

struct ids {
    uint32_t ids[4 * CONTEXT];
    struct hearth_result result;
    char text[4096];
};

static void keep_ids(void *context, const struct hearth_result *result)
{
    struct ids *ids = context;
    ids->result = *result;
    assert_true(result->id_count <= 4 * CONTEXT && result->text_size < sizeof ids->text);
    memcpy(ids->ids, result->ids, result->id_count * sizeof *result->ids);
    memcpy(ids->text, result->text, result->text_size + 1);
}

/* How many of the last ids are those that the logits before them say, computed alone. */
static size_t greedy_tail(size_t m, const struct ids *ids)
{
    struct room room = {0};
    struct hearth_sequence *sequence;
    size_t count = ids->result.id_count, tail = 0;
    open_room(&room, m, 0, 0);
    assert_int_equal(hearth_sequence_open(room.engine, 0, &sequence, NULL), 0);
    for (size_t i = 0; i + 1 < count; i++) {
        uint32_t best = 0;
        assert_int_equal(
            hearth_sequence_extend(sequence, ids->ids + i, 1, HEARTH_LOGITS_LAST, NULL), 0);
        assert_int_equal(hearth_engine_step(room.engine, NULL, NULL), 0);
        const float *logits = hearth_sequence_logits(sequence, 0);
        for (uint32_t id = 1; id + 1 < VOCABULARY; id++)
            best = logits[id] > logits[best] ? id : best;
        tail = best == ids->ids[i + 1] ? tail + 1 : 0;
    }
    hearth_sequence_close(sequence);
    close_room(&room);
    return tail;
}

static void an_answer_goes_on_when_turns_are_dropped_in_its_middle(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct reply reply;
        static struct ids ids;
        char text[64];
        open_room(&room, m, 0, CONTEXT);
        struct hearth_session *session = open_session(&room, NULL);
        choose(session, HEARTH_OVERFLOW_DROP);
        assert_int_equal(hearth_session_set_messages(session, SYSTEM, strlen(SYSTEM), NULL), 0);
        for (size_t t = 0; t < 4; t++) {
            text_of_turn(text, 5, t);
            reply = turn(&room, session, text);
        }
        assert_int_equal(reply.result.dropped_messages, 0);
        say(session, "andnowalonganswer");
        struct hearth_ask what = ask_for(&reply);
        static const struct hearth_logit_bias goes_on = {VOCABULARY - 1, -1000.0f};
        struct hearth_sampling sampling = *what.sampling;
        sampling.bias = &goes_on;
        sampling.bias_count = 1;
        what.sampling = &sampling;
        what.max_tokens = 0;
        what.on_text = NULL;
        what.on_end = keep_ids;
        what.context = &ids;
        assert_int_equal(hearth_session_ask(session, &what, NULL, NULL), 0);
        run(&room);
        /* it ends where nothing but the last turn is left */
        assert_int_equal(ids.result.stop, HEARTH_STOP_CONTEXT);
        assert_int_equal(ids.result.error.code, HEARTH_E_LIMIT);
        assert_int_equal(ids.result.dropped_messages, 8);
        assert_int_equal(ids.result.id_count, CONTEXT + 1); /* the last need not be computed */
        assert_int_equal(ids.result.prompt_tokens + ids.result.answer_tokens, CONTEXT + 1);
        assert_int_equal(hearth_session_count(session), 11);
        assert_true(ids.result.answer_tokens > CONTEXT / 2);
        assert_true(greedy_tail(m, &ids) > CONTEXT / 8);
        assert_int_equal(strlen(ids.text), ids.result.text_size);
        hearth_session_close(session);
        close_room(&room);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_way_that_there_is_not_is_refused),
        cmocka_unit_test(by_default_a_full_context_is_an_error_that_keeps_the_text),
        cmocka_unit_test(an_answer_stops_at_the_limit_where_that_is_chosen),
        cmocka_unit_test(the_oldest_turns_are_dropped_and_stay_away),
        cmocka_unit_test(what_was_dropped_comes_back_where_the_history_becomes_short),
        cmocka_unit_test(an_answer_goes_on_when_turns_are_dropped_in_its_middle),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
