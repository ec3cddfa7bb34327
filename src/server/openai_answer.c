/* Answers in OpenAI's words, whole or as a stream of chunks. */
#include <string.h>
#include <time.h>

#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/lmstudio.h"
#include "server/openai.h"

#define CHUNK_MAX ((size_t)16 << 20)
#define MODEL_NAME_MAX 256

/* A stream begins with its first event, so that what fails before has a status of its own; but
 * after so long in any case, so that comments keep the connection alive while a model is loaded or
 * others are answered. */
#define PATIENCE_SECONDS 5

struct openai_choice {
    bool role_told;
    json_t *tokens; /* with their probabilities; of a stream those that were not told */
    size_t text_offset;
    bool last_shown;     /* the last token is part of the text */
    struct work_end end; /* its texts are gone */
};

struct openai_answer {
    struct http_exchange *exchange;
    struct generation *generation;
    struct event *patience;
    struct openai_answer_options options;
    struct model *figures_of; /* for LM Studio's /api/v0/, which adds figures; NULL: not asked so */
    char id[64], model[MODEL_NAME_MAX], session[WORK_KEY_SIZE];
    json_int_t created;
    uint64_t cached_tokens, prompt_begun_ns;
    bool begun, failed; /* a stream; it could not be written as it should */
    uint32_t count;
    struct openai_choice choices[];
};

static void destroy(struct openai_answer *answer)
{
    if (answer->patience)
        event_free(answer->patience);
    for (uint32_t i = 0; i < answer->count; i++)
        json_decref(answer->choices[i].tokens);
    mem_free(answer);
}

/* ---- objects ---- */

/* What every body and chunk begins with; `choices` is taken. */
static json_t *envelope(const struct openai_answer *answer, json_t *choices)
{
    const char *object = !answer->options.chat    ? "text_completion"
                         : answer->options.stream ? "chat.completion.chunk"
                                                  : "chat.completion";
    json_t *body = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o}", "id", answer->id, "object", object,
                             "created", answer->created, "model", answer->model,
                             "system_fingerprint", "hearth-" HEARTH_VERSION, "choices", choices);
    if (body && answer->session[0])
        json_object_set_new(body, "session", json_string(answer->session));
    return body;
}

/* The first `count` probabilities that were not told, as they stand in a choice; null where none
 * were asked for. */
static json_t *take_logprobs(struct openai_answer *answer, struct openai_choice *choice,
                             size_t count)
{
    json_t *tokens, *rest;
    if (!answer->options.logprobs || !choice->tokens)
        return json_null();
    tokens = json_array();
    rest = json_array();
    for (size_t i = 0; i < json_array_size(choice->tokens); i++)
        json_array_append(i < count ? tokens : rest, json_array_get(choice->tokens, i));
    json_decref(choice->tokens);
    choice->tokens = rest;
    return answer->options.chat ? openai_chat_logprobs(tokens)
                                : openai_completion_logprobs(tokens, &choice->text_offset);
}

static void set_nonempty(json_t *object, const char *name, struct text text)
{
    if (text.size > 0)
        json_object_set_new(object, name, openai_text(text));
}

/* ---- streams ---- */

static void begin_stream(struct openai_answer *answer)
{
    if (answer->begun || !answer->options.stream)
        return;
    answer->begun = true;
    http_stream_begin_events(answer->exchange);
}

static void on_patience(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    begin_stream(context);
}

/* `chunk` is taken. */
static void send_chunk(struct openai_answer *answer, json_t *chunk)
{
    struct buffer text;
    buffer_init(&text, CHUNK_MAX);
    generation_write_json(&text, chunk);
    json_decref(chunk);
    begin_stream(answer);
    if (text.failed)
        answer->failed = true;
    else
        generation_wrote(answer->generation,
                         http_stream_event(answer->exchange, NULL, buffer_text(&text)));
    buffer_finish(&text);
}

/* A chunk of one choice; `delta` (of a completion: its text) and `logprobs` are taken. */
static json_t *chunk_of(const struct openai_answer *answer, uint32_t index, json_t *delta,
                        json_t *logprobs, const char *finish_reason)
{
    json_t *choice = json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)index,
                               answer->options.chat ? "delta" : "text", delta, "logprobs",
                               logprobs ? logprobs : json_null(), "finish_reason", finish_reason);
    json_t *chunk = envelope(answer, json_pack("[o]", choice));
    if (chunk && answer->options.include_usage)
        json_object_set_new(chunk, "usage", json_null());
    return chunk;
}

static void tell_role(struct openai_answer *answer, uint32_t index)
{
    if (answer->choices[index].role_told || !answer->options.chat)
        return;
    answer->choices[index].role_told = true;
    send_chunk(answer,
               chunk_of(answer, index, json_pack("{s:s, s:s}", "role", "assistant", "content", ""),
                        NULL, NULL));
}

