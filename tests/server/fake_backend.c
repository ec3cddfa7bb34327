#define _GNU_SOURCE
#include "fake_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#define PAYLOAD_MAX ((size_t)16 << 20)

struct fake {
    struct backend backend;
    struct event_base *base;
    struct fake_backend_counts *counts;
    struct backend_job *jobs;
    json_t *last_ask;
    json_t *chats; /* by key: messages */
};

enum kind { ASK, EMBED, CALL };

/* An ask goes through these; the others wait in QUEUE and end. */
enum phase { QUEUE, PROMPT, ANSWER, END };

struct backend_job {
    struct fake *fake;
    struct backend_job *previous, *next;
    struct backend_listener listener;
    struct event *timer;
    enum kind kind;
    enum phase phase;
    bool cancelled;
    bool paused, due; /* `due`: the timer fired while it was paused */
    json_t *script;   /* of an ask; inputs of an embedding; arguments of a call */
    json_t *tokens;
    char *name;
    char *key;     /* of the conversation that an ask belongs to; NULL: none */
    json_t *asked; /* what its messages become, but for the answer */
    size_t reads, said;
    uint32_t max_tokens, top_tokens;
    bool name_tokens, progress;
};

static struct fake *fake_of(struct backend *backend)
{
    return (struct fake *)backend;
}

static json_t *object_of(struct text text)
{
    json_t *object = text.size ? json_loadb(text.data, text.size, 0, NULL) : NULL;
    return object ? object : json_object();
}

static int number(const json_t *script, const char *name, int otherwise)
{
    const json_t *value = json_object_get(script, name);
    return json_is_integer(value) ? (int)json_integer_value(value) : otherwise;
}

static const char *word(const json_t *script, const char *name)
{
    const char *value = json_string_value(json_object_get(script, name));
    return value ? value : "";
}

/* Where tests make an allocation fail it is not to be one of these. */
static void make_room(struct buffer *buffer)
{
    buffer_init(buffer, PAYLOAD_MAX);
    while (!buffer_reserve(buffer, 65536))
        buffer_finish(buffer);
}

/* ---- jobs ---- */

static void after_ms(struct backend_job *job, int ms)
{
    struct timeval time = {ms / 1000, (ms % 1000) * 1000};
    evtimer_add(job->timer, &time);
}

static void free_job(struct backend_job *job)
{
    if (job->previous)
        job->previous->next = job->next;
    else
        job->fake->jobs = job->next;
    if (job->next)
        job->next->previous = job->previous;
    job->fake->counts->jobs--;
    job->fake->backend.jobs--;
    event_free(job->timer);
    json_decref(job->script);
    json_decref(job->tokens);
    json_decref(job->asked);
    free(job->name);
    free(job->key);
    free(job);
}

static void on_timer(evutil_socket_t fd, short what, void *context);

static struct backend_job *new_job(struct fake *fake, enum kind kind,
                                   const struct backend_listener *listener)
{
    struct backend_job *job = calloc(1, sizeof *job);
    if (!job)
        abort();
    job->fake = fake;
    job->kind = kind;
    job->listener = *listener;
    job->timer = evtimer_new(fake->base, on_timer, job);
    job->next = fake->jobs;
    if (fake->jobs)
        fake->jobs->previous = job;
    fake->jobs = job;
    fake->counts->jobs++;
    fake->backend.jobs++;
    return job;
}

/* The job is gone when its listener hears of the end, as in a real backend. */
static void end_ask(struct backend_job *job, const struct work_end *end)
{
    struct backend_listener listener = job->listener;
    job->fake->counts->ended++;
    free_job(job);
    if (listener.on_end)
        listener.on_end(listener.context, end);
}

static void end_call(struct backend_job *job, int code, struct text cause,
                     struct message_reader *reply)
{
    struct backend_listener listener = job->listener;
    job->fake->counts->ended++;
    free_job(job);
    if (listener.on_reply)
        listener.on_reply(listener.context, code, cause, reply);
}

