#include "server/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/fetch.h"
#include "server/log.h"
#include "server/sse.h"
#include "server/upstream_words.h"

#define SECOND UINT64_C(1000000000)
#define ERROR_BYTES_MAX ((size_t)64 << 10) /* that are read of a refusal */
#define RETRY_AFTER_MAX_S 10               /* whoever is told to wait longer is told so */
#define LINGER_NS (SECOND / 10)            /* between the last event and the end of the answer */
#define URL_BYTES 2048

struct upstream {
    struct backend base;
    struct event_base *loop;
    struct upstream_options options; /* texts are copies */
    char *name, *url, *model, *key;
    struct backend_owner owner;
    struct fetcher *fetcher;
    struct backend_job *first;
    struct buffer ready;
    struct event *tell; /* ends that came from inside a call */
    struct event *health, *drain;
    struct fetch *look;
    struct buffer looked; /* the list of models that it gives */
    uint64_t used_ns;
    unsigned busy; /* calls back that run */
    bool destroyed, draining, drain_over;
};

enum job_kind { JOB_ASK, JOB_EMBED };

struct backend_job {
    struct upstream *upstream;
    struct backend_job *previous, *next;
    enum job_kind kind;
    struct backend_listener listener;
    struct fetch *fetch;    /* NULL between two attempts */
    struct event *again;    /* the next attempt; or, after the last event, the end */
    struct event *deadline; /* NULL: none */
    char *body;             /* jansson's */
    const char *path;
    unsigned attempts;
    size_t inputs; /* of an embedding */
    uint32_t top_tokens;
    bool logprobs;
    bool paused, begun, done, in_use, abandoned;
    struct sse events;
    struct buffer collected; /* a refusal, or an answer that is no stream */
    struct hearth_error error;
    uint64_t started_ns, first_ns, last_ns;
    struct buffer stop_string;
    struct work_end end; /* so far; without texts */
    bool finished, counted;
};

static struct upstream *of(struct backend *backend)
{
    return (struct upstream *)backend;
}

static void set_timer(struct event *timer, uint64_t ns)
{
    struct timeval after = {.tv_sec = (time_t)(ns / SECOND),
                            .tv_usec = (suseconds_t)(ns % SECOND / 1000)};
    event_add(timer, &after);
}

/* ---- whether it is there ---- */

static void set_state(struct upstream *upstream, enum backend_state state, const char *cause)
{
    char name[LOG_VALUE_SIZE], why[LOG_VALUE_SIZE];
    struct hearth_error error = {0};
    if (upstream->base.state == state || upstream->base.state == BACKEND_ENDED)
        return;
    upstream->base.state = state;
    if (state == BACKEND_RESTARTING) {
        error_set(&error, HEARTH_E_IO, "%s", cause);
        log_line(upstream->options.log, LOG_WARNING, 0, "upstream is away", "model=%s cause=%s",
                 log_value(name, text_of(upstream->name)), log_value(why, text_of(cause)));
    } else if (state == BACKEND_READY) {
        log_line(upstream->options.log, LOG_INFO, 0, "upstream is back", "model=%s",
                 log_value(name, text_of(upstream->name)));
    }
    if (upstream->owner.on_state && !upstream->destroyed)
        upstream->owner.on_state(upstream->owner.context, state, error.code ? &error : NULL);
}

static void take_models(void *context, const struct fetch_answer *answer, struct text bytes)
{
    struct upstream *upstream = context;
    if (answer->status == 200)
        buffer_append_text(&upstream->looked, bytes);
}

static void end_look(void *context, enum fetch_outcome outcome, const struct fetch_answer *answer,
                     const char *cause)
{
    struct upstream *upstream = context;
    struct buffer ready;
    upstream->look = NULL;
    upstream->busy++;
    buffer_init(&ready, ERROR_BYTES_MAX);
    if (outcome == FETCH_WHOLE && answer->status == 200 && !upstream->looked.failed) {
        json_t *models = json_loadb(upstream->looked.data ? upstream->looked.data : "",
                                    upstream->looked.size, JSON_ALLOW_NUL, NULL);
        if (models && upstream_words_ready(models, upstream->model, &ready)) {
            buffer_finish(&upstream->ready);
            upstream->ready = ready;
            upstream->base.ready = buffer_text(&ready);
            buffer_init(&ready, 0);
        }
        json_decref(models);
    }
    buffer_finish(&ready);
    buffer_finish(&upstream->looked);
    if (outcome != FETCH_WHOLE)
        set_state(upstream, BACKEND_RESTARTING, cause);
    else if (answer->status >= 500) /* one that has no such list is there all the same */
        set_state(upstream, BACKEND_RESTARTING, "it answers with an error of its own");
    else
        set_state(upstream, BACKEND_READY, NULL);
    upstream->busy--;
}

