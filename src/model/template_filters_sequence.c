/* Filters over sequences and mappings. map, select, reject, unique, batch, slice and items are
 * generators in jinja2: they do nothing, and raise nothing, until somebody draws from them. */
#include <string.h>

#include "model/template_run.h"

#define FILTER(name)                                                                               \
    static bool name(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)

/* ---- attributes by path ---- */

static bool all_digits(struct text text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
    }
    return text.size > 0;
}

static bool path_part(struct tpl_run *run, struct text part, struct tpl_value *out)
{
    int64_t number;
    bool overflow;
    if (all_digits(part) && tpl_parse_int(part, 10, &number, &overflow)) {
        *out = tpl_int(number);
        return true;
    }
    return tpl_make_string(run, part, out);
}

/* item.a.b for the attribute "a.b"; digits are positions. `fallback` (or TPL_MISSING) stands for
 * what is undefined on the way. */
static bool get_path(struct tpl_run *run, struct tpl_value item, struct tpl_value attribute,
                     struct tpl_value fallback, struct tpl_value *out)
{
    bool has_fallback = tpl_is_given(fallback) && fallback.kind != TPL_NONE;
    *out = item;
    if (!tpl_is_given(attribute) || attribute.kind == TPL_NONE)
        return true;
    if (!tpl_is_string(attribute))
        return tpl_getitem(run, item, attribute, out) &&
               (!has_fallback || out->kind != TPL_UNDEFINED || (*out = fallback, true));
    struct text rest = tpl_text(attribute);
    for (;;) {
        size_t dot = tpl_find(rest, TEXT("."), 0);
        struct text part = {rest.data, dot == SIZE_MAX ? rest.size : dot};
        struct tpl_value key, object = *out;
        if (!tpl_charge(run, TPL_NODE_STEPS) || !path_part(run, part, &key) ||
            !tpl_getitem(run, object, key, out))
            return false;
        if (has_fallback && out->kind == TPL_UNDEFINED)
            *out = fallback;
        if (dot == SIZE_MAX)
            return true;
        rest = (struct text){rest.data + dot + 1, rest.size - dot - 1};
    }
}

static bool ignore_case(struct tpl_run *run, struct tpl_value *value)
{
    struct tpl_value lower;
    if (!tpl_is_string(*value))
        return true;
    if (!tpl_map_case(run, *value, TPL_LOWER, &lower))
        return false;
    *value = lower;
    return true;
}

/* ---- order ---- */

/* One merge of the runs [from, middle) and [middle, to) of `order` into `spare`; equal keys keep
 * their order, also in a descending one. */
static bool merge_runs(struct tpl_run *run, const struct tpl_value *keys, bool descending,
                       const size_t *order, size_t *spare, const size_t bounds[3])
{
    size_t left = bounds[0], right = bounds[1];
    for (size_t at = bounds[0]; at < bounds[2]; at++) {
        bool take_right = left == bounds[1];
        if (!take_right && right < bounds[2]) {
            struct tpl_value a = keys[order[left]], b = keys[order[right]];
            if (!tpl_charge(run, TPL_NODE_STEPS) ||
                !tpl_less(run, descending ? a : b, descending ? b : a, &take_right))
                return false;
        }
        spare[at] = take_right ? order[right++] : order[left++];
    }
    return true;
}

bool tpl_sort_order(struct tpl_run *run, const struct tpl_value *keys, size_t count, bool reverse,
                    size_t *order)
{
    size_t *spare = tpl_alloc_array(run, count, sizeof *spare);
    if (!spare)
        return false;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t from = 0; from < count; from += 2 * width) {
            size_t middle = from + width < count ? from + width : count;
            size_t to = middle + width < count ? middle + width : count;
            const size_t bounds[3] = {from, middle, to};
            if (!merge_runs(run, keys, reverse, order, spare, bounds))
                return false;
        }
        memcpy(order, spare, count * sizeof *order);
    }
    return true;
}

/* `items` in the order of `keys`, as a list. */
static bool sorted_list(struct tpl_run *run, const struct tpl_vector *items,
                        const struct tpl_value *keys, bool reverse, struct tpl_value *out)
{
    size_t *order = tpl_alloc_array(run, items->count, sizeof *order);
    if (!order || !tpl_sort_order(run, keys, items->count, reverse, order) ||
        !tpl_make_list(run, TPL_LIST, items->count, out))
        return false;
    for (size_t i = 0; i < items->count; i++)
        out->as.list->items[i] = items->items[order[i]];
    return true;
}

