/* Another server as a backend: what it says comes as answers, whatever it says and however it stops
 * saying it; nothing is asked twice that may have been begun. */
#define _GNU_SOURCE
#include "server/upstream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <event2/event.h>

#include <cmocka.h>

#include "base/os.h"
#include "scripted_server.h"
#include "server/fetch.h"
#include "server/generation.h"
#include "server/models.h"
#include "server/sse.h"
#include "support/folder.h"
#include "support/process.h"

#define SECOND UINT64_C(1000000000)
#define KEY "sk-this-is-secret"

#define STREAM "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
#define JSON_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define ERROR_HEAD(status)                                                                         \
    "HTTP/1.1 " status "\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
#define SAY(text) "data: {\"choices\":[{\"delta\":{\"content\":\"" text "\"}}]}\n\n"
#define FINISH "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
#define DONE "data: [DONE]\n\n"

/* What became of one request. */
struct heard {
    struct backend *backend;
    struct backend_job *job;
    unsigned begun, texts, ended;
    char text[65536], thought[1024];
    struct work_end end;
    char cause[HEARTH_ERROR_TEXT_MAX], stop_string[64];
    int code;
    float values[16];
    struct work_vectors vectors;
    char tokens[1024];
    bool abandon_at_text, abandon_at_begin, destroy_at_text, destroy_at_end;
};

struct fixture {
    struct event_base *base;
    struct scripted_server server;
    struct backend *backend;
    unsigned descriptors, states;
    enum backend_state state;
};

/* ---- in the place of models.c ---- */

static struct {
    unsigned count;
    char names[256];
    struct backend *backends[4];
} added;

int models_add_upstream(struct models *models, const char *name, struct backend *backend,
                        struct hearth_error *err)
{
    assert_null(models);
    if (strcmp(name, "taken") == 0)
        return error_set(err, HEARTH_E_STATE, "the name is taken");
    snprintf(added.names + strlen(added.names), sizeof added.names - strlen(added.names), "%s ",
             name);
    added.backends[added.count++] = backend;
    return 0;
}

void model_info(const struct model *model, struct model_info *out)
{
    (void)model;
    (void)out;
    abort(); /* nobody asks */
}

/* ---- what is told ---- */

static void on_begin(void *context, const struct work_begin *begin)
{
    struct heard *heard = context;
    (void)begin;
    heard->begun++;
    if (heard->abandon_at_begin)
        heard->backend->calls->abandon(heard->backend, heard->job);
}

static void add(char *to, size_t size, struct text text)
{
    size_t at = strlen(to);
    assert_true(at + text.size < size);
    memcpy(to + at, text.data, text.size);
    to[at + text.size] = '\0';
}

static void on_text(void *context, const struct work_text *work, struct text reasoning,
                    struct message_reader *tokens)
{
    struct heard *heard = context;
    struct work_token token, top[HEARTH_TOP_TOKENS_MAX];
    uint32_t top_count;
    assert_int_equal(heard->begun, 1);
    assert_int_equal(heard->ended, 0);
    heard->texts++;
    add(heard->text, sizeof heard->text, work->text);
    add(heard->thought, sizeof heard->thought, reasoning);
    for (uint32_t i = 0; i < work->count; i++) {
        char line[128];
        assert_true(work_text_token(tokens, &token, top, &top_count));
        snprintf(line, sizeof line, "%.*s %.2f of %u;", TEXT_ARGS(token.bytes), token.logprob,
                 top_count);
        add(heard->tokens, sizeof heard->tokens, text_of(line));
    }
    if (heard->abandon_at_text)
        heard->backend->calls->abandon(heard->backend, heard->job);
    if (heard->destroy_at_text)
        heard->backend->calls->destroy(heard->backend);
    heard->destroy_at_text = false;
}

static void on_end(void *context, const struct work_end *end)
{
    struct heard *heard = context;
    heard->ended++;
    heard->end = *end;
    heard->code = end->code;
    snprintf(heard->cause, sizeof heard->cause, "%.*s", (int)end->cause.size,
             end->cause.data ? end->cause.data : "");
    snprintf(heard->stop_string, sizeof heard->stop_string, "%.*s", TEXT_ARGS(end->stop_string));
    if (heard->destroy_at_end)
        heard->backend->calls->destroy(heard->backend);
}

static void on_reply(void *context, int code, struct text cause, struct message_reader *reply)
{
    struct heard *heard = context;
    heard->ended++;
    heard->code = code;
    snprintf(heard->cause, sizeof heard->cause, "%.*s", (int)cause.size, cause.data);
    if (code == 0) {
        assert_true(work_get_vectors(reply, &heard->vectors));
        assert_true(heard->vectors.count * heard->vectors.dimensions <= 16);
        for (uint32_t i = 0; i < heard->vectors.count; i++)
            assert_true(work_vectors_row(reply, heard->vectors.dimensions,
                                         heard->values + i * heard->vectors.dimensions));
    }
}

