/* The lexer: data and the tokens of tags, with jinja2's rules for white space (trim_blocks and
 * lstrip_blocks on: a block's or comment's line end goes, and so do blanks before it on its line;
 * "-" strips more, "+" keeps). */
#include <string.h>

#include "base/utf8.h"
#include "model/template_run.h"

#define BRACKETS_MAX (2 * TPL_PARSE_DEPTH_MAX)

struct lexer {
    struct tpl_arena *arena;
    struct text source;
    size_t at;
    uint32_t line;
    size_t counted; /* `line` is that of this offset */
    struct tpl_token *tokens;
    size_t count, capacity;
    char brackets[BRACKETS_MAX]; /* the closing ones that are awaited */
    unsigned open;
    struct hearth_error *err;
};

static uint32_t line_at(struct lexer *lexer, size_t at)
{
    for (; lexer->counted < at; lexer->counted++)
        lexer->line += lexer->source.data[lexer->counted] == '\n';
    return lexer->line;
}

static int fail(struct lexer *lexer, const char *what)
{
    return error_set(lexer->err, HEARTH_E_TEMPLATE, "template line %u: %s",
                     line_at(lexer, lexer->at), what);
}

static int fail_memory(struct lexer *lexer)
{
    if (lexer->arena->exhausted)
        return error_set(lexer->err, HEARTH_E_LIMIT, "the template is too large");
    return error_set(lexer->err, HEARTH_E_MEMORY, "out of memory while parsing a template");
}

static struct tpl_token *emit(struct lexer *lexer, enum tpl_token_kind kind, size_t at)
{
    if (lexer->count == lexer->capacity) {
        size_t grown = lexer->capacity * 2 + 64;
        struct tpl_token *tokens = tpl_arena_grow(
            lexer->arena, lexer->tokens, lexer->capacity * sizeof *tokens, grown * sizeof *tokens);
        if (!tokens)
            return NULL;
        lexer->tokens = tokens;
        lexer->capacity = grown;
    }
    struct tpl_token *token = &lexer->tokens[lexer->count++];
    *token = (struct tpl_token){.kind = kind, .line = line_at(lexer, at)};
    return token;
}

static bool looking_at(const struct lexer *lexer, size_t at, const char *what)
{
    size_t size = strlen(what);
    return lexer->source.size - at >= size && memcmp(lexer->source.data + at, what, size) == 0;
}

static char byte_at(const struct lexer *lexer, size_t at)
{
    return at < lexer->source.size ? lexer->source.data[at] : '\0';
}

static size_t skip_space(const struct lexer *lexer, size_t at)
{
    uint32_t code_point;
    while (at < lexer->source.size) {
        size_t length = tpl_decode(lexer->source, at, &code_point);
        if (!tpl_is_space(code_point))
            break;
        at += length;
    }
    return at;
}

/* ---- the text between tags ---- */

/* Emits [from, to) as data, stripped as the sign of the tag behind it says. */
static bool emit_data(struct lexer *lexer, size_t from, size_t to, char sign, bool is_variable)
{
    const char *data = lexer->source.data;
    if (sign == '-') {
        uint32_t code_point;
        while (to > from) {
            size_t start = to - 1;
            while (start > from && ((unsigned char)data[start] & 0xc0) == 0x80)
                start--;
            tpl_decode(lexer->source, start, &code_point);
            if (!tpl_is_space(code_point))
                break;
            to = start;
        }
    } else if (sign != '+' && !is_variable) {
        size_t line_start = to;
        while (line_start > from && data[line_start - 1] != '\n')
            line_start--;
        bool starts_line = line_start > from || from == 0 || data[from - 1] == '\n';
        if (starts_line && skip_space(lexer, line_start) >= to)
            to = line_start;
    }
    if (to == from)
        return true;
    struct tpl_token *token = emit(lexer, TPL_T_DATA, from);
    if (token)
        token->text = (struct text){data + from, to - from};
    return token != NULL;
}

/* The end of a tag whose closing mark stands at `at`, for blocks, comments and endraw: the blanks
 * or the line end behind it belong to it. */
