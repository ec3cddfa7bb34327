/* hearth sessions: the conversations that are kept. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/keeper.h"

enum action { LIST, SHOW, REMOVE };

struct sessions_settings {
    int action; /* enum action */
    struct text_list names;
    struct state_settings state;
    struct client_settings client;
    bool json, only_names, all, yes;
};

struct entry {
    char *key;
    struct hearth_store_entry of; /* its key is the one above */
};

struct entries {
    struct entry *items;
    size_t count, capacity;
    bool failed; /* no memory */
};

/* ---- what there is ---- */

static bool collect(void *context, const struct hearth_store_entry *entry)
{
    struct entries *entries = context;
    if (entries->count == entries->capacity) {
        size_t capacity = entries->capacity * 2 + 16;
        struct entry *items = mem_realloc_array(entries->items, capacity, sizeof *items);
        entries->failed = !items;
        if (!items)
            return false;
        entries->items = items;
        entries->capacity = capacity;
    }
    size_t size = strlen(entry->key) + 1;
    char *key = mem_alloc(size);
    entries->failed = !key;
    if (!key)
        return false;
    memcpy(key, entry->key, size);
    entries->items[entries->count] = (struct entry){key, *entry};
    entries->items[entries->count++].of.key = key;
    return true;
}

static int entries_read(struct keeper *keeper, struct entries *entries, struct hearth_error *err)
{
    int status = keeper_list(keeper, collect, entries, err);
    if (!status && entries->failed)
        status = error_set(err, HEARTH_E_MEMORY, "no memory for the list of conversations");
    return status;
}

static void entries_finish(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++)
        mem_free(entries->items[i].key);
    mem_free(entries->items);
    *entries = (struct entries){0};
}

static uint64_t disk_bytes(const struct hearth_store_entry *entry)
{
    return entry->record_bytes + entry->spill_bytes;
}

static json_t *entry_json(const struct hearth_store_entry *entry)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "name", entry->key, "model",
                     entry->model, "model_name", entry->model_name, "message_count",
                     (json_int_t)entry->messages, "tokens", (json_int_t)entry->tokens,
                     "kept_tokens", (json_int_t)entry->spill_tokens, "memory_bytes",
                     (json_int_t)entry->spill_bytes, "disk_bytes", (json_int_t)disk_bytes(entry),
                     "used_unix", (json_int_t)entry->used_unix);
}

/* ---- hearth sessions list ---- */

#define AGE_BYTES 32
#define NAME_COLUMNS_MAX 40

/* "3 min ago"; a day long ago as its date. */
static const char *age_text(int64_t unix_seconds, char out[AGE_BYTES])
{
    int64_t age = os_unix_seconds() - unix_seconds;
    struct tm day;
    if (age < 60)
        snprintf(out, AGE_BYTES, "just now");
    else if (age < 3600)
        snprintf(out, AGE_BYTES, "%d min ago", (int)(age / 60));
    else if (age < 86400)
        snprintf(out, AGE_BYTES, "%d h ago", (int)(age / 3600));
    else if (age < 2 * 86400)
        snprintf(out, AGE_BYTES, "yesterday");
    else if (age < 30 * 86400)
        snprintf(out, AGE_BYTES, "%d days ago", (int)(age / 86400));
    else if (!os_local_time(unix_seconds, &day) || !strftime(out, AGE_BYTES, "%Y-%m-%d", &day))
        snprintf(out, AGE_BYTES, "long ago");
    return out;
}

static void print_name(const char *name)
{
    console_show(text_of(name));
    console_show(TEXT("\n"));
}

