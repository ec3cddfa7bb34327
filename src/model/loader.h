/* Brings a model's weights into memory in the background, in the order in which a pass uses them.
 *
 * What is in the page cache already only gets its page tables; what is not is read from the drive
 * in one sequence, so that a pass can compute the first layers while the last ones are being read:
 * it waits at each stage until that is there. Without a loader a pass faults the weights in itself,
 * to the same result. Stage l is layer l, the token embedding before the first; the stage after
 * the last layer is all the rest. */
#ifndef MODEL_LOADER_H
#define MODEL_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "gguf/gguf.h"

struct loader;

/* Told of the fraction that has been read, by a thread that waits; false gives up the wait. */
struct loader_progress {
    bool (*report)(void *context, double fraction);
    void *context;
};

/* `gguf` must outlive the loader. NULL where there is no memory or no thread for it, or where the
 * weights do not fit the memory: reading ahead would then only drive out what is needed first. */
struct loader *loader_start(const struct gguf *gguf, uint32_t layers,
                            const struct loader_progress *progress);
/* Ends it, with what it is doing unfinished. NULL is fine. */
void loader_stop(struct loader *loader);

/* Waits until a stage is in memory, for at most `ns`; whether it is. True where loader is NULL. */
bool loader_wait(const struct loader *loader, uint32_t stage, uint64_t ns);
/* Calls the progress function; what it returned, true where there is none. */
bool loader_report(const struct loader *loader);

#endif
