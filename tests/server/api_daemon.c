/* The fake daemon with the paths of dialects. */
#include "fake_daemon.h"

int main(int argc, char **argv)
{
    const struct http_routes routes[] = {llama_routes(), ollama_routes(), lmstudio_routes()};
    return fake_daemon_run(argc, argv, routes, sizeof routes / sizeof *routes);
}
