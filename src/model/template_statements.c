/* The tags. */
#include <string.h>

#include "model/template_parser.h"

static struct tpl_node *parse_statement(struct tpl_parser *parser);

static bool at_any(struct tpl_parser *parser, const char *const *names)
{
    for (; names && *names; names++) {
        if (tpl_at_name(parser, *names))
            return true;
    }
    return false;
}

static void *fail_end(struct tpl_parser *parser, const char *const *ends)
{
    return tpl_parser_fail(parser, "the template ends where '%s' was expected",
                           ends ? ends[0] : "a tag");
}

/* A run of data and {{ }} becomes one node. */
static struct tpl_node *parse_output(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_OUTPUT, tpl_current(parser)->line);
    struct tpl_node_list items;
    tpl_node_list_init(&items);
    while (node && (tpl_at(parser, TPL_T_DATA) || tpl_at(parser, TPL_T_VARIABLE_BEGIN))) {
        const struct tpl_token *token = tpl_take(parser);
        struct tpl_node *item;
        if (token->kind == TPL_T_DATA) {
            item = tpl_parser_node(parser, TPL_N_CONST, token->line);
            if (!item || !tpl_parser_string(parser, token->text, &item->as.constant))
                return NULL;
        } else {
            item = tpl_parse_tuple(parser, true, NULL);
            if (!item || !tpl_expect(parser, TPL_T_VARIABLE_END))
                return NULL;
        }
        tpl_node_list_add(&items, item);
    }
    if (node) {
        node->as.list.items = items.first;
        node->as.list.count = items.count;
    }
    return node;
}

/* Statements until one of the tags `ends`, whose name is then the current token; NULL: to the end
 * of the template. An empty body is an OUTPUT of nothing, so that NULL is always an error. */
static struct tpl_node *parse_statements(struct tpl_parser *parser, const char *const *ends)
{
    struct tpl_node_list body;
    tpl_node_list_init(&body);
    for (;;) {
        struct tpl_node *node;
        if (tpl_at(parser, TPL_T_END)) {
            if (ends)
                return fail_end(parser, ends);
            break;
        }
        if (tpl_skip(parser, TPL_T_BLOCK_BEGIN)) {
            if (at_any(parser, ends))
                break;
            node = parse_statement(parser);
            if (node && !tpl_expect(parser, TPL_T_BLOCK_END))
                return NULL;
        } else {
            node = parse_output(parser);
        }
        if (!tpl_node_list_add(&body, node))
            return NULL;
    }
    return body.first ? body.first
                      : tpl_parser_node(parser, TPL_N_OUTPUT, tpl_current(parser)->line);
}

struct tpl_node *tpl_parse_body(struct tpl_parser *parser, const char *const *ends)
{
    if (ends) {
        tpl_skip(parser, TPL_T_COLON); /* allowed for those who think of Python */
        if (!tpl_expect(parser, TPL_T_BLOCK_END))
            return NULL;
    }
    if (!tpl_parser_enter(parser))
        return NULL;
    struct tpl_node *body = parse_statements(parser, ends);
    parser->depth--;
    return body;
}

/* A body of its own function, in jinja2's terms: break and continue do not reach out of it. */
static struct tpl_node *parse_function_body(struct tpl_parser *parser, const char *const *ends)
{
    bool in_loop = parser->in_loop;
    parser->in_loop = false;
    struct tpl_node *body = tpl_parse_body(parser, ends);
    parser->in_loop = in_loop;
    tpl_take(parser);
    return body;
}

/* ---- set, if, for ---- */

static struct tpl_node *parse_set(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endset", NULL};
    uint32_t line = tpl_take(parser)->line;
    struct tpl_node *target = tpl_parse_target(parser, true, NULL);
    if (!target)
        return NULL;
    bool block = !tpl_skip(parser, TPL_T_ASSIGN);
    struct tpl_node *node = tpl_parser_node(parser, block ? TPL_N_SET_BLOCK : TPL_N_SET, line);
    if (!node)
        return NULL;
    if (!block) {
        node->as.set.target = target;
        node->as.set.value = tpl_parse_tuple(parser, true, NULL);
        return node->as.set.value ? node : NULL;
    }
    node->as.block.target = target;
    node->as.block.filter = tpl_parse_filters(parser, false);
    if (parser->code != 0)
        return NULL;
    node->as.block.body = tpl_parse_body(parser, ends);
    tpl_take(parser);
    return node->as.block.body ? node : NULL;
}

