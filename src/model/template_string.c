/* Building strings: str(), repr(), escaping, and the searches that several files need. */
#include <string.h>

#include "base/utf8.h"
#include "model/template_run.h"

void tpl_builder_init(struct tpl_builder *builder, struct tpl_run *run)
{
    *builder = (struct tpl_builder){.run = run};
}

static char *reserve(struct tpl_builder *builder, size_t size)
{
    if (!builder->data || size > builder->capacity - builder->size) {
        size_t needed = builder->size + size, doubled = builder->capacity * 2 + 48;
        size_t capacity = needed > doubled ? needed : doubled;
        char *data = tpl_grow(builder->run, builder->data, builder->capacity, capacity);
        if (!data)
            return NULL;
        builder->data = data;
        builder->capacity = capacity;
    }
    return tpl_charge(builder->run, size) ? builder->data + builder->size : NULL;
}

bool tpl_add(struct tpl_builder *builder, struct text text)
{
    char *place = reserve(builder, text.size);
    if (!place)
        return false;
    if (text.size)
        memcpy(place, text.data, text.size);
    builder->size += text.size;
    return true;
}

bool tpl_add_char(struct tpl_builder *builder, char byte)
{
    return tpl_add(builder, (struct text){&byte, 1});
}

bool tpl_add_point(struct tpl_builder *builder, uint32_t code_point)
{
    char bytes[UTF8_MAX];
    return tpl_add(builder, (struct text){bytes, utf8_encode(code_point, bytes)});
}

bool tpl_add_repeat(struct tpl_builder *builder, struct text text, int64_t times)
{
    if (times <= 0 || text.size == 0)
        return true;
    if ((uint64_t)times > SIZE_MAX / 4 / text.size)
        return tpl_charge(builder->run, UINT64_MAX);
    size_t size = text.size * (size_t)times;
    char *place = reserve(builder, size);
    if (!place)
        return false;
    for (size_t at = 0; at < size; at += text.size)
        memcpy(place + at, text.data, text.size);
    builder->size += size;
    return true;
}

bool tpl_builder_finish(struct tpl_builder *builder, bool markup, struct tpl_value *out)
{
    const char *data = builder->data ? builder->data : "";
    if (!tpl_make_string(builder->run, (struct text){data, builder->size}, out))
        return false;
    out->as.string->markup = markup;
    return true;
}

/* ---- repr() ---- */

static bool add_code(struct tpl_builder *builder, uint32_t code_point)
{
    unsigned digits = code_point < 0x100 ? 2 : code_point < 0x10000 ? 4 : 8;
    char bytes[10] = {'\\', digits == 2 ? 'x' : digits == 4 ? 'u' : 'U'};
    for (unsigned i = 0; i < digits; i++)
        bytes[2 + i] = "0123456789abcdef"[code_point >> (4 * (digits - 1 - i)) & 15];
    return tpl_add(builder, (struct text){bytes, 2 + digits});
}

static bool add_quoted(struct tpl_builder *builder, struct text text)
{
    bool single = text.size && memchr(text.data, '\'', text.size);
    bool twofold = text.size && memchr(text.data, '"', text.size);
    char quote = single && !twofold ? '"' : '\'';
    bool done = tpl_add_char(builder, quote);
    for (size_t at = 0; done && at < text.size;) {
        uint32_t code_point;
        size_t length = tpl_decode(text, at, &code_point);
        if (code_point == (unsigned char)quote || code_point == '\\')
            done = tpl_add_char(builder, '\\') && tpl_add_char(builder, (char)code_point);
        else if (code_point == '\n' || code_point == '\r' || code_point == '\t')
            done = tpl_add_char(builder, '\\') && tpl_add_char(builder, code_point == '\n'   ? 'n'
                                                                        : code_point == '\r' ? 'r'
                                                                                             : 't');
        else if (!tpl_is_printable(code_point))
            done = add_code(builder, code_point);
        else
            done = tpl_add(builder, (struct text){text.data + at, length});
        at += length;
    }
    return done && tpl_add_char(builder, quote);
}

static bool add_list_repr(struct tpl_builder *builder, struct tpl_value value)
{
    struct tpl_list *list = value.as.list;
    bool tuple = value.kind == TPL_TUPLE;
    if (list->busy)
        return tpl_add(builder, tuple ? TEXT("(...)") : TEXT("[...]"));
    list->busy = true;
    bool done = tpl_add_char(builder, tuple ? '(' : '[');
    for (size_t i = 0; done && i < list->count; i++)
        done = (i == 0 || tpl_add(builder, TEXT(", "))) && tpl_add_repr(builder, list->items[i]);
    list->busy = false;
    if (done && tuple && list->count == 1)
        done = tpl_add_char(builder, ',');
    return done && tpl_add_char(builder, tuple ? ')' : ']');
}

