/* The models that can be asked: files in folders, files given by name, upstreams; which of them are
 * loaded, until when, and whether one has to go for another.
 *
 * A model is known by the stem of its file; a split one by what its parts have in common. Names may
 * be asked for with the file's ending, in any case, or with ":latest" behind them. */
#ifndef SERVER_MODELS_H
#define SERVER_MODELS_H

#include <jansson.h>

#include "base/os.h"
#include "server/local.h"

struct event_base;
struct events;
struct models;
struct model;       /* one that can be asked; lives as long as `models` */
struct model_lease; /* while one is held the model is not unloaded */

#define MODELS_TTL_NEVER UINT64_MAX

/* Settings of a model: of a file MODELS.json, of a request to load it, or the defaults. `sampling`
 * has no lists. */
struct model_settings {
    uint32_t context, threads, answers_max; /* 0: the default */
    enum hearth_kv_type kv_type;
    enum hearth_fit fit;
    bool no_mmap, mlock;
    uint64_t ttl_ns, idle_ns;           /* 0: at once; MODELS_TTL_NEVER */
    const char *chat_template, *system; /* NULL: the file's own; none */
    struct hearth_sampling sampling;    /* the defaults of requests */
    uint32_t max_tokens;                /* 0: none */
};

struct models_options {
    const char *const *folders, *const *files;
    size_t folder_count, file_count;
    const char *settings_path; /* JSON; NULL: none */
    uint64_t memory_max;       /* weights and private memory of all processes; 0: half */
    uint64_t hang_ns;          /* of workers (local.h) */
    struct model_settings defaults;
    struct hearth_store *store;
    struct log *log;
    struct metrics *metrics;
    struct events *events;
    /* How workers are made: local_start, local_probe_start and local_probe_cancel; for tests,
     * others. NULL: these. */
    int (*start)(struct event_base *base, const struct local_options *options, struct backend **out,
                 struct hearth_error *err);
    int (*probe)(struct event_base *base, const struct local_options *options,
                 void (*on_probed)(void *context, int code, struct text ready_or_cause),
                 void *context, struct local_probe **out, struct hearth_error *err);
    void (*probe_cancel)(struct local_probe *probe);
    const char *pressure_root; /* for tests: where the system's files are; NULL: "" */
};

/* HEARTH_E_MISSING or ARGUMENT name a folder or file that is not there, or a setting. */
int models_create(struct event_base *base, const struct models_options *options,
                  struct models **out, struct hearth_error *err);
/* Nothing is called back; waits and leases end with it. Not from inside a backend's call. */
void models_destroy(struct models *models);
/* A name that another server answers; the backend is taken over, but on failure. STATE where the
 * name is taken. */
int models_add_upstream(struct models *models, const char *name, struct backend *backend,
                        struct hearth_error *err);

/* One file more, by its absolute path; the same one again is the same model. */
int models_add_file(struct models *models, const char *path, struct model **out,
                    struct hearth_error *err);

/* The folders are looked at again where they changed. NULL with HEARTH_E_MISSING and a sentence.
 * An empty name is the only model there is, or the only one that is loaded. */
struct model *models_find(struct models *models, struct text name, struct hearth_error *err);
void models_visit(struct models *models, bool (*visit)(void *context, struct model *model),
                  void *context);

struct model_info {
    const char *name;
    bool upstream;
    uint64_t bytes; /* of the file, all parts */
    int64_t modified_unix;
    struct os_file_id file; /* its first part; zeros where there is none */
    const char *digest; /* of (device, inode, size, mtime): stands for the file; 64 hex digits */
    enum model_presence { MODEL_UNLOADED, MODEL_LOADING, MODEL_LOADED } presence;
    double loading;      /* 0 to 1 */
    const json_t *ready; /* of the last load or probe (worker/protocol.h); NULL: not yet known */
    uint32_t context;    /* of a loaded one */
    uint64_t expires_ns; /* os_monotonic_ns; MODELS_TTL_NEVER; only where no lease is held */
    uint32_t leases;
    struct work_state use;
    int process;
    uint32_t restarts;
    const struct model_settings *settings; /* until it is acquired with others, or unloaded */
};
void model_info(const struct model *model, struct model_info *out);

/* What is known of the file, by a probe where it was not loaded or probed before. Called back once,
 * from the loop, with the object or a cause. The token cancels it (models_forget). */
struct model_wait;
int model_probe(struct model *model,
                void (*on_known)(void *context, const json_t *ready,
                                 const struct hearth_error *err),
                void *context, struct model_wait **wait, struct hearth_error *err);

struct model_acquire {
    /* Other than the model's: for this load, and until it is unloaded. NULL: as they are. A loaded
     * one with other settings is loaded anew when nobody uses it, else HEARTH_E_STATE. */
    const struct model_settings *settings;
    bool ttl_given; /* holds until it is unloaded, or another one is given */
    uint64_t ttl_ns;
    void (*on_loading)(void *context, double fraction); /* may be NULL */
    /* Once, from the loop: a lease, or why not. `loaded`: this load was waited for. */
    void (*on_ready)(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err);
    void *context;
};
/* Loads it where it is not, evicting others by least use where the budget needs it, never one that
 * is leased; all who wait share one load. */
int model_acquire(struct model *model, const struct model_acquire *acquire,
                  struct model_wait **wait, struct hearth_error *err);
void models_forget(struct model_wait *wait); /* nothing is called back */

/* NULL where it has gone in spite of the lease: unloaded by force, or failed in a restart. */
struct backend *model_lease_backend(struct model_lease *lease);
struct model *model_lease_model(struct model_lease *lease);
/* The time to live begins anew. */
void model_release(struct model_lease *lease);

/* Which model holds a conversation in memory: asked before another one goes on with it. The lease's
 * model holds it from then on. NULL where no other has it. */
struct model *models_session_holder(struct models *models, struct text key);
void models_session_held(struct models *models, struct text key, struct model *by); /* NULL: none */

/* HEARTH_E_STATE while it is leased, unless `force`; then its answers end. HEARTH_E_MISSING where
 * it is not loaded. */
int model_unload(struct model *model, bool force, struct hearth_error *err);

/* Weights and private memory of all processes, this one's too; and the limit. */
struct models_memory {
    uint64_t limit, weights, private_workers, private_daemon, mapped;
};
void models_memory(const struct models *models, struct models_memory *out);
/* Estimate of a load with `settings` (NULL: as they are), called back like model_probe:
 *   {context, kv_type, weights_bytes, kv_bytes, scratch_bytes, fixed_bytes, private_bytes,
 *   total_bytes, limit_bytes, used_bytes, fits, evict: [names that would have to go],
 *   reason (a sentence where it does not fit)} */
int model_estimate(struct model *model, const struct model_settings *settings,
                   void (*on_known)(void *context, const json_t *estimate,
                                    const struct hearth_error *err),
                   void *context, struct model_wait **wait, struct hearth_error *err);

/* Takes no more, lets answers end, ends all workers; then calls back. */
void models_drain(struct models *models, uint64_t timeout_ns, void (*drained)(void *context),
                  void *context);

#endif
