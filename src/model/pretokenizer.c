#define PCRE2_CODE_UNIT_WIDTH 8
#include "model/pretokenizer.h"

#include <assert.h>
#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/pretokenizer_internal.h"

#define TEXT_MAX ((size_t)1 << 30)
/* A pattern needs some hundred bytes of frames; none recurs in the length of the text. */
#define REGEX_HEAP_KIB 1024
/* starts[i]: bit 0 is the cut; a run's set, counted from 1, stands above it while runs are sought.
 */
#define SET_SHIFT 1

struct pretokenizer {
    const struct pretokenizer_row *row;
    bool han;
    unsigned char traits[256];
    unsigned char sets[CUTS_MAX][256]; /* the set of a run that a class is in, as far as it says */
    pcre2_code *regexes[CUTS_MAX];
};

static bool set_has_point(const struct code_point_set *set, uint32_t point)
{
    size_t low = 0, high = set->range_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->ranges[middle][1] < point)
            low = middle + 1;
        else
            high = middle;
    }
    return low < set->range_count && set->ranges[low][0] <= point;
}

static void fill_traits(unsigned char *traits)
{
    static const unsigned char of_kind[] = {
        [KIND_OTHER] = IS_OTHER,   [KIND_NUMBER] = IS_NUMBER,           [KIND_MARK] = IS_MARK,
        [KIND_LETTER] = IS_LETTER, [KIND_PUNCTUATION] = IS_PUNCTUATION, [KIND_SYMBOL] = IS_SYMBOL,
        [KIND_SPACE] = IS_SPACE};
    for (unsigned c = 0; c < 128; c++)
        traits[c] = of_kind[code_point_kind(c)];
    for (unsigned kind = KIND_OTHER; kind <= KIND_SYMBOL; kind++)
        traits[CLASS_OF_KIND(kind)] = of_kind[kind];
    traits[CLASS_HAN_LETTER] = IS_HAN | IS_LETTER;
    traits[CLASS_HAN_OTHER] = IS_HAN | IS_OTHER;
}

static void fill_sets(const unsigned char *traits, const struct run *run, unsigned char *sets)
{
    for (unsigned class = 0; class < 256; class ++)
        for (unsigned i = 0; i < run->set_count; i++) {
            const struct code_point_set *set = &run->sets[i];
            bool inside =
                (traits[class] & set->traits) || (class < 128 && set_has_point(set, class));
            if (inside != set->negated)
                sets[class] = (unsigned char)(i + 1);
        }
}

static const struct pretokenizer_row *find_row(struct text name)
{
    for (size_t i = 0; i < pretokenizer_row_count; i++) {
        const char *at = pretokenizer_rows[i].names;
        while (*at) {
            size_t size = strcspn(at, " ");
            if (text_equal(name, (struct text){at, size}))
                return &pretokenizer_rows[i];
            at += size + (at[size] == ' ');
        }
    }
    return NULL;
}

static int unknown_name(struct text name, struct hearth_error *err)
{
    struct buffer names;
    buffer_init(&names, 4096);
    for (size_t i = 0; i < pretokenizer_row_count; i++)
        buffer_format(&names, "%s%s", i ? " " : "", pretokenizer_rows[i].names);
    int status = error_set(err, HEARTH_E_UNSUPPORTED,
                           "the pre-tokenizer '%.*s' is not supported; these are: %s",
                           TEXT_ARGS(name), names.failed ? "" : names.data);
    buffer_finish(&names);
    return status;
}

/* The patterns are our own and proved by the tests, so that only memory can fail. */
static pcre2_code *compile(const char *pattern)
{
    int code;
    PCRE2_SIZE offset;
    return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                         PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_UTF, &code, &offset, NULL);
}

int pretokenizer_open(struct text name, struct pretokenizer **out, struct hearth_error *err)
{
    const struct pretokenizer_row *row = find_row(name.size ? name : TEXT("default"));
    if (!row)
        return unknown_name(name, err);
    struct pretokenizer *pretokenizer = MEM_NEW(struct pretokenizer);
    if (!pretokenizer)
        return error_set(err, HEARTH_E_MEMORY, "no memory for the pre-tokenizer");
    pretokenizer->row = row;
    fill_traits(pretokenizer->traits);
    for (size_t i = 0; row->cuts[i].kind != CUT_END; i++) {
        const struct cut *cut = &row->cuts[i];
        pretokenizer->han |= cut->kind == CUT_KIMI;
        if (cut->kind == CUT_RUN)
            fill_sets(pretokenizer->traits, cut->run, pretokenizer->sets[i]);
        if (cut->kind == CUT_REGEX && !(pretokenizer->regexes[i] = compile(cut->regex))) {
            pretokenizer_close(pretokenizer);
            return error_set(err, HEARTH_E_MEMORY, "no memory for a regular expression");
        }
    }
    *out = pretokenizer;
    return 0;
}

void pretokenizer_close(struct pretokenizer *pretokenizer)
{
    if (!pretokenizer)
        return;
    for (size_t i = 0; i < CUTS_MAX; i++)
        pcre2_code_free(pretokenizer->regexes[i]);
    mem_free(pretokenizer);
}

