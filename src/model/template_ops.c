/* Operators, attributes, items and slices with Python's meaning. */
#include <math.h>
#include <string.h>

#include "model/template_run.h"

/* ---- arithmetic ---- */

static bool overflow(struct tpl_run *run)
{
    return tpl_raise(run, "an integer of more than 64 bits");
}

static bool multiply(int64_t a, int64_t b, int64_t *out)
{
    if (a != 0 && b != 0) {
        uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a;
        uint64_t y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
        uint64_t limit = (uint64_t)INT64_MAX + ((a < 0) != (b < 0));
        if (x > limit / y)
            return false;
    }
    *out = (int64_t)((uint64_t)a * (uint64_t)b);
    return true;
}

static bool int_power(struct tpl_run *run, int64_t base, int64_t exponent, struct tpl_value *out)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0)
            return tpl_raise(run, "0 to a negative power");
        *out = tpl_float(pow((double)base, (double)exponent));
        return true;
    }
    for (; exponent; exponent >>= 1) {
        if (exponent & 1 && !multiply(result, base, &result))
            return overflow(run);
        if (exponent > 1 && !multiply(base, base, &base))
            return overflow(run);
    }
    *out = tpl_int(result);
    return true;
}

static bool int_divide(struct tpl_run *run, enum tpl_operator op, int64_t a, int64_t b,
                       struct tpl_value *out)
{
    if (b == 0)
        return tpl_raise(run, "division by zero");
    if (op == TPL_O_DIV) {
        *out = tpl_float((double)a / (double)b);
        return true;
    }
    if (a == INT64_MIN && b == -1) {
        *out = tpl_int(0);
        return op == TPL_O_MOD || overflow(run);
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    *out = tpl_int(op == TPL_O_MOD ? rest : quotient);
    return true;
}

static bool int_binary(struct tpl_run *run, enum tpl_operator op, int64_t a, int64_t b,
                       struct tpl_value *out)
{
    int64_t result;
    switch (op) {
    case TPL_O_ADD:
        if (b > 0 ? a > INT64_MAX - b : a < INT64_MIN - b)
            return overflow(run);
        *out = tpl_int(a + b);
        return true;
    case TPL_O_SUB:
        if (b < 0 ? a > INT64_MAX + b : a < INT64_MIN + b)
            return overflow(run);
        *out = tpl_int(a - b);
        return true;
    case TPL_O_MUL:
        if (!multiply(a, b, &result))
            return overflow(run);
        *out = tpl_int(result);
        return true;
    case TPL_O_POW:
        return int_power(run, a, b, out);
    default:
        return int_divide(run, op, a, b, out);
    }
}

/* CPython's way to a floor division whose quotient and rest agree. */
static double float_floor(double a, double b, double *rest)
{
    double mod = fmod(a, b), quotient = (a - mod) / b;
    if (mod != 0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            quotient -= 1;
        }
    } else {
        mod = copysign(0, b);
    }
    *rest = mod;
    if (quotient == 0)
        return copysign(0, a / b);
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static bool float_binary(struct tpl_run *run, enum tpl_operator op, double a, double b,
                         struct tpl_value *out)
{
    double result, rest;
    switch (op) {
    case TPL_O_ADD:
        result = a + b;
        break;
    case TPL_O_SUB:
        result = a - b;
        break;
    case TPL_O_MUL:
        result = a * b;
        break;
    case TPL_O_POW:
        if (a == 0 && b < 0)
            return tpl_raise(run, "0 to a negative power");
        if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
            return tpl_raise(run, "complex numbers are not supported");
        result = pow(a, b);
        if (isinf(result) && isfinite(a) && isfinite(b))
            return tpl_raise(run, "the result is too large");
        break;
    default:
        if (b == 0)
            return tpl_raise(run, "division by zero");
        result = op == TPL_O_DIV ? a / b : float_floor(a, b, &rest);
        if (op == TPL_O_MOD)
            result = rest;
    }
    *out = tpl_float(result);
    return true;
}

/* ---- sequences ---- */

static bool add_strings(struct tpl_run *run, struct tpl_value a, struct tpl_value b,
                        struct tpl_value *out)
{
    if (!a.as.string->markup && !b.as.string->markup)
        return tpl_concat(run, a, b, out);
    struct tpl_builder builder;
    tpl_builder_init(&builder, run);
    return tpl_escape(run, a, &a) && tpl_escape(run, b, &b) && tpl_add(&builder, tpl_text(a)) &&
           tpl_add(&builder, tpl_text(b)) && tpl_builder_finish(&builder, true, out);
}

static bool add_lists(struct tpl_run *run, struct tpl_value a, struct tpl_value b,
                      struct tpl_value *out)
{
    const struct tpl_list *left = a.as.list, *right = b.as.list;
    if (!tpl_make_list(run, a.kind, left->count + right->count, out))
        return false;
    if (left->count)
        memcpy(out->as.list->items, left->items, left->count * sizeof *left->items);
    if (right->count)
        memcpy(out->as.list->items + left->count, right->items,
               right->count * sizeof *right->items);
    return true;
}

static bool repeat(struct tpl_run *run, struct tpl_value value, int64_t times,
                   struct tpl_value *out)
{
    struct tpl_builder builder;
    if (value.kind == TPL_STRING) {
        tpl_builder_init(&builder, run);
        return tpl_add_repeat(&builder, tpl_text(value), times) &&
               tpl_builder_finish(&builder, value.as.string->markup, out);
    }
    const struct tpl_list *list = value.as.list;
    int64_t count = 0;
    if (times > 0 && !multiply((int64_t)list->count, times, &count))
        return tpl_charge(run, UINT64_MAX);
    if (!tpl_make_list(run, value.kind, (size_t)count, out))
        return false;
    for (size_t i = 0; i < (size_t)count; i += list->count)
        memcpy(out->as.list->items + i, list->items, list->count * sizeof *list->items);
    return true;
}

static bool is_sequence(struct tpl_value value)
{
    return value.kind == TPL_STRING || value.kind == TPL_LIST || value.kind == TPL_TUPLE;
}

static bool no_operator(struct tpl_run *run, enum tpl_operator op, struct tpl_value a,
                        struct tpl_value b)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "**"};
    if (a.kind == TPL_UNDEFINED || b.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, a.kind == TPL_UNDEFINED ? a : b);
    return tpl_raise(run, "'%s' is not possible with '%s' and '%s'", names[op],
                     tpl_type_name(a.kind), tpl_type_name(b.kind));
}

