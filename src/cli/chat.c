/* A conversation on the terminal. Its messages and what is computed of them are the session's;
 * here are what the user writes, and the commands. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "cli/console.h"
#include "cli/editor.h"
#include "cli/interrupt.h"
#include "cli/run.h"

#define TEXT_BYTES_MAX ((size_t)1 << 30)

struct chat {
    struct run *run;
    struct editor *editor;
    uint64_t seed; /* of the next answer */
    bool leave;
};

/* ---- turns ---- */

static void say_ending(const struct chat *chat, const struct answer *answer)
{
    const struct hearth_result *result = &answer->result;
    bool line_open = result->text_size > 0 && result->text[result->text_size - 1] != '\n';
    if (line_open)
        putchar('\n');
    fflush(stdout);
    if (result->stop == HEARTH_STOP_CANCELLED && !line_open)
        fputc('\n', stderr); /* the terminal has written ^C there */
    if (result->stop == HEARTH_STOP_CONTEXT || result->stop == HEARTH_STOP_ERROR)
        console_say("%s: /reset begins a new conversation, -c makes it larger", result->error.text);
    else if (result->stop == HEARTH_STOP_CANCELLED)
        console_say("stopped");
    run_say_ending(chat->run, answer);
}

/* Asks for an answer to the messages. Where there is none, those behind the first `before` go. */
static void take_turn(struct chat *chat, size_t before)
{
    struct run *run = chat->run;
    struct dialogue *dialogue = run->dialogue;
    struct answer answer = {0};
    struct hearth_error err = {0};
    struct answer_options options = run_answer_options(run);
    run->sampling.seed = chat->seed++;
    int status = dialogue->calls->answer(dialogue, &options, &answer, &err);
    bool cancelled = !status && answer.result.stop == HEARTH_STOP_CANCELLED;
    if (status || (cancelled && answer.result.text_size == 0))
        dialogue->calls->truncate(dialogue, before, NULL);
    if (status)
        console_fail(&err);
    else
        say_ending(chat, &answer);
    answer_finish(&answer);
}

static void take_text(struct chat *chat, struct text text)
{
    struct hearth_error err = {0};
    struct dialogue *dialogue = chat->run->dialogue;
    size_t before = dialogue->calls->count(dialogue);
    int status = 0;
    if (chat->run->plain && !chat->run->settings->session) { /* each text stands for itself */
        status = dialogue->calls->truncate(dialogue, 0, &err);
        before = 0;
    }
    if (!status)
        status = run_append(dialogue, "user", text, &err);
    if (status)
        console_fail(&err);
    else
        take_turn(chat, before);
}

/* ---- messages ---- */

/* The conversation's; NULL where they cannot be had, which is said. */
static json_t *messages_of(const struct chat *chat)
{
    struct hearth_error err = {0};
    const struct dialogue *dialogue = chat->run->dialogue;
    json_t *messages = dialogue->calls->messages(dialogue, &err);
    if (!messages)
        console_fail(&err);
    return messages;
}

static int truncate_to(struct chat *chat, size_t count, struct hearth_error *err)
{
    struct dialogue *dialogue = chat->run->dialogue;
    return dialogue->calls->truncate(dialogue, count, err);
}

/* Where the last message of the user stands; false where there is none. */
static bool find_last_turn(const struct chat *chat, size_t *index)
{
    json_t *messages = messages_of(chat);
    size_t at = json_array_size(messages);
    while (at > 0 && !run_has_role(json_array_get(messages, at - 1), "user"))
        at--;
    json_decref(messages);
    *index = at - 1;
    return at > 0;
}

/* ---- commands ---- */

static void command_help_text(struct chat *chat, const char *argument)
{
    (void)chat;
    (void)argument;
    fputs("  /history        show the conversation\n"
          "  /undo           take the last turn back, your text and its answer\n"
          "  /regenerate     have the last answer written again\n"
          "  /reset          forget the conversation and begin a new one\n"
          "  /system [TEXT]  show or set what the model is told of its task\n"
          "  /info           say what the conversation takes\n"
          "  /keep NAME      keep it, or a copy of it, by that name\n"
          "  /save FILE      write the conversation as JSON into a new file\n"
          "  /quit           leave, as Ctrl-D does\n"
          "  \"\"\"             begins and ends a text of several lines\n"
          "  Ctrl-C          stops an answer; a second one leaves\n",
          stderr);
}

