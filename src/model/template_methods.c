/* The methods of all types but str. Those that would change a list or a dict are named without a
 * function: the sandbox hides them. */
#include <math.h>

#include "model/template_run.h"

/* ---- list, tuple, range ---- */

static bool seq_count(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    struct tpl_value wanted;
    struct tpl_vector items;
    int64_t count = 0;
    if (!tpl_bind(run, args, "count", "/value", &wanted) || !tpl_collect(run, self, &items))
        return false;
    for (size_t i = 0; i < items.count; i++) {
        bool equal = tpl_same(items.items[i], wanted);
        if (!equal && !tpl_equal(run, items.items[i], wanted, &equal))
            return false;
        count += equal;
    }
    *out = tpl_int(count);
    return tpl_charge(run, items.count);
}

static bool seq_index(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    struct tpl_value argv[3];
    struct tpl_vector items;
    int64_t from, to;
    if (!tpl_bind(run, args, "index", "/value /start? /stop?", argv) ||
        !tpl_collect(run, self, &items) || !tpl_arg_int(run, argv[1], 0, &from) ||
        !tpl_arg_int(run, argv[2], INT64_MAX, &to))
        return false;
    int64_t count = (int64_t)items.count;
    from = from < 0 ? (from + count < 0 ? 0 : from + count) : from;
    to = to < 0 ? to + count : to > count ? count : to;
    for (int64_t i = from; i < to; i++) {
        bool equal = tpl_same(items.items[i], argv[0]);
        if (!tpl_charge(run, 1) || (!equal && !tpl_equal(run, items.items[i], argv[0], &equal)))
            return false;
        if (equal) {
            *out = tpl_int(i);
            return true;
        }
    }
    return tpl_raise(run, "index(): the value is not in the sequence");
}

static bool list_copy(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    struct tpl_vector items;
    return tpl_bind(run, args, "copy", "", NULL) && tpl_collect(run, self, &items) &&
           tpl_vector_finish(run, &items, TPL_LIST, out);
}

/* ---- dict ---- */

static bool dict_get(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                     struct tpl_value *out)
{
    struct tpl_value argv[2];
    bool hashable;
    if (!tpl_bind(run, args, "get", "/key /default?", argv) ||
        !tpl_dict_get(run, self.as.dict, argv[0], out, &hashable))
        return false;
    if (!hashable)
        return tpl_raise(run, "a '%s' cannot be the key of a dict", tpl_type_name(argv[0].kind));
    if (!tpl_is_given(*out))
        *out = tpl_is_given(argv[1]) ? argv[1] : tpl_none();
    return true;
}

static bool make_view(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      enum tpl_view_kind kind, struct tpl_value *out)
{
    struct tpl_view *view = tpl_alloc(run, sizeof *view);
    if (!view || !tpl_bind(run, args, "items", "", NULL))
        return false;
    *view = (struct tpl_view){self.as.dict, kind};
    *out = (struct tpl_value){.kind = TPL_VIEW, .as.view = view};
    return true;
}

static bool dict_items(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return make_view(run, self, args, TPL_VIEW_ITEMS, out);
}

static bool dict_keys(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return make_view(run, self, args, TPL_VIEW_KEYS, out);
}

static bool dict_values(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    return make_view(run, self, args, TPL_VIEW_VALUES, out);
}

static bool dict_copy(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    *out = self;
    return tpl_bind(run, args, "copy", "", NULL) && tpl_charge(run, self.as.dict->count);
}

static bool dict_fromkeys(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                          struct tpl_value *out)
{
    struct tpl_value argv[2];
    struct tpl_vector keys;
    (void)self;
    if (!tpl_bind(run, args, "fromkeys", "/iterable /value?", argv) ||
        !tpl_collect(run, argv[0], &keys) || !tpl_make_dict(run, TPL_DICT, keys.count, out))
        return false;
    struct tpl_value value = tpl_is_given(argv[1]) ? argv[1] : tpl_none();
    for (size_t i = 0; i < keys.count; i++) {
        if (!tpl_dict_set(run, out->as.dict, keys.items[i], value))
            return false;
    }
    return true;
}

/* ---- numbers ---- */

static bool int_bit_length(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    int64_t value = tpl_integer(self), bits = 0;
    for (uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value; rest; rest >>= 1)
        bits++;
    *out = tpl_int(bits);
    return tpl_bind(run, args, "bit_length", "", NULL);
}

