/* A model that another server answers, which speaks OpenAI's API: vLLM, llama-server, a cluster, a
 * cloud. Conversations are told to it whole; nothing of them is kept there. */
#ifndef SERVER_UPSTREAM_H
#define SERVER_UPSTREAM_H

#include "server/backend.h"

struct event_base;
struct log;
struct models;

struct upstream_options {
    const char *name;  /* for sentences and the log */
    const char *url;   /* above "/chat/completions", as http://host:8000/v1 */
    const char *model; /* what the server calls it; NULL: as we do */
    const char *key;   /* a bearer token; NULL: none */
    /* 0: 5 s until a connection stands, 5 min until an answer begins, 60 s between two pieces */
    uint64_t connect_ns, first_byte_ns, idle_ns;
    /* Before an attempt that follows one without an answer; doubled each time. 0: 250 ms. */
    uint64_t retry_ns;
    uint64_t health_ns; /* between two looks at whether it is there, while it is used; 0: 30 s */
    struct log *log;
};

#define UPSTREAM_ATTEMPTS 4
#define UPSTREAM_NAME_MAX 128
#define UPSTREAM_KEY_MAX 4096

/* It counts as ready until it is found not to be (BACKEND_RESTARTING): what is asked is tried all
 * the same. HEARTH_E_ARGUMENT for an address or a key that cannot be one. */
int upstream_create(struct event_base *base, const struct upstream_options *options,
                    struct backend_owner owner, struct backend **out, struct hearth_error *err);

/* ---- the file that `hearth upstream` writes ---- */

struct upstream_entry {
    const char *name, *url, *model, *key_file; /* model and key_file may be NULL */
};
struct upstream_list {
    struct upstream_entry *items;
    size_t count;
};
#define UPSTREAM_COUNT_MAX 256

/* No file is an empty list. Errors name what is wrong with it, not its path. */
int upstream_list_read(const char *path, struct upstream_list *out, struct hearth_error *err);
int upstream_list_write(const char *path, const struct upstream_list *list,
                        struct hearth_error *err);
/* Copies; HEARTH_E_STATE where the name is there, HEARTH_E_ARGUMENT for what cannot be used. */
int upstream_list_add(struct upstream_list *list, const struct upstream_entry *entry,
                      struct hearth_error *err);
int upstream_list_remove(struct upstream_list *list, const char *name, struct hearth_error *err);
void upstream_list_finish(struct upstream_list *list);

/* Gives all of a file to the models. One that cannot be used (its key is not there, its name is
 * taken) is said in the log and left out. */
int upstreams_load(struct event_base *base, const char *path, struct models *models,
                   struct log *log, struct hearth_error *err);

#endif
