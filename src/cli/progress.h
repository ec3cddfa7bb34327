/* A progress bar on standard error. It appears only on a terminal and only for what has taken, or
 * will by all signs take, over a second; what is done sooner shows nothing. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label;
    uint64_t begin_ns, shown_ns;
    bool terminal, shown;
};

/* `label` must live as long as the bar. */
void progress_begin(struct progress *progress, const char *label);
/* `fraction` is from 0 to 1; `note` (may be NULL) stands behind the bar. */
void progress_update(struct progress *progress, double fraction, const char *note);
/* Takes the bar away, so that the line is free. */
void progress_end(struct progress *progress);

#endif
