/* The tokenizer on vocabularies made here: against plain, slow versions of the same rules, and on
 * everything that a file may get wrong. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "tokenizer_material.h"

#define META "\xe2\x96\x81"

struct opened {
    struct material material;
    struct gguf *gguf;
    struct tokenizer *tokenizer;
};

static void open_material(struct opened *opened)
{
    struct hearth_error err = {.text = ""};
    if (material_open(&opened->material, &opened->gguf, &opened->tokenizer, &err))
        fail_msg("%s", err.text);
}

static void close_opened(struct opened *opened)
{
    tokenizer_close(opened->tokenizer);
    gguf_close(opened->gguf);
    material_finish(&opened->material);
}

static int refused(struct opened *opened, struct hearth_error *err)
{
    int status = material_open(&opened->material, &opened->gguf, &opened->tokenizer, err);
    if (!status)
        fail_msg("the vocabulary was accepted");
    material_finish(&opened->material);
    return status;
}

static struct token_list encode(const struct opened *opened, struct text text, bool special,
                                bool parse)
{
    struct token_list list = {NULL, 0, 0};
    struct hearth_error err;
    struct tokenize_options options = {.add_special = special, .parse_special = parse};
    if (tokenizer_encode(opened->tokenizer, text, options, &list, &err))
        fail_msg("%s", err.text);
    return list;
}

static void assert_ids(struct token_list list, const uint32_t *ids, size_t count)
{
    assert_int_equal(list.count, count);
    if (count)
        assert_memory_equal(list.ids, ids, count * sizeof *ids);
    token_list_finish(&list);
}

#define ASSERT_IDS(list, ...)                                                                      \
    do {                                                                                           \
        const uint32_t wanted[] = {__VA_ARGS__};                                                   \
        assert_ids(list, wanted, sizeof wanted / sizeof *wanted);                                  \
    } while (0)

static void assert_decodes(const struct opened *opened, const uint32_t *ids, size_t count,
                           bool special, struct text wanted)
{
    struct buffer out;
    struct hearth_error err;
    buffer_init(&out, 1u << 30);
    assert_int_equal(tokenizer_decode(opened->tokenizer, ids, count, special, &out, &err), 0);
    assert_int_equal(out.size, wanted.size);
    if (wanted.size)
        assert_memory_equal(out.data, wanted.data, wanted.size);
    buffer_finish(&out);
}

/* ---- merging, against the rule itself ---- */

/* Symbols as ends in the text; the first of equal candidates wins. */
struct plain {
    struct text symbols[400];
    size_t count;
};

static int merge_rank(const struct material *material, struct text left, struct text right)
{
    for (size_t i = 0; i < material->merge_count; i++) {
        struct text line = material->merges[i];
        if (line.size == left.size + right.size + 1 && line.data[left.size] == ' ' &&
            memcmp(line.data, left.data, left.size) == 0 &&
            memcmp(line.data + left.size + 1, right.data, right.size) == 0)
            return (int)i;
    }
    return -1;
}

static int token_id(const struct material *material, struct text text)
{
    for (size_t i = material->token_count; i-- > 0;)
        if (text_equal(material->tokens[i], text))
            return (int)i;
    return -1;
}

/* What merging two neighbours costs: the rank, or minus the score; infinity for never. */
static double cost(const struct material *material, struct text left, struct text right)
{
    if (strcmp(material->model, "llama") != 0) {
        int found = merge_rank(material, left, right);
        return found < 0 ? (double)INFINITY : found;
    }
    int id = token_id(material, (struct text){left.data, left.size + right.size});
    return id < 0 ? (double)INFINITY : -(double)material->scores[id];
}

static void merge_plainly(const struct material *material, struct plain *plain)
{
    for (;;) {
        double lowest = (double)INFINITY;
        size_t at = 0;
        for (size_t i = 0; i + 1 < plain->count; i++) {
            double this = cost(material, plain->symbols[i], plain->symbols[i + 1]);
            if (this < lowest) {
                lowest = this;
                at = i;
            }
        }
        if (isinf(lowest))
            return;
        plain->symbols[at].size += plain->symbols[at + 1].size;
        plain->count--;
        memmove(&plain->symbols[at + 1], &plain->symbols[at + 2],
                (plain->count - at - 1) * sizeof *plain->symbols);
    }
}

