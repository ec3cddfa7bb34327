/* WORK_EMBED: vectors of texts, some at a time. */
#ifndef WORKER_EMBEDS_H
#define WORKER_EMBEDS_H

#include "worker/worker.h"

void embeds_start(struct worker *worker, const struct letter *letter);

#endif
