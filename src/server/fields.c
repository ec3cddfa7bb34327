#include "server/fields.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "server/models.h"

/* ---- refusals ---- */

static int code_of_status(int status)
{
    switch (status) {
    case 404:
        return HEARTH_E_MISSING;
    case 409:
        return HEARTH_E_STATE;
    case 499:
        return HEARTH_E_CANCELLED;
    case 501:
        return HEARTH_E_UNSUPPORTED;
    case 507:
        return HEARTH_E_MEMORY;
    default:
        return status >= 500 ? HEARTH_E_IO : HEARTH_E_ARGUMENT;
    }
}

int refuse(struct refusal *refusal, int status, const char *param, const char *format, ...)
{
    char sentence[HEARTH_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    refusal->status = status;
    snprintf(refusal->param, sizeof refusal->param, "%s", param);
    error_set(&refusal->error, code_of_status(status), "%s", sentence);
    return -1;
}

static int status_of_code(int code)
{
    switch (code) {
    case HEARTH_E_ARGUMENT:
    case HEARTH_E_FORMAT:
    case HEARTH_E_UNSUPPORTED:
    case HEARTH_E_TEMPLATE:
    case HEARTH_E_LIMIT:
        return 400;
    case HEARTH_E_MISSING:
        return 404;
    case HEARTH_E_STATE:
        return 409;
    case HEARTH_E_CANCELLED:
        return 499;
    case HEARTH_E_MEMORY:
        return 507;
    default:
        return 500;
    }
}

int refusal_of(struct refusal *refusal, const struct hearth_error *error)
{
    refusal->status = status_of_code(error->code);
    refusal->param[0] = '\0';
    refusal->error = *error;
    return -1;
}

/* ---- bodies ---- */

static const char *kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a text";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    default:
        return "null";
    }
}

json_t *fields_parse(struct text body, struct refusal *refusal)
{
    json_error_t cause;
    if (body.size == 0) {
        refuse(refusal, 400, "", "the body is empty; a JSON object is expected");
        return NULL;
    }
    json_t *object = json_loadb(body.data, body.size, 0, &cause);
    if (!object) {
        bool nul = json_error_code(&cause) == json_error_null_character;
        refuse(refusal, 400, "", "the body is not valid JSON (line %d, column %d): %s", cause.line,
               cause.column, nul ? "a text with the character \\u0000" : cause.text);
        return NULL;
    }
    if (!json_is_object(object)) {
        refuse(refusal, 400, "", "the body is %s; a JSON object is expected", kind_of(object));
        json_decref(object);
        return NULL;
    }
    return object;
}

/* ---- values ---- */

/* What a value must be, for a sentence: "a whole number from 0 to 20". */
static void describe(const struct field *field, char *text, size_t size)
{
    static const char *const kinds[] = {
        [FIELD_BOOL] = "true or false", [FIELD_TEXT] = "a text",
        [FIELD_ARRAY] = "an array",     [FIELD_OBJECT] = "an object",
        [FIELD_INT] = "a whole number", [FIELD_REAL] = "a number",
        [FIELD_CHOICE] = "one of",      [FIELD_ANY] = "anything",
        [FIELD_REFUSED] = "left out",   [FIELD_IGNORED] = "anything",
    };
    int used = snprintf(text, size, "%s", kinds[field->type]);
    size_t at = (size_t)used;
    if (field->type == FIELD_INT || field->type == FIELD_REAL)
        snprintf(text + at, size - at, " from %.15g to %.15g", field->min, field->max);
    else if (field->type == FIELD_TEXT && field->max > 0)
        snprintf(text + at, size - at, " of at most %.0f bytes", field->max);
    else if (field->type == FIELD_ARRAY && field->max > 0)
        snprintf(text + at, size - at, " of at most %.0f items", field->max);
    for (size_t i = 0; field->type == FIELD_CHOICE && field->choices[i] && at < size; i++) {
        used = snprintf(text + at, size - at, "%s \"%s\"", i ? "," : "", field->choices[i]);
        at += (size_t)used;
    }
}

