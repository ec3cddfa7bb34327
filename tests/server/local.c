/* Worker processes as the daemon sees them: what it asks of them comes back or ends with a cause,
 * whatever they do, and nothing of them stays behind. The workers are fake_worker.c. */
#define _GNU_SOURCE
#include "workshop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/os.h"
#include "hearth/session.h"
#include "session/store.h"

#define MODEL_BYTES 20000

static struct local_options options_for(struct workshop *f, const char *how)
{
    struct local_options options = workshop_options(f, FAKE_WORKER);
    options.start.chat_template = text_of(how);
    assert_int_equal(ftruncate(f->model, 0), 0); /* where workers remember */
    assert_int_equal(ftruncate(f->model, MODEL_BYTES), 0);
    return options;
}

static void start(struct workshop *f, const char *how)
{
    struct local_options options = options_for(f, how);
    start_with(f, &options);
}

static int try_ask_in(struct workshop *f, struct heard *heard, const char *session, const char *how,
                      struct hearth_error *err)
{
    const struct work_ask ask = {.session = text_of(session), .messages = text_of(how)};
    return try_ask(f, heard, &ask, err);
}

static void ask_in(struct workshop *f, struct heard *heard, const char *session, const char *how)
{
    struct hearth_error err;
    if (try_ask_in(f, heard, session, how, &err))
        fail_msg("%s", err.text);
}

static void ask(struct workshop *f, struct heard *heard, const char *how)
{
    ask_in(f, heard, "", how);
}

/* A request that is answered as it should be. */
static void assert_answers(struct workshop *f)
{
    struct heard heard;
    ask(f, &heard, "say 2");
    run_until(f, has_ended, &heard);
    assert_string_equal(heard.text, "w\xc3\xb6rd w\xc3\xb6rd ");
    assert_int_equal(heard.code, 0);
}

/* ---- a life without trouble ---- */

static void loads_and_answers(void **state)
{
    struct workshop *f = *state;
    struct heard before, after;
    start(f, "slowly");
    assert_int_equal(f->backend->state, BACKEND_LOADING);
    assert_true(f->backend->process > 0);
    ask(f, &before, "say 3");
    run_until(f, is_ready, f);
    assert_int_equal(f->loadings, 1);
    assert_int_equal(f->states, 1);
    assert_true(f->backend->load_ns > SECOND / 5);
    assert_non_null(strstr(f->backend->ready.data, "\"fake\""));
    ask(f, &after, "tokens");
    run_until(f, has_ended, &after);
    assert_int_equal(after.tokens, 3);
    assert_string_equal(before.text, "w\xc3\xb6rd w\xc3\xb6rd w\xc3\xb6rd ");
    assert_int_equal(before.ended, 1);
    assert_int_equal(f->backend->jobs, 0);
}

static void replies(void **state)
{
    struct workshop *f = *state;
    struct heard heard, embedded = {0};
    struct hearth_error err;
    start(f, "");
    call(f, &heard, "echo", "{\"a\":1}");
    const struct work_embed embed = {.inputs = TEXT("[\"a\",\"b\"]")};
    const struct backend_listener listener = listen_to(&embedded);
    assert_int_equal(f->backend->calls->embed(f->backend, &embed, &listener, &embedded.job, &err),
                     0);
    run_until(f, has_ended, &heard);
    assert_int_equal(heard.code, 0);
    assert_string_equal(heard.reply, "{\"a\":1}");
    run_until(f, has_ended, &embedded);
    assert_true(embedded.vector[1] == 0.8f && embedded.vector[2] == 1);
}

