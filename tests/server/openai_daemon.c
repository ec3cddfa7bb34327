#include "fake_daemon.h"

int main(int argc, char **argv)
{
    const struct http_routes routes[] = {openai_routes()};
    return fake_daemon_run(argc, argv, routes, sizeof routes / sizeof *routes);
}
