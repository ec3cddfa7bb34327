/* Which frame and slot every name means.
 *
 * jinja2 compiles a template into Python functions, and what a name means follows from how it
 * assigns names to Python variables: a frame per template, macro, loop body, with, filter and set
 * block; a name that is only read belongs to the outermost frame that knows it; one that is
 * assigned in an inner frame gets a variable there, which starts as a copy of the outer one. A
 * frame is looked at as a whole before the frames inside it. Branches of an `if` share their frame:
 * what only some of them assign starts as a copy too, what the frame itself assigns first starts
 * undefined. This file does the same with frames and slots. */
#include <string.h>

#include "model/template_parser.h"

enum special { CALLER, KWARGS, VARARGS, SPECIALS };
enum use { UNSEEN, READ, WRITTEN };

struct scope;

/* A name in one scope. */
struct entry {
    struct entry *outer; /* the same name in an outer scope */
    struct scope *scope;
    uint32_t name, slot;
    bool defined; /* false while the walk is outside the branches that define it */
    bool stored;
    struct tpl_load load;
};

struct scope {
    unsigned level;
    struct entry **entries; /* by slot */
    uint32_t count, capacity;
};

/* What the branches of an `if` changed, to be taken back at the end of each and done again behind
 * the last. */
struct change {
    struct entry *entry;
    bool store;
};

struct resolver {
    struct chat_template *tpl;
    struct entry **tops; /* per name: its entry in the innermost scope that has one */
    struct scope *scope;
    struct change *changes;
    size_t change_count, change_capacity;
    unsigned depth;
    uint32_t loop, specials[SPECIALS]; /* the names' ids, UINT32_MAX where the template has none */
    enum use special_use[SPECIALS];    /* in the macro being looked at */
    /* Only an `if` of the current frame leads here: an unknown filter fails when it is reached, not
     * before. */
    bool soft;
    int code;
    struct hearth_error *err;
};

typedef bool visit_fn(struct resolver *resolver, struct tpl_node *node);

static bool out_of_memory(struct resolver *resolver)
{
    resolver->code =
        resolver->tpl->arena.exhausted
            ? error_set(resolver->err, HEARTH_E_LIMIT, "the template is too large")
            : error_set(resolver->err, HEARTH_E_MEMORY, "out of memory while parsing a template");
    return false;
}

static void *grow(struct resolver *resolver, void *old, size_t count, size_t capacity, size_t size)
{
    void *memory = tpl_arena_grow(&resolver->tpl->arena, old, count * size, capacity * size);
    if (!memory)
        out_of_memory(resolver);
    return memory;
}

/* ---- children ---- */

static bool visit_list(struct resolver *resolver, struct tpl_node *node, visit_fn *visit)
{
    for (; node; node = node->next) {
        if (!visit(resolver, node))
            return false;
    }
    return true;
}

static bool visit_one(struct resolver *resolver, struct tpl_node *node, visit_fn *visit)
{
    return !node || visit(resolver, node);
}

static bool visit_step(struct resolver *resolver, struct tpl_postfix *step, visit_fn *visit)
{
    if (step->kind == TPL_P_ATTRIBUTE)
        return true;
    if (step->kind == TPL_P_ITEM)
        return visit(resolver, step->as.item);
    if (step->kind == TPL_P_SLICE)
        return visit_one(resolver, step->as.slice.start, visit) &&
               visit_one(resolver, step->as.slice.stop, visit) &&
               visit_one(resolver, step->as.slice.step, visit);
    if (!visit_list(resolver, step->as.apply.call.args, visit))
        return false;
    for (struct tpl_keyword *keyword = step->as.apply.call.keywords; keyword;
         keyword = keyword->next) {
        if (!visit(resolver, keyword->node))
            return false;
    }
    return visit_one(resolver, step->as.apply.call.dyn_args, visit) &&
           visit_one(resolver, step->as.apply.call.dyn_keywords, visit);
}

