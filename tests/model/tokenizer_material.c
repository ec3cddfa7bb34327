#include "tokenizer_material.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

static void need(bool condition)
{
    if (!condition)
        abort();
}

static struct text copy_of(struct text text)
{
    char *copy = malloc(text.size + 1);
    need(copy != NULL);
    if (text.size)
        memcpy(copy, text.data, text.size);
    return (struct text){copy, text.size};
}

/* Room for one more; a table doubles when its count is a power of two. */
static void *room(void *table, size_t count, size_t size)
{
    if ((count & (count - 1)) != 0)
        return table;
    table = realloc(table, (count ? 2 * count : 1) * size);
    need(table != NULL);
    return table;
}

void material_init(struct material *material, const char *model, const char *pre)
{
    *material = (struct material){.model = model, .pre = pre};
    gguf_writer_init(&material->writer);
}

void material_finish(struct material *material)
{
    for (size_t i = 0; i < material->token_count; i++)
        free((void *)(uintptr_t)material->tokens[i].data);
    for (size_t i = 0; i < material->merge_count; i++)
        free((void *)(uintptr_t)material->merges[i].data);
    free(material->tokens);
    free(material->merges);
    free(material->types);
    free(material->scores);
    gguf_writer_finish(&material->writer);
}

uint32_t material_token(struct material *material, struct text text, int32_t type, float score)
{
    size_t count = material->token_count++;
    material->tokens = room(material->tokens, count, sizeof *material->tokens);
    material->types = room(material->types, count, sizeof *material->types);
    material->scores = room(material->scores, count, sizeof *material->scores);
    material->tokens[count] = copy_of(text);
    material->types[count] = type;
    material->scores[count] = score;
    return (uint32_t)count;
}

void material_merge(struct material *material, struct text text)
{
    size_t count = material->merge_count++;
    material->merges = room(material->merges, count, sizeof *material->merges);
    material->merges[count] = copy_of(text);
}

void material_bytes(struct material *material)
{
    uint32_t next = 256;
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool plain = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
        char spelled[UTF8_MAX];
        size_t size = utf8_encode(plain ? byte : next++, spelled);
        material_token(material, (struct text){spelled, size}, TOKEN_NORMAL, 0);
    }
}

void material_byte_names(struct material *material)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        material_token(material, text_of(name), TOKEN_BYTE, 0);
    }
}

static bool has_token(const struct material *material, struct text text)
{
    for (size_t i = 0; i < material->token_count; i++)
        if (text_equal(material->tokens[i], text))
            return true;
    return false;
}

void material_random_merges(struct material *material, struct random *random, const char *alphabet,
                            size_t count)
{
    size_t first = material->token_count, letters = strlen(alphabet);
    for (size_t i = 0; i < count; i++) {
        char line[64] = "";
        size_t size = 0;
        for (int side = 0; side < 2; side++) {
            uint32_t pick =
                random_below(random, (uint32_t)(letters + material->token_count - first));
            struct text part = pick < letters ? (struct text){&alphabet[pick], 1}
                                              : material->tokens[first + pick - letters];
            if (size + part.size > sizeof line - 2)
                part.size = 1;
            memcpy(line + size, part.data, part.size);
            size += part.size;
            if (side == 0)
                line[size++] = ' ';
        }
        material_merge(material, (struct text){line, size});
        char *space = memchr(line, ' ', size);
        memmove(space, space + 1, size - (size_t)(space - line) - 1);
        struct text joined = {line, size - 1};
        if (!has_token(material, joined))
            material_token(material, joined, TOKEN_NORMAL, -(float)random_below(random, 20));
    }
}

int material_open(struct material *material, struct gguf **gguf, struct tokenizer **tokenizer,
                  struct hearth_error *err)
{
    struct gguf_writer *writer = &material->writer;
    char path[TEST_PATH_MAX];
    gguf_writer_string(writer, "tokenizer.ggml.model", material->model);
    if (material->pre)
        gguf_writer_string(writer, "tokenizer.ggml.pre", material->pre);
    gguf_writer_texts(writer, "tokenizer.ggml.tokens", material->tokens, material->token_count);
    gguf_writer_array(writer, "tokenizer.ggml.token_type", GGUF_I32, material->types,
                      material->token_count);
    gguf_writer_array(writer, "tokenizer.ggml.scores", GGUF_F32, material->scores,
                      material->token_count);
    if (strcmp(material->model, "llama") != 0)
        gguf_writer_texts(writer, "tokenizer.ggml.merges", material->merges, material->merge_count);
    test_temp_file(path);
    test_write_file(path, gguf_writer_bytes(writer));
    int status = gguf_open(path, gguf, err);
    remove(path);
    if (status)
        return status;
    status = tokenizer_open(*gguf, tokenizer, err);
    if (status)
        gguf_close(*gguf);
    return status;
}

uint32_t random_below(struct random *random, uint32_t end)
{
    return (uint32_t)(random_u64(random) >> 32) % end;
}

size_t random_valid_text(struct random *random, char *out, size_t size)
{
    static const uint32_t begins[] = {' ', 'a', 'A', '0', 0xe0, 0x400, 0x900, 0x4e00, 0x1f600, 0};
    size_t at = 0;
    while (at + UTF8_MAX <= size) {
        uint32_t begin = begins[random_below(random, 10)];
        at += utf8_encode(begin + random_below(random, begin ? 20 : 0x80), out + at);
    }
    return at;
}

size_t random_bytes(struct random *random, char *out, size_t size)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (char)random_below(random, 256);
    return size;
}
