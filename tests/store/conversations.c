/* Conversations in the store on a disk: they outlive the process, however it ends. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/random.h"
#include "session/room.h"
#include "store/store_material.h"

#define LIMIT ((uint64_t)1 << 30)
#define TALKS 6
#define TURNS 6

static char expected[TALKS][TURNS][512];

static struct reply numbered_turn(struct room *room, struct hearth_session *session, size_t number,
                                  size_t t)
{
    char text[64];
    text_of_turn(text, number, t);
    return turn(room, session, text);
}

/* ---- ends of one's own ---- */

static void they_go_on_after_the_program_ended(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        char folder[64], alone[3][512];
        size_t known = 0;
        answers_alone(m, 2, 3, alone);
        test_folder_make(folder);
        for (size_t t = 0; t < 3; t++) {
            struct room room = {.store = store_open(folder, LIMIT)};
            open_room(&room, m, 0, 0);
            struct hearth_session *session = open_session(&room, "k");
            assert_int_equal(hearth_session_count(session), 2 * t);
            struct reply reply = numbered_turn(&room, session, 2, t);
            assert_string_equal(reply.text, alone[t]);
            assert_int_equal(reply.result.cached_tokens, known);
            assert_int_equal(reply.result.miss, t ? HEARTH_MISS_NOTHING : HEARTH_MISS_NEW);
            known = reply.result.prompt_tokens + reply.result.answer_tokens +
                    (reply.result.stop == HEARTH_STOP_END) - 1;
            hearth_session_close(session);
            close_room(&room);
            hearth_store_close(room.store);
        }
        test_folder_remove(folder);
    }
}

static void what_a_small_store_cannot_keep_is_computed_again(void **state)
{
    (void)state;
    char folder[64];
    size_t evicted = 0, known = 0;
    test_folder_make(folder);
    struct room room = {.store = store_open(folder, 60000)};
    open_room(&room, 0, 0, 0);
    for (size_t t = 0; t < 2; t++) {
        for (size_t i = 0; i < TALKS; i++) {
            char key[8];
            snprintf(key, sizeof key, "%zu", i);
            struct hearth_session *session = open_session(&room, key);
            struct reply reply = numbered_turn(&room, session, i, t);
            assert_string_equal(reply.text, expected[i][t]);
            evicted += reply.result.miss == HEARTH_MISS_EVICTED;
            known += reply.result.miss == HEARTH_MISS_NOTHING;
            hearth_session_close(session);
            rest(&room);
        }
    }
    assert_true(evicted > 0 && evicted + known == TALKS);
    close_room(&room);
    hearth_store_close(room.store);
    test_folder_remove(folder);
}

/* ---- kill -9 ---- */

/* Goes on with all conversations until each has all turns, and tells of each that ended. With no
 * idle time, each rests as soon as it is left. */
static int be_killed(char **arguments)
{
    struct random random = random_from_seed(strtoull(arguments[3], NULL, 10));
    if (hearth_model_open(arguments[0], NULL, &models[0], NULL))
        return 2;
    struct room room = {.store = store_open(arguments[1], LIMIT), .idle_ns = HEARTH_IDLE_AT_ONCE};
    int fd = atoi(arguments[2]);
    size_t left = TALKS * TURNS;
    open_room(&room, 0, random_u64(&random) % 2 ? 250000 : 0, 0);
    while (left > 0) {
        struct hearth_session *sessions[2];
        static struct reply replies[2];
        unsigned char told[2][2];
        size_t first = random_u64(&random) % TALKS, asked = 0;
        left = 0;
        for (size_t i = 0; i < TALKS; i++) {
            char key[8], text[64];
            size_t number = (first + i) % TALKS;
            snprintf(key, sizeof key, "%zu", number);
            struct hearth_session *session = open_session(&room, key);
            size_t count = hearth_session_count(session);
            left += 2 * TURNS - count;
            if (count == 2 * TURNS || asked == 2) {
                hearth_session_close(session);
                continue;
            }
            text_of_turn(text, number, count / 2);
            if (count % 2 == 0) /* else it was killed when it was to answer */
                say(session, text);
            ask(session, &replies[asked]);
            told[asked][0] = (unsigned char)number;
            told[asked][1] = (unsigned char)(count / 2 * 2 + 2);
            sessions[asked++] = session;
        }
        run(&room);
        for (size_t i = 0; i < asked; i++) {
            if (replies[i].result.stop > HEARTH_STOP_LENGTH || write(fd, told[i], 2) != 2)
                return 3;
            hearth_session_close(sessions[i]);
        }
    }
    close_room(&room);
    hearth_store_close(room.store);
    hearth_model_close(models[0]);
    return 0;
}

