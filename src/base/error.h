/* Setting the cause of a failure. The codes are those of the public interface. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "hearth/error.h"

#if defined(__GNUC__)
#define PRINTF_LIKE(format_at, args_at) __attribute__((format(printf, format_at, args_at)))
#else
#define PRINTF_LIKE(format_at, args_at)
#endif

/* Writes the cause into `err` (which may be NULL) and returns `code`, so that a caller can say
 * `return error_set(err, HEARTH_E_FORMAT, "…")`. A text that is too long is cut at a code point;
 * bytes below 0x20 and invalid UTF-8 in it (they may come from a file) become '?'. */
int error_set(struct hearth_error *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

/* Puts "prefix: " before the cause that is already there; for a caller that knows the file or the
 * key. Returns the code in `err`, or `code` where `err` is NULL. */
int error_prefix(struct hearth_error *err, int code, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
