#include "infer/sampler_dry.h"

#include <assert.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "infer/sampler_math.h"

/* ---- breakers: strings become tokens, once ---- */

/* The tokens of a breaker behind its first `size` bytes; many heads share them. */
struct breaker_rest {
    uint32_t ids[DRY_TAIL_MAX];
    size_t count;
    bool known;
};

struct breaker_search {
    const struct vocabulary *vocabulary;
    struct text texts[DRY_BREAKERS_MAX];
    size_t count;
    struct breaker_rest *rests; /* DRY_BREAKER_BYTES_MAX for each text */
    struct buffer found;        /* struct dry_breaker after struct dry_breaker */
    size_t head_start;          /* in found: where those of the current head begin */
};

static int add_breaker(struct breaker_search *search, uint32_t head,
                       const struct breaker_rest *rest, struct hearth_error *err)
{
    struct dry_breaker breaker = {.head = head, .tail_count = (uint32_t)rest->count};
    memcpy(breaker.tail, rest->ids, rest->count * sizeof *rest->ids);
    for (size_t at = search->head_start; at < search->found.size; at += sizeof breaker) {
        if (memcmp(search->found.data + at, &breaker, sizeof breaker) == 0)
            return 0;
    }
    if (!buffer_append(&search->found, &breaker, sizeof breaker))
        return error_set(err, HEARTH_E_MEMORY, "no memory for the DRY sequence breakers");
    return 0;
}

/* How many bytes of `text` stand in `word` from `at` on, to the end of the shorter; 0 where the
 * word goes another way. */
static size_t common_part(struct text word, size_t at, struct text text)
{
    size_t size = word.size - at < text.size ? word.size - at : text.size;
    return memcmp(word.data + at, text.data, size) == 0 ? size : 0;
}

/* Adds a token to the heads of one breaker: alone where it contains the breaker, else with the rest
 * for each beginning of the breaker that it ends with. */
static int match_word(struct breaker_search *search, size_t index, uint32_t id, struct text word,
                      struct hearth_error *err)
{
    struct text text = search->texts[index];
    for (size_t at = 0; at < word.size; at++) {
        const char *next = memchr(word.data + at, text.data[0], word.size - at);
        if (!next)
            return 0;
        at = (size_t)(next - word.data);
        size_t size = common_part(word, at, text);
        if (size == 0)
            continue;
        if (size == text.size)
            return add_breaker(search, id, &(struct breaker_rest){0}, err);
        struct breaker_rest *rest = &search->rests[index * DRY_BREAKER_BYTES_MAX + size];
        if (!rest->known) {
            struct text behind = {text.data + size, text.size - size};
            int status = search->vocabulary->encode(search->vocabulary->context, behind, rest->ids,
                                                    DRY_TAIL_MAX, &rest->count, err);
            if (status < 0)
                return status;
            rest->known = true;
        }
        int status = add_breaker(search, id, rest, err);
        if (status < 0)
            return status;
    }
    return 0;
}

static int match_vocabulary(struct breaker_search *search, struct hearth_error *err)
{
    const struct vocabulary *vocabulary = search->vocabulary;
    struct buffer word;
    buffer_init(&word, SIZE_MAX / 2);
    int status = 0;
    for (uint32_t id = 0; id < vocabulary->size && status == 0; id++) {
        word.size = 0;
        if (!vocabulary->piece(vocabulary->context, id, true, true, &word)) {
            status = error_set(err, HEARTH_E_MEMORY, "no memory for the DRY sequence breakers");
            break;
        }
        search->head_start = search->found.size;
        for (size_t i = 0; i < search->count && word.size > 0 && status == 0; i++)
            status = match_word(search, i, id, buffer_text(&word), err);
    }
    buffer_finish(&word);
    return status;
}

static int check_breakers(struct breaker_search *search, const char *const *breakers, size_t count,
                          struct hearth_error *err)
{
    if (count > DRY_BREAKERS_MAX)
        return error_set(err, HEARTH_E_LIMIT, "dry_breakers: %zu of them; at most %d are allowed",
                         count, DRY_BREAKERS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (!breakers[i] || !breakers[i][0])
            return error_set(err, HEARTH_E_ARGUMENT, "dry_breakers: number %zu is empty", i + 1);
        search->texts[i] = text_of(breakers[i]);
        if (search->texts[i].size > DRY_BREAKER_BYTES_MAX)
            return error_set(err, HEARTH_E_LIMIT,
                             "dry_breakers: number %zu has %zu bytes; at most %d are allowed",
                             i + 1, search->texts[i].size, DRY_BREAKER_BYTES_MAX);
    }
    search->count = count;
    return 0;
}

int dry_set_breakers(struct dry *dry, const struct vocabulary *vocabulary,
                     const char *const *breakers, size_t count, struct hearth_error *err)
{
    struct breaker_search search = {.vocabulary = vocabulary};
    int status = check_breakers(&search, breakers, count, err);
    if (status < 0 || count == 0)
        return status;
    buffer_init(&search.found, SIZE_MAX / 2);
    search.rests = mem_zalloc_array(count * DRY_BREAKER_BYTES_MAX, sizeof *search.rests);
    if (!search.rests)
        status = error_set(err, HEARTH_E_MEMORY, "no memory for the DRY sequence breakers");
    else
        status = match_vocabulary(&search, err);
    if (status == 0 && search.found.size > 0) {
        size_t size;
        dry->breakers = (struct dry_breaker *)(void *)buffer_take(&search.found, &size);
        dry->breaker_count = size / sizeof *dry->breakers;
    }
    buffer_finish(&search.found);
    mem_free(search.rests);
    return status;
}