static void look(struct upstream *upstream)
{
    char url[URL_BYTES];
    const uint64_t ns = upstream->options.connect_ns;
    const struct fetch_options options = {.url = url,
                                          .key = upstream->key,
                                          .connect_ns = ns,
                                          .first_byte_ns = ns,
                                          .idle_ns = ns,
                                          .on_bytes = take_models,
                                          .on_end = end_look,
                                          .context = upstream};
    if (upstream->look)
        return;
    snprintf(url, sizeof url, "%s/models", upstream->url);
    fetch_start(upstream->fetcher, &options, &upstream->look, NULL);
}

static void on_health(evutil_socket_t fd, short what, void *context)
{
    struct upstream *upstream = context;
    (void)fd;
    (void)what;
    if (!upstream->first && os_monotonic_ns() - upstream->used_ns > upstream->options.health_ns)
        return; /* the next use begins again */
    look(upstream);
    set_timer(upstream->health, upstream->options.health_ns);
}

static void note_use(struct upstream *upstream)
{
    upstream->used_ns = os_monotonic_ns();
    if (event_pending(upstream->health, EV_TIMEOUT, NULL))
        return;
    look(upstream);
    set_timer(upstream->health, upstream->options.health_ns);
}

/* ---- ends of jobs ---- */

static void free_job(struct backend_job *job)
{
    struct upstream *upstream = job->upstream;
    if (job->fetch)
        fetch_cancel(job->fetch);
    if (job->previous)
        job->previous->next = job->next;
    else if (upstream->first == job)
        upstream->first = job->next;
    if (job->next)
        job->next->previous = job->previous;
    if (job->again)
        event_free(job->again);
    if (job->deadline)
        event_free(job->deadline);
    sse_finish(&job->events);
    buffer_finish(&job->collected);
    buffer_finish(&job->stop_string);
    free(job->body);
    mem_free(job);
    upstream->base.jobs--;
    upstream->used_ns = os_monotonic_ns();
    if (upstream->draining && !upstream->first)
        event_active(upstream->tell, EV_TIMEOUT, 0);
}

static void fill_end(const struct backend_job *job, struct work_end *end)
{
    uint64_t now = os_monotonic_ns();
    uint64_t first = job->first_ns ? job->first_ns : now;
    *end = job->end;
    end->prompt_ns = end->first_token_ns = first - job->started_ns;
    end->answer_ns = (job->last_ns > first ? job->last_ns : first) - first;
    end->decode_tokens = end->answer_tokens ? end->answer_tokens - 1 : 0;
    end->miss = end->cached_tokens ? HEARTH_MISS_NOTHING : HEARTH_MISS_NEW;
}

/* Tells the end: with the cause in `error`, or as it was said. The job is gone then. */
static void end_ask(struct backend_job *job, const struct hearth_error *error)
{
    struct upstream *upstream = job->upstream;
    struct backend_listener listener = job->listener;
    struct hearth_error cause = error ? *error : (struct hearth_error){0};
    struct buffer stop_string = job->stop_string;
    struct work_end end;
    fill_end(job, &end);
    buffer_init(&job->stop_string, 0);
    if (error) {
        end.stop = error->code == HEARTH_E_CANCELLED ? HEARTH_STOP_CANCELLED : HEARTH_STOP_ERROR;
        end.code = cause.code;
        end.cause = text_of(cause.text);
    } else if (end.stop == HEARTH_STOP_STRING) {
        end.stop_string = buffer_text(&stop_string);
    }
    upstream->busy++;
    free_job(job);
    if (listener.on_end)
        listener.on_end(listener.context, &end);
    upstream->busy--;
    buffer_finish(&stop_string);
}

