/* Damaged and hostile model files: whatever is in them, opening and running either works or ends
 * with one sentence, in bounded time and memory. The reader's own tests are in tests/gguf; here the
 * keys and tensors of whole tiny models are bent one by one. */

#define _GNU_SOURCE /* memfd_create */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"
#include "hearth/hearth.h"

static const char *const models[] = {"llama", "llama-yarn", "qwen2", "gemma3"};

#define MODELS (sizeof models / sizeof models[0])

/* A tiny model in memory, with a view of where its keys stand. */
struct material {
    struct gguf *gguf;
    struct text bytes;
    char *copy; /* the bytes, to be bent */
};

static void load(const char *name, struct material *material)
{
    char path[512];
    struct hearth_error err;
    snprintf(path, sizeof path, "%s/logits/%s.gguf", HEARTH_GOLDEN_DIR, name);
    if (gguf_open(path, &material->gguf, &err))
        fail_msg("%s", err.text);
    material->bytes = gguf_part_bytes(material->gguf, 0);
    material->copy = malloc(material->bytes.size);
    memcpy(material->copy, material->bytes.data, material->bytes.size);
}

static void restore(struct material *material)
{
    memcpy(material->copy, material->bytes.data, material->bytes.size);
}

static void unload(struct material *material)
{
    gguf_close(material->gguf);
    free(material->copy);
}

/* Where a byte of the mapped file stands in the copy. */
static char *place(const struct material *material, const void *mapped)
{
    return material->copy + ((const char *)mapped - material->bytes.data);
}

static bool no_text(const struct hearth_error *err)
{
    return err->text[0] == '\0' || strchr(err->text, '\n');
}

/* A few tokens; a bent model may compute nonsense, but not crash. */
static void run_a_little(struct hearth_model *model)
{
    struct hearth_engine_options options = {.threads = 1, .chunk_tokens = 8};
    struct hearth_error err = {0};
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    const uint32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    if (hearth_engine_open(model, &options, &engine, &err)) {
        assert_false(no_text(&err));
        return;
    }
    if (hearth_sequence_open(engine, 0, &sequence, &err) == 0) {
        int status = hearth_sequence_extend(sequence, ids, sizeof ids / sizeof ids[0],
                                            HEARTH_LOGITS_LAST, &err);
        while (!status && hearth_sequence_pending(sequence))
            status = hearth_engine_step(engine, NULL, &err);
        if (status)
            assert_false(no_text(&err));
        hearth_sequence_close(sequence);
    }
    hearth_engine_close(engine);
}

/* Opens the copy's first `size` bytes and runs what opens; returns the status of opening. */
static int try_copy(const struct material *material, size_t size)
{
    struct hearth_error err = {0};
    struct hearth_model *model;
    int fd = memfd_create("model", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, material->copy, size), size);
    int status = hearth_model_open_fds(&fd, 1, NULL, &model, &err);
    close(fd);
    if (status) {
        assert_int_equal(err.code, status);
        assert_false(no_text(&err));
        return status;
    }
    run_a_little(model);
    hearth_model_close(model);
    return 0;
}

