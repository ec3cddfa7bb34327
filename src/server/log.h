/* The daemon's log: one line a fact, as text or as JSON. No keys, no texts of users, no paths of
 * theirs. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include <stdbool.h>
#include <stdint.h>

struct log;
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

/* NULL without memory, and every call takes NULL. The descriptor stays the caller's. */
struct log *log_create(int fd, bool json, enum log_level least);
void log_destroy(struct log *log);
/* `request`: its number, 0: none. "what" is a short phrase; `fields` as json_pack's words have them
 * are not: pairs are appended by the format as key=value, values with spaces quoted. */
void log_line(struct log *log, enum log_level level, uint64_t request, const char *what,
              const char *format, ...) __attribute__((format(printf, 5, 6)));
uint64_t log_next_request(struct log *log); /* 1, 2, … */

#endif
