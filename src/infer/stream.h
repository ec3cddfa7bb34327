/* Streamed text: token ids in, whole code points out, stop strings never shown.
 *
 * The text given, all calls together, does not depend on how it is cut into tokens. It is always
 * valid UTF-8: bytes that are none become U+FFFD, one for each longest beginning of a code point or
 * single byte (as Unicode recommends). Stop strings are sought in that text; the first to be
 * complete counts, of several that end at one byte the longest, and the text ends before it. Held
 * back is the shortest end of the text that can still become a stop string, and no more.
 *
 * The public calls but hearth_stream_open are in stream.c. */
#ifndef INFER_STREAM_H
#define INFER_STREAM_H

#include "hearth/hearth.h"
#include "infer/vocabulary.h"

#define STREAM_STOPS_MAX 64
#define STREAM_STOP_BYTES_MAX 1024

/* `options` may be NULL: no stop strings, control tokens hidden. What `vocabulary` points to must
 * outlive the stream. HEARTH_E_LIMIT for too many or too long stop strings, HEARTH_E_ARGUMENT for
 * an empty one or one that is no UTF-8; HEARTH_E_MEMORY. */
int stream_open(const struct vocabulary *vocabulary, const struct hearth_stream_options *options,
                struct hearth_stream **out, struct hearth_error *err);

#endif
