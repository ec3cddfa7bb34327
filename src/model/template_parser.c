/* Expressions: operators by precedence climbing, chains flattened into one node. */
#include "model/template_parser.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/template_run.h"

/* From loose to tight; `~` binds tighter than + and looser than *. */
enum level { L_OR = 1, L_AND, L_NOT, L_COMPARE, L_ADD, L_CONCAT, L_MUL, L_POW, L_UNARY };

/* ---- helpers shared with the statements ---- */

void *tpl_parser_fail(struct tpl_parser *parser, const char *format, ...)
{
    char what[400];
    if (parser->code != 0)
        return NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    parser->code = error_set(parser->err, HEARTH_E_TEMPLATE, "template line %u: %s",
                             tpl_current(parser)->line, what);
    return NULL;
}

void *tpl_parser_alloc(struct tpl_parser *parser, size_t size)
{
    void *memory = tpl_arena_alloc(parser->arena, size);
    if (!memory && parser->code == 0)
        parser->code =
            parser->arena->exhausted
                ? error_set(parser->err, HEARTH_E_LIMIT, "the template is too large")
                : error_set(parser->err, HEARTH_E_MEMORY, "out of memory while parsing a template");
    return memory;
}

bool tpl_parser_enter(struct tpl_parser *parser)
{
    if (parser->depth < TPL_PARSE_DEPTH_MAX) {
        parser->depth++;
        return true;
    }
    if (parser->code == 0)
        parser->code = error_set(parser->err, HEARTH_E_LIMIT,
                                 "template line %u: tags or expressions are nested too deep",
                                 tpl_current(parser)->line);
    return false;
}

struct tpl_node *tpl_parser_node(struct tpl_parser *parser, enum tpl_node_kind kind, uint32_t line)
{
    struct tpl_node *node = tpl_parser_alloc(parser, sizeof *node);
    if (node) {
        node->kind = kind;
        node->line = line;
    }
    return node;
}

/* The code points are counted here, since a parsed template is shared between threads. */
bool tpl_parser_string(struct tpl_parser *parser, struct text text, struct tpl_value *out)
{
    struct tpl_string *string = tpl_parser_alloc(parser, sizeof *string);
    if (!string)
        return false;
    size_t points = 0;
    for (size_t i = 0; i < text.size; i++)
        points += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    *string = (struct tpl_string){.data = text.data, .size = text.size, .points = points};
    *out = (struct tpl_value){.kind = TPL_STRING, .as.string = string};
    return true;
}

void tpl_node_list_init(struct tpl_node_list *list)
{
    *list = (struct tpl_node_list){.first = NULL};
    list->end = &list->first;
}

bool tpl_node_list_add(struct tpl_node_list *list, struct tpl_node *node)
{
    if (!node)
        return false;
    *list->end = node;
    list->end = &node->next;
    list->count++;
    return true;
}

bool tpl_token_is(const struct tpl_token *token, const char *name)
{
    return token->kind == TPL_T_NAME && text_equal(token->text, text_of(name));
}

bool tpl_at_name(struct tpl_parser *parser, const char *name)
{
    return tpl_token_is(tpl_current(parser), name);
}

bool tpl_skip(struct tpl_parser *parser, enum tpl_token_kind kind)
{
    bool there = tpl_at(parser, kind);
    if (there)
        tpl_take(parser);
    return there;
}

bool tpl_skip_name(struct tpl_parser *parser, const char *name)
{
    bool there = tpl_at_name(parser, name);
    if (there)
        tpl_take(parser);
    return there;
}

static const char *describe_kind(enum tpl_token_kind kind)
{
    static const char *const names[] = {"the end of the template",
                                        "text",
                                        "{{",
                                        "}}",
                                        "{%",
                                        "%}",
                                        "a name",
                                        "a string",
                                        "an integer",
                                        "a number",
                                        "+",
                                        "-",
                                        "/",
                                        "//",
                                        "*",
                                        "%",
                                        "**",
                                        "~",
                                        "[",
                                        "]",
                                        "(",
                                        ")",
                                        "{",
                                        "}",
                                        "==",
                                        "!=",
                                        ">",
                                        ">=",
                                        "<",
                                        "<=",
                                        "=",
                                        ".",
                                        ":",
                                        "|",
                                        ",",
                                        ";"};
    return names[kind];
}

