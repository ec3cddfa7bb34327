/* Conversations: each answer is the one that the same tokens give alone, whatever was kept, shared,
 * evicted or computed in company. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hearth/session.h"
#include "room.h"

/* ---- reuse ---- */

static void a_turn_computes_only_what_is_new(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        char alone[4][512], text[64];
        answers_alone(m, 1, 4, alone);
        open_room(&room, m, 0, 0);
        struct hearth_session *session = open_session(&room, NULL);
        size_t known = 0;
        for (size_t t = 0; t < 4; t++) {
            text_of_turn(text, 1, t);
            struct reply reply = turn(&room, session, text);
            assert_string_equal(reply.text, alone[t]);
            /* the last token of an answer is drawn, but not computed */
            assert_int_equal(reply.result.cached_tokens, known ? known - 1 : 0);
            assert_int_equal(reply.result.miss, known ? HEARTH_MISS_NOTHING : HEARTH_MISS_NEW);
            known = reply.result.prompt_tokens + reply.result.answer_tokens;
            known += reply.result.stop == HEARTH_STOP_END;
        }
        assert_int_equal(hearth_session_count(session), 8);
        hearth_session_close(session);
        close_room(&room);
    }
}

static void what_has_given_way_is_computed_again_and_said(void **state)
{
    (void)state;
    struct room room = {0};
    char alone[2][512], text[64];
    answers_alone(0, 2, 2, alone);
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    text_of_turn(text, 2, 0);
    turn(&room, session, text);
    hearth_engine_trim(room.engine, UINT64_MAX);
    text_of_turn(text, 2, 1);
    struct reply reply = turn(&room, session, text);
    assert_string_equal(reply.text, alone[1]);
    assert_int_equal(reply.result.cached_tokens, 0);
    assert_int_equal(reply.result.miss, HEARTH_MISS_EVICTED);
    hearth_session_close(session);
    close_room(&room);
}

static void conversations_with_the_same_beginning_share_it(void **state)
{
    (void)state;
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    static const char system[] = "[{\"role\":\"system\",\"content\":\"youareahelpfulassistantthat"
                                 "answersinasfewwordsaspossible\"}]";
    for (int i = 0; i < 5; i++) {
        char text[64];
        struct hearth_session *session = open_session(&room, i % 2 ? "odd" : "even");
        assert_int_equal(hearth_session_set_messages(session, system, sizeof system - 1, NULL), 0);
        text_of_turn(text, (size_t)i + 3, 0);
        struct reply reply = turn(&room, session, text);
        assert_true(i == 0 || reply.result.cached_tokens > 50);
        hearth_session_close(session);
    }
    close_room(&room);
}

static void an_edited_history_costs_what_is_different(void **state)
{
    (void)state;
    struct room room = {0};
    char text[64];
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    struct reply first = turn(&room, session, "hello");
    text_of_turn(text, 4, 1);
    turn(&room, session, text);
    assert_int_equal(hearth_session_truncate(session, 2, NULL), 0);
    struct reply other = turn(&room, session, "somethingelse");
    assert_int_equal(other.result.miss, HEARTH_MISS_EDITED);
    assert_in_range(other.result.cached_tokens,
                    first.result.prompt_tokens + first.result.answer_tokens,
                    first.result.prompt_tokens + first.result.answer_tokens + 8);
    hearth_session_close(session);
    close_room(&room);
}

static void a_fork_goes_on_from_what_was_computed(void **state)
{
    (void)state;
    struct room room = {0};
    char alone[2][512], text[64];
    answers_alone(0, 5, 2, alone);
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL), *fork;
    text_of_turn(text, 5, 0);
    turn(&room, session, text);
    assert_int_equal(hearth_session_fork(session, 2, "fork", &fork, NULL), 0);
    turn(&room, session, "elsewhere");
    text_of_turn(text, 5, 1);
    struct reply reply = turn(&room, fork, text);
    assert_string_equal(reply.text, alone[1]);
    assert_true(reply.result.cached_tokens > 40);
    assert_int_equal(hearth_session_count(fork), 4);
    /* what it shares stays when another goes */
    struct hearth_session *again;
    assert_int_equal(hearth_session_fork(session, 4, NULL, &again, NULL), 0);
    hearth_session_close(again);
    hearth_session_close(fork);
    reply = turn(&room, session, "on");
    assert_int_equal(reply.result.miss, HEARTH_MISS_NOTHING);
    hearth_session_close(session);
    close_room(&room);
}