static void end_embed(struct backend_job *job, const struct hearth_error *error)
{
    struct upstream *upstream = job->upstream;
    struct backend_listener listener = job->listener;
    struct hearth_error cause = error ? *error : (struct hearth_error){0};
    struct buffer reply;
    struct message message;
    struct message_reader reader = {{NULL, 0}, false};
    struct text none;
    int code = cause.code;
    buffer_init(&reply, WORK_PAYLOAD_MAX + MESSAGE_HEADER_SIZE);
    if (!error) {
        json_t *answer = json_loadb(job->collected.data ? job->collected.data : "",
                                    job->collected.size, JSON_ALLOW_NUL, NULL);
        code = upstream_words_vectors(answer, job->inputs, &reply, &cause);
        json_decref(answer);
        if (code == 0 &&
            (message_decode(reply.data, reply.size, WORK_PAYLOAD_MAX, &message, NULL) <= 0 ||
             !work_get_reply(&message, &reader, &code, &none)))
            code = error_set(&cause, HEARTH_E_LIMIT, "the vectors are too large for a message");
    }
    upstream->busy++;
    free_job(job);
    if (listener.on_reply)
        listener.on_reply(listener.context, code, text_of(code ? cause.text : ""), &reader);
    upstream->busy--;
    buffer_finish(&reply);
}

static void end_job(struct backend_job *job, const struct hearth_error *error)
{
    if (job->kind == JOB_ASK)
        end_ask(job, error);
    else
        end_embed(job, error);
}

/* ---- answers ---- */

static void begin(struct backend_job *job)
{
    const struct work_begin none = {0};
    if (job->begun)
        return;
    job->begun = true;
    set_state(job->upstream, BACKEND_READY, NULL);
    if (job->kind == JOB_ASK && job->listener.on_begin)
        job->listener.on_begin(job->listener.context, &none);
}

static void tell_text(struct backend_job *job, const struct upstream_piece *piece)
{
    struct work_text work = {piece->text, (uint32_t)job->end.answer_tokens, 0};
    struct message_reader reader = {{NULL, 0}, false};
    struct buffer message;
    buffer_init(&message, WORK_PAYLOAD_MAX + MESSAGE_HEADER_SIZE);
    if (job->logprobs && piece->logprobs &&
        !upstream_words_tokens(piece, work.tokens, job->top_tokens, &message, &work, &reader))
        work = (struct work_text){piece->text, work.tokens, 0};
    if (job->listener.on_text)
        job->listener.on_text(job->listener.context, &work, piece->reasoning, &reader);
    buffer_finish(&message);
}

/* A sentence of the server's, which may repeat what it was sent: nothing where the key is in it. */
static struct text without_key(const struct upstream *upstream, struct text sentence)
{
    return upstream->key && strstr(sentence.data, upstream->key) ? TEXT("") : sentence;
}

/* One object of an answer; false where nothing more is wanted of it. */
static bool take_piece(struct backend_job *job, const json_t *object)
{
    struct upstream_piece piece;
    if (!upstream_words_read(object, &piece)) {
        struct text error = without_key(job->upstream, upstream_words_error(object));
        error_set(&job->error, HEARTH_E_IO, "the server of '%s' ended its answer: %.*s",
                  job->upstream->name, TEXT_ARGS(error.size ? error : TEXT("without a cause")));
        return false;
    }
    if (piece.finished) {
        job->finished = true;
        job->end.stop = piece.stop;
        buffer_append_text(&job->stop_string, piece.stop_string);
    }
    bool said = piece.text.size > 0 || piece.reasoning.size > 0;
    if (said) {
        size_t tokens = json_array_size(piece.logprobs);
        job->last_ns = os_monotonic_ns();
        job->first_ns = job->first_ns ? job->first_ns : job->last_ns;
        if (!job->counted)
            job->end.answer_tokens += tokens ? tokens : 1;
    }
    if (piece.counted) {
        job->counted = true;
        job->end.prompt_tokens = piece.prompt_tokens;
        job->end.cached_tokens = piece.cached_tokens;
        job->end.answer_tokens = piece.answer_tokens;
    }
    if (said)
        tell_text(job, &piece);
    return !job->abandoned;
}

