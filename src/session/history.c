#include "session/history.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define TEXT_BYTES_MAX ((size_t)1 << 30)
#define MESSAGES_MAX 100000

int history_init(struct history *history, const struct hearth_model *model,
                 struct hearth_error *err)
{
    struct hearth_model_info info;
    hearth_model_info(model, &info);
    *history = (struct history){
        .model = model,
        .plain = !info.has_template,
        .messages = json_array(),
    };
    buffer_init(&history->held, TEXT_BYTES_MAX);
    return history->messages ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
}

void history_finish(struct history *history)
{
    json_decref(history->messages);
    buffer_finish(&history->held);
    mem_free(history->ids);
    mem_free(history->marks);
    *history = (struct history){0};
}

/* ---- what is held ---- */

static int reserve_ids(struct history *history, size_t count, struct hearth_error *err)
{
    if (count <= history->capacity)
        return 0;
    size_t capacity = count + count / 2 + 64;
    uint32_t *ids = mem_realloc_array(history->ids, capacity, sizeof *ids);
    if (!ids)
        return error_set(err, HEARTH_E_MEMORY, "no memory for %zu tokens", capacity);
    history->ids = ids;
    history->capacity = capacity;
    return 0;
}

int history_push(struct history *history, uint32_t id, struct hearth_error *err)
{
    int status = reserve_ids(history, history->count + 1, err);
    if (!status)
        history->ids[history->count++] = id;
    return status;
}

/* A mark at the end of what is held. Without memory there is none, and more is tokenized again. */
static void add_mark(struct history *history)
{
    if (history->mark_count == history->mark_capacity) {
        size_t capacity = history->mark_capacity * 2 + 8;
        struct history_mark *marks = mem_realloc_array(history->marks, capacity, sizeof *marks);
        if (!marks)
            return;
        history->marks = marks;
        history->mark_capacity = capacity;
    }
    history->marks[history->mark_count++] =
        (struct history_mark){history->held.size, history->count};
}

/* Forgets what messages became, not the messages. */
static void forget(struct history *history)
{
    buffer_finish(&history->held);
    history->count = history->mark_count = 0;
}

int history_copy(struct history *to, const struct history *from, struct hearth_error *err)
{
    json_t *messages = json_deep_copy(from->messages);
    struct history_mark *marks = mem_alloc_array(from->mark_count + 1, sizeof *marks);
    int status = reserve_ids(to, from->count, err);
    if (!status && (!messages || !marks))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a conversation");
    if (status) {
        json_decref(messages);
        mem_free(marks);
        return status;
    }
    json_decref(to->messages);
    mem_free(to->marks);
    forget(to);
    to->messages = messages;
    to->plain = from->plain;
    to->marks = marks;
    to->mark_capacity = from->mark_count + 1;
    if (!buffer_append_text(&to->held, buffer_text(&from->held))) {
        forget(to);
        return 0;
    }
    if (from->count > 0)
        memcpy(to->ids, from->ids, from->count * sizeof *to->ids);
    if (from->mark_count > 0)
        memcpy(to->marks, from->marks, from->mark_count * sizeof *to->marks);
    to->count = from->count;
    to->mark_count = from->mark_count;
    to->edited = from->edited;
    to->dropped = from->dropped;
    return 0;
}

void history_set_plain(struct history *history, bool plain)
{
    struct hearth_model_info info;
    hearth_model_info(history->model, &info);
    plain = plain || !info.has_template;
    if (plain != history->plain)
        forget(history); /* beginnings of texts are tokenized differently */
    history->plain = plain;
}

/* ---- messages ---- */

static int check_message(const json_t *message, struct hearth_error *err)
{
    if (!json_is_object(message) || !json_is_string(json_object_get(message, "role")))
        return error_set(err, HEARTH_E_FORMAT, "a message is an object with a \"role\"");
    return 0;
}

