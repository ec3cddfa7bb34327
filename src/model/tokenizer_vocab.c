#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

#define VOCAB_MAX ((uint32_t)1 << 26)

static uint64_t load64(const char *data)
{
    uint64_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static uint64_t load_tail(const char *data, size_t size)
{
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | (unsigned char)data[i];
    return value;
}

static uint64_t hash_text(struct text text)
{
    uint64_t hash = text.size;
    size_t at = 0;
    for (; text.size - at >= 8; at += 8)
        hash = hash_mix(hash ^ load64(text.data + at));
    return hash_mix(hash_mix(hash ^ load_tail(text.data + at, text.size - at)));
}

struct text vocab_text(const struct vocab *vocab, uint32_t id)
{
    uint64_t cursor = vocab->cursors[id];
    struct text text = {NULL, 0};
    gguf_array_next_text(vocab->texts, &cursor, &text);
    return text;
}

/* The slot of a text: the one that holds it, or the empty one where it belongs; NULL after too many
 * others. */
static uint32_t *find_slot(const struct vocab *vocab, struct text text, uint32_t *tag)
{
    uint64_t hash = hash_text(text);
    uint32_t id_mask = ((uint32_t)1 << vocab->id_bits) - 1;
    *tag = (uint32_t)(hash >> 32) & ~id_mask;
    for (uint32_t probe = 0; probe < PROBES_MAX; probe++) {
        uint32_t *slot = &vocab->slots[((uint32_t)hash + probe) & vocab->slot_mask];
        if (*slot == 0)
            return slot;
        if ((*slot & ~id_mask) == *tag &&
            text_equal(vocab_text(vocab, (*slot & id_mask) - 1), text))
            return slot;
    }
    return NULL;
}

uint32_t vocab_find(const struct vocab *vocab, struct text text)
{
    if (text.size == 0 || text.size > vocab->longest)
        return TOKEN_NONE;
    uint32_t tag;
    const uint32_t *slot = find_slot(vocab, text, &tag);
    return slot && *slot ? (*slot & (((uint32_t)1 << vocab->id_bits) - 1)) - 1 : TOKEN_NONE;
}

uint32_t vocab_score_order(const struct vocab *vocab, uint32_t id)
{
    float score = 0;
    if (vocab->scores && vocab->scores->element == GGUF_F32)
        score = gguf_array_f32(vocab->scores, id);
    else if (vocab->scores)
        score = (float)(int32_t)gguf_array_u32(vocab->scores, id);
    if (isnan(score))
        score = -INFINITY;
    score += 0.0f; /* -0 becomes 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    /* IEEE numbers ascend as sign and magnitude do. */
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

static unsigned char attr_of_type(uint32_t type)
{
    switch (type) {
    case TOKEN_NORMAL:
        return ATTR_NORMAL;
    case TOKEN_UNKNOWN:
        return ATTR_UNKNOWN;
    case TOKEN_CONTROL:
        return ATTR_CONTROL;
    case TOKEN_USER_DEFINED:
        return ATTR_USER_DEFINED;
    case TOKEN_UNUSED:
        return ATTR_UNUSED;
    case TOKEN_BYTE:
        return ATTR_BYTE;
    default:
        return 0;
    }
}

/* An optional array of the vocabulary's length or more. */
static int side_array(const struct gguf *gguf, const char *name, enum gguf_value_type element,
                      uint32_t count, const struct gguf_key **array, struct hearth_error *err)
{
    if (!gguf_find(gguf, name))
        return 0;
    const struct gguf_key *found;
    int status = gguf_get_array(gguf, name, element, &found, err);
    if (status)
        return status;
    if (found->count < count)
        return error_set(err, HEARTH_E_FORMAT, "the key '%s' has %llu entries for %u tokens", name,
                         (unsigned long long)found->count, count);
    *array = found;
    return 0;
}

static int read_side_arrays(const struct gguf *gguf, struct vocab *vocab, struct hearth_error *err)
{
    static const char scores[] = "tokenizer.ggml.scores";
    const struct gguf_key *key = gguf_find(gguf, scores), *types = NULL;
    bool integers = key && key->type == GGUF_ARRAY && key->element == GGUF_I32;
    int status =
        side_array(gguf, scores, integers ? GGUF_I32 : GGUF_F32, vocab->count, &vocab->scores, err);
    if (!status)
        status = side_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, vocab->count, &types, err);
    if (status)
        return status;
    for (uint32_t i = 0; i < vocab->count; i++)
        vocab->attrs[i] = types ? attr_of_type(gguf_array_u32(types, i)) : ATTR_NORMAL;
    return 0;
}

static int fill_slots(struct vocab *vocab, struct hearth_error *err)
{
    uint64_t cursor = 0;
    struct text text;
    for (uint32_t id = 0; id < vocab->count; id++) {
        vocab->cursors[id] = (uint32_t)cursor;
        if (!gguf_array_next_text(vocab->texts, &cursor, &text))
            return error_set(err, HEARTH_E_FORMAT, "the list of tokens ends early");
        if (text.size == 0)
            continue;
        if (text.size > vocab->longest)
            vocab->longest = text.size;
        uint32_t tag;
        uint32_t *slot = find_slot(vocab, text, &tag);
        if (!slot)
            return error_set(err, HEARTH_E_FORMAT, "the tokens' texts are made to collide");
        *slot = tag | (id + 1);
    }
    return 0;
}

int vocab_open(const struct gguf *gguf, struct vocab *vocab, struct hearth_error *err)
{
    struct vocab result = {.count = 0};
    int status = gguf_get_array(gguf, "tokenizer.ggml.tokens", GGUF_STRING, &result.texts, err);
    if (status)
        return status;
    if (result.texts->count == 0 || result.texts->count > VOCAB_MAX ||
        result.texts->size > UINT32_MAX)
        return error_set(err, HEARTH_E_LIMIT,
                         "a vocabulary of %llu tokens in %llu bytes; 1 to %u in 4 GiB are possible",
                         (unsigned long long)result.texts->count,
                         (unsigned long long)result.texts->size, VOCAB_MAX);
    result.count = (uint32_t)result.texts->count;
    uint32_t slots = 16;
    while (slots < 2 * result.count)
        slots *= 2;
    result.slot_mask = slots - 1;
    while (result.count >> result.id_bits)
        result.id_bits++;
    result.cursors = mem_alloc_array(result.count, sizeof *result.cursors);
    result.attrs = mem_alloc_array(result.count, sizeof *result.attrs);
    result.slots = mem_zalloc_array(slots, sizeof *result.slots);
    status = result.cursors && result.attrs && result.slots ? 0 : out_of_memory(err);
    if (!status)
        status = fill_slots(&result, err);
    if (!status)
        status = read_side_arrays(gguf, &result, err);
    if (status)
        vocab_finish(&result);
    else
        *vocab = result;
    return status;
}

void vocab_finish(struct vocab *vocab)
{
    mem_free(vocab->cursors);
    mem_free(vocab->attrs);
    mem_free(vocab->slots);
    *vocab = (struct vocab){.count = 0};
}
