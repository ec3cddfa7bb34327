#define _GNU_SOURCE
/* A worker process, from its start to its end: every message that it understands, and what it does
 * with those that it does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <signal.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "../session/fake_store.h"
#include "../session/room.h"
#include "base/os.h"
#include "driver.h"

static char model_path[TEST_PATH_MAX];

#define HELLO "[{\"role\":\"user\",\"content\":\"w1 w2 w3 w4 w5\"}]"

static void open_worker(struct driver *driver)
{
    struct work_start start = driver_start();
    start.engine.kv_type = HEARTH_KV_Q8_0; /* as the library's in room.c */
    driver_open_ready(driver, model_path, &start, NULL);
}

/* What the library answers. */
static struct reply library_answer(const char *text)
{
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    struct reply reply = turn(&room, session, text);
    hearth_session_close(session);
    close_room(&room);
    return reply;
}

static void it_says_what_the_model_is(void **state)
{
    struct driver driver;
    struct hearth_model_info info;
    char identity[HEARTH_IDENTITY_SIZE];
    (void)state;
    open_worker(&driver);
    json_t *ready = json_loads(driver.ready, 0, NULL);
    hearth_model_info(models[0], &info);
    assert_int_equal(hearth_model_identity(models[0], identity, NULL), 0);
    assert_string_equal(json_string_value(json_object_get(ready, "identity")), identity);
    assert_int_equal(json_integer_value(json_object_get(ready, "vocabulary")), info.vocabulary);
    assert_int_equal(json_integer_value(json_object_get(ready, "layers")), info.layers);
    assert_int_equal(json_integer_value(json_object_get(ready, "context_train")),
                     info.context_length);
    assert_int_equal(json_integer_value(json_object_get(ready, "threads")), 2);
    assert_string_equal(json_string_value(json_object_get(ready, "kv_type")), "q8_0");
    assert_string_equal(json_string_value(json_object_get(ready, "pooling")), "mean");
    assert_true(json_is_string(json_object_get(ready, "chat_template")));
    assert_true(json_integer_value(json_object_get(ready, "load_ns")) > 0);
    json_t *estimate = json_object_get(ready, "estimate");
    assert_true(json_integer_value(json_object_get(estimate, "kv_bytes")) > 0);
    assert_int_equal(json_integer_value(json_object_get(estimate, "private_bytes")) +
                         json_integer_value(json_object_get(estimate, "weights_bytes")),
                     json_integer_value(json_object_get(estimate, "total_bytes")));
    json_t *metadata = json_object_get(ready, "metadata");
    assert_true(json_is_string(json_object_get(metadata, "general.architecture")));
    assert_null(json_object_get(metadata, "tokenizer.ggml.tokens"));
    json_decref(ready);
    assert_true(driver.loadings > 0);
    assert_int_equal(driver_close(&driver), 0);
}

static void a_probe_says_it_and_ends(void **state)
{
    struct driver driver;
    struct work_start start = driver_start();
    (void)state;
    start.probe = true;
    driver_open_ready(&driver, model_path, &start, NULL);
    json_t *ready = json_loads(driver.ready, 0, NULL);
    assert_non_null(json_object_get(ready, "identity"));
    assert_non_null(json_object_get(ready, "estimate"));
    assert_null(json_object_get(ready, "tier"));
    json_decref(ready);
    assert_int_equal(driver_wait(&driver), 0);
}

static void answers_are_those_of_the_library(void **state)
{
    struct driver driver;
    struct driver_answer answer;
    struct work_ask ask = driver_ask(HELLO, ANSWER_TOKENS);
    (void)state;
    struct reply alone = library_answer("w1 w2 w3 w4 w5");
    open_worker(&driver);
    ask.progress = true;
    driver_answer(&driver, &ask, &answer);
    assert_string_equal(answer.text, alone.text);
    assert_int_equal(answer.end.prompt_tokens, alone.result.prompt_tokens);
    assert_int_equal(answer.begin.prompt_tokens, alone.result.prompt_tokens);
    assert_int_equal(answer.end.answer_tokens, alone.result.answer_tokens);
    assert_int_equal(answer.tokens, alone.result.answer_tokens);
    assert_int_equal(answer.end.stop, alone.result.stop);
    assert_int_equal(answer.end.code, 0);
    assert_int_equal(answer.tokens_named, 0);
    assert_true(answer.readings > 0 && answer.done == answer.total);
    assert_int_equal(answer.total, alone.result.prompt_tokens);
    assert_string_equal(answer.session, "");
    ask.token_ids = ask.logprobs = true;
    ask.top_tokens = 3;
    ask.progress = false;
    driver_answer(&driver, &ask, &answer);
    assert_string_equal(answer.text, alone.text);
    assert_int_equal(answer.tokens_named, alone.result.answer_tokens);
    assert_int_equal(answer.readings, 0);
    assert_int_equal(driver_close(&driver), 0);
}

static void a_memory_limit_holds_from_when_it_is_told(void **state)
{
    struct driver driver;
    struct driver_answer answer;
    char words[600], messages[700];
    size_t size = 0;
    (void)state;
    for (int i = 0; i < 100; i++)
        size += (size_t)snprintf(words + size, sizeof words - size, "w%d ", i % 10);
    snprintf(messages, sizeof messages, "[{\"role\":\"user\",\"content\":\"%s\"}]", words);
    struct work_ask ask = driver_ask(messages, 4);
    open_worker(&driver);
    driver_send(&driver, work_put_u64(&driver.message, WORK_MEMORY, 0, 1));
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, HEARTH_E_LIMIT);
    driver_send(&driver, work_put_u64(&driver.message, WORK_MEMORY, 0, HEARTH_MEMORY_UNLIMITED));
    driver_answer(&driver, &ask, &answer);
    assert_int_equal(answer.end.code, 0);
    assert_int_equal(answer.end.answer_tokens, 4);
    assert_int_equal(driver_close(&driver), 0);
}

