#include "worker/protocol.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "session/store.h"

/* The fields of a struct are named once, for both directions, so that what is read cannot differ
 * from what is written. */
struct fields {
    struct buffer *out; /* NULL: they are read */
    struct message_reader in;
};

static struct fields reading(const struct message *message)
{
    return (struct fields){.in = message_read(message)};
}

/* A value that there is not: what was read is malformed. */
static void refuse(struct fields *fields)
{
    assert(!fields->out); /* we would write what nobody may read */
    fields->in.failed = true;
}

static void field_u32(struct fields *fields, uint32_t *value)
{
    if (fields->out)
        message_put_u32(fields->out, *value);
    else
        *value = message_get_u32(&fields->in);
}

static void field_u64(struct fields *fields, uint64_t *value)
{
    if (fields->out)
        message_put_u64(fields->out, *value);
    else
        *value = message_get_u64(&fields->in);
}

static void field_f64(struct fields *fields, double *value)
{
    if (fields->out)
        message_put_f64(fields->out, *value);
    else
        *value = message_get_f64(&fields->in);
}

static void field_text(struct fields *fields, struct text *value)
{
    if (fields->out)
        message_put_text(fields->out, *value);
    else
        *value = message_get_text(&fields->in);
}

static void field_i32(struct fields *fields, int32_t *value)
{
    uint32_t bits = (uint32_t)*value;
    field_u32(fields, &bits);
    memcpy(value, &bits, sizeof bits);
}

/* Its bits: NaN and infinities pass, and whoever uses it says what is wrong with them. */
static void field_f32(struct fields *fields, float *value)
{
    uint32_t bits;
    memcpy(&bits, value, sizeof bits);
    field_u32(fields, &bits);
    memcpy(value, &bits, sizeof bits);
}

/* A number from 0 to `max`. */
static uint32_t field_choice(struct fields *fields, uint32_t value, uint32_t max)
{
    field_u32(fields, &value);
    if (value <= max)
        return value;
    refuse(fields);
    return 0;
}

static void field_bool(struct fields *fields, bool *value)
{
    *value = field_choice(fields, *value, 1) == 1;
}

/* How many items follow, of at least `item_size` bytes each: at most `max`. */
static uint32_t field_count(struct fields *fields, uint32_t count, uint32_t max, size_t item_size)
{
    if (fields->out)
        message_put_u32(fields->out, count);
    else
        count = message_get_count(&fields->in, item_size);
    if (count <= max)
        return count;
    refuse(fields);
    return 0;
}

/* An error's code as the positive number that travels. */
static void field_code(struct fields *fields, int32_t *code)
{
    *code = -(int32_t)field_choice(fields, (uint32_t) - *code, INT32_MAX);
}

static bool end_fields(const struct fields *fields)
{
    return message_was_whole(&fields->in);
}

static bool finish(struct buffer *out, size_t begin)
{
    return message_end(out, begin, WORK_PAYLOAD_MAX);
}

/* ---- messages of one field ---- */

bool work_put_empty(struct buffer *out, enum work_type type, uint64_t request, uint32_t descriptors)
{
    return finish(out, message_begin(out, (uint16_t)type, request, descriptors));
}

bool work_put_u32(struct buffer *out, enum work_type type, uint64_t request, uint32_t value)
{
    size_t begin = message_begin(out, (uint16_t)type, request, 0);
    message_put_u32(out, value);
    return finish(out, begin);
}

bool work_put_u64(struct buffer *out, enum work_type type, uint64_t request, uint64_t value)
{
    size_t begin = message_begin(out, (uint16_t)type, request, 0);
    message_put_u64(out, value);
    return finish(out, begin);
}

bool work_put_f64(struct buffer *out, enum work_type type, uint64_t request, double value)
{
    size_t begin = message_begin(out, (uint16_t)type, request, 0);
    message_put_f64(out, value);
    return finish(out, begin);
}

bool work_put_text(struct buffer *out, enum work_type type, uint64_t request, struct text value)
{
    size_t begin = message_begin(out, (uint16_t)type, request, 0);
    message_put_text(out, value);
    return finish(out, begin);
}

