#include "server/reasoning.h"

static const struct text open_tag = {"<think>", 7};
static const struct text close_tag = {"</think>", 8};

void reasoning_begin(struct reasoning *reasoning, bool opens)
{
    *reasoning = (struct reasoning){.place = opens ? REASONING_OPENED : REASONING_START};
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static struct buffer *output_of(const struct reasoning *reasoning, struct buffer *text,
                                struct buffer *thought)
{
    return reasoning_inside(reasoning) ? thought : text;
}

static void let_go(struct reasoning *reasoning, struct buffer *out)
{
    buffer_append(out, reasoning->held, reasoning->held_size);
    reasoning->held_size = 0;
    reasoning->matched = 0;
}

/* What was held turns out to be no tag, so that it belongs to the text or thought. */
static void was_no_tag(struct reasoning *reasoning, struct buffer *out)
{
    let_go(reasoning, out);
    reasoning->place = reasoning->place == REASONING_START    ? REASONING_SAID
                       : reasoning->place == REASONING_OPENED ? REASONING_THOUGHT
                                                              : reasoning->place;
}

/* Room for a whole tag is always left. */
static void hold_space(struct reasoning *reasoning, char c, struct buffer *out)
{
    if (reasoning->held_size + close_tag.size == sizeof reasoning->held)
        was_no_tag(reasoning, out);
    if (reasoning->place == REASONING_SAID)
        buffer_append_char(out, c);
    else
        reasoning->held[reasoning->held_size++] = c;
}

/* Before the tag that the place waits for. In both tags '<' stands at the beginning alone, so a
 * byte that does not go on with one can only begin another. */
static void take(struct reasoning *reasoning, char c, struct buffer *out)
{
    struct text tag = reasoning->place == REASONING_START ? open_tag : close_tag;
    if (reasoning->matched > 0 && c != tag.data[reasoning->matched])
        was_no_tag(reasoning, out);
    if (reasoning->place == REASONING_SAID) {
        buffer_append_char(out, c);
    } else if (c == tag.data[reasoning->matched]) {
        reasoning->held[reasoning->held_size++] = c;
        if (++reasoning->matched == tag.size) {
            reasoning->place =
                reasoning->place == REASONING_START ? REASONING_OPENED : REASONING_CLOSED;
            reasoning->held_size = reasoning->matched = 0;
        }
    } else if (is_space(c)) {
        if (reasoning->place != REASONING_OPENED)
            hold_space(reasoning, c, out);
    } else {
        was_no_tag(reasoning, out);
        buffer_append_char(out, c);
    }
}

void reasoning_push(struct reasoning *reasoning, struct text piece, struct buffer *text,
                    struct buffer *thought)
{
    size_t i = 0;
    for (; i < piece.size && reasoning->place != REASONING_SAID; i++) {
        char c = piece.data[i];
        if (reasoning->place != REASONING_CLOSED) {
            take(reasoning, c, output_of(reasoning, text, thought));
        } else if (!is_space(c)) {
            reasoning->place = REASONING_SAID;
            buffer_append_char(text, c);
        }
    }
    if (i < piece.size)
        buffer_append(text, piece.data + i, piece.size - i);
}

void reasoning_end(struct reasoning *reasoning, struct buffer *text, struct buffer *thought)
{
    /* white space at the end of a thought that was cut off is at its edge, too */
    if (reasoning_inside(reasoning))
        while (reasoning->held_size > 0 && is_space(reasoning->held[reasoning->held_size - 1]))
            reasoning->held_size--;
    let_go(reasoning, output_of(reasoning, text, thought));
}
