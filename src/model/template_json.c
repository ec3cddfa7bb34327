/* JSON in and out: the template's variables, and the filter tojson, which is Python's json.dumps.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/template_run.h"

/* ---- in ---- */

static bool from_array(struct tpl_run *run, const json_t *json, struct tpl_value *out)
{
    size_t count = json_array_size(json);
    if (!tpl_make_list(run, TPL_LIST, count, out))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!tpl_from_json(run, json_array_get(json, i), &out->as.list->items[i]))
            return false;
    }
    return true;
}

static bool from_object(struct tpl_run *run, const json_t *json, struct tpl_value *out)
{
    /* jansson's iterators want a json_t that is not const, and do not change it */
    json_t *object = (json_t *)(uintptr_t)json;
    struct tpl_value key, value;
    if (!tpl_make_dict(run, TPL_DICT, json_object_size(json), out))
        return false;
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
        struct text name = {json_object_iter_key(at), json_object_iter_key_len(at)};
        if (!tpl_make_string(run, name, &key) ||
            !tpl_from_json(run, json_object_iter_value(at), &value) ||
            !tpl_dict_set(run, out->as.dict, key, value))
            return false;
    }
    return true;
}

/* Strings keep pointing into the JSON, which lives as long as the run. */
bool tpl_from_json(struct tpl_run *run, const json_t *json, struct tpl_value *out)
{
    if (!tpl_charge(run, TPL_NODE_STEPS))
        return false;
    switch (json_typeof(json)) {
    case JSON_STRING:
        return tpl_make_string(
            run, (struct text){json_string_value(json), json_string_length(json)}, out);
    case JSON_INTEGER:
        *out = tpl_int(json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = tpl_float(json_real_value(json));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = tpl_bool(json_is_true(json));
        return true;
    case JSON_ARRAY:
    case JSON_OBJECT: {
        if (!tpl_enter(run))
            return false;
        bool done = json_is_array(json) ? from_array(run, json, out) : from_object(run, json, out);
        tpl_leave(run);
        return done;
    }
    default:
        *out = tpl_none();
        return true;
    }
}

/* ---- out ---- */

struct writer {
    struct tpl_builder builder;
    struct tpl_run *run;
    struct text item_separator, key_separator;
    struct text indent;
    bool pretty, ascii, sort_keys;
    unsigned level;
};

static bool add_escape(struct writer *writer, uint32_t code_point)
{
    char code[16];
    if (code_point >= 0x10000) {
        uint32_t rest = code_point - 0x10000;
        snprintf(code, sizeof code, "\\u%04x\\u%04x", 0xd800 + (rest >> 10),
                 0xdc00 + (rest & 0x3ff));
    } else {
        snprintf(code, sizeof code, "\\u%04x", code_point);
    }
    return tpl_add(&writer->builder, text_of(code));
}

static const char *short_escape(uint32_t code_point)
{
    switch (code_point) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\f':
        return "\\f";
    case '\b':
        return "\\b";
    default:
        return NULL;
    }
}

static bool write_string(struct writer *writer, struct text text)
{
    struct tpl_builder *builder = &writer->builder;
    size_t from = 0, length;
    if (!tpl_add_char(builder, '"'))
        return false;
    for (size_t at = 0; at < text.size; at += length) {
        uint32_t code_point = (unsigned char)text.data[at];
        length = 1;
        if (code_point >= 0x80) {
            if (!writer->ascii)
                continue;
            length = tpl_decode(text, at, &code_point);
        } else if (code_point >= 0x20 && code_point != '"' && code_point != '\\' &&
                   !(writer->ascii && code_point == 0x7f)) {
            continue;
        }
        const char *code = short_escape(code_point);
        if (!tpl_add(builder, (struct text){text.data + from, at - from}))
            return false;
        if (code ? !tpl_add(builder, text_of(code)) : !add_escape(writer, code_point))
            return false;
        from = at + length;
    }
    return tpl_add(builder, (struct text){text.data + from, text.size - from}) &&
           tpl_add_char(builder, '"');
}

static bool write_number(struct writer *writer, struct tpl_value value)
{
    char number[TPL_NUMBER_MAX];
    size_t size;
    if (value.kind == TPL_INT)
        size = tpl_format_int(value.as.integer, number);
    else if (isnan(value.as.real))
        return tpl_add(&writer->builder, TEXT("NaN"));
    else if (isinf(value.as.real))
        return tpl_add(&writer->builder, value.as.real < 0 ? TEXT("-Infinity") : TEXT("Infinity"));
    else
        size = tpl_format_float(value.as.real, number);
    return tpl_add(&writer->builder, (struct text){number, size});
}

static bool write_scalar(struct writer *writer, struct tpl_value value)
{
    switch (value.kind) {
    case TPL_NONE:
        return tpl_add(&writer->builder, TEXT("null"));
    case TPL_BOOL:
        return tpl_add(&writer->builder, value.as.boolean ? TEXT("true") : TEXT("false"));
    case TPL_INT:
    case TPL_FLOAT:
        return write_number(writer, value);
    case TPL_STRING:
        return write_string(writer, tpl_text(value));
    default:
        return tpl_raise(writer->run, "a '%s' object cannot be written as JSON",
                         tpl_type_name(value.kind));
    }
}

static bool write_value(struct writer *writer, struct tpl_value value);