static void check_merging(struct opened *opened, struct random *random, const char *alphabet)
{
    size_t letters = strlen(alphabet);
    for (int round = 0; round < 300; round++) {
        char text[300];
        struct plain plain = {.count = 1 + random_below(random, round % 2 ? 40 : 300)};
        for (size_t i = 0; i < plain.count; i++) {
            text[i] = alphabet[random_below(random, (uint32_t)letters)];
            plain.symbols[i] = (struct text){text + i, 1};
        }
        struct token_list list = encode(opened, (struct text){text, plain.count}, false, false);
        merge_plainly(&opened->material, &plain);
        assert_int_equal(list.count, plain.count);
        for (size_t i = 0; i < plain.count; i++)
            assert_int_equal(list.ids[i], token_id(&opened->material, plain.symbols[i]));
        token_list_finish(&list);
    }
}

static void merges_go_by_rank_then_from_left_to_right(void **state)
{
    (void)state;
    static const char *const pres[] = {"gpt-2", "qwen2", "tekken"};
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct opened opened;
        struct random random = random_from_seed(seed);
        material_init(&opened.material, "gpt2", pres[seed % 3]);
        material_bytes(&opened.material);
        material_random_merges(&opened.material, &random, "abc", 20 + 20 * seed);
        open_material(&opened);
        /* A token of its own is taken as it is by tekken's kind, before any merge. */
        if (seed % 3 != 2)
            check_merging(&opened, &random, "abc");
        close_opened(&opened);
    }
}

static void scores_decide_and_equal_scores_go_from_left_to_right(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct opened opened;
        struct random random = random_from_seed(100 + seed);
        material_init(&opened.material, "llama", NULL);
        material_byte_names(&opened.material);
        for (const char *c = "abc"; *c; c++)
            material_token(&opened.material, (struct text){c, 1}, TOKEN_NORMAL, 0);
        material_random_merges(&opened.material, &random, "abc", 20 + 20 * seed);
        gguf_writer_bool(&opened.material.writer, "tokenizer.ggml.add_space_prefix", false);
        open_material(&opened);
        check_merging(&opened, &random, "abc");
        close_opened(&opened);
    }
}

static void a_piece_that_is_a_token_ignores_merges_where_the_pre_tokenizer_says_so(void **state)
{
    (void)state;
    for (int ignore = 0; ignore < 2; ignore++) {
        struct opened opened;
        material_init(&opened.material, "gpt2", ignore ? "llama-bpe" : "dbrx");
        material_bytes(&opened.material);
        uint32_t ab = material_token(&opened.material, TEXT("ab"), TOKEN_NORMAL, 0);
        uint32_t abc = material_token(&opened.material, TEXT("abc"), TOKEN_NORMAL, 0);
        material_merge(&opened.material, TEXT("a b"));
        open_material(&opened);
        if (ignore)
            ASSERT_IDS(encode(&opened, TEXT("abc"), false, false), abc);
        else
            ASSERT_IDS(encode(&opened, TEXT("abc"), false, false), ab, 'c');
        close_opened(&opened);
    }
}

/* ---- special tokens ---- */

struct stretch {
    size_t at, size;
    int id; /* -1: text */
};

static bool is_white(char c)
{
    return c == ' ' || c == '\n';
}

/* One token's occurrences in one stretch of text, replaced from left to right. */
static size_t cut_stretch(struct stretch *out, const char *text, struct stretch in,
                          struct text token, int id, bool strip)
{
    size_t count = 0, at = in.at, end = in.at + in.size;
    for (size_t i = at; i + token.size <= end;) {
        if (memcmp(text + i, token.data, token.size) != 0) {
            i++;
            continue;
        }
        if (i > at)
            out[count++] = (struct stretch){at, i - at, -1};
        out[count++] = (struct stretch){i, token.size, id};
        i += token.size;
        while (strip && i < end && is_white(text[i]))
            i++;
        at = i;
    }
    if (end > at)
        out[count++] = (struct stretch){at, end - at, -1};
    return count;
}

