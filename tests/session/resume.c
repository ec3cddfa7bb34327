/* Conversations that rest, in a store, in files without names or as records, and go on: each answer
 * is the one given alone, whatever was kept, lost or damaged. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "fake_store.h"
#include "room.h"

static struct reply numbered_turn(struct room *room, struct hearth_session *session, size_t number,
                                  size_t t)
{
    char text[64];
    text_of_turn(text, number, t);
    return turn(room, session, text);
}

/* What the next turn finds known: all of this one but the last token, which was not computed. */
static size_t known_behind(const struct reply *reply)
{
    return reply->result.prompt_tokens + reply->result.answer_tokens +
           (reply->result.stop == HEARTH_STOP_END) - 1;
}

static struct hearth_sessions_state state_of(const struct room *room)
{
    struct hearth_sessions_state state;
    hearth_sessions_state(room->sessions, &state);
    return state;
}

static struct hearth_session_info info_of(const struct hearth_session *session)
{
    struct hearth_session_info info;
    hearth_session_info(session, &info);
    return info;
}

/* ---- resting ---- */

enum way { CLOSED, IDLE_KEY, IDLE_HANDLE, IDLE_ANONYMOUS, AT_ONCE, WAYS };

/* Three turns of one conversation, which rests between them in one of the ways. */
static void rest_between_turns(size_t m, enum way way)
{
    struct fake_store fake;
    char alone[3][512];
    answers_alone(m, 1, 3, alone);
    fake_store_init(&fake);
    struct room room = {.store = fake.store, .idle_ns = way == AT_ONCE ? HEARTH_IDLE_AT_ONCE : 0};
    const char *key = way == IDLE_ANONYMOUS ? NULL : "k";
    open_room(&room, m, 0, 0);
    struct hearth_session *session = open_session(&room, key);
    size_t known = 0;
    for (size_t t = 0; t < 3; t++) {
        struct reply reply = numbered_turn(&room, session, 1, t);
        assert_string_equal(reply.text, alone[t]);
        assert_int_equal(reply.result.cached_tokens, known);
        assert_int_equal(reply.result.miss, t ? HEARTH_MISS_NOTHING : HEARTH_MISS_NEW);
        assert_false(reply.result.unsaved);
        known = known_behind(&reply);
        if (way == CLOSED || way == IDLE_KEY)
            hearth_session_close(session);
        if (way == CLOSED) {
            close_room(&room);
            open_room(&room, m, 0, 0);
        } else {
            rest(&room);
            assert_int_equal(state_of(&room).memory.kv_bytes, 0);
            assert_int_equal(state_of(&room).sessions, way != IDLE_KEY);
        }
        if (way == CLOSED || way == IDLE_KEY)
            session = open_session(&room, key);
        assert_int_equal(hearth_session_count(session), 2 * t + 2);
        assert_int_equal(fake.spills, t + 1);
        assert_true(info_of(session).kv_bytes == 0 && !info_of(session).busy);
    }
    hearth_session_close(session);
    close_room(&room);
    fake_store_finish(&fake);
}

static void who_rests_goes_on_where_it_was(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        for (int way = 0; way < WAYS; way++)
            rest_between_turns(m, (enum way)way);
    }
}

static void without_a_store_the_messages_rest_in_memory(void **state)
{
    (void)state;
    struct room room = {0};
    char alone[2][512], *before, *during;
    answers_alone(0, 2, 2, alone);
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, "k");
    numbered_turn(&room, session, 2, 0);
    assert_int_equal(hearth_session_messages(session, &before, NULL, NULL), 0);
    assert_true(info_of(session).kv_bytes > 0);
    rest(&room);
    assert_int_equal(hearth_session_messages(session, &during, NULL, NULL), 0);
    assert_string_equal(before, during);
    assert_int_equal(hearth_session_count(session), 2);
    assert_int_equal(state_of(&room).held, 0);
    assert_int_equal(state_of(&room).memory.kv_bytes, 0);
    struct reply reply = numbered_turn(&room, session, 2, 1);
    assert_string_equal(reply.text, alone[1]);
    assert_int_equal(reply.result.miss, HEARTH_MISS_EVICTED);
    hearth_free(before);
    hearth_free(during);
    hearth_session_close(session);
    close_room(&room);
}

