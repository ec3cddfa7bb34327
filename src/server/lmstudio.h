/* What the files of LM Studio's dialect share. */
#ifndef SERVER_LMSTUDIO_H
#define SERVER_LMSTUDIO_H

#include "server/daemon.h"
#include "server/generation.h"

http_handler lmstudio_models, lmstudio_load, lmstudio_unload;
http_handler lmstudio_v0_models, lmstudio_v0_model;
http_handler lmstudio_chat;

/* Sizes stand here because tables of operations need them; the compiler compares them. */
extern const struct field lmstudio_load_fields[4], lmstudio_chat_fields[11];

/* The body of a request, the caller's, and its model under that name. NULL where the request was
 * answered with why not. */
json_t *lmstudio_parse(struct daemon *daemon, struct http_exchange *exchange, const char *field,
                       struct model **model);

/* What LM Studio's older API puts into OpenAI's answers: stats, model_info, runtime. */
void lmstudio_v0_put_stats(json_t *body, const struct model *model, const struct work_end *end);

/* ---- names of responses ----
 * "resp_", 32 hexadecimal digits that nobody can guess and that are the conversation's key in the
 * store, and 16 for how many messages it had behind the response: so a name outlives a restart
 * without a table, and stands for that point also when the conversation went on. */

#define LMSTUDIO_KEY_SIZE 48 /* "lmstudio-", the digits, NUL */
#define LMSTUDIO_ID_SIZE 56

bool lmstudio_key_new(char key[LMSTUDIO_KEY_SIZE]); /* false without random numbers */
void lmstudio_id_of(const char *key, uint64_t messages, char id[LMSTUDIO_ID_SIZE]);
bool lmstudio_id_read(struct text id, char key[LMSTUDIO_KEY_SIZE], uint64_t *messages);

#endif
