/* Whoever has the conversations that are kept: the daemon that runs, or the store on the disk. */
#ifndef CLI_KEEPER_H
#define CLI_KEEPER_H

#include <jansson.h>

#include "cli/client.h"
#include "cli/state.h"

struct keeper;

/* The store of the settings where they name one. Else the daemon, which is whom hearth run asks,
 * where one runs that keeps conversations; else the user's own store. A sentence may be in `err`
 * after success: damage that was found. */
int keeper_open(const struct state_settings *state, const struct client_settings *client,
                struct keeper **out, struct hearth_error *err);
void keeper_close(struct keeper *keeper);

/* As hearth_store_list. */
int keeper_list(struct keeper *keeper,
                bool (*visit)(void *context, const struct hearth_store_entry *entry), void *context,
                struct hearth_error *err);
/* An array, the caller's; NULL on failure. */
json_t *keeper_messages(struct keeper *keeper, const char *key, struct hearth_error *err);
int keeper_remove(struct keeper *keeper, const char *key, struct hearth_error *err);

#endif
