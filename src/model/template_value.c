/* Making, comparing and hashing values. */
#include "model/template_value.h"

#include <math.h>
#include <string.h>

#include "model/template_run.h"

/* ---- strings ---- */

#define BLOCK_MIN 256 /* shorter results of + are not given room to grow */

bool tpl_make_string(struct tpl_run *run, struct text text, struct tpl_value *out)
{
    struct tpl_string *string = tpl_alloc(run, sizeof *string);
    if (!string)
        return false;
    *string =
        (struct tpl_string){.data = text.data, .size = text.size, .points = TPL_POINTS_UNKNOWN};
    *out = (struct tpl_value){.kind = TPL_STRING, .as.string = string};
    return true;
}

bool tpl_copy_string(struct tpl_run *run, struct text text, struct tpl_value *out)
{
    char *data = tpl_alloc(run, text.size + 1);
    if (!data || !tpl_charge(run, text.size))
        return false;
    if (text.size)
        memcpy(data, text.data, text.size);
    return tpl_make_string(run, (struct text){data, text.size}, out);
}

bool tpl_substring(struct tpl_run *run, struct tpl_value string, size_t from, size_t to,
                   struct tpl_value *out)
{
    const struct tpl_string *whole = string.as.string;
    if (from == 0 && to == whole->size) {
        *out = string;
        return true;
    }
    if (!tpl_make_string(run, (struct text){whole->data + from, to - from}, out))
        return false;
    out->as.string->markup = whole->markup;
    if (whole->points == whole->size)
        out->as.string->points = to - from; /* ASCII */
    return true;
}

/* Appends in place where `left` ends its block and there is room. */
static bool concat_in_place(struct tpl_run *run, const struct tpl_string *left, struct text right,
                            struct tpl_value *out)
{
    struct tpl_block *block = left->block;
    if (!tpl_charge(run, right.size) ||
        !tpl_make_string(run, (struct text){left->data, left->size + right.size}, out))
        return false;
    memcpy((char *)(block + 1) + left->size, right.data, right.size);
    block->used += right.size;
    out->as.string->block = block;
    return true;
}

bool tpl_concat(struct tpl_run *run, struct tpl_value left, struct tpl_value right,
                struct tpl_value *out)
{
    const struct tpl_string *a = left.as.string, *b = right.as.string;
    if ((b->size == 0 && !a->markup) || (a->size == 0 && !b->markup)) {
        *out = b->size == 0 ? left : right;
        return true;
    }
    struct tpl_block *block = a->block;
    struct text more = tpl_text(right);
    if (block && block->used == a->size && more.size && block->capacity - block->used >= more.size)
        return concat_in_place(run, a, more, out);
    size_t size = a->size + b->size, capacity = a->size < BLOCK_MIN ? size : 2 * size;
    block = tpl_alloc(run, sizeof *block + capacity);
    if (!block || !tpl_charge(run, size))
        return false;
    char *data = (char *)(block + 1);
    if (a->size)
        memcpy(data, a->data, a->size);
    if (b->size)
        memcpy(data + a->size, b->data, b->size);
    *block = (struct tpl_block){size, capacity};
    if (!tpl_make_string(run, (struct text){data, size}, out))
        return false;
    out->as.string->block = block;
    return true;
}

size_t tpl_string_points(struct tpl_run *run, struct tpl_string *string)
{
    if (string->points == TPL_POINTS_UNKNOWN) {
        size_t points = 0;
        for (size_t i = 0; i < string->size; i++)
            points += ((unsigned char)string->data[i] & 0xc0) != 0x80;
        string->points = points;
        tpl_charge(run, string->size / 4); /* an overrun is found at the next node */
    }
    return string->points;
}

size_t tpl_string_offset(struct tpl_run *run, struct tpl_string *string, size_t index)
{
    if (tpl_string_points(run, string) == string->size)
        return index < string->size ? index : string->size;
    size_t at = 0;
    while (at < string->size) {
        if (((unsigned char)string->data[at] & 0xc0) != 0x80 && index-- == 0)
            break;
        at++;
    }
    tpl_charge(run, at / 4);
    return at;
}

/* ---- lists and the other objects ---- */

bool tpl_make_list(struct tpl_run *run, enum tpl_kind kind, size_t count, struct tpl_value *out)
{
    struct tpl_list *list = tpl_alloc(run, sizeof *list);
    struct tpl_value *items = list ? tpl_alloc_array(run, count, sizeof *items) : NULL;
    if (!items || !tpl_charge(run, count))
        return false;
    *list = (struct tpl_list){.count = count, .items = items};
    *out = (struct tpl_value){.kind = kind, .as.list = list};
    return true;
}

