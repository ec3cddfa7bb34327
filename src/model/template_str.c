/* The methods of str. Positions are code points, as in Python; a method of a Markup gives one. */
#include <string.h>

#include "model/template_run.h"

/* ---- case ---- */

bool tpl_map_case(struct tpl_run *run, struct tpl_value string, enum tpl_case mapping,
                  struct tpl_value *out)
{
    struct tpl_builder builder;
    struct text text = tpl_text(string);
    uint32_t code_point;
    tpl_builder_init(&builder, run);
    for (size_t at = 0; at < text.size; at += tpl_decode(text, at, &code_point)) {
        if (!tpl_add_case(&builder, text, at, mapping))
            return false;
    }
    return tpl_builder_finish(&builder, string.as.string->markup, out);
}

bool tpl_capitalize(struct tpl_run *run, struct tpl_value string, struct tpl_value *out)
{
    struct tpl_builder builder;
    struct text text = tpl_text(string);
    uint32_t code_point;
    tpl_builder_init(&builder, run);
    for (size_t at = 0; at < text.size; at += tpl_decode(text, at, &code_point)) {
        if (!tpl_add_case(&builder, text, at, at == 0 ? TPL_TITLE : TPL_LOWER))
            return false;
    }
    return tpl_builder_finish(&builder, string.as.string->markup, out);
}

static bool no_arguments(struct tpl_run *run, const struct tpl_args *args, const char *name)
{
    return (args->count == 0 && args->named_count == 0) ||
           tpl_raise(run, "%s() takes no arguments", name);
}

static bool str_upper(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return no_arguments(run, args, "upper") && tpl_map_case(run, self, TPL_UPPER, out);
}

static bool str_lower(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return no_arguments(run, args, "lower") && tpl_map_case(run, self, TPL_LOWER, out);
}

static bool str_casefold(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         struct tpl_value *out)
{
    return no_arguments(run, args, "casefold") && tpl_map_case(run, self, TPL_FOLD, out);
}

static bool str_capitalize(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    return no_arguments(run, args, "capitalize") && tpl_capitalize(run, self, out);
}

/* title() and swapcase(): the mapping depends on the character or on the one before it. */
static bool map_each(struct tpl_run *run, struct tpl_value self, bool title, struct tpl_value *out)
{
    struct tpl_builder builder;
    struct text text = tpl_text(self);
    bool cased = false;
    tpl_builder_init(&builder, run);
    for (size_t at = 0, length; at < text.size; at += length) {
        uint32_t code_point;
        length = tpl_decode(text, at, &code_point);
        enum tpl_case mapping = cased ? TPL_LOWER : TPL_TITLE;
        if (!title)
            mapping = tpl_is_upper(code_point) ? TPL_LOWER : TPL_UPPER;
        bool plain = !title && !tpl_is_upper(code_point) && !tpl_is_lower(code_point);
        if (plain ? !tpl_add(&builder, (struct text){text.data + at, length})
                  : !tpl_add_case(&builder, text, at, mapping))
            return false;
        cased = tpl_is_cased(code_point);
    }
    return tpl_builder_finish(&builder, self.as.string->markup, out);
}

static bool str_title(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return no_arguments(run, args, "title") && map_each(run, self, true, out);
}

static bool str_swapcase(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         struct tpl_value *out)
{
    return no_arguments(run, args, "swapcase") && map_each(run, self, false, out);
}

/* ---- strip ---- */

static bool is_stripped(struct tpl_run *run, uint32_t code_point, struct tpl_value chars)
{
    if (!tpl_is_string(chars))
        return tpl_is_space(code_point);
    struct text set = tpl_text(chars);
    uint32_t other;
    tpl_charge(run, set.size / 8); /* an overrun is found at the next node */
    for (size_t at = 0; at < set.size && run->code == 0; at += tpl_decode(set, at, &other)) {
        tpl_decode(set, at, &other);
        if (other == code_point)
            return true;
    }
    return false;
}

