/* What the engine may rely on of attention: blocks hold what attention.h says, a result is the
 * softmax over what a row sees of them, every tier gives the bits of the reference, and a row gets
 * the same bits in any company, whatever lies in slots that it does not see. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

#define TOKENS 700
#define HEAD_MAX 256
#define BLOCKS ((TOKENS + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS)
#define GUARD 64 /* bytes in front of a part and behind it */
#define ROWS 24

static struct kernels tier_named(const char *tier)
{
    struct kernels kernels;
    assert_int_equal(kernels_select(tier, &kernels, NULL), 0);
    return kernels;
}

static void fill(struct random *random, float *row, size_t n)
{
    for (size_t i = 0; i < n; i++)
        row[i] = (float)(random_unit(random) * 8.0 - 4.0);
}

struct shape {
    enum kv_type key_type, value_type;
    size_t key_size, value_size;
};

static const struct shape shapes[] = {
    {KV_F16, KV_F16, 18, 18},     {KV_F16, KV_F16, 64, 64},     {KV_F16, KV_F16, 80, 80},
    {KV_F16, KV_F16, 256, 256},   {KV_F16, KV_F16, 32, 100},    {KV_Q8_0, KV_Q8_0, 32, 64},
    {KV_Q8_0, KV_Q8_0, 64, 64},   {KV_Q8_0, KV_Q8_0, 96, 96},   {KV_Q8_0, KV_Q8_0, 128, 128},
    {KV_Q8_0, KV_Q8_0, 256, 256}, {KV_Q4_0, KV_Q4_0, 64, 64},   {KV_Q4_0, KV_Q4_0, 96, 160},
    {KV_Q4_0, KV_Q4_0, 128, 128}, {KV_Q4_0, KV_Q4_0, 256, 256}, {KV_Q8_0, KV_Q4_0, 128, 128},
    {KV_F16, KV_Q8_0, 80, 96},    {KV_Q4_0, KV_F16, 64, 80},
};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* One kv head's history of random keys and values, as floats and in blocks. */
struct history {
    struct shape shape;
    float (*keys)[HEAD_MAX], (*values)[HEAD_MAX];
    void *blocks[BLOCKS];
    size_t bytes; /* of a part, which lies behind GUARD bytes and in front of as many */
};

static void store(const struct vector_kernels *vector, struct history *history, size_t token,
                  const float *key, const float *value)
{
    const struct shape *shape = &history->shape;
    char *part = (char *)history->blocks[token / KV_BLOCK_TOKENS] + GUARD;
    size_t slot = token % KV_BLOCK_TOKENS;
    vector->store_key[shape->key_type](key, shape->key_size, part, slot);
    vector->store_value[shape->value_type](
        value, shape->value_size, part + kv_key_bytes(shape->key_type, shape->key_size), slot);
}

static void build_history(const struct vector_kernels *vector, const struct shape *shape,
                          struct history *history)
{
    struct random random = random_from_seed(shape->key_size);
    *history = (struct history){.shape = *shape};
    history->bytes =
        kv_head_bytes(shape->key_type, shape->value_type, shape->key_size, shape->value_size);
    history->keys = calloc(TOKENS, sizeof *history->keys);
    history->values = calloc(TOKENS, sizeof *history->values);
    for (size_t b = 0; b < BLOCKS; b++) {
        history->blocks[b] = aligned_alloc(64, history->bytes + 2 * GUARD);
        memset(history->blocks[b], 0xa5, history->bytes + 2 * GUARD);
        memset((char *)history->blocks[b] + GUARD, 0, history->bytes);
    }
    for (size_t t = 0; t < TOKENS; t++) {
        fill(&random, history->keys[t], shape->key_size);
        fill(&random, history->values[t], shape->value_size);
        store(vector, history, t, history->keys[t], history->values[t]);
    }
}

static void free_history(struct history *history)
{
    free(history->keys);
    free(history->values);
    for (size_t b = 0; b < BLOCKS; b++)
        free(history->blocks[b]);
}

/* ---- what blocks hold ---- */

static int nibble(int bits)
{
    return bits < 8 ? bits : bits - 16;
}

