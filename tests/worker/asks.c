/* What a worker answers: anonymous histories that are found again, conversations with a key over a
 * store, cancels, pauses, stops, embeddings. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <math.h>
#include <signal.h>

#include <cmocka.h>
#include <jansson.h>

#include "../session/fake_store.h"
#include "../session/room.h"
#include "base/os.h"
#include "driver.h"

#define MS UINT64_C(1000000)

static char model_path[TEST_PATH_MAX];

static void open_worker(struct driver *driver, struct fake_store *store)
{
    struct work_start start = driver_start();
    start.engine.kv_type = HEARTH_KV_Q8_0; /* as the library's in room.c */
    driver_open_ready(driver, model_path, &start, store);
}

/* Two turns of the library alone. */
static void library_turns(const char *first, const char *second, struct reply *one,
                          struct reply *two)
{
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    *one = turn(&room, session, first);
    *two = turn(&room, session, second);
    hearth_session_close(session);
    close_room(&room);
}

static char *history(const char *format, ...)
{
    static char text[8192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"

/* ---- without a key ---- */

static void a_history_that_comes_again_is_known(void **state)
{
    struct driver driver;
    struct driver_answer first, second, again;
    struct reply one, two;
    (void)state;
    library_turns("w1 w2 w3 w4", "w5 w6", &one, &two);
    open_worker(&driver, NULL);
    struct work_ask ask = driver_ask("[" USER("w1 w2 w3 w4") "]", ANSWER_TOKENS);
    driver_answer(&driver, &ask, &first);
    assert_string_equal(first.text, one.text);
    assert_int_equal(first.end.cached_tokens, 0);
    /* as clients have it: without spaces at the ends, with fields that say nothing */
    char *sent = strdup(first.text);
    size_t size = strlen(sent);
    while (size > 0 && sent[size - 1] == ' ')
        sent[--size] = '\0';
    ask.messages = text_of(history(
        "[" USER("w1 w2 w3 w4") ",{\"role\":\"assistant\",\"name\":null,\"content\":\" %s  \","
                                "\"tool_calls\":[],\"reasoning_content\":\"w7\"}," USER(
                                    "w5 w6") "]",
        sent));
    driver_answer(&driver, &ask, &second);
    assert_string_equal(second.text, two.text);
    assert_int_equal(second.end.cached_tokens, two.result.cached_tokens);
    assert_true(second.end.cached_tokens >= first.end.prompt_tokens);
    assert_int_equal(second.end.miss, two.result.miss);
    /* the last answer once more, then another question in its place */
    driver_answer(&driver, &ask, &again);
    assert_string_equal(again.text, two.text);
    assert_int_equal(again.end.cached_tokens, again.end.prompt_tokens - 1);
    ask.messages = text_of(history("[" USER("w1 w2 w3 w4") ",{\"role\":\"assistant\","
                                                           "\"content\":\"%s\"}," USER("w9") "]",
                                   sent));
    driver_answer(&driver, &ask, &again);
    assert_true(again.end.cached_tokens >= first.end.prompt_tokens);
    assert_true(driver.state.sessions <= 1);
    free(sent);
    assert_int_equal(driver_close(&driver), 0);
}

/* A turn long ago that is another one: both go on from what they have in common. */
static void branches_are_conversations_of_their_own(void **state)
{
    struct driver driver;
    struct driver_answer answers[3], branch, whole;
    char sent[4096] = "[" USER("w1 w2 w3 w4 w5 w6 w7 w8");
    (void)state;
    open_worker(&driver, NULL);
    for (size_t t = 0; t < 3; t++) {
        char more[512];
        struct work_ask ask = driver_ask(history("%s]", sent), 4);
        driver_answer(&driver, &ask, &answers[t]);
        snprintf(more, sizeof more, ",{\"role\":\"assistant\",\"content\":\"%s\"}",
                 answers[t].text);
        strcat(sent, more);
        if (t < 2)
            strcat(sent, "," USER("w11 w12 w13"));
    }
    struct work_ask ask = driver_ask(
        history("[" USER("w1 w2 w3 w4 w5 w6 w7 w8") ",{\"role\":\"assistant\",\"content\":\"%s\"}"
                                                    "," USER("w20 w21") "]",
                answers[0].text),
        4);
    driver_answer(&driver, &ask, &branch);
    assert_true(branch.end.cached_tokens >= answers[0].end.prompt_tokens);
    ask = driver_ask(history("%s," USER("w30") "]", sent), 4);
    driver_answer(&driver, &ask, &whole);
    assert_int_equal(whole.end.miss, HEARTH_MISS_NOTHING);
    assert_true(whole.end.cached_tokens >= answers[2].end.prompt_tokens);
    assert_int_equal(driver_close(&driver), 0);
}

static void equal_prompts_at_once_do_not_wait_for_each_other(void **state)
{
    struct driver driver;
    static struct driver_answer answers[4];
    struct work_ask ask = driver_ask("[" USER("w1 w2 w3") "]", ANSWER_TOKENS);
    unsigned ended = 0, most = 0;
    (void)state;
    memset(answers, 0, sizeof answers);
    open_worker(&driver, NULL);
    for (uint64_t i = 0; i < 4; i++)
        driver_send_ask(&driver, 10 + i, &ask);
    while (ended < 4) {
        unsigned running = 0;
        assert_true(driver_receive(&driver));
        uint64_t i = driver.got.request - 10;
        assert_true(i < 4 && driver_take(&driver, 10 + i, &answers[i]));
        ended += answers[i].ended;
        for (unsigned k = 0; k < 4; k++)
            running += answers[k].texts > 0 && !answers[k].ended;
        most = running > most ? running : most;
    }
    assert_true(most > 1);
    for (unsigned i = 1; i < 4; i++)
        assert_string_equal(answers[i].text, answers[0].text);
    assert_int_equal(driver_close(&driver), 0);
}

static void plain_texts_go_on(void **state)
{
    struct driver driver;
    struct driver_answer first, second;
    struct work_ask ask = driver_ask("[" USER("w1 w2 w3 w4") "]", 6);
    (void)state;
    open_worker(&driver, NULL);
    ask.settings_given = ask.settings.plain = true;
    driver_answer(&driver, &ask, &first);
    assert_int_equal(first.end.code, 0);
    ask.messages = text_of(history("[" USER("w1 w2 w3 w4%s w9") "]", first.text));
    driver_answer(&driver, &ask, &second);
    assert_true(second.end.cached_tokens >= first.end.prompt_tokens);
    assert_int_equal(driver_close(&driver), 0);
}

/* ---- with a key ---- */

static void keyed(struct driver *driver, const char *text, struct driver_answer *answer)
{
    struct work_ask ask =
        driver_ask(history("[{\"role\":\"user\",\"content\":\"%s\"}]", text), ANSWER_TOKENS);
    ask.session = TEXT("chat");
    ask.how = WORK_MESSAGES_APPEND;
    driver_answer(driver, &ask, answer);
    assert_string_equal(answer->session, "chat");
}

static void conversations_outlive_workers(void **state)
{
    struct driver driver;
    struct driver_answer answer;
    struct fake_store store;
    struct reply one, two;
    char text[8192];
    (void)state;
    library_turns("w1 w2 w3 w4", "w5 w6", &one, &two);
    fake_store_init(&store);
    open_worker(&driver, &store);
    keyed(&driver, "w1 w2 w3 w4", &answer);
    assert_string_equal(answer.text, one.text);
    assert_non_null(fake_store_find(&store, "chat"));
    /* one that is killed loses what was computed, not what was said */
    kill(driver.pid, SIGKILL);
    assert_int_equal(driver_wait(&driver), -SIGKILL);
    open_worker(&driver, &store);
    keyed(&driver, "w5 w6", &answer);
    assert_string_equal(answer.text, two.text);
    assert_int_equal(answer.end.prompt_tokens, two.result.prompt_tokens);
    /* one that ends in order leaves what was computed too */
    driver_send(&driver, work_put_empty(&driver.message, WORK_DRAIN, 0, 0));
    assert_int_equal(driver_wait(&driver), 0);
    assert_true(store.spills > 0);
    open_worker(&driver, &store);
    keyed(&driver, "w7", &answer);
    assert_true(answer.end.cached_tokens >= two.result.prompt_tokens);
    assert_int_equal(driver_call(&driver, "history", "{\"key\":\"chat\"}", text), 0);
    json_t *reply = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(reply, "messages")), 6);
    json_decref(reply);
    /* and so does one that is told to let go of it */
    size_t spills = store.spills;
    assert_int_equal(driver_call(&driver, "release", "{\"key\":\"chat\"}", text), 0);
    assert_true(store.spills > spills);
    assert_int_equal(driver_call(&driver, "release", "{\"key\":\"chat\"}", text), 0);
    assert_int_equal(driver_call(&driver, "release", "{\"key\":\"other\"}", text), 0);
    assert_int_equal(driver_call(&driver, "remove", "{\"key\":\"chat\"}", text), 0);
    assert_null(fake_store_find(&store, "chat"));
    assert_int_equal(driver_close(&driver), 0);
    fake_store_finish(&store);
}

