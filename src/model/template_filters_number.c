/* Filters that give numbers, and the tests. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/template_run.h"

#define FILTER(name)                                                                               \
    static bool name(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)

/* ---- numbers ---- */

/* int(value, base) or int(float(value)), whichever works; false where neither does. */
static bool convert_int(struct tpl_run *run, struct tpl_value value, int base, bool *done,
                        struct tpl_value *out)
{
    int64_t integer = 0;
    double real;
    bool overflow = false;
    *done = tpl_is_integer(value);
    if (*done) {
        *out = tpl_int(tpl_integer(value));
        return true;
    }
    if (tpl_is_string(value)) {
        *done = tpl_parse_int(tpl_text(value), base, &integer, &overflow);
        if (overflow)
            return tpl_raise(run, "an integer of more than 64 bits");
        if (!*done && !tpl_parse_float(tpl_text(value), &real))
            return true;
    } else if (value.kind == TPL_FLOAT) {
        real = value.as.real;
    } else {
        return true;
    }
    if (!*done && isfinite(real)) {
        if (!tpl_float_to_int(real, &integer))
            return tpl_raise(run, "an integer of more than 64 bits");
        *done = true;
    }
    *out = tpl_int(integer);
    return true;
}

FILTER(filter_int)
{
    struct tpl_value argv[3];
    int64_t base;
    bool done;
    if (!tpl_bind(run, args, "int", "value default? base?", argv))
        return false;
    /* a base that is none lets int() fail, and float() be tried */
    base = !tpl_is_given(argv[2]) ? 10 : tpl_is_integer(argv[2]) ? tpl_integer(argv[2]) : 1;
    if (argv[0].kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, argv[0]);
    if (!convert_int(run, argv[0], base < 0 || base > 36 ? 1 : (int)base, &done, out))
        return false;
    if (!done)
        *out = tpl_is_given(argv[1]) ? argv[1] : tpl_int(0);
    return true;
}

FILTER(filter_float)
{
    struct tpl_value argv[2];
    double real = 0;
    if (!tpl_bind(run, args, "float", "value default?", argv))
        return false;
    if (argv[0].kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, argv[0]);
    bool done = tpl_is_string(argv[0]) ? tpl_parse_float(tpl_text(argv[0]), &real)
                                       : tpl_as_float(argv[0], &real);
    *out = done ? tpl_float(real) : tpl_is_given(argv[1]) ? argv[1] : tpl_float(0);
    return true;
}

FILTER(filter_abs)
{
    struct tpl_value value;
    if (!tpl_bind(run, args, "abs", "/x", &value))
        return false;
    if (value.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, value);
    if (value.kind == TPL_FLOAT) {
        *out = tpl_float(fabs(value.as.real));
        return true;
    }
    if (!tpl_is_integer(value))
        return tpl_raise(run, "abs needs a number, not '%s'", tpl_type_name(value.kind));
    return tpl_negate(run, value, tpl_integer(value) < 0, out);
}

/* Python rounds the exact binary value, halves to even, which is what printf does. */
static double round_decimal(double value, int64_t digits)
{
    char text[400];
    if (!isfinite(value) || digits > 322)
        return value;
    if (digits < -308)
        return copysign(0, value);
    if (digits >= 0) {
        snprintf(text, sizeof text, "%.*f", digits > 40 ? 40 : (int)digits, value);
        return digits > 40 ? value : strtod(text, NULL);
    }
    double unit = pow(10, (double)-digits), scaled = value / unit, whole = rint(scaled);
    return whole * unit;
}

static bool round_int(struct tpl_run *run, int64_t value, int64_t digits, struct tpl_value *out)
{
    int64_t unit = 1;
    *out = tpl_int(value);
    if (digits >= 0)
        return true;
    if (digits < -18) {
        *out = tpl_int(0);
        return true;
    }
    while (digits++ < 0)
        unit *= 10;
    int64_t rest = ((value % unit) + unit) % unit, down;
    if (value < INT64_MIN + unit || value > INT64_MAX - unit)
        return tpl_raise(run, "an integer of more than 64 bits");
    down = value - rest;
    bool up = rest > unit / 2 || (rest == unit / 2 && (down / unit) % 2 != 0);
    *out = tpl_int(up ? down + unit : down);
    return true;
}

static bool round_directed(struct tpl_run *run, struct tpl_value value, int64_t precision, bool up,
                           struct tpl_value *out)
{
    double real, scale = pow(10, (double)precision);
    if (!tpl_as_float(value, &real))
        return tpl_raise(run, "round needs a number");
    real *= scale;
    if (!isfinite(real))
        return tpl_raise(run, "infinity and NaN cannot be rounded");
    *out = tpl_float((up ? ceil(real) : floor(real)) / scale);
    return true;
}

