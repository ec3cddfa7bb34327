/* OpenAI's API over models that compute nothing: bodies, streams, refusals, and clients that leave
 * at each moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asking.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define CHAT "/v1/chat/completions"
#define TEXTS "/v1/completions"
#define VECTORS "/v1/embeddings"

static struct served served;

/* A body that asks for what a script says (fake_backend.h), with more members. */
static char *chat_body(const char *script, const char *more)
{
    json_t *body = json_pack("{s:s, s:[{s:s, s:s}]}", "model", "fake", "messages", "role", "user",
                             "content", script);
    json_t *members = json_loads(more, 0, NULL);
    assert_non_null(body);
    assert_non_null(members);
    json_object_update(body, members);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(members);
    json_decref(body);
    return text;
}

static json_t *chat(const char *script, const char *more)
{
    char *body = chat_body(script, more);
    json_t *answer = ask_json(&served, "POST", CHAT, body, 200);
    free(body);
    return answer;
}

static json_t *chat_events(const char *script, const char *more)
{
    char *body = chat_body(script, more);
    json_t *events = ask_events(&served, "POST", CHAT, body);
    free(body);
    return events;
}

static json_t *data_of(const json_t *events, size_t i)
{
    return json_object_get(json_array_get(events, i), "data");
}

static json_t *last_ask(void)
{
    return ask_json(&served, "GET", "/last-ask?fake", NULL, 200);
}

static void idle(void)
{
    assert_true(stat_becomes(&served, "jobs", 0, 5000));
    assert_true(stat_becomes(&served, "leases", 0, 5000));
    assert_true(stat_becomes(&served, "waits", 0, 5000));
}

/* ---- chats ---- */

static void whole_answer(void **state)
{
    (void)state;
    json_t *answer =
        chat("{\"say\":[\"Hel\",\"lo \",\"w\\u00f6rld\"],\"prompt\":12,\"cached\":5}", "{}");
    assert_memory_equal(text_at(answer, "id"), "chatcmpl-", 9);
    assert_int_equal(strlen(text_at(answer, "id")), 33);
    assert_string_equal(text_at(answer, "object"), "chat.completion");
    assert_string_equal(text_at(answer, "model"), "fake");
    assert_true(number_at(answer, "created") > 1700000000);
    assert_int_equal(json_array_size(at(answer, "choices")), 1);
    assert_string_equal(text_at(answer, "choices.0.message.role"), "assistant");
    assert_string_equal(text_at(answer, "choices.0.message.content"), "Hello w\xc3\xb6rld");
    assert_string_equal(text_at(answer, "choices.0.finish_reason"), "stop");
    assert_true(json_is_null(at(answer, "choices.0.logprobs")));
    assert_null(json_object_get(at(answer, "choices.0.message"), "reasoning_content"));
    assert_int_equal(number_at(answer, "usage.prompt_tokens"), 12);
    assert_int_equal(number_at(answer, "usage.completion_tokens"), 3);
    assert_int_equal(number_at(answer, "usage.total_tokens"), 15);
    assert_int_equal(number_at(answer, "usage.prompt_tokens_details.cached_tokens"), 5);
    assert_int_equal(number_at(answer, "timings.cache_n"), 5);
    assert_int_equal(number_at(answer, "timings.prompt_n"), 7);
    assert_int_equal(number_at(answer, "timings.predicted_n"), 3);
    assert_string_equal(text_at(answer, "timings.cache_miss"), "new");
    json_decref(answer);
}

