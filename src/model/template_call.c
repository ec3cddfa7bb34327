/* Calls: sorting arguments into parameters, macros, the global functions. */
#include <string.h>

#include "model/template_run.h"

/* ---- arguments ---- */

#define PARAMETERS_MAX 8

struct parameter {
    struct text name;
    bool optional, positional_only;
};

static size_t read_signature(const char *signature, struct parameter parameters[PARAMETERS_MAX])
{
    size_t count = 0;
    while (*signature) {
        struct parameter *parameter = &parameters[count++];
        *parameter = (struct parameter){.positional_only = *signature == '/'};
        signature += *signature == '/';
        size_t size = strcspn(signature, " ?");
        parameter->name = (struct text){signature, size};
        signature += size;
        parameter->optional = *signature == '?';
        signature += *signature == '?';
        signature += *signature == ' ';
    }
    return count;
}

static bool bind_named(struct tpl_run *run, const char *function, const struct tpl_pair *named,
                       const struct parameter *parameters, size_t count, struct tpl_value *argv)
{
    struct text name = tpl_text(named->key);
    for (size_t i = 0; i < count; i++) {
        if (parameters[i].positional_only || !text_equal(parameters[i].name, name))
            continue;
        if (tpl_is_given(argv[i]))
            return tpl_raise(run, "%s() got the argument '%.*s' twice", function, TEXT_ARGS(name));
        argv[i] = named->value;
        return true;
    }
    return tpl_raise(run, "%s() has no argument '%.*s'", function, TEXT_ARGS(name));
}

bool tpl_bind(struct tpl_run *run, const struct tpl_args *args, const char *function,
              const char *signature, struct tpl_value *argv)
{
    struct parameter parameters[PARAMETERS_MAX];
    size_t count = read_signature(signature, parameters);
    if (args->count > count)
        return tpl_raise(run, "%s() takes at most %zu arguments, not %zu", function, count,
                         args->count);
    for (size_t i = 0; i < count; i++)
        argv[i] = i < args->count ? args->items[i] : tpl_missing();
    for (size_t i = 0; i < args->named_count; i++) {
        if (!bind_named(run, function, &args->named[i], parameters, count, argv))
            return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!tpl_is_given(argv[i]) && !parameters[i].optional)
            return tpl_raise(run, "%s() lacks the argument '%.*s'", function,
                             TEXT_ARGS(parameters[i].name));
    }
    return true;
}

bool tpl_arg_int(struct tpl_run *run, struct tpl_value value, int64_t fallback, int64_t *out)
{
    if (!tpl_is_given(value)) {
        *out = fallback;
        return true;
    }
    if (!tpl_is_integer(value))
        return tpl_raise(run, "an argument must be an integer, not '%s'",
                         tpl_type_name(value.kind));
    *out = tpl_integer(value);
    return true;
}

bool tpl_arg_text(struct tpl_run *run, struct tpl_value value, const char *what, struct text *out)
{
    if (!tpl_is_string(value))
        return tpl_raise(run, "%s must be a string, not '%s'", what, tpl_type_name(value.kind));
    *out = tpl_text(value);
    return true;
}

/* ---- macros ---- */

static struct tpl_value *take_named(const struct tpl_args *args, bool *used, struct text name)
{
    for (size_t i = 0; i < args->named_count; i++) {
        if (!used[i] && text_equal(tpl_text(args->named[i].key), name)) {
            used[i] = true;
            return &args->named[i].value;
        }
    }
    return NULL;
}

static bool rest_as_kwargs(struct tpl_run *run, const struct tpl_args *args, const bool *used,
                           struct tpl_value *out)
{
    if (!tpl_make_dict(run, TPL_DICT, args->named_count, out))
        return false;
    for (size_t i = 0; i < args->named_count; i++) {
        if (!used[i] && !tpl_dict_set(run, out->as.dict, args->named[i].key, args->named[i].value))
            return false;
    }
    return true;
}

