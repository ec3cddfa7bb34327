/* Matrix products and quantizers of every tier against the reference, to the bit: odd sizes,
 * extreme values, cut row ranges; weights end where readable memory ends, outputs stand between
 * guards. And the reference against a product in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/random.h"
#include "gguf/types.h"
#include "kernel/activation.h"
#include "kernel/half.h"
#include "kernel/kernel.h"
#include "support/guarded.h"

enum { ROWS_MAX = 81, COLUMNS_MAX = 96, COLUMNS_MANY = 263, BLOCKS_MAX = 11, ELEMENTS_MAX = 2048 };

static const uint32_t all_types[] = {
#define TYPE_NUMBER(name, number, elements, bytes) number,
    TENSOR_TYPES(TYPE_NUMBER)
#undef TYPE_NUMBER
};
enum { TYPE_COUNT = sizeof(all_types) / sizeof(all_types[0]) };

/* ---- making weights ---- */

/* Where a block keeps its 16-bit scales; the second one, or both, may be missing (-1). */
struct scale_fields {
    uint32_t type;
    int d, m;
};

static const struct scale_fields scale_fields[] = {
    {TYPE_Q4_0, 0, -1}, {TYPE_Q4_1, 0, 2},    {TYPE_Q5_0, 0, -1},   {TYPE_Q5_1, 0, 2},
    {TYPE_Q8_0, 0, -1}, {TYPE_Q2_K, 80, 82},  {TYPE_Q3_K, 108, -1}, {TYPE_Q4_K, 0, 2},
    {TYPE_Q5_K, 0, 2},  {TYPE_Q6_K, 208, -1}, {TYPE_IQ4_NL, 0, -1}, {TYPE_IQ4_XS, 0, -1},
};

enum fill { FILL_RANDOM, FILL_ONES, FILL_ZEROS, FILL_EXTREME_SCALES, FILL_NAN, FILLS };

static uint16_t random_scale(struct random *random, enum fill fill)
{
    static const uint16_t extremes[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x7bff, 0xfbff, 0x0400};
    if (fill == FILL_NAN && random_u64(random) % 8 == 0)
        return random_u64(random) % 2 ? 0x7e00 : 0x7c00;
    if (fill == FILL_EXTREME_SCALES)
        return extremes[random_u64(random) % (sizeof(extremes) / sizeof(extremes[0]))];
    return float_to_half((float)(random_unit(random) - 0.5) * 0.1f);
}

static void fill_float_row(struct random *random, uint32_t type, enum fill fill, size_t k,
                           unsigned char *row)
{
    for (size_t i = 0; i < k; i++) {
        float value = (float)(random_unit(random) - 0.5);
        if (fill == FILL_EXTREME_SCALES)
            value *= random_u64(random) % 2 ? 6e4f : 1e-7f;
        if (fill == FILL_NAN && random_u64(random) % 64 == 0)
            value = NAN;
        if (fill == FILL_ZEROS)
            value = 0.0f;
        uint16_t half = type == TYPE_F16 ? float_to_half(value) : float_to_bf16(value);
        if (type == TYPE_F32)
            memcpy(row + 4 * i, &value, sizeof(value));
        else
            memcpy(row + 2 * i, &half, sizeof(half));
    }
}

static void fill_row(struct random *random, uint32_t type, enum fill fill, size_t k,
                     unsigned char *row)
{
    const struct tensor_type_traits *traits = tensor_type_traits(type);
    if (traits->block_elements == 1) {
        fill_float_row(random, type, fill, k, row);
        return;
    }
    size_t block_bytes = traits->block_bytes;
    for (size_t at = 0; at < k / traits->block_elements * block_bytes; at += block_bytes) {
        for (size_t i = 0; i < block_bytes; i++)
            row[at + i] = fill == FILL_ONES    ? 0xff
                          : fill == FILL_ZEROS ? 0
                                               : (unsigned char)random_u64(random);
        if (type == TYPE_MXFP4) {
            static const unsigned char extremes[] = {0, 1, 2, 127, 254, 255};
            row[at] = fill == FILL_EXTREME_SCALES ? extremes[random_u64(random) % 6]
                                                  : (unsigned char)(120 + random_u64(random) % 8);
        }
        for (size_t f = 0; f < sizeof(scale_fields) / sizeof(scale_fields[0]); f++) {
            if (scale_fields[f].type != type)
                continue;
            uint16_t d = random_scale(random, fill), m = random_scale(random, fill);
            memcpy(row + at + scale_fields[f].d, &d, sizeof(d));
            if (scale_fields[f].m >= 0)
                memcpy(row + at + scale_fields[f].m, &m, sizeof(m));
        }
    }
}

