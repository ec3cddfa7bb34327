/* Whether a client's copy of a message is the one that is held. Who sends a whole history each time
 * writes answers a little otherwise than they were: without their reasoning, without spaces at the
 * ends, with empty fields. The held one, whose tokens are known, then stays in its place. */
#ifndef WORKER_ALIKE_H
#define WORKER_ALIKE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/sum.h"

bool alike(const json_t *held, const json_t *sent);
/* How many messages at the beginning of two arrays are alike. */
size_t alike_count(const json_t *held, const json_t *sent);
/* The first `count` that are held, then what was sent behind them; NULL without memory. */
json_t *alike_merge(const json_t *held, size_t count, const json_t *sent);

/* To be compared without the messages: `sent` is like what was held where the sum of its whole is
 * either one of the held one's. (It may be another one all the same: alike says it.) */
struct alike_sums {
    unsigned char whole[SUM_BYTES], visible[SUM_BYTES];
};
bool alike_sums(const json_t *message, struct alike_sums *out); /* false without memory */
bool alike_by_sums(const struct alike_sums *held, const struct alike_sums *sent);

#endif
