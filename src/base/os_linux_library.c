#include "base/os.h"

#include <dlfcn.h>
#include <string.h>

struct os_library {
    char opaque; /* the system's handle is what points here */
};

struct os_library *os_library_open(const char *name)
{
    /* taking a library with threads and handlers of its own away again is not safe */
    return dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

os_function os_library_find(struct os_library *library, const char *name)
{
    void *found = dlsym(library, name);
    os_function function;
    _Static_assert(sizeof function == sizeof found, "POSIX says so");
    memcpy(&function, &found, sizeof function);
    return function;
}
