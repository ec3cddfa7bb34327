#include "cli/options.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

const struct option option_help = {
    .name = "help",
    .short_name = 'h',
    .type = OPTION_FLAG,
    .topic = "Output",
    .shown_default = "",
    .help = "Show this help and leave.",
};

const struct option *option_at(const struct command *command, size_t index)
{
    if (index < command->option_count)
        return &command->options[index];
    return index == command->option_count ? &option_help : NULL;
}

const struct command *program_find(const struct program *program, const char *name)
{
    for (size_t i = 0; i < program->command_count; i++) {
        if (strcmp(program->commands[i]->name, name) == 0)
            return program->commands[i];
    }
    return NULL;
}

/* ---- settings ---- */

/* Of durations, the longest first. */
static const struct {
    const char *name;
    uint64_t ns;
} duration_units[] = {
    {"h", UINT64_C(3600000000000)},
    {"m", UINT64_C(60000000000)},
    {"s", UINT64_C(1000000000)},
    {"ms", UINT64_C(1000000)},
};

#define DURATION_UNITS (sizeof duration_units / sizeof duration_units[0])
#define DURATION_NS_MAX 1e18 /* some thirty years */

static void *field(void *settings, size_t offset)
{
    return (char *)settings + offset;
}

void *settings_create(const struct command *command)
{
    void *settings = mem_zalloc_array(1, command->settings_size ? command->settings_size : 1);
    if (settings && command->defaults)
        command->defaults(settings);
    return settings;
}

void settings_destroy(const struct command *command, void *settings)
{
    if (!settings)
        return;
    for (size_t i = 0; i < command->option_count; i++) {
        const struct option *option = &command->options[i];
        if (option->type == OPTION_TEXTS || option->type == OPTION_FILES) {
            struct text_list *list = field(settings, option->offset);
            mem_free(list->items);
        }
    }
    for (size_t i = 0; i < command->operand_count; i++) {
        const struct operand *operand = &command->operands[i];
        if (operand->type == OPERAND_SESSIONS) {
            struct text_list *list = field(settings, operand->offset);
            mem_free(list->items);
        }
    }
    mem_free(settings);
}

static void append_duration(struct buffer *out, uint64_t ns)
{
    size_t i = 0;
    if (ns == 0 || ns == UINT64_MAX) {
        buffer_append_text(out, text_of(ns ? "never" : "0"));
        return;
    }
    while (i + 1 < DURATION_UNITS && ns % duration_units[i].ns != 0)
        i++;
    buffer_format(out, "%llu%s", (unsigned long long)(ns / duration_units[i].ns),
                  duration_units[i].name);
}

void option_default(const struct option *option, const void *settings, struct buffer *out)
{
    const void *value = (const char *)settings + option->offset;
    if (option->shown_default) {
        buffer_append_text(out, text_of(option->shown_default));
        return;
    }
    switch (option->type) {
    case OPTION_INT:
        buffer_format(out, "%ld", (long)*(const int32_t *)value);
        break;
    case OPTION_UINT:
        buffer_format(out, "%lu", (unsigned long)*(const uint32_t *)value);
        break;
    case OPTION_SEED:
        buffer_format(out, "%lld", (long long)*(const int64_t *)value);
        break;
    case OPTION_REAL:
        buffer_format(out, "%g", (double)*(const float *)value);
        break;
    case OPTION_CHOICE:
        buffer_format(out, "%s", option->choices[*(const int *)value]);
        break;
    case OPTION_COUNTS: {
        const struct count_list *list = value;
        for (size_t i = 0; i < list->count; i++)
            buffer_format(out, "%s%lu", i ? "," : "", (unsigned long)list->items[i]);
        break;
    }
    case OPTION_DURATION:
        append_duration(out, *(const uint64_t *)value);
        break;
    default:
        break;
    }
}

/* ---- the nearest name ---- */

#define NAME_MAX_COMPARED 32

