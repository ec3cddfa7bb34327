/* LM Studio's paths, over models that compute nothing: shapes, events, and chats that are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asking.h"

static struct served served;

static int start(void **state)
{
    (void)state;
    serve_with(&served, "tcp=127.0.0.1", NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    serve_end(&served);
    return 0;
}

static json_t *post(const char *path, const char *body, int status)
{
    return ask_json(&served, "POST", path, body, status);
}

static json_t *last_ask(const char *model)
{
    char path[64];
    snprintf(path, sizeof path, "/last-ask?%s", model);
    return ask_json(&served, "GET", path, NULL, 200);
}

/* ---- models ---- */

static void models_are_listed(void **state)
{
    (void)state;
    json_t *list = ask_json(&served, "GET", "/api/v1/models", NULL, 200);
    assert_int_equal(json_array_size(at(list, "models")), 4);
    const json_t *fake = at(list, "models.0"), *cold = at(list, "models.1");
    assert_string_equal(text_at(fake, "type"), "llm");
    assert_string_equal(text_at(fake, "key"), "fake");
    assert_string_equal(text_at(fake, "architecture"), "llama");
    assert_string_equal(text_at(fake, "quantization.name"), "Q4_1");
    assert_true(json_real_value(at(fake, "quantization.bits_per_weight")) == 5.41);
    assert_int_equal(number_at(fake, "size_bytes"), 91000000);
    assert_string_equal(text_at(fake, "params_string"), "134.5M");
    assert_int_equal(number_at(fake, "max_context_length"), 2048);
    assert_string_equal(text_at(fake, "format"), "gguf");
    assert_string_equal(text_at(fake, "loaded_instances.0.id"), "fake");
    assert_int_equal(number_at(fake, "loaded_instances.0.config.context_length"), 2048);
    assert_null(json_object_get(at(fake, "capabilities"), "reasoning"));
    assert_true(json_is_false(at(fake, "capabilities.vision")));
    assert_int_equal(json_array_size(at(cold, "loaded_instances")), 0);
    assert_string_equal(text_at(cold, "capabilities.reasoning.allowed_options.0"), "off");
    assert_string_equal(text_at(cold, "capabilities.reasoning.default"), "on");
    json_decref(list);
}

static void older_paths_list_models(void **state)
{
    (void)state;
    json_t *list = ask_json(&served, "GET", "/api/v0/models", NULL, 200);
    assert_string_equal(text_at(list, "object"), "list");
    assert_int_equal(json_array_size(at(list, "data")), 4);
    assert_string_equal(text_at(list, "data.0.id"), "fake");
    assert_string_equal(text_at(list, "data.0.state"), "loaded");
    assert_int_equal(number_at(list, "data.0.loaded_context_length"), 2048);
    json_decref(list);
    json_t *model = ask_json(&served, "GET", "/api/v0/models/cold", NULL, 200);
    assert_string_equal(text_at(model, "object"), "model");
    assert_string_equal(text_at(model, "arch"), "llama");
    assert_string_equal(text_at(model, "compatibility_type"), "gguf");
    assert_string_equal(text_at(model, "state"), "not-loaded");
    assert_int_equal(number_at(model, "max_context_length"), 2048);
    json_decref(model);
    ask_refused(&served, "GET", "/api/v0/models/nobody", NULL, 404, "nobody");
}

