/* Completion scripts for the shells that people use. */

#include <stdio.h>
#include <string.h>

#include "cli/console.h"
#include "cli/help.h"
#include "cli/options.h"

static void put(struct buffer *out, const char *text)
{
    buffer_append_text(out, text_of(text));
}

static bool has_operand(const struct command *command, enum operand_type type)
{
    for (size_t i = 0; i < command->operand_count; i++) {
        if (command->operands[i].type == type)
            return true;
    }
    return false;
}

/* What writes the names of conversations, or of models, one a line. */
#define SESSION_NAMES "hearth sessions list --names 2>/dev/null"
#define SERVED_NAMES "hearth ps --all --names 2>/dev/null"

static void put_choices(struct buffer *out, const char *const *choices)
{
    for (size_t i = 0; choices[i]; i++)
        buffer_format(out, "%s%s", i ? " " : "", choices[i]);
}

static bool takes_files(const struct command *command)
{
    return has_operand(command, OPERAND_MODEL) || has_operand(command, OPERAND_FILE);
}

static bool is_path(const struct option *option)
{
    return option->type == OPTION_FILE || option->type == OPTION_FILES;
}

static void put_command_names(struct buffer *out, const struct program *program)
{
    for (size_t i = 0; i < program->command_count; i++)
        buffer_format(out, "%s%s", i ? " " : "", program->commands[i]->name);
}

/* The words that can stand as an operand besides files; nothing where there are none. */
static void put_operand_words(struct buffer *out, const struct program *program,
                              const struct command *command)
{
    if (has_operand(command, OPERAND_COMMAND))
        put_command_names(out, program);
    if (has_operand(command, OPERAND_SHELL))
        put(out, "bash zsh fish");
    for (size_t i = 0; i < command->operand_count; i++) {
        if (command->operands[i].type == OPERAND_CHOICE)
            put_choices(out, command->operands[i].choices);
    }
}

/* ---- bash ---- */

static void put_bash_values(struct buffer *out, const struct command *command)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *option = &command->options[i];
        if (option->type == OPTION_FLAG)
            continue;
        buffer_format(out, "        %s:--%s", command->name, option->name);
        if (option->short_name)
            buffer_format(out, "|%s:-%c", command->name, option->short_name);
        if (option->type == OPTION_CHOICE) {
            put(out, ") words='");
            put_choices(out, option->choices);
            put(out, "' ;;\n");
        } else if (option->type == OPTION_SESSION) {
            put(out, ") sessions=1 ;;\n");
        } else {
            put(out, is_path(option) ? ") files=1 ;;\n" : ") return ;;\n");
        }
    }
}

static void put_bash_command(struct buffer *out, const struct program *program,
                             const struct command *command)
{
    buffer_format(out,
                  "        %s)\n            if [[ $word == -* ]]; then\n"
                  "                words='",
                  command->name);
    for (size_t i = 0; option_at(command, i); i++)
        buffer_format(out, "%s--%s", i ? " " : "", option_at(command, i)->name);
    put(out, "'\n            else\n                words='");
    put_operand_words(out, program, command);
    buffer_format(out, "'\n                files=%d sessions=%d served=%d\n            fi ;;\n",
                  takes_files(command), has_operand(command, OPERAND_SESSIONS),
                  has_operand(command, OPERAND_SERVED));
}

static void put_bash(struct buffer *out, const struct program *program)
{
    put(out, "# bash completion for hearth\n"
             "_hearth() {\n"
             "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
             "    local command=${COMP_WORDS[1]} words= files=0 sessions=0 served=0 value=1 name\n"
             "    COMPREPLY=()\n"
             "    if ((COMP_CWORD == 1)); then\n"
             "        words='");
    put_command_names(out, program);
    put(out, " --help --version --man'\n"
             "    else\n"
             "        case $command:$before in\n");
    for (size_t i = 0; i < program->command_count; i++)
        put_bash_values(out, program->commands[i]);
    put(out, "        *) value=0 ;;\n"
             "        esac\n"
             "        ((value)) || case $command in\n");
    for (size_t i = 0; i < program->command_count; i++)
        put_bash_command(out, program, program->commands[i]);
    put(out, "        --man) words='");
    put_command_names(out, program);
    put(out, "' ;;\n"
             "        esac\n"
             "    fi\n"
             "    [[ -n $words ]] && mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
             "    if ((files)); then\n"
             "        compopt -o filenames 2>/dev/null\n"
             "        mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- \"$word\")\n"
             "    fi\n"
             "    while ((sessions || served)) && IFS= read -r name; do\n"
             "        printf -v name %q \"$name\"\n"
             "        [[ $name == \"$word\"* ]] && COMPREPLY+=(\"$name\")\n"
             "    done < <(((sessions)) && " SESSION_NAMES "; ((served)) && " SERVED_NAMES ")\n"
             "}\n"
             "complete -F _hearth hearth\n");
}