bool tpl_strip(struct tpl_run *run, struct tpl_value string, struct tpl_value chars, bool left,
               bool right, struct tpl_value *out)
{
    struct text text = tpl_text(string);
    size_t from = 0, to = text.size;
    uint32_t code_point;
    if (tpl_is_given(chars) && chars.kind != TPL_NONE && !tpl_is_string(chars))
        return tpl_raise(run, "strip() needs a string of characters");
    while (left && from < to) {
        size_t length = tpl_decode(text, from, &code_point);
        if (!is_stripped(run, code_point, chars))
            break;
        from += length;
    }
    while (right && from < to) {
        size_t at = to - 1;
        while (at > from && ((unsigned char)text.data[at] & 0xc0) == 0x80)
            at--;
        tpl_decode(text, at, &code_point);
        if (!is_stripped(run, code_point, chars))
            break;
        to = at;
    }
    return tpl_charge(run, (from + text.size - to) / 4) &&
           tpl_substring(run, string, from, to, out);
}

static bool strip_method(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         bool left, bool right, struct tpl_value *out)
{
    struct tpl_value chars;
    return tpl_bind(run, args, "strip", "/chars?", &chars) &&
           tpl_strip(run, self, chars, left, right, out);
}

static bool str_strip(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return strip_method(run, self, args, true, true, out);
}

static bool str_lstrip(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return strip_method(run, self, args, true, false, out);
}

static bool str_rstrip(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return strip_method(run, self, args, false, true, out);
}

static bool remove_affix(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         bool suffix, struct tpl_value *out)
{
    struct tpl_value affix;
    struct text part, text = tpl_text(self);
    if (!tpl_bind(run, args, "removeprefix", "/affix", &affix) ||
        !tpl_arg_text(run, affix, "a prefix or suffix", &part))
        return false;
    size_t at = suffix && text.size >= part.size ? text.size - part.size : 0;
    bool there =
        text.size >= part.size && text_equal((struct text){text.data + at, part.size}, part);
    size_t from = there && !suffix ? part.size : 0, to = there && suffix ? at : text.size;
    return tpl_charge(run, part.size) && tpl_substring(run, self, from, to, out);
}

static bool str_removeprefix(struct tpl_run *run, struct tpl_value self,
                             const struct tpl_args *args, struct tpl_value *out)
{
    return remove_affix(run, self, args, false, out);
}

static bool str_removesuffix(struct tpl_run *run, struct tpl_value self,
                             const struct tpl_args *args, struct tpl_value *out)
{
    return remove_affix(run, self, args, true, out);
}

/* ---- split ---- */

static bool add_part(struct tpl_run *run, struct tpl_vector *parts, struct tpl_value self,
                     size_t from, size_t to)
{
    struct tpl_value part;
    return tpl_substring(run, self, from, to, &part) && tpl_vector_add(run, parts, part);
}

static bool split_space(struct tpl_run *run, struct tpl_value self, int64_t limit,
                        struct tpl_vector *parts)
{
    struct text text = tpl_text(self);
    uint32_t code_point;
    size_t at = 0, length = 0;
    for (;;) {
        for (; at < text.size; at += length) {
            length = tpl_decode(text, at, &code_point);
            if (!tpl_is_space(code_point))
                break;
        }
        if (at == text.size)
            return true;
        size_t from = at;
        if (limit == 0)
            return add_part(run, parts, self, from, text.size);
        for (; at < text.size; at += length) {
            length = tpl_decode(text, at, &code_point);
            if (tpl_is_space(code_point))
                break;
        }
        if (!add_part(run, parts, self, from, at))
            return false;
        limit -= limit > 0;
    }
}

static bool split_at(struct tpl_run *run, struct tpl_value self, struct text separator,
                     int64_t limit, struct tpl_vector *parts)
{
    struct text text = tpl_text(self);
    size_t from = 0;
    for (; limit != 0; limit -= limit > 0) {
        size_t at = tpl_find(text, separator, from);
        if (at == SIZE_MAX)
            break;
        if (!add_part(run, parts, self, from, at))
            return false;
        from = at + separator.size;
    }
    return add_part(run, parts, self, from, text.size);
}

