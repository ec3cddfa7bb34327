/* A conversation computed by a daemon. One with a name is kept there, and only what is new is sent;
 * one without is kept here and sent whole, of which the daemon knows all but the end. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/client.h"
#include "cli/console.h"
#include "cli/dialogue.h"
#include "cli/interrupt.h"

#define TEXT_MAX ((size_t)1 << 30)

struct remote {
    struct dialogue dialogue;
    struct client *client;
    char *model, *key; /* key NULL: without a name */
    json_t *messages;
    size_t told; /* of them, those that the daemon has, where there is a name */
    int overflow;
};

static struct remote *remote_of(const struct dialogue *dialogue)
{
    return (struct remote *)dialogue; /* its first member */
}

static int no_memory(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MEMORY, "no memory for the conversation");
}

/* ---- the daemon's copy ---- */

/* A call about the conversation: METHOD /hearth/v1/sessions/KEY/what. `body` is taken. */
static int call(const struct remote *remote, const char *method, const char *what, json_t *body,
                json_t **reply, struct hearth_error *err)
{
    struct buffer path;
    buffer_init(&path, 4096);
    buffer_append_text(&path, TEXT("/hearth/v1/sessions/"));
    client_append_segment(&path, remote->key);
    buffer_append_text(&path, text_of(what));
    if (body)
        json_object_set_new(body, "model", json_string(remote->model));
    int status = path.failed ? no_memory(err)
                             : client_call(remote->client, method, path.data, body, reply, err);
    buffer_finish(&path);
    json_decref(body);
    return status;
}

static int fetch_messages(struct remote *remote, struct hearth_error *err)
{
    json_t *reply = NULL;
    struct hearth_error none = {0};
    int status = call(remote, "GET", "/history", NULL, &reply, &none);
    if (status == HEARTH_E_MISSING) /* it begins with the first message */
        status = 0;
    else if (status)
        return error_set(err, status, "%s", none.text);
    json_t *messages = json_object_get(reply, "messages");
    remote->messages = json_is_array(messages) ? json_incref(messages) : json_array();
    remote->told = json_array_size(remote->messages);
    json_decref(reply);
    return remote->messages ? 0 : no_memory(err);
}

/* ---- calls ---- */

static size_t count(const struct dialogue *dialogue)
{
    return json_array_size(remote_of(dialogue)->messages);
}

static json_t *messages(const struct dialogue *dialogue, struct hearth_error *err)
{
    json_t *copy = json_deep_copy(remote_of(dialogue)->messages);
    if (!copy)
        no_memory(err);
    return copy;
}

static int set_messages(struct dialogue *dialogue, const json_t *array, struct hearth_error *err)
{
    struct remote *remote = remote_of(dialogue);
    json_t *copy = json_deep_copy(array);
    int status = copy ? 0 : no_memory(err);
    if (!status && remote->key)
        status = call(remote, "PUT", "/messages", json_pack("{s:O}", "messages", copy), NULL, err);
    if (status) {
        json_decref(copy);
        return status;
    }
    json_decref(remote->messages);
    remote->messages = copy;
    remote->told = remote->key ? json_array_size(copy) : 0;
    return 0;
}

static int append(struct dialogue *dialogue, const json_t *message, struct hearth_error *err)
{
    json_t *copy = json_deep_copy(message);
    if (json_array_append_new(remote_of(dialogue)->messages, copy) != 0)
        return no_memory(err);
    return 0;
}

static int truncate_to(struct dialogue *dialogue, size_t size, struct hearth_error *err)
{
    struct remote *remote = remote_of(dialogue);
    if (remote->key && size < remote->told) {
        int status = call(remote, "POST", "/truncate",
                          json_pack("{s:I}", "count", (json_int_t)size), NULL, err);
        if (status)
            return status;
        remote->told = size;
    }
    while (json_array_size(remote->messages) > size)
        json_array_remove(remote->messages, json_array_size(remote->messages) - 1);
    return 0;
}

/* With a name it is forked; without one its messages become those of the name, which must be free.
 */
static int keep(struct dialogue *dialogue, const char *name, struct hearth_error *err)
{
    struct remote *remote = remote_of(dialogue);
    char *old = remote->key, *key = mem_string(name);
    json_t *reply = NULL;
    int status = key ? 0 : no_memory(err);
    if (!status && old) {
        status =
            call(remote, "POST", "/fork",
                 json_pack("{s:I, s:s}", "count", (json_int_t)remote->told, "to", name), NULL, err);
    } else if (!status) {
        remote->key = key;
        if (call(remote, "GET", "/history", NULL, &reply, err) == 0)
            status = error_set(err, HEARTH_E_STATE, "there is a conversation \"%s\" already", name);
        else
            status = call(remote, "PUT", "/messages",
                          json_pack("{s:O}", "messages", remote->messages), NULL, err);
        json_decref(reply);
    }
    remote->key = status ? old : key;
    mem_free(status ? key : old);
    if (!status)
        remote->told = json_array_size(remote->messages);
    return status;
}