static size_t after_close(const struct lexer *lexer, size_t at, char sign)
{
    at += 2;
    if (sign == '-')
        return skip_space(lexer, at);
    return at + (sign != '+' && byte_at(lexer, at) == '\n');
}

/* Recognizes "%}", "-%}", "+%}" at `at`; 0, or the offset behind the tag. */
static size_t block_end_at(const struct lexer *lexer, size_t at)
{
    char sign = byte_at(lexer, at);
    if (sign == '-' || sign == '+')
        at++;
    return at < lexer->source.size && looking_at(lexer, at, "%}") ? after_close(lexer, at, sign)
                                                                  : 0;
}

/* "{%" sign? name at `at` (of "{%"): the offset behind the name and white space, or 0. */
static size_t tag_named(const struct lexer *lexer, size_t at, const char *name)
{
    at += 2;
    if (byte_at(lexer, at) == '-' || byte_at(lexer, at) == '+')
        at++;
    at = skip_space(lexer, at);
    if (at >= lexer->source.size || !looking_at(lexer, at, name))
        return 0;
    return skip_space(lexer, at + strlen(name));
}

/* {% raw %}: no line end is trimmed behind it, other than behind all blocks. */
static size_t raw_begin_at(const struct lexer *lexer, size_t at)
{
    size_t end = tag_named(lexer, at, "raw");
    if (end == 0 || end >= lexer->source.size)
        return 0;
    if (looking_at(lexer, end, "-%}"))
        return skip_space(lexer, end + 3);
    return looking_at(lexer, end, "%}") ? end + 2 : 0;
}

static size_t find_tag(const struct lexer *lexer, size_t at)
{
    while (at < lexer->source.size) {
        const char *brace = memchr(lexer->source.data + at, '{', lexer->source.size - at);
        if (!brace)
            break;
        at = (size_t)(brace - lexer->source.data);
        char next = byte_at(lexer, at + 1);
        if (next == '%' || next == '{' || next == '#')
            return at;
        at++;
    }
    return lexer->source.size;
}

static int lex_raw(struct lexer *lexer, size_t from)
{
    for (size_t at = from; (at = find_tag(lexer, at)) < lexer->source.size; at++) {
        if (byte_at(lexer, at + 1) != '%')
            continue;
        size_t close = tag_named(lexer, at, "endraw");
        size_t end = close ? block_end_at(lexer, close) : 0;
        if (end == 0)
            continue;
        if (!emit_data(lexer, from, at, byte_at(lexer, at + 2), false))
            return fail_memory(lexer);
        lexer->at = end;
        return 0;
    }
    lexer->at = lexer->source.size;
    /* jinja2 does not miss the end of a block that has not one character */
    return from == lexer->source.size ? 0 : fail(lexer, "missing end of raw directive");
}

static int lex_comment(struct lexer *lexer)
{
    size_t from = lexer->at;
    for (size_t at = from; at + 1 < lexer->source.size; at++) {
        if (lexer->source.data[at] == '#' && lexer->source.data[at + 1] == '}') {
            lexer->at = after_close(lexer, at, at > from ? lexer->source.data[at - 1] : '\0');
            return 0;
        }
    }
    lexer->at = lexer->source.size;
    return from == lexer->source.size ? 0 : fail(lexer, "missing end of comment tag");
}

/* ---- inside a tag ---- */

static bool is_digit_of(char byte, int base)
{
    char lower = (char)(byte | 0x20);
    if (base == 16 && lower >= 'a' && lower <= 'f')
        return true;
    return byte >= '0' && byte < (base < 10 ? '0' + base : '9' + 1);
}

/* Digits with single underscores between them. */
static size_t skip_digits(const struct lexer *lexer, size_t at, int base)
{
    while (is_digit_of(byte_at(lexer, at), base)) {
        at++;
        if (byte_at(lexer, at) == '_' && is_digit_of(byte_at(lexer, at + 1), base))
            at++;
    }
    return at;
}

