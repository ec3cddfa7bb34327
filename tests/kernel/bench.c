/* Speed of matrix products, by type and tier, beside what the machine can do: not a test.
 *
 *     bench_kernel [TIER [TYPE [THREADS]]]        "-" stands for all
 *
 * One column, weights from memory (GB/s of weights); 32, 64 and 512 columns, weights from the cache
 * (billions of operations per second, a multiplication and an addition being two). The limits are
 * measured first: reading memory, and the instruction that multiplies int8. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "base/memory.h"
#include "base/os.h"
#include "base/random.h"
#include "gguf/types.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

enum { K = 3072, ROWS = 1024, COLUMNS = 512, THREADS_MAX = 64 };
#define STREAM_BYTES ((size_t)640 << 20) /* more than the last cache holds */

static double seconds(void)
{
    return (double)os_monotonic_ns() * 1e-9;
}

/* ---- work on several threads at once ---- */

struct worker {
    void (*run)(struct worker *worker);
    unsigned index, count;
    const struct kernels *kernels;
    struct matmul task;
    const unsigned char *bytes;
    int repeat;
    uint64_t result;
};

static void worker_main(void *context)
{
    struct worker *worker = context;
    for (int i = 0; i < worker->repeat; i++)
        worker->run(worker);
}

/* Seconds that `count` threads need. */
static double run_all(struct worker worker, unsigned count)
{
    struct worker workers[THREADS_MAX];
    struct os_thread *threads[THREADS_MAX];
    double start = seconds();
    for (unsigned i = 0; i < count; i++) {
        workers[i] = worker;
        workers[i].index = i;
        workers[i].count = count;
        threads[i] = i > 0 ? os_thread_start(worker_main, &workers[i]) : NULL;
    }
    worker_main(&workers[0]);
    for (unsigned i = 1; i < count; i++)
        os_thread_join(threads[i]);
    return seconds() - start;
}

/* The best of three, after as many repetitions as fill a tenth of a second. */
static double best_time(struct worker worker, unsigned count)
{
    worker.repeat = 1;
    double once = run_all(worker, count);
    once = run_all(worker, count);
    worker.repeat = once < 0.1 ? (int)(0.1 / once) + 1 : 1;
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double time = run_all(worker, count) / worker.repeat;
        best = time < best ? time : best;
    }
    return best;
}

/* ---- limits ---- */

static void read_share(struct worker *worker)
{
    size_t share = STREAM_BYTES / worker->count / 64 * 64;
    const unsigned char *p = worker->bytes + worker->index * share;
    uint64_t sums[8] = {0};
    for (size_t i = 0; i + 64 <= share; i += 64) {
        uint64_t words[8];
        memcpy(words, p + i, sizeof(words));
        for (int j = 0; j < 8; j++)
            sums[j] ^= words[j];
    }
    for (int j = 0; j < 8; j++)
        worker->result += sums[j];
}

enum { PEAK_STEPS = 1000000, PEAK_CHAINS = 12 };

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512vnni"))) static void peak_avx512(struct worker *worker)
{
    __m512i acc[PEAK_CHAINS], w = _mm512_set1_epi32(7), a = _mm512_set1_epi32(3);
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = _mm512_set1_epi32(i);
    for (int n = 0; n < PEAK_STEPS; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++) {
            acc[i] = _mm512_dpbusd_epi32(acc[i], w, a);
            __asm__ volatile("" : "+v"(acc[i]));
        }
    }
    worker->result += (uint64_t)_mm512_reduce_add_epi32(acc[0]);
}

__attribute__((target("avx2"))) static void peak_avx2(struct worker *worker)
{
    __m256i acc[PEAK_CHAINS], a = _mm256_set1_epi32(3);
    for (int i = 0; i < PEAK_CHAINS; i++)
        acc[i] = _mm256_set1_epi32(i);
    for (int n = 0; n < PEAK_STEPS; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < PEAK_CHAINS; i++) {
            acc[i] = _mm256_maddubs_epi16(acc[i], a);
            __asm__ volatile("" : "+x"(acc[i]));
        }
    }
    worker->result += (uint64_t)_mm256_extract_epi32(acc[0], 0);
}
#endif

/* int8 operations per second of the instruction that the tier's products are made of; 0: unknown */
static double measure_peak(const char *tier, unsigned threads)
{
    struct worker worker = {0};
    double bytes = 0;
#if defined(__x86_64__)
    if (strcmp(tier, "avx512") == 0) {
        worker.run = peak_avx512;
        bytes = 64;
    }
    if (strcmp(tier, "avx2") == 0) {
        worker.run = peak_avx2;
        bytes = 32;
    }
#endif
    if (bytes == 0)
        return 0;
    return threads * 2.0 * bytes * PEAK_STEPS * PEAK_CHAINS / best_time(worker, threads);
}

/* ---- products ---- */

static void multiply_share(struct worker *worker)
{
    struct matmul task = worker->task;
    size_t rows = task.row_end;
    task.row_begin = rows * worker->index / worker->count;
    task.row_end = rows * (worker->index + 1) / worker->count;
    worker->kernels->matmul[task.type](&task);
}