/* ---- answers ---- */

static void say_token(struct backend_job *job)
{
    const json_t *token = json_array_get(job->tokens, job->said++);
    struct text text = {json_string_value(token), json_string_length(token)};
    struct work_text work = {text, (uint32_t)job->said, job->name_tokens ? 1 : 0};
    struct work_token self = {(uint32_t)job->said, -(double)job->said / 8, text};
    struct work_token top[HEARTH_TOP_TOKENS_MAX];
    struct message_reader reader = {{NULL, 0}, false};
    struct message message;
    struct buffer buffer;
    for (uint32_t i = 0; i < job->top_tokens; i++)
        top[i] = (struct work_token){100 + i, self.logprob - i, TEXT("other")};
    if (job->top_tokens > 0)
        top[0] = self;
    make_room(&buffer);
    size_t begin = work_text_begin(&buffer, 1, &work);
    if (job->name_tokens)
        work_text_put_token(&buffer, &self, top, job->top_tokens);
    bool whole = work_text_end(&buffer, begin) &&
                 message_decode(buffer.data, buffer.size, WORK_PAYLOAD_MAX, &message, NULL) > 0 &&
                 work_get_text_begin(&message, &reader, &work);
    job->fake->counts->said++;
    if (whole && job->listener.on_text) /* else the test made an allocation of ours fail */
        job->listener.on_text(job->listener.context, &work, (struct text){NULL, 0}, &reader);
    buffer_finish(&buffer);
}

static enum hearth_stop stop_of(const json_t *script)
{
    static const char *const stops[] = {"end", "length", "string", "context", "cancelled", "error"};
    for (unsigned i = 0; i < sizeof stops / sizeof *stops; i++) {
        if (strcmp(word(script, "stop"), stops[i]) == 0)
            return (enum hearth_stop)i;
    }
    return HEARTH_STOP_END;
}

/* The answer becomes the last message of its conversation. */
static void keep_answer(struct backend_job *job)
{
    struct buffer text;
    buffer_init(&text, PAYLOAD_MAX);
    for (size_t i = 0; i < job->said; i++) {
        const json_t *token = json_array_get(job->tokens, i);
        buffer_append(&text, json_string_value(token), json_string_length(token));
    }
    json_array_append_new(job->asked, json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                                text.size ? text.data : "", text.size));
    json_object_set(job->fake->chats, job->key, job->asked);
    buffer_finish(&text);
}

static void end_answer(struct backend_job *job)
{
    if (job->key && stop_of(job->script) != HEARTH_STOP_ERROR)
        keep_answer(job);
    json_t *script = json_incref(job->script);
    bool cut = job->said < json_array_size(job->tokens);
    struct work_end end = {
        .stop = cut ? HEARTH_STOP_LENGTH : stop_of(script),
        .code = number(script, "code", 0),
        .cause = text_of(word(script, "cause")),
        .prompt_tokens = (uint64_t)number(script, "prompt", 10),
        .cached_tokens = (uint64_t)number(script, "cached", 0),
        .answer_tokens = job->said,
        .miss = (uint32_t)number(script, "miss", HEARTH_MISS_NEW),
        .queued_ns = 1000000,
        .prompt_ns = 20000000,
        .first_token_ns = 21000000,
        .answer_ns = 30000000,
        .decode_tokens = job->said ? job->said - 1 : 0,
    };
    if (end.stop == HEARTH_STOP_STRING)
        end.stop_string = TEXT("STOP");
    end_ask(job, &end);
    json_decref(script);
}

static void begin_answer(struct backend_job *job)
{
    struct work_begin begin = {
        .prompt_tokens = (uint64_t)number(job->script, "prompt", 10),
        .cached_tokens = (uint64_t)number(job->script, "cached", 0),
        .queued_ns = 1000000,
        .opens_reasoning = json_is_true(json_object_get(job->script, "opens_reasoning")),
    };
    job->phase = PROMPT;
    if (job->listener.on_begin)
        job->listener.on_begin(job->listener.context, &begin);
}

