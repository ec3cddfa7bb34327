#include "infer/vocabulary.h"

#include <string.h>

#include "model/tokenizer.h"

static bool piece_of(const void *context, uint32_t id, bool special, bool first, struct buffer *out)
{
    return tokenizer_piece(context, id, special, first, out);
}

static int encode_with(const void *context, struct text text, uint32_t *ids, size_t max,
                       size_t *count, struct hearth_error *err)
{
    struct token_list list = {0};
    int status = tokenizer_encode(context, text, (struct tokenize_options){0}, &list, err);
    if (status == 0) {
        *count = list.count < max ? list.count : max;
        if (*count > 0)
            memcpy(ids, list.ids, *count * sizeof *ids);
    }
    token_list_finish(&list);
    return status;
}

struct vocabulary vocabulary_of(const struct tokenizer *tokenizer)
{
    return (struct vocabulary){
        .context = tokenizer,
        .size = tokenizer_vocab_size(tokenizer),
        .piece = piece_of,
        .encode = encode_with,
    };
}
