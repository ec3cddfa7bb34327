/* The texts that are made from the commands' tables. All of them are results, for standard output.
 */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "base/buffer.h"
#include "cli/command.h"

/* --help, wrapped to `width` columns; `command` NULL: the program's own. */
void help_write(const struct program *program, const struct command *command, unsigned width,
                struct buffer *out);
/* The same on standard output, as wide as the terminal. */
enum exit_code help_show(const struct program *program, const struct command *command);

/* A man page in roff (man(7)); `command` NULL: hearth(1), else hearth-COMMAND(1). */
void manual_write(const struct program *program, const struct command *command, struct buffer *out);

/* A completion script: `shell` is bash, zsh or fish; false for another. */
bool completion_write(const struct program *program, const char *shell, struct buffer *out);

/* "hearth run [OPTION]... MODEL [PROMPT]" */
void usage_line(const struct command *command, struct buffer *out);
/* "-n, --max-tokens N" with what is there of it. */
void option_spelling(const struct option *option, struct buffer *out);
/* "One of f16, q8_0; default f16." and the like; nothing where there is nothing to say. */
void option_facts(const struct option *option, const void *settings, struct buffer *out);
/* The topics of a command in the order in which they first appear: the index-th, or NULL. */
const char *topic_at(const struct command *command, size_t index);

extern const char help_about[];      /* what the program is, a paragraph */
extern const char help_exit_codes[]; /* lines "CODE<TAB>MEANING" */

#endif
