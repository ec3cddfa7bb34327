/* A foreign server as a backend: HEARTH_UPSTREAM_URL names one that has the model SmolLM2-135M
 * (foreign.sh starts llama-server so). */
#define _GNU_SOURCE
#include "server/upstream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include <cmocka.h>

#include "base/os.h"
#include "server/generation.h"

#define SECOND UINT64_C(1000000000)

struct heard {
    struct event_base *base;
    struct backend *backend;
    struct backend_job *job;
    unsigned texts, leave_after;
    char text[16384];
    struct work_end end;
    char cause[HEARTH_ERROR_TEXT_MAX];
    unsigned tokens;
    double logprobs; /* their sum */
    struct work_vectors vectors;
    bool over;
};

static void on_text(void *context, const struct work_text *work, struct text reasoning,
                    struct message_reader *tokens)
{
    struct heard *heard = context;
    struct work_token token, top[HEARTH_TOP_TOKENS_MAX];
    uint32_t top_count;
    size_t at = strlen(heard->text);
    (void)reasoning;
    heard->texts++;
    assert_true(at + work->text.size < sizeof heard->text);
    memcpy(heard->text + at, work->text.data, work->text.size);
    for (uint32_t i = 0; i < work->count; i++) {
        assert_true(work_text_token(tokens, &token, top, &top_count));
        assert_true(top_count == 0 || top[0].logprob <= 0);
        heard->logprobs += token.logprob;
        heard->tokens++;
    }
    if (heard->leave_after && heard->texts >= heard->leave_after) {
        heard->backend->calls->abandon(heard->backend, heard->job);
        event_base_loopbreak(heard->base);
    }
}

static void on_end(void *context, const struct work_end *end)
{
    struct heard *heard = context;
    heard->end = *end;
    heard->over = true;
    snprintf(heard->cause, sizeof heard->cause, "%.*s", (int)end->cause.size,
             end->cause.data ? end->cause.data : "");
    event_base_loopbreak(heard->base);
}

static void on_reply(void *context, int code, struct text cause, struct message_reader *reply)
{
    struct heard *heard = context;
    heard->over = true;
    snprintf(heard->cause, sizeof heard->cause, "%.*s", (int)cause.size, cause.data);
    if (code == 0)
        assert_true(work_get_vectors(reply, &heard->vectors));
    event_base_loopbreak(heard->base);
}

static struct event_base *base;
static struct backend *backend;

static struct backend_listener listener_of(struct heard *heard)
{
    heard->base = base;
    heard->backend = backend;
    return (struct backend_listener){
        .on_text = on_text, .on_end = on_end, .on_reply = on_reply, .context = heard};
}

static struct work_ask greedy(void)
{
    struct work_ask ask = {
        .messages = TEXT("[{\"role\":\"user\",\"content\":\"Name three colours.\"}]"),
        .sampling = generation_sampling_default,
        .max_tokens = 24,
    };
    ask.sampling.temperature = 0;
    return ask;
}

static void wait_for(struct heard *heard, const struct work_ask *ask)
{
    const struct timeval most = {60, 0};
    const struct backend_listener listener = listener_of(heard);
    struct hearth_error err;
    if (backend->calls->ask(backend, ask, &listener, &heard->job, &err))
        fail_msg("%s", err.text);
    event_base_loopexit(base, &most);
    event_base_dispatch(base);
}

static void it_answers(void **state)
{
    (void)state;
    struct heard first = {0}, second = {0};
    struct work_ask ask = greedy();
    wait_for(&first, &ask);
    assert_true(first.over);
    assert_string_equal(first.cause, "");
    assert_true(strlen(first.text) > 10);
    assert_true(first.texts > 3); /* it streamed */
    assert_true(first.end.prompt_tokens > 5 && first.end.answer_tokens > 3);
    assert_int_equal(first.end.stop,
                     first.end.answer_tokens == 24 ? HEARTH_STOP_LENGTH : HEARTH_STOP_END);
    ask.logprobs = true;
    ask.top_tokens = 3;
    wait_for(&second, &ask);
    assert_string_equal(second.text, first.text);
    assert_true(second.tokens >= second.texts && second.logprobs < 0);
    assert_true(second.end.cached_tokens > 0); /* it tells what it knew */
}

static void stops_and_plain_texts(void **state)
{
    (void)state;
    struct heard stopped = {0}, plain = {0};
    struct work_ask ask = greedy();
    ask.messages = TEXT("[{\"role\":\"user\",\"content\":\"One, two, three,\"}]");
    ask.settings_given = ask.settings.plain = true;
    wait_for(&plain, &ask);
    assert_string_equal(plain.cause, "");
    assert_non_null(strstr(plain.text, "four"));
    ask.stops[0] = TEXT("four");
    ask.stop_count = 1;
    wait_for(&stopped, &ask);
    assert_null(strstr(stopped.text, "four"));
    assert_int_equal(stopped.end.stop, HEARTH_STOP_END); /* it does not say which */
}

static void its_refusals_are_told(void **state)
{
    (void)state;
    struct heard heard = {0};
    struct work_ask ask = greedy();
    ask.messages = TEXT("[{\"role\":7}]");
    wait_for(&heard, &ask);
    assert_true(heard.over && heard.end.stop == HEARTH_STOP_ERROR);
    assert_non_null(strstr(heard.cause, "the server of 'far' refuses (status "));
}

static void who_leaves_is_gone_for_it_too(void **state)
{
    (void)state;
    struct heard gone = {.leave_after = 3}, next = {0};
    struct work_ask ask = greedy();
    ask.max_tokens = 2000;
    ask.ignore_end = true;
    wait_for(&gone, &ask);
    assert_int_equal(gone.texts, 3);
    assert_false(gone.over);
    uint64_t begin = os_monotonic_ns();
    ask = greedy(); /* it has one slot: this would wait for the 2,000 tokens */
    ask.max_tokens = 1;
    wait_for(&next, &ask);
    assert_true(next.over);
    assert_true(os_monotonic_ns() - begin < 5 * SECOND);
}

static void it_embeds(void **state)
{
    (void)state;
    const struct work_embed embed = {.inputs = TEXT("[\"one\",\"two words\"]")};
    const struct timeval most = {60, 0};
    struct heard heard = {0};
    const struct backend_listener listener = listener_of(&heard);
    assert_int_equal(backend->calls->embed(backend, &embed, &listener, &heard.job, NULL), 0);
    event_base_loopexit(base, &most);
    event_base_dispatch(base);
    assert_true(heard.over);
    if (heard.vectors.count == 0) /* it wants to be started for that */
        assert_non_null(strstr(heard.cause, "the server of 'far' refuses (status "));
    else
        assert_int_equal(heard.vectors.dimensions, 576);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_answers),
        cmocka_unit_test(stops_and_plain_texts),
        cmocka_unit_test(its_refusals_are_told),
        cmocka_unit_test(who_leaves_is_gone_for_it_too),
        cmocka_unit_test(it_embeds),
    };
    const struct backend_owner nobody = {0};
    struct hearth_error err;
    const struct upstream_options options = {
        .name = "far", .url = getenv("HEARTH_UPSTREAM_URL"), .model = "SmolLM2-135M"};
    if (!options.url) {
        printf("skipped: HEARTH_UPSTREAM_URL names no server\n");
        return 77;
    }
    base = event_base_new();
    if (upstream_create(base, &options, nobody, &backend, &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("a foreign server", tests, NULL, NULL);
    backend->calls->destroy(backend);
    event_base_free(base);
    return failed;
}