/* ---- keys ---- */

static void a_key_is_the_same_conversation_each_time(void **state)
{
    (void)state;
    struct room room = {0};
    struct hearth_sessions_state now;
    char text[64], *messages;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, "k");
    turn(&room, session, "hello");
    hearth_session_close(session);
    session = open_session(&room, "k");
    assert_int_equal(hearth_session_count(session), 2);
    text_of_turn(text, 6, 0);
    struct reply reply = turn(&room, session, text);
    assert_true(reply.result.cached_tokens > 10);
    assert_int_equal(hearth_session_messages(session, &messages, NULL, NULL), 0);
    assert_non_null(strstr(messages, "\"hello\""));
    hearth_free(messages);
    assert_int_equal(hearth_session_remove(session, NULL), 0);
    struct hearth_session *fresh = open_session(&room, "k");
    assert_int_equal(hearth_session_count(fresh), 0);
    hearth_session_close(session);
    hearth_session_close(fresh);
    for (int i = 0; i < 3000; i++) {
        char key[32];
        snprintf(key, sizeof key, "many %d", i % 1500);
        hearth_session_close(open_session(&room, key));
    }
    hearth_sessions_state(room.sessions, &now);
    assert_int_equal(now.sessions, 1501);
    assert_int_equal(hearth_session_open(room.sessions, "", &session, NULL), HEARTH_E_ARGUMENT);
    assert_int_equal(hearth_session_open(room.sessions, "\xff", &session, NULL), HEARTH_E_ARGUMENT);
    close_room(&room);
}

/* ---- company ---- */

static void many_at_once_answer_as_each_alone(void **state)
{
    (void)state;
    enum { COUNT = 20 };
    for (size_t m = 0; m < 2; m++) {
        struct room room = {0};
        struct hearth_session *sessions[COUNT];
        static struct reply replies[COUNT];
        static char alone[COUNT][2][512];
        open_room(&room, m, 0, 0);
        for (size_t i = 0; i < COUNT; i++) {
            answers_alone(m, i, 2, alone[i]);
            sessions[i] = open_session(&room, NULL);
        }
        for (size_t t = 0; t < 2; t++) {
            char text[64];
            for (size_t i = 0; i < COUNT; i++) {
                text_of_turn(text, i, t);
                say(sessions[i], text);
                ask(sessions[i], &replies[i]);
            }
            run(&room);
            for (size_t i = 0; i < COUNT; i++)
                assert_string_equal(replies[i].text, alone[i][t]);
        }
        for (size_t i = 0; i < COUNT; i++)
            hearth_session_close(sessions[i]);
        close_room(&room);
    }
}

static void when_memory_is_short_some_wait_and_all_are_answered(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    struct room room = {0};
    struct hearth_session *sessions[COUNT];
    static struct reply replies[COUNT];
    static char alone[COUNT][1][512];
    struct hearth_sessions_state now;
    open_room(&room, 0, 0, 0);
    struct hearth_session *one = open_session(&room, NULL);
    char text[64];
    text_of_turn(text, 0, 0);
    turn(&room, one, text);
    hearth_sessions_state(room.sessions, &now);
    uint64_t of_one = now.memory.kv_bytes;
    hearth_session_close(one);
    close_room(&room);

    open_room(&room, 0, of_one * 3, 0); /* answers_max is 8 */
    for (size_t i = 0; i < COUNT; i++) {
        answers_alone(0, i, 1, alone[i]);
        sessions[i] = open_session(&room, NULL);
        text_of_turn(text, i, 0);
        say(sessions[i], text);
        ask(sessions[i], &replies[i]);
    }
    do {
        uint64_t wait;
        hearth_sessions_step(room.sessions, &wait);
        hearth_sessions_state(room.sessions, &now);
        assert_true(now.memory.kv_bytes <= of_one * 3);
    } while (now.running + now.waiting > 0);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(replies[i].result.stop <= HEARTH_STOP_LENGTH);
        assert_string_equal(replies[i].text, alone[i][0]);
        hearth_session_close(sessions[i]);
    }
    close_room(&room);
}