/* ---- making activations ---- */

enum input {
    INPUT_RANDOM,
    INPUT_LARGEST,
    INPUT_SMALLEST,
    INPUT_MIXED,
    INPUT_SMALL,
    INPUT_BOUND,
    INPUTS
};

/* Of 16 elements, the sum of |q| is ACTIVATION_SMALL in every other superblock, and one more in the
 * rest. */
static float bound_value(size_t i, bool negative)
{
    static const float values[16] = {127, 60, 60, 60, 60, 60, 60, 60,
                                     60,  60, 60, 60, 60, 60, 60, ACTIVATION_SMALL - 127 - 14 * 60};
    float value = values[i % 16] + (i % 16 == 15 && i / 256 % 2 == 1 ? 1.0f : 0.0f);
    return negative ? -value : value;
}

/* Largest and smallest make every q 127 or -127: with weights of the same sign the integer sums
 * reach their bounds. Small ones keep within half of that but for one in 256. */
static void fill_input(struct random *random, enum input input, size_t k, float *x)
{
    bool negative = random_u64(random) % 2 == 1;
    for (size_t i = 0; i < k; i++) {
        float value = (float)(random_unit(random) - 0.5);
        if (input == INPUT_LARGEST)
            value = 3.0f;
        if (input == INPUT_SMALLEST)
            value = -0.25f;
        if (input == INPUT_MIXED) {
            static const float scales[] = {0.0f, 1.0f, 1e-40f, 1e30f, 1e-20f};
            value *= scales[i / 32 % 5];
            if (random_u64(random) % 4096 == 0)
                value = INFINITY;
        }
        if (input == INPUT_SMALL)
            value *= i % 256 == 7 ? 4.0f : 1.0f;
        if (input == INPUT_BOUND)
            value = bound_value(i, negative);
        x[i] = value;
    }
}

/* ---- one product ---- */

struct operands {
    uint32_t type;
    size_t k, rows, columns, row_bytes;
    struct guarded weights; /* its end is the end of readable memory */
    unsigned char *x;       /* quantized by the reference */
    bool outliers;          /* x has as many rows of outliers behind the others */
    uint8_t marks[COLUMNS_MANY * (ELEMENTS_MAX / 128)];
};

static size_t x_bytes_of(const struct operands *operands)
{
    size_t row = activation_row_bytes(activation_form_of(operands->type), operands->k);
    return (operands->outliers ? 2 : 1) * operands->columns * row;
}

static bool has_outliers(uint32_t type)
{
    return activation_form_of(type) != ACTIVATION_F32;
}

static void operands_finish(struct operands *operands)
{
    guarded_free(&operands->weights);
    mem_pages_free(operands->x, x_bytes_of(operands));
}

/* Makes some groups of 32 larger, in some columns. */
static void enlarge(struct random *random, size_t k, float *x)
{
    if (random_u64(random) % 3 == 0)
        return;
    for (size_t i = 0; i < k; i += 32) {
        float factor = random_u64(random) % 4 == 0 ? 100.0f : 1.0f;
        for (size_t j = i; j < i + 32; j++)
            x[j] *= factor;
    }
}

static void split_column(const struct kernels *tier, struct operands *out, size_t column, float *x)
{
    enum activation_form form = activation_form_of(out->type);
    size_t row = activation_row_bytes(form, out->k);
    const struct activation_columns columns = {
        .rest = out->x + column * row,
        .outliers = out->x + (out->columns + column) * row,
        .marks = out->marks + column * activation_marks(form, out->k),
    };
    activation_split(tier, form, x, out->k, &columns);
}

