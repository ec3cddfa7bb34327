/* One answer of a conversation: asked for, shown as it comes, and what is told of it. */
#ifndef CLI_ANSWER_H
#define CLI_ANSWER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "cli/load.h"
#include "hearth/session.h"

struct answer_options {
    const struct hearth_sampling *sampling;
    const char *const *stop;
    size_t stop_count;
    uint32_t max_tokens; /* 0: no limit */
    bool speculate;      /* compute guesses of the next tokens together; the answer is the same */
    bool quiet;          /* do not show the text as it comes */
};

struct answer {
    struct hearth_result result; /* its text and ids are copies, freed by answer_finish */
    struct buffer text;
    uint32_t *ids;
};

/* Asks for an answer and shows it. Ctrl-C makes it a HEARTH_STOP_CANCELLED with the text so far.
 * HEARTH_STOP_ERROR: the context was full, and that was to be an error; the text is kept.
 * `answer` is zeroed or finished before; on failure it holds nothing. */
int answer_compute(struct hearth_sessions *sessions, struct hearth_session *session,
                   const struct answer_options *options, struct answer *answer,
                   struct hearth_error *err);
void answer_finish(struct answer *answer);

/* As in --json: "end", "length", …; "nothing", "new", "edited", … */
const char *answer_stop_name(enum hearth_stop stop);
const char *answer_miss_name(enum hearth_miss miss);
json_t *answer_timings_json(const struct answer *answer, const struct loaded *loaded);
/* The same as lines of talk. */
void answer_say_timings(const struct answer *answer, uint64_t load_ns); /* 0: not known */
/* Why what the store had was of no use; nothing where it was. */
void answer_say_loss(const struct answer *answer);

#endif
