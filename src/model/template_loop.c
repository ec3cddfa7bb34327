/* The for tag and its `loop` object. Items are drawn one at a time, and the loop's filter
 * (`for x in y if test`) is asked when an item is drawn, so that it sees what the body has set. */
#include <string.h>

#include "model/template_run.h"

struct tpl_loop {
    const struct tpl_node *node;
    struct tpl_frame *outer; /* where the for tag stands */
    struct tpl_frame *test_frame;
    struct tpl_value iterable;
    struct tpl_iter *iter;
    bool drained; /* the rest is in `rest`, since somebody asked for the length */
    struct tpl_vector rest;
    size_t rest_at;
    struct tpl_value before, current, after; /* TPL_MISSING: none; `after` was drawn early */
    struct tpl_value last_changed;           /* the arguments of the last loop.changed() */
    int64_t index0, length, depth0;          /* length -1: not known */
};

/* Whether the loop's filter lets the item pass. */
static bool passes(struct tpl_run *run, struct tpl_loop *loop, struct tpl_value item, bool *out)
{
    const struct tpl_node *node = loop->node;
    struct tpl_frame *frame = run->frame;
    struct tpl_value test;
    if (!tpl_enter(run))
        return false;
    run->frame = loop->test_frame ? loop->test_frame : loop->outer;
    if (!loop->test_frame) {
        if (!tpl_push_frame(run, &node->as.loop.test_scope))
            return false;
        loop->test_frame = run->frame;
    }
    bool done = tpl_assign(run, node->as.loop.test_target, item) &&
                tpl_eval(run, node->as.loop.test, &test);
    run->frame = frame;
    *out = done && tpl_truth(test);
    tpl_leave(run);
    return done;
}

/* The next item, or TPL_MISSING. */
static bool draw(struct tpl_run *run, struct tpl_loop *loop, struct tpl_value *out)
{
    bool more = true, wanted = false;
    if (loop->drained) {
        *out = loop->rest_at < loop->rest.count ? loop->rest.items[loop->rest_at++] : tpl_missing();
        return true;
    }
    while (!wanted) {
        if (!tpl_next(run, loop->iter, out, &more))
            return false;
        if (!more) {
            *out = tpl_missing();
            return true;
        }
        wanted = !loop->node->as.loop.test;
        if (!wanted && !passes(run, loop, *out, &wanted))
            return false;
    }
    return true;
}

static bool advance(struct tpl_run *run, struct tpl_loop *loop)
{
    struct tpl_value next = loop->after;
    if (tpl_is_given(next))
        loop->after = tpl_missing();
    else if (!draw(run, loop, &next))
        return false;
    if (!tpl_is_given(next)) {
        loop->after = loop->current = next;
        return true;
    }
    loop->index0++;
    loop->before = loop->current;
    loop->current = next;
    return true;
}

static bool peek(struct tpl_run *run, struct tpl_loop *loop)
{
    return tpl_is_given(loop->after) || draw(run, loop, &loop->after);
}

/* The iterations of one execution of the tag; *ran tells whether a body came to its end, which is
 * what decides over the else part (break and continue do not count, as in jinja2). */
static enum tpl_flow iterate(struct tpl_run *run, struct tpl_loop *loop, bool *ran)
{
    const struct tpl_node *node = loop->node;
    for (;;) {
        if (!advance(run, loop))
            return TPL_FLOW_FAIL;
        if (!tpl_is_given(loop->current))
            return TPL_FLOW_NEXT;
        if (!tpl_assign(run, node->as.loop.target, loop->current))
            return TPL_FLOW_FAIL;
        if (node->as.loop.loop.slot != TPL_NO_SLOT)
            *tpl_slot(run, node->as.loop.loop) =
                (struct tpl_value){.kind = TPL_LOOP, .as.loop = loop};
        if (!tpl_load_slots(run, &node->as.loop.scope))
            return TPL_FLOW_FAIL;
        enum tpl_flow flow = tpl_exec(run, node->as.loop.body);
        if (flow == TPL_FLOW_FAIL)
            return flow;
        if (flow == TPL_FLOW_BREAK)
            return TPL_FLOW_NEXT;
        *ran = *ran || flow == TPL_FLOW_NEXT;
    }
}