static void on_state(void *context, enum backend_state state, const struct hearth_error *error)
{
    struct fixture *fixture = context;
    fixture->states++;
    fixture->state = state;
    assert_int_equal(error != NULL, state == BACKEND_RESTARTING);
    assert_true(!error || !strstr(error->text, KEY));
}

/* ---- a test's own ---- */

static int set_up(void **state)
{
    static const char *const nothing[] = {NULL};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->descriptors = open_descriptors();
    fixture->base = event_base_new();
    fixture->server.answers = nothing;
    scripted_server_start(&fixture->server, fixture->base);
    *state = fixture;
    return 0;
}

static void turn(struct fixture *fixture, unsigned ms);

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    if (fixture->backend)
        fixture->backend->calls->destroy(fixture->backend);
    turn(fixture, 0);
    scripted_server_stop(&fixture->server);
    event_base_free(fixture->base);
    assert_int_equal(open_descriptors(), fixture->descriptors);
    free(fixture);
    return 0;
}

static void open_upstream(struct fixture *fixture, const char *path, const char *const *answers)
{
    char url[128];
    struct hearth_error err;
    const struct upstream_options options = {.name = "far",
                                             .url = url,
                                             .model = "their-model",
                                             .key = KEY,
                                             .connect_ns = SECOND,
                                             .first_byte_ns = SECOND / 4,
                                             .idle_ns = SECOND / 4,
                                             .retry_ns = SECOND / 100,
                                             .health_ns = SECOND / 10};
    const struct backend_owner owner = {.on_state = on_state, .context = fixture};
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", fixture->server.port, path);
    fixture->server.answers = answers;
    if (upstream_create(fixture->base, &options, owner, &fixture->backend, &err))
        fail_msg("%s", err.text);
    assert_int_equal(fixture->backend->state, BACKEND_READY);
}

static const struct backend_listener *listener_of(struct heard *heard)
{
    static struct backend_listener listener;
    listener = (struct backend_listener){.on_begin = on_begin,
                                         .on_text = on_text,
                                         .on_end = on_end,
                                         .on_reply = on_reply,
                                         .context = heard};
    return &listener;
}

static struct work_ask plain_ask(void)
{
    struct work_ask ask = {.messages = TEXT("[{\"role\":\"user\",\"content\":\"Hi\"}]"),
                           .sampling = generation_sampling_default};
    ask.sampling.seed = 7;
    return ask;
}

static void ask_for(struct fixture *fixture, struct heard *heard, const struct work_ask *ask)
{
    struct hearth_error err;
    heard->backend = fixture->backend;
    if (fixture->backend->calls->ask(fixture->backend, ask, listener_of(heard), &heard->job, &err))
        fail_msg("%s", err.text);
    assert_int_equal(heard->begun + heard->texts + heard->ended, 0); /* not from inside a call */
}

static void turn(struct fixture *fixture, unsigned ms)
{
    uint64_t end = os_monotonic_ns() + ms * UINT64_C(1000000);
    do {
        const struct timeval most = {0, 1000};
        event_base_loopexit(fixture->base, &most);
        event_base_dispatch(fixture->base);
    } while (os_monotonic_ns() < end);
}

static void until_ended(struct fixture *fixture, const struct heard *heard)
{
    uint64_t late = os_monotonic_ns() + 10 * SECOND;
    while (!heard->ended && os_monotonic_ns() < late)
        turn(fixture, 1);
    assert_int_equal(heard->ended, 1);
}

/* Asks, and waits for the end. Allocated. */
static struct heard *answer_of(struct fixture *fixture, const char *const *answers)
{
    struct heard *heard = calloc(1, sizeof *heard);
    struct work_ask ask = plain_ask();
    if (!fixture->backend)
        open_upstream(fixture, "/v1", answers);
    fixture->server.answers = answers;
    ask_for(fixture, heard, &ask);
    until_ended(fixture, heard);
    assert_null(strstr(heard->cause, KEY));
    assert_int_equal(fixture->backend->jobs, 0);
    return heard;
}

static void expect_answer(struct fixture *fixture, const char *answer, const char *text)
{
    struct heard *heard = answer_of(fixture, (const char *const[]){answer, NULL});
    assert_string_equal(heard->cause, "");
    assert_string_equal(heard->text, text);
    assert_int_equal(heard->end.stop, HEARTH_STOP_END);
    free(heard);
}

static void expect_failure(struct fixture *fixture, const char *answer, int code, const char *words,
                           const char *text)
{
    unsigned posts = fixture->server.posts;
    struct heard *heard = answer_of(fixture, (const char *const[]){answer, NULL});
    if (heard->code != code || !strstr(heard->cause, words))
        fail_msg("%d: %s (%d: %s)", heard->code, heard->cause, code, words);
    assert_int_equal(heard->end.stop, HEARTH_STOP_ERROR);
    assert_string_equal(heard->text, text);
    assert_int_equal(fixture->server.posts, posts + 1); /* and is not asked again */
    free(heard);
}

/* ---- tests ---- */