static void operations(void **state)
{
    struct driver driver;
    char text[8192], again[8192];
    (void)state;
    open_worker(&driver);
    assert_int_equal(driver_call(&driver, "tokenize", "{\"text\": \"w1 w2\"}", text), 0);
    json_t *tokens = json_loads(text, 0, NULL);
    assert_true(json_array_size(json_object_get(tokens, "tokens")) > 0);
    json_decref(tokens);
    assert_int_equal(driver_call(&driver, "detokenize", text, again), 0);
    assert_non_null(strstr(again, "w1"));
    assert_int_equal(
        driver_call(&driver, "tokenize", "{\"text\": \"w1 w2\", \"pieces\": true}", text), 0);
    assert_non_null(strstr(text, "\"piece\""));
    assert_int_equal(driver_call(&driver, "render", "{\"messages\":" HELLO "}", text), 0);
    assert_non_null(strstr(text, "w1 w2 w3"));
    assert_non_null(strstr(text, "\"opens_reasoning\":false"));
    assert_int_equal(driver_call(&driver, "count", "{\"messages\":" HELLO "}", text), 0);
    assert_int_equal(driver_call(&driver, "count", "{\"text\": \"w1\"}", again), 0);
    assert_string_not_equal(text, again);
    /* what is wrong is said */
    assert_int_equal(driver_call(&driver, "tokenize", "{}", text), HEARTH_E_ARGUMENT);
    assert_string_equal(text, "text is no text");
    assert_int_equal(driver_call(&driver, "detokenize", "{\"tokens\": [1, 100000]}", text),
                     HEARTH_E_ARGUMENT);
    assert_int_equal(driver_call(&driver, "detokenize", "{\"tokens\": [-1]}", text),
                     HEARTH_E_ARGUMENT);
    assert_int_equal(driver_call(&driver, "nothing", "{}", text), HEARTH_E_ARGUMENT);
    assert_int_equal(driver_call(&driver, "render", "[]", text), HEARTH_E_FORMAT);
    assert_int_equal(driver_call(&driver, "render", "{", text), HEARTH_E_FORMAT);
    assert_int_equal(driver_call(&driver, "history", "{\"key\": \"k\"}", text), HEARTH_E_MISSING);
    assert_int_equal(driver_close(&driver), 0);
}

static void conversations_by_operations(void **state)
{
    struct driver driver;
    char text[8192];
    (void)state;
    open_worker(&driver);
    assert_int_equal(driver_call(&driver, "set", "{\"key\":\"a\",\"messages\":" HELLO "}", text),
                     0);
    assert_non_null(strstr(text, "\"messages\":1"));
    assert_int_equal(driver_call(&driver, "append",
                                 "{\"key\":\"a\",\"message\":{\"role\":\"assistant\","
                                 "\"content\":\"w9\"}}",
                                 text),
                     0);
    assert_int_equal(driver_call(&driver, "fork", "{\"key\":\"a\",\"count\":1,\"to\":\"b\"}", text),
                     0);
    assert_non_null(strstr(text, "\"key\":\"b\""));
    assert_int_equal(driver_call(&driver, "fork", "{\"key\":\"a\",\"count\":1,\"to\":\"b\"}", text),
                     HEARTH_E_STATE);
    assert_int_equal(driver_call(&driver, "history", "{\"key\":\"a\"}", text), 0);
    assert_non_null(strstr(text, "w9"));
    assert_int_equal(driver_call(&driver, "truncate", "{\"key\":\"a\",\"count\":1}", text), 0);
    assert_int_equal(driver_call(&driver, "history", "{\"key\":\"a\"}", text), 0);
    assert_null(strstr(text, "w9"));
    assert_int_equal(driver_call(&driver, "configure",
                                 "{\"key\":\"a\",\"overflow\":\"drop\",\"plain\":true}", text),
                     0);
    assert_non_null(strstr(text, "\"overflow\":\"drop\""));
    assert_non_null(strstr(text, "\"plain\":true"));
    assert_int_equal(driver_call(&driver, "configure", "{\"key\":\"a\",\"keep\":\"x\"}", text),
                     HEARTH_E_ARGUMENT);
    assert_int_equal(driver_call(&driver, "sessions", "{}", text), 0);
    assert_non_null(strstr(text, "\"key\":\"a\""));
    assert_non_null(strstr(text, "\"key\":\"b\""));
    assert_int_equal(driver_call(&driver, "reset", "{\"key\":\"b\"}", text), 0);
    assert_non_null(strstr(text, "\"messages\":0"));
    assert_int_equal(driver_call(&driver, "remove", "{\"key\":\"a\"}", text), 0);
    assert_int_equal(driver_call(&driver, "session", "{\"key\":\"a\"}", text), HEARTH_E_MISSING);
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
        cmocka_unit_test(it_says_what_the_model_is),
        cmocka_unit_test(a_probe_says_it_and_ends),
        cmocka_unit_test(answers_are_those_of_the_library),
        cmocka_unit_test(a_memory_limit_holds_from_when_it_is_told),
        cmocka_unit_test(operations),
        cmocka_unit_test(conversations_by_operations),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