static enum tpl_flow run_loop(struct tpl_run *run, const struct tpl_node *node,
                              struct tpl_value iterable, int64_t depth0)
{
    struct tpl_frame *outer = run->frame;
    struct tpl_loop *loop = tpl_alloc(run, sizeof *loop);
    bool ran = false;
    if (!loop)
        return TPL_FLOW_FAIL;
    loop->node = node;
    loop->outer = outer;
    loop->iterable = iterable;
    loop->index0 = -1;
    loop->length = -1;
    loop->depth0 = depth0;
    if (!tpl_iterate(run, iterable, &loop->iter) || !tpl_push_frame(run, &node->as.loop.scope))
        return TPL_FLOW_FAIL;
    enum tpl_flow flow = iterate(run, loop, &ran);
    run->frame = outer;
    if (flow == TPL_FLOW_FAIL || ran || !node->as.loop.otherwise)
        return flow;
    if (!tpl_push_frame(run, &node->as.loop.else_scope))
        return TPL_FLOW_FAIL;
    flow = tpl_exec(run, node->as.loop.otherwise);
    run->frame = outer;
    return flow;
}

static bool run_recursive(struct tpl_run *run, const struct tpl_node *node,
                          struct tpl_value iterable, int64_t depth0, struct tpl_value *out)
{
    size_t mark = tpl_capture_begin(run);
    return run_loop(run, node, iterable, depth0) != TPL_FLOW_FAIL &&
           tpl_capture_end(run, mark, out);
}

enum tpl_flow tpl_exec_for(struct tpl_run *run, const struct tpl_node *node)
{
    struct tpl_value iterable, text;
    if (!tpl_eval(run, node->as.loop.iter, &iterable))
        return TPL_FLOW_FAIL;
    if (!node->as.loop.recursive)
        return run_loop(run, node, iterable, 0);
    bool done = run_recursive(run, node, iterable, 0, &text) && tpl_print(run, text);
    return done ? TPL_FLOW_NEXT : TPL_FLOW_FAIL;
}

bool tpl_loop_call(struct tpl_run *run, struct tpl_loop *loop, const struct tpl_args *args,
                   struct tpl_value *out)
{
    struct tpl_value iterable;
    struct tpl_frame *frame = run->frame;
    if (!tpl_bind(run, args, "loop", "iterable", &iterable))
        return false;
    if (!loop->node->as.loop.recursive)
        return tpl_raise(run, "only a loop marked as recursive can be called");
    if (!tpl_enter(run))
        return false;
    run->frame = loop->outer;
    bool done = run_recursive(run, loop->node, iterable, loop->depth0 + 1, out);
    run->frame = frame;
    tpl_leave(run);
    return done;
}

/* ---- the loop object ---- */

bool tpl_loop_length(struct tpl_run *run, struct tpl_loop *loop, int64_t *length)
{
    bool sized = false;
    if (loop->length < 0 && !loop->node->as.loop.test &&
        !tpl_length(run, loop->iterable, &loop->length, &sized))
        return false;
    if (loop->length < 0) {
        struct tpl_vector rest = {.items = NULL};
        for (;;) {
            struct tpl_value item;
            if (!draw(run, loop, &item))
                return false;
            if (!tpl_is_given(item))
                break;
            if (!tpl_vector_add(run, &rest, item))
                return false;
        }
        loop->rest = rest;
        loop->rest_at = 0;
        loop->drained = true;
        loop->length = (int64_t)rest.count + loop->index0 + 1 + tpl_is_given(loop->after);
    }
    *length = loop->length;
    return true;
}

