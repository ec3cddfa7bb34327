#include "server/events.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/os.h"

struct events_listener {
    struct events *events;
    struct events_listener *next, *previous;
    void (*on_event)(void *context, const char *type, struct text json);
    void *context;
    bool gone; /* left while listeners were called */
};

struct events {
    struct events_listener *first, *last;
    unsigned telling; /* calls of events_tell that run, one inside the other */
    bool any_gone;
};

struct events *events_create(void)
{
    return MEM_NEW(struct events);
}

static void unlink_listener(struct events_listener *listener)
{
    struct events *events = listener->events;
    *(listener->previous ? &listener->previous->next : &events->first) = listener->next;
    *(listener->next ? &listener->next->previous : &events->last) = listener->previous;
    mem_free(listener);
}

void events_destroy(struct events *events)
{
    if (!events)
        return;
    assert(events->telling == 0);
    while (events->first)
        unlink_listener(events->first);
    mem_free(events);
}

struct events_listener *
events_listen(struct events *events,
              void (*on_event)(void *context, const char *type, struct text json), void *context)
{
    struct events_listener *listener = events ? MEM_NEW(struct events_listener) : NULL;
    if (!listener)
        return NULL;
    *listener = (struct events_listener){
        .events = events, .previous = events->last, .on_event = on_event, .context = context};
    *(events->last ? &events->last->next : &events->first) = listener;
    events->last = listener;
    return listener;
}

void events_leave(struct events_listener *listener)
{
    if (!listener)
        return;
    if (listener->events->telling == 0) {
        unlink_listener(listener);
        return;
    }
    listener->gone = true;
    listener->events->any_gone = true;
}

static void remove_gone(struct events *events)
{
    struct events_listener *listener = events->first;
    while (listener) {
        struct events_listener *next = listener->next;
        if (listener->gone)
            unlink_listener(listener);
        listener = next;
    }
    events->any_gone = false;
}

/* {"type": …, "time": …} and what `data` has. NULL without memory. */
static char *write_line(const char *type, json_t *data)
{
    json_t *event = json_pack("{s:s, s:I}", "type", type, "time", (json_int_t)os_unix_seconds());
    char *line = NULL;
    if (event && json_object_update_missing(event, data) == 0)
        line = json_dumps(event, JSON_COMPACT);
    json_decref(event);
    return line;
}

void events_tell(struct events *events, const char *type, json_t *data)
{
    char *line = events && events->first && data ? write_line(type, data) : NULL;
    json_decref(data);
    if (!line)
        return;
    /* who comes while this is told is behind the last, and is not told of it */
    struct events_listener *last = events->last;
    events->telling++;
    for (struct events_listener *listener = events->first; listener; listener = listener->next) {
        if (!listener->gone)
            listener->on_event(listener->context, type, text_of(line));
        if (listener == last)
            break;
    }
    events->telling--;
    if (events->telling == 0 && events->any_gone)
        remove_gone(events);
    free(line); /* by jansson's allocator */
}
