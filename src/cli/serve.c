/* hearth serve: the daemon. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/load.h"
#include "cli/state.h"
#include "server/daemon.h"

#define IDLE_NS_DEFAULT (UINT64_C(300) * 1000000000)
#define TTL_NS_DEFAULT (UINT64_C(3600) * 1000000000)
#define DRAIN_NS_DEFAULT (UINT64_C(30) * 1000000000)
#define HANG_NS_DEFAULT (UINT64_C(30) * 1000000000)
#define PORT_DEFAULT 7878
#define LISTENERS_MAX 8

struct serve_settings {
    struct text_list folders, files, origins, hosts;
    const char *settings;
    uint64_t memory, idle_ns, ttl_ns, drain_ns, hang_ns;
    uint32_t context, threads, answers, port;
    int kv_type, fit, log_format;
    bool no_mmap, mlock;
    const char *host, *key_file, *upstreams;
    struct client_settings client; /* its socket */
    struct state_settings state;
    bool no_tcp, no_socket, no_store, ollama, lmstudio, allow_paths, verbose;
    int32_t lifeline_fd;
};

struct serving {
    const struct serve_settings *settings;
    char socket[STATE_PATH_BYTES], store[STATE_PATH_BYTES], upstreams[STATE_PATH_BYTES],
        models[STATE_PATH_BYTES];
    const char *folders[1];
    int listeners[LISTENERS_MAX];
    struct daemon_options options;
};

/* ---- what is said once it listens ---- */

static void on_listening(void *context, uint16_t port)
{
    const struct serving *serving = context;
    const struct daemon_options *options = &serving->options;
    if (port && serving->settings->port == 0) {
        printf("%u\n", (unsigned)port);
        fflush(stdout);
    }
    if (port)
        console_say("listening on http://%s:%u", options->address, (unsigned)port);
    if (options->socket)
        console_say("listening on %s", options->socket);
    if (serving->models[0])
        console_say("models are looked for in %s", serving->models);
    for (size_t i = 0; i < options->listener_count; i++) {
        char name[OS_SOCKET_NAME_BYTES];
        if (os_socket_name(options->listeners[i], name))
            console_say("listening on %s", name);
    }
}

/* ---- settings ---- */

static const char *check(const struct serve_settings *settings)
{
    if (settings->no_store && settings->state.store)
        return "--no-store excludes --store";
    if (settings->hang_ns == 0)
        return "--hang-time takes more than 0; never: for ever";
    if (settings->no_tcp && (settings->ollama || settings->lmstudio))
        return "--no-tcp excludes --ollama and --lmstudio";
    if (settings->allow_paths && !settings->key_file)
        return "--allow-paths needs --key-file";
    if (!os_address_is_loopback(settings->host) && !settings->key_file && !settings->no_tcp)
        return "--host with an address that others can reach needs --key-file";
    return NULL;
}

static struct model_settings model_defaults(const struct serve_settings *settings)
{
    struct model_settings defaults = {
        .context = settings->context,
        .threads = settings->threads,
        .answers_max = settings->answers,
        .kv_type = (enum hearth_kv_type)settings->kv_type,
        .fit = (enum hearth_fit)settings->fit,
        .no_mmap = settings->no_mmap,
        .mlock = settings->mlock,
        .ttl_ns = settings->ttl_ns,
        .idle_ns = settings->idle_ns,
    };
    hearth_sampling_default(&defaults.sampling);
    return defaults;
}

/* Without --models and --model the folder of hearth's own models, which may be empty as yet. */
static int find_models(struct serving *serving, struct models_options *options,
                       struct hearth_error *err)
{
    const struct serve_settings *settings = serving->settings;
    options->folders = settings->folders.items;
    options->folder_count = settings->folders.count;
    options->files = settings->files.items;
    options->file_count = settings->files.count;
    if (options->folder_count + options->file_count > 0)
        return 0;
    if (!state_data_path("models", serving->models) ||
        !os_make_private_directories(serving->models))
        return error_set(err, HEARTH_E_MISSING,
                         "no models are named: --models DIR or --model PATH does that");
    serving->folders[0] = serving->models;
    options->folders = serving->folders;
    options->folder_count = 1;
    return 0;
}

