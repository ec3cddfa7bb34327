/* The tokenizer against recorded results of llama.cpp: the cuts of every pre-tokenizer (always),
 * the two models that hearth is developed with (where HEARTH_MODELS names their directory), and the
 * vectors that come with llama.cpp's vocabularies (where HEARTH_VOCABS names theirs). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "model/pretokenizer.h"
#include "model/tokenizer.h"

#define GOLDEN HEARTH_GOLDEN_DIR "/tokenizer/"
#define PIECES_TEXT_SIZE 3000

static bool read_file(const char *path, struct buffer *out)
{
    FILE *file = fopen(path, "rb");
    buffer_init(out, 1u << 30);
    if (!file)
        return false;
    for (size_t got = 1; got;) {
        char *room = buffer_reserve(out, 65536);
        assert_non_null(room);
        got = fread(room, 1, 65536, file);
        out->size += got;
    }
    fclose(file);
    buffer_append_char(out, '\0');
    out->size--;
    return true;
}

static void read_golden(const char *name, struct buffer *out)
{
    char path[1024];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    if (!read_file(path, out))
        fail_msg("cannot read %s", path);
}

/* ---- cuts ---- */

static const char *const pres[] = {
    "default",      "llama-bpe",      "gpt-2",       "starcoder",  "smollm",
    "falcon",       "qwen2",          "qwen35",      "laguna",     "ufakzeka",
    "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5",   "afmoe",
    "youtu",        "tiny_aya",       "tekken",      "gpt-4o",     "granite-embed-multi-97m",
    "kimi-k2",      "jais-2",         "superbpe",    "bailingmoe", "seed-coder",
    "exaone-moe",   "minicpm5",       "bloom",       "viking",     "chameleon",
    "gemma4"};
#define PRE_COUNT (sizeof pres / sizeof *pres)

static void describe_pieces(const char *pre, struct text text, struct buffer *out)
{
    struct pretokenizer *pretokenizer;
    struct pieces pieces;
    struct text piece;
    struct hearth_error err;
    size_t column = 0;
    if (pretokenizer_open(text_of(pre), &pretokenizer, &err) ||
        pretokenizer_split(pretokenizer, text, &pieces, &err))
        fail_msg("%s", err.text);
    buffer_format(out, "%s:\n", pre);
    while (pieces_next(&pieces, &piece)) {
        size_t before = out->size;
        buffer_format(out, column ? " %zu" : "%zu", piece.size);
        column += out->size - before;
        if (column > 94) {
            buffer_append_char(out, '\n');
            column = 0;
        }
    }
    buffer_append_text(out, column ? TEXT("\n") : TEXT(""));
    pieces_finish(&pieces);
    pretokenizer_close(pretokenizer);
}

static void describe_all(struct buffer *out)
{
    struct buffer text;
    read_golden("text.bin", &text);
    buffer_init(out, 1u << 24);
    for (size_t i = 0; i < PRE_COUNT; i++)
        describe_pieces(pres[i], (struct text){text.data, PIECES_TEXT_SIZE}, out);
    assert_false(out->failed);
    buffer_finish(&text);
}

static void every_pre_tokenizer_cuts_as_recorded(void **state)
{
    (void)state;
    struct buffer wanted, got;
    read_golden("pieces.txt", &wanted);
    describe_all(&got);
    assert_string_equal(got.data, wanted.data);
    buffer_finish(&wanted);
    buffer_finish(&got);
}

/* ---- ids ---- */

struct opened {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
};

static void open_file(struct opened *opened, const char *path)
{
    struct hearth_error err;
    if (gguf_open(path, &opened->gguf, &err) ||
        tokenizer_open(opened->gguf, &opened->tokenizer, &err))
        fail_msg("%s: %s", path, err.text);
}

static void close_file(struct opened *opened)
{
    tokenizer_close(opened->tokenizer);
    gguf_close(opened->gguf);
}

