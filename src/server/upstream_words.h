/* What is said to a server that speaks OpenAI's API, and what it says. */
#ifndef SERVER_UPSTREAM_WORDS_H
#define SERVER_UPSTREAM_WORDS_H

#include <jansson.h>

#include "worker/protocol.h"

/* The body of a request, allocated by jansson (free), and the path it goes to below the server's
 * address. HEARTH_E_UNSUPPORTED names what cannot be had from another server. */
int upstream_words_ask(const struct work_ask *ask, const char *model, char **body,
                       const char **path, struct hearth_error *err);
int upstream_words_embed(const struct work_embed *embed, const char *model, char **body,
                         struct hearth_error *err);

/* A piece of an answer, or a whole one; texts are the JSON's. */
struct upstream_piece {
    struct text text, reasoning;
    const json_t *logprobs; /* an array, or NULL */
    bool finished;
    enum hearth_stop stop;
    struct text stop_string;
    bool counted; /* tokens are known */
    uint64_t prompt_tokens, cached_tokens, answer_tokens;
};
/* False for what is no answer. */
bool upstream_words_read(const json_t *object, struct upstream_piece *piece);
/* Puts a WORK_TEXT whose tokens are these logprobs; `message` and `reader` are then at them. */
bool upstream_words_tokens(const struct upstream_piece *piece, uint32_t tokens, uint32_t top_tokens,
                           struct buffer *out, struct work_text *work,
                           struct message_reader *reader);
/* Puts a WORK_REPLY of vectors; FORMAT where there are not `count` of one length. */
int upstream_words_vectors(const json_t *object, size_t count, struct buffer *out,
                           struct hearth_error *err);

/* The sentence of an error in a body, "" where there is none. */
struct text upstream_words_error(const json_t *object);

/* Appends what a list of models says of one, as WORK_READY has it. */
bool upstream_words_ready(const json_t *models, const char *model, struct buffer *out);

#endif
