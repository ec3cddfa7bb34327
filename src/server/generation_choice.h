/* One answer of a generation: its text as it comes, and what of it was told. Shared by the files of
 * generation.h only. */
#ifndef SERVER_GENERATION_CHOICE_H
#define SERVER_GENERATION_CHOICE_H

#include "server/generation.h"
#include "server/reasoning.h"

/* Tokens that were drawn but not told. While they are gathered texts are offsets into `bytes`, and
 * the first of a token's `top` is a number in `tops`. */
struct generation_tokens {
    struct generation_token *items;
    struct work_token *tops;
    struct buffer bytes;
    size_t count, room, top_count, top_room;
};

struct generation_choice {
    struct generation *generation;
    struct backend_job *job; /* NULL before it is asked, and when it ended */
    uint32_t index;
    struct reasoning reasoning;
    struct buffer text, thought; /* so far */
    size_t text_told, thought_told;
    struct generation_tokens tokens;
    struct buffer end_texts; /* of `end` */
    struct work_end end;
    uint64_t reasoning_tokens;
    uint32_t token_count;
    uint64_t last_text_ns;
    bool begun, ended, end_told;
};

void generation_choice_init(struct generation_choice *choice, struct generation *generation,
                            uint32_t index);
void generation_choice_finish(struct generation_choice *choice);

/* Adds what came. False without memory. */
bool generation_choice_add(struct generation_choice *choice, const struct work_text *work,
                           struct text reasoning, struct message_reader *tokens,
                           bool keep_reasoning, bool keep_tokens);
/* Takes the end, and lets out what the reasoning held back. */
bool generation_choice_end(struct generation_choice *choice, const struct work_end *end);

/* What was not told yet; false where that is nothing. It lives until something is added. */
bool generation_choice_piece(struct generation_choice *choice, struct generation_piece *piece);
void generation_choice_told(struct generation_choice *choice);

#endif
