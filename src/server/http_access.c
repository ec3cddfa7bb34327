#include "server/http_access.h"

#include <string.h>

static const struct http_refusal nothing = {0, NULL, 0};

/* The host without its port; false where what follows a colon is no port. */
static bool without_port(struct text *host)
{
    size_t digits = 0;
    while (digits < host->size && host->data[host->size - 1 - digits] >= '0' &&
           host->data[host->size - 1 - digits] <= '9')
        digits++;
    if (digits < host->size && host->data[host->size - 1 - digits] == ':') {
        host->size -= digits + 1;
        return digits >= 1 && digits <= 5;
    }
    return true;
}

/* 127.0.0.0/8 as browsers write it: four decimal numbers. */
static bool is_loopback_v4(struct text host)
{
    unsigned parts = 1, value = 0, digits = 0;
    if (!text_starts_with(host, TEXT("127.")))
        return false;
    for (size_t i = 0; i < host.size; i++) {
        char c = host.data[i];
        if (c == '.' && digits > 0) {
            parts++;
            value = digits = 0;
        } else if (c >= '0' && c <= '9' && digits < 3) {
            value = value * 10 + (unsigned)(c - '0');
            digits++;
        } else {
            return false;
        }
        if (value > 255)
            return false;
    }
    return parts == 4 && digits > 0;
}

/* No name that a stranger's server could give an address on this machine (DNS rebinding). */
struct http_refusal http_access_host(const struct http_access *access,
                                     const struct http_request *request)
{
    struct text host = request->host;
    /* browsers always send it, and HTTP/1.0 need not */
    if (access->any_host || !host.data)
        return nothing;
    if (without_port(&host)) {
        if (http_text_is(host, "localhost") || http_text_is(host, "[::1]") || is_loopback_v4(host))
            return nothing;
        for (size_t i = 0; i < access->host_count; i++) {
            if (http_text_is(host, access->hosts[i]))
                return nothing;
        }
    }
    return (struct http_refusal){403, "the Host header names no host that is served here", 0};
}

bool http_access_names_origin(const struct http_access *access, struct text origin)
{
    for (size_t i = 0; i < access->origin_count; i++) {
        if (origin.data && text_equal(origin, text_of(access->origins[i])))
            return true;
    }
    return false;
}

struct http_refusal http_access_origin(const struct http_access *access,
                                       const struct http_request *request)
{
    struct text origin = request->origin;
    if (!origin.data || http_access_names_origin(access, origin))
        return nothing;
    /* a page of this server itself: its host was found good */
    if (request->host.size > 0 && origin.size == 7 + request->host.size &&
        text_starts_with(origin, TEXT("http://")) &&
        memcmp(origin.data + 7, request->host.data, request->host.size) == 0)
        return nothing;
    return (struct http_refusal){403, "requests of this Origin are not allowed", 0};
}

/* Takes the same time for each text of a length, wherever it differs; `given` is not empty. */
static bool same_key(struct text given, const char *key)
{
    size_t size = strlen(key);
    volatile unsigned difference = given.size != size;
    for (size_t i = 0; i < size; i++)
        difference |= (unsigned char)key[i] ^ (unsigned char)given.data[i % given.size];
    return difference == 0;
}

struct http_refusal http_access_key(const struct http_access *access,
                                    const struct http_request *request)
{
    struct text given = request->authorization;
    bool bearer = given.size > 7 && http_text_is((struct text){given.data, 7}, "bearer ");
    bool known = false;
    if (access->key_count == 0)
        return nothing;
    if (bearer) {
        given = (struct text){given.data + 7, given.size - 7};
        for (size_t i = 0; i < access->key_count; i++)
            known |= same_key(given, access->keys[i]);
    }
    if (known)
        return nothing;
    return (struct http_refusal){401,
                                 bearer ? "this key is not known"
                                        : "a key is needed: send it as 'Authorization: Bearer KEY'",
                                 0};
}

struct http_refusal http_access_type(const struct http_request *request)
{
    struct text type = request->content_type;
    if (!request->origin.data)
        return nothing;
    const char *end = type.size ? memchr(type.data, ';', type.size) : NULL;
    if (end)
        type.size = (size_t)(end - type.data);
    while (type.size > 0 && type.data[type.size - 1] == ' ')
        type.size--;
    if (type.data && http_text_is(type, "application/json"))
        return nothing;
    return (struct http_refusal){415, "a web page must send its body as application/json", 0};
}