/* `wanted` are decimal numbers with white space between them. */
static void check_ids(const struct opened *opened, struct text text, bool special,
                      const char *wanted, const char *where)
{
    struct token_list list = {NULL, 0, 0};
    struct hearth_error err;
    struct tokenize_options options = {special && tokenizer_adds_bos(opened->tokenizer), special};
    if (tokenizer_encode(opened->tokenizer, text, options, &list, &err))
        fail_msg("%s: %s", where, err.text);
    size_t count = 0;
    for (char *end; *wanted; wanted = end) {
        unsigned long id = strtoul(wanted, &end, 10);
        if (end == wanted)
            break;
        if (count >= list.count || list.ids[count] != id)
            fail_msg("%s: token %zu is not %lu", where, count, id);
        count++;
    }
    assert_int_equal(count, list.count);
    token_list_finish(&list);
}

static void check_model(const char *directory, const char *model, const char *name)
{
    char path[1024];
    struct opened opened;
    struct buffer text, ids;
    snprintf(path, sizeof path, "%s/%s.gguf", directory, model);
    FILE *file = fopen(path, "rb");
    if (!file) {
        print_message("%s is not there: skipped\n", path);
        return;
    }
    fclose(file);
    open_file(&opened, path);
    read_golden("text.bin", &text);
    for (int special = 0; special < 2; special++) {
        char golden[64];
        snprintf(golden, sizeof golden, "%s%s.ids", name, special ? "" : "-plain");
        read_golden(golden, &ids);
        check_ids(&opened, (struct text){text.data, text.size}, special, ids.data, golden);
        buffer_finish(&ids);
    }
    buffer_finish(&text);
    close_file(&opened);
}

static void real_models_give_llama_tokenizes_ids(void **state)
{
    (void)state;
    const char *directory = getenv("HEARTH_MODELS");
    if (!directory) {
        print_message("HEARTH_MODELS is not set: the models' ids are not checked\n");
        skip();
    }
    check_model(directory, "SmolLM2-135M-Instruct.Q4_1", "smollm2");
    check_model(directory, "gemma-3-270m-q4_k_m", "gemma3");
}

/* NAME.gguf.inp holds texts with a line of its own between them, NAME.gguf.out one line of ids for
 * each. */
static void check_vocabulary(const char *directory, const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[1024];
    struct opened opened;
    struct buffer texts, ids;
    snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf", directory, name);
    open_file(&opened, path);
    strcat(path, ".inp");
    if (!read_file(path, &texts))
        fail_msg("cannot read %s", path);
    strcpy(path + strlen(path) - 4, ".out");
    if (!read_file(path, &ids))
        fail_msg("cannot read %s", path);
    char *text = texts.data, *line = ids.data;
    while (text && line) {
        char *end = strstr(text, separator), *line_end = strchr(line, '\n');
        if (line_end)
            *line_end = '\0';
        size_t size = end ? (size_t)(end - text) : texts.size - (size_t)(text - texts.data);
        check_ids(&opened, (struct text){text, size}, false, line, path);
        text = end ? end + sizeof separator - 1 : NULL;
        line = line_end ? line_end + 1 : NULL;
    }
    assert_null(text);
    buffer_finish(&texts);
    buffer_finish(&ids);
    close_file(&opened);
}

static void vocabularies_give_their_vectors(void **state)
{
    (void)state;
    static const char *const names[] = {"command-r", "deepseek-coder", "deepseek-llm", "falcon",
                                        "gemma-4",   "gpt-2",          "llama-bpe",    "llama-spm",
                                        "mpt",       "phi-3",          "qwen2",        "qwen35",
                                        "refact",    "starcoder"};
    const char *directory = getenv("HEARTH_VOCABS");
    if (!directory) {
        print_message("HEARTH_VOCABS is not set: the vocabularies' vectors are not checked\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_vocabulary(directory, names[i]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pre_tokenizer_cuts_as_recorded),
        cmocka_unit_test(real_models_give_llama_tokenizes_ids),
        cmocka_unit_test(vocabularies_give_their_vectors),
    };
    if (argc == 2 && strcmp(argv[1], "--write-pieces") == 0) {
        struct buffer out;
        describe_all(&out);
        fwrite(out.data, 1, out.size, stdout);
        buffer_finish(&out);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
