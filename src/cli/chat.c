/* A conversation on the terminal. Each turn is rendered whole by the model's template; what the
 * engine holds of it already is not computed again, and answers keep the tokens that were drawn:
 * they need not be those that a tokenizer makes of the same text. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/console.h"
#include "cli/editor.h"
#include "cli/interrupt.h"
#include "cli/run.h"

#define TEXT_BYTES_MAX ((size_t)1 << 30)

struct chat {
    struct run *run;
    struct editor *editor;
    json_t *messages;
    struct buffer held; /* the text that the timeline's ids stand for, as the template writes it */
    uint64_t seed;      /* of the next answer */
    bool leave;
};

/* ---- prompts ---- */

/* Whether tokens that are put behind the timeline's are those that the whole text would have there:
 * a special token parts them, which no merge crosses. */
static bool parted(const struct chat *chat, const uint32_t *rest, size_t count)
{
    const struct hearth_model *model = chat->run->loaded.model;
    const struct timeline *line = &chat->run->timeline;
    if (count == 0 || line->count == 0 || hearth_is_end(model, line->ids[line->count - 1]))
        return true;
    char *text;
    size_t size;
    if (hearth_detokenize(model, rest, 1, false, &text, &size, NULL))
        return false;
    hearth_free(text);
    return size == 0; /* a control token says nothing */
}

/* The timeline's ids with those of `rest` behind them; *ids stays NULL where they do not part. */
static int join_tokens(const struct chat *chat, struct text rest, uint32_t **ids, size_t *count,
                       struct hearth_error *err)
{
    const struct timeline *line = &chat->run->timeline;
    uint32_t *more = NULL, *joined = NULL;
    size_t more_count = 0;
    int status = hearth_tokenize(chat->run->loaded.model, rest.data, rest.size,
                                 HEARTH_PARSE_SPECIAL, &more, &more_count, err);
    if (!status && parted(chat, more, more_count)) {
        joined = mem_alloc_array(line->count + more_count + 1, sizeof *joined);
        if (!joined) {
            status = error_set(err, HEARTH_E_MEMORY, "no memory for the conversation's tokens");
        } else {
            memcpy(joined, line->ids, line->count * sizeof *joined);
            if (more_count)
                memcpy(joined + line->count, more, more_count * sizeof *joined);
            *count = line->count + more_count;
            *ids = joined;
        }
    }
    hearth_free(more);
    return status;
}

/* The tokens of the conversation, up to where the next answer begins; allocated with mem_alloc. */
static int prompt_tokens(struct chat *chat, uint32_t **ids, size_t *count, struct hearth_error *err)
{
    char *text;
    size_t size;
    *ids = NULL;
    int status = run_render(chat->run, chat->messages, &text, &size, err);
    if (status)
        return status;
    struct text whole = {text, size};
    if (chat->held.size > 0 && text_starts_with(whole, buffer_text(&chat->held)))
        status = join_tokens(chat, (struct text){text + chat->held.size, size - chat->held.size},
                             ids, count, err);
    if (!status && !*ids)
        status = hearth_tokenize(chat->run->loaded.model, text, size, HEARTH_PARSE_SPECIAL, ids,
                                 count, err);
    buffer_finish(&chat->held);
    if (!status)
        buffer_append(&chat->held, text, size);
    hearth_free(text);
    return status;
}

/* Without a template each text stands for itself. */
static int plain_tokens(const struct chat *chat, struct text text, uint32_t **ids, size_t *count,
                        struct hearth_error *err)
{
    return hearth_tokenize(chat->run->loaded.model, text.data, text.size,
                           HEARTH_ADD_SPECIAL | HEARTH_PARSE_SPECIAL, ids, count, err);
}

/* ---- turns ---- */

/* Puts the answer behind what is held. The token that ended it is part of the text that the next
 * rendering shows, and so of the timeline. */
static void hold_answer(struct chat *chat, const struct answer *answer)
{
    struct timeline *line = &chat->run->timeline;
    char *text;
    size_t size;
    if (answer->stop == ANSWER_END && timeline_push(line, answer->end_id, NULL)) {
        buffer_finish(&chat->held);
        return;
    }
    if (hearth_detokenize(chat->run->loaded.model, line->ids + answer->prompt_count,
                          line->count - answer->prompt_count, true, &text, &size, NULL)) {
        buffer_finish(&chat->held);
        return;
    }
    buffer_append(&chat->held, text, size);
    hearth_free(text);
}

static void say_ending(const struct chat *chat, const struct answer *answer)
{
    bool line_open = answer->text.size > 0 && answer->text.data[answer->text.size - 1] != '\n';
    if (line_open)
        putchar('\n');
    fflush(stdout);
    if (answer->stop == ANSWER_CANCELLED && !line_open)
        fputc('\n', stderr); /* the terminal has written ^C there */
    if (answer->stop == ANSWER_CONTEXT)
        console_say("the context of %u tokens is full: /reset begins a new conversation, -c makes "
                    "it larger",
                    chat->run->timeline.context);
    else if (answer->stop == ANSWER_CANCELLED)
        console_say("stopped");
    if (chat->run->settings->verbose)
        answer_say_timings(answer, &chat->run->timeline);
}

static void drop_last_message(struct chat *chat)
{
    size_t count = json_array_size(chat->messages);
    if (count > 0)
        json_array_remove(chat->messages, count - 1);
}

