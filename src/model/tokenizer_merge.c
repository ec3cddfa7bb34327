/* Merging the symbols of one word, the lowest order first.
 *
 * Short words look at all their pairs for each merge. Long ones (a line, a text without spaces, ten
 * megabytes of one letter) keep a queue of pairs. Merges come nearly always in ascending order, so
 * the queue is a radix heap: buckets of places by the highest bit in which their order differs from
 * that of the last merge, each in chunks that are read and written in sequence. It is linear where
 * a binary heap of the same ten million pairs spends seconds in cache misses. What comes below the
 * order that is being worked on (SentencePiece's vocabularies do that) goes into a small binary
 * heap that comes first. */
#include <stdlib.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

#define SHORT_WORD 48
#define BUCKETS 33
#define CHUNK_PLACES 1020

struct chunk {
    struct chunk *next;
    uint32_t count;
    uint32_t places[CHUNK_PLACES];
};

struct merge_queue {
    struct chunk *first[BUCKETS], *last[BUCKETS]; /* from 1; those of `order` are in `current` */
    struct chunk *free;
    uint32_t order;    /* of `current`; the buckets are relative to it */
    uint32_t *current; /* places with exactly that order, ascending */
    size_t current_at, current_count, current_capacity;
    uint64_t *early; /* order << 32 | place, a binary heap: orders up to `order` */
    size_t early_count, early_capacity;
    bool failed;
};

static void queue_drop_chunks(struct merge_queue *queue, struct chunk *chunk)
{
    while (chunk) {
        struct chunk *next = chunk->next;
        chunk->next = queue->free;
        queue->free = chunk;
        chunk = next;
    }
}

static void queue_clear(struct merge_queue *queue)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        queue_drop_chunks(queue, queue->first[i]);
        queue->first[i] = queue->last[i] = NULL;
    }
    queue->order = 0;
    queue->current_at = queue->current_count = queue->early_count = 0;
    queue->failed = false;
}

static void queue_destroy(struct merge_queue *queue)
{
    if (!queue)
        return;
    queue_clear(queue);
    while (queue->free) {
        struct chunk *next = queue->free->next;
        mem_free(queue->free);
        queue->free = next;
    }
    mem_free(queue->current);
    mem_free(queue->early);
    mem_free(queue);
}

static bool queue_add_chunk(struct merge_queue *queue, unsigned bucket)
{
    struct chunk *chunk = queue->free;
    if (chunk)
        queue->free = chunk->next;
    else if (!(chunk = mem_alloc(sizeof *chunk)))
        return false;
    chunk->next = NULL;
    chunk->count = 0;
    if (queue->last[bucket])
        queue->last[bucket]->next = chunk;
    else
        queue->first[bucket] = chunk;
    queue->last[bucket] = chunk;
    return true;
}

/* The bucket of an order, 1 to 32, as seen from a lower one. */
static unsigned bucket_of(uint32_t from, uint32_t order)
{
    uint32_t bits = from ^ order;
    unsigned bucket = 1;
    for (unsigned step = 16; step; step /= 2)
        if (bits >> step) {
            bits >>= step;
            bucket += step;
        }
    return bucket;
}

static void queue_put(struct merge_queue *queue, unsigned bucket, uint32_t place)
{
    struct chunk *chunk = queue->last[bucket];
    if (!chunk || chunk->count == CHUNK_PLACES) {
        if (!queue_add_chunk(queue, bucket)) {
            queue->failed = true;
            return;
        }
        chunk = queue->last[bucket];
    }
    chunk->places[chunk->count++] = place;
}

/* Room for one more in an array that doubles. */
static void *grow(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    size_t wanted = *capacity ? 2 * *capacity : 256;
    void *grown = mem_realloc_array(items, wanted, size);
    if (grown)
        *capacity = wanted;
    return grown;
}

static void early_push(struct merge_queue *queue, uint64_t entry)
{
    uint64_t *heap = grow(queue->early, queue->early_count, &queue->early_capacity, sizeof *heap);
    if (!heap) {
        queue->failed = true;
        return;
    }
    queue->early = heap;
    size_t at = queue->early_count++;
    while (at > 0 && heap[(at - 1) / 2] > entry) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

static void early_pop(struct merge_queue *queue)
{
    uint64_t *heap = queue->early, entry = heap[--queue->early_count];
    size_t count = queue->early_count, at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= entry)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
}

static void queue_push(struct merge_queue *queue, uint32_t order, size_t place)
{
    if (order <= queue->order)
        early_push(queue, (uint64_t)order << 32 | place);
    else
        queue_put(queue, bucket_of(queue->order, order), (uint32_t)place);
}

static void current_add(struct merge_queue *queue, uint32_t place)
{
    uint32_t *current = grow(queue->current, queue->current_count, &queue->current_capacity,
                             sizeof *queue->current);
    if (!current) {
        queue->failed = true;
        return;
    }
    queue->current = current;
    current[queue->current_count++] = place;
}

