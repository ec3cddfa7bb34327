/* Requests that want no good, to every path that takes a body: each field of each table at its
 * boundaries, beyond them and of every wrong type; bodies that are no JSON, nested a million deep,
 * a hundred megabytes large. Each gets a status of its own fault and one clear sentence, and the
 * daemon is as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "raw_http.h"
#include "server/generation.h"
#include "server/openapi.h"
#include "support/process.h"

/* A sanitizer keeps what was freed. */
#define MEASURES_MEMORY (!SANITIZED)

#define DEPTH ((size_t)1000000)
#define LARGE ((size_t)100 << 20)
#define GROWTH_MAX ((unsigned long)48 << 20)

/* Tables are read here; nothing of the daemon itself is wanted. */
void daemon_stop(struct daemon *daemon)
{
    (void)daemon;
}

static struct served served;
static struct api_dialect dialects[API_DIALECTS_MAX];
static size_t dialect_count;
static int connection = -1;
static size_t asked;

static int start(void **state)
{
    (void)state;
    dialect_count = openapi_dialects(dialects);
    serve_with(&served, "tcp=127.0.0.1", "paths=", NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    if (connection >= 0)
        hang_up(&connection);
    serve_end(&served);
    return 0;
}

/* ---- asking ---- */

/* Models and conversations that there are, in the place of {name}. */
static void path_of(const struct api_operation *operation, char path[256])
{
    const char *brace = strchr(operation->path, '{');
    const char *name = strstr(operation->path, "models/{") ? "fake" : "hostile";
    if (brace)
        snprintf(path, 256, "%.*s%s%s", (int)(brace - operation->path), operation->path, name,
                 strchr(brace, '}') + 1);
    else
        snprintf(path, 256, "%s", operation->path);
}

static const char *method_of(const struct api_operation *operation)
{
    return operation->method == HTTP_METHOD_PUT      ? "PUT"
           : operation->method == HTTP_METHOD_DELETE ? "DELETE"
                                                     : "POST";
}

/* The body goes on one connection after the other, as a client's requests do. */
static void send_body(const struct api_operation *operation, const char *body, size_t size,
                      struct answer *answer)
{
    char path[256];
    path_of(operation, path);
    char *request = malloc(512 + size); /* in one piece, for which no acknowledgement is waited */
    int head = snprintf(request, 512,
                        "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\n\r\n",
                        method_of(operation), path, size);
    memcpy(request + head, body, size);
    if (connection < 0)
        connection = dial(&served);
    say_bytes(connection, request, (size_t)head + size);
    free(request);
    hear(connection, false, answer);
    if (answer->closed)
        hang_up(&connection);
    asked++;
}

/* One sentence: of one line, in one of the two shapes, and about what is wrong. */
static void check_refusal(const struct api_operation *operation, const char *what,
                          const struct answer *answer, const char *param)
{
    if (answer->status < 400 || answer->status >= 500)
        fail_msg("%s %s answered %d to %.200s: %.300s", method_of(operation), operation->path,
                 answer->status, what, answer->body);
    json_t *json = json_loadb(answer->body, answer->body_size, 0, NULL);
    const json_t *error = json_object_get(json, "error");
    const char *sentence =
        json_string_value(json_is_string(error) ? error : json_object_get(error, "message"));
    if (!sentence || strlen(sentence) < 8 || strlen(sentence) > 500 || strchr(sentence, '\n'))
        fail_msg("%s says no sentence to %.200s: %.300s", operation->path, what, answer->body);
    if (param && !strstr(sentence, param))
        fail_msg("%s does not name %s to %.200s: %s", operation->path, param, what, sentence);
    json_decref(json);
}

/* ---- bodies ---- */

/* A value that a field takes. */
static json_t *good_value(const struct field *field)
{
    if (strcmp(field->name, "model") == 0)
        return json_string("fake");
    if (strcmp(field->name, "messages") == 0)
        return json_pack("[{s:s, s:s}]", "role", "user", "content", "hello");
    switch (field->type) {
    case FIELD_BOOL:
        return json_false();
    case FIELD_INT:
    case FIELD_REAL:
        return json_integer((json_int_t)(field->min > 0 ? field->min : 1));
    case FIELD_CHOICE:
        return json_string(field->choices[0]);
    case FIELD_ARRAY:
        return json_pack("[i]", 1);
    case FIELD_OBJECT:
        return json_object();
    default:
        return json_string("hello");
    }
}

/* What the operation needs, with `given` in the place of `field`. Takes `given`. */
static char *body_with(const struct api_operation *operation, const struct field *field,
                       json_t *given)
{
    json_t *body = json_object();
    for (size_t i = 0; i < operation->field_count; i++) {
        const struct field *other = &operation->fields[i];
        if (other->required || strcmp(other->name, "model") == 0)
            json_object_set_new(body, other->name, good_value(other));
    }
    if (field)
        json_object_set_new(body, field->name, given);
    char *text = json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY);
    json_decref(body);
    assert_non_null(text);
    return text;
}

