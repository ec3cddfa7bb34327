/* Tables of routes: which handler a method and a path lead to. */
#ifndef SERVER_HTTP_ROUTE_H
#define SERVER_HTTP_ROUTE_H

#include "server/http.h"

struct http_route_table {
    const struct http_route *routes;
    size_t count;
    void *context;
};

struct http_match {
    const struct http_route *route; /* NULL: no route of this method */
    void *context;
    struct text name; /* what stands for {name}, as sent */
    unsigned methods; /* bits of enum http_method that the path has; 0: no such path */
};

struct http_match http_route_find(const struct http_route_table *tables, size_t count,
                                  enum http_method method, struct text path);
/* "GET, HEAD, POST" for the methods of a match and OPTIONS, which every path has. */
bool http_route_methods(unsigned methods, struct buffer *out);
/* Percent-decodes a segment. False where it is malformed, no UTF-8, or has control characters. */
bool http_route_name(struct text segment, struct buffer *out);

#endif
