/* The way of one request: the model is acquired, its conversation moved to it, its choices asked,
 * what they say told in pieces, and the end.
 *
 * Lifetimes: everything that calls in here does so from the loop: the model, the backend, the HTTP
 * layer, a timer. None of these calls frees the generation but the last two below, which nobody
 * else's code stands above: `wake`, an event that is made active when it is over, and the HTTP
 * layer's word that the client is gone. Until one of them runs, `over` keeps everything else out.
 * A choice's job is forgotten before its end is handled, so what is abandoned is always alive. */
#include "server/generation.h"

#include <string.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/generation_choice.h"
#include "server/session_move.h"

#define PIECE_INTERVAL_NS UINT64_C(16000000)

struct generation {
    struct daemon *daemon;
    struct generation_listener listener;
    struct generation_request request; /* texts and lists lie behind the choices */
    struct model_wait *wait;
    struct session_move *move;
    struct model_lease *lease;
    struct backend *backend;
    struct event *timer; /* until the next piece is due */
    struct event *wake;
    uint64_t started_ns, load_ns, told_ns;
    struct refusal refusal;
    bool streams; /* and is counted as such */
    bool paused, cancelled;
    bool over; /* nothing more is told but the end */
    uint32_t count;
    struct generation_choice choices[];
};

/* ---- the end ---- */

static void let_go(struct generation *generation)
{
    if (generation->wait)
        models_forget(generation->wait);
    if (generation->move)
        session_move_cancel(generation->move);
    for (uint32_t i = 0; i < generation->count; i++) {
        struct generation_choice *choice = &generation->choices[i];
        if (choice->job)
            generation->backend->calls->abandon(generation->backend, choice->job);
        choice->job = NULL;
    }
    if (generation->lease)
        model_release(generation->lease);
    generation->wait = NULL;
    generation->move = NULL;
    generation->lease = NULL;
    if (generation->streams)
        metrics_add(generation->daemon->metrics, METRIC_STREAMS, NULL, -1);
    generation->streams = false;
}

static void destroy(struct generation *generation)
{
    let_go(generation);
    for (uint32_t i = 0; i < generation->count; i++)
        generation_choice_finish(&generation->choices[i]);
    if (generation->timer)
        event_free(generation->timer);
    if (generation->wake)
        event_free(generation->wake);
    mem_free(generation);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    struct generation *generation = context;
    const struct generation_listener *listener = &generation->listener;
    (void)fd, (void)what;
    let_go(generation);
    if (listener->on_end)
        listener->on_end(listener->context, generation,
                         generation->refusal.status ? &generation->refusal : NULL);
    destroy(generation);
}

static void on_gone(void *context)
{
    struct generation *generation = context;
    struct generation_listener listener = generation->listener;
    destroy(generation);
    if (listener.on_gone)
        listener.on_gone(listener.context);
}

static void finish(struct generation *generation)
{
    if (!generation->over)
        event_active(generation->wake, EV_TIMEOUT, 0);
    generation->over = true;
}

static void fail(struct generation *generation, const struct refusal *refusal)
{
    if (generation->over)
        return;
    generation->refusal = *refusal;
    finish(generation);
}

static void fail_with(struct generation *generation, const struct hearth_error *error)
{
    struct refusal refusal;
    refusal_of(&refusal, error);
    if (error->code == HEARTH_E_CANCELLED) /* not by this client, who is there */
        refusal.status = 503;
    fail(generation, &refusal);
}

static void fail_without_memory(struct generation *generation)
{
    struct hearth_error error;
    error_set(&error, HEARTH_E_MEMORY, "no memory for the answer");
    fail_with(generation, &error);
}

/* ---- telling ---- */

/* Whether all of it was told. */
static bool tell_choice(struct generation *generation, struct generation_choice *choice)
{
    const struct generation_listener *listener = &generation->listener;
    struct generation_piece piece;
    if (generation->paused || (generation->request.whole && !choice->ended))
        return false;
    if (generation_choice_piece(choice, &piece)) {
        if (listener->on_piece)
            listener->on_piece(listener->context, &piece);
        generation_choice_told(choice);
        generation->told_ns = os_monotonic_ns();
    }
    if (!choice->ended || generation->paused || generation->over)
        return false;
    if (!choice->end_told && listener->on_choice_end)
        listener->on_choice_end(listener->context, choice->index, &choice->end);
    choice->end_told = true;
    return true;
}

static void tell(struct generation *generation)
{
    bool all = true;
    for (uint32_t i = 0; i < generation->count && !generation->over; i++)
        all =
            (generation->choices[i].end_told || tell_choice(generation, &generation->choices[i])) &&
            all;
    if (all && !generation->over)
        finish(generation);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct generation *generation = context;
    (void)fd, (void)what;
    if (!generation->over)
        tell(generation);
}