static void command_history(struct chat *chat, const char *argument)
{
    json_t *messages = messages_of(chat);
    (void)argument;
    if (json_array_size(messages) == 0)
        console_say("nothing was said");
    console_show_messages(messages);
    json_decref(messages);
}

static void command_undo(struct chat *chat, const char *argument)
{
    struct hearth_error err = {0};
    size_t index;
    (void)argument;
    if (!find_last_turn(chat, &index))
        console_say("there is no turn to take back");
    else if (truncate_to(chat, index, &err))
        console_fail(&err);
    else
        console_say("the last turn is taken back");
}

static void command_regenerate(struct chat *chat, const char *argument)
{
    struct hearth_error err = {0};
    size_t index;
    (void)argument;
    if (!find_last_turn(chat, &index))
        console_say("there is nothing to answer");
    else if (truncate_to(chat, index + 1, &err))
        console_fail(&err);
    else
        take_turn(chat, index);
}

static void command_reset(struct chat *chat, const char *argument)
{
    struct hearth_error err = {0};
    json_t *messages = messages_of(chat);
    bool system = run_system_text(messages) != NULL;
    (void)argument;
    json_decref(messages);
    if (truncate_to(chat, system, &err))
        console_fail(&err);
    else
        console_say("a new conversation%s", system ? "; the system message stays" : "");
}

static void command_system(struct chat *chat, const char *argument)
{
    struct hearth_error err = {0};
    json_t *messages = messages_of(chat);
    const char *now = run_system_text(messages);
    if (chat->run->plain) {
        console_say("without a chat template there is no system message");
    } else if (argument[0] == '\0') {
        console_say("%s%s", now ? "the system message is: " : "there is no system message",
                    now ? now : "");
    } else {
        run_set_system(messages, argument);
        struct dialogue *dialogue = chat->run->dialogue;
        if (dialogue->calls->set_messages(dialogue, messages, &err))
            console_fail(&err);
        else
            console_say("the system message is set");
    }
    json_decref(messages);
}

static void command_info(struct chat *chat, const char *argument)
{
    struct dialogue *dialogue = chat->run->dialogue;
    struct dialogue_info info;
    struct hearth_error err = {0};
    char tokens[SIZE_TEXT_MAX + 8], memory[SIZE_TEXT_MAX], disk[SIZE_TEXT_MAX], named[300] = "";
    (void)argument;
    if (dialogue->calls->info(dialogue, &info, &err)) {
        console_fail(&err);
        return;
    }
    if (info.key[0])
        snprintf(named, sizeof named, "\"%s\": ", info.key);
    console_say("%s%" PRIu64 " messages, %s tokens; %s in memory, %s of what was computed on the "
                "disk",
                named, info.messages, count_text(info.tokens, tokens),
                size_text(info.kv_bytes, memory), size_text(info.spill_bytes, disk));
}

static void command_keep(struct chat *chat, const char *argument)
{
    struct hearth_error err = {0};
    struct dialogue *dialogue = chat->run->dialogue;
    if (argument[0] == '\0')
        console_say("/keep needs a name");
    else if (!dialogue->has_store)
        console_say("there is no store to keep it in");
    else if (dialogue->calls->keep(dialogue, argument, &err))
        console_fail(&err);
    else
        console_say("kept as \"%s\": hearth run MODEL --session \"%s\" goes on with it", argument,
                    argument);
}