static json_t *parse(const char *text, size_t size, struct hearth_error *err)
{
    json_error_t cause;
    json_t *value = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &cause);
    if (!value)
        error_set(err, HEARTH_E_FORMAT, "the messages are no JSON: %s", cause.text);
    return value;
}

int history_append(struct history *history, const char *message, size_t size,
                   struct hearth_error *err)
{
    if (json_array_size(history->messages) >= MESSAGES_MAX)
        return error_set(err, HEARTH_E_LIMIT, "a conversation has at most %d messages",
                         MESSAGES_MAX);
    json_t *value = parse(message, size, err);
    if (!value)
        return HEARTH_E_FORMAT;
    int status = check_message(value, err);
    if (!status && json_array_append(history->messages, value))
        status = error_set(err, HEARTH_E_MEMORY, "no memory for a message");
    json_decref(value);
    return status;
}

/* How many messages of the system stand at the beginning. */
static size_t system_messages(const struct history *history)
{
    size_t count = 0;
    for (; count < json_array_size(history->messages); count++) {
        const char *role =
            json_string_value(json_object_get(json_array_get(history->messages, count), "role"));
        if (strcmp(role, "system") != 0 && strcmp(role, "developer") != 0)
            break;
    }
    return count;
}

/* Only the first `same` messages are what they were: nothing is dropped of others. */
static void note_edit(struct history *history, size_t same)
{
    history->edited = true;
    if (system_messages(history) + history->dropped >= same)
        history->dropped = 0;
}

static size_t common_messages(const json_t *a, const json_t *b)
{
    size_t n = 0;
    while (n < json_array_size(a) && n < json_array_size(b) &&
           json_equal(json_array_get(a, n), json_array_get(b, n)))
        n++;
    return n;
}

int history_set(struct history *history, const char *messages, size_t size,
                struct hearth_error *err)
{
    json_t *value = parse(messages, size, err);
    if (!value)
        return HEARTH_E_FORMAT;
    int status = 0;
    if (!json_is_array(value))
        status = error_set(err, HEARTH_E_FORMAT, "the messages are no array");
    else if (json_array_size(value) > MESSAGES_MAX)
        status =
            error_set(err, HEARTH_E_LIMIT, "a conversation has at most %d messages", MESSAGES_MAX);
    for (size_t i = 0; !status && i < json_array_size(value); i++)
        status = check_message(json_array_get(value, i), err);
    if (status) {
        json_decref(value);
        return status;
    }
    size_t same = common_messages(value, history->messages);
    if (same < json_array_size(history->messages))
        note_edit(history, same);
    json_decref(history->messages);
    history->messages = value;
    return 0;
}

void history_truncate(struct history *history, size_t count)
{
    if (json_array_size(history->messages) <= count)
        return;
    note_edit(history, count);
    while (json_array_size(history->messages) > count)
        json_array_remove(history->messages, json_array_size(history->messages) - 1);
}

/* ---- the prompt ---- */

/* The messages that a prompt has; NULL without memory. */
static json_t *shown_messages(const struct history *history)
{
    if (history->dropped == 0)
        return json_incref(history->messages);
    json_t *shown = json_array();
    size_t head = system_messages(history);
    for (size_t i = 0; shown && i < json_array_size(history->messages); i++) {
        if ((i < head || i >= head + history->dropped) &&
            json_array_append(shown, json_array_get(history->messages, i))) {
            json_decref(shown);
            shown = NULL;
        }
    }
    return shown;
}

static int render_plain(const json_t *messages, struct buffer *out, struct hearth_error *err)
{
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *content = json_object_get(json_array_get(messages, i), "content");
        if (!json_is_string(content))
            return error_set(err, HEARTH_E_UNSUPPORTED,
                             "a model without a chat template takes messages of plain text");
        buffer_append(out, json_string_value(content), json_string_length(content));
    }
    return out->failed ? error_set(err, HEARTH_E_LIMIT, "the conversation is too long") : 0;
}

