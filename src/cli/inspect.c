/* hearth inspect: what is in a model file, as tables or as the engine's own JSON. */

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/command.h"
#include "cli/console.h"
#include "hearth/hearth.h"

struct inspect_settings {
    const char *model;
    bool json, keys, tensors;
};

/* ---- values ---- */

static uint64_t number_of(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

#define VALUE_BYTES_SHOWN 96

/* A value for one line: long texts are cut, control characters escaped. */
static void append_value(struct buffer *out, const json_t *value)
{
    if (json_is_string(value)) {
        size_t size = json_string_length(value);
        const char *data = json_string_value(value);
        size_t shown = size < VALUE_BYTES_SHOWN ? size : VALUE_BYTES_SHOWN;
        while (shown < size && shown > 0 && ((unsigned char)data[shown] & 0xc0) == 0x80)
            shown--;
        console_escape((struct text){data, shown}, out);
        if (shown < size)
            buffer_format(out, "… (%zu bytes)", size);
        return;
    }
    if (json_is_object(value)) {
        const char *element = json_string_value(json_object_get(value, "array"));
        buffer_format(out, "%" PRIu64 " × %s", number_of(value, "count"), element ? element : "?");
        return;
    }
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    console_escape(text_of(text ? text : ""), out);
    free(text);
}

static void print_pair(const char *name, const json_t *value)
{
    struct buffer line;
    buffer_init(&line, 1 << 16);
    append_value(&line, value);
    printf("  %-20s %s\n", name, line.data ? line.data : "");
    buffer_finish(&line);
}

/* ---- the tables ---- */

static void print_general(const json_t *root)
{
    static const char *const names[] = {"name",       "organization", "basename",
                                        "size_label", "license",      "quantized_by"};
    const json_t *keys = json_object_get(root, "keys");
    char size[SIZE_TEXT_MAX], count[SIZE_TEXT_MAX + 8];
    puts("General");
    print_pair("architecture", json_object_get(root, "architecture"));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char key[64];
        snprintf(key, sizeof key, "general.%s", names[i]);
        const json_t *value = json_object_get(keys, key);
        if (json_is_string(value) && json_string_length(value) > 0)
            print_pair(names[i], value);
    }
    printf("  %-20s %s\n", "parameters", count_text(number_of(root, "parameters"), count));
    printf("  %-20s %s", "size", size_text(number_of(root, "bytes"), size));
    if (number_of(root, "parts") > 1)
        printf(" in %" PRIu64 " parts", number_of(root, "parts"));
    printf("\n  %-20s %" PRIu64 "\n", "GGUF version", number_of(root, "version"));
    const char *template = json_string_value(json_object_get(keys, "tokenizer.chat_template"));
    printf("  %-20s %s\n", "chat template", template ? "yes" : "none: plain completion only");
}

/* The architecture's own keys, "llama.block_count" and so on, without their prefix. */
static void print_architecture(const json_t *root)
{
    const char *architecture = json_string_value(json_object_get(root, "architecture"));
    size_t prefix = architecture ? strlen(architecture) : 0;
    const char *name;
    json_t *value;
    if (prefix == 0)
        return;
    puts("\nArchitecture");
    json_object_foreach(json_object_get(root, "keys"), name, value)
    {
        if (strncmp(name, architecture, prefix) == 0 && name[prefix] == '.') {
            struct buffer key, line;
            buffer_init(&key, 1 << 16);
            buffer_init(&line, 1 << 16);
            console_escape(text_of(name + prefix + 1), &key);
            append_value(&line, value);
            printf("  %-34s %s\n", key.data ? key.data : "", line.data ? line.data : "");
            buffer_finish(&line);
            buffer_finish(&key);
        }
    }
}

struct type_row {
    const char *name;
    uint64_t bytes;
};

static int by_bytes(const void *a, const void *b)
{
    uint64_t left = ((const struct type_row *)a)->bytes;
    uint64_t right = ((const struct type_row *)b)->bytes;
    return left < right ? 1 : left > right ? -1 : 0;
}

static void print_types(const json_t *root)
{
    json_t *types = json_object_get(root, "types"), *value;
    size_t count = json_object_size(types), at = 0;
    uint64_t total = 0;
    const char *name;
    struct type_row *rows = mem_alloc_array(count + 1, sizeof *rows);
    if (!rows)
        return;
    json_object_foreach(types, name, value)
    {
        rows[at++] = (struct type_row){name, number_of(types, name)};
        total += number_of(types, name);
    }
    qsort(rows, count, sizeof *rows, by_bytes);
    puts("\nWeights by type");
    for (size_t i = 0; i < count; i++) {
        char size[SIZE_TEXT_MAX];
        printf("  %-10s %12s  %5.1f %%\n", rows[i].name, size_text(rows[i].bytes, size),
               total ? 100.0 * (double)rows[i].bytes / (double)total : 0.0);
    }
    mem_free(rows);
}