const char *tpl_describe(const struct tpl_token *token)
{
    return describe_kind(token->kind);
}

static void *fail_unexpected(struct tpl_parser *parser, const char *expected)
{
    const struct tpl_token *token = tpl_current(parser);
    if (token->kind == TPL_T_NAME)
        return tpl_parser_fail(parser, "expected %s, found '%.*s'", expected,
                               TEXT_ARGS(token->text));
    return tpl_parser_fail(parser, "expected %s, found %s", expected, tpl_describe(token));
}

bool tpl_expect(struct tpl_parser *parser, enum tpl_token_kind kind)
{
    if (tpl_skip(parser, kind))
        return true;
    fail_unexpected(parser, describe_kind(kind));
    return false;
}

bool tpl_expect_name(struct tpl_parser *parser, struct text *name)
{
    if (!tpl_at(parser, TPL_T_NAME)) {
        fail_unexpected(parser, "a name");
        return false;
    }
    *name = tpl_take(parser)->text;
    return true;
}

/* ---- names ---- */

static uint64_t hash_text(struct text text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < text.size; i++)
        hash = (hash ^ (unsigned char)text.data[i]) * 1099511628211u;
    return hash ^ hash >> 29;
}

static bool grow_names(struct tpl_parser *parser)
{
    size_t size = parser->name_index_size ? parser->name_index_size * 2 : 128;
    uint32_t *index = tpl_parser_alloc(parser, size * sizeof *index);
    struct text *names =
        tpl_arena_grow(parser->arena, parser->tpl->names, parser->name_capacity * sizeof *names,
                       size / 2 * sizeof *names);
    if (!index || !names)
        return tpl_parser_alloc(parser, SIZE_MAX / 2) != NULL; /* records the error */
    for (uint32_t i = 0; i < parser->tpl->name_count; i++) {
        size_t at = hash_text(names[i]) & (size - 1);
        while (index[at])
            at = (at + 1) & (size - 1);
        index[at] = i + 1;
    }
    parser->tpl->names = names;
    parser->name_capacity = size / 2;
    parser->name_index = index;
    parser->name_index_size = size;
    return true;
}

static bool intern(struct tpl_parser *parser, struct text name, uint32_t *id)
{
    if (parser->tpl->name_count == parser->name_capacity && !grow_names(parser))
        return false;
    size_t mask = parser->name_index_size - 1, at = hash_text(name) & mask;
    for (; parser->name_index[at]; at = (at + 1) & mask) {
        *id = parser->name_index[at] - 1;
        if (text_equal(parser->tpl->names[*id], name))
            return true;
    }
    *id = parser->tpl->name_count++;
    parser->tpl->names[*id] = name;
    parser->name_index[at] = *id + 1;
    return true;
}

struct tpl_node *tpl_parse_name_node(struct tpl_parser *parser, struct text name, uint32_t line)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_NAME, line);
    uint32_t id;
    if (!node || !intern(parser, name, &id))
        return NULL;
    node->as.name.ref = (struct tpl_ref){.name = id, .slot = TPL_NO_SLOT};
    return node;
}

/* ---- literals and other primaries ---- */

static struct tpl_node *constant(struct tpl_parser *parser, struct tpl_value value, uint32_t line)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_CONST, line);
    if (node)
        node->as.constant = value;
    return node;
}

static struct tpl_node *parse_string(struct tpl_parser *parser)
{
    const struct tpl_token *token = tpl_take(parser);
    struct text text = token->text;
    struct tpl_value value;
    while (tpl_at(parser, TPL_T_STRING)) {
        struct text more = tpl_take(parser)->text;
        char *joined = tpl_parser_alloc(parser, text.size + more.size + 1);
        if (!joined)
            return NULL;
        if (text.size)
            memcpy(joined, text.data, text.size);
        if (more.size)
            memcpy(joined + text.size, more.data, more.size);
        text = (struct text){joined, text.size + more.size};
    }
    return tpl_parser_string(parser, text, &value) ? constant(parser, value, token->line) : NULL;
}