static void models_are_loaded_and_unloaded(void **state)
{
    (void)state;
    json_t *answer = post("/api/v1/models/load",
                          "{\"model\": \"cold\", \"context_length\": 1024, \"flash_attention\": "
                          "true, \"echo_load_config\": true}",
                          200);
    assert_string_equal(text_at(answer, "type"), "llm");
    assert_string_equal(text_at(answer, "instance_id"), "cold");
    assert_string_equal(text_at(answer, "status"), "loaded");
    assert_true(json_real_value(at(answer, "load_time_seconds")) > 0.1);
    assert_true(json_is_integer(at(answer, "load_config.context_length")));
    json_decref(answer);
    answer = post("/api/v1/models/load", "{\"model\": \"cold\"}", 200);
    assert_true(json_real_value(at(answer, "load_time_seconds")) == 0);
    assert_null(json_object_get(answer, "load_config"));
    json_decref(answer);
    answer = post("/api/v1/models/unload", "{\"instance_id\": \"cold\"}", 200);
    assert_string_equal(text_at(answer, "instance_id"), "cold");
    json_decref(answer);
    ask_refused(&served, "POST", "/api/v1/models/unload", "{\"instance_id\": \"cold\"}", 404,
                "not loaded");
    ask_refused(&served, "POST", "/api/v1/models/unload", "{}", 400, "instance_id");
    ask_refused(&served, "POST", "/api/v1/models/load", "{\"model\": \"nobody\"}", 404, "nobody");
    ask_refused(&served, "POST", "/api/v1/models/load", "{\"model\": \"broken\"}", 400, "damaged");
    ask_refused(&served, "POST", "/api/v1/models/load",
                "{\"model\": \"cold\", \"context_length\": 0}", 400, "context_length is 0");
    ask_refused(&served, "POST", "/api/v1/models/download", "{\"model\": \"x\"}", 404,
                "not downloaded");
    ask_refused(&served, "GET", "/api/v1/models/download/status/job_1", NULL, 404, "no such");
    assert_int_equal(stat_of(&served, "leases"), 0);
}

/* ---- chats ---- */

static void a_chat_is_whole(void **state)
{
    (void)state;
    json_t *answer = post("/api/v1/chat",
                          "{\"model\": \"fake\", \"input\": \"{\\\"say\\\": \\\"<think>a b</think>"
                          "c d\\\"}\", \"temperature\": 0.5, \"max_output_tokens\": 50}",
                          200);
    assert_string_equal(text_at(answer, "model_instance_id"), "fake");
    assert_int_equal(json_array_size(at(answer, "output")), 2);
    assert_string_equal(text_at(answer, "output.0.type"), "reasoning");
    assert_string_equal(text_at(answer, "output.0.content"), "a b");
    assert_string_equal(text_at(answer, "output.1.type"), "message");
    assert_string_equal(text_at(answer, "output.1.content"), "c d");
    assert_int_equal(number_at(answer, "stats.input_tokens"), 10);
    assert_int_equal(number_at(answer, "stats.total_output_tokens"), 3);
    assert_true(number_at(answer, "stats.reasoning_output_tokens") > 0);
    assert_true(json_real_value(at(answer, "stats.tokens_per_second")) > 0);
    assert_true(json_real_value(at(answer, "stats.time_to_first_token_seconds")) > 0);
    assert_null(json_object_get(at(answer, "stats"), "model_load_time_seconds"));
    assert_int_equal(strlen(text_at(answer, "response_id")), 5 + 48);
    json_decref(answer);
    json_t *ask = last_ask("fake");
    assert_true(json_real_value(at(ask, "temperature")) == 0.5);
    assert_int_equal(number_at(ask, "max_tokens"), 50);
    json_decref(ask);
}

