#include "server/libcurl.h"

#include <stdbool.h>

#include "base/os.h"

#define VERSION_MIN 0x075500 /* 7.85.0: CURLOPT_PROTOCOLS_STR */

static bool find_calls(struct os_library *library, struct libcurl *out)
{
    bool found = true;
#define LIBCURL_FIND(type, name, parameters)                                                       \
    out->name = (type(*) parameters)os_library_find(library, "curl_" #name);                       \
    found = found && out->name;
    LIBCURL_CALLS(LIBCURL_FIND)
#undef LIBCURL_FIND
    return found;
}

int libcurl_open(struct libcurl *out, struct hearth_error *err)
{
    /* the same library over another one for TLS; a system may have either */
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};
    struct os_library *library = NULL;
    struct libcurl found;
    for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++)
        library = os_library_open(names[i]);
    if (!library)
        return error_set(err, HEARTH_E_IO,
                         "other servers are reached with libcurl, which is not installed here "
                         "(libcurl.so.4; Debian's package is libcurl4)");
    if (!find_calls(library, &found) ||
        found.version_info(CURLVERSION_NOW)->version_num < VERSION_MIN)
        return error_set(err, HEARTH_E_IO,
                         "other servers are reached with libcurl 7.85 or newer, and the one that "
                         "is installed here (libcurl.so.4) is older");
    if (found.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return error_set(err, HEARTH_E_IO, "libcurl cannot be used");
    *out = found;
    return 0;
}