/* Many at once, and numbers that come again. */
static void holds_thousands(void **state)
{
    enum { COUNT = 3000 };
    struct workshop *f = *state;
    struct heard *heard = calloc(COUNT, sizeof *heard);
    assert_non_null(heard);
    start(f, "");
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++)
            ask(f, &heard[i], i % 3 == 0 ? "hold" : "say 1");
        assert_int_equal(f->backend->jobs, COUNT);
        for (int i = 0; i < COUNT; i++) {
            if (i % 3 != 0)
                run_until(f, has_ended, &heard[i]);
        }
        for (int i = 0; i < COUNT; i += 3)
            f->backend->calls->abandon(f->backend, heard[i].job);
        assert_answers(f);
    }
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(heard[i].ended, i % 3 != 0);
    assert_int_equal(f->backend->jobs, 0);
    assert_int_equal(f->backend->restarts, 0);
    free(heard);
}

static bool was_used(void *context)
{
    return ((struct workshop *)context)->uses >= 2;
}

static void tells_its_figures(void **state)
{
    struct workshop *f = *state;
    struct local_options options = options_for(f, "");
    struct heard heard;
    options.hang_ns = SECOND / 5;
    start_with(f, &options);
    ask(f, &heard, "wait");
    run_until(f, was_used, f);
    assert_int_equal(f->backend->use.running, 1);
    /* what the system says, not the one byte that it says itself */
    assert_true(f->backend->use.private_bytes > 10000);
    f->backend->calls->abandon(f->backend, heard.job);
}

static void threads_outlive_workers(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    start(f, "");
    f->backend->calls->threads(f->backend, 3);
    f->backend->calls->shed(f->backend, 1000);
    for (int i = 0; i < 2; i++) {
        call(f, &heard, "threads", "{}");
        run_until(f, has_ended, &heard);
        assert_string_equal(heard.reply, "3");
        ask(f, &heard, "killed");
        run_until(f, has_ended, &heard);
    }
}

static void memory_follows(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    start(f, "slowly");
    f->backend->calls->memory(f->backend, 1000000);
    for (int i = 0; i < 3; i++) {
        static const char *const limits[] = {"1000000", "1000000", "2000000"};
        call(f, &heard, "memory", "{}");
        run_until(f, has_ended, &heard);
        assert_string_equal(heard.reply, limits[i]);
        if (i == 1)
            f->backend->calls->memory(f->backend, 2000000);
        if (i != 0)
            continue;
        ask(f, &heard, "killed");
        run_until(f, has_ended, &heard);
    }
}

static void abandons(void **state)
{
    struct workshop *f = *state;
    struct heard unsent, waiting, running, inside, at_end;
    start(f, "slowly");
    ask(f, &unsent, "say 1");
    ask(f, &inside, "say 5");
    inside.abandon_at_text = f->backend;
    f->backend->calls->abandon(f->backend, unsent.job);
    run_until(f, is_ready, f);
    ask(f, &waiting, "hold");
    ask(f, &running, "wait");
    run_until(f, has_begun, &running);
    f->backend->calls->abandon(f->backend, waiting.job);
    f->backend->calls->abandon(f->backend, running.job);
    ask(f, &at_end, "say 1");
    at_end.abandon_at_end = f->backend;
    run_until(f, has_ended, &at_end);
    assert_answers(f);
    assert_int_equal(unsent.begun + unsent.ended, 0);
    assert_int_equal(waiting.begun + waiting.ended, 0);
    assert_int_equal(running.ended, 0);
    assert_int_equal(inside.texts, 1);
    assert_int_equal(inside.ended, 0);
    assert_int_equal(f->backend->jobs, 0);
    assert_int_equal(f->backend->restarts, 0);
}

/* ---- ends ---- */

static void destroyed_while_it_loads(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    start(f, "silent");
    ask(f, &heard, "say 1");
    destroy(f);
    run_until(f, has_ended, &heard);
    assert_cause(&heard, HEARTH_E_CANCELLED, "fake was unloaded");
    assert_int_equal(f->states, 0);
}