static bool number_conjugate(struct tpl_run *run, struct tpl_value self,
                             const struct tpl_args *args, struct tpl_value *out)
{
    *out = self.kind == TPL_FLOAT ? self : tpl_int(tpl_integer(self));
    return tpl_bind(run, args, "conjugate", "", NULL);
}

static bool float_is_integer(struct tpl_run *run, struct tpl_value self,
                             const struct tpl_args *args, struct tpl_value *out)
{
    *out = tpl_bool(isfinite(self.as.real) && floor(self.as.real) == self.as.real);
    return tpl_bind(run, args, "is_integer", "", NULL);
}

/* ---- cycler ---- */

static bool cycler_next(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    struct tpl_cycler *cycler = self.as.cycler;
    *out = cycler->items->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->items->count;
    return tpl_bind(run, args, "next", "", NULL);
}

static bool cycler_reset(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         struct tpl_value *out)
{
    self.as.cycler->at = 0;
    *out = tpl_none();
    return tpl_bind(run, args, "reset", "", NULL);
}

static bool unsupported(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    (void)args;
    (void)out;
    return tpl_raise(run, "this method of '%s' is not supported", tpl_type_name(self.kind));
}

/* ---- tables ---- */

static const struct tpl_method list_methods[] = {
    {"count", seq_count}, {"index", seq_index}, {"copy", list_copy}, {"append", NULL},
    {"clear", NULL},      {"pop", NULL},        {"reverse", NULL},   {"insert", NULL},
    {"sort", NULL},       {"extend", NULL},     {"remove", NULL},
};
static const struct tpl_method tuple_methods[] = {{"count", seq_count}, {"index", seq_index}};
static const struct tpl_method dict_methods[] = {
    {"get", dict_get},   {"items", dict_items},       {"keys", dict_keys}, {"values", dict_values},
    {"copy", dict_copy}, {"fromkeys", dict_fromkeys}, {"clear", NULL},     {"pop", NULL},
    {"popitem", NULL},   {"setdefault", NULL},        {"update", NULL},
};
static const struct tpl_method dict_type_methods[] = {{"fromkeys", dict_fromkeys}};
static const struct tpl_method int_methods[] = {
    {"bit_length", int_bit_length},    {"conjugate", number_conjugate}, {"bit_count", unsupported},
    {"as_integer_ratio", unsupported}, {"to_bytes", unsupported},       {"from_bytes", unsupported},
};
static const struct tpl_method float_methods[] = {
    {"is_integer", float_is_integer},  {"conjugate", number_conjugate},
    {"as_integer_ratio", unsupported}, {"hex", unsupported},
    {"fromhex", unsupported},
};
static const struct tpl_method cycler_methods[] = {{"next", cycler_next}, {"reset", cycler_reset}};
static const struct tpl_method view_methods[] = {{"isdisjoint", unsupported},
                                                 {"mapping", unsupported}};

#define TABLE(methods) (methods), sizeof(methods) / sizeof *(methods)

static const struct tpl_method *find_in(const struct tpl_method *table, size_t count,
                                        struct text name)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(name, text_of(table[i].name)))
            return &table[i];
    }
    return NULL;
}

const struct tpl_method *tpl_find_method(enum tpl_kind kind, struct text name)
{
    switch (kind) {
    case TPL_STRING:
        return find_in(tpl_str_methods, tpl_str_method_count, name);
    case TPL_LIST:
        return find_in(TABLE(list_methods), name);
    case TPL_TUPLE:
    case TPL_RANGE:
        return find_in(TABLE(tuple_methods), name);
    case TPL_DICT:
        return find_in(TABLE(dict_methods), name);
    case TPL_BOOL:
    case TPL_INT:
        return find_in(TABLE(int_methods), name);
    case TPL_FLOAT:
        return find_in(TABLE(float_methods), name);
    case TPL_CYCLER:
        return find_in(TABLE(cycler_methods), name);
    case TPL_VIEW:
        return find_in(TABLE(view_methods), name);
    case TPL_FUNCTION: /* the caller lets only `dict` come here */
        return find_in(TABLE(dict_type_methods), name);
    default:
        return NULL;
    }
}