static void a_second_prompt_waits_its_turn(void **state)
{
    (void)state;
    struct room room = {0};
    struct reply first, second;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    say(session, "one");
    ask(session, &first);
    ask(session, &second);
    assert_int_equal(hearth_session_append(session, "{\"role\":\"user\"}", 15, NULL),
                     HEARTH_E_STATE);
    run(&room);
    assert_true(first.order < second.order);
    assert_int_equal(hearth_session_count(session), 3);
    hearth_session_close(session);
    close_room(&room);
}

static void who_talks_comes_before_what_runs_in_the_background(void **state)
{
    (void)state;
    enum { COUNT = 20 };
    struct room room = {0};
    static struct reply replies[COUNT];
    struct hearth_session *sessions[COUNT];
    replies_ended = 0;
    open_room(&room, 0, 0, 0);
    for (size_t i = 0; i < COUNT; i++) {
        sessions[i] = open_session(&room, NULL);
        say(sessions[i], "hello");
        replies[i] = (struct reply){0};
        struct hearth_ask what = ask_for(&replies[i]);
        what.background = i + 1 < COUNT;
        ask_with(sessions[i], &what);
    }
    run(&room);
    assert_in_range(replies[COUNT - 1].order, 1, 8);
    for (size_t i = 0; i < COUNT; i++)
        hearth_session_close(sessions[i]);
    close_room(&room);
}

/* ---- cancelling ---- */

static void a_cancelled_answer_keeps_its_text_and_disturbs_nobody(void **state)
{
    (void)state;
    struct room room = {0};
    struct reply cancelled = {.cancel_after = 4}, other;
    char alone[1][512], text[64];
    answers_alone(0, 9, 1, alone);
    open_room(&room, 0, 0, 0);
    struct hearth_session *first = open_session(&room, NULL), *second = open_session(&room, NULL);
    say(first, "hello");
    struct hearth_ask what = ask_for(&cancelled);
    ask_with(first, &what);
    text_of_turn(text, 9, 0);
    say(second, text);
    ask(second, &other);
    run(&room);
    assert_int_equal(cancelled.result.stop, HEARTH_STOP_CANCELLED);
    assert_in_range(strlen(cancelled.text), 4, 11);
    assert_string_equal(other.text, alone[0]);
    char *messages;
    assert_int_equal(hearth_session_messages(first, &messages, NULL, NULL), 0);
    assert_int_equal(hearth_session_count(first), 2);
    hearth_free(messages);
    struct reply next = turn(&room, first, "goon");
    assert_true(next.result.cached_tokens > 10);
    hearth_session_close(first);
    hearth_session_close(second);
    close_room(&room);
}

static void who_waits_can_be_cancelled_and_deadlines_hold(void **state)
{
    (void)state;
    struct room room = {0};
    struct reply first, waiting, late = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL), *other = open_session(&room, NULL);
    say(session, "one");
    say(other, "two");
    ask(session, &first);
    ask(session, &waiting);
    hearth_request_cancel(waiting.request);
    struct hearth_ask what = ask_for(&late);
    what.deadline_ns = room.now + 20000;
    what.max_tokens = 1000;
    ask_with(other, &what);
    run(&room);
    assert_true(first.result.stop <= HEARTH_STOP_LENGTH);
    assert_int_equal(waiting.result.stop, HEARTH_STOP_CANCELLED);
    assert_int_equal(waiting.result.answer_tokens, 0);
    assert_int_equal(late.result.stop, HEARTH_STOP_CANCELLED);
    hearth_session_close(session);
    hearth_session_close(other);
    close_room(&room);
}

static void closing_everything_ends_what_runs(void **state)
{
    (void)state;
    struct room room = {0};
    struct reply reply;
    uint64_t wait;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, "left open");
    say(session, "hello");
    ask(session, &reply);
    hearth_sessions_step(room.sessions, &wait);
    close_room(&room);
    assert_true(reply.ended);
    assert_int_equal(reply.result.stop, HEARTH_STOP_CANCELLED);
}

