#include "cli/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

/* As the XDG base directory specification has it: the directory that a variable names, else one
 * below the user's own. Its size, or 0 where NAME would not fit behind it. */
static size_t base_path(const char *variable, const char *below_home, const char *name,
                        char path[STATE_PATH_BYTES])
{
    const char *base = getenv(variable), *home = getenv("HOME");
    int size = -1;
    if (base && base[0] == '/')
        size = snprintf(path, STATE_PATH_BYTES, "%s/hearth", base);
    else if (home && home[0] == '/')
        size = snprintf(path, STATE_PATH_BYTES, "%s/%s/hearth", home, below_home);
    bool fits = size > 0 && (size_t)size + strlen(name) + 2 <= STATE_PATH_BYTES;
    return fits ? (size_t)size : 0;
}

bool state_path(const char *name, char path[STATE_PATH_BYTES])
{
    size_t size = base_path("XDG_STATE_HOME", ".local/state", name, path);
    if (size == 0 || !os_make_private_directories(path))
        return false;
    snprintf(path + size, STATE_PATH_BYTES - size, "/%s", name);
    return true;
}

bool state_data_path(const char *name, char path[STATE_PATH_BYTES])
{
    size_t size = base_path("XDG_DATA_HOME", ".local/share", name, path);
    if (size > 0)
        snprintf(path + size, STATE_PATH_BYTES - size, "/%s", name);
    return size > 0;
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