static size_t partition_plainly(const struct material *material, const char *text, size_t size,
                                bool strip, struct stretch *out)
{
    struct stretch before[256];
    size_t count = 1;
    out[0] = (struct stretch){0, size, -1};
    for (size_t length = 8; length > 0; length--)
        for (size_t id = 256; id < material->token_count; id++) {
            if (material->tokens[id].size != length)
                continue;
            size_t made = 0;
            memcpy(before, out, count * sizeof *out);
            for (size_t i = 0; i < count; i++) {
                if (before[i].id >= 0)
                    out[made++] = before[i];
                else
                    made += cut_stretch(out + made, text, before[i], material->tokens[id], (int)id,
                                        strip);
            }
            count = made;
        }
    return count;
}

static void the_longest_special_token_wins_then_the_lowest_id_then_the_leftmost(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct opened opened;
        struct random random = random_from_seed(seed);
        bool strip = seed % 2;
        material_init(&opened.material, "gpt2", "gpt-2");
        material_bytes(&opened.material);
        for (int i = 0; i < 12; i++) {
            char token[8];
            size_t size = 2 + random_below(&random, 5);
            for (size_t k = 0; k < size; k++)
                token[k] = "ab"[random_below(&random, 2)];
            if (token_id(&opened.material, (struct text){token, size}) < 0)
                material_token(&opened.material, (struct text){token, size},
                               i % 2 ? TOKEN_CONTROL : TOKEN_USER_DEFINED, 0);
        }
        gguf_writer_string(&opened.material.writer, "general.name", strip ? "My Phi-3 x" : "My x");
        open_material(&opened);
        for (int round = 0; round < 200; round++) {
            char text[60];
            size_t size = 1 + random_below(&random, sizeof text);
            for (size_t i = 0; i < size; i++)
                text[i] = "aaabbb "[random_below(&random, 7)];
            struct stretch parts[256];
            size_t count = partition_plainly(&opened.material, text, size, strip, parts), at = 0;
            struct token_list list = encode(&opened, (struct text){text, size}, false, true);
            for (size_t i = 0; i < count; i++)
                for (size_t k = 0; k < (parts[i].id < 0 ? parts[i].size : 1); k++) {
                    assert_true(at < list.count);
                    assert_int_equal(list.ids[at++], parts[i].id < 0
                                                         ? (unsigned char)text[parts[i].at + k]
                                                         : (unsigned)parts[i].id);
                }
            assert_int_equal(at, list.count);
            token_list_finish(&list);
        }
        close_opened(&opened);
    }
}

static void control_tokens_are_parsed_only_on_request_and_user_defined_ones_always(void **state)
{
    (void)state;
    struct opened opened;
    material_init(&opened.material, "gpt2", "gpt-2");
    material_bytes(&opened.material);
    uint32_t control = material_token(&opened.material, TEXT("<c>"), TOKEN_CONTROL, 0);
    uint32_t user = material_token(&opened.material, TEXT("<u>"), TOKEN_USER_DEFINED, 0);
    open_material(&opened);
    ASSERT_IDS(encode(&opened, TEXT("<u><c>"), false, true), user, control);
    ASSERT_IDS(encode(&opened, TEXT("<u><c>"), false, false), user, '<', 'c', '>');
    const uint32_t both[] = {user, control, 'x'};
    assert_decodes(&opened, both, 3, true, TEXT("<u><c>x"));
    assert_decodes(&opened, both, 3, false, TEXT("<u>x"));
    close_opened(&opened);
}

