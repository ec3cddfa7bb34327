/* Architectures: what distinguishes one transformer from another, as rows of traits, and the
 * dimensions that a file gives. The forward pass reads both and knows no architecture by name. */
#ifndef MODEL_ARCHITECTURE_H
#define MODEL_ARCHITECTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "gguf/gguf.h"

#define MODEL_LAYERS_MAX 1024
#define MODEL_HEADS_MAX 1024

enum rope_order {
    ROPE_NORMAL, /* pairs (2 i, 2 i + 1) */
    ROPE_NEOX,   /* pairs (i, i + half) */
};

enum activation {
    ACTIVATION_SILU,
    ACTIVATION_GELU, /* the tanh form */
};

struct architecture {
    const char *name; /* general.architecture */
    enum rope_order rope_order;
    enum activation activation;
    bool qk_norm;         /* an RMS norm of each head's query and key, before the rotation */
    bool post_norms;      /* RMS norms behind attention and feed-forward, before the residual sum */
    bool scale_embedding; /* by the square root of the embedding length */
    bool scale_query_27b; /* Gemma 3 27B scales scores by embedding / heads, not by head size */
    bool windows;         /* attention.sliding_window is obeyed */
    uint32_t
        window_period; /* where the file gives no pattern: each period's last layer is global */
    float window_rope_base; /* of window layers, where the file gives none */
};

/* NULL for a name that is not supported. */
const struct architecture *architecture_find(struct text name);
/* Appends the supported names, separated by ", ". */
void architecture_names(struct buffer *out);

struct layer_shape {
    uint32_t heads, kv_heads, ff_length;
    bool windowed;
};

/* Rotary scaling; the meaning of the numbers is at rope.h. */
enum rope_scaling {
    ROPE_SCALING_NONE,
    ROPE_SCALING_LINEAR,
    ROPE_SCALING_YARN,
};

struct rope_settings {
    uint32_t dimensions; /* of a head that are rotated; even */
    float base, window_base;
    enum rope_scaling scaling;
    float factor;
    float attention_factor;
    float yarn_beta_fast, yarn_beta_slow; /* turns within the original context */
    uint32_t original_context;
};

struct model_shape {
    uint32_t context_length, embedding_length, layer_count, vocabulary;
    uint32_t key_size, value_size;
    uint32_t window; /* 0: none */
    float norm_eps;
    float attention_scale;
    float embedding_scale; /* 1: none */
    float logit_cap;       /* 0: none */
    struct rope_settings rope;
    struct layer_shape *layers; /* [layer_count] */
};

/* Reads and checks the dimensions; every number is in a range that its use can bear.
 * HEARTH_E_MISSING, HEARTH_E_FORMAT, HEARTH_E_UNSUPPORTED, HEARTH_E_MEMORY. */
int model_shape_read(const struct gguf *gguf, const struct architecture *architecture,
                     struct model_shape *out, struct hearth_error *err);
void model_shape_finish(struct model_shape *shape);

#endif