static void finish_reasons(void **state)
{
    static const struct {
        const char *script, *more, *reason;
    } cases[] = {
        {"{}", "{}", "stop"},
        {"{\"stop\":\"string\"}", "{}", "stop"},
        {"{\"stop\":\"length\"}", "{}", "length"},
        {"{\"stop\":\"context\"}", "{}", "length"},
        {"{\"say\":\"a b c\"}", "{\"max_tokens\":2}", "length"},
        {"{\"say\":\"a b c\"}", "{\"max_tokens\":9,\"max_completion_tokens\":2}", "length"},
        {"{\"say\":\"a b c\"}", "{\"max_tokens\":-1}", "stop"},
        {"{\"stop\":\"error\",\"code\":-6,\"cause\":\"full\"}", "{}", "length"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        json_t *answer = chat(cases[i].script, cases[i].more);
        assert_string_equal(text_at(answer, "choices.0.finish_reason"), cases[i].reason);
        json_decref(answer);
    }
}

static void reasoning_is_split(void **state)
{
    (void)state;
    json_t *answer = chat("{\"say\":[\"<th\",\"ink>\\nwhy\\n</thi\",\"nk>\\n\\nso\"]}", "{}");
    assert_string_equal(text_at(answer, "choices.0.message.content"), "so");
    assert_string_equal(text_at(answer, "choices.0.message.reasoning_content"), "why");
    assert_string_equal(text_at(answer, "choices.0.message.reasoning"), "why");
    assert_int_equal(number_at(answer, "usage.completion_tokens_details.reasoning_tokens"), 2);
    json_decref(answer);

    answer = chat("{\"say\":[\"why\",\"</think>so\"],\"opens_reasoning\":true}", "{}");
    assert_string_equal(text_at(answer, "choices.0.message.content"), "so");
    assert_string_equal(text_at(answer, "choices.0.message.reasoning_content"), "why");
    json_decref(answer);

    answer = chat("{\"say\":[\"<think>why</think>so\"]}", "{\"reasoning_format\":\"none\"}");
    assert_string_equal(text_at(answer, "choices.0.message.content"), "<think>why</think>so");
    json_decref(answer);
}

static void several_choices(void **state)
{
    (void)state;
    json_t *answer = chat("{\"say\":\"a b\",\"prompt\":12}", "{\"n\":3,\"seed\":7}");
    json_t *ask = last_ask();
    assert_int_equal(json_array_size(at(answer, "choices")), 3);
    assert_int_equal(number_at(answer, "choices.2.index"), 2);
    assert_string_equal(text_at(answer, "choices.2.message.content"), "a b");
    assert_int_equal(number_at(answer, "usage.prompt_tokens"), 12);
    assert_int_equal(number_at(answer, "usage.completion_tokens"), 6);
    assert_int_equal(number_at(ask, "seed"), 9);
    json_decref(ask);
    json_decref(answer);
}

static void probabilities(void **state)
{
    (void)state;
    json_t *answer =
        chat("{\"say\":[\"a\",\"\\u00e9\"]}", "{\"logprobs\":true,\"top_logprobs\":2}");
    json_t *content = at(answer, "choices.0.logprobs.content");
    assert_int_equal(json_array_size(content), 2);
    assert_string_equal(text_at(content, "1.token"), "\xc3\xa9");
    assert_true(json_real_value(at(content, "1.logprob")) == -0.25);
    assert_int_equal(number_at(content, "1.bytes.0"), 0xc3);
    assert_int_equal(number_at(content, "1.bytes.1"), 0xa9);
    assert_int_equal(json_array_size(at(content, "1.top_logprobs")), 2);
    assert_string_equal(text_at(content, "1.top_logprobs.0.token"), "\xc3\xa9");
    assert_string_equal(text_at(content, "1.top_logprobs.1.token"), "other");
    json_decref(answer);
}

static void what_is_asked(void **state)
{
    static const char body[] =
        "{\"model\":\"FAKE:latest\",\"messages\":["
        "{\"role\":\"developer\",\"content\":\"be brief\"},"
        "{\"role\":\"user\",\"name\":\"Ada\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"text\",\"text\":\"b\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]},"
        "{\"role\":\"user\",\"content\":\"c\"}],"
        "\"temperature\":0.5,\"top_k\":7,\"top_p\":0.25,\"seed\":42,\"max_tokens\":5,"
        "\"stop\":[\"x\",\"y\"],\"ignore_eos\":true,\"logit_bias\":{\"15\":-100,\"16\":false},"
        "\"chat_template_kwargs\":{\"enable_thinking\":false},\"tool_choice\":\"auto\","
        "\"response_format\":{\"type\":\"text\"},\"modalities\":[\"text\"],\"user\":\"u\","
        "\"cache_prompt\":true,\"num_gpu\":1,\"background\":true,\"ttl\":\"10m\"}";
    (void)state;
    json_decref(ask_json(&served, "POST", "/chat/completions", body, 200));
    json_t *ask = last_ask();
    assert_string_equal(text_at(ask, "messages.0.role"), "system");
    assert_string_equal(text_at(ask, "messages.1.content"), "a\nb");
    assert_string_equal(text_at(ask, "messages.1.name"), "Ada");
    assert_string_equal(text_at(ask, "messages.2.content"), "");
    assert_null(json_object_get(at(ask, "messages.2"), "tool_calls"));
    assert_true(json_real_value(at(ask, "temperature")) == 0.5);
    assert_true(json_real_value(at(ask, "top_p")) == 0.25);
    assert_int_equal(number_at(ask, "top_k"), 7);
    assert_int_equal(number_at(ask, "seed"), 42);
    assert_int_equal(number_at(ask, "max_tokens"), 5);
    assert_int_equal(number_at(ask, "bias_count"), 2);
    assert_string_equal(text_at(ask, "stop.1"), "y");
    assert_true(json_is_true(at(ask, "ignore_end")));
    assert_true(json_is_true(at(ask, "background")));
    assert_true(json_is_false(at(ask, "variables.enable_thinking")));
    json_decref(ask);
}

static void sessions(void **state)
{
    (void)state;
    json_t *answer = chat("{}", "{\"session\":\"diary\"}");
    json_t *ask = last_ask();
    assert_string_equal(text_at(answer, "session"), "diary");
    assert_string_equal(text_at(ask, "session"), "diary");
    assert_int_equal(number_at(ask, "how"), 1);
    json_decref(ask);
    json_decref(answer);
    unsigned long calls = stat_of(&served, "calls");
    /* another model: the first one lets go of it, once */
    json_decref(chat("{}", "{\"session\":\"diary\",\"model\":\"cold\"}"));
    assert_int_equal(stat_of(&served, "calls"), calls + 1);
    json_decref(chat("{}", "{\"session\":\"diary\",\"model\":\"cold\"}"));
    assert_int_equal(stat_of(&served, "calls"), calls + 1);
    idle();
}

/* What another model answers in is not taken from it. */
static void sessions_that_are_in_use(void **state)
{
    (void)state;
    json_decref(chat("{}", "{\"session\":\"busy\"}"));
    char *body = chat_body("{}", "{\"session\":\"busy\",\"model\":\"cold\"}");
    ask_refused(&served, "POST", CHAT, body, 409, "in use by another model");
    free(body);
    json_decref(chat("{}", "{\"session\":\"busy\"}")); /* and stays where it was */
    assert_true(stat_becomes(&served, "jobs", 0, 1000));
    idle();
}

/* ---- streams ---- */

static void streamed(void **state)
{
    (void)state;
    json_t *events = chat_events("{\"say\":[\"<think>why</think>\",\"a\",\" b\"],\"token_ms\":30}",
                                 "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    size_t count = json_array_size(events);
    assert_int_equal(count, 7);
    assert_string_equal(text_at(data_of(events, 0), "object"), "chat.completion.chunk");
    assert_string_equal(text_at(data_of(events, 0), "choices.0.delta.role"), "assistant");
    assert_string_equal(text_at(data_of(events, 1), "choices.0.delta.reasoning_content"), "why");
    assert_string_equal(text_at(data_of(events, 1), "choices.0.delta.reasoning"), "why");
    assert_string_equal(text_at(data_of(events, 2), "choices.0.delta.content"), "a");
    assert_string_equal(text_at(data_of(events, 3), "choices.0.delta.content"), " b");
    assert_true(json_is_null(at(data_of(events, 3), "choices.0.finish_reason")));
    assert_true(json_is_null(at(data_of(events, 3), "usage")));
    assert_int_equal(json_object_size(at(data_of(events, 4), "choices.0.delta")), 0);
    assert_string_equal(text_at(data_of(events, 4), "choices.0.finish_reason"), "stop");
    assert_int_equal(json_array_size(at(data_of(events, 5), "choices")), 0);
    assert_int_equal(number_at(data_of(events, 5), "usage.completion_tokens"), 3);
    assert_int_equal(number_at(data_of(events, 5), "timings.predicted_n"), 3);
    assert_string_equal(json_string_value(data_of(events, 6)), "[DONE]");
    for (size_t i = 1; i < 6; i++)
        assert_string_equal(text_at(data_of(events, i), "id"), text_at(data_of(events, 0), "id"));
    json_decref(events);
}

/* Tokens that come at once are told together: far fewer events than tokens. */
static void fast_tokens_are_told_together(void **state)
{
    char script[8192] = "{\"say\":\"", expected[8192] = "", got[8192] = "";
    (void)state;
    for (int i = 0; i < 1000; i++)
        strcat(expected, i ? " x" : "x");
    strcat(script, expected);
    strcat(script, "\"}");
    json_t *events = chat_events(script, "{\"stream\":true}");
    size_t count = json_array_size(events);
    for (size_t i = 1; i + 2 < count; i++)
        strcat(got, text_at(data_of(events, i), "choices.0.delta.content"));
    assert_string_equal(got, expected);
    assert_true(count < 500);
    assert_int_equal(number_at(data_of(events, count - 2), "timings.predicted_n"), 1000);
    json_decref(events);
}

static void several_streamed_choices(void **state)
{
    size_t roles[2] = {0}, ends[2] = {0};
    char texts[2][64] = {"", ""};
    (void)state;
    json_t *events =
        chat_events("{\"say\":\"a b c\",\"token_ms\":20}", "{\"stream\":true,\"n\":2}");
    for (size_t i = 0; i + 1 < json_array_size(events); i++) {
        json_t *choice = at(data_of(events, i), "choices.0");
        json_int_t index = number_at(choice, "index");
        assert_true(index == 0 || index == 1);
        const char *text = json_string_value(json_object_get(at(choice, "delta"), "content"));
        roles[index] += json_object_get(at(choice, "delta"), "role") != NULL;
        ends[index] += !json_is_null(at(choice, "finish_reason"));
        if (text)
            strcat(texts[index], text);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(roles[i], 1);
        assert_int_equal(ends[i], 1);
        assert_string_equal(texts[i], "a b c");
    }
    json_decref(events);
}

static void streamed_probabilities(void **state)
{
    size_t tokens = 0;
    (void)state;
    json_t *events = chat_events("{\"say\":\"a b c\",\"token_ms\":20}",
                                 "{\"stream\":true,\"logprobs\":true,\"top_logprobs\":1}");
    for (size_t i = 0; i + 1 < json_array_size(events); i++) {
        const json_t *logprobs = at(data_of(events, i), "choices.0.logprobs");
        tokens += json_array_size(json_object_get(logprobs, "content"));
    }
    assert_int_equal(tokens, 3);
    json_decref(events);
}

static void progress(void **state)
{
    size_t reports = 0;
    json_int_t processed = 0;
    (void)state;
    json_t *events = chat_events("{\"prompt\":100,\"cached\":20,\"reads\":4,\"read_ms\":5}",
                                 "{\"stream\":true,\"return_progress\":true}");
    for (size_t i = 0; i + 1 < json_array_size(events); i++) {
        const json_t *told = json_object_get(data_of(events, i), "prompt_progress");
        if (!told)
            continue;
        reports++;
        assert_int_equal(number_at(told, "total"), 100);
        assert_int_equal(number_at(told, "cache"), 20);
        assert_true(number_at(told, "processed") > processed);
        processed = number_at(told, "processed");
    }
    assert_int_equal(reports, 4);
    assert_int_equal(processed, 100);
    json_decref(events);
}

/* ---- what fails ---- */

static void fails_before_and_after_the_beginning(void **state)
{
    (void)state;
    char *body = chat_body("{\"refuse\":\"the prompt is too long\"}", "{\"stream\":true}");
    ask_refused(&served, "POST", CHAT, body, 400, "the prompt is too long");
    free(body);

    body =
        chat_body("{\"say\":[],\"stop\":\"error\",\"code\":-10,\"cause\":\"no template\"}", "{}");
    ask_refused(&served, "POST", CHAT, body, 400, "no template");
    free(body);

    body = chat_body("{\"say\":[],\"stop\":\"context\",\"code\":-6,\"cause\":\"no room\"}", "{}");
    ask_refused(&served, "POST", CHAT, body, 400, "no room");
    free(body);

    body =
        chat_body("{\"say\":\"a b\",\"stop\":\"error\",\"code\":-3,\"cause\":\"it died\"}", "{}");
    ask_refused(&served, "POST", CHAT, body, 500, "it died");
    free(body);

    body = chat_body("{\"stop\":\"cancelled\",\"code\":-8,\"cause\":\"unloaded\"}", "{}");
    ask_refused(&served, "POST", CHAT, body, 503, "unloaded");
    free(body);

    json_t *events =
        chat_events("{\"say\":\"a\",\"stop\":\"error\",\"code\":-3,\"cause\":\"it died\"}",
                    "{\"stream\":true}");
    size_t count = json_array_size(events);
    assert_string_equal(text_at(data_of(events, count - 1), "error.message"), "it died");
    assert_string_equal(text_at(data_of(events, count - 1), "error.type"), "server_error");
    assert_int_equal(number_at(data_of(events, count - 1), "error.code"), 500);
    assert_true(json_is_null(at(data_of(events, count - 1), "error.param")));
    assert_string_equal(text_at(data_of(events, count - 2), "choices.0.delta.content"), "a");
    json_decref(events);
    idle();
}

static void a_worker_that_dies(void **state)
{
    char bytes[4096];
    (void)state;
    char *body = chat_body("{\"say\":\"a\",\"hold\":\"answer\"}", "{\"stream\":true}");
    int fd = dial(&served);
    char head[256];
    snprintf(head, sizeof head,
             "POST " CHAT " HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n",
             strlen(body));
    say(fd, head);
    say(fd, body);
    size_t size = 0;
    while (size == 0 || !strstr(bytes, "\"content\":\"a\""))
        size += hear_for(fd, 20, bytes + size, sizeof bytes - size);
    struct answer answer;
    ask_raw(&served, "POST", "/break?fake", NULL, 204, &answer);
    answer_free(&answer);
    hear_for(fd, 100, bytes, sizeof bytes);
    assert_non_null(strstr(bytes, "\"message\":\"the worker died\""));
    expect_status(fd, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 200);
    hang_up(&fd);
    free(body);
    idle();
}

static void loading(void **state)
{
    (void)state;
    char *body = chat_body("{}", "{\"model\":\"broken\"}");
    ask_refused(&served, "POST", CHAT, body, 400, "the file is damaged");
    free(body);
    body = chat_body("{}", "{\"model\":\"absent\"}");
    json_t *answer = ask_json(&served, "POST", CHAT, body, 404);
    assert_string_equal(text_at(answer, "error.param"), "model");
    assert_string_equal(text_at(answer, "error.type"), "not_found_error");
    assert_int_equal(number_at(answer, "error.code"), 404);
    json_decref(answer);
    free(body);
}

/* Members of a body that make it refused, and the parameter that is named. */
static void refused(void **state)
{
    static const struct {
        const char *member, *param, *words;
    } cases[] = {
        {"{\"model\":7}", "model", "must be the name of a model"},
        {"{\"messages\":[]}", "messages", "1 to"},
        {"{\"messages\":{}}", "messages", "must be an array"},
        {"{\"messages\":null}", "messages", "messages is missing"},
        {"{\"messages\":[1]}", "messages[0]", "must be an object"},
        {"{\"messages\":[{\"content\":\"a\"}]}", "messages[0].role", "must be a text"},
        {"{\"messages\":[{\"role\":\"wizard\",\"content\":\"a\"}]}", "messages[0].role",
         "\"wizard\" is not supported"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":\"a\"}]}", "messages[0].role",
         "\"tool\" is not supported"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content", "must be a text"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0].content",
         "must be a text"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
         "messages[0].content[0]", "\"image_url\" are not supported"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}",
         "messages[0].content[0]", "must be a text"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}", "messages[0].content[0]",
         "must be an object"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[{}]}]}",
         "messages[0].tool_calls", "not supported"},
        {"{\"temperature\":-0.1}", "temperature", "from 0 to 100"},
        {"{\"temperature\":\"1\"}", "temperature", "is a text"},
        {"{\"top_p\":1.01}", "top_p", "from 0 to 1"},
        {"{\"min_p\":-1}", "min_p", "from 0 to 1"},
        {"{\"top_k\":-2}", "top_k", "from -1"},
        {"{\"top_k\":2147483648}", "top_k", "to 2147483647"},
        {"{\"top_k\":1.5}", "top_k", "a whole number"},
        {"{\"repeat_penalty\":0}", "repeat_penalty", "from 0.001"},
        {"{\"mirostat\":1}", "mirostat", "must be 0 or 2"},
        {"{\"seed\":1e30}", "seed", "a whole number"},
        {"{\"n\":0}", "n", "from 1 to 64"},
        {"{\"n\":65}", "n", "from 1 to 64"},
        {"{\"n\":2,\"session\":\"a\"}", "n", "must be 1"},
        {"{\"session\":\"\"}", "session", "1 to 256 bytes"},
        {"{\"max_tokens\":0}", "max_tokens", "at least 1"},
        {"{\"max_tokens\":-2}", "max_tokens", "from -1"},
        {"{\"max_completion_tokens\":0}", "max_completion_tokens", "at least 1"},
        {"{\"stop\":\"\"}", "stop", "1 to 1024 bytes"},
        {"{\"stop\":[\"a\",1]}", "stop", "at most 64 texts"},
        {"{\"stop\":{}}", "stop", "at most 64 texts"},
        {"{\"stream\":1}", "stream", "true or false"},
        {"{\"stream_options\":{\"include_usage\":1}}", "stream_options.include_usage",
         "true or false"},
        {"{\"logprobs\":1}", "logprobs", "true or false"},
        {"{\"top_logprobs\":1}", "top_logprobs", "needs logprobs"},
        {"{\"logprobs\":true,\"top_logprobs\":21}", "top_logprobs", "from 0 to 20"},
        {"{\"logit_bias\":[]}", "", ""},
        {"{\"logit_bias\":{\"a\":1}}", "logit_bias", "token id"},
        {"{\"logit_bias\":{\"-1\":1}}", "logit_bias", "token id"},
        {"{\"logit_bias\":{\"4294967295\":1}}", "logit_bias", "token id"},
        {"{\"logit_bias\":{\"99999999999999999999\":1}}", "logit_bias", "token id"},
        {"{\"logit_bias\":{\"1\":true}}", "logit_bias", "token id"},
        {"{\"logit_bias\":[[1]]}", "logit_bias", "token id"},
        {"{\"logit_bias\":7}", "logit_bias", "token id"},
        {"{\"dry_sequence_breakers\":[\"\"]}", "dry_sequence_breakers", "1 to 40 bytes"},
        {"{\"ttl\":\"soon\"}", "ttl", "seconds"},
        {"{\"tools\":[{\"type\":\"function\"}]}", "tools", "not supported"},
        {"{\"functions\":[{}]}", "functions", "not supported"},
        {"{\"tool_choice\":\"required\"}", "tool_choice", "not supported"},
        {"{\"tool_choice\":{\"type\":\"function\"}}", "tool_choice", "not supported"},
        {"{\"response_format\":{\"type\":\"json_object\"}}", "response_format",
         "\"json_object\" is not supported"},
        {"{\"response_format\":{\"type\":\"json_schema\"}}", "response_format", "not supported"},
        {"{\"modalities\":[\"text\",\"audio\"]}", "modalities", "not supported"},
        {"{\"audio\":{\"voice\":\"x\"}}", "audio", "not supported"},
        {"{\"grammar\":\"root ::= 'a'\"}", "grammar", "not supported"},
        {"{\"chat_template_kwargs\":[]}", "chat_template_kwargs", "must be an object"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char *body = chat_body("{}", cases[i].member);
        json_t *answer = ask_json(&served, "POST", CHAT, body, cases[i].words[0] ? 400 : 200);
        if (cases[i].words[0]) {
            if (strcmp(text_at(answer, "error.param"), cases[i].param) != 0 ||
                !strstr(text_at(answer, "error.message"), cases[i].words))
                fail_msg("%s: param %s, %s", cases[i].member, text_at(answer, "error.param"),
                         text_at(answer, "error.message"));
            assert_string_equal(text_at(answer, "error.type"), "invalid_request_error");
        }
        json_decref(answer);
        free(body);
    }
    ask_refused(&served, "POST", CHAT, "{", 400, "not valid JSON");
    ask_refused(&served, "POST", CHAT, "[]", 400, "a JSON object is expected");
    ask_refused(&served, "POST", CHAT, "", 400, "the body is empty");
    idle();
}