static bool on_event(void *context, struct text data)
{
    struct backend_job *job = context;
    if (text_equal(data, TEXT("[DONE]"))) {
        job->done = true;
        return false;
    }
    json_t *object = json_loadb(data.data, data.size, JSON_ALLOW_NUL, NULL);
    if (!object)
        error_set(&job->error, HEARTH_E_FORMAT, "the server of '%s' sent an event that is no JSON",
                  job->upstream->name);
    bool more = object && take_piece(job, object);
    json_decref(object);
    return more;
}

static void collect(struct backend_job *job, const struct fetch_answer *answer, struct text bytes)
{
    size_t most = answer->status == 200 ? WORK_PAYLOAD_MAX : ERROR_BYTES_MAX;
    size_t room = job->collected.size < most ? most - job->collected.size : 0;
    if (answer->status == 200 && bytes.size > room)
        error_set(&job->error, HEARTH_E_LIMIT, "the answer of the server of '%s' is too large",
                  job->upstream->name);
    bytes.size = bytes.size < room ? bytes.size : room;
    if (!buffer_append_text(&job->collected, bytes))
        error_set(&job->error, HEARTH_E_MEMORY, "no memory for an answer");
}

static void on_bytes(void *context, const struct fetch_answer *answer, struct text bytes)
{
    struct backend_job *job = context;
    struct upstream *upstream = job->upstream;
    if (job->done || job->error.code)
        return;
    upstream->busy++;
    job->in_use = true;
    if (answer->status == 200)
        begin(job);
    if (answer->status == 200 && answer->is_stream && job->kind == JOB_ASK && !job->abandoned) {
        if (!sse_push(&job->events, bytes, on_event, job) && !job->done && !job->error.code)
            error_set(&job->error, HEARTH_E_LIMIT, "the server of '%s' sent too large an event",
                      upstream->name);
    } else if (!job->abandoned) {
        collect(job, answer, bytes);
    }
    job->in_use = false;
    if (job->abandoned)
        free_job(job);
    else if (job->error.code)
        end_job(job, &job->error);
    else if (job->done) /* the connection is kept where the answer ends in order */
        set_timer(job->again, LINGER_NS);
    upstream->busy--;
}

/* ---- attempts ---- */

static int code_of_status(int status)
{
    switch (status) {
    case 400:
    case 422:
        return HEARTH_E_ARGUMENT;
    case 404:
        return HEARTH_E_MISSING;
    case 413:
    case 429:
        return HEARTH_E_LIMIT;
    default:
        return HEARTH_E_IO;
    }
}

/* What a server says of our key reaches nobody: some repeat parts of it. */
static void explain_refusal(const struct backend_job *job, int status, struct hearth_error *error)
{
    const struct upstream *upstream = job->upstream;
    json_t *object = json_loadb(job->collected.data ? job->collected.data : "", job->collected.size,
                                JSON_ALLOW_NUL, NULL);
    struct text said = without_key(upstream, upstream_words_error(object));
    if (status == 401 || status == 403)
        error_set(error, HEARTH_E_IO, "the server of '%s' does not accept our key (status %d)",
                  upstream->name, status);
    else if (status >= 300 && status < 400)
        error_set(error, HEARTH_E_IO,
                  "the server of '%s' sends us elsewhere (status %d), where we do not go",
                  upstream->name, status);
    else if (said.size > 0)
        error_set(error, code_of_status(status), "the server of '%s' refuses (status %d): %.*s",
                  upstream->name, status, TEXT_ARGS(said));
    else
        error_set(error, code_of_status(status), "the server of '%s' refuses (status %d)",
                  upstream->name, status);
    json_decref(object);
}

/* An answer in one piece, from a server that does not stream. */
static bool take_whole(struct backend_job *job)
{
    json_t *object = json_loadb(job->collected.data ? job->collected.data : "", job->collected.size,
                                JSON_ALLOW_NUL, NULL);
    bool good = object && take_piece(job, object);
    if (!object)
        error_set(&job->error, HEARTH_E_FORMAT, "the answer of the server of '%s' is no JSON",
                  job->upstream->name);
    json_decref(object);
    return good;
}

/* Nothing of an answer was seen, and to ask once more cannot do it twice. */
static bool may_try_again(const struct backend_job *job, enum fetch_outcome outcome,
                          const struct fetch_answer *answer)
{
    bool again = outcome == FETCH_NOT_CONNECTED ||
                 (outcome == FETCH_WHOLE &&
                  (answer->status == 429 || answer->status == 502 || answer->status == 503));
    return again && job->attempts < UPSTREAM_ATTEMPTS && answer->retry_after_s <= RETRY_AFTER_MAX_S;
}

