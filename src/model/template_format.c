/* Formatting: str % args, str.format() with its specifications, and strftime. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/os.h"
#include "model/template_run.h"

/* What both kinds of specification say. */
struct spec {
    uint32_t fill;
    char align; /* '<', '>', '^', '=' or 0 */
    char sign;  /* '+', ' ' or '-' */
    bool alternate, zero;
    int64_t width, precision; /* precision -1: not given */
    char grouping;            /* ',' or '_' or 0 */
    char type;                /* 0: not given */
};

#define PRECISION_MAX 300

static struct text before_point(struct text digits)
{
    size_t size = 0;
    while (size < digits.size && digits.data[size] >= '0' && digits.data[size] <= '9')
        size++;
    return (struct text){digits.data, size};
}

/* The digits with a separator between every `every` of them, counted from the right; padded with
 * zeros to `width` characters where that is more. */
static bool add_grouped(struct tpl_builder *builder, struct text digits, const struct spec *spec,
                        size_t every, int64_t width)
{
    size_t count = digits.size;
    int64_t length = (int64_t)count + (int64_t)((count - (count > 0)) / every);
    size_t zeros = 0;
    while (length < width) {
        zeros++;
        length = (int64_t)(count + zeros) + (int64_t)((count + zeros - 1) / every);
        if (!tpl_charge(builder->run, 1))
            return false;
    }
    for (size_t i = 0; i < zeros + count; i++) {
        if (i > 0 && (zeros + count - i) % every == 0 && !tpl_add_char(builder, spec->grouping))
            return false;
        if (!tpl_add_char(builder, i < zeros ? '0' : digits.data[i - zeros]))
            return false;
    }
    return true;
}

/* Sign or prefix, then the number, aligned in the width. */
static bool add_number(struct tpl_builder *builder, const struct spec *spec, struct text prefix,
                       struct text number)
{
    struct text whole = before_point(number);
    size_t every = strchr("bBoxX", spec->type ? spec->type : 'd') ? 4 : 3;
    if (every == 4)
        whole = number;
    struct text rest = {number.data + whole.size, number.size - whole.size};
    struct tpl_builder digits;
    int64_t inner = 0;
    tpl_builder_init(&digits, builder->run);
    if (spec->align == '=' && spec->fill == '0')
        inner = spec->width - (int64_t)prefix.size - (int64_t)rest.size;
    bool done = spec->grouping && whole.size ? add_grouped(&digits, whole, spec, every, inner)
                                             : tpl_add(&digits, whole);
    if (!done || !tpl_add(&digits, rest))
        return false;
    int64_t room = spec->width - (int64_t)(prefix.size + digits.size);
    room = room < 0 ? 0 : room;
    int64_t left = spec->align == '<' ? 0 : spec->align == '^' ? room / 2 : room;
    char fill[4];
    struct text pad = {fill, 0};
    struct tpl_builder one;
    tpl_builder_init(&one, builder->run);
    if (!tpl_add_point(&one, spec->fill))
        return false;
    pad = (struct text){one.data, one.size};
    if (spec->align == '=')
        return tpl_add(builder, prefix) && tpl_add_repeat(builder, pad, room) &&
               tpl_add(builder, (struct text){digits.data, digits.size});
    return tpl_add_repeat(builder, pad, left) && tpl_add(builder, prefix) &&
           tpl_add(builder, (struct text){digits.data, digits.size}) &&
           tpl_add_repeat(builder, pad, room - left);
}

static size_t sign_of(bool negative, const struct spec *spec, char *out)
{
    if (!negative && spec->sign != '+' && spec->sign != ' ')
        return 0;
    *out = negative ? '-' : spec->sign;
    return 1;
}

static bool format_int(struct tpl_builder *builder, const struct spec *spec, int64_t value,
                       bool c_style)
{
    char digits[72], prefix[4];
    char type = spec->type == 0 || spec->type == 'n' ? 'd' : spec->type;
    unsigned base = type == 'x' || type == 'X' ? 16 : type == 'o' ? 8 : type == 'b' ? 2 : 10;
    size_t at = sizeof digits, used = sign_of(value < 0, spec, prefix);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[rest % base];
        rest /= base;
    } while (rest);
    while (c_style && spec->precision >= 0 && (int64_t)(sizeof digits - at) < spec->precision &&
           at > 0)
        digits[--at] = '0';
    if (spec->alternate && base != 10) {
        prefix[used++] = '0';
        prefix[used++] = type;
    }
    return add_number(builder, spec, (struct text){prefix, used},
                      (struct text){digits + at, sizeof digits - at});
}