static int render_template(const struct history *history, json_t *messages, const json_t *variables,
                           int64_t unix_seconds, struct buffer *out, struct hearth_error *err)
{
    json_t *all = variables ? json_copy((json_t *)variables) : json_object();
    if (!json_object_get(all, "add_generation_prompt"))
        json_object_set_new(all, "add_generation_prompt", json_true());
    json_object_set(all, "messages", messages);
    char *json = all ? json_dumps(all, JSON_COMPACT) : NULL, *text;
    size_t size;
    json_decref(all);
    if (!json)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the conversation");
    int status =
        hearth_render_chat(history->model, json, strlen(json), unix_seconds, &text, &size, err);
    free(json);
    if (status)
        return status;
    buffer_append(out, text, size);
    hearth_free(text);
    return out->failed ? error_set(err, HEARTH_E_LIMIT, "the conversation is too long") : 0;
}

static int render(const struct history *history, const json_t *variables, int64_t unix_seconds,
                  struct buffer *out, struct hearth_error *err)
{
    json_t *messages = shown_messages(history);
    if (!messages)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the conversation");
    int status = history->plain
                     ? render_plain(messages, out, err)
                     : render_template(history, messages, variables, unix_seconds, out, err);
    json_decref(messages);
    return status;
}

static unsigned tokenize_flags(const struct history *history, size_t from)
{
    return HEARTH_PARSE_SPECIAL | (history->plain && from == 0 ? HEARTH_ADD_SPECIAL : 0u);
}

/* Whether ids put behind the first `count` held ones are what the whole text would have become:
 * a special token parts them. */
static bool parted(const struct history *history, size_t count, const uint32_t *rest,
                   size_t rest_count)
{
    if (rest_count == 0 || count == 0 || hearth_is_end(history->model, history->ids[count - 1]))
        return true;
    char *text;
    size_t size;
    if (hearth_detokenize(history->model, rest, 1, false, &text, &size, NULL))
        return false;
    hearth_free(text);
    return size == 0; /* a control token says nothing */
}

static size_t common_bytes(struct text a, struct text b)
{
    size_t n = 0;
    while (n < a.size && n < b.size && a.data[n] == b.data[n])
        n++;
    return n;
}

/* Tokenizes `text` behind the last mark that it shares with what is held; *kept ids stay. */
static int tokenize_rest(const struct history *history, struct text text, size_t *kept,
                         size_t *marks, uint32_t **rest, size_t *rest_count,
                         struct hearth_error *err)
{
    size_t common = common_bytes(text, buffer_text(&history->held));
    for (size_t m = history->mark_count;; m--) {
        struct history_mark from = m > 0 ? history->marks[m - 1] : (struct history_mark){0};
        if (from.text > common)
            continue;
        int status = hearth_tokenize(history->model, text.data + from.text, text.size - from.text,
                                     tokenize_flags(history, m), rest, rest_count, err);
        if (status)
            return status;
        if (parted(history, from.ids, *rest, *rest_count)) {
            *kept = from.ids;
            *marks = m;
            return 0;
        }
        hearth_free(*rest);
    }
}

static int replace_rest(struct history *history, struct text text, struct history_prompt *prompt,
                        struct hearth_error *err)
{
    uint32_t *rest;
    size_t kept, marks, rest_count, before = history->count;
    int status = tokenize_rest(history, text, &kept, &marks, &rest, &rest_count, err);
    if (status)
        return status;
    status = reserve_ids(history, kept + rest_count, err);
    if (!status) {
        size_t same = kept;
        for (size_t i = 0; i < rest_count && same < before && history->ids[same] == rest[i]; i++)
            same++;
        prompt->kept = same;
        prompt->miss = same == before    ? HEARTH_MISS_NOTHING
                       : history->edited ? HEARTH_MISS_EDITED
                                         : HEARTH_MISS_TEMPLATE;
        if (rest_count > 0)
            memcpy(history->ids + kept, rest, rest_count * sizeof *rest);
        history->count = kept + rest_count;
        history->mark_count = marks;
        history->edited = false;
    }
    hearth_free(rest);
    return status;
}

