#include "infer/sampler.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "infer/sampler_dry.h"
#include "infer/sampler_filter.h"
#include "infer/sampler_history.h"
#include "infer/sampler_keys.h"
#include "infer/sampler_math.h"

/* ---- settings ---- */

/* X(member, default, smallest, largest). Defaults are those of llama.cpp (struct
 * common_params_sampling in its common/common.h), which leave repetition alone. */
#define FLOAT_SETTINGS(X)                                                                          \
    X(temperature, 0.8f, -FLT_MAX, FLT_MAX)                                                        \
    X(top_p, 0.95f, 0.0f, 1.0f)                                                                    \
    X(min_p, 0.05f, 0.0f, 1.0f)                                                                    \
    X(typical_p, 1.0f, 0.0f, 1.0f)                                                                 \
    X(top_n_sigma, -1.0f, -FLT_MAX, FLT_MAX)                                                       \
    X(xtc_probability, 0.0f, 0.0f, 1.0f)                                                           \
    X(xtc_threshold, 0.1f, 0.0f, 1.0f)                                                             \
    X(dry_multiplier, 0.0f, 0.0f, FLT_MAX)                                                         \
    X(dry_base, 1.75f, 0.0f, FLT_MAX)                                                              \
    X(repeat_penalty, 1.0f, FLT_MIN, FLT_MAX)                                                      \
    X(frequency_penalty, 0.0f, -FLT_MAX, FLT_MAX)                                                  \
    X(presence_penalty, 0.0f, -FLT_MAX, FLT_MAX)                                                   \
    X(mirostat_tau, 5.0f, 0.0f, FLT_MAX)                                                           \
    X(mirostat_eta, 0.1f, 0.0f, FLT_MAX)
#define INTEGER_SETTINGS(X)                                                                        \
    X(top_k, 40, INT32_MIN, INT32_MAX)                                                             \
    X(dry_allowed_length, 2, 0, INT32_MAX)                                                         \
    X(dry_penalty_last_n, 64, -1, INT32_MAX)                                                       \
    X(penalty_last_n, 64, -1, INT32_MAX)                                                           \
    X(mirostat, 0, 0, 2)

static const char *const default_breakers[] = {"\n", ":", "\"", "*"};

void hearth_sampling_default(struct hearth_sampling *out)
{
    *out = (struct hearth_sampling){0}; /* no seed, no bias, min_keep 0, the default breakers */
#define SET_DEFAULT(member, value, smallest, largest) out->member = (value);
    FLOAT_SETTINGS(SET_DEFAULT)
    INTEGER_SETTINGS(SET_DEFAULT)
#undef SET_DEFAULT
}

static int check_float(const char *name, float value, float smallest, float largest,
                       struct hearth_error *err)
{
    if (value >= smallest && value <= largest) /* false for NaN */
        return 0;
    if (largest < FLT_MAX)
        return error_set(err, HEARTH_E_ARGUMENT, "%s is %g; it must be from %g to %g", name,
                         (double)value, (double)smallest, (double)largest);
    return error_set(err, HEARTH_E_ARGUMENT, "%s is %g; it must be a finite number%s", name,
                     (double)value,
                     smallest > 0       ? " above 0"
                     : smallest == 0.0f ? " and not negative"
                                        : "");
}

static int check_integer(const char *name, int32_t value, int32_t smallest, int32_t largest,
                         struct hearth_error *err)
{
    if (value >= smallest && value <= largest)
        return 0;
    return error_set(err, HEARTH_E_ARGUMENT, "%s is %d; it must be from %d to %d", name, (int)value,
                     (int)smallest, (int)largest);
}

static int check_bias(const struct hearth_sampling *sampling, uint32_t vocabulary,
                      struct hearth_error *err)
{
    if (sampling->bias_count > vocabulary)
        return error_set(err, HEARTH_E_LIMIT, "bias: %zu entries; the vocabulary has %u tokens",
                         sampling->bias_count, (unsigned)vocabulary);
    for (size_t i = 0; i < sampling->bias_count; i++) {
        const struct hearth_logit_bias *bias = &sampling->bias[i];
        if (bias->id >= vocabulary)
            return error_set(err, HEARTH_E_ARGUMENT, "bias: token %u; the vocabulary has %u",
                             (unsigned)bias->id, (unsigned)vocabulary);
        if (!(bias->bias < INFINITY))
            return error_set(err, HEARTH_E_ARGUMENT,
                             "bias: token %u has %g; it must be a finite number or -infinity",
                             (unsigned)bias->id, (double)bias->bias);
    }
    return 0;
}