static void what_nobody_holds_leaves_memory(void **state)
{
    (void)state;
    struct fake_store fake;
    fake_store_init(&fake);
    fake.forget_records = true; /* it has room for few */
    for (int stored = 0; stored < 2; stored++) {
        struct room room = {.store = stored ? fake.store : NULL};
        struct hearth_memory before, after;
        enum { COUNT = 20000 };
        open_room(&room, 0, 0, 0);
        hearth_process_memory(&before);
        for (int i = 0; i < COUNT; i++) {
            char key[32];
            snprintf(key, sizeof key, "many %d", i);
            struct hearth_session *session = open_session(&room, key);
            say(session, "hello");
            hearth_session_close(session);
        }
        hearth_process_memory(&after);
        assert_int_equal(state_of(&room).sessions, stored ? 0 : COUNT);
        print_message("%d conversations, %s: %llu bytes each\n", COUNT,
                      stored ? "stored" : "not stored",
                      (unsigned long long)(after.private_bytes - before.private_bytes) / COUNT);
        close_room(&room);
    }
    fake_store_finish(&fake);
}

/* ---- what is lost ---- */

static void what_was_not_spilled_is_computed_again(void **state)
{
    (void)state;
    struct fake_store fake;
    char alone[3][512];
    answers_alone(1, 3, 3, alone);
    fake_store_init(&fake);
    struct room room = {.store = fake.store};
    for (size_t t = 0; t < 3; t++) {
        fake.lose_spill = t == 1; /* as if the process had been killed: an older one stays */
        open_room(&room, 1, 0, 0);
        struct hearth_session *session = open_session(&room, "k");
        struct reply reply = numbered_turn(&room, session, 3, t);
        assert_string_equal(reply.text, alone[t]);
        if (t == 2) {
            assert_int_equal(reply.result.miss, HEARTH_MISS_EVICTED);
            assert_in_range(reply.result.cached_tokens, 20, reply.result.prompt_tokens / 2);
        }
        hearth_session_close(session);
        close_room(&room);
    }
    fake_store_finish(&fake);
}

static void another_model_takes_the_messages_and_says_so(void **state)
{
    (void)state;
    struct fake_store fake;
    char alone[2][512];
    answers_alone(0, 4, 2, alone);
    fake_store_init(&fake);
    struct room room = {.store = fake.store};
    struct hearth_engine_options f16 = {.threads = 1, .kv_type = HEARTH_KV_F16};
    open_room(&room, 0, 0, 0);
    numbered_turn(&room, open_session(&room, "k"), 4, 0);
    numbered_turn(&room, open_session(&room, "type"), 5, 0);
    close_room(&room);

    open_room_with(&room, 0, &f16, 0);
    struct hearth_session *session = open_session(&room, "type");
    struct reply reply = numbered_turn(&room, session, 5, 1);
    assert_int_equal(reply.result.miss, HEARTH_MISS_MODEL);
    assert_int_equal(reply.result.cached_tokens, 0);
    close_room(&room);

    open_room(&room, 1, 0, 0);
    session = open_session(&room, "k");
    assert_int_equal(hearth_session_count(session), 2);
    ask(session, &reply);
    hearth_sessions_step(room.sessions, &(uint64_t){0});
    close_room(&room); /* cancelled: the record is this model's, the spill still the other's */

    open_room(&room, 0, 0, 0);
    session = open_session(&room, "k");
    assert_int_equal(hearth_session_truncate(session, 2, NULL), 0);
    reply = numbered_turn(&room, session, 4, 1);
    assert_string_equal(reply.text, alone[1]);
    close_room(&room);
    fake_store_finish(&fake);
}

/* ---- what is damaged ---- */

struct damage {
    struct fake_store fake;
    struct room room;
    char alone[2][512];
    unsigned char *record, *spill; /* as they were behind the first turn */
    size_t record_bytes, spill_bytes;
    struct store_spill told;
};

static void begin_damage(struct damage *damage, size_t m)
{
    answers_alone(m, 5, 2, damage->alone);
    fake_store_init(&damage->fake);
    damage->room = (struct room){.store = damage->fake.store};
    open_room(&damage->room, m, 0, 0);
    numbered_turn(&damage->room, open_session(&damage->room, "k"), 5, 0);
    hearth_sessions_close(damage->room.sessions);
    struct fake_entry *entry = fake_store_find(&damage->fake, "k");
    damage->spill = fake_store_bytes(entry);
    damage->told = entry->spill;
    damage->spill_bytes = (size_t)entry->spill.bytes;
    damage->record_bytes = entry->record.size;
    damage->record = malloc(entry->record.size);
    memcpy(damage->record, entry->record.data, entry->record.size);
}

