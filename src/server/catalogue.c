#include "server/catalogue.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* ---- waiting for probes ---- */

/* One probe after the other: each is a process, and short. */
struct waiting {
    struct http_exchange *exchange;
    struct catalogue_wait wait;
    struct model **models; /* that have to be asked yet, from `next` on */
    size_t count, room, next;
    struct model_wait *probe;
    bool failed; /* without memory */
    struct hearth_error error;
};

static void free_waiting(struct waiting *waiting)
{
    mem_free(waiting->models);
    mem_free(waiting);
}

static void add_unknown(struct waiting *waiting, struct model *model)
{
    struct model_info info;
    model_info(model, &info);
    if (info.ready || info.upstream || waiting->failed)
        return;
    if (waiting->count == waiting->room) {
        size_t room = waiting->room ? waiting->room * 2 : 16;
        struct model **models = mem_realloc_array(waiting->models, room, sizeof *models);
        if (!models) {
            waiting->failed = true;
            return;
        }
        waiting->models = models;
        waiting->room = room;
    }
    waiting->models[waiting->count++] = model;
}

static bool visit_unknown(void *context, struct model *model)
{
    add_unknown(context, model);
    return true;
}

static void finish_waiting(struct waiting *waiting)
{
    struct catalogue_wait wait = waiting->wait;
    struct hearth_error error = waiting->error;
    http_exchange_watch(waiting->exchange, (struct http_watch){0});
    free_waiting(waiting);
    wait.then(wait.context, error.code && wait.model ? &error : NULL);
}

static void on_known(void *context, const json_t *ready, const struct hearth_error *error);

/* Whether a probe is under way; else there is nothing more to wait for. */
static bool probe_next(struct waiting *waiting)
{
    while (waiting->next < waiting->count) {
        struct model *model = waiting->models[waiting->next++];
        waiting->probe = NULL;
        if (model_probe(model, on_known, waiting, &waiting->probe, &waiting->error) == 0) {
            waiting->error.code = 0;
            return true;
        }
    }
    return false;
}

static void on_known(void *context, const json_t *ready, const struct hearth_error *error)
{
    struct waiting *waiting = context;
    (void)ready;
    waiting->probe = NULL;
    if (error)
        waiting->error = *error;
    if (!probe_next(waiting))
        finish_waiting(waiting);
}

static void on_client_gone(void *context)
{
    struct waiting *waiting = context;
    struct catalogue_wait wait = waiting->wait;
    if (waiting->probe)
        models_forget(waiting->probe);
    free_waiting(waiting);
    wait.gone(wait.context);
}

void catalogue_wait(struct daemon *daemon, struct http_exchange *exchange,
                    const struct catalogue_wait *wait)
{
    static const struct hearth_error no_memory = {HEARTH_E_MEMORY, "no memory for the request"};
    struct waiting *waiting = MEM_NEW(struct waiting);
    if (!waiting) {
        wait->then(wait->context, wait->model ? &no_memory : NULL);
        return;
    }
    waiting->exchange = exchange;
    waiting->wait = *wait;
    if (wait->model)
        add_unknown(waiting, wait->model);
    else
        models_visit(daemon->models, visit_unknown, waiting);
    http_exchange_watch(exchange, (struct http_watch){on_client_gone, NULL, waiting});
    if (!probe_next(waiting))
        finish_waiting(waiting);
}

/* ---- what is known ---- */

const char *catalogue_text(const json_t *ready, const char *name)
{
    return json_string_value(json_object_get(ready, name));
}

uint64_t catalogue_number(const json_t *ready, const char *name)
{
    double number = json_number_value(json_object_get(ready, name));
    return number >= 0 && number < 0x1p63 ? (uint64_t)number : 0;
}

enum catalogue_reasoning catalogue_reasoning(const json_t *ready)
{
    const char *template = catalogue_text(ready, "chat_template");
    if (!template)
        return CATALOGUE_REASONING_NONE;
    if (strstr(template, "reasoning_effort"))
        return CATALOGUE_REASONING_LEVELS;
    if (strstr(template, "enable_thinking") || strstr(template, "if thinking"))
        return CATALOGUE_REASONING_SWITCHED;
    if (strstr(template, "<think>") || strstr(template, "</think>") ||
        strstr(template, "reasoning_content"))
        return CATALOGUE_REASONING_ALWAYS;
    return CATALOGUE_REASONING_NONE;
}

json_t *catalogue_reasoning_variables(bool on, const char *level)
{
    json_t *variables = json_pack("{s:b, s:b}", "enable_thinking", on, "thinking", on);
    if (variables && level)
        json_object_set_new(variables, "reasoning_effort", json_string(level));
    return variables;
}
