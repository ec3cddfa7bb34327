/* Attention over 16-lane vectors; a part of vector_tmpl.h.
 *
 * Rows go through a block in tiles of up to V16_TILE, so that a key or value is loaded and widened
 * once for all of them; blocks are the outer loop, so that they come from memory once. Rows of a
 * tile need not see the same tokens: hidden ones get a weight of 0. Each row's own chain of
 * operations is what it is alone. */

/* Prefetches walk the next block from its first line to its last, whatever order the loops have: so
 * the second cache's own prefetcher follows them. Into that cache, because the first holds the
 * block that is being read. */

/* A function whose row count must be a constant, so that its sums live in registers. */
#if defined(__GNUC__)
#define TILED static inline __attribute__((always_inline))
#define ATTENTION_PREFETCH(address) __builtin_prefetch((address), 0, 2)
#else
#define TILED static inline
#define ATTENTION_PREFETCH(address) ((void)(address))
#endif

/* Up to V16_TILE rows on their way through a split. */
struct tile {
    size_t rows, first_row;
    const float *query; /* packed as the type of keys wants it, see pack_queries */
    float *values;      /* [row][value_size, rounded up to 16] */
    float *sums;        /* [row][16]: of the split's weights, lane by lane */
    float max[V16_TILE];
};

/* What a tile makes of one block. */
struct tile_block {
    _Alignas(64) float scores[V16_TILE][KV_BLOCK_TOKENS]; /* then weights */
    float raise[V16_TILE];                                /* factor of what is summed already */
    float weigh[V16_TILE];                                /* factor of what this block adds */
    struct seen {
        int begin, end; /* the slots of the block that a row sees */
    } seen[V16_TILE];
    int begin, end; /* the slots that any row sees */
};

/* a where the slots from `first` on, lane by lane, lie in begin..end-1, elsewhere `value` */
static struct v16 v16_hide(struct v16 a, int first, int begin, int end, float value)
{
    int from = begin - first, to = end - first;
    if (from <= 0 && to >= 16)
        return a;
    from = from < 0 ? 0 : from > 16 ? 16 : from;
    to = to < from ? from : to > 16 ? 16 : to;
    return v16_select_range(a, v16_set(value), from, to);
}

/* ---- queries ----
 *
 * Row beside row, so that one register addresses all rows of a tile:
 *   f16    f32 [key_size][n], multiplied by the scale of scores
 *   q8, q4 four int8 [key_size / 4][n], f32 scale [key_size / 32][n], s32 sum of 32 [.. / 32][n] */

static void pack_query_f16(const float *query, size_t key_size, float scale, float *out, size_t n)
{
    for (size_t i = 0; i < key_size; i++)
        out[i * n] = query[i] * scale;
}

static void pack_query_int(const float *query, size_t key_size, float scale, float *out, size_t n)
{
    float *scales = out + key_size / 4 * n, *sums = scales + key_size / 32 * n;
    for (size_t group = 0; group < key_size / 32; group++) {
        _Alignas(64) int8_t q[32];
        int32_t sum = 0;
        scales[group * n] = quantize_group(query + 32 * group, q) * scale;
        for (size_t i = 0; i < 32; i++)
            sum += q[i];
        memcpy(&sums[group * n], &sum, sizeof sum);
        for (size_t four = 0; four < 8; four++)
            memcpy(&out[(group * 8 + four) * n], q + four * 4, 4);
    }
}

/* ---- scores: lanes are the 32 tokens of a block ---- */