static bool parse_branch(struct tpl_parser *parser, struct tpl_branch ***end, bool with_test)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const last[] = {"endif", NULL};
    struct tpl_branch *branch = tpl_parser_alloc(parser, sizeof *branch);
    if (!branch)
        return false;
    if (with_test) {
        branch->test = tpl_parse_tuple(parser, false, NULL);
        if (!branch->test)
            return false;
    }
    branch->body = tpl_parse_body(parser, with_test ? ends : last);
    **end = branch;
    *end = &branch->next;
    return branch->body != NULL;
}

static struct tpl_node *parse_if(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_IF, tpl_take(parser)->line);
    if (!node)
        return NULL;
    struct tpl_branch **end = &node->as.branches;
    bool with_test = true;
    do {
        if (!parse_branch(parser, &end, with_test))
            return NULL;
        with_test = !tpl_at_name(parser, "else");
    } while (!tpl_token_is(tpl_take(parser), "endif"));
    return node;
}

static bool parse_for_bodies(struct tpl_parser *parser, struct tpl_node *node)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const last[] = {"endfor", NULL};
    bool in_loop = parser->in_loop;
    parser->in_loop = true;
    node->as.loop.body = tpl_parse_body(parser, ends);
    /* a recursive loop is a function, whose else part has no loop around it */
    parser->in_loop = in_loop && !node->as.loop.recursive;
    if (node->as.loop.body && tpl_token_is(tpl_take(parser), "else")) {
        node->as.loop.otherwise = tpl_parse_body(parser, last);
        tpl_take(parser);
    }
    parser->in_loop = in_loop;
    return parser->code == 0;
}

static struct tpl_node *parse_for(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_FOR, tpl_take(parser)->line);
    if (!node)
        return NULL;
    parser->for_depth++;
    node->as.loop.target = tpl_parse_target(parser, false, "in");
    if (!node->as.loop.target)
        return NULL;
    if (!tpl_skip_name(parser, "in"))
        return tpl_parser_fail(parser, "expected 'in' in a for tag");
    node->as.loop.iter = tpl_parse_tuple(parser, false, "recursive");
    if (!node->as.loop.iter)
        return NULL;
    if (tpl_skip_name(parser, "if")) {
        node->as.loop.test = tpl_parse_expression(parser, true);
        if (!node->as.loop.test)
            return NULL;
    }
    node->as.loop.recursive = tpl_skip_name(parser, "recursive");
    bool done = parse_for_bodies(parser, node);
    parser->for_depth--;
    return done ? node : NULL;
}

static struct tpl_node *parse_loop_control(struct tpl_parser *parser)
{
    const struct tpl_token *token = tpl_take(parser);
    if (!parser->in_loop)
        return tpl_parser_fail(parser, "'%.*s' outside of a loop", TEXT_ARGS(token->text));
    return tpl_parser_node(parser, tpl_token_is(token, "break") ? TPL_N_BREAK : TPL_N_CONTINUE,
                           token->line);
}

/* ---- macro, call, filter, with and the rest ---- */

static bool is_repeated(const struct tpl_macro_def *def, const struct tpl_node *param)
{
    for (const struct tpl_node *old = def->params; old != param; old = old->next) {
        if (old->as.name.ref.name == param->as.name.ref.name)
            return true;
    }
    return false;
}

static bool parse_parameter(struct tpl_parser *parser, struct tpl_macro_def *def,
                            struct tpl_node_list *params, struct tpl_node_list *defaults)
{
    struct text name;
    uint32_t line = tpl_current(parser)->line;
    if (!tpl_expect_name(parser, &name) ||
        !tpl_node_list_add(params, tpl_parse_name_node(parser, name, line)))
        return false;
    def->params = params->first;
    if (text_equal(name, TEXT("caller")))
        def->explicit_caller = true;
    struct tpl_node *last = params->first;
    while (last->next)
        last = last->next;
    last->as.name.stored = true;
    if (is_repeated(def, last) || params->count > 255)
        return tpl_parser_fail(parser, "a parameter twice, or more than 255") != NULL;
    if (tpl_skip(parser, TPL_T_ASSIGN))
        return tpl_node_list_add(defaults, tpl_parse_expression(parser, true));
    if (defaults->count)
        return tpl_parser_fail(parser, "a parameter without default behind one with it") != NULL;
    return true;
}