static double stored_key(const struct history *history, size_t token, size_t i, double *unit)
{
    size_t size = history->shape.key_size, slot = token % KV_BLOCK_TOKENS, scales = 0;
    const char *part = (const char *)history->blocks[token / KV_BLOCK_TOKENS] + GUARD;
    const uint8_t *bytes = (const uint8_t *)part;
    int q = 0;
    switch (history->shape.key_type) {
    case KV_F16:
        *unit = 4.0 / 1024.0;
        return (double)half_to_float(((const uint16_t *)part)[i * KV_BLOCK_TOKENS + slot]);
    case KV_Q8_0:
        q = bytes[i / 4 * 4 * KV_BLOCK_TOKENS + slot * 4 + i % 4] - 128;
        scales = size * KV_BLOCK_TOKENS;
        break;
    default:
        q = bytes[i / 8 * 4 * KV_BLOCK_TOKENS + slot * 4 + i % 4];
        q = (i % 8 < 4 ? q & 15 : q >> 4) - 8;
        scales = size * KV_BLOCK_TOKENS / 2;
        break;
    }
    const uint16_t *scale = (const uint16_t *)(part + scales) + i / 32 * KV_BLOCK_TOKENS + slot;
    *unit = fabs((double)half_to_float(*scale));
    return q * (double)half_to_float(*scale);
}

static double stored_value(const struct history *history, size_t token, size_t i, double *unit)
{
    size_t size = history->shape.value_size, slot = token % KV_BLOCK_TOKENS, scales = 0;
    const char *part = (const char *)history->blocks[token / KV_BLOCK_TOKENS] + GUARD +
                       kv_key_bytes(history->shape.key_type, history->shape.key_size);
    const uint8_t *bytes = (const uint8_t *)part;
    int q = 0;
    switch (history->shape.value_type) {
    case KV_F16:
        *unit = 4.0 / 1024.0;
        return (double)half_to_float(((const uint16_t *)part)[slot * size + i]);
    case KV_Q8_0:
        q = ((const int8_t *)part)[slot / 2 * 2 * size + 2 * i + slot % 2];
        scales = size * KV_BLOCK_TOKENS;
        break;
    default:
        q = bytes[slot / 2 * size + i / 32 * 32 + 2 * (i % 16) + slot % 2];
        q = nibble(i % 32 < 16 ? q & 15 : q >> 4);
        scales = size * KV_BLOCK_TOKENS / 2;
        break;
    }
    const uint16_t *scale = (const uint16_t *)(part + scales) + i / 32 * KV_BLOCK_TOKENS + slot;
    *unit = fabs((double)half_to_float(*scale));
    return q * (double)half_to_float(*scale);
}

/* Half a unit of rounding, and what an f16 scale loses times 127; Q4_0 cuts off above 7 units. */
static void assert_rounded(double stored, float original, double unit, bool four_bits)
{
    double limit = four_bits ? 1.02 * unit : 0.57 * unit;
    if (!(fabs(stored - (double)original) <= limit))
        fail_msg("%.9g was stored as %.9g, in units of %.9g", (double)original, stored, unit);
}

static void blocks_hold_rounded_keys_and_values_where_they_should(void **state)
{
    (void)state;
    struct kernels reference = tier_named("ref");
    for (size_t s = 0; s < SHAPES; s++) {
        struct history history;
        double unit;
        build_history(&reference.vector, &shapes[s], &history);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t i = 0; i < shapes[s].key_size; i++) {
                double stored = stored_key(&history, t, i, &unit);
                assert_rounded(stored, history.keys[t][i], unit, shapes[s].key_type == KV_Q4_0);
            }
            for (size_t i = 0; i < shapes[s].value_size; i++) {
                double stored = stored_value(&history, t, i, &unit);
                assert_rounded(stored, history.values[t][i], unit, shapes[s].value_type == KV_Q4_0);
            }
        }
        free_history(&history);
    }
}