/* V16_WIDE vectors of tokens at once; `next` is what will be wanted then. */
TILED void scores_f16(const struct tile *tile, size_t n, size_t key_size, const void *part,
                      const char *next, struct tile_block *out)
{
    for (size_t half = 0; half < 2; half += V16_WIDE) {
        const uint16_t *keys = (const uint16_t *)part + 16 * half;
        const float *query = tile->query;
        struct v16 sum[V16_TILE][V16_WIDE];
        for (size_t r = 0; r < n; r++) {
            for (size_t w = 0; w < V16_WIDE; w++)
                sum[r][w] = v16_set(0.0f);
        }
        for (size_t i = 0; i < key_size; i++, query += n, keys += KV_BLOCK_TOKENS) {
            struct v16 key[V16_WIDE];
            for (size_t w = 0; w < V16_WIDE; w++)
                key[w] = v16_load_f16(keys + 16 * w);
            if (i % (2 / V16_WIDE) == 0)
                ATTENTION_PREFETCH(next + (half * key_size / 2 + i * V16_WIDE / 2) * 64);
            for (size_t r = 0; r < n; r++) {
                struct v16 q = v16_set(query[r]);
                for (size_t w = 0; w < V16_WIDE; w++)
                    sum[r][w] = v16_fma(q, key[w], sum[r][w]);
            }
        }
        for (size_t r = 0; r < n; r++) {
            for (size_t w = 0; w < V16_WIDE; w++)
                v16_store(out->scores[r] + 16 * (half + w), sum[r][w]);
        }
    }
}

/* The products of 32 elements times their scales, added to the sums of scores. */
TILED void add_group_scores(const float *scales, const uint16_t *key_scales, size_t n,
                            const struct v16i (*dot)[V16_WIDE], struct v16 (*sum)[V16_WIDE])
{
    struct v16 scale[V16_WIDE];
    for (size_t w = 0; w < V16_WIDE; w++)
        scale[w] = v16_load_f16(key_scales + 16 * w);
    for (size_t r = 0; r < n; r++) {
        struct v16 q = v16_set(scales[r]);
        for (size_t w = 0; w < V16_WIDE; w++)
            sum[r][w] = v16_fma(v16_mul(q, scale[w]), v16_from_int(dot[r][w]), sum[r][w]);
    }
}

TILED void dot_group_q8_0(const int32_t *query, size_t n, const int32_t *sums, const uint8_t *keys,
                          const char *next, struct v16i (*dot)[V16_WIDE])
{
    for (size_t r = 0; r < n; r++) {
        for (size_t w = 0; w < V16_WIDE; w++)
            dot[r][w] = v16i_key_start(sums[r]);
    }
    for (size_t four = 0; four < 8; four++) {
        for (size_t w = 0; w < V16_WIDE; w++) {
            size_t at = four * 4 * KV_BLOCK_TOKENS + w * 64;
            struct v16k key = v16k_load(keys + at);
            ATTENTION_PREFETCH(next + at);
            for (size_t r = 0; r < n; r++)
                dot[r][w] = v16i_dot_key(dot[r][w], key, query[four * n + r]);
        }
    }
}

TILED void dot_group_q4_0(const int32_t *query, size_t n, const int32_t *sums, const uint8_t *keys,
                          const char *next, struct v16i (*dot)[V16_WIDE])
{
    for (size_t r = 0; r < n; r++) {
        for (size_t w = 0; w < V16_WIDE; w++)
            dot[r][w] = v16i_set(-8 * sums[r]);
    }
    for (size_t eight = 0; eight < 4; eight++) {
        for (size_t w = 0; w < V16_WIDE; w++) {
            size_t at = eight * 4 * KV_BLOCK_TOKENS + w * 64;
            struct v16k low, high;
            v16k_load_u4(keys + at, &low, &high);
            ATTENTION_PREFETCH(next + at);
            for (size_t r = 0; r < n; r++) {
                dot[r][w] = v16i_dot_u4(dot[r][w], low, query[2 * eight * n + r]);
                dot[r][w] = v16i_dot_u4(dot[r][w], high, query[(2 * eight + 1) * n + r]);
            }
        }
    }
}

