/* What conversations want of the place where they are kept between two uses. The set of
 * conversations calls it; who implements it is not known here: the program's own store (SQLite and
 * files, src/store), or something that asks another process for it.
 *
 * A conversation is kept as a record: its packed history (session/record.h), opaque to the store.
 * Beside it there may be a spill: what the engine had computed of it, in a file. Records are what
 * must not be lost; a spill can always be computed again. The two need not be of the same moment: a
 * spill holds the ids of its own tokens.
 *
 * Calls come from the thread of the set, one at a time, and may wait for the disk but not for
 * another process's work. A record that was put survives the end of the process at any moment after
 * that, a crash of the machine leaves the old one or the new. */
#ifndef SESSION_STORE_H
#define SESSION_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/sum.h"
#include "hearth/session.h"

/* What a spill belongs to and how it is told from damage. */
struct store_spill {
    char identity[HEARTH_IDENTITY_SIZE]; /* hearth_engine_identity of the engine that wrote it */
    uint64_t tokens, bytes;
    unsigned char sum[SUM_BYTES]; /* XXH3, 128 bits, canonical, of the whole file */
};

/* What is told of a record without unpacking it: for lists. */
struct store_summary {
    const char *model;      /* hearth_model_identity */
    const char *model_name; /* below HEARTH_STORE_NAME_SIZE bytes; NULL: it has none */
    uint64_t messages, tokens;
    int64_t used_unix;
};

struct store_calls {
    /* The record of a key, appended to an empty buffer. HEARTH_E_MISSING: there is none;
     * HEARTH_E_FORMAT: it was damaged. */
    int (*get)(struct hearth_store *store, const char *key, struct buffer *record,
               struct hearth_error *err);
    int (*put)(struct hearth_store *store, const char *key, struct text record,
               const struct store_summary *summary, struct hearth_error *err);
    /* Record and spill. HEARTH_E_MISSING. */
    int (*remove)(struct hearth_store *store, const char *key, struct hearth_error *err);

    /* An empty file without a name, for at most `bytes`. It ends with its last descriptor, which is
     * the caller's. HEARTH_E_LIMIT where the store's limit or the disk leaves no room. */
    int (*spill_create)(struct hearth_store *store, uint64_t bytes, int *fd,
                        struct hearth_error *err);
    /* The written file becomes the spill of the key, whose record exists, in the place of an older
     * one, once it is on the disk: this may happen after the call, on another thread. The
     * descriptor is the store's from here on, also on failure. */
    int (*spill_keep)(struct hearth_store *store, const char *key, int fd,
                      const struct store_spill *spill, struct hearth_error *err);
    /* The newest one, for reading at any offset; the descriptor is the caller's. HEARTH_E_MISSING;
     * HEARTH_E_FORMAT: it was damaged, and is gone. */
    int (*spill_open)(struct hearth_store *store, const char *key, int *fd,
                      struct store_spill *spill, struct hearth_error *err);
    /* It is damaged or no longer wanted. */
    void (*spill_drop)(struct hearth_store *store, const char *key);
};

/* The beginning of each implementation's own struct. */
struct hearth_store {
    const struct store_calls *calls;
};

#endif
