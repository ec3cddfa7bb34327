/* Conversations that are let go of, so that another process may go on with them: here another set
 * on an engine of its own, with the same store, and maybe with another template. */

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

/* ---- another template ---- */

static struct hearth_model *open_templated(const char *template)
{
    struct hearth_model_options options = {.chat_template = template};
    struct hearth_model *model;
    struct hearth_error err;
    char path[TEST_PATH_MAX];
    write_model(0, path);
    if (hearth_model_open(path, &options, &model, &err))
        fail_msg("%s", err.text);
    remove(path);
    return model;
}

struct prompt {
    char text[2048];
    struct reply reply;
};

static void take_begin(void *context, const struct hearth_prompt *prompt)
{
    struct prompt *told = context;
    snprintf(told->text, sizeof told->text, "%s", prompt->text);
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct prompt *told = context;
    told->reply.result = *result;
    snprintf(told->reply.text, sizeof told->reply.text, "%s", result->text);
}

/* A third user's text to a conversation of two turns that another template wrote, if `kept`; or to
 * one with the same messages that is new. */
static void third_turn(struct fake_store *fake, const char *template, bool kept,
                       struct prompt *prompt)
{
    struct hearth_model *own = models[0];
    struct room room = {.store = fake->store};
    models[0] = open_templated(template);
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, "k");
    if (!kept) {
        char *messages;
        size_t size;
        struct hearth_session *fresh = open_session(&room, NULL);
        assert_int_equal(hearth_session_messages(session, &messages, &size, NULL), 0);
        assert_int_equal(hearth_session_set_messages(fresh, messages, size, NULL), 0);
        hearth_free(messages);
        hearth_session_close(session);
        session = fresh;
    }
    assert_int_equal(hearth_session_count(session), 4);
    say(session, "andthen");
    struct hearth_ask what = ask_for(&prompt->reply);
    what.on_begin = take_begin;
    what.on_text = NULL;
    what.on_end = take_end;
    what.context = prompt;
    assert_int_equal(hearth_session_ask(session, &what, NULL, NULL), 0);
    run(&room);
    hearth_session_close(session);
    close_room(&room);
    hearth_model_close(models[0]);
    models[0] = own;
}

static void what_another_template_wrote_is_not_taken_for_its_own(void **state)
{
    (void)state;
    static const char edged[] =
        "w94{% for m in messages %}{{ m.role }}>{{ m.content }}w95{% if loop.first %}#{% endif %}"
        "{% endfor %}assistant>";
    static const char *const templates[] = {
        /* other roles; the same beginning; only what was said */
        "w94{% for m in messages %}[{{ m.role }}]{{ m.content }}w95{% endfor %}[assistant]",
        edged,
        "{% for m in messages %}{{ m.content }}{% endfor %}",
    };
    for (size_t t = 0; t < sizeof templates / sizeof templates[0]; t++) {
        struct fake_store fake;
        struct room room;
        struct prompt kept = {{0}, {0}}, fresh = {{0}, {0}};
        char text[64];
        fake_store_init(&fake);
        room = (struct room){.store = fake.store};
        open_room(&room, 0, 0, 0);
        struct hearth_session *session = open_session(&room, "k");
        for (size_t i = 0; i < 2; i++) {
            text_of_turn(text, 3, i);
            turn(&room, session, text);
        }
        assert_released(&room, session);
        third_turn(&fake, templates[t], false, &fresh);
        third_turn(&fake, templates[t], true, &kept);
        assert_string_equal(kept.text, fresh.text);
        assert_string_equal(kept.reply.text, fresh.reply.text);
        assert_int_equal(kept.reply.result.miss, HEARTH_MISS_TEMPLATE);
        assert_int_equal(fresh.reply.result.miss, HEARTH_MISS_NEW);
        assert_true(t == 1 || kept.reply.result.cached_tokens <= 1);
        assert_true(t != 1 || kept.reply.result.cached_tokens > 30);
        close_room(&room);
        fake_store_finish(&fake);
    }
}

static void a_template_that_is_given_takes_the_place_of_the_files(void **state)
{
    (void)state;
    static const char variables[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
    struct hearth_model_options options = {.chat_template = "{% if"};
    struct hearth_model *model = open_templated("<{{ messages[0].content }}>"), *bad = NULL;
    struct hearth_model_info info;
    struct hearth_error err;
    char *text, path[TEST_PATH_MAX], one[HEARTH_IDENTITY_SIZE], other[HEARTH_IDENTITY_SIZE];
    assert_int_equal(
        hearth_render_chat(model, variables, sizeof variables - 1, 0, &text, NULL, NULL), 0);
    assert_string_equal(text, "<x>");
    hearth_free(text);
    hearth_model_info(model, &info);
    assert_true(info.has_template);
    assert_int_equal(hearth_model_metadata(model, "tokenizer.chat_template", &text, NULL, NULL), 0);
    assert_non_null(strstr(text, "raise_exception")); /* the file's own */
    hearth_free(text);
    assert_int_equal(hearth_model_identity(model, one, NULL), 0);
    assert_int_equal(hearth_model_identity(models[0], other, NULL), 0);
    assert_string_equal(one, other); /* what was computed does not depend on templates */
    hearth_model_close(model);
    write_model(0, path);
    assert_int_equal(hearth_model_open(path, &options, &bad, &err), HEARTH_E_TEMPLATE);
    assert_non_null(strstr(err.text, "the chat template that was given"));
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_sets_take_turns_with_a_conversation),
        cmocka_unit_test(what_cannot_be_released_stays_open),
        cmocka_unit_test(where_nothing_can_be_spilled_it_is_computed_again),
        cmocka_unit_test(others_keep_what_they_share_with_it),
        cmocka_unit_test(what_another_template_wrote_is_not_taken_for_its_own),
        cmocka_unit_test(a_template_that_is_given_takes_the_place_of_the_files),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
