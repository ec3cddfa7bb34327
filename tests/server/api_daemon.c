/* The fake daemon with llama-server's paths and hearth's own. */
#include "fake_daemon.h"

int main(int argc, char **argv)
{
    const struct http_routes routes[] = {llama_routes()};
    return fake_daemon_run(argc, argv, routes, sizeof routes / sizeof *routes);
}