static void operands_init(struct operands *out, struct random *random, const struct kernels *ref,
                          enum fill fill, enum input input)
{
    const struct tensor_type_traits *traits = tensor_type_traits(out->type);
    enum activation_form form = activation_form_of(out->type);
    size_t x_bytes = activation_row_bytes(form, out->k);
    assert_int_equal(x_bytes % 64, 0);
    out->row_bytes = out->k / traits->block_elements * traits->block_bytes;
    assert_true(guarded_alloc(&out->weights, out->rows * out->row_bytes));
    out->x = mem_pages_alloc(x_bytes_of(out));
    assert_non_null(out->x);
    for (size_t r = 0; r < out->rows; r++)
        fill_row(random, out->type, fill, out->k, out->weights.data + r * out->row_bytes);
    static float x[ELEMENTS_MAX];
    assert_true(out->k <= ELEMENTS_MAX);
    for (size_t c = 0; c < out->columns; c++) {
        fill_input(random, input, out->k, x);
        if (out->outliers) {
            enlarge(random, out->k, x);
            split_column(ref, out, c, x);
        } else {
            ref->quantize[form](x, out->k, out->x + c * x_bytes);
        }
    }
}

static struct matmul product(const struct operands *operands, float *y, size_t y_stride)
{
    return (struct matmul){
        .type = operands->type,
        .weights = operands->weights.data,
        .row_bytes = operands->row_bytes,
        .k = operands->k,
        .row_end = operands->rows,
        .x = operands->x,
        .columns = operands->columns,
        .marks = operands->outliers ? operands->marks : NULL,
        .y = y,
        .y_stride = y_stride,
    };
}

/* Equal bits; of NaNs only that they are. Which NaN comes out of an operation is not defined. */
static bool same_floats(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bits_of_float(a[i]) != bits_of_float(b[i]) && !(isnan(a[i]) && isnan(b[i])))
            return false;
    }
    return true;
}

#define GUARD 0x7fa5a5a5u /* a NaN that no kernel makes */

/* A tier's product, its rows cut at two random places, against the reference's. The stride leaves
 * room between the columns, where nothing may be written. */
static void check_product(const struct kernels *ref, const struct kernels *tier,
                          const struct operands *operands, struct random *random)
{
    static float expected[ROWS_MAX * COLUMNS_MAX], y[(ROWS_MAX + 3) * COLUMNS_MAX];
    size_t rows = operands->rows, stride = rows + 3;
    struct matmul task = product(operands, expected, rows);
    ref->matmul[operands->type](&task);

    for (size_t i = 0; i < stride * operands->columns; i++)
        y[i] = float_of_bits(GUARD);
    size_t cut[4] = {0, random_u64(random) % (rows + 1), random_u64(random) % (rows + 1), rows};
    if (cut[1] > cut[2]) {
        size_t swapped = cut[1];
        cut[1] = cut[2];
        cut[2] = swapped;
    }
    for (int i = 0; i < 3; i++) {
        task = product(operands, y, stride);
        task.row_begin = cut[i];
        task.row_end = cut[i + 1];
        tier->matmul[operands->type](&task);
    }
    for (size_t c = 0; c < operands->columns; c++) {
        if (!same_floats(y + c * stride, expected + c * rows, rows))
            fail_msg("%s, %s: k %zu, %zu rows, %zu columns, column %zu", tier->tier,
                     tensor_type_traits(operands->type)->name, operands->k, rows, operands->columns,
                     c);
        for (size_t r = rows; r < stride; r++)
            assert_int_equal(bits_of_float(y[c * stride + r]), GUARD);
    }
}

/* ---- the tests ---- */

#ifdef HEARTH_TEST_AVXVNNI_EVEX
void matmul_fill_avxvnni_evex(struct kernels *kernels);

/* The tier avxvnni where the machine has its instructions, but in AVX-512's encoding. */
static bool select_avxvnni_evex(struct kernels *out)
{
    struct kernels avx512;
    if (kernels_select("avx512", &avx512, NULL) != 0 || kernels_select("avx2", out, NULL) != 0)
        return false;
    matmul_fill_avxvnni_evex(out);
    out->tier = "avxvnni as EVEX";
    return true;
}
#endif

static void for_each_tier(void (*check)(const struct kernels *ref, const struct kernels *tier))
{
    struct kernels ref, tier;
    assert_int_equal(kernels_select("ref", &ref, NULL), 0);
    const char *name;
    for (size_t i = 0; (name = kernels_tier_at(i)) != NULL; i++) {
        assert_int_equal(kernels_select(name, &tier, NULL), 0);
        check(&ref, &tier);
    }
#ifdef HEARTH_TEST_AVXVNNI_EVEX
    if (select_avxvnni_evex(&tier))
        check(&ref, &tier);
#endif
}

