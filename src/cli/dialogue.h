/* A conversation that `hearth run` holds, wherever it is computed: in this process (local), or by a
 * daemon that has the model (daemon). */
#ifndef CLI_DIALOGUE_H
#define CLI_DIALOGUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "cli/answer.h"
#include "hearth/session.h"

#define DIALOGUE_KEY_MAX 256 /* bytes, as of session.h */

struct client;
struct dialogue;

struct dialogue_info {
    char key[DIALOGUE_KEY_MAX + 1]; /* "": it has no name */
    uint64_t messages, tokens, kv_bytes, spill_bytes;
};

struct dialogue_calls {
    size_t (*count)(const struct dialogue *dialogue); /* of messages */
    /* All of them, the caller's; NULL on failure. */
    json_t *(*messages)(const struct dialogue *dialogue, struct hearth_error *err);
    int (*set_messages)(struct dialogue *dialogue, const json_t *messages,
                        struct hearth_error *err);
    int (*append)(struct dialogue *dialogue, const json_t *message, struct hearth_error *err);
    int (*truncate)(struct dialogue *dialogue, size_t count, struct hearth_error *err);
    /* A copy with a name, with which it goes on. */
    int (*keep)(struct dialogue *dialogue, const char *name, struct hearth_error *err);
    int (*info)(struct dialogue *dialogue, struct dialogue_info *out, struct hearth_error *err);
    /* As answer_compute. */
    int (*answer)(struct dialogue *dialogue, const struct answer_options *options,
                  struct answer *answer, struct hearth_error *err);
    /* Gives it to the store again and says why that fails. */
    int (*save)(struct dialogue *dialogue, struct hearth_error *err);
    /* While keys are awaited; nanoseconds until it wants to be called again. */
    uint64_t (*idle)(struct dialogue *dialogue);
    void (*say_timings)(const struct dialogue *dialogue, const struct answer *answer);
    /* One in which nothing was said is not kept. */
    void (*close)(struct dialogue *dialogue);
};

/* The beginning of each implementation's own struct. */
struct dialogue {
    const struct dialogue_calls *calls;
    uint32_t context; /* tokens that it may have; 0: not known */
    bool has_store;   /* it can be kept */
};

/* In this process. Engine and store outlive it. `key` NULL: without a name. */
struct dialogue_local_options {
    const struct loaded *loaded;
    struct hearth_store *store; /* may be NULL */
    uint64_t idle_ns;
    const char *key;
    bool plain;
    int overflow; /* enum hearth_overflow; negative: as the conversation has it */
};
int dialogue_local_open(const struct dialogue_local_options *options, struct dialogue **out,
                        bool *plain, struct hearth_error *err);

/* By the daemon, which knows the model by that name. The client outlives it. */
struct dialogue_daemon_options {
    struct client *client;
    const char *model, *key;
    int overflow;
    bool has_store;
};
int dialogue_daemon_open(const struct dialogue_daemon_options *options, struct dialogue **out,
                         struct hearth_error *err);
/* The name by which the daemon knows a model that is meant by its name or by the path of its file;
 * allocated. NULL where it does not. */
char *dialogue_daemon_model(struct client *client, const char *model);
/* Whether the model has no chat template, as far as the daemon says. */
bool dialogue_daemon_is_plain(struct client *client, const char *model);

#endif