static void reverse(struct tpl_vector *parts)
{
    for (size_t i = 0; i < parts->count / 2; i++) {
        struct tpl_value part = parts->items[i];
        parts->items[i] = parts->items[parts->count - 1 - i];
        parts->items[parts->count - 1 - i] = part;
    }
}

static bool rsplit_at(struct tpl_run *run, struct tpl_value self, struct text separator,
                      int64_t limit, struct tpl_vector *parts)
{
    struct text text = tpl_text(self);
    for (; limit != 0; limit -= limit > 0) {
        size_t at = tpl_find_last(text, separator);
        if (at == SIZE_MAX)
            break;
        if (!add_part(run, parts, self, at + separator.size, text.size))
            return false;
        text.size = at;
    }
    if (!add_part(run, parts, self, 0, text.size))
        return false;
    reverse(parts);
    return true;
}

static size_t before(struct text text, size_t at, uint32_t *code_point)
{
    do
        at--;
    while (at > 0 && ((unsigned char)text.data[at] & 0xc0) == 0x80);
    tpl_decode(text, at, code_point);
    return at;
}

static bool rsplit_space(struct tpl_run *run, struct tpl_value self, int64_t limit,
                         struct tpl_vector *parts)
{
    struct text text = tpl_text(self);
    uint32_t code_point;
    size_t at = text.size, next;
    for (;;) {
        while (at > 0 && (next = before(text, at, &code_point), tpl_is_space(code_point)))
            at = next;
        if (at == 0)
            break;
        size_t to = at;
        if (limit == 0) {
            if (!add_part(run, parts, self, 0, to))
                return false;
            break;
        }
        while (at > 0 && (next = before(text, at, &code_point), !tpl_is_space(code_point)))
            at = next;
        if (!add_part(run, parts, self, at, to))
            return false;
        limit -= limit > 0;
    }
    reverse(parts);
    return true;
}

static bool split_method(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         bool from_right, struct tpl_value *out)
{
    struct tpl_value argv[2];
    struct tpl_vector parts = {.items = NULL};
    struct text separator;
    int64_t limit;
    if (!tpl_bind(run, args, "split", "sep? maxsplit?", argv) ||
        !tpl_arg_int(run, argv[1], -1, &limit) || !tpl_charge(run, self.as.string->size))
        return false;
    limit = limit < 0 ? -1 : limit;
    if (!tpl_is_given(argv[0]) || argv[0].kind == TPL_NONE)
        return (from_right ? rsplit_space : split_space)(run, self, limit, &parts) &&
               tpl_vector_finish(run, &parts, TPL_LIST, out);
    if (!tpl_arg_text(run, argv[0], "a separator", &separator))
        return false;
    if (separator.size == 0)
        return tpl_raise(run, "an empty separator");
    return (from_right ? rsplit_at : split_at)(run, self, separator, limit, &parts) &&
           tpl_vector_finish(run, &parts, TPL_LIST, out);
}

static bool str_split(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return split_method(run, self, args, false, out);
}

static bool str_rsplit(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return split_method(run, self, args, true, out);
}

bool tpl_split_lines(struct tpl_run *run, struct tpl_value string, bool keep_ends,
                     struct tpl_vector *out)
{
    struct text text = tpl_text(string);
    size_t from = 0;
    *out = (struct tpl_vector){.items = NULL};
    if (!tpl_charge(run, text.size))
        return false;
    for (size_t at = 0; at < text.size;) {
        uint32_t code_point;
        size_t end = at;
        at += tpl_decode(text, at, &code_point);
        if (!tpl_is_line_end(code_point))
            continue;
        at += code_point == '\r' && at < text.size && text.data[at] == '\n';
        if (!add_part(run, out, string, from, keep_ends ? at : end))
            return false;
        from = at;
    }
    return from == text.size || add_part(run, out, string, from, text.size);
}

