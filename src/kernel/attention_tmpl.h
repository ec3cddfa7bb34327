/* Attention over 16-lane vectors; a part of vector_tmpl.h.
 *
 * Rows that see the same tokens of a block go through it together, up to V16_TILE at once, so that
 * a key or value is loaded and widened once for all of them. Each row's own chain of operations
 * stays what it is alone. */

/* A function whose row count must be a constant, so that its sums live in registers. */
#if defined(__GNUC__)
#define TILED static inline __attribute__((always_inline))
#else
#define TILED static inline
#endif

/* One query as scores need it: for Q8_0 keys rounded as activations are. */
struct query {
    const float *f;
    _Alignas(64) int8_t q[ATTENTION_HEAD_MAX];
    float scale[ATTENTION_HEAD_MAX / 32];
    int32_t sum[ATTENTION_HEAD_MAX / 32]; /* of q, by groups of 32 */
};

static void prepare_query(const struct attention *task, size_t row, struct query *query)
{
    query->f = task->queries[row];
    if (task->kv_type != KV_Q8_0)
        return;
    for (size_t group = 0; group < task->key_size / 32; group++) {
        int8_t *q = query->q + 32 * group;
        query->scale[group] = quantize_group(query->f + 32 * group, q);
        query->sum[group] = 0;
        for (int i = 0; i < 32; i++)
            query->sum[group] += q[i];
    }
}

/* ---- scores: lanes are the 32 tokens of a block ---- */

struct scores {
    struct v16 half[2];
};

TILED void scores_f16(const struct query *queries, size_t n, size_t key_size, const void *part,
                      struct scores *scores)
{
    const uint16_t *keys = part;
    for (size_t r = 0; r < n; r++)
        scores[r].half[0] = scores[r].half[1] = v16_set(0.0f);
    for (size_t i = 0; i < key_size; i++) {
        struct v16 low = v16_load_f16(keys + i * KV_BLOCK_TOKENS);
        struct v16 high = v16_load_f16(keys + i * KV_BLOCK_TOKENS + 16);
        for (size_t r = 0; r < n; r++) {
            struct v16 q = v16_set(queries[r].f[i]);
            scores[r].half[0] = v16_fma(q, low, scores[r].half[0]);
            scores[r].half[1] = v16_fma(q, high, scores[r].half[1]);
        }
    }
}

TILED void scores_q8_0(const struct query *queries, size_t n, size_t key_size, const void *part,
                       struct scores *scores)
{
    const uint8_t *keys = part;
    const uint16_t *scales = (const uint16_t *)(keys + key_size * KV_BLOCK_TOKENS);
    for (size_t r = 0; r < n; r++)
        scores[r].half[0] = scores[r].half[1] = v16_set(0.0f);
    for (size_t group = 0; group < key_size / 32; group++) {
        for (size_t half = 0; half < 2; half++) {
            struct v16i dot[V16_TILE];
            for (size_t r = 0; r < n; r++)
                dot[r] = v16i_key_start(queries[r].sum[group]);
            for (size_t four = 0; four < 8; four++) {
                struct v16k key =
                    v16k_load(keys + (group * 8 + four) * 4 * KV_BLOCK_TOKENS + half * 64);
                for (size_t r = 0; r < n; r++)
                    dot[r] = v16i_dot_key(dot[r], key, queries[r].q + group * 32 + four * 4);
            }
            struct v16 scale = v16_load_f16(scales + group * KV_BLOCK_TOKENS + half * 16);
            for (size_t r = 0; r < n; r++)
                scores[r].half[half] = v16_fma(v16_mul(v16_set(queries[r].scale[group]), scale),
                                               v16_from_int(dot[r]), scores[r].half[half]);
        }
    }
}

/* ---- values: lanes are elements of a value ---- */

/* The 32 weights of each row of a tile. */
struct weights {
    _Alignas(64) float of[V16_TILE][KV_BLOCK_TOKENS];
};

