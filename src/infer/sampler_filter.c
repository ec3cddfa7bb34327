#include "infer/sampler_filter.h"

#include <assert.h>
#include <math.h>

#include "infer/sampler_keys.h"
#include "infer/sampler_math.h"

#define LN2 0x1.62e42fefa39efp-1

static uint64_t best_key(const struct candidates *set)
{
    return set->sorted ? set->keys[0] : keys_max(set->keys, set->count);
}

uint32_t candidates_best(const struct candidates *set)
{
    return key_id(best_key(set));
}

double candidates_weigh(struct candidates *set, double temperature)
{
    assert(set->count > 0 && temperature > 0);
    double best = (double)key_logit(best_key(set));
    for (size_t i = 0; i < set->count; i++)
        set->weights[i] = ((double)key_logit(set->keys[i]) - best) / temperature;
    for (size_t i = 0; i < set->count; i++) /* apart, so that a compiler makes vectors of it */
        set->weights[i] = sampler_exp(set->weights[i]);
    double total = 0;
    for (size_t i = 0; i < set->count; i++)
        total += set->weights[i];
    return total;
}

size_t candidates_draw(const struct candidates *set, double total, double unit)
{
    /* unit <= 1 - 2^-53 makes the target smaller than the total, also after rounding, and the
     * running sum ends with exactly the total: some weight passes the target. */
    double target = total * unit;
    double sum = 0;
    for (size_t i = 0; i < set->count; i++) {
        sum += set->weights[i];
        if (sum > target)
            return i;
    }
    assert(false);
    return 0;
}

/* Sorts keys from *sorted on, in pieces that grow: a filter mostly needs the first few only, and
 * with growing pieces the whole stays n log n. */
static void sort_more(struct candidates *set, size_t *sorted)
{
    size_t left = set->count - *sorted;
    size_t piece = *sorted == 0 ? 256 : *sorted * 3;
    if (piece > left)
        piece = left;
    keys_select(set->keys + *sorted, left, piece);
    keys_sort(set->keys + *sorted, piece);
    *sorted += piece;
}

void filter_top_p(struct candidates *set, double p, size_t min_keep)
{
    double target = p * candidates_weigh(set, 1.0);
    double best = (double)key_logit(best_key(set));
    size_t sorted = set->sorted ? set->count : 0;
    double sum = 0;
    size_t kept = 0;
    while (kept < set->count) {
        if (kept == sorted)
            sort_more(set, &sorted);
        sum += sampler_exp((double)key_logit(set->keys[kept++]) - best);
        if (sum >= target && kept >= min_keep)
            break;
    }
    set->count = kept;
    set->sorted = true;
}

void filter_min_p(struct candidates *set, double p, size_t min_keep)
{
    assert(p > 0);
    double floor = (double)key_logit(best_key(set)) + sampler_log(p);
    size_t reaching = 0;
    for (size_t i = 0; i < set->count; i++)
        reaching += (double)key_logit(set->keys[i]) >= floor;
    size_t kept = reaching > min_keep ? reaching : min_keep;
    if (kept >= set->count)
        return;
    size_t reached = 0;
    if (kept == reaching && !set->sorted) {
        for (size_t i = 0; i < set->count; i++) {
            if ((double)key_logit(set->keys[i]) >= floor)
                set->keys[reached++] = set->keys[i];
        }
    } else if (!set->sorted) {
        keys_select(set->keys, set->count, kept);
        keys_sort(set->keys, kept);
        set->sorted = true;
    }
    set->count = kept;
}

void filter_typical(struct candidates *set, double p, size_t min_keep)
{
    /* With d = logit - best, -log(probability) = log(total) - d and the entropy is log(total) - the
     * mean of d: what is compared, |-log(probability) - entropy|, is |mean - d|. */
    double total = candidates_weigh(set, 1.0);
    double best = (double)key_logit(best_key(set));
    double mean = 0;
    for (size_t i = 0; i < set->count; i++)
        mean += set->weights[i] * ((double)key_logit(set->keys[i]) - best);
    mean /= total;

    /* Ordered by distance, then by place: keys again, the smallest distance as the largest key. */
    struct candidates order = {.keys = set->spare, .count = set->count};
    for (size_t i = 0; i < set->count; i++) {
        double distance = fabs(mean - ((double)key_logit(set->keys[i]) - best));
        float rounded = distance < (double)FLT_MAX ? (float)distance : FLT_MAX;
        order.keys[i] = key_of(-rounded, (uint32_t)i);
    }
    size_t sorted = 0, kept = 0;
    double sum = 0;
    while (kept < set->count) {
        if (kept == sorted)
            sort_more(&order, &sorted);
        uint32_t at = key_id(order.keys[kept++]);
        sum += set->weights[at];
        if (sum > p * total && kept >= min_keep)
            break;
    }
    for (size_t i = 0; i < kept; i++)
        order.keys[i] = set->keys[key_id(order.keys[i])];
    set->spare = set->keys;
    set->keys = order.keys;
    set->count = kept;
    set->sorted = false;
}

void filter_xtc(struct candidates *set, double threshold, size_t min_keep)
{
    double floor = threshold * candidates_weigh(set, 1.0);
    uint64_t last = UINT64_MAX;
    for (size_t i = 0; i < set->count; i++) {
        if (set->weights[i] >= floor && set->keys[i] < last)
            last = set->keys[i];
    }
    size_t dropped = 0;
    for (size_t i = 0; i < set->count; i++)
        dropped += set->keys[i] > last;
    if (dropped == 0 || set->count - dropped < min_keep)
        return;
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (set->keys[i] <= last)
            set->keys[kept++] = set->keys[i];
    }
    set->count = kept;
}

void filter_surprise(struct candidates *set, double mu, double temperature)
{
    double log_total = sampler_log(candidates_weigh(set, temperature));
    uint64_t best = best_key(set);
    double best_logit = (double)key_logit(best);
    size_t kept = 0;
    for (size_t i = 0; i < set->count; i++) {
        double d = ((double)key_logit(set->keys[i]) - best_logit) / temperature;
        if (log_total - d <= mu * LN2 || set->keys[i] == best)
            set->keys[kept++] = set->keys[i];
    }
    set->count = kept;
}

#define LANES 8

/* Sums of value - shift and of its square, over logits that are not -inf. Eight sums side by side,
 * always added up in the same order, so that a compiler may use vectors and nothing changes. */
static size_t sums_of(const float *logits, size_t count, double shift, double *sum, double *square)
{
    double sums[LANES] = {0}, squares[LANES] = {0};
    size_t used = 0;
    for (size_t at = 0; at < count; at += LANES) {
        size_t lanes = count - at < LANES ? count - at : LANES;
        for (size_t lane = 0; lane < lanes; lane++) {
            bool counts = logits[at + lane] > -INFINITY;
            double value = counts ? (double)logits[at + lane] - shift : 0.0;
            sums[lane] += value;
            squares[lane] += value * value;
            used += counts;
        }
    }
    *sum = 0;
    *square = 0;
    for (size_t lane = 0; lane < LANES; lane++) {
        *sum += sums[lane];
        *square += squares[lane];
    }
    return used;
}

double sigma_floor(const float *logits, size_t count, double max, double n)
{
    double sum, square;
    size_t used = sums_of(logits, count, 0.0, &sum, &square);
    assert(used > 0);
    double mean = sum / (double)used;
    sums_of(logits, count, mean, &sum, &square);
    return max - n * sqrt(square / (double)used);
}
