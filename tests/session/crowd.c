/* More conversations than the memory has room for: a process with a real model stays within what it
 * was given, each goes on where it was, and when all rest next to nothing is left. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_store.h"
#include "hearth/session.h"
#include "support/process.h"

#define CONVERSATIONS 200
#define RESTING_BYTES_MAX UINT64_C(40000000)

struct crowd {
    struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    struct hearth_session *list[CONVERSATIONS];
    struct fake_store fake;
    uint64_t private_max, private_most;
    uint64_t now;
    size_t ended, evicted;
};

static uint64_t read_clock(void *context)
{
    struct crowd *crowd = context;
    return crowd->now += 1000;
}

static void take_end(void *context, const struct hearth_result *result)
{
    struct crowd *crowd = context;
    if (result->stop == HEARTH_STOP_ERROR)
        fail_msg("%s", result->error.text);
    crowd->ended++;
    crowd->evicted += result->miss == HEARTH_MISS_EVICTED;
}

static uint64_t step(struct crowd *crowd)
{
    struct hearth_memory memory;
    uint64_t wait;
    hearth_sessions_step(crowd->sessions, &wait);
    assert_int_equal(hearth_process_memory(&memory), 0);
    if (memory.private_bytes > crowd->private_most)
        crowd->private_most = memory.private_bytes;
    assert_true(memory.private_bytes <= crowd->private_max);
    return wait;
}

/* Each is asked, several at a time. */
static void ask_all(struct crowd *crowd, size_t turn)
{
    const struct hearth_ask ask = {.max_tokens = 3, .on_end = take_end, .context = crowd};
    char message[128];
    size_t asked = crowd->ended;
    for (size_t i = 0; i < CONVERSATIONS; i++) {
        int size = snprintf(message, sizeof message,
                            "{\"role\": \"user\", \"content\": \"%zu. What is %zu plus %zu?\"}",
                            turn, i, 7 * i + 3);
        assert_int_equal(hearth_session_append(crowd->list[i], message, (size_t)size, NULL), 0);
        assert_int_equal(hearth_session_ask(crowd->list[i], &ask, NULL, NULL), 0);
        asked++;
        while (asked - crowd->ended >= 8)
            step(crowd);
    }
    while (crowd->ended < asked)
        step(crowd);
}

static void rest(struct crowd *crowd)
{
    struct hearth_memory memory;
    struct hearth_sessions_state state;
    crowd->now += UINT64_C(600) * 1000000000;
    for (uint64_t wait = 0; wait != HEARTH_IDLE_NEVER; wait = step(crowd))
        crowd->now += wait;
    hearth_sessions_state(crowd->sessions, &state);
    assert_int_equal(state.memory.kv_bytes, 0);
    assert_int_equal(hearth_process_memory(&memory), 0);
    print_message("at most %.1f MB of %.1f; resting %.1f MB\n", (double)crowd->private_most / 1e6,
                  (double)crowd->private_max / 1e6, (double)memory.private_bytes / 1e6);
    assert_true(memory.private_bytes < RESTING_BYTES_MAX);
}

static void a_crowd_stays_within_its_memory(void **state)
{
    (void)state;
    const char *folder = getenv("HEARTH_MODELS"), *large = getenv("HEARTH_LARGE_MODEL");
    char path[512];
    struct crowd crowd = {.private_max = large ? 200000000 : 80000000};
    struct hearth_model_info info;
    snprintf(path, sizeof path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf", folder ? folder : "");
    if (SANITIZED || hearth_model_open(large ? large : path, NULL, &crowd.model, NULL))
        skip();
    hearth_model_info(crowd.model, &info);
    fake_store_init(&crowd.fake);
    struct hearth_engine_options engine = {.memory_max = info.file_bytes + crowd.private_max,
                                           .context = 512};
    struct hearth_sessions_options options = {
        .store = crowd.fake.store, .now = read_clock, .clock_context = &crowd};
    assert_int_equal(hearth_engine_open(crowd.model, &engine, &crowd.engine, NULL), 0);
    assert_int_equal(
        hearth_sessions_open(crowd.model, crowd.engine, &options, &crowd.sessions, NULL), 0);
    for (size_t i = 0; i < CONVERSATIONS; i++)
        assert_int_equal(hearth_session_open(crowd.sessions, NULL, &crowd.list[i], NULL), 0);
    ask_all(&crowd, 1);
    assert_true(crowd.private_most > crowd.private_max / 2);
    rest(&crowd);
    ask_all(&crowd, 2);
    assert_int_equal(crowd.ended, 2 * CONVERSATIONS);
    assert_int_equal(crowd.evicted, 0); /* each from its spill */
    rest(&crowd);
    for (size_t i = 0; i < CONVERSATIONS; i++)
        hearth_session_close(crowd.list[i]);
    hearth_sessions_close(crowd.sessions);
    hearth_engine_close(crowd.engine);
    hearth_model_close(crowd.model);
    fake_store_finish(&crowd.fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_crowd_stays_within_its_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
