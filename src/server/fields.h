/* Bodies of requests: objects whose fields have a declared type and range. The same tables make the
 * schemas of the OpenAPI document, so that what is said is what is checked. Fields that no table
 * names are accepted and ignored. */
#ifndef SERVER_FIELDS_H
#define SERVER_FIELDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "hearth/error.h"

enum field_type {
    FIELD_BOOL,    /* bool */
    FIELD_INT,     /* int64_t, in min..max; a number without fraction */
    FIELD_REAL,    /* double, finite, in min..max */
    FIELD_TEXT,    /* struct text, at most max bytes where max > 0 */
    FIELD_CHOICE,  /* int: the index in `choices` */
    FIELD_ARRAY,   /* const json_t *, at most max items where max > 0 */
    FIELD_OBJECT,  /* const json_t * */
    FIELD_ANY,     /* const json_t * */
    FIELD_REFUSED, /* not supported: an error unless absent, null, false, 0, "" or empty, or the
                    * text that `choices` has first */
    FIELD_IGNORED, /* known, of no meaning here: for the document alone */
};

struct field {
    const char *name;
    enum field_type type;
    double min, max;
    size_t at;       /* offset of the value; and of a bool that says whether it was given, or 0 */
    size_t given_at; /* (0 is the offset of no such bool: put another member first) */
    bool required;
    const char *const *choices; /* NULL-terminated */
    const char *help;           /* a sentence for the document */
};

/* Why a request is refused. */
struct refusal {
    int status;     /* of HTTP; 0: it is not */
    char param[64]; /* the field; "" where it is none */
    struct hearth_error error;
};
/* Returns -1, so that callers can return it. */
int refuse(struct refusal *refusal, int status, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The status that stands for an error's code: 400 ARGUMENT, FORMAT, UNSUPPORTED, TEMPLATE, LIMIT;
 * 404 MISSING; 409 STATE; 499 CANCELLED; 507 MEMORY; else 500. */
int refusal_of(struct refusal *refusal, const struct hearth_error *error);

/* A body: one JSON object. NULL and a refusal for anything else. The caller's. */
json_t *fields_parse(struct text body, struct refusal *refusal);
/* Values that are absent or null leave `out` as it was. 0, or -1 and a refusal that names the
 * field. What it points to lives as long as `object`. */
int fields_read(const json_t *object, const struct field *fields, size_t count, void *out,
                struct refusal *refusal);
/* A JSON schema of them, with `required`, types, ranges and descriptions. */
json_t *fields_schema(const struct field *fields, size_t count);

/* "10m", "1h30m", "250ms", "-1" or seconds as a number or a text, as Ollama's keep_alive has them:
 * nanoseconds; negative is MODELS_TTL_NEVER. */
bool fields_duration(const json_t *value, uint64_t *ns);
/* One text or an array of texts; false for anything else or more than `max`. */
bool fields_texts(const json_t *value, struct text *out, size_t max, uint32_t *count);

#endif
