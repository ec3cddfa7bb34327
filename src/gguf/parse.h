/* Inside the room: from the bytes of one file to its keys and tensors.
 *
 * All bytes of a file go through `struct gguf_reader`, which knows what is left and never passes
 * it. A table is allocated only after its count was held against the bytes that are left and
 * against a budget, so that a short file cannot ask for much memory. */
#ifndef GGUF_PARSE_H
#define GGUF_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/text.h"
#include "gguf/gguf.h"

/* What the table of keys, and that of tensors, may take together with its index. */
#define GGUF_TABLE_BYTES_MAX ((size_t)32 << 20)

#define GGUF_KEY_NAME_MAX 65535
#define GGUF_TENSOR_NAME_MAX 64
#define GGUF_ALIGNMENT_DEFAULT 32
#define GGUF_ALIGNMENT_MIN 8 /* the specification's; what 8-byte elements need in place */
#define GGUF_ALIGNMENT_MAX (1u << 21)

struct gguf_reader {
    const unsigned char *data;
    uint64_t size, at; /* at <= size */
};

struct gguf_header {
    uint32_t version;
    uint64_t tensor_count, key_count;
};

/* Names in order, to find one by bisection: a hash table could be flooded by a file that is made
 * for it. Each pointer is to the `name` at the beginning of a gguf_key or a gguf_tensor. */
struct gguf_index {
    const struct text **names;
    size_t count;
};

struct gguf_key_table {
    struct gguf_key *keys;
    size_t count;
    struct gguf_index index;
};

/* Where the tensors of a part lie. */
struct gguf_place {
    uint32_t part, alignment;
};

int gguf_parse_header(struct gguf_reader *in, struct gguf_header *header, struct hearth_error *err);

/* Fills `table`, which gguf_key_table_finish frees. */
int gguf_parse_keys(struct gguf_reader *in, uint64_t count, struct gguf_key_table *table,
                    struct hearth_error *err);
void gguf_key_table_finish(struct gguf_key_table *table);
const struct gguf_key *gguf_key_table_find(const struct gguf_key_table *table, const char *name);

/* Whether a part with so many tensors can have them in the bytes that `in` has left. */
int gguf_check_tensor_count(const struct gguf_reader *in, uint64_t count, struct hearth_error *err);

/* Fills `count` tensors; `in` stands behind the keys. Proves that each lies in the file. */
int gguf_parse_tensors(struct gguf_reader *in, struct gguf_place place, size_t count,
                       struct gguf_tensor *tensors, struct hearth_error *err);

/* Builds the index over `count` things of `stride` bytes that begin with their name. Returns
 * HEARTH_E_FORMAT and the later one in *twice where two have the same name; the caller, who knows
 * what they are, then puts it into words. */
int gguf_index_build(struct gguf_index *index, const void *things, size_t count, size_t stride,
                     const struct text **twice, struct hearth_error *err);
void gguf_index_finish(struct gguf_index *index);
/* The thing with that name, or NULL. */
const void *gguf_index_find(const struct gguf_index *index, const char *name);

/* Bytes of one value of a type; 0 for strings and arrays, whose size varies, and for no type. */
uint64_t gguf_value_bytes(uint32_t type);

/* gguf_get_u64 for a key that was looked up in any table: NULL means that it is missing. */
int gguf_key_u64(const struct gguf_key *key, const char *name, uint64_t min, uint64_t max,
                 uint64_t *value, struct hearth_error *err);

#endif