TILED void scores_int(const struct tile *tile, size_t n, size_t key_size, const void *part,
                      const char *next, bool nibbles, struct tile_block *out)
{
    const size_t group_bytes = (nibbles ? 16 : 32) * KV_BLOCK_TOKENS, groups = key_size / 32;
    const uint16_t *key_scales = (const uint16_t *)((const uint8_t *)part + groups * group_bytes);
    for (size_t half = 0; half < 2; half += V16_WIDE) {
        const uint8_t *keys = (const uint8_t *)part + 64 * half;
        const int32_t *query = (const int32_t *)tile->query;
        const float *scales = tile->query + key_size / 4 * n;
        const int32_t *sums = (const int32_t *)(scales + groups * n);
        struct v16 sum[V16_TILE][V16_WIDE];
        for (size_t r = 0; r < n; r++) {
            for (size_t w = 0; w < V16_WIDE; w++)
                sum[r][w] = v16_set(0.0f);
        }
        for (size_t group = 0; group < groups; group++) {
            struct v16i dot[V16_TILE][V16_WIDE];
            const char *soon = next + group * group_bytes + 64 * half;
            if (nibbles)
                dot_group_q4_0(query, n, sums, keys, soon, dot);
            else
                dot_group_q8_0(query, n, sums, keys, soon, dot);
            add_group_scores(scales, key_scales + group * KV_BLOCK_TOKENS + 16 * half, n,
                             (const struct v16i(*)[V16_WIDE])dot, sum);
            query += 8 * n;
            scales += n;
            sums += n;
            keys += group_bytes;
        }
        for (size_t r = 0; r < n; r++) {
            for (size_t w = 0; w < V16_WIDE; w++)
                v16_store(out->scores[r] + 16 * (half + w), sum[r][w]);
        }
    }
}

/* ---- values: lanes are elements of a value ---- */

/* `values` of each row = values * raise + weights of the seen tokens times their values, ascending;
 * `width` vectors. */
TILED void add_columns_f16(const struct tile *tile, size_t n, size_t size, const uint16_t *rows,
                           const char *next, const struct tile_block *block, size_t width,
                           size_t at)
{
    const size_t stride = (size + 15) / 16 * 16;
    struct v16 sum[V16_TILE][V16_WIDE];
    for (size_t r = 0; r < n; r++) {
        struct v16 raise = v16_set(block->raise[r]);
        for (size_t w = 0; w < width; w++)
            sum[r][w] = v16_mul(v16_load(tile->values + r * stride + at + 16 * w), raise);
    }
    for (int t = block->begin; t < block->end; t++) {
        struct v16 value[V16_WIDE];
        for (size_t w = 0; w < width; w++)
            value[w] = v16_load_f16(rows + (size_t)t * size + at + 16 * w);
        ATTENTION_PREFETCH(next + (at / 16 * KV_BLOCK_TOKENS / 2 + (size_t)t * V16_WIDE / 2) * 64);
        for (size_t r = 0; r < n; r++) {
            struct v16 weight = v16_set(block->scores[r][t]);
            for (size_t w = 0; w < width; w++)
                sum[r][w] = v16_fma(weight, value[w], sum[r][w]);
        }
    }
    for (size_t r = 0; r < n; r++) {
        for (size_t w = 0; w < width; w++)
            v16_store(tile->values + r * stride + at + 16 * w, sum[r][w]);
    }
}

TILED void add_values_f16(const struct tile *tile, size_t n, size_t size, const void *part,
                          const char *next, const struct tile_block *block)
{
    const uint16_t *rows = part;
    const size_t stride = (size + 15) / 16 * 16;
    size_t at = 0;
    for (; at + 16 * V16_WIDE <= size; at += 16 * V16_WIDE)
        add_columns_f16(tile, n, size, rows, next, block, V16_WIDE, at);
    for (; at + 16 <= size; at += 16)
        add_columns_f16(tile, n, size, rows, next, block, 1, at);
    for (; at < size; at++) {
        for (size_t r = 0; r < n; r++) {
            float *value = tile->values + r * stride + at;
            *value *= block->raise[r];
            for (int t = block->begin; t < block->end; t++)
                *value =
                    fmaf(block->scores[r][t], half_to_float(rows[(size_t)t * size + at]), *value);
        }
    }
}

/* One row's weights of a group of 32 elements as integers of at most 32767: weight times the scale
 * of the value, in pairs of tokens. */
