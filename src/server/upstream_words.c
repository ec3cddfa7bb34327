#include "server/upstream_words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "server/generation.h"

#define BIAS_NAME_BYTES 16

static int no_memory(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MEMORY, "no memory for a request to another server");
}

static struct text text_of_json(const json_t *value)
{
    const char *data = json_string_value(value);
    return (struct text){data ? data : "", data ? json_string_length(value) : 0};
}

/* ---- requests ---- */

/* The shortest number that is this float: 0.7 and not 0.69999998807907104. */
static double decimal(float value)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return strtod(text, NULL);
}

/* Those of llama.cpp's names that other servers know are theirs too; each only where it is not the
 * default, so that servers which refuse fields they do not know are asked for what was asked for.
 */
static bool put_sampling(json_t *body, const struct hearth_sampling *sampling)
{
    const struct hearth_sampling *otherwise = &generation_sampling_default;
    bool good = true;
#define PUT_REAL(name, member)                                                                     \
    if (sampling->member != otherwise->member)                                                     \
        good = json_object_set_new(body, name, json_real(decimal(sampling->member))) == 0 && good;
#define PUT_WHOLE(name, member)                                                                    \
    if (sampling->member != otherwise->member)                                                     \
        good = json_object_set_new(body, name, json_integer((json_int_t)sampling->member)) == 0 && \
               good;
    PUT_REAL("temperature", temperature)
    PUT_REAL("top_p", top_p)
    PUT_REAL("presence_penalty", presence_penalty)
    PUT_REAL("frequency_penalty", frequency_penalty)
    PUT_WHOLE("top_k", top_k)
    PUT_REAL("min_p", min_p)
    PUT_REAL("typical_p", typical_p)
    PUT_REAL("top_n_sigma", top_n_sigma)
    PUT_REAL("repeat_penalty", repeat_penalty)
    PUT_WHOLE("repeat_last_n", penalty_last_n)
    PUT_REAL("xtc_probability", xtc_probability)
    PUT_REAL("xtc_threshold", xtc_threshold)
    PUT_REAL("dry_multiplier", dry_multiplier)
    PUT_REAL("dry_base", dry_base)
    PUT_WHOLE("dry_allowed_length", dry_allowed_length)
    PUT_WHOLE("dry_penalty_last_n", dry_penalty_last_n)
    PUT_WHOLE("mirostat", mirostat)
    PUT_REAL("mirostat_tau", mirostat_tau)
    PUT_REAL("mirostat_eta", mirostat_eta)
#undef PUT_REAL
#undef PUT_WHOLE
    return json_object_set_new(body, "seed",
                               json_integer((json_int_t)(sampling->seed & INT64_MAX))) == 0 &&
           good;
}

static bool put_lists(json_t *body, const struct work_ask *ask)
{
    const struct hearth_sampling *sampling = &ask->sampling;
    json_t *stops = json_array(), *bias = json_object(), *breakers = json_array();
    bool good = stops && bias && breakers;
    for (uint32_t i = 0; good && i < ask->stop_count; i++)
        good =
            json_array_append_new(stops, json_stringn(ask->stops[i].data, ask->stops[i].size)) == 0;
    for (size_t i = 0; good && i < sampling->bias_count; i++) {
        char name[BIAS_NAME_BYTES];
        snprintf(name, sizeof name, "%u", sampling->bias[i].id);
        /* JSON has no infinity: -100 is what the API has for "never" */
        double value = isinf(sampling->bias[i].bias) ? -100 : (double)sampling->bias[i].bias;
        good = json_object_set_new(bias, name, json_real(value)) == 0;
    }
    for (size_t i = 0; good && i < sampling->dry_breaker_count; i++)
        good = json_array_append_new(breakers, json_string(sampling->dry_breakers[i])) == 0;
    if (good && ask->stop_count > 0)
        good = json_object_set(body, "stop", stops) == 0;
    if (good && sampling->bias_count > 0)
        good = json_object_set(body, "logit_bias", bias) == 0;
    if (good && sampling->dry_breakers)
        good = json_object_set(body, "dry_sequence_breakers", breakers) == 0;
    json_decref(stops);
    json_decref(bias);
    json_decref(breakers);
    return good;
}