static bool add_dict_repr(struct tpl_builder *builder, struct tpl_dict *dict)
{
    if (dict->busy)
        return tpl_add(builder, TEXT("{...}"));
    dict->busy = true;
    bool done = tpl_add_char(builder, '{');
    for (size_t i = 0; done && i < dict->count; i++)
        done = (i == 0 || tpl_add(builder, TEXT(", "))) &&
               tpl_add_repr(builder, dict->pairs[i].key) && tpl_add(builder, TEXT(": ")) &&
               tpl_add_repr(builder, dict->pairs[i].value);
    dict->busy = false;
    return done && tpl_add_char(builder, '}');
}

static bool add_view_item(struct tpl_builder *builder, const struct tpl_view *view, size_t i)
{
    const struct tpl_pair *pair = &view->dict->pairs[i];
    if (view->kind != TPL_VIEW_ITEMS)
        return tpl_add_repr(builder, view->kind == TPL_VIEW_KEYS ? pair->key : pair->value);
    return tpl_add_char(builder, '(') && tpl_add_repr(builder, pair->key) &&
           tpl_add(builder, TEXT(", ")) && tpl_add_repr(builder, pair->value) &&
           tpl_add_char(builder, ')');
}

static bool add_view_repr(struct tpl_builder *builder, const struct tpl_view *view)
{
    static const char *const names[] = {"dict_keys([", "dict_values([", "dict_items(["};
    bool done = tpl_add(builder, text_of(names[view->kind]));
    for (size_t i = 0; done && i < view->dict->count; i++)
        done = (i == 0 || tpl_add(builder, TEXT(", "))) && add_view_item(builder, view, i);
    return done && tpl_add(builder, TEXT("])"));
}

static bool add_number(struct tpl_builder *builder, struct tpl_value value)
{
    char number[TPL_NUMBER_MAX];
    size_t size = value.kind == TPL_FLOAT ? tpl_format_float(value.as.real, number)
                                          : tpl_format_int(value.as.integer, number);
    return tpl_add(builder, (struct text){number, size});
}

static bool add_range_repr(struct tpl_builder *builder, const struct tpl_range *range)
{
    return tpl_add(builder, TEXT("range(")) && add_number(builder, tpl_int(range->start)) &&
           tpl_add(builder, TEXT(", ")) && add_number(builder, tpl_int(range->stop)) &&
           (range->step == 1 ||
            (tpl_add(builder, TEXT(", ")) && add_number(builder, tpl_int(range->step)))) &&
           tpl_add_char(builder, ')');
}

static bool add_macro_repr(struct tpl_builder *builder, const struct tpl_macro *macro)
{
    if (!tpl_is_string(macro->def->name))
        return tpl_add(builder, TEXT("<Macro anonymous>"));
    return tpl_add(builder, TEXT("<Macro ")) && tpl_add_repr(builder, macro->def->name) &&
           tpl_add_char(builder, '>');
}

static bool add_repr_inside(struct tpl_builder *builder, struct tpl_value value)
{
    switch (value.kind) {
    case TPL_UNDEFINED:
    case TPL_MISSING:
        return tpl_add(builder, TEXT("Undefined"));
    case TPL_NONE:
        return tpl_add(builder, TEXT("None"));
    case TPL_BOOL:
        return tpl_add(builder, value.as.boolean ? TEXT("True") : TEXT("False"));
    case TPL_INT:
    case TPL_FLOAT:
        return add_number(builder, value);
    case TPL_STRING:
        if (!value.as.string->markup)
            return add_quoted(builder, tpl_text(value));
        return tpl_add(builder, TEXT("Markup(")) && add_quoted(builder, tpl_text(value)) &&
               tpl_add_char(builder, ')');
    case TPL_LIST:
    case TPL_TUPLE:
        return add_list_repr(builder, value);
    case TPL_DICT:
        return add_dict_repr(builder, value.as.dict);
    case TPL_NAMESPACE:
        return tpl_add(builder, TEXT("<Namespace ")) && add_dict_repr(builder, value.as.dict) &&
               tpl_add_char(builder, '>');
    case TPL_RANGE:
        return add_range_repr(builder, value.as.range);
    case TPL_VIEW:
        return add_view_repr(builder, value.as.view);
    case TPL_MACRO:
        return add_macro_repr(builder, value.as.macro);
    case TPL_LOOP:
        return tpl_add_loop_repr(builder, value.as.loop);
    default: /* Python prints an address */
        return tpl_add_char(builder, '<') && tpl_add(builder, text_of(tpl_type_name(value.kind))) &&
               tpl_add(builder, TEXT(" object>"));
    }
}