/* ---- completions ---- */

static void completions(void **state)
{
    (void)state;
    json_t *answer = ask_json(&served, "POST", TEXTS,
                              "{\"model\":\"fake\",\"prompt\":\"once\",\"logprobs\":1}", 200);
    json_t *ask = last_ask();
    assert_string_equal(text_at(answer, "object"), "text_completion");
    assert_memory_equal(text_at(answer, "id"), "cmpl-", 5);
    assert_string_equal(text_at(answer, "choices.0.text"), "You said: once");
    assert_string_equal(text_at(answer, "choices.0.logprobs.tokens.1"), " said:");
    assert_int_equal(number_at(answer, "choices.0.logprobs.text_offset.1"), 3);
    assert_true(json_real_value(at(answer, "choices.0.logprobs.token_logprobs.1")) == -0.25);
    assert_int_equal(json_object_size(at(answer, "choices.0.logprobs.top_logprobs.1")), 1);
    assert_true(json_is_true(at(ask, "plain")));
    json_decref(ask);
    json_decref(answer);

    answer = ask_json(&served, "POST", TEXTS,
                      "{\"model\":\"fake\",\"prompt\":[\"a\",\"b\"],\"n\":2,\"seed\":5}", 200);
    assert_int_equal(json_array_size(at(answer, "choices")), 4);
    assert_string_equal(text_at(answer, "choices.1.text"), "You said: a");
    assert_string_equal(text_at(answer, "choices.2.text"), "You said: b");
    assert_int_equal(number_at(answer, "usage.prompt_tokens"), 20);
    json_decref(answer);

    json_t *events =
        ask_events(&served, "POST", TEXTS, "{\"model\":\"fake\",\"prompt\":\"x\",\"stream\":true}");
    size_t count = json_array_size(events);
    assert_string_equal(text_at(data_of(events, 0), "object"), "text_completion");
    assert_string_equal(text_at(data_of(events, count - 2), "choices.0.finish_reason"), "stop");
    assert_string_equal(text_at(data_of(events, count - 2), "choices.0.text"), "");
    json_decref(events);

    ask_refused(&served, "POST", TEXTS, "{\"prompt\":[1,2]}", 400, "token ids");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":[[1,2]]}", 400, "token ids");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":[]}", 400, "1 to 64");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":7}", 400, "1 to 64");
    ask_refused(&served, "POST", TEXTS, "{}", 400, "prompt is missing");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":[\"a\",\"b\"],\"n\":33}", 400, "more than 64");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":\"a\",\"echo\":true}", 400, "echo");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":\"a\",\"suffix\":\"b\"}", 400, "suffix");
    ask_refused(&served, "POST", TEXTS, "{\"prompt\":\"a\",\"best_of\":2}", 400, "best_of");
    idle();
}

