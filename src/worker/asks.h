/* WORK_ASK: answers, in conversations with a key and in those of clients that send all each time.
 */
#ifndef WORKER_ASKS_H
#define WORKER_ASKS_H

#include "worker/worker.h"

void asks_start(struct worker *worker, const struct letter *letter);
/* WORK_END of one that was not begun. */
void asks_refuse(struct worker *worker, uint64_t number, const struct hearth_error *error);

#endif