static void destroyed_from_inside(void **state)
{
    struct workshop *f = *state;
    struct heard first, second, abandoned;
    start(f, "");
    ask(f, &second, "wait");
    ask(f, &abandoned, "wait");
    ask(f, &first, "say 100");
    first.destroy_at_text = f->backend;
    run_until(f, has_ended, &first);
    run_until(f, has_ended, &second);
    f->backend = NULL;
    assert_int_equal(first.texts, 1);
    assert_cause(&first, HEARTH_E_CANCELLED, "unloaded");
    assert_cause(&second, HEARTH_E_CANCELLED, "unloaded");
}

static void drained_when_answers_end(void **state)
{
    struct workshop *f = *state;
    struct heard running, waiting, late = {0};
    struct hearth_error err;
    start(f, "slowly");
    ask(f, &running, "say 2");
    ask(f, &waiting, "wait");
    f->inside = true;
    f->backend->calls->drain(f->backend, 2 * SECOND);
    f->inside = false;
    assert_int_equal(try_ask_in(f, &late, "", "say 1", &err), HEARTH_E_STATE);
    run_until(f, has_ended, &waiting); /* cancelled, near the end of the time */
    assert_int_equal(waiting.code, HEARTH_E_CANCELLED);
    assert_int_equal(running.code, 0);
    assert_int_equal(running.texts, 2);
    run_until(f, is_over, f);
    assert_int_equal(f->state, BACKEND_ENDED);
    assert_int_equal(f->backend->process, 0);
}

static void drained_though_it_hangs(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    uint64_t begun = os_monotonic_ns();
    start(f, "");
    ask(f, &heard, "hang");
    run_until(f, has_begun, &heard);
    kill(f->backend->process, SIGSTOP);
    f->backend->calls->drain(f->backend, SECOND / 2);
    run_until(f, is_over, f);
    run_until(f, has_ended, &heard);
    assert_int_equal(f->state, BACKEND_ENDED);
    assert_int_equal(heard.code, HEARTH_E_CANCELLED);
    assert_true(os_monotonic_ns() - begun < 5 * SECOND);
}

static void drained_when_there_is_nothing(void **state)
{
    struct workshop *f = *state;
    start(f, "silent");
    f->backend->calls->drain(f->backend, 20 * SECOND);
    assert_true(run_for(f, is_over, f, 5 * SECOND));
    assert_int_equal(f->state, BACKEND_ENDED);
}

/* ---- loads that fail ---- */

static void fails_to_load(void **state)
{
    static const struct {
        const char *how, *error;
    } ways[] = {
        {"fail", "architecture \"fake\" is not known"}, {"crash", "crashed (SIGSEGV)"},
        {"exit", "ended by itself, with code 3"},       {"garbage", "said what no worker says"},
        {"not a number", "said what no worker says"},
    };
    struct workshop *f = *state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct heard heard, late = {0};
        struct hearth_error err;
        f->state = BACKEND_LOADING;
        start(f, ways[i].how);
        ask(f, &heard, "say 1");
        run_until(f, has_ended, &heard);
        assert_int_equal(f->state, BACKEND_FAILED);
        if (!strstr(f->error, ways[i].error))
            fail_msg("%s: %s", ways[i].how, f->error);
        assert_string_equal(heard.cause, f->error);
        assert_true(try_ask_in(f, &late, "", "say 1", &err) < 0);
        assert_string_equal(err.text, f->error);
        assert_int_equal(f->backend->restarts, 0);
        destroy(f);
    }
}

/* The system kills for memory; the next one may have room. */
static void killed_once_while_it_loads(void **state)
{
    struct workshop *f = *state;
    start(f, "killed once");
    assert_answers(f);
    assert_int_equal(f->backend->restarts, 1);
}

static void says_nothing_while_it_loads(void **state)
{
    struct workshop *f = *state;
    struct local_options options = options_for(f, "silent");
    options.hang_ns = SECOND / 5;
    start_with(f, &options);
    run_until(f, is_over, f);
    assert_int_equal(f->state, BACKEND_FAILED);
    assert_non_null(strstr(f->error, "said nothing"));
}