struct int_weights {
    _Alignas(64) int32_t pairs[V16_TILE][KV_BLOCK_TOKENS / 2];
    float unit[V16_TILE]; /* what one of them is worth, times block->weigh */
};

TILED void round_weights(const struct tile_block *block, size_t n, const uint16_t *scales,
                         struct int_weights *out)
{
    struct v16 low = v16_set(0.0f), high = low;
    float largest = 0.0f;
    for (size_t r = 0; r < n; r++) {
        const struct seen seen = block->seen[r];
        if (r == 0 || seen.begin != block->seen[r - 1].begin ||
            seen.end != block->seen[r - 1].end) {
            low = v16_load_f16(scales);
            high = v16_load_f16(scales + 16);
            struct v16 a = v16_abs(v16_hide(low, 0, seen.begin, seen.end, 0.0f));
            struct v16 b = v16_abs(v16_hide(high, 16, seen.begin, seen.end, 0.0f));
            largest = v16_largest(v16_max(a, b));
            struct v16 inverse = v16_set(largest > 0.0f ? 32767.0f / largest : 0.0f);
            low = v16_mul(low, inverse);
            high = v16_mul(high, inverse);
        }
        v16_store_pairs(out->pairs[r], v16_mul(v16_load(block->scores[r]), low),
                        v16_mul(v16_load(block->scores[r] + 16), high));
        out->unit[r] = largest * (1.0f / 32767.0f) * block->weigh[r];
    }
}

TILED void add_values_int(const struct tile *tile, size_t n, size_t size, const void *part,
                          const char *next, bool nibbles, const struct tile_block *block)
{
    const size_t pair_bytes = nibbles ? size : 2 * size;
    const uint8_t *values = part;
    const uint16_t *scales = (const uint16_t *)(values + KV_BLOCK_TOKENS / 2 * pair_bytes);
    struct int_weights weights;
    for (size_t group = 0; group < size / 32; group++) {
        struct v16i dot[V16_TILE][2];
        round_weights(block, n, scales + group * KV_BLOCK_TOKENS, &weights);
        for (size_t r = 0; r < n; r++)
            dot[r][0] = dot[r][1] = v16i_set(0);
        for (size_t pair = 0; pair < KV_BLOCK_TOKENS / 2; pair++) {
            size_t at = pair * pair_bytes + group * (nibbles ? 32 : 64);
            struct v16p low, high;
            if (nibbles) {
                v16p_load_s4(values + at, &low, &high);
            } else {
                low = v16p_load_s8((const int8_t *)values + at);
                high = v16p_load_s8((const int8_t *)values + at + 32);
            }
            ATTENTION_PREFETCH(next + (group * KV_BLOCK_TOKENS / 2 + pair) * (nibbles ? 32 : 64));
            for (size_t r = 0; r < n; r++) {
                dot[r][0] = v16i_dot_pair(dot[r][0], low, weights.pairs[r][pair]);
                dot[r][1] = v16i_dot_pair(dot[r][1], high, weights.pairs[r][pair]);
            }
        }
        for (size_t r = 0; r < n; r++) {
            float *row = tile->values + r * size + 32 * group;
            struct v16 raise = v16_set(block->raise[r]), unit = v16_set(weights.unit[r]);
            for (size_t w = 0; w < 2; w++)
                v16_store(row + 16 * w, v16_fma(unit, v16_from_int(dot[r][w]),
                                                v16_mul(v16_load(row + 16 * w), raise)));
        }
    }
}

/* ---- each for every number of rows ---- */

typedef void scores_tile(const struct tile *tile, size_t key_size, const void *part,
                         const char *next, struct tile_block *out);
typedef void values_tile(const struct tile *tile, size_t size, const void *part, const char *next,
                         const struct tile_block *block);