static uint64_t number(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}

static int info(struct dialogue *dialogue, struct dialogue_info *out, struct hearth_error *err)
{
    const struct remote *remote = remote_of(dialogue);
    json_t *reply = NULL;
    *out = (struct dialogue_info){.messages = json_array_size(remote->messages)};
    if (!remote->key || remote->told == 0)
        return 0;
    int status = call(remote, "GET", "", NULL, &reply, err);
    if (status)
        return status;
    snprintf(out->key, sizeof out->key, "%s", remote->key);
    out->tokens = number(reply, "tokens");
    out->kv_bytes = number(reply, "kv_bytes");
    out->spill_bytes = number(reply, "spill_bytes");
    json_decref(reply);
    return 0;
}

static int save(struct dialogue *dialogue, struct hearth_error *err)
{
    (void)dialogue;
    return error_set(err, HEARTH_E_IO, "the daemon says that the disk did not take it");
}

static uint64_t idle(struct dialogue *dialogue)
{
    (void)dialogue;
    return HEARTH_IDLE_NEVER; /* the daemon cleans up */
}

static void say_timings(const struct dialogue *dialogue, const struct answer *its)
{
    (void)dialogue;
    answer_say_timings(its, 0);
}

static void close_remote(struct dialogue *dialogue)
{
    struct remote *remote = remote_of(dialogue);
    json_decref(remote->messages);
    mem_free(remote->model);
    mem_free(remote->key);
    mem_free(remote);
}

/* ---- an answer ---- */

struct listening {
    const struct answer_options *options;
    struct answer *answer;
    struct hearth_error error; /* that the daemon sent in the stream */
    struct progress progress;
    bool reading, complete;
};

static void read_progress(struct listening *listening, const json_t *progress)
{
    uint64_t total = number(progress, "total"), done = number(progress, "processed");
    if (total > 0 && listening->reading)
        progress_update(&listening->progress, (double)done / (double)total, NULL);
}

static void end_reading(struct listening *listening)
{
    if (listening->reading)
        progress_end(&listening->progress);
    listening->reading = false;
}

static void read_text(struct listening *listening, const json_t *text)
{
    struct text piece = {json_string_value(text), json_string_length(text)};
    if (piece.size == 0)
        return;
    end_reading(listening);
    buffer_append_text(&listening->answer->text, piece);
    if (!listening->options->quiet)
        console_show(piece);
}

static uint64_t ns_of_ms(const json_t *object, const char *name)
{
    double ms = json_number_value(json_object_get(object, name));
    return ms > 0 && ms < 1e12 ? (uint64_t)(ms * 1e6) : 0;
}

static enum hearth_miss miss_of(const char *name)
{
    for (int miss = HEARTH_MISS_NOTHING; miss <= HEARTH_MISS_DROPPED; miss++) {
        if (name && strcmp(name, answer_miss_name((enum hearth_miss)miss)) == 0)
            return (enum hearth_miss)miss;
    }
    return HEARTH_MISS_NOTHING;
}

static void read_timings(struct hearth_result *result, const json_t *timings)
{
    if (!timings)
        return;
    result->cached_tokens = number(timings, "cache_n");
    result->prompt_tokens = number(timings, "prompt_n") + result->cached_tokens;
    result->answer_tokens = number(timings, "predicted_n");
    result->decode_tokens = result->answer_tokens > 0 ? result->answer_tokens - 1 : 0;
    result->prompt_ns = ns_of_ms(timings, "prompt_ms");
    result->answer_ns = ns_of_ms(timings, "predicted_ms");
    result->first_token_ns = result->prompt_ns;
    result->queued_ns = ns_of_ms(timings, "queued_ms");
    result->drafted = number(timings, "draft_n");
    result->accepted = number(timings, "draft_n_accepted");
    result->miss = miss_of(json_string_value(json_object_get(timings, "cache_miss")));
}

