/* A piece of text or bytes that somebody else owns: not NUL-terminated, may hold NUL bytes. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct text {
    const char *data;
    size_t size;
};

/* For a string literal. */
#define TEXT(literal) ((struct text){literal, sizeof(literal) - 1})

static inline struct text text_of(const char *string)
{
    return (struct text){string, strlen(string)};
}

static inline bool text_equal(struct text a, struct text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool text_starts_with(struct text whole, struct text start)
{
    return whole.size >= start.size &&
           (start.size == 0 || memcmp(whole.data, start.data, start.size) == 0);
}

/* Order by bytes, the shorter first: for sorting and bsearch. */
static inline int text_compare(struct text a, struct text b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

/* For printf's "%.*s": TEXT_ARGS(t) where a text is a name or a key, cut at 256 bytes. */
#define TEXT_ARGS(t) ((t).size < 256 ? (int)(t).size : 256), ((t).data ? (t).data : "")

#endif