/* The key of sort(attribute="a,b"): a list of the attributes' values. */
static bool multi_key(struct tpl_run *run, struct tpl_value item, struct tpl_value attribute,
                      bool case_sensitive, struct tpl_value *out)
{
    struct tpl_vector parts = {.items = NULL};
    struct text rest = tpl_is_string(attribute) ? tpl_text(attribute) : TEXT("");
    for (;;) {
        size_t comma = tpl_find(rest, TEXT(","), 0);
        struct tpl_value path = attribute, part;
        struct text name = {rest.data, comma == SIZE_MAX ? rest.size : comma};
        if (tpl_is_string(attribute) && !tpl_make_string(run, name, &path))
            return false;
        if (!get_path(run, item, path, tpl_missing(), &part) ||
            (!case_sensitive && !ignore_case(run, &part)) || !tpl_vector_add(run, &parts, part))
            return false;
        if (comma == SIZE_MAX)
            return tpl_vector_finish(run, &parts, TPL_LIST, out);
        rest = (struct text){rest.data + comma + 1, rest.size - comma - 1};
    }
}

/* sorted() wants an integer for `reverse`. */
static bool check_reverse(struct tpl_run *run, struct tpl_value reverse)
{
    int64_t ignored;
    return tpl_arg_int(run, reverse, 0, &ignored);
}

FILTER(filter_sort)
{
    struct tpl_value argv[4];
    struct tpl_vector items;
    if (!tpl_bind(run, args, "sort", "value reverse? case_sensitive? attribute?", argv) ||
        !check_reverse(run, argv[1]) || !tpl_collect(run, argv[0], &items))
        return false;
    struct tpl_value *keys = tpl_alloc_array(run, items.count, sizeof *keys);
    if (!keys)
        return false;
    for (size_t i = 0; i < items.count; i++) {
        if (!multi_key(run, items.items[i], argv[3], tpl_truth(argv[2]), &keys[i]))
            return false;
    }
    return sorted_list(run, &items, keys, tpl_truth(argv[1]), out);
}

FILTER(filter_dictsort)
{
    struct tpl_value argv[4], pairs;
    struct tpl_vector items;
    size_t by = 0;
    if (!tpl_bind(run, args, "dictsort", "value case_sensitive? by? reverse?", argv) ||
        !check_reverse(run, argv[3]))
        return false;
    if (tpl_is_given(argv[2])) {
        bool value = tpl_is_string(argv[2]) && text_equal(tpl_text(argv[2]), TEXT("value"));
        if (!value && !(tpl_is_string(argv[2]) && text_equal(tpl_text(argv[2]), TEXT("key"))))
            return tpl_raise(run, "dictsort sorts by \"key\" or by \"value\"");
        by = value;
    }
    if (argv[0].kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, argv[0]);
    if (argv[0].kind != TPL_DICT)
        return tpl_raise(run, "dictsort needs a dict, not '%s'", tpl_type_name(argv[0].kind));
    if (!tpl_make_dict_iterator(run, argv[0].as.dict, TPL_VIEW_ITEMS, &pairs) ||
        !tpl_collect(run, pairs, &items))
        return false;
    struct tpl_value *keys = tpl_alloc_array(run, items.count, sizeof *keys);
    if (!keys)
        return false;
    for (size_t i = 0; i < items.count; i++) {
        keys[i] = items.items[i].as.list->items[by];
        if (!tpl_truth(argv[1]) && !ignore_case(run, &keys[i]))
            return false;
    }
    return sorted_list(run, &items, keys, tpl_truth(argv[3]), out);
}

static bool least(struct tpl_run *run, const struct tpl_args *args, bool greatest,
                  struct tpl_value *out)
{
    struct tpl_value argv[3], best = tpl_missing(), key;
    struct tpl_vector items;
    if (!tpl_bind(run, args, "min", "value case_sensitive? attribute?", argv) ||
        !tpl_collect(run, argv[0], &items))
        return false;
    if (items.count == 0)
        return tpl_make_undefined_hint(run, "no aggregated item, the sequence was empty", out);
    for (size_t i = 0; i < items.count; i++) {
        bool better = !tpl_is_given(best);
        if (!get_path(run, items.items[i], argv[2], tpl_missing(), &key) ||
            (!tpl_truth(argv[1]) && !ignore_case(run, &key)))
            return false;
        if (!better && !tpl_less(run, greatest ? best : key, greatest ? key : best, &better))
            return false;
        if (better) {
            best = key;
            *out = items.items[i];
        }
    }
    return true;
}