bool work_get_u32(const struct message *message, uint32_t *value)
{
    struct message_reader reader = message_read(message);
    uint32_t got = message_get_u32(&reader);
    if (!message_was_whole(&reader))
        return false;
    *value = got;
    return true;
}

bool work_get_u64(const struct message *message, uint64_t *value)
{
    struct message_reader reader = message_read(message);
    uint64_t got = message_get_u64(&reader);
    if (!message_was_whole(&reader))
        return false;
    *value = got;
    return true;
}

bool work_get_f64(const struct message *message, double *value)
{
    struct message_reader reader = message_read(message);
    double got = message_get_f64(&reader);
    if (!message_was_whole(&reader) || !isfinite(got))
        return false;
    *value = got;
    return true;
}

bool work_get_text(const struct message *message, struct text *value)
{
    struct message_reader reader = message_read(message);
    struct text got = message_get_text(&reader);
    if (!message_was_whole(&reader))
        return false;
    *value = got;
    return true;
}

/* ---- keys of conversations ---- */

static bool is_key(struct text key)
{
    return key.size > 0 && key.size < WORK_KEY_SIZE && !memchr(key.data, 0, key.size) &&
           utf8_valid(key.data, key.size);
}

bool work_copy_key(struct text key, char out[WORK_KEY_SIZE])
{
    if (!is_key(key))
        return false;
    memcpy(out, key.data, key.size);
    out[key.size] = '\0';
    return true;
}

bool work_get_key(const struct message *message, char key[WORK_KEY_SIZE])
{
    struct text got;
    return work_get_text(message, &got) && work_copy_key(got, key);
}

/* ---- loading ---- */

static void engine_fields(struct fields *fields, struct hearth_engine_options *engine)
{
    uint32_t threads = engine->threads;
    field_u32(fields, &threads);
    engine->threads = threads;
    field_u32(fields, &engine->chunk_tokens);
    engine->kv_type =
        (enum hearth_kv_type)field_choice(fields, (uint32_t)engine->kv_type, HEARTH_KV_Q8_0_Q4_0);
    field_u64(fields, &engine->kv_bytes_max);
    field_u64(fields, &engine->memory_max);
    field_u32(fields, &engine->context);
    engine->fit = (enum hearth_fit)field_choice(fields, (uint32_t)engine->fit, HEARTH_FIT_SHRINK);
}

static void start_fields(struct fields *fields, struct work_start *start)
{
    field_bool(fields, &start->probe);
    field_bool(fields, &start->no_mmap);
    field_bool(fields, &start->mlock);
    field_text(fields, &start->chat_template);
    field_text(fields, &start->tier);
    engine_fields(fields, &start->engine);
    field_u64(fields, &start->idle_ns);
    field_u32(fields, &start->answers_max);
    field_text(fields, &start->time_zone);
    field_bool(fields, &start->store);
}

bool work_put_start(struct buffer *out, const struct work_start *start)
{
    size_t begin = message_begin(out, WORK_START, 0, 0);
    struct work_start copy = *start;
    start_fields(&(struct fields){.out = out}, &copy);
    return finish(out, begin);
}

bool work_get_start(const struct message *message, struct work_start *start)
{
    struct fields fields = reading(message);
    struct work_start got = {0};
    start_fields(&fields, &got);
    if (!end_fields(&fields))
        return false;
    *start = got;
    return true;
}

static void state_fields(struct fields *fields, uint64_t *ping, struct work_state *state)
{
    field_u64(fields, ping);
    field_u64(fields, &state->private_bytes);
    field_u64(fields, &state->mapped_bytes);
    field_u64(fields, &state->peak_bytes);
    field_u64(fields, &state->kv_bytes);
    field_u64(fields, &state->cached_bytes);
    field_u64(fields, &state->scratch_bytes);
    field_u32(fields, &state->sessions);
    field_u32(fields, &state->waiting);
    field_u32(fields, &state->running);
    field_u32(fields, &state->paused);
    field_u32(fields, &state->pressure);
    field_u64(fields, &state->steps);
    field_u64(fields, &state->prompt_tokens);
    field_u64(fields, &state->cached_tokens);
    field_u64(fields, &state->answer_tokens);
}

