/* Reading a command line by a command's table, and what else is told by that table: defaults, the
 * nearest name to one that was mistyped. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/buffer.h"
#include "base/error.h"
#include "cli/command.h"

/* Every command has this option, without its table naming it. */
extern const struct option option_help;

/* The options of a command in the order of its table, `option_help` last. NULL beyond the end. */
const struct option *option_at(const struct command *command, size_t index);

/* Zeroed settings of a command with its defaults in them; NULL without memory. */
void *settings_create(const struct command *command);
void settings_destroy(const struct command *command, void *settings);

/* Reads the words behind the command's name. Options may stand anywhere, as "--name value",
 * "--name=value", "-n value" or "-nvalue"; flags of one letter may be joined; "--" ends them.
 * *help becomes true, and nothing is checked further, where help is asked for.
 * HEARTH_E_ARGUMENT says what is wrong in one sentence. */
int options_parse(const struct command *command, int count, char *const *words, void *settings,
                  bool *help, struct hearth_error *err);

/* Appends the default as the user would type it; nothing where there is none worth a word. */
void option_default(const struct option *option, const void *settings, struct buffer *out);

/* The name among `count` (called through `name_at`) that is nearest to `word`, NULL when none is
 * near. */
const char *nearest_name(const char *word, size_t count,
                         const char *(*name_at)(const void *context, size_t index),
                         const void *context);

#endif