bool tpl_add_repr(struct tpl_builder *builder, struct tpl_value value)
{
    if (!tpl_charge(builder->run, TPL_NODE_STEPS) || !tpl_enter(builder->run))
        return false;
    bool done = add_repr_inside(builder, value);
    tpl_leave(builder->run);
    return done;
}

bool tpl_add_value(struct tpl_builder *builder, struct tpl_value value)
{
    if (value.kind == TPL_STRING)
        return tpl_add(builder, tpl_text(value));
    return value.kind == TPL_UNDEFINED || tpl_add_repr(builder, value);
}

bool tpl_to_string(struct tpl_run *run, struct tpl_value value, struct tpl_value *out)
{
    if (value.kind == TPL_STRING) {
        *out = value;
        return true;
    }
    struct tpl_builder builder;
    tpl_builder_init(&builder, run);
    return tpl_add_value(&builder, value) && tpl_builder_finish(&builder, false, out);
}

/* ---- escaping ---- */

bool tpl_add_escaped(struct tpl_builder *builder, struct text text)
{
    size_t from = 0;
    for (size_t at = 0; at < text.size; at++) {
        struct text code;
        switch (text.data[at]) {
        case '&':
            code = TEXT("&amp;");
            break;
        case '<':
            code = TEXT("&lt;");
            break;
        case '>':
            code = TEXT("&gt;");
            break;
        case '\'':
            code = TEXT("&#39;");
            break;
        case '"':
            code = TEXT("&#34;");
            break;
        default:
            continue;
        }
        if (!tpl_add(builder, (struct text){text.data + from, at - from}) ||
            !tpl_add(builder, code))
            return false;
        from = at + 1;
    }
    return tpl_add(builder, (struct text){text.data + from, text.size - from});
}

bool tpl_escape(struct tpl_run *run, struct tpl_value value, struct tpl_value *out)
{
    struct tpl_builder builder;
    if (tpl_is_string(value) && value.as.string->markup) {
        *out = value;
        return true;
    }
    tpl_builder_init(&builder, run);
    return tpl_to_string(run, value, &value) && tpl_add_escaped(&builder, tpl_text(value)) &&
           tpl_builder_finish(&builder, true, out);
}

/* ---- searching ---- */

#define HASHED_MIN 32 /* shorter parts are compared at every place */

/* Compares hashes of windows as long as the part (Rabin-Karp), so that a search is linear for long
 * parts of a repetitive text too. `step` is 1 for the first occurrence, -1 for the last. */
static size_t find_hashed(const unsigned char *text, size_t size, struct text part, int step)
{
    const uint64_t base = 0x9e3779b97f4a7c15u;
    const unsigned char *pattern = (const unsigned char *)part.data;
    uint64_t wanted = 0, window = 0, highest = 1;
    size_t m = part.size, at = step > 0 ? 0 : size - m;
    for (size_t i = 0; i < m; i++) {
        size_t k = step > 0 ? i : m - 1 - i;
        wanted = wanted * base + pattern[k] + 1;
        window = window * base + text[at + k] + 1;
        highest *= i ? base : 1;
    }
    for (;;) {
        if (window == wanted && memcmp(text + at, pattern, m) == 0)
            return at;
        if (step > 0 ? at + m == size : at == 0)
            return SIZE_MAX;
        unsigned char leaves = step > 0 ? text[at] : text[at + m - 1];
        unsigned char enters = step > 0 ? text[at + m] : text[at - 1];
        window = (window - (leaves + 1u) * highest) * base + enters + 1;
        at = step > 0 ? at + 1 : at - 1;
    }
}

size_t tpl_find(struct text text, struct text part, size_t from)
{
    if (from > text.size || text.size - from < part.size)
        return SIZE_MAX;
    if (part.size == 0)
        return from;
    if (part.size >= HASHED_MIN) {
        size_t at = find_hashed((const unsigned char *)text.data + from, text.size - from, part, 1);
        return at == SIZE_MAX ? at : from + at;
    }
    while (text.size - from >= part.size) {
        const char *first =
            memchr(text.data + from, part.data[0], text.size - from - part.size + 1);
        if (!first)
            break;
        if (memcmp(first, part.data, part.size) == 0)
            return (size_t)(first - text.data);
        from = (size_t)(first - text.data) + 1;
    }
    return SIZE_MAX;
}

size_t tpl_find_last(struct text text, struct text part)
{
    if (text.size < part.size)
        return SIZE_MAX;
    if (part.size >= HASHED_MIN)
        return find_hashed((const unsigned char *)text.data, text.size, part, -1);
    for (size_t at = text.size - part.size + 1; at-- > 0;) {
        if (part.size == 0 || memcmp(text.data + at, part.data, part.size) == 0)
            return at;
    }
    return SIZE_MAX;
}