static bool str_splitlines(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    struct tpl_value keep;
    struct tpl_vector lines;
    return tpl_bind(run, args, "splitlines", "keepends?", &keep) &&
           tpl_split_lines(run, self, tpl_truth(keep), &lines) &&
           tpl_vector_finish(run, &lines, TPL_LIST, out);
}

static bool partition(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      bool last, struct tpl_value *out)
{
    struct tpl_value argv[1];
    struct text separator, text = tpl_text(self);
    if (!tpl_bind(run, args, "partition", "/sep", argv) ||
        !tpl_arg_text(run, argv[0], "a separator", &separator) || !tpl_charge(run, text.size))
        return false;
    if (separator.size == 0)
        return tpl_raise(run, "an empty separator");
    size_t at = last ? tpl_find_last(text, separator) : tpl_find(text, separator, 0);
    size_t size = at == SIZE_MAX ? 0 : separator.size;
    if (at == SIZE_MAX)
        at = last ? 0 : text.size;
    if (!tpl_make_list(run, TPL_TUPLE, 3, out))
        return false;
    struct tpl_value *items = out->as.list->items;
    return tpl_substring(run, self, 0, at, &items[0]) &&
           tpl_substring(run, self, at, at + size, &items[1]) &&
           tpl_substring(run, self, at + size, text.size, &items[2]);
}

static bool str_partition(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                          struct tpl_value *out)
{
    return partition(run, self, args, false, out);
}

static bool str_rpartition(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    return partition(run, self, args, true, out);
}

/* ---- searching ---- */

/* The bytes that [start, end) in code points mean; *valid is false where start lies behind the
 * string's end, so that not even an empty part is found. */
static bool range_of(struct tpl_run *run, struct tpl_value self, const struct tpl_value bounds[2],
                     struct text *out, size_t *offset, bool *valid)
{
    struct tpl_string *string = self.as.string;
    int64_t length = (int64_t)tpl_string_points(run, string), at[2] = {0, length};
    for (int i = 0; i < 2; i++) {
        if (!tpl_is_given(bounds[i]) || bounds[i].kind == TPL_NONE)
            continue;
        if (!tpl_arg_int(run, bounds[i], 0, &at[i]))
            return false;
        if (at[i] < 0)
            at[i] = at[i] + length < 0 ? 0 : at[i] + length;
    }
    at[1] = at[1] > length ? length : at[1];
    *valid = at[0] <= at[1];
    if (*valid) {
        *offset = tpl_string_offset(run, string, (size_t)at[0]);
        size_t end = tpl_string_offset(run, string, (size_t)at[1]);
        *out = (struct text){string->data + *offset, end - *offset};
    }
    return run->code == 0;
}

static int64_t points_before(const struct tpl_string *string, size_t at)
{
    int64_t points = 0;
    for (size_t i = 0; i < at; i++)
        points += ((unsigned char)string->data[i] & 0xc0) != 0x80;
    return points;
}

static bool find_method(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        bool last, int64_t *out)
{
    struct tpl_value argv[3];
    struct text part, text;
    size_t offset;
    bool valid;
    *out = -1;
    if (!tpl_bind(run, args, "find", "/sub /start? /end?", argv) ||
        !tpl_arg_text(run, argv[0], "what is looked for", &part) ||
        !range_of(run, self, argv + 1, &text, &offset, &valid) ||
        !tpl_charge(run, self.as.string->size))
        return false;
    if (!valid)
        return true;
    size_t at = last ? tpl_find_last(text, part) : tpl_find(text, part, 0);
    if (at != SIZE_MAX)
        *out = points_before(self.as.string, offset + at);
    return true;
}

static bool str_find(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                     struct tpl_value *out)
{
    *out = tpl_int(-1);
    return find_method(run, self, args, false, &out->as.integer);
}

