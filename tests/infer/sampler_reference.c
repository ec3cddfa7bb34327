#include "sampler_reference.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

void reference_init(struct reference *reference, const struct hearth_sampling *settings,
                    size_t vocabulary)
{
    *reference = (struct reference){
        .settings = *settings,
        .vocabulary = vocabulary,
        .random = random_from_seed(settings->seed),
        .mu = 2.0 * (double)settings->mirostat_tau,
        .history = must(malloc(sizeof(uint32_t))),
        .choices = must(malloc(vocabulary * sizeof(struct reference_choice))),
    };
}

void reference_finish(struct reference *reference)
{
    free(reference->history);
    free(reference->choices);
}

void reference_accept(struct reference *reference, uint32_t id)
{
    size_t size = (reference->history_count + 1) * sizeof id;
    reference->history = must(realloc(reference->history, size));
    reference->history[reference->history_count++] = id;
}

static size_t window(const struct reference *reference, int32_t last_n)
{
    bool whole = last_n < 0 || (size_t)last_n > reference->history_count;
    return whole ? reference->history_count : (size_t)last_n;
}

static void penalize(const struct reference *reference, float *logits)
{
    const struct hearth_sampling *s = &reference->settings;
    size_t length = window(reference, s->penalty_last_n);
    const uint32_t *last = reference->history + reference->history_count - length;
    if (s->repeat_penalty == 1.0f && s->frequency_penalty == 0.0f && s->presence_penalty == 0.0f)
        return;
    for (uint32_t id = 0; id < reference->vocabulary; id++) {
        double count = 0;
        for (size_t i = 0; i < length; i++)
            count += last[i] == id;
        if (count == 0.0)
            continue;
        double logit = (double)logits[id];
        logit = logit > 0 ? logit / (double)s->repeat_penalty : logit * (double)s->repeat_penalty;
        logits[id] =
            (float)(logit - count * (double)s->frequency_penalty - (double)s->presence_penalty);
    }
}

/* How many tokens follow the last breaker in the window. */
static size_t behind_breaker(const struct reference *reference, const uint32_t *last, size_t length)
{
    for (size_t start = length; start-- > 0;) {
        size_t longest = 0;
        for (size_t i = 0; i < reference->breaker_count; i++) {
            const struct reference_breaker *breaker = &reference->breakers[i];
            if (start + breaker->count <= length && breaker->count > longest &&
                memcmp(last + start, breaker->ids, breaker->count * sizeof *last) == 0)
                longest = breaker->count;
        }
        if (longest > 0)
            return length - start - longest;
    }
    return length;
}

static bool is_breaker(const struct reference *reference, uint32_t id)
{
    for (size_t i = 0; i < reference->breaker_count; i++) {
        if (reference->breakers[i].count == 1 && reference->breakers[i].ids[0] == id)
            return true;
    }
    return false;
}

static void dry(const struct reference *reference, float *logits)
{
    const struct hearth_sampling *s = &reference->settings;
    size_t length = window(reference, s->dry_penalty_last_n);
    const uint32_t *last = reference->history + reference->history_count - length;
    size_t allowed = (size_t)s->dry_allowed_length;
    if (s->dry_multiplier == 0.0f || s->dry_base < 1.0f || length <= allowed)
        return;
    size_t limit = behind_breaker(reference, last, length);
    if (limit < allowed)
        return;
    for (uint32_t id = 0; id < reference->vocabulary; id++) {
        bool found = false;
        size_t longest = 0;
        for (size_t at = 1; at < length; at++) { /* how much of the text's end stands before it */
            size_t n = 0;
            while (last[at] == id && n < at && n < limit &&
                   last[at - 1 - n] == last[length - 1 - n])
                n++;
            if (last[at] == id && n >= allowed) {
                found = true;
                longest = n > longest ? n : longest;
            }
        }
        if (!found || is_breaker(reference, id))
            continue;
        double power = fmin(pow((double)s->dry_base, (double)(longest - allowed)), (double)FLT_MAX);
        logits[id] = (float)((double)logits[id] - (double)s->dry_multiplier * power);
    }
}

