#include "server/http_route.h"

#include <string.h>

#include "base/utf8.h"

/* Whether the path fits a pattern that may have one segment {name}, which is then stored. */
static bool fits(const char *pattern, struct text path, struct text *name)
{
    const char *brace = strchr(pattern, '{');
    if (!brace) {
        *name = (struct text){NULL, 0};
        return text_equal(text_of(pattern), path);
    }
    size_t before = (size_t)(brace - pattern);
    struct text after = text_of(strchr(brace, '}') + 1);
    if (path.size <= before + after.size || memcmp(path.data, pattern, before) != 0 ||
        memcmp(path.data + path.size - after.size, after.data, after.size) != 0)
        return false;
    *name = (struct text){path.data + before, path.size - before - after.size};
    return !memchr(name->data, '/', name->size);
}

struct http_match http_route_find(const struct http_route_table *tables, size_t count,
                                  enum http_method method, struct text path)
{
    struct http_match match = {0};
    enum http_method wanted = method == HTTP_METHOD_HEAD ? HTTP_METHOD_GET : method;
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < tables[t].count; i++) {
            const struct http_route *route = &tables[t].routes[i];
            struct text name;
            if (!fits(route->path, path, &name))
                continue;
            match.methods |= 1u << route->method;
            if (route->method == HTTP_METHOD_GET)
                match.methods |= 1u << HTTP_METHOD_HEAD;
            if (route->method == wanted && (!match.route || !name.data)) {
                match.route = route;
                match.context = tables[t].context;
                match.name = name;
            }
        }
    }
    return match;
}

bool http_route_methods(unsigned methods, struct buffer *out)
{
    static const char *const names[HTTP_METHOD_COUNT] = {
        [HTTP_METHOD_GET] = "GET, ",     [HTTP_METHOD_HEAD] = "HEAD, ",
        [HTTP_METHOD_POST] = "POST, ",   [HTTP_METHOD_PUT] = "PUT, ",
        [HTTP_METHOD_PATCH] = "PATCH, ", [HTTP_METHOD_DELETE] = "DELETE, "};
    for (unsigned i = 0; i < HTTP_METHOD_OPTIONS; i++) {
        if (methods & 1u << i)
            buffer_append_text(out, text_of(names[i]));
    }
    return buffer_append_text(out, TEXT("OPTIONS"));
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool http_route_name(struct text segment, struct buffer *out)
{
    for (size_t i = 0; i < segment.size; i++) {
        char c = segment.data[i];
        if (c == '%') {
            int high = segment.size - i > 2 ? hex(segment.data[i + 1]) : -1;
            int low = segment.size - i > 2 ? hex(segment.data[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if ((unsigned char)c < ' ' || c == 0x7f || !buffer_append_char(out, c))
            return false;
    }
    return utf8_valid(out->data, out->size);
}