/* ---- speculation ---- */

struct long_reply {
    char text[4096];
    struct hearth_result result;
    uint32_t ids[1024];
    size_t cancel_at; /* bytes */
    struct hearth_request *request;
};

static void take_long_text(void *context, const char *text, size_t size)
{
    struct long_reply *reply = context;
    size_t length = strlen(reply->text);
    assert_true(length + size < sizeof reply->text);
    memcpy(reply->text + length, text, size);
    reply->text[length + size] = '\0';
    if (reply->cancel_at && length + size >= reply->cancel_at)
        hearth_request_cancel(reply->request);
}

static void take_long_end(void *context, const struct hearth_result *result)
{
    struct long_reply *reply = context;
    reply->result = *result;
    assert_true(result->id_count <= 1024);
    if (result->id_count > 0)
        memcpy(reply->ids, result->ids, result->id_count * sizeof *result->ids);
}

/* How an answer with guesses is asked for. */
struct guessing {
    uint32_t context, max_tokens;
    float temperature;
    const char *stop;
    size_t cancel_at;
    uint32_t chunk_tokens; /* of the engine: a step may take but a part of the guesses */
    uint64_t kv_bytes_max; /* what ends an answer must not be where its guesses end */
};

/* Two turns of a conversation that repeats itself. */
static void answer_guessing(size_t m, const struct guessing *how, bool single,
                            struct long_reply replies[2])
{
    struct room room = {0};
    struct hearth_engine_options engine = {.threads = 1,
                                           .kv_type = HEARTH_KV_Q8_0,
                                           .chunk_tokens = how->chunk_tokens,
                                           .kv_bytes_max = how->kv_bytes_max};
    open_room_with(&room, m, &engine, how->context);
    struct hearth_session *session = open_session(&room, NULL);
    for (size_t t = 0; t < 2; t++) {
        struct hearth_sampling sampling;
        hearth_sampling_default(&sampling);
        sampling.temperature = how->temperature;
        sampling.seed = 5;
        replies[t] = (struct long_reply){.cancel_at = how->cancel_at};
        struct hearth_ask what = {
            .sampling = &sampling,
            .stop = &how->stop,
            .stop_count = how->stop != NULL,
            .max_tokens = how->max_tokens,
            .no_speculation = single,
            .on_text = take_long_text,
            .on_end = take_long_end,
            .context = &replies[t],
        };
        say(session, "abcdefghabcdefghabcdefghabcdefghabcdefgh");
        assert_int_equal(hearth_session_ask(session, &what, &replies[t].request, NULL), 0);
        run(&room);
    }
    hearth_session_close(session);
    close_room(&room);
}

static void assert_same_result(const struct long_reply *a, const struct long_reply *b)
{
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->result.stop, b->result.stop);
    assert_int_equal(a->result.prompt_tokens, b->result.prompt_tokens);
    assert_int_equal(a->result.answer_tokens, b->result.answer_tokens);
    assert_int_equal(a->result.decode_tokens, b->result.decode_tokens);
    assert_int_equal(a->result.id_count, b->result.id_count);
    assert_memory_equal(a->ids, b->ids, a->result.id_count * sizeof a->ids[0]);
}

static void guesses_change_no_token(void **state)
{
    (void)state;
    static const struct guessing ways[] = {
        {0, 150, 0.0f, NULL, 0, 0, 0},  {0, 150, 0.7f, NULL, 0, 0, 0},
        {0, 150, 1.2f, NULL, 0, 0, 0},  {0, 7, 0.0f, NULL, 0, 0, 0},
        {0, 150, 0.7f, "bc", 0, 0, 0},  {150, 0, 0.0f, NULL, 0, 0, 0},
        {0, 150, 0.0f, NULL, 30, 0, 0}, {0, 150, 0.5f, NULL, 21, 0, 0},
        {0, 150, 0.3f, NULL, 0, 3, 0},  {0, 0, 0.0f, NULL, 0, 0, 90000},
    };
    uint64_t drafted = 0, accepted = 0, fewer = 0;
    for (size_t m = 0; m < 2; m++) {
        for (size_t w = 0; w < sizeof ways / sizeof ways[0]; w++) {
            static struct long_reply guessed[2], single[2];
            answer_guessing(m, &ways[w], false, guessed);
            answer_guessing(m, &ways[w], true, single);
            for (size_t t = 0; t < 2; t++) {
                assert_same_result(&guessed[t], &single[t]);
                assert_int_equal(single[t].result.drafted, 0);
                drafted += guessed[t].result.drafted;
                accepted += guessed[t].result.accepted;
                fewer += guessed[t].result.answer_ns < single[t].result.answer_ns;
            }
        }
    }
    assert_true(drafted > accepted && accepted > 100 && fewer > 4);
}

