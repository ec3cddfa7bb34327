/* llama-server's paths, over models that compute nothing: the shapes that its clients read. */
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

static void it_is_healthy(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        json_t *health = ask_json(&served, "GET", i ? "/v1/health" : "/health", NULL, 200);
        assert_string_equal(text_at(health, "status"), "ok");
        json_decref(health);
    }
}

static void a_model_has_properties(void **state)
{
    (void)state;
    json_t *props = ask_json(&served, "GET", "/props?model=fake", NULL, 200);
    assert_int_equal(number_at(props, "total_slots"), 8);
    assert_string_equal(text_at(props, "model_alias"), "fake");
    assert_true(json_is_string(at(props, "chat_template")));
    assert_true(json_is_number(at(props, "default_generation_settings.params.temperature")));
    assert_true(json_is_false(at(props, "is_sleeping")));
    assert_true(json_is_false(at(props, "modalities.vision")));
    json_decref(props);
    props = ask_json(&served, "GET", "/props?a=b&model=c%6fld", NULL, 200);
    assert_string_equal(text_at(props, "model_alias"), "cold");
    assert_true(json_is_true(at(props, "is_sleeping")));
    json_decref(props);
    ask_refused(&served, "GET", "/props?model=nobody", NULL, 404, "not known");
    json_decref(ask_json(&served, "GET", "/props?model=%zz", NULL, 200));
}

static void slots_are_shown(void **state)
{
    (void)state;
    json_t *slots = ask_json(&served, "GET", "/slots?model=fake", NULL, 200);
    assert_int_equal(json_array_size(slots), 8);
    assert_int_equal(number_at(slots, "7.id"), 7);
    assert_true(json_is_boolean(at(slots, "0.is_processing")));
    json_decref(slots);
    slots = ask_json(&served, "GET", "/slots?model=cold", NULL, 200);
    assert_int_equal(json_array_size(slots), 0);
    json_decref(slots);
    ask_refused(&served, "GET", "/slots?model=cold&fail_on_no_slot=1", NULL, 503, "no slot");
}

