/* WORK_CALL: operations with JSON in and out, each done at once. */
#ifndef WORKER_CALLS_H
#define WORKER_CALLS_H

#include "worker/worker.h"

void calls_answer(struct worker *worker, const struct letter *letter);

#endif
