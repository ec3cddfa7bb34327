/* What a request is told of besides its text: its prompt, each token drawn with its probabilities,
 * and which stop string ended it. And answers that nothing ends but their length. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hearth/session.h"
#include "room.h"

#define TOLD_MAX 256
#define REPEATS "abcdefghabcdefghabcdefghabcdefghabcdefgh"
#define END_ID (VOCABULARY - 1)

struct told {
    struct hearth_request *request;
    size_t begun;
    char prompt[1024];
    size_t prompt_tokens, cached_tokens;
    size_t tokens;
    uint32_t ids[TOLD_MAX];
    float logprobs[TOLD_MAX];
    uint32_t top_ids[TOLD_MAX][HEARTH_TOP_TOKENS_MAX];
    float top_logprobs[TOLD_MAX][HEARTH_TOP_TOKENS_MAX];
    size_t tops[TOLD_MAX];
    char bytes[2048]; /* of all tokens but the one that ends the answer */
    char text[2048];
    char stop_string[64];
    uint32_t all_ids[1024];
    struct hearth_result result;
    size_t cancel_at; /* tokens; 0: never */
};

static void take_begin(void *context, const struct hearth_prompt *prompt)
{
    struct told *told = context;
    assert_int_equal(strlen(prompt->text), prompt->size);
    assert_int_equal(told->tokens, 0);
    snprintf(told->prompt, sizeof told->prompt, "%s", prompt->text);
    told->prompt_tokens = prompt->tokens;
    told->cached_tokens = prompt->cached_tokens;
    told->begun++;
}

static void take_token(void *context, const struct hearth_drawn *drawn)
{
    struct told *told = context;
    size_t at = told->tokens++;
    assert_int_equal(told->begun, 1);
    assert_true(at < TOLD_MAX && drawn->top_count <= HEARTH_TOP_TOKENS_MAX);
    told->ids[at] = drawn->token.id;
    told->logprobs[at] = drawn->token.logprob;
    told->tops[at] = drawn->top_count;
    for (size_t i = 0; i < drawn->top_count; i++) {
        told->top_ids[at][i] = drawn->top[i].id;
        told->top_logprobs[at][i] = drawn->top[i].logprob;
        assert_int_equal(strlen(drawn->top[i].text), drawn->top[i].size);
    }
    if (drawn->token.id == END_ID)
        assert_string_equal(drawn->token.text, "w95"); /* spelled out */
    else if (drawn->token.id < VOCABULARY - 2)
        strcat(told->bytes, drawn->token.text);
    assert_true(strlen(told->text) < strlen(told->bytes) || drawn->token.id >= VOCABULARY - 2);
    if (told->tokens == told->cancel_at)
        hearth_request_cancel(told->request);
}

static void take_text(void *context, const char *text, size_t size)
{
    struct told *told = context;
    size_t length = strlen(told->text);
    assert_true(length + size < sizeof told->text);
    memcpy(told->text + length, text, size);
    told->text[length + size] = '\0';
    assert_true(length + size <= strlen(told->bytes)); /* tokens come first */
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct told *told = context;
    told->result = *result;
    assert_true(result->id_count <= 1024);
    memcpy(told->all_ids, result->ids, result->id_count * sizeof told->all_ids[0]);
    if (result->stop_string)
        snprintf(told->stop_string, sizeof told->stop_string, "%s", result->stop_string);
    told->result.stop_string = result->stop_string ? told->stop_string : NULL;
}

static struct hearth_ask ask_telling(struct told *told, const struct hearth_sampling *sampling)
{
    return (struct hearth_ask){
        .sampling = sampling,
        .max_tokens = 60,
        .logprobs = true,
        .top_tokens = 5,
        .on_begin = take_begin,
        .on_token = take_token,
        .on_text = take_text,
        .on_end = take_end,
        .context = told,
    };
}

static void answer(struct room *room, struct hearth_session *session, struct hearth_ask what)
{
    struct told *told = what.context;
    struct hearth_error err;
    if (hearth_session_ask(session, &what, &told->request, &err))
        fail_msg("%s", err.text);
    run(room);
    assert_int_equal(told->begun, 1);
}

/* ---- probabilities ---- */

/* The logits of each position of some ids, computed by an engine of its own. */
static float *logits_of(size_t m, const uint32_t *ids, size_t count)
{
    struct hearth_engine_options options = {.threads = 1, .kv_type = HEARTH_KV_Q8_0};
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    float *all = malloc(count * VOCABULARY * sizeof *all);
    assert_non_null(all);
    assert_int_equal(hearth_engine_open(models[m], &options, &engine, NULL), 0);
    assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(hearth_sequence_extend(sequence, ids + i, 1, HEARTH_LOGITS_ALL, NULL), 0);
        assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
        memcpy(all + i * VOCABULARY, hearth_sequence_logits(sequence, 0), VOCABULARY * sizeof *all);
    }
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    return all;
}