static bool format_float(struct tpl_builder *builder, const struct spec *spec, double value)
{
    char prefix[2], format[16], type = spec->type ? spec->type : 'g';
    size_t used = sign_of(signbit(value) && !isnan(value), spec, prefix);
    int precision = spec->precision < 0 ? 6 : (int)spec->precision;
    bool percent = type == '%', upper = type == 'E' || type == 'G' || type == 'F';
    value = fabs(value);
    if (isnan(value) || isinf(value)) {
        struct spec plain = *spec;
        struct text word = isnan(value) ? (upper ? TEXT("NAN") : TEXT("nan"))
                                        : (upper ? TEXT("INF") : TEXT("inf"));
        plain.grouping = 0;
        return add_number(builder, &plain, (struct text){prefix, used}, word);
    }
    char text[TPL_NUMBER_MAX + 1000];
    size_t size;
    if (spec->type == 0 && spec->precision < 0) {
        size = tpl_format_float(value, text);
    } else {
        snprintf(format, sizeof format, "%%%s.*%c", spec->alternate ? "#" : "",
                 percent       ? 'f'
                 : type == 'n' ? 'g'
                               : type);
        int written =
            snprintf(text, sizeof text - 1, format, precision, percent ? value * 100 : value);
        size = written < 0 ? 0 : (size_t)written;
        size = size > sizeof text - 2 ? sizeof text - 2 : size;
        for (size_t i = 0; i < size; i++)
            text[i] = text[i] == ',' ? '.' : text[i]; /* a locale's decimal comma */
        if (spec->type == 0 && !memchr(text, '.', size) && !memchr(text, 'e', size)) {
            memcpy(text + size, ".0", 2);
            size += 2;
        }
        if (percent)
            text[size++] = '%';
    }
    return add_number(builder, spec, (struct text){prefix, used}, (struct text){text, size});
}

static bool format_string(struct tpl_builder *builder, const struct spec *spec,
                          struct tpl_value string)
{
    struct tpl_run *run = builder->run;
    if (spec->precision >= 0 &&
        (uint64_t)spec->precision < tpl_string_points(run, string.as.string)) {
        size_t to = tpl_string_offset(run, string.as.string, (size_t)spec->precision);
        if (!tpl_substring(run, string, 0, to, &string))
            return false;
    }
    int64_t room = spec->width - (int64_t)tpl_string_points(run, string.as.string);
    room = room < 0 ? 0 : room;
    int64_t left = spec->align == '>' ? room : spec->align == '^' ? room / 2 : 0;
    struct tpl_builder fill;
    tpl_builder_init(&fill, run);
    if (!tpl_add_point(&fill, spec->fill))
        return false;
    struct text pad = {fill.data, fill.size};
    return tpl_add_repeat(builder, pad, left) && tpl_add(builder, tpl_text(string)) &&
           tpl_add_repeat(builder, pad, room - left);
}

/* ---- str % args ---- */

struct percent {
    struct tpl_run *run;
    struct tpl_builder builder;
    struct text format;
    size_t at;
    struct tpl_value args;
    size_t used; /* items of a tuple that were taken */
    bool markup, mapping_used;
};

static bool next_argument(struct percent *percent, struct tpl_value *out)
{
    if (percent->args.kind == TPL_TUPLE) {
        if (percent->used >= percent->args.as.list->count)
            return tpl_raise(percent->run, "not enough arguments for the format");
        *out = percent->args.as.list->items[percent->used++];
        return true;
    }
    if (percent->used++ > 0)
        return tpl_raise(percent->run, "not enough arguments for the format");
    *out = percent->args;
    return true;
}