static int refuse_value(struct refusal *refusal, const struct field *field, const json_t *value)
{
    char wanted[256], got[96];
    describe(field, wanted, sizeof wanted);
    if (json_is_integer(value))
        snprintf(got, sizeof got, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        snprintf(got, sizeof got, "%.6g", json_real_value(value));
    else if (json_is_string(value) && field->type == FIELD_CHOICE)
        snprintf(got, sizeof got, "\"%.60s\"", json_string_value(value));
    else if (json_is_string(value) && field->type == FIELD_TEXT)
        snprintf(got, sizeof got, "of %zu bytes", json_string_length(value));
    else if (json_is_array(value) && field->type == FIELD_ARRAY)
        snprintf(got, sizeof got, "of %zu items", json_array_size(value));
    else
        snprintf(got, sizeof got, "%s", kind_of(value));
    return refuse(refusal, 400, field->name, "%s is %s; it must be %s", field->name, got, wanted);
}

/* Whether a number has no fraction and can be held; 2^63 itself cannot. */
static bool whole_number(const json_t *value, int64_t *out)
{
    double real;
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    real = json_is_real(value) ? json_real_value(value) : NAN;
    if (!(real >= -0x1p63 && real < 0x1p63) || real != floor(real))
        return false;
    *out = (int64_t)real;
    return true;
}

static int choice_of(const struct field *field, const json_t *value)
{
    for (int i = 0; json_is_string(value) && field->choices[i]; i++) {
        if (strcmp(json_string_value(value), field->choices[i]) == 0)
            return i;
    }
    return -1;
}

/* Whether a value asks for nothing. */
static bool says_nothing(const struct field *field, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_STRING:
        return json_string_length(value) == 0 ||
               (field->choices && strcmp(json_string_value(value), field->choices[0]) == 0);
    case JSON_INTEGER:
    case JSON_REAL:
        return json_number_value(value) == 0.0;
    case JSON_TRUE:
        return false;
    default:
        return true;
    }
}

static bool read_text(const struct field *field, const json_t *value, struct text *out)
{
    if (!json_is_string(value) ||
        (field->max > 0 && (double)json_string_length(value) > field->max))
        return false;
    *out = (struct text){json_string_value(value), json_string_length(value)};
    return true;
}

static bool read_number(const struct field *field, const json_t *value, void *out)
{
    int64_t whole;
    if (!json_is_number(value) || !(json_number_value(value) >= field->min) ||
        !(json_number_value(value) <= field->max))
        return false;
    if (field->type == FIELD_REAL) {
        *(double *)out = json_number_value(value);
        return true;
    }
    if (!whole_number(value, &whole))
        return false;
    *(int64_t *)out = whole;
    return true;
}

static bool read_container(const struct field *field, const json_t *value, const json_t **out)
{
    if (field->type == FIELD_ARRAY &&
        (!json_is_array(value) || (field->max > 0 && (double)json_array_size(value) > field->max)))
        return false;
    if (field->type == FIELD_OBJECT && !json_is_object(value))
        return false;
    *out = value;
    return true;
}

static bool read_value(const struct field *field, const json_t *value, void *out)
{
    int choice;
    switch (field->type) {
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            return false;
        *(bool *)out = json_is_true(value);
        return true;
    case FIELD_INT:
    case FIELD_REAL:
        return read_number(field, value, out);
    case FIELD_TEXT:
        return read_text(field, value, out);
    case FIELD_CHOICE:
        choice = choice_of(field, value);
        if (choice >= 0)
            *(int *)out = choice;
        return choice >= 0;
    case FIELD_ARRAY:
    case FIELD_OBJECT:
    case FIELD_ANY:
        return read_container(field, value, out);
    default:
        return true;
    }
}

int fields_read(const json_t *object, const struct field *fields, size_t count, void *out,
                struct refusal *refusal)
{
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        const json_t *value = json_object_get(object, field->name);
        if (!value || json_is_null(value)) {
            if (field->required)
                return refuse(refusal, 400, field->name, "%s is missing", field->name);
            continue;
        }
        if (field->type == FIELD_REFUSED && !says_nothing(field, value))
            return refuse(refusal, 400, field->name, "%s is not supported", field->name);
        if (field->type == FIELD_REFUSED || field->type == FIELD_IGNORED)
            continue;
        if (!read_value(field, value, (char *)out + field->at))
            return refuse_value(refusal, field, value);
        if (field->given_at)
            *(bool *)((char *)out + field->given_at) = true;
    }
    return 0;
}

/* ---- the document ---- */

static const char *schema_type(enum field_type type)
{
    switch (type) {
    case FIELD_BOOL:
        return "boolean";
    case FIELD_INT:
        return "integer";
    case FIELD_REAL:
        return "number";
    case FIELD_TEXT:
        return "string";
    case FIELD_ARRAY:
        return "array";
    case FIELD_OBJECT:
        return "object";
    default:
        return NULL;
    }
}

/* A bound as JSON: whole where it is. The ends of int64_t, which doubles round away from zero, are
 * left out: every integer that can be read lies inside them. */
static void put_bound(json_t *schema, const char *name, double bound)
{
    if (fabs(bound) >= 0x1p63)
        return;
    json_object_set_new(schema, name,
                        bound == floor(bound) && fabs(bound) < 0x1p53
                            ? json_integer((json_int_t)bound)
                            : json_real(bound));
}

