/* Filters that give text. */
#include <string.h>

#include "model/template_run.h"

#define FILTER(name)                                                                               \
    static bool name(struct tpl_run *run, const struct tpl_args *args, struct tpl_value *out)

/* Binds the arguments and turns the first one into a string that may be a Markup. */
static bool bind_text(struct tpl_run *run, const struct tpl_args *args, const char *function,
                      const char *signature, struct tpl_value *argv)
{
    return tpl_bind(run, args, function, signature, argv) && tpl_to_string(run, argv[0], &argv[0]);
}

FILTER(filter_upper)
{
    struct tpl_value value;
    return bind_text(run, args, "upper", "s", &value) && tpl_map_case(run, value, TPL_UPPER, out);
}

FILTER(filter_lower)
{
    struct tpl_value value;
    return bind_text(run, args, "lower", "s", &value) && tpl_map_case(run, value, TPL_LOWER, out);
}

FILTER(filter_capitalize)
{
    struct tpl_value value;
    return bind_text(run, args, "capitalize", "s", &value) && tpl_capitalize(run, value, out);
}

/* Words begin behind white space and - ( { [ <, other than in str.title(). */
FILTER(filter_title)
{
    struct tpl_value value;
    struct tpl_builder builder;
    bool starts = true;
    if (!bind_text(run, args, "title", "s", &value))
        return false;
    struct text text = tpl_text(value);
    tpl_builder_init(&builder, run);
    for (size_t at = 0; at < text.size;) {
        uint32_t code_point;
        size_t length = tpl_decode(text, at, &code_point);
        if (!tpl_add_case(&builder, text, at, starts ? TPL_UPPER : TPL_LOWER))
            return false;
        starts = tpl_is_space(code_point) ||
                 (code_point < 0x80 && code_point > 0 && strchr("-({[<", (int)code_point) != NULL);
        at += length;
    }
    return tpl_builder_finish(&builder, false, out);
}

FILTER(filter_trim)
{
    struct tpl_value argv[2];
    return bind_text(run, args, "trim", "value chars?", argv) &&
           tpl_strip(run, argv[0], argv[1], true, true, out);
}

FILTER(filter_center)
{
    struct tpl_value argv[2];
    int64_t width;
    return bind_text(run, args, "center", "value width?", argv) &&
           tpl_arg_int(run, argv[1], 80, &width) &&
           tpl_pad(run, argv[0], width, TEXT(" "), '^', out);
}

/* A plain string with the same bytes. */
static bool plain(struct tpl_run *run, struct tpl_value value, struct tpl_value *out)
{
    if (!tpl_to_string(run, value, out))
        return false;
    return !out->as.string->markup || tpl_make_string(run, tpl_text(*out), out);
}

FILTER(filter_replace)
{
    struct tpl_value argv[4];
    int64_t count = -1;
    if (!tpl_bind(run, args, "replace", "s old new count?", argv))
        return false;
    if (argv[3].kind != TPL_NONE && !tpl_arg_int(run, argv[3], -1, &count))
        return false;
    return plain(run, argv[0], &argv[0]) && tpl_to_string(run, argv[1], &argv[1]) &&
           tpl_to_string(run, argv[2], &argv[2]) &&
           tpl_replace(run, argv[0], argv[1], argv[2], count < 0 ? -1 : count, out);
}

FILTER(filter_string)
{
    return bind_text(run, args, "string", "value", out);
}

FILTER(filter_safe)
{
    struct tpl_value value;
    if (!bind_text(run, args, "safe", "value", &value) ||
        !tpl_make_string(run, tpl_text(value), out))
        return false;
    out->as.string->points = value.as.string->points;
    out->as.string->markup = true;
    return true;
}

FILTER(filter_escape)
{
    struct tpl_value value;
    return tpl_bind(run, args, "escape", "value", &value) && tpl_escape(run, value, out);
}

FILTER(filter_forceescape)
{
    struct tpl_value value;
    return tpl_bind(run, args, "forceescape", "value", &value) && plain(run, value, &value) &&
           tpl_escape(run, value, out);
}

FILTER(filter_format)
{
    struct tpl_value format, values;
    if (args->count == 0)
        return tpl_raise(run, "format needs a string");
    if (args->count > 1 && args->named_count)
        return tpl_raise(run, "format takes positional or keyword arguments, not both");
    if (!tpl_to_string(run, args->items[0], &format))
        return false;
    if (args->named_count) {
        if (!tpl_make_dict(run, TPL_DICT, args->named_count, &values))
            return false;
        for (size_t i = 0; i < args->named_count; i++) {
            if (!tpl_dict_set(run, values.as.dict, args->named[i].key, args->named[i].value))
                return false;
        }
    } else {
        if (!tpl_make_list(run, TPL_TUPLE, args->count - 1, &values))
            return false;
        for (size_t i = 1; i < args->count; i++)
            values.as.list->items[i - 1] = args->items[i];
    }
    return tpl_format_percent(run, format, values, out);
}

