/* One answer: a prompt's tokens are computed, then tokens are drawn one by one and shown as text,
 * until something ends it. What was computed stays in a timeline, so that the next prompt of the
 * same conversation costs only what is different in it. */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "cli/load.h"
#include "hearth/hearth.h"

struct timeline {
    const struct loaded *loaded;
    struct hearth_sequence *sequence;
    struct hearth_draft *draft;
    uint32_t context; /* tokens it may hold */
    uint32_t *ids;    /* of the last prompt and its answer; the first hearth_sequence_length of them
                       * are computed */
    size_t count, capacity;
};

/* `context` 0: the model's own. */
int timeline_open(struct timeline *timeline, const struct loaded *loaded, uint32_t context,
                  struct hearth_error *err);
void timeline_close(struct timeline *timeline);
/* Puts an id that is not computed behind the others. */
int timeline_push(struct timeline *timeline, uint32_t id, struct hearth_error *err);

enum answer_stop {
    ANSWER_END,       /* the model ended it */
    ANSWER_LENGTH,    /* as many tokens as were asked for */
    ANSWER_STRING,    /* a stop string */
    ANSWER_CONTEXT,   /* the context is full */
    ANSWER_CANCELLED, /* Ctrl-C */
};

struct answer_options {
    const struct hearth_sampling *sampling;
    const char *const *stop;
    size_t stop_count;
    uint32_t max_tokens; /* 0: no limit */
    bool continues;      /* the answer goes on in the prompt's own text (no template) */
    bool speculate;      /* compute guesses of the next tokens together; the answer is the same */
    bool quiet;          /* do not show the text as it comes */
};

struct answer {
    struct buffer text; /* valid UTF-8 */
    enum answer_stop stop;
    uint32_t end_id;     /* the token that ended it, for ANSWER_END */
    size_t prompt_count; /* of the timeline's ids; the rest are the answer's, without end_id */
    size_t reused_count; /* of the prompt's that did not have to be computed */
    uint64_t prompt_ns;
    uint64_t first_token_ns; /* from the beginning of the prompt's computation */
    uint64_t decode_ns;
    size_t decode_count;        /* tokens drawn from what was computed after the prompt */
    uint64_t drafted, accepted; /* guesses that were computed; that were right */
};

/* Computes one answer to a prompt and shows it. Ctrl-C makes it an ANSWER_CANCELLED with the text
 * so far. `answer` is zeroed or finished before; on failure it holds nothing. HEARTH_E_LIMIT where
 * the prompt is longer than the context. */
int answer_compute(struct timeline *timeline, const uint32_t *prompt, size_t count,
                   const struct answer_options *options, struct answer *answer,
                   struct hearth_error *err);
void answer_finish(struct answer *answer);

const char *answer_stop_name(enum answer_stop stop); /* "end", "length", … as in --json */
json_t *answer_timings_json(const struct answer *answer, const struct timeline *timeline);
/* The same as lines of talk, with the memory. */
void answer_say_timings(const struct answer *answer, const struct timeline *timeline);

#endif