/* Edit distance (Levenshtein) of two short names; large when one is too long to be compared. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[2][NAME_MAX_COMPARED + 1];
    size_t a_size = strlen(a), b_size = strlen(b);
    if (a_size > NAME_MAX_COMPARED || b_size > NAME_MAX_COMPARED)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        const size_t *above = rows[(i - 1) % 2];
        size_t *row = rows[i % 2];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
        }
    }
    return rows[a_size % 2][b_size];
}

const char *nearest_name(const char *word, size_t count,
                         const char *(*name_at)(const void *context, size_t index),
                         const void *context)
{
    const char *nearest = NULL;
    size_t least = strlen(word) / 3 + 2; /* a name that differs in more is another name */
    for (size_t i = 0; i < count; i++) {
        const char *name = name_at(context, i);
        size_t distance = strncmp(name, word, strlen(word)) == 0 ? 1 : edit_distance(word, name);
        if (distance < least) {
            least = distance;
            nearest = name;
        }
    }
    return nearest;
}

static const char *option_name_at(const void *context, size_t index)
{
    return option_at(context, index)->name;
}

/* ---- values ---- */

struct parser {
    const struct command *command;
    int count, next;
    char *const *words;
    void *settings;
    size_t operand; /* how many were read */
    bool help;
    struct hearth_error *err;
};

static int bad_number(const struct parser *parser, const struct option *option, const char *value,
                      const char *kind)
{
    if (option->max < option->min)
        return error_set(parser->err, HEARTH_E_ARGUMENT,
                         "--%s takes a%s number of at least %.10g, not '%s'", option->name, kind,
                         option->min, value);
    return error_set(parser->err, HEARTH_E_ARGUMENT,
                     "--%s takes a%s number from %.16g to %.16g, not '%s'", option->name, kind,
                     option->min, option->max, value);
}

static bool in_range(const struct option *option, double value)
{
    return value >= option->min && (option->max < option->min || value <= option->max);
}

static int set_whole(const struct parser *parser, const struct option *option, const char *value)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0 || !in_range(option, (double)number))
        return bad_number(parser, option, value, " whole");
    void *place = field(parser->settings, option->offset);
    if (option->type == OPTION_INT)
        *(int32_t *)place = (int32_t)number;
    else if (option->type == OPTION_UINT)
        *(uint32_t *)place = (uint32_t)number;
    else
        *(int64_t *)place = number;
    return 0;
}

static int set_real(const struct parser *parser, const struct option *option, const char *value)
{
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(number) || !in_range(option, number))
        return bad_number(parser, option, value, "");
    *(float *)field(parser->settings, option->offset) = (float)number;
    return 0;
}

/* Digits, with a point among them or not; what follows is left in *text. */
static bool read_decimal(const char **text, double *number)
{
    double value = 0, scale = 1;
    bool digits = false, point = false;
    const char *at = *text;
    for (; (*at >= '0' && *at <= '9') || (*at == '.' && !point); at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        digits = true;
        value = value * 10 + (*at - '0');
        scale *= point ? 10 : 1;
    }
    *text = at;
    *number = value / scale;
    return digits && isfinite(value) && isfinite(scale);
}

/* K, M, G and T are powers of 1000, Ki, Mi, Gi and Ti of 1024; a B behind them is fine. */
static bool read_size(const char *text, double *bytes)
{
    static const char letters[] = "KMGT";
    if (!read_decimal(&text, bytes))
        return false;
    const char *letter = *text ? strchr(letters, *text) : NULL;
    if (letter) {
        bool binary = *++text == 'i';
        text += binary;
        for (const char *power = letters; power <= letter; power++)
            *bytes *= binary ? 1024 : 1000;
    }
    text += *text == 'B';
    return *text == '\0';
}

static int set_size(const struct parser *parser, const struct option *option, const char *value)
{
    double bytes;
    if (!read_size(value, &bytes) || !in_range(option, bytes))
        return error_set(parser->err, HEARTH_E_ARGUMENT,
                         "--%s takes a size, as 500M or 2.6G (K, M, G: powers of 1000; Ki, Mi, Gi: "
                         "of 1024), not '%s'",
                         option->name, value);
    *(uint64_t *)field(parser->settings, option->offset) = (uint64_t)bytes;
    return 0;
}

static int set_choice(const struct parser *parser, const struct option *option, const char *value)
{
    struct buffer list;
    buffer_init(&list, 256);
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], value) == 0) {
            *(int *)field(parser->settings, option->offset) = i;
            buffer_finish(&list);
            return 0;
        }
        buffer_format(&list, "%s%s", i ? ", " : "", option->choices[i]);
    }
    int status = error_set(parser->err, HEARTH_E_ARGUMENT, "--%s takes one of %s, not '%s'",
                           option->name, list.data ? list.data : "", value);
    buffer_finish(&list);
    return status;
}