bool work_put_state(struct buffer *out, enum work_type type, uint64_t ping,
                    const struct work_state *state)
{
    size_t begin = message_begin(out, (uint16_t)type, 0, 0);
    struct work_state copy = *state;
    state_fields(&(struct fields){.out = out}, &ping, &copy);
    return finish(out, begin);
}

bool work_get_state(const struct message *message, uint64_t *ping, struct work_state *state)
{
    struct fields fields = reading(message);
    struct work_state got = {0};
    uint64_t number = 0;
    state_fields(&fields, &number, &got);
    if (!end_fields(&fields))
        return false;
    *state = got;
    *ping = number;
    return true;
}

/* ---- an answer ---- */

static void settings_fields(struct fields *fields, struct hearth_session_settings *settings)
{
    settings->keep =
        (enum hearth_keep)field_choice(fields, (uint32_t)settings->keep, HEARTH_KEEP_NEVER);
    field_bool(fields, &settings->plain);
    settings->overflow = (enum hearth_overflow)field_choice(fields, (uint32_t)settings->overflow,
                                                            HEARTH_OVERFLOW_DROP);
}

static void bias_fields(struct fields *fields, struct hearth_sampling *sampling)
{
    uint32_t count = field_count(fields, (uint32_t)sampling->bias_count, WORK_BIAS_MAX, 8);
    if (fields->out) {
        for (uint32_t i = 0; i < count; i++) {
            struct hearth_logit_bias item = sampling->bias[i];
            field_u32(fields, &item.id);
            field_f32(fields, &item.bias);
        }
        return;
    }
    struct hearth_logit_bias *list = count ? mem_alloc_array(count, sizeof *list) : NULL;
    if (count && !list) {
        refuse(fields);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        field_u32(fields, &list[i].id);
        field_f32(fields, &list[i].bias);
    }
    sampling->bias = list;
    sampling->bias_count = count;
}

/* The strings, each with its NUL, lie behind the list of them: one block of memory. */
static const char *const *copy_strings(const struct text *texts, uint32_t count)
{
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += texts[i].size + 1;
    char **list = mem_alloc(count * sizeof *list + size + 1);
    char *at = list ? (char *)(list + count) : NULL;
    for (uint32_t i = 0; list && i < count; i++) {
        list[i] = at;
        if (texts[i].size)
            memcpy(at, texts[i].data, texts[i].size);
        at += texts[i].size;
        *at++ = '\0';
    }
    return (const char *const *)list;
}

/* A list that is there and empty is another thing than none. */
static void breaker_fields(struct fields *fields, struct hearth_sampling *sampling)
{
    struct text texts[WORK_BREAKERS_MAX];
    bool given = sampling->dry_breakers != NULL;
    field_bool(fields, &given);
    if (!given)
        return;
    uint32_t count =
        field_count(fields, (uint32_t)sampling->dry_breaker_count, WORK_BREAKERS_MAX, 4);
    for (uint32_t i = 0; i < count; i++) {
        if (fields->out)
            texts[i] = text_of(sampling->dry_breakers[i]);
        field_text(fields, &texts[i]);
        if (!fields->out && texts[i].size && memchr(texts[i].data, 0, texts[i].size))
            refuse(fields);
    }
    if (fields->out || fields->in.failed)
        return;
    sampling->dry_breakers = copy_strings(texts, count);
    sampling->dry_breaker_count = count;
    if (!sampling->dry_breakers)
        refuse(fields);
}

static void sampling_fields(struct fields *fields, struct hearth_sampling *sampling)
{
    field_u64(fields, &sampling->seed);
    field_f32(fields, &sampling->temperature);
    field_i32(fields, &sampling->top_k);
    field_f32(fields, &sampling->top_p);
    field_f32(fields, &sampling->min_p);
    field_f32(fields, &sampling->typical_p);
    field_f32(fields, &sampling->top_n_sigma);
    field_f32(fields, &sampling->xtc_probability);
    field_f32(fields, &sampling->xtc_threshold);
    field_f32(fields, &sampling->dry_multiplier);
    field_f32(fields, &sampling->dry_base);
    field_i32(fields, &sampling->dry_allowed_length);
    field_i32(fields, &sampling->dry_penalty_last_n);
    breaker_fields(fields, sampling);
    field_i32(fields, &sampling->penalty_last_n);
    field_f32(fields, &sampling->repeat_penalty);
    field_f32(fields, &sampling->frequency_penalty);
    field_f32(fields, &sampling->presence_penalty);
    field_i32(fields, &sampling->mirostat);
    field_f32(fields, &sampling->mirostat_tau);
    field_f32(fields, &sampling->mirostat_eta);
    field_u32(fields, &sampling->min_keep);
    bias_fields(fields, sampling);
}

