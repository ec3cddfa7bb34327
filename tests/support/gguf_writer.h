/* Writes GGUF files in memory for tests, right ones and deliberately wrong ones.
 *
 * Keys and tensors are added in the order of the file; gguf_writer_bytes puts the whole together.
 * Whatever a file says of itself (version, counts, a tensor's shape, its offset) can be changed
 * before that, and the writer notes where each number stands so that a test can overwrite it. Out
 * of memory or misused it aborts: a test needs no error path for its own material. */
#ifndef TESTS_GGUF_WRITER_H
#define TESTS_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"
#include "gguf/gguf.h"

/* A tensor as the file shall describe it; its data is in the writer already. */
struct gguf_writer_tensor {
    struct text name; /* the caller's */
    uint32_t type, n_dims;
    uint64_t ne[8]; /* the first n_dims are written; above 8 no more */
    uint64_t offset, size;
};

/* A number in the bytes that were made: `width` bytes, little-endian. */
struct gguf_writer_field {
    const char *what;
    size_t at;
    unsigned width;
};

struct gguf_writer {
    char magic[4];
    uint32_t version;
    uint32_t alignment;               /* of the data; general.alignment is a key like any other */
    uint64_t key_count, tensor_count; /* as the header shall say */
    struct gguf_writer_tensor *tensors;
    size_t tensors_held;
    struct gguf_writer_field *fields;
    size_t field_count;
    struct buffer keys, data, out;
};

/* Version 3, alignment 32, nothing in it. */
void gguf_writer_init(struct gguf_writer *writer);
void gguf_writer_finish(struct gguf_writer *writer);

void gguf_writer_u32(struct gguf_writer *writer, const char *name, uint32_t value);
void gguf_writer_i32(struct gguf_writer *writer, const char *name, int32_t value);
void gguf_writer_u64(struct gguf_writer *writer, const char *name, uint64_t value);
void gguf_writer_f32(struct gguf_writer *writer, const char *name, float value);
void gguf_writer_bool(struct gguf_writer *writer, const char *name, bool value);
void gguf_writer_string(struct gguf_writer *writer, const char *name, const char *value);
void gguf_writer_text(struct gguf_writer *writer, const char *name, struct text value);

/* A value of any scalar type, from memory that holds it as the host does. */
void gguf_writer_scalar(struct gguf_writer *writer, const char *name, enum gguf_value_type type,
                        const void *value);
/* An array of scalars, and two of strings. */
void gguf_writer_array(struct gguf_writer *writer, const char *name, enum gguf_value_type element,
                       const void *values, size_t count);
void gguf_writer_strings(struct gguf_writer *writer, const char *name, const char *const *values,
                         size_t count);
void gguf_writer_texts(struct gguf_writer *writer, const char *name, const struct text *values,
                       size_t count);
/* Any name, type number and bytes. */
void gguf_writer_raw(struct gguf_writer *writer, struct text name, uint32_t type, const void *value,
                     size_t size);

/* Adds a tensor and its data, zeros where `data` is NULL. The type must be a known one. The result
 * may be changed and is valid until the next call. */
struct gguf_writer_tensor *gguf_writer_tensor(struct gguf_writer *writer, const char *name,
                                              uint32_t type, uint32_t n_dims, const uint64_t *ne,
                                              const void *data);

/* The file, in memory of the writer; `fields` are then complete. To be called once. */
struct text gguf_writer_bytes(struct gguf_writer *writer);

/* ---- files ---- */

#define TEST_PATH_MAX 1024

/* Makes a file of its own, empty, in $TMPDIR (or /tmp) whose path can be the beginning of other
 * names. The caller removes it. */
void test_temp_file(char path[TEST_PATH_MAX]);
void test_write_file(const char *path, struct text bytes);

#endif