static void read_ending(struct listening *listening, const json_t *choice)
{
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    struct hearth_result *result = &listening->answer->result;
    if (!reason)
        return;
    const char *exact = json_string_value(json_object_get(choice, "stop_type"));
    listening->complete = true;
    result->stop = exact && strcmp(exact, "context") == 0 ? HEARTH_STOP_CONTEXT
                   : strcmp(reason, "length") == 0        ? HEARTH_STOP_LENGTH
                   : exact && strcmp(exact, "word") == 0  ? HEARTH_STOP_STRING
                                                          : HEARTH_STOP_END;
    if (result->stop == HEARTH_STOP_CONTEXT)
        error_set(&result->error, HEARTH_E_LIMIT, "the context is full");
}

static bool on_event(void *context, const char *name, const json_t *data)
{
    struct listening *listening = context;
    const json_t *error = json_object_get(data, "error");
    const json_t *choice = json_array_get(json_object_get(data, "choices"), 0);
    (void)name;
    if (error) {
        const char *sentence = json_string_value(json_object_get(error, "message"));
        error_set(&listening->error, HEARTH_E_IO, "%s", sentence ? sentence : "the daemon failed");
    }
    read_progress(listening, json_object_get(data, "prompt_progress"));
    if (choice) {
        const json_t *delta = json_object_get(choice, "delta");
        read_text(listening, json_object_get(delta, "reasoning_content"));
        read_text(listening, json_object_get(delta, "content"));
        read_ending(listening, choice);
    }
    read_timings(&listening->answer->result, json_object_get(data, "timings"));
    return !interrupt_came();
}

static json_t *texts(const char *const *items, size_t size)
{
    json_t *array = json_array();
    for (size_t i = 0; i < size; i++)
        json_array_append_new(array, json_string(items[i]));
    return array;
}

static void put_real(json_t *body, const char *name, double value)
{
    json_object_set_new(body, name, json_real(value));
}

static void put_int(json_t *body, const char *name, int64_t value)
{
    json_object_set_new(body, name, json_integer(value));
}

static void put_sampling(json_t *body, const struct hearth_sampling *s)
{
    put_int(body, "seed", (int64_t)s->seed);
    put_real(body, "temperature", (double)s->temperature);
    put_int(body, "top_k", s->top_k);
    put_real(body, "top_p", (double)s->top_p);
    put_real(body, "min_p", (double)s->min_p);
    put_real(body, "typical_p", (double)s->typical_p);
    put_real(body, "top_n_sigma", (double)s->top_n_sigma);
    put_real(body, "xtc_probability", (double)s->xtc_probability);
    put_real(body, "xtc_threshold", (double)s->xtc_threshold);
    put_real(body, "dry_multiplier", (double)s->dry_multiplier);
    put_real(body, "dry_base", (double)s->dry_base);
    put_int(body, "dry_allowed_length", s->dry_allowed_length);
    put_int(body, "dry_penalty_last_n", s->dry_penalty_last_n);
    put_int(body, "repeat_last_n", s->penalty_last_n);
    put_real(body, "repeat_penalty", (double)s->repeat_penalty);
    put_real(body, "frequency_penalty", (double)s->frequency_penalty);
    put_real(body, "presence_penalty", (double)s->presence_penalty);
    put_int(body, "mirostat", s->mirostat);
    put_real(body, "mirostat_tau", (double)s->mirostat_tau);
    put_real(body, "mirostat_eta", (double)s->mirostat_eta);
    put_int(body, "min_keep", s->min_keep);
    if (s->dry_breakers)
        json_object_set_new(body, "dry_sequence_breakers",
                            texts(s->dry_breakers, s->dry_breaker_count));
}

static json_t *request_body(const struct remote *remote, const struct answer_options *options)
{
    json_t *body = json_pack("{s:s, s:b, s:b, s:{s:b}}", "model", remote->model, "stream", true,
                             "return_progress", true, "stream_options", "include_usage", true);
    json_t *sent = json_array();
    for (size_t i = remote->key ? remote->told : 0; i < json_array_size(remote->messages); i++)
        json_array_append(sent, json_array_get(remote->messages, i));
    json_object_set_new(body, "messages", sent);
    if (remote->key)
        json_object_set_new(body, "session", json_string(remote->key));
    if (options->max_tokens)
        put_int(body, "max_tokens", options->max_tokens);
    if (options->stop_count)
        json_object_set_new(body, "stop", texts(options->stop, options->stop_count));
    if (options->sampling)
        put_sampling(body, options->sampling);
    return body;
}

/* What was said is kept; the daemon has done the same with a conversation that has a name. */
static int keep_answer(struct remote *remote, const struct answer *its, struct hearth_error *err)
{
    json_t *message = json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                its->text.data ? its->text.data : "", its->text.size);
    if (json_array_append_new(remote->messages, message) != 0)
        return no_memory(err);
    remote->told = json_array_size(remote->messages);
    return 0;
}

