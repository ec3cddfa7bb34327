/* Ctrl-C, SIGTERM, and SIGHUP where the terminal goes. Always one of three things is right, and a
 * command says which:
 *
 * - nothing is at stake: the process leaves at once with 130 (how it begins, and the default);
 * - an answer is being computed: the first one cancels it, a second Ctrl-C leaves at once;
 * - a line is being edited: it is only remembered, and the read returns.
 *
 * After SIGTERM or SIGHUP a command ends in order: what is kept of a conversation is written. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>

#include "cli/command.h"
#include "hearth/session.h"

/* Also makes a mapped file that can no longer be read a sentence and exit code 1. */
void interrupt_init(void);
/* From now on Ctrl-C cancels this sequence, or this request, until one of the three other calls. */
void interrupt_cancel(struct hearth_sequence *sequence);
void interrupt_cancel_request(struct hearth_request *request);
void interrupt_remember(void);
void interrupt_leave(void);
/* Whether Ctrl-C came since the last call of interrupt_cancel… or interrupt_remember. */
bool interrupt_came(void);
/* Whether the process was asked to end. */
bool interrupt_ends(void);
/* Of a process that was interrupted, or asked to end. */
enum exit_code interrupt_code(void);

#endif