static bool visit_def(struct resolver *resolver, struct tpl_macro_def *def, visit_fn *visit)
{
    return visit_list(resolver, def->params, visit) && visit_list(resolver, def->defaults, visit) &&
           visit_list(resolver, def->body, visit);
}

static bool visit_statement_children(struct resolver *resolver, struct tpl_node *node,
                                     visit_fn *visit)
{
    switch (node->kind) {
    case TPL_N_SET:
        return visit(resolver, node->as.set.target) && visit(resolver, node->as.set.value);
    case TPL_N_SET_BLOCK:
    case TPL_N_FILTER:
        return visit_one(resolver, node->as.block.target, visit) &&
               visit_one(resolver, node->as.block.filter, visit) &&
               visit_list(resolver, node->as.block.body, visit);
    case TPL_N_IF:
        for (struct tpl_branch *branch = node->as.branches; branch; branch = branch->next) {
            if (!visit_one(resolver, branch->test, visit) ||
                !visit_list(resolver, branch->body, visit))
                return false;
        }
        return true;
    case TPL_N_FOR:
        return visit(resolver, node->as.loop.target) && visit(resolver, node->as.loop.iter) &&
               visit_list(resolver, node->as.loop.body, visit) &&
               visit_list(resolver, node->as.loop.otherwise, visit) &&
               visit_one(resolver, node->as.loop.test, visit);
    case TPL_N_MACRO:
    case TPL_N_CALL:
        return visit_one(resolver, node->as.macro.call, visit) &&
               visit_def(resolver, node->as.macro.def, visit);
    case TPL_N_WITH:
        return visit_list(resolver, node->as.with.targets, visit) &&
               visit_list(resolver, node->as.with.values, visit) &&
               visit_list(resolver, node->as.with.body, visit);
    default:
        return true;
    }
}

static bool visit_children(struct resolver *resolver, struct tpl_node *node, visit_fn *visit)
{
    switch (node->kind) {
    case TPL_N_TUPLE:
    case TPL_N_LIST:
    case TPL_N_DICT:
    case TPL_N_OR:
    case TPL_N_AND:
    case TPL_N_CONCAT:
    case TPL_N_OUTPUT:
        return visit_list(resolver, node->as.list.items, visit);
    case TPL_N_COND:
        return visit(resolver, node->as.cond.test) && visit(resolver, node->as.cond.then) &&
               visit_one(resolver, node->as.cond.otherwise, visit);
    case TPL_N_NOT:
    case TPL_N_NEG:
    case TPL_N_POS:
        return visit(resolver, node->as.child);
    case TPL_N_COMPARE:
    case TPL_N_ARITH:
        if (!visit(resolver, node->as.chain.first))
            return false;
        for (struct tpl_operand *part = node->as.chain.operands; part; part = part->next) {
            if (!visit(resolver, part->node))
                return false;
        }
        return true;
    case TPL_N_POSTFIX:
        if (!visit_one(resolver, node->as.postfix.base, visit))
            return false;
        for (struct tpl_postfix *step = node->as.postfix.first; step; step = step->next) {
            if (!visit_step(resolver, step, visit))
                return false;
        }
        return true;
    default:
        return visit_statement_children(resolver, node, visit);
    }
}

/* Calls `visit_children` one level deeper. */
static bool descend(struct resolver *resolver, struct tpl_node *node, visit_fn *visit)
{
    if (resolver->depth >= TPL_TREE_DEPTH_MAX) {
        resolver->code =
            error_set(resolver->err, HEARTH_E_LIMIT,
                      "template line %u: tags or expressions are nested too deep", node->line);
        return false;
    }
    resolver->depth++;
    bool done = visit_children(resolver, node, visit);
    resolver->depth--;
    return done;
}

/* ---- scopes ---- */

static struct entry *find(const struct resolver *resolver, uint32_t name)
{
    struct entry *entry = resolver->tops[name];
    while (entry && !entry->defined)
        entry = entry->outer;
    return entry;
}