static bool check_rest(struct tpl_run *run, const struct tpl_macro_def *def,
                       const struct tpl_args *args, const bool *used)
{
    for (size_t i = 0; !def->wants_kwargs && i < args->named_count; i++) {
        if (!used[i])
            return tpl_raise(run, "a macro takes no keyword argument '%.*s'",
                             TEXT_ARGS(tpl_text(args->named[i].key)));
    }
    if (!def->wants_varargs && args->count > def->count)
        return tpl_raise(run, "a macro takes not more than %u arguments", def->count);
    return true;
}

/* Fills the special parameters of the frame that has just been entered. */
static bool fill_specials(struct tpl_run *run, const struct tpl_macro_def *def,
                          const struct tpl_args *args, bool *used, bool found_caller)
{
    if (def->wants_caller && !found_caller && !def->explicit_caller) {
        const struct tpl_value *caller = take_named(args, used, TEXT("caller"));
        struct tpl_value *slot = tpl_slot(run, def->caller);
        if (caller && caller->kind != TPL_NONE)
            *slot = *caller;
        else if (!tpl_make_undefined_hint(run, "no caller defined", slot))
            return false;
    }
    if (!check_rest(run, def, args, used))
        return false;
    if (def->wants_kwargs && !rest_as_kwargs(run, args, used, tpl_slot(run, def->kwargs)))
        return false;
    if (def->wants_varargs) {
        size_t extra = args->count > def->count ? args->count - def->count : 0;
        struct tpl_value *slot = tpl_slot(run, def->varargs);
        if (!tpl_make_list(run, TPL_TUPLE, extra, slot))
            return false;
        if (extra)
            memcpy(slot->as.list->items, args->items + def->count, extra * sizeof *args->items);
    }
    return true;
}

static bool fill_parameters(struct tpl_run *run, const struct tpl_macro_def *def,
                            const struct tpl_args *args)
{
    bool *used = tpl_alloc_array(run, args->named_count, sizeof *used);
    bool found_caller = args->count >= def->count && def->explicit_caller;
    uint32_t at = 0;
    if (!used)
        return false;
    for (const struct tpl_node *param = def->params; param; param = param->next, at++) {
        struct tpl_value *slot = tpl_slot(run, param->as.name.ref);
        const struct text name = run->tpl->names[param->as.name.ref.name];
        const struct tpl_value *named =
            at < args->count ? &args->items[at] : take_named(args, used, name);
        *slot = named ? *named : tpl_missing();
    }
    return fill_specials(run, def, args, used, found_caller);
}

/* Defaults are evaluated in the macro's frame, in order, each seeing the parameters before it. */
static bool fill_defaults(struct tpl_run *run, const struct tpl_macro_def *def)
{
    const struct tpl_node *value = def->defaults;
    uint32_t at = 0;
    for (const struct tpl_node *param = def->params; param; param = param->next, at++) {
        struct tpl_value *slot = tpl_slot(run, param->as.name.ref);
        const struct tpl_node *own = at >= def->count - def->default_count ? value : NULL;
        if (own)
            value = value->next;
        if (tpl_is_given(*slot))
            continue;
        struct tpl_value given;
        bool done =
            own ? tpl_eval(run, own, &given)
                : tpl_make_undefined_hint(run, "a macro's parameter was not provided", &given);
        if (!done)
            return false;
        *slot = given;
    }
    return true;
}

bool tpl_call_macro(struct tpl_run *run, struct tpl_macro *macro, const struct tpl_args *args,
                    struct tpl_value *out)
{
    struct tpl_frame *caller = run->frame;
    if (!tpl_enter(run))
        return false;
    run->frame = macro->frame;
    bool done = tpl_push_frame(run, &macro->def->scope) && fill_parameters(run, macro->def, args) &&
                fill_defaults(run, macro->def);
    if (done) {
        size_t mark = tpl_capture_begin(run);
        done = tpl_exec(run, macro->def->body) != TPL_FLOW_FAIL && tpl_capture_end(run, mark, out);
    }
    run->frame = caller;
    tpl_leave(run);
    return done;
}

/* ---- global functions ---- */