/* At once, or when the last piece is old enough. */
static void tell_in_time(struct generation *generation)
{
    uint64_t now = os_monotonic_ns(), due = generation->told_ns + PIECE_INTERVAL_NS;
    if (generation->request.whole || generation->paused)
        return;
    if (now >= due) {
        tell(generation);
    } else if (!event_pending(generation->timer, EV_TIMEOUT, NULL)) {
        struct timeval wait = {.tv_usec = (long)((due - now) / 1000)};
        if (event_add(generation->timer, &wait) != 0)
            tell(generation);
    }
}

static void pause_jobs(struct generation *generation, bool pause)
{
    generation->paused = pause;
    for (uint32_t i = 0; i < generation->count; i++) {
        if (generation->choices[i].job)
            generation->backend->calls->pause(generation->backend, generation->choices[i].job,
                                              pause);
    }
}

void generation_wrote(struct generation *generation, bool go_on)
{
    if (!go_on && !generation->paused && !generation->over)
        pause_jobs(generation, true);
}

static void on_resume(void *context)
{
    struct generation *generation = context;
    if (generation->over || !generation->paused)
        return;
    pause_jobs(generation, false);
    tell(generation);
}

/* ---- what the backend says ---- */

static void on_begin(void *context, const struct work_begin *begin)
{
    struct generation_choice *choice = context;
    struct generation *generation = choice->generation;
    if (generation->over)
        return;
    choice->begun = true;
    if (begin->opens_reasoning)
        reasoning_begin(&choice->reasoning, true);
    if (generation->listener.on_begin)
        generation->listener.on_begin(generation->listener.context, choice->index, begin);
}

static void on_reading(void *context, uint64_t done, uint64_t total)
{
    struct generation_choice *choice = context;
    struct generation *generation = choice->generation;
    if (!generation->over && !generation->paused && generation->listener.on_reading)
        generation->listener.on_reading(generation->listener.context, choice->index, done, total);
}

static void measure_pace(struct generation_choice *choice, uint32_t tokens)
{
    struct generation *generation = choice->generation;
    struct metrics *metrics = generation->daemon->metrics;
    uint64_t now = os_monotonic_ns();
    if (choice->last_text_ns == 0)
        metrics_observe(metrics, METRIC_FIRST_TOKEN, (double)(now - generation->started_ns) / 1e9);
    else if (tokens > choice->token_count && !generation->paused)
        metrics_observe(metrics, METRIC_NEXT_TOKEN,
                        (double)(now - choice->last_text_ns) / 1e9 /
                            (tokens - choice->token_count));
    choice->last_text_ns = now;
}

static void on_text(void *context, const struct work_text *work, struct text reasoning,
                    struct message_reader *tokens)
{
    struct generation_choice *choice = context;
    struct generation *generation = choice->generation;
    const struct generation_request *request = &generation->request;
    if (generation->over)
        return;
    measure_pace(choice, work->tokens);
    if (generation_choice_add(choice, work, reasoning, tokens, request->keep_reasoning,
                              request->tokens))
        tell_in_time(generation);
    else
        fail_without_memory(generation);
}

static void count_tokens(struct generation *generation, const struct work_end *end)
{
    struct metrics *metrics = generation->daemon->metrics;
    metrics_add(metrics, METRIC_PROMPT_TOKENS, NULL, (double)end->prompt_tokens);
    metrics_add(metrics, METRIC_CACHED_TOKENS, NULL, (double)end->cached_tokens);
    metrics_add(metrics, METRIC_ANSWER_TOKENS, NULL, (double)end->answer_tokens);
    metrics_add(metrics, METRIC_CACHE, generation_miss_name((enum hearth_miss)end->miss), 1);
}

/* An answer that reached the end of the context is one, and ended by its length; a prompt that
 * found no room for an answer is an error. */
static bool is_failure(const struct generation *generation, struct work_end *end)
{
    if (generation->cancelled && end->stop == HEARTH_STOP_CANCELLED)
        return false;
    if (end->stop == HEARTH_STOP_ERROR && end->code == HEARTH_E_LIMIT && end->answer_tokens > 0)
        end->stop = HEARTH_STOP_CONTEXT;
    return end->stop >= HEARTH_STOP_CANCELLED ||
           (end->stop == HEARTH_STOP_CONTEXT && end->answer_tokens == 0);
}

static void fail_by_end(struct generation *generation, const struct work_end *end)
{
    struct hearth_error error;
    int code = end->code < 0                        ? end->code
               : end->stop == HEARTH_STOP_CANCELLED ? HEARTH_E_CANCELLED
               : end->stop == HEARTH_STOP_CONTEXT   ? HEARTH_E_LIMIT
                                                    : HEARTH_E_IO;
    if (end->cause.size > 0)
        error_set(&error, code, "%.*s", (int)(end->cause.size < 500 ? end->cause.size : 500),
                  end->cause.data);
    else
        error_set(&error, code, "the answer ended early: %s", hearth_status_text(code));
    fail_with(generation, &error);
}

