/* What the models_*.c share.
 *
 * models.c: the list and its names. models_load.c: who waits, leases, stages. models_probe.c: what
 * is known of files. models_budget.c: who may take how much. models_pace.c: cores and pressure.
 * models_settings.c: the settings file. models_holders.c: who holds which conversation. */
#ifndef SERVER_MODELS_PARTS_H
#define SERVER_MODELS_PARTS_H

#include "server/events.h"
#include "server/library.h"
#include "server/log.h"
#include "server/metrics.h"
#include "server/models.h"

struct event;
struct inquiry;
struct model_holders;
struct models_settings;

/* ---- what is known of a file ---- */

/* What a load's memory depends on, besides the file. */
struct load_shape {
    uint32_t context, threads;
    enum hearth_kv_type kv_type;
    bool no_mmap;
};

/* WORK_READY's estimate, checked: no sum of them overflows. */
struct figures {
    uint32_t context;
    uint64_t weights, kv, scratch, fixed, total;
    uint64_t kv_per_token;
};

struct known {
    struct library_key key;
    struct load_shape shape;
    struct figures figures;
    json_t *ready;
    uint64_t used; /* a count: the least of them goes first */
};

/* ---- who waits ---- */

enum wait_kind {
    WAIT_LEASE,
    WAIT_KNOWN,
    WAIT_ESTIMATE,
};

struct waits {
    struct model_wait *first, *last;
};

struct model_wait {
    struct model *model;
    struct waits *in; /* the list that it is in: the model's, or those that will be called back */
    struct model_wait *previous, *next;
    enum wait_kind kind;
    /* WAIT_LEASE */
    struct model_acquire acquire;
    struct model_lease *lease; /* it will have it; counted from when it is granted */
    bool loaded;
    double told; /* of the load */
    /* the others */
    struct inquiry *inquiry;
    struct load_shape shape;
    enum hearth_fit fit;
    void (*on_known)(void *context, const json_t *json, const struct hearth_error *err);
    void *context;
    json_t *json;
    struct hearth_error error; /* code 0: it was granted */
};

struct model_lease {
    struct model *model;
    struct model_lease *previous, *next; /* of the model */
    bool granted;
    bool lost; /* the worker that it was for is gone */
};

/* ---- models ---- */

enum model_stage {
    STAGE_ABSENT,
    STAGE_WANTED,  /* its figures are asked for, or memory is awaited */
    STAGE_LOADING, /* from here on there is a backend */
    STAGE_LOADED,
    STAGE_ENDING, /* it drains */
};

struct model {
    struct models *models;
    struct model *next, *next_in_bucket;
    char *name;
    bool upstream;

    const struct library_model *file; /* NULL: it is gone, or an upstream */
    uint64_t bytes;                   /* of the file that there is, or was */
    int64_t modified_unix;
    char digest[4 * SUM_BYTES + 1];
    struct library_key hopeless; /* a probe in the background failed of it */

    const struct model_settings *own; /* of the settings file, or the defaults */
    struct model_settings *override;  /* of the load, and of the next one; allocated */
    struct model_settings *next_override;

    enum model_stage stage;
    bool admitted; /* WANTED: its memory is set aside */
    /* From WANTED to LOADED: it was alone and is loaded without a probe. All of the limit is its
     * own until it says what it takes; others wait so long. */
    bool blind;
    struct backend *backend, *dead; /* `dead` is destroyed from the loop */
    struct library_key key;         /* of the files that are loaded, or will be */
    unsigned tries;                 /* WANTED: how often the files were found changed */
    struct inquiry *inquiry;        /* that the load waits for */
    struct figures figures;
    uint64_t kv_floor; /* of the KV cache it may have so much for sure */
    uint64_t share;    /* what the worker was told that it may take */
    uint64_t shed_ns;  /* when it was last asked to give back */
    unsigned threads;  /* what the worker was told; 0: nothing */
    json_t *ready;
    double loading;
    uint64_t loading_told_ns;
    uint32_t restarts;
    const char *why; /* ENDING: for the event */

    struct waits waits;
    struct model_lease *leases;
    uint32_t lease_count;
    uint64_t used; /* a count: the least of them is evicted first */
    uint64_t ttl_ns;
    bool ttl_given;
    uint64_t expires_ns;
    struct event *timer; /* the time to live; while it ends, how long that may take */
};

#define MODEL_BUCKETS 1024
#define KNOWN_MAX 128

struct models {
    struct event_base *base;
    struct models_options options;
    struct library *library;
    struct models_settings *settings;
    struct model *first, *last;
    struct model *buckets[MODEL_BUCKETS];
    size_t count;
    uint64_t uses;
    unsigned cores;

    struct waits settled; /* called back from the loop */
    struct event *settle;
    struct event *reap;

