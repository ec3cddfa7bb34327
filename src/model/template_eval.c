/* Expressions. */
#include <string.h>

#include "model/template_run.h"

/* ---- frames ---- */

struct tpl_value *tpl_slot(struct tpl_run *run, struct tpl_ref ref)
{
    struct tpl_frame *frame = run->frame;
    for (uint32_t hops = ref.hops; hops > 0; hops--)
        frame = frame->parent;
    return &frame->slots[ref.slot];
}

/* The template's variables come before the global functions of the same name. */
static bool resolve(struct tpl_run *run, uint32_t name, struct tpl_value *out)
{
    struct tpl_value *cached = &run->globals[name];
    if (!tpl_is_given(*cached)) {
        struct text text = run->tpl->names[name];
        const json_t *json = json_object_getn(run->variables, text.data, text.size);
        const struct tpl_function *function = json ? NULL : tpl_find_global(text);
        if (json && !tpl_from_json(run, json, cached))
            return false;
        if (function)
            *cached = (struct tpl_value){.kind = TPL_FUNCTION, .as.function = function};
    }
    *out = *cached;
    return true;
}

bool tpl_load_slots(struct tpl_run *run, const struct tpl_scope *scope)
{
    if (!tpl_charge(run, scope->count))
        return false;
    for (uint32_t slot = 0; slot < scope->count; slot++) {
        const struct tpl_load *load = &scope->loads[slot];
        struct tpl_value *value = &run->frame->slots[slot];
        if (load->kind == TPL_LOAD_ALIAS)
            *value = *tpl_slot(run, load->ref);
        else if (load->kind == TPL_LOAD_UNDEFINED)
            *value = tpl_missing();
        else if (load->kind == TPL_LOAD_RESOLVE && !resolve(run, load->ref.name, value))
            return false;
    }
    return true;
}

bool tpl_push_frame(struct tpl_run *run, const struct tpl_scope *scope)
{
    struct tpl_frame *frame =
        tpl_alloc(run, sizeof *frame + scope->count * sizeof(struct tpl_value));
    if (!frame)
        return false;
    frame->parent = run->frame;
    run->frame = frame;
    return tpl_load_slots(run, scope);
}

static bool eval_name(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    *out = *tpl_slot(run, node->as.name.ref);
    if (tpl_is_given(*out))
        return true;
    struct tpl_value name;
    return tpl_make_string(run, run->tpl->names[node->as.name.ref.name], &name) &&
           tpl_make_undefined(run, TPL_MISSING, name, false, out);
}

/* ---- literals and operators ---- */

static bool eval_items(struct tpl_run *run, const struct tpl_node *node, enum tpl_kind kind,
                       struct tpl_value *out)
{
    struct tpl_value list;
    size_t i = 0;
    if (!tpl_make_list(run, kind, node->as.list.count, &list))
        return false;
    for (const struct tpl_node *item = node->as.list.items; item; item = item->next, i++) {
        if (!tpl_eval(run, item, &list.as.list->items[i]))
            return false;
    }
    *out = list;
    return true;
}

static bool eval_dict(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value dict, key, value;
    if (!tpl_make_dict(run, TPL_DICT, node->as.list.count / 2, &dict))
        return false;
    for (const struct tpl_node *item = node->as.list.items; item; item = item->next->next) {
        if (!tpl_eval(run, item, &key) || !tpl_eval(run, item->next, &value) ||
            !tpl_dict_set(run, dict.as.dict, key, value))
            return false;
    }
    *out = dict;
    return true;
}

static bool eval_cond(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value test;
    if (!tpl_eval(run, node->as.cond.test, &test))
        return false;
    if (tpl_truth(test))
        return tpl_eval(run, node->as.cond.then, out);
    if (node->as.cond.otherwise)
        return tpl_eval(run, node->as.cond.otherwise, out);
    return tpl_make_undefined_hint(run, "an inline if was false and has no else part", out);
}

/* and, or: the operand that decides. */
static bool eval_boolean(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    bool decides = node->kind == TPL_N_OR;
    for (const struct tpl_node *item = node->as.list.items; item; item = item->next) {
        if (!tpl_eval(run, item, out))
            return false;
        if (tpl_truth(*out) == decides)
            break;
    }
    return true;
}

static bool eval_compare(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value left, right;
    bool holds = true;
    if (!tpl_eval(run, node->as.chain.first, &left))
        return false;
    for (const struct tpl_operand *part = node->as.chain.operands; part && holds;
         part = part->next) {
        if (!tpl_eval(run, part->node, &right) || !tpl_compare(run, part->op, left, right, &holds))
            return false;
        left = right;
    }
    *out = tpl_bool(holds);
    return true;
}

static bool eval_arith(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value right;
    if (!tpl_eval(run, node->as.chain.first, out))
        return false;
    for (const struct tpl_operand *part = node->as.chain.operands; part; part = part->next) {
        struct tpl_value left = *out;
        if (!tpl_eval(run, part->node, &right) || !tpl_binary(run, part->op, left, right, out))
            return false;
    }
    return true;
}