FILTER(filter_round)
{
    struct tpl_value argv[3];
    struct text method = TEXT("common");
    int64_t precision;
    if (!tpl_bind(run, args, "round", "value precision? method?", argv) ||
        !tpl_arg_int(run, argv[1], 0, &precision) ||
        (tpl_is_given(argv[2]) && !tpl_arg_text(run, argv[2], "round's method", &method)))
        return false;
    if (argv[0].kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, argv[0]);
    if (text_equal(method, TEXT("ceil")) || text_equal(method, TEXT("floor")))
        return round_directed(run, argv[0], precision, method.data[0] == 'c', out);
    if (!text_equal(method, TEXT("common")))
        return tpl_raise(run, "round's method is common, ceil or floor");
    if (tpl_is_integer(argv[0]))
        return round_int(run, tpl_integer(argv[0]), precision, out);
    if (argv[0].kind != TPL_FLOAT)
        return tpl_raise(run, "round needs a number, not '%s'", tpl_type_name(argv[0].kind));
    *out = tpl_float(round_decimal(argv[0].as.real, precision));
    return true;
}

FILTER(filter_filesizeformat)
{
    static const char prefixes[] = "kMGTPEZY";
    struct tpl_value argv[2];
    char text[64];
    double bytes, unit;
    if (!tpl_bind(run, args, "filesizeformat", "value binary?", argv))
        return false;
    if (tpl_is_string(argv[0]) ? !tpl_parse_float(tpl_text(argv[0]), &bytes)
                               : !tpl_as_float(argv[0], &bytes))
        return tpl_raise(run, "filesizeformat needs a number");
    bool binary = tpl_truth(argv[1]);
    double base = binary ? 1024 : 1000;
    if (isnan(bytes) || isinf(bytes))
        return tpl_raise(run, "filesizeformat needs a finite number");
    if (bytes < base) {
        int64_t whole = bytes < -9e18 ? INT64_MIN : (int64_t)bytes;
        snprintf(text, sizeof text, bytes == 1 ? "1 Byte" : "%lld Bytes", (long long)whole);
        return tpl_copy_string(run, text_of(text), out);
    }
    size_t at = 0;
    unit = base * base;
    while (bytes >= unit && prefixes[at + 1]) {
        unit *= base;
        at++;
    }
    char prefix = binary && prefixes[at] == 'k' ? 'K' : prefixes[at];
    struct tpl_value format, values;
    snprintf(text, sizeof text, "%%.1f %c%sB", prefix, binary ? "i" : "");
    return tpl_copy_string(run, text_of(text), &format) &&
           tpl_make_list(run, TPL_TUPLE, 1, &values) &&
           (values.as.list->items[0] = tpl_float(base * bytes / unit), true) &&
           tpl_format_percent(run, format, values, out);
}

const struct tpl_function tpl_number_filters[] = {
    {"int", filter_int},
    {"float", filter_float},
    {"abs", filter_abs},
    {"round", filter_round},
    {"filesizeformat", filter_filesizeformat},
};
const size_t tpl_number_filter_count = sizeof tpl_number_filters / sizeof *tpl_number_filters;

/* ---- tests ---- */

/* Tests of one value that only look at it. */
static bool test_one(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *value)
{
    return tpl_bind(run, args, "test", "value", value);
}

#define KIND_TEST(name, condition)                                                                 \
    FILTER(name)                                                                                   \
    {                                                                                              \
        struct tpl_value value;                                                                    \
        if (!test_one(run, args, &value))                                                          \
            return false;                                                                          \
        *out = tpl_bool(condition);                                                                \
        return true;                                                                               \
    }

static bool is_callable(enum tpl_kind kind)
{
    return kind == TPL_MACRO || kind == TPL_FUNCTION || kind == TPL_METHOD || kind == TPL_LOOP ||
           kind == TPL_JOINER || kind == TPL_UNDEFINED;
}

static bool is_sequence(enum tpl_kind kind)
{
    return kind == TPL_STRING || kind == TPL_LIST || kind == TPL_TUPLE || kind == TPL_DICT ||
           kind == TPL_RANGE || kind == TPL_UNDEFINED;
}

KIND_TEST(test_defined, value.kind != TPL_UNDEFINED)
KIND_TEST(test_undefined, value.kind == TPL_UNDEFINED)
KIND_TEST(test_none, value.kind == TPL_NONE)
KIND_TEST(test_boolean, value.kind == TPL_BOOL)
KIND_TEST(test_true, value.kind == TPL_BOOL && value.as.boolean)
KIND_TEST(test_false, value.kind == TPL_BOOL && !value.as.boolean)
KIND_TEST(test_integer, value.kind == TPL_INT)
KIND_TEST(test_float, value.kind == TPL_FLOAT)
KIND_TEST(test_number, tpl_is_integer(value) || value.kind == TPL_FLOAT)
KIND_TEST(test_string, value.kind == TPL_STRING)
KIND_TEST(test_mapping, value.kind == TPL_DICT)
KIND_TEST(test_sequence, is_sequence(value.kind))
KIND_TEST(test_iterable, tpl_is_iterable(value) || value.kind == TPL_LOOP)
KIND_TEST(test_callable, is_callable(value.kind))
KIND_TEST(test_escaped, value.kind == TPL_STRING && value.as.string->markup)
#undef KIND_TEST

