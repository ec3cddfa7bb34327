/* The settings that dialects have under the same names, with their ranges, and the lists among
 * them. Names and meanings are llama-server's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/generation.h"

#define BREAKER_BYTES_MAX 40 /* as hearth_sampling.dry_breakers */

const struct hearth_sampling generation_sampling_default = {
    .temperature = 0.8f,
    .top_k = 40,
    .top_p = 0.95f,
    .min_p = 0.05f,
    .typical_p = 1.0f,
    .top_n_sigma = -1.0f,
    .xtc_threshold = 0.1f,
    .dry_base = 1.75f,
    .dry_allowed_length = 2,
    .dry_penalty_last_n = 64,
    .penalty_last_n = 64,
    .repeat_penalty = 1.0f,
    .mirostat_tau = 5.0f,
    .mirostat_eta = 0.1f,
};

/* X(name of the field, of whole numbers the member's type, member of hearth_sampling, smallest,
 * largest, help) */
#define REAL_FIELDS(X)                                                                             \
    X(temperature, temperature, 0, 100, "0 takes the most probable token each time.")              \
    X(top_p, top_p, 0, 1, "The most probable tokens that have this probability together; 1: off.") \
    X(min_p, min_p, 0, 1, "Tokens at least this probable, relative to the best; 0: off.")          \
    X(typical_p, typical_p, 0, 1, "Locally typical sampling; 1: off.")                             \
    X(top_n_sigma, top_n_sigma, -100, 100,                                                         \
      "Tokens within so many standard deviations of the best logit; 0 or less: off.")              \
    X(xtc_probability, xtc_probability, 0, 1, "How often XTC removes the best tokens; 0: off.")    \
    X(xtc_threshold, xtc_threshold, 0, 1, "Tokens above it may be removed by XTC.")                \
    X(dry_multiplier, dry_multiplier, 0, 100, "Strength of the DRY penalty; 0: off.")              \
    X(dry_base, dry_base, 0, 100, "Base of the DRY penalty; below 1: off.")                        \
    X(repeat_penalty, repeat_penalty, 0.001, 100, "Penalty of tokens that were there; 1: off.")    \
    X(frequency_penalty, frequency_penalty, -100, 100, "Penalty for each time a token was there.") \
    X(presence_penalty, presence_penalty, -100, 100, "Penalty of tokens that were there.")         \
    X(mirostat_tau, mirostat_tau, 0, 100, "Mirostat's target entropy.")                            \
    X(mirostat_eta, mirostat_eta, 0, 100, "Mirostat's learning rate.")

#define WHOLE_FIELDS(X)                                                                            \
    X(top_k, int32_t, top_k, -1, INT32_MAX,                                                        \
      "So many of the most probable tokens; 0 or less: off.")                                      \
    X(dry_allowed_length, int32_t, dry_allowed_length, 0, INT32_MAX,                               \
      "Repetitions longer than this are penalized by DRY.")                                        \
    X(dry_penalty_last_n, int32_t, dry_penalty_last_n, -1, INT32_MAX,                              \
      "Tokens that DRY looks back; -1: the whole context.")                                        \
    X(repeat_last_n, int32_t, penalty_last_n, -1, INT32_MAX,                                       \
      "Tokens that penalties look back; -1: the whole context, 0: off.")                           \
    X(mirostat, int32_t, mirostat, 0, 2, "2: Mirostat 2.0; 0: off.")                               \
    X(min_keep, uint32_t, min_keep, 0, INT32_MAX, "Tokens that filters leave at least.")

struct values {
    int64_t seed; /* -1: not given */
    bool ignore_eos;
    const json_t *logit_bias, *breakers;
#define REAL_MEMBER(name, member, smallest, largest, help) double name;
#define WHOLE_MEMBER(name, type, member, smallest, largest, help) int64_t name;
    REAL_FIELDS(REAL_MEMBER)
    WHOLE_FIELDS(WHOLE_MEMBER)
#undef REAL_MEMBER
#undef WHOLE_MEMBER
};