FILTER(filter_min)
{
    return least(run, args, false, out);
}

FILTER(filter_max)
{
    return least(run, args, true, out);
}

static bool make_group(struct tpl_run *run, struct tpl_value grouper, struct tpl_value list,
                       struct tpl_vector *groups)
{
    struct tpl_value group;
    if (!tpl_make_pair(run, grouper, list, &group))
        return false;
    group.as.list->group = true;
    return tpl_vector_add(run, groups, group);
}

/* Consecutive items of the sorted list with equal keys become a group, called by the first one's
 * own key. */
FILTER(filter_groupby)
{
    struct tpl_value argv[4], sorted;
    struct tpl_vector items, groups = {.items = NULL};
    if (!tpl_bind(run, args, "groupby", "value attribute default? case_sensitive?", argv) ||
        !tpl_collect(run, argv[0], &items))
        return false;
    struct tpl_value *keys = tpl_alloc_array(run, items.count, sizeof *keys);
    size_t *order = tpl_alloc_array(run, items.count, sizeof *order);
    if (!keys || !order)
        return false;
    for (size_t i = 0; i < items.count; i++) {
        if (!get_path(run, items.items[i], argv[1], argv[2], &keys[i]) ||
            (!tpl_truth(argv[3]) && !ignore_case(run, &keys[i])))
            return false;
    }
    if (!tpl_sort_order(run, keys, items.count, false, order))
        return false;
    for (size_t from = 0, to; from < items.count; from = to) {
        bool equal = true;
        for (to = from + 1; to < items.count; to++) {
            if (!tpl_equal(run, keys[order[from]], keys[order[to]], &equal))
                return false;
            if (!equal)
                break;
        }
        struct tpl_value grouper;
        if (!tpl_make_list(run, TPL_LIST, to - from, &sorted))
            return false;
        for (size_t i = from; i < to; i++)
            sorted.as.list->items[i - from] = items.items[order[i]];
        if (!get_path(run, sorted.as.list->items[0], argv[1], argv[2], &grouper) ||
            !make_group(run, grouper, sorted, &groups))
            return false;
    }
    return tpl_vector_finish(run, &groups, TPL_LIST, out);
}

/* ---- generators ---- */

/* On the first call: nothing comes of a source that counts as false, and its arguments are not
 * even looked at. *go tells whether there may be items. */
static bool start(struct tpl_run *run, struct tpl_generator *generator, bool if_true, bool *go)
{
    *go = true;
    if (generator->iter)
        return true;
    if (if_true && !tpl_truth(generator->source)) {
        *go = false;
        return true;
    }
    return tpl_iterate(run, generator->source, &generator->iter);
}

static bool draw(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    bool more;
    if (!tpl_next(run, generator->iter, out, &more))
        return false;
    if (!more)
        *out = tpl_missing();
    return true;
}

/* Arguments for a filter or test that is called by its name: `skip` of ours are used up. */
static bool applied_args(struct tpl_run *run, const struct tpl_generator *generator, size_t skip,
                         struct tpl_value item, struct tpl_args *out)
{
    size_t count = generator->args.count - skip + 1;
    *out = generator->args;
    out->items = tpl_alloc_array(run, count, sizeof *out->items);
    out->count = count;
    if (!out->items)
        return false;
    out->items[0] = item;
    for (size_t i = 1; i < count; i++)
        out->items[i] = generator->args.items[skip + i - 1];
    return true;
}

static bool map_next(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    struct tpl_args args;
    bool go;
    *out = tpl_missing();
    if (!start(run, generator, true, &go))
        return false;
    if (!go)
        return true;
    if (!generator->attribute && generator->args.count == 0)
        return tpl_raise(run, "map needs a filter's name");
    if (generator->flag)
        return tpl_raise(run, "map has no such keyword argument");
    if (!draw(run, generator, out) || !tpl_is_given(*out))
        return run->code == 0;
    struct tpl_value item = *out;
    if (generator->attribute)
        return get_path(run, item, generator->state[0], generator->state[1], out);
    return applied_args(run, generator, 1, item, &args) &&
           tpl_call_named(run, true, generator->args.items[0], &args, out);
}

/* The arguments behind the subject. */
static struct tpl_args behind_subject(const struct tpl_args *args)
{
    struct tpl_args rest = *args;
    rest.items++;
    rest.count--;
    return rest;
}

