#include "echo.h"

#include <stdlib.h>

#include "session/store.h"

static bool echo_text(const struct message *message, struct buffer *out)
{
    struct message_reader reader;
    struct work_text text;
    struct work_token token, top[HEARTH_TOP_TOKENS_MAX];
    uint32_t count, seen = 0;
    if (!work_get_text_begin(message, &reader, &text))
        return false;
    size_t begin = work_text_begin(out, message->request, &text);
    while (seen < text.count && work_text_token(&reader, &token, top, &count)) {
        work_text_put_token(out, &token, top, count);
        seen++;
    }
    return work_text_end(out, begin) && seen == text.count && message_was_whole(&reader);
}

static bool echo_vectors(const struct message *message, struct message_reader *reader,
                         struct buffer *out)
{
    struct work_vectors vectors;
    bool fine = work_get_vectors(reader, &vectors);
    if (!fine)
        return false;
    float *values = malloc((size_t)vectors.count * vectors.dimensions * sizeof *values + 1);
    for (uint32_t i = 0; fine && i < vectors.count; i++)
        fine =
            work_vectors_row(reader, vectors.dimensions, values + (size_t)i * vectors.dimensions);
    fine = fine && message_was_whole(reader) &&
           work_put_vectors(out, message->request, &vectors, values);
    free(values);
    return fine;
}

/* Of the first byte of what was asked for it is told what a test means. */
static bool echo_reply(const struct message *message, struct buffer *out)
{
    enum work_type type = (enum work_type)message->type;
    struct message_reader reader;
    struct store_spill spill;
    struct text text;
    int code;
    if (!work_get_reply(message, &reader, &code, &text))
        return false;
    if (code != 0)
        return work_put_reply(out, type, message->request, code, text);
    if (type == WORK_REPLY && message->request % 2)
        return echo_vectors(message, &reader, out);
    if (message->descriptor_count) {
        bool open = type == WORK_STORE_SPILL_OPEN;
        return work_get_store_file(message, &reader, open ? &spill : NULL) &&
               work_put_store_file(out, type, message->request, open ? &spill : NULL);
    }
    text = message_get_text(&reader);
    return message_was_whole(&reader) && work_put_reply(out, type, message->request, 0, text);
}

static bool echo_ask(const struct message *message, struct buffer *out)
{
    struct work_ask ask;
    if (!work_get_ask(message, &ask))
        return false;
    bool fine = work_put_ask(out, message->request, &ask);
    work_ask_finish(&ask);
    return fine;
}

static bool echo_store(const struct message *message, struct buffer *out)
{
    char model[HEARTH_IDENTITY_SIZE], model_name[HEARTH_STORE_NAME_SIZE], string[WORK_KEY_SIZE];
    struct store_summary summary;
    struct store_spill spill;
    struct text key, record;
    uint64_t number = message->request;
    if (message->type == WORK_STORE_PUT)
        return work_get_store_record(message, &key, &record, &summary, model, model_name) &&
               work_put_store_record(out, number, key, record, &summary);
    if (message->type == WORK_STORE_SPILL_KEEP)
        return work_get_store_spill(message, &key, &spill) &&
               work_put_store_spill(out, number, key, &spill);
    return work_get_key(message, string) &&
           work_put_text(out, (enum work_type)message->type, number, text_of(string));
}

static bool echo_struct(const struct message *message, struct buffer *out)
{
    struct work_start start;
    struct work_state state;
    struct work_begin begin;
    struct work_end end;
    struct work_embed embed;
    struct work_call call;
    uint64_t a, b, number = message->request;
    switch (message->type) {
    case WORK_START:
        return work_get_start(message, &start) && work_put_start(out, &start);
    case WORK_PONG:
    case WORK_STATE:
        return work_get_state(message, &a, &state) &&
               work_put_state(out, (enum work_type)message->type, a, &state);
    case WORK_BEGIN:
        return work_get_begin(message, &begin) && work_put_begin(out, number, &begin);
    case WORK_READING:
        return work_get_reading(message, &a, &b) && work_put_reading(out, number, a, b);
    case WORK_END:
        return work_get_end(message, &end) && work_put_end(out, number, &end);
    case WORK_EMBED:
        return work_get_embed(message, &embed) && work_put_embed(out, number, &embed);
    case WORK_CALL:
        return work_get_call(message, &call) && work_put_call(out, number, &call);
    default:
        return false;
    }
}

static bool echo_field(const struct message *message, struct buffer *out)
{
    enum work_type type = (enum work_type)message->type;
    uint64_t number = message->request, u64;
    struct text text;
    uint32_t u32;
    double f64;
    switch (message->type) {
    case WORK_THREADS:
    case WORK_PAUSE:
        return work_get_u32(message, &u32) && work_put_u32(out, type, number, u32);
    case WORK_SHED:
    case WORK_PING:
    case WORK_STORE_SPILL_CREATE:
        return work_get_u64(message, &u64) && work_put_u64(out, type, number, u64);
    case WORK_LOADING:
        return work_get_f64(message, &f64) && work_put_f64(out, type, number, f64);
    case WORK_READY:
        return work_get_text(message, &text) && work_put_text(out, type, number, text);
    default:
        return message->payload.size == 0 &&
               work_put_empty(out, type, number, message->descriptor_count);
    }
}

bool echo_message(const struct message *message, struct buffer *out)
{
    /* odd numbers of the store's calls mean their answers here */
    if (message->type == WORK_REPLY || message->type == WORK_FAILED ||
        (message->type >= WORK_STORE_GET && message->request % 2))
        return echo_reply(message, out);
    switch (message->type) {
    case WORK_ASK:
        return echo_ask(message, out);
    case WORK_TEXT:
        return echo_text(message, out);
    case WORK_STORE_GET:
    case WORK_STORE_PUT:
    case WORK_STORE_REMOVE:
    case WORK_STORE_SPILL_KEEP:
    case WORK_STORE_SPILL_OPEN:
    case WORK_STORE_SPILL_DROP:
        return echo_store(message, out);
    case WORK_START:
    case WORK_PONG:
    case WORK_STATE:
    case WORK_BEGIN:
    case WORK_READING:
    case WORK_END:
    case WORK_EMBED:
    case WORK_CALL:
        return echo_struct(message, out);
    default:
        return echo_field(message, out);
    }
}
