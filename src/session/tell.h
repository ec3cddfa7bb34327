/* What is told of a request besides its text: its prompt, and each token with its probabilities. */
#ifndef SESSION_TELL_H
#define SESSION_TELL_H

#include <stddef.h>
#include <stdint.h>

#include "hearth/error.h"

struct hearth_request;

/* Its prompt is in the history, and compared with what is known. */
void tell_begin(struct hearth_request *request);
/* A token was drawn from a row of the last step's logits. HEARTH_E_MEMORY. */
int tell_token(struct hearth_request *request, uint32_t id, size_t row, struct hearth_error *err);

#endif