static double log_softmax(const float *logits, uint32_t id)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < VOCABULARY; i++)
        sum += exp((double)logits[i] - (double)logits[id]);
    return -log(sum);
}

static void assert_probabilities(size_t m, const struct told *told)
{
    const struct hearth_result *result = &told->result;
    size_t prompt = result->prompt_tokens;
    assert_int_equal(told->tokens, result->id_count - prompt);
    assert_memory_equal(told->ids, told->all_ids + prompt, told->tokens * sizeof told->ids[0]);
    float *all = logits_of(m, told->all_ids, result->id_count);
    for (size_t t = 0; t < told->tokens; t++) {
        const float *logits = all + (prompt + t - 1) * VOCABULARY;
        assert_true(fabs((double)told->logprobs[t] - log_softmax(logits, told->ids[t])) < 1e-5);
        assert_int_equal(told->tops[t], 5);
        float least = INFINITY;
        for (size_t i = 0; i < 5; i++) {
            uint32_t id = told->top_ids[t][i];
            assert_true(fabs((double)told->top_logprobs[t][i] - log_softmax(logits, id)) < 1e-5);
            assert_true(logits[id] <= least);
            least = logits[id];
        }
        size_t better = 0;
        for (uint32_t id = 0; id < VOCABULARY; id++)
            better += logits[id] > least;
        assert_true(better < 5);
    }
    free(all);
}

static void each_token_comes_with_its_own_probabilities(void **state)
{
    (void)state;
    uint64_t accepted = 0;
    for (size_t m = 0; m < 2; m++) {
        for (int way = 0; way < 6; way++) {
            struct room room = {0};
            struct hearth_sampling sampling;
            hearth_sampling_default(&sampling);
            sampling.seed = 7;
            sampling.temperature = way % 3 == 0 ? 0.0f : way % 3 == 1 ? 0.5f : 1.2f;
            sampling.repeat_penalty = way % 3 == 2 ? 1.3f : 1.0f; /* the model's own are told */
            open_room(&room, m, 0, 0);
            struct hearth_session *session = open_session(&room, NULL);
            say(session, REPEATS);
            struct told told = {0};
            struct hearth_ask what = ask_telling(&told, &sampling);
            what.no_speculation = way >= 3;
            what.ignore_end = way % 2;
            what.max_tokens = 150;
            answer(&room, session, what);
            assert_int_equal(told.prompt_tokens, told.result.prompt_tokens);
            assert_string_equal(told.bytes, told.text);
            assert_probabilities(m, &told);
            assert_true(way < 3 || told.result.accepted == 0);
            accepted += told.result.accepted;
            hearth_session_close(session);
            close_room(&room);
        }
    }
    assert_true(accepted > 30);
}

static void a_token_has_its_own_bytes(void **state)
{
    (void)state;
    static const struct {
        uint32_t id;
        const char *bytes;
    } tokens[] = {{0, "AB"}, {5, "&"}, {VOCABULARY - 2, "w94"}, {END_ID, "w95"}};
    char *bytes = NULL;
    size_t size;
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        assert_int_equal(hearth_token_bytes(models[0], tokens[i].id, &bytes, &size, NULL), 0);
        assert_string_equal(bytes, tokens[i].bytes);
        assert_int_equal(size, strlen(bytes));
        hearth_free(bytes);
    }
    assert_int_equal(hearth_token_bytes(models[0], VOCABULARY, &bytes, &size, NULL),
                     HEARTH_E_ARGUMENT);
}

static void without_probabilities_tokens_are_told_alone(void **state)
{
    (void)state;
    struct room room = {0};
    struct told told = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    say(session, "hello");
    struct hearth_ask what = ask_telling(&told, NULL);
    what.logprobs = false;
    answer(&room, session, what);
    assert_true(told.tokens > 0);
    for (size_t t = 0; t < told.tokens; t++) {
        assert_int_equal(told.tops[t], 0);
        assert_true(told.logprobs[t] == 0.0f);
    }
    what.top_tokens = HEARTH_TOP_TOKENS_MAX + 1;
    assert_int_equal(hearth_session_ask(session, &what, NULL, NULL), HEARTH_E_ARGUMENT);
    what = (struct hearth_ask){.max_tokens = 5}; /* nobody listens */
    assert_int_equal(hearth_session_ask(session, &what, NULL, NULL), 0);
    run(&room);
    assert_int_equal(hearth_session_count(session), 3);
    hearth_session_close(session);
    close_room(&room);
}

static void who_cancels_at_a_token_gets_no_other(void **state)
{
    (void)state;
    for (size_t at = 1; at < 20; at++) {
        struct room room = {0};
        struct told told = {.cancel_at = at};
        struct hearth_sampling sampling;
        hearth_sampling_default(&sampling);
        sampling.temperature = 0.0f;
        open_room(&room, 0, 0, 0);
        struct hearth_session *session = open_session(&room, NULL);
        say(session, REPEATS);
        struct hearth_ask what = ask_telling(&told, &sampling);
        what.ignore_end = true;
        answer(&room, session, what);
        assert_int_equal(told.tokens, at);
        assert_int_equal(told.result.stop, HEARTH_STOP_CANCELLED);
        assert_int_equal(told.result.answer_tokens, at);
        hearth_session_close(session);
        close_room(&room);
    }
}