static size_t count_messages(struct driver *driver, const char *key)
{
    char text[8192];
    if (driver_call(driver, "history", history("{\"key\":\"%s\"}", key), text))
        return SIZE_MAX;
    json_t *reply = json_loads(text, 0, NULL);
    size_t count = json_array_size(json_object_get(reply, "messages"));
    json_decref(reply);
    return count;
}

static void what_got_no_answer_is_taken_back(void **state)
{
    struct driver driver;
    struct driver_answer answer;
    struct fake_store store;
    struct work_ask ask;
    (void)state;
    fake_store_init(&store);
    open_worker(&driver, &store);
    ask = driver_ask("[{\"role\":\"tool\",\"content\":\"w1\"}]", 4);
    ask.session = TEXT("new");
    ask.how = WORK_MESSAGES_APPEND;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.stop, HEARTH_STOP_ERROR);
    assert_int_equal(answer.end.code, HEARTH_E_TEMPLATE);
    assert_non_null(strstr(answer.cause, "no tools"));
    assert_int_equal(count_messages(&driver, "new"), SIZE_MAX);
    keyed(&driver, "w1 w2", &answer);
    ask.session = TEXT("chat");
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_TEMPLATE);
    assert_int_equal(count_messages(&driver, "chat"), 2);
    ask.how = WORK_MESSAGES_ALL;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_TEMPLATE);
    assert_int_equal(count_messages(&driver, "chat"), 2);
    /* what is no message, or no setting */
    ask.messages = TEXT("[{\"role\":\"user\",\"content\":\"w1\"},5]");
    ask.how = WORK_MESSAGES_APPEND;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_FORMAT);
    ask.messages = TEXT("[" USER("w1") "]");
    ask.sampling.top_p = 7;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_ARGUMENT);
    assert_non_null(strstr(answer.cause, "top_p"));
    assert_int_equal(count_messages(&driver, "chat"), 2);
    /* a text that lost its answer with its worker goes when the next one comes */
    char text[8192];
    assert_int_equal(
        driver_call(&driver, "append", "{\"key\":\"chat\",\"message\":" USER("w8") "}", text), 0);
    keyed(&driver, "w9", &answer);
    assert_int_equal(answer.end.code, 0);
    assert_int_equal(count_messages(&driver, "chat"), 4);
    assert_int_equal(driver_close(&driver), 0);
    fake_store_finish(&store);
}