#define REAL_FIELD(name, member, smallest, largest, help)                                          \
    {#name, FIELD_REAL, smallest, largest, offsetof(struct values, name), 0, false, NULL, help},
#define WHOLE_FIELD(name, type, member, smallest, largest, help)                                   \
    {#name, FIELD_INT, smallest, largest, offsetof(struct values, name), 0, false, NULL, help},
#define REFUSED(name)                                                                              \
    {                                                                                              \
        name, FIELD_REFUSED, 0, 0, 0, 0, false, NULL, "Not supported."                             \
    }

const struct field generation_fields[] = {
    REAL_FIELDS(REAL_FIELD)   /* */
    WHOLE_FIELDS(WHOLE_FIELD) /* */
    {"seed", FIELD_INT, -0x1p63, 0x1p63, offsetof(struct values, seed), 0, false, NULL,
     "The same seed gives the same answer; -1: another one each time."},
    {"ignore_eos", FIELD_BOOL, 0, 0, offsetof(struct values, ignore_eos), 0, false, NULL,
     "Tokens that end an answer are never drawn."},
    {"logit_bias", FIELD_ANY, 0, 0, offsetof(struct values, logit_bias), 0, false, NULL,
     "What is added to the logits of tokens: {\"id\": bias} or [[id, bias]]; false: never drawn."},
    {"dry_sequence_breakers", FIELD_ARRAY, 0, WORK_BREAKERS_MAX, offsetof(struct values, breakers),
     0, false, NULL, "Texts that end what DRY counts as a repetition."},
    REFUSED("grammar"),
    REFUSED("json_schema"),
    REFUSED("lora"),
    REFUSED("samplers"),
    REFUSED("dynatemp_range"),
};
const size_t generation_field_count = sizeof generation_fields / sizeof *generation_fields;

/* ---- lists ---- */

static bool bias_of(const json_t *value, float *bias)
{
    if (json_is_false(value)) {
        *bias = -INFINITY;
        return true;
    }
    if (!json_is_number(value) || fabs(json_number_value(value)) > 1e6)
        return false;
    *bias = (float)json_number_value(value);
    return true;
}

static bool id_of(const json_t *value, const char *key, uint32_t *id)
{
    json_int_t number = -1;
    char *end = NULL;
    if (key && key[0] >= '0' && key[0] <= '9' && strlen(key) <= 10)
        number = strtoll(key, &end, 10);
    else if (!key && json_is_integer(value))
        number = json_integer_value(value);
    if (number < 0 || number >= UINT32_MAX || (end && *end))
        return false;
    *id = (uint32_t)number;
    return true;
}

static int refuse_bias(struct refusal *refusal)
{
    return refuse(refusal, 400, "logit_bias",
                  "logit_bias must be an object {\"token id\": bias} or an array of [token id, "
                  "bias], each bias a number from -1e6 to 1e6 or false");
}

static int read_pair(const json_t *pair, struct hearth_logit_bias *out)
{
    return json_is_array(pair) && json_array_size(pair) == 2 &&
                   id_of(json_array_get(pair, 0), NULL, &out->id) &&
                   bias_of(json_array_get(pair, 1), &out->bias)
               ? 0
               : -1;
}

static int read_bias(struct generation_request *request, const json_t *value,
                     struct refusal *refusal)
{
    size_t count = json_is_object(value) ? json_object_size(value) : json_array_size(value), i = 0;
    const char *key;
    json_t *item;
    if (!json_is_object(value) && !json_is_array(value))
        return refuse_bias(refusal);
    if (count > WORK_BIAS_MAX)
        return refuse(refusal, 400, "logit_bias", "logit_bias has %zu tokens; the most is %d",
                      count, WORK_BIAS_MAX);
    struct hearth_logit_bias *bias = mem_alloc_array(count + 1, sizeof *bias);
    if (!bias)
        return refuse(refusal, 507, "", "no memory for logit_bias");
    mem_free(request->own.bias);
    request->own.bias = bias;
    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            if (!id_of(NULL, key, &bias[i].id) || !bias_of(item, &bias[i].bias))
                return refuse_bias(refusal);
            i++;
        }
    } else {
        for (; i < count; i++)
            if (read_pair(json_array_get(value, i), &bias[i]))
                return refuse_bias(refusal);
    }
    request->ask.sampling.bias = bias;
    request->ask.sampling.bias_count = count;
    return 0;
}