static void a_chat_comes_in_events(void **state)
{
    static const char *const expected[] = {"chat.start",
                                           "model_load.start",
                                           "model_load.progress",
                                           "model_load.end",
                                           "prompt_processing.start",
                                           "prompt_processing.progress",
                                           "prompt_processing.end",
                                           "reasoning.start",
                                           "reasoning.delta",
                                           "reasoning.end",
                                           "message.start",
                                           "message.delta",
                                           "message.end",
                                           "chat.end"};
    char said[64] = "", thought[64] = "";
    size_t next = 0;
    (void)state;
    json_t *events = ask_events(&served, "POST", "/api/v1/chat",
                                "{\"model\": \"cold\", \"stream\": true, \"input\": \"{\\\"say\\\":"
                                " \\\"<think>a b</think>c d\\\", \\\"reads\\\": 2}\"}");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        const char *type = text_at(event, "event");
        assert_string_equal(text_at(event, "data.type"), type);
        if (strcmp(type, "message.delta") == 0)
            strcat(said, text_at(event, "data.content"));
        if (strcmp(type, "reasoning.delta") == 0)
            strcat(thought, text_at(event, "data.content"));
        if (strstr(type, "progress")) {
            double progress = json_number_value(at(event, "data.progress"));
            assert_true(progress > 0 && progress <= 1);
        }
        /* each comes once, but progress and deltas */
        if (next > 0 && strcmp(type, expected[next - 1]) == 0 &&
            (strstr(type, "progress") || strstr(type, "delta")))
            continue;
        assert_string_equal(type, expected[next]);
        next++;
    }
    assert_int_equal(next, sizeof expected / sizeof *expected);
    assert_string_equal(said, "c d");
    assert_string_equal(thought, "a b");
    const json_t *result = at(json_array_get(events, json_array_size(events) - 1), "data.result");
    assert_string_equal(text_at(result, "output.1.content"), "c d");
    assert_true(json_real_value(at(result, "stats.model_load_time_seconds")) > 0.1);
    assert_memory_equal(text_at(result, "response_id"), "resp_", 5);
    json_decref(events);
    json_decref(post("/api/v1/models/unload", "{\"instance_id\": \"cold\"}", 200));
}

static void errors_come_as_events_too(void **state)
{
    (void)state;
    json_t *events =
        ask_events(&served, "POST", "/api/v1/chat",
                   "{\"model\": \"fake\", \"stream\": true, \"input\": \"{\\\"say\\\": \\\"a\\\","
                   " \\\"stop\\\": \\\"error\\\", \\\"code\\\": -3, \\\"cause\\\": \\\"it broke\\\""
                   "}\"}");
    size_t count = json_array_size(events);
    const json_t *error = json_array_get(events, count - 2);
    const json_t *end = json_array_get(events, count - 1);
    assert_string_equal(text_at(error, "event"), "error");
    assert_string_equal(text_at(error, "data.error.message"), "it broke");
    assert_string_equal(text_at(error, "data.error.type"), "internal_error");
    assert_string_equal(text_at(end, "event"), "chat.end");
    assert_string_equal(text_at(end, "data.result.output.0.content"), "a");
    assert_null(json_object_get(at(end, "data.result"), "response_id"));
    json_decref(events);
    ask_refused(&served, "POST", "/api/v1/chat",
                "{\"model\": \"fake\", \"stream\": true, \"input\": \"{\\\"refuse\\\": \\\"too "
                "long\\\"}\"}",
                400, "too long");
    json_t *refused = post("/api/v1/chat", "{\"model\": \"nobody\", \"input\": \"x\"}", 404);
    assert_string_equal(text_at(refused, "error.type"), "model_not_found");
    json_decref(refused);
}

static void inputs_are_read(void **state)
{
    static const struct {
        const char *input, *words;
    } refused[] = {
        {"7", "input must be"},
        {"{}", "input must be"},
        {"[]", "input must be"},
        {"[7]", "input[0]"},
        {"[{\"type\": \"image\", \"data_url\": \"data:\"}]", "\"image\" are not supported"},
        {"[{\"type\": \"text\"}]", "\"content\" must be"},
        {"[{\"type\": \"text\", \"content\": \"a\"}, {\"content\": \"b\"}]", "input[1]"},
    };
    char body[256];
    (void)state;
    json_decref(
        post("/api/v1/chat",
             "{\"model\": \"fake\", \"system_prompt\": \"be brief\", \"input\": [{\"type\":"
             " \"text\", \"content\": \"a\"}, {\"type\": \"message\", \"content\": \"b\"}]}",
             200));
    json_t *ask = last_ask("fake");
    assert_int_equal(json_array_size(at(ask, "messages")), 2);
    assert_string_equal(text_at(ask, "messages.0.content"), "be brief");
    assert_string_equal(text_at(ask, "messages.1.content"), "a\nb");
    json_decref(ask);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        snprintf(body, sizeof body, "{\"model\": \"fake\", \"input\": %s}", refused[i].input);
        ask_refused(&served, "POST", "/api/v1/chat", body, 400, refused[i].words);
    }
    ask_refused(&served, "POST", "/api/v1/chat", "{\"model\": \"fake\"}", 400, "input is missing");
    ask_refused(&served, "POST", "/api/v1/chat", "{\"input\": \"x\"}", 400, "model");
    ask_refused(&served, "POST", "/api/v1/chat",
                "{\"model\": \"fake\", \"input\": \"x\", \"integrations\": [\"mcp/x\"]}", 400,
                "integrations is not supported");
    ask_refused(&served, "POST", "/api/v1/chat",
                "{\"model\": \"fake\", \"input\": \"x\", \"max_output_tokens\": 0}", 400,
                "max_output_tokens is 0");
}

