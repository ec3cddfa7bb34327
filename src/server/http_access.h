/* Who may ask: Host, Origin and key of a request, and what a browser is told of it. */
#ifndef SERVER_HTTP_ACCESS_H
#define SERVER_HTTP_ACCESS_H

#include "server/http_parse.h"

/* Each says by status 0 that nothing speaks against the request. */
struct http_refusal http_access_host(const struct http_access *access,
                                     const struct http_request *request);
struct http_refusal http_access_origin(const struct http_access *access,
                                       const struct http_request *request);
struct http_refusal http_access_key(const struct http_access *access,
                                    const struct http_request *request);
/* Whether it is one of those that the user named, whose pages may read answers. */
bool http_access_names_origin(const struct http_access *access, struct text origin);
/* A page may send other types than JSON without asking first; they are refused where one asks. */
struct http_refusal http_access_type(const struct http_request *request);

#endif
