#include "gguf/parse.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"

/* The shortest key: length and one byte of name, type, one byte of value. */
#define KEY_BYTES_MIN (8 + 1 + 4 + 1)
/* The shortest tensor: length and one byte of name, n_dims, one dimension, type, offset. */
#define TENSOR_BYTES_MIN (8 + 1 + 4 + 8 + 4 + 8)

/* ---- the reader ---- */

static uint64_t bytes_left(const struct gguf_reader *in)
{
    return in->size - in->at;
}

static bool read_bytes(struct gguf_reader *in, uint64_t size, const unsigned char **bytes)
{
    if (size > bytes_left(in))
        return false;
    *bytes = in->data + in->at;
    in->at += size;
    return true;
}

/* The two below take the host to be little-endian, as the kernels do with the tensors. */
static bool read_u32(struct gguf_reader *in, uint32_t *value)
{
    const unsigned char *bytes;
    if (!read_bytes(in, sizeof *value, &bytes))
        return false;
    memcpy(value, bytes, sizeof *value);
    return true;
}

static bool read_u64(struct gguf_reader *in, uint64_t *value)
{
    const unsigned char *bytes;
    if (!read_bytes(in, sizeof *value, &bytes))
        return false;
    memcpy(value, bytes, sizeof *value);
    return true;
}

/* ---- the header ---- */

static int check_version(uint32_t version, struct hearth_error *err)
{
    if (version == 2 || version == 3)
        return 0;
    /* Big-endian files have the same magic; their small version number stands at the other end. */
    if (version != 0 && (version & 0xffff) == 0)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "a big-endian GGUF file; only little-endian ones are supported");
    return error_set(err, HEARTH_E_UNSUPPORTED,
                     "GGUF version %" PRIu32 " is not supported, only versions 2 and 3", version);
}

int gguf_parse_header(struct gguf_reader *in, struct gguf_header *header, struct hearth_error *err)
{
    const unsigned char *magic;
    struct gguf_header read;
    if (!read_bytes(in, 4, &magic))
        return error_set(err, HEARTH_E_FORMAT,
                         "not a GGUF file: it has %" PRIu64 " bytes and no room for a header",
                         in->size);
    if (memcmp(magic, "GGUF", 4) != 0)
        return error_set(err, HEARTH_E_FORMAT,
                         "not a GGUF file: it begins with the bytes %02x %02x %02x %02x", magic[0],
                         magic[1], magic[2], magic[3]);
    if (!read_u32(in, &read.version))
        return error_set(err, HEARTH_E_FORMAT, "the file ends inside its GGUF header");
    int status = check_version(read.version, err);
    if (status)
        return status;
    if (!read_u64(in, &read.tensor_count) || !read_u64(in, &read.key_count))
        return error_set(err, HEARTH_E_FORMAT, "the file ends inside its GGUF header");
    *header = read;
    return 0;
}

/* Both kinds of things: `bytes_min` is what one takes in the file, `bytes` what it takes here. */
static int check_count(const struct gguf_reader *in, const char *things, uint64_t count,
                       uint64_t bytes_min, uint64_t bytes, struct hearth_error *err)
{
    uint64_t room = bytes_left(in) / bytes_min;
    if (count > room)
        return error_set(err, HEARTH_E_FORMAT,
                         "the file claims %" PRIu64 " %s, but %" PRIu64
                         " bytes have room for %" PRIu64 " at most",
                         count, things, bytes_left(in), room);
    uint64_t max = GGUF_TABLE_BYTES_MAX / bytes;
    if (count > max)
        return error_set(err, HEARTH_E_LIMIT,
                         "the file has %" PRIu64 " %s; at most %" PRIu64 " are supported", count,
                         things, max);
    return 0;
}

/* ---- the index ---- */

static int compare_names(const void *a, const void *b)
{
    const struct text *const *left = a, *const *right = b;
    return text_compare(**left, **right);
}

int gguf_index_build(struct gguf_index *index, const void *things, size_t count, size_t stride,
                     const struct text **twice, struct hearth_error *err)
{
    const struct text **names = mem_alloc_array(count, sizeof *names);
    if (!names)
        return error_set(err, HEARTH_E_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++)
        names[i] = (const struct text *)(const void *)((const char *)things + i * stride);
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++) {
        if (text_equal(*names[i - 1], *names[i])) {
            *twice = names[i - 1] < names[i] ? names[i] : names[i - 1];
            mem_free(names);
            return HEARTH_E_FORMAT;
        }
    }
    *index = (struct gguf_index){names, count};
    return 0;
}

void gguf_index_finish(struct gguf_index *index)
{
    mem_free(index->names);
    *index = (struct gguf_index){NULL, 0};
}