void dry_finish(struct dry *dry)
{
    mem_free(dry->breakers);
    mem_free(dry->lengths);
    *dry = (struct dry){0};
}

/* ---- the penalty ---- */

/* The index of the first breaker with that head or a larger one. */
static size_t first_breaker(const struct dry *dry, uint32_t head)
{
    size_t low = 0, high = dry->breaker_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (dry->breakers[middle].head < head)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Whether the breaker's tail follows a head that stands `back` places from the end. */
static bool tail_follows(const struct dry_breaker *breaker, const struct history *history,
                         size_t back)
{
    if (breaker->tail_count > back)
        return false;
    for (size_t i = 0; i < breaker->tail_count; i++) {
        if (breaker->tail[i] != sampler_history_at(history, back - 1 - i))
            return false;
    }
    return true;
}

/* How many tokens stand behind the last breaker among the last `length`; all where there is none.
 * Of the breakers that begin at one place the longest counts. */
static size_t tokens_behind_breaker(const struct dry *dry, const struct history *history,
                                    size_t length)
{
    for (size_t back = 0; back < length && dry->breaker_count > 0; back++) {
        uint32_t head = sampler_history_at(history, back);
        bool found = false;
        size_t longest = 0;
        for (size_t i = first_breaker(dry, head); i < dry->breaker_count; i++) {
            const struct dry_breaker *breaker = &dry->breakers[i];
            if (breaker->head != head)
                break;
            if (tail_follows(breaker, history, back)) {
                found = true;
                longest = breaker->tail_count > longest ? breaker->tail_count : longest;
            }
        }
        if (found)
            return back - longest;
    }
    return length;
}

/* lengths[k], 0 < k < length: how many of the last tokens also stand, in the same order, right
 * before the last k. It is the Z function of the reversed text, in linear time: [left, right) is
 * the match that reaches furthest, and what lies inside it is known from the beginning. */
static void find_repetitions(const struct history *history, size_t length, uint32_t *lengths)
{
    size_t left = 0, right = 0;
    for (size_t k = 1; k < length; k++) {
        size_t n = 0;
        if (k < right) {
            size_t inside = right - k;
            n = lengths[k - left] < inside ? lengths[k - left] : inside;
        }
        while (k + n < length &&
               sampler_history_at(history, n) == sampler_history_at(history, k + n))
            n++;
        lengths[k] = (uint32_t)n;
        if (k + n > right) {
            left = k;
            right = k + n;
        }
    }
}

static bool breaks_alone(const struct dry *dry, uint32_t id)
{
    for (size_t i = first_breaker(dry, id); i < dry->breaker_count; i++) {
        if (dry->breakers[i].head != id)
            return false;
        if (dry->breakers[i].tail_count == 0)
            return true;
    }
    return false;
}

/* multiplier * base^exponent, the power at most FLT_MAX. */
static double penalty_of(const struct dry *dry, size_t exponent)
{
    double power = 1.0, square = dry->base;
    for (; exponent > 0 && power < (double)FLT_MAX; exponent >>= 1) {
        if (exponent & 1)
            power *= square;
        square = square < (double)FLT_MAX ? square * square : square;
    }
    return dry->multiplier * (power < (double)FLT_MAX ? power : (double)FLT_MAX);
}

/* The token behind the repetition that stands right before the last k tokens, which would extend
 * it. */
static struct history_entry *extending(struct history *history, size_t k)
{
    struct history_entry *entry = sampler_history_find(history, sampler_history_at(history, k - 1));
    assert(entry);
    return entry;
}

bool dry_reserve(struct dry *dry, const struct history *history)
{
    if (dry->last_n == 0 || history->capacity <= dry->capacity)
        return true;
    uint32_t *lengths = mem_realloc_array(dry->lengths, history->capacity, sizeof *dry->lengths);
    if (!lengths)
        return false;
    dry->lengths = lengths;
    dry->capacity = history->capacity;
    return true;
}

void dry_apply(const struct dry *dry, struct history *history, float *logits)
{
    size_t held = sampler_history_length(history);
    size_t length = held < dry->last_n ? held : dry->last_n;
    if (length <= dry->allowed)
        return;
    size_t limit = tokens_behind_breaker(dry, history, length);
    if (limit < dry->allowed)
        return;
    assert(length <= dry->capacity);
    find_repetitions(history, length, dry->lengths);

    /* The longest repetition that each token would extend, plus one: 0 stands for none. */
    for (size_t k = 1; k < length; k++) {
        size_t n = dry->lengths[k] < limit ? dry->lengths[k] : limit;
        if (n < dry->allowed)
            continue;
        struct history_entry *entry = extending(history, k);
        if (entry->repeat < n + 1)
            entry->repeat = (uint32_t)(n + 1);
    }
    for (size_t k = 1; k < length; k++) {
        if (dry->lengths[k] < dry->allowed)
            continue;
        struct history_entry *entry = extending(history, k);
        float *logit = &logits[entry->id];
        if (entry->repeat > 0 && !breaks_alone(dry, entry->id) && !isnan(*logit))
            *logit =
                sampler_logit((double)*logit - penalty_of(dry, entry->repeat - 1 - dry->allowed));
        entry->repeat = 0;
    }
}