/* %(key)… */
static bool keyed_argument(struct percent *percent, struct tpl_value *out)
{
    size_t from = percent->at, nesting = 1;
    for (; percent->at < percent->format.size; percent->at++) {
        char byte = percent->format.data[percent->at];
        nesting += byte == '(';
        nesting -= byte == ')';
        if (nesting == 0)
            break;
    }
    if (percent->at == percent->format.size)
        return tpl_raise(percent->run, "an incomplete key in a format");
    struct text key = {percent->format.data + from, percent->at++ - from};
    if (percent->args.kind != TPL_DICT)
        return tpl_raise(percent->run, "the format needs a mapping");
    percent->mapping_used = true;
    if (!tpl_dict_get_text(percent->run, percent->args.as.dict, key, out))
        return false;
    return tpl_is_given(*out) ||
           tpl_raise(percent->run, "no argument '%.*s' for the format", TEXT_ARGS(key));
}

/* A width or precision: digits or "*". */
static bool read_count(struct percent *percent, int64_t *out)
{
    if (percent->at < percent->format.size && percent->format.data[percent->at] == '*') {
        struct tpl_value value;
        percent->at++;
        return next_argument(percent, &value) && tpl_arg_int(percent->run, value, 0, out);
    }
    for (*out = 0; percent->at < percent->format.size; percent->at++) {
        char byte = percent->format.data[percent->at];
        if (byte < '0' || byte > '9')
            break;
        if (*out > INT32_MAX / 10)
            return tpl_raise(percent->run, "a width that is too large");
        *out = *out * 10 + (byte - '0');
    }
    return true;
}

static bool read_flags(struct percent *percent, struct spec *spec)
{
    for (; percent->at < percent->format.size; percent->at++) {
        char byte = percent->format.data[percent->at];
        if (byte == '-')
            spec->align = '<';
        else if (byte == '+' || (byte == ' ' && spec->sign != '+'))
            spec->sign = byte;
        else if (byte == '#')
            spec->alternate = true;
        else if (byte == '0')
            spec->zero = true;
        else if (byte != ' ')
            break;
    }
    if (!read_count(percent, &spec->width))
        return false;
    if (spec->width < 0) {
        spec->align = '<';
        spec->width = -spec->width;
    }
    if (percent->at < percent->format.size && percent->format.data[percent->at] == '.') {
        percent->at++;
        if (!read_count(percent, &spec->precision))
            return false;
        spec->precision = spec->precision < 0 ? 0 : spec->precision;
    }
    while (percent->at < percent->format.size && strchr("hlL", percent->format.data[percent->at]))
        percent->at++;
    return true;
}

static bool add_percent_text(struct percent *percent, struct spec *spec, struct tpl_value value)
{
    struct tpl_builder builder;
    tpl_builder_init(&builder, percent->run);
    if (spec->type == 's'
            ? !tpl_to_string(percent->run, value, &value)
            : !(tpl_add_repr(&builder, value) && tpl_builder_finish(&builder, false, &value)))
        return false;
    if (percent->markup && !tpl_escape(percent->run, value, &value))
        return false;
    return format_string(&percent->builder, spec, value);
}

static bool add_percent_char(struct percent *percent, struct spec *spec, struct tpl_value value)
{
    struct tpl_builder builder;
    spec->precision = -1;
    if (tpl_is_string(value)) {
        if (tpl_string_points(percent->run, value.as.string) != 1)
            return tpl_raise(percent->run, "%%c needs one character");
        return format_string(&percent->builder, spec, value);
    }
    tpl_builder_init(&builder, percent->run);
    int64_t code = tpl_is_integer(value) ? tpl_integer(value) : -1;
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return tpl_raise(percent->run, "%%c needs a character");
    return tpl_add_point(&builder, (uint32_t)code) && tpl_builder_finish(&builder, false, &value) &&
           format_string(&percent->builder, spec, value);
}

static bool add_percent_number(struct percent *percent, struct spec *spec, struct tpl_value value)
{
    double real;
    int64_t integer;
    if (spec->zero && spec->align != '<') {
        spec->fill = '0';
        spec->align = '=';
    }
    if (!tpl_as_float(value, &real)) {
        if (value.kind == TPL_UNDEFINED && !strchr("xXo", spec->type))
            return tpl_raise_undefined(percent->run, value);
        return tpl_raise(percent->run, "%%%c needs a number, not '%s'", spec->type,
                         tpl_type_name(value.kind));
    }
    if (strchr("eEfFgG", spec->type)) {
        if (spec->precision > PRECISION_MAX)
            return tpl_raise(percent->run, "a precision that is too large");
        return format_float(&percent->builder, spec, real);
    }
    if (value.kind == TPL_FLOAT) {
        if (strchr("xXo", spec->type) || !tpl_float_to_int(real, &integer))
            return tpl_raise(percent->run, "%%%c needs an integer", spec->type);
    } else {
        integer = tpl_integer(value);
    }
    if (spec->precision > 60)
        return tpl_raise(percent->run, "a precision that is too large");
    spec->type = strchr("iu", spec->type) ? 'd' : spec->type;
    return format_int(&percent->builder, spec, integer, true);
}