static void bos_and_eos_come_as_the_keys_say(void **state)
{
    (void)state;
    for (int add = 0; add < 2; add++) {
        struct opened opened;
        struct gguf_writer *writer = &opened.material.writer;
        material_init(&opened.material, "gpt2", "llama-bpe");
        material_bytes(&opened.material);
        gguf_writer_u32(writer, "tokenizer.ggml.bos_token_id", 5);
        gguf_writer_u32(writer, "tokenizer.ggml.eos_token_id", 6);
        if (add)
            gguf_writer_bool(writer, "tokenizer.ggml.add_eos_token", true);
        else
            gguf_writer_bool(writer, "tokenizer.ggml.add_bos_token", false);
        open_material(&opened);
        assert_int_equal(tokenizer_bos(opened.tokenizer), 5);
        assert_int_equal(tokenizer_eos(opened.tokenizer), 6);
        assert_int_equal(tokenizer_adds_bos(opened.tokenizer), add);
        if (add)
            ASSERT_IDS(encode(&opened, TEXT("a"), true, true), 5, 'a', 6);
        else
            ASSERT_IDS(encode(&opened, TEXT("a"), true, true), 'a');
        ASSERT_IDS(encode(&opened, TEXT("a"), false, true), 'a');
        close_opened(&opened);
    }
}

static void ends_are_known_by_key_and_by_name(void **state)
{
    (void)state;
    struct opened opened;
    material_init(&opened.material, "gpt2", "gpt-2");
    material_bytes(&opened.material);
    uint32_t im_end = material_token(&opened.material, TEXT("<|im_end|>"), TOKEN_NORMAL, 0);
    uint32_t call = material_token(&opened.material, TEXT("<|call|>"), TOKEN_CONTROL, 0);
    uint32_t returned = material_token(&opened.material, TEXT("<|return|>"), TOKEN_CONTROL, 0);
    uint32_t end = material_token(&opened.material, TEXT("<|end|>"), TOKEN_CONTROL, 0);
    gguf_writer_u32(&opened.material.writer, "tokenizer.ggml.eos_token_id", 7);
    gguf_writer_u32(&opened.material.writer, "tokenizer.ggml.eom_token_id", 8);
    open_material(&opened);
    assert_true(tokenizer_is_end(opened.tokenizer, 7));
    assert_true(tokenizer_is_end(opened.tokenizer, 8));
    assert_true(tokenizer_is_end(opened.tokenizer, im_end));
    assert_true(tokenizer_is_end(opened.tokenizer, call));
    assert_true(tokenizer_is_end(opened.tokenizer, returned));
    assert_false(tokenizer_is_end(opened.tokenizer, end));
    assert_false(tokenizer_is_end(opened.tokenizer, 'a'));
    assert_false(tokenizer_is_end(opened.tokenizer, TOKEN_NONE));
    assert_int_equal(tokenizer_kind(opened.tokenizer, im_end), TOKEN_CONTROL);
    assert_int_equal(tokenizer_kind(opened.tokenizer, end), TOKEN_USER_DEFINED);
    assert_int_equal(tokenizer_find(opened.tokenizer, TEXT("<|im_end|>")), im_end);
    assert_int_equal(tokenizer_find(opened.tokenizer, TEXT("<|im_")), TOKEN_NONE);
    assert_true(text_equal(tokenizer_text(opened.tokenizer, call), TEXT("<|call|>")));
    assert_int_equal(tokenizer_text(opened.tokenizer, 100000).size, 0);
    close_opened(&opened);
}

/* ---- SentencePiece ---- */

