#include "worker/asks.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "worker/alike.h"
#include "worker/visitors.h"

#define TOKENS_BYTES_MAX ((size_t)16 << 20) /* that wait for the text that they make visible */

struct asking {
    struct job job;
    struct worker *worker;
    struct hearth_session *session;
    struct visitor *visitor; /* NULL: the session has a key */
    char key[WORK_KEY_SIZE];
    bool created;  /* the session: before this it was not there */
    bool plain;    /* no template is used */
    size_t before; /* of its messages were there, */
    size_t asked;  /* and so many when it was asked */
    json_t *undo;  /* all of them, where others took their place */
    char *stops[WORK_STOPS_MAX];
    uint32_t stop_count;
    bool progress, names_tokens;
    struct buffer tokens; /* drawn since the last text, `named` of them */
    uint32_t named, drawn;
};

static void asking_free(struct asking *asking)
{
    for (uint32_t i = 0; i < asking->stop_count; i++)
        mem_free(asking->stops[i]);
    json_decref(asking->undo);
    buffer_finish(&asking->tokens);
    mem_free(asking);
}

void asks_refuse(struct worker *worker, uint64_t number, const struct hearth_error *error)
{
    const struct work_end end = {
        .stop = error->code == HEARTH_E_CANCELLED ? HEARTH_STOP_CANCELLED : HEARTH_STOP_ERROR,
        .code = error->code,
        .cause = text_of(error->text),
    };
    worker_send(worker, work_put_end(&worker->message, number, &end));
}

/* ---- the messages of a conversation with a key ---- */

static bool is_users(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "user") == 0;
}

/* How many messages stay when a user says something: a text that has no answer, because it failed
 * or the process ended, goes. */
static size_t answered(const json_t *held)
{
    size_t count = json_array_size(held);
    while (count > 0 && is_users(json_array_get(held, count - 1)))
        count--;
    return count;
}

