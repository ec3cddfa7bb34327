/* What an engine computed of a conversation, in a file: keys, values and ids in one stream
 * (hearth_sequence_save) whose checksum is taken as it passes. Blocks go between file and cache
 * without a copy beside them.
 *
 * A file is trusted with nothing: it is loaded into a sequence of its own, and only when identity,
 * size and checksum fit does the engine's prefix cache get it. */
#ifndef SESSION_SPILL_H
#define SESSION_SPILL_H

#include "session/store.h"

struct spiller {
    struct hearth_engine *engine;
    struct hearth_store *store;
    char identity[HEARTH_IDENTITY_SIZE]; /* of the engine */
};

/* Writes what the prefix cache holds of `ids`, if that is at least `least` of them (else
 * HEARTH_E_MISSING). `fd` becomes a file of the store without a name, the caller's, and `spill`
 * what tells it from others. */
int spill_write(const struct spiller *spiller, const uint32_t *ids, size_t count, size_t least,
                int *fd, struct store_spill *spill);

/* Puts what a file holds into the prefix cache. HEARTH_E_UNSUPPORTED where another model or KV type
 * wrote it, HEARTH_E_FORMAT where it is damaged or cannot be read; HEARTH_E_LIMIT and
 * HEARTH_E_MEMORY where there is no room. */
int spill_read(const struct spiller *spiller, int fd, const struct store_spill *spill);

#endif
