/* Talking to a running daemon, over the socket that only its user can open. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buffer.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/state.h"

struct client_settings {
    const char *socket;
};

#define CLIENT_SOCKET_OPTION(at)                                                                   \
    {                                                                                              \
        "socket", '\0', OPTION_FILE, "PATH", 0, 0, NULL,                                           \
            (at) + offsetof(struct client_settings, socket), "Network",                            \
            "$XDG_RUNTIME_DIR/hearth/hearth.sock", "The daemon's socket."                          \
    }

/* That of the settings, else $XDG_RUNTIME_DIR/hearth/hearth.sock, else one in the state directory.
 */
int client_socket_path(const struct client_settings *settings, char path[STATE_PATH_BYTES],
                       struct hearth_error *err);

struct client;
/* HEARTH_E_MISSING where no daemon listens there. */
int client_open(const struct client_settings *settings, struct client **out,
                struct hearth_error *err);
void client_close(struct client *client);
/* Asked ten times a second while a request is on its way; true ends it with HEARTH_E_CANCELLED. */
void client_on_interrupt(struct client *client, bool (*interrupted)(void));

/* One request; `body` may be NULL and stays the caller's. What the daemon refuses is an error with
 * its sentence. *reply is the caller's. */
int client_call(struct client *client, const char *method, const char *path, const json_t *body,
                json_t **reply, struct hearth_error *err);
/* The same for an answer of server-sent events: each with its name ("" where it has none) and JSON;
 * a false ends the connection, and the call with HEARTH_E_CANCELLED. */
int client_stream(struct client *client, const char *method, const char *path, const json_t *body,
                  bool (*on_event)(void *context, const char *name, const json_t *data),
                  void *context, struct hearth_error *err);
/* The same for text, as it comes. */
int client_text(struct client *client, const char *path,
                bool (*on_text)(void *context, struct text bytes), void *context,
                struct hearth_error *err);
/* Whether it has a store. */
bool client_keeps_conversations(struct client *client);
/* Tells it to end, and waits until its process has: to connect may start the next one, where a
 * service manager holds the socket. HEARTH_E_STATE after so many seconds. */
int client_stop(struct client *client, unsigned seconds, struct hearth_error *err);
/* Appends a path's segment, percent-encoded. */
bool client_append_segment(struct buffer *path, const char *segment);

#endif