static void tiers_store_the_same_blocks_and_nothing_beside_them(void **state)
{
    (void)state;
    static const float odd[] = {0.0f,  -0.0f,  1e-40f,   -1e-7f,    65519.0f,
                                1e30f, -1e30f, INFINITY, -INFINITY, NAN};
    struct kernels reference = tier_named("ref");
    for (size_t t = 0; kernels_tier_at(t); t++) {
        struct kernels tier = tier_named(kernels_tier_at(t));
        for (size_t s = 0; s < SHAPES; s++) {
            struct history a, b;
            build_history(&reference.vector, &shapes[s], &a);
            build_history(&tier.vector, &shapes[s], &b);
            for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
                a.keys[i][3] = a.values[i][5] = odd[i];
                store(&reference.vector, &a, i, a.keys[i], a.values[i]);
                store(&tier.vector, &b, i, a.keys[i], a.values[i]);
            }
            for (size_t i = 0; i < BLOCKS; i++) {
                assert_memory_equal(a.blocks[i], b.blocks[i], a.bytes + 2 * GUARD);
                for (size_t g = 0; g < GUARD; g++) {
                    const uint8_t *block = b.blocks[i];
                    assert_int_equal(block[g], 0xa5);
                    assert_int_equal(block[GUARD + b.bytes + g], 0xa5);
                }
            }
            free_history(&a);
            free_history(&b);
        }
    }
}

/* Rows that do not see a value multiply it by 0. */
static void every_stored_value_is_a_finite_number(void **state)
{
    (void)state;
    static const float wild[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e6f};
    struct kernels reference = tier_named("ref");
    for (size_t s = 0; s < SHAPES; s++) {
        struct history history;
        double unit;
        build_history(&reference.vector, &shapes[s], &history);
        for (size_t t = 0; t < sizeof wild / sizeof wild[0]; t++) {
            history.values[t][7] = wild[t];
            store(&reference.vector, &history, t, history.keys[t], history.values[t]);
            for (size_t i = 0; i < shapes[s].value_size; i++) {
                assert_true(isfinite(stored_value(&history, t, i, &unit)));
                assert_true(isfinite(unit));
            }
        }
        free_history(&history);
    }
}

/* ---- attention ---- */

/* Rows: queries and what they see, [first..last] */
struct rows {
    float queries[ROWS][HEAD_MAX];
    uint32_t first[ROWS], last[ROWS];
};

/* Attention of some rows in tasks of `step` tokens (whole splits), as the engine does it. */
static void attend(const struct vector_kernels *vector, const struct history *history,
                   const struct rows *rows, size_t begin, size_t count, uint32_t step, float cap,
                   float (*out)[HEAD_MAX])
{
    size_t scratch_bytes =
        count * ATTENTION_SCRATCH_PER_ROW(history->shape.key_size, history->shape.value_size);
    char *scratch = aligned_alloc(64, scratch_bytes + GUARD);
    struct attention_partial partials[ROWS];
    const float *queries[ROWS];
    memset(scratch, 0xa5, scratch_bytes + GUARD);
    for (size_t r = 0; r < count; r++) {
        queries[r] = rows->queries[begin + r];
        partials[r].values = out[r];
        attention_partial_clear(&partials[r], history->shape.value_size);
    }
    for (uint32_t at = 0; at < TOKENS; at += step) {
        struct attention task = {
            .key_type = history->shape.key_type,
            .value_type = history->shape.value_type,
            .key_size = history->shape.key_size,
            .value_size = history->shape.value_size,
            .blocks = (const void *const *)history->blocks,
            .offset = GUARD,
            .queries = queries,
            .first = rows->first + begin,
            .last = rows->last + begin,
            .rows = count,
            .scale = 0.25f / sqrtf((float)history->shape.key_size),
            .soft_cap = cap,
            .begin = at,
            .end = at + step,
            .partials = partials,
            .scratch = scratch,
        };
        vector->attention(&task);
    }
    for (size_t r = 0; r < count; r++)
        vector->attention_finish(&partials[r], history->shape.value_size);
    for (size_t g = 0; g < GUARD; g++)
        assert_int_equal((uint8_t)scratch[scratch_bytes + g], 0xa5);
    free(scratch);
}