static void reasoning_is_asked_for(void **state)
{
    (void)state;
    ask_refused(&served, "POST", "/api/v1/chat",
                "{\"model\": \"fake\", \"input\": \"x\", \"reasoning\": \"on\"}", 400,
                "reasoning \"on\"");
    ask_refused(&served, "POST", "/api/v1/chat",
                "{\"model\": \"cold\", \"input\": \"x\", \"reasoning\": \"low\"}", 400,
                "reasoning \"low\"");
    ask_refused(&served, "POST", "/api/v1/chat",
                "{\"model\": \"fake\", \"input\": \"x\", \"reasoning\": \"much\"}", 400,
                "reasoning is \"much\"");
    json_decref(post("/api/v1/chat",
                     "{\"model\": \"fake\", \"input\": \"x\", \"reasoning\": \"off\"}", 200));
    json_decref(post("/api/v1/chat",
                     "{\"model\": \"cold\", \"input\": \"x\", \"reasoning\": \"off\"}", 200));
    json_t *ask = last_ask("cold");
    assert_true(json_is_false(at(ask, "variables.enable_thinking")));
    json_decref(ask);
    json_decref(post("/api/v1/models/unload", "{\"instance_id\": \"cold\"}", 200));
}

static void older_paths_have_figures(void **state)
{
    static const struct {
        const char *path, *body;
    } requests[] = {
        {"/api/v0/chat/completions",
         "{\"model\": \"fake\", \"max_tokens\": 2, \"messages\": [{\"role\": \"user\", "
         "\"content\": \"hi you there\"}]"},
        {"/api/v0/completions",
         "{\"model\": \"fake\", \"max_tokens\": 2, \"prompt\": \"hi you there\""},
    };
    char body[256];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(body, sizeof body, "%s}", requests[i].body);
        json_t *answer = post(requests[i].path, body, 200);
        assert_string_equal(text_at(answer, "choices.0.finish_reason"), "length");
        assert_string_equal(text_at(answer, "stats.stop_reason"), "maxPredictedTokensReached");
        assert_true(json_real_value(at(answer, "stats.tokens_per_second")) > 0);
        assert_true(json_real_value(at(answer, "stats.time_to_first_token")) > 0);
        assert_true(json_real_value(at(answer, "stats.generation_time")) > 0);
        assert_string_equal(text_at(answer, "model_info.arch"), "llama");
        assert_string_equal(text_at(answer, "model_info.quant"), "Q4_1");
        assert_int_equal(number_at(answer, "model_info.context_length"), 2048);
        assert_string_equal(text_at(answer, "runtime.name"), "hearth-avx2");
        json_decref(answer);
        snprintf(body, sizeof body, "%s, \"stream\": true}", requests[i].body);
        json_t *events = ask_events(&served, "POST", requests[i].path, body);
        size_t count = json_array_size(events), figures = 0;
        for (size_t j = 0; j < count; j++)
            figures += json_object_get(at(json_array_get(events, j), "data"), "stats") != NULL;
        assert_int_equal(figures, 1);
        json_decref(events);
    }
    json_t *answer = post("/api/v0/embeddings", "{\"model\": \"fake\", \"input\": \"ab\"}", 200);
    assert_int_equal(json_array_size(at(answer, "data.0.embedding")), 4);
    json_decref(answer);
}