static bool str_rfind(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    *out = tpl_int(-1);
    return find_method(run, self, args, true, &out->as.integer);
}

static bool str_index(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return str_find(run, self, args, out) &&
           (out->as.integer >= 0 || tpl_raise(run, "substring not found"));
}

static bool str_rindex(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return str_rfind(run, self, args, out) &&
           (out->as.integer >= 0 || tpl_raise(run, "substring not found"));
}

static bool str_count(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    struct tpl_value argv[3];
    struct text part, text;
    size_t offset;
    bool valid;
    int64_t count = 0;
    if (!tpl_bind(run, args, "count", "/sub /start? /end?", argv) ||
        !tpl_arg_text(run, argv[0], "what is counted", &part) ||
        !range_of(run, self, argv + 1, &text, &offset, &valid) ||
        !tpl_charge(run, self.as.string->size))
        return false;
    if (valid && part.size == 0)
        count = points_before(&(struct tpl_string){.data = text.data}, text.size) + 1;
    for (size_t at = 0; valid && part.size && (at = tpl_find(text, part, at)) != SIZE_MAX;
         at += part.size)
        count++;
    *out = tpl_int(count);
    return true;
}

static bool has_affix(struct text text, struct text affix, bool at_end)
{
    size_t from = at_end && text.size >= affix.size ? text.size - affix.size : 0;
    return text.size >= affix.size &&
           text_equal((struct text){text.data + from, affix.size}, affix);
}

static bool affix_method(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         bool at_end, struct tpl_value *out)
{
    struct tpl_value argv[3];
    struct text text, affix;
    size_t offset;
    bool valid;
    if (!tpl_bind(run, args, at_end ? "endswith" : "startswith", "/affix /start? /end?", argv) ||
        !range_of(run, self, argv + 1, &text, &offset, &valid))
        return false;
    *out = tpl_bool(false);
    if (argv[0].kind != TPL_TUPLE) {
        if (!tpl_arg_text(run, argv[0], "a prefix or suffix", &affix))
            return false;
        *out = tpl_bool(valid && has_affix(text, affix, at_end));
        return tpl_charge(run, affix.size);
    }
    const struct tpl_list *affixes = argv[0].as.list;
    for (size_t i = 0; i < affixes->count && !out->as.boolean; i++) {
        if (!tpl_arg_text(run, affixes->items[i], "a prefix or suffix", &affix) ||
            !tpl_charge(run, 1 + affix.size))
            return false;
        *out = tpl_bool(valid && has_affix(text, affix, at_end));
    }
    return true;
}

static bool str_startswith(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    return affix_method(run, self, args, false, out);
}

static bool str_endswith(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         struct tpl_value *out)
{
    return affix_method(run, self, args, true, out);
}

/* ---- replace, join, pad ---- */

static bool replace_empty(struct tpl_builder *builder, struct text text, struct text replacement,
                          int64_t count)
{
    uint32_t code_point;
    size_t at = 0;
    for (; count != 0; count -= count > 0) {
        if (!tpl_add(builder, replacement))
            return false;
        if (at == text.size)
            return true;
        size_t length = tpl_decode(text, at, &code_point);
        if (!tpl_add(builder, (struct text){text.data + at, length}))
            return false;
        at += length;
    }
    return tpl_add(builder, (struct text){text.data + at, text.size - at});
}

bool tpl_replace(struct tpl_run *run, struct tpl_value string, struct tpl_value old,
                 struct tpl_value replacement, int64_t count, struct tpl_value *out)
{
    struct tpl_builder builder;
    struct text text = tpl_text(string), part = tpl_text(old), with = tpl_text(replacement);
    size_t from = 0, at = 0;
    tpl_builder_init(&builder, run);
    if (!tpl_charge(run, text.size))
        return false;
    if (part.size == 0)
        return replace_empty(&builder, text, with, count) &&
               tpl_builder_finish(&builder, string.as.string->markup, out);
    for (; count != 0 && (at = tpl_find(text, part, from)) != SIZE_MAX; count -= count > 0) {
        if (!tpl_add(&builder, (struct text){text.data + from, at - from}) ||
            !tpl_add(&builder, with))
            return false;
        from = at + part.size;
    }
    if (from == 0) {
        *out = string;
        return true;
    }
    return tpl_add(&builder, (struct text){text.data + from, text.size - from}) &&
           tpl_builder_finish(&builder, string.as.string->markup, out);
}

