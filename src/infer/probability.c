/* hearth_logprobs: what the model itself says of a token, whatever is then drawn. */

#include <assert.h>
#include <math.h>

#include "hearth/hearth.h"
#include "infer/sampler_keys.h"
#include "infer/sampler_math.h"

#define TOP_MAX 64

#define LANES 4 /* sums side by side, so that one addition does not wait for the other */

static float max_of(const float *logits, uint32_t count)
{
    float max = logits[0];
    for (uint32_t i = 1; i < count; i++)
        max = logits[i] > max ? logits[i] : max;
    return max;
}

/* The logarithm of the sum of exp(logit - max). */
static double log_sum(const float *logits, uint32_t count, float max)
{
    double sums[LANES] = {0};
    uint32_t whole = count - count % LANES;
    for (uint32_t i = 0; i < whole; i += LANES) {
        for (uint32_t lane = 0; lane < LANES; lane++)
            sums[lane] += sampler_exp((double)logits[i + lane] - (double)max);
    }
    for (uint32_t i = whole; i < count; i++)
        sums[0] += sampler_exp((double)logits[i] - (double)max);
    return sampler_log((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* With an infinite logit the probability is shared by those that are: the limit of the softmax. */
static double log_of_infinite(const float *logits, uint32_t count)
{
    double infinite = 0.0;
    for (uint32_t i = 0; i < count; i++)
        infinite += logits[i] == INFINITY ? 1.0 : 0.0;
    return sampler_log(infinite);
}

struct softmax {
    float max;
    double log_sum;
};

static float logprob_of(const struct softmax *softmax, float logit)
{
    if (logit == softmax->max)
        return logit == -INFINITY ? logit : (float)-softmax->log_sum;
    if (!isfinite(softmax->max))
        return -INFINITY;
    return (float)(((double)logit - (double)softmax->max) - softmax->log_sum);
}

/* The keys of the largest logits, sorted; returns how many. */
static size_t find_top(const float *logits, uint32_t vocabulary, uint64_t *keys, size_t count)
{
    size_t found = 0;
    for (uint32_t id = 0; id < vocabulary; id++) {
        uint64_t key = key_of(logits[id], id);
        if (found == count && key < keys[count - 1])
            continue;
        size_t at = found < count ? found++ : count - 1;
        for (; at > 0 && keys[at - 1] < key; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
    return found;
}

size_t hearth_logprobs(const float *logits, uint32_t vocabulary, struct hearth_chance *chances,
                       size_t count)
{
    uint64_t keys[TOP_MAX];
    size_t top = 0;
    assert(vocabulary > 0 && count > 0 && chances[0].id < vocabulary);
    struct softmax softmax = {.max = max_of(logits, vocabulary)};
    softmax.log_sum = isfinite(softmax.max) ? log_sum(logits, vocabulary, softmax.max)
                                            : log_of_infinite(logits, vocabulary);
    chances[0].logprob = logprob_of(&softmax, logits[chances[0].id]);
    if (count > 1)
        top = find_top(logits, vocabulary, keys, count - 1 < TOP_MAX ? count - 1 : TOP_MAX);
    for (size_t i = 0; i < top; i++) {
        uint32_t id = key_id(keys[i]);
        chances[1 + i] = (struct hearth_chance){id, logprob_of(&softmax, logits[id])};
    }
    return 1 + top;
}