static int append_one(struct asking *asking, const json_t *message, struct hearth_error *err)
{
    char *text = json_dumps(message, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
    int status = text ? hearth_session_append(asking->session, text, strlen(text), err)
                      : error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    free(text);
    return status;
}

static int append_system(struct asking *asking, struct text system, struct hearth_error *err)
{
    json_t *message =
        json_pack("{s:s, s:s%}", "role", "system", "content", system.data, system.size);
    int status = append_one(asking, message, err);
    json_decref(message);
    return status;
}

static int append_all(struct asking *asking, const struct work_ask *ask, const json_t *messages,
                      struct hearth_error *err)
{
    json_t *held = worker_messages(asking->session, err);
    if (!held)
        return err->code;
    int status = 0;
    if (is_users(json_array_get(messages, 0)) && answered(held) < asking->before) {
        asking->before = answered(held);
        status = hearth_session_truncate(asking->session, asking->before, err);
    }
    json_decref(held);
    if (!status && ask->system.size > 0 && hearth_session_count(asking->session) == 0)
        status = append_system(asking, ask->system, err);
    for (size_t i = 0; !status && i < json_array_size(messages); i++)
        status = append_one(asking, json_array_get(messages, i), err);
    return status;
}

static int replace_all(struct asking *asking, const json_t *messages, struct hearth_error *err)
{
    asking->undo = worker_messages(asking->session, err);
    if (!asking->undo)
        return err->code;
    json_t *merged = alike_merge(asking->undo, alike_count(asking->undo, messages), messages);
    int status = merged ? worker_set_messages(asking->session, merged, err)
                        : error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    json_decref(merged);
    return status;
}

/* As it was before it was asked: a text without an answer would be in the way of the next. */
static void take_back(struct asking *asking)
{
    if (asking->undo)
        worker_set_messages(asking->session, asking->undo, NULL);
    else
        hearth_session_truncate(asking->session, asking->before, NULL);
    if (asking->created && hearth_session_count(asking->session) == 0)
        hearth_session_remove(asking->session, NULL);
}

static int open_keyed(struct asking *asking, const struct work_ask *ask, struct hearth_error *err)
{
    struct hearth_sessions *sessions = asking->worker->sessions;
    struct hearth_session_info info;
    int status = hearth_session_find(sessions, asking->key, &asking->session, err);
    asking->created = status == HEARTH_E_MISSING;
    if (asking->created)
        status = hearth_session_open(sessions, asking->key, &asking->session, err);
    if (status)
        return status;
    hearth_session_info(asking->session, &info);
    asking->before = info.messages;
    if (info.busy)
        status = error_set(err, HEARTH_E_STATE, "the conversation is being answered");
    else if (ask->behind > 0 && info.messages != ask->behind)
        status = error_set(err, HEARTH_E_STATE, "the conversation has %zu messages, not %llu",
                           info.messages, (unsigned long long)ask->behind);
    else if (ask->settings_given && info.messages == 0)
        status = hearth_session_configure(asking->session, &ask->settings, err);
    if (status) {
        if (asking->created)
            hearth_session_remove(asking->session, NULL);
        hearth_session_close(asking->session);
        asking->session = NULL;
    }
    return status;
}

static int say_keyed(struct asking *asking, const struct work_ask *ask, const json_t *messages,
                     struct hearth_error *err)
{
    int status = open_keyed(asking, ask, err);
    if (status)
        return status;
    status = ask->how == WORK_MESSAGES_APPEND ? append_all(asking, ask, messages, err)
                                              : replace_all(asking, messages, err);
    if (status) {
        take_back(asking);
        hearth_session_close(asking->session);
        asking->session = NULL;
    }
    return status;
}

/* ---- while it is answered ---- */

static void on_begin(void *context, const struct hearth_prompt *prompt)
{
    struct asking *asking = context;
    struct worker *worker = asking->worker;
    const struct work_begin begin = {
        .prompt_tokens = prompt->tokens,
        .cached_tokens = prompt->cached_tokens,
        .queued_ns = prompt->queued_ns,
        .opens_reasoning =
            !asking->plain && worker_opens_reasoning((struct text){prompt->text, prompt->size}),
    };
    worker_send(worker, work_put_begin(&worker->message, asking->job.number, &begin));
}

static void on_progress(void *context, size_t done, size_t total)
{
    struct asking *asking = context;
    struct worker *worker = asking->worker;
    if (asking->progress)
        worker_send(worker, work_put_reading(&worker->message, asking->job.number,
                                             done < total ? done : total, total));
}

static struct work_token token_of(const struct hearth_token *token)
{
    return (struct work_token){token->id, (double)token->logprob, {token->text, token->size}};
}

/* The one that ends an answer is none of its tokens. */
static void on_token(void *context, const struct hearth_drawn *drawn)
{
    struct asking *asking = context;
    struct work_token token = token_of(&drawn->token), top[HEARTH_TOP_TOKENS_MAX];
    if (hearth_is_end(asking->worker->model, token.id))
        return;
    asking->drawn++;
    if (!asking->names_tokens)
        return;
    for (size_t i = 0; i < drawn->top_count; i++)
        top[i] = token_of(&drawn->top[i]);
    work_text_put_token(&asking->tokens, &token, top, (uint32_t)drawn->top_count);
    asking->named++;
}

static void send_text(struct asking *asking, struct text text)
{
    struct worker *worker = asking->worker;
    if (asking->tokens.failed)
        worker_die("no memory for tokens");
    const struct work_text piece = {text, asking->drawn, asking->named};
    size_t begin = work_text_begin(&worker->message, asking->job.number, &piece);
    buffer_append_text(&worker->message, buffer_text(&asking->tokens));
    asking->tokens.size = 0;
    asking->named = 0;
    worker_send(worker, work_text_end(&worker->message, begin));
}

static void on_text(void *context, const char *text, size_t size)
{
    send_text(context, (struct text){text, size});
}

/* ---- its end ---- */

/* The text of an answer's tokens, stop string included: as it was shown, so that what stands behind
 * the answer can be compared. */
static bool whole_text(const struct asking *asking, const struct hearth_result *result,
                       struct buffer *out)
{
    const struct hearth_stream_options options = {.continues = asking->plain};
    struct hearth_stream *stream;
    const char *text;
    size_t size;
    bool stopped;
    int status = hearth_stream_open(asking->worker->model, &options, &stream, NULL);
    if (status)
        return false;
    for (size_t i = result->prompt_tokens; i < result->id_count && !status; i++) {
        status = hearth_stream_push(stream, result->ids[i], &text, &size, &stopped, NULL);
        if (!status)
            buffer_append(out, text, size);
    }
    if (!status && !hearth_stream_flush(stream, &text, &size, NULL))
        buffer_append(out, text, size);
    hearth_stream_close(stream);
    return !status && !out->failed;
}

/* Which stop string ended it: the one that stands behind the answer, the shortest where several do.
 * Empty where that cannot be told. */
static struct text stop_string(const struct asking *asking, const struct hearth_result *result)
{
    struct text found = {NULL, 0}, text;
    struct buffer all;
    if (result->stop != HEARTH_STOP_STRING)
        return found;
    if (asking->stop_count == 1)
        return text_of(asking->stops[0]);
    buffer_init(&all, SIZE_MAX);
    if (whole_text(asking, result, &all) && all.size >= result->text_size) {
        text = (struct text){all.data + result->text_size, all.size - result->text_size};
        for (uint32_t i = 0; i < asking->stop_count; i++) {
            struct text stop = text_of(asking->stops[i]);
            if (text_starts_with(text, stop) && (!found.data || stop.size < found.size))
                found = stop;
        }
    }
    buffer_finish(&all);
    return found;
}

static void send_end(struct asking *asking, const struct hearth_result *result)
{
    struct worker *worker = asking->worker;
    const struct work_end end = {
        .session = text_of(asking->key),
        .stop = (uint32_t)result->stop,
        .code = result->error.code,
        .cause = text_of(result->error.text),
        .stop_string = stop_string(asking, result),
        .prompt_tokens = result->prompt_tokens,
        .cached_tokens = result->cached_tokens,
        .answer_tokens = result->answer_tokens,
        .dropped_messages = result->dropped_messages,
        .miss = (uint32_t)result->miss,
        .unsaved = result->unsaved,
        .queued_ns = result->queued_ns,
        .prompt_ns = result->prompt_ns,
        .first_token_ns = result->first_token_ns,
        .answer_ns = result->answer_ns,
        .decode_tokens = result->decode_tokens,
        .drafted = result->drafted,
        .accepted = result->accepted,
    };
    worker->sums.prompt_tokens += result->prompt_tokens - result->cached_tokens;
    worker->sums.cached_tokens += result->cached_tokens;
    worker->sums.answer_tokens += result->answer_tokens;
    worker_send(worker, work_put_end(&worker->message, asking->job.number, &end));
}

static bool is_answer(const struct hearth_result *result)
{
    bool ended = result->stop != HEARTH_STOP_ERROR && result->stop != HEARTH_STOP_CANCELLED;
    return ended || result->text_size > 0;
}

static void on_end(void *context, const struct hearth_result *result)
{
    struct asking *asking = context;
    struct worker *worker = asking->worker;
    jobs_set_request(&worker->jobs, &asking->job, 0, NULL);
    if (asking->named > 0)
        send_text(asking, TEXT(""));
    if (asking->visitor) {
        visitors_give(worker->visitors, asking->visitor,
                      (struct text){result->text, result->text_size});
    } else {
        /* an error may leave its text aside */
        if (!is_answer(result) || hearth_session_count(asking->session) <= asking->asked)
            take_back(asking);
        hearth_session_close(asking->session);
    }
    send_end(asking, result);
    jobs_remove(&worker->jobs, &asking->job);
    asking_free(asking);
}

/* ---- its beginning ---- */

static int copy_stops(struct asking *asking, const struct work_ask *ask, struct hearth_error *err)
{
    for (uint32_t i = 0; i < ask->stop_count; i++) {
        int status = worker_copy_string(ask->stops[i], "a stop string", &asking->stops[i], err);
        if (status)
            return status;
        asking->stop_count++;
    }
    return 0;
}

static int say(struct asking *asking, const struct work_ask *ask, struct hearth_error *err)
{
    struct hearth_session_settings settings = {.keep = HEARTH_KEEP_DEFAULT};
    struct hearth_session_info info;
    if (ask->settings_given)
        settings = ask->settings;
    json_t *messages = worker_parse(ask->messages, "messages", err);
    int status = messages ? 0 : HEARTH_E_FORMAT;
    if (messages && !json_is_array(messages))
        status = error_set(err, HEARTH_E_FORMAT, "the messages are no array");
    else if (!status && asking->key[0])
        status = say_keyed(asking, ask, messages, err);
    else if (!status)
        status =
            visitors_take(asking->worker->visitors, &settings, messages, &asking->visitor, err);
    json_decref(messages);
    if (status)
        return status;
    if (asking->visitor)
        asking->session = visitor_session(asking->visitor);
    hearth_session_info(asking->session, &info);
    asking->plain = info.settings.plain || !asking->worker->has_template;
    asking->asked = info.messages;
    return 0;
}

static int ask_session(struct asking *asking, const struct work_ask *ask, uint64_t arrived_ns,
                       struct hearth_error *err)
{
    char *variables = NULL;
    struct hearth_request *request;
    int status =
        ask->variables.size
            ? worker_copy_string(ask->variables, "the template's variables", &variables, err)
            : 0;
    const struct hearth_ask what = {
        .sampling = &ask->sampling,
        .stop = (const char *const *)asking->stops,
        .stop_count = asking->stop_count,
        .max_tokens = ask->max_tokens,
        .variables = variables,
        .no_speculation = ask->no_speculation,
        .ignore_end = ask->ignore_end,
        .logprobs = ask->logprobs,
        .top_tokens = ask->top_tokens,
        .background = ask->background,
        .deadline_ns = ask->timeout_ns && ask->timeout_ns < UINT64_MAX - arrived_ns
                           ? arrived_ns + ask->timeout_ns
                           : 0,
        .on_begin = on_begin,
        .on_token = on_token,
        .on_text = on_text,
        .on_progress = on_progress,
        .on_end = on_end,
        .context = asking,
    };
    if (!status)
        status = hearth_session_ask(asking->session, &what, &request, err);
    mem_free(variables);
    if (!status)
        jobs_set_request(&asking->worker->jobs, &asking->job, 0, request);
    return status;
}

/* Nothing was asked: the session is as it was. */
static void leave(struct asking *asking)
{
    if (asking->visitor) {
        visitors_give(asking->worker->visitors, asking->visitor, TEXT(""));
    } else if (asking->session) {
        take_back(asking);
        hearth_session_close(asking->session);
    }
}

static int start(struct asking *asking, const struct work_ask *ask, uint64_t arrived_ns,
                 struct hearth_error *err)
{
    int status = copy_stops(asking, ask, err);
    if (!status)
        status = say(asking, ask, err);
    if (!status)
        status = ask_session(asking, ask, arrived_ns, err);
    if (status)
        leave(asking);
    return status;
}

void asks_start(struct worker *worker, const struct letter *letter)
{
    uint64_t number = letter->message.request;
    struct hearth_error err = {0};
    struct work_ask ask;
    struct asking *asking = MEM_NEW(struct asking);
    if (!asking || !work_get_ask(&letter->message, &ask)) {
        if (asking)
            error_set(&err, HEARTH_E_FORMAT, "the request cannot be understood");
        else
            error_set(&err, HEARTH_E_MEMORY, "no memory for a request");
        mem_free(asking);
        asks_refuse(worker, number, &err);
        return;
    }
    asking->job.number = number;
    asking->worker = worker;
    asking->progress = ask.progress;
    asking->names_tokens = ask.logprobs || ask.token_ids;
    buffer_init(&asking->tokens, TOKENS_BYTES_MAX);
    if (ask.session.size)
        work_copy_key(ask.session, asking->key);
    if (!jobs_add(&worker->jobs, &asking->job))
        worker_die("two requests of one number");
    int status = start(asking, &ask, letter->arrived_ns, &err);
    work_ask_finish(&ask);
    if (status) {
        asks_refuse(worker, number, &err);
        jobs_remove(&worker->jobs, &asking->job);
        asking_free(asking);
    }
}