static bool new_line(struct writer *writer)
{
    return !writer->pretty || (tpl_add_char(&writer->builder, '\n') &&
                               tpl_add_repeat(&writer->builder, writer->indent, writer->level));
}

static bool write_list(struct writer *writer, const struct tpl_list *list)
{
    if (list->count == 0)
        return tpl_add(&writer->builder, TEXT("[]"));
    bool done = tpl_add_char(&writer->builder, '[');
    writer->level++;
    for (size_t i = 0; done && i < list->count; i++)
        done = (i == 0 || tpl_add(&writer->builder, writer->item_separator)) && new_line(writer) &&
               write_value(writer, list->items[i]);
    writer->level--;
    return done && new_line(writer) && tpl_add_char(&writer->builder, ']');
}

/* Keys that are no strings are written as one. */
static bool write_key(struct writer *writer, struct tpl_value key)
{
    if (tpl_is_string(key))
        return write_string(writer, tpl_text(key));
    if (key.kind != TPL_NONE && key.kind != TPL_BOOL && key.kind != TPL_INT &&
        key.kind != TPL_FLOAT)
        return tpl_raise(writer->run, "a key of type '%s' cannot be written as JSON",
                         tpl_type_name(key.kind));
    return tpl_add_char(&writer->builder, '"') && write_scalar(writer, key) &&
           tpl_add_char(&writer->builder, '"');
}

static bool sorted_pairs(struct tpl_run *run, const struct tpl_dict *dict, struct tpl_pair **out)
{
    struct tpl_value *keys = tpl_alloc_array(run, dict->count, sizeof *keys);
    size_t *order = tpl_alloc_array(run, dict->count, sizeof *order);
    struct tpl_pair *pairs = tpl_alloc_array(run, dict->count, sizeof *pairs);
    if (!keys || !order || !pairs)
        return false;
    for (size_t i = 0; i < dict->count; i++)
        keys[i] = dict->pairs[i].key;
    if (!tpl_sort_order(run, keys, dict->count, false, order))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        pairs[i] = dict->pairs[order[i]];
    *out = pairs;
    return true;
}

static bool write_dict(struct writer *writer, const struct tpl_dict *dict)
{
    struct tpl_pair *pairs = dict->pairs;
    if (dict->count == 0)
        return tpl_add(&writer->builder, TEXT("{}"));
    if (writer->sort_keys && !sorted_pairs(writer->run, dict, &pairs))
        return false;
    bool done = tpl_add_char(&writer->builder, '{');
    writer->level++;
    for (size_t i = 0; done && i < dict->count; i++)
        done = (i == 0 || tpl_add(&writer->builder, writer->item_separator)) && new_line(writer) &&
               write_key(writer, pairs[i].key) &&
               tpl_add(&writer->builder, writer->key_separator) &&
               write_value(writer, pairs[i].value);
    writer->level--;
    return done && new_line(writer) && tpl_add_char(&writer->builder, '}');
}

static bool write_value(struct writer *writer, struct tpl_value value)
{
    if (!tpl_charge(writer->run, TPL_NODE_STEPS))
        return false;
    if (value.kind != TPL_LIST && value.kind != TPL_TUPLE && value.kind != TPL_DICT)
        return write_scalar(writer, value);
    if (!tpl_enter(writer->run))
        return false;
    bool done = value.kind == TPL_DICT ? write_dict(writer, value.as.dict)
                                       : write_list(writer, value.as.list);
    tpl_leave(writer->run);
    return done;
}

static bool set_indent(struct writer *writer, struct tpl_value indent)
{
    struct tpl_builder spaces;
    struct tpl_value text;
    if (!tpl_is_given(indent) || indent.kind == TPL_NONE)
        return true;
    writer->pretty = true;
    writer->item_separator = TEXT(",");
    if (tpl_is_string(indent)) {
        writer->indent = tpl_text(indent);
        return true;
    }
    if (!tpl_is_integer(indent))
        return tpl_raise(writer->run, "tojson's indent must be an integer or a string");
    tpl_builder_init(&spaces, writer->run);
    if (!tpl_add_repeat(&spaces, TEXT(" "), tpl_integer(indent)) ||
        !tpl_builder_finish(&spaces, false, &text))
        return false;
    writer->indent = tpl_text(text);
    return true;
}

static bool set_separators(struct writer *writer, struct tpl_value separators)
{
    struct tpl_vector two;
    if (!tpl_is_given(separators) || separators.kind == TPL_NONE)
        return true;
    if (!tpl_collect(writer->run, separators, &two))
        return false;
    if (two.count != 2)
        return tpl_raise(writer->run, "tojson's separators are two strings");
    return tpl_arg_text(writer->run, two.items[0], "a separator", &writer->item_separator) &&
           tpl_arg_text(writer->run, two.items[1], "a separator", &writer->key_separator);
}

bool tpl_filter_tojson(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)
{
    struct tpl_value argv[5];
    struct writer writer = {.run = run, .item_separator = TEXT(", "), .key_separator = TEXT(": ")};
    tpl_builder_init(&writer.builder, run);
    if (!tpl_bind(run, args, "tojson", "x ensure_ascii? indent? separators? sort_keys?", argv) ||
        !set_indent(&writer, argv[2]) || !set_separators(&writer, argv[3]))
        return false;
    writer.ascii = tpl_truth(argv[1]);
    writer.sort_keys = tpl_truth(argv[4]);
    return write_value(&writer, argv[0]) && tpl_builder_finish(&writer.builder, false, out);
}