static size_t float_end(const struct lexer *lexer, size_t at)
{
    if (at > 0 && lexer->source.data[at - 1] == '.')
        return 0;
    size_t end = skip_digits(lexer, at, 10);
    bool is_float = false;
    if (byte_at(lexer, end) == '.' && is_digit_of(byte_at(lexer, end + 1), 10)) {
        end = skip_digits(lexer, end + 1, 10);
        is_float = true;
    }
    if ((byte_at(lexer, end) | 0x20) == 'e') {
        size_t digits = end + 1;
        digits += byte_at(lexer, digits) == '+' || byte_at(lexer, digits) == '-';
        if (is_digit_of(byte_at(lexer, digits), 10)) {
            end = skip_digits(lexer, digits, 10);
            is_float = true;
        }
    }
    return is_float ? end : 0;
}

static size_t integer_end(const struct lexer *lexer, size_t at, int *base)
{
    *base = 10;
    if (byte_at(lexer, at) != '0')
        return skip_digits(lexer, at, 10);
    char mark = (char)(byte_at(lexer, at + 1) | 0x20);
    int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    size_t digits = at + 2;
    digits += marked && byte_at(lexer, digits) == '_';
    if (marked && is_digit_of(byte_at(lexer, digits), marked)) {
        *base = marked;
        return skip_digits(lexer, digits, marked);
    }
    at++;
    while (byte_at(lexer, at) == '0' ||
           (byte_at(lexer, at) == '_' && byte_at(lexer, at + 1) == '0'))
        at++;
    return at;
}

static int lex_number(struct lexer *lexer)
{
    size_t from = lexer->at, end = float_end(lexer, from);
    struct tpl_token *token = emit(lexer, end ? TPL_T_FLOAT : TPL_T_INTEGER, from);
    if (!token)
        return fail_memory(lexer);
    if (end) {
        struct text text = {lexer->source.data + from, end - from};
        if (!tpl_parse_float(text, &token->number.real))
            return fail(lexer, "a number that cannot be read");
    } else {
        int base;
        bool overflow = false;
        end = integer_end(lexer, from, &base);
        size_t skip = base == 10 ? 0 : 2;
        skip += skip && byte_at(lexer, from + 2) == '_';
        struct text text = {lexer->source.data + from + skip, end - from - skip};
        if (!tpl_parse_int(text, base, &token->number.integer, &overflow))
            return fail(lexer, overflow ? "an integer of more than 64 bits"
                                        : "a number that cannot be read");
    }
    token->text = (struct text){lexer->source.data + from, end - from};
    lexer->at = end;
    return 0;
}

static int lex_name(struct lexer *lexer)
{
    size_t from = lexer->at, at = from;
    uint32_t code_point;
    tpl_decode(lexer->source, from, &code_point);
    if (!tpl_is_name_start(code_point))
        return fail(lexer, "invalid character in an identifier");
    while (at < lexer->source.size) {
        size_t length = tpl_decode(lexer->source, at, &code_point);
        if (!tpl_is_name_part(code_point))
            break;
        at += length;
    }
    struct tpl_token *token = emit(lexer, TPL_T_NAME, from);
    if (!token)
        return fail_memory(lexer);
    token->text = (struct text){lexer->source.data + from, at - from};
    lexer->at = at;
    return 0;
}