static int by_logit(const void *a, const void *b)
{
    const struct reference_choice *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static void softmax(struct reference *reference, double temperature)
{
    double max = -INFINITY, total = 0;
    for (size_t i = 0; i < reference->choice_count; i++)
        max = fmax(max, reference->choices[i].logit);
    for (size_t i = 0; i < reference->choice_count; i++) {
        struct reference_choice *choice = &reference->choices[i];
        choice->probability = exp((choice->logit - max) / temperature);
        total += choice->probability;
    }
    for (size_t i = 0; i < reference->choice_count; i++)
        reference->choices[i].probability /= total;
}

static void sort(struct reference *reference)
{
    qsort(reference->choices, reference->choice_count, sizeof *reference->choices, by_logit);
    softmax(reference, 1.0);
}

/* Keeps what is marked by a probability of at least 0. */
static void keep_marked(struct reference *reference)
{
    size_t kept = 0;
    for (size_t i = 0; i < reference->choice_count; i++) {
        if (reference->choices[i].probability >= 0)
            reference->choices[kept++] = reference->choices[i];
    }
    reference->choice_count = kept;
}

static void top_n_sigma(struct reference *reference)
{
    double n = (double)reference->settings.top_n_sigma;
    if (n <= 0)
        return;
    double sum = 0, squares = 0, max = -INFINITY, count = (double)reference->choice_count;
    for (size_t i = 0; i < reference->choice_count; i++) {
        sum += reference->choices[i].logit;
        max = fmax(max, reference->choices[i].logit);
    }
    for (size_t i = 0; i < reference->choice_count; i++)
        squares += pow(reference->choices[i].logit - sum / count, 2);
    double floor = max - n * sqrt(squares / count);
    for (size_t i = 0; i < reference->choice_count; i++)
        reference->choices[i].probability = reference->choices[i].logit >= floor ? 0 : -1;
    keep_marked(reference);
}

static void top_k(struct reference *reference)
{
    int32_t k = reference->settings.top_k;
    if (k <= 0 || (size_t)k >= reference->vocabulary)
        return;
    sort(reference);
    if (reference->choice_count > (size_t)k)
        reference->choice_count = (size_t)k;
}

static void typical(struct reference *reference)
{
    const struct hearth_sampling *s = &reference->settings;
    if (s->typical_p >= 1.0f)
        return;
    softmax(reference, 1.0);
    double entropy = 0;
    struct reference_choice *choices = reference->choices;
    for (size_t i = 0; i < reference->choice_count; i++) {
        if (choices[i].probability > 0)
            entropy -= choices[i].probability * log(choices[i].probability);
    }
    /* Insertion sort by distance: stable. */
    double *distance = must(malloc((reference->choice_count + 1) * sizeof *distance));
    for (size_t i = 0; i < reference->choice_count; i++) {
        struct reference_choice choice = choices[i];
        double d = (double)(float)fabs(-log(choice.probability) - entropy);
        size_t at = i;
        for (; at > 0 && distance[at - 1] > d; at--) {
            distance[at] = distance[at - 1];
            choices[at] = choices[at - 1];
        }
        distance[at] = d;
        choices[at] = choice;
    }
    free(distance);
    double sum = 0;
    for (size_t i = 0; i < reference->choice_count; i++) {
        sum += choices[i].probability;
        if (sum > (double)s->typical_p && i + 1 >= s->min_keep) {
            reference->choice_count = i + 1;
            return;
        }
    }
}

static void top_p(struct reference *reference)
{
    const struct hearth_sampling *s = &reference->settings;
    if (s->top_p >= 1.0f)
        return;
    sort(reference);
    double sum = 0;
    for (size_t i = 0; i < reference->choice_count; i++) {
        sum += reference->choices[i].probability;
        if (sum >= (double)s->top_p && i + 1 >= s->min_keep) {
            reference->choice_count = i + 1;
            break;
        }
    }
}

static void min_p(struct reference *reference)
{
    const struct hearth_sampling *s = &reference->settings;
    size_t count = reference->choice_count;
    if (s->min_p <= 0.0f)
        return;
    softmax(reference, 1.0);
    double max = 0;
    size_t reaching = 0;
    for (size_t i = 0; i < count; i++)
        max = fmax(max, reference->choices[i].probability);
    for (size_t i = 0; i < count; i++)
        reaching += reference->choices[i].probability >= (double)s->min_p * max;
    if (reaching >= s->min_keep) {
        for (size_t i = 0; i < count; i++) {
            if (reference->choices[i].probability < (double)s->min_p * max)
                reference->choices[i].probability = -1;
        }
        keep_marked(reference);
    } else if (s->min_keep < count) {
        sort(reference);
        reference->choice_count = s->min_keep;
    }
}

static void xtc(struct reference *reference)
{
    const struct hearth_sampling *s = &reference->settings;
    if (s->xtc_probability <= 0.0f || s->xtc_threshold > 0.5f || reference->choice_count < 2 ||
        random_unit(&reference->random) >= (double)s->xtc_probability)
        return;
    size_t size = reference->choice_count * sizeof *reference->choices;
    struct reference_choice *sorted = must(malloc(size));
    softmax(reference, 1.0);
    memcpy(sorted, reference->choices, size);
    qsort(sorted, reference->choice_count, sizeof *sorted, by_logit);
    size_t last = 0;
    for (size_t i = 0; i < reference->choice_count; i++) {
        if (sorted[i].probability >= (double)s->xtc_threshold)
            last = i;
    }
    if (reference->choice_count - last >= s->min_keep) {
        for (size_t i = 0; i < reference->choice_count; i++) {
            if (by_logit(&reference->choices[i], &sorted[last]) < 0)
                reference->choices[i].probability = -1;
        }
        keep_marked(reference);
    }
    free(sorted);
}

static void surprise(struct reference *reference)
{
    softmax(reference, (double)reference->settings.temperature);
    struct reference_choice best = reference->choices[0];
    for (size_t i = 0; i < reference->choice_count; i++) {
        if (by_logit(&reference->choices[i], &best) < 0)
            best = reference->choices[i];
    }
    for (size_t i = 0; i < reference->choice_count; i++) {
        struct reference_choice *choice = &reference->choices[i];
        if (-log2(choice->probability) > reference->mu && choice->id != best.id)
            choice->probability = -1;
    }
    keep_marked(reference);
}

static void collect(struct reference *reference, const float *given)
{
    size_t size = reference->vocabulary * sizeof *given;
    float *logits = must(malloc(size));
    memcpy(logits, given, size);
    for (size_t i = 0; i < reference->settings.bias_count; i++)
        logits[reference->settings.bias[i].id] += reference->settings.bias[i].bias;
    penalize(reference, logits);
    dry(reference, logits);
    reference->choice_count = 0;
    for (uint32_t id = 0; id < reference->vocabulary; id++) {
        if (logits[id] > -INFINITY)
            reference->choices[reference->choice_count++] =
                (struct reference_choice){id, (double)logits[id], 0};
    }
    free(logits);
}

static void narrow(struct reference *reference)
{
    if (reference->settings.mirostat == 2 && reference->settings.temperature > 0.0f)
        surprise(reference);
    if (reference->settings.mirostat == 2)
        return;
    top_n_sigma(reference);
    top_k(reference);
    typical(reference);
    top_p(reference);
    min_p(reference);
    xtc(reference);
}

uint32_t reference_sample(struct reference *reference, const float *logits)
{
    const struct hearth_sampling *s = &reference->settings;
    collect(reference, logits);
    narrow(reference);
    size_t drawn = 0;
    if (s->temperature <= 0.0f) {
        qsort(reference->choices, reference->choice_count, sizeof *reference->choices, by_logit);
        reference->choice_count = 1;
        reference->choices[0].probability = 1;
    } else {
        softmax(reference, (double)s->temperature);
        double left = random_unit(&reference->random);
        while (drawn + 1 < reference->choice_count && left >= reference->choices[drawn].probability)
            left -= reference->choices[drawn++].probability;
    }
    double bits = -log2(reference->choices[drawn].probability);
    reference->mu -= (double)s->mirostat_eta * (bits - (double)s->mirostat_tau);
    uint32_t id = reference->choices[drawn].id;
    reference_accept(reference, id);
    return id;
}
