/* The daemon's log: one line a fact, as text or as JSON. No keys, no texts of users, no paths of
 * theirs. A reader who does not keep up never makes the daemon wait: lines are lost instead, and
 * the next one that is not says how many. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/text.h"

struct log;
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* NULL without memory, and every call takes NULL. The descriptor stays the caller's. */
struct log *log_create(int fd, bool json, enum log_level least);
void log_destroy(struct log *log);
/* `request`: the number of the HTTP request (http_request.number), 0: none. `what` is a short
 * phrase. The format makes pairs, "name=value other=\"a value with spaces\""; JSON has them as
 * members, with numbers as numbers. What comes from outside goes through log_value. */
void log_line(struct log *log, enum log_level level, uint64_t request, const char *what,
              const char *format, ...) PRINTF_LIKE(5, 6);

#define LOG_TAIL_BYTES ((size_t)1 << 17)
/* Appends the lines behind byte `from` of all that were ever logged, of which the last
 * LOG_TAIL_BYTES are kept; returns where the next ones begin. */
uint64_t log_tail(const struct log *log, uint64_t from, struct buffer *out);

#define LOG_VALUE_SIZE 160
/* A value of a pair: in quotes where it needs them, cut where it is long. Returns `out`. */
const char *log_value(char out[LOG_VALUE_SIZE], struct text value);

#endif
