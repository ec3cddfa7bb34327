/* A conversation packed into bytes, for a store and for memory while it is not used.
 *
 * Layout, little-endian, without padding:
 *
 *     char magic[8] "HEARTHCV", u32 version 1, u32 flags (1: edited since the last prompt,
 *          2: messages became tokens without a template)
 *     i64  unix_seconds, char model[32] (hearth_model_identity)
 *     u32  settings, then so many u32: keep, plain, overflow, messages dropped
 *     u32  messages, u64 size, then the JSON array of them
 *     16 bytes: XXH3 of all before
 *     u32  computed, ids, marks, 0; u64 held
 *     ids as u32; marks as u32 ids, u64 text; held text
 *     16 bytes: XXH3 of what lies between the sums
 *
 * The second part can be made again from the first: when it is damaged, or of another model, the
 * messages alone are taken. A reader skips settings that it does not know. */
#ifndef SESSION_RECORD_H
#define SESSION_RECORD_H

#include "base/text.h"
#include "hearth/session.h"
#include "session/history.h"

/* What is packed beside a history. */
struct record {
    int64_t unix_seconds; /* what templates take for the present */
    size_t computed;      /* of the ids, so many were computed at last */
    struct hearth_session_settings settings;
    /* HEARTH_MISS_NOTHING; _MODEL, _TEMPLATE or _DAMAGED where only the messages could be taken. */
    enum hearth_miss lost;
};

/* Appends it to `out`. HEARTH_E_MEMORY. */
int record_pack(const struct record *record, const struct history *history, const char *model,
                struct buffer *out, struct hearth_error *err);
/* Into a history that was just begun. HEARTH_E_FORMAT where the messages are damaged,
 * HEARTH_E_UNSUPPORTED for one of a later version; the history may hold a part of it then. */
int record_unpack(struct text bytes, const char *model, struct record *record,
                  struct history *history, struct hearth_error *err);
/* Only the messages, as JSON text in the record, and their count. */
int record_messages(struct text bytes, struct text *messages, size_t *count,
                    struct hearth_error *err);

#endif
