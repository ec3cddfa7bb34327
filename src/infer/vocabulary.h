/* What sampling and streaming ask of a tokenizer, so that their tests need no model file. */
#ifndef INFER_VOCABULARY_H
#define INFER_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

struct tokenizer;

/* A small value that is copied; what `context` points to must outlive its users. The calls may come
 * from several threads at once. */
struct vocabulary {
    const void *context;
    uint32_t size; /* tokens */
    /* Appends the bytes of a token, like tokenizer_piece; false without memory. */
    bool (*piece)(const void *context, uint32_t id, bool special, bool first, struct buffer *out);
    /* The first `max` ids of a text at most, nothing added and no special tokens parsed. */
    int (*encode)(const void *context, struct text text, uint32_t *ids, size_t max, size_t *count,
                  struct hearth_error *err);
};

struct vocabulary vocabulary_of(const struct tokenizer *tokenizer);

#endif