static bool add_directive(struct percent *percent)
{
    struct spec spec = {.fill = ' ', .align = '>', .sign = '-', .precision = -1};
    struct tpl_value value = tpl_missing();
    if (percent->at < percent->format.size && percent->format.data[percent->at] == '(') {
        percent->at++;
        if (!keyed_argument(percent, &value))
            return false;
    }
    if (!read_flags(percent, &spec))
        return false;
    if (percent->at == percent->format.size)
        return tpl_raise(percent->run, "an incomplete format");
    spec.type = percent->format.data[percent->at++];
    if (spec.type == '%')
        return tpl_add_char(&percent->builder, '%');
    if (spec.type == '\0' || !strchr("srdiuxXoeEfFgGc", spec.type))
        return tpl_raise(percent->run, "an unknown format character");
    if (!tpl_is_given(value) && !next_argument(percent, &value))
        return false;
    if (spec.type == 's' || spec.type == 'r')
        return add_percent_text(percent, &spec, value);
    return spec.type == 'c' ? add_percent_char(percent, &spec, value)
                            : add_percent_number(percent, &spec, value);
}

bool tpl_format_percent(struct tpl_run *run, struct tpl_value format, struct tpl_value args,
                        struct tpl_value *out)
{
    struct percent percent = {
        .run = run, .format = tpl_text(format), .args = args, .markup = format.as.string->markup};
    tpl_builder_init(&percent.builder, run);
    while (percent.at < percent.format.size) {
        struct text rest = {percent.format.data + percent.at, percent.format.size - percent.at};
        size_t sign = tpl_find(rest, TEXT("%"), 0);
        size_t size = sign == SIZE_MAX ? rest.size : sign;
        if (!tpl_add(&percent.builder, (struct text){rest.data, size}))
            return false;
        percent.at += size + (sign != SIZE_MAX);
        if (sign != SIZE_MAX && !add_directive(&percent))
            return false;
    }
    /* a mapping (which a list counts as here) may have more than the format takes */
    bool mapping = args.kind == TPL_DICT || args.kind == TPL_LIST || args.kind == TPL_UNDEFINED ||
                   args.kind == TPL_RANGE;
    size_t given = args.kind == TPL_TUPLE ? args.as.list->count : 1;
    if (percent.used < given && !mapping)
        return tpl_raise(run, "not all arguments were used by the format");
    return tpl_builder_finish(&percent.builder, percent.markup, out);
}

/* ---- str.format() ---- */

struct braces {
    struct tpl_run *run;
    struct tpl_builder builder;
    const struct tpl_args *args;
    int64_t automatic; /* the next argument of {}; -1 once a number was written */
    bool markup;
};

static bool is_decimal(struct text text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.size > 0 && text.size < 10;
}

static bool positional(struct braces *braces, int64_t at, struct tpl_value *out)
{
    if (at < 0 || (uint64_t)at >= braces->args->count)
        return tpl_raise(braces->run, "format() has no argument %lld", (long long)at);
    *out = braces->args->items[at];
    return true;
}

static bool first_value(struct braces *braces, struct text name, bool whole, struct tpl_value *out)
{
    if (name.size == 0 && whole) {
        if (braces->automatic < 0)
            return tpl_raise(braces->run, "format() mixes {} and numbers");
        return positional(braces, braces->automatic++, out);
    }
    if (is_decimal(name)) {
        if (braces->automatic > 0)
            return tpl_raise(braces->run, "format() mixes {} and numbers");
        braces->automatic = -1;
        return positional(braces, strtol(name.data, NULL, 10), out);
    }
    for (size_t i = 0; i < braces->args->named_count; i++) {
        struct tpl_value key = braces->args->named[i].key;
        if (tpl_is_string(key) && text_equal(tpl_text(key), name)) {
            *out = braces->args->named[i].value;
            return true;
        }
    }
    return tpl_raise(braces->run, "format() has no argument '%.*s'", TEXT_ARGS(name));
}

