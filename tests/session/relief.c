/* What conversations give back when memory is short, on a machine made of files, and that they go
 * on as if nothing had been. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_store.h"
#include "room.h"
#include "support/machine.h"

#define SECOND UINT64_C(1000000000)
#define CONVERSATIONS 4

static void put_available(const struct machine *machine, unsigned percent)
{
    char text[64];
    snprintf(text, sizeof text, "MemTotal: 100000 kB\nMemAvailable: %u000 kB\n", percent);
    machine_put(machine, "/proc/meminfo", text);
}

static struct hearth_sessions_state state_of(const struct room *room)
{
    struct hearth_sessions_state state;
    hearth_sessions_state(room->sessions, &state);
    return state;
}

/* A step with nothing asked; how long the set would wait. */
static uint64_t idle_step(struct room *room, uint64_t later_ns)
{
    uint64_t wait;
    room->now += later_ns;
    hearth_sessions_step(room->sessions, &wait);
    return wait;
}

static void turn_of(struct room *room, struct hearth_session *session, size_t number, size_t t,
                    char answers[][512])
{
    char text[64];
    text_of_turn(text, number, t);
    struct reply reply = turn(room, session, text);
    assert_string_equal(reply.text, answers[t]);
}

static void conversations_are_spilled_and_go_on(void **state)
{
    struct machine *machine = *state;
    struct fake_store fake;
    char alone[CONVERSATIONS][3][512];
    struct hearth_session *sessions[CONVERSATIONS];
    for (size_t i = 0; i < CONVERSATIONS; i++)
        answers_alone(0, i, 3, alone[i]);
    fake_store_init(&fake);
    struct room room = {.store = fake.store, .pressure_root = machine->root};
    put_available(machine, 50);
    open_room(&room, 0, 0, 0);
    for (size_t i = 0; i < CONVERSATIONS; i++) {
        sessions[i] = open_session(&room, NULL);
        turn_of(&room, sessions[i], i, 0, alone[i]);
    }
    uint64_t held = state_of(&room).memory.kv_bytes;
    assert_true(idle_step(&room, 2 * SECOND) <= SECOND);
    assert_int_equal(state_of(&room).pressure, 0);
    assert_int_equal(state_of(&room).memory.kv_bytes, held);

    put_available(machine, 3);
    idle_step(&room, SECOND / 2); /* too early to look */
    assert_int_equal(state_of(&room).pressure, 0);
    idle_step(&room, SECOND);
    assert_int_equal(state_of(&room).pressure, 2);
    assert_int_equal(state_of(&room).memory.kv_bytes, 0);
    assert_int_equal(state_of(&room).held, 0);
    for (size_t i = 0; i < CONVERSATIONS; i++)
        turn_of(&room, sessions[i], i, 1, alone[i]); /* answers are given all the same */

    put_available(machine, 50);
    for (int i = 0; i < 25; i++)
        idle_step(&room, SECOND);
    assert_int_equal(state_of(&room).pressure, 0);
    for (size_t i = 0; i < CONVERSATIONS; i++) {
        turn_of(&room, sessions[i], i, 2, alone[i]);
        hearth_session_close(sessions[i]);
    }
    close_room(&room);
    fake_store_finish(&fake);
}

static void some_pressure_takes_a_little_cache_whole(void **state)
{
    struct machine *machine = *state;
    char alone[2][512];
    answers_alone(0, 1, 2, alone);
    struct room room = {.pressure_root = machine->root};
    put_available(machine, 6);
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    turn_of(&room, session, 1, 0, alone);
    assert_int_equal(state_of(&room).pressure, 1);
    idle_step(&room, SECOND); /* without a store it is computed again */
    assert_int_equal(state_of(&room).memory.cached_bytes, 0);
    turn_of(&room, session, 1, 1, alone);
    hearth_session_close(session);
    close_room(&room);
}

static void who_does_not_watch_is_not_disturbed(void **state)
{
    (void)state;
    char alone[1][512];
    answers_alone(0, 1, 1, alone);
    struct room room = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    turn_of(&room, session, 1, 0, alone);
    assert_true(idle_step(&room, SECOND) > 200 * SECOND);
    assert_int_equal(state_of(&room).pressure, 0);
    hearth_session_close(session);
    close_room(&room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_MACHINE(conversations_are_spilled_and_go_on),
        ON_MACHINE(some_pressure_takes_a_little_cache_whole),
        cmocka_unit_test(who_does_not_watch_is_not_disturbed),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
