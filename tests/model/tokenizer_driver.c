/* Prints the token ids of standard input, for scripts that compare tokenizers:
 *     tokenizer_driver MODEL [--no-special] [--no-bos] [--decode] [--each]
 * --decode prints the text of the ids instead, --each takes the standard input as several texts,
 * with a NUL after each, and prints one line per text, --time says how long it took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "model/tokenizer.h"

struct flags {
    bool no_special, no_bos, decode, each, time;
};

static struct flags read_flags(char **args)
{
    struct flags flags = {false, false, false, false, false};
    for (; *args; args++) {
        flags.no_special |= strcmp(*args, "--no-special") == 0;
        flags.no_bos |= strcmp(*args, "--no-bos") == 0;
        flags.decode |= strcmp(*args, "--decode") == 0;
        flags.each |= strcmp(*args, "--each") == 0;
        flags.time |= strcmp(*args, "--time") == 0;
    }
    return flags;
}

static void read_input(struct buffer *input)
{
    char *room;
    size_t got;
    do {
        room = buffer_reserve(input, 65536);
        got = room ? fread(room, 1, 65536, stdin) : 0;
        input->size += got;
    } while (got);
}

static void stop(const struct hearth_error *err)
{
    fprintf(stderr, "tokenizer_driver: %s\n", err->text);
    exit(1);
}

static void print_text(const struct tokenizer *tokenizer, struct text text, struct flags flags)
{
    struct hearth_error err;
    struct token_list list = {NULL, 0, 0};
    struct tokenize_options options = {.add_special =
                                           !flags.no_bos && tokenizer_adds_bos(tokenizer),
                                       .parse_special = !flags.no_special};
    if (tokenizer_encode(tokenizer, text, options, &list, &err))
        stop(&err);
    if (flags.decode) {
        struct buffer out;
        buffer_init(&out, (size_t)1 << 32);
        if (tokenizer_decode(tokenizer, list.ids, list.count, !flags.no_special, &out, &err))
            stop(&err);
        fwrite(out.data, 1, out.size, stdout);
        buffer_finish(&out);
    } else {
        for (size_t i = 0; i < list.count; i++)
            printf(i ? " %u" : "%u", list.ids[i]);
        putchar('\n');
    }
    token_list_finish(&list);
}

static double seconds(clock_t from)
{
    return (double)(clock() - from) / CLOCKS_PER_SEC;
}

int main(int argc, char **argv)
{
    struct hearth_error err;
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct buffer input;
    if (argc < 2)
        return 2;
    struct flags flags = read_flags(argv + 2);
    if (gguf_open(argv[1], &gguf, &err))
        stop(&err);
    clock_t begin = clock();
    if (tokenizer_open(gguf, &tokenizer, &err))
        stop(&err);
    if (flags.time)
        fprintf(stderr, "open %.4f s\n", seconds(begin));
    buffer_init(&input, (size_t)1 << 30);
    read_input(&input);
    struct text rest = {input.size ? input.data : "", input.size};
    begin = clock();
    while (flags.each && rest.size) {
        const char *end = memchr(rest.data, '\0', rest.size);
        struct text text = {rest.data, end ? (size_t)(end - rest.data) : rest.size};
        print_text(tokenizer, text, flags);
        size_t skip = text.size + (end != NULL);
        rest = (struct text){rest.data + skip, rest.size - skip};
    }
    if (!flags.each)
        print_text(tokenizer, rest, flags);
    if (flags.time)
        fprintf(stderr, "encode %.4f s\n", seconds(begin));
    buffer_finish(&input);
    tokenizer_close(tokenizer);
    gguf_close(gguf);
    return 0;
}