static void ask_fields(struct fields *fields, struct work_ask *ask)
{
    field_text(fields, &ask->session);
    if (!fields->out && ask->session.size > 0 && !is_key(ask->session))
        refuse(fields);
    ask->how = (enum work_messages)field_choice(fields, (uint32_t)ask->how, WORK_MESSAGES_APPEND);
    field_u64(fields, &ask->behind);
    field_text(fields, &ask->messages);
    field_text(fields, &ask->system);
    field_text(fields, &ask->variables);
    settings_fields(fields, &ask->settings);
    field_bool(fields, &ask->settings_given);
    sampling_fields(fields, &ask->sampling);
    ask->stop_count = field_count(fields, ask->stop_count, WORK_STOPS_MAX, 4);
    for (uint32_t i = 0; i < ask->stop_count; i++)
        field_text(fields, &ask->stops[i]);
    field_u32(fields, &ask->max_tokens);
    ask->top_tokens = field_choice(fields, ask->top_tokens, HEARTH_TOP_TOKENS_MAX);
    field_bool(fields, &ask->logprobs);
    field_bool(fields, &ask->ignore_end);
    field_bool(fields, &ask->background);
    field_bool(fields, &ask->no_speculation);
    field_bool(fields, &ask->progress);
    field_bool(fields, &ask->token_ids);
    field_u64(fields, &ask->timeout_ns);
}

/* What cannot be said at all: the other side would refuse it. */
static bool fits(const struct work_ask *ask)
{
    return ask->stop_count <= WORK_STOPS_MAX && ask->top_tokens <= HEARTH_TOP_TOKENS_MAX &&
           ask->sampling.bias_count <= WORK_BIAS_MAX &&
           ask->sampling.dry_breaker_count <= WORK_BREAKERS_MAX &&
           (ask->session.size == 0 || is_key(ask->session));
}

bool work_put_ask(struct buffer *out, uint64_t request, const struct work_ask *ask)
{
    if (!fits(ask))
        return false;
    size_t begin = message_begin(out, WORK_ASK, request, 0);
    struct work_ask copy = *ask;
    ask_fields(&(struct fields){.out = out}, &copy);
    return finish(out, begin);
}

bool work_get_ask(const struct message *message, struct work_ask *ask)
{
    struct fields fields = reading(message);
    struct work_ask got = {0};
    ask_fields(&fields, &got);
    if (!end_fields(&fields)) {
        work_ask_finish(&got);
        return false;
    }
    *ask = got;
    return true;
}

void work_ask_finish(struct work_ask *ask)
{
    mem_free((void *)ask->sampling.bias);
    mem_free((void *)ask->sampling.dry_breakers);
    ask->sampling.bias = NULL;
    ask->sampling.bias_count = 0;
    ask->sampling.dry_breakers = NULL;
    ask->sampling.dry_breaker_count = 0;
}

static void begin_fields(struct fields *fields, struct work_begin *begin)
{
    field_u64(fields, &begin->prompt_tokens);
    field_u64(fields, &begin->cached_tokens);
    field_u64(fields, &begin->queued_ns);
    field_bool(fields, &begin->opens_reasoning);
}

bool work_put_begin(struct buffer *out, uint64_t request, const struct work_begin *begin)
{
    size_t place = message_begin(out, WORK_BEGIN, request, 0);
    struct work_begin copy = *begin;
    begin_fields(&(struct fields){.out = out}, &copy);
    return finish(out, place);
}

bool work_get_begin(const struct message *message, struct work_begin *begin)
{
    struct fields fields = reading(message);
    struct work_begin got = {0};
    begin_fields(&fields, &got);
    if (!end_fields(&fields))
        return false;
    *begin = got;
    return true;
}