bool tpl_make_pair(struct tpl_run *run, struct tpl_value first, struct tpl_value second,
                   struct tpl_value *out)
{
    if (!tpl_make_list(run, TPL_TUPLE, 2, out))
        return false;
    out->as.list->items[0] = first;
    out->as.list->items[1] = second;
    return true;
}

bool tpl_make_undefined(struct tpl_run *run, enum tpl_kind of, struct tpl_value name, bool unsafe,
                        struct tpl_value *out)
{
    struct tpl_undefined *why = tpl_alloc(run, sizeof *why);
    if (!why)
        return false;
    *why = (struct tpl_undefined){.name = name, .of = of, .unsafe = unsafe};
    *out = (struct tpl_value){.kind = TPL_UNDEFINED, .as.undefined = why};
    return true;
}

bool tpl_make_undefined_hint(struct tpl_run *run, const char *hint, struct tpl_value *out)
{
    if (!tpl_make_undefined(run, TPL_MISSING, tpl_none(), false, out))
        return false;
    out->as.undefined->hint = hint;
    return true;
}

bool tpl_make_bound(struct tpl_run *run, const struct tpl_method *method, struct tpl_value self,
                    struct tpl_value *out)
{
    struct tpl_bound *bound = tpl_alloc(run, sizeof *bound);
    if (!bound)
        return false;
    *bound = (struct tpl_bound){method, self};
    *out = (struct tpl_value){.kind = TPL_METHOD, .as.bound = bound};
    return true;
}

bool tpl_vector_add(struct tpl_run *run, struct tpl_vector *vector, struct tpl_value value)
{
    if (vector->count == vector->capacity) {
        size_t capacity = vector->capacity * 2 + 8;
        struct tpl_value *items = tpl_grow(run, vector->items, vector->capacity * sizeof *items,
                                           capacity * sizeof *items);
        if (!items)
            return false;
        vector->items = items;
        vector->capacity = capacity;
    }
    vector->items[vector->count++] = value;
    return tpl_charge(run, 1);
}

bool tpl_vector_finish(struct tpl_run *run, struct tpl_vector *vector, enum tpl_kind kind,
                       struct tpl_value *out)
{
    struct tpl_list *list = tpl_alloc(run, sizeof *list);
    if (!list)
        return false;
    *list = (struct tpl_list){.count = vector->count, .items = vector->items};
    *out = (struct tpl_value){.kind = kind, .as.list = list};
    return true;
}

/* ---- looking ---- */

const char *tpl_type_name(enum tpl_kind kind)
{
    static const char *const names[] = {
        "missing", "Undefined", "NoneType", "bool",      "int",    "float",     "str",
        "list",    "tuple",     "dict",     "Namespace", "range",  "dict view", "generator",
        "loop",    "macro",     "function", "method",    "cycler", "joiner"};
    return names[kind];
}

bool tpl_truth(struct tpl_value value)
{
    switch (value.kind) {
    case TPL_MISSING:
    case TPL_UNDEFINED:
    case TPL_NONE:
        return false;
    case TPL_BOOL:
        return value.as.boolean;
    case TPL_INT:
        return value.as.integer != 0;
    case TPL_FLOAT:
        return value.as.real != 0;
    case TPL_STRING:
        return value.as.string->size != 0;
    case TPL_LIST:
    case TPL_TUPLE:
        return value.as.list->count != 0;
    case TPL_DICT:
        return value.as.dict->count != 0;
    case TPL_RANGE:
        return value.as.range->count != 0;
    case TPL_VIEW:
        return value.as.view->dict->count != 0;
    default:
        return true;
    }
}

bool tpl_length(struct tpl_run *run, struct tpl_value value, int64_t *length, bool *sized)
{
    *sized = true;
    switch (value.kind) {
    case TPL_UNDEFINED:
        *length = 0;
        return true;
    case TPL_STRING:
        *length = (int64_t)tpl_string_points(run, value.as.string);
        return run->code == 0;
    case TPL_LIST:
    case TPL_TUPLE:
        *length = (int64_t)value.as.list->count;
        return true;
    case TPL_DICT:
        *length = (int64_t)value.as.dict->count;
        return true;
    case TPL_VIEW:
        *length = (int64_t)value.as.view->dict->count;
        return true;
    case TPL_RANGE:
        *length = value.as.range->count;
        return true;
    case TPL_LOOP:
        return tpl_loop_length(run, value.as.loop, length);
    default:
        *sized = false;
        return true;
    }
}