static void command_save(struct chat *chat, const char *argument)
{
    if (argument[0] == '\0') {
        console_say("/save needs the name of a file");
        return;
    }
    json_t *messages = messages_of(chat);
    if (!messages)
        return;
    FILE *file = fopen(argument, "wx"); /* never over a file that exists */
    if (!file) {
        console_say("%s cannot be written: %s", argument, strerror(errno));
    } else {
        int failed = json_dumpf(messages, file, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        failed |= fputc('\n', file) == EOF;
        failed |= fclose(file) != 0;
        console_say(failed ? "%s could not be written whole" : "saved to %s", argument);
    }
    json_decref(messages);
}

static void command_quit(struct chat *chat, const char *argument)
{
    (void)argument;
    chat->leave = true;
}

/* A word behind a slash is a command; a path ("/etc/hosts") and everything else is for the model.
 */
static bool run_chat_command(struct chat *chat, const char *text)
{
    static const struct {
        const char *name;
        void (*run)(struct chat *chat, const char *argument);
    } commands[] = {
        {"help", command_help_text}, {"history", command_history},
        {"undo", command_undo},      {"regenerate", command_regenerate},
        {"reset", command_reset},    {"system", command_system},
        {"info", command_info},      {"keep", command_keep},
        {"save", command_save},      {"quit", command_quit},
        {"bye", command_quit},
    };
    size_t size = strspn(text + 1, "abcdefghijklmnopqrstuvwxyz?");
    if (text[0] != '/' || size == 0 || (text[size + 1] != '\0' && text[size + 1] != ' '))
        return false;
    const char *argument = text + size + 1;
    argument += strspn(argument, " ");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strlen(commands[i].name) == size && strncmp(commands[i].name, text + 1, size) == 0) {
            commands[i].run(chat, argument);
            return true;
        }
    }
    console_say("there is no command /%.*s; /help lists them", (int)size, text + 1);
    return true;
}

/* ---- the conversation ---- */

static uint64_t idle(void *context)
{
    const struct chat *chat = context;
    return chat->run->dialogue->calls->idle(chat->run->dialogue);
}

static bool is_blank(struct text text)
{
    size_t i = 0;
    while (i < text.size && (text.data[i] == ' ' || text.data[i] == '\t' || text.data[i] == '\n'))
        i++;
    return i == text.size;
}

static enum exit_code converse(struct chat *chat)
{
    struct buffer text;
    bool interrupted = false;
    enum exit_code code = EXIT_CODE_OK;
    buffer_init(&text, TEXT_BYTES_MAX);
    while (!chat->leave && code == EXIT_CODE_OK) {
        enum editor_result result = editor_read(chat->editor, &text);
        if (result == EDITOR_INTERRUPTED && (interrupted || interrupt_ends()))
            code = interrupt_code();
        if (result == EDITOR_END || code != EXIT_CODE_OK)
            break;
        if (result == EDITOR_INTERRUPTED)
            fputs("(Ctrl-C again or Ctrl-D leaves)\n", stderr);
        interrupted = result == EDITOR_INTERRUPTED;
        if (result != EDITOR_TEXT || text.failed || is_blank(buffer_text(&text)))
            continue;
        if (!run_chat_command(chat, text.data))
            take_text(chat, buffer_text(&text));
        interrupted = interrupt_came();
        if (interrupt_ends())
            code = interrupt_code();
        interrupt_leave();
    }
    buffer_finish(&text);
    return code;
}

static void say_beginning(const struct run *run)
{
    size_t count = run->dialogue->calls->count(run->dialogue);
    if (run->settings->session && count > 0)
        console_say("\"%s\" goes on behind %zu messages, /history shows them",
                    run->settings->session, count);
    fputs("Write, and Enter sends it. /help says more, Ctrl-D leaves.\n", stderr);
}

enum exit_code chat_run(struct run *run)
{
    struct chat chat = {
        .run = run,
        .seed = run->sampling.seed,
    };
    enum exit_code code = EXIT_CODE_ERROR;
    chat.editor = editor_open((struct editor_idle){idle, &chat});
    if (!chat.editor) {
        console_say("the terminal cannot be used for a conversation");
    } else {
        say_beginning(run);
        code = converse(&chat);
    }
    editor_close(chat.editor);
    return code == EXIT_CODE_OK ? console_finish() : code;
}
