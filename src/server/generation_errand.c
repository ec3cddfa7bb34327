/* Requests that have one reply: operations of a worker, and embeddings. As with answers, nothing
 * that calls in here frees the errand but its `wake` and the word that the client is gone; when the
 * reply is there the listener is told at once, because what it points to does not live longer. */
#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/generation.h"
#include "server/session_move.h"

struct errand {
    struct daemon *daemon;
    struct model *model;
    struct buffer payload; /* JSON: arguments, or texts to embed */
    const char *name;      /* of a call; NULL: an embedding */
    struct text session;   /* behind this struct */
    bool ttl_given;
    uint64_t ttl_ns;
    struct model_wait *wait;
    struct session_move *move;
    struct model_lease *lease;
    struct backend *backend;
    struct backend_job *job;
    struct event *wake;
    uint64_t started_ns, load_ns;
    struct refusal refusal;
    bool over; /* the listener was told, or will be told of the refusal */
    bool told;
    void (*on_reply)(void *context, const json_t *reply, const struct refusal *error);
    void (*on_vectors)(void *context, const struct work_vectors *vectors,
                       struct message_reader *rows, uint64_t load_ns, uint64_t total_ns,
                       const struct refusal *error);
    void (*on_gone)(void *context);
    void *context;
};

/* ---- the end ---- */

static void let_go(struct errand *errand)
{
    if (errand->wait)
        models_forget(errand->wait);
    if (errand->move)
        session_move_cancel(errand->move);
    if (errand->job)
        errand->backend->calls->abandon(errand->backend, errand->job);
    if (errand->lease)
        model_release(errand->lease);
    errand->wait = NULL;
    errand->move = NULL;
    errand->job = NULL;
    errand->lease = NULL;
}

static void destroy(struct errand *errand)
{
    let_go(errand);
    if (errand->wake)
        event_free(errand->wake);
    buffer_finish(&errand->payload);
    mem_free(errand);
}

static void tell_error(struct errand *errand)
{
    if (errand->name)
        errand->on_reply(errand->context, NULL, &errand->refusal);
    else
        errand->on_vectors(errand->context, NULL, NULL, errand->load_ns,
                           os_monotonic_ns() - errand->started_ns, &errand->refusal);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct errand *errand = context;
    (void)fd, (void)what;
    let_go(errand);
    if (!errand->told)
        tell_error(errand);
    destroy(errand);
}

/* Not called any more once the exchange was answered. */
static void on_gone(void *context)
{
    struct errand *errand = context;
    void (*told)(void *) = errand->on_gone;
    void *told_context = errand->context;
    destroy(errand);
    if (told)
        told(told_context);
}

static void finish(struct errand *errand)
{
    if (!errand->over)
        event_active(errand->wake, EV_TIMEOUT, 0);
    errand->over = true;
}

static void fail(struct errand *errand, const struct refusal *refusal)
{
    if (errand->over)
        return;
    errand->refusal = *refusal;
    finish(errand);
}

static void fail_with(struct errand *errand, const struct hearth_error *error)
{
    struct refusal refusal;
    refusal_of(&refusal, error);
    if (error->code == HEARTH_E_CANCELLED) /* not by this client, who is there */
        refusal.status = 503;
    fail(errand, &refusal);
}

/* ---- the way ---- */