bool work_put_reading(struct buffer *out, uint64_t request, uint64_t done, uint64_t total)
{
    size_t begin = message_begin(out, WORK_READING, request, 0);
    message_put_u64(out, done);
    message_put_u64(out, total);
    return finish(out, begin);
}

bool work_get_reading(const struct message *message, uint64_t *done, uint64_t *total)
{
    struct message_reader reader = message_read(message);
    uint64_t got = message_get_u64(&reader), of = message_get_u64(&reader);
    if (!message_was_whole(&reader) || got > of)
        return false;
    *done = got;
    *total = of;
    return true;
}

/* ---- text and tokens ---- */

static void token_fields(struct fields *fields, struct work_token *token)
{
    field_u32(fields, &token->id);
    field_f64(fields, &token->logprob);
    field_text(fields, &token->bytes);
    if (!fields->out && isnan(token->logprob))
        refuse(fields);
}
#define TOKEN_SIZE (4 + 8 + 4) /* at least */

size_t work_text_begin(struct buffer *out, uint64_t request, const struct work_text *text)
{
    size_t begin = message_begin(out, WORK_TEXT, request, 0);
    message_put_text(out, text->text);
    message_put_u32(out, text->tokens);
    message_put_u32(out, text->count);
    return begin;
}

void work_text_put_token(struct buffer *out, const struct work_token *token,
                         const struct work_token *top, uint32_t top_count)
{
    struct fields fields = {.out = out};
    struct work_token copy = *token;
    assert(top_count <= HEARTH_TOP_TOKENS_MAX);
    token_fields(&fields, &copy);
    message_put_u32(out, top_count);
    for (uint32_t i = 0; i < top_count; i++) {
        copy = top[i];
        token_fields(&fields, &copy);
    }
}

bool work_text_end(struct buffer *out, size_t begin)
{
    return finish(out, begin);
}

bool work_get_text_begin(const struct message *message, struct message_reader *reader,
                         struct work_text *text)
{
    struct message_reader in = message_read(message);
    struct work_text got = {.text = message_get_text(&in), .tokens = message_get_u32(&in)};
    got.count = message_get_count(&in, TOKEN_SIZE + 4);
    if (in.failed || (got.count == 0 && in.rest.size > 0))
        return false;
    *text = got;
    *reader = in;
    return true;
}

bool work_text_token(struct message_reader *reader, struct work_token *token,
                     struct work_token top[HEARTH_TOP_TOKENS_MAX], uint32_t *top_count)
{
    struct fields fields = {.in = *reader};
    struct work_token got = {0};
    token_fields(&fields, &got);
    uint32_t count = field_count(&fields, 0, HEARTH_TOP_TOKENS_MAX, TOKEN_SIZE);
    for (uint32_t i = 0; i < count; i++)
        token_fields(&fields, &top[i]);
    *reader = fields.in;
    if (reader->failed)
        return false;
    *token = got;
    *top_count = count;
    return true;
}

static void end_of_answer_fields(struct fields *fields, struct work_end *end)
{
    field_text(fields, &end->session);
    end->stop = field_choice(fields, end->stop, HEARTH_STOP_ERROR);
    field_code(fields, &end->code);
    field_text(fields, &end->cause);
    field_text(fields, &end->stop_string);
    field_u64(fields, &end->prompt_tokens);
    field_u64(fields, &end->cached_tokens);
    field_u64(fields, &end->answer_tokens);
    field_u64(fields, &end->dropped_messages);
    end->miss = field_choice(fields, end->miss, HEARTH_MISS_DROPPED);
    field_bool(fields, &end->unsaved);
    field_u64(fields, &end->queued_ns);
    field_u64(fields, &end->prompt_ns);
    field_u64(fields, &end->first_token_ns);
    field_u64(fields, &end->answer_ns);
    field_u64(fields, &end->decode_tokens);
    field_u64(fields, &end->drafted);
    field_u64(fields, &end->accepted);
}

bool work_put_end(struct buffer *out, uint64_t request, const struct work_end *end)
{
    size_t begin = message_begin(out, WORK_END, request, 0);
    struct work_end copy = *end;
    end_of_answer_fields(&(struct fields){.out = out}, &copy);
    return finish(out, begin);
}

