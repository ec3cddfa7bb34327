/* What the files of hearth's own dialect (/hearth/v1) share. */
#ifndef SERVER_HEARTH_API_H
#define SERVER_HEARTH_API_H

#include "server/generation.h"
#include "server/openapi.h"

#define HEARTH_API_KEY_SIZE 257 /* of a conversation: 256 bytes and NUL */
#define HEARTH_API_COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- what handlers begin with ---- */

/* The body, read into `out`; without one {} is read. NULL: it is refused, and that is answered. */
json_t *hearth_api_body(struct http_exchange *exchange, const struct field *fields, size_t count,
                        void *out);
/* Answers the error of a call. */
void hearth_api_fail(struct http_exchange *exchange, const struct hearth_error *error);
void hearth_api_no_memory(struct http_exchange *exchange);

/* ---- calls of a worker ---- */

/* What a worker is asked for one request, in one step or several. */
struct hearth_api_call {
    struct daemon *daemon;
    struct http_exchange *exchange;
    struct model *model;
    char key[HEARTH_API_KEY_SIZE], to[HEARTH_API_KEY_SIZE];
    json_t *body; /* of the request, or NULL */
    int64_t index;
    /* Answers, or starts another call. */
    void (*then)(struct hearth_api_call *call, const json_t *reply);
    bool busy;  /* `then` runs */
    bool again; /* it has started another call */
    bool gone;  /* which found no memory, and is answered */
};
/* Takes the arguments, and the call, which is freed once it is answered or the client left. */
void hearth_api_start(struct hearth_api_call *call, const char *name, json_t *arguments);
void hearth_api_free(struct hearth_api_call *call);
/* Goes on with a reply, or, for the first step, NULL. */
void hearth_api_go_on(struct hearth_api_call *call, const json_t *reply);

/* ---- models (hearth_api_models.c) ---- */

json_t *hearth_api_use(const struct work_state *use);
void hearth_api_models(void *context, struct http_exchange *exchange);
void hearth_api_add(void *context, struct http_exchange *exchange);
void hearth_api_model(void *context, struct http_exchange *exchange);
void hearth_api_estimate(void *context, struct http_exchange *exchange);
void hearth_api_load(void *context, struct http_exchange *exchange);
void hearth_api_unload(void *context, struct http_exchange *exchange);
#define HEARTH_API_ESTIMATE_FIELDS 6
#define HEARTH_API_LOAD_FIELDS 10
#define HEARTH_API_UNLOAD_FIELDS 1
#define HEARTH_API_ADD_FIELDS 1
/* Those of an estimate are the first ones of a load. */
extern const struct field hearth_api_load_fields[HEARTH_API_LOAD_FIELDS];
extern const struct field hearth_api_unload_fields[HEARTH_API_UNLOAD_FIELDS];
extern const struct field hearth_api_add_fields[HEARTH_API_ADD_FIELDS];

/* ---- conversations (hearth_api_sessions.c) ---- */

/* The key in the path; false where it is none: that is answered. */
bool hearth_api_key(struct http_exchange *exchange, char key[HEARTH_API_KEY_SIZE]);
/* The model that goes on with a conversation: the one that `body` names as `model`, the one that
 * has it in memory, the one that the store has it from, or the one that needs no name. */
struct model *hearth_api_model_of(struct daemon *daemon, const char *key, const json_t *body,
                                  struct refusal *refusal);

void hearth_api_sessions(void *context, struct http_exchange *exchange);
void hearth_api_session(void *context, struct http_exchange *exchange);
void hearth_api_history(void *context, struct http_exchange *exchange);
void hearth_api_remove(void *context, struct http_exchange *exchange);
void hearth_api_open(void *context, struct http_exchange *exchange);
void hearth_api_set(void *context, struct http_exchange *exchange);
void hearth_api_append(void *context, struct http_exchange *exchange);
void hearth_api_edit(void *context, struct http_exchange *exchange);
void hearth_api_truncate(void *context, struct http_exchange *exchange);
void hearth_api_fork(void *context, struct http_exchange *exchange);
void hearth_api_reset(void *context, struct http_exchange *exchange);
void hearth_api_release(void *context, struct http_exchange *exchange);
#define HEARTH_API_SESSION_FIELDS 10
extern const struct field hearth_api_session_fields[HEARTH_API_SESSION_FIELDS];
/* Which of them each operation takes: from one to before another. */
enum hearth_api_session_field {
    HEARTH_API_FIELD_MODEL, /* all have it */
    HEARTH_API_FIELD_KEEP,
    HEARTH_API_FIELD_PLAIN,
    HEARTH_API_FIELD_OVERFLOW,
    HEARTH_API_FIELD_MESSAGES,
    HEARTH_API_FIELD_MESSAGE,
    HEARTH_API_FIELD_TEXT,
    HEARTH_API_FIELD_INDEX,
    HEARTH_API_FIELD_COUNT,
    HEARTH_API_FIELD_TO,
};

/* ---- asking (hearth_api_prompt.c) ---- */

void hearth_api_prompt(void *context, struct http_exchange *exchange);
void hearth_api_cancel(void *context, struct http_exchange *exchange);
#define HEARTH_API_PROMPT_FIELDS 16
extern const struct field hearth_api_prompt_fields[HEARTH_API_PROMPT_FIELDS];

#endif
