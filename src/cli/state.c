#include "cli/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

bool state_path(const char *name, char path[STATE_PATH_BYTES])
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int size = -1;
    if (state && state[0] == '/')
        size = snprintf(path, STATE_PATH_BYTES, "%s/hearth", state);
    else if (home && home[0] == '/')
        size = snprintf(path, STATE_PATH_BYTES, "%s/.local/state/hearth", home);
    if (size < 0 || (size_t)size + strlen(name) + 2 > STATE_PATH_BYTES ||
        !os_make_private_directories(path))
        return false;
    snprintf(path + size, STATE_PATH_BYTES - (size_t)size, "/%s", name);
    return true;
}

int state_open_store(const struct state_settings *settings, struct hearth_store **out,
                     struct hearth_error *err)
{
    char path[STATE_PATH_BYTES];
    struct hearth_store_options options = {.directory = settings->store};
    if (!options.directory && !state_path("store", path))
        return error_set(err, HEARTH_E_IO,
                         "there is no directory to keep conversations in (--store names one)");
    if (!options.directory)
        options.directory = path;
    return hearth_store_open(&options, out, err);
}
