/* What the two files of the parser share: template_parser.c has the expressions,
 * template_statements.c the tags. Both descend recursively, within TPL_PARSE_DEPTH_MAX.
 *
 * All parse functions give NULL (or false) after the first error, which `code` and the error
 * object hold. */
#ifndef MODEL_TEMPLATE_PARSER_H
#define MODEL_TEMPLATE_PARSER_H

#include "base/error.h"
#include "model/template_ast.h"

struct tpl_name_entry;

struct tpl_parser {
    struct chat_template *tpl;
    struct tpl_arena *arena;
    struct tpl_token *tokens;
    size_t at, last; /* `last` is the index of TPL_T_END */
    unsigned depth;
    /* Open-addressing index of names: position + 1, 0 for a free place. */
    uint32_t *name_index;
    size_t name_index_size, name_capacity;
    bool in_loop;       /* break and continue have a loop in this function */
    unsigned for_depth; /* enclosing for tags, across macros: `loop` may not be assigned */
    int code;
    struct hearth_error *err;
};

/* A list of nodes linked by `next`, while it grows. */
struct tpl_node_list {
    struct tpl_node *first, **end;
    uint32_t count;
};

void tpl_node_list_init(struct tpl_node_list *list);
bool tpl_node_list_add(struct tpl_node_list *list, struct tpl_node *node); /* false for NULL */

void *tpl_parser_fail(struct tpl_parser *parser, const char *format, ...) PRINTF_LIKE(2, 3);
void *tpl_parser_alloc(struct tpl_parser *parser, size_t size);
bool tpl_parser_enter(struct tpl_parser *parser);
struct tpl_node *tpl_parser_node(struct tpl_parser *parser, enum tpl_node_kind kind, uint32_t line);
bool tpl_parser_string(struct tpl_parser *parser, struct text text, struct tpl_value *out);

static inline struct tpl_token *tpl_current(struct tpl_parser *parser)
{
    return &parser->tokens[parser->at];
}

static inline struct tpl_token *tpl_look(struct tpl_parser *parser)
{
    return &parser->tokens[parser->at < parser->last ? parser->at + 1 : parser->at];
}

static inline struct tpl_token *tpl_take(struct tpl_parser *parser)
{
    struct tpl_token *token = tpl_current(parser);
    parser->at += parser->at < parser->last;
    return token;
}

static inline bool tpl_at(struct tpl_parser *parser, enum tpl_token_kind kind)
{
    return tpl_current(parser)->kind == kind;
}

bool tpl_token_is(const struct tpl_token *token, const char *name);
bool tpl_at_name(struct tpl_parser *parser, const char *name);
bool tpl_skip(struct tpl_parser *parser, enum tpl_token_kind kind);
bool tpl_skip_name(struct tpl_parser *parser, const char *name);
bool tpl_expect(struct tpl_parser *parser, enum tpl_token_kind kind);
bool tpl_expect_name(struct tpl_parser *parser, struct text *name);
const char *tpl_describe(const struct tpl_token *token);

struct tpl_node *tpl_parse_name_node(struct tpl_parser *parser, struct text name, uint32_t line);
/* The keywords `if` and `else` are left alone without `with_cond`. */
struct tpl_node *tpl_parse_expression(struct tpl_parser *parser, bool with_cond);
/* An expression, or several with commas between them: a tuple. `end` is a name that ends it. */
struct tpl_node *tpl_parse_tuple(struct tpl_parser *parser, bool with_cond, const char *end);
/* What may be assigned to; NULL for anything else. */
struct tpl_node *tpl_parse_target(struct tpl_parser *parser, bool with_namespace, const char *end);
/* "|name(args)|…" behind `base`, which is NULL in a filter block. With `start_inline` the first one
 * comes without "|". NULL where there is none (no error) or after an error. */
struct tpl_node *tpl_parse_filters(struct tpl_parser *parser, bool start_inline);

struct tpl_node *tpl_parse_body(struct tpl_parser *parser, const char *const *ends);

#endif