static bool record(struct resolver *resolver, struct entry *entry, bool store)
{
    if (resolver->change_count == resolver->change_capacity) {
        size_t capacity = resolver->change_capacity * 2 + 32;
        struct change *changes =
            grow(resolver, resolver->changes, resolver->change_capacity, capacity, sizeof *changes);
        if (!changes)
            return false;
        resolver->changes = changes;
        resolver->change_capacity = capacity;
    }
    resolver->changes[resolver->change_count++] = (struct change){entry, store};
    return true;
}

/* The entry of a name in the current scope, made where there is none. */
static struct entry *own_entry(struct resolver *resolver, uint32_t name)
{
    struct scope *scope = resolver->scope;
    struct entry *entry = resolver->tops[name];
    if (entry && entry->scope == scope)
        return entry;
    if (scope->count == scope->capacity) {
        uint32_t capacity = scope->capacity * 2 + 8;
        struct entry **entries =
            grow(resolver, scope->entries, scope->capacity, capacity, sizeof(struct entry *));
        if (!entries)
            return NULL;
        scope->entries = entries;
        scope->capacity = capacity;
    }
    entry = tpl_arena_alloc(&resolver->tpl->arena, sizeof *entry);
    if (!entry) {
        out_of_memory(resolver);
        return NULL;
    }
    *entry = (struct entry){
        .outer = resolver->tops[name], .scope = scope, .name = name, .slot = scope->count};
    scope->entries[scope->count++] = entry;
    resolver->tops[name] = entry;
    return entry;
}

/* A copy of the outer scope's variable, or what `otherwise` says where no outer scope has it. */
static struct tpl_load outer_load(const struct entry *entry, enum tpl_load_kind otherwise)
{
    const struct entry *outer = entry->outer;
    while (outer && !outer->defined)
        outer = outer->outer;
    struct tpl_load load = {.kind = outer ? TPL_LOAD_ALIAS : otherwise, .ref.name = entry->name};
    if (outer) {
        load.ref.hops = entry->scope->level - outer->scope->level;
        load.ref.slot = outer->slot;
    }
    return load;
}

static bool note_load(struct resolver *resolver, uint32_t name)
{
    if (find(resolver, name))
        return true;
    struct entry *entry = own_entry(resolver, name);
    if (!entry)
        return false;
    entry->defined = true;
    entry->load = (struct tpl_load){.kind = TPL_LOAD_RESOLVE, .ref.name = name};
    return record(resolver, entry, false);
}

static bool note_store(struct resolver *resolver, uint32_t name)
{
    struct entry *entry = own_entry(resolver, name);
    if (!entry)
        return false;
    if (!entry->defined) {
        entry->defined = true;
        entry->load = outer_load(entry, TPL_LOAD_UNDEFINED);
        if (!record(resolver, entry, false))
            return false;
    }
    if (entry->stored)
        return true;
    entry->stored = true;
    return record(resolver, entry, true);
}

static struct entry *note_parameter(struct resolver *resolver, uint32_t name)
{
    struct entry *entry = own_entry(resolver, name);
    if (entry) {
        entry->defined = entry->stored = true;
        entry->load = (struct tpl_load){.kind = TPL_LOAD_PARAMETER, .ref.name = name};
    }
    return entry;
}

static bool visit_parameter(struct resolver *resolver, struct tpl_node *node)
{
    if (node->kind == TPL_N_NAME)
        return note_parameter(resolver, node->as.name.ref.name) != NULL;
    return descend(resolver, node, visit_parameter);
}

/* ---- first walk over a scope: which names it has ---- */

static visit_fn analyze;

static void undo(struct resolver *resolver, size_t from)
{
    for (size_t i = from; i < resolver->change_count; i++) {
        struct entry *entry = resolver->changes[i].entry;
        if (resolver->changes[i].store)
            entry->stored = false;
        else
            entry->defined = false;
    }
}

/* Does again what all branches since `from` did. Changes stay recorded for an `if` around. */
static void merge(struct resolver *resolver, size_t from)
{
    for (size_t i = from; i < resolver->change_count; i++) {
        struct entry *entry = resolver->changes[i].entry;
        entry->defined = true;
        if (resolver->changes[i].store) {
            entry->stored = true;
            entry->load = outer_load(entry, TPL_LOAD_RESOLVE);
        } else if (!entry->stored) {
            entry->load = (struct tpl_load){.kind = TPL_LOAD_RESOLVE, .ref.name = entry->name};
        }
    }
}

