/* The syntax tree of a chat template. It lives in the template's arena and is not changed after
 * template_scope.c has resolved the names in it.
 *
 * Chains (a + b - c, a.b[c]|d, x and y and z) are one node with a list of parts, so that the depth
 * of the tree is the nesting that a person sees and not the length of a line. */
#ifndef MODEL_TEMPLATE_AST_H
#define MODEL_TEMPLATE_AST_H

#include "model/template_value.h"

/* A bump allocator over growing chunks, freed as a whole. */
struct tpl_chunk;
struct tpl_arena {
    struct tpl_chunk *chunks;
    char *at;
    size_t left;
    uint64_t used, limit; /* bytes asked from the system */
    bool exhausted;       /* the limit, and not the system, said no */
};
void tpl_arena_init(struct tpl_arena *arena, uint64_t limit);
void tpl_arena_finish(struct tpl_arena *arena);
void *tpl_arena_alloc(struct tpl_arena *arena, size_t size); /* zeroed; NULL on failure */
/* Like realloc; in place where `old` is the newest piece. The new part is not zeroed. */
void *tpl_arena_grow(struct tpl_arena *arena, void *old, size_t old_size, size_t size);

/* ---- tokens ---- */
enum tpl_token_kind {
    TPL_T_END,
    TPL_T_DATA,
    TPL_T_VARIABLE_BEGIN,
    TPL_T_VARIABLE_END,
    TPL_T_BLOCK_BEGIN,
    TPL_T_BLOCK_END,
    TPL_T_NAME,
    TPL_T_STRING,
    TPL_T_INTEGER,
    TPL_T_FLOAT,
    TPL_T_ADD,
    TPL_T_SUB,
    TPL_T_DIV,
    TPL_T_FLOORDIV,
    TPL_T_MUL,
    TPL_T_MOD,
    TPL_T_POW,
    TPL_T_TILDE,
    TPL_T_LBRACKET,
    TPL_T_RBRACKET,
    TPL_T_LPAREN,
    TPL_T_RPAREN,
    TPL_T_LBRACE,
    TPL_T_RBRACE,
    TPL_T_EQ,
    TPL_T_NE,
    TPL_T_GT,
    TPL_T_GE,
    TPL_T_LT,
    TPL_T_LE,
    TPL_T_ASSIGN,
    TPL_T_DOT,
    TPL_T_COLON,
    TPL_T_PIPE,
    TPL_T_COMMA,
    TPL_T_SEMICOLON
};

struct tpl_token {
    enum tpl_token_kind kind;
    uint32_t line;
    struct text text; /* DATA, NAME, STRING (unescaped): bytes in the arena */
    union {
        int64_t integer;
        double real;
    } number;
};

struct tpl_tokens {
    struct tpl_token *items; /* the last one is TPL_T_END */
    size_t count;
};

/* Splits `source`, whose line ends are already "\n". */
int tpl_tokenize(struct tpl_arena *arena, struct text source, struct tpl_tokens *out,
                 struct hearth_error *err);

/* ---- names and scopes ---- */
#define TPL_NO_SLOT UINT32_MAX

/* Where a name's value is: `hops` frames up, in that frame's slot. */
struct tpl_ref {
    uint32_t name; /* index in chat_template.names */
    uint32_t hops, slot;
};

enum tpl_load_kind {
    TPL_LOAD_PARAMETER, /* set by who enters the frame */
    TPL_LOAD_RESOLVE,   /* the template's variables and the global functions */
    TPL_LOAD_ALIAS,     /* a copy of the outer frame's value at entry */
    TPL_LOAD_UNDEFINED
};

struct tpl_load {
    enum tpl_load_kind kind;
    struct tpl_ref ref; /* ALIAS: seen from the frame itself, so hops >= 1; RESOLVE: the name */
};

/* The slots of one frame; slot i is filled as loads[i] says when the frame is entered. */
struct tpl_scope {
    uint32_t count;
    struct tpl_load *loads;
};

/* ---- nodes ---- */
enum tpl_node_kind {
    /* expressions */
    TPL_N_CONST,
    TPL_N_NAME,
    TPL_N_NSREF,
    TPL_N_TUPLE,
    TPL_N_LIST,
    TPL_N_DICT,
    TPL_N_COND,
    TPL_N_OR,
    TPL_N_AND,
    TPL_N_NOT,
    TPL_N_NEG,
    TPL_N_POS,
    TPL_N_COMPARE,
    TPL_N_ARITH,
    TPL_N_CONCAT,
    TPL_N_POSTFIX,
    /* statements */
    TPL_N_OUTPUT,
    TPL_N_SET,
    TPL_N_SET_BLOCK,
    TPL_N_IF,
    TPL_N_FOR,
    TPL_N_MACRO,
    TPL_N_CALL,
    TPL_N_FILTER,
    TPL_N_WITH,
    TPL_N_BLOCK,
    TPL_N_BREAK,
    TPL_N_CONTINUE,
    TPL_N_REFUSED
};

