/* Tokens with a role: which ids begin and end a text, and which texts are tokens before anything
 * else is done with them. The lists of names are llama.cpp's (src/llama-vocab.cpp): many files name
 * no role and are known by their tokens' spelling. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/tokenizer_internal.h"

/* Longer ones are matched by nothing real, and cost time at every byte of a text. */
#define SPECIAL_SIZE_MAX 1024
#define NAMES_MAX 12

/* A role, its key, another key for it, and the spellings to look for where no key names it. */
struct role {
    const char *key, *old_key;
    bool ends; /* its token ends a generation */
    const char *names[NAMES_MAX];
};

#define KEY(name) "tokenizer.ggml." name "_token_id"

static const struct role roles[] = {
    {KEY("eot"),
     NULL,
     true,
     {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
      "<EOT>", "_<EOT>", "[EOT]",
      "<\xef\xbd\x9c"
      "end" META_SPACE "of" META_SPACE "sentence\xef\xbd\x9c>",
      "<end_of_utterance>"}},
    {KEY("eom"), NULL, true, {"<|eom_id|>"}},
    {KEY("fim_pre"),
     KEY("prefix"),
     false,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>",
      "<\xef\xbd\x9c"
      "fim" META_SPACE "begin\xef\xbd\x9c>",
      "<PRE>", META_SPACE "<PRE>", "<|code_prefix|>", "<|prefix|>"}},
    {KEY("fim_suf"),
     KEY("suffix"),
     false,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>",
      "<\xef\xbd\x9c"
      "fim" META_SPACE "hole\xef\xbd\x9c>",
      "<SUF>", META_SPACE "<SUF>", "<|code_suffix|>", "<|suffix|>"}},
    {KEY("fim_mid"),
     KEY("middle"),
     false,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>",
      "<\xef\xbd\x9c"
      "fim" META_SPACE "end\xef\xbd\x9c>",
      "<MID>", META_SPACE "<MID>", "<|code_middle|>", "<|middle|>"}},
    {KEY("fim_pad"), NULL, true, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {KEY("fim_rep"),
     NULL,
     true,
     {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {KEY("fim_sep"), NULL, true, {"<|file_sep|>"}},
};

static const char *const end_names[] = {"<|eot_id|>",
                                        "<|im_end|>",
                                        "<|end|>",
                                        "<|return|>",
                                        "<|call|>",
                                        "<|flush|>",
                                        "<|calls|>",
                                        "<end_of_turn>",
                                        "<|endoftext|>",
                                        "</s>",
                                        "<|eom_id|>",
                                        "<EOT>",
                                        "_<EOT>",
                                        "[EOT]",
                                        "[EOS]",
                                        "<|end_of_text|>",
                                        "<end_of_utterance>",
                                        "<eos>",
                                        "<turn|>",
                                        "<|tool_response>",
                                        "<\xef\xbd\x9c"
                                        "end" META_SPACE "of" META_SPACE "sentence\xef\xbd\x9c>",
                                        "[e~["};

/* Shown to the reader of gpt-oss's text, though the file calls them control tokens. */
static const char *const shown_names[] = {"<|channel|>", "<|message|>", "<|start|>",
                                          "<|constrain|>"};

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define ENDS_MAX (COUNT(roles) + COUNT(end_names) + 1)

static uint32_t find_name(const struct vocab *vocab, const char *name)
{
    return vocab_find(vocab, text_of(name));
}

static bool is_end(const struct special_ids *ids, uint32_t id)
{
    for (size_t i = 0; i < ids->end_count; i++)
        if (ids->ends[i] == id)
            return true;
    return false;
}

static void add_end(struct special_ids *ids, uint32_t id)
{
    if (id != TOKEN_NONE && !is_end(ids, id))
        ids->ends[ids->end_count++] = id;
}

static void remove_end(struct special_ids *ids, uint32_t id)
{
    for (size_t i = 0; i < ids->end_count; i++)
        if (ids->ends[i] == id)
            ids->ends[i--] = ids->ends[--ids->end_count];
}

/* An id that the file may name: outside the vocabulary, the default stays. */
static int read_id(const struct gguf *gguf, const char *key, const struct vocab *vocab,
                   uint32_t *id, struct hearth_error *err)
{
    uint32_t value;
    if (*id != TOKEN_NONE && *id >= vocab->count)
        *id = TOKEN_NONE;
    if (!key || !gguf_find(gguf, key))
        return 0;
    int status = gguf_get_u32(gguf, key, 0, UINT32_MAX, &value, err);
    if (!status && value < vocab->count)
        *id = value;
    return status;
}

static int read_flag(const struct gguf *gguf, const char *key, bool *flag, struct hearth_error *err)
{
    return gguf_find(gguf, key) ? gguf_get_bool(gguf, key, flag, err) : 0;
}

static int read_roles(const struct gguf *gguf, struct vocab *vocab, struct special_ids *ids,
                      struct hearth_error *err)
{
    for (size_t i = 0; i < COUNT(roles); i++) {
        uint32_t id = TOKEN_NONE;
        int status = read_id(gguf, roles[i].key, vocab, &id, err);
        if (!status)
            status = read_id(gguf, roles[i].old_key, vocab, &id, err);
        if (status)
            return status;
        for (size_t k = 0; k < NAMES_MAX && roles[i].names[k] && id == TOKEN_NONE; k++) {
            id = find_name(vocab, roles[i].names[k]);
            if (id != TOKEN_NONE)
                vocab->attrs[id] |= ATTR_CONTROL;
        }
        if (roles[i].ends)
            add_end(ids, id);
    }
    return 0;
}

static void find_ends(struct vocab *vocab, struct special_ids *ids)
{
    for (size_t i = 0; i < COUNT(end_names); i++) {
        uint32_t id = find_name(vocab, end_names[i]);
        if (id == TOKEN_NONE)
            continue;
        add_end(ids, id);
        vocab->attrs[id] |= ATTR_CONTROL;
    }
    for (size_t i = 0; i < COUNT(shown_names); i++) {
        uint32_t id = find_name(vocab, shown_names[i]);
        if (id != TOKEN_NONE)
            vocab->attrs[id] = ATTR_USER_DEFINED;
    }
    add_end(ids, ids->eos);
}

/* Tokens that other families use as an end, and these as a part of an answer. */
static void remove_false_ends(struct vocab *vocab, struct special_ids *ids)
{
    bool returns = is_end(ids, find_name(vocab, "<|return|>"));
    bool calls =
        is_end(ids, find_name(vocab, "<|call|>")) || is_end(ids, find_name(vocab, "<|calls|>"));
    bool flush = is_end(ids, find_name(vocab, "<|flush|>"));
    uint32_t end = find_name(vocab, "<|end|>"), s = find_name(vocab, "</s>");
    if (calls && (returns || flush) && is_end(ids, end)) {
        remove_end(ids, end);
        vocab->attrs[end] = ATTR_USER_DEFINED;
    }
    if ((is_end(ids, find_name(vocab, "<|tool_response>")) ||
         is_end(ids, find_name(vocab, "<|plamo:eos|>"))) &&
        is_end(ids, s)) {
        remove_end(ids, s);
        vocab->attrs[s] = ATTR_NORMAL;
    }
}

static bool contains(struct text whole, const char *part)
{
    size_t size = strlen(part);
    for (size_t i = 0; i + size <= whole.size; i++) {
        size_t k = 0;
        while (k < size &&
               (whole.data[i + k] |
                (whole.data[i + k] >= 'A' && whole.data[i + k] <= 'Z' ? 0x20 : 0)) == part[k])
            k++;
        if (k == size)
            return true;
    }
    return false;
}

static struct text optional_text(const struct gguf *gguf, const char *key)
{
    struct text text = {NULL, 0};
    gguf_get_text(gguf, key, &text, NULL);
    return text;
}

static void set_attr(struct vocab *vocab, const char *name, unsigned attr, bool on)
{
    uint32_t id = find_name(vocab, name);
    if (id != TOKEN_NONE)
        vocab->attrs[id] = (unsigned char)(on ? vocab->attrs[id] | attr : vocab->attrs[id] & ~attr);
}

/* Files do not say which tokens take the white space beside them; names of models do. */
static void find_stripping(const struct gguf *gguf, struct vocab *vocab)
{
    struct text name = optional_text(gguf, "general.name");
    struct text pre = optional_text(gguf, "tokenizer.ggml.pre");
    if (contains(pre, "jina-v2-de") || contains(pre, "jina-v2-es") ||
        contains(pre, "jina-v2-code")) {
        set_attr(vocab, "<mask>", ATTR_LSTRIP, true);
    } else if (contains(name, "phi-3") || contains(name, "phi3")) {
        for (uint32_t id = 0; id < vocab->count; id++)
            if (vocab->attrs[id] & (ATTR_CONTROL | ATTR_USER_DEFINED | ATTR_UNKNOWN))
                vocab->attrs[id] |= ATTR_RSTRIP;
        set_attr(vocab, "</s>", ATTR_RSTRIP, true);
        set_attr(vocab, "<unk>", ATTR_RSTRIP, false);
        set_attr(vocab, "<s>", ATTR_RSTRIP, false);
        set_attr(vocab, "<|endoftext|>", ATTR_RSTRIP, false);
    } else if (contains(name, "modern-bert")) {
        set_attr(vocab, "[MASK]", ATTR_LSTRIP, true);
    }
}

int special_ids_read(const struct gguf *gguf, struct vocab *vocab, struct special_ids *ids,
                     struct hearth_error *err)
{
    int status = read_id(gguf, KEY("bos"), vocab, &ids->bos, err);
    if (!status)
        status = read_id(gguf, KEY("eos"), vocab, &ids->eos, err);
    if (!status)
        status = read_id(gguf, KEY("unknown"), vocab, &ids->unk, err);
    if (!status)
        status = read_flag(gguf, "tokenizer.ggml.add_bos_token", &ids->add_bos, err);
    if (!status)
        status = read_flag(gguf, "tokenizer.ggml.add_eos_token", &ids->add_eos, err);
    if (!status)
        status = read_flag(gguf, "tokenizer.ggml.add_space_prefix", &ids->add_space_prefix, err);
    if (status)
        return status;
    ids->ends = mem_alloc_array(ENDS_MAX, sizeof *ids->ends);
    if (!ids->ends)
        return out_of_memory(err);
    status = read_roles(gguf, vocab, ids, err);
    if (status)
        return status;
    find_ends(vocab, ids);
    remove_false_ends(vocab, ids);
    find_stripping(gguf, vocab);
    return 0;
}

static int compare_texts(const void *a, const void *b)
{
    return text_compare(((const struct special *)a)->text, ((const struct special *)b)->text);
}

/* Longest first. Sorts a copy: by the time of ranking `items` is ordered by text. */
struct ranked {
    size_t size;
    uint32_t id, item;
};

static int compare_ranks(const void *a, const void *b)
{
    const struct ranked *left = a, *right = b;
    if (left->size != right->size)
        return left->size > right->size ? -1 : 1;
    return left->id < right->id ? -1 : left->id > right->id;
}

static bool rank(struct specials *specials)
{
    struct ranked *ranked = mem_alloc_array(specials->count, sizeof *ranked);
    if (!ranked)
        return false;
    for (uint32_t i = 0; i < specials->count; i++)
        ranked[i] = (struct ranked){specials->items[i].text.size, specials->items[i].id, i};
    qsort(ranked, specials->count, sizeof *ranked, compare_ranks);
    for (uint32_t i = 0; i < specials->count; i++) {
        specials->items[ranked[i].item].rank = i;
        specials->by_rank[i] = ranked[i].item;
    }
    mem_free(ranked);
    return true;
}

/* Control and unknown tokens are found only on request; those that users defined always are. */
static bool is_found(const struct vocab *vocab, uint32_t id, bool parse_special)
{
    return parse_special || !(vocab->attrs[id] & (ATTR_CONTROL | ATTR_UNKNOWN));
}

static void index_first_bytes(const struct vocab *vocab, struct specials *specials)
{
    uint32_t at = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        specials->first[byte] = at;
        for (; at < specials->count; at++) {
            const struct special *special = &specials->items[at];
            if ((unsigned char)special->text.data[0] != byte)
                break;
            specials->begins[1][byte] = true;
            specials->begins[0][byte] |= is_found(vocab, special->id, false);
        }
    }
    specials->first[256] = at;
}

int specials_open(const struct vocab *vocab, struct specials *specials, struct hearth_error *err)
{
    const unsigned wanted = ATTR_CONTROL | ATTR_USER_DEFINED | ATTR_UNKNOWN;
    uint32_t count = 0;
    for (uint32_t id = 0; id < vocab->count; id++)
        count += (vocab->attrs[id] & wanted) != 0;
    specials->items = mem_alloc_array(count, sizeof *specials->items);
    specials->by_rank = mem_alloc_array(count, sizeof *specials->by_rank);
    if (!specials->items || !specials->by_rank)
        return out_of_memory(err);
    for (uint32_t id = 0; id < vocab->count; id++) {
        struct text text = vocab_text(vocab, id);
        /* The last of equal texts is the one that is found elsewhere too. */
        if (!(vocab->attrs[id] & wanted) || vocab_find(vocab, text) != id)
            continue;
        if (text.size > SPECIAL_SIZE_MAX)
            return error_set(err, HEARTH_E_LIMIT,
                             "the special token %u has %zu bytes, more than %d", id, text.size,
                             SPECIAL_SIZE_MAX);
        specials->items[specials->count++] = (struct special){.text = text, .id = id};
    }
    qsort(specials->items, specials->count, sizeof *specials->items, compare_texts);
    if (!rank(specials))
        return out_of_memory(err);
    index_first_bytes(vocab, specials);
    return 0;
}

void specials_finish(struct specials *specials)
{
    mem_free(specials->items);
    mem_free(specials->by_rank);
    *specials = (struct specials){.count = 0};
}