static bool parse_signature(struct tpl_parser *parser, struct tpl_macro_def *def)
{
    struct tpl_node_list params, defaults;
    tpl_node_list_init(&params);
    tpl_node_list_init(&defaults);
    if (!tpl_expect(parser, TPL_T_LPAREN))
        return false;
    while (!tpl_at(parser, TPL_T_RPAREN)) {
        if (params.count && !tpl_expect(parser, TPL_T_COMMA))
            return false;
        if (!parse_parameter(parser, def, &params, &defaults))
            return false;
    }
    def->count = params.count;
    def->defaults = defaults.first;
    def->default_count = defaults.count;
    return tpl_expect(parser, TPL_T_RPAREN);
}

static struct tpl_node *macro_node(struct tpl_parser *parser, enum tpl_node_kind kind)
{
    struct tpl_node *node = tpl_parser_node(parser, kind, tpl_take(parser)->line);
    if (!node)
        return NULL;
    node->as.macro.def = tpl_parser_alloc(parser, sizeof *node->as.macro.def);
    if (!node->as.macro.def)
        return NULL;
    node->as.macro.def->name = tpl_none();
    return node;
}

static struct tpl_node *parse_macro(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct tpl_node *node = macro_node(parser, TPL_N_MACRO);
    struct text name;
    if (!node || !tpl_expect_name(parser, &name))
        return NULL;
    struct tpl_macro_def *def = node->as.macro.def;
    node->as.macro.target = tpl_parse_name_node(parser, name, node->line);
    if (!node->as.macro.target || !tpl_parser_string(parser, name, &def->name) ||
        !parse_signature(parser, def))
        return NULL;
    def->body = parse_function_body(parser, ends);
    return def->body ? node : NULL;
}

static struct tpl_node *parse_call_block(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endcall", NULL};
    struct tpl_node *node = macro_node(parser, TPL_N_CALL);
    if (!node)
        return NULL;
    if (tpl_at(parser, TPL_T_LPAREN) && !parse_signature(parser, node->as.macro.def))
        return NULL;
    struct tpl_node *call = tpl_parse_expression(parser, true);
    if (!call)
        return NULL;
    if (call->kind != TPL_N_POSTFIX || call->as.postfix.last->kind != TPL_P_CALL)
        return tpl_parser_fail(parser, "expected a call in a call tag");
    node->as.macro.call = call;
    node->as.macro.def->body = parse_function_body(parser, ends);
    return node->as.macro.def->body ? node : NULL;
}

/* {% generation %} marks the assistant's text for training and prints it. */
static struct tpl_node *parse_generation(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endgeneration", NULL};
    struct tpl_node *node = macro_node(parser, TPL_N_CALL);
    if (!node)
        return NULL;
    node->as.macro.def->body = parse_function_body(parser, ends);
    return node->as.macro.def->body ? node : NULL;
}

static struct tpl_node *parse_filter_block(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_FILTER, tpl_take(parser)->line);
    if (!node)
        return NULL;
    node->as.block.filter = tpl_parse_filters(parser, true);
    if (!node->as.block.filter)
        return NULL;
    node->as.block.body = tpl_parse_body(parser, ends);
    tpl_take(parser);
    return node->as.block.body ? node : NULL;
}

static struct tpl_node *parse_with(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endwith", NULL};
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_WITH, tpl_take(parser)->line);
    struct tpl_node_list targets, values;
    tpl_node_list_init(&targets);
    tpl_node_list_init(&values);
    unsigned for_depth = parser->for_depth;
    while (node && !tpl_at(parser, TPL_T_BLOCK_END)) {
        if (targets.count && !tpl_expect(parser, TPL_T_COMMA))
            return NULL;
        parser->for_depth = 0; /* its names are parameters, also one called loop */
        struct tpl_node *target = tpl_parse_target(parser, false, NULL);
        parser->for_depth = for_depth;
        if (!tpl_node_list_add(&targets, target) || !tpl_expect(parser, TPL_T_ASSIGN) ||
            !tpl_node_list_add(&values, tpl_parse_expression(parser, true)))
            return NULL;
    }
    if (!node)
        return NULL;
    node->as.with.targets = targets.first;
    node->as.with.values = values.first;
    node->as.with.body = tpl_parse_body(parser, ends);
    tpl_take(parser);
    return node->as.with.body ? node : NULL;
}

