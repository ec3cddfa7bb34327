/* Where hearth keeps what outlives it, and the store of conversations there. */
#ifndef CLI_STATE_H
#define CLI_STATE_H

#include <stdbool.h>

#include "cli/command.h"
#include "hearth/session.h"

#define STATE_PATH_BYTES 4096

/* $XDG_STATE_HOME/hearth/NAME or ~/.local/state/hearth/NAME; false where there is neither, or it is
 * too long. Makes the directory that NAME is in, for the user alone. */
bool state_path(const char *name, char path[STATE_PATH_BYTES]);

/* $XDG_DATA_HOME/hearth/NAME or ~/.local/share/hearth/NAME, which need not exist; false as above.
 */
bool state_data_path(const char *name, char path[STATE_PATH_BYTES]);

/* Where conversations are kept: part of the settings of each command that has to do with them. */
struct state_settings {
    const char *store;
};

#define STATE_OPTION(at)                                                                           \
    {                                                                                              \
        "store", '\0', OPTION_FILE, "DIR", 0, 0, NULL,                                             \
            (at) + offsetof(struct state_settings, store), "Conversation",                         \
            "$XDG_STATE_HOME/hearth/store", "The directory that conversations are kept in."        \
    }

/* Opens the store of the settings; HEARTH_E_STATE names the process that uses it. */
int state_open_store(const struct state_settings *settings, struct hearth_store **out,
                     struct hearth_error *err);

#endif