/* Random bytes in which no exponent is extreme: binary16 scales between 2^-11 and 2^-2, so that
 * nothing becomes infinite or subnormal, which would cost time of its own. */
static void fill_weights(unsigned char *weights, size_t bytes, uint32_t type)
{
    struct random random = random_from_seed(1);
    size_t block = tensor_type_traits(type)->block_bytes, unit = block * 1024;
    bool floats = type == TYPE_F32 || type == TYPE_BF16;
    for (size_t i = 0; i < unit; i++)
        weights[i] = (unsigned char)((random_u64(&random) & 0x1f) | (floats ? 0x3c : 0x10));
    for (size_t i = 0; i < unit && type == TYPE_MXFP4; i += block)
        weights[i] = 120;
    for (size_t at = unit; at < bytes; at += unit)
        memcpy(weights + at, weights, unit < bytes - at ? unit : bytes - at);
}

static void bench_type(const struct kernels *kernels, uint32_t type, unsigned threads,
                       unsigned char *weights, double peak)
{
    const struct tensor_type_traits *traits = tensor_type_traits(type);
    enum activation_form form = activation_form_of(type);
    size_t x_bytes = activation_row_bytes(form, K);
    size_t row_bytes = K / traits->block_elements * traits->block_bytes;
    size_t rows = STREAM_BYTES / row_bytes;
    unsigned char *x = mem_pages_alloc(COLUMNS * x_bytes);
    float *y = mem_alloc_array(COLUMNS * ROWS + rows, sizeof(float));
    if (x == NULL || y == NULL)
        abort();
    fill_weights(weights, STREAM_BYTES, type);
    struct random random = random_from_seed(2);
    for (size_t c = 0; c < COLUMNS; c++) {
        float row[K];
        for (int i = 0; i < K; i++)
            row[i] = (float)(random_unit(&random) - 0.5);
        kernels->quantize[form](row, K, x + c * x_bytes);
    }

    struct worker worker = {.run = multiply_share, .kernels = kernels};
    worker.task = (struct matmul){.type = type,
                                  .weights = weights,
                                  .row_bytes = row_bytes,
                                  .k = K,
                                  .row_end = rows,
                                  .x = x,
                                  .columns = 1,
                                  .y = y,
                                  .y_stride = rows};
    double memory = (double)(rows * row_bytes) / best_time(worker, threads);
    worker.task.row_end = ROWS;
    double cache = (double)(ROWS * row_bytes) / best_time(worker, threads);
    printf("%-7s %-7s %6.1f %6.1f ", kernels->tier, traits->name, memory * 1e-9, cache * 1e-9);
    static const size_t columns[] = {4, 32, 64, 512};
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        worker.task.columns = columns[i];
        worker.task.y_stride = ROWS;
        double ops = 2.0 * ROWS * K * (double)columns[i] / best_time(worker, threads);
        printf(" %7.1f", ops * 1e-9);
        if (peak > 0)
            printf(" (%2.0f %%)", 100 * ops / peak);
    }
    printf("\n");
    fflush(stdout);
    mem_pages_free(x, COLUMNS * x_bytes);
    mem_free(y);
}

static bool wanted(const char *argument, const char *name)
{
    return argument == NULL || strcmp(argument, "-") == 0 || strcmp(argument, name) == 0;
}

int main(int argc, char **argv)
{
    static const uint32_t types[] = {
#define TYPE_NUMBER(name, number, elements, bytes) number,
        TENSOR_TYPES(TYPE_NUMBER)
#undef TYPE_NUMBER
    };
    const char *tier_wanted = argc > 1 ? argv[1] : NULL, *type_wanted = argc > 2 ? argv[2] : NULL;
    unsigned threads = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    if (threads < 1 || threads > THREADS_MAX)
        return 2;
    unsigned char *weights = mem_pages_alloc(STREAM_BYTES);
    if (weights == NULL)
        return 1;
    memset(weights, 1, STREAM_BYTES);
    struct worker reader = {.run = read_share, .bytes = weights};
    printf("%u threads; memory read %.1f GB/s\n", threads,
           (double)STREAM_BYTES / best_time(reader, threads) * 1e-9);
    const char *name;
    for (size_t i = 0; (name = kernels_tier_at(i)) != NULL; i++) {
        struct kernels kernels;
        if (!wanted(tier_wanted, name) || kernels_select(name, &kernels, NULL) != 0)
            continue;
        double peak = measure_peak(name, threads);
        printf("%s: int8 peak %.0f GOPS\n", name, peak * 1e-9);
        printf("tier    type    memory  cache  GOPS with 4, 32, 64, 512 columns\n");
        for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
            if (wanted(type_wanted, tensor_type_traits(types[t])->name))
                bench_type(&kernels, types[t], threads, weights, peak);
        }
    }
    mem_pages_free(weights, STREAM_BYTES);
    return 0;
}
