/* Weights brought into memory in the background. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"
#include "model/loader.h"
#include "support/gguf_writer.h"

#define SECOND_NS 1000000000u
#define ROWS 3000 /* tensors of several pieces each */

struct file {
    char path[TEST_PATH_MAX];
    struct gguf *gguf;
};

/* Three layers in no particular order, and names that are almost layers'. */
static int file_init(void **state)
{
    static const char *const names[] = {
        "output.weight",
        "blk.2.attn_q.weight",
        "blk.0.attn_q.weight",
        "token_embd.weight",
        "blk.1.ffn_up.weight",
        "blk.1.attn_q.weight",
        "blk.3.x",
        "blk.99999999999999",
        "blk.",
        "blk.x",
    };
    const uint64_t shape[] = {256, ROWS};
    struct file *file = calloc(1, sizeof *file);
    struct gguf_writer writer;
    gguf_writer_init(&writer);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        gguf_writer_tensor(&writer, names[i], TYPE_F32, 2, shape, NULL);
    test_temp_file(file->path);
    test_write_file(file->path, gguf_writer_bytes(&writer));
    gguf_writer_finish(&writer);
    *state = file;
    return gguf_open(file->path, &file->gguf, NULL);
}

static int file_finish(void **state)
{
    struct file *file = *state;
    gguf_close(file->gguf);
    remove(file->path);
    free(file);
    return 0;
}

static bool note(void *context, double fraction)
{
    *(double *)context = fraction;
    return fraction < 0.5;
}

static void every_stage_comes_and_progress_ends_at_one(void **state)
{
    struct file *file = *state;
    double fraction = -1.0;
    struct loader_progress progress = {note, &fraction};
    struct loader *loader = loader_start(file->gguf, 3, &progress);
    assert_non_null(loader);
    loader_report(loader);
    assert_true(fraction >= 0.0 && fraction <= 1.0);
    for (uint32_t stage = 0; stage <= 3; stage++) {
        while (!loader_wait(loader, stage, SECOND_NS))
            ;
    }
    assert_false(loader_report(loader)); /* what the function said */
    assert_true(fraction == 1.0);
    assert_true(loader_wait(loader, 0, 0));
    loader_stop(loader);
}

static void it_stops_wherever_it_is(void **state)
{
    struct file *file = *state;
    for (int i = 0; i < 100; i++) {
        struct loader *loader = loader_start(file->gguf, 3, NULL);
        assert_non_null(loader);
        if (i % 2)
            loader_wait(loader, (uint32_t)i % 4, 1000);
        assert_true(loader_report(loader));
        loader_stop(loader);
    }
    loader_stop(NULL);
}

static void a_file_cut_short_does_not_leave_anybody_waiting(void **state)
{
    struct file *file = *state;
    assert_int_equal(truncate(file->path, 4096), 0);
    struct loader *loader = loader_start(file->gguf, 3, NULL);
    assert_non_null(loader);
    while (!loader_wait(loader, 3, SECOND_NS))
        ;
    loader_stop(loader);
}

static void without_a_loader_nothing_is_waited_for(void **state)
{
    (void)state;
    assert_true(loader_wait(NULL, 7, SECOND_NS));
    assert_true(loader_report(NULL));
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, file_init, file_finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(every_stage_comes_and_progress_ends_at_one),
        WITH_FILE(it_stops_wherever_it_is),
        WITH_FILE(a_file_cut_short_does_not_leave_anybody_waiting),
        cmocka_unit_test(without_a_loader_nothing_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
