/* How a worker ends: with its daemon at any moment, in order, and at what it cannot understand; and
 * models that it cannot open. */
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

#include "../session/room.h"
#include "base/os.h"
#include "base/random.h"
#include "driver.h"

#define MS UINT64_C(1000000)
#define HELLO "[{\"role\":\"user\",\"content\":\"w1 w2 w3 w4 w5\"}]"

static char model_path[TEST_PATH_MAX];

static void open_worker(struct driver *driver)
{
    struct work_start start = driver_start();
    driver_open_ready(driver, model_path, &start, NULL);
}

static struct work_ask endless(void)
{
    struct work_ask ask = driver_ask(HELLO, 4000);
    ask.ignore_end = true;
    return ask;
}

/* It may load, read a prompt, answer, or wait. */
static void it_ends_with_its_daemon_at_any_moment(void **state)
{
    struct work_start start = driver_start();
    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct driver driver;
        struct work_ask ask = endless();
        driver_open(&driver, model_path, &start, NULL);
        if (i % 3)
            driver_send_ask(&driver, 1, &ask);
        usleep(i * i * 500);
        uint64_t begin = os_monotonic_ns();
        assert_int_equal(driver_close(&driver), 0);
        assert_true(os_monotonic_ns() - begin < 1000 * MS);
    }
}

/* One that was told nothing yet, or half of a message. */
static void it_ends_before_it_begins(void **state)
{
    static const struct text halves[] = {{"", 0}, {"hwmg", 4}};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct driver driver;
        driver_open_bare(&driver);
        driver_send_raw(&driver, halves[i]);
        assert_int_equal(driver_close(&driver), 0);
    }
}

static void it_drains(void **state)
{
    struct driver driver;
    static struct driver_answer answer;
    struct work_ask ask = driver_ask(HELLO, 300);
    bool refused[2] = {false, false};
    (void)state;
    answer = (struct driver_answer){0};
    open_worker(&driver);
    ask.ignore_end = true;
    driver_send_ask(&driver, 1, &ask);
    driver_send(&driver, work_put_empty(&driver.message, WORK_DRAIN, 0, 0));
    driver_send_ask(&driver, 2, &ask);
    driver_send(&driver, work_put_call(&driver.message, 3,
                                       &(struct work_call){TEXT("sessions"), TEXT("{}")}));
    while (driver_receive(&driver)) {
        if (driver_take(&driver, 1, &answer))
            continue;
        struct work_end end;
        assert_true(driver.got.request == 2 || driver.got.request == 3);
        refused[driver.got.request - 2] = true;
        if (driver.got.request == 2)
            assert_true(work_get_end(&driver.got, &end) && end.code == HEARTH_E_STATE);
    }
    assert_true(answer.ended && answer.end.answer_tokens == 300);
    assert_true(refused[0] && refused[1]);
    assert_int_equal(driver_wait(&driver), 0);
}

static void pings_are_answered_while_it_computes(void **state)
{
    struct driver driver;
    static struct driver_answer answer;
    struct work_ask ask = endless();
    (void)state;
    answer = (struct driver_answer){0};
    open_worker(&driver);
    driver_send_ask(&driver, 1, &ask);
    for (uint64_t i = 0; i < 5; i++) {
        driver_send(&driver, work_put_u64(&driver.message, WORK_PING, 0, 100 + i));
        while (driver.pongs <= i) {
            assert_true(driver_try_receive(&driver, 2000 * MS) != -1);
            driver_take(&driver, 1, &answer);
        }
    }
    assert_int_equal(driver.state.running, 1);
    assert_true(driver.state.private_bytes > 0 && driver.state.steps > 0);
    driver_send(&driver, work_put_empty(&driver.message, WORK_CANCEL, 1, 0));
    while (!answer.ended && driver_receive(&driver))
        driver_take(&driver, 1, &answer);
    /* what it takes and did is told when it is done */
    while (driver.state.running > 0)
        assert_int_not_equal(driver_try_receive(&driver, 300 * MS), -1);
    assert_int_equal(driver.state.answer_tokens, answer.end.answer_tokens);
    assert_int_equal(driver_close(&driver), 0);
}

static void orders_are_followed(void **state)
{
    struct driver driver;
    struct driver_answer answer, again;
    struct work_ask ask = driver_ask(HELLO, 20);
    (void)state;
    open_worker(&driver);
    driver_answer(&driver, &ask, &answer);
    driver_send(&driver, work_put_u32(&driver.message, WORK_THREADS, 0, 1));
    driver_send(&driver, work_put_u32(&driver.message, WORK_THREADS, 0, 0));
    driver_send(&driver, work_put_u32(&driver.message, WORK_THREADS, 0, UINT32_MAX));
    driver_send(&driver, work_put_u64(&driver.message, WORK_SHED, 0, UINT64_MAX));
    while (driver.state.kv_bytes > 0 || driver.states == 0)
        assert_int_not_equal(driver_try_receive(&driver, 300 * MS), -1);
    driver_answer(&driver, &ask, &again);
    assert_string_equal(again.text, answer.text);
    assert_int_equal(again.end.cached_tokens, 0);
    assert_int_equal(driver_close(&driver), 0);
}

/* ---- what cannot be understood ---- */

