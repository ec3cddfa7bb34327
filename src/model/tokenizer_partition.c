/* Finding special tokens in a text.
 *
 * llama.cpp goes through the tokens, the longest first, and cuts what text is left at each one's
 * occurrences from left to right: time in the product of tokens and text. The same result comes
 * from one pass that notes the longest token at each place, then takes these in the order of rank
 * and place. One whose end is taken already is tried again with the next shorter that fits; the
 * room halves each time. What is taken is never shorter than what comes later, so that an overlap
 * shows at the first or the last byte. */
#include <string.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

#define NOT_TAKEN UINT32_MAX

struct place {
    uint32_t at, item; /* item: of specials->items; NOT_TAKEN once it is given up */
};

struct search {
    const struct specials *specials;
    const struct vocab *vocab;
    struct text text;
    bool parse_special;
    struct place *places; /* ascending */
    size_t count, capacity;
    uint32_t *order; /* indexes of places, by rank and place */
    uint64_t *again; /* rank << 32 | index of a place, a binary heap */
    size_t again_count, again_capacity;
    unsigned char *taken; /* of each byte */
};

static unsigned char byte_of(const struct specials *specials, uint32_t item, size_t at)
{
    return (unsigned char)specials->items[item].text.data[at];
}

/* The first item of low … high, which agree in `depth` bytes and are longer, whose next byte is not
 * below `byte`. */
