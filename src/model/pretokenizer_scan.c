/* The cuts that are written as programs: those that llama.cpp does not leave to its regular
 * expressions either, and those that a backtracking engine could only do in quadratic time. */
#include <assert.h>
#include <string.h>

#include "model/pretokenizer_internal.h"

static unsigned traits_at(const struct span *span, size_t at)
{
    return at < span->size ? span->traits[span->classes[at]] : 0;
}

static size_t skip_traits(const struct span *span, size_t at, unsigned traits)
{
    while (traits_at(span, at) & traits)
        at++;
    return at;
}

static bool is_newline(const struct span *span, size_t at)
{
    return at < span->size && (span->classes[at] == '\n' || span->classes[at] == '\r');
}

static size_t skip_newlines(const struct span *span, size_t at)
{
    while (is_newline(span, at))
        at++;
    return at;
}

static char letter_at(const struct span *span, size_t at, bool fold)
{
    char letter = at < span->size ? (char)span->classes[at] : '\0';
    return fold && letter >= 'A' && letter <= 'Z' ? (char)(letter - 'A' + 'a') : letter;
}

/* 's 't 'm 'd 're 've 'll: its length at `at`, or 0. */
static size_t contraction(const struct span *span, size_t at, bool fold)
{
    if (letter_at(span, at, false) != '\'')
        return 0;
    char first = letter_at(span, at + 1, fold), second = letter_at(span, at + 2, fold);
    if (first == 's' || first == 't' || first == 'm' || first == 'd')
        return 2;
    bool two = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
               (first == 'l' && second == 'l');
    return two ? 3 : 0;
}

/* White space up to the last but one before something else, all of it at the end of the span, and
 * at least one of anything. */
static size_t skip_space(const struct span *span, size_t at)
{
    size_t end = skip_traits(span, at, IS_SPACE);
    if (end - at > 1 && end < span->size)
        return end - 1;
    return end > at ? end : at + 1;
}

static size_t next_gpt2(const struct span *span, size_t at)
{
    size_t length = contraction(span, at, false);
    if (length)
        return at + length;
    size_t body = at + (span->classes[at] == ' ');
    unsigned traits = traits_at(span, body);
    if (traits & IS_LETTER)
        return skip_traits(span, body, IS_LETTER);
    if (traits & IS_NUMBER)
        return skip_traits(span, body, IS_NUMBER);
    if (traits && !(traits & IS_SPACE))
        return skip_traits(span, body, ~(unsigned)(IS_SPACE | IS_LETTER | IS_NUMBER));
    return skip_space(span, at);
}

/* The end of white space after its last newline; `at` where it has none. */
static size_t last_newline_end(const struct span *span, size_t at, size_t end)
{
    while (end > at && !is_newline(span, end - 1))
        end--;
    return end;
}

static size_t skip_numbers(const struct span *span, size_t at, size_t max)
{
    size_t end = at;
    while (end - at < max && (traits_at(span, end) & IS_NUMBER))
        end++;
    return end;
}

/* [prefix]letters, numbers in groups, [space]others + newlines, white space through a newline:
 * common to llama3, qwen2 and qwen35. `word` are the traits that a word consists of. */
static size_t next_word_style(const struct span *span, size_t at, unsigned word, size_t digits)
{
    size_t length = contraction(span, at, true);
    if (length)
        return at + length;
    unsigned traits = traits_at(span, at);
    if (!is_newline(span, at) && !(traits & IS_NUMBER) &&
        ((traits & word) || (traits_at(span, at + 1) & word)))
        return skip_traits(span, at + 1, word);
    if (traits & IS_NUMBER)
        return skip_numbers(span, at, digits);
    size_t body = at + (span->classes[at] == ' ');
    unsigned not_others = word | IS_SPACE | IS_NUMBER;
    /* A space that ends the span goes this way too, and is a piece of its own all the same. */
    if (!(traits_at(span, body) & not_others))
        return skip_newlines(span, skip_traits(span, body, ~not_others));
    size_t end = skip_traits(span, at, IS_SPACE);
    size_t newline = last_newline_end(span, at, end);
    return newline > at ? newline : skip_space(span, at);
}

