/* Metadata keys of a file in words. */
#ifndef INFER_METADATA_H
#define INFER_METADATA_H

#include <jansson.h>

#include "base/buffer.h"
#include "gguf/gguf.h"

/* Appends a key's value: a string as it is, a number or bool as JSON writes it, an array as its
 * length in brackets. */
bool metadata_text(const struct gguf_key *key, struct buffer *out);

/* The same as JSON; a long array becomes {"array": element type, "count": n}. A new reference, NULL
 * without memory. */
json_t *metadata_json(const struct gguf_key *key);

/* A string for JSON: bytes that are no UTF-8 become U+FFFD. */
json_t *metadata_string(struct text text);

#endif