/* ---- equality and order ---- */

static bool is_number(struct tpl_value value)
{
    return tpl_is_integer(value) || value.kind == TPL_FLOAT;
}

static bool equal_lists(struct tpl_run *run, const struct tpl_list *a, const struct tpl_list *b,
                        bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; *equal && i < a->count; i++) {
        if (tpl_same(a->items[i], b->items[i]))
            continue;
        if (!tpl_equal(run, a->items[i], b->items[i], equal))
            return false;
    }
    return true;
}

static bool equal_dicts(struct tpl_run *run, const struct tpl_dict *a, const struct tpl_dict *b,
                        bool values, bool *equal)
{
    *equal = a->count == b->count;
    for (size_t i = 0; *equal && i < a->count; i++) {
        struct tpl_value other;
        if (!tpl_dict_get(run, b, a->pairs[i].key, &other, NULL))
            return false;
        *equal = tpl_is_given(other);
        if (*equal && values && !tpl_equal(run, a->pairs[i].value, other, equal))
            return false;
    }
    return true;
}

static bool equal_ranges(const struct tpl_range *a, const struct tpl_range *b)
{
    if (a->count != b->count)
        return false;
    return a->count == 0 || (a->start == b->start && (a->count == 1 || a->step == b->step));
}

static bool equal_inside(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *equal)
{
    switch (a.kind) {
    case TPL_UNDEFINED:
        *equal = true;
        return true;
    case TPL_STRING:
        *equal = text_equal(tpl_text(a), tpl_text(b));
        return tpl_charge(run, *equal ? a.as.string->size : 1);
    case TPL_LIST:
    case TPL_TUPLE:
        return equal_lists(run, a.as.list, b.as.list, equal);
    case TPL_DICT:
        return equal_dicts(run, a.as.dict, b.as.dict, true, equal);
    case TPL_RANGE:
        *equal = equal_ranges(a.as.range, b.as.range);
        return true;
    case TPL_VIEW:
        /* keys() and items() compare as sets; values() has no equality but identity */
        *equal = a.as.view == b.as.view;
        if (a.as.view->kind == b.as.view->kind && a.as.view->kind != TPL_VIEW_VALUES)
            return equal_dicts(run, a.as.view->dict, b.as.view->dict,
                               a.as.view->kind == TPL_VIEW_ITEMS, equal);
        return true;
    default:
        *equal = tpl_same(a, b);
        return true;
    }
}

bool tpl_equal(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *equal)
{
    if (is_number(a) && is_number(b)) {
        *equal = tpl_compare_numbers(a, b) == 0;
        return true;
    }
    if (a.kind != b.kind) {
        *equal = false;
        return true;
    }
    if (!tpl_charge(run, TPL_NODE_STEPS) || !tpl_enter(run))
        return false;
    bool done = equal_inside(run, a, b, equal);
    tpl_leave(run);
    return done;
}

bool tpl_same(struct tpl_value a, struct tpl_value b)
{
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case TPL_MISSING:
    case TPL_NONE:
        return true;
    case TPL_BOOL:
        return a.as.boolean == b.as.boolean;
    case TPL_INT:
        return a.as.integer == b.as.integer;
    case TPL_FLOAT:
        return memcmp(&a.as.real, &b.as.real, sizeof a.as.real) == 0;
    case TPL_STRING:
        return a.as.string == b.as.string ||
               (a.as.string->data == b.as.string->data && a.as.string->size == b.as.string->size);
    case TPL_LIST:
    case TPL_TUPLE:
        return a.as.list == b.as.list ||
               (a.kind == TPL_TUPLE && a.as.list->count == 0 && b.as.list->count == 0);
    case TPL_METHOD:
        return a.as.bound->method == b.as.bound->method &&
               tpl_same(a.as.bound->self, b.as.bound->self);
    default:
        return a.as.dict == b.as.dict; /* all other members are pointers too */
    }
}

static bool less_lists(struct tpl_run *run, const struct tpl_list *a, const struct tpl_list *b,
                       bool *less)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal = tpl_same(a->items[i], b->items[i]);
        if (!equal && !tpl_equal(run, a->items[i], b->items[i], &equal))
            return false;
        if (!equal)
            return tpl_less(run, a->items[i], b->items[i], less);
    }
    *less = a->count < b->count;
    return true;
}