/* name.attribute[item]… with the sandbox's rules for attributes. */
static bool field_value(struct braces *braces, struct text field, struct tpl_value *out)
{
    size_t at = 0;
    while (at < field.size && field.data[at] != '.' && field.data[at] != '[')
        at++;
    if (!first_value(braces, (struct text){field.data, at}, at == field.size, out))
        return false;
    while (at < field.size) {
        bool item = field.data[at++] == '[';
        size_t from = at;
        while (at < field.size &&
               (item ? field.data[at] != ']' : field.data[at] != '.' && field.data[at] != '['))
            at++;
        struct text name = {field.data + from, at - from};
        struct tpl_value key, object = *out;
        if (name.size == 0 || (item && at == field.size))
            return tpl_raise(braces->run, "an incomplete field in a format");
        at += item;
        if (item && at < field.size && field.data[at] != '.' && field.data[at] != '[')
            return tpl_raise(braces->run, "an unexpected character behind ] in a format");
        if (item && is_decimal(name))
            key = tpl_int(strtol(name.data, NULL, 10));
        else if (!tpl_make_string(braces->run, name, &key))
            return false;
        if (!(item ? tpl_getitem : tpl_getattr)(braces->run, object, key, out))
            return false;
    }
    return true;
}

static bool is_align(char byte)
{
    return byte == '<' || byte == '>' || byte == '^' || byte == '=';
}

static bool read_digits(struct tpl_run *run, struct text text, size_t *at, int64_t *out)
{
    for (; *at < text.size && text.data[*at] >= '0' && text.data[*at] <= '9'; ++*at) {
        *out = (*out < 0 ? 0 : *out) * 10 + (text.data[*at] - '0');
        if (*out > INT32_MAX)
            return tpl_raise(run, "a width that is too large");
    }
    return true;
}

static bool read_spec(struct tpl_run *run, struct text text, struct spec *spec)
{
    size_t at = 0, length = 0;
    *spec = (struct spec){.fill = ' ', .sign = '-', .precision = -1};
    if (text.size) {
        uint32_t fill;
        length = tpl_decode(text, 0, &fill);
        if (length < text.size && is_align(text.data[length])) {
            spec->fill = fill;
            spec->align = text.data[length];
            at = length + 1;
        } else if (is_align(text.data[0])) {
            spec->align = text.data[at++];
        }
    }
    if (at < text.size && strchr("+- ", text.data[at]) && text.data[at])
        spec->sign = text.data[at++];
    at += at < text.size && text.data[at] == 'z';
    if (at < text.size && text.data[at] == '#') {
        spec->alternate = true;
        at++;
    }
    if (at < text.size && text.data[at] == '0') {
        spec->zero = true;
        at++;
    }
    if (!read_digits(run, text, &at, &spec->width))
        return false;
    if (at < text.size && (text.data[at] == ',' || text.data[at] == '_'))
        spec->grouping = text.data[at++];
    if (at < text.size && text.data[at] == '.') {
        at++;
        if (!read_digits(run, text, &at, &spec->precision))
            return false;
        if (spec->precision < 0)
            return tpl_raise(run, "a format lacks its precision");
    }
    if (at < text.size)
        spec->type = text.data[at++];
    return at == text.size || tpl_raise(run, "an invalid format specification");
}

static bool format_number_spec(struct braces *braces, struct spec *spec, struct tpl_value value)
{
    struct tpl_run *run = braces->run;
    double real;
    if (spec->zero && !spec->align) {
        spec->fill = '0';
        spec->align = '=';
    }
    spec->align = spec->align ? spec->align : '>';
    tpl_as_float(value, &real);
    if (tpl_is_integer(value) && (spec->type == 0 || strchr("bcdoxXn", spec->type))) {
        if (spec->precision >= 0)
            return tpl_raise(run, "an integer has no precision");
        if (spec->type == 'c')
            return tpl_raise(run, "the format c is not supported");
        return format_int(&braces->builder, spec, tpl_integer(value), false);
    }
    if (spec->type && !strchr("eEfFgGn%", spec->type))
        return tpl_raise(run, "an unknown format code for a number");
    if (spec->precision > PRECISION_MAX)
        return tpl_raise(run, "a precision that is too large");
    return format_float(&braces->builder, spec, real);
}

