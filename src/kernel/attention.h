/* Attention of query rows to the KV blocks of one sequence, one layer and one kv head.
 *
 * A block holds 32 tokens, and in it every (layer, kv head) has a part of kv_head_bytes(), 64-byte
 * aligned: keys, then values. Keys lie transposed, token beside token, so that a dot product with
 * 32 keys needs no shuffles; values lie as they come:
 *
 *   KV_F16   keys   f16 [key_size][32]
 *            values f16 [32][value_size]
 *   KV_Q8_0  keys   u8  [key_size / 4][32][4], the int8 value + 128; f16 scale [key_size / 32][32]
 *            values s8  [32][value_size];                            f16 scale [32][value_size /
 * 32]
 *
 * The context is cut at fixed positions (ATTENTION_SPLIT) into partial results, each an online
 * softmax over its blocks in ascending order (Milakov and Gimelshein 2018; Dao et al. 2022), which
 * are then merged in ascending order. A row's result depends on the keys it sees and their
 * positions alone: not on other rows, on threads or on how the prompt was cut. */
#ifndef KERNEL_ATTENTION_H
#define KERNEL_ATTENTION_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KV_BLOCK_TOKENS 32
#define ATTENTION_SPLIT 256    /* tokens; a multiple of KV_BLOCK_TOKENS */
#define ATTENTION_HEAD_MAX 512 /* elements of a key or value of one head */

enum kv_type {
    KV_F16,
    KV_Q8_0,
    KV_TYPES,
};

/* A running softmax: the largest score, the sum of exp(score - max), and the sum of the values
 * weighted so (value_size floats, the caller's). */
struct attention_partial {
    float max, sum;
    float *values;
};

struct attention {
    enum kv_type kv_type;
    size_t key_size, value_size;
    const void *const *blocks;   /* [b]: the part of the 32 tokens from begin + 32 b on; may be NULL
                                    where no row sees them */
    const float *const *queries; /* [row]: key_size floats */
    const uint32_t *first, *last; /* [row]: the tokens that the row sees, both included */
    size_t rows;
    float scale;         /* of scores */
    float soft_cap;      /* score = cap * tanh(score / cap); 0: none */
    uint32_t begin, end; /* the split: first token, a multiple of 32, and one past the last */
    struct attention_partial *partials; /* [row]: written */
};

static inline void attention_partial_clear(struct attention_partial *partial, size_t value_size)
{
    partial->max = -INFINITY;
    partial->sum = 0.0f;
    memset(partial->values, 0, value_size * sizeof *partial->values);
}

/* Bytes of one head's keys (values) in a block; multiples of 64. Q8_0 needs sizes that are
 * multiples of 32. */
static inline size_t kv_key_bytes(enum kv_type type, size_t key_size)
{
    size_t bytes = type == KV_F16
                       ? key_size * KV_BLOCK_TOKENS * 2
                       : key_size * KV_BLOCK_TOKENS + key_size / 32 * KV_BLOCK_TOKENS * 2;
    return (bytes + 63) / 64 * 64;
}

static inline size_t kv_value_bytes(enum kv_type type, size_t value_size)
{
    return kv_key_bytes(type, value_size);
}

static inline size_t kv_head_bytes(enum kv_type type, size_t key_size, size_t value_size)
{
    return kv_key_bytes(type, key_size) + kv_value_bytes(type, value_size);
}

#endif