bool tpl_less(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *less)
{
    if (is_number(a) && is_number(b)) {
        *less = tpl_compare_numbers(a, b) == -1;
        return true;
    }
    if (a.kind == TPL_UNDEFINED || b.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, a.kind == TPL_UNDEFINED ? a : b);
    if (a.kind == TPL_STRING && b.kind == TPL_STRING) {
        /* bytes of UTF-8 sort as code points do */
        *less = text_compare(tpl_text(a), tpl_text(b)) < 0;
        size_t shorter =
            a.as.string->size < b.as.string->size ? a.as.string->size : b.as.string->size;
        return tpl_charge(run, TPL_NODE_STEPS + shorter / 4);
    }
    if (a.kind == b.kind && (a.kind == TPL_LIST || a.kind == TPL_TUPLE)) {
        if (!tpl_charge(run, TPL_NODE_STEPS) || !tpl_enter(run))
            return false;
        bool done = less_lists(run, a.as.list, b.as.list, less);
        tpl_leave(run);
        return done;
    }
    return tpl_raise(run, "'%s' and '%s' have no order", tpl_type_name(a.kind),
                     tpl_type_name(b.kind));
}

/* ---- dicts ---- */

#define LINEAR_MAX 8 /* pairs that are searched without an index */

static uint64_t mix(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 32;
}

static uint64_t hash_number(struct tpl_value value)
{
    int64_t whole;
    if (tpl_is_integer(value))
        return mix((uint64_t)tpl_integer(value));
    if (value.as.real == floor(value.as.real) && tpl_float_to_int(value.as.real, &whole))
        return mix((uint64_t)whole);
    uint64_t bits;
    memcpy(&bits, &value.as.real, sizeof bits);
    return mix(bits);
}

static bool hash_tuple(struct tpl_run *run, const struct tpl_list *tuple, uint64_t *hash,
                       bool *hashable)
{
    uint64_t sum = 0x345678;
    for (size_t i = 0; i < tuple->count; i++) {
        uint64_t item = 0;
        if (!tpl_hash(run, tuple->items[i], &item, hashable))
            return false;
        if (!*hashable)
            return true;
        sum = mix(sum ^ item) + i;
    }
    *hash = sum;
    return true;
}

bool tpl_hash(struct tpl_run *run, struct tpl_value value, uint64_t *hash, bool *hashable)
{
    *hashable = true;
    if (!tpl_charge(run, 1))
        return false;
    switch (value.kind) {
    case TPL_MISSING:
    case TPL_UNDEFINED:
    case TPL_NONE:
        *hash = mix((uint64_t)value.kind + 77);
        return true;
    case TPL_BOOL:
    case TPL_INT:
    case TPL_FLOAT:
        *hash = hash_number(value);
        return true;
    case TPL_STRING: {
        uint64_t sum = 14695981039346656037u; /* FNV-1a */
        for (size_t i = 0; i < value.as.string->size; i++)
            sum = (sum ^ (unsigned char)value.as.string->data[i]) * 1099511628211u;
        *hash = mix(sum);
        return tpl_charge(run, value.as.string->size);
    }
    case TPL_TUPLE: {
        if (!tpl_enter(run))
            return false;
        bool done = hash_tuple(run, value.as.list, hash, hashable);
        tpl_leave(run);
        return done;
    }
    case TPL_RANGE:
        *hash = mix((uint64_t)value.as.range->count);
        return true;
    case TPL_LIST:
    case TPL_DICT:
        *hashable = false;
        return true;
    case TPL_VIEW:
        *hashable = value.as.view->kind == TPL_VIEW_VALUES;
        *hash = mix((uint64_t)(uintptr_t)value.as.view);
        return true;
    default:
        *hash = mix((uint64_t)(uintptr_t)value.as.dict);
        return true;
    }
}

bool tpl_make_dict(struct tpl_run *run, enum tpl_kind kind, size_t capacity, struct tpl_value *out)
{
    struct tpl_dict *dict = tpl_alloc(run, sizeof *dict);
    if (!dict)
        return false;
    if (capacity) {
        dict->pairs = tpl_alloc_array(run, capacity, sizeof *dict->pairs);
        if (!dict->pairs)
            return false;
        dict->capacity = capacity;
    }
    *out = (struct tpl_value){.kind = kind, .as.dict = dict};
    return true;
}

