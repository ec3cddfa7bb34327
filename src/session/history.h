/* The messages of a conversation and the tokens that they became.
 *
 * The text that the template makes of all messages is held together with its ids. A later rendering
 * is compared with it, and up to the last mark before the first difference the ids stay as they
 * are, drawn ones included; only the rest is tokenized. Marks stand where a special token parts the
 * text, so that no merge of tokens reaches across: before and behind each answer. */
#ifndef SESSION_HISTORY_H
#define SESSION_HISTORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "hearth/session.h"

struct history_mark {
    size_t text, ids; /* how much of the held text and ids lies before it */
};

struct history {
    const struct hearth_model *model;
    bool plain;       /* the messages' texts as they are, no template */
    json_t *messages; /* an array */
    size_t dropped;   /* of them, behind the system prompt: they are left out of prompts */
    bool edited;      /* since the last prompt, other than at the end */
    struct buffer held;
    uint32_t *ids; /* what `held` became */
    size_t count, capacity;
    struct history_mark *marks; /* ascending in both */
    size_t mark_count, mark_capacity;
};

int history_init(struct history *history, const struct hearth_model *model,
                 struct hearth_error *err);
void history_finish(struct history *history);
/* Messages and tokens of another one; HEARTH_E_MEMORY. */
int history_copy(struct history *to, const struct history *from, struct hearth_error *err);

/* Whether the messages' texts stand for themselves; always where the model has no template. */
void history_set_plain(struct history *history, bool plain);

/* HEARTH_E_FORMAT for what is no message, or no array of them. */
int history_append(struct history *history, const char *message, size_t size,
                   struct hearth_error *err);
int history_set(struct history *history, const char *messages, size_t size,
                struct hearth_error *err);
void history_truncate(struct history *history, size_t count);

struct history_prompt {
    size_t kept;           /* of the ids held before, these are the first of the prompt's */
    enum hearth_miss miss; /* why it is not all of them */
};

/* Makes text and ids those of a prompt: all messages, and the beginning of the next answer.
 * `variables` is a JSON object or NULL. On failure text and ids are as they were. */
int history_begin_answer(struct history *history, const json_t *variables, int64_t unix_seconds,
                         struct history_prompt *prompt, struct hearth_error *err);
/* The beginning of the ids that two have in common. */
size_t history_common_ids(const struct history *a, const struct history *b);
/* What a template is given beside the messages. */
struct prompt_setting {
    const json_t *variables; /* an object, or NULL */
    int64_t unix_seconds;
};
/* How many of the ids every prompt begins with that has the same messages of the system, whatever
 * its user says; 0 where that cannot be told. */
size_t history_stem(const struct history *history, const struct prompt_setting *setting);
/* The ids that the next prompt will begin with, whatever its user says, where the template writes
 * the messages otherwise than they are held, and the last is an answer. HEARTH_E_MISSING where it
 * does not. To be given back by mem_free. */
int history_ahead(const struct history *history, const struct prompt_setting *setting,
                  uint32_t **ids, size_t *count);
/* Drops more of the oldest turns, but not the last: so many that a prompt has at most `wanted`
 * tokens, or all that can be. HEARTH_E_LIMIT where there are none. The ids stay as they are. */
int history_drop(struct history *history, const json_t *variables, int64_t unix_seconds,
                 size_t wanted, struct hearth_error *err);
/* A token of the answer. HEARTH_E_MEMORY. */
int history_push(struct history *history, uint32_t id, struct hearth_error *err);
/* The answer, whose ids (with the one that ended it, which the template writes too) lie behind the
 * first `prompt_count`, becomes a message. */
int history_end_answer(struct history *history, size_t prompt_count, struct text text,
                       struct hearth_error *err);

#endif
