/* What the commands write: results on standard output, talk on standard error, and the units in
 * which people read sizes and times. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"
#include "cli/command.h"

#define CONSOLE_STDIN 0
#define CONSOLE_STDOUT 1
#define CONSOLE_STDERR 2

/* A line on standard error, with the program's name before it. */
void console_say(const char *format, ...) PRINTF_LIKE(1, 2);
/* The cause of a failure, said so; returns the exit code that goes with it. */
enum exit_code console_fail(const struct hearth_error *err);

/* A piece of a result, shown at once. Where standard output is a terminal, control characters but
 * newline and tab become U+FFFD: what a model writes must not steer the terminal. `text` is valid
 * UTF-8. */
void console_show(struct text text);
/* The messages of a conversation, for reading, in the same way: "ROLE: TEXT", an empty line between
 * them. */
void console_show_messages(const json_t *messages);
/* Ends a command: EXIT_CODE_OK, or the error that standard output had, said on standard error. */
enum exit_code console_finish(void);
/* Writes a JSON object as one line; takes the reference. */
enum exit_code console_json(json_t *object);

/* Reads all of a stream into `out`, whose maximum holds. */
int console_read_all(FILE *stream, const char *name, struct buffer *out, struct hearth_error *err);

/* Bytes with what does not print as C escapes: \n, \t, \\, \x1b. */
void console_escape(struct text text, struct buffer *out);

/* The same, as wide as columns_max columns of a terminal at most: what is beyond becomes an
 * ellipsis. Returns its columns. */
size_t console_fit(struct text text, size_t columns_max, struct buffer *out);

#define SIZE_TEXT_MAX 48

/* "12.3 MiB", "1.42 GiB". */
const char *size_text(uint64_t bytes, char out[SIZE_TEXT_MAX]);
/* "134,515,008" */
const char *count_text(uint64_t count, char out[SIZE_TEXT_MAX + 8]);
/* "85 ms", "1.42 s", "3 min 20 s" */
const char *duration_text(uint64_t ns, char out[SIZE_TEXT_MAX]);

static inline double ms_of(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* Tokens in each second; 0 where no time was taken. */
static inline double per_second(uint64_t count, uint64_t ns)
{
    return ns ? (double)count * 1e9 / (double)ns : 0.0;
}

/* A number for JSON, rounded to `digits` decimals; null for what is no number. */
json_t *json_rounded(double value, int digits);

#endif
