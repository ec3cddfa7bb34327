#define _GNU_SOURCE
#include "models_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>

#include <cmocka.h>

#include "base/os.h"
#include "server/events.h"

/* ---- files ---- */

void world_path(const struct world *world, const char *name, char path[512])
{
    snprintf(path, 512, "%s/%s", world->folder, name);
}

void world_file(struct world *world, const char *name, const char *content)
{
    char path[512];
    world_path(world, name, path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

void world_gguf(struct world *world, const char *name)
{
    char content[600];
    snprintf(content, sizeof content, "GGUF and then nothing that anybody reads: %s", name);
    world_file(world, name, content);
}

void world_folder(struct world *world, const char *name)
{
    char path[512];
    world_path(world, name, path);
    assert_int_equal(mkdir(path, 0700), 0);
}

/* ---- what workers say ---- */

static char *ready_of(struct world *world, const struct work_start *start, bool probe)
{
    uint32_t context = start->engine.context ? start->engine.context : 2048;
    uint64_t kv = world->kv * context / 2048;
    if (start->engine.kv_type == HEARTH_KV_Q8_0)
        kv /= 2;
    uint64_t total = world->weights + kv + world->other;
    json_t *ready =
        json_pack("{s:s, s:I, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:I}}", "architecture", "llama",
                  "kv_bytes_per_token", (json_int_t)(kv / context), "estimate", "context",
                  (json_int_t)context, "weights_bytes", (json_int_t)world->weights, "kv_bytes",
                  (json_int_t)kv, "scratch_bytes", (json_int_t)(world->other / 2), "fixed_bytes",
                  (json_int_t)(world->other - world->other / 2), "private_bytes",
                  (json_int_t)(kv + world->other), "total_bytes", (json_int_t)total);
    assert_non_null(ready);
    if (!probe)
        json_object_set_new(ready, "context", json_integer(context));
    char *text = json_dumps(ready, JSON_COMPACT);
    json_decref(ready);
    assert_non_null(text);
    return text;
}

/* ---- probes ---- */

static void free_probe(struct fake_probe *probe)
{
    struct fake_probe **at = &probe->world->probes;
    while (*at != probe)
        at = &(*at)->next;
    *at = probe->next;
    probe->world->probes_running--;
    event_free(probe->event);
    free(probe);
}

static void on_probe(evutil_socket_t fd, short what, void *context)
{
    struct fake_probe probe = *(struct fake_probe *)context;
    struct world *world = probe.world;
    (void)fd, (void)what;
    if (world->hold_probes) {
        static const struct timeval soon = {0, 1000};
        evtimer_add(probe.event, &soon);
        return;
    }
    free_probe(context);
    if (world->fail_probes > 0) {
        world->fail_probes--;
        probe.on_probed(probe.context, HEARTH_E_FORMAT, TEXT("is damaged"));
        return;
    }
    char *ready = ready_of(world, &probe.start, true);
    probe.on_probed(probe.context, 0, text_of(ready));
    free(ready);
}

static struct world *the_world; /* of the running test: what is called back has no context for it */

static int fake_probe_start(struct event_base *base, const struct local_options *options,
                            void (*on_probed)(void *context, int code, struct text ready_or_cause),
                            void *context, struct local_probe **out, struct hearth_error *err)
{
    static const struct timeval soon = {0, 1000};
    struct fake_probe *probe = calloc(1, sizeof *probe);
    (void)err;
    assert_non_null(probe);
    assert_true(options->start.probe && options->fd_count > 0);
    *probe = (struct fake_probe){.world = the_world,
                                 .on_probed = on_probed,
                                 .context = context,
                                 .start = options->start,
                                 .next = the_world->probes};
    snprintf(probe->name, sizeof probe->name, "%s", options->name);
    the_world->probes = probe;
    the_world->probe_count++;
    if (++the_world->probes_running > the_world->probes_running_max)
        the_world->probes_running_max = the_world->probes_running;
    probe->event = evtimer_new(base, on_probe, probe);
    evtimer_add(probe->event, &soon);
    *out = (struct local_probe *)probe;
    return 0;
}

static void fake_probe_cancel(struct local_probe *probe)
{
    free_probe((struct fake_probe *)probe);
}

/* ---- workers ---- */

static struct fake_worker *worker_of(struct backend *backend)
{
    struct fake_worker *worker = (struct fake_worker *)backend;
    assert_true(worker->alive);
    return worker;
}

static void on_say(evutil_socket_t fd, short what, void *context)
{
    struct fake_worker *worker = context;
    (void)fd, (void)what;
    worker->base.state = worker->next;
    worker->owner.on_state(worker->owner.context, worker->next,
                           worker->error.code ? &worker->error : NULL);
}

void fake_say(struct fake_worker *worker, enum backend_state state, int code, const char *cause)
{
    static const struct timeval soon = {0, 1000};
    worker->next = state;
    worker->error.code = code;
    snprintf(worker->error.text, sizeof worker->error.text, "%s", cause);
    evtimer_add(worker->event, &soon);
}

void fake_ready(struct fake_worker *worker)
{
    free(worker->ready);
    worker->ready = ready_of(worker->world, &worker->start, false);
    worker->base.ready = text_of(worker->ready);
    worker->base.load_ns = 5 * MS;
    fake_say(worker, BACKEND_READY, 0, "");
}

void fake_use(struct fake_worker *worker, uint64_t kv, uint64_t cached, unsigned running)
{
    worker->base.use.kv_bytes = kv;
    worker->base.use.cached_bytes = cached;
    worker->base.use.running = running;
    worker->base.use.private_bytes = kv + worker->world->other;
    worker->owner.on_use(worker->owner.context);
}

static void tell_threads(struct backend *backend, unsigned threads)
{
    worker_of(backend)->threads = threads;
}

static void tell_shed(struct backend *backend, uint64_t bytes)
{
    worker_of(backend)->sheds++;
    worker_of(backend)->shed_bytes = bytes;
}

static void tell_memory(struct backend *backend, uint64_t memory_max)
{
    worker_of(backend)->memory = memory_max;
}

static void tell_drain(struct backend *backend, uint64_t timeout_ns)
{
    struct fake_worker *worker = worker_of(backend);
    (void)timeout_ns;
    worker->draining = true;
    if (!worker->world->hold_drains)
        fake_say(worker, BACKEND_ENDED, 0, "");
}

static void destroy(struct backend *backend)
{
    struct fake_worker *worker = worker_of(backend);
    worker->alive = false;
    event_free(worker->event);
    free(worker->ready);
    worker->ready = NULL;
}

static int fake_start(struct event_base *base, const struct local_options *options,
                      struct backend **out, struct hearth_error *err)
{
    static const struct backend_calls calls = {.threads = tell_threads,
                                               .shed = tell_shed,
                                               .memory = tell_memory,
                                               .drain = tell_drain,
                                               .destroy = destroy};
    struct world *world = the_world;
    assert_true(world->worker_count < WORLD_WORKERS_MAX);
    assert_false(options->start.probe);
    if (world->fail_starts > 0) {
        world->fail_starts--;
        err->code = HEARTH_E_LIMIT;
        snprintf(err->text, sizeof err->text, "no more processes");
        return HEARTH_E_LIMIT;
    }
    struct fake_worker *worker = &world->workers[world->worker_count++];
    *worker = (struct fake_worker){.base = {.calls = &calls, .process = (int)world->worker_count},
                                   .world = world,
                                   .owner = options->owner,
                                   .start = options->start,
                                   .alive = true,
                                   .threads = options->start.engine.threads,
                                   .memory = options->start.engine.memory_max};
    snprintf(worker->name, sizeof worker->name, "%s", options->name);
    snprintf(worker->chat_template, sizeof worker->chat_template, "%.*s",
             (int)options->start.chat_template.size, options->start.chat_template.data);
    worker->event = evtimer_new(base, on_say, worker);
    uint32_t context = options->start.engine.context ? options->start.engine.context : 2048;
    uint64_t needed = world->weights + world->other + world->kv * context / 2048;
    if (options->start.engine.fit == HEARTH_FIT_REFUSE && needed > worker->memory) {
        fake_say(worker, BACKEND_FAILED, HEARTH_E_LIMIT, "takes too much");
    } else if (world->fail_loads > 0) {
        world->fail_loads--;
        fake_say(worker, BACKEND_FAILED, HEARTH_E_FORMAT, "a tensor lies outside the file");
    } else if (!world->hold) {
        fake_ready(worker);
    }
    *out = &worker->base;
    return 0;
}

/* ---- the world ---- */

static void on_event(void *context, const char *type, struct text json)
{
    struct world *world = context;
    json_t *event = json_loadb(json.data, json.size, 0, NULL);
    assert_non_null(event);
    assert_string_equal(json_string_value(json_object_get(event, "type")), type);
    assert_true(json_is_integer(json_object_get(event, "time")));
    const char *model = json_string_value(json_object_get(event, "model"));
    const char *why = json_string_value(json_object_get(event, "why"));
    const char *level = json_string_value(json_object_get(event, "level"));
    size_t used = strlen(world->told);
    snprintf(world->told + used, sizeof world->told - used, "%s %s%s%s%s\n", type,
             model ? model : "", why ? " " : "", why ? why : "", level ? level : "");
    json_decref(event);
}

void world_init(struct world *world)
{
    *world = (struct world){.weights = 3 * GB, .kv = GB / 2, .other = GB / 10};
    test_folder_make_in_memory(world->folder);
    world->base = event_base_new();
    world->events = events_create();
    assert_non_null(world->base);
    assert_non_null(world->events);
    world->options = (struct models_options){
        .memory_max = 10 * GB,
        .defaults = {.ttl_ns = 3600 * GB, .idle_ns = 300 * GB},
        .events = world->events,
        .start = fake_start,
        .probe = fake_probe_start,
        .probe_cancel = fake_probe_cancel,
    };
    world->options.defaults.sampling.temperature = 0.8f;
    world->options.defaults.sampling.repeat_penalty = 1.0f;
    the_world = world;
    events_listen(world->events, on_event, world);
}

void world_open(struct world *world)
{
    const char *folder = world->folder;
    struct hearth_error err;
    if (world->options.folder_count == 0 && world->options.file_count == 0) {
        world->options.folders = &folder;
        world->options.folder_count = 1;
    }
    if (models_create(world->base, &world->options, &world->models, &err) != 0)
        fail_msg("%s", err.text);
}

void world_finish(struct world *world)
{
    models_destroy(world->models);
    assert_int_equal(world_alive(world), 0);
    assert_null(world->probes);
    events_destroy(world->events);
    event_base_free(world->base);
    test_folder_remove(world->folder);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what, (void)context;
}

void world_turn(struct world *world)
{
    static const struct timeval tick = {0, 2000};
    event_base_once(world->base, -1, EV_TIMEOUT, on_tick, NULL, &tick);
    event_base_loop(world->base, EVLOOP_ONCE);
}

void world_wait(struct world *world, unsigned ms)
{
    uint64_t end = os_monotonic_ns() + ms * MS;
    while (os_monotonic_ns() < end)
        world_turn(world);
}

struct model *world_model(struct world *world, const char *name)
{
    struct hearth_error err;
    struct model *model = models_find(world->models, text_of(name), &err);
    if (!model)
        fail_msg("%s", err.text);
    return model;
}

struct model_info world_info(struct world *world, const char *name)
{
    struct model_info info;
    model_info(world_model(world, name), &info);
    return info;
}

struct fake_worker *world_worker(struct world *world, const char *name)
{
    for (unsigned i = 0; i < world->worker_count; i++) {
        if (world->workers[i].alive && strcmp(world->workers[i].name, name) == 0)
            return &world->workers[i];
    }
    return NULL;
}

unsigned world_alive(const struct world *world)
{
    unsigned alive = 0;
    for (unsigned i = 0; i < world->worker_count; i++)
        alive += world->workers[i].alive;
    return alive;
}

/* ---- who asks ---- */

static void on_loading(void *context, double fraction)
{
    struct asker *asker = context;
    assert_false(asker->answered);
    assert_true(fraction >= asker->fraction);
    asker->fraction = fraction;
    asker->loadings++;
}

static void on_ready(void *context, struct model_lease *lease, bool loaded,
                     const struct hearth_error *err)
{
    struct asker *asker = context;
    assert_false(asker->answered);
    assert_true((lease != NULL) == (err == NULL));
    asker->answered = true;
    asker->wait = NULL;
    asker->lease = lease;
    asker->loaded = loaded;
    if (err)
        asker->error = *err;
    if (lease && asker->release_at_once)
        asker_release(asker);
}

int asker_ask_with(struct asker *asker, struct model *model, const struct model_settings *settings,
                   const uint64_t *ttl_ns, struct hearth_error *err)
{
    bool release_at_once = asker->release_at_once;
    const struct model_acquire acquire = {.settings = settings,
                                          .ttl_given = ttl_ns != NULL,
                                          .ttl_ns = ttl_ns ? *ttl_ns : 0,
                                          .on_loading = on_loading,
                                          .on_ready = on_ready,
                                          .context = asker};
    *asker = (struct asker){.release_at_once = release_at_once};
    int status = model_acquire(model, &acquire, &asker->wait, err);
    assert_false(asker->answered); /* only from the loop */
    return status;
}

void asker_ask(struct asker *asker, struct model *model)
{
    struct hearth_error err;
    if (asker_ask_with(asker, model, NULL, NULL, &err) != 0)
        fail_msg("%s", err.text);
}

void asker_release(struct asker *asker)
{
    assert_non_null(asker->lease);
    model_release(asker->lease);
    asker->lease = NULL;
}

void world_use(struct world *world, const char *name)
{
    struct asker asker = {0};
    asker_ask(&asker, world_model(world, name));
    WORLD_UNTIL(world, asker.answered);
    if (!asker.lease)
        fail_msg("%s", asker.error.text);
    asker_release(&asker);
}