bool tpl_binary(struct tpl_run *run, enum tpl_operator op, struct tpl_value a, struct tpl_value b,
                struct tpl_value *out)
{
    double x, y;
    if (tpl_is_integer(a) && tpl_is_integer(b))
        return int_binary(run, op, tpl_integer(a), tpl_integer(b), out);
    if (tpl_as_float(a, &x) && tpl_as_float(b, &y))
        return float_binary(run, op, x, y, out);
    if (op == TPL_O_MOD && a.kind == TPL_STRING)
        return tpl_format_percent(run, a, b, out);
    if (op == TPL_O_ADD && a.kind == b.kind && is_sequence(a))
        return a.kind == TPL_STRING ? add_strings(run, a, b, out) : add_lists(run, a, b, out);
    if (op == TPL_O_MUL && is_sequence(a) && tpl_is_integer(b))
        return repeat(run, a, tpl_integer(b), out);
    if (op == TPL_O_MUL && is_sequence(b) && tpl_is_integer(a))
        return repeat(run, b, tpl_integer(a), out);
    return no_operator(run, op, a, b);
}

bool tpl_negate(struct tpl_run *run, struct tpl_value value, bool negative, struct tpl_value *out)
{
    if (tpl_is_integer(value)) {
        int64_t integer = tpl_integer(value);
        if (negative && integer == INT64_MIN)
            return overflow(run);
        *out = tpl_int(negative ? -integer : integer);
        return true;
    }
    if (value.kind == TPL_FLOAT) {
        *out = tpl_float(negative ? -value.as.real : value.as.real);
        return true;
    }
    if (value.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, value);
    return tpl_raise(run, "a sign is not possible with '%s'", tpl_type_name(value.kind));
}

