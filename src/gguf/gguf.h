/* A GGUF file, or the parts of a split one, as a bounds-checked view of keys and tensors.
 *
 * The files are mapped read-only and used in place: everything that is handed out points into the
 * mapping and lives until gguf_close. Opening proves that every key and every tensor lies inside
 * its file, so that readers of the view need no checks of their own beyond the typed getters.
 * No policy is here: what a key means is for the model. All calls on an open view may be made from
 * several threads at once.
 *
 * Format: GGUF versions 2 and 3, little-endian (the specification is ggml's docs/gguf.md). */
#ifndef GGUF_GGUF_H
#define GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "gguf/types.h"

#define GGUF_DIMS_MAX 4
#define GGUF_PARTS_MAX 1024

enum gguf_value_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7,
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
};

struct gguf;

/* One key. For an array, `type` is GGUF_ARRAY and `element`, `count` describe it; `data` points to
 * the first value's bytes (unaligned, little-endian), `size` bytes in all. For any other type,
 * `element` equals `type`, `count` is 1, and a string's `data` and `size` are its characters. */
struct gguf_key {
    struct text name;
    enum gguf_value_type type, element;
    uint64_t count;
    const unsigned char *data;
    uint64_t size;
};

/* One tensor. ne[0] is the row's length, the dimension that lies contiguous; unused ones are 1. */
struct gguf_tensor {
    struct text name;
    uint32_t type; /* an enum tensor_type, or a type known by size only */
    uint32_t n_dims;
    uint64_t ne[GGUF_DIMS_MAX];
    uint64_t row_bytes, size; /* bytes of one row, of the whole */
    const void *data;
    uint64_t file_offset; /* in its part */
    uint32_t part;
};

/* Opens `path`. Where its name ends in -NNNNN-of-MMMMM.gguf and the file says that it is split, the
 * other parts are opened beside it; any part may be named. An error begins with the path of the
 * part it is about. HEARTH_E_IO, _MISSING (no such file), _FORMAT, _UNSUPPORTED (a version, a
 * big-endian file, a tensor's type), _LIMIT, _MEMORY. */
int gguf_open(const char *path, struct gguf **out, struct hearth_error *err);

/* The same from open descriptors, the parts in order; they are not consumed and may be closed
 * afterwards. Where there are several, an error begins with "part N of M". */
int gguf_open_fds(const int *fds, size_t count, struct gguf **out, struct hearth_error *err);

/* The same from bytes that are already in memory and must live as long as the view. A tensor is
 * aligned as the file says only if the bytes are. */
int gguf_open_memory(const struct text *parts, size_t count, struct gguf **out,
                     struct hearth_error *err);

/* How the bytes of a file get into memory; zeroed: mapped, and read when they are first touched. */
struct gguf_options {
    bool copy; /* read the files into private memory; the view does without them from then on */
    bool lock; /* keep in memory what was touched; HEARTH_E_LIMIT where the system does not allow it
                */
    /* Called while files are copied, with the fraction of all that has been read; false cancels. */
    bool (*progress)(void *context, double fraction);
    void *progress_context;
};
int gguf_open_with(const char *path, const struct gguf_options *options, struct gguf **out,
                   struct hearth_error *err);
int gguf_open_fds_with(const int *fds, size_t count, const struct gguf_options *options,
                       struct gguf **out, struct hearth_error *err);

void gguf_close(struct gguf *gguf); /* NULL is fine */

uint32_t gguf_version(const struct gguf *gguf);
size_t gguf_part_count(const struct gguf *gguf);
uint64_t gguf_file_size(const struct gguf *gguf); /* bytes of all parts */
/* The mapping of one part, to advise the system about it. */
struct text gguf_part_bytes(const struct gguf *gguf, size_t part);

/* Lets the system take the pages of mapped parts; they come back when they are touched. */
void gguf_rest(const struct gguf *gguf);

size_t gguf_key_count(const struct gguf *gguf);
const struct gguf_key *gguf_key_at(const struct gguf *gguf, size_t index);
const struct gguf_key *gguf_find(const struct gguf *gguf, const char *name); /* NULL if absent */

size_t gguf_tensor_count(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *gguf, size_t index);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *gguf, const char *name);

/* Elements of a tensor; opening has proven that the product fits. */
static inline uint64_t gguf_tensor_elements(const struct gguf_tensor *tensor)
{
    return tensor->ne[0] * tensor->ne[1] * tensor->ne[2] * tensor->ne[3];
}

/* Typed getters. HEARTH_E_MISSING where the key is absent, HEARTH_E_FORMAT where its type is
 * another or its value lies outside [min, max]; both name the key and, for a range, its bounds.
 * Any integer type serves where the value fits; gguf_get_f32 takes F32 and F64 and never gives a
 * NaN or an infinity. */
int gguf_get_u64(const struct gguf *gguf, const char *name, uint64_t min, uint64_t max,
                 uint64_t *value, struct hearth_error *err);
int gguf_get_u32(const struct gguf *gguf, const char *name, uint32_t min, uint32_t max,
                 uint32_t *value, struct hearth_error *err);
int gguf_get_f32(const struct gguf *gguf, const char *name, float min, float max, float *value,
                 struct hearth_error *err);
int gguf_get_bool(const struct gguf *gguf, const char *name, bool *value, struct hearth_error *err);
int gguf_get_text(const struct gguf *gguf, const char *name, struct text *value,
                  struct hearth_error *err);
/* An array with elements of exactly that type. */
int gguf_get_array(const struct gguf *gguf, const char *name, enum gguf_value_type element,
                   const struct gguf_key **array, struct hearth_error *err);

/* The scalar elements of an array; `index` must be below count. */
uint32_t gguf_array_u32(const struct gguf_key *array, uint64_t index); /* element U32 or I32 */
float gguf_array_f32(const struct gguf_key *array, uint64_t index);    /* element F32 */
bool gguf_array_bool(const struct gguf_key *array, uint64_t index);    /* element BOOL */

/* Strings have different lengths and are read in order: start with *cursor = 0; false at the end.
 */
bool gguf_array_next_text(const struct gguf_key *array, uint64_t *cursor, struct text *value);

#endif
