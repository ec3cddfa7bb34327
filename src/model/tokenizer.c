#include "model/tokenizer.h"

#include <string.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

#define TEXT_MAX ((size_t)1 << 30)

int out_of_memory(struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MEMORY, "no memory for tokenizing");
}

void token_list_finish(struct token_list *list)
{
    mem_free(list->ids);
    *list = (struct token_list){NULL, 0, 0};
}

bool token_list_push(struct token_list *list, uint32_t id)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        uint32_t *ids = mem_realloc_array(list->ids, capacity, sizeof *ids);
        if (!ids)
            return false;
        list->ids = ids;
        list->capacity = capacity;
    }
    list->ids[list->count++] = id;
    return true;
}

/* What holds for a kind where the file's keys say nothing else. */
static int choose_model(struct tokenizer *tokenizer, const struct gguf *gguf,
                        struct hearth_error *err)
{
    struct text model, pre = {NULL, 0};
    struct special_ids *ids = &tokenizer->ids;
    int status = gguf_get_text(gguf, "tokenizer.ggml.model", &model, err);
    if (!status && gguf_find(gguf, "tokenizer.ggml.pre"))
        status = gguf_get_text(gguf, "tokenizer.ggml.pre", &pre, err);
    if (status)
        return status;
    if (text_equal(model, TEXT("llama"))) {
        tokenizer->model = MODEL_SPM;
        *ids = (struct special_ids){
            .bos = 1, .eos = 2, .unk = 0, .add_bos = true, .add_space_prefix = true};
        return 0;
    }
    bool gemma = text_equal(model, TEXT("gemma4"));
    if (!gemma && !text_equal(model, TEXT("gpt2")))
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "the tokenizer '%.*s' is not supported; these are: gpt2 llama gemma4",
                         TEXT_ARGS(model));
    status = pretokenizer_open(gemma ? TEXT("gemma4") : pre, &tokenizer->pretokenizer, err);
    if (status)
        return status;
    tokenizer->traits = *pretokenizer_traits(tokenizer->pretokenizer);
    tokenizer->model = tokenizer->traits.raw ? MODEL_RAW_BPE : MODEL_BYTE_BPE;
    uint32_t usual = gemma ? TOKEN_NONE : 11;
    *ids = (struct special_ids){.bos = tokenizer->traits.no_default_bos ? TOKEN_NONE : usual,
                                .eos = usual,
                                .unk = TOKEN_NONE,
                                .add_bos = tokenizer->traits.add_bos};
    return 0;
}

static void find_joins(struct tokenizer *tokenizer)
{
    for (uint32_t id = 0; id < tokenizer->vocab.count; id++) {
        struct text text = vocab_text(&tokenizer->vocab, id);
        for (size_t i = 1; i + META_SPACE_SIZE <= text.size; i++) {
            const char *at = text.data + i;
            bool after_another = i >= META_SPACE_SIZE &&
                                 memcmp(at - META_SPACE_SIZE, META_SPACE, META_SPACE_SIZE) == 0;
            if (*at == META_SPACE[0] && memcmp(at, META_SPACE, META_SPACE_SIZE) == 0 &&
                !after_another)
                tokenizer->joins[(unsigned char)at[-1]] = true;
        }
    }
}

static int open_parts(struct tokenizer *tokenizer, const struct gguf *gguf,
                      struct hearth_error *err)
{
    int status = choose_model(tokenizer, gguf, err);
    if (!status)
        status = vocab_open(gguf, &tokenizer->vocab, err);
    if (!status)
        status = special_ids_read(gguf, &tokenizer->vocab, &tokenizer->ids, err);
    if (!status)
        status = specials_open(&tokenizer->vocab, &tokenizer->specials, err);
    if (status)
        return status;
    tokenizer->ids.add_bos |= tokenizer->traits.force_bos;
    if (tokenizer->model != MODEL_BYTE_BPE)
        find_joins(tokenizer);
    return tokenizer->model == MODEL_SPM ? spm_open(tokenizer, err)
                                         : bpe_open(tokenizer, gguf, err);
}

int tokenizer_open(const struct gguf *gguf, struct tokenizer **out, struct hearth_error *err)
{
    struct tokenizer *tokenizer = MEM_NEW(struct tokenizer);
    if (!tokenizer)
        return out_of_memory(err);
    int status = open_parts(tokenizer, gguf, err);
    if (status)
        tokenizer_close(tokenizer);
    else
        *out = tokenizer;
    return status;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    vocab_finish(&tokenizer->vocab);
    specials_finish(&tokenizer->specials);
    merges_finish(&tokenizer->merges);
    pretokenizer_close(tokenizer->pretokenizer);
    mem_free(tokenizer->ids.ends);
    mem_free(tokenizer);
}