/* ---- models and embeddings ---- */

static void models(void **state)
{
    (void)state;
    json_t *list = ask_json(&served, "GET", "/v1/models", NULL, 200);
    assert_string_equal(text_at(list, "object"), "list");
    assert_int_equal(json_array_size(at(list, "data")), 4);
    assert_string_equal(text_at(list, "data.0.id"), "fake");
    assert_string_equal(text_at(list, "data.0.object"), "model");
    assert_int_equal(number_at(list, "data.0.created"), 1700000000);
    json_decref(list);
    json_decref(ask_json(&served, "GET", "/models", NULL, 200));
    json_t *model = ask_json(&served, "GET", "/v1/models/fake", NULL, 200);
    assert_string_equal(text_at(model, "id"), "fake");
    json_decref(model);
    ask_refused(&served, "GET", "/v1/models/absent", NULL, 404, "there is no model \"absent\"");
}

static void embeddings(void **state)
{
    (void)state;
    json_t *answer =
        ask_json(&served, "POST", VECTORS, "{\"model\":\"fake\",\"input\":[\"abc\",\"d\"]}", 200);
    assert_string_equal(text_at(answer, "object"), "list");
    assert_string_equal(text_at(answer, "data.1.object"), "embedding");
    assert_int_equal(number_at(answer, "data.1.index"), 1);
    assert_int_equal(json_array_size(at(answer, "data.1.embedding")), 4);
    assert_true(json_number_value(at(answer, "data.0.embedding.0")) == 3);
    assert_true(json_number_value(at(answer, "data.1.embedding.1")) == 1);
    assert_true(json_number_value(at(answer, "data.1.embedding.2")) == 0.25);
    assert_int_equal(number_at(answer, "usage.prompt_tokens"), 4);
    assert_int_equal(number_at(answer, "usage.total_tokens"), 4);
    json_decref(answer);

    answer = ask_json(&served, "POST", VECTORS,
                      "{\"model\":\"fake\",\"input\":\"abc\",\"encoding_format\":\"base64\"}", 200);
    /* 3, 0, 0.25, -1 */
    assert_string_equal(text_at(answer, "data.0.embedding"), "AABAQAAAAAAAAIA+AACAvw==");
    json_decref(answer);

    ask_refused(&served, "POST", VECTORS, "{\"input\":\"fail\"}", 400, "longer than the context");
    ask_refused(&served, "POST", VECTORS, "{\"input\":[]}", 400, "1 to 2048");
    ask_refused(&served, "POST", VECTORS, "{\"input\":\"\"}", 400, "none empty");
    ask_refused(&served, "POST", VECTORS, "{\"input\":[1,2]}", 400, "token ids");
    ask_refused(&served, "POST", VECTORS, "{\"input\":[[1]]}", 400, "token ids");
    ask_refused(&served, "POST", VECTORS, "{\"input\":\"a\",\"dimensions\":2}", 400, "dimensions");
    ask_refused(&served, "POST", VECTORS, "{\"input\":\"a\",\"encoding_format\":\"int8\"}", 400,
                "\"float\", \"base64\"");
    ask_refused(&served, "POST", VECTORS, "{}", 400, "input is missing");
    ask_refused(&served, "POST", VECTORS, "{\"input\":\"a\",\"model\":\"absent\"}", 404,
                "no model");
    idle();
}