static int set_counts(const struct parser *parser, const struct option *option, const char *value)
{
    struct count_list list = {0};
    const char *at = value;
    for (;;) {
        char *end;
        errno = 0;
        long long number = strtoll(at, &end, 10);
        if (end == at || (*end != '\0' && *end != ',') || errno != 0 ||
            !in_range(option, (double)number))
            return error_set(parser->err, HEARTH_E_ARGUMENT,
                             "--%s takes whole numbers from %.16g to %.16g, with commas between "
                             "them, not '%s'",
                             option->name, option->min, option->max, value);
        if (list.count == COUNT_LIST_MAX)
            return error_set(parser->err, HEARTH_E_ARGUMENT, "--%s takes at most %d numbers",
                             option->name, COUNT_LIST_MAX);
        list.items[list.count++] = (uint32_t)number;
        if (*end == '\0')
            break;
        at = end + 1;
    }
    *(struct count_list *)field(parser->settings, option->offset) = list;
    return 0;
}

/* The nanoseconds of a text such as 5m; false for what is none. */
static bool read_duration(const char *value, uint64_t *ns)
{
    char *unit;
    if (strcmp(value, "never") == 0 || strcmp(value, "0") == 0) {
        *ns = value[0] == '0' ? 0 : UINT64_MAX;
        return true;
    }
    double number = strtod(value, &unit);
    if (unit == value || unit != value + strspn(value, "0123456789."))
        return false;
    for (size_t i = 0; i < DURATION_UNITS; i++) {
        double all = number * (double)duration_units[i].ns;
        if (strcmp(unit, duration_units[i].name) == 0 && all <= DURATION_NS_MAX) {
            *ns = (uint64_t)(all + 0.5);
            return true;
        }
    }
    return false;
}

static int set_duration(const struct parser *parser, const struct option *option, const char *value)
{
    uint64_t ns;
    if (!read_duration(value, &ns))
        return error_set(parser->err, HEARTH_E_ARGUMENT,
                         "--%s takes a time such as 500ms, 90s, 5m or 1.5h, or 0, or never, not "
                         "'%s'",
                         option->name, value);
    *(uint64_t *)field(parser->settings, option->offset) = ns;
    return 0;
}

static int add_text(const struct parser *parser, size_t offset, const char *name, const char *value)
{
    struct text_list *list = field(parser->settings, offset);
    const char **items = mem_realloc_array(list->items, list->count + 1, sizeof *items);
    if (!items)
        return error_set(parser->err, HEARTH_E_MEMORY, "no memory for %s", name);
    items[list->count++] = value;
    list->items = items;
    return 0;
}

static int set_value(struct parser *parser, const struct option *option, const char *value)
{
    switch (option->type) {
    case OPTION_INT:
    case OPTION_UINT:
    case OPTION_SEED:
        return set_whole(parser, option, value);
    case OPTION_REAL:
        return set_real(parser, option, value);
    case OPTION_SIZE:
        return set_size(parser, option, value);
    case OPTION_TEXT:
    case OPTION_FILE:
    case OPTION_SESSION:
        *(const char **)field(parser->settings, option->offset) = value;
        return 0;
    case OPTION_TEXTS:
    case OPTION_FILES:
        return add_text(parser, option->offset, option->name, value);
    case OPTION_CHOICE:
        return set_choice(parser, option, value);
    case OPTION_COUNTS:
        return set_counts(parser, option, value);
    case OPTION_DURATION:
        return set_duration(parser, option, value);
    case OPTION_FLAG:
        break;
    }
    assert(option->type == OPTION_FLAG);
    if (option == &option_help)
        parser->help = true;
    else
        *(bool *)field(parser->settings, option->offset) = true;
    return 0;
}

/* ---- words ---- */

static int option_without_value(const struct parser *parser, const struct option *option)
{
    return error_set(parser->err, HEARTH_E_ARGUMENT, "--%s needs a value: --%s %s", option->name,
                     option->name, option->argument);
}

static int take_value(struct parser *parser, const struct option *option, const char *attached)
{
    if (attached)
        return set_value(parser, option, attached);
    if (parser->next == parser->count)
        return option_without_value(parser, option);
    return set_value(parser, option, parser->words[parser->next++]);
}

