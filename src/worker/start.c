#include "worker/start.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/os.h"
#include "worker/describe.h"
#include "worker/remote_store.h"
#include "worker/visitors.h"

#define STORE_TIMEOUT_NS (30 * UINT64_C(1000000000))
#define DESCRIPTORS_MAX 1024 /* the model's, spills that rest and that travel */

struct start {
    int fds[WORK_MODEL_FDS_MAX];
    size_t fd_count;
    struct work_start what;                 /* its texts are those below */
    char *chat_template, *tier, *time_zone; /* NULL: none */
};

bool start_is_probe(const struct start *start)
{
    return start->what.probe;
}

static void close_files(struct start *start)
{
    for (size_t i = 0; i < start->fd_count; i++)
        os_file_close(start->fds[i]);
    start->fd_count = 0;
}

void start_free(struct start *start)
{
    if (!start)
        return;
    close_files(start);
    mem_free(start->chat_template);
    mem_free(start->tier);
    mem_free(start->time_zone);
    mem_free(start);
}

/* ---- what is wanted ---- */

static int add_files(struct start *start, const struct message *message, const int *descriptors,
                     struct hearth_error *err)
{
    for (uint32_t i = 0; i < message->descriptor_count; i++) {
        bool wanted = message->type == WORK_MODEL && start->fd_count < WORK_MODEL_FDS_MAX;
        if (wanted)
            start->fds[start->fd_count++] = descriptors[i];
        else
            os_file_close(descriptors[i]);
    }
    return message->type == WORK_MODEL || message->descriptor_count == 0
               ? 0
               : error_set(err, HEARTH_E_FORMAT, "files came where none are expected");
}

static int copy_optional(struct text text, const char *what, char **out, struct hearth_error *err)
{
    return text.size ? worker_copy_string(text, what, out, err) : 0;
}

static int take_start(struct start *start, const struct message *message, struct hearth_error *err)
{
    if (!work_get_start(message, &start->what))
        return error_set(err, HEARTH_E_FORMAT, "the first message cannot be understood");
    if (start->fd_count == 0)
        return error_set(err, HEARTH_E_FORMAT, "there is no file of a model");
    int status =
        copy_optional(start->what.chat_template, "the chat template", &start->chat_template, err);
    if (!status)
        status = copy_optional(start->what.tier, "the tier", &start->tier, err);
    if (!status)
        status = copy_optional(start->what.time_zone, "the time zone", &start->time_zone, err);
    return status;
}

int start_receive(struct channel *channel, int fd, struct start **out, struct hearth_error *err)
{
    struct start *start = MEM_NEW(struct start);
    int status = start ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for a worker");
    bool started = false;
    while (!status && !started) {
        struct message message;
        int descriptors[MESSAGE_DESCRIPTORS_MAX];
        status = channel_receive(channel, &message, descriptors, err);
        if (status == 0)
            os_socket_wait(fd, false, UINT64_MAX);
        if (status <= 0)
            continue;
        status = add_files(start, &message, descriptors, err);
        started = message.type == WORK_START;
        if (!status && started)
            status = take_start(start, &message, err);
        else if (!status && message.type != WORK_MODEL)
            status = error_set(err, HEARTH_E_FORMAT, "message %u came before the model",
                               (unsigned)message.type);
    }
    if (status) {
        start_free(start);
        return status;
    }
    *out = start;
    return 0;
}

int start_confine(const struct start *start, struct hearth_error *err)
{
    struct os_confinement confinement = {.descriptors_max = DESCRIPTORS_MAX};
    if ((start->tier && !os_set_environment("HEARTH_CPU", start->tier)) ||
        (start->time_zone && !os_set_environment("TZ", start->time_zone)))
        return error_set(err, HEARTH_E_MEMORY, "no memory for the environment");
    return os_confine(&confinement, err);
}

/* ---- loading ---- */