/* values += weights of tokens begin..end-1 times their rows, tokens ascending; `width` vectors. */
TILED void add_value_columns_f16(const uint16_t *rows, size_t size, const struct weights *weights,
                                 size_t n, int begin, int end, size_t width,
                                 const struct attention_partial *partials, size_t at)
{
    struct v16 sum[V16_TILE][2];
    for (size_t r = 0; r < n; r++) {
        for (size_t j = 0; j < width; j++)
            sum[r][j] = v16_load(partials[r].values + at + 16 * j);
    }
    for (int t = begin; t < end; t++) {
        for (size_t j = 0; j < width; j++) {
            struct v16 value = v16_load_f16(rows + (size_t)t * size + at + 16 * j);
            for (size_t r = 0; r < n; r++)
                sum[r][j] = v16_fma(v16_set(weights->of[r][t]), value, sum[r][j]);
        }
    }
    for (size_t r = 0; r < n; r++) {
        for (size_t j = 0; j < width; j++)
            v16_store(partials[r].values + at + 16 * j, sum[r][j]);
    }
}

TILED void add_values_f16(const struct attention *task, const void *part,
                          const struct weights *weights, size_t n, int begin, int end,
                          const struct attention_partial *partials)
{
    const uint16_t *rows = part;
    size_t size = task->value_size, at = 0;
    for (; at + 32 <= size; at += 32)
        add_value_columns_f16(rows, size, weights, n, begin, end, 2, partials, at);
    for (; at + 16 <= size; at += 16)
        add_value_columns_f16(rows, size, weights, n, begin, end, 1, partials, at);
    for (; at < size; at++) {
        for (size_t r = 0; r < n; r++) {
            float *value = partials[r].values + at;
            for (int t = begin; t < end; t++)
                *value =
                    fmaf(weights->of[r][t], half_to_float(rows[(size_t)t * size + at]), *value);
        }
    }
}

TILED void add_values_q8_0(const struct attention *task, const void *part,
                           const struct weights *weights, size_t n, int begin, int end,
                           const struct attention_partial *partials)
{
    const int8_t *rows = part;
    size_t size = task->value_size, groups = size / 32;
    const uint16_t *scales = (const uint16_t *)(rows + size * KV_BLOCK_TOKENS);
    for (size_t group = 0; group < groups; group++) {
        struct v16 sum[V16_TILE][2];
        for (size_t r = 0; r < n; r++) {
            sum[r][0] = v16_load(partials[r].values + 32 * group);
            sum[r][1] = v16_load(partials[r].values + 32 * group + 16);
        }
        for (int t = begin; t < end; t++) {
            float scale = half_to_float(scales[(size_t)t * groups + group]);
            const int8_t *row = rows + (size_t)t * size + 32 * group;
            struct v16 low = v16_load_s8(row), high = v16_load_s8(row + 16);
            for (size_t r = 0; r < n; r++) {
                struct v16 weight = v16_set(weights->of[r][t] * scale);
                sum[r][0] = v16_fma(weight, low, sum[r][0]);
                sum[r][1] = v16_fma(weight, high, sum[r][1]);
            }
        }
        for (size_t r = 0; r < n; r++) {
            v16_store(partials[r].values + 32 * group, sum[r][0]);
            v16_store(partials[r].values + 32 * group + 16, sum[r][1]);
        }
    }
}

/* ---- the running softmax ---- */

/* exp of one number, by the same steps as every lane */
static float exp_one(float x)
{
    float lanes[16];
    v16_store(lanes, v16_exp(v16_set(x)));
    return lanes[0];
}

/* Brings a partial under a new maximum. */
static void raise_max(struct attention_partial *partial, float max, size_t value_size)
{
    float factor = partial->sum > 0.0f ? exp_one(partial->max - max) : 0.0f;
    partial->max = max;
    partial->sum *= factor;
    if (factor != 1.0f)
        scale_row(partial->values, factor, value_size);
}

/* Scales and caps a row's scores, hides what the row does not see, and brings them into its
 * partial as weights. */
static void weigh(const struct attention *task, struct scores scores, int begin, int end,
                  struct attention_partial *partial, float *weights)
{
    const struct v16 none = v16_set(-INFINITY), cap = v16_set(task->soft_cap);
    for (int half = 0; half < 2; half++) {
        int from = begin - 16 * half, to = end - 16 * half;
        struct v16 score = v16_mul(scores.half[half], v16_set(task->scale));
        if (task->soft_cap > 0.0f)
            score = v16_mul(cap, v16_tanh(v16_mul(score, v16_set(1.0f / task->soft_cap))));
        from = from < 0 ? 0 : from > 16 ? 16 : from;
        to = to < from ? from : to > 16 ? 16 : to;
        scores.half[half] = v16_select_range(score, none, from, to);
    }
    float max = v16_largest(v16_max(scores.half[0], scores.half[1]));
    if (max > partial->max || partial->sum == 0.0f)
        raise_max(partial, max, task->value_size);
    struct v16 m = v16_set(partial->max);
    struct v16 low = v16_exp(v16_sub(scores.half[0], m));
    struct v16 high = v16_exp(v16_sub(scores.half[1], m));
    v16_store(weights, low);
    v16_store(weights + 16, high);
    partial->sum += v16_sum(v16_add(low, high));
}

