/* The tokenizer that a GGUF file describes: text to token ids and back.
 *
 * Kinds (key tokenizer.ggml.model): "gpt2", byte-level BPE with a pre-tokenizer named by
 * tokenizer.ggml.pre; "llama", SentencePiece BPE by scores with byte fallback; "gemma4", BPE by
 * merges over SentencePiece's spelling. Results are those of llama.cpp's llama-tokenize.
 *
 * Immutable after opening, so any number of threads may use it at once; each call brings its own
 * scratch memory. Texts may hold any bytes, up to 1 GiB. Time is O(n log n) in the text, stack use
 * constant, scratch memory up to some 60 bytes per byte of text (usually far less: words are merged
 * one by one).
 *
 * Where llama.cpp aborts, this goes on: bytes that would encode a code point above U+10FFFF are
 * invalid ones (U+FFFD each, in BPE), a missing BOS is not added, of two tokens with the same text
 * the last is found. A token without text is found by nothing and decodes to nothing. */
#ifndef MODEL_TOKENIZER_H
#define MODEL_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "gguf/gguf.h"

struct tokenizer;

#define TOKEN_NONE UINT32_MAX

/* tokenizer.ggml.token_type, as SentencePiece numbers them */
enum token_kind {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

struct token_list {
    uint32_t *ids; /* freed with token_list_finish */
    size_t count, capacity;
};

void token_list_finish(struct token_list *list);
/* false without memory; the list is unchanged then */
bool token_list_push(struct token_list *list, uint32_t id);

struct tokenize_options {
    /* BOS and EOS where the model's keys ask for them (llama-tokenize asks for both or, where the
     * model adds no BOS, for none) */
    bool add_special;
    /* Control tokens in the text become their ids; user-defined ones always do. */
    bool parse_special;
};

/* `gguf` must outlive the tokenizer: token texts point into its mapping. HEARTH_E_MISSING (no
 * tokenizer in the file), _UNSUPPORTED (names the kind or pre-tokenizer and those that work),
 * _FORMAT, _MEMORY. */
int tokenizer_open(const struct gguf *gguf, struct tokenizer **out, struct hearth_error *err);
void tokenizer_close(struct tokenizer *tokenizer);
size_t tokenizer_bytes(const struct tokenizer *tokenizer); /* of its tables */

/* Appends the ids of `text`. On failure (_MEMORY, _LIMIT) the list is as it was. */
int tokenizer_encode(const struct tokenizer *tokenizer, struct text text,
                     struct tokenize_options options, struct token_list *out,
                     struct hearth_error *err);

/* Appends the bytes that one token stands for; possibly a part of a code point. Control tokens give
 * their text when `special`, else nothing. An id outside the vocabulary gives nothing.
 * `first`: the token begins the text, so that a SentencePiece space prefix is dropped. */
bool tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id, bool special, bool first,
                     struct buffer *out);

/* The whole text of the ids, in the way llama.cpp's detokenize gives it. */
int tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                     bool special, struct buffer *out, struct hearth_error *err);

uint32_t tokenizer_vocab_size(const struct tokenizer *tokenizer);
uint32_t tokenizer_bos(const struct tokenizer *tokenizer); /* TOKEN_NONE where there is none */
uint32_t tokenizer_eos(const struct tokenizer *tokenizer);
bool tokenizer_adds_bos(const struct tokenizer *tokenizer);
/* Whether an id ends a generation: EOS, EOT, EOM and those that llama.cpp recognizes by name. */
bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id);
enum token_kind tokenizer_kind(const struct tokenizer *tokenizer, uint32_t id);
/* The token as the file spells it; empty for an id outside the vocabulary. */
struct text tokenizer_text(const struct tokenizer *tokenizer, uint32_t id);
/* The id of a token spelled exactly so in the file, or TOKEN_NONE. */
uint32_t tokenizer_find(const struct tokenizer *tokenizer, struct text text);

#endif
