/* The first step of byte-level BPE: a text is cut into pieces, and merges never cross a cut.
 *
 * What a cut looks like is known by the name that tokenizer.ggml.pre gives. The results are those
 * of llama.cpp, which differ in places from the regular expressions that the models' authors
 * wrote; where they do, its vocabularies are used with its cuts, so they decide.
 *
 * Immutable after opening; any number of threads may split texts at once. */
#ifndef MODEL_PRETOKENIZER_H
#define MODEL_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

struct pretokenizer;

/* What else the name of a pre-tokenizer decides. */
struct pretokenizer_traits {
    bool ignore_merges;  /* a piece that is a token is that token, whatever the merges say */
    bool add_bos;        /* unless the file has a key that says otherwise */
    bool force_bos;      /* even then */
    bool no_default_bos; /* no BOS where the file names none */
    bool clean_spaces;   /* detokenizing removes spaces before punctuation */
    bool raw;            /* merges over UTF-8 with U+2581 for a space, not over spelled-out bytes */
    bool whole_newlines; /* with `raw`: a run of newlines that is a token is that token */
};

/* An empty name means "default". HEARTH_E_UNSUPPORTED for an unknown one (the cause lists those
 * that work), HEARTH_E_MEMORY. */
int pretokenizer_open(struct text name, struct pretokenizer **out, struct hearth_error *err);
void pretokenizer_close(struct pretokenizer *pretokenizer); /* NULL is fine */

const struct pretokenizer_traits *pretokenizer_traits(const struct pretokenizer *pretokenizer);

/* A text and its cuts. `text` is what was given or, where that is not valid UTF-8, a copy in which
 * each byte that begins no code point is U+FFFD, overlong forms are short, and surrogates are as
 * they were. Sizes up to 1 GiB. */
struct pieces {
    struct text text;
    char *copy;             /* the text's own bytes, or NULL */
    unsigned char *classes; /* one byte per code point */
    unsigned char *starts;  /* 1 where a piece begins; count + 1 entries, the last is 1 */
    size_t count;           /* code points */
    size_t next, next_byte;
};

/* HEARTH_E_MEMORY, _LIMIT; `pieces` needs pieces_finish only after success. `text` must stay. */
int pretokenizer_split(const struct pretokenizer *pretokenizer, struct text text,
                       struct pieces *pieces, struct hearth_error *err);
/* The pieces in order; false after the last. */
bool pieces_next(struct pieces *pieces, struct text *piece);
void pieces_finish(struct pieces *pieces);

#endif