static bool indentation(struct tpl_run *run, struct tpl_value width, struct text *out)
{
    struct tpl_builder builder;
    struct tpl_value spaces;
    int64_t count;
    if (tpl_is_string(width)) {
        *out = tpl_text(width);
        return true;
    }
    tpl_builder_init(&builder, run);
    if (!tpl_arg_int(run, width, 4, &count) || !tpl_add_repeat(&builder, TEXT(" "), count) ||
        !tpl_builder_finish(&builder, false, &spaces))
        return false;
    *out = tpl_text(spaces);
    return true;
}

FILTER(filter_indent)
{
    struct tpl_value argv[4];
    struct tpl_vector lines;
    struct tpl_builder builder;
    struct text indent;
    if (!tpl_bind(run, args, "indent", "s width? first? blank?", argv))
        return false;
    if (argv[0].kind == TPL_UNDEFINED)
        return tpl_raise_undefined(run, argv[0]);
    if (!tpl_is_string(argv[0]))
        return tpl_raise(run, "indent needs a string, not '%s'", tpl_type_name(argv[0].kind));
    if (!indentation(run, argv[1], &indent) || !tpl_split_lines(run, argv[0], false, &lines))
        return false;
    /* jinja2 appends a line end before it splits, so that a last one gives an empty line */
    struct text text = tpl_text(argv[0]);
    bool ended = text.size && (text.data[text.size - 1] == '\n' || lines.count == 0);
    uint32_t last = 0;
    for (size_t at = text.size; at > 0 && text.size - at < 4; at--) {
        if (((unsigned char)text.data[at - 1] & 0xc0) != 0x80) {
            tpl_decode(text, at - 1, &last);
            break;
        }
    }
    /* "\r" and the appended "\n" are one line end */
    ended = (ended || tpl_is_line_end(last)) && last != '\r';
    size_t count = lines.count + (ended || lines.count == 0);
    tpl_builder_init(&builder, run);
    for (size_t i = 0; i < count; i++) {
        struct text line = i < lines.count ? tpl_text(lines.items[i]) : TEXT("");
        bool indented = i == 0 ? tpl_truth(argv[2]) : line.size || tpl_truth(argv[3]);
        if ((i > 0 && !tpl_add_char(&builder, '\n')) || (indented && !tpl_add(&builder, indent)) ||
            !tpl_add(&builder, line))
            return false;
    }
    return tpl_builder_finish(&builder, argv[0].as.string->markup, out);
}

FILTER(filter_truncate)
{
    struct tpl_value argv[5];
    int64_t length, leeway = 5;
    struct text end = TEXT("...");
    size_t end_points = 3;
    if (!tpl_bind(run, args, "truncate", "s length? killwords? end? leeway?", argv) ||
        !tpl_arg_int(run, argv[1], 255, &length) ||
        (argv[4].kind != TPL_NONE && !tpl_arg_int(run, argv[4], 5, &leeway)))
        return false;
    if (tpl_is_given(argv[3])) {
        if (!tpl_arg_text(run, argv[3], "truncate's end", &end))
            return false;
        end_points = tpl_string_points(run, argv[3].as.string);
    }
    if (length < (int64_t)end_points || leeway < 0)
        return tpl_raise(run, "truncate needs a length of at least %zu", end_points);
    if (!tpl_is_string(argv[0])) {
        int64_t count = 0;
        bool sized;
        if (!tpl_length(run, argv[0], &count, &sized))
            return false;
        *out = argv[0]; /* what is short enough is let through, whatever it is */
        return (sized && count - leeway <= length) || tpl_raise(run, "truncate needs a string");
    }
    struct tpl_string *string = argv[0].as.string;
    if ((int64_t)tpl_string_points(run, string) - leeway <= length) {
        *out = argv[0];
        return true;
    }
    struct text kept = {string->data, tpl_string_offset(run, string, (size_t)length - end_points)};
    size_t space = tpl_truth(argv[2]) ? SIZE_MAX : tpl_find_last(kept, TEXT(" "));
    kept.size = space == SIZE_MAX ? kept.size : space;
    struct tpl_builder builder;
    tpl_builder_init(&builder, run);
    return tpl_add(&builder, kept) && tpl_add(&builder, end) &&
           tpl_builder_finish(&builder, string->markup, out);
}

FILTER(filter_wordcount)
{
    struct tpl_value value;
    int64_t words = 0;
    bool inside = false;
    if (!bind_text(run, args, "wordcount", "s", &value))
        return false;
    struct text text = tpl_text(value);
    for (size_t at = 0; at < text.size;) {
        uint32_t code_point;
        at += tpl_decode(text, at, &code_point);
        bool word = tpl_is_word(code_point);
        words += word && !inside;
        inside = word;
    }
    *out = tpl_int(words);
    return tpl_charge(run, text.size);
}