/* Asks with a value; `refused` says that it must be, by the field's name. */
static void try_value(const struct api_operation *operation, const struct field *field,
                      json_t *value, bool refused)
{
    struct answer answer;
    char *body = body_with(operation, field, value);
    send_body(operation, body, strlen(body), &answer);
    if (refused)
        check_refusal(operation, body, &answer, field->name);
    else if (answer.status >= 500)
        fail_msg("%s answered %d to %.300s: %.300s", operation->path, answer.status, body,
                 answer.body);
    answer_free(&answer);
    free(body);
}

static void try_wrong_types(const struct api_operation *operation, const struct field *field)
{
    const enum field_type type = field->type;
    const bool number = type == FIELD_INT || type == FIELD_REAL;
    try_value(operation, field, json_string("\x01 wrong \xf0\x9f\x98\x80"), type != FIELD_TEXT);
    try_value(operation, field, json_true(), type != FIELD_BOOL);
    try_value(operation, field, json_pack("[n]"), type != FIELD_ARRAY);
    try_value(operation, field, json_pack("{s:n}", "x"), type != FIELD_OBJECT);
    if (!number)
        try_value(operation, field, json_integer(3), true);
    else
        try_value(operation, field, json_string("3"), true);
    if (!field->required)
        try_value(operation, field, json_null(), false);
}

static json_t *number_of(double value)
{
    return value == (double)(json_int_t)value && value > -9e18 && value < 9e18
               ? json_integer((json_int_t)value)
               : json_real(value);
}

static void try_numbers(const struct api_operation *operation, const struct field *field)
{
    const bool whole = field->type == FIELD_INT;
    /* a step beyond a bound is none where doubles are coarser than that */
    const double step = whole ? 1 : 1e-3, below = field->min - step, above = field->max + step;
    try_value(operation, field, number_of(field->min), false);
    try_value(operation, field, number_of(field->max < 0x1p63 ? field->max : 0x1p62), false);
    if (below < field->min)
        try_value(operation, field, json_real(below), true);
    if (above > field->max)
        try_value(operation, field, json_real(above), true);
    if (whole)
        try_value(operation, field, json_real(0.5), true);
    try_value(operation, field, json_real(1e300), true);
    try_value(operation, field, json_real(-1e300), true);
    try_value(operation, field, json_integer(INT64_MAX), field->max < 0x1p63);
    try_value(operation, field, json_integer(INT64_MIN), field->min > -0x1p63);
    try_value(operation, field, json_real(-0.0), false);
}

static void try_sizes(const struct api_operation *operation, const struct field *field)
{
    if (field->max <= 0 || field->max > 1e6)
        return;
    size_t size = (size_t)field->max + 1;
    if (field->type == FIELD_ARRAY) {
        json_t *array = json_array();
        for (size_t i = 0; i < size; i++)
            json_array_append_new(array, json_string("a"));
        try_value(operation, field, array, true);
    } else {
        char *text = malloc(size);
        memset(text, 'a', size);
        try_value(operation, field, json_stringn(text, size), true);
        free(text);
    }
}