static struct tpl_node *parse_list(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_LIST, tpl_take(parser)->line);
    struct tpl_node_list items;
    tpl_node_list_init(&items);
    while (node && !tpl_at(parser, TPL_T_RBRACKET)) {
        if (items.count && !tpl_expect(parser, TPL_T_COMMA))
            return NULL;
        if (tpl_at(parser, TPL_T_RBRACKET))
            break;
        if (!tpl_node_list_add(&items, tpl_parse_expression(parser, true)))
            return NULL;
    }
    if (!node || !tpl_expect(parser, TPL_T_RBRACKET))
        return NULL;
    node->as.list.items = items.first;
    node->as.list.count = items.count;
    return node;
}

static struct tpl_node *parse_dict(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_DICT, tpl_take(parser)->line);
    struct tpl_node_list items;
    tpl_node_list_init(&items);
    while (node && !tpl_at(parser, TPL_T_RBRACE)) {
        if (items.count && !tpl_expect(parser, TPL_T_COMMA))
            return NULL;
        if (tpl_at(parser, TPL_T_RBRACE))
            break;
        if (!tpl_node_list_add(&items, tpl_parse_expression(parser, true)) ||
            !tpl_expect(parser, TPL_T_COLON) ||
            !tpl_node_list_add(&items, tpl_parse_expression(parser, true)))
            return NULL;
    }
    if (!node || !tpl_expect(parser, TPL_T_RBRACE))
        return NULL;
    node->as.list.items = items.first;
    node->as.list.count = items.count;
    return node;
}

static struct tpl_node *parse_tuple_of(struct tpl_parser *parser,
                                       struct tpl_node *(*part)(struct tpl_parser *),
                                       const char *end, bool parenthesized);

static struct tpl_node *parse_name(struct tpl_parser *parser, bool with_namespace)
{
    const struct tpl_token *token = tpl_take(parser);
    if (tpl_token_is(token, "true") || tpl_token_is(token, "True"))
        return constant(parser, tpl_bool(true), token->line);
    if (tpl_token_is(token, "false") || tpl_token_is(token, "False"))
        return constant(parser, tpl_bool(false), token->line);
    if (tpl_token_is(token, "none") || tpl_token_is(token, "None"))
        return constant(parser, tpl_none(), token->line);
    struct tpl_node *node = tpl_parse_name_node(parser, token->text, token->line);
    if (!node || !with_namespace || !tpl_skip(parser, TPL_T_DOT))
        return node;
    struct text attribute;
    if (!tpl_expect_name(parser, &attribute) ||
        !tpl_parser_string(parser, attribute, &node->as.name.attribute))
        return NULL;
    node->kind = TPL_N_NSREF;
    return node;
}

static struct tpl_node *parse_full(struct tpl_parser *parser)
{
    return tpl_parse_expression(parser, true);
}

static struct tpl_node *parse_without_cond(struct tpl_parser *parser)
{
    return tpl_parse_expression(parser, false);
}

static struct tpl_node *parse_primary_in(struct tpl_parser *parser, bool with_namespace)
{
    const struct tpl_token *token = tpl_current(parser);
    switch (token->kind) {
    case TPL_T_NAME:
        return parse_name(parser, with_namespace);
    case TPL_T_STRING:
        return parse_string(parser);
    case TPL_T_INTEGER:
        return constant(parser, tpl_int(tpl_take(parser)->number.integer), token->line);
    case TPL_T_FLOAT:
        return constant(parser, tpl_float(tpl_take(parser)->number.real), token->line);
    case TPL_T_LPAREN: {
        tpl_take(parser);
        struct tpl_node *node = parse_tuple_of(parser, parse_full, NULL, true);
        return node && tpl_expect(parser, TPL_T_RPAREN) ? node : NULL;
    }
    case TPL_T_LBRACKET:
        return parse_list(parser);
    case TPL_T_LBRACE:
        return parse_dict(parser);
    default:
        return fail_unexpected(parser, "an expression");
    }
}

static struct tpl_node *parse_primary(struct tpl_parser *parser)
{
    return parse_primary_in(parser, false);
}

static struct tpl_node *parse_namespace_primary(struct tpl_parser *parser)
{
    return parse_primary_in(parser, true);
}

static bool at_tuple_end(struct tpl_parser *parser, const char *end)
{
    enum tpl_token_kind kind = tpl_current(parser)->kind;
    if (kind == TPL_T_VARIABLE_END || kind == TPL_T_BLOCK_END || kind == TPL_T_RPAREN)
        return true;
    return end && tpl_at_name(parser, end);
}

