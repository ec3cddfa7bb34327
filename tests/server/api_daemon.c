/* The fake daemon with all dialects. */
#include "fake_daemon.h"
#include "server/openapi.h"

int main(int argc, char **argv)
{
    struct api_dialect dialects[API_DIALECTS_MAX];
    struct http_routes routes[API_DIALECTS_MAX];
    size_t count = openapi_dialects(dialects);
    for (size_t i = 0; i < count; i++)
        routes[i] = dialects[i].routes;
    return fake_daemon_run(argc, argv, routes, count);
}