static void what_it_says_comes_as_an_answer(void **state)
{
    static const char *const answers[] = {
        STREAM ": a comment\r\n\r\n"
               "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\r\n\r\n"
               "event: x\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"Hm.\"}}]}\n\n\1"
               "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\xc3\xbc\xc3\x9f\"}}]}\r\r"
               "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\" Gott\"}}]}\n\n"
               "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n"
               "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":9,"
               "\"prompt_tokens_details\":{\"cached_tokens\":12}}}\n\n" DONE,
        NULL};
    struct fixture *fixture = *state;
    struct heard *heard = answer_of(fixture, answers);
    assert_string_equal(heard->text, "Gr\xc3\xbc\xc3\x9f Gott");
    assert_string_equal(heard->thought, "Hm.");
    assert_int_equal(heard->end.stop, HEARTH_STOP_LENGTH);
    assert_int_equal(heard->end.prompt_tokens, 20);
    assert_int_equal(heard->end.cached_tokens, 12);
    assert_int_equal(heard->end.answer_tokens, 9);
    assert_true(heard->end.answer_ns >= 10000000 && heard->end.first_token_ns > 0);
    const char *request = fixture->server.last;
    assert_true(strncmp(request, "POST /v1/chat/completions HTTP/1.1\r\n", 36) == 0);
    assert_non_null(strstr(request, "Authorization: Bearer " KEY "\r\n"));
    assert_non_null(strstr(request, "{\"model\":\"their-model\",\"stream\":true,\"stream_options\":"
                                    "{\"include_usage\":true},\"messages\":[{\"role\":\"user\","
                                    "\"content\":\"Hi\"}],\"seed\":7}"));
    free(heard);
}

static void only_what_was_chosen_is_asked_for(void **state)
{
    static const char *const answers[] = {STREAM SAY("a") FINISH DONE, NULL};
    static const struct hearth_logit_bias bias[] = {{5, -2.5f}};
    struct fixture *fixture = *state;
    struct heard heard = {0};
    struct work_ask ask = plain_ask();
    ask.sampling.temperature = 0.7f;
    ask.sampling.top_k = 3;
    ask.sampling.bias = bias;
    ask.sampling.bias_count = 1;
    ask.stops[0] = TEXT("\nEND");
    ask.stop_count = 1;
    ask.max_tokens = 12;
    ask.variables = TEXT("{\"enable_thinking\":false}");
    open_upstream(fixture, "/v1/", answers);
    ask_for(fixture, &heard, &ask);
    until_ended(fixture, &heard);
    const char *request = fixture->server.last;
    assert_true(strncmp(request, "POST /v1/chat/completions ", 26) == 0);
    assert_non_null(strstr(request,
                           "\"temperature\":0.7,\"top_k\":3,\"seed\":7,\"stop\":[\"\\nEND\"],"
                           "\"logit_bias\":{\"5\":-2.5},\"chat_template_kwargs\":"
                           "{\"enable_thinking\":false},\"max_tokens\":12}"));
}

static void plain_texts_and_whole_answers(void **state)
{
    static const char *const answers[] = {
        STREAM
        "data: {\"choices\":[{\"text\":\"Once\"}]}\n\n"
        "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\",\"stop_reason\":\"END\"}]}"
        "\n\n" DONE,
        NULL};
    struct fixture *fixture = *state;
    struct heard heard = {0};
    struct work_ask ask = plain_ask();
    ask.settings_given = ask.settings.plain = true;
    open_upstream(fixture, "", answers);
    ask_for(fixture, &heard, &ask);
    until_ended(fixture, &heard);
    assert_string_equal(heard.text, "Once");
    assert_int_equal(heard.end.stop, HEARTH_STOP_STRING);
    assert_string_equal(heard.stop_string, "END");
    assert_true(strncmp(fixture->server.last, "POST /completions ", 18) == 0);
    assert_non_null(strstr(fixture->server.last, "\"prompt\":\"Hi\""));
    expect_answer(fixture,
                  JSON_HEAD "{\"choices\":[{\"message\":{\"content\":\"All at once\"},"
                            "\"finish_reason\":\"stop\"}]}",
                  "All at once");
}

static void logprobs_come_as_tokens(void **state)
{
    static const char *const answers[] = {
        STREAM "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"},\"logprobs\":{\"content\":["
               "{\"token\":\"a\",\"logprob\":-0.5,\"bytes\":[97],\"top_logprobs\":"
               "[{\"token\":\"a\",\"logprob\":-0.5},{\"token\":\"z\",\"logprob\":-1}]},"
               "{\"token\":\"b\",\"logprob\":null,\"top_logprobs\":[]}]}}]}\n\n" FINISH DONE,
        NULL};
    struct fixture *fixture = *state;
    struct heard heard = {0};
    struct work_ask ask = plain_ask();
    ask.logprobs = true;
    ask.top_tokens = 2;
    open_upstream(fixture, "", answers);
    ask_for(fixture, &heard, &ask);
    until_ended(fixture, &heard);
    assert_string_equal(heard.tokens, "a -0.50 of 2;b -9999.00 of 0;");
    assert_int_equal(heard.end.answer_tokens, 2);
    assert_non_null(strstr(fixture->server.last, "\"logprobs\":true,\"top_logprobs\":2"));
}