static struct tpl_node *parse_tuple_of(struct tpl_parser *parser,
                                       struct tpl_node *(*part)(struct tpl_parser *),
                                       const char *end, bool parenthesized)
{
    uint32_t line = tpl_current(parser)->line;
    bool is_tuple = false;
    struct tpl_node_list items;
    tpl_node_list_init(&items);
    for (;;) {
        if (items.count && !tpl_expect(parser, TPL_T_COMMA))
            return NULL;
        if (at_tuple_end(parser, end))
            break;
        if (!tpl_node_list_add(&items, part(parser)))
            return NULL;
        if (!tpl_at(parser, TPL_T_COMMA))
            break;
        is_tuple = true;
    }
    if (!is_tuple && items.first)
        return items.first;
    if (!is_tuple && !parenthesized)
        return fail_unexpected(parser, "an expression");
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_TUPLE, line);
    if (node) {
        node->as.list.items = items.first;
        node->as.list.count = items.count;
    }
    return node;
}

struct tpl_node *tpl_parse_tuple(struct tpl_parser *parser, bool with_cond, const char *end)
{
    return parse_tuple_of(parser, with_cond ? parse_full : parse_without_cond, end, false);
}

/* Tuples within tuples are bounded by the parser's own depth. */
static bool can_assign(struct tpl_parser *parser, struct tpl_node *node)
{
    if (node->kind == TPL_N_NAME)
        node->as.name.stored = true;
    if (node->kind == TPL_N_NAME && parser->for_depth > 0 &&
        text_equal(parser->tpl->names[node->as.name.ref.name], TEXT("loop")))
        return tpl_parser_fail(parser, "cannot assign to the special variable 'loop'") != NULL;
    if (node->kind == TPL_N_NAME || node->kind == TPL_N_NSREF)
        return true;
    if (node->kind != TPL_N_TUPLE)
        return false;
    for (struct tpl_node *item = node->as.list.items; item; item = item->next) {
        if (!can_assign(parser, item))
            return false;
    }
    return true;
}

struct tpl_node *tpl_parse_target(struct tpl_parser *parser, bool with_namespace, const char *end)
{
    struct tpl_node *node = parse_tuple_of(
        parser, with_namespace ? parse_namespace_primary : parse_primary, end, false);
    if (!node)
        return NULL;
    return can_assign(parser, node) ? node : tpl_parser_fail(parser, "this cannot be assigned to");
}

/* ---- what follows a primary: attributes, items, calls, filters, tests ---- */

static struct tpl_postfix *add_postfix(struct tpl_parser *parser, struct tpl_node **node,
                                       enum tpl_postfix_kind kind)
{
    uint32_t line = tpl_current(parser)->line;
    struct tpl_postfix *step = tpl_parser_alloc(parser, sizeof *step);
    if (!step)
        return NULL;
    step->kind = kind;
    step->line = line;
    if (!*node || (*node)->kind != TPL_N_POSTFIX) {
        struct tpl_node *chain = tpl_parser_node(parser, TPL_N_POSTFIX, line);
        if (!chain)
            return NULL;
        chain->as.postfix.base = *node;
        chain->as.postfix.first = step;
        *node = chain;
    } else {
        (*node)->as.postfix.last->next = step;
    }
    (*node)->as.postfix.last = step;
    return step;
}

static bool add_keyword(struct tpl_parser *parser, struct tpl_call *call, struct tpl_keyword ***end)
{
    struct tpl_keyword *keyword = tpl_parser_alloc(parser, sizeof *keyword);
    struct text name = tpl_take(parser)->text;
    if (!keyword || !tpl_parser_string(parser, name, &keyword->name))
        return false;
    for (const struct tpl_keyword *old = call->keywords; old; old = old->next) {
        if (text_equal(tpl_text(old->name), name))
            return tpl_parser_fail(parser, "keyword argument '%.*s' is repeated",
                                   TEXT_ARGS(name)) != NULL;
    }
    tpl_take(parser); /* = */
    keyword->node = tpl_parse_expression(parser, true);
    **end = keyword;
    *end = &keyword->next;
    /* a bound keeps the search for repeated names from growing quadratic */
    if (++call->keyword_count > 255)
        return tpl_parser_fail(parser, "more than 255 keyword arguments") != NULL;
    return keyword->node != NULL;
}

