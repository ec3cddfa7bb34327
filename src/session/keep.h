/* How conversations rest and come back: in the store, as packed records in memory, and what was
 * computed of them in spills.
 *
 * A conversation is awake (its history unpacked, in the list of the set by use) or asleep: its
 * packed record is all that is left of it in memory, and where the store has that too and nobody
 * holds a handle, nothing is. Requests are a lease: while there is one it stays awake. */
#ifndef SESSION_KEEP_H
#define SESSION_KEEP_H

#include "session/sessions.h"

/* Whether the store keeps it under its key. */
bool keep_is_stored(const struct hearth_session *session);

/* Into a new conversation what the store has of its key. HEARTH_E_MISSING. */
int keep_get(struct hearth_session *session, struct hearth_error *err);
/* It has changed: the store gets it, or it is marked as unsaved. HEARTH_E_… of the store. */
int keep_put(struct hearth_session *session, struct hearth_error *err);
/* The store loses it, record and spill. */
int keep_remove(struct hearth_session *session, struct hearth_error *err);

/* Also while it sleeps. */
size_t keep_message_count(const struct hearth_session *session);
size_t keep_token_count(const struct hearth_session *session);

/* Unpacks its history, where it is asleep; it was used. HEARTH_E_MEMORY. */
int keep_wake(struct hearth_session *session, struct hearth_error *err);
/* Gives back what can be: its part of the KV cache, spilled before; its history; and the
 * conversation itself, which may be gone afterwards. False: it stays awake, for want of memory. */
bool keep_rest(struct hearth_session *session);

/* Spills what the prefix cache holds of it, where there is a store, and gives that back; returns
 * the bytes that became free. */
uint64_t keep_spill(struct hearth_session *session);
/* It is to wait in the middle of an answer: the same, where spilling succeeds. */
void keep_park(struct hearth_session *session);
/* Brings its spill back into the prefix cache, where that pays: `known` of its ids have been
 * computed once, `held` of them are there. True: more of them are. */
bool keep_restore(struct hearth_session *session, size_t known, size_t held);
/* More is computed than its spill holds, and only the first `common` ids are still the same. */
void keep_outdate(struct hearth_session *session, size_t common);
/* Forgets its spill; a file of its own is closed. */
void keep_finish(struct hearth_session *session);

/* Whether what was computed of it fits into the KV cache beside what runs, when all that does not
 * run is spilled. It would have to be computed again to begin without. */
bool keep_has_room(struct hearth_session *session);
/* Spills conversations that do not run until the next step, and loading `tokens` tokens, fits into
 * the KV cache, so that the engine need not evict what nobody has kept. */
void keep_make_room(struct hearth_sessions *sessions, uint64_t tokens);
/* Before the set is closed: what can be kept is. */
void keep_all(struct hearth_sessions *sessions);

#endif
