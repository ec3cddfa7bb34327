/* Small models made in the test itself: a file with random weights of any types and shape. */
#ifndef TESTS_INFER_TINY_MODEL_H
#define TESTS_INFER_TINY_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "support/gguf_writer.h"

struct tiny_model {
    const char *architecture;
    uint32_t vocabulary, embedding, layers, heads, kv_heads, head_size, ff;
    uint32_t window;       /* 0: none; else all layers but the last of each two have it */
    const uint32_t *types; /* of the matrices, in turn */
    size_t type_count;
    uint64_t seed;
    const char *chat_template; /* NULL: none. The last two tokens, "wN", are BOS and EOS */
};

/* Writes the file and gives its path, which the caller removes. */
void tiny_model_write(const struct tiny_model *model, char path[TEST_PATH_MAX]);
/* With a key that says how embeddings are pooled. */
void tiny_model_write_pooled(const struct tiny_model *model, uint32_t pooling,
                             char path[TEST_PATH_MAX]);

#endif