static void fails_to_load_again(void **state)
{
    struct workshop *f = *state;
    struct heard begun, waiting;
    start(f, "fail again");
    ask(f, &begun, "crash");
    ask(f, &waiting, "say 1");
    run_until(f, has_ended, &waiting);
    assert_cause(&begun, HEARTH_E_CRASHED, "crashed (SIGSEGV)");
    assert_cause(&waiting, HEARTH_E_UNSUPPORTED, "is not known");
    assert_int_equal(f->state, BACKEND_FAILED);
}

static void no_program(void **state)
{
    struct workshop *f = *state;
    struct hearth_error err;
    struct local_options options = options_for(f, "");
    options.program = "/nonexistent/worker";
    assert_true(local_start(f->base, &options, &f->backend, &err) < 0);
    assert_true(strlen(err.text) > 0);
    options = options_for(f, "");
    options.fd_count = 0;
    assert_int_equal(local_start(f->base, &options, &f->backend, &err), HEARTH_E_ARGUMENT);
}

/* Each allocation fails once: a start or an ask is refused, or does what it should. */
static void without_memory(void **state)
{
    struct workshop *f = *state;
    struct local_options options = options_for(f, "");
    unsigned refused = 0, started = 0;
    struct hearth_error err;
    for (unsigned long n = 1; n < 30; n++) {
        struct backend *backend;
        mem_fail_nth(n);
        int status = local_start(f->base, &options, &backend, &err);
        mem_fail_nth(0);
        if (status == 0)
            backend->calls->destroy(backend);
        else
            assert_int_equal(status, HEARTH_E_MEMORY);
        started += status == 0;
        refused += status != 0;
        run_until(f, is_alone, NULL);
    }
    assert_true(refused > 5 && started > 5);
    start_with(f, &options);
    run_until(f, is_ready, f);
    for (unsigned long n = 1; n < 20; n++) {
        struct heard heard;
        mem_fail_nth(n);
        int status = try_ask_in(f, &heard, "key", "say 1", &err);
        mem_fail_nth(0);
        if (status == 0)
            run_until(f, has_ended, &heard);
        else
            assert_int_equal(status, HEARTH_E_MEMORY);
    }
    assert_answers(f);
    assert_int_equal(f->backend->jobs, 0);
    assert_int_equal(f->backend->restarts, 0);
}

/* ---- workers that die ---- */

static void dies_and_comes_back(void **state)
{
    static const struct {
        const char *how;
        int code;
        const char *cause;
    } ways[] = {
        {"crash", HEARTH_E_CRASHED, "crashed (SIGSEGV)"},
        {"killed", HEARTH_E_CRASHED, "memory ran out"},
        {"ended", HEARTH_E_CRASHED, "ended from outside (SIGTERM)"},
        {"exit", HEARTH_E_CRASHED, "ended by itself, with code 0"},
    };
    struct workshop *f = *state;
    start(f, "");
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct heard broken, other, waiting;
        char reply[64];
        ask(f, &other, "wait");
        ask(f, &waiting, "hold");
        ask(f, &broken, ways[i].how);
        run_until(f, has_ended, &broken);
        assert_cause(&broken, ways[i].code, ways[i].cause);
        run_until(f, has_ended, &other);
        assert_cause(&other, ways[i].code, ways[i].cause);
        assert_answers(f);
        assert_int_equal(waiting.ended, 0);
        f->backend->calls->abandon(f->backend, waiting.job);
        assert_int_equal(f->backend->restarts, i + 1);
        snprintf(reply, sizeof reply, "\"pid\":%d}", f->backend->process);
        assert_non_null(strstr(f->backend->ready.data, reply));
    }
}