bool work_get_end(const struct message *message, struct work_end *end)
{
    struct fields fields = reading(message);
    struct work_end got = {0};
    end_of_answer_fields(&fields, &got);
    if (!end_fields(&fields))
        return false;
    *end = got;
    return true;
}

/* ---- other requests ---- */

bool work_put_embed(struct buffer *out, uint64_t request, const struct work_embed *embed)
{
    size_t begin = message_begin(out, WORK_EMBED, request, 0);
    message_put_text(out, embed->inputs);
    message_put_u32(out, embed->background);
    return finish(out, begin);
}

bool work_get_embed(const struct message *message, struct work_embed *embed)
{
    struct fields fields = reading(message);
    struct work_embed got = {0};
    field_text(&fields, &got.inputs);
    field_bool(&fields, &got.background);
    if (!end_fields(&fields))
        return false;
    *embed = got;
    return true;
}

bool work_put_vectors(struct buffer *out, uint64_t request, const struct work_vectors *vectors,
                      const float *values)
{
    struct fields fields = {.out = out};
    size_t begin = message_begin(out, WORK_REPLY, request, 0);
    message_put_u32(out, 0);
    message_put_u32(out, vectors->count);
    message_put_u32(out, vectors->dimensions);
    message_put_u64(out, vectors->tokens);
    for (size_t i = 0; i < (size_t)vectors->count * vectors->dimensions; i++) {
        float value = values[i];
        field_f32(&fields, &value);
    }
    return finish(out, begin);
}

bool work_get_vectors(struct message_reader *reader, struct work_vectors *vectors)
{
    struct work_vectors got = {.count = message_get_u32(reader)};
    got.dimensions = message_get_u32(reader);
    got.tokens = message_get_u64(reader);
    if (reader->failed || (got.count > 0 && got.dimensions == 0) || reader->rest.size % 4 != 0 ||
        (uint64_t)got.count * got.dimensions != reader->rest.size / 4) {
        reader->failed = true;
        return false;
    }
    *vectors = got;
    return true;
}

bool work_vectors_row(struct message_reader *reader, uint32_t dimensions, float *row)
{
    struct fields fields = {.in = *reader};
    if (fields.in.rest.size / 4 < dimensions)
        refuse(&fields);
    for (uint32_t i = 0; i < dimensions && !fields.in.failed; i++)
        field_f32(&fields, &row[i]);
    *reader = fields.in;
    return !reader->failed;
}

bool work_put_call(struct buffer *out, uint64_t request, const struct work_call *call)
{
    size_t begin = message_begin(out, WORK_CALL, request, 0);
    message_put_text(out, call->name);
    message_put_text(out, call->arguments);
    return finish(out, begin);
}

bool work_get_call(const struct message *message, struct work_call *call)
{
    struct message_reader reader = message_read(message);
    struct work_call got = {.name = message_get_text(&reader)};
    got.arguments = message_get_text(&reader);
    if (!message_was_whole(&reader))
        return false;
    *call = got;
    return true;
}

bool work_put_reply(struct buffer *out, enum work_type type, uint64_t request, int code,
                    struct text text)
{
    size_t begin = message_begin(out, (uint16_t)type, request, 0);
    int32_t number = code;
    field_code(&(struct fields){.out = out}, &number);
    message_put_text(out, text);
    return finish(out, begin);
}

bool work_get_reply(const struct message *message, struct message_reader *reader, int *code,
                    struct text *cause)
{
    struct fields fields = reading(message);
    struct text why = {NULL, 0};
    int32_t number = 0;
    field_code(&fields, &number);
    if (number != 0)
        field_text(&fields, &why);
    if (fields.in.failed || (number != 0 && !end_fields(&fields)))
        return false;
    *reader = fields.in;
    *code = number;
    *cause = why;
    return true;
}

/* ---- the store ---- */

/* A name that ends up in an array of `size` bytes. */
static bool copy_name(struct text name, char *out, size_t size)
{
    if (name.size >= size || (name.size && memchr(name.data, 0, name.size)))
        return false;
    memset(out, 0, size);
    if (name.size)
        memcpy(out, name.data, name.size);
    return true;
}