/* ---- clients that leave, or do not read ---- */

static int begin(const char *path, const char *body)
{
    char head[256];
    int fd = dial(&served);
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", path,
             strlen(body));
    say(fd, head);
    say(fd, body);
    return fd;
}

/* Waits until `name` counts one more than before, leaves, and looks whether the work ends. */
static void leave(const char *path, const char *body, const char *name, unsigned long before,
                  bool rudely)
{
    int fd = begin(path, body);
    if (!stat_becomes(&served, name, before + 1, 5000))
        fail_msg("%s did not become %lu for %s", name, before + 1, body);
    if (rudely)
        hang_up_rudely(&fd);
    else
        hang_up(&fd);
    uint64_t left = now_ms();
    idle();
    assert_true(now_ms() - left < 2000);
}

static void clients_leave(void **state)
{
    static const struct {
        const char *script, *more, *name;
    } phases[] = {
        {"{}", "{\"model\":\"slow\"}", "waits"},
        {"{\"hold\":\"queue\"}", "{}", "jobs"},
        {"{\"hold\":\"prompt\"}", "{}", "jobs"},
        {"{\"reads\":1000,\"read_ms\":5}", "{\"return_progress\":true}", "jobs"},
        {"{\"say\":\"a b c\",\"hold\":\"answer\"}", "{}", "jobs"},
        {"{\"say\":\"a b c d e f g h i j k l m n o p\",\"token_ms\":40}", "{\"logprobs\":true}",
         "jobs"},
    };
    (void)state;
    for (size_t i = 0; i < 4 * COUNT(phases); i++) {
        json_t *more = json_loads(phases[i / 4].more, 0, NULL);
        json_object_set_new(more, "stream", json_boolean(i & 1));
        char *members = json_dumps(more, 0);
        char *body = chat_body(phases[i / 4].script, members);
        leave(CHAT, body, phases[i / 4].name, 0, i & 2);
        free(body);
        free(members);
        json_decref(more);
    }
    leave(VECTORS, "{\"model\":\"fake\",\"input\":\"hold\"}", "jobs", 0, false);
    leave(VECTORS, "{\"model\":\"slow\",\"input\":\"a\"}", "waits", 0, false);
    json_decref(chat("{}", "{\"session\":\"held\"}"));
    char *moved = chat_body("{}", "{\"session\":\"held\",\"model\":\"cold\"}");
    leave(CHAT, moved, "jobs", 0, false);
    unsigned long calls = stat_of(&served, "calls");
    json_decref(chat("{}", "{\"session\":\"held\"}")); /* it stayed where it was */
    assert_int_equal(stat_of(&served, "calls"), calls);
    free(moved);
    char *several = chat_body("{\"say\":\"a\",\"hold\":\"answer\"}", "{\"n\":3,\"stream\":true}");
    int fd = begin(CHAT, several);
    assert_true(stat_becomes(&served, "jobs", 3, 5000));
    hang_up(&fd);
    idle();
    free(several);
}