static int conclude(struct remote *remote, struct listening *listening, int status,
                    struct hearth_error *err)
{
    struct answer *its = listening->answer;
    if (!status && listening->error.text[0])
        status = error_set(err, listening->error.code, "%s", listening->error.text);
    if (status == HEARTH_E_CANCELLED || interrupt_came()) {
        its->result.stop = HEARTH_STOP_CANCELLED;
        its->result.answer_tokens = its->text.size > 0;
        status = 0;
    } else if (!status && !listening->complete) {
        status = error_set(err, HEARTH_E_IO, "the daemon ended before the answer did");
    }
    bool said = !status && (listening->complete || its->text.size > 0);
    if (said)
        status = keep_answer(remote, its, err);
    its->result.text = its->text.data ? its->text.data : "";
    its->result.text_size = its->text.size;
    return status;
}

static int answer(struct dialogue *dialogue, const struct answer_options *options,
                  struct answer *out, struct hearth_error *err)
{
    struct remote *remote = remote_of(dialogue);
    struct listening listening = {.options = options, .answer = out, .reading = true};
    json_t *body = request_body(remote, options);
    *out = (struct answer){0};
    buffer_init(&out->text, TEXT_MAX);
    progress_begin(&listening.progress, "reading the prompt");
    interrupt_remember();
    int status = client_stream(remote->client, "POST", "/v1/chat/completions", body, on_event,
                               &listening, err);
    json_decref(body);
    end_reading(&listening);
    status = conclude(remote, &listening, status, err);
    interrupt_leave();
    if (status)
        answer_finish(out);
    return status;
}

static const struct dialogue_calls calls = {
    .count = count,
    .messages = messages,
    .set_messages = set_messages,
    .append = append,
    .truncate = truncate_to,
    .keep = keep,
    .info = info,
    .answer = answer,
    .save = save,
    .idle = idle,
    .say_timings = say_timings,
    .close = close_remote,
};

int dialogue_daemon_open(const struct dialogue_daemon_options *options, struct dialogue **out,
                         struct hearth_error *err)
{
    struct remote *remote = mem_zalloc_array(1, sizeof *remote);
    if (!remote)
        return no_memory(err);
    remote->dialogue = (struct dialogue){.calls = &calls, .has_store = options->has_store};
    remote->client = options->client;
    remote->model = mem_string(options->model);
    remote->key = options->key ? mem_string(options->key) : NULL;
    remote->overflow = options->overflow;
    int status = remote->model && (remote->key || !options->key) ? 0 : no_memory(err);
    if (!status && remote->key)
        status = fetch_messages(remote, err);
    else if (!status && !(remote->messages = json_array()))
        status = no_memory(err);
    if (status)
        close_remote(&remote->dialogue);
    else
        *out = &remote->dialogue;
    return status;
}

/* ---- which model is meant ---- */

static bool is_meant(const json_t *model, const char *word, const struct os_file_id *file)
{
    const char *name = json_string_value(json_object_get(model, "name"));
    const json_t *its = json_object_get(model, "file");
    if (file)
        return (uint64_t)json_integer_value(json_object_get(its, "device")) == file->device &&
               (uint64_t)json_integer_value(json_object_get(its, "inode")) == file->inode;
    return name && strcmp(name, word) == 0;
}

char *dialogue_daemon_model(struct client *client, const char *word)
{
    struct os_entry entry;
    int fd = -1;
    json_t *reply = NULL;
    char *name = NULL;
    bool file = os_open_path(word, &fd, NULL) == 0 && os_file_entry(fd, &entry) &&
                entry.kind == OS_ENTRY_FILE;
    if (fd >= 0)
        os_file_close(fd);
    if (client_call(client, "GET", "/hearth/v1/models", NULL, &reply, NULL))
        return NULL;
    const json_t *models = json_object_get(reply, "models");
    for (size_t i = 0; i < json_array_size(models) && !name; i++) {
        const json_t *model = json_array_get(models, i);
        if (is_meant(model, word, file ? &entry.id : NULL))
            name = mem_string(json_string_value(json_object_get(model, "name")));
    }
    json_decref(reply);
    return name;
}

bool dialogue_daemon_is_plain(struct client *client, const char *model)
{
    struct buffer path;
    json_t *reply = NULL;
    buffer_init(&path, 8192);
    buffer_append_text(&path, TEXT("/hearth/v1/models/"));
    if (client_append_segment(&path, model))
        client_call(client, "GET", path.data, NULL, &reply, NULL);
    bool plain = json_is_null(json_object_get(json_object_get(reply, "about"), "chat_template"));
    buffer_finish(&path);
    json_decref(reply);
    return plain;
}
