/* Between the files of the tokenizer. */
#ifndef MODEL_TOKENIZER_INTERNAL_H
#define MODEL_TOKENIZER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "gguf/gguf.h"
#include "model/pretokenizer.h"
#include "model/tokenizer.h"

/* U+2581, SentencePiece's spelling of a space */
#define META_SPACE "\xe2\x96\x81"
#define META_SPACE_SIZE 3

/* ---- vocabulary: tokenizer_vocab.c ---- */

/* What a token is. Several may hold at once: a name like "<|im_end|>" makes a token that the file
 * calls normal a control token too. */
enum {
    ATTR_UNKNOWN = 1,
    ATTR_UNUSED = 2,
    ATTR_NORMAL = 4,
    ATTR_CONTROL = 8,
    ATTR_USER_DEFINED = 16,
    ATTR_BYTE = 32,
    ATTR_LSTRIP = 64, /* takes the white space before it */
    ATTR_RSTRIP = 128,
};

/* Texts stay in the file; for each there is where it begins (a cursor of gguf_array_next_text), and
 * one open-addressing table from texts to ids, at most half full. A slot holds id + 1 and above it
 * as many bits of the hash as fit, so that a miss rarely reads a text. */
struct vocab {
    const struct gguf_key *texts, *scores; /* scores may be NULL */
    uint32_t *cursors, *slots;
    unsigned char *attrs;
    uint32_t count, slot_mask;
    unsigned id_bits;
    size_t longest;
};

int vocab_open(const struct gguf *gguf, struct vocab *vocab, struct hearth_error *err);
void vocab_finish(struct vocab *vocab);
struct text vocab_text(const struct vocab *vocab, uint32_t id); /* id below count */
/* An empty token is found by nothing; of two equal ones the last is found. */
uint32_t vocab_find(const struct vocab *vocab, struct text text);
/* 0 for the highest score, UINT32_MAX for none: where a merge stands in the order of merges. */
uint32_t vocab_score_order(const struct vocab *vocab, uint32_t id);

/* A place in a table of `mask` + 1 slots may be this far from its hash; random texts stay within
 * about 70, so a file that gets here was made to. */
#define PROBES_MAX 512

static inline uint64_t hash_mix(uint64_t value)
{
    value *= 0x9e3779b97f4a7c15u;
    return value ^ value >> 29;
}

/* ---- special tokens: tokenizer_special.c ---- */

struct special {
    struct text text;
    uint32_t id, rank; /* the longest text has rank 0; among equal lengths the smallest id */
};

/* Tokens that are found in a text before anything else is done with it, ordered by text. */
struct specials {
    struct special *items;
    uint32_t *by_rank; /* indexes of items */
    uint32_t count;
    uint32_t first[257]; /* items that begin with byte b are first[b] … first[b + 1] */
    bool begins[2][256]; /* whether any does, without and with `parse_special` */
};

/* Ids and flags that keys and names decide. */
struct special_ids {
    uint32_t bos, eos, unk;
    bool add_bos, add_eos, add_space_prefix;
    uint32_t *ends;
    size_t end_count;
};

/* Reads keys over the defaults that are in `ids`, and looks for tokens by name, which may change
 * attributes. */
int special_ids_read(const struct gguf *gguf, struct vocab *vocab, struct special_ids *ids,
                     struct hearth_error *err);
int specials_open(const struct vocab *vocab, struct specials *specials, struct hearth_error *err);
void specials_finish(struct specials *specials);

/* A stretch of text, or one token (text.data is NULL then). */
struct fragment {
    struct text text;
    uint32_t id;
};

/* Cuts `text` at the special tokens in it and calls `take` for each fragment in order; ends with
 * the first result that is not 0. */
int specials_partition(const struct specials *specials, const struct vocab *vocab, struct text text,
                       bool parse_special,
                       int (*take)(void *context, struct fragment fragment,
                                   struct hearth_error *err),
                       void *context, struct hearth_error *err);