static size_t row_elements(uint32_t type, size_t blocks, struct random *random)
{
    size_t elements = tensor_type_traits(type)->block_elements;
    if (elements == 1)
        return blocks * 16 + random_u64(random) % 16;
    return elements * (elements == 256 ? (blocks + 2) / 3 : blocks);
}

static void check_sizes(const struct kernels *ref, const struct kernels *tier)
{
    static const size_t rows[] = {1, 2, 15, 16, 17, 33, 49};
    static const size_t columns[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33};
    struct random random = random_from_seed(3);
    for (int t = 0; t < TYPE_COUNT; t++) {
        for (size_t i = 0; i < 77; i++) {
            struct operands operands = {
                .type = all_types[t], .rows = rows[i % 7], .columns = columns[i / 7]};
            operands.k = row_elements(operands.type, 1 + (i * 5) % BLOCKS_MAX, &random);
            operands_init(&operands, &random, ref, FILL_RANDOM,
                          i % 2 == 0 ? INPUT_RANDOM : INPUT_SMALL);
            check_product(ref, tier, &operands, &random);
            operands_finish(&operands);
        }
    }
}

static void every_tier_equals_the_reference_in_all_sizes(void **state)
{
    (void)state;
    for_each_tier(check_sizes);
}

static void check_extremes(const struct kernels *ref, const struct kernels *tier)
{
    struct random random = random_from_seed(4);
    for (int t = 0; t < TYPE_COUNT; t++) {
        for (int i = 0; i < FILLS * INPUTS * 2; i++) {
            struct operands operands = {
                .type = all_types[t], .rows = 35, .columns = i < FILLS * INPUTS ? 5 : 1};
            operands.k = row_elements(operands.type, 1 + (size_t)i % BLOCKS_MAX, &random);
            operands_init(&operands, &random, ref, (enum fill)(i % FILLS),
                          (enum input)(i / FILLS % INPUTS));
            check_product(ref, tier, &operands, &random);
            operands_finish(&operands);
        }
    }
}

static void every_tier_equals_the_reference_at_the_extremes(void **state)
{
    (void)state;
    for_each_tier(check_extremes);
}

/* More columns than a panel is expanded for at once. */
static void check_many_columns(const struct kernels *ref, const struct kernels *tier)
{
    struct random random = random_from_seed(5);
    for (int t = 0; t < TYPE_COUNT; t++) {
        enum { COLUMNS = COLUMNS_MANY, ROWS = 3 };
        struct operands operands = {.type = all_types[t],
                                    .rows = ROWS,
                                    .columns = COLUMNS,
                                    .outliers = has_outliers(all_types[t])};
        static float expected[ROWS * COLUMNS], y[ROWS * COLUMNS];
        operands.k = row_elements(operands.type, 4, &random);
        operands_init(&operands, &random, ref, FILL_RANDOM, INPUT_RANDOM);
        struct matmul task = product(&operands, expected, ROWS);
        ref->matmul[operands.type](&task);
        task = product(&operands, y, ROWS);
        tier->matmul[operands.type](&task);
        assert_true(same_floats(expected, y, ROWS * COLUMNS));
        operands_finish(&operands);
    }
}

/* Long ranges of rows too: products with few columns are computed in parts of 64 and 1024 rows. */
static void check_outliers(const struct kernels *ref, const struct kernels *tier)
{
    static const size_t rows[] = {1, 15, 16, 35, 63, 64, 65, 80, 81};
    static const size_t columns[] = {1, 2, 3, 4, 5, 6, 7, 9, 33};
    struct random random = random_from_seed(9);
    for (int t = 0; t < TYPE_COUNT; t++) {
        for (size_t i = 0; i < 81 && has_outliers(all_types[t]); i++) {
            struct operands operands = {.type = all_types[t],
                                        .rows = rows[i % 9],
                                        .columns = columns[i / 9],
                                        .outliers = true};
            operands.k = row_elements(operands.type, 1 + (i * 5) % BLOCKS_MAX, &random);
            operands_init(&operands, &random, ref, i % 7 == 3 ? FILL_EXTREME_SCALES : FILL_RANDOM,
                          (enum input)(i % INPUTS));
            check_product(ref, tier, &operands, &random);
            operands_finish(&operands);
        }
    }
}