static bool analyze_branch(struct resolver *resolver, struct tpl_node *body)
{
    size_t from = resolver->change_count;
    if (!visit_list(resolver, body, analyze))
        return false;
    undo(resolver, from);
    return true;
}

/* The elif parts are one branch, in which each is an `if` of its own. */
static bool analyze_elifs(struct resolver *resolver, struct tpl_branch *branch)
{
    size_t from = resolver->change_count;
    for (; branch && branch->test; branch = branch->next) {
        if (!analyze(resolver, branch->test))
            return false;
        size_t inner = resolver->change_count;
        if (!analyze_branch(resolver, branch->body))
            return false;
        merge(resolver, inner);
    }
    undo(resolver, from);
    return true;
}

static bool analyze_if(struct resolver *resolver, struct tpl_node *node)
{
    struct tpl_branch *branch = node->as.branches;
    if (!analyze(resolver, branch->test))
        return false;
    size_t from = resolver->change_count;
    if (!analyze_branch(resolver, branch->body) || !analyze_elifs(resolver, branch->next))
        return false;
    while (branch && branch->test)
        branch = branch->next;
    if (branch && !analyze_branch(resolver, branch->body))
        return false;
    merge(resolver, from);
    return true;
}

static bool analyze(struct resolver *resolver, struct tpl_node *node)
{
    switch (node->kind) {
    case TPL_N_NAME:
        return node->as.name.stored ? note_store(resolver, node->as.name.ref.name)
                                    : note_load(resolver, node->as.name.ref.name);
    case TPL_N_NSREF:
        return note_load(resolver, node->as.name.ref.name);
    case TPL_N_IF: {
        if (resolver->depth >= TPL_TREE_DEPTH_MAX)
            return descend(resolver, node, analyze);
        resolver->depth++;
        bool done = analyze_if(resolver, node);
        resolver->depth--;
        return done;
    }
    case TPL_N_SET:
        return analyze(resolver, node->as.set.value) && analyze(resolver, node->as.set.target);
    case TPL_N_SET_BLOCK:
        return analyze(resolver, node->as.block.target);
    case TPL_N_FILTER:
        return analyze(resolver, node->as.block.filter);
    case TPL_N_FOR:
        return analyze(resolver, node->as.loop.iter);
    case TPL_N_MACRO:
        return note_store(resolver, node->as.macro.target->as.name.ref.name);
    case TPL_N_CALL:
        return visit_one(resolver, node->as.macro.call, analyze);
    case TPL_N_WITH:
        return visit_list(resolver, node->as.with.values, analyze);
    case TPL_N_BLOCK:
        return true;
    default:
        return descend(resolver, node, analyze);
    }
}

/* ---- second walk: the names' places, and the scopes inside ---- */

static visit_fn resolve;

static bool set_ref(struct resolver *resolver, struct tpl_node *node)
{
    struct tpl_ref *ref = &node->as.name.ref;
    const struct entry *entry = find(resolver, ref->name);
    if (!entry) {
        /* only a filter of a set block sees names that no walk has noted; jinja2 fails as well */
        resolver->code = error_set(resolver->err, HEARTH_E_TEMPLATE,
                                   "template line %u: '%.*s' is not known in this filter",
                                   node->line, TEXT_ARGS(resolver->tpl->names[ref->name]));
        return false;
    }
    ref->hops = resolver->scope->level - entry->scope->level;
    ref->slot = entry->slot;
    return true;
}

static struct tpl_ref entry_ref(const struct entry *entry)
{
    return (struct tpl_ref){.name = entry->name, .hops = 0, .slot = entry->slot};
}

static void open_scope(struct resolver *resolver, struct scope *scope)
{
    *scope = (struct scope){.level = resolver->scope ? resolver->scope->level + 1 : 0};
    resolver->scope = scope;
    /* nothing is taken back across scopes */
    resolver->change_count = 0;
}