static void try_field(const struct api_operation *operation, const struct field *field)
{
    switch (field->type) {
    case FIELD_INT:
    case FIELD_REAL:
        try_wrong_types(operation, field);
        try_numbers(operation, field);
        break;
    case FIELD_TEXT:
    case FIELD_ARRAY:
        try_wrong_types(operation, field);
        try_sizes(operation, field);
        break;
    case FIELD_BOOL:
    case FIELD_OBJECT:
    case FIELD_CHOICE:
        try_wrong_types(operation, field);
        break;
    case FIELD_REFUSED:
        try_value(operation, field, json_pack("[{s:i}]", "a", 1), true);
        try_value(operation, field, json_pack("{s:i}", "a", 1), true);
        try_value(operation, field, json_string("\x01"), true);
        try_value(operation, field, json_real(0.5), true);
        try_value(operation, field, json_true(), true);
        break;
    case FIELD_ANY:
    case FIELD_IGNORED:
        try_value(operation, field, json_pack("[[{s:n}]]", "a"), false);
        try_value(operation, field, json_pack("{s:[i]}", "a", 1), false);
        try_value(operation, field, json_real(-1e300), false);
        try_value(operation, field, json_integer(INT64_MIN), false);
        try_value(operation, field, json_string(""), false);
        break;
    }
}

static bool takes_body(const struct api_operation *operation)
{
    return operation->fields || (operation->flags & API_GENERATES);
}

static void for_each_operation(void (*visit)(const struct api_operation *operation))
{
    for (size_t d = 0; d < dialect_count; d++) {
        for (size_t i = 0; i < dialects[d].operations.count; i++) {
            if (takes_body(&dialects[d].operations.operations[i]))
                visit(&dialects[d].operations.operations[i]);
        }
    }
}

static void try_fields(const struct api_operation *operation)
{
    for (size_t i = 0; i < operation->field_count; i++)
        try_field(operation, &operation->fields[i]);
    for (size_t i = 0; i < generation_field_count; i++) {
        bool own = false;
        for (size_t k = 0; k < operation->field_count; k++)
            own = own || strcmp(operation->fields[k].name, generation_fields[i].name) == 0;
        if ((operation->flags & API_GENERATES) && !own)
            try_field(operation, &generation_fields[i]);
    }
}

static void every_field_is_checked(void **state)
{
    (void)state;
    asked = 0;
    for_each_operation(try_fields);
    assert_true(asked > 500);
    assert_true(stat_becomes(&served, "jobs", 0, 5000));
    assert_true(stat_becomes(&served, "leases", 0, 5000));
}

/* ---- bodies that are none ---- */

static void try_body(const struct api_operation *operation, const char *body, size_t size,
                     const char *what)
{
    struct answer answer;
    send_body(operation, body, size, &answer);
    check_refusal(operation, what, &answer, NULL);
    answer_free(&answer);
}

