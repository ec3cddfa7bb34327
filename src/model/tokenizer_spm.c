/* SentencePiece BPE by scores: two neighbours are merged where their text is a token, the highest
 * score first. */
#include <string.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

bool meta_spaces(struct text text, bool prefix, char **copy, struct text *result)
{
    size_t spaces = prefix, at = 0;
    for (size_t i = 0; i < text.size; i++)
        spaces += text.data[i] == ' ';
    *result = text;
    if (spaces == 0)
        return true;
    size_t size = text.size + prefix + spaces * (META_SPACE_SIZE - 1);
    char *out = mem_alloc(size);
    if (!out)
        return false;
    if (prefix) {
        memcpy(out, META_SPACE, META_SPACE_SIZE);
        at = META_SPACE_SIZE;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == ' ') {
            memcpy(out + at, META_SPACE, META_SPACE_SIZE);
            at += META_SPACE_SIZE;
        } else {
            out[at++] = text.data[i];
        }
    }
    *copy = out;
    *result = (struct text){out, size};
    return true;
}

/* By the lead byte alone: what follows it is not looked at, and a stray continuation byte is a
 * symbol of its own. */
size_t symbol_size(unsigned char lead, size_t rest)
{
    size_t size = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    return size < rest ? size : rest;
}

static bool is_meta_space(const char *data, size_t size)
{
    return size >= META_SPACE_SIZE && memcmp(data, META_SPACE, META_SPACE_SIZE) == 0;
}

/* A word ends where a META_SPACE follows something else and no token has this something's last byte
 * before a META_SPACE: no merge can reach across, so that words can be merged one by one. */
struct text meta_word(const struct tokenizer *tokenizer, struct text text)
{
    size_t at = 0;
    while (at < text.size) {
        if (at > 0 && is_meta_space(text.data + at, text.size - at) &&
            !tokenizer->joins[(unsigned char)text.data[at - 1]] &&
            !(at >= META_SPACE_SIZE &&
              is_meta_space(text.data + at - META_SPACE_SIZE, META_SPACE_SIZE)))
            break;
        at += symbol_size((unsigned char)text.data[at], text.size - at);
    }
    return (struct text){text.data, at};
}

/* Equal orders are equal scores, not equal tokens; ids are looked up at the end. */
static uint32_t score_order(const void *context, const struct word *word, size_t left, size_t right)
{
    const struct vocab *vocab = &((const struct tokenizer *)context)->vocab;
    struct text text = {word->text + left, right - left + word->slots[right].size};
    uint32_t id = vocab_find(vocab, text);
    return id == TOKEN_NONE ? ORDER_NONE : vocab_score_order(vocab, id);
}

static uint32_t no_id(const void *context, uint32_t order)
{
    (void)context;
    (void)order;
    return 0;
}

int spm_open(struct tokenizer *tokenizer, struct hearth_error *err)
{
    const struct vocab *vocab = &tokenizer->vocab;
    (void)err;
    for (unsigned byte = 0; byte < 256; byte++) {
        static const char hex[] = "0123456789ABCDEF";
        char name[] = {'<', '0', 'x', hex[byte >> 4], hex[byte & 15], '>'}, raw = (char)byte;
        uint32_t id = vocab_find(vocab, (struct text){name, sizeof name});
        if (id == TOKEN_NONE)
            id = vocab_find(vocab, (struct text){&raw, 1});
        tokenizer->byte_ids[byte] = id == TOKEN_NONE ? tokenizer->ids.unk : id;
    }
    return 0;
}

static bool push_symbols(const struct tokenizer *tokenizer, const struct word *word,
                         struct token_list *out)
{
    for (size_t at = 0; at < word->size; at += word->slots[at].size) {
        struct text text = {word->text + at, word->slots[at].size};
        uint32_t id = vocab_find(&tokenizer->vocab, text);
        if (id != TOKEN_NONE) {
            if (!token_list_push(out, id))
                return false;
            continue;
        }
        for (size_t i = 0; i < text.size; i++) {
            id = tokenizer->byte_ids[(unsigned char)text.data[i]];
            if (id != TOKEN_NONE && !token_list_push(out, id))
                return false;
        }
    }
    return true;
}

static bool encode_word(const struct tokenizer *tokenizer, struct text text, struct word *word,
                        struct token_list *out)
{
    const struct merge_rules rules = {score_order, no_id, tokenizer};
    if (!word_reserve(word, text.size))
        return false;
    word->text = text.data;
    for (size_t at = 0; at < text.size;) {
        size_t size = symbol_size((unsigned char)text.data[at], text.size - at);
        word_append(word, 0, size);
        at += size;
    }
    return word_merge(word, &rules) && push_symbols(tokenizer, word, out);
}

int spm_encode(const struct tokenizer *tokenizer, struct text text, bool prefix, struct word *word,
               struct token_list *out, struct hearth_error *err)
{
    char *copy = NULL;
    if (!meta_spaces(text, prefix, &copy, &text))
        return out_of_memory(err);
    bool ok = true;
    while (ok && text.size) {
        struct text part = meta_word(tokenizer, text);
        ok = encode_word(tokenizer, part, word, out);
        text = (struct text){text.data + part.size, text.size - part.size};
    }
    mem_free(copy);
    return ok ? 0 : out_of_memory(err);
}
