/* Iterators. As in Python they have state and run once: what map, select and the like give can be
 * looped over only once and has no length. */
#include <string.h>

#include "model/template_run.h"

enum iter_kind { ITER_EMPTY, ITER_LIST, ITER_STRING, ITER_RANGE, ITER_DICT, ITER_GENERATOR };

struct tpl_iter {
    enum iter_kind kind;
    bool reverse;
    enum tpl_view_kind view;
    struct tpl_value source;
    size_t at; /* items already given; for a string the byte offset */
    struct tpl_generator generator;
};

static struct tpl_iter *make(struct tpl_run *run, enum iter_kind kind, struct tpl_value source)
{
    struct tpl_iter *iter = tpl_alloc(run, sizeof *iter);
    if (iter)
        *iter = (struct tpl_iter){.kind = kind, .source = source};
    return iter;
}

bool tpl_is_iterable(struct tpl_value value)
{
    switch (value.kind) {
    case TPL_UNDEFINED:
    case TPL_STRING:
    case TPL_LIST:
    case TPL_TUPLE:
    case TPL_DICT:
    case TPL_RANGE:
    case TPL_VIEW:
    case TPL_ITERATOR:
        return true;
    default:
        return false;
    }
}

static enum iter_kind kind_of(struct tpl_value value)
{
    switch (value.kind) {
    case TPL_STRING:
        return ITER_STRING;
    case TPL_LIST:
    case TPL_TUPLE:
        return ITER_LIST;
    case TPL_DICT:
    case TPL_VIEW:
        return ITER_DICT;
    case TPL_RANGE:
        return ITER_RANGE;
    default:
        return ITER_EMPTY;
    }
}

bool tpl_try_iterate(struct tpl_run *run, struct tpl_value value, struct tpl_iter **out)
{
    *out = NULL;
    if (!tpl_is_iterable(value))
        return true;
    if (value.kind == TPL_ITERATOR) {
        *out = value.as.iter;
        return true;
    }
    *out = make(run, kind_of(value), value);
    if (*out && value.kind == TPL_VIEW) {
        (*out)->view = value.as.view->kind;
        (*out)->source = (struct tpl_value){.kind = TPL_DICT, .as.dict = value.as.view->dict};
    }
    return *out != NULL;
}

bool tpl_iterate(struct tpl_run *run, struct tpl_value value, struct tpl_iter **out)
{
    if (!tpl_try_iterate(run, value, out))
        return false;
    return *out || tpl_raise(run, "a '%s' object is not iterable", tpl_type_name(value.kind));
}

bool tpl_try_reverse(struct tpl_run *run, struct tpl_value value, struct tpl_iter **out)
{
    *out = NULL;
    if (value.kind == TPL_ITERATOR)
        return true;
    if (!tpl_try_iterate(run, value, out))
        return false;
    if (*out) {
        (*out)->reverse = true;
        if (value.kind == TPL_STRING)
            (*out)->at = value.as.string->size;
    }
    return true;
}

bool tpl_iterator_value(struct tpl_iter *iter, struct tpl_value *out)
{
    *out = (struct tpl_value){.kind = TPL_ITERATOR, .as.iter = iter};
    return true;
}

bool tpl_make_generator(struct tpl_run *run, const struct tpl_generator *generator,
                        struct tpl_value *out)
{
    struct tpl_iter *iter = make(run, ITER_GENERATOR, tpl_none());
    if (!iter)
        return false;
    iter->generator = *generator;
    return tpl_iterator_value(iter, out);
}

bool tpl_make_dict_iterator(struct tpl_run *run, struct tpl_dict *dict, enum tpl_view_kind kind,
                            struct tpl_value *out)
{
    struct tpl_iter *iter =
        make(run, ITER_DICT, (struct tpl_value){.kind = TPL_DICT, .as.dict = dict});
    if (!iter)
        return false;
    iter->view = kind;
    return tpl_iterator_value(iter, out);
}

static bool next_character(struct tpl_run *run, struct tpl_iter *iter, struct tpl_value *out,
                           bool *more)
{
    const struct tpl_string *string = iter->source.as.string;
    size_t from = iter->at, to = iter->at;
    *more = iter->reverse ? from > 0 : from < string->size;
    if (!*more)
        return true;
    if (iter->reverse) {
        do
            from--;
        while (from > 0 && ((unsigned char)string->data[from] & 0xc0) == 0x80);
        iter->at = from;
    } else {
        uint32_t code_point;
        to += tpl_decode(tpl_text(iter->source), from, &code_point);
        iter->at = to;
    }
    /* the characters of a Markup are plain */
    return tpl_make_string(run, (struct text){string->data + from, to - from}, out);
}

static bool next_pair(struct tpl_run *run, struct tpl_iter *iter, struct tpl_value *out, bool *more)
{
    const struct tpl_dict *dict = iter->source.as.dict;
    *more = iter->at < dict->count;
    if (!*more)
        return true;
    size_t at = iter->reverse ? dict->count - 1 - iter->at : iter->at;
    iter->at++;
    if (iter->view == TPL_VIEW_ITEMS)
        return tpl_make_pair(run, dict->pairs[at].key, dict->pairs[at].value, out);
    *out = iter->view == TPL_VIEW_KEYS ? dict->pairs[at].key : dict->pairs[at].value;
    return true;
}

static bool next_inside(struct tpl_run *run, struct tpl_iter *iter, struct tpl_value *out,
                        bool *more)
{
    switch (iter->kind) {
    case ITER_LIST: {
        const struct tpl_list *list = iter->source.as.list;
        *more = iter->at < list->count;
        if (*more)
            *out = list->items[iter->reverse ? list->count - 1 - iter->at : iter->at];
        iter->at += *more;
        return true;
    }
    case ITER_STRING:
        return next_character(run, iter, out, more);
    case ITER_RANGE: {
        const struct tpl_range *range = iter->source.as.range;
        *more = iter->at < (uint64_t)range->count;
        int64_t at = iter->reverse ? range->count - 1 - (int64_t)iter->at : (int64_t)iter->at;
        if (*more)
            *out = tpl_int(range->start + at * range->step);
        iter->at += *more;
        return true;
    }
    case ITER_DICT:
        return next_pair(run, iter, out, more);
    case ITER_GENERATOR:
        if (!iter->generator.next(run, &iter->generator, out))
            return false;
        *more = tpl_is_given(*out);
        if (!*more)
            iter->kind = ITER_EMPTY;
        return true;
    default:
        *more = false;
        return true;
    }
}

bool tpl_next(struct tpl_run *run, struct tpl_iter *iter, struct tpl_value *out, bool *more)
{
    if (!tpl_charge(run, TPL_NODE_STEPS) || !tpl_enter(run))
        return false;
    bool done = next_inside(run, iter, out, more);
    tpl_leave(run);
    return done;
}

bool tpl_collect(struct tpl_run *run, struct tpl_value value, struct tpl_vector *out)
{
    struct tpl_iter *iter;
    struct tpl_value item;
    bool more = true;
    *out = (struct tpl_vector){.items = NULL};
    if (!tpl_iterate(run, value, &iter))
        return false;
    if (iter->kind == ITER_LIST && iter->at == 0 && !iter->reverse) {
        const struct tpl_list *list = iter->source.as.list;
        *out = (struct tpl_vector){list->items, list->count, list->count};
        iter->at = list->count;
        return true;
    }
    for (;;) {
        if (!tpl_next(run, iter, &item, &more))
            return false;
        if (!more)
            return true;
        if (!tpl_vector_add(run, out, item))
            return false;
    }
}