/* ---- merging: tokenizer_merge.c ---- */

/* The symbols of a word over its bytes. A symbol's first slot has its id and its size in bytes; the
 * last slot of one of several bytes has SLOT_LAST and the index of the first, for the way back;
 * what is between is meaningless. */
#define SLOT_LAST (UINT32_MAX - 1)
#define ORDER_NONE UINT32_MAX

struct slot {
    uint32_t id, size;
};

struct merge_queue;

struct word {
    const char *text;
    struct slot *slots;
    uint32_t
        *orders; /* at a symbol's first slot: that of merging it with the next, or ORDER_NONE */
    size_t size, capacity;
    struct merge_queue *queue; /* for long words */
};

/* Where two neighbours stand in the order of merges, ORDER_NONE if they cannot be merged; and the
 * id of the result. */
struct merge_rules {
    uint32_t (*order)(const void *context, const struct word *word, size_t left, size_t right);
    uint32_t (*merged)(const void *context, uint32_t order);
    const void *context;
};

/* Room for `size` bytes; the old symbols are lost. */
bool word_reserve(struct word *word, size_t size);
void word_finish(struct word *word);
/* Adds a symbol at the end of those that are there. */
static inline void word_append(struct word *word, uint32_t id, size_t size)
{
    size_t first = word->size;
    if (size > 1)
        word->slots[first + size - 1] = (struct slot){SLOT_LAST, (uint32_t)first};
    word->slots[first] = (struct slot){id, (uint32_t)size};
    word->size += size;
}
/* Merges until nothing can be: the lowest order first, the leftmost of equal ones. */
bool word_merge(struct word *word, const struct merge_rules *rules);

/* ---- the kinds ---- */

/* (left, right) -> place in the file's list, through a table like the vocabulary's. */
struct merges {
    struct merge {
        uint32_t left, right, merged;
    } * items;
    uint32_t *slots;
    uint32_t count, slot_mask;
    unsigned id_bits;
};

enum tokenizer_model { MODEL_BYTE_BPE, MODEL_RAW_BPE, MODEL_SPM };

struct tokenizer {
    enum tokenizer_model model;
    struct vocab vocab;
    struct specials specials;
    struct special_ids ids;
    struct pretokenizer *pretokenizer; /* not for MODEL_SPM */
    struct pretokenizer_traits traits;
    struct merges merges;
    uint32_t byte_ids[256];     /* of the symbol that one byte begins as; SPM: of "<0x…>" */
    uint32_t fallbacks[256][2]; /* what stands for a byte that is in no token */
    /* Whether some token has this byte right before META_SPACE: elsewhere a word ends there. */
    bool joins[256];
};

int bpe_open(struct tokenizer *tokenizer, const struct gguf *gguf, struct hearth_error *err);
int bpe_encode(const struct tokenizer *tokenizer, struct text text, struct word *word,
               struct token_list *out, struct hearth_error *err);
void merges_finish(struct merges *merges);

int spm_open(struct tokenizer *tokenizer, struct hearth_error *err);
int spm_encode(const struct tokenizer *tokenizer, struct text text, bool prefix, struct word *word,
               struct token_list *out, struct hearth_error *err);

/* `text` with META_SPACE for spaces, `prefix` one more at the start. The result is in `copy`, which
 * the caller frees, or the text itself. */
bool meta_spaces(struct text text, bool prefix, char **copy, struct text *result);
/* The beginning of `text` up to where no merge can cross. */
struct text meta_word(const struct tokenizer *tokenizer, struct text text);
/* Bytes of the symbol that begins with `lead`, as llama.cpp takes it. */
size_t symbol_size(unsigned char lead, size_t rest);
int out_of_memory(struct hearth_error *err);

/* Byte-level BPE spells each byte as a printable code point. */
uint32_t byte_to_point(unsigned char byte);
int point_to_byte(uint32_t point); /* -1 for a code point that spells none */

#endif