static void what_begins_is_told_its_task(void **state)
{
    struct driver driver;
    struct driver_answer answer;
    struct work_ask ask = driver_ask("[" USER("w1") "]", 4);
    char text[8192];
    (void)state;
    open_worker(&driver, NULL);
    ask.session = TEXT("chat");
    ask.how = WORK_MESSAGES_APPEND;
    ask.system = TEXT("w7");
    for (size_t turn = 1; turn <= 2; turn++) {
        driver_answer(&driver, &ask, &answer);
        assert_int_equal(answer.end.code, 0);
        assert_int_equal(count_messages(&driver, "chat"), 1 + 2 * turn);
    }
    assert_int_equal(driver_call(&driver, "history", "{\"key\":\"chat\"}", text), 0);
    assert_non_null(strstr(text, "[{\"role\":\"system\",\"content\":\"w7\"},{\"role\":\"user\""));
    /* without new messages what was said last is answered again */
    assert_int_equal(driver_call(&driver, "truncate", "{\"key\":\"chat\",\"count\":4}", text), 0);
    ask.messages = TEXT("[]");
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, 0);
    assert_int_equal(count_messages(&driver, "chat"), 5);
    assert_int_equal(driver_close(&driver), 0);
}

static void one_answer_at_a_time(void **state)
{
    struct driver driver;
    static struct driver_answer a, b;
    struct work_ask ask = driver_ask("[" USER("w1 w2") "]", 200);
    (void)state;
    a = b = (struct driver_answer){0};
    open_worker(&driver, NULL);
    ask.session = TEXT("chat");
    ask.how = WORK_MESSAGES_APPEND;
    ask.ignore_end = true;
    driver_send_ask(&driver, 1, &ask);
    driver_send_ask(&driver, 2, &ask);
    while (!a.ended || !b.ended) {
        assert_true(driver_receive(&driver));
        assert_true(driver_take(&driver, 1, &a) || driver_take(&driver, 2, &b));
    }
    assert_int_equal(a.end.code, 0);
    assert_int_equal(b.end.code, HEARTH_E_STATE);
    assert_int_equal(a.end.answer_tokens, 200);
    assert_int_equal(count_messages(&driver, "chat"), 2);
    assert_int_equal(driver_close(&driver), 0);
}