/* The texts of messages, one behind the other. */
static json_t *prompt_of(const json_t *messages)
{
    struct buffer prompt;
    json_t *message;
    size_t i;
    buffer_init(&prompt, WORK_PAYLOAD_MAX);
    json_array_foreach(messages, i, message)
        buffer_append_text(&prompt, text_of_json(json_object_get(message, "content")));
    json_t *text = prompt.failed ? NULL : json_stringn(prompt.data ? prompt.data : "", prompt.size);
    buffer_finish(&prompt);
    return text;
}

static bool put_variables(json_t *body, struct text text)
{
    json_t *variables = text.size ? json_loadb(text.data, text.size, JSON_ALLOW_NUL, NULL) : NULL;
    bool good = json_object_size(variables) == 0 ||
                json_object_set(body, "chat_template_kwargs", variables) == 0;
    json_decref(variables);
    return good;
}

static bool put_ask(json_t *body, const struct work_ask *ask, const char *model, bool plain,
                    json_t *messages)
{
    bool good =
        json_object_set_new(body, "model", json_string(model)) == 0 &&
        json_object_set_new(body, "stream", json_true()) == 0 &&
        json_object_set_new(body, "stream_options", json_pack("{s:b}", "include_usage", 1)) == 0 &&
        (plain ? json_object_set_new(body, "prompt", prompt_of(messages))
               : json_object_set(body, "messages", messages)) == 0 &&
        put_sampling(body, &ask->sampling) && put_lists(body, ask) &&
        (plain || put_variables(body, ask->variables));
    if (good && ask->max_tokens)
        good = json_object_set_new(body, "max_tokens", json_integer(ask->max_tokens)) == 0;
    if (good && ask->ignore_end)
        good = json_object_set_new(body, "ignore_eos", json_true()) == 0;
    if (good && ask->logprobs)
        good = json_object_set_new(body, "logprobs", json_true()) == 0 &&
               json_object_set_new(body, "top_logprobs", json_integer(ask->top_tokens)) == 0;
    return good;
}

int upstream_words_ask(const struct work_ask *ask, const char *model, char **body,
                       const char **path, struct hearth_error *err)
{
    bool plain = ask->settings_given && ask->settings.plain;
    if (ask->session.size > 0)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "conversations are kept with models of this machine only: send all "
                         "messages, and no session");
    if (plain && ask->logprobs)
        return error_set(
            err, HEARTH_E_UNSUPPORTED,
            "log probabilities of a plain completion cannot be had from another server");
    json_t *messages = json_loadb(ask->messages.data ? ask->messages.data : "", ask->messages.size,
                                  JSON_ALLOW_NUL, NULL);
    json_t *object = json_object();
    bool good = json_is_array(messages) && object && put_ask(object, ask, model, plain, messages);
    char *text = good ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(messages);
    json_decref(object);
    if (!text)
        return no_memory(err);
    *body = text;
    *path = plain ? "/completions" : "/chat/completions";
    return 0;
}

int upstream_words_embed(const struct work_embed *embed, const char *model, char **body,
                         struct hearth_error *err)
{
    json_t *inputs = json_loadb(embed->inputs.data ? embed->inputs.data : "", embed->inputs.size,
                                JSON_ALLOW_NUL, NULL);
    json_t *object = inputs ? json_pack("{s:s, s:O, s:s}", "model", model, "input", inputs,
                                        "encoding_format", "float")
                            : NULL;
    char *text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(inputs);
    json_decref(object);
    if (!text)
        return no_memory(err);
    *body = text;
    return 0;
}

/* ---- answers ---- */

static uint64_t count_of(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}