static const struct gguf_tensor *last_tensor(const struct material *material)
{
    const struct gguf_tensor *last = gguf_tensor_at(material->gguf, 0);
    for (size_t i = 1; i < gguf_tensor_count(material->gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(material->gguf, i);
        last = tensor->file_offset > last->file_offset ? tensor : last;
    }
    return last;
}

static void the_tiny_models_themselves_open(void **state)
{
    (void)state;
    for (size_t m = 0; m < MODELS; m++) {
        struct material material;
        load(models[m], &material);
        assert_int_equal(try_copy(&material, material.bytes.size), 0);
        unload(&material);
    }
}

static void a_model_cut_off_anywhere_is_refused(void **state)
{
    (void)state;
    struct material material;
    load("gemma3", &material);
    size_t first_data = material.bytes.size;
    for (size_t i = 0; i < gguf_tensor_count(material.gguf); i++) {
        const struct gguf_tensor *tensor = gguf_tensor_at(material.gguf, i);
        size_t offset = (size_t)((const char *)tensor->data - material.bytes.data);
        first_data = offset < first_data ? offset : first_data;
        for (size_t cut = offset; cut <= offset + 1; cut++)
            assert_int_not_equal(try_copy(&material, cut), 0);
        assert_int_not_equal(try_copy(&material, offset + (size_t)tensor->size - 1), 0);
    }
    for (size_t cut = 0; cut < first_data; cut++)
        assert_int_not_equal(try_copy(&material, cut), 0);
    const struct gguf_tensor *last = last_tensor(&material);
    size_t end = (size_t)((const char *)last->data - material.bytes.data) + (size_t)last->size;
    assert_int_equal(try_copy(&material, end), 0);
    unload(&material);
}

/* Calls `bend` for each key of each model; it tries what it makes and leaves the copy bent. */
static void for_each_key(void (*bend)(struct material *material, const struct gguf_key *key))
{
    for (size_t m = 0; m < MODELS; m++) {
        struct material material;
        load(models[m], &material);
        for (size_t i = 0; i < gguf_key_count(material.gguf); i++) {
            bend(&material, gguf_key_at(material.gguf, i));
            restore(&material);
        }
        unload(&material);
    }
}

static void rename_key(struct material *material, const struct gguf_key *key)
{
    place(material, key->name.data)[key->name.size - 1] ^= 1;
    try_copy(material, material->bytes.size);
}

static void a_missing_key_is_named_or_not_needed(void **state)
{
    (void)state;
    for_each_key(rename_key);
}

static void retype_key(struct material *material, const struct gguf_key *key)
{
    const char *type_place = key->name.data + key->name.size;
    for (uint32_t type = 0; type <= 13; type++) {
        restore(material);
        memcpy(place(material, type_place), &type, sizeof type);
        try_copy(material, material->bytes.size);
        if (key->type != GGUF_ARRAY)
            continue;
        restore(material);
        memcpy(place(material, type_place + 4), &type, sizeof type);
        try_copy(material, material->bytes.size);
    }
}

static void a_key_of_another_type_is_refused_or_harmless(void **state)
{
    (void)state;
    for_each_key(retype_key);
}

/* Numbers that no sane file holds, as 32-bit patterns: integers and floats. */
static const uint32_t absurd[] = {
    0,          1,          2,          3,          255,        0x7fffffff,
    0x80000000, 0xffffffff, 0x00010000, 0x01000001, 0x7fc00000, /* NaN */
    0x7f800000, 0xff800000,                                     /* infinities */
    0xbf800000,                                                 /* -1.0 */
    0x7f7fffff, 0x00000001, 0x3f800000,                         /* the largest, the smallest, 1.0 */
};

static void renumber_key(struct material *material, const struct gguf_key *key)
{
    size_t elements = key->type == GGUF_ARRAY ? 3 : 1;
    bool numbers = key->element != GGUF_STRING && key->element != GGUF_ARRAY;
    if (!numbers || (key->type == GGUF_ARRAY && key->size < 12))
        return;
    for (size_t a = 0; a < sizeof absurd / sizeof absurd[0]; a++) {
        size_t size = key->size < 4 ? (size_t)key->size : 4;
        restore(material);
        for (size_t e = 0; e < elements; e++)
            memcpy(place(material, key->data + 4 * e), &absurd[a], size);
        try_copy(material, material->bytes.size);
    }
}

static void an_absurd_number_is_refused_or_harmless(void **state)
{
    (void)state;
    for_each_key(renumber_key);
}

static void a_bent_byte_in_names_and_texts_is_refused_or_harmless(void **state)
{
    (void)state;
    struct material material;
    load("qwen2", &material);
    size_t end =
        (size_t)((const char *)gguf_tensor_at(material.gguf, 0)->data - material.bytes.data);
    for (size_t at = 0; at < end; at++) {
        static const unsigned char flips[] = {0x01, 0x80, 0xff};
        material.copy[at] = (char)(material.bytes.data[at] ^ flips[at % sizeof flips]);
        try_copy(&material, material.bytes.size);
        material.copy[at] = material.bytes.data[at];
    }
    unload(&material);
}

static void weights_that_are_no_numbers_end_in_an_error_of_the_request(void **state)
{
    (void)state;
    struct material material;
    load("llama", &material);
    const struct gguf_tensor *norm = gguf_find_tensor(material.gguf, "output_norm.weight");
    float nan = strtof("nan", NULL);
    memcpy(place(&material, norm->data), &nan, sizeof nan);

    int fd = memfd_create("model", MFD_CLOEXEC);
    assert_int_equal(write(fd, material.copy, material.bytes.size), material.bytes.size);
    struct hearth_model *model;
    struct hearth_engine *engine;
    struct hearth_sequence *sequence;
    struct hearth_sampler *sampler;
    struct hearth_sampling sampling;
    struct hearth_error err;
    const uint32_t prompt[] = {1, 2, 3};
    uint32_t id;
    hearth_sampling_default(&sampling);
    assert_int_equal(hearth_model_open_fds(&fd, 1, NULL, &model, NULL), 0);
    close(fd);
    assert_int_equal(hearth_engine_open(model, NULL, &engine, NULL), 0);
    assert_int_equal(hearth_sequence_open(engine, 0, &sequence, NULL), 0);
    assert_int_equal(hearth_sampler_open(model, &sampling, &sampler, NULL), 0);
    assert_int_equal(hearth_sequence_extend(sequence, prompt, 3, HEARTH_LOGITS_LAST, NULL), 0);
    assert_int_equal(hearth_engine_step(engine, NULL, NULL), 0);
    assert_int_equal(hearth_sampler_sample(sampler, hearth_sequence_logits(sequence, 0), &id, &err),
                     HEARTH_E_NUMERIC);
    assert_false(no_text(&err));
    hearth_sampler_close(sampler);
    hearth_sequence_close(sequence);
    hearth_engine_close(engine);
    hearth_model_close(model);
    unload(&material);
}

static void an_unknown_architecture_is_named_with_those_that_work(void **state)
{
    (void)state;
    struct material material;
    load("llama", &material);
    const struct gguf_key *key = gguf_find(material.gguf, "general.architecture");
    memcpy(place(&material, key->data), "alpac", 5);
    int fd = memfd_create("model", MFD_CLOEXEC);
    assert_int_equal(write(fd, material.copy, material.bytes.size), material.bytes.size);
    struct hearth_model *model;
    struct hearth_error err;
    assert_int_equal(hearth_model_open_fds(&fd, 1, NULL, &model, &err), HEARTH_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "alpac"));
    assert_non_null(strstr(err.text, "qwen3"));
    close(fd);
    unload(&material);
}