static bool str_replace(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    struct tpl_value argv[3];
    struct text text;
    int64_t count;
    if (!tpl_bind(run, args, "replace", "/old /new /count?", argv) ||
        !tpl_arg_text(run, argv[0], "what is replaced", &text) ||
        !tpl_arg_text(run, argv[1], "a replacement", &text) ||
        !tpl_arg_int(run, argv[2], -1, &count))
        return false;
    if (self.as.string->markup && !tpl_escape(run, argv[1], &argv[1]))
        return false;
    return tpl_replace(run, self, argv[0], argv[1], count < 0 ? -1 : count, out);
}

bool tpl_join(struct tpl_run *run, struct tpl_value separator, const struct tpl_vector *items,
              struct tpl_value *out)
{
    struct tpl_builder builder;
    bool markup = separator.as.string->markup;
    tpl_builder_init(&builder, run);
    for (size_t i = 0; i < items->count; i++) {
        struct tpl_value item = items->items[i];
        if (i > 0 && !tpl_add(&builder, tpl_text(separator)))
            return false;
        if (!tpl_charge(run, 1) || (markup && !tpl_escape(run, item, &item)))
            return false;
        if (!tpl_is_string(item))
            return tpl_raise(run, "join() needs strings, not '%s'", tpl_type_name(item.kind));
        if (!tpl_add(&builder, tpl_text(item)))
            return false;
    }
    return tpl_builder_finish(&builder, markup, out);
}

static bool str_join(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                     struct tpl_value *out)
{
    struct tpl_value iterable;
    struct tpl_vector items;
    return tpl_bind(run, args, "join", "/iterable", &iterable) &&
           tpl_collect(run, iterable, &items) && tpl_join(run, self, &items, out);
}

bool tpl_pad(struct tpl_run *run, struct tpl_value string, int64_t width, struct text fill,
             char align, struct tpl_value *out)
{
    struct tpl_builder builder;
    int64_t length = (int64_t)tpl_string_points(run, string.as.string);
    int64_t room = width > length ? width - length : 0, left = 0;
    if (align == '^')
        left = room / 2 + (room & width & 1);
    else if (align == '>')
        left = room;
    tpl_builder_init(&builder, run);
    return tpl_add_repeat(&builder, fill, left) && tpl_add(&builder, tpl_text(string)) &&
           tpl_add_repeat(&builder, fill, room - left) &&
           tpl_builder_finish(&builder, string.as.string->markup, out);
}

static bool pad_method(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       char align, struct tpl_value *out)
{
    struct tpl_value argv[2];
    struct text fill = TEXT(" ");
    int64_t width;
    if (!tpl_bind(run, args, "ljust", "/width /fillchar?", argv) ||
        !tpl_arg_int(run, argv[0], 0, &width))
        return false;
    if (tpl_is_given(argv[1])) {
        if (!tpl_arg_text(run, argv[1], "a fill character", &fill))
            return false;
        if (tpl_string_points(run, argv[1].as.string) != 1)
            return tpl_raise(run, "the fill must be one character");
    }
    return tpl_pad(run, self, width, fill, align, out);
}

static bool str_center(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return pad_method(run, self, args, '^', out);
}

static bool str_ljust(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return pad_method(run, self, args, '<', out);
}

static bool str_rjust(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    return pad_method(run, self, args, '>', out);
}