/* Requests that the dead one had not begun are asked again; calls that change something are not. */
static void asks_again(void **state)
{
    struct workshop *f = *state;
    struct heard crash, ask_again, call_again, append, paused;
    start(f, "slowly");
    ask(f, &crash, "crash");
    ask(f, &ask_again, "say 1");
    call(f, &call_again, "session", "{\"key\":\"a\"}");
    call(f, &append, "append", "{\"key\":\"a\"}");
    ask(f, &paused, "wait");
    f->backend->calls->pause(f->backend, paused.job, true);
    run_until(f, has_ended, &append);
    assert_cause(&append, HEARTH_E_CRASHED, "it is not known whether");
    run_until(f, has_ended, &ask_again);
    assert_int_equal(ask_again.code, 0);
    run_until(f, has_ended, &call_again);
    assert_string_equal(call_again.reply, "{\"key\":\"a\"}");
    run_until(f, has_begun, &paused);
    f->backend->calls->abandon(f->backend, paused.job);
}

/* One that kills each worker before it begins does not go on for ever. */
static void asks_again_not_for_ever(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    start(f, "");
    ask(f, &heard, "crash before");
    run_until(f, has_ended, &heard);
    assert_cause(&heard, HEARTH_E_CRASHED, "crashed");
    assert_int_equal(f->backend->restarts, 2);
    assert_int_equal(f->backend->state, BACKEND_RESTARTING);
}

static void pauses_grow(void **state)
{
    struct workshop *f = *state;
    uint64_t begun = os_monotonic_ns();
    start(f, "idle crash");
    while (f->backend->restarts < 3)
        run_once(f);
    uint64_t took = os_monotonic_ns() - begun; /* at once, 1 s, 2 s */
    assert_true(took > 2900 * (SECOND / 1000) && took < 8 * SECOND);
}

static void sets_aside(void **state)
{
    struct workshop *f = *state;
    struct heard heard, other;
    struct hearth_error err;
    start(f, "");
    for (int i = 0; i < 2; i++) {
        ask_in(f, &heard, "bad one", "crash");
        run_until(f, has_ended, &heard);
        assert_answers(f);
    }
    assert_int_equal(try_ask_in(f, &heard, "bad one", "say 1", &err), HEARTH_E_STATE);
    assert_non_null(strstr(err.text, "set aside"));
    ask_in(f, &other, "good one", "say 1");
    run_until(f, has_ended, &other);
    assert_int_equal(other.code, 0);
    call(f, &other, "reset", "{\"key\":\"bad one\"}");
    run_until(f, has_ended, &other);
    ask_in(f, &heard, "bad one", "say 1");
    run_until(f, has_ended, &heard);
    assert_int_equal(heard.code, 0);
}

/* Not where it was killed from outside, nor where it was answered in between. */
static void sets_nobody_aside_without_cause(void **state)
{
    static const char *const ways[] = {"crash",  "say 1", "crash", "killed",
                                       "killed", "say 1", "crash", "say 1"};
    struct workshop *f = *state;
    start(f, "");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct heard heard;
        ask_in(f, &heard, "key", ways[i]);
        run_until(f, has_ended, &heard);
        assert_answers(f);
    }
}

static void sets_requests_without_a_session_aside(void **state)
{
    struct workshop *f = *state;
    struct heard heard;
    struct hearth_error err;
    start(f, "");
    for (int i = 0; i < 2; i++) {
        ask(f, &heard, "crash");
        run_until(f, has_ended, &heard);
        assert_answers(f);
    }
    assert_int_equal(try_ask_in(f, &heard, "", "crash", &err), HEARTH_E_STATE);
    assert_non_null(strstr(err.text, "crashed twice"));
}