static void try_later(struct backend_job *job, const struct fetch_answer *answer)
{
    uint64_t wait = job->upstream->options.retry_ns << (job->attempts - 1);
    uint64_t asked = answer->retry_after_s * SECOND;
    buffer_finish(&job->collected);
    set_timer(job->again, asked > wait ? asked : wait);
}

static void on_end(void *context, enum fetch_outcome outcome, const struct fetch_answer *answer,
                   const char *cause)
{
    struct backend_job *job = context;
    struct upstream *upstream = job->upstream;
    struct hearth_error *error = &job->error;
    job->fetch = NULL;
    upstream->busy++;
    job->in_use = true;
    if (!job->begun && may_try_again(job, outcome, answer)) {
        try_later(job, answer);
        job->in_use = false;
        upstream->busy--;
        return;
    }
    if (outcome == FETCH_NOT_CONNECTED) {
        error_set(error, HEARTH_E_IO, "the server of '%s' cannot be reached: %s", upstream->name,
                  cause);
        set_state(upstream, BACKEND_RESTARTING, cause);
    } else if (outcome != FETCH_WHOLE && !job->done) {
        error_set(error, HEARTH_E_IO, "the server of '%s' failed: %s", upstream->name, cause);
    } else if (answer->status != 200 && !job->done) {
        explain_refusal(job, answer->status, error);
    } else if (job->kind == JOB_ASK && !answer->is_stream && !job->done) {
        begin(job);
        if (!job->abandoned)
            take_whole(job);
    }
    if (!error->code && job->kind == JOB_ASK && !job->finished && !job->done)
        error_set(error, HEARTH_E_IO, "the server of '%s' ended its answer before its end",
                  upstream->name);
    job->in_use = false;
    if (job->abandoned)
        free_job(job);
    else
        end_job(job, error->code ? error : NULL);
    upstream->busy--;
}

static int attempt(struct backend_job *job, struct hearth_error *err)
{
    struct upstream *upstream = job->upstream;
    char url[URL_BYTES];
    const struct fetch_options options = {.url = url,
                                          .key = upstream->key,
                                          .body = text_of(job->body),
                                          .connect_ns = upstream->options.connect_ns,
                                          .first_byte_ns = upstream->options.first_byte_ns,
                                          .idle_ns = upstream->options.idle_ns,
                                          .on_bytes = on_bytes,
                                          .on_end = on_end,
                                          .context = job};
    snprintf(url, sizeof url, "%s%s", upstream->url, job->path);
    int status = fetch_start(upstream->fetcher, &options, &job->fetch, err);
    if (status)
        return status;
    job->attempts++;
    if (job->paused)
        fetch_pause(job->fetch, true);
    return 0;
}

static void on_again(evutil_socket_t fd, short what, void *context)
{
    struct backend_job *job = context;
    struct hearth_error err;
    (void)fd;
    (void)what;
    if (job->done)
        end_job(job, NULL);
    else if (attempt(job, &err))
        end_job(job, &err);
}

static void on_deadline(evutil_socket_t fd, short what, void *context)
{
    static const struct hearth_error late = {HEARTH_E_CANCELLED,
                                             "the time that the answer may take is over"};
    (void)fd;
    (void)what;
    end_job(context, &late);
}

/* ---- the calls of a backend ---- */