static bool str_zfill(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                      struct tpl_value *out)
{
    struct tpl_value argv[1];
    struct tpl_builder builder;
    struct text text = tpl_text(self);
    int64_t width, length = (int64_t)tpl_string_points(run, self.as.string);
    if (!tpl_bind(run, args, "zfill", "/width", argv) || !tpl_arg_int(run, argv[0], 0, &width))
        return false;
    size_t sign = text.size && (text.data[0] == '-' || text.data[0] == '+');
    tpl_builder_init(&builder, run);
    return tpl_add(&builder, (struct text){text.data, sign}) &&
           tpl_add_repeat(&builder, TEXT("0"), width > length ? width - length : 0) &&
           tpl_add(&builder, (struct text){text.data + sign, text.size - sign}) &&
           tpl_builder_finish(&builder, self.as.string->markup, out);
}

static bool str_expandtabs(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    struct tpl_value argv[1];
    struct tpl_builder builder;
    struct text text = tpl_text(self);
    int64_t width, column = 0;
    if (!tpl_bind(run, args, "expandtabs", "tabsize?", argv) ||
        !tpl_arg_int(run, argv[0], 8, &width))
        return false;
    tpl_builder_init(&builder, run);
    for (size_t at = 0, length; at < text.size; at += length) {
        uint32_t code_point;
        length = tpl_decode(text, at, &code_point);
        if (code_point == '\t') {
            int64_t spaces = width > 0 ? width - column % width : 0;
            column += spaces;
            if (!tpl_add_repeat(&builder, TEXT(" "), spaces))
                return false;
            continue;
        }
        column = code_point == '\n' || code_point == '\r' ? 0 : column + 1;
        if (!tpl_add(&builder, (struct text){text.data + at, length}))
            return false;
    }
    return tpl_builder_finish(&builder, self.as.string->markup, out);
}

/* ---- what a string consists of ---- */

static bool all_points(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       bool (*is)(uint32_t code_point), bool empty, struct tpl_value *out)
{
    struct text text = tpl_text(self);
    bool all = text.size > 0 || empty;
    for (size_t at = 0; all && at < text.size;) {
        uint32_t code_point;
        at += tpl_decode(text, at, &code_point);
        all = is(code_point);
    }
    *out = tpl_bool(all);
    return no_arguments(run, args, "is…") && tpl_charge(run, text.size);
}

static bool is_alnum(uint32_t code_point)
{
    return code_point != '_' && tpl_is_word(code_point);
}

static bool is_ascii(uint32_t code_point)
{
    return code_point < 0x80;
}

#define ALL_POINTS(name, is, empty)                                                                \
    static bool name(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,      \
                     struct tpl_value *out)                                                        \
    {                                                                                              \
        return all_points(run, self, args, is, empty, out);                                        \
    }
ALL_POINTS(str_isalpha, tpl_is_alpha, false)
ALL_POINTS(str_isdigit, tpl_is_digit, false)
ALL_POINTS(str_isdecimal, tpl_is_decimal, false)
ALL_POINTS(str_isnumeric, tpl_is_numeric, false)
ALL_POINTS(str_isalnum, is_alnum, false)
ALL_POINTS(str_isspace, tpl_is_space, false)
ALL_POINTS(str_isprintable, tpl_is_printable, true)
ALL_POINTS(str_isascii, is_ascii, true)
#undef ALL_POINTS

bool tpl_is_cased_as(struct tpl_run *run, struct tpl_value string, enum tpl_case mapping, bool *out)
{
    struct text text = tpl_text(string);
    bool cased = false, before_cased = false;
    *out = false;
    if (!tpl_charge(run, text.size))
        return false;
    for (size_t at = 0; at < text.size;) {
        uint32_t code_point;
        at += tpl_decode(text, at, &code_point);
        bool upper = tpl_is_upper(code_point), lower = tpl_is_lower(code_point);
        bool title = tpl_is_title(code_point);
        if ((mapping == TPL_LOWER && (upper || title)) ||
            (mapping == TPL_UPPER && (lower || title)))
            return true;
        if (mapping == TPL_TITLE &&
            (((upper || title) && before_cased) || (lower && !before_cased)))
            return true;
        before_cased = upper || lower || title;
        cased = cased || before_cased;
    }
    *out = cased;
    return true;
}