/* ---- idle ---- */

static void after_five_idle_minutes_the_context_is_given_back(void **state)
{
    (void)state;
    struct room room = {0};
    struct hearth_sessions_state now;
    char alone[2][512], text[64];
    uint64_t wait;
    answers_alone(0, 7, 2, alone);
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    text_of_turn(text, 7, 0);
    turn(&room, session, text);
    room.now += 4 * MINUTE_NS;
    hearth_sessions_step(room.sessions, &wait);
    assert_in_range(wait, MINUTE_NS - 1000000, MINUTE_NS);
    hearth_sessions_state(room.sessions, &now);
    assert_int_equal(now.held, 1);
    assert_true(now.memory.kv_bytes > 0);
    room.now += wait;
    hearth_sessions_step(room.sessions, &wait);
    hearth_sessions_state(room.sessions, &now);
    assert_int_equal(now.held, 0);
    assert_int_equal(now.memory.kv_bytes, 0);
    text_of_turn(text, 7, 1);
    struct reply reply = turn(&room, session, text);
    assert_string_equal(reply.text, alone[1]);
    hearth_session_close(session);
    close_room(&room);
}

/* ---- what goes wrong ---- */

static void a_request_that_cannot_be_answered_says_why_and_leaves_the_rest(void **state)
{
    (void)state;
    struct room room = {0};
    struct reply reply;
    open_room(&room, 0, 0, 40);
    struct hearth_session *session = open_session(&room, NULL);
    static const char bad[] = "[{\"role\":\"tool\",\"content\":\"x\"}]";
    assert_int_equal(hearth_session_set_messages(session, bad, sizeof bad - 1, NULL), 0);
    ask(session, &reply);
    run(&room);
    assert_int_equal(reply.result.stop, HEARTH_STOP_ERROR);
    assert_int_equal(reply.result.error.code, HEARTH_E_TEMPLATE);
    assert_int_equal(hearth_session_set_messages(session, "[]", 2, NULL), 0);
    reply = turn(&room, session, "waytoolongforthiscontextofonlyfortytokens");
    assert_int_equal(reply.result.error.code, HEARTH_E_LIMIT);
    assert_non_null(strstr(reply.result.error.text, "the context holds 40"));
    assert_int_equal(hearth_session_set_messages(session, "[]", 2, NULL), 0);
    reply = turn(&room, session, "short");
    assert_int_equal(reply.result.stop, HEARTH_STOP_LENGTH);
    assert_int_equal(hearth_session_set_messages(session, "{}", 2, NULL), HEARTH_E_FORMAT);
    assert_int_equal(hearth_session_append(session, "[1]", 3, NULL), HEARTH_E_FORMAT);
    assert_int_equal(hearth_session_append(session, "{\"role\":", 8, NULL), HEARTH_E_FORMAT);
    hearth_session_close(session);
    close_room(&room);
}

/* The prompt of the last request, copied where it ends. */
static uint32_t prompt_ids[512];

static void take_prompt(void *context, const struct hearth_result *result)
{
    struct reply *reply = context;
    assert_true(result->prompt_tokens <= 512);
    memcpy(prompt_ids, result->ids, result->prompt_tokens * sizeof *prompt_ids);
    reply->result = *result;
    reply->ended = true;
}