static void others_may_have_gone_on(void **state)
{
    struct driver driver;
    struct driver_answer answer;
    struct work_ask ask = driver_ask("[" USER("w3") "]", 4);
    (void)state;
    open_worker(&driver, NULL);
    keyed(&driver, "w1 w2", &answer);
    ask.session = TEXT("chat");
    ask.how = WORK_MESSAGES_APPEND;
    ask.behind = 2;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, 0);
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_STATE);
    assert_int_equal(count_messages(&driver, "chat"), 4);
    ask.session = TEXT("new");
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_STATE);
    assert_int_equal(count_messages(&driver, "new"), SIZE_MAX);
    assert_int_equal(driver_close(&driver), 0);
}

/* ---- while it is answered ---- */

static void a_cancel_is_seen_at_once(void **state)
{
    struct driver driver;
    struct driver_answer answer = {0};
    struct work_ask ask = driver_ask("[" USER("w1 w2") "]", 4000);
    (void)state;
    open_worker(&driver, NULL);
    ask.ignore_end = true;
    driver_send_ask(&driver, 5, &ask);
    while (answer.texts < 3) {
        assert_true(driver_receive(&driver));
        assert_true(driver_take(&driver, 5, &answer));
    }
    uint64_t begin = os_monotonic_ns();
    driver_send(&driver, work_put_empty(&driver.message, WORK_CANCEL, 5, 0));
    while (!answer.ended) {
        assert_true(driver_receive(&driver));
        assert_true(driver_take(&driver, 5, &answer));
    }
    assert_true(os_monotonic_ns() - begin < 500 * MS); /* the machine may be busy */
    assert_int_equal(answer.end.stop, HEARTH_STOP_CANCELLED);
    assert_int_equal(answer.end.code, HEARTH_E_CANCELLED);
    assert_true(answer.end.answer_tokens < 4000);
    /* one that has ended, one that there never was */
    driver_send(&driver, work_put_empty(&driver.message, WORK_CANCEL, 5, 0));
    driver_send(&driver, work_put_empty(&driver.message, WORK_CANCEL, 99, 0));
    /* its text is kept: the same client goes on behind it */
    ask.max_tokens = 2;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.cached_tokens, answer.end.prompt_tokens - 1);
    /* a time that is over */
    ask.max_tokens = 4000;
    ask.timeout_ns = 20 * MS;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.stop, HEARTH_STOP_CANCELLED);
    assert_int_equal(driver_close(&driver), 0);
}

static void a_pause_gives_no_text(void **state)
{
    struct driver driver;
    static struct driver_answer whole, paused;
    struct work_ask ask = driver_ask("[" USER("w1 w2") "]", 300);
    (void)state;
    paused = (struct driver_answer){0};
    open_worker(&driver, NULL);
    ask.ignore_end = true;
    driver_answer(&driver, &ask, &whole);
    driver_send_ask(&driver, 5, &ask);
    driver_send(&driver, work_put_u32(&driver.message, WORK_PAUSE, 5, 1));
    while (driver_try_receive(&driver, 100 * MS) == 1)
        assert_true(driver_take(&driver, 5, &paused));
    assert_false(paused.ended);
    unsigned texts = paused.texts;
    assert_int_equal(driver_try_receive(&driver, 150 * MS), 0);
    assert_int_equal(driver.state.paused, 1);
    driver_send(&driver, work_put_u32(&driver.message, WORK_PAUSE, 5, 0));
    while (!paused.ended) {
        assert_true(driver_receive(&driver));
        assert_true(driver_take(&driver, 5, &paused));
    }
    assert_true(paused.texts > texts);
    assert_string_equal(paused.text, whole.text);
    assert_int_equal(driver_close(&driver), 0);
}