static void print_row(const struct hearth_store_entry *entry, size_t width)
{
    struct buffer name, model;
    char tokens[SIZE_TEXT_MAX + 8], memory[SIZE_TEXT_MAX], disk[SIZE_TEXT_MAX], age[AGE_BYTES];
    buffer_init(&name, 1 << 16);
    buffer_init(&model, 1 << 16);
    size_t columns = console_fit(text_of(entry->key), NAME_COLUMNS_MAX, &name);
    console_fit(text_of(entry->model_name[0] ? entry->model_name : entry->model), NAME_COLUMNS_MAX,
                &model);
    printf("%s%*s  %8" PRIu64 "  %9s  %10s  %10s  %-12s  %s\n", name.data ? name.data : "",
           (int)(width - columns), "", entry->messages, count_text(entry->tokens, tokens),
           size_text(entry->spill_bytes, memory), size_text(disk_bytes(entry), disk),
           age_text(entry->used_unix, age), model.data ? model.data : "");
    buffer_finish(&model);
    buffer_finish(&name);
}

static void print_table(const struct entries *entries)
{
    size_t width = strlen("NAME");
    for (size_t i = 0; i < entries->count; i++) {
        struct buffer name;
        buffer_init(&name, 1 << 16);
        size_t columns = console_fit(text_of(entries->items[i].key), NAME_COLUMNS_MAX, &name);
        width = columns > width ? columns : width;
        buffer_finish(&name);
    }
    printf("%-*s  %8s  %9s  %10s  %10s  %-12s  %s\n", (int)width, "NAME", "MESSAGES", "TOKENS",
           "MEMORY", "DISK", "LAST USE", "MODEL");
    for (size_t i = 0; i < entries->count; i++)
        print_row(&entries->items[i].of, width);
}

static enum exit_code list(const struct sessions_settings *settings, struct keeper *keeper)
{
    struct entries entries = {0};
    struct hearth_error err = {0};
    enum exit_code code = EXIT_CODE_OK;
    if (entries_read(keeper, &entries, &err)) {
        code = console_fail(&err);
    } else if (settings->json) {
        json_t *array = json_array();
        for (size_t i = 0; i < entries.count; i++)
            json_array_append_new(array, entry_json(&entries.items[i].of));
        code = console_json(json_pack("{s:o}", "sessions", array));
    } else if (settings->only_names) {
        for (size_t i = 0; i < entries.count; i++)
            print_name(entries.items[i].key);
        code = console_finish();
    } else if (entries.count == 0) {
        console_say("there are no conversations; hearth run MODEL --session NAME begins one");
    } else {
        print_table(&entries);
        code = console_finish();
    }
    entries_finish(&entries);
    return code;
}

/* ---- hearth sessions show ---- */

static const struct hearth_store_entry *entry_of(const struct entries *entries, const char *key)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->items[i].key, key) == 0)
            return &entries->items[i].of;
    }
    return NULL;
}

static void print_fact(const char *name, const char *value)
{
    printf("%-10s %s\n", name, value);
}

static void print_facts(const struct hearth_store_entry *entry)
{
    struct buffer name;
    char text[128], count[SIZE_TEXT_MAX + 8], size[SIZE_TEXT_MAX], age[AGE_BYTES], when[64] = "";
    struct tm day;
    buffer_init(&name, 1 << 16);
    console_escape(text_of(entry->key), &name);
    print_fact("name", name.data ? name.data : "");
    buffer_finish(&name);
    buffer_finish(&name);
    console_escape(text_of(entry->model_name), &name);
    buffer_format(&name, "%s%s", name.size ? ", " : "", entry->model);
    print_fact("model", name.data ? name.data : "");
    buffer_finish(&name);
    snprintf(text, sizeof text, "%" PRIu64, entry->messages);
    print_fact("messages", text);
    snprintf(text, sizeof text, "%s, ", count_text(entry->tokens, count));
    size_t used = strlen(text);
    snprintf(text + used, sizeof text - used, "%s of them kept computed",
             count_text(entry->spill_tokens, count));
    print_fact("tokens", text);
    snprintf(text, sizeof text, "%s when it goes on", size_text(entry->spill_bytes, size));
    print_fact("memory", text);
    print_fact("disk", size_text(disk_bytes(entry), size));
    if (os_local_time(entry->used_unix, &day))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M, ", &day);
    snprintf(text, sizeof text, "%s%s", when, age_text(entry->used_unix, age));
    print_fact("last use", text);
}