/* While a model is loaded a stream has no answer yet, but comments, so that nobody takes the
 * connection for dead. */
static void waiting_streams_are_kept_alive(void **state)
{
    char *body = chat_body("{}", "{\"model\":\"slow\",\"stream\":true}"), bytes[4096];
    (void)state;
    int fd = begin(CHAT, body);
    assert_int_equal(hear_for(fd, 4000, bytes, sizeof bytes), 0);
    hear_for(fd, 2500, bytes, sizeof bytes);
    assert_memory_equal(bytes, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(bytes, "\r\nContent-Type: text/event-stream\r\n"));
    assert_non_null(strstr(bytes, ":\n\n"));
    assert_null(strstr(bytes, "data:"));
    hang_up(&fd);
    free(body);
    idle();
}

/* One of several choices fails: the others are not computed any longer. */
static void one_choice_fails(void **state)
{
    (void)state;
    char *body =
        chat_body("{\"say\":\"a\",\"stop\":\"error\",\"code\":-3,\"cause\":\"no\"}", "{\"n\":4}");
    ask_refused(&served, "POST", CHAT, body, 500, "no");
    free(body);
    idle();
}

static void slow_readers_pause(void **state)
{
    char *script = malloc(400000), *bytes = malloc(1 << 20);
    unsigned long paused = stat_of(&served, "paused");
    size_t size = 0, got;
    (void)state;
    strcpy(script, "{\"say\":[");
    size = strlen(script);
    for (int i = 0; i < 400; i++)
        size += (size_t)sprintf(script + size, "%s\"%0800d\"", i ? "," : "", i);
    strcpy(script + size, "],\"token_ms\":1}");
    char *body = chat_body(script, "{\"stream\":true}");
    served.receive_buffer = 4096;
    int fd = begin(CHAT, body);
    served.receive_buffer = 0;
    for (int i = 0; i < 200 && stat_of(&served, "paused") == paused; i++)
        sleep_ms(10);
    assert_true(stat_of(&served, "paused") > paused);
    unsigned long said = stat_of(&served, "said");
    sleep_ms(100);
    assert_true(stat_of(&served, "said") <= said + 2);
    size = 0;
    do {
        got = hear_for(fd, 200, bytes + size, ((size_t)1 << 20) - size);
        size += got;
    } while (got > 0 && !strstr(bytes, "[DONE]"));
    assert_non_null(strstr(bytes, "[DONE]"));
    assert_non_null(strstr(bytes, "0399"));
    hang_up(&fd);
    free(body);
    free(bytes);
    free(script);
    idle();
}