/* x ~ y: all operands are evaluated before the first is turned into text, which is plain. */
static bool eval_concat(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value list, text, plain;
    if (!eval_items(run, node, TPL_LIST, &list) || !tpl_make_string(run, TEXT(""), &text))
        return false;
    for (size_t i = 0; i < list.as.list->count; i++) {
        if (!tpl_to_string(run, list.as.list->items[i], &plain))
            return false;
        if (plain.as.string->markup && !tpl_make_string(run, tpl_text(plain), &plain))
            return false;
        struct tpl_value left = text;
        if (!tpl_concat(run, left, plain, &text))
            return false;
    }
    *out = text;
    return true;
}

/* ---- postfix chains ---- */

static bool add_dyn_args(struct tpl_run *run, const struct tpl_node *node, struct tpl_vector *items)
{
    struct tpl_value value;
    struct tpl_vector more;
    if (!tpl_eval(run, node, &value) || !tpl_collect(run, value, &more))
        return false;
    for (size_t i = 0; i < more.count; i++) {
        if (!tpl_vector_add(run, items, more.items[i]))
            return false;
    }
    return true;
}

static bool add_dyn_keywords(struct tpl_run *run, const struct tpl_node *node,
                             struct tpl_value *named)
{
    struct tpl_value value, old;
    if (!tpl_eval(run, node, &value))
        return false;
    if (value.kind != TPL_DICT)
        return tpl_raise(run, "the argument behind ** is no mapping");
    for (size_t i = 0; i < value.as.dict->count; i++) {
        struct tpl_pair pair = value.as.dict->pairs[i];
        if (!tpl_is_string(pair.key))
            return tpl_raise(run, "keywords are strings");
        if (!tpl_dict_get(run, named->as.dict, pair.key, &old, NULL))
            return false;
        if (tpl_is_given(old))
            return tpl_raise(run, "the argument '%.*s' is given twice",
                             TEXT_ARGS(tpl_text(pair.key)));
        if (!tpl_dict_set(run, named->as.dict, pair.key, pair.value))
            return false;
    }
    return true;
}

static bool eval_keywords(struct tpl_run *run, const struct tpl_call *call,
                          const struct tpl_value *caller, struct tpl_args *args)
{
    struct tpl_value named, value, key;
    if (!call->keywords && !call->dyn_keywords && !caller)
        return true;
    if (!tpl_make_dict(run, TPL_DICT, call->keyword_count + 1, &named))
        return false;
    for (const struct tpl_keyword *keyword = call->keywords; keyword; keyword = keyword->next) {
        if (!tpl_eval(run, keyword->node, &value) ||
            !tpl_dict_set(run, named.as.dict, keyword->name, value))
            return false;
    }
    if (caller && (!tpl_make_string(run, TEXT("caller"), &key) ||
                   !tpl_dict_set(run, named.as.dict, key, *caller)))
        return false;
    if (call->dyn_keywords && !add_dyn_keywords(run, call->dyn_keywords, &named))
        return false;
    args->named = named.as.dict->pairs;
    args->named_count = named.as.dict->count;
    return true;
}

/* The arguments of a call, behind `subject` where that is given. */
static bool eval_args(struct tpl_run *run, const struct tpl_call *call,
                      const struct tpl_value *subject, const struct tpl_value *caller,
                      struct tpl_args *out)
{
    size_t capacity = call->count + (subject != NULL);
    struct tpl_vector items = {.capacity = capacity};
    *out = (struct tpl_args){.items = NULL};
    items.items = tpl_alloc_array(run, capacity, sizeof *items.items);
    if (!items.items)
        return false;
    if (subject)
        items.items[items.count++] = *subject;
    for (const struct tpl_node *node = call->args; node; node = node->next) {
        if (!tpl_eval(run, node, &items.items[items.count]))
            return false;
        items.count++;
    }
    if (call->dyn_args && !add_dyn_args(run, call->dyn_args, &items))
        return false;
    out->items = items.items;
    out->count = items.count;
    return eval_keywords(run, call, caller, out);
}

static bool eval_slice(struct tpl_run *run, const struct tpl_postfix *step, struct tpl_value *value)
{
    struct tpl_value bounds[3] = {tpl_none(), tpl_none(), tpl_none()}, subject = *value;
    const struct tpl_node *const nodes[3] = {step->as.slice.start, step->as.slice.stop,
                                             step->as.slice.step};
    for (int i = 0; i < 3; i++) {
        if (nodes[i] && !tpl_eval(run, nodes[i], &bounds[i]))
            return false;
    }
    return tpl_slice(run, subject, bounds, value);
}

static bool eval_item(struct tpl_run *run, const struct tpl_postfix *step, struct tpl_value *value)
{
    struct tpl_value key, subject = *value;
    return tpl_eval(run, step->as.item, &key) && tpl_getitem(run, subject, key, value);
}

static bool eval_call(struct tpl_run *run, const struct tpl_postfix *step,
                      const struct tpl_value *caller, struct tpl_value *value)
{
    struct tpl_args args;
    struct tpl_value callee = *value;
    return eval_args(run, &step->as.apply.call, NULL, caller, &args) &&
           tpl_call(run, callee, &args, value);
}

