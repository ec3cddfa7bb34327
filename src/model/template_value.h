/* The values of a chat template while it is rendered: Python's None, bool, int, float, str, list,
 * tuple, dict and the few objects that jinja2 adds.
 *
 * All values of one rendering live in one arena and die together; nothing is freed before the
 * end. Lists, tuples, dicts and strings never change once they are built (the sandbox forbids what
 * would change them), so slices and copies share bytes and items. Only a namespace, a cycler, a
 * joiner, an iterator and a loop have state.
 *
 * Functions that take a `struct tpl_run` and return bool give true, or false after the run has
 * recorded one error; false must then be passed on at once. */
#ifndef MODEL_TEMPLATE_VALUE_H
#define MODEL_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

struct tpl_run;
struct tpl_iter;
struct tpl_loop;
struct tpl_macro;
struct tpl_frame;

enum tpl_kind {
    TPL_MISSING, /* no value: an argument that was not given, a slot not yet set */
    TPL_UNDEFINED,
    TPL_NONE,
    TPL_BOOL,
    TPL_INT,
    TPL_FLOAT,
    TPL_STRING,
    TPL_LIST,
    TPL_TUPLE,
    TPL_DICT,
    TPL_NAMESPACE,
    TPL_RANGE,
    TPL_VIEW, /* dict.keys(), .values(), .items() */
    TPL_ITERATOR,
    TPL_LOOP,
    TPL_MACRO,
    TPL_FUNCTION,
    TPL_METHOD,
    TPL_CYCLER,
    TPL_JOINER
};

struct tpl_value {
    enum tpl_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct tpl_string *string;
        struct tpl_list *list; /* TPL_LIST and TPL_TUPLE */
        struct tpl_dict *dict; /* TPL_DICT and TPL_NAMESPACE */
        struct tpl_range *range;
        struct tpl_view *view;
        struct tpl_iter *iter;
        struct tpl_loop *loop;
        struct tpl_macro *macro;
        const struct tpl_function *function;
        struct tpl_bound *bound;
        struct tpl_cycler *cycler;
        struct tpl_joiner *joiner;
        struct tpl_undefined *undefined; /* may be NULL */
    } as;
};

#define TPL_POINTS_UNKNOWN SIZE_MAX

struct tpl_string {
    const char *data; /* valid UTF-8 */
    size_t size;      /* bytes */
    size_t points;    /* code points, or TPL_POINTS_UNKNOWN until somebody asks */
    bool markup;      /* markupsafe.Markup: what is joined to it is escaped */
    /* Where the string was made by `+`, the block that its bytes begin: a further `+` to the string
     * that ends the block extends it in place, so that building a text piece by piece is linear. */
    struct tpl_block *block;
};

struct tpl_block {
    size_t used, capacity;
};

struct tpl_list {
    size_t count;
    struct tpl_value *items;
    bool busy;  /* being printed: a cycle through a namespace ends here */
    bool group; /* what groupby gives: a tuple with the names grouper and list */
};

struct tpl_pair {
    struct tpl_value key, value;
};

/* Pairs in the order of insertion; an open-addressing index of (position + 1) once there are more
 * than a few. */
struct tpl_dict {
    size_t count, capacity;
    struct tpl_pair *pairs;
    uint32_t *index;
    size_t index_size; /* a power of two, 0 without index */
    bool busy;
};

struct tpl_range {
    int64_t start, stop, step;
    int64_t count;
};

enum tpl_view_kind { TPL_VIEW_KEYS, TPL_VIEW_VALUES, TPL_VIEW_ITEMS };

struct tpl_view {
    struct tpl_dict *dict;
    enum tpl_view_kind kind;
};

struct tpl_cycler {
    struct tpl_list *items;
    size_t at;
};

struct tpl_joiner {
    struct tpl_value separator;
    bool used;
};

/* Why a value is undefined, for the message of the error that its use raises. */
struct tpl_undefined {
    const char *hint; /* whole sentence, or NULL: made from the two below */
    struct tpl_value name;
    enum tpl_kind of; /* TPL_MISSING for a variable */
    bool unsafe;      /* the sandbox hides an attribute of that name */
};

/* Arguments of a call: positional ones (for filters and tests the subject comes first) and named
 * ones, whose keys are strings. */
struct tpl_args {
    struct tpl_value *items;
    size_t count;
    struct tpl_pair *named;
    size_t named_count;
};

typedef bool tpl_call_fn(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out);
typedef bool tpl_method_fn(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out);

/* A filter, a test or a global function. */
struct tpl_function {
    const char *name;
    tpl_call_fn *call;
};

/* A method of a type; without `call` it is one that would change the object, which the sandbox
 * hides. */
struct tpl_method {
    const char *name;
    tpl_method_fn *call;
};

struct tpl_bound {
    const struct tpl_method *method;
    struct tpl_value self;
};