FILTER(filter_map)
{
    struct tpl_generator generator = {.next = map_next, .source = args->items[0]};
    generator.args = behind_subject(args);
    for (size_t i = 0; generator.args.count == 0 && i < args->named_count; i++) {
        if (text_equal(tpl_text(args->named[i].key), TEXT("attribute")))
            generator.attribute = true;
    }
    for (size_t i = 0; generator.attribute && i < args->named_count; i++) {
        struct text name = tpl_text(args->named[i].key);
        if (text_equal(name, TEXT("attribute")))
            generator.state[0] = args->named[i].value;
        else if (text_equal(name, TEXT("default")))
            generator.state[1] = args->named[i].value;
        else
            generator.flag = true;
    }
    return tpl_make_generator(run, &generator, out);
}

/* state[0] is true for reject. */
static bool select_next(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    size_t skip = generator->attribute;
    bool go;
    *out = tpl_missing();
    if (!start(run, generator, true, &go))
        return false;
    if (go && generator->args.count < skip)
        return tpl_raise(run, "the attribute's name is missing");
    while (go) {
        struct tpl_value item, subject, verdict;
        struct tpl_args args;
        if (!draw(run, generator, &item))
            return false;
        if (!tpl_is_given(item))
            return true;
        subject = item;
        if (skip && !get_path(run, item, generator->args.items[0], tpl_missing(), &subject))
            return false;
        verdict = subject;
        if (generator->args.count > skip &&
            (!applied_args(run, generator, skip + 1, subject, &args) ||
             !tpl_call_named(run, false, generator->args.items[skip], &args, &verdict)))
            return false;
        if (tpl_truth(verdict) != generator->state[0].as.boolean) {
            *out = item;
            return true;
        }
    }
    return true;
}

static bool make_select(struct tpl_run *run, const struct tpl_args *args, bool attribute,
                        bool reject, struct tpl_value *out)
{
    struct tpl_generator generator = {
        .next = select_next, .source = args->items[0], .attribute = attribute};
    generator.args = behind_subject(args);
    generator.state[0] = tpl_bool(reject);
    return tpl_make_generator(run, &generator, out);
}

FILTER(filter_select)
{
    return make_select(run, args, false, false, out);
}

FILTER(filter_reject)
{
    return make_select(run, args, false, true, out);
}

FILTER(filter_selectattr)
{
    return make_select(run, args, true, false, out);
}

FILTER(filter_rejectattr)
{
    return make_select(run, args, true, true, out);
}

/* state: the attribute, and a dict of the keys seen; flag: case sensitive. */
static bool unique_next(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    bool go;
    if (!start(run, generator, false, &go))
        return false;
    for (;;) {
        struct tpl_value key, seen;
        bool hashable;
        if (!draw(run, generator, out))
            return false;
        if (!tpl_is_given(*out))
            return true;
        if (!get_path(run, *out, generator->state[0], tpl_missing(), &key) ||
            (!generator->flag && !ignore_case(run, &key)) ||
            !tpl_dict_get(run, generator->state[1].as.dict, key, &seen, &hashable))
            return false;
        if (!tpl_is_given(seen))
            return tpl_dict_set(run, generator->state[1].as.dict, key, tpl_bool(true));
    }
}

FILTER(filter_unique)
{
    struct tpl_value argv[3];
    if (!tpl_bind(run, args, "unique", "value case_sensitive? attribute?", argv))
        return false;
    struct tpl_generator generator = {
        .next = unique_next, .source = argv[0], .flag = tpl_truth(argv[1])};
    generator.state[0] = argv[2];
    return tpl_make_dict(run, TPL_DICT, 0, &generator.state[1]) &&
           tpl_make_generator(run, &generator, out);
}

/* state: the number per batch, and what fills the last. */
static bool batch_next(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    struct tpl_vector batch = {.items = NULL};
    struct tpl_value item, fill = generator->state[1];
    bool go, ended = false;
    /* a number that no count equals, also one that is none, makes one batch of all */
    int64_t size = tpl_is_integer(generator->state[0]) ? tpl_integer(generator->state[0]) : -1;
    *out = tpl_missing();
    if (!start(run, generator, false, &go))
        return false;
    while (!ended && (size <= 0 || (int64_t)batch.count < size)) {
        if (!draw(run, generator, &item) ||
            (tpl_is_given(item) && !tpl_vector_add(run, &batch, item)))
            return false;
        ended = !tpl_is_given(item);
    }
    if (batch.count == 0)
        return true;
    while (tpl_is_given(fill) && fill.kind != TPL_NONE && (int64_t)batch.count < size) {
        if (!tpl_vector_add(run, &batch, fill))
            return false;
    }
    return tpl_vector_finish(run, &batch, TPL_LIST, out);
}

