/* Real models: what goes on from a spill, a fork, an edit, another process or nothing at all says
 * the same 32 tokens as what was never put away, bit for bit. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hearth/session.h"
#include "store/store_material.h"

#define TURNS 3
#define TOKENS 32
#define IDS_MAX 2048

struct answer {
    uint32_t ids[IDS_MAX]; /* of the prompt and the answer */
    size_t count, cached;
    enum hearth_miss miss;
    bool ended;
};

struct place {
    struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    struct hearth_store *store;
    char folder[64];
};

/* Between two turns of a conversation. */
enum between { CLEARED, SPILLED, REOPENED, FORKED, EDITED, WAYS };

static void open_place(struct place *place)
{
    const struct hearth_engine_options engine = {.kv_type = HEARTH_KV_Q8_0};
    struct hearth_sessions_options options = {.unix_seconds = 1000000000,
                                              .idle_ns = HEARTH_IDLE_NEVER};
    place->store = store_open(place->folder, (uint64_t)1 << 30);
    options.store = place->store;
    assert_int_equal(hearth_engine_open(place->model, &engine, &place->engine, NULL), 0);
    assert_int_equal(
        hearth_sessions_open(place->model, place->engine, &options, &place->sessions, NULL), 0);
}

static void close_place(struct place *place)
{
    hearth_sessions_close(place->sessions);
    hearth_engine_close(place->engine);
    hearth_store_close(place->store);
}

static struct hearth_session *open_talk(struct place *place)
{
    struct hearth_session *session;
    assert_int_equal(hearth_session_open(place->sessions, "k", &session, NULL), 0);
    return session;
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct answer *answer = context;
    assert_true(result->stop == HEARTH_STOP_LENGTH || result->stop == HEARTH_STOP_END);
    assert_true(result->id_count <= IDS_MAX);
    memcpy(answer->ids, result->ids, result->id_count * sizeof *result->ids);
    answer->count = result->id_count;
    answer->cached = result->cached_tokens;
    answer->miss = result->miss;
    answer->ended = true;
}

static void say(struct hearth_session *session, size_t t)
{
    static const char *const texts[TURNS] = {
        ("Tell me about a lighthouse and the people who kept its lamp burning, in the order in "
         "which they came, with the year and the name of each, as far as they are known to you."),
        "Which of them stayed the longest, and what did the village say about it afterwards?",
        "Write the first lines of a letter that the last keeper sends home."};
    char message[400];
    int size =
        snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%s\"}", texts[t]);
    assert_int_equal(hearth_session_append(session, message, (size_t)size, NULL), 0);
}

static void answer_it(struct place *place, struct hearth_session *session, struct answer *answer)
{
    const struct hearth_sampling greedy = {.temperature = 0.0f,
                                           .top_p = 1.0f,
                                           .typical_p = 1.0f,
                                           .xtc_threshold = 1.0f,
                                           .repeat_penalty = 1.0f};
    const struct hearth_ask ask = {
        .sampling = &greedy, .max_tokens = TOKENS, .on_end = take_end, .context = answer};
    uint64_t wait;
    answer->ended = false;
    assert_int_equal(hearth_session_ask(session, &ask, NULL, NULL), 0);
    while (!answer->ended)
        hearth_sessions_step(place->sessions, &wait);
}

static struct hearth_session *go_between(struct place *place, struct hearth_session *session,
                                         enum between way)
{
    struct hearth_session *fork;
    struct answer other;
    switch (way) {
    case CLEARED:
        hearth_engine_trim(place->engine, UINT64_MAX);
        break;
    case SPILLED:
        assert_true(hearth_sessions_shed(place->sessions, UINT64_MAX) > 0);
        break;
    case REOPENED:
        hearth_session_close(session);
        close_place(place);
        open_place(place);
        return open_talk(place);
    case FORKED:
        hearth_sessions_shed(place->sessions, UINT64_MAX);
        assert_int_equal(
            hearth_session_fork(session, hearth_session_count(session), NULL, &fork, NULL), 0);
        hearth_session_close(session);
        return fork;
    case EDITED: /* another turn is answered, spilled and taken back */
        say(session, 2);
        answer_it(place, session, &other);
        hearth_sessions_shed(place->sessions, UINT64_MAX);
        assert_int_equal(hearth_session_truncate(session, hearth_session_count(session) - 2, NULL),
                         0);
        break;
    case WAYS:
        break;
    }
    return session;
}

static void talk(struct place *place, enum between way, struct answer answers[TURNS])
{
    test_folder_make(place->folder);
    open_place(place);
    struct hearth_session *session = open_talk(place);
    for (size_t t = 0; t < TURNS; t++) {
        if (t > 0)
            session = go_between(place, session, way);
        say(session, t);
        answer_it(place, session, &answers[t]);
    }
    hearth_session_close(session);
    close_place(place);
    test_folder_remove(place->folder);
}

static void compare(const char *file)
{
    static struct answer cold[TURNS], warm[TURNS];
    const char *folder = getenv("HEARTH_MODELS");
    char path[512];
    struct place place = {0};
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "", file);
    if (hearth_model_open(path, NULL, &place.model, NULL))
        skip();
    talk(&place, CLEARED, cold);
    for (int way = 0; way < WAYS; way++) {
        if (way == CLEARED)
            continue;
        talk(&place, (enum between)way, warm);
        for (size_t t = 0; t < TURNS; t++) {
            assert_int_equal(warm[t].count, cold[t].count);
            assert_memory_equal(warm[t].ids, cold[t].ids, cold[t].count * sizeof cold[t].ids[0]);
            if (t == 0)
                continue;
            assert_int_equal(cold[t].cached, 0);
            assert_int_equal(cold[t].miss, HEARTH_MISS_EVICTED);
            size_t known = cold[t - 1].count - 1;
            assert_true(warm[t].cached >= known);
            /* what was taken back began with the same words */
            assert_true(way == EDITED || warm[t].cached == known);
        }
    }
    hearth_model_close(place.model);
}

static void smollm2_goes_on_with_the_same_tokens(void **state)
{
    (void)state;
    compare("SmolLM2-135M-Instruct.Q4_1.gguf");
}

static void gemma3_goes_on_with_the_same_tokens(void **state)
{
    (void)state;
    compare("gemma-3-270m-q4_k_m.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smollm2_goes_on_with_the_same_tokens),
        cmocka_unit_test(gemma3_goes_on_with_the_same_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