static int read_breakers(struct generation_request *request, const json_t *value,
                         struct refusal *refusal)
{
    size_t count = json_array_size(value), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        size_t size = json_string_length(item);
        if (!json_is_string(item) || size == 0 || size > BREAKER_BYTES_MAX)
            return refuse(refusal, 400, "dry_sequence_breakers",
                          "dry_sequence_breakers must be texts of 1 to %d bytes",
                          BREAKER_BYTES_MAX);
        bytes += size + 1;
    }
    const char **breakers = mem_alloc(count * sizeof *breakers + bytes + 1);
    if (!breakers)
        return refuse(refusal, 507, "", "no memory for dry_sequence_breakers");
    char *at = (char *)(breakers + count);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(value, i);
        memcpy(at, json_string_value(item), json_string_length(item) + 1);
        breakers[i] = at;
        at += json_string_length(item) + 1;
    }
    mem_free(request->own.breakers);
    request->own.breakers = breakers;
    request->ask.sampling.dry_breakers = breakers;
    request->ask.sampling.dry_breaker_count = count;
    return 0;
}

/* ---- the request ---- */

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    if (!os_random_bytes(&seed, sizeof seed))
        seed = os_monotonic_ns();
    return seed >> 11; /* what JSON's numbers can say, so that it may be given again */
}

void generation_request_init(struct generation_request *request, struct model *model)
{
    struct model_info info;
    *request = (struct generation_request){.model = model, .choices = 1};
    model_info(model, &info);
    request->ask.sampling = info.settings->sampling;
    request->ask.max_tokens = info.settings->max_tokens;
    if (request->ask.sampling.seed == 0)
        request->ask.sampling.seed = random_seed();
    /* a client that sends all messages each time is told by "length" that the context is full */
    request->ask.settings_given = true;
    request->ask.settings.overflow = HEARTH_OVERFLOW_STOP;
    buffer_init(&request->own.messages, WORK_PAYLOAD_MAX);
}

void generation_request_finish(struct generation_request *request)
{
    buffer_finish(&request->own.messages);
    mem_free(request->own.bias);
    mem_free(request->own.breakers);
    request->own.bias = NULL;
    request->own.breakers = NULL;
}

static void put_sampling(struct values *values, const struct hearth_sampling *sampling)
{
#define PUT_REAL(name, member, smallest, largest, help) values->name = (double)sampling->member;
#define PUT_WHOLE(name, type, member, smallest, largest, help)                                     \
    values->name = (int64_t)sampling->member;
    REAL_FIELDS(PUT_REAL)
    WHOLE_FIELDS(PUT_WHOLE)
#undef PUT_REAL
#undef PUT_WHOLE
}

/* Ranges of the table are inside those of the members' types. */
static void take_sampling(const struct values *values, struct hearth_sampling *sampling)
{
#define TAKE_REAL(name, member, smallest, largest, help) sampling->member = (float)values->name;
#define TAKE_WHOLE(name, type, member, smallest, largest, help)                                    \
    sampling->member = (type)values->name;
    REAL_FIELDS(TAKE_REAL)
    WHOLE_FIELDS(TAKE_WHOLE)
#undef TAKE_REAL
#undef TAKE_WHOLE
}

int generation_read_fields(struct generation_request *request, const json_t *object,
                           struct refusal *refusal)
{
    struct values values = {.seed = -1, .ignore_eos = request->ask.ignore_end};
    put_sampling(&values, &request->ask.sampling);
    if (fields_read(object, generation_fields, generation_field_count, &values, refusal))
        return -1;
    if (values.mirostat == 1)
        return refuse(refusal, 400, "mirostat", "mirostat is 1; it must be 0 or 2");
    take_sampling(&values, &request->ask.sampling);
    if (values.seed != -1)
        request->ask.sampling.seed = (uint64_t)values.seed;
    request->ask.ignore_end = values.ignore_eos;
    if (values.logit_bias && read_bias(request, values.logit_bias, refusal))
        return -1;
    return values.breakers ? read_breakers(request, values.breakers, refusal) : 0;
}
