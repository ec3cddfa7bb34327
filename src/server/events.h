/* What happens in the daemon, for who listens (/hearth/v1/events): load progress, states, memory
 * pressure, evictions, restarts. */
#ifndef SERVER_EVENTS_H
#define SERVER_EVENTS_H

#include <jansson.h>

#include "base/text.h"

struct events;
struct events_listener;

struct events *events_create(void); /* NULL without memory; every call takes NULL */
void events_destroy(struct events *events);
/* `type` as "model.loading"; the object is taken. Listeners are called at once. */
void events_tell(struct events *events, const char *type, json_t *data);

/* Each is called with the event as one line of JSON, {"type": …, "time": …, …}. NULL without
 * memory. */
struct events_listener *
events_listen(struct events *events,
              void (*on_event)(void *context, const char *type, struct text json), void *context);
void events_leave(struct events_listener *listener); /* also from inside on_event */

#endif