static bool ends_with(struct text text, struct text end)
{
    return text.size >= end.size && end.size > 0 &&
           memcmp(text.data + text.size - end.size, end.data, end.size) == 0;
}

/* While the bytes of the last token are not in the text it waits: the text may come later, or it is
 * the token that ends the answer, which is no part of it. */
static void keep_tokens(struct openai_answer *answer, const struct generation_piece *piece)
{
    struct openai_choice *choice = &answer->choices[piece->choice];
    if (!choice->tokens)
        choice->tokens = json_array();
    for (uint32_t i = 0; i < piece->token_count; i++)
        json_array_append_new(choice->tokens, openai_logprob(&piece->tokens[i]));
    if (piece->token_count == 0)
        return;
    struct text last = piece->tokens[piece->token_count - 1].token.bytes;
    choice->last_shown = ends_with(generation_text(answer->generation, piece->choice), last) ||
                         ends_with(generation_reasoning(answer->generation, piece->choice), last);
}

static void stream_piece(struct openai_answer *answer, const struct generation_piece *piece)
{
    struct openai_choice *choice = &answer->choices[piece->choice];
    json_t *delta;
    tell_role(answer, piece->choice);
    if (piece->reasoning.size > 0) {
        json_t *thought = openai_text(piece->reasoning);
        delta = json_pack("{s:O, s:o}", "reasoning_content", thought, "reasoning", thought);
        send_chunk(answer, chunk_of(answer, piece->choice, delta, NULL, NULL));
    }
    size_t count = json_array_size(choice->tokens);
    if (count > 0 && !choice->last_shown)
        count--;
    if (piece->text.size == 0 && (!answer->options.logprobs || count == 0))
        return;
    delta = openai_text(piece->text);
    if (answer->options.chat)
        delta = json_pack("{s:o}", "content", delta);
    send_chunk(answer,
               chunk_of(answer, piece->choice, delta, take_logprobs(answer, choice, count), NULL));
}

/* ---- what is called back ---- */

static void on_begin(void *context, uint32_t choice, const struct work_begin *begin)
{
    struct openai_answer *answer = context;
    if (choice == 0)
        answer->cached_tokens = begin->cached_tokens;
    begin_stream(answer);
}

static void on_reading(void *context, uint32_t choice, uint64_t done, uint64_t total)
{
    struct openai_answer *answer = context;
    uint64_t now = os_monotonic_ns();
    if (!answer->options.progress || !answer->options.stream)
        return;
    if (answer->prompt_begun_ns == 0)
        answer->prompt_begun_ns = now;
    json_t *chunk = chunk_of(answer, choice, answer->options.chat ? json_object() : json_string(""),
                             NULL, NULL);
    json_t *progress = json_pack("{s:I, s:I, s:I, s:f}", "total", (json_int_t)total, "cache",
                                 (json_int_t)answer->cached_tokens, "processed", (json_int_t)done,
                                 "time_ms", (double)(now - answer->prompt_begun_ns) / 1e6);
    if (chunk)
        json_object_set_new(chunk, "prompt_progress", progress);
    send_chunk(answer, chunk);
}

static void on_piece(void *context, const struct generation_piece *piece)
{
    struct openai_answer *answer = context;
    if (answer->options.logprobs)
        keep_tokens(answer, piece);
    if (answer->options.stream)
        stream_piece(answer, piece);
}

static void on_choice_end(void *context, uint32_t index, const struct work_end *end)
{
    struct openai_answer *answer = context;
    struct openai_choice *choice = &answer->choices[index];
    size_t count = json_array_size(choice->tokens);
    choice->end = *end;
    if (end->stop == HEARTH_STOP_END && count > 0 && !choice->last_shown)
        json_array_remove(choice->tokens, --count);
    if (!answer->options.stream)
        return;
    tell_role(answer, index);
    json_t *chunk = chunk_of(answer, index, answer->options.chat ? json_object() : json_string(""),
                             count > 0 ? take_logprobs(answer, choice, count) : NULL,
                             generation_stop_name((enum hearth_stop)end->stop));
    if (chunk && !answer->options.include_usage)
        json_object_set_new(chunk, "timings", generation_timings(end));
    if (chunk && answer->figures_of)
        lmstudio_v0_put_stats(chunk, answer->figures_of, end);
    send_chunk(answer, chunk);
}