static void on_end(void *context, const struct work_end *end)
{
    struct generation_choice *choice = context;
    struct generation *generation = choice->generation;
    choice->job = NULL;
    if (generation->over)
        return;
    if (!generation_choice_end(choice, end)) {
        fail_without_memory(generation);
    } else if (is_failure(generation, &choice->end)) {
        struct generation_piece piece;
        if (!generation->request.whole && generation_choice_piece(choice, &piece) &&
            generation->listener.on_piece) {
            generation->listener.on_piece(generation->listener.context, &piece);
            generation_choice_told(choice);
        }
        fail_by_end(generation, &choice->end);
    } else {
        count_tokens(generation, end);
        tell(generation);
    }
}

void generation_cancel(struct generation *generation)
{
    static const struct hearth_error cancelled = {HEARTH_E_CANCELLED, "the answer was cancelled"};
    struct refusal refusal;
    bool ends = true;
    if (generation->over || generation->cancelled)
        return;
    generation->cancelled = true;
    for (uint32_t i = 0; i < generation->count; i++) {
        struct generation_choice *choice = &generation->choices[i];
        const struct backend *backend = generation->backend;
        if (choice->ended)
            continue;
        ends = choice->job && backend->calls->cancel &&
               backend->calls->cancel(generation->backend, choice->job) && ends;
    }
    if (!ends) {
        refusal_of(&refusal, &cancelled);
        fail(generation, &refusal);
    }
}

/* ---- asking ---- */

static void ask_all(struct generation *generation)
{
    const struct backend_calls *calls;
    struct work_ask ask = generation->request.ask;
    struct hearth_error err;
    generation->backend = model_lease_backend(generation->lease);
    calls = generation->backend->calls;
    for (uint32_t i = 0; i < generation->count && !generation->over; i++) {
        struct generation_choice *choice = &generation->choices[i];
        struct backend_listener listener = {.on_begin = on_begin,
                                            .on_reading = on_reading,
                                            .on_text = on_text,
                                            .on_end = on_end,
                                            .context = choice};
        ask.sampling.seed = generation->request.ask.sampling.seed + i % generation->request.choices;
        if (generation->request.prompts)
            ask.messages = generation->request.prompts[i / generation->request.choices];
        if (calls->ask(generation->backend, &ask, &listener, &choice->job, &err))
            fail_with(generation, &err);
    }
}

static void on_moved(void *context, const struct refusal *refusal)
{
    struct generation *generation = context;
    generation->move = NULL;
    if (generation->over)
        return;
    if (refusal)
        fail(generation, refusal);
    else
        ask_all(generation);
}

static void on_loading(void *context, double fraction)
{
    struct generation *generation = context;
    if (!generation->over && generation->listener.on_loading)
        generation->listener.on_loading(generation->listener.context, fraction);
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err)
{
    struct generation *generation = context;
    struct refusal refusal;
    generation->wait = NULL;
    generation->lease = lease;
    if (generation->over)
        return;
    if (!lease) {
        fail_with(generation, err);
        return;
    }
    if (loaded) {
        generation->load_ns = os_monotonic_ns() - generation->started_ns;
        if (generation->listener.on_loaded)
            generation->listener.on_loaded(generation->listener.context, generation->load_ns);
    }
    if (generation->over)
        return;
    int status = session_move_start(generation->daemon->models, generation->request.ask.session,
                                    generation->request.model, on_moved, generation,
                                    &generation->move, &refusal);
    if (status < 0)
        fail(generation, &refusal);
    else if (status > 0)
        ask_all(generation);
}

/* ---- the beginning ---- */

/* Copies what a request points to behind the choices; without memory at `at`, counts its bytes. */
struct keeper {
    char *at;
    size_t size;
};

static void *keep(struct keeper *keeper, const void *data, size_t size)
{
    size_t room = (size + 15) & ~(size_t)15;
    void *place = keeper->at;
    keeper->size += room;
    if (!place)
        return NULL;
    if (size > 0)
        memcpy(place, data, size);
    keeper->at += room;
    return place;
}

static void keep_text(struct keeper *keeper, struct text *text)
{
    text->data = keep(keeper, text->data, text->size);
}

static void keep_breakers(struct keeper *keeper, struct hearth_sampling *sampling)
{
    const char **breakers;
    if (!sampling->dry_breakers)
        return;
    const char *const *from = sampling->dry_breakers;
    breakers = keep(keeper, from, sampling->dry_breaker_count * sizeof *breakers);
    for (size_t i = 0; i < sampling->dry_breaker_count; i++) {
        const char *copy = keep(keeper, from[i], strlen(from[i]) + 1);
        if (breakers)
            breakers[i] = copy;
    }
    sampling->dry_breakers = breakers;
}