const void *gguf_index_find(const struct gguf_index *index, const char *name)
{
    struct text wanted = text_of(name);
    size_t low = 0, high = index->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = text_compare(wanted, *index->names[middle]);
        if (order == 0)
            return index->names[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- keys ---- */

uint64_t gguf_value_bytes(uint32_t type)
{
    switch (type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL:
        return 1;
    case GGUF_U16:
    case GGUF_I16:
        return 2;
    case GGUF_U32:
    case GGUF_I32:
    case GGUF_F32:
        return 4;
    case GGUF_U64:
    case GGUF_I64:
    case GGUF_F64:
        return 8;
    default:
        return 0;
    }
}

static int value_cut_off(const struct gguf_key *key, struct hearth_error *err)
{
    return error_set(err, HEARTH_E_FORMAT, "the file ends inside the value of the key '%.*s'",
                     TEXT_ARGS(key->name));
}

/* A name with its length before it, of 1 to `max` bytes; `thing`, `number`: for the error. */
static int read_name(struct gguf_reader *in, const char *thing, uint64_t number, uint64_t max,
                     struct text *name, struct hearth_error *err)
{
    uint64_t size;
    const unsigned char *bytes;
    if (!read_u64(in, &size))
        return error_set(err, HEARTH_E_FORMAT, "the file ends before the name of %s %" PRIu64,
                         thing, number);
    if (size == 0 || size > max)
        return error_set(err, HEARTH_E_FORMAT,
                         "the name of %s %" PRIu64 " has %" PRIu64 " bytes; 1 to %" PRIu64
                         " are allowed",
                         thing, number, size, max);
    if (!read_bytes(in, size, &bytes))
        return error_set(err, HEARTH_E_FORMAT, "the file ends inside the name of %s %" PRIu64,
                         thing, number);
    *name = (struct text){(const char *)bytes, (size_t)size};
    return 0;
}

static int read_string(struct gguf_reader *in, const struct gguf_key *key, struct text *value,
                       struct hearth_error *err)
{
    uint64_t size;
    const unsigned char *bytes;
    if (!read_u64(in, &size))
        return value_cut_off(key, err);
    if (!read_bytes(in, size, &bytes))
        return error_set(err, HEARTH_E_FORMAT,
                         "a string in the key '%.*s' claims %" PRIu64
                         " bytes, but the file has %" PRIu64 " left",
                         TEXT_ARGS(key->name), size, bytes_left(in));
    *value = (struct text){(const char *)bytes, (size_t)size};
    return 0;
}

/* The values of `key`, `count` of type `element`, which all have the same size. */
static int read_scalars(struct gguf_reader *in, struct gguf_key *key, struct hearth_error *err)
{
    uint64_t each = gguf_value_bytes(key->element);
    assert(each != 0);
    if (key->count > bytes_left(in) / each) {
        if (key->type != GGUF_ARRAY)
            return value_cut_off(key, err);
        return error_set(err, HEARTH_E_FORMAT,
                         "the key '%.*s' claims %" PRIu64 " values, but the file has %" PRIu64
                         " bytes left",
                         TEXT_ARGS(key->name), key->count, bytes_left(in));
    }
    key->size = key->count * each;
    bool complete = read_bytes(in, key->size, &key->data);
    assert(complete);
    (void)complete;
    if (key->element != GGUF_BOOL)
        return 0;
    for (uint64_t i = 0; i < key->count; i++) {
        if (key->data[i] > 1)
            return error_set(err, HEARTH_E_FORMAT,
                             "the key '%.*s' has a boolean value of %u, neither 0 nor 1",
                             TEXT_ARGS(key->name), key->data[i]);
    }
    return 0;
}

/* An array of strings keeps their lengths in between: [length][bytes][length][bytes]… */
static int read_string_array(struct gguf_reader *in, struct gguf_key *key, struct hearth_error *err)
{
    uint64_t begin = in->at;
    if (key->count > bytes_left(in) / sizeof(uint64_t))
        return error_set(err, HEARTH_E_FORMAT,
                         "the key '%.*s' claims %" PRIu64 " strings, but the file has %" PRIu64
                         " bytes left",
                         TEXT_ARGS(key->name), key->count, bytes_left(in));
    for (uint64_t i = 0; i < key->count; i++) {
        struct text value;
        int status = read_string(in, key, &value, err);
        if (status)
            return status;
    }
    key->data = in->data + begin;
    key->size = in->at - begin;
    return 0;
}

static int read_array(struct gguf_reader *in, struct gguf_key *key, struct hearth_error *err)
{
    uint32_t element;
    if (!read_u32(in, &element) || !read_u64(in, &key->count))
        return value_cut_off(key, err);
    if (element == GGUF_ARRAY)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "the key '%.*s' is an array of arrays, which is not supported",
                         TEXT_ARGS(key->name));
    if (element != GGUF_STRING && gguf_value_bytes(element) == 0)
        return error_set(err, HEARTH_E_FORMAT,
                         "the key '%.*s' is an array of the unknown type %" PRIu32,
                         TEXT_ARGS(key->name), element);
    key->element = (enum gguf_value_type)element;
    return element == GGUF_STRING ? read_string_array(in, key, err) : read_scalars(in, key, err);
}

static int read_value(struct gguf_reader *in, uint32_t type, struct gguf_key *key,
                      struct hearth_error *err)
{
    if (type != GGUF_ARRAY && type != GGUF_STRING && gguf_value_bytes(type) == 0)
        return error_set(err, HEARTH_E_FORMAT, "the key '%.*s' has the unknown type %" PRIu32,
                         TEXT_ARGS(key->name), type);
    key->type = key->element = (enum gguf_value_type)type;
    key->count = 1;
    if (type == GGUF_ARRAY)
        return read_array(in, key, err);
    if (type != GGUF_STRING)
        return read_scalars(in, key, err);
    struct text value;
    int status = read_string(in, key, &value, err);
    if (status)
        return status;
    key->data = (const unsigned char *)value.data;
    key->size = value.size;
    return 0;
}

static int read_key(struct gguf_reader *in, uint64_t number, struct gguf_key *key,
                    struct hearth_error *err)
{
    uint32_t type;
    int status = read_name(in, "key", number, GGUF_KEY_NAME_MAX, &key->name, err);
    if (status)
        return status;
    if (!read_u32(in, &type))
        return value_cut_off(key, err);
    return read_value(in, type, key, err);
}

int gguf_parse_keys(struct gguf_reader *in, uint64_t count, struct gguf_key_table *table,
                    struct hearth_error *err)
{
    struct gguf_key_table made = {0};
    int status = check_count(in, "keys", count, KEY_BYTES_MIN,
                             sizeof(struct gguf_key) + sizeof(struct text *), err);
    if (status)
        return status;
    made.count = (size_t)count;
    made.keys = mem_zalloc_array(made.count, sizeof *made.keys);
    if (!made.keys)
        return error_set(err, HEARTH_E_MEMORY, "out of memory");
    for (size_t i = 0; i < made.count && !status; i++)
        status = read_key(in, i + 1, &made.keys[i], err);
    if (!status) {
        const struct text *twice = NULL;
        status =
            gguf_index_build(&made.index, made.keys, made.count, sizeof *made.keys, &twice, err);
        if (twice)
            error_set(err, status, "the key '%.*s' appears twice", TEXT_ARGS(*twice));
    }
    if (status)
        gguf_key_table_finish(&made);
    else
        *table = made;
    return status;
}

void gguf_key_table_finish(struct gguf_key_table *table)
{
    gguf_index_finish(&table->index);
    mem_free(table->keys);
    *table = (struct gguf_key_table){0};
}

const struct gguf_key *gguf_key_table_find(const struct gguf_key_table *table, const char *name)
{
    return gguf_index_find(&table->index, name);
}

/* ---- tensors ---- */

int gguf_check_tensor_count(const struct gguf_reader *in, uint64_t count, struct hearth_error *err)
{
    return check_count(in, "tensors", count, TENSOR_BYTES_MIN,
                       sizeof(struct gguf_tensor) + sizeof(struct text *), err);
}

static int tensor_cut_off(const struct gguf_tensor *tensor, struct hearth_error *err)
{
    return error_set(err, HEARTH_E_FORMAT,
                     "the file ends inside the description of the tensor "
                     "'%.*s'",
                     TEXT_ARGS(tensor->name));
}

static int read_dims(struct gguf_reader *in, struct gguf_tensor *tensor, struct hearth_error *err)
{
    if (!read_u32(in, &tensor->n_dims))
        return tensor_cut_off(tensor, err);
    if (tensor->n_dims == 0 || tensor->n_dims > GGUF_DIMS_MAX)
        return error_set(err, HEARTH_E_FORMAT,
                         "the tensor '%.*s' has %" PRIu32 " dimensions; 1 to %d are allowed",
                         TEXT_ARGS(tensor->name), tensor->n_dims, GGUF_DIMS_MAX);
    for (uint32_t i = 0; i < GGUF_DIMS_MAX; i++) {
        tensor->ne[i] = 1;
        if (i < tensor->n_dims && !read_u64(in, &tensor->ne[i]))
            return tensor_cut_off(tensor, err);
        if (tensor->ne[i] == 0)
            return error_set(err, HEARTH_E_FORMAT,
                             "the tensor '%.*s' has a dimension of 0 elements",
                             TEXT_ARGS(tensor->name));
    }
    return 0;
}

static int unknown_type(const struct gguf_tensor *tensor, struct hearth_error *err)
{
    const char *removed = tensor_type_removed(tensor->type);
    if (removed)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "the tensor '%.*s' has the type %s, which is no longer part of GGUF",
                         TEXT_ARGS(tensor->name), removed);
    return error_set(err, HEARTH_E_UNSUPPORTED, "the tensor '%.*s' has the unknown type %" PRIu32,
                     TEXT_ARGS(tensor->name), tensor->type);
}