/* ---- comparison ---- */

bool tpl_compare(struct tpl_run *run, enum tpl_operator op, struct tpl_value a, struct tpl_value b,
                 bool *out)
{
    bool done;
    *out = false;
    switch (op) {
    case TPL_O_EQ:
        return tpl_equal(run, a, b, out);
    case TPL_O_NE:
        done = tpl_equal(run, a, b, out);
        *out = !*out;
        return done;
    case TPL_O_LT:
        return tpl_less(run, a, b, out);
    case TPL_O_GT:
        return tpl_less(run, b, a, out);
    case TPL_O_IN:
        return tpl_contains(run, b, a, out);
    case TPL_O_NOT_IN:
        done = tpl_contains(run, b, a, out);
        *out = !*out;
        return done;
    default:
        break;
    }
    double x, y;
    if (tpl_as_float(a, &x) && tpl_as_float(b, &y)) {
        int order = tpl_compare_numbers(a, b);
        *out = order == 0 || order == (op == TPL_O_LE ? -1 : 1);
        return true;
    }
    done = op == TPL_O_LE ? tpl_less(run, b, a, out) : tpl_less(run, a, b, out);
    *out = !*out;
    return done;
}

static bool contains_item(struct tpl_run *run, struct tpl_value container, struct tpl_value item,
                          bool *out)
{
    struct tpl_iter *iter;
    struct tpl_value other;
    bool more = true;
    *out = false;
    if (!tpl_iterate(run, container, &iter))
        return false;
    while (!*out) {
        if (!tpl_next(run, iter, &other, &more))
            return false;
        if (!more)
            return true;
        *out = tpl_same(other, item);
        if (!*out && !tpl_equal(run, other, item, out))
            return false;
    }
    return true;
}

static bool contains_key(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_value key,
                         bool *out)
{
    struct tpl_value value;
    bool hashable;
    if (!tpl_dict_get(run, dict, key, &value, &hashable))
        return false;
    *out = tpl_is_given(value);
    return hashable ||
           tpl_raise(run, "a '%s' cannot be the key of a dict", tpl_type_name(key.kind));
}

bool tpl_contains(struct tpl_run *run, struct tpl_value container, struct tpl_value item, bool *out)
{
    switch (container.kind) {
    case TPL_STRING:
        if (item.kind != TPL_STRING)
            return tpl_raise(run, "'in' a string needs a string, not '%s'",
                             tpl_type_name(item.kind));
        *out = tpl_find(tpl_text(container), tpl_text(item), 0) != SIZE_MAX;
        return tpl_charge(run, container.as.string->size);
    case TPL_DICT:
        return contains_key(run, container.as.dict, item, out);
    case TPL_VIEW:
        if (container.as.view->kind == TPL_VIEW_KEYS)
            return contains_key(run, container.as.view->dict, item, out);
        return contains_item(run, container, item, out);
    default:
        return contains_item(run, container, item, out);
    }
}

/* ---- slices ---- */

struct bounds {
    int64_t start, step, count;
};

static bool bound_of(struct tpl_run *run, struct tpl_value value, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (value.kind == TPL_NONE)
        return true;
    if (!tpl_is_integer(value))
        return tpl_raise(run, "the bounds of a slice are integers, not '%s'",
                         tpl_type_name(value.kind));
    *out = tpl_integer(value);
    return true;
}

static int64_t clamp(int64_t at, int64_t length, bool backwards)
{
    if (at < 0)
        at = at + length < 0 ? (backwards ? -1 : 0) : at + length;
    else if (at >= length)
        at = backwards ? length - 1 : length;
    return at;
}

static bool resolve_bounds(struct tpl_run *run, const struct tpl_value values[3], int64_t length,
                           struct bounds *out)
{
    int64_t start, stop, step;
    if (!bound_of(run, values[2], 1, &step))
        return false;
    if (step == 0)
        return tpl_raise(run, "the step of a slice cannot be zero");
    step = step < -INT64_MAX ? -INT64_MAX : step;
    bool backwards = step < 0;
    if (!bound_of(run, values[0], backwards ? INT64_MAX : 0, &start) ||
        !bound_of(run, values[1], INT64_MAX, &stop))
        return false;
    start = clamp(start, length, backwards);
    stop = backwards && values[1].kind == TPL_NONE ? -1 : clamp(stop, length, backwards);
    out->start = start;
    out->step = step;
    out->count = 0;
    if (backwards ? stop < start : start < stop)
        out->count = backwards ? (start - stop - 1) / -step + 1 : (stop - start - 1) / step + 1;
    return true;
}