/* format(value, spec) */
static bool add_formatted(struct braces *braces, struct tpl_value value, struct text text)
{
    struct spec spec;
    struct tpl_run *run = braces->run;
    bool number = tpl_is_integer(value) || value.kind == TPL_FLOAT;
    if (text.size == 0) {
        if (!tpl_to_string(run, value, &value) ||
            (braces->markup && !tpl_escape(run, value, &value)))
            return false;
        return tpl_add(&braces->builder, tpl_text(value));
    }
    if (!number && !tpl_is_string(value))
        return tpl_raise(run, "'%s' has no format specification", tpl_type_name(value.kind));
    if (!read_spec(run, text, &spec))
        return false;
    if (number)
        return format_number_spec(braces, &spec, value);
    if ((spec.type && spec.type != 's') || spec.align == '=' || spec.grouping || spec.alternate ||
        spec.sign != '-')
        return tpl_raise(run, "a format specification that is not one for strings");
    if (spec.zero && !spec.align)
        spec.fill = '0';
    spec.align = spec.align ? spec.align : '<';
    if (braces->markup && !tpl_escape(run, value, &value))
        return false;
    return format_string(&braces->builder, &spec, value);
}

static bool convert(struct braces *braces, char conversion, struct tpl_value *value)
{
    struct tpl_builder builder;
    if (conversion == 's')
        return tpl_to_string(braces->run, *value, value);
    if (conversion != 'r')
        return tpl_raise(braces->run, "an unknown conversion in a format");
    tpl_builder_init(&builder, braces->run);
    return tpl_add_repr(&builder, *value) && tpl_builder_finish(&builder, false, value);
}

/* Where the field that begins at `at` ends: its "}", with braces inside counted. */
static size_t field_end(struct text format, size_t at)
{
    size_t nesting = 1;
    bool bracket = false;
    for (; at < format.size; at++) {
        char byte = format.data[at];
        if (bracket) {
            bracket = byte != ']';
            continue;
        }
        bracket = byte == '[';
        nesting += byte == '{';
        nesting -= byte == '}';
        if (nesting == 0)
            return at;
    }
    return SIZE_MAX;
}

static bool expand(struct braces *braces, struct text format, unsigned depth);

/* The specification, whose own fields are expanded first. */
static bool expand_spec(struct braces *braces, struct text spec, unsigned depth, struct text *out)
{
    struct tpl_value text;
    *out = spec;
    if (spec.size == 0 || !memchr(spec.data, '{', spec.size))
        return true;
    struct tpl_builder outer = braces->builder;
    tpl_builder_init(&braces->builder, braces->run);
    bool done = expand(braces, spec, depth) && tpl_builder_finish(&braces->builder, false, &text);
    braces->builder = outer;
    if (done)
        *out = tpl_text(text);
    return done;
}

static bool add_field(struct braces *braces, struct text field, unsigned depth)
{
    size_t at = 0;
    bool bracket = false;
    char conversion = '\0';
    while (at < field.size && (bracket || (field.data[at] != '!' && field.data[at] != ':'))) {
        if (!bracket && (field.data[at] == '{' || field.data[at] == '}'))
            return tpl_raise(braces->run, "a brace inside a field's name");
        bracket = field.data[at] == '[' || (bracket && field.data[at] != ']');
        at++;
    }
    struct text name = {field.data, at}, spec = {field.data + field.size, 0};
    struct tpl_value value;
    if (at < field.size && field.data[at] == '!') {
        if (at + 1 >= field.size)
            return tpl_raise(braces->run, "an incomplete conversion in a format");
        conversion = field.data[at + 1];
        at += 2;
        if (at < field.size && field.data[at] != ':')
            return tpl_raise(braces->run, "expected ':' behind a conversion");
    }
    if (at < field.size)
        spec = (struct text){field.data + at + 1, field.size - at - 1};
    return field_value(braces, name, &value) &&
           (conversion == '\0' || convert(braces, conversion, &value)) &&
           expand_spec(braces, spec, depth, &spec) && add_formatted(braces, value, spec);
}

