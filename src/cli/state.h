/* Where hearth keeps what outlives it. */
#ifndef CLI_STATE_H
#define CLI_STATE_H

#include <stdbool.h>

#define STATE_PATH_BYTES 4096

/* $XDG_STATE_HOME/hearth/NAME or ~/.local/state/hearth/NAME; false where there is neither, or it is
 * too long. Makes the directory that NAME is in, for the user alone. */
bool state_path(const char *name, char path[STATE_PATH_BYTES]);

#endif