enum tpl_operator {
    TPL_O_ADD,
    TPL_O_SUB,
    TPL_O_MUL,
    TPL_O_DIV,
    TPL_O_FLOORDIV,
    TPL_O_MOD,
    TPL_O_POW,
    TPL_O_EQ,
    TPL_O_NE,
    TPL_O_LT,
    TPL_O_LE,
    TPL_O_GT,
    TPL_O_GE,
    TPL_O_IN,
    TPL_O_NOT_IN
};

/* One step of a chain: the operand of an op. */
struct tpl_operand {
    enum tpl_operator op;
    struct tpl_node *node;
    struct tpl_operand *next;
};

struct tpl_keyword {
    struct tpl_value name; /* a string */
    struct tpl_node *node;
    struct tpl_keyword *next;
};

struct tpl_call {
    struct tpl_node *args; /* linked by next */
    uint32_t count, keyword_count;
    struct tpl_keyword *keywords;
    struct tpl_node *dyn_args, *dyn_keywords; /* *args and **kwargs, or NULL */
};

enum tpl_postfix_kind {
    TPL_P_ATTRIBUTE,
    TPL_P_ITEM,
    TPL_P_SLICE,
    TPL_P_CALL,
    TPL_P_FILTER,
    TPL_P_TEST
};

struct tpl_postfix {
    enum tpl_postfix_kind kind;
    uint32_t line;
    struct tpl_postfix *next;
    union {
        struct tpl_value attribute; /* a string */
        struct tpl_node *item;
        struct {
            struct tpl_node *start, *stop, *step; /* may be NULL */
        } slice;
        struct {
            const struct tpl_function *function; /* NULL: unknown, an error once it is reached */
            struct text name;
            struct tpl_call call;
        } apply; /* CALL (neither function nor name), FILTER, TEST */
    } as;
};

struct tpl_branch {
    struct tpl_node *test; /* NULL: else */
    struct tpl_node *body;
    struct tpl_branch *next;
};

/* The part that a macro and a call block have in common. */
struct tpl_macro_def {
    struct tpl_value name;     /* a string, or none */
    struct tpl_node *params;   /* NAME nodes */
    struct tpl_node *defaults; /* of the last parameters */
    uint32_t count, default_count;
    bool explicit_caller; /* one of the parameters is called "caller" */
    bool wants_caller, wants_kwargs, wants_varargs;
    struct tpl_ref caller, kwargs, varargs; /* slots of the frame, where wanted */
    struct tpl_node *body;
    struct tpl_scope scope;
};

struct tpl_node {
    enum tpl_node_kind kind;
    uint32_t line;
    struct tpl_node *next; /* in the list that the node is part of */
    union {
        struct tpl_value constant;
        struct {
            struct tpl_ref ref;
            struct tpl_value attribute; /* NSREF */
            bool stored;                /* assigned to here, or a parameter */
        } name;
        struct {
            struct tpl_node *items; /* DICT: keys and values in turn */
            uint32_t count;
        } list; /* TUPLE, LIST, DICT, OR, AND, CONCAT, OUTPUT */
        struct {
            struct tpl_node *test, *then, *otherwise; /* otherwise may be NULL */
        } cond;
        struct tpl_node *child; /* NOT, NEG, POS */
        struct {
            struct tpl_node *first;
            struct tpl_operand *operands;
        } chain; /* COMPARE, ARITH */
        struct {
            struct tpl_node *base; /* NULL: the text of the filter block */
            struct tpl_postfix *first, *last;
        } postfix;
        struct {
            struct tpl_node *target, *value;
        } set;
        struct {
            struct tpl_node *target; /* SET_BLOCK; NULL in FILTER */
            struct tpl_node *filter; /* POSTFIX without base, or NULL */
            struct tpl_node *body;
            struct tpl_scope scope;
        } block; /* SET_BLOCK, FILTER, BLOCK */
        struct tpl_branch *branches;
        struct {
            struct tpl_node *target, *iter, *test, *body, *otherwise;
            bool recursive;
            struct tpl_ref loop; /* slot of `loop` in scope */
            struct tpl_scope scope, test_scope, else_scope;
            struct tpl_node *test_target; /* the target again, as the test's frame sees it */
        } loop;
        struct {
            struct tpl_macro_def *def;
            struct tpl_node *target; /* MACRO: the NAME that it is stored in */
            struct tpl_node *call;   /* CALL: NULL for a generation block */
        } macro;
        struct {
            struct tpl_node *targets, *values, *body;
            struct tpl_scope scope;
        } with;
        const char *refused; /* why, once it is reached */
    } as;
};

struct chat_template {
    struct tpl_arena arena;
    struct text *names;
    uint32_t name_count;
    struct tpl_node *body;
    struct tpl_scope scope;
};

/* Fills names and body; the template's arena is there already. */
int tpl_parse(struct chat_template *tpl, struct text source, struct hearth_error *err);
/* Resolves all names. */
int tpl_resolve(struct chat_template *tpl, struct hearth_error *err);

/* How deep statements and expressions may be nested in each other. Every level costs the parser
 * and the walk over the tree a few small frames of C stack. */
#define TPL_PARSE_DEPTH_MAX 100
#define TPL_TREE_DEPTH_MAX 300

#endif
