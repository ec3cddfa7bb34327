/* hearth's own paths, over models that compute nothing: what is answered, what a worker is asked,
 * and what comes from the store alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asking.h"
#include "support/folder.h"

#define V1 "/hearth/v1/"

static struct served served;
static char folder[TEST_FOLDER_MAX];

static int start(void **state)
{
    char store[TEST_FOLDER_MAX + 16];
    (void)state;
    test_folder_make(folder);
    snprintf(store, sizeof store, "store=%s/store", folder);
    serve_with(&served, "tcp=127.0.0.1", store, "ping_ms=200", NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    serve_end(&served);
    test_folder_remove(folder);
    return 0;
}

static void keep(const char *key)
{
    char path[128];
    struct answer answer;
    snprintf(path, sizeof path, "/keep?%s", key);
    ask_raw(&served, "POST", path, NULL, 204, &answer);
    answer_free(&answer);
}

/* ---- the daemon ---- */

static void the_daemon_says_what_it_is(void **state)
{
    (void)state;
    json_t *status = ask_json(&served, "GET", V1 "status", NULL, 200);
    assert_true(strlen(text_at(status, "version")) > 0);
    assert_int_equal(number_at(status, "pid"), served.process);
    assert_int_equal(number_at(status, "models"), 4);
    assert_int_equal(number_at(status, "models_loaded"), 1);
    assert_true(number_at(status, "requests") > 0);
    assert_int_equal(number_at(status, "connections"), 1);
    assert_true(json_is_integer(at(status, "memory.limit_bytes")));
    assert_true(json_is_array(at(status, "listeners")));
    json_decref(status);
    json_t *memory = ask_json(&served, "GET", V1 "memory", NULL, 200);
    assert_true(number_at(memory, "daemon.private_bytes") > 0);
    assert_string_equal(text_at(memory, "workers.0.model"), "fake");
    json_decref(memory);
}

static void tokens_are_counted(void **state)
{
    (void)state;
    struct answer answer;
    ask_raw(&served, "POST", V1 "tokens", "{\"model\": \"fake\", \"text\": \"hello\"}", 200,
            &answer);
    answer_free(&answer);
    ask_refused(&served, "POST", V1 "tokens", "{\"model\": \"fake\"}", 400, "either");
    ask_refused(&served, "POST", V1 "tokens",
                "{\"model\": \"fake\", \"text\": \"a\", \"messages\": []}", 400, "either");
    ask_refused(&served, "POST", V1 "tokens", "{\"model\": \"nobody\", \"text\": \"a\"}", 404,
                "nobody");
}