static void every_tier_equals_the_reference_with_outliers(void **state)
{
    (void)state;
    for_each_tier(check_outliers);
}

/* So many columns that a tile unit multiplies them, in tiles that fit and that do not. */
static void check_tiles(const struct kernels *ref, const struct kernels *tier)
{
    static const size_t rows[] = {1, 16, 31, 64, 81};
    static const size_t columns[] = {79, 80, 81, 88, 95, 96};
    struct random random = random_from_seed(11);
    if (!tier->limits.peak[ARITHMETIC_TILES].run)
        return; /* has no such unit, and takes all columns as it takes a few */
    for (int t = 0; t < TYPE_COUNT; t++) {
        for (size_t i = 0; i < 30 && tensor_type_traits(all_types[t])->block_elements == 256; i++) {
            struct operands operands = {.type = all_types[t],
                                        .rows = rows[i % 5],
                                        .columns = columns[i % 6],
                                        .outliers = i % 2 == 0};
            operands.k = row_elements(operands.type, 1 + (i * 5) % BLOCKS_MAX, &random);
            enum fill fill = operands.outliers ? FILL_RANDOM : (enum fill)(i / 2 % FILLS);
            operands_init(&operands, &random, ref, fill, (enum input)(i / 2 % INPUTS));
            check_product(ref, tier, &operands, &random);
            operands_finish(&operands);
        }
    }
}

static void every_tier_equals_the_reference_with_tiles_of_columns(void **state)
{
    (void)state;
    for_each_tier(check_tiles);
}

static void check_long_ranges(const struct kernels *ref, const struct kernels *tier)
{
    enum { ROWS = 2100, K = 256 };
    static float expected[ROWS], y[ROWS];
    struct random random = random_from_seed(10);
    for (int t = 0; t < TYPE_COUNT; t++) {
        struct operands operands = {
            .type = all_types[t], .k = K, .rows = ROWS, .columns = 1, .outliers = true};
        if (!has_outliers(operands.type))
            continue;
        operands_init(&operands, &random, ref, FILL_RANDOM, INPUT_RANDOM);
        for (size_t rows = 2020; rows <= ROWS; rows += 8) {
            struct matmul task = product(&operands, expected, ROWS);
            ref->matmul[operands.type](&task);
            task = product(&operands, y, ROWS);
            task.row_end = rows;
            tier->matmul[operands.type](&task);
            assert_true(same_floats(expected, y, rows));
        }
        operands_finish(&operands);
    }
}

static void every_tier_equals_the_reference_in_long_ranges(void **state)
{
    (void)state;
    for_each_tier(check_long_ranges);
}

static void every_tier_equals_the_reference_with_many_columns(void **state)
{
    (void)state;
    for_each_tier(check_many_columns);
}

/* So many rows and activations that steps are taken in another order than row after row, against a
 * few columns at a time of the same tier. */
static void check_large(const struct kernels *ref, const struct kernels *tier)
{
    enum { COLUMNS = 200, ROWS = 333, PART = 25 };
    static float expected[ROWS * COLUMNS], y[ROWS * COLUMNS];
    if (strcmp(tier->tier, "ref") == 0)
        return; /* knows one order only */
    struct random random = random_from_seed(9);
    for (int t = 0; t < TYPE_COUNT; t++) {
        struct operands operands = {.type = all_types[t], .rows = ROWS, .columns = COLUMNS};
        size_t elements = tensor_type_traits(all_types[t])->block_elements;
        operands.k = elements == 256 ? ELEMENTS_MAX : ELEMENTS_MAX - elements;
        operands_init(&operands, &random, ref, FILL_RANDOM, INPUT_RANDOM);
        size_t x_bytes = activation_row_bytes(activation_form_of(operands.type), operands.k);
        struct matmul task = product(&operands, y, ROWS);
        tier->matmul[operands.type](&task);
        task.columns = PART;
        for (size_t c = 0; c < COLUMNS; c += PART) {
            task.x = operands.x + c * x_bytes;
            task.y = expected + c * ROWS;
            tier->matmul[operands.type](&task);
        }
        assert_true(same_floats(expected, y, ROWS * COLUMNS));
        operands_finish(&operands);
    }
}

