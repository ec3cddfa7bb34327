#define _GNU_SOURCE
#include "scripted_server.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY_EVENTS 20000

struct client {
    struct client *next;
    struct scripted *scripted;
    int fd;
    struct event *reads, *writes, *timer;
    char in[SCRIPTED_LAST_MAX];
    size_t in_size;
    const char *answer; /* what is left of it; NULL: none is being given */
    size_t flood;       /* events that are still to be sent of a flood */
    char out[65536];
    size_t out_size, out_sent;
    bool closes; /* when the answer is given */
};

struct scripted {
    struct scripted_server *server;
    struct event_base *base;
    struct event *accepts;
    struct client *first;
    int fd;
};

static void free_client(struct client *client)
{
    struct client **at = &client->scripted->first;
    while (*at != client)
        at = &(*at)->next;
    *at = client->next;
    event_free(client->reads);
    event_free(client->writes);
    event_free(client->timer);
    close(client->fd);
    free(client);
}

/* Moves what comes next of the answer to `out`, up to where something else is to happen. */
static void fill(struct client *client)
{
    static const char event[] = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    while (client->flood > 0 && client->out_size + sizeof event < sizeof client->out) {
        memcpy(client->out + client->out_size, event, sizeof event - 1);
        client->out_size += sizeof event - 1;
        client->flood--;
    }
    while (client->flood == 0 && client->answer && (unsigned char)*client->answer > 4 &&
           client->out_size < sizeof client->out)
        client->out[client->out_size++] = *client->answer++;
}

static void play(struct client *client);

static void take_request(struct client *client);

/* The next thing of the answer; the client may be gone then. */
static void next_step(struct client *client)
{
    const struct timeval pause = {0, 20000};
    switch (client->answer ? *client->answer : 0) {
    case '\0':
        client->answer = NULL;
        if (client->closes)
            free_client(client);
        else
            take_request(client);
        return;
    case 1:
        client->answer++;
        event_add(client->timer, &pause);
        return;
    case 2:
        free_client(client);
        return;
    case 4:
        client->answer++;
        client->flood = MANY_EVENTS;
        play(client);
        return;
    default:
        return;
    }
}

static void play(struct client *client)
{
    for (;;) {
        if (client->out_sent == client->out_size) {
            client->out_sent = client->out_size = 0;
            fill(client);
        }
        if (client->out_size == 0) {
            next_step(client);
            return;
        }
        ssize_t sent = send(client->fd, client->out + client->out_sent,
                            client->out_size - client->out_sent, MSG_NOSIGNAL);
        if (sent < 0) {
            event_add(client->writes, NULL);
            return;
        }
        client->out_sent += (size_t)sent;
    }
}

/* The size of the request that has come whole; 0: not yet. */
static size_t request_size(struct client *client)
{
    client->in[client->in_size] = '\0';
    const char *end = strstr(client->in, "\r\n\r\n");
    const char *length = strcasestr(client->in, "\r\nContent-Length: ");
    if (!end)
        return 0;
    size_t body = length && length < end ? (size_t)atol(length + 18) : 0;
    size_t size = (size_t)(end - client->in) + 4 + body;
    return client->in_size >= size ? size : 0;
}

static void take_request(struct client *client)
{
    struct scripted_server *server = client->scripted->server;
    static const char nothing[] = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    size_t size = request_size(client);
    if (size == 0 || client->answer)
        return;
    if (client->in[0] == 'G') {
        server->gets++;
        client->answer = server->models ? server->models : nothing;
    } else {
        memcpy(server->last, client->in, size);
        server->last[size] = '\0';
        server->posts++;
        client->answer = *server->answers ? *server->answers++ : "\2";
    }
    client->closes = strstr(client->answer, "Connection: close") != NULL;
    memmove(client->in, client->in + size, client->in_size - size);
    client->in_size -= size;
    play(client);
}

static void on_readable(evutil_socket_t fd, short what, void *context)
{
    struct client *client = context;
    (void)what;
    ssize_t got =
        recv(fd, client->in + client->in_size, sizeof client->in - 1 - client->in_size, 0);
    if (got <= 0) {
        client->scripted->server->closed_by_peer++;
        free_client(client);
        return;
    }
    client->in_size += (size_t)got;
    take_request(client);
}

static void on_go_on(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    play(context);
}

static void on_connection(evutil_socket_t listener, short what, void *context)
{
    struct scripted *scripted = context;
    (void)what;
    int small = 16384;
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    struct client *client = calloc(1, sizeof *client);
    *client = (struct client){.next = scripted->first, .scripted = scripted, .fd = fd};
    scripted->first = client;
    client->reads = event_new(scripted->base, fd, EV_READ | EV_PERSIST, on_readable, client);
    client->writes = event_new(scripted->base, fd, EV_WRITE, on_go_on, client);
    client->timer = evtimer_new(scripted->base, on_go_on, client);
    event_add(client->reads, NULL);
    scripted->server->connections++;
}

void scripted_server_start(struct scripted_server *server, struct event_base *base)
{
    struct scripted *scripted = calloc(1, sizeof *scripted);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    scripted->server = server;
    scripted->base = base;
    scripted->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (bind(scripted->fd, (struct sockaddr *)&address, size) != 0 ||
        listen(scripted->fd, 16) != 0 ||
        getsockname(scripted->fd, (struct sockaddr *)&address, &size) != 0)
        abort();
    server->port = ntohs(address.sin_port);
    server->scripted = scripted;
    scripted->accepts =
        event_new(base, scripted->fd, EV_READ | EV_PERSIST, on_connection, scripted);
    event_add(scripted->accepts, NULL);
}

void scripted_server_stop(struct scripted_server *server)
{
    struct scripted *scripted = server->scripted;
    if (!scripted)
        return;
    while (scripted->first)
        free_client(scripted->first);
    event_free(scripted->accepts);
    close(scripted->fd);
    free(scripted);
    server->scripted = NULL;
}