/* Fields may stand in specifications, one level deep. */
static bool expand(struct braces *braces, struct text format, unsigned depth)
{
    if (depth > 1)
        return tpl_raise(braces->run, "fields are nested too deep in a format");
    for (size_t at = 0; at < format.size;) {
        char byte = format.data[at];
        if (byte != '{' && byte != '}') {
            size_t from = at;
            while (at < format.size && format.data[at] != '{' && format.data[at] != '}')
                at++;
            if (!tpl_add(&braces->builder, (struct text){format.data + from, at - from}))
                return false;
            continue;
        }
        if (at + 1 < format.size && format.data[at + 1] == byte) {
            if (!tpl_add_char(&braces->builder, byte))
                return false;
            at += 2;
            continue;
        }
        size_t end = byte == '{' ? field_end(format, at + 1) : SIZE_MAX;
        if (end == SIZE_MAX)
            return tpl_raise(braces->run, "a single brace in a format");
        if (!add_field(braces, (struct text){format.data + at + 1, end - at - 1}, depth + 1))
            return false;
        at = end + 1;
    }
    return true;
}

bool tpl_format_braces(struct tpl_run *run, struct tpl_value format, const struct tpl_args *args,
                       struct tpl_value *out)
{
    struct braces braces = {.run = run, .args = args, .markup = format.as.string->markup};
    tpl_builder_init(&braces.builder, run);
    return expand(&braces, tpl_text(format), 0) &&
           tpl_builder_finish(&braces.builder, braces.markup, out);
}

/* ---- strftime ---- */

static const char *const month_names[] = {"January",   "February", "March",    "April",
                                          "May",       "June",     "July",     "August",
                                          "September", "October",  "November", "December"};
static const char *const day_names[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                        "Thursday", "Friday", "Saturday"};

static bool add_count(struct tpl_builder *builder, int value, int width, char pad)
{
    char text[24];
    snprintf(text, sizeof text, pad == '0' ? "%0*d" : "%*d", pad == '-' ? 0 : width, value);
    return tpl_add(builder, text_of(text));
}

static int iso_weeks(int year)
{
    /* 53 where 1 January is a Thursday, or a Wednesday of a leap year */
    int before = year - 1;
    int first = (1 + before + before / 4 - before / 100 + before / 400) % 7;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return first == 4 || (leap && first == 3) ? 53 : 52;
}

static int iso_week(const struct tm *now, int *year)
{
    int weekday = now->tm_wday == 0 ? 7 : now->tm_wday;
    int week = (now->tm_yday + 1 - weekday + 10) / 7;
    *year = now->tm_year + 1900;
    if (week < 1)
        return iso_weeks(--*year);
    if (week > iso_weeks(*year)) {
        ++*year;
        return 1;
    }
    return week;
}

static bool add_time(struct tpl_builder *builder, const struct tm *now, const char *format,
                     int64_t unix_seconds);

static bool add_time_number(struct tpl_builder *builder, const struct tm *now, char kind, char pad)
{
    int hour = now->tm_hour % 12 == 0 ? 12 : now->tm_hour % 12;
    int monday = (now->tm_wday + 6) % 7, year;
    char zero = pad ? pad : '0', space = pad ? pad : ' ';
    switch (kind) {
    case 'd':
        return add_count(builder, now->tm_mday, 2, zero);
    case 'e':
        return add_count(builder, now->tm_mday, 2, space);
    case 'm':
        return add_count(builder, now->tm_mon + 1, 2, zero);
    case 'Y':
        return add_count(builder, now->tm_year + 1900, 0, '-');
    case 'y':
        return add_count(builder, now->tm_year % 100, 2, zero);
    case 'C':
        return add_count(builder, (now->tm_year + 1900) / 100, 2, zero);
    case 'H':
        return add_count(builder, now->tm_hour, 2, zero);
    case 'k':
        return add_count(builder, now->tm_hour, 2, space);
    case 'I':
        return add_count(builder, hour, 2, zero);
    case 'l':
        return add_count(builder, hour, 2, space);
    case 'M':
        return add_count(builder, now->tm_min, 2, zero);
    case 'S':
        return add_count(builder, now->tm_sec, 2, zero);
    case 'j':
        return add_count(builder, now->tm_yday + 1, 3, zero);
    case 'u':
        return add_count(builder, monday + 1, 1, zero);
    case 'w':
        return add_count(builder, now->tm_wday, 1, zero);
    case 'U':
        return add_count(builder, (now->tm_yday + 7 - now->tm_wday) / 7, 2, zero);
    case 'W':
        return add_count(builder, (now->tm_yday + 7 - monday) / 7, 2, zero);
    case 'V':
        return add_count(builder, iso_week(now, &year), 2, zero);
    case 'G':
        iso_week(now, &year);
        return add_count(builder, year, 0, '-');
    default: /* g */
        iso_week(now, &year);
        return add_count(builder, year % 100, 2, zero);
    }
}