static void events_are_followed(void **state)
{
    struct answer answer;
    (void)state;
    int fd = dial(&served);
    say(fd, "GET " V1 "events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear_until(fd, "event: events.begin\ndata: {\"type\":\"events.begin\"");
    ask_raw(&served, "POST", "/tell?model.loading", NULL, 204, &answer);
    answer_free(&answer);
    hear_until(fd, "event: model.loading\ndata: {\"type\":\"model.loading\"");
    hear_until(fd, "\r\n:\n\n"); /* silences have comments */
    ask_raw(&served, "POST", "/tell?daemon.stopping", NULL, 204, &answer);
    answer_free(&answer);
    hear_until(fd, "\r\n0\r\n\r\n"); /* and the stream ends with it */
    hang_up(&fd);
    fd = dial(&served);
    say(fd, "GET " V1 "events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear_until(fd, "events.begin");
    hang_up(&fd);
    ask_raw(&served, "POST", "/tell?model.loaded", NULL, 204, &answer); /* nobody listens */
    answer_free(&answer);
}

/* ---- models ---- */

static void models_are_told(void **state)
{
    (void)state;
    json_t *list = ask_json(&served, "GET", V1 "models", NULL, 200);
    assert_int_equal(json_array_size(at(list, "models")), 4);
    assert_string_equal(text_at(list, "models.0.name"), "fake");
    assert_string_equal(text_at(list, "models.0.state"), "loaded");
    assert_true(json_is_real(at(list, "models.0.expires_in_s")));
    assert_true(json_is_null(at(list, "models.2.expires_in_s")));
    assert_string_equal(text_at(list, "models.0.settings.kv"), "f16");
    json_decref(list);
    json_t *model = ask_json(&served, "GET", V1 "models/fake", NULL, 200);
    assert_string_equal(text_at(model, "about.architecture"), "llama");
    json_decref(model);
    ask_refused(&served, "GET", V1 "models/nobody", NULL, 404, "nobody");
    ask_refused(&served, "GET", V1 "models/a%2Fb", NULL, 404, "a/b");
}

static void files_are_named_by_who_may(void **state)
{
    (void)state;
    ask_refused(&served, "POST", V1 "models", "{\"path\": \"/models/fake\"}", 403, "socket");
}

static void models_are_estimated(void **state)
{
    (void)state;
    json_t *estimate = ask_json(&served, "POST", V1 "models/fake/estimate",
                                "{\"context\": 4096, \"kv\": \"q8_0\"}", 200);
    assert_true(json_is_object(estimate));
    json_decref(estimate);
    json_decref(ask_json(&served, "POST", V1 "models/fake/estimate", NULL, 200));
    ask_refused(&served, "POST", V1 "models/fake/estimate", "{\"context\": -1}", 400, "context");
    ask_refused(&served, "POST", V1 "models/fake/estimate", "{\"kv\": \"f64\"}", 400, "q8_0");
    ask_refused(&served, "POST", V1 "models/nobody/estimate", NULL, 404, "nobody");
}

static void models_are_loaded(void **state)
{
    (void)state;
    json_t *loaded = ask_json(&served, "POST", V1 "models/fake/load", NULL, 200);
    assert_string_equal(text_at(loaded, "state"), "loaded");
    assert_true(json_real_value(at(loaded, "load_time_s")) == 0.0);
    json_decref(loaded);
    json_t *events =
        ask_events(&served, "POST", V1 "models/cold/load", "{\"stream\": true, \"ttl\": \"10m\"}");
    size_t count = json_array_size(events);
    assert_true(count >= 3);
    assert_string_equal(text_at(events, "0.event"), "loading");
    assert_true(json_is_number(at(events, "0.data.progress")));
    const json_t *last = json_array_get(events, count - 1);
    assert_string_equal(text_at(last, "event"), "loaded");
    assert_true(json_real_value(at(last, "data.load_time_s")) > 0.0);
    json_decref(events);
    ask_refused(&served, "POST", V1 "models/broken/load", NULL, 400, "");
    ask_refused(&served, "POST", V1 "models/fake/load", "{\"ttl\": \"soon\"}", 400, "ttl");
    ask_refused(&served, "POST", V1 "models/fake/load", "{\"answers\": 257}", 400, "answers");
    assert_true(stat_becomes(&served, "leases", 0, 1000));
}

static void who_leaves_a_load_stops_waiting(void **state)
{
    (void)state;
    int fd = dial(&served);
    say(fd, "POST " V1 "models/slow/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_true(stat_becomes(&served, "waits", 1, 2000));
    hang_up(&fd);
    assert_true(stat_becomes(&served, "waits", 0, 2000));
}

static void models_are_unloaded(void **state)
{
    (void)state;
    json_decref(ask_json(&served, "POST", V1 "models/cold/load", NULL, 200));
    json_t *gone = ask_json(&served, "POST", V1 "models/cold/unload", "{\"force\": true}", 200);
    assert_string_equal(text_at(gone, "state"), "unloaded");
    json_decref(gone);
    ask_refused(&served, "POST", V1 "models/cold/unload", NULL, 404, "");
    ask_refused(&served, "POST", V1 "models/cold/unload", "{\"force\": 1}", 400, "force");
}

/* ---- conversations in the store ---- */

static void the_store_answers_alone(void **state)
{
    (void)state;
    unsigned long calls = stat_of(&served, "calls");
    ask_refused(&served, "GET", V1 "sessions/a%20b", NULL, 404, "no conversation");
    keep("kept");
    json_t *list = ask_json(&served, "GET", V1 "sessions", NULL, 200);
    assert_string_equal(text_at(list, "sessions.0.key"), "kept");
    assert_int_equal(number_at(list, "sessions.0.messages"), 2);
    assert_true(json_is_false(at(list, "sessions.0.loaded")));
    json_decref(list);
    json_t *one = ask_json(&served, "GET", V1 "sessions/kept", NULL, 200);
    assert_int_equal(number_at(one, "tokens"), 7);
    assert_string_equal(text_at(one, "model_name"), "fake");
    json_decref(one);
    json_t *history = ask_json(&served, "GET", V1 "sessions/kept/history", NULL, 200);
    assert_string_equal(text_at(history, "messages.1.content"), "good day");
    json_decref(history);
    json_t *released = ask_json(&served, "POST", V1 "sessions/kept/release", NULL, 200);
    json_decref(released);
    json_t *removed = ask_json(&served, "DELETE", V1 "sessions/kept", NULL, 200);
    assert_true(json_is_true(at(removed, "removed")));
    json_decref(removed);
    ask_refused(&served, "DELETE", V1 "sessions/kept", NULL, 404, "");
    ask_refused(&served, "GET", V1 "sessions/kept/history", NULL, 404, "");
    assert_int_equal(stat_of(&served, "calls"), calls);
}

/* Nothing is asked of a worker unless its memory is asked for. */
static void lists_can_have_what_is_in_memory(void **state)
{
    (void)state;
    unsigned long calls = stat_of(&served, "calls");
    json_decref(ask_json(&served, "GET", V1 "sessions", NULL, 200));
    assert_int_equal(stat_of(&served, "calls"), calls);
    keep("old");
    json_decref(ask_json(&served, "POST", V1 "sessions/live/prompt",
                         "{\"model\": \"fake\", \"text\": \"hello\"}", 200));
    json_t *list = ask_json(&served, "GET", V1 "sessions?memory=true", NULL, 200);
    assert_int_equal(stat_of(&served, "calls"), calls + 1); /* of the one that is loaded */
    assert_int_equal(json_array_size(at(list, "sessions")), 2);
    assert_string_equal(text_at(list, "sessions.0.key"), "old");
    assert_true(json_is_false(at(list, "sessions.0.loaded")));
    assert_string_equal(text_at(list, "sessions.1.key"), "live");
    assert_int_equal(number_at(list, "sessions.1.messages"), 2);
    assert_true(json_is_true(at(list, "sessions.1.loaded")));
    assert_string_equal(text_at(list, "sessions.1.model"), "fake");
    json_decref(list);
    json_decref(ask_json(&served, "DELETE", V1 "sessions/old", NULL, 200));
}

static void what_is_not_there_loads_nothing(void **state)
{
    static const char *const operations[] = {"truncate", "fork", "edit", "reset", "release"};
    static const char *const bodies[] = {"{\"count\": 0}", "{\"to\": \"x\"}",
                                         "{\"index\": 0, \"text\": \"a\"}", NULL, NULL};
    (void)state;
    unsigned long acquired = stat_of(&served, "acquired");
    for (size_t i = 0; i < 5; i++) {
        char path[128];
        snprintf(path, sizeof path, V1 "sessions/nothing/%s", operations[i]);
        ask_refused(&served, "POST", path, bodies[i], 404, "no conversation");
    }
    assert_int_equal(stat_of(&served, "acquired"), acquired);
}

/* ---- operations of a worker: the fake replies what it was called with ---- */

static json_t *operate(const char *method, const char *path, const char *body, const char *name)
{
    json_t *reply = ask_json(&served, method, path, body, 200);
    assert_string_equal(text_at(reply, "name"), name);
    return reply;
}

static void conversations_are_changed_by_workers(void **state)
{
    (void)state;
    keep("k");
    json_t *reply = operate("POST", V1 "sessions/k/truncate", "{\"count\": 1}", "truncate");
    assert_string_equal(text_at(reply, "arguments.key"), "k");
    assert_int_equal(number_at(reply, "arguments.count"), 1);
    assert_string_equal(text_at(reply, "model"), "fake"); /* whose it is, by the store */
    json_decref(reply);
    reply = operate("POST", V1 "sessions/k/append", "{\"text\": \"hi\"}", "append");
    assert_string_equal(text_at(reply, "arguments.message.role"), "user");
    assert_string_equal(text_at(reply, "arguments.message.content"), "hi");
    json_decref(reply);
    reply = operate("PUT", V1 "sessions/k/messages",
                    "{\"messages\": [{\"role\": \"system\", \"content\": \"be\"}]}", "set");
    assert_string_equal(text_at(reply, "arguments.messages.0.role"), "system");
    json_decref(reply);
    json_decref(operate("PUT", V1 "sessions/k/messages", "{\"messages\": []}", "set"));
    reply = operate("POST", V1 "sessions/k/fork", "{\"to\": \"ü\", \"count\": 2}", "fork");
    assert_string_equal(text_at(reply, "arguments.to"), "ü");
    assert_string_equal(text_at(reply, "key"), "ü");
    json_decref(reply);
    json_decref(operate("POST", V1 "sessions/k/reset", NULL, "reset"));
    reply = operate("POST", V1 "sessions/k/open",
                    "{\"keep\": \"never\", \"overflow\": \"drop\", \"plain\": true}", "configure");
    assert_string_equal(text_at(reply, "arguments.keep"), "never");
    assert_string_equal(text_at(reply, "arguments.overflow"), "drop");
    json_decref(reply);
    json_decref(operate("GET", V1 "sessions/k", NULL, "session")); /* it is in memory */
    ask_refused(&served, "POST", V1 "sessions/k/fork", "{\"to\": \"ü\"}", 409, "already");
    json_decref(ask_json(&served, "POST", V1 "sessions/k/release", NULL, 200));
    json_decref(ask_json(&served, "DELETE", V1 "sessions/k", NULL, 200));
}

/* The history comes from the worker, and goes back with another end. */
static void a_message_is_edited(void **state)
{
    (void)state;
    json_decref(ask_json(&served, "POST", V1 "sessions/e/prompt",
                         "{\"model\": \"fake\", \"text\": \"hello\"}", 200));
    json_t *reply =
        operate("POST", V1 "sessions/e/edit", "{\"index\": 1, \"text\": \"no\"}", "set");
    assert_int_equal(json_array_size(at(reply, "arguments.messages")), 2);
    assert_string_equal(text_at(reply, "arguments.messages.0.content"), "hello");
    assert_string_equal(text_at(reply, "arguments.messages.1.role"), "assistant");
    assert_string_equal(text_at(reply, "arguments.messages.1.content"), "no");
    json_decref(reply);
    reply =
        operate("POST", V1 "sessions/e/edit",
                "{\"index\": 0, \"message\": {\"role\": \"system\", \"content\": \"be\"}}", "set");
    assert_int_equal(json_array_size(at(reply, "arguments.messages")), 1);
    assert_string_equal(text_at(reply, "arguments.messages.0.role"), "system");
    json_decref(reply);
    ask_refused(&served, "POST", V1 "sessions/e/edit", "{\"index\": 7, \"text\": \"a\"}", 400,
                "has 2 messages");
    ask_refused(&served, "POST", V1 "sessions/e/edit", "{\"index\": 0, \"message\": {}}", 400,
                "role");
}

static void operations_are_checked(void **state)
{
    (void)state;
    keep("k");
    ask_refused(&served, "POST", V1 "sessions/k/truncate", "{}", 400, "count is missing");
    ask_refused(&served, "POST", V1 "sessions/k/truncate", "{\"count\": -1}", 400, "count");
    ask_refused(&served, "POST", V1 "sessions/k/fork", "{}", 400, "to is missing");
    ask_refused(&served, "POST", V1 "sessions/k/fork", "{\"to\": \"\"}", 400, "key");
    ask_refused(&served, "POST", V1 "sessions/k/append", "{}", 400, "either");
    ask_refused(&served, "POST", V1 "sessions/k/append", "{\"text\": \"a\", \"message\": {}}", 400,
                "either");
    ask_refused(&served, "POST", V1 "sessions/k/append", "{\"message\": {\"role\": 1}}", 400,
                "role");
    ask_refused(&served, "POST", V1 "sessions/k/edit", "{\"text\": \"a\"}", 400,
                "index is missing");
    ask_refused(&served, "PUT", V1 "sessions/k/messages", "{}", 400, "messages is missing");
    ask_refused(&served, "PUT", V1 "sessions/k/messages", "{\"messages\": [1]}", 400,
                "messages[0]");
    ask_refused(&served, "POST", V1 "sessions/k/reset", "{\"model\": \"nobody\"}", 404, "nobody");
    char path[2048] = V1 "sessions/";
    for (int i = 0; i < 257; i++)
        strcat(path, "y");
    ask_refused(&served, "GET", path, NULL, 400, "256 bytes");
    json_decref(ask_json(&served, "DELETE", V1 "sessions/k", NULL, 200));
}

/* ---- prompts ---- */

static void a_prompt_is_answered_whole(void **state)
{
    (void)state;
    json_t *reply = ask_json(&served, "POST", V1 "sessions/talk/prompt",
                             "{\"model\": \"fake\", \"text\": \"hello\", \"max_tokens\": 50,"
                             " \"overflow\": \"drop\", \"keep\": \"never\"}",
                             200);
    assert_string_equal(text_at(reply, "text"), "You said: hello");
    assert_string_equal(text_at(reply, "session"), "talk");
    assert_string_equal(text_at(reply, "stop"), "end");
    assert_int_equal(number_at(reply, "usage.prompt_tokens"), 10);
    assert_true(json_is_object(at(reply, "timings")));
    json_decref(reply);
    json_t *last = ask_json(&served, "GET", "/last-ask?fake", NULL, 200);
    assert_string_equal(text_at(last, "session"), "talk");
    json_decref(last);
    json_t *list = ask_json(&served, "GET", V1 "sessions", NULL, 200);
    json_decref(list);
}

static void a_prompt_is_streamed(void **state)
{
    static const char *const order[] = {"begin", "reading", "reasoning", "text", "end"};
    char text[256] = "", reasoning[256] = "";
    size_t at_order = 0;
    (void)state;
    json_t *events = ask_events(
        &served, "POST", V1 "sessions/s/prompt",
        "{\"model\": \"fake\", \"stream\": true, \"progress\": true, \"text\": \"{"
        "\\\"say\\\": [\\\"<think>\\\", \\\"hm\\\", \\\"</think>\\\", \\\"yes\\\", \\\" sir\\\"],"
        "\\\"token_ms\\\": 20, \\\"reads\\\": 2}\"}");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        const char *name = text_at(event, "event");
        while (at_order < 5 && strcmp(order[at_order], name) != 0)
            at_order++;
        assert_true(at_order < 5);
        if (strcmp(name, "text") == 0)
            strcat(text, text_at(event, "data.text"));
        if (strcmp(name, "reasoning") == 0)
            strcat(reasoning, text_at(event, "data.text"));
    }
    assert_string_equal(text, "yes sir");
    assert_non_null(strstr(reasoning, "hm"));
    assert_int_equal(number_at(events, "0.data.prompt_tokens"), 10);
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    assert_string_equal(text_at(last, "event"), "end");
    assert_string_equal(text_at(last, "data.stop"), "end");
    json_decref(events);
}

static void a_load_is_part_of_the_stream(void **state)
{
    (void)state;
    json_t *events = ask_events(&served, "POST", V1 "sessions/c/prompt",
                                "{\"model\": \"cold\", \"stream\": true, \"text\": \"hello\"}");
    assert_string_equal(text_at(events, "0.event"), "loading");
    json_decref(events);
    json_decref(ask_json(&served, "POST", V1 "models/cold/unload", "{\"force\": true}", 200));
}

static void prompts_are_checked(void **state)
{
    (void)state;
    ask_refused(&served, "POST", V1 "sessions/p/prompt",
                "{\"model\": \"fake\", \"text\": \"a\", \"messages\": []}", 400, "only one");
    ask_refused(&served, "POST", V1 "sessions/p/prompt",
                "{\"model\": \"fake\", \"text\": \"a\", \"temperature\": 1e9}", 400, "temperature");
    ask_refused(&served, "POST", V1 "sessions/p/prompt",
                "{\"model\": \"fake\", \"text\": \"a\", \"tools\": [1]}", 400, "tools");
    ask_refused(&served, "POST", V1 "sessions/p/prompt",
                "{\"model\": \"fake\", \"text\": \"a\", \"ttl\": {}}", 400, "ttl");
    ask_refused(
        &served, "POST", V1 "sessions/p/prompt",
        "{\"model\": \"fake\", \"stream\": true, \"text\": \"{\\\"refuse\\\": \\\"too long\\\"}\"}",
        400, "too long");
    json_t *events = ask_events(
        &served, "POST", V1 "sessions/p/prompt",
        "{\"model\": \"fake\", \"stream\": true, \"text\": \"{\\\"say\\\": \\\"a b\\\", "
        "\\\"stop\\\": \\\"error\\\", \\\"code\\\": -5, \\\"cause\\\": \\\"it broke\\\"}\"}");
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    assert_string_equal(text_at(last, "event"), "error");
    assert_non_null(strstr(text_at(last, "data.error.message"), "it broke"));
    json_decref(events);
}

static void who_leaves_a_prompt_stops_it(void **state)
{
    static const char body[] = "{\"model\": \"fake\", \"stream\": true, \"text\": "
                               "\"{\\\"say\\\": \\\"a b\\\", \\\"hold\\\": \\\"answer\\\"}\"}";
    char request[512];
    (void)state;
    int fd = dial(&served);
    snprintf(request, sizeof request,
             "POST " V1 "sessions/left/prompt HTTP/1.1\r\nHost: localhost\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             sizeof body - 1, body);
    say(fd, request);
    hear_until(fd, "event: begin");
    hang_up(&fd);
    assert_true(stat_becomes(&served, "jobs", 0, 2000));
    assert_true(stat_becomes(&served, "leases", 0, 2000));
}

/* The answer ends in order, and whoever asked has what there was of it. */
static void a_prompt_is_cancelled(void **state)
{
    static const char script[] = "{\"model\": \"fake\", \"stream\": true, \"text\": "
                                 "\"{\\\"say\\\": \\\"a b\\\", \\\"hold\\\": \\\"%s\\\"}\"}";
    char body[256], request[512];
    (void)state;
    json_t *none = ask_json(&served, "POST", V1 "sessions/held/cancel", NULL, 200);
    assert_true(json_is_false(at(none, "cancelled")));
    json_decref(none);
    for (unsigned i = 0; i < 2; i++) {
        int size = snprintf(body, sizeof body, script, i == 0 ? "answer" : "queue");
        int fd = dial(&served), other = dial(&served);
        snprintf(request, sizeof request,
                 "POST " V1 "sessions/%s/prompt HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Length: %d\r\n\r\n%s",
                 "held", size, body);
        say(fd, request);
        snprintf(request, sizeof request,
                 "POST " V1 "sessions/other/prompt HTTP/1.1\r\nHost: localhost\r\n"
                 "Content-Length: %d\r\n\r\n%s",
                 size, body);
        say(other, request);
        if (i == 0)
            hear_until(fd, "b\"}");
        assert_true(stat_becomes(&served, "jobs", 2, 2000));
        json_t *cancelled = ask_json(&served, "POST", V1 "sessions/held/cancel", NULL, 200);
        assert_true(json_is_true(at(cancelled, "cancelled")));
        json_decref(cancelled);
        hear_until(fd, i == 0 ? "\"stop\":\"cancelled\"" : "\"reason\":\"cancelled\"");
        assert_true(stat_becomes(&served, "jobs", 1, 2000)); /* the other one goes on */
        hang_up(&fd);
        hang_up(&other);
        assert_true(stat_becomes(&served, "jobs", 0, 2000));
    }
    assert_true(stat_becomes(&served, "leases", 0, 2000));
}

/* What programs tell errors apart by. */
static void errors_have_reasons(void **state)
{
    static const struct {
        const char *path, *body;
        int status;
        const char *reason, *param;
    } cases[] = {
        {V1 "models/nobody/load", "{}", 404, "missing", "model"},
        {V1 "sessions/nothing/truncate", "{\"count\": 1}", 404, "missing", NULL},
        {V1 "sessions/r/prompt", "{\"model\": \"nobody\", \"text\": \"a\"}", 404, "missing",
         "model"},
        {V1 "sessions/r/prompt", "{\"text\": \"a\", \"temperature\": -1}", 400, "argument",
         "temperature"},
        {V1 "sessions/r/prompt", "{\"text\": \"{\\\"refuse\\\": \\\"too long\\\"}\"}", 400, "limit",
         NULL},
        {V1 "sessions/r/prompt", "{\"text\": \"{\\\"stop\\\": \\\"error\\\", \\\"code\\\": -12}\"}",
         500, "crashed", NULL},
        {V1 "sessions/r/prompt", "{\"text\": \"{\\\"stop\\\": \\\"error\\\", \\\"code\\\": -13}\"}",
         500, "changed", NULL},
        {V1 "sessions/r/prompt", "{\"text\": \"{\\\"stop\\\": \\\"error\\\", \\\"code\\\": -2}\"}",
         507, "memory", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *json = ask_json(&served, "POST", cases[i].path, cases[i].body, cases[i].status);
        assert_string_equal(text_at(json, "error.reason"), cases[i].reason);
        if (cases[i].param)
            assert_string_equal(text_at(json, "error.param"), cases[i].param);
        else
            assert_true(json_is_null(at(json, "error.param")));
        json_decref(json);
    }
}

/* Each allocation of each kind of request fails once: whatever is answered, nothing is held and
 * nothing breaks. */
static void without_memory_nothing_breaks(void **state)
{
    static const struct {
        const char *method, *path, *body;
    } requests[] = {
        {"GET", V1 "status", ""},
        {"GET", V1 "sessions?memory=true", ""},
        {"GET", V1 "models/fake", ""},
        {"POST", V1 "models/fake/load", "{\"stream\": true}"},
        {"POST", V1 "models/fake/estimate", ""},
        {"POST", V1 "tokens", "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\"}]}"},
        {"POST", V1 "sessions/m/append", "{\"model\": \"fake\", \"text\": \"a\"}"},
        {"POST", V1 "sessions/m/edit", "{\"index\": 0, \"text\": \"a\"}"},
        {"POST", V1 "sessions/m/fork", "{\"to\": \"n\"}"},
        {"POST", V1 "sessions/m/prompt", "{\"text\": \"a\", \"stream\": true}"},
        {"POST", V1 "sessions/m/cancel", ""},
        {"POST", "/completion", "{\"prompt\": \"a\", \"n_probs\": 1, \"stream\": true}"},
        {"POST", "/apply-template", "{\"messages\": [{\"role\": \"user\"}]}"},
        {"GET", "/metrics", ""},
        {"GET", "/openapi.json", ""},
    };
    char request[1024];
    (void)state;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        for (int n = 1; n <= 40; n++) {
            int fd = dial(&served);
            snprintf(request, sizeof request,
                     "POST /fail?n=%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                     "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Length: %zu\r\n\r\n%s",
                     n, requests[i].method, requests[i].path, strlen(requests[i].body),
                     requests[i].body);
            say(fd, request);
            if (!ends_within(fd, 5000))
                fail_msg("%s does not end without allocation %d", requests[i].path, n);
            hang_up(&fd);
        }
    }
    int fd = dial(&served);
    expect_status(fd, "POST /fail?n=0 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                  204);
    hang_up(&fd);
    assert_true(stat_becomes(&served, "jobs", 0, 2000));
    assert_true(stat_becomes(&served, "leases", 0, 2000));
    assert_true(stat_becomes(&served, "waits", 0, 2000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_daemon_says_what_it_is),
        cmocka_unit_test(tokens_are_counted),
        cmocka_unit_test(events_are_followed),
        cmocka_unit_test(models_are_told),
        cmocka_unit_test(files_are_named_by_who_may),
        cmocka_unit_test(models_are_estimated),
        cmocka_unit_test(models_are_loaded),
        cmocka_unit_test(who_leaves_a_load_stops_waiting),
        cmocka_unit_test(models_are_unloaded),
        cmocka_unit_test(the_store_answers_alone),
        cmocka_unit_test(lists_can_have_what_is_in_memory),
        cmocka_unit_test(what_is_not_there_loads_nothing),
        cmocka_unit_test(conversations_are_changed_by_workers),
        cmocka_unit_test(a_message_is_edited),
        cmocka_unit_test(operations_are_checked),
        cmocka_unit_test(a_prompt_is_answered_whole),
        cmocka_unit_test(a_prompt_is_streamed),
        cmocka_unit_test(a_load_is_part_of_the_stream),
        cmocka_unit_test(prompts_are_checked),
        cmocka_unit_test(who_leaves_a_prompt_stops_it),
        cmocka_unit_test(a_prompt_is_cancelled),
        cmocka_unit_test(errors_have_reasons),
        cmocka_unit_test(without_memory_nothing_breaks),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