/* ---- chats that are kept ---- */

#define ID_SIZE 64

/* Says something after a response, or at first, and takes the name of the answer. */
static void say_after(const char *previous, const char *more, char id[ID_SIZE])
{
    char body[512];
    snprintf(body, sizeof body, "{\"model\": \"fake\", \"input\": \"hi\"%s%s%s%s}",
             previous ? ", \"previous_response_id\": \"" : "", previous ? previous : "",
             previous ? "\"" : "", more);
    json_t *answer = post("/api/v1/chat", body, 200);
    const char *name = json_string_value(json_object_get(answer, "response_id"));
    snprintf(id, ID_SIZE, "%s", name ? name : "");
    json_decref(answer);
}

static void a_chat_goes_on(void **state)
{
    char first[ID_SIZE], second[ID_SIZE], third[ID_SIZE];
    (void)state;
    say_after(NULL, ", \"system_prompt\": \"s\"", first);
    say_after(first, "", second);
    json_t *ask = last_ask("fake");
    assert_int_equal(number_at(ask, "how"), 1); /* behind what is there */
    assert_int_equal(json_array_size(at(ask, "messages")), 1);
    assert_memory_equal(text_at(ask, "session"), "lmstudio-", 9);
    assert_memory_equal(text_at(ask, "session") + 9, first + 5, 32);
    json_decref(ask);
    assert_memory_equal(first, second, 5 + 32); /* the same conversation, further on */
    assert_string_not_equal(first, second);
    say_after(second, ", \"system_prompt\": \"s\"", third); /* which it has */
    assert_memory_equal(first, third, 5 + 32);
    assert_int_equal(strtol(third + 5 + 32, NULL, 16), 7);
}

static void a_chat_has_branches(void **state)
{
    char first[ID_SIZE], second[ID_SIZE], other[ID_SIZE], again[ID_SIZE];
    (void)state;
    say_after(NULL, "", first);
    say_after(first, "", second);
    say_after(first, "", other); /* the conversation has gone on */
    assert_memory_not_equal(first + 5, other + 5, 32);
    json_t *ask = last_ask("fake");
    assert_int_equal(number_at(ask, "how"), 0);
    assert_int_equal(json_array_size(at(ask, "messages")), 3);
    assert_string_equal(text_at(ask, "messages.1.role"), "assistant");
    json_decref(ask);
    say_after(second, "", again); /* and still does */
    assert_memory_equal(second, again, 5 + 32);
    say_after(other, ", \"system_prompt\": \"else\"", again); /* another one from the beginning */
    assert_memory_not_equal(other + 5, again + 5, 32);
    ask = last_ask("fake");
    assert_string_equal(text_at(ask, "messages.0.content"), "else");
    assert_int_equal(json_array_size(at(ask, "messages")), 6);
    json_decref(ask);
}

/* Two requests follow one response at the same time: neither sees what the other says. */
static void whoever_is_second_branches(void **state)
{
    char first[ID_SIZE], second[ID_SIZE], body[512], head[128];
    struct answer answer;
    (void)state;
    say_after(NULL, "", first);
    int size = snprintf(body, sizeof body,
                        "{\"model\": \"fake\", \"previous_response_id\": \"%s\", \"input\": "
                        "\"{\\\"queue_ms\\\": 300}\"}",
                        first);
    snprintf(head, sizeof head,
             "POST /api/v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size);
    int fd = dial(&served);
    say(fd, head);
    say(fd, body);
    assert_true(stat_becomes(&served, "jobs", 1, 5000));
    say_after(first, "", second);
    assert_memory_not_equal(first + 5, second + 5, 32);
    json_t *ask = last_ask("fake");
    assert_int_equal(json_array_size(at(ask, "messages")), 3);
    json_decref(ask);
    hear(fd, false, &answer);
    hang_up(&fd);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\"hello\""));
    char same[64];
    snprintf(same, sizeof same, "%.37s", first); /* it goes on with the conversation */
    assert_non_null(strstr(answer.body, same));
    answer_free(&answer);
}