static void read_prompt(struct backend_job *job)
{
    uint64_t total = (uint64_t)number(job->script, "prompt", 10);
    uint64_t cached = (uint64_t)number(job->script, "cached", 0);
    uint64_t reads = (uint64_t)number(job->script, "reads", 0);
    job->reads++;
    if (job->progress && job->listener.on_reading)
        job->listener.on_reading(job->listener.context,
                                 cached + (total - cached) * job->reads / reads, total);
}

/* A listener may abandon the job: nothing is done with it behind the call. */
static void step_ask(struct backend_job *job)
{
    bool more;
    if (job->cancelled) {
        end_answer(job);
        return;
    }
    if (job->phase == QUEUE) {
        if (strcmp(word(job->script, "hold"), "prompt") != 0)
            after_ms(job, number(job->script, "read_ms", 0));
        begin_answer(job);
        return;
    }
    if (job->phase == PROMPT && (int)job->reads < number(job->script, "reads", 0)) {
        after_ms(job, number(job->script, "read_ms", 0));
        read_prompt(job);
        return;
    }
    job->phase = ANSWER;
    more = job->said < json_array_size(job->tokens) &&
           (job->max_tokens == 0 || job->said < job->max_tokens);
    if (!more) {
        if (strcmp(word(job->script, "hold"), "answer") != 0)
            end_answer(job);
        return;
    }
    after_ms(job, number(job->script, "token_ms", 0));
    say_token(job);
}

/* ---- embeddings and calls ---- */

static struct text text_value(const json_t *value)
{
    return (struct text){json_string_value(value), json_string_length(value)};
}

static void step_embed(struct backend_job *job)
{
    size_t count = json_array_size(job->script);
    struct work_vectors vectors = {(uint32_t)count, 4, 0};
    float *values = calloc(count + 1, 4 * sizeof *values);
    struct message_reader reader;
    struct message message;
    struct text cause;
    struct buffer buffer;
    int code;
    for (size_t i = 0; i < count; i++) {
        struct text text = text_value(json_array_get(job->script, i));
        if (text_equal(text, TEXT("fail"))) {
            free(values);
            end_call(job, HEARTH_E_LIMIT, TEXT("the text is longer than the context"), NULL);
            return;
        }
        memcpy(values + 4 * i, (float[]){(float)text.size, (float)i, 0.25f, -1.0f}, 16);
        vectors.tokens += text.size;
    }
    make_room(&buffer);
    if (!work_put_vectors(&buffer, 1, &vectors, values) ||
        message_decode(buffer.data, buffer.size, WORK_PAYLOAD_MAX, &message, NULL) <= 0 ||
        !work_get_reply(&message, &reader, &code, &cause))
        end_call(job, HEARTH_E_MEMORY, TEXT("no memory in the fake"), NULL);
    else
        end_call(job, code, cause, &reader);
    free(values);
    buffer_finish(&buffer);
}

static json_t *tokens_of(struct text text)
{
    json_t *tokens = json_array();
    for (size_t i = 0; i < text.size; i++)
        json_array_append_new(tokens, json_integer((unsigned char)text.data[i]));
    return json_pack("{s:o}", "tokens", tokens);
}

static json_t *text_of_tokens(const json_t *tokens)
{
    char text[4096];
    size_t size = json_array_size(tokens), i;
    for (i = 0; i < size && i < sizeof text; i++)
        text[i] = (char)json_integer_value(json_array_get(tokens, i));
    return json_pack("{s:s%}", "text", text, i);
}

static json_t *list_of_chats(json_t *chats)
{
    json_t *sessions = json_array(), *messages;
    const char *key;
    json_object_foreach(chats, key, messages)
    {
        json_array_append_new(sessions, json_pack("{s:s, s:i}", "key", key, "messages",
                                                  (int)json_array_size(messages)));
    }
    return json_pack("{s:o}", "sessions", sessions);
}

