/* Server-sent events, read as they come: lines that end with LF, CR or both, comments, and events
 * of one or more lines of data. Names and numbers of events are left out. */
#ifndef SERVER_SSE_H
#define SERVER_SSE_H

#include <stdbool.h>

#include "base/buffer.h"

#define SSE_EVENT_MAX ((size_t)4 << 20) /* bytes of one event, and of one line */

struct sse {
    struct buffer line, data;
    bool after_cr, has_data, begun;
};

void sse_init(struct sse *sse);
void sse_finish(struct sse *sse);
/* Calls back with the data of each event that is complete; false ends it, and what is left of the
 * bytes is lost. False where it was so, and where an event is too large or there is no memory. */
bool sse_push(struct sse *sse, struct text bytes, bool (*on_event)(void *context, struct text data),
              void *context);

#endif