static void a_chat_is_not_kept(void **state)
{
    char first[ID_SIZE], second[ID_SIZE];
    (void)state;
    say_after(NULL, ", \"store\": false", first);
    assert_string_equal(first, "");
    json_t *ask = last_ask("fake");
    assert_string_equal(text_at(ask, "session"), "");
    json_decref(ask);
    say_after(NULL, "", first);
    say_after(first, ", \"store\": false", second);
    assert_string_equal(second, "");
    ask = last_ask("fake");
    assert_string_equal(text_at(ask, "session"), "");
    assert_int_equal(json_array_size(at(ask, "messages")), 3);
    json_decref(ask);
    say_after(first, "", second); /* it was left as it is */
    assert_memory_equal(first, second, 5 + 32);
}

static void names_of_responses_are_checked(void **state)
{
    static const char *const malformed[] = {
        "resp_",
        "resp_0",
        "x",
        "",
        "resp_00000000000000000000000000000000000000000000000",   /* 47 */
        "resp_0000000000000000000000000000000000000000000000000", /* 49 */
        "resp_00000000000000000000000000000000000000000000000g",
        "resp_0000000000000000000000000000000A0000000000000002",
        "RESP_000000000000000000000000000000000000000000000002"};
    static const char *const unknown[] = {"resp_000000000000000000000000000000000000000000000002",
                                          "resp_000000000000000000000000000000000000000000000000",
                                          "resp_ffffffffffffffffffffffffffffffffffffffffffffffff"};
    char body[256], first[ID_SIZE];
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        snprintf(body, sizeof body,
                 "{\"model\": \"fake\", \"input\": \"x\", \"previous_response_id\": \"%s\"}",
                 malformed[i]);
        ask_refused(&served, "POST", "/api/v1/chat", body, 400, "no name of a response");
    }
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        snprintf(body, sizeof body,
                 "{\"model\": \"fake\", \"input\": \"x\", \"previous_response_id\": \"%s\"}",
                 unknown[i]);
        ask_refused(&served, "POST", "/api/v1/chat", body, 404, "no such response");
    }
    say_after(NULL, "", first);
    first[5 + 48 - 1] = '9'; /* more messages than it has */
    snprintf(body, sizeof body,
             "{\"model\": \"fake\", \"input\": \"x\", \"previous_response_id\": \"%s\"}", first);
    ask_refused(&served, "POST", "/api/v1/chat", body, 404, "no such response");
}

/* ---- clients that leave, and hostile bodies ---- */

static void a_client_leaves(void **state)
{
    static const char *const holds[] = {"queue", "prompt", "answer"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char body[256], head[128];
        snprintf(
            body, sizeof body,
            "{\"model\": \"fake\", \"stream\": true, \"input\": \"{\\\"hold\\\": \\\"%s\\\"}\"}",
            holds[i]);
        snprintf(head, sizeof head,
                 "POST /api/v1/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                 strlen(body));
        int fd = dial(&served);
        say(fd, head);
        say(fd, body);
        assert_true(stat_becomes(&served, "jobs", 1, 5000));
        hang_up(&fd);
        assert_true(stat_becomes(&served, "jobs", 0, 5000));
        assert_true(stat_becomes(&served, "leases", 0, 5000));
    }
}

static void no_value_does_harm(void **state)
{
    static const char *const names[] = {"model",
                                        "input",
                                        "system_prompt",
                                        "stream",
                                        "max_output_tokens",
                                        "reasoning",
                                        "context_length",
                                        "store",
                                        "ttl",
                                        "top_k",
                                        "previous_response_id",
                                        "integrations",
                                        "instance_id",
                                        "echo_load_config"};
    static const char *const values[] = {
        "null",          "true",        "-1",  "1e308",     "99999999999999999999",
        "\"\"",          "[]",          "{}",  "[[]]",      "[{}]",
        "{\"a\": null}", "\"\\u0000\"", "0.5", "[null, 1]", "\"\\ud800\""};
    static const char *const paths[] = {"/api/v1/chat", "/api/v1/models/load"};
    (void)state;
    for (size_t path = 0; path < sizeof paths / sizeof *paths; path++) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
                struct answer answer;
                char body[512], head[128];
                int size = snprintf(body, sizeof body,
                                    "{\"model\": \"fake\", \"input\": \"x\", \"%s\": %s}", names[i],
                                    values[j]);
                snprintf(head, sizeof head,
                         "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n",
                         paths[path], size);
                int fd = dial(&served);
                say(fd, head);
                say(fd, body);
                hear(fd, false, &answer);
                hang_up(&fd);
                if (answer.status >= 500)
                    fail_msg("%d for %s: %s", answer.status, body, answer.body);
                answer_free(&answer);
            }
        }
    }
    assert_true(stat_becomes(&served, "jobs", 0, 5000));
    assert_true(stat_becomes(&served, "leases", 0, 5000));
}