/* Adds tokens begin..end-1 of one block to the partials of n rows. */
TILED void attend_block(const struct attention *task, const struct query *queries, size_t n,
                        const void *part, int begin, int end, struct attention_partial *partials)
{
    struct scores scores[V16_TILE];
    struct weights weights;
    const char *values = (const char *)part + kv_key_bytes(task->kv_type, task->key_size);
    if (task->kv_type == KV_Q8_0)
        scores_q8_0(queries, n, task->key_size, part, scores);
    else
        scores_f16(queries, n, task->key_size, part, scores);
    for (size_t r = 0; r < n; r++)
        weigh(task, scores[r], begin, end, &partials[r], weights.of[r]);
    if (task->kv_type == KV_Q8_0)
        add_values_q8_0(task, values, &weights, n, begin, end, partials);
    else
        add_values_f16(task, values, &weights, n, begin, end, partials);
}

static void attend_block_alone(const struct attention *task, const struct query *queries,
                               const void *part, int begin, int end,
                               struct attention_partial *partials)
{
    attend_block(task, queries, 1, part, begin, end, partials);
}

static void attend_block_tile(const struct attention *task, const struct query *queries,
                              const void *part, int begin, int end,
                              struct attention_partial *partials)
{
    attend_block(task, queries, V16_TILE, part, begin, end, partials);
}

/* ---- a task ---- */

/* The slots of a block that a row sees. */
struct seen {
    int begin, end;
};

static struct seen seen_by(const struct attention *task, size_t row, uint32_t base)
{
    uint32_t begin = task->first[row] > base ? task->first[row] - base : 0;
    uint32_t end = task->last[row] >= base ? task->last[row] - base + 1 : 0;
    if (end > KV_BLOCK_TOKENS)
        end = KV_BLOCK_TOKENS;
    return begin < end ? (struct seen){(int)begin, (int)end} : (struct seen){0, 0};
}

/* One block for n rows: together where all see the same of it, else one by one. */
static void attend_rows(const struct attention *task, const struct query *queries, size_t row,
                        size_t n, uint32_t base)
{
    const void *part = task->blocks[(base - task->begin) / KV_BLOCK_TOKENS];
    struct seen seen[V16_TILE];
    bool together = n == V16_TILE;
    for (size_t r = 0; r < n; r++) {
        seen[r] = seen_by(task, row + r, base);
        together = together && seen[r].begin == seen[0].begin && seen[r].end == seen[0].end;
    }
    if (together && seen[0].end > 0) {
        attend_block_tile(task, queries, part, seen[0].begin, seen[0].end, &task->partials[row]);
        return;
    }
    for (size_t r = 0; r < n; r++) {
        if (seen[r].end > 0)
            attend_block_alone(task, &queries[r], part, seen[r].begin, seen[r].end,
                               &task->partials[row + r]);
    }
}

static void attention(const struct attention *task)
{
    assert(task->key_size <= ATTENTION_HEAD_MAX && task->value_size <= ATTENTION_HEAD_MAX);
    struct query queries[V16_TILE];
    for (size_t row = 0, n; row < task->rows; row += n) {
        n = task->rows - row < V16_TILE ? task->rows - row : V16_TILE;
        uint32_t last = 0;
        for (size_t r = 0; r < n; r++) {
            attention_partial_clear(&task->partials[row + r], task->value_size);
            prepare_query(task, row + r, &queries[r]);
            last = task->last[row + r] > last ? task->last[row + r] : last;
        }
        for (uint32_t base = task->begin; base < task->end && base <= last; base += KV_BLOCK_TOKENS)
            attend_rows(task, queries, row, n, base);
    }
}

static void attention_merge(struct attention_partial *total, const struct attention_partial *part,
                            size_t value_size)
{
    if (part->sum == 0.0f)
        return;
    if (part->max > total->max || total->sum == 0.0f)
        raise_max(total, part->max, value_size);
    float factor = exp_one(part->max - total->max);
    total->sum = fmaf(factor, part->sum, total->sum);
    const struct v16 f = v16_set(factor);
    ROW_LOOP(total->values, part->values, value_size, v16_fma(f, b, a));
}