static bool parse_argument(struct tpl_parser *parser, struct tpl_call *call,
                           struct tpl_node_list *args, struct tpl_keyword ***end)
{
    bool ordered = true;
    if (tpl_skip(parser, TPL_T_MUL)) {
        ordered = !call->dyn_args && !call->dyn_keywords;
        call->dyn_args = ordered ? tpl_parse_expression(parser, true) : NULL;
        if (ordered)
            return call->dyn_args != NULL;
    } else if (tpl_skip(parser, TPL_T_POW)) {
        ordered = !call->dyn_keywords;
        call->dyn_keywords = ordered ? tpl_parse_expression(parser, true) : NULL;
        if (ordered)
            return call->dyn_keywords != NULL;
    } else if (tpl_at(parser, TPL_T_NAME) && tpl_look(parser)->kind == TPL_T_ASSIGN) {
        ordered = !call->dyn_keywords;
        if (ordered)
            return add_keyword(parser, call, end);
    } else {
        ordered = !call->dyn_args && !call->dyn_keywords && !call->keywords;
        if (ordered)
            return tpl_node_list_add(args, tpl_parse_expression(parser, true));
    }
    tpl_parser_fail(parser, "arguments in an order that a call cannot have");
    return false;
}

static bool parse_call_args(struct tpl_parser *parser, struct tpl_call *call)
{
    struct tpl_node_list args;
    struct tpl_keyword **end = &call->keywords;
    bool comma = false;
    tpl_node_list_init(&args);
    if (!tpl_expect(parser, TPL_T_LPAREN))
        return false;
    while (!tpl_at(parser, TPL_T_RPAREN)) {
        if (comma && !tpl_expect(parser, TPL_T_COMMA))
            return false;
        if (comma && tpl_at(parser, TPL_T_RPAREN))
            break;
        if (!parse_argument(parser, call, &args, &end))
            return false;
        comma = true;
    }
    call->args = args.first;
    call->count = args.count;
    return tpl_expect(parser, TPL_T_RPAREN);
}

static bool parse_bound(struct tpl_parser *parser, struct tpl_node **out)
{
    if (tpl_at(parser, TPL_T_COLON) || tpl_at(parser, TPL_T_RBRACKET) ||
        tpl_at(parser, TPL_T_COMMA))
        return true;
    *out = tpl_parse_expression(parser, true);
    return *out != NULL;
}

/* Inside brackets: an index, or a slice start:stop:step. */
static bool parse_subscript(struct tpl_parser *parser, struct tpl_postfix *step)
{
    struct tpl_node *bounds[3] = {NULL, NULL, NULL};
    if (!tpl_at(parser, TPL_T_COLON)) {
        bounds[0] = tpl_parse_expression(parser, true);
        if (!bounds[0])
            return false;
        if (!tpl_at(parser, TPL_T_COLON)) {
            step->as.item = bounds[0];
            return true;
        }
    }
    tpl_take(parser);
    if (!parse_bound(parser, &bounds[1]))
        return false;
    if (tpl_skip(parser, TPL_T_COLON) && !parse_bound(parser, &bounds[2]))
        return false;
    step->kind = TPL_P_SLICE;
    step->as.slice.start = bounds[0];
    step->as.slice.stop = bounds[1];
    step->as.slice.step = bounds[2];
    return true;
}

/* x[a, b] is x[(a, b)]. */
static bool parse_more_subscripts(struct tpl_parser *parser, struct tpl_postfix *step)
{
    struct tpl_node *tuple = tpl_parser_node(parser, TPL_N_TUPLE, step->line);
    struct tpl_node_list items;
    tpl_node_list_init(&items);
    if (!tuple || step->kind == TPL_P_SLICE)
        return tpl_parser_fail(parser, "several slices in one subscript") != NULL;
    tpl_node_list_add(&items, step->as.item);
    while (!tpl_at(parser, TPL_T_RBRACKET)) {
        if (!tpl_expect(parser, TPL_T_COMMA) ||
            !tpl_node_list_add(&items, tpl_parse_expression(parser, true)))
            return false;
    }
    tuple->as.list.items = items.first;
    tuple->as.list.count = items.count;
    step->as.item = tuple;
    return true;
}