static void ends_without_an_end_are_failures(void **state)
{
    struct fixture *fixture = *state;
    expect_failure(fixture, STREAM SAY("a") "\2", HEARTH_E_IO, "ended its answer before its end",
                   "a");
    expect_failure(
        fixture,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 999\r\n\r\n" SAY(
            "a") "\2",
        HEARTH_E_IO, "failed", "a");
    expect_failure(fixture, "\2", HEARTH_E_IO, "failed", "");
    expect_failure(fixture, "nonsense\r\n\r\n\2", HEARTH_E_IO, "failed", "");
    expect_failure(fixture, STREAM SAY("a") "\3", HEARTH_E_IO, "stopped in the middle", "a");
    expect_failure(fixture, "\3", HEARTH_E_IO, "does not answer", "");
    expect_failure(fixture, STREAM SAY("a") "data: {]\n\n\3", HEARTH_E_FORMAT, "no JSON", "a");
    expect_failure(fixture, STREAM SAY("a") "data: {\"error\":{\"message\":\"out of luck\"}}\n\n",
                   HEARTH_E_IO, "out of luck", "a");
    expect_failure(fixture, STREAM "data: {\"error\":{\"message\":\"no " KEY "\"}}\n\n",
                   HEARTH_E_IO, "without a cause", "");
    expect_failure(fixture, JSON_HEAD "{\"choices\":[", HEARTH_E_FORMAT, "no JSON", "");
    /* after the finish the end of the connection is one as good as any */
    expect_answer(fixture, STREAM SAY("a") FINISH "\2", "a");
    expect_answer(fixture, STREAM SAY("a") FINISH DONE "\3", "a");
}

static void refusals_are_told_in_its_words(void **state)
{
    struct fixture *fixture = *state;
    expect_failure(fixture, ERROR_HEAD("400 Bad") "{\"error\":{\"message\":\"too \\u0007 hot\"}}\2",
                   HEARTH_E_ARGUMENT, "(status 400): too ? hot", "");
    expect_failure(fixture, ERROR_HEAD("422 Bad") "{\"detail\":\"who knows\"}\2", HEARTH_E_ARGUMENT,
                   "who knows", "");
    expect_failure(fixture, ERROR_HEAD("404 No") "{\"error\":\"no model\"}\2", HEARTH_E_MISSING,
                   "no model", "");
    expect_failure(fixture, ERROR_HEAD("500 Oh") "<html>\2", HEARTH_E_IO, "(status 500)", "");
    expect_failure(fixture, ERROR_HEAD("500 Oh") "{\"error\":\"bad " KEY "\"}\2", HEARTH_E_IO,
                   "refuses (status 500)", "");
    expect_failure(fixture, ERROR_HEAD("401 No") "{\"error\":\"sk-th*** is no key\"}\2",
                   HEARTH_E_IO, "does not accept our key (status 401)", "");
    expect_failure(
        fixture, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        HEARTH_E_IO, "elsewhere (status 302)", "");
    assert_int_equal(fixture->backend->state, BACKEND_READY);
}

