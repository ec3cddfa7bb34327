/* Which model holds which conversation in memory: a hash table whose entries form a list by last
 * use. */
#include <string.h>

#include "base/memory.h"
#include "server/models_parts.h"

#define HOLDERS_BUCKETS 4096
/* Beyond so many the one that was not asked for the longest is forgotten: its worker has long put
 * it to rest, and the store's record of it is what counts. */
#define HOLDERS_MAX 32768

struct holder {
    struct holder *next_in_bucket, *previous, *next;
    struct model *model;
    size_t size;
    char key[];
};

struct model_holders {
    struct holder *buckets[HOLDERS_BUCKETS];
    struct holder *first, *last; /* the latest first */
    size_t count;
};

struct model_holders *model_holders_create(void)
{
    return MEM_NEW(struct model_holders);
}

static struct holder **bucket_of(struct model_holders *holders, struct text key)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ (unsigned char)key.data[i]) * UINT64_C(0x100000001b3);
    return &holders->buckets[(hash ^ hash >> 32) % HOLDERS_BUCKETS];
}

static struct text key_of(const struct holder *holder)
{
    return (struct text){holder->key, holder->size};
}

static struct holder *find(struct model_holders *holders, struct text key)
{
    struct holder *holder = *bucket_of(holders, key);
    while (holder && !text_equal(key_of(holder), key))
        holder = holder->next_in_bucket;
    return holder;
}

static void take_out(struct model_holders *holders, struct holder *holder)
{
    *(holder->previous ? &holder->previous->next : &holders->first) = holder->next;
    *(holder->next ? &holder->next->previous : &holders->last) = holder->previous;
}

static void put_first(struct model_holders *holders, struct holder *holder)
{
    holder->previous = NULL;
    holder->next = holders->first;
    *(holders->first ? &holders->first->previous : &holders->last) = holder;
    holders->first = holder;
}

static void forget(struct model_holders *holders, struct holder *holder)
{
    struct holder **at = bucket_of(holders, key_of(holder));
    while (*at != holder)
        at = &(*at)->next_in_bucket;
    *at = holder->next_in_bucket;
    take_out(holders, holder);
    holders->count--;
    mem_free(holder);
}

void model_holders_destroy(struct model_holders *holders)
{
    if (!holders)
        return;
    while (holders->first)
        forget(holders, holders->first);
    mem_free(holders);
}

void model_holders_clear(struct model_holders *holders, const struct model *model)
{
    struct holder *holder = holders->first;
    while (holder) {
        struct holder *next = holder->next;
        if (holder->model == model)
            forget(holders, holder);
        holder = next;
    }
}

struct model *models_session_holder(struct models *models, struct text key)
{
    struct holder *holder = find(models->holders, key);
    return holder ? holder->model : NULL;
}

/* Without memory it is not remembered: then the store decides between two that go on with it. */
static void remember(struct model_holders *holders, struct text key, struct model *by)
{
    struct holder *holder = mem_alloc(sizeof *holder + key.size);
    struct holder **bucket = bucket_of(holders, key);
    if (!holder)
        return;
    *holder = (struct holder){.next_in_bucket = *bucket, .model = by, .size = key.size};
    memcpy(holder->key, key.data, key.size);
    *bucket = holder;
    put_first(holders, holder);
    if (++holders->count > HOLDERS_MAX)
        forget(holders, holders->last);
}

void models_session_held(struct models *models, struct text key, struct model *by)
{
    struct model_holders *holders = models->holders;
    struct holder *holder = find(holders, key);
    if (!holder && by) {
        remember(holders, key, by);
    } else if (holder && by) {
        holder->model = by;
        take_out(holders, holder);
        put_first(holders, holder);
    } else if (holder) {
        forget(holders, holder);
    }
}