/* The n-th allocation from here fails. What is left of the last countdown may end this request. */
static void fail_allocation(unsigned n)
{
    char request[128], bytes[512] = "";
    snprintf(request, sizeof request, "POST /fail?n=%u HTTP/1.1\r\nHost: localhost\r\n\r\n", n);
    while (!strstr(bytes, " 204 ")) {
        int fd = dial(&served);
        say(fd, request);
        hear_for(fd, 5, bytes, sizeof bytes);
        hang_up(&fd);
    }
}

/* An allocation that fails anywhere ends one request, with an answer or without, and no more. */
static void without_memory(void **state)
{
    char *whole = chat_body("{\"say\":\"a b\"}", "{\"stop\":[\"x\"],\"logit_bias\":{\"1\":2}}");
    char *stream = chat_body("{\"say\":\"a b\"}", "{\"stream\":true,\"n\":2}");
    char *here = chat_body("{}", "{\"session\":\"m\",\"logprobs\":true}");
    char *there = chat_body("{}", "{\"session\":\"m\",\"model\":\"cold\"}");
    const struct {
        const char *path, *body;
    } requests[] = {
        {CHAT, whole},
        {CHAT, stream},
        {CHAT, here},
        {CHAT, there},
        {TEXTS, "{\"prompt\":[\"a\",\"b\"],\"logprobs\":1}"},
        {VECTORS, "{\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}"},
    };
    (void)state;
    for (unsigned n = 1; n < 240; n++) {
        char bytes[8192];
        size_t i = n % COUNT(requests);
        fail_allocation(1 + n / COUNT(requests));
        int fd = begin(requests[i].path, requests[i].body);
        hear_for(fd, 5, bytes, sizeof bytes);
        hang_up(&fd);
    }
    fail_allocation(0);
    idle();
    free(whole);
    free(stream);
    free(here);
    free(there);
}

