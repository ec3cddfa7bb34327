/* A worker that says what a model is, and ends. */
#include <event2/event.h>

#include "base/memory.h"
#include "base/os.h"
#include "server/local_process.h"

#define PROBE_SECONDS 20

struct local_probe {
    struct local_setup setup;
    struct local_process *process;
    struct event *limit;
    void (*on_probed)(void *context, int code, struct text ready_or_cause); /* NULL: it was told */
    void *context;
};

static void destroy(struct local_probe *probe)
{
    local_process_destroy(probe->process);
    if (probe->limit)
        event_free(probe->limit);
    local_setup_finish(&probe->setup);
    mem_free(probe);
}

/* Once. The process has nothing more to do then. */
static void tell(struct local_probe *probe, int code, struct text text)
{
    void (*on_probed)(void *context, int code, struct text text) = probe->on_probed;
    probe->on_probed = NULL;
    event_del(probe->limit);
    local_process_stop(probe->process, true);
    if (on_probed)
        on_probed(probe->context, code, text);
}

static void on_message(void *context, const struct message *message)
{
    struct local_probe *probe = context;
    struct message_reader reader;
    struct text text;
    double fraction;
    int code;
    if (message->request == 0 && message->type == WORK_LOADING && work_get_f64(message, &fraction))
        return;
    if (message->request == 0 && message->type == WORK_READY && work_get_text(message, &text))
        tell(probe, 0, text);
    else if (message->request == 0 && message->type == WORK_FAILED &&
             work_get_reply(message, &reader, &code, &text) && code != 0)
        tell(probe, code, text);
    else
        local_process_break(probe->process, "a malformed or unexpected message of a probe");
}

static void on_use(void *context, const struct work_state *state)
{
    (void)context, (void)state;
}

static void on_end(void *context, const struct local_end *end)
{
    struct local_probe *probe = context;
    if (probe->on_probed)
        tell(probe, end->error.code, text_of(end->error.text));
    destroy(probe);
}

static void on_limit(evutil_socket_t fd, short what, void *context)
{
    struct local_probe *probe = context;
    struct hearth_error error;
    (void)fd, (void)what;
    error_set(&error, HEARTH_E_LIMIT, "%s could not be looked at within %d s", probe->setup.name,
              PROBE_SECONDS);
    tell(probe, error.code, text_of(error.text));
}

int local_probe_start(struct event_base *base, const struct local_options *options,
                      void (*on_probed)(void *context, int code, struct text ready_or_cause),
                      void *context, struct local_probe **out, struct hearth_error *err)
{
    struct timeval limit = {.tv_sec = PROBE_SECONDS};
    struct local_probe *probe = MEM_NEW(struct local_probe);
    if (!probe)
        return error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    probe->on_probed = on_probed;
    probe->context = context;
    probe->limit = evtimer_new(base, on_limit, probe);
    int status = local_setup_init(&probe->setup, options, true, err);
    if (!status && (!probe->limit || event_add(probe->limit, &limit)))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    probe->setup.options.on_message = on_message;
    probe->setup.options.on_use = on_use;
    probe->setup.options.on_end = on_end;
    probe->setup.options.context = probe;
    if (!status)
        status = local_process_start(base, &probe->setup.options, &probe->process, err);
    if (status)
        destroy(probe);
    else
        *out = probe;
    return status;
}

void local_probe_cancel(struct local_probe *probe)
{
    probe->on_probed = NULL;
    tell(probe, 0, TEXT(""));
}