static int parse_long(struct parser *parser, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t size = equals ? (size_t)(equals - word) : strlen(word);
    const struct option *option = NULL;
    for (size_t i = 0; (option = option_at(parser->command, i)) != NULL; i++) {
        if (strncmp(option->name, word, size) == 0 && option->name[size] == '\0')
            break;
    }
    if (!option) {
        char name[NAME_MAX_COMPARED + 1] = {0};
        memcpy(name, word, size < NAME_MAX_COMPARED ? size : NAME_MAX_COMPARED);
        const char *near =
            nearest_name(name, parser->command->option_count + 1, option_name_at, parser->command);
        return error_set(parser->err, HEARTH_E_ARGUMENT, "there is no option --%.*s%s%s%s",
                         (int)(size < 64 ? size : 64), word, near ? "; did you mean --" : "",
                         near ? near : "", near ? "?" : "");
    }
    if (option->type != OPTION_FLAG)
        return take_value(parser, option, equals ? equals + 1 : NULL);
    if (equals)
        return error_set(parser->err, HEARTH_E_ARGUMENT, "--%s takes no value", option->name);
    return set_value(parser, option, NULL);
}

static int parse_short(struct parser *parser, const char *letters)
{
    while (*letters) {
        const struct option *option = NULL;
        for (size_t i = 0; (option = option_at(parser->command, i)) != NULL; i++) {
            if (option->short_name == *letters)
                break;
        }
        if (!option)
            return error_set(parser->err, HEARTH_E_ARGUMENT, "there is no option -%c", *letters);
        letters++;
        if (option->type != OPTION_FLAG)
            return take_value(parser, option, *letters ? letters : NULL);
        int status = set_value(parser, option, NULL);
        if (status)
            return status;
    }
    return 0;
}

static const char *choice_at(const void *context, size_t index)
{
    return ((const struct operand *)context)->choices[index];
}

static int set_operand_choice(const struct parser *parser, const struct operand *operand,
                              const char *word)
{
    size_t count = 0;
    for (; operand->choices[count]; count++) {
        if (strcmp(operand->choices[count], word) == 0) {
            *(int *)field(parser->settings, operand->offset) = (int)count;
            return 0;
        }
    }
    const char *near = nearest_name(word, count, choice_at, operand);
    return error_set(parser->err, HEARTH_E_ARGUMENT, "'%s' is no %s%s%s%s", word, operand->name,
                     near ? "; did you mean " : ": ", near ? near : operand->help, near ? "?" : "");
}

static int parse_operand(struct parser *parser, const char *word)
{
    if (parser->operand == parser->command->operand_count) {
        if (parser->operand == 0)
            return error_set(parser->err, HEARTH_E_ARGUMENT, "'%s' is one word too many", word);
        const char *last = parser->command->operands[parser->operand - 1].name;
        return error_set(parser->err, HEARTH_E_ARGUMENT,
                         "'%s' is one word too many after %s; a text with spaces needs quotes",
                         word, last);
    }
    const struct operand *operand = &parser->command->operands[parser->operand];
    if (operand->type == OPERAND_SESSIONS) /* takes all that follow */
        return add_text(parser, operand->offset, operand->name, word);
    parser->operand++;
    if (operand->type == OPERAND_CHOICE)
        return set_operand_choice(parser, operand, word);
    *(const char **)field(parser->settings, operand->offset) = word;
    return 0;
}

int options_parse(const struct command *command, int count, char *const *words, void *settings,
                  bool *help, struct hearth_error *err)
{
    struct parser parser = {
        .command = command, .count = count, .words = words, .settings = settings, .err = err};
    bool options_ended = false;
    int status = 0;
    while (!status && !parser.help && parser.next < count) {
        const char *word = words[parser.next++];
        if (options_ended || word[0] != '-' || word[1] == '\0')
            status = parse_operand(&parser, word);
        else if (strcmp(word, "--") == 0)
            options_ended = true;
        else if (word[1] == '-')
            status = parse_long(&parser, word + 2);
        else
            status = parse_short(&parser, word + 1);
    }
    if (status)
        return status;
    *help = parser.help;
    if (!parser.help && parser.operand < command->operand_count &&
        command->operands[parser.operand].required)
        return error_set(err, HEARTH_E_ARGUMENT, "hearth %s needs %s: %s", command->name,
                         command->operands[parser.operand].name,
                         command->operands[parser.operand].help);
    return 0;
}