/* ---- the prompt ---- */

static void the_prompt_is_told_once_with_what_is_known_of_it(void **state)
{
    (void)state;
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    size_t known = 0;
    for (int t = 0; t < 3; t++) {
        struct told told = {0};
        uint32_t *ids;
        size_t count;
        say(session, "hello");
        struct hearth_ask what = ask_telling(&told, NULL);
        what.max_tokens = 8;
        answer(&room, session, what);
        assert_int_equal(told.prompt_tokens, told.result.prompt_tokens);
        assert_int_equal(told.cached_tokens, told.result.cached_tokens);
        assert_true(t == 0 || told.cached_tokens >= known);
        assert_int_equal(hearth_tokenize(models[0], told.prompt, strlen(told.prompt),
                                         HEARTH_PARSE_SPECIAL, &ids, &count, NULL),
                         0);
        assert_true(strstr(told.prompt, "user>hello") && count > 0);
        assert_int_equal(ids[0], told.all_ids[0]);
        if (t == 0) {
            assert_int_equal(count, told.prompt_tokens);
            assert_memory_equal(ids, told.all_ids, count * sizeof *ids);
        }
        hearth_free(ids);
        known = told.prompt_tokens;
    }
    hearth_session_close(session);
    close_room(&room);
}

/* ---- what ends an answer ---- */

static void what_ends_an_answer_is_never_drawn_when_it_is_ignored(void **state)
{
    (void)state;
    static const struct hearth_logit_bias wanted[] = {{END_ID, 50.0f}, {3, 1.0f}};
    for (int way = 0; way < 8; way++) {
        struct room room = {0};
        struct hearth_sampling sampling;
        hearth_sampling_default(&sampling);
        sampling.seed = (uint64_t)way;
        sampling.temperature = way % 2 ? 1.5f : 0.0f;
        sampling.mirostat = way & 2 ? 2 : 0;
        sampling.bias = wanted;
        sampling.bias_count = 2;
        open_room(&room, way & 4 ? 1 : 0, 0, 0);
        for (int ignored = 0; ignored < 2; ignored++) {
            struct hearth_session *session = open_session(&room, NULL);
            struct told told = {0};
            struct hearth_ask what = ask_telling(&told, &sampling);
            what.ignore_end = ignored;
            what.max_tokens = 100;
            say(session, REPEATS);
            answer(&room, session, what);
            assert_int_equal(told.result.stop, ignored ? HEARTH_STOP_LENGTH : HEARTH_STOP_END);
            assert_int_equal(told.tokens, ignored ? 100 : told.result.answer_tokens + 1);
            for (size_t t = 0; t < told.tokens; t++)
                assert_int_equal(hearth_is_end(models[0], told.ids[t]),
                                 !ignored && t + 1 == told.tokens);
            hearth_session_close(session);
        }
        close_room(&room);
    }
}

static void the_result_names_the_stop_string(void **state)
{
    (void)state;
    struct room room = {0};
    struct told whole = {0};
    struct hearth_sampling sampling;
    hearth_sampling_default(&sampling);
    sampling.temperature = 0.0f;
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    say(session, REPEATS);
    struct hearth_ask what = ask_telling(&whole, &sampling);
    what.ignore_end = true;
    answer(&room, session, what);
    assert_null(whole.result.stop_string);
    char late[4], early[4], never[] = "no such text";
    snprintf(late, sizeof late, "%.3s", whole.text + 20);
    snprintf(early, sizeof early, "%.3s", whole.text + 2);
    const char *stops[] = {never, late, early};
    for (size_t given = 2; given < 4; given++) {
        struct told told = {0};
        assert_int_equal(hearth_session_truncate(session, 1, NULL), 0);
        what.context = &told;
        what.stop = stops;
        what.stop_count = given;
        answer(&room, session, what);
        assert_int_equal(told.result.stop, HEARTH_STOP_STRING);
        assert_string_equal(told.result.stop_string, stops[given - 1]);
    }
    hearth_session_close(session);
    close_room(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_token_comes_with_its_own_probabilities),
        cmocka_unit_test(a_token_has_its_own_bytes),
        cmocka_unit_test(without_probabilities_tokens_are_told_alone),
        cmocka_unit_test(who_cancels_at_a_token_gets_no_other),
        cmocka_unit_test(the_prompt_is_told_once_with_what_is_known_of_it),
        cmocka_unit_test(what_ends_an_answer_is_never_drawn_when_it_is_ignored),
        cmocka_unit_test(the_result_names_the_stop_string),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