const struct pretokenizer_traits *pretokenizer_traits(const struct pretokenizer *pretokenizer)
{
    return &pretokenizer->row->traits;
}

size_t decode_loosely(const char *data, size_t size, uint32_t *point)
{
    const unsigned char *at = (const unsigned char *)data;
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc0 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    if (length == 0 || length > size || at[0] >= 0xf8)
        return 0;
    uint32_t value = length == 1 ? at[0] : at[0] & (0xffu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3f);
    }
    if (value > 0x10ffff)
        return 0;
    *point = value;
    return length;
}

size_t encode_loosely(uint32_t point, char *out)
{
    if (point < 0xd800 || point > 0xdfff)
        return utf8_encode(point, out);
    out[0] = (char)(0xe0 | point >> 12);
    out[1] = (char)(0x80 | (point >> 6 & 0x3f));
    out[2] = (char)(0x80 | (point & 0x3f));
    return 3;
}

/* Rewrites a text that is not valid; at most three bytes for one. */
static bool normalize(struct pieces *pieces, struct text text)
{
    size_t size = 0, at = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (at = 0, size = 0; at < text.size;) {
            char encoded[UTF8_MAX];
            uint32_t point;
            size_t length = decode_loosely(text.data + at, text.size - at, &point);
            size_t written = encode_loosely(length ? point : 0xfffd, encoded);
            if (pass)
                memcpy(pieces->copy + size, encoded, written);
            size += written;
            at += length ? length : 1;
        }
        if (!pass && !(pieces->copy = mem_alloc(size)))
            return false;
    }
    pieces->text = (struct text){pieces->copy, size};
    return true;
}

static bool is_han(uint32_t point)
{
    static const uint32_t blocks[][2] = {{0x3400, 0x4dbf},   {0x4e00, 0x9fff},
                                         {0xf900, 0xfaff},   {0x20000, 0x2a6df},
                                         {0x2a700, 0x2ebef}, {0x2f800, 0x2fa1f}};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (point >= blocks[i][0] && point <= blocks[i][1])
            return true;
    return false;
}

static unsigned char class_of(const struct pretokenizer *pretokenizer, uint32_t point)
{
    enum code_point_kind kind = code_point_kind(point);
    if (kind == KIND_SPACE)
        return CLASS_SPACE;
    if (pretokenizer->han && is_han(point))
        return kind == KIND_LETTER ? CLASS_HAN_LETTER : CLASS_HAN_OTHER;
    return (unsigned char)CLASS_OF_KIND(kind);
}

static size_t point_length(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

static size_t count_points(struct text text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.size; i++)
        count += ((unsigned char)text.data[i] & 0xc0) != 0x80;
    return count;
}

static void classify(const struct pretokenizer *pretokenizer, struct pieces *pieces)
{
    const char *at = pieces->text.data;
    for (size_t i = 0; i < pieces->count; i++) {
        uint32_t point = 0;
        size_t length = point_length((unsigned char)*at);
        decode_loosely(at, length, &point);
        pieces->classes[i] = length == 1 ? (unsigned char)*at : class_of(pretokenizer, point);
        at += length;
    }
}

/* Writes into starts which set of the run each code point is in. */
static void find_members(const struct run *run, const unsigned char *sets, struct pieces *pieces)
{
    const char *at = pieces->text.data;
    for (size_t i = 0; i < pieces->count; i++) {
        unsigned char class = pieces->classes[i];
        size_t length = point_length((unsigned char)*at);
        unsigned set = sets[class];
        if (class >= 128) {
            uint32_t point = 0;
            decode_loosely(at, length, &point);
            for (unsigned k = 0; k < run->set_count; k++)
                if (set_has_point(&run->sets[k], point))
                    set = run->sets[k].negated ? 0 : k + 1;
        }
        pieces->starts[i] = (unsigned char)(pieces->starts[i] | set << SET_SHIFT);
        at += length;
    }
}

static bool is_prefix(const struct span *span, const struct run *run, size_t at)
{
    unsigned char class = span->classes[at];
    return run->prefix == 's' ? (span->traits[class] & IS_SPACE) != 0
                              : run->prefix && class == (unsigned char)run->prefix;
}

static void cut_runs(const struct span *span, const struct run *run)
{
    size_t at = 0;
    while (at < span->size) {
        size_t begin = at;
        if (is_prefix(span, run, at) && at + 1 < span->size && span->starts[at + 1] >> SET_SHIFT)
            begin++;
        unsigned set = span->starts[begin] >> SET_SHIFT;
        size_t end = begin;
        while (set && end < span->size && span->starts[end] >> SET_SHIFT == set &&
               (!run->max || end - begin < run->max))
            end++;
        if (end == begin || (run->exact && end - begin < run->max)) {
            at++;
            continue;
        }
        span->starts[at] |= 1;
        if (end < span->size)
            span->starts[end] |= 1;
        at = end;
    }
}