static void keep_request(struct keeper *keeper, struct generation_request *request)
{
    struct work_ask *ask = &request->ask;
    keep_text(keeper, &ask->session);
    if (request->prompts)
        ask->messages = (struct text){NULL, 0};
    keep_text(keeper, &ask->messages);
    keep_text(keeper, &ask->system);
    keep_text(keeper, &ask->variables);
    for (uint32_t i = 0; i < ask->stop_count; i++)
        keep_text(keeper, &ask->stops[i]);
    if (ask->sampling.bias)
        ask->sampling.bias =
            keep(keeper, ask->sampling.bias, ask->sampling.bias_count * sizeof *ask->sampling.bias);
    keep_breakers(keeper, &ask->sampling);
    if (request->prompts) {
        const struct text *from = request->prompts;
        struct text *prompts = keep(keeper, from, request->prompt_count * sizeof *prompts);
        for (uint32_t i = 0; i < request->prompt_count; i++) {
            struct text copy = from[i];
            keep_text(keeper, &copy);
            if (prompts)
                prompts[i] = copy;
        }
        request->prompts = prompts;
    }
    memset(&request->own, 0, sizeof request->own);
}

static struct generation *create(const struct generation_request *request)
{
    uint32_t count = request->choices * (request->prompts ? request->prompt_count : 1);
    size_t size = sizeof(struct generation) + count * sizeof(struct generation_choice);
    struct generation_request copy = *request;
    struct keeper keeper = {0};
    struct generation *generation;
    size = (size + 15) & ~(size_t)15;
    keep_request(&keeper, &copy);
    generation = mem_zalloc_array(1, size + keeper.size);
    if (!generation)
        return NULL;
    generation->request = *request;
    generation->count = count;
    keeper = (struct keeper){.at = (char *)generation + size};
    keep_request(&keeper, &generation->request);
    for (uint32_t i = 0; i < count; i++)
        generation_choice_init(&generation->choices[i], generation, i);
    return generation;
}

static bool set_up(struct generation *generation, struct daemon *daemon)
{
    generation->daemon = daemon;
    generation->started_ns = os_monotonic_ns();
    generation->timer = evtimer_new(daemon->base, on_timer, generation);
    generation->wake = evtimer_new(daemon->base, on_wake, generation);
    return generation->timer && generation->wake;
}

struct generation *generation_start(struct daemon *daemon, struct http_exchange *exchange,
                                    const struct generation_request *request,
                                    const struct generation_listener *listener)
{
    struct generation *generation = create(request);
    struct hearth_error err;
    if (!generation || !set_up(generation, daemon)) {
        if (generation)
            destroy(generation);
        http_respond_error(exchange, 507, "no memory for the request");
        if (listener->on_gone)
            listener->on_gone(listener->context);
        return NULL;
    }
    generation->listener = *listener;
    http_exchange_watch(exchange, (struct http_watch){on_gone, on_resume, generation});
    generation->streams = !request->whole;
    if (generation->streams)
        metrics_add(daemon->metrics, METRIC_STREAMS, NULL, 1);
    struct model_acquire acquire = {
        .ttl_given = request->ttl_given,
        .ttl_ns = request->ttl_ns,
        .on_loading = on_loading,
        .on_ready = on_ready,
        .context = generation,
    };
    if (model_acquire(request->model, &acquire, &generation->wait, &err))
        fail_with(generation, &err);
    return generation;
}

/* ---- for the end ---- */

struct text generation_text(const struct generation *generation, uint32_t choice)
{
    return buffer_text(&generation->choices[choice].text);
}

struct text generation_reasoning(const struct generation *generation, uint32_t choice)
{
    return buffer_text(&generation->choices[choice].thought);
}

void generation_totals(const struct generation *generation, struct generation_totals *out)
{
    *out = (struct generation_totals){
        .load_ns = generation->load_ns,
        .total_ns = os_monotonic_ns() - generation->started_ns,
    };
    for (uint32_t i = 0; i < generation->count; i++) {
        const struct work_end *end = &generation->choices[i].end;
        if (i % generation->request.choices == 0) { /* a prompt counts once */
            out->prompt_tokens += end->prompt_tokens;
            out->cached_tokens += end->cached_tokens;
        }
        out->answer_tokens += end->answer_tokens;
        out->reasoning_tokens += generation->choices[i].reasoning_tokens;
        out->queued_ns += end->queued_ns;
        out->prompt_ns += end->prompt_ns;
        out->answer_ns += end->answer_ns;
        out->decode_tokens += end->decode_tokens;
        out->drafted += end->drafted;
        out->accepted += end->accepted;
    }
}