static int find_places(struct serving *serving, struct hearth_error *err)
{
    const struct serve_settings *settings = serving->settings;
    struct daemon_options *options = &serving->options;
    if (!settings->no_socket) {
        if (client_socket_path(&settings->client, serving->socket, err))
            return err->code;
        options->socket = serving->socket;
    }
    if (!settings->no_store) {
        options->store = settings->state.store;
        if (!options->store && !state_path("store", serving->store))
            return error_set(err, HEARTH_E_IO,
                             "there is no directory to keep conversations in: --store names one, "
                             "--no-store does without");
        if (!options->store)
            options->store = serving->store;
    }
    options->upstreams_path = settings->upstreams;
    if (!options->upstreams_path && state_path("upstreams.json", serving->upstreams))
        options->upstreams_path = serving->upstreams;
    return 0;
}

/* Sockets that systemd opened for us stand for our own socket and ports. */
static int find_listeners(struct serving *serving, struct hearth_error *err)
{
    struct daemon_options *options = &serving->options;
    int count = os_inherited_listeners(getenv("LISTEN_PID"), getenv("LISTEN_FDS"),
                                       serving->listeners, LISTENERS_MAX, err);
    if (count <= 0)
        return count;
    options->listener_count = (size_t)count;
    options->socket = NULL;
    options->address = options->ollama_address = options->lmstudio_address = NULL;
    return 0;
}

static int prepare(struct serving *serving, struct hearth_error *err)
{
    const struct serve_settings *settings = serving->settings;
    struct daemon_options *options = &serving->options;
    *options = (struct daemon_options){
        .models = {.settings_path = settings->settings,
                   .memory_max = settings->memory,
                   .hang_ns = settings->hang_ns,
                   .defaults = model_defaults(settings)},
        .address = settings->no_tcp ? NULL : settings->host,
        .port = (uint16_t)settings->port,
        .ollama_address = settings->ollama ? settings->host : NULL,
        .lmstudio_address = settings->lmstudio ? settings->host : NULL,
        .key_file = settings->key_file,
        .origins = settings->origins.items,
        .origin_count = settings->origins.count,
        .hosts = settings->hosts.items,
        .host_count = settings->hosts.count,
        .allow_paths = settings->allow_paths,
        .lifeline_fd = settings->lifeline_fd,
        .drain_ns = settings->drain_ns,
        .log_json = settings->log_format == 1,
        .log_level = settings->verbose ? LOG_DEBUG : LOG_INFO,
        .log_fd = CONSOLE_STDERR,
        .listeners = serving->listeners,
        .on_listening = on_listening,
        .context = serving,
    };
    int status = find_places(serving, err);
    if (!status)
        status = find_models(serving, &options->models, err);
    if (!status)
        status = find_listeners(serving, err);
    if (!status && !options->listener_count && !options->address && !options->socket)
        status = error_set(err, HEARTH_E_ARGUMENT,
                           "with --no-tcp and --no-socket nobody could ask anything");
    return status;
}

static enum exit_code run_serve(const struct program *program, const void *given)
{
    struct serving serving = {.settings = given};
    struct hearth_error err = {0};
    const char *cause = check(given);
    (void)program;
    if (cause) {
        console_say("%s", cause);
        return EXIT_CODE_USAGE;
    }
    int status = prepare(&serving, &err);
    if (!status)
        status = daemon_run(&serving.options, &err);
    return status ? console_fail(&err) : EXIT_CODE_OK;
}

/* ---- the table ---- */

static void serve_defaults(void *given)
{
    struct serve_settings *settings = given;
    settings->idle_ns = IDLE_NS_DEFAULT;
    settings->ttl_ns = TTL_NS_DEFAULT;
    settings->drain_ns = DRAIN_NS_DEFAULT;
    settings->hang_ns = HANG_NS_DEFAULT;
    settings->port = PORT_DEFAULT;
    settings->host = "127.0.0.1";
    settings->lifeline_fd = -1;
}

#define AT(field) offsetof(struct serve_settings, field)

static const char *const log_formats[] = {"text", "json", NULL};

