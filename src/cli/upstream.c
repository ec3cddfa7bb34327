/* hearth upstream: the models that other servers answer. */

#define _POSIX_C_SOURCE 200809L
#define _XOPEN_SOURCE 700 /* realpath */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/state.h"
#include "server/upstream.h"

enum action { LIST, ADD, REMOVE };

struct upstream_settings {
    int action; /* enum action */
    const char *name, *url, *model, *key_file, *file;
    bool json;
};

static json_t *entry_json(const struct upstream_entry *entry)
{
    return json_pack("{s:s, s:s, s:s?, s:s?}", "name", entry->name, "url", entry->url, "model",
                     entry->model, "key_file", entry->key_file);
}

static enum exit_code show_list(const struct upstream_settings *settings,
                                const struct upstream_list *list)
{
    if (settings->json) {
        json_t *items = json_array();
        for (size_t i = 0; i < list->count; i++)
            json_array_append_new(items, entry_json(&list->items[i]));
        return console_json(json_pack("{s:o}", "upstreams", items));
    }
    if (list->count == 0)
        console_say("no model is answered by another server: hearth upstream add NAME URL");
    for (size_t i = 0; i < list->count; i++) {
        const struct upstream_entry *entry = &list->items[i];
        struct buffer line;
        buffer_init(&line, 1 << 16);
        buffer_format(&line, "%s  %s  as %s%s\n", entry->name, entry->url,
                      entry->model ? entry->model : entry->name,
                      entry->key_file ? ", with a key" : "");
        console_show(buffer_text(&line));
        buffer_finish(&line);
    }
    return console_finish();
}

/* The daemon may have another working directory; and what it could not read is better said now. */
static int find_key(const char *path, char **out, struct hearth_error *err)
{
    struct buffer key;
    buffer_init(&key, UPSTREAM_KEY_MAX + 2);
    int status = os_read_private_file(path, &key, err);
    if (!status && key.size == 0)
        status = error_set(err, HEARTH_E_FORMAT, "the file is empty");
    if (key.data)
        memset(key.data, 0, key.size);
    buffer_finish(&key);
    if (status)
        return error_prefix(err, status, "%s", path);
    *out = realpath(path, NULL);
    return *out ? 0 : error_set(err, HEARTH_E_IO, "%s has no absolute path", path);
}

static int change(const struct upstream_settings *settings, struct upstream_list *list,
                  struct hearth_error *err)
{
    char *key_file = NULL;
    if (settings->action == REMOVE)
        return upstream_list_remove(list, settings->name, err);
    int status = settings->key_file ? find_key(settings->key_file, &key_file, err) : 0;
    const struct upstream_entry entry = {settings->name, settings->url, settings->model, key_file};
    if (!status)
        status = upstream_list_add(list, &entry, err);
    free(key_file);
    return status;
}

static enum exit_code check_operands(const struct upstream_settings *settings)
{
    const char *missing = NULL;
    if (settings->action == LIST ? settings->name != NULL : !settings->name)
        missing = settings->action == LIST ? "upstream list takes no NAME" : "which NAME?";
    else if (settings->action == ADD ? !settings->url : settings->url != NULL)
        missing = settings->action == ADD ? "upstream add takes a NAME and the URL of a server"
                                          : "upstream remove takes a NAME alone";
    else if (settings->action != ADD && (settings->model || settings->key_file))
        missing = "--model and --key-file belong to upstream add";
    if (!missing)
        return EXIT_CODE_OK;
    console_say("%s", missing);
    return EXIT_CODE_USAGE;
}

static enum exit_code run_upstream(const struct program *program, const void *given)
{
    const struct upstream_settings *settings = given;
    struct upstream_list list = {NULL, 0};
    struct hearth_error err = {0};
    char path[STATE_PATH_BYTES];
    const char *file = settings->file ? settings->file : path;
    enum exit_code code = check_operands(settings);
    (void)program;
    if (code != EXIT_CODE_OK)
        return code;
    if (!settings->file && !state_path("upstreams.json", path)) {
        error_set(&err, HEARTH_E_IO, "there is no directory to keep the list in (--file names it)");
        return console_fail(&err);
    }
    int status = upstream_list_read(file, &list, &err);
    if (!status && settings->action != LIST) {
        status = change(settings, &list, &err);
        if (!status)
            status = upstream_list_write(file, &list, &err);
        if (!status)
            console_say("a daemon sees it when it is started the next time");
    } else if (!status) {
        code = show_list(settings, &list);
    }
    upstream_list_finish(&list);
    return status ? console_fail(&err) : code;
}

#define AT(field) offsetof(struct upstream_settings, field)

static const char *const actions[] = {"list", "add", "remove", NULL}; /* by enum action */

static const struct option upstream_cli_options[] = {
    {.name = "model",
     .type = OPTION_TEXT,
     .argument = "NAME",
     .offset = AT(model),
     .topic = "Add",
     .shown_default = "NAME itself",
     .help = "What the other server calls the model."},
    {.name = "key-file",
     .type = OPTION_FILE,
     .argument = "FILE",
     .offset = AT(key_file),
     .topic = "Add",
     .help = "A file with the key that is sent as a bearer token. Nobody else may read it (mode "
             "600); it is read when the daemon starts."},
    {.name = "file",
     .type = OPTION_FILE,
     .argument = "FILE",
     .offset = AT(file),
     .topic = "List",
     .shown_default = "$XDG_STATE_HOME/hearth/upstreams.json",
     .help = "The list, as hearth serve --upstreams has it."},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help = "List as one JSON object: upstreams (name, url, model, key_file of each)."},
};

static const struct operand upstream_operands[] = {
    {"ACTION", OPERAND_CHOICE, false, AT(action), "list, add or remove; list where it is missing",
     actions},
    {"NAME", OPERAND_TEXT, false, AT(name), "the name by which the model is asked for", NULL},
    {"URL", OPERAND_TEXT, false, AT(url),
     "the server's address, above /chat/completions: http://host:8000/v1", NULL},
};

static const struct example upstream_examples[] = {
    {"hearth upstream add big http://gpu.lan:8000/v1 --model meta-llama/Llama-3.3-70B-Instruct",
     "Requests for the model 'big' go to a vLLM server, and so do their answers."},
    {"hearth upstream add cloud https://api.example.com/v1 --key-file ~/.config/key",
     "With a key."},
    {"hearth upstream remove big", "Forgets it."},
};

const struct command command_upstream = {
    .name = "upstream",
    .summary = "List, add or remove models of other servers",
    .description =
        "Keeps the list of models that hearth serve does not compute itself: a request for one of "
        "them is passed to the server named, and its answer is streamed through.\n\n"
        "The server is given 5 seconds to connect and 5 minutes to begin an answer. Where it "
        "cannot "
        "be reached, or is too busy (429, 502, 503), it is asked again up to three times, but "
        "never "
        "once something of an answer has come. Redirects are not followed.\n\n"
        "Conversations kept by hearth (--session) are for models of this machine.",
    .options = upstream_cli_options,
    .option_count = sizeof upstream_cli_options / sizeof *upstream_cli_options,
    .operands = upstream_operands,
    .operand_count = sizeof upstream_operands / sizeof *upstream_operands,
    .examples = upstream_examples,
    .example_count = sizeof upstream_examples / sizeof *upstream_examples,
    .settings_size = sizeof(struct upstream_settings),
    .run = run_upstream,
};