static json_t *reply_to(const struct backend_job *job)
{
    if (strcmp(job->name, "tokenize") == 0)
        return tokens_of(text_value(json_object_get(job->script, "text")));
    if (strcmp(job->name, "detokenize") == 0)
        return text_of_tokens(json_object_get(job->script, "tokens"));
    if (strcmp(job->name, "sessions") == 0)
        return list_of_chats(job->fake->chats);
    if (strcmp(job->name, "history") == 0)
        return json_pack("{s:O}", "messages",
                         json_object_get(job->fake->chats, word(job->script, "key")));
    return json_pack("{s:s, s:O}", "name", job->name, "arguments", job->script);
}

/* Why a call fails; NULL: it does not. */
static const char *failure_of(const struct backend_job *job, int *code)
{
    const char *key = word(job->script, "key");
    *code = HEARTH_E_STATE;
    if (strcmp(job->name, "history") == 0 && !json_object_get(job->fake->chats, key)) {
        *code = HEARTH_E_MISSING;
        return "there is no such conversation";
    }
    if (strcmp(job->name, "release") == 0 && strcmp(key, "busy") == 0)
        return "it answers";
    return json_string_value(json_object_get(job->script, "fail"));
}

static void step_call(struct backend_job *job)
{
    int failed;
    const char *fail = failure_of(job, &failed);
    struct message_reader reader;
    struct message message;
    struct text cause;
    struct buffer buffer;
    int code;
    if (fail) {
        char sentence[256];
        snprintf(sentence, sizeof sentence, "%s", fail);
        end_call(job, failed, text_of(sentence), NULL);
        return;
    }
    json_t *reply = reply_to(job);
    char *text = json_dumps(reply, JSON_COMPACT);
    make_room(&buffer);
    if (!text || !work_put_reply(&buffer, WORK_REPLY, 1, 0, text_of(text)) ||
        message_decode(buffer.data, buffer.size, WORK_PAYLOAD_MAX, &message, NULL) <= 0 ||
        !work_get_reply(&message, &reader, &code, &cause))
        end_call(job, HEARTH_E_MEMORY, TEXT("no memory in the fake"), NULL);
    else
        end_call(job, code, cause, &reader);
    free(text);
    json_decref(reply);
    buffer_finish(&buffer);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct backend_job *job = context;
    (void)fd, (void)what;
    if (job->paused)
        job->due = true;
    else if (job->kind == ASK)
        step_ask(job);
    else if (job->kind == EMBED)
        step_embed(job);
    else
        step_call(job);
}

/* ---- the interface ---- */

/* Words with the space before them. */
static json_t *words_of(struct text text)
{
    json_t *tokens = json_array();
    size_t start = 0;
    for (size_t i = 1; i <= text.size; i++) {
        if (i < text.size && text.data[i] != ' ')
            continue;
        json_array_append_new(tokens, json_stringn(text.data + start, i - start));
        start = i;
    }
    return tokens;
}

static json_t *said_again(struct text content)
{
    struct buffer answer;
    make_room(&answer);
    buffer_append_text(&answer, TEXT("You said: "));
    buffer_append_text(&answer, content);
    json_t *tokens = words_of(buffer_text(&answer));
    buffer_finish(&answer);
    return tokens;
}

static void read_script(struct backend_job *job, struct text messages)
{
    json_t *list = json_loadb(messages.data, messages.size, 0, NULL);
    const json_t *last = json_array_get(list, json_array_size(list) - 1);
    struct text content = text_value(json_object_get(last, "content"));
    job->script = content.size ? json_loadb(content.data, content.size, 0, NULL) : NULL;
    if (!json_is_object(job->script)) {
        json_decref(job->script);
        job->script = json_object();
        job->tokens = said_again(content);
    } else if (json_is_array(json_object_get(job->script, "say"))) {
        job->tokens = json_incref(json_object_get(job->script, "say"));
    } else {
        const char *say = word(job->script, "say");
        job->tokens = words_of(text_of(*say ? say : "hello"));
    }
    json_decref(list);
}