static void try_no_json(const struct api_operation *operation)
{
    static const struct {
        const char *bytes;
        size_t size;
    } bodies[] = {
#define BODY(literal) {literal, sizeof literal - 1}
        BODY("null"),
        BODY("[]"),
        BODY("\"text\""),
        BODY("1"),
        BODY("true"),
        BODY("{"),
        BODY("{\"a\""),
        BODY("{\"a\": }"),
        BODY("{} {}"),
        BODY("{}x"),
        BODY("{'a': 1}"),
        BODY("{\"a\": NaN}"),
        BODY("{\"a\": Infinity}"),
        BODY("{\"a\": 1e999}"),
        BODY("{\"a\": 99999999999999999999999999}"),
        BODY("{\"a\": 01}"),
        BODY("{\"a\": \"\xff\"}"),
        BODY("{\"a\": \"\xc3\"}"),
        BODY("{\"\xed\xa0\x80\": 1}"),
        BODY("{\"a\": \"\\ud800\"}"),
        BODY("{\"a\": \"\\u0000\"}"),
        BODY("{\"a\": \"\n\"}"),
        BODY("{\"a\": 1}\0"),
        BODY("\0"),
        BODY("\xef\xbb\xbf{}"),
        BODY("\xff\xfe{\0}\0"),
        BODY("   "),
        BODY("<xml/>"),
        BODY("a=b&c=d"),
#undef BODY
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        try_body(operation, bodies[i].bytes, bodies[i].size, bodies[i].bytes);
}

static void what_is_no_json_is_refused(void **state)
{
    (void)state;
    for_each_operation(try_no_json);
}

static char *deep;

static void try_nesting(const struct api_operation *operation)
{
    static const char *const begins[] = {"{\"messages\":", "{\"model\":\"fake\",\"x\":", ""};
    for (size_t i = 0; i < 3; i++) {
        size_t before = strlen(begins[i]);
        memcpy(deep, begins[i], before);
        memset(deep + before, i == 1 ? '{' : '[', DEPTH);
        if (i == 1) { /* {"":{"":… */
            for (size_t k = 0; k + 4 <= DEPTH; k += 4)
                memcpy(deep + before + k, "{\"\":", 4);
        }
        try_body(operation, deep, before + DEPTH, "a nesting of a million");
    }
}

static void nestings_are_refused(void **state)
{
    (void)state;
    deep = malloc(DEPTH + 64);
    for_each_operation(try_nesting);
    free(deep);
}

static void try_large(const struct api_operation *operation)
{
    char head[512], path[256];
    struct answer answer;
    path_of(operation, path);
    int fd = dial(&served);
    snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n{",
             method_of(operation), path, LARGE);
    say(fd, head);
    hear(fd, false, &answer);
    assert_int_equal(answer.status, 413);
    check_refusal(operation, "a body of 100 MB", &answer, NULL);
    answer_free(&answer);
    hang_up(&fd);
}

static void large_bodies_are_refused(void **state)
{
    (void)state;
    for_each_operation(try_large);
}

/* The same without saying so before: chunk after chunk. */
static void large_bodies_in_chunks_are_refused(void **state)
{
    static char chunk[(1 << 16) + 16];
    struct answer answer;
    (void)state;
    int fd = dial(&served);
    say(fd, "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    memcpy(chunk, "10000\r\n", 7);
    memset(chunk + 7, ' ', 1 << 16);
    memcpy(chunk + 7 + (1 << 16), "\r\n", 2);
    for (size_t sent = 0; sent < LARGE; sent += 1 << 16)
        say_bytes(fd, chunk, 7 + (1 << 16) + 2);
    hear(fd, false, &answer);
    assert_int_equal(answer.status, 413);
    answer_free(&answer);
    hang_up(&fd);
}

static void texts_with_invalid_names_are_refused(void **state)
{
    static const char *const names[] = {"%00", "%ff", "%c3", "%", "%1", "%zz", "%0a", "%ed%a0%80"};
    (void)state;
    for (size_t d = 0; d < dialect_count; d++) {
        for (size_t i = 0; i < dialects[d].routes.count; i++) {
            const struct http_route *route = &dialects[d].routes.routes[i];
            const char *brace = strchr(route->path, '{');
            for (size_t k = 0; brace && k < sizeof names / sizeof *names; k++) {
                char request[512];
                snprintf(request, sizeof request,
                         "%s %.*s%s%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                         route->method == HTTP_METHOD_GET      ? "GET"
                         : route->method == HTTP_METHOD_DELETE ? "DELETE"
                         : route->method == HTTP_METHOD_PUT    ? "PUT"
                                                               : "POST",
                         (int)(brace - route->path), route->path, names[k], strchr(brace, '}') + 1);
                int fd = dial(&served);
                expect_status(fd, request, 400);
                hang_up(&fd);
            }
        }
    }
}

/* After all of that: nothing is held, and nothing was kept in memory. */
static void the_daemon_is_unharmed(void **state)
{
    (void)state;
    if (connection >= 0)
        hang_up(&connection);
    assert_true(stat_becomes(&served, "connections", 1, 5000));
    assert_int_equal(stat_of(&served, "leases"), 0);
    assert_int_equal(stat_of(&served, "jobs"), 0);
    assert_int_equal(stat_of(&served, "waits"), 0);
    if (MEASURES_MEMORY && stat_of(&served, "private") > GROWTH_MAX)
        fail_msg("the daemon takes %lu bytes", stat_of(&served, "private"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_checked),
        cmocka_unit_test(what_is_no_json_is_refused),
        cmocka_unit_test(nestings_are_refused),
        cmocka_unit_test(large_bodies_are_refused),
        cmocka_unit_test(large_bodies_in_chunks_are_refused),
        cmocka_unit_test(texts_with_invalid_names_are_refused),
        cmocka_unit_test(the_daemon_is_unharmed),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