static void put_header_only(struct driver *driver, uint16_t type, size_t payload)
{
    static const char zeros[64];
    size_t begin = message_begin(&driver->message, type, 7, 0);
    buffer_append(&driver->message, zeros, payload);
    driver_send(driver, message_end(&driver->message, begin, WORK_PAYLOAD_MAX));
}

static void malformed_orders_are_the_end(void **state)
{
    static const uint16_t types[] = {WORK_THREADS, WORK_SHED,  WORK_PING, WORK_PAUSE,
                                     WORK_READY,   WORK_START, 0,         60000};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct driver driver;
        open_worker(&driver);
        put_header_only(&driver, types[i], 3);
        assert_int_equal(driver_wait(&driver), 1);
    }
}

static void malformed_requests_are_refused(void **state)
{
    static const uint16_t types[] = {WORK_ASK, WORK_EMBED, WORK_CALL};
    struct driver driver;
    (void)state;
    open_worker(&driver);
    for (size_t i = 0; i < 3; i++) {
        for (size_t size = 0; size < 4; size++) {
            put_header_only(&driver, types[i], size);
            assert_true(driver_receive(&driver));
            assert_int_equal(driver.got.request, 7);
            assert_int_equal(driver.got.type, types[i] == WORK_ASK ? WORK_END : WORK_REPLY);
        }
    }
    struct work_ask ask = endless();
    driver_send_ask(&driver, 1, &ask);
    driver_send_ask(&driver, 1, &ask); /* a number that is taken */
    assert_int_equal(driver_wait(&driver), 1);
}

static void any_bytes_do_no_harm(void **state)
{
    struct random random = random_from_seed(7);
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        struct driver driver;
        char bytes[3000];
        open_worker(&driver);
        for (size_t k = 0; k < sizeof bytes; k++)
            bytes[k] = (char)random_u64(&random);
        if (i % 2) /* a right header, and then anything */
            memcpy(bytes, "hwmg\1\0\x20\0\0\1\0\0\0\0\0\0", 16);
        driver_send_raw(&driver, (struct text){bytes, sizeof bytes});
        int code = driver_wait(&driver);
        assert_int_equal(code, 1);
    }
}

/* ---- files ---- */

static void write_bytes(char path[TEST_PATH_MAX], struct text bytes)
{
    test_temp_file(path);
    test_write_file(path, bytes);
}

static void what_is_no_model_fails_with_its_cause(void **state)
{
    static const bool probes[] = {false, true};
    char path[TEST_PATH_MAX];
    (void)state;
    write_bytes(path, TEXT("this is no model"));
    for (size_t i = 0; i < 2; i++) {
        struct work_start start = driver_start();
        struct driver driver;
        struct message_reader reader;
        struct text cause;
        int code;
        start.probe = probes[i];
        driver_open(&driver, path, &start, NULL);
        assert_true(driver_receive(&driver));
        assert_int_equal(driver.got.type, WORK_FAILED);
        assert_true(work_get_reply(&driver.got, &reader, &code, &cause));
        assert_int_equal(code, HEARTH_E_FORMAT);
        assert_true(cause.size > 10);
        assert_int_equal(driver_wait(&driver), 1);
    }
    remove(path);
}

static void a_probe_says_what_it_does_not_support(void **state)
{
    struct work_start start = driver_start();
    struct gguf_writer writer;
    struct driver driver;
    char path[TEST_PATH_MAX];
    (void)state;
    gguf_writer_init(&writer);
    gguf_writer_string(&writer, "general.architecture", "mamba9");
    gguf_writer_string(&writer, "general.name", "Snake");
    gguf_writer_u32(&writer, "general.file_type", 15);
    gguf_writer_tensor(&writer, "token_embd.weight", 0, 2, (const uint64_t[]){32, 2}, NULL);
    write_bytes(path, gguf_writer_bytes(&writer));
    gguf_writer_finish(&writer);
    start.probe = true;
    driver_open_ready(&driver, path, &start, NULL);
    json_t *ready = json_loads(driver.ready, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(ready, "architecture")), "mamba9");
    assert_string_equal(json_string_value(json_object_get(ready, "name")), "Snake");
    assert_string_equal(json_string_value(json_object_get(ready, "quantization")), "Q4_K_M");
    assert_non_null(strstr(json_string_value(json_object_get(ready, "unsupported")), "mamba9"));
    json_decref(ready);
    assert_int_equal(driver_wait(&driver), 0);
    remove(path);
}

static int set_up(void **state)
{
    write_model(0, model_path);
    return set_up_models(state);
}

static int tear_down(void **state)
{
    remove(model_path);
    return tear_down_models(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_ends_with_its_daemon_at_any_moment),
        cmocka_unit_test(it_ends_before_it_begins),
        cmocka_unit_test(it_drains),
        cmocka_unit_test(pings_are_answered_while_it_computes),
        cmocka_unit_test(orders_are_followed),
        cmocka_unit_test(malformed_orders_are_the_end),
        cmocka_unit_test(malformed_requests_are_refused),
        cmocka_unit_test(any_bytes_do_no_harm),
        cmocka_unit_test(what_is_no_model_fails_with_its_cause),
        cmocka_unit_test(a_probe_says_what_it_does_not_support),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