/* ---- zsh ---- */

/* Inside an _arguments specification in single quotes: quotes, brackets and colons are its own. */
static void put_zsh_text(struct buffer *out, const char *text)
{
    for (const char *c = text; *c && *c != '\n'; c++) {
        if (*c == '\'')
            put(out, "'\\''");
        else if (strchr("[]:\\", *c))
            buffer_format(out, "\\%c", *c);
        else
            buffer_append_char(out, *c);
    }
}

static void put_zsh_option(struct buffer *out, const struct option *option)
{
    const char *repeat = option->type == OPTION_TEXTS || option->type == OPTION_FILES ? "*" : "";
    for (int spelling = 0; spelling < 2; spelling++) {
        if (spelling == 0 && !option->short_name)
            continue;
        put(out, "                ");
        if (spelling == 0)
            buffer_format(out, "'%s-%c[", repeat, option->short_name);
        else
            buffer_format(out, "'%s--%s[", repeat, option->name);
        put_zsh_text(out, option->help);
        put(out, "]");
        if (option->argument) {
            put(out, ":");
            put_zsh_text(out, option->argument);
            put(out, ":");
        }
        if (option->type == OPTION_CHOICE) {
            put(out, "(");
            put_choices(out, option->choices);
            put(out, ")");
        } else if (is_path(option)) {
            put(out, "_files");
        } else if (option->type == OPTION_SESSION) {
            put(out, "_hearth_sessions");
        }
        put(out, "' \\\n");
    }
}

static void put_zsh_operand(struct buffer *out, const struct program *program,
                            const struct command *command, const struct operand *operand)
{
    bool many = operand->type == OPERAND_SESSIONS;
    buffer_format(out, "                '%s:%s:",
                  many                ? "*"
                  : operand->required ? ""
                                      : ":",
                  operand->name);
    switch (operand->type) {
    case OPERAND_MODEL:
    case OPERAND_FILE:
        put(out, "_files");
        break;
    case OPERAND_SESSIONS:
        put(out, "_hearth_sessions");
        break;
    case OPERAND_SERVED:
        put(out, "_hearth_served");
        break;
    case OPERAND_COMMAND:
    case OPERAND_SHELL:
    case OPERAND_CHOICE:
        put(out, "(");
        put_operand_words(out, program, command);
        put(out, ")");
        break;
    case OPERAND_TEXT:
        break;
    }
    put(out, "' \\\n");
}

static void put_zsh_command(struct buffer *out, const struct program *program,
                            const struct command *command)
{
    buffer_format(out, "        %s)\n            _arguments \\\n", command->name);
    for (size_t i = 0; option_at(command, i); i++)
        put_zsh_option(out, option_at(command, i));
    for (size_t i = 0; i < command->operand_count; i++)
        put_zsh_operand(out, program, command, &command->operands[i]);
    put(out, "                ;;\n");
}

static void put_zsh(struct buffer *out, const struct program *program)
{
    put(out, "#compdef hearth\n"
             "# zsh completion for hearth\n"
             "_hearth_sessions() {\n"
             "    local -a names=(\"${(@f)$(" SESSION_NAMES ")}\")\n"
             "    compadd -a names\n"
             "}\n"
             "_hearth_served() {\n"
             "    local -a names=(\"${(@f)$(" SERVED_NAMES ")}\")\n"
             "    compadd -a names\n"
             "}\n"
             "_hearth() {\n"
             "    local -a commands=(\n");
    for (size_t i = 0; i < program->command_count; i++) {
        buffer_format(out, "        '%s:", program->commands[i]->name);
        put_zsh_text(out, program->commands[i]->summary);
        put(out, "'\n");
    }
    put(out, "        '--help:Show the help'\n"
             "        '--version:Show the version'\n"
             "        '--man:Write a man page'\n"
             "    )\n"
             "    if ((CURRENT == 2)); then\n"
             "        _describe command commands\n"
             "        return\n"
             "    fi\n"
             "    shift words\n"
             "    ((CURRENT--))\n"
             "    case $words[1] in\n");
    for (size_t i = 0; i < program->command_count; i++)
        put_zsh_command(out, program, program->commands[i]);
    put(out, "    esac\n"
             "}\n"
             "if [ \"$funcstack[1]\" = \"_hearth\" ]; then\n"
             "    _hearth \"$@\"\n"
             "else\n"
             "    compdef _hearth hearth\n"
             "fi\n");
}

/* ---- fish ---- */