/* row_bytes and size from type and dimensions. */
static int measure_tensor(struct gguf_tensor *tensor, struct hearth_error *err)
{
    const struct tensor_type_traits *traits = tensor_type_traits(tensor->type);
    if (!traits)
        return unknown_type(tensor, err);
    if (tensor->ne[0] % traits->block_elements != 0)
        return error_set(err, HEARTH_E_FORMAT,
                         "the tensor '%.*s' has rows of %" PRIu64
                         " elements, but %s comes in blocks of %" PRIu32,
                         TEXT_ARGS(tensor->name), tensor->ne[0], traits->name,
                         traits->block_elements);
    /* The elements are counted too: others may multiply the dimensions without a check. */
    uint64_t size, elements = tensor->ne[0];
    bool fits = tensor_row_bytes(tensor->type, tensor->ne[0], &tensor->row_bytes);
    size = tensor->row_bytes;
    for (uint32_t i = 1; i < GGUF_DIMS_MAX && fits; i++)
        fits = checked_mul_u64(size, tensor->ne[i], &size) &&
               checked_mul_u64(elements, tensor->ne[i], &elements);
    if (!fits || elements > INT64_MAX || size > INT64_MAX)
        return error_set(err, HEARTH_E_FORMAT,
                         "the tensor '%.*s' is too large: %" PRIu64 " x %" PRIu64 " x %" PRIu64
                         " x %" PRIu64 " elements",
                         TEXT_ARGS(tensor->name), tensor->ne[0], tensor->ne[1], tensor->ne[2],
                         tensor->ne[3]);
    tensor->size = size;
    return 0;
}