FILTER(filter_batch)
{
    struct tpl_value argv[3];
    if (!tpl_bind(run, args, "batch", "value linecount fill_with?", argv))
        return false;
    struct tpl_generator generator = {.next = batch_next, .source = argv[0]};
    generator.state[0] = argv[1];
    generator.state[1] = argv[2];
    return tpl_make_generator(run, &generator, out);
}

/* state: the number of slices, and what fills the short ones; args holds the collected items and
 * named_count how many slices were given. */
static bool slice_next(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    struct tpl_value fill = generator->state[1];
    int64_t slices;
    *out = tpl_missing();
    if (!tpl_arg_int(run, generator->state[0], 0, &slices))
        return false;
    if (!generator->flag) {
        struct tpl_vector items;
        if (!tpl_collect(run, generator->source, &items))
            return false;
        generator->args = (struct tpl_args){.items = items.items, .count = items.count};
        generator->flag = true;
        if (slices == 0)
            return tpl_raise(run, "slice needs at least one slice");
    }
    int64_t number = (int64_t)generator->args.named_count;
    if (number >= slices)
        return true;
    generator->args.named_count++;
    int64_t count = (int64_t)generator->args.count, each = count / slices, extra = count % slices;
    int64_t from = number * each + (number < extra ? number : extra);
    int64_t to = from + each + (number < extra);
    bool filled = tpl_is_given(fill) && fill.kind != TPL_NONE && number >= extra;
    if (!tpl_make_list(run, TPL_LIST, (size_t)(to - from) + filled, out))
        return false;
    for (int64_t i = from; i < to; i++)
        out->as.list->items[i - from] = generator->args.items[i];
    if (filled)
        out->as.list->items[to - from] = fill;
    return true;
}

FILTER(filter_slice)
{
    struct tpl_value argv[3];
    if (!tpl_bind(run, args, "slice", "value slices fill_with?", argv))
        return false;
    struct tpl_generator generator = {.next = slice_next, .source = argv[0]};
    generator.state[0] = argv[1];
    generator.state[1] = argv[2];
    return tpl_make_generator(run, &generator, out);
}

static bool items_next(struct tpl_run *run, struct tpl_generator *generator, struct tpl_value *out)
{
    *out = tpl_missing();
    if (generator->source.kind == TPL_UNDEFINED)
        return true;
    if (generator->source.kind != TPL_DICT)
        return tpl_raise(run, "items needs a mapping, not '%s'",
                         tpl_type_name(generator->source.kind));
    if (!generator->iter) {
        struct tpl_value pairs;
        if (!tpl_make_dict_iterator(run, generator->source.as.dict, TPL_VIEW_ITEMS, &pairs))
            return false;
        generator->iter = pairs.as.iter;
    }
    return draw(run, generator, out);
}

FILTER(filter_items)
{
    struct tpl_generator generator = {.next = items_next};
    return tpl_bind(run, args, "items", "value", &generator.source) &&
           tpl_make_generator(run, &generator, out);
}

/* ---- one item, length, list ---- */

FILTER(filter_first)
{
    struct tpl_value value;
    struct tpl_iter *iter;
    bool more;
    if (!tpl_bind(run, args, "first", "seq", &value) || !tpl_iterate(run, value, &iter) ||
        !tpl_next(run, iter, out, &more))
        return false;
    return more || tpl_make_undefined_hint(run, "no first item, the sequence was empty", out);
}

FILTER(filter_last)
{
    struct tpl_value value;
    struct tpl_iter *iter;
    bool more;
    if (!tpl_bind(run, args, "last", "seq", &value) || !tpl_try_reverse(run, value, &iter))
        return false;
    if (!iter)
        return tpl_raise(run, "a '%s' has no last item", tpl_type_name(value.kind));
    if (!tpl_next(run, iter, out, &more))
        return false;
    return more || tpl_make_undefined_hint(run, "no last item, the sequence was empty", out);
}

FILTER(filter_length)
{
    struct tpl_value value;
    int64_t length;
    bool sized;
    if (!tpl_bind(run, args, "length", "/value", &value) ||
        !tpl_length(run, value, &length, &sized))
        return false;
    *out = tpl_int(length);
    return sized || tpl_raise(run, "a '%s' has no length", tpl_type_name(value.kind));
}