#define TILE_FUNCTIONS(n)                                                                          \
    static void scores_f16_##n(const struct tile *tile, size_t size, const void *part,             \
                               const char *next, struct tile_block *out)                           \
    {                                                                                              \
        scores_f16(tile, n, size, part, next, out);                                                \
    }                                                                                              \
    static void scores_q8_0_##n(const struct tile *tile, size_t size, const void *part,            \
                                const char *next, struct tile_block *out)                          \
    {                                                                                              \
        scores_int(tile, n, size, part, next, false, out);                                         \
    }                                                                                              \
    static void scores_q4_0_##n(const struct tile *tile, size_t size, const void *part,            \
                                const char *next, struct tile_block *out)                          \
    {                                                                                              \
        scores_int(tile, n, size, part, next, true, out);                                          \
    }                                                                                              \
    static void values_f16_##n(const struct tile *tile, size_t size, const void *part,             \
                               const char *next, const struct tile_block *block)                   \
    {                                                                                              \
        add_values_f16(tile, n, size, part, next, block);                                          \
    }                                                                                              \
    static void values_q8_0_##n(const struct tile *tile, size_t size, const void *part,            \
                                const char *next, const struct tile_block *block)                  \
    {                                                                                              \
        add_values_int(tile, n, size, part, next, false, block);                                   \
    }                                                                                              \
    static void values_q4_0_##n(const struct tile *tile, size_t size, const void *part,            \
                                const char *next, const struct tile_block *block)                  \
    {                                                                                              \
        add_values_int(tile, n, size, part, next, true, block);                                    \
    }

#if V16_TILE == 1
#define EACH_TILE(F) F(1)
#elif V16_TILE == 4
#define EACH_TILE(F) F(1) F(2) F(3) F(4)
#elif V16_TILE == 8
#define EACH_TILE(F) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8)
#endif

EACH_TILE(TILE_FUNCTIONS)

#define SCORES_F16(n) scores_f16_##n,
#define SCORES_Q8_0(n) scores_q8_0_##n,
#define SCORES_Q4_0(n) scores_q4_0_##n,
#define VALUES_F16(n) values_f16_##n,
#define VALUES_Q8_0(n) values_q8_0_##n,
#define VALUES_Q4_0(n) values_q4_0_##n,

/* [type][rows - 1] */
static scores_tile *const scores_tiles[KV_TYPES][V16_TILE] = {
    [KV_F16] = {EACH_TILE(SCORES_F16)},
    [KV_Q8_0] = {EACH_TILE(SCORES_Q8_0)},
    [KV_Q4_0] = {EACH_TILE(SCORES_Q4_0)},
};
static values_tile *const values_tiles[KV_TYPES][V16_TILE] = {
    [KV_F16] = {EACH_TILE(VALUES_F16)},
    [KV_Q8_0] = {EACH_TILE(VALUES_Q8_0)},
    [KV_Q4_0] = {EACH_TILE(VALUES_Q4_0)},
};

/* ---- the running softmax ---- */

/* exp of one number, by the same steps as every lane */
static float exp_one(float x)
{
    float lanes[16];
    v16_store(lanes, v16_exp(v16_set(x)));
    return lanes[0];
}

/* Caps a row's scores and hides what the row does not see; returns the largest. */
static float hide_scores(float soft_cap, const struct seen seen, float *scores)
{
    struct v16 half[2];
    for (int h = 0; h < 2; h++) {
        half[h] = v16_load(scores + 16 * h);
        if (soft_cap > 0.0f)
            half[h] =
                v16_mul(v16_set(soft_cap), v16_tanh(v16_mul(half[h], v16_set(1.0f / soft_cap))));
        half[h] = v16_hide(half[h], 16 * h, seen.begin, seen.end, -INFINITY);
        v16_store(scores + 16 * h, half[h]);
    }
    return v16_largest(v16_max(half[0], half[1]));
}

/* Turns scores into weights. Those of integer values are relative to the block's largest score, so
 * that 15 bits are exact enough for them, others to the largest so far. Where a row has seen
 * nothing yet, or sees nothing here, all its factors and weights become 0 or stay as they are. */