/* Or is just being answered. */
static bool has_gone_on(const struct fake *fake, const struct work_ask *ask)
{
    char key[WORK_KEY_SIZE] = "";
    if (ask->session.size == 0 || !work_copy_key(ask->session, key))
        return false;
    for (const struct backend_job *job = fake->jobs; job; job = job->next) {
        if (job->key && strcmp(job->key, key) == 0)
            return true;
    }
    return ask->behind > 0 && json_array_size(json_object_get(fake->chats, key)) != ask->behind;
}

static void read_conversation(struct backend_job *job, const struct work_ask *ask)
{
    if (ask->session.size == 0)
        return;
    job->key = strndup(ask->session.data, ask->session.size);
    json_t *said = json_loadb(ask->messages.data, ask->messages.size, 0, NULL);
    json_t *before =
        ask->how == WORK_MESSAGES_APPEND ? json_object_get(job->fake->chats, job->key) : NULL;
    job->asked = before ? json_copy(before) : json_array();
    json_array_extend(job->asked, said);
    json_decref(said);
}

static void note_ask(struct fake *fake, const struct work_ask *ask)
{
    json_t *stops = json_array();
    for (uint32_t i = 0; i < ask->stop_count; i++)
        json_array_append_new(stops, json_stringn(ask->stops[i].data, ask->stops[i].size));
    json_t *messages = json_loadb(ask->messages.data, ask->messages.size, 0, NULL);
    json_decref(fake->last_ask);
    fake->last_ask = json_pack(
        "{s:s%, s:i, s:o, s:o, s:f, s:i, s:f, s:I, s:I, s:I, s:o, s:b, s:b, s:b, s:b}", "session",
        ask->session.data ? ask->session.data : "", ask->session.size, "how", (int)ask->how,
        "messages", messages ? messages : json_null(), "variables", object_of(ask->variables),
        "temperature", (double)ask->sampling.temperature, "top_k", (int)ask->sampling.top_k,
        "top_p", (double)ask->sampling.top_p, "seed", (json_int_t)ask->sampling.seed, "max_tokens",
        (json_int_t)ask->max_tokens, "bias_count", (json_int_t)ask->sampling.bias_count, "stop",
        stops, "ignore_end", ask->ignore_end, "background", ask->background, "plain",
        ask->settings.plain, "progress", ask->progress);
    if (!fake->last_ask)
        abort();
}

static int ask(struct backend *backend, const struct work_ask *ask,
               const struct backend_listener *listener, struct backend_job **out,
               struct hearth_error *err)
{
    struct fake *fake = fake_of(backend);
    struct backend_job *job = new_job(fake, ASK, listener);
    note_ask(fake, ask);
    if (has_gone_on(fake, ask)) {
        free_job(job);
        return error_set(err, HEARTH_E_STATE, "the conversation has gone on");
    }
    read_script(job, ask->messages);
    read_conversation(job, ask);
    if (word(job->script, "refuse")[0]) {
        error_set(err, HEARTH_E_LIMIT, "%s", word(job->script, "refuse"));
        free_job(job);
        return HEARTH_E_LIMIT;
    }
    fake->counts->asks++;
    job->max_tokens = ask->max_tokens;
    job->top_tokens = ask->top_tokens;
    job->name_tokens = ask->logprobs || ask->token_ids;
    job->progress = ask->progress;
    if (strcmp(word(job->script, "hold"), "queue") != 0)
        after_ms(job, number(job->script, "queue_ms", 0));
    *out = job;
    return 0;
}

