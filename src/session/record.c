#include "session/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/sum.h"
#include "session/store.h"

#define VERSION 1
#define FLAG_EDITED 1u
#define FLAG_PLAIN 2u
#define MODEL_BYTES (HEARTH_IDENTITY_SIZE - 1)
#define SETTINGS 4
#define SETTINGS_MAX 64

static const char record_magic[8] = {'H', 'E', 'A', 'R', 'T', 'H', 'C', 'V'};

/* ---- writing ---- */

static void put_number(struct buffer *out, uint64_t number, int bytes)
{
    char text[8];
    for (int i = 0; i < bytes; i++)
        text[i] = (char)(number >> 8 * i & 255);
    buffer_append(out, text, (size_t)bytes);
}

/* The sum of what was appended since `begin`. */
static void put_sum(struct buffer *out, size_t begin)
{
    unsigned char sum[SUM_BYTES];
    if (out->failed)
        return;
    sum_of(out->data + begin, out->size - begin, sum);
    buffer_append(out, sum, sizeof sum);
}

static void put_messages(const struct record *record, const struct history *history,
                         const char *model, const char *messages, struct buffer *out)
{
    size_t begin = out->size, size = strlen(messages);
    buffer_append(out, record_magic, sizeof record_magic);
    put_number(out, VERSION, 4);
    put_number(out, (history->edited ? FLAG_EDITED : 0) | (history->plain ? FLAG_PLAIN : 0), 4);
    put_number(out, (uint64_t)record->unix_seconds, 8);
    buffer_append(out, model, MODEL_BYTES);
    put_number(out, SETTINGS, 4);
    put_number(out, (uint64_t)record->settings.keep, 4);
    put_number(out, record->settings.plain, 4);
    put_number(out, (uint64_t)record->settings.overflow, 4);
    put_number(out, history->dropped, 4);
    put_number(out, json_array_size(history->messages), 4);
    put_number(out, size, 8);
    buffer_append(out, messages, size);
    put_sum(out, begin);
}

static void put_tokens(const struct record *record, const struct history *history,
                       struct buffer *out)
{
    size_t begin = out->size;
    put_number(out, record->computed, 4);
    put_number(out, history->count, 4);
    put_number(out, history->mark_count, 4);
    put_number(out, 0, 4);
    put_number(out, history->held.size, 8);
    for (size_t i = 0; i < history->count; i++)
        put_number(out, history->ids[i], 4);
    for (size_t i = 0; i < history->mark_count; i++) {
        put_number(out, history->marks[i].ids, 4);
        put_number(out, history->marks[i].text, 8);
    }
    buffer_append_text(out, buffer_text(&history->held));
    put_sum(out, begin);
}

