/* Speed of matrix products, by type and tier, beside what the machine can do: not a test.
 *
 *     bench_kernel [TIER [TYPE [THREADS [ROUNDS]]]]        "-" stands for all
 *
 * One column, weights from memory, as in decode: GB/s of weights, and the fraction of the speed at
 * which the same memory is merely read. Several columns, weights from the cache, as in prefill:
 * billions of operations per second (a multiplication and an addition being two), and the fraction
 * of the peak of the arithmetic that the type could use. Each result is measured right after its
 * limit, ROUNDS times (7); medians of the results and of the ratios are printed, because a machine
 * with neighbours changes its speed from second to second. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/pool.h"
#include "base/random.h"
#include "gguf/types.h"
#include "kernel/half.h"
#include "kernel/kernel.h"

enum { K = 3072, ROWS = 1024, COLUMNS = 512, ROUNDS_MAX = 99, ITEM_ROWS = 64 };
#define LIMIT_SECONDS 0.02
#define RESULT_SECONDS 0.03

struct bench {
    struct pool *pool;
    struct kernels kernels;
    unsigned char *weights; /* LIMITS_READ_BYTES */
    int rounds;
};

/* ---- products, shared out as the forward pass does it ---- */

struct product {
    const struct kernels *kernels;
    struct matmul task;
    size_t rows, rows_per_item;
};

static void run_item(void *context, size_t item, unsigned thread)
{
    (void)thread;
    const struct product *product = context;
    struct matmul task = product->task;
    task.row_begin = item * product->rows_per_item;
    task.row_end = task.row_begin + product->rows_per_item;
    if (task.row_end > product->rows)
        task.row_end = product->rows;
    product->kernels->matmul[task.type](&task);
}

static void run_product(struct pool *pool, struct product *product)
{
    size_t rows = product->rows / (pool_threads(pool) * 8) / ITEM_ROWS * ITEM_ROWS;
    product->rows_per_item = rows > ITEM_ROWS ? rows : ITEM_ROWS;
    size_t items = (product->rows + product->rows_per_item - 1) / product->rows_per_item;
    pool_run(pool, items, run_item, product);
}

/* Seconds of one product, after as many as fill `seconds`. */
static double product_time(struct pool *pool, struct product *product, double seconds)
{
    uint64_t start = os_monotonic_ns();
    for (int count = 1;; count++) {
        run_product(pool, product);
        double time = (double)(os_monotonic_ns() - start) * 1e-9;
        if (time >= seconds)
            return time / count;
    }
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

/* ---- medians ---- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* ---- one type ---- */

/* Prints the speed of a product in billions of `units`, and its fraction of the limit. */
static void bench_product(const struct bench *bench, struct product *product, double units,
                          bool from_memory)
{
    double speeds[ROUNDS_MAX], ratios[ROUNDS_MAX];
    enum arithmetic kind = limits_arithmetic(&bench->kernels, product->task.type);
    run_product(bench->pool, product);
    for (int i = 0; i < bench->rounds; i++) {
        double limit = from_memory
                           ? limits_measure_read(&bench->kernels, bench->pool, bench->weights,
                                                 LIMITS_READ_BYTES)
                           : limits_measure_peak(&bench->kernels, bench->pool, kind, LIMIT_SECONDS);
        speeds[i] = units / product_time(bench->pool, product, from_memory ? 0 : RESULT_SECONDS);
        ratios[i] = speeds[i] / limit;
    }
    printf(" %7.1f (%3.0f %%)", median(speeds, bench->rounds) * 1e-9,
           100 * median(ratios, bench->rounds));
    fflush(stdout);
}

/* About normally distributed, as activations are: kernels may be faster where large ones are rare.
 */
static float normal(struct random *random)
{
    double sum = 0.0;
    for (int i = 0; i < 12; i++)
        sum += random_unit(random) - 0.5;
    return (float)sum;
}

static void fill_activations(const struct bench *bench, enum activation_form form, unsigned char *x)
{
    struct random random = random_from_seed(2);
    for (size_t c = 0; c < COLUMNS; c++) {
        float row[K];
        for (int i = 0; i < K; i++)
            row[i] = normal(&random);
        bench->kernels.quantize[form](row, K, x + c * activation_row_bytes(form, K));
    }
}

static void bench_type(const struct bench *bench, uint32_t type)
{
    const struct tensor_type_traits *traits = tensor_type_traits(type);
    enum activation_form form = activation_form_of(type);
    size_t x_bytes = activation_row_bytes(form, K);
    size_t row_bytes = K / traits->block_elements * traits->block_bytes;
    size_t rows = LIMITS_READ_BYTES / row_bytes;
    unsigned char *x = mem_pages_alloc(COLUMNS * x_bytes);
    float *y = mem_alloc_array(COLUMNS * ROWS + rows, sizeof(float));
    if (x == NULL || y == NULL)
        abort();
    fill_weights(bench->weights, LIMITS_READ_BYTES, type);
    fill_activations(bench, form, x);
    struct product product = {.kernels = &bench->kernels, .rows = rows};
    product.task = (struct matmul){.type = type,
                                   .weights = bench->weights,
                                   .row_bytes = row_bytes,
                                   .k = K,
                                   .x = x,
                                   .columns = 1,
                                   .y = y,
                                   .y_stride = rows};
    printf("%-7s %-7s", bench->kernels.tier, traits->name);
    bench_product(bench, &product, (double)(rows * row_bytes), true);
    product.rows = product.task.y_stride = ROWS;
    static const size_t columns[] = {1, 4, 16, 32, 64, 512};
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        product.task.columns = columns[i];
        bench_product(bench, &product, 2.0 * ROWS * K * (double)columns[i], false);
    }
    printf("\n");
    mem_pages_free(x, COLUMNS * x_bytes);
    mem_free(y);
}

