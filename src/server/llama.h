/* What the files of llama-server's dialect share. */
#ifndef SERVER_LLAMA_H
#define SERVER_LLAMA_H

#include "server/generation.h"

/* POST /completion (llama_completion.c). */
void llama_completion(void *context, struct http_exchange *exchange);
#define LLAMA_COMPLETION_FIELDS 21
extern const struct field llama_completion_fields[LLAMA_COMPLETION_FIELDS];

/* Sampling as llama-server names it. */
json_t *llama_sampling(const struct hearth_sampling *sampling);

#endif
