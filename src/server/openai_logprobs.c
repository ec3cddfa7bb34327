#include <math.h>

#include "server/openai.h"

/* OpenAI's number for what has no probability; JSON has no infinity. */
#define LOGPROB_NONE (-9999.0)

json_t *openai_text(struct text text)
{
    struct buffer valid;
    json_t *string = json_stringn(text.size ? text.data : "", text.size);
    if (string)
        return string;
    buffer_init(&valid, 3 * text.size + 1);
    if (buffer_append_valid_utf8(&valid, text))
        string = json_stringn(valid.data, valid.size);
    buffer_finish(&valid);
    return string;
}

static json_t *describe(const struct work_token *token)
{
    json_t *bytes = json_array();
    double logprob = token->logprob >= LOGPROB_NONE && token->logprob <= 0 ? token->logprob
                     : token->logprob > 0                                  ? 0.0
                                                                           : LOGPROB_NONE;
    for (size_t i = 0; i < token->bytes.size; i++)
        json_array_append_new(bytes, json_integer((unsigned char)token->bytes.data[i]));
    return json_pack("{s:i, s:o, s:f, s:o}", "id", (int)token->id, "token",
                     openai_text(token->bytes), "logprob", logprob, "bytes", bytes);
}

json_t *openai_logprob(const struct generation_token *token)
{
    json_t *object = describe(&token->token), *top = json_array();
    for (uint32_t i = 0; i < token->top_count; i++)
        json_array_append_new(top, describe(&token->top[i]));
    json_object_set_new(object, "top_logprobs", top);
    return object;
}

json_t *openai_chat_logprobs(json_t *tokens)
{
    return json_pack("{s:o, s:n}", "content", tokens, "refusal");
}

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; text && *text; text++)
        count += (*text & 0xc0) != 0x80;
    return count;
}

static json_t *top_of(const json_t *token)
{
    const json_t *top = json_object_get(token, "top_logprobs");
    json_t *object = json_object();
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *other = json_array_get(top, i);
        const char *name = json_string_value(json_object_get(other, "token"));
        if (name && !json_object_get(object, name)) /* the best of those with the same text */
            json_object_set(object, name, json_object_get(other, "logprob"));
    }
    return object;
}

json_t *openai_completion_logprobs(json_t *tokens, size_t *offset)
{
    json_t *texts = json_array(), *logprobs = json_array(), *tops = json_array();
    json_t *offsets = json_array();
    for (size_t i = 0; i < json_array_size(tokens); i++) {
        json_t *token = json_array_get(tokens, i), *text = json_object_get(token, "token");
        json_array_append(texts, text);
        json_array_append(logprobs, json_object_get(token, "logprob"));
        json_array_append_new(tops, top_of(token));
        json_array_append_new(offsets, json_integer((json_int_t)*offset));
        *offset += characters(json_string_value(text));
    }
    json_decref(tokens);
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", texts, "token_logprobs", logprobs,
                     "top_logprobs", tops, "text_offset", offsets);
}