static int embed(struct backend *backend, const struct work_embed *embed,
                 const struct backend_listener *listener, struct backend_job **out,
                 struct hearth_error *err)
{
    struct backend_job *job = new_job(fake_of(backend), EMBED, listener);
    (void)err;
    job->script = json_loadb(embed->inputs.data, embed->inputs.size, 0, NULL);
    job->fake->counts->embeds++;
    if (!text_equal(text_value(json_array_get(job->script, 0)), TEXT("hold")))
        after_ms(job, 0);
    *out = job;
    return 0;
}

static int call(struct backend *backend, const struct work_call *call,
                const struct backend_listener *listener, struct backend_job **out,
                struct hearth_error *err)
{
    struct backend_job *job = new_job(fake_of(backend), CALL, listener);
    (void)err;
    job->script = object_of(call->arguments);
    job->name = strndup(call->name.data, call->name.size);
    job->fake->counts->calls++;
    bool held = strcmp(job->name, "release") == 0 && strcmp(word(job->script, "key"), "held") == 0;
    if (!held && !json_object_get(job->script, "hold"))
        after_ms(job, 0);
    *out = job;
    return 0;
}

static void abandon(struct backend *backend, struct backend_job *job)
{
    if (job->fake != fake_of(backend))
        abort();
    job->fake->counts->abandoned++;
    free_job(job);
}

static bool cancel(struct backend *backend, struct backend_job *job)
{
    if (job->fake != fake_of(backend))
        abort();
    if (job->phase == QUEUE)
        return false;
    job->cancelled = true;
    json_object_set_new(job->script, "stop", json_string("cancelled"));
    after_ms(job, 0);
    return true;
}

static void pause_job(struct backend *backend, struct backend_job *job, bool pause)
{
    struct fake *fake = fake_of(backend);
    if (job->fake != fake || job->kind != ASK)
        abort();
    *(pause ? &fake->counts->paused : &fake->counts->resumed) += 1;
    job->paused = pause;
    if (!pause && job->due) {
        job->due = false;
        after_ms(job, 0);
    }
}

static void threads(struct backend *backend, unsigned threads)
{
    (void)backend, (void)threads;
}

static void shed(struct backend *backend, uint64_t bytes)
{
    (void)backend, (void)bytes;
}

static void drain(struct backend *backend, uint64_t timeout_ns)
{
    (void)backend, (void)timeout_ns;
}

void fake_backend_break(struct backend *backend, const char *cause)
{
    struct fake *fake = fake_of(backend);
    struct work_end end = {.stop = HEARTH_STOP_ERROR, .code = HEARTH_E_IO, .cause = text_of(cause)};
    while (fake->jobs) { /* each end may abandon others */
        if (fake->jobs->kind == ASK)
            end_ask(fake->jobs, &end);
        else
            end_call(fake->jobs, HEARTH_E_IO, text_of(cause), NULL);
    }
}

static void destroy(struct backend *backend)
{
    struct fake *fake = fake_of(backend);
    fake_backend_break(backend, "the backend is gone");
    json_decref(fake->last_ask);
    json_decref(fake->chats);
    free(fake);
}

const json_t *fake_backend_last_ask(const struct backend *backend)
{
    return ((const struct fake *)backend)->last_ask;
}

struct backend *fake_backend_create(struct event_base *base, struct fake_backend_counts *counts)
{
    static const struct backend_calls calls = {.ask = ask,
                                               .embed = embed,
                                               .call = call,
                                               .abandon = abandon,
                                               .cancel = cancel,
                                               .pause = pause_job,
                                               .threads = threads,
                                               .shed = shed,
                                               .drain = drain,
                                               .destroy = destroy};
    struct fake *fake = calloc(1, sizeof *fake);
    if (!fake)
        abort();
    fake->base = base;
    fake->counts = counts;
    fake->chats = json_object();
    fake->backend.calls = &calls;
    fake->backend.state = BACKEND_READY;
    return &fake->backend;
}