static int hex_value(char byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    char lower = (char)(byte | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* The number that `digits` hexadecimal digits at `at` spell, or UINT32_MAX. */
static uint32_t read_hex(struct text text, size_t at, size_t digits)
{
    uint32_t value = 0;
    if (text.size - at < digits)
        return UINT32_MAX;
    for (size_t i = 0; i < digits; i++) {
        int digit = hex_value(text.data[at + i]);
        if (digit < 0)
            return UINT32_MAX;
        value = value << 4 | (uint32_t)digit;
    }
    return value;
}

/* One escape behind its backslash: appends to `out` and returns how many bytes it took, 0 for a
 * malformed one. Python turns text beyond ASCII into escapes before it looks for them, which is
 * why a backslash before such a character gives the spelled-out number. */
static size_t unescape(struct text text, size_t at, char *out, size_t *used)
{
    static const char simple[] = "\\\\''\"\"a\ab\bf\fn\nr\rt\tv\v";
    char byte = text.data[at];
    if (byte == '\n')
        return 1;
    for (size_t i = 0; simple[i]; i += 2) {
        if (simple[i] == byte) {
            out[(*used)++] = simple[i + 1];
            return 1;
        }
    }
    uint32_t value = 0;
    size_t length = 0;
    if (byte >= '0' && byte <= '7') {
        for (; length < 3 && at + length < text.size && is_digit_of(text.data[at + length], 8);
             length++)
            value = value * 8 + (uint32_t)(text.data[at + length] - '0');
    } else if (byte == 'x' || byte == 'u' || byte == 'U') {
        length = byte == 'x' ? 3 : byte == 'u' ? 5 : 9;
        value = read_hex(text, at + 1, length - 1);
    } else if ((unsigned char)byte >= 0x80) {
        length = tpl_decode(text, at, &value);
        unsigned digits = value < 0x100 ? 2 : value < 0x10000 ? 4 : 8;
        out[(*used)++] = '\\';
        out[(*used)++] = digits == 2 ? 'x' : digits == 4 ? 'u' : 'U';
        for (unsigned i = digits; i-- > 0;)
            out[(*used)++] = "0123456789abcdef"[value >> (4 * i) & 15];
        return length;
    } else if (byte == 'N') {
        return 0;
    } else {
        out[(*used)++] = '\\';
        out[(*used)++] = byte;
        return 1;
    }
    size_t encoded = utf8_encode(value, out + *used);
    *used += encoded;
    return encoded ? length : 0;
}

static int lex_string(struct lexer *lexer)
{
    size_t from = lexer->at + 1, end = from;
    char quote = lexer->source.data[lexer->at];
    while (end < lexer->source.size && lexer->source.data[end] != quote)
        end += lexer->source.data[end] == '\\' ? 2 : 1;
    if (end >= lexer->source.size)
        return fail(lexer, "a string that does not end");
    struct tpl_token *token = emit(lexer, TPL_T_STRING, lexer->at);
    if (!token)
        return fail_memory(lexer);
    struct text raw = {lexer->source.data + from, end - from};
    token->text = raw;
    if (raw.size && memchr(raw.data, '\\', raw.size)) {
        /* the longest result: a backslash and 4 bytes become 10 */
        char *out = tpl_arena_alloc(lexer->arena, 2 * raw.size + UTF8_MAX);
        if (!out)
            return fail_memory(lexer);
        size_t used = 0;
        for (size_t at = 0; at < raw.size;) {
            if (raw.data[at] != '\\') {
                out[used++] = raw.data[at++];
                continue;
            }
            size_t length = at + 1 < raw.size ? unescape(raw, at + 1, out, &used) : 0;
            if (length == 0)
                return fail(lexer, "a malformed escape in a string");
            at += 1 + length;
        }
        token->text = (struct text){out, used};
    }
    lexer->at = end + 1;
    return 0;
}

static int lex_bracket(struct lexer *lexer, char byte)
{
    static const char pairs[] = "()[]{}";
    const char *place = strchr(pairs, byte);
    if ((place - pairs) % 2 == 0) {
        if (lexer->open == BRACKETS_MAX)
            return error_set(lexer->err, HEARTH_E_LIMIT,
                             "template line %u: brackets are nested too deep",
                             line_at(lexer, lexer->at));
        lexer->brackets[lexer->open++] = place[1];
        return 0;
    }
    if (lexer->open == 0 || lexer->brackets[lexer->open - 1] != byte)
        return fail(lexer, "a bracket that does not match");
    lexer->open--;
    return 0;
}

static int lex_operator(struct lexer *lexer)
{
    static const struct {
        char text[3];
        enum tpl_token_kind kind;
    } table[] = {
        {"//", TPL_T_FLOORDIV}, {"**", TPL_T_POW},      {"==", TPL_T_EQ},    {"!=", TPL_T_NE},
        {">=", TPL_T_GE},       {"<=", TPL_T_LE},       {"+", TPL_T_ADD},    {"-", TPL_T_SUB},
        {"/", TPL_T_DIV},       {"*", TPL_T_MUL},       {"%", TPL_T_MOD},    {"~", TPL_T_TILDE},
        {"[", TPL_T_LBRACKET},  {"]", TPL_T_RBRACKET},  {"(", TPL_T_LPAREN}, {")", TPL_T_RPAREN},
        {"{", TPL_T_LBRACE},    {"}", TPL_T_RBRACE},    {">", TPL_T_GT},     {"<", TPL_T_LT},
        {"=", TPL_T_ASSIGN},    {".", TPL_T_DOT},       {":", TPL_T_COLON},  {"|", TPL_T_PIPE},
        {",", TPL_T_COMMA},     {";", TPL_T_SEMICOLON},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (!looking_at(lexer, lexer->at, table[i].text))
            continue;
        char byte = table[i].text[0];
        int status = strchr("()[]{}", byte) ? lex_bracket(lexer, byte) : 0;
        if (status < 0)
            return status;
        if (!emit(lexer, table[i].kind, lexer->at))
            return fail_memory(lexer);
        lexer->at += strlen(table[i].text);
        return 0;
    }
    return fail(lexer, "an unexpected character");
}

/* The end of the tag at the current place, or 0 where there is none. */
static size_t tag_end(const struct lexer *lexer, bool is_variable)
{
    if (lexer->open)
        return 0;
    if (!is_variable)
        return block_end_at(lexer, lexer->at);
    if (looking_at(lexer, lexer->at, "-}}"))
        return skip_space(lexer, lexer->at + 3);
    return looking_at(lexer, lexer->at, "}}") ? lexer->at + 2 : 0;
}

static int lex_tag(struct lexer *lexer, bool is_variable)
{
    for (;;) {
        lexer->at = lexer->at < lexer->source.size && tag_end(lexer, is_variable)
                        ? lexer->at
                        : skip_space(lexer, lexer->at);
        if (lexer->at >= lexer->source.size)
            return 0; /* the parser finds out that the tag has no end */
        size_t end = tag_end(lexer, is_variable);
        if (end) {
            if (!emit(lexer, is_variable ? TPL_T_VARIABLE_END : TPL_T_BLOCK_END, lexer->at))
                return fail_memory(lexer);
            lexer->at = end;
            return 0;
        }
        char byte = lexer->source.data[lexer->at];
        uint32_t code_point;
        tpl_decode(lexer->source, lexer->at, &code_point);
        int status;
        if (is_digit_of(byte, 10))
            status = lex_number(lexer);
        else if (tpl_is_word(code_point))
            status = lex_name(lexer);
        else if (byte == '"' || byte == '\'')
            status = lex_string(lexer);
        else
            status = lex_operator(lexer);
        if (status < 0)
            return status;
    }
}

static int lex_root(struct lexer *lexer)
{
    size_t from = lexer->at, tag = find_tag(lexer, from);
    if (tag == lexer->source.size) {
        lexer->at = tag;
        return emit_data(lexer, from, tag, '+', true) ? 0 : fail_memory(lexer);
    }
    char kind = lexer->source.data[tag + 1], sign = byte_at(lexer, tag + 2);
    bool signed_tag = sign == '-' || sign == '+';
    if (!emit_data(lexer, from, tag, sign, kind == '{'))
        return fail_memory(lexer);
    size_t raw = kind == '%' ? raw_begin_at(lexer, tag) : 0;
    lexer->at = tag + 2 + signed_tag;
    if (raw)
        return lex_raw(lexer, raw);
    if (kind == '#')
        return lex_comment(lexer);
    if (!emit(lexer, kind == '{' ? TPL_T_VARIABLE_BEGIN : TPL_T_BLOCK_BEGIN, tag))
        return fail_memory(lexer);
    return lex_tag(lexer, kind == '{');
}

int tpl_tokenize(struct tpl_arena *arena, struct text source, struct tpl_tokens *out,
                 struct hearth_error *err)
{
    struct lexer lexer = {.arena = arena, .source = source, .line = 1, .err = err};
    while (lexer.at < source.size) {
        int status = lex_root(&lexer);
        if (status < 0)
            return status;
    }
    if (!emit(&lexer, TPL_T_END, source.size))
        return fail_memory(&lexer);
    *out = (struct tpl_tokens){lexer.tokens, lexer.count};
    return 0;
}
