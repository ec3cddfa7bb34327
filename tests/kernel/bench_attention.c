/* Speed of attention, by KV type and tier, beside what the machine can do: not a test.
 *
 *     bench_attention [TIER [TYPE [THREADS [SHAPE]]]]     "-" stands for all
 *
 * Decode: one token's heads over keys and values that come from memory (GB/s of KV cache). Prefill:
 * 16 tokens' heads over a cached context (billions of multiplications and additions of floats, or
 * what would be those, per second). The limits are measured between the results: reading memory,
 * and fused multiply-adds of floats. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/random.h"
#include "kernel/kernel.h"
#include "kernel/limits.h"

enum { THREADS_MAX = 64, SPLIT_BLOCKS = ATTENTION_SPLIT / KV_BLOCK_TOKENS };
#define CACHE_BYTES ((size_t)640 << 20) /* more than the last cache holds */

struct shape {
    const char *name;
    size_t group, size; /* heads of a kv head, elements of a head */
};

static const struct shape shapes[] = {
    {"3B", 3, 128}, {"SmolLM2", 3, 64}, {"gemma", 4, 256}, {"1 head", 1, 128}, {"7B", 7, 128},
};

struct work {
    void (*run)(const struct work *work, unsigned thread);
    struct pool *pool;
    unsigned threads;
    const struct kernels *kernels;
    const struct shape *shape;
    enum kv_type type;
    const char *cache; /* parts one behind the other */
    size_t splits;     /* in all */
    size_t tokens;     /* of a prefill */
    const float *queries;
};

static double seconds(void)
{
    return (double)os_monotonic_ns() * 1e-9;
}

static void run_share(void *context, size_t item, unsigned thread)
{
    (void)thread;
    const struct work *work = context;
    work->run(work, (unsigned)item);
}

static double run_all(struct work *work)
{
    double start = seconds();
    pool_run(work->pool, work->threads, run_share, work);
    return seconds() - start;
}

static volatile float sink;

/* ---- attention ---- */

enum { ROWS_MAX = 128 };

static void attend(const struct work *work, const void *const *blocks, size_t splits, size_t rows)
{
    static _Thread_local float values[ROWS_MAX][ATTENTION_HEAD_MAX];
    struct attention_partial partials[ROWS_MAX];
    const float *queries[ROWS_MAX];
    uint32_t first[ROWS_MAX], last[ROWS_MAX];
    size_t size = work->shape->size;
    for (size_t r = 0; r < rows; r++) {
        queries[r] = work->queries + r * size;
        first[r] = 0;
        last[r] = (uint32_t)(splits * ATTENTION_SPLIT - 1);
        partials[r].values = values[r];
        attention_partial_clear(&partials[r], size);
    }
    struct attention task = {
        .key_type = work->type,
        .value_type = work->type,
        .key_size = size,
        .value_size = size,
        .blocks = blocks,
        .queries = queries,
        .first = first,
        .last = last,
        .rows = rows,
        .scale = 0.1f,
        .end = (uint32_t)(splits * ATTENTION_SPLIT),
        .partials = partials,
    };
    static _Thread_local _Alignas(64) char
        scratch[ROWS_MAX * ATTENTION_SCRATCH_PER_ROW(ATTENTION_HEAD_MAX, ATTENTION_HEAD_MAX)];
    task.scratch = scratch;
    work->kernels->vector.attention(&task);
    sink = values[rows - 1][size - 1];
}

static void decode_share(const struct work *work, unsigned thread)
{
    size_t bytes = kv_head_bytes(work->type, work->type, work->shape->size, work->shape->size);
    for (size_t s = thread; s < work->splits; s += work->threads) {
        const void *blocks[SPLIT_BLOCKS];
        for (size_t b = 0; b < SPLIT_BLOCKS; b++)
            blocks[b] = work->cache + (s * SPLIT_BLOCKS + b) * bytes;
        attend(work, blocks, 1, work->shape->group);
    }
}

enum { PREFILL_SPLITS = 4 };

static void prefill_share(const struct work *work, unsigned thread)
{
    size_t bytes = kv_head_bytes(work->type, work->type, work->shape->size, work->shape->size);
    const void *blocks[PREFILL_SPLITS * SPLIT_BLOCKS];
    for (size_t b = 0; b < PREFILL_SPLITS * SPLIT_BLOCKS; b++)
        blocks[b] = work->cache + (thread * PREFILL_SPLITS * SPLIT_BLOCKS + b) * bytes;
    for (int i = 0; i < 20; i++)
        attend(work, blocks, PREFILL_SPLITS, work->tokens * work->shape->group);
}