static bool global_range(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    const int64_t range_max = 100000; /* the sandbox's MAX_RANGE */
    struct tpl_value argv[3];
    int64_t first = 0, start = 0, stop = 0, step = 1;
    if (!tpl_bind(run, args, "range", "/start /stop? /step?", argv) ||
        !tpl_arg_int(run, argv[0], 0, &first) || !tpl_arg_int(run, argv[1], first, &stop) ||
        !tpl_arg_int(run, argv[2], 1, &step))
        return false;
    if (tpl_is_given(argv[1]))
        start = first;
    if (step == 0)
        return tpl_raise(run, "the step of a range cannot be zero");
    uint64_t distance = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 ? start < stop : start > stop)
        distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t count = distance / stride + (distance % stride != 0);
    if (count > (uint64_t)range_max)
        return tpl_raise(run, "a range has at most %lld items", (long long)range_max);
    struct tpl_range *range = tpl_alloc(run, sizeof *range);
    if (!range)
        return false;
    *range = (struct tpl_range){start, stop, step, (int64_t)count};
    *out = (struct tpl_value){.kind = TPL_RANGE, .as.range = range};
    return true;
}

/* What dict(…) and namespace(…) take: a mapping or pairs, then keywords. */
static bool fill_dict(struct tpl_run *run, const struct tpl_args *args, const char *function,
                      struct tpl_dict *dict)
{
    if (args->count > 1)
        return tpl_raise(run, "%s() takes at most one positional argument", function);
    if (args->count == 1 && args->items[0].kind == TPL_DICT) {
        const struct tpl_dict *from = args->items[0].as.dict;
        for (size_t i = 0; i < from->count; i++) {
            if (!tpl_dict_set(run, dict, from->pairs[i].key, from->pairs[i].value))
                return false;
        }
    } else if (args->count == 1) {
        struct tpl_vector pairs, pair;
        if (!tpl_collect(run, args->items[0], &pairs))
            return false;
        for (size_t i = 0; i < pairs.count; i++) {
            if (!tpl_collect(run, pairs.items[i], &pair))
                return false;
            if (pair.count != 2)
                return tpl_raise(run, "%s() needs pairs", function);
            if (!tpl_dict_set(run, dict, pair.items[0], pair.items[1]))
                return false;
        }
    }
    for (size_t i = 0; i < args->named_count; i++) {
        if (!tpl_dict_set(run, dict, args->named[i].key, args->named[i].value))
            return false;
    }
    return true;
}

static bool global_dict(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    return tpl_make_dict(run, TPL_DICT, args->named_count, out) &&
           fill_dict(run, args, "dict", out->as.dict);
}

static bool global_namespace(struct tpl_run *run, const struct tpl_args *args,
                             struct tpl_value *out)
{
    if (!tpl_make_dict(run, TPL_NAMESPACE, args->named_count, out) ||
        !fill_dict(run, args, "namespace", out->as.dict))
        return false;
    for (size_t i = 0; i < out->as.dict->count; i++) {
        struct tpl_value key = out->as.dict->pairs[i].key;
        if (tpl_is_string(key) && text_starts_with(tpl_text(key), TEXT("_")))
            return tpl_raise(run, "a namespace cannot have the attribute '%.*s'",
                             TEXT_ARGS(tpl_text(key)));
    }
    return true;
}

static bool global_cycler(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    struct tpl_value items;
    struct tpl_cycler *cycler = tpl_alloc(run, sizeof *cycler);
    if (!cycler)
        return false;
    if (args->named_count || args->count == 0)
        return tpl_raise(run, "cycler() needs at least one item");
    if (!tpl_make_list(run, TPL_TUPLE, args->count, &items))
        return false;
    memcpy(items.as.list->items, args->items, args->count * sizeof *args->items);
    cycler->items = items.as.list;
    *out = (struct tpl_value){.kind = TPL_CYCLER, .as.cycler = cycler};
    return true;
}