static bool parse_brackets(struct tpl_parser *parser, struct tpl_node **node)
{
    struct tpl_postfix *step = add_postfix(parser, node, TPL_P_ITEM);
    tpl_take(parser);
    if (!step)
        return false;
    if (tpl_skip(parser, TPL_T_RBRACKET)) { /* x[] is x[()] */
        step->as.item = tpl_parser_node(parser, TPL_N_TUPLE, step->line);
        return step->as.item != NULL;
    }
    if (!parse_subscript(parser, step))
        return false;
    if (!tpl_at(parser, TPL_T_RBRACKET) && !parse_more_subscripts(parser, step))
        return false;
    return tpl_expect(parser, TPL_T_RBRACKET);
}

static bool parse_dot(struct tpl_parser *parser, struct tpl_node **node)
{
    struct tpl_postfix *step = add_postfix(parser, node, TPL_P_ATTRIBUTE);
    tpl_take(parser);
    const struct tpl_token *token = tpl_current(parser);
    if (!step)
        return false;
    if (token->kind == TPL_T_NAME)
        return tpl_parser_string(parser, tpl_take(parser)->text, &step->as.attribute);
    if (token->kind != TPL_T_INTEGER)
        return fail_unexpected(parser, "a name or a number") != NULL;
    step->kind = TPL_P_ITEM;
    step->as.item = constant(parser, tpl_int(tpl_take(parser)->number.integer), token->line);
    return step->as.item != NULL;
}

static bool parse_call(struct tpl_parser *parser, struct tpl_node **node)
{
    struct tpl_postfix *step = add_postfix(parser, node, TPL_P_CALL);
    return step && parse_call_args(parser, &step->as.apply.call);
}

static struct tpl_node *parse_postfix(struct tpl_parser *parser, struct tpl_node *node)
{
    for (;;) {
        bool done;
        switch (tpl_current(parser)->kind) {
        case TPL_T_DOT:
            done = parse_dot(parser, &node);
            break;
        case TPL_T_LBRACKET:
            done = parse_brackets(parser, &node);
            break;
        case TPL_T_LPAREN:
            done = parse_call(parser, &node);
            break;
        default:
            return node;
        }
        if (!done)
            return NULL;
    }
}

/* name.name…, as filters and tests may be called; none with a dot exists. */
static bool parse_dotted(struct tpl_parser *parser, struct text *name)
{
    struct text more;
    if (!tpl_expect_name(parser, name))
        return false;
    while (tpl_skip(parser, TPL_T_DOT)) {
        *name = TEXT("name with a dot");
        if (!tpl_expect_name(parser, &more))
            return false;
    }
    return true;
}

static bool parse_filter(struct tpl_parser *parser, struct tpl_node **node)
{
    struct tpl_postfix *step = add_postfix(parser, node, TPL_P_FILTER);
    if (!step || !parse_dotted(parser, &step->as.apply.name))
        return false;
    step->as.apply.function = tpl_find_filter(step->as.apply.name);
    return !tpl_at(parser, TPL_T_LPAREN) || parse_call_args(parser, &step->as.apply.call);
}

struct tpl_node *tpl_parse_filters(struct tpl_parser *parser, bool start_inline)
{
    struct tpl_node *node = NULL;
    while (start_inline || tpl_skip(parser, TPL_T_PIPE)) {
        start_inline = false;
        if (!parse_filter(parser, &node))
            return NULL;
    }
    return node;
}

/* A test may have one argument without parentheses. */
static bool at_bare_argument(struct tpl_parser *parser)
{
    switch (tpl_current(parser)->kind) {
    case TPL_T_NAME:
        return !tpl_at_name(parser, "else") && !tpl_at_name(parser, "or") &&
               !tpl_at_name(parser, "and");
    case TPL_T_STRING:
    case TPL_T_INTEGER:
    case TPL_T_FLOAT:
    case TPL_T_LBRACKET:
    case TPL_T_LBRACE:
        return true;
    default:
        return false;
    }
}