bool work_put_store_record(struct buffer *out, uint64_t number, struct text key, struct text record,
                           const struct store_summary *summary)
{
    size_t begin = message_begin(out, WORK_STORE_PUT, number, 0);
    message_put_text(out, key);
    message_put_text(out, record);
    message_put_text(out, text_of(summary->model));
    message_put_text(out, text_of(summary->model_name ? summary->model_name : ""));
    message_put_u64(out, summary->messages);
    message_put_u64(out, summary->tokens);
    message_put_u64(out, (uint64_t)summary->used_unix);
    return finish(out, begin);
}

bool work_get_store_record(const struct message *message, struct text *key, struct text *record,
                           struct store_summary *summary, char model[HEARTH_IDENTITY_SIZE],
                           char model_name[HEARTH_STORE_NAME_SIZE])
{
    struct message_reader reader = message_read(message);
    struct text got_key = message_get_text(&reader), got_record = message_get_text(&reader);
    struct text identity = message_get_text(&reader), name = message_get_text(&reader);
    uint64_t messages = message_get_u64(&reader), tokens = message_get_u64(&reader);
    uint64_t used = message_get_u64(&reader);
    if (!message_was_whole(&reader) || !is_key(got_key) || used > INT64_MAX ||
        !copy_name(identity, model, HEARTH_IDENTITY_SIZE) ||
        !copy_name(name, model_name, HEARTH_STORE_NAME_SIZE))
        return false;
    *key = got_key;
    *record = got_record;
    *summary = (struct store_summary){.model = model,
                                      .model_name = name.size ? model_name : NULL,
                                      .messages = messages,
                                      .tokens = tokens,
                                      .used_unix = (int64_t)used};
    return true;
}

static void spill_fields(struct fields *fields, struct store_spill *spill)
{
    struct text identity = {NULL, 0}, sum = {(const char *)spill->sum, SUM_BYTES};
    if (fields->out)
        identity = text_of(spill->identity);
    field_text(fields, &identity);
    field_u64(fields, &spill->tokens);
    field_u64(fields, &spill->bytes);
    field_text(fields, &sum);
    if (fields->out || fields->in.failed)
        return;
    if (sum.size != SUM_BYTES || !copy_name(identity, spill->identity, sizeof spill->identity))
        refuse(fields);
    else
        memcpy(spill->sum, sum.data, SUM_BYTES);
}

bool work_put_store_spill(struct buffer *out, uint64_t number, struct text key,
                          const struct store_spill *spill)
{
    size_t begin = message_begin(out, WORK_STORE_SPILL_KEEP, number, 1);
    struct store_spill copy = *spill;
    message_put_text(out, key);
    spill_fields(&(struct fields){.out = out}, &copy);
    return finish(out, begin);
}

bool work_get_store_spill(const struct message *message, struct text *key,
                          struct store_spill *spill)
{
    struct fields fields = reading(message);
    struct store_spill got = {{0}, 0, 0, {0}};
    struct text got_key = {NULL, 0};
    field_text(&fields, &got_key);
    spill_fields(&fields, &got);
    if (!end_fields(&fields) || !is_key(got_key) || message->descriptor_count != 1)
        return false;
    *key = got_key;
    *spill = got;
    return true;
}

bool work_put_store_file(struct buffer *out, enum work_type type, uint64_t number,
                         const struct store_spill *spill)
{
    size_t begin = message_begin(out, (uint16_t)type, number, 1);
    message_put_u32(out, 0);
    if (spill) {
        struct store_spill copy = *spill;
        spill_fields(&(struct fields){.out = out}, &copy);
    }
    return finish(out, begin);
}

bool work_get_store_file(const struct message *message, struct message_reader *reader,
                         struct store_spill *spill)
{
    struct fields fields = {.in = *reader};
    struct store_spill got = {{0}, 0, 0, {0}};
    if (spill)
        spill_fields(&fields, &got);
    *reader = fields.in;
    if (!end_fields(&fields) || message->descriptor_count != 1)
        return false;
    if (spill)
        *spill = got;
    return true;
}