static bool global_joiner(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    struct tpl_value separator;
    struct tpl_joiner *joiner = tpl_alloc(run, sizeof *joiner);
    if (!joiner || !tpl_bind(run, args, "joiner", "sep?", &separator))
        return false;
    if (!tpl_is_given(separator) && !tpl_make_string(run, TEXT(", "), &separator))
        return false;
    joiner->separator = separator;
    *out = (struct tpl_value){.kind = TPL_JOINER, .as.joiner = joiner};
    return true;
}

static bool global_raise(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    struct tpl_value message;
    (void)out;
    if (!tpl_bind(run, args, "raise_exception", "message", &message) ||
        !tpl_to_string(run, message, &message))
        return false;
    return tpl_raise(run, "%.*s", TEXT_ARGS(tpl_text(message)));
}

static bool global_strftime(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    struct tpl_value format;
    struct text text;
    return tpl_bind(run, args, "strftime_now", "format", &format) &&
           tpl_arg_text(run, format, "strftime_now's format", &text) &&
           tpl_strftime(run, text, out);
}

static bool global_lipsum(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    (void)args;
    (void)out;
    return tpl_raise(run, "lipsum() is not supported");
}

const struct tpl_function *tpl_find_global(struct text name)
{
    static const struct tpl_function globals[] = {
        {"range", global_range},           {"dict", global_dict},
        {"namespace", global_namespace},   {"cycler", global_cycler},
        {"joiner", global_joiner},         {"raise_exception", global_raise},
        {"strftime_now", global_strftime}, {"lipsum", global_lipsum},
    };
    return tpl_find_in(globals, sizeof globals / sizeof *globals, name);
}

/* ---- calling a value ---- */

static bool call_joiner(struct tpl_run *run, struct tpl_joiner *joiner, struct tpl_value *out)
{
    if (joiner->used) {
        *out = joiner->separator;
        return true;
    }
    joiner->used = true;
    return tpl_make_string(run, TEXT(""), out);
}

bool tpl_call(struct tpl_run *run, struct tpl_value callee, const struct tpl_args *args,
              struct tpl_value *out)
{
    switch (callee.kind) {
    case TPL_MACRO:
        return tpl_call_macro(run, callee.as.macro, args, out);
    case TPL_FUNCTION:
        return callee.as.function->call(run, args, out);
    case TPL_METHOD:
        return callee.as.bound->method->call(run, callee.as.bound->self, args, out);
    case TPL_LOOP:
        return tpl_loop_call(run, callee.as.loop, args, out);
    case TPL_JOINER:
        if (args->count || args->named_count)
            return tpl_raise(run, "a joiner takes no arguments");
        return call_joiner(run, callee.as.joiner, out);
    case TPL_UNDEFINED:
        return tpl_raise_undefined(run, callee);
    default:
        return tpl_raise(run, "a '%s' object cannot be called", tpl_type_name(callee.kind));
    }
}

const struct tpl_function *tpl_find_in(const struct tpl_function *table, size_t count,
                                       struct text name)
{
    for (size_t i = 0; i < count; i++) {
        if (text_equal(name, text_of(table[i].name)))
            return &table[i];
    }
    return NULL;
}

const struct tpl_function *tpl_find_filter(struct text name)
{
    const struct tpl_function *found = tpl_find_in(tpl_text_filters, tpl_text_filter_count, name);
    if (!found)
        found = tpl_find_in(tpl_sequence_filters, tpl_sequence_filter_count, name);
    return found ? found : tpl_find_in(tpl_number_filters, tpl_number_filter_count, name);
}

bool tpl_call_named(struct tpl_run *run, bool filter, struct tpl_value name,
                    const struct tpl_args *args, struct tpl_value *out)
{
    if (name.kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, name);
    const struct tpl_function *function = NULL;
    if (tpl_is_string(name))
        function = filter ? tpl_find_filter(tpl_text(name)) : tpl_find_test(tpl_text(name));
    if (!function)
        return tpl_raise(run, "no %s has this name", filter ? "filter" : "test");
    if (!tpl_charge(run, TPL_NODE_STEPS) || !tpl_enter(run))
        return false;
    bool done = function->call(run, args, out);
    tpl_leave(run);
    return done;
}