static bool eval_applied(struct tpl_run *run, const struct tpl_postfix *step,
                         struct tpl_value *value)
{
    struct tpl_args args;
    struct tpl_value subject = *value;
    if (!eval_args(run, &step->as.apply.call, &subject, NULL, &args))
        return false;
    if (!step->as.apply.function)
        return tpl_raise(run, "no %s named '%.*s'", step->kind == TPL_P_FILTER ? "filter" : "test",
                         TEXT_ARGS(step->as.apply.name));
    return step->as.apply.function->call(run, &args, value);
}

static bool eval_step(struct tpl_run *run, const struct tpl_postfix *step,
                      const struct tpl_value *caller, struct tpl_value *value)
{
    struct tpl_value object = *value;
    switch (step->kind) {
    case TPL_P_ATTRIBUTE:
        return tpl_getattr(run, object, step->as.attribute, value);
    case TPL_P_ITEM:
        return eval_item(run, step, value);
    case TPL_P_SLICE:
        return eval_slice(run, step, value);
    case TPL_P_CALL:
        return eval_call(run, step, caller, value);
    default:
        return eval_applied(run, step, value);
    }
}

bool tpl_eval_postfix(struct tpl_run *run, const struct tpl_postfix *first, struct tpl_value value,
                      const struct tpl_value *caller, struct tpl_value *out)
{
    for (const struct tpl_postfix *step = first; step; step = step->next) {
        run->line = step->line;
        if (!tpl_charge(run, TPL_NODE_STEPS) ||
            !eval_step(run, step, step->next ? NULL : caller, &value))
            return false;
    }
    *out = value;
    return true;
}

static bool eval_postfix(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value base;
    return tpl_eval(run, node->as.postfix.base, &base) &&
           tpl_eval_postfix(run, node->as.postfix.first, base, NULL, out);
}

static bool eval_unary(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    struct tpl_value child;
    if (!tpl_eval(run, node->as.child, &child))
        return false;
    if (node->kind != TPL_N_NOT)
        return tpl_negate(run, child, node->kind == TPL_N_NEG, out);
    *out = tpl_bool(!tpl_truth(child));
    return true;
}

static bool eval_inside(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    switch (node->kind) {
    case TPL_N_TUPLE:
        return eval_items(run, node, TPL_TUPLE, out);
    case TPL_N_LIST:
        return eval_items(run, node, TPL_LIST, out);
    case TPL_N_DICT:
        return eval_dict(run, node, out);
    case TPL_N_COND:
        return eval_cond(run, node, out);
    case TPL_N_OR:
    case TPL_N_AND:
        return eval_boolean(run, node, out);
    case TPL_N_COMPARE:
        return eval_compare(run, node, out);
    case TPL_N_ARITH:
        return eval_arith(run, node, out);
    case TPL_N_CONCAT:
        return eval_concat(run, node, out);
    case TPL_N_POSTFIX:
        return eval_postfix(run, node, out);
    case TPL_N_NOT:
    case TPL_N_NEG:
    case TPL_N_POS:
        return eval_unary(run, node, out);
    default:
        return tpl_raise(run, "this is no expression");
    }
}

bool tpl_eval(struct tpl_run *run, const struct tpl_node *node, struct tpl_value *out)
{
    if (!tpl_charge(run, TPL_NODE_STEPS))
        return false;
    if (node->kind == TPL_N_CONST) {
        *out = node->as.constant;
        return true;
    }
    if (node->kind == TPL_N_NAME)
        return eval_name(run, node, out);
    if (!tpl_enter(run))
        return false;
    run->line = node->line;
    bool done = eval_inside(run, node, out);
    tpl_leave(run);
    return done;
}

/* ---- assignment ---- */

static bool assign_name(struct tpl_run *run, const struct tpl_node *target, struct tpl_value value)
{
    struct tpl_value *slot = tpl_slot(run, target->as.name.ref);
    if (target->kind == TPL_N_NAME) {
        *slot = value;
        return true;
    }
    struct text name = tpl_text(target->as.name.attribute);
    if (slot->kind != TPL_NAMESPACE)
        return tpl_raise(run, "only a namespace has attributes that can be set");
    if (text_starts_with(name, TEXT("_")))
        return tpl_raise(run, "a namespace cannot have the attribute '%.*s'", TEXT_ARGS(name));
    return tpl_dict_set(run, slot->as.dict, target->as.name.attribute, value);
}

bool tpl_assign(struct tpl_run *run, const struct tpl_node *target, struct tpl_value value)
{
    struct tpl_vector items;
    if (target->kind != TPL_N_TUPLE)
        return assign_name(run, target, value);
    if (!tpl_enter(run) || !tpl_collect(run, value, &items))
        return false;
    if (items.count != target->as.list.count)
        return tpl_raise(run, "%zu values for %u names", items.count, target->as.list.count);
    size_t i = 0;
    for (const struct tpl_node *item = target->as.list.items; item; item = item->next, i++) {
        if (!tpl_assign(run, item, items.items[i]))
            return false;
    }
    tpl_leave(run);
    return true;
}
