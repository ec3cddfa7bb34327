/* The store of a worker: each call asks the daemon over a socket of its own and waits for the
 * answer. */
#ifndef WORKER_REMOTE_STORE_H
#define WORKER_REMOTE_STORE_H

#include "session/store.h"

/* `fd` becomes its own, also on failure. `timeout_ns` of one call: then it fails, and a late answer
 * is not taken for that of another one. */
int remote_store_open(int fd, uint64_t timeout_ns, struct hearth_store **out,
                      struct hearth_error *err);
void remote_store_close(struct hearth_store *store);

#endif
