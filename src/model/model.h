/* A model: its architecture, dimensions and weights, tokenizer and chat template.
 *
 * Immutable once opened, shared by any number of threads. Weights are pointers into the mapped
 * file. Matrices are [rows][columns], a row lying contiguous, as in y = W x. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "gguf/gguf.h"
#include "model/architecture.h"
#include "model/loader.h"
#include "model/rope.h"
#include "model/template.h"
#include "model/tokenizer.h"

struct matrix {
    uint32_t type; /* an enum tensor_type; of a type that hearth computes with */
    uint32_t rows, columns;
    size_t row_bytes;
    const void *data;
    const float *bias; /* [rows], or NULL */
};

struct layer {
    const float *attention_norm; /* [embedding] */
    struct matrix query, key, value, attention_output;
    const float *query_norm, *key_norm; /* [key size]; NULL unless qk_norm */
    const float *attention_post_norm;   /* [embedding]; NULL unless post_norms */
    const float *ff_norm;
    struct matrix gate, up, down;
    const float *ff_post_norm;
    const struct rope *rope;
    uint32_t window; /* tokens seen, the current one included; 0: all */
};

struct model {
    struct gguf *gguf;
    struct hearth_error unusable; /* code 0, or why nothing can be computed: see model_options */
    const struct architecture *architecture;
    struct model_shape shape;
    struct matrix embedding; /* [vocabulary][embedding] */
    struct matrix output;    /* the same matrix where the file has no other */
    const float *output_norm;
    struct layer *layers; /* [shape.layer_count] */
    struct rope rope, window_rope;
    struct tokenizer *tokenizer;
    struct chat_template *chat_template; /* NULL where the file has none */
    struct loader *loader;               /* NULL where nobody computes, or none could start */
};

struct model_options {
    bool load;                 /* bring the weights into memory in the background */
    bool vocabulary_only;      /* open without weights, too, or with such as cannot be used */
    const char *chat_template; /* in the place of the file's; NULL: the file's */
    struct loader_progress progress;
};

/* Takes over `gguf`, which is closed with the model, or at once on failure. */
int model_open(struct gguf *gguf, const struct model_options *options, struct model **out,
               struct hearth_error *err);
void model_close(struct model *model);
/* Whether it can compute; model_open says so of every model but such as have only a vocabulary. */
int model_check(const struct model *model, struct hearth_error *err);
/* What a model takes besides the bytes of its file: tables of tensors, tokens, the template. */
size_t model_bytes(const struct model *model);

#endif
