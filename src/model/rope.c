#include "model/rope.h"

#include <math.h>

#include "base/memory.h"

static const double pi = 3.14159265358979323846;

/* The pair whose wavelength makes `turns` turns within the original context. */
static double pair_of_turns(const struct rope_settings *settings, double base, double turns)
{
    return settings->dimensions * log(settings->original_context / (turns * 2.0 * pi)) /
           (2.0 * log(base));
}

/* How much of a pair's own frequency YaRN keeps: 1 for fast pairs, 0 for slow ones. */
static double yarn_keep(const struct rope_settings *settings, double base, uint32_t pair)
{
    double low = floor(pair_of_turns(settings, base, settings->yarn_beta_fast));
    double high = ceil(pair_of_turns(settings, base, settings->yarn_beta_slow));
    low = fmax(low, 0.0);
    high = fmin(high, settings->dimensions - 1.0);
    double ramp = (pair - low) / fmax(0.001, high - low);
    return 1.0 - fmin(1.0, fmax(0.0, ramp));
}

int rope_init(struct rope *rope, const struct rope_settings *settings, bool windowed,
              const float *divisors, struct hearth_error *err)
{
    uint32_t pairs = settings->dimensions / 2;
    double *frequency = mem_alloc_array(pairs, sizeof *frequency);
    if (!frequency)
        return error_set(err, HEARTH_E_MEMORY, "no memory for rope frequencies");
    double base = windowed ? settings->window_base : settings->base;
    enum rope_scaling scaling = windowed ? ROPE_SCALING_NONE : settings->scaling;
    for (uint32_t i = 0; i < pairs; i++) {
        double own = pow(base, -2.0 * i / settings->dimensions) / (divisors ? divisors[i] : 1.0f);
        double keep = scaling == ROPE_SCALING_NONE   ? 1.0
                      : scaling == ROPE_SCALING_YARN ? yarn_keep(settings, base, i)
                                                     : 0.0;
        frequency[i] = own * (keep + (1.0 - keep) / settings->factor);
    }
    double magnitude = settings->attention_factor;
    if (scaling == ROPE_SCALING_YARN && settings->factor > 1.0f)
        magnitude *= 0.1 * log(settings->factor) + 1.0;
    *rope = (struct rope){pairs, (float)magnitude, frequency};
    return 0;
}

void rope_finish(struct rope *rope)
{
    mem_free(rope->frequency);
    *rope = (struct rope){0};
}

void rope_angles(const struct rope *rope, uint32_t position, float *cosine, float *sine)
{
    for (uint32_t i = 0; i < rope->pairs; i++) {
        double angle = position * rope->frequency[i];
        cosine[i] = (float)(cos(angle) * rope->magnitude);
        sine[i] = (float)(sin(angle) * rope->magnitude);
    }
}
