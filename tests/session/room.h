/* What tests of conversations share: two tiny models, engines with conversations on them, and
 * greedy answers. */
#ifndef TESTS_SESSION_ROOM_H
#define TESTS_SESSION_ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hearth/session.h"
#include "support/gguf_writer.h"

#define VOCABULARY 96
#define ANSWER_TOKENS 12
#define MINUTE_NS (UINT64_C(60) * 1000000000)

/* One model that sees everything and one with a window of 40 tokens. */
extern struct hearth_model *models[2];
int set_up_models(void **state);
/* The file of one of them; the caller removes it. */
void write_model(size_t m, char path[TEST_PATH_MAX]);
int tear_down_models(void **state);

/* Everything that a test needs, with a clock that stands still unless the test moves it. */
struct room {
    struct hearth_engine *engine;
    struct hearth_sessions *sessions;
    struct hearth_store *store; /* where it is opened, the conversations are kept there */
    const char *pressure_root;  /* where it is set, pressure is watched there */
    uint64_t idle_ns;
    uint64_t now;
};

/* `room` is zeroed but for store, pressure_root and idle_ns. */
void open_room_with(struct room *room, size_t m, const struct hearth_engine_options *engine,
                    uint32_t context_max);
void open_room(struct room *room, size_t m, uint64_t kv_bytes_max, uint32_t context_max);
void close_room(struct room *room);

struct reply {
    bool ended;
    char text[512], streamed[512];
    struct hearth_result result;
    struct hearth_request *request;
    size_t cancel_after; /* bytes of text; 0: never */
    size_t order;        /* which to end, from 1 */
};

extern size_t replies_ended;

/* A greedy request that ends in `reply`. */
struct hearth_ask ask_for(struct reply *reply);
void ask_with(struct hearth_session *session, const struct hearth_ask *ask);
void ask(struct hearth_session *session, struct reply *reply);
/* Steps until nothing is left to do. */
void run(struct room *room);
/* Steps, ten minutes later, until all that is idle has been put away. */
void rest(struct room *room);
void say(struct hearth_session *session, const char *text);
struct reply turn(struct room *room, struct hearth_session *session, const char *text);
struct hearth_session *open_session(struct room *room, const char *key);

/* A text of its own for each number and turn. */
void text_of_turn(char text[64], size_t number, size_t turn_number);
/* What a conversation answers in each of its turns when it is alone and nothing is kept. */
void answers_alone(size_t m, size_t number, size_t turns, char answers[][512]);

#endif
