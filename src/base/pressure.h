/* How short memory is, from what the system says now and said before. Pure: readings and time are
 * arguments. */
#ifndef BASE_PRESSURE_H
#define BASE_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/os.h"

enum pressure_level {
    PRESSURE_NONE,
    PRESSURE_SOME, /* what only speeds up later work should go, little by little */
    PRESSURE_MUCH, /* all that can go should, at once */
};

/* Zeroed: none. */
struct pressure {
    enum pressure_level level;
    bool calm;        /* a lower level would do */
    uint64_t calm_ns; /* since then */
};

/* Rises with the reading, and falls a step at a time, when readings were clearly better for ten
 * seconds: what was given back must not be taken again at once. */
enum pressure_level pressure_update(struct pressure *pressure, const struct os_pressure *reading,
                                    uint64_t now_ns);

#endif
