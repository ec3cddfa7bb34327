/* From the first message to a model that is ready. */
#ifndef WORKER_START_H
#define WORKER_START_H

#include "worker/worker.h"

struct start;

/* Waits for the model's files and what is wanted of them. */
int start_receive(struct channel *channel, int fd, struct start **out, struct hearth_error *err);
void start_free(struct start *start);
bool start_is_probe(const struct start *start);
/* Gives up what a worker does not need. To be called before there is a second thread. */
int start_confine(const struct start *start, struct hearth_error *err);
/* Opens model, engine and conversations of the worker and sends WORK_READY. `progress` as in struct
 * hearth_model_options, with the worker. */
int start_load(struct start *start, struct worker *worker,
               bool (*progress)(void *context, double fraction), struct hearth_error *err);
/* Says what the model is. */
int start_probe(struct start *start, struct worker *worker, struct hearth_error *err);

#endif