static json_t *choices_schema(const struct field *field)
{
    json_t *values = json_array();
    for (size_t i = 0; field->choices[i]; i++)
        json_array_append_new(values, json_string(field->choices[i]));
    if (!field->required)
        json_array_append_new(values, json_null());
    return json_pack("{s:o}", "enum", values);
}

static json_t *refused_schema(const struct field *field)
{
    json_t *values = json_pack("[n,b,i,s,[],{}]", 0, 0, "");
    if (field->choices)
        json_array_append_new(values, json_string(field->choices[0]));
    return json_pack("{s:o}", "enum", values);
}

static json_t *typed_schema(const struct field *field)
{
    const char *type = schema_type(field->type);
    json_t *schema = json_object();
    if (!type)
        return schema;
    json_object_set_new(schema, "type",
                        field->required ? json_string(type) : json_pack("[s,s]", type, "null"));
    if (field->type == FIELD_INT || field->type == FIELD_REAL) {
        put_bound(schema, "minimum", field->min);
        put_bound(schema, "maximum", field->max);
    } else if (field->type == FIELD_TEXT && field->max > 0) {
        put_bound(schema, "maxLength", field->max);
    } else if (field->type == FIELD_ARRAY && field->max > 0) {
        put_bound(schema, "maxItems", field->max);
    }
    return schema;
}

json_t *fields_schema(const struct field *fields, size_t count)
{
    json_t *properties = json_object(), *required = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct field *field = &fields[i];
        json_t *schema = field->type == FIELD_CHOICE    ? choices_schema(field)
                         : field->type == FIELD_REFUSED ? refused_schema(field)
                                                        : typed_schema(field);
        if (field->help)
            json_object_set_new(schema, "description", json_string(field->help));
        json_object_set_new(properties, field->name, schema);
        if (field->required)
            json_array_append_new(required, json_string(field->name));
    }
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

/* ---- durations and lists ---- */

#define LONG_SECONDS 1e10 /* three centuries: as good as never, and far from overflow */

static bool ttl_of_seconds(double seconds, uint64_t *ns)
{
    *ns = seconds < 0 || seconds >= LONG_SECONDS ? MODELS_TTL_NEVER : (uint64_t)(seconds * 1e9);
    return true;
}

/* Digits with a point among them; not strtod, which knows signs, exponents, infinities and locales.
 */
static bool take_decimal(struct text *rest, double *value)
{
    double scale = 1;
    bool point = false, digits = false;
    *value = 0;
    for (; rest->size > 0; rest->data++, rest->size--) {
        char c = *rest->data;
        if (c == '.' && !point) {
            point = true;
        } else if (c >= '0' && c <= '9') {
            digits = true;
            *value = *value * 10 + (c - '0');
            scale *= point ? 10 : 1;
        } else {
            break;
        }
    }
    *value /= scale;
    return digits && isfinite(*value);
}

static bool take_unit(struct text *rest, double *seconds)
{
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"ns", 1e-9}, {"us", 1e-6}, {"\xc2\xb5s", 1e-6}, {"\xce\xbcs", 1e-6},
                 {"ms", 1e-3}, {"s", 1},     {"m", 60},           {"h", 3600}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct text name = text_of(units[i].name);
        if (text_starts_with(*rest, name)) {
            *rest = (struct text){rest->data + name.size, rest->size - name.size};
            *seconds = units[i].seconds;
            return true;
        }
    }
    return false;
}

static bool duration_of_text(struct text text, uint64_t *ns)
{
    double sum = 0, value, unit;
    bool negative = text.size > 0 && text.data[0] == '-';
    if (text.size > 64)
        return false;
    if (negative || (text.size > 0 && text.data[0] == '+'))
        text = (struct text){text.data + 1, text.size - 1};
    for (bool first = true; first || text.size > 0; first = false) {
        if (!take_decimal(&text, &value))
            return false;
        if (take_unit(&text, &unit))
            sum += value * unit;
        else if (first && text.size == 0)
            sum = value;
        else
            return false;
    }
    return ttl_of_seconds(negative && sum > 0 ? -1 : sum, ns);
}

bool fields_duration(const json_t *value, uint64_t *ns)
{
    if (json_is_number(value))
        return ttl_of_seconds(json_number_value(value), ns);
    return json_is_string(value) &&
           duration_of_text((struct text){json_string_value(value), json_string_length(value)}, ns);
}

bool fields_texts(const json_t *value, struct text *out, size_t max, uint32_t *count)
{
    size_t size = json_is_array(value) ? json_array_size(value) : 1;
    if (size > max)
        return false;
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(item))
            return false;
        out[i] = (struct text){json_string_value(item), json_string_length(item)};
    }
    *count = (uint32_t)size;
    return true;
}
