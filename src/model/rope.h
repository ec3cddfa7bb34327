/* Rotary position embedding: the frequency of each rotated pair, and angles at a position.
 *
 * Su et al., "RoFormer", 2021. Linear scaling divides positions by a factor (position
 * interpolation, Chen et al. 2023); YaRN blends both by wavelength and raises the magnitude (Peng
 * et al. 2023); Llama 3 gives a divisor for each frequency in the tensor rope_freqs.weight. */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include <stdint.h>

#include "base/error.h"
#include "model/architecture.h"

struct rope {
    uint32_t pairs;
    float magnitude;   /* of cosines and sines */
    double *frequency; /* [pairs], radians a token */
};

/* `divisors`: pairs floats, or NULL. Window layers turn by window_base and without scaling. */
int rope_init(struct rope *rope, const struct rope_settings *settings, bool windowed,
              const float *divisors, struct hearth_error *err);
void rope_finish(struct rope *rope);

/* cosine and sine [pairs] at a position, magnitude included. */
void rope_angles(const struct rope *rope, uint32_t position, float *cosine, float *sine);

#endif
