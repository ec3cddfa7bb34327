#include "cli/scoring.h"

#include <math.h>
#include <stdlib.h>

#include "cli/logits_file.h"

#define LANES 4 /* sums side by side, so that one addition does not wait for the other */

/* Terms whose probability is below e^-16 are left out of a divergence, as the peer does: the 16
 * bits of a saved logit reach no further down. */
#define LEAST_LOG_PROBABILITY (-16.0f)

int row_score(const float *logits, uint32_t vocabulary, struct row_score *out,
              struct hearth_error *err)
{
    struct row_score row = {.logits = logits, .vocabulary = vocabulary, .highest = logits[0]};
    double sums[LANES] = {0};
    for (uint32_t i = 1; i < vocabulary; i++) {
        if (logits[i] > row.highest) {
            row.highest = logits[i];
            row.best = i;
        }
    }
    uint32_t whole = vocabulary - vocabulary % LANES;
    for (uint32_t i = 0; i < whole; i += LANES) {
        for (uint32_t lane = 0; lane < LANES; lane++)
            sums[lane] += (double)expf(logits[i + lane] - row.highest);
    }
    for (uint32_t i = whole; i < vocabulary; i++)
        sums[0] += (double)expf(logits[i] - row.highest);
    row.log_sum_exp = log((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (!isfinite(row.log_sum_exp) || !isfinite(row.highest))
        return error_set(err, HEARTH_E_NUMERIC, "the model computed logits that are no numbers");
    *out = row;
    return 0;
}

double row_surprise(const struct row_score *row, uint32_t id)
{
    return (double)(row->highest - row->logits[id]) + row->log_sum_exp;
}

void sums_add(struct sums *sums, double value)
{
    sums->sum += value;
    sums->squares += value * value;
    sums->count++;
}

struct estimate sums_estimate(const struct sums *sums)
{
    struct estimate estimate = {0};
    if (sums->count == 0)
        return estimate;
    double count = (double)sums->count;
    estimate.mean = sums->sum / count;
    double variance = sums->squares / count - estimate.mean * estimate.mean;
    if (variance > 0 && sums->count > 1)
        estimate.error = sqrt(variance / (count - 1));
    return estimate;
}

struct estimate perplexity_estimate(const struct sums *surprises)
{
    struct estimate estimate = sums_estimate(surprises);
    double perplexity = exp(estimate.mean);
    return (struct estimate){perplexity, perplexity * estimate.error};
}

/* ---- divergence ---- */

static double row_divergence(const struct row_score *row, const struct base_row *base,
                             uint32_t *best)
{
    float shift = row->highest + (float)row->log_sum_exp, highest = 0;
    double sum = 0;
    for (uint32_t i = 0; i < row->vocabulary; i++) {
        float log_base = base->scale * (float)logits_file_level(base->levels, i) + base->lowest;
        if (i == 0 || log_base > highest) {
            highest = log_base;
            *best = i;
        }
        if (log_base > LEAST_LOG_PROBABILITY)
            sum += (double)(expf(log_base) * (log_base - row->logits[i] + shift));
    }
    return sum;
}

int divergence_add(struct divergence *divergence, const struct row_score *row,
                   const struct base_row *base, uint32_t id, struct hearth_error *err)
{
    uint32_t best = 0;
    if (!isfinite(base->scale) || !isfinite(base->lowest) || base->scale < 0)
        return error_set(err, HEARTH_E_FORMAT, "the file of logits has a row that is no numbers");
    double value = row_divergence(row, base, &best);
    double surprise = row_surprise(row, id);
    double base_surprise =
        -(double)(base->scale * (float)logits_file_level(base->levels, id) + base->lowest);
    double difference = exp(-surprise) - exp(-base_surprise);
    if (!isfinite(value) || !isfinite(difference))
        return error_set(err, HEARTH_E_FORMAT, "the file of logits has a row that is no numbers");
    divergence->values[divergence->kl.count] = (float)value;
    sums_add(&divergence->kl, value);
    sums_add(&divergence->model, surprise);
    sums_add(&divergence->base, base_surprise);
    divergence->probability_squares += difference * difference;
    divergence->same_best += best == row->best;
    return 0;
}

static int by_value(const void *a, const void *b)
{
    float left = *(const float *)a, right = *(const float *)b;
    return left < right ? -1 : left > right;
}

void sort_values(float *values, size_t count)
{
    qsort(values, count, sizeof *values, by_value);
}

double quantile(const float *sorted, size_t count, double fraction)
{
    double place = fraction * (double)(count - 1);
    size_t below = (size_t)place;
    size_t above = below + 1 < count ? below + 1 : below;
    double part = place - (double)below;
    return (1.0 - part) * (double)sorted[below] + part * (double)sorted[above];
}