static int check_settings(const struct hearth_sampling *sampling, uint32_t vocabulary,
                          struct hearth_error *err)
{
    int status = 0;
#define CHECK_FLOAT(member, value, smallest, largest)                                              \
    if (status == 0)                                                                               \
        status = check_float(#member, sampling->member, smallest, largest, err);
#define CHECK_INTEGER(member, value, smallest, largest)                                            \
    if (status == 0)                                                                               \
        status = check_integer(#member, sampling->member, smallest, largest, err);
    FLOAT_SETTINGS(CHECK_FLOAT)
    INTEGER_SETTINGS(CHECK_INTEGER)
#undef CHECK_FLOAT
#undef CHECK_INTEGER
    if (status == 0 && sampling->mirostat == 1)
        status = error_set(err, HEARTH_E_ARGUMENT, "mirostat is 1; it must be 0 or 2");
    return status == 0 ? check_bias(sampling, vocabulary, err) : status;
}

/* ---- the chain ---- */

struct hearth_sampler {
    struct hearth_sampling settings; /* its pointers are NULL or point to own copies */
    uint32_t vocabulary;
    struct random random;
    double mu; /* of mirostat, bits */
    struct history history;
    struct dry dry;
    float *edited; /* a copy of the logits for what changes them; NULL where nothing does */
    struct key_scan scan;
    uint64_t *blocks; /* scratch of key_scan_top */
    int32_t floor;    /* order that a candidate's logit has at least */
    struct candidates set;
};

static bool wants_bias(const struct hearth_sampling *s)
{
    return s->bias_count > 0;
}

static bool wants_penalties(const struct hearth_sampling *s)
{
    return s->penalty_last_n != 0 && (s->repeat_penalty != 1.0f || s->frequency_penalty != 0.0f ||
                                      s->presence_penalty != 0.0f);
}

static bool wants_dry(const struct hearth_sampling *s)
{
    return s->dry_multiplier > 0.0f && s->dry_base >= 1.0f && s->dry_penalty_last_n != 0;
}

static bool wants_sigma(const struct hearth_sampling *s)
{
    return s->top_n_sigma > 0.0f;
}

static bool wants_top_k(const struct hearth_sampling *s)
{
    return s->top_k > 0;
}

static bool wants_typical(const struct hearth_sampling *s)
{
    return s->typical_p < 1.0f;
}

static bool wants_top_p(const struct hearth_sampling *s)
{
    return s->top_p < 1.0f;
}

static bool wants_min_p(const struct hearth_sampling *s)
{
    return s->min_p > 0.0f;
}

static bool wants_xtc(const struct hearth_sampling *s)
{
    return s->xtc_probability > 0.0f && s->xtc_threshold <= 0.5f;
}

/* A NaN stays, so that the scan finds it. */
static void edit_bias(struct hearth_sampler *sampler)
{
    for (size_t i = 0; i < sampler->settings.bias_count; i++) {
        const struct hearth_logit_bias *bias = &sampler->settings.bias[i];
        float *logit = &sampler->edited[bias->id];
        if (isnan(*logit))
            continue;
        if (bias->bias == -INFINITY)
            *logit = -INFINITY;
        else
            *logit = sampler_logit((double)*logit + (double)bias->bias);
    }
}

static void edit_penalties(struct hearth_sampler *sampler)
{
    const struct hearth_sampling *s = &sampler->settings;
    for (size_t i = 0; i < sampler->history.slots; i++) {
        const struct history_entry *entry = &sampler->history.table[i];
        if (!entry->used || entry->counted == 0)
            continue;
        float *logit = &sampler->edited[entry->id];
        if (isnan(*logit))
            continue;
        /* Dividing a negative logit would make its token more likely. */
        double value = *logit <= 0.0f ? (double)*logit * (double)s->repeat_penalty
                                      : (double)*logit / (double)s->repeat_penalty;
        value -= (double)entry->counted * (double)s->frequency_penalty;
        *logit = sampler_logit(value - (double)s->presence_penalty);
    }
}

static void edit_dry(struct hearth_sampler *sampler)
{
    dry_apply(&sampler->dry, &sampler->history, sampler->edited);
}

static void narrow_top_n_sigma(struct hearth_sampler *sampler)
{
    const struct key_scan *scan = &sampler->scan;
    uint64_t max = key_of_order(scan->max, 0);
    double floor = sigma_floor(scan->logits, scan->count, (double)key_logit(max),
                               (double)sampler->settings.top_n_sigma);
    if (floor <= (double)-FLT_MAX)
        return;
    float nearest = (float)floor;
    sampler->floor = key_order(nearest) + ((double)nearest < floor);
}

static void narrow_typical(struct hearth_sampler *sampler)
{
    filter_typical(&sampler->set, (double)sampler->settings.typical_p, sampler->settings.min_keep);
}

static void narrow_top_p(struct hearth_sampler *sampler)
{
    filter_top_p(&sampler->set, (double)sampler->settings.top_p, sampler->settings.min_keep);
}

static void narrow_min_p(struct hearth_sampler *sampler)
{
    filter_min_p(&sampler->set, (double)sampler->settings.min_p, sampler->settings.min_keep);
}

static void narrow_xtc(struct hearth_sampler *sampler)
{
    const struct hearth_sampling *s = &sampler->settings;
    if (sampler->set.count < 2 || random_unit(&sampler->random) >= (double)s->xtc_probability)
        return;
    filter_xtc(&sampler->set, (double)s->xtc_threshold, s->min_keep);
}

/* From logits to candidates: the k best that reach the floor, or all of them. */
static void collect(struct hearth_sampler *sampler)
{
    struct candidates *set = &sampler->set;
    const struct key_scan *scan = &sampler->scan;
    set->sorted = sampler->blocks != NULL;
    set->count = set->sorted ? key_scan_top(scan, sampler->floor, (size_t)sampler->settings.top_k,
                                            set->keys, sampler->blocks)
                             : key_scan_all(scan, sampler->floor, set->keys);
    if (scan->max < KEY_ORDER_INFINITY)
        return;
    for (size_t i = 0; i < set->count; i++)
        set->keys[i] = key_of(0.0f, key_id(set->keys[i]));
}

/* The order in which settings act, from the logits to the draw: llama.cpp's default order
 * (common_params_sampling::samplers). Temperature comes last and changes only the weights of the
 * draw. Mirostat decides itself how much is cut off: the stages that narrow are left out then, and
 * those that edit logits stay. */
static const struct stage {
    enum { EDITS, NARROWS_LOGITS, NARROWS } kind;
    bool (*wanted)(const struct hearth_sampling *settings);
    void (*run)(struct hearth_sampler *sampler);
} chain[] = {
    {EDITS, wants_bias, edit_bias},
    {EDITS, wants_penalties, edit_penalties},
    {EDITS, wants_dry, edit_dry},
    {NARROWS_LOGITS, wants_sigma, narrow_top_n_sigma},
    /* collect: top-k */
    {NARROWS, wants_typical, narrow_typical},
    {NARROWS, wants_top_p, narrow_top_p},
    {NARROWS, wants_min_p, narrow_min_p},
    {NARROWS, wants_xtc, narrow_xtc},
};

static void run_stages(struct hearth_sampler *sampler, int kind)
{
    for (size_t i = 0; i < sizeof chain / sizeof chain[0]; i++) {
        if ((int)chain[i].kind == kind && chain[i].wanted(&sampler->settings))
            chain[i].run(sampler);
    }
}

static bool wants_edits(const struct hearth_sampling *s)
{
    return wants_bias(s) || wants_penalties(s) || wants_dry(s);
}

/* Whether the answer is the best logit whatever the filters do: they all keep it, but typical and
 * XTC. */
static bool takes_the_best(const struct hearth_sampling *s)
{
    return s->temperature <= 0.0f && (s->mirostat != 0 || (!wants_typical(s) && !wants_xtc(s)));
}

static int nan_error(const float *logits, size_t count, struct hearth_error *err)
{
    size_t at = 0;
    while (at < count && !isnan(logits[at]))
        at++;
    return error_set(err, HEARTH_E_NUMERIC, "logit %zu is not a number", at);
}

static int scan_logits(struct hearth_sampler *sampler, const float *logits,
                       struct hearth_error *err)
{
    struct key_scan *scan = &sampler->scan;
    scan->logits = logits;
    if (sampler->edited) {
        memcpy(sampler->edited, logits, scan->count * sizeof *logits);
        run_stages(sampler, EDITS);
        scan->logits = sampler->edited;
    }
    key_scan_run(scan);
    if (scan->nan)
        return nan_error(scan->logits, scan->count, err);
    if (scan->max == KEY_ORDER_MINUS_INFINITY)
        return error_set(err, HEARTH_E_NUMERIC,
                         "no token is possible: all %zu logits are -infinity", scan->count);
    return 0;
}

/* Runs the chain. Afterwards the set holds what can be drawn, with its weights, and *total is
 * their sum; after a failure nothing of the sampler's state has changed. Where a logit is
 * +infinity only those that are can be drawn, all equally. */
static int narrow(struct hearth_sampler *sampler, const float *logits, double *total,
                  struct hearth_error *err)
{
    const struct hearth_sampling *s = &sampler->settings;
    struct candidates *set = &sampler->set;
    int status = scan_logits(sampler, logits, err);
    if (status < 0)
        return status;
    if (takes_the_best(s)) {
        set->count = 1;
        set->keys[0] = key_of_order(sampler->scan.max, key_scan_best(&sampler->scan));
    } else {
        bool infinite = sampler->scan.max == KEY_ORDER_INFINITY;
        sampler->floor = infinite ? KEY_ORDER_INFINITY : KEY_ORDER_MINUS_INFINITY + 1;
        if (s->mirostat == 0 && !infinite)
            run_stages(sampler, NARROWS_LOGITS);
        collect(sampler);
        if (s->mirostat == 0)
            run_stages(sampler, NARROWS);
        else
            filter_surprise(set, sampler->mu, (double)s->temperature);
    }
    if (s->temperature <= 0.0f) {
        set->keys[0] = key_of(0.0f, candidates_best(set));
        set->count = 1;
    }
    *total = candidates_weigh(set, s->temperature > 0.0f ? (double)s->temperature : 1.0);
    return 0;
}

/* Moves the surprise that is allowed towards the one that is wanted (Basu et al., "Mirostat: a
 * neural text decoding algorithm that directly controls perplexity", 2021, version 2). */
static void learn_surprise(struct hearth_sampler *sampler, size_t drawn, double total)
{
    const struct hearth_sampling *s = &sampler->settings;
    const struct candidates *set = &sampler->set;
    double best = (double)key_logit(keys_max(set->keys, set->count));
    double d = ((double)key_logit(set->keys[drawn]) - best) / (double)s->temperature;
    double surprise = (sampler_log(total) - d) / 0x1.62e42fefa39efp-1;
    sampler->mu -= (double)s->mirostat_eta * (surprise - (double)s->mirostat_tau);
}

/* ---- opening ---- */

static size_t window_of(int32_t last_n)
{
    return last_n < 0 ? SIZE_MAX : (size_t)last_n;
}

static int open_history(struct hearth_sampler *sampler, const struct vocabulary *vocabulary,
                        const struct hearth_sampling *s, struct hearth_error *err)
{
    size_t penalties = wants_penalties(s) ? window_of(s->penalty_last_n) : 0;
    size_t dry = wants_dry(s) ? window_of(s->dry_penalty_last_n) : 0;
    sampler_history_init(&sampler->history, penalties > dry ? penalties : dry, penalties);
    if (dry == 0)
        return 0;
    sampler->dry.multiplier = (double)s->dry_multiplier;
    sampler->dry.base = (double)s->dry_base;
    sampler->dry.allowed = (size_t)s->dry_allowed_length;
    sampler->dry.last_n = dry;
    const char *const *breakers = s->dry_breakers ? s->dry_breakers : default_breakers;
    size_t count = s->dry_breakers ? s->dry_breaker_count
                                   : sizeof default_breakers / sizeof default_breakers[0];
    return dry_set_breakers(&sampler->dry, vocabulary, breakers, count, err);
}

/* Room for candidates: as many as can be collected. */
static size_t candidate_capacity(const struct hearth_sampler *sampler, bool top_k)
{
    const struct hearth_sampling *s = &sampler->settings;
    if (takes_the_best(s))
        return 1;
    return top_k ? key_top_capacity(sampler->vocabulary, (size_t)s->top_k) : sampler->vocabulary;
}

static bool open_scratch(struct hearth_sampler *sampler)
{
    const struct hearth_sampling *s = &sampler->settings;
    size_t blocks = key_block_count(sampler->vocabulary);
    bool top_k = s->mirostat == 0 && wants_top_k(s) && (uint32_t)s->top_k < sampler->vocabulary;
    bool spare = s->mirostat == 0 && wants_typical(s);
    size_t capacity = candidate_capacity(sampler, top_k);
    sampler->scan.count = sampler->vocabulary;
    sampler->scan.block_max = mem_alloc_array(blocks, sizeof *sampler->scan.block_max);
    sampler->set.keys = mem_alloc_array(capacity, sizeof *sampler->set.keys);
    sampler->set.weights = mem_alloc_array(capacity, sizeof *sampler->set.weights);
    if (!sampler->scan.block_max || !sampler->set.keys || !sampler->set.weights)
        return false;
    if (top_k && !(sampler->blocks = mem_alloc_array(blocks, sizeof *sampler->blocks)))
        return false;
    if (spare && !(sampler->set.spare = mem_alloc_array(capacity, sizeof *sampler->set.spare)))
        return false;
    if (wants_edits(s) && !(sampler->edited = mem_alloc_array(sampler->vocabulary, sizeof(float))))
        return false;
    return sampler_history_reserve(&sampler->history) &&
           dry_reserve(&sampler->dry, &sampler->history);
}

static bool copy_bias(struct hearth_sampler *sampler, const struct hearth_sampling *sampling)
{
    if (sampling->bias_count == 0)
        return true;
    struct hearth_logit_bias *bias = mem_alloc_array(sampling->bias_count, sizeof *bias);
    if (!bias)
        return false;
    memcpy(bias, sampling->bias, sampling->bias_count * sizeof *bias);
    sampler->settings.bias = bias;
    return true;
}

int sampler_open(const struct vocabulary *vocabulary, const struct hearth_sampling *sampling,
                 struct hearth_sampler **out, struct hearth_error *err)
{
    struct hearth_sampling defaults;
    hearth_sampling_default(&defaults);
    const struct hearth_sampling *s = sampling ? sampling : &defaults;
    if (vocabulary->size == 0)
        return error_set(err, HEARTH_E_ARGUMENT, "the vocabulary is empty");
    int status = check_settings(s, vocabulary->size, err);
    if (status < 0)
        return status;
    struct hearth_sampler *sampler = MEM_NEW(struct hearth_sampler);
    if (!sampler)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a sampler");
    sampler->settings = *s;
    sampler->settings.bias = NULL;
    sampler->settings.dry_breakers = NULL;
    sampler->vocabulary = vocabulary->size;
    sampler->random = random_from_seed(s->seed);
    sampler->mu = 2.0 * (double)s->mirostat_tau;
    status = open_history(sampler, vocabulary, s, err);
    if (status == 0 && (!copy_bias(sampler, s) || !open_scratch(sampler)))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a sampler");
    if (status < 0) {
        hearth_sampler_close(sampler);
        return status;
    }
    *out = sampler;
    return 0;
}

void hearth_sampler_close(struct hearth_sampler *sampler)
{
    if (!sampler)
        return;
    sampler_history_finish(&sampler->history);
    dry_finish(&sampler->dry);
    mem_free((void *)sampler->settings.bias);
    mem_free(sampler->edited);
    mem_free(sampler->scan.block_max);
    mem_free(sampler->blocks);
    mem_free(sampler->set.keys);
    mem_free(sampler->set.spare);
    mem_free(sampler->set.weights);
    mem_free(sampler);
}

/* ---- use ---- */

static int reserve_history(struct hearth_sampler *sampler, struct hearth_error *err)
{
    if (sampler_history_reserve(&sampler->history) && dry_reserve(&sampler->dry, &sampler->history))
        return 0;
    return error_set(err, HEARTH_E_MEMORY, "no memory for the tokens that penalties look at");
}

int hearth_sampler_accept(struct hearth_sampler *sampler, uint32_t id, struct hearth_error *err)
{
    if (id >= sampler->vocabulary)
        return error_set(err, HEARTH_E_ARGUMENT, "token %u; the vocabulary has %u", (unsigned)id,
                         (unsigned)sampler->vocabulary);
    int status = reserve_history(sampler, err);
    if (status == 0)
        sampler_history_push(&sampler->history, id);
    return status;
}

int hearth_sampler_sample(struct hearth_sampler *sampler, const float *logits, uint32_t *id,
                          struct hearth_error *err)
{
    double total;
    int status = reserve_history(sampler, err);
    if (status == 0)
        status = narrow(sampler, logits, &total, err);
    if (status < 0)
        return status;
    size_t drawn = 0;
    if (sampler->settings.temperature > 0.0f) {
        drawn = candidates_draw(&sampler->set, total, random_unit(&sampler->random));
        if (sampler->settings.mirostat != 0)
            learn_surprise(sampler, drawn, total);
    }
    *id = key_id(sampler->set.keys[drawn]);
    sampler_history_push(&sampler->history, *id);
    return 0;
}

int sampler_distribution(struct hearth_sampler *sampler, const float *logits,
                         struct sampler_choice *choices, size_t capacity, size_t *count,
                         struct hearth_error *err)
{
    struct random random = sampler->random;
    double total;
    int status = narrow(sampler, logits, &total, err);
    sampler->random = random;
    if (status < 0)
        return status;
    *count = sampler->set.count;
    for (size_t i = 0; i < sampler->set.count && i < capacity; i++)
        choices[i] =
            (struct sampler_choice){key_id(sampler->set.keys[i]), sampler->set.weights[i] / total};
    return 0;
}