static int add_job(struct upstream *upstream, enum job_kind kind, char *body, const char *path,
                   const struct backend_listener *listener, uint64_t timeout_ns,
                   struct backend_job **out, struct hearth_error *err)
{
    struct backend_job *job = MEM_NEW(struct backend_job);
    if (!job) {
        free(body);
        return error_set(err, HEARTH_E_MEMORY, "no memory for a request");
    }
    *job = (struct backend_job){.upstream = upstream,
                                .kind = kind,
                                .listener = *listener,
                                .body = body,
                                .path = path,
                                .started_ns = os_monotonic_ns(),
                                .next = upstream->first};
    sse_init(&job->events);
    buffer_init(&job->collected, WORK_PAYLOAD_MAX + 1);
    buffer_init(&job->stop_string, ERROR_BYTES_MAX);
    if (upstream->first)
        upstream->first->previous = job;
    upstream->first = job;
    upstream->base.jobs++;
    job->again = evtimer_new(upstream->loop, on_again, job);
    job->deadline = timeout_ns ? evtimer_new(upstream->loop, on_deadline, job) : NULL;
    int status = !job->again || (timeout_ns && !job->deadline)
                     ? error_set(err, HEARTH_E_MEMORY, "no memory for a request")
                     : attempt(job, err);
    if (status) {
        free_job(job);
        return status;
    }
    if (timeout_ns)
        set_timer(job->deadline, timeout_ns);
    note_use(upstream);
    *out = job;
    return 0;
}

static int check_open(const struct upstream *upstream, struct hearth_error *err)
{
    return upstream->draining || upstream->destroyed
               ? error_set(err, HEARTH_E_STATE, "'%s' takes nothing more", upstream->name)
               : 0;
}

static int ask(struct backend *backend, const struct work_ask *ask,
               const struct backend_listener *listener, struct backend_job **job,
               struct hearth_error *err)
{
    struct upstream *upstream = of(backend);
    char *body;
    const char *path;
    int status = check_open(upstream, err);
    if (!status)
        status = upstream_words_ask(ask, upstream->model, &body, &path, err);
    if (!status)
        status = add_job(upstream, JOB_ASK, body, path, listener, ask->timeout_ns, job, err);
    if (!status) {
        (*job)->logprobs = ask->logprobs;
        (*job)->top_tokens = ask->top_tokens;
    }
    return status;
}

static int embed(struct backend *backend, const struct work_embed *embed,
                 const struct backend_listener *listener, struct backend_job **job,
                 struct hearth_error *err)
{
    struct upstream *upstream = of(backend);
    char *body;
    int status = check_open(upstream, err);
    if (!status)
        status = upstream_words_embed(embed, upstream->model, &body, err);
    if (!status)
        status = add_job(upstream, JOB_EMBED, body, "/embeddings", listener, 0, job, err);
    if (!status) {
        json_t *inputs = json_loadb(embed->inputs.data, embed->inputs.size, JSON_ALLOW_NUL, NULL);
        (*job)->inputs = json_array_size(inputs);
        json_decref(inputs);
    }
    return status;
}

static int call(struct backend *backend, const struct work_call *call,
                const struct backend_listener *listener, struct backend_job **job,
                struct hearth_error *err)
{
    (void)listener;
    (void)job;
    return error_set(err, HEARTH_E_UNSUPPORTED,
                     "'%s' is answered by another server, which cannot be asked to %.*s",
                     of(backend)->name, TEXT_ARGS(call->name));
}

static void abandon(struct backend *backend, struct backend_job *job)
{
    (void)backend;
    job->listener = (struct backend_listener){0};
    job->abandoned = true;
    if (!job->in_use)
        free_job(job);
}

static void pause_job(struct backend *backend, struct backend_job *job, bool pause)
{
    (void)backend;
    job->paused = pause;
    if (job->fetch)
        fetch_pause(job->fetch, pause);
}

static void free_upstream(struct upstream *upstream)
{
    fetcher_destroy(upstream->fetcher);
    struct event *events[] = {upstream->tell, upstream->health, upstream->drain};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (events[i])
            event_free(events[i]);
    }
    char *texts[] = {upstream->name, upstream->url, upstream->model, upstream->key};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        mem_free(texts[i]);
    buffer_finish(&upstream->ready);
    buffer_finish(&upstream->looked);
    mem_free(upstream);
}

static void cancel_all(struct upstream *upstream)
{
    static const struct hearth_error cancelled = {HEARTH_E_CANCELLED,
                                                  "the model is being unloaded"};
    while (upstream->first)
        end_job(upstream->first, &cancelled);
}

static void on_tell(evutil_socket_t fd, short what, void *context)
{
    struct upstream *upstream = context;
    (void)fd;
    (void)what;
    if (upstream->destroyed || upstream->drain_over)
        cancel_all(upstream);
    if (upstream->destroyed)
        free_upstream(upstream);
    else if (upstream->draining && !upstream->first)
        set_state(upstream, BACKEND_ENDED, NULL);
}