static void print_memory(const json_t *root)
{
    size_t index;
    json_t *row;
    const char *problem = json_string_value(json_object_get(root, "problem"));
    puts("\nMemory");
    if (problem) {
        printf("  This model cannot be run: %s\n", problem);
        return;
    }
    printf("  %10s %12s %12s %12s %12s %12s\n", "context", "KV as f16", "as q8_0", "as q4_0",
           "the rest", "weights");
    json_array_foreach(json_object_get(root, "memory"), index, row)
    {
        char kv[3][SIZE_TEXT_MAX], rest[SIZE_TEXT_MAX], weights[SIZE_TEXT_MAX];
        printf("  %10" PRIu64 " %12s %12s %12s %12s %12s\n", number_of(row, "context"),
               size_text(number_of(row, "kv_f16_bytes"), kv[0]),
               size_text(number_of(row, "kv_q8_0_bytes"), kv[1]),
               size_text(number_of(row, "kv_q4_0_bytes"), kv[2]),
               size_text(number_of(row, "scratch_bytes") + number_of(row, "fixed_bytes"), rest),
               size_text(number_of(row, "weights_bytes"), weights));
    }
    puts(
        "  The KV cache is private memory, and grows with what is really used of a context; so is\n"
        "  the rest: working memory of a chunk of 256 tokens, tokenizer, threads. Weights are\n"
        "  mapped from the file: the system shares them and may take them back.");
}

static void print_keys(const json_t *root)
{
    const char *name;
    json_t *value;
    puts("\nKeys");
    json_object_foreach(json_object_get(root, "keys"), name, value)
    {
        struct buffer key, line;
        buffer_init(&key, 1 << 16);
        buffer_init(&line, 1 << 16);
        console_escape(text_of(name), &key);
        append_value(&line, value);
        printf("  %-44s %s\n", key.data ? key.data : "", line.data ? line.data : "");
        buffer_finish(&line);
        buffer_finish(&key);
    }
}

static void print_tensors(const json_t *root)
{
    size_t index, d;
    json_t *tensor, *extent;
    printf("\n%zu tensors\n", json_array_size(json_object_get(root, "tensors")));
    json_array_foreach(json_object_get(root, "tensors"), index, tensor)
    {
        char size[SIZE_TEXT_MAX];
        struct buffer shape, name;
        buffer_init(&shape, 256);
        buffer_init(&name, 1 << 16);
        json_array_foreach(json_object_get(tensor, "shape"), d, extent)
            buffer_format(&shape, "%s%lld", d ? " × " : "", (long long)json_integer_value(extent));
        append_value(&name, json_object_get(tensor, "name"));
        const char *type = json_string_value(json_object_get(tensor, "type"));
        printf("  %-36s %-8s %12s  %s\n", name.data ? name.data : "", type ? type : "?",
               size_text(number_of(tensor, "bytes"), size), shape.data ? shape.data : "");
        buffer_finish(&name);
        buffer_finish(&shape);
    }
}

static enum exit_code print_tables(const struct inspect_settings *settings, const char *json)
{
    json_error_t where;
    json_t *root = json_loads(json, JSON_ALLOW_NUL, &where);
    if (!root) {
        console_say("the description of the model cannot be read: %s", where.text);
        return EXIT_CODE_ERROR;
    }
    print_general(root);
    print_architecture(root);
    print_types(root);
    print_memory(root);
    if (settings->keys)
        print_keys(root);
    if (settings->tensors)
        print_tensors(root);
    json_decref(root);
    return console_finish();
}

static enum exit_code run_inspect(const struct program *program, const void *given)
{
    const struct inspect_settings *settings = given;
    struct hearth_error err = {0};
    char *json;
    enum exit_code code;
    (void)program;
    if (hearth_inspect(settings->model, &json, &err))
        return console_fail(&err);
    if (settings->json) {
        puts(json);
        code = console_finish();
    } else {
        code = print_tables(settings, json);
    }
    hearth_free(json);
    return code;
}

#define AT(field) offsetof(struct inspect_settings, field)

static const struct option inspect_options[] = {
    {.name = "keys",
     .type = OPTION_FLAG,
     .offset = AT(keys),
     .topic = "Output",
     .help = "List all metadata keys, too."},
    {.name = "tensors",
     .type = OPTION_FLAG,
     .offset = AT(tensors),
     .topic = "Output",
     .help = "List all tensors, too: name, type, size, shape."},
    {.name = "json",
     .type = OPTION_FLAG,
     .offset = AT(json),
     .topic = "Output",
     .help = "Print all of it as one JSON object: architecture, parameters, bytes, types, memory, "
             "keys, tensors; problem where the model cannot be run."},
};

static const struct operand inspect_operands[] = {
    {"MODEL", OPERAND_MODEL, true, AT(model), "a GGUF file; of a split model the first part", NULL},
};

static const struct example inspect_examples[] = {
    {"hearth inspect MODEL.gguf", "What it is, and what memory it takes."},
    {"hearth inspect MODEL.gguf --json | jq .types", "Bytes by type, for a script."},
};

const struct command command_inspect = {
    .name = "inspect",
    .summary = "Show what is in a model file",
    .description =
        "Shows a model's architecture, parameters, bytes by type, and the memory that it "
        "takes at a context of 2048 tokens and at its own. Also works for a model "
        "that hearth cannot run, and says why.",
    .options = inspect_options,
    .option_count = sizeof inspect_options / sizeof inspect_options[0],
    .operands = inspect_operands,
    .operand_count = 1,
    .examples = inspect_examples,
    .example_count = sizeof inspect_examples / sizeof inspect_examples[0],
    .settings_size = sizeof(struct inspect_settings),
    .run = run_inspect,
};