int history_begin_answer(struct history *history, const json_t *variables, int64_t unix_seconds,
                         struct history_prompt *prompt, struct hearth_error *err)
{
    struct buffer text;
    buffer_init(&text, TEXT_BYTES_MAX);
    int status = render(history, variables, unix_seconds, &text, err);
    if (!status)
        status = replace_rest(history, buffer_text(&text), prompt, err);
    if (status) {
        buffer_finish(&text);
        return status;
    }
    buffer_finish(&history->held);
    history->held = text;
    add_mark(history);
    return 0;
}

/* ---- what is certain ---- */

/* A prompt that has the first `count` of the messages that are shown, and then a user who says
 * `word`. */
static int render_guess(const struct history *history, size_t count, const char *word,
                        const struct prompt_setting *setting, struct buffer *text)
{
    json_t *shown = shown_messages(history);
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", word);
    int status = shown && messages ? 0 : HEARTH_E_MEMORY;
    for (size_t i = 0; i < count && i < json_array_size(shown) && !status; i++)
        status = json_array_insert(messages, i, json_array_get(shown, i)) ? HEARTH_E_MEMORY : 0;
    if (!status)
        status = render_template(history, messages, setting->variables, setting->unix_seconds, text,
                                 NULL);
    json_decref(shown);
    json_decref(messages);
    return status;
}

/* The ids that a text would become as the next prompt; allocated by base/memory.h. */
static int guess_ids(const struct history *history, struct text text, uint32_t **ids, size_t *count)
{
    uint32_t *rest;
    size_t kept, marks, rest_count;
    int status = tokenize_rest(history, text, &kept, &marks, &rest, &rest_count, NULL);
    if (status)
        return status;
    uint32_t *all = mem_alloc_array(kept + rest_count + 1, sizeof *all);
    if (all && kept > 0)
        memcpy(all, history->ids, kept * sizeof *all);
    if (all && rest_count > 0)
        memcpy(all + kept, rest, rest_count * sizeof *all);
    hearth_free(rest);
    *ids = all;
    *count = kept + rest_count;
    return all ? 0 : HEARTH_E_MEMORY;
}

static size_t common_ids(const uint32_t *a, size_t a_count, const uint32_t *b, size_t b_count)
{
    size_t n = 0;
    while (n < a_count && n < b_count && a[n] == b[n])
        n++;
    return n;
}

size_t history_common_ids(const struct history *a, const struct history *b)
{
    return common_ids(a->ids, a->count, b->ids, b->count);
}

/* The beginning that prompts have in common whose last user says different words. `as_held`: none
 * where they begin as what is held. */
static int certain_ids(const struct history *history, size_t messages, bool as_held,
                       const struct prompt_setting *setting, uint32_t **ids, size_t *count)
{
    static const char *const words[] = {"one", "Two"}; /* not even their beginnings are the same */
    uint32_t *guesses[2] = {NULL, NULL};
    size_t counts[2] = {0, 0};
    int status = history->plain ? HEARTH_E_UNSUPPORTED : 0;
    for (size_t i = 0; i < 2 && !status; i++) {
        struct buffer text;
        buffer_init(&text, TEXT_BYTES_MAX);
        status = render_guess(history, messages, words[i], setting, &text);
        if (!status && as_held &&
            common_bytes(buffer_text(&text), buffer_text(&history->held)) == history->held.size)
            status = HEARTH_E_MISSING;
        if (!status)
            status = guess_ids(history, buffer_text(&text), &guesses[i], &counts[i]);
        buffer_finish(&text);
    }
    if (!status) {
        *count = common_ids(guesses[0], counts[0], guesses[1], counts[1]);
        *ids = guesses[0];
    } else {
        mem_free(guesses[0]);
    }
    mem_free(guesses[1]);
    return status;
}

