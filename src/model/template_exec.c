/* Statements. */
#include <string.h>

#include "model/template_run.h"

/* ---- output ---- */

static bool append(struct tpl_run *run, struct text text)
{
    if (!tpl_charge(run, text.size))
        return false;
    if (run->captures == 0 && text.size > run->limits.output - run->output.size)
        return tpl_fail(run, HEARTH_E_LIMIT, "the template prints more than %llu bytes",
                        (unsigned long long)run->limits.output);
    if (buffer_append_text(&run->output, text))
        return true;
    if (text.size > run->output.max - run->output.size)
        return tpl_fail(run, HEARTH_E_LIMIT, "the template prints more than %zu bytes",
                        run->output.max);
    return tpl_fail(run, HEARTH_E_MEMORY, "out of memory");
}

bool tpl_print(struct tpl_run *run, struct tpl_value value)
{
    if (value.kind == TPL_UNDEFINED)
        return true;
    return tpl_to_string(run, value, &value) && append(run, tpl_text(value));
}

size_t tpl_capture_begin(struct tpl_run *run)
{
    run->captures++;
    return run->output.size;
}

bool tpl_capture_end(struct tpl_run *run, size_t mark, struct tpl_value *out)
{
    size_t size = run->output.size - mark;
    const char *data = size ? run->output.data + mark : "";
    bool done = tpl_copy_string(run, (struct text){data, size}, out);
    tpl_capture_drop(run, mark);
    return done;
}

void tpl_capture_drop(struct tpl_run *run, size_t mark)
{
    run->captures--;
    run->output.size = mark;
}

static enum tpl_flow flow_of(bool done)
{
    return done ? TPL_FLOW_NEXT : TPL_FLOW_FAIL;
}

static bool exec_output(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value value;
    for (const struct tpl_node *item = node->as.list.items; item; item = item->next) {
        if (!tpl_eval(run, item, &value) || !tpl_print(run, value))
            return false;
    }
    return true;
}

/* ---- set, filter, with, block ---- */

static bool exec_set(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value value;
    return tpl_eval(run, node->as.set.value, &value) && tpl_assign(run, node->as.set.target, value);
}

/* The text of a set or filter block, filtered; the frame is the block's own while that is done. */
static enum tpl_flow exec_captured(struct tpl_run *run, const struct tpl_node *node,
                                   struct tpl_value *out)
{
    struct tpl_frame *outer = run->frame;
    if (!tpl_push_frame(run, &node->as.block.scope))
        return TPL_FLOW_FAIL;
    size_t mark = tpl_capture_begin(run);
    enum tpl_flow flow = tpl_exec(run, node->as.block.body);
    if (flow == TPL_FLOW_NEXT) {
        const struct tpl_node *filter = node->as.block.filter;
        bool done = tpl_capture_end(run, mark, out) &&
                    (!filter || tpl_eval_postfix(run, filter->as.postfix.first, *out, NULL, out));
        flow = flow_of(done);
    } else if (flow != TPL_FLOW_FAIL) {
        tpl_capture_drop(run, mark); /* break or continue: what was printed is lost */
    }
    run->frame = outer;
    return flow;
}

static enum tpl_flow exec_set_block(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value value;
    enum tpl_flow flow = exec_captured(run, node, &value);
    return flow == TPL_FLOW_NEXT ? flow_of(tpl_assign(run, node->as.block.target, value)) : flow;
}

static enum tpl_flow exec_filter(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value value;
    enum tpl_flow flow = exec_captured(run, node, &value);
    return flow == TPL_FLOW_NEXT ? flow_of(tpl_print(run, value)) : flow;
}

static enum tpl_flow exec_with(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_frame *outer = run->frame, *inner;
    if (!tpl_push_frame(run, &node->as.with.scope))
        return TPL_FLOW_FAIL;
    inner = run->frame;
    const struct tpl_node *target = node->as.with.targets;
    for (const struct tpl_node *value = node->as.with.values; value;
         value = value->next, target = target->next) {
        struct tpl_value given;
        run->frame = outer;
        if (!tpl_eval(run, value, &given))
            return TPL_FLOW_FAIL;
        run->frame = inner;
        if (!tpl_assign(run, target, given))
            return TPL_FLOW_FAIL;
    }
    enum tpl_flow flow = tpl_exec(run, node->as.with.body);
    run->frame = outer;
    return flow;
}