static json_t *whole_choice(struct openai_answer *answer, uint32_t index)
{
    struct openai_choice *choice = &answer->choices[index];
    struct text text = generation_text(answer->generation, index);
    struct text thought = generation_reasoning(answer->generation, index);
    const char *reason = generation_stop_name((enum hearth_stop)choice->end.stop);
    json_t *logprobs = take_logprobs(answer, choice, json_array_size(choice->tokens));
    if (!answer->options.chat)
        return json_pack("{s:i, s:o, s:o, s:s}", "index", (int)index, "text", openai_text(text),
                         "logprobs", logprobs, "finish_reason", reason);
    json_t *message =
        json_pack("{s:s, s:o, s:n}", "role", "assistant", "content", openai_text(text), "refusal");
    set_nonempty(message, "reasoning_content", thought);
    set_nonempty(message, "reasoning", thought);
    return json_pack("{s:i, s:o, s:o, s:s}", "index", (int)index, "message", message, "logprobs",
                     logprobs, "finish_reason", reason);
}

static void respond_whole(struct openai_answer *answer, const struct generation_totals *totals)
{
    json_t *choices = json_array();
    for (uint32_t i = 0; i < answer->count; i++)
        json_array_append_new(choices, whole_choice(answer, i));
    json_t *body = envelope(answer, choices);
    json_object_set_new(body, "usage", generation_usage(totals));
    json_object_set_new(body, "timings", generation_timings(&answer->choices[0].end));
    if (answer->figures_of)
        lmstudio_v0_put_stats(body, answer->figures_of, &answer->choices[0].end);
    dialect_respond_json(answer->exchange, 200, body);
}

static void end_stream(struct openai_answer *answer, const struct generation_totals *totals)
{
    if (answer->options.include_usage) {
        json_t *chunk = envelope(answer, json_array());
        json_object_set_new(chunk, "usage", generation_usage(totals));
        json_object_set_new(chunk, "timings", generation_timings(&answer->choices[0].end));
        send_chunk(answer, chunk);
    }
    if (answer->failed) {
        http_stream_abort(answer->exchange);
        return;
    }
    http_stream_event(answer->exchange, NULL, TEXT("[DONE]"));
    http_stream_end(answer->exchange);
}

/* Clients throw what a chunk has as `error`, and read nothing behind it. */
static void end_with_error(struct openai_answer *answer, const struct refusal *error)
{
    struct text path = http_exchange_request(answer->exchange)->path;
    if (!answer->begun) {
        dialect_refuse(answer->exchange, error);
        return;
    }
    send_chunk(answer, dialect_error_of(path, error));
    http_stream_end(answer->exchange);
}

static void on_end(void *context, const struct generation *generation, const struct refusal *error)
{
    struct openai_answer *answer = context;
    struct generation_totals totals;
    generation_totals(generation, &totals);
    if (error)
        end_with_error(answer, error);
    else if (answer->options.stream)
        end_stream(answer, &totals);
    else
        respond_whole(answer, &totals);
    destroy(answer);
}

static void on_gone(void *context)
{
    destroy(context);
}

/* ---- the beginning ---- */

static struct openai_answer *create(struct daemon *daemon, struct http_exchange *exchange,
                                    const struct generation_request *request,
                                    const struct openai_answer_options *options)
{
    uint32_t count = request->choices * (request->prompts ? request->prompt_count : 1);
    struct openai_answer *answer =
        mem_zalloc_array(1, sizeof *answer + count * sizeof *answer->choices);
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    struct model_info info;
    if (!answer)
        return NULL;
    answer->exchange = exchange;
    answer->options = *options;
    answer->count = count;
    answer->created = (json_int_t)time(NULL);
    if (text_starts_with(http_exchange_request(exchange)->path, TEXT("/api/v0/")))
        answer->figures_of = request->model;
    model_info(request->model, &info);
    snprintf(answer->model, sizeof answer->model, "%s", info.name);
    if (request->ask.session.size > 0)
        work_copy_key(request->ask.session, answer->session);
    generation_id(options->chat ? "chatcmpl-" : "cmpl-", answer->id);
    if (!options->stream)
        return answer;
    answer->patience = evtimer_new(daemon->base, on_patience, answer);
    if (answer->patience && event_add(answer->patience, &patience) == 0)
        return answer;
    destroy(answer);
    return NULL;
}

void openai_answer_start(struct daemon *daemon, struct http_exchange *exchange,
                         struct generation_request *request,
                         const struct openai_answer_options *options)
{
    struct openai_answer *answer = create(daemon, exchange, request, options);
    struct generation_listener listener = {
        .on_begin = on_begin,
        .on_reading = on_reading,
        .on_piece = on_piece,
        .on_choice_end = on_choice_end,
        .on_end = on_end,
        .on_gone = on_gone,
        .context = answer,
    };
    if (!answer) {
        http_respond_error(exchange, 507, "no memory for the answer");
        return;
    }
    request->whole = !options->stream;
    request->tokens = options->logprobs;
    request->ask.logprobs = options->logprobs;
    request->ask.progress = options->progress;
    struct generation *generation = generation_start(daemon, exchange, request, &listener);
    if (generation) /* else the answer is gone already */
        answer->generation = generation;
}