static void large_products_equal_their_parts(void **state)
{
    (void)state;
    for_each_tier(check_large);
}

static void check_quantize(const struct kernels *ref, const struct kernels *tier)
{
    struct random random = random_from_seed(6);
    static float x[ELEMENTS_MAX + 1];
    for (int form = 0; form < ACTIVATION_FORMS; form++) {
        for (int i = 0; i < 400; i++) {
            size_t unit = form == ACTIVATION_F32 ? 1 : form == ACTIVATION_Q8 ? 32 : 256;
            size_t k = unit * (1 + random_u64(&random) % 8), at = random_u64(&random) % 2;
            size_t bytes = activation_row_bytes((enum activation_form)form, k);
            fill_input(&random, (enum input)(i % INPUTS), k, x + at);
            if (i >= 200)
                x[at + random_u64(&random) % k] =
                    float_of_bits((uint32_t)random_u64(&random)); /* of any kind */
            unsigned char *expected = mem_pages_alloc(bytes), *row = mem_pages_alloc(bytes);
            assert_true(expected != NULL && row != NULL);
            ref->quantize[form](x + at, k, expected);
            tier->quantize[form](x + at, k, row);
            assert_memory_equal(row, expected, bytes);
            mem_pages_free(expected, bytes);
            mem_pages_free(row, bytes);
        }
    }
}

static void every_tier_quantizes_as_the_reference(void **state)
{
    (void)state;
    for_each_tier(check_quantize);
}

static void check_split(const struct kernels *ref, const struct kernels *tier)
{
    struct random random = random_from_seed(11);
    static float x[ELEMENTS_MAX];
    for (int i = 0; i < 400; i++) {
        struct operands ours = {
            .type = i % 2 ? TYPE_Q8_0 : TYPE_Q6_K, .columns = 1, .outliers = true};
        ours.k = (i % 2 ? 32 : 256) * (1 + random_u64(&random) % 8);
        struct operands theirs = ours;
        size_t bytes = x_bytes_of(&ours);
        ours.x = mem_pages_alloc(bytes);
        theirs.x = mem_pages_alloc(bytes);
        assert_true(ours.x != NULL && theirs.x != NULL);
        fill_input(&random, (enum input)(i / 2 % INPUTS), ours.k, x);
        enlarge(&random, ours.k, x);
        if (i % 5 == 0)
            x[random_u64(&random) % ours.k] = float_of_bits((uint32_t)random_u64(&random));
        float copy[ELEMENTS_MAX];
        memcpy(copy, x, sizeof(copy));
        split_column(ref, &theirs, 0, x);
        split_column(tier, &ours, 0, copy);
        assert_memory_equal(ours.x, theirs.x, bytes);
        assert_memory_equal(ours.marks, theirs.marks, sizeof(ours.marks));
        mem_pages_free(ours.x, bytes);
        mem_pages_free(theirs.x, bytes);
    }
}

static void every_tier_marks_the_same_outliers(void **state)
{
    (void)state;
    for_each_tier(check_split);
}

/* The marks of 256 elements, of which each group's last is the largest. */
static void check_marks(const struct kernels *tier, const float largest[8], size_t run,
                        uint8_t expected[2])
{
    float x[256];
    uint8_t marks[2] = {0, 0};
    for (int i = 0; i < 256; i++)
        x[i] = i % 32 == 31 ? -largest[i / 32] : 0.0f;
    tier->mark_outliers(x, 256, run, marks);
    assert_int_equal(marks[0], expected[0]);
    assert_int_equal(marks[1], run == 256 ? 0 : expected[1]);
}

