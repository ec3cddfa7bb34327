/* BPE by merges: over bytes that are spelled as printable code points (GPT-2 and most others), or
 * over UTF-8 with U+2581 for a space (Gemma 4). */
#include <string.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

#define KEY_MERGES "tokenizer.ggml.merges"

static uint32_t *find_merge(const struct merges *merges, uint32_t left, uint32_t right,
                            uint32_t *tag)
{
    uint64_t hash = hash_mix(hash_mix((uint64_t)left << 32 | right));
    uint32_t id_mask = ((uint32_t)1 << merges->id_bits) - 1;
    *tag = (uint32_t)(hash >> 32) & ~id_mask;
    for (uint32_t probe = 0; probe < PROBES_MAX; probe++) {
        uint32_t *slot = &merges->slots[((uint32_t)hash + probe) & merges->slot_mask];
        if (*slot == 0)
            return slot;
        if ((*slot & ~id_mask) != *tag)
            continue;
        const struct merge *merge = &merges->items[(*slot & id_mask) - 1];
        if (merge->left == left && merge->right == right)
            return slot;
    }
    return NULL;
}

/* A merge's order is its place in the list, counted from 1. */
static uint32_t merge_order(const void *context, const struct word *word, size_t left, size_t right)
{
    const struct merges *merges = &((const struct tokenizer *)context)->merges;
    uint32_t tag;
    const uint32_t *slot = find_merge(merges, word->slots[left].id, word->slots[right].id, &tag);
    return slot && *slot ? *slot & (((uint32_t)1 << merges->id_bits) - 1) : ORDER_NONE;
}

static uint32_t merge_result(const void *context, uint32_t order)
{
    return ((const struct tokenizer *)context)->merges.items[order - 1].merged;
}

/* The token whose text is that of two; lists of merges mostly make one token after the other, so
 * the one after the last is tried first. */
static uint32_t find_joined(const struct vocab *vocab, struct text left, struct text right,
                            uint32_t guess, struct buffer *scratch)
{
    if (guess < vocab->count) {
        struct text text = vocab_text(vocab, guess);
        if (text.size == left.size + right.size && text_starts_with(text, left) &&
            memcmp(text.data + left.size, right.data, right.size) == 0)
            return vocab_find(vocab, text);
    }
    scratch->size = 0;
    buffer_append_text(scratch, left);
    buffer_append_text(scratch, right);
    return vocab_find(vocab, buffer_text(scratch));
}

/* Merges of texts that are no tokens are left out: a tokenizer that makes them ends with a text
 * that has no id. The first of equal ones counts. */
static int fill_merges(struct tokenizer *tokenizer, const struct gguf_key *list,
                       struct hearth_error *err)
{
    const struct vocab *vocab = &tokenizer->vocab;
    struct merges *merges = &tokenizer->merges;
    struct buffer scratch;
    struct text line;
    uint64_t cursor = 0;
    uint32_t last = 0;
    int status = 0;
    buffer_init(&scratch, 2 * vocab->longest + 1);
    while (!status && gguf_array_next_text(list, &cursor, &line)) {
        const char *space = line.size > 1 ? memchr(line.data + 1, ' ', line.size - 1) : NULL;
        struct merge *merge = &merges->items[merges->count];
        if (space) {
            struct text left = {line.data, (size_t)(space - line.data)};
            struct text right = {space + 1, line.size - left.size - 1};
            merge->left = vocab_find(vocab, left);
            merge->right = vocab_find(vocab, right);
            merge->merged = merge->left == TOKEN_NONE || merge->right == TOKEN_NONE
                                ? TOKEN_NONE
                                : find_joined(vocab, left, right, last + 1, &scratch);
        }
        if (!space || merge->merged == TOKEN_NONE)
            continue;
        uint32_t tag;
        uint32_t *slot = find_merge(merges, merge->left, merge->right, &tag);
        last = merge->merged;
        if (!slot)
            status = error_set(err, HEARTH_E_FORMAT, "the merges are made to collide");
        else if (*slot == 0)
            *slot = tag | ++merges->count;
    }
    if (!status && scratch.failed)
        status = out_of_memory(err);
    buffer_finish(&scratch);
    return status;
}