/* The second turn with these bytes in the place of the spill. */
static struct reply turn_with(struct damage *damage, const void *bytes, size_t size, bool sum)
{
    struct room *room = &damage->room;
    struct hearth_sessions_options options = {.store = damage->fake.store,
                                              .unix_seconds = 1000000000};
    struct fake_entry *entry = fake_store_find(&damage->fake, "k");
    entry->record.size = 0;
    assert_true(buffer_append(&entry->record, damage->record, damage->record_bytes));
    entry->spill = damage->told;
    fake_store_replace(entry, bytes, size, sum);
    hearth_engine_trim(room->engine, UINT64_MAX);
    assert_int_equal(hearth_sessions_open(models[0], room->engine, &options, &room->sessions, NULL),
                     0);
    struct hearth_session *session = open_session(room, "k");
    struct reply reply = numbered_turn(room, session, 5, 1);
    damage->fake.lose_spill = true;
    hearth_session_close(session);
    hearth_sessions_close(room->sessions);
    damage->fake.lose_spill = false;
    return reply;
}

static void end_damage(struct damage *damage)
{
    hearth_engine_close(damage->room.engine);
    fake_store_finish(&damage->fake);
    free(damage->spill);
    free(damage->record);
}

static size_t rounds(size_t few, size_t many)
{
    return getenv("HEARTH_LONG") ? many : few;
}

static void check_damaged(struct damage *damage, const void *bytes, size_t size)
{
    size_t dropped = damage->fake.dropped;
    struct reply reply = turn_with(damage, bytes, size, false);
    assert_string_equal(reply.text, damage->alone[1]);
    assert_int_equal(reply.result.miss, HEARTH_MISS_DAMAGED);
    assert_int_equal(reply.result.cached_tokens, 0);
    assert_int_equal(damage->fake.dropped, dropped + 1);
}

static void damaged_spills_never_give_a_wrong_token(void **state)
{
    (void)state;
    struct damage damage = {0};
    struct random random = random_from_seed(11);
    begin_damage(&damage, 0);
    unsigned char *bytes = malloc(damage.spill_bytes + 1);
    memcpy(bytes, damage.spill, damage.spill_bytes);
    struct reply whole = turn_with(&damage, bytes, damage.spill_bytes, false);
    assert_string_equal(whole.text, damage.alone[1]);
    assert_true(whole.result.cached_tokens > 20);

    /* the header (and beside it), and whole blocks counted from the end */
    size_t ids = (size_t)damage.told.tokens * 4, header = 24 + 16;
    size_t blocks = (size_t)(damage.told.tokens + 31) / 32;
    size_t block = (damage.spill_bytes - ids - header) / blocks;
    for (size_t b = 0; b <= blocks; b++) {
        for (size_t beside = 0; beside < 3; beside++)
            check_damaged(&damage, bytes, header + b * block + beside - 1);
    }
    for (size_t cut = 0; cut <= header; cut += 7)
        check_damaged(&damage, bytes, cut);
    check_damaged(&damage, bytes, damage.spill_bytes - 1);
    check_damaged(&damage, bytes, damage.spill_bytes + 1);
    for (size_t i = rounds(200, 2000); i > 0; i--) {
        size_t range = i % 4 ? damage.spill_bytes : header + ids;
        size_t at = random_u64(&random) % range;
        at = i % 4 == 0 && at >= header ? damage.spill_bytes - 1 - (at - header) : at;
        unsigned char flip = (unsigned char)(1u << random_u64(&random) % 8);
        bytes[at] ^= flip;
        check_damaged(&damage, bytes, damage.spill_bytes);
        bytes[at] ^= flip;
    }
    free(bytes);
    end_damage(&damage);
}

static void forged_spills_harm_nobody(void **state)
{
    (void)state;
    struct damage damage = {0};
    struct random random = random_from_seed(12);
    begin_damage(&damage, 0);
    unsigned char *bytes = malloc(damage.spill_bytes);
    size_t ids = (size_t)damage.told.tokens * 4, header = 24 + 16, ends[8] = {0};
    for (size_t i = rounds(200, 2000); i > 0; i--) {
        memcpy(bytes, damage.spill, damage.spill_bytes);
        size_t size = damage.spill_bytes;
        for (uint64_t n = 1 + random_u64(&random) % 6; n > 0; n--) {
            size_t at = random_u64(&random) % (random_u64(&random) % 2 ? header : size);
            at = random_u64(&random) % 4 ? at : size - 1 - at % ids;
            bytes[at] = (unsigned char)(random_u64(&random) % 3 ? random_u64(&random) >> 40 : 0xff);
        }
        if (i % 5 == 0)
            size = random_u64(&random) % size;
        struct reply reply = turn_with(&damage, bytes, size, true);
        ends[reply.result.stop]++;
    }
    assert_true(ends[HEARTH_STOP_END] + ends[HEARTH_STOP_LENGTH] > 50);
    free(bytes);
    end_damage(&damage);
}