static void cut_all_runs(const struct pretokenizer *pretokenizer, const struct run *run,
                         const unsigned char *sets, struct pieces *pieces)
{
    find_members(run, sets, pieces);
    for (size_t at = 0; at < pieces->count;) {
        size_t end = at + 1;
        while (!(pieces->starts[end] & 1))
            end++;
        struct span span = {pieces->classes + at, pretokenizer->traits, pieces->starts + at,
                            end - at};
        cut_runs(&span, run);
        at = end;
    }
    for (size_t i = 0; i < pieces->count; i++)
        pieces->starts[i] &= 1;
}

/* The next piece from `at`, as it was before this cut. */
static struct span span_at(const struct pretokenizer *pretokenizer, const struct pieces *pieces,
                           size_t at)
{
    const unsigned char *next = memchr(pieces->starts + at + 1, 1, pieces->count - at);
    assert(next);
    return (struct span){pieces->classes + at, pretokenizer->traits, pieces->starts + at,
                         (size_t)(next - pieces->starts) - at};
}

static int regex_failed(int code, struct hearth_error *err)
{
    return code == PCRE2_ERROR_NOMEMORY
               ? error_set(err, HEARTH_E_MEMORY, "no memory for matching a regular expression")
               : error_set(err, HEARTH_E_LIMIT, "the pre-tokenizer gave up on the text (PCRE2: %d)",
                           code);
}

static int cut_regex(const struct span *span, const pcre2_code *code, pcre2_match_data *data,
                     pcre2_match_context *context, struct hearth_error *err)
{
    size_t at = 0;
    while (at < span->size) {
        int found = pcre2_match(code, span->classes, span->size, at, 0, data, context);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return regex_failed(found, err);
        const PCRE2_SIZE *match = pcre2_get_ovector_pointer(data);
        assert(match[1] > match[0]);
        span->starts[match[0]] = 1;
        if (match[1] < span->size)
            span->starts[match[1]] = 1;
        at = match[1];
    }
    return 0;
}

static int cut_all_regex(const struct pretokenizer *pretokenizer, const pcre2_code *code,
                         struct pieces *pieces, struct hearth_error *err)
{
    int status = 0;
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    if (!data || !context) {
        status = error_set(err, HEARTH_E_MEMORY, "no memory for matching a regular expression");
        goto done;
    }
    /* The patterns give back one character at a time, each time one match step: linear, but more
     * steps than the library's own limit. */
    pcre2_set_match_limit(context, UINT32_MAX);
    pcre2_set_heap_limit(context, REGEX_HEAP_KIB);
    for (size_t at = 0; at < pieces->count && !status;) {
        struct span span = span_at(pretokenizer, pieces, at);
        status = cut_regex(&span, code, data, context, err);
        at += span.size;
    }
done:
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    return status;
}

static int cut_all(const struct pretokenizer *pretokenizer, struct pieces *pieces,
                   struct hearth_error *err)
{
    const struct cut *cuts = pretokenizer->row->cuts;
    int status = 0;
    for (size_t i = 0; cuts[i].kind != CUT_END && !status; i++) {
        if (cuts[i].kind == CUT_RUN) {
            cut_all_runs(pretokenizer, cuts[i].run, pretokenizer->sets[i], pieces);
        } else if (cuts[i].kind == CUT_REGEX) {
            status = cut_all_regex(pretokenizer, pretokenizer->regexes[i], pieces, err);
        } else {
            for (size_t at = 0; at < pieces->count;) {
                struct span span = span_at(pretokenizer, pieces, at);
                pretokenizer_scan(&span, cuts[i].kind);
                at += span.size;
            }
        }
    }
    return status;
}

int pretokenizer_split(const struct pretokenizer *pretokenizer, struct text text,
                       struct pieces *pieces, struct hearth_error *err)
{
    struct pieces result = {.text = text};
    int status;
    if (text.size > TEXT_MAX)
        return error_set(err, HEARTH_E_LIMIT, "a text has more than 1 GiB");
    if (!utf8_valid(text.data, text.size) && !normalize(&result, text))
        goto no_memory;
    result.count = count_points(result.text);
    result.classes = mem_alloc(result.count);
    result.starts = mem_zalloc_array(result.count + 1, 1);
    if (!result.classes || !result.starts)
        goto no_memory;
    result.starts[0] = 1;
    result.starts[result.count] = 1;
    classify(pretokenizer, &result);
    status = cut_all(pretokenizer, &result, err);
    if (status)
        pieces_finish(&result);
    else
        *pieces = result;
    return status;
no_memory:
    pieces_finish(&result);
    return error_set(err, HEARTH_E_MEMORY, "no memory to cut a text of %zu bytes", text.size);
}

bool pieces_next(struct pieces *pieces, struct text *piece)
{
    if (pieces->next >= pieces->count)
        return false;
    const char *begin = pieces->text.data + pieces->next_byte;
    size_t size = 0;
    do {
        size += point_length((unsigned char)begin[size]);
        pieces->next++;
    } while (!pieces->starts[pieces->next]);
    pieces->next_byte += size;
    *piece = (struct text){begin, size};
    return true;
}

void pieces_finish(struct pieces *pieces)
{
    mem_free(pieces->copy);
    mem_free(pieces->classes);
    mem_free(pieces->starts);
    *pieces = (struct pieces){.count = 0};
}