static bool add_time_name(struct tpl_builder *builder, const struct tm *now, char kind)
{
    const char *name =
        kind == 'A' || kind == 'a' ? day_names[now->tm_wday % 7] : month_names[now->tm_mon % 12];
    struct text text = text_of(name);
    if (kind == 'a' || kind == 'b' || kind == 'h')
        text.size = 3;
    return tpl_add(builder, text);
}

/* What stands for several directives in the C locale, or NULL. */
static const char *compound(char kind)
{
    switch (kind) {
    case 'c':
        return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
        return "%m/%d/%y";
    case 'F':
        return "%Y-%m-%d";
    case 'R':
        return "%H:%M";
    case 'r':
        return "%I:%M:%S %p";
    case 'T':
    case 'X':
        return "%H:%M:%S";
    default:
        return NULL;
    }
}

static bool add_time_part(struct tpl_builder *builder, const struct tm *now, char kind, char pad,
                          int64_t unix_seconds)
{
    char number[TPL_NUMBER_MAX];
    if (compound(kind))
        return add_time(builder, now, compound(kind), unix_seconds);
    if (strchr("AaBbh", kind))
        return add_time_name(builder, now, kind);
    if (strchr("demYyCHkIlMSjuwUWVGg", kind))
        return add_time_number(builder, now, kind, pad);
    switch (kind) {
    case 'p':
        return tpl_add(builder, now->tm_hour < 12 ? TEXT("AM") : TEXT("PM"));
    case 'P':
        return tpl_add(builder, now->tm_hour < 12 ? TEXT("am") : TEXT("pm"));
    case 'f': /* microseconds: the moment is given in seconds */
        return tpl_add(builder, TEXT("000000"));
    case 's':
        return tpl_add(builder, (struct text){number, tpl_format_int(unix_seconds, number)});
    case 'z': /* a naive datetime has no zone */
    case 'Z':
        return true;
    case 'n':
        return tpl_add_char(builder, '\n');
    case 't':
        return tpl_add_char(builder, '\t');
    default:
        return tpl_add_char(builder, '%') &&
               (pad == '\0' || tpl_add_char(builder, pad == ' ' ? '_' : pad)) &&
               (kind == '%' || tpl_add_char(builder, kind));
    }
}

static bool add_time(struct tpl_builder *builder, const struct tm *now, const char *format,
                     int64_t unix_seconds)
{
    for (; *format; format++) {
        bool done;
        if (*format != '%' || format[1] == '\0') {
            done = tpl_add_char(builder, *format);
        } else {
            char pad = '\0';
            format++;
            if ((*format == '-' || *format == '_' || *format == '0') && format[1]) {
                pad = *format == '_' ? ' ' : *format;
                format++;
            }
            done = add_time_part(builder, now, *format, pad, unix_seconds);
        }
        if (!done)
            return false;
    }
    return true;
}

bool tpl_strftime(struct tpl_run *run, struct text format, struct tpl_value *out)
{
    struct tpl_builder builder, copy;
    struct tm now;
    if (format.size && memchr(format.data, '\0', format.size))
        return tpl_raise(run, "strftime_now: a NUL byte in the format");
    if (!os_local_time(run->unix_seconds, &now))
        return tpl_raise(run, "strftime_now: a moment that the calendar does not have");
    tpl_builder_init(&builder, run);
    tpl_builder_init(&copy, run);
    return tpl_add(&copy, format) && tpl_add_char(&copy, '\0') &&
           add_time(&builder, &now, copy.data, run->unix_seconds) &&
           tpl_builder_finish(&builder, false, out);
}