static bool cased_method(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                         enum tpl_case mapping, struct tpl_value *out)
{
    bool is;
    if (!no_arguments(run, args, "is…") || !tpl_is_cased_as(run, self, mapping, &is))
        return false;
    *out = tpl_bool(is);
    return true;
}

static bool str_isupper(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    return cased_method(run, self, args, TPL_UPPER, out);
}

static bool str_islower(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    return cased_method(run, self, args, TPL_LOWER, out);
}

static bool str_istitle(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                        struct tpl_value *out)
{
    return cased_method(run, self, args, TPL_TITLE, out);
}

static bool str_isidentifier(struct tpl_run *run, struct tpl_value self,
                             const struct tpl_args *args, struct tpl_value *out)
{
    uint32_t first = 0;
    if (!all_points(run, self, args, tpl_is_name_part, false, out))
        return false;
    if (out->as.boolean)
        tpl_decode(tpl_text(self), 0, &first);
    *out = tpl_bool(out->as.boolean && tpl_is_name_start(first));
    return true;
}

/* ---- format ---- */

static bool str_format(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                       struct tpl_value *out)
{
    return tpl_format_braces(run, self, args, out);
}

static bool str_format_map(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                           struct tpl_value *out)
{
    if (args->count != 1 || args->named_count || args->items[0].kind != TPL_DICT)
        return tpl_raise(run, "format_map() takes one dict");
    const struct tpl_dict *dict = args->items[0].as.dict;
    struct tpl_args named = {.named = dict->pairs, .named_count = dict->count};
    return tpl_format_braces(run, self, &named, out);
}

static bool str_unsupported(struct tpl_run *run, struct tpl_value self, const struct tpl_args *args,
                            struct tpl_value *out)
{
    (void)self;
    (void)args;
    (void)out;
    return tpl_raise(run, "this method of str is not supported");
}

const struct tpl_method tpl_str_methods[] = {
    {"split", str_split},
    {"strip", str_strip},
    {"lstrip", str_lstrip},
    {"rstrip", str_rstrip},
    {"startswith", str_startswith},
    {"endswith", str_endswith},
    {"replace", str_replace},
    {"format", str_format},
    {"upper", str_upper},
    {"lower", str_lower},
    {"title", str_title},
    {"capitalize", str_capitalize},
    {"swapcase", str_swapcase},
    {"casefold", str_casefold},
    {"rsplit", str_rsplit},
    {"splitlines", str_splitlines},
    {"partition", str_partition},
    {"rpartition", str_rpartition},
    {"find", str_find},
    {"rfind", str_rfind},
    {"index", str_index},
    {"rindex", str_rindex},
    {"count", str_count},
    {"join", str_join},
    {"removeprefix", str_removeprefix},
    {"removesuffix", str_removesuffix},
    {"zfill", str_zfill},
    {"center", str_center},
    {"ljust", str_ljust},
    {"rjust", str_rjust},
    {"expandtabs", str_expandtabs},
    {"isalpha", str_isalpha},
    {"isdigit", str_isdigit},
    {"isdecimal", str_isdecimal},
    {"isnumeric", str_isnumeric},
    {"isalnum", str_isalnum},
    {"isspace", str_isspace},
    {"isprintable", str_isprintable},
    {"isascii", str_isascii},
    {"isupper", str_isupper},
    {"islower", str_islower},
    {"istitle", str_istitle},
    {"isidentifier", str_isidentifier},
    {"format_map", str_format_map},
    {"encode", str_unsupported},
    {"translate", str_unsupported},
    {"maketrans", str_unsupported},
};
const size_t tpl_str_method_count = sizeof tpl_str_methods / sizeof *tpl_str_methods;
