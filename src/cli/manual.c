/* Man pages in the man(7) macros, which both groff and mandoc read. */

#include <stdio.h>
#include <string.h>

#include "cli/help.h"
#include "cli/options.h"
#include "hearth/hearth.h"

/* Text with what roff would take for its own made plain: backslashes, hyphens that are to be typed,
 * and a period or apostrophe where a line begins. */
static void put_roff(struct buffer *out, const char *text)
{
    for (const char *c = text; *c; c++) {
        bool line_begins = out->size > 0 && out->data[out->size - 1] == '\n';
        if (line_begins && (*c == '.' || *c == '\''))
            buffer_append_text(out, TEXT("\\&"));
        if (*c == '\n' && c[1] == '\n') {
            buffer_append_text(out, TEXT("\n.PP\n"));
            c++;
        } else if (*c == '\\') {
            buffer_append_text(out, TEXT("\\e"));
        } else if (*c == '-') {
            buffer_append_text(out, TEXT("\\-"));
        } else {
            buffer_append_char(out, *c);
        }
    }
}

static void put_section(struct buffer *out, const char *name)
{
    buffer_format(out, ".SH %s\n", name);
}

static void put_line(struct buffer *out, const char *macro, const char *text)
{
    buffer_append_text(out, text_of(macro));
    put_roff(out, text);
    buffer_append_char(out, '\n');
}

static void put_tagged(struct buffer *out, const char *tag, const char *text)
{
    buffer_append_text(out, TEXT(".TP\n"));
    put_line(out, ".B ", tag);
    put_line(out, "", text);
}

static void put_title(struct buffer *out, const char *name, const char *summary)
{
    buffer_append_text(out, TEXT(".TH \""));
    for (const char *c = name; *c; c++)
        buffer_append_char(out, *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c);
    buffer_format(out, "\" 1 \"\" \"hearth %s\" \"User commands\"\n", hearth_version());
    put_section(out, "NAME");
    put_roff(out, name);
    buffer_append_text(out, TEXT(" \\- "));
    put_line(out, "", summary);
}

static void put_option_items(struct buffer *out, const struct command *command, const char *topic,
                             const void *settings)
{
    for (size_t i = 0; option_at(command, i); i++) {
        const struct option *option = option_at(command, i);
        if (strcmp(option->topic, topic) != 0)
            continue;
        struct buffer spelling, facts;
        buffer_init(&spelling, 256);
        buffer_init(&facts, 1024);
        option_spelling(option, &spelling);
        option_facts(option, settings, &facts);
        put_tagged(out, spelling.data ? spelling.data : "", option->help);
        if (facts.size > 0) {
            buffer_append_text(out, TEXT("("));
            put_roff(out, facts.data);
            buffer_append_text(out, TEXT(")\n"));
        }
        buffer_finish(&facts);
        buffer_finish(&spelling);
    }
}

static void put_options(struct buffer *out, const struct command *command)
{
    void *settings = settings_create(command);
    const char *topic;
    put_section(out, "OPTIONS");
    for (size_t t = 0; settings && (topic = topic_at(command, t)) != NULL; t++) {
        buffer_format(out, ".SS %s\n", topic);
        put_option_items(out, command, topic, settings);
    }
    settings_destroy(command, settings);
}

static void put_exit_status(struct buffer *out)
{
    put_section(out, "EXIT STATUS");
    for (const char *line = help_exit_codes; *line; line = strchr(line, '\n') + 1) {
        const char *tab = strchr(line, '\t');
        const char *end = strchr(line, '\n');
        buffer_format(out, ".TP\n.B %.*s\n%.*s.\n", (int)(tab - line), line, (int)(end - tab - 1),
                      tab + 1);
    }
}

static void put_environment(struct buffer *out)
{
    put_section(out, "ENVIRONMENT");
    put_tagged(out, "HEARTH_CPU",
               "Forces the instruction set of the kernels: ref, avx2, avxvnni, avx512, amx, neon "
               "or i8mm.");
    put_tagged(
        out, "XDG_STATE_HOME",
        "Where what was typed is kept, in hearth/history, and conversations, in hearth/store; "
        "else in ~/.local/state. Both are the owner's alone.");
    put_tagged(out, "XDG_RUNTIME_DIR",
               "Where the daemon listens, at hearth/hearth.sock; else beside what is kept.");
    put_tagged(out, "XDG_DATA_HOME",
               "Where the daemon looks for models, in hearth/models; else in ~/.local/share.");
}

static void put_command(struct buffer *out, const struct command *command)
{
    char name[64];
    snprintf(name, sizeof name, "hearth-%s", command->name);
    put_title(out, name, command->summary);
    put_section(out, "SYNOPSIS");
    struct buffer usage;
    buffer_init(&usage, 1024);
    usage_line(command, &usage);
    put_line(out, ".B ", usage.data ? usage.data : "");
    buffer_finish(&usage);
    put_section(out, "DESCRIPTION");
    put_line(out, "", command->description);
    for (size_t i = 0; i < command->operand_count; i++)
        put_tagged(out, command->operands[i].name, command->operands[i].help);
    put_options(out, command);
    put_exit_status(out);
    put_environment(out);
    if (command->example_count > 0)
        put_section(out, "EXAMPLES");
    for (size_t i = 0; i < command->example_count; i++)
        put_tagged(out, command->examples[i].command, command->examples[i].meaning);
    put_section(out, "SEE ALSO");
    buffer_append_text(out, TEXT(".BR hearth (1)\n"));
}

static void put_program(struct buffer *out, const struct program *program)
{
    put_title(out, "hearth", "run language models in bounded memory");
    put_section(out, "SYNOPSIS");
    put_line(out, ".B ", "hearth COMMAND [OPTION]... [WORD]...");
    put_section(out, "DESCRIPTION");
    put_line(out, "", help_about);
    put_line(out, ".PP\n", "Results go to standard output, all else to standard error.");
    put_section(out, "COMMANDS");
    for (size_t i = 0; i < program->command_count; i++)
        put_tagged(out, program->commands[i]->name, program->commands[i]->summary);
    put_section(out, "OPTIONS");
    put_tagged(out, "-h, --help", "Show a help text and leave; behind a command, its own.");
    put_tagged(out, "--version", "Show the version and leave.");
    put_tagged(out, "--man [COMMAND]", "Write this man page, or a command's, in roff.");
    put_exit_status(out);
    put_environment(out);
    put_section(out, "SEE ALSO");
    for (size_t i = 0; i < program->command_count; i++)
        buffer_format(out, ".BR hearth\\-%s (1)%s\n", program->commands[i]->name,
                      i + 1 < program->command_count ? "," : "");
}

void manual_write(const struct program *program, const struct command *command, struct buffer *out)
{
    if (command)
        put_command(out, command);
    else
        put_program(out, program);
}
