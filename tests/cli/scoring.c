/* The figures of hearth perplexity, against values that can be worked out by hand. */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/logits_file.h"
#include "cli/scoring.h"

#define VOCABULARY 5u /* odd: a row in the file has a number more */

static bool near(double a, double b, double tolerance)
{
    return fabs(a - b) <= tolerance;
}

static void surprise_is_the_negative_log_probability(void **state)
{
    (void)state;
    const float logits[VOCABULARY] = {0, (float)log(2), (float)log(4), (float)log(8), 0};
    struct row_score row;
    assert_int_equal(row_score(logits, VOCABULARY, &row, NULL), 0);
    assert_int_equal(row.best, 3);
    assert_true(near(row_surprise(&row, 3), log(2), 1e-6)); /* 8 of 16 */
    assert_true(near(row_surprise(&row, 0), log(16), 1e-6));
}

static void rows_that_are_no_numbers_are_an_error(void **state)
{
    (void)state;
    const float bad[][VOCABULARY] = {
        {0, NAN, 0, 0, 0},
        {NAN, 0, 0, 0, 0},
        {0, INFINITY, 0, 0, 0},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct row_score row;
        assert_int_equal(row_score(bad[i], VOCABULARY, &row, NULL), HEARTH_E_NUMERIC);
    }
}

static void estimates_have_standard_errors(void **state)
{
    (void)state;
    struct sums sums = {0};
    for (int i = 1; i <= 4; i++)
        sums_add(&sums, i);
    struct estimate estimate = sums_estimate(&sums);
    assert_true(near(estimate.mean, 2.5, 1e-12));
    assert_true(near(estimate.error, sqrt(1.25 / 3), 1e-12));
    assert_true(near(perplexity_estimate(&sums).mean, exp(2.5), 1e-9));
}

static void quantiles_interpolate(void **state)
{
    (void)state;
    float values[] = {4, 1, 3, 2};
    sort_values(values, 4);
    assert_true(near(quantile(values, 4, 0.0), 1, 1e-12));
    assert_true(near(quantile(values, 4, 0.5), 2.5, 1e-12));
    assert_true(near(quantile(values, 4, 1.0), 4, 1e-12));
}

/* One chunk of four tokens, of which the third is scored. */
static void write_file(const char *path, const float *logits)
{
    const uint32_t tokens[] = {0, 1, 2, 3};
    struct logits_file header = {.chunk_tokens = 4, .vocabulary = VOCABULARY, .chunks = 1};
    struct logits_writer writer;
    struct row_score row;
    assert_int_equal(scored_rows(4), 1);
    assert_int_equal(row_score(logits, VOCABULARY, &row, NULL), 0);
    assert_int_equal(logits_writer_open(&writer, path, &header, tokens, NULL), 0);
    assert_int_equal(logits_writer_add(&writer, &row, NULL), 0);
    assert_int_equal(logits_writer_close(&writer, NULL), 0);
}

static void saved_logits_come_back(void **state)
{
    (void)state;
    const char *path = "test_cli_scoring.logits";
    const float logits[VOCABULARY] = {1.0f, -2.0f, 3.5f, 0.25f, -40.0f};
    struct logits_file file;
    struct hearth_error err;
    struct row_score row;
    write_file(path, logits);
    assert_int_equal(logits_file_open(&file, path, VOCABULARY, &err), 0);
    assert_int_equal(logits_file_token(&file, 3), 3);
    assert_int_equal(row_score(logits, VOCABULARY, &row, NULL), 0);
    struct base_row base = logits_file_row(&file, 0, 0);
    for (uint32_t i = 0; i < VOCABULARY; i++) {
        double saved = (double)base.scale * logits_file_level(base.levels, i) + (double)base.lowest;
        double least = -row_surprise(&row, 2) - 16.0; /* lower ones are cut off */
        double true_value = fmax(-row_surprise(&row, i), least);
        assert_true(near(saved, true_value, 16.0 / 65535.0));
    }
    float value;
    struct divergence divergence = {.values = &value};
    assert_int_equal(divergence_add(&divergence, &row, &base, 3, &err), 0);
    assert_true(near(divergence.kl.sum, 0.0, 1e-4));
    assert_int_equal(divergence.same_best, 1);
    logits_file_close(&file);
    assert_int_equal(logits_file_open(&file, path, VOCABULARY + 1, &err), HEARTH_E_FORMAT);
    remove(path);
}

static void divergence_is_the_textbook_sum(void **state)
{
    (void)state;
    /* p of the base: 1/2 1/4 1/8 1/16 1/16; q of the model: uniform */
    const double p[VOCABULARY] = {0.5, 0.25, 0.125, 0.0625, 0.0625};
    const char *path = "test_cli_divergence.logits";
    float base_logits[VOCABULARY], value;
    const float logits[VOCABULARY] = {0};
    double expected = 0;
    for (int i = 0; i < (int)VOCABULARY; i++) {
        base_logits[i] = (float)log(p[i]);
        expected += p[i] * log(p[i] * VOCABULARY);
    }
    struct logits_file file;
    struct row_score row;
    struct divergence divergence = {.values = &value};
    write_file(path, base_logits);
    assert_int_equal(logits_file_open(&file, path, VOCABULARY, NULL), 0);
    assert_int_equal(row_score(logits, VOCABULARY, &row, NULL), 0);
    struct base_row base = logits_file_row(&file, 0, 0);
    assert_int_equal(divergence_add(&divergence, &row, &base, 1, NULL), 0);
    assert_true(near(divergence.kl.sum, expected, 1e-4));
    assert_true(near(divergence.base.sum, log(4), 1e-4));
    assert_true(near(divergence.model.sum, log(5), 1e-6));
    logits_file_close(&file);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(surprise_is_the_negative_log_probability),
        cmocka_unit_test(rows_that_are_no_numbers_are_an_error),
        cmocka_unit_test(estimates_have_standard_errors),
        cmocka_unit_test(quantiles_interpolate),
        cmocka_unit_test(saved_logits_come_back),
        cmocka_unit_test(divergence_is_the_textbook_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