static bool close_scope(struct resolver *resolver, struct scope *outer, struct tpl_scope *out)
{
    struct scope *scope = resolver->scope;
    resolver->scope = outer;
    for (uint32_t slot = 0; slot < scope->count; slot++)
        resolver->tops[scope->entries[slot]->name] = scope->entries[slot]->outer;
    if (resolver->code != 0)
        return false;
    out->count = scope->count;
    out->loads = tpl_arena_alloc(&resolver->tpl->arena, scope->count * sizeof *out->loads + 1);
    if (!out->loads)
        return out_of_memory(resolver);
    for (uint32_t slot = 0; slot < scope->count; slot++)
        out->loads[slot] = scope->entries[slot]->load;
    return true;
}

static uint32_t find_name(const struct resolver *resolver, const char *name)
{
    for (uint32_t i = 0; i < resolver->tpl->name_count; i++) {
        if (text_equal(resolver->tpl->names[i], text_of(name)))
            return i;
    }
    return UINT32_MAX;
}

static bool resolve_body(struct resolver *resolver, struct tpl_node *body)
{
    bool soft = resolver->soft;
    resolver->soft = false;
    bool done = visit_list(resolver, body, resolve);
    resolver->soft = soft;
    return done;
}

static struct tpl_node *copy_target(struct resolver *resolver, const struct tpl_node *node)
{
    struct tpl_node *copy = tpl_arena_alloc(&resolver->tpl->arena, sizeof *copy);
    if (!copy) {
        out_of_memory(resolver);
        return NULL;
    }
    *copy = *node;
    copy->next = NULL;
    if (node->kind == TPL_N_TUPLE) {
        struct tpl_node **end = &copy->as.list.items;
        for (const struct tpl_node *item = node->as.list.items; item; item = item->next) {
            *end = copy_target(resolver, item);
            if (!*end)
                return NULL;
            end = &(*end)->next;
        }
    }
    return copy;
}

static bool resolve_for_test(struct resolver *resolver, struct tpl_node *node)
{
    struct scope scope, *outer = resolver->scope;
    if (!node->as.loop.test)
        return true;
    node->as.loop.test_target = copy_target(resolver, node->as.loop.target);
    if (!node->as.loop.test_target)
        return false;
    open_scope(resolver, &scope);
    bool done = visit_parameter(resolver, node->as.loop.test_target) &&
                analyze(resolver, node->as.loop.test) &&
                resolve(resolver, node->as.loop.test_target) &&
                resolve_body(resolver, node->as.loop.test);
    return close_scope(resolver, outer, &node->as.loop.test_scope) && done;
}

static bool resolve_for(struct resolver *resolver, struct tpl_node *node)
{
    struct scope scope, *outer = resolver->scope;
    if (!resolve(resolver, node->as.loop.iter) || !resolve_for_test(resolver, node))
        return false;
    open_scope(resolver, &scope);
    node->as.loop.loop.slot = TPL_NO_SLOT;
    bool done = true;
    if (resolver->loop != UINT32_MAX) {
        const struct entry *entry = note_parameter(resolver, resolver->loop);
        done = entry != NULL;
        if (entry)
            node->as.loop.loop = entry_ref(entry);
    }
    done = done && visit_parameter(resolver, node->as.loop.target) &&
           visit_list(resolver, node->as.loop.body, analyze) &&
           resolve(resolver, node->as.loop.target) && resolve_body(resolver, node->as.loop.body);
    if (!close_scope(resolver, outer, &node->as.loop.scope) || !done)
        return false;
    open_scope(resolver, &scope);
    done = visit_list(resolver, node->as.loop.otherwise, analyze) &&
           resolve_body(resolver, node->as.loop.otherwise);
    return close_scope(resolver, outer, &node->as.loop.else_scope) && done;
}

/* Whether a macro's body uses one of the names that a macro may be given without declaring them:
 * read anywhere below it before it is assigned. */