/* value % divisor == rest */
static bool test_rest(struct tpl_run *run, struct tpl_value value, struct tpl_value divisor,
                      int64_t rest, struct tpl_value *out)
{
    struct tpl_value modulo;
    bool equal;
    if (!tpl_binary(run, TPL_O_MOD, value, divisor, &modulo) ||
        !tpl_equal(run, modulo, tpl_int(rest), &equal))
        return false;
    *out = tpl_bool(equal);
    return true;
}

FILTER(test_odd)
{
    struct tpl_value value;
    return test_one(run, args, &value) && test_rest(run, value, tpl_int(2), 1, out);
}

FILTER(test_even)
{
    struct tpl_value value;
    return test_one(run, args, &value) && test_rest(run, value, tpl_int(2), 0, out);
}

FILTER(test_divisibleby)
{
    struct tpl_value argv[2];
    return tpl_bind(run, args, "divisibleby", "value num", argv) &&
           test_rest(run, argv[0], argv[1], 0, out);
}

static bool test_case(struct tpl_run *run, const struct tpl_args *args, enum tpl_case mapping,
                      struct tpl_value *out)
{
    struct tpl_value value;
    bool is;
    if (!test_one(run, args, &value) || !tpl_to_string(run, value, &value) ||
        !tpl_is_cased_as(run, value, mapping, &is))
        return false;
    *out = tpl_bool(is);
    return true;
}

FILTER(test_lower)
{
    return test_case(run, args, TPL_LOWER, out);
}

FILTER(test_upper)
{
    return test_case(run, args, TPL_UPPER, out);
}

/* The value is looked up among the names, which a list or a dict cannot be. */
static bool test_name(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *value)
{
    uint64_t hash;
    bool hashable;
    if (!test_one(run, args, value) || !tpl_hash(run, *value, &hash, &hashable))
        return false;
    return hashable || tpl_raise(run, "a '%s' is no name", tpl_type_name(value->kind));
}

FILTER(test_filter)
{
    struct tpl_value value;
    if (!test_name(run, args, &value))
        return false;
    *out = tpl_bool(tpl_is_string(value) && tpl_find_filter(tpl_text(value)));
    return true;
}

FILTER(test_test)
{
    struct tpl_value value;
    if (!test_name(run, args, &value))
        return false;
    *out = tpl_bool(tpl_is_string(value) && tpl_find_test(tpl_text(value)));
    return true;
}

FILTER(test_sameas)
{
    struct tpl_value argv[2];
    if (!tpl_bind(run, args, "sameas", "value other", argv))
        return false;
    *out = tpl_bool(tpl_same(argv[0], argv[1]));
    return true;
}

static bool test_operator(struct tpl_run *run, const struct tpl_args *args, enum tpl_operator op,
                          struct tpl_value *out)
{
    struct tpl_value argv[2];
    bool holds;
    /* jinja2 takes Python's own operators, which have no keywords; `in` calls them value, seq */
    const char *signature = op == TPL_O_IN ? "value seq" : "/a /b";
    if (!tpl_bind(run, args, "a comparison", signature, argv) ||
        !tpl_compare(run, op, argv[0], argv[1], &holds))
        return false;
    *out = tpl_bool(holds);
    return true;
}

#define OPERATOR_TEST(name, op)                                                                    \
    FILTER(name)                                                                                   \
    {                                                                                              \
        return test_operator(run, args, op, out);                                                  \
    }
OPERATOR_TEST(test_eq, TPL_O_EQ)
OPERATOR_TEST(test_ne, TPL_O_NE)
OPERATOR_TEST(test_lt, TPL_O_LT)
OPERATOR_TEST(test_le, TPL_O_LE)
OPERATOR_TEST(test_gt, TPL_O_GT)
OPERATOR_TEST(test_ge, TPL_O_GE)
OPERATOR_TEST(test_in, TPL_O_IN)
#undef OPERATOR_TEST

const struct tpl_function *tpl_find_test(struct text name)
{
    static const struct tpl_function tests[] = {
        {"defined", test_defined},
        {"string", test_string},
        {"none", test_none},
        {"mapping", test_mapping},
        {"iterable", test_iterable},
        {"sequence", test_sequence},
        {"undefined", test_undefined},
        {"boolean", test_boolean},
        {"false", test_false},
        {"true", test_true},
        {"number", test_number},
        {"integer", test_integer},
        {"float", test_float},
        {"callable", test_callable},
        {"escaped", test_escaped},
        {"odd", test_odd},
        {"even", test_even},
        {"divisibleby", test_divisibleby},
        {"lower", test_lower},
        {"upper", test_upper},
        {"filter", test_filter},
        {"test", test_test},
        {"sameas", test_sameas},
        {"in", test_in},
        {"==", test_eq},
        {"eq", test_eq},
        {"equalto", test_eq},
        {"!=", test_ne},
        {"ne", test_ne},
        {">", test_gt},
        {"gt", test_gt},
        {"greaterthan", test_gt},
        {">=", test_ge},
        {"ge", test_ge},
        {"<", test_lt},
        {"lt", test_lt},
        {"lessthan", test_lt},
        {"<=", test_le},
        {"le", test_le},
    };
    return tpl_find_in(tests, sizeof tests / sizeof *tests, name);
}