static enum exit_code print_conversation(const struct sessions_settings *settings,
                                         const struct hearth_store_entry *entry, json_t *messages)
{
    if (settings->json) {
        json_t *object = entry_json(entry);
        json_object_set(object, "messages", messages);
        return console_json(object);
    }
    print_facts(entry);
    putchar('\n');
    console_show_messages(messages);
    return console_finish();
}

static enum exit_code show(const struct sessions_settings *settings, struct keeper *keeper)
{
    const char *key = settings->names.items[0];
    struct entries entries = {0};
    struct hearth_error err = {0};
    json_t *messages = keeper_messages(keeper, key, &err);
    int status = messages ? entries_read(keeper, &entries, &err) : err.code;
    const struct hearth_store_entry *entry = entry_of(&entries, key);
    if (!status && !entry)
        status = error_set(&err, HEARTH_E_MISSING, "there is no conversation \"%s\"", key);
    enum exit_code code =
        status ? console_fail(&err) : print_conversation(settings, entry, messages);
    json_decref(messages);
    entries_finish(&entries);
    return code;
}

/* ---- hearth sessions remove ---- */

/* Whether the one who is asked says yes; nobody is, where nobody is there. */
static bool ask_for_all(size_t count)
{
    char line[64];
    fprintf(stderr, "Remove all %zu conversations? [y/N] ", count);
    fflush(stderr);
    return fgets(line, sizeof line, stdin) && (line[0] == 'y' || line[0] == 'Y');
}

static enum exit_code remove_named(const struct sessions_settings *settings, struct keeper *keeper,
                                   const char *const *names, size_t count)
{
    json_t *removed = json_array();
    enum exit_code code = EXIT_CODE_OK;
    for (size_t i = 0; i < count; i++) {
        struct hearth_error err = {0};
        if (keeper_remove(keeper, names[i], &err))
            code = console_fail(&err);
        else
            json_array_append_new(removed, json_string(names[i]));
    }
    if (!settings->json) {
        json_decref(removed);
        return code;
    }
    enum exit_code written = console_json(json_pack("{s:o}", "removed", removed));
    return code ? code : written;
}

static enum exit_code remove_all(const struct sessions_settings *settings, struct keeper *keeper)
{
    struct entries entries = {0};
    struct hearth_error err = {0};
    enum exit_code code = EXIT_CODE_OK;
    int status = entries_read(keeper, &entries, &err);
    const char **names = mem_alloc_array(entries.count + 1, sizeof *names);
    if (!status && !names)
        status = error_set(&err, HEARTH_E_MEMORY, "no memory for the list of conversations");
    if (status) {
        code = console_fail(&err);
    } else if (settings->yes || (entries.count > 0 && ask_for_all(entries.count))) {
        for (size_t i = 0; i < entries.count; i++)
            names[i] = entries.items[i].key;
        code = remove_named(settings, keeper, names, entries.count);
    } else if (entries.count > 0) {
        console_say("nothing was removed");
        code = EXIT_CODE_ERROR;
    }
    mem_free(names);
    entries_finish(&entries);
    return code;
}

/* ---- the table ---- */

static enum exit_code check_settings(const struct sessions_settings *settings)
{
    const char *cause = NULL;
    size_t names = settings->names.count;
    bool removes = settings->action == REMOVE;
    if (settings->action == LIST && names > 0)
        cause = "list shows all conversations and takes no NAME";
    else if (settings->action == SHOW && names != 1)
        cause = "show takes the NAME of one conversation";
    else if (removes && (names > 0) == settings->all)
        cause = "remove takes the NAMEs of conversations, or --all";
    else if (!removes && (settings->all || settings->yes))
        cause = "--all and --yes go with remove";
    else if (settings->only_names && settings->action != LIST)
        cause = "--names goes with list";
    else if (settings->all && !settings->yes && !os_is_terminal(CONSOLE_STDIN))
        cause = "--all needs --yes where standard input is no terminal";
    if (!cause)
        return EXIT_CODE_OK;
    console_say("%s", cause);
    return EXIT_CODE_USAGE;
}