static uint32_t lower_bound(const struct specials *specials, uint32_t low, uint32_t high,
                            size_t depth, unsigned byte)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (byte_of(specials, middle, depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest special token of at most `room` bytes that stands at `at`. */
static uint32_t longest_at(const struct search *search, const char *at, size_t room)
{
    const struct specials *specials = search->specials;
    unsigned char byte = (unsigned char)*at;
    uint32_t low = specials->first[byte], high = specials->first[byte + 1], found = NOT_TAKEN;
    for (size_t depth = 1; low < high; depth++) {
        const struct special *special = &specials->items[low];
        if (special->text.size == depth) {
            if (search->parse_special ||
                !(search->vocab->attrs[special->id] & (ATTR_CONTROL | ATTR_UNKNOWN)))
                found = low;
            low++;
        }
        if (depth == room || low == high)
            break;
        byte = (unsigned char)at[depth];
        if (byte_of(specials, low, depth) != byte)
            low = lower_bound(specials, low, high, depth, byte);
        if (low < high && byte_of(specials, high - 1, depth) != byte)
            high = lower_bound(specials, low, high, depth, byte + 1u);
    }
    return found;
}

static bool add_place(struct search *search, size_t at, uint32_t item)
{
    if (search->count == search->capacity) {
        size_t capacity = search->capacity ? 2 * search->capacity : 64;
        struct place *places = mem_realloc_array(search->places, capacity, sizeof *places);
        if (!places)
            return false;
        search->places = places;
        search->capacity = capacity;
    }
    search->places[search->count++] = (struct place){(uint32_t)at, item};
    return true;
}

static bool find_places(struct search *search)
{
    const bool *begins = search->specials->begins[search->parse_special];
    struct text text = search->text;
    for (size_t at = 0; at < text.size; at++) {
        if (!begins[(unsigned char)text.data[at]])
            continue;
        uint32_t item = longest_at(search, text.data + at, text.size - at);
        if (item != NOT_TAKEN && !add_place(search, at, item))
            return false;
    }
    return true;
}

/* A counting sort: places are in order within a rank. */
static bool sort_places(struct search *search)
{
    const struct special *items = search->specials->items;
    uint32_t ranks = search->specials->count;
    uint32_t *begin = mem_zalloc_array((size_t)ranks + 1, sizeof *begin);
    search->order = mem_alloc_array(search->count, sizeof *search->order);
    bool ok = begin && search->order;
    if (ok) {
        for (size_t i = 0; i < search->count; i++)
            begin[items[search->places[i].item].rank + 1]++;
        for (uint32_t rank = 0; rank < ranks; rank++)
            begin[rank + 1] += begin[rank];
        for (size_t i = 0; i < search->count; i++)
            search->order[begin[items[search->places[i].item].rank]++] = (uint32_t)i;
    }
    mem_free(begin);
    return ok;
}

static bool again_push(struct search *search, uint64_t entry)
{
    if (search->again_count == search->again_capacity) {
        size_t capacity = search->again_capacity ? 2 * search->again_capacity : 64;
        uint64_t *again = mem_realloc_array(search->again, capacity, sizeof *again);
        if (!again)
            return false;
        search->again = again;
        search->again_capacity = capacity;
    }
    uint64_t *heap = search->again;
    size_t at = search->again_count++;
    for (; at > 0 && heap[(at - 1) / 2] > entry; at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = entry;
    return true;
}

static uint64_t again_pop(struct search *search)
{
    uint64_t *heap = search->again, first = heap[0], entry = heap[--search->again_count];
    size_t count = search->again_count, at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= entry)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = entry;
    return first;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void take(struct search *search, size_t at, const struct special *special)
{
    unsigned attrs = search->vocab->attrs[special->id];
    size_t end = at + special->text.size;
    memset(search->taken + at, 1, special->text.size);
    if (attrs & ATTR_LSTRIP)
        while (at > 0 && !search->taken[at - 1] && is_space(search->text.data[at - 1]))
            search->taken[--at] = 1;
    if (attrs & ATTR_RSTRIP)
        while (end < search->text.size && !search->taken[end] && is_space(search->text.data[end]))
            search->taken[end++] = 1;
}

static bool try_place(struct search *search, uint32_t index)
{
    struct place *place = &search->places[index];
    const struct special *special = &search->specials->items[place->item];
    const unsigned char *taken = search->taken + place->at;
    if (taken[0]) {
        place->item = NOT_TAKEN;
    } else if (!taken[special->text.size - 1]) {
        take(search, place->at, special);
    } else {
        const unsigned char *next = memchr(taken, 1, special->text.size);
        size_t room = next ? (size_t)(next - taken) : special->text.size;
        place->item = longest_at(search, search->text.data + place->at, room);
        if (place->item != NOT_TAKEN)
            return again_push(search,
                              (uint64_t)search->specials->items[place->item].rank << 32 | index);
    }
    return true;
}

static bool resolve(struct search *search)
{
    size_t next = 0;
    while (next < search->count || search->again_count) {
        uint64_t entry = UINT64_MAX;
        if (next < search->count) {
            uint32_t index = search->order[next];
            entry =
                (uint64_t)search->specials->items[search->places[index].item].rank << 32 | index;
        }
        if (search->again_count && search->again[0] < entry)
            entry = again_pop(search);
        else
            next++;
        if (!try_place(search, (uint32_t)entry))
            return false;
    }
    return true;
}

/* The text between two special tokens, or beside one, without what they strip. */
static struct text between(const struct search *search, size_t begin, size_t end, unsigned left,
                           unsigned right)
{
    const char *data = search->text.data;
    while (begin < end && (left & ATTR_RSTRIP) && is_space(data[begin]))
        begin++;
    while (begin < end && (right & ATTR_LSTRIP) && is_space(data[end - 1]))
        end--;
    return (struct text){data + begin, end - begin};
}

static int emit(const struct search *search,
                int (*take_fragment)(void *context, struct fragment fragment,
                                     struct hearth_error *err),
                void *context, struct hearth_error *err)
{
    size_t at = 0;
    unsigned left = 0;
    int status = 0;
    for (size_t i = 0; i <= search->count && !status; i++) {
        const struct special *special = NULL;
        size_t end = search->text.size;
        if (i < search->count) {
            if (search->places[i].item == NOT_TAKEN)
                continue;
            special = &search->specials->items[search->places[i].item];
            end = search->places[i].at;
        }
        unsigned right = special ? search->vocab->attrs[special->id] : 0;
        struct text text = between(search, at, end, left, right);
        if (text.size)
            status = take_fragment(context, (struct fragment){text, TOKEN_NONE}, err);
        if (!status && special)
            status = take_fragment(context, (struct fragment){{NULL, 0}, special->id}, err);
        if (special)
            at = end + special->text.size;
        left = right;
    }
    return status;
}

int specials_partition(const struct specials *specials, const struct vocab *vocab, struct text text,
                       bool parse_special,
                       int (*take_fragment)(void *context, struct fragment fragment,
                                            struct hearth_error *err),
                       void *context, struct hearth_error *err)
{
    struct search search = {
        .specials = specials, .vocab = vocab, .text = text, .parse_special = parse_special};
    bool ok = find_places(&search);
    if (ok && search.count) {
        search.taken = mem_zalloc_array(text.size, 1);
        ok = search.taken && sort_places(&search) && resolve(&search);
    }
    int status = ok ? emit(&search, take_fragment, context, err) : out_of_memory(err);
    mem_free(search.places);
    mem_free(search.order);
    mem_free(search.again);
    mem_free(search.taken);
    return status;
}