static void weigh(const struct attention *task, struct tile *tile, struct tile_block *block)
{
    _Alignas(64) float here[16], before[16], after[16], raise[16], relative[16];
    const bool integers = task->value_type != KV_F16;
    const struct v16 lowest = v16_set(-FLT_MAX);
    size_t n = tile->rows;
    for (size_t r = 0; r < 16; r++)
        here[r] = before[r] = -INFINITY;
    for (size_t r = 0; r < n; r++) {
        here[r] = hide_scores(task->soft_cap, block->seen[r], block->scores[r]);
        before[r] = tile->max[r];
    }
    struct v16 max = v16_max(v16_load(here), v16_load(before)), finite = v16_max(max, lowest);
    v16_store(after, max);
    v16_store(raise, v16_exp(v16_sub(v16_load(before), finite)));
    v16_store(relative, v16_exp(v16_sub(v16_load(here), finite)));
    struct v16 base = integers ? v16_max(v16_load(here), lowest) : finite;
    v16_store(here, base);
    for (size_t r = 0; r < n; r++) {
        struct v16 b = v16_set(here[r]);
        struct v16 low = v16_exp(v16_sub(v16_load(block->scores[r]), b));
        struct v16 high = v16_exp(v16_sub(v16_load(block->scores[r] + 16), b));
        v16_store(block->scores[r], low);
        v16_store(block->scores[r] + 16, high);
        tile->max[r] = after[r];
        block->raise[r] = raise[r];
        block->weigh[r] = integers ? relative[r] : 1.0f;
        float *sums = tile->sums + 16 * r;
        v16_store(sums, v16_fma(v16_set(block->weigh[r]), v16_add(low, high),
                                v16_mul(v16_load(sums), v16_set(raise[r]))));
    }
}

/* ---- a task ---- */

static struct seen seen_by(const struct attention *task, size_t row, uint32_t base)
{
    uint32_t begin = task->first[row] > base ? task->first[row] - base : 0;
    uint32_t end = task->last[row] >= base ? task->last[row] - base + 1 : 0;
    if (end > KV_BLOCK_TOKENS)
        end = KV_BLOCK_TOKENS;
    return begin < end ? (struct seen){(int)begin, (int)end} : (struct seen){0, 0};
}

/* Adds the block of the tokens from `base` on to a tile; `next` is the part that will follow. */
static void attend_block(const struct attention *task, struct tile *tile, uint32_t base,
                         const char *part, const char *next)
{
    struct tile_block block;
    size_t key_bytes = kv_key_bytes(task->key_type, task->key_size);
    block.begin = KV_BLOCK_TOKENS;
    block.end = 0;
    for (size_t r = 0; r < tile->rows; r++) {
        struct seen seen = seen_by(task, tile->first_row + r, base);
        block.seen[r] = seen;
        if (seen.end > 0 && seen.begin < block.begin)
            block.begin = seen.begin;
        if (seen.end > block.end)
            block.end = seen.end;
    }
    if (block.end == 0)
        return;
    scores_tiles[task->key_type][tile->rows - 1](tile, task->key_size, part, next, &block);
    weigh(task, tile, &block);
    values_tiles[task->value_type][tile->rows - 1](tile, task->value_size, part + key_bytes,
                                                   next + key_bytes, &block);
}

static void attention_merge(struct attention_partial *total, const struct attention_partial *part,
                            size_t value_size)
{
    if (part->sum == 0.0f)
        return;
    if (part->max > total->max || total->sum == 0.0f) {
        float factor = total->sum > 0.0f ? exp_one(total->max - part->max) : 0.0f;
        total->max = part->max;
        total->sum *= factor;
        scale_row(total->values, factor, value_size);
    }
    float factor = exp_one(part->max - total->max);
    total->sum = fmaf(factor, part->sum, total->sum);
    const struct v16 f = v16_set(factor);
    ROW_LOOP(total->values, part->values, value_size, v16_fma(f, b, a));
}

/* Lays out the scratch: the tiles' queries, the values, the sums; tiles of nearly equal height.
 * Returns how many. */
