/* hearth tokenize: standard input to token ids. */

#include <jansson.h>
#include <stdint.h>

#include "base/os.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/load.h"

struct tokenize_settings {
    const char *model;
    bool ids, no_special, no_bos, json;
};

struct tokens {
    const struct hearth_model *model;
    uint32_t *ids;
    size_t count;
};

static void print_ids(const struct tokens *tokens)
{
    for (size_t i = 0; i < tokens->count; i++)
        printf(i ? " %u" : "%u", (unsigned)tokens->ids[i]);
    putchar('\n');
}

/* The bytes of one token. The first word of a text loses the space that SentencePiece writes before
 * it, so they are taken from the second of two such tokens. */
static int token_text(const struct tokens *tokens, size_t index, struct buffer *out,
                      struct hearth_error *err)
{
    char *alone, *pair;
    size_t alone_size, pair_size;
    uint32_t ids[2] = {tokens->ids[index], tokens->ids[index]};
    int status = hearth_detokenize(tokens->model, ids, 1, true, &alone, &alone_size, err);
    if (status)
        return status;
    status = hearth_detokenize(tokens->model, ids, 2, true, &pair, &pair_size, err);
    if (!status) {
        buffer_append(out, pair + alone_size, pair_size - alone_size);
        hearth_free(pair);
    }
    hearth_free(alone);
    return status;
}

static int print_table(const struct tokens *tokens, struct hearth_error *err)
{
    struct buffer text, shown;
    int status = 0;
    for (size_t i = 0; i < tokens->count && !status; i++) {
        buffer_init(&text, 1 << 20);
        buffer_init(&shown, 1 << 22);
        status = token_text(tokens, i, &text, err);
        if (!status) {
            console_escape(buffer_text(&text), &shown);
            printf("%8u  '%s'\n", (unsigned)tokens->ids[i], shown.data ? shown.data : "");
        }
        buffer_finish(&shown);
        buffer_finish(&text);
    }
    return status;
}

static int print_json(const struct tokens *tokens, struct hearth_error *err)
{
    json_t *list = json_array();
    int status = 0;
    for (size_t i = 0; i < tokens->count && !status; i++) {
        struct buffer text, valid;
        buffer_init(&text, 1 << 20);
        buffer_init(&valid, 1 << 22);
        status = token_text(tokens, i, &text, err);
        buffer_append_valid_utf8(&valid, buffer_text(&text));
        if (!status)
            json_array_append_new(list,
                                  json_pack("{s:I, s:s#}", "id", (json_int_t)tokens->ids[i], "text",
                                            valid.data ? valid.data : "", valid.size));
        buffer_finish(&valid);
        buffer_finish(&text);
    }
    if (status) {
        json_decref(list);
        return status;
    }
    console_json(json_pack("{s:I, s:o}", "count", (json_int_t)tokens->count, "tokens", list));
    return 0;
}

static int tokenize_input(const struct tokenize_settings *settings, struct tokens *tokens,
                          struct hearth_error *err)
{
    struct buffer text;
    unsigned flags = (settings->no_bos ? 0 : (unsigned)HEARTH_ADD_SPECIAL) |
                     (settings->no_special ? 0 : (unsigned)HEARTH_PARSE_SPECIAL);
    if (os_is_terminal(CONSOLE_STDIN))
        console_say("reading the text from the terminal; Ctrl-D ends it");
    buffer_init(&text, SIZE_MAX / 2);
    int status = console_read_all(stdin, "standard input", &text, err);
    if (!status)
        status = hearth_tokenize(tokens->model, text.data ? text.data : "", text.size, flags,
                                 &tokens->ids, &tokens->count, err);
    buffer_finish(&text);
    return status;
}

static enum exit_code run_tokenize(const struct program *program, const void *given)
{
    const struct tokenize_settings *settings = given;
    struct hearth_error err = {0};
    struct loaded loaded = {0};
    struct tokens tokens = {0};
    (void)program;
    const struct load_source source = {.path = settings->model};
    int status = load_model(&loaded, &source, NULL, &err);
    tokens.model = loaded.model;
    if (!status)
        status = tokenize_input(settings, &tokens, &err);
    if (!status && settings->json)
        status = print_json(&tokens, &err);
    else if (!status && settings->ids)
        print_ids(&tokens);
    else if (!status)
        status = print_table(&tokens, &err);
    enum exit_code code = status ? console_fail(&err) : console_finish();
    hearth_free(tokens.ids);
    load_finish(&loaded);
    return code;
}

#define AT(field) offsetof(struct tokenize_settings, field)

static const struct option tokenize_options[] = {
    {.name = "ids",
     .type = OPTION_FLAG,
     .offset = AT(ids),
     .topic = "Output",
     .help = "Print only the ids, on one line, with a space between them."},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help = "Print one JSON object: count, and tokens with id and text. Bytes of a token that "
             "are no whole character are U+FFFD there."},
    {.name = "no-special",
     .type = OPTION_FLAG,
     .offset = AT(no_special),
     .topic = "Tokens",
     .help = "Take special tokens that are spelled out in the text, such as <|im_end|>, for the "
             "plain text that they are."},
    {.name = "no-bos",
     .type = OPTION_FLAG,
     .offset = AT(no_bos),
     .topic = "Tokens",
     .help = "Add no token at the beginning and the end of the text, also where the model asks "
             "for one."},
};

static const struct operand tokenize_operands[] = {
    {"MODEL", OPERAND_MODEL, true, AT(model), "a GGUF file; of a split model the first part", NULL},
};

static const struct example tokenize_examples[] = {
    {"echo 'Hello world' | hearth tokenize MODEL.gguf", "A table of ids and texts."},
    {"hearth tokenize MODEL.gguf --ids < book.txt | wc -w", "How many tokens a file has."},
};

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "Show the tokens of a text",
    .description = "Reads a text from standard input, any bytes, and shows the tokens that the "
                   "model sees in it: a table of ids and texts, with what does not print as "
                   "escapes. Also works for a file with nothing but a vocabulary, and for a model "
                   "that hearth cannot run.",
    .options = tokenize_options,
    .option_count = sizeof tokenize_options / sizeof tokenize_options[0],
    .operands = tokenize_operands,
    .operand_count = 1,
    .examples = tokenize_examples,
    .example_count = sizeof tokenize_examples / sizeof tokenize_examples[0],
    .settings_size = sizeof(struct tokenize_settings),
    .run = run_tokenize,
};