static enum exit_code run_sessions(const struct program *program, const void *given)
{
    const struct sessions_settings *settings = given;
    struct keeper *keeper;
    struct hearth_error err = {0};
    (void)program;
    enum exit_code code = check_settings(settings);
    if (code != EXIT_CODE_OK)
        return code;
    if (keeper_open(&settings->state, &settings->client, &keeper, &err))
        return console_fail(&err);
    if (err.text[0])
        console_say("%s", err.text);
    if (settings->action == LIST)
        code = list(settings, keeper);
    else if (settings->action == SHOW)
        code = show(settings, keeper);
    else if (settings->all)
        code = remove_all(settings, keeper);
    else
        code = remove_named(settings, keeper, settings->names.items, settings->names.count);
    keeper_close(keeper);
    return code;
}

#define AT(field) offsetof(struct sessions_settings, field)

static const char *const actions[] = {"list", "show", "remove", NULL}; /* by enum action */

static const struct option sessions_options[] = {
    STATE_OPTION(AT(state)),
    CLIENT_SOCKET_OPTION(AT(client)),
    {.name = "all",
     .type = OPTION_FLAG,
     .offset = AT(all),
     .topic = "Remove",
     .help = "Remove all conversations, after a question."},
    {.name = "yes",
     .short_name = 'y',
     .type = OPTION_FLAG,
     .offset = AT(yes),
     .topic = "Remove",
     .help = "Without the question."},
    {.name = "names",
     .type = OPTION_FLAG,
     .offset = AT(only_names),
     .topic = "Output",
     .help = "List only the names, one a line."},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help =
         "Print one JSON object: sessions (name, model, model_name, message_count, tokens, "
         "kept_tokens, memory_bytes, disk_bytes, used_unix of each), or the same of one with its "
         "messages, or the names of those removed."},
};

static const struct operand sessions_operands[] = {
    {"ACTION", OPERAND_CHOICE, false, AT(action), "list, show or remove; list where it is missing",
     actions},
    {"NAME", OPERAND_SESSIONS, false, AT(names), "the conversation to show, or those to remove",
     NULL},
};

static const struct example sessions_examples[] = {
    {"hearth sessions", "All conversations, the one used last first."},
    {"hearth sessions show \"Sea stories\"", "What was said, and what it takes."},
    {"hearth sessions show plans --json | jq -r '.messages[-1].content'",
     "The last answer, for a script."},
    {"hearth sessions remove plans", "Forgets one."},
};

const struct command command_sessions = {
    .name = "sessions",
    .summary = "List, show or remove conversations",
    .description =
        "Conversations that were held with hearth run --session NAME are kept: what was said, and "
        "what was computed of it, so that they go on at once. Here they are listed, shown and "
        "removed; no model is loaded for that. Where a daemon (hearth serve) runs it has them, and "
        "is "
        "asked.\n\n"
        "MEMORY is what a conversation takes while it is used, DISK what is kept of it. What was "
        "computed gives way when the disk's share is full, those that were not used for longest "
        "first; what was said never does.",
    .options = sessions_options,
    .option_count = sizeof sessions_options / sizeof sessions_options[0],
    .operands = sessions_operands,
    .operand_count = sizeof sessions_operands / sizeof sessions_operands[0],
    .examples = sessions_examples,
    .example_count = sizeof sessions_examples / sizeof sessions_examples[0],
    .settings_size = sizeof(struct sessions_settings),
    .run = run_sessions,
};