size_t history_stem(const struct history *history, const struct prompt_setting *setting)
{
    uint32_t *ids;
    size_t count;
    if (certain_ids(history, system_messages(history), false, setting, &ids, &count))
        return 0;
    count = common_ids(ids, count, history->ids, history->count);
    mem_free(ids);
    return count;
}

int history_ahead(const struct history *history, const struct prompt_setting *setting,
                  uint32_t **ids, size_t *count)
{
    size_t messages = json_array_size(history->messages);
    const json_t *last = messages ? json_array_get(history->messages, messages - 1) : NULL;
    const char *role = json_string_value(json_object_get(last, "role"));
    if (!role || strcmp(role, "assistant") != 0)
        return HEARTH_E_MISSING;
    return certain_ids(history, messages, true, setting, ids, count);
}

/* ---- what is left out ---- */

/* How many tokens a prompt has without the first `dropped` messages. */
static int count_without(struct history *history, size_t dropped, const json_t *variables,
                         int64_t unix_seconds, size_t *count, struct hearth_error *err)
{
    struct buffer text;
    uint32_t *ids;
    size_t before = history->dropped;
    buffer_init(&text, TEXT_BYTES_MAX);
    history->dropped = dropped;
    int status = render(history, variables, unix_seconds, &text, err);
    history->dropped = before;
    if (!status)
        status = hearth_tokenize(history->model, text.data, text.size, tokenize_flags(history, 0),
                                 &ids, count, err);
    buffer_finish(&text);
    if (!status)
        hearth_free(ids);
    return status;
}

/* The beginnings of turns that more could be dropped up to, as counts of dropped messages;
 * ascending, [messages]. */
static size_t list_turns(const struct history *history, size_t *turns)
{
    size_t head = system_messages(history), count = 0;
    for (size_t i = head + history->dropped + 1; i < json_array_size(history->messages); i++) {
        const json_t *role = json_object_get(json_array_get(history->messages, i), "role");
        if (strcmp(json_string_value(role), "user") == 0)
            turns[count++] = i - head;
    }
    return count;
}

int history_drop(struct history *history, const json_t *variables, int64_t unix_seconds,
                 size_t wanted, struct hearth_error *err)
{
    size_t *turns = mem_alloc_array(json_array_size(history->messages) + 1, sizeof *turns);
    if (!turns)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the conversation");
    size_t count = list_turns(history, turns), low = 0, high = count ? count - 1 : 0;
    int status = count ? 0 : error_set(err, HEARTH_E_LIMIT, "there is no earlier turn");
    while (!status && low < high) {
        size_t middle = (low + high) / 2, tokens;
        status = count_without(history, turns[middle], variables, unix_seconds, &tokens, err);
        if (!status && tokens <= wanted)
            high = middle;
        else
            low = middle + 1;
    }
    if (!status)
        history->dropped = turns[low];
    mem_free(turns);
    return status;
}

/* ---- the answer ---- */

int history_end_answer(struct history *history, size_t prompt_count, struct text text,
                       struct hearth_error *err)
{
    json_t *message = json_pack("{s:s, s:s%}", "role", "assistant", "content",
                                text.size ? text.data : "", text.size);
    if (!message || json_array_append_new(history->messages, message))
        return error_set(err, HEARTH_E_MEMORY, "no memory for an answer");
    char *written;
    size_t size;
    if (hearth_detokenize(history->model, history->ids + prompt_count,
                          history->count - prompt_count, true, &written, &size, NULL)) {
        forget(history);
        return 0;
    }
    bool kept = buffer_append(&history->held, written, size);
    hearth_free(written);
    if (!kept)
        forget(history);
    else
        add_mark(history);
    return 0;
}