    struct known known[KNOWN_MAX];
    size_t known_count;
    struct inquiry *inquiries; /* those that run, then those that wait */
    unsigned inquiries_running;
    struct event *probe_next;

    struct event *balance; /* soon: shares and cores */
    struct event *watch;   /* each second while something is loaded */
    struct event *widen;   /* later: more threads for those that go on */
    unsigned busy;         /* workers that the cores were divided by */
    struct pressure_watch *pressure;

    struct model_holders *holders;
    bool draining, drained;
    void (*on_drained)(void *context);
    void *drained_context;
};

/* ---- models.c ---- */

bool model_is_resident(const struct model *model); /* a worker of it runs, or is about to */
/* Looks whether the file is as it was listed, and at all folders where it is not. */
void models_look_at(struct model *model);
const struct model_settings *model_settings(const struct model *model);
struct load_shape model_shape(const struct model *model, const struct model_settings *settings);
/* An event with "model" and what `more` has, which is taken. */
void models_tell(struct models *models, const char *type, const struct model *model, json_t *more);

/* ---- models_load.c ---- */

void models_on_settle(int fd, short what, void *context);
void models_on_reap(int fd, short what, void *context);
void models_on_timer(int fd, short what, void *context); /* of a model */
void waits_push(struct waits *waits, struct model_wait *wait);
void waits_remove(struct model_wait *wait);
void waits_finish(struct waits *waits);
struct model_wait *wait_create(struct model *model, enum wait_kind kind);
/* Will be called back from the loop. `error` NULL: with what it waited for. */
void wait_settle(struct model_wait *wait, const struct hearth_error *error);

/* What a load waited for is there. */
void model_load_known(struct model *model, const struct known *known,
                      const struct hearth_error *error);
/* Whatever waited for memory, or for figures, is looked at again. */
void models_admit_waiting(struct models *models);
/* Ends a worker when what runs in it has ended. */
void model_end(struct model *model, const char *why);
void model_load_finish(struct model *model); /* at the end of it all; nothing is called back */

/* ---- models_probe.c ---- */

bool load_shape_equal(const struct load_shape *a, const struct load_shape *b);
const struct known *known_find(struct models *models, const struct library_key *key,
                               const struct load_shape *shape); /* NULL shape: of any */
/* `json` is kept with another reference. HEARTH_E_FORMAT where it makes no sense. */
int known_put(struct models *models, const struct library_key *key, const struct load_shape *shape,
              json_t *json, struct hearth_error *err);
int figures_read(const json_t *ready, struct figures *out, struct hearth_error *err);
json_t *ready_parse(struct text text, struct hearth_error *err);
/* Asks for what is known of a model's files, for its load or a wait. */
int model_inquire(struct model *model, const struct load_shape *shape, struct inquiry **out,
                  struct hearth_error *err);
void model_inquire_quietly(struct model *model); /* in the background, if it is worth it */
void models_on_probe_next(int fd, short what, void *context);
void inquiries_finish(struct models *models);

/* ---- models_budget.c ---- */

/* 0: its memory is set aside, others may be ending for it. Else why not. */
int model_admit(struct model *model, struct hearth_error *err);
/* Sets aside all that there is for a model that is alone and was not asked what it takes. False
 * where it is not alone, or what its file has is too much anyway. */
bool model_admit_blindly(struct model *model);
/* It has said what it takes. */
void model_admitted_takes(struct model *model, const struct figures *figures);
/* Whether those that end have given enough back; then its share. */
bool model_may_start(struct model *model, uint64_t *share);
void models_balance(struct models *models); /* tells the workers what they may take */
void models_balance_soon(struct models *models);
void models_on_balance(int fd, short what, void *context);
json_t *model_estimate_json(struct model *model, const struct known *known, enum hearth_fit fit);

/* ---- models_pace.c ---- */

int models_pace_create(struct models *models, struct hearth_error *err);
void models_pace_destroy(struct models *models);
void models_pace_watch(struct models *models); /* something was loaded, or ended */
void models_divide_cores(struct models *models);

/* ---- models_settings.c ---- */

int models_settings_read(const char *path, const struct model_settings *defaults,
                         struct models_settings **out, struct hearth_error *err);
void models_settings_free(struct models_settings *settings);
const struct model_settings *models_settings_of(const struct models_settings *settings,
                                                const char *name);
struct model_settings *
model_settings_copy(const struct model_settings *settings); /* NULL: memory */
void model_settings_free(struct model_settings *settings);
/* Whether a worker that was loaded with one would do for the other. */
bool model_settings_load_alike(const struct model_settings *a, const struct model_settings *b);

/* ---- models_holders.c ---- */

struct model_holders *model_holders_create(void);
void model_holders_destroy(struct model_holders *holders);
void model_holders_clear(struct model_holders *holders, const struct model *model);

#endif