static bool parse_test(struct tpl_parser *parser, struct tpl_node **node)
{
    struct tpl_postfix *step = add_postfix(parser, node, TPL_P_TEST);
    tpl_take(parser); /* is */
    bool negated = tpl_skip_name(parser, "not");
    if (!step || !parse_dotted(parser, &step->as.apply.name))
        return false;
    step->as.apply.function = tpl_find_test(step->as.apply.name);
    if (tpl_at(parser, TPL_T_LPAREN)) {
        if (!parse_call_args(parser, &step->as.apply.call))
            return false;
    } else if (at_bare_argument(parser)) {
        if (tpl_at_name(parser, "is"))
            return tpl_parser_fail(parser, "tests cannot be chained with 'is'") != NULL;
        struct tpl_node *argument = parse_primary(parser);
        argument = argument ? parse_postfix(parser, argument) : NULL;
        if (!argument)
            return false;
        step->as.apply.call.args = argument;
        step->as.apply.call.count = 1;
    }
    if (negated) {
        struct tpl_node *not = tpl_parser_node(parser, TPL_N_NOT, step->line);
        if (!not )
            return false;
        not ->as.child = *node;
        *node = not ;
    }
    return true;
}

static struct tpl_node *parse_filter_chain(struct tpl_parser *parser, struct tpl_node *node)
{
    for (;;) {
        bool done;
        if (tpl_skip(parser, TPL_T_PIPE))
            done = parse_filter(parser, &node);
        else if (tpl_at_name(parser, "is"))
            done = parse_test(parser, &node);
        else if (tpl_at(parser, TPL_T_LPAREN))
            done = parse_call(parser, &node);
        else
            return node;
        if (!done)
            return NULL;
    }
}

static struct tpl_node *parse_unary(struct tpl_parser *parser, bool with_filter)
{
    const struct tpl_token *token = tpl_current(parser);
    struct tpl_node *node;
    if (token->kind == TPL_T_SUB || token->kind == TPL_T_ADD) {
        tpl_take(parser);
        if (!tpl_parser_enter(parser))
            return NULL;
        node =
            tpl_parser_node(parser, token->kind == TPL_T_SUB ? TPL_N_NEG : TPL_N_POS, token->line);
        struct tpl_node *child = parse_unary(parser, false);
        parser->depth--;
        if (!node || !child)
            return NULL;
        node->as.child = child;
    } else {
        node = parse_primary(parser);
    }
    node = node ? parse_postfix(parser, node) : NULL;
    return node && with_filter ? parse_filter_chain(parser, node) : node;
}

/* ---- operators ---- */

struct infix {
    enum level level;
    enum tpl_operator op;
    unsigned tokens;
};

static struct infix name_operator(struct tpl_parser *parser)
{
    if (tpl_at_name(parser, "or"))
        return (struct infix){L_OR, TPL_O_ADD, 1};
    if (tpl_at_name(parser, "and"))
        return (struct infix){L_AND, TPL_O_ADD, 1};
    if (tpl_at_name(parser, "in"))
        return (struct infix){L_COMPARE, TPL_O_IN, 1};
    if (tpl_at_name(parser, "not") && tpl_token_is(tpl_look(parser), "in"))
        return (struct infix){L_COMPARE, TPL_O_NOT_IN, 2};
    return (struct infix){0, TPL_O_ADD, 0};
}

static struct infix current_operator(struct tpl_parser *parser)
{
    switch (tpl_current(parser)->kind) {
    case TPL_T_NAME:
        return name_operator(parser);
    case TPL_T_EQ:
        return (struct infix){L_COMPARE, TPL_O_EQ, 1};
    case TPL_T_NE:
        return (struct infix){L_COMPARE, TPL_O_NE, 1};
    case TPL_T_LT:
        return (struct infix){L_COMPARE, TPL_O_LT, 1};
    case TPL_T_LE:
        return (struct infix){L_COMPARE, TPL_O_LE, 1};
    case TPL_T_GT:
        return (struct infix){L_COMPARE, TPL_O_GT, 1};
    case TPL_T_GE:
        return (struct infix){L_COMPARE, TPL_O_GE, 1};
    case TPL_T_ADD:
        return (struct infix){L_ADD, TPL_O_ADD, 1};
    case TPL_T_SUB:
        return (struct infix){L_ADD, TPL_O_SUB, 1};
    case TPL_T_TILDE:
        return (struct infix){L_CONCAT, TPL_O_ADD, 1};
    case TPL_T_MUL:
        return (struct infix){L_MUL, TPL_O_MUL, 1};
    case TPL_T_DIV:
        return (struct infix){L_MUL, TPL_O_DIV, 1};
    case TPL_T_FLOORDIV:
        return (struct infix){L_MUL, TPL_O_FLOORDIV, 1};
    case TPL_T_MOD:
        return (struct infix){L_MUL, TPL_O_MOD, 1};
    case TPL_T_POW:
        return (struct infix){L_POW, TPL_O_POW, 1};
    default:
        return (struct infix){0, TPL_O_ADD, 0};
    }
}

