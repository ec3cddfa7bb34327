/* Embeddings: requests whose text is read as prompts are, and whose hidden states are pooled as
 * they are computed. Nothing of them stays in the prefix cache: what is known of a beginning of a
 * text says nothing of its states. */
#ifndef SESSION_EMBED_H
#define SESSION_EMBED_H

#include <stdbool.h>

#include "hearth/hearth.h"

struct embedding;
struct hearth_request;

void embed_free(struct embedding *embedding); /* NULL is fine */

/* HEARTH_E_LIMIT where the text is longer than the context. */
int embed_check(const struct hearth_request *request, struct hearth_error *err);
/* What is wanted of its next tokens; `last`: they are all that are left. */
enum hearth_logits embed_states(const struct embedding *embedding, bool last);
/* Takes what a step has computed; true: that was all. */
bool embed_take(struct hearth_request *request);
/* Tells of its vector, or of the error in its result. */
void embed_end(struct hearth_request *request);

#endif
