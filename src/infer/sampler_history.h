/* The tokens that stand in a text, as far back as penalties look, and how often each occurs.
 *
 * A window over the last `keep` tokens and a hash table of the distinct tokens in it. Pushing costs
 * constant time on average; memory grows with what the window holds. */
#ifndef INFER_SAMPLER_HISTORY_H
#define INFER_SAMPLER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history_entry {
    uint32_t id;
    uint32_t held;    /* occurrences in the window; a slot that is `used` may have none left */
    uint32_t counted; /* occurrences among the last `count_last` tokens */
    uint32_t repeat;  /* scratch of the DRY penalty; 0 between samples */
    bool used;
};

struct history {
    uint32_t *ids; /* the last min(count, keep) are the window */
    size_t count, capacity, keep;
    size_t count_last; /* at most keep */
    struct history_entry *table;
    size_t slots, slots_used; /* slots: 0 or a power of two */
};

/* `keep` 0: nothing is remembered. */
void sampler_history_init(struct history *history, size_t keep, size_t count_last);
void sampler_history_finish(struct history *history);

/* Makes sure that the next push cannot fail; false without memory, and nothing has changed then. */
bool sampler_history_reserve(struct history *history);
void sampler_history_push(struct history *history, uint32_t id);

static inline size_t sampler_history_length(const struct history *history)
{
    return history->count < history->keep ? history->count : history->keep;
}
/* The token `back` places from the end; 0 is the last one. */
static inline uint32_t sampler_history_at(const struct history *history, size_t back)
{
    return history->ids[history->count - 1 - back];
}
/* NULL for a token that is not in the window. */
struct history_entry *sampler_history_find(const struct history *history, uint32_t id);

#endif