static const struct option serve_options[] = {
    {.name = "models",
     .type = OPTION_FILES,
     .argument = "DIR",
     .offset = AT(folders),
     .topic = "Models",
     .shown_default = "$XDG_DATA_HOME/hearth/models",
     .help = "A folder with GGUF files: each can be asked by the name of its file, without .gguf."},
    {.name = "model",
     .short_name = 'm',
     .type = OPTION_FILES,
     .argument = "PATH",
     .offset = AT(files),
     .topic = "Models",
     .help = "A GGUF file."},
    {.name = "settings",
     .type = OPTION_FILE,
     .argument = "FILE",
     .offset = AT(settings),
     .topic = "Models",
     .help = "JSON with settings for each model: {\"defaults\": {...}, \"models\": {\"NAME\": "
             "{\"context\": 8192, \"kv\": \"q8_0\", \"threads\": 4, \"ttl\": \"10m\", "
             "\"system\": \"...\", \"temperature\": 0.7, ...}}}."},
    {.name = "ttl",
     .type = OPTION_DURATION,
     .argument = "TIME",
     .offset = AT(ttl_ns),
     .topic = "Models",
     .help = "How long a model stays loaded after its last use; 0: not at all, never: for ever."},
    {.name = "memory",
     .type = OPTION_SIZE,
     .argument = "SIZE",
     .min = 1,
     .max = 1e18,
     .offset = AT(memory),
     .topic = "Memory",
     .shown_default = "half of what the machine, or its control group, has",
     .help = "What weights and private memory of all processes may take together, as 500M or 2.6G. "
             "Models that were not used for longest go for one that is asked."},
    {.name = "fit",
     .type = OPTION_CHOICE,
     .argument = "WAY",
     .choices = load_fits,
     .offset = AT(fit),
     .topic = "Memory",
     .help = "A context that does not fit into that memory is refused, or made shorter (shrink)."},
    {.name = "idle",
     .type = OPTION_DURATION,
     .argument = "TIME",
     .offset = AT(idle_ns),
     .topic = "Memory",
     .help = "How long a conversation may wait before its memory is given back; it is kept on the "
             "disk, and the model stays."},
    {.name = "context",
     .short_name = 'c',
     .type = OPTION_UINT,
     .argument = "N",
     .min = 8,
     .max = 16777216,
     .offset = AT(context),
     .topic = "Engine",
     .shown_default = "the model's own",
     .help =
         "How many tokens a conversation may have. Memory is taken only for those that it has."},
    {.name = "threads",
     .short_name = 't',
     .type = OPTION_UINT,
     .argument = "N",
     .min = 1,
     .max = 1024,
     .offset = AT(threads),
     .topic = "Engine",
     .shown_default = "as many as there are cores to use",
     .help = "Compute with N threads; models at work share them."},
    {.name = "kv",
     .type = OPTION_CHOICE,
     .argument = "TYPE",
     .choices = load_kv_types,
     .offset = AT(kv_type),
     .topic = "Engine",
     .help = "How the KV cache is stored. q8_0 takes about half of the memory of f16 and rounds a "
             "little; q4_0 takes a quarter and rounds more."},
    {.name = "answers",
     .type = OPTION_UINT,
     .argument = "N",
     .min = 1,
     .max = 256,
     .offset = AT(answers),
     .topic = "Engine",
     .shown_default = "8",
     .help = "How many answers a model computes at once; others wait."},
    {.name = "no-mmap",
     .type = OPTION_FLAG,
     .offset = AT(no_mmap),
     .topic = "Engine",
     .help = "Read models into private memory, instead of using their files in place."},
    {.name = "mlock",
     .type = OPTION_FLAG,
     .offset = AT(mlock),
     .topic = "Engine",
     .help = "Keep models in memory once they were read."},
    {.name = "host",
     .type = OPTION_TEXT,
     .argument = "ADDRESS",
     .offset = AT(host),
     .topic = "Network",
     .help = "The numeric address to listen on. One that others can reach needs --key-file."},
    {.name = "port",
     .short_name = 'p',
     .type = OPTION_UINT,
     .argument = "N",
     .min = 0,
     .max = 65535,
     .offset = AT(port),
     .topic = "Network",
     .help = "The TCP port; 0: a free one, which is printed."},
    {.name = "no-tcp",
     .type = OPTION_FLAG,
     .offset = AT(no_tcp),
     .topic = "Network",
     .help = "Listen on the Unix socket alone."},
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "no-socket",
     .type = OPTION_FLAG,
     .offset = AT(no_socket),
     .topic = "Network",
     .help = "Listen on TCP alone."},
    {.name = "ollama",
     .type = OPTION_FLAG,
     .offset = AT(ollama),
     .topic = "Network",
     .help = "Listen on port 11434 as well, where Ollama's clients look."},
    {.name = "lmstudio",
     .type = OPTION_FLAG,
     .offset = AT(lmstudio),
     .topic = "Network",
     .help = "Listen on port 1234 as well, where LM Studio's clients look."},
    {.name = "key-file",
     .type = OPTION_FILE,
     .argument = "FILE",
     .offset = AT(key_file),
     .topic = "Network",
     .help = "A file for your eyes only (0600) with keys, one a line: requests by TCP need one as "
             "\"Authorization: Bearer KEY\"."},
    {.name = "origin",
     .type = OPTION_TEXTS,
     .argument = "ORIGIN",
     .offset = AT(origins),
     .topic = "Network",
     .help = "A web origin whose pages may ask, as http://localhost:3000."},
    {.name = "allow-host",
     .type = OPTION_TEXTS,
     .argument = "NAME",
     .offset = AT(hosts),
     .topic = "Network",
     .help = "A name that requests may be sent to, besides loopback ones."},
    {.name = "allow-paths",
     .type = OPTION_FLAG,
     .offset = AT(allow_paths),
     .topic = "Network",
     .help = "Who has a key may make model files known by their paths, as clients of the socket "
             "may."},
    STATE_OPTION(AT(state)),
    {.name = "no-store",
     .type = OPTION_FLAG,
     .offset = AT(no_store),
     .topic = "Conversation",
     .help = "Keep nothing on the disk."},
    {.name = "upstreams",
     .type = OPTION_FILE,
     .argument = "FILE",
     .offset = AT(upstreams),
     .topic = "Models",
     .shown_default = "$XDG_STATE_HOME/hearth/upstreams.json",
     .help = "Where hearth upstream writes down other servers."},
    {.name = "drain",
     .type = OPTION_DURATION,
     .argument = "TIME",
     .offset = AT(drain_ns),
     .topic = "Life",
     .help = "How long answers may take to end when the daemon is told to."},
    {.name = "hang-time",
     .type = OPTION_DURATION,
     .argument = "TIME",
     .offset = AT(hang_ns),
     .topic = "Life",
     .help = "How long a worker may be silent before it is ended and started anew; ten times as "
             "long while it computes."},
    {.name = "lifeline-fd",
     .type = OPTION_INT,
     .argument = "N",
     .min = 0,
     .max = 1048576,
     .offset = AT(lifeline_fd),
     .topic = "Life",
     .shown_default = "",
     .help = "End when this descriptor, which a parent opened for us, is closed."},
    {.name = "log-format",
     .type = OPTION_CHOICE,
     .argument = "FORMAT",
     .choices = log_formats,
     .offset = AT(log_format),
     .topic = "Output",
     .help = "How the log is written to standard error."},
    {.name = "verbose",
     .short_name = 'v',
     .type = OPTION_FLAG,
     .offset = AT(verbose),
     .topic = "Output",
     .help = "Log more."},
};

