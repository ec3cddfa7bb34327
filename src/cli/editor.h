/* Reading what a user types in a conversation: line editing, history, pasted lines, and texts of
 * several lines between triple quotes. The prompt is written to standard error.
 *
 * The history is kept in the user's state directory, readable for its owner alone; where it cannot
 * be kept, it lasts as long as the editor. */
#ifndef CLI_EDITOR_H
#define CLI_EDITOR_H

#include <stdint.h>

#include "base/buffer.h"

struct editor;

enum editor_result {
    EDITOR_TEXT,        /* something was entered, without the final newline */
    EDITOR_END,         /* Ctrl-D, or the terminal is gone */
    EDITOR_INTERRUPTED, /* Ctrl-C: what stood in the line is dropped */
};

/* What there is to do while keys are awaited; it returns after how many nanoseconds it wants to be
 * called again, UINT64_MAX: not before something was entered. */
struct editor_idle {
    uint64_t (*run)(void *context);
    void *context;
};

struct editor *editor_open(struct editor_idle idle); /* NULL without memory or terminal */
void editor_close(struct editor *editor);
/* Empties `out` first. Ctrl-C is remembered (interrupt.h) while it reads. */
enum editor_result editor_read(struct editor *editor, struct buffer *out);

#endif