/* What a key has is a beginning of what is expected, and at least what was told to have ended. */
static void check_messages(struct hearth_session *session, size_t number, size_t told)
{
    char *text;
    size_t size;
    assert_int_equal(hearth_session_messages(session, &text, &size, NULL), 0);
    json_t *messages = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    size_t count = json_array_size(messages);
    assert_in_range(count, told, 2 * TURNS);
    for (size_t i = 0; i < count; i++) {
        char said[64];
        text_of_turn(said, number, i / 2);
        assert_string_equal(
            json_string_value(json_object_get(json_array_get(messages, i), "content")),
            i % 2 ? expected[number][i / 2] : said);
    }
    json_decref(messages);
    hearth_free(text);
}

/* After a kill: all is there, and one goes on. */
static bool check_store(const char *folder, const size_t told[TALKS], size_t goes_on)
{
    struct room room = {.store = store_open(folder, LIMIT)};
    bool done = true;
    open_room(&room, 0, 0, 0);
    for (size_t i = 0; i < TALKS; i++) {
        char key[8], text[64];
        struct reply reply;
        snprintf(key, sizeof key, "%zu", i);
        struct hearth_session *session = open_session(&room, key);
        check_messages(session, i, told[i]);
        size_t count = hearth_session_count(session);
        done = done && count == 2 * TURNS;
        if (i == goes_on && count < 2 * TURNS) {
            text_of_turn(text, i, count / 2);
            if (count % 2 == 0)
                say(session, text);
            ask(session, &reply);
            run(&room);
            assert_string_equal(reply.text, expected[i][count / 2]);
        }
        hearth_session_close(session);
    }
    close_room(&room);
    hearth_store_close(room.store);
    return done;
}

static pid_t start_child(const char *model, const char *folder, int fd, size_t seed)
{
    extern char **environ;
    char descriptor[16], number[24];
    pid_t child;
    snprintf(descriptor, sizeof descriptor, "%d", fd);
    snprintf(number, sizeof number, "%zu", seed);
    char *arguments[] = {"conversations",
                         "--be-killed",
                         (char *)(uintptr_t)model,
                         (char *)(uintptr_t)folder,
                         descriptor,
                         number,
                         NULL};
    assert_int_equal(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
    return child;
}

/* Lets it run until its first answer and for so long behind it, kills it, and reads what it told;
 * true where it had ended before. */
static bool run_and_kill(const char *model, const char *folder, uint64_t ns, size_t seed,
                         size_t told[TALKS])
{
    int ends[2], status;
    unsigned char message[2];
    const struct timespec time = {.tv_nsec = (long)ns};
    assert_int_equal(pipe(ends), 0);
    pid_t child = start_child(model, folder, ends[1], seed);
    close(ends[1]);
    if (read(ends[0], message, 2) == 2)
        told[message[0]] = message[1];
    nanosleep(&time, NULL);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    while (read(ends[0], message, 2) == 2)
        told[message[0]] = message[1];
    close(ends[0]);
    return !WIFSIGNALED(status);
}

static void killed_at_any_moment_nothing_is_lost(void **state)
{
    (void)state;
    char model[TEST_PATH_MAX], folder[64];
    struct random random = random_from_seed(3);
    size_t rounds = getenv("HEARTH_LONG") ? 200 : 15, whole = 0, killed = 0;
    uint64_t most = 20000000; /* adapts to how long all turns take */
    write_model(0, model);
    while (rounds > 0) {
        size_t told[TALKS] = {0};
        bool done = false;
        test_folder_make(folder);
        while (!done && rounds > 0) {
            bool ended = run_and_kill(model, folder, random_u64(&random) % most, rounds, told);
            rounds--;
            killed += !ended;
            most = ended ? most / 2 : most + most / 8 < 900000000 ? most + most / 8 : most;
            done = check_store(folder, told, rounds % TALKS);
        }
        whole += done;
        test_folder_remove(folder);
    }
    print_message("%zu killed, %zu times to the end\n", killed, whole);
    assert_true(killed > 3);
    remove(model);
}

static int set_up(void **state)
{
    set_up_models(state);
    for (size_t i = 0; i < TALKS; i++)
        answers_alone(0, i, TURNS, expected[i]);
    return 0;
}

int main(int count, char **arguments)
{
    if (count == 6 && strcmp(arguments[1], "--be-killed") == 0)
        return be_killed(arguments + 2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_go_on_after_the_program_ended),
        cmocka_unit_test(what_a_small_store_cannot_keep_is_computed_again),
        cmocka_unit_test(killed_at_any_moment_nothing_is_lost),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down_models);
}