static void asks_again_where_nothing_was_begun(void **state)
{
    static const char *const busy[] = {
        ERROR_HEAD("503 Busy") "{\"error\":\"busy\"}\2", ERROR_HEAD("502 Gate") "\2",
        "HTTP/1.1 429 Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        STREAM SAY("at last") FINISH DONE, NULL};
    static const char *const always[] = {
        ERROR_HEAD("503 Busy") "{\"error\":\"a\"}\2", ERROR_HEAD("503 Busy") "{\"error\":\"b\"}\2",
        ERROR_HEAD("503 Busy") "{\"error\":\"c\"}\2", ERROR_HEAD("503 Busy") "{\"error\":\"d\"}\2",
        STREAM SAY("too late") FINISH DONE,           NULL};
    struct fixture *fixture = *state;
    uint64_t begin = os_monotonic_ns();
    struct heard *heard = answer_of(fixture, busy);
    assert_string_equal(heard->text, "at last");
    assert_int_equal(heard->begun, 1);
    assert_int_equal(fixture->server.posts, 4);
    assert_true(os_monotonic_ns() - begin >= SECOND); /* as it wished */
    free(heard);
    heard = answer_of(fixture, always);
    assert_string_equal(heard->cause, "the server of 'far' refuses (status 503): d");
    assert_int_equal(fixture->server.posts, 8);
    free(heard);
    expect_failure(fixture, "HTTP/1.1 429 Many\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n",
                   HEARTH_E_LIMIT, "(status 429)", "");
}

static void a_server_that_is_away_is_seen_and_seen_back(void **state)
{
    static const char *const answers[] = {STREAM SAY("back") FINISH DONE, NULL};
    struct fixture *fixture = *state;
    open_upstream(fixture, "/v1", answers);
    uint16_t port = fixture->server.port;
    (void)port;
    scripted_server_stop(&fixture->server);
    struct heard *heard = answer_of(fixture, answers);
    assert_int_equal(heard->code, HEARTH_E_IO);
    assert_non_null(strstr(heard->cause, "cannot be reached"));
    assert_int_equal(heard->begun, 0);
    assert_int_equal(fixture->backend->state, BACKEND_RESTARTING);
    assert_int_equal(fixture->state, BACKEND_RESTARTING);
    assert_int_equal(fixture->states, 1);
    free(heard);
}

static void looks_after_it_while_it_is_used(void **state)
{
    static const char *const answers[] = {STREAM SAY("a") "\3", NULL};
    struct fixture *fixture = *state;
    struct heard *heard = calloc(1, sizeof *heard);
    struct work_ask ask = plain_ask();
    fixture->server.models = "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"
                             "{\"data\":[{\"id\":\"x\"},{\"id\":\"their-model\",\"max_model_len\":"
                             "4096,\"y\":[1,2,3,4]}]}  ";
    open_upstream(fixture, "", answers);
    assert_string_equal(fixture->backend->ready.data, "{\"name\":\"their-model\"}");
    turn(fixture, 150);
    assert_int_equal(fixture->server.gets, 0); /* nobody has asked */
    ask_for(fixture, heard, &ask);
    until_ended(fixture, heard);
    assert_true(fixture->server.gets >= 2);
    assert_string_equal(fixture->backend->ready.data,
                        "{\"name\":\"their-model\",\"context_train\":4096}");
    fixture->server.models = ERROR_HEAD("500 Oh") "\2";
    ask_for(fixture, (*heard = (struct heard){0}, heard), &ask);
    turn(fixture, 150);
    assert_int_equal(fixture->backend->state, BACKEND_RESTARTING);
    until_ended(fixture, heard);
    turn(fixture, 250);
    unsigned gets = fixture->server.gets;
    turn(fixture, 250);
    assert_int_equal(fixture->server.gets, gets); /* unused it is left alone */
    free(heard);
}

static void who_leaves_ends_the_connection(void **state)
{
    static const char *const answers[] = {STREAM SAY("a") "\3", STREAM SAY("b") SAY("c") "\3",
                                          STREAM ": wait\n\n\3", "\3", NULL};
    struct fixture *fixture = *state;
    struct heard heard[4] = {{0}};
    struct work_ask ask = plain_ask();
    open_upstream(fixture, "", answers);
    ask_for(fixture, &heard[0], &ask);
    while (heard[0].texts == 0)
        turn(fixture, 1);
    unsigned closed = fixture->server.closed_by_peer;
    fixture->backend->calls->abandon(fixture->backend, heard[0].job);
    assert_int_equal(fixture->backend->jobs, 0);
    turn(fixture, 20);
    assert_int_equal(fixture->server.closed_by_peer, closed + 1);

    heard[1].abandon_at_text = true; /* from inside: nothing behind it comes */
    ask_for(fixture, &heard[1], &ask);
    turn(fixture, 50);
    assert_string_equal(heard[1].text, "b");
    assert_int_equal(fixture->server.closed_by_peer, closed + 2);
    heard[2].abandon_at_begin = true;
    ask_for(fixture, &heard[2], &ask);
    turn(fixture, 50);
    ask_for(fixture, &heard[3], &ask); /* before anything has come */
    fixture->backend->calls->abandon(fixture->backend, heard[3].job);
    turn(fixture, 50);
    assert_int_equal(fixture->backend->jobs, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(heard[i].ended, 0);
}

static void it_may_be_destroyed_at_any_time(void **state)
{
    static const char *const answers[] = {STREAM SAY("a") SAY("b") "\3", "\3",
                                          ERROR_HEAD("503 x") "\2", STREAM SAY("a") FINISH DONE,
                                          NULL};
    struct fixture *fixture = *state;
    struct heard heard[4] = {{0}};
    struct work_ask ask = plain_ask();
    open_upstream(fixture, "", answers);
    for (int i = 0; i < 3; i++) {
        ask_for(fixture, &heard[i], &ask);
        heard[i].destroy_at_text = true; /* one of them hears something */
    }
    turn(fixture, 100);
    fixture->backend = NULL;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(heard[i].ended, 1);
        assert_int_equal(heard[i].end.stop, HEARTH_STOP_CANCELLED);
    }
    open_upstream(fixture, "", answers + 3);
    heard[3].destroy_at_end = true;
    ask_for(fixture, &heard[3], &ask);
    until_ended(fixture, &heard[3]);
    fixture->backend = NULL;
    turn(fixture, 5);
}

static void who_is_paused_hears_nothing_and_loses_nothing(void **state)
{
    static const char *const answers[] = {STREAM "\4" FINISH DONE, NULL};
    struct fixture *fixture = *state;
    struct heard *heard = calloc(1, sizeof *heard);
    struct work_ask ask = plain_ask();
    open_upstream(fixture, "", answers);
    ask_for(fixture, heard, &ask);
    while (heard->texts == 0)
        turn(fixture, 1);
    fixture->backend->calls->pause(fixture->backend, heard->job, true);
    turn(fixture, 1);
    unsigned texts = heard->texts;
    turn(fixture, 600); /* longer than it may be idle */
    assert_int_equal(heard->texts, texts);
    assert_int_equal(heard->ended, 0);
    assert_true(texts < 20000);
    fixture->backend->calls->pause(fixture->backend, heard->job, false);
    assert_int_equal(heard->texts, texts); /* not from inside the call */
    until_ended(fixture, heard);
    assert_int_equal(heard->texts, 20000);
    assert_int_equal(heard->end.stop, HEARTH_STOP_END);
    free(heard);
}

static void vectors_come_in_their_order(void **state)
{
    static const char *const answers[] = {
        JSON_HEAD "{\"data\":[{\"index\":1,\"embedding\":[4,5.5,6]},"
                  "{\"index\":0,\"embedding\":[1,2,-3e0]}],\"usage\":{\"prompt_tokens\":5}}",
        JSON_HEAD "{\"data\":[{\"index\":0,\"embedding\":[4,5]},{\"index\":1,\"embedding\":[1]}]}",
        JSON_HEAD "{\"data\":[{\"index\":0,\"embedding\":[1e60]},{\"index\":1,\"embedding\":[1]}]}",
        JSON_HEAD "{}",
        ERROR_HEAD("400 Bad") "{\"error\":\"no vectors here\"}\2",
        NULL};
    static const char *const words[] = {"", "one length", "one length", "no vectors",
                                        "no vectors here"};
    static const float wanted[] = {1, 2, -3, 4, 5.5f, 6};
    const struct work_embed embed = {.inputs = TEXT("[\"a\",\"b\"]")};
    struct fixture *fixture = *state;
    open_upstream(fixture, "/v1", answers);
    for (int i = 0; i < 5; i++) {
        struct heard heard = {0};
        assert_int_equal(fixture->backend->calls->embed(fixture->backend, &embed,
                                                        listener_of(&heard), &heard.job, NULL),
                         0);
        until_ended(fixture, &heard);
        assert_int_equal(heard.code == 0, i == 0);
        assert_non_null(strstr(heard.cause, words[i]));
        if (i == 0) {
            assert_int_equal(heard.vectors.tokens, 5);
            assert_memory_equal(heard.values, wanted, sizeof wanted);
            assert_true(strncmp(fixture->server.last, "POST /v1/embeddings ", 20) == 0);
        }
    }
}

static void what_it_cannot_do_is_said(void **state)
{
    struct fixture *fixture = *state;
    struct hearth_error err;
    struct heard heard = {0};
    struct backend_job *job;
    struct work_ask ask = plain_ask();
    const struct work_call call = {TEXT("tokenize"), TEXT("{}")};
    open_upstream(fixture, "", (const char *const[]){NULL});
    struct backend *backend = fixture->backend;
    assert_int_equal(backend->calls->call(backend, &call, listener_of(&heard), &job, &err),
                     HEARTH_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "'far' is answered by another server"));
    ask.session = TEXT("mine");
    assert_int_equal(backend->calls->ask(backend, &ask, listener_of(&heard), &job, &err),
                     HEARTH_E_UNSUPPORTED);
    ask = plain_ask();
    ask.settings_given = ask.settings.plain = ask.logprobs = true;
    assert_int_equal(backend->calls->ask(backend, &ask, listener_of(&heard), &job, &err),
                     HEARTH_E_UNSUPPORTED);
    assert_int_equal(backend->jobs, 0);
    assert_int_equal(fixture->server.connections, 0);
    static const char *const urls[] = {"file:///etc/passwd", "ftp://a/",   "http://u:p@a/", "a.b",
                                       "http://a/?q=1",      "http://a#f", "http://",       ""};
    static const char *const keys[] = {"a\r\nX: y", "two words", "", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls + sizeof keys / sizeof *keys; i++) {
        size_t url_count = sizeof urls / sizeof *urls;
        const struct upstream_options options = {.name = "x",
                                                 .url = i < url_count ? urls[i] : "http://a/v1",
                                                 .key = i < url_count ? NULL : keys[i - url_count]};
        assert_int_equal(
            upstream_create(fixture->base, &options, (struct backend_owner){0}, &backend, &err),
            HEARTH_E_ARGUMENT);
    }
}

