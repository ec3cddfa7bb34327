/* A worker with a real model: a client that leaves in the middle of a long prompt, a dialogue whose
 * history comes again each time, and probabilities. HEARTH_LARGE_MODEL names another model. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/os.h"
#include "driver.h"

#define MS UINT64_C(1000000)
#define LONG_WORDS 6000
#define ROUNDS 5

static char model_path[1024];

static void open_worker(struct driver *driver)
{
    struct work_start start = driver_start();
    if (!model_path[0])
        skip();
    start.engine.threads = 0;
    start.engine.context = 8192;
    start.engine.memory_max = HEARTH_MEMORY_UNLIMITED;
    driver_open_ready(driver, model_path, &start, NULL);
}

/* Of more tokens than any machine reads in a second; each number's is another one. */
static char *long_prompt(unsigned number)
{
    size_t size = 0, room = LONG_WORDS * 12 + 200;
    char *text = malloc(room);
    size += (size_t)snprintf(text, room, "[{\"role\":\"user\",\"content\":\"%u", number);
    for (unsigned i = 0; i < LONG_WORDS; i++)
        size += (size_t)snprintf(
            text + size, room - size, " %s",
            (const char *[]){"river", "stone", "lamp", "cloud"}[(i * i + number) % 4]);
    snprintf(text + size, room - size, "\"}]");
    return text;
}

/* Whether the answer ends in time after a cancel; the time between. */
static uint64_t cancel_in_prompt(struct driver *driver, unsigned number)
{
    static struct driver_answer answer;
    char *prompt = long_prompt(number);
    struct work_ask ask = driver_ask(prompt, 10);
    answer = (struct driver_answer){0};
    driver_send_ask(driver, 100 + number, &ask);
    while (!answer.begun) {
        assert_true(driver_receive(driver));
        assert_true(driver_take(driver, 100 + number, &answer));
    }
    usleep(100000 + 37000 * number); /* somewhere in a step */
    uint64_t begin = os_monotonic_ns();
    driver_send(driver, work_put_empty(&driver->message, WORK_CANCEL, 100 + number, 0));
    while (!answer.ended) {
        assert_true(driver_receive(driver));
        assert_true(driver_take(driver, 100 + number, &answer));
    }
    uint64_t took = os_monotonic_ns() - begin;
    assert_int_equal(answer.end.stop, HEARTH_STOP_CANCELLED);
    assert_int_equal(answer.end.answer_tokens, 0);
    free(prompt);
    return took;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void who_leaves_in_a_prompt_stops_it(void **state)
{
    struct driver driver;
    uint64_t took[ROUNDS];
    (void)state;
    open_worker(&driver);
    for (unsigned i = 0; i < ROUNDS; i++)
        took[i] = cancel_in_prompt(&driver, i);
    qsort(took, ROUNDS, sizeof *took, compare);
    print_message("cancelled in %.1f ms, at most %.1f\n", (double)took[ROUNDS / 2] / 1e6,
                  (double)took[ROUNDS - 1] / 1e6);
    assert_true(took[ROUNDS / 2] < 200 * MS);
    assert_int_equal(driver_close(&driver), 0);
}

static void add(json_t *messages, const char *role, const char *text)
{
    json_array_append_new(messages, json_pack("{s:s, s:s}", "role", role, "content", text));
}

/* What a client has of an answer: without the spaces at its ends. */
static void say(struct driver *driver, json_t *messages, const char *text,
                struct driver_answer *answer)
{
    add(messages, "user", text);
    char *json = json_dumps(messages, JSON_COMPACT);
    struct work_ask ask = driver_ask(json, 24);
    ask.logprobs = true;
    ask.top_tokens = 5;
    driver_answer(driver, &ask, answer);
    assert_int_equal(answer->end.code, 0);
    assert_int_equal(answer->tokens_named, answer->end.answer_tokens);
    free(json);
    char *begin = answer->text + strspn(answer->text, " \n"), *end = begin + strlen(begin);
    while (end > begin && strchr(" \n", end[-1]))
        end--;
    *end = '\0';
    add(messages, "assistant", begin);
}

static void each_turn_computes_only_what_came(void **state)
{
    static struct driver_answer answer;
    struct driver driver;
    json_t *messages = json_array();
    uint64_t before;
    (void)state;
    open_worker(&driver);
    add(messages, "system", "You answer in one short sentence.");
    say(&driver, messages, "What is the capital of France?", &answer);
    before = answer.end.prompt_tokens + answer.end.answer_tokens;
    for (unsigned i = 0; i < 3; i++) {
        say(&driver, messages, "And of another country?", &answer);
        assert_int_equal(answer.end.miss, HEARTH_MISS_NOTHING);
        assert_true(answer.end.cached_tokens + 2 >= before);
        before = answer.end.prompt_tokens + answer.end.answer_tokens;
    }
    json_decref(messages);
    assert_int_equal(driver_close(&driver), 0);
}

static int set_up(void **state)
{
    const char *folder = getenv("HEARTH_MODELS"), *large = getenv("HEARTH_LARGE_MODEL");
    (void)state;
    if (large)
        snprintf(model_path, sizeof model_path, "%s", large);
    else
        snprintf(model_path, sizeof model_path, "%s/SmolLM2-135M-Instruct.Q4_1.gguf",
                 folder ? folder : "");
    if (access(model_path, R_OK) != 0)
        model_path[0] = '\0';
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_leaves_in_a_prompt_stops_it),
        cmocka_unit_test(each_turn_computes_only_what_came),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
