/* One rendering of a chat template: its state, and what the files of the interpreter offer each
 * other. */
#ifndef MODEL_TEMPLATE_RUN_H
#define MODEL_TEMPLATE_RUN_H

#include <jansson.h>

#include "base/buffer.h"
#include "base/error.h"
#include "model/template.h"
#include "model/template_ast.h"
#include "model/template_value.h"

struct tpl_frame {
    struct tpl_frame *parent;
    struct tpl_value slots[];
};

struct tpl_run {
    const struct chat_template *tpl;
    json_t *variables;
    int64_t unix_seconds;
    struct chat_template_limits limits;
    uint64_t steps;
    unsigned depth;
    struct tpl_arena arena;
    /* What was printed; captures (macros, set blocks, filter blocks) print to its end and then take
     * that part away again. */
    struct buffer output;
    unsigned captures;
    struct tpl_value *globals; /* per name of the template; TPL_MISSING: not looked up yet */
    struct tpl_frame *frame;
    uint32_t line; /* of the node being evaluated */
    int code;      /* of the error that ended the run, else 0 */
    struct hearth_error *err;
};

/* An evaluated node costs this many steps, a byte that is copied or compared one. */
#define TPL_NODE_STEPS 16

/* ---- errors and limits; all return false ---- */
bool tpl_raise(struct tpl_run *run, const char *format, ...) PRINTF_LIKE(2, 3);
bool tpl_fail(struct tpl_run *run, int code, const char *format, ...) PRINTF_LIKE(3, 4);
bool tpl_raise_undefined(struct tpl_run *run, struct tpl_value undefined);

bool tpl_charge(struct tpl_run *run, uint64_t steps);
void *tpl_alloc(struct tpl_run *run, size_t size); /* zeroed; NULL after recording the error */
void *tpl_alloc_array(struct tpl_run *run, size_t count, size_t size);
void *tpl_grow(struct tpl_run *run, void *old, size_t old_size, size_t size);
/* Around every recursive step; false when it is nested too deep. */
bool tpl_enter(struct tpl_run *run);
static inline void tpl_leave(struct tpl_run *run)
{
    run->depth--;
}

/* ---- building strings (template_value.c) ---- */
struct tpl_builder {
    struct tpl_run *run;
    char *data;
    size_t size, capacity;
};
void tpl_builder_init(struct tpl_builder *builder, struct tpl_run *run);
bool tpl_add(struct tpl_builder *builder, struct text text);
bool tpl_add_char(struct tpl_builder *builder, char byte);
bool tpl_add_point(struct tpl_builder *builder, uint32_t code_point);
bool tpl_add_repeat(struct tpl_builder *builder, struct text text, int64_t times);
bool tpl_add_value(struct tpl_builder *builder, struct tpl_value value); /* str() */
bool tpl_add_repr(struct tpl_builder *builder, struct tpl_value value);
bool tpl_add_escaped(struct tpl_builder *builder, struct text text); /* for HTML */
bool tpl_builder_finish(struct tpl_builder *builder, bool markup, struct tpl_value *out);
/* str(value); a string is itself, also when it is a Markup. */
bool tpl_to_string(struct tpl_run *run, struct tpl_value value, struct tpl_value *out);
/* markupsafe.escape(). */
bool tpl_escape(struct tpl_run *run, struct tpl_value value, struct tpl_value *out);

/* ---- numbers (template_number.c) ---- */
#define TPL_NUMBER_MAX 48
size_t tpl_format_float(double value, char out[TPL_NUMBER_MAX]); /* repr() */
size_t tpl_format_int(int64_t value, char out[TPL_NUMBER_MAX]);
/* float(text) and int(text, base) as Python has them; false where it raises ValueError.
 * tpl_parse_int's *overflow: a number that does not fit 64 bits. */
bool tpl_parse_float(struct text text, double *out);
bool tpl_parse_int(struct text text, int base, int64_t *out, bool *overflow);
/* A value used as a number: false where it is none. */
bool tpl_as_float(struct tpl_value value, double *out);
/* Exact comparison: -1, 0, 1, and 2 where one is NaN. */
int tpl_compare_numbers(struct tpl_value a, struct tpl_value b);
bool tpl_float_to_int(double value, int64_t *out); /* truncates; false out of range */

/* ---- formatting (template_format.c) ---- */
/* format % args, `args` a tuple, a dict or one value. */
bool tpl_format_percent(struct tpl_run *run, struct tpl_value format, struct tpl_value args,
                        struct tpl_value *out);
/* str.format(). */
bool tpl_format_braces(struct tpl_run *run, struct tpl_value format, const struct tpl_args *args,
                       struct tpl_value *out);
bool tpl_strftime(struct tpl_run *run, struct text format, struct tpl_value *out);

