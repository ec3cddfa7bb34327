#include "room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf/types.h"
#include "infer/tiny_model.h"

struct hearth_model *models[2];
size_t replies_ended;

static uint64_t read_clock(void *context)
{
    struct room *room = context;
    return room->now += 1000;
}

void open_room_with(struct room *room, size_t m, const struct hearth_engine_options *engine,
                    uint32_t context_max)
{
    struct hearth_sessions_options options = {
        .store = room->store,
        .now = read_clock,
        .clock_context = room,
        .unix_seconds = 1000000000,
        .idle_ns = room->idle_ns,
        .context_max = context_max,
        .watch_pressure = room->pressure_root != NULL,
        .pressure_root = room->pressure_root,
    };
    room->now = 0;
    assert_int_equal(hearth_engine_open(models[m], engine, &room->engine, NULL), 0);
    assert_int_equal(hearth_sessions_open(models[m], room->engine, &options, &room->sessions, NULL),
                     0);
}

void open_room(struct room *room, size_t m, uint64_t kv_bytes_max, uint32_t context_max)
{
    struct hearth_engine_options engine = {
        .threads = 1, .kv_type = HEARTH_KV_Q8_0, .kv_bytes_max = kv_bytes_max};
    open_room_with(room, m, &engine, context_max);
}

void close_room(struct room *room)
{
    hearth_sessions_close(room->sessions);
    hearth_engine_close(room->engine);
}

/* ---- asking ---- */

static void take_text(void *context, const char *text, size_t size)
{
    struct reply *reply = context;
    size_t length = strlen(reply->streamed);
    assert_true(length + size < sizeof reply->streamed);
    memcpy(reply->streamed + length, text, size);
    reply->streamed[length + size] = '\0';
    if (reply->cancel_after && length + size >= reply->cancel_after)
        hearth_request_cancel(reply->request);
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct reply *reply = context;
    assert_false(reply->ended);
    reply->ended = true;
    reply->order = ++replies_ended;
    reply->result = *result;
    snprintf(reply->text, sizeof reply->text, "%s", result->text);
    reply->result.text = reply->text;
    assert_string_equal(reply->text, reply->streamed);
}

struct hearth_ask ask_for(struct reply *reply)
{
    static const struct hearth_sampling greedy = {.temperature = 0.0f,
                                                  .top_p = 1.0f,
                                                  .typical_p = 1.0f,
                                                  .xtc_threshold = 1.0f,
                                                  .repeat_penalty = 1.0f};
    return (struct hearth_ask){
        .sampling = &greedy,
        .max_tokens = ANSWER_TOKENS,
        .on_text = take_text,
        .on_end = take_end,
        .context = reply,
    };
}

void ask_with(struct hearth_session *session, const struct hearth_ask *ask)
{
    struct reply *reply = ask->context;
    struct hearth_error err;
    if (hearth_session_ask(session, ask, &reply->request, &err))
        fail_msg("%s", err.text);
}

void ask(struct hearth_session *session, struct reply *reply)
{
    *reply = (struct reply){0};
    struct hearth_ask what = ask_for(reply);
    ask_with(session, &what);
}

void run(struct room *room)
{
    struct hearth_sessions_state state;
    do {
        uint64_t wait;
        hearth_sessions_step(room->sessions, &wait);
        hearth_sessions_state(room->sessions, &state);
    } while (state.waiting + state.running > 0);
}

void rest(struct room *room)
{
    uint64_t wait = 0;
    room->now += 10 * MINUTE_NS;
    while (wait != HEARTH_IDLE_NEVER) {
        hearth_sessions_step(room->sessions, &wait);
        room->now += wait == HEARTH_IDLE_NEVER ? 0 : wait;
    }
}

void say(struct hearth_session *session, const char *text)
{
    char message[300];
    snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%s\"}", text);
    assert_int_equal(hearth_session_append(session, message, strlen(message), NULL), 0);
}

struct reply turn(struct room *room, struct hearth_session *session, const char *text)
{
    struct reply reply;
    say(session, text);
    ask(session, &reply);
    run(room);
    assert_true(reply.ended);
    return reply;
}

struct hearth_session *open_session(struct room *room, const char *key)
{
    struct hearth_session *session;
    assert_int_equal(hearth_session_open(room->sessions, key, &session, NULL), 0);
    return session;
}

void text_of_turn(char text[64], size_t number, size_t turn_number)
{
    for (size_t i = 0; i < 30; i++)
        text[i] = (char)('a' + (number * 7 + turn_number * 3 + i * (number + 2)) % 26);
    text[30] = '\0';
}

void answers_alone(size_t m, size_t number, size_t turns, char answers[][512])
{
    struct room room = {0};
    open_room(&room, m, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    for (size_t t = 0; t < turns; t++) {
        char text[64];
        text_of_turn(text, number, t);
        struct reply reply = turn(&room, session, text);
        assert_true(reply.result.stop <= HEARTH_STOP_LENGTH);
        snprintf(answers[t], 512, "%s", reply.text);
        hearth_engine_trim(room.engine, UINT64_MAX);
    }
    hearth_session_close(session);
    close_room(&room);
}

/* ---- models ---- */

void write_model(size_t m, char path[TEST_PATH_MAX])
{
    static const uint32_t types[] = {TYPE_Q8_0, TYPE_Q4_1, TYPE_F16};
    static const char template[] =
        "w94{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}"
        "{% endif %}{{ m.role }}>{{ m.content }}w95{% endfor %}"
        "{% if add_generation_prompt %}assistant>{% endif %}";
    static const struct tiny_model shapes[2] = {
        {"llama", VOCABULARY, 64, 2, 4, 2, 32, 96, 0, types, 3, 5, template},
        {"gemma3", VOCABULARY, 64, 4, 3, 1, 32, 96, 40, types, 3, 6, template},
    };
    tiny_model_write(&shapes[m], path);
}

int set_up_models(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        char path[TEST_PATH_MAX];
        struct hearth_error err;
        write_model(m, path);
        if (hearth_model_open(path, NULL, &models[m], &err))
            fail_msg("%s", err.text);
        remove(path);
    }
    return 0;
}

int tear_down_models(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++)
        hearth_model_close(models[m]);
    return 0;
}