static bool wanted(const char *argument, const char *name)
{
    return argument == NULL || strcmp(argument, "-") == 0 || strcmp(argument, name) == 0;
}

static void bench_tier(const struct bench *bench, const char *type_wanted)
{
    static const uint32_t types[] = {
#define TYPE_NUMBER(name, number, elements, bytes) number,
        TENSOR_TYPES(TYPE_NUMBER)
#undef TYPE_NUMBER
    };
    static const char *const names[ARITHMETICS] = {"int8", "f32", "bf16", "tiles"};
    printf("%s: read %.1f GB/s, GOPS:", bench->kernels.tier,
           limits_measure_read(&bench->kernels, bench->pool, bench->weights, LIMITS_READ_BYTES) *
               1e-9);
    for (int kind = 0; kind < ARITHMETICS; kind++) {
        if (bench->kernels.limits.peak[kind].run)
            printf(" %s %.0f", names[kind],
                   limits_measure_peak(&bench->kernels, bench->pool, (enum arithmetic)kind, 0.1) *
                       1e-9);
    }
    printf(
        "\ntier    type    memory, GB/s   GOPS: 1 column         4              16             32"
        "             64             512\n");
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        if (wanted(type_wanted, tensor_type_traits(types[t])->name))
            bench_type(bench, types[t]);
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 3 ? atoi(argv[3]) : 1, rounds = argc > 4 ? atoi(argv[4]) : 7;
    if (threads < 1 || rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: bench_kernel [TIER [TYPE [THREADS [ROUNDS]]]]\n");
        return 2;
    }
    struct bench bench = {.pool = pool_create((unsigned)threads),
                          .weights = mem_pages_alloc(LIMITS_READ_BYTES),
                          .rounds = rounds};
    if (bench.weights == NULL || bench.pool == NULL)
        return 1;
    memset(bench.weights, 1, LIMITS_READ_BYTES);
    const char *name;
    for (size_t i = 0; (name = kernels_tier_at(i)) != NULL; i++) {
        if (wanted(argc > 1 ? argv[1] : NULL, name) &&
            kernels_select(name, &bench.kernels, NULL) == 0)
            bench_tier(&bench, argc > 2 ? argv[2] : NULL);
    }
    pool_destroy(bench.pool);
    mem_pages_free(bench.weights, LIMITS_READ_BYTES);
    return 0;
}
