#include "cli/help.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "base/utf8.h"
#include "cli/console.h"
#include "cli/options.h"
#include "hearth/hearth.h"

const char help_about[] = "hearth runs language models on this computer, in bounded memory. A "
                          "model is a GGUF file; it is "
                          "read in place, nothing of it is copied, and nothing leaves the machine.";

const char help_exit_codes[] = "0\tdone\n"
                               "1\tan error; its cause is on standard error\n"
                               "2\tthe command line is wrong\n"
                               "130\tinterrupted by Ctrl-C\n"
                               "143\tended by SIGTERM; 129 by SIGHUP\n";

/* ---- pieces shared with the man pages ---- */

void usage_line(const struct command *command, struct buffer *out)
{
    buffer_format(out, "hearth %s", command->name);
    if (command->option_count > 0)
        buffer_append_text(out, TEXT(" [OPTION]..."));
    for (size_t i = 0; i < command->operand_count; i++) {
        const struct operand *operand = &command->operands[i];
        buffer_format(out, operand->required ? " %s" : " [%s]", operand->name);
        if (operand->type == OPERAND_SESSIONS)
            buffer_append_text(out, TEXT("..."));
    }
}

void option_spelling(const struct option *option, struct buffer *out)
{
    if (option->short_name)
        buffer_format(out, "-%c, ", option->short_name);
    buffer_format(out, "--%s", option->name);
    if (option->argument)
        buffer_format(out, " %s", option->argument);
}

static void append_range(const struct option *option, struct buffer *out)
{
    bool number =
        option->type == OPTION_INT || option->type == OPTION_UINT || option->type == OPTION_REAL;
    if (option->type == OPTION_CHOICE) {
        buffer_append_text(out, TEXT("one of "));
        for (int i = 0; option->choices[i]; i++)
            buffer_format(out, "%s%s", i ? ", " : "", option->choices[i]);
    } else if (option->type == OPTION_TEXTS || option->type == OPTION_FILES) {
        buffer_append_text(out, TEXT("may be repeated"));
    } else if (number && option->max < option->min) {
        buffer_format(out, "at least %g", option->min);
    } else if (number && option->max < 1e6) {
        buffer_format(out, "%g to %g", option->min, option->max);
    }
}

void option_facts(const struct option *option, const void *settings, struct buffer *out)
{
    struct buffer value;
    buffer_init(&value, 256);
    option_default(option, settings, &value);
    size_t before = out->size;
    append_range(option, out);
    if (value.size > 0)
        buffer_format(out, "%sdefault: %s", out->size > before ? "; " : "", value.data);
    buffer_finish(&value);
}

const char *topic_at(const struct command *command, size_t index)
{
    size_t found = 0;
    for (size_t i = 0; option_at(command, i); i++) {
        const char *topic = option_at(command, i)->topic;
        bool first = true;
        for (size_t k = 0; k < i && first; k++)
            first = strcmp(option_at(command, k)->topic, topic) != 0;
        if (first && found++ == index)
            return topic;
    }
    return NULL;
}

/* ---- wrapped text ---- */

struct page {
    struct buffer *out;
    unsigned width, column;
};

static unsigned columns_of(struct text text)
{
    unsigned columns = 0;
    for (size_t i = 0; i < text.size; i++)
        columns += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    return columns;
}

static void put(struct page *page, struct text text)
{
    buffer_append_text(page->out, text);
    page->column += columns_of(text);
}

static void line_break(struct page *page)
{
    buffer_append_char(page->out, '\n');
    page->column = 0;
}

static void indent_to(struct page *page, unsigned column)
{
    while (page->column < column)
        put(page, TEXT(" "));
}

/* Words with line breaks where they are needed; an empty line in the text begins a paragraph. */
static void put_wrapped(struct page *page, unsigned indent, const char *text)
{
    indent_to(page, indent);
    bool first = true;
    while (*text) {
        if (text[0] == '\n' && text[1] == '\n') {
            line_break(page);
            line_break(page);
            indent_to(page, indent);
            first = true;
        }
        text += strspn(text, " \n");
        struct text word = {text, strcspn(text, " \n")};
        if (word.size == 0)
            break;
        if (!first && page->column + 1 + columns_of(word) > page->width) {
            line_break(page);
            indent_to(page, indent);
        } else if (!first) {
            put(page, TEXT(" "));
        }
        put(page, word);
        text += word.size;
        first = false;
    }
    line_break(page);
}

/* ---- the pages ---- */

#define ITEM_INDENT 2u
#define TEXT_INDENT 26u

static void put_item(struct page *page, struct text name, const char *text)
{
    indent_to(page, ITEM_INDENT);
    put(page, name);
    if (page->column + 2 > TEXT_INDENT)
        line_break(page);
    put_wrapped(page, TEXT_INDENT, text);
}

