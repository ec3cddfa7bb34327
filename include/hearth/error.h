/* Errors of the public interface, shared by hearth.h and session.h.
 *
 * Every call that can fail returns 0 or one of the negative codes below, and then leaves its
 * outputs and the object it works on as they were. Where a call takes a `struct hearth_error *`,
 * the cause is written there in one sentence that names the file, the key or the limit; the
 * pointer may be NULL. The object is the caller's, plain data, and may live on the stack. */
#ifndef HEARTH_ERROR_H
#define HEARTH_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define HEARTH_API __attribute__((visibility("default")))
#else
#define HEARTH_API
#endif

/* X(name, value, meaning) */
#define HEARTH_ERRORS(X)                                                                           \
    X(ARGUMENT, -1, "an argument is out of its range")                                             \
    X(MEMORY, -2, "out of memory")                                                                 \
    X(IO, -3, "a file could not be read or written")                                               \
    X(FORMAT, -4, "a file or text is malformed")                                                   \
    X(UNSUPPORTED, -5, "a feature that is not supported")                                          \
    X(LIMIT, -6, "a limit was reached")                                                            \
    X(MISSING, -7, "a key, a file or a part does not exist")                                       \
    X(CANCELLED, -8, "the call was cancelled")                                                     \
    X(NUMERIC, -9, "a computation gave no number")                                                 \
    X(TEMPLATE, -10, "a chat template raised an error")                                            \
    X(STATE, -11, "the object is not in the state that the call needs")                            \
    X(CRASHED, -12, "the process that was at work on it ended")                                    \
    X(CHANGED, -13, "a file changed while it was in use")

enum hearth_status {
    HEARTH_OK = 0,
#define HEARTH_ERROR_ENUM(name, value, meaning) HEARTH_E_##name = (value),
    HEARTH_ERRORS(HEARTH_ERROR_ENUM)
#undef HEARTH_ERROR_ENUM
};

#define HEARTH_ERROR_TEXT_MAX 508

struct hearth_error {
    int code;                         /* an enum hearth_status */
    char text[HEARTH_ERROR_TEXT_MAX]; /* UTF-8, NUL-terminated, without a final newline */
};

/* The meaning of a code in a few words; a static string, "unknown error" for an unknown code. */
HEARTH_API const char *hearth_status_text(int code);

#ifdef __cplusplus
}
#endif
#endif