static int answer_turn(struct chat *chat, struct text text, struct answer *answer,
                       struct hearth_error *err)
{
    struct run *run = chat->run;
    uint32_t *ids = NULL;
    size_t count = 0;
    int status = run->plain ? plain_tokens(chat, text, &ids, &count, err)
                            : prompt_tokens(chat, &ids, &count, err);
    if (!status && count > run->timeline.context)
        status = error_set(err, HEARTH_E_LIMIT,
                           "the conversation has %zu tokens, the context holds %u: /reset begins a "
                           "new one, -c makes it larger",
                           count, run->timeline.context);
    struct answer_options options = run_answer_options(run);
    run->sampling.seed = chat->seed++;
    if (!status)
        status = answer_compute(&run->timeline, ids, count, &options, answer, err);
    hearth_free(ids);
    return status;
}

static void take_turn(struct chat *chat, struct text text)
{
    struct answer answer = {0};
    struct hearth_error err = {0};
    bool plain = chat->run->plain;
    if (!plain)
        json_array_append_new(chat->messages, run_message("user", text));
    int status = answer_turn(chat, text, &answer, &err);
    bool nothing = status || (answer.stop == ANSWER_CANCELLED && answer.text.size == 0);
    if (nothing) {
        buffer_finish(&chat->held);
        if (!plain)
            drop_last_message(chat);
    } else if (!plain) {
        json_array_append_new(chat->messages, run_message("assistant", buffer_text(&answer.text)));
        hold_answer(chat, &answer);
    }
    if (status)
        console_fail(&err);
    else
        say_ending(chat, &answer);
    answer_finish(&answer);
}

/* ---- commands ---- */

static const char *system_text(const struct chat *chat)
{
    const json_t *first = json_array_get(chat->messages, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    if (!role || strcmp(role, "system") != 0)
        return NULL;
    return json_string_value(json_object_get(first, "content"));
}

static void command_help_text(struct chat *chat, const char *argument)
{
    (void)chat;
    (void)argument;
    fputs("  /reset          forget the conversation and begin a new one\n"
          "  /system [TEXT]  show or set what the model is told of its task\n"
          "  /save FILE      write the conversation as JSON into a new file\n"
          "  /quit           leave, as Ctrl-D does\n"
          "  \"\"\"             begins and ends a text of several lines\n"
          "  Ctrl-C          stops an answer; a second one leaves\n",
          stderr);
}

static void command_reset(struct chat *chat, const char *argument)
{
    const char *system = system_text(chat);
    json_t *first = system ? json_incref(json_array_get(chat->messages, 0)) : NULL;
    (void)argument;
    json_array_clear(chat->messages);
    if (first)
        json_array_append_new(chat->messages, first);
    buffer_finish(&chat->held);
    console_say("a new conversation%s", first ? "; the system message stays" : "");
}

static void command_system(struct chat *chat, const char *argument)
{
    const char *now = system_text(chat);
    if (chat->run->plain) {
        console_say("this model has no chat template, and so no system message");
    } else if (argument[0] == '\0') {
        console_say("%s%s", now ? "the system message is: " : "there is no system message",
                    now ? now : "");
    } else {
        if (now)
            json_array_remove(chat->messages, 0);
        json_array_insert_new(chat->messages, 0, run_message("system", text_of(argument)));
        console_say("the system message is set");
    }
}

static void command_save(struct chat *chat, const char *argument)
{
    if (argument[0] == '\0') {
        console_say("/save needs the name of a file");
        return;
    }
    FILE *file = fopen(argument, "wx"); /* never over a file that exists */
    if (!file) {
        console_say("%s cannot be written, or exists", argument);
        return;
    }
    int failed = json_dumpf(chat->messages, file, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    failed |= fputc('\n', file) == EOF;
    failed |= fclose(file) != 0;
    console_say(failed ? "%s could not be written whole" : "saved to %s", argument);
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
    } commands[] = {{"help", command_help_text}, {"reset", command_reset},
                    {"system", command_system},  {"save", command_save},
                    {"quit", command_quit},      {"bye", command_quit}};
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

static enum exit_code converse(struct chat *chat)
{
    struct buffer text;
    bool interrupted = false;
    enum exit_code code = EXIT_CODE_OK;
    buffer_init(&text, TEXT_BYTES_MAX);
    while (!chat->leave) {
        enum editor_result result = editor_read(chat->editor, &text);
        if (result == EDITOR_INTERRUPTED && interrupted)
            code = EXIT_CODE_INTERRUPTED;
        if (result == EDITOR_END || code != EXIT_CODE_OK)
            break;
        if (result == EDITOR_INTERRUPTED)
            fputs("(Ctrl-C again or Ctrl-D leaves)\n", stderr);
        interrupted = result == EDITOR_INTERRUPTED;
        if (result != EDITOR_TEXT || text.size == 0 || text.failed ||
            run_chat_command(chat, text.data))
            continue;
        take_turn(chat, buffer_text(&text));
        interrupted = interrupt_came();
        interrupt_leave();
    }
    buffer_finish(&text);
    return code;
}

static uint64_t nothing_to_do(void *context)
{
    (void)context;
    return UINT64_MAX;
}

enum exit_code chat_run(struct run *run)
{
    struct chat chat = {
        .run = run,
        .editor = editor_open((struct editor_idle){.run = nothing_to_do}),
        .messages = json_array(),
        .seed = run->sampling.seed,
    };
    enum exit_code code = EXIT_CODE_ERROR;
    buffer_init(&chat.held, TEXT_BYTES_MAX);
    if (!chat.editor || !chat.messages) {
        console_say("the terminal cannot be used for a conversation");
    } else {
        if (run->settings->system)
            json_array_append_new(chat.messages,
                                  run_message("system", text_of(run->settings->system)));
        fputs("Write, and Enter sends it. /help says more, Ctrl-D leaves.\n", stderr);
        code = converse(&chat);
    }
    buffer_finish(&chat.held);
    json_decref(chat.messages);
    editor_close(chat.editor);
    return code == EXIT_CODE_OK ? console_finish() : code;
}
