#include "cli/editor.h"

#include <histedit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "base/memory.h"
#include "base/os.h"
#include "cli/console.h"
#include "cli/interrupt.h"
#include "cli/state.h"

#define HISTORY_ENTRIES 1000
#define PASTE_CHARACTERS_MAX (1 << 20)
#define PASTE_END L"\033[201~"
#define AHEAD_BYTES_MAX (1 << 20)
#define CTRL_D '\004'

struct editor {
    EditLine *line;
    HistoryW *history;
    const char *prompt;
    struct editor_idle idle;
    struct buffer ahead;         /* typed ahead, and not yet the editor's */
    size_t ahead_taken;          /* of it */
    char path[STATE_PATH_BYTES]; /* of the history; empty: it is not kept */
};

/* ---- history ---- */

static void load_history(struct editor *editor)
{
    HistEventW event;
    if (!state_path("history", editor->path))
        editor->path[0] = '\0';
    history_w(editor->history, &event, H_SETSIZE, HISTORY_ENTRIES);
    history_w(editor->history, &event, H_SETUNIQUE, 1);
    if (!editor->path[0])
        return;
    history_w(editor->history, &event, H_LOAD, editor->path);
    /* Entries are appended one by one; a file that has grown full is written anew. */
    if (history_w(editor->history, &event, H_GETSIZE) == 0 && event.num >= HISTORY_ENTRIES)
        history_w(editor->history, &event, H_SAVE, editor->path);
}

/* Appended at once, so that conversations side by side do not overwrite each other. libedit makes
 * the file readable for its owner alone before it writes; it takes 0 for the newest entry only. */
static void remember(struct editor *editor, const char *text)
{
    HistEventW event;
    size_t size = mbstowcs(NULL, text, 0);
    wchar_t *wide = size != (size_t)-1 ? mem_alloc_array(size + 1, sizeof *wide) : NULL;
    if (wide)
        mbstowcs(wide, text, size + 1);
    bool entered = wide && history_w(editor->history, &event, H_ENTER, wide) >= 0;
    mem_free(wide);
    if (!entered || !editor->path[0])
        return;
    FILE *file = fopen(editor->path, "a");
    if (!file)
        return;
    if (fseek(file, 0, SEEK_END) == 0)
        history_w(editor->history, &event, H_NSAVE_FP, (size_t)0, file);
    fclose(file);
}

/* ---- characters ---- */

/* While an answer is written the terminal collects lines. Those that are whole are read before it
 * gives single characters: what Ctrl-D ended would be a NUL afterwards. An unfinished line stays
 * with the terminal and comes by characters. */
static void take_typed_ahead(struct editor *editor)
{
    struct buffer *ahead = &editor->ahead;
    while (ahead->size < AHEAD_BYTES_MAX && os_input_waits(CONSOLE_STDIN)) {
        char bytes[4096];
        ptrdiff_t size = os_read(CONSOLE_STDIN, bytes, sizeof bytes);
        if (size > 0)
            buffer_append(ahead, bytes, (size_t)size);
        else if (size == 0)
            buffer_append_char(ahead, CTRL_D);
        if (size <= 0 || ahead->failed)
            break;
    }
}

static void drop_typed_ahead(struct editor *editor)
{
    buffer_finish(&editor->ahead);
    editor->ahead_taken = 0;
}

/* 1, 0 at the end of the input, -1 on failure and for Ctrl-C. */
static int next_byte(struct editor *editor, char *byte)
{
    if (interrupt_came())
        return -1;
    if (editor->ahead_taken < editor->ahead.size) {
        *byte = editor->ahead.data[editor->ahead_taken++];
        if (editor->ahead_taken == editor->ahead.size)
            drop_typed_ahead(editor);
        return 1;
    }
    int ready;
    do {
        ready =
            os_wait_input(CONSOLE_STDIN, editor->idle.run(editor->idle.context), interrupt_came);
    } while (ready == 0);
    if (ready < 0)
        return -1;
    return (int)os_read(CONSOLE_STDIN, byte, 1);
}

/* libedit's own function would sleep on when Ctrl-C comes just before its read. Bytes that are no
 * character are skipped, as it does. */
static int read_character(EditLine *line, wchar_t *out)
{
    struct editor *editor;
    mbstate_t state = {0};
    char byte;
    if (el_get(line, EL_CLIENTDATA, &editor) != 0)
        return -1;
    for (;;) {
        int got = next_byte(editor, &byte);
        if (got != 1)
            return got;
        bool first = mbsinit(&state) != 0;
        size_t size = mbrtowc(out, &byte, 1, &state);
        if (size == (size_t)-1) {
            memset(&state, 0, sizeof state);
            if (!first) /* it may begin another */
                size = mbrtowc(out, &byte, 1, &state);
        }
        if (size == (size_t)-1)
            memset(&state, 0, sizeof state);
        else if (size != (size_t)-2)
            return 1;
    }
}

/* ---- the editor ---- */

static char *current_prompt(EditLine *line)
{
    struct editor *editor;
    static char none[] = "";
    static char prompts[2][5] = {">>> ", "... "};
    if (el_get(line, EL_CLIENTDATA, &editor) != 0)
        return none;
    return prompts[editor->prompt[0] == '.'];
}

