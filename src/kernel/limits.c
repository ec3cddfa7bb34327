#include "kernel/limits.h"

#include "base/os.h"
#include "gguf/types.h"
#include "kernel/kernel.h"

enum arithmetic limits_arithmetic(const struct kernels *kernels, uint32_t weight_type)
{
    if (activation_form_of(weight_type) != ACTIVATION_F32)
        return ARITHMETIC_INT8;
    if (weight_type == TYPE_BF16 && kernels->limits.peak[ARITHMETIC_BF16].run)
        return ARITHMETIC_BF16;
    return ARITHMETIC_F32;
}

static double seconds_since(uint64_t start)
{
    return (double)(os_monotonic_ns() - start) * 1e-9;
}

struct measurement {
    const struct limit_kernels *limits;
    const struct peak_loop *loop;
    const unsigned char *bytes;
    _Atomic uint64_t sink; /* what the loops return: so that none of them is left out */
};

/* Small items, so that a thread that loses its core for a while does not hold up the others: the
 * products of a forward pass are shared out in the same way. */
enum { PEAK_ITEM_STEPS = 20000, READ_ITEM_BYTES = 1 << 20 };

static void run_peak_item(void *context, size_t item, unsigned thread)
{
    (void)item;
    (void)thread;
    struct measurement *measurement = context;
    measurement->sink += measurement->loop->run(PEAK_ITEM_STEPS);
}

double limits_measure_peak(const struct kernels *kernels, struct pool *pool, enum arithmetic kind,
                           double seconds)
{
    struct measurement measurement = {.loop = &kernels->limits.peak[kind]};
    size_t items = pool_used(pool), done = 0;
    double spent = 0;
    uint64_t start = os_monotonic_ns();
    while (spent < seconds) {
        pool_run(pool, items, run_peak_item, &measurement);
        done += items;
        spent = seconds_since(start);
        /* as many at once as fill what is left, but not more than this has shown to be possible */
        double left = (double)done * (seconds - spent) / spent;
        items = left > (double)(3 * done) ? 3 * done : (size_t)(left > 0 ? left : 0) + 1;
    }
    return (double)done * PEAK_ITEM_STEPS * (double)measurement.loop->operations / spent;
}

static void run_read_item(void *context, size_t item, unsigned thread)
{
    (void)thread;
    struct measurement *measurement = context;
    size_t begin = item * READ_ITEM_BYTES;
    measurement->sink += measurement->limits->read(measurement->bytes + begin, READ_ITEM_BYTES);
}

double limits_measure_read(const struct kernels *kernels, struct pool *pool, const void *bytes,
                           size_t size)
{
    struct measurement measurement = {.limits = &kernels->limits, .bytes = bytes};
    size_t items = size / READ_ITEM_BYTES;
    uint64_t start = os_monotonic_ns();
    pool_run(pool, items, run_read_item, &measurement);
    return (double)items * READ_ITEM_BYTES / seconds_since(start);
}
