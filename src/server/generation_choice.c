#include "server/generation_choice.h"

#include "base/memory.h"

#define ANSWER_MAX ((size_t)64 << 20)

void generation_choice_init(struct generation_choice *choice, struct generation *generation,
                            uint32_t index)
{
    *choice = (struct generation_choice){.generation = generation, .index = index};
    buffer_init(&choice->text, ANSWER_MAX);
    buffer_init(&choice->thought, ANSWER_MAX);
    buffer_init(&choice->tokens.bytes, ANSWER_MAX);
    buffer_init(&choice->end_texts, ANSWER_MAX);
    reasoning_begin(&choice->reasoning, false);
}

void generation_choice_finish(struct generation_choice *choice)
{
    buffer_finish(&choice->text);
    buffer_finish(&choice->thought);
    buffer_finish(&choice->tokens.bytes);
    buffer_finish(&choice->end_texts);
    mem_free(choice->tokens.items);
    mem_free(choice->tokens.tops);
}

/* ---- tokens ---- */

static bool grow(void **items, size_t *room, size_t count, size_t size)
{
    if (count <= *room)
        return true;
    size_t wanted = 2 * count + 8;
    void *larger = mem_realloc_array(*items, wanted, size);
    if (!larger)
        return false;
    *items = larger;
    *room = wanted;
    return true;
}

/* The text of a token as an offset, until the bytes no longer move. */
static struct work_token keep_token(struct generation_tokens *tokens, struct work_token token)
{
    size_t at = tokens->bytes.size;
    buffer_append_text(&tokens->bytes, token.bytes);
    token.bytes.data = (const char *)(uintptr_t)at;
    return token;
}

static bool add_token(struct generation_tokens *tokens, struct message_reader *reader)
{
    struct work_token top[HEARTH_TOP_TOKENS_MAX], token;
    uint32_t count = 0;
    if (!work_text_token(reader, &token, top, &count) ||
        !grow((void **)&tokens->items, &tokens->room, tokens->count + 1, sizeof *tokens->items) ||
        !grow((void **)&tokens->tops, &tokens->top_room, tokens->top_count + count,
              sizeof *tokens->tops))
        return false;
    tokens->items[tokens->count++] = (struct generation_token){
        .token = keep_token(tokens, token),
        .top = (const struct work_token *)(uintptr_t)tokens->top_count,
        .top_count = count,
    };
    for (uint32_t i = 0; i < count; i++)
        tokens->tops[tokens->top_count++] = keep_token(tokens, top[i]);
    return !tokens->bytes.failed;
}

static void place(struct work_token *token, const char *bytes)
{
    token->bytes.data = bytes ? bytes + (uintptr_t)token->bytes.data : "";
}

static void place_tokens(struct generation_tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++) {
        place(&tokens->items[i].token, tokens->bytes.data);
        if (tokens->tops)
            tokens->items[i].top = tokens->tops + (uintptr_t)tokens->items[i].top;
    }
    for (size_t i = 0; i < tokens->top_count; i++)
        place(&tokens->tops[i], tokens->bytes.data);
}

/* ---- text ---- */

bool generation_choice_add(struct generation_choice *choice, const struct work_text *work,
                           struct text reasoning, struct message_reader *tokens,
                           bool keep_reasoning, bool keep_tokens)
{
    bool inside = reasoning_inside(&choice->reasoning);
    uint32_t count = work->tokens > choice->token_count ? work->tokens - choice->token_count : 0;
    if (keep_reasoning)
        buffer_append_text(&choice->text, work->text);
    else
        reasoning_push(&choice->reasoning, work->text, &choice->text, &choice->thought);
    buffer_append_text(&choice->thought, reasoning);
    if (inside || reasoning_inside(&choice->reasoning) || reasoning.size > 0)
        choice->reasoning_tokens += count;
    choice->token_count += count;
    for (uint32_t i = 0; keep_tokens && i < work->count; i++) {
        if (!add_token(&choice->tokens, tokens))
            return false;
    }
    return !choice->text.failed && !choice->thought.failed;
}

static struct text keep_text(struct buffer *texts, struct text text)
{
    size_t at = texts->size;
    buffer_append_text(texts, text);
    return (struct text){texts->data ? texts->data + at : NULL, text.size};
}

bool generation_choice_end(struct generation_choice *choice, const struct work_end *end)
{
    struct buffer *texts = &choice->end_texts;
    reasoning_end(&choice->reasoning, &choice->text, &choice->thought);
    choice->end = *end;
    choice->ended = true;
    buffer_reserve(texts, end->session.size + end->cause.size + end->stop_string.size + 1);
    choice->end.session = keep_text(texts, end->session);
    choice->end.cause = keep_text(texts, end->cause);
    choice->end.stop_string = keep_text(texts, end->stop_string);
    if (texts->failed)
        choice->end.session = choice->end.cause = choice->end.stop_string = (struct text){NULL, 0};
    return !texts->failed && !choice->text.failed && !choice->thought.failed;
}

bool generation_choice_piece(struct generation_choice *choice, struct generation_piece *piece)
{
    size_t text = choice->text.size - choice->text_told;
    size_t thought = choice->thought.size - choice->thought_told;
    if (text == 0 && thought == 0 && choice->tokens.count == 0)
        return false;
    place_tokens(&choice->tokens);
    *piece = (struct generation_piece){
        .choice = choice->index,
        .text = {text ? choice->text.data + choice->text_told : "", text},
        .reasoning = {thought ? choice->thought.data + choice->thought_told : "", thought},
        .tokens = choice->tokens.items,
        .token_count = (uint32_t)choice->tokens.count,
    };
    return true;
}

void generation_choice_told(struct generation_choice *choice)
{
    choice->text_told = choice->text.size;
    choice->thought_told = choice->thought.size;
    choice->tokens.count = choice->tokens.top_count = choice->tokens.bytes.size = 0;
}