static bool slice_string(struct tpl_run *run, struct tpl_value value, const struct bounds *bounds,
                         struct tpl_value *out)
{
    struct tpl_string *string = value.as.string;
    if (bounds->step == 1 || bounds->count == 0) {
        size_t from = tpl_string_offset(run, string, (size_t)bounds->start);
        size_t to = from;
        if (bounds->count)
            to = tpl_string_offset(run, string, (size_t)(bounds->start + bounds->count));
        return tpl_substring(run, value, from, to, out);
    }
    struct tpl_builder builder;
    tpl_builder_init(&builder, run);
    size_t at = tpl_string_offset(run, string, (size_t)bounds->start);
    for (int64_t i = 0; i < bounds->count; i++) {
        uint32_t code_point;
        size_t length = tpl_decode(tpl_text(value), at, &code_point);
        if (!tpl_add(&builder, (struct text){string->data + at, length}))
            return false;
        if (i + 1 == bounds->count)
            break;
        for (int64_t skip = bounds->step; skip > 0; skip--)
            at += tpl_decode(tpl_text(value), at, &code_point);
        for (int64_t skip = bounds->step; skip < 0; skip++) {
            do
                at--;
            while (((unsigned char)string->data[at] & 0xc0) == 0x80);
        }
    }
    return tpl_builder_finish(&builder, string->markup, out);
}

static bool slice_list(struct tpl_run *run, struct tpl_value value, const struct bounds *bounds,
                       struct tpl_value *out)
{
    const struct tpl_list *list = value.as.list;
    if (bounds->step == 1) {
        /* lists never change, so that a slice shares their items */
        if (!tpl_make_list(run, value.kind, 0, out))
            return false;
        out->as.list->items = list->items + bounds->start;
        out->as.list->count = (size_t)bounds->count;
        return true;
    }
    if (!tpl_make_list(run, value.kind, (size_t)bounds->count, out))
        return false;
    for (int64_t i = 0; i < bounds->count; i++)
        out->as.list->items[i] = list->items[bounds->start + i * bounds->step];
    return true;
}

static bool slice_range(struct tpl_run *run, const struct tpl_range *range,
                        const struct bounds *bounds, struct tpl_value *out)
{
    struct tpl_range *slice = tpl_alloc(run, sizeof *slice);
    if (!slice)
        return false;
    /* unsigned, since the ends of an empty one may lie out of range */
    uint64_t first = (uint64_t)range->start + (uint64_t)bounds->start * (uint64_t)range->step;
    uint64_t step = (uint64_t)range->step * (uint64_t)(bounds->count > 1 ? bounds->step : 1);
    slice->start = (int64_t)first;
    slice->step = (int64_t)step;
    slice->count = bounds->count;
    slice->stop = (int64_t)(first + (uint64_t)bounds->count * step);
    *out = (struct tpl_value){.kind = TPL_RANGE, .as.range = slice};
    return true;
}

bool tpl_slice(struct tpl_run *run, struct tpl_value value, const struct tpl_value bounds[3],
               struct tpl_value *out)
{
    struct bounds resolved = {.step = 1};
    int64_t length = 0;
    bool sized;
    if (value.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, value);
    if (!is_sequence(value) && value.kind != TPL_RANGE)
        return tpl_raise(run, "a '%s' has no slices", tpl_type_name(value.kind));
    if (!tpl_length(run, value, &length, &sized) || !resolve_bounds(run, bounds, length, &resolved))
        return false;
    if (value.kind == TPL_STRING)
        return slice_string(run, value, &resolved, out);
    if (value.kind == TPL_RANGE)
        return slice_range(run, value.as.range, &resolved, out);
    return slice_list(run, value, &resolved, out);
}