/* ---- Unicode (template_unicode.c) ---- */
/* Decodes the code point at `at` in valid UTF-8 and returns its length. */
size_t tpl_decode(struct text text, size_t at, uint32_t *code_point);
bool tpl_is_space(uint32_t code_point);
bool tpl_is_line_end(uint32_t code_point);
bool tpl_is_printable(uint32_t code_point);
bool tpl_is_word(uint32_t code_point); /* \w */
bool tpl_is_name_start(uint32_t code_point);
bool tpl_is_name_part(uint32_t code_point);
bool tpl_is_upper(uint32_t code_point);
bool tpl_is_lower(uint32_t code_point);
bool tpl_is_title(uint32_t code_point);
bool tpl_is_cased(uint32_t code_point);
bool tpl_is_alpha(uint32_t code_point);
bool tpl_is_decimal(uint32_t code_point);
bool tpl_is_digit(uint32_t code_point);
bool tpl_is_numeric(uint32_t code_point);
enum tpl_case { TPL_UPPER, TPL_LOWER, TPL_TITLE, TPL_FOLD };
/* Appends the case mapping of the code point at `at`; the text around it matters for sigma. */
bool tpl_add_case(struct tpl_builder *builder, struct text text, size_t at, enum tpl_case mapping);

/* ---- operators (template_ops.c) ---- */
bool tpl_binary(struct tpl_run *run, enum tpl_operator op, struct tpl_value a, struct tpl_value b,
                struct tpl_value *out);
bool tpl_compare(struct tpl_run *run, enum tpl_operator op, struct tpl_value a, struct tpl_value b,
                 bool *out);
bool tpl_negate(struct tpl_run *run, struct tpl_value value, bool negative, struct tpl_value *out);
bool tpl_contains(struct tpl_run *run, struct tpl_value container, struct tpl_value item,
                  bool *out);
/* x[start:stop:step]; none where nothing was written. */
bool tpl_slice(struct tpl_run *run, struct tpl_value value, const struct tpl_value bounds[3],
               struct tpl_value *out);
/* environment.getattr and environment.getitem of the sandbox. */
bool tpl_getattr(struct tpl_run *run, struct tpl_value object, struct tpl_value name,
                 struct tpl_value *out);
bool tpl_getitem(struct tpl_run *run, struct tpl_value object, struct tpl_value key,
                 struct tpl_value *out);
/* The attribute itself, without the item of that name; TPL_MISSING where there is none. */
bool tpl_attribute(struct tpl_run *run, struct tpl_value object, struct text name,
                   struct tpl_value *out);

/* ---- iteration (template_iter.c) ---- */
/* iter(value); *out is NULL where Python raises TypeError. */
bool tpl_try_iterate(struct tpl_run *run, struct tpl_value value, struct tpl_iter **out);
bool tpl_iterate(struct tpl_run *run, struct tpl_value value, struct tpl_iter **out);
bool tpl_next(struct tpl_run *run, struct tpl_iter *iter, struct tpl_value *out, bool *more);
/* reversed(value); *out is NULL where Python raises TypeError. */
bool tpl_try_reverse(struct tpl_run *run, struct tpl_value value, struct tpl_iter **out);
bool tpl_is_iterable(struct tpl_value value);
/* list(value) as an array. */
bool tpl_collect(struct tpl_run *run, struct tpl_value value, struct tpl_vector *out);
/* The generators behind filters: `next` is called until it gives TPL_MISSING. */
struct tpl_generator {
    bool (*next)(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out);
    struct tpl_value source;
    struct tpl_iter *iter; /* NULL before the first call */
    struct tpl_args args;
    struct tpl_value state[2];
    bool flag, attribute;
};
bool tpl_make_generator(struct tpl_run *run, const struct tpl_generator *generator,
                        struct tpl_value *out);
/* Items of a dict, as x|items and dict views give them. */
bool tpl_make_dict_iterator(struct tpl_run *run, struct tpl_dict *dict, enum tpl_view_kind kind,
                            struct tpl_value *out);
bool tpl_iterator_value(struct tpl_iter *iter, struct tpl_value *out);

/* ---- calls (template_call.c) ---- */
/* Sorts arguments into argv by a signature: names separated by spaces; "name?" may be missing
 * (TPL_MISSING), "/name" takes no keyword. */
bool tpl_bind(struct tpl_run *run, const struct tpl_args *args, const char *function,
              const char *signature, struct tpl_value *argv);
bool tpl_call(struct tpl_run *run, struct tpl_value callee, const struct tpl_args *args,
              struct tpl_value *out);
bool tpl_call_macro(struct tpl_run *run, struct tpl_macro *macro, const struct tpl_args *args,
                    struct tpl_value *out);
/* Filter or test by name at run time; subject is args->items[0]. */
bool tpl_call_named(struct tpl_run *run, bool filter, struct tpl_value name,
                    const struct tpl_args *args, struct tpl_value *out);