static void open_llama(struct opened *opened)
{
    material_init(&opened->material, "llama", NULL);
    material_byte_names(&opened->material);
    static const char *const words[] = {META, "a", "b", META "a", META META, META "ab"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        material_token(&opened->material, text_of(words[i]), TOKEN_NORMAL, (float)i);
    material_token(&opened->material, TEXT("<s>"), TOKEN_CONTROL, 0);
    gguf_writer_u32(&opened->material.writer, "tokenizer.ggml.bos_token_id", 262);
    open_material(opened);
}

static void sentencepiece_spells_spaces_and_falls_back_to_bytes(void **state)
{
    (void)state;
    struct opened opened;
    open_llama(&opened);
    ASSERT_IDS(encode(&opened, TEXT(""), true, true), 262);
    ASSERT_IDS(encode(&opened, TEXT("a"), true, true), 262, 259);
    /* "_a", space, "b"; after a special token the prefix comes again */
    ASSERT_IDS(encode(&opened, TEXT("a b<s>a"), false, true), 259, 256, 258, 262, 259);
    ASSERT_IDS(encode(&opened, TEXT(" \xc3\xa9\xff"), false, true), 260, 0xc3, 0xa9, 0xff);
    const uint32_t ids[] = {262, 259, 256, 258, 0xc3, 0xa9};
    assert_decodes(&opened, ids, 6, false, TEXT(" a b\xc3\xa9"));
    assert_decodes(&opened, ids, 6, true, TEXT("<s> a b\xc3\xa9"));
    assert_decodes(&opened, ids + 1, 5, true, TEXT("a b\xc3\xa9"));
    close_opened(&opened);
}

static void gemma_merges_utf8_and_keeps_newlines_whole(void **state)
{
    (void)state;
    struct opened opened;
    material_init(&opened.material, "gemma4", NULL);
    material_byte_names(&opened.material);
    static const char *const words[] = {META, "a", "\n", "\n\n", "\xc3\xa9", META "a", "a\xc3\xa9"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        material_token(&opened.material, text_of(words[i]), TOKEN_NORMAL, 0);
    material_merge(&opened.material, TEXT("a \xc3\xa9"));
    material_merge(&opened.material, TEXT(META " a"));
    gguf_writer_bool(&opened.material.writer, "tokenizer.ggml.add_bos_token", false);
    gguf_writer_u32(&opened.material.writer, "tokenizer.ggml.bos_token_id", 2);
    open_material(&opened);
    ASSERT_IDS(encode(&opened, TEXT(" a\n\na\xc3\xa9x"), true, true), 2, 261, 259, 262, 'x');
    const uint32_t ids[] = {261, 259, 0xc3, 0xa9};
    assert_decodes(&opened, ids, 4, false, TEXT(" a\n\n\xc3\xa9"));
    close_opened(&opened);
}

/* ---- text ---- */

static void open_bytes(struct opened *opened, const char *pre, struct random *random)
{
    material_init(&opened->material, "gpt2", pre);
    material_bytes(&opened->material);
    if (random)
        material_random_merges(&opened->material, random, "abcdefgh012345.,!", 200);
    open_material(opened);
}

static void byte_level_bpe_gives_valid_text_back(void **state)
{
    (void)state;
    static const char *const pres[] = {"smollm",  "deepseek-llm", "qwen2",     "gpt-4o",
                                       "kimi-k2", "afmoe",        "command-r", "chameleon"};
    for (size_t p = 0; p < sizeof pres / sizeof *pres; p++) {
        struct opened opened;
        struct random random = random_from_seed(p);
        open_bytes(&opened, pres[p], &random);
        for (int round = 0; round < 50; round++) {
            char text[2000];
            size_t size = random_valid_text(&random, text, 1 + random_below(&random, sizeof text));
            struct token_list list = encode(&opened, (struct text){text, size}, false, true);
            assert_decodes(&opened, list.ids, list.count, true, (struct text){text, size});
            token_list_finish(&list);
        }
        close_opened(&opened);
    }
}

static void streamed_pieces_make_the_text_and_never_show_half_a_code_point(void **state)
{
    (void)state;
    struct opened opened;
    struct random random = random_from_seed(9);
    open_bytes(&opened, "smollm", &random);
    char text[3000];
    size_t size = random_valid_text(&random, text, sizeof text), shown = 0;
    struct token_list list = encode(&opened, (struct text){text, size}, false, true);
    struct buffer out;
    buffer_init(&out, sizeof text + 1);
    for (size_t i = 0; i < list.count; i++) {
        assert_true(tokenizer_piece(opened.tokenizer, list.ids[i], true, i == 0, &out));
        size_t ready = out.size - utf8_incomplete_tail(out.data, out.size);
        assert_true(utf8_valid(out.data + shown, ready - shown));
        assert_memory_equal(out.data, text, ready);
        shown = ready;
    }
    assert_int_equal(shown, size);
    buffer_finish(&out);
    token_list_finish(&list);
    close_opened(&opened);
}

static void invalid_utf8_becomes_replacement_characters_for_bpe(void **state)
{
    (void)state;
    static const struct {
        struct text in, out;
    } cases[] = {
        {{"\xff", 1}, {"\xef\xbf\xbd", 3}},
        {{"a\xc3", 2}, {"a\xef\xbf\xbd", 4}},
        {{"\xc0\x80", 2}, {"\0", 1}},               /* overlong forms are read */
        {{"\xed\xa0\x80", 3}, {"\xed\xa0\x80", 3}}, /* so are surrogates */
        {{"\xf4\x90\x80\x80", 4}, {"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", 12}},
        {{"\xf7\xbf\xbf\xbfz", 5}, {"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz", 13}},
        {{"\xf8\x80", 2}, {"\xef\xbf\xbd\xef\xbf\xbd", 6}},
    };
    static const char *const pres[] = {"gpt-2", "gpt-4o", "deepseek-llm"};
    for (size_t p = 0; p < 3; p++) {
        struct opened opened;
        open_bytes(&opened, pres[p], NULL);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct token_list list = encode(&opened, cases[i].in, false, true);
            assert_int_equal(list.count, cases[i].out.size);
            for (size_t k = 0; k < list.count; k++)
                assert_int_equal(list.ids[k], (unsigned char)cases[i].out.data[k]);
            token_list_finish(&list);
        }
        close_opened(&opened);
    }
}

static void spaces_before_punctuation_go_where_the_pre_tokenizer_says_so(void **state)
{
    (void)state;
    struct opened opened;
    open_bytes(&opened, "gpt-2", NULL);
    struct text text = TEXT("Well , it 's ' so ' , we 've done it ! I 'll don 't .");
    struct token_list list = encode(&opened, text, false, true);
    assert_decodes(&opened, list.ids, list.count, true,
                   TEXT("Well, it's'so ', we've done it! I 'll don 't."));
    token_list_finish(&list);
    close_opened(&opened);
    open_bytes(&opened, "qwen2", NULL);
    list = encode(&opened, text, false, true);
    assert_decodes(&opened, list.ids, list.count, true, text);
    token_list_finish(&list);
    close_opened(&opened);
}

/* ---- what a file may get wrong ---- */

static void unknown_kinds_and_pre_tokenizers_are_named(void **state)
{
    (void)state;
    struct opened opened;
    struct hearth_error err;
    material_init(&opened.material, "gpt2", "nonsense");
    material_bytes(&opened.material);
    assert_int_equal(refused(&opened, &err), HEARTH_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "nonsense"));
    assert_non_null(strstr(err.text, "smollm"));
    material_init(&opened.material, "t5", NULL);
    material_bytes(&opened.material);
    assert_int_equal(refused(&opened, &err), HEARTH_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "t5"));
    assert_non_null(strstr(err.text, "gemma4"));
}

