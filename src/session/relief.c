#include "session/relief.h"

#define LOOK_NS UINT64_C(1000000000)
#define LOOK_RESTED_NS UINT64_C(10000000000) /* while only weights could be given back */

/* Of some pressure a look takes a part of what there is, so that a short one costs little. */
#define PART 4
#define PART_BYTES_MIN (UINT64_C(32) << 20)

static uint64_t cached_bytes(const struct hearth_sessions *sessions)
{
    struct hearth_engine_memory memory;
    hearth_engine_memory(sessions->engine, &memory);
    return memory.cached_bytes;
}

static void give_back(struct hearth_sessions *sessions, enum pressure_level level)
{
    uint64_t cached = cached_bytes(sessions);
    bool idle = schedule_is_idle(sessions);
    if (idle)
        hearth_engine_rest(sessions->engine);
    uint64_t part = cached / PART > PART_BYTES_MIN ? cached / PART : PART_BYTES_MIN;
    if (cached > 0)
        hearth_sessions_shed(sessions, level == PRESSURE_SOME ? part : UINT64_MAX);
    if (level == PRESSURE_MUCH && idle)
        hearth_model_rest(sessions->model);
}

void relief_step(struct hearth_sessions *sessions)
{
    const struct hearth_sessions_options *options = &sessions->options;
    struct os_pressure reading;
    if (!options->watch_pressure)
        return;
    uint64_t now = sessions_now(sessions);
    if (sessions->looked && now - sessions->looked_ns < LOOK_NS)
        return;
    sessions->looked = true;
    sessions->looked_ns = now;
    if (!os_pressure_at(options->pressure_root ? options->pressure_root : "", &reading))
        return;
    enum pressure_level level = pressure_update(&sessions->pressure, &reading, now);
    if (level != PRESSURE_NONE)
        give_back(sessions, level);
}

uint64_t relief_wait(const struct hearth_sessions *sessions, uint64_t wait_ns)
{
    if (!sessions->options.watch_pressure)
        return wait_ns;
    uint64_t look_ns = sessions->rested ? LOOK_RESTED_NS : LOOK_NS;
    return wait_ns < look_ns ? wait_ns : look_ns;
}