/* The number of the last tensor's type stands behind its name and dimensions. */
static void retype_tensor(struct material *material, const struct gguf_tensor *tensor,
                          uint32_t type)
{
    const char *place_of_type =
        tensor->name.data + tensor->name.size + 4 + (size_t)tensor->n_dims * 8;
    memcpy(place(material, place_of_type), &type, sizeof type);
}

static void refuse_tensor(struct material *material, const char *name, uint32_t type,
                          const char *sentence)
{
    struct hearth_model *model;
    struct hearth_error err;
    restore(material);
    retype_tensor(material, gguf_find_tensor(material->gguf, name), type);
    int fd = memfd_create("model", MFD_CLOEXEC);
    assert_int_equal(write(fd, material->copy, material->bytes.size), material->bytes.size);
    assert_int_equal(hearth_model_open_fds(&fd, 1, NULL, &model, &err), HEARTH_E_UNSUPPORTED);
    if (!strstr(err.text, sentence))
        fail_msg("%s", err.text);
    close(fd);
}

static void a_type_that_does_not_work_is_named_with_those_that_do(void **state)
{
    (void)state;
    struct material material;
    load("llama", &material);
    refuse_tensor(&material, "blk.0.attn_q.weight", 26 /* I32 */,
                  "tensor blk.0.attn_q.weight has type I32, which is not supported; these are: F32 "
                  "F16 Q4_0 Q4_1");
    refuse_tensor(&material, "output_norm.weight", 26,
                  "tensor output_norm.weight has type I32, only F32 is supported there");
    unload(&material);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tiny_models_themselves_open),
        cmocka_unit_test(a_model_cut_off_anywhere_is_refused),
        cmocka_unit_test(a_missing_key_is_named_or_not_needed),
        cmocka_unit_test(a_key_of_another_type_is_refused_or_harmless),
        cmocka_unit_test(an_absurd_number_is_refused_or_harmless),
        cmocka_unit_test(a_bent_byte_in_names_and_texts_is_refused_or_harmless),
        cmocka_unit_test(weights_that_are_no_numbers_end_in_an_error_of_the_request),
        cmocka_unit_test(an_unknown_architecture_is_named_with_those_that_work),
        cmocka_unit_test(a_type_that_does_not_work_is_named_with_those_that_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
