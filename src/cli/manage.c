/* hearth ps, load, unload, status, logs, stop: what a user asks of a running daemon. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/progress.h"

struct manage_settings {
    struct client_settings client;
    const char *model;
    bool json, all, names, force, follow;
    uint64_t ttl_ns;
    uint32_t context;
};

#define TTL_UNSAID (UINT64_MAX - 1)
#define STOP_SECONDS_MAX 90
#define NAME_COLUMNS_MAX 60

static uint64_t number(const json_t *object, const char *name)
{
    json_int_t value = json_integer_value(json_object_get(object, name));
    return value > 0 ? (uint64_t)value : 0;
}

static const char *string(const json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "";
}

/* One call of the daemon; prints its JSON, or hands it over where `show` wants it as text. */
static enum exit_code ask(const struct manage_settings *settings, const char *method,
                          const char *path,
                          void (*show)(const struct manage_settings *settings, const json_t *reply))
{
    struct client *client;
    struct hearth_error err = {0};
    json_t *reply = NULL;
    enum exit_code code;
    if (client_open(&settings->client, &client, &err))
        return console_fail(&err);
    if (client_call(client, method, path, NULL, &reply, &err))
        code = console_fail(&err);
    else if (settings->json)
        code = console_json(json_incref(reply));
    else {
        show(settings, reply);
        code = console_finish();
    }
    json_decref(reply);
    client_close(client);
    return code;
}

/* ---- hearth ps ---- */

/* Columns of a name; where `out` is given, what is shown of it goes there. */
static int fit_name(const char *name, struct buffer *out)
{
    struct buffer shown;
    buffer_init(&shown, 4096);
    size_t columns = console_fit(text_of(name), NAME_COLUMNS_MAX, out ? out : &shown);
    buffer_finish(&shown);
    return (int)columns;
}

static void print_name(const char *name, int width)
{
    struct buffer shown;
    buffer_init(&shown, 4096);
    int columns = fit_name(name, &shown);
    printf("%s%*s", shown.data ? shown.data : "", width - columns, "");
    buffer_finish(&shown);
}

static void print_time_left(const json_t *model)
{
    const json_t *left = json_object_get(model, "expires_in_s");
    char text[SIZE_TEXT_MAX];
    if (json_is_number(left))
        printf("%s", duration_text((uint64_t)(json_number_value(left) * 1e9), text));
    else
        printf("%s", number(model, "answers") > 0 ? "in use" : "never");
}

static bool is_in_memory(const json_t *model)
{
    return strcmp(string(model, "state"), "unloaded") != 0;
}

static int name_width(const json_t *models)
{
    int width = (int)strlen("MODEL");
    for (size_t i = 0; i < json_array_size(models); i++) {
        int columns = fit_name(string(json_array_get(models, i), "name"), NULL);
        width = columns > width ? columns : width;
    }
    return width;
}

static void print_row(const json_t *model, int width)
{
    char private[SIZE_TEXT_MAX], weights[SIZE_TEXT_MAX];
    print_name(string(model, "name"), width);
    if (!is_in_memory(model)) {
        printf("  %s\n", json_is_true(json_object_get(model, "upstream")) ? "upstream" : "-");
        return;
    }
    printf("  %-10s  %10s  %10s  %8" PRIu64 "  %8" PRIu64 "  %7" PRIu64 "  ",
           string(model, "state"), size_text(number(model, "private_bytes"), private),
           size_text(number(model, "mapped_bytes"), weights), number(model, "context"),
           number(model, "sessions"), number(model, "answers"));
    print_time_left(model);
    putchar('\n');
}

static void show_models(const struct manage_settings *settings, const json_t *reply)
{
    const json_t *models = json_object_get(reply, "models");
    int width = name_width(models);
    size_t shown = 0;
    for (size_t i = 0; i < json_array_size(models); i++) {
        const json_t *model = json_array_get(models, i);
        if (!settings->all && !is_in_memory(model))
            continue;
        if (settings->names) {
            console_show(text_of(string(model, "name")));
            console_show(TEXT("\n"));
            continue;
        }
        if (shown++ == 0)
            printf("%-*s  %-10s  %10s  %10s  %8s  %8s  %7s  %s\n", width, "MODEL", "STATE",
                   "PRIVATE", "MAPPED", "CONTEXT", "SESSIONS", "ANSWERS", "GOES IN");
        print_row(model, width);
    }
    if (shown == 0 && !settings->names)
        console_say(settings->all ? "the daemon knows no model: hearth serve --models says where"
                                  : "no model is loaded: the first request to one loads it");
}