FILTER(filter_list)
{
    struct tpl_value value;
    struct tpl_vector items;
    return tpl_bind(run, args, "list", "value", &value) && tpl_collect(run, value, &items) &&
           tpl_vector_finish(run, &items, TPL_LIST, out);
}

FILTER(filter_reverse)
{
    const struct tpl_value whole[3] = {tpl_none(), tpl_none(), tpl_int(-1)};
    struct tpl_value value, list;
    struct tpl_vector items;
    struct tpl_iter *iter;
    if (!tpl_bind(run, args, "reverse", "value", &value))
        return false;
    if (tpl_is_string(value))
        return tpl_slice(run, value, whole, out);
    if (!tpl_try_reverse(run, value, &iter))
        return false;
    if (iter)
        return tpl_iterator_value(iter, out);
    return tpl_collect(run, value, &items) && tpl_vector_finish(run, &items, TPL_LIST, &list) &&
           tpl_slice(run, list, whole, out);
}

FILTER(filter_join)
{
    struct tpl_value argv[3], text;
    struct tpl_vector items, strings = {.items = NULL};
    if (!tpl_bind(run, args, "join", "value d? attribute?", argv) ||
        !tpl_collect(run, argv[0], &items))
        return false;
    if (tpl_is_given(argv[1]) ? !tpl_to_string(run, argv[1], &argv[1])
                              : !tpl_make_string(run, TEXT(""), &argv[1]))
        return false;
    for (size_t i = 0; i < items.count; i++) {
        struct tpl_value item;
        if (!get_path(run, items.items[i], argv[2], tpl_missing(), &item) ||
            !tpl_to_string(run, item, &text) || !tpl_vector_add(run, &strings, text))
            return false;
    }
    /* autoescape is off: the separator is plain */
    return tpl_make_string(run, tpl_text(argv[1]), &argv[1]) &&
           tpl_join(run, argv[1], &strings, out);
}

FILTER(filter_sum)
{
    struct tpl_value argv[3], item;
    struct tpl_vector items;
    if (!tpl_bind(run, args, "sum", "iterable attribute? start?", argv) ||
        !tpl_collect(run, argv[0], &items))
        return false;
    *out = tpl_is_given(argv[2]) ? argv[2] : tpl_int(0);
    if (tpl_is_string(*out))
        return tpl_raise(run, "sum() does not add strings");
    for (size_t i = 0; i < items.count; i++) {
        struct tpl_value total = *out;
        if (!get_path(run, items.items[i], argv[1], tpl_missing(), &item) ||
            !tpl_binary(run, TPL_O_ADD, total, item, out))
            return false;
    }
    return true;
}

FILTER(filter_default)
{
    struct tpl_value argv[3];
    if (!tpl_bind(run, args, "default", "value default_value? boolean?", argv))
        return false;
    bool replaced = argv[0].kind == TPL_UNDEFINED || (tpl_truth(argv[2]) && !tpl_truth(argv[0]));
    *out = replaced ? argv[1] : argv[0];
    return tpl_is_given(*out) || tpl_make_string(run, TEXT(""), out);
}

FILTER(filter_attr)
{
    struct tpl_value argv[2];
    struct text name;
    if (!tpl_bind(run, args, "attr", "obj name", argv) ||
        !tpl_arg_text(run, argv[1], "an attribute's name", &name) ||
        !tpl_attribute(run, argv[0], name, out))
        return false;
    return tpl_is_given(*out) || tpl_make_undefined(run, argv[0].kind, argv[1], false, out);
}

const struct tpl_function tpl_sequence_filters[] = {
    {"length", filter_length},
    {"count", filter_length},
    {"default", filter_default},
    {"d", filter_default},
    {"join", filter_join},
    {"items", filter_items},
    {"list", filter_list},
    {"first", filter_first},
    {"last", filter_last},
    {"map", filter_map},
    {"select", filter_select},
    {"reject", filter_reject},
    {"selectattr", filter_selectattr},
    {"rejectattr", filter_rejectattr},
    {"dictsort", filter_dictsort},
    {"sort", filter_sort},
    {"groupby", filter_groupby},
    {"unique", filter_unique},
    {"reverse", filter_reverse},
    {"min", filter_min},
    {"max", filter_max},
    {"sum", filter_sum},
    {"batch", filter_batch},
    {"slice", filter_slice},
    {"attr", filter_attr},
};
const size_t tpl_sequence_filter_count = sizeof tpl_sequence_filters / sizeof *tpl_sequence_filters;