static void file_cut_short(void **state)
{
    struct workshop *f = *state;
    struct heard heard, waiting, late = {0};
    struct hearth_error err;
    start(f, "");
    ask(f, &heard, "cut");
    ask(f, &waiting, "say 1");
    run_until(f, has_ended, &waiting);
    assert_cause(&heard, HEARTH_E_CHANGED, "the model file changed");
    assert_cause(&waiting, HEARTH_E_CHANGED, "the model file changed");
    assert_int_equal(f->state, BACKEND_FAILED);
    assert_int_equal(f->backend->restarts, 0);
    assert_int_equal(try_ask_in(f, &late, "", "say 1", &err), HEARTH_E_CHANGED);
}

/* ---- workers that hang or misbehave ---- */

static void hangs(void **state)
{
    struct workshop *f = *state;
    struct local_options options = options_for(f, "");
    struct heard heard;
    options.hang_ns = SECOND / 4;
    start_with(f, &options);
    ask(f, &heard, "hang");
    run_until(f, has_ended, &heard);
    assert_cause(&heard, HEARTH_E_CRASHED, "did not answer");
    assert_answers(f);
    int process = f->backend->process;
    kill(process, SIGSTOP); /* while nothing is asked */
    while (f->backend->restarts < 2)
        run_once(f);
    assert_answers(f);
    assert_int_not_equal(f->backend->process, process);
}

/* It is slow, not dead: as long as it answers pings it may take its time. */
static void waits_for_the_slow(void **state)
{
    struct workshop *f = *state;
    struct local_options options = options_for(f, "");
    struct heard heard;
    options.hang_ns = SECOND / 5;
    start_with(f, &options);
    ask(f, &heard, "wait");
    run_for(f, never, NULL, SECOND * 3 / 5);
    assert_int_equal(heard.ended, 0);
    assert_int_equal(f->backend->restarts, 0);
    /* a daemon that stood still itself blames nobody */
    run_until(f, has_begun, &heard);
    usleep(600000);
    run_for(f, never, NULL, SECOND * 2 / 5);
    assert_int_equal(f->backend->restarts, 0);
    f->backend->calls->abandon(f->backend, heard.job);
}

/* One that computes gets more time, but not for ever. */
static void computes_without_end(void **state)
{
    struct workshop *f = *state;
    struct local_options options = options_for(f, "");
    struct heard heard;
    options.hang_ns = SECOND / 10;
    start_with(f, &options);
    ask(f, &heard, "spin");
    run_until(f, has_begun, &heard);
    uint64_t begun = os_monotonic_ns();
    run_until(f, has_ended, &heard);
    assert_cause(&heard, HEARTH_E_CRASHED, "did not answer");
    assert_true(os_monotonic_ns() - begun > SECOND / 2);
}

static void misbehaves(void **state)
{
    static const char *const ways[] = {
        "bad: unknown number", "bad: text first", "bad: begin twice", "bad: end twice",
        "bad: bad text",       "bad: bad tokens", "bad: garbage",     "bad: huge",
        "bad: ready again",    "bad: pong",       "bad: reply",       "bad: unknown type",
        "bad: descriptor",     "close",
    };
    struct workshop *f = *state;
    start(f, "");
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct heard heard, other;
        uint32_t before = f->backend->restarts;
        ask(f, &other, "wait");
        ask(f, &heard, ways[i]);
        run_until(f, has_ended, &other);
        if (other.code != HEARTH_E_CRASHED ||
            !strstr(other.cause, i < sizeof ways / sizeof *ways - 1 ? "said what no worker says"
                                                                    : "closed its socket"))
            fail_msg("%s: %d %s", ways[i], other.code, other.cause);
        if (!heard.begun) /* it would be asked again */
            f->backend->calls->abandon(f->backend, heard.job);
        else
            run_until(f, has_ended, &heard);
        assert_answers(f);
        assert_true(f->backend->restarts > before);
    }
}

/* ---- the store ---- */

