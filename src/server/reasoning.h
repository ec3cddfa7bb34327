/* Splits what a model thinks, between <think> and </think> at the beginning of an answer, from what
 * it says. Text comes in pieces that may end anywhere between two characters. */
#ifndef SERVER_REASONING_H
#define SERVER_REASONING_H

#include "base/buffer.h"

/* White space of more than this is no longer the edge of a thought. */
#define REASONING_HELD_MAX 64

struct reasoning {
    enum reasoning_place {
        REASONING_START,   /* nothing but white space, or the beginning of the tag */
        REASONING_OPENED,  /* behind the tag: white space is left out */
        REASONING_THOUGHT, /* inside */
        REASONING_CLOSED,  /* behind the closing tag: white space is left out */
        REASONING_SAID,    /* text until the end */
    } place;
    char held[REASONING_HELD_MAX]; /* white space, then the beginning of a tag */
    size_t held_size;
    size_t matched; /* bytes of the tag at the end of it */
};

/* `opens`: the prompt ends inside a thought. */
void reasoning_begin(struct reasoning *reasoning, bool opens);
/* Appends to `text` what is said and to `thought` what is thought. White space around a thought is
 * in neither, and that of an answer without one stays. */
void reasoning_push(struct reasoning *reasoning, struct text piece, struct buffer *text,
                    struct buffer *thought);
/* What was held back, at the end of the answer. */
void reasoning_end(struct reasoning *reasoning, struct buffer *text, struct buffer *thought);

static inline bool reasoning_inside(const struct reasoning *reasoning)
{
    return reasoning->place == REASONING_OPENED || reasoning->place == REASONING_THOUGHT;
}

#endif