static void a_damaged_record_is_refused_or_told(void **state)
{
    (void)state;
    struct damage damage = {0};
    struct hearth_session *session;
    struct hearth_error err;
    begin_damage(&damage, 0);
    damage.record[damage.record_bytes - 1] ^= 1; /* what the messages became */
    struct reply reply = turn_with(&damage, damage.spill, damage.spill_bytes, false);
    assert_string_equal(reply.text, damage.alone[1]);
    assert_true(reply.result.cached_tokens > 20); /* the spill was good */
    struct hearth_sessions_options options = {.store = damage.fake.store};
    struct fake_entry *entry = fake_store_find(&damage.fake, "k");
    entry->record.data[70] ^= 1;
    assert_int_equal(
        hearth_sessions_open(models[0], damage.room.engine, &options, &damage.room.sessions, NULL),
        0);
    assert_int_equal(hearth_session_open(damage.room.sessions, "k", &session, &err),
                     HEARTH_E_FORMAT);
    assert_non_null(strstr(err.text, "\"k\""));
    assert_int_equal(state_of(&damage.room).sessions, 0);
    hearth_sessions_close(damage.room.sessions);
    end_damage(&damage);
}

/* ---- a small memory ---- */

static uint64_t kv_bytes_of_turns(size_t m, size_t turns)
{
    struct room room = {0};
    open_room(&room, m, 0, 0);
    struct hearth_session *session = open_session(&room, NULL);
    for (size_t t = 0; t < turns; t++)
        numbered_turn(&room, session, 1, t);
    uint64_t bytes = state_of(&room).memory.kv_bytes;
    hearth_session_close(session);
    close_room(&room);
    return bytes;
}

/* `COUNT` conversations of three turns in the memory of three of them. */
static void many_in_the_memory_of_few(size_t m, bool together, bool anonymous)
{
    enum { COUNT = 12, TURNS = 3 };
    static char alone[COUNT][TURNS][512];
    static struct reply replies[COUNT];
    struct hearth_session *sessions[COUNT];
    size_t known[COUNT] = {0};
    struct fake_store fake;
    fake_store_init(&fake);
    struct room room = {.store = fake.store};
    uint64_t most = 3 * kv_bytes_of_turns(m, TURNS);
    open_room(&room, m, most, 0);
    for (size_t i = 0; i < COUNT; i++) {
        char key[8];
        snprintf(key, sizeof key, "%zu", i);
        answers_alone(m, i, TURNS, alone[i]);
        sessions[i] = open_session(&room, anonymous ? NULL : key);
    }
    for (size_t t = 0; t < TURNS; t++) {
        for (size_t i = 0; i < COUNT; i++) {
            char text[64];
            text_of_turn(text, i, t);
            say(sessions[i], text);
            ask(sessions[i], &replies[i]);
            if (!together)
                run(&room);
            assert_true(state_of(&room).memory.kv_bytes <= most);
        }
        run(&room);
        for (size_t i = 0; i < COUNT; i++) {
            assert_string_equal(replies[i].text, alone[i][t]);
            if (t > 0) /* all begin with the same few tokens */
                assert_int_equal(replies[i].result.cached_tokens, known[i]);
            known[i] = known_behind(&replies[i]);
        }
    }
    assert_true(fake.spills >= COUNT * TURNS - 4);
    for (size_t i = 0; i < COUNT; i++)
        hearth_session_close(sessions[i]);
    close_room(&room);
    fake_store_finish(&fake);
}

static void many_go_on_in_the_memory_of_few(void **state)
{
    (void)state;
    for (size_t m = 0; m < 2; m++) {
        many_in_the_memory_of_few(m, false, false);
        many_in_the_memory_of_few(m, false, true);
        many_in_the_memory_of_few(m, true, false);
    }
}