static size_t next_kimi(const struct span *span, size_t at)
{
    unsigned traits = traits_at(span, at), next = traits_at(span, at + 1);
    if (traits & IS_HAN)
        return skip_traits(span, at, IS_HAN);
    bool prefix = !is_newline(span, at) && !(traits & (IS_LETTER | IS_NUMBER)) &&
                  (next & IS_LETTER) && !(next & IS_HAN);
    if ((traits & IS_LETTER) || prefix) {
        size_t end = at + prefix;
        while ((traits_at(span, end) & IS_LETTER) && !(traits_at(span, end) & IS_HAN))
            end++;
        return end + contraction(span, end, true);
    }
    if (traits & IS_NUMBER)
        return skip_numbers(span, at, 3);
    size_t body = at + (span->classes[at] == ' ');
    traits = traits_at(span, body);
    if (traits && !(traits & (IS_SPACE | IS_LETTER | IS_NUMBER))) {
        while (traits && !(traits & (IS_SPACE | IS_LETTER | IS_NUMBER)))
            traits = traits_at(span, ++body);
        return skip_newlines(span, body);
    }
    size_t end = skip_traits(span, at, IS_SPACE);
    size_t newline = last_newline_end(span, at, end);
    return newline > at ? newline : skip_space(span, at);
}

static void mark(const struct span *span, size_t at)
{
    if (at < span->size)
        span->starts[at] = 1;
}

/* White space without a newline, from `at` to `end`, in the powers of two that Jais 2 likes: the
 * largest of 512 … 4, 2, 1 that leaves one over for the word that follows. Done for the whole run
 * at once, so that a long run is looked at once. Returns where the rest begins. */
static size_t cut_space_powers(const struct span *span, size_t at, size_t end)
{
    bool last = end == span->size;
    while (end - at > 1) {
        size_t room = last ? end - at : end - at - 1, power = 512;
        while (power > room)
            power /= 2;
        at += power;
        mark(span, at);
    }
    return at;
}

/* As llama3, but for runs of white space. */
static void cut_jais2(const struct span *span)
{
    for (size_t at = 0; at < span->size; mark(span, at)) {
        size_t end = skip_traits(span, at, IS_SPACE);
        if (end - at > 1 && last_newline_end(span, at, end) == at)
            at = cut_space_powers(span, at, end);
        if (at < span->size)
            at = next_word_style(span, at, IS_LETTER, 3);
    }
}

static void cut_digits_from_right(const struct span *span)
{
    size_t at = 0;
    while (at < span->size) {
        size_t end = skip_traits(span, at, IS_NUMBER);
        if (end == at) {
            at++;
            continue;
        }
        for (size_t group = at + (end - at) % 3; group <= end; group += 3)
            if (group > at)
                mark(span, group);
        at = end;
    }
}

static void cut_ascii_digits_from_right(const struct span *span)
{
    size_t at = 0;
    while (at < span->size) {
        size_t end = at;
        while (end < span->size && span->classes[end] >= '0' && span->classes[end] <= '9')
            end++;
        for (size_t group = at + (end - at) % 3; group < end; group += 3)
            mark(span, group);
        at = end + 1;
    }
}

static void cut_trailing_space(const struct span *span)
{
    size_t at = span->size;
    while (at > 0 && (span->traits[span->classes[at - 1]] & IS_SPACE))
        at--;
    mark(span, at);
}

static size_t next_piece(const struct span *span, enum cut_kind kind, size_t at)
{
    switch (kind) {
    case CUT_GPT2:
        return next_gpt2(span, at);
    case CUT_LLAMA3:
        return next_word_style(span, at, IS_LETTER, 3);
    case CUT_QWEN2:
        return next_word_style(span, at, IS_LETTER, 1);
    case CUT_QWEN35:
        return next_word_style(span, at, IS_LETTER | IS_MARK, 1);
    default:
        assert(kind == CUT_KIMI);
        return next_kimi(span, at);
    }
}

void pretokenizer_scan(const struct span *span, enum cut_kind kind)
{
    switch (kind) {
    case CUT_JAIS2:
        cut_jais2(span);
        break;
    case CUT_DIGITS_FROM_RIGHT:
        cut_digits_from_right(span);
        break;
    case CUT_ASCII_DIGITS_FROM_RIGHT:
        cut_ascii_digits_from_right(span);
        break;
    case CUT_TRAILING_SPACE:
        cut_trailing_space(span);
        break;
    default:
        for (size_t at = 0; at < span->size; mark(span, at))
            at = next_piece(span, kind, at);
        break;
    }
}