/* Afterwards file_offset is the one in the file: from the beginning of the data. */
static int read_tensor(struct gguf_reader *in, uint64_t number, struct gguf_tensor *tensor,
                       struct hearth_error *err)
{
    int status = read_name(in, "tensor", number, GGUF_TENSOR_NAME_MAX, &tensor->name, err);
    if (!status)
        status = read_dims(in, tensor, err);
    if (status)
        return status;
    if (!read_u32(in, &tensor->type) || !read_u64(in, &tensor->file_offset))
        return tensor_cut_off(tensor, err);
    return measure_tensor(tensor, err);
}

static int place_tensor(const struct gguf_reader *in, uint64_t data_begin, struct gguf_place place,
                        struct gguf_tensor *tensor, struct hearth_error *err)
{
    uint64_t offset = tensor->file_offset, begin, end;
    if (offset % place.alignment != 0)
        return error_set(err, HEARTH_E_FORMAT,
                         "the tensor '%.*s' lies at offset %" PRIu64
                         ", which is not a multiple of the file's alignment %" PRIu32,
                         TEXT_ARGS(tensor->name), offset, place.alignment);
    if (!checked_add_u64(data_begin, offset, &begin) ||
        !checked_add_u64(begin, tensor->size, &end) || end > in->size)
        return error_set(err, HEARTH_E_FORMAT,
                         "the tensor '%.*s' has %" PRIu64 " bytes at offset %" PRIu64
                         " of the data, beyond the end of the file (%" PRIu64 " bytes of data)",
                         TEXT_ARGS(tensor->name), tensor->size, offset,
                         in->size > data_begin ? in->size - data_begin : 0);
    tensor->file_offset = begin;
    tensor->data = in->data + begin;
    tensor->part = place.part;
    return 0;
}

int gguf_parse_tensors(struct gguf_reader *in, struct gguf_place place, size_t count,
                       struct gguf_tensor *tensors, struct hearth_error *err)
{
    for (size_t i = 0; i < count; i++) {
        int status = read_tensor(in, i + 1, &tensors[i], err);
        if (status)
            return status;
    }
    uint64_t data_begin;
    if (!checked_align_u64(in->at, place.alignment, &data_begin))
        return error_set(err, HEARTH_E_FORMAT, "the file is too large");
    for (size_t i = 0; i < count; i++) {
        int status = place_tensor(in, data_begin, place, &tensors[i], err);
        if (status)
            return status;
    }
    return 0;
}