static enum exit_code run_ps(const struct program *program, const void *given)
{
    const struct manage_settings *settings = given;
    (void)program;
    return ask(settings, "GET", "/hearth/v1/models", show_models);
}

/* ---- hearth status ---- */

static void show_status(const struct manage_settings *settings, const json_t *reply)
{
    (void)settings;
    char text[SIZE_TEXT_MAX], more[SIZE_TEXT_MAX];
    const json_t *memory = json_object_get(reply, "memory");
    printf("hearth %s, process %" PRIu64 ", for %s\n", string(reply, "version"),
           number(reply, "pid"), duration_text(number(reply, "uptime_s") * 1000000000u, text));
    const json_t *listeners = json_object_get(reply, "listeners");
    for (size_t i = 0; i < json_array_size(listeners); i++)
        printf("listens on %s\n", json_string_value(json_array_get(listeners, i)));
    printf("models: %" PRIu64 " known, %" PRIu64 " loaded\n", number(reply, "models"),
           number(reply, "models_loaded"));
    printf("requests: %" PRIu64 " computing, %" PRIu64 " waiting\n", number(reply, "running"),
           number(reply, "waiting"));
    printf("memory: %s of weights, %s private; at most %s\n",
           size_text(number(memory, "weights_bytes"), text),
           size_text(number(memory, "private_bytes"), more),
           size_text(number(memory, "limit_bytes"), (char[SIZE_TEXT_MAX]){0}));
}

static enum exit_code run_status(const struct program *program, const void *given)
{
    (void)program;
    return ask(given, "GET", "/hearth/v1/status", show_status);
}

/* ---- hearth load, hearth unload ---- */

struct loading {
    const char *name;
    struct progress progress;
    json_t *loaded;
    struct hearth_error error;
};

static bool on_loading(void *context, const char *name, const json_t *data)
{
    struct loading *loading = context;
    const json_t *error = json_object_get(data, "error");
    if (strcmp(name, "loading") == 0)
        progress_update(&loading->progress, json_number_value(json_object_get(data, "progress")),
                        loading->name);
    else if (strcmp(name, "loaded") == 0)
        loading->loaded = json_incref((json_t *)data);
    else if (error)
        error_set(&loading->error, HEARTH_E_IO, "%s", string(error, "message"));
    return true;
}

static bool model_path(const char *model, const char *what, struct buffer *path)
{
    buffer_init(path, 8192);
    buffer_append_text(path, TEXT("/hearth/v1/models/"));
    client_append_segment(path, model);
    return buffer_append_text(path, text_of(what));
}

static json_t *load_body(const struct manage_settings *settings)
{
    json_t *body = json_pack("{s:b}", "stream", true);
    if (settings->ttl_ns != TTL_UNSAID)
        json_object_set_new(body, "ttl",
                            settings->ttl_ns == UINT64_MAX
                                ? json_integer(-1)
                                : json_real((double)settings->ttl_ns / 1e9));
    if (settings->context)
        json_object_set_new(body, "context", json_integer(settings->context));
    return body;
}

static enum exit_code run_load(const struct program *program, const void *given)
{
    const struct manage_settings *settings = given;
    struct loading loading = {.name = settings->model};
    struct client *client;
    struct hearth_error err = {0};
    struct buffer path;
    char text[SIZE_TEXT_MAX];
    (void)program;
    if (client_open(&settings->client, &client, &err))
        return console_fail(&err);
    json_t *body = load_body(settings);
    progress_begin(&loading.progress, "loading");
    int status = model_path(settings->model, "/load", &path)
                     ? client_stream(client, "POST", path.data, body, on_loading, &loading, &err)
                     : error_set(&err, HEARTH_E_LIMIT, "the name of the model is too long");
    progress_end(&loading.progress);
    if (!status && !loading.loaded)
        status = error_set(&err, HEARTH_E_IO, "%s",
                           loading.error.text[0] ? loading.error.text : "the model was not loaded");
    enum exit_code code = EXIT_CODE_OK;
    if (status)
        code = console_fail(&err);
    else if (settings->json)
        code = console_json(json_incref(loading.loaded));
    else
        console_say(
            "%s is loaded, in %s", settings->model,
            duration_text(
                (uint64_t)(json_number_value(json_object_get(loading.loaded, "load_time_s")) * 1e9),
                text));
    json_decref(loading.loaded);
    json_decref(body);
    buffer_finish(&path);
    client_close(client);
    return code;
}