/* *place is the position of `key`, or dict->count. */
static bool search(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                   uint64_t hash, size_t *place)
{
    bool equal = false;
    if (!dict->index) {
        for (*place = 0; *place < dict->count; ++*place) {
            struct tpl_value other = dict->pairs[*place].key;
            if (other.kind == TPL_STRING && key.kind == TPL_STRING)
                equal = text_equal(tpl_text(other), tpl_text(key));
            else if (!tpl_equal(run, other, key, &equal))
                return false;
            if (equal)
                break;
        }
        return tpl_charge(run, 1 + *place);
    }
    size_t at = hash & (dict->index_size - 1), probes = 1;
    for (; dict->index[at]; at = (at + 1) & (dict->index_size - 1), probes++) {
        *place = dict->index[at] - 1;
        if (!tpl_equal(run, dict->pairs[*place].key, key, &equal))
            return false;
        if (equal)
            return tpl_charge(run, probes);
    }
    *place = dict->count;
    return tpl_charge(run, probes);
}

static bool rebuild_index(struct tpl_run *run, struct tpl_dict *dict, size_t size)
{
    uint32_t *index = tpl_alloc_array(run, size, sizeof *index);
    if (!index || !tpl_charge(run, size))
        return false;
    for (size_t i = 0; i < dict->count; i++) {
        uint64_t hash;
        bool hashable;
        if (!tpl_hash(run, dict->pairs[i].key, &hash, &hashable))
            return false;
        size_t at = hash & (size - 1);
        while (index[at])
            at = (at + 1) & (size - 1);
        index[at] = (uint32_t)i + 1;
    }
    dict->index = index;
    dict->index_size = size;
    return true;
}

/* A key without hash is told apart before small dicts are searched without one. */
static bool key_hash(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                     uint64_t *hash, bool *hashable)
{
    *hashable = true;
    if (!dict->index && key.kind != TPL_LIST && key.kind != TPL_DICT && key.kind != TPL_TUPLE &&
        key.kind != TPL_VIEW)
        return true;
    return tpl_hash(run, key, hash, hashable);
}

bool tpl_dict_get(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                  struct tpl_value *value, bool *hashable)
{
    uint64_t hash = 0;
    bool is_key;
    size_t place;
    *value = tpl_missing();
    if (!key_hash(run, dict, key, &hash, &is_key))
        return false;
    if (hashable)
        *hashable = is_key;
    if (!is_key)
        return true;
    if (!search(run, dict, key, hash, &place))
        return false;
    if (place < dict->count)
        *value = dict->pairs[place].value;
    return true;
}

bool tpl_dict_get_text(struct tpl_run *run, const struct tpl_dict *dict, struct text key,
                       struct tpl_value *value)
{
    struct tpl_string string = {.data = key.data, .size = key.size, .points = TPL_POINTS_UNKNOWN};
    return tpl_dict_get(run, dict, (struct tpl_value){.kind = TPL_STRING, .as.string = &string},
                        value, NULL);
}

bool tpl_dict_set(struct tpl_run *run, struct tpl_dict *dict, struct tpl_value key,
                  struct tpl_value value)
{
    uint64_t hash = 0;
    bool hashable;
    size_t place;
    if (!key_hash(run, dict, key, &hash, &hashable))
        return false;
    if (!hashable)
        return tpl_raise(run, "a value of type '%s' cannot be the key of a dict",
                         tpl_type_name(key.kind));
    if (!search(run, dict, key, hash, &place))
        return false;
    if (place < dict->count) {
        dict->pairs[place].value = value;
        return true;
    }
    if (dict->count == dict->capacity) {
        size_t capacity = dict->capacity * 2 + 4;
        if (capacity > UINT32_MAX / 4)
            return tpl_fail(run, HEARTH_E_LIMIT, "a dict has too many keys");
        struct tpl_pair *pairs =
            tpl_grow(run, dict->pairs, dict->capacity * sizeof *pairs, capacity * sizeof *pairs);
        if (!pairs)
            return false;
        dict->pairs = pairs;
        dict->capacity = capacity;
    }
    dict->pairs[dict->count++] = (struct tpl_pair){key, value};
    if (dict->index ? 2 * dict->count > dict->index_size : dict->count > LINEAR_MAX)
        return rebuild_index(run, dict, dict->index ? dict->index_size * 2 : 4 * LINEAR_MAX);
    if (dict->index) {
        size_t at = hash & (dict->index_size - 1);
        while (dict->index[at])
            at = (at + 1) & (dict->index_size - 1);
        dict->index[at] = (uint32_t)dict->count;
    }
    return true;
}