static bool look_for_special(struct resolver *resolver, struct tpl_node *node)
{
    if (node->kind == TPL_N_BLOCK)
        return true;
    if (node->kind != TPL_N_NAME)
        return descend(resolver, node, look_for_special);
    for (int i = 0; i < SPECIALS; i++) {
        if (node->as.name.ref.name == resolver->specials[i] && resolver->special_use[i] == UNSEEN)
            resolver->special_use[i] = node->as.name.stored ? WRITTEN : READ;
    }
    return true;
}

static bool has_parameter(const struct tpl_macro_def *def, uint32_t name)
{
    for (const struct tpl_node *param = def->params; param; param = param->next) {
        if (param->as.name.ref.name == name)
            return true;
    }
    return false;
}

/* `caller` may be declared, but then with a default. */
static bool check_caller(struct resolver *resolver, const struct tpl_macro_def *def)
{
    uint32_t at = 0;
    const struct tpl_node *param = def->params;
    while (param && param->as.name.ref.name != resolver->specials[CALLER]) {
        param = param->next;
        at++;
    }
    if (!param || at >= def->count - def->default_count)
        return true;
    resolver->code =
        error_set(resolver->err, HEARTH_E_TEMPLATE,
                  "template line %u: a parameter 'caller' needs a default", param->line);
    return false;
}

static bool declare_specials(struct resolver *resolver, struct tpl_macro_def *def)
{
    bool *const wanted[SPECIALS] = {&def->wants_caller, &def->wants_kwargs, &def->wants_varargs};
    struct tpl_ref *const refs[SPECIALS] = {&def->caller, &def->kwargs, &def->varargs};
    for (int i = 0; i < SPECIALS; i++)
        resolver->special_use[i] = UNSEEN;
    if (!visit_list(resolver, def->body, look_for_special))
        return false;
    for (int i = 0; i < SPECIALS; i++) {
        if (resolver->special_use[i] != READ)
            continue;
        bool declared = has_parameter(def, resolver->specials[i]);
        *wanted[i] = i == CALLER || !declared;
        if (declared)
            continue;
        const struct entry *entry = note_parameter(resolver, resolver->specials[i]);
        if (!entry)
            return false;
        *refs[i] = entry_ref(entry);
    }
    return !def->wants_caller || check_caller(resolver, def);
}

static bool resolve_macro(struct resolver *resolver, struct tpl_macro_def *def)
{
    struct scope scope, *outer = resolver->scope;
    open_scope(resolver, &scope);
    bool done =
        visit_list(resolver, def->params, visit_parameter) && declare_specials(resolver, def);
    done = done && visit_list(resolver, def->defaults, analyze) &&
           visit_list(resolver, def->body, analyze) && visit_list(resolver, def->params, resolve) &&
           resolve_body(resolver, def->defaults) && resolve_body(resolver, def->body);
    return close_scope(resolver, outer, &def->scope) && done;
}

static bool resolve_inner(struct resolver *resolver, struct tpl_node *filter, struct tpl_node *body,
                          bool filter_counts, struct tpl_scope *out)
{
    struct scope scope, *outer = resolver->scope;
    open_scope(resolver, &scope);
    bool done = visit_list(resolver, body, analyze) &&
                (!filter_counts || visit_one(resolver, filter, analyze)) &&
                resolve_body(resolver, filter) && resolve_body(resolver, body);
    return close_scope(resolver, outer, out) && done;
}

static bool resolve_with(struct resolver *resolver, struct tpl_node *node)
{
    struct scope scope, *outer = resolver->scope;
    if (!visit_list(resolver, node->as.with.values, resolve))
        return false;
    open_scope(resolver, &scope);
    bool done = visit_list(resolver, node->as.with.targets, visit_parameter) &&
                visit_list(resolver, node->as.with.body, analyze) &&
                visit_list(resolver, node->as.with.targets, resolve) &&
                resolve_body(resolver, node->as.with.body);
    return close_scope(resolver, outer, &node->as.with.scope) && done;
}