/* The n-th allocation from here on fails, maybe one for the answer to this; 0: none does. */
static void fail_allocation(unsigned n)
{
    char request[128], bytes[1024];
    int fd = dial(&served);
    snprintf(request, sizeof request,
             "POST /fail?n=%u HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
             "Content-Length: 0\r\n\r\n",
             n);
    say(fd, request);
    hear_for(fd, 5000, bytes, sizeof bytes);
    hang_up(&fd);
}

static void no_allocation_is_needed(void **state)
{
    char first[ID_SIZE], requests[4][512];
    (void)state;
    say_after(NULL, "", first);
    snprintf(requests[0], sizeof *requests, "{\"model\": \"fake\", \"input\": \"x\"}");
    snprintf(requests[1], sizeof *requests,
             "{\"model\": \"fake\", \"input\": \"x\", \"stream\": true}");
    snprintf(requests[2], sizeof *requests,
             "{\"model\": \"fake\", \"input\": [{\"type\": \"text\", \"content\": \"x\"}], "
             "\"stream\": true, \"store\": false, \"previous_response_id\": \"%s\"}",
             first);
    snprintf(requests[3], sizeof *requests,
             "{\"model\": \"cold\", \"input\": \"x\", \"reasoning\": \"low\"}");
    for (size_t i = 0; i < 4; i++) {
        for (unsigned n = 1; n <= 24; n++) {
            char text[1024], bytes[8192];
            int fd = dial(&served);
            expect_status(fd, "GET /api/v0/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
            fail_allocation(n);
            snprintf(text, sizeof text,
                     "POST /api/v1/chat HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     strlen(requests[i]), requests[i]);
            say(fd, text);
            hear_for(fd, 5000, bytes, sizeof bytes);
            hang_up(&fd);
            fail_allocation(0);
        }
        assert_true(stat_becomes(&served, "jobs", 0, 5000));
        assert_true(stat_becomes(&served, "leases", 0, 5000));
    }
    say_after(first, "", first);
    assert_string_not_equal(first, "");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_listed),
        cmocka_unit_test(older_paths_list_models),
        cmocka_unit_test(models_are_loaded_and_unloaded),
        cmocka_unit_test(a_chat_is_whole),
        cmocka_unit_test(a_chat_comes_in_events),
        cmocka_unit_test(errors_come_as_events_too),
        cmocka_unit_test(inputs_are_read),
        cmocka_unit_test(reasoning_is_asked_for),
        cmocka_unit_test(older_paths_have_figures),
        cmocka_unit_test(a_chat_goes_on),
        cmocka_unit_test(a_chat_has_branches),
        cmocka_unit_test(whoever_is_second_branches),
        cmocka_unit_test(a_chat_is_not_kept),
        cmocka_unit_test(names_of_responses_are_checked),
        cmocka_unit_test(a_client_leaves),
        cmocka_unit_test(no_value_does_harm),
        cmocka_unit_test(no_allocation_is_needed),
    };
    return cmocka_run_group_tests_name("lmstudio", tests, start, stop);
}
