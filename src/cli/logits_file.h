/* llama-perplexity's own file of logits, read and written, so that either program can be measured
 * against the other. All numbers are little-endian:
 *
 *     8 bytes   "_logits_"
 *     int32     tokens in a chunk (n)
 *     int32     vocabulary (v)
 *     int32     chunks (c)
 *     int32     tokens[c * n]
 *     c times, for each position from n/2 to n-2 of the chunk:
 *         float32   scale
 *         float32   the lowest log-probability
 *         uint16    levels[v]; log p = scale * level + lowest
 *         uint16    a zero more where v is odd
 *
 * A file that is read is mapped, and hostile: its size must be what its header says. */
#ifndef CLI_LOGITS_FILE_H
#define CLI_LOGITS_FILE_H

#include <stdint.h>
#include <stdio.h>

#include "base/os.h"
#include "cli/scoring.h"

struct logits_file {
    struct os_mapping mapping;
    uint32_t chunk_tokens, vocabulary, chunks;
};

/* How many rows of a chunk are scored: those of its second half, but the last. */
static inline uint32_t scored_rows(uint32_t chunk_tokens)
{
    return chunk_tokens - 1 - chunk_tokens / 2;
}

static inline uint32_t logits_file_level(const unsigned char *levels, uint32_t id)
{
    return (uint32_t)levels[2 * (size_t)id] | (uint32_t)levels[2 * (size_t)id + 1] << 8;
}

/* Tokens outside `vocabulary`, the model's, are an error; so is another vocabulary. */
int logits_file_open(struct logits_file *file, const char *path, uint32_t vocabulary,
                     struct hearth_error *err);
void logits_file_close(struct logits_file *file);
uint32_t logits_file_token(const struct logits_file *file, size_t index);
struct base_row logits_file_row(const struct logits_file *file, uint32_t chunk, uint32_t row);

struct logits_writer {
    FILE *file;
    const char *path;
    unsigned char *row; /* one row of the file */
    size_t row_size;
};

/* Begins the file; `chunks` must be written then, in order. */
int logits_writer_open(struct logits_writer *writer, const char *path,
                       const struct logits_file *header, const uint32_t *tokens,
                       struct hearth_error *err);
int logits_writer_add(struct logits_writer *writer, const struct row_score *row,
                      struct hearth_error *err);
/* Ends the file, whole or not; may be called twice. */
int logits_writer_close(struct logits_writer *writer, struct hearth_error *err);

#endif
