/* Between the files of the pre-tokenizer: the alphabet of classes and the ways to cut.
 *
 * A text is first written as one byte per code point: ASCII as itself, everything else as the byte
 * of its class. All cuts work on these bytes, so a regular expression needs no Unicode tables of
 * the library (whose version would decide over tokens) and no UTF-8. Other white space than
 * ASCII's is a vertical tab, which is white space to every pattern and newline to none. */
#ifndef MODEL_PRETOKENIZER_INTERNAL_H
#define MODEL_PRETOKENIZER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/pretokenizer.h"

enum code_point_kind {
    KIND_OTHER, /* controls, unassigned, private use, surrogates */
    KIND_NUMBER,
    KIND_LETTER,
    KIND_PUNCTUATION,
    KIND_MARK,
    KIND_SYMBOL,
    KIND_SPACE,
};

enum code_point_kind code_point_kind(uint32_t code_point);

#define CLASS_SPACE 0x0b
#define CLASS_OF_KIND(kind) (0xd0 + (unsigned)(kind))
#define CLASS_HAN_LETTER 0xd6 /* only where the pre-tokenizer asks for Han */
#define CLASS_HAN_OTHER 0xd7

/* Bits of struct span's traits. */
enum {
    IS_OTHER = 1,
    IS_NUMBER = 2,
    IS_LETTER = 4,
    IS_PUNCTUATION = 8,
    IS_MARK = 16,
    IS_SYMBOL = 32,
    IS_SPACE = 64,
    IS_HAN = 128,
};

/* Code points that belong together: of certain kinds, or in ranges; or just the others. The ranges
 * ascend and do not see white space beyond ASCII. */
struct code_point_set {
    unsigned traits;
    const uint32_t (*ranges)[2];
    size_t range_count;
    bool negated;
};

#define RUN_SETS_MAX 4

/* (prefix)? [set]{1,max}, the first of the sets that matches; the sets share no code point. */
struct run {
    struct code_point_set sets[RUN_SETS_MAX];
    size_t set_count;
    char prefix;  /* 0, ' ', or 's' for any white space */
    unsigned max; /* 0: no maximum */
    bool exact;   /* {max} instead of {1,max} */
};

enum cut_kind {
    CUT_END, /* ends a list */
    CUT_RUN,
    CUT_REGEX, /* over classes; see the table */
    CUT_GPT2,
    CUT_LLAMA3,
    CUT_QWEN2,
    CUT_QWEN35,
    CUT_JAIS2,
    CUT_KIMI,
    CUT_DIGITS_FROM_RIGHT, /* groups of three, the first takes what stands before the number */
    CUT_ASCII_DIGITS_FROM_RIGHT, /* groups of three */
    CUT_TRAILING_SPACE,
};

struct cut {
    enum cut_kind kind;
    const struct run *run;
    const char *regex;
};

#define CUTS_MAX 7

struct pretokenizer_row {
    const char *names; /* separated by spaces */
    struct pretokenizer_traits traits;
    struct cut cuts[CUTS_MAX + 1];
};

extern const struct pretokenizer_row pretokenizer_rows[];
extern const size_t pretokenizer_row_count;

/* One piece that is to be cut further. starts[i] = 1 makes i the beginning of a piece. */
struct span {
    const unsigned char *classes;
    const unsigned char *traits; /* of each class, 256 entries */
    unsigned char *starts;
    size_t size;
};

/* UTF-8 as llama.cpp reads it: a lead byte with enough continuation bytes counts, also in overlong
 * forms and surrogates. Beyond U+10FFFF it aborts; here such bytes are invalid ones. Decoding
 * returns the length, 0 (and leaves `point`) for a byte that begins nothing; `size` is not 0.
 * Encoding needs room for four bytes. */
size_t decode_loosely(const char *data, size_t size, uint32_t *point);
size_t encode_loosely(uint32_t point, char *out);

/* The cuts that are programs: from CUT_GPT2 on. */
void pretokenizer_scan(const struct span *span, enum cut_kind kind);

#endif