static void read_usage(const json_t *object, struct upstream_piece *piece)
{
    const json_t *usage = json_object_get(object, "usage");
    if (!json_is_object(usage))
        return;
    piece->counted = true;
    piece->prompt_tokens = count_of(usage, "prompt_tokens");
    piece->answer_tokens = count_of(usage, "completion_tokens");
    piece->cached_tokens =
        count_of(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
    if (piece->cached_tokens > piece->prompt_tokens)
        piece->cached_tokens = piece->prompt_tokens;
}

static void read_finish(const json_t *choice, struct upstream_piece *piece)
{
    struct text reason = text_of_json(json_object_get(choice, "finish_reason"));
    if (reason.size == 0)
        return;
    piece->finished = true;
    piece->stop = text_equal(reason, TEXT("length")) ? HEARTH_STOP_LENGTH : HEARTH_STOP_END;
    /* vLLM names the stop string, others do not tell it from an end */
    piece->stop_string = text_of_json(json_object_get(choice, "stop_reason"));
    if (piece->stop == HEARTH_STOP_END && piece->stop_string.size > 0)
        piece->stop = HEARTH_STOP_STRING;
}

bool upstream_words_read(const json_t *object, struct upstream_piece *piece)
{
    const json_t *choices = json_object_get(object, "choices");
    const json_t *choice = json_array_get(choices, 0);
    *piece = (struct upstream_piece){{"", 0}, {"", 0}, NULL, .stop_string = {"", 0}};
    if (!json_is_array(choices))
        return false;
    read_usage(object, piece);
    if (!json_is_object(choice))
        return true;
    const json_t *said = json_object_get(choice, "delta");
    if (!said)
        said = json_object_get(choice, "message");
    piece->text = text_of_json(json_object_get(said ? said : choice, said ? "content" : "text"));
    piece->reasoning = text_of_json(json_object_get(said, "reasoning_content"));
    if (piece->reasoning.size == 0)
        piece->reasoning = text_of_json(json_object_get(said, "reasoning"));
    const json_t *logprobs = json_object_get(json_object_get(choice, "logprobs"), "content");
    piece->logprobs = json_array_size(logprobs) > 0 ? logprobs : NULL;
    read_finish(choice, piece);
    return true;
}

/* Bytes of a few tokens that are no characters. */
struct token_bytes {
    char at[4096];
    size_t size;
};

static struct work_token token_of(const json_t *object, struct token_bytes *bytes)
{
    const json_t *list = json_object_get(object, "bytes"), *byte;
    const json_t *logprob = json_object_get(object, "logprob");
    struct work_token token = {0, json_is_number(logprob) ? json_number_value(logprob) : -9999.0,
                               text_of_json(json_object_get(object, "token"))};
    size_t count = json_array_size(list), i;
    if (count == 0 || count > sizeof bytes->at - bytes->size)
        return token;
    token.bytes = (struct text){bytes->at + bytes->size, count};
    json_array_foreach(list, i, byte) bytes->at[bytes->size++] =
        (char)(unsigned char)json_integer_value(byte);
    return token;
}

static void put_token(struct buffer *out, const json_t *object, uint32_t top_tokens)
{
    const json_t *list = json_object_get(object, "top_logprobs");
    struct work_token top[HEARTH_TOP_TOKENS_MAX];
    struct token_bytes bytes = {.size = 0};
    size_t count = json_array_size(list);
    count = count < top_tokens ? count : top_tokens;
    count = count < HEARTH_TOP_TOKENS_MAX ? count : HEARTH_TOP_TOKENS_MAX;
    struct work_token token = token_of(object, &bytes);
    for (size_t i = 0; i < count; i++)
        top[i] = token_of(json_array_get(list, i), &bytes);
    work_text_put_token(out, &token, top, (uint32_t)count);
}

bool upstream_words_tokens(const struct upstream_piece *piece, uint32_t tokens, uint32_t top_tokens,
                           struct buffer *out, struct work_text *work,
                           struct message_reader *reader)
{
    struct message message;
    const json_t *token;
    size_t i;
    *work = (struct work_text){piece->text, tokens, (uint32_t)json_array_size(piece->logprobs)};
    size_t begin = work_text_begin(out, 1, work);
    json_array_foreach(piece->logprobs, i, token) put_token(out, token, top_tokens);
    return work_text_end(out, begin) &&
           message_decode(out->data, out->size, WORK_PAYLOAD_MAX, &message, NULL) > 0 &&
           work_get_text_begin(&message, reader, work);
}

/* Where the vector of an input stands: the server may have another order. */
static const json_t *vector_at(const json_t *list, size_t place)
{
    const json_t *item;
    size_t i;
    json_array_foreach(list, i, item)
    {
        const json_t *index = json_object_get(item, "index");
        if (index ? json_integer_value(index) == (json_int_t)place : i == place)
            return json_object_get(item, "embedding");
    }
    return NULL;
}

static bool read_vectors(const json_t *list, struct work_vectors *vectors, float *values)
{
    for (size_t i = 0; i < vectors->count; i++) {
        const json_t *vector = vector_at(list, i), *value;
        size_t at;
        if (json_array_size(vector) != vectors->dimensions)
            return false;
        json_array_foreach(vector, at, value)
        {
            double number = json_number_value(value);
            if (!json_is_number(value) || !(fabs(number) < 1e38))
                return false;
            values[i * vectors->dimensions + at] = (float)number;
        }
    }
    return true;
}

int upstream_words_vectors(const json_t *object, size_t count, struct buffer *out,
                           struct hearth_error *err)
{
    const json_t *list = json_object_get(object, "data");
    size_t dimensions = json_array_size(vector_at(list, 0));
    if (count == 0 || dimensions == 0 || dimensions > 1 << 20 ||
        count * dimensions > WORK_PAYLOAD_MAX / sizeof(float))
        return error_set(err, HEARTH_E_FORMAT, "the answer holds no vectors");
    struct work_vectors vectors = {(uint32_t)count, (uint32_t)dimensions,
                                   count_of(json_object_get(object, "usage"), "prompt_tokens")};
    float *values = mem_alloc_array(count * dimensions, sizeof *values);
    if (!values)
        return no_memory(err);
    int status = 0;
    if (!read_vectors(list, &vectors, values))
        status = error_set(err, HEARTH_E_FORMAT,
                           "the answer does not hold a vector of one length for each text");
    else if (!work_put_vectors(out, 1, &vectors, values))
        status = no_memory(err);
    mem_free(values);
    return status;
}

struct text upstream_words_error(const json_t *object)
{
    static const char *const names[] = {"error", "message", "detail"};
    const json_t *error = json_object_get(object, "error");
    if (json_is_object(error))
        object = error;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct text text = text_of_json(json_object_get(object, names[i]));
        if (text.size > 0)
            return text;
    }
    return error ? TEXT("an error without a sentence") : TEXT("");
}

bool upstream_words_ready(const json_t *models, const char *model, struct buffer *out)
{
    const json_t *item, *found = NULL;
    size_t i;
    json_array_foreach(json_object_get(models, "data"), i, item)
    {
        const char *id = json_string_value(json_object_get(item, "id"));
        if (id && strcmp(id, model) == 0)
            found = item;
    }
    uint64_t context = count_of(found, "max_model_len");
    if (context == 0)
        context = count_of(json_object_get(found, "meta"), "n_ctx_train");
    json_t *ready = json_pack("{s:s}", "name", model);
    if (ready && context > 0)
        json_object_set_new(ready, "context_train", json_integer((json_int_t)context));
    char *text = ready ? json_dumps(ready, JSON_COMPACT) : NULL;
    bool good = text && buffer_append_text(out, text_of(text));
    free(text);
    json_decref(ready);
    return good;
}