/* ---- making values ---- */

static inline struct tpl_value tpl_none(void)
{
    return (struct tpl_value){.kind = TPL_NONE};
}

static inline struct tpl_value tpl_missing(void)
{
    return (struct tpl_value){.kind = TPL_MISSING};
}

static inline struct tpl_value tpl_bool(bool value)
{
    return (struct tpl_value){.kind = TPL_BOOL, .as.boolean = value};
}

static inline struct tpl_value tpl_int(int64_t value)
{
    return (struct tpl_value){.kind = TPL_INT, .as.integer = value};
}

static inline struct tpl_value tpl_float(double value)
{
    return (struct tpl_value){.kind = TPL_FLOAT, .as.real = value};
}

static inline bool tpl_is_string(struct tpl_value value)
{
    return value.kind == TPL_STRING;
}

static inline bool tpl_is_given(struct tpl_value value)
{
    return value.kind != TPL_MISSING;
}

/* int or bool, which Python counts as an int */
static inline bool tpl_is_integer(struct tpl_value value)
{
    return value.kind == TPL_INT || value.kind == TPL_BOOL;
}

static inline int64_t tpl_integer(struct tpl_value value)
{
    return value.kind == TPL_BOOL ? value.as.boolean : value.as.integer;
}

static inline struct text tpl_text(struct tpl_value string)
{
    return (struct text){string.as.string->data, string.as.string->size};
}

/* A string over bytes that live as long as the run. */
bool tpl_make_string(struct tpl_run *run, struct text text, struct tpl_value *out);
/* The same with the bytes copied. */
bool tpl_copy_string(struct tpl_run *run, struct text text, struct tpl_value *out);
/* The bytes [from, to) of a string, sharing them; a Markup stays one. */
bool tpl_substring(struct tpl_run *run, struct tpl_value string, size_t from, size_t to,
                   struct tpl_value *out);
/* Left + right; neither is escaped, the result is plain. */
bool tpl_concat(struct tpl_run *run, struct tpl_value left, struct tpl_value right,
                struct tpl_value *out);
/* TPL_LIST or TPL_TUPLE with room for `count` items that the caller fills. */
bool tpl_make_list(struct tpl_run *run, enum tpl_kind kind, size_t count, struct tpl_value *out);
bool tpl_make_pair(struct tpl_run *run, struct tpl_value first, struct tpl_value second,
                   struct tpl_value *out);
bool tpl_make_dict(struct tpl_run *run, enum tpl_kind kind, size_t capacity, struct tpl_value *out);
bool tpl_make_undefined(struct tpl_run *run, enum tpl_kind of, struct tpl_value name, bool unsafe,
                        struct tpl_value *out);
bool tpl_make_undefined_hint(struct tpl_run *run, const char *hint, struct tpl_value *out);
bool tpl_make_bound(struct tpl_run *run, const struct tpl_method *method, struct tpl_value self,
                    struct tpl_value *out);

/* A list that grows while it is filled. */
struct tpl_vector {
    struct tpl_value *items;
    size_t count, capacity;
};
bool tpl_vector_add(struct tpl_run *run, struct tpl_vector *vector, struct tpl_value value);
bool tpl_vector_finish(struct tpl_run *run, struct tpl_vector *vector, enum tpl_kind kind,
                       struct tpl_value *out);

/* ---- looking at values ---- */

const char *tpl_type_name(enum tpl_kind kind); /* as Python calls it */
bool tpl_truth(struct tpl_value value);
size_t tpl_string_points(struct tpl_run *run, struct tpl_string *string);
/* Byte offset of code point `index`, at most the number of code points. */
size_t tpl_string_offset(struct tpl_run *run, struct tpl_string *string, size_t index);
/* len(); *sized is false where Python's has none. */
bool tpl_length(struct tpl_run *run, struct tpl_value value, int64_t *length, bool *sized);

bool tpl_equal(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *equal);
/* Python's `is`, as far as values without identity have one. */
bool tpl_same(struct tpl_value a, struct tpl_value b);
/* a < b, or an error for types that have no order. */
bool tpl_less(struct tpl_run *run, struct tpl_value a, struct tpl_value b, bool *less);
bool tpl_hash(struct tpl_run *run, struct tpl_value value, uint64_t *hash, bool *hashable);

/* *value is TPL_MISSING where the dict has no such key or the key cannot be hashed (then
 * *hashable, which may be NULL, is false). */
bool tpl_dict_get(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                  struct tpl_value *value, bool *hashable);
bool tpl_dict_get_text(struct tpl_run *run, const struct tpl_dict *dict, struct text key,
                       struct tpl_value *value);
/* Only while the dict is built, or for a namespace. A key that cannot be hashed is an error. */
bool tpl_dict_set(struct tpl_run *run, struct tpl_dict *dict, struct tpl_value key,
                  struct tpl_value value);

#endif