/* Asks about `text`, and says whether the prompt was exactly the tokens of `whole`. */
static bool prompts_with(struct room *room, struct hearth_session *session, const char *text,
                         const char *whole)
{
    struct reply reply = {0};
    struct hearth_ask what = ask_for(&reply);
    uint32_t *ids;
    size_t count;
    what.on_text = NULL;
    what.on_end = take_prompt;
    say(session, text);
    ask_with(session, &what);
    run(room);
    assert_true(reply.ended);
    assert_int_equal(hearth_tokenize(models[0], whole, strlen(whole),
                                     HEARTH_ADD_SPECIAL | HEARTH_PARSE_SPECIAL, &ids, &count, NULL),
                     0);
    bool same =
        count == reply.result.prompt_tokens && memcmp(ids, prompt_ids, count * sizeof *ids) == 0;
    hearth_free(ids);
    return same;
}

static void plain_texts_stand_without_the_template(void **state)
{
    (void)state;
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    const struct hearth_session_settings plain = {.plain = true}, usual = {0};
    assert_int_equal(hearth_session_configure(session, &plain, NULL), 0);
    assert_true(prompts_with(&room, session, "once upon", "once upon"));
    assert_int_equal(hearth_session_truncate(session, 0, NULL), 0);
    assert_true(prompts_with(&room, session, "another", "another"));
    assert_int_equal(hearth_session_truncate(session, 0, NULL), 0);
    assert_int_equal(hearth_session_configure(session, &usual, NULL), 0);
    assert_true(!prompts_with(&room, session, "another", "another"));
    assert_int_equal(hearth_session_truncate(session, 0, NULL), 0);
    assert_int_equal(hearth_session_configure(session, &plain, NULL), 0);
    assert_true(prompts_with(&room, session, "another", "another"));
    struct reply more = turn(&room, session, " one"); /* goes on in the same text */
    assert_true(more.result.cached_tokens > 0 && more.result.miss == HEARTH_MISS_NOTHING);
    hearth_session_close(session);
    close_room(&room);
}

static struct {
    size_t calls, done, total;
} progress;

static void take_progress(void *context, size_t done, size_t total)
{
    (void)context;
    assert_true(done > progress.done && done <= total);
    progress.calls++;
    progress.done = done;
    progress.total = total;
}

static void who_asks_is_told_how_far_the_prompt_was_read(void **state)
{
    (void)state;
    struct room room = {0};
    char message[700];
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%0600d\"}", 7);
    assert_int_equal(hearth_session_append(session, message, strlen(message), NULL), 0);
    struct reply reply = {0};
    struct hearth_ask what = ask_for(&reply);
    what.on_progress = take_progress;
    ask_with(session, &what);
    run(&room);
    assert_true(progress.calls > 1);
    assert_int_equal(progress.done, progress.total);
    assert_int_equal(progress.total, reply.result.prompt_tokens);
    hearth_session_close(session);
    close_room(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_computes_only_what_is_new),
        cmocka_unit_test(what_has_given_way_is_computed_again_and_said),
        cmocka_unit_test(conversations_with_the_same_beginning_share_it),
        cmocka_unit_test(an_edited_history_costs_what_is_different),
        cmocka_unit_test(a_fork_goes_on_from_what_was_computed),
        cmocka_unit_test(a_key_is_the_same_conversation_each_time),
        cmocka_unit_test(many_at_once_answer_as_each_alone),
        cmocka_unit_test(when_memory_is_short_some_wait_and_all_are_answered),
        cmocka_unit_test(a_second_prompt_waits_its_turn),
        cmocka_unit_test(who_talks_comes_before_what_runs_in_the_background),
        cmocka_unit_test(a_cancelled_answer_keeps_its_text_and_disturbs_nobody),
        cmocka_unit_test(who_waits_can_be_cancelled_and_deadlines_hold),
        cmocka_unit_test(closing_everything_ends_what_runs),
        cmocka_unit_test(guesses_change_no_token),
        cmocka_unit_test(after_five_idle_minutes_the_context_is_given_back),
        cmocka_unit_test(a_request_that_cannot_be_answered_says_why_and_leaves_the_rest),
        cmocka_unit_test(plain_texts_stand_without_the_template),
        cmocka_unit_test(who_asks_is_told_how_far_the_prompt_was_read),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