/* ---- urlencode, xmlattr ---- */

static bool add_url(struct tpl_builder *builder, struct tpl_value value, bool query)
{
    struct tpl_value string;
    if (!tpl_to_string(builder->run, value, &string))
        return false;
    struct text text = tpl_text(string);
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        bool kept = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
                    (byte >= 'A' && byte <= 'Z') || byte == '_' || byte == '.' || byte == '-' ||
                    byte == '~' || (byte == '/' && !query);
        char code[3] = {'%', "0123456789ABCDEF"[byte >> 4], "0123456789ABCDEF"[byte & 15]};
        bool done = kept                   ? tpl_add_char(builder, (char)byte)
                    : query && byte == ' ' ? tpl_add_char(builder, '+')
                                           : tpl_add(builder, (struct text){code, 3});
        if (!done)
            return false;
    }
    return true;
}

FILTER(filter_urlencode)
{
    struct tpl_value value;
    struct tpl_builder builder;
    struct tpl_vector pairs, pair;
    tpl_builder_init(&builder, run);
    if (!tpl_bind(run, args, "urlencode", "value", &value))
        return false;
    if (tpl_is_string(value) || !tpl_is_iterable(value))
        return add_url(&builder, value, false) && tpl_builder_finish(&builder, false, out);
    if (value.kind == TPL_DICT &&
        !tpl_make_dict_iterator(run, value.as.dict, TPL_VIEW_ITEMS, &value))
        return false;
    if (!tpl_collect(run, value, &pairs))
        return false;
    for (size_t i = 0; i < pairs.count; i++) {
        if (!tpl_collect(run, pairs.items[i], &pair))
            return false;
        if (pair.count != 2)
            return tpl_raise(run, "urlencode needs pairs");
        if ((i > 0 && !tpl_add_char(&builder, '&')) || !add_url(&builder, pair.items[0], true) ||
            !tpl_add_char(&builder, '=') || !add_url(&builder, pair.items[1], true))
            return false;
    }
    return tpl_builder_finish(&builder, false, out);
}

static bool add_attribute(struct tpl_builder *builder, struct tpl_pair pair)
{
    struct tpl_value key, value;
    if (!tpl_is_string(pair.key))
        return tpl_raise(builder->run, "xmlattr needs strings as keys");
    struct text name = tpl_text(pair.key);
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] && strchr(" \t\n\r\f\v/>=", name.data[i]))
            return tpl_raise(builder->run, "xmlattr: '%.*s' is no attribute's name",
                             TEXT_ARGS(name));
    }
    return tpl_escape(builder->run, pair.key, &key) &&
           tpl_escape(builder->run, pair.value, &value) && tpl_add(builder, tpl_text(key)) &&
           tpl_add(builder, TEXT("=\"")) && tpl_add(builder, tpl_text(value)) &&
           tpl_add_char(builder, '"');
}

FILTER(filter_xmlattr)
{
    struct tpl_value argv[2];
    struct tpl_builder builder;
    if (!tpl_bind(run, args, "xmlattr", "d autospace?", argv))
        return false;
    if (argv[0].kind != TPL_DICT)
        return tpl_raise(run, "xmlattr needs a dict");
    bool space = !tpl_is_given(argv[1]) || tpl_truth(argv[1]);
    tpl_builder_init(&builder, run);
    const struct tpl_dict *dict = argv[0].as.dict;
    for (size_t i = 0; i < dict->count; i++) {
        enum tpl_kind kind = dict->pairs[i].value.kind;
        if (kind == TPL_NONE || kind == TPL_UNDEFINED)
            continue;
        if ((space || builder.size) && !tpl_add_char(&builder, ' '))
            return false;
        if (!add_attribute(&builder, dict->pairs[i]))
            return false;
    }
    return tpl_builder_finish(&builder, false, out);
}

FILTER(filter_unsupported)
{
    (void)args;
    (void)out;
    return tpl_raise(run, "this filter is not supported");
}

const struct tpl_function tpl_text_filters[] = {
    {"tojson", tpl_filter_tojson},
    {"trim", filter_trim},
    {"string", filter_string},
    {"upper", filter_upper},
    {"lower", filter_lower},
    {"capitalize", filter_capitalize},
    {"title", filter_title},
    {"replace", filter_replace},
    {"safe", filter_safe},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"forceescape", filter_forceescape},
    {"format", filter_format},
    {"indent", filter_indent},
    {"center", filter_center},
    {"truncate", filter_truncate},
    {"wordcount", filter_wordcount},
    {"urlencode", filter_urlencode},
    {"xmlattr", filter_xmlattr},
    {"striptags", filter_unsupported},
    {"wordwrap", filter_unsupported},
    {"urlize", filter_unsupported},
    {"pprint", filter_unsupported},
    {"random", filter_unsupported},
};
const size_t tpl_text_filter_count = sizeof tpl_text_filters / sizeof *tpl_text_filters;