static const struct example serve_examples[] = {
    {"hearth serve --models ~/models", "All models in a folder, loaded as they are asked."},
    {"hearth serve --model MODEL.gguf --port 0", "One model, at a port that is printed."},
    {"hearth serve --models ~/models --memory 2.6G --ttl 10m --ollama",
     "At most so much memory; gone after ten idle minutes; for Ollama's clients as well."},
    {"curl http://127.0.0.1:7878/api/generate -d '{\"model\": \"MODEL\", \"prompt\": \"Hello\"}'",
     "Asks it, as Ollama's clients do."},
};

const struct command command_serve = {
    .name = "serve",
    .summary = "Answer programs: the APIs of OpenAI, Ollama, LM Studio and llama-server",
    .description =
        "Runs until it is stopped. Each model is computed in a process of its own, which can open "
        "neither files nor sockets and takes nothing else with it when it ends. Models are loaded "
        "when they are asked and go when they were idle, or when others need their memory.\n\n"
        "It listens on loopback and on a socket that only you can open. hearth run, ps, load, "
        "unload, status, logs and stop talk to it.",
    .options = serve_options,
    .option_count = sizeof serve_options / sizeof serve_options[0],
    .examples = serve_examples,
    .example_count = sizeof serve_examples / sizeof serve_examples[0],
    .settings_size = sizeof(struct serve_settings),
    .defaults = serve_defaults,
    .run = run_serve,
};