static void put_records(struct workshop *f)
{
    const struct store_summary summary = {.model = "0123456789abcdef0123456789abcdef"};
    static const char *const keys[] = {"a", "b", "c", "d"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(f->store->calls->put(f->store, keys[i], TEXT("record"), &summary, NULL),
                         0);
}

/* Whether the worker gets the record of a key. */
static bool reaches(struct workshop *f, const char *key)
{
    char name[32];
    struct heard heard;
    snprintf(name, sizeof name, "get %s", key);
    call(f, &heard, name, "{}");
    run_until(f, has_ended, &heard);
    assert_true(heard.code == 0 || heard.code == HEARTH_E_ARGUMENT);
    return heard.code == 0;
}

static void reaches_what_it_is_asked_about(void **state)
{
    struct workshop *f = *state;
    struct heard heard, holding;
    workshop_store(f);
    put_records(f);
    start(f, "");
    assert_false(reaches(f, "a"));
    ask_in(f, &heard, "a", "say 1");
    assert_true(reaches(f, "a"));
    call(f, &heard, "fork", "{\"key\":\"a\",\"count\":1,\"to\":\"b\"}");
    assert_true(reaches(f, "b"));
    assert_false(reaches(f, "c"));
    /* what it gave away it does not get back, unless it is asked about it again already */
    call(f, &heard, "release", "{\"key\":\"a\"}");
    run_until(f, has_ended, &heard);
    assert_false(reaches(f, "a"));
    ask_in(f, &holding, "b", "wait");
    call(f, &heard, "release", "{\"key\":\"b\"}");
    run_until(f, has_ended, &heard);
    assert_true(reaches(f, "b"));
    f->backend->calls->abandon(f->backend, holding.job);
    /* the next one knows nothing of what the last one was asked about */
    ask(f, &heard, "killed");
    run_until(f, has_ended, &heard);
    assert_false(reaches(f, "b"));
    ask(f, &heard, "bad: store");
    run_until(f, has_ended, &heard);
    assert_cause(&heard, HEARTH_E_CRASHED, "said what no worker says");
    assert_false(reaches(f, "d"));
}

static void keys_of_calls_are_keys(void **state)
{
    static const char *const arguments[] = {"{\"key\":\"\"}", "{\"key\":\"a\\u0000b\"}",
                                            "{\"key\":\"a\",\"to\":\"\"}"};
    struct workshop *f = *state;
    struct heard heard = {0};
    struct hearth_error err;
    const struct backend_listener listener = listen_to(&heard);
    start(f, "");
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++) {
        const struct work_call work = {TEXT("fork"), text_of(arguments[i])};
        assert_int_equal(f->backend->calls->call(f->backend, &work, &listener, &heard.job, &err),
                         HEARTH_E_ARGUMENT);
    }
    assert_true(try_ask_in(f, &heard, "\xff", "say 1", &err) == HEARTH_E_ARGUMENT);
    assert_int_equal(f->backend->jobs, 0);
    call(f, &heard, "echo", "[]");
    run_until(f, has_ended, &heard);
    assert_string_equal(heard.reply, "[]");
}

/* ---- a daemon that dies ---- */

/* This program once more: starts a worker, says its number, and does nothing more. */
static int be_daemon(const char *path)
{
    struct event_base *base = event_base_new();
    struct backend *backend;
    int model = open(path, O_RDWR | O_CLOEXEC);
    const struct local_options options = {
        .program = FAKE_WORKER, .name = "fake", .fds = &model, .fd_count = 1};
    if (!base || local_start(base, &options, &backend, NULL))
        return 1;
    printf("%d\n", backend->process);
    fflush(stdout);
    event_base_dispatch(base);
    return 0;
}