/* ---- attributes and items ---- */

/* Names that every Python object (or every container) has and that the sandbox hides. */
static bool is_hidden(struct text name)
{
    static const char names[] =
        " class delattr dir doc eq format ge getattribute getstate gt hash init init_subclass le lt"
        " ne new reduce reduce_ex repr setattr sizeof str subclasshook len iter getitem contains"
        " call slots module ";
    char word[32];
    if (name.size < 5 || name.size > 24 || memcmp(name.data, "__", 2) != 0 ||
        memcmp(name.data + name.size - 2, "__", 2) != 0)
        return false;
    word[0] = ' ';
    memcpy(word + 1, name.data + 2, name.size - 4);
    word[name.size - 3] = ' ';
    return tpl_find(TEXT(names), (struct text){word, name.size - 2}, 0) != SIZE_MAX;
}

static bool number_attribute(struct tpl_value value, struct text name, struct tpl_value *out)
{
    bool is_float = value.kind == TPL_FLOAT;
    struct tpl_value number = is_float ? value : tpl_int(tpl_integer(value));
    if (text_equal(name, TEXT("real")) || (!is_float && text_equal(name, TEXT("numerator"))))
        *out = number;
    else if (text_equal(name, TEXT("imag")))
        *out = is_float ? tpl_float(0) : tpl_int(0);
    else if (!is_float && text_equal(name, TEXT("denominator")))
        *out = tpl_int(1);
    return true;
}

static bool macro_attribute(struct tpl_run *run, const struct tpl_macro *macro, struct text name,
                            struct tpl_value *out)
{
    const struct tpl_macro_def *def = macro->def;
    if (text_equal(name, TEXT("name")))
        *out = def->name;
    else if (text_equal(name, TEXT("catch_kwargs")))
        *out = tpl_bool(def->wants_kwargs);
    else if (text_equal(name, TEXT("catch_varargs")))
        *out = tpl_bool(def->wants_varargs);
    else if (text_equal(name, TEXT("caller")))
        *out = tpl_bool(def->wants_caller);
    else if (text_equal(name, TEXT("explicit_caller")))
        *out = tpl_bool(def->explicit_caller);
    if (!text_equal(name, TEXT("arguments")))
        return true;
    if (!tpl_make_list(run, TPL_TUPLE, def->count, out))
        return false;
    size_t i = 0;
    for (const struct tpl_node *param = def->params; param; param = param->next, i++) {
        if (!tpl_make_string(run, run->tpl->names[param->as.name.ref.name],
                             &out->as.list->items[i]))
            return false;
    }
    return true;
}

static bool cycler_attribute(const struct tpl_cycler *cycler, struct text name,
                             struct tpl_value *out)
{
    if (text_equal(name, TEXT("current")))
        *out = cycler->items->items[cycler->at];
    else if (text_equal(name, TEXT("pos")))
        *out = tpl_int((int64_t)cycler->at);
    else if (text_equal(name, TEXT("items")))
        *out = (struct tpl_value){.kind = TPL_TUPLE, .as.list = cycler->items};
    return true;
}

/* Attributes that are no methods. */
static bool data_attribute(struct tpl_run *run, struct tpl_value object, struct text name,
                           struct tpl_value *out)
{
    switch (object.kind) {
    case TPL_BOOL:
    case TPL_INT:
    case TPL_FLOAT:
        return number_attribute(object, name, out);
    case TPL_TUPLE:
        if (object.as.list->group && text_equal(name, TEXT("grouper")))
            *out = object.as.list->items[0];
        else if (object.as.list->group && text_equal(name, TEXT("list")))
            *out = object.as.list->items[1];
        return true;
    case TPL_RANGE:
        if (text_equal(name, TEXT("start")))
            *out = tpl_int(object.as.range->start);
        else if (text_equal(name, TEXT("stop")))
            *out = tpl_int(object.as.range->stop);
        else if (text_equal(name, TEXT("step")))
            *out = tpl_int(object.as.range->step);
        return true;
    case TPL_LOOP:
        return tpl_loop_attribute(run, object.as.loop, name, out);
    case TPL_MACRO:
        return macro_attribute(run, object.as.macro, name, out);
    case TPL_CYCLER:
        return cycler_attribute(object.as.cycler, name, out);
    case TPL_JOINER:
        if (text_equal(name, TEXT("sep")))
            *out = object.as.joiner->separator;
        else if (text_equal(name, TEXT("used")))
            *out = tpl_bool(object.as.joiner->used);
        return true;
    default:
        return true;
    }
}