bool tpl_arg_int(struct tpl_run *run, struct tpl_value value, int64_t fallback, int64_t *out);
bool tpl_arg_text(struct tpl_run *run, struct tpl_value value, const char *what, struct text *out);

struct tpl_macro {
    const struct tpl_macro_def *def;
    struct tpl_frame *frame; /* the one that the macro was defined in */
};

const struct tpl_function *tpl_find_filter(struct text name);
const struct tpl_function *tpl_find_test(struct text name);
const struct tpl_function *tpl_find_global(struct text name);
/* NULL where the type has no such method. */
const struct tpl_method *tpl_find_method(enum tpl_kind kind, struct text name);
/* One function's row in a sorted or unsorted table. */
const struct tpl_function *tpl_find_in(const struct tpl_function *table, size_t count,
                                       struct text name);

extern const struct tpl_function tpl_text_filters[], tpl_sequence_filters[], tpl_number_filters[];
extern const size_t tpl_text_filter_count, tpl_sequence_filter_count, tpl_number_filter_count;

extern const struct tpl_method tpl_str_methods[];
extern const size_t tpl_str_method_count;

/* What several files use. */
bool tpl_filter_tojson(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out);
/* The stable order of `count` keys, descending with `reverse`. */
bool tpl_sort_order(struct tpl_run *run, const struct tpl_value *keys, size_t count, bool reverse,
                    size_t *order);
bool tpl_from_json(struct tpl_run *run, const json_t *json, struct tpl_value *out);
/* str.center, ljust, rjust: align is '^', '<' or '>'. */
bool tpl_pad(struct tpl_run *run, struct tpl_value string, int64_t width, struct text fill,
             char align, struct tpl_value *out);
bool tpl_strip(struct tpl_run *run, struct tpl_value string, struct tpl_value chars, bool left,
               bool right, struct tpl_value *out);
bool tpl_map_case(struct tpl_run *run, struct tpl_value string, enum tpl_case mapping,
                  struct tpl_value *out);
bool tpl_capitalize(struct tpl_run *run, struct tpl_value string, struct tpl_value *out);
bool tpl_replace(struct tpl_run *run, struct tpl_value string, struct tpl_value old,
                 struct tpl_value replacement, int64_t count, struct tpl_value *out);
bool tpl_split_lines(struct tpl_run *run, struct tpl_value string, bool keep_ends,
                     struct tpl_vector *out);
bool tpl_is_cased_as(struct tpl_run *run, struct tpl_value string, enum tpl_case mapping,
                     bool *out);
bool tpl_join(struct tpl_run *run, struct tpl_value separator, const struct tpl_vector *items,
              struct tpl_value *out);
/* Byte offset of the first (last) occurrence at or after `from`, or SIZE_MAX. */
size_t tpl_find(struct text text, struct text part, size_t from);
size_t tpl_find_last(struct text text, struct text part);

/* ---- evaluation (template_eval.c, template_exec.c, template_loop.c) ---- */
enum tpl_flow { TPL_FLOW_FAIL, TPL_FLOW_NEXT, TPL_FLOW_BREAK, TPL_FLOW_CONTINUE };

bool tpl_eval(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out);
/* The steps of a postfix chain upon `value`; `caller`, where given, goes to the last one, a call,
 * as a keyword argument. */
bool tpl_eval_postfix(struct tpl_run *run, const struct tpl_postfix *first, struct tpl_value value,
                      const struct tpl_value *caller, struct tpl_value *out);
struct tpl_value *tpl_slot(struct tpl_run *run, struct tpl_ref ref);
bool tpl_assign(struct tpl_run *run, const struct tpl_node *target, struct tpl_value value);
bool tpl_push_frame(struct tpl_run *run, const struct tpl_scope *scope);
bool tpl_load_slots(struct tpl_run *run, const struct tpl_scope *scope);

enum tpl_flow tpl_exec(struct tpl_run *run, const struct tpl_node *body);
enum tpl_flow tpl_exec_for(struct tpl_run *run, const struct tpl_node *node);
bool tpl_print(struct tpl_run *run, struct tpl_value value);
/* Everything printed between the two becomes a string; end also after a failure is not needed. */
size_t tpl_capture_begin(struct tpl_run *run);
bool tpl_capture_end(struct tpl_run *run, size_t mark, struct tpl_value *out);
void tpl_capture_drop(struct tpl_run *run, size_t mark);

bool tpl_loop_attribute(struct tpl_run *run, struct tpl_loop *loop, struct text name,
                        struct tpl_value *out);
bool tpl_loop_length(struct tpl_run *run, struct tpl_loop *loop, int64_t *length);
bool tpl_loop_call(struct tpl_run *run, struct tpl_loop *loop, const struct tpl_args *args,
                   struct tpl_value *out);
bool tpl_add_loop_repr(struct tpl_builder *builder, struct tpl_loop *loop);

#endif