int record_pack(const struct record *record, const struct history *history, const char *model,
                struct buffer *out, struct hearth_error *err)
{
    char *messages = json_dumps(history->messages, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (messages) {
        put_messages(record, history, model, messages, out);
        put_tokens(record, history, out);
    }
    bool packed = messages && !out->failed;
    free(messages);
    return packed ? 0 : error_set(err, HEARTH_E_MEMORY, "no memory to pack a conversation");
}

/* ---- reading ---- */

/* Once more is asked for than there is, everything that it gives is 0 and `failed` says so. */
struct reader {
    const unsigned char *data;
    size_t size, at;
    bool failed;
};

static const unsigned char *get_bytes(struct reader *reader, uint64_t size)
{
    if (reader->failed || size > reader->size - reader->at) {
        reader->failed = true;
        return NULL;
    }
    const unsigned char *bytes = reader->data + reader->at;
    reader->at += (size_t)size;
    return bytes;
}

static uint64_t get_number(struct reader *reader, int size)
{
    const unsigned char *bytes = get_bytes(reader, (uint64_t)size);
    uint64_t number = 0;
    for (int i = size; bytes && i > 0; i--)
        number = number << 8 | bytes[i - 1];
    return number;
}

/* Whether what was read since `begin` has the sum that comes now. */
static bool sum_fits(struct reader *reader, size_t begin)
{
    unsigned char expected[SUM_BYTES];
    size_t end = reader->at;
    const unsigned char *sum = get_bytes(reader, SUM_BYTES);
    if (!sum)
        return false;
    sum_of(reader->data + begin, end - begin, expected);
    return memcmp(sum, expected, SUM_BYTES) == 0;
}

struct head {
    bool edited, plain;
    int64_t unix_seconds;
    const unsigned char *model;
    struct hearth_session_settings settings;
    size_t dropped, message_count;
    struct text messages;
};

static bool get_settings(struct reader *reader, struct head *head)
{
    uint32_t values[SETTINGS_MAX] = {0};
    uint64_t count = get_number(reader, 4);
    if (count > SETTINGS_MAX)
        return false;
    for (uint64_t i = 0; i < count; i++)
        values[i] = (uint32_t)get_number(reader, 4);
    head->settings = (struct hearth_session_settings){
        .keep = values[0] == HEARTH_KEEP_NEVER ? HEARTH_KEEP_NEVER : HEARTH_KEEP_DEFAULT,
        .plain = values[1] != 0,
        .overflow = values[2] <= HEARTH_OVERFLOW_DROP ? (enum hearth_overflow)values[2]
                                                      : HEARTH_OVERFLOW_ERROR,
    };
    head->dropped = values[3];
    return true;
}

static int get_head(struct reader *reader, struct head *head, struct hearth_error *err)
{
    const unsigned char *magic = get_bytes(reader, sizeof record_magic);
    if (!magic || memcmp(magic, record_magic, sizeof record_magic) != 0)
        return error_set(err, HEARTH_E_FORMAT, "this is no conversation");
    uint64_t version = get_number(reader, 4);
    if (version > VERSION)
        return error_set(err, HEARTH_E_UNSUPPORTED,
                         "the conversation was written by a later version of this program");
    uint64_t flags = get_number(reader, 4);
    head->edited = flags & FLAG_EDITED;
    head->plain = flags & FLAG_PLAIN;
    head->unix_seconds = (int64_t)get_number(reader, 8);
    head->model = get_bytes(reader, MODEL_BYTES);
    bool known = get_settings(reader, head);
    head->message_count = (size_t)get_number(reader, 4);
    uint64_t size = get_number(reader, 8);
    head->messages = (struct text){(const char *)get_bytes(reader, size), (size_t)size};
    if (!known || !sum_fits(reader, 0))
        return error_set(err, HEARTH_E_FORMAT, "the conversation is damaged");
    return 0;
}

/* Ids and marks of a record into arrays that have room for them; false where one is out of its
 * range. */
static bool get_arrays(struct reader *reader, struct history *history)
{
    struct hearth_model_info info;
    struct history_mark last = {0};
    hearth_model_info(history->model, &info);
    for (size_t i = 0; i < history->count; i++) {
        history->ids[i] = (uint32_t)get_number(reader, 4);
        if (history->ids[i] >= info.vocabulary)
            return false;
    }
    for (size_t i = 0; i < history->mark_count; i++) {
        struct history_mark mark = {.ids = (size_t)get_number(reader, 4)};
        mark.text = (size_t)get_number(reader, 8);
        if (mark.ids < last.ids || mark.text < last.text || mark.ids > history->count)
            return false;
        history->marks[i] = last = mark;
    }
    return true;
}

/* What messages became. Its size is known to be right before memory is taken for it. */
static int get_tokens(struct reader *reader, struct record *record, struct history *history)
{
    size_t begin = reader->at;
    uint64_t computed = get_number(reader, 4), ids = get_number(reader, 4);
    uint64_t marks = get_number(reader, 4);
    get_number(reader, 4);
    uint64_t text = get_number(reader, 8), left = reader->size - reader->at;
    if (reader->failed || computed > ids || text > left ||
        4 * ids + 12 * marks + text + SUM_BYTES != left)
        return HEARTH_E_FORMAT;
    struct reader whole = *reader;
    get_bytes(&whole, left - SUM_BYTES);
    if (!sum_fits(&whole, begin))
        return HEARTH_E_FORMAT;
    history->ids = mem_alloc_array((size_t)ids + 1, sizeof *history->ids);
    history->marks = mem_alloc_array((size_t)marks + 1, sizeof *history->marks);
    if (!history->ids || !history->marks)
        return HEARTH_E_MEMORY;
    history->count = history->capacity = (size_t)ids;
    history->mark_count = history->mark_capacity = (size_t)marks;
    if (!get_arrays(reader, history) || (marks > 0 && history->marks[marks - 1].text > text))
        return HEARTH_E_FORMAT;
    if (!buffer_append(&history->held, get_bytes(reader, text), (size_t)text))
        return HEARTH_E_MEMORY;
    record->computed = (size_t)computed;
    return 0;
}

static void forget_tokens(struct history *history)
{
    mem_free(history->ids);
    mem_free(history->marks);
    buffer_finish(&history->held);
    history->ids = NULL;
    history->marks = NULL;
    history->count = history->capacity = history->mark_count = history->mark_capacity = 0;
}

int record_unpack(struct text bytes, const char *model, struct record *record,
                  struct history *history, struct hearth_error *err)
{
    struct reader reader = {.data = (const unsigned char *)bytes.data, .size = bytes.size};
    struct head head = {0};
    int status = get_head(&reader, &head, err);
    if (!status)
        status = history_set(history, head.messages.data, head.messages.size, err);
    if (!status && json_array_size(history->messages) != head.message_count)
        status = error_set(err, HEARTH_E_FORMAT, "the conversation is damaged");
    if (status)
        return status;
    *record = (struct record){
        .unix_seconds = head.unix_seconds,
        .settings = head.settings,
    };
    history_set_plain(history, head.settings.plain);
    if (head.dropped < head.message_count)
        history->dropped = head.dropped;
    bool ours = memcmp(head.model, model, MODEL_BYTES) == 0;
    bool alike = head.plain == history->plain; /* else beginnings were tokenized differently */
    status = ours && alike ? get_tokens(&reader, record, history) : 0;
    if (status == HEARTH_E_MEMORY)
        return error_set(err, status, "no memory to unpack a conversation");
    record->lost = !ours    ? HEARTH_MISS_MODEL
                   : !alike ? HEARTH_MISS_TEMPLATE
                   : status ? HEARTH_MISS_DAMAGED
                            : HEARTH_MISS_NOTHING;
    if (record->lost != HEARTH_MISS_NOTHING)
        forget_tokens(history);
    history->edited = head.edited && record->lost == HEARTH_MISS_NOTHING;
    return 0;
}

int record_messages(struct text bytes, struct text *messages, size_t *count,
                    struct hearth_error *err)
{
    struct reader reader = {.data = (const unsigned char *)bytes.data, .size = bytes.size};
    struct head head = {0};
    int status = get_head(&reader, &head, err);
    if (!status) {
        *messages = head.messages;
        *count = head.message_count;
    }
    return status;
}

int hearth_store_messages(struct hearth_store *store, const char *key, char **text, size_t *size,
                          struct hearth_error *err)
{
    struct buffer record;
    struct text messages;
    size_t count;
    char *copy = NULL;
    buffer_init(&record, SIZE_MAX);
    int status = store->calls->get(store, key, &record, err);
    if (!status)
        status = record_messages(buffer_text(&record), &messages, &count, err);
    if (!status) {
        copy = mem_alloc(messages.size + 1);
        if (!copy)
            status = error_set(err, HEARTH_E_MEMORY, "no memory for the messages");
    }
    if (!status) {
        memcpy(copy, messages.data, messages.size);
        copy[messages.size] = '\0';
        *text = copy;
        if (size)
            *size = messages.size;
    }
    buffer_finish(&record);
    return status;
}
