#include "server/sse.h"

#include <string.h>

void sse_init(struct sse *sse)
{
    *sse = (struct sse){0};
    buffer_init(&sse->line, SSE_EVENT_MAX);
    buffer_init(&sse->data, SSE_EVENT_MAX);
}

void sse_finish(struct sse *sse)
{
    buffer_finish(&sse->line);
    buffer_finish(&sse->data);
}

/* A line of data; all others say nothing to us. */
static void take_line(struct sse *sse, struct text line)
{
    static const struct text name = {"data", 4}, mark = {"\xef\xbb\xbf", 3};
    if (!sse->begun && text_starts_with(line, mark))
        line = (struct text){line.data + mark.size, line.size - mark.size};
    sse->begun = true;
    if (!text_starts_with(line, name) || (line.size > name.size && line.data[name.size] != ':'))
        return;
    size_t skipped = line.size > name.size ? name.size + 1 : name.size;
    if (skipped < line.size && line.data[skipped] == ' ')
        skipped++;
    if (sse->has_data)
        buffer_append_char(&sse->data, '\n');
    sse->has_data = true;
    buffer_append(&sse->data, line.data + skipped, line.size - skipped);
}

static bool end_line(struct sse *sse, bool (*on_event)(void *context, struct text data),
                     void *context)
{
    if (sse->line.size > 0) {
        take_line(sse, buffer_text(&sse->line));
        sse->line.size = 0;
        return !sse->data.failed;
    }
    if (!sse->has_data)
        return true;
    sse->has_data = false;
    bool more =
        on_event(context, (struct text){sse->data.data ? sse->data.data : "", sse->data.size});
    sse->data.size = 0;
    return more;
}

bool sse_push(struct sse *sse, struct text bytes, bool (*on_event)(void *context, struct text data),
              void *context)
{
    for (size_t at = 0; at < bytes.size;) {
        bool line_feed = bytes.data[at] == '\n';
        if (line_feed && sse->after_cr) { /* the second half of an end */
            sse->after_cr = false;
            at++;
            continue;
        }
        sse->after_cr = bytes.data[at] == '\r';
        if (line_feed || sse->after_cr) {
            if (!end_line(sse, on_event, context))
                return false;
            at++;
            continue;
        }
        size_t size = 0;
        while (at + size < bytes.size && bytes.data[at + size] != '\n' &&
               bytes.data[at + size] != '\r')
            size++;
        if (!buffer_append(&sse->line, bytes.data + at, size))
            return false;
        at += size;
    }
    return true;
}
