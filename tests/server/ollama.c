/* Ollama's paths, over models that compute nothing: the shapes that its clients read. */
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

/* The lines of a stream; each must be JSON, whoever cuts them. */
static json_t *lines_of(const char *path, const char *body)
{
    struct answer answer;
    json_t *lines = json_array();
    ask_raw(&served, "POST", path, body, 200, &answer);
    assert_non_null(strstr(answer.head, "\r\nContent-Type: application/x-ndjson\r\n"));
    assert_true(answer.body_size > 0 && answer.body[answer.body_size - 1] == '\n');
    for (char *line = strtok(answer.body, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *object = json_loads(line, 0, NULL);
        if (!object)
            fail_msg("no JSON: %s", line);
        json_array_append_new(lines, object);
    }
    answer_free(&answer);
    return lines;
}

/* What the lines say together, of "message.content", "response" or the like. */
static char *joined(const json_t *lines, const char *path)
{
    static char text[4096];
    size_t size = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        const char *last = strrchr(path, '.');
        const json_t *value = last ? json_object_get(json_object_get(line, "message"), last + 1)
                                   : json_object_get(line, path);
        if (json_is_string(value))
            size +=
                (size_t)snprintf(text + size, sizeof text - size, "%s", json_string_value(value));
    }
    text[size] = '\0';
    return text;
}

static json_t *last_ask(const char *model)
{
    char path[64];
    snprintf(path, sizeof path, "/last-ask?%s", model);
    return ask_json(&served, "GET", path, NULL, 200);
}

/* "2026-11-24T03:41:37.764515208Z" */
static bool is_time(const char *text)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddddddddZ";
    for (size_t i = 0; i < sizeof shape; i++) {
        bool fits = shape[i] == 'd' ? text[i] >= '0' && text[i] <= '9' : text[i] == shape[i];
        if (!fits)
            return false;
    }
    return true;
}

/* ---- what there is ---- */

