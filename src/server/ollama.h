/* What the files of Ollama's dialect share. */
#ifndef SERVER_OLLAMA_H
#define SERVER_OLLAMA_H

#include "server/daemon.h"
#include "server/generation.h"

/* RFC 3339 in UTC, with nanoseconds. */
#define OLLAMA_TIME_SIZE 48
void ollama_time(int64_t unix_seconds, uint32_t ns, char out[OLLAMA_TIME_SIZE]);
void ollama_time_now(char out[OLLAMA_TIME_SIZE]);

/* `keep_alive` as time to live. Absent or null leaves both as they are. 0, or -1 and a refusal. */
int ollama_read_keep_alive(const json_t *object, bool *given, uint64_t *ttl_ns,
                           struct refusal *refusal);

/* Sizes stand here because tables of operations need them; the compiler compares them. */
extern const struct field ollama_chat_fields[13], ollama_generate_fields[18];
extern const struct field ollama_embed_fields[6], ollama_embeddings_fields[4];

/* The body of a request, the caller's, and its model, which `name` may say in the place of `model`.
 * NULL where the request was answered with why not. */
json_t *ollama_parse(struct daemon *daemon, struct http_exchange *exchange, struct model **model);

/* ---- the handlers of other files ---- */
http_handler ollama_chat, ollama_generate;
http_handler ollama_tags, ollama_ps, ollama_show, ollama_pull, ollama_without_changes;
http_handler ollama_embed, ollama_embeddings;

/* Loads a model and lets it be, or, for a time to live of 0, unloads it where it is loaded. */
struct ollama_load {
    struct model *model;
    bool ttl_given;
    uint64_t ttl_ns;
    json_t *body; /* of the answer, without `done_reason`; taken */
};
void ollama_load(struct http_exchange *exchange, const struct ollama_load *load);

#endif