static int open_model(const struct start *start, struct worker *worker,
                      bool (*progress)(void *context, double fraction), struct hearth_error *err)
{
    const struct hearth_model_options options = {
        .progress = progress,
        .progress_context = worker,
        .no_mmap = start->what.no_mmap && !start->what.probe,
        .mlock = start->what.mlock && !start->what.probe,
        .chat_template = start->chat_template,
        .vocabulary_only = start->what.probe,
    };
    struct hearth_model_info info;
    struct hearth_estimate estimate;
    int status = hearth_model_open_fds(start->fds, start->fd_count, &options, &worker->model, err);
    if (!status && start->what.probe) /* whether it can be computed with */
        status = hearth_engine_estimate(worker->model, NULL, &estimate, err);
    if (status)
        return status;
    hearth_model_info(worker->model, &info);
    worker->has_template = info.has_template;
    return 0;
}

static int send_ready(struct start *start, struct worker *worker, json_t *ready,
                      struct hearth_error *err)
{
    char *text = ready ? json_dumps(ready, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
    if (ready && !text)
        error_set(err, HEARTH_E_MEMORY, "no memory to describe a model");
    json_decref(ready);
    if (!text)
        return err->code;
    close_files(start);
    worker_send(worker, work_put_text(&worker->message, WORK_READY, 0, text_of(text)));
    free(text);
    return 0;
}

static int open_sessions(const struct start *start, struct worker *worker, struct hearth_error *err)
{
    struct hearth_sessions_options options = {
        .idle_ns = start->what.idle_ns,
        .answers_max = start->what.answers_max,
        .watch_pressure = true,
    };
    int status = 0;
    if (start->what.store)
        status = remote_store_open(WORKER_STORE_FD, STORE_TIMEOUT_NS, &worker->store, err);
    options.store = worker->store;
    if (!status)
        status =
            hearth_sessions_open(worker->model, worker->engine, &options, &worker->sessions, err);
    if (!status)
        status = visitors_open(worker->sessions, !worker->has_template, &worker->visitors, err);
    return status;
}

/* What would be refused is refused before all of the files is read. */
static int check_engine(const struct start *start, struct hearth_error *err)
{
    const struct hearth_model_options options = {.vocabulary_only = true};
    struct hearth_model *model;
    struct hearth_engine *engine;
    int status = hearth_model_open_fds(start->fds, start->fd_count, &options, &model, err);
    if (status)
        return status;
    status = hearth_engine_open(model, &start->what.engine, &engine, err);
    if (!status)
        hearth_engine_close(engine);
    hearth_model_close(model);
    return status;
}

int start_load(struct start *start, struct worker *worker,
               bool (*progress)(void *context, double fraction), struct hearth_error *err)
{
    uint64_t begin = os_monotonic_ns();
    int status = start->what.no_mmap || start->what.mlock ? check_engine(start, err) : 0;
    if (!status)
        status = open_model(start, worker, progress, err);
    if (!status)
        status = hearth_engine_open(worker->model, &start->what.engine, &worker->engine, err);
    if (!status)
        status = open_sessions(start, worker, err);
    if (status)
        return status;
    const struct description description = {
        .options = &start->what.engine,
        .chat_template = start->chat_template,
        .engine = worker->engine,
        .load_ns = os_monotonic_ns() - begin,
    };
    worker_tell_state(worker); /* so that who hears that it is ready knows what it takes */
    return send_ready(start, worker, describe_model(worker->model, &description, err), err);
}

int start_probe(struct start *start, struct worker *worker, struct hearth_error *err)
{
    const struct description description = {.options = &start->what.engine,
                                            .chat_template = start->chat_template};
    struct hearth_error other;
    int status = open_model(start, worker, NULL, err);
    if (!status)
        return send_ready(start, worker, describe_model(worker->model, &description, err), err);
    json_t *ready = describe_unsupported(start->fds, start->fd_count, err->text, &other);
    return ready ? send_ready(start, worker, ready, err) : status;
}