static void put_fish_text(struct buffer *out, const char *text)
{
    for (const char *c = text; *c && *c != '\n'; c++) {
        if (*c == '\'' || *c == '\\')
            buffer_append_char(out, '\\');
        buffer_append_char(out, *c);
    }
}

static void put_fish_option(struct buffer *out, const struct command *command,
                            const struct option *option)
{
    buffer_format(out, "complete -c hearth -n '__fish_seen_subcommand_from %s' -l %s",
                  command->name, option->name);
    if (option->short_name)
        buffer_format(out, " -s %c", option->short_name);
    if (is_path(option))
        put(out, " -r -F");
    else if (option->type != OPTION_FLAG)
        put(out, " -x");
    if (option->type == OPTION_CHOICE) {
        put(out, " -a '");
        put_choices(out, option->choices);
        put(out, "'");
    }
    if (option->type == OPTION_SESSION)
        put(out, " -a '(" SESSION_NAMES ")'");
    put(out, " -d '");
    put_fish_text(out, option->help);
    put(out, "'\n");
}

static void put_fish_words(struct buffer *out, const struct program *program,
                           const struct command *command)
{
    struct buffer words;
    buffer_init(&words, 1 << 16);
    put_operand_words(&words, program, command);
    if (has_operand(command, OPERAND_SESSIONS))
        put(&words, " (" SESSION_NAMES ")");
    if (has_operand(command, OPERAND_SERVED))
        put(&words, " (" SERVED_NAMES ")");
    if (words.size > 0)
        buffer_format(out, "complete -c hearth -n '__fish_seen_subcommand_from %s' -a '%s'\n",
                      command->name, words.data);
    buffer_finish(&words);
}

static void put_fish(struct buffer *out, const struct program *program)
{
    put(out, "# fish completion for hearth\n"
             "complete -c hearth -f\n"
             "complete -c hearth -n __fish_use_subcommand -l version -d 'Show the version'\n"
             "complete -c hearth -n __fish_use_subcommand -l help -d 'Show the help'\n"
             "complete -c hearth -n __fish_use_subcommand -l man -d 'Write a man page'\n");
    for (size_t i = 0; i < program->command_count; i++) {
        const struct command *command = program->commands[i];
        buffer_format(out, "complete -c hearth -n __fish_use_subcommand -a %s -d '", command->name);
        put_fish_text(out, command->summary);
        put(out, "'\n");
        if (takes_files(command))
            buffer_format(out, "complete -c hearth -n '__fish_seen_subcommand_from %s' -F\n",
                          command->name);
        put_fish_words(out, program, command);
        for (size_t k = 0; option_at(command, k); k++)
            put_fish_option(out, command, option_at(command, k));
    }
}

bool completion_write(const struct program *program, const char *shell, struct buffer *out)
{
    static const struct {
        const char *name;
        void (*write)(struct buffer *out, const struct program *program);
    } shells[] = {{"bash", put_bash}, {"zsh", put_zsh}, {"fish", put_fish}};
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        if (strcmp(shells[i].name, shell) == 0) {
            shells[i].write(out, program);
            return true;
        }
    }
    return false;
}

/* ---- hearth completion ---- */

struct completion_settings {
    const char *shell;
};

static enum exit_code run_completion(const struct program *program, const void *settings)
{
    const char *shell = ((const struct completion_settings *)settings)->shell;
    struct buffer script;
    buffer_init(&script, 1 << 20);
    bool known = completion_write(program, shell, &script);
    if (known)
        fputs(script.data ? script.data : "", stdout);
    else
        console_say("there is no completion for '%s', only for bash, zsh and fish", shell);
    buffer_finish(&script);
    return known ? console_finish() : EXIT_CODE_USAGE;
}

static const struct operand completion_operands[] = {
    {"SHELL", OPERAND_SHELL, true, offsetof(struct completion_settings, shell), "bash, zsh or fish",
     NULL},
};

static const struct example completion_examples[] = {
    {"source <(hearth completion bash)",
     "Completes in this bash; put it into ~/.bashrc to keep it."},
    {"hearth completion zsh > ~/.zfunc/_hearth", "For zsh, in a directory that is in $fpath."},
    {"hearth completion fish > ~/.config/fish/completions/hearth.fish", "For fish."},
};

const struct command command_completion = {
    .name = "completion",
    .summary = "Write a completion script for a shell",
    .description = "Writes a script that lets the shell complete commands, options and values of "
                   "hearth with the Tab key.",
    .operands = completion_operands,
    .operand_count = 1,
    .examples = completion_examples,
    .example_count = sizeof completion_examples / sizeof completion_examples[0],
    .settings_size = sizeof(struct completion_settings),
    .run = run_completion,
};