static void shedding_gives_back_what_was_asked_for(void **state)
{
    (void)state;
    struct fake_store fake;
    char alone[2][512];
    answers_alone(0, 0, 2, alone);
    fake_store_init(&fake);
    struct room room = {.store = fake.store};
    struct hearth_session *sessions[3];
    open_room(&room, 0, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        sessions[i] = open_session(&room, NULL);
        numbered_turn(&room, sessions[i], i, 0);
    }
    uint64_t before = state_of(&room).memory.kv_bytes;
    uint64_t freed = hearth_sessions_shed(room.sessions, 1);
    assert_int_equal(state_of(&room).memory.kv_bytes, before - freed);
    assert_int_equal(state_of(&room).held, 2);
    assert_int_equal(info_of(sessions[0]).kv_bytes, 0); /* the least recently used */
    assert_true(info_of(sessions[0]).spill_bytes > 1000);
    assert_int_equal(hearth_sessions_shed(room.sessions, UINT64_MAX), before - freed);
    assert_int_equal(state_of(&room).memory.kv_bytes, 0);
    struct reply reply = numbered_turn(&room, sessions[0], 0, 1);
    assert_string_equal(reply.text, alone[1]);
    assert_true(reply.result.cached_tokens > 20);
    for (size_t i = 0; i < 3; i++)
        hearth_session_close(sessions[i]);
    close_room(&room);
    fake_store_finish(&fake);
}

/* ---- edits and forks ---- */

static void edits_and_forks_of_who_rests(void **state)
{
    (void)state;
    struct fake_store fake;
    char alone[3][512];
    fake_store_init(&fake);
    struct hearth_session *session, *fork;
    for (size_t m = 0; m < 2; m++) {
        struct room room = {.store = fake.store};
        answers_alone(m, 6, 3, alone);
        open_room(&room, m, 0, 0);
        session = open_session(&room, m ? "m1" : "m0");
        numbered_turn(&room, session, 6, 0);
        numbered_turn(&room, session, 6, 1);
        rest(&room);
        assert_int_equal(hearth_session_fork(session, 4, m ? "m0" : "m1", &fork, NULL),
                         m ? HEARTH_E_STATE : 0);
        if (m)
            assert_int_equal(hearth_session_fork(session, 4, NULL, &fork, NULL), 0);
        struct reply reply = numbered_turn(&room, fork, 6, 2);
        assert_string_equal(reply.text, alone[2]);
        assert_true(reply.result.cached_tokens > 60);
        assert_int_equal(hearth_session_remove(fork, NULL), 0);
        hearth_session_close(fork);
        rest(&room);
        assert_int_equal(hearth_session_truncate(session, 0, NULL), 0);
        reply = numbered_turn(&room, session, 6, 0);
        assert_string_equal(reply.text, alone[0]);
        /* the spill's window lies behind the place where this goes on */
        assert_int_equal(reply.result.miss, m ? HEARTH_MISS_WINDOW : HEARTH_MISS_EDITED);
        assert_true(m || reply.result.cached_tokens > 30);
        hearth_session_close(session);
        close_room(&room);
    }
    fake_store_finish(&fake);
}

/* ---- settings and errors ---- */

static void who_may_not_be_kept_is_not(void **state)
{
    (void)state;
    struct fake_store fake;
    fake_store_init(&fake);
    struct room room = {.store = fake.store};
    const struct hearth_session_settings never = {.keep = HEARTH_KEEP_NEVER}, usual = {0};
    open_room(&room, 0, 0, 0);
    struct hearth_session *session = open_session(&room, "k"), *anonymous;
    say(session, "hello");
    assert_non_null(fake_store_find(&fake, "k"));
    assert_int_equal(hearth_session_configure(session, &never, NULL), 0);
    assert_null(fake_store_find(&fake, "k"));
    anonymous = open_session(&room, NULL);
    assert_int_equal(hearth_session_configure(anonymous, &never, NULL), 0);
    numbered_turn(&room, session, 7, 0);
    numbered_turn(&room, anonymous, 7, 0);
    rest(&room);
    assert_int_equal(fake.spills, 0);
    assert_null(fake_store_find(&fake, "k"));
    hearth_session_close(session);
    session = open_session(&room, "k");
    assert_int_equal(hearth_session_count(session), 3);
    assert_int_equal(info_of(session).settings.keep, HEARTH_KEEP_NEVER);
    assert_int_equal(hearth_session_configure(session, &usual, NULL), 0);
    assert_non_null(fake_store_find(&fake, "k"));
    assert_int_equal(hearth_session_remove(session, NULL), 0);
    assert_null(fake_store_find(&fake, "k"));
    hearth_session_close(session);
    hearth_session_close(anonymous);
    close_room(&room);
    fake_store_finish(&fake);
}