static void check_standing_out(const struct kernels *ref, const struct kernels *tier)
{
    (void)ref;
    static const float flat[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const float one[8] = {1, 1, 6.5f, 1, 1, 1, 1, 1};
    static const float limit[8] = {1, 1, 6, 3, 1, 1, 1, 5};
    static const float infinite[8] = {1, 100, INFINITY, 1, 100, 1, 1, 1};
    static const float zeros[8] = {0, 0, 0, 1, 0, 0, 0, 0};
    check_marks(tier, flat, 128, (uint8_t[]){0, 0});
    check_marks(tier, flat, 256, (uint8_t[]){0, 0});
    check_marks(tier, one, 128, (uint8_t[]){4, 0});
    check_marks(tier, one, 256, (uint8_t[]){4, 0});
    check_marks(tier, limit, 128, (uint8_t[]){0, 0});
    check_marks(tier, limit, 256, (uint8_t[]){0x84, 0});
    check_marks(tier, infinite, 128, (uint8_t[]){0, 1});
    check_marks(tier, infinite, 256, (uint8_t[]){0, 0});
    check_marks(tier, zeros, 128, (uint8_t[]){8, 0});
    check_marks(tier, zeros, 256, (uint8_t[]){8, 0});
}

static void outliers_are_what_stands_out(void **state)
{
    (void)state;
    for_each_tier(check_standing_out);
}

/* 256 floats in both quantized forms, one behind the other: the first scale and the integers. */
static void quantize_both(const struct kernels *tier, const float x[256], float d[2], int8_t q[512])
{
    _Alignas(64) unsigned char row[8 * sizeof(struct activation_q8) + 64];
    _Alignas(64) unsigned char row_256[sizeof(struct activation_q8_256) + 64];
    tier->quantize[ACTIVATION_Q8](x, 256, row);
    tier->quantize[ACTIVATION_Q8_256](x, 256, row_256);
    const struct activation_q8 *blocks = (const void *)row;
    const struct activation_q8_256 *block = (const void *)row_256;
    d[0] = blocks[0].d;
    d[1] = block->d;
    for (int i = 0; i < 256; i++) {
        q[i] = blocks[i / 32].q[i % 32];
        q[256 + i] = block->q[i];
    }
}

static void check_quantized_values(const struct kernels *ref, const struct kernels *tier)
{
    (void)ref;
    static const float ties[] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -126.5f};
    static const int rounded[] = {127, 0, 2, 2, 0, -2, -2, -126};
    float x[256] = {0}, d[2];
    int8_t q[512];
    quantize_both(tier, x, d, q);
    assert_true(d[0] == 0.0f && d[1] == 0.0f && q[0] == 0 && q[256] == 0);

    memcpy(x, ties, sizeof(ties));
    quantize_both(tier, x, d, q);
    assert_true(d[0] == 1.0f && d[1] == 1.0f);
    for (int i = 0; i < 8; i++)
        assert_true(q[i] == rounded[i] && q[256 + i] == rounded[i]);

    /* Below the smallest scale, and just at it. */
    memset(x, 0, sizeof(x));
    x[1] = nextafterf(-0x1p-121f, 0);
    quantize_both(tier, x, d, q);
    assert_true(d[0] == 0.0f && d[1] == 0.0f && q[1] == 0 && q[257] == 0);
    x[1] = -0x1p-121f;
    quantize_both(tier, x, d, q);
    assert_true(d[0] > 0.0f && d[1] > 0.0f && q[1] == -127 && q[257] == -127);

    static const float bad[] = {INFINITY, -INFINITY, NAN, -NAN};
    for (int i = 0; i < 4; i++) {
        x[1] = bad[i];
        x[2] = 1.0f;
        quantize_both(tier, x, d, q);
        assert_true(isnan(d[0]) && isnan(d[1]) && q[1] == 0 && q[2] == 0 && q[258] == 0);
    }
}

static void activations_are_rounded_to_nearest_even_and_bad_ones_are_marked(void **state)
{
    (void)state;
    for_each_tier(check_quantized_values);
}

/* The error of a quantized product comes from the activations alone: half a step of 1/127 of the
 * largest of a group, per element. */
static void the_reference_is_close_to_exact_products(void **state)
{
    (void)state;
    enum { K = 1024, ROWS = 8 };
    struct kernels ref;
    assert_int_equal(kernels_select("ref", &ref, NULL), 0);
    struct random random = random_from_seed(7);
    static float x[K], w[K], y[ROWS];
    for (int t = 0; t < TYPE_COUNT; t++) {
        struct operands operands = {.type = all_types[t], .k = K, .rows = ROWS, .columns = 1};
        operands_init(&operands, &random, &ref, FILL_RANDOM, INPUT_RANDOM);
        fill_input(&random, INPUT_RANDOM, K, x);
        ref.quantize[activation_form_of(operands.type)](x, K, operands.x);
        struct matmul task = product(&operands, y, ROWS);
        ref.matmul[operands.type](&task);
        double step = activation_form_of(operands.type) == ACTIVATION_F32 ? 0 : 0.5 / 127 / 2;
        for (size_t r = 0; r < ROWS; r++) {
            ref.dequantize[operands.type](operands.weights.data + r * operands.row_bytes, K, w);
            double exact = 0, magnitude = 0;
            for (int i = 0; i < K; i++) {
                exact += (double)w[i] * (double)x[i];
                magnitude += fabs((double)w[i]);
            }
            assert_true(fabs((double)y[r] - exact) <= magnitude * (step + 1e-6));
        }
        operands_finish(&operands);
    }
}