/* A query as it meets integer keys: int8 with a scale per 32. */
static void round_query(const struct history *history, const float *query, double *out)
{
    for (size_t i = 0; i < history->shape.key_size; i++) {
        float largest = 0.0f;
        for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32 && j < HEAD_MAX; j++)
            largest = fabsf(query[j]) > largest ? fabsf(query[j]) : largest;
        out[i] = history->shape.key_type == KV_F16
                     ? (double)query[i]
                     : rint((double)query[i] * 127.0 / (double)largest) * (double)largest / 127.0;
    }
}

static void attend_exactly(const struct history *history, const float *query, uint32_t first,
                           uint32_t last, float cap, double *out)
{
    double weights[TOKENS], rounded[HEAD_MAX], max = -INFINITY, sum = 0.0, unit;
    size_t size = history->shape.key_size;
    round_query(history, query, rounded);
    for (uint32_t t = first; t <= last; t++) {
        double score = 0.0;
        for (size_t i = 0; i < size; i++)
            score += rounded[i] * stored_key(history, t, i, &unit);
        score *= 0.25 / sqrt((double)size);
        if (cap > 0.0f)
            score = (double)cap * tanh(score / (double)cap);
        weights[t] = score;
        max = score > max ? score : max;
    }
    memset(out, 0, history->shape.value_size * sizeof *out);
    for (uint32_t t = first; t <= last; t++) {
        double weight = exp(weights[t] - max);
        sum += weight;
        for (size_t i = 0; i < history->shape.value_size; i++)
            out[i] += weight * stored_value(history, t, i, &unit);
    }
    for (size_t i = 0; i < history->shape.value_size; i++)
        out[i] /= sum;
}

/* The last tokens of a prompt, windows, a single token, the very first, the edges of blocks and
 * splits; then a chunk of a prompt. */
static void make_rows(const struct shape *shape, struct rows *rows)
{
    static const uint32_t first[] = {0, 0, 0, 431, 69, 255, 0, 256, 0, 33, 200};
    static const uint32_t last[] = {699, 0, 31, 686, 69, 256, 255, 600, 32, 127, 511};
    const size_t single = sizeof first / sizeof first[0];
    struct random random = random_from_seed(7);
    for (size_t r = 0; r < ROWS; r++) {
        fill(&random, rows->queries[r], shape->key_size);
        rows->first[r] = r < single ? first[r] : 0;
        rows->last[r] = r < single ? last[r] : (uint32_t)(295 + (r - single) / 3 * 6);
    }
}

static void compare(const float (*a)[HEAD_MAX], const float (*b)[HEAD_MAX], size_t rows,
                    const struct history *history)
{
    for (size_t r = 0; r < rows; r++)
        assert_memory_equal(a[r], b[r], history->shape.value_size * sizeof(float));
}

/* Rows in company of every size, in all tiers: the bits of the reference, row by row. */
static void check_company(const struct history *history, const struct rows *rows, float cap,
                          const float (*expected)[HEAD_MAX])
{
    float ours[ROWS][HEAD_MAX];
    for (size_t t = 0; kernels_tier_at(t); t++) {
        struct kernels tier = tier_named(kernels_tier_at(t));
        /* the reference takes rows one by one anyway, and long */
        for (size_t count = t ? 1 : 5; count <= (t ? ROWS : 5); count += count < 9 ? 1 : 5) {
            for (size_t at = 0; at < ROWS; at += count) {
                size_t n = count < ROWS - at ? count : ROWS - at;
                uint32_t step = count % 2 ? 768 : ATTENTION_SPLIT;
                attend(&tier.vector, history, rows, at, n, step, cap, ours);
                compare((const float(*)[HEAD_MAX])ours, expected + at, n, history);
            }
        }
    }
}

static void check_attention(const struct shape *shape, float cap)
{
    struct kernels reference = tier_named("ref");
    struct history history;
    struct rows rows;
    float results[ROWS][HEAD_MAX];
    double exact[HEAD_MAX];
    /* integer values are weighed in units of 1/32767 of a block's largest weight; they reach 4 */
    double tolerance = shape->value_type == KV_F16 ? 5e-5 : 4.0 * 2.0 / 32767.0;
    build_history(&reference.vector, shape, &history);
    make_rows(shape, &rows);
    for (size_t r = 0; r < ROWS; r++) {
        attend(&reference.vector, &history, &rows, r, 1, ATTENTION_SPLIT, cap, &results[r]);
        attend_exactly(&history, rows.queries[r], rows.first[r], rows.last[r], cap, exact);
        for (size_t i = 0; i < shape->value_size; i++) {
            if (!(fabs((double)results[r][i] - exact[i]) <= tolerance))
                fail_msg("row %zu of %zux%zu, types %d %d: %.9g instead of %.9g", r,
                         shape->key_size, shape->value_size, (int)shape->key_type,
                         (int)shape->value_type, (double)results[r][i], exact[i]);
        }
    }
    check_company(&history, &rows, cap, (const float(*)[HEAD_MAX])results);
    free_history(&history);
}