static bool unsafe(struct tpl_run *run, struct tpl_value object, struct text name,
                   struct tpl_value *out)
{
    struct tpl_value string;
    return tpl_make_string(run, name, &string) &&
           tpl_make_undefined(run, object.kind, string, true, out);
}

bool tpl_attribute(struct tpl_run *run, struct tpl_value object, struct text name,
                   struct tpl_value *out)
{
    *out = tpl_missing();
    if (object.kind == TPL_NAMESPACE) {
        if (text_equal(name, TEXT("__class__")) || text_equal(name, TEXT("_Namespace__attrs")))
            return unsafe(run, object, name, out);
        return tpl_dict_get_text(run, object.as.dict, name, out);
    }
    if (is_hidden(name))
        return unsafe(run, object, name, out);
    if (object.kind == TPL_UNDEFINED) {
        if (text_starts_with(name, TEXT("_undefined_")) ||
            text_equal(name, TEXT("_fail_with_undefined_error")))
            return unsafe(run, object, name, out);
        return tpl_raise_undefined(run, object);
    }
    if (!data_attribute(run, object, name, out))
        return false;
    if (tpl_is_given(*out))
        return true;
    const struct tpl_method *method = tpl_find_method(object.kind, name);
    if (object.kind == TPL_FUNCTION && !text_equal(text_of(object.as.function->name), TEXT("dict")))
        method = NULL;
    if (!method)
        return true;
    return method->call ? tpl_make_bound(run, method, object, out) : unsafe(run, object, name, out);
}

bool tpl_getattr(struct tpl_run *run, struct tpl_value object, struct tpl_value name,
                 struct tpl_value *out)
{
    if (!tpl_attribute(run, object, tpl_text(name), out))
        return false;
    if (!tpl_is_given(*out) && object.kind == TPL_DICT &&
        !tpl_dict_get(run, object.as.dict, name, out, NULL))
        return false;
    return tpl_is_given(*out) || tpl_make_undefined(run, object.kind, name, false, out);
}

/* object[key] as far as it needs no attribute; TPL_MISSING where Python raises. */
static bool item(struct tpl_run *run, struct tpl_value object, struct tpl_value key,
                 struct tpl_value *out)
{
    int64_t length = 0;
    bool sized;
    *out = tpl_missing();
    if (object.kind == TPL_DICT)
        return tpl_dict_get(run, object.as.dict, key, out, NULL);
    if ((!is_sequence(object) && object.kind != TPL_RANGE) || !tpl_is_integer(key))
        return true;
    if (!tpl_length(run, object, &length, &sized))
        return false;
    int64_t at = tpl_integer(key);
    at = at < 0 ? at + length : at;
    if (at < 0 || at >= length)
        return true;
    if (object.kind == TPL_RANGE) {
        *out = tpl_int(object.as.range->start + at * object.as.range->step);
        return true;
    }
    if (object.kind != TPL_STRING) {
        *out = object.as.list->items[at];
        return true;
    }
    uint32_t code_point;
    size_t from = tpl_string_offset(run, object.as.string, (size_t)at);
    size_t size = tpl_decode(tpl_text(object), from, &code_point);
    return tpl_substring(run, object, from, from + size, out);
}

bool tpl_getitem(struct tpl_run *run, struct tpl_value object, struct tpl_value key,
                 struct tpl_value *out)
{
    if (object.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, object);
    if (!item(run, object, key, out))
        return false;
    if (!tpl_is_given(*out) && tpl_is_string(key) &&
        !tpl_attribute(run, object, tpl_text(key), out))
        return false;
    return tpl_is_given(*out) || tpl_make_undefined(run, object.kind, key, false, out);
}