static void no_orphan(void **state)
{
    struct workshop *f = *state;
    for (int i = 0; i < 3; i++) {
        char path[TEST_FOLDER_MAX + 16], line[32] = "";
        int ends[2], worker;
        snprintf(path, sizeof path, "%s/model", f->folder);
        assert_int_equal(pipe(ends), 0);
        pid_t daemon = fork();
        if (daemon == 0) {
            dup2(ends[1], STDOUT_FILENO);
            execl("/proc/self/exe", "test", "daemon", path, (char *)NULL);
            _exit(1);
        }
        close(ends[1]);
        assert_true(read(ends[0], line, sizeof line - 1) > 0);
        close(ends[0]);
        worker = atoi(line);
        assert_true(worker > 1);
        if (i > 0)
            usleep(50000);
        if (i == 2)
            kill(worker, SIGSTOP);
        kill(daemon, SIGKILL);
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        assert_true(run_for(f, is_gone, &worker, 2 * SECOND));
    }
}

/* ---- probes ---- */

struct probed {
    unsigned count;
    int code;
    char text[512];
    bool inside;
};

static void on_probed(void *context, int code, struct text text)
{
    struct probed *probed = context;
    assert_false(probed->inside);
    probed->count++;
    probed->code = code;
    snprintf(probed->text, sizeof probed->text, "%.*s", TEXT_ARGS(text));
}

static bool was_probed(void *context)
{
    return ((struct probed *)context)->count > 0;
}

static struct local_probe *probe(struct workshop *f, struct probed *probed, const char *how)
{
    struct local_options options = options_for(f, how);
    struct local_probe *started;
    struct hearth_error err;
    *probed = (struct probed){.inside = true};
    assert_int_equal(local_probe_start(f->base, &options, on_probed, probed, &started, &err), 0);
    probed->inside = false;
    return started;
}

static void probes(void **state)
{
    static const struct {
        const char *how;
        int code;
        const char *text;
    } ways[] = {
        {"", 0, "\"fake\""},
        {"fail", HEARTH_E_UNSUPPORTED, "is not known"},
        {"crash", HEARTH_E_CRASHED, "crashed (SIGSEGV)"},
        {"exit", HEARTH_E_CRASHED, "with code 3"},
        {"garbage", HEARTH_E_CRASHED, "said what no worker says"},
    };
    struct workshop *f = *state;
    struct probed probed[sizeof ways / sizeof *ways], cancelled;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        probe(f, &probed[i], ways[i].how);
    local_probe_cancel(probe(f, &cancelled, "silent"));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        run_until(f, was_probed, &probed[i]);
        if (probed[i].code != ways[i].code || !strstr(probed[i].text, ways[i].text))
            fail_msg("%s: %d %s", ways[i].how, probed[i].code, probed[i].text);
    }
    run_until(f, is_alone, NULL);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        assert_int_equal(probed[i].count, 1);
    assert_int_equal(cancelled.count, 0);
}

int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        WITH(loads_and_answers),
        WITH(replies),
        WITH(holds_thousands),
        WITH(tells_its_figures),
        WITH(threads_outlive_workers),
        WITH(memory_follows),
        WITH(abandons),
        WITH(destroyed_while_it_loads),
        WITH(destroyed_from_inside),
        WITH(drained_when_answers_end),
        WITH(drained_though_it_hangs),
        WITH(drained_when_there_is_nothing),
        WITH(fails_to_load),
        WITH(killed_once_while_it_loads),
        WITH(says_nothing_while_it_loads),
        WITH(fails_to_load_again),
        WITH(no_program),
        WITH(without_memory),
        WITH(dies_and_comes_back),
        WITH(asks_again),
        WITH(asks_again_not_for_ever),
        WITH(pauses_grow),
        WITH(sets_aside),
        WITH(sets_nobody_aside_without_cause),
        WITH(sets_requests_without_a_session_aside),
        WITH(file_cut_short),
        WITH(hangs),
        WITH(waits_for_the_slow),
        WITH(computes_without_end),
        WITH(misbehaves),
        WITH(reaches_what_it_is_asked_about),
        WITH(keys_of_calls_are_keys),
        WITH(no_orphan),
        WITH(probes),
    };
    if (count == 3 && strcmp(arguments[1], "daemon") == 0)
        return be_daemon(arguments[2]);
    os_ignore_broken_pipes();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
