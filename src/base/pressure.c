#include "base/pressure.h"

/* Percent of the time in which tasks wait for memory. In a machine that reads a large file for the
 * first time it is below 1, one that swaps all the time is above 40. */
#define SOME_STALLED 10
#define MUCH_STALLED 40
#define MUCH_STALLED_ALL 10

/* The part of the memory that is left. The kernel itself begins to reclaim at 1 to 2 percent. */
#define SOME_LEFT 0.08
#define MUCH_LEFT 0.04

#define CALM_NS UINT64_C(10000000000)

/* `ease` above 1: as if stalls were more and memory less. */
static enum pressure_level level_of(const struct os_pressure *reading, double ease)
{
    double some = reading->some * ease, full = reading->full * ease;
    double left = reading->available / ease;
    if (some >= MUCH_STALLED || full >= MUCH_STALLED_ALL || left < MUCH_LEFT)
        return PRESSURE_MUCH;
    if (some >= SOME_STALLED || left < SOME_LEFT)
        return PRESSURE_SOME;
    return PRESSURE_NONE;
}

enum pressure_level pressure_update(struct pressure *pressure, const struct os_pressure *reading,
                                    uint64_t now_ns)
{
    enum pressure_level level = level_of(reading, 1);
    bool calm = level_of(reading, 1.5) < pressure->level;
    if (level > pressure->level) {
        *pressure = (struct pressure){.level = level};
    } else if (!calm) {
        pressure->calm = false;
    } else if (!pressure->calm) {
        pressure->calm = true;
        pressure->calm_ns = now_ns;
    } else if (now_ns - pressure->calm_ns >= CALM_NS) {
        *pressure = (struct pressure){.level = pressure->level - 1};
    }
    return pressure->level;
}