/* What the terminal brackets as pasted goes into the line as it is, newlines too. */
static unsigned char take_paste(EditLine *line, wint_t character)
{
    const size_t end = wcslen(PASTE_END);
    size_t size = 0, capacity = 0;
    wchar_t *text = NULL, next;
    (void)character;
    while (size < PASTE_CHARACTERS_MAX && el_wgetc(line, &next) == 1) {
        if (size + 2 > capacity) {
            capacity = capacity + capacity / 2 + 256;
            wchar_t *grown = mem_realloc_array(text, capacity, sizeof *text);
            if (!grown)
                break;
            text = grown;
        }
        text[size++] = next == L'\r' ? L'\n' : next == L'\0' ? L' ' : next;
        text[size] = L'\0';
        if (size >= end && wmemcmp(text + size - end, PASTE_END, end) == 0) {
            text[size - end] = L'\0';
            break;
        }
    }
    int failed = text ? el_winsertstr(line, text) : 0;
    mem_free(text);
    return failed ? CC_ERROR : CC_REFRESH;
}

static void bind_keys(EditLine *line)
{
    static const char *const keys[][2] = {
        {"^R", "em-inc-search-prev"}, {"\\e[1;5D", "ed-prev-word"},
        {"\\e[1;5C", "em-next-word"}, {"\\e[3~", "ed-delete-next-char"},
        {"\\e[H", "ed-move-to-beg"},  {"\\e[F", "ed-move-to-end"},
        {"\\e[200~", "hearth-paste"},
    };
    el_wset(line, EL_ADDFN, L"hearth-paste", L"take pasted text as it is", take_paste);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        el_set(line, EL_BIND, keys[i][0], keys[i][1], NULL);
}

struct editor *editor_open(struct editor_idle idle)
{
    struct editor *editor = MEM_NEW(struct editor);
    if (!editor)
        return NULL;
    editor->idle = idle;
    buffer_init(&editor->ahead, 2 * AHEAD_BYTES_MAX);
    editor->history = history_winit();
    editor->line = editor->history ? el_init("hearth", stdin, stderr, stderr) : NULL;
    if (!editor->line) {
        editor_close(editor);
        return NULL;
    }
    load_history(editor);
    el_set(editor->line, EL_CLIENTDATA, editor);
    el_set(editor->line, EL_EDITOR, "emacs");
    el_set(editor->line, EL_SIGNAL, 0);
    el_set(editor->line, EL_PROMPT, current_prompt);
    el_wset(editor->line, EL_GETCFN, read_character);
    el_wset(editor->line, EL_HIST, history_w, editor->history);
    bind_keys(editor->line);
    el_source(editor->line, NULL);
    return editor;
}

void editor_close(struct editor *editor)
{
    if (!editor)
        return;
    if (editor->line)
        el_end(editor->line);
    if (editor->history)
        history_wend(editor->history);
    buffer_finish(&editor->ahead);
    mem_free(editor);
}

/* One line, or a paste; the newline that ends it is dropped. */
static enum editor_result read_line(struct editor *editor, const char *prompt, struct buffer *out)
{
    int count = 0;
    editor->prompt = prompt;
    interrupt_remember();
    take_typed_ahead(editor);
    el_set(editor->line, EL_PREP_TERM, 1); /* before the prompt says that keys are awaited */
    fputs("\033[?2004h", stderr);          /* ask the terminal to bracket what is pasted */
    const char *line = el_gets(editor->line, &count);
    bool interrupted = interrupt_came();
    interrupt_leave();
    fputs("\033[?2004l", stderr);
    if (interrupted)
        drop_typed_ahead(editor);
    if (!line || count <= 0 || interrupted) {
        fputc('\n', stderr);
        return interrupted ? EDITOR_INTERRUPTED : EDITOR_END;
    }
    size_t size = (size_t)count;
    if (line[size - 1] == '\n')
        size--;
    buffer_append(out, line, size);
    return EDITOR_TEXT;
}

static bool ends_quoted(const struct buffer *text)
{
    return text->size >= 3 && memcmp(text->data + text->size - 3, "\"\"\"", 3) == 0;
}

/* Lines up to the closing quotes; `out` holds the first, with its opening quotes. */
static enum editor_result read_quoted(struct editor *editor, struct buffer *out)
{
    memmove(out->data, out->data + 3, out->size - 3);
    out->size -= 3;
    while (!ends_quoted(out)) {
        buffer_append_char(out, '\n');
        enum editor_result result = read_line(editor, "... ", out);
        if (result != EDITOR_TEXT)
            return result;
    }
    out->size -= 3;
    out->data[out->size] = '\0';
    return EDITOR_TEXT;
}

enum editor_result editor_read(struct editor *editor, struct buffer *out)
{
    buffer_finish(out);
    enum editor_result result = read_line(editor, ">>> ", out);
    if (result == EDITOR_TEXT && out->size >= 3 && memcmp(out->data, "\"\"\"", 3) == 0)
        result = read_quoted(editor, out);
    if (result == EDITOR_TEXT && out->size > 0 && !out->failed)
        remember(editor, out->data);
    return result;
}