static int compare_places(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

static void sort_current(struct merge_queue *queue)
{
    for (size_t i = 1; i < queue->current_count; i++)
        if (queue->current[i] < queue->current[i - 1]) {
            qsort(queue->current, queue->current_count, sizeof *queue->current, compare_places);
            return;
        }
}

/* Whether a place in a bucket counts there. One whose order has changed since it was put there is
 * out of date: it was put elsewhere too, unless it still belongs into the same bucket. */
static bool belongs(uint32_t from, uint32_t order, unsigned bucket)
{
    return order > from && order != ORDER_NONE && bucket_of(from, order) == bucket;
}

static uint32_t lowest_order(const struct merge_queue *queue, unsigned bucket,
                             const uint32_t *orders)
{
    uint32_t lowest = ORDER_NONE;
    for (const struct chunk *chunk = queue->first[bucket]; chunk; chunk = chunk->next)
        for (uint32_t i = 0; i < chunk->count; i++) {
            uint32_t order = orders[chunk->places[i]];
            if (order < lowest && belongs(queue->order, order, bucket))
                lowest = order;
        }
    return lowest;
}

/* Spreads the lowest bucket that is not empty over the ones below it; those of its lowest order
 * become the current ones. Returns false when all is empty. */
static bool queue_advance(struct merge_queue *queue, const uint32_t *orders)
{
    unsigned bucket = 1;
    queue->current_at = queue->current_count = 0;
    while (bucket < BUCKETS && !queue->first[bucket])
        bucket++;
    if (bucket == BUCKETS)
        return false;
    uint32_t lowest = lowest_order(queue, bucket, orders), from = queue->order;
    struct chunk *chunk = queue->first[bucket];
    queue->first[bucket] = queue->last[bucket] = NULL;
    while (chunk) {
        for (uint32_t i = 0; i < chunk->count; i++) {
            uint32_t place = chunk->places[i], order = orders[place];
            if (order == lowest)
                current_add(queue, place);
            else if (belongs(from, order, bucket))
                queue_put(queue, bucket_of(lowest, order), place);
        }
        struct chunk *next = chunk->next;
        chunk->next = queue->free;
        queue->free = chunk;
        chunk = next;
    }
    if (lowest != ORDER_NONE)
        queue->order = lowest;
    sort_current(queue);
    return true;
}

/* The place of the lowest order, of equal ones the leftmost; false at the end or out of memory. */
static bool queue_pop(struct merge_queue *queue, const uint32_t *orders, size_t *place)
{
    while (!queue->failed) {
        uint64_t current = UINT64_MAX;
        if (queue->current_at < queue->current_count)
            current = (uint64_t)queue->order << 32 | queue->current[queue->current_at];
        uint64_t entry = current;
        if (queue->early_count && queue->early[0] <= current) {
            entry = queue->early[0];
            early_pop(queue);
        } else if (current != UINT64_MAX) {
            queue->current_at++;
        } else if (queue_advance(queue, orders)) {
            continue;
        } else {
            return false;
        }
        if (orders[(uint32_t)entry] == entry >> 32) {
            *place = (uint32_t)entry;
            return true;
        }
    }
    return false;
}

bool word_reserve(struct word *word, size_t size)
{
    word->size = 0;
    if (size <= word->capacity)
        return true;
    size_t wanted = size < 256 ? 256 : size;
    mem_free(word->slots);
    mem_free(word->orders);
    word->capacity = 0;
    word->slots = mem_alloc_array(wanted, sizeof *word->slots);
    word->orders = mem_alloc_array(wanted, sizeof *word->orders);
    if (!word->slots || !word->orders)
        return false;
    word->capacity = wanted;
    return true;
}

void word_finish(struct word *word)
{
    mem_free(word->slots);
    mem_free(word->orders);
    queue_destroy(word->queue);
    *word = (struct word){.size = 0};
}

/* The order of the pair that begins at `left`, written down and returned. */
static uint32_t reorder(struct word *word, const struct merge_rules *rules, size_t left)
{
    size_t right = left + word->slots[left].size;
    uint32_t order =
        right < word->size ? rules->order(rules->context, word, left, right) : ORDER_NONE;
    return word->orders[left] = order;
}

static size_t before(const struct word *word, size_t place)
{
    const struct slot *slot = &word->slots[place - 1];
    return slot->id == SLOT_LAST ? slot->size : place - 1;
}

static void merge_at(struct word *word, const struct merge_rules *rules, size_t left)
{
    size_t right = left + word->slots[left].size;
    size_t size = word->slots[left].size + word->slots[right].size;
    uint32_t id = rules->merged(rules->context, word->orders[left]);
    word->orders[right] = ORDER_NONE;
    word->slots[left + size - 1] = (struct slot){SLOT_LAST, (uint32_t)left};
    word->slots[left] = (struct slot){id, (uint32_t)size};
}

static void merge_short(struct word *word, const struct merge_rules *rules)
{
    for (size_t at = 0; at < word->size; at += word->slots[at].size)
        reorder(word, rules, at);
    for (;;) {
        uint32_t lowest = ORDER_NONE;
        size_t place = 0;
        for (size_t at = 0; at < word->size; at += word->slots[at].size)
            if (word->orders[at] < lowest) {
                lowest = word->orders[at];
                place = at;
            }
        if (lowest == ORDER_NONE)
            return;
        merge_at(word, rules, place);
        reorder(word, rules, place);
        if (place > 0)
            reorder(word, rules, before(word, place));
    }
}

static void push_again(struct word *word, const struct merge_rules *rules, size_t place)
{
    uint32_t order = reorder(word, rules, place);
    if (order != ORDER_NONE)
        queue_push(word->queue, order, place);
}

static bool merge_long(struct word *word, const struct merge_rules *rules)
{
    if (!word->queue && !(word->queue = MEM_NEW(struct merge_queue)))
        return false;
    queue_clear(word->queue);
    for (size_t at = 0; at < word->size; at += word->slots[at].size)
        push_again(word, rules, at);
    size_t place;
    while (queue_pop(word->queue, word->orders, &place)) {
        merge_at(word, rules, place);
        if (place > 0)
            push_again(word, rules, before(word, place));
        push_again(word, rules, place);
    }
    return !word->queue->failed;
}

bool word_merge(struct word *word, const struct merge_rules *rules)
{
    if (word->size > SHORT_WORD)
        return merge_long(word, rules);
    merge_short(word, rules);
    return true;
}