static void the_stop_string_is_named(void **state)
{
    struct driver driver;
    static struct driver_answer whole, answer;
    struct work_ask ask = driver_ask("[" USER("w1 w2 w3 w4") "]", 40);
    char stop[64];
    (void)state;
    open_worker(&driver, NULL);
    ask.ignore_end = true;
    driver_answer(&driver, &ask, &whole);
    assert_true(whole.size > 20);
    memcpy(stop, whole.text + 8, 6);
    stop[6] = '\0';
    ask.stops[0] = TEXT("never said");
    ask.stops[1] = text_of(stop);
    ask.stop_count = 2;
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.stop, HEARTH_STOP_STRING);
    assert_string_equal(answer.stop_string, stop);
    assert_int_equal(answer.size, strstr(whole.text, stop) - whole.text);
    ask.stops[0] = TEXT("a\0b");
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_ARGUMENT);
    assert_int_equal(driver_close(&driver), 0);
}

/* ---- embeddings ---- */

static int embed(struct driver *driver, const char *inputs, struct work_vectors *vectors,
                 float rows[][64])
{
    struct message_reader reader;
    struct text cause;
    int code;
    driver_send(driver, work_put_embed(&driver->message, 77,
                                       &(struct work_embed){.inputs = text_of(inputs)}));
    assert_true(driver_receive(driver));
    assert_int_equal(driver->got.type, WORK_REPLY);
    assert_true(work_get_reply(&driver->got, &reader, &code, &cause));
    if (code)
        return code;
    assert_true(work_get_vectors(&reader, vectors));
    assert_true(vectors->count == 0 || vectors->dimensions == 64);
    for (uint32_t i = 0; i < vectors->count; i++)
        assert_true(work_vectors_row(&reader, 64, rows[i]));
    assert_true(message_was_whole(&reader));
    return 0;
}

static void vectors_come_in_the_order_of_their_texts(void **state)
{
    static float rows[30][64], alone[1][64];
    struct driver driver;
    struct work_vectors vectors;
    char inputs[2000] = "[";
    (void)state;
    open_worker(&driver, NULL);
    for (int i = 0; i < 30; i++)
        snprintf(inputs + strlen(inputs), 60, "%s\"w%d w%d w%d\"", i ? "," : "", i % 7, i % 5,
                 i % 3);
    strcat(inputs, "]");
    assert_int_equal(embed(&driver, inputs, &vectors, rows), 0);
    assert_int_equal(vectors.count, 30);
    uint64_t tokens = vectors.tokens;
    assert_int_equal(embed(&driver, "[\"w4 w1 w2\"]", &vectors, alone), 0); /* number 11 */
    assert_true(vectors.tokens > 0 && tokens >= 30 * 3);
    assert_memory_equal(rows[11], alone[0], sizeof alone[0]);
    assert_memory_not_equal(rows[11], rows[12], sizeof alone[0]);
    double norm = 0;
    for (int i = 0; i < 64; i++)
        norm += (double)alone[0][i] * (double)alone[0][i];
    assert_true(fabs(norm - 1) < 1e-5);
    assert_int_equal(embed(&driver, "[]", &vectors, rows), 0);
    assert_int_equal(vectors.count, 0);
    assert_int_equal(embed(&driver, "[\"w1\", 5]", &vectors, rows), HEARTH_E_FORMAT);
    assert_int_equal(embed(&driver, "[\"w1\", \"\"]", &vectors, rows), HEARTH_E_ARGUMENT);
    assert_int_equal(embed(&driver, "{}", &vectors, rows), HEARTH_E_FORMAT);
    assert_int_equal(driver_close(&driver), 0);
}

static int set_up(void **state)
{
    write_model(0, model_path);
    return set_up_models(state);
}

static int tear_down(void **state)
{
    remove(model_path);
    return tear_down_models(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_history_that_comes_again_is_known),
        cmocka_unit_test(branches_are_conversations_of_their_own),
        cmocka_unit_test(equal_prompts_at_once_do_not_wait_for_each_other),
        cmocka_unit_test(plain_texts_go_on),
        cmocka_unit_test(conversations_outlive_workers),
        cmocka_unit_test(what_got_no_answer_is_taken_back),
        cmocka_unit_test(what_begins_is_told_its_task),
        cmocka_unit_test(one_answer_at_a_time),
        cmocka_unit_test(others_may_have_gone_on),
        cmocka_unit_test(a_cancel_is_seen_at_once),
        cmocka_unit_test(a_pause_gives_no_text),
        cmocka_unit_test(the_stop_string_is_named),
        cmocka_unit_test(vectors_come_in_the_order_of_their_texts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
