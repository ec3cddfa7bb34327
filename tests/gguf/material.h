/* What the tests of this room share: a small file with all there is, and a reader of everything. */
#ifndef TESTS_GGUF_MATERIAL_H
#define TESTS_GGUF_MATERIAL_H

#include "gguf/gguf.h"
#include "support/gguf_writer.h"

/* Keys of every type, arrays of every type, and four tensors of different types and shapes. */
void material_fill(struct gguf_writer *writer);

/* Reads every byte that the view hands out, and fails the test where one part of it contradicts
 * another or lies outside its file. */
void material_walk(const struct gguf *gguf);

/* Opens one file in memory. */
int material_open(struct text bytes, struct gguf **out, struct hearth_error *err);

/* Opens bytes that must be refused: fails the test unless the code is `code`, the sentence holds
 * `part` and the output is untouched. */
void material_refused(struct text bytes, int code, const char *part);

#endif