static void a_file_without_a_tokenizer_says_so(void **state)
{
    (void)state;
    char path[TEST_PATH_MAX];
    struct gguf_writer writer;
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct hearth_error err;
    gguf_writer_init(&writer);
    gguf_writer_u32(&writer, "a", 1);
    test_temp_file(path);
    test_write_file(path, gguf_writer_bytes(&writer));
    assert_int_equal(gguf_open(path, &gguf, &err), 0);
    remove(path);
    assert_int_equal(tokenizer_open(gguf, &tokenizer, &err), HEARTH_E_MISSING);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

static void keys_of_the_wrong_type_or_length_are_refused(void **state)
{
    (void)state;
    struct opened opened;
    struct hearth_error err;
    material_init(&opened.material, "gpt2", "gpt-2");
    material_bytes(&opened.material);
    gguf_writer_string(&opened.material.writer, "tokenizer.ggml.bos_token_id", "1");
    assert_int_equal(refused(&opened, &err), HEARTH_E_FORMAT);
    material_init(&opened.material, "gpt2", "gpt-2");
    material_bytes(&opened.material);
    gguf_writer_u32(&opened.material.writer, "tokenizer.ggml.add_bos_token", 1);
    assert_int_equal(refused(&opened, &err), HEARTH_E_FORMAT);
    material_init(&opened.material, "gpt2", "gpt-2");
    assert_int_equal(refused(&opened, &err), HEARTH_E_LIMIT); /* no tokens at all */
}

static void odd_vocabularies_do_no_harm(void **state)
{
    (void)state;
    static const char *const models[] = {"gpt2", "llama", "gemma4"};
    for (int m = 0; m < 3; m++) {
        struct opened opened;
        struct gguf_writer *writer = &opened.material.writer;
        material_init(&opened.material, models[m], NULL);
        for (int i = 0; i < 3; i++)
            material_token(&opened.material, TEXT("same"), i == 1 ? TOKEN_CONTROL : -5, NAN);
        material_token(&opened.material, TEXT(""), TOKEN_CONTROL, INFINITY);
        material_token(&opened.material, TEXT(""), TOKEN_BYTE, -INFINITY);
        material_token(&opened.material, TEXT("<0x-1>"), TOKEN_BYTE, 0);
        material_token(&opened.material, TEXT("<0x"), TOKEN_BYTE, 0);
        material_token(&opened.material, TEXT("\xff\xc3"), TOKEN_NORMAL, 0);
        material_token(&opened.material, TEXT("s"), 1000000, NAN);
        material_token(&opened.material, TEXT("sa"), TOKEN_NORMAL, NAN);
        material_merge(&opened.material, TEXT(""));
        material_merge(&opened.material, TEXT(" "));
        material_merge(&opened.material, TEXT("s "));
        material_merge(&opened.material, TEXT("s a"));
        material_merge(&opened.material, TEXT("absent too"));
        gguf_writer_u32(writer, "tokenizer.ggml.bos_token_id", 4000000000u);
        gguf_writer_u32(writer, "tokenizer.ggml.eot_token_id", 10);
        open_material(&opened);
        assert_int_equal(tokenizer_vocab_size(opened.tokenizer), 10);
        struct buffer out;
        buffer_init(&out, 4096);
        for (uint32_t id = 0; id < 12; id++)
            assert_true(tokenizer_piece(opened.tokenizer, id, true, true, &out));
        buffer_finish(&out);
        struct token_list list = encode(&opened, TEXT("same sasa \xff<0x-1>same"), true, true);
        for (size_t i = 0; i < list.count; i++)
            assert_true(list.ids[i] < 10);
        token_list_finish(&list);
        close_opened(&opened);
    }
}

static void arrays_shorter_than_the_vocabulary_are_refused(void **state)
{
    (void)state;
    char path[TEST_PATH_MAX];
    static const char *const tokens[] = {"a", "b", "c"};
    static const float scores[] = {1, 2};
    struct gguf_writer writer;
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct hearth_error err;
    gguf_writer_init(&writer);
    gguf_writer_string(&writer, "tokenizer.ggml.model", "llama");
    gguf_writer_strings(&writer, "tokenizer.ggml.tokens", tokens, 3);
    gguf_writer_array(&writer, "tokenizer.ggml.scores", GGUF_F32, scores, 2);
    test_temp_file(path);
    test_write_file(path, gguf_writer_bytes(&writer));
    assert_int_equal(gguf_open(path, &gguf, &err), 0);
    remove(path);
    assert_int_equal(tokenizer_open(gguf, &tokenizer, &err), HEARTH_E_FORMAT);
    gguf_close(gguf);
    gguf_writer_finish(&writer);
}

static void failing_memory_leaves_everything_as_it_was(void **state)
{
    (void)state;
    static const char *const models[] = {"gpt2", "llama", "gemma4"};
    for (int m = 0; m < 3; m++) {
        struct opened opened;
        struct hearth_error err;
        char text[400];
        struct random random = random_from_seed(5);
        material_init(&opened.material, models[m], m ? NULL : "gpt-4o");
        if (m)
            material_byte_names(&opened.material);
        else
            material_bytes(&opened.material);
        material_random_merges(&opened.material, &random, "ab", 30);
        material_token(&opened.material, TEXT("<x>"), TOKEN_CONTROL, 0);
        open_material(&opened);
        int status = HEARTH_E_MEMORY;
        for (unsigned long n = 1; status; n++) {
            struct tokenizer *second = NULL;
            mem_fail_nth(n);
            status = tokenizer_open(opened.gguf, &second, &err);
            mem_fail_nth(0);
            assert_true(status == 0 || (status == HEARTH_E_MEMORY && !second));
            tokenizer_close(second);
        }
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = "ab"[i % 3 == 0];
        memcpy(text + 100, "<x> \xff", 5);
        struct token_list list = {NULL, 0, 0};
        token_list_push(&list, 77);
        status = HEARTH_E_MEMORY;
        for (unsigned long n = 1; status; n++) {
            mem_fail_nth(n);
            status = tokenizer_encode(opened.tokenizer, (struct text){text, sizeof text},
                                      (struct tokenize_options){true, true}, &list, &err);
            mem_fail_nth(0);
            assert_true(status == 0 || (status == HEARTH_E_MEMORY && list.count == 1));
        }
        assert_true(list.count > 1);
        token_list_finish(&list);
        close_opened(&opened);
    }
}

/* ---- long texts; CTest runs this program on a stack of 256 KB too ---- */

static void long_runs_of_one_character_are_no_problem(void **state)
{
    (void)state;
    static const char *const kinds[][2] = {{"gpt2", "gpt-2"},        {"gpt2", "gpt-4o"},
                                           {"gpt2", "deepseek-llm"}, {"gpt2", "jais-2"},
                                           {"llama", NULL},          {"gemma4", NULL}};
    static const char *const characters[] = {
        "a", " ", "\n", "1", "\xc3\xa9", ".", "A", "\xff", "\xf0\x9f\x98\x80"};
    const size_t size = 300000;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        struct opened opened;
        struct random random = random_from_seed(k);
        material_init(&opened.material, kinds[k][0], kinds[k][1]);
        if (k < 4)
            material_bytes(&opened.material);
        else
            material_byte_names(&opened.material);
        material_random_merges(&opened.material, &random, "aaaaab1.A", 100);
        open_material(&opened);
        for (size_t c = 0; c < sizeof characters / sizeof *characters; c++) {
            size_t width = strlen(characters[c]);
            for (size_t i = 0; i < size; i++)
                text[i] = characters[c][i % width];
            struct token_list list = encode(&opened, (struct text){text, size}, false, true);
            assert_true(list.count > 0);
            token_list_finish(&list);
        }
        close_opened(&opened);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_go_by_rank_then_from_left_to_right),
        cmocka_unit_test(scores_decide_and_equal_scores_go_from_left_to_right),
        cmocka_unit_test(a_piece_that_is_a_token_ignores_merges_where_the_pre_tokenizer_says_so),
        cmocka_unit_test(the_longest_special_token_wins_then_the_lowest_id_then_the_leftmost),
        cmocka_unit_test(control_tokens_are_parsed_only_on_request_and_user_defined_ones_always),
        cmocka_unit_test(bos_and_eos_come_as_the_keys_say),
        cmocka_unit_test(ends_are_known_by_key_and_by_name),
        cmocka_unit_test(sentencepiece_spells_spaces_and_falls_back_to_bytes),
        cmocka_unit_test(gemma_merges_utf8_and_keeps_newlines_whole),
        cmocka_unit_test(byte_level_bpe_gives_valid_text_back),
        cmocka_unit_test(streamed_pieces_make_the_text_and_never_show_half_a_code_point),
        cmocka_unit_test(invalid_utf8_becomes_replacement_characters_for_bpe),
        cmocka_unit_test(spaces_before_punctuation_go_where_the_pre_tokenizer_says_so),
        cmocka_unit_test(unknown_kinds_and_pre_tokenizers_are_named),
        cmocka_unit_test(a_file_without_a_tokenizer_says_so),
        cmocka_unit_test(keys_of_the_wrong_type_or_length_are_refused),
        cmocka_unit_test(odd_vocabularies_do_no_harm),
        cmocka_unit_test(arrays_shorter_than_the_vocabulary_are_refused),
        cmocka_unit_test(failing_memory_leaves_everything_as_it_was),
        cmocka_unit_test(long_runs_of_one_character_are_no_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
