/* Numbers as Python prints and reads them, whatever the process's locale. */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/template_run.h"

size_t tpl_format_int(int64_t value, char out[TPL_NUMBER_MAX])
{
    return (size_t)snprintf(out, TPL_NUMBER_MAX, "%lld", (long long)value);
}

/* Splits the shortest decimal that reads back as `value` into digits and the exponent of the first
 * one; value is finite and not negative. */
static size_t shortest_digits(double value, char digits[24], int *exponent)
{
    char text[TPL_NUMBER_MAX];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    size_t count = 0;
    const char *at = text;
    for (; *at && *at != 'e'; at++) {
        if (*at >= '0' && *at <= '9')
            digits[count++] = *at;
    }
    *exponent = atoi(at + 1);
    return count;
}

size_t tpl_format_float(double value, char out[TPL_NUMBER_MAX])
{
    char digits[24] = "0", *at = out;
    int exponent;
    if (isnan(value))
        return (size_t)snprintf(out, TPL_NUMBER_MAX, "nan");
    if (isinf(value))
        return (size_t)snprintf(out, TPL_NUMBER_MAX, value < 0 ? "-inf" : "inf");
    if (signbit(value))
        *at++ = '-';
    int count = (int)shortest_digits(fabs(value), digits, &exponent);
    if (exponent < -4 || exponent >= 16) {
        *at++ = digits[0];
        if (count > 1)
            *at++ = '.';
        memcpy(at, digits + 1, (size_t)count - 1);
        at += count - 1;
        at += sprintf(at, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return (size_t)(at - out);
    }
    if (exponent < 0)
        *at++ = '0';
    for (int i = 0; i <= exponent; i++)
        *at++ = i < count ? digits[i] : '0';
    *at++ = '.';
    for (int i = exponent + 1; i < 0; i++)
        *at++ = '0';
    int whole = exponent < 0 ? 0 : exponent + 1;
    for (int i = whole; i < count || i == whole; i++)
        *at++ = i < count ? digits[i] : '0';
    *at = '\0';
    return (size_t)(at - out);
}

static struct text trim(struct text text)
{
    uint32_t code_point;
    while (text.size) {
        size_t length = tpl_decode(text, 0, &code_point);
        if (!tpl_is_space(code_point))
            break;
        text = (struct text){text.data + length, text.size - length};
    }
    while (text.size) {
        size_t at = text.size - 1;
        while (at > 0 && ((unsigned char)text.data[at] & 0xc0) == 0x80)
            at--;
        tpl_decode(text, at, &code_point);
        if (!tpl_is_space(code_point))
            break;
        text.size = at;
    }
    return text;
}

static bool equals_ignoring_case(struct text text, const char *word)
{
    size_t i = 0;
    for (; i < text.size && word[i]; i++) {
        char byte = text.data[i];
        if ((byte >= 'A' && byte <= 'Z' ? byte + 32 : byte) != word[i])
            return false;
    }
    return i == text.size && word[i] == '\0';
}

/* The grammar of float(): digits with single underscores between them, a point, an exponent. Copies
 * what strtod may read, with the locale's point. */
static bool copy_float(struct text text, char *out, size_t capacity)
{
    const char *point = localeconv()->decimal_point;
    size_t used = 0, digits = 0, at = 0;
    bool seen_point = false, seen_exponent = false;
    if (at < text.size && (text.data[at] == '+' || text.data[at] == '-'))
        out[used++] = text.data[at++];
    for (; at < text.size; at++) {
        char byte = text.data[at], before = at ? text.data[at - 1] : '\0';
        char next = at + 1 < text.size ? text.data[at + 1] : '\0';
        if (used + strlen(point) + 2 > capacity)
            return false;
        if (byte >= '0' && byte <= '9') {
            out[used++] = byte;
            digits++;
        } else if (byte == '_') {
            if (before < '0' || before > '9' || next < '0' || next > '9')
                return false;
        } else if (byte == '.' && !seen_point && !seen_exponent) {
            memcpy(out + used, point, strlen(point));
            used += strlen(point);
            seen_point = true;
        } else if ((byte == 'e' || byte == 'E') && digits && !seen_exponent) {
            out[used++] = byte;
            seen_exponent = true;
            digits = 0;
            if (next == '+' || next == '-')
                out[used++] = text.data[++at];
        } else {
            return false;
        }
    }
    out[used] = '\0';
    return digits > 0;
}

bool tpl_parse_float(struct text text, double *out)
{
    text = trim(text);
    bool negative = text.size && text.data[0] == '-';
    struct text word = text;
    if (text.size && (text.data[0] == '-' || text.data[0] == '+'))
        word = (struct text){text.data + 1, text.size - 1};
    if (equals_ignoring_case(word, "inf") || equals_ignoring_case(word, "infinity")) {
        *out = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (equals_ignoring_case(word, "nan")) {
        *out = NAN;
        return true;
    }
    /* longer ones than this are no numbers that a template means */
    char copy[800];
    if (!copy_float(text, copy, sizeof copy))
        return false;
    *out = strtod(copy, NULL);
    return true;
}

static int digit_value(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    char lower = (char)(byte | 0x20);
    return lower >= 'a' && lower <= 'z' ? lower - 'a' + 10 : 99;
}

/* Skips 0x, 0o, 0b where `base` asks for one or is 0; base 0 without one is 10, and then "012" is
 * no number. */
static bool read_prefix(struct text *text, int *base)
{
    char mark = text->size > 1 && text->data[0] == '0' ? (char)(text->data[1] | 0x20) : '\0';
    int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked && (*base == 0 || *base == marked)) {
        *base = marked;
        *text = (struct text){text->data + 2, text->size - 2};
        if (text->size && text->data[0] == '_')
            *text = (struct text){text->data + 1, text->size - 1};
        return true;
    }
    if (*base != 0)
        return true;
    *base = 10;
    if (text->size < 2 || text->data[0] != '0')
        return true;
    for (size_t i = 0; i < text->size; i++) {
        if (text->data[i] != '0' && text->data[i] != '_')
            return false;
    }
    return true;
}

bool tpl_parse_int(struct text text, int base, int64_t *out, bool *overflow)
{
    text = trim(text);
    bool negative = text.size && text.data[0] == '-';
    if (text.size && (text.data[0] == '-' || text.data[0] == '+'))
        text = (struct text){text.data + 1, text.size - 1};
    *overflow = false;
    if (base != 0 && (base < 2 || base > 36))
        return false;
    if (!read_prefix(&text, &base) || text.size == 0)
        return false;
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    bool digit_before = false, too_large = false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] == '_' && digit_before && i + 1 < text.size) {
            digit_before = false;
            continue;
        }
        int digit = digit_value(text.data[i]);
        if (digit >= base)
            return false;
        digit_before = true;
        if (value > (limit - (uint64_t)digit) / (uint64_t)base)
            too_large = true;
        else
            value = value * (uint64_t)base + (uint64_t)digit;
    }
    if (!digit_before || too_large) {
        *overflow = too_large;
        return false;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool tpl_as_float(struct tpl_value value, double *out)
{
    if (value.kind == TPL_FLOAT)
        *out = value.as.real;
    else if (tpl_is_integer(value))
        *out = (double)tpl_integer(value);
    else
        return false;
    return true;
}

bool tpl_float_to_int(double value, int64_t *out)
{
    if (!(value > -9223372036854777856.0 && value < 9223372036854775808.0))
        return false;
    *out = (int64_t)value;
    return true;
}

static int compare_int_float(int64_t a, double b)
{
    int64_t whole;
    if (isnan(b))
        return 2;
    if (!tpl_float_to_int(b, &whole))
        return b > 0 ? -1 : 1;
    if (a != whole)
        return a < whole ? -1 : 1;
    double rest = b - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

int tpl_compare_numbers(struct tpl_value a, struct tpl_value b)
{
    if (a.kind != TPL_FLOAT && b.kind != TPL_FLOAT) {
        int64_t x = tpl_integer(a), y = tpl_integer(b);
        return x < y ? -1 : x > y;
    }
    if (a.kind == TPL_FLOAT && b.kind == TPL_FLOAT) {
        double x = a.as.real, y = b.as.real;
        return isnan(x) || isnan(y) ? 2 : x < y ? -1 : x > y;
    }
    if (b.kind == TPL_FLOAT)
        return compare_int_float(tpl_integer(a), b.as.real);
    int order = compare_int_float(tpl_integer(b), a.as.real);
    return order == 2 ? 2 : -order;
}
