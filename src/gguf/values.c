#include <assert.h>
#include <float.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gguf/gguf.h"
#include "gguf/parse.h"

static const char *value_type_name(enum gguf_value_type type)
{
    switch (type) {
    case GGUF_U8:
        return "u8";
    case GGUF_I8:
        return "i8";
    case GGUF_U16:
        return "u16";
    case GGUF_I16:
        return "i16";
    case GGUF_U32:
        return "u32";
    case GGUF_I32:
        return "i32";
    case GGUF_F32:
        return "f32";
    case GGUF_BOOL:
        return "bool";
    case GGUF_STRING:
        return "string";
    case GGUF_ARRAY:
        return "array";
    case GGUF_U64:
        return "u64";
    case GGUF_I64:
        return "i64";
    case GGUF_F64:
        return "f64";
    }
    return "unknown";
}

static int missing(const char *name, struct hearth_error *err)
{
    return error_set(err, HEARTH_E_MISSING, "the key '%s' is missing", name);
}

static int wrong_type(const struct gguf_key *key, const char *wanted, struct hearth_error *err)
{
    bool array = key->type == GGUF_ARRAY;
    return error_set(err, HEARTH_E_FORMAT, "the key '%.*s' must be %s, but is of type %s%s",
                     TEXT_ARGS(key->name), wanted, array ? "array of " : "",
                     value_type_name(array ? key->element : key->type));
}

/* The value of an integer key as a magnitude and a sign; false for any other type. */
static bool read_integer(const struct gguf_key *key, bool *negative, uint64_t *magnitude)
{
    uint64_t bits = 0;
    bool is_signed;
    switch (key->type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        is_signed = false;
        break;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        is_signed = true;
        break;
    default:
        return false;
    }
    memcpy(&bits, key->data, (size_t)key->size);
    *negative = is_signed && (key->data[key->size - 1] & 0x80) != 0;
    /* Two's complement over the value's own width: its distance from 2^width. */
    uint64_t width_mask = key->size == 8 ? UINT64_MAX : (UINT64_C(1) << (8 * key->size)) - 1;
    *magnitude = *negative ? (~bits + 1) & width_mask : bits;
    return true;
}

int gguf_key_u64(const struct gguf_key *key, const char *name, uint64_t min, uint64_t max,
                 uint64_t *value, struct hearth_error *err)
{
    bool negative;
    uint64_t magnitude;
    if (!key)
        return missing(name, err);
    if (!read_integer(key, &negative, &magnitude))
        return wrong_type(key, "an integer", err);
    if (negative || magnitude < min || magnitude > max)
        return error_set(err, HEARTH_E_FORMAT,
                         "the key '%s' is %s%" PRIu64 ", but must lie between %" PRIu64
                         " and %" PRIu64,
                         name, negative ? "-" : "", magnitude, min, max);
    *value = magnitude;
    return 0;
}

int gguf_get_u64(const struct gguf *gguf, const char *name, uint64_t min, uint64_t max,
                 uint64_t *value, struct hearth_error *err)
{
    return gguf_key_u64(gguf_find(gguf, name), name, min, max, value, err);
}

int gguf_get_u32(const struct gguf *gguf, const char *name, uint32_t min, uint32_t max,
                 uint32_t *value, struct hearth_error *err)
{
    uint64_t wide = 0;
    int status = gguf_get_u64(gguf, name, min, max, &wide, err);
    if (!status)
        *value = (uint32_t)wide;
    return status;
}

int gguf_get_f32(const struct gguf *gguf, const char *name, float min, float max, float *value,
                 struct hearth_error *err)
{
    const struct gguf_key *key = gguf_find(gguf, name);
    double wide;
    if (!key)
        return missing(name, err);
    if (key->type == GGUF_F32) {
        float narrow;
        memcpy(&narrow, key->data, sizeof narrow);
        wide = (double)narrow;
    } else if (key->type == GGUF_F64) {
        memcpy(&wide, key->data, sizeof wide);
    } else {
        return wrong_type(key, "a floating-point number", err);
    }
    /* Written so that a NaN fails. What passes fits a float, whatever the bounds are. */
    bool finite = wide >= (double)-FLT_MAX && wide <= (double)FLT_MAX;
    if (!finite || !(wide >= (double)min && wide <= (double)max))
        return error_set(err, HEARTH_E_FORMAT, "the key '%s' is %g, but must lie between %g and %g",
                         name, wide, (double)min, (double)max);
    *value = (float)wide;
    return 0;
}

int gguf_get_bool(const struct gguf *gguf, const char *name, bool *value, struct hearth_error *err)
{
    const struct gguf_key *key = gguf_find(gguf, name);
    if (!key)
        return missing(name, err);
    if (key->type != GGUF_BOOL)
        return wrong_type(key, "a bool", err);
    *value = key->data[0] != 0;
    return 0;
}

int gguf_get_text(const struct gguf *gguf, const char *name, struct text *value,
                  struct hearth_error *err)
{
    const struct gguf_key *key = gguf_find(gguf, name);
    if (!key)
        return missing(name, err);
    if (key->type != GGUF_STRING)
        return wrong_type(key, "a string", err);
    *value = (struct text){(const char *)key->data, (size_t)key->size};
    return 0;
}

int gguf_get_array(const struct gguf *gguf, const char *name, enum gguf_value_type element,
                   const struct gguf_key **array, struct hearth_error *err)
{
    const struct gguf_key *key = gguf_find(gguf, name);
    if (!key)
        return missing(name, err);
    if (key->type != GGUF_ARRAY || key->element != element) {
        char wanted[32];
        snprintf(wanted, sizeof wanted, "an array of %s", value_type_name(element));
        return wrong_type(key, wanted, err);
    }
    *array = key;
    return 0;
}

uint32_t gguf_array_u32(const struct gguf_key *array, uint64_t index)
{
    uint32_t value;
    assert(array->element == GGUF_U32 || array->element == GGUF_I32);
    assert(index < array->count);
    memcpy(&value, array->data + index * sizeof value, sizeof value);
    return value;
}

float gguf_array_f32(const struct gguf_key *array, uint64_t index)
{
    float value;
    assert(array->element == GGUF_F32);
    assert(index < array->count);
    memcpy(&value, array->data + index * sizeof value, sizeof value);
    return value;
}

bool gguf_array_bool(const struct gguf_key *array, uint64_t index)
{
    assert(array->element == GGUF_BOOL);
    assert(index < array->count);
    return array->data[index] != 0;
}

bool gguf_array_next_text(const struct gguf_key *array, uint64_t *cursor, struct text *value)
{
    uint64_t size;
    assert(array->type == GGUF_ARRAY && array->element == GGUF_STRING);
    if (*cursor >= array->size)
        return false;
    /* Opening the file has proved that length and bytes lie inside. */
    memcpy(&size, array->data + *cursor, sizeof size);
    *value = (struct text){(const char *)array->data + *cursor + sizeof size, (size_t)size};
    *cursor += sizeof size + size;
    return true;
}