static int open_merges(struct tokenizer *tokenizer, const struct gguf *gguf,
                       struct hearth_error *err)
{
    const struct gguf_key *list = NULL;
    struct merges *merges = &tokenizer->merges;
    static const struct gguf_key none = {.type = GGUF_ARRAY, .element = GGUF_STRING};
    struct text pre = {NULL, 0};
    gguf_get_text(gguf, "tokenizer.ggml.pre", &pre, NULL);
    int status = gguf_get_array(gguf, KEY_MERGES, GGUF_STRING, &list, err);
    /* Kimi's vocabulary comes without. */
    if (status == HEARTH_E_MISSING && text_equal(pre, TEXT("kimi-k2"))) {
        list = &none;
        status = 0;
    }
    if (status)
        return status;
    if (list->count > (uint32_t)1 << 26)
        return error_set(err, HEARTH_E_LIMIT, "the key '" KEY_MERGES "' has %llu entries",
                         (unsigned long long)list->count);
    uint32_t slots = 16;
    while (slots < 2 * list->count)
        slots *= 2;
    merges->slot_mask = slots - 1;
    while (list->count >> merges->id_bits)
        merges->id_bits++;
    merges->items = mem_alloc_array((size_t)list->count + 1, sizeof *merges->items);
    merges->slots = mem_zalloc_array(slots, sizeof *merges->slots);
    if (!merges->items || !merges->slots)
        return out_of_memory(err);
    return fill_merges(tokenizer, list, err);
}

void merges_finish(struct merges *merges)
{
    mem_free(merges->items);
    mem_free(merges->slots);
    *merges = (struct merges){.count = 0};
}

static uint32_t find_byte_name(const struct vocab *vocab, unsigned byte)
{
    static const char hex[] = "0123456789ABCDEF";
    char name[] = {'<', '0', 'x', hex[byte >> 4], hex[byte & 15], '>'};
    return vocab_find(vocab, (struct text){name, sizeof name});
}

static size_t spell_byte(unsigned char byte, char *out)
{
    uint32_t point = byte_to_point(byte);
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xc0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3f));
    return 2;
}

static void fill_byte_ids(struct tokenizer *tokenizer)
{
    const struct vocab *vocab = &tokenizer->vocab;
    for (unsigned byte = 0; byte < 256; byte++) {
        char spelled[2], raw = (char)byte;
        size_t size = spell_byte((unsigned char)byte, spelled);
        uint32_t *fallbacks = tokenizer->fallbacks[byte];
        fallbacks[0] = fallbacks[1] = TOKEN_NONE;
        if (tokenizer->model == MODEL_RAW_BPE) {
            tokenizer->byte_ids[byte] = vocab_find(vocab, (struct text){&raw, 1});
            fallbacks[0] = find_byte_name(vocab, byte);
            continue;
        }
        tokenizer->byte_ids[byte] = vocab_find(vocab, (struct text){spelled, size});
        /* A byte without a token becomes what stands for the bytes of its spelling, as a rule
         * nothing. */
        for (size_t i = 0; i < size; i++)
            fallbacks[i] = vocab_find(vocab, (struct text){spelled + i, 1});
    }
}

int bpe_open(struct tokenizer *tokenizer, const struct gguf *gguf, struct hearth_error *err)
{
    int status = open_merges(tokenizer, gguf, err);
    if (!status)
        fill_byte_ids(tokenizer);
    return status;
}