size_t tokenizer_bytes(const struct tokenizer *tokenizer)
{
    const struct vocab *vocab = &tokenizer->vocab;
    const struct specials *specials = &tokenizer->specials;
    const struct merges *merges = &tokenizer->merges;
    size_t bytes = sizeof *tokenizer;
    bytes += vocab->count * (sizeof *vocab->cursors + sizeof *vocab->attrs);
    bytes += ((size_t)vocab->slot_mask + 1) * sizeof *vocab->slots;
    bytes += specials->count * (sizeof *specials->items + sizeof *specials->by_rank);
    if (merges->items)
        bytes += merges->count * sizeof *merges->items +
                 ((size_t)merges->slot_mask + 1) * sizeof *merges->slots;
    return bytes;
}

struct encoder {
    const struct tokenizer *tokenizer;
    struct token_list *out;
    struct word word;
    bool after_special; /* also at the start: there SentencePiece's space prefix goes */
};

static int encode_fragment(void *context, struct fragment fragment, struct hearth_error *err)
{
    struct encoder *encoder = context;
    const struct tokenizer *tokenizer = encoder->tokenizer;
    if (!fragment.text.data) {
        encoder->after_special = true;
        return token_list_push(encoder->out, fragment.id) ? 0 : out_of_memory(err);
    }
    bool prefix = encoder->after_special && tokenizer->ids.add_space_prefix;
    encoder->after_special = false;
    return tokenizer->model == MODEL_SPM
               ? spm_encode(tokenizer, fragment.text, prefix, &encoder->word, encoder->out, err)
               : bpe_encode(tokenizer, fragment.text, &encoder->word, encoder->out, err);
}

static bool push_if(struct token_list *out, bool wanted, uint32_t id)
{
    return !wanted || id == TOKEN_NONE || token_list_push(out, id);
}

int tokenizer_encode(const struct tokenizer *tokenizer, struct text text,
                     struct tokenize_options options, struct token_list *out,
                     struct hearth_error *err)
{
    if (text.size > TEXT_MAX)
        return error_set(err, HEARTH_E_LIMIT, "a text of %zu bytes; the limit is %zu", text.size,
                         TEXT_MAX);
    struct encoder encoder = {.tokenizer = tokenizer, .out = out, .after_special = true};
    const struct special_ids *ids = &tokenizer->ids;
    size_t before = out->count;
    int status = 0;
    if (!push_if(out, options.add_special && ids->add_bos, ids->bos))
        status = out_of_memory(err);
    if (!status && text.size)
        status = specials_partition(&tokenizer->specials, &tokenizer->vocab, text,
                                    options.parse_special, encode_fragment, &encoder, err);
    if (!status && !push_if(out, options.add_special && ids->add_eos, ids->eos))
        status = out_of_memory(err);
    word_finish(&encoder.word);
    if (status)
        out->count = before;
    return status;
}

uint32_t tokenizer_vocab_size(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab.count;
}

uint32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->ids.bos;
}

uint32_t tokenizer_eos(const struct tokenizer *tokenizer)
{
    return tokenizer->ids.eos;
}

bool tokenizer_adds_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->ids.add_bos;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id)
{
    for (size_t i = 0; i < tokenizer->ids.end_count; i++)
        if (tokenizer->ids.ends[i] == id)
            return true;
    return false;
}

enum token_kind tokenizer_kind(const struct tokenizer *tokenizer, uint32_t id)
{
    unsigned attrs = id < tokenizer->vocab.count ? tokenizer->vocab.attrs[id] : 0;
    if (attrs & ATTR_CONTROL)
        return TOKEN_CONTROL;
    if (attrs & ATTR_UNKNOWN)
        return TOKEN_UNKNOWN;
    if (attrs & ATTR_USER_DEFINED)
        return TOKEN_USER_DEFINED;
    if (attrs & ATTR_NORMAL)
        return TOKEN_NORMAL;
    return attrs & ATTR_BYTE ? TOKEN_BYTE : TOKEN_UNUSED;
}

struct text tokenizer_text(const struct tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->vocab.count ? vocab_text(&tokenizer->vocab, id) : (struct text){NULL, 0};
}

uint32_t tokenizer_find(const struct tokenizer *tokenizer, struct text text)
{
    return vocab_find(&tokenizer->vocab, text);
}