static void on_drained(evutil_socket_t fd, short what, void *context)
{
    struct upstream *upstream = context;
    upstream->drain_over = true;
    on_tell(fd, what, context);
}

static void drain(struct backend *backend, uint64_t timeout_ns)
{
    struct upstream *upstream = of(backend);
    upstream->draining = true;
    set_timer(upstream->drain, timeout_ns);
    if (!upstream->first)
        event_active(upstream->tell, EV_TIMEOUT, 0);
}

static void destroy(struct backend *backend)
{
    struct upstream *upstream = of(backend);
    upstream->destroyed = true;
    if (!upstream->first && !upstream->busy)
        free_upstream(upstream);
    else
        event_active(upstream->tell, EV_TIMEOUT, 0);
}

/* ---- the beginning ---- */

static int check_key(const char *key, struct hearth_error *err)
{
    size_t size = key ? strlen(key) : 1;
    for (size_t i = 0; key && i < size; i++) {
        if (key[i] <= ' ' || key[i] > '~')
            size = 0; /* it would end its header, or begin another one */
    }
    return size > 0 && size <= UPSTREAM_KEY_MAX
               ? 0
               : error_set(err, HEARTH_E_ARGUMENT,
                           "a key is one line of at most %d printable characters without spaces",
                           UPSTREAM_KEY_MAX);
}

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

static uint64_t given(uint64_t value, uint64_t otherwise)
{
    return value ? value : otherwise;
}

static bool prepare(struct upstream *upstream, const struct upstream_options *options)
{
    upstream->name = copy_text(options->name);
    upstream->url = copy_text(options->url);
    upstream->model = copy_text(options->model ? options->model : options->name);
    upstream->key = options->key ? copy_text(options->key) : NULL;
    upstream->tell = evtimer_new(upstream->loop, on_tell, upstream);
    upstream->health = evtimer_new(upstream->loop, on_health, upstream);
    upstream->drain = evtimer_new(upstream->loop, on_drained, upstream);
    buffer_init(&upstream->ready, ERROR_BYTES_MAX);
    buffer_init(&upstream->looked, (size_t)4 << 20);
    if (!upstream->name || !upstream->url || !upstream->model || (options->key && !upstream->key) ||
        !upstream->tell || !upstream->health || !upstream->drain ||
        !upstream_words_ready(NULL, upstream->model, &upstream->ready))
        return false;
    for (size_t size = strlen(upstream->url); size > 0 && upstream->url[size - 1] == '/'; size--)
        upstream->url[size - 1] = '\0';
    upstream->base.ready = buffer_text(&upstream->ready);
    return true;
}

int upstream_create(struct event_base *base, const struct upstream_options *options,
                    struct backend_owner owner, struct backend **out, struct hearth_error *err)
{
    static const struct backend_calls calls = {.ask = ask,
                                               .embed = embed,
                                               .call = call,
                                               .abandon = abandon,
                                               .pause = pause_job,
                                               .drain = drain,
                                               .destroy = destroy};
    int status = fetch_check_url(options->url, err);
    if (!status && strlen(options->url) > URL_BYTES / 2)
        status = error_set(err, HEARTH_E_ARGUMENT, "the address is too long");
    if (!status)
        status = check_key(options->key, err);
    if (status)
        return status;
    struct upstream *upstream = MEM_NEW(struct upstream);
    if (!upstream)
        return error_set(err, HEARTH_E_MEMORY, "no memory for another server");
    upstream->base.calls = &calls;
    upstream->base.state = BACKEND_READY;
    upstream->loop = base;
    upstream->owner = owner;
    upstream->options = *options;
    upstream->options.connect_ns = given(options->connect_ns, 5 * SECOND);
    upstream->options.first_byte_ns = given(options->first_byte_ns, 300 * SECOND);
    upstream->options.idle_ns = given(options->idle_ns, 60 * SECOND);
    upstream->options.retry_ns = given(options->retry_ns, SECOND / 4);
    upstream->options.health_ns = given(options->health_ns, 30 * SECOND);
    status = fetcher_create(base, &upstream->fetcher, err);
    if (!status && !prepare(upstream, options))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for another server");
    if (status) {
        free_upstream(upstream);
        return status;
    }
    *out = &upstream->base;
    return 0;
}