/* Stores random keys and values into some blocks and repeats these. */
static void fill_cache(const struct work *work, char *cache)
{
    enum { PATTERN = 4 };
    size_t size = work->shape->size, bytes = kv_head_bytes(work->type, work->type, size, size);
    struct random random = random_from_seed(1);
    float row[ATTENTION_HEAD_MAX];
    for (size_t t = 0; t < PATTERN * KV_BLOCK_TOKENS; t++) {
        char *part = cache + t / KV_BLOCK_TOKENS * bytes;
        for (size_t i = 0; i < 2 * size; i++) {
            row[i % size] = (float)(random_unit(&random) - 0.5);
            if (i == size - 1)
                work->kernels->vector.store_key[work->type](row, size, part, t % KV_BLOCK_TOKENS);
        }
        work->kernels->vector.store_value[work->type](
            row, size, part + kv_key_bytes(work->type, size), t % KV_BLOCK_TOKENS);
    }
    for (size_t at = PATTERN * bytes; at + PATTERN * bytes <= CACHE_BYTES; at += PATTERN * bytes)
        memcpy(cache + at, cache, PATTERN * bytes);
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

enum { ROUNDS = 7 };

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, descending);
    return values[ROUNDS / 2];
}

static void bench_shape(struct work work, char *cache)
{
    static const char *const names[] = {"f16", "q8_0", "q4_0"};
    size_t bytes = kv_head_bytes(work.type, work.type, work.shape->size, work.shape->size);
    double read[ROUNDS], decode[ROUNDS], fraction[ROUNDS];
    double prefill[ROUNDS], peak_fraction[ROUNDS];
    fill_cache(&work, cache);
    work.splits = CACHE_BYTES / 2 / (bytes * SPLIT_BLOCKS);
    for (int i = 0; i < ROUNDS; i++) {
        read[i] = limits_measure_read(work.kernels, work.pool, cache, LIMITS_READ_BYTES);
        work.run = decode_share;
        decode[i] = (double)(work.splits * SPLIT_BLOCKS * bytes) / run_all(&work);
        fraction[i] = decode[i] / read[i];
        double peak = limits_measure_peak(work.kernels, work.pool, ARITHMETIC_F32, 0.02);
        work.run = prefill_share;
        work.tokens = 16;
        prefill[i] = 4.0 * (double)(20 * work.tokens * work.shape->group * work.shape->size) *
                     PREFILL_SPLITS * ATTENTION_SPLIT * work.threads / run_all(&work);
        peak_fraction[i] = prefill[i] / peak;
    }
    printf("%-7s %-8s %-5s decode %5.1f GB/s, %3.0f %% of %5.1f; prefill %6.1f GFLOPS, %3.0f %% of "
           "the peak of FMAs\n",
           work.kernels->tier, work.shape->name, names[work.type], median(decode) * 1e-9,
           100 * median(fraction), median(read) * 1e-9, median(prefill) * 1e-9,
           100 * median(peak_fraction));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const char *const types[] = {"f16", "q8_0", "q4_0"};
    const char *tier_wanted = argc > 1 ? argv[1] : "-", *type_wanted = argc > 2 ? argv[2] : "-";
    const char *shape_wanted = argc > 4 ? argv[4] : "-";
    unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    struct pool *pool = pool_create(threads);
    char *cache = mem_pages_alloc(CACHE_BYTES);
    float *queries = mem_alloc_array(ROWS_MAX * ATTENTION_HEAD_MAX, sizeof *queries);
    if (!pool || !cache || !queries)
        return 1;
    struct random random = random_from_seed(2);
    for (size_t i = 0; i < ROWS_MAX * ATTENTION_HEAD_MAX; i++)
        queries[i] = (float)(random_unit(&random) - 0.5);
    const char *name;
    for (size_t t = 0; (name = kernels_tier_at(t)) != NULL; t++) {
        struct kernels kernels;
        if ((strcmp(tier_wanted, "-") && strcmp(tier_wanted, name)) ||
            kernels_select(name, &kernels, NULL))
            continue;
        for (int type = 0; type < KV_TYPES; type++) {
            for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
                if ((strcmp(type_wanted, "-") && strcmp(type_wanted, types[type])) ||
                    (strcmp(shape_wanted, "-") && strcmp(shape_wanted, shapes[s].name)))
                    continue;
                struct work work = {.pool = pool,
                                    .threads = threads,
                                    .kernels = &kernels,
                                    .shape = &shapes[s],
                                    .type = (enum kv_type)type,
                                    .cache = cache,
                                    .queries = queries};
                bench_shape(work, cache);
            }
        }
    }
    mem_pages_free(cache, CACHE_BYTES);
    mem_free(queries);
    pool_destroy(pool);
    return 0;
}