static void metrics_are_text(void **state)
{
    struct answer answer;
    (void)state;
    ask_raw(&served, "GET", "/metrics", NULL, 200, &answer);
    assert_non_null(
        strstr(answer.head, "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(answer.body, "# TYPE hearth_first_token_seconds histogram\n"));
    assert_non_null(strstr(answer.body, "\nhearth_memory_bytes{kind=\"limit\"} "));
    assert_non_null(strstr(answer.body, "\nhearth_connections 1\n"));
    answer_free(&answer);
}

static void texts_and_tokens(void **state)
{
    (void)state;
    json_t *reply =
        ask_json(&served, "POST", "/tokenize", "{\"model\": \"fake\", \"content\": \"hé\"}", 200);
    assert_int_equal(json_array_size(at(reply, "tokens")), 3);
    json_decref(reply);
    reply = ask_json(&served, "POST", "/detokenize",
                     "{\"model\": \"fake\", \"tokens\": [104, 195, 169]}", 200);
    assert_string_equal(text_at(reply, "content"), "hé");
    json_decref(reply);
    ask_refused(&served, "POST", "/detokenize", "{\"model\": \"fake\", \"tokens\": [1, -1]}", 400,
                "tokens");
    ask_refused(&served, "POST", "/detokenize", "{\"model\": \"fake\", \"tokens\": [1, \"a\"]}",
                400, "tokens");
    ask_refused(&served, "POST", "/tokenize", "{\"model\": \"fake\"}", 400, "content is missing");
    ask_refused(&served, "POST", "/tokenize", "{\"model\": \"nobody\", \"content\": \"\"}", 404,
                "nobody");
    ask_refused(&served, "POST", "/tokenize", "", 400, "empty");
}

static void templates_are_applied(void **state)
{
    (void)state;
    json_t *last;
    struct answer answer;
    /* the fake replies what it was called with, which has no prompt */
    ask_raw(&served, "POST", "/apply-template",
            "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}],"
            " \"chat_template_kwargs\": {\"a\": 1}}",
            200, &answer);
    last = json_loadb(answer.body, answer.body_size, 0, NULL);
    assert_non_null(last);
    json_decref(last);
    answer_free(&answer);
    ask_refused(&served, "POST", "/apply-template", "{\"model\": \"fake\", \"messages\": []}", 400,
                "messages");
    ask_refused(&served, "POST", "/apply-template",
                "{\"model\": \"fake\", \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}],"
                " \"tools\": [{}]}",
                400, "tools is not supported");
}

#define SCRIPT "{\\\"say\\\": [\\\"Hello\\\", \\\" wor\\\", \\\"ld\\\"], \\\"cached\\\": 4}"

static void a_completion_is_whole(void **state)
{
    (void)state;
    json_t *reply = ask_json(&served, "POST", "/completion",
                             "{\"model\": \"fake\", \"prompt\": \"" SCRIPT "\", \"n_probs\": 2,"
                             " \"return_tokens\": true, \"stop\": [\"x\", \"y\"], \"top_k\": 3}",
                             200);
    assert_string_equal(text_at(reply, "content"), "Hello world");
    assert_int_equal(json_array_size(at(reply, "tokens")), 3);
    assert_true(json_is_true(at(reply, "stop")));
    assert_string_equal(text_at(reply, "stop_type"), "eos");
    assert_string_equal(text_at(reply, "model"), "fake");
    assert_int_equal(number_at(reply, "tokens_predicted"), 3);
    assert_int_equal(number_at(reply, "tokens_evaluated"), 10);
    assert_int_equal(number_at(reply, "tokens_cached"), 4);
    assert_int_equal(number_at(reply, "timings.predicted_n"), 3);
    assert_int_equal(number_at(reply, "generation_settings.top_k"), 3);
    assert_int_equal(json_array_size(at(reply, "completion_probabilities")), 3);
    assert_string_equal(text_at(reply, "completion_probabilities.0.token"), "Hello");
    assert_int_equal(number_at(reply, "completion_probabilities.0.bytes.1"), 'e');
    assert_int_equal(json_array_size(at(reply, "completion_probabilities.2.top_logprobs")), 2);
    json_decref(reply);
    reply = ask_json(&served, "GET", "/last-ask?fake", NULL, 200);
    assert_true(json_is_true(at(reply, "plain")));
    json_decref(reply);
}

static void an_answer_that_is_cut_says_so(void **state)
{
    (void)state;
    json_t *reply =
        ask_json(&served, "POST", "/completions",
                 "{\"model\": \"fake\", \"prompt\": \"" SCRIPT "\", \"n_predict\": 1}", 200);
    assert_string_equal(text_at(reply, "content"), "Hello");
    assert_string_equal(text_at(reply, "stop_type"), "limit");
    assert_int_equal(json_array_size(at(reply, "tokens")), 0);
    json_decref(reply);
}

static void a_completion_streams(void **state)
{
    char text[64] = "";
    (void)state;
    json_t *events =
        ask_events(&served, "POST", "/completion",
                   "{\"model\": \"fake\", \"stream\": true, \"prompt\": \"{"
                   "\\\"say\\\": \\\"a b c\\\", \\\"token_ms\\\": 30, \\\"reads\\\": 2}"
                   "\", \"return_progress\": true}");
    size_t count = json_array_size(events), progress = 0;
    assert_true(count >= 4);
    for (size_t i = 0; i < count; i++) {
        const json_t *data = at(json_array_get(events, i), "data");
        assert_string_equal(text_at(json_array_get(events, i), "event"), "");
        strcat(text, text_at(data, "content"));
        assert_int_equal(json_is_true(at(data, "stop")), i + 1 == count);
        progress += json_object_get(data, "prompt_progress") != NULL;
    }
    assert_string_equal(text, "a b c");
    assert_int_equal(progress, 2);
    const json_t *last = at(json_array_get(events, count - 1), "data");
    assert_string_equal(text_at(last, "stop_type"), "eos");
    assert_true(json_is_object(at(last, "timings")));
    json_decref(events);
}

static void errors_come_before_or_in_the_stream(void **state)
{
    (void)state;
    ask_refused(&served, "POST", "/completion",
                "{\"model\": \"fake\", \"stream\": true, \"prompt\": \"{\\\"refuse\\\": "
                "\\\"too long\\\"}\"}",
                400, "too long");
    json_t *events = ask_events(
        &served, "POST", "/completion",
        "{\"model\": \"fake\", \"stream\": true, \"prompt\": \"{\\\"say\\\": \\\"a b\\\","
        "\\\"token_ms\\\": 30, \\\"stop\\\": \\\"error\\\", \\\"code\\\": -5, "
        "\\\"cause\\\": \\\"it broke\\\"}\"}");
    const json_t *last = json_array_get(events, json_array_size(events) - 1);
    assert_non_null(strstr(text_at(last, "data.error.message"), "it broke"));
    json_decref(events);
    ask_refused(&served, "POST", "/completion", "{\"model\": \"fake\"}", 400, "prompt is missing");
    ask_refused(&served, "POST", "/completion",
                "{\"model\": \"fake\", \"prompt\": \"a\", \"n_predict\": 0}", 400, "n_predict");
    ask_refused(&served, "POST", "/completion",
                "{\"model\": \"fake\", \"prompt\": \"a\", \"grammar\": \"root ::= x\"}", 400,
                "grammar");
    ask_refused(&served, "POST", "/completion", "{\"model\": \"broken\", \"prompt\": \"a\"}", 400,
                "");
    ask_refused(&served, "POST", "/completion",
                "{\"model\": \"fake\", \"prompt\": \"a\", \"stop\": [1]}", 400, "stop");
}

/* A client that leaves in the middle stops the work. */
static void a_client_leaves(void **state)
{
    static const char body[] = "{\"model\": \"fake\", \"stream\": true, \"prompt\": "
                               "\"{\\\"say\\\": \\\"a b\\\", \\\"hold\\\": \\\"answer\\\"}\"}";
    char request[512];
    (void)state;
    int fd = dial(&served);
    snprintf(request, sizeof request,
             "POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
             sizeof body - 1, body);
    say(fd, request);
    hear_until(fd, "data: ");
    hang_up(&fd);
    assert_true(stat_becomes(&served, "jobs", 0, 2000));
    assert_true(stat_becomes(&served, "leases", 0, 2000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_healthy),
        cmocka_unit_test(a_model_has_properties),
        cmocka_unit_test(slots_are_shown),
        cmocka_unit_test(metrics_are_text),
        cmocka_unit_test(texts_and_tokens),
        cmocka_unit_test(templates_are_applied),
        cmocka_unit_test(a_completion_is_whole),
        cmocka_unit_test(an_answer_that_is_cut_says_so),
        cmocka_unit_test(a_completion_streams),
        cmocka_unit_test(errors_come_before_or_in_the_stream),
        cmocka_unit_test(a_client_leaves),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