static void a_nan_in_the_input_reaches_every_row(void **state)
{
    (void)state;
    enum { K = 512, ROWS = 5 };
    struct kernels ref;
    assert_int_equal(kernels_select("ref", &ref, NULL), 0);
    struct random random = random_from_seed(8);
    for (int t = 0; t < TYPE_COUNT; t++) {
        struct operands operands = {.type = all_types[t], .k = K, .rows = ROWS, .columns = 1};
        float x[K] = {0}, y[ROWS] = {0};
        operands_init(&operands, &random, &ref, FILL_RANDOM, INPUT_RANDOM);
        x[300] = t % 2 ? NAN : INFINITY;
        ref.quantize[activation_form_of(operands.type)](x, K, operands.x);
        struct matmul task = product(&operands, y, ROWS);
        ref.matmul[operands.type](&task);
        for (int r = 0; r < ROWS; r++)
            assert_true(!isfinite(y[r]));
        operands_finish(&operands);
    }
}

static void tiers_are_selected_by_name(void **state)
{
    (void)state;
    struct kernels kernels;
    struct hearth_error err;
    assert_string_equal(kernels_tier_at(0), "ref");
    assert_int_equal(kernels_select(NULL, &kernels, &err), 0);
    const char *best = kernels.tier;
    assert_int_equal(kernels_select("", &kernels, &err), 0);
    assert_string_equal(kernels.tier, best);
    assert_int_equal(kernels_select("ref", &kernels, &err), 0);
    assert_string_equal(kernels.tier, "ref");
    assert_int_equal(kernels_select("sse9", &kernels, &err), HEARTH_E_ARGUMENT);
    assert_string_equal(kernels.tier, "ref");
    assert_non_null(strstr(err.text, "sse9"));
}

#ifdef HEARTH_TEST_AVXVNNI_EVEX
static void a_tier_that_the_machine_lacks_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"avx2", "avxvnni", "avx512"};
    for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
        struct kernels kernels;
        struct hearth_error err;
        bool has = false;
        const char *tier;
        for (size_t i = 0; (tier = kernels_tier_at(i)) != NULL; i++)
            has = has || strcmp(tier, names[n]) == 0;
        int result = kernels_select(names[n], &kernels, &err);
        assert_int_equal(result, has ? 0 : HEARTH_E_UNSUPPORTED);
        assert_non_null(strstr(has ? kernels.tier : err.text, names[n]));
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tier_quantizes_as_the_reference),
        cmocka_unit_test(activations_are_rounded_to_nearest_even_and_bad_ones_are_marked),
        cmocka_unit_test(every_tier_equals_the_reference_in_all_sizes),
        cmocka_unit_test(every_tier_equals_the_reference_at_the_extremes),
        cmocka_unit_test(every_tier_equals_the_reference_with_many_columns),
        cmocka_unit_test(every_tier_equals_the_reference_with_outliers),
        cmocka_unit_test(every_tier_equals_the_reference_with_tiles_of_columns),
        cmocka_unit_test(every_tier_equals_the_reference_in_long_ranges),
        cmocka_unit_test(every_tier_marks_the_same_outliers),
        cmocka_unit_test(outliers_are_what_stands_out),
        cmocka_unit_test(large_products_equal_their_parts),
        cmocka_unit_test(the_reference_is_close_to_exact_products),
        cmocka_unit_test(a_nan_in_the_input_reaches_every_row),
        cmocka_unit_test(tiers_are_selected_by_name),
#ifdef HEARTH_TEST_AVXVNNI_EVEX
        cmocka_unit_test(a_tier_that_the_machine_lacks_is_refused_by_name),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