static bool loop_cycle(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    if (args->count == 0 || args->named_count)
        return tpl_raise(run, "loop.cycle() needs items");
    *out = args->items[(uint64_t)self.as.loop->index0 % args->count];
    return true;
}

static bool loop_changed(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         struct tpl_value *out)
{
    struct tpl_loop *loop = self.as.loop;
    struct tpl_value given;
    bool equal = false;
    if (args->named_count)
        return tpl_raise(run, "loop.changed() takes no keyword arguments");
    if (!tpl_make_list(run, TPL_TUPLE, args->count, &given))
        return false;
    if (args->count)
        memcpy(given.as.list->items, args->items, args->count * sizeof *args->items);
    if (!tpl_equal(run, loop->last_changed, given, &equal))
        return false;
    if (!equal)
        loop->last_changed = given;
    *out = tpl_bool(!equal);
    return true;
}

static bool loop_number(struct tpl_run *run, struct tpl_loop *loop, struct text name,
                        struct tpl_value *out)
{
    int64_t length;
    if (text_equal(name, TEXT("index")))
        *out = tpl_int(loop->index0 + 1);
    else if (text_equal(name, TEXT("index0")))
        *out = tpl_int(loop->index0);
    else if (text_equal(name, TEXT("depth")))
        *out = tpl_int(loop->depth0 + 1);
    else if (text_equal(name, TEXT("depth0")))
        *out = tpl_int(loop->depth0);
    bool whole = text_equal(name, TEXT("length"));
    bool from_end = text_equal(name, TEXT("revindex")),
         from_end0 = text_equal(name, TEXT("revindex0"));
    if (!whole && !from_end && !from_end0)
        return true;
    if (!tpl_loop_length(run, loop, &length))
        return false;
    *out = tpl_int(whole ? length : length - loop->index0 - from_end0);
    return true;
}

static bool loop_neighbour(struct tpl_run *run, struct tpl_loop *loop, bool next,
                           struct tpl_value *out)
{
    if (next && !peek(run, loop))
        return false;
    *out = next ? loop->after : loop->index0 == 0 ? tpl_missing() : loop->before;
    if (tpl_is_given(*out))
        return true;
    return tpl_make_undefined_hint(
        run, next ? "there is no next item" : "there is no previous item", out);
}

bool tpl_loop_attribute(struct tpl_run *run, struct tpl_loop *loop, struct text name,
                        struct tpl_value *out)
{
    static const struct tpl_method cycle = {"cycle", loop_cycle},
                                   changed = {"changed", loop_changed};
    struct tpl_value self = {.kind = TPL_LOOP, .as.loop = loop};
    if (text_equal(name, TEXT("first"))) {
        *out = tpl_bool(loop->index0 == 0);
        return true;
    }
    if (text_equal(name, TEXT("last"))) {
        if (!peek(run, loop))
            return false;
        *out = tpl_bool(!tpl_is_given(loop->after));
        return true;
    }
    if (text_equal(name, TEXT("nextitem")) || text_equal(name, TEXT("previtem")))
        return loop_neighbour(run, loop, name.data[0] == 'n', out);
    if (text_equal(name, TEXT("cycle")))
        return tpl_make_bound(run, &cycle, self, out);
    if (text_equal(name, TEXT("changed")))
        return tpl_make_bound(run, &changed, self, out);
    return loop_number(run, loop, name, out);
}

bool tpl_add_loop_repr(struct tpl_builder *builder, struct tpl_loop *loop)
{
    int64_t length;
    return tpl_loop_length(builder->run, loop, &length) &&
           tpl_add(builder, TEXT("<LoopContext ")) &&
           tpl_add_repr(builder, tpl_int(loop->index0 + 1)) && tpl_add_char(builder, '/') &&
           tpl_add_repr(builder, tpl_int(length)) && tpl_add_char(builder, '>');
}
