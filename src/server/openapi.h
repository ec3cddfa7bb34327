/* The OpenAPI document: made of the tables of routes, of the tables of fields by which bodies are
 * checked, and of what each dialect says of its operations. */
#ifndef SERVER_OPENAPI_H
#define SERVER_OPENAPI_H

#include "server/daemon.h"

/* What an operation may answer besides 200 and what the HTTP layer refuses. */
enum api_flags {
    API_MISSING = 1u << 0,   /* 404: what the path or the body names is not there */
    API_CONFLICT = 1u << 1,  /* 409: not now */
    API_MODEL = 1u << 2,     /* asks a model: both, and what becomes of asking one */
    API_GENERATES = 1u << 3, /* the body has generation_fields as well; API_MODEL */
    API_EVENTS = 1u << 4,    /* 200 may be a stream of server-sent events */
    API_LINES = 1u << 5,     /* 200 may be lines of JSON */
    API_ACCEPTED = 1u << 6,  /* 202 in the place of 200: it is done later */
};

struct api_operation {
    enum http_method method;
    const char *path; /* as the route's */
    const char *summary;
    const struct field *fields; /* of the body; NULL with no flag API_GENERATES: it takes none */
    size_t field_count;
    unsigned flags;
    /* Members of the JSON object of a 200: "status:string, models:array, size?:integer", with
     * string, integer, number, boolean, array, object and any, and "?" behind the name of what may
     * be absent or null. "[]" before them: an array of such objects. NULL: any object. */
    const char *answer;
    const char *type; /* of a 200's body; NULL: application/json; "": there is none, it is a 204 */
    /* Query parameters, "name:type, …" as above, all of them optional; NULL: none. */
    const char *query;
};

struct api_operations {
    const struct api_operation *operations;
    size_t count;
};

/* One for each file of a dialect; the operations are those of its routes, all of them. */
struct api_operations openai_operations(void);
struct api_operations ollama_operations(void);
struct api_operations lmstudio_operations(void);
struct api_operations llama_operations(void);
struct api_operations hearth_operations(void);
struct api_operations operation_operations(void);

struct api_dialect {
    const char *tag, *about;
    struct http_routes routes;
    struct api_operations operations;
};
#define API_DIALECTS_MAX 8
/* Those of this daemon; how many. */
size_t openapi_dialects(struct api_dialect out[API_DIALECTS_MAX]);

/* The document, the caller's; NULL without memory. */
json_t *openapi_document(const struct api_dialect *dialects, size_t count);

#endif