static void somebody_is_there(void **state)
{
    struct answer answer;
    int fd = dial(&served);
    (void)state;
    say(fd, "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, true, &answer);
    assert_int_equal(answer.status, 200);
    answer_free(&answer);
    say(fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, false, &answer);
    hang_up(&fd);
    assert_string_equal(answer.body, "Ollama is running");
    answer_free(&answer);
    json_t *version = ask_json(&served, "GET", "/api/version", NULL, 200);
    int major, minor, patch;
    assert_int_equal(sscanf(text_at(version, "version"), "%d.%d.%d", &major, &minor, &patch), 3);
    json_decref(version);
    ask_refused(&served, "GET", "/api/nothing", NULL, 404, "");
    ask_refused(&served, "GET", "/api/chat", NULL, 405, "");
}

static void models_are_listed(void **state)
{
    (void)state;
    json_t *tags = ask_json(&served, "GET", "/api/tags", NULL, 200);
    assert_int_equal(json_array_size(at(tags, "models")), 4);
    for (int i = 0; i < 2; i++) { /* one that is loaded, and one that a probe told of */
        json_t *model = json_array_get(at(tags, "models"), (size_t)i);
        assert_string_equal(text_at(model, "name"), i ? "cold" : "fake");
        assert_string_equal(text_at(model, "model"), text_at(model, "name"));
        assert_true(is_time(text_at(model, "modified_at")));
        assert_int_equal(strlen(text_at(model, "digest")), 64);
        assert_int_equal(number_at(model, "size"), 91000000);
        assert_string_equal(text_at(model, "details.format"), "gguf");
        assert_string_equal(text_at(model, "details.family"), "llama");
        assert_string_equal(text_at(model, "details.families.0"), "llama");
        assert_string_equal(text_at(model, "details.parameter_size"), "134.5M");
        assert_string_equal(text_at(model, "details.quantization_level"), "Q4_1");
    }
    json_decref(tags);
    assert_int_equal(stat_of(&served, "waits"), 0);
}

static void loaded_models_are_listed(void **state)
{
    (void)state;
    json_t *list = ask_json(&served, "GET", "/api/ps", NULL, 200);
    assert_int_equal(json_array_size(at(list, "models")), 1);
    assert_string_equal(text_at(list, "models.0.name"), "fake");
    assert_true(is_time(text_at(list, "models.0.expires_at")));
    assert_true(number_at(list, "models.0.size") >= 91000000);
    assert_int_equal(number_at(list, "models.0.size_vram"), 0);
    assert_int_equal(number_at(list, "models.0.context_length"), 2048);
    json_decref(list);
}

static void a_model_is_shown(void **state)
{
    static const char *const bodies[] = {"{\"model\": \"cold\"}",
                                         "{\"name\": \"cold\", \"verbose\": true}"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        json_t *model = post("/api/show", bodies[i], 200);
        assert_string_equal(text_at(model, "details.family"), "llama");
        assert_non_null(strstr(text_at(model, "template"), "enable_thinking"));
        assert_non_null(strstr(text_at(model, "parameters"), "temperature"));
        assert_non_null(strstr(text_at(model, "modelfile"), "FROM cold\n"));
        const json_t *info = at(model, "model_info");
        assert_int_equal(json_integer_value(json_object_get(info, "general.parameter_count")),
                         134515008);
        assert_null(json_object_get(info, "general.name"));
        assert_string_equal(text_at(model, "capabilities.0"), "completion");
        assert_string_equal(text_at(model, "capabilities.1"), "embedding");
        assert_string_equal(text_at(model, "capabilities.2"), "thinking");
        assert_true(is_time(text_at(model, "modified_at")));
        json_decref(model);
    }
    json_t *model = post("/api/show", "{\"model\": \"fake:latest\"}", 200);
    assert_int_equal(json_array_size(at(model, "capabilities")), 2);
    json_decref(model);
    ask_refused(&served, "POST", "/api/show", "{\"model\": \"nobody\"}", 404, "nobody");
    ask_refused(&served, "POST", "/api/show", "{}", 400, "model is required");
    ask_refused(&served, "POST", "/api/show", "{\"model\": 7}", 400, "model");
    ask_refused(&served, "POST", "/api/show", "[]", 400, "array");
}

static void files_stay_as_they_are(void **state)
{
    (void)state;
    json_t *pulled = post("/api/pull", "{\"name\": \"fake\", \"stream\": true}", 200);
    assert_string_equal(text_at(pulled, "status"), "success");
    json_decref(pulled);
    ask_refused(&served, "POST", "/api/pull", "{\"model\": \"other\"}", 404, "not downloaded");
    ask_refused(&served, "POST", "/api/pull", "{}", 400, "model is required");
    ask_refused(&served, "POST", "/api/create", "{\"model\": \"x\"}", 404, "not changed");
    ask_refused(&served, "POST", "/api/copy", "{}", 404, "not changed");
    ask_refused(&served, "POST", "/api/push", "{}", 404, "not changed");
    ask_refused(&served, "DELETE", "/api/delete", "{\"name\": \"fake\"}", 404, "not changed");
}

/* ---- chats ---- */

#define USER(content)                                                                              \
    "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\", \"content\": \"" content "\"}]"

static void a_chat_comes_in_lines(void **state)
{
    (void)state;
    json_t *lines = lines_of("/api/chat", USER("hi there") "}");
    size_t count = json_array_size(lines);
    assert_true(count >= 2);
    for (size_t i = 0; i < count; i++) {
        json_t *line = json_array_get(lines, i);
        assert_string_equal(text_at(line, "model"), "fake");
        assert_string_equal(text_at(line, "message.role"), "assistant");
        assert_true(json_is_string(at(line, "message.content")));
        assert_true(is_time(text_at(line, "created_at")));
        assert_true(json_is_true(at(line, "done")) == (i == count - 1));
        assert_true(!json_object_get(line, "done_reason") == (i < count - 1));
    }
    assert_string_equal(joined(lines, "message.content"), "You said: hi there");
    json_t *last = json_array_get(lines, count - 1);
    assert_string_equal(text_at(last, "done_reason"), "stop");
    assert_string_equal(text_at(last, "message.content"), "");
    assert_int_equal(number_at(last, "prompt_eval_count"), 10);
    assert_int_equal(number_at(last, "prompt_eval_duration"), 20000000);
    assert_int_equal(number_at(last, "eval_count"), 4);
    assert_int_equal(number_at(last, "eval_duration"), 30000000);
    assert_int_equal(number_at(last, "load_duration"), 0);
    assert_true(number_at(last, "total_duration") > 0);
    json_decref(lines);
}

static void a_chat_is_whole(void **state)
{
    (void)state;
    json_t *answer = post("/api/chat", USER("hi") ", \"stream\": false}", 200);
    assert_string_equal(text_at(answer, "message.content"), "You said: hi");
    assert_true(json_is_true(at(answer, "done")));
    assert_string_equal(text_at(answer, "done_reason"), "stop");
    assert_null(json_object_get(at(answer, "message"), "thinking"));
    assert_string_equal(text_at(answer, "timings.cache_miss"), "new");
    json_decref(answer);
    answer =
        post("/api/chat",
             USER("one two three") ", \"stream\": false, \"options\": {\"num_predict\": 2}}", 200);
    assert_string_equal(text_at(answer, "done_reason"), "length");
    assert_int_equal(number_at(answer, "eval_count"), 2);
    json_decref(answer);
}

static void messages_are_translated(void **state)
{
    (void)state;
    json_decref(
        post("/api/chat",
             "{\"model\": \"fake\", \"stream\": false, \"messages\": ["
             "{\"role\": \"System\", \"content\": \"be brief\"},"
             "{\"role\": \"USER\", \"content\": \"a\", \"images\": [], \"tool_calls\": null},"
             "{\"role\": \"assistant\", \"content\": \"b\", \"thinking\": \"why\"},"
             "{\"role\": \"assistant\", \"thinking\": \"\"},"
             "{\"role\": \"user\", \"content\": \"c\"}]}",
             200));
    json_t *ask = last_ask("fake");
    assert_int_equal(json_array_size(at(ask, "messages")), 5);
    assert_string_equal(text_at(ask, "messages.0.role"), "system");
    assert_string_equal(text_at(ask, "messages.1.role"), "user");
    assert_string_equal(text_at(ask, "messages.2.reasoning_content"), "why");
    assert_null(json_object_get(at(ask, "messages.2"), "thinking"));
    assert_string_equal(text_at(ask, "messages.3.content"), "");
    assert_null(json_object_get(at(ask, "messages.3"), "reasoning_content"));
    json_decref(ask);
}

static void options_arrive(void **state)
{
    (void)state;
    json_decref(post("/api/chat",
                     USER("x") ", \"stream\": false, \"options\": {\"temperature\": 0.25, "
                               "\"top_k\": 7, \"top_p\": 0.5, \"seed\": 42, \"num_predict\": 9, "
                               "\"num_ctx\": 4096, \"num_gpu\": 99, \"use_mmap\": true, "
                               "\"num_keep\": 4, \"stop\": [\"END\", \"\", \"Z\"]}}",
                     200));
    json_t *ask = last_ask("fake");
    assert_true(json_real_value(at(ask, "temperature")) == 0.25);
    assert_int_equal(number_at(ask, "top_k"), 7);
    assert_true(json_real_value(at(ask, "top_p")) == 0.5);
    assert_int_equal(number_at(ask, "seed"), 42);
    assert_int_equal(number_at(ask, "max_tokens"), 9);
    assert_int_equal(json_array_size(at(ask, "stop")), 2);
    assert_string_equal(text_at(ask, "stop.1"), "Z");
    json_decref(ask);
    json_decref(post("/api/chat",
                     USER("x") ", \"stream\": false, \"options\": {\"num_predict\": -1, "
                               "\"stop\": \"END\"}}",
                     200));
    ask = last_ask("fake");
    assert_int_equal(number_at(ask, "max_tokens"), 0);
    assert_string_equal(text_at(ask, "stop.0"), "END");
    json_decref(ask);
}

static void what_is_not_supported_is_named(void **state)
{
    static const struct {
        const char *path, *body, *words;
    } cases[] = {
        {"/api/chat", USER("x") ", \"tools\": [{}]}", "tools is not supported"},
        {"/api/chat", USER("x") ", \"format\": \"json\"}", "format is not supported"},
        {"/api/chat", USER("x") ", \"format\": {\"type\": \"object\"}}", "format"},
        {"/api/chat", USER("x") ", \"think\": \"much\"}", "think must be"},
        {"/api/chat", USER("x") ", \"think\": 1}", "think must be"},
        {"/api/chat", USER("x") ", \"think\": true}", "does not support thinking"},
        {"/api/chat", USER("x") ", \"keep_alive\": \"soon\"}", "keep_alive must be"},
        {"/api/chat", USER("x") ", \"keep_alive\": true}", "keep_alive must be"},
        {"/api/chat", USER("x") ", \"stream\": 1}", "stream is 1"},
        {"/api/chat", USER("x") ", \"options\": []}", "options is an array"},
        {"/api/chat", USER("x") ", \"options\": {\"num_predict\": -3}}", "num_predict is -3"},
        {"/api/chat", USER("x") ", \"options\": {\"num_predict\": 1.5}}", "num_predict is 1.5"},
        {"/api/chat", USER("x") ", \"options\": {\"num_ctx\": -1}}", "num_ctx is -1"},
        {"/api/chat", USER("x") ", \"options\": {\"temperature\": -1}}", "temperature is -1"},
        {"/api/chat", USER("x") ", \"options\": {\"temperature\": \"1\"}}", "temperature is"},
        {"/api/chat", USER("x") ", \"options\": {\"stop\": [1]}}", "stop must be"},
        {"/api/chat", USER("x") ", \"top_logprobs\": 21}", "top_logprobs is 21"},
        {"/api/chat", USER("x") ", \"top_logprobs\": -1}", "top_logprobs is -1"},
        {"/api/chat", "{\"model\": \"fake\", \"messages\": {}}", "messages is an object"},
        {"/api/chat", "{\"model\": \"fake\", \"messages\": [7]}", "messages[0]"},
        {"/api/chat", "{\"model\": \"fake\", \"messages\": [{}]}", "messages[0].role"},
        {"/api/chat", "{\"model\": \"fake\", \"messages\": [{\"role\": \"tool\"}]}", "tool"},
        {"/api/chat",
         "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\", \"content\": \"x\", "
         "\"images\": [\"aGk=\"]}]}",
         "messages[0].images is not supported"},
        {"/api/chat", "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\", \"content\": 7}]}",
         "messages[0].content"},
        {"/api/generate", "{\"model\": \"fake\", \"prompt\": 7}", "prompt is 7"},
        {"/api/generate", "{\"model\": \"fake\", \"prompt\": \"x\", \"suffix\": \"y\"}", "suffix"},
        {"/api/generate", "{\"model\": \"fake\", \"prompt\": \"x\", \"template\": \"y\"}",
         "template"},
        {"/api/generate", "{\"model\": \"fake\", \"prompt\": \"x\", \"context\": [1]}", "context"},
        {"/api/generate", "{\"model\": \"fake\", \"prompt\": \"x\", \"images\": [\"\"]}", "images"},
        {"/api/generate",
         "{\"model\": \"fake\", \"prompt\": \"x\", \"raw\": true, \"system\": \"y\"}", "system"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ask_refused(&served, "POST", cases[i].path, cases[i].body, 400, cases[i].words);
    ask_refused(&served, "POST", "/api/chat", "{\"messages\": []}", 400, "model is required");
    ask_refused(&served, "POST", "/api/generate", "{\"model\": \"nobody\"}", 404, "nobody");
    ask_refused(&served, "POST", "/api/generate", "{\"model\": \"broken\", \"prompt\": \"x\"}", 400,
                "damaged");
    assert_int_equal(stat_of(&served, "leases"), 0);
}

#define SCRIPT(script) USER(script)

static void reasoning_is_apart(void **state)
{
    (void)state;
    json_t *lines =
        lines_of("/api/chat", SCRIPT("{\\\"say\\\":\\\"<think>a b</think>c d\\\"}") "}");
    assert_string_equal(joined(lines, "message.content"), "c d");
    assert_string_equal(joined(lines, "message.thinking"), "a b");
    json_decref(lines);
    lines = lines_of("/api/generate", "{\"model\": \"fake\", \"prompt\": "
                                      "\"{\\\"say\\\":\\\"<think>a b</think>c d\\\"}\"}");
    assert_string_equal(joined(lines, "response"), "c d");
    assert_string_equal(joined(lines, "thinking"), "a b");
    json_decref(lines);
}

static void reasoning_is_asked_for(void **state)
{
    static const struct {
        const char *think;
        bool on;
        const char *level;
    } cases[] = {{"true", true, NULL},
                 {"false", false, NULL},
                 {"\"low\"", true, "low"},
                 {"\"high\"", true, "high"},
                 {"\"max\"", true, "high"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256];
        snprintf(body, sizeof body,
                 "{\"model\": \"cold\", \"prompt\": \"x\", \"stream\": false, \"think\": %s}",
                 cases[i].think);
        json_decref(post("/api/generate", body, 200));
        json_t *ask = last_ask("cold");
        assert_true(json_is_true(at(ask, "variables.enable_thinking")) == cases[i].on);
        const json_t *level = json_object_get(at(ask, "variables"), "reasoning_effort");
        if (cases[i].level)
            assert_string_equal(json_string_value(level), cases[i].level);
        else
            assert_null(level);
        json_decref(ask);
    }
    json_decref(post("/api/generate", "{\"model\": \"cold\", \"keep_alive\": 0}", 200));
}

static void tokens_have_probabilities(void **state)
{
    (void)state;
    json_t *answer =
        post("/api/chat",
             SCRIPT("{\\\"say\\\":[\\\"a\\\",\\\"b\\\"]}") ", \"stream\": false, \"logprobs\": "
                                                           "true, \"top_logprobs\": 2}",
             200);
    assert_int_equal(json_array_size(at(answer, "logprobs")), 2);
    assert_string_equal(text_at(answer, "logprobs.1.token"), "b");
    assert_true(json_real_value(at(answer, "logprobs.1.logprob")) == -0.25);
    assert_int_equal(number_at(answer, "logprobs.1.bytes.0"), 'b');
    assert_int_equal(json_array_size(at(answer, "logprobs.1.top_logprobs")), 2);
    assert_string_equal(text_at(answer, "logprobs.1.top_logprobs.0.token"), "b");
    json_decref(answer);
    json_t *lines = lines_of("/api/generate", "{\"model\": \"fake\", \"prompt\": \"x y\", "
                                              "\"logprobs\": true}");
    size_t tokens = 0;
    for (size_t i = 0; i < json_array_size(lines); i++)
        tokens += json_array_size(json_object_get(json_array_get(lines, i), "logprobs"));
    assert_int_equal(tokens, 4);
    assert_null(json_object_get(at(lines, "0.logprobs.0"), "top_logprobs"));
    json_decref(lines);
}

/* The token that ends an answer is none of its text, and has no probability either. */
static void the_end_has_no_probability(void **state)
{
    size_t tokens = 0;
    (void)state;
    json_t *lines =
        lines_of("/api/chat",
                 SCRIPT("{\\\"say\\\":[\\\"a\\\",\\\"b\\\",\\\"\\\"]}") ", \"logprobs\": true}");
    for (size_t i = 0; i < json_array_size(lines); i++)
        tokens += json_array_size(json_object_get(json_array_get(lines, i), "logprobs"));
    assert_int_equal(tokens, 2);
    json_decref(lines);
    json_t *answer =
        post("/api/chat",
             SCRIPT("{\\\"say\\\":[\\\"a\\\",\\\"b\\\",\\\"\\\"]}") ", \"logprobs\": true, "
                                                                    "\"stream\": false}",
             200);
    assert_int_equal(json_array_size(at(answer, "logprobs")), 2);
    json_decref(answer);
}

static void no_client_cuts_a_line(void **state)
{
    struct answer answer;
    (void)state;
    ask_raw(&served, "POST", "/api/chat",
            SCRIPT("{\\\"say\\\":[\\\"a\\\\u2028b\\\",\\\"\\\\u2029\\\",\\\"\\\\u0085\\\","
                   "\\\"\\\\u20ac\\\"]}") "}",
            200, &answer);
    assert_null(strstr(answer.body, "\xe2\x80\xa8"));
    assert_null(strstr(answer.body, "\xe2\x80\xa9"));
    assert_null(strstr(answer.body, "\xc2\x85"));
    assert_non_null(strstr(answer.body, "a\\u2028b"));
    assert_non_null(strstr(answer.body, "\xe2\x82\xac"));
    answer_free(&answer);
    json_t *lines = lines_of("/api/chat", SCRIPT("{\\\"say\\\":[\\\"\\\\u0085\\\\u2029\\\"]}") "}");
    assert_string_equal(joined(lines, "message.content"), "\xc2\x85\xe2\x80\xa9");
    json_decref(lines);
}

/* ---- completions ---- */

static void a_prompt_goes_on(void **state)
{
    (void)state;
    json_t *lines = lines_of("/api/generate", "{\"model\": \"fake\", \"prompt\": \"hi\", "
                                              "\"system\": \"be brief\", \"context\": []}");
    assert_string_equal(joined(lines, "response"), "You said: hi");
    json_decref(lines);
    json_t *ask = last_ask("fake");
    assert_string_equal(text_at(ask, "messages.0.content"), "be brief");
    assert_string_equal(text_at(ask, "messages.1.content"), "hi");
    assert_true(json_is_false(at(ask, "plain")));
    json_decref(ask);
    json_t *answer = post("/api/generate",
                          "{\"model\": \"fake\", \"prompt\": \"{\\\"say\\\":\\\"<think>a b\\\"}\", "
                          "\"raw\": true, \"stream\": false}",
                          200);
    assert_string_equal(text_at(answer, "response"), "<think>a b");
    json_decref(answer);
    ask = last_ask("fake");
    assert_true(json_is_true(at(ask, "plain")));
    assert_int_equal(json_array_size(at(ask, "messages")), 1);
    json_decref(ask);
}

/* ---- loading ---- */

static void an_empty_request_loads(void **state)
{
    static const struct {
        const char *path, *body, *reason;
    } cases[] = {
        {"/api/chat", "{\"model\": \"cold\"}", "load"},
        {"/api/chat", "{\"model\": \"cold\", \"messages\": [], \"keep_alive\": 0}", "unload"},
        {"/api/chat", "{\"model\": \"cold\", \"keep_alive\": \"0\"}", "unload"},
        {"/api/generate", "{\"model\": \"cold\", \"keep_alive\": \"5m\"}", "load"},
        {"/api/generate", "{\"model\": \"cold\", \"keep_alive\": -1}", "load"},
        {"/api/generate", "{\"model\": \"cold\", \"prompt\": \"\", \"keep_alive\": 0}", "unload"},
        {"/api/embed", "{\"model\": \"cold\", \"input\": []}", "load"},
        {"/api/embeddings", "{\"model\": \"cold\", \"prompt\": \"\", \"keep_alive\": 0}", "unload"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *answer = post(cases[i].path, cases[i].body, 200);
        assert_string_equal(text_at(answer, "done_reason"), cases[i].reason);
        json_decref(answer);
        json_t *list = ask_json(&served, "GET", "/api/ps", NULL, 200);
        assert_int_equal(json_array_size(at(list, "models")),
                         strcmp(cases[i].reason, "load") == 0 ? 2 : 1);
        json_decref(list);
    }
    assert_int_equal(stat_of(&served, "leases"), 0);
    ask_refused(&served, "POST", "/api/chat", "{\"model\": \"broken\"}", 400, "damaged");
}

static void one_that_stays_expires_late(void **state)
{
    (void)state;
    json_decref(post("/api/chat", "{\"model\": \"cold\", \"keep_alive\": -1}", 200));
    json_t *list = ask_json(&served, "GET", "/api/ps", NULL, 200);
    assert_string_equal(text_at(list, "models.0.name"), "cold");
    assert_true(strtol(text_at(list, "models.0.expires_at"), NULL, 10) > 2200);
    json_decref(list);
    json_decref(post("/api/chat", "{\"model\": \"cold\", \"keep_alive\": 0}", 200));
}

static void a_load_is_left(void **state)
{
    (void)state;
    unsigned long forgotten = stat_of(&served, "forgotten");
    int fd = dial(&served);
    say(fd, "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n"
            "{\"model\": \"slow\"}");
    assert_true(stat_becomes(&served, "waits", 1, 5000));
    hang_up(&fd);
    assert_true(stat_becomes(&served, "waits", 0, 5000));
    assert_int_equal(stat_of(&served, "forgotten"), forgotten + 1);
}

/* ---- errors, and clients that leave ---- */

static void errors_have_a_status_or_a_line(void **state)
{
    (void)state;
    ask_refused(&served, "POST", "/api/chat",
                SCRIPT("{\\\"refuse\\\":\\\"the prompt is too long\\\"}") "}", 400, "too long");
    ask_refused(&served, "POST", "/api/chat",
                SCRIPT("{\\\"say\\\":[],\\\"stop\\\":\\\"error\\\",\\\"code\\\":-6,"
                       "\\\"cause\\\":\\\"the prompt is too long\\\"}") ", \"stream\": false}",
                400, "too long");
    json_t *lines =
        lines_of("/api/chat", SCRIPT("{\\\"say\\\":\\\"a b\\\",\\\"stop\\\":\\\"error\\\","
                                     "\\\"code\\\":-3,\\\"cause\\\":\\\"it broke\\\"}") "}");
    size_t count = json_array_size(lines);
    assert_true(count >= 2);
    assert_string_equal(text_at(json_array_get(lines, count - 1), "error"), "it broke");
    assert_string_equal(joined(lines, "message.content"), "a b");
    json_decref(lines);
    ask_refused(&served, "POST", "/api/chat",
                SCRIPT("{\\\"say\\\":\\\"a b\\\",\\\"stop\\\":\\\"error\\\",\\\"code\\\":-3,"
                       "\\\"cause\\\":\\\"it broke\\\"}") ", \"stream\": false}",
                500, "it broke");
}

static void headers_do_not_wait_for_the_prompt(void **state)
{
    static const char body[] = SCRIPT("{\\\"hold\\\":\\\"prompt\\\"}") "}";
    char head[128], bytes[1024];
    (void)state;
    snprintf(head, sizeof head,
             "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
             strlen(body));
    int fd = dial(&served);
    say(fd, head);
    say(fd, body);
    assert_true(stat_becomes(&served, "jobs", 1, 5000));
    hear_for(fd, 500, bytes, sizeof bytes);
    assert_non_null(strstr(bytes, "HTTP/1.1 200 OK\r\n"));
    hang_up(&fd);
    assert_true(stat_becomes(&served, "jobs", 0, 5000));
}

static void a_client_leaves(void **state)
{
    static const char *const holds[] = {"queue", "prompt", "answer"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        char body[256], head[128];
        snprintf(body, sizeof body, SCRIPT("{\\\"hold\\\":\\\"%s\\\"}") "}", holds[i]);
        snprintf(head, sizeof head,
                 "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
                 strlen(body));
        int fd = dial(&served);
        say(fd, head);
        say(fd, body);
        assert_true(stat_becomes(&served, "jobs", 1, 5000));
        if (i == 1)
            hang_up_rudely(&fd);
        else
            hang_up(&fd);
        assert_true(stat_becomes(&served, "jobs", 0, 5000));
        assert_true(stat_becomes(&served, "leases", 0, 5000));
    }
}

/* ---- embeddings ---- */

static void texts_have_vectors(void **state)
{
    (void)state;
    json_t *answer = post("/api/embed", "{\"model\": \"fake\", \"input\": [\"ab\", \"cde\"]}", 200);
    assert_string_equal(text_at(answer, "model"), "fake");
    assert_int_equal(json_array_size(at(answer, "embeddings")), 2);
    assert_int_equal(json_array_size(at(answer, "embeddings.1")), 4);
    assert_true(json_number_value(at(answer, "embeddings.1.0")) == 3);
    assert_true(json_number_value(at(answer, "embeddings.1.2")) == 0.25);
    assert_int_equal(number_at(answer, "prompt_eval_count"), 5);
    assert_true(number_at(answer, "total_duration") > 0);
    json_decref(answer);
    answer = post("/api/embed",
                  "{\"model\": \"fake\", \"input\": [\"abc\", \"abcd\"], \"dimensions\": 2}", 200);
    assert_int_equal(json_array_size(at(answer, "embeddings.1")), 2);
    double x = json_number_value(at(answer, "embeddings.1.0"));
    double y = json_number_value(at(answer, "embeddings.1.1"));
    assert_true(x * x + y * y > 0.999999 && x * x + y * y < 1.000001);
    json_decref(answer);
    answer = post("/api/embed", "{\"model\": \"fake\", \"input\": \"ab\"}", 200);
    assert_int_equal(json_array_size(at(answer, "embeddings")), 1);
    json_decref(answer);
    answer = post("/api/embeddings", "{\"model\": \"fake\", \"prompt\": \"abc\"}", 200);
    assert_int_equal(json_array_size(at(answer, "embedding")), 4);
    json_decref(answer);
    ask_refused(&served, "POST", "/api/embed", "{\"model\": \"fake\", \"input\": \"fail\"}", 400,
                "longer than the context");
    ask_refused(&served, "POST", "/api/embed", "{\"model\": \"fake\", \"input\": [1]}", 400,
                "input must be");
    ask_refused(&served, "POST", "/api/embed", "{\"model\": \"fake\", \"input\": {}}", 400,
                "input must be");
    ask_refused(&served, "POST", "/api/embed",
                "{\"model\": \"fake\", \"input\": \"x\", \"dimensions\": -1}", 400, "dimensions");
}

/* ---- hostile bodies ---- */

/* Any value of any field is answered, with at most a 4xx, and leaves nothing behind. */
static void no_value_does_harm(void **state)
{
    static const char *const names[] = {
        "model",  "messages", "prompt",       "system", "stream",   "options",           "think",
        "format", "truncate", "top_logprobs", "raw",    "logprobs", "keep_alive",        "input",
        "tools",  "context",  "dimensions",   "suffix", "shift",    "_debug_render_only"};
    static const char *const values[] = {"null",
                                         "true",
                                         "-1",
                                         "1e308",
                                         "99999999999999999999",
                                         "\"\"",
                                         "[]",
                                         "{}",
                                         "[[]]",
                                         "[{}]",
                                         "{\"a\": null}",
                                         "\"\\u0000\"",
                                         "0.5",
                                         "[null, 1]",
                                         "\"\\ud800\"",
                                         "{\"stop\": [[]], \"seed\": 1e300}"};
    static const char *const paths[] = {"/api/chat", "/api/generate", "/api/embed",
                                        "/api/embeddings", "/api/show"};
    (void)state;
    for (size_t path = 0; path < sizeof paths / sizeof *paths; path++) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            for (size_t j = 0; j < sizeof values / sizeof *values; j++) {
                struct answer answer;
                char body[512], head[128];
                int size = snprintf(
                    body, sizeof body,
                    "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\", \"content\": "
                    "\"x\"}], \"prompt\": \"x\", \"input\": \"x\", \"stream\": false, \"%s\": %s}",
                    names[i], values[j]);
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
    assert_int_equal(stat_of(&served, "jobs"), 0);
    assert_int_equal(stat_of(&served, "leases"), 0);
    assert_int_equal(stat_of(&served, "waits"), 0);
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

/* Whichever allocation fails, the client hears of it, or loses its connection, and the next one is
 * served. */
static void no_allocation_is_needed(void **state)
{
    static const struct {
        const char *method, *path, *body;
    } requests[] = {
        {"POST", "/api/chat", USER("hi") "}"},
        {"POST", "/api/generate", "{\"model\": \"fake\", \"prompt\": \"x\", \"logprobs\": true}"},
        {"POST", "/api/embed", "{\"model\": \"fake\", \"input\": [\"x\", \"y\"]}"},
        {"POST", "/api/show", "{\"model\": \"cold\"}"},
        {"GET", "/api/tags", ""},
        {"POST", "/api/chat", "{\"model\": \"fake\", \"keep_alive\": 60}"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        for (unsigned n = 1; n <= 24; n++) {
            char text[512], bytes[4096];
            snprintf(text, sizeof text,
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     requests[i].method, requests[i].path, strlen(requests[i].body),
                     requests[i].body);
            int fd = dial(&served);
            expect_status(fd, "GET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
            fail_allocation(n);
            say(fd, text);
            hear_for(fd, 5000, bytes, sizeof bytes);
            hang_up(&fd);
            fail_allocation(0);
        }
        assert_true(stat_becomes(&served, "jobs", 0, 5000));
        assert_true(stat_becomes(&served, "leases", 0, 5000));
    }
    json_decref(post("/api/chat", USER("hi") ", \"stream\": false}", 200));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(somebody_is_there),
        cmocka_unit_test(models_are_listed),
        cmocka_unit_test(loaded_models_are_listed),
        cmocka_unit_test(a_model_is_shown),
        cmocka_unit_test(files_stay_as_they_are),
        cmocka_unit_test(a_chat_comes_in_lines),
        cmocka_unit_test(a_chat_is_whole),
        cmocka_unit_test(messages_are_translated),
        cmocka_unit_test(options_arrive),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(reasoning_is_apart),
        cmocka_unit_test(reasoning_is_asked_for),
        cmocka_unit_test(tokens_have_probabilities),
        cmocka_unit_test(the_end_has_no_probability),
        cmocka_unit_test(no_client_cuts_a_line),
        cmocka_unit_test(a_prompt_goes_on),
        cmocka_unit_test(an_empty_request_loads),
        cmocka_unit_test(one_that_stays_expires_late),
        cmocka_unit_test(a_load_is_left),
        cmocka_unit_test(errors_have_a_status_or_a_line),
        cmocka_unit_test(headers_do_not_wait_for_the_prompt),
        cmocka_unit_test(a_client_leaves),
        cmocka_unit_test(texts_have_vectors),
        cmocka_unit_test(no_value_does_harm),
        cmocka_unit_test(no_allocation_is_needed),
    };
    return cmocka_run_group_tests_name("ollama", tests, start, stop);
}
