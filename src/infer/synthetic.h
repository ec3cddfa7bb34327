/* Random weights in the shapes of real models: what is in such a file. */
#ifndef INFER_SYNTHETIC_H
#define INFER_SYNTHETIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/random.h"

struct synthetic_shape {
    const char *name, *architecture;
    uint32_t embedding, layers, heads, kv_heads, head_size, ff_length, vocabulary;
    float rope_base;
    uint32_t window; /* 0: none */
    bool tied;       /* the embedding is the output matrix, too */
    bool biases;     /* of query, key and value */
    bool head_norms; /* of queries and keys */
    bool post_norms;
};

/* Which type a matrix has: a preset's name or one type for all of them. */
struct synthetic_types {
    uint32_t most;   /* of the matrices */
    uint32_t better; /* of attn_v and ffn_down in some layers */
    uint32_t output; /* of embedding and output */
};

/* Reads "SHAPE:TYPE". HEARTH_E_ARGUMENT names what there is. */
int synthetic_parse(const char *what, const struct synthetic_shape **shape,
                    struct synthetic_types *types, struct hearth_error *err);

/* `bytes` of blocks of a type, a multiple of the block: all bits random but for the scales, which
 * make weights of about ±0.03. */
void synthetic_fill(struct random *random, uint32_t type, unsigned char *blocks, size_t bytes);

#endif
