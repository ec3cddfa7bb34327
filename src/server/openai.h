/* What the files of OpenAI's dialect share. */
#ifndef SERVER_OPENAI_H
#define SERVER_OPENAI_H

#include "server/daemon.h"
#include "server/fields.h"
#include "server/generation.h"

#define OPENAI_TTL_HELP                                                                            \
    "How long the model stays loaded afterwards: seconds, or a text like \"10m\"; negative: for "  \
    "ever."

http_handler openai_chat, openai_completions, openai_embeddings;

enum { OPENAI_CHAT_FIELDS = 37, OPENAI_COMPLETION_FIELDS = 21, OPENAI_EMBEDDING_FIELDS = 6 };
extern const struct field openai_chat_fields[OPENAI_CHAT_FIELDS],
    openai_completion_fields[OPENAI_COMPLETION_FIELDS],
    openai_embedding_fields[OPENAI_EMBEDDING_FIELDS];

/* `ttl` of a body, where it is given. */
int openai_read_ttl(const json_t *object, bool *given, uint64_t *ttl_ns, struct refusal *refusal);
/* A text as JSON; what is no UTF-8 in it becomes U+FFFD. NULL without memory. */
json_t *openai_text(struct text text);

/* ---- answers (openai_answer.c) ---- */

struct openai_answer_options {
    bool chat; /* else a completion of text */
    bool stream, include_usage, progress, logprobs;
};
/* Asks for the request, which has been read, and answers the exchange. */
void openai_answer_start(struct daemon *daemon, struct http_exchange *exchange,
                         struct generation_request *request,
                         const struct openai_answer_options *options);

/* ---- probabilities (openai_logprobs.c) ---- */

/* One token as an object of `logprobs.content`, {token, logprob, bytes, top_logprobs}. */
json_t *openai_logprob(const struct generation_token *token);
/* Objects of openai_logprob as `logprobs` of a chat, {content, refusal}; the array is taken. */
json_t *openai_chat_logprobs(json_t *tokens);
/* The same as a completion has it, {tokens, token_logprobs, top_logprobs, text_offset}. `offset` is
 * where the first begins, and becomes where the next will. */
json_t *openai_completion_logprobs(json_t *tokens, size_t *offset);

#endif