static bool resolve_softly(struct resolver *resolver, struct tpl_node *node)
{
    bool soft = resolver->soft;
    resolver->soft = true;
    bool done = descend(resolver, node, resolve);
    resolver->soft = soft;
    return done;
}

static bool check_known(struct resolver *resolver, const struct tpl_node *node)
{
    for (const struct tpl_postfix *step = node->as.postfix.first; step; step = step->next) {
        if ((step->kind != TPL_P_FILTER && step->kind != TPL_P_TEST) || step->as.apply.function)
            continue;
        resolver->code = error_set(
            resolver->err, HEARTH_E_TEMPLATE, "template line %u: no %s named '%.*s'", step->line,
            step->kind == TPL_P_FILTER ? "filter" : "test", TEXT_ARGS(step->as.apply.name));
        return false;
    }
    return true;
}

static bool resolve_scoped(struct resolver *resolver, struct tpl_node *node)
{
    switch (node->kind) {
    case TPL_N_FOR:
        return resolve_for(resolver, node);
    case TPL_N_MACRO:
        return set_ref(resolver, node->as.macro.target) &&
               resolve_macro(resolver, node->as.macro.def);
    case TPL_N_CALL:
        return visit_one(resolver, node->as.macro.call, resolve) &&
               resolve_macro(resolver, node->as.macro.def);
    case TPL_N_SET_BLOCK:
        return resolve(resolver, node->as.block.target) &&
               resolve_inner(resolver, node->as.block.filter, node->as.block.body, false,
                             &node->as.block.scope);
    case TPL_N_FILTER:
        return resolve_inner(resolver, node->as.block.filter, node->as.block.body, true,
                             &node->as.block.scope);
    case TPL_N_WITH:
        return resolve_with(resolver, node);
    default: /* TPL_N_BLOCK sees the template's frame and nothing between */
        if (resolver->scope->level > 0) {
            resolver->code = error_set(
                resolver->err, HEARTH_E_TEMPLATE,
                "template line %u: a block inside another frame is not supported", node->line);
            return false;
        }
        return resolve_inner(resolver, NULL, node->as.block.body, false, &node->as.block.scope);
    }
}

static bool resolve(struct resolver *resolver, struct tpl_node *node)
{
    switch (node->kind) {
    case TPL_N_NAME:
    case TPL_N_NSREF:
        return set_ref(resolver, node);
    case TPL_N_COND:
    case TPL_N_IF:
        return resolve_softly(resolver, node);
    case TPL_N_POSTFIX:
        return (resolver->soft || check_known(resolver, node)) && descend(resolver, node, resolve);
    case TPL_N_FOR:
    case TPL_N_MACRO:
    case TPL_N_CALL:
    case TPL_N_SET_BLOCK:
    case TPL_N_FILTER:
    case TPL_N_WITH:
    case TPL_N_BLOCK: {
        if (resolver->depth >= TPL_TREE_DEPTH_MAX)
            return descend(resolver, node, resolve);
        resolver->depth++;
        bool done = resolve_scoped(resolver, node);
        resolver->depth--;
        return done;
    }
    default:
        return descend(resolver, node, resolve);
    }
}

int tpl_resolve(struct chat_template *tpl, struct hearth_error *err)
{
    struct scope scope;
    struct resolver resolver = {.tpl = tpl, .err = err};
    resolver.tops = tpl_arena_alloc(&tpl->arena, tpl->name_count * sizeof(struct entry *) + 1);
    if (!resolver.tops) {
        out_of_memory(&resolver);
        return resolver.code;
    }
    resolver.loop = find_name(&resolver, "loop");
    resolver.specials[CALLER] = find_name(&resolver, "caller");
    resolver.specials[KWARGS] = find_name(&resolver, "kwargs");
    resolver.specials[VARARGS] = find_name(&resolver, "varargs");
    open_scope(&resolver, &scope);
    bool done = visit_list(&resolver, tpl->body, analyze) && resolve_body(&resolver, tpl->body);
    done = close_scope(&resolver, NULL, &tpl->scope) && done;
    return done ? 0 : resolver.code;
}