static int unload(struct client *client, const struct manage_settings *settings, const char *name,
                  struct hearth_error *err)
{
    struct buffer path;
    json_t *body = json_pack("{s:b}", "force", settings->force);
    int status = model_path(name, "/unload", &path)
                     ? client_call(client, "POST", path.data, body, NULL, err)
                     : error_set(err, HEARTH_E_LIMIT, "the name of the model is too long");
    buffer_finish(&path);
    json_decref(body);
    return status;
}

static int unload_all(struct client *client, const struct manage_settings *settings,
                      struct hearth_error *err)
{
    json_t *reply = NULL;
    int status = client_call(client, "GET", "/hearth/v1/models", NULL, &reply, err);
    const json_t *models = json_object_get(reply, "models");
    for (size_t i = 0; i < json_array_size(models) && !status; i++) {
        const json_t *model = json_array_get(models, i);
        if (strcmp(string(model, "state"), "unloaded") != 0)
            status = unload(client, settings, string(model, "name"), err);
    }
    json_decref(reply);
    return status;
}

static enum exit_code run_unload(const struct program *program, const void *given)
{
    const struct manage_settings *settings = given;
    struct client *client;
    struct hearth_error err = {0};
    (void)program;
    if (!settings->model == !settings->all) {
        console_say("unload takes the name of a MODEL, or --all");
        return EXIT_CODE_USAGE;
    }
    if (client_open(&settings->client, &client, &err))
        return console_fail(&err);
    int status = settings->all ? unload_all(client, settings, &err)
                               : unload(client, settings, settings->model, &err);
    client_close(client);
    return status ? console_fail(&err) : EXIT_CODE_OK;
}

/* ---- hearth logs ---- */

static bool on_log(void *context, struct text bytes)
{
    (void)context;
    console_show(bytes);
    return true;
}

static enum exit_code run_logs(const struct program *program, const void *given)
{
    const struct manage_settings *settings = given;
    struct client *client;
    struct hearth_error err = {0};
    (void)program;
    if (client_open(&settings->client, &client, &err))
        return console_fail(&err);
    int status =
        client_text(client, settings->follow ? "/hearth/v1/logs?follow=true" : "/hearth/v1/logs",
                    on_log, NULL, &err);
    client_close(client);
    return status ? console_fail(&err) : console_finish();
}

/* ---- hearth stop ---- */

static enum exit_code run_stop(const struct program *program, const void *given)
{
    const struct manage_settings *settings = given;
    struct client *client;
    struct hearth_error err = {0};
    (void)program;
    if (client_open(&settings->client, &client, &err))
        return console_fail(&err);
    int status = client_stop(client, STOP_SECONDS_MAX, &err);
    client_close(client);
    return status ? console_fail(&err) : EXIT_CODE_OK;
}

/* ---- the tables ---- */

static void manage_defaults(void *given)
{
    struct manage_settings *settings = given;
    settings->ttl_ns = TTL_UNSAID;
}

#define AT(field) offsetof(struct manage_settings, field)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct option report_options[] = {
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help = "Print the daemon's answer as one JSON object."},
};

static const struct option ps_options[] = {
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "all",
     .short_name = 'a',
     .type = OPTION_FLAG,
     .offset = AT(all),
     .topic = "Model",
     .help = "Those that are not loaded as well."},
    {.name = "names",
     .type = OPTION_FLAG,
     .offset = AT(names),
     .topic = "Output",
     .help = "List only the names, one a line."},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help = "Print the daemon's answer as one JSON object: all models, whatever their state."},
};