static int serve_fakes(void **state)
{
    (void)state;
    serve_with(&served, "tcp=127.0.0.1", "stream_pause=16384", "stream_resume=4096", "ping_ms=1000",
               (char *)NULL);
    return 0;
}

static int end_fakes(void **state)
{
    (void)state;
    serve_end(&served);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_answer),
        cmocka_unit_test(finish_reasons),
        cmocka_unit_test(reasoning_is_split),
        cmocka_unit_test(several_choices),
        cmocka_unit_test(probabilities),
        cmocka_unit_test(what_is_asked),
        cmocka_unit_test(sessions),
        cmocka_unit_test(sessions_that_are_in_use),
        cmocka_unit_test(streamed),
        cmocka_unit_test(fast_tokens_are_told_together),
        cmocka_unit_test(several_streamed_choices),
        cmocka_unit_test(streamed_probabilities),
        cmocka_unit_test(progress),
        cmocka_unit_test(fails_before_and_after_the_beginning),
        cmocka_unit_test(a_worker_that_dies),
        cmocka_unit_test(loading),
        cmocka_unit_test(refused),
        cmocka_unit_test(completions),
        cmocka_unit_test(models),
        cmocka_unit_test(embeddings),
        cmocka_unit_test(clients_leave),
        cmocka_unit_test(waiting_streams_are_kept_alive),
        cmocka_unit_test(one_choice_fails),
        cmocka_unit_test(slow_readers_pause),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, serve_fakes, end_fakes);
}