static struct tpl_node *parse_block(struct tpl_parser *parser)
{
    static const char *const ends[] = {"endblock", NULL};
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_BLOCK, tpl_take(parser)->line);
    struct text name;
    if (!node || !tpl_expect_name(parser, &name))
        return NULL;
    tpl_skip_name(parser, "scoped");
    node->as.block.body = parse_function_body(parser, ends);
    if (tpl_at(parser, TPL_T_NAME) && text_equal(tpl_current(parser)->text, name))
        tpl_take(parser);
    return node->as.block.body ? node : NULL;
}

static struct tpl_node *parse_print(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_OUTPUT, tpl_take(parser)->line);
    struct tpl_node_list items;
    tpl_node_list_init(&items);
    while (node && !tpl_at(parser, TPL_T_BLOCK_END)) {
        if (items.count && !tpl_expect(parser, TPL_T_COMMA))
            return NULL;
        if (!tpl_node_list_add(&items, tpl_parse_expression(parser, true)))
            return NULL;
    }
    if (node) {
        node->as.list.items = items.first;
        node->as.list.count = items.count;
    }
    return node;
}

/* include, import, from, extends: there is nothing that they could load, which is an error where
 * one is reached. */
static struct tpl_node *parse_refused(struct tpl_parser *parser)
{
    struct tpl_node *node = tpl_parser_node(parser, TPL_N_REFUSED, tpl_take(parser)->line);
    if (!node)
        return NULL;
    node->as.refused = "other templates cannot be loaded";
    if (tpl_at(parser, TPL_T_BLOCK_END))
        return tpl_parser_fail(parser, "expected an expression");
    while (!tpl_at(parser, TPL_T_BLOCK_END) && !tpl_at(parser, TPL_T_END))
        tpl_take(parser);
    return node;
}

static struct tpl_node *parse_statement(struct tpl_parser *parser)
{
    static const struct {
        const char *name;
        struct tpl_node *(*parse)(struct tpl_parser *parser);
    } tags[] = {
        {"set", parse_set},
        {"if", parse_if},
        {"for", parse_for},
        {"break", parse_loop_control},
        {"continue", parse_loop_control},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"generation", parse_generation},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"block", parse_block},
        {"print", parse_print},
        {"include", parse_refused},
        {"import", parse_refused},
        {"from", parse_refused},
        {"extends", parse_refused},
    };
    const struct tpl_token *token = tpl_current(parser);
    if (token->kind != TPL_T_NAME)
        return tpl_parser_fail(parser, "expected the name of a tag, found %s", tpl_describe(token));
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (tpl_token_is(token, tags[i].name))
            return tags[i].parse(parser);
    }
    return tpl_parser_fail(parser, "unknown tag '%.*s'", TEXT_ARGS(token->text));
}

/* Line ends become "\n", and one at the very end is dropped. */
static int normalize(struct tpl_arena *arena, struct text source, struct text *out)
{
    char *data = tpl_arena_alloc(arena, source.size + 1);
    size_t size = 0;
    if (!data)
        return arena->exhausted ? HEARTH_E_LIMIT : HEARTH_E_MEMORY;
    for (size_t at = 0; at < source.size; at++) {
        char byte = source.data[at];
        if (byte == '\r') {
            at += at + 1 < source.size && source.data[at + 1] == '\n';
            byte = '\n';
        }
        data[size++] = byte;
    }
    size -= size > 0 && data[size - 1] == '\n';
    *out = (struct text){data, size};
    return 0;
}

int tpl_parse(struct chat_template *tpl, struct text source, struct hearth_error *err)
{
    struct tpl_tokens tokens;
    struct text text;
    int status = normalize(&tpl->arena, source, &text);
    if (status < 0)
        return error_set(err, status, "the template is too large");
    status = tpl_tokenize(&tpl->arena, text, &tokens, err);
    if (status < 0)
        return status;
    struct tpl_parser parser = {.tpl = tpl,
                                .arena = &tpl->arena,
                                .tokens = tokens.items,
                                .last = tokens.count - 1,
                                .err = err};
    tpl->body = tpl_parse_body(&parser, NULL);
    return parser.code;
}
