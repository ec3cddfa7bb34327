#include "infer/sampler_history.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

#define FIRST_CAPACITY 256

void sampler_history_init(struct history *history, size_t keep, size_t count_last)
{
    assert(count_last <= keep);
    *history = (struct history){.keep = keep, .count_last = count_last};
}

void sampler_history_finish(struct history *history)
{
    mem_free(history->ids);
    mem_free(history->table);
    sampler_history_init(history, 0, 0);
}

/* The slot of an id, or the free one where it would go. */
static struct history_entry *slot_of(struct history_entry *table, size_t slots, uint32_t id)
{
    uint32_t hash = id * 0x9e3779b1u;
    size_t at = (hash ^ hash >> 16) & (slots - 1);
    while (table[at].used && table[at].id != id)
        at = (at + 1) & (slots - 1);
    return &table[at];
}

struct history_entry *sampler_history_find(const struct history *history, uint32_t id)
{
    if (history->slots == 0)
        return NULL;
    struct history_entry *entry = slot_of(history->table, history->slots, id);
    return entry->used && entry->held > 0 ? entry : NULL;
}

/* A table with room for one more id. Tokens that left the window stay in it until it is half full;
 * they are dropped here, so that its size follows the window. */
static bool reserve_slot(struct history *history)
{
    if (history->slots > 0 && history->slots_used + 1 <= history->slots / 2)
        return true;
    size_t live = 0;
    for (size_t i = 0; i < history->slots; i++)
        live += history->table[i].used && history->table[i].held > 0;
    size_t slots = FIRST_CAPACITY;
    while (slots / 4 < live + 1)
        slots *= 2;
    struct history_entry *table = mem_zalloc_array(slots, sizeof *table);
    if (!table)
        return false;
    for (size_t i = 0; i < history->slots; i++) {
        const struct history_entry *old = &history->table[i];
        if (old->used && old->held > 0)
            *slot_of(table, slots, old->id) = *old;
    }
    mem_free(history->table);
    history->table = table;
    history->slots = slots;
    history->slots_used = live;
    return true;
}

static bool reserve_id(struct history *history)
{
    if (history->count < history->capacity)
        return true;
    bool large_enough = history->keep <= history->capacity / 2;
    if (large_enough) /* the window moves to the front at the next push */
        return true;
    size_t capacity = history->capacity == 0 ? FIRST_CAPACITY : history->capacity * 2;
    uint32_t *ids = mem_realloc_array(history->ids, capacity, sizeof *ids);
    if (!ids)
        return false;
    history->ids = ids;
    history->capacity = capacity;
    return true;
}

bool sampler_history_reserve(struct history *history)
{
    return history->keep == 0 || (reserve_id(history) && reserve_slot(history));
}

static void leave(struct history *history, size_t back, bool window)
{
    if (history->count <= back)
        return;
    struct history_entry *entry =
        slot_of(history->table, history->slots, sampler_history_at(history, back));
    assert(entry->used && entry->held > 0);
    if (window)
        entry->held--;
    else
        entry->counted--;
}

void sampler_history_push(struct history *history, uint32_t id)
{
    if (history->keep == 0)
        return;
    if (history->count_last > 0)
        leave(history, history->count_last - 1, false);
    leave(history, history->keep - 1, true);
    if (history->count == history->capacity) {
        size_t kept = history->keep - 1;
        memmove(history->ids, history->ids + history->count - kept, kept * sizeof *history->ids);
        history->count = kept;
    }
    assert(history->count < history->capacity);
    history->ids[history->count++] = id;
    struct history_entry *entry = slot_of(history->table, history->slots, id);
    if (!entry->used) {
        *entry = (struct history_entry){.id = id, .used = true};
        history->slots_used++;
    }
    entry->held++;
    entry->counted += history->count_last > 0;
}