static void put_option(struct page *page, const struct option *option, const void *settings)
{
    struct buffer spelling, text, facts;
    buffer_init(&spelling, 256);
    buffer_init(&text, 4096);
    buffer_init(&facts, 1024);
    if (!option->short_name)
        buffer_append_text(&spelling, TEXT("    "));
    option_spelling(option, &spelling);
    buffer_append_text(&text, text_of(option->help));
    option_facts(option, settings, &facts);
    if (facts.size > 0)
        buffer_format(&text, " (%s)", facts.data);
    put_item(page, buffer_text(&spelling), text.data ? text.data : "");
    buffer_finish(&facts);
    buffer_finish(&text);
    buffer_finish(&spelling);
}

static void put_options(struct page *page, const struct command *command)
{
    void *settings = settings_create(command);
    const char *topic;
    for (size_t t = 0; settings && (topic = topic_at(command, t)) != NULL; t++) {
        line_break(page);
        put(page, text_of(topic));
        put(page, TEXT(":"));
        line_break(page);
        for (size_t i = 0; option_at(command, i); i++) {
            if (strcmp(option_at(command, i)->topic, topic) == 0)
                put_option(page, option_at(command, i), settings);
        }
    }
    settings_destroy(command, settings);
}

static void put_examples(struct page *page, const struct command *command)
{
    if (command->example_count == 0)
        return;
    line_break(page);
    put_wrapped(page, 0, "Examples:");
    for (size_t i = 0; i < command->example_count; i++) {
        indent_to(page, ITEM_INDENT);
        put(page, text_of(command->examples[i].command));
        line_break(page);
        put_wrapped(page, 6, command->examples[i].meaning);
    }
}

static void put_command(struct page *page, const struct command *command)
{
    put(page, TEXT("Usage: "));
    usage_line(command, page->out);
    line_break(page);
    line_break(page);
    put_wrapped(page, 0, command->description);
    if (command->operand_count > 0) {
        line_break(page);
        for (size_t i = 0; i < command->operand_count; i++)
            put_item(page, text_of(command->operands[i].name), command->operands[i].help);
    }
    put_options(page, command);
    put_examples(page, command);
}

static void put_program(struct page *page, const struct program *program)
{
    put_wrapped(page, 0, "Usage: hearth COMMAND [OPTION]... [WORD]...");
    line_break(page);
    put_wrapped(page, 0, help_about);
    line_break(page);
    put_wrapped(page, 0, "Commands:");
    for (size_t i = 0; i < program->command_count; i++)
        put_item(page, text_of(program->commands[i]->name), program->commands[i]->summary);
    line_break(page);
    put_wrapped(page, 0, "Options:");
    put_item(page, TEXT("-h, --help"), "Show this help and leave; behind a command, its own.");
    put_item(page, TEXT("--version"), "Show the version and leave.");
    put_item(page, TEXT("--man [COMMAND]"), "Write a man page: hearth --man run | man -l -");
    line_break(page);
    put_wrapped(page, 0, "Begin with:");
    put_wrapped(page, ITEM_INDENT, "hearth run MODEL.gguf \"Why is the sky blue?\"");
    put_wrapped(page, ITEM_INDENT, "hearth run --help");
    line_break(page);
    put_wrapped(page, 0,
                "Results go to standard output, all else to standard error. Ctrl-C always works. "
                "Exit codes: 0 done, 1 error, 2 wrong command line, 130 interrupted.");
}

void help_write(const struct program *program, const struct command *command, unsigned width,
                struct buffer *out)
{
    struct page page = {.out = out, .width = width < 60 ? 60 : width > 100 ? 100 : width};
    if (command)
        put_command(&page, command);
    else
        put_program(&page, program);
}

enum exit_code help_show(const struct program *program, const struct command *command)
{
    struct buffer page;
    buffer_init(&page, 1 << 20);
    help_write(program, command, os_terminal_width(), &page);
    fputs(page.data ? page.data : "", stdout);
    buffer_finish(&page);
    return console_finish();
}

/* ---- hearth help ---- */

struct help_settings {
    const char *command;
};

static const char *command_name_at(const void *context, size_t index)
{
    const struct program *program = context;
    return program->commands[index]->name;
}

static enum exit_code run_help(const struct program *program, const void *settings)
{
    const char *name = ((const struct help_settings *)settings)->command;
    const struct command *command = name ? program_find(program, name) : NULL;
    if (name && !command) {
        const char *near = nearest_name(name, program->command_count, command_name_at, program);
        console_say("there is no command '%s'%s%s%s", name, near ? "; did you mean " : "",
                    near ? near : "", near ? "?" : "");
        return EXIT_CODE_USAGE;
    }
    return help_show(program, command);
}

static const struct operand help_operands[] = {
    {"COMMAND", OPERAND_COMMAND, false, offsetof(struct help_settings, command),
     "the command to explain; without it, what commands there are", NULL},
};

const struct command command_help = {
    .name = "help",
    .summary = "Explain a command",
    .description = "Shows what 'hearth COMMAND --help' shows.",
    .operands = help_operands,
    .operand_count = 1,
    .settings_size = sizeof(struct help_settings),
    .run = run_help,
};
