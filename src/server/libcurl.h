/* What is used of libcurl, which is opened when the first request to another server is made: nobody
 * else needs it, nor the memory that it takes. */
#ifndef SERVER_LIBCURL_H
#define SERVER_LIBCURL_H

#include <curl/curl.h>

#include "base/error.h"

/* X(type, name behind "curl_", parameters) */
#define LIBCURL_CALLS(X)                                                                           \
    X(curl_version_info_data *, version_info, (CURLversion))                                       \
    X(CURLcode, global_init, (long))                                                               \
    X(void, global_cleanup, (void))                                                                \
    X(struct curl_slist *, slist_append, (struct curl_slist *, const char *))                      \
    X(void, slist_free_all, (struct curl_slist *))                                                 \
    X(CURL *, easy_init, (void))                                                                   \
    X(void, easy_cleanup, (CURL *))                                                                \
    X(CURLcode, easy_setopt, (CURL *, CURLoption, ...))                                            \
    X(CURLcode, easy_getinfo, (CURL *, CURLINFO, ...))                                             \
    X(CURLcode, easy_pause, (CURL *, int))                                                         \
    X(const char *, easy_strerror, (CURLcode))                                                     \
    X(CURLM *, multi_init, (void))                                                                 \
    X(CURLMcode, multi_cleanup, (CURLM *))                                                         \
    X(CURLMcode, multi_setopt, (CURLM *, CURLMoption, ...))                                        \
    X(CURLMcode, multi_add_handle, (CURLM *, CURL *))                                              \
    X(CURLMcode, multi_remove_handle, (CURLM *, CURL *))                                           \
    X(CURLMcode, multi_socket_action, (CURLM *, curl_socket_t, int, int *))                        \
    X(CURLMcode, multi_assign, (CURLM *, curl_socket_t, void *))                                   \
    X(CURLMsg *, multi_info_read, (CURLM *, int *))

struct libcurl {
#define LIBCURL_MEMBER(type, name, parameters) type(*name) parameters;
    LIBCURL_CALLS(LIBCURL_MEMBER)
#undef LIBCURL_MEMBER
};

/* Opens and initializes it; global_cleanup ends the use. HEARTH_E_IO says what to install. */
int libcurl_open(struct libcurl *out, struct hearth_error *err);

#endif