static size_t make_tiles(const struct attention *task, struct tile *tiles)
{
    size_t count = (task->rows + V16_TILE - 1) / V16_TILE, row = 0;
    size_t key_floats = (task->key_size + 15) / 16 * 16;
    size_t value_floats = (task->value_size + 15) / 16 * 16;
    float *queries = task->scratch, *values = queries + task->rows * key_floats;
    float *sums = values + task->rows * value_floats;
    for (size_t i = 0; i < count; i++) {
        size_t n = (task->rows - row + count - i - 1) / (count - i);
        float *query = queries + row * key_floats;
        tiles[i] = (struct tile){.rows = n,
                                 .first_row = row,
                                 .query = query,
                                 .values = values + row * value_floats,
                                 .sums = sums + row * 16};
        for (size_t r = 0; r < n; r++) {
            const float *q = task->queries[row + r];
            if (task->key_type == KV_F16)
                pack_query_f16(q, task->key_size, task->scale, query + r, n);
            else
                pack_query_int(q, task->key_size, task->scale, query + r, n);
        }
        row += n;
    }
    return count;
}

static void clear_tile(struct tile *tile, size_t value_size)
{
    memset(tile->values, 0, tile->rows * ((value_size + 15) / 16 * 16) * sizeof(float));
    memset(tile->sums, 0, tile->rows * 16 * sizeof(float));
    for (size_t r = 0; r < tile->rows; r++)
        tile->max[r] = -INFINITY;
}

static void merge_tile(const struct attention *task, const struct tile *tile)
{
    size_t value_floats = (task->value_size + 15) / 16 * 16;
    for (size_t r = 0; r < tile->rows; r++) {
        struct attention_partial part = {tile->max[r], v16_sum(v16_load(tile->sums + 16 * r)),
                                         tile->values + r * value_floats};
        attention_merge(&task->partials[tile->first_row + r], &part, task->value_size);
    }
}

/* The part of the head in the block at `base`, or `other` where there is none to read. */
static const char *part_at(const struct attention *task, uint32_t base, uint32_t end,
                           const char *other)
{
    const void *block = base < end ? task->blocks[base / KV_BLOCK_TOKENS] : NULL;
    return block ? (const char *)block + task->offset : other;
}

static void attention(const struct attention *task)
{
    struct tile tiles[ATTENTION_ROWS_MAX / V16_TILE];
    assert(task->key_size <= ATTENTION_HEAD_MAX && task->value_size <= ATTENTION_HEAD_MAX);
    assert(task->rows > 0 && task->rows <= ATTENTION_ROWS_MAX);
    assert(task->begin % ATTENTION_SPLIT == 0);
    size_t count = make_tiles(task, tiles);
    uint32_t end = 0, first = UINT32_MAX;
    for (size_t r = 0; r < task->rows; r++) {
        end = task->last[r] >= end ? task->last[r] + 1 : end;
        first = task->first[r] < first ? task->first[r] : first;
    }
    end = end < task->end ? end : task->end;
    first = first > task->begin ? first / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS : task->begin;
    for (uint32_t base = first; base < end;) {
        uint32_t split_end = (base / ATTENTION_SPLIT + 1) * ATTENTION_SPLIT;
        for (size_t i = 0; i < count; i++)
            clear_tile(&tiles[i], task->value_size);
        for (; base < end && base < split_end; base += KV_BLOCK_TOKENS) {
            const char *part = part_at(task, base, end, NULL);
            const char *next = part_at(task, base + KV_BLOCK_TOKENS, end, part);
            for (size_t i = 0; i < count; i++)
                attend_block(task, &tiles[i], base, part, i + 1 == count ? next : part);
        }
        for (size_t i = 0; i < count; i++)
            merge_tile(task, &tiles[i]);
    }
}

static void attention_finish(struct attention_partial *total, size_t value_size)
{
    const struct v16 zero = v16_set(0.0f);
    const struct v16 inverse = v16_set(total->sum != 0.0f ? 1.0f / total->sum : 0.0f);
    ROW_LOOP(total->values, total->values, value_size, v16_add(v16_mul(a, inverse), zero));
}