static void a_full_disk_loses_nothing_that_is_in_memory(void **state)
{
    (void)state;
    struct fake_store fake;
    struct hearth_error err;
    char alone[2][512];
    answers_alone(0, 8, 2, alone);
    fake_store_init(&fake);
    struct room room = {.store = fake.store};
    open_room(&room, 0, 0, 0);
    fake.refuse_put = fake.refuse_spill = true;
    struct hearth_session *session = open_session(&room, "k");
    struct reply reply = numbered_turn(&room, session, 8, 0);
    assert_true(reply.result.unsaved);
    assert_true(info_of(session).unsaved);
    assert_int_equal(hearth_session_save(session, &err), HEARTH_E_LIMIT);
    assert_string_equal(err.text, "the disk is full");
    hearth_session_close(session);
    rest(&room);
    assert_int_equal(state_of(&room).sessions, 1);
    assert_int_equal(state_of(&room).memory.kv_bytes, 0);
    fake.refuse_put = fake.refuse_spill = false;
    session = open_session(&room, "k");
    assert_int_equal(hearth_session_save(session, NULL), 0);
    reply = numbered_turn(&room, session, 8, 1);
    assert_string_equal(reply.text, alone[1]);
    assert_false(reply.result.unsaved);
    hearth_session_close(session);
    rest(&room);
    assert_int_equal(state_of(&room).sessions, 0);
    close_room(&room);
    fake_store_finish(&fake);
}

static void failing_allocations_lose_nothing(void **state)
{
    (void)state;
    char alone[2][512];
    answers_alone(0, 9, 2, alone);
    struct fake_store fake;
    fake_store_init(&fake);
    for (unsigned long n = 1; n < 400; n += 3) {
        struct room room = {.store = fake.store};
        struct hearth_session *session;
        struct reply reply;
        char key[32];
        snprintf(key, sizeof key, "%lu", n % 50);
        open_room(&room, 0, 0, 0);
        session = open_session(&room, key);
        assert_int_equal(hearth_session_set_messages(session, "[]", 2, NULL), 0);
        numbered_turn(&room, session, 9, 0);
        mem_fail_nth(n);
        rest(&room);
        char text[64], message[128];
        text_of_turn(text, 9, 1);
        snprintf(message, sizeof message, "{\"role\":\"user\",\"content\":\"%s\"}", text);
        int status = hearth_session_append(session, message, strlen(message), NULL);
        mem_fail_nth(0);
        if (status)
            say(session, text);
        mem_fail_nth(n);
        reply = (struct reply){0};
        struct hearth_ask what = ask_for(&reply);
        status = hearth_session_ask(session, &what, &reply.request, NULL);
        while (!status && !reply.ended)
            hearth_sessions_step(room.sessions, &(uint64_t){0});
        mem_fail_nth(0);
        if (status || reply.result.stop == HEARTH_STOP_ERROR) {
            ask(session, &reply);
            run(&room);
        }
        assert_string_equal(reply.text, alone[1]);
        hearth_session_close(session);
        close_room(&room);
    }
    fake_store_finish(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_rests_goes_on_where_it_was),
        cmocka_unit_test(without_a_store_the_messages_rest_in_memory),
        cmocka_unit_test(what_nobody_holds_leaves_memory),
        cmocka_unit_test(what_was_not_spilled_is_computed_again),
        cmocka_unit_test(another_model_takes_the_messages_and_says_so),
        cmocka_unit_test(damaged_spills_never_give_a_wrong_token),
        cmocka_unit_test(forged_spills_harm_nobody),
        cmocka_unit_test(a_damaged_record_is_refused_or_told),
        cmocka_unit_test(many_go_on_in_the_memory_of_few),
        cmocka_unit_test(shedding_gives_back_what_was_asked_for),
        cmocka_unit_test(edits_and_forks_of_who_rests),
        cmocka_unit_test(who_may_not_be_kept_is_not),
        cmocka_unit_test(a_full_disk_loses_nothing_that_is_in_memory),
        cmocka_unit_test(failing_allocations_lose_nothing),
    };
    return cmocka_run_group_tests(tests, set_up_models, tear_down_models);
}
