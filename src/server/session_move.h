/* Before a model goes on with a conversation the one that holds it in memory lets go of it, so that
 * at no moment two workers have it. */
#ifndef SERVER_SESSION_MOVE_H
#define SERVER_SESSION_MOVE_H

#include "server/fields.h"
#include "server/models.h"

struct session_move;

/* 1: the conversation is the model's, at once. 0: others must let go of it first; on_moved is
 * called from the loop, with a refusal where they do not. -1: a refusal. `key` lives until the call
 * returns; empty: there is no conversation. */
int session_move_start(struct models *models, struct text key, struct model *to,
                       void (*on_moved)(void *context, const struct refusal *refusal),
                       void *context, struct session_move **out, struct refusal *refusal);
/* Nothing is called back. */
void session_move_cancel(struct session_move *move);

#endif
