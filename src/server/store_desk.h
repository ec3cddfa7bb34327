/* Where a worker asks for its conversations: it may open nothing, so it says on its second socket
 * what it wants of the store, and the daemon does it.
 *
 * A worker is not trusted: a model may have taken it over. It reaches the conversations that it was
 * asked about, whose keys store_desk_allow named, and no others; it learns of no other key; a spill
 * can only be the file that was made for it last. What it may still do is to lose or falsify those
 * conversations, and to write more into a file of its own than it said, until the disk has no room;
 * spills are checked when they are kept and when they are read, and records when they are unpacked.
 */
#ifndef SERVER_STORE_DESK_H
#define SERVER_STORE_DESK_H

#include "base/error.h"
#include "base/text.h"

struct event_base;
struct hearth_store;
struct store_desk;

/* Takes the descriptor over, also on failure. on_broken is called once, from the loop, when the
 * worker says what it may not, with a sentence that lives until it returns; nothing is answered
 * from then on. The desk must not be closed inside it. */
int store_desk_open(struct event_base *base, int fd, struct hearth_store *store,
                    void (*on_broken)(void *context, const char *cause), void *context,
                    struct store_desk **out, struct hearth_error *err);
void store_desk_close(struct store_desk *desk); /* NULL is fine, here and below */

/* The worker is asked about a conversation. ARGUMENT where this is no key. */
int store_desk_allow(struct store_desk *desk, struct text key, struct hearth_error *err);
/* It has given it away. */
void store_desk_forbid(struct store_desk *desk, struct text key);

#endif