static void tell_json(struct errand *errand, struct message_reader *reader)
{
    struct hearth_error error;
    struct text text = message_get_text(reader);
    json_t *reply = json_loadb(text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (reader->failed || !reply) {
        error_set(&error, HEARTH_E_FORMAT, "the worker's reply is malformed");
        fail_with(errand, &error);
        errand->refusal.status = 500;
        json_decref(reply);
        return;
    }
    errand->told = true;
    finish(errand);
    errand->on_reply(errand->context, reply, NULL);
    json_decref(reply);
}

static void tell_vectors(struct errand *errand, struct message_reader *reader)
{
    struct hearth_error error;
    struct work_vectors vectors;
    if (!work_get_vectors(reader, &vectors)) {
        error_set(&error, HEARTH_E_FORMAT, "the worker's reply is malformed");
        fail_with(errand, &error);
        errand->refusal.status = 500;
        return;
    }
    errand->told = true;
    finish(errand);
    errand->on_vectors(errand->context, &vectors, reader, errand->load_ns,
                       os_monotonic_ns() - errand->started_ns, NULL);
}

static void on_reply(void *context, int code, struct text cause, struct message_reader *reply)
{
    struct errand *errand = context;
    struct hearth_error error;
    errand->job = NULL;
    if (errand->over)
        return;
    if (code != 0) {
        error_set(&error, code, "%.*s", (int)(cause.size < 500 ? cause.size : 500),
                  cause.size ? cause.data : "");
        fail_with(errand, &error);
    } else if (errand->name) {
        tell_json(errand, reply);
    } else {
        tell_vectors(errand, reply);
    }
}

static void ask(struct errand *errand)
{
    struct backend_listener listener = {.on_reply = on_reply, .context = errand};
    struct text payload = buffer_text(&errand->payload);
    struct work_call call = {errand->name ? text_of(errand->name) : payload, payload};
    struct work_embed embed = {payload, false};
    struct hearth_error err;
    errand->backend = model_lease_backend(errand->lease);
    const struct backend_calls *calls = errand->backend->calls;
    int status = errand->name
                     ? calls->call(errand->backend, &call, &listener, &errand->job, &err)
                     : calls->embed(errand->backend, &embed, &listener, &errand->job, &err);
    if (status)
        fail_with(errand, &err);
}

static void on_moved(void *context, const struct refusal *refusal)
{
    struct errand *errand = context;
    errand->move = NULL;
    if (errand->over)
        return;
    if (refusal)
        fail(errand, refusal);
    else
        ask(errand);
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err)
{
    struct errand *errand = context;
    struct refusal refusal;
    errand->wait = NULL;
    errand->lease = lease;
    if (errand->over)
        return;
    if (!lease) {
        fail_with(errand, err);
        return;
    }
    if (loaded)
        errand->load_ns = os_monotonic_ns() - errand->started_ns;
    int status = session_move_start(errand->daemon->models, errand->session, errand->model,
                                    on_moved, errand, &errand->move, &refusal);
    if (status < 0)
        fail(errand, &refusal);
    else if (status > 0)
        ask(errand);
}

/* ---- the beginning ---- */

static struct errand *create(struct daemon *daemon, struct model *model, struct text session)
{
    struct errand *errand = mem_zalloc_array(1, sizeof *errand + session.size);
    if (!errand)
        return NULL;
    errand->daemon = daemon;
    errand->model = model;
    errand->started_ns = os_monotonic_ns();
    errand->session = (struct text){(char *)(errand + 1), session.size};
    if (session.size > 0)
        memcpy(errand + 1, session.data, session.size);
    buffer_init(&errand->payload, WORK_PAYLOAD_MAX);
    errand->wake = evtimer_new(daemon->base, on_wake, errand);
    if (errand->wake)
        return errand;
    mem_free(errand);
    return NULL;
}

/* `json` is taken. Without an errand, or memory for its payload, the exchange is answered. */
static void start(struct errand *errand, struct http_exchange *exchange, json_t *json,
                  void (*gone)(void *context), void *context)
{
    struct hearth_error err;
    if (errand)
        generation_write_json(&errand->payload, json);
    json_decref(json);
    if (!errand || errand->payload.failed) {
        if (errand)
            destroy(errand);
        http_respond_error(exchange, 507, "no memory for the request");
        if (gone)
            gone(context);
        return;
    }
    errand->on_gone = gone;
    errand->context = context;
    http_exchange_watch(exchange, (struct http_watch){on_gone, NULL, errand});
    struct model_acquire acquire = {.ttl_given = errand->ttl_given,
                                    .ttl_ns = errand->ttl_ns,
                                    .on_ready = on_ready,
                                    .context = errand};
    if (model_acquire(errand->model, &acquire, &errand->wait, &err))
        fail_with(errand, &err);
}

void generation_call_start(struct daemon *daemon, struct http_exchange *exchange,
                           const struct generation_call *call)
{
    struct errand *errand = create(daemon, call->model, call->session);
    if (errand) {
        errand->name = call->name;
        errand->on_reply = call->on_reply;
    }
    start(errand, exchange, call->arguments, call->on_gone, call->context);
}

void generation_embed_start(struct daemon *daemon, struct http_exchange *exchange,
                            const struct generation_embed *embed)
{
    struct errand *errand = create(daemon, embed->model, (struct text){NULL, 0});
    if (errand) {
        errand->on_vectors = embed->on_vectors;
        errand->ttl_given = embed->ttl_given;
        errand->ttl_ns = embed->ttl_ns;
    }
    start(errand, exchange, embed->inputs, embed->on_gone, embed->context);
}