static bool push_symbols(const struct tokenizer *tokenizer, const struct word *word,
                         struct token_list *out)
{
    for (size_t at = 0; at < word->size; at += word->slots[at].size) {
        const struct slot *slot = &word->slots[at];
        if (slot->id != TOKEN_NONE) {
            if (!token_list_push(out, slot->id))
                return false;
            continue;
        }
        for (size_t i = at; i < at + slot->size; i++) {
            const uint32_t *ids = tokenizer->fallbacks[(unsigned char)word->text[i]];
            for (size_t k = 0; k < 2; k++)
                if (ids[k] != TOKEN_NONE && !token_list_push(out, ids[k]))
                    return false;
        }
    }
    return true;
}

static bool merge_and_push(const struct tokenizer *tokenizer, struct word *word,
                           struct token_list *out)
{
    const struct merge_rules rules = {merge_order, merge_result, tokenizer};
    return word_merge(word, &rules) && push_symbols(tokenizer, word, out);
}

/* The token that a whole piece of bytes is. */
static uint32_t find_piece(const struct vocab *vocab, struct text piece)
{
    char spelled[2048]; /* each byte is spelled with one or two; no token is as long as this */
    size_t size = 0;
    if (piece.size > vocab->longest || piece.size > sizeof spelled / 2)
        return TOKEN_NONE;
    for (size_t i = 0; i < piece.size; i++)
        size += spell_byte((unsigned char)piece.data[i], spelled + size);
    return vocab_find(vocab, (struct text){spelled, size});
}

static bool encode_bytes(const struct tokenizer *tokenizer, struct text piece, struct word *word,
                         struct token_list *out)
{
    if (tokenizer->traits.ignore_merges) {
        uint32_t id = find_piece(&tokenizer->vocab, piece);
        if (id != TOKEN_NONE)
            return token_list_push(out, id);
    }
    if (piece.size == 1 && tokenizer->byte_ids[(unsigned char)*piece.data] != TOKEN_NONE)
        return token_list_push(out, tokenizer->byte_ids[(unsigned char)*piece.data]);
    if (!word_reserve(word, piece.size))
        return false;
    word->text = piece.data;
    for (size_t i = 0; i < piece.size; i++)
        word_append(word, tokenizer->byte_ids[(unsigned char)piece.data[i]], 1);
    return merge_and_push(tokenizer, word, out);
}

static bool all_newlines(struct text text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] != '\n')
            return false;
    return true;
}

static bool encode_raw(const struct tokenizer *tokenizer, struct text piece, struct word *word,
                       struct token_list *out)
{
    if (tokenizer->traits.whole_newlines && all_newlines(piece)) {
        uint32_t id = vocab_find(&tokenizer->vocab, piece);
        if (id != TOKEN_NONE)
            return token_list_push(out, id);
    }
    while (piece.size) {
        struct text part = meta_word(tokenizer, piece);
        piece = (struct text){piece.data + part.size, piece.size - part.size};
        if (!word_reserve(word, part.size))
            return false;
        word->text = part.data;
        for (size_t at = 0; at < part.size;) {
            unsigned char lead = (unsigned char)part.data[at];
            size_t size = symbol_size(lead, part.size - at);
            uint32_t id = size == 1
                              ? tokenizer->byte_ids[lead]
                              : vocab_find(&tokenizer->vocab, (struct text){part.data + at, size});
            word_append(word, id, size);
            at += size;
        }
        if (!merge_and_push(tokenizer, word, out))
            return false;
    }
    return true;
}

int bpe_encode(const struct tokenizer *tokenizer, struct text text, struct word *word,
               struct token_list *out, struct hearth_error *err)
{
    bool raw = tokenizer->model == MODEL_RAW_BPE, ok = true;
    char *copy = NULL;
    if (raw && !meta_spaces(text, false, &copy, &text))
        return out_of_memory(err);
    struct pieces pieces;
    struct text piece;
    int status = pretokenizer_split(tokenizer->pretokenizer, text, &pieces, err);
    if (!status) {
        while (ok && pieces_next(&pieces, &piece))
            ok = raw ? encode_raw(tokenizer, piece, word, out)
                     : encode_bytes(tokenizer, piece, word, out);
        pieces_finish(&pieces);
    }
    mem_free(copy);
    return ok ? status : out_of_memory(err);
}