static void attention_is_a_softmax_over_what_a_row_sees(void **state)
{
    (void)state;
    for (size_t s = 0; s < SHAPES; s++)
        check_attention(&shapes[s], s % 3 == 2 ? 3.0f : 0.0f);
}

/* Scores so far apart that weights become 0, first rising, then falling: sums shrink to nothing. */
static void far_scores_change_no_bits_in_company(void **state)
{
    (void)state;
    struct kernels reference = tier_named("ref");
    for (size_t s = 0; s < SHAPES; s++) {
        struct history history;
        struct rows rows;
        float results[ROWS][HEAD_MAX];
        build_history(&reference.vector, &shapes[s], &history);
        make_rows(&shapes[s], &rows);
        for (size_t t = 0; t < TOKENS; t++) {
            for (size_t i = 0; i < shapes[s].key_size; i++)
                history.keys[t][i] = (float)(t < 350 ? t : 700 - t) * 0.2f;
            for (size_t i = 0; i < shapes[s].value_size; i++)
                history.values[t][i] *= i % 3 == 0 ? 0.0f : i % 3 == 1 ? -1e-7f : 1.0f;
            store(&reference.vector, &history, t, history.keys[t], history.values[t]);
        }
        for (size_t r = 0; r < ROWS; r++)
            attend(&reference.vector, &history, &rows, r, 1, ATTENTION_SPLIT, 0.0f, &results[r]);
        check_company(&history, &rows, 0.0f, (const float(*)[HEAD_MAX])results);
        free_history(&history);
    }
}

static void what_a_row_does_not_see_changes_no_bits(void **state)
{
    (void)state;
    struct kernels reference = tier_named("ref");
    struct random random = random_from_seed(9);
    for (size_t s = 0; s < SHAPES; s++) {
        struct history history;
        struct rows rows;
        float before[3][HEAD_MAX], after[3][HEAD_MAX];
        build_history(&reference.vector, &shapes[s], &history);
        make_rows(&shapes[s], &rows);
        for (uint32_t r = 0; r < 3; r++) {
            rows.first[r] = 40 + r;
            rows.last[r] = 300 + 5 * r;
        }
        for (size_t t = 0; kernels_tier_at(t); t++) {
            struct kernels tier = tier_named(kernels_tier_at(t));
            attend(&tier.vector, &history, &rows, 0, 3, 768, 0.0f, before);
            for (size_t token = 0; token < TOKENS; token++) {
                if (token >= 40 && token <= 310)
                    continue;
                fill(&random, history.keys[token], shapes[s].key_size);
                fill(&random, history.values[token], shapes[s].value_size);
                history.keys[token][1] = token % 2 ? NAN : -3e38f;
                history.values[token][2] = token % 2 ? INFINITY : NAN;
                store(&tier.vector, &history, token, history.keys[token], history.values[token]);
            }
            attend(&tier.vector, &history, &rows, 0, 3, 768, 0.0f, after);
            compare((const float(*)[HEAD_MAX])before, (const float(*)[HEAD_MAX])after, 3, &history);
        }
        free_history(&history);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_hold_rounded_keys_and_values_where_they_should),
        cmocka_unit_test(tiers_store_the_same_blocks_and_nothing_beside_them),
        cmocka_unit_test(every_stored_value_is_a_finite_number),
        cmocka_unit_test(attention_is_a_softmax_over_what_a_row_sees),
        cmocka_unit_test(far_scores_change_no_bits_in_company),
        cmocka_unit_test(what_a_row_does_not_see_changes_no_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