static enum tpl_flow exec_block(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_frame *outer = run->frame;
    if (!tpl_push_frame(run, &node->as.block.scope))
        return TPL_FLOW_FAIL;
    enum tpl_flow flow = tpl_exec(run, node->as.block.body);
    run->frame = outer;
    return flow;
}

/* ---- if, macro, call ---- */

static enum tpl_flow exec_if(struct tpl_run *run, const struct tpl_node *node)
{
    for (const struct tpl_branch *branch = node->as.branches; branch; branch = branch->next) {
        struct tpl_value test = tpl_bool(true);
        if (branch->test && !tpl_eval(run, branch->test, &test))
            return TPL_FLOW_FAIL;
        if (tpl_truth(test))
            return tpl_exec(run, branch->body);
    }
    return TPL_FLOW_NEXT;
}

static bool make_macro(struct tpl_run *run, const struct tpl_macro_def *def, struct tpl_value *out)
{
    struct tpl_macro *macro = tpl_alloc(run, sizeof *macro);
    if (!macro)
        return false;
    *macro = (struct tpl_macro){def, run->frame};
    *out = (struct tpl_value){.kind = TPL_MACRO, .as.macro = macro};
    return true;
}

static bool exec_macro(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value macro;
    return make_macro(run, node->as.macro.def, &macro) &&
           tpl_assign(run, node->as.macro.target, macro);
}

static bool exec_call(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value caller, text, base;
    if (!make_macro(run, node->as.macro.def, &caller))
        return false;
    const struct tpl_node *call = node->as.macro.call;
    if (!call) { /* a generation block */
        struct tpl_args none = {.items = NULL};
        return tpl_call_macro(run, caller.as.macro, &none, &text) && tpl_print(run, text);
    }
    return tpl_eval(run, call->as.postfix.base, &base) &&
           tpl_eval_postfix(run, call->as.postfix.first, base, &caller, &text) &&
           tpl_print(run, text);
}

static enum tpl_flow exec_node(struct tpl_run *run, const struct tpl_node *node)
{
    switch (node->kind) {
    case TPL_N_OUTPUT:
        return flow_of(exec_output(run, node));
    case TPL_N_SET:
        return flow_of(exec_set(run, node));
    case TPL_N_SET_BLOCK:
        return exec_set_block(run, node);
    case TPL_N_IF:
        return exec_if(run, node);
    case TPL_N_FOR:
        return tpl_exec_for(run, node);
    case TPL_N_MACRO:
        return flow_of(exec_macro(run, node));
    case TPL_N_CALL:
        return flow_of(exec_call(run, node));
    case TPL_N_FILTER:
        return exec_filter(run, node);
    case TPL_N_WITH:
        return exec_with(run, node);
    case TPL_N_BLOCK:
        return exec_block(run, node);
    case TPL_N_BREAK:
        return TPL_FLOW_BREAK;
    case TPL_N_CONTINUE:
        return TPL_FLOW_CONTINUE;
    case TPL_N_REFUSED:
        return flow_of(tpl_raise(run, "%s", node->as.refused));
    default:
        return flow_of(tpl_raise(run, "this is no statement"));
    }
}

enum tpl_flow tpl_exec(struct tpl_run *run, const struct tpl_node *body)
{
    enum tpl_flow flow = TPL_FLOW_NEXT;
    if (!tpl_enter(run))
        return TPL_FLOW_FAIL;
    for (const struct tpl_node *node = body; node && flow == TPL_FLOW_NEXT; node = node->next) {
        run->line = node->line;
        flow = tpl_charge(run, TPL_NODE_STEPS) ? exec_node(run, node) : TPL_FLOW_FAIL;
    }
    tpl_leave(run);
    return flow;
}
