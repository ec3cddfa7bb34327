/* A library in a folder of the test's own, and workers that are nothing but numbers: what models
 * are tested with. */
#ifndef TESTS_MODELS_WORLD_H
#define TESTS_MODELS_WORLD_H

#include <event2/event.h>

#include "server/models.h"
#include "support/folder.h"

#define WORLD_WORKERS_MAX 4096
#define GB UINT64_C(1000000000)
#define MS UINT64_C(1000000)
#define PATIENCE_MS 5000

struct world;

/* A worker that was started; it stays in the list when it is gone. */
struct fake_worker {
    struct backend base;
    struct world *world;
    struct backend_owner owner;
    char name[64];
    struct work_start start;
    char chat_template[64];
    bool alive, draining;
    unsigned threads, sheds;
    uint64_t memory, shed_bytes;
    struct event *event; /* what it will say next */
    enum backend_state next;
    struct hearth_error error;
    char *ready;
};

struct fake_probe {
    struct world *world;
    struct event *event;
    void (*on_probed)(void *context, int code, struct text ready_or_cause);
    void *context;
    char name[64];
    struct work_start start;
    struct fake_probe *next;
};

struct world {
    char folder[TEST_FOLDER_MAX];
    struct event_base *base;
    struct models *models;
    struct events *events;
    struct models_options options;
    struct fake_worker workers[WORLD_WORKERS_MAX];
    unsigned worker_count;
    struct fake_probe *probes;
    unsigned probe_count, probes_running, probes_running_max;
    /* how they behave */
    bool hold;                                     /* loads do not go on by themselves */
    bool hold_probes;                              /* nor do probes */
    bool hold_drains;                              /* workers do not end when they drain */
    unsigned fail_loads, fail_probes, fail_starts; /* the next so many */
    uint64_t weights, kv, other;                   /* of each model */
    char told[8192]; /* types of events and what they are about, a line each */
};

/* Writes a file that begins as GGUF does. */
void world_file(struct world *world, const char *name, const char *content);
void world_gguf(struct world *world, const char *name);
void world_folder(struct world *world, const char *name);
void world_path(const struct world *world, const char *name, char path[512]);

void world_init(struct world *world);
void world_open(struct world *world); /* models_create, with the options as they are then */
void world_finish(struct world *world);
/* Runs the loop until the condition holds; fails the test where it takes too long. */
#define WORLD_UNTIL(world, condition)                                                              \
    do {                                                                                           \
        uint64_t world_end_ = os_monotonic_ns() + PATIENCE_MS * MS;                                \
        while (!(condition)) {                                                                     \
            if (os_monotonic_ns() > world_end_)                                                    \
                fail_msg("in vain: " #condition);                                                  \
            world_turn(world);                                                                     \
        }                                                                                          \
    } while (0)
void world_turn(struct world *world);              /* of the loop, of at most some milliseconds */
void world_wait(struct world *world, unsigned ms); /* turns for so long */
struct model *world_model(struct world *world, const char *name);
struct model_info world_info(struct world *world, const char *name);
struct fake_worker *world_worker(struct world *world,
                                 const char *name); /* the living one, or NULL */
unsigned world_alive(const struct world *world);

void fake_ready(struct fake_worker *worker); /* it has loaded */
void fake_say(struct fake_worker *worker, enum backend_state state, int code, const char *cause);
void fake_use(struct fake_worker *worker, uint64_t kv, uint64_t cached, unsigned running);

/* Somebody who wants a model. */
struct asker {
    struct model_wait *wait;
    struct model_lease *lease;
    bool answered, loaded, release_at_once;
    unsigned loadings;
    double fraction;
    struct hearth_error error;
};
void asker_ask(struct asker *asker, struct model *model);
int asker_ask_with(struct asker *asker, struct model *model, const struct model_settings *settings,
                   const uint64_t *ttl_ns, struct hearth_error *err);
void asker_release(struct asker *asker);
/* Asks, waits for the answer, and releases. */
void world_use(struct world *world, const char *name);

#endif
