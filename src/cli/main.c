/* The program's entry: which command is meant, and the few options that stand before one. */

#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/help.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "hearth/hearth.h"
#include "worker/serve.h"

static const struct command *const commands[] = {
    &command_run,        &command_sessions,
#ifdef HEARTH_DAEMON
    &command_serve,      &command_ps,       &command_status,     &command_load,
    &command_unload,     &command_logs,     &command_stop,       &command_upstream,
#endif
    &command_inspect,    &command_tokenize, &command_perplexity, &command_bench,
    &command_completion, &command_help,
};

static const struct program program = {
    .commands = commands,
    .command_count = sizeof commands / sizeof commands[0],
};

static const char *name_at(const void *context, size_t index)
{
    (void)context;
    return commands[index]->name;
}

static enum exit_code usage_error(const struct command *command, const char *cause)
{
    console_say("%s", cause);
    fprintf(stderr, "See 'hearth%s%s --help'.\n", command ? " " : "", command ? command->name : "");
    return EXIT_CODE_USAGE;
}

static enum exit_code show_manual(const char *name)
{
    const struct command *command = name ? program_find(&program, name) : NULL;
    if (name && !command)
        return usage_error(NULL, "--man takes the name of a command, or nothing");
    struct buffer page;
    buffer_init(&page, 1 << 20);
    manual_write(&program, command, &page);
    fputs(page.data ? page.data : "", stdout);
    buffer_finish(&page);
    return console_finish();
}

static enum exit_code run_command(const struct command *command, int count, char *const *words)
{
    struct hearth_error err = {0};
    bool help = false;
    enum exit_code code;
    void *settings = settings_create(command);
    if (!settings)
        return EXIT_CODE_ERROR;
    if (options_parse(command, count, words, settings, &help, &err))
        code = usage_error(command, err.text);
    else if (help)
        code = help_show(&program, command);
    else
        code = command->run(&program, settings);
    settings_destroy(command, settings);
    return code;
}

static enum exit_code unknown_command(const char *word)
{
    struct hearth_error err;
    const char *near = nearest_name(word, program.command_count, name_at, NULL);
    error_set(&err, HEARTH_E_ARGUMENT, "there is no command '%s'%s%s%s", word,
              near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return usage_error(NULL, err.text);
}

static enum exit_code dispatch(int argc, char *const *argv)
{
    if (argc < 2)
        return usage_error(
            NULL,
            "a command is missing: run, serve, sessions, inspect, tokenize, perplexity, bench, …");
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return help_show(&program, NULL);
    if (strcmp(word, "--man") == 0)
        return show_manual(argc > 2 ? argv[2] : NULL);
    if (strcmp(word, "--version") == 0) {
        printf("hearth %s\n", hearth_version());
        return console_finish();
    }
    const struct command *command = program_find(&program, word);
    return command ? run_command(command, argc - 2, argv + 2) : unknown_command(word);
}

int main(int argc, char **argv)
{
    /* what the daemon starts is no command of the user's, and needs nothing that they have */
    if (argc == 2 && strcmp(argv[1], "worker") == 0)
        return worker_run();
    /* Characters as the terminal has them, for line editing; numbers stay as in C. */
    if (!setlocale(LC_CTYPE, "") || strcmp(setlocale(LC_CTYPE, NULL), "C") == 0)
        setlocale(LC_CTYPE, "C.UTF-8");
    os_claim_standard_files();
    interrupt_init();
    return (int)dispatch(argc, argv);
}
