/* Small vocabularies for the tokenizer's tests, as GGUF files. */
#ifndef TESTS_TOKENIZER_MATERIAL_H
#define TESTS_TOKENIZER_MATERIAL_H

#include "base/random.h"
#include "model/tokenizer.h"
#include "support/gguf_writer.h"

/* A vocabulary in the making; texts are copied. */
struct material {
    const char *model, *pre; /* pre may be NULL */
    struct text *tokens, *merges;
    int32_t *types;
    float *scores;
    size_t token_count, merge_count;
    struct gguf_writer writer; /* further keys may be added before it is opened */
};

void material_init(struct material *material, const char *model, const char *pre);
void material_finish(struct material *material);
uint32_t material_token(struct material *material, struct text text, int32_t type, float score);
void material_merge(struct material *material, struct text text);

/* The 256 bytes as byte-level BPE spells them; token b is byte b. */
void material_bytes(struct material *material);
/* "<0x00>" … "<0xFF>"; token b is byte b. */
void material_byte_names(struct material *material);
/* Tokens and merges of random pairs, over the letters of `alphabet` as they are spelled. */
void material_random_merges(struct material *material, struct random *random, const char *alphabet,
                            size_t count);

/* Writes the file and opens it. tokenizer_open's result; on success both are to be closed. */
int material_open(struct material *material, struct gguf **gguf, struct tokenizer **tokenizer,
                  struct hearth_error *err);

/* Random text: valid UTF-8 of several scripts, or any bytes. */
size_t random_valid_text(struct random *random, char *out, size_t size);
size_t random_bytes(struct random *random, char *out, size_t size);
uint32_t random_below(struct random *random, uint32_t end);

#endif
