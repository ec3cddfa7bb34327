#include "server/session_move.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "server/generation.h"

/* Others who want the same conversation may take it meanwhile: then it is asked of them. */
#define TRIES_MAX 4

struct session_move {
    struct models *models;
    struct model *from, *to;
    struct model_wait *wait;
    struct model_lease *lease; /* of `from` */
    struct backend *backend;
    struct backend_job *job;
    unsigned tries;
    void (*on_moved)(void *context, const struct refusal *refusal);
    void *context;
    struct text key;
};

static void let_go(struct session_move *move)
{
    if (move->wait)
        models_forget(move->wait);
    if (move->job)
        move->backend->calls->abandon(move->backend, move->job);
    if (move->lease)
        model_release(move->lease);
    move->wait = NULL;
    move->job = NULL;
    move->lease = NULL;
}

void session_move_cancel(struct session_move *move)
{
    /* what was asked to let go may have done so or not: the next one asks again */
    if (move->job && models_session_holder(move->models, move->key) == move->to)
        models_session_held(move->models, move->key, move->from);
    let_go(move);
    mem_free(move);
}

/* Called from the loop only. */
static void end(struct session_move *move, const struct refusal *refusal)
{
    void (*on_moved)(void *, const struct refusal *) = move->on_moved;
    void *context = move->context;
    let_go(move);
    mem_free(move);
    on_moved(context, refusal);
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err);

static bool is_unloaded(const struct model *model)
{
    struct model_info info;
    model_info(model, &info);
    return info.presence == MODEL_UNLOADED;
}

/* As session_move_start. */
static int seek(struct session_move *move, struct refusal *refusal)
{
    struct model *holder = models_session_holder(move->models, move->key);
    struct hearth_error err;
    struct model_acquire acquire = {.on_ready = on_ready, .context = move};
    if (!holder || holder == move->to || is_unloaded(holder)) {
        models_session_held(move->models, move->key, move->to);
        return 1;
    }
    if (++move->tries > TRIES_MAX)
        return refuse(refusal, 409, "session", "others use the session at the same time");
    move->from = holder;
    return model_acquire(holder, &acquire, &move->wait, &err) ? refusal_of(refusal, &err) : 0;
}

static void go_on(struct session_move *move)
{
    struct refusal refusal;
    int status = seek(move, &refusal);
    if (status != 0)
        end(move, status < 0 ? &refusal : NULL);
}

/* From when it is asked to let go, the conversation is ours: whoever wants it, asks us. */
static void on_reply(void *context, int code, struct text cause, struct message_reader *reply)
{
    struct session_move *move = context;
    struct refusal refusal;
    struct hearth_error err;
    (void)reply;
    move->job = NULL;
    let_go(move);
    if (code == 0 || code == HEARTH_E_MISSING) {
        go_on(move);
        return;
    }
    if (models_session_holder(move->models, move->key) == move->to)
        models_session_held(move->models, move->key, move->from);
    error_set(&err, code, "the session is in use by another model: %.*s", TEXT_ARGS(cause));
    refusal_of(&refusal, &err);
    end(move, &refusal);
}

static int ask_to_let_go(struct session_move *move, struct hearth_error *err)
{
    struct backend_listener listener = {.on_reply = on_reply, .context = move};
    struct buffer arguments;
    json_t *object = json_pack("{s:s%}", "key", move->key.data, move->key.size);
    buffer_init(&arguments, 4096);
    generation_write_json(&arguments, object);
    json_decref(object);
    struct work_call call = {TEXT("release"), buffer_text(&arguments)};
    int status = arguments.failed
                     ? error_set(err, HEARTH_E_MEMORY, "no memory for a message to the worker")
                     : move->backend->calls->call(move->backend, &call, &listener, &move->job, err);
    buffer_finish(&arguments);
    return status;
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err)
{
    struct session_move *move = context;
    struct hearth_error cause;
    struct refusal refusal;
    (void)loaded;
    move->wait = NULL;
    if (!lease) { /* it holds nothing that is not in the store */
        (void)err;
        if (models_session_holder(move->models, move->key) == move->from)
            models_session_held(move->models, move->key, NULL);
        go_on(move);
        return;
    }
    move->lease = lease;
    move->backend = model_lease_backend(lease);
    if (models_session_holder(move->models, move->key) != move->from) {
        let_go(move);
        go_on(move);
    } else if (ask_to_let_go(move, &cause)) {
        refusal_of(&refusal, &cause);
        end(move, &refusal);
    } else {
        models_session_held(move->models, move->key, move->to);
    }
}

int session_move_start(struct models *models, struct text key, struct model *to,
                       void (*on_moved)(void *context, const struct refusal *refusal),
                       void *context, struct session_move **out, struct refusal *refusal)
{
    struct session_move *move;
    int status;
    if (key.size == 0)
        return 1;
    move = mem_zalloc_array(1, sizeof *move + key.size);
    if (!move)
        return refuse(refusal, 507, "", "no memory for the request");
    move->models = models;
    move->to = to;
    move->on_moved = on_moved;
    move->context = context;
    move->key = (struct text){memcpy(move + 1, key.data, key.size), key.size};
    status = seek(move, refusal);
    if (status != 0)
        mem_free(move);
    else
        *out = move;
    return status;
}