/* A chain of operators of one level, while it grows. */
struct chain {
    enum level level;
    struct tpl_node *node, **last_item;
    struct tpl_operand **last_operand;
};

static bool start_chain(struct tpl_parser *parser, struct chain *chain, struct tpl_node *first,
                        enum level level)
{
    enum tpl_node_kind kind = level == L_OR        ? TPL_N_OR
                              : level == L_AND     ? TPL_N_AND
                              : level == L_COMPARE ? TPL_N_COMPARE
                              : level == L_CONCAT  ? TPL_N_CONCAT
                                                   : TPL_N_ARITH;
    chain->node = tpl_parser_node(parser, kind, first->line);
    chain->level = level;
    if (!chain->node)
        return false;
    if (kind == TPL_N_COMPARE || kind == TPL_N_ARITH) {
        chain->node->as.chain.first = first;
        chain->last_operand = &chain->node->as.chain.operands;
    } else {
        chain->node->as.list.items = first;
        chain->node->as.list.count = 1;
        chain->last_item = &first->next;
    }
    return true;
}

static bool extend_chain(struct tpl_parser *parser, struct chain *chain, enum tpl_operator op,
                         struct tpl_node *node)
{
    if (chain->node->kind != TPL_N_COMPARE && chain->node->kind != TPL_N_ARITH) {
        *chain->last_item = node;
        chain->last_item = &node->next;
        chain->node->as.list.count++;
        return true;
    }
    struct tpl_operand *operand = tpl_parser_alloc(parser, sizeof *operand);
    if (!operand)
        return false;
    operand->op = op;
    operand->node = node;
    *chain->last_operand = operand;
    chain->last_operand = &operand->next;
    return true;
}

static struct tpl_node *parse_operators(struct tpl_parser *parser, enum level min);

/* `not x`, which takes a whole comparison, or a unary expression. */
static struct tpl_node *parse_operand(struct tpl_parser *parser, enum level min)
{
    if (min > L_NOT || !tpl_at_name(parser, "not"))
        return parse_unary(parser, true);
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_NOT, tpl_take(parser)->line);
    struct tpl_node *child = node ? parse_operators(parser, L_NOT) : NULL;
    if (!child)
        return NULL;
    node->as.child = child;
    return node;
}

static struct tpl_node *parse_operators(struct tpl_parser *parser, enum level min)
{
    if (!tpl_parser_enter(parser))
        return NULL;
    bool negated = min <= L_NOT && tpl_at_name(parser, "not");
    struct chain chain = {.level = L_UNARY};
    struct tpl_node *left = parse_operand(parser, min);
    while (left) {
        struct infix found = current_operator(parser);
        /* behind "not a == b" only and/or go on */
        if (found.tokens == 0 || found.level < min || (negated && found.level > L_NOT))
            break;
        parser->at += found.tokens;
        if ((chain.level != found.level || chain.node != left) &&
            !start_chain(parser, &chain, left, found.level))
            left = NULL;
        struct tpl_node *right = left ? parse_operators(parser, found.level + 1) : NULL;
        left = right && extend_chain(parser, &chain, found.op, right) ? chain.node : NULL;
    }
    parser->depth--;
    return left;
}

struct tpl_node *tpl_parse_expression(struct tpl_parser *parser, bool with_cond)
{
    struct tpl_node *node = parse_operators(parser, L_OR);
    while (node && with_cond && tpl_at_name(parser, "if")) {
        struct tpl_node *cond = tpl_parser_node(parser, TPL_N_COND, tpl_take(parser)->line);
        if (!cond || !tpl_parser_enter(parser))
            return NULL;
        cond->as.cond.then = node;
        cond->as.cond.test = parse_operators(parser, L_OR);
        bool otherwise = cond->as.cond.test && tpl_skip_name(parser, "else");
        if (otherwise)
            cond->as.cond.otherwise = tpl_parse_expression(parser, true);
        parser->depth--;
        if (!cond->as.cond.test || (otherwise && !cond->as.cond.otherwise))
            return NULL;
        node = cond;
    }
    return node;
}
