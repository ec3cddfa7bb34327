/* Any vocabulary and any text: opening gives an error or a tokenizer whose calls all return, whose
 * ids lie in the vocabulary, and for which a text in pieces is the text as a whole. Input: one byte
 * of choices, then records of a length byte and as many bytes; the first bytes of a record say what
 * it is, the last record is the text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/tokenizer.h"
#include "support/gguf_writer.h"

#define RECORDS_MAX 512

static const char *const pres[] = {"default", "gpt-2",    "llama-bpe",  "qwen35",
                                   "kimi-k2", "gpt-4o",   "afmoe",      "deepseek-llm",
                                   "jais-2",  "superbpe", "chameleon",  "exaone-moe",
                                   "youtu",   "viking",   "sarvam-moe", "deepseek-v3"};

struct vocabulary {
    struct text tokens[RECORDS_MAX], merges[RECORDS_MAX];
    int32_t types[RECORDS_MAX];
    float scores[RECORDS_MAX];
    size_t tokens_count, merges_count;
    struct text text;
};

static void read_records(struct vocabulary *vocabulary, const char *data, size_t size)
{
    size_t at = 0;
    while (at + 2 < size && vocabulary->tokens_count < RECORDS_MAX &&
           vocabulary->merges_count < RECORDS_MAX) {
        size_t length = (unsigned char)data[at] % 24, what = (unsigned char)data[at + 1];
        at += 2;
        if (length > size - at)
            length = size - at;
        struct text record = {data + at, length};
        if (what == 255)
            break;
        if (what & 1) {
            vocabulary->merges[vocabulary->merges_count++] = record;
        } else {
            vocabulary->types[vocabulary->tokens_count] = (int32_t)(what >> 1 & 7);
            vocabulary->scores[vocabulary->tokens_count] = -(float)(what >> 4);
            vocabulary->tokens[vocabulary->tokens_count++] = record;
        }
        at += length;
    }
    vocabulary->text = (struct text){data + at, size - at};
}

static struct gguf *write_and_open(const struct vocabulary *vocabulary, unsigned choice)
{
    static const char *const models[] = {"gpt2", "llama", "gemma4", "gpt2"};
    struct gguf_writer writer;
    struct gguf *gguf = NULL;
    char path[TEST_PATH_MAX];
    gguf_writer_init(&writer);
    gguf_writer_string(&writer, "tokenizer.ggml.model", models[choice & 3]);
    gguf_writer_string(&writer, "tokenizer.ggml.pre", pres[choice >> 2 & 15]);
    gguf_writer_string(&writer, "general.name", choice & 64 ? "phi-3" : "x");
    gguf_writer_texts(&writer, "tokenizer.ggml.tokens", vocabulary->tokens,
                      vocabulary->tokens_count);
    gguf_writer_array(&writer, "tokenizer.ggml.token_type", GGUF_I32, vocabulary->types,
                      vocabulary->tokens_count);
    gguf_writer_array(&writer, "tokenizer.ggml.scores", GGUF_F32, vocabulary->scores,
                      vocabulary->tokens_count);
    gguf_writer_texts(&writer, "tokenizer.ggml.merges", vocabulary->merges,
                      vocabulary->merges_count);
    test_temp_file(path);
    test_write_file(path, gguf_writer_bytes(&writer));
    if (gguf_open(path, &gguf, NULL))
        abort();
    remove(path);
    gguf_writer_finish(&writer);
    return gguf;
}

static void use(const struct tokenizer *tokenizer, struct text text, bool special)
{
    struct token_list list = {NULL, 0, 0};
    struct buffer whole, pieces;
    struct tokenize_options options = {special, special};
    buffer_init(&whole, (size_t)1 << 26);
    buffer_init(&pieces, (size_t)1 << 26);
    if (tokenizer_encode(tokenizer, text, options, &list, NULL))
        abort();
    for (size_t i = 0; i < list.count; i++) {
        if (list.ids[i] >= tokenizer_vocab_size(tokenizer))
            abort();
        tokenizer_piece(tokenizer, list.ids[i], special, i == 0, &pieces);
        tokenizer_is_end(tokenizer, list.ids[i]);
        tokenizer_kind(tokenizer, list.ids[i]);
    }
    int status = tokenizer_decode(tokenizer, list.ids, list.count, special, &whole, NULL);
    if (!status && !pieces.failed && whole.size > pieces.size)
        abort();
    buffer_finish(&whole);
    buffer_finish(&pieces);
    token_list_finish(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct vocabulary *vocabulary = MEM_NEW(struct vocabulary);
    struct tokenizer *tokenizer;
    if (!vocabulary)
        abort();
    read_records(vocabulary, (const char *)data + 1, size - 1);
    struct gguf *gguf = write_and_open(vocabulary, data[0]);
    if (tokenizer_open(gguf, &tokenizer, NULL) == 0) {
        use(tokenizer, vocabulary->text, false);
        use(tokenizer, vocabulary->text, true);
        tokenizer_close(tokenizer);
    }
    gguf_close(gguf);
    mem_free(vocabulary);
    return 0;
}
