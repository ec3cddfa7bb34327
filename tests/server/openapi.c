/* The OpenAPI document says what there is: each route of each dialect, and nothing else. */
#include "server/openapi.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Tables are read here; nothing of the daemon itself is wanted. */
void daemon_stop(struct daemon *daemon)
{
    (void)daemon;
}

static struct api_dialect dialects[API_DIALECTS_MAX];
static size_t dialect_count;
static json_t *document;

static int start(void **state)
{
    (void)state;
    dialect_count = openapi_dialects(dialects);
    document = openapi_document(dialects, dialect_count);
    return document ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    json_decref(document);
    return 0;
}

static const char *method_name(enum http_method method)
{
    static const char *const names[] = {"get", "head", "post", "put", "patch", "delete", "options"};
    return names[method];
}

static json_t *documented(enum http_method method, const char *path)
{
    json_t *paths = json_object_get(document, "paths");
    return json_object_get(json_object_get(paths, path), method_name(method));
}

static void every_route_is_documented(void **state)
{
    (void)state;
    for (size_t d = 0; d < dialect_count; d++) {
        for (size_t i = 0; i < dialects[d].routes.count; i++) {
            const struct http_route *route = &dialects[d].routes.routes[i];
            const json_t *operation = documented(route->method, route->path);
            if (!operation)
                fail_msg("%s %s is not in the document", method_name(route->method), route->path);
            bool open = json_object_get(operation, "security") != NULL;
            assert_int_equal(open, route->without_key);
            if (route->body_required && !json_is_true(json_object_get(
                                            json_object_get(operation, "requestBody"), "required")))
                fail_msg("%s needs a body, and the document does not say so", route->path);
        }
    }
}

static bool has_route(enum http_method method, const char *path)
{
    for (size_t d = 0; d < dialect_count; d++) {
        for (size_t i = 0; i < dialects[d].routes.count; i++) {
            const struct http_route *route = &dialects[d].routes.routes[i];
            if (route->method == method && strcmp(route->path, path) == 0)
                return true;
        }
    }
    return false;
}

static void every_operation_has_its_route(void **state)
{
    (void)state;
    for (size_t d = 0; d < dialect_count; d++) {
        for (size_t i = 0; i < dialects[d].operations.count; i++) {
            const struct api_operation *operation = &dialects[d].operations.operations[i];
            if (!has_route(operation->method, operation->path))
                fail_msg("%s %s is documented, and there is no such route",
                         method_name(operation->method), operation->path);
            assert_true(operation->summary && *operation->summary);
            assert_true(!operation->fields == (operation->field_count == 0));
            for (size_t k = 0; k < operation->field_count; k++) {
                const struct field *field = &operation->fields[k];
                if (!field->name || (field->type == FIELD_CHOICE && !field->choices))
                    fail_msg("%s has a field without name or choices", operation->path);
                if (field->type == FIELD_INT || field->type == FIELD_REAL)
                    assert_true(field->min <= field->max);
            }
        }
    }
}

/* Each $ref leads somewhere. */
static void check_refs(const json_t *json)
{
    const char *key;
    json_t *value;
    size_t index;
    const char *ref = json_string_value(json_object_get(json, "$ref"));
    if (ref) {
        static const char start_of[] = "#/components/schemas/";
        const json_t *schemas = json_object_get(json_object_get(document, "components"), "schemas");
        assert_memory_equal(ref, start_of, sizeof start_of - 1);
        assert_non_null(json_object_get(schemas, ref + sizeof start_of - 1));
    }
    json_object_foreach((json_t *)(uintptr_t)json, key, value) check_refs(value);
    json_array_foreach(json, index, value) check_refs(value);
}

static void the_document_is_whole(void **state)
{
    const char *path, *method;
    json_t *item, *operation, *ids = json_object();
    (void)state;
    assert_string_equal(json_string_value(json_object_get(document, "openapi")), "3.1.0");
    check_refs(document);
    json_object_foreach(json_object_get(document, "paths"), path, item)
    {
        json_object_foreach(item, method, operation)
        {
            const char *id = json_string_value(json_object_get(operation, "operationId"));
            assert_non_null(id);
            if (json_object_get(ids, id))
                fail_msg("two operations have the id %s", id);
            json_object_set_new(ids, id, json_true());
            for (const char *c = id; *c; c++)
                assert_true(isalnum((unsigned char)*c) || *c == '_');
            const json_t *parameters = json_object_get(operation, "parameters");
            if (strchr(path, '{'))
                assert_string_equal(
                    json_string_value(json_object_get(json_array_get(parameters, 0), "in")),
                    "path");
            assert_non_null(json_object_get(json_object_get(operation, "responses"), "400"));
        }
    }
    json_decref(ids);
}

/* A table of fields becomes a schema that says what fields_read checks: looked at on one. */
static void fields_become_schemas(void **state)
{
    (void)state;
    const json_t *operation = documented(HTTP_METHOD_POST, "/completion");
    const json_t *body = json_object_get(operation, "requestBody");
    const json_t *content = json_object_get(json_object_get(body, "content"), "application/json");
    const json_t *schema = json_object_get(content, "schema");
    const json_t *properties = json_object_get(schema, "properties");
    const json_t *limit = json_object_get(properties, "n_predict");
    assert_int_equal(json_integer_value(json_object_get(limit, "minimum")), -1);
    assert_string_equal(json_string_value(json_array_get(json_object_get(schema, "required"), 0)),
                        "prompt");
    assert_non_null(json_object_get(properties, "temperature")); /* of generation_fields */
    const json_t *answer = json_object_get(json_object_get(operation, "responses"), "200");
    content = json_object_get(answer, "content");
    assert_non_null(json_object_get(content, "text/event-stream"));
    schema = json_object_get(json_object_get(content, "application/json"), "schema");
    assert_string_equal(
        json_string_value(json_object_get(
            json_object_get(json_object_get(schema, "properties"), "tokens"), "type")),
        "array");
    /* errors are of the dialect's own shape */
    operation = documented(HTTP_METHOD_POST, "/tokenize");
    answer = json_object_get(json_object_get(operation, "responses"), "404");
    content = json_object_get(json_object_get(answer, "content"), "application/json");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(content, "schema"), "$ref")),
        "#/components/schemas/Error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_documented),
        cmocka_unit_test(every_operation_has_its_route),
        cmocka_unit_test(the_document_is_whole),
        cmocka_unit_test(fields_become_schemas),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
