/* Token ids to text. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "model/pretokenizer_internal.h"
#include "model/tokenizer_internal.h"

/* 33 to 126, 161 to 172 and 174 to 255 spell themselves; the other 68 bytes, in order, are
 * 256 + 0, 1, 2 … */
uint32_t byte_to_point(unsigned char byte)
{
    if (byte < 33)
        return 256u + byte;
    if (byte >= 127 && byte <= 160)
        return 256u + 33 + byte - 127;
    return byte == 173 ? 256u + 67 : byte;
}

int point_to_byte(uint32_t point)
{
    if (point >= 256 && point < 256 + 33)
        return (int)point - 256;
    if (point >= 256 + 33 && point < 256 + 67)
        return (int)point - 256 - 33 + 127;
    if (point == 256 + 67)
        return 173;
    return point < 256 && byte_to_point((unsigned char)point) == point ? (int)point : -1;
}

/* Bytes from their spelling. A code point that spells none is named in the text, as llama.cpp does:
 * such a token belongs to no text. */
static void append_spelled(struct text text, struct buffer *out)
{
    for (size_t at = 0; at < text.size;) {
        char encoded[UTF8_MAX];
        uint32_t point = 0xfffd;
        size_t length = decode_loosely(text.data + at, text.size - at, &point);
        int byte = point_to_byte(point);
        at += length ? length : 1;
        if (byte >= 0) {
            buffer_append_char(out, (char)byte);
            continue;
        }
        buffer_append_text(out, TEXT("[UNK_BYTE_0x"));
        size_t size = encode_loosely(point, encoded);
        for (size_t i = 0; i < size; i++)
            buffer_format(out, "%02x", (unsigned)(unsigned char)encoded[i]);
        buffer_append_text(out, text);
        buffer_append_char(out, ']');
    }
}

static void append_unescaped(struct text text, struct buffer *out)
{
    for (size_t at = 0; at < text.size;) {
        if (text.size - at >= META_SPACE_SIZE &&
            memcmp(text.data + at, META_SPACE, META_SPACE_SIZE) == 0) {
            buffer_append_char(out, ' ');
            at += META_SPACE_SIZE;
        } else {
            buffer_append_char(out, text.data[at++]);
        }
    }
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" */
static void append_named_byte(struct text text, struct buffer *out)
{
    if (text.size != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return;
    int high = hex_value(text.data[3]), low = hex_value(text.data[4]);
    if (high >= 0 && low >= 0)
        buffer_append_char(out, (char)(high * 16 + low));
}

bool tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id, bool special, bool first,
                     struct buffer *out)
{
    if (id >= tokenizer->vocab.count)
        return !out->failed;
    unsigned attrs = tokenizer->vocab.attrs[id];
    struct text text = vocab_text(&tokenizer->vocab, id);
    size_t before = out->size;
    if (attrs & (ATTR_UNKNOWN | ATTR_CONTROL)) {
        if (special)
            buffer_append_text(out, text);
    } else if (attrs & ATTR_USER_DEFINED) {
        buffer_append_text(out, text);
    } else if (attrs & ATTR_NORMAL) {
        if (tokenizer->model == MODEL_BYTE_BPE)
            append_spelled(text, out);
        else
            append_unescaped(text, out);
    } else if (attrs & ATTR_BYTE) {
        append_named_byte(text, out);
    }
    if (first && tokenizer->ids.add_space_prefix && !out->failed && out->size > before &&
        out->data[before] == ' ') {
        memmove(out->data + before, out->data + before + 1, out->size - before - 1);
        out->size--;
    }
    return !out->failed;
}

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

/* "it 's" and the like, at the apostrophe. */
static bool is_suffix(const char *text, size_t rest)
{
    if (rest > 1 && (text[1] == 's' || text[1] == 'm'))
        return true;
    return rest > 2 && (text[1] == 'r' || text[1] == 'v') && text[2] == 'e';
}

static size_t drop_spaces_before_marks(char *text, size_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++)
        if (!(text[i] == ' ' && i + 1 < size && is_one_of(text[i + 1], "?!.,")))
            text[kept++] = text[i];
    return kept;
}

/* " ' " becomes "'"; the space after one is not the space before the next. */
static size_t drop_spaces_around_quotes(char *text, size_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == ' ' && i + 2 < size && text[i + 1] == '\'' && text[i + 2] == ' ') {
            text[kept++] = '\'';
            i += 2;
        } else {
            text[kept++] = text[i];
        }
    }
    return kept;
}

static size_t drop_spaces_before_suffixes(char *text, size_t size)
{
    size_t kept = 0;
    for (size_t i = 0; i < size; i++)
        if (!(text[i] == ' ' && i + 1 < size && text[i + 1] == '\'' &&
              is_suffix(text + i + 1, size - i - 1)))
            text[kept++] = text[i];
    return kept;
}

int tokenizer_decode(const struct tokenizer *tokenizer, const uint32_t *ids, size_t count,
                     bool special, struct buffer *out, struct hearth_error *err)
{
    size_t before = out->size;
    if (out->failed)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++)
        if (!tokenizer_piece(tokenizer, ids[i], special, i == 0, out))
            return out_of_memory(err);
    if (tokenizer->traits.clean_spaces && out->size > before) {
        char *text = out->data + before;
        size_t size = drop_spaces_before_marks(text, out->size - before);
        size = drop_spaces_around_quotes(text, size);
        out->size = before + drop_spaces_before_suffixes(text, size);
        out->data[out->size] = '\0';
    }
    return 0;
}