static void addresses_are_read_strictly(void **state)
{
    static const char *const good[] = {"http://a",          "HTTPS://A.b-c_d:65535",
                                       "http://[::1]:8000", "http://127.0.0.1/v1/",
                                       "http://a/~x/a%20b", "https://a:443/(x);y=@1"};
    static const char *const bad[] = {
        "http://a b/",    "http://a\\b/",   "http://a\n/",  "http://a:0",
        "http://a:65536", "http://a:/",     "http://a:1:2", "http://[::1",
        "http://[]/",     "http://[::1]x/", "http:///x",    "http://a/\xc3\xa4",
        "http://user@a/", "http:/a",        "http://a/ ",   "http://a:00000080x"};
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(fetch_check_url(good[i], NULL), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(fetch_check_url(bad[i], NULL), HEARTH_E_ARGUMENT);
}

static void it_drains_and_keeps_to_its_time(void **state)
{
    static const char *const answers[] = {STREAM SAY("a") "\1" SAY("b") FINISH DONE,
                                          STREAM SAY("c") "\1\1\1\1\1\1\1\1\1\3", NULL};
    struct fixture *fixture = *state;
    struct heard heard[3] = {{0}};
    struct hearth_error err;
    struct work_ask ask = plain_ask(), late = plain_ask();
    late.timeout_ns = SECOND / 20;
    open_upstream(fixture, "", answers);
    ask_for(fixture, &heard[0], &ask);
    turn(fixture, 5);
    ask_for(fixture, &heard[1], &late);
    fixture->backend->calls->drain(fixture->backend, 5 * SECOND);
    assert_int_equal(fixture->backend->calls->ask(fixture->backend, &ask, listener_of(&heard[2]),
                                                  &heard[2].job, &err),
                     HEARTH_E_STATE);
    until_ended(fixture, &heard[0]);
    until_ended(fixture, &heard[1]);
    turn(fixture, 5);
    assert_string_equal(heard[0].text, "ab");
    assert_int_equal(heard[0].end.stop, HEARTH_STOP_END);
    assert_int_equal(heard[1].end.stop, HEARTH_STOP_CANCELLED);
    assert_non_null(strstr(heard[1].cause, "is over"));
    assert_int_equal(fixture->backend->state, BACKEND_ENDED);
    assert_int_equal(fixture->states, 1);
}

/* ---- events ---- */

struct gathered {
    char text[512];
};

static bool gather(void *context, struct text data)
{
    struct gathered *gathered = context;
    add(gathered->text, sizeof gathered->text, TEXT("["));
    add(gathered->text, sizeof gathered->text, data);
    add(gathered->text, sizeof gathered->text, TEXT("]"));
    return true;
}

static void events_do_not_depend_on_how_they_are_cut(void **state)
{
    (void)state;
    static const char bytes[] = "\xef\xbb\xbf"
                                "data: one\n\n: no\ndata:two\rdata:  three\r\n\r\nid: 4\n\ndata\n\n"
                                "database: x\ndata: \n\ndata: last\r\rdata: never";
    static const char wanted[] = "[one][two\n three][][][last]";
    for (size_t a = 0; a < sizeof bytes - 1; a++) {
        for (size_t b = a; b < sizeof bytes - 1; b++) {
            struct gathered gathered = {""};
            struct sse sse;
            sse_init(&sse);
            assert_true(sse_push(&sse, (struct text){bytes, a}, gather, &gathered));
            assert_true(sse_push(&sse, (struct text){bytes + a, b - a}, gather, &gathered));
            assert_true(
                sse_push(&sse, (struct text){bytes + b, sizeof bytes - 1 - b}, gather, &gathered));
            assert_string_equal(gathered.text, wanted);
            sse_finish(&sse);
        }
    }
}

static void an_event_is_bounded(void **state)
{
    (void)state;
    struct sse sse;
    struct gathered gathered = {""};
    static char piece[65536];
    memset(piece, 'x', sizeof piece);
    for (int lines = 0; lines < 2; lines++) {
        size_t pushed = 0;
        sse_init(&sse);
        piece[sizeof piece - 1] = lines ? '\n' : 'x';
        memcpy(piece, "data: ", 6);
        while (sse_push(&sse, (struct text){piece, sizeof piece}, gather, &gathered))
            pushed += sizeof piece;
        assert_true(pushed <= SSE_EVENT_MAX + sizeof piece);
        sse_finish(&sse);
    }
}

/* ---- the list ---- */

static void the_list_is_kept_in_a_private_file(void **state)
{
    (void)state;
    char folder[TEST_FOLDER_MAX], path[TEST_FOLDER_MAX + 16];
    struct upstream_list list = {NULL, 0}, again;
    struct hearth_error err;
    struct stat status;
    test_folder_make(folder);
    snprintf(path, sizeof path, "%s/upstreams.json", folder);
    assert_int_equal(upstream_list_read(path, &list, &err), 0);
    assert_int_equal(list.count, 0);
    static const struct upstream_entry entries[] = {{"a", "http://h/v1", NULL, NULL},
                                                    {"b", "https://h:1/", "m\"m", "/k"}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(upstream_list_add(&list, &entries[i], &err), 0);
    assert_int_equal(upstream_list_add(&list, &entries[1], &err), HEARTH_E_STATE);
    static const struct upstream_entry bad[] = {{"", "http://h", NULL, NULL},
                                                {"a b", "http://h", NULL, NULL},
                                                {"c", "gopher://h", NULL, NULL}};
    for (int i = 0; i < 3; i++)
        assert_int_equal(upstream_list_add(&list, &bad[i], &err), HEARTH_E_ARGUMENT);
    assert_int_equal(upstream_list_write(path, &list, &err), 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(upstream_list_read(path, &again, &err), 0);
    assert_int_equal(again.count, 2);
    assert_null(again.items[0].model);
    assert_string_equal(again.items[1].model, "m\"m");
    assert_string_equal(again.items[1].key_file, "/k");
    assert_int_equal(upstream_list_remove(&again, "a", &err), 0);
    assert_int_equal(upstream_list_remove(&again, "a", &err), HEARTH_E_MISSING);
    assert_string_equal(again.items[0].name, "b");
    upstream_list_finish(&again);
    upstream_list_finish(&list);
    static const char *const files[] = {
        "",
        "[]",
        "{}",
        "{\"upstreams\":[{}]}",
        "{\"upstreams\":[{\"name\":\"a\",\"url\":\"x://\"}]}",
        "{\"upstreams\":[{\"name\":\"a\",\"url\":\"http://a\",\"model\":1}]}",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(os_write_private_file(path, files[i], strlen(files[i]), &err), 0);
        assert_true(upstream_list_read(path, &again, &err) < 0);
    }
    test_folder_remove(folder);
}

static void what_is_in_the_list_is_given_to_the_models(void **state)
{
    struct fixture *fixture = *state;
    char folder[TEST_FOLDER_MAX], path[TEST_FOLDER_MAX + 16], keys[2][TEST_FOLDER_MAX + 16];
    struct upstream_list list = {NULL, 0};
    struct hearth_error err;
    char url[64];
    test_folder_make(folder);
    snprintf(path, sizeof path, "%s/list", folder);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", fixture->server.port);
    for (int i = 0; i < 2; i++)
        snprintf(keys[i], sizeof keys[i], "%s/key%d", folder, i);
    assert_int_equal(os_write_private_file(keys[0], KEY "\n", strlen(KEY) + 1, &err), 0);
    assert_int_equal(os_write_private_file(keys[1], "open", 4, &err), 0);
    assert_int_equal(chmod(keys[1], 0644), 0);
    const struct upstream_entry entries[] = {{"good", url, NULL, keys[0]},
                                             {"leaky", url, NULL, keys[1]},
                                             {"lost", url, NULL, "/nowhere"},
                                             {"taken", url, NULL, NULL},
                                             {"keyless", url, NULL, NULL}};
    for (int i = 0; i < 5; i++)
        assert_int_equal(upstream_list_add(&list, &entries[i], &err), 0);
    assert_int_equal(upstream_list_write(path, &list, &err), 0);
    upstream_list_finish(&list);
    assert_int_equal(upstreams_load(fixture->base, path, NULL, NULL, &err), 0);
    assert_string_equal(added.names, "good keyless ");
    fixture->backend = added.backends[0];
    expect_answer(fixture, STREAM SAY("a") FINISH DONE, "a");
    assert_non_null(strstr(fixture->server.last, "Bearer " KEY "\r\n"));
    assert_non_null(strstr(fixture->server.last, "{\"model\":\"good\""));
    added.backends[1]->calls->destroy(added.backends[1]);
    assert_int_equal(os_write_private_file(path, "{", 1, &err), 0);
    assert_int_equal(upstreams_load(fixture->base, path, NULL, NULL, &err), HEARTH_E_FORMAT);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(upstreams_load(fixture->base, path, NULL, NULL, &err), HEARTH_E_ARGUMENT);
    test_folder_remove(folder);
}

#define OVER_HTTP(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OVER_HTTP(what_it_says_comes_as_an_answer),
        OVER_HTTP(only_what_was_chosen_is_asked_for),
        OVER_HTTP(plain_texts_and_whole_answers),
        OVER_HTTP(logprobs_come_as_tokens),
        OVER_HTTP(ends_without_an_end_are_failures),
        OVER_HTTP(refusals_are_told_in_its_words),
        OVER_HTTP(asks_again_where_nothing_was_begun),
        OVER_HTTP(a_server_that_is_away_is_seen_and_seen_back),
        OVER_HTTP(looks_after_it_while_it_is_used),
        OVER_HTTP(who_leaves_ends_the_connection),
        OVER_HTTP(it_may_be_destroyed_at_any_time),
        OVER_HTTP(who_is_paused_hears_nothing_and_loses_nothing),
        OVER_HTTP(vectors_come_in_their_order),
        OVER_HTTP(what_it_cannot_do_is_said),
        cmocka_unit_test(addresses_are_read_strictly),
        OVER_HTTP(it_drains_and_keeps_to_its_time),
        OVER_HTTP(what_is_in_the_list_is_given_to_the_models),
        cmocka_unit_test(events_do_not_depend_on_how_they_are_cut),
        cmocka_unit_test(an_event_is_bounded),
        cmocka_unit_test(the_list_is_kept_in_a_private_file),
    };
    return cmocka_run_group_tests_name("upstreams", tests, NULL, NULL);
}