static const struct option load_options[] = {
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "ttl",
     .type = OPTION_DURATION,
     .argument = "TIME",
     .offset = AT(ttl_ns),
     .topic = "Model",
     .shown_default = "the daemon's",
     .help = "How long it stays loaded after its last use; never: for ever."},
    {.name = "context",
     .short_name = 'c',
     .type = OPTION_UINT,
     .argument = "N",
     .min = 8,
     .max = 16777216,
     .offset = AT(context),
     .topic = "Model",
     .shown_default = "the daemon's",
     .help = "How many tokens a conversation may have."},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help = "Print the daemon's answer as one JSON object."},
};

static const struct option unload_options[] = {
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "all",
     .type = OPTION_FLAG,
     .offset = AT(all),
     .topic = "Model",
     .help = "All models."},
    {.name = "force",
     .type = OPTION_FLAG,
     .offset = AT(force),
     .topic = "Model",
     .help = "Also while it answers: its answers end."},
};

static const struct option log_options[] = {
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "follow",
     .short_name = 'f',
     .type = OPTION_FLAG,
     .offset = AT(follow),
     .topic = "Output",
     .help = "Go on with new lines, until Ctrl-C."},
};

static const struct option stop_options[] = {CLIENT_SOCKET_OPTION(AT(client))};

static const struct operand load_operands[] = {
    {"MODEL", OPERAND_SERVED, true, AT(model), "its name, as hearth ps and the API have it", NULL},
};

static const struct operand unload_operands[] = {
    {"MODEL", OPERAND_SERVED, false, AT(model), "its name", NULL},
};

const struct command command_ps = {
    .name = "ps",
    .summary = "List the models that a daemon has loaded",
    .description = "Lists the models that the running daemon (hearth serve) has in memory: what "
                   "each takes, and when it goes if nobody asks it.",
    .options = ps_options,
    .option_count = COUNT(ps_options),
    .settings_size = sizeof(struct manage_settings),
    .defaults = manage_defaults,
    .run = run_ps,
};

const struct command command_status = {
    .name = "status",
    .summary = "Say how a daemon is",
    .description = "Says where the running daemon listens, what it computes and what memory it "
                   "takes, its workers' included.",
    .options = report_options,
    .option_count = COUNT(report_options),
    .settings_size = sizeof(struct manage_settings),
    .defaults = manage_defaults,
    .run = run_status,
};

const struct command command_load = {
    .name = "load",
    .summary = "Have a daemon load a model",
    .description = "Loads a model into the running daemon before anybody asks it.",
    .options = load_options,
    .option_count = COUNT(load_options),
    .operands = load_operands,
    .operand_count = COUNT(load_operands),
    .settings_size = sizeof(struct manage_settings),
    .defaults = manage_defaults,
    .run = run_load,
};

const struct command command_unload = {
    .name = "unload",
    .summary = "Have a daemon unload a model",
    .description = "Ends the process that computes a model: all of its memory comes back. Its "
                   "conversations are kept.",
    .options = unload_options,
    .option_count = COUNT(unload_options),
    .operands = unload_operands,
    .operand_count = COUNT(unload_operands),
    .settings_size = sizeof(struct manage_settings),
    .defaults = manage_defaults,
    .run = run_unload,
};

const struct command command_logs = {
    .name = "logs",
    .summary = "Show the last lines of a daemon's log",
    .description = "Shows what the running daemon logged lately: requests with their status and "
                   "time, loads, restarts. Nothing that was said is in it.",
    .options = log_options,
    .option_count = COUNT(log_options),
    .settings_size = sizeof(struct manage_settings),
    .defaults = manage_defaults,
    .run = run_logs,
};

const struct command command_stop = {
    .name = "stop",
    .summary = "Stop a daemon",
    .description = "Tells the running daemon to end: it takes no more requests, lets answers end "
                   "(hearth serve --drain says how long), and leaves. Returns when it has.",
    .options = stop_options,
    .option_count = COUNT(stop_options),
    .settings_size = sizeof(struct manage_settings),
    .defaults = manage_defaults,
    .run = run_stop,
};
