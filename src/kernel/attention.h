/* Attention of query rows to the KV blocks of one sequence, one layer and one kv head.
 *
 * A block holds 32 tokens, and in it every (layer, kv head) has a part of kv_head_bytes(), 64-byte
 * aligned: keys, then values. Keys lie transposed, token beside token, so that a dot product with
 * 32 keys needs no shuffles; integer values lie in pairs of tokens, as instructions that multiply
 * pairs of int16 want them. No byte holds more than one token, so that threads may store different
 * tokens of a block at once:
 *
 *   KV_F16   keys   f16 [key_size][32]
 *            values f16 [32][value_size]
 *   KV_Q8_0  keys   u8  [key_size / 4][32][4], the int8 + 128;    f16 scale [key_size / 32][32]
 *            values s8  [32 / 2][value_size][2];                  f16 scale [value_size / 32][32]
 *   KV_Q4_0  keys   u8  [key_size / 8][32][4], the int4 + 8 of elements j (low) and j + 4 of eight
 *            values u8  [32 / 2][value_size / 32][16][2], the int4 of elements j (low) and j + 16;
 *            scales as those of KV_Q8_0
 *
 * Every value of a part, stored or not yet, is a finite number: it is multiplied by 0 for rows that
 * do not see it.
 *
 * The context is cut at fixed positions (ATTENTION_SPLIT) into partial results, each an online
 * softmax over its blocks in ascending order (Milakov and Gimelshein 2018; Dao et al. 2022), which
 * are then merged in ascending order. A row's result depends on the keys it sees and their
 * positions alone: not on other rows, on threads or on how the prompt was cut. (Partial results may
 * differ in the sign of a zero; attention_finish makes all zeros positive.) */
#ifndef KERNEL_ATTENTION_H
#define KERNEL_ATTENTION_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define KV_BLOCK_TOKENS 32
#define ATTENTION_SPLIT 256    /* tokens; a multiple of KV_BLOCK_TOKENS */
#define ATTENTION_HEAD_MAX 512 /* elements of a key or value of one head */
#define ATTENTION_ROWS_MAX 128 /* of one task */

enum kv_type {
    KV_F16,
    KV_Q8_0,
    KV_Q4_0,
    KV_TYPES,
};

/* A running softmax: the largest score, the sum of exp(score - max), and the sum of the values
 * weighted so (value_size floats, the caller's). */
struct attention_partial {
    float max, sum;
    float *values;
};

struct attention {
    enum kv_type key_type, value_type;
    size_t key_size, value_size;
    const void *const *blocks; /* [b]: the block of the context's tokens from 32 b on; NULL where no
                                  row sees them */
    size_t offset;             /* of the head's part in each of them */
    const float *const *queries;  /* [row]: key_size floats */
    const uint32_t *first, *last; /* [row]: the tokens that the row sees, both included */
    size_t rows;
    float scale;                        /* of scores */
    float soft_cap;                     /* score = cap * tanh(score / cap); 0: none */
    uint32_t begin, end;                /* tokens to add: whole splits */
    struct attention_partial *partials; /* [row]: of all tokens before `begin`; changed */
    void *scratch;                      /* rows * ATTENTION_SCRATCH_PER_ROW, 64-byte aligned */
};

/* Bytes for the row's query, its partial result of a split, and 16 sums. */
#define ATTENTION_SCRATCH_PER_ROW(key_size, value_size)                                            \
    ((((key_size) + 15) / 16 + ((value_size) + 15) / 16 + 2) * 64)

static inline void attention_partial_clear(struct attention_partial *partial, size_t value_size)
{
    partial->max = -INFINITY;
    partial->sum = 0.0f;
    memset(partial->values, 0, value_size * sizeof *partial->values);
}

/* Whether a head of `size` elements can be stored so. */
static inline bool kv_type_fits(enum kv_type type, size_t size)
{
    return type == KV_F16 || size % 32 == 0;
}

/* Whether keys and queries (values) are to be rotated before they are stored (the result after
 * attention): see hadamard in vector.h. */
static inline bool kv_type_rotates(enum kv_type type)
{
    return type != KV_F16;
}

/* Bytes of one head's keys (values) in a block; multiples of 64. */
static inline size_t kv_key_bytes(enum kv_type type, size_t key_size)
{
    size_t scales = key_size / 32 * KV_BLOCK_TOKENS * 2;
    size_t bytes = type == KV_F16    ? key_size * KV_BLOCK_TOKENS * 2
                   : type == KV_Q8_0 ? key_size * KV_BLOCK_TOKENS + scales
                                     : key_size * KV_BLOCK_TOKENS / 2 + scales;
    return (bytes + 63) / 64 * 64;
}

static inline size_t kv_value_bytes(enum kv_type type, size_t value_size)
{
    return kv_key_bytes(type, value_size);
}

static inline size_t kv_head_bytes(enum kv_type key_type, enum kv_type value_type, size_t key_size,
                                   size_t value_size)
{
    return kv_key_bytes(key_type, key_size) + kv_value_bytes(value_type, value_size);
}

#endif
